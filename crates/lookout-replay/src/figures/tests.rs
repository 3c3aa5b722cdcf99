//! Figures of worked examples, and against a walk over every second.

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
    for (got, expected) in
        [(shares.label, 0.71), (shares.none, 0.13), (shares.unknown, 0.15), (shares.stale, 0.01)]
    {
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
    let late = timeline(&[(0, EMPTY), (10, CAT)], &[(0, NoLabel), (8, Label(0))], 10);
    let delay = Figures::of(&late, s(0)).judged.unwrap().true_changes[0].delay;
    assert_eq!(delay, Some(s(2)), "at the last moment");
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
    for (at, tolerance, expected) in
        [(9, 0, 1), (9, 1, 0), (7, 2, 1), (8, 2, 0), (10, 0, 0), (20, 0, 1), (21, 1, 1), (21, 2, 0)]
    {
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
