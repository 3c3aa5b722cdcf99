//! Why a picture is labelled as it is: on the `evidence` topic, and as a line of `classify`.

use lookout_core::{AdaptationMode, ClassSet, Distribution, Evidence, Reason, State};
use serde::{Serialize, Serializer};

use super::{Moment, Number, Origin, VERSION, class, label_of, reason_name, state_name};
use crate::PublishError;

/// The evidence for one picture.
#[derive(Clone, Debug, Serialize)]
pub struct EvidencePayload<'a> {
    state: &'static str,
    reason: Option<&'static str>,
    label: Option<Scored<'a>>,
    margin: Number,
    /// Deviations of the cosine above the background, for the class that the margin is of; null where
    /// that is not calibrated.
    sigma: Option<Number>,
    familiarity: Option<Number>,
    scores: Scores<'a>,
    image: Image<'a>,
    captions: Option<Captions<'a>>,
    taught: Option<Lessons<'a>>,
    adaptation: Option<Adaptation<'a>>,
    weights: Shares,
}

/// What frames kept of the stream change, or would change.
#[derive(Clone, Debug, Serialize)]
struct Adaptation<'a> {
    mode: &'static str,
    kept: usize,
    drift: Number,
    /// The camera's state and label, and this frame's scores, if kept frames counted (in the shadow) or
    /// did not (on).
    otherwise: Otherwise<'a>,
}

#[derive(Clone, Debug, Serialize)]
struct Otherwise<'a> {
    state: Option<&'static str>,
    label: Option<Scored<'a>>,
    scores: Scores<'a>,
}

/// A line of `classify`: the evidence for one picture, judged by itself.
#[derive(Clone, Debug, Serialize)]
pub struct PictureLine<'a> {
    v: u32,
    picture: &'a str,
    #[serde(flatten)]
    evidence: EvidencePayload<'a>,
}

/// The payload of the `evidence` topic.
#[derive(Clone, Debug, Serialize)]
pub struct EvidenceMessage<'a> {
    v: u32,
    #[serde(flatten)]
    at: Moment,
    boot_id: &'a str,
    seq: u64,
    camera: &'a str,
    picture: Option<&'a str>,
    #[serde(flatten)]
    evidence: EvidencePayload<'a>,
}

#[derive(Clone, Debug, Serialize)]
struct Scored<'a> {
    id: &'a str,
    name: &'a str,
    score: Number,
}

#[derive(Clone, Debug, Serialize)]
struct Image<'a> {
    confidence: Number,
    /// The cosine of picture and class, for the class that the margin is of.
    cosine: Option<Number>,
    /// How probable it is that the picture and the class the payload is about match, judged by
    /// itself; null for a model that cannot tell.
    r#match: Option<Number>,
    scores: Scores<'a>,
}

#[derive(Clone, Debug, Serialize)]
struct Captions<'a> {
    confidence: Number,
    scores: Scores<'a>,
    retrieved: Vec<Caption<'a>>,
}

#[derive(Clone, Debug, Serialize)]
struct Caption<'a> {
    text: &'a str,
    similarity: Number,
}

/// What was taught of a picture near this one.
#[derive(Clone, Debug, Serialize)]
struct Lessons<'a> {
    confidence: Number,
    /// Its share in the scores; picture and captions have the rest.
    weight: Number,
    scores: Scores<'a>,
    recalled: Vec<Lesson<'a>>,
}

#[derive(Clone, Debug, Serialize)]
struct Lesson<'a> {
    number: u64,
    text: &'a str,
    similarity: Number,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Shares {
    image: Number,
    captions: Number,
}

/// Class ids with their scores, best first; an object in JSON.
#[derive(Clone, Debug)]
struct Scores<'a>(Vec<(&'a str, Number)>);

impl<'a> EvidencePayload<'a> {
    /// `evidence` over `classes`. `state` and `reason` are what was made of it: a verdict on this
    /// picture alone, or the state of a camera. `margin` is the lead, in this picture, of the
    /// state's class, else of the top class; the match is that class's too. `top_n` limits each
    /// list of scores to its best. `otherwise` is [`lookout_core::Decision::otherwise`].
    ///
    /// Fails when the evidence is not over these classes, or holds a number that is not finite.
    pub fn new(
        classes: &'a ClassSet,
        evidence: &'a Evidence,
        state: State,
        reason: Option<Reason>,
        top_n: Option<usize>,
        otherwise: Option<State>,
    ) -> Result<Self, PublishError> {
        let fused = Scores::new(classes, &evidence.fused, top_n)?;
        let subject = match state {
            State::Label(index) | State::None(index) => index,
            State::Unknown | State::Stale => evidence.fused.top().0,
        };
        class(classes, subject)?;
        let label = scored(classes, state, &evidence.fused)?;
        let captions = match &evidence.captions {
            None => None,
            Some(it) => Some(Captions {
                confidence: Number::new("caption confidence", it.confidence())?,
                scores: Scores::new(classes, it, top_n)?,
                retrieved: retrieved(evidence)?,
            }),
        };
        let taught = match &evidence.taught {
            None => None,
            Some(it) => Some(Lessons {
                confidence: Number::new("confidence of lessons", it.distribution.confidence())?,
                weight: Number::new("weight of lessons", it.weight)?,
                scores: Scores::new(classes, &it.distribution, top_n)?,
                recalled: it.recalled.iter().map(lesson).collect::<Result<_, _>>()?,
            }),
        };
        let image_match = evidence.matches.as_deref().map(|matches| {
            let n_classes = classes.classes().len();
            let unknown = PublishError::UnknownClass { index: subject, n_classes };
            Number::new("match probability", *matches.get(subject).ok_or(unknown)?)
        });
        Ok(Self {
            state: state_name(state),
            reason: reason.map(reason_name),
            label,
            margin: Number::new("margin", evidence.fused.lead(subject))?,
            sigma: evidence
                .observation()
                .sigma(subject)
                .map(|it| Number::new("sigma", it))
                .transpose()?,
            familiarity: evidence
                .familiarity
                .map(|it| Number::new("familiarity", it))
                .transpose()?,
            scores: fused,
            image: Image {
                confidence: Number::new("image confidence", evidence.image.confidence())?,
                cosine: evidence
                    .cosines
                    .get(subject)
                    .map(|it| Number::new("cosine", *it))
                    .transpose()?,
                r#match: image_match.transpose()?,
                scores: Scores::new(classes, &evidence.image, top_n)?,
            },
            captions,
            taught,
            adaptation: adaptation(classes, evidence, otherwise, top_n)?,
            weights: Shares {
                image: Number::new("image weight", evidence.weights.image)?,
                captions: Number::new("caption weight", evidence.weights.captions)?,
            },
        })
    }
}

impl<'a> PictureLine<'a> {
    /// The line for the file `picture`.
    pub fn new(picture: &'a str, evidence: EvidencePayload<'a>) -> Self {
        Self { v: VERSION, picture, evidence }
    }
}

impl<'a> EvidenceMessage<'a> {
    /// The message of one decision of `camera`; `picture` is the frame's file, if it has one.
    pub fn new(
        origin: Origin<'a>,
        camera: &'a str,
        picture: Option<&'a str>,
        evidence: EvidencePayload<'a>,
    ) -> Self {
        Self {
            v: VERSION,
            at: Moment::new(origin.at),
            boot_id: origin.boot_id,
            seq: origin.seq,
            camera,
            picture,
            evidence,
        }
    }
}

/// The label of a state with its score in a distribution over the same classes.
fn scored<'a>(
    classes: &'a ClassSet,
    state: State,
    distribution: &Distribution,
) -> Result<Option<Scored<'a>>, PublishError> {
    let (Some(it), State::Label(index)) = (label_of(classes, state)?, state) else {
        return Ok(None);
    };
    let score = Number::new("score", distribution.probabilities()[index])?;
    Ok(Some(Scored { id: it.id.as_str(), name: &it.name, score }))
}

fn adaptation<'a>(
    classes: &'a ClassSet,
    evidence: &Evidence,
    state: Option<State>,
    top_n: Option<usize>,
) -> Result<Option<Adaptation<'a>>, PublishError> {
    let (Some(it), Some(seen)) = (&evidence.adapted, evidence.otherwise()) else {
        return Ok(None);
    };
    let scores = Scores::new(classes, seen.fused, top_n)?;
    let label = match state {
        Some(state) => scored(classes, state, seen.fused)?,
        None => None,
    };
    Ok(Some(Adaptation {
        mode: match it.mode {
            AdaptationMode::Shadow => "shadow",
            AdaptationMode::On => "on",
        },
        kept: it.n_kept,
        drift: Number::new("drift", it.drift)?,
        otherwise: Otherwise { state: state.map(state_name), label, scores },
    }))
}

fn lesson(it: &lookout_core::Recalled) -> Result<Lesson<'_>, PublishError> {
    let similarity = Number::new("lesson similarity", it.similarity)?;
    Ok(Lesson { number: it.number, text: &it.text, similarity })
}

fn retrieved(evidence: &Evidence) -> Result<Vec<Caption<'_>>, PublishError> {
    let caption =
        |it: &'_ lookout_core::Retrieved| Number::new("caption similarity", it.similarity);
    evidence
        .retrieved
        .iter()
        .map(|it| Ok(Caption { text: &it.text, similarity: caption(it)? }))
        .collect()
}

impl<'a> Scores<'a> {
    fn new(
        classes: &'a ClassSet,
        distribution: &Distribution,
        top_n: Option<usize>,
    ) -> Result<Self, PublishError> {
        let n_classes = classes.classes().len();
        if distribution.len() != n_classes {
            let index = distribution.len().saturating_sub(1);
            return Err(PublishError::UnknownClass { index, n_classes });
        }
        let mut scores: Vec<(&str, f64)> = classes
            .classes()
            .iter()
            .map(|it| it.id.as_str())
            .zip(distribution.probabilities().iter().copied())
            .collect();
        scores.sort_by(|a, b| b.1.total_cmp(&a.1));
        scores.truncate(top_n.unwrap_or(n_classes));
        scores
            .into_iter()
            .map(|(id, score)| Ok((id, Number::new("score", score)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Serialize for Scores<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}
