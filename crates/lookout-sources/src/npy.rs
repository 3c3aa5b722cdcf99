//! Tables of embeddings in numpy's format, row by row.
//!
//! The header is a Python literal, and crates for `.npy` bring a parser for all of Python's
//! literals, recursive and with big integers. Ours takes the three keys that numpy writes.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::f16;

use crate::SourceError;
use crate::files::open;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// numpy itself refuses longer headers.
const MAX_HEADER_BYTES: u64 = 10_000;
/// As many as an index takes.
const MAX_DIMENSION: u64 = 4096;

pub(crate) struct Npy {
    reader: BufReader<File>,
    begin: u64,
    n_rows: u64,
    dimension: usize,
    is_half: bool,
    row: Vec<u8>,
}

impl Npy {
    /// Checks the header, and that the file has as many bytes as it says.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let (mut file, length) = open(path)?;
        let wrong = |rule, got: String| SourceError::Npy { path: PathBuf::from(path), rule, got };
        let read = |bytes: &mut [u8], file: &mut File| {
            file.read_exact(bytes).map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => {
                    wrong("the header must be whole", format!("{length} bytes"))
                }
                _ => SourceError::Read { path: path.to_path_buf(), source },
            })
        };
        let mut start = [0; 8];
        read(&mut start, &mut file)?;
        if &start[..6] != MAGIC {
            return Err(wrong("the file must begin as numpy's do", format!("{:?}", &start[..6])));
        }
        let (header_bytes, before) = match start[6..] {
            [1, 0] => {
                let mut bytes = [0; 2];
                read(&mut bytes, &mut file)?;
                (u64::from(u16::from_le_bytes(bytes)), 10)
            }
            [2 | 3, 0] => {
                let mut bytes = [0; 4];
                read(&mut bytes, &mut file)?;
                (u64::from(u32::from_le_bytes(bytes)), 12)
            }
            _ => {
                let got = format!("{}.{}", start[6], start[7]);
                return Err(wrong("the format version must be 1.0, 2.0 or 3.0", got));
            }
        };
        if header_bytes > MAX_HEADER_BYTES {
            let got = header_bytes.to_string();
            return Err(wrong("the header must have at most 10000 bytes", got));
        }
        let mut text = vec![0; usize::try_from(header_bytes).unwrap_or(0)];
        read(&mut text, &mut file)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let header = parse(&text).ok_or_else(|| {
            wrong(
                "the header must have descr, fortran_order and shape",
                format!("{:?}", text.trim_end()),
            )
        })?;
        let is_half = match header.descr {
            "<f2" => true,
            "<f4" => false,
            other => {
                return Err(wrong("descr must be '<f2' or '<f4'", format!("{other:?}")));
            }
        };
        if header.fortran_order {
            return Err(wrong("fortran_order must be False", "True".to_owned()));
        }
        let (n_rows, dimension) = match header.shape[..] {
            [n_rows, dimension @ 1..=MAX_DIMENSION] => (n_rows, dimension),
            _ => {
                let got = format!("{:?}", header.shape);
                return Err(wrong("shape must be rows and 1 to 4096 dimensions", got));
            }
        };
        let row_bytes = dimension * if is_half { 2 } else { 4 };
        let begin = before + header_bytes;
        let expected = row_bytes.checked_mul(n_rows).and_then(|it| it.checked_add(begin));
        if expected != Some(length) {
            let got =
                format!("{n_rows} rows of {row_bytes} bytes after {begin}, and {length} in all");
            return Err(wrong("the file must have the bytes that its header declares", got));
        }
        let reader = BufReader::new(file);
        let row_bytes = usize::try_from(row_bytes).unwrap_or(usize::MAX);
        let dimension = usize::try_from(dimension).unwrap_or(usize::MAX);
        Ok(Self { reader, begin, n_rows, dimension, is_half, row: vec![0; row_bytes] })
    }

    pub(crate) fn n_rows(&self) -> u64 {
        self.n_rows
    }

    pub(crate) fn dimension(&self) -> usize {
        self.dimension
    }

    /// Makes row `row`, at most the number of rows, the next one.
    pub(crate) fn seek(&mut self, row: u64) -> io::Result<()> {
        let offset = self.begin + row.min(self.n_rows) * self.row.len() as u64;
        self.reader.seek(SeekFrom::Start(offset)).map(drop)
    }

    /// The next row.
    pub(crate) fn read(&mut self) -> io::Result<Vec<f32>> {
        self.reader.read_exact(&mut self.row)?;
        Ok(if self.is_half {
            let (values, _) = self.row.as_chunks();
            values.iter().map(|it| f16::from_le_bytes(*it).to_f32()).collect()
        } else {
            let (values, _) = self.row.as_chunks();
            values.iter().map(|it| f32::from_le_bytes(*it)).collect()
        })
    }
}

struct Header<'a> {
    descr: &'a str,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, in any order.
fn parse(text: &str) -> Option<Header<'_>> {
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim_start();
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        let value = after.trim_start().strip_prefix(':')?.trim_start();
        let after = match key {
            "descr" => {
                let (value, after) = quoted(value)?;
                descr = Some(value);
                after
            }
            "fortran_order" => {
                let (is_true, word) =
                    if value.starts_with("True") { (true, "True") } else { (false, "False") };
                fortran_order = Some(is_true);
                value.strip_prefix(word)?
            }
            "shape" => {
                let (inside, after) = value.strip_prefix('(')?.split_once(')')?;
                let inside = inside.trim_end();
                let inside = inside.strip_suffix(',').unwrap_or(inside);
                let numbers = inside.split(',').map(|it| it.trim().parse().ok());
                shape = Some(numbers.collect::<Option<Vec<u64>>>()?);
                after
            }
            _ => return None,
        };
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(Header { descr: descr?, fortran_order: fortran_order?, shape: shape? })
}

/// A string in single or double quotes, without escapes, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|it| matches!(it, '\'' | '"'))?;
    text[1..].split_once(quote)
}
