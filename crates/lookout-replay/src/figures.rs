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
mod tests {
    use lookout_core::{Change, Snapshot};
    use proptest::prelude::*;

    use super::*;

    const CAT: State = State::Label(0);
    const DOG: State = State::Label(1);
    const EMPTY: State = State::None(2);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn outcome(state: State) -> Outcome {
        match state {
            State::Label(idx) | State::None(idx) => Outcome::Class(idx),
            State::Unknown | State::Stale => Outcome::Unknown,
        }
    }

    /// Every new state but stale is announced.
    fn timeline(states: &[(u64, State)], truths: &[(u64, Truth)], end: u64) -> Timeline {
        let mut timeline = Timeline::default();
        let mut last = Outcome::Unknown;
        let mut merged: Vec<(u64, Option<State>, Option<Truth>)> =
            truths.iter().map(|it| (it.0, None, Some(it.1))).collect();
        merged.extend(states.iter().map(|it| (it.0, Some(it.1), None)));
        merged.sort_by_key(|it| it.0);
        for (at, state, truth) in merged {
            if let Some(truth) = truth {
                timeline.tell(s(at), truth);
            }
            let Some(state) = state else { continue };
            let to = outcome(state);
            let change = (to != last && state != State::Stale).then_some(Change { from: last, to });
            let snapshot = Snapshot {
                state,
                score: Some(0.5),
                margin: None,
                sigma: None,
                reason: None,
                since: s(at),
                last_known: None,
            };
            timeline.decide(s(at), &snapshot, change);
            if change.is_some() {
                last = to;
            }
        }
        timeline.advance(s(end));
        timeline
    }

    #[test]
    fn a_worked_example() {
        use Truth::{Label, NoLabel, Unsaid};
        let timeline = timeline(
            &[(0, State::Stale), (1, EMPTY), (14, CAT), (25, State::Unknown), (40, DOG), (70, CAT)],
            &[
                (0, NoLabel),
                (10, Label(0)),
                (20, NoLabel),
                (50, Label(1)),
                (60, Label(0)),
                (80, Unsaid),
            ],
            100,
        );
        let figures = Figures::of(&timeline, s(2));
        assert_eq!((figures.duration, figures.n_changes), (s(100), 5));
        assert_eq!(figures.changes_per_hour, Some(180.0));
        let shares = figures.shares.unwrap();
        for (got, expected) in [
            (shares.label, 0.71),
            (shares.none, 0.13),
            (shares.unknown, 0.15),
            (shares.stale, 0.01),
        ] {
            assert!((got - expected).abs() < 1e-12, "{shares:?}");
        }
        let judged = figures.judged.unwrap();
        assert_eq!(judged.time, s(80));
        // 1 to 10, 14 to 20, 25 to 40, 50 to 60, 70 to 80.
        assert!((judged.right - 50.0 / 80.0).abs() < 1e-12, "{judged:?}");
        // Cat 20 to 25, dog 40 to 50 and 60 to 70.
        assert!((judged.wrong_label - 25.0 / 80.0).abs() < 1e-12, "{judged:?}");
        let delays: Vec<Option<u64>> =
            judged.true_changes.iter().map(|it| it.delay.map(|it| it.as_secs())).collect();
        assert_eq!(delays, [Some(4), Some(5), Some(0), Some(10)]);
        assert!((judged.true_changes_per_hour - 180.0).abs() < 1e-9);
        assert_eq!(judged.median_delay, Some(Duration::from_millis(4500)));
        assert_eq!(judged.longest_delay, Some(s(10)));
        assert_eq!(judged.n_missed, 0);
        // The dog at 40: nobody for ten seconds.
        assert_eq!(judged.false_alarms, [3]);
        assert!((judged.false_alarms_per_day - 86_400.0 / 80.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_never_met_is_missed_and_what_nobody_said_is_not_judged() {
        use Truth::{Label, NoLabel, Unsaid};
        let states = [(0, CAT)];
        let missed = timeline(&states, &[(0, Label(0)), (5, Label(1)), (8, Label(0))], 10);
        let judged = Figures::of(&missed, s(0)).judged.unwrap();
        assert_eq!((judged.n_missed, judged.true_changes.len()), (1, 2));
        assert_eq!(judged.true_changes[0].until, s(8));
        let gap = timeline(&states, &[(0, Unsaid), (5, Label(1)), (8, Unsaid), (9, NoLabel)], 10);
        let judged = Figures::of(&gap, s(0)).judged.unwrap();
        assert_eq!((judged.time, judged.true_changes.len()), (s(4), 0));
        assert_eq!(judged.false_alarms.len(), 0, "announced when nobody said");
        let unsaid = Figures::of(&timeline(&states, &[], 10), s(0));
        assert_eq!(unsaid.judged, None);
        let empty = Figures::of(&timeline(&states, &[(0, Label(0))], 0), s(0));
        assert_eq!((empty.changes_per_hour, empty.shares, empty.judged), (None, None, None));
        assert_eq!(empty.n_changes, 1);
    }

    #[test]
    fn an_alarm_is_not_false_within_the_tolerance() {
        use Truth::{Label, NoLabel};
        let truths = [(0, NoLabel), (10, Label(0)), (20, NoLabel)];
        let false_alarms = |at: u64, tolerance: u64| {
            let timeline = timeline(&[(0, EMPTY), (at, CAT)], &truths, 100);
            Figures::of(&timeline, s(tolerance)).judged.unwrap().false_alarms.len()
        };
        for (at, tolerance, expected) in [
            (9, 0, 1),
            (9, 1, 0),
            (7, 2, 1),
            (8, 2, 0),
            (10, 0, 0),
            (20, 0, 1),
            (21, 1, 1),
            (21, 2, 0),
        ] {
            assert_eq!(false_alarms(at, tolerance), expected, "{at} {tolerance}");
        }
    }

    fn states() -> impl Strategy<Value = Vec<(u64, State)>> {
        let state = prop::sample::select(vec![CAT, DOG, EMPTY, State::Unknown, State::Stale]);
        prop::collection::btree_map(0..60u64, state, 0..12).prop_map(|it| it.into_iter().collect())
    }

    fn truths() -> impl Strategy<Value = Vec<(u64, Truth)>> {
        use Truth::{Label, NoLabel, Unsaid};
        let truth = prop::sample::select(vec![Label(0), Label(1), NoLabel, Unsaid]);
        prop::collection::btree_map(0..60u64, truth, 0..8).prop_map(|it| it.into_iter().collect())
    }

    fn last<T: Copy>(list: &[(u64, T)], at: u64) -> Option<T> {
        list.iter().rev().find(|it| it.0 <= at).map(|it| it.1)
    }

    proptest! {
        /// Against a walk over every second.
        #[test]
        fn figures_are_those_of_a_walk_second_by_second(
            states in states(),
            truths in truths(),
            tolerance in 0..5u64,
        ) {
            let end = 64u64;
            let timeline = timeline(&states, &truths, end);
            let figures = Figures::of(&timeline, s(tolerance));
            let state = |at: u64| last(&states, at).unwrap_or(State::Stale);
            let truth = |at: u64| last(&truths, at).unwrap_or(Truth::Unsaid);
            let share = |is: &dyn Fn(u64) -> bool| (0..end).filter(|it| is(*it)).count() as f64;
            let shares = figures.shares.unwrap();
            prop_assert!((shares.label - share(&|it| matches!(state(it), State::Label(_))) / 64.0).abs() < 1e-9);
            prop_assert!((shares.label + shares.none + shares.unknown + shares.stale - 1.0).abs() < 1e-9);
            let judged_time = share(&|it| truth(it) != Truth::Unsaid);
            let Some(judged) = figures.judged else {
                prop_assert!(judged_time == 0.0);
                return Ok(());
            };
            prop_assert!((judged.time.as_secs_f64() - judged_time).abs() < 1e-6);
            let right = share(&|it| agrees(state(it), truth(it)));
            prop_assert!((judged.right - right / judged_time).abs() < 1e-9);
            prop_assert!(judged.right + judged.wrong_label <= 1.0 + 1e-9);
            let mut n = 0;
            for at in 1..end {
                let (from, to) = (truth(at - 1), truth(at));
                if from == to || from == Truth::Unsaid || to == Truth::Unsaid {
                    continue;
                }
                let delay = (at..end).take_while(|it| truth(*it) == to).position(|it| agrees(state(it), to));
                let got = judged.true_changes[n];
                prop_assert_eq!((got.at, got.delay), (s(at), delay.map(|it| s(it as u64))));
                n += 1;
            }
            prop_assert_eq!(n, judged.true_changes.len());
            prop_assert_eq!(judged.n_missed, judged.true_changes.iter().filter(|it| it.delay.is_none()).count());
            for (idx, event) in timeline.events().iter().enumerate() {
                let at = event.at.as_secs();
                let near = (at.saturating_sub(tolerance)..=at + tolerance)
                    .any(|it| event.to == match truth(it) {
                        Truth::Label(class) => Outcome::Class(class),
                        Truth::NoLabel | Truth::Unsaid => return false,
                    });
                let is_label = matches!(event.to, Outcome::Class(0 | 1));
                let expected = is_label && !near && truth(at) != Truth::Unsaid;
                prop_assert_eq!(judged.is_false_alarm(idx), expected, "event {}", idx);
            }
        }
    }
}
