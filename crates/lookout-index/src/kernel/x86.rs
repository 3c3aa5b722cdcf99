//! Dot products for AVX2: sixteen products of 16 bits at a time.

#![expect(unsafe_code, reason = "instructions that not every machine has")]

use core::arch::x86_64::*;

use crate::sketch::{BLOCK, TABLE};

use super::{Kernel, portable_query, portable_stored};

const LANES: usize = 16;

pub(super) fn detect() -> Option<Kernel> {
    std::is_x86_feature_detected!("avx2").then_some(Kernel {
        name: "avx2",
        // SAFETY: this machine has AVX2.
        query: |query, stored| unsafe { query_avx2(query, stored) },
        // SAFETY: as above.
        stored: |a, b| unsafe { stored_avx2(a, b) },
        // SAFETY: as above.
        sketch: |rows, tables, sums| unsafe { sketch_avx2(rows, tables, sums) },
    })
}

#[target_feature(enable = "avx2")]
fn query_avx2(query: &[i16], stored: &[u8]) -> i32 {
    let (queries, query_rest) = query.as_chunks::<LANES>();
    let (blocks, rest) = stored.as_chunks::<LANES>();
    let pairs = queries.iter().zip(blocks).map(|(query, stored)| (words(query), widen(stored)));
    sum(pairs).wrapping_add(portable_query(query_rest, rest))
}

#[target_feature(enable = "avx2")]
fn stored_avx2(a: &[u8], b: &[u8]) -> i32 {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let pairs = a_blocks.iter().zip(b_blocks).map(|(a, b)| (widen(a), widen(b)));
    sum(pairs).wrapping_add(portable_stored(a_rest, b_rest))
}

/// Two sums, so that an addition need not wait for the one before.
#[inline]
#[target_feature(enable = "avx2")]
fn sum(mut pairs: impl Iterator<Item = (__m256i, __m256i)>) -> i32 {
    let mut sums = [_mm256_setzero_si256(); 2];
    while let Some((a, b)) = pairs.next() {
        sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(a, b));
        if let Some((a, b)) = pairs.next() {
            sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(a, b));
        }
    }
    let sum = _mm256_add_epi32(sums[0], sums[1]);
    let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b00_00_11_10>(sum));
    let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b00_00_00_01>(sum));
    _mm_cvtsi128_si32(sum)
}

#[inline]
#[target_feature(enable = "avx2")]
fn words(block: &[i16; LANES]) -> __m256i {
    // SAFETY: the block is 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn widen(block: &[u8; LANES]) -> __m256i {
    // SAFETY: the block is 16 bytes; the load needs no alignment.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(block.as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
fn sketch_avx2(rows: &[[u8; BLOCK]], tables: &[[u8; TABLE]], sums: &mut [u16; BLOCK]) {
    let half = _mm256_set1_epi8(15);
    let byte = _mm256_set1_epi16(255);
    let [mut even, mut odd] = [_mm256_setzero_si256(); 2];
    for (row, table) in rows.iter().zip(tables) {
        // SAFETY: row and table are 32 bytes, of the table 16 each are read; no load needs alignment.
        let (codes, low, high) = unsafe {
            let table = table.as_ptr().cast::<__m128i>();
            let codes = _mm256_loadu_si256(row.as_ptr().cast());
            (codes, _mm_loadu_si128(table), _mm_loadu_si128(table.add(1)))
        };
        let (low, high) = (_mm256_broadcastsi128_si256(low), _mm256_broadcastsi128_si256(high));
        let low = _mm256_shuffle_epi8(low, _mm256_and_si256(codes, half));
        let codes = _mm256_srli_epi16::<4>(codes);
        let high = _mm256_shuffle_epi8(high, _mm256_and_si256(codes, half));
        let values = _mm256_add_epi8(low, high);
        even = _mm256_add_epi16(even, _mm256_and_si256(values, byte));
        odd = _mm256_add_epi16(odd, _mm256_srli_epi16::<8>(values));
    }
    let mut halves = [[0u16; BLOCK / 2]; 2];
    for (out, sums) in halves.iter_mut().zip([even, odd]) {
        // SAFETY: sixteen numbers are written to room for sixteen; the store needs no alignment.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) };
    }
    for (idx, sum) in sums.iter_mut().enumerate() {
        *sum = halves[idx % 2][idx / 2];
    }
}
