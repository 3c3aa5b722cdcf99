//! A small text file that is wholly there or not: a line with what it is and the version of its form, a
//! JSON document, a line with the checksum of all before it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A larger file is not read.
pub(crate) const MAX_BYTES: u64 = 64 << 20;
const CHECKSUM: &str = "crc32 ";
/// How often another process may finish its own file while this one opens it.
const ATTEMPTS: usize = 1000;

/// A kept file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is a folder, a device or the like.
    #[error("{} must be a regular file", path.display())]
    NoFile {
        /// What it was taken for.
        path: PathBuf,
    },
    /// Another process has it, and only one may.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is something else, or of another version of this program.
    #[error("{} must begin with {expected:?}, got {got:?}; move it away or name another", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// Its first line as this program writes it.
        expected: String,
        /// Its first line.
        got: String,
    },
}

/// Reads the document in `path`, whose first line must be `heading`.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, heading: &str) -> Result<T, StoreError> {
    let failed = |source| StoreError::Read { path: path.to_path_buf(), source };
    let damaged = |reason: String| StoreError::Damaged { path: path.to_path_buf(), reason };
    check_is_file(path)?;
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if MAX_BYTES < bytes.len() as u64 {
        return Err(damaged(format!("it has more than {MAX_BYTES} bytes")));
    }
    if !self::heading(path, heading, &bytes, has_checksum)? {
        return Err(damaged("its first line is damaged or cut off".to_owned()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|it| damaged(it.to_string()))?;
    let checked = text.strip_suffix('\n').and_then(|it| {
        let end = it.rfind('\n')? + 1;
        Some((&it[..end], it[end..].strip_prefix(CHECKSUM)?))
    });
    let (content, checksum) = checked.ok_or_else(|| damaged("it is cut off".to_owned()))?;
    if self::checksum(content) != checksum {
        return Err(damaged("its checksum is wrong; it is not to be edited by hand".to_owned()));
    }
    serde_json::from_str(&content[heading.len() + 1..]).map_err(|it| damaged(it.to_string()))
}

/// Asked before a file is opened: opening a FIFO waits for a writer.
pub(crate) fn check_is_file(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Read { path: path.to_path_buf(), source };
    match fs::metadata(path).map_err(failed)?.is_file() {
        true => Ok(()),
        false => Err(StoreError::NoFile { path: path.to_path_buf() }),
    }
}

/// Whether the first line of `bytes` is `heading`, whole; where it is not, the file is damaged. Errs when it is
/// something else: no more than a part of that line is what a disk may leave of one, or zeros; and `is_ours`
/// knows the rest by its checksums.
pub(crate) fn heading(
    path: &Path,
    heading: &str,
    bytes: &[u8],
    is_ours: impl Fn(&[u8]) -> bool,
) -> Result<bool, StoreError> {
    let first = bytes.split(|it| *it == b'\n').next().unwrap_or_default();
    let is_whole = first == heading.as_bytes() && first.len() < bytes.len();
    if is_whole || heading.as_bytes().starts_with(bytes) || bytes.iter().all(|it| *it == 0) {
        return Ok(is_whole);
    }
    let name = heading.trim_end_matches(|it: char| it.is_ascii_digit());
    let version = first.strip_prefix(name.as_bytes());
    let is_other_version = version.is_some_and(|it| it.iter().all(u8::is_ascii_digit));
    if !is_other_version && is_ours(bytes) {
        return Ok(false);
    }
    let got = String::from_utf8_lossy(first).chars().take(80).collect();
    Err(StoreError::Other { path: path.to_path_buf(), expected: heading.to_owned(), got })
}

/// Whether `bytes` end with a checksum, be it right or wrong.
fn has_checksum(bytes: &[u8]) -> bool {
    let end = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let last = end.rsplit(|it| *it == b'\n').next().unwrap_or_default();
    last.strip_prefix(CHECKSUM.as_bytes())
        .is_some_and(|it| it.len() == 8 && it.iter().all(u8::is_ascii_hexdigit))
}

/// Copies a damaged file beside itself, with `.damaged` added to its name, so that whoever looks into it
/// later finds the last one. The copy.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    copy_beside(path, ".damaged")
}

pub(crate) fn copy_beside(path: &Path, suffix: &str) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    let copy = PathBuf::from(name);
    fs::copy(path, &copy)?;
    Ok(copy)
}

pub(crate) fn checksum(content: &str) -> String {
    format!("{:08x}", crc32fast::hash(content.as_bytes()))
}

/// Writes `document` under `heading`: contents and folder are on the disk before this returns. On an
/// error `path` is as it was, but for one case: where the folder alone cannot be brought to the disk, it is
/// the new file, and a loss of power may bring the old one back. It is never anything else.
pub(crate) fn write<T: Serialize>(
    path: &Path,
    heading: &str,
    document: &T,
) -> Result<(), StoreError> {
    replace(path, heading, Busy::Refuse, || Ok(document))
}

/// Likewise, the document that `make` makes of what is in `path` then. Other processes that do so wait for
/// each other, so that none loses what another wrote.
pub(crate) fn update<T: Serialize>(
    path: &Path,
    heading: &str,
    make: impl FnOnce() -> Result<T, StoreError>,
) -> Result<(), StoreError> {
    replace(path, heading, Busy::Wait, make)
}

/// What to do while another process writes the file.
#[derive(Clone, Copy)]
pub(crate) enum Busy {
    Refuse,
    Wait,
}

/// Whether `path` can be written, tried without writing it.
pub(crate) fn try_write(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Write { path: path.to_path_buf(), source };
    let temporary = temporary(path).map_err(failed)?;
    open_locked(&temporary, Busy::Wait).and_then(|_| fs::remove_file(&temporary)).map_err(failed)
}

/// The name beside `path` that a new file has until it is complete.
pub(crate) fn temporary(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".tmp");
    Ok(path.with_file_name(temporary))
}

fn replace<T: Serialize>(
    path: &Path,
    heading: &str,
    busy: Busy,
    make: impl FnOnce() -> Result<T, StoreError>,
) -> Result<(), StoreError> {
    let failed = |source| StoreError::Write { path: path.to_path_buf(), source };
    let temporary = temporary(path).map_err(failed)?;
    let mut file = open_locked(&temporary, busy).map_err(failed)?;
    let written = make().and_then(|it| {
        let document = serde_json::to_string_pretty(&it).map_err(|it| failed(it.into()))?;
        let mut content = format!("{heading}\n{document}\n");
        content += &format!("{CHECKSUM}{}\n", checksum(&content));
        file.set_len(0)
            .and_then(|()| file.write_all(content.as_bytes()))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, path))
            .map_err(failed)
    });
    if let Err(error) = written {
        // What is left over is as good as none.
        fs::remove_file(&temporary).ok();
        return Err(error);
    }
    sync_folder(path).map_err(failed)
}

/// Brings what `path` is called to the disk.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|it| it.sync_all())
}

/// A file of that name that no other process writes, to be read from its beginning and written at its end.
/// What a killed process left of it is used again. [`io::ErrorKind::ResourceBusy`]: another has it.
pub(crate) fn open_locked(path: &Path, busy: Busy) -> io::Result<File> {
    for _ in 0..ATTEMPTS {
        let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let locked = match busy {
            Busy::Refuse => file.try_lock(),
            Busy::Wait => file.lock().map_err(TryLockError::Error),
        };
        match locked {
            Err(TryLockError::WouldBlock) => {
                let why = "another process is writing it";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
            }
            // Without locks the name is all there is.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        // Another process may have finished it before it was locked: then it is the file itself.
        match fs::metadata(path) {
            Ok(it) if it.ino() == file.metadata()?.ino() => return Ok(file),
            _ => {}
        }
    }
    Err(io::Error::other("other processes write it all the time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str = "lookout test 1";

    fn kept() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        write(&path, HEADING, &vec!["ä", "b\n"]).unwrap();
        (folder, path)
    }

    #[test]
    fn what_was_written_is_read_again() {
        let (folder, path) = kept();
        assert_eq!(read::<Vec<String>>(&path, HEADING).unwrap(), ["ä", "b\n"]);
        write(&path, HEADING, &["c"]).unwrap();
        assert_eq!(read::<Vec<String>>(&path, HEADING).unwrap(), ["c"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn no_damage_passes() {
        let (_folder, path) = kept();
        let whole = fs::read(&path).unwrap();
        let error = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read::<Vec<String>>(&path, HEADING).unwrap_err()
        };
        for len in 0..whole.len() {
            let error = error(&whole[..len]);
            assert!(matches!(error, StoreError::Damaged { .. }), "{len} bytes: {error}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 8;
            // What is left may be of another version.
            let is_version = at + 1 == HEADING.len() && flipped[at].is_ascii_digit();
            let error = error(&flipped);
            assert_eq!(matches!(error, StoreError::Damaged { .. }), !is_version, "{at}: {error}");
        }
        assert!(matches!(error(&[0; 400]), StoreError::Damaged { .. }), "a loss of power");
        error(&[whole.as_slice(), b"x"].concat());
        let other = error(b"lookout test 2\n[]\n");
        assert_eq!(
            other.to_string(),
            format!(
                "{} must begin with \"lookout test 1\", got \"lookout test 2\"; move it away or name \
                 another",
                path.display()
            )
        );
    }

    #[test]
    fn a_sound_file_of_another_form_is_damage_too() {
        let (_folder, path) = kept();
        let error = read::<Vec<u32>>(&path, HEADING).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }

    #[test]
    fn a_killed_writer_hinders_nobody_and_a_living_one_is_told() {
        let (folder, path) = kept();
        let temporary = folder.path().join(".kept.tmp");
        fs::write(&temporary, "much longer than what will be written".repeat(9)).unwrap();
        write(&path, HEADING, &["c"]).unwrap();
        assert_eq!(read::<Vec<String>>(&path, HEADING).unwrap(), ["c"]);
        let other = open_locked(&temporary, Busy::Refuse).unwrap();
        let error = write(&path, HEADING, &["d"]).unwrap_err();
        assert!(matches!(error, StoreError::Write { .. }), "{error}");
        drop(other);
        assert_eq!(read::<Vec<String>>(&path, HEADING).unwrap(), ["c"]);
    }

    #[test]
    fn nobody_loses_what_others_add() {
        let (folder, path) = kept();
        write(&path, HEADING, &Vec::<u32>::new()).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for n in 0..10u32 {
                        update(path, HEADING, || {
                            let mut all: Vec<u32> = read(path, HEADING)?;
                            all.push(writer * 10 + n);
                            Ok(all)
                        })
                        .unwrap();
                    }
                });
            }
        });
        let mut all: Vec<u32> = read(&path, HEADING).unwrap();
        all.sort_unstable();
        assert_eq!(all, (0..40).collect::<Vec<_>>());
        let whole = fs::read(&path).unwrap();
        let refused = update(&path, HEADING, || read::<Vec<String>>(&path, HEADING));
        assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
        assert_eq!(fs::read(&path).unwrap(), whole);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// Opening it would wait for a writer, for ever.
    #[test]
    fn a_fifo_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert!(matches!(read::<Vec<String>>(&path, HEADING), Err(StoreError::NoFile { .. })));
        assert!(matches!(crate::EventSpool::open(&path), Err(StoreError::NoFile { .. })));
    }

    #[test]
    fn what_cannot_be_replaced_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("folder");
        fs::create_dir(&path).unwrap();
        assert!(matches!(write(&path, HEADING, &["c"]), Err(StoreError::Write { .. })));
        assert!(matches!(read::<Vec<String>>(&path, HEADING), Err(StoreError::NoFile { .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let gone = folder.path().join("gone/file");
        assert!(matches!(write(&gone, HEADING, &["c"]), Err(StoreError::Write { .. })));
        assert!(matches!(read::<Vec<String>>(&gone, HEADING), Err(StoreError::Read { .. })));
    }
}
