//! An index file, open for searching.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lookout_core::{Candidate, CaptionSearch, Embedding, EmbeddingError, PortError};
use memmap2::Mmap;

use crate::format::{FORMAT_VERSION, HEADER_BYTES, Header, Section, check_sum, malformed, u32_at};
use crate::graph::{self, Graph};
use crate::kernel::Kernel;
use crate::search::{Scratch, search_all};
use crate::text::Symbols;
use crate::vectors::{Vectors, center, quantize_query};
use crate::{IndexError, SearchMethod, sketch};

/// Candidates that [`Index::open`] provides for.
pub const DEFAULT_CANDIDATES: usize = 128;
/// Captions that their mean is taken from: far more than tell it from that of all.
const MEAN_ENTRIES: usize = 4096;
/// Results the graph search keeps beyond the candidates asked for. Images lie apart from captions
/// in their common space, so a graph of captions leads to them less surely, and entries with one
/// key crowd each other out.
const SLACK: usize = 160;

/// An open index. Its file may be replaced by renaming another over it, which changes nothing
/// here; changing or cutting it in place is not supported, and cutting it kills the process with
/// SIGBUS. [`crate::IndexBuilder::write`] only ever renames.
pub struct Index {
    path: PathBuf,
    map: Mmap,
    header: Header,
    sections: [Range<usize>; Section::STORED.len()],
    /// `None` where all entries are looked at.
    graph: Option<Graph>,
    key_center: Box<[f32]>,
    /// Empty where the captions are the keys.
    caption_center: Box<[f32]>,
    kernel: Kernel,
    n_candidates: usize,
    scratch: Mutex<Scratch>,
}

/// An entry that a search found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The entry's number in the file.
    pub entry: usize,
    /// Cosine between the query and the entry's key.
    pub key_similarity: f64,
}

/// What an index is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexInfo {
    /// Format version.
    pub version: u32,
    /// Embedding space id.
    pub space: String,
    /// Dimension of the embeddings.
    pub dimension: usize,
    /// Number of entries.
    pub n_entries: usize,
    /// Whether entries have keys of their own; otherwise the captions' vectors are the keys.
    pub own_keys: bool,
    /// How it is searched.
    pub method: SearchMethod,
    /// The instruction set that searches use, such as `avx2`.
    pub kernel: &'static str,
    /// Candidates considered at each insertion when the graph was built; 0 without a graph.
    pub ef_construction: usize,
    /// Results that a search of the graph keeps; 0 without a graph.
    pub ef_search: usize,
    /// SHA-256 of the embeddings that went in, 64 hexadecimal digits.
    pub input_hash: String,
    /// Bytes of every section, in the file's order.
    pub section_bytes: Vec<(Section, u64)>,
    /// Bytes of the file.
    pub file_bytes: u64,
}

impl Index {
    /// The mean of the embeddings of the captions, not normalized: of 4096 of them at most, evenly over the
    /// whole index, as its order may be one of topics. Damaged ones are passed over.
    pub fn caption_mean(&self) -> Vec<f32> {
        let (section, stored_around) = match self.caption_center.is_empty() {
            true => (Section::KeyVectors, &self.key_center),
            false => (Section::CaptionVectors, &self.caption_center),
        };
        let vectors = self.vectors(section);
        let step = vectors.n().div_ceil(MEAN_ENTRIES).max(1);
        let mut sample = Vec::new();
        for entry in (0..vectors.n()).step_by(step) {
            if let Ok(it) = vectors.embedding(entry) {
                sample.extend_from_slice(it.as_slice());
            }
        }
        match sample.is_empty() {
            true => stored_around.to_vec(),
            false => center(&sample, stored_around.len()),
        }
    }

    /// Opens an index for searches of up to [`DEFAULT_CANDIDATES`].
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        Self::open_for(path, DEFAULT_CANDIDATES)
    }

    /// Opens an index for searches of up to `n_candidates`. Header, graph, sketches, centers,
    /// symbols and caption offsets are verified; vectors and text are left to [`Index::verify_all`], so that opening does not
    /// read them from the disk. Errs when the file cannot be read, is no index of this version,
    /// is cut off, damaged or malformed, and names the section.
    pub fn open_for(path: &Path, n_candidates: usize) -> Result<Self, IndexError> {
        let io_error = |source| IndexError::Read { path: path.to_path_buf(), source };
        let file = open_regular(path)?;
        #[expect(unsafe_code, reason = "mapping a file is the point of the format")]
        // SAFETY: the map is private to this value and read only. Nothing of ours changes a file
        // that stands: it is replaced by rename, and the map keeps the old one. Another program
        // that writes into it is outside the contract, which the documentation of `Index` states;
        // no reference type with invalid values is ever made of the bytes, and text is checked
        // each time it is read.
        let map = unsafe { Mmap::map(&file) }.map_err(io_error)?;
        let header = Header::decode(path, &map)?;
        let mut end = HEADER_BYTES;
        let sections = header.sections.map(|row| {
            let start = end;
            #[expect(clippy::cast_possible_truncation, reason = "`decode` found it in the map")]
            let length = row.length as usize;
            end += length;
            start..end
        });
        for section in Section::CHECKED_AT_OPENING {
            verify_section(path, &header, section, &map[sections[section.row()].clone()])?;
        }
        let bytes = |section: Section| &map[sections[section.row()].clone()];
        let graph = match bytes(Section::Graph) {
            [] => None,
            it => Some(Graph::open(path, it, header.n_entries, header.n_layers)?),
        };
        sketch::check(path, bytes(Section::Sketches), header.dimension)?;
        let [key_center, caption_center] =
            read_centers(path, bytes(Section::Centers), header.dimension)?;
        Symbols::check(path, bytes(Section::Symbols))?;
        let text_bytes = header.sections[Section::Text.row()].length;
        verify_offsets(path, bytes(Section::TextOffsets), text_bytes)?;
        let path = path.to_path_buf();
        let (kernel, scratch) = (Kernel::detect(), Mutex::default());
        Ok(Self {
            path,
            map,
            header,
            sections,
            graph,
            key_center,
            caption_center,
            kernel,
            n_candidates,
            scratch,
        })
    }

    /// Errs, naming both, when a model makes embeddings of another space or dimension.
    pub fn check_space(&self, space: &str, dimension: usize) -> Result<(), IndexError> {
        if self.header.space == space && self.header.dimension == dimension {
            return Ok(());
        }
        Err(IndexError::Space {
            path: self.path.clone(),
            expected: space.to_owned(),
            expected_dimension: dimension,
            got: self.header.space.clone(),
            got_dimension: self.header.dimension,
        })
    }

    /// What the index is.
    pub fn info(&self) -> IndexInfo {
        let header = &self.header;
        let lengths = header.sections.iter().map(|it| it.length);
        IndexInfo {
            version: FORMAT_VERSION,
            space: header.space.clone(),
            dimension: header.dimension,
            n_entries: header.n_entries as usize,
            own_keys: header.own_keys,
            method: match self.graph {
                Some(_) => SearchMethod::Graph,
                None => SearchMethod::Exhaustive,
            },
            kernel: self.kernel.name,
            ef_construction: header.ef_construction.into(),
            ef_search: self.graph.as_ref().map_or(0, |_| ef(self.n_candidates)),
            input_hash: header.input_hash.iter().map(|it| format!("{it:02x}")).collect(),
            section_bytes: Section::STORED.into_iter().zip(lengths).collect(),
            file_bytes: header.file_bytes(),
        }
    }

    /// The `n_candidates` entries whose keys are nearest to `image`, nearest first; fewer when
    /// the index holds fewer. Approximate, as the graph is. Errs on another dimension, when more
    /// are asked for than the index was opened for, and when a found entry is damaged.
    pub fn search(
        &self,
        image: &Embedding,
        n_candidates: usize,
    ) -> Result<Vec<Candidate>, IndexError> {
        let mut hits = Vec::new();
        self.nearest(image, n_candidates, &mut hits)?;
        let mut text = Vec::new();
        let candidate = |hit: Hit| {
            let section =
                if self.header.own_keys { Section::CaptionVectors } else { Section::KeyVectors };
            let embedding = self.vector(section, hit.entry)?;
            let text = self.text(hit.entry, &mut text)?.to_owned();
            Ok(Candidate { text, embedding, key_similarity: hit.key_similarity })
        };
        hits.into_iter().map(candidate).collect()
    }

    /// As [`Index::search`], without captions, into `hits`. Allocates nothing once it has been
    /// called with as many candidates and the same `hits`. Calls from several threads wait for
    /// one another.
    pub fn nearest(
        &self,
        image: &Embedding,
        n_candidates: usize,
        hits: &mut Vec<Hit>,
    ) -> Result<(), IndexError> {
        if image.dimension() != self.header.dimension {
            let (expected, got) = (self.header.dimension, image.dimension());
            return Err(IndexError::QueryDimension { expected, got });
        }
        if n_candidates > self.n_candidates {
            let limit = self.n_candidates;
            return Err(IndexError::TooManyCandidates { limit, got: n_candidates });
        }
        // Every search begins by clearing it, so one that panicked leaves nothing behind.
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        quantize_query(image, &mut scratch.query);
        let keys = self.vectors(Section::KeyVectors);
        match &self.graph {
            None => {
                let sketches = self.section(Section::Sketches);
                search_all(sketches, &keys, n_candidates, &mut scratch);
            }
            Some(graph) => {
                let section = self.section(Section::Graph);
                graph::search(graph, section, &keys, ef(self.n_candidates), &mut scratch)
                    .map_err(|it| it.error(&self.path))?;
            }
        }
        hits.clear();
        for found in scratch.found.iter().take(n_candidates) {
            let entry = found.entry as usize;
            let key_similarity = keys
                .cosine(image, entry)
                .map_err(|source| self.bad_vector(Section::KeyVectors, entry, source))?;
            hits.push(Hit { entry, key_similarity });
        }
        // The search ranks by a rounded query.
        let nearer = |a: &Hit, b: &Hit| b.key_similarity.total_cmp(&a.key_similarity);
        hits.sort_unstable_by(|a, b| nearer(a, b).then(a.entry.cmp(&b.entry)));
        Ok(())
    }

    /// Reads and checks the whole file, vectors and text included. Errs at the first fault.
    pub fn verify_all(&self) -> Result<(), IndexError> {
        for section in Section::STORED {
            verify_section(&self.path, &self.header, section, self.section(section))?;
        }
        let mut text = Vec::new();
        for entry in 0..self.header.n_entries as usize {
            self.vector(Section::KeyVectors, entry)?;
            if self.header.own_keys {
                self.vector(Section::CaptionVectors, entry)?;
            }
            self.text(entry, &mut text)?;
        }
        Ok(())
    }

    /// Every caption, in the file's order, each checked as it is read.
    pub fn captions(&self) -> impl Iterator<Item = Result<String, IndexError>> + '_ {
        let mut buffer = Vec::new();
        let text = move |entry| self.text(entry, &mut buffer).map(str::to_owned);
        (0..self.header.n_entries as usize).map(text)
    }

    fn section(&self, section: Section) -> &[u8] {
        &self.map[self.sections[section.row()].clone()]
    }

    /// Of key vectors or caption vectors.
    fn vectors(&self, section: Section) -> Vectors<'_> {
        let around = match section {
            Section::CaptionVectors => &self.caption_center,
            _ => &self.key_center,
        };
        Vectors::new(around, self.section(section), self.kernel)
    }

    fn vector(&self, section: Section, entry: usize) -> Result<Embedding, IndexError> {
        let vector = self.vectors(section).embedding(entry);
        vector.map_err(|source| self.bad_vector(section, entry, source))
    }

    fn bad_vector(&self, section: Section, entry: usize, source: EmbeddingError) -> IndexError {
        IndexError::Vector { path: self.path.clone(), section, entry, source }
    }

    /// A caption, in `buffer`.
    fn text<'a>(&self, entry: usize, buffer: &'a mut Vec<u8>) -> Result<&'a str, IndexError> {
        let path = || self.path.clone();
        let offsets = self.section(Section::TextOffsets);
        let [start, end] = [entry, entry + 1].map(|it| u32_at(offsets, it * 4) as usize);
        let symbols = Symbols::new(self.section(Section::Symbols));
        let packed = self.section(Section::Text).get(start..end);
        if packed.and_then(|it| symbols.unpack(it, buffer)).is_none() {
            return Err(IndexError::PackedText { path: path(), entry });
        }
        str::from_utf8(buffer).map_err(|source| IndexError::Text { path: path(), entry, source })
    }
}

impl CaptionSearch for Index {
    fn search(
        &mut self,
        image: &Embedding,
        n_candidates: usize,
    ) -> Result<Vec<Candidate>, PortError> {
        Index::search(self, image, n_candidates)
            .map_err(|error| PortError::new(error.disposition(), error))
    }
}

/// Results a graph search keeps.
fn ef(n_candidates: usize) -> usize {
    n_candidates.saturating_add(SLACK)
}

/// Opens a file, refusing what could block or never end.
pub(crate) fn open_regular(path: &Path) -> Result<File, IndexError> {
    let io_error = |source| IndexError::Read { path: path.to_path_buf(), source };
    // Asked before opening: opening a pipe waits for a writer.
    if !path.metadata().map_err(io_error)?.is_file() {
        return Err(IndexError::NotAFile { path: path.to_path_buf() });
    }
    File::open(path).map_err(io_error)
}

fn verify_section(
    path: &Path,
    header: &Header,
    section: Section,
    bytes: &[u8],
) -> Result<(), IndexError> {
    check_sum(path, section, header.sections[section.row()].checksum, crc32fast::hash(bytes))
}

/// The centers of key and caption vectors.
fn read_centers(
    path: &Path,
    section: &[u8],
    dimension: usize,
) -> Result<[Box<[f32]>; 2], IndexError> {
    let values: Vec<f32> = section.as_chunks().0.iter().map(|it| f32::from_le_bytes(*it)).collect();
    for (idx, center) in values.chunks_exact(dimension).enumerate() {
        // A mean of unit vectors is within the sphere.
        let squares: f64 = center.iter().map(|it| f64::from(*it).powi(2)).sum();
        if !squares.is_finite() || squares > 1.001 {
            let rule = "a center must be finite and no longer than 1";
            return Err(malformed(path, Section::Centers, rule, idx as u64));
        }
    }
    let (keys, captions) = values.split_at(dimension);
    Ok([keys.into(), captions.into()])
}

/// Checks that captions follow one another from the beginning of the text to its end.
fn verify_offsets(path: &Path, offsets: &[u8], text_bytes: u64) -> Result<(), IndexError> {
    let fault = |rule, got: u32| Err(malformed(path, Section::TextOffsets, rule, got.into()));
    let mut last = 0;
    for (idx, offset) in offsets.chunks_exact(4).map(|it| u32_at(it, 0)).enumerate() {
        if idx == 0 && offset != 0 {
            return fault("the first caption must begin at 0", offset);
        }
        if offset < last {
            return fault("a caption must begin where the one before it ends", offset);
        }
        last = offset;
    }
    if u64::from(last) != text_bytes {
        return fault("the last caption must end with the text", last);
    }
    Ok(())
}
