//! Unit vectors as 8-bit integers with a scale each.

use lookout_core::{Embedding, EmbeddingError};

use crate::format::SCALE_BYTES;

/// Largest magnitude of a stored integer.
const STORED_MAX: f32 = 127.0;
/// Largest magnitude of a query's integers. A query is not stored, so it keeps more digits;
/// `MAX_DIMENSION · 127 · 2047` is below 2³¹.
const QUERY_MAX: f32 = 2047.0;
/// Dimensions that are multiplied together at once.
const BLOCK: usize = 32;

/// Vectors one after another, in the file's form: scale (`f32`), then one `i8` a dimension.
/// Scale times integers is the vector, of unit length.
#[derive(Clone, Copy)]
pub(crate) struct Vectors<'a> {
    bytes: &'a [u8],
    dimension: usize,
}

impl<'a> Vectors<'a> {
    pub(crate) fn new(bytes: &'a [u8], dimension: usize) -> Self {
        Self { bytes, dimension }
    }

    /// Scale and integers, the latter as bytes.
    fn record(&self, slot: usize) -> (f32, &'a [u8]) {
        let stride = SCALE_BYTES + self.dimension;
        let record = &self.bytes[slot * stride..(slot + 1) * stride];
        let (scale, integers) = record.split_at(SCALE_BYTES);
        (f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]), integers)
    }

    /// Cosine of two stored vectors.
    pub(crate) fn cosine(&self, a: usize, b: usize) -> f32 {
        let ((a_scale, a), (b_scale, b)) = (self.record(a), self.record(b));
        dot(a, |it| it.cast_signed().into(), b) * (a_scale * b_scale)
    }

    /// Cosine of a stored vector and a query, up to the query's own scale.
    pub(crate) fn query_cosine(&self, query: &[i16], slot: usize) -> f32 {
        let (scale, integers) = self.record(slot);
        dot(query, |it| it, integers) * scale
    }

    /// The stored vector. Errs when the bytes are not those of a unit vector.
    pub(crate) fn embedding(&self, slot: usize) -> Result<Embedding, EmbeddingError> {
        let (scale, integers) = self.record(slot);
        let values = integers.iter().map(|it| f32::from(it.cast_signed()) * scale).collect();
        Embedding::from_unit(values)
    }
}

/// An integer sum, so that its value does not depend on the order in which it is taken.
///
/// Blocks of 16-bit numbers, in plain loops, are what the compiler turns into multiply-and-add
/// instructions. No sum overflows, see `QUERY_MAX`; checked additions would keep it from that.
fn dot<A: Copy>(a: &[A], widen: impl Fn(A) -> i16, b: &[u8]) -> f32 {
    let product = |a: i16, b: i16| i32::from(a).wrapping_mul(b.into());
    let (a_blocks, a_rest) = a.as_chunks::<BLOCK>();
    let (b_blocks, b_rest) = b.as_chunks::<BLOCK>();
    let mut sum = 0i32;
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        let a: [i16; BLOCK] = std::array::from_fn(|idx| widen(a[idx]));
        let b: [i16; BLOCK] = std::array::from_fn(|idx| b[idx].cast_signed().into());
        let mut block = 0i32;
        for (a, b) in a.iter().zip(&b) {
            block = block.wrapping_add(product(*a, *b));
        }
        sum = sum.wrapping_add(block);
    }
    for (a, b) in a_rest.iter().zip(b_rest) {
        sum = sum.wrapping_add(product(widen(*a), b.cast_signed().into()));
    }
    #[expect(clippy::cast_precision_loss, reason = "a distance needs no more digits")]
    let sum = sum as f32;
    sum
}

/// Appends a vector's record to `out`.
pub(crate) fn quantize(embedding: &Embedding, out: &mut Vec<u8>) {
    let integers = to_integers(embedding, STORED_MAX);
    let squares: i32 = integers.iter().map(|it| i32::from(*it).pow(2)).sum();
    #[expect(clippy::cast_possible_truncation, reason = "the scale is stored as f32")]
    let scale = (1.0 / f64::from(squares).sqrt()) as f32;
    out.extend(scale.to_le_bytes());
    #[expect(clippy::cast_possible_truncation, reason = "at most STORED_MAX")]
    out.extend(integers.iter().map(|it| (*it as i8).cast_unsigned()));
}

/// A query's integers.
pub(crate) fn quantize_query(embedding: &Embedding) -> Vec<i16> {
    to_integers(embedding, QUERY_MAX)
}

/// Scales the largest magnitude to `max`; an embedding is no zero vector, so it has one.
fn to_integers(embedding: &Embedding, max: f32) -> Vec<i16> {
    let values = embedding.as_slice();
    let largest = values.iter().fold(0f32, |largest, it| largest.max(it.abs()));
    #[expect(clippy::cast_possible_truncation, reason = "within max, and casts of floats saturate")]
    let integers = values.iter().map(|it| (it / largest * max).round() as i16).collect();
    integers
}
