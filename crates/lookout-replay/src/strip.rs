//! A timeline as a strip of colors, in SVG. However long it is, it has a bounded number of parts.

use std::ops::Range;
use std::time::Duration;

use lookout_core::{ClassSet, State};
use maud::{Markup, html};

use crate::words::{clean, clock, state_words, truth_words};
use crate::{Judged, Timeline, Truth};

/// Steps that a strip is drawn in; what is shorter than one is not seen.
const WIDTH: usize = 1200;
/// Marks of false alarms and misses that are drawn.
const MAX_MARKS: usize = 500;

/// A colored part: the steps where it begins and ends, and what it shows.
struct Part {
    from: usize,
    to: usize,
    look: Look,
}

/// Something on the timeline: its class in the style sheet, the label's position, its name, and its own
/// times, which no step rounds.
struct Look {
    class: &'static str,
    label: Option<usize>,
    name: String,
    times: Range<Duration>,
}

/// The rows of the tables below, which marks lead to.
pub(crate) struct Rows<'a> {
    /// What their ids begin with.
    pub(crate) id: &'a str,
    /// The first so many events are listed.
    pub(crate) n_events: usize,
    /// The first so many true changes.
    pub(crate) n_true_changes: usize,
}

/// State above truth, and marks where the two part.
pub(crate) fn strip(
    timeline: &Timeline,
    judged: Option<&Judged>,
    classes: &ClassSet,
    rows: &Rows<'_>,
) -> Markup {
    let states = parts(timeline.end(), |at| {
        let (times, state) = timeline.state_around(at);
        let (class, label) = match state {
            State::Label(idx) => ("label", Some(idx)),
            State::None(_) => ("none", None),
            State::Unknown => ("unknown", None),
            State::Stale => ("stale", None),
        };
        Look { class, label, name: state_words(state, classes), times }
    });
    let truths = parts(timeline.end(), |at| {
        let (times, truth) = timeline.truth_around(at);
        let (class, label) = match truth {
            Truth::Label(idx) => ("label", Some(idx)),
            Truth::NoLabel => ("none", None),
            Truth::Unsaid => ("unsaid", None),
        };
        Look { class, label, name: truth_words(truth, classes), times }
    });
    let height = if judged.is_some() { 84 } else { 50 };
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (height) } preserveAspectRatio="none" role="group"
            aria-label="Timeline" {
            (row(&states, 14, "shown"))
            @if let Some(judged) = judged {
                (row(&truths, 54, "right"))
                @for &event in judged.false_alarms.iter().take(MAX_MARKS) {
                    @let at = timeline.events()[event].at;
                    @let row = (event < rows.n_events).then(|| format!("{}-e{event}", rows.id));
                    (mark(column(at, timeline.end()), "false alarm", at, row.as_deref()))
                }
                @for (idx, it) in judged.true_changes.iter().enumerate()
                    .filter(|it| it.1.delay.is_none()).take(MAX_MARKS) {
                    @let row = (idx < rows.n_true_changes).then(|| format!("{}-t{idx}", rows.id));
                    (mark(column(it.at, timeline.end()), "missed", it.at, row.as_deref()))
                }
            }
        }
    }
}

fn row(parts: &[Part], y: usize, what: &str) -> Markup {
    html! {
        @for part in parts {
            @let Look { class, label, name, times } = &part.look;
            rect x=(part.from) y=(y) width=(part.to - part.from) height="28" class=(class)
                style=[label.map(hue)] {
                title { (clean(name)) ", " (what) " " (clock(times.start)) " to " (clock(times.end)) }
            }
        }
    }
}

/// One that leads to its row, where that is listed.
fn mark(x: usize, what: &str, at: Duration, row: Option<&str>) -> Markup {
    let path = html! {
        path class=(if what == "missed" { "missed" } else { "false" })
            d={ "M" (x) " 13l-5 -12h10z" } { title { (what) " at " (clock(at)) } }
    };
    html! {
        @match row {
            Some(row) => a href={ "#" (row) } aria-label={ (what) " at " (clock(at)) } { (path) },
            None => (path),
        }
    }
}

/// The color of a label, by its position.
pub(crate) fn hue(label: usize) -> String {
    // Steps of the golden angle keep neighbours apart.
    format!("--hue:{}", (label * 137 + 210) % 360)
}

fn column(at: Duration, end: Duration) -> usize {
    if end.is_zero() {
        return 0;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of the width"
    )]
    let column = (at.as_secs_f64() / end.as_secs_f64() * WIDTH as f64) as usize;
    column.min(WIDTH)
}

/// Neighbouring steps that look the same become one. A step shows what was in its middle.
fn parts(end: Duration, at: impl Fn(Duration) -> Look) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for from in 0..WIDTH {
        #[expect(clippy::cast_precision_loss, reason = "a pixel")]
        let look = at(end.mul_f64((from as f64 + 0.5) / WIDTH as f64));
        let is_same = |it: &Look| it.name == look.name && it.class == look.class;
        match parts.last_mut().filter(|it| is_same(&it.look)) {
            Some(part) => {
                part.to = from + 1;
                part.look.times.end = look.times.end;
            }
            None => parts.push(Part { from, to: from + 1, look }),
        }
    }
    parts
}
