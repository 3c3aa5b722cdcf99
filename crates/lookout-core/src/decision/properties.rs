//! What holds whatever the camera sees.

use proptest::prelude::*;

use super::tests::*;
use super::*;
use crate::{Distribution, Id};

/// What a frame says of cat, dog and empty.
#[derive(Clone, Debug)]
struct Frame {
    fused: Distribution,
    sigmas: Vec<Option<f64>>,
    familiarity: Option<f64>,
}

impl Frame {
    fn seen(&self) -> Observation<'_> {
        let Self { fused, sigmas, familiarity } = self;
        Observation { fused, sigmas, familiarity: *familiarity }
    }

    /// The same over other classes, without what is lost in between.
    fn over(&self, to: &[Option<usize>]) -> Self {
        let seen = Seen::of(self.seen()).remap(to, to.len(), |_, _| true);
        let Observation { fused, sigmas, familiarity } = seen.observation();
        Self { fused: fused.clone(), sigmas: sigmas.to_vec(), familiarity }
    }
}

#[derive(Clone, Debug)]
enum Input {
    Frame(Frame),
    Gated,
    Nothing,
}

fn frame() -> impl Strategy<Value = Frame> {
    let sigmas = prop::collection::vec(prop::option::weighted(0.8, -2.0f64..10.0), 3);
    let familiarity = prop::option::weighted(0.8, 0.0f64..1.0);
    (prop::array::uniform3(0.01f64..1.0), sigmas, familiarity).prop_map(
        |([a, b, c], sigmas, familiarity)| Frame { fused: scores(a, b, c), sigmas, familiarity },
    )
}

fn inputs() -> impl Strategy<Value = Vec<(u64, Input)>> {
    let input = prop_oneof![
        6 => frame().prop_map(Input::Frame),
        2 => Just(Input::Gated),
        1 => Just(Input::Nothing),
    ];
    prop::collection::vec((0u64..12_000, input), 1..120)
}

fn bound(max: f64) -> impl Strategy<Value = Option<Bound>> {
    let bound =
        (0.0..max, 0.0f64..=1.0).prop_map(|(enter, part)| Bound { enter, exit: part * enter });
    prop::option::of(bound)
}

fn rules() -> impl Strategy<Value = DecisionRules> {
    let ms = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    let scores = (0.3f64..0.9, 0.0f64..0.4, 0.0f64..1.0);
    let times = (ms(0..8000), ms(0..4000), ms(0..9000), ms(1..20_000));
    (scores, (bound(8.0), bound(0.8)), times).prop_map(
        |(
            (enter, margin, exit),
            (sigmas, familiarity),
            (smoothing, dwell, cooldown, stale_after),
        )| {
            let exit = exit * enter;
            DecisionRules {
                enter,
                margin,
                exit,
                sigmas,
                familiarity,
                smoothing,
                dwell,
                cooldown,
                stale_after,
            }
        },
    )
}

/// Feeds the inputs and calls `check` after each with the machine, the time, whether a frame came,
/// the snapshot and the change.
fn drive(
    rules: DecisionRules,
    inputs: &[(u64, Input)],
    mut check: impl FnMut(&Decider, Duration, bool, &Snapshot, Option<Change>),
) {
    let mut it = decider(rules);
    let mut now = Duration::ZERO;
    for (elapsed_ms, input) in inputs {
        now += Duration::from_millis(*elapsed_ms);
        let ticked = it.tick(now);
        check(&it, now, false, &ticked, None);
        let stepped = match input {
            Input::Frame(frame) => Some(it.observe(now, frame.seen())),
            Input::Gated => it.gated(now),
            Input::Nothing => None,
        };
        if let Some((snapshot, change)) = stepped {
            check(&it, now, true, &snapshot, change);
        }
    }
}

proptest! {
    #[test]
    fn no_event_within_the_cooldown_and_events_chain(rules in rules(), inputs in inputs()) {
        let mut last: Option<(Duration, Outcome)> = None;
        drive(rules, &inputs, |_, now, _, _, change| {
            if let Some(change) = change {
                if let Some((at, to)) = last {
                    assert!(rules.cooldown <= now - at);
                    assert_eq!(change.from, to);
                }
                assert_ne!(change.from, change.to);
                last = Some((now, change.to));
            }
        });
    }

    /// No flip without crossing both thresholds, and both ends of every bound.
    #[test]
    fn a_label_appears_above_enter_and_goes_below_exit(rules in rules(), inputs in inputs()) {
        let rules = DecisionRules { dwell: Duration::ZERO, cooldown: Duration::ZERO, ..rules };
        let mut before = State::Stale;
        drive(rules, &inputs, |it, _, _, snapshot, _| {
            // The mean that it was decided by, which snapshots show in part.
            let mean = it.smoothed.as_ref().map(|(mean, _)| mean.observation());
            let reaches = |value: Option<f64>, bound: Option<Bound>, end: fn(Bound) -> f64| {
                value.is_none_or(|value| bound.is_none_or(|bound| end(bound) <= value))
            };
            let is_above = |idx: usize, end: fn(Bound) -> f64| {
                let mean = mean.unwrap();
                reaches(mean.sigma(idx), rules.sigmas, end)
                    && reaches(mean.familiarity, rules.familiarity, end)
            };
            if let (State::Label(idx), false) = (snapshot.state, before == snapshot.state) {
                assert!(rules.enter <= snapshot.score.unwrap(), "{idx} {snapshot:?}");
                assert!(rules.margin <= snapshot.margin.unwrap());
                assert!(is_above(idx, |it| it.enter), "{mean:?}");
            }
            if let State::Label(_) | State::None(_) = snapshot.state {
                assert!(rules.exit <= snapshot.score.unwrap());
            }
            if let State::Label(idx) = snapshot.state {
                assert!(is_above(idx, |it| it.exit), "{mean:?}");
            }
            // Whatever could be held is held.
            if let (State::Label(idx) | State::None(idx), Some(mean)) = (before, mean)
                && snapshot.state != before
            {
                let is_label = matches!(before, State::Label(_));
                let could_stay = rules.exit <= mean.fused.probabilities()[idx]
                    && (!is_label || is_above(idx, |it| it.exit));
                assert!(!could_stay, "{before:?} {snapshot:?}");
            }
            before = snapshot.state;
        });
    }

    /// Repeating what was seen changes nothing that is shown. No frame is repeated while a change waits, and
    /// one that comes later waits for its dwell from a frame that was evaluated.
    #[test]
    fn events_come_of_evaluated_frames_alone(rules in rules(), inputs in inputs()) {
        let mut it = decider(rules);
        let mut now = Duration::ZERO;
        let (mut is_waiting, mut is_repeated, mut evaluated_since) = (false, false, None);
        for (elapsed_ms, input) in inputs {
            now += Duration::from_millis(elapsed_ms);
            it.tick(now);
            match input {
                Input::Frame(frame) => {
                    if is_repeated {
                        evaluated_since = evaluated_since.or(Some(now));
                    }
                    let (snapshot, change) = it.observe(now, frame.seen());
                    is_waiting = matches!(snapshot.reason, Some(Reason::Dwell | Reason::Cooldown));
                    if let (Some(_), Some(since)) = (change, evaluated_since) {
                        prop_assert!(rules.dwell <= now - since);
                    }
                }
                Input::Gated => {
                    let shown = it.state();
                    if let Some((snapshot, change)) = it.gated(now) {
                        prop_assert!(!is_waiting);
                        prop_assert_eq!((snapshot.state, change), (shown, None));
                        (is_repeated, evaluated_since) = (true, None);
                    }
                }
                Input::Nothing => {}
            }
        }
    }

    #[test]
    fn stale_exactly_when_no_frame_came(rules in rules(), inputs in inputs()) {
        let mut frame_at = None;
        drive(rules, &inputs, |_, now, is_frame, snapshot, _| {
            if is_frame {
                frame_at = Some(now);
            }
            let is_fresh = frame_at.is_some_and(|at| now - at < rules.stale_after);
            assert_eq!(snapshot.state != State::Stale, is_fresh);
            assert_eq!(snapshot.score.is_some(), is_fresh);
        });
    }

    /// Two machines see the same; one of them is given its classes anew, in another order.
    #[test]
    fn a_new_order_of_the_classes_changes_nothing(
        rules in rules(),
        inputs in inputs(),
        order in Just("ABC".chars().collect::<Vec<char>>()).prop_shuffle(),
        at_input in 0usize..40,
    ) {
        let old = lettered("ABC");
        let new = lettered(&order.into_iter().collect::<String>());
        let to = old.positions_in(&new);
        let mut plain = Decider::new(rules, Arc::clone(&old), Duration::ZERO).unwrap();
        let mut swapped = plain.clone();
        let id = |set: &ClassSet, idx: usize| set.classes()[idx].id.clone();
        let state = |it: &Decider, of: State| match of {
            State::Label(idx) => format!("{}", id(&it.classes, idx)),
            other => format!("{other:?}"),
        };
        let outcome = |it: &Decider, of: Outcome| match of {
            Outcome::Class(idx) => Some(id(&it.classes, idx)),
            Outcome::Unknown => None,
        };
        let told = |it: &Decider, (snapshot, change): (Snapshot, Option<Change>)| {
            let known = snapshot.last_known.map(|known| (id(&it.classes, known.class), known.at));
            let change = change.map(|of| (outcome(it, of.from), outcome(it, of.to)));
            let Snapshot { score, margin, sigma, since, .. } = snapshot;
            (state(it, snapshot.state), (score, margin, sigma), since, known, change)
        };
        let mut now = Duration::ZERO;
        let mut last = None;
        for (n, (elapsed_ms, input)) in inputs.iter().enumerate() {
            now += Duration::from_millis(*elapsed_ms);
            if n == at_input {
                let mut fresh = Decider::new(rules, Arc::clone(&new), now).unwrap();
                let (_, change) = fresh.take_over(&swapped, now);
                prop_assert_eq!(change, None);
                swapped = fresh;
            }
            let of_swapped = |it: &Frame| if n < at_input { it.clone() } else { it.over(&to) };
            let ticked = (plain.tick(now), None);
            prop_assert_eq!(told(&plain, ticked), told(&swapped, (swapped.clone().tick(now), None)));
            swapped.tick(now);
            let stepped = match input {
                Input::Frame(frame) => Some(frame),
                Input::Gated => None,
                Input::Nothing => continue,
            };
            let (one, other) = match stepped {
                Some(frame) => {
                    last = Some(frame.clone());
                    let other = of_swapped(frame);
                    (plain.observe(now, frame.seen()), swapped.observe(now, other.seen()))
                }
                None => {
                    let Some(one) = plain.gated(now) else { continue };
                    // Where there is nothing to repeat the frame is evaluated, and shows the same.
                    let again = of_swapped(last.as_ref().unwrap());
                    let other = swapped.gated(now);
                    (one, other.unwrap_or_else(|| swapped.observe(now, again.seen())))
                }
            };
            prop_assert_eq!(told(&plain, one), told(&swapped, other));
        }
    }

    /// Whatever classes come and go: what is told is of the classes of the moment, events
    /// chain by id, and only a removed class ends within the cooldown.
    #[test]
    fn events_chain_over_any_classes(
        rules in rules(),
        steps in prop::collection::vec(
            (0u64..6000, 0usize..6, prop::array::uniform4(0.01f64..1.0)), 1..100,
        ),
    ) {
        let sets = ["AB", "BA", "ABc", "CAb", "bCDA", "Da"].map(lettered);
        let mut it = Decider::new(rules, Arc::clone(&sets[0]), Duration::ZERO).unwrap();
        let mut now = Duration::ZERO;
        let mut last: (Option<Id>, Option<Duration>) = (None, None);
        for (elapsed_ms, set, weights) in steps {
            now += Duration::from_millis(elapsed_ms);
            let old = Arc::clone(&it.classes);
            // Every third step, on average, other classes.
            let is_swap = elapsed_ms % 3 == 0;
            it.tick(now);
            let (snapshot, change) = if is_swap {
                let mut new = Decider::new(rules, Arc::clone(&sets[set]), now).unwrap();
                let relabelled = new.take_over(&it, now);
                it = new;
                relabelled
            } else {
                let logits: Vec<f64> = weights.iter().map(|it| 4.0 * it).collect();
                let n_classes = old.classes().len();
                it.observe(now, plain(&Distribution::softmax(&logits[..n_classes]).unwrap()))
            };
            let id = |outcome: Outcome| match outcome {
                Outcome::Class(idx) => Some(old.classes()[idx].id.clone()),
                Outcome::Unknown => None,
            };
            if let Some(change) = change {
                prop_assert_eq!(&id(change.from), &last.0);
                let is_cool = last.1.is_none_or(|at| rules.cooldown <= now - at);
                prop_assert!(is_cool || (is_swap && change.to == Outcome::Unknown));
                last = (id(change.to), Some(now));
            }
            let kind = |idx: usize| it.classes.classes()[idx].kind;
            match snapshot.state {
                State::Label(idx) => prop_assert_eq!(kind(idx), ClassKind::Label),
                State::None(idx) => prop_assert_eq!(kind(idx), ClassKind::Negative),
                State::Unknown | State::Stale => {}
            }
            if let Some(known) = snapshot.last_known {
                prop_assert!(known.class < it.classes.classes().len());
            }
            if let Some((mean, _)) = &it.smoothed {
                let mean = mean.observation().fused;
                prop_assert!((mean.probabilities().iter().sum::<f64>() - 1.0).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn without_memory_a_state_is_the_verdict(inputs in inputs(), enter in 0.51f64..0.9) {
        // With exit = enter above one half, a class that is held is also the one on top.
        let rules = DecisionRules { enter, exit: enter, margin: 0.0, ..RULES };
        let mut it = decider(rules);
        for (_, input) in inputs {
            let Input::Frame(Frame { fused, .. }) = input else { continue };
            let accepted = it.judge(plain(&fused)).accepted;
            let expected = accepted.map_or(State::Unknown, |i| it.state_of(i));
            prop_assert_eq!(it.observe(at(1.0), plain(&fused)).0.state, expected);
        }
    }
}
