//! The page: one file that needs no other, no script and no network.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lookout_core::{ClassKind, ClassSet, Distribution, Evidence, Outcome, Reason, State};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::strip::{Rows, hue, strip};
use crate::{Figures, Judged, Timeline, TrueChange, Truth};

/// Classes and captions that are shown of a frame's evidence.
const N_SHOWN: usize = 3;
const STYLE: &str = include_str!("page.css");
const GENERATOR: &str = "lookout replay";
/// What tells it stands before the title, which is as long as a file's name.
const BEGINNING: usize = 1024;

/// What the page is about.
#[derive(Debug)]
pub struct Page<'a> {
    /// The recording's name.
    pub recording: &'a str,
    /// The camera's id.
    pub camera: &'a str,
    /// What became of the frames that every run shares.
    pub n_frames: u64,
    /// Of them those that could not be read.
    pub n_unreadable: u64,
    /// Parts of the recording that are no frames.
    pub n_damaged: u64,
    /// Time before and after an announcement in which it may be right.
    pub tolerance: Duration,
    /// At least one.
    pub runs: &'a [RunPage<'a>],
}

/// One way of deciding.
#[derive(Debug)]
pub struct RunPage<'a> {
    /// How it differs from the others.
    pub name: &'a str,
    /// What its indices mean.
    pub classes: &'a ClassSet,
    /// What was shown.
    pub timeline: &'a Timeline,
    /// How often, and how right.
    pub figures: &'a Figures,
    /// What became of the frames.
    pub counts: Counts,
    /// The first of its events, in their order, with the frames that decided.
    pub decided_by: &'a [DecidedBy],
    /// The first of the true changes, in their order: the frame that showed each first, if one is kept.
    pub first_frames: &'a [Option<Seen>],
}

/// What became of a run's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Decided with evidence.
    pub evaluated: u64,
    /// Showed nothing new.
    pub gated: u64,
    /// Came sooner than the camera is asked.
    pub dropped: u64,
}

/// A frame to be shown.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its name in the recording.
    pub name: String,
    /// A small JPEG of it.
    pub jpeg: Option<Vec<u8>>,
}

/// Why a change was announced.
#[derive(Clone, Debug)]
pub struct DecidedBy {
    /// The frame at which it was.
    pub frame: Seen,
    /// The last frame that was evaluated, where that is another.
    pub evaluated: Option<String>,
    /// What each side said of it.
    pub sides: Vec<Side>,
    /// The best captions, with their cosines.
    pub captions: Vec<(String, f64)>,
}

/// What one side says of a frame.
#[derive(Clone, Debug)]
pub struct Side {
    /// Which.
    pub name: &'static str,
    /// Its share; `None`: it is what all together say.
    pub weight: Option<f64>,
    /// Its best classes.
    pub top: Vec<(usize, f64)>,
}

impl DecidedBy {
    /// The parts of `evidence` that are shown. `evaluated` is the name of the frame that it is of.
    pub fn new(frame: Seen, evaluated: &str, evidence: &Evidence) -> Self {
        let rest = evidence.taught.as_ref().map_or(1.0, |it| 1.0 - it.weight);
        let side = |name, it: &Distribution, weight| Side { name, weight, top: top(it) };
        let mut sides = vec![side("together", &evidence.fused, None)];
        sides.push(side("picture", &evidence.image, Some(rest * evidence.weights.image)));
        if let Some(it) = &evidence.captions {
            sides.push(side("captions", it, Some(rest * evidence.weights.captions)));
        }
        if let Some(it) = &evidence.taught {
            sides.push(side("taught", &it.distribution, Some(it.weight)));
        }
        let captions = evidence.retrieved.iter().take(N_SHOWN);
        Self {
            evaluated: (evaluated != frame.name).then(|| evaluated.to_owned()),
            frame,
            sides,
            captions: captions.map(|it| (it.text.clone(), it.similarity)).collect(),
        }
    }
}

fn top(distribution: &Distribution) -> Vec<(usize, f64)> {
    let mut all: Vec<(usize, f64)> =
        distribution.probabilities().iter().copied().enumerate().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(N_SHOWN);
    all
}

impl Page<'_> {
    /// Whether a file that begins with `bytes` was written by [`Page::render`]; 1024 of them suffice.
    pub fn is_one(bytes: &[u8]) -> bool {
        let beginning = String::from_utf8_lossy(&bytes[..bytes.len().min(BEGINNING)]);
        beginning.starts_with("<!DOCTYPE html>")
            && beginning.contains(&format!("<meta name=\"generator\" content=\"{GENERATOR}\">"))
    }

    /// The whole document. All that comes from outside is escaped, and control characters are replaced.
    pub fn render(&self) -> String {
        let title = format!("Replay of {}", clean(self.recording));
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta http-equiv="Content-Security-Policy"
                        content="default-src 'none'; img-src data:; style-src 'unsafe-inline'";
                    meta name="color-scheme" content="light dark";
                    meta name="generator" content=(GENERATOR);
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { (title) }
                    p {
                        "Camera " (self.camera) ", " (frames(self.n_frames))
                        @if 0 < self.n_unreadable { ", " (self.n_unreadable) " of them unreadable" }
                        "."
                        @if 0 < self.n_damaged {
                            " Damaged parts of the recording: " (self.n_damaged) "."
                        }
                    }
                    (self.summary())
                    @for (idx, run) in self.runs.iter().enumerate() { (section(run, idx)) }
                }
            }
        }
        .into_string()
    }

    fn summary(&self) -> Markup {
        let rows = [0; N_FIGURES].iter().enumerate().map(|(idx, _)| idx);
        let all: Vec<[(&str, String); N_FIGURES]> =
            self.runs.iter().map(|it| words(it.figures)).collect();
        html! {
            table.figures {
                caption { "What would have happened" }
                thead {
                    tr { th scope="col" { "" } @for it in self.runs { th scope="col" { (clean(it.name)) } } }
                }
                tbody {
                    @for row in rows {
                        tr {
                            th scope="row" { (all[0][row].0) }
                            @for run in &all { td { (run[row].1) } }
                        }
                    }
                }
            }
            p.note {
                "A false alarm is a label that was announced and was not right at any moment from "
                (self.tolerance.as_secs_f64()) " s before to " (self.tolerance.as_secs_f64())
                " s after. Where no label is right, none and unknown are right."
            }
        }
    }
}

const N_FIGURES: usize = 12;

/// Figures as words, each with its name; those that nobody can know are a dash.
pub fn words(figures: &Figures) -> [(&'static str, String); N_FIGURES] {
    let dash = || "–".to_owned();
    let percent = |it: f64| format!("{:.1} %", it * 100.0);
    let seconds = |it: Duration| format!("{:.1} s", it.as_secs_f64());
    let share = |of: fn(&crate::Shares) -> f64| {
        figures.shares.as_ref().map_or_else(dash, |it| percent(of(it)))
    };
    let judged = figures.judged.as_ref();
    let told = |of: &dyn Fn(&Judged) -> String| judged.map_or_else(dash, of);
    [
        ("changes announced", figures.n_changes.to_string()),
        ("changes an hour", figures.changes_per_hour.map_or_else(dash, |it| format!("{it:.1}"))),
        ("true changes an hour", told(&|it| format!("{:.1}", it.true_changes_per_hour))),
        ("time with a label", share(|it| it.label)),
        ("time with none", share(|it| it.none)),
        ("time unknown", share(|it| it.unknown)),
        ("time stale", share(|it| it.stale)),
        ("time right", told(&|it| percent(it.right))),
        ("time with a wrong label", told(&|it| percent(it.wrong_label))),
        (
            "delay, median and longest",
            told(&|it| match (it.median_delay, it.longest_delay) {
                (Some(median), Some(longest)) => {
                    format!("{}, {}", seconds(median), seconds(longest))
                }
                _ => dash(),
            }),
        ),
        (
            "true changes missed",
            told(&|it| format!("{} of {}", it.n_missed, it.true_changes.len())),
        ),
        (
            "false alarms, and in a day",
            told(&|it| format!("{}, {:.1}", it.false_alarms.len(), it.false_alarms_per_day)),
        ),
    ]
}

fn section(run: &RunPage<'_>, idx: usize) -> Markup {
    let id = format!("r{idx}");
    let judged = run.figures.judged.as_ref();
    let Counts { evaluated, gated, dropped } = run.counts;
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (clean(run.name)) }
            p {
                (frames(evaluated)) " evaluated, " (gated) " that showed nothing new, " (dropped)
                " that came too soon for max_fps."
            }
            (strip(run.timeline, judged, run.classes, &Rows {
                id: &id,
                n_events: run.decided_by.len(),
                n_true_changes: run.first_frames.len(),
            }))
            (legend(run.classes, judged.is_some()))
            (events(run, &id))
            @if let Some(judged) = judged { (true_changes(run, judged, &id)) }
        }
    }
}

fn legend(classes: &ClassSet, has_truth: bool) -> Markup {
    html! {
        p.legend {
            @if has_truth { "Above what was shown, below what was right. " }
            @for (idx, class) in classes.classes().iter().enumerate()
                .filter(|it| it.1.kind == ClassKind::Label) {
                span.key.label style=(hue(idx)) {} (clean(&class.name)) " "
            }
            span.key.none {} "none " span.key.unknown {} "unknown " span.key.stale {} "stale"
            @if has_truth { " " span.key.unsaid {} "nobody said" }
        }
    }
}

fn events(run: &RunPage<'_>, id: &str) -> Markup {
    let events = run.timeline.events();
    let is_false =
        |idx: usize| run.figures.judged.as_ref().is_some_and(|it| it.is_false_alarm(idx));
    html! {
        table {
            caption { "Changes announced" }
            thead {
                tr {
                    @for it in ["Time", "Change", "Frame", "Evidence"] { th scope="col" { (it) } }
                }
            }
            tbody {
                @for (idx, (event, by)) in events.iter().zip(run.decided_by).enumerate() {
                    tr id={ (id) "-e" (idx) } class=[is_false(idx).then_some("wrong")] {
                        td { (clock(event.at)) }
                        td {
                            (outcome_words(event.from, run.classes)) " → "
                            strong { (outcome_words(event.to, run.classes)) }
                            @if let Some(it) = event.score { br; "score " (format!("{it:.2}")) }
                            @if let Some(it) = event.margin { ", lead " (format!("{it:.2}")) }
                            @if let Some(it) = event.sigma { br; (format!("{it:.1}")) " σ above the background" }
                            @if is_false(idx) { br; strong.mark { "false alarm" } }
                        }
                        td { (seen(&by.frame)) }
                        td { (evidence(by, run.classes)) }
                    }
                }
            }
        }
        @if run.decided_by.len() < events.len() {
            p { (events.len() - run.decided_by.len()) " more changes are not listed here." }
        }
    }
}

fn true_changes(run: &RunPage<'_>, judged: &Judged, id: &str) -> Markup {
    let shown = judged.true_changes.iter().zip(run.first_frames);
    html! {
        table {
            caption { "What changed in truth" }
            thead {
                tr { @for it in ["Time", "Change", "Met", "First frame"] { th scope="col" { (it) } } }
            }
            tbody {
                @for (idx, (it, frame)) in shown.enumerate() {
                    tr id={ (id) "-t" (idx) } class=[it.delay.is_none().then_some("wrong")] {
                        td { (clock(it.at)) }
                        td {
                            (truth_words(it.from, run.classes)) " → "
                            strong { (truth_words(it.to, run.classes)) }
                        }
                        td { (met(it)) }
                        td { @if let Some(it) = frame { (seen(it)) } }
                    }
                }
            }
        }
        @if run.first_frames.len() < judged.true_changes.len() {
            p { (judged.true_changes.len() - run.first_frames.len()) " more are not listed here." }
        }
    }
}

fn met(it: &TrueChange) -> Markup {
    html! {
        @match it.delay {
            Some(delay) => { "after " (format!("{:.1}", delay.as_secs_f64())) " s" }
            None => {
                strong.mark { "missed" }
                " in " (format!("{:.1}", it.until.saturating_sub(it.at).as_secs_f64())) " s"
            }
        }
    }
}

fn seen(frame: &Seen) -> Markup {
    let name = clean(&frame.name);
    html! {
        @if let Some(jpeg) = &frame.jpeg {
            img src={ "data:image/jpeg;base64," (BASE64_STANDARD.encode(jpeg)) } alt={ "Frame " (name) };
            br;
        }
        span.name { (name) }
    }
}

fn evidence(by: &DecidedBy, classes: &ClassSet) -> Markup {
    html! {
        @if let Some(it) = &by.evaluated { p { "Nothing new since " (clean(it)) "." } }
        dl {
            @for side in &by.sides {
                dt {
                    (side.name)
                    @if let Some(it) = side.weight { ", weight " (format!("{it:.2}")) }
                }
                dd {
                    @for (n, (class, score)) in side.top.iter().enumerate() {
                        @if 0 < n { ", " }
                        (class_name(*class, classes)) " " (format!("{score:.2}"))
                    }
                }
            }
        }
        @if !by.captions.is_empty() {
            ul { @for (text, similarity) in &by.captions {
                li { (format!("{similarity:.2}")) " " (clean(text)) }
            } }
        }
    }
}

fn class_name(idx: usize, classes: &ClassSet) -> String {
    classes.classes().get(idx).map_or_else(|| "?".to_owned(), |it| clean(&it.name))
}

fn outcome_words(outcome: Outcome, classes: &ClassSet) -> String {
    match outcome {
        Outcome::Class(idx) => match classes.classes().get(idx).map(|it| it.kind) {
            Some(ClassKind::Negative) => format!("none ({})", class_name(idx, classes)),
            _ => class_name(idx, classes),
        },
        Outcome::Unknown => "unknown".to_owned(),
    }
}

/// A state by the names of its classes, without control characters.
pub fn state_words(state: State, classes: &ClassSet) -> String {
    match state {
        State::Label(idx) | State::None(idx) => outcome_words(Outcome::Class(idx), classes),
        State::Unknown => "unknown".to_owned(),
        State::Stale => "stale".to_owned(),
    }
}

/// A truth by the names of its classes, without control characters.
pub fn truth_words(truth: Truth, classes: &ClassSet) -> String {
    match truth {
        Truth::Label(idx) => class_name(idx, classes),
        Truth::NoLabel => "no label".to_owned(),
        Truth::Unsaid => "nobody said".to_owned(),
    }
}

/// H:MM:SS.S, rounded as the text of a replay rounds its seconds.
pub(crate) fn clock(at: Duration) -> String {
    let text = format!("{:.1}", at.as_secs_f64());
    let (seconds, tenth) = text.split_once('.').unwrap_or((&text, "0"));
    // A duration's seconds are a u64.
    let seconds: u64 = seconds.parse().unwrap_or(u64::MAX);
    format!("{}:{:02}:{:02}.{tenth}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn frames(n: u64) -> String {
    format!("{n} frame{}", if n == 1 { "" } else { "s" })
}

/// Without control characters, which HTML cannot hold.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Why something was held back, for people.
pub fn reason_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Gated => "nothing new",
        Reason::LowScore => "score too low",
        Reason::LowMargin => "too close to the next",
        Reason::Background => "not above the background",
        Reason::Dwell => "not long enough yet",
        Reason::Cooldown => "too soon after the last event",
        Reason::Removed => "no label any more",
    }
}
