//! What the program keeps in small files: calibrations, and what a daemon said last.
//!
//! Both are texts that people can read, with a version and a checksum, and both are replaced and never
//! changed in place: whatever happens, a file is as it was before or as it is to be.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod calibration;
mod kept;
mod prompts;
mod state;

pub use calibration::{Calibrations, CameraCalibration, KeptClass, KeptExtrapolation, Known};
pub use kept::StoreError;
pub use state::{CameraState, FusedFrom, State, StateFile};
