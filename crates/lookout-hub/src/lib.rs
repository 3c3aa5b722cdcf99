//! Files of a model hub, over HTTP: listed, fetched, resumed, checked.
//!
//! A hub is whatever answers like the Hugging Face one: `/api/models/REPO/revision/REV` for the
//! commit, `/api/models/REPO/tree/COMMIT` for the files with their hashes, and
//! `/REPO/resolve/COMMIT/PATH` for a file. A hub is not trusted: what it says is bounded and
//! checked, a file reaches its place only with the hash of the listing, and nothing is written
//! outside the folder. All of it rests on the listing, so on TLS and on the hub itself.

mod address;
mod client;
mod download;
mod error;
mod listing;
mod tensors;

pub use address::{Endpoint, RepoId, Revision, Token};
pub use client::{Hub, Timeouts};
pub use download::{Fetched, Folder, Watch};
pub use error::HubError;
pub use listing::{File, Hash, Repo};
pub use tensors::Tensors;
