//! What can go wrong with an open camera, and what is done about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lookout_core::{Disposition, PortError};

use crate::PictureFileError;

pub(crate) type BadFrame = Box<dyn std::error::Error + Send + Sync>;

/// Errors of cameras.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The folder or file of a `dir:` or `file:` camera cannot be read.
    #[error("cannot read `{}`", path.display())]
    PathUnreadable {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// `dir:` names a file, or `file:` names something that is no file.
    #[error("`{}` is not a {expected}; a folder of pictures is a `dir:` camera, one picture a `file:` camera", path.display())]
    WrongKind {
        /// What was named.
        path: PathBuf,
        /// `folder` or `file`.
        expected: &'static str,
    },
    /// No file in the folder has the name of a picture.
    #[error("`{}` holds no picture; file names must end in one of {extensions}", path.display())]
    FolderEmpty {
        /// The folder.
        path: PathBuf,
        /// The endings that count.
        extensions: String,
    },
    /// A picture file is not readable.
    #[error(transparent)]
    Picture(#[from] PictureFileError),
    /// The worker cannot be started.
    #[error("{camera}: cannot start the capture worker `{}`", program.display())]
    WorkerNotStarted {
        /// The camera's URI.
        camera: String,
        /// The executable.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The worker has ended: it could not open the device, or the device went away.
    #[error("{camera}: the capture worker ended ({status}): {last_line}")]
    WorkerEnded {
        /// The camera's URI.
        camera: String,
        /// Its exit status.
        status: String,
        /// The last line of its standard error.
        last_line: String,
    },
    /// The worker sends something that is no frame.
    #[error("{camera}: the capture worker sends rubbish")]
    Rubbish {
        /// The camera's URI.
        camera: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// No frame in time; the worker was killed.
    #[error("{camera}: no frame for {after:?}")]
    Stalled {
        /// The camera's URI.
        camera: String,
        /// The deadline.
        after: Duration,
    },
    /// One frame cannot be decoded. Cameras do send torn pictures.
    #[error("{camera}: bad frame")]
    BadFrame {
        /// The camera's URI.
        camera: String,
        /// What is wrong with it.
        source: BadFrame,
    },
    /// Too many frames in a row cannot be decoded.
    #[error("{camera}: {n_frames} bad frames in a row")]
    OnlyBadFrames {
        /// The camera's URI.
        camera: String,
        /// How many.
        n_frames: u32,
        /// What is wrong with the last.
        source: BadFrame,
    },
}

impl CaptureError {
    /// What is done about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Picture(_) | Self::BadFrame { .. } => Disposition::SkipFrame,
            Self::PathUnreadable { .. }
            | Self::WrongKind { .. }
            | Self::FolderEmpty { .. }
            | Self::WorkerNotStarted { .. }
            | Self::WorkerEnded { .. }
            | Self::Rubbish { .. }
            | Self::OnlyBadFrames { .. } => Disposition::Reopen,
            Self::Stalled { .. } => Disposition::Stalled,
        }
    }
}

impl From<CaptureError> for PortError {
    fn from(error: CaptureError) -> Self {
        Self::new(error.disposition(), error)
    }
}
