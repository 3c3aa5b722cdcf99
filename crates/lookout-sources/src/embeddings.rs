//! Precomputed embeddings, as clip-retrieval writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lookout_core::Embedding;

use crate::SourceError;
use crate::entry::{BadRow, Content, Entry, Fault, Position, Row};
use crate::files::{list, plain_name};
use crate::npy::Npy;
use crate::parquet::Captions;
use crate::source::{Gives, Progress, Reader, Unit};

/// Most shards: their names and counts are in memory.
const MAX_SHARDS: usize = 100_000;

/// The files of a shard: the folder they may lie in, and what their names are made of.
const METADATA: Part = Part {
    folder: "metadata",
    prefix: "metadata_",
    suffix: ".parquet",
    pattern: "metadata_N.parquet",
};
const IMAGE: Part =
    Part { folder: "img_emb", prefix: "img_emb_", suffix: ".npy", pattern: "img_emb_N.npy" };
const TEXT: Part =
    Part { folder: "text_emb", prefix: "text_emb_", suffix: ".npy", pattern: "text_emb_N.npy" };

struct Part {
    folder: &'static str,
    prefix: &'static str,
    suffix: &'static str,
    pattern: &'static str,
}

/// Gives the rows of the shards, by the shards' numbers. A shard's name is its parquet file's.
pub(crate) struct Embeddings {
    shards: Vec<Shard>,
    gives: Gives,
    dimension: usize,
    next: usize,
    /// The row that the next shard is opened at.
    begin: u64,
    open: Option<Open>,
    n_rows: u64,
}

struct Shard {
    name: String,
    metadata: PathBuf,
    image: Option<PathBuf>,
    text: Option<PathBuf>,
    /// Rows of the shards before it, and its own.
    before: u64,
    rows: u64,
}

struct Open {
    row: u64,
    captions: Captions,
    image: Option<Npy>,
    text: Option<Npy>,
}

impl Embeddings {
    /// Finds the shards of `folder` and checks headers, footers and counts of all.
    pub(crate) fn open(folder: &Path) -> Result<Self, SourceError> {
        let unreadable = |source| SourceError::Read { path: folder.to_path_buf(), source };
        if !fs::metadata(folder).map_err(unreadable)?.is_dir() {
            return Err(SourceError::WrongKind { path: folder.to_path_buf(), expected: "folder" });
        }
        let (metadata, mut image, mut text) =
            (METADATA.find(folder)?, IMAGE.find(folder)?, TEXT.find(folder)?);
        let (has_image, has_text) = (!image.is_empty(), !text.is_empty());
        if !has_image && !has_text {
            let expected = "embeddings; there must be files img_emb_N.npy or text_emb_N.npy";
            return Err(SourceError::Nothing { path: folder.to_path_buf(), expected });
        }
        let missing = |shard, part: &Part| SourceError::MissingPart {
            folder: folder.to_path_buf(),
            shard,
            part: part.pattern,
        };
        let mut shards: Vec<Shard> = Vec::new();
        let mut dimension = None;
        for (number, metadata) in metadata {
            let shard = Shard {
                name: metadata.file_name().and_then(plain_name).unwrap_or_default().to_owned(),
                image: image.remove(&number),
                text: text.remove(&number),
                metadata,
                before: shards.last().map_or(0, |it| it.before + it.rows),
                rows: 0,
            };
            if shard.image.is_some() != has_image {
                return Err(missing(number, &IMAGE));
            }
            if shard.text.is_some() != has_text {
                return Err(missing(number, &TEXT));
            }
            let rows = shard.files(&mut dimension)?.captions.n_rows();
            if shards.len() == MAX_SHARDS {
                let (path, limit) = (folder.to_path_buf(), MAX_SHARDS);
                return Err(SourceError::TooMany { path, limit, what: "shards" });
            }
            shards.push(Shard { rows, ..shard });
        }
        if let Some(number) = image.keys().chain(text.keys()).min() {
            return Err(missing(*number, &METADATA));
        }
        let dimension = dimension.unwrap_or_default();
        let gives = Gives::Embeddings { dimension, image: has_image, caption: has_text };
        Ok(Self { shards, gives, dimension, next: 0, begin: 0, open: None, n_rows: 0 })
    }
}

impl Part {
    /// The part's files by their numbers, in `folder` and in its folder for them.
    fn find(&self, folder: &Path) -> Result<BTreeMap<u64, PathBuf>, SourceError> {
        let mut paths = list(folder)?;
        let inner = folder.join(self.folder);
        if inner.is_dir() {
            paths.extend(list(&inner)?);
        }
        let mut found = BTreeMap::new();
        for path in paths {
            let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
            let number = name.strip_prefix(self.prefix).and_then(|it| it.strip_suffix(self.suffix));
            let is_number = |it: &&str| it.bytes().all(|it| it.is_ascii_digit());
            let Some(number) = number.filter(is_number).and_then(|it| it.parse().ok()) else {
                continue;
            };
            if let Some(first) = found.insert(number, path.clone()) {
                return Err(SourceError::SamePart { first, second: path });
            }
        }
        Ok(found)
    }
}

impl Shard {
    /// Opens its files. Errs when they disagree with each other, or with the dimension that is
    /// known, and notes that.
    fn files(&self, dimension: &mut Option<usize>) -> Result<Open, SourceError> {
        let captions = Captions::open(&self.metadata)?;
        let mut table = |path: &Option<PathBuf>| -> Result<Option<Npy>, SourceError> {
            let Some(path) = path else { return Ok(None) };
            let npy = Npy::open(path)?;
            if npy.n_rows() != captions.n_rows() {
                return Err(SourceError::Counts {
                    path: path.clone(),
                    got: npy.n_rows(),
                    other: self.metadata.clone(),
                    expected: captions.n_rows(),
                });
            }
            let expected = *dimension.get_or_insert(npy.dimension());
            if npy.dimension() != expected {
                let (path, got) = (path.clone(), npy.dimension());
                return Err(SourceError::Dimension { path, got, expected });
            }
            Ok(Some(npy))
        };
        let (image, text) = (table(&self.image)?, table(&self.text)?);
        Ok(Open { row: 0, captions, image, text })
    }

    /// Opens it at a row. The files may have been altered since they were checked.
    fn open(&self, row: u64, dimension: usize) -> Result<Open, String> {
        let mut open = self.files(&mut Some(dimension)).map_err(|error| {
            match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }
        })?;
        let n_rows = open.captions.n_rows();
        if n_rows != self.rows {
            return Err(format!("it has {n_rows} rows now, it had {}", self.rows));
        }
        open.captions.skip(row)?;
        for (npy, path) in [(&mut open.image, &self.image), (&mut open.text, &self.text)] {
            if let (Some(npy), Some(path)) = (npy, path) {
                npy.seek(row).map_err(|it| format!("{}: {it}", path.display()))?;
            }
        }
        Ok(Open { row, ..open })
    }
}

impl Open {
    /// The next row. Errs when the shard is damaged.
    fn read(&mut self, shard: &Shard) -> Result<Result<(String, Content), Fault>, String> {
        // All files are read before any is judged, to keep them in step.
        let caption = self.captions.read()?;
        let image = vector(&mut self.image, shard.image.as_deref())?;
        let text = vector(&mut self.text, shard.text.as_deref())?;
        self.row += 1;
        Ok(caption.and_then(|caption| {
            let content =
                Content::Embeddings { image: image.transpose()?, caption: text.transpose()? };
            Ok((caption, content))
        }))
    }
}

/// The next vector of a file, where there is one.
fn vector(
    npy: &mut Option<Npy>,
    path: Option<&Path>,
) -> Result<Option<Result<Embedding, Fault>>, String> {
    let (Some(npy), Some(path)) = (npy, path) else { return Ok(None) };
    let name = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let values = npy.read().map_err(|error| format!("{}: {error}", name()))?;
    let embedding = Embedding::normalize(values);
    Ok(Some(embedding.map_err(|source| Fault::Vector { file: name(), source })))
}

impl Reader for Embeddings {
    fn next(&mut self) -> Option<Row> {
        loop {
            let shard = self.shards.get(self.next)?;
            let row = self.open.as_ref().map_or(self.begin, |it| it.row);
            if row == shard.rows {
                (self.next, self.begin, self.open) = (self.next + 1, 0, None);
                continue;
            }
            let position = Position { shard: shard.name.clone(), row };
            let opened = self.open.take().map_or_else(|| shard.open(row, self.dimension), Ok);
            let read = opened.and_then(|mut open| Ok((open.read(shard)?, open)));
            self.n_rows += 1;
            return Some(match read {
                Ok((read, open)) => {
                    self.open = Some(open);
                    match read {
                        Ok((caption, content)) => Ok(Entry { position, caption, content }),
                        Err(fault) => Err(BadRow { position, fault }),
                    }
                }
                Err(reason) => {
                    (self.next, self.begin) = (self.next + 1, 0);
                    let lost = Some(shard.rows - row);
                    Err(BadRow { position, fault: Fault::Damaged { reason, lost } })
                }
            });
        }
    }

    fn resume(&mut self, row: u64, shard: &str) -> Result<(), &'static str> {
        let place = self.shards.iter().position(|it| it.name == shard);
        let place = place.ok_or("there is no such shard")?;
        if row > self.shards[place].rows {
            return Err("the shard has fewer rows");
        }
        (self.next, self.begin, self.open) = (place, row, None);
        Ok(())
    }

    fn progress(&self) -> Progress {
        let total = self.shards.last().map_or(0, |it| it.before + it.rows);
        let done = self
            .shards
            .get(self.next)
            .map_or(total, |it| it.before + self.open.as_ref().map_or(self.begin, |it| it.row));
        Progress { rows: self.n_rows, done, total, unit: Unit::Rows }
    }

    fn gives(&self) -> Gives {
        self.gives
    }

    fn inputs(&self) -> Box<dyn Iterator<Item = PathBuf> + '_> {
        let files = |it: &Shard| {
            let parts = [Some(&it.metadata), it.image.as_ref(), it.text.as_ref()];
            parts.map(Option::<&PathBuf>::cloned).into_iter().flatten()
        };
        Box::new(self.shards.iter().flat_map(files))
    }
}
