//! Why a source cannot be read at all.

use std::path::PathBuf;

use lookout_core::Disposition;

use crate::Position;

/// A source, a position in one, or a word list is unusable.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The system refuses to read.
    #[error("cannot read {path}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Something else stands where a file or folder belongs.
    #[error("{path} must be a {expected}")]
    WrongKind {
        /// The path.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
    },
    /// What a path is cannot be told.
    #[error(
        "{path}: cannot tell what this is: {problem}; say which of tsv, pairs, coco, webdataset and embeddings it is"
    )]
    Kind {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        problem: &'static str,
    },
    /// There is no such kind of source.
    #[error("a source must be tsv, pairs, coco, webdataset or embeddings, got {got:?}")]
    KindName {
        /// What was asked for.
        got: String,
    },
    /// A folder has nothing that could be read.
    #[error("{path} holds no {expected}")]
    Nothing {
        /// The folder.
        path: PathBuf,
        /// What it must hold.
        expected: &'static str,
    },
    /// There is more than is held in memory.
    #[error("{path} has more than {limit} {what}; split it")]
    TooMany {
        /// The file or folder.
        path: PathBuf,
        /// The number allowed.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
    /// Folders lie in each other too deeply.
    #[error("{path} lies more than {limit} folders deep; give a folder further down")]
    TooDeep {
        /// The folder.
        path: PathBuf,
        /// The depth allowed.
        limit: usize,
    },
    /// The name of a shard could steer a terminal, or cannot be written down.
    #[error("{path:?}: the name must be UTF-8 without control characters; rename the file")]
    Name {
        /// The file.
        path: PathBuf,
    },

    /// A `.npy` file is not as it must be.
    #[error(
        "{path}: {rule}, got {got}; save it with numpy.save as a C-ordered float16 or float32 table"
    )]
    Npy {
        /// The file.
        path: PathBuf,
        /// What must hold.
        rule: &'static str,
        /// What was found.
        got: String,
    },
    /// A `.parquet` file is not as it must be.
    #[error(
        "{path}: {problem}; write it again, with a text column `caption` and snappy, zstd or no compression"
    )]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file of a shard is missing while other shards, or other parts of this one, have theirs.
    #[error("{folder}: shard {shard} has no {part}; every shard must have the same files")]
    MissingPart {
        /// The source's folder.
        folder: PathBuf,
        /// The shard's number.
        shard: u64,
        /// What its name would be.
        part: &'static str,
    },
    /// Two files are the same part of a shard.
    #[error("{first} and {second} are the same shard; remove one")]
    SamePart {
        /// The one.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The files of a shard have different numbers of rows.
    #[error("{path} has {got} rows, {other} has {expected}; a shard's files must have the same")]
    Counts {
        /// The file with embeddings.
        path: PathBuf,
        /// Its rows.
        got: u64,
        /// The file with captions.
        other: PathBuf,
        /// Its rows.
        expected: u64,
    },
    /// Two files have embeddings of different sizes.
    #[error("{path} has embeddings of {got} dimensions, the files before have {expected}")]
    Dimension {
        /// The file.
        path: PathBuf,
        /// Its dimension.
        got: usize,
        /// The others'.
        expected: usize,
    },

    /// A table does not say which column has the captions.
    #[error(
        "{path}: its first line has columns and none is headed `caption`, got {got}; put `caption` over \
         the column of captions"
    )]
    Heading {
        /// The file.
        path: PathBuf,
        /// The first columns.
        got: String,
    },

    /// A file of what an evaluation is made on is not as it must be.
    #[error("{path}{}: {problem}", line.map(|it| format!(", line {it}")).unwrap_or_default())]
    Set {
        /// The file.
        path: PathBuf,
        /// The line, from 1, where one is to blame.
        line: Option<usize>,
        /// The rule and what was found.
        problem: String,
    },

    /// A JSON file is not COCO captions.
    #[error(
        "{path}: {problem}; it must be one object with the lists `images` and `annotations`, as COCO's captions_*.json"
    )]
    Coco {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },

    /// A position is written wrongly.
    #[error("a position must be written SHARD:ROW, got {got:?}")]
    PositionText {
        /// The text.
        got: String,
    },
    /// A position is not in the source.
    #[error(
        "cannot go on at {position}: {reason}; begin anew, or give the source it was taken from"
    )]
    Position {
        /// The position.
        position: Position,
        /// Why not.
        reason: &'static str,
    },

    /// A language is not known by its code.
    #[error("language {got:?} is not known; give its ISO 639-3 code, such as eng, deu or spa")]
    Language {
        /// The code.
        got: String,
    },
    /// The bounds of a length exclude each other.
    #[error(
        "the {what} of captions must have a range with a beginning below its end, got {min} to {max}"
    )]
    Range {
        /// Of what.
        what: &'static str,
        /// The lower bound.
        min: usize,
        /// The upper bound.
        max: usize,
    },
    /// A word list is unusable.
    #[error("{path}{}: {problem}; it must have a word or phrase a line, `#` begins a comment",
        line.map(|it| format!(", line {it}")).unwrap_or_default())]
    WordList {
        /// The file.
        path: PathBuf,
        /// The line, from 1, where one is to blame.
        line: Option<usize>,
        /// What is wrong.
        problem: String,
    },
}

impl SourceError {
    /// What a running pipeline does about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Read { .. }
            | Self::WrongKind { .. }
            | Self::Kind { .. }
            | Self::KindName { .. }
            | Self::Nothing { .. }
            | Self::TooMany { .. }
            | Self::TooDeep { .. }
            | Self::Name { .. }
            | Self::Npy { .. }
            | Self::Parquet { .. }
            | Self::MissingPart { .. }
            | Self::SamePart { .. }
            | Self::Counts { .. }
            | Self::Dimension { .. }
            | Self::Heading { .. }
            | Self::Coco { .. }
            | Self::Set { .. }
            | Self::PositionText { .. }
            | Self::Position { .. }
            | Self::Language { .. }
            | Self::Range { .. }
            | Self::WordList { .. } => Disposition::Fatal,
        }
    }
}
