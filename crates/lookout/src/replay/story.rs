//! A timeline in words, line by line.

use lookout_core::{ClassSet, Outcome, State};
use lookout_replay::{Event, Judged, Spell, Timeline, reason_words, state_words, truth_words};

/// Spells and announcements in order of time, then what was missed.
pub(super) fn lines(
    timeline: &Timeline,
    judged: Option<&Judged>,
    classes: &ClassSet,
) -> Vec<String> {
    let mark = |event: usize| match judged.is_some_and(|it| it.is_false_alarm(event)) {
        true => "  FALSE ALARM",
        false => "  announced",
    };
    let alone = |(idx, event): (usize, &Event)| {
        let to = match event.to {
            Outcome::Class(idx) => state_words(State::Label(idx), classes),
            Outcome::Unknown => state_words(State::Unknown, classes),
        };
        format!("{:>9.1} s  {:>10}  {to}{}", event.at.as_secs_f64(), "", mark(idx))
    };
    let mut lines = Vec::new();
    let mut events = timeline.events().iter().enumerate().peekable();
    let spells = timeline.spells();
    for (idx, spell) in spells.iter().enumerate() {
        while let Some(event) = events.next_if(|it| it.1.at < spell.from) {
            lines.push(alone(event));
        }
        let until = spells.get(idx + 1).map_or(timeline.end(), |it| it.from);
        let mut line = format!(
            "{:>9.1} s  {:>8.1} s  {}",
            spell.from.as_secs_f64(),
            until.saturating_sub(spell.from).as_secs_f64(),
            state_words(spell.state, classes)
        );
        if let Some(score) = spell.score {
            line += &format!(", score {score:.2}");
        }
        if let Some(sigma) = spell.sigma {
            line += &format!(", {sigma:.1} sigma");
        }
        if let Some(reason) = spell.reason {
            line += &format!(", {}", reason_words(reason));
        }
        // It began with what was announced, as a rule.
        if let Some((event, _)) = events.next_if(|it| it.1.at == spell.from && is_of(it.1, spell)) {
            line += mark(event);
        }
        lines.push(line);
    }
    lines.extend(events.map(alone));
    let missed = judged.into_iter().flat_map(|it| &it.true_changes).filter(|it| it.delay.is_none());
    lines.extend(missed.map(|it| {
        format!("{:>9.1} s  {} was MISSED", it.at.as_secs_f64(), truth_words(it.to, classes))
    }));
    lines
}

/// Whether the event says what the spell shows.
fn is_of(event: &Event, spell: &Spell) -> bool {
    match spell.state {
        State::Label(idx) | State::None(idx) => event.to == Outcome::Class(idx),
        State::Unknown => event.to == Outcome::Unknown,
        State::Stale => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lookout_core::{Change, Class, ClassKind, Id, Snapshot};
    use lookout_replay::{Figures, Truth};

    use super::*;

    #[test]
    fn every_announcement_has_its_line_in_order() {
        let class = |id: &str, kind, name: &str| Class {
            id: Id::new(id).unwrap(),
            kind,
            name: name.to_owned(),
            aliases: vec![],
            prompts: vec![],
            enter: None,
        };
        let classes = vec![
            class("cat", ClassKind::Label, "a cat"),
            class("empty", ClassKind::Negative, "an empty yard"),
        ];
        let classes = ClassSet::new(vec!["{}".to_owned()], classes).unwrap();
        let mut timeline = Timeline::default();
        timeline.tell(Duration::ZERO, Truth::NoLabel);
        let (cat, empty) = (Outcome::Class(0), Outcome::Class(1));
        for (at, state, change) in [
            (0, State::Stale, None),
            (1, State::Unknown, None),
            (4, State::Unknown, Some((cat, Outcome::Unknown))),
            (6, State::Label(0), Some((Outcome::Unknown, cat))),
            (9, State::None(1), None),
            (10, State::None(1), Some((cat, empty))),
        ] {
            let at = Duration::from_secs(at);
            let snapshot = Snapshot {
                state,
                score: None,
                margin: None,
                sigma: None,
                reason: None,
                since: at,
                last_known: None,
            };
            timeline.decide(at, &snapshot, change.map(|(from, to)| Change { from, to }));
        }
        timeline.tell(Duration::from_secs(11), Truth::Label(0));
        timeline.advance(Duration::from_secs(12));
        let figures = Figures::of(&timeline, Duration::ZERO);
        assert_eq!(
            lines(&timeline, figures.judged.as_ref(), &classes),
            [
                "      0.0 s       1.0 s  stale",
                "      1.0 s       5.0 s  unknown",
                "      4.0 s              unknown  announced",
                "      6.0 s       3.0 s  a cat  FALSE ALARM",
                "      9.0 s       3.0 s  none (an empty yard)",
                "     10.0 s              none (an empty yard)  announced",
                "     11.0 s  a cat was MISSED",
            ]
        );
    }
}
