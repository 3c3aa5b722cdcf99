//! The page: one file that needs no other, no script and no network.

use std::time::Duration;

use lookout_core::{ClassSet, Distribution, Evidence};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::section::section;
use crate::words::{N_FIGURES, clean, frames, words};
use crate::{Figures, Timeline};

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
            p.note {
                "Score, lead and sigma beside a change are means over time, by which it was decided. The "
                "evidence is what its frame says by itself, and may differ from them."
            }
        }
    }
}
