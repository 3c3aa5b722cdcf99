//! From fused distributions to a state that an automation may act on: one machine a camera,
//! pure, on an injected clock.
//!
//! In this order: exponentially weighted mean over time → accept the top class by `enter` and
//! `margin`, and where the scene's background is known only above its bounds → hold it until below
//! `exit` or a bound's → `dwell` before it is announced → `cooldown` between events. Time is the
//! monotonic time of the caller; it must not go back.
//!
//! The bounds are for labels. A negative is what the background looks like, so none is asked of it.

use std::sync::Arc;
use std::time::Duration;

use crate::{Background, ClassKind, ClassSet};

use seen::Seen;

mod memory;
mod rules;
mod seen;

pub use memory::{Memory, Remembered};
pub use rules::{Bound, DecisionRules, InvalidRules};
pub use seen::Observation;

/// What one observation says by itself.
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
    /// The top class is a label, and the picture is not far enough above the scene's background, or
    /// too much like other everyday things.
    Background,
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
    pub at: When,
}

/// A moment of this run of the program, or of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Of this run, on the monotonic clock.
    Here(Duration),
    /// Of an earlier run, since the Unix epoch; `None`: the clock was not synchronized.
    Earlier(Option<Duration>),
}

/// So long before a moment of this run, which may be before its begin.
#[derive(Clone, Copy, Debug)]
struct Past {
    at: Duration,
    before: Duration,
}

impl Past {
    fn elapsed(self, now: Duration) -> Duration {
        now.saturating_sub(self.at).saturating_add(self.before)
    }
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
    /// Its cosine in deviations above its background, smoothed; `None` where that is unknown.
    pub sigma: Option<f64>,
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
    /// What the sigmas that are seen are measured from.
    background: Background,
    /// The bound in sigmas of each class.
    bounds: Vec<Option<Bound>>,
    /// The mean over time, and when it was last updated. `None` while stale.
    smoothed: Option<(Seen, Duration)>,
    last: Option<Seen>,
    last_frame_at: Duration,
    /// Accepted and not yet below `exit`, and since when.
    held: (Outcome, Duration),
    announced: Outcome,
    last_event: Outcome,
    last_event_at: Option<Past>,
    state: State,
    since: Duration,
    last_known: Option<LastKnown>,
}

impl Decider {
    /// Starts stale at `now`: nothing was seen yet.
    pub fn new(
        rules: DecisionRules,
        classes: Arc<ClassSet>,
        now: Duration,
    ) -> Result<Self, InvalidRules> {
        rules.check(&classes)?;
        let n_classes = classes.classes().len();
        let bounds = vec![rules.sigmas; n_classes];
        Ok(Self {
            rules,
            classes,
            background: Background::unknown(n_classes),
            bounds,
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

    /// With the bounds that were found for this scene, where the rules give none. `background` is over
    /// the same classes.
    #[must_use]
    pub fn on(mut self, background: &Background) -> Self {
        debug_assert_eq!(self.bounds.len(), background.classes().len());
        for (bound, class) in self.bounds.iter_mut().zip(background.classes()) {
            *bound = bound.or(class.and_then(|it| it.bound));
        }
        self.background = background.clone();
        self
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
    /// snapshot over those of this machine. After other classes or bounds the next frame must be
    /// evaluated, because there is nothing over these to repeat.
    pub fn take_over(&mut self, old: &Self, now: Duration) -> (Snapshot, Option<Change>) {
        let to = old.classes.positions_in(&self.classes);
        let map = |outcome: Outcome| match outcome {
            Outcome::Class(idx) => to[idx].map_or(Outcome::Unknown, Outcome::Class),
            Outcome::Unknown => Outcome::Unknown,
        };
        let is_same = self.classes == old.classes
            && self.bounds == old.bounds
            && self.background == old.background;
        let (from, into) = (old.background.classes(), self.background.classes());
        let keeps =
            |idx: usize, new: usize| from[idx] == into[new] && old.bounds[idx] == self.bounds[new];
        let n_classes = self.classes.classes().len();
        let remap = |it: &Seen| it.remap(&to, n_classes, keeps);
        let smoothed = old.smoothed.as_ref().map(|(mean, at)| (remap(mean), *at));
        self.smoothed = smoothed;
        self.last = old.last.clone().filter(|_| is_same);
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
            self.last_event_at = Some(Past { at: now, before: Duration::ZERO });
        }
        (self.snapshot(change.map(|_| Reason::Removed)), change)
    }

    /// What `seen` says by itself: `enter`, `margin` and the bounds, no memory. It is over this
    /// machine's classes.
    pub fn judge(&self, seen: Observation<'_>) -> Verdict {
        let (top, margin) = seen.fused.top();
        let score = seen.fused.probabilities()[top];
        let enter = self.classes.classes()[top].enter.unwrap_or(self.rules.enter);
        let reason = if score < enter {
            Some(Reason::LowScore)
        } else if margin < self.rules.margin {
            Some(Reason::LowMargin)
        } else if !self.is_above(top, seen, |it| it.enter) {
            Some(Reason::Background)
        } else {
            None
        };
        Verdict { accepted: reason.is_none().then_some(top), top, score, margin, reason }
    }

    /// Whether class `idx` reaches one end of each bound that it has. What is unknown hinders nothing.
    fn is_above(&self, idx: usize, seen: Observation<'_>, end: fn(Bound) -> f64) -> bool {
        let reaches = |value: Option<f64>, bound: Option<Bound>| match (value, bound) {
            (Some(value), Some(bound)) => end(bound) <= value,
            _ => true,
        };
        self.classes.classes()[idx].kind == ClassKind::Negative
            || reaches(seen.sigma(idx), self.bounds[idx])
                && reaches(seen.familiarity, self.rules.familiarity)
    }

    /// The state that was last given.
    pub fn state(&self) -> State {
        self.state
    }

    /// The state of class `idx` on top.
    pub fn state_of(&self, idx: usize) -> State {
        match self.classes.classes()[idx].kind {
            ClassKind::Label => State::Label(idx),
            ClassKind::Negative => State::None(idx),
        }
    }

    /// A frame was evaluated.
    pub fn observe(&mut self, now: Duration, seen: Observation<'_>) -> (Snapshot, Option<Change>) {
        self.last = Some(Seen::of(seen));
        self.step(now, seen, None)
    }

    /// A frame came and showed nothing new: the last one is repeated. `None` when the frame must be
    /// evaluated: there is none to repeat, something is held that is not announced, or would be, or
    /// would be announced. So no event rests on one frame that a still scene prolongs.
    pub fn gated(&mut self, now: Duration) -> Option<(Snapshot, Option<Change>)> {
        let last = self.last.clone().filter(|_| !self.is_pending())?;
        let mut repeated = self.clone();
        let (snapshot, change) = repeated.step(now, last.observation(), Some(Reason::Gated));
        if change.is_some() || repeated.is_pending() || repeated.announced != self.announced {
            return None;
        }
        *self = repeated;
        Some((snapshot, None))
    }

    /// Whether something is held that is not announced: a change that waits for its dwell, or for the
    /// cooldown to end.
    pub fn is_pending(&self) -> bool {
        !(self.held.0 == self.announced && self.held.0 == self.last_event)
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
        seen: Observation<'_>,
        idle_reason: Option<Reason>,
    ) -> (Snapshot, Option<Change>) {
        self.last_frame_at = now;
        if self.smoothed.is_none() {
            // The first frame after a start or a stale spell: what it shows begins with it.
            self.held.1 = now;
        }
        let smoothed = match self.smoothed.take() {
            None => Seen::of(seen),
            Some((mean, at)) => mean.mix(seen, self.weight(now.saturating_sub(at))),
        };
        let mean = smoothed.observation();
        let verdict = self.judge(mean);
        let stays = |idx: usize| {
            self.rules.exit <= mean.fused.probabilities()[idx]
                && self.is_above(idx, mean, |it| it.exit)
        };
        let held = match self.held.0 {
            Outcome::Class(idx) if stays(idx) => self.held.0,
            _ => verdict.accepted.map_or(Outcome::Unknown, Outcome::Class),
        };
        self.smoothed = Some((smoothed, now));
        if held != self.held.0 {
            self.held = (held, now);
        }
        let (change, waits_for) = self.announce(now);
        if let Outcome::Class(class) = self.announced {
            self.last_known = Some(LastKnown { class, at: When::Here(now) });
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
        if !self.is_pending() {
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
        if self.is_negative(held) && self.is_negative(self.last_event) {
            // No label before, none now: which negative it is, nobody is told.
            (self.announced, self.last_event) = (held, held);
            return (None, None);
        }
        let cools = |at: Past| at.elapsed(now) < self.rules.cooldown;
        if self.last_event_at.is_some_and(cools) {
            return (None, Some(Reason::Cooldown));
        }
        let change = Change { from: self.last_event, to: held };
        self.announced = held;
        self.last_event = held;
        self.last_event_at = Some(Past { at: now, before: Duration::ZERO });
        (Some(change), None)
    }

    fn is_negative(&self, outcome: Outcome) -> bool {
        matches!(outcome, Outcome::Class(idx) if self.classes.classes()[idx].kind == ClassKind::Negative)
    }

    fn enter_state(&mut self, now: Duration, state: State) {
        let is_same = matches!((self.state, state), (State::None(_), State::None(_)));
        if self.state != state && !is_same {
            self.since = now;
        }
        self.state = state;
    }

    fn snapshot(&self, reason: Option<Reason>) -> Snapshot {
        let seen = self.smoothed.as_ref().map(|(smoothed, _)| {
            let seen = smoothed.observation();
            let idx = match self.announced {
                Outcome::Class(idx) => idx,
                Outcome::Unknown => seen.fused.top().0,
            };
            (seen.fused.probabilities()[idx], seen.fused.lead(idx), seen.sigma(idx))
        });
        Snapshot {
            state: self.state,
            score: seen.map(|it| it.0),
            margin: seen.map(|it| it.1),
            sigma: seen.and_then(|it| it.2),
            reason,
            since: self.since,
            last_known: self.last_known,
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
