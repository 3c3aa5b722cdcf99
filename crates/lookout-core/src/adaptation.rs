//! Adaptation without training: a few frames of the stream that were accepted, kept for each class, have
//! a say in later ones. The positive cache of TDA (Karmanov et al., Efficient Test-Time Adaptation of
//! Vision-Language Models, arXiv 2403.18293, section 3.3) with what a camera needs on top: only frames
//! that the decision accepts without the cache are kept, so that it cannot confirm itself; only ones that
//! differ from those it has; a frame's say ends with its age; and what all frames together may add is
//! bounded. TDA's negative cache keeps frames that nothing was sure of, which is just what must not get
//! in here.

use crate::{Distribution, Embedding};

/// Frames kept for a class, as in TDA.
const MAX_KEPT: usize = 3;
/// α, in nats: what a frame that is the same as a kept one gets from it.
const SAY_NATS: f64 = 2.0;
/// β: how fast that falls with the distance 1 − cos, in typical distances of two pictures.
const SHARPNESS: f64 = 5.0;
/// The most that the kept frames of a class add to its logit.
const MAX_SHIFT_NATS: f64 = 2.0;
/// Frames nearer to each other than this are the same view, in typical distances.
const SAME_VIEW: f64 = 0.1;
/// A kept frame is forgotten after so many evaluated ones: some hours, so that it is of today's light.
const MAX_AGE_FRAMES: u64 = 20_000;
/// Frames that [`Adapted::drift`] looks back.
const DRIFT_FRAMES: u64 = 256;

/// What is done with what kept frames say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdaptationMode {
    /// It is told and changes nothing.
    Shadow,
    /// The decision goes by it.
    On,
}

/// What earlier frames of the stream make of this one.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapted {
    /// Whether it counts.
    pub mode: AdaptationMode,
    /// The fused distribution without kept frames.
    pub without: Distribution,
    /// The fused distribution with them.
    pub with: Distribution,
    /// Frames kept, of all classes.
    pub n_kept: usize,
    /// How far the kept frames have moved decisions, 0 to 1: the total variation distance between both
    /// distributions, a mean over the last 256 frames or so.
    pub drift: f64,
}

/// The cosine distance between two pictures of different things, 1 − cos: the mean over the pairs of
/// `pictures`. `None` for fewer than two, and where they are all but the same. Every model has its own.
pub fn typical_distance(pictures: &[Embedding]) -> Option<f64> {
    let pairs = pictures.iter().enumerate();
    let distances: Vec<f64> =
        pairs.flat_map(|(n, a)| pictures[..n].iter().map(|b| 1.0 - a.cosine(b))).collect();
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let mean = distances.iter().sum::<f64>() / distances.len() as f64;
    (1e-4 < mean).then_some(mean)
}

/// The frames kept of one stream.
#[derive(Clone, Debug)]
pub(crate) struct Adaptation {
    mode: AdaptationMode,
    distance: f64,
    classes: Vec<Vec<Kept>>,
    n_frames: u64,
    drift: f64,
}

#[derive(Clone, Debug)]
struct Kept {
    image: Embedding,
    confidence: f64,
    at_frame: u64,
}

impl Adaptation {
    /// Nothing is kept yet. `distance` is greater than 0.
    pub(crate) fn new(mode: AdaptationMode, distance: f64, n_classes: usize) -> Self {
        Self { mode, distance, classes: vec![vec![]; n_classes], n_frames: 0, drift: 0.0 }
    }

    /// Adds min(2, α Σ_i (exp(−β d_i) − exp(−β)) / (1 − exp(−β))) to the logit of each class, over
    /// its kept frames at distances d_i in typical ones; a frame as far as any other picture adds
    /// nothing, where in TDA every class that has frames gains over those that have none. `finish`
    /// is done to both distributions.
    pub(crate) fn adapt(
        &mut self,
        image: &Embedding,
        fused: &Distribution,
        finish: impl Fn(Distribution) -> Distribution,
    ) -> Adapted {
        self.n_frames += 1;
        let n_frames = self.n_frames;
        for kept in &mut self.classes {
            kept.retain(|it| n_frames - it.at_frame <= MAX_AGE_FRAMES);
        }
        let shift = |kept: &Vec<Kept>| {
            let sum: f64 = kept.iter().map(|it| self.affinity(image, &it.image)).sum();
            (SAY_NATS * sum).min(MAX_SHIFT_NATS)
        };
        let shifts: Vec<f64> = self.classes.iter().map(shift).collect();
        let (without, with) = (finish(fused.clone()), finish(fused.shifted(&shifts)));
        #[expect(clippy::cast_precision_loss, reason = "at most 256")]
        let weight = 1.0 / self.n_frames.min(DRIFT_FRAMES) as f64;
        self.drift += weight * (without.total_variation(&with) - self.drift);
        let n_kept = self.classes.iter().map(Vec::len).sum();
        Adapted { mode: self.mode, without, with, n_kept, drift: self.drift }
    }

    /// Keeps a frame of class `class`, if it is another view than those kept or surer than the same one,
    /// and there is room or it is surer than the least sure. `confidence` is that of its distribution.
    pub(crate) fn admit(&mut self, image: &Embedding, class: usize, confidence: f64) {
        let same_view = SAME_VIEW * self.distance;
        let new = Kept { image: image.clone(), confidence, at_frame: self.n_frames };
        let kept = &mut self.classes[class];
        let same = kept.iter().position(|it| 1.0 - it.image.cosine(image) < same_view);
        let least_sure = || {
            let by_confidence =
                |a: &usize, b: &usize| kept[*a].confidence.total_cmp(&kept[*b].confidence);
            (0..kept.len()).min_by(by_confidence)
        };
        let rival = same.or_else(|| least_sure().filter(|_| MAX_KEPT <= kept.len()));
        match rival {
            None => kept.push(new),
            Some(idx) if kept[idx].confidence < confidence => kept[idx] = new,
            Some(_) => {}
        }
    }

    /// 1 for the same picture, 0 at the typical distance and beyond.
    fn affinity(&self, a: &Embedding, b: &Embedding) -> f64 {
        let distance = (1.0 - a.cosine(b)).max(0.0) / self.distance;
        let far = (-SHARPNESS).exp();
        (((-SHARPNESS * distance).exp() - far) / (1.0 - far)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn axis(angle: f64) -> Embedding {
        #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
        let values = vec![angle.cos() as f32, angle.sin() as f32];
        Embedding::normalize(values).unwrap()
    }

    fn even() -> Distribution {
        Distribution::softmax(&[0.0, 0.0]).unwrap()
    }

    fn adapt(it: &mut Adaptation, angle: f64) -> Adapted {
        it.adapt(&axis(angle), &even(), |it| it)
    }

    #[test]
    fn a_distance_is_the_mean_over_pairs() {
        let pictures = [0.0, 0.5, 1.2].map(axis);
        let expected = 1.0 - [0.5f64, 1.2, 0.7].map(f64::cos).iter().sum::<f64>() / 3.0;
        assert!((typical_distance(&pictures).unwrap() - expected).abs() < 1e-6);
        assert_eq!(typical_distance(&pictures[..1]), None);
        assert_eq!(typical_distance(&[axis(0.1), axis(0.1)]), None);
    }

    #[test]
    fn a_kept_frame_speaks_for_its_class_near_by() {
        let mut it = Adaptation::new(AdaptationMode::Shadow, 0.5, 2);
        assert_eq!(adapt(&mut it, 0.0).with, even(), "nothing is kept");
        it.admit(&axis(0.0), 1, 0.9);
        let adapted = adapt(&mut it, 0.0);
        // Two nats: e² / (1 + e²).
        assert!((adapted.with.probabilities()[1] - 0.880_797_078).abs() < 1e-6);
        assert_eq!((adapted.without, adapted.n_kept), (even(), 1));
        assert!((adapted.drift - 0.190_398_539).abs() < 1e-6, "half of the last two frames");
        // cos = 0.5 is the typical distance.
        assert!(adapt(&mut it, 1.048).with.top().1 < 1e-9);
    }

    #[test]
    fn of_one_view_the_surer_frame_stays_and_of_many_the_surest_three() {
        let mut it = Adaptation::new(AdaptationMode::On, 0.5, 2);
        let kept = |it: &Adaptation| -> Vec<f64> {
            it.classes[0].iter().map(|kept| kept.confidence).collect()
        };
        it.admit(&axis(0.0), 0, 0.5);
        it.admit(&axis(0.01), 0, 0.4);
        assert_eq!(kept(&it), [0.5]);
        it.admit(&axis(0.01), 0, 0.6);
        assert_eq!(kept(&it), [0.6]);
        for (angle, confidence) in [(1.0, 0.7), (2.0, 0.65), (3.0, 0.5), (4.0, 0.8)] {
            it.admit(&axis(angle), 0, confidence);
        }
        assert_eq!(kept(&it), [0.8, 0.7, 0.65]);
    }

    #[test]
    fn a_kept_frame_is_forgotten_with_age() {
        let mut it = Adaptation::new(AdaptationMode::On, 0.5, 2);
        it.admit(&axis(0.0), 0, 0.5);
        it.n_frames = MAX_AGE_FRAMES - 1;
        assert_eq!(adapt(&mut it, 0.0).n_kept, 1);
        assert_eq!(adapt(&mut it, 0.0).n_kept, 0);
    }

    proptest! {
        #[test]
        fn what_is_kept_and_what_it_moves_are_bounded(
            frames in prop::collection::vec((-3.0..3.0f64, 0usize..2, 0.0..1.0f64), 1..60),
        ) {
            let mut it = Adaptation::new(AdaptationMode::On, 0.4, 2);
            for (angle, class, confidence) in frames {
                let adapted = adapt(&mut it, angle);
                let p = adapted.with.probabilities();
                prop_assert!((p[0].ln() - p[1].ln()).abs() <= MAX_SHIFT_NATS + 1e-9);
                prop_assert!((0.0..=1.0).contains(&adapted.drift) && adapted.n_kept <= 2 * MAX_KEPT);
                it.admit(&axis(angle), class, confidence);
            }
        }
    }
}
