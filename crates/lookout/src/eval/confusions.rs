//! Which class is taken for which, by one variant.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use lookout_core::{Class, ClassSet};
use serde::Serialize;

use super::stream::Run;
use crate::output;

/// Most confusions that the text has; JSON has all.
const MOST_SHOWN: usize = 10;

/// Top-1 of a variant by class.
#[derive(Serialize)]
pub(super) struct Confusions {
    /// The variant.
    by: &'static str,
    /// Of every class, in their order. The pictures of all are those that are scored.
    classes: Vec<OfClass>,
    /// The most frequent first, of equals by class.
    pairs: Vec<Pair>,
}

/// Pictures count under the class that they show; of several, under the one that scores highest.
#[derive(Serialize)]
struct OfClass {
    id: String,
    name: String,
    n: usize,
    right: usize,
}

/// Pictures of one class with another on top.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Pair {
    /// Ids.
    class: String,
    taken_for: String,
    n: usize,
}

impl Confusions {
    /// Of the pictures at `scored` by the last variant that does not adapt; `None` without variants.
    pub(super) fn of(runs: &[Run], set: &ClassSet, scored: &[usize]) -> Option<Self> {
        let run = runs.iter().rfind(|it| !it.variant.adapts)?;
        let answers = scored.iter().map(|it| &run.answers[*it]);
        let answers = answers.filter_map(|it| Some((it.best_right?, it.top)));
        Some(Self::count(run.variant.name, set, answers))
    }

    /// Counts answers: the right class, and the one on top.
    fn count(
        by: &'static str,
        set: &ClassSet,
        answers: impl Iterator<Item = (usize, usize)>,
    ) -> Self {
        let class =
            |it: &Class| OfClass { id: it.id.to_string(), name: it.name.clone(), n: 0, right: 0 };
        let mut classes: Vec<OfClass> = set.classes().iter().map(class).collect();
        let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (right, top) in answers {
            classes[right].n += 1;
            if right == top {
                classes[right].right += 1;
            } else {
                *counts.entry((right, top)).or_default() += 1;
            }
        }
        let id = |at: usize| classes[at].id.clone();
        let pair = |((class, top), n)| Pair { class: id(class), taken_for: id(top), n };
        let mut pairs: Vec<Pair> = counts.into_iter().map(pair).collect();
        pairs.sort_by_key(|it| Reverse(it.n));
        Self { by, classes, pairs }
    }

    /// Lines for people; none where nothing is taken for another.
    pub(super) fn lines(&self) -> Vec<String> {
        if self.pairs.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![format!("confusions by {}, the most frequent first:", self.by)];
        let class = |id: &str| self.classes.iter().find(|it| it.id == id);
        // By name, as it was given; an id where several have it.
        let shown = |id: &str| {
            let name = class(id).map_or(id, |it| &it.name);
            let is_alone = self.classes.iter().filter(|it| it.name == name).count() < 2;
            output::one_line(if is_alone { name } else { id })
        };
        for Pair { class: id, taken_for, n } in self.pairs.iter().take(MOST_SHOWN) {
            let of = class(id).map_or(0, |it| it.n);
            lines.push(format!("  {} taken for {}: {n} of {of}", shown(id), shown(taken_for)));
        }
        let more = self.pairs.len().saturating_sub(MOST_SHOWN);
        if 0 < more {
            lines.push(format!("  and {more} more; --json has all"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use lookout_core::{ClassKind, DEFAULT_TEMPLATE, Id};

    use super::*;

    fn set(names: &[&str]) -> ClassSet {
        let class = |(at, name): (usize, &&str)| Class {
            id: Id::new(format!("c{at}")).unwrap(),
            kind: ClassKind::Label,
            name: (*name).to_owned(),
            aliases: vec![],
            prompts: vec![],
            enter: None,
        };
        let classes = names.iter().enumerate().map(class).collect();
        ClassSet::new(vec![DEFAULT_TEMPLATE.to_owned()], classes).unwrap()
    }

    #[test]
    fn the_most_frequent_come_first_and_each_with_the_pictures_of_its_class() {
        let set = set(&["crane", "crane", "dog"]);
        let answers = [(2, 2), (0, 1), (2, 0), (2, 0), (0, 2), (2, 1)];
        let it = Confusions::count("pooled", &set, answers.into_iter());
        let counts: Vec<(usize, usize)> = it.classes.iter().map(|it| (it.n, it.right)).collect();
        assert_eq!(counts, [(2, 0), (0, 0), (4, 1)]);
        let expected = [
            "confusions by pooled, the most frequent first:",
            "  dog taken for c0: 2 of 4",
            "  c0 taken for c1: 1 of 2",
            "  c0 taken for dog: 1 of 2",
            "  dog taken for c1: 1 of 4",
        ];
        assert_eq!(it.lines(), expected);
        assert!(Confusions::count("pooled", &set, [(2, 2)].into_iter()).lines().is_empty());
    }

    #[test]
    fn the_text_has_ten() {
        let names: Vec<String> = (0..13).map(|it| format!("class {it}")).collect();
        let set = set(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let it = Confusions::count("pooled", &set, (1..13).map(|it| (0, it)));
        let lines = it.lines();
        assert_eq!((it.pairs.len(), lines.len()), (12, 12));
        assert_eq!(lines[10], "  class 0 taken for class 10: 1 of 12");
        assert_eq!(lines[11], "  and 2 more; --json has all");
    }
}
