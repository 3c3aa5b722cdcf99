//! What a frame says to the decision, and its mean over time.

use crate::Distribution;

/// What the decision goes by, of one frame or of several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation<'a> {
    /// The scores.
    pub fused: &'a Distribution,
    /// How far the image's cosine to each class lies above that class's background, in deviations,
    /// in class order; `None` for a class that is not calibrated. No entry at all: none is.
    pub sigmas: &'a [Option<f64>],
    /// How much of what the picture resembles are labels, against a bank of everyday words: the
    /// NegLabel sum Σ_labels e^{s cos} / (Σ_classes e^{s cos} + Σ_bank e^{s cos}), within 0 to 1.
    /// `None` without a bank. Source: Jiang et al., Negative Label Guided OOD Detection with
    /// Pretrained Vision-Language Models (arXiv 2403.20078), equation 4.
    pub familiarity: Option<f64>,
}

impl<'a> Observation<'a> {
    /// That of class `idx`, where it is calibrated.
    pub fn sigma(&self, idx: usize) -> Option<f64> {
        self.sigmas.get(idx).copied().flatten()
    }
}

/// An [`Observation`] that is kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    fused: Distribution,
    sigmas: Vec<Option<f64>>,
    familiarity: Option<f64>,
}

impl Seen {
    pub(super) fn of(seen: Observation<'_>) -> Self {
        let Observation { fused, sigmas, familiarity } = seen;
        Self { fused: fused.clone(), sigmas: sigmas.to_vec(), familiarity }
    }

    pub(super) fn observation(&self) -> Observation<'_> {
        Observation { fused: &self.fused, sigmas: &self.sigmas, familiarity: self.familiarity }
    }

    /// `(1 − weight) · self + weight · new`. What was not known before counts as new; what is not
    /// known any more is gone.
    pub(super) fn mix(&self, new: Observation<'_>, weight: f64) -> Self {
        let mix = |old: Option<f64>, new: Option<f64>| match (old, new) {
            (Some(old), Some(new)) => Some((1.0 - weight) * old + weight * new),
            (None, new) => new,
            (Some(_), None) => None,
        };
        let old = self.observation();
        let sigmas = new.sigmas.iter().enumerate().map(|(idx, new)| mix(old.sigma(idx), *new));
        Self {
            fused: self.fused.mix(new.fused, weight),
            sigmas: sigmas.collect(),
            familiarity: mix(self.familiarity, new.familiarity),
        }
    }

    /// Over `n_classes` others, of which class `idx` becomes `to[idx]`; see [`Distribution::remap`].
    /// Sigmas go along where `keeps` says so of the old and the new class, and familiarity where the classes are the
    /// same in another order.
    pub(super) fn remap(
        &self,
        to: &[Option<usize>],
        n_classes: usize,
        keeps: impl Fn(usize, usize) -> bool,
    ) -> Self {
        let mut sigmas = vec![None; n_classes];
        for (old, new) in to.iter().enumerate() {
            if let Some(new) = new.filter(|new| keeps(old, *new)) {
                sigmas[new] = self.observation().sigma(old);
            }
        }
        let is_same = to.len() == n_classes && to.iter().all(Option::is_some);
        Self {
            fused: self.fused.remap(to, n_classes),
            sigmas,
            familiarity: self.familiarity.filter(|_| is_same),
        }
    }
}
