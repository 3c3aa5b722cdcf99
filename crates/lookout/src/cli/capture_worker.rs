//! The command line of `capture-worker`, which `run` starts.

use std::path::PathBuf;

use clap::Args;
use lookout_capture::{FrameSize, StreamFormat};

#[derive(Debug, Args)]
pub(crate) struct CaptureWorkerArgs {
    /// /dev/videoN, or a link to one
    #[arg(long)]
    pub(crate) device: PathBuf,
    /// WIDTHxHEIGHT
    #[arg(long)]
    pub(crate) size: FrameSize,
    /// mjpeg or yuyv
    #[arg(long)]
    pub(crate) format: StreamFormat,
    /// Frames a second
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=240))]
    pub(crate) fps: u32,
}
