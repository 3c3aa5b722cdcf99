//! Activations to 8 bits, row by row, at the time they are known.

use crate::isa::{Isa, per_isa};
use crate::lanes::Lanes;

/// Rows are padded to a multiple of this many entries, so that no kernel has a tail.
pub(crate) const K_STEP: usize = 8;
/// There are at least this many rows beyond the last full tile, so that no kernel has one either.
pub(crate) const MAX_TILE_ROWS: usize = 16;

/// Quantized rows: entry = `scale` of the row · (byte − offset), symmetric, 255 steps.
///
/// The buffer is kept from one use to the next.
#[derive(Debug)]
pub struct Rows {
    pub(crate) isa: Isa,
    pub(crate) bytes: Vec<u8>,
    pub(crate) scales: Vec<f32>,
    pub(crate) n_rows: usize,
    pub(crate) n_channels: usize,
}

impl Rows {
    /// No rows yet.
    pub fn new(isa: Isa) -> Self {
        Self { isa, bytes: Vec::new(), scales: Vec::new(), n_rows: 0, n_channels: 0 }
    }

    /// The instruction set whose kernels take them.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.n_rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.n_rows == 0
    }

    /// Replaces the rows by `values`, rows of `n_channels` entries; an incomplete last row is
    /// left out. Each row is scaled by its greatest magnitude, so a row of zeros is exact, and
    /// an infinite entry makes the row's outputs infinite or no numbers rather than wrong.
    pub fn quantize(&mut self, values: &[f32], n_channels: usize) {
        let n_rows = values.len().checked_div(n_channels).unwrap_or(0);
        self.resize(n_rows, n_channels);
        self.fill(0, &values[..n_rows * n_channels]);
    }

    /// Makes room for `n_rows` rows of `n_channels` entries, to be filled by [`Self::fill`].
    pub(crate) fn resize(&mut self, n_rows: usize, n_channels: usize) {
        (self.n_rows, self.n_channels) = (n_rows, n_channels);
        let padded = n_rows.next_multiple_of(MAX_TILE_ROWS);
        // Padding of a row is multiplied by zero weights; padding rows are computed and dropped.
        self.bytes.resize(padded * self.stride(), 0);
        self.scales.resize(padded, 0.0);
    }

    /// Quantizes whole rows into place, from row `first` on.
    pub(crate) fn fill(&mut self, first: usize, values: &[f32]) {
        let n = values.len().checked_div(self.n_channels).unwrap_or(0);
        let stride = self.stride();
        let bytes = &mut self.bytes[first * stride..(first + n) * stride];
        let scales = &mut self.scales[first..first + n];
        // SAFETY: each of the `n` rows reads `n_channels` of the values and writes as many bytes
        // of its `stride`, which is no less.
        unsafe {
            quantize_rows(
                self.isa,
                values.as_ptr(),
                n,
                self.n_channels,
                stride,
                offset(self.isa),
                bytes.as_mut_ptr(),
                scales.as_mut_ptr(),
            );
        }
    }

    /// Bytes from one row to the next.
    pub(crate) fn stride(&self) -> usize {
        self.n_channels.next_multiple_of(K_STEP)
    }
}

/// What is added to a quantized activation: x86 multiplies unsigned by signed bytes, ARM signed
/// by signed.
pub(crate) fn offset(_isa: Isa) -> u8 {
    if cfg!(target_arch = "aarch64") { 0 } else { 128 }
}

per_isa! {
    #[expect(clippy::too_many_arguments, reason = "raw parts of two slices")]
    unsafe fn quantize_rows = rows(
        from: *const f32, n: usize, k: usize, stride: usize, offset: u8, to: *mut u8, scales: *mut f32,
    )
}

#[inline(always)]
unsafe fn rows<V: Lanes>(
    from: *const f32,
    n: usize,
    k: usize,
    stride: usize,
    offset: u8,
    to: *mut u8,
    scales: *mut f32,
) {
    for row in 0..n {
        // SAFETY: the caller's buffers hold `n` rows, of `k` floats and of `stride` bytes.
        unsafe {
            let from = from.add(row * k);
            let to = to.add(row * stride);
            let greatest = magnitude::<V>(from, k);
            let inverse = if greatest == 0.0 { 0.0 } else { 127.0 / greatest };
            scales.add(row).write(greatest / 127.0);
            let mut at = 0;
            let by = V::splat(inverse);
            while at + V::LEN <= k {
                V::load(from.add(at)).mul(by).round().store_bytes(to.add(at), offset);
                at += V::LEN;
            }
            while at < k {
                (from.add(at).read() * inverse).round().store_bytes(to.add(at), offset);
                at += 1;
            }
        }
    }
}

/// The greatest magnitude among `k` floats.
#[inline(always)]
unsafe fn magnitude<V: Lanes>(from: *const f32, k: usize) -> f32 {
    // SAFETY: every access lies within `k`.
    unsafe {
        let mut most = [V::splat(0.0); 4];
        let mut at = 0;
        while at + 4 * V::LEN <= k {
            for (i, most) in most.iter_mut().enumerate() {
                *most = most.max(V::load(from.add(at + i * V::LEN)).abs());
            }
            at += 4 * V::LEN;
        }
        while at + V::LEN <= k {
            most[0] = most[0].max(V::load(from.add(at)).abs());
            at += V::LEN;
        }
        let mut greatest = most[0].max(most[1]).max(most[2].max(most[3])).largest();
        while at < k {
            greatest = greatest.max(from.add(at).read().abs());
            at += 1;
        }
        greatest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_row_is_within_half_a_step(
            values in prop::collection::vec(-1e3f32..1e3, 1..100), scale in 1e-3f32..1e3,
        ) {
            let values: Vec<f32> = values.iter().map(|it| it * scale).collect();
            for isa in Isa::available() {
                let mut rows = Rows::new(isa);
                rows.quantize(&values, values.len());
                let step = rows.scales[0];
                for (x, byte) in values.iter().zip(&rows.bytes) {
                    let q = f32::from(byte.wrapping_sub(offset(isa)).cast_signed());
                    prop_assert!((-127.0..=127.0).contains(&q));
                    prop_assert!((q * step - x).abs() <= step * 0.5001, "{isa}: {x} as {}", q * step);
                }
            }
        }
    }

    #[test]
    fn rows_are_scaled_one_by_one_and_zeros_are_exact() {
        for isa in Isa::available() {
            let mut rows = Rows::new(isa);
            rows.quantize(&[1.0, -2.0, 0.5, 0.0, 0.0, 0.0, 1000.0, 0.0, -1.0, 9.0], 3);
            assert_eq!(rows.len(), 3, "{isa}: the incomplete row is left out");
            assert_eq!(rows.scales[..3], [2.0 / 127.0, 0.0, 1000.0 / 127.0]);
            let signed = |row: usize| -> Vec<i8> {
                let at = row * rows.stride();
                rows.bytes[at..at + 3]
                    .iter()
                    .map(|it| it.wrapping_sub(offset(isa)).cast_signed())
                    .collect()
            };
            assert_eq!(signed(0), [64, -127, 32]);
            assert_eq!(signed(1), [0, 0, 0]);
            assert_eq!(signed(2), [127, 0, 0]);
        }
    }

    #[test]
    fn an_infinite_entry_does_not_look_finite() {
        for isa in Isa::available() {
            let mut rows = Rows::new(isa);
            rows.quantize(&[1.0, f32::INFINITY], 2);
            assert!(!rows.scales[0].is_finite());
        }
    }
}
