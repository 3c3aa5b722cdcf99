//! Numbers that look drawn by chance and are the same on every machine.

/// SplitMix64 (Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, 2014).
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// A number below `n`, which is below 2^32. The bias of the product is below n / 2^64.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "less than n, which is a usize")]
        let drawn = ((u128::from(self.next()) * n as u128) >> 64) as usize;
        drawn
    }
}

/// The last step of SplitMix64: every bit of `x` has a say in every bit of the result.
pub(crate) fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence() {
        // The first numbers of the authors' C program for seed 1234567.
        let mut draws = Draws::new(1_234_567);
        let got = [draws.next(), draws.next(), draws.next()];
        let expected =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(got, expected);
    }

    #[test]
    fn draws_cover_their_range() {
        let mut draws = Draws::new(1);
        let mut counts = [0; 7];
        (0..7000).for_each(|_| counts[draws.below(7)] += 1);
        assert!(counts.iter().all(|it| (850..1150).contains(it)), "{counts:?}");
    }
}
