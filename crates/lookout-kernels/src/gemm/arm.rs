//! Tiles for NEON: alone (Cortex-A53, A72), with the dot product (A55, A76) and with i8mm.
//!
//! Activations are signed here, within ±127. The last two need instructions whose intrinsics
//! stable Rust does not have, so these are written out, one at a time; the compiler places them.

use core::arch::aarch64::*;
use core::arch::asm;

use super::Kernel;

pub(super) const NEON: Kernel = Kernel {
    rows: 4,
    columns: 8,
    group: 4,
    tile: |n_rows| match n_rows {
        0 | 1 => neon::<1>,
        2 => neon::<2>,
        _ => neon::<4>,
    },
};
pub(super) const NEON_DOT: Kernel = Kernel {
    rows: 8,
    columns: 8,
    group: 4,
    tile: |n_rows| match n_rows {
        0 | 1 => neon_dot::<1>,
        2 => neon_dot::<2>,
        3 | 4 => neon_dot::<4>,
        _ => neon_dot::<8>,
    },
};
pub(super) const NEON_I8MM: Kernel = Kernel {
    rows: 8,
    columns: 8,
    group: 8,
    tile: |n_rows| match n_rows {
        0..=2 => neon_i8mm::<1>,
        3 | 4 => neon_i8mm::<2>,
        _ => neon_i8mm::<4>,
    },
};

pub(super) const NEON_WORDS: Kernel = Kernel {
    rows: 4,
    columns: 16,
    group: 1,
    tile: |n_rows| match n_rows {
        0 | 1 => neon_words::<1>,
        2 => neon_words::<2>,
        _ => neon_words::<4>,
    },
};

/// Activations of 16 bits, one input of 16 outputs after the other.
#[target_feature(enable = "neon")]
unsafe fn neon_words<const ROWS: usize>(
    rows: *const u8,
    stride: usize,
    panel: *const i8,
    n_steps: usize,
    start: *const i32,
    sums: *mut i32,
) {
    // SAFETY: the caller vouches for a tile's worth of everything.
    unsafe {
        let start: [int32x4_t; 4] = std::array::from_fn(|i| vld1q_s32(start.add(i * 4)));
        let mut sum = [start; ROWS];
        for four in 0..n_steps * 2 {
            let inputs: [int16x4_t; ROWS] =
                std::array::from_fn(|row| vld1_s16(rows.add(row * stride + four * 8).cast()));
            let panel = panel.add(four * 64);
            words_input::<0, ROWS>(&mut sum, &inputs, panel);
            words_input::<1, ROWS>(&mut sum, &inputs, panel.add(16));
            words_input::<2, ROWS>(&mut sum, &inputs, panel.add(32));
            words_input::<3, ROWS>(&mut sum, &inputs, panel.add(48));
        }
        for (i, sum) in sum.as_flattened().iter().enumerate() {
            vst1q_s32(sums.add(i * 4), *sum);
        }
    }
}

/// The input in lane `LANE` of each row with its 16 weights.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn words_input<const LANE: i32, const ROWS: usize>(
    sum: &mut [[int32x4_t; 4]; ROWS],
    inputs: &[int16x4_t; ROWS],
    weights: *const i8,
) {
    // SAFETY: the caller vouches for 16 weights.
    let weights = unsafe { vld1q_s8(weights) };
    let left = vmovl_s8(vget_low_s8(weights));
    let right = vmovl_high_s8(weights);
    for (sum, input) in sum.iter_mut().zip(inputs) {
        sum[0] = vmlal_lane_s16::<LANE>(sum[0], vget_low_s16(left), *input);
        sum[1] = vmlal_high_lane_s16::<LANE>(sum[1], left, *input);
        sum[2] = vmlal_lane_s16::<LANE>(sum[2], vget_low_s16(right), *input);
        sum[3] = vmlal_high_lane_s16::<LANE>(sum[3], right, *input);
    }
}

/// The panel's weights of eight inputs: 8 bytes for each of 8 outputs.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn weights(panel: *const i8, step: usize) -> [int8x16_t; 4] {
    // SAFETY: the caller vouches for 64 bytes of the panel at each step.
    unsafe {
        let at = panel.add(step * 64);
        [vld1q_s8(at), vld1q_s8(at.add(16)), vld1q_s8(at.add(32)), vld1q_s8(at.add(48))]
    }
}

/// Two products are added in 16 bits, which they never leave: 2 · 127 · 128 < 2^15.
#[target_feature(enable = "neon")]
unsafe fn neon<const ROWS: usize>(
    rows: *const u8,
    stride: usize,
    panel: *const i8,
    n_steps: usize,
    start: *const i32,
    sums: *mut i32,
) {
    // SAFETY: the caller vouches for a tile's worth of everything.
    unsafe {
        // Two sums for each output, side by side: of the inputs 0, 1, 4, 5 and of the others.
        let mut sum = [[vdupq_n_s32(0); 4]; ROWS];
        for step in 0..n_steps {
            let [w0, w1, w2, w3] = weights(panel, step);
            for (row, sum) in sum.iter_mut().enumerate() {
                let inputs = rows.add(row * stride + step * 8).cast::<i32>();
                // Written out because the compiler unpacks the weights and spills the sums.
                asm!(
                    "smull {p0:v}.8h, {w0:v}.8b, {near:v}.8b",
                    "smull2 {p1:v}.8h, {w0:v}.16b, {near:v}.16b",
                    "smull {p2:v}.8h, {w1:v}.8b, {near:v}.8b",
                    "smull2 {p3:v}.8h, {w1:v}.16b, {near:v}.16b",
                    "smlal {p0:v}.8h, {w2:v}.8b, {far:v}.8b",
                    "smlal2 {p1:v}.8h, {w2:v}.16b, {far:v}.16b",
                    "smlal {p2:v}.8h, {w3:v}.8b, {far:v}.8b",
                    "smlal2 {p3:v}.8h, {w3:v}.16b, {far:v}.16b",
                    "sadalp {s0:v}.4s, {p0:v}.8h",
                    "sadalp {s1:v}.4s, {p1:v}.8h",
                    "sadalp {s2:v}.4s, {p2:v}.8h",
                    "sadalp {s3:v}.4s, {p3:v}.8h",
                    s0 = inout(vreg) sum[0],
                    s1 = inout(vreg) sum[1],
                    s2 = inout(vreg) sum[2],
                    s3 = inout(vreg) sum[3],
                    w0 = in(vreg) w0,
                    w1 = in(vreg) w1,
                    w2 = in(vreg) w2,
                    w3 = in(vreg) w3,
                    near = in(vreg) vdupq_n_s32(inputs.read_unaligned()),
                    far = in(vreg) vdupq_n_s32(inputs.add(1).read_unaligned()),
                    p0 = out(vreg) _,
                    p1 = out(vreg) _,
                    p2 = out(vreg) _,
                    p3 = out(vreg) _,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
        }
        let (left, right) = (vld1q_s32(start), vld1q_s32(start.add(4)));
        for (row, sum) in sum.iter().enumerate() {
            let to = sums.add(row * 8);
            vst1q_s32(to, vaddq_s32(left, vpaddq_s32(sum[0], sum[1])));
            vst1q_s32(to.add(4), vaddq_s32(right, vpaddq_s32(sum[2], sum[3])));
        }
    }
}

/// Adds the products of 4 outputs' weights with four inputs, number `$lane` of a row's eight.
macro_rules! dot {
    ($sum:expr, $weights:expr, $inputs:expr, $lane:literal) => {
        asm!(
            concat!("sdot {sum:v}.4s, {weights:v}.16b, {inputs:v}.4b[", $lane, "]"),
            sum = inout(vreg) $sum,
            weights = in(vreg) $weights,
            inputs = in(vreg) $inputs,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn neon_dot<const ROWS: usize>(
    rows: *const u8,
    stride: usize,
    panel: *const i8,
    n_steps: usize,
    start: *const i32,
    sums: *mut i32,
) {
    // SAFETY: the caller vouches for a tile's worth of everything and for the instructions;
    // these touch registers only.
    unsafe {
        let mut sum = [[vld1q_s32(start), vld1q_s32(start.add(4))]; ROWS];
        for step in 0..n_steps {
            let [w0, w1, w2, w3] = weights(panel, step);
            let mut inputs = [vdup_n_s8(0); ROWS];
            for (row, inputs) in inputs.iter_mut().enumerate() {
                *inputs = vld1_s8(rows.add(row * stride + step * 8).cast());
            }
            // All sums once, then all again: none waits for the one before it.
            for (sum, inputs) in sum.iter_mut().zip(&inputs) {
                dot!(sum[0], w0, *inputs, 0);
                dot!(sum[1], w1, *inputs, 0);
            }
            for (sum, inputs) in sum.iter_mut().zip(&inputs) {
                dot!(sum[0], w2, *inputs, 1);
                dot!(sum[1], w3, *inputs, 1);
            }
        }
        for (i, sum) in sum.as_flattened().iter().enumerate() {
            vst1q_s32(sums.add(i * 4), *sum);
        }
    }
}

/// 2 · `PAIRS` rows. The panel has the eight inputs of an output side by side.
#[target_feature(enable = "neon,i8mm")]
unsafe fn neon_i8mm<const PAIRS: usize>(
    rows: *const u8,
    stride: usize,
    panel: *const i8,
    n_steps: usize,
    start: *const i32,
    sums: *mut i32,
) {
    // SAFETY: the caller vouches for a tile's worth of everything and for the instructions;
    // these touch registers only.
    unsafe {
        // Each is a tile of 2 rows × 2 outputs.
        let mut sum = [[vdupq_n_s32(0); 4]; PAIRS];
        for step in 0..n_steps {
            let weights = weights(panel, step);
            let mut inputs = [vdupq_n_s8(0); PAIRS];
            for (pair, inputs) in inputs.iter_mut().enumerate() {
                let row = rows.add(pair * 2 * stride + step * 8).cast::<i8>();
                *inputs = vcombine_s8(vld1_s8(row), vld1_s8(row.add(stride)));
            }
            for (sum, inputs) in sum.iter_mut().zip(&inputs) {
                for (sum, weights) in sum.iter_mut().zip(&weights) {
                    asm!(
                        "smmla {sum:v}.4s, {inputs:v}.16b, {weights:v}.16b",
                        sum = inout(vreg) *sum,
                        inputs = in(vreg) *inputs,
                        weights = in(vreg) *weights,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
            }
        }
        for (pair, sum) in sum.iter().enumerate() {
            for (half, sum) in sum.chunks_exact(2).enumerate() {
                let start = vld1q_s32(start.add(half * 4));
                let to = sums.add(pair * 16 + half * 4);
                let [left, right] = [sum[0], sum[1]].map(|it| vreinterpretq_s64_s32(it));
                let upper = vreinterpretq_s32_s64(vzip1q_s64(left, right));
                let lower = vreinterpretq_s32_s64(vzip2q_s64(left, right));
                vst1q_s32(to, vaddq_s32(start, upper));
                vst1q_s32(to.add(8), vaddq_s32(start, lower));
            }
        }
    }
}
