//! What can go wrong between a hub and a folder.

use std::io;
use std::path::PathBuf;

use crate::Hash;

/// Why something was not fetched. Addresses are shown without their query, which may be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    #[error("{what} must be {rule}, got {got:?}")]
    Address { what: &'static str, rule: &'static str, got: String },

    #[error(
        "the system has no root certificate to check a hub with ({reason}); install its package, \
         such as ca-certificates"
    )]
    NoRoots { reason: String },

    #[error("cannot talk to {url}")]
    Connect { url: String, source: Box<ureq::Error> },

    #[error("{url} answers {status}: {hint}")]
    Status { url: String, status: u16, hint: &'static str },

    #[error("{url}: {what} must be {rule}, got {got}")]
    Answer { url: String, what: &'static str, rule: String, got: String },

    #[error("the hub lists a file {got:?}: a file must be in the repository, below its top folder")]
    Path { got: String },

    #[error("{file} has {bytes} bytes at the hub; at most {limit} are fetched for such a file")]
    Size { file: String, bytes: u64, limit: u64 },

    #[error(
        "{file}: the connection ended at {got} of {expected} bytes; run the command again, and it \
         goes on from there"
    )]
    Short { file: String, expected: u64, got: u64, source: Option<io::Error> },

    #[error("{file}: {} must be {expected}, got {got}; nothing of it was kept", expected.kind())]
    Hash { file: String, expected: Hash, got: String },

    #[error(
        "{}: no room left for {file}, of which {got} of {expected} bytes are there; free some, run \
         the command again, and it goes on from there",
        path.display()
    )]
    Full { path: PathBuf, file: String, expected: u64, got: u64, source: io::Error },

    #[error("{}: cannot {what}", path.display())]
    Io { path: PathBuf, what: &'static str, source: io::Error },

    #[error("{}: must be {rule}; move it away or choose another folder", path.display())]
    Place { path: PathBuf, rule: &'static str },

    #[error(
        "{}: something else than the hub's file stands there; --force replaces it",
        path.display()
    )]
    Exists { path: PathBuf },

    #[error("{}: another download is writing there; wait for its end", path.display())]
    Busy { path: PathBuf },
}

impl HubError {
    /// Whether the same may succeed when it is tried again at once.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Short { .. } => true,
            Self::Status { status, .. } => matches!(status, 429 | 500 | 502 | 503 | 504),
            Self::Address { .. }
            | Self::NoRoots { .. }
            | Self::Answer { .. }
            | Self::Path { .. }
            | Self::Size { .. }
            | Self::Hash { .. }
            | Self::Full { .. }
            | Self::Io { .. }
            | Self::Place { .. }
            | Self::Exists { .. }
            | Self::Busy { .. } => false,
        }
    }
}
