//! The table of a recording, a row a line, with tabs between its columns. There is no quoting, blank
//! lines mean nothing, and columns of other names are passed over.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::{RecordingError, Truth};

const MAX_LINE_BYTES: u64 = 16 << 10;
/// The longest recording, some 30 years.
const MAX_SECONDS: f64 = 1e9;
/// Different things that may be said of frames.
const MAX_TRUTHS: usize = 10_000;
/// Characters of a value in a message.
const MAX_SHOWN: usize = 60;
const NO_LABEL: &str = "none";
const BYTE_ORDER_MARK: char = '\u{feff}';

/// What a table lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Frames: `file`, `seconds`, and `truth` if it is there.
    Files,
    /// Times from which on something is right: `seconds` and `truth`.
    Spells,
}

/// Rows in order of time.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    reader: BufReader<File>,
    columns: Columns,
    line: u64,
    last_at: Duration,
    failed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Columns {
    file: Option<usize>,
    seconds: usize,
    truth: Option<usize>,
}

/// A row.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub(super) at: Duration,
    /// Empty in a table of spells.
    pub(super) file: String,
    pub(super) truth: Truth,
}

/// What a table holds.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) n_rows: u64,
    /// What is said, and the line where it stands first.
    pub(super) truths: BTreeMap<String, u64>,
}

impl Table {
    /// Checks the whole table before its first row is given.
    pub(super) fn open(path: &Path, kind: Kind) -> Result<(Self, Seen), RecordingError> {
        let mut table = Self::start(path, kind)?;
        let mut seen = Seen::default();
        while let Some(row) = table.next() {
            seen.n_rows += 1;
            if let Truth::Class(name) = row?.truth {
                let n = seen.truths.len();
                seen.truths.entry(name).or_insert(table.line);
                if MAX_TRUTHS < seen.truths.len() {
                    let rule = format!("name at most {MAX_TRUTHS} different classes");
                    return Err(table.row_error("truth", rule, &format!("{}", n + 1)));
                }
            }
        }
        if seen.n_rows == 0 {
            return Err(RecordingError::NoRows { path: path.to_owned() });
        }
        Ok((Self::start(path, kind)?, seen))
    }

    /// At the first row.
    fn start(path: &Path, kind: Kind) -> Result<Self, RecordingError> {
        let unreadable = |source| RecordingError::Unreadable { path: path.to_owned(), source };
        // Looked at before it is opened, because opening a pipe waits for a writer.
        if !fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(unreadable(io::Error::other("it must be a regular file")));
        }
        let reader = BufReader::new(File::open(path).map_err(unreadable)?);
        let columns = Columns { file: None, seconds: 0, truth: None };
        let path = path.to_owned();
        let mut table =
            Self { path, reader, columns, line: 0, last_at: Duration::ZERO, failed: false };
        let heading = table.read_line()?.unwrap_or_default();
        table.columns = table.columns_of(heading.trim_start_matches(BYTE_ORDER_MARK), kind)?;
        Ok(table)
    }

    fn columns_of(&self, heading: &str, kind: Kind) -> Result<Columns, RecordingError> {
        let find = |name: &str| heading.split('\t').position(|it| it.trim() == name);
        let (file, seconds, truth) = (find("file"), find("seconds"), find("truth"));
        let rule = match kind {
            Kind::Files => "`file` and `seconds`, and `truth` where it is known",
            Kind::Spells => "`seconds` and `truth`",
        };
        match (kind, file, seconds, truth) {
            (Kind::Files, Some(_), Some(seconds), _) => Ok(Columns { file, seconds, truth }),
            (Kind::Spells, _, Some(seconds), Some(_)) => Ok(Columns { file: None, seconds, truth }),
            _ => {
                Err(RecordingError::Heading { path: self.path.clone(), rule, got: shown(heading) })
            }
        }
    }

    /// The next line without its end.
    fn read_line(&mut self) -> Result<Option<String>, RecordingError> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes);
        let n =
            read.map_err(|source| RecordingError::Unreadable { path: self.path.clone(), source })?;
        if n == 0 {
            return Ok(None);
        }
        self.line += 1;
        let fault = |rule| RecordingError::Line { path: self.path.clone(), line: self.line, rule };
        if bytes.pop_if(|it| *it == b'\n').is_none() && n as u64 == MAX_LINE_BYTES {
            return Err(fault("have less than 16384 bytes"));
        }
        bytes.pop_if(|it| *it == b'\r');
        String::from_utf8(bytes).map(Some).map_err(|_| fault("be UTF-8"))
    }

    fn row(&mut self, line: &str) -> Result<Row, RecordingError> {
        let column = |idx: usize| line.split('\t').nth(idx).unwrap_or_default();
        let text = column(self.columns.seconds).trim();
        let seconds = text.parse::<f64>().ok().filter(|it| (0.0..=MAX_SECONDS).contains(it));
        let Some(at) = seconds.and_then(|it| Duration::try_from_secs_f64(it).ok()) else {
            let rule = format!("be seconds since the beginning, 0 to {MAX_SECONDS}");
            return Err(self.row_error("seconds", rule, text));
        };
        if at < self.last_at {
            let rule = format!("not go back, after {} in a row before", self.last_at.as_secs_f64());
            return Err(self.row_error("seconds", rule, text));
        }
        self.last_at = at;
        let file = self.columns.file.map_or("", column);
        if self.columns.file.is_some() && !is_inside(Path::new(file)) {
            let rule = "be the path of a picture inside the folder".to_owned();
            return Err(self.row_error("file", rule, file));
        }
        let truth = match self.columns.truth.map_or("", column).trim() {
            "" => Truth::Unsaid,
            name if name.eq_ignore_ascii_case(NO_LABEL) => Truth::NoLabel,
            name => Truth::Class(name.to_owned()),
        };
        Ok(Row { at, file: file.to_owned(), truth })
    }

    fn row_error(&self, column: &'static str, rule: String, got: &str) -> RecordingError {
        RecordingError::Row {
            path: self.path.clone(),
            line: self.line,
            column,
            rule,
            got: shown(got),
        }
    }
}

impl Iterator for Table {
    type Item = Result<Row, RecordingError>;

    /// Ends after the first error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        loop {
            let row = match self.read_line() {
                Ok(None) => return None,
                Ok(Some(line)) if line.trim().is_empty() => continue,
                Ok(Some(line)) => self.row(&line),
                Err(error) => Err(error),
            };
            self.failed = row.is_err();
            return Some(row);
        }
    }
}

fn is_inside(file: &Path) -> bool {
    file.file_name().is_some()
        && file.components().all(|it| matches!(it, Component::Normal(_) | Component::CurDir))
}

fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}
