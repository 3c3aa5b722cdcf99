//! Scaled dot-product attention (Vaswani et al., arXiv 1706.03762) as one pass per head: no
//! matrix of scores is kept, only a block of rows.

use crate::activation::exp;
use crate::isa::{Isa, per_isa};
use crate::lanes::{Lanes, Pack};

/// Queries that are worked on together: as many as there are registers for their sums.
const QUERIES: usize = 6;
/// The same for the set that has twice as many.
const QUERIES_512: usize = 10;

/// Shape of the heads in a row: entry `channel` of head `head` stands at `head · dim + channel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// How many.
    pub n: usize,
    /// Channels of each.
    pub dim: usize,
}

/// Attention with its scratch memory, which is kept from one use to the next.
#[derive(Debug)]
pub struct Attention {
    isa: Isa,
    heads: Heads,
    scale: f32,
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
}

impl Attention {
    /// `scale` multiplies the scores; usually 1/√dim.
    pub fn new(isa: Isa, heads: Heads, scale: f32) -> Self {
        Self { isa, heads, scale, keys: Vec::new(), values: Vec::new(), scores: Vec::new() }
    }

    /// For each head, out = softmax(scale · queries keysᵀ + mask) values.
    ///
    /// All are rows of `heads.n · heads.dim` entries. `mask` has one row of as many entries as
    /// there are keys for each query, or one row for all; −∞ hides a key, and each query must see
    /// one.
    ///
    /// # Panics
    ///
    /// If lengths contradict each other: errors of the caller, not of its input.
    pub fn run(
        &mut self,
        queries: &[f32],
        keys: &[f32],
        values: &[f32],
        mask: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let width = self.heads.n * self.heads.dim;
        assert_ne!(width, 0, "channels");
        let (n_queries, n_keys) = (queries.len() / width, keys.len() / width);
        assert_eq!(queries.len(), n_queries * width, "whole rows of queries");
        assert_eq!(keys.len(), n_keys * width, "whole rows of keys");
        assert_eq!(values.len(), keys.len(), "as many values as keys");
        assert_eq!(out.len(), queries.len(), "as many outputs as queries");
        let (mask, mask_stride) = match mask {
            Some(mask) if mask.len() == n_keys => (mask.as_ptr(), 0),
            Some(mask) => {
                assert_eq!(mask.len(), n_queries * n_keys, "entries of the mask");
                (mask.as_ptr(), n_keys)
            }
            None => (std::ptr::null(), 0),
        };
        if n_queries == 0 || n_keys == 0 {
            out.fill(f32::NAN);
            return;
        }
        // As wide as any instruction set's block of keys.
        let padded = n_keys.next_multiple_of(32);
        let scratch_keys = room(&mut self.keys, padded * self.heads.dim);
        let scratch_values = room(&mut self.values, n_keys * self.heads.dim);
        let scores = room(&mut self.scores, padded * QUERIES_512);
        for head in 0..self.heads.n {
            let at = head * self.heads.dim;
            let part = Head {
                queries: queries[at..].as_ptr(),
                keys: keys[at..].as_ptr(),
                values: values[at..].as_ptr(),
                mask,
                mask_stride,
                n_queries,
                n_keys,
                dim: self.heads.dim,
                stride: width,
                scale: self.scale,
            };
            // SAFETY: lengths were checked above; the scratch memory has room for the keys, padded to
            // the widest block, and the values; the outputs of the heads are disjoint.
            unsafe {
                head_isa(
                    self.isa,
                    &part,
                    scratch_keys,
                    scratch_values,
                    scores,
                    out[at..].as_mut_ptr(),
                );
            }
        }
    }
}

/// Room for `len` entries, from the beginning of a cache line on.
fn room(buffer: &mut Vec<f32>, len: usize) -> *mut f32 {
    const LINE: usize = 16;
    buffer.resize(len + LINE, 0.0);
    let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    buffer[start..].as_mut_ptr()
}

/// One head: pointers to its first entry, rows `stride` entries apart.
struct Head {
    queries: *const f32,
    keys: *const f32,
    values: *const f32,
    mask: *const f32,
    mask_stride: usize,
    n_queries: usize,
    n_keys: usize,
    dim: usize,
    stride: usize,
    scale: f32,
}

per_isa! { unsafe fn head_isa = attend(
    head: &Head, keys: *mut f32, values: *mut f32, scores: *mut f32, out: *mut f32,
) }

#[inline(always)]
unsafe fn attend<V: Lanes>(
    head: &Head,
    keys: *mut f32,
    values: *mut f32,
    scores: *mut f32,
    out: *mut f32,
) {
    // SAFETY: the caller vouches for the shapes.
    unsafe {
        if V::LEN == 16 {
            attend_by::<V, QUERIES_512>(head, keys, values, scores, out);
        } else {
            attend_by::<V, QUERIES>(head, keys, values, scores, out);
        }
    }
}

#[inline(always)]
unsafe fn attend_by<V: Lanes, const ROWS: usize>(
    head: &Head,
    keys: *mut f32,
    values: *mut f32,
    scores: *mut f32,
    out: *mut f32,
) {
    // SAFETY: the caller vouches for the shapes.
    unsafe {
        let block = 2 * V::LEN;
        let padded = head.n_keys.next_multiple_of(block);
        transpose(head, keys, block);
        gather::<V>(head, values);
        for first in (0..head.n_queries).step_by(ROWS) {
            let n_rows = ROWS.min(head.n_queries - first);
            // The last block repeats its last row; only `n_rows` are written.
            let mut queries = [head.queries; ROWS];
            for (row, query) in queries.iter_mut().enumerate() {
                *query = head.queries.add((first + row.min(n_rows - 1)) * head.stride);
            }
            let scale = V::splat(head.scale);
            for at in (0..padded).step_by(block) {
                let sums =
                    product::<V, 2, ROWS>(&queries, keys.add(at * head.dim), block, head.dim);
                for (row, [left, right]) in sums.into_iter().enumerate() {
                    let to = scores.add(row * padded + at);
                    left.mul(scale).store(to);
                    right.mul(scale).store(to.add(V::LEN));
                }
            }
            let mut block_rows =
                Block { weights: [scores.cast_const(); ROWS], shares: [0.0; ROWS], first, n_rows };
            for (row, weights) in block_rows.weights.iter_mut().enumerate() {
                *weights = scores.add(row * padded);
            }
            for (row, share) in block_rows.shares.iter_mut().enumerate().take(n_rows) {
                let scores = scores.add(row * padded);
                mask_row(head, first + row, scores);
                *share = 1.0 / soften::<V>(scores, head.n_keys);
            }
            let mut at = 0;
            while at + block <= head.dim {
                combine::<V, 2, ROWS>(head, values, &block_rows, at, out);
                at += block;
            }
            while at + V::LEN <= head.dim {
                combine::<V, 1, ROWS>(head, values, &block_rows, at, out);
                at += V::LEN;
            }
            while at + V::Half::LEN <= head.dim {
                combine::<V::Half, 1, ROWS>(head, values, &block_rows, at, out);
                at += V::Half::LEN;
            }
            while at < head.dim {
                combine::<f32, 1, ROWS>(head, values, &block_rows, at, out);
                at += 1;
            }
        }
    }
}

/// Brings the keys into blocks of `block` keys, channel by channel; missing keys are zero.
#[inline(always)]
unsafe fn transpose(head: &Head, to: *mut f32, block: usize) {
    for first in (0..head.n_keys).step_by(block) {
        for channel in 0..head.dim {
            for key in 0..block {
                // SAFETY: the caller vouches for room for whole blocks and for `n_keys` keys.
                unsafe {
                    let value = if first + key < head.n_keys {
                        head.keys.add((first + key) * head.stride + channel).read()
                    } else {
                        0.0
                    };
                    to.add((first * head.dim) + channel * block + key).write(value);
                }
            }
        }
    }
}

/// Brings the values into blocks of channels, as wide as [`attend`] takes them together. Where they
/// lie, rows are whole pages apart, which a cache keeps in a few of its places only.
#[inline(always)]
unsafe fn gather<V: Lanes>(head: &Head, to: *mut f32) {
    let mut at = 0;
    // SAFETY: the caller vouches for room for `n_keys` rows of `dim` channels.
    unsafe {
        while at + 2 * V::LEN <= head.dim {
            gather_block::<V, 2>(head, at, to);
            at += 2 * V::LEN;
        }
        while at + V::LEN <= head.dim {
            gather_block::<V, 1>(head, at, to);
            at += V::LEN;
        }
        while at + V::Half::LEN <= head.dim {
            gather_block::<V::Half, 1>(head, at, to);
            at += V::Half::LEN;
        }
        while at < head.dim {
            gather_block::<f32, 1>(head, at, to);
            at += 1;
        }
    }
}

/// `COLUMNS` vectors from channel `at` on.
#[inline(always)]
unsafe fn gather_block<V: Lanes, const COLUMNS: usize>(head: &Head, at: usize, to: *mut f32) {
    for key in 0..head.n_keys {
        for column in 0..COLUMNS {
            // SAFETY: the caller vouches for the channels of each key.
            unsafe {
                let from = head.values.add(key * head.stride + at + column * V::LEN);
                let to = to.add(at * head.n_keys + (key * COLUMNS + column) * V::LEN);
                V::load(from).store(to);
            }
        }
    }
}

/// Rows of `n` entries times `n` rows of `COLUMNS` vectors, `stride` entries apart.
#[inline(always)]
unsafe fn product<V: Lanes, const COLUMNS: usize, const ROWS: usize>(
    rows: &[*const f32; ROWS],
    right: *const f32,
    stride: usize,
    n: usize,
) -> [[V; COLUMNS]; ROWS] {
    // SAFETY: the caller vouches for `n` entries of each row and `n` rows on the right.
    unsafe {
        let mut sums = [[V::splat(0.0); COLUMNS]; ROWS];
        add_product(&mut sums, rows, right, stride, n);
        sums
    }
}

/// Adds the same to `sums`; rows of `n` entries times `n` rows of `COLUMNS` vectors, `stride` entries apart.
#[inline(always)]
pub(crate) unsafe fn add_product<V: Lanes, const COLUMNS: usize, const ROWS: usize>(
    sums: &mut [[V; COLUMNS]; ROWS],
    rows: &[*const f32; ROWS],
    right: *const f32,
    stride: usize,
    n: usize,
) {
    // SAFETY: the caller vouches for `n` entries of each row and `n` rows on the right.
    unsafe {
        for i in 0..n {
            let mut vectors = [V::splat(0.0); COLUMNS];
            for (column, vector) in vectors.iter_mut().enumerate() {
                *vector = V::load(right.add(i * stride + column * V::LEN));
            }
            for (row, sums) in rows.iter().zip(sums.iter_mut()) {
                let factor = V::splat(row.add(i).read());
                for (sum, vector) in sums.iter_mut().zip(vectors) {
                    *sum = factor.mul_add(vector, *sum);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn mask_row(head: &Head, query: usize, scores: *mut f32) {
    if head.mask.is_null() {
        return;
    }
    for key in 0..head.n_keys {
        // SAFETY: the caller vouches for `n_keys` entries of the mask's row and the scores.
        unsafe {
            let mask = head.mask.add(query * head.mask_stride + key).read();
            scores.add(key).write(scores.add(key).read() + mask);
        }
    }
}

/// Vectors of scores that are worked on side by side.
const ABREAST: usize = 4;

/// Replaces scores by e^(score − greatest); gives their sum. There is room for whole vectors.
#[inline(always)]
unsafe fn soften<V: Lanes>(scores: *mut f32, n: usize) -> f32 {
    // SAFETY: every access lies within the whole vectors.
    unsafe {
        // What is beyond the last score weighs nothing.
        for at in n..n.next_multiple_of(V::LEN) {
            scores.add(at).write(f32::NEG_INFINITY);
        }
        let mut most = V::splat(f32::NEG_INFINITY);
        for at in (0..n).step_by(V::LEN) {
            most = most.max(V::load(scores.add(at)));
        }
        let greatest = V::splat(most.largest());
        let mut sum = V::splat(0.0);
        let mut at = 0;
        while at + ABREAST * V::LEN <= n {
            let mut shares = Pack([greatest; ABREAST]);
            for (i, share) in shares.0.iter_mut().enumerate() {
                *share = V::load(scores.add(at + i * V::LEN)).sub(greatest);
            }
            for (i, share) in exp(shares).0.into_iter().enumerate() {
                share.store(scores.add(at + i * V::LEN));
                sum = sum.add(share);
            }
            at += ABREAST * V::LEN;
        }
        while at < n {
            let share = exp(V::load(scores.add(at)).sub(greatest));
            share.store(scores.add(at));
            sum = sum.add(share);
            at += V::LEN;
        }
        sum.sum()
    }
}

/// Query rows from `first` on, with e^score of each key and what these must be divided by.
struct Block<const ROWS: usize> {
    weights: [*const f32; ROWS],
    /// 1 / the sum of a row's weights.
    shares: [f32; ROWS],
    first: usize,
    n_rows: usize,
}

#[inline(always)]
unsafe fn combine<V: Lanes, const COLUMNS: usize, const ROWS: usize>(
    head: &Head,
    values: *const f32,
    block: &Block<ROWS>,
    at: usize,
    out: *mut f32,
) {
    // SAFETY: the caller vouches for `COLUMNS` vectors at `at` in every row.
    unsafe {
        let sums = product::<V, COLUMNS, ROWS>(
            &block.weights,
            values.add(at * head.n_keys),
            COLUMNS * V::LEN,
            head.n_keys,
        );
        for (row, (sums, share)) in sums.iter().zip(block.shares).enumerate().take(block.n_rows) {
            let to = out.add((block.first + row) * head.stride + at);
            for (column, sum) in sums.iter().enumerate() {
                sum.mul(V::splat(share)).store(to.add(column * V::LEN));
            }
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

    fn exact(
        heads: Heads,
        scale: f64,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        mask: &dyn Fn(usize, usize) -> f64,
    ) -> Vec<f64> {
        let width = heads.n * heads.dim;
        let mut out = vec![0.0; q.len()];
        for head in 0..heads.n {
            let entry = |of: &[f32], row: usize, c: usize| {
                f64::from(of[row * width + head * heads.dim + c])
            };
            for query in 0..q.len() / width {
                let shares: Vec<f64> = (0..k.len() / width)
                    .map(|key| {
                        let dot: f64 =
                            (0..heads.dim).map(|c| entry(q, query, c) * entry(k, key, c)).sum();
                        (dot * scale + mask(query, key)).exp()
                    })
                    .collect();
                let sum: f64 = shares.iter().sum();
                for c in 0..heads.dim {
                    let value: f64 =
                        shares.iter().enumerate().map(|(key, it)| it * entry(v, key, c)).sum();
                    out[query * width + head * heads.dim + c] = value / sum;
                }
            }
        }
        out
    }

    #[test]
    fn attention_equals_the_formula_for_every_shape_and_mask() {
        for (n, dim, n_queries, n_keys) in [
            (1, 1, 1, 1),
            (2, 3, 5, 7),
            (3, 16, 13, 33),
            (2, 24, 6, 12),
            (1, 64, 50, 50),
            (2, 40, 1, 49),
        ] {
            let heads = Heads { n, dim };
            let fill = |rows: usize, by: f64| -> Vec<f32> {
                (0..rows * n * dim).map(|it| ((it as f64 * by).sin() * 1.5) as f32).collect()
            };
            let (q, k, v) = (fill(n_queries, 0.7), fill(n_keys, 1.1), fill(n_keys, 2.3));
            let causal: Vec<f32> = (0..n_queries * n_keys)
                .map(|it| if it % n_keys > it / n_keys { f32::NEG_INFINITY } else { 0.0 })
                .collect();
            let padding: Vec<f32> =
                (0..n_keys).map(|it| if it % 3 == 1 { -10_000.0 } else { 0.0 }).collect();
            for isa in Isa::available() {
                let mut attention = Attention::new(isa, heads, 0.3);
                for mask in [None, Some(&causal), Some(&padding)] {
                    let entry = |query: usize, key: usize| match mask {
                        None => 0.0,
                        Some(it) if it.len() == n_keys => f64::from(it[key]),
                        Some(it) => f64::from(it[query * n_keys + key]),
                    };
                    let mut out = vec![f32::NAN; q.len()];
                    attention.run(&q, &k, &v, mask.map(Vec::as_slice), &mut out);
                    let want = exact(heads, 0.3, &q, &k, &v, &entry);
                    for (got, want) in out.iter().zip(want) {
                        let error = (f64::from(*got) - want).abs();
                        assert!(
                            error < 2e-6,
                            "{isa} {heads:?} {n_queries} {n_keys}: {got}, not {want}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_is_not_hidden() {
        let heads = Heads { n: 1, dim: 16 };
        for isa in Isa::available() {
            let mut attention = Attention::new(isa, heads, 1.0);
            // More keys than are softened together, and some over.
            let good = vec![0.5; 150 * heads.dim];
            let mut bad = good.clone();
            bad[77 * heads.dim + 3] = f32::NAN;
            let mut out = vec![0.0; good.len()];
            attention.run(&bad, &good, &good, None, &mut out);
            for (query, row) in out.chunks_exact(heads.dim).enumerate() {
                assert_eq!(row.iter().all(|it| it.is_nan()), query == 77, "{isa}: query {query}");
            }
            attention.run(&good, &bad, &good, None, &mut out);
            assert!(out.iter().all(|it| it.is_nan()), "{isa}: a key");
        }
    }
}
