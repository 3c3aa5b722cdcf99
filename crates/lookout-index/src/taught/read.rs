//! From bytes to the lessons in force.
//!
//! A record is written after the one before it is on the disk. So what is no whole record is the
//! beginning of an interrupted write only if nothing follows it; anything else is damage, and an error.

use std::io::Read;
use std::path::Path;

use super::record::{
    HEAD_BYTES, HEADER_BYTES, Head, Lesson, MAX_RECORD_BYTES, Record, check_header, decode,
};
use crate::IndexError;
use crate::index::open_regular;

/// A larger file is not read.
pub(super) const MAX_FILE_BYTES: u64 = 256 << 20;

/// What a file of lessons holds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Contents {
    /// Those in force, in their order.
    pub(super) lessons: Vec<Lesson>,
    /// The number of the last record; 0 without any.
    pub(super) last_number: u32,
    /// Where the last whole record ends.
    pub(super) end: usize,
    /// Bytes after that.
    pub(super) torn_bytes: usize,
}

pub(super) fn read(path: &Path, space: &str, dimension: usize) -> Result<Contents, IndexError> {
    let io_error = |source| IndexError::Read { path: path.to_path_buf(), source };
    let file = open_regular(path)?;
    if MAX_FILE_BYTES < file.metadata().map_err(io_error)?.len() {
        return Err(IndexError::TaughtFull { path: path.to_path_buf() });
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io_error)?;
    if MAX_FILE_BYTES < bytes.len() as u64 {
        return Err(IndexError::TaughtFull { path: path.to_path_buf() });
    }
    parse(path, &bytes, space, dimension)
}

pub(super) fn parse(
    path: &Path,
    bytes: &[u8],
    space: &str,
    dimension: usize,
) -> Result<Contents, IndexError> {
    check_header(path, bytes, space, dimension)?;
    let mut contents = Contents { end: HEADER_BYTES, ..Contents::default() };
    loop {
        let at = contents.end;
        let rest = &bytes[at..];
        let damaged = |reason| IndexError::TaughtDamaged { path: path.to_path_buf(), at, reason };
        let Some(head) = Head::read(rest) else {
            if MAX_RECORD_BYTES < rest.len() || has_head(rest) {
                return Err(damaged("a record must begin here"));
            }
            contents.torn_bytes = rest.len();
            return Ok(contents);
        };
        let end = HEAD_BYTES.saturating_add(head.body_bytes);
        let body = rest.get(HEAD_BYTES..end);
        let Some(body) = body.filter(|it| crc32fast::hash(it) == head.body_checksum) else {
            if end < rest.len() || MAX_RECORD_BYTES < end {
                return Err(damaged("the checksum of a record does not fit"));
            }
            contents.torn_bytes = rest.len();
            return Ok(contents);
        };
        if contents.last_number.checked_add(1) != Some(head.number) {
            return Err(damaged("a record must have the number after the one before it"));
        }
        match decode(head.number, body, dimension).map_err(damaged)? {
            Record::Lesson(it) => contents.lessons.push(it),
            Record::Undo(undone) => {
                let place = contents.lessons.iter().position(|it| it.number == undone);
                let place = place.ok_or_else(|| damaged("an undone lesson must be in force"))?;
                contents.lessons.remove(place);
            }
        }
        contents.last_number = head.number;
        contents.end += end;
    }
}

/// Whether a record's head stands anywhere in `bytes`.
fn has_head(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| Head::read(&bytes[at..]).is_some())
}
