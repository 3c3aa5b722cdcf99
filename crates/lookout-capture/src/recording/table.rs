//! The table of a recording, a row a line, with tabs between its columns. There is no quoting, blank
//! lines mean nothing, and columns of other headings are passed over.

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
    /// Of the columns that mean nothing.
    other_headings: Vec<String>,
    line: u64,
    last_at: Duration,
    failed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Columns {
    file: Option<usize>,
    seconds: usize,
    truth: Option<usize>,
    /// How many there are, other ones among them.
    n: usize,
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
    /// Headings of columns that mean nothing.
    pub(super) other_headings: Vec<String>,
}

impl Table {
    /// Checks the whole table before its first row is given.
    pub(super) fn open(path: &Path, kind: Kind) -> Result<(Self, Seen), RecordingError> {
        let mut table = Self::start(path, kind)?;
        let other_headings = std::mem::take(&mut table.other_headings);
        let mut seen = Seen { other_headings, ..Seen::default() };
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
        let mut table = Self {
            path: path.to_owned(),
            reader,
            columns: Columns::default(),
            other_headings: Vec::new(),
            line: 0,
            last_at: Duration::ZERO,
            failed: false,
        };
        let heading = table.read_line()?.unwrap_or_default();
        table.take_headings(heading.trim_start_matches(BYTE_ORDER_MARK), kind)?;
        Ok(table)
    }

    fn take_headings(&mut self, line: &str, kind: Kind) -> Result<(), RecordingError> {
        let headings: Vec<&str> = line.split('\t').map(str::trim).collect();
        let find = |name: &'static str| {
            let mut places =
                (0..headings.len()).filter(|it| headings[*it].eq_ignore_ascii_case(name));
            match (places.next(), places.next()) {
                (Some(first), Some(second)) => Err(RecordingError::SameHeading {
                    path: self.path.clone(),
                    name,
                    columns: (first + 1, second + 1),
                }),
                (column, _) => Ok(column),
            }
        };
        let file = if kind == Kind::Files { find("file")? } else { None };
        let (seconds, truth) = (find("seconds")?, find("truth")?);
        let is_other = |it: &(usize, &&str)| ![file, seconds, truth].contains(&Some(it.0));
        self.other_headings =
            headings.iter().enumerate().filter(is_other).map(|it| shown(it.1)).collect();
        let rule = match kind {
            Kind::Files => "`file` and `seconds`, and `truth` where it is known",
            Kind::Spells => "`seconds` and `truth`",
        };
        self.columns = match (kind, file, seconds, truth) {
            (Kind::Files, Some(_), Some(seconds), _)
            | (Kind::Spells, _, Some(seconds), Some(_)) => {
                Columns { file, seconds, truth, n: headings.len() }
            }
            _ => {
                let (path, got) = (self.path.clone(), shown(line));
                return Err(RecordingError::Heading { path, rule, got });
            }
        };
        Ok(())
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
        if bytes.pop_if(|it| *it == b'\n').is_none() && n as u64 == MAX_LINE_BYTES {
            return Err(self.line_error(format!("have less than {MAX_LINE_BYTES} bytes")));
        }
        bytes.pop_if(|it| *it == b'\r');
        String::from_utf8(bytes).map(Some).map_err(|_| self.line_error("be UTF-8".to_owned()))
    }

    fn row(&mut self, line: &str) -> Result<Row, RecordingError> {
        let (most, got) = (self.columns.n, line.split('\t').count());
        if most < got {
            let rule = format!("have at most {most} cells, as the headings, got {got}");
            return Err(self.line_error(rule));
        }
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

    fn line_error(&self, rule: String) -> RecordingError {
        RecordingError::Line { path: self.path.clone(), line: self.line, rule }
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
