//! What the program keeps in small files: calibrations, what a daemon said last, and the events that wait
//! for its broker.
//!
//! All are texts that people can read, with a version and checksums. The first two are replaced and never
//! changed in place, and the last one grows by whole lines: whatever happens, a file is as it was before or
//! as it is to be.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod calibration;
mod kept;
mod prompts;
mod spool;
mod state;

pub use calibration::{Calibrations, CameraCalibration, KeptClass, KeptExtrapolation, Known};
pub use kept::{StoreError, set_aside};
pub use spool::EventSpool;
pub use state::{CameraState, FusedFrom, State, StateFile};
