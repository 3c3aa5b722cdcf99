//! YUYV 4:2:2 to RGB.

use lookout_core::{Picture, PictureError};

/// Converts `bytes`, four for each two pixels, by BT.601 in limited range, the default of V4L2
/// for this format.
pub(crate) fn decode(width_px: u32, height_px: u32, bytes: &[u8]) -> Result<Picture, PictureError> {
    let mut rgb = Vec::with_capacity(bytes.len() / 2 * 3);
    for &[y0, u, y1, v] in bytes.as_chunks().0 {
        rgb.extend_from_slice(&pixel(y0, u, v));
        rgb.extend_from_slice(&pixel(y1, u, v));
    }
    Picture::new(width_px, height_px, rgb)
}

/// The factors are those of BT.601 in 16-bit fixed point: 255/219 for luma, 255/224 times
/// 2(1 − Kr) and so on for chroma, Kr = 0.299, Kb = 0.114.
fn pixel(y: u8, u: u8, v: u8) -> [u8; 3] {
    let luma = 76_309 * (i32::from(y) - 16) + (1 << 15);
    let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
    let channel = |it: i32| u8::try_from((it >> 16).clamp(0, 255)).unwrap_or(u8::MAX);
    [
        channel(luma + 104_597 * v),
        channel(luma - 25_675 * u - 53_279 * v),
        channel(luma + 132_201 * u),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BT.601 in limited range, from its definition.
    fn reference(y: u8, u: u8, v: u8) -> [f64; 3] {
        let (kr, kb) = (0.299, 0.114);
        let y = (f64::from(y) - 16.0) / 219.0;
        let (pb, pr) = ((f64::from(u) - 128.0) / 224.0, (f64::from(v) - 128.0) / 224.0);
        let r = y + 2.0 * (1.0 - kr) * pr;
        let b = y + 2.0 * (1.0 - kb) * pb;
        let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
        [r, g, b].map(|it| (it * 255.0).clamp(0.0, 255.0))
    }

    #[test]
    fn agrees_with_the_definition() {
        for (y, u) in (0..=u8::MAX).step_by(5).flat_map(|y| (0..=u8::MAX).map(move |u| (y, u))) {
            for v in (0..=u8::MAX).step_by(3) {
                for (got, exact) in pixel(y, u, v).into_iter().zip(reference(y, u, v)) {
                    assert!((f64::from(got) - exact).abs() <= 0.51, "{y} {u} {v}: {got} {exact}");
                }
            }
        }
    }

    #[test]
    fn two_pixels_share_their_chroma() {
        let picture = decode(2, 1, &[235, 128, 16, 128]).unwrap();
        assert_eq!(picture.rgb(), [255, 255, 255, 0, 0, 0]);
        assert!(decode(2, 2, &[0; 4]).is_err());
    }
}
