//! The nearest-neighbor graph (HNSW): made by instant-distance, kept in the file, searched there.
//!
//! The lists of neighbors stay packed in the mapped file; a search unpacks those that it meets. So
//! an open graph takes no memory of its own, and what was checked when it was opened is checked
//! again where it is used, because a page may be read from the disk a second time.

mod build;
mod lists;
mod search;
mod write;

use std::ops::Range;
use std::path::Path;

pub(crate) use build::{Built, EF_CONSTRUCTION, SEED, build};
pub(crate) use lists::{Fault, MAX_NEIGHBORS};
pub(crate) use search::search;

use crate::IndexError;
use crate::format::{Section, malformed, u32_at};
use lists::PADDING;

/// Where the parts of a graph section are.
pub(crate) struct Graph {
    /// Entries of every layer, the lowest first.
    sizes: Vec<u32>,
    /// The place of every layer's first list among all.
    first_lists: Vec<usize>,
    offsets: Range<usize>,
    lists: Range<usize>,
}

/// A neighbor list that cannot be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BadList {
    pub(crate) layer: usize,
    pub(crate) entry: u32,
    pub(crate) limit: u32,
    pub(crate) fault: Fault,
}

impl Graph {
    /// Reads a graph section and checks every list of it.
    pub(crate) fn open(
        path: &Path,
        section: &[u8],
        n_entries: u32,
        n_layers: u32,
    ) -> Result<Self, IndexError> {
        let rule = |rule, got| malformed(path, Section::Graph, rule, got);
        let got = section.len();
        let too_short = |expected| IndexError::Length {
            path: path.to_path_buf(),
            section: Section::Graph,
            expected,
            got: got as u64,
        };
        let table_bytes = n_layers as usize * 4;
        if got < table_bytes {
            return Err(too_short(table_bytes as u64));
        }
        let mut sizes = vec![n_entries];
        sizes.extend((0..n_layers as usize).map(|idx| u32_at(section, idx * 4)));
        // A search goes down by numbers of the layer above, from entry 0.
        if let Some(pair) = sizes.windows(2).find(|it| it[1] == 0 || it[1] > it[0]) {
            return Err(rule(
                "a layer must have at least one entry and no more than the one below",
                pair[1].into(),
            ));
        }
        let mut first_lists = Vec::with_capacity(sizes.len());
        let mut n_lists = 0;
        for size in &sizes {
            first_lists.push(n_lists);
            n_lists += *size as usize;
        }
        let lists = table_bytes + (n_lists + 1) * 4;
        if got < lists + PADDING {
            return Err(too_short((lists + PADDING) as u64));
        }
        let graph = Self { sizes, first_lists, offsets: table_bytes..lists, lists: lists..got };
        graph.check(path, section)?;
        Ok(graph)
    }

    fn check(&self, path: &Path, section: &[u8]) -> Result<(), IndexError> {
        let rule = |rule, got| malformed(path, Section::Graph, rule, got);
        let first = u32_at(section, self.offsets.start);
        if first != 0 {
            return Err(rule("the first list must begin at 0", first.into()));
        }
        let mut out = [0; MAX_NEIGHBORS];
        for (layer, size) in self.sizes.iter().enumerate() {
            for entry in 0..*size {
                self.neighbors(section, layer, entry, &mut out).map_err(|it| it.error(path))?;
                let list = self.place(section, layer, entry);
                if !lists::ends_clean(&section[self.lists.clone()][list]) {
                    return Err(rule("a list must end in zero bits", entry.into()));
                }
            }
        }
        let end = u32_at(section, self.offsets.end - 4);
        let expected = self.lists.len() - PADDING;
        if end as usize != expected {
            return Err(rule("the last list must end 8 bytes before the section", end.into()));
        }
        match section[section.len() - PADDING..].iter().find(|it| **it != 0) {
            Some(byte) => Err(rule("zeros must follow the last list", (*byte).into())),
            None => Ok(()),
        }
    }

    /// Layers above the lowest.
    fn n_layers(&self) -> usize {
        self.sizes.len() - 1
    }

    /// Where a list is among the lists; `entry` must be one of the layer.
    fn place(&self, section: &[u8], layer: usize, entry: u32) -> Range<usize> {
        let at = self.offsets.start + (self.first_lists[layer] + entry as usize) * 4;
        u32_at(section, at) as usize..u32_at(section, at + 4) as usize
    }

    /// Puts the neighbors of an entry of `layer` into `out`; all are entries of that layer.
    fn neighbors(
        &self,
        section: &[u8],
        layer: usize,
        entry: u32,
        out: &mut [u32; MAX_NEIGHBORS],
    ) -> Result<usize, BadList> {
        let place = self.place(section, layer, entry);
        let limit = self.sizes[layer];
        lists::unpack(&section[self.lists.clone()], place.start, place.end, limit, out)
            .map_err(|fault| BadList { layer, entry, limit, fault })
    }
}

impl BadList {
    pub(crate) fn error(self, path: &Path) -> IndexError {
        let Self { layer, entry, limit, fault } = self;
        match fault {
            Fault::Neighbor(got) => {
                IndexError::Neighbor { path: path.to_path_buf(), layer, entry, got, limit }
            }
            Fault::Malformed => {
                let rule = "a list of neighbors must have its length, and at most 64 of them";
                malformed(path, Section::Graph, rule, entry.into())
            }
        }
    }
}
