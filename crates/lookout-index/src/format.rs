//! The file format, version 2, as `README.md` beside this crate writes it down.

use std::fmt;
use std::path::Path;

use crate::{IndexError, sketch};

/// The version written, and the only one read.
pub(crate) const FORMAT_VERSION: u32 = 2;
/// Most entries of an index.
pub const MAX_ENTRIES: usize = 10_000_000;
/// Most dimensions of an embedding; keeps integer dot products within an `i32`.
pub(crate) const MAX_DIMENSION: usize = 4096;
/// Most bytes of an embedding space id.
pub(crate) const MAX_SPACE_BYTES: usize = 64;
/// Bytes of a vector's scale.
pub(crate) const SCALE_BYTES: usize = 4;

/// Neither text nor anything that a text conversion leaves intact.
pub(crate) const MAGIC: [u8; 8] = *b"\x89LIDX\r\n\x1a";
/// `i8` around a center, with one scale a vector.
const CENTERED_INT8: u8 = 2;
pub(crate) const MAX_LAYERS: u32 = 32;
const SECTION_TABLE: usize = 144;
const SECTION_ROW: usize = 20;
const HEADER_CHECKSUM: usize = SECTION_TABLE + Section::STORED.len() * SECTION_ROW;
pub(crate) const HEADER_BYTES: usize = HEADER_CHECKSUM + 4;

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What the other sections are; no row of the section table.
    Header,
    /// Neighbors of every entry; empty where searches are exhaustive.
    Graph,
    /// Two bits of every dimension of the keys; empty where searches go by the graph.
    Sketches,
    /// What the vectors are stored as differences from.
    Centers,
    /// The vectors that the graph is searched by.
    KeyVectors,
    /// The captions' vectors; empty where they are the keys.
    CaptionVectors,
    /// What the bytes of the text stand for.
    Symbols,
    /// Where each caption begins and ends.
    TextOffsets,
    /// The captions.
    Text,
}

impl Section {
    /// Those in the section table, in the file's order.
    pub(crate) const STORED: [Self; 8] = [
        Self::Graph,
        Self::Sketches,
        Self::Centers,
        Self::KeyVectors,
        Self::CaptionVectors,
        Self::Symbols,
        Self::TextOffsets,
        Self::Text,
    ];
    /// Those that opening reads and checks; the others are large, and checked by
    /// [`crate::Index::verify_all`].
    pub(crate) const CHECKED_AT_OPENING: [Self; 5] =
        [Self::Graph, Self::Sketches, Self::Centers, Self::Symbols, Self::TextOffsets];

    /// Its row in the section table; the header has none.
    pub(crate) fn row(self) -> usize {
        self as usize - 1
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Graph => "graph",
            Self::Sketches => "sketches",
            Self::Centers => "centers",
            Self::KeyVectors => "key vectors",
            Self::CaptionVectors => "caption vectors",
            Self::Symbols => "text symbols",
            Self::TextOffsets => "caption offsets",
            Self::Text => "caption text",
        })
    }
}

/// One row of the section table; the offset follows from the lengths before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SectionRow {
    pub(crate) length: u64,
    pub(crate) checksum: u32,
}

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) dimension: usize,
    pub(crate) n_entries: u32,
    /// Layers of the graph above the lowest.
    pub(crate) n_layers: u32,
    /// Whether keys are stored beside the caption vectors.
    pub(crate) own_keys: bool,
    pub(crate) ef_construction: u16,
    pub(crate) space: String,
    pub(crate) input_hash: [u8; 32],
    pub(crate) seed: u64,
    pub(crate) sections: [SectionRow; Section::STORED.len()],
}

impl Header {
    pub(crate) fn file_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + self.sections.iter().map(|it| it.length).sum::<u64>()
    }

    /// The header's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend(MAGIC);
        out.extend(FORMAT_VERSION.to_le_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_DIMENSION")]
        out.extend((self.dimension as u32).to_le_bytes());
        out.extend(self.n_entries.to_le_bytes());
        out.extend(self.n_layers.to_le_bytes());
        out.extend([u8::from(self.own_keys), CENTERED_INT8]);
        out.extend(self.ef_construction.to_le_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_SPACE_BYTES")]
        out.extend((self.space.len() as u32).to_le_bytes());
        out.extend(self.space.bytes());
        out.resize(32 + MAX_SPACE_BYTES, 0);
        out.extend(self.input_hash);
        out.extend(self.seed.to_le_bytes());
        out.extend(self.file_bytes().to_le_bytes());
        let mut offset = HEADER_BYTES as u64;
        for section in &self.sections {
            out.extend(offset.to_le_bytes());
            out.extend(section.length.to_le_bytes());
            out.extend(section.checksum.to_le_bytes());
            offset += section.length;
        }
        out.extend(crc32fast::hash(&out).to_le_bytes());
        out
    }

    /// Reads and checks the header of a whole file: every later access by its counts and lengths
    /// is within the file. Lengths of graph, symbols and text are checked where they are read.
    pub(crate) fn decode(path: &Path, file: &[u8]) -> Result<Self, IndexError> {
        let fault = |rule, got| malformed(path, Section::Header, rule, got);
        if !file.starts_with(&MAGIC[..file.len().min(MAGIC.len())]) {
            return Err(IndexError::NotAnIndex { path: path.to_path_buf() });
        }
        let length = |section, expected, got| {
            Err(IndexError::Length { path: path.to_path_buf(), section, expected, got })
        };
        let file_bytes = file.len() as u64;
        if file.len() < 12 {
            return length(Section::Header, HEADER_BYTES as u64, file_bytes);
        }
        // Before everything else: another version may have another header.
        let version = u32_at(file, 8);
        if version != FORMAT_VERSION {
            return Err(IndexError::Version { path: path.to_path_buf(), got: version });
        }
        if file.len() < HEADER_BYTES {
            return length(Section::Header, HEADER_BYTES as u64, file_bytes);
        }
        let (checksum, got) =
            (u32_at(file, HEADER_CHECKSUM), crc32fast::hash(&file[..HEADER_CHECKSUM]));
        check_sum(path, Section::Header, checksum, got)?;

        let dimension = u32_at(file, 12) as usize;
        if dimension == 0 || dimension > MAX_DIMENSION {
            return Err(fault("the dimension must be 1 to 4096", dimension as u64));
        }
        let n_entries = u32_at(file, 16);
        if n_entries == 0 || n_entries as usize > MAX_ENTRIES {
            return Err(fault("the number of entries must be 1 to 10000000", n_entries.into()));
        }
        let n_layers = u32_at(file, 20);
        if n_layers > MAX_LAYERS {
            return Err(fault("the number of layers must be at most 32", n_layers.into()));
        }
        let own_keys = match file[24] {
            0 => false,
            1 => true,
            got => return Err(fault("the kind of keys must be 0 or 1", got.into())),
        };
        if file[25] != CENTERED_INT8 {
            return Err(fault("the quantization must be 2", file[25].into()));
        }
        let ef_construction = u16::from_le_bytes([file[26], file[27]]);
        let space_bytes = u32_at(file, 28) as usize;
        let (space, padding) = file[32..32 + MAX_SPACE_BYTES]
            .split_at_checked(space_bytes)
            .ok_or_else(|| fault("the space id must have at most 64 bytes", space_bytes as u64))?;
        let space = str::from_utf8(space)
            .ok()
            .filter(|it| is_space_id(it) && padding.iter().all(|it| *it == 0))
            .ok_or_else(|| {
                fault("the space id must be of a-z, 0-9, `.`, `_` and `-`", space_bytes as u64)
            })?;
        let mut input_hash = [0; 32];
        input_hash.copy_from_slice(&file[96..128]);
        let seed = u64_at(file, 128);
        let declared = u64_at(file, 136);

        let mut sections = [SectionRow::default(); Section::STORED.len()];
        let vector_bytes = u64::from(n_entries) * (dimension + SCALE_BYTES) as u64;
        let mut has_graph = false;
        let mut offset = HEADER_BYTES as u64;
        for (idx, section) in Section::STORED.into_iter().enumerate() {
            let at = SECTION_TABLE + idx * SECTION_ROW;
            let row = SectionRow { length: u64_at(file, at + 8), checksum: u32_at(file, at + 16) };
            // No gap and no overlap: every byte of the file belongs to one section.
            if u64_at(file, at) != offset {
                let rule = "a section must begin where the one before it ends";
                return Err(malformed(path, section, rule, u64_at(file, at)));
            }
            let expected = match section {
                // One of the two finds the nearest.
                Section::Sketches if has_graph => Some(0),
                Section::Sketches => Some(sketch::section_bytes(n_entries.into(), dimension)),
                Section::Centers => Some((1 + u64::from(own_keys)) * dimension as u64 * 4),
                Section::KeyVectors => Some(vector_bytes),
                Section::CaptionVectors => Some(if own_keys { vector_bytes } else { 0 }),
                Section::TextOffsets => Some((u64::from(n_entries) + 1) * 4),
                Section::Header | Section::Graph | Section::Symbols | Section::Text => None,
            };
            if let Some(expected) = expected.filter(|it| *it != row.length) {
                return length(section, expected, row.length);
            }
            let end = offset.checked_add(row.length).filter(|it| *it <= declared);
            let Some(end) = end else {
                let rule = "a section must end within the file's declared length";
                return Err(malformed(path, section, rule, row.length));
            };
            if end > file_bytes {
                return length(section, row.length, file_bytes.saturating_sub(offset));
            }
            has_graph |= section == Section::Graph && row.length > 0;
            sections[idx] = row;
            offset = end;
        }
        if !has_graph && (n_layers > 0 || ef_construction > 0) {
            return Err(fault(
                "without a graph there must be no layers and no ef",
                n_layers.max(ef_construction.into()).into(),
            ));
        }
        if offset != declared {
            return Err(fault("the declared length must be that of all sections", declared));
        }
        if declared != file_bytes {
            let [.., text] = sections;
            return length(Section::Text, text.length, text.length + (file_bytes - declared));
        }
        Ok(Self {
            dimension,
            n_entries,
            n_layers,
            own_keys,
            ef_construction,
            space: space.to_owned(),
            input_hash,
            seed,
            sections,
        })
    }
}

/// Whether a model may name its space so.
pub(crate) fn is_space_id(text: &str) -> bool {
    (1..=MAX_SPACE_BYTES).contains(&text.len())
        && text.bytes().all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

pub(crate) fn malformed(path: &Path, section: Section, rule: &'static str, got: u64) -> IndexError {
    IndexError::Malformed { path: path.to_path_buf(), section, rule, got }
}

pub(crate) fn check_sum(
    path: &Path,
    section: Section,
    expected: u32,
    got: u32,
) -> Result<(), IndexError> {
    if expected == got {
        Ok(())
    } else {
        Err(IndexError::Checksum { path: path.to_path_buf(), section, expected, got })
    }
}

/// The number at byte `at`; `bytes` must reach so far.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

/// The number at byte `at`; `bytes` must reach so far.
#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}
