//! A graph made by instant-distance.
//!
//! On one thread, because the order of insertion decides the result, and from integer products, so
//! the same vectors in the same order give the same graph.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use instant_distance::{Builder, Point};

use super::write;
use crate::vectors::Vectors;

/// Entries between two calls of the progress callback.
const PROGRESS_STEP: usize = 64;

/// Candidates considered when an entry is inserted.
pub(crate) const EF_CONSTRUCTION: u16 = 100;
/// Fixed, so that the same input gives the same file.
pub(crate) const SEED: u64 = 0x6c6f_6f6b_6f75_7431;

/// A freshly built graph.
pub(crate) struct Built {
    /// The graph section.
    pub(crate) bytes: Vec<u8>,
    pub(crate) n_layers: u32,
    /// For every place in the graph, the entry that has it.
    pub(crate) order: Vec<usize>,
}

impl Built {
    /// For an index that is searched exhaustively: the entries stay in their order.
    pub(crate) fn without_graph(n_entries: usize) -> Self {
        Self { bytes: Vec::new(), n_layers: 0, order: (0..n_entries).collect() }
    }
}

/// Builds the graph over all of `vectors`. `progress` is told the entries inserted. `None` when
/// instant-distance panics.
pub(crate) fn build(vectors: Vectors<'_>, progress: &(dyn Fn(usize) + Sync)) -> Option<Built> {
    let n_entries = vectors.n();
    let build = Build {
        vectors,
        along_center: (0..n_entries).map(|slot| vectors.along_center(slot)).collect(),
        is_inserted: (0..n_entries).map(|_| AtomicBool::new(false)).collect(),
        n_inserted: AtomicUsize::new(0),
        progress,
    };
    let points = (0..n_entries).map(|slot| Entry { build: &build, slot }).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().ok()?;
    let builder =
        || Builder::default().seed(SEED).ef_construction(EF_CONSTRUCTION.into()).build_hnsw(points);
    let (hnsw, places) = catch_unwind(AssertUnwindSafe(|| pool.install(builder))).ok()?;
    let mut order = vec![0; n_entries];
    for (entry, place) in places.into_iter().enumerate() {
        order[place.into_inner() as usize] = entry;
    }
    let (bytes, n_layers) = write::graph_section(&hnsw).ok()?;
    Some(Built { bytes, n_layers, order })
}

struct Build<'a> {
    vectors: Vectors<'a>,
    /// What an entry adds to each of its cosines, because vectors are stored around their center.
    along_center: Vec<f32>,
    is_inserted: Vec<AtomicBool>,
    n_inserted: AtomicUsize,
    progress: &'a (dyn Fn(usize) + Sync),
}

/// A point while the graph is built.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    build: &'a Build<'a>,
    slot: usize,
}

impl Point for Entry<'_> {
    fn distance(&self, other: &Self) -> f32 {
        // Insertion begins by measuring the new point against another one. That is the only sign
        // of progress: the crate's own needs a second version of indicatif.
        let is_inserted = &self.build.is_inserted[self.slot];
        if !is_inserted.load(Ordering::Relaxed) {
            is_inserted.store(true, Ordering::Relaxed);
            let n = self.build.n_inserted.fetch_add(1, Ordering::Relaxed) + 1;
            if n.is_multiple_of(PROGRESS_STEP) {
                (self.build.progress)(n);
            }
        }
        let along_center = &self.build.along_center;
        let apart = self.build.vectors.dot(self.slot, other.slot);
        // The cosine, but for what all share: the center's own length.
        -(along_center[self.slot] + along_center[other.slot] + apart)
    }
}
