//! Pictures one after the other through every variant, and what each said.

use std::time::Duration;

use cpu_time::ProcessTime;
use lookout_core::{
    Candidate, ClassEmbeddings, Classifier, ClassifyError, Embedding, Scales, Weighting,
};
use lookout_eval::{Half, rank};

use super::args::EvalArgs;
use super::variants::{Prompts, Reads, VARIANTS, Variant};

/// What variants are made of.
pub(crate) struct Subject {
    pub(crate) classes: ClassEmbeddings,
    /// Of the bare names, where they are known.
    pub(crate) names: Option<ClassEmbeddings>,
    /// The first so many classes are labels, the others negatives.
    pub(crate) n_labels: usize,
    pub(crate) scales: Scales,
    /// K.
    pub(crate) captions: usize,
    pub(crate) recommended: Option<Weighting>,
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
    /// Of the top class.
    pub(crate) score: f64,
    /// Of the top label.
    pub(crate) label_score: f64,
}

/// A variant at work.
pub(crate) struct Run {
    pub(crate) variant: &'static Variant,
    /// Of each picture seen, in their order.
    pub(crate) answers: Vec<Answer>,
    /// CPU time of them all.
    pub(crate) cpu: Duration,
    classifier: Classifier,
}

/// All variants at work.
pub(crate) struct Stream {
    pub(crate) seen: Vec<Seen>,
    pub(crate) runs: Vec<Run>,
    pub(crate) n_classes: usize,
    n_labels: usize,
    seed: u64,
}

impl Stream {
    /// Starts every variant that `subject` has what it takes for.
    pub(crate) fn new(subject: &Subject, args: &EvalArgs) -> Self {
        let start = |variant: &'static Variant| {
            let classes = match variant.prompts {
                Prompts::Names => subject.names.as_ref()?,
                Prompts::All => &subject.classes,
            };
            let weighting = variant.weighting.weighting(subject.recommended)?;
            let classifier =
                Classifier::new(classes.clone(), subject.scales, weighting, subject.captions);
            Some(Run { variant, answers: Vec::new(), cpu: Duration::ZERO, classifier })
        };
        let runs = VARIANTS.iter().filter_map(start).collect();
        Self {
            seen: Vec::new(),
            runs,
            n_classes: subject.classes.as_slice().len(),
            n_labels: subject.n_labels,
            seed: args.seed,
        }
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
        self.cpu += start.elapsed();
        let distribution = match self.variant.reads {
            Reads::Image => &evidence.image,
            Reads::Captions => evidence.captions.as_ref().unwrap_or(&evidence.image),
            Reads::Fused => &evidence.fused,
        };
        let p = distribution.probabilities();
        let top = |p: &[f64]| p.iter().copied().fold(0.0, f64::max);
        self.answers.push(Answer {
            rank: rank(distribution, right),
            score: top(p),
            label_score: top(&p[..n_labels]),
        });
        Ok(())
    }
}
