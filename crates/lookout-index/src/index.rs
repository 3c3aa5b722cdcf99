//! An index file, open for searching.

use std::ops::Range;
use std::path::{Path, PathBuf};

use lookout_core::{Candidate, CaptionSearch, Embedding, PortError};
use memmap2::Mmap;

use crate::IndexError;
use crate::captions::open_regular;
use crate::format::{FORMAT_VERSION, HEADER_BYTES, Header, Section, check_sum, malformed, u32_at};
use crate::graph::Graph;
use crate::vectors::{Vectors, quantize_query};

/// Candidates that [`Index::open`] provides for.
pub const DEFAULT_CANDIDATES: usize = 128;
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
    graph: Graph,
    n_candidates: usize,
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
    /// Candidates considered at each insertion when the graph was built.
    pub ef_construction: usize,
    /// Results that a search of the graph keeps.
    pub ef_search: usize,
    /// SHA-256 of the embeddings that went in, 64 hexadecimal digits.
    pub input_hash: String,
    /// Bytes of every section, in the file's order.
    pub section_bytes: Vec<(Section, u64)>,
    /// Bytes of the file.
    pub file_bytes: u64,
}

impl Index {
    /// Opens an index for searches of up to [`DEFAULT_CANDIDATES`].
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        Self::open_for(path, DEFAULT_CANDIDATES)
    }

    /// Opens an index for searches of up to `n_candidates`. Header, graph and caption offsets are
    /// verified; vectors and text are left to [`Index::verify_all`], so that opening does not
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
        let section = &map[sections[Section::Graph.row()].clone()];
        verify_section(path, &header, Section::Graph, section)?;
        let graph =
            Graph::read(path, section, header.n_entries, header.n_layers, ef(n_candidates))?;
        let offsets = &map[sections[Section::TextOffsets.row()].clone()];
        verify_section(path, &header, Section::TextOffsets, offsets)?;
        verify_offsets(path, offsets, header.sections[Section::Text.row()].length)?;
        Ok(Self { path: path.to_path_buf(), map, header, sections, graph, n_candidates })
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
            ef_construction: header.ef_construction.into(),
            ef_search: ef(self.n_candidates),
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
        if image.dimension() != self.header.dimension {
            let (expected, got) = (self.header.dimension, image.dimension());
            return Err(IndexError::QueryDimension { expected, got });
        }
        if n_candidates > self.n_candidates {
            let limit = self.n_candidates;
            return Err(IndexError::TooManyCandidates { limit, got: n_candidates });
        }
        let found =
            self.graph
                .search(&self.vectors(Section::KeyVectors), &quantize_query(image))
                .ok_or_else(|| IndexError::Graph { path: self.path.clone(), action: "searched" })?;
        let mut keyed = Vec::with_capacity(found.len());
        for entry in found {
            let key = self.vector(Section::KeyVectors, entry)?;
            keyed.push((image.cosine(&key), entry, key));
        }
        // The graph compares a rounded query. Stable, so that equal keys stay in its order.
        keyed.sort_by(|a, b| b.0.total_cmp(&a.0));
        keyed.truncate(n_candidates);
        let candidate = |(key_similarity, entry, key)| {
            let embedding = match self.header.own_keys {
                true => self.vector(Section::CaptionVectors, entry)?,
                false => key,
            };
            Ok(Candidate { text: self.text(entry)?.to_owned(), embedding, key_similarity })
        };
        keyed.into_iter().map(candidate).collect()
    }

    /// Reads and checks the whole file, vectors and text included. Errs at the first fault.
    pub fn verify_all(&self) -> Result<(), IndexError> {
        for section in Section::STORED {
            verify_section(&self.path, &self.header, section, self.section(section))?;
        }
        for entry in 0..self.header.n_entries as usize {
            self.vector(Section::KeyVectors, entry)?;
            if self.header.own_keys {
                self.vector(Section::CaptionVectors, entry)?;
            }
            self.text(entry)?;
        }
        Ok(())
    }

    fn section(&self, section: Section) -> &[u8] {
        &self.map[self.sections[section.row()].clone()]
    }

    fn vectors(&self, section: Section) -> Vectors<'_> {
        Vectors::new(self.section(section), self.header.dimension)
    }

    fn vector(&self, section: Section, entry: usize) -> Result<Embedding, IndexError> {
        self.vectors(section).embedding(entry).map_err(|source| {
            let path = self.path.clone();
            IndexError::Vector { path, section, entry, source }
        })
    }

    fn text(&self, entry: usize) -> Result<&str, IndexError> {
        let offsets = self.section(Section::TextOffsets);
        let [start, end] = [entry, entry + 1].map(|it| u32_at(offsets, it * 4) as usize);
        str::from_utf8(&self.section(Section::Text)[start..end])
            .map_err(|source| IndexError::Text { path: self.path.clone(), entry, source })
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

/// Results a graph search keeps; instant-distance gives no more than this many.
fn ef(n_candidates: usize) -> usize {
    n_candidates.saturating_add(SLACK)
}

fn verify_section(
    path: &Path,
    header: &Header,
    section: Section,
    bytes: &[u8],
) -> Result<(), IndexError> {
    check_sum(path, section, header.sections[section.row()].checksum, crc32fast::hash(bytes))
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
