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

/// How a picture becomes the image tower's input: the short side to `short_side_px` (bicubic,
/// aspect kept), the square of `size_px` in the middle, then (value − mean) / std.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRule {
    /// Side of the square, in pixels.
    pub size_px: u32,
    /// The short side after resizing, in pixels; at least `size_px`.
    pub short_side_px: u32,
    /// Subtracted from each 8-bit value, per channel (R, G, B).
    pub mean: [f32; 3],
    /// Divides what is left, per channel; above 0.
    pub std: [f32; 3],
    /// Order of the values.
    pub layout: Layout,
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
    resize(picture, &horizontal, &vertical, rule.size_px).map_err(|source| EncoderError::Resize {
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
        let scale = f64::from(rule.short_side_px) / f64::from(short_px);
        let resized = (f64::from(side_px) * scale).round_ties_even().max(f64::from(rule.size_px));
        let offset = ((resized - f64::from(rule.size_px)) / 2.0).floor();
        let step = f64::from(side_px) / resized;
        Self { start: offset * step, length: f64::from(rule.size_px) * step }
    }

    /// The pixels that the filter looks at to make `size_px` of this span, of `side_px` that
    /// there are. A bicubic filter reaches two steps, and two pixels at least, to each side.
    fn rows(&self, size_px: u32, side_px: u32) -> Range<u32> {
        let reach = 2.0 * (self.length / f64::from(size_px)).max(1.0) + 1.0;
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
    size_px: u32,
) -> Result<Vec<u8>, crate::BoxError> {
    let width_px = picture.width_px();
    let rows = vertical.rows(size_px, picture.height_px());
    let row_bytes = width_px as usize * 3;
    let bytes = rows.start as usize * row_bytes..rows.end as usize * row_bytes;
    let height_px = rows.end - rows.start;
    let source = ImageRef::new(width_px, height_px, &picture.rgb()[bytes], PixelType::U8x3)?;
    let mut columns = Image::new(size_px, height_px, PixelType::U8x3);
    let mut square = Image::new(size_px, size_px, PixelType::U8x3);
    let bicubic = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    let mut resizer = Resizer::new();
    let crop = bicubic.crop(horizontal.start, 0.0, horizontal.length, f64::from(height_px));
    resizer.resize(&source, &mut columns, &crop)?;
    let start = vertical.start - f64::from(rows.start);
    let crop = bicubic.crop(0.0, start, f64::from(size_px), vertical.length);
    resizer.resize(&columns, &mut square, &crop)?;
    Ok(square.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(size_px: u32, short_side_px: u32, layout: Layout) -> ImageRule {
        ImageRule { size_px, short_side_px, mean: [1.0, 2.0, 3.0], std: [2.0, 4.0, 5.0], layout }
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
