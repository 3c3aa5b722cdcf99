//! Activations to 8 bits, row by row, at the time they are known.

use crate::isa::{Isa, per_isa};
use crate::lanes::Lanes;
use crate::weights::Weights;

/// Rows are padded to a multiple of this many entries, so that no kernel has a tail.
pub(crate) const K_STEP: usize = 8;
/// There are at least this many rows beyond the last full tile, so that no kernel has one either.
pub(crate) const MAX_TILE_ROWS: usize = 16;

/// Entries of pixels that share a scale, where a pixel has fewer.
const SCALE_ENTRIES: usize = 256;

/// Quantized rows: entry = `scale` of the row · (step − `zero` of the row), where steps are whole
/// numbers from 0 to as many as the layer's kernel has room for ([`Weights::steps`]). The steps reach
/// from the least to the greatest entry of the row, or of the few rows that share a scale, 0 among
/// them, which is exact.
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
        self.quantize_by(values, weights, 1);
    }

    /// The same for the pixels of one picture: neighbours share a scale where they have few
    /// channels, since finding one takes longer than to quantize so few entries.
    pub fn quantize_pixels(&mut self, values: &[f32], weights: &Weights) {
        let n_alike = SCALE_ENTRIES.checked_div(weights.n_inputs()).unwrap_or(0).max(1);
        self.quantize_by(values, weights, n_alike);
    }

    fn quantize_by(&mut self, values: &[f32], weights: &Weights, n_alike: usize) {
        let n_channels = weights.n_inputs();
        let n_rows = values.len().checked_div(n_channels).unwrap_or(0);
        self.resize(n_rows, n_channels, weights);
        self.fill(&values[..n_rows * n_channels], n_alike);
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

    /// Quantizes whole rows into place, of which `n_alike` at a time share a scale.
    pub(crate) fn fill(&mut self, values: &[f32], n_alike: usize) {
        let n = values.len().checked_div(self.n_channels).unwrap_or(0);
        let stride = self.stride();
        let bytes = &mut self.bytes[..n * stride];
        let scales = &mut self.scales[..n];
        let zeros = &mut self.zeros[..n];
        // SAFETY: each of the `n` rows reads `n_channels` of the values and writes as many bytes
        // of its `stride`, which is no less.
        unsafe {
            quantize_rows(
                self.isa.for_entries(self.n_channels),
                values.as_ptr(),
                n,
                n_alike,
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
        from: *const f32, n: usize, n_alike: usize, k: usize, stride: usize, width: usize, steps: f32,
        to: *mut u8, scales: *mut f32, zeros: *mut f32,
    )
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "raw parts of slices")]
unsafe fn rows<V: Lanes>(
    from: *const f32,
    n: usize,
    n_alike: usize,
    k: usize,
    stride: usize,
    width: usize,
    steps: f32,
    to: *mut u8,
    scales: *mut f32,
    zeros: *mut f32,
) {
    for first in (0..n).step_by(n_alike) {
        let n = n_alike.min(n - first);
        // SAFETY: the caller's buffers hold the rows, of `k` floats and of `stride` bytes.
        unsafe {
            let from = from.add(first * k);
            let to = to.add(first * stride);
            let (low, high) = range::<V>(from, n * k);
            let scale = (high - low) / steps;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            let zero = (-low * inverse).round_ties_even().min(steps);
            for row in first..first + n {
                scales.add(row).write(scale);
                zeros.add(row).write(zero);
            }
            // Rows without padding are as good as one.
            let (n, k) = if k * width == stride { (1, n * k) } else { (n, k) };
            for row in 0..n {
                let (from, to) = (from.add(row * k), to.add(row * stride));
                let map = [inverse, zero, steps];
                if width == 2 {
                    each::<V, 2>(from, k, map, to);
                } else {
                    each::<V, 1>(from, k, map, to);
                }
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
    // SAFETY: every access lies within `k` entries of their width.
    unsafe {
        if k < V::LEN {
            for at in 0..k {
                quantize_at::<f32, WIDTH>(from.add(at), map, to.add(at * WIDTH));
            }
            return;
        }
        let mut at = 0;
        let [inverse, zero, steps] = [V::splat(map[0]), V::splat(map[1]), V::splat(map[2])];
        while at + 4 * V::LEN <= k {
            let mut four = [zero; 4];
            for (i, step) in four.iter_mut().enumerate() {
                let value = V::load(from.add(at + i * V::LEN));
                *step = value.mul_add(inverse, zero).min(steps);
            }
            if WIDTH == 2 {
                V::store_words_of(four, to.add(at * 2));
            } else {
                V::store_bytes_of(four, to.add(at), SHIFT);
            }
            at += 4 * V::LEN;
        }
        // The last vector begins earlier rather than leave entries over.
        for at in (at..k).step_by(V::LEN) {
            let at = at.min(k - V::LEN);
            quantize_at::<V, WIDTH>(from.add(at), map, to.add(at * WIDTH));
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
        if k < V::LEN {
            let mut all = Range::<f32>::zero();
            for at in 0..k {
                all.include(from.add(at));
            }
            return all.ends();
        }
        let last = k - V::LEN;
        let (mut even, mut odd) = (Range::<V>::zero(), Range::<V>::zero());
        for at in (0..k).step_by(2 * V::LEN) {
            even.include(from.add(at.min(last)));
            odd.include(from.add((at + V::LEN).min(last)));
        }
        even.join(odd).ends()
    }
}

/// The least and the greatest of what was included, and 0.
struct Range<V> {
    low: V,
    high: V,
    /// Least and greatest pass over what is no number, a sum does not.
    sum: V,
}

impl<V: Lanes> Range<V> {
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { Self { low: V::splat(0.0), high: V::splat(0.0), sum: V::splat(0.0) } }
    }

    #[inline(always)]
    unsafe fn include(&mut self, from: *const f32) {
        // SAFETY: the caller vouches for `V::LEN` entries.
        unsafe {
            let value = V::load(from);
            self.low = self.low.min(value);
            self.high = self.high.max(value);
            self.sum = self.sum.add(value);
        }
    }

    #[inline(always)]
    unsafe fn join(self, other: Self) -> Self {
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            Self {
                low: self.low.min(other.low),
                high: self.high.max(other.high),
                sum: self.sum.add(other.sum),
            }
        }
    }

    #[inline(always)]
    unsafe fn ends(self) -> (f32, f32) {
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            if self.sum.has_nan() {
                return (f32::NAN, f32::NAN);
            }
            (-V::splat(0.0).sub(self.low).largest(), self.high.largest())
        }
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

    /// An entry as the kernels understand it.
    fn value(rows: &Rows, row: usize, at: usize) -> f32 {
        let step = rows.step(row, at);
        assert!(step <= i32::from(rows.steps));
        (step as f32 - rows.zeros[row]) * rows.scales[row]
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
                    let got = value(&rows, 0, at);
                    // The zero is rounded too, so the ends may be off by as much again.
                    prop_assert!((got - x).abs() <= rows.scales[0] * 1.001, "{isa}: {x} as {got}");
                }
            }
        }

        #[test]
        fn neighbours_of_few_channels_share_the_scale_that_they_need(
            values in prop::collection::vec(-1e3f32..1e3, 1..2000), n_channels in 1usize..300,
        ) {
            let n_alike = (SCALE_ENTRIES / n_channels).max(1);
            for isa in Isa::available() {
                let layer = layer(isa, n_channels);
                let mut rows = Rows::default();
                rows.quantize_pixels(&values, &layer);
                prop_assert_eq!(rows.n_rows, values.len() / n_channels);
                for (row, pixel) in values.chunks_exact(n_channels).enumerate() {
                    let first = row / n_alike * n_alike;
                    let end = (first + n_alike).min(rows.n_rows);
                    let alike = &values[first * n_channels..end * n_channels];
                    let low = alike.iter().copied().fold(0.0, f32::min);
                    let high = alike.iter().copied().fold(0.0, f32::max);
                    prop_assert_eq!(rows.scales[row], (high - low) / f32::from(layer.steps()));
                    for (at, x) in pixel.iter().enumerate() {
                        let got = value(&rows, row, at);
                        let error = (got - x).abs();
                        prop_assert!(error <= rows.scales[row] * 1.001, "{isa}: {x} as {got}");
                    }
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
