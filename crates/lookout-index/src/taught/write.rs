//! One record, one fsync.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lookout_core::Embedding;

use super::MAX_LESSONS;
use super::read::{Contents, MAX_FILE_BYTES, read};
use super::record::{Lesson, MAX_KEYS, MAX_RECORD_BYTES, Record, encode, header};
use crate::IndexError;
use crate::atomic::create_atomically;
use crate::captions::check_text;
use crate::format::{MAX_DIMENSION, is_space_id};
use crate::index::open_regular;

/// How often a file may be replaced while it is being opened.
const ATTEMPTS: usize = 8;

/// Where the end of a file of lessons goes that was no whole record, before another lesson takes its place.
pub fn torn_path(taught: &Path) -> PathBuf {
    let mut name = taught.as_os_str().to_owned();
    name.push(".torn");
    name.into()
}

/// A file of lessons, open for another one. No other process writes to it meanwhile.
pub struct TaughtWriter {
    path: PathBuf,
    file: File,
    dimension: usize,
    contents: Contents,
}

impl TaughtWriter {
    /// Opens the lessons in `path`, and makes the file where there is none. Waits while another process
    /// has it open, after a call of `on_wait`. Errs as [`super::Lessons::open`] does, and when the file cannot be written.
    pub fn open(
        path: &Path,
        space: &str,
        dimension: usize,
        on_wait: &dyn Fn(),
    ) -> Result<Self, IndexError> {
        if !is_space_id(space) {
            return Err(IndexError::SpaceId { got: space.to_owned() });
        }
        if dimension == 0 || MAX_DIMENSION < dimension {
            return Err(IndexError::Dimension { got: dimension });
        }
        let error = |source| IndexError::Write { path: path.to_path_buf(), source };
        for _ in 0..ATTEMPTS {
            match path.symlink_metadata() {
                Ok(_) => drop(open_regular(path)?),
                Err(it) if it.kind() == io::ErrorKind::NotFound => {
                    create_atomically(path, &header(space, dimension)).map_err(error)?;
                }
                Err(it) => return Err(error(it)),
            }
            let file = OpenOptions::new().append(true).open(path).map_err(error)?;
            if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
                on_wait();
            }
            file.lock().map_err(error)?;
            let same = |a: &std::fs::Metadata| {
                file.metadata().map(|b| (a.dev(), a.ino()) == (b.dev(), b.ino()))
            };
            // Another process may have replaced it before it was locked.
            if path.metadata().and_then(|it| same(&it)).map_err(error)? {
                let contents = read(path, space, dimension)?;
                return Ok(Self { path: path.to_path_buf(), file, dimension, contents });
            }
        }
        Err(error(io::Error::other("other processes replace it again and again")))
    }

    /// The lessons in force, in the order in which they were taught.
    pub fn lessons(&self) -> &[Lesson] {
        &self.contents.lessons
    }

    /// Appends a lesson and gives its number. It is on the disk when this returns. Errs, and leaves the
    /// lessons as they were, on a caption that an index would not take, an embedding of another dimension,
    /// no key or more than [`MAX_KEYS`], more than [`MAX_LESSONS`] lessons, and when the file cannot be written.
    pub fn teach(
        &mut self,
        caption: &str,
        embedding: Embedding,
        keys: Vec<Embedding>,
        taught_at: Option<u64>,
    ) -> Result<u32, IndexError> {
        let entry = self.contents.lessons.len();
        let caption = check_text(caption).map_err(|fault| IndexError::Caption { entry, fault })?;
        for it in keys.iter().chain([&embedding]) {
            if it.dimension() != self.dimension {
                let (expected, got) = (self.dimension, it.dimension());
                return Err(IndexError::EntryDimension { entry, expected, got });
            }
        }
        if !(1..=MAX_KEYS).contains(&keys.len()) {
            return Err(IndexError::Keys { got: keys.len() });
        }
        if MAX_LESSONS <= entry {
            return Err(IndexError::TaughtFull { path: self.path.clone() });
        }
        let number = self.next_number()?;
        let caption = caption.to_owned();
        let lesson = Lesson { number, taught_at, caption, embedding, keys };
        let record = Record::Lesson(lesson);
        self.append(number, taught_at, &record)?;
        if let Record::Lesson(it) = record {
            self.contents.lessons.push(it);
        }
        Ok(number)
    }

    /// Undoes a lesson, the last one in force if no number is given, and gives it back. That is on the
    /// disk when this returns. Errs when there is no such lesson in force, and when the file cannot be
    /// written.
    pub fn undo(
        &mut self,
        number: Option<u32>,
        undone_at: Option<u64>,
    ) -> Result<Lesson, IndexError> {
        let lessons = &self.contents.lessons;
        let place = match number {
            Some(number) => lessons.iter().position(|it| it.number == number),
            None => lessons.len().checked_sub(1),
        };
        let Some(place) = place else {
            return Err(IndexError::NoSuchLesson { path: self.path.clone(), number });
        };
        let record = Record::Undo(lessons[place].number);
        let next = self.next_number()?;
        self.append(next, undone_at, &record)?;
        Ok(self.contents.lessons.remove(place))
    }

    /// Puts what comes after `end` into a file beside this one: it may be a lesson that the disk damaged.
    fn keep_torn(&self, end: u64) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(end))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        std::fs::write(torn_path(&self.path), bytes)
    }

    fn next_number(&self) -> Result<u32, IndexError> {
        let is_full = MAX_FILE_BYTES < (self.contents.end + MAX_RECORD_BYTES) as u64;
        let number = self.contents.last_number.checked_add(1).filter(|_| !is_full);
        number.ok_or_else(|| IndexError::TaughtFull { path: self.path.clone() })
    }

    fn append(&mut self, number: u32, at: Option<u64>, record: &Record) -> Result<(), IndexError> {
        let error = |source| IndexError::Write { path: self.path.clone(), source };
        let end = self.contents.end as u64;
        if 0 < self.contents.torn_bytes {
            self.keep_torn(end).map_err(error)?;
            self.file.set_len(end).map_err(error)?;
            self.contents.torn_bytes = 0;
        }
        let bytes = encode(number, at, record);
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // What is left of it would be taken for an interrupted write.
            if let Err(error) = self.file.set_len(end) {
                self.contents.torn_bytes = bytes.len();
                let source = io::Error::new(source.kind(), format!("{source}; then: {error}"));
                return Err(IndexError::Write { path: self.path.clone(), source });
            }
            return Err(error(source));
        }
        (self.contents.end, self.contents.last_number) = (self.contents.end + bytes.len(), number);
        Ok(())
    }
}
