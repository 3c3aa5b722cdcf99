//! Tests of the crate as a whole.

mod documents;
mod faults;
mod hostile;
mod merging;

use std::path::PathBuf;

use tempfile::TempDir;

use crate::{Config, ConfigError};

/// A configuration without faults, key by key.
const MINIMAL: [(&str, &str); 5] = [
    ("model", "\"bundle\""),
    ("labels", "[\"a cat\"]"),
    ("negatives", "[\"an empty room\"]"),
    ("mqtt.host", "\"localhost\""),
    ("cameras.front.uri", "\"dir:pictures\""),
];

/// A folder with one file.
struct Fixture {
    folder: TempDir,
    path: PathBuf,
}

impl Fixture {
    fn new(bytes: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lookout.toml");
        std::fs::write(&path, bytes).unwrap();
        Self { folder, path }
    }

    /// The minimal configuration with `changes`, one key a line; an empty value leaves it out.
    fn minimal(changes: &[(&str, &str)]) -> Self {
        let kept = MINIMAL.iter().filter(|(key, _)| changes.iter().all(|(it, _)| it != key));
        let lines = kept.chain(changes).filter(|(_, value)| !value.is_empty());
        Self::new(lines.map(|(key, value)| format!("{key} = {value}\n")).collect::<String>())
    }

    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.path, [], &[])
    }

    fn load_env(&self, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let own = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        Config::load(&self.path, env.iter().map(own), &[])
    }

    /// The message, with the folder left out.
    fn message<T: std::fmt::Debug>(&self, result: Result<T, ConfigError>) -> String {
        let message = result.unwrap_err().to_string();
        message.replace(&format!("{}/", self.folder.path().display()), "")
    }
}
