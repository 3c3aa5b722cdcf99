//! Files that are either written wholly or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::format::MAGIC;
use crate::taught;

const PREFIX: &str = ".lookout-";
const SUFFIX: &str = ".tmp";
/// Characters that make a name unique.
const RANDOM_CHARS: usize = 6;
/// How often another process may take a new file for an old one before it is locked.
const ATTEMPTS: usize = 8;

/// Writes `path` through a temporary file beside it: contents and folder are on the disk before
/// this returns, and on an error the temporary file is gone and `path` is as it was. Temporary
/// files that killed processes left in the folder are removed.
///
/// A file that is mapped elsewhere keeps its old contents there, because it is replaced and
/// never changed.
pub(crate) fn write_atomically(
    path: &Path,
    body: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut temporary = temporary(path)?;
    let mut writer = BufWriter::new(temporary.as_file_mut());
    body(&mut writer)?;
    writer.flush()?;
    drop(writer);
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|it| it.error)?;
    File::open(folder(path))?.sync_all()
}

/// As [`write_atomically`], but what stands at `path` stays, and that is no error.
pub(crate) fn create_atomically(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut temporary = temporary(path)?;
    temporary.write_all(contents)?;
    temporary.as_file().sync_all()?;
    match temporary.persist_noclobber(path) {
        Err(it) if it.error.kind() != io::ErrorKind::AlreadyExists => return Err(it.error),
        Ok(_) | Err(_) => {}
    }
    File::open(folder(path))?.sync_all()
}

/// Makes the temporary file that [`write_atomically`] begins with, and removes it.
pub(crate) fn try_write(path: &Path) -> io::Result<()> {
    temporary(path)?.close()
}

/// A new file that is locked while this process lives, where the file system has locks.
fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let folder = folder(path);
    if !folder.is_dir() {
        let told = format!("there is no folder {}", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, told));
    }
    clear(folder);
    for _ in 0..ATTEMPTS {
        let temporary = tempfile::Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            .rand_bytes(RANDOM_CHARS)
            // The service reads as another user than the one who builds.
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(folder)
            // Its own words tell a name that nobody has given.
            .map_err(|error| io::Error::from(error.kind()))?;
        let is_taken = matches!(temporary.as_file().try_lock(), Err(fs::TryLockError::WouldBlock));
        // Another process may have taken it for an old one before it was locked.
        if !is_taken && temporary.as_file().metadata()?.nlink() != 0 {
            return Ok(temporary);
        }
    }
    Err(io::Error::other("other processes remove what is made there"))
}

/// Removes what killed processes left in `folder`: files with such a name that nobody has locked, and
/// that are empty or the beginning of what is written here. What cannot be removed hinders nobody.
fn clear(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|it| it.path()) {
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        let random = name.strip_prefix(PREFIX).and_then(|it| it.strip_suffix(SUFFIX));
        let is_named = random.is_some_and(|it| {
            it.len() == RANDOM_CHARS && it.bytes().all(|it| it.is_ascii_alphanumeric())
        });
        if !is_named || !fs::symlink_metadata(&path).is_ok_and(|it| it.is_file()) {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_err() {
            continue;
        }
        let mut start = Vec::new();
        let is_read = (&file).take(MAGIC.len() as u64).read_to_end(&mut start).is_ok();
        if is_read && [MAGIC, taught::MAGIC].iter().any(|it| it.starts_with(&start)) {
            fs::remove_file(&path).ok();
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn replaces_the_file_and_leaves_a_mapping_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        let old = File::open(&path).unwrap();
        write_atomically(&path, |it| it.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(io::read_to_string(&old).unwrap(), "old");
        assert_eq!(names(dir.path()), ["file"]);
        // As the user's umask has it for any file, so that the service can read it.
        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path) & 0o777, mode(&plain) & 0o644);
    }

    #[test]
    fn a_failure_leaves_everything_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let full = |writer: &mut BufWriter<&mut File>| {
            writer.write_all(&vec![1; 100_000])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        assert_eq!(write_atomically(&path, full).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(names(dir.path()).is_empty());
        fs::write(&path, "old").unwrap();
        write_atomically(&path, full).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["file"]);
        // A folder cannot be replaced by a file.
        fs::create_dir(dir.path().join("folder")).unwrap();
        write_atomically(&dir.path().join("folder"), |it| it.write_all(b"new")).unwrap_err();
        assert_eq!(names(dir.path()).len(), 2);
        let error = write_atomically(&dir.path().join("gone/file"), |_| Ok(())).unwrap_err();
        let gone = dir.path().join("gone");
        assert_eq!(error.to_string(), format!("there is no folder {}", gone.display()));
    }

    #[test]
    fn what_killed_builds_left_is_cleared_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at(".lookout-Ab3Xyz.tmp"), "").unwrap();
        let mut whole = crate::format::MAGIC.to_vec();
        whole.extend(b"half of an index");
        fs::write(at(".lookout-Yb3Xyz.tmp"), whole).unwrap();
        let mut kept = [".lookout-Mine34.tmp", ".lookout-notes.tmp", ".lookout-Ab3Xyz.tmp.bak"];
        kept.sort_unstable();
        for name in kept {
            fs::write(at(name), "mine").unwrap();
        }
        write_atomically(&at("first"), |it| {
            // Another build beside it ends in the meantime.
            write_atomically(&at("second"), |it| it.write_all(b"2"))?;
            it.write_all(b"1")
        })
        .unwrap();
        let mut found = names(dir.path());
        found.sort_unstable();
        assert_eq!(found, [&kept[..], &["first", "second"]].concat());
    }
}
