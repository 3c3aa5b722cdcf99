//! Passwords, which come from files only.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The largest password file, in bytes.
const MAX_LEN: u64 = 4096;
const READABLE_BY_EVERYONE: u32 = 0o004;

/// The secret in `path`, or the rule that it breaks, as the end of a sentence that starts with
/// the key. The message never holds the secret.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("names a file that cannot be read: {error}");
    // Looked at before it is opened, because opening a pipe waits for a writer.
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "folder" } else { "pipe or device" };
        return Err(format!("names a {what}; it must name a file"));
    }
    let file = File::open(path).map_err(cannot)?;
    if metadata.permissions().mode() & READABLE_BY_EVERYONE != 0 {
        return Err("names a file that every user may read; run `chmod o-r` on it".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if MAX_LEN < bytes.len() as u64 {
        return Err(format!("names a file that is larger than {MAX_LEN} bytes"));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| "names a file that is not UTF-8 text".to_owned())?;
    let line =
        text.strip_suffix('\n').map_or(text.as_str(), |it| it.strip_suffix('\r').unwrap_or(it));
    if line.is_empty() {
        return Err("names an empty file; it must hold the password".to_owned());
    }
    Ok(line.to_owned())
}
