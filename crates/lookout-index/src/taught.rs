//! Taught pairs in a file beside the index: appended one by one, each with a checksum and on the
//! disk before it counts. `README.md` beside this crate gives the format byte by byte.

mod read;
mod record;
mod write;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lookout_core::{Embedding, LessonRecall, PortError, Reach, Recalled};

use crate::IndexError;

pub(crate) use record::MAGIC;
pub use record::{Lesson, MAX_KEYS};
pub use write::{TaughtWriter, torn_path};

/// Lessons in force, at most.
pub const MAX_LESSONS: usize = 1000;
/// What the name of the file ends in; before it stands the index's.
const SUFFIX: &str = ".taught";

/// Where the lessons of an index are unless something else is said: beside it.
pub fn taught_path(index: &Path) -> PathBuf {
    let mut name = index.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// The lessons of a file, in memory. A file that is not there holds none.
pub struct Lessons {
    path: PathBuf,
    space: String,
    dimension: usize,
    reach: Reach,
    /// The file that was read; `None`: there was none.
    seen: Option<Seen>,
    lessons: Vec<Lesson>,
    torn_bytes: usize,
    is_behind: bool,
}

/// Tells a file from itself at another time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Seen {
    fn of(it: &Metadata) -> Self {
        let changed = (it.ctime(), it.ctime_nsec());
        Self { device: it.dev(), inode: it.ino(), bytes: it.len(), changed }
    }
}

impl Lessons {
    /// Reads the lessons in `path`, of an embedding space with `dimension` dimensions. Errs when the
    /// file cannot be read, is of another space or version, or is damaged other than at its end,
    /// where an interrupted write may have left the beginning of a record.
    pub fn open(
        path: &Path,
        space: &str,
        dimension: usize,
        reach: Reach,
    ) -> Result<Self, IndexError> {
        let mut new = Self {
            path: path.to_path_buf(),
            space: space.to_owned(),
            dimension,
            reach,
            seen: None,
            lessons: Vec::new(),
            torn_bytes: 0,
            is_behind: false,
        };
        new.refresh()?;
        Ok(new)
    }

    /// Reads the file again if it is another one than was read last; true when the lessons in force
    /// are others now. An error leaves them as they were, and is given once for each state of the file.
    pub fn refresh(&mut self) -> Result<bool, IndexError> {
        let metadata = match self.path.metadata() {
            Ok(it) => Some(it),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(IndexError::Read { path: self.path.clone(), source }),
        };
        let seen = metadata.as_ref().map(Seen::of);
        if seen == self.seen {
            return Ok(false);
        }
        self.seen = seen;
        self.is_behind = true;
        let contents = match metadata {
            Some(_) => read::read(&self.path, &self.space, self.dimension)?,
            None => read::Contents::default(),
        };
        let is_changed = self.lessons != contents.lessons;
        (self.lessons, self.torn_bytes) = (contents.lessons, contents.torn_bytes);
        self.is_behind = false;
        Ok(is_changed)
    }

    /// The lessons in force, in the order in which they were taught.
    pub fn lessons(&self) -> &[Lesson] {
        &self.lessons
    }

    /// Whether the file cannot be used as it is now, so that the lessons are those of an earlier state.
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Bytes at the end of the file that are no whole record: what was being written when the power
    /// went, or when the file was read. The next lesson takes their place.
    pub fn torn_bytes(&self) -> usize {
        self.torn_bytes
    }

    /// The lessons in reach of `image`, in the order in which they were taught.
    pub fn recall(&self, image: &Embedding) -> Vec<Recalled> {
        let nearest = |it: &Lesson| {
            it.keys.iter().map(|it| it.cosine(image)).fold(f64::NEG_INFINITY, f64::max)
        };
        let recalled = self.lessons.iter().map(|it| (it, nearest(it)));
        let in_reach = recalled.filter(|(_, similarity)| self.reach.from() < *similarity);
        let recalled = in_reach.map(|(lesson, similarity)| Recalled {
            number: lesson.number.into(),
            text: lesson.caption.clone(),
            embedding: lesson.embedding.clone(),
            similarity,
            reach: self.reach.weight(similarity),
        });
        recalled.collect()
    }
}

impl LessonRecall for Lessons {
    fn refresh(&mut self) -> Result<bool, PortError> {
        Lessons::refresh(self).map_err(|error| PortError::new(error.disposition(), error))
    }

    fn recall(&self, image: &Embedding) -> Vec<Recalled> {
        Lessons::recall(self, image)
    }
}

#[cfg(test)]
mod tests;
