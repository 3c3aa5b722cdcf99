//! Files that are either written wholly or not at all.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes `path` through a temporary file beside it: contents and folder are on the disk before
/// this returns, and on an error the temporary file is gone and `path` is as it was.
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

/// Makes the temporary file that [`write_atomically`] begins with, and removes it.
pub(crate) fn try_write(path: &Path) -> io::Result<()> {
    temporary(path)?.close()
}

fn temporary(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".lookout-")
        .suffix(".tmp")
        // The service reads as another user than the one who builds.
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder(path))
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
        assert!(write_atomically(&dir.path().join("gone/file"), |_| Ok(())).is_err());
    }
}
