//! Activations to 8 bits, row by row, at the time they are known.

use crate::isa::{Isa, per_isa};
use crate::lanes::Lanes;
use crate::weights::Weights;

/// Rows are padded to a multiple of this many entries, so that no kernel has a tail.
pub(crate) const K_STEP: usize = 8;
/// There are at least this many rows beyond the last full tile, so that no kernel has one either.
pub(crate) const MAX_TILE_ROWS: usize = 16;

/// Quantized rows: entry = `scale` of the row · (step − `zero` of the row), where steps are whole
/// numbers from 0 to as many as the layer's kernel has room for ([`Weights::steps`]). A row's steps
/// reach from its least to its greatest entry, 0 among them, which is exact.
///
/// The buffer is kept from one use to the next.
#[derive(Debug)]
pub struct Rows {
    pub(crate) isa: Isa,
    /// The greatest step.
    pub(crate) steps: u16,
    /// Steps less [`shift`], each of [`width`] bytes.
    pub(crate) bytes: Vec<u8>,
    pub(crate) scales: Vec<f32>,
    pub(crate) zeros: Vec<f32>,
    pub(crate) n_rows: usize,
    pub(crate) n_channels: usize,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            isa: Isa::PORTABLE,
            steps: 0,
            bytes: Vec::new(),
            scales: Vec::new(),
            zeros: Vec::new(),
            n_rows: 0,
            n_channels: 0,
        }
    }
}

impl Rows {
    /// Replaces the rows by `values`, rows of the inputs of a layer; an incomplete last row is
    /// left out. An entry that is infinite or no number makes the row's outputs so rather than
    /// wrong.
    pub fn quantize(&mut self, values: &[f32], weights: &Weights) {
        let n_channels = weights.n_inputs();
        let n_rows = values.len().checked_div(n_channels).unwrap_or(0);
        self.resize(n_rows, n_channels, weights);
        self.fill(0, &values[..n_rows * n_channels]);
    }

    /// Makes room for `n_rows` rows of `n_channels` entries, to be filled by [`Self::fill`], in
    /// the steps of a layer.
    pub(crate) fn resize(&mut self, n_rows: usize, n_channels: usize, weights: &Weights) {
        (self.isa, self.steps) = (weights.isa, weights.steps);
        (self.n_rows, self.n_channels) = (n_rows, n_channels);
        let padded = n_rows + MAX_TILE_ROWS;
        // Padding of a row is multiplied by zero weights; padding rows are computed and dropped.
        self.bytes.resize(padded * self.stride(), 0);
        self.scales.resize(padded, 0.0);
        self.zeros.resize(padded, 0.0);
    }

    /// Quantizes whole rows into place, from row `first` on.
    pub(crate) fn fill(&mut self, first: usize, values: &[f32]) {
        let n = values.len().checked_div(self.n_channels).unwrap_or(0);
        let stride = self.stride();
        let bytes = &mut self.bytes[first * stride..(first + n) * stride];
        let scales = &mut self.scales[first..first + n];
        let zeros = &mut self.zeros[first..first + n];
        // SAFETY: each of the `n` rows reads `n_channels` of the values and writes as many bytes
        // of its `stride`, which is no less.
        unsafe {
            quantize_rows(
                self.isa,
                values.as_ptr(),
                n,
                self.n_channels,
                stride,
                width(self.isa),
                f32::from(self.steps),
                bytes.as_mut_ptr(),
                scales.as_mut_ptr(),
                zeros.as_mut_ptr(),
            );
        }
    }

    /// What stands for 0 in the first row, in its lowest [`width`] bytes.
    pub(crate) fn zero(&self) -> [u8; 2] {
        // The cast saturates, and a zero is a step.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
        let zero = self.zeros.first().map_or(0, |it| *it as u16);
        zero.wrapping_sub(u16::from(shift(self.isa))).to_le_bytes()
    }

    /// The step at `channel` of `row`.
    #[cfg(test)]
    pub(crate) fn step(&self, row: usize, channel: usize) -> i32 {
        let at = row * self.stride() + channel * width(self.isa);
        let low = self.bytes[at];
        match width(self.isa) {
            1 => i32::from(low.wrapping_add(SHIFT)),
            _ => i32::from(u16::from_le_bytes([low, self.bytes[at + 1]])),
        }
    }

    /// Bytes from one row to the next.
    pub(crate) fn stride(&self) -> usize {
        self.n_channels.next_multiple_of(K_STEP) * width(self.isa)
    }
}

/// The greatest step that a kernel takes, whatever the weights.
pub(crate) fn most_steps(isa: Isa) -> u16 {
    match width(isa) {
        2 => 2047,
        // Within ±127, so that two products with a weight of 8 bits fit 16.
        _ if cfg!(target_arch = "aarch64") => 254,
        _ => 255,
    }
}

/// The most inputs of a layer whose sums surely fit 32 bits: products of [`most_steps`] and 127.
pub(crate) fn max_inputs(isa: Isa) -> usize {
    if width(isa) == 2 { 8192 } else { 65_536 }
}

/// Bytes of a quantized activation. Portable code has no reason to do with fewer than two.
pub(crate) fn width(isa: Isa) -> usize {
    match isa.kind() {
        crate::isa::Kind::Portable => 2,
        #[cfg(target_arch = "x86_64")]
        crate::isa::Kind::Avx2Words => 2,
        #[cfg(target_arch = "aarch64")]
        crate::isa::Kind::NeonWords => 2,
        _ => 1,
    }
}

/// What a quantized activation is less than its step.
pub(crate) fn shift(isa: Isa) -> u8 {
    if width(isa) == 2 { 0 } else { SHIFT }
}

/// The same for bytes: x86 multiplies unsigned by signed bytes, ARM signed by signed.
const SHIFT: u8 = if cfg!(target_arch = "aarch64") { 127 } else { 0 };

per_isa! {
    #[expect(clippy::too_many_arguments, reason = "raw parts of slices")]
    unsafe fn quantize_rows = rows(
        from: *const f32, n: usize, k: usize, stride: usize, width: usize, steps: f32,
        to: *mut u8, scales: *mut f32, zeros: *mut f32,
    )
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "raw parts of slices")]
unsafe fn rows<V: Lanes>(
    from: *const f32,
    n: usize,
    k: usize,
    stride: usize,
    width: usize,
    steps: f32,
    to: *mut u8,
    scales: *mut f32,
    zeros: *mut f32,
) {
    for row in 0..n {
        // SAFETY: the caller's buffers hold `n` rows, of `k` floats and of `stride` bytes.
        unsafe {
            let from = from.add(row * k);
            let to = to.add(row * stride);
            let (low, high) = range::<V>(from, k);
            let scale = (high - low) / steps;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            let zero = (-low * inverse).round_ties_even().min(steps);
            scales.add(row).write(scale);
            zeros.add(row).write(zero);
            let map = [inverse, zero, steps];
            if width == 2 {
                each::<V, 2>(from, k, map, to);
            } else {
                each::<V, 1>(from, k, map, to);
            }
        }
    }
}

#[inline(always)]
unsafe fn each<V: Lanes, const WIDTH: usize>(
    from: *const f32,
    k: usize,
    map: [f32; 3],
    to: *mut u8,
) {
    let mut at = 0;
    // SAFETY: every access lies within `k` entries of their width.
    unsafe {
        while at + V::LEN <= k {
            quantize_at::<V, WIDTH>(from.add(at), map, to.add(at * WIDTH));
            at += V::LEN;
        }
        while at < k {
            quantize_at::<f32, WIDTH>(from.add(at), map, to.add(at * WIDTH));
            at += 1;
        }
    }
}

#[inline(always)]
unsafe fn quantize_at<V: Lanes, const WIDTH: usize>(
    from: *const f32,
    [inverse, zero, steps]: [f32; 3],
    to: *mut u8,
) {
    // SAFETY: the caller vouches for `V::LEN` entries.
    unsafe {
        let step = V::load(from).mul_add(V::splat(inverse), V::splat(zero)).round();
        // Both ends can be passed by the rounding of `zero`.
        let step = step.max(V::splat(0.0)).min(V::splat(steps));
        if WIDTH == 2 { step.store_words(to) } else { step.store_bytes(to, SHIFT) }
    }
}

/// The least and the greatest of `k` floats and 0; no numbers where one of them is none.
#[inline(always)]
unsafe fn range<V: Lanes>(from: *const f32, k: usize) -> (f32, f32) {
    // SAFETY: every access lies within `k`.
    unsafe {
        let zero = V::splat(0.0);
        let (mut low, mut high, mut sum) = ([zero; 2], [zero; 2], [zero; 2]);
        let mut at = 0;
        while at + 2 * V::LEN <= k {
            for i in 0..2 {
                let value = V::load(from.add(at + i * V::LEN));
                low[i] = low[i].min(value);
                high[i] = high[i].max(value);
                sum[i] = sum[i].add(value);
            }
            at += 2 * V::LEN;
        }
        let mut least = -zero.sub(low[0].min(low[1])).largest();
        let mut greatest = high[0].max(high[1]).largest();
        let mut sum = sum[0].add(sum[1]).sum();
        while at < k {
            let value = from.add(at).read();
            least = least.min(value);
            greatest = greatest.max(value);
            sum += value;
            at += 1;
        }
        // Least and greatest pass over what is no number, a sum does not.
        if sum.is_nan() { (f32::NAN, f32::NAN) } else { (least, greatest) }
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    clippy::needless_range_loop,
    reason = "small made-up numbers, by position as the formulae have them"
)]
mod tests {
    use super::*;
    use crate::{Activation, Output, multiply};
    use proptest::prelude::*;

    /// A layer whose only task is to say how its inputs are quantized.
    fn layer(isa: Isa, n_inputs: usize) -> Weights {
        Weights::pack(isa, &vec![1; n_inputs], crate::Layout::OutputsFirst, &[1.0], None).unwrap()
    }

    /// Entry `at` of the first row, as the kernels understand it.
    fn value(rows: &Rows, at: usize) -> f32 {
        let step = rows.step(0, at);
        assert!(step <= i32::from(rows.steps));
        (step as f32 - rows.zeros[0]) * rows.scales[0]
    }

    proptest! {
        #[test]
        fn a_row_is_within_half_a_step(
            values in prop::collection::vec(-1e3f32..1e3, 1..100), scale in 1e-3f32..1e3, least in -1e3f32..1e3,
        ) {
            let values: Vec<f32> = values.iter().map(|it| it.max(least) * scale).collect();
            for isa in Isa::available() {
                let mut rows = Rows::default();
                rows.quantize(&values, &layer(isa, values.len()));
                for (at, x) in values.iter().enumerate() {
                    let got = value(&rows, at);
                    // The zero is rounded too, so the ends may be off by as much again.
                    prop_assert!((got - x).abs() <= rows.scales[0] * 1.001, "{isa}: {x} as {got}");
                }
            }
        }
    }

    #[test]
    fn rows_are_scaled_one_by_one_and_zeros_are_exact() {
        for isa in Isa::available() {
            let mut rows = Rows::default();
            let values = [1.0, -2.0, 0.5, 0.0, 0.0, 0.0, 1000.0, 0.0, 9.0, 9.0];
            let layer = layer(isa, 3);
            rows.quantize(&values, &layer);
            assert_eq!(rows.n_rows, 3, "{isa}: the incomplete row is left out");
            let steps = f32::from(layer.steps());
            assert_eq!(rows.scales[..3], [3.0 / steps, 0.0, 1000.0 / steps]);
            assert_eq!(rows.zeros[1..3], [0.0, 0.0]);
            let step = |row: usize, at: usize| rows.step(row, at) as f32;
            assert_eq!([step(0, 1), step(2, 0), step(2, 1)], [0.0, steps, 0.0]);
            assert_eq!([step(1, 0), step(1, 1), step(1, 2)], [0.0; 3]);
        }
    }

    #[test]
    fn an_entry_that_is_no_finite_number_makes_no_finite_output() {
        for isa in Isa::available() {
            for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
                for at in [0, 17, 109] {
                    // More than the few that have a kernel of their own.
                    let layer = layer(isa, 110);
                    let mut rows = Rows::default();
                    let mut values = [1.0; 110];
                    values[at] = bad;
                    rows.quantize(&values, &layer);
                    let mut out = [0.0];
                    multiply(&rows, &layer, Activation::Identity, Output::Set, &mut out);
                    assert!(!out[0].is_finite(), "{isa}: {bad} at {at} gives {}", out[0]);
                    let relu6 = Activation::Clamp { low: 0.0, high: 6.0 };
                    multiply(&rows, &layer, relu6, Output::Set, &mut out);
                    assert!(out[0].is_nan() || bad.is_infinite(), "{isa}: {bad} at {at}");
                }
            }
        }
    }
}
