//! File, environment and flags as layers of one tree of values; the `config` crate merges them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use config::{ConfigError as MergeError, Map, Source, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::{ConfigError, Origin};

/// The largest file that is read, in bytes.
const MAX_FILE_LEN: u64 = 1 << 20;
const ENV_PREFIX: &str = "LOOKOUT__";
/// Deeper keys do not exist; the rest of a longer one stays in its last level.
const MAX_LEVELS: usize = 8;
/// The tree hangs below one name: the `config` crate reads the top names of a source as paths, so
/// that a key such as `a[4000000000]` would be taken for an array of that size.
const ROOT: &str = "root";

/// The merged tree, and the origin that each value's `origin` is the position of.
pub(crate) struct Merged {
    pub(crate) tree: Map<String, Value>,
    pub(crate) origins: Vec<Origin>,
}

/// The folder of `file`.
pub(crate) fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(it) if !it.as_os_str().is_empty() => it,
        _ => Path::new("."),
    }
}

/// Merges the file, then `env`, then `flags`.
pub(crate) fn merge(
    path: &Path,
    env: impl IntoIterator<Item = (String, String)>,
    flags: &[(String, String)],
) -> Result<Merged, ConfigError> {
    let mut origins = Vec::new();
    let mut builder = config::Config::builder().add_source(read_file(path, &mut origins)?);
    let mut variables: Vec<(String, String)> =
        env.into_iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
    // A variable for a whole section comes after those of its keys, so that it is found to be no
    // table instead of being replaced by one.
    variables.sort_by(|a, b| b.cmp(a));
    for (variable, text) in variables {
        let key = variable[ENV_PREFIX.len()..].to_lowercase();
        let levels = key.splitn(MAX_LEVELS, "__");
        let origin = Origin::Environment { variable: variable.clone() };
        builder = builder.add_source(Layer::text(levels, &text, origin, &mut origins));
    }
    for (key, text) in flags {
        let levels = key.splitn(MAX_LEVELS, '.');
        builder = builder.add_source(Layer::text(levels, text, Origin::CommandLine, &mut origins));
    }
    let merged = builder.build().map_err(|it| ConfigError::unreadable(path, it.to_string()))?;
    let ValueKind::Table(mut root) = merged.cache.kind else {
        return Err(ConfigError::unreadable(path, "has no keys"));
    };
    let tree = match root.remove(ROOT).map(|it| it.kind) {
        Some(ValueKind::Table(tree)) => tree,
        _ => Map::new(),
    };
    Ok(Merged { tree, origins })
}

/// One source, as the `config` crate wants it.
#[derive(Clone, Debug)]
struct Layer(Value);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, MergeError> {
        Ok(Map::from([(ROOT.to_owned(), self.0.clone())]))
    }
}

impl Layer {
    /// One text at the place that `levels` name, outermost first.
    fn text<'a>(
        levels: impl Iterator<Item = &'a str>,
        text: &str,
        origin: Origin,
        origins: &mut Vec<Origin>,
    ) -> Self {
        let levels: Vec<&str> = levels.collect();
        let leaf = place(text, origin, origins);
        let nest =
            |inner: Value, level: &&str| Value::from(Map::from([(level.to_string(), inner)]));
        Self(levels.iter().rev().fold(leaf, nest))
    }
}

fn place(kind: impl Into<ValueKind>, origin: Origin, origins: &mut Vec<Origin>) -> Value {
    origins.push(origin);
    Value::new(Some(&(origins.len() - 1).to_string()), kind)
}

fn read_file(path: &Path, origins: &mut Vec<Origin>) -> Result<Layer, ConfigError> {
    let text = read_text(path)?;
    let lines = Lines::new(&text);
    let table = DeTable::parse(&text).map_err(|error| {
        let (line, column) = lines.position(error.span().map_or(0, |it| it.start));
        let message = error.message().to_owned();
        ConfigError::Syntax { path: path.to_owned(), line, column, message }
    })?;
    let mut tree = Tree { path, lines, origins };
    Ok(Layer(tree.table(table.into_inner())?.into()))
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let fail = |rule: String| ConfigError::unreadable(path, rule);
    let cannot = |error: std::io::Error| fail(format!("cannot be read: {error}"));
    // Looked at before it is opened, because opening a pipe waits for a writer.
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "folder" } else { "pipe or device" };
        return Err(fail(format!("is a {what}; give a TOML file")));
    }
    let file = File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if MAX_FILE_LEN < bytes.len() as u64 {
        return Err(fail(format!("is larger than {} KiB", MAX_FILE_LEN >> 10)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|it| **it == b'\n').count();
        fail(format!(
            "is not UTF-8 text: line {line} holds the byte 0x{:02x}",
            error.as_bytes()[at]
        ))
    })?;
    if text.trim().is_empty() {
        return Err(fail("is empty; see configs/ for examples".to_owned()));
    }
    Ok(text)
}

/// Where each line of a text starts, to turn byte offsets into positions.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        Self { text, starts: starts.collect() }
    }

    /// Line and column of a byte offset, from 1, the column in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|it| *it <= offset);
        let start = self.starts[line - 1];
        let column = 1 + self.text.get(start..offset).map_or(0, |it| it.chars().count());
        (line, column)
    }
}

/// Makes the values of a file. Dates become `Nil`, which no text and no other value is.
struct Tree<'a> {
    path: &'a Path,
    lines: Lines<'a>,
    origins: &'a mut Vec<Origin>,
}

impl Tree<'_> {
    fn table(&mut self, table: DeTable<'_>) -> Result<Map<String, Value>, ConfigError> {
        let mut map = Map::new();
        for (key, value) in table {
            map.insert(key.into_inner().into_owned(), self.value(value)?);
        }
        Ok(map)
    }

    fn value(&mut self, value: Spanned<DeValue<'_>>) -> Result<Value, ConfigError> {
        let (line, column) = self.lines.position(value.span().start);
        let too_large = |text: &str| ConfigError::Syntax {
            path: self.path.to_owned(),
            line,
            column,
            message: format!("number {text} does not fit 64 bits"),
        };
        let kind = match value.into_inner() {
            DeValue::String(it) => ValueKind::String(it.into_owned()),
            DeValue::Integer(it) => i64::from_str_radix(it.as_str(), it.radix())
                .map(ValueKind::I64)
                .map_err(|_| too_large(it.as_str()))?,
            DeValue::Float(it) => {
                it.as_str().parse().map(ValueKind::Float).map_err(|_| too_large(it.as_str()))?
            }
            DeValue::Boolean(it) => ValueKind::Boolean(it),
            DeValue::Datetime(_) => ValueKind::Nil,
            DeValue::Table(it) => ValueKind::Table(self.table(it)?),
            DeValue::Array(it) => {
                let values: Result<Vec<Value>, ConfigError> =
                    it.into_iter().map(|it| self.value(it)).collect();
                ValueKind::Array(values?)
            }
        };
        let origin = Origin::File { path: self.path.to_owned(), line: Some(line) };
        Ok(place(kind, origin, self.origins))
    }
}
