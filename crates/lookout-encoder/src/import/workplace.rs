//! The folder beside its place in which a bundle is made. It is locked while its import lives, so
//! that what killed imports left can be told from what others are at.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::json::Faults;
use super::write::OWN_FILES;
use crate::bundle::{hex, is_terms};
use crate::onnx::OnnxWriter;
use crate::{Bundle, EncoderError};

const PREFIX: &str = ".lookout-import-";
/// Digits of the hash of the output's name, which tell imports of one output from others.
const HASH_DIGITS: usize = 8;
/// Characters that make a name unique.
const RANDOM_CHARS: usize = 6;
/// How often another process may take a new folder for an old one before it is locked.
const ATTEMPTS: usize = 8;

/// A new folder, and its lock.
pub(super) struct Workplace {
    pub(super) folder: TempDir,
    pub(super) lock: File,
}

impl Workplace {
    /// Makes the folder in `parent`, and removes there what killed imports left. Fails where
    /// another import is writing `output`.
    pub(super) fn open(parent: &Path, output: &Path) -> Result<Self, EncoderError> {
        let write_error = |source| EncoderError::Write { path: parent.to_owned(), source };
        let name = output.file_name().unwrap_or_default().as_encoded_bytes();
        let hash = hex(&Sha256::digest(name));
        let prefix = format!("{PREFIX}{}-", &hash[..HASH_DIGITS]);
        let made = (0..ATTEMPTS).find_map(|_| Self::make(parent, &prefix).transpose());
        let taken = || Err(io::Error::other("other processes remove what is made there"));
        let workplace = made.unwrap_or_else(taken).map_err(write_error)?;
        for entry in fs::read_dir(parent).map_err(write_error)? {
            let path = entry.map_err(write_error)?.path();
            let is_own = path.file_name() == workplace.folder.path().file_name();
            if is_own || !is_workplace(&path) {
                continue;
            }
            // What cannot be opened or locked is left alone.
            let Ok(folder) = File::open(&path) else { continue };
            match folder.try_lock() {
                Ok(()) => clear(&path),
                Err(TryLockError::WouldBlock) => {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    if name.starts_with(&prefix) {
                        return Err(busy(output));
                    }
                }
                Err(TryLockError::Error(_)) => {}
            }
        }
        Ok(workplace)
    }

    /// `None` where another process took the new folder for an old one.
    fn make(parent: &Path, prefix: &str) -> io::Result<Option<Self>> {
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .rand_bytes(RANDOM_CHARS)
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(parent)?;
        let Ok(lock) = File::open(folder.path()) else { return Ok(None) };
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            // Nobody else can lock it there, and so remove it, either.
            Err(TryLockError::Error(error)) => {
                tracing::warn!(%error, "Other imports into the same place will not be noticed.");
            }
            Ok(()) => {}
        }
        let locked = lock.metadata()?;
        let is_there = fs::metadata(folder.path())
            .is_ok_and(|it| (it.dev(), it.ino()) == (locked.dev(), locked.ino()));
        Ok(is_there.then_some(Self { folder, lock }))
    }
}

/// Whether the name is one that an import gives, and a folder has it.
fn is_workplace(path: &Path) -> bool {
    let is_named = || {
        let rest = path.file_name()?.to_str()?.strip_prefix(PREFIX)?;
        let (hash, random) = rest.split_once('-')?;
        let is_hash = hash.len() == HASH_DIGITS && hash.bytes().all(|it| it.is_ascii_hexdigit());
        let is_random = random.bytes().all(|it| it.is_ascii_alphanumeric());
        Some(is_hash && random.len() == RANDOM_CHARS && is_random)
    };
    is_named() == Some(true) && fs::symlink_metadata(path).is_ok_and(|it| it.is_dir())
}

/// Removes a folder that no import is at, unless there is something in it that none made.
fn clear(path: &Path) {
    let Ok(entries) = fs::read_dir(path) else { return };
    let is_own = |it: io::Result<fs::DirEntry>| {
        let name = it.map(|it| it.file_name()).unwrap_or_default();
        name.to_str().is_some_and(|it| {
            OWN_FILES.contains(&it) || is_terms(it) || OnnxWriter::is_temporary(it)
        })
    };
    let is_ours = entries.into_iter().all(is_own)
        || Bundle::others(path).is_ok_and(|others| others.is_empty());
    if !is_ours {
        return;
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let folder = path.display();
            tracing::warn!(%folder, %error, "What a killed import left cannot be removed.");
        }
        _ => {}
    }
}

fn busy(output: &Path) -> EncoderError {
    let mut faults = Faults::default();
    let rule = "a folder that nothing else writes; wait until the other import ends, or choose \
                another output";
    faults.add("output", rule, "one that another import is writing");
    EncoderError::Invalid { path: output.to_owned(), faults: faults.0 }
}
