//! Tells the first of equal messages from its repetitions, so that a picture that is bad in every
//! round of a folder, or a cable that spoils every tenth frame, does not fill the log.

use std::collections::HashSet;

/// Messages seen, bounded.
#[derive(Debug, Default)]
pub(crate) struct Repeats(HashSet<String>);

impl Repeats {
    /// Then all are forgotten, and each may be said once more.
    const MAX: usize = 1000;

    /// Whether `message` was not seen yet.
    pub(crate) fn is_first(&mut self, message: &str) -> bool {
        if self.0.contains(message) {
            return false;
        }
        if Self::MAX <= self.0.len() {
            self.0.clear();
        }
        self.0.insert(message.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_first_once_and_memory_is_bounded() {
        let mut repeats = Repeats::default();
        assert!(repeats.is_first("a") && !repeats.is_first("a") && repeats.is_first("b"));
        for n in 0..5 * Repeats::MAX {
            assert!(repeats.is_first(&n.to_string()));
            assert!(repeats.0.len() <= Repeats::MAX);
        }
    }
}
