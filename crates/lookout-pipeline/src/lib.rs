//! The stages between a camera and the publisher: capture loops, the infer stage, and the
//! supervisor that starts and ends them.
//!
//! Knows the ports of `lookout-core` and no adapter. Between a camera and the infer stage lies a
//! one-place mailbox in which the newest frame wins; nothing here waits for a network.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod backoff;
mod camera;
mod counters;
mod gate;
mod infer;
mod kept;
mod mailbox;
mod repeats;
mod supervise;
#[cfg(test)]
mod testing;
mod track;

pub use backoff::Backoff;
pub use camera::{CameraStage, OpenCamera};
pub use counters::{CameraCounters, Counts};
pub use gate::{Gate, GateRules};
pub use infer::{Busy, InferStage, NewLabels};
pub use mailbox::{FrameReceiver, FrameSender, LabelSender, Put, Taken, mailboxes};
pub use supervise::{Event, Report, StageError, Supervisor};
pub use track::{Earlier, Labels, Track, TrackSettings};
