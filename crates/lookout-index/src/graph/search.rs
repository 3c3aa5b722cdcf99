//! From a query to the nearest entries that the graph leads to.

use super::lists::MAX_NEIGHBORS;
use super::{BadList, Graph};
use crate::search::{Scratch, insert};
use crate::vectors::Vectors;

/// Leaves the `ef` nearest entries that the graph leads to in `scratch.found`. Errs at a list that
/// cannot be read.
pub(crate) fn search(
    graph: &Graph,
    section: &[u8],
    vectors: &Vectors<'_>,
    ef: usize,
    scratch: &mut Scratch,
) -> Result<(), BadList> {
    let Scratch { query, found, seen, .. } = scratch;
    let mut neighbors = [0; MAX_NEIGHBORS];
    // Above the lowest layer: to the nearest entry, step by step.
    let mut entry = 0;
    let mut rank = vectors.rank(query, 0);
    for layer in (1..=graph.n_layers()).rev() {
        loop {
            let from = entry;
            let n = graph.neighbors(section, layer, from, &mut neighbors)?;
            for neighbor in &neighbors[..n] {
                let it = vectors.rank(query, *neighbor as usize);
                if rank < it {
                    (entry, rank) = (*neighbor, it);
                }
            }
            if entry == from {
                break;
            }
        }
    }
    // In the lowest: the neighbors of the nearest entry whose neighbors have not been looked at,
    // until there is none among the `ef` nearest.
    seen.clear();
    seen.resize(vectors.n().div_ceil(64), 0);
    is_new(seen, entry);
    found.clear();
    insert(found, ef, entry, rank);
    let mut at = 0;
    while let Some(next) = found.get_mut(at) {
        if std::mem::replace(&mut next.is_expanded, true) {
            at += 1;
            continue;
        }
        let from = next.entry;
        let n = graph.neighbors(section, 0, from, &mut neighbors)?;
        for neighbor in &neighbors[..n] {
            if is_new(seen, *neighbor) {
                let rank = vectors.rank(query, *neighbor as usize);
                if let Some(place) = insert(found, ef, *neighbor, rank) {
                    at = at.min(place);
                }
            }
        }
    }
    Ok(())
}

fn is_new(seen: &mut [u64], entry: u32) -> bool {
    let word = &mut seen[entry as usize / 64];
    let bit = 1 << (entry % 64);
    let is_new = *word & bit == 0;
    *word |= bit;
    is_new
}
