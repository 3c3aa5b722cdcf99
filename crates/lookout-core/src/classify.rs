//! From an image embedding and index candidates to the evidence for each class.

use crate::adaptation::Adaptation;
use crate::pooling::{Pooled, pool};
use crate::taught::taught;
use crate::{
    AdaptationMode, Adapted, Background, Bank, Candidate, Distribution, DistributionError,
    Embedding, Fuser, Means, Observation, Recalled, Retrieved, Selection, Taught, Weighting,
    Weights, choose,
};

/// The factor that turns a cosine into a logit. Dimensionless, [`LogitScale::RULE`].
///
/// CLIP checkpoints store its logarithm under the name `logit_scale`; this is the linear value,
/// about 100 for the released CLIP models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitScale(f64);

impl LogitScale {
    /// What a scale must be, for messages: far around what models are trained to, and where logits
    /// neither vanish nor overflow.
    pub const RULE: &str = "0.001 to 1000000";

    /// `None` unless `scale` is what [`Self::RULE`] says.
    pub fn from_linear(scale: f64) -> Option<Self> {
        (1e-3..=1e6).contains(&scale).then_some(Self(scale))
    }

    /// The linear value.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// What a sigmoid model adds to each logit. Dimensionless, finite; about -10 to -17 for the
/// released SigLIP models, because few of the pairs that they were trained on match.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitBias(f64);

impl LogitBias {
    /// `None` unless `bias` is finite.
    pub fn new(bias: f64) -> Option<Self> {
        bias.is_finite().then_some(Self(bias))
    }

    /// The value.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// The logit scales of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// For image-text cosines.
    pub image: LogitScale,
    /// For text-text cosines, which lie elsewhere.
    pub caption: LogitScale,
    /// What a sigmoid model adds to the image-text logits; `None` where the model was trained
    /// with softmax. See [`Scales::match_probability`].
    pub bias: Option<LogitBias>,
}

impl Scales {
    /// How probable it is that a picture and a text match, for the `cosine` of their embeddings,
    /// within 0 to 1, judged for this pair alone: sigmoid(s cos + b) with `image` as s and `bias`
    /// as b. `None` without a bias.
    ///
    /// Source: Zhai et al., Sigmoid Loss for Language Image Pre-Training (arXiv 2303.15343),
    /// algorithm 1. A sigmoid model learns these pairwise probabilities p_c, which do not sum to
    /// 1 over classes: none may match, or several. Where exactly one of the classes matches,
    /// and they match independently otherwise, class c is it with a probability proportional to
    ///
    /// p_c · Π_{j≠c} (1 − p_j) = p_c / (1 − p_c) · Π_j (1 − p_j),
    ///
    /// so to the odds p_c / (1 − p_c) = exp(s cos_c + b), because the product is the same for
    /// every class. Normalized over the classes, exp(b) cancels, and softmax(s cos) is left: the
    /// distribution of any other model. What the bias alone tells is whether anything matches.
    pub fn match_probability(&self, cosine: f64) -> Option<f64> {
        let logit = self.image.0 * cosine + self.bias?.0;
        // Only the exponential of what is not positive, so nothing overflows.
        let small = (-logit.abs()).exp();
        Some(if logit < 0.0 { small / (1.0 + small) } else { 1.0 / (1.0 + small) })
    }
}

/// Evidence cannot be made of these values.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClassifyError {
    /// Embeddings of different spaces.
    #[error("{what} has {got} dimensions, the class embeddings have {expected}")]
    DimensionMismatch {
        /// Which embedding.
        what: &'static str,
        /// Dimension of the class embeddings.
        expected: usize,
        /// Its dimension.
        got: usize,
    },
    /// The cosines make no distribution.
    #[error(transparent)]
    Distribution(#[from] DistributionError),
}

/// One embedding a class, in class order: at least two, all of one dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassEmbeddings(Vec<Embedding>);

impl ClassEmbeddings {
    /// Takes the embeddings in class order.
    pub fn new(embeddings: Vec<Embedding>) -> Result<Self, ClassifyError> {
        let Some(first) = embeddings.get(1).and(embeddings.first()) else {
            return Err(DistributionError::TooFewClasses { got: embeddings.len() }.into());
        };
        let expected = first.dimension();
        if let Some(other) = embeddings.iter().find(|it| it.dimension() != expected) {
            let (what, got) = ("a class embedding", other.dimension());
            return Err(ClassifyError::DimensionMismatch { what, expected, got });
        }
        Ok(Self(embeddings))
    }

    /// Entries of each embedding.
    pub fn dimension(&self) -> usize {
        self.0[0].dimension()
    }

    /// The embeddings, in class order.
    pub fn as_slice(&self) -> &[Embedding] {
        &self.0
    }

    /// softmax over `scale` times the cosine of `embedding` to each class.
    pub fn distribution(
        &self,
        what: &'static str,
        embedding: &Embedding,
        scale: LogitScale,
    ) -> Result<Distribution, ClassifyError> {
        self.scaled(what, embedding, scale.0)
    }

    pub(crate) fn scaled(
        &self,
        what: &'static str,
        embedding: &Embedding,
        scale: f64,
    ) -> Result<Distribution, ClassifyError> {
        softmax(&self.cosines(what, embedding)?, scale)
    }

    /// The cosine of `embedding` to each class.
    pub(crate) fn cosines(
        &self,
        what: &'static str,
        embedding: &Embedding,
    ) -> Result<Vec<f64>, ClassifyError> {
        let (expected, got) = (self.dimension(), embedding.dimension());
        if expected != got {
            return Err(ClassifyError::DimensionMismatch { what, expected, got });
        }
        Ok(self.0.iter().map(|it| it.cosine(embedding)).collect())
    }
}

fn softmax(cosines: &[f64], scale: f64) -> Result<Distribution, ClassifyError> {
    let logits: Vec<f64> = cosines.iter().map(|it| scale * it).collect();
    Ok(Distribution::softmax(&logits)?)
}

/// From this weight on what was taught passes the gate of the background.
const TAUGHT_GATES: f64 = 0.5;

/// Why a frame is labelled as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// From the picture alone.
    pub image: Distribution,
    /// The cosine of the picture to each class, in class order.
    pub cosines: Vec<f64>,
    /// How far each cosine lies above that class's background, in deviations; `None` for a class whose
    /// background is not known, and for the one that a lesson in reach says it is.
    pub sigmas: Vec<Option<f64>>,
    /// How much of what the picture resembles are labels; see [`Observation::familiarity`].
    pub familiarity: Option<f64>,
    /// How probable it is that the picture and each class match, in class order, each judged by
    /// itself; `None` for a model without logit bias. See [`Scales::match_probability`].
    pub matches: Option<Vec<f64>>,
    /// From the captions retrieved, the mean over them; `None` without captions.
    pub captions: Option<Distribution>,
    /// The captions, best first.
    pub retrieved: Vec<Retrieved>,
    /// The share of picture and captions in what they say together, and in `fused` where nothing was
    /// taught. With [`Weighting::Pooled`] they are shares of exponents, not of probability.
    pub weights: Weights,
    /// From lessons; `None` where none is near.
    pub taught: Option<Taught>,
    /// What earlier frames of the stream make of it; `None` where none are kept.
    pub adapted: Option<Adapted>,
    /// What the decision goes by.
    pub fused: Distribution,
}

impl Evidence {
    /// What the decision would go by if no frames were kept.
    pub fn unadapted(&self) -> &Distribution {
        self.adapted.as_ref().map_or(&self.fused, |it| &it.without)
    }

    /// [`Evidence::observation`] if no frames were kept.
    pub fn unadapted_observation(&self) -> Observation<'_> {
        Observation { fused: self.unadapted(), ..self.observation() }
    }

    /// What the decision would go by in the other mode: with kept frames while they are in the shadow,
    /// without them while they count. `None` where none are kept.
    pub fn otherwise(&self) -> Option<Observation<'_>> {
        let adapted = self.adapted.as_ref()?;
        let fused = match adapted.mode {
            AdaptationMode::Shadow => &adapted.with,
            AdaptationMode::On => &adapted.without,
        };
        Some(Observation { fused, ..self.observation() })
    }

    /// What the decision goes by.
    pub fn observation(&self) -> Observation<'_> {
        let Self { fused, sigmas, familiarity, .. } = self;
        Observation { fused, sigmas, familiarity: *familiarity }
    }
}

/// Makes evidence of the frames of one stream, in order.
#[derive(Clone, Debug)]
pub struct Classifier {
    classes: ClassEmbeddings,
    scales: Scales,
    selection: Selection,
    fusion: Fusion,
    background: Background,
    bank: Option<Bank>,
    adaptation: Option<Adaptation>,
}

/// How captions and picture are put together.
#[derive(Clone, Debug)]
enum Fusion {
    ByConfidence(Fuser),
    /// With the leanings of the bank, one a class.
    Pool(Vec<f64>),
}

impl Classifier {
    /// `n_captions` is K, the captions kept after re-ranking.
    pub fn new(
        classes: ClassEmbeddings,
        scales: Scales,
        weighting: Weighting,
        n_captions: usize,
    ) -> Self {
        Self::choosing(classes, scales, weighting, Selection::best(n_captions))
    }

    /// With another way to choose captions.
    pub fn choosing(
        classes: ClassEmbeddings,
        scales: Scales,
        weighting: Weighting,
        selection: Selection,
    ) -> Self {
        let fusion = match weighting {
            Weighting::Memoryless => Fusion::ByConfidence(Fuser::new(None)),
            Weighting::History(window) => Fusion::ByConfidence(Fuser::new(Some(window))),
            Weighting::Pooled => Fusion::Pool(vec![0.0; classes.0.len()]),
        };
        let background = Background::unknown(classes.as_slice().len());
        Self { classes, scales, selection, fusion, background, bank: None, adaptation: None }
    }

    /// Tells what the captions of the bank have in common: `mean` is the mean of all their embeddings,
    /// not normalized. [`Weighting::Pooled`] heeds it; without, the bank is taken to lean to no class.
    pub fn with_caption_mean(mut self, mean: &[f32]) -> Result<Self, ClassifyError> {
        let (expected, got) = (self.classes.dimension(), mean.len());
        if expected != got {
            let what = "the mean of the captions";
            return Err(ClassifyError::DimensionMismatch { what, expected, got });
        }
        if let Fusion::Pool(leanings) = &mut self.fusion {
            let product = |class: &Embedding| {
                class.as_slice().iter().zip(mean).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            *leanings = self.classes.0.iter().map(product).collect();
        }
        Ok(self)
    }

    /// Keeps some of the frames that were accepted, and lets them have a say; see [`Adaptation`].
    /// `distance` is [`typical_distance`](crate::typical_distance) of the model.
    #[must_use]
    pub fn adapting(mut self, mode: AdaptationMode, distance: f64) -> Self {
        self.adaptation = Some(Adaptation::new(mode, distance, self.classes.0.len()));
        self
    }

    /// With what is known of the scene's background, over the same classes.
    #[must_use]
    pub fn on(mut self, background: Background) -> Self {
        self.set_background(background);
        self
    }

    /// The history of the fusion so far; all zero where it has none.
    pub fn means(&self) -> Means {
        match &self.fusion {
            Fusion::ByConfidence(fuser) => fuser.means(),
            Fusion::Pool(_) => Means::default(),
        }
    }

    /// Goes on from such a history; see [`Fuser::go_on_from`].
    pub fn go_on_from(&mut self, means: Means) {
        if let Fusion::ByConfidence(fuser) = &mut self.fusion {
            fuser.go_on_from(means);
        }
    }

    /// What is known of the scene's background from now on, over the same classes.
    pub fn set_background(&mut self, background: Background) {
        debug_assert_eq!(self.classes.as_slice().len(), background.classes().len());
        self.background = background;
    }

    /// With a bank of everyday words that lie apart from the same classes; without one there is no
    /// familiarity.
    #[must_use]
    pub fn against(mut self, bank: Option<Bank>) -> Self {
        self.bank = bank;
        self
    }

    /// Whether frames are kept.
    pub fn is_adapting(&self) -> bool {
        self.adaptation.is_some()
    }

    /// A frame, of which `evidence` was made, was accepted as class `class` without the say of the
    /// frames kept so far; it may be kept too. Nothing happens where nothing is kept.
    pub fn accepted(&mut self, image: &Embedding, class: usize, evidence: &Evidence) {
        if let Some(adaptation) = &mut self.adaptation {
            adaptation.admit(image, class, evidence.unadapted().confidence());
        }
    }

    /// The evidence for one frame. `candidates` come from the index, in any order; without them
    /// the image alone decides. `recalled` are the lessons in reach of the picture, in any order;
    /// what was taught is no part of the fusion's history.
    pub fn classify(
        &mut self,
        image: &Embedding,
        candidates: Vec<Candidate>,
        recalled: Vec<Recalled>,
    ) -> Result<Evidence, ClassifyError> {
        let cosines = self.classes.cosines("the image embedding", image)?;
        let image_distribution = softmax(&cosines, self.scales.image.0)?;
        let matches = cosines.iter().map(|it| self.scales.match_probability(*it)).collect();
        let expected = self.classes.dimension();
        if let Some(it) = candidates.iter().find(|it| it.embedding.dimension() != expected) {
            let (what, got) = ("a caption embedding", it.embedding.dimension());
            return Err(ClassifyError::DimensionMismatch { what, expected, got });
        }
        let retrieved = choose(image, candidates, self.selection);
        let (captions, (mut fused, weights)) = match &mut self.fusion {
            Fusion::ByConfidence(fuser) => {
                let scale = self.scales.caption;
                let each: Vec<Distribution> = retrieved
                    .iter()
                    .map(|it| {
                        self.classes.distribution("a caption embedding", &it.embedding, scale)
                    })
                    .collect::<Result<_, _>>()?;
                let captions = Distribution::mean(&each);
                let fused = fuser.fuse(&image_distribution, captions.as_ref());
                (captions, fused)
            }
            Fusion::Pool(leanings) => {
                match pool(&self.classes, &self.scales, leanings, &cosines, &retrieved)? {
                    Some(Pooled { captions, fused, weight }) => {
                        let weights = Weights { image: 1.0 - weight, captions: weight };
                        (Some(captions), (fused, weights))
                    }
                    None => {
                        let alone = Weights { image: 1.0, captions: 0.0 };
                        (None, (image_distribution.clone(), alone))
                    }
                }
            }
        };
        let taught = taught(&self.classes, recalled, self.scales.caption)?;
        if let Some(taught) = &taught {
            fused = fused.mix(&taught.distribution, taught.weight);
        }
        // A power of 1/1 would change the last bits.
        let temper = |it: Distribution| match self.background.temperature() {
            temperature if 1.0 < temperature => it.tempered(temperature),
            _ => it,
        };
        let adapted = self.adaptation.as_mut().map(|it| it.adapt(image, &fused, temper));
        let fused = match &adapted {
            Some(it) if it.mode == AdaptationMode::On => it.with.clone(),
            Some(it) => it.without.clone(),
            None => temper(fused),
        };
        let familiarity =
            self.bank.as_ref().map(|it| it.familiarity(image, &cosines, self.scales.image));
        let mut sigmas = self.background.sigmas(&cosines);
        if let Some(it) = taught.as_ref().filter(|it| TAUGHT_GATES <= it.weight) {
            // Where the user has said what it is, the background has no say.
            sigmas[it.distribution.top().0] = None;
        }
        Ok(Evidence {
            image: image_distribution,
            sigmas,
            cosines,
            familiarity,
            matches,
            captions,
            retrieved,
            weights,
            taught,
            adapted,
            fused,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ClassBackground;

    fn scales(scale: f64, bias: Option<f64>) -> Scales {
        let scale = LogitScale::from_linear(scale).unwrap();
        let bias = bias.map(|it| LogitBias::new(it).unwrap());
        Scales { image: scale, caption: scale, bias }
    }

    fn axis(angle: f64) -> Embedding {
        #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
        let values = vec![angle.cos() as f32, angle.sin() as f32];
        Embedding::normalize(values).unwrap()
    }

    fn evidence(bias: Option<f64>, angle: f64) -> Evidence {
        let classes = ClassEmbeddings::new(vec![axis(0.0), axis(1.0), axis(2.5)]).unwrap();
        let mut classifier = Classifier::new(classes, scales(20.0, bias), Weighting::Memoryless, 1);
        classifier.classify(&axis(angle), vec![], vec![]).unwrap()
    }

    #[test]
    fn what_was_taught_passes_the_background() {
        let classes = ClassEmbeddings::new(vec![axis(0.0), axis(1.0), axis(2.5)]).unwrap();
        let known = ClassBackground { mean: 0.5, deviation: 0.1, bound: None };
        let background = Background::new(vec![Some(known); 3], 1.0).unwrap();
        let it = Classifier::new(classes, scales(20.0, None), Weighting::Memoryless, 1);
        let it = it.on(background);
        let sigmas = |reach: f64| {
            let lesson = Recalled {
                number: 1,
                text: String::new(),
                embedding: axis(1.0),
                similarity: 0.99,
                reach,
            };
            it.clone().classify(&axis(0.0), vec![], vec![lesson]).unwrap().sigmas
        };
        assert!(sigmas(0.2).iter().all(Option::is_some), "barely in reach");
        let taught = sigmas(1.0);
        assert!(taught[0].is_some() && taught[1].is_none() && taught[2].is_some(), "{taught:?}");
    }

    #[test]
    fn a_bias_is_a_finite_number() {
        assert_eq!(LogitBias::new(-12.9).map(LogitBias::get), Some(-12.9));
        assert!([f64::NAN, f64::INFINITY].map(LogitBias::new).iter().all(Option::is_none));
    }

    #[test]
    fn a_match_is_the_sigmoid_of_its_logit() {
        // sigmoid(2 ln 3 · 0.5 − ln 9) = 1 / (1 + 3).
        let scales_of = |bias| scales(2.0 * 3f64.ln(), bias);
        let got = scales_of(Some(-9f64.ln())).match_probability(0.5).unwrap();
        assert!((got - 0.25).abs() < 1e-12, "{got}");
        assert_eq!(scales_of(None).match_probability(0.5), None);
        for (bias, expected) in [(-1e300, 0.0), (1e300, 1.0)] {
            let got = scales_of(Some(bias)).match_probability(1.0).unwrap();
            assert!((got - expected).abs() < 1e-12, "{bias}: {got}");
        }
    }

    #[test]
    fn the_bias_changes_matches_and_no_distribution() {
        let (plain, biased) = (evidence(None, 0.2), evidence(Some(-15.0), 0.2));
        assert_eq!(plain.matches, None);
        assert_eq!(Evidence { matches: None, ..biased.clone() }, plain);
        let matches = biased.matches.unwrap();
        let expected =
            [0.2f64, 0.8, 2.3].map(|angle| 1.0 / (1.0 + (15.0 - 20.0 * angle.cos()).exp()));
        assert_eq!(matches.len(), 3);
        for (got, expected) in matches.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-5, "{got}, {expected}");
        }
        // Nothing matches, and the softmax is sure all the same.
        let far = evidence(Some(-15.0), -1.4);
        assert!(0.9 < far.image.top().1 && far.matches.unwrap()[0] < 1e-4);
    }

    proptest! {
        /// The derivation at [`Scales::match_probability`], by enumeration.
        #[test]
        fn given_exactly_one_match_the_softmax_says_which(
            cosines in prop::collection::vec(-1.0..1.0f64, 2..6),
            scale in 0.1..15.0f64,
            bias in -15.0..5.0f64,
        ) {
            let scales = scales(scale, Some(bias));
            let matches: Vec<f64> =
                cosines.iter().map(|it| scales.match_probability(*it).unwrap()).collect();
            let only = |c: usize| -> f64 {
                let other = |j: usize| if j == c { matches[j] } else { 1.0 - matches[j] };
                (0..matches.len()).map(other).product()
            };
            let total: f64 = (0..matches.len()).map(only).sum();
            let softmax = softmax(&cosines, scales.image.0).unwrap();
            for (c, p) in softmax.probabilities().iter().enumerate() {
                prop_assert!((only(c) / total - p).abs() < 1e-9, "{c}: {} {p}", only(c) / total);
            }
        }
    }
}
