//! A folder of pictures, `NAME.jpg` with its captions in `NAME.txt`, one a line.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::SourceError;
use crate::caption::{MAX_CAPTION_BYTES, caption};
use crate::entry::{BadRow, Content, Entry, Fault, Picture, Position, Row};
use crate::files::{is_picture_ending, plain_name, read_small};
use crate::source::{Gives, Progress, Reader, Unit};

/// Most pictures of a folder: as many as an index has entries.
const MAX_PICTURES: usize = 10_000_000;
/// Most folders in each other.
const MAX_DEPTH: usize = 32;

/// Gives the pictures by the bytes of their paths below the folder. A shard is a picture, its rows
/// are the lines of its captions that are not blank.
pub(crate) struct Folder {
    folder: PathBuf,
    /// Relative to the folder, sorted.
    pictures: Vec<PathBuf>,
    next: usize,
    /// What is left of the picture before `next`.
    rows: VecDeque<Row>,
    n_rows: u64,
}

impl Folder {
    /// Lists `folder` and the folders in it.
    pub(crate) fn open(folder: &Path) -> Result<Self, SourceError> {
        let pictures = pictures(folder)?.pictures;
        let (rows, n_rows) = (VecDeque::new(), 0);
        Ok(Self { folder: folder.to_path_buf(), pictures, next: 0, rows, n_rows })
    }

    fn read(&self, picture: &Path) -> VecDeque<Row> {
        let position = |row| Position { shard: shown(picture), row };
        let bad = |fault| {
            let fault = Fault::Whole(Box::new(fault));
            VecDeque::from([Err(BadRow { position: position(0), fault })])
        };
        if plain_name(picture.as_os_str()).is_none() {
            return bad(Fault::Name);
        }
        let text_path = picture.with_extension("txt");
        let text = match read_small(&self.folder.join(&text_path), MAX_CAPTION_BYTES) {
            Ok(Some(text)) => text,
            Ok(None) => return bad(Fault::CaptionTooLong),
            Err(error) => {
                let (file, reason) = (shown(&text_path), error.to_string());
                return bad(Fault::Unreadable { file, reason });
            }
        };
        let file: Arc<Path> = self.folder.join(picture).into();
        let lines = text.split(|it| *it == b'\n').map(caption);
        let captions = lines.filter(|it| *it != Err(Fault::NoCaption));
        let rows: VecDeque<Row> = (0..)
            .zip(captions)
            .map(|(row, caption)| {
                let (position, picture) = (position(row), Picture::File(Arc::clone(&file)));
                match caption {
                    Ok(caption) => {
                        Ok(Entry { position, caption, content: Content::Picture(picture) })
                    }
                    Err(fault) => Err(BadRow { position, fault }),
                }
            })
            .collect();
        if rows.is_empty() { bad(Fault::NoCaption) } else { rows }
    }
}

impl Reader for Folder {
    fn next(&mut self) -> Option<Row> {
        while self.rows.is_empty() {
            self.rows = self.read(self.pictures.get(self.next)?);
            self.next += 1;
        }
        self.n_rows += 1;
        self.rows.pop_front()
    }

    fn resume(&mut self, row: u64, shard: &str) -> Result<(), &'static str> {
        let place = self.pictures.partition_point(|it| bytes(it) < shard.as_bytes());
        let picture = self.pictures.get(place).filter(|it| bytes(it) == shard.as_bytes());
        self.rows = self.read(picture.ok_or("there is no such picture")?);
        let n_done = usize::try_from(row).unwrap_or(usize::MAX).min(self.rows.len());
        self.rows.drain(..n_done);
        self.next = place + 1;
        Ok(())
    }

    fn progress(&self) -> Progress {
        // A picture is done once its last row was given.
        let done = self.next - usize::from(!self.rows.is_empty());
        let (done, total) = (done as u64, self.pictures.len() as u64);
        Progress { rows: self.n_rows, done, total, unit: Unit::Pictures }
    }

    fn gives(&self) -> Gives {
        Gives::Pictures
    }

    fn inputs(&self) -> Box<dyn Iterator<Item = PathBuf> + '_> {
        let files = |it: &PathBuf| {
            let picture = self.folder.join(it);
            [picture.with_extension("txt"), picture]
        };
        Box::new(self.pictures.iter().flat_map(files))
    }
}

/// What lies in a folder and in the folders in it, relative to it and by the bytes of the paths. Hidden
/// files are passed over, and so are those that are not named as pictures.
#[derive(Default)]
pub(crate) struct Listing {
    /// What is named as a picture. It may be no file, or a link to nothing: who opens it will tell.
    pub(crate) pictures: Vec<PathBuf>,
    pub(crate) folders: Vec<PathBuf>,
    /// Links to folders, which are not followed.
    pub(crate) links: Vec<PathBuf>,
    /// Links that lead nowhere and are not named as pictures: each may have been one to a folder.
    pub(crate) dangling: Vec<PathBuf>,
}

/// Lists `folder`; there is at least one picture.
pub(crate) fn pictures(folder: &Path) -> Result<Listing, SourceError> {
    if !fs::metadata(folder)
        .map_err(|source| SourceError::Read { path: folder.to_path_buf(), source })?
        .is_dir()
    {
        return Err(SourceError::WrongKind { path: folder.to_path_buf(), expected: "folder" });
    }
    let mut listing = Listing::default();
    list(folder, Path::new(""), 0, &mut listing)?;
    if listing.pictures.is_empty() {
        let expected = "picture; names must end in .bmp, .gif, .jpeg, .jpg, .png or .webp";
        return Err(SourceError::Nothing { path: folder.to_path_buf(), expected });
    }
    let Listing { pictures, folders, links, dangling } = &mut listing;
    for paths in [pictures, folders, links, dangling] {
        paths.sort_by(|a, b| bytes(a).cmp(bytes(b)));
    }
    Ok(listing)
}

fn list(
    folder: &Path,
    below: &Path,
    depth: usize,
    listing: &mut Listing,
) -> Result<(), SourceError> {
    let path = folder.join(below);
    if depth > MAX_DEPTH {
        return Err(SourceError::TooDeep { path, limit: MAX_DEPTH });
    }
    let unreadable = |source| SourceError::Read { path: path.clone(), source };
    for entry in fs::read_dir(&path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = below.join(entry.file_name());
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            list(folder, &name, depth + 1, listing)?;
            listing.folders.push(name);
            continue;
        }
        let target = kind.is_symlink().then(|| fs::metadata(entry.path()));
        if matches!(&target, Some(Ok(it)) if it.is_dir()) {
            listing.links.push(name);
            continue;
        }
        let ending = name.extension().unwrap_or_default().to_string_lossy();
        if is_picture_ending(&ending) {
            if listing.pictures.len() == MAX_PICTURES {
                let path = folder.to_path_buf();
                return Err(SourceError::TooMany { path, limit: MAX_PICTURES, what: "pictures" });
            }
            listing.pictures.push(name);
        } else if matches!(target, Some(Err(_))) {
            listing.dangling.push(name);
        }
    }
    Ok(())
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// A path in a message: control characters are escaped.
pub(crate) fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    match plain_name(path.as_os_str()) {
        Some(plain) => plain.to_owned(),
        None => text.escape_debug().to_string(),
    }
}
