//! From fused distributions to a state that an automation may act on: one machine a camera,
//! pure, on an injected clock.
//!
//! In this order: exponentially weighted mean over time → accept the top class by `enter` and
//! `margin` → hold it until below `exit` → `dwell` before it is announced → `cooldown` between
//! events. Time is the monotonic time of the caller; it must not go back.

use std::sync::Arc;
use std::time::Duration;

use crate::{ClassKind, ClassSet, Distribution};

/// When a class is accepted, held and announced. Scores are fused probabilities, so their
/// meaning depends on the model and the number of classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecisionRules {
    /// Least score of a class to be accepted; within 0 to 1, a class may have its own.
    pub enter: f64,
    /// Least lead over the next class to be accepted; within 0 to 1.
    pub margin: f64,
    /// An accepted class is held until its score is below this; within 0 to every `enter`.
    pub exit: f64,
    /// τ of the weight 1 − exp(−Δt/τ) that a new distribution has in the mean; zero: no memory.
    pub smoothing: Duration,
    /// How long a class must be held before it is announced.
    pub dwell: Duration,
    /// Least time between two events.
    pub cooldown: Duration,
    /// Without a frame for this long the state is [`State::Stale`]; greater than zero.
    pub stale_after: Duration,
}

/// A rule that is out of range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{key}` must be {rule}, got {got}")]
pub struct InvalidRules {
    /// The field.
    pub key: String,
    /// Its range.
    pub rule: String,
    /// The value.
    pub got: String,
}

/// What one distribution says by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The top class, if it was accepted.
    pub accepted: Option<usize>,
    /// The top class.
    pub top: usize,
    /// Its score.
    pub score: f64,
    /// Its lead over the next class.
    pub margin: f64,
    /// Why it was not accepted.
    pub reason: Option<Reason>,
}

/// Why something is not announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The scene did not change, so the last distribution was repeated.
    Gated,
    /// The top score is below `enter`.
    LowScore,
    /// The lead over the next class is below `margin`.
    LowMargin,
    /// A change has not lasted long enough.
    Dwell,
    /// The last event was too recent.
    Cooldown,
    /// The class that was announced is no class any more.
    Removed,
}

/// What a camera shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// This label.
    Label(usize),
    /// This negative: none of the labels.
    None(usize),
    /// Frames are evaluated and nothing was accepted.
    Unknown,
    /// No fresh frame.
    Stale,
}

/// What was announced: a class, or `Unknown`. Unlike [`State`] it survives a stale spell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A label or negative.
    Class(usize),
    /// Nothing accepted.
    Unknown,
}

/// An announced change. Never within `cooldown` of the one before, unless its class was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What the last event, or the start, said.
    pub from: Outcome,
    /// What it is now.
    pub to: Outcome,
}

/// The class that was last known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastKnown {
    /// A label or negative.
    pub class: usize,
    /// When it was last confirmed.
    pub at: Duration,
}

/// A camera's state at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// The state.
    pub state: State,
    /// Smoothed score of the announced class, else of the top class; `None` without a frame.
    pub score: Option<f64>,
    /// Its lead over the best other class; negative when another is ahead.
    pub margin: Option<f64>,
    /// What holds back the top class, or a change of state.
    pub reason: Option<Reason>,
    /// When the state began.
    pub since: Duration,
    /// The class last announced and when it was last confirmed.
    pub last_known: Option<LastKnown>,
}

/// The decision machine of one camera.
#[derive(Clone, Debug)]
pub struct Decider {
    rules: DecisionRules,
    classes: Arc<ClassSet>,
    /// The mean over time, and when it was last updated. `None` while stale.
    smoothed: Option<(Distribution, Duration)>,
    last: Option<Distribution>,
    last_frame_at: Duration,
    /// Accepted and not yet below `exit`, and since when.
    held: (Outcome, Duration),
    announced: Outcome,
    last_event: Outcome,
    last_event_at: Option<Duration>,
    state: State,
    since: Duration,
    last_known: Option<LastKnown>,
}

impl DecisionRules {
    fn check(&self, classes: &ClassSet) -> Result<(), InvalidRules> {
        let fail = |key: &str, rule: &str, got: String| {
            Err(InvalidRules { key: key.to_owned(), rule: rule.to_owned(), got })
        };
        // Written as "not within" so that NaN is refused too.
        if !(0.0 < self.enter && self.enter <= 1.0) {
            return fail("enter", "greater than 0 and at most 1", self.enter.to_string());
        }
        if !(0.0..=1.0).contains(&self.margin) {
            return fail("margin", "0 to 1", self.margin.to_string());
        }
        if !(0.0..=self.enter).contains(&self.exit) {
            return fail("exit", &format!("0 to enter ({})", self.enter), self.exit.to_string());
        }
        if self.stale_after.is_zero() {
            return fail("stale_after", "greater than 0", "0".to_owned());
        }
        for class in classes.classes() {
            if let Some(enter) = class.enter.filter(|it| *it < self.exit) {
                let rule = format!("at least exit ({})", self.exit);
                return fail(&format!("enter of class {}", class.id), &rule, enter.to_string());
            }
        }
        Ok(())
    }
}

impl Decider {
    /// Starts stale at `now`: nothing was seen yet.
    pub fn new(
        rules: DecisionRules,
        classes: Arc<ClassSet>,
        now: Duration,
    ) -> Result<Self, InvalidRules> {
        rules.check(&classes)?;
        Ok(Self {
            rules,
            classes,
            smoothed: None,
            last: None,
            last_frame_at: now,
            held: (Outcome::Unknown, now),
            announced: Outcome::Unknown,
            last_event: Outcome::Unknown,
            last_event_at: None,
            state: State::Stale,
            since: now,
            last_known: None,
        })
    }

    /// The classes that it decides between.
    pub fn classes(&self) -> &Arc<ClassSet> {
        &self.classes
    }

    /// Goes on at `now` where `old`, a machine with other classes or rules, stands: what is held,
    /// announced and last known, the mean over time, dwell and cooldown. A class goes on where one
    /// of the same id and kind is; its name may differ.
    ///
    /// Where the class of the last event is gone, that is a change to unknown, announced at once:
    /// nobody could be told later what it was. The change is over the classes of `old`, the
    /// snapshot over those of this machine. After other classes the next frame must be evaluated,
    /// because there is no distribution over these to repeat.
    pub fn take_over(&mut self, old: &Self, now: Duration) -> (Snapshot, Option<Change>) {
        let to = old.classes.positions_in(&self.classes);
        let map = |outcome: Outcome| match outcome {
            Outcome::Class(idx) => to[idx].map_or(Outcome::Unknown, Outcome::Class),
            Outcome::Unknown => Outcome::Unknown,
        };
        let n_classes = self.classes.classes().len();
        let remap = |it: &Distribution| it.remap(&to, n_classes);
        self.smoothed = old.smoothed.as_ref().map(|(mean, at)| (remap(mean), *at));
        self.last = old.last.clone().filter(|_| self.classes == old.classes);
        self.last_frame_at = old.last_frame_at;
        self.held = match (map(old.held.0), old.held) {
            (Outcome::Unknown, (Outcome::Class(_), _)) => (Outcome::Unknown, now),
            (held, (_, since)) => (held, since),
        };
        self.announced = map(old.announced);
        self.last_event = map(old.last_event);
        self.last_event_at = old.last_event_at;
        self.last_known =
            old.last_known.and_then(|it| Some(LastKnown { class: to[it.class]?, ..it }));
        (self.state, self.since) = match (self.announced, old.announced) {
            (Outcome::Class(idx), _) => (self.state_of(idx), old.since),
            (Outcome::Unknown, Outcome::Class(_)) => (State::Unknown, now),
            (Outcome::Unknown, Outcome::Unknown) => (old.state, old.since),
        };
        let change = (self.last_event == Outcome::Unknown && old.last_event != Outcome::Unknown)
            .then_some(Change { from: old.last_event, to: Outcome::Unknown });
        if change.is_some() {
            self.last_event_at = Some(now);
        }
        (self.snapshot(change.map(|_| Reason::Removed)), change)
    }

    /// What `distribution` says by itself: `enter` and `margin`, no memory. The distribution is
    /// over this machine's classes.
    pub fn judge(&self, distribution: &Distribution) -> Verdict {
        let (top, margin) = distribution.top();
        let score = distribution.probabilities()[top];
        let enter = self.classes.classes()[top].enter.unwrap_or(self.rules.enter);
        let reason = if score < enter {
            Some(Reason::LowScore)
        } else if margin < self.rules.margin {
            Some(Reason::LowMargin)
        } else {
            None
        };
        Verdict { accepted: reason.is_none().then_some(top), top, score, margin, reason }
    }

    /// The state of class `idx` on top.
    pub fn state_of(&self, idx: usize) -> State {
        match self.classes.classes()[idx].kind {
            ClassKind::Label => State::Label(idx),
            ClassKind::Negative => State::None(idx),
        }
    }

    /// A frame was evaluated.
    pub fn observe(&mut self, now: Duration, fused: &Distribution) -> (Snapshot, Option<Change>) {
        self.last = Some(fused.clone());
        self.step(now, fused, None)
    }

    /// A frame came and showed nothing new: the last distribution is repeated. `None` when there
    /// is none to repeat; the frame must be evaluated then.
    pub fn gated(&mut self, now: Duration) -> Option<(Snapshot, Option<Change>)> {
        let last = self.last.clone()?;
        Some(self.step(now, &last, Some(Reason::Gated)))
    }

    /// No frame came. Only [`State::Stale`] can follow.
    pub fn tick(&mut self, now: Duration) -> Snapshot {
        if self.rules.stale_after <= now.saturating_sub(self.last_frame_at) {
            // What was held or averaged describes a scene that nobody has seen since.
            self.smoothed = None;
            self.last = None;
            self.held = (Outcome::Unknown, now);
            self.announced = Outcome::Unknown;
            self.enter_state(now, State::Stale);
        }
        self.snapshot(None)
    }

    /// When [`Decider::tick`] will next have something to say, if no frame comes before.
    pub fn stale_at(&self) -> Option<Duration> {
        (self.state != State::Stale).then(|| self.last_frame_at + self.rules.stale_after)
    }

    fn step(
        &mut self,
        now: Duration,
        distribution: &Distribution,
        idle_reason: Option<Reason>,
    ) -> (Snapshot, Option<Change>) {
        self.last_frame_at = now;
        let smoothed = match self.smoothed.take() {
            None => distribution.clone(),
            Some((mean, at)) => mean.mix(distribution, self.weight(now.saturating_sub(at))),
        };
        let verdict = self.judge(&smoothed);
        let held = match self.held.0 {
            Outcome::Class(idx) if self.rules.exit <= smoothed.probabilities()[idx] => self.held.0,
            _ => verdict.accepted.map_or(Outcome::Unknown, Outcome::Class),
        };
        self.smoothed = Some((smoothed, now));
        if held != self.held.0 {
            self.held = (held, now);
        }
        let (change, waits_for) = self.announce(now);
        if let Outcome::Class(class) = self.announced {
            self.last_known = Some(LastKnown { class, at: now });
        }
        let state = match self.announced {
            Outcome::Class(idx) => self.state_of(idx),
            Outcome::Unknown => State::Unknown,
        };
        self.enter_state(now, state);
        let low = verdict.reason.filter(|_| self.announced == Outcome::Unknown);
        (self.snapshot(waits_for.or(low).or(idle_reason)), change)
    }

    /// 1 − exp(−Δt/τ).
    fn weight(&self, elapsed: Duration) -> f64 {
        if self.rules.smoothing.is_zero() {
            return 1.0;
        }
        -(-elapsed.as_secs_f64() / self.rules.smoothing.as_secs_f64()).exp_m1()
    }

    /// Announces what is held once it may be; else says what it waits for.
    fn announce(&mut self, now: Duration) -> (Option<Change>, Option<Reason>) {
        let (held, held_since) = self.held;
        if held == self.announced && held == self.last_event {
            return (None, None);
        }
        if now.saturating_sub(held_since) < self.rules.dwell {
            return (None, Some(Reason::Dwell));
        }
        if held == self.last_event {
            // The same as before a stale spell: no news.
            self.announced = held;
            return (None, None);
        }
        let cools = |at: Duration| now.saturating_sub(at) < self.rules.cooldown;
        if self.last_event_at.is_some_and(cools) {
            return (None, Some(Reason::Cooldown));
        }
        let change = Change { from: self.last_event, to: held };
        self.announced = held;
        self.last_event = held;
        self.last_event_at = Some(now);
        (Some(change), None)
    }

    fn enter_state(&mut self, now: Duration, state: State) {
        if self.state != state {
            self.state = state;
            self.since = now;
        }
    }

    fn snapshot(&self, reason: Option<Reason>) -> Snapshot {
        let score_and_margin = self.smoothed.as_ref().map(|(smoothed, _)| {
            let idx = match self.announced {
                Outcome::Class(idx) => idx,
                Outcome::Unknown => smoothed.top().0,
            };
            (smoothed.probabilities()[idx], smoothed.lead(idx))
        });
        Snapshot {
            state: self.state,
            score: score_and_margin.map(|it| it.0),
            margin: score_and_margin.map(|it| it.1),
            reason,
            since: self.since,
            last_known: self.last_known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, Id};
    use proptest::prelude::*;

    const RULES: DecisionRules = DecisionRules {
        enter: 0.6,
        margin: 0.2,
        exit: 0.4,
        smoothing: Duration::ZERO,
        dwell: Duration::ZERO,
        cooldown: Duration::ZERO,
        stale_after: Duration::from_secs(10),
    };
    const CAT: usize = 0;
    const DOG: usize = 1;
    const EMPTY: usize = 2;

    fn classes() -> Arc<ClassSet> {
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

    fn set(classes: Vec<Class>) -> Arc<ClassSet> {
        Arc::new(ClassSet::new(vec!["{}".to_owned()], classes).unwrap())
    }

    fn decider(rules: DecisionRules) -> Decider {
        Decider::new(rules, classes(), Duration::ZERO).unwrap()
    }

    fn scores(cat: f64, dog: f64, empty: f64) -> Distribution {
        Distribution::softmax(&[cat.ln(), dog.ln(), empty.ln()]).unwrap()
    }

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn starts_stale_and_reports_each_state() {
        let mut it = decider(RULES);
        assert_eq!(it.tick(at(0.0)).state, State::Stale);
        assert_eq!(it.stale_at(), None);
        let (cat, change) = it.observe(at(1.0), &scores(0.8, 0.1, 0.1));
        assert_eq!((cat.state, cat.reason, cat.since), (State::Label(CAT), None, at(1.0)));
        let from_to = |change: Option<Change>| change.map(|it| (it.from, it.to));
        assert_eq!(from_to(change), Some((Outcome::Unknown, Outcome::Class(CAT))));
        let (none, change) = it.observe(at(2.0), &scores(0.1, 0.1, 0.8));
        assert_eq!(none.state, State::None(EMPTY));
        assert_eq!(from_to(change), Some((Outcome::Class(CAT), Outcome::Class(EMPTY))));
        let (unknown, change) = it.observe(at(3.0), &scores(0.35, 0.33, 0.32));
        assert_eq!((unknown.state, unknown.reason), (State::Unknown, Some(Reason::LowScore)));
        assert_eq!(from_to(change), Some((Outcome::Class(EMPTY), Outcome::Unknown)));
        assert_eq!(unknown.last_known, Some(LastKnown { class: EMPTY, at: at(2.0) }));
    }

    #[test]
    fn score_and_margin_reject_by_name() {
        let it = decider(DecisionRules { enter: 0.5, ..RULES });
        let verdict = it.judge(&scores(0.45, 0.3, 0.25));
        assert_eq!((verdict.accepted, verdict.reason), (None, Some(Reason::LowScore)));
        let verdict = it.judge(&scores(0.55, 0.4, 0.05));
        assert_eq!((verdict.top, verdict.reason), (CAT, Some(Reason::LowMargin)));
        assert!((verdict.score - 0.55).abs() < 1e-12 && (verdict.margin - 0.15).abs() < 1e-12);
        assert_eq!(it.judge(&scores(0.55, 0.25, 0.2)).accepted, Some(CAT));
    }

    #[test]
    fn a_class_may_have_its_own_enter() {
        let mut own = classes().classes().to_vec();
        own[DOG].enter = Some(0.9);
        let it = Decider::new(RULES, set(own), Duration::ZERO).unwrap();
        assert_eq!(it.judge(&scores(0.1, 0.8, 0.1)).reason, Some(Reason::LowScore));
        assert_eq!(it.judge(&scores(0.8, 0.1, 0.1)).accepted, Some(CAT));
    }

    #[test]
    fn held_until_below_exit() {
        let mut it = decider(RULES);
        it.observe(at(0.0), &scores(0.7, 0.2, 0.1));
        assert_eq!(it.observe(at(1.0), &scores(0.41, 0.5, 0.09)).0.state, State::Label(CAT));
        let (snapshot, _) = it.observe(at(2.0), &scores(0.39, 0.5, 0.11));
        assert_eq!(snapshot.state, State::Unknown);
        it.observe(at(3.0), &scores(0.7, 0.2, 0.1));
        assert_eq!(it.observe(at(4.0), &scores(0.1, 0.8, 0.1)).0.state, State::Label(DOG));
    }

    #[test]
    fn dwell_delays_and_a_short_change_is_not_announced() {
        let mut it = decider(DecisionRules { dwell: at(2.0), ..RULES });
        let (first, change) = it.observe(at(0.0), &scores(0.8, 0.1, 0.1));
        assert_eq!((first.state, first.reason), (State::Unknown, Some(Reason::Dwell)));
        assert!(change.is_none());
        assert_eq!(it.observe(at(1.9), &scores(0.8, 0.1, 0.1)).1, None);
        assert_eq!(it.observe(at(2.0), &scores(0.8, 0.1, 0.1)).0.state, State::Label(CAT));
        let (dog, _) = it.observe(at(3.0), &scores(0.1, 0.8, 0.1));
        assert_eq!((dog.state, dog.reason), (State::Label(CAT), Some(Reason::Dwell)));
        it.observe(at(4.0), &scores(0.8, 0.1, 0.1));
        it.observe(at(4.5), &scores(0.1, 0.8, 0.1));
        let (dog, _) = it.observe(at(6.0), &scores(0.1, 0.8, 0.1));
        assert_eq!(dog.state, State::Label(CAT), "the interruption restarts the dwell time");
        assert_eq!(it.observe(at(6.5), &scores(0.1, 0.8, 0.1)).0.state, State::Label(DOG));
    }

    #[test]
    fn cooldown_holds_the_next_event_back() {
        let mut it = decider(DecisionRules { cooldown: at(5.0), ..RULES });
        assert!(it.observe(at(0.0), &scores(0.8, 0.1, 0.1)).1.is_some());
        let (dog, change) = it.observe(at(4.9), &scores(0.1, 0.8, 0.1));
        assert_eq!((dog.state, dog.reason), (State::Label(CAT), Some(Reason::Cooldown)));
        assert!(change.is_none());
        let (dog, change) = it.observe(at(5.0), &scores(0.1, 0.8, 0.1));
        assert!(dog.state == State::Label(DOG) && change.is_some());
    }

    #[test]
    fn smoothing_weighs_by_real_time() {
        let mut it = decider(DecisionRules { smoothing: at(2.0), ..RULES });
        it.observe(at(0.0), &scores(0.8, 0.1, 0.1));
        let (snapshot, _) = it.observe(at(3.0), &scores(0.2, 0.7, 0.1));
        let w = 1.0 - (-1.5f64).exp();
        let (top, score) = (0.1 + w * 0.6, snapshot.score.unwrap());
        assert_eq!(snapshot.state, State::Unknown);
        assert!((score - top).abs() < 1e-12, "{score} {top}");
    }

    #[test]
    fn stale_forgets_the_scene_but_not_the_last_event() {
        let mut it = decider(DecisionRules { smoothing: at(100.0), ..RULES });
        it.observe(at(0.0), &scores(0.8, 0.1, 0.1));
        assert_eq!(it.stale_at(), Some(at(10.0)));
        assert_eq!(it.tick(at(9.9)).state, State::Label(CAT));
        let stale = it.tick(at(10.0));
        assert_eq!((stale.state, stale.score, stale.since), (State::Stale, None, at(10.0)));
        assert_eq!(stale.last_known, Some(LastKnown { class: CAT, at: at(0.0) }));
        assert_eq!(it.tick(at(20.0)).since, at(10.0));
        assert!(it.gated(at(20.0)).is_none(), "nothing to repeat");
        let (back, change) = it.observe(at(21.0), &scores(0.8, 0.1, 0.1));
        assert_eq!((back.state, change), (State::Label(CAT), None), "the same again is no event");
        it.tick(at(40.0));
        let (gone, change) = it.observe(at(41.0), &scores(0.34, 0.33, 0.33));
        assert_eq!(gone.state, State::Unknown);
        assert_eq!(change, Some(Change { from: Outcome::Class(CAT), to: Outcome::Unknown }));
    }

    #[test]
    fn after_a_stale_spell_the_old_label_is_not_claimed() {
        let mut it = decider(DecisionRules { dwell: at(2.0), ..RULES });
        it.observe(at(0.0), &scores(0.8, 0.1, 0.1));
        it.observe(at(2.0), &scores(0.8, 0.1, 0.1));
        it.tick(at(20.0));
        let (back, _) = it.observe(at(21.0), &scores(0.8, 0.1, 0.1));
        assert_eq!((back.state, back.reason), (State::Unknown, Some(Reason::Dwell)));
        let (cat, change) = it.observe(at(23.0), &scores(0.8, 0.1, 0.1));
        assert_eq!((cat.state, change), (State::Label(CAT), None));
    }

    #[test]
    fn a_gated_tick_repeats_the_last_distribution() {
        let rules = DecisionRules { smoothing: at(1.0), dwell: at(2.0), ..RULES };
        let mut it = decider(rules);
        assert!(it.gated(at(0.0)).is_none());
        it.observe(at(0.0), &scores(0.8, 0.1, 0.1));
        assert_eq!(it.gated(at(1.0)).unwrap().0.reason, Some(Reason::Dwell));
        let (snapshot, change) = it.gated(at(2.0)).unwrap();
        assert_eq!(snapshot.state, State::Label(CAT));
        assert!(change.is_some() && snapshot.reason == Some(Reason::Gated));
        assert_eq!(it.tick(at(11.9)).state, State::Label(CAT), "a gated tick is a fresh frame");
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
    fn lettered(letters: &str) -> Arc<ClassSet> {
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

    #[test]
    fn what_is_held_stays_held_under_its_id() {
        let rules = DecisionRules { smoothing: at(4.0), ..RULES };
        let mut it = Decider::new(rules, lettered("ABc"), Duration::ZERO).unwrap();
        it.observe(at(1.0), &scores(0.1, 0.8, 0.1));
        let (snapshot, change) = relabel(&mut it, "XBAyc", at(2.0));
        assert_eq!((snapshot.state, snapshot.reason, change), (State::Label(1), None, None));
        assert_eq!(snapshot.last_known, Some(LastKnown { class: 1, at: at(1.0) }));
        assert_eq!(snapshot.since, at(1.0));
        assert!((snapshot.score.unwrap() - 0.8).abs() < 1e-12, "the mean goes on");
        assert!(it.gated(at(2.0)).is_none(), "nothing was seen with these classes");
        // Held by `exit`, where it would not be accepted.
        let frame = Distribution::softmax(&[0.0, 0.0, 0.0, 0.0, 3.0]).unwrap();
        let (snapshot, change) = it.observe(at(3.0), &frame);
        assert_eq!((snapshot.state, change), (State::Label(1), None));
        assert!(snapshot.score.unwrap() < RULES.enter);
    }

    #[test]
    fn a_class_that_is_gone_becomes_unknown_at_once_and_cools_down() {
        let rules = DecisionRules { cooldown: at(5.0), ..RULES };
        let mut it = Decider::new(rules, lettered("ABc"), Duration::ZERO).unwrap();
        it.observe(at(1.0), &scores(0.8, 0.1, 0.1));
        let (snapshot, change) = relabel(&mut it, "Bc", at(2.0));
        assert_eq!((snapshot.state, snapshot.reason), (State::Unknown, Some(Reason::Removed)));
        assert_eq!((snapshot.since, snapshot.last_known), (at(2.0), None));
        assert_eq!(change, Some(Change { from: Outcome::Class(0), to: Outcome::Unknown }));
        let b = Distribution::softmax(&[3.0, 0.0]).unwrap();
        let (waiting, change) = it.observe(at(6.9), &b);
        assert_eq!((waiting.reason, change), (Some(Reason::Cooldown), None));
        let (_, change) = it.observe(at(7.0), &b);
        assert_eq!(change, Some(Change { from: Outcome::Unknown, to: Outcome::Class(0) }));
    }

    #[test]
    fn a_label_that_becomes_a_negative_is_another_class() {
        let mut it = Decider::new(RULES, lettered("ABc"), Duration::ZERO).unwrap();
        it.observe(at(1.0), &scores(0.8, 0.1, 0.1));
        let (snapshot, change) = relabel(&mut it, "Bca", at(2.0));
        assert_eq!((snapshot.state, snapshot.last_known), (State::Unknown, None));
        assert!(change.is_some());
    }

    #[test]
    fn a_class_that_goes_during_a_stale_spell_is_told_too() {
        let mut it = Decider::new(RULES, lettered("ABc"), Duration::ZERO).unwrap();
        it.observe(at(1.0), &scores(0.8, 0.1, 0.1));
        it.tick(at(20.0));
        let (snapshot, change) = relabel(&mut it, "Bc", at(21.0));
        assert_eq!((snapshot.state, snapshot.since), (State::Stale, at(20.0)));
        assert_eq!(change, Some(Change { from: Outcome::Class(0), to: Outcome::Unknown }));
        assert_eq!(relabel(&mut it, "ABc", at(22.0)).1, None, "said once");
    }

    #[test]
    fn other_rules_for_the_same_classes_keep_everything() {
        let mut it = decider(DecisionRules { dwell: at(4.0), ..RULES });
        it.observe(at(1.0), &scores(0.8, 0.1, 0.1));
        let rules = DecisionRules { dwell: at(2.0), ..RULES };
        let mut new = Decider::new(rules, classes(), at(2.0)).unwrap();
        assert_eq!(new.take_over(&it, at(2.0)).0.state, State::Unknown);
        let (snapshot, change) = new.gated(at(3.0)).unwrap();
        assert_eq!(snapshot.state, State::Label(CAT), "two seconds since it was first held");
        assert!(change.is_some());
    }

    #[derive(Clone, Debug)]
    enum Input {
        Frame([f64; 3]),
        Gated,
        Nothing,
    }

    fn inputs() -> impl Strategy<Value = Vec<(u64, Input)>> {
        let input = prop_oneof![
            6 => prop::array::uniform3(0.01f64..1.0).prop_map(Input::Frame),
            2 => Just(Input::Gated),
            1 => Just(Input::Nothing),
        ];
        prop::collection::vec((0u64..12_000, input), 1..120)
    }

    fn rules() -> impl Strategy<Value = DecisionRules> {
        let ms = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
        (
            0.3f64..0.9,
            0.0f64..0.4,
            0.0f64..1.0,
            ms(0..8000),
            ms(0..4000),
            ms(0..9000),
            ms(1..20_000),
        )
            .prop_map(|(enter, margin, exit, smoothing, dwell, cooldown, stale_after)| {
                let exit = exit * enter;
                DecisionRules { enter, margin, exit, smoothing, dwell, cooldown, stale_after }
            })
    }

    /// Feeds the inputs and calls `check` after each with the time, whether a frame came, the
    /// snapshot and the change.
    fn drive(
        rules: DecisionRules,
        inputs: &[(u64, Input)],
        mut check: impl FnMut(Duration, bool, &Snapshot, Option<Change>),
    ) {
        let mut it = decider(rules);
        let mut now = Duration::ZERO;
        for (elapsed_ms, input) in inputs {
            now += Duration::from_millis(*elapsed_ms);
            let ticked = it.tick(now);
            check(now, false, &ticked, None);
            let stepped = match input {
                Input::Frame([a, b, c]) => Some(it.observe(now, &scores(*a, *b, *c))),
                Input::Gated => it.gated(now),
                Input::Nothing => None,
            };
            if let Some((snapshot, change)) = stepped {
                check(now, true, &snapshot, change);
            }
        }
    }

    proptest! {
        #[test]
        fn no_event_within_the_cooldown_and_events_chain(rules in rules(), inputs in inputs()) {
            let mut last: Option<(Duration, Outcome)> = None;
            drive(rules, &inputs, |now, _, _, change| {
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

        #[test]
        fn a_label_appears_above_enter_and_goes_below_exit(rules in rules(), inputs in inputs()) {
            let rules = DecisionRules { dwell: Duration::ZERO, cooldown: Duration::ZERO, ..rules };
            let mut before = State::Stale;
            drive(rules, &inputs, |_, _, snapshot, _| {
                if let (State::Label(idx), false) = (snapshot.state, before == snapshot.state) {
                    assert!(rules.enter <= snapshot.score.unwrap(), "{idx} {snapshot:?}");
                    assert!(rules.margin <= snapshot.margin.unwrap());
                }
                if let State::Label(_) | State::None(_) = snapshot.state {
                    assert!(rules.exit <= snapshot.score.unwrap());
                }
                before = snapshot.state;
            });
        }

        #[test]
        fn stale_exactly_when_no_frame_came(rules in rules(), inputs in inputs()) {
            let mut frame_at = None;
            drive(rules, &inputs, |now, is_frame, snapshot, _| {
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
                (state(it, snapshot.state), snapshot.score, snapshot.margin, snapshot.since, known, change)
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
                let of_swapped = |it: &Distribution| if n < at_input { it.clone() } else { it.remap(&to, 3) };
                let ticked = (plain.tick(now), None);
                prop_assert_eq!(told(&plain, ticked), told(&swapped, (swapped.clone().tick(now), None)));
                swapped.tick(now);
                let stepped = match input {
                    Input::Frame([a, b, c]) => Some(scores(*a, *b, *c)),
                    Input::Gated => None,
                    Input::Nothing => continue,
                };
                let (one, other) = match stepped {
                    Some(frame) => {
                        last = Some(frame.clone());
                        (plain.observe(now, &frame), swapped.observe(now, &of_swapped(&frame)))
                    }
                    None => {
                        let Some(one) = plain.gated(now) else { continue };
                        // Where there is nothing to repeat the frame is evaluated, and shows the same.
                        let again = last.clone().unwrap();
                        let other = swapped.gated(now);
                        (one, other.unwrap_or_else(|| swapped.observe(now, &of_swapped(&again))))
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
                    it.observe(now, &Distribution::softmax(&logits[..n_classes]).unwrap())
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
                let Input::Frame([a, b, c]) = input else { continue };
                let fused = scores(a, b, c);
                let expected = it.judge(&fused).accepted.map_or(State::Unknown, |i| it.state_of(i));
                prop_assert_eq!(it.observe(at(1.0), &fused).0.state, expected);
            }
        }
    }
}
