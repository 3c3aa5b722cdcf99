//! How a verb fails, and the exit code that says so.

use std::process::ExitCode;

use lookout_config::{ConfigError, Fault};

/// Why a verb did not do all it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration or class list is wrong: every fault, one a line.
    Config(Vec<String>),
    /// Parts failed; each was reported where it stood.
    Partial,
    /// Anything else.
    Other(anyhow::Error),
}

/// sysexits.h: `EX_CONFIG`. The service manager does not restart on it.
const EX_CONFIG: u8 = 78;

impl Failure {
    /// Reports what was not reported yet.
    pub(crate) fn report(&self) {
        for line in self.lines() {
            crate::output::complain(&line);
        }
    }

    /// What was not reported yet, each fault by itself.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            Self::Config(faults) => faults.clone(),
            Self::Partial => Vec::new(),
            Self::Other(error) => vec![format!("{error:#}")],
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::from(EX_CONFIG),
            Self::Partial | Self::Other(_) => ExitCode::FAILURE,
        }
    }

    pub(crate) fn faults(faults: &[Fault]) -> Self {
        Self::Config(faults.iter().map(ToString::to_string).collect())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Faults(faults) => Self::faults(&faults),
            other => Self::Config(vec![format!("{:#}", anyhow::Error::from(other))]),
        }
    }
}
