//! What a camera may be said to show: a label set from a file, from the configuration's own
//! words, from the command line or from labelled pictures.

use std::path::Path;

use lookout_core::{Class, ClassKind, ClassSet, ClassSetError, DEFAULT_TEMPLATE, Id};

use crate::walk::{Section, Walk, quote};
use crate::{ConfigError, Fault, Origin, layers, templates};

/// Keys that a configuration has and a label set has not.
const CONFIGURATION_KEYS: [&str; 2] = ["model", "cameras"];
const NO_LABEL_SET: &str = "is a key of a configuration, and this must be a label set; put labels and negatives \
                            into a file of their own, as [[label]] and [[negative]], and name it with \
                            `labels_file` in the configuration";

/// Classes that form a valid [`ClassSet`] with any valid templates.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelSet {
    templates: Option<Vec<String>>,
    classes: Vec<Class>,
}

impl LabelSet {
    /// Reads a label set from a TOML file and reports all its faults at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let merged = layers::merge(path, [], &[])?;
        let mut walk = Walk::new(path, &merged);
        if let Some(key) = CONFIGURATION_KEYS.iter().find(|it| merged.tree.contains_key(**it)) {
            let (key, origin) = ((*key).to_owned(), walk.origin(key));
            let fault = Fault { key, origin, rule: NO_LABEL_SET.to_owned(), got: None };
            return Err(ConfigError::Faults(vec![fault]));
        }
        let mut top = walk.top(merged.tree);
        let templates = templates::read(&mut top).map(|texts| Keyed::list("templates", texts));
        let mut classes = top.sections("label", |it| class(it, ClassKind::Label));
        classes.extend(top.sections("negative", |it| class(it, ClassKind::Negative)));
        top.finish();
        let n_given = classes.len();
        let classes: Vec<Keyed<Class>> = classes.into_iter().flatten().collect();
        // A class that is faulty by itself would make the set look smaller than it is.
        if classes.len() == n_given {
            check(&classes, templates.as_deref(), Keys::FILE, &mut walk);
        }
        walk.finish()?;
        Ok(Self::new(templates, classes))
    }

    /// The set of a `--label TEXT` and `--negative TEXT` command line; the ids are slugs.
    pub fn from_words(labels: &[String], negatives: &[String]) -> Result<Self, ConfigError> {
        Self::slugged(labels, negatives, Keys::FLAGS, &Origin::CommandLine)
    }

    /// The set of the labels that a file or a folder of pictures has; the ids are slugs. Faults name it and
    /// the label.
    pub fn from_pictures(labels: &[String], source: &Path) -> Result<Self, ConfigError> {
        let origin = Origin::File { path: source.to_owned(), line: None };
        Self::slugged(labels, &[], Keys::PICTURES, &origin)
    }

    fn slugged(
        labels: &[String],
        negatives: &[String],
        keys: Keys<'_>,
        origin: &Origin,
    ) -> Result<Self, ConfigError> {
        let keyed = |key: &str, words: &[String]| -> Vec<Keyed<String>> {
            words.iter().map(|it| Keyed { key: key.to_owned(), it: it.clone() }).collect()
        };
        let mut faults: Vec<Fault> = Vec::new();
        let mut report = |key: &str, rule: String, got: Option<String>| {
            faults.push(Fault { key: key.to_owned(), origin: origin.clone(), rule, got });
        };
        let mut classes = words(&keyed(keys.labels, labels), ClassKind::Label, &mut report);
        let negative_words = keyed(keys.negatives, negatives);
        classes.extend(words(&negative_words, ClassKind::Negative, &mut report));
        if classes.len() == labels.len() + negatives.len() {
            for (key, rule) in broken_rules(&classes, None, keys) {
                report(&key, rule, None);
            }
        }
        if faults.is_empty() {
            Ok(Self::new(None, classes))
        } else {
            Err(ConfigError::Faults(faults))
        }
    }

    /// The checked set. `default_templates`, the bundle's, stand in where the set names none; only
    /// a fault in them can make this fail.
    pub fn class_set(&self, default_templates: &[String]) -> Result<ClassSet, Vec<ClassSetError>> {
        let templates = self.templates.as_deref().unwrap_or(default_templates);
        ClassSet::new(templates.to_vec(), self.classes.clone())
    }

    fn new(templates: Option<Vec<Keyed<String>>>, classes: Vec<Keyed<Class>>) -> Self {
        Self {
            templates: templates.map(|it| it.into_iter().map(|it| it.it).collect()),
            classes: classes.into_iter().map(|it| it.it).collect(),
        }
    }
}

/// A value and the full key that it came from.
#[derive(Clone, Debug)]
struct Keyed<T> {
    key: String,
    it: T,
}

impl Keyed<String> {
    fn list(key: &str, texts: Vec<String>) -> Vec<Self> {
        let keyed = |(idx, it)| Self { key: format!("{key}[{idx}]"), it };
        texts.into_iter().enumerate().map(keyed).collect()
    }
}

/// Where a rule of the whole set is reported.
#[derive(Clone, Copy)]
struct Keys<'a> {
    labels: &'a str,
    negatives: &'a str,
    templates: &'a str,
}

impl Keys<'static> {
    const FILE: Self = Self { labels: "label", negatives: "negative", templates: "templates" };
    const FLAGS: Self = Self { labels: "--label", negatives: "--negative", templates: "templates" };
    const PICTURES: Self = Self { labels: "label", negatives: "label", templates: "templates" };
}

/// The words of the configuration's top level or of one camera.
#[derive(Clone, Default)]
pub(crate) struct Words {
    labels: Option<Vec<Keyed<String>>>,
    negatives: Option<Vec<Keyed<String>>>,
    templates: Option<Vec<Keyed<String>>>,
    file: Option<LabelSet>,
    /// Something was given and is faulty, which is reported; no set can be judged by it.
    is_faulty: bool,
}

impl Words {
    /// Reads `labels`, `negatives`, `templates` and `labels_file` of `section`.
    pub(crate) fn read(section: &mut Section<'_>) -> Self {
        let mut list = |key: &str, read: fn(&mut Section<'_>, &str) -> Option<Vec<String>>| {
            let full = section.full(key);
            read(section, key).map(|texts| Keyed::list(&full, texts))
        };
        let labels = list("labels", |section, key| section.texts(key));
        let negatives = list("negatives", |section, key| section.texts(key));
        let templates = list("templates", |section, _| templates::read(section));
        let path = section.path("labels_file");
        if section.has("labels_file") {
            for key in ["labels", "negatives", "templates"] {
                if section.has(key) {
                    section.fault(key, "stands beside `labels_file`; use one or the other", None);
                }
            }
        }
        let file = path.and_then(|path| {
            LabelSet::load(&path)
                .map_err(|error| {
                    let key = section.full("labels_file");
                    let origin = section.origin("labels_file");
                    section.walk().faults.extend(error.into_faults(&key, origin));
                })
                .ok()
        });
        let is_faulty = (section.has("labels") && labels.is_none())
            || (section.has("negatives") && negatives.is_none())
            || (section.has("templates") && templates.is_none())
            || (section.has("labels_file") && file.is_none());
        Self { labels, negatives, templates, file, is_faulty }
    }

    /// Whether nothing was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_none()
            && self.negatives.is_none()
            && self.templates.is_none()
            && self.file.is_none()
            && !self.is_faulty
    }

    /// This camera's words, completed by those of the top level.
    pub(crate) fn over(self, top: &Self) -> Self {
        if self.file.is_some() {
            return self;
        }
        if self.is_empty() {
            return top.clone();
        }
        Self {
            labels: self.labels.or_else(|| top.labels.clone()),
            negatives: self.negatives.or_else(|| top.negatives.clone()),
            templates: self.templates.or_else(|| top.templates.clone()),
            file: None,
            is_faulty: self.is_faulty || top.is_faulty,
        }
    }

    /// The set; faults are reported, those of the whole at the keys of `path`, "" for the top.
    pub(crate) fn label_set(&self, path: &str, walk: &mut Walk) -> Option<LabelSet> {
        if self.file.is_some() {
            return self.file.clone();
        }
        let n_before = walk.faults.len();
        let empty = Vec::new();
        let labels = self.labels.as_ref().unwrap_or(&empty);
        let negatives = self.negatives.as_ref().unwrap_or(&empty);
        let mut report = |key: &str, rule: String, got: Option<String>| walk.fault(key, rule, got);
        let mut classes = words(labels, ClassKind::Label, &mut report);
        classes.extend(words(negatives, ClassKind::Negative, &mut report));
        let is_sound = |walk: &Walk| !self.is_faulty && n_before == walk.faults.len();
        if is_sound(walk) {
            let at = |key: &str| format!("{path}{key}");
            let (labels, negatives, templates) = (at("labels"), at("negatives"), at("templates"));
            let keys = Keys { labels: &labels, negatives: &negatives, templates: &templates };
            check(&classes, self.templates.as_deref(), keys, walk);
        }
        is_sound(walk).then(|| LabelSet::new(self.templates.clone(), classes))
    }
}

/// Classes whose ids are slugs of their names.
fn words(
    words: &[Keyed<String>],
    kind: ClassKind,
    report: &mut dyn FnMut(&str, String, Option<String>),
) -> Vec<Keyed<Class>> {
    let mut classes = Vec::new();
    for Keyed { key, it: word } in words {
        let name = word.trim().to_owned();
        match Id::slug(&name) {
            Ok(id) => {
                let class = Class { id, kind, name, aliases: vec![], prompts: vec![], enter: None };
                classes.push(Keyed { key: key.clone(), it: class });
            }
            Err(_) => report(key, NO_SLUG.to_owned(), Some(quote(word))),
        }
    }
    classes
}

const NO_SLUG: &str = "must hold a letter a-z or a digit to make an id of; a name without them \
                       needs an `id` of its own in a label set file";

/// One `[[label]]` or `[[negative]]`.
fn class(mut section: Section<'_>, kind: ClassKind) -> Option<Keyed<Class>> {
    section.require("name", "what it is called, in plain words");
    let name = section.text("name", "a text", |it| !it.trim().is_empty());
    let given_id = section.id("id");
    let aliases = section.texts("aliases").unwrap_or_default();
    let prompts = section.texts("prompts").unwrap_or_default();
    let enter = section.number("enter", crate::check::SCORE);
    let id = match (&name, given_id) {
        (_, Some(id)) => Some(id),
        (Some(name), None) if !section.has("id") => {
            let slug = Id::slug(name);
            if slug.is_err() {
                let rule = "is required: the name has no letter a-z and no digit to make one of";
                section.fault("id", rule, None);
            }
            slug.ok()
        }
        _ => None,
    };
    let key = section.full("name");
    section.finish();
    let name = name?.trim().to_owned();
    Some(Keyed { key, it: Class { id: id?, kind, name, aliases, prompts, enter } })
}

/// Reports the broken rules of the set as a whole.
fn check(
    classes: &[Keyed<Class>],
    templates: Option<&[Keyed<String>]>,
    keys: Keys<'_>,
    walk: &mut Walk,
) {
    for (key, rule) in broken_rules(classes, templates, keys) {
        walk.fault(&key, rule, None);
    }
}

/// The rules that [`ClassSet`] finds broken, each with the key to report it at.
fn broken_rules(
    classes: &[Keyed<Class>],
    templates: Option<&[Keyed<String>]>,
    keys: Keys<'_>,
) -> Vec<(String, String)> {
    let texts = match templates {
        Some(it) => it.iter().map(|it| it.it.clone()).collect(),
        None => vec![DEFAULT_TEMPLATE.to_owned()],
    };
    let errors = ClassSet::new(texts, classes.iter().map(|it| it.it.clone()).collect())
        .err()
        .unwrap_or_default();
    let key_of = |class: Option<&Keyed<Class>>| class.map_or(keys.labels, |it| &it.key).to_owned();
    let first = |id: &Id| key_of(classes.iter().find(|it| it.it.id == *id));
    let last = |id: &Id| key_of(classes.iter().rfind(|it| it.it.id == *id));
    let of_template = |text: &str| {
        let found = templates.and_then(|it| it.iter().find(|it| it.it == text));
        found.map_or(keys.templates, |it| &it.key).to_owned()
    };
    let keyed = |error: &ClassSetError| match error {
        ClassSetError::NoLabel | ClassSetError::TooManyClasses { .. } => keys.labels.to_owned(),
        ClassSetError::TooFewClasses { .. } => keys.negatives.to_owned(),
        ClassSetError::DuplicateId { id, .. } => last(id),
        ClassSetError::TextLength { id, .. }
        | ClassSetError::TooManyTexts { id, .. }
        | ClassSetError::EnterOutOfRange { id, .. } => first(id),
        ClassSetError::BadTemplate { template } => of_template(template),
        ClassSetError::TemplateCount { .. } => keys.templates.to_owned(),
    };
    errors.iter().map(|it| (keyed(it), format!("breaks a rule: {it}"))).collect()
}
