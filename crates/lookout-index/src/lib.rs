//! The caption index: build, open, search, check; and what is taught beside it.
//!
//! One file holds captions, their vectors and a nearest-neighbor graph over the *keys* (the image
//! embeddings of image-caption pairs, or the captions' own). It is mapped, not loaded, and searched
//! where it lies. `README.md` beside this crate gives the format byte by byte.
//!
//! This is the only crate that knows instant-distance, fsst-rs and the file format.

#![warn(missing_docs)]

mod atomic;
mod build;
mod captions;
mod error;
mod estimate;
mod format;
mod graph;
mod index;
mod kernel;
mod search;
mod sketch;
mod taught;
#[cfg(test)]
mod tests;
mod text;
mod vectors;

pub use build::{IndexBuilder, SearchMethod};
pub use captions::{CaptionFault, check_caption};
pub use error::IndexError;
pub use estimate::Estimate;
pub use format::{MAX_ENTRIES, Section};
pub use index::{DEFAULT_CANDIDATES, Hit, Index, IndexInfo};
pub use taught::{Lesson, Lessons, MAX_KEYS, MAX_LESSONS, TaughtWriter, taught_path, torn_path};
