//! The worker process: opens a V4L2 device and writes its frames to standard output.
//!
//! It runs in a process of its own because a driver may block for ever (nokhwa waits for a frame
//! without a deadline) or take the process down with it.

use std::fmt;
use std::fs;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;

use nokhwa::utils::{
    ApiBackend, CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType,
    Resolution, frame_formats,
};
use nokhwa::{Camera, NokhwaError};

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
    /// Wanted size; the nearest that the device offers is used.
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
        source: NokhwaError,
    },
    /// A raw frame is not as long as its size says.
    #[error("device `{}`: a {format} frame of {n_bytes} bytes, where {expected} are expected; use another size or `format`", device.display())]
    WrongLength {
        /// The path given.
        device: PathBuf,
        /// The size and format in use.
        format: CameraFormat,
        /// Length of the frame.
        n_bytes: usize,
        /// Two bytes a pixel.
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
    let failed =
        |action| move |source| WorkerError::Driver { device: args.device.clone(), action, source };
    let index = CameraIndex::Index(device_number(&args.device)?);
    let any = RequestedFormat::with_formats(RequestedFormatType::None, frame_formats());
    let camera = Camera::with_backend(index, any, ApiBackend::Video4Linux)
        .map_err(failed("cannot be opened"))?;
    // Its drop panics when the device has gone; the end of the process closes the device too.
    let mut camera = ManuallyDrop::new(camera);
    let offered = camera.compatible_camera_formats().map_err(failed("cannot list its formats"))?;
    let format = choose(&offered, args).ok_or_else(|| WorkerError::NoSuchFormat {
        device: args.device.clone(),
        wanted: args.format,
        offered: names(&offered),
    })?;
    let exact = RequestedFormatType::Exact(format);
    camera
        .set_camera_requset(RequestedFormat::with_formats(exact, &[format.format()]))
        .map_err(failed("cannot set size, format and rate"))?;
    tracing::info!(device = %args.device.display(), %format, "Device is open.");
    camera.open_stream().map_err(failed("cannot start streaming"))?;
    let (width_px, height_px) = (format.width(), format.height());
    let mut out = io::stdout().lock();
    loop {
        let buffer = camera.frame_raw().map_err(failed("no frame"))?;
        let bytes = match args.format {
            StreamFormat::Mjpeg => jpeg_part(&buffer),
            StreamFormat::Yuyv => yuyv_part(&buffer, format, &args.device)?,
        };
        if let Err(closed) = wire::write_frame(&mut out, args.format, width_px, height_px, bytes) {
            tracing::debug!(%closed, "Standard output is closed.");
            return Ok(());
        }
    }
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

/// Of the formats of the wanted kind: the nearest size, then the lowest rate that is not below
/// the wanted one, else the highest.
fn choose(offered: &[CameraFormat], args: &WorkerArgs) -> Option<CameraFormat> {
    let distance = |it: Resolution| {
        it.width().abs_diff(args.size.width_px) + it.height().abs_diff(args.size.height_px)
    };
    let rate = |it: u32| match it < args.fps {
        true => (1, args.fps - it),
        false => (0, it - args.fps),
    };
    offered
        .iter()
        .filter(|it| it.format() == args.format.in_nokhwa())
        .min_by_key(|it| (distance(it.resolution()), rate(it.frame_rate()), it.resolution()))
        .copied()
}

fn names(offered: &[CameraFormat]) -> String {
    let mut names: Vec<String> =
        offered.iter().map(|it| it.format().to_string().to_lowercase()).collect();
    names.sort();
    names.dedup();
    match names.is_empty() {
        true => "formats that are not known here".to_owned(),
        false => names.join(", "),
    }
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

/// A buffer may be a page longer than its picture; more means padded rows, which nokhwa does not
/// tell of.
fn yuyv_part<'a>(
    buffer: &'a [u8],
    format: CameraFormat,
    device: &Path,
) -> Result<&'a [u8], WorkerError> {
    const PAGE: usize = 4096;
    let expected = 2 * format.width() as usize * format.height() as usize;
    match buffer.get(..expected) {
        Some(bytes) if buffer.len() < expected + PAGE => Ok(bytes),
        _ => {
            let (device, n_bytes) = (device.to_owned(), buffer.len());
            Err(WorkerError::WrongLength { device, format, n_bytes, expected })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(size: &str, format: StreamFormat, fps: u32) -> WorkerArgs {
        let size = size.parse().unwrap();
        WorkerArgs { size, format, fps, ..WorkerArgs::new(PathBuf::from("/dev/video0")) }
    }

    #[test]
    fn the_nearest_size_and_a_sufficient_rate_are_chosen() {
        let offered: Vec<CameraFormat> = [
            (640, 480, FrameFormat::YUYV, 30),
            (640, 480, FrameFormat::YUYV, 10),
            (640, 480, FrameFormat::YUYV, 5),
            (320, 240, FrameFormat::YUYV, 60),
            (1280, 720, FrameFormat::MJPEG, 30),
            (640, 480, FrameFormat::NV12, 7),
        ]
        .map(|(width, height, format, fps)| CameraFormat::new_from(width, height, format, fps))
        .to_vec();
        let chosen = |size, format, fps| {
            let it = choose(&offered, &args(size, format, fps))?;
            Some((it.width(), it.height(), it.frame_rate()))
        };
        use StreamFormat::{Mjpeg, Yuyv};
        assert_eq!(chosen("640x480", Yuyv, 7), Some((640, 480, 10)));
        assert_eq!(chosen("640x480", Yuyv, 5), Some((640, 480, 5)));
        assert_eq!(chosen("640x480", Yuyv, 60), Some((640, 480, 30)));
        assert_eq!(chosen("352x288", Yuyv, 1), Some((320, 240, 60)));
        assert_eq!(chosen("640x480", Mjpeg, 5), Some((1280, 720, 30)));
        let only_nv12 = &offered[5..];
        assert_eq!(choose(only_nv12, &args("640x480", Yuyv, 5)), None);
        assert_eq!(names(only_nv12), "nv12");
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
    fn padding_of_a_page_is_cut_and_more_is_refused() {
        let format = CameraFormat::new_from(320, 180, FrameFormat::YUYV, 5);
        let part =
            |n: usize| yuyv_part(&vec![0; n], format, Path::new("/dev/video0")).map(<[u8]>::len);
        assert_eq!(part(115_200).unwrap(), 115_200);
        assert_eq!(part(118_784).unwrap(), 115_200);
        assert!(part(115_199).is_err());
        let padded = part(384 * 2 * 180).unwrap_err().to_string();
        assert!(padded.contains("138240 bytes, where 115200 are expected"), "{padded}");
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
