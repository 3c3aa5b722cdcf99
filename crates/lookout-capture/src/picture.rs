//! Picture files to pixels. The content decides what a file is, never its name.

use std::fs;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{
    DynamicImage, ImageBuffer, ImageDecoder, ImageFormat, ImageReader, Limits, Rgb, RgbImage,
};
use libjpeg_turbo_rs::{
    DecodeLimits, DecodeWarning, Decoder, FrameHeader, PixelFormat, ScalingFactor,
};
use lookout_core::{Picture, PictureError};

/// What a picture may cost before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureLimits {
    /// The most pixels, width times height.
    pub max_pixels: u64,
    /// The most bytes of the encoded picture.
    pub max_bytes: u64,
    /// A short side, in pixels, that is enough for every use of the picture: a JPEG whose sides
    /// are divisible by it is decoded at a half, a quarter or an eighth of its size while its
    /// short side stays at least this long, which takes a part of the time. `None` decodes every
    /// pixel.
    pub enough_px: Option<u32>,
}

impl Default for PictureLimits {
    /// 50 million pixels and 64 MiB, every pixel decoded.
    fn default() -> Self {
        Self { max_pixels: 50_000_000, max_bytes: 64 << 20, enough_px: None }
    }
}

/// A picture cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PictureFileError {
    /// The file cannot be read.
    #[error("cannot read {name}")]
    Read {
        /// The file.
        name: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A directory stands where a file belongs.
    #[error(
        "{name} must be a regular file, got a directory; name pictures, such as {}",
        Path::new(name).join("*.jpg").display()
    )]
    Directory {
        /// The path.
        name: String,
    },
    /// A device, pipe or socket stands where a file belongs.
    #[error("{name} must be a regular file, got a device, pipe or socket")]
    NotAFile {
        /// The path.
        name: String,
    },
    /// There are no bytes.
    #[error("{name} must have at least 1 byte, got 0")]
    Empty {
        /// The file.
        name: String,
    },
    /// More bytes than [`PictureLimits::max_bytes`].
    #[error("{name} may have at most {limit} bytes, got {got}")]
    TooManyBytes {
        /// The file.
        name: String,
        /// The most bytes.
        limit: u64,
        /// Its bytes.
        got: u64,
    },
    /// More pixels than [`PictureLimits::max_pixels`].
    #[error("{name} may have at most {limit} pixels, got {width_px}x{height_px}")]
    TooManyPixels {
        /// The file.
        name: String,
        /// The most pixels.
        limit: u64,
        /// Width of the picture.
        width_px: u32,
        /// Height of the picture.
        height_px: u32,
    },
    /// The content is none of the formats read here.
    #[error("{name} must be a JPEG, PNG, WebP, BMP or GIF picture, got {got}")]
    UnknownFormat {
        /// The file.
        name: String,
        /// What it seems to be, or its first bytes.
        got: String,
    },
    /// The picture ends before its last pixel.
    #[error("{name} must be a whole {format} picture, got one cut off after {got} bytes")]
    Truncated {
        /// The file.
        name: String,
        /// Its format.
        format: &'static str,
        /// Its bytes.
        got: u64,
    },
    /// The decoder refuses it.
    #[error("{name} must be a valid {format} picture")]
    Decode {
        /// The file.
        name: String,
        /// Its format.
        format: &'static str,
        /// The decoder's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A side is zero.
    #[error("{name} has no pixels")]
    NoPixels {
        /// The file.
        name: String,
        /// Its size.
        source: PictureError,
    },
}

/// Reads and decodes the picture at `path`; see [`decode_picture`].
pub fn read_picture(path: &Path, limits: &PictureLimits) -> Result<Picture, PictureFileError> {
    let name = path.display().to_string();
    let read_error = |source| PictureFileError::Read { name: name.clone(), source };
    // Looked at before it is opened, because opening a pipe waits for a writer.
    let metadata = fs::metadata(path).map_err(read_error)?;
    if !metadata.is_file() {
        return Err(match metadata.is_dir() {
            true => PictureFileError::Directory { name },
            false => PictureFileError::NotAFile { name },
        });
    }
    check_size(&name, metadata.len(), limits)?;
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(limits.max_bytes.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(read_error)?;
    decode_picture(&bytes, &name, limits)
}

/// Decodes a JPEG, PNG, WebP, BMP or GIF picture (the first frame of a moving one) to RGB.
///
/// The orientation in the picture's EXIF data is applied. Transparency is dropped, not blended;
/// gray becomes three equal channels. `limits` are checked before pixels are allocated, and say
/// whether a JPEG may be decoded at a reduced size. `name`
/// is for the error only.
pub fn decode_picture(
    bytes: &[u8],
    name: &str,
    limits: &PictureLimits,
) -> Result<Picture, PictureFileError> {
    check_size(name, bytes.len() as u64, limits)?;
    let format = image::guess_format(bytes).ok();
    let Some((format, format_name)) = format.and_then(|it| Some((it, format_name(it)?))) else {
        let got = match format {
            Some(format) => format!("{format:?}"),
            None => format!("first bytes {:02x?}", &bytes[..bytes.len().min(8)]),
        };
        return Err(PictureFileError::UnknownFormat { name: name.to_owned(), got });
    };
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        let (name, got) = (name.to_owned(), bytes.len() as u64);
        return Err(PictureFileError::Truncated { name, format: format_name, got });
    }
    // Decoders can panic on hostile bytes. They own all that they change, so nothing of it
    // outlives the panic.
    let decoded = catch_unwind(AssertUnwindSafe(|| match format {
        ImageFormat::Jpeg => decode_jpeg(bytes, limits),
        _ => decode_other(bytes, format, limits),
    }))
    .unwrap_or_else(|_| Err(Failure::Decoder("the decoder panicked".into())));
    let rgb = decoded.map_err(|failure| match failure {
        Failure::Pixels { width_px, height_px } => PictureFileError::TooManyPixels {
            name: name.to_owned(),
            limit: limits.max_pixels,
            width_px,
            height_px,
        },
        Failure::Decoder(source) => {
            PictureFileError::Decode { name: name.to_owned(), format: format_name, source }
        }
    })?;
    Picture::new(rgb.width(), rgb.height(), rgb.into_raw())
        .map_err(|source| PictureFileError::NoPixels { name: name.to_owned(), source })
}

/// A small JPEG of `picture`, its longer side at most `max_px`, for people to look at.
pub fn thumbnail(picture: &Picture, max_px: u32) -> Result<Vec<u8>, ThumbnailError> {
    const QUALITY: u8 = 70;
    let (width, height) = (picture.width_px(), picture.height_px());
    let full: ImageBuffer<Rgb<u8>, &[u8]> = ImageBuffer::from_raw(width, height, picture.rgb())
        .ok_or(ThumbnailError::Size { width_px: width, height_px: height })?;
    let longer = width.max(height).max(1);
    let scaled = |side: u32| {
        let side = u64::from(side) * u64::from(max_px.min(longer)) / u64::from(longer);
        u32::try_from(side).unwrap_or(max_px).max(1)
    };
    let small = image::imageops::thumbnail(&full, scaled(width), scaled(height));
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .encode_image(&small)
        .map_err(ThumbnailError::Encode)?;
    Ok(bytes)
}

/// A picture cannot be made small.
#[derive(Debug, thiserror::Error)]
pub enum ThumbnailError {
    /// It has more pixels than can be addressed.
    #[error("a picture of {width_px}x{height_px} px is too large to be made small")]
    Size {
        /// Its width.
        width_px: u32,
        /// Its height.
        height_px: u32,
    },
    /// The encoder refuses it.
    #[error("a small picture cannot be encoded")]
    Encode(#[source] image::ImageError),
}

enum Failure {
    Pixels { width_px: u32, height_px: u32 },
    Decoder(Box<dyn std::error::Error + Send + Sync>),
}

impl From<image::ImageError> for Failure {
    fn from(err: image::ImageError) -> Self {
        Self::Decoder(err.into())
    }
}

impl From<libjpeg_turbo_rs::JpegError> for Failure {
    fn from(err: libjpeg_turbo_rs::JpegError) -> Self {
        Self::Decoder(err.into())
    }
}

impl Failure {
    fn check_pixels(width_px: u32, height_px: u32, limits: &PictureLimits) -> Result<(), Self> {
        if limits.max_pixels < u64::from(width_px) * u64::from(height_px) {
            return Err(Self::Pixels { width_px, height_px });
        }
        Ok(())
    }
}

/// What a decoder may allocate, in bytes: room for any pixel twice and for small pictures' tables.
fn max_alloc(limits: &PictureLimits) -> u64 {
    limits.max_pixels.saturating_mul(16).saturating_add(16 << 20)
}

/// Not through `image`, whose decoder rounds otherwise: every reference a model was trained and
/// measured with decodes as libjpeg does, and small pictures show the difference.
fn decode_jpeg(bytes: &[u8], limits: &PictureLimits) -> Result<RgbImage, Failure> {
    let decode_limits = DecodeLimits {
        // Every scan is a pass over the whole picture, and costs a few bytes.
        max_scans: 500,
        max_memory: Some(max_alloc(limits)),
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::new_with_limits(bytes, decode_limits)?;
    let header = decoder.header();
    Failure::check_pixels(u32::from(header.width), u32::from(header.height), limits)?;
    if let Some(scale) = limits.enough_px.and_then(|it| jpeg_scale(header, it)) {
        decoder.set_scale(scale);
    }
    let orientation = decoder.exif_orientation().and_then(Orientation::from_exif);
    decoder.set_output_format(PixelFormat::Rgb);
    let decoded = decoder.decode_image()?;
    let harmless = |it: &DecodeWarning| matches!(it, DecodeWarning::ExtraneousData { .. });
    if let Some(warning) = decoded.warnings.iter().find(|it| !harmless(it)) {
        return Err(Failure::Decoder(warning.to_string().into()));
    }
    let [width, height] = [decoded.width, decoded.height].map(u32::try_from);
    let rgb = match (width, height) {
        (Ok(width), Ok(height)) => RgbImage::from_raw(width, height, decoded.data),
        _ => None,
    };
    let rgb = rgb.ok_or_else(|| Failure::Decoder("the decoder gave too few pixels".into()))?;
    let mut image = DynamicImage::from(rgb);
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(image.into_rgb8())
}

/// The smallest scale below 1 that leaves a short side of at least `enough_px`. Both sides must be
/// divisible by it: a side that is rounded up changes the aspect, and with it the pixels that a
/// crop keeps.
fn jpeg_scale(header: &FrameHeader, enough_px: u32) -> Option<ScalingFactor> {
    let [width_px, height_px] = [header.width, header.height].map(u32::from);
    let fits = |it: &u32| {
        let divides = width_px.is_multiple_of(*it) && height_px.is_multiple_of(*it);
        divides && enough_px <= width_px.min(height_px) / it
    };
    ScalingFactor::try_new(1, [8, 4, 2].into_iter().find(fits)?).ok()
}

fn decode_other(
    bytes: &[u8],
    format: ImageFormat,
    limits: &PictureLimits,
) -> Result<RgbImage, Failure> {
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder()?;
    let (width_px, height_px) = decoder.dimensions();
    Failure::check_pixels(width_px, height_px, limits)?;
    let mut decoder_limits = Limits::no_limits();
    decoder_limits.max_alloc = Some(max_alloc(limits));
    decoder.set_limits(decoder_limits)?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

fn check_size(name: &str, got: u64, limits: &PictureLimits) -> Result<(), PictureFileError> {
    let name = || name.to_owned();
    if got == 0 {
        return Err(PictureFileError::Empty { name: name() });
    }
    if limits.max_bytes < got {
        let limit = limits.max_bytes;
        return Err(PictureFileError::TooManyBytes { name: name(), limit, got });
    }
    Ok(())
}

fn format_name(format: ImageFormat) -> Option<&'static str> {
    match format {
        ImageFormat::Jpeg => Some("JPEG"),
        ImageFormat::Png => Some("PNG"),
        ImageFormat::WebP => Some("WebP"),
        ImageFormat::Bmp => Some("BMP"),
        ImageFormat::Gif => Some("GIF"),
        _ => None,
    }
}

/// Whether the end-of-image marker is reached. JPEG decoders fill what is missing with gray
/// instead of failing. A thumbnail's own marker does not count: it lies inside a segment.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const START_OF_IMAGE: u8 = 0xd8;
    const END_OF_IMAGE: u8 = 0xd9;
    let mut pos = 0;
    loop {
        // Everything up to a marker is entropy-coded data or padding.
        let Some(offset) = bytes.get(pos..).and_then(|it| it.iter().position(|it| *it == 0xff))
        else {
            return false;
        };
        pos += offset + 1;
        match bytes.get(pos).copied() {
            None => return false,
            Some(0xff) => {}
            Some(END_OF_IMAGE) => return true,
            // A stuffed byte, a marker without content, a restart.
            Some(0x00 | 0x01 | 0xd0..=0xd7 | START_OF_IMAGE) => pos += 1,
            Some(_) => {
                let Some(length) = bytes.get(pos + 1..pos + 3) else {
                    return false;
                };
                pos += 1 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::png::PngEncoder;
    use image::{ExtendedColorType, ImageEncoder, Rgb};

    /// A picture with detail everywhere, encoded.
    fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        #[expect(clippy::cast_possible_truncation, reason = "any byte will do")]
        let pixel = |x: u32, y: u32| Rgb([(x * 7) as u8, (y * 5) as u8, (x * y) as u8]);
        let mut bytes = Cursor::new(Vec::new());
        let picture = DynamicImage::from(RgbImage::from_fn(width, height, pixel));
        if format == ImageFormat::Jpeg {
            return libjpeg_turbo_rs::compress(
                picture.as_bytes(),
                width as usize,
                height as usize,
                PixelFormat::Rgb,
                90,
                libjpeg_turbo_rs::Subsampling::S420,
            )
            .unwrap();
        }
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    const FORMATS: [ImageFormat; 5] = [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
        ImageFormat::Gif,
    ];

    fn decode(bytes: &[u8]) -> Result<Picture, PictureFileError> {
        decode_picture(bytes, "x.jpg", &PictureLimits::default())
    }

    #[test]
    fn content_decides_not_the_name() {
        for format in FORMATS {
            let picture = decode(&encoded(33, 21, format)).unwrap();
            assert_eq!((picture.width_px(), picture.height_px()), (33, 21), "{format:?}");
        }
    }

    #[test]
    fn a_part_of_a_picture_is_an_error() {
        for format in FORMATS {
            let whole = encoded(64, 64, format);
            for eighths in 0..8 {
                let part = &whole[..whole.len() * eighths / 8];
                let err = decode(part).map(|_| format!("{format:?} {eighths}/8")).unwrap_err();
                assert!(err.to_string().starts_with("x.jpg "), "{err}");
            }
        }
        // All data but the marker that says so.
        let whole = encoded(64, 64, ImageFormat::Jpeg);
        let err = decode(&whole[..whole.len() - 1]).unwrap_err();
        assert!(matches!(err, PictureFileError::Truncated { .. }), "{err}");
        // What follows a picture does no harm.
        assert!(decode(&[&whole[..], &[0; 100]].concat()).is_ok());
    }

    #[test]
    fn a_hole_in_a_jpeg_is_an_error() {
        let whole = encoded(256, 256, ImageFormat::Jpeg);
        let middle = whole.len() / 2;
        let holed = [&whole[..middle], &[0xff, 0xd9]].concat();
        let err = decode(&holed).unwrap_err();
        assert!(matches!(err, PictureFileError::Decode { .. }), "{err}");
    }

    #[test]
    fn limits_hold_before_pixels_exist() {
        let limits = PictureLimits { max_pixels: 63, max_bytes: 100_000, enough_px: None };
        for format in FORMATS {
            let err = decode_picture(&encoded(8, 8, format), "p", &limits).unwrap_err();
            assert_eq!(err.to_string(), "p may have at most 63 pixels, got 8x8", "{format:?}");
        }
        // A header alone claims 65535x65535.
        let mut bomb = encoded(8, 8, ImageFormat::Jpeg);
        let frame = bomb.windows(2).position(|it| it == [0xff, 0xc0]).unwrap();
        bomb[frame + 5..frame + 9].fill(0xff);
        assert!(decode(&bomb).is_err());
        let limits = PictureLimits { max_pixels: 100, max_bytes: 10, enough_px: None };
        let err = decode_picture(&[0; 11], "p", &limits).unwrap_err();
        assert_eq!(err.to_string(), "p may have at most 10 bytes, got 11");
    }

    #[test]
    fn what_is_no_picture_is_named() {
        let err = decode(b"%PDF-1.7 and so on").unwrap_err().to_string();
        assert!(err.contains("must be a JPEG, PNG, WebP, BMP or GIF picture, got"), "{err}");
        let err = decode(b"II*\0 a TIFF header").unwrap_err().to_string();
        assert!(err.ends_with("got Tiff"), "{err}");
        assert_eq!(decode(b"").unwrap_err().to_string(), "x.jpg must have at least 1 byte, got 0");
    }

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let limits = PictureLimits::default();
        let read = |path: &Path| read_picture(path, &limits).unwrap_err().to_string();
        let told = read(dir.path());
        assert!(told.contains("got a directory; name pictures, such as /"), "{told}");
        assert!(told.ends_with("/*.jpg"), "{told}");
        assert!(read(Path::new("/dev/zero")).contains("got a device"));
        assert!(read(&dir.path().join("none.png")).starts_with("cannot read "));
        let path = dir.path().join("a.txt");
        fs::write(&path, encoded(3, 2, ImageFormat::Png)).unwrap();
        assert_eq!(read_picture(&path, &limits).unwrap().rgb().len(), 18);
        let limits = PictureLimits { max_bytes: 5, ..limits };
        let err = read_picture(&path, &limits).unwrap_err().to_string();
        // Its whole size, which no byte was read for.
        let size = fs::metadata(&path).unwrap().len();
        assert!(err.ends_with(&format!("may have at most 5 bytes, got {size}")), "{err}");
    }

    #[test]
    fn the_orientation_in_a_picture_is_applied() {
        // Little-endian, one entry: orientation 6, a quarter turn.
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let jpeg = encoded(3, 2, ImageFormat::Jpeg);
        let length = u16::try_from(exif.len() + 8).unwrap().to_be_bytes();
        let jpeg = [&jpeg[..2], &[0xff, 0xe1], &length, b"Exif\0\0", exif, &jpeg[2..]].concat();
        let mut png = Vec::new();
        let mut encoder = PngEncoder::new(&mut png);
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        encoder.write_image(&[0; 18], 3, 2, ExtendedColorType::Rgb8).unwrap();
        for bytes in [jpeg, png] {
            let picture = decode(&bytes).unwrap();
            assert_eq!((picture.width_px(), picture.height_px()), (2, 3));
        }
    }

    #[test]
    fn a_large_jpeg_is_decoded_no_larger_than_needed() {
        let size = |width, height, format, enough_px| {
            let bytes = encoded(width, height, format);
            let limits = PictureLimits { enough_px, ..PictureLimits::default() };
            let picture = decode_picture(&bytes, "p", &limits).unwrap();
            (picture.width_px(), picture.height_px())
        };
        let jpeg = |width, height, enough_px| size(width, height, ImageFormat::Jpeg, enough_px);
        assert_eq!(jpeg(64, 48, None), (64, 48));
        // Never below what is enough.
        for (enough_px, expected) in [
            (6, (8, 6)),
            (7, (16, 12)),
            (12, (16, 12)),
            (13, (32, 24)),
            (24, (32, 24)),
            (25, (64, 48)),
            (1000, (64, 48)),
        ] {
            assert_eq!(jpeg(64, 48, Some(enough_px)), expected, "{enough_px}");
        }
        assert_eq!(jpeg(48, 64, Some(12)), (12, 16));
        // The aspect is kept exactly.
        assert_eq!(jpeg(68, 48, Some(6)), (17, 12));
        assert_eq!(jpeg(65, 48, Some(6)), (65, 48));
        for format in FORMATS.into_iter().filter(|it| *it != ImageFormat::Jpeg) {
            assert_eq!(size(64, 48, format, Some(6)), (64, 48), "{format:?}");
        }
    }

    #[test]
    fn limits_hold_for_the_whole_of_a_picture_that_is_decoded_smaller() {
        let bytes = encoded(64, 48, ImageFormat::Jpeg);
        let limits = PictureLimits { max_pixels: 3000, max_bytes: 100_000, enough_px: Some(6) };
        let error = decode_picture(&bytes, "p", &limits).unwrap_err().to_string();
        assert!(error.ends_with("may have at most 3000 pixels, got 64x48"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            enough_px in proptest::option::of(0u32..12),
            format in 0usize..5,
            changes in proptest::collection::vec((0usize..4000, 0u8..), 0..20),
        ) {
            let mut bytes = encoded(20, 20, FORMATS[format]);
            for (at, value) in changes {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            let limits = PictureLimits { max_pixels: 10_000, max_bytes: 100_000, enough_px };
            if let Ok(picture) = decode_picture(&bytes, "p", &limits) {
                proptest::prop_assert!(picture.rgb().len() <= 30_000);
            }
        }
    }
}
