//! What an index will take, before it is built.

use crate::build::{CENTER_ENTRIES, SearchMethod};
use crate::format::{HEADER_BYTES, MAX_LAYERS, SCALE_BYTES};
use crate::graph::MAX_NEIGHBORS;
use crate::search::shortlist_entries;
use crate::sketch;

/// Bytes that an entry takes while instant-distance builds: its point twice, its number with a
/// random one, its place, whether it is in, its part along the center; its list with a lock and
/// without.
const BUILDING: u64 = 2 * 16 + 16 + 4 + 1 + 4 + 264 + 256;
/// Upper layers hold less than 1 of 2 entries of those below, with half the neighbors.
const UPPER_LAYERS: u64 = 128;
/// Bytes of a candidate besides its embedding: similarity, pointers, a short text.
const CANDIDATE: u64 = 200;

/// What an index takes, at most but for what the system adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// How it will be searched.
    pub method: SearchMethod,
    /// Bytes on the disk.
    pub file_bytes: u64,
    /// Bytes of memory while it is built, beside those of the program and its model.
    pub build_bytes: u64,
    /// Bytes of memory of its own while it is searched. The file is mapped besides: its pages are
    /// read as they are needed and given back when others need them.
    pub search_bytes: u64,
}

impl Estimate {
    /// For `n_entries` of `dimension`, with keys of their own or without, whose captions have
    /// `text_bytes` together, searched for `n_candidates`. Captions count as if they could not be
    /// compressed; they come to about half.
    pub fn new(
        n_entries: u32,
        dimension: usize,
        own_keys: bool,
        text_bytes: u64,
        n_candidates: usize,
    ) -> Self {
        let n = u64::from(n_entries);
        let d = dimension as u64;
        let method = SearchMethod::for_entries(n_entries as usize, own_keys);
        let kinds = 1 + u64::from(own_keys);
        let vectors = n * (d + SCALE_BYTES as u64) * kinds;
        let texts = n * 4 + text_bytes;
        let (finder, building, seen) = match method {
            SearchMethod::Exhaustive => (sketch::section_bytes(n, dimension), 0, 0),
            SearchMethod::Graph => {
                let width = u64::from(u32::BITS - n_entries.leading_zeros());
                let list = 2 + 4 + (MAX_NEIGHBORS as u64 * width).div_ceil(8);
                // Upper layers have half the neighbors, and together fewer than half the entries.
                let lists = n * list + n * list / 4 + u64::from(MAX_LAYERS) * 4;
                (lists, n * (BUILDING + UPPER_LAYERS), n.div_ceil(8))
            }
        };
        let symbols = 255 * 9;
        let file = HEADER_BYTES as u64 + finder + d * 4 * kinds + vectors + symbols + 4 + texts;
        let waiting = n.min(CENTER_ENTRIES as u64) * d * 4 * kinds;
        // Order, text and where it ends are held twice: as they came and as they are written.
        let build = vectors + finder + building + waiting + n * 8 + 2 * texts;
        let candidates = n_candidates as u64;
        let n_entries = n_entries as usize;
        let shortlist = 16 * shortlist_entries(n_candidates, n_entries).min(n_entries) as u64;
        let search = seen + shortlist + d * 48 + candidates * (4 * d + CANDIDATE);
        Self { method, file_bytes: file, build_bytes: build, search_bytes: search }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_entries_are_within_their_limits() {
        let pairs = Estimate::new(100_000, 512, true, 5_500_000, 128);
        assert!(pairs.file_bytes <= 125_000_000, "{pairs:?}");
        let captions = Estimate::new(100_000, 512, false, 5_500_000, 128);
        assert!(captions.file_bytes <= 80_000_000, "{captions:?}");
        assert!(captions.search_bytes <= 1_000_000, "{captions:?}");
        let many = Estimate::new(4_000_000, 512, true, 220_000_000, 128);
        assert_eq!(many.method, SearchMethod::Graph);
        assert!(many.build_bytes > captions.build_bytes * 40);
    }
}
