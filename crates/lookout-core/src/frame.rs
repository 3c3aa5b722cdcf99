//! Decoded pictures and camera frames.

use std::time::Duration;

/// A decoded picture: 8-bit RGB, row by row from the top left, no padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width_px: u32,
    height_px: u32,
    rgb: Vec<u8>,
}

/// The bytes given are not a picture of that size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// A side is zero.
    #[error("picture is {width_px}x{height_px} px; both sides must be at least 1 px")]
    Empty {
        /// Width given.
        width_px: u32,
        /// Height given.
        height_px: u32,
    },
    /// `rgb` has not three bytes a pixel.
    #[error("picture of {width_px}x{height_px} px needs {expected} bytes of RGB, got {got}")]
    WrongLength {
        /// Width given.
        width_px: u32,
        /// Height given.
        height_px: u32,
        /// Three bytes for each pixel.
        expected: u64,
        /// Bytes given.
        got: usize,
    },
}

impl Picture {
    /// Takes `rgb`, three bytes a pixel.
    pub fn new(width_px: u32, height_px: u32, rgb: Vec<u8>) -> Result<Self, PictureError> {
        if width_px == 0 || height_px == 0 {
            return Err(PictureError::Empty { width_px, height_px });
        }
        let expected = (u64::from(width_px) * u64::from(height_px)).saturating_mul(3);
        if expected != rgb.len() as u64 {
            let got = rgb.len();
            return Err(PictureError::WrongLength { width_px, height_px, expected, got });
        }
        Ok(Self { width_px, height_px, rgb })
    }

    /// Width in pixels, at least 1.
    pub fn width_px(&self) -> u32 {
        self.width_px
    }

    /// Height in pixels, at least 1.
    pub fn height_px(&self) -> u32 {
        self.height_px
    }

    /// Three bytes a pixel, row by row from the top left.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}x{})", self.width_px, self.height_px)
    }
}

/// A picture taken by a camera.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What was seen.
    pub picture: Picture,
    /// When it was captured, on the monotonic clock.
    pub captured_at: Duration,
    /// The file it came from, where the camera is a folder or a file.
    pub name: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_three_bytes_a_pixel() {
        assert!(Picture::new(2, 1, vec![0; 6]).is_ok());
        assert!(matches!(
            Picture::new(2, 1, vec![0; 5]),
            Err(PictureError::WrongLength { expected: 6, got: 5, .. })
        ));
        assert!(matches!(Picture::new(0, 1, vec![]), Err(PictureError::Empty { .. })));
        assert!(Picture::new(u32::MAX, u32::MAX, vec![]).is_err());
    }
}
