//! From a hub into a folder: what is there already, what is missing, and whether it is right.
//!
//! What is on its way is in the folder `.lookout-get`, under a name that is made of the file's
//! path and hash, so a later run goes on with it, and never with another version's bytes.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, header};

use crate::address::check_path;
use crate::client::{Reply, Span};
use crate::{File, Hash, Hub, HubError, Repo};

const PARTS: &str = ".lookout-get";
const LOCK: &str = "lock";
/// Times that a broken connection is made anew without much gain.
const MAX_RETRIES: u32 = 4;
/// A gain that makes up for a retry, in bytes.
const GAIN: u64 = 8 << 20;

/// Is told how a file comes along.
pub trait Watch {
    /// So many bytes of the file are there.
    fn progress(&mut self, bytes: u64);

    /// Before try number `attempt` to go on, from 1; it waits as long as it sees fit.
    fn retry(&mut self, attempt: u32, error: &HubError);
}

/// What a file took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes of the file that were there before.
    pub kept: u64,
    /// Bytes that came over the network.
    pub received: u64,
}

/// A folder to fetch into, for one process at a time.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    /// Whether files that are not the hub's may be replaced.
    replace: bool,
    lock: fs::File,
}

impl Folder {
    /// Takes the folder at `dir`, and makes it where its parent is there. Other files in it are
    /// left alone.
    pub fn open(dir: &Path, replace: bool) -> Result<Self, HubError> {
        make_dir(dir, true)?;
        let parts = dir.join(PARTS);
        make_dir(&parts, false)?;
        let path = parts.join(LOCK);
        let lock = fs::File::create(&path).map_err(io_error(&path, "create it"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), replace, lock }),
            Err(fs::TryLockError::WouldBlock) => Err(HubError::Busy { path: dir.to_owned() }),
            Err(fs::TryLockError::Error(source)) => {
                Err(HubError::Io { path, what: "lock it", source })
            }
        }
    }

    /// Removes what was on its way. Everything that is wanted must be there.
    pub fn finish(self) -> Result<(), HubError> {
        let parts = self.dir.join(PARTS);
        fs::remove_dir_all(&parts).map_err(io_error(&parts, "remove it"))?;
        drop(self.lock);
        Ok(())
    }

    /// Where a file of the hub comes to. Folders on the way are made; none of them is a link.
    pub(crate) fn target(&self, path: &str) -> Result<PathBuf, HubError> {
        check_path(path)?;
        let mut target = self.dir.clone();
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            target.push(part);
            if parts.peek().is_some() {
                make_dir(&target, false)?;
            }
        }
        Ok(target)
    }

    /// Whether `target` may be written: nothing is there, or what may be replaced.
    pub(crate) fn check_replaceable(&self, target: &Path) -> Result<(), HubError> {
        match fs::symlink_metadata(target) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(err) => Err(io_error(target, "look at it")(err)),
            Ok(it) if self.replace && !it.is_dir() => Ok(()),
            Ok(_) => Err(HubError::Exists { path: target.to_owned() }),
        }
    }

    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.dir.join(PARTS).join(name)
    }
}

impl Hub {
    /// Fetches one file of at most `limit` bytes into `folder`, at its own path there. What an
    /// earlier run brought is not fetched again. The file is in its place only when its length
    /// and hash are those of the listing; what is wrong is removed.
    pub fn fetch(
        &self,
        repo: &Repo,
        file: &File,
        limit: u64,
        folder: &Folder,
        watch: &mut dyn Watch,
    ) -> Result<Fetched, HubError> {
        let File { path, bytes, hash } = file;
        if limit < *bytes {
            return Err(HubError::Size { file: path.clone(), bytes: *bytes, limit });
        }
        let target = folder.target(path)?;
        if is_there(&target, file)? {
            watch.progress(*bytes);
            return Ok(Fetched { kept: *bytes, received: 0 });
        }
        folder.check_replaceable(&target)?;

        let key = Sha256::digest(format!("{path}\n{bytes}\n{hash}"));
        let part = folder.part(&format!("{}.part", hex(&key[..16])));
        let mut kept = None;
        let mut received = 0;
        let mut attempt = 0;
        loop {
            let before = received;
            match self.go_on(repo, file, &part, &mut kept, &mut received, watch) {
                Ok(()) => break,
                Err(err) if err.is_passing() => {
                    attempt = if GAIN <= received - before { 1 } else { attempt + 1 };
                    if MAX_RETRIES < attempt {
                        return Err(err);
                    }
                    watch.retry(attempt, &err);
                }
                Err(err) => return Err(err),
            }
        }
        fs::rename(&part, &target).map_err(io_error(&target, "put the file there"))?;
        Ok(Fetched { kept: kept.unwrap_or_default(), received })
    }

    /// Completes `part` and checks it. `kept` is set by the first try.
    fn go_on(
        &self,
        repo: &Repo,
        file: &File,
        part: &Path,
        kept: &mut Option<u64>,
        received: &mut u64,
        watch: &mut dyn Watch,
    ) -> Result<(), HubError> {
        let bytes = file.bytes;
        let mut output = open_part(part)?;
        let mut hasher = Hasher::new(file);
        let len = output.metadata().map_err(io_error(part, "look at it"))?.len();
        let mut done = 0;
        if len <= bytes {
            done = hasher.read(&mut output).map_err(io_error(part, "read it"))?;
        } else {
            output.set_len(0).map_err(io_error(part, "shorten it"))?;
        }
        watch.progress(done);
        if done < bytes {
            let span = (0 < done).then_some(Span { start: done, end: bytes });
            let mut reply = self.get(&self.address(repo, file), span, bytes - done)?;
            if check_part(&reply, done, bytes)? == 0 && 0 < done {
                // It sends all of it, not what was asked for.
                done = 0;
                hasher = Hasher::new(file);
                output.set_len(0).map_err(io_error(part, "shorten it"))?;
                output.rewind().map_err(io_error(part, "shorten it"))?;
                watch.progress(0);
            }
            kept.get_or_insert(done);
            let mut reader = reply.body.as_reader();
            let mut buffer = vec![0; 1 << 16];
            loop {
                let n = match reader.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => n,
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                    Err(err) => return Err(short(file, done, Some(err))),
                };
                if bytes - done < n as u64 {
                    remove(part)?;
                    let rule = format!("{bytes} bytes, as it was listed");
                    let got = "more".to_owned();
                    return Err(HubError::Answer { url: reply.url, what: "the file", rule, got });
                }
                output.write_all(&buffer[..n]).map_err(|err| write_error(part, file, done, err))?;
                hasher.update(&buffer[..n]);
                done += n as u64;
                *received += n as u64;
                watch.progress(done);
            }
            if done < bytes {
                return Err(short(file, done, None));
            }
        }
        kept.get_or_insert(done);
        output.sync_all().map_err(|err| write_error(part, file, done, err))?;
        let got = hasher.finish();
        if got != file.hash.digits() {
            remove(part)?;
            let (file, expected) = (file.path.clone(), file.hash.clone());
            return Err(HubError::Hash { file, expected, got });
        }
        Ok(())
    }
}

/// Where in the file the answer begins, which is `done` or, where the hub does not send parts, 0.
fn check_part(reply: &Reply, done: u64, bytes: u64) -> Result<u64, HubError> {
    let start = if reply.status.as_u16() == 206 {
        let expected = format!("bytes {done}-{}/{bytes}", bytes - 1);
        let got = text(&reply.headers, header::CONTENT_RANGE);
        if got != expected {
            let (url, got) = (reply.url.clone(), format!("{got:?}"));
            return Err(HubError::Answer { url, what: "Content-Range", rule: expected, got });
        }
        done
    } else {
        0
    };
    let got = text(&reply.headers, header::CONTENT_LENGTH);
    let expected = (bytes - start).to_string();
    if !got.is_empty() && got != expected {
        let (url, got) = (reply.url.clone(), format!("{got:?}"));
        return Err(HubError::Answer { url, what: "Content-Length", rule: expected, got });
    }
    Ok(start)
}

pub(crate) fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default()
}

/// Whether the hub's file is at `target` already.
fn is_there(target: &Path, file: &File) -> Result<bool, HubError> {
    let is_like = |it: fs::Metadata| it.is_file() && it.len() == file.bytes;
    if !fs::symlink_metadata(target).is_ok_and(is_like) {
        return Ok(false);
    }
    let mut input = fs::File::open(target).map_err(io_error(target, "open it"))?;
    let mut hasher = Hasher::new(file);
    hasher.read(&mut input).map_err(io_error(target, "read it"))?;
    Ok(hasher.finish() == file.hash.digits())
}

fn open_part(path: &Path) -> Result<fs::File, HubError> {
    if fs::symlink_metadata(path).is_ok_and(|it| !it.is_file()) {
        return Err(HubError::Place { path: path.to_owned(), rule: "a file of an earlier run" });
    }
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).map_err(io_error(path, "create it"))
}

/// Makes a folder, or sees that it is one; a link to one only where `may_link`.
fn make_dir(path: &Path, may_link: bool) -> Result<(), HubError> {
    match fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = if may_link { fs::metadata(path) } else { fs::symlink_metadata(path) };
            if metadata.is_ok_and(|it| it.is_dir()) {
                return Ok(());
            }
            Err(HubError::Place { path: path.to_owned(), rule: "a folder, and no link" })
        }
        Err(err) => Err(io_error(path, "make this folder")(err)),
    }
}

pub(crate) fn io_error(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> HubError {
    move |source| HubError::Io { path: path.to_owned(), what, source }
}

/// A full disk is told as what it is.
fn write_error(path: &Path, file: &File, got: u64, source: io::Error) -> HubError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            HubError::Full { path, file: file.path.clone(), expected: file.bytes, got, source }
        }
        _ => HubError::Io { path, what: "write it", source },
    }
}

fn short(file: &File, got: u64, source: Option<io::Error>) -> HubError {
    HubError::Short { file: file.path.clone(), expected: file.bytes, got, source }
}

fn remove(path: &Path) -> Result<(), HubError> {
    fs::remove_file(path).map_err(io_error(path, "remove it"))
}

enum Hasher {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Hasher {
    fn new(file: &File) -> Self {
        match file.hash {
            Hash::Sha256(_) => Self::Sha256(Sha256::new()),
            Hash::GitBlob(_) => {
                Self::GitBlob(Sha1::new_with_prefix(format!("blob {}\0", file.bytes)))
            }
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(it) => it.update(bytes),
            Self::GitBlob(it) => it.update(bytes),
        }
    }

    /// Takes all of `input`, and gives its length.
    fn read(&mut self, input: &mut fs::File) -> io::Result<u64> {
        let mut buffer = vec![0; 1 << 16];
        let mut len = 0;
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return Ok(len),
                Ok(n) => {
                    self.update(&buffer[..n]);
                    len += n as u64;
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Sha256(it) => hex(&it.finalize()),
            Self::GitBlob(it) => hex(&it.finalize()),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_as_such() {
        let file = File {
            path: "onnx/model.onnx".to_owned(),
            bytes: 1000,
            hash: Hash::Sha256("0".repeat(64)),
        };
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let text = write_error(Path::new("x.part"), &file, 600, kind.into()).to_string();
            assert!(text.contains("no room left for onnx/model.onnx"), "{text}");
            assert!(text.contains("600 of 1000 bytes"), "{text}");
        }
        let other = write_error(Path::new("x.part"), &file, 600, io::ErrorKind::BrokenPipe.into());
        assert!(other.to_string().contains("cannot write it"));
    }
}
