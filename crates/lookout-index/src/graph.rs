//! The nearest-neighbor graph: built and searched by instant-distance, stored in our own form.
//!
//! That crate keeps its arrays to itself; they are read and put in through its serde
//! implementation.

mod read;
mod write;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use instant_distance::{Builder, Hnsw, Point, Search};

use crate::IndexError;
use crate::format::{Section, malformed, u32_at};
use crate::vectors::Vectors;

/// Neighbors of an entry in the lowest layer, and above it; fixed by instant-distance.
const N_NEIGHBORS: usize = 64;
const N_UPPER_NEIGHBORS: usize = 32;
/// Stands for no neighbor.
const NONE: u32 = u32::MAX;
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

/// Builds the graph over `n_entries` vectors, on one thread, because insertion order decides the
/// result. `progress` is told the entries inserted. `None` when instant-distance panics.
pub(crate) fn build(
    vectors: Vectors<'_>,
    n_entries: usize,
    progress: &(dyn Fn(usize) + Sync),
) -> Option<Built> {
    let build = Build {
        vectors,
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
    is_inserted: Vec<AtomicBool>,
    n_inserted: AtomicUsize,
    progress: &'a (dyn Fn(usize) + Sync),
}

/// A point while the graph is built.
#[derive(Clone, Copy)]
struct Entry<'a> {
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
        -self.build.vectors.cosine(self.slot, other.slot)
    }
}

/// A point while the graph is searched. `Point::distance` is given no context, so the query
/// brings the vectors along, and a stored point is nothing but its number.
#[derive(Clone, Copy)]
enum Key<'a> {
    Stored(u32),
    Query(Query<'a>),
}

#[derive(Clone, Copy)]
struct Query<'a> {
    vectors: &'a Vectors<'a>,
    integers: &'a [i16],
}

impl Point for Key<'_> {
    fn distance(&self, other: &Self) -> f32 {
        match (self, other) {
            (Self::Query(query), Self::Stored(slot)) | (Self::Stored(slot), Self::Query(query)) => {
                -query.vectors.query_cosine(query.integers, *slot as usize)
            }
            // A search compares its query with entries only. Ends in the `catch_unwind` of
            // `search`, should that change.
            (Self::Stored(_), Self::Stored(_)) | (Self::Query(_), Self::Query(_)) => {
                unreachable!("a search compares the query with entries")
            }
        }
    }
}

/// A graph to search in.
pub(crate) struct Graph(Hnsw<Key<'static>>);

impl Graph {
    /// Checks a graph section and makes a graph of it whose searches give `ef` results.
    pub(crate) fn read(
        path: &Path,
        section: &[u8],
        n_entries: u32,
        n_layers: u32,
        ef: usize,
    ) -> Result<Self, IndexError> {
        let layers = check(path, section, n_entries, n_layers)?;
        catch_unwind(|| read::hnsw(n_entries, &layers, ef))
            .ok()
            .and_then(Result::ok)
            .map(Self)
            .ok_or_else(|| IndexError::Graph { path: path.to_path_buf(), action: "read" })
    }

    /// The entries nearest to a query, nearest first, at most `ef`. `None` when instant-distance
    /// panics.
    pub(crate) fn search(&self, vectors: &Vectors<'_>, integers: &[i16]) -> Option<Vec<usize>> {
        catch_unwind(AssertUnwindSafe(|| {
            // A stored point borrows nothing, so the graph is one of keys of any lifetime.
            let hnsw: &Hnsw<Key<'_>> = &self.0;
            let mut search = Search::default();
            let found = hnsw.search(&Key::Query(Query { vectors, integers }), &mut search);
            found.map(|it| it.pid.into_inner() as usize).collect()
        }))
        .ok()
    }
}

/// The neighbors of a layer's entries.
#[derive(Clone, Copy)]
struct Layer<'a> {
    bytes: &'a [u8],
    n_neighbors: usize,
}

/// Splits a graph section into its layers, the lowest first, and checks that every neighbor is an
/// entry of its layer: instant-distance indexes with whatever it is given.
fn check<'a>(
    path: &Path,
    section: &'a [u8],
    n_entries: u32,
    n_layers: u32,
) -> Result<Vec<Layer<'a>>, IndexError> {
    let fault = |rule, got| malformed(path, Section::Graph, rule, got);
    let got = section.len() as u64;
    let too_short = |expected| IndexError::Length {
        path: path.to_path_buf(),
        section: Section::Graph,
        expected,
        got,
    };
    let table_bytes = u64::from(n_layers) * 4;
    if got < table_bytes {
        return Err(too_short(table_bytes));
    }
    let mut sizes = vec![n_entries];
    sizes.extend((0..n_layers as usize).map(|idx| u32_at(section, idx * 4)));
    // A search goes down by numbers of the layer above, from entry 0.
    if let Some(pair) = sizes.windows(2).find(|it| it[1] == 0 || it[1] > it[0]) {
        return Err(fault(
            "a layer must have at least one entry and no more than the one below",
            pair[1].into(),
        ));
    }
    let n_neighbors = |layer| if layer == 0 { N_NEIGHBORS } else { N_UPPER_NEIGHBORS };
    let layer_bytes = |layer: usize| u64::from(sizes[layer]) * n_neighbors(layer) as u64 * 4;
    let expected = table_bytes + (0..sizes.len()).map(layer_bytes).sum::<u64>();
    if got != expected {
        return Err(too_short(expected));
    }
    let mut rest = &section[n_layers as usize * 4..];
    let mut layers = Vec::with_capacity(sizes.len());
    for (layer, limit) in sizes.iter().copied().enumerate() {
        let n_neighbors = n_neighbors(layer);
        let bytes;
        (bytes, rest) = rest.split_at(limit as usize * n_neighbors * 4);
        for (entry, neighbors) in (0..limit).zip(bytes.chunks_exact(n_neighbors * 4)) {
            for neighbor in neighbors.chunks_exact(4).map(|it| u32_at(it, 0)) {
                if neighbor >= limit && neighbor != NONE {
                    let path = path.to_path_buf();
                    return Err(IndexError::Neighbor { path, layer, entry, got: neighbor, limit });
                }
            }
        }
        layers.push(Layer { bytes, n_neighbors });
    }
    Ok(layers)
}
