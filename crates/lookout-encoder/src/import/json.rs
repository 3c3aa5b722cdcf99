//! JSON files of a model's folder, read key by key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::bundle::read_file;
use crate::{EncoderError, Fault};

/// The largest JSON file of settings, in bytes.
pub(crate) const MAX_BYTES: u64 = 4 << 20;

/// Everything wrong with a folder, gathered while it is read.
#[derive(Default)]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

impl Faults {
    pub(crate) fn add(
        &mut self,
        key: impl Into<String>,
        rule: impl Into<String>,
        got: impl ToString,
    ) {
        self.0.push(Fault { key: key.into(), rule: rule.into(), got: got.to_string() });
    }
}

/// An object being read: what was taken is gone from it, so what remains is unknown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object {
    /// Name of the file, and of the object within it.
    place: String,
    map: Map<String, Value>,
}

impl Object {
    /// The file `name` in `dir`; `None` where there is none, or where a fault was noted.
    pub(crate) fn read(
        dir: &Path,
        name: &str,
        faults: &mut Faults,
    ) -> Result<Option<Self>, EncoderError> {
        let path = dir.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = read_file(&path, MAX_BYTES)?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(map)) => Ok(Some(Self { place: name.to_owned(), map })),
            Ok(_) => {
                faults.add(name, "a JSON object", "something else");
                Ok(None)
            }
            Err(err) => {
                faults.add(name, "valid JSON", err);
                Ok(None)
            }
        }
    }

    /// The full name of a key, for people.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}: {key}", self.place)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|it| !it.is_null())
    }

    /// The value of `key`; `null` is none.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.shift_remove(key).filter(|it| !it.is_null())
    }

    /// The value of `key` as `read` has it; `None` where there is none, or where a fault was
    /// noted.
    pub(crate) fn get<T>(
        &mut self,
        key: &str,
        rule: &str,
        faults: &mut Faults,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(key)?;
        let read = read(&value);
        if read.is_none() {
            faults.add(self.key(key), rule, shorten(&value.to_string()));
        }
        read
    }

    pub(crate) fn flag(&mut self, key: &str, faults: &mut Faults) -> Option<bool> {
        self.get(key, "true or false", faults, Value::as_bool)
    }

    pub(crate) fn count(&mut self, key: &str, faults: &mut Faults) -> Option<u32> {
        self.get(key, "a whole number of at least 1", faults, count)
    }

    /// The object at `key`.
    pub(crate) fn object(&mut self, key: &str, faults: &mut Faults) -> Option<Self> {
        let place = self.key(key);
        self.get(key, "an object", faults, |it| Some(Self { place, map: it.as_object()?.clone() }))
    }

    /// Every key that nobody took, and that is not `null`, is a fault: it could change what the
    /// model sees.
    pub(crate) fn finish(self, faults: &mut Faults) {
        for (key, value) in self.map.iter().filter(|it| !it.1.is_null()) {
            let rule = "removed if it changes nothing; this program does not know it";
            faults.add(self.key(&shorten(key)), rule, shorten(&value.to_string()));
        }
    }
}

pub(crate) fn count(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|it| u32::try_from(it).ok()).filter(|it| 0 < *it)
}

/// A number that is finite.
pub(crate) fn number(value: &Value) -> Option<f64> {
    value.as_f64().filter(|it| it.is_finite())
}

fn shorten(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
