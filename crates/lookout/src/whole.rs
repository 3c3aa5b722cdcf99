//! Files that are wholly there or not.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// Of a file that replaces none, less what the umask takes.
const MODE: u32 = 0o644;

/// A file beside `output`, of the mode of the one that is there, if one is. Dropped, it is gone.
pub(crate) fn beside(output: &Path) -> io::Result<NamedTempFile> {
    let folder = folder(output);
    if !folder.is_dir() {
        return Err(io::Error::new(
            ErrorKind::NotFound,
            format!("there is no folder {}", folder.display()),
        ));
    }
    let file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(folder)
        // Its own words tell a name that nobody has given.
        .map_err(|error| io::Error::from(error.kind()))?;
    match fs::symlink_metadata(output) {
        Ok(it) if it.is_file() => file.as_file().set_permissions(it.permissions())?,
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(file)
}

/// Puts a file that is written to its end at `output`, on the disk when this returns. Unless it
/// `replaces`, nothing may stand there.
pub(crate) fn put(file: NamedTempFile, output: &Path, replaces: bool) -> io::Result<()> {
    file.as_file().sync_all()?;
    match replaces {
        true => file.persist(output),
        false => file.persist_noclobber(output),
    }
    .map_err(|it| it.error)?;
    File::open(folder(output))?.sync_all()
}

fn folder(output: &Path) -> &Path {
    output.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
