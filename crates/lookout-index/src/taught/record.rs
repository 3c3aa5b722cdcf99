//! Header and records of a file of lessons, as bytes.

use std::path::Path;

use lookout_core::{Embedding, EmbeddingError};

use crate::IndexError;
use crate::captions::check_text;
use crate::format::{MAX_DIMENSION, MAX_SPACE_BYTES, u32_at};

/// Keys of a lesson, at most.
pub const MAX_KEYS: usize = 128;
/// The version written, and the only one read.
pub(super) const VERSION: u32 = 1;
pub(crate) const MAGIC: [u8; 8] = *b"\x89LTCH\r\n\x1a";
const SPACE: usize = 20;
const HEADER_CHECKSUM: usize = SPACE + MAX_SPACE_BYTES;
pub(super) const HEADER_BYTES: usize = HEADER_CHECKSUM + 4;

const MARKER: u32 = u32::from_le_bytes(*b"LSSN");
/// Marker, number, length and checksum of the body, checksum of these.
pub(super) const HEAD_BYTES: usize = 20;
const HEAD_CHECKSUM: usize = HEAD_BYTES - 4;
/// Kind, time.
const BODY_START: usize = 9;
const LESSON: u8 = 1;
const UNDO: u8 = 2;
/// Of a caption of 1000 characters.
const MAX_TEXT_BYTES: usize = 4000;
/// Bytes of a record, at most.
pub(super) const MAX_RECORD_BYTES: usize =
    HEAD_BYTES + BODY_START + 4 + MAX_TEXT_BYTES + (1 + MAX_KEYS) * MAX_DIMENSION * 4;

/// What was said of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// Its number in the file, from 1; an undone one's is not given again.
    pub number: u32,
    /// When it was taught, in seconds since the Unix epoch; `None` where the clock was not synchronized.
    pub taught_at: Option<u64>,
    /// What was said: 1 to 1000 characters without control characters.
    pub caption: String,
    /// The caption's embedding.
    pub embedding: Embedding,
    /// Embeddings of the picture as it is and in some other views, 1 to [`MAX_KEYS`].
    pub keys: Vec<Embedding>,
}

/// A record's meaning.
#[derive(Debug, PartialEq)]
pub(super) enum Record {
    Lesson(Lesson),
    /// The lesson of this number does not hold any more.
    Undo(u32),
}

/// What stands before a record's body.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) number: u32,
    pub(super) body_bytes: usize,
    pub(super) body_checksum: u32,
}

pub(super) fn header(space: &str, dimension: usize) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    #[expect(clippy::cast_possible_truncation, reason = "both are checked to be small")]
    for number in [VERSION, dimension as u32, space.len() as u32] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(space.as_bytes());
    bytes.resize(HEADER_CHECKSUM, 0);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Errs unless `bytes` begin with the header of lessons of this space.
pub(super) fn check_header(
    path: &Path,
    bytes: &[u8],
    space: &str,
    dimension: usize,
) -> Result<(), IndexError> {
    let path = path.to_path_buf();
    if !bytes.starts_with(&MAGIC) {
        return Err(IndexError::NotTaught { path });
    }
    let damaged = |reason| Err(IndexError::TaughtDamaged { path: path.clone(), at: 0, reason });
    if bytes.len() < HEADER_BYTES {
        return damaged("the header is cut off");
    }
    // Another version may have another header.
    let got = u32_at(bytes, MAGIC.len());
    if got != VERSION {
        return Err(IndexError::TaughtVersion { path, got });
    }
    if crc32fast::hash(&bytes[..HEADER_CHECKSUM]) != u32_at(bytes, HEADER_CHECKSUM) {
        return damaged("the header's checksum does not fit");
    }
    let n_space = u32_at(bytes, 16) as usize;
    let text = bytes[SPACE..HEADER_CHECKSUM].get(..n_space).and_then(|it| str::from_utf8(it).ok());
    let Some(got) = text else { return damaged("the header's embedding space is no name") };
    let got_dimension = u32_at(bytes, 12) as usize;
    if (got, got_dimension) != (space, dimension) {
        return Err(IndexError::TaughtSpace {
            path,
            expected: space.to_owned(),
            expected_dimension: dimension,
            got: got.to_owned(),
            got_dimension,
        });
    }
    Ok(())
}

impl Head {
    /// The head at the beginning of `bytes`; `None` where there is none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEAD_BYTES)?;
        let is_whole = u32_at(bytes, 0) == MARKER
            && crc32fast::hash(&bytes[..HEAD_CHECKSUM]) == u32_at(bytes, HEAD_CHECKSUM);
        is_whole.then(|| Self {
            number: u32_at(bytes, 4),
            body_bytes: u32_at(bytes, 8) as usize,
            body_checksum: u32_at(bytes, 12),
        })
    }
}

/// A record of `number`. `taught_at` is that of its writing.
pub(super) fn encode(number: u32, taught_at: Option<u64>, record: &Record) -> Vec<u8> {
    let mut body = Vec::new();
    body.push(match record {
        Record::Lesson(_) => LESSON,
        Record::Undo(_) => UNDO,
    });
    body.extend(taught_at.unwrap_or(0).to_le_bytes());
    match record {
        Record::Undo(undone) => body.extend(undone.to_le_bytes()),
        Record::Lesson(lesson) => {
            #[expect(clippy::cast_possible_truncation, reason = "both are checked to be small")]
            for length in [lesson.caption.len() as u16, lesson.keys.len() as u16] {
                body.extend(length.to_le_bytes());
            }
            body.extend(lesson.caption.as_bytes());
            let vectors = [&lesson.embedding].into_iter().chain(&lesson.keys);
            body.extend(vectors.flat_map(Embedding::as_slice).flat_map(|it| it.to_le_bytes()));
        }
    }
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    #[expect(clippy::cast_possible_truncation, reason = "at most MAX_RECORD_BYTES")]
    for field in [MARKER, number, body.len() as u32, crc32fast::hash(&body)] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// The record of `number` whose body, of the right checksum, this is. Errs with the rule that it breaks.
pub(super) fn decode(number: u32, body: &[u8], dimension: usize) -> Result<Record, &'static str> {
    const CUT: &str = "a record must have the length that it needs";
    let (&kind, rest) = body.split_first().ok_or(CUT)?;
    let (time, rest) = rest.split_first_chunk().ok_or(CUT)?;
    let time = u64::from_le_bytes(*time);
    match kind {
        UNDO => Ok(Record::Undo(u32::from_le_bytes(rest.try_into().map_err(|_| CUT)?))),
        LESSON => {
            let (lengths, rest) = rest.split_first_chunk::<4>().ok_or(CUT)?;
            let [n_text, n_keys] =
                [0, 2].map(|at| u16::from_le_bytes([lengths[at], lengths[at + 1]]));
            let (text, vectors) = rest.split_at_checked(n_text.into()).ok_or(CUT)?;
            if !(1..=MAX_KEYS).contains(&n_keys.into()) {
                return Err("a lesson must have 1 to 128 keys");
            }
            if vectors.len() != (1 + usize::from(n_keys)) * dimension * 4 {
                return Err(CUT);
            }
            let text = str::from_utf8(text).ok().filter(|it| check_text(it) == Ok(*it));
            let caption = text.ok_or("a caption must be text of 1 to 1000 characters")?.to_owned();
            let mut vectors = vectors.chunks_exact(dimension * 4).map(embedding);
            let unit = |it: Option<Result<Embedding, EmbeddingError>>| {
                it.and_then(Result::ok).ok_or("embeddings must be unit vectors")
            };
            let embedding = unit(vectors.next())?;
            let keys = vectors.map(|it| unit(Some(it))).collect::<Result<_, _>>()?;
            let taught_at = (time != 0).then_some(time);
            Ok(Record::Lesson(Lesson { number, taught_at, caption, embedding, keys }))
        }
        _ => Err("a record must be a lesson or undo one"),
    }
}

fn embedding(bytes: &[u8]) -> Result<Embedding, EmbeddingError> {
    Embedding::from_unit(bytes.as_chunks().0.iter().map(|it| f32::from_le_bytes(*it)).collect())
}
