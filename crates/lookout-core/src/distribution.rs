//! Probability distributions over the classes, and how sure they are.

/// A probability distribution over the classes, in class order.
///
/// At least two entries, each finite and within 0 to 1, summing to 1 up to rounding.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution(Vec<f64>);

/// No distribution can be made of the values given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DistributionError {
    /// Fewer than two classes.
    #[error("need at least 2 classes, got {got}")]
    TooFewClasses {
        /// Classes given.
        got: usize,
    },
    /// A logit is NaN or infinite.
    #[error("logit {index} is {value}; logits must be finite")]
    NonFiniteLogit {
        /// Position of the first such logit.
        index: usize,
        /// The logit.
        value: f64,
    },
}

impl Distribution {
    /// Softmax over `logits`.
    pub fn softmax(logits: &[f64]) -> Result<Self, DistributionError> {
        if logits.len() < 2 {
            return Err(DistributionError::TooFewClasses { got: logits.len() });
        }
        if let Some((index, &value)) = logits.iter().enumerate().find(|(_, it)| !it.is_finite()) {
            return Err(DistributionError::NonFiniteLogit { index, value });
        }
        // Subtracting the maximum keeps `exp` from overflowing.
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exps: Vec<f64> = logits.iter().map(|it| (it - max).exp()).collect();
        let sum: f64 = exps.iter().sum();
        Ok(Self(exps.into_iter().map(|it| it / sum).collect()))
    }

    /// The mean of distributions over the same classes; `None` when there are none.
    pub fn mean(distributions: &[Self]) -> Option<Self> {
        let mut sum = vec![0.0; distributions.first()?.len()];
        for distribution in distributions {
            for (sum, p) in sum.iter_mut().zip(&distribution.0) {
                *sum += p;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let n = distributions.len() as f64;
        Some(Self(sum.into_iter().map(|it| it / n).collect()))
    }

    /// `(1 − weight) · self + weight · other`; `weight` is within 0 to 1 and both are over the
    /// same classes.
    pub fn mix(&self, other: &Self, weight: f64) -> Self {
        debug_assert_eq!(self.len(), other.len());
        Self(self.0.iter().zip(&other.0).map(|(a, b)| (1.0 - weight) * a + weight * b).collect())
    }

    /// Each probability to the power 1/`temperature`, normalized again: flatter for more than 1. The
    /// temperature is at least 1. For a softmax that is the division of its logits by the temperature
    /// (Guo et al., On Calibration of Modern Neural Networks, arXiv 1706.04599, section 4.2).
    #[must_use]
    pub fn tempered(&self, temperature: f64) -> Self {
        debug_assert!(1.0 <= temperature);
        let powers: Vec<f64> = self.0.iter().map(|it| it.powf(1.0 / temperature)).collect();
        let sum: f64 = powers.iter().sum();
        Self(powers.into_iter().map(|it| it / sum).collect())
    }

    /// The distribution whose logits are these plus `nats`, one a class, each from 0 to a few.
    pub(crate) fn shifted(&self, nats: &[f64]) -> Self {
        let weights: Vec<f64> = self.0.iter().zip(nats).map(|(p, it)| p * it.exp()).collect();
        let sum: f64 = weights.iter().sum();
        Self(weights.into_iter().map(|it| it / sum).collect())
    }

    /// The total variation distance to another one over the same classes, within 0 to 1.
    pub(crate) fn total_variation(&self, other: &Self) -> f64 {
        self.0.iter().zip(&other.0).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
    }

    /// The distribution over `n_classes` others, at least two: class `idx` becomes `to[idx]`, each
    /// another one. The mass of classes that become none is spread evenly, as nothing is known of
    /// it; a class that none becomes has only its share of that.
    pub(crate) fn remap(&self, to: &[Option<usize>], n_classes: usize) -> Self {
        debug_assert!(to.len() == self.len() && 2 <= n_classes);
        let lost: f64 = self.0.iter().zip(to).filter(|it| it.1.is_none()).map(|it| it.0).sum();
        #[expect(clippy::cast_precision_loss, reason = "class counts are far below 2^52")]
        let mut mapped = vec![lost / n_classes as f64; n_classes];
        for (p, to) in self.0.iter().zip(to) {
            if let Some(to) = to {
                mapped[*to] += p;
            }
        }
        Self(mapped)
    }

    /// The probabilities, in class order.
    pub fn probabilities(&self) -> &[f64] {
        &self.0
    }

    /// The number of classes, at least 2.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Modality confidence, `1 − H(p) / ln C` with the entropy H in nats and C classes
    /// (X-MoRe, section 3.3): 0 for a uniform distribution, 1 when all mass is on one class.
    pub fn confidence(&self) -> f64 {
        let entropy_nats: f64 = self.0.iter().filter(|&&p| 0.0 < p).map(|&p| -p * p.ln()).sum();
        #[expect(clippy::cast_precision_loss, reason = "class counts are far below 2^52")]
        let max_entropy_nats = (self.0.len() as f64).ln();
        (1.0 - entropy_nats / max_entropy_nats).clamp(0.0, 1.0)
    }

    /// The most probable class and its lead over the next one. Of equals the first is taken.
    pub fn top(&self) -> (usize, f64) {
        let mut top = 0;
        for (idx, &p) in self.0.iter().enumerate() {
            if self.0[top] < p {
                top = idx;
            }
        }
        (top, self.lead(top))
    }

    /// The probability of class `idx` less the greatest of the others; negative when another is
    /// ahead.
    pub fn lead(&self, idx: usize) -> f64 {
        let others = self.0.iter().enumerate().filter(|(other, _)| *other != idx);
        self.0[idx] - others.map(|(_, &p)| p).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lost_mass_is_spread_and_a_new_order_is_exact() {
        let it = Distribution(vec![0.5, 0.3, 0.2]);
        assert_eq!(it.remap(&[Some(2), Some(0), Some(1)], 3).0, [0.3, 0.2, 0.5]);
        let mapped = it.remap(&[None, Some(3), Some(0)], 5);
        for (got, expected) in mapped.0.iter().zip([0.3, 0.1, 0.1, 0.4, 0.1]) {
            assert!((got - expected).abs() < 1e-12, "{mapped:?}");
        }
    }

    #[test]
    fn refuses_bad_logits() {
        assert_eq!(Distribution::softmax(&[1.0]), Err(DistributionError::TooFewClasses { got: 1 }));
        assert!(matches!(
            Distribution::softmax(&[1.0, f64::INFINITY]),
            Err(DistributionError::NonFiniteLogit { index: 1, .. })
        ));
        assert_eq!(Distribution::mean(&[]), None);
    }

    #[test]
    fn confidence_runs_from_uniform_to_certain() {
        assert!(Distribution::softmax(&[0.0; 7]).unwrap().confidence() < 1e-12);
        let certain = Distribution::softmax(&[1000.0, 0.0, 0.0]).unwrap();
        assert!((certain.confidence() - 1.0).abs() < 1e-12);
        // p = (3/4, 1/4): H = ln 4 − 3/4 ln 3, so 1 − H / ln 2 = 3/4 log2 3 − 1.
        let skewed = Distribution::softmax(&[3f64.ln(), 0.0]).unwrap();
        assert!((skewed.confidence() - (0.75 * 3f64.log2() - 1.0)).abs() < 1e-12);
    }

    #[test]
    fn top_names_the_lead() {
        let p = Distribution::softmax(&[2f64.ln(), 5f64.ln(), 3f64.ln()]).unwrap();
        assert_eq!(p.top().0, 1);
        assert!((p.top().1 - 0.2).abs() < 1e-12 && (p.lead(0) + 0.3).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn softmax_is_a_distribution_and_ignores_a_shift(
            logits in prop::collection::vec(-1e4f64..1e4, 2..50),
            shift in -1e4f64..1e4,
        ) {
            let p = Distribution::softmax(&logits).unwrap();
            let shifted: Vec<f64> = logits.iter().map(|it| it + shift).collect();
            let q = Distribution::softmax(&shifted).unwrap();
            prop_assert!((p.probabilities().iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!((0.0..=1.0).contains(&p.confidence()));
            for (a, b) in p.probabilities().iter().zip(q.probabilities()) {
                prop_assert!((0.0..=1.0).contains(a) && (a - b).abs() < 1e-8);
            }
        }
    }
}
