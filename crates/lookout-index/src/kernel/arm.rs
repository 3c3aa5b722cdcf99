//! Dot products for NEON, which every 64-bit ARM has: eight products of 16 bits at a time.

#![expect(unsafe_code, reason = "instructions that not every machine has")]

use core::arch::aarch64::*;

use crate::sketch::{BLOCK, TABLE};

use super::{Kernel, portable_query, portable_stored};

const LANES: usize = 16;

pub(super) fn detect() -> Option<Kernel> {
    std::arch::is_aarch64_feature_detected!("neon").then_some(Kernel {
        name: "neon",
        // SAFETY: this machine has NEON.
        query: |query, stored| unsafe { query_neon(query, stored) },
        // SAFETY: as above.
        stored: |a, b| unsafe { stored_neon(a, b) },
        // SAFETY: as above.
        sketch: |rows, tables, sums| unsafe { sketch_neon(rows, tables, sums) },
    })
}

#[target_feature(enable = "neon")]
fn query_neon(query: &[i16], stored: &[u8]) -> i32 {
    let (queries, query_rest) = query.as_chunks::<LANES>();
    let (blocks, rest) = stored.as_chunks::<LANES>();
    let pairs = queries.iter().zip(blocks).map(|(query, stored)| (words(query), widen(stored)));
    sum(pairs).wrapping_add(portable_query(query_rest, rest))
}

#[target_feature(enable = "neon")]
fn stored_neon(a: &[u8], b: &[u8]) -> i32 {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let pairs = a_blocks.iter().zip(b_blocks).map(|(a, b)| (widen(a), widen(b)));
    sum(pairs).wrapping_add(portable_stored(a_rest, b_rest))
}

/// Four sums, so that an addition need not wait for the one before.
#[inline]
#[target_feature(enable = "neon")]
fn sum(pairs: impl Iterator<Item = ([int16x8_t; 2], [int16x8_t; 2])>) -> i32 {
    let mut sums = [vdupq_n_s32(0); 4];
    for (a, b) in pairs {
        for half in 0..2 {
            let (low_a, low_b) = (vget_low_s16(a[half]), vget_low_s16(b[half]));
            sums[2 * half] = vmlal_s16(sums[2 * half], low_a, low_b);
            sums[2 * half + 1] = vmlal_high_s16(sums[2 * half + 1], a[half], b[half]);
        }
    }
    let sum = vaddq_s32(vaddq_s32(sums[0], sums[1]), vaddq_s32(sums[2], sums[3]));
    vaddvq_s32(sum)
}

#[inline]
#[target_feature(enable = "neon")]
fn words(block: &[i16; LANES]) -> [int16x8_t; 2] {
    let at = block.as_ptr();
    // SAFETY: the block is 16 numbers, of which eight each are read.
    unsafe { [vld1q_s16(at), vld1q_s16(at.add(LANES / 2))] }
}

#[inline]
#[target_feature(enable = "neon")]
fn widen(block: &[u8; LANES]) -> [int16x8_t; 2] {
    // SAFETY: the block is 16 bytes.
    let bytes = unsafe { vld1q_s8(block.as_ptr().cast()) };
    [vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes)]
}

#[target_feature(enable = "neon")]
fn sketch_neon(rows: &[[u8; BLOCK]], tables: &[[u8; TABLE]], sums: &mut [u16; BLOCK]) {
    let mut totals = [vdupq_n_u16(0); 4];
    for (row, table) in rows.iter().zip(tables) {
        // SAFETY: row and table are 32 bytes, read 16 at a time.
        let ([first, second], [low, high]) = unsafe {
            let [row, table] = [row.as_ptr(), table.as_ptr()];
            ([vld1q_u8(row), vld1q_u8(row.add(16))], [vld1q_u8(table), vld1q_u8(table.add(16))])
        };
        for (idx, codes) in [first, second].into_iter().enumerate() {
            let low = vqtbl1q_u8(low, vandq_u8(codes, vdupq_n_u8(15)));
            let high = vqtbl1q_u8(high, vshrq_n_u8::<4>(codes));
            let values = vaddq_u8(low, high);
            totals[2 * idx] = vaddw_u8(totals[2 * idx], vget_low_u8(values));
            totals[2 * idx + 1] = vaddw_high_u8(totals[2 * idx + 1], values);
        }
    }
    for (out, total) in sums.as_chunks_mut::<8>().0.iter_mut().zip(totals) {
        // SAFETY: eight numbers are written to room for eight.
        unsafe { vst1q_u16(out.as_mut_ptr(), total) };
    }
}
