//! Files and folders, opened so that nothing blocks and nothing is without an end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::SourceError;

/// Endings of file names that are pictures, in lower case.
const PICTURES: [&str; 6] = ["bmp", "gif", "jpeg", "jpg", "png", "webp"];

/// Whether a file name ends as a picture's.
pub(crate) fn is_picture_ending(ending: &str) -> bool {
    PICTURES.iter().any(|it| ending.eq_ignore_ascii_case(it))
}

/// A name that can be shown and written down.
pub(crate) fn plain_name(name: &OsStr) -> Option<&str> {
    name.to_str().filter(|it| !it.chars().any(char::is_control))
}

/// Opens a file and gives its length.
pub(crate) fn open(path: &Path) -> Result<(File, u64), SourceError> {
    open_regular(path).map_err(|source| SourceError::Read { path: path.to_path_buf(), source })
}

/// As [`open`], with the system's error alone.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    // Asked before opening: opening a pipe waits for a writer.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it must be a regular file"));
    }
    Ok((File::open(path)?, metadata.len()))
}

/// The contents of a small file; `None` when it has more than `limit` bytes.
pub(crate) fn read_small(path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let (file, _) = open_regular(path)?;
    let mut bytes = Vec::new();
    file.take((limit as u64).saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|it| it.len() <= limit))
}

/// A small file of text. Errs where it is too large or is not UTF-8, with the line that is not.
pub(crate) fn read_text(path: &Path, limit: usize) -> Result<String, SourceError> {
    let wrong = |line, problem| SourceError::Set { path: path.to_path_buf(), line, problem };
    let bytes = read_small(path, limit)
        .map_err(|source| SourceError::Read { path: path.to_path_buf(), source })?
        .ok_or_else(|| wrong(None, format!("the file must have at most {limit} bytes")))?;
    String::from_utf8(bytes).map_err(|error| {
        let (valid, rest) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let line = 1 + valid.iter().filter(|it| **it == b'\n').count();
        let got = rest.first().map_or_else(String::new, |it| format!(", got the byte 0x{it:02x}"));
        wrong(Some(line), format!("the file must be UTF-8{got}"))
    })
}

/// The regular files in a folder, links to files among them, by name.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let unreadable = |source| SourceError::Read { path: folder.to_path_buf(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // A file that has gone meanwhile is none.
        if fs::metadata(&path).is_ok_and(|it| it.is_file()) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
