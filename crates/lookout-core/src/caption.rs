//! What holds for every caption.

/// Most characters of a caption: an index stores no longer ones, and what reads captions leaves
/// longer ones out.
pub const MAX_CAPTION_CHARS: usize = 1000;
