//! Figures of an evaluation, from what a classifier said of pictures whose classes are known:
//! accuracy, calibration, known against unknown, the paired interval of a difference, and halves of
//! a set to choose on and to report on.
//!
//! Nothing here reads a file, a clock or a source of chance: draws come from a seed, and the same
//! input gives the same figures on every machine.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod draws;
mod figures;
mod paired;
mod split;

pub use figures::{CALIBRATION_BINS, auroc, calibration_error, rank, share};
pub use paired::{FEWEST, Paired, RESAMPLES, Verdict};
pub use split::Half;
