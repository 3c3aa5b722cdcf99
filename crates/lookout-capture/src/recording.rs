//! Recordings: what a camera once saw, with the time of each frame and, where it is known, the truth.
//!
//! | path | recording |
//! |---|---|
//! | a folder | its pictures by name, at a rate |
//! | a folder with `frames.tsv` | the pictures that the table names, at the times it says |
//! | `NAME.mjpeg`, `NAME.mjpg` | JPEGs one after the other, at a rate |
//!
//! `frames.tsv` has the columns `file` and `seconds`, and may have `truth`. Beside a Motion-JPEG file may
//! lie `NAME.tsv` with `seconds` and `truth`, each row holding until the next. Headings are matched with
//! upper case aside and stand once; other columns mean nothing, and no row has more cells than there are
//! headings. Truth is what a class is called, `none` for no label, or empty where nobody said. Nothing of
//! a recording is in memory but one frame, and the names of a folder without a table.

mod error;
mod mjpeg;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lookout_core::Picture;

use crate::folder::{PICTURE_EXTENSIONS, picture_names};
use crate::{PictureFileError, PictureLimits, decode_picture, read_picture};

pub use error::RecordingError;
use mjpeg::{Jpegs, Part};
use table::{Row, Seen, Table};

/// The table in a folder.
const TABLE_FILE: &str = "frames.tsv";
/// Endings of Motion-JPEG files.
const MJPEG: [&str; 2] = ["mjpeg", "mjpg"];
/// Frames a second where nothing is said.
const DEFAULT_FPS: f64 = 1.0;

/// What is right about a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Truth {
    /// Nobody said.
    #[default]
    Unsaid,
    /// No label.
    NoLabel,
    /// What somebody called the class; not yet looked up.
    Class(String),
}

/// A frame of a recording, not yet decoded.
#[derive(Debug)]
pub struct RecordedFrame {
    /// Since the recording began; never less than that of the frame before.
    pub at: Duration,
    /// The file, or the Motion-JPEG's file and the number of the frame, from 1.
    pub name: String,
    /// What is right about it.
    pub truth: Truth,
    content: Content,
    limits: PictureLimits,
}

#[derive(Debug)]
enum Content {
    File(PathBuf),
    Jpeg(Part),
}

impl RecordedFrame {
    /// Decodes it. An error concerns this frame alone.
    pub fn picture(&self) -> Result<Picture, PictureFileError> {
        match &self.content {
            Content::File(path) => read_picture(path, &self.limits),
            Content::Jpeg(Part::Whole(bytes)) => decode_picture(bytes, &self.name, &self.limits),
            Content::Jpeg(Part::TooLarge(got)) => Err(PictureFileError::TooManyBytes {
                name: self.name.clone(),
                limit: self.limits.max_bytes,
                got: *got,
            }),
        }
    }
}

/// An open recording. As an iterator it gives its frames in order of time. An error is a part that
/// cannot be read; where the iterator goes on after it, so can the caller.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    limits: PictureLimits,
    frames: Frames,
    /// What somebody said of the frames, and the line where each was said first.
    truths: BTreeMap<String, u64>,
    other_headings: Vec<String>,
    table: Option<PathBuf>,
    n_frames: u64,
}

#[derive(Debug)]
enum Frames {
    Named { names: std::vec::IntoIter<OsString>, fps: f64, total: u64 },
    Listed { rows: Table, total: u64 },
    Jpegs { jpegs: Jpegs, fps: f64, truth: Option<Spells> },
}

/// Truth that holds until the next row.
#[derive(Debug)]
struct Spells {
    rows: Table,
    current: Truth,
    next: Option<Row>,
}

impl Recording {
    /// What a rate must be, for messages.
    pub const FPS_RULE: &str = "a number from 0.001 to 1000";

    /// Whether `fps` is what [`Self::FPS_RULE`] says.
    pub fn is_rate(fps: f64) -> bool {
        (0.001..=1000.0).contains(&fps)
    }

    /// Opens the recording at `path`. `fps`, frames a second, is 1 where it is `None`, and has no
    /// meaning where a table has the times. A table is checked to its end.
    pub fn open(
        path: &Path,
        fps: Option<f64>,
        limits: PictureLimits,
    ) -> Result<Self, RecordingError> {
        let unreadable = |source| RecordingError::Unreadable { path: path.to_owned(), source };
        if let Some(got) = fps.filter(|it| !Self::is_rate(*it)) {
            return Err(RecordingError::Rate { got });
        }
        let metadata = fs::metadata(path).map_err(unreadable)?;
        let rate = fps.unwrap_or(DEFAULT_FPS);
        let new = |frames, table: Option<(PathBuf, Seen)>| {
            let (table, seen) = table.map_or_else(Default::default, |it| (Some(it.0), it.1));
            let Seen { truths, other_headings, .. } = seen;
            let path = path.to_owned();
            Self { path, limits, frames, truths, other_headings, table, n_frames: 0 }
        };
        if metadata.is_dir() {
            let table = path.join(TABLE_FILE);
            // A link that leads nowhere is an error, not a folder without a table.
            if fs::symlink_metadata(&table).is_ok() {
                if fps.is_some() {
                    return Err(RecordingError::RateAndTimes { path: table });
                }
                let (rows, seen) = Table::open(&table, table::Kind::Files)?;
                let frames = Frames::Listed { rows, total: seen.n_rows };
                return Ok(new(frames, Some((table, seen))));
            }
            let names = picture_names(path).map_err(unreadable)?;
            if names.is_empty() {
                let extensions = PICTURE_EXTENSIONS.join(", ");
                return Err(RecordingError::FolderEmpty { path: path.to_owned(), extensions });
            }
            let total = names.len() as u64;
            return Ok(new(Frames::Named { names: names.into_iter(), fps: rate, total }, None));
        }
        let extension = path.extension().map(|it| it.to_string_lossy().to_ascii_lowercase());
        if !metadata.is_file() || !extension.is_some_and(|it| MJPEG.contains(&it.as_str())) {
            return Err(RecordingError::WrongKind { path: path.to_owned() });
        }
        let jpegs = Jpegs::open(path, limits.max_bytes)?;
        let table = path.with_extension("tsv");
        if fs::symlink_metadata(&table).is_err() {
            return Ok(new(Frames::Jpegs { jpegs, fps: rate, truth: None }, None));
        }
        let (rows, seen) = Table::open(&table, table::Kind::Spells)?;
        let truth = Some(Spells { rows, current: Truth::Unsaid, next: None });
        Ok(new(Frames::Jpegs { jpegs, fps: rate, truth }, Some((table, seen))))
    }

    /// The table that says what is right, and what it says of the frames, each with the line where it
    /// stands first; `None` where nobody said anything.
    pub fn truths(&self) -> Option<(&Path, &BTreeMap<String, u64>)> {
        Some((self.table.as_deref()?, &self.truths)).filter(|it| !it.1.is_empty())
    }

    /// The table, and the headings in it that mean nothing, each cut short where it is long; `None` where it
    /// has no such or there is none. One may be a misspelt `truth`.
    pub fn other_headings(&self) -> Option<(&Path, &[String])> {
        Some((self.table.as_deref()?, &*self.other_headings)).filter(|it| !it.1.is_empty())
    }

    /// How much is behind, and of how much: frames, or bytes of a Motion-JPEG file.
    pub fn progress(&self) -> (u64, u64) {
        match &self.frames {
            Frames::Named { total, .. } | Frames::Listed { total, .. } => {
                (self.n_frames.min(*total), *total)
            }
            Frames::Jpegs { jpegs, .. } => jpegs.progress(),
        }
    }

    fn next_jpeg(&mut self) -> Option<Result<RecordedFrame, RecordingError>> {
        let Frames::Jpegs { jpegs, fps, truth } = &mut self.frames else { return None };
        let part = match jpegs.next()? {
            Ok(part) => part,
            Err(error) => return Some(Err(error)),
        };
        let at = time_of(self.n_frames, *fps);
        self.n_frames += 1;
        let truth = match truth.as_mut().map_or(Ok(Truth::Unsaid), |it| it.at(at)) {
            Ok(truth) => truth,
            Err(error) => return Some(Err(error)),
        };
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{file}#{}", self.n_frames);
        Some(Ok(RecordedFrame {
            at,
            name,
            truth,
            content: Content::Jpeg(part),
            limits: self.limits,
        }))
    }
}

impl Iterator for Recording {
    type Item = Result<RecordedFrame, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (at, name, truth) = match &mut self.frames {
            Frames::Jpegs { .. } => return self.next_jpeg(),
            Frames::Named { names, fps, .. } => {
                let name = names.next()?;
                (time_of(self.n_frames, *fps), name, Truth::Unsaid)
            }
            Frames::Listed { rows, .. } => match rows.next()? {
                Ok(row) => (row.at, row.file.into(), row.truth),
                Err(error) => return Some(Err(error)),
            },
        };
        self.n_frames += 1;
        let content = Content::File(self.path.join(&name));
        let name = name.to_string_lossy().into_owned();
        Some(Ok(RecordedFrame { at, name, truth, content, limits: self.limits }))
    }
}

impl Spells {
    /// What is right at `at`, which must not go back.
    fn at(&mut self, at: Duration) -> Result<Truth, RecordingError> {
        loop {
            if self.next.is_none() {
                self.next = self.rows.next().transpose()?;
            }
            match self.next.take_if(|it| it.at <= at) {
                Some(row) => self.current = row.truth,
                None => return Ok(self.current.clone()),
            }
        }
    }
}

/// Of the frame of this number, from 0.
fn time_of(n: u64, fps: f64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "exact to 2^53 frames")]
    Duration::try_from_secs_f64(n as f64 / fps).unwrap_or(Duration::MAX)
}
