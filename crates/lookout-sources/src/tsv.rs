//! Captions in a table, one row a line, with tabs between its columns.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use crate::SourceError;
use crate::caption::{MAX_CAPTION_BYTES, caption};
use crate::entry::{BadRow, Content, Entry, Fault, Position, Row};
use crate::files::{open, plain_name};
use crate::source::{Gives, Progress, Reader, Unit};

/// The heading of the column that is read.
const HEADING: &str = "caption";
/// Columns of a message, and characters of each.
const MAX_COLUMNS: usize = 8;
const MAX_COLUMN_CHARS: usize = 30;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Gives the captions of the column headed `caption`; without a heading there must be one column. There
/// is no quoting. Blank lines mean nothing.
pub(crate) struct Tsv {
    path: PathBuf,
    shard: String,
    reader: BufReader<File>,
    n_bytes: u64,
    /// Bytes and lines behind.
    at: u64,
    line: u64,
    column: usize,
    /// A hash of each caption, upper case aside.
    seen: HashSet<u64>,
    buffer: Vec<u8>,
    n_rows: u64,
}

impl Tsv {
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let (file, n_bytes) = open(path)?;
        let shard = path.file_name().and_then(plain_name);
        let shard = shard.ok_or_else(|| SourceError::Name { path: path.to_path_buf() })?.to_owned();
        let mut new = Self {
            path: path.to_path_buf(),
            shard,
            reader: BufReader::new(file),
            n_bytes,
            at: 0,
            line: 0,
            column: 0,
            seen: HashSet::new(),
            buffer: Vec::new(),
            n_rows: 0,
        };
        new.check_heading()?;
        Ok(new)
    }

    /// Errs when the first line has columns and none is headed so: a column that holds something else
    /// would give an index of nonsense.
    fn check_heading(&mut self) -> Result<(), SourceError> {
        let error = |source| SourceError::Read { path: self.path.clone(), source };
        let mut first = Vec::new();
        let limit = MAX_CAPTION_BYTES as u64;
        self.reader.by_ref().take(limit).read_until(b'\n', &mut first).map_err(error)?;
        self.reader.rewind().map_err(error)?;
        let first = first.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&first);
        if !first.contains(&b'\t') || first.split(|it| *it == b'\t').any(is_heading) {
            return Ok(());
        }
        let first = String::from_utf8_lossy(first);
        let columns = first.trim_end().split('\t').take(MAX_COLUMNS);
        let got: Vec<String> =
            columns.map(|it| it.chars().take(MAX_COLUMN_CHARS).collect()).collect();
        Err(SourceError::Heading { path: self.path.clone(), got: got.join(", ") })
    }

    /// Reads a line into the buffer, without its end. `None` when there is none, `Some(false)` when
    /// it is too long and was passed over.
    fn read_line(&mut self) -> io::Result<Option<bool>> {
        self.buffer.clear();
        let limit = MAX_CAPTION_BYTES as u64;
        let n = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.buffer)?;
        if n == 0 {
            return Ok(None);
        }
        self.at += n as u64;
        self.line += 1;
        let ended = self.buffer.pop_if(|it| *it == b'\n').is_some();
        if !ended && n as u64 == limit {
            self.at += self.reader.skip_until(b'\n')? as u64;
            return Ok(Some(false));
        }
        self.buffer.pop_if(|it| *it == b'\r');
        Ok(Some(true))
    }

    /// What the next line gives, if it is no heading and not blank; `None` at the end.
    fn next_line(&mut self) -> Option<Option<Row>> {
        let complete = match self.read_line() {
            Ok(None) => return None,
            Ok(Some(complete)) => complete,
            Err(error) => {
                self.line += 1;
                // Nothing is behind it.
                self.at = self.n_bytes;
                let reason = format!("cannot be read: {error}");
                let fault = Fault::Damaged { reason, lost: None };
                return Some(Some(Err(BadRow { position: self.position(), fault })));
            }
        };
        if self.line == 1 {
            if self.buffer.starts_with(BYTE_ORDER_MARK) {
                self.buffer.drain(..BYTE_ORDER_MARK.len());
            }
            if let Some(heading) = self.buffer.split(|it| *it == b'\t').position(is_heading) {
                self.column = heading;
                return Some(None);
            }
        }
        if self.buffer.iter().all(|it| it.is_ascii_whitespace() && *it != b'\t') {
            return Some(None);
        }
        let position = self.position();
        let found = if complete { self.caption() } else { Err(Fault::CaptionTooLong) };
        Some(Some(match found {
            Ok(caption) => Ok(Entry { position, caption, content: Content::Nothing }),
            Err(fault) => Err(BadRow { position, fault }),
        }))
    }

    fn caption(&mut self) -> Result<String, Fault> {
        let field = self.buffer.split(|it| *it == b'\t').nth(self.column);
        let caption = caption(field.ok_or(Fault::NoCaption)?)?;
        let mut hasher = DefaultHasher::new();
        caption.to_lowercase().hash(&mut hasher);
        if self.seen.insert(hasher.finish()) { Ok(caption) } else { Err(Fault::Repeated) }
    }

    fn position(&self) -> Position {
        Position { shard: self.shard.clone(), row: self.line }
    }
}

fn is_heading(column: &[u8]) -> bool {
    column.trim_ascii().eq_ignore_ascii_case(HEADING.as_bytes())
}

impl Reader for Tsv {
    fn next(&mut self) -> Option<Row> {
        while self.at < self.n_bytes {
            if let Some(row) = self.next_line()? {
                self.n_rows += 1;
                return Some(row);
            }
        }
        None
    }

    fn resume(&mut self, row: u64, shard: &str) -> Result<(), &'static str> {
        if shard != self.shard {
            return Err("the source has another name");
        }
        self.reader.rewind().map_err(|_| "the file cannot be read")?;
        (self.at, self.line, self.column) = (0, 0, 0);
        self.seen.clear();
        // All lines before are read again: what a later one may repeat has to be known.
        while self.line + 1 < row {
            self.next_line().ok_or("the file has fewer rows")?;
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        let done = self.at.min(self.n_bytes);
        Progress { rows: self.n_rows, done, total: self.n_bytes, unit: Unit::Bytes }
    }

    fn gives(&self) -> Gives {
        Gives::Captions
    }

    fn inputs(&self) -> Box<dyn Iterator<Item = PathBuf> + '_> {
        Box::new(std::iter::once(self.path.clone()))
    }
}
