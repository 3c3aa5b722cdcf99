//! Whether one way to answer is better than another, on the same pictures.

use crate::draws::Draws;

/// Resamples of the bootstrap.
pub const RESAMPLES: usize = 10_000;
/// Resamples beyond each end of the interval: 2.5 %.
const BEYOND: usize = RESAMPLES / 40;
/// Fewest answers that must differ for one way to be called better. Of m that differ, all in favor of one
/// way, the exact sign test (McNemar, Note on the sampling error of the difference between correlated
/// proportions, 1947) has p = 2 / 2^m, and that is below 5 % from 6 on.
pub const FEWEST: usize = 6;

/// The difference in accuracy of two ways to answer the same questions, with its 95 % interval. In
/// points: a hundredth of all answers. All three lie within -100 to +100, which is what a difference can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    /// Questions.
    pub n: usize,
    /// Right in the new way alone.
    pub won: usize,
    /// Right in the old way alone.
    pub lost: usize,
    /// New less old.
    pub points: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What an interval says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The interval lies above 0.
    Better,
    /// The interval lies below 0.
    Worse,
    /// The interval holds 0: so few questions cannot tell.
    NotDistinguishable,
    /// Fewer than [`FEWEST`] questions, or answers that differ, whatever the interval is.
    TooFew,
}

impl Paired {
    /// Compares answers of the `old` and of the `new` way, in the same order: whether each was right.
    /// `None` without any, or where the lengths differ.
    ///
    /// The interval is the percentile bootstrap (Efron, Tibshirani, An Introduction to the Bootstrap,
    /// 1993, chapter 13): [`RESAMPLES`] times as many questions are drawn with replacement, by `seed`,
    /// and the ends are the differences that 2.5 % lie at or beyond.
    ///
    /// Where no question is answered right in one way alone, resampling cannot differ, and the ends are
    /// ± (1 − 0.05^(1/n)): had a share p of all questions differed, n without one would have the
    /// probability (1 − p)^n, which is 5 % there (Clopper, Pearson, The use of confidence or fiducial
    /// limits, 1934; 3 / n is its approximation for many). Of fewer than [`FEWEST`] questions nothing can
    /// be told, and the ends are ± 100.
    pub fn compare(old: &[bool], new: &[bool], seed: u64) -> Option<Self> {
        if old.is_empty() || old.len() != new.len() {
            return None;
        }
        let change = |(old, new): (&bool, &bool)| i64::from(*new) - i64::from(*old);
        let changes: Vec<i64> = old.iter().zip(new).map(change).collect();
        let count = |of: i64| changes.iter().filter(|it| **it == of).count();
        let (n, won, lost) = (changes.len(), count(1), count(-1));
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let points = |sum: i64| 100.0 * sum as f64 / n as f64;
        let (low, high) = if n < FEWEST {
            (-100.0, 100.0)
        } else if won + lost == 0 {
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            let share = 1.0 - 0.05f64.powf(1.0 / n as f64);
            (-100.0 * share, 100.0 * share)
        } else {
            let (low, high) = ends(&changes, seed);
            (points(low), points(high))
        };
        Some(Self { n, won, lost, points: points(changes.iter().sum()), low, high })
    }

    /// What the interval says. A percentile bootstrap of few answers that differ, all in favor of one way,
    /// leaves 0 out though chance would often make them; so these are not called better or worse.
    pub fn verdict(&self) -> Verdict {
        let is_beyond = 0.0 < self.low || self.high < 0.0;
        if self.n < FEWEST || (is_beyond && self.won + self.lost < FEWEST) {
            Verdict::TooFew
        } else if 0.0 < self.low {
            Verdict::Better
        } else if self.high < 0.0 {
            Verdict::Worse
        } else {
            Verdict::NotDistinguishable
        }
    }
}

fn ends(changes: &[i64], seed: u64) -> (i64, i64) {
    let mut draws = Draws::new(seed);
    let mut sums: Vec<i64> = (0..RESAMPLES)
        .map(|_| (0..changes.len()).map(|_| changes[draws.below(changes.len())]).sum())
        .collect();
    sums.sort_unstable();
    (sums[BEYOND - 1], sums[RESAMPLES - BEYOND])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `won` questions right in the new way alone, `lost` in the old, of `n`.
    fn compared(n: usize, won: usize, lost: usize, seed: u64) -> Paired {
        let old: Vec<bool> = (0..n).map(|it| (won..won + lost).contains(&it)).collect();
        let new: Vec<bool> = (0..n).map(|it| it < won).collect();
        Paired::compare(&old, &new, seed).unwrap()
    }

    #[test]
    fn intervals_of_numpy() {
        // numpy 2.4.6: np.percentile([rng.choice(changes, n).mean() * 100 for _ in range(100_000)],
        // [2.5, 97.5]) with default_rng(1). Ends move by about a tenth of the deviation.
        for (n, won, lost, low, high) in NUMPY {
            let got = compared(n, won, lost, 7);
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let points = 100.0 * (won as f64 - lost as f64) / n as f64;
            assert!((got.points - points).abs() < 1e-12, "{got:?}");
            let bound = (high - low) / 40.0 + 100.0 / n as f64;
            assert!((got.low - low).abs() < bound && (got.high - high).abs() < bound, "{got:?}");
        }
    }

    const NUMPY: [(usize, usize, usize, f64, f64); 3] =
        [(500, 30, 10, 1.6, 6.4), (100, 3, 9, -13.0, 1.0), (2000, 5, 1, 0.0, 0.45)];

    #[test]
    fn verdicts() {
        assert_eq!(compared(500, 40, 10, 1).verdict(), Verdict::Better);
        assert_eq!(compared(500, 10, 40, 1).verdict(), Verdict::Worse);
        assert_eq!(compared(500, 12, 10, 1).verdict(), Verdict::NotDistinguishable);
        // An end at 0 holds 0.
        let touching = Paired { n: 9, won: 9, lost: 0, points: 100.0, low: 0.0, high: 100.0 };
        assert_eq!(touching.verdict(), Verdict::NotDistinguishable);
    }

    #[test]
    fn few_answers_tell_nothing() {
        for (n, won, lost) in [(1, 1, 0), (2, 0, 0), (2, 1, 0), (5, 5, 0), (5, 0, 5)] {
            let got = compared(n, won, lost, 1);
            assert_eq!((got.low, got.high, got.verdict()), (-100.0, 100.0, Verdict::TooFew));
        }
        // The interval leaves 0 out, and p of the sign test is 2 / 2^5 = 6.25 %, with one more half of it.
        let five = compared(500, 5, 0, 1);
        assert!(0.0 < five.low && five.verdict() == Verdict::TooFew, "{five:?}");
        assert_eq!(compared(500, 0, 5, 1).verdict(), Verdict::TooFew);
        assert_eq!(compared(500, 6, 0, 1).verdict(), Verdict::Better);
        assert_eq!(compared(6, 0, 6, 1).verdict(), Verdict::Worse);
        assert_eq!(compared(500, 1, 1, 1).verdict(), Verdict::NotDistinguishable);
    }

    #[test]
    fn where_nothing_differs_the_exact_bound_is_left() {
        // 100 * (1 - 0.05 ** (1 / n)) by Python.
        for (n, bound) in [(6, 39.303_777), (23, 12.212_339), (120, 2.465_540), (500, 0.597_355)] {
            let got = compared(n, 0, 0, 1);
            assert_eq!(got.verdict(), Verdict::NotDistinguishable);
            assert!((got.low + bound).abs() < 1e-6 && (got.high - bound).abs() < 1e-6, "{got:?}");
        }
        assert_eq!(Paired::compare(&[], &[], 1), None);
        assert_eq!(Paired::compare(&[true], &[], 1), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn swapping_turns_the_sign_and_the_interval_holds_the_difference(
            answers in prop::collection::vec(any::<(bool, bool)>(), 1..40),
            seed: u64,
        ) {
            let (old, new): (Vec<bool>, Vec<bool>) = answers.into_iter().unzip();
            let a = Paired::compare(&old, &new, seed).unwrap();
            let b = Paired::compare(&new, &old, seed).unwrap();
            prop_assert_eq!((a.won, a.lost, a.points), (b.lost, b.won, -b.points));
            // The same draws, so the same sums with the other sign.
            prop_assert_eq!((a.low, a.high), (-b.high, -b.low));
            prop_assert!(-100.0 <= a.low && a.low <= a.points);
            prop_assert!(a.points <= a.high && a.high <= 100.0);
            prop_assert_eq!(a, Paired::compare(&old, &new, seed).unwrap());
        }
    }
}
