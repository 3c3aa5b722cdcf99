//! What a source gives: entries, rows that are left out, and the places of both.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use lookout_core::{Embedding, EmbeddingError, MAX_CAPTION_CHARS};

use crate::SourceError;

/// One row of a source.
pub type Row = Result<Entry, BadRow>;

/// A row's place. As text it is `SHARD:ROW`, which [`FromStr`] reads again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The file: its name, below the source's folder where that has subfolders.
    pub shard: String,
    /// The number of rows before it in that file; in a table, its line, from 1.
    pub row: u64,
}

impl Position {
    /// Where to go on after this row.
    pub fn next(&self) -> Self {
        Self { shard: self.shard.clone(), row: self.row.saturating_add(1) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.shard, self.row)
    }
}

impl FromStr for Position {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let parsed = text.rsplit_once(':').and_then(|(shard, row)| {
            let row = row.parse().ok().filter(|_| !shard.is_empty())?;
            Some(Self { shard: shard.to_owned(), row })
        });
        parsed.ok_or_else(|| SourceError::PositionText { got: text.to_owned() })
    }
}

/// A caption, and what it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its place.
    pub position: Position,
    /// 1 to [`MAX_CAPTION_CHARS`] characters, without control characters, runs of white space, or
    /// white space at its ends.
    pub caption: String,
    /// What else the row has.
    pub content: Content,
}

/// What a row has besides its caption.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Nothing.
    Nothing,
    /// A picture, neither decoded nor looked at. Captions of one picture follow each other and
    /// have equal [`Picture`]s, so that it can be encoded once.
    Picture(Picture),
    /// Embeddings, at least one; all rows of a source have the same ones, of one dimension.
    Embeddings {
        /// The picture's.
        image: Option<Embedding>,
        /// The caption's.
        caption: Option<Embedding>,
    },
}

/// A picture that a caption belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Picture {
    /// A file, which need not exist.
    File(Arc<Path>),
    /// The bytes of one.
    Bytes(Arc<[u8]>),
}

/// A row that is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct BadRow {
    /// Its place.
    pub position: Position,
    /// Why.
    pub fault: Fault,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Whole(_) => write!(f, "{}: {}", self.position.shard, self.fault),
            _ => write!(f, "{}: {}", self.position, self.fault),
        }
    }
}

/// Why a row is left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// It is one of the whole shard, none of whose rows is there.
    Whole(Box<Fault>),
    /// There is no caption, or nothing but white space.
    NoCaption,
    /// The caption is too long.
    CaptionTooLong,
    /// The caption is no text.
    CaptionNotUtf8,
    /// The caption has a control character, which could steer a terminal.
    CaptionControl,
    /// The caption equals an earlier one but for upper case.
    Repeated,
    /// There is no picture.
    NoPicture,
    /// There are several pictures for one caption.
    ManyPictures,
    /// A file's name is not UTF-8 or has control characters.
    Name,
    /// The picture has more bytes than are read.
    PictureTooLarge {
        /// Its bytes.
        got: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A file cannot be read.
    Unreadable {
        /// The file.
        file: String,
        /// The reason.
        reason: String,
    },
    /// The JSON of a row is not as it must be.
    Json {
        /// Where it is: a file, or a place in one.
        place: String,
        /// The reason.
        reason: String,
    },
    /// A COCO caption belongs to a picture that is not listed.
    UnknownImage {
        /// Its `image_id`.
        id: i64,
    },
    /// A stored embedding has no direction.
    Vector {
        /// The file.
        file: String,
        /// The reason.
        source: EmbeddingError,
    },
    /// What the caller found out, as that a picture cannot be decoded.
    Unusable {
        /// The reason.
        reason: String,
    },
    /// The shard is damaged from here on; its other rows are left out.
    Damaged {
        /// What is wrong.
        reason: String,
        /// Rows that are lost, this one with them, where that is known.
        lost: Option<u64>,
    },
}

impl Fault {
    /// Rows that it costs, as far as known.
    pub fn rows(&self) -> u64 {
        match self {
            Self::Damaged { lost, .. } => lost.unwrap_or(1),
            _ => 1,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(fault) => write!(f, "{fault}"),
            Self::NoCaption => write!(f, "has no caption"),
            Self::CaptionTooLong => {
                write!(f, "the caption has more than {MAX_CAPTION_CHARS} characters")
            }
            Self::CaptionNotUtf8 => write!(f, "the caption is not UTF-8"),
            Self::CaptionControl => write!(f, "the caption has a control character"),
            Self::Repeated => write!(f, "repeats an earlier one"),
            Self::NoPicture => write!(f, "has no picture"),
            Self::ManyPictures => write!(f, "has several pictures"),
            Self::Name => write!(f, "the name is not UTF-8 or has a control character"),
            Self::PictureTooLarge { got, limit } => {
                write!(f, "the picture has {got} bytes, at most {limit} are read")
            }
            Self::Unreadable { file, reason } => write!(f, "cannot read {file}: {reason}"),
            Self::Json { place, reason } => write!(f, "{place}: {reason}"),
            Self::UnknownImage { id } => write!(f, "image_id {id} is not among `images`"),
            Self::Vector { file, source } => write!(f, "{file}: {source}"),
            Self::Unusable { reason } => write!(f, "{reason}"),
            Self::Damaged { reason, lost: Some(lost) } => {
                write!(f, "{reason}; {lost} row(s) from here on are left out")
            }
            Self::Damaged { reason, lost: None } => {
                write!(f, "{reason}; the rest of the file is left out")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        for (shard, row) in [("metadata_3.parquet", 0), ("a:b/c d.jpg", u64::MAX), ("é", 7)] {
            let position = Position { shard: shard.to_owned(), row };
            assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }
        for text in ["", "a", ":1", "a:", "a:x", "a:-1", "a:18446744073709551616"] {
            let error = text.parse::<Position>().unwrap_err().to_string();
            assert!(error.contains("SHARD:ROW"), "{error}");
        }
    }
}
