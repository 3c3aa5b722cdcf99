//! From captions and embeddings to an index file.

use std::io::Write;
use std::path::Path;

use lookout_core::Embedding;
use sha2::{Digest, Sha256};

use crate::IndexError;
use crate::atomic::{try_write, write_atomically};
use crate::captions::check_text;
use crate::format::{
    Header, MAX_DIMENSION, MAX_ENTRIES, SCALE_BYTES, Section, SectionRow, is_space_id,
};
use crate::graph::{self, EF_CONSTRUCTION, SEED};
use crate::vectors::{Vectors, quantize};

/// Collects entries, then builds the graph and writes the file. The same entries in the same
/// order give the same bytes on every 64-bit machine.
pub struct IndexBuilder {
    space: String,
    dimension: usize,
    own_keys: Option<bool>,
    keys: Vec<u8>,
    captions: Vec<u8>,
    texts: Vec<Box<str>>,
    text_bytes: u32,
    input: Sha256,
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
            own_keys: None,
            keys: Vec::new(),
            captions: Vec::new(),
            texts: Vec::new(),
            text_bytes: 0,
            input: Sha256::new(),
        })
    }

    /// Number of entries so far.
    pub fn n_entries(&self) -> usize {
        self.texts.len()
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
        self.text_bytes = u32::try_from(text.len())
            .ok()
            .and_then(|it| self.text_bytes.checked_add(it))
            .ok_or(IndexError::TooManyEntries)?;
        self.own_keys = Some(key.is_some());
        if key.is_some() {
            quantize(caption, &mut self.captions);
        }
        quantize(key.unwrap_or(caption), &mut self.keys);
        for value in key.into_iter().chain([caption]).flat_map(Embedding::as_slice) {
            self.input.update(value.to_le_bytes());
        }
        self.texts.push(text.into());
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
        self,
        path: &Path,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<(), IndexError> {
        let n_entries = self.n_entries();
        let own_keys = self.own_keys.ok_or(IndexError::NoEntries)?;
        let keys = Vectors::new(&self.keys, self.dimension);
        let built = graph::build(keys, n_entries, &|done| progress(done, n_entries))
            .ok_or_else(|| IndexError::Graph { path: path.to_path_buf(), action: "built" })?;
        let graph::Built { bytes: graph, n_layers, order } = built;
        progress(n_entries, n_entries);

        let record_bytes = self.dimension + SCALE_BYTES;
        let in_order = |vectors: &[u8]| -> Vec<u8> {
            let record = |entry: usize| &vectors[entry * record_bytes..(entry + 1) * record_bytes];
            order.iter().flat_map(|entry| record(*entry)).copied().collect()
        };
        let mut text = Vec::new();
        let mut offsets = 0u32.to_le_bytes().to_vec();
        for entry in &order {
            text.extend(self.texts[*entry].bytes());
            #[expect(clippy::cast_possible_truncation, reason = "`push` adds up the same lengths")]
            offsets.extend((text.len() as u32).to_le_bytes());
        }
        let captions = if own_keys { in_order(&self.captions) } else { Vec::new() };
        let sections: [_; Section::STORED.len()] =
            [graph, in_order(&self.keys), captions, offsets, text];
        let header = Header {
            dimension: self.dimension,
            #[expect(clippy::cast_possible_truncation, reason = "at most MAX_ENTRIES")]
            n_entries: n_entries as u32,
            n_layers,
            own_keys,
            ef_construction: EF_CONSTRUCTION,
            space: self.space,
            input_hash: self.input.finalize().into(),
            seed: SEED,
            sections: sections
                .each_ref()
                .map(|it| SectionRow { length: it.len() as u64, checksum: crc32fast::hash(it) }),
        };
        write_atomically(path, |file| {
            file.write_all(&header.encode())?;
            sections.iter().try_for_each(|it| file.write_all(it))
        })
        .map_err(|source| IndexError::Write { path: path.to_path_buf(), source })
    }
}
