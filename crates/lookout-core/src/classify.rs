//! From an image embedding and index candidates to the evidence for each class.

use crate::{
    Candidate, Distribution, DistributionError, Embedding, Fuser, Retrieved, Weighting, Weights,
    rerank,
};

/// The factor that turns a cosine into a logit. Dimensionless, finite, greater than 0.
///
/// CLIP checkpoints store its logarithm under the name `logit_scale`; this is the linear value,
/// about 100 for the released CLIP models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitScale(f64);

impl LogitScale {
    /// `None` unless `scale` is finite and greater than 0.
    pub fn from_linear(scale: f64) -> Option<Self> {
        (scale.is_finite() && 0.0 < scale).then_some(Self(scale))
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

    /// softmax over `scale` times the cosine of `embedding` to each class.
    pub fn distribution(
        &self,
        what: &'static str,
        embedding: &Embedding,
        scale: LogitScale,
    ) -> Result<Distribution, ClassifyError> {
        let (expected, got) = (self.dimension(), embedding.dimension());
        if expected != got {
            return Err(ClassifyError::DimensionMismatch { what, expected, got });
        }
        let logits: Vec<f64> = self.0.iter().map(|it| scale.0 * it.cosine(embedding)).collect();
        Ok(Distribution::softmax(&logits)?)
    }
}

/// Why a frame is labelled as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// From the picture alone.
    pub image: Distribution,
    /// From the captions retrieved, the mean over them; `None` without captions.
    pub captions: Option<Distribution>,
    /// The captions, best first.
    pub retrieved: Vec<Retrieved>,
    /// The share of each modality in `fused`.
    pub weights: Weights,
    /// What the decision goes by.
    pub fused: Distribution,
}

/// Makes evidence of the frames of one stream, in order.
#[derive(Clone, Debug)]
pub struct Classifier {
    classes: ClassEmbeddings,
    scales: Scales,
    n_captions: usize,
    fuser: Fuser,
}

impl Classifier {
    /// `n_captions` is K, the captions kept after re-ranking.
    pub fn new(
        classes: ClassEmbeddings,
        scales: Scales,
        weighting: Weighting,
        n_captions: usize,
    ) -> Self {
        Self { classes, scales, n_captions, fuser: Fuser::new(weighting) }
    }

    /// The evidence for one frame. `candidates` come from the index, in any order; without them
    /// the image alone decides.
    pub fn classify(
        &mut self,
        image: &Embedding,
        candidates: Vec<Candidate>,
    ) -> Result<Evidence, ClassifyError> {
        let image_distribution =
            self.classes.distribution("the image embedding", image, self.scales.image)?;
        let expected = self.classes.dimension();
        if let Some(it) = candidates.iter().find(|it| it.embedding.dimension() != expected) {
            let (what, got) = ("a caption embedding", it.embedding.dimension());
            return Err(ClassifyError::DimensionMismatch { what, expected, got });
        }
        let retrieved = rerank(image, candidates, self.n_captions);
        let each: Vec<Distribution> = retrieved
            .iter()
            .map(|it| {
                let scale = self.scales.caption;
                self.classes.distribution("a caption embedding", &it.embedding, scale)
            })
            .collect::<Result<_, _>>()?;
        let captions = Distribution::mean(&each);
        let (fused, weights) = self.fuser.fuse(&image_distribution, captions.as_ref());
        Ok(Evidence { image: image_distribution, captions, retrieved, weights, fused })
    }
}
