//! To which class a word belongs, so that no two are called alike.

use std::collections::HashMap;

use lookout_core::ClassSet;

use crate::phrases;

/// Which class a word belongs to where several have it: the one that is called so, else the first.
pub(super) struct Owners {
    /// Each form of a name to the first class that has it.
    names: HashMap<Vec<String>, usize>,
    /// Names and aliases as [`key`]s.
    name_keys: HashMap<String, usize>,
    alias_keys: HashMap<String, usize>,
}

impl Owners {
    pub(super) fn of(classes: &ClassSet) -> Self {
        let mut new =
            Self { names: HashMap::new(), name_keys: HashMap::new(), alias_keys: HashMap::new() };
        for (idx, class) in classes.classes().iter().enumerate() {
            new.name_keys.entry(key(&class.name)).or_insert(idx);
            for form in forms(&class.name) {
                new.names.entry(form).or_insert(idx);
            }
            for alias in &class.aliases {
                new.alias_keys.entry(key(alias)).or_insert(idx);
            }
        }
        new
    }

    /// The class that `word` belongs to, if it is not `class`. A plural of another's name is no alias, but
    /// may be a name: "glass" and "glasses" are two things.
    pub(super) fn other_than(&self, class: usize, word: &str, is_name: bool) -> Option<usize> {
        let key = key(word);
        let mut owner = self.name_keys.get(&key).copied();
        if !is_name {
            let by_form = || forms(word).into_iter().find_map(|it| self.names.get(&it).copied());
            owner = owner.or_else(by_form).or_else(|| self.alias_keys.get(&key).copied());
        }
        owner.filter(|it| *it != class)
    }
}

/// What makes two words one: not their case, article or punctuation.
fn key(word: &str) -> String {
    match phrases::of_name(word) {
        words if words.is_empty() => word.trim().to_lowercase(),
        words => words.join(" "),
    }
}

/// A word as captions may have it, singular and plural; none where it has no letters and digits.
pub(super) fn forms(word: &str) -> Vec<Vec<String>> {
    let words = phrases::of_name(word);
    let Some((last, first)) = words.split_last() else { return Vec::new() };
    let with = |form: String| first.iter().cloned().chain(Some(form)).collect();
    phrases::forms(last).into_iter().map(with).collect()
}
