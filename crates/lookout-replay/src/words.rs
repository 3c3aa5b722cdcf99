//! Figures, states and times as words, for people.

use std::time::Duration;

use lookout_core::{ClassKind, ClassSet, Outcome, Reason, State};

use crate::{Figures, Judged, Shares, Truth};

pub(crate) const N_FIGURES: usize = 12;

/// Figures as words, each with its name; those that nobody can know are a dash.
pub fn words(figures: &Figures) -> [(&'static str, String); N_FIGURES] {
    let dash = || "–".to_owned();
    let percent = |it: f64| format!("{:.1} %", it * 100.0);
    let seconds = |it: Duration| format!("{:.1} s", it.as_secs_f64());
    let share =
        |of: fn(&Shares) -> f64| figures.shares.as_ref().map_or_else(dash, |it| percent(of(it)));
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

pub(crate) fn class_name(idx: usize, classes: &ClassSet) -> String {
    classes.classes().get(idx).map_or_else(|| "?".to_owned(), |it| clean(&it.name))
}

pub(crate) fn outcome_words(outcome: Outcome, classes: &ClassSet) -> String {
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

pub(crate) fn frames(n: u64) -> String {
    format!("{n} frame{}", if n == 1 { "" } else { "s" })
}

/// Without control characters, which HTML cannot hold.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// How far a cosine lies above or below the background, for people; `sigma` in deviations.
pub fn sigma_words(sigma: f64) -> String {
    // What is told as 0.0 is not below.
    let side = if sigma <= -0.05 { "below" } else { "above" };
    format!("{:.1} sigma {side} background", sigma.abs())
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
