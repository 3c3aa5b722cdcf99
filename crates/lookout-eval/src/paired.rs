//! Whether one way to answer is better than another, on the same pictures.

use crate::draws::Draws;

/// Resamples of the bootstrap.
pub const RESAMPLES: usize = 10_000;
/// Resamples beyond each end of the interval: 2.5 %.
const BEYOND: usize = RESAMPLES / 40;

/// The difference in accuracy of two ways to answer the same questions, with its 95 % interval. In
/// points: a hundredth of all answers.
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
}

impl Paired {
    /// Compares answers of the `old` and of the `new` way, in the same order: whether each was right.
    /// `None` without any, or where the lengths differ.
    ///
    /// The interval is the percentile bootstrap (Efron, Tibshirani, An Introduction to the Bootstrap,
    /// 1993, chapter 13): [`RESAMPLES`] times as many questions are drawn with replacement, by `seed`,
    /// and the ends are the differences that 2.5 % lie at or beyond. Where no question is answered right
    /// in one way alone, resampling cannot differ, and the ends are ± 3 / n: had a share p of all
    /// questions differed, n without one would be rarer than 5 % from p = 3 / n on (rule of three).
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
        let (low, high) = if won + lost == 0 {
            (points(-3), points(3))
        } else {
            let (low, high) = ends(&changes, seed);
            (points(low), points(high))
        };
        Some(Self { n, won, lost, points: points(changes.iter().sum()), low, high })
    }

    /// Whether the interval is by the rule of three: no answer differs.
    pub fn is_rule_of_three(&self) -> bool {
        self.won + self.lost == 0
    }

    /// What the interval says.
    pub fn verdict(&self) -> Verdict {
        if 0.0 < self.low {
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
        let touching = Paired { n: 1, won: 1, lost: 0, points: 100.0, low: 0.0, high: 100.0 };
        assert_eq!(touching.verdict(), Verdict::NotDistinguishable);
    }

    #[test]
    fn where_nothing_differs_three_by_n_is_left() {
        let got = compared(120, 0, 0, 1);
        assert!(got.is_rule_of_three() && got.verdict() == Verdict::NotDistinguishable);
        assert!((got.low + 2.5).abs() < 1e-12 && (got.high - 2.5).abs() < 1e-12, "{got:?}");
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
            prop_assert!(a.low <= a.points && a.points <= a.high);
            prop_assert_eq!(a, Paired::compare(&old, &new, seed).unwrap());
        }
    }
}
