//! To which class a word belongs, so that no two are called alike.

use std::collections::HashMap;

use lookout_core::ClassSet;

use crate::phrases;

/// Which class a word belongs to where several have it: the one that is called so, else the first.
pub(super) struct Owners {
    /// Names as [`key`]s.
    names: HashMap<String, usize>,
    /// Each form of a name, and of an alias, to the first class that has it.
    name_forms: HashMap<Vec<String>, usize>,
    alias_forms: HashMap<Vec<String>, usize>,
}

impl Owners {
    pub(super) fn of(classes: &ClassSet) -> Self {
        let (mut names, mut name_forms, mut alias_forms) =
            (HashMap::new(), HashMap::new(), HashMap::new());
        for (idx, class) in classes.classes().iter().enumerate() {
            names.entry(key(&class.name)).or_insert(idx);
            for form in told_by(&class.name) {
                name_forms.entry(form).or_insert(idx);
            }
            for form in class.aliases.iter().flat_map(|it| told_by(it)) {
                alias_forms.entry(form).or_insert(idx);
            }
        }
        Self { names, name_forms, alias_forms }
    }

    /// The class that `word` belongs to, if it is not `class`. A plural of another's word is no alias, as
    /// captions with the one count for the other, but it may be a name: "glass" and "glasses" are two things.
    pub(super) fn other_than(&self, class: usize, word: &str, is_name: bool) -> Option<usize> {
        let mut owner = self.names.get(&key(word)).copied();
        if !is_name {
            let forms = told_by(word);
            let first = |of: &HashMap<Vec<String>, usize>| {
                forms.iter().filter_map(|it| of.get(it).copied()).min()
            };
            owner = owner.or_else(|| first(&self.name_forms)).or_else(|| first(&self.alias_forms));
        }
        owner.filter(|it| *it != class)
    }
}

/// By what a word is told from others: its forms, or itself where captions have none.
fn told_by(word: &str) -> Vec<Vec<String>> {
    match forms(word) {
        forms if forms.is_empty() => vec![vec![key(word)]],
        forms => forms,
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
