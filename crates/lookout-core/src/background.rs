//! What a scene looks like while nothing that is looked for is there, class by class.

use crate::{Bound, ClassEmbeddings, ClassKind, ClassSet, Embedding};

/// The bound where only the model's sample pictures are known. Chosen on the starter and on CLIP;
/// `models/README.md`, section "Decision defaults".
const OF_SAMPLES: Bound = Bound { enter: 1.5, exit: 0.75 };

/// The image's cosine to one class on the background, as calibration found it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassBackground {
    /// Its middle, within −1 to 1.
    pub mean: f64,
    /// How far it strays from there: a standard deviation, greater than 0.
    pub deviation: f64,
    /// From how many deviations on the class is there, and below how many it is not; `None` where
    /// there was too little to tell, and of negatives.
    pub bound: Option<Bound>,
}

/// The backgrounds of the classes of one camera.
#[derive(Clone, Debug, PartialEq)]
pub struct Background {
    classes: Vec<Option<ClassBackground>>,
    temperature: f64,
}

/// A value that no background can have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{what} must be {rule}, got {got}")]
pub struct InvalidBackground {
    /// Which value.
    pub what: String,
    /// Its range.
    pub rule: &'static str,
    /// The value.
    pub got: f64,
}

impl Background {
    /// Fewest sample pictures that stand for any scene.
    pub const MIN_PICTURES: usize = 8;
    /// The greatest temperature: scores over ten classes are then all but equal.
    pub const MAX_TEMPERATURE: f64 = 100.0;

    /// Takes what is known of each class, in class order, and the temperature of the scores; see
    /// [`Background::temperature`].
    pub fn new(
        classes: Vec<Option<ClassBackground>>,
        temperature: f64,
    ) -> Result<Self, InvalidBackground> {
        let fail = |what: String, rule, got| Err(InvalidBackground { what, rule, got });
        for (idx, class) in classes.iter().enumerate() {
            let Some(ClassBackground { mean, deviation, bound }) = class else { continue };
            if !(-1.0..=1.0).contains(mean) {
                return fail(format!("mean of class {idx}"), "-1 to 1", *mean);
            }
            if !(1e-9..=1.0).contains(deviation) {
                return fail(format!("deviation of class {idx}"), "1e-9 to 1", *deviation);
            }
            let Some(Bound { enter, exit }) = bound else { continue };
            if !enter.is_finite() {
                return fail(format!("bound of class {idx}"), "finite", *enter);
            }
            if !(exit.is_finite() && exit <= enter) {
                return fail(format!("lower bound of class {idx}"), "at most the bound", *exit);
            }
        }
        if !(1.0..=Self::MAX_TEMPERATURE).contains(&temperature) {
            return fail("temperature".to_owned(), "1 to 100", temperature);
        }
        Ok(Self { classes, temperature })
    }

    /// Nothing is known of `n_classes` classes.
    pub fn unknown(n_classes: usize) -> Self {
        Self { classes: vec![None; n_classes], temperature: 1.0 }
    }

    /// What can be said of a scene that nobody has looked at yet: the cosines of `pictures`, the model's
    /// samples of different scenes, to all of the classes. Their median and standard deviation, over
    /// all together, stand for every class: a softmax knows only the classes it is given, and what tells
    /// a picture of something else is that it is near to none. Of classes taken by themselves the
    /// samples are too few. `None` for fewer than [`Background::MIN_PICTURES`].
    pub fn of_samples(classes: &ClassEmbeddings, pictures: &[Embedding]) -> Option<Self> {
        if pictures.len() < Self::MIN_PICTURES {
            return None;
        }
        let cosine = |class: &Embedding| pictures.iter().map(|it| it.cosine(class)).collect();
        let mut cosines: Vec<f64> =
            classes.as_slice().iter().flat_map::<Vec<f64>, _>(cosine).collect();
        cosines.sort_unstable_by(f64::total_cmp);
        let middle = cosines[cosines.len() / 2];
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let n = cosines.len() as f64;
        let mean = cosines.iter().sum::<f64>() / n;
        let deviation = (cosines.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / n).sqrt();
        let class = ClassBackground { mean: middle, deviation, bound: Some(OF_SAMPLES) };
        Self::new(vec![Some(class); classes.as_slice().len()], 1.0).ok()
    }

    /// This, and what `other` says of the classes that this knows nothing of, and of the labels that it
    /// has no bound for: those would be accepted without any. All are over the same classes; the
    /// temperature is this one's.
    #[must_use]
    pub fn or(mut self, other: &Self, classes: &ClassSet) -> Self {
        debug_assert_eq!(self.classes.len(), other.classes.len());
        let known = self.classes.iter_mut().zip(&other.classes).zip(classes.classes());
        for ((class, other), of) in known {
            let is_enough =
                |it: &ClassBackground| it.bound.is_some() || of.kind == ClassKind::Negative;
            *class = class.filter(is_enough).or(*other);
        }
        self
    }

    /// What is known of each class, in class order.
    pub fn classes(&self) -> &[Option<ClassBackground>] {
        &self.classes
    }

    /// T, within 1 to [`Self::MAX_TEMPERATURE`]: the fused scores are taken to the power 1/T and
    /// normalized again before anything is decided. 1 leaves them as they are.
    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    /// How far each of `cosines`, in class order, lies above its background, in deviations.
    pub fn sigmas(&self, cosines: &[f64]) -> Vec<Option<f64>> {
        let sigma = |(class, cosine): (&Option<ClassBackground>, &f64)| {
            class.map(|it| (cosine - it.mean) / it.deviation)
        };
        self.classes.iter().zip(cosines).map(sigma).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, Id};

    fn axis(angle: f64) -> Embedding {
        #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
        let values = vec![angle.cos() as f32, angle.sin() as f32];
        Embedding::normalize(values).unwrap()
    }

    #[test]
    fn samples_stand_for_any_scene() {
        let classes = ClassEmbeddings::new(vec![axis(0.0), axis(0.5)]).unwrap();
        let pictures: Vec<Embedding> = (0..8).map(|it| axis(1.0 + 0.1 * f64::from(it))).collect();
        let background = Background::of_samples(&classes, &pictures).unwrap();
        let mut cosines: Vec<f64> = (0..8)
            .map(|it| 1.0 + 0.1 * f64::from(it))
            .flat_map(|angle| [angle.cos(), (angle - 0.5).cos()])
            .collect();
        cosines.sort_by(f64::total_cmp);
        let mean = cosines.iter().sum::<f64>() / 16.0;
        let variance = cosines.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / 16.0;
        let sigmas = background.sigmas(&[cosines[8], cosines[8] + 3.0 * variance.sqrt()]);
        for (got, expected) in sigmas.iter().zip([0.0, 3.0]) {
            assert!((got.unwrap() - expected).abs() < 1e-5, "{sigmas:?}");
        }
        assert!(background.classes().iter().all(|it| it.unwrap().bound == Some(OF_SAMPLES)));
        assert_eq!(Background::of_samples(&classes, &pictures[..7]), None);
        let same = ClassEmbeddings::new(vec![axis(0.0), axis(0.0)]).unwrap();
        assert_eq!(Background::of_samples(&same, &vec![axis(1.0); 9]), None);
    }

    #[test]
    fn a_label_without_a_bound_is_bound_by_the_samples() {
        let class = |id: &str, kind| Class {
            id: Id::new(id).unwrap(),
            kind,
            name: id.to_owned(),
            aliases: vec![],
            prompts: vec![],
            enter: None,
        };
        let (label, negative) = (ClassKind::Label, ClassKind::Negative);
        let classes = vec![class("a", label), class("b", label), class("c", negative)];
        let set = ClassSet::new(vec!["{}".to_owned()], classes).unwrap();
        let of = |mean, bound| Some(ClassBackground { mean, deviation: 0.1, bound });
        let bound = Bound { enter: 5.0, exit: 3.0 };
        let scene = vec![of(0.2, Some(bound)), of(0.2, None), of(0.2, None)];
        let samples = Background::new(vec![of(0.1, Some(OF_SAMPLES)); 3], 1.0).unwrap();
        let both = Background::new(scene.clone(), 3.0).unwrap().or(&samples, &set);
        assert_eq!(both.classes(), [scene[0], samples.classes()[1], scene[2]]);
        assert!((both.temperature() - 3.0).abs() < 1e-12);
    }
}
