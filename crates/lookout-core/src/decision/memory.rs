//! What a machine of decisions knows in the next run of the program.

use std::sync::Arc;
use std::time::Duration;

use super::{Decider, DecisionRules, LastKnown, Outcome, Past, When};
use crate::{Class, ClassKind, ClassSet, DEFAULT_TEMPLATE, Id, Stamp};

/// A class as an earlier run knew it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Its id.
    pub id: Id,
    /// Label or negative.
    pub kind: ClassKind,
    /// What it was called.
    pub name: String,
}

/// What was said of a camera in an earlier run. Times are since the Unix epoch, and `None` where the
/// clock was not synchronized.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What the last event said, `None` for unknown, and when; `None`: there was no event.
    pub last_event: Option<(Option<Remembered>, Option<Duration>)>,
    /// The class last announced, and when it was last confirmed.
    pub last_known: Option<(Remembered, Option<Duration>)>,
}

impl Decider {
    /// What the next run is to know of this one, which is at `at`.
    pub fn memory(&self, at: Stamp) -> Memory {
        let class = |idx: usize| {
            let Class { id, kind, name, .. } = &self.classes.classes()[idx];
            Remembered { id: id.clone(), kind: *kind, name: name.clone() }
        };
        let outcome = |it: Outcome| match it {
            Outcome::Class(idx) => Some(class(idx)),
            Outcome::Unknown => None,
        };
        let wall = |past: Past| at.at(past.at).wall.and_then(|it| it.checked_sub(past.before));
        let known = |it: LastKnown| {
            let when = match it.at {
                When::Here(mono) => at.at(mono).wall,
                When::Earlier(wall) => wall,
            };
            (class(it.class), when)
        };
        Memory {
            last_event: self.last_event_at.map(|past| (outcome(self.last_event), wall(past))),
            last_known: self.last_known.map(known),
        }
    }

    /// A machine that has said what `memory` says and has seen nothing since, to be taken over at `at`
    /// by one that decides between today's classes: what was said is no news then, and a class that
    /// exists no more ends with an event. The cooldown goes on by the wall clock where that is known for
    /// both ends, and otherwise begins anew. `None` where nothing was said.
    pub fn remembering(rules: DecisionRules, memory: &Memory, at: Stamp) -> Option<Self> {
        let said = memory.last_event.as_ref().and_then(|it| it.0.as_ref());
        let known = memory.last_known.as_ref().map(|it| &it.0);
        let mut classes: Vec<Class> = Vec::new();
        for it in said.into_iter().chain(known) {
            if classes.iter().all(|other| other.id != it.id) {
                classes.push(class(it));
            }
        }
        if memory.last_event.is_none() && classes.is_empty() {
            return None;
        }
        // A set needs a label, and a second class; nothing was ever said of these.
        let others = ["a", "b", "c", "d"].into_iter().filter_map(|it| Id::new(it).ok());
        let free: Vec<Id> =
            others.filter(|it| classes.iter().all(|class| class.id != *it)).collect();
        classes.extend(free.into_iter().take(2).map(|id| {
            let name = id.to_string();
            class(&Remembered { id, kind: ClassKind::Label, name })
        }));
        let classes = Arc::new(ClassSet::new(vec![DEFAULT_TEMPLATE.to_owned()], classes).ok()?);
        let position = |it: &Remembered| {
            classes.classes().iter().position(|class| class.id == it.id && class.kind == it.kind)
        };
        let mut machine = Self::new(rules, Arc::clone(&classes), at.mono).ok()?;
        if let Some((said, then)) = &memory.last_event {
            machine.last_event =
                said.as_ref().and_then(position).map_or(Outcome::Unknown, Outcome::Class);
            let before = at.wall.zip(*then).map(|(now, then)| now.saturating_sub(then));
            machine.last_event_at = Some(Past { at: at.mono, before: before.unwrap_or_default() });
        }
        machine.last_known = memory.last_known.as_ref().and_then(|(known, when)| {
            Some(LastKnown { class: position(known)?, at: When::Earlier(*when) })
        });
        Some(machine)
    }

    /// The rules that it decides by.
    pub fn rules(&self) -> DecisionRules {
        self.rules
    }
}

fn class(it: &Remembered) -> Class {
    Class {
        id: it.id.clone(),
        kind: it.kind,
        name: it.name.clone(),
        aliases: vec![],
        prompts: vec![],
        enter: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::super::{Change, Reason, Snapshot, State};
    use super::*;

    fn stamp(mono: f64, wall: Option<f64>) -> Stamp {
        Stamp { mono: at(mono), wall: wall.map(at) }
    }

    fn rules() -> DecisionRules {
        DecisionRules { cooldown: at(10.0), ..RULES }
    }

    /// The next run, which begins at `now`, with these classes.
    fn restart(memory: &Memory, letters: &str, now: Stamp) -> (Decider, Snapshot, Option<Change>) {
        let mut new = Decider::new(rules(), lettered(letters), now.mono).unwrap();
        let old = Decider::remembering(rules(), memory, now).unwrap();
        let (snapshot, change) = new.take_over(&old, now.mono);
        (new, snapshot, change)
    }

    /// A run that says `B` at 1 s, wall time 1001 s.
    fn said_b() -> Memory {
        let mut it = Decider::new(rules(), lettered("ABc"), at(0.0)).unwrap();
        assert_eq!(it.memory(stamp(0.5, Some(1000.5))), Memory::default());
        it.observe(at(1.0), plain(&scores(0.1, 0.8, 0.1)));
        it.observe(at(3.0), plain(&scores(0.1, 0.8, 0.1)));
        let memory = it.memory(stamp(4.0, Some(1004.0)));
        let b =
            Remembered { id: Id::new("b").unwrap(), kind: ClassKind::Label, name: "B".to_owned() };
        assert_eq!(memory.last_event, Some((Some(b.clone()), Some(at(1001.0)))));
        assert_eq!(memory.last_known, Some((b, Some(at(1003.0)))));
        memory
    }

    #[test]
    fn the_same_again_is_no_event_and_another_is_one() {
        let memory = said_b();
        let (mut it, snapshot, change) = restart(&memory, "BAc", stamp(0.5, Some(1020.0)));
        assert_eq!((snapshot.state, snapshot.score, change), (State::Stale, None, None));
        let known = LastKnown { class: 0, at: When::Earlier(Some(at(1003.0))) };
        assert_eq!(snapshot.last_known, Some(known));
        let (same, change) = it.clone().observe(at(1.0), plain(&scores(0.8, 0.1, 0.1)));
        assert_eq!((same.state, change), (State::Label(0), None));
        let (other, change) = it.observe(at(1.0), plain(&scores(0.1, 0.8, 0.1)));
        assert_eq!(other.state, State::Label(1));
        assert_eq!(change, Some(Change { from: Outcome::Class(0), to: Outcome::Class(1) }));
        assert_eq!(it.observe(at(2.0), plain(&scores(0.1, 0.8, 0.1))).1, None, "one event");
    }

    #[test]
    fn the_cooldown_goes_on_by_the_wall_clock_and_else_begins_anew() {
        let memory = said_b();
        let waits = |now: Stamp, seconds: f64| {
            let (mut it, ..) = restart(&memory, "ABc", now);
            it.observe(at(seconds), plain(&scores(0.8, 0.1, 0.1))).0.reason
                == Some(Reason::Cooldown)
        };
        // Six seconds of ten are over.
        let now = stamp(0.5, Some(1007.0));
        assert!(waits(now, 4.4) && !waits(now, 4.5));
        let unknown = stamp(0.5, None);
        assert!(waits(unknown, 10.4) && !waits(unknown, 10.5));
        let turned_back = stamp(0.5, Some(900.0));
        assert!(waits(turned_back, 10.4) && !waits(turned_back, 10.5));
        let mut timeless = memory.clone();
        timeless.last_event.as_mut().unwrap().1 = None;
        let (mut it, ..) = restart(&timeless, "ABc", now);
        let (snapshot, _) = it.observe(at(10.4), plain(&scores(0.8, 0.1, 0.1)));
        assert_eq!(snapshot.reason, Some(Reason::Cooldown));
        // Killed before the first frame: nothing is lost.
        let (it, ..) = restart(&memory, "ABc", now);
        assert_eq!(it.memory(stamp(3.0, Some(1009.5))), memory);
    }

    #[test]
    fn a_class_that_is_gone_ends_with_one_event() {
        let memory = said_b();
        for letters in ["Ac", "Ab"] {
            let now = stamp(0.5, Some(1020.0));
            let (it, snapshot, change) = restart(&memory, letters, now);
            assert_eq!((snapshot.state, snapshot.reason), (State::Stale, Some(Reason::Removed)));
            assert_eq!(snapshot.last_known, None);
            let old = Decider::remembering(rules(), &memory, now).unwrap();
            let Some(Change { from: Outcome::Class(idx), to: Outcome::Unknown }) = change else {
                panic!("{change:?}")
            };
            assert_eq!(old.classes().classes()[idx].name, "B");
            let again = it.memory(stamp(1.0, Some(1020.5)));
            assert_eq!(again.last_event, Some((None, Some(at(1020.0)))));
            assert_eq!(restart(&again, letters, now).2, None, "said once");
        }
    }

    #[test]
    fn unknown_and_a_label_before_it_are_both_remembered() {
        let mut it = Decider::new(RULES, lettered("ABc"), at(0.0)).unwrap();
        it.observe(at(1.0), plain(&scores(0.1, 0.1, 0.8)));
        it.observe(at(2.0), plain(&scores(0.34, 0.33, 0.33)));
        let memory = it.memory(stamp(3.0, None));
        assert_eq!(memory.last_event, Some((None, None)));
        let (next, snapshot, change) = restart(&memory, "ABc", stamp(0.0, None));
        assert_eq!(change, None);
        assert_eq!(snapshot.last_known.unwrap().class, 2);
        assert_eq!(next.memory(stamp(1.0, None)), memory);
        assert!(Decider::remembering(RULES, &Memory::default(), stamp(0.0, None)).is_none());
    }
}
