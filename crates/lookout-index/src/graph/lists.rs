//! Lists of neighbors: sorted, and the gaps between them in as few bits as the widest needs.
//!
//! The order of an entry's neighbors does not matter to a search, so they are sorted; what is left
//! of 64 neighbors among 100,000 entries is some 13 bits each.

use crate::format::u64_at;

/// Most neighbors of an entry: 64 in the lowest layer, 32 above it; fixed by instant-distance.
pub(crate) const MAX_NEIGHBORS: usize = 64;
/// Bits that a gap may have. Entries have 24; with those before it in a byte it fits 8 bytes.
const MAX_WIDTH: u8 = 32;
/// Zeros after the last list, so that 8 bytes can be read wherever a gap begins.
pub(crate) const PADDING: usize = 8;
/// Number of neighbors and width of a gap, a byte each.
const HEAD_BYTES: usize = 2;

/// Appends a list to `out`, of at most [`MAX_NEIGHBORS`]. What becomes of `neighbors` means nothing.
pub(crate) fn pack(neighbors: &mut Vec<u32>, out: &mut Vec<u8>) {
    neighbors.sort_unstable();
    neighbors.dedup();
    let mut next = 0;
    for neighbor in neighbors.iter_mut() {
        let gap = *neighbor - next;
        next = *neighbor + 1;
        *neighbor = gap;
    }
    let gaps = &*neighbors;
    let width = gaps.iter().fold(0, |all, it| all | it).checked_ilog2().map_or(0, |it| it + 1);
    #[expect(clippy::cast_possible_truncation, reason = "at most 64 neighbors of 32 bits")]
    out.extend([gaps.len() as u8, width as u8]);
    let (mut bits, mut n_bits) = (0u64, 0);
    for gap in gaps.iter() {
        bits |= u64::from(*gap) << n_bits;
        n_bits += width;
        while n_bits >= 8 {
            #[expect(clippy::cast_possible_truncation, reason = "the lowest byte is meant")]
            out.push(bits as u8);
            bits >>= 8;
            n_bits -= 8;
        }
    }
    if n_bits > 0 {
        #[expect(clippy::cast_possible_truncation, reason = "fewer than 8 bits are left")]
        out.push(bits as u8);
    }
}

/// Why a list cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its numbers and its length do not fit.
    Malformed,
    /// A neighbor is no entry of the layer.
    Neighbor(u32),
}

/// Puts the neighbors of the list `start..end` of `lists` into `out`, ascending. `lists` has
/// [`PADDING`] bytes after the last list. Whatever the bytes are, this does not panic, and every
/// number it gives is below `limit`.
#[inline]
pub(crate) fn unpack(
    lists: &[u8],
    start: usize,
    end: usize,
    limit: u32,
    out: &mut [u32; MAX_NEIGHBORS],
) -> Result<usize, Fault> {
    let list = lists.get(start..).ok_or(Fault::Malformed)?;
    let &[n, width, ..] = list else { return Err(Fault::Malformed) };
    let packed_bytes = (usize::from(n) * usize::from(width)).div_ceil(8);
    let length = HEAD_BYTES + packed_bytes;
    if usize::from(n) > MAX_NEIGHBORS
        || width > MAX_WIDTH
        || start.checked_add(length) != Some(end)
        || list.len() < length + PADDING
    {
        return Err(Fault::Malformed);
    }
    let packed = &list[HEAD_BYTES..];
    let mask = (1u64 << width) - 1;
    let (mut at, mut next) = (0, 0u64);
    for neighbor in &mut out[..n.into()] {
        let gap = (u64_at(packed, at / 8) >> (at % 8)) & mask;
        let id = next + gap;
        #[expect(clippy::cast_possible_truncation, reason = "below a limit of 32 bits")]
        let got = id as u32;
        if id >= limit.into() {
            return Err(Fault::Neighbor(got));
        }
        *neighbor = got;
        next = id + 1;
        at += usize::from(width);
    }
    Ok(n.into())
}

/// Whether the bits after the last gap of a list that [`unpack`] has passed are zeros.
pub(crate) fn ends_clean(list: &[u8]) -> bool {
    let &[n, width, .., last] = list else { return true };
    let used = usize::from(n) * usize::from(width) % 8;
    used == 0 || last >> used == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_come_back(ids in prop::collection::btree_set(0u32..10_000_000, 0..=64)) {
            let mut shuffled: Vec<u32> = ids.iter().rev().copied().collect();
            let mut bytes = vec![7; 3];
            pack(&mut shuffled, &mut bytes);
            let end = bytes.len();
            bytes.extend([0; PADDING]);
            let mut out = [0; MAX_NEIGHBORS];
            let n = unpack(&bytes, 3, end, 10_000_000, &mut out).unwrap();
            prop_assert!(out[..n].iter().eq(&ids));
            prop_assert!(ends_clean(&bytes[3..end]));
            if let Some(last) = ids.last() {
                let fault = unpack(&bytes, 3, end, *last, &mut out);
                prop_assert_eq!(fault, Err(Fault::Neighbor(*last)));
            }
        }

        #[test]
        fn any_bytes_are_refused_or_read(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            start in 0usize..400,
            end in 0usize..400,
            limit in any::<u32>(),
        ) {
            let mut out = [0; MAX_NEIGHBORS];
            if let Ok(n) = unpack(&bytes, start, end, limit, &mut out) {
                prop_assert!(out[..n].iter().all(|it| *it < limit));
            }
        }
    }
}
