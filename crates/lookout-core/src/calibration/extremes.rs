//! How high the maxima of blocks of time go: the level that is passed once in so many blocks.
//!
//! The maxima follow a Gumbel distribution, or one with a heavier tail (generalized extreme value,
//! shape above 0) where a test says that they do. A lighter tail has an end, and an end that a few
//! minutes seem to show is never believed. Fitted by L-moments: Hosking, Wallis, Wood, Estimation of
//! the generalized extreme-value distribution by the method of probability-weighted moments
//! (Technometrics 27, 1985); the shape is in their sign the negative of ours. The test for a shape of
//! 0 is theirs too.

/// Euler's constant, the mean of the standard Gumbel distribution.
const EULER: f64 = 0.577_215_664_901_532_9;
/// A standard normal variable is below this in 19 of 20 cases: when a heavier tail is believed.
const ONE_IN_TWENTY: f64 = 1.645;
/// A standard normal variable is below this in 9 of 10 cases.
const ONE_IN_TEN: f64 = 1.282;
/// Heavier tails have no mean worth speaking of.
const MAX_SHAPE: f64 = 0.5;

/// A distribution of maxima.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tail {
    location: f64,
    scale: f64,
    /// 0: Gumbel.
    shape: f64,
}

/// A level that one maximum passes with a given probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Level {
    /// The estimate.
    pub(super) estimate: f64,
    /// What the level is below in nine of ten cases, for so few maxima: the estimate and 1.28 times its
    /// standard error by the jackknife.
    pub(super) cautious: f64,
}

/// The level that a maximum passes with `probability`, greater than 0 and less than 1. `None` for
/// fewer than three maxima.
pub(super) fn level(maxima: &[f64], probability: f64) -> Option<Level> {
    let mut sorted = maxima.to_vec();
    sorted.sort_by(f64::total_cmp);
    let whole = Moments::of(&sorted)?;
    let is_heavy = whole.is_heavier_than_gumbel();
    let estimate = whole.fit(is_heavy).quantile(probability);
    // Each maximum left out once.
    let mut left_out = Vec::with_capacity(sorted.len());
    for idx in 0..sorted.len() {
        let mut rest = sorted.clone();
        rest.remove(idx);
        left_out.push(Moments::of(&rest)?.fit(is_heavy).quantile(probability));
    }
    let n = whole.n;
    let mean = left_out.iter().sum::<f64>() / n;
    let squares: f64 = left_out.iter().map(|it| (it - mean).powi(2)).sum();
    let error = ((n - 1.0) / n * squares).sqrt();
    Some(Level { estimate, cautious: estimate + ONE_IN_TEN * error })
}

/// The first three L-moments.
struct Moments {
    n: f64,
    mean: f64,
    scale: f64,
    /// Third over second.
    skewness: f64,
}

impl Moments {
    fn of(sorted: &[f64]) -> Option<Self> {
        if sorted.len() < 3 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let number = |it: usize| it as f64;
        let n = number(sorted.len());
        let mut weighted = [0.0; 3];
        for (idx, x) in sorted.iter().enumerate() {
            let i = number(idx);
            weighted[0] += x;
            weighted[1] += i / (n - 1.0) * x;
            weighted[2] += i * (i - 1.0) / ((n - 1.0) * (n - 2.0)) * x;
        }
        let [b0, b1, b2] = weighted.map(|it| it / n);
        // Equal maxima leave nothing but rounding.
        let scale = (2.0 * b1 - b0).max(1e-9);
        Some(Self { n, mean: b0, scale, skewness: (6.0 * b2 - 6.0 * b1 + b0) / scale })
    }

    /// The shape in Hosking's sign: negative for a heavy tail.
    fn kappa(&self) -> f64 {
        let c = 2.0 / (3.0 + self.skewness) - 2f64.ln() / 3f64.ln();
        7.859 * c + 2.9554 * c * c
    }

    fn is_heavier_than_gumbel(&self) -> bool {
        self.kappa() * (self.n / 0.5633).sqrt() < -ONE_IN_TWENTY
    }

    fn fit(&self, is_heavy: bool) -> Tail {
        let kappa = self.kappa().max(-MAX_SHAPE);
        if !is_heavy || -1e-6 < kappa {
            let scale = self.scale / 2f64.ln();
            return Tail { location: self.mean - EULER * scale, scale, shape: 0.0 };
        }
        let gamma = gamma(1.0 + kappa);
        let scale = self.scale * kappa / ((1.0 - 2f64.powf(-kappa)) * gamma);
        let location = self.mean - scale * (1.0 - gamma) / kappa;
        Tail { location, scale, shape: -kappa }
    }
}

impl Tail {
    /// What is passed with `probability`.
    fn quantile(&self, probability: f64) -> f64 {
        // −ln(1 − p), exact for the small p of long extrapolations.
        let rate = -(-probability).ln_1p();
        if self.shape <= 0.0 {
            return self.location - self.scale * rate.ln();
        }
        self.location + self.scale / self.shape * (rate.powf(-self.shape) - 1.0)
    }
}

/// Γ(x) for x of 0.5 to 1.5, to 1e-10: Lanczos' approximation with g = 5 and six terms, as in Press et
/// al., Numerical Recipes, section 6.1.
fn gamma(x: f64) -> f64 {
    const TERMS: [f64; 6] = [
        76.180_091_729_471_46,
        -86.505_320_329_416_77,
        24.014_098_240_830_91,
        -1.231_739_572_450_155,
        0.001_208_650_973_866_179,
        -0.000_005_395_239_384_953,
    ];
    let mut sum = 1.000_000_000_190_015;
    let mut at = x;
    for term in TERMS {
        at += 1.0;
        sum += term / at;
    }
    let t = x + 5.5;
    (2.506_628_274_631_000_5 * sum / x) * ((x + 0.5) * t.ln() - t).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evenly spaced quantiles: a sample without chance.
    fn sample(tail: Tail, n: u32) -> Vec<f64> {
        let p = |i: u32| (f64::from(i) + 0.5) / f64::from(n);
        (0..n).map(|i| tail.quantile(p(i))).collect()
    }

    #[test]
    fn gamma_is_known_at_a_few_places() {
        let half = std::f64::consts::PI.sqrt();
        for (x, expected) in
            [(0.5, half), (1.0, 1.0), (1.5, half / 2.0), (0.8, 1.164_229_713_725_303)]
        {
            assert!((gamma(x) - expected).abs() < 1e-9, "{x}: {}", gamma(x));
        }
    }

    #[test]
    fn a_gumbel_sample_gives_its_own_levels_back() {
        let tail = Tail { location: 3.0, scale: 0.5, shape: 0.0 };
        let level = level(&sample(tail, 200), 1e-4).unwrap();
        // 3 + 0.5 · 9.21.
        assert!((level.estimate - 7.605).abs() < 0.1, "{level:?}");
        assert!(level.estimate < level.cautious && level.cautious < 9.0, "{level:?}");
    }

    #[test]
    fn a_heavy_tail_is_found_and_a_light_one_is_not_believed() {
        let heavy = Tail { location: 0.0, scale: 1.0, shape: 0.3 };
        let found = level(&sample(heavy, 300), 1e-3).unwrap().estimate;
        let expected = heavy.quantile(1e-3);
        assert!((found / expected - 1.0).abs() < 0.15, "{found}, {expected}");
        // Uniform maxima have an end at 1; the level lies beyond.
        let uniform: Vec<f64> = (0..60u32).map(|it| f64::from(it) / 60.0).collect();
        assert!(1.5 < level(&uniform, 1e-3).unwrap().estimate);
    }

    #[test]
    fn fewer_maxima_make_more_cautious() {
        let tail = Tail { location: 0.0, scale: 1.0, shape: 0.0 };
        let margin = |n| {
            let it = level(&sample(tail, n), 1e-3).unwrap();
            it.cautious - it.estimate
        };
        assert!(1.4 * margin(80) < margin(20), "{} {}", margin(20), margin(80));
        assert_eq!(level(&[1.0, 2.0], 0.1), None);
        let same = level(&[2.0; 30], 1e-3).unwrap();
        assert!((same.cautious - 2.0).abs() < 1e-6, "{same:?}");
    }
}
