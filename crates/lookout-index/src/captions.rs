//! What a caption must be to be stored.

use std::fmt;

use lookout_core::MAX_CAPTION_CHARS;

/// Why a caption is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptionFault {
    /// Nothing is left after trimming.
    Empty,
    /// Longer than [`MAX_CAPTION_CHARS`].
    TooLong,
    /// Has a control character, which could steer a terminal.
    Control,
}

impl fmt::Display for CaptionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "is empty"),
            Self::TooLong => write!(f, "has more than {MAX_CAPTION_CHARS} characters"),
            Self::Control => write!(f, "has a control character"),
        }
    }
}

/// Errs unless `text` can be a caption: 1 to 1000 characters, without control characters.
pub fn check_caption(text: &str) -> Result<(), CaptionFault> {
    check_text(text).map(|_| ())
}

/// Checks one caption and trims it.
pub(crate) fn check_text(text: &str) -> Result<&str, CaptionFault> {
    let text = text.trim();
    if text.is_empty() {
        Err(CaptionFault::Empty)
    } else if text.chars().nth(MAX_CAPTION_CHARS).is_some() {
        Err(CaptionFault::TooLong)
    } else if text.chars().any(char::is_control) {
        Err(CaptionFault::Control)
    } else {
        Ok(text)
    }
}
