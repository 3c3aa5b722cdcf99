//! Pictures one after the other through every variant, and what each said.

use std::sync::Arc;
use std::time::Duration;

use cpu_time::ProcessTime;
use lookout_core::{
    AdaptationMode, Background, Candidate, ClassEmbeddings, ClassSet, Classifier, ClassifyError,
    Decider, DecisionRules, Embedding, Observation, Scales,
};
use lookout_eval::{Half, rank};

use super::variants::{Prompts, Reads, VARIANTS, Variant};

/// The classes as texts, and what is known of the background of these texts.
pub(crate) struct Texts {
    pub(crate) classes: ClassEmbeddings,
    pub(crate) background: Background,
}

/// What variants are made of.
pub(crate) struct Subject {
    /// Of all that the label set and its templates say.
    pub(crate) texts: Texts,
    /// Of the bare names, where they are known.
    pub(crate) names: Option<Texts>,
    pub(crate) set: Arc<ClassSet>,
    /// The first so many classes are labels, the others negatives.
    pub(crate) n_labels: usize,
    pub(crate) scales: Scales,
    /// K.
    pub(crate) captions: usize,
    /// The mean of the bank's embeddings, not normalized; `None`: there is no bank, and nothing reads
    /// captions.
    pub(crate) caption_mean: Option<Vec<f32>>,
    /// [`lookout_core::typical_distance`]; `None`: nothing adapts.
    pub(crate) distance: Option<f64>,
    /// By which a picture is accepted.
    pub(crate) rules: DecisionRules,
}

/// What is true of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    /// Positions of the classes that are right, at least one.
    Shows(Vec<usize>),
    /// Nothing is said of it.
    Unsaid,
    /// It shows none of the classes.
    Unknown,
}

/// What is kept of a picture.
pub(crate) struct Seen {
    pub(crate) half: Half,
    /// Whether it counts for accuracy.
    pub(crate) is_scored: bool,
    /// Whether it shows a label, `Some(false)` that it shows none of the classes; otherwise it says nothing
    /// about known and unknown.
    pub(crate) is_known: Option<bool>,
}

/// What a variant said of a picture.
pub(crate) struct Answer {
    /// Classes ahead of the best right one, where there is a right one.
    pub(crate) rank: Option<usize>,
    /// The right one that is best.
    pub(crate) best_right: Option<usize>,
    /// The top class.
    pub(crate) top: usize,
    /// Of the top class.
    pub(crate) score: f64,
    /// Of the top label.
    pub(crate) label_score: f64,
    /// Of the label that lies nearest to the picture.
    pub(crate) label_cosine: f64,
    /// The class that the decision accepts.
    pub(crate) accepted: Option<usize>,
}

/// A variant at work.
pub(crate) struct Run {
    pub(crate) variant: &'static Variant,
    /// Of each picture seen, in their order.
    pub(crate) answers: Vec<Answer>,
    /// CPU time of them all.
    pub(crate) cpu: Duration,
    classifier: Classifier,
    decider: Decider,
}

/// All variants at work.
pub(crate) struct Stream {
    pub(crate) seen: Vec<Seen>,
    pub(crate) runs: Vec<Run>,
    pub(crate) set: Arc<ClassSet>,
    pub(crate) n_labels: usize,
    seed: u64,
}

impl Stream {
    /// Starts every variant that `subject` has what it takes for.
    pub(crate) fn new(subject: &Subject, seed: u64) -> anyhow::Result<Self> {
        let decider = Decider::new(subject.rules, Arc::clone(&subject.set), Duration::ZERO)?;
        let start = |variant: &'static Variant| {
            let Texts { classes, background } = match variant.prompts {
                Prompts::Names => subject.names.as_ref()?,
                Prompts::All => &subject.texts,
            };
            let (scales, k) = (subject.scales, subject.captions);
            let classifier = Classifier::new(classes.clone(), scales, variant.weighting, k)
                .on(background.clone());
            let classifier = match (&subject.caption_mean, variant.reads) {
                (Some(mean), _) => classifier.with_caption_mean(mean),
                (None, Reads::Image) => Ok(classifier),
                (None, Reads::Captions | Reads::Fused) => return None,
            };
            let classifier = match variant.adapts {
                true => {
                    let distance = subject.distance?;
                    classifier.map(|it| it.adapting(AdaptationMode::On, distance))
                }
                false => classifier,
            };
            let (answers, cpu) = (Vec::new(), Duration::ZERO);
            let decider = decider.clone().on(background);
            Some(classifier.map(|classifier| Run { variant, answers, cpu, classifier, decider }))
        };
        let runs = VARIANTS.iter().filter_map(start).collect::<Result<_, _>>()?;
        Ok(Self {
            seen: Vec::new(),
            runs,
            set: Arc::clone(&subject.set),
            n_labels: subject.n_labels,
            seed,
        })
    }

    /// The next picture, with its candidates.
    pub(crate) fn picture(
        &mut self,
        name: &str,
        image: &Embedding,
        candidates: &[Candidate],
        truth: &Truth,
    ) -> Result<(), ClassifyError> {
        let right = match truth {
            Truth::Shows(right) => right.as_slice(),
            Truth::Unsaid | Truth::Unknown => &[],
        };
        for run in &mut self.runs {
            run.picture(image, candidates, right, self.n_labels)?;
        }
        self.seen.push(Seen {
            half: Half::of(self.seed, name),
            is_scored: !right.is_empty(),
            is_known: match truth {
                Truth::Shows(right) => right.iter().any(|it| *it < self.n_labels).then_some(true),
                Truth::Unsaid => None,
                Truth::Unknown => Some(false),
            },
        });
        Ok(())
    }
}

impl Run {
    fn picture(
        &mut self,
        image: &Embedding,
        candidates: &[Candidate],
        right: &[usize],
        n_labels: usize,
    ) -> Result<(), ClassifyError> {
        let candidates = match self.variant.reads {
            Reads::Image => Vec::new(),
            Reads::Captions | Reads::Fused => candidates.to_vec(),
        };
        let start = ProcessTime::now();
        let evidence = self.classifier.classify(image, candidates, Vec::new())?;
        if let Some(class) = self.decider.judge(evidence.unadapted_observation()).accepted {
            self.classifier.accepted(image, class, &evidence);
        }
        self.cpu += start.elapsed();
        let distribution = match self.variant.reads {
            Reads::Image => &evidence.image,
            Reads::Captions => evidence.captions.as_ref().unwrap_or(&evidence.image),
            Reads::Fused => &evidence.fused,
        };
        let p = distribution.probabilities();
        let seen = Observation { fused: distribution, ..evidence.observation() };
        let top = |p: &[f64]| p.iter().copied().fold(0.0, f64::max);
        self.answers.push(Answer {
            rank: rank(distribution, right),
            best_right: right.iter().copied().min_by_key(|it| rank(distribution, &[*it])),
            top: distribution.top().0,
            score: top(p),
            label_score: top(&p[..n_labels]),
            label_cosine: evidence.cosines[..n_labels].iter().copied().fold(-1.0, f64::max),
            accepted: self.decider.judge(seen).accepted,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lookout_core::{
        Bound, Class, ClassBackground, ClassKind, DEFAULT_TEMPLATE, Id, LogitScale,
    };
    use lookout_encoder::DecisionDefaults;

    use super::*;
    use crate::engine;
    use crate::eval::variants::BASELINE;

    #[test]
    fn names_are_judged_by_their_own_background() {
        let at = |x: f32, y: f32| Embedding::normalize(vec![x, y]).unwrap();
        let texts = |mean: f64| {
            let bound = Some(Bound { enter: 2.0, exit: 1.0 });
            let class = Some(ClassBackground { mean, deviation: 0.1, bound });
            Texts {
                classes: ClassEmbeddings::new(vec![at(1.0, 0.0), at(0.0, 1.0)]).unwrap(),
                background: Background::new(vec![class; 2], 1.0).unwrap(),
            }
        };
        let class = |id: &str| Class {
            id: Id::new(id).unwrap(),
            kind: ClassKind::Label,
            name: id.to_owned(),
            aliases: vec![],
            prompts: vec![],
            enter: None,
        };
        let set = ClassSet::new(vec![DEFAULT_TEMPLATE.to_owned()], vec![class("a"), class("b")]);
        let scale = LogitScale::from_linear(100.0).unwrap();
        let subject = Subject {
            // Of the texts any picture is as near as this one; of the names it is not.
            texts: texts(0.9),
            names: Some(texts(0.2)),
            set: Arc::new(set.unwrap()),
            n_labels: 2,
            scales: Scales { image: scale, caption: scale, bias: None },
            captions: 1,
            caption_mean: None,
            distance: None,
            rules: engine::single_picture_rules(DecisionDefaults {
                enter: 0.5,
                margin: 0.2,
                exit: 0.35,
            }),
        };
        let mut stream = Stream::new(&subject, 1).unwrap();
        stream.picture("a.jpg", &at(1.0, 0.1), &[], &Truth::Shows(vec![0])).unwrap();
        let accepted = |variant: &str| {
            let run = stream.runs.iter().find(|it| it.variant.name == variant).unwrap();
            run.answers[0].accepted
        };
        assert_eq!((accepted("names only"), accepted(BASELINE)), (Some(0), None));
        let with_bank = Subject { caption_mean: Some(vec![0.0; 2]), ..subject };
        let n_variants = |it| Stream::new(it, 1).unwrap().runs.len();
        // Without a distance nothing adapts.
        assert_eq!((stream.runs.len(), n_variants(&with_bank)), (2, VARIANTS.len() - 1));
    }
}
