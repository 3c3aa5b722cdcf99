//! Figures of a set, as JSON or as a table.

use std::time::Duration;

use cpu_time::ProcessTime;
use lookout_eval::{Half, Paired, Verdict, auroc, calibration_error, share};
use serde::Serialize;

use super::args::{Counts, EvalArgs};
use super::confusions::Confusions;
use super::stream::{Run, Stream};
use super::variants::BASELINE;
use crate::output::{self, count};

/// k of the second accuracy. With so many classes or fewer it says nothing.
const TOP: usize = 5;

#[derive(Serialize)]
pub(super) struct Report {
    v: u32,
    seed: u64,
    sets: Vec<SetReport>,
}

/// A set, and what was made of it.
pub(super) struct About {
    pub(super) set: String,
    pub(super) kind: &'static str,
    pub(super) space: String,
    pub(super) labels: usize,
    pub(super) negatives: usize,
    /// Captions that can be retrieved.
    pub(super) bank: usize,
    /// `None`: captions are not used.
    pub(super) counts: Option<Counts>,
}

/// What all variants share: their CPU times, of all pictures.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) decode: Option<Duration>,
    pub(super) encode: Option<Duration>,
    pub(super) search: Duration,
}

#[derive(Serialize)]
pub(super) struct SetReport {
    set: String,
    kind: &'static str,
    space: String,
    labels: usize,
    negatives: usize,
    bank: usize,
    captions: Option<usize>,
    candidates: Option<usize>,
    pictures: usize,
    scored: usize,
    unknown: usize,
    unreadable: Vec<Unreadable>,
    unmatched: Vec<UnmatchedLabel>,
    cpu_ms: SharedMs,
    parts: Vec<Part>,
}

/// A picture that was left out.
#[derive(Serialize)]
pub(super) struct Unreadable {
    pub(super) file: String,
    pub(super) error: String,
}

/// A label of pictures that is no class.
#[derive(Serialize)]
pub(super) struct UnmatchedLabel {
    pub(super) label: String,
    pub(super) pictures: usize,
}

/// CPU time of one picture, the mean.
#[derive(Serialize)]
struct SharedMs {
    decode: Option<f64>,
    encode: Option<f64>,
    search: f64,
}

#[derive(Serialize)]
struct Part {
    part: &'static str,
    scored: usize,
    known: usize,
    unknown: usize,
    /// Known against unknown by the cosine of the nearest label, whatever the fusion.
    auroc_of_cosine: Option<f64>,
    variants: Vec<Figures>,
    confusions: Option<Confusions>,
}

#[derive(Serialize)]
struct Figures {
    variant: &'static str,
    /// Shares, 0 to 1.
    top1: Option<f64>,
    top5: Option<f64>,
    ece: Option<f64>,
    auroc: Option<f64>,
    /// Of the pictures scored: accepted and right, accepted and wrong; of those that show no class: accepted
    /// as a label.
    accepted_right: Option<f64>,
    accepted_wrong: Option<f64>,
    accepted_unknown: Option<f64>,
    change: Option<Change>,
    /// CPU time of one picture of the whole set, beyond what all share.
    cpu_ms: f64,
}

/// Top-1 less that of the baseline.
#[derive(Serialize)]
struct Change {
    points: f64,
    low: f64,
    high: f64,
    won: usize,
    lost: usize,
    verdict: &'static str,
}

impl Shared {
    /// Times `work` as search.
    pub(super) fn search<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = ProcessTime::now();
        let result = work();
        self.search += start.elapsed();
        result
    }
}

impl SetReport {
    pub(super) fn new(about: About, args: &EvalArgs, stream: &Stream, shared: Shared) -> Self {
        let n = stream.seen.len();
        let cpu_ms = SharedMs {
            decode: shared.decode.map(|it| ms(it, n)),
            encode: shared.encode.map(|it| ms(it, n)),
            search: ms(shared.search, n),
        };
        let parts = match args.is_split() {
            false => vec![Part::of(stream, "all", None, args.seed)],
            true => vec![
                Part::of(stream, "chosen on", Some(Half::Chosen), args.seed),
                Part::of(stream, "reported on", Some(Half::Reported), args.seed),
            ],
        };
        let unknown = stream.seen.iter().filter(|it| it.is_known == Some(false)).count();
        Self {
            set: about.set,
            kind: about.kind,
            space: about.space,
            labels: about.labels,
            negatives: about.negatives,
            bank: about.bank,
            captions: about.counts.map(|it| it.captions),
            candidates: about.counts.map(|it| it.candidates),
            pictures: n - unknown,
            scored: stream.seen.iter().filter(|it| it.is_scored).count(),
            unknown,
            unreadable: Vec::new(),
            unmatched: Vec::new(),
            cpu_ms,
            parts,
        }
    }

    /// Adds what was left out.
    pub(super) fn without(
        self,
        unreadable: Vec<Unreadable>,
        unmatched: Vec<UnmatchedLabel>,
    ) -> Self {
        Self { unreadable, unmatched, ..self }
    }

    fn tell(&self) -> anyhow::Result<()> {
        let mut head = format!(
            "{}: {}, {} scored, {}",
            output::one_line(&self.set),
            count(self.pictures, "picture"),
            self.scored,
            count(self.labels + self.negatives, "class"),
        );
        if 0 < self.negatives {
            head += &format!(" ({})", count(self.negatives, "negative"));
        }
        if 0 < self.unknown {
            let pictures = count(self.unknown, "picture");
            head += &format!(", {pictures} of none of them");
        }
        head += "\n  ";
        head += &match (self.candidates, self.captions) {
            (Some(n), Some(k)) => {
                format!("{}, N {n}, K {k}", count(self.bank, "caption"))
            }
            _ => "no captions".to_owned(),
        };
        head += &format!(", model {}", self.space);
        let SharedMs { decode, encode, search } = self.cpu_ms;
        head += "; a picture in all ways takes ";
        for (what, ms) in [("decode", decode), ("encode", encode)] {
            if let Some(ms) = ms {
                head += &format!("{what} {ms:.2} ms, ");
            }
        }
        head += &format!("search {search:.2} ms");
        output::line(head)?;
        for it in &self.unmatched {
            let label = output::one_line(&it.label);
            let pictures = count(it.pictures, "picture");
            output::line(format!("  no class: {label:?}, of {pictures}"))?;
        }
        if !self.unreadable.is_empty() {
            let pictures = count(self.unreadable.len(), "picture");
            output::line(format!("  left out, unreadable: {pictures}"))?;
        }
        self.parts.iter().try_for_each(Part::tell)
    }
}

impl Part {
    fn of(stream: &Stream, part: &'static str, half: Option<Half>, seed: u64) -> Self {
        let within: Vec<usize> = (0..stream.seen.len())
            .filter(|it| half.is_none_or(|half| stream.seen[*it].half == half))
            .collect();
        let is = |known| {
            let of = within.iter().copied();
            of.filter(|it| stream.seen[*it].is_known == Some(known)).collect::<Vec<_>>()
        };
        let (known, unknown) = (is(true), is(false));
        let scored: Vec<usize> =
            within.iter().copied().filter(|it| stream.seen[*it].is_scored).collect();
        let hits = |run: &Run, k: usize| -> Vec<bool> {
            scored.iter().map(|it| run.answers[*it].rank.is_some_and(|it| it < k)).collect()
        };
        let baseline = stream.runs.iter().find(|it| it.variant.name == BASELINE);
        let baseline = baseline.map(|it| hits(it, 1)).unwrap_or_default();
        let figures =
            |run: &Run| {
                let right = hits(run, 1);
                let answers = scored.iter().map(|it| run.answers[*it].score);
                let answers: Vec<(f64, bool)> = answers.zip(right.iter().copied()).collect();
                let scores = |of: &[usize]| -> Vec<f64> {
                    of.iter().map(|it| run.answers[*it].label_score).collect()
                };
                let is_baseline = run.variant.name == BASELINE;
                let paired = Paired::compare(&baseline, &right, seed).filter(|_| !is_baseline);
                Figures {
                    variant: run.variant.name,
                    top1: share(right.iter().copied()),
                    top5: share(hits(run, TOP)).filter(|_| TOP < stream.set.classes().len()),
                    ece: calibration_error(&answers),
                    auroc: auroc(&scores(&known), &scores(&unknown)),
                    accepted_right: share(
                        scored
                            .iter()
                            .zip(&right)
                            .map(|(it, right)| run.answers[*it].accepted.is_some() && *right),
                    ),
                    accepted_wrong: share(
                        scored
                            .iter()
                            .zip(&right)
                            .map(|(it, right)| run.answers[*it].accepted.is_some() && !*right),
                    ),
                    accepted_unknown: share(unknown.iter().map(|it| {
                        run.answers[*it].accepted.is_some_and(|it| it < stream.n_labels)
                    })),
                    change: paired.as_ref().map(Change::of),
                    cpu_ms: ms(run.cpu, stream.seen.len()),
                }
            };
        let cosines = |of: &[usize]| -> Vec<f64> {
            let run = stream.runs.iter().find(|it| it.variant.name == BASELINE);
            run.map(|run| of.iter().map(|it| run.answers[*it].label_cosine).collect())
                .unwrap_or_default()
        };
        let auroc_of_cosine = auroc(&cosines(&known), &cosines(&unknown));
        let variants = stream.runs.iter().map(figures).collect();
        let confusions = Confusions::of(&stream.runs, &stream.set, &scored);
        let (scored, known, unknown) = (scored.len(), known.len(), unknown.len());
        Self { part, scored, known, unknown, auroc_of_cosine, variants, confusions }
    }

    fn tell(&self) -> anyhow::Result<()> {
        let head = format!("{}, {}", self.part, self.scored);
        output::line(format!(
            "  {head:18}  top-1   top-5     ECE   AUROC   right  wrong  unkn.     ms  change of top-1, 95 % interval"
        ))?;
        for it in &self.variants {
            let percent =
                |it: Option<f64>| it.map_or("-".to_owned(), |it| format!("{:.1}", 100.0 * it));
            let auroc = it.auroc.map_or("-".to_owned(), |it| format!("{it:.3}"));
            let change = it.change.as_ref().map(Change::describe).unwrap_or_default();
            let line = format!(
                "  {:18} {:>6}  {:>6}  {:>6}  {auroc:>6}  {:>6} {:>6} {:>6} {:>6.2}  {change}",
                it.variant,
                percent(it.top1),
                percent(it.top5),
                percent(it.ece),
                percent(it.accepted_right),
                percent(it.accepted_wrong),
                percent(it.accepted_unknown),
                it.cpu_ms,
            );
            output::line(line.trim_end())?;
        }
        if let Some(auroc) = self.auroc_of_cosine {
            output::line(format!("  AUROC by the cosine of the nearest label alone: {auroc:.3}"))?;
        }
        let confusions = self.confusions.iter().flat_map(Confusions::lines);
        confusions.into_iter().try_for_each(|it| output::line(format!("  {it}")))
    }
}

impl Change {
    fn of(it: &Paired) -> Self {
        Self {
            points: it.points,
            low: it.low,
            high: it.high,
            won: it.won,
            lost: it.lost,
            verdict: match it.verdict() {
                Verdict::Better => "better",
                Verdict::Worse => "worse",
                Verdict::NotDistinguishable => "not distinguishable",
                Verdict::TooFew => "too few to tell",
            },
        }
    }

    fn describe(&self) -> String {
        let Self { points, low, high, verdict, won, lost } = self;
        if won + lost == 0 && 0.0 < *high && *high < 100.0 {
            // The interval is of what so few pictures may hide, not of what was seen.
            return format!(
                "{points:+.1}, right on the same pictures; this many could hide up to {high:.1} points"
            );
        }
        format!("{points:+.1}, {low:+.1} to {high:+.1}, {verdict}")
    }
}

impl Report {
    pub(super) fn new(seed: u64, sets: Vec<SetReport>) -> Self {
        Self { v: 1, seed, sets }
    }

    /// Whether every picture was read.
    pub(super) fn is_complete(&self) -> bool {
        self.sets.iter().all(|it| it.unreadable.is_empty())
    }

    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return output::json_line(self);
        }
        for set in &self.sets {
            set.tell()?;
            output::line("")?;
        }
        output::line(
            "top-1, top-5, ECE: per cent (ECE: 15 bins of the top score). AUROC: by the top label's \
             score.\nright, wrong, unkn.: per cent accepted by the decision: of the pictures scored, right and wrong \
             ones; of those that\nshow no class. ms: CPU time of one picture beyond what all ways share. change: in points against \
             image only, paired bootstrap.",
        )
    }
}

/// The mean over `n` in milliseconds.
fn ms(all: Duration, n: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let n = n.max(1) as f64;
    all.as_secs_f64() * 1e3 / n
}
