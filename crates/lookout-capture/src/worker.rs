//! The worker process: opens a V4L2 device and writes its frames to standard output.
//!
//! It runs in a process of its own because a driver may block for ever (nokhwa waits for a frame
//! without a deadline) or take the process down with it.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;

use nokhwa::Camera;
use nokhwa::utils::{
    ApiBackend, CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType,
};
use v4l::frameinterval::{FrameInterval, FrameIntervalEnum};
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Device, Format, FourCC};

use crate::wire;

/// How a device sends its pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFormat {
    /// JPEG pictures.
    Mjpeg,
    /// Raw 4:2:2, two bytes a pixel.
    Yuyv,
}

/// Width and height in pixels, each from 16 to 8192 and the width even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSize {
    width_px: u32,
    height_px: u32,
}

/// A text breaks the rule of its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {rule}, got `{got}`")]
pub struct InvalidWorkerArg {
    /// The rule.
    pub rule: &'static str,
    /// The text.
    pub got: String,
}

/// What the worker is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerArgs {
    /// `/dev/videoN` or a link to one, such as those in `/dev/v4l/by-id`.
    pub device: PathBuf,
    /// Wanted size; else the driver takes the one that it finds nearest.
    pub size: FrameSize,
    /// The format, which the device must offer.
    pub format: StreamFormat,
    /// Wanted frames a second, 1 to 240; the lowest rate that is not below it is used, else the
    /// highest there is.
    pub fps: u32,
}

/// Why the worker ends.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The device is not there.
    #[error("cannot find device `{}`", device.display())]
    NotFound {
        /// The path given.
        device: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The path leads elsewhere.
    #[error("device `{}` must be, or lead to, /dev/videoN; it leads to `{}`", device.display(), target.display())]
    NotVideo {
        /// The path given.
        device: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// The device does not offer the format.
    #[error("device `{}` offers no `{wanted}`, only {offered}; set `format` in the camera's URI", device.display())]
    NoSuchFormat {
        /// The path given.
        device: PathBuf,
        /// The format asked for.
        wanted: StreamFormat,
        /// The formats that it has.
        offered: String,
    },
    /// The driver failed.
    #[error("device `{}`: {action}", device.display())]
    Driver {
        /// The path given.
        device: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the driver says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// nokhwa refuses rates such as 12.5 frames a second.
    #[error("device `{}` must offer a whole number of frames a second at {size}, got {got}; set another `size` or `fps` in the camera's URI", device.display())]
    FractionalRate {
        /// The path given.
        device: PathBuf,
        /// The size in use.
        size: String,
        /// The time of a frame in seconds, as a fraction.
        got: String,
    },
    /// A raw frame is shorter than its size says.
    #[error("device `{}`: a frame of {n_bytes} bytes, where {expected} are expected; set another `size` or `format` in the camera's URI", device.display())]
    ShortFrame {
        /// The path given.
        device: PathBuf,
        /// Length of the frame.
        n_bytes: usize,
        /// All rows.
        expected: usize,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The capture thread panicked; the line before tells where.
    #[error("the driver panicked")]
    Panicked,
}

impl StreamFormat {
    pub(crate) const RULE: &str = "mjpeg or yuyv";

    fn fourcc(self) -> FourCC {
        FourCC::new(match self {
            Self::Mjpeg => b"MJPG",
            Self::Yuyv => b"YUYV",
        })
    }

    fn in_nokhwa(self) -> FrameFormat {
        match self {
            Self::Mjpeg => FrameFormat::MJPEG,
            Self::Yuyv => FrameFormat::YUYV,
        }
    }
}

impl fmt::Display for StreamFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mjpeg => "mjpeg",
            Self::Yuyv => "yuyv",
        })
    }
}

impl FromStr for StreamFormat {
    type Err = InvalidWorkerArg;

    fn from_str(text: &str) -> Result<Self, InvalidWorkerArg> {
        match text {
            "mjpeg" => Ok(Self::Mjpeg),
            "yuyv" => Ok(Self::Yuyv),
            _ => Err(InvalidWorkerArg { rule: Self::RULE, got: text.to_owned() }),
        }
    }
}

impl FrameSize {
    pub(crate) const RULE: &str = "WIDTHxHEIGHT, each from 16 to 8192, the width even";
    const SIDE_PX: RangeInclusive<u32> = 16..=8192;

    /// Width, even.
    pub fn width_px(self) -> u32 {
        self.width_px
    }

    /// Height.
    pub fn height_px(self) -> u32 {
        self.height_px
    }
}

impl fmt::Display for FrameSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width_px, self.height_px)
    }
}

impl FromStr for FrameSize {
    type Err = InvalidWorkerArg;

    fn from_str(text: &str) -> Result<Self, InvalidWorkerArg> {
        let side = |it: &str| it.parse().ok().filter(|it| Self::SIDE_PX.contains(it));
        text.split_once('x')
            .and_then(|(width, height)| {
                let (width_px, height_px) = (side(width)?, side(height)?);
                (width_px % 2 == 0).then_some(Self { width_px, height_px })
            })
            .ok_or_else(|| InvalidWorkerArg { rule: Self::RULE, got: text.to_owned() })
    }
}

impl WorkerArgs {
    pub(crate) const FPS: RangeInclusive<u32> = 1..=240;
    pub(crate) const FPS_RULE: &str = "a whole number from 1 to 240";

    /// 640x480 in YUYV at 5 frames a second, which nearly every USB camera offers.
    pub fn new(device: PathBuf) -> Self {
        let size = FrameSize { width_px: 640, height_px: 480 };
        Self { device, size, format: StreamFormat::Yuyv, fps: 5 }
    }
}

/// What `lookout capture-worker` does: writes the device's frames to standard output until
/// standard input or output closes, which is how the parent's end, too, ends this process.
///
/// The caller ends the process when this returns: a thread may still be blocked in the driver.
pub fn run_worker(args: &WorkerArgs) -> Result<(), WorkerError> {
    let (ended, end) = crossbeam_channel::bounded(2);
    let (args, capture_ended) = (args.clone(), ended.clone());
    spawn("worker-capture", move || {
        let result = std::panic::catch_unwind(|| capture(&args));
        report(&capture_ended, result.unwrap_or(Err(WorkerError::Panicked)));
    })?;
    spawn("worker-stdin", move || {
        let n_read = io::copy(&mut io::stdin().lock(), &mut io::sink());
        tracing::debug!(?n_read, "Standard input is closed.");
        report(&ended, Ok(()));
    })?;
    end.recv().unwrap_or(Err(WorkerError::Panicked))
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), WorkerError> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(body).map(drop).map_err(WorkerError::Thread)
}

fn report(
    ended: &crossbeam_channel::Sender<Result<(), WorkerError>>,
    result: Result<(), WorkerError>,
) {
    if let Err(unsent) = ended.send(result) {
        tracing::debug!(?unsent, "The worker has already ended.");
    }
}

fn capture(args: &WorkerArgs) -> Result<(), WorkerError> {
    let number = device_number(&args.device)?;
    let Mode { width_px, height_px, stride, fps } = set_mode(number, args)?;
    let wanted = CameraFormat::new_from(width_px, height_px, args.format.in_nokhwa(), fps);
    let formats = [wanted.format()];
    let exact = RequestedFormat::with_formats(RequestedFormatType::Exact(wanted), &formats);
    let camera = Camera::with_backend(CameraIndex::Index(number), exact, ApiBackend::Video4Linux)
        .map_err(|it| driver(args, "cannot be opened", it))?;
    // Its drop panics when the device has gone; the end of the process closes the device too.
    let mut camera = ManuallyDrop::new(camera);
    camera.open_stream().map_err(|it| driver(args, "cannot start streaming", it))?;
    tracing::info!(device = %args.device.display(), format = %wanted, "Device is open.");
    let mut out = io::stdout().lock();
    loop {
        let buffer = camera.frame_raw().map_err(|it| driver(args, "no frame", it))?;
        let bytes = match args.format {
            StreamFormat::Mjpeg => Cow::Borrowed(jpeg_part(&buffer)),
            StreamFormat::Yuyv => {
                let (device, n_bytes) = (&args.device, buffer.len());
                let short = |expected| WorkerError::ShortFrame {
                    device: device.clone(),
                    n_bytes,
                    expected,
                };
                yuyv_part(&buffer, width_px, height_px, stride).map_err(short)?
            }
        };
        if let Err(closed) = wire::write_frame(&mut out, args.format, width_px, height_px, &bytes) {
            tracing::debug!(%closed, "Standard output is closed.");
            return Ok(());
        }
    }
}

fn driver(
    args: &WorkerArgs,
    action: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> WorkerError {
    WorkerError::Driver { device: args.device.clone(), action, source: Box::new(source) }
}

/// What the driver made of the wishes.
struct Mode {
    width_px: u32,
    height_px: u32,
    /// Bytes from one row to the next.
    stride: usize,
    fps: u32,
}

/// Sets size, format and rate before nokhwa opens the device, because nokhwa cannot open one that
/// another program left in a format or at a rate that nokhwa does not know, and its list of modes
/// holds some that do not exist. Drivers keep a mode while the device is closed.
fn set_mode(number: u32, args: &WorkerArgs) -> Result<Mode, WorkerError> {
    let failed = |action| move |source: io::Error| driver(args, action, source);
    let device = Device::new(number as usize).map_err(failed("cannot be opened"))?;
    let fourcc = args.format.fourcc();
    let format = device
        .set_format(&Format::new(args.size.width_px, args.size.height_px, fourcc))
        .map_err(failed("cannot set size and format"))?;
    if format.fourcc != fourcc {
        let offered = device.enum_formats().map_err(failed("cannot list its formats"))?;
        let names = offered.iter().map(|it| it.fourcc.to_string().to_lowercase());
        // Some drivers offer dozens.
        let offered = names.take(8).collect::<Vec<_>>().join(", ");
        let (device, wanted) = (args.device.clone(), args.format);
        return Err(WorkerError::NoSuchFormat { device, wanted, offered });
    }
    // Not every driver lists its rates.
    let offered =
        device.enum_frameintervals(fourcc, format.width, format.height).unwrap_or_default();
    let fps = choose_rate(&offered, args.fps);
    let interval = device
        .set_params(&Parameters::with_fps(fps))
        .map_err(failed("cannot set the rate"))?
        .interval;
    if interval.numerator != 1 {
        let (device, got) = (args.device.clone(), format!("{interval} s a frame"));
        let size = format!("{}x{}", format.width, format.height);
        return Err(WorkerError::FractionalRate { device, size, got });
    }
    Ok(Mode {
        width_px: format.width,
        height_px: format.height,
        stride: format.stride as usize,
        fps: interval.denominator,
    })
}

/// The lowest whole rate that is not below the wanted one, else the highest; the wanted one where
/// no whole rates are listed.
fn choose_rate(offered: &[FrameInterval], wanted_fps: u32) -> u32 {
    let whole = offered.iter().filter_map(|it| match &it.interval {
        FrameIntervalEnum::Discrete(it) if it.numerator == 1 => Some(it.denominator),
        FrameIntervalEnum::Discrete(_) | FrameIntervalEnum::Stepwise(_) => None,
    });
    let key = |fps: &u32| (*fps < wanted_fps, fps.abs_diff(wanted_fps));
    whole.min_by_key(key).unwrap_or(wanted_fps)
}

/// nokhwa takes only the N of `/dev/videoN`, and links of stable name change where they lead, so
/// they are followed at each opening.
fn device_number(device: &Path) -> Result<u32, WorkerError> {
    let target = fs::canonicalize(device)
        .map_err(|source| WorkerError::NotFound { device: device.to_owned(), source })?;
    target
        .to_str()
        .and_then(|it| it.strip_prefix("/dev/video")?.parse().ok())
        .ok_or_else(|| WorkerError::NotVideo { device: device.to_owned(), target })
}

/// The bytes up to the end marker. The driver's buffer is longer than its picture, and nokhwa
/// does not say how long that is.
fn jpeg_part(buffer: &[u8]) -> &[u8] {
    let end = jpeg_end(buffer).unwrap_or(buffer.len());
    &buffer[..end]
}

/// The index behind the end-of-image marker (ITU T.81, annex B). Segments are skipped by their
/// length, as a thumbnail within one has an end marker of its own.
fn jpeg_end(bytes: &[u8]) -> Option<usize> {
    const END: u8 = 0xD9;
    const SCAN: u8 = 0xDA;
    let mut at = 2;
    loop {
        let (&[0xFF, marker], rest) = bytes.get(at..)?.split_first_chunk()? else { return None };
        at += 2;
        match marker {
            END => return Some(at),
            0xFF => at -= 1,
            0x01 | 0xD0..=0xD8 => (),
            _ => {
                at += usize::from(u16::from_be_bytes(*rest.first_chunk()?));
                if marker == SCAN {
                    // In a scan, 0xFF is followed by 0 or by a restart marker.
                    let is_marker =
                        |it: &[u8]| it[0] == 0xFF && !matches!(it[1], 0 | 0xD0..=0xD7 | 0xFF);
                    at += bytes.get(at..)?.windows(2).position(is_marker)?;
                }
            }
        }
    }
}

/// The rows without their padding, or the number of bytes that `buffer` should have.
fn yuyv_part(
    buffer: &[u8],
    width_px: u32,
    height_px: u32,
    stride: usize,
) -> Result<Cow<'_, [u8]>, usize> {
    let (row_len, n_rows) = (2 * width_px as usize, height_px as usize);
    if stride <= row_len {
        let expected = row_len * n_rows;
        return buffer.get(..expected).map(Cow::Borrowed).ok_or(expected);
    }
    let rows = buffer.get(..stride * n_rows).ok_or(stride * n_rows)?.chunks_exact(stride);
    Ok(Cow::Owned(rows.flat_map(|it| &it[..row_len]).copied().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sufficient_whole_rate_is_chosen() {
        let interval = |(numerator, denominator)| FrameInterval {
            index: 0,
            fourcc: StreamFormat::Yuyv.fourcc(),
            width: 640,
            height: 480,
            typ: 1,
            interval: FrameIntervalEnum::Discrete(v4l::Fraction::new(numerator, denominator)),
        };
        // The second is 7.5 frames a second.
        let offered = [(1, 30), (2, 15), (1, 10), (1, 5)].map(interval);
        let cases = [(1, 5), (5, 5), (7, 10), (15, 30), (60, 30)];
        for (wanted, chosen) in cases {
            assert_eq!(choose_rate(&offered, wanted), chosen, "{wanted}");
        }
        assert_eq!(choose_rate(&offered[1..2], 7), 7);
    }

    #[test]
    fn a_jpeg_ends_at_its_own_end_marker() {
        let thumbnail = [0xFF, 0xE1, 0, 6, 0xFF, 0xD8, 0xFF, 0xD9];
        let scan = [0xFF, 0xDA, 0, 3, 1, 0xAB, 0xFF, 0, 0xFF, 0xD0, 0x12];
        let picture = [&[0xFF, 0xD8][..], &thumbnail, &scan, &[0xFF, 0xD9]].concat();
        let n = picture.len();
        // Behind it lies what an earlier, larger picture left in the buffer.
        let buffer = [&picture[..], &[0x55; 9], &[0xFF, 0xD9]].concat();
        assert_eq!(jpeg_part(&buffer), &buffer[..n]);
        for cut in 0..n {
            assert_eq!(jpeg_part(&picture[..cut]).len(), cut);
        }
        let two_scans = [&[0xFF, 0xD8][..], &scan, &scan, &[0xFF, 0xFF, 0xD9], &[0]].concat();
        assert_eq!(jpeg_end(&two_scans), Some(two_scans.len() - 1));
    }

    #[test]
    fn padding_is_cut() {
        let rows = [[1, 2, 3, 4, 0, 0], [5, 6, 7, 8, 0, 0]].concat();
        assert_eq!(yuyv_part(&rows, 2, 2, 6).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8].as_slice());
        assert_eq!(yuyv_part(&rows[..11], 2, 2, 6), Err(12));
        let page = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0];
        assert_eq!(yuyv_part(&page, 2, 2, 4).unwrap(), &page[..8]);
        assert_eq!(yuyv_part(&page[..7], 2, 2, 4), Err(8));
    }

    #[test]
    fn a_path_that_leads_to_no_video_device_is_named() {
        let with = |device: &str| {
            capture(&WorkerArgs::new(PathBuf::from(device))).unwrap_err().to_string()
        };
        assert_eq!(with("/dev/v4l/by-id/none"), "cannot find device `/dev/v4l/by-id/none`");
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("usb-camera");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        let error = with(link.to_str().unwrap());
        assert!(error.ends_with("must be, or lead to, /dev/videoN; it leads to `/dev/null`"));
    }
}
