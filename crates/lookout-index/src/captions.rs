//! Captions from a tab-separated file, row by row.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::IndexError;
use crate::format::{MAX_ENTRIES, MAX_TEXT_CHARS};

/// A longer row is skipped without being held in memory.
const MAX_ROW_BYTES: u64 = 64 * 1024;
/// Faulty rows that are kept for a report.
const MAX_LISTED: usize = 5;
/// The heading of the column that is read.
const HEADING: &str = "caption";
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Why a caption is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptionFault {
    /// Nothing is left after trimming, or the row ends before the column.
    Empty,
    /// Longer than 1000 characters, or in a row of more than 64 KiB.
    TooLong,
    /// Not UTF-8.
    NotUtf8,
    /// Has a control character, which could steer a terminal.
    Control,
    /// Equal to an earlier one after trimming and case folding.
    Duplicate,
    /// Nothing is left for the model, as of invisible characters. Only the model can tell.
    NoTokens,
}

impl fmt::Display for CaptionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "is empty"),
            Self::TooLong => write!(f, "has more than {MAX_TEXT_CHARS} characters"),
            Self::NotUtf8 => write!(f, "is not UTF-8"),
            Self::Control => write!(f, "has a control character"),
            Self::Duplicate => write!(f, "repeats an earlier one"),
            Self::NoTokens => write!(f, "has nothing that the model reads"),
        }
    }
}

/// A row that was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkippedRow {
    /// Its line in the file, from 1.
    pub line: u64,
    /// Why.
    pub fault: CaptionFault,
}

impl fmt::Display for SkippedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, which {}", self.line, self.fault)
    }
}

/// The captions of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captions {
    /// The captions, trimmed, in the file's order, without duplicates.
    pub texts: Vec<String>,
    /// The line of each in the file, from 1.
    pub lines: Vec<u64>,
    /// Number of rows left out.
    pub n_skipped: u64,
    /// The first few of them.
    pub skipped: Vec<SkippedRow>,
}

impl Captions {
    /// Counts a row as left out, and lists it if it is one of the first.
    pub fn leave_out(&mut self, row: SkippedRow) {
        self.n_skipped += 1;
        let place = self.skipped.partition_point(|it| it.line < row.line);
        self.skipped.insert(place, row);
        self.skipped.truncate(MAX_LISTED);
    }
}

/// Errs unless `text` can be a caption: 1 to 1000 characters, without control characters.
pub fn check_caption(text: &str) -> Result<(), IndexError> {
    check_text(text).map(|_| ()).map_err(|fault| IndexError::Caption { entry: 0, fault })
}

/// Checks one caption and trims it.
pub(crate) fn check_text(text: &str) -> Result<&str, CaptionFault> {
    let text = text.trim();
    if text.is_empty() {
        Err(CaptionFault::Empty)
    } else if text.chars().nth(MAX_TEXT_CHARS).is_some() {
        Err(CaptionFault::TooLong)
    } else if text.chars().any(char::is_control) {
        Err(CaptionFault::Control)
    } else {
        Ok(text)
    }
}

/// Reads the captions of `path`: the column headed `caption` where the first row has such a
/// column, the first column of every row otherwise. Columns are separated by tabs; there is no
/// quoting. Blank lines mean nothing; a faulty row is counted and left out. Errs when the file
/// cannot be read, has no usable caption, or has more than an index holds.
pub fn read_captions(path: &Path) -> Result<Captions, IndexError> {
    let io_error = |source| IndexError::Read { path: path.to_path_buf(), source };
    let file = open_regular(path)?;
    let mut reader = BufReader::new(file);
    let mut captions = Captions::default();
    let mut seen = HashSet::new();
    let (mut line, mut n_rows, mut text_bytes) = (0, 0, 0u64);
    let mut column = 0;
    let mut row = Vec::new();
    while let Some(complete) = next_row(&mut reader, &mut row).map_err(io_error)? {
        line += 1;
        if line == 1 {
            if row.starts_with(BYTE_ORDER_MARK) {
                row.drain(..BYTE_ORDER_MARK.len());
            }
            if let Some(heading) = row.split(|it| *it == b'\t').position(is_heading) {
                column = heading;
                continue;
            }
        }
        if row.iter().all(|it| it.is_ascii_whitespace() && *it != b'\t') {
            continue;
        }
        n_rows += 1;
        let caption = if complete { caption_of(&row, column) } else { Err(CaptionFault::TooLong) };
        let caption = caption.and_then(|text| {
            // A hash keeps memory bounded by the number of rows, not by their length.
            let hash = Sha256::digest(text.to_lowercase());
            if seen.insert(hash) { Ok(text) } else { Err(CaptionFault::Duplicate) }
        });
        match caption {
            Ok(text) => {
                text_bytes += text.len() as u64;
                if captions.texts.len() == MAX_ENTRIES || text_bytes > u64::from(u32::MAX) {
                    return Err(IndexError::TooManyCaptions { path: path.to_path_buf() });
                }
                captions.texts.push(text.to_owned());
                captions.lines.push(line);
            }
            Err(fault) => captions.leave_out(SkippedRow { line, fault }),
        }
    }
    if captions.texts.is_empty() {
        let first = captions.skipped.first().copied();
        return Err(IndexError::NoCaptions { path: path.to_path_buf(), n_rows, first });
    }
    Ok(captions)
}

/// Opens a file, refusing what could block or never end.
pub(crate) fn open_regular(path: &Path) -> Result<File, IndexError> {
    let io_error = |source| IndexError::Read { path: path.to_path_buf(), source };
    // Asked before opening: opening a pipe waits for a writer.
    if !path.metadata().map_err(io_error)?.is_file() {
        return Err(IndexError::NotAFile { path: path.to_path_buf() });
    }
    File::open(path).map_err(io_error)
}

/// Reads one row without its line end into `row`; `None` at the end of the file, `Some(false)`
/// when the row was too long and its rest was passed over.
fn next_row(reader: &mut impl BufRead, row: &mut Vec<u8>) -> std::io::Result<Option<bool>> {
    row.clear();
    if reader.by_ref().take(MAX_ROW_BYTES).read_until(b'\n', row)? == 0 {
        return Ok(None);
    }
    let ended = row.last() == Some(&b'\n');
    if !ended && row.len() as u64 == MAX_ROW_BYTES {
        reader.skip_until(b'\n')?;
        return Ok(Some(false));
    }
    if ended {
        row.pop();
    }
    if row.last() == Some(&b'\r') {
        row.pop();
    }
    Ok(Some(true))
}

fn is_heading(column: &[u8]) -> bool {
    column.trim_ascii().eq_ignore_ascii_case(HEADING.as_bytes())
}

fn caption_of(row: &[u8], column: usize) -> Result<&str, CaptionFault> {
    let text = row.split(|it| *it == b'\t').nth(column).ok_or(CaptionFault::Empty)?;
    check_text(str::from_utf8(text).map_err(|_| CaptionFault::NotUtf8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(contents: &[u8]) -> Result<Captions, IndexError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("captions.tsv");
        std::fs::write(&path, contents).unwrap();
        read_captions(&path)
    }

    #[test]
    fn reads_the_caption_column_or_the_first() {
        let cases: [(&str, &[&str]); 7] = [
            ("id\tcaption\tlicence\n1\ta cat\tCC\n2\ta dog\tCC\n", &["a cat", "a dog"]),
            ("\u{feff}Caption\r\na cat\r\n\r\n a dog \r\n", &["a cat", "a dog"]),
            ("a cat\ta note\na dog", &["a cat", "a dog"]),
            ("\u{feff}a cat", &["a cat"]),
            ("caption\ncaption\n", &["caption"]),
            ("a caption\nMÄDCHEN\nmädchen\n", &["a caption", "MÄDCHEN"]),
            ("\n\na cat\n", &["a cat"]),
        ];
        for (contents, expected) in cases {
            let captions = read(contents.as_bytes()).unwrap();
            assert_eq!(captions.texts, expected, "{contents:?}");
            assert_eq!(captions.lines.len(), expected.len());
        }
    }

    #[test]
    fn counts_faulty_rows_and_goes_on() {
        let mut contents = b"id\tcaption\n1\ta cat\n2\n3\t \n4\t".to_vec();
        contents.extend(b"a \xff dog\n5\tA CAT \n6\tred \x1b[31m\n7\t");
        contents.extend("x".repeat(1001).bytes());
        contents.extend(b"\n8\t");
        contents.extend("y".repeat(200_000).bytes());
        contents.extend(b"\n9\t");
        contents.extend("é".repeat(1000).bytes());
        let captions = read(&contents).unwrap();
        assert_eq!(captions.texts, ["a cat".to_owned(), "é".repeat(1000)]);
        assert_eq!((captions.n_skipped, captions.lines), (7, vec![2, 10]));
        let skipped: Vec<_> = captions.skipped.iter().map(|it| (it.line, it.fault)).collect();
        let expected = [
            (3, CaptionFault::Empty),
            (4, CaptionFault::Empty),
            (5, CaptionFault::NotUtf8),
            (6, CaptionFault::Duplicate),
            (7, CaptionFault::Control),
        ];
        assert_eq!(skipped, expected);
    }

    #[test]
    fn names_the_file_that_has_no_captions() {
        let cases: [(&[u8], &str); 4] = [
            (b"", "no usable caption in 0 row(s)"),
            (b"\n \n", "no usable caption in 0 row(s)"),
            (b"id\tcaption\n", "no usable caption in 0 row(s)"),
            (
                b"\x00\xff\n\x00\n",
                "in 2 row(s), the first faulty one being line 1, which is not UTF-8",
            ),
        ];
        for (contents, expected) in cases {
            let message = read(contents).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("captions.tsv"), "{message}");
        }
        let dir = tempfile::tempdir().unwrap();
        let missing = read_captions(&dir.path().join("gone.tsv")).unwrap_err();
        assert!(missing.to_string().contains("gone.tsv"), "{missing}");
        let folder = read_captions(dir.path()).unwrap_err();
        assert!(folder.to_string().ends_with("must be a regular file"), "{folder}");
        let endless = read_captions(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(endless, IndexError::NotAFile { .. }), "{endless}");
    }
}
