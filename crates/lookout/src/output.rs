//! What goes to the terminal. Picture names, labels and captions come from outside, so control
//! characters in them never reach it.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;

/// Writes one line to standard output. A reader that has gone away is an error, which ends the
/// program quietly.
pub(crate) fn line(text: impl Display) -> anyhow::Result<()> {
    let text = printable(&text.to_string());
    writeln!(io::stdout().lock(), "{text}").context("cannot write to standard output")
}

/// Writes one JSON object as a line to standard output.
pub(crate) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string(value).context("cannot write JSON")?;
    writeln!(io::stdout().lock(), "{text}").context("cannot write to standard output")
}

/// Writes one line to standard error; a closed one is nobody's loss.
pub(crate) fn complain(text: &str) {
    if writeln!(io::stderr().lock(), "lookout: {}", printable(text)).is_err() {
        tracing::debug!("Standard error is closed.");
    }
}

/// `text` with every control character but the line end and tab replaced.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

/// `text` on one line: line ends and tabs replaced too.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A count with its noun, in the plural where it is not one.
pub(crate) fn count<N: Display + PartialEq + From<u8>>(n: N, one: &str) -> String {
    let plural = match (n == N::from(1), one.ends_with('s')) {
        (true, _) => "",
        (false, true) => "es",
        (false, false) => "s",
    };
    format!("{n} {one}{plural}")
}

/// Whether `error` says that the reader of standard output has gone, as `head` does.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_it = |it: &io::Error| it.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is_it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0u64, 1, 2].map(|it| count(it, "frame")), ["0 frames", "1 frame", "2 frames"]);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mcat\u{7}\tb\nc"), "a\u{fffd}[31mcat\u{fffd}\tb\nc");
        assert_eq!(one_line("a.jpg\nb.jpg: a cat"), "a.jpg\u{fffd}b.jpg: a cat");
    }
}
