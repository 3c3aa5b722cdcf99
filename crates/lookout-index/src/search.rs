//! What searches have in common, and the search of all entries.

use crate::sketch::{BLOCK, Table};
use crate::vectors::Vectors;

/// These have all of the nearest 16 of 100,000 entries, see [`crate::sketch`].
const SHORTLIST: usize = 1024;
/// More where more candidates are asked for.
const SHORTLIST_OF_CANDIDATE: usize = 8;
/// And one of so many entries, because in a large bank more are about as near: measured at a million,
/// 1024 have 0.956 of the nearest 16, and 4096 have 0.977.
const ENTRIES_OF_SHORTLIST: usize = 256;

/// What a search needs room for. Kept from one search to the next, it makes searching free of
/// allocations.
#[derive(Default)]
pub(crate) struct Scratch {
    /// The query's integers, see [`crate::vectors::quantize_query`].
    pub(crate) query: Vec<i16>,
    /// The nearest entries found, nearest first.
    pub(crate) found: Vec<Found>,
    /// A bit for every entry: whether a search of the graph has looked at it.
    pub(crate) seen: Vec<u64>,
    table: Table,
    shortlist: Vec<(f32, u32)>,
}

/// An entry that a search met.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) entry: u32,
    pub(crate) rank: f32,
    /// Whether its neighbors in the graph have been looked at.
    pub(crate) is_expanded: bool,
}

/// Keeps the `limit` nearest in order, and of equal ones those that came first. Gives the place
/// that the entry has now.
#[inline]
pub(crate) fn insert(found: &mut Vec<Found>, limit: usize, entry: u32, rank: f32) -> Option<usize> {
    if found.len() >= limit {
        match found.last() {
            Some(last) if last.rank.total_cmp(&rank).is_lt() => found.pop(),
            _ => return None,
        };
    }
    let place = found.partition_point(|it| it.rank.total_cmp(&rank).is_ge());
    found.insert(place, Found { entry, rank, is_expanded: false });
    Some(place)
}

/// Entries of which a search for `limit` of `n_entries` reads the vectors.
pub(crate) fn shortlist_entries(limit: usize, n_entries: usize) -> usize {
    let of_candidates = limit.saturating_mul(SHORTLIST_OF_CANDIDATE);
    of_candidates.max(SHORTLIST).max(n_entries / ENTRIES_OF_SHORTLIST)
}

/// Leaves the `limit` nearest of all entries in `scratch.found`.
pub(crate) fn search_all(
    sketches: &[u8],
    vectors: &Vectors<'_>,
    limit: usize,
    scratch: &mut Scratch,
) {
    let Scratch { query, found, table, shortlist, .. } = scratch;
    found.clear();
    let n_entries = vectors.n();
    let n_short = shortlist_entries(limit, n_entries);
    if n_entries <= n_short {
        vectors.rank_all(query, |entry, rank| {
            insert(found, limit, entry, rank);
        });
        return;
    }
    table.fill(query);
    shortlist.clear();
    shortlist.reserve(2 * n_short + BLOCK);
    let mut least = f32::NEG_INFINITY;
    table.estimate_all(vectors.kernel(), sketches, query.len(), |first, estimates| {
        // Most blocks have none, which is quickly found for all of it at once.
        if !estimates.iter().fold(false, |any, it| any | (least < *it)) {
            return;
        }
        // The last block has room for more entries than there are.
        for (entry, estimate) in (first..n_entries).zip(estimates) {
            if least < *estimate {
                #[expect(clippy::cast_possible_truncation, reason = "at most MAX_ENTRIES")]
                shortlist.push((*estimate, entry as u32));
            }
        }
        if shortlist.len() >= 2 * n_short {
            least = shorten(shortlist, n_short);
        }
    });
    if n_short < shortlist.len() {
        shorten(shortlist, n_short);
    }
    // In the order of the file, so that neighboring pages are read together.
    shortlist.sort_unstable_by_key(|it| it.1);
    for (_, entry) in shortlist {
        insert(found, limit, *entry, vectors.rank(query, *entry as usize));
    }
}

/// Keeps the `n` with the largest estimates, and gives the least of those.
fn shorten(shortlist: &mut Vec<(f32, u32)>, n: usize) -> f32 {
    let (_, last, _) =
        shortlist.select_nth_unstable_by(n - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let least = last.0;
    shortlist.truncate(n);
    least
}
