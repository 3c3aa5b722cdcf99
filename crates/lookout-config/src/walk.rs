//! The walk over the merged tree: one [`Section`] a table, which knows the keys that were asked
//! for and so finds the others.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Map, Value, ValueKind};
use lookout_core::{Id, Window};

use crate::layers::{self, Merged};
use crate::{Fault, Origin, StatePlace};

/// Who writes one of these where a path may stand means no file of that name; `./on` does.
const SWITCHES: [&str; 8] = ["off", "of", "on", "no", "none", "yes", "true", "false"];
/// Longest part of a value that a message shows, in characters.
const MAX_SHOWN: usize = 60;
/// Longest duration, in seconds: a day.
pub(crate) const DAY_S: f64 = 86_400.0;

/// What all sections of one file share.
pub(crate) struct Walk {
    pub(crate) file: PathBuf,
    pub(crate) faults: Vec<Fault>,
    pub(crate) places: BTreeMap<String, Origin>,
}

impl Walk {
    /// Starts at the top of `merged`.
    pub(crate) fn new(file: &Path, merged: &Merged) -> Self {
        let mut places = BTreeMap::new();
        for (key, value) in &merged.tree {
            record(key, value, &merged.origins, &mut places);
        }
        Self { file: file.to_owned(), faults: Vec::new(), places }
    }

    pub(crate) fn top(&mut self, tree: Map<String, Value>) -> Section<'_> {
        Section { walk: self, path: String::new(), table: tree, asked: BTreeSet::new() }
    }

    /// Where the value of `key` came from; the file as a whole for what is missing.
    pub(crate) fn origin(&self, key: &str) -> Origin {
        let whole_file = || Origin::File { path: self.file.clone(), line: None };
        self.places.get(key).cloned().unwrap_or_else(whole_file)
    }

    pub(crate) fn fault(&mut self, key: &str, rule: impl Into<String>, got: Option<String>) {
        let origin = self.origin(key);
        self.faults.push(Fault { key: key.to_owned(), origin, rule: rule.into(), got });
    }

    /// All faults, in the order of their places; no fault is `Ok`.
    pub(crate) fn finish(self) -> Result<BTreeMap<String, Origin>, crate::ConfigError> {
        let Self { mut faults, places, .. } = self;
        if faults.is_empty() {
            return Ok(places);
        }
        faults.sort_by(|a, b| a.origin.cmp(&b.origin));
        Err(crate::ConfigError::Faults(faults))
    }
}

/// Notes the origin of a value and of everything in it. A table that was merged from several
/// sources has none of its own and gets that of one of its values.
fn record(
    key: &str,
    value: &Value,
    origins: &[Origin],
    places: &mut BTreeMap<String, Origin>,
) -> Option<Origin> {
    let mut inner: Vec<Origin> = Vec::new();
    match &value.kind {
        ValueKind::Table(table) => {
            inner.extend(
                table.iter().filter_map(|(k, v)| record(&format!("{key}.{k}"), v, origins, places)),
            );
        }
        ValueKind::Array(values) => {
            inner.extend(
                values
                    .iter()
                    .enumerate()
                    .filter_map(|(idx, v)| record(&format!("{key}[{idx}]"), v, origins, places)),
            );
        }
        _ => (),
    }
    let own = value.origin().and_then(|it| it.parse::<usize>().ok()).and_then(|it| origins.get(it));
    let origin = own.cloned().or_else(|| inner.into_iter().min())?;
    places.insert(key.to_owned(), origin.clone());
    Some(origin)
}

/// One table of the tree.
pub(crate) struct Section<'w> {
    walk: &'w mut Walk,
    path: String,
    table: Map<String, Value>,
    asked: BTreeSet<String>,
}

impl Section<'_> {
    /// The full name of `key` of this section.
    pub(crate) fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Whether `key` was given, be it valid or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The names in this section, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.table.keys().cloned().collect();
        names.sort();
        names
    }

    pub(crate) fn walk(&mut self) -> &mut Walk {
        self.walk
    }

    pub(crate) fn origin(&self, key: &str) -> Origin {
        self.walk.origin(&self.full(key))
    }

    /// Reports a fault of `key`.
    pub(crate) fn fault(&mut self, key: &str, rule: impl Into<String>, got: Option<String>) {
        let key = self.full(key);
        self.walk.fault(&key, rule, got);
    }

    /// Reports that `key` is missing, unless it is there.
    pub(crate) fn require(&mut self, key: &str, rule: &str) {
        if !self.has(key) {
            self.fault(key, format!("is required: {rule}"), None);
        }
    }

    /// Reports a key that is known only to be refused, without its value.
    pub(crate) fn refuse(&mut self, key: &str, rule: &str) {
        if self.table.remove(key).is_some() {
            self.fault(key, rule, None);
        }
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(mut self) {
        for name in self.names() {
            if !self.asked.contains(&name) {
                let rule = self.unknown(&name);
                self.fault(&name, rule, None);
            }
        }
    }

    fn unknown(&self, name: &str) -> String {
        let of = if self.path.is_empty() {
            "at the top".to_owned()
        } else {
            format!("of [{}]", self.path)
        };
        let distance = |it: &&String| strsim::damerau_levenshtein(name, it);
        match self.asked.iter().min_by_key(distance) {
            Some(near) if distance(&near) <= 1 + near.len() / 4 => {
                format!("is no key {of}; did you mean `{near}`?")
            }
            _ => {
                let known: Vec<&str> = self.asked.iter().map(String::as_str).collect();
                format!("is no key {of}; its keys are {}", known.join(", "))
            }
        }
    }

    /// What `read` makes of the value of `key`, if it is there, without asking for it. `read` is told
    /// whether the value came as text.
    pub(crate) fn peek<T>(
        &self,
        key: &str,
        read: impl FnOnce(&ValueKind, bool) -> Option<T>,
    ) -> Option<T> {
        read(&self.table.get(key)?.kind, self.origin(key).is_text())
    }

    /// Notes that `key` is a key of this section.
    pub(crate) fn ask(&mut self, key: &str) {
        self.asked.insert(key.to_owned());
    }

    /// The value of `key` as `read` understands it; `None` when it is absent or, which is
    /// reported, not understood. `read` is told whether the value came as text.
    fn take<T>(
        &mut self,
        key: &str,
        rule: &str,
        read: impl FnOnce(&ValueKind, bool) -> Option<T>,
    ) -> Option<T> {
        self.asked.insert(key.to_owned());
        let value = self.table.get(key)?;
        let taken = read(&value.kind, self.origin(key).is_text());
        if taken.is_none() {
            let got = show(&value.kind);
            self.fault(key, format!("must be {rule}"), Some(got));
        }
        taken
    }

    pub(crate) fn boolean(&mut self, key: &str) -> Option<bool> {
        self.take(key, "true or false", |kind, is_text| match kind {
            ValueKind::Boolean(it) => Some(*it),
            ValueKind::String(it) if is_text => it.trim().parse().ok(),
            _ => None,
        })
    }

    pub(crate) fn integer(&mut self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let rule = format!("an integer from {} to {}", range.start(), range.end());
        self.take(key, &rule, |kind, is_text| {
            let value = match kind {
                ValueKind::I64(it) => *it,
                ValueKind::String(it) if is_text => it.trim().parse().ok()?,
                _ => return None,
            };
            u32::try_from(value).ok().filter(|it| range.contains(it))
        })
    }

    /// How far a history reaches.
    pub(crate) fn window(&mut self, key: &str) -> Option<Window> {
        let rule = "an integer from 1 to 1000000, or \"unbounded\"";
        self.take(key, rule, |kind, is_text| {
            let frames: u64 = match kind {
                ValueKind::String(it) if it == "unbounded" => return Some(Window::Unbounded),
                ValueKind::I64(it) => u64::try_from(*it).ok()?,
                ValueKind::String(it) if is_text => it.trim().parse().ok()?,
                _ => return None,
            };
            NonZeroU64::new(frames).filter(|it| it.get() <= 1_000_000).map(Window::Frames)
        })
    }

    pub(crate) fn number(&mut self, key: &str, range: impl RangeBounds<f64>) -> Option<f64> {
        let from = match range.start_bound() {
            Bound::Excluded(it) => format!("greater than {it}"),
            Bound::Included(it) => format!("at least {it}"),
            Bound::Unbounded => "finite".to_owned(),
        };
        let to = match range.end_bound() {
            Bound::Included(it) | Bound::Excluded(it) => format!(" and at most {it}"),
            Bound::Unbounded => String::new(),
        };
        self.take(key, &format!("a number {from}{to}"), |kind, is_text| {
            let value = match kind {
                ValueKind::Float(it) => *it,
                #[expect(clippy::cast_precision_loss, reason = "the ranges end far below 2^53")]
                ValueKind::I64(it) => *it as f64,
                ValueKind::String(it) if is_text => it.trim().parse().ok()?,
                _ => return None,
            };
            // NaN is within no range.
            range.contains(&value).then_some(value)
        })
    }

    /// A time in seconds, at most a day.
    pub(crate) fn seconds(&mut self, key: &str) -> Option<Duration> {
        self.number(key, 0.0..=DAY_S).map(Duration::from_secs_f64)
    }

    /// A time in seconds, at most a day and no less than a millisecond.
    pub(crate) fn some_seconds(&mut self, key: &str) -> Option<Duration> {
        self.number(key, 0.001..=DAY_S).map(Duration::from_secs_f64)
    }

    /// A text that `check` accepts.
    pub(crate) fn text(
        &mut self,
        key: &str,
        rule: &str,
        check: impl FnOnce(&str) -> bool,
    ) -> Option<String> {
        self.take(key, rule, |kind, _| match kind {
            ValueKind::String(it) if check(it) => Some(it.clone()),
            _ => None,
        })
    }

    pub(crate) fn id(&mut self, key: &str) -> Option<Id> {
        let rule = "an id: 1 to 32 characters of a-z, 0-9 and _";
        let text = self.text(key, rule, |it| Id::new(it).is_ok())?;
        Id::new(text).ok()
    }

    /// A path; a relative one starts at the file's folder.
    pub(crate) fn path(&mut self, key: &str) -> Option<PathBuf> {
        let given = self.text(key, "a path", |it| !it.trim().is_empty() && !it.contains('\0'))?;
        Some(layers::folder(&self.walk.file).join(given))
    }

    /// A path, or "off".
    pub(crate) fn place(&mut self, key: &str) -> StatePlace {
        self.place_or(key, "a path or \"off\"")
    }

    /// As [`Section::place`], where `rule` says what else may stand there.
    pub(crate) fn place_or(&mut self, key: &str, rule: &str) -> StatePlace {
        let is_path = |it: &str| {
            let is_switch = SWITCHES.contains(&it.to_ascii_lowercase().as_str()) && it != "off";
            !it.trim().is_empty() && !it.contains('\0') && !is_switch
        };
        match self.text(key, rule, is_path).as_deref() {
            None => StatePlace::Usual,
            Some("off") => StatePlace::Off,
            Some(given) => StatePlace::File(layers::folder(&self.walk.file).join(given)),
        }
    }

    /// A list of texts, each with the full key of its own.
    pub(crate) fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        self.texts_or(key, "a list of texts")
    }

    /// As [`Section::texts`], where `rule` says what else may stand there.
    pub(crate) fn texts_or(&mut self, key: &str, rule: &str) -> Option<Vec<String>> {
        self.take(key, rule, |kind, is_text| match kind {
            ValueKind::String(it) if is_text => {
                Some(it.split(',').map(|it| it.trim().to_owned()).collect())
            }
            ValueKind::Array(values) => values
                .iter()
                .map(|it| match &it.kind {
                    ValueKind::String(it) => Some(it.clone()),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    /// The table `key`; an empty one when it is absent or, which is reported, something else.
    pub(crate) fn section(&mut self, key: &str) -> Section<'_> {
        let table = self.take(key, "a table", |kind, _| match kind {
            ValueKind::Table(it) => Some(it.clone()),
            _ => None,
        });
        let path = self.full(key);
        let table = table.unwrap_or_default();
        Section { walk: self.walk, path, table, asked: BTreeSet::new() }
    }

    /// Reads each table of the list `key`.
    pub(crate) fn sections<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(Section<'_>) -> T,
    ) -> Vec<T> {
        let rule = format!("a list of tables, each headed [[{key}]]");
        let tables: Option<Vec<Map<String, Value>>> = self.take(key, &rule, |kind, _| match kind {
            ValueKind::Array(values) => values
                .iter()
                .map(|it| match &it.kind {
                    ValueKind::Table(it) => Some(it.clone()),
                    _ => None,
                })
                .collect(),
            _ => None,
        });
        let list = self.full(key);
        let mut taken = Vec::new();
        for (idx, table) in tables.unwrap_or_default().into_iter().enumerate() {
            let path = format!("{list}[{idx}]");
            taken.push(read(Section { walk: self.walk, path, table, asked: BTreeSet::new() }));
        }
        taken
    }
}

/// A value as a message shows it: short, and without the user and password of a URI.
fn show(kind: &ValueKind) -> String {
    match kind {
        ValueKind::String(it) => quote(it),
        ValueKind::Float(it) => format!("{it:?}"),
        ValueKind::Nil => "a date or time".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(it) => format!("a list of {}", it.len()),
        it => it.to_string(),
    }
}

/// `text` in quotes, shortened, without the user and password of a URI.
pub(crate) fn quote(text: &str) -> String {
    let redacted = match (text.find("://"), text.rfind('@')) {
        (Some(start), Some(end)) if start < end => {
            format!("{}***{}", &text[..start + 3], &text[end..])
        }
        _ => text.to_owned(),
    };
    match redacted.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{:?} and more", &redacted[..end]),
        None => format!("{redacted:?}"),
    }
}
