//! Integer dot products and sums of looked-up bytes: what a search spends its time on.
//!
//! Plain Rust that every machine runs, and the same for AVX2 and NEON, chosen when the program
//! runs. Sums are exact, so all give the same numbers.

use crate::sketch::{BLOCK, TABLE};

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Bytes of stored vectors are `i8`. The arguments must be of one length, at most
/// [`crate::format::MAX_DIMENSION`]; a longer one is cut.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    /// A short name, such as `avx2`.
    pub(crate) name: &'static str,
    /// A query, of magnitudes up to 2047, and a stored vector.
    pub(crate) query: fn(&[i16], &[u8]) -> i32,
    /// Two stored vectors.
    pub(crate) stored: fn(&[u8], &[u8]) -> i32,
    /// For every entry of a block of sketches, the sum of what its codes' two halves stand for in
    /// the tables. Rows and tables of one number; no sum may exceed 16 bits.
    pub(crate) sketch: SketchSums,
}

type SketchSums = fn(&[[u8; BLOCK]], &[[u8; TABLE]], &mut [u16; BLOCK]);

impl Kernel {
    pub(crate) const PORTABLE: Self = Self {
        name: "portable",
        query: portable_query,
        stored: portable_stored,
        sketch: portable_sketch,
    };

    /// The fastest of this machine.
    pub(crate) fn detect() -> Self {
        Self::special().unwrap_or(Self::PORTABLE)
    }

    #[cfg(target_arch = "x86_64")]
    fn special() -> Option<Self> {
        x86::detect()
    }

    #[cfg(target_arch = "aarch64")]
    fn special() -> Option<Self> {
        arm::detect()
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn special() -> Option<Self> {
        None
    }
}

fn portable_query(query: &[i16], stored: &[u8]) -> i32 {
    dot(query.iter().copied(), stored)
}

fn portable_stored(a: &[u8], b: &[u8]) -> i32 {
    dot(a.iter().map(|it| it.cast_signed().into()), b)
}

/// `MAX_DIMENSION · 2047 · 128` is below 2³¹; checked additions would keep the compiler from
/// several at once.
fn dot(a: impl Iterator<Item = i16>, b: &[u8]) -> i32 {
    a.zip(b)
        .fold(0, |sum, (a, b)| sum.wrapping_add(i32::from(a).wrapping_mul(b.cast_signed().into())))
}

fn portable_sketch(rows: &[[u8; BLOCK]], tables: &[[u8; TABLE]], sums: &mut [u16; BLOCK]) {
    sums.fill(0);
    for (row, table) in rows.iter().zip(tables) {
        let (low, high) = table.split_at(TABLE / 2);
        for (sum, code) in sums.iter_mut().zip(row) {
            let value = low[usize::from(code & 15)].wrapping_add(high[usize::from(code >> 4)]);
            *sum = sum.wrapping_add(value.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::MAX_DIMENSION;
    use proptest::prelude::*;

    #[test]
    fn extreme_sums_are_exact() {
        let (query, stored) = (vec![-2047; MAX_DIMENSION], vec![0x80; MAX_DIMENSION]);
        for kernel in [Kernel::PORTABLE, Kernel::detect()] {
            assert_eq!((kernel.query)(&query, &stored), 4096 * 2047 * 128, "{}", kernel.name);
            assert_eq!((kernel.stored)(&stored, &stored), 4096 * 128 * 128, "{}", kernel.name);
        }
    }

    proptest! {
        #[test]
        fn sketch_kernels_agree(
            pairs in prop::collection::vec(
                (any::<[u8; BLOCK]>(), prop::array::uniform32(0u8..=127)), 0..100,
            ),
        ) {
            let (rows, tables): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let mut sums = [[7; BLOCK]; 2];
            (Kernel::detect().sketch)(&rows, &tables, &mut sums[0]);
            portable_sketch(&rows, &tables, &mut sums[1]);
            prop_assert_eq!(sums[0], sums[1]);
        }

        /// Of every length, so that the rest after whole registers is met.
        #[test]
        fn kernels_agree(
            pairs in prop::collection::vec((-2047i16..=2047, any::<u8>(), any::<u8>()), 0..200),
        ) {
            let query: Vec<i16> = pairs.iter().map(|it| it.0).collect();
            let a: Vec<u8> = pairs.iter().map(|it| it.1).collect();
            let b: Vec<u8> = pairs.iter().map(|it| it.2).collect();
            let fast = Kernel::detect();
            prop_assert_eq!((fast.query)(&query, &a), portable_query(&query, &a));
            prop_assert_eq!((fast.stored)(&a, &b), portable_stored(&a, &b));
        }
    }
}
