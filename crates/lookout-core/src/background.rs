//! What a scene looks like while nothing that is looked for is there, class by class.

use crate::Bound;

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
