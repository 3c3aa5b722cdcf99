//! The state machine, step by step.

use super::*;
use crate::{Class, ClassBackground, Distribution, Id};

pub(super) const RULES: DecisionRules = DecisionRules {
    enter: 0.6,
    margin: 0.2,
    exit: 0.4,
    sigmas: None,
    familiarity: None,
    smoothing: Duration::ZERO,
    dwell: Duration::ZERO,
    cooldown: Duration::ZERO,
    stale_after: Duration::from_secs(10),
};
pub(super) const CAT: usize = 0;
pub(super) const DOG: usize = 1;
pub(super) const EMPTY: usize = 2;

pub(super) fn classes() -> Arc<ClassSet> {
    let class = |id: &str, kind| Class {
        id: Id::new(id).unwrap(),
        kind,
        name: id.to_owned(),
        aliases: vec![],
        prompts: vec![],
        enter: None,
    };
    let classes = vec![
        class("cat", ClassKind::Label),
        class("dog", ClassKind::Label),
        class("empty", ClassKind::Negative),
    ];
    set(classes)
}

pub(super) fn set(classes: Vec<Class>) -> Arc<ClassSet> {
    Arc::new(ClassSet::new(vec!["{}".to_owned()], classes).unwrap())
}

pub(super) fn decider(rules: DecisionRules) -> Decider {
    Decider::new(rules, classes(), Duration::ZERO).unwrap()
}

pub(super) fn scores(cat: f64, dog: f64, empty: f64) -> Distribution {
    Distribution::softmax(&[cat.ln(), dog.ln(), empty.ln()]).unwrap()
}

pub(super) fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A frame of a scene whose background nobody knows.
pub(super) fn plain(fused: &Distribution) -> Observation<'_> {
    Observation { fused, sigmas: &[], familiarity: None }
}

impl Decider {
    fn see(&mut self, seconds: f64, cat: f64, dog: f64, empty: f64) -> (Snapshot, Option<Change>) {
        self.observe(at(seconds), plain(&scores(cat, dog, empty)))
    }
}

#[test]
fn starts_stale_and_reports_each_state() {
    let mut it = decider(RULES);
    assert_eq!(it.tick(at(0.0)).state, State::Stale);
    assert_eq!(it.stale_at(), None);
    let (cat, change) = it.see(1.0, 0.8, 0.1, 0.1);
    assert_eq!((cat.state, cat.reason, cat.since), (State::Label(CAT), None, at(1.0)));
    let from_to = |change: Option<Change>| change.map(|it| (it.from, it.to));
    assert_eq!(from_to(change), Some((Outcome::Unknown, Outcome::Class(CAT))));
    let (none, change) = it.see(2.0, 0.1, 0.1, 0.8);
    assert_eq!(none.state, State::None(EMPTY));
    assert_eq!(from_to(change), Some((Outcome::Class(CAT), Outcome::Class(EMPTY))));
    let (unknown, change) = it.see(3.0, 0.35, 0.33, 0.32);
    assert_eq!((unknown.state, unknown.reason), (State::Unknown, Some(Reason::LowScore)));
    assert_eq!(from_to(change), Some((Outcome::Class(EMPTY), Outcome::Unknown)));
    assert_eq!(unknown.last_known, Some(LastKnown { class: EMPTY, at: When::Here(at(2.0)) }));
}

#[test]
fn score_and_margin_reject_by_name() {
    let it = decider(DecisionRules { enter: 0.5, ..RULES });
    let verdict = it.judge(plain(&scores(0.45, 0.3, 0.25)));
    assert_eq!((verdict.accepted, verdict.reason), (None, Some(Reason::LowScore)));
    let verdict = it.judge(plain(&scores(0.55, 0.4, 0.05)));
    assert_eq!((verdict.top, verdict.reason), (CAT, Some(Reason::LowMargin)));
    assert!((verdict.score - 0.55).abs() < 1e-12 && (verdict.margin - 0.15).abs() < 1e-12);
    assert_eq!(it.judge(plain(&scores(0.55, 0.25, 0.2))).accepted, Some(CAT));
}

#[test]
fn a_class_may_have_its_own_enter() {
    let mut own = classes().classes().to_vec();
    own[DOG].enter = Some(0.9);
    let it = Decider::new(RULES, set(own), Duration::ZERO).unwrap();
    assert_eq!(it.judge(plain(&scores(0.1, 0.8, 0.1))).reason, Some(Reason::LowScore));
    assert_eq!(it.judge(plain(&scores(0.8, 0.1, 0.1))).accepted, Some(CAT));
}

#[test]
fn held_until_below_exit() {
    let mut it = decider(RULES);
    it.see(0.0, 0.7, 0.2, 0.1);
    assert_eq!(it.see(1.0, 0.41, 0.5, 0.09).0.state, State::Label(CAT));
    let (snapshot, _) = it.see(2.0, 0.39, 0.5, 0.11);
    assert_eq!(snapshot.state, State::Unknown);
    it.see(3.0, 0.7, 0.2, 0.1);
    assert_eq!(it.see(4.0, 0.1, 0.8, 0.1).0.state, State::Label(DOG));
}

#[test]
fn dwell_delays_and_a_short_change_is_not_announced() {
    let mut it = decider(DecisionRules { dwell: at(2.0), ..RULES });
    let (first, change) = it.see(0.0, 0.8, 0.1, 0.1);
    assert_eq!((first.state, first.reason), (State::Unknown, Some(Reason::Dwell)));
    assert!(change.is_none());
    assert_eq!(it.see(1.9, 0.8, 0.1, 0.1).1, None);
    assert_eq!(it.see(2.0, 0.8, 0.1, 0.1).0.state, State::Label(CAT));
    let (dog, _) = it.see(3.0, 0.1, 0.8, 0.1);
    assert_eq!((dog.state, dog.reason), (State::Label(CAT), Some(Reason::Dwell)));
    it.see(4.0, 0.8, 0.1, 0.1);
    it.see(4.5, 0.1, 0.8, 0.1);
    let (dog, _) = it.see(6.0, 0.1, 0.8, 0.1);
    assert_eq!(dog.state, State::Label(CAT), "the interruption restarts the dwell time");
    assert_eq!(it.see(6.5, 0.1, 0.8, 0.1).0.state, State::Label(DOG));
}

#[test]
fn cooldown_holds_the_next_event_back() {
    let mut it = decider(DecisionRules { cooldown: at(5.0), ..RULES });
    assert!(it.see(0.0, 0.8, 0.1, 0.1).1.is_some());
    let (dog, change) = it.see(4.9, 0.1, 0.8, 0.1);
    assert_eq!((dog.state, dog.reason), (State::Label(CAT), Some(Reason::Cooldown)));
    assert!(change.is_none());
    let (dog, change) = it.see(5.0, 0.1, 0.8, 0.1);
    assert!(dog.state == State::Label(DOG) && change.is_some());
}

#[test]
fn smoothing_weighs_by_real_time() {
    let mut it = decider(DecisionRules { smoothing: at(2.0), ..RULES });
    it.see(0.0, 0.8, 0.1, 0.1);
    let (snapshot, _) = it.see(3.0, 0.2, 0.7, 0.1);
    let w = 1.0 - (-1.5f64).exp();
    let (top, score) = (0.1 + w * 0.6, snapshot.score.unwrap());
    assert_eq!(snapshot.state, State::Unknown);
    assert!((score - top).abs() < 1e-12, "{score} {top}");
}

#[test]
fn stale_forgets_the_scene_but_not_the_last_event() {
    let mut it = decider(DecisionRules { smoothing: at(100.0), ..RULES });
    it.see(0.0, 0.8, 0.1, 0.1);
    assert_eq!(it.stale_at(), Some(at(10.0)));
    assert_eq!(it.tick(at(9.9)).state, State::Label(CAT));
    let stale = it.tick(at(10.0));
    assert_eq!((stale.state, stale.score, stale.since), (State::Stale, None, at(10.0)));
    assert_eq!(stale.last_known, Some(LastKnown { class: CAT, at: When::Here(at(0.0)) }));
    assert_eq!(it.tick(at(20.0)).since, at(10.0));
    assert!(it.gated(at(20.0)).is_none(), "nothing to repeat");
    let (back, change) = it.see(21.0, 0.8, 0.1, 0.1);
    assert_eq!((back.state, change), (State::Label(CAT), None), "the same again is no event");
    it.tick(at(40.0));
    let (gone, change) = it.see(41.0, 0.34, 0.33, 0.33);
    assert_eq!(gone.state, State::Unknown);
    assert_eq!(change, Some(Change { from: Outcome::Class(CAT), to: Outcome::Unknown }));
}

#[test]
fn after_a_stale_spell_the_old_label_is_not_claimed() {
    let mut it = decider(DecisionRules { dwell: at(2.0), ..RULES });
    it.see(0.0, 0.8, 0.1, 0.1);
    it.see(2.0, 0.8, 0.1, 0.1);
    it.tick(at(20.0));
    let (back, _) = it.see(21.0, 0.8, 0.1, 0.1);
    assert_eq!((back.state, back.reason), (State::Unknown, Some(Reason::Dwell)));
    let (cat, change) = it.see(23.0, 0.8, 0.1, 0.1);
    assert_eq!((cat.state, change), (State::Label(CAT), None));
}

#[test]
fn a_gated_tick_repeats_the_last_frame() {
    let mut it = decider(DecisionRules { smoothing: at(1.0), ..RULES });
    assert!(it.gated(at(0.0)).is_none());
    it.see(0.0, 0.8, 0.1, 0.1);
    it.see(1.0, 0.7, 0.2, 0.1);
    let (snapshot, change) = it.gated(at(100.0)).unwrap();
    assert_eq!((snapshot.state, snapshot.reason), (State::Label(CAT), Some(Reason::Gated)));
    assert!(change.is_none() && (snapshot.score.unwrap() - 0.7).abs() < 1e-9);
    assert_eq!(it.tick(at(109.9)).state, State::Label(CAT), "a gated tick is a fresh frame");
}

#[test]
fn a_still_scene_is_evaluated_while_a_change_is_pending() {
    let mut it = decider(DecisionRules { dwell: at(2.0), cooldown: at(6.0), ..RULES });
    it.see(0.0, 0.8, 0.1, 0.1);
    assert!(it.gated(at(1.0)).is_none() && it.is_pending(), "held, not announced");
    assert!(it.gated(at(9.0)).is_none(), "it would be announced");
    it.see(2.0, 0.8, 0.1, 0.1);
    assert!(it.gated(at(3.0)).is_some());
    it.see(3.0, 0.1, 0.8, 0.1);
    it.see(6.0, 0.1, 0.8, 0.1);
    assert!(it.gated(at(7.0)).is_none(), "the cooldown");
    it.see(8.0, 0.1, 0.8, 0.1);
    assert!(it.gated(at(9.0)).is_some());
    // Nothing accepted any more, though the label was announced before.
    it.tick(at(30.0));
    it.see(31.0, 0.34, 0.33, 0.33);
    assert!(it.gated(at(34.0)).is_none());
}

#[test]
fn one_frame_prolonged_by_a_still_scene_is_no_event() {
    let mut it = decider(DecisionRules { smoothing: at(10.0), ..RULES });
    it.see(0.0, 0.8, 0.1, 0.1);
    it.see(1.0, 0.1, 0.8, 0.1);
    let before = it.tick(at(1.0));
    assert!(it.gated(at(2.0)).is_some(), "the cat is held");
    assert!(it.gated(at(9.0)).is_none(), "it would not be");
    assert_eq!(it.tick(at(9.0)).state, before.state);
}

/// A frame that shows a cat, or a dog, as sure as can be.
fn gated_frame<'a>(
    fused: &'a Distribution,
    sigmas: &'a [Option<f64>],
    familiarity: f64,
) -> Observation<'a> {
    Observation { fused, sigmas, familiarity: Some(familiarity) }
}

const SIGMAS: Bound = Bound { enter: 4.0, exit: 2.0 };
const FAMILIARITY: Bound = Bound { enter: 0.5, exit: 0.3 };

#[test]
fn a_label_must_rise_above_the_background_and_is_dropped_below_it() {
    let cat = scores(0.9, 0.05, 0.05);
    let rules = DecisionRules { sigmas: Some(SIGMAS), familiarity: Some(FAMILIARITY), ..RULES };
    let mut it = decider(rules);
    let mut see = |seconds: f64, sigma: f64, familiarity: f64| {
        let sigmas = [Some(sigma), None, None];
        let seen = gated_frame(&cat, &sigmas, familiarity);
        let snapshot = it.observe(at(seconds), seen).0;
        assert_eq!(snapshot.sigma, Some(sigma));
        (snapshot.state, snapshot.reason)
    };
    let background = (State::Unknown, Some(Reason::Background));
    let label = (State::Label(CAT), None);
    assert_eq!(see(0.0, 3.9, 0.9), background);
    assert_eq!(see(1.0, 9.0, 0.49), background);
    assert_eq!(see(2.0, 4.0, 0.5), label);
    assert_eq!(see(3.0, 2.0, 0.3), label, "held");
    assert_eq!(see(4.0, 1.9, 0.9), background, "the softmax is as sure as before");
    assert_eq!(see(5.0, 2.0, 0.9), background);
    assert_eq!(see(6.0, 4.0, 0.5), label);
    assert_eq!(see(7.0, 9.0, 0.29), background);
}

#[test]
fn what_is_unknown_of_the_background_hinders_nothing_nor_does_it_a_negative() {
    let rules = DecisionRules { sigmas: Some(SIGMAS), familiarity: Some(FAMILIARITY), ..RULES };
    let it = decider(rules);
    let sigmas = [Some(0.0), None, Some(0.0)];
    let judge = |fused: &Distribution, familiarity| {
        it.judge(Observation { fused, sigmas: &sigmas, familiarity }).accepted
    };
    assert_eq!(judge(&scores(0.9, 0.05, 0.05), None), None);
    assert_eq!(judge(&scores(0.05, 0.9, 0.05), None), Some(DOG));
    assert_eq!(judge(&scores(0.05, 0.9, 0.05), Some(0.1)), None);
    assert_eq!(judge(&scores(0.05, 0.05, 0.9), Some(0.0)), Some(EMPTY));
    assert_eq!(it.judge(plain(&scores(0.9, 0.05, 0.05))).accepted, Some(CAT));
    let unbounded = decider(RULES);
    let seen = scores(0.9, 0.05, 0.05);
    assert_eq!(unbounded.judge(gated_frame(&seen, &sigmas, 0.0)).accepted, Some(CAT));
}

#[test]
fn sigmas_and_familiarity_are_averaged_with_the_weight_of_the_scores() {
    let rules = DecisionRules { smoothing: at(2.0), familiarity: Some(FAMILIARITY), ..RULES };
    let mut it = decider(rules);
    let cat = scores(0.9, 0.05, 0.05);
    it.observe(at(0.0), gated_frame(&cat, &[Some(1.0), None, Some(9.0)], 0.2));
    let now = [Some(5.0), Some(7.0), None];
    let (snapshot, _) = it.observe(at(3.0), gated_frame(&cat, &now, 0.6));
    let w = 1.0 - (-1.5f64).exp();
    assert!((snapshot.sigma.unwrap() - (1.0 + 4.0 * w)).abs() < 1e-12);
    assert_eq!(snapshot.state, State::Label(CAT), "0.2 + 0.4 w is above 0.5");
    let seen = it.smoothed.as_ref().unwrap().0.observation();
    assert!((seen.familiarity.unwrap() - (0.2 + 0.4 * w)).abs() < 1e-12);
    assert_eq!((seen.sigma(DOG), seen.sigma(EMPTY)), (Some(7.0), None));
}

fn known(bound: Option<Bound>) -> Option<ClassBackground> {
    Some(ClassBackground { mean: 0.2, deviation: 0.01, bound })
}

#[test]
fn each_label_has_its_own_bound_unless_the_rules_give_one() {
    let higher = Bound { enter: 8.0, exit: 4.0 };
    let background = Background::new(vec![known(Some(SIGMAS)), known(Some(higher)), None], 1.0);
    let background = background.unwrap();
    let sigmas = [Some(5.0), Some(5.0), None];
    let accepts = |it: &Decider, fused: &Distribution| {
        it.judge(Observation { fused, sigmas: &sigmas, familiarity: None }).accepted
    };
    let (cat, dog) = (scores(0.9, 0.05, 0.05), scores(0.05, 0.9, 0.05));
    let own = decider(RULES).on(&background);
    assert_eq!((accepts(&own, &cat), accepts(&own, &dog)), (Some(CAT), None));
    let bound = Some(Bound { enter: 6.0, exit: 3.0 });
    let given = decider(DecisionRules { sigmas: bound, ..RULES }).on(&background);
    assert_eq!((accepts(&given, &cat), accepts(&given, &dog)), (None, None));
}

#[test]
fn sigmas_go_along_to_other_classes_where_the_bound_is_the_same() {
    let of = |letters: &str, bounds: &[Option<Bound>]| {
        let known = bounds.iter().map(|it| known(*it)).collect();
        let rules = DecisionRules { familiarity: Some(FAMILIARITY), ..RULES };
        let it = Decider::new(rules, lettered(letters), Duration::ZERO).unwrap();
        it.on(&Background::new(known, 1.0).unwrap())
    };
    let other = Bound { enter: 5.0, exit: 2.0 };
    let mut old = of("ABc", &[Some(SIGMAS), Some(SIGMAS), None]);
    let sigmas = [Some(6.0), Some(1.0), Some(0.5)];
    old.observe(at(1.0), gated_frame(&scores(0.9, 0.05, 0.05), &sigmas, 0.9));
    let seen = |it: &Decider| {
        let seen = it.smoothed.as_ref().unwrap().0.observation();
        (seen.sigmas.to_vec(), seen.familiarity)
    };
    let mut new = of("XBAc", &[Some(SIGMAS), Some(other), Some(SIGMAS), None]);
    let (snapshot, change) = new.take_over(&old, at(2.0));
    assert_eq!((snapshot.state, snapshot.sigma, change), (State::Label(2), Some(6.0), None));
    assert_eq!(seen(&new), (vec![None, None, Some(6.0), Some(0.5)], None));
    let mut swapped = of("BAc", &[Some(SIGMAS), Some(SIGMAS), None]);
    swapped.take_over(&old, at(2.0));
    assert_eq!(seen(&swapped), (vec![Some(1.0), Some(6.0), Some(0.5)], Some(0.9)));
    // Calibrated anew: what was seen before is on another scale.
    let mut anew = of("ABc", &[Some(other), Some(SIGMAS), None]);
    anew.take_over(&old, at(2.0));
    assert_eq!(seen(&anew).0, [None, Some(1.0), Some(0.5)]);
    assert!(anew.gated(at(2.0)).is_none(), "nothing was seen with these bounds");
}

#[test]
fn sigmas_of_another_background_are_dropped_though_the_bound_is_given() {
    let on = |mean: f64, temperature: f64| {
        let rules = DecisionRules { sigmas: Some(SIGMAS), ..RULES };
        let class = ClassBackground { mean, deviation: 0.01, bound: None };
        let background = Background::new(vec![Some(class); 3], temperature).unwrap();
        decider(rules).on(&background)
    };
    let mut old = on(0.2, 1.0);
    let sigmas = [Some(6.0), Some(1.0), Some(0.5)];
    old.observe(at(1.0), gated_frame(&scores(0.9, 0.05, 0.05), &sigmas, 0.9));
    let after = |mut new: Decider| {
        new.take_over(&old, at(2.0));
        let sigmas = new.smoothed.as_ref().unwrap().0.observation().sigmas.to_vec();
        (sigmas, new.gated(at(2.0)).is_some())
    };
    assert_eq!(after(on(0.2, 1.0)), (sigmas.to_vec(), true));
    assert_eq!(after(on(0.21, 1.0)), (vec![None; 3], false));
    assert_eq!(after(on(0.2, 2.0)), (sigmas.to_vec(), false), "scores are on another scale");
}

/// A camera takes a while to open, and its first frame is dark.
#[test]
fn a_first_frame_that_shows_nothing_ends_no_label() {
    let rules = DecisionRules { dwell: at(1.0), ..RULES };
    let mut it = decider(rules);
    it.observe(at(1.0), plain(&scores(0.9, 0.05, 0.05)));
    let (_, change) = it.observe(at(2.0), plain(&scores(0.9, 0.05, 0.05)));
    assert!(change.is_some());
    it.tick(at(50.0));
    let (dark, change) = it.observe(at(60.0), plain(&scores(0.34, 0.33, 0.33)));
    assert_eq!((dark.reason, change), (Some(Reason::Dwell), None));
    let (_, change) = it.observe(at(60.5), plain(&scores(0.9, 0.05, 0.05)));
    assert_eq!(change, None, "the same label, and no event in between");
    let (again, change) = it.observe(at(61.6), plain(&scores(0.9, 0.05, 0.05)));
    assert_eq!((again.state, change), (State::Label(CAT), None));
}

#[test]
fn rules_out_of_range_are_refused() {
    for (rules, message) in [
        (
            DecisionRules { enter: 0.0, ..RULES },
            "`enter` must be greater than 0 and at most 1, got 0",
        ),
        (
            DecisionRules { enter: f64::NAN, ..RULES },
            "`enter` must be greater than 0 and at most 1, got NaN",
        ),
        (DecisionRules { margin: 1.5, ..RULES }, "`margin` must be 0 to 1, got 1.5"),
        (DecisionRules { exit: 0.7, ..RULES }, "`exit` must be 0 to enter (0.6), got 0.7"),
        (
            DecisionRules { sigmas: Some(Bound { enter: 2.0, exit: 2.5 }), ..RULES },
            "`sigmas.exit` must be finite, and at most enter (2), got 2.5",
        ),
        (
            DecisionRules { sigmas: Some(Bound { enter: f64::NAN, exit: 2.5 }), ..RULES },
            "`sigmas.enter` must be finite, got NaN",
        ),
        (
            DecisionRules { familiarity: Some(Bound { enter: 1.5, exit: 0.5 }), ..RULES },
            "`familiarity.enter` must be 0 to 1, got 1.5",
        ),
        (
            DecisionRules { stale_after: Duration::ZERO, ..RULES },
            "`stale_after` must be greater than 0, got 0",
        ),
    ] {
        let error = Decider::new(rules, classes(), Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let mut own = classes().classes().to_vec();
    own[DOG].enter = Some(0.3);
    let error = Decider::new(RULES, set(own), Duration::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "`enter of class dog` must be at least exit (0.4), got 0.3");
}

/// Classes whose ids are these letters; capitals are labels.
pub(super) fn lettered(letters: &str) -> Arc<ClassSet> {
    let class = |letter: char| Class {
        id: Id::new(letter.to_ascii_lowercase()).unwrap(),
        kind: if letter.is_uppercase() { ClassKind::Label } else { ClassKind::Negative },
        name: letter.to_string(),
        aliases: vec![],
        prompts: vec![],
        enter: None,
    };
    set(letters.chars().map(class).collect())
}

fn relabel(it: &mut Decider, letters: &str, now: Duration) -> (Snapshot, Option<Change>) {
    let mut new = Decider::new(it.rules, lettered(letters), now).unwrap();
    let relabelled = new.take_over(it, now);
    *it = new;
    relabelled
}

/// A camera says `none` whichever it is.
#[test]
fn between_two_negatives_nothing_happens() {
    let rules = DecisionRules { cooldown: at(5.0), dwell: at(1.0), ..RULES };
    let mut it = Decider::new(rules, lettered("Abc"), Duration::ZERO).unwrap();
    it.see(1.0, 0.1, 0.8, 0.1);
    let (first, change) = it.see(2.0, 0.1, 0.8, 0.1);
    assert_eq!((first.state, change.unwrap().to), (State::None(1), Outcome::Class(1)));
    let (waiting, _) = it.see(8.0, 0.1, 0.1, 0.8);
    assert_eq!((waiting.state, waiting.reason), (State::None(1), Some(Reason::Dwell)));
    let (other, change) = it.see(9.0, 0.1, 0.1, 0.8);
    assert_eq!((other.state, other.since, change), (State::None(2), at(2.0), None));
    assert!(!it.is_pending());
    // Nor does it make a label wait.
    it.see(9.5, 0.8, 0.1, 0.1);
    let (label, change) = it.see(10.5, 0.8, 0.1, 0.1);
    assert_eq!(label.state, State::Label(0));
    assert_eq!(change, Some(Change { from: Outcome::Class(2), to: Outcome::Class(0) }));
}

#[test]
fn what_is_held_stays_held_under_its_id() {
    let rules = DecisionRules { smoothing: at(4.0), ..RULES };
    let mut it = Decider::new(rules, lettered("ABc"), Duration::ZERO).unwrap();
    it.see(1.0, 0.1, 0.8, 0.1);
    let (snapshot, change) = relabel(&mut it, "XBAyc", at(2.0));
    assert_eq!((snapshot.state, snapshot.reason, change), (State::Label(1), None, None));
    assert_eq!(snapshot.last_known, Some(LastKnown { class: 1, at: When::Here(at(1.0)) }));
    assert_eq!(snapshot.since, at(1.0));
    assert!((snapshot.score.unwrap() - 0.8).abs() < 1e-12, "the mean goes on");
    assert!(it.gated(at(2.0)).is_none(), "nothing was seen with these classes");
    // Held by `exit`, where it would not be accepted.
    let frame = Distribution::softmax(&[0.0, 0.0, 0.0, 0.0, 3.0]).unwrap();
    let (snapshot, change) = it.observe(at(3.0), plain(&frame));
    assert_eq!((snapshot.state, change), (State::Label(1), None));
    assert!(snapshot.score.unwrap() < RULES.enter);
}

#[test]
fn a_class_that_is_gone_becomes_unknown_at_once_and_cools_down() {
    let rules = DecisionRules { cooldown: at(5.0), ..RULES };
    let mut it = Decider::new(rules, lettered("ABc"), Duration::ZERO).unwrap();
    it.see(1.0, 0.8, 0.1, 0.1);
    let (snapshot, change) = relabel(&mut it, "Bc", at(2.0));
    assert_eq!((snapshot.state, snapshot.reason), (State::Unknown, Some(Reason::Removed)));
    assert_eq!((snapshot.since, snapshot.last_known), (at(2.0), None));
    assert_eq!(change, Some(Change { from: Outcome::Class(0), to: Outcome::Unknown }));
    let b = Distribution::softmax(&[3.0, 0.0]).unwrap();
    let (waiting, change) = it.observe(at(6.9), plain(&b));
    assert_eq!((waiting.reason, change), (Some(Reason::Cooldown), None));
    let (_, change) = it.observe(at(7.0), plain(&b));
    assert_eq!(change, Some(Change { from: Outcome::Unknown, to: Outcome::Class(0) }));
}

#[test]
fn a_label_that_becomes_a_negative_is_another_class() {
    let mut it = Decider::new(RULES, lettered("ABc"), Duration::ZERO).unwrap();
    it.see(1.0, 0.8, 0.1, 0.1);
    let (snapshot, change) = relabel(&mut it, "Bca", at(2.0));
    assert_eq!((snapshot.state, snapshot.last_known), (State::Unknown, None));
    assert!(change.is_some());
}

#[test]
fn a_class_that_goes_during_a_stale_spell_is_told_too() {
    let mut it = Decider::new(RULES, lettered("ABc"), Duration::ZERO).unwrap();
    it.see(1.0, 0.8, 0.1, 0.1);
    it.tick(at(20.0));
    let (snapshot, change) = relabel(&mut it, "Bc", at(21.0));
    assert_eq!((snapshot.state, snapshot.since), (State::Stale, at(20.0)));
    assert_eq!(change, Some(Change { from: Outcome::Class(0), to: Outcome::Unknown }));
    assert_eq!(relabel(&mut it, "ABc", at(22.0)).1, None, "said once");
}

#[test]
fn other_rules_for_the_same_classes_keep_everything() {
    let mut it = decider(DecisionRules { dwell: at(4.0), ..RULES });
    it.see(1.0, 0.8, 0.1, 0.1);
    let rules = DecisionRules { dwell: at(2.0), ..RULES };
    let mut new = Decider::new(rules, classes(), at(2.0)).unwrap();
    assert_eq!(new.take_over(&it, at(2.0)).0.state, State::Unknown);
    let (snapshot, change) = new.see(3.0, 0.8, 0.1, 0.1);
    assert_eq!(snapshot.state, State::Label(CAT), "two seconds since it was first held");
    assert!(change.is_some());
}
