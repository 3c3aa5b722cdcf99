//! From fused distributions to a state that an automation may act on: one machine a camera,
//! pure, on an injected clock.
//!
//! In this order: exponentially weighted mean over time → accept the top class by `enter` and
//! `margin` → hold it until below `exit` → `dwell` before it is announced → `cooldown` between
//! events. Time is the monotonic time of the caller; it must not go back.

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

/// An announced change. Never within `cooldown` of the one before.
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
    enters: Vec<f64>,
    kinds: Vec<ClassKind>,
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
        classes: &ClassSet,
        now: Duration,
    ) -> Result<Self, InvalidRules> {
        rules.check(classes)?;
        Ok(Self {
            rules,
            enters: classes.classes().iter().map(|it| it.enter.unwrap_or(rules.enter)).collect(),
            kinds: classes.classes().iter().map(|it| it.kind).collect(),
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

    /// What `distribution` says by itself: `enter` and `margin`, no memory. The distribution is
    /// over this machine's classes.
    pub fn judge(&self, distribution: &Distribution) -> Verdict {
        let (top, margin) = distribution.top();
        let score = distribution.probabilities()[top];
        let reason = if score < self.enters[top] {
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
        match self.kinds[idx] {
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
