//! The kinds of sources, behind one iterator.

use std::path::PathBuf;

use crate::SourceError;
use crate::coco::Coco;
use crate::embeddings::Embeddings;
use crate::entry::{Position, Row};
use crate::folder::Folder;
use crate::tsv::Tsv;
use crate::webdataset::WebDataset;

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// A table with tab-separated columns, one of them headed `caption`, or a caption a line. A
    /// caption that repeats an earlier one, upper case aside, is a bad row. In memory: some 16
    /// bytes for each caption.
    Tsv(PathBuf),
    /// A folder, with the folders in it, of pictures `NAME.jpg` (or bmp, gif, jpeg, png, webp)
    /// with their captions in `NAME.txt`, one a line. In memory: the paths of the pictures.
    Folder(PathBuf),
    /// COCO captions. In memory: 24 bytes for each caption and each picture.
    Coco {
        /// The JSON file.
        annotations: PathBuf,
        /// The folder that its `file_name`s lie in.
        pictures: PathBuf,
    },
    /// A WebDataset shard `.tar`, or a folder of them: `KEY.jpg` with its caption in `KEY.txt`, or
    /// else in `caption` of `KEY.json`. In memory: one picture of at most 64 MiB.
    WebDataset(PathBuf),
    /// A folder of `metadata_N.parquet` with `img_emb_N.npy`, `text_emb_N.npy` or both, or with
    /// folders `metadata`, `img_emb` and `text_emb` of them, as clip-retrieval writes it. In
    /// memory: a row, and the pages of a parquet column, of at most 64 MiB each and 1 MiB as a
    /// rule.
    Embeddings(PathBuf),
}

/// What the entries of a source have besides captions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// Nothing; the captions' embeddings are to be computed.
    Captions,
    /// Pictures; both embeddings are to be computed.
    Pictures,
    /// Embeddings; the one that is not there is to be computed, or done without.
    Embeddings {
        /// Dimensions of each.
        dimension: usize,
        /// Whether there are image embeddings.
        image: bool,
        /// Whether there are caption embeddings.
        caption: bool,
    },
}

/// How far the reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Rows given since the source was opened, bad ones with them.
    pub rows: u64,
    /// What is behind, rows that [`Source::resume`] passed over with it.
    pub done: u64,
    /// What there is in all. Never less than `done`.
    pub total: u64,
    /// What `done` and `total` count.
    pub unit: Unit,
}

/// What a source's size is known in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Rows.
    Rows,
    /// Pictures, which have a row for each caption.
    Pictures,
    /// Bytes of the shards.
    Bytes,
}

pub(crate) trait Reader: Send {
    fn next(&mut self) -> Option<Row>;
    /// Goes to a row. Errs with the reason.
    fn resume(&mut self, row: u64, shard: &str) -> Result<(), &'static str>;
    fn progress(&self) -> Progress;
    fn gives(&self) -> Gives;
    /// The files that rows are read from.
    fn inputs(&self) -> Box<dyn Iterator<Item = PathBuf> + '_>;
}

/// An open source. The same files give the same rows in the same order.
pub struct Source(Box<dyn Reader>);

impl Source {
    /// Opens a source and checks its names, headers and counts. Errs when it cannot be read at all;
    /// of what comes later, a shard that is damaged inside costs its rest and no more.
    pub fn open(spec: &Spec) -> Result<Self, SourceError> {
        Ok(Self(match spec {
            Spec::Tsv(path) => Box::new(Tsv::open(path)?),
            Spec::Folder(path) => Box::new(Folder::open(path)?),
            Spec::Coco { annotations, pictures } => Box::new(Coco::open(annotations, pictures)?),
            Spec::WebDataset(path) => Box::new(WebDataset::open(path)?),
            Spec::Embeddings(path) => Box::new(Embeddings::open(path)?),
        }))
    }

    /// Goes to `position`, usually [`Position::next`] of the last row that was dealt with. Errs
    /// when the source has no such place. Whether the files were altered meanwhile is not looked at.
    pub fn resume(&mut self, position: &Position) -> Result<(), SourceError> {
        let Position { shard, row } = position;
        self.0
            .resume(*row, shard)
            .map_err(|reason| SourceError::Position { position: position.clone(), reason })
    }

    /// How far the reading is.
    pub fn progress(&self) -> Progress {
        self.0.progress()
    }

    /// The files that rows are read from, in an order of their own: pictures and captions of a
    /// folder, shards, annotations without the pictures that they name. Some need not exist.
    pub fn inputs(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.0.inputs()
    }

    /// What the entries have.
    pub fn gives(&self) -> Gives {
        self.0.gives()
    }
}

impl Iterator for Source {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        self.0.next()
    }
}
