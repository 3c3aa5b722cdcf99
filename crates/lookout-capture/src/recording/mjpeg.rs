//! Cuts a Motion-JPEG file, JPEGs one after the other, into its pictures. Nothing is decoded here.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::RecordingError;

const MARKER: u8 = 0xff;
const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
/// A picture begins with a start and the first byte of another marker. Two bytes alone stand in any 64 KiB
/// of garbage.
const BEGINNING: [u8; 3] = [MARKER, START_OF_IMAGE, MARKER];

/// What lies between the start of a picture and its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Its bytes. The last picture of a file may be cut off.
    Whole(Vec<u8>),
    /// More bytes than allowed, this many; they were not kept.
    TooLarge(u64),
}

/// Reads forward only, and keeps one picture of at most `max_bytes`.
#[derive(Debug)]
pub(super) struct Jpegs {
    path: PathBuf,
    reader: BufReader<File>,
    max_bytes: u64,
    n_bytes: u64,
    at: u64,
    /// The start of the next picture is behind already.
    has_started: bool,
    is_empty: bool,
    is_over: bool,
}

/// A picture as it is read.
struct Bytes {
    kept: Vec<u8>,
    n: u64,
    max: u64,
}

impl Bytes {
    fn push(&mut self, byte: u8) {
        self.n += 1;
        if self.n <= self.max {
            self.kept.push(byte);
        }
    }

    fn pop(&mut self) {
        if self.n <= self.max {
            self.kept.pop();
        }
        self.n -= 1;
    }
}

impl Jpegs {
    pub(super) fn open(path: &Path, max_bytes: u64) -> Result<Self, RecordingError> {
        let unreadable = |source| RecordingError::Unreadable { path: path.to_owned(), source };
        let n_bytes = fs::metadata(path).map_err(unreadable)?.len();
        let reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(unreadable)?);
        let path = path.to_owned();
        let (at, has_started, is_empty, is_over) = (0, false, true, false);
        Ok(Self { path, reader, max_bytes, n_bytes, at, has_started, is_empty, is_over })
    }

    /// Bytes behind, and of how many.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.at.min(self.n_bytes), self.n_bytes)
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let byte = self.reader.fill_buf()?.first().copied();
        if byte.is_some() {
            self.reader.consume(1);
            self.at += 1;
        }
        Ok(byte)
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.reader.fill_buf()?.first().copied())
    }

    /// Goes back by so many bytes.
    fn unread(&mut self, n: usize) -> io::Result<()> {
        let back = i64::try_from(n).map_err(io::Error::other)?;
        self.reader.seek_relative(-back)?;
        self.at -= n as u64;
        Ok(())
    }

    /// Passes over what stands before the next picture; how many bytes that were.
    fn find_start(&mut self) -> io::Result<u64> {
        let mut n = 0;
        let mut last = 0;
        while let Some(byte) = self.byte()? {
            n += 1;
            if last == MARKER && byte == START_OF_IMAGE && self.peek()? == Some(MARKER) {
                self.has_started = true;
                return Ok(n - 2);
            }
            last = byte;
        }
        Ok(n)
    }

    /// The picture whose start is behind. One that is not ended ends where the next one starts, where
    /// its head is no JPEG's any more, or where the file does. A thumbnail inside a segment of the head is
    /// none, for those are passed by their length.
    fn picture(&mut self) -> io::Result<Part> {
        let mut bytes = Bytes { kept: Vec::new(), n: 0, max: self.max_bytes };
        bytes.push(MARKER);
        bytes.push(START_OF_IMAGE);
        self.has_started = false;
        let mut is_in_scan = false;
        while let Some(byte) = self.byte()? {
            if byte != MARKER && !is_in_scan {
                self.unread(1)?;
                break;
            }
            bytes.push(byte);
            if byte != MARKER {
                continue;
            }
            let mut marker = self.byte()?;
            while marker == Some(MARKER) {
                bytes.push(MARKER);
                marker = self.byte()?;
            }
            let Some(marker) = marker else { break };
            if marker == START_OF_IMAGE && self.peek()? == Some(MARKER) {
                self.has_started = true;
                bytes.pop();
                break;
            }
            bytes.push(marker);
            match marker {
                END_OF_IMAGE => break,
                START_OF_SCAN => is_in_scan = true,
                // A stuffed byte, a marker without content, a restart.
                0x00 | 0x01 | 0xd0..=0xd7 => {}
                // Tables between two scans hold no markers, and where a picture is cut off lengths are garbage.
                _ if is_in_scan => {}
                _ => self.segment(&mut bytes)?,
            }
            if self.has_started {
                break;
            }
        }
        Ok(if bytes.n <= bytes.max { Part::Whole(bytes.kept) } else { Part::TooLarge(bytes.n) })
    }

    /// A segment's length, which counts itself, and its content. Where no marker follows, the length was
    /// wrong or the picture cut off, and one that starts inside is the next.
    fn segment(&mut self, bytes: &mut Bytes) -> io::Result<()> {
        let mut length = [0; 2];
        for it in &mut length {
            let Some(byte) = self.byte()? else { return Ok(()) };
            bytes.push(byte);
            *it = byte;
        }
        let mut content = Vec::new();
        for _ in 2..u16::from_be_bytes(length) {
            let Some(byte) = self.byte()? else { break };
            content.push(byte);
        }
        if self.peek()? != Some(MARKER)
            && let Some(start) = content.windows(BEGINNING.len()).position(|it| it == BEGINNING)
        {
            self.unread(content.len() - start - 2)?;
            content.truncate(start);
            self.has_started = true;
        }
        content.into_iter().for_each(|it| bytes.push(it));
        Ok(())
    }

    fn step(&mut self) -> io::Result<Option<Result<Part, RecordingError>>> {
        if !self.has_started {
            let at = self.at;
            let n_bytes = self.find_start()?;
            if !self.has_started {
                self.is_over = true;
                if self.is_empty {
                    return Ok(Some(Err(RecordingError::NoJpeg { path: self.path.clone() })));
                }
            }
            if 0 < n_bytes {
                let path = self.path.clone();
                return Ok(Some(Err(RecordingError::NotJpeg { path, at, n_bytes })));
            }
            if self.is_over {
                return Ok(None);
            }
        }
        self.is_empty = false;
        Ok(Some(Ok(self.picture()?)))
    }
}

impl Iterator for Jpegs {
    type Item = Result<Part, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        self.step().unwrap_or_else(|source| {
            self.is_over = true;
            Some(Err(RecordingError::Unreadable { path: self.path.clone(), source }))
        })
    }
}
