//! COCO captions: a JSON file with the lists `images` and `annotations`.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::SourceError;
use crate::caption::caption;
use crate::entry::{BadRow, Content, Entry, Fault, Picture, Position, Row};
use crate::files::{open, plain_name};
use crate::json::{Broken, Element, MAX_ELEMENT_BYTES, elements};
use crate::source::{Gives, Progress, Reader, Unit};

/// Most pictures, and most captions: as many as an index has entries.
const MAX_ELEMENTS: usize = 10_000_000;

/// Gives captions by their picture's id, those of one picture in the file's order. In memory are
/// 24 bytes for each caption and each picture: where they lie. The file is read once for that, and
/// then here and there.
pub(crate) struct Coco {
    path: PathBuf,
    shard: String,
    file: File,
    folder: PathBuf,
    images: Vec<Place>,
    annotations: Vec<Place>,
    next: usize,
    n_rows: u64,
    /// The picture of the last caption, with its id.
    picture: Option<(i64, Arc<Path>)>,
    buffer: Vec<u8>,
}

/// Where an element lies, with its picture's id; captions that have none come last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    id: i64,
    offset: u64,
    length: u32,
}

#[derive(Deserialize)]
struct ImageId {
    id: i64,
}

#[derive(Deserialize)]
struct Image {
    file_name: String,
}

#[derive(Deserialize)]
struct AnnotationId {
    image_id: i64,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: i64,
    caption: String,
}

enum Stop {
    Broken(Broken),
    TooMany(&'static str),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl Coco {
    /// Finds where the captions of `path` lie. Its pictures are files in `folder`.
    pub(crate) fn open(path: &Path, folder: &Path) -> Result<Self, SourceError> {
        let (file, _) = open(path)?;
        let shard = path.file_name().and_then(plain_name);
        let shard = shard.ok_or_else(|| SourceError::Name { path: path.to_path_buf() })?.to_owned();
        if !folder.is_dir() {
            return Err(SourceError::WrongKind { path: folder.to_path_buf(), expected: "folder" });
        }
        let malformed = |problem| SourceError::Coco { path: path.to_path_buf(), problem };
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        let reader = BufReader::with_capacity(1 << 16, &file);
        elements(reader, &mut |element| note(&element, &mut images, &mut annotations)).map_err(
            |stop| match stop {
                Stop::Broken(Broken::Io(source)) => {
                    SourceError::Read { path: path.to_path_buf(), source }
                }
                Stop::Broken(Broken::Syntax(rule, at)) => {
                    malformed(format!("{rule}, at byte {at}"))
                }
                Stop::TooMany(what) => {
                    SourceError::TooMany { path: path.to_path_buf(), limit: MAX_ELEMENTS, what }
                }
            },
        )?;
        for (list, name) in [(&images, "images"), (&annotations, "annotations")] {
            if list.is_empty() {
                return Err(malformed(format!("it has no `{name}`")));
            }
        }
        images.sort_unstable();
        annotations.sort_unstable();
        Ok(Self {
            path: path.to_path_buf(),
            shard,
            file,
            folder: folder.to_path_buf(),
            images,
            annotations,
            next: 0,
            n_rows: 0,
            picture: None,
            buffer: Vec::new(),
        })
    }

    fn read(&mut self, place: Place) -> Result<(String, Picture), Fault> {
        let Annotation { image_id, caption: text } = self.parse(place, "the annotation")?;
        let caption = caption(text.as_bytes())?;
        if let Some((id, path)) = self.picture.as_ref().filter(|it| it.0 == image_id) {
            debug_assert_eq!(*id, image_id);
            return Ok((caption, Picture::File(Arc::clone(path))));
        }
        // Of several with one id the first in the file counts.
        let image = self.images.partition_point(|it| it.id < image_id);
        let image = self.images.get(image).filter(|it| it.id == image_id).copied();
        let image = image.ok_or(Fault::UnknownImage { id: image_id })?;
        let Image { file_name } = self.parse(image, "the image")?;
        let name = Path::new(&file_name);
        let inside = name.components().all(|it| matches!(it, Component::Normal(_)));
        if file_name.is_empty() || !inside {
            let place = format!("file_name {file_name:?}");
            let reason = "it must lie within the folder of pictures".to_owned();
            return Err(Fault::Json { place, reason });
        }
        let path: Arc<Path> = self.folder.join(name).into();
        self.picture = Some((image_id, Arc::clone(&path)));
        Ok((caption, Picture::File(path)))
    }

    fn parse<T: for<'de> Deserialize<'de>>(
        &mut self,
        place: Place,
        what: &str,
    ) -> Result<T, Fault> {
        let length = place.length as usize;
        let at = || format!("{what} at byte {}", place.offset);
        if length > MAX_ELEMENT_BYTES {
            let reason = format!("it has more than {MAX_ELEMENT_BYTES} bytes");
            return Err(Fault::Json { place: at(), reason });
        }
        self.buffer.resize(length, 0);
        self.file.read_exact_at(&mut self.buffer, place.offset).map_err(|error| {
            Fault::Unreadable { file: self.path.display().to_string(), reason: error.to_string() }
        })?;
        serde_json::from_slice(&self.buffer)
            .map_err(|error| Fault::Json { place: at(), reason: error.to_string() })
    }
}

fn note(
    element: &Element<'_>,
    images: &mut Vec<Place>,
    annotations: &mut Vec<Place>,
) -> Result<(), Stop> {
    // An id that cannot be read is found out about again, and reported, when the row's turn comes.
    let (list, id, what) = match element.list {
        "images" => {
            let id = serde_json::from_slice(element.bytes).map_or(i64::MAX, |it: ImageId| it.id);
            (images, id, "pictures")
        }
        "annotations" => {
            let id = serde_json::from_slice(element.bytes);
            (annotations, id.map_or(i64::MAX, |it: AnnotationId| it.image_id), "captions")
        }
        _ => return Ok(()),
    };
    if list.len() == MAX_ELEMENTS {
        return Err(Stop::TooMany(what));
    }
    let length = u32::try_from(element.bytes.len()).unwrap_or(u32::MAX);
    list.push(Place { id, offset: element.offset, length });
    Ok(())
}

impl Reader for Coco {
    fn next(&mut self) -> Option<Row> {
        let place = *self.annotations.get(self.next)?;
        let position = Position { shard: self.shard.clone(), row: self.next as u64 };
        self.next += 1;
        self.n_rows += 1;
        Some(match self.read(place) {
            Ok((caption, picture)) => {
                Ok(Entry { position, caption, content: Content::Picture(picture) })
            }
            Err(fault) => Err(BadRow { position, fault }),
        })
    }

    fn resume(&mut self, row: u64, shard: &str) -> Result<(), &'static str> {
        if shard != self.shard {
            return Err("the source has another name");
        }
        let row = usize::try_from(row).ok().filter(|it| *it <= self.annotations.len());
        self.next = row.ok_or("the source has fewer rows")?;
        Ok(())
    }

    fn progress(&self) -> Progress {
        let (done, total) = (self.next as u64, self.annotations.len() as u64);
        Progress { rows: self.n_rows, done, total, unit: Unit::Rows }
    }

    fn gives(&self) -> Gives {
        Gives::Pictures
    }

    fn inputs(&self) -> Box<dyn Iterator<Item = PathBuf> + '_> {
        Box::new(std::iter::once(self.path.clone()))
    }
}
