//! The ways to make labels that an evaluation compares.

use std::num::NonZeroU64;

use lookout_core::{Weighting, Window};

/// A way to make labels. It is a [`lookout_core::Classifier`], as a camera of the daemon has one.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) prompts: Prompts,
    pub(crate) reads: Reads,
    pub(crate) weighting: Weighting,
    /// Whether pictures that were accepted have a say in later ones.
    pub(crate) adapts: bool,
}

/// What class embeddings are made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prompts {
    /// The bare names. Embedding sets have none of these.
    Names,
    /// All that the label set and its templates say.
    All,
}

/// The distribution that counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    Image,
    /// Of the captions; of the image where none was found.
    Captions,
    Fused,
}

/// What the others are compared with.
pub(crate) const BASELINE: &str = "image only";

const WINDOW: NonZeroU64 = NonZeroU64::MIN.saturating_add(255);

/// All, in the order of the report.
pub(crate) const VARIANTS: &[Variant] = &[
    of("names only", Prompts::Names, Reads::Image),
    of(BASELINE, Prompts::All, Reads::Image),
    of("captions only", Prompts::All, Reads::Captions),
    fused("memoryless", Weighting::Memoryless),
    fused("running", Weighting::History(Window::Unbounded)),
    fused("windowed 256", Weighting::History(Window::Frames(WINDOW))),
    fused("pooled", Weighting::Pooled),
    Variant { adapts: true, ..fused("pooled, adapting", Weighting::Pooled) },
];

const fn of(name: &'static str, prompts: Prompts, reads: Reads) -> Variant {
    Variant { name, prompts, reads, weighting: Weighting::Memoryless, adapts: false }
}

const fn fused(name: &'static str, weighting: Weighting) -> Variant {
    Variant { weighting, ..of(name, Prompts::All, Reads::Fused) }
}
