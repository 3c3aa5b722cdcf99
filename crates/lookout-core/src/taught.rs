//! Taught pairs: what the user said of a picture, and how far it reaches.
//!
//! A *lesson* is a caption with the embeddings of the picture that it was said of, its keys. A
//! picture near a key shows the same scene, so what was said holds for it too. Cosines between
//! pictures lie far above those between pictures and captions, so lessons do not compete in the
//! caption index: they are a third modality, weighted as X-MoRe weights (by confidence), and by
//! how surely the picture is of the scene.

use crate::{ClassEmbeddings, ClassifyError, Distribution, Embedding, LogitScale};

/// Of pairs of different pictures, the share that is nearer than where a lesson begins to count.
const BEYOND_REACH: f64 = 0.005;
/// A lesson is said on purpose, of this scene; a retrieved caption was said of something else. So it
/// is taken to mean its nearest class more surely: its logits are those of a caption times this.
const EMPHASIS: f64 = 2.0;
/// Of lessons in reach the nearer counts more: with the distance to this power.
const SHEPARD_POWER: i32 = 4;
/// Lessons whose cosine distances differ by no more than this were taught of one picture.
const SAME_PICTURE: f64 = 1e-3;
/// Cosine distances below this are rounding.
const LEAST_DISTANCE: f64 = 1e-4;
/// Lessons that are heeded at once; what is farther than so many others has next to no share.
const MAX_RECALLED: usize = 16;

/// How near a picture must be to a lesson's, as cosine of their embeddings, within −1 to 1. It is a
/// property of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    from: f64,
    full: f64,
}

/// A lesson near a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Recalled {
    /// The lesson's number.
    pub number: u64,
    /// What was said.
    pub text: String,
    /// Its embedding.
    pub embedding: Embedding,
    /// Cosine between the picture and the nearest of the lesson's keys.
    pub similarity: f64,
    /// How surely the picture is of the lesson's scene, above 0 and up to 1: [`Reach::weight`].
    pub reach: f64,
}

/// What lessons say of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Taught {
    /// Over the classes.
    pub distribution: Distribution,
    /// Its share in the fused distribution, within 0 to 1; the others share the rest.
    pub weight: f64,
    /// The lessons in reach, nearest first: 1 to 16.
    pub recalled: Vec<Recalled>,
}

impl Reach {
    /// Fewest pictures that say how near different scenes lie.
    pub const MIN_PICTURES: usize = 8;

    /// From the embeddings of pictures of different scenes, any of the model's. A lesson begins to
    /// count where only one of 200 pairs of those is nearer, and counts in full half way from there
    /// to the same picture. `None` for fewer than [`Reach::MIN_PICTURES`], and where the pictures
    /// are all but the same.
    ///
    /// Measured on the starter: `models/README.md`, section "Teaching".
    pub fn beyond(pictures: &[Embedding]) -> Option<Self> {
        if pictures.len() < Self::MIN_PICTURES {
            return None;
        }
        let mut cosines: Vec<f64> = Vec::new();
        for (idx, picture) in pictures.iter().enumerate() {
            cosines.extend(pictures[..idx].iter().map(|it| it.cosine(picture)));
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count far below 2^52"
        )]
        let n_nearer = (cosines.len() as f64 * BEYOND_REACH) as usize;
        cosines.sort_unstable_by(|a, b| b.total_cmp(a));
        let from = cosines[n_nearer];
        (from < 1.0 - 100.0 * LEAST_DISTANCE).then(|| Self { from, full: f64::midpoint(from, 1.0) })
    }

    /// The cosine from which on a lesson counts.
    pub fn from(self) -> f64 {
        self.from
    }

    /// How surely a picture at this cosine is of the lesson's scene: 0 up to where reach begins, 1
    /// from where it is full, and linear between.
    pub fn weight(self, similarity: f64) -> f64 {
        ((similarity - self.from) / (self.full - self.from)).clamp(0.0, 1.0)
    }
}

/// What the lessons in reach of a picture say of it; `None` without any. `caption_scale` is the logit
/// scale of captions.
///
/// Each lesson's distribution is the softmax of its caption's cosines to the classes. Theirs is the
/// mean of those, weighted by distance⁻⁴ (Shepard, 1968), so that of two lessons on one scene, door
/// open and door shut, the one that looks more alike decides. Of lessons on one picture the newer takes
/// back the older as far as it is sure of one of these classes. The weight is the reach of the nearest
/// times the distribution's confidence: a caption that names none of the classes weighs next to
/// nothing.
pub(crate) fn taught(
    classes: &ClassEmbeddings,
    mut recalled: Vec<Recalled>,
    caption_scale: LogitScale,
) -> Result<Option<Taught>, ClassifyError> {
    recalled.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then(b.number.cmp(&a.number)));
    recalled.truncate(MAX_RECALLED);
    let distance = |it: &Recalled| (1.0 - it.similarity).max(LEAST_DISTANCE);
    let Some(first) = recalled.first() else { return Ok(None) };
    let (nearest, reach) = (distance(first), first.reach);
    let said: Vec<Distribution> = recalled
        .iter()
        .map(|it| means(classes, &it.embedding, caption_scale))
        .collect::<Result<_, _>>()?;
    let mut mean: Option<Distribution> = None;
    let mut sum = 0.0;
    for (lesson, it) in recalled.iter().zip(&said) {
        let takes_back = |newer: &Recalled| {
            lesson.number < newer.number
                && (distance(newer) - distance(lesson)).abs() <= SAME_PICTURE
        };
        let newer = recalled.iter().zip(&said).filter(|it| takes_back(it.0));
        let left: f64 = newer.map(|it| 1.0 - it.1.confidence()).product();
        let share = left * (nearest / distance(lesson)).powi(SHEPARD_POWER);
        sum += share;
        if 0.0 < sum {
            mean = Some(mean.map_or(it.clone(), |mean| mean.mix(it, share / sum)));
        }
    }
    let weight = |it: &Distribution| reach * it.confidence();
    Ok(mean.map(|it| Taught { weight: weight(&it), distribution: it, recalled }))
}

/// What a lesson's caption says, over the classes. `caption_scale` is the logit scale of captions.
pub fn means(
    classes: &ClassEmbeddings,
    caption: &Embedding,
    caption_scale: LogitScale,
) -> Result<Distribution, ClassifyError> {
    classes.scaled("a taught caption's embedding", caption, caption_scale.get() * EMPHASIS)
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

    fn classes() -> ClassEmbeddings {
        ClassEmbeddings::new(vec![axis(0.0), axis(1.0), axis(2.0)]).unwrap()
    }

    fn scale() -> LogitScale {
        LogitScale::from_linear(20.0).unwrap()
    }

    fn recalled(number: u64, angle: f64, similarity: f64) -> Recalled {
        let text = number.to_string();
        Recalled { number, text, embedding: axis(angle), similarity, reach: 1.0 }
    }

    #[test]
    fn reach_begins_beyond_different_pictures() {
        let pictures: Vec<Embedding> = (0..8).map(|it| axis(f64::from(it) * 0.3)).collect();
        // The nearest of 28 pairs.
        let reach = Reach::beyond(&pictures).unwrap();
        assert!((reach.from() - 0.3f64.cos()).abs() < 1e-6);
        for (similarity, expected) in [(0.5, 0.0), (reach.from(), 0.0), (1.0, 1.0)] {
            assert!((reach.weight(similarity) - expected).abs() < 1e-12);
        }
        let middle = f64::midpoint(reach.from(), reach.full);
        assert!((reach.weight(middle) - 0.5).abs() < 1e-9);
        assert_eq!(Reach::beyond(&pictures[..7]), None);
        assert_eq!(Reach::beyond(&vec![axis(1.0); 20]), None);
    }

    #[test]
    fn of_406_pairs_two_are_beyond() {
        let mut pictures: Vec<Embedding> = (0..28).map(|it| axis(f64::from(it) * 0.2)).collect();
        // 29 pictures make 406 pairs; two are at 0.01 and 0.19, and the next at 0.2.
        pictures.push(axis(0.01));
        let reach = Reach::beyond(&pictures).unwrap();
        assert!((reach.from() - 0.2f64.cos()).abs() < 1e-6, "{reach:?}");
    }

    #[test]
    fn a_lesson_weighs_as_far_as_it_reaches() {
        assert_eq!(taught(&classes(), vec![], scale()).unwrap(), None);
        let far = Recalled { reach: 0.25, ..recalled(1, 0.0, 0.9) };
        let got = taught(&classes(), vec![far], scale()).unwrap().unwrap();
        assert!((got.weight - 0.25 * got.distribution.confidence()).abs() < 1e-12, "{got:?}");
        assert!(0.99 < got.distribution.confidence());
    }

    #[test]
    fn the_nearer_of_two_lessons_decides() {
        let lessons = vec![recalled(1, 0.0, 0.96), recalled(2, 2.0, 0.98)];
        let got = taught(&classes(), lessons, scale()).unwrap().unwrap();
        // Distances of 0.04 and 0.02: a share of 1 to 16.
        assert!((got.distribution.probabilities()[2] - 16.0 / 17.0).abs() < 1e-3, "{got:?}");
        let numbers: Vec<u64> = got.recalled.iter().map(|it| it.number).collect();
        assert_eq!(numbers, [2, 1]);
        assert!((got.weight - got.distribution.confidence()).abs() < 1e-12);
    }

    #[test]
    fn what_is_taught_anew_of_one_picture_takes_back() {
        let lessons = |last: f64| {
            vec![recalled(1, 0.0, 1.0), recalled(2, 2.0, 0.9995), recalled(3, last, 1.0)]
        };
        let got = taught(&classes(), lessons(1.0), scale()).unwrap().unwrap();
        assert!(0.999 < got.distribution.probabilities()[1], "{got:?}");
        // One that names none of these classes says something else of the picture, and takes nothing back.
        let got = taught(&classes(), lessons(1.5), scale()).unwrap().unwrap();
        assert!(0.5 < got.distribution.probabilities()[2], "{got:?}");
    }

    #[test]
    fn a_caption_that_names_no_class_weighs_little() {
        let between = recalled(1, 0.5, 1.0);
        let got = taught(&classes(), vec![between], scale()).unwrap().unwrap();
        let sure = taught(&classes(), vec![recalled(1, 0.0, 1.0)], scale()).unwrap().unwrap();
        assert!(got.weight < 0.4 && 0.99 < sure.weight, "{got:?} {sure:?}");
    }

    proptest! {
        #[test]
        fn weights_are_shares_and_order_is_irrelevant(
            lessons in prop::collection::vec((0.0..3.0f64, 0.85..1.0f64), 0..20),
        ) {
            let lessons: Vec<Recalled> = (1..).zip(lessons)
                .map(|(number, (angle, similarity))| recalled(number, angle, similarity)).collect();
            let backward = lessons.iter().rev().cloned().collect();
            let a = taught(&classes(), lessons, scale()).unwrap();
            let b = taught(&classes(), backward, scale()).unwrap();
            if let Some(it) = &a {
                prop_assert!((0.0..=1.0).contains(&it.weight));
                let sum: f64 = it.distribution.probabilities().iter().sum();
                prop_assert!((sum - 1.0).abs() < 1e-9);
            }
            prop_assert_eq!(a, b);
        }
    }
}
