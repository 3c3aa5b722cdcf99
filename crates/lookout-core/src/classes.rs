//! What a camera can be said to show: labels, and negatives that mean "none of them".

use std::collections::{HashMap, HashSet};

use crate::Id;

/// The prompt template of a model that recommends none: the bare name.
pub const DEFAULT_TEMPLATE: &str = "{}";

/// Whether a class is something to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassKind {
    /// Reported when it is on top.
    Label,
    /// The state is `none` when it is on top.
    Negative,
}

/// One class of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Stable identifier; survives a change of name.
    pub id: Id,
    /// Label or negative.
    pub kind: ClassKind,
    /// What it is called.
    pub name: String,
    /// Other words for it; each goes through every template too.
    pub aliases: Vec<String>,
    /// Whole sentences that describe it, used as they are.
    pub prompts: Vec<String>,
    /// The score at which it is accepted, within 0 to 1; the camera's `enter` where absent.
    pub enter: Option<f64>,
}

/// A checked set of classes: at least two, at least one label, ids unique, labels first.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassSet {
    templates: Vec<String>,
    classes: Vec<Class>,
}

/// A rule that a class set breaks.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClassSetError {
    /// Nothing to report.
    #[error("needs at least 1 label, got none")]
    NoLabel,
    /// A distribution needs alternatives.
    #[error(
        "needs at least 2 classes (labels and negatives together), got {got}; add a negative such as \"an empty scene\""
    )]
    TooFewClasses {
        /// Classes given.
        got: usize,
    },
    /// More than [`ClassSet::MAX_CLASSES`].
    #[error("may have at most {} classes, got {got}", ClassSet::MAX_CLASSES)]
    TooManyClasses {
        /// Classes given.
        got: usize,
    },
    /// Two classes share an id.
    #[error(
        "id `{id}` is used by both {first:?} and {second:?}; give one of them an id of its own"
    )]
    DuplicateId {
        /// The id.
        id: Id,
        /// Name of the class that has it first.
        first: String,
        /// Name of the other one.
        second: String,
    },
    /// A name, alias or prompt is blank or longer than [`ClassSet::MAX_TEXT_LEN`].
    #[error("class `{id}`: {what} must have 1 to {} characters, got {got}", ClassSet::MAX_TEXT_LEN)]
    TextLength {
        /// The class.
        id: Id,
        /// Which of its texts.
        what: &'static str,
        /// Its length in characters, without white space at the ends.
        got: usize,
    },
    /// More aliases or prompts than [`ClassSet::MAX_TEXTS`].
    #[error("class `{id}` may have at most {} {what}, got {got}", ClassSet::MAX_TEXTS)]
    TooManyTexts {
        /// The class.
        id: Id,
        /// `aliases` or `prompts`.
        what: &'static str,
        /// How many were given.
        got: usize,
    },
    /// `enter` is no score.
    #[error("class `{id}`: enter must be greater than 0 and at most 1, got {got}")]
    EnterOutOfRange {
        /// The class.
        id: Id,
        /// The value given.
        got: f64,
    },
    /// A template without a place for the name, or with several.
    #[error("template {template:?} must contain {{}} exactly once")]
    BadTemplate {
        /// The template.
        template: String,
    },
    /// No template, or more than [`ClassSet::MAX_TEXTS`].
    #[error("needs 1 to {} templates, got {got}", ClassSet::MAX_TEXTS)]
    TemplateCount {
        /// How many were given.
        got: usize,
    },
}

impl ClassSet {
    /// The most classes a set may have.
    pub const MAX_CLASSES: usize = 10_000;
    /// The longest name, alias, prompt or template, in characters.
    pub const MAX_TEXT_LEN: usize = 1000;
    /// The most templates, and the most aliases or prompts of one class.
    pub const MAX_TEXTS: usize = 200;

    /// Checks everything and reports every broken rule at once. Labels come before negatives in
    /// the set, otherwise the order given is kept.
    pub fn new(
        templates: Vec<String>,
        mut classes: Vec<Class>,
    ) -> Result<Self, Vec<ClassSetError>> {
        let mut errors = Vec::new();
        if !(1..=Self::MAX_TEXTS).contains(&templates.len()) {
            errors.push(ClassSetError::TemplateCount { got: templates.len() });
        }
        for template in &templates {
            if template.matches("{}").count() != 1 || Self::MAX_TEXT_LEN < template.chars().count()
            {
                errors.push(ClassSetError::BadTemplate { template: template.clone() });
            }
        }
        if !classes.iter().any(|it| it.kind == ClassKind::Label) {
            errors.push(ClassSetError::NoLabel);
        }
        if classes.len() < 2 {
            errors.push(ClassSetError::TooFewClasses { got: classes.len() });
        }
        if Self::MAX_CLASSES < classes.len() {
            errors.push(ClassSetError::TooManyClasses { got: classes.len() });
        }
        let mut seen: HashMap<&Id, &str> = HashMap::new();
        for class in &classes {
            if let Some(first) = seen.insert(&class.id, &class.name) {
                errors.push(ClassSetError::DuplicateId {
                    id: class.id.clone(),
                    first: first.to_owned(),
                    second: class.name.clone(),
                });
            }
            check_class(class, &mut errors);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        classes.sort_by_key(|it| it.kind == ClassKind::Negative);
        Ok(Self { templates, classes })
    }

    /// The classes, labels first.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Where each class is in `other`: the position of the class with the same id and kind.
    pub(crate) fn positions_in(&self, other: &Self) -> Vec<Option<usize>> {
        let key = |it: &Class| (it.id.clone(), it.kind == ClassKind::Label);
        let there: HashMap<_, usize> =
            other.classes.iter().enumerate().map(|(idx, it)| (key(it), idx)).collect();
        self.classes.iter().map(|it| there.get(&key(it)).copied()).collect()
    }

    /// The texts whose mean embedding stands for class `idx`: every template with the name and
    /// every alias, then the class's own prompts, without repetition. At least one. Where a template has an
    /// article before its `{}`, a name brings none: "a photo of a {}" and "the cat" make "a photo of a cat".
    pub fn prompts(&self, idx: usize) -> Vec<String> {
        let class = &self.classes[idx];
        let names = || std::iter::once(&class.name).chain(&class.aliases);
        let filled =
            self.templates.iter().flat_map(|template| names().map(|name| fill(template, name)));
        let mut seen = HashSet::new();
        filled.chain(class.prompts.iter().cloned()).filter(|it| seen.insert(it.clone())).collect()
    }
}

/// What may stand before a noun, in any case.
const ARTICLES: [&str; 3] = ["a", "an", "the"];

fn fill(template: &str, name: &str) -> String {
    let name = name.trim();
    let before = template.split("{}").next().unwrap_or_default();
    let is_article = |it: &str| ARTICLES.iter().any(|article| it.eq_ignore_ascii_case(article));
    let has_article =
        before.ends_with(' ') && before.split_whitespace().last().is_some_and(is_article);
    let bare = name.split_once(' ').filter(|it| is_article(it.0)).map(|it| it.1.trim_start());
    let name = bare.filter(|_| has_article).unwrap_or(name);
    template.replacen("{}", name, 1)
}

fn check_class(class: &Class, errors: &mut Vec<ClassSetError>) {
    let texts = std::iter::once(("name", &class.name))
        .chain(class.aliases.iter().map(|it| ("alias", it)))
        .chain(class.prompts.iter().map(|it| ("prompt", it)));
    for (what, text) in texts {
        let got = text.trim().chars().count();
        if !(1..=ClassSet::MAX_TEXT_LEN).contains(&got) {
            errors.push(ClassSetError::TextLength { id: class.id.clone(), what, got });
        }
    }
    for (what, got) in [("aliases", class.aliases.len()), ("prompts", class.prompts.len())] {
        if ClassSet::MAX_TEXTS < got {
            errors.push(ClassSetError::TooManyTexts { id: class.id.clone(), what, got });
        }
    }
    // Written as "not within" so that NaN is refused too.
    if let Some(got) = class.enter.filter(|it| !(0.0 < *it && *it <= 1.0)) {
        errors.push(ClassSetError::EnterOutOfRange { id: class.id.clone(), got });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(id: &str, kind: ClassKind) -> Class {
        Class {
            id: Id::new(id).unwrap(),
            kind,
            name: id.to_owned(),
            aliases: vec![],
            prompts: vec![],
            enter: None,
        }
    }

    fn errors(templates: &[&str], classes: Vec<Class>) -> Vec<String> {
        let templates = templates.iter().map(|it| (*it).to_owned()).collect();
        let errors = ClassSet::new(templates, classes).unwrap_err();
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_broken_rule_is_named() {
        use ClassKind::{Label, Negative};
        assert_eq!(
            errors(&["{}"], vec![class("empty", Negative)]),
            [
                "needs at least 1 label, got none",
                "needs at least 2 classes (labels and negatives together), got 1; add a negative such as \"an empty scene\""
            ]
        );
        let mut bad = class("b", Label);
        bad.name = "  ".to_owned();
        bad.enter = Some(f64::NAN);
        assert_eq!(
            errors(&["no place", "{} {}"], vec![class("a", Label), class("a", Negative), bad]),
            [
                "template \"no place\" must contain {} exactly once",
                "template \"{} {}\" must contain {} exactly once",
                "id `a` is used by both \"a\" and \"a\"; give one of them an id of its own",
                "class `b`: name must have 1 to 1000 characters, got 0",
                "class `b`: enter must be greater than 0 and at most 1, got NaN",
            ]
        );
        assert_eq!(
            errors(&[], vec![class("a", Label), class("b", Label)]),
            ["needs 1 to 200 templates, got 0"]
        );
    }

    #[test]
    fn prompts_fill_every_template_with_every_name() {
        let mut cat = class("cat", ClassKind::Label);
        cat.aliases = vec!["kitten".to_owned(), "cat".to_owned()];
        cat.prompts = vec!["a small animal that purrs".to_owned()];
        let templates = vec!["{}".to_owned(), "a photo of a {}.".to_owned()];
        let set = ClassSet::new(templates, vec![class("x", ClassKind::Negative), cat]).unwrap();
        assert_eq!(set.classes()[0].id.as_str(), "cat");
        assert_eq!(
            set.prompts(0),
            [
                "cat",
                "kitten",
                "a photo of a cat.",
                "a photo of a kitten.",
                "a small animal that purrs"
            ]
        );
        assert_eq!(set.prompts(1), ["x", "a photo of a x."]);
    }

    #[test]
    fn a_prompt_has_one_article() {
        for (template, name, expected) in [
            ("a photo of a {}", "a cat", "a photo of a cat"),
            ("a photo of The {}, at night", " an  owl ", "a photo of The owl, at night"),
            ("a photo of {}", "the cat", "a photo of the cat"),
            ("{}", "a cat", "a cat"),
            ("a photo of a {}", "a", "a photo of a a"),
            ("a photo of a {}", "anchor", "a photo of a anchor"),
            ("pizza {}", "a slice", "pizza a slice"),
            ("a{}", "a cat", "aa cat"),
        ] {
            assert_eq!(fill(template, name), expected);
        }
    }
}
