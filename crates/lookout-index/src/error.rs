//! What can go wrong with an index file and its building.

use std::path::PathBuf;

use lookout_core::{Disposition, EmbeddingError};

use crate::format::{FORMAT_VERSION, MAX_DIMENSION, MAX_ENTRIES, MAX_SPACE_BYTES, Section};
use crate::taught::{MAX_KEYS, MAX_LESSONS};

/// An index, what it is to be built of, or a query is unusable.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The system refuses to read a file.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The system refuses to write a file. What stood at the path before still stands there.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A folder, device or pipe stands where a file belongs.
    #[error("{path} must be a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },

    /// The file does not begin as an index does.
    #[error(
        "{path} is not a caption index; an index is made by `lookout index build` and ends in .lidx"
    )]
    NotAnIndex {
        /// The file.
        path: PathBuf,
    },
    /// The file is of a format version that this program does not read.
    #[error(
        "{path} has index format version {got}, this program reads version {FORMAT_VERSION}; \
         build the index again with this program or install a matching one"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        got: u32,
    },
    /// The bytes of a section are not those that were written.
    #[error(
        "{path} is damaged: section {section} has checksum {got:08x}, must have {expected:08x}; \
         restore the file or build it again"
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The section.
        section: Section,
        /// The checksum the file declares.
        expected: u32,
        /// The checksum of the bytes.
        got: u32,
    },
    /// The file is shorter or longer than its contents.
    #[error(
        "{path} is cut off or has bytes appended: section {section} needs {expected} bytes, got {got}; \
         restore the file or build it again"
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// The section, or the header, that does not fit.
        section: Section,
        /// The bytes it must have.
        expected: u64,
        /// The bytes that it declares, or that are there.
        got: u64,
    },
    /// A value breaks a rule of the format although its checksum holds.
    #[error("{path} is malformed: section {section}: {rule}, got {got}; build the index again")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The section.
        section: Section,
        /// What must hold.
        rule: &'static str,
        /// The value found.
        got: u64,
    },
    /// A neighbor in the graph is no entry of its layer.
    #[error(
        "{path} is malformed: section graph: entry {entry} of layer {layer} has neighbor {got}, \
         allowed are 0 to {}; build the index again", limit - 1
    )]
    Neighbor {
        /// The file.
        path: PathBuf,
        /// The layer; 0 holds every entry.
        layer: usize,
        /// The entry.
        entry: u32,
        /// The neighbor found.
        got: u32,
        /// Entries of the layer.
        limit: u32,
    },
    /// A stored vector has no direction.
    #[error("{path} is damaged: section {section}: the vector of entry {entry} is unusable")]
    Vector {
        /// The file.
        path: PathBuf,
        /// The section.
        section: Section,
        /// The entry.
        entry: usize,
        /// Why.
        source: EmbeddingError,
    },
    /// A stored caption is no text.
    #[error("{path} is damaged: section caption text: the caption of entry {entry} is not UTF-8")]
    Text {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: usize,
        /// Where.
        source: std::str::Utf8Error,
    },
    /// A stored caption cannot be unpacked.
    #[error(
        "{path} is damaged: section caption text: the caption of entry {entry} names a symbol that \
         there is not, or ends too early; restore the file or build it again"
    )]
    PackedText {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: usize,
    },
    /// The index belongs to another embedding space than the model.
    #[error(
        "{path} holds embeddings of space `{got}` with {got_dimension} dimensions, the model makes \
         those of `{expected}` with {expected_dimension}; build the index with this model"
    )]
    Space {
        /// The file.
        path: PathBuf,
        /// The model's space.
        expected: String,
        /// The model's dimension.
        expected_dimension: usize,
        /// The index's space.
        got: String,
        /// The index's dimension.
        got_dimension: usize,
    },
    /// instant-distance panicked, or made a graph of another shape than it should.
    #[error(
        "{path}: the nearest-neighbor graph cannot be built: instant-distance panicked; this is a \
         fault of the program, please report it"
    )]
    Graph {
        /// The file that was to be written.
        path: PathBuf,
    },

    /// A query has another dimension than the index.
    #[error("the query has {got} dimensions, the index holds {expected}")]
    QueryDimension {
        /// The index's.
        expected: usize,
        /// The query's.
        got: usize,
    },
    /// A search asks for more than the index was opened for.
    #[error("at most {limit} candidates can be asked for, got {got}; open the index for more")]
    TooManyCandidates {
        /// The number the index was opened for.
        limit: usize,
        /// The number asked for.
        got: usize,
    },

    /// An embedding space has no usable name.
    #[error(
        "an embedding space id must be 1 to {MAX_SPACE_BYTES} characters of a-z, 0-9, `.`, `_` and `-`, got {got:?}"
    )]
    SpaceId {
        /// The name.
        got: String,
    },
    /// Embeddings of this size cannot be stored.
    #[error("embeddings must have 1 to {MAX_DIMENSION} dimensions, got {got}")]
    Dimension {
        /// The dimension.
        got: usize,
    },
    /// An entry's embedding has another dimension than the index.
    #[error("entry {entry} has an embedding of {got} dimensions, the index takes {expected}")]
    EntryDimension {
        /// Number of entries before it.
        entry: usize,
        /// The index's dimension.
        expected: usize,
        /// The entry's.
        got: usize,
    },
    /// An entry's caption cannot be stored.
    #[error("entry {entry}: the caption {fault}")]
    Caption {
        /// Number of entries before it.
        entry: usize,
        /// Why.
        fault: crate::CaptionFault,
    },
    /// Some entries have a key of their own and some have none.
    #[error("entry {entry}: either every entry has a key of its own or none has; entry 0 decides")]
    MixedKeys {
        /// Number of entries before it.
        entry: usize,
    },
    /// There is nothing to index.
    #[error("an index must have at least one entry, got none")]
    NoEntries,
    /// There are more entries than the format holds.
    #[error("an index holds at most {MAX_ENTRIES} entries and 4 GiB of captions; split the input")]
    TooManyEntries,

    /// The file does not begin as lessons do.
    #[error("{path} holds no lessons; `lookout teach` makes such a file")]
    NotTaught {
        /// The file.
        path: PathBuf,
    },
    /// Lessons of a format version that this program does not read.
    #[error(
        "{path} has lessons of version {got}, this program reads version 1; use the program that \
         wrote them, or move the file away and teach again"
    )]
    TaughtVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        got: u32,
    },
    /// Lessons of another embedding space.
    #[error(
        "{path} has lessons of embedding space {got} ({got_dimension} dimensions), the model's is \
         {expected} ({expected_dimension}); move the file away and teach again with this model"
    )]
    TaughtSpace {
        /// The file.
        path: PathBuf,
        /// The model's space.
        expected: String,
        /// The model's dimension.
        expected_dimension: usize,
        /// The lessons' space.
        got: String,
        /// The lessons' dimension.
        got_dimension: usize,
    },
    /// Lessons are not as they were written.
    #[error(
        "{path} is damaged at byte {at}: {reason}; restore a copy, or move the file away and teach again"
    )]
    TaughtDamaged {
        /// The file.
        path: PathBuf,
        /// Where the faulty record begins.
        at: usize,
        /// The rule that is broken.
        reason: &'static str,
    },
    /// No more can be taught.
    #[error(
        "{path} is full: it may have {MAX_LESSONS} lessons and 256 MiB; undo some, or move it away and \
         build the index with `--with-taught`"
    )]
    TaughtFull {
        /// The file.
        path: PathBuf,
    },
    /// There is no such lesson to undo.
    #[error("{path} has no lesson{} that could be undone; `lookout teach --list` lists them",
        number.map(|it| format!(" {it}")).unwrap_or_default())]
    NoSuchLesson {
        /// The file.
        path: PathBuf,
        /// Its number, if one was given.
        number: Option<u32>,
    },
    /// A lesson has too many keys, or none.
    #[error("a lesson must have 1 to {MAX_KEYS} keys, got {got}")]
    Keys {
        /// How many.
        got: usize,
    },
}

impl IndexError {
    /// What a running pipeline does about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            // Only the entries that a query meets are affected.
            Self::Vector { .. } | Self::Text { .. } | Self::PackedText { .. } => {
                Disposition::SkipFrame
            }
            Self::Read { .. }
            | Self::Write { .. }
            | Self::NotAFile { .. }
            | Self::NotAnIndex { .. }
            | Self::Version { .. }
            | Self::Checksum { .. }
            | Self::Length { .. }
            | Self::Malformed { .. }
            | Self::Neighbor { .. }
            | Self::Space { .. }
            | Self::Graph { .. }
            | Self::QueryDimension { .. }
            | Self::TooManyCandidates { .. }
            | Self::SpaceId { .. }
            | Self::Dimension { .. }
            | Self::EntryDimension { .. }
            | Self::Caption { .. }
            | Self::MixedKeys { .. }
            | Self::NoEntries
            | Self::TooManyEntries
            | Self::NotTaught { .. }
            | Self::TaughtVersion { .. }
            | Self::TaughtSpace { .. }
            | Self::TaughtDamaged { .. }
            | Self::TaughtFull { .. }
            | Self::NoSuchLesson { .. }
            | Self::Keys { .. } => Disposition::Fatal,
        }
    }
}
