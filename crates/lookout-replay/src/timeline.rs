//! What a camera showed and what was right, in order of time.

use std::ops::Range;
use std::time::Duration;

use lookout_core::{Change, Outcome, Reason, Snapshot, State};

/// What is right at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// Nobody said.
    Unsaid,
    /// No label: a negative or anything else.
    NoLabel,
    /// This label, by its position among the classes.
    Label(usize),
}

/// A state and how it began. It lasts until the next one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spell {
    /// When it began.
    pub from: Duration,
    /// The state.
    pub state: State,
    /// The score at that moment; `None` without a frame.
    pub score: Option<f64>,
    /// The lead over the best other class.
    pub margin: Option<f64>,
    /// How far above the scene's background, in deviations; `None` where that is not known.
    pub sigma: Option<f64>,
    /// What held something else back.
    pub reason: Option<Reason>,
}

/// An announced change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// When it was announced.
    pub at: Duration,
    /// What the event before said.
    pub from: Outcome,
    /// What this one says.
    pub to: Outcome,
    /// The score of the state that it led to.
    pub score: Option<f64>,
    /// Its lead.
    pub margin: Option<f64>,
    /// How far above the scene's background, in deviations; `None` where that is not known.
    pub sigma: Option<f64>,
}

/// A recording as one camera would have shown it. Times start at zero and never go back; one that
/// does counts as the last one again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    spells: Vec<Spell>,
    truths: Vec<(Duration, Truth)>,
    events: Vec<Event>,
    end: Duration,
}

impl Timeline {
    /// From `at` on, `truth` is right, until the next is told.
    pub fn tell(&mut self, at: Duration, truth: Truth) {
        let at = self.advance(at);
        if self.truths.last().is_some_and(|it| it.0 == at) {
            self.truths.pop();
        }
        if self.truths.last().map_or(Truth::Unsaid, |it| it.1) != truth {
            self.truths.push((at, truth));
        }
    }

    /// A camera's state after a decision, and the change that was announced with it.
    pub fn decide(&mut self, at: Duration, snapshot: &Snapshot, change: Option<Change>) {
        let at = self.advance(at);
        let Snapshot { state, score, margin, sigma, reason, .. } = *snapshot;
        if self.spells.last().is_some_and(|it| it.from == at && it.state != state) {
            self.spells.pop();
        }
        if self.spells.last().is_none_or(|it| it.state != state) {
            self.spells.push(Spell { from: at, state, score, margin, sigma, reason });
        }
        if let Some(Change { from, to }) = change {
            self.events.push(Event { at, from, to, score, margin, sigma });
        }
    }

    /// The recording goes on to `at`.
    pub fn advance(&mut self, at: Duration) -> Duration {
        self.end = self.end.max(at);
        self.end
    }

    /// Each state that was shown, neighbours differing.
    pub fn spells(&self) -> &[Spell] {
        &self.spells
    }

    /// When what was right changed, and to what. Before the first, nobody said.
    pub fn truths(&self) -> &[(Duration, Truth)] {
        &self.truths
    }

    /// What was announced.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How long the recording is: to its last frame.
    pub fn end(&self) -> Duration {
        self.end
    }

    /// What is right at `at`.
    pub fn truth_at(&self, at: Duration) -> Truth {
        self.truth_around(at).1
    }

    /// The state at `at`: stale before the first.
    pub fn state_at(&self, at: Duration) -> State {
        self.state_around(at).1
    }

    /// What is right at `at`, and from when to when.
    pub(crate) fn truth_around(&self, at: Duration) -> (Range<Duration>, Truth) {
        let behind = self.truths.partition_point(|it| it.0 <= at);
        let until = self.truths.get(behind).map_or(self.end, |it| it.0);
        let (from, truth) = match behind.checked_sub(1) {
            Some(it) => self.truths[it],
            None => (Duration::ZERO, Truth::Unsaid),
        };
        (from..until, truth)
    }

    /// The state at `at`, and from when to when.
    pub(crate) fn state_around(&self, at: Duration) -> (Range<Duration>, State) {
        let behind = self.spells.partition_point(|it| it.from <= at);
        let until = self.spells.get(behind).map_or(self.end, |it| it.from);
        let (from, state) = match behind.checked_sub(1) {
            Some(it) => (self.spells[it].from, self.spells[it].state),
            None => (Duration::ZERO, State::Stale),
        };
        (from..until, state)
    }
}
