//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value came from. Ordered as they override each other, lines in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A file.
    File {
        /// The file.
        path: PathBuf,
        /// Line of the value, from 1; `None` where something is missing.
        line: Option<usize>,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A flag.
    CommandLine,
}

impl Origin {
    /// Whether the value was given as text whose type the key decides.
    pub(crate) fn is_text(&self) -> bool {
        match self {
            Self::File { .. } => false,
            Self::Environment { .. } | Self::CommandLine => true,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{origin}: `{key}` {rule}{}", .got.as_ref().map(|it| format!(", got {it}")).unwrap_or_default())]
pub struct Fault {
    /// The full key, such as `cameras.front.uri`.
    pub key: String,
    /// Where the value came from.
    pub origin: Origin,
    /// Completes a sentence that starts with the key: "must be ...".
    pub rule: String,
    /// The value, where it helps and is no secret.
    pub got: Option<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read as text at all.
    #[error("{}: {rule}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what is allowed.
        rule: String,
    },
    /// The text is not TOML.
    #[error("{}:{line}:{column}: not valid TOML: {message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// Every broken rule, one a line.
    #[error("{}", join(.0))]
    Faults(Vec<Fault>),
}

impl ConfigError {
    /// The fault of a file that the configuration names in `key`, or every fault in that file.
    pub(crate) fn into_faults(self, key: &str, origin: Origin) -> Vec<Fault> {
        match self {
            Self::Faults(faults) => faults,
            it @ (Self::Unreadable { .. } | Self::Syntax { .. }) => {
                let rule = format!("names a file with a fault: {it}");
                vec![Fault { key: key.to_owned(), origin, rule, got: None }]
            }
        }
    }

    pub(crate) fn unreadable(path: &Path, rule: impl Into<String>) -> Self {
        Self::Unreadable { path: path.to_owned(), rule: rule.into() }
    }
}

fn join(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<String>>().join("\n")
}
