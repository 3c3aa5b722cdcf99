//! The ways to make labels that an evaluation compares.

use std::num::NonZeroU64;

use lookout_core::{Weighting, Window};

/// A way to make labels. It is a [`lookout_core::Classifier`], as a camera of the daemon has one.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) prompts: Prompts,
    pub(crate) reads: Reads,
    pub(crate) weighting: Rule,
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

/// How fusion weighs.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    Is(Weighting),
    /// What the bundle recommends. Embedding sets recommend nothing.
    Recommended,
}

/// What the others are compared with.
pub(crate) const BASELINE: &str = "image only";

const WINDOW: NonZeroU64 = NonZeroU64::MIN.saturating_add(255);

/// All, in the order of the report.
pub(crate) const VARIANTS: &[Variant] = &[
    of("names only", Prompts::Names, Reads::Image, Rule::Is(Weighting::Memoryless)),
    of(BASELINE, Prompts::All, Reads::Image, Rule::Is(Weighting::Memoryless)),
    of("captions only", Prompts::All, Reads::Captions, Rule::Is(Weighting::Memoryless)),
    fused("memoryless", Rule::Is(Weighting::Memoryless)),
    fused("running", Rule::Is(Weighting::History(Window::Unbounded))),
    fused("windowed 256", Rule::Is(Weighting::History(Window::Frames(WINDOW)))),
    fused("recommended", Rule::Recommended),
];

const fn of(name: &'static str, prompts: Prompts, reads: Reads, weighting: Rule) -> Variant {
    Variant { name, prompts, reads, weighting }
}

const fn fused(name: &'static str, weighting: Rule) -> Variant {
    of(name, Prompts::All, Reads::Fused, weighting)
}

impl Rule {
    /// The weighting, `None` where nothing is recommended.
    pub(crate) fn weighting(self, recommended: Option<Weighting>) -> Option<Weighting> {
        match self {
            Self::Is(it) => Some(it),
            Self::Recommended => recommended,
        }
    }
}
