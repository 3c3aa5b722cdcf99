//! A picture to the values of the image tower's input. Pure, and part of the model: a change
//! here changes every embedding.

use std::ops::Range;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use lookout_core::Picture;

use crate::EncoderError;

/// Order of the image tower's input values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Channel by channel.
    Nchw,
    /// Pixel by pixel.
    Nhwc,
}

/// How a fraction becomes a whole number of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Down.
    Floor,
    /// To the nearest; the even one of two equally near.
    HalfEven,
}

/// What the weights of a resized pixel's neighbors follow. Each is widened when it shrinks, and
/// rounds to 8 bits between columns and rows, as Pillow does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A triangle, one pixel to each side.
    Bilinear,
    /// Cubic with a = -0.5, two pixels to each side.
    Bicubic,
    /// A windowed sinc, three pixels to each side.
    Lanczos,
}

/// How a picture gets the size of the model's square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// The short side to `short_side_px`, aspect kept, then the square in the middle.
    ShortSide {
        /// The short side after resizing, in pixels; at least [`ImageRule::size_px`].
        short_side_px: u32,
        /// What makes the long side whole.
        long_side: Rounding,
        /// What makes the offset of the crop whole.
        crop: Rounding,
    },
    /// Width and height to the square's side each, whatever becomes of the aspect.
    Exact,
}

/// How a picture becomes the image tower's input: resized to the square of `size_px`, then
/// (value − mean) / std.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRule {
    /// Side of the square, in pixels.
    pub size_px: u32,
    /// What is resized, and what of it is kept.
    pub resize: Resize,
    /// How pixels are interpolated.
    pub filter: Filter,
    /// Subtracted from each 8-bit value, per channel (R, G, B).
    pub mean: [f32; 3],
    /// Divides what is left, per channel; above 0.
    pub std: [f32; 3],
    /// Order of the values.
    pub layout: Layout,
}

impl ImageRule {
    /// A short side, in pixels, beyond which a decoder may reduce a larger picture: three times
    /// what it is resized to. The models' README has the measurement.
    pub fn enough_px(&self) -> u32 {
        let short_px = match self.resize {
            Resize::ShortSide { short_side_px, .. } => short_side_px,
            Resize::Exact => self.size_px,
        };
        short_px.saturating_mul(3)
    }
}

/// The values of the image tower's input for `picture`: 3 · `size_px`² of them.
pub fn preprocess(picture: &Picture, rule: &ImageRule) -> Result<Vec<f32>, EncoderError> {
    let rgb = resize_and_crop(picture, rule)?;
    let value =
        |channel: usize, byte: u8| (f32::from(byte) - rule.mean[channel]) / rule.std[channel];
    let channel =
        |channel: usize| rgb.iter().skip(channel).step_by(3).map(move |byte| value(channel, *byte));
    Ok(match rule.layout {
        Layout::Nchw => (0..3).flat_map(channel).collect(),
        Layout::Nhwc => rgb.iter().enumerate().map(|(i, byte)| value(i % 3, *byte)).collect(),
    })
}

/// The square that the image tower sees, as 8-bit RGB, row by row.
///
/// Equals resizing the whole picture and cropping after, without making the pixels that the crop
/// drops: a picture of extreme aspect costs no more than another. As in Pillow, columns are
/// interpolated first and rounded to 8 bits, then rows.
pub fn resize_and_crop(picture: &Picture, rule: &ImageRule) -> Result<Vec<u8>, EncoderError> {
    let (width_px, height_px) = (picture.width_px(), picture.height_px());
    let [horizontal, vertical] =
        [width_px, height_px].map(|side_px| Span::of(side_px, width_px.min(height_px), rule));
    resize(picture, &horizontal, &vertical, rule).map_err(|source| EncoderError::Resize {
        width_px,
        height_px,
        source,
    })
}

/// The part of one side, in source pixels, that the crop keeps.
struct Span {
    start: f64,
    length: f64,
}

impl Span {
    fn of(side_px: u32, short_px: u32, rule: &ImageRule) -> Self {
        let [side, short, size] = [side_px, short_px, rule.size_px].map(f64::from);
        let Resize::ShortSide { short_side_px, long_side, crop } = rule.resize else {
            return Self { start: 0.0, length: side };
        };
        let wanted = f64::from(short_side_px);
        // Each product in the order of its reference, whose last bit can decide.
        let resized = match long_side {
            Rounding::Floor => (side * wanted / short).floor(),
            Rounding::HalfEven => (side * (wanted / short)).round_ties_even(),
        };
        let resized = resized.max(size);
        let offset = (resized - size) / 2.0;
        let offset = match crop {
            Rounding::Floor => offset.floor(),
            Rounding::HalfEven => offset.round_ties_even(),
        };
        let step = side / resized;
        Self { start: offset * step, length: size * step }
    }

    /// The pixels that `filter` looks at to make `size_px` of this span, of `side_px` that
    /// there are. It reaches a number of steps, and of pixels at least, to each side.
    fn rows(&self, size_px: u32, side_px: u32, filter: Filter) -> Range<u32> {
        let support = match filter {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        };
        let reach = support * (self.length / f64::from(size_px)).max(1.0) + 1.0;
        // The casts saturate, and both ends lie within the side.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
        let pixel = |position: f64| (position as u32).min(side_px);
        pixel((self.start - reach).floor())..pixel((self.start + self.length + reach).ceil())
    }
}

fn resize(
    picture: &Picture,
    horizontal: &Span,
    vertical: &Span,
    rule: &ImageRule,
) -> Result<Vec<u8>, crate::BoxError> {
    let (width_px, size_px) = (picture.width_px(), rule.size_px);
    let rows = vertical.rows(size_px, picture.height_px(), rule.filter);
    let row_bytes = width_px as usize * 3;
    let bytes = rows.start as usize * row_bytes..rows.end as usize * row_bytes;
    let height_px = rows.end - rows.start;
    let source = ImageRef::new(width_px, height_px, &picture.rgb()[bytes], PixelType::U8x3)?;
    let mut columns = Image::new(size_px, height_px, PixelType::U8x3);
    let mut square = Image::new(size_px, size_px, PixelType::U8x3);
    let filter = match rule.filter {
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Lanczos => FilterType::Lanczos3,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    let mut resizer = Resizer::new();
    let crop = options.crop(horizontal.start, 0.0, horizontal.length, f64::from(height_px));
    resizer.resize(&source, &mut columns, &crop)?;
    let start = vertical.start - f64::from(rows.start);
    let crop = options.crop(0.0, start, f64::from(size_px), vertical.length);
    resizer.resize(&columns, &mut square, &crop)?;
    Ok(square.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(size_px: u32, short_side_px: u32, layout: Layout) -> ImageRule {
        let (long_side, crop) = (Rounding::HalfEven, Rounding::Floor);
        let resize = Resize::ShortSide { short_side_px, long_side, crop };
        let (mean, std) = ([1.0, 2.0, 3.0], [2.0, 4.0, 5.0]);
        ImageRule { size_px, resize, filter: Filter::Bicubic, mean, std, layout }
    }

    #[test]
    fn values_are_normalized_per_channel_in_the_order_of_the_layout() {
        let picture = Picture::new(2, 1, vec![3, 6, 8, 5, 10, 13]).unwrap();
        let square = Picture::new(2, 2, picture.rgb().repeat(2)).unwrap();
        let values = |layout| preprocess(&square, &rule(2, 2, layout)).unwrap();
        assert_eq!(
            values(Layout::Nchw),
            [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]
        );
        assert_eq!(
            values(Layout::Nhwc),
            [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
        );
    }

    #[test]
    fn a_tall_picture_is_a_wide_one_turned() {
        // Only the rows near the crop are looked at; of columns all are.
        let (short, long) = (37u32, 901u32);
        let gray = |x: u32, y: u32| ((x * x * 7 + y * y * 3 + x * y) % 251) as u8;
        let make = |width: u32, height: u32, at: &dyn Fn(u32, u32) -> u8| {
            let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
            let rgb = pixels.flat_map(|(x, y)| [at(x, y); 3]).collect();
            let rule = rule(16, 20, Layout::Nhwc);
            resize_and_crop(&Picture::new(width, height, rgb).unwrap(), &rule).unwrap()
        };
        let tall = make(short, long, &gray);
        let wide = make(long, short, &|x, y| gray(y, x));
        for (y, x) in (0..16).flat_map(|y| (0..16).map(move |x| (y, x))) {
            let (a, b) = (tall[(y * 16 + x) * 3], wide[(x * 16 + y) * 3]);
            assert!(a.abs_diff(b) <= 2, "at {x}, {y}: {a} and {b}");
        }
    }

    #[test]
    fn the_crop_is_the_middle_with_its_offset_rounded_down() {
        // 5 columns of distinct gray, 2 rows: no resizing, columns 1 and 2 remain.
        let row: Vec<u8> = (0..5u8).flat_map(|it| [it * 10; 3]).collect();
        let picture = Picture::new(5, 2, row.repeat(2)).unwrap();
        let square = resize_and_crop(&picture, &rule(2, 2, Layout::Nhwc)).unwrap();
        assert_eq!(square, [10, 10, 10, 20, 20, 20, 10, 10, 10, 20, 20, 20]);
    }

    #[test]
    fn the_long_side_is_rounded_half_to_even() {
        // 5 px at half size are 2.5, so 2, and 7 px are 3.5, so 4.
        for (side_px, resized) in [(5u32, 2.0), (7, 4.0), (6, 3.0), (1, 1.0)] {
            let span = Span::of(side_px, 2, &rule(1, 1, Layout::Nhwc));
            let step = f64::from(side_px) / resized;
            assert!((span.length - step).abs() < 1e-12, "{side_px}");
            assert!((span.start - ((resized - 1.0) / 2.0f64).floor() * step).abs() < 1e-12);
        }
    }
}
