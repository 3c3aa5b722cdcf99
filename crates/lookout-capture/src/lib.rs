//! Camera URIs to frames: a folder or a picture as a camera, and V4L2 devices through a worker
//! process. Recordings to frames with their times and truth.
//!
//! Drivers hang and crash, so this process never opens a device. It starts the worker
//! ([`run_worker`] in a child process), keeps the newest frame that comes down its pipe, and kills
//! it when it falls silent. Opening again after an error is the caller's part.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod error;
mod folder;
mod picture;
mod recording;
mod supervised;
mod uri;
mod wire;
mod worker;
mod yuyv;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lookout_core::{Clock, FrameSource};

pub use error::CaptureError;
pub use folder::{PICTURE_EXTENSIONS, picture_names};
pub use picture::{
    PictureFileError, PictureLimits, ThumbnailError, decode_picture, read_picture, thumbnail,
};
pub use recording::{RecordedFrame, Recording, RecordingError, Truth};
pub use uri::{CameraUri, CameraUriError, SCHEMES};
pub use worker::{FrameSize, InvalidWorkerArg, StreamFormat, WorkerArgs, WorkerError, run_worker};

/// What opening a camera needs besides its URI.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The folder at which relative paths in URIs start.
    pub base: PathBuf,
    /// The program that runs [`run_worker`].
    pub worker: WorkerCommand,
    /// A device that sends no frame for this long has stalled; greater than zero.
    pub stall_after: Duration,
    /// Bounds on a picture, checked before it is decoded.
    pub limits: PictureLimits,
}

/// A program and its first arguments; `--device PATH --size WIDTHxHEIGHT --format FORMAT --fps N`
/// are put behind them.
#[derive(Clone, Debug)]
pub struct WorkerCommand {
    /// The executable, our own as a rule.
    pub program: PathBuf,
    /// Its first arguments: `capture-worker`.
    pub args: Vec<OsString>,
}

/// Opens the camera at `uri`. A folder or file that is missing, and a worker that cannot be
/// started, are errors here; a device's own troubles come with the first frame.
pub fn open(
    uri: &CameraUri,
    options: &OpenOptions,
    clock: Arc<dyn Clock>,
) -> Result<Box<dyn FrameSource>, CaptureError> {
    match uri.place() {
        uri::Place::Pictures(pictures) => {
            let path = options.base.join(&pictures.path);
            let source = folder::Pictures::open(pictures, path, options.limits, clock)?;
            Ok(Box::new(source))
        }
        uri::Place::Device(args) => {
            let source = supervised::Device::open(uri.to_string(), args, options, clock)?;
            Ok(Box::new(source))
        }
    }
}

#[cfg(test)]
mod fake_clock {
    //! A clock that stands still until somebody waits.

    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use lookout_core::{Clock, Stop};

    #[derive(Default)]
    pub(crate) struct FakeClock(Mutex<Duration>);

    impl FakeClock {
        pub(crate) fn advance(&self, by: Duration) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
        }
    }

    impl Clock for FakeClock {
        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn wall(&self) -> Option<Duration> {
            None
        }

        fn wait(&self, stop: &Stop, timeout: Duration) -> bool {
            if !stop.is_requested() {
                self.advance(timeout);
            }
            stop.is_requested()
        }
    }
}
