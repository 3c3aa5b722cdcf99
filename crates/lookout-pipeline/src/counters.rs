//! What happened to a camera's frames, counted.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one camera, shared by its stages. Every frame that a camera delivered is in
/// exactly one of displaced, aged, gated, skipped and evaluated once its way has ended.
#[derive(Debug, Default)]
pub struct CameraCounters {
    pub(crate) displaced: AtomicU64,
    pub(crate) aged: AtomicU64,
    pub(crate) gated: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) evaluated: AtomicU64,
    pub(crate) faults: AtomicU64,
}

/// The values of [`CameraCounters`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Replaced by a newer frame before their turn came.
    pub displaced: u64,
    /// Older than `max_age` when their turn came.
    pub aged: u64,
    /// Not evaluated because the scene had not changed.
    pub gated: u64,
    /// Could not be decoded or evaluated.
    pub skipped: u64,
    /// Evaluated.
    pub evaluated: u64,
    /// Times the camera could not be opened, ended or stalled.
    pub faults: u64,
}

impl CameraCounters {
    /// The values now.
    pub fn counts(&self) -> Counts {
        Counts {
            displaced: self.displaced.load(Relaxed),
            aged: self.aged.load(Relaxed),
            gated: self.gated.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            evaluated: self.evaluated.load(Relaxed),
            faults: self.faults.load(Relaxed),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { displaced, aged, gated, skipped, evaluated, faults } = self;
        write!(
            f,
            "{evaluated} evaluated, {displaced} displaced, {aged} too old, {gated} gated, \
             {skipped} skipped, {faults} camera faults"
        )
    }
}
