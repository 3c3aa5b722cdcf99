//! What the worker writes to its standard output and the parent reads: a header and the camera's
//! own bytes, for each frame.
//!
//! The header is five little-endian 32-bit words: `LKF1`, format, width in pixels, height in
//! pixels, and the number of bytes that follow.

use std::io::{self, Read, Write};

use crate::PictureLimits;
use crate::worker::StreamFormat;

const MAGIC: [u8; 4] = *b"LKF1";
const HEADER_LEN: usize = 20;

/// A frame as the camera sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawFrame {
    pub(crate) format: StreamFormat,
    pub(crate) width_px: u32,
    pub(crate) height_px: u32,
    pub(crate) bytes: Vec<u8>,
}

/// Why no frame can be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The writer has ended, perhaps within a frame.
    Ended,
    /// What it wrote is no frame.
    Rubbish(io::Error),
}

fn code(format: StreamFormat) -> u32 {
    match format {
        StreamFormat::Mjpeg => 1,
        StreamFormat::Yuyv => 2,
    }
}

/// Writes one frame. `bytes` must be shorter than 4 GiB.
pub(crate) fn write_frame(
    out: &mut impl Write,
    format: StreamFormat,
    width_px: u32,
    height_px: u32,
    bytes: &[u8],
) -> io::Result<()> {
    let n_bytes = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut header = [0; HEADER_LEN];
    header[..4].copy_from_slice(&MAGIC);
    let words = [code(format), width_px, height_px, n_bytes];
    for (place, word) in header[4..].chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    out.write_all(&header)?;
    out.write_all(bytes)?;
    out.flush()
}

/// Reads one frame. Nothing is allocated for a frame whose header breaks a rule, and memory grows
/// only with the bytes that come.
pub(crate) fn read_frame(
    input: &mut impl Read,
    limits: &PictureLimits,
) -> Result<RawFrame, ReadError> {
    let mut header = [0; HEADER_LEN];
    input.read_exact(&mut header).map_err(|_| ReadError::Ended)?;
    let [magic, format, width, height, n_bytes] =
        std::array::from_fn(|i| std::array::from_fn::<u8, 4, _>(|k| header[4 * i + k]));
    if magic != MAGIC {
        return Err(rubbish(format!(
            "a frame must begin with `LKF1`, got `{}`",
            magic.escape_ascii()
        )));
    }
    let [width_px, height_px, n_bytes] = [width, height, n_bytes].map(u32::from_le_bytes);
    let format = match u32::from_le_bytes(format) {
        1 => StreamFormat::Mjpeg,
        2 => StreamFormat::Yuyv,
        other => return Err(rubbish(format!("format must be 1 or 2, got {other}"))),
    };
    let n_pixels = u64::from(width_px) * u64::from(height_px);
    if n_pixels == 0 || limits.max_pixels < n_pixels {
        let max = limits.max_pixels;
        return Err(rubbish(format!(
            "a frame must have 1 to {max} pixels, got {width_px}x{height_px}"
        )));
    }
    if format == StreamFormat::Yuyv && width_px % 2 != 0 {
        return Err(rubbish(format!("a yuyv frame must have an even width, got {width_px}")));
    }
    let allowed = match format {
        StreamFormat::Mjpeg => 1..=limits.max_bytes,
        StreamFormat::Yuyv => 2 * n_pixels..=2 * n_pixels,
    };
    if !allowed.contains(&u64::from(n_bytes)) {
        return Err(rubbish(format!(
            "a {width_px}x{height_px} {format} frame must have {} to {} bytes, got {n_bytes}",
            allowed.start(),
            allowed.end()
        )));
    }
    let mut bytes = Vec::new();
    match input.take(u64::from(n_bytes)).read_to_end(&mut bytes) {
        Ok(got) if got as u64 == u64::from(n_bytes) => {
            Ok(RawFrame { format, width_px, height_px, bytes })
        }
        Ok(_) | Err(_) => Err(ReadError::Ended),
    }
}

fn rubbish(message: String) -> ReadError {
    ReadError::Rubbish(io::Error::new(io::ErrorKind::InvalidData, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PictureLimits =
        PictureLimits { max_bytes: 1000, max_pixels: 100, enough_px: None };

    fn written(format: StreamFormat, width_px: u32, height_px: u32, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(&mut out, format, width_px, height_px, bytes).unwrap();
        out
    }

    fn rubbish_in(mut bytes: &[u8]) -> String {
        match read_frame(&mut bytes, &LIMITS) {
            Err(ReadError::Rubbish(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = written(StreamFormat::Mjpeg, 10, 10, &[7; 1000]);
        out.extend(written(StreamFormat::Yuyv, 2, 3, &[8; 12]));
        let mut input = out.as_slice();
        let first = read_frame(&mut input, &LIMITS).unwrap();
        assert_eq!((first.format, first.bytes), (StreamFormat::Mjpeg, vec![7; 1000]));
        let second = read_frame(&mut input, &LIMITS).unwrap();
        assert_eq!((second.width_px, second.height_px, second.bytes), (2, 3, vec![8; 12]));
        assert!(matches!(read_frame(&mut input, &LIMITS), Err(ReadError::Ended)));
    }

    #[test]
    fn a_cut_frame_is_the_end() {
        let whole = written(StreamFormat::Mjpeg, 10, 10, &[7; 50]);
        for n in 0..whole.len() {
            assert!(matches!(read_frame(&mut &whole[..n], &LIMITS), Err(ReadError::Ended)), "{n}");
        }
    }

    #[test]
    fn every_rule_is_held() {
        let good = written(StreamFormat::Yuyv, 10, 10, &[0; 200]);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            rubbish_in(&bytes)
        };
        assert_eq!(with(0, b'\n'), "a frame must begin with `LKF1`, got `\\nKF1`");
        assert_eq!(with(4, 3), "format must be 1 or 2, got 3");
        assert_eq!(with(8, 11), "a frame must have 1 to 100 pixels, got 11x10");
        assert_eq!(with(12, 0), "a frame must have 1 to 100 pixels, got 10x0");
        assert_eq!(with(8, 9), "a yuyv frame must have an even width, got 9");
        assert_eq!(with(16, 1), "a 10x10 yuyv frame must have 200 to 200 bytes, got 1");
        // Says 4 GiB, sends nothing.
        let mut huge = written(StreamFormat::Mjpeg, 1, 1, &[]);
        huge[16..].fill(0xFF);
        assert_eq!(
            rubbish_in(&huge),
            "a 1x1 mjpeg frame must have 1 to 1000 bytes, got 4294967295"
        );
    }
}
