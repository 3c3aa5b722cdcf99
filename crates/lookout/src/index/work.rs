//! The work file of a build: what was embedded so far, beside the index to be.
//!
//! Embedding takes hours on a small board, so a build that was killed goes on where it was. The file
//! begins with what the build was started with, and grows by one record for each block of rows, each
//! with length and checksum: what was not written wholly is dropped. The lock on the file keeps a
//! second build of the same index out. No work file outlives a build that succeeded, or one that failed
//! before anything was embedded.
//!
//! After eight bytes that name the format come records: `u32` bytes of the payload, its CRC-32 as `u32`,
//! the payload. The first holds the inputs as JSON; the others hold `u32` bytes of JSON, a [`Block`] as
//! JSON, and the `f32` of its vectors, each key before its caption. Numbers are little endian.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use lookout_core::Embedding;
use lookout_sources::Tally;
use serde::{Deserialize, Serialize};

use super::encode::Vectors;

/// The last digit is the version of the format.
const MAGIC: &[u8; 8] = b"\x89LPART1\n";
const RECORD_HEAD: usize = 8;
/// A record with more bytes is no record: a block has at most 1024 entries.
const MAX_RECORD_BYTES: u64 = 256 << 20;
/// How long what was written may be lost to a power cut.
const SYNC_EVERY: Duration = Duration::from_secs(5);
/// How often another build may finish and remove the file before it is locked.
const ATTEMPTS: usize = 8;

/// What a build was started with, as names and values.
pub(super) type Inputs = Vec<(String, String)>;

/// A block of rows, dealt with.
#[derive(Serialize, Deserialize)]
pub(super) struct Block {
    /// Where the source goes on after it.
    pub(super) next: String,
    /// All that was left out up to there.
    pub(super) tally: Tally,
    /// The captions of its entries.
    pub(super) captions: Vec<String>,
    /// Captions that the filters let through, of rows that turned out to be bad.
    pub(super) spent: Vec<String>,
    /// Of each caption.
    #[serde(skip)]
    pub(super) vectors: Vec<Vectors>,
}

/// A locked work file.
pub(super) struct WorkFile {
    path: PathBuf,
    file: File,
    dimension: usize,
    own_keys: bool,
    last_sync: Duration,
    /// Whether there is something in it that is worth keeping.
    keep: bool,
}

impl WorkFile {
    /// Where the work file of `output` is.
    pub(super) fn path(output: &Path) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(output.file_name().unwrap_or_default());
        name.push(".part");
        output.with_file_name(name)
    }

    /// Opens and locks the work file of `output`, and begins it where there is none or with
    /// `restart`. Errs when another build has it, and when it was begun with other inputs.
    pub(super) fn open(
        output: &Path,
        inputs: &Inputs,
        restart: bool,
        dimension: usize,
        own_keys: bool,
    ) -> anyhow::Result<Self> {
        let path = Self::path(output);
        let file = lock(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let Some(file) = file else {
            bail!(
                "{}: another build is writing this index; wait for it, or choose another output \
                 ({} is locked)",
                output.display(),
                path.display()
            )
        };
        let (last_sync, keep) = (Duration::ZERO, true);
        let mut it = Self { path, file, dimension, own_keys, last_sync, keep };
        match it.begun_with()? {
            Some(begun) if !restart => it.compare(&begun, inputs)?,
            _ => it.begin(inputs)?,
        }
        Ok(it)
    }

    /// Gives every whole block to `each`, and cuts off what comes after the last.
    pub(super) fn replay(
        &mut self,
        mut each: impl FnMut(Block) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let path = self.path.clone();
        let about = || format!("cannot read {}", path.display());
        let mut end = self.after_head().with_context(about)?;
        let begin = end;
        let length = self.file.metadata().with_context(about)?.len();
        let mut reader = BufReader::with_capacity(1 << 20, &self.file);
        while let Some(record) = next_record(&mut reader, length - end).with_context(about)? {
            let Some(block) = decode(&record, self.dimension, self.own_keys) else { break };
            end += (RECORD_HEAD + record.len()) as u64;
            each(block)?;
        }
        if end < length {
            tracing::info!(bytes = length - end, "The work file was cut off while it was written.");
        }
        self.keep = begin < end;
        self.file.set_len(end).context("cannot cut off the work file")?;
        self.file.seek(SeekFrom::Start(end)).with_context(about)?;
        Ok(())
    }

    /// Writes a block. At `now`, it is put onto the disk if the last time was some seconds ago.
    pub(super) fn append(&mut self, block: &Block, now: Duration) -> anyhow::Result<()> {
        let text = serde_json::to_vec(block).context("cannot write JSON")?;
        let mut payload = u32::try_from(text.len())?.to_le_bytes().to_vec();
        payload.extend(text);
        for Vectors { caption, key } in &block.vectors {
            for value in key.iter().chain([caption]).flat_map(Embedding::as_slice) {
                payload.extend(value.to_le_bytes());
            }
        }
        self.write(&payload).with_context(|| {
            format!(
                "cannot write {}; make room and run the command again, it goes on",
                self.path.display()
            )
        })?;
        self.keep = true;
        if SYNC_EVERY <= now.saturating_sub(self.last_sync) {
            self.file
                .sync_data()
                .with_context(|| format!("cannot write {}", self.path.display()))?;
            self.last_sync = now;
        }
        Ok(())
    }

    /// Removes the file: the index is written.
    pub(super) fn remove(mut self) -> anyhow::Result<()> {
        self.keep = true;
        fs::remove_file(&self.path)
            .with_context(|| format!("cannot remove {}", self.path.display()))
    }

    /// What the file was begun with; `None` when it has no whole beginning.
    fn begun_with(&mut self) -> anyhow::Result<Option<Inputs>> {
        let about = || format!("cannot read {}", self.path.display());
        let mut start = Vec::new();
        (&self.file).take(MAGIC.len() as u64).read_to_end(&mut start).with_context(about)?;
        if !MAGIC.starts_with(&start) {
            bail!(
                "{}: something stands there that is no work file of this program; move it away",
                self.path.display()
            );
        }
        if start.len() < MAGIC.len() {
            return Ok(None);
        }
        let length = self.file.metadata().with_context(about)?.len();
        let record = next_record(&mut &self.file, length).with_context(about)?;
        Ok(record.and_then(|it| serde_json::from_slice(&it).ok()))
    }

    fn begin(&mut self, inputs: &Inputs) -> anyhow::Result<()> {
        self.keep = false;
        let text = serde_json::to_vec(inputs).context("cannot write JSON")?;
        let mut begin = || {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file.write_all(MAGIC)?;
            self.write(&text)?;
            self.file.sync_all()?;
            let folder = self.path.parent().filter(|it| !it.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        begin().with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn compare(&self, begun: &Inputs, inputs: &Inputs) -> anyhow::Result<()> {
        let value = |of: &Inputs, name: &str| {
            of.iter().find(|it| it.0 == name).map_or("nothing", |it| it.1.as_str()).to_owned()
        };
        let mut names: Vec<&str> = begun.iter().chain(inputs).map(|it| it.0.as_str()).collect();
        let mut seen = std::collections::HashSet::new();
        names.retain(|it| seen.insert(*it));
        let differs = |name: &&str| {
            let (then, now) = (value(begun, name), value(inputs, name));
            (then != now).then(|| format!("{name}: then {then}, now {now}"))
        };
        let differences: Vec<String> = names.iter().filter_map(differs).collect();
        if differences.is_empty() {
            return Ok(());
        }
        bail!(
            "{}: a build that did not end was begun with other inputs; give it those and it goes \
             on, or --restart, which throws its work away\n    {}",
            self.path.display(),
            differences.join("\n    ")
        )
    }

    /// Goes behind magic and inputs.
    fn after_head(&mut self) -> io::Result<u64> {
        let mut head = [0; RECORD_HEAD];
        let begin = MAGIC.len() as u64;
        self.file.seek(SeekFrom::Start(begin))?;
        self.file.read_exact(&mut head)?;
        let [length, _] = lengths(head);
        self.file.seek(SeekFrom::Start(begin + RECORD_HEAD as u64 + u64::from(length)))
    }

    fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut record = length.to_le_bytes().to_vec();
        record.extend(crc32fast::hash(payload).to_le_bytes());
        record.extend(payload);
        self.file.write_all(&record)
    }
}

impl Drop for WorkFile {
    fn drop(&mut self) {
        if !self.keep {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// Opens a file, making it if it is not there, and locks it; `None` when it is locked.
fn lock(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..ATTEMPTS {
        if fs::symlink_metadata(path).is_ok_and(|it| !it.is_file()) {
            return Err(io::Error::other("it must be a regular file"));
        }
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o644).open(path)?;
        match file.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => return Ok(None),
            // A file system without locks.
            Err(TryLockError::Error(error)) => {
                tracing::warn!("Cannot lock {}: {error}", path.display());
            }
        }
        // The build that had it may have finished and removed it in between.
        if file.metadata()?.nlink() != 0 {
            return Ok(Some(file));
        }
    }
    Err(io::Error::other("other processes remove what is made there"))
}

fn lengths(head: [u8; RECORD_HEAD]) -> [u32; 2] {
    let [a, b, c, d, rest @ ..] = head;
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(rest)]
}

/// The next record of at most `available` bytes with its head; `None` where there is no whole one.
fn next_record(reader: &mut impl Read, available: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(available) = available.checked_sub(RECORD_HEAD as u64) else { return Ok(None) };
    let mut head = [0; RECORD_HEAD];
    match reader.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let [length, checksum] = lengths(head);
    let length = u64::from(length);
    if MAX_RECORD_BYTES.min(available) < length {
        return Ok(None);
    }
    let mut payload = Vec::new();
    reader.take(length).read_to_end(&mut payload)?;
    let is_whole = payload.len() as u64 == length && crc32fast::hash(&payload) == checksum;
    Ok(Some(payload).filter(|_| is_whole))
}

fn decode(payload: &[u8], dimension: usize, own_keys: bool) -> Option<Block> {
    let (length, rest) = payload.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let mut block: Block = serde_json::from_slice(text).ok()?;
    let mut values = rest.as_chunks().0.iter().map(|it| f32::from_le_bytes(*it));
    let vector = |values: &mut dyn Iterator<Item = f32>| {
        let values: Vec<f32> = values.take(dimension).collect();
        (values.len() == dimension).then(|| Embedding::from_unit(values).ok()).flatten()
    };
    for _ in 0..block.captions.len() {
        let key = if own_keys { Some(vector(&mut values)?) } else { None };
        block.vectors.push(Vectors { caption: vector(&mut values)?, key });
    }
    values.next().is_none().then_some(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(value: &str) -> Inputs {
        vec![("source".to_owned(), value.to_owned())]
    }

    fn block(n: usize) -> Block {
        let vector = |angle: f32| Embedding::normalize(vec![angle.cos(), angle.sin()]).unwrap();
        let vectors = (0..n).map(|it| Vectors {
            caption: vector(f32::from(u16::try_from(it).unwrap())),
            key: Some(vector(0.5)),
        });
        let captions = (0..n).map(|it| format!("caption {it}")).collect();
        let (tally, spent) = (Tally::default(), Vec::new());
        Block { next: format!("x:{n}"), tally, captions, spent, vectors: vectors.collect() }
    }

    fn open(output: &Path, value: &str) -> anyhow::Result<WorkFile> {
        WorkFile::open(output, &inputs(value), false, 2, true)
    }

    /// Where each block says to go on.
    fn replay(work: &mut WorkFile) -> Vec<String> {
        let mut found = Vec::new();
        work.replay(|it| {
            let expected = block(it.captions.len());
            let slices = |it: &Block| {
                let of = |it: &Vectors| (it.caption.clone(), it.key.clone());
                it.vectors.iter().map(of).collect::<Vec<_>>()
            };
            assert_eq!((slices(&it), &it.captions), (slices(&expected), &expected.captions));
            found.push(it.next);
            Ok(())
        })
        .unwrap();
        found
    }

    /// A work file of three blocks, and where each begins or ends.
    fn written(output: &Path) -> (Vec<u8>, Vec<usize>) {
        let mut work = open(output, "a").unwrap();
        assert!(replay(&mut work).is_empty());
        let path = work.path.clone();
        let length = || fs::read(&path).unwrap().len();
        let mut ends = vec![length()];
        for n in [2, 0, 3] {
            work.append(&block(n), Duration::ZERO).unwrap();
            ends.push(length());
        }
        drop(work);
        (fs::read(path).unwrap(), ends)
    }

    #[test]
    fn whole_blocks_survive_a_cut_or_an_altered_byte_and_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("x.lidx");
        let (whole, ends) = written(&output);
        let path = WorkFile::path(&output);
        let names = ["x:2", "x:0", "x:3"];
        for at in 0..whole.len() {
            let n_whole = ends[1..].iter().filter(|it| **it <= at).count();
            let mut altered = whole.clone();
            altered[at] ^= 1 << (at % 8);
            for (bytes, is_begun) in [(&whole[..at], true), (&altered[..], MAGIC.len() <= at)] {
                fs::write(&path, bytes).unwrap();
                if !is_begun {
                    assert!(open(&output, "a").is_err(), "{at}");
                    continue;
                }
                let mut work = open(&output, "a").unwrap();
                assert_eq!(replay(&mut work), names[..n_whole], "{at}");
                work.append(&block(1), Duration::ZERO).unwrap();
                drop(work);
                let mut work = open(&output, "a").unwrap();
                assert_eq!(replay(&mut work), [&names[..n_whole], &["x:1"]].concat(), "{at}");
            }
        }
    }

    #[test]
    fn a_file_without_blocks_goes_and_one_of_other_inputs_stays() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("x.lidx");
        let path = WorkFile::path(&output);
        let mut work = open(&output, "a").unwrap();
        let second = open(&output, "a").err().unwrap().to_string();
        assert!(second.contains("another build"), "{second}");
        replay(&mut work);
        drop(work);
        assert!(!path.exists());
        written(&output);
        let error = open(&output, "b").err().unwrap().to_string();
        assert!(error.contains("source: then a, now b") && error.contains("--restart"), "{error}");
        assert_eq!(replay(&mut open(&output, "a").unwrap()).len(), 3);
        let mut work = WorkFile::open(&output, &inputs("b"), true, 2, true).unwrap();
        assert!(replay(&mut work).is_empty());
        work.remove().unwrap();
        assert!(!path.exists());
    }
}
