//! What can be wrong with a recording.

use std::io;
use std::path::PathBuf;

use super::Recording;

/// A recording, or a part of it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The system refuses it.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The recording, or its table.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something else than a recording.
    #[error(
        "`{}` is no recording; one is a folder of pictures, or a Motion-JPEG file whose name ends in .mjpeg or .mjpg",
        path.display()
    )]
    WrongKind {
        /// What was named.
        path: PathBuf,
    },
    /// No file in the folder has the name of a picture.
    #[error("`{}` holds no picture; file names must end in one of {extensions}", path.display())]
    FolderEmpty {
        /// The folder.
        path: PathBuf,
        /// The endings that count.
        extensions: String,
    },
    /// A rate out of range.
    #[error("the frames a second of a recording must be {}, got {got}", Recording::FPS_RULE)]
    Rate {
        /// The value.
        got: f64,
    },
    /// Two sources of the times.
    #[error("`{}` says when each frame was taken; give no frames a second beside it", path.display())]
    RateAndTimes {
        /// The table.
        path: PathBuf,
    },
    /// The first line of a table lacks a heading.
    #[error("{}:1: must have the headings {rule}, with tabs between them, got {got:?}", path.display())]
    Heading {
        /// The table.
        path: PathBuf,
        /// Those it must have.
        rule: &'static str,
        /// The beginning of the line.
        got: String,
    },
    /// Two columns have one heading.
    #[error(
        "{}:1: one column must be headed `{name}`, got columns {} and {}", path.display(), columns.0, columns.1
    )]
    SameHeading {
        /// The table.
        path: PathBuf,
        /// The heading.
        name: &'static str,
        /// The first two, from 1.
        columns: (usize, usize),
    },
    /// A table has no rows.
    #[error("`{}` has no row below its headings", path.display())]
    NoRows {
        /// The table.
        path: PathBuf,
    },
    /// A row breaks a rule.
    #[error("{}:{line}: `{column}` must {rule}, got {got:?}", path.display())]
    Row {
        /// The table.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The heading.
        column: &'static str,
        /// What it must be.
        rule: String,
        /// The beginning of what it is.
        got: String,
    },
    /// A row has too many bytes or cells, or is not Unicode.
    #[error("{}:{line}: a line must {rule}", path.display())]
    Line {
        /// The table.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What it must be.
        rule: String,
    },
    /// A Motion-JPEG file without a JPEG.
    #[error("`{}` holds no JPEG", path.display())]
    NoJpeg {
        /// The file.
        path: PathBuf,
    },
    /// Bytes between two JPEGs.
    #[error("{}: {n_bytes} bytes from byte {at} on are no JPEG and were passed over", path.display())]
    NotJpeg {
        /// The file.
        path: PathBuf,
        /// Where they begin, from 0.
        at: u64,
        /// How many.
        n_bytes: u64,
    },
}
