//! Seeds of index files, and repairs that let altered ones past checksums and lengths.

use lookout_core::Embedding;
use lookout_index::{IndexBuilder, SearchMethod};

use crate::{folder, put, u32_at, u64_at};

const TABLE: usize = 144;
const ROW: usize = 20;
const N_SECTIONS: usize = 8;
const HEADER_CHECKSUM: usize = TABLE + N_SECTIONS * ROW;
const HEADER: usize = HEADER_CHECKSUM + 4;
const GRAPH: usize = 0;
const SYMBOLS: usize = 5;
const OFFSETS: usize = 6;
const TEXT: usize = 7;
/// A file laid out anew has no more dimensions and entries than these.
const MOST_DIMENSIONS: u32 = 64;
const MOST_ENTRIES: u32 = 128;

/// A unit vector that differs by `seed`.
pub fn vector(dimension: usize, seed: usize) -> Embedding {
    let entry = |it: usize| ((it * 7919 + seed * 104_729 + 13) % 257) as f32 - 127.5;
    Embedding::normalize((0..dimension).map(entry).collect()).expect("it has a length")
}

/// Indexes of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let kinds = [(1, 1, false), (3, 5, true), (8, 20, false), (8, 40, true), (17, 33, false)];
    for (dimension, n_entries, own_keys) in kinds {
        for method in [SearchMethod::Exhaustive, SearchMethod::Graph] {
            let mut builder = IndexBuilder::new("fuzz-1", dimension).expect("it can be begun");
            builder = builder.search_by(method);
            for entry in 0..n_entries {
                let key = own_keys.then(|| vector(dimension, entry + 1000));
                let caption = format!("a cat on mat {entry}, and a small dog ☃");
                builder
                    .push(&caption, &vector(dimension, entry), key.as_ref())
                    .expect("it is taken");
            }
            let path = folder().join("seed.lidx");
            builder.write(&path, &|_, _| ()).expect("it can be built");
            let file = std::fs::read(&path).expect("it can be read");
            seeds.extend([0, 1, 2].map(|mode| [&[mode], file.as_slice()].concat()));
        }
    }
    seeds
}

/// Makes the checksums fit what they are of.
pub fn repair_checksums(bytes: &mut [u8]) {
    if bytes.len() < HEADER {
        return;
    }
    for row in (0..N_SECTIONS).map(|it| TABLE + it * ROW) {
        let (offset, length) = (u64_at(bytes, row), u64_at(bytes, row + 8));
        let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
        let range = range.and_then(|(offset, length)| Some(offset..offset.checked_add(length)?));
        if let Some(section) = range.and_then(|it| bytes.get(it)) {
            let checksum = crc32fast::hash(section).to_le_bytes();
            put(bytes, row + 16, checksum);
        }
    }
    let checksum = crc32fast::hash(&bytes[..HEADER_CHECKSUM]).to_le_bytes();
    put(bytes, HEADER_CHECKSUM, checksum);
}

/// Makes what the header says of lengths fit one another and the file, so that other sections and other
/// counts are met by more than the first check.
pub fn repair_layout(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().max(HEADER), 0);
    put(bytes, 0, b"\x89LIDX\r\n\x1a\x02\0\0\0");
    let d = within(u32_at(bytes, 12), 1, MOST_DIMENSIONS);
    let n = within(u32_at(bytes, 16), 1, MOST_ENTRIES);
    put(bytes, 12, d.to_le_bytes());
    put(bytes, 16, n.to_le_bytes());
    bytes[24] %= 2;
    bytes[25] = 2;
    let kinds = 1 + usize::from(bytes[24]);
    let (d, n) = (d as usize, n as usize);
    let left = bytes.len() - HEADER;
    let declared = |bytes: &[u8], section: usize| {
        usize::try_from(u64_at(bytes, TABLE + section * ROW + 8)).unwrap_or(left).min(left)
    };
    let graph = declared(bytes, GRAPH);
    let symbols = declared(bytes, SYMBOLS).min(255 * 9) / 9 * 9;
    let sketches = if graph == 0 { n.div_ceil(32) * 32 * (4 + d.div_ceil(4)) } else { 0 };
    if graph == 0 {
        put(bytes, 20, [0; 4]);
        put(bytes, 26, [0; 2]);
    }
    let vectors = n * (d + 4);
    let mut lengths =
        [graph, sketches, kinds * d * 4, vectors, vectors * (kinds - 1), symbols, (n + 1) * 4, 0];
    let before: usize = HEADER + lengths.iter().sum::<usize>();
    lengths[TEXT] = bytes.len().saturating_sub(before);
    bytes.resize(before + lengths[TEXT], 0);
    let mut offset = HEADER;
    for (section, length) in lengths.into_iter().enumerate() {
        put(bytes, TABLE + section * ROW, (offset as u64).to_le_bytes());
        put(bytes, TABLE + section * ROW + 8, (length as u64).to_le_bytes());
        if section == OFFSETS {
            put(bytes, offset, [0; 4]);
            let end = u32::try_from(lengths[TEXT]).expect("inputs are small");
            put(bytes, offset + length - 4, end.to_le_bytes());
        }
        offset += length;
    }
    let length = bytes.len() as u64;
    put(bytes, 136, length.to_le_bytes());
}

fn within(value: u32, least: u32, most: u32) -> u32 {
    if (least..=most).contains(&value) { value } else { least + value % (most - least + 1) }
}
