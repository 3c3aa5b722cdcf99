//! Timeline and truth to figures.
//!
//! A state *agrees* with the truth when it is the label that is right, or, where no label is right, when
//! it is `none` or `unknown`. `stale` agrees with nothing: it says that nobody looked.

use std::time::Duration;

use lookout_core::{Outcome, State};

use crate::{Timeline, Truth};

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

/// Parts of a time, which sum to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// A label was shown.
    pub label: f64,
    /// A negative.
    pub none: f64,
    /// Nothing was accepted.
    pub unknown: f64,
    /// No fresh frame.
    pub stale: f64,
}

/// What happened in a recording. Rates and shares are `None` where no time passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// From the beginning to the last frame.
    pub duration: Duration,
    /// Changes announced.
    pub n_changes: usize,
    /// Of them in an hour.
    pub changes_per_hour: Option<f64>,
    /// How long what was shown.
    pub shares: Option<Shares>,
    /// Against the truth; `None` where nobody said it.
    pub judged: Option<Judged>,
}

/// What was shown against what was right, in the time in which somebody said.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// For how long it was said; greater than 0.
    pub time: Duration,
    /// Share of the time in which the state agreed.
    pub right: f64,
    /// Share in which a label was shown that was not right.
    pub wrong_label: f64,
    /// Each change from one told truth to another.
    pub true_changes: Vec<TrueChange>,
    /// Of them in an hour.
    pub true_changes_per_hour: f64,
    /// Median of the delays of those that were met; between the middle two of an even number.
    pub median_delay: Option<Duration>,
    /// The longest of them.
    pub longest_delay: Option<Duration>,
    /// Those that were never met.
    pub n_missed: usize,
    /// Positions among the events, ascending, of labels that were announced and not right, within the
    /// tolerance.
    pub false_alarms: Vec<usize>,
    /// Of them in a day.
    pub false_alarms_per_day: f64,
}

/// What was right changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrueChange {
    /// When.
    pub at: Duration,
    /// How long the new truth held: until the next one, or the end.
    pub until: Duration,
    /// What was right before; told.
    pub from: Truth,
    /// What is from then on; told.
    pub to: Truth,
    /// Until the state agreed; `None` when it never did while the truth held.
    pub delay: Option<Duration>,
}

impl Figures {
    /// A label that is announced counts as a false alarm unless it is right at some moment from
    /// `tolerance` before to `tolerance` after. Where nobody says what is right at the moment itself, it is
    /// not judged.
    pub fn of(timeline: &Timeline, tolerance: Duration) -> Self {
        let duration = timeline.end();
        let seconds = duration.as_secs_f64();
        let n_changes = timeline.events().len();
        let mut sums = Shares::default();
        for (state, _, span) in stretches(timeline) {
            *match state {
                State::Label(_) => &mut sums.label,
                State::None(_) => &mut sums.none,
                State::Unknown => &mut sums.unknown,
                State::Stale => &mut sums.stale,
            } += span;
        }
        Self {
            duration,
            n_changes,
            changes_per_hour: (!duration.is_zero()).then(|| count(n_changes) / seconds * HOUR),
            shares: (!duration.is_zero()).then(|| Shares {
                label: sums.label / seconds,
                none: sums.none / seconds,
                unknown: sums.unknown / seconds,
                stale: sums.stale / seconds,
            }),
            judged: Judged::of(timeline, tolerance),
        }
    }
}

impl Judged {
    /// Whether the event at this position is a false alarm.
    pub fn is_false_alarm(&self, event: usize) -> bool {
        self.false_alarms.binary_search(&event).is_ok()
    }

    fn of(timeline: &Timeline, tolerance: Duration) -> Option<Self> {
        let (mut time, mut right, mut wrong_label) = (0.0, 0.0, 0.0);
        for (state, truth, span) in stretches(timeline) {
            if truth == Truth::Unsaid {
                continue;
            }
            time += span;
            if agrees(state, truth) {
                right += span;
            } else if matches!(state, State::Label(_)) {
                wrong_label += span;
            }
        }
        if time <= 0.0 {
            return None;
        }
        let true_changes = true_changes(timeline);
        let mut delays: Vec<Duration> = true_changes.iter().filter_map(|it| it.delay).collect();
        delays.sort_unstable();
        let is_false = |at: Duration, to: Outcome| match to {
            Outcome::Class(idx) => is_false_alarm(timeline, at, idx, tolerance),
            Outcome::Unknown => false,
        };
        let events = timeline.events().iter().enumerate();
        let false_alarms: Vec<usize> =
            events.filter(|(_, it)| is_false(it.at, it.to)).map(|(idx, _)| idx).collect();
        Some(Self {
            time: Duration::try_from_secs_f64(time).unwrap_or(Duration::MAX),
            right: right / time,
            wrong_label: wrong_label / time,
            true_changes_per_hour: count(true_changes.len()) / time * HOUR,
            median_delay: median(&delays),
            longest_delay: delays.last().copied(),
            n_missed: true_changes.len() - delays.len(),
            false_alarms_per_day: count(false_alarms.len()) / time * DAY,
            true_changes,
            false_alarms,
        })
    }
}

fn count(n: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let n = n as f64;
    n
}

fn agrees(state: State, truth: Truth) -> bool {
    match (state, truth) {
        (State::Label(shown), Truth::Label(right)) => shown == right,
        (State::None(_) | State::Unknown, Truth::NoLabel) => true,
        _ => false,
    }
}

/// State, truth and seconds of each stretch of time in which neither changes.
fn stretches(timeline: &Timeline) -> Vec<(State, Truth, f64)> {
    let mut borders: Vec<Duration> = timeline.spells().iter().map(|it| it.from).collect();
    borders.extend(timeline.truths().iter().map(|it| it.0));
    borders.extend([Duration::ZERO, timeline.end()]);
    borders.sort_unstable();
    borders.dedup();
    let stretch = |pair: &[Duration]| {
        let span = pair[1].saturating_sub(pair[0]).as_secs_f64();
        (timeline.state_at(pair[0]), timeline.truth_at(pair[0]), span)
    };
    borders.windows(2).map(stretch).collect()
}

fn true_changes(timeline: &Timeline) -> Vec<TrueChange> {
    let truths = timeline.truths();
    let mut changes = Vec::new();
    for (idx, pair) in truths.windows(2).enumerate() {
        let [(_, from), (at, to)] = *pair else { continue };
        if from == Truth::Unsaid || to == Truth::Unsaid {
            continue;
        }
        let until = truths.get(idx + 2).map_or(timeline.end(), |it| it.0);
        let delay = first_agreement(timeline, at, until, to).map(|it| it.saturating_sub(at));
        changes.push(TrueChange { at, until, from, to, delay });
    }
    changes
}

/// The first moment from `at` on, and before `until`, at which the state agrees with `truth`. The last
/// moment of a recording has no length, and counts.
fn first_agreement(
    timeline: &Timeline,
    at: Duration,
    until: Duration,
    truth: Truth,
) -> Option<Duration> {
    if agrees(timeline.state_at(at), truth) {
        return Some(at);
    }
    let spells = timeline.spells();
    let is_end = until == timeline.end();
    spells[spells.partition_point(|it| it.from <= at)..]
        .iter()
        .take_while(|it| it.from < until || (is_end && it.from == until))
        .find(|it| agrees(it.state, truth))
        .map(|it| it.from)
}

fn is_false_alarm(timeline: &Timeline, at: Duration, class: usize, tolerance: Duration) -> bool {
    if timeline.truth_at(at) == Truth::Unsaid {
        return false;
    }
    // A negative is no alarm.
    if !matches!(timeline.state_at(at), State::Label(_)) {
        return false;
    }
    let (first, last) = (at.saturating_sub(tolerance), at.saturating_add(tolerance));
    let right = Truth::Label(class);
    let truths = timeline.truths();
    let near =
        truths.partition_point(|it| it.0 <= first)..truths.partition_point(|it| it.0 <= last);
    timeline.truth_at(first) != right && truths[near].iter().all(|it| it.1 != right)
}

fn median(sorted: &[Duration]) -> Option<Duration> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted[middle - 1] + upper) / 2 })
}

#[cfg(test)]
mod tests;
