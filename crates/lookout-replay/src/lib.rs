//! What a camera would have said of a recording, held against what was right: figures, and a page to
//! look at them. Pure: frames, decisions and truth come in, numbers and HTML go out.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod figures;
mod page;
mod section;
mod strip;
#[cfg(test)]
mod tests;
mod timeline;
mod words;

pub use figures::{Figures, Judged, Shares, TrueChange};
pub use page::{Counts, DecidedBy, Page, RunPage, Seen, Side};
pub use timeline::{Event, Spell, Timeline, Truth};
pub use words::{reason_words, sigma_words, state_words, truth_words, words};
