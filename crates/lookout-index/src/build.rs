//! From captions and embeddings to an index file.

use std::io::Write;
use std::path::Path;

use lookout_core::Embedding;
use sha2::{Digest, Sha256};

use crate::atomic::{try_write, write_atomically};
use crate::captions::check_text;
use crate::format::{
    Header, MAX_DIMENSION, MAX_ENTRIES, SCALE_BYTES, Section, SectionRow, is_space_id,
};
use crate::graph::{self, EF_CONSTRUCTION, SEED};
use crate::kernel::Kernel;
use crate::text::Packer;
use crate::vectors::{Vectors, center, quantize};
use crate::{IndexError, sketch};

/// Entries whose mean is the center that vectors are stored around. Any center near the middle will
/// do, so entries need not wait for the last one.
pub(crate) const CENTER_ENTRIES: usize = 4096;
/// Up to so many pairs an index has no graph. A graph of pictures leads to pictures well, and is faster
/// from some 20,000 on, but takes hours to build, and looking at all of a million takes 11 ms, less than
/// making the query. (A graph of captions leads pictures to them badly, because they lie apart in their
/// common space: measured at 20,000 it takes ten times as long as looking at all to find as much.)
const EXHAUSTIVE_PAIRS: usize = 1_000_000;

/// How an index is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchMethod {
    /// By looking at every entry: at a sketch of its key, and at the keys of those nearest by it.
    Exhaustive,
    /// By a nearest-neighbor graph.
    Graph,
}

impl SearchMethod {
    /// The one for so many entries, with keys of their own or without.
    pub fn for_entries(n_entries: usize, own_keys: bool) -> Self {
        if own_keys && EXHAUSTIVE_PAIRS < n_entries { Self::Graph } else { Self::Exhaustive }
    }
}

/// Collects entries, then builds the graph and writes the file. The same entries in the same
/// order give the same bytes on every 64-bit machine.
pub struct IndexBuilder {
    space: String,
    dimension: usize,
    method: Option<SearchMethod>,
    own_keys: Option<bool>,
    keys: Records,
    captions: Records,
    text: String,
    /// Where each caption ends in `text`.
    text_ends: Vec<u32>,
    input: Sha256,
}

/// The vectors of one kind. The first ones wait for the center.
#[derive(Default)]
struct Records {
    waiting: Vec<f32>,
    center: Vec<f32>,
    bytes: Vec<u8>,
}

impl Records {
    fn push(&mut self, embedding: &Embedding) {
        if self.center.is_empty() {
            self.waiting.extend(embedding.as_slice());
            if self.waiting.len() == CENTER_ENTRIES * embedding.dimension() {
                self.settle(embedding.dimension());
            }
        } else {
            quantize(&self.center, embedding.as_slice(), &mut self.bytes);
        }
    }

    /// Finds the center, if it is not found, and stores what waited for it.
    fn settle(&mut self, dimension: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        self.center = center(&waiting, dimension);
        for row in waiting.chunks_exact(dimension) {
            quantize(&self.center, row, &mut self.bytes);
        }
    }

    fn record(&self, entry: usize) -> &[u8] {
        let stride = self.center.len() + SCALE_BYTES;
        &self.bytes[entry * stride..(entry + 1) * stride]
    }
}

impl IndexBuilder {
    /// Begins an index of the embedding space `space`, 1 to 64 characters of `a-z`, `0-9`, `.`,
    /// `_` and `-`, with 1 to 4096 dimensions. Errs on anything else.
    pub fn new(space: &str, dimension: usize) -> Result<Self, IndexError> {
        if !is_space_id(space) {
            return Err(IndexError::SpaceId { got: space.to_owned() });
        }
        if dimension == 0 || dimension > MAX_DIMENSION {
            return Err(IndexError::Dimension { got: dimension });
        }
        Ok(Self {
            space: space.to_owned(),
            dimension,
            method: None,
            own_keys: None,
            keys: Records::default(),
            captions: Records::default(),
            text: String::new(),
            text_ends: Vec::new(),
            input: Sha256::new(),
        })
    }

    /// How the index will be searched; without this, [`SearchMethod::for_entries`] decides.
    pub fn search_by(mut self, method: SearchMethod) -> Self {
        self.method = Some(method);
        self
    }

    /// Number of entries so far.
    pub fn n_entries(&self) -> usize {
        self.text_ends.len()
    }

    /// Adds an entry: a caption of at most 1000 characters without control characters, its
    /// embedding, and the key it is found by where that is another vector, which holds for
    /// every entry or for none. The text is trimmed; whether it repeats another is not looked at,
    /// because one caption may belong to several pictures. After an error the entry is not in.
    pub fn push(
        &mut self,
        text: &str,
        caption: &Embedding,
        key: Option<&Embedding>,
    ) -> Result<(), IndexError> {
        let entry = self.n_entries();
        if entry == MAX_ENTRIES {
            return Err(IndexError::TooManyEntries);
        }
        let text = check_text(text).map_err(|fault| IndexError::Caption { entry, fault })?;
        for embedding in [Some(caption), key].into_iter().flatten() {
            if embedding.dimension() != self.dimension {
                let (expected, got) = (self.dimension, embedding.dimension());
                return Err(IndexError::EntryDimension { entry, expected, got });
            }
        }
        if self.own_keys.is_some_and(|it| it != key.is_some()) {
            return Err(IndexError::MixedKeys { entry });
        }
        let text_end = u32::try_from(self.text.len() + text.len());
        let text_end = text_end.map_err(|_| IndexError::TooManyEntries)?;
        self.own_keys = Some(key.is_some());
        if key.is_some() {
            self.captions.push(caption);
        }
        self.keys.push(key.unwrap_or(caption));
        for value in key.into_iter().chain([caption]).flat_map(Embedding::as_slice) {
            self.input.update(value.to_le_bytes());
        }
        self.text.push_str(text);
        self.text_ends.push(text_end);
        Ok(())
    }

    /// Errs when no index can be written to `path`, as far as that can be known beforehand. Nothing
    /// is changed.
    pub fn check_output(path: &Path) -> Result<(), IndexError> {
        try_write(path).map_err(|source| IndexError::Write { path: path.to_path_buf(), source })
    }

    /// Builds the graph and writes the index to `path`, whole or not at all; a file that stands
    /// there is replaced. `progress` is told how many of how many entries are in the graph, from
    /// another thread. Errs when there is no entry, and when the file cannot be written.
    pub fn write(
        mut self,
        path: &Path,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<(), IndexError> {
        let n_entries = self.n_entries();
        let own_keys = self.own_keys.ok_or(IndexError::NoEntries)?;
        self.keys.settle(self.dimension);
        self.captions.settle(self.dimension);
        let method = self.method.unwrap_or(SearchMethod::for_entries(n_entries, own_keys));
        let built = match method {
            SearchMethod::Exhaustive => graph::Built::without_graph(n_entries),
            SearchMethod::Graph => {
                let keys = Vectors::new(&self.keys.center, &self.keys.bytes, Kernel::detect());
                graph::build(keys, &|done| progress(done, n_entries))
                    .ok_or_else(|| IndexError::Graph { path: path.to_path_buf() })?
            }
        };
        let graph::Built { bytes: graph, n_layers, order } = built;
        progress(n_entries, n_entries);

        let packer = Packer::train((0..n_entries).map(|it| self.caption(it)));
        let mut text = Vec::new();
        let mut offsets = 0u32.to_le_bytes().to_vec();
        for entry in &order {
            text.extend(packer.pack(self.caption(*entry)));
            let end = u32::try_from(text.len()).map_err(|_| IndexError::TooManyEntries)?;
            offsets.extend(end.to_le_bytes());
        }
        let sketches = match method {
            SearchMethod::Exhaustive => {
                let records = order.iter().map(|it| self.keys.record(*it));
                sketch::section(records, n_entries, self.dimension)
            }
            SearchMethod::Graph => Vec::new(),
        };
        let centers = self.keys.center.iter().chain(&self.captions.center);
        let centers: Vec<u8> = centers.flat_map(|it| it.to_le_bytes()).collect();
        let symbols = packer.symbols();
        let captions = own_keys.then_some(&self.captions);
        // Vectors are most of it; they are put into the graph's order as they are written.
        let parts: [Part<'_>; Section::STORED.len()] = [
            Part::Bytes(&graph),
            Part::Bytes(&sketches),
            Part::Bytes(&centers),
            Part::Records(Some(&self.keys), &order),
            Part::Records(captions, &order),
            Part::Bytes(&symbols),
            Part::Bytes(&offsets),
            Part::Bytes(&text),
        ];
        let header = Header {
            dimension: self.dimension,
            #[expect(clippy::cast_possible_truncation, reason = "at most MAX_ENTRIES")]
            n_entries: n_entries as u32,
            n_layers,
            own_keys,
            ef_construction: if graph.is_empty() { 0 } else { EF_CONSTRUCTION },
            space: self.space,
            input_hash: self.input.finalize().into(),
            seed: SEED,
            sections: parts.each_ref().map(Part::row),
        };
        write_atomically(path, |file| {
            file.write_all(&header.encode())?;
            parts.iter().flat_map(Part::pieces).try_for_each(|it| file.write_all(it))
        })
        .map_err(|source| IndexError::Write { path: path.to_path_buf(), source })
    }

    fn caption(&self, entry: usize) -> &str {
        let start = entry.checked_sub(1).map_or(0, |it| self.text_ends[it]);
        &self.text[start as usize..self.text_ends[entry] as usize]
    }
}

/// What a section consists of.
enum Part<'a> {
    Bytes(&'a [u8]),
    /// Records in an order; none where the captions are the keys.
    Records(Option<&'a Records>, &'a [usize]),
}

impl Part<'_> {
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (bytes, records, order): (&[u8], _, &[usize]) = match self {
            Part::Bytes(it) => (it, None, &[]),
            Part::Records(records, order) => (&[], *records, order),
        };
        let records = records.into_iter();
        let records = records.flat_map(|it| order.iter().map(|entry| it.record(*entry)));
        std::iter::once(bytes).chain(records)
    }

    fn row(&self) -> SectionRow {
        let mut hasher = crc32fast::Hasher::new();
        let mut length = 0;
        for piece in self.pieces() {
            hasher.update(piece);
            length += piece.len() as u64;
        }
        SectionRow { length, checksum: hasher.finalize() }
    }
}
