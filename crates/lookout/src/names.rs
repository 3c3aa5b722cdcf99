//! Words that people say of pictures to classes of a set, by one rule wherever truth is told.

use std::collections::HashMap;

use lookout_core::{ClassKind, ClassSet};

/// The classes of a set by the words that may name them.
pub(crate) struct Names<'a> {
    set: &'a ClassSet,
    ids: HashMap<&'a str, usize>,
    /// Names and aliases in lower case, each with the classes that have it.
    names: HashMap<String, Vec<usize>>,
    aliases: HashMap<String, Vec<usize>>,
}

/// Why a label is no class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unmatched {
    /// No class has it.
    Nothing,
    /// Several have it, by their ids.
    Several(Vec<String>),
}

impl<'a> Names<'a> {
    pub(crate) fn of(set: &'a ClassSet) -> Self {
        let mut new =
            Self { set, ids: HashMap::new(), names: HashMap::new(), aliases: HashMap::new() };
        for (at, class) in set.classes().iter().enumerate() {
            new.ids.insert(class.id.as_str(), at);
            new.names.entry(key(&class.name)).or_default().push(at);
            for alias in &class.aliases {
                let classes = new.aliases.entry(key(alias)).or_default();
                if !classes.contains(&at) {
                    classes.push(at);
                }
            }
        }
        new
    }

    /// The class that `label` names: by id, else by name, else by alias, the latter two with upper
    /// case aside.
    pub(crate) fn find(&self, label: &str) -> Result<usize, Unmatched> {
        if let Some(at) = self.ids.get(label) {
            return Ok(*at);
        }
        let key = key(label);
        match self.names.get(&key).or_else(|| self.aliases.get(&key)).map(Vec::as_slice) {
            Some([at]) => Ok(*at),
            Some(several) => {
                let id = |it: &usize| self.set.classes()[*it].id.to_string();
                Err(Unmatched::Several(several.iter().map(id).collect()))
            }
            None => Err(Unmatched::Nothing),
        }
    }

    /// The classes that are right on top where `shown` are true. A camera says `none` whichever negative
    /// is on top, so any is right where one is true.
    pub(crate) fn right(&self, shown: &[usize]) -> Vec<usize> {
        let classes = self.set.classes();
        let is_negative = |at: &usize| classes[*at].kind == ClassKind::Negative;
        let mut right: Vec<usize> = shown.to_vec();
        if shown.iter().any(is_negative) {
            right.extend((0..classes.len()).filter(is_negative));
        }
        right.sort_unstable();
        right.dedup();
        right
    }
}

fn key(words: &str) -> String {
    words.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use lookout_core::{Class, Id};

    use super::*;

    fn set() -> ClassSet {
        let class = |id: &str, kind, name: &str, aliases: &[&str]| Class {
            id: Id::new(id).unwrap(),
            kind,
            name: name.to_owned(),
            aliases: aliases.iter().map(|it| (*it).to_owned()).collect(),
            prompts: vec![],
            enter: None,
        };
        let classes = vec![
            class("cat", ClassKind::Label, "a cat", &["Kitten", "pet"]),
            class("dog", ClassKind::Label, "dog", &["pet", "cat", "crane"]),
            class("empty", ClassKind::Negative, "an empty room", &[]),
            class("crane1", ClassKind::Label, "Crane", &[]),
            class("crane2", ClassKind::Label, "crane", &["bird"]),
            class("dark", ClassKind::Negative, "darkness", &[]),
        ];
        ClassSet::new(vec!["{}".to_owned()], classes).unwrap()
    }

    #[test]
    fn by_id_name_and_alias_in_this_order() {
        let set = set();
        let names = Names::of(&set);
        let find = |label: &str| names.find(label).map(|at| set.classes()[at].id.to_string());
        let several = |ids: [&str; 2]| Err(Unmatched::Several(ids.map(str::to_owned).to_vec()));
        for (label, expected) in [
            ("cat", Ok("cat".to_owned())),
            (" A Cat", Ok("cat".to_owned())),
            ("kitten", Ok("cat".to_owned())),
            ("CAT", Ok("dog".to_owned())),
            ("crane", several(["crane1", "crane2"])),
            ("crane2", Ok("crane2".to_owned())),
            ("pet", several(["cat", "dog"])),
            ("bird", Ok("crane2".to_owned())),
            ("darkness", Ok("dark".to_owned())),
            ("a_cat", Err(Unmatched::Nothing)),
            ("", Err(Unmatched::Nothing)),
        ] {
            assert_eq!(find(label), expected, "{label:?}");
        }
    }

    #[test]
    fn any_negative_is_right_where_one_is_true() {
        let set = set();
        let names = Names::of(&set);
        // Labels first: cat, dog, crane1, crane2, then empty, dark.
        assert_eq!(names.right(&[1, 0, 1]), [0, 1]);
        assert_eq!(names.right(&[5]), [4, 5]);
        assert_eq!(names.right(&[5, 2]), [2, 4, 5]);
        assert_eq!(names.right(&[]), [0usize; 0]);
    }
}
