//! Label packs: the embeddings of class sets on the disk, so that the text tower is loaded only
//! when labels, model or program have changed. They are a cache: whatever is wrong with one, it is
//! made anew, and the folder may be removed at any time.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use lookout_core::{ClassEmbeddings, ClassSet, Embedding};
use lookout_encoder::{Bundle, Runtime};
use sha2::{Digest, Sha256};

/// Begins every file: name, and the version of what follows.
const MAGIC: [u8; 12] = *b"\x89LPACK\r\n\x1a\x01\0\0";
const KEY_BYTES: usize = 32;
/// MAGIC, the key, classes and dimension (`u32`).
const HEADER_BYTES: usize = MAGIC.len() + KEY_BYTES + 8;
const CHECKSUM_BYTES: usize = 4;
const EXTENSION: &str = "lpack";
/// Packs that are kept, the last written.
const MAX_PACKS: usize = 64;

/// The folder of packs, or nowhere.
pub(crate) struct Packs(Option<PathBuf>);

/// What embeddings depend on, hashed: the prompts in their order, the model, the program and the
/// device, since another kernel may round in another way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u8; KEY_BYTES]);

impl Key {
    /// `None` where model or program cannot be identified.
    pub(crate) fn of(set: &ClassSet, bundle: &Bundle, runtime: &Runtime) -> Option<Self> {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        // The manifest has the hashes of the model's files.
        add(&fs::read(bundle.dir().join(Bundle::MANIFEST)).ok()?);
        let program = fs::metadata(std::env::current_exe().ok()?).ok()?;
        add(&program.len().to_le_bytes());
        let modified = program.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        add(&modified.as_nanos().to_le_bytes());
        add(runtime.describe().as_bytes());
        for idx in 0..set.classes().len() {
            let prompts = set.prompts(idx);
            add(&(prompts.len() as u64).to_le_bytes());
            prompts.iter().for_each(|it| add(it.as_bytes()));
        }
        Some(Self(hash.finalize().into()))
    }

    fn file(self) -> String {
        let name: String = self.0.iter().take(16).map(|it| format!("{it:02x}")).collect();
        format!("{name}.{EXTENSION}")
    }
}

impl Packs {
    /// Where a service manager or the user has its caches; nowhere if neither says.
    pub(crate) fn here() -> Self {
        let variable = |name| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        let of_service = variable("CACHE_DIRECTORY");
        let of_user = || {
            let named = variable("XDG_CACHE_HOME").filter(|it| it.is_absolute());
            let folder = named.or_else(|| Some(variable("HOME")?.join(".cache")));
            folder.map(|it| it.join("lookout"))
        };
        Self(of_service.or_else(of_user).map(|it| it.join("labels")))
    }

    /// Every set is compiled.
    pub(crate) fn nowhere() -> Self {
        Self(None)
    }

    /// The embeddings of `n` classes under `key`, if they are there and undamaged.
    pub(crate) fn get(&self, key: Key, n: usize, dimension: usize) -> Option<ClassEmbeddings> {
        let path = self.0.as_ref()?.join(key.file());
        match read(&path, key, n, dimension) {
            Ok(embeddings) => Some(embeddings),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let pack = path.display();
                tracing::warn!(%pack, %error, "A label pack is useless; it is made anew.");
                None
            }
        }
    }

    /// Keeps the embeddings under `key`, and removes the oldest packs beyond [`MAX_PACKS`].
    pub(crate) fn put(&self, key: Key, embeddings: &ClassEmbeddings) {
        let Some(folder) = &self.0 else { return };
        if let Err(error) = write(folder, key, embeddings).and_then(|()| prune(folder)) {
            let folder = folder.display();
            tracing::warn!(%folder, %error, "Labels are compiled at every start: no pack is kept.");
        }
    }
}

fn read(path: &Path, key: Key, n: usize, dimension: usize) -> io::Result<ClassEmbeddings> {
    let fault = |rule: &str| io::Error::new(io::ErrorKind::InvalidData, rule.to_owned());
    let expected = HEADER_BYTES + n * dimension * size_of::<f32>() + CHECKSUM_BYTES;
    let mut bytes = Vec::new();
    // One byte more tells that there is more.
    File::open(path)?.take(expected as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() != expected {
        return Err(fault("its length is not that of so many classes"));
    }
    let (content, checksum) = bytes.split_at(expected - CHECKSUM_BYTES);
    if crc32fast::hash(content).to_le_bytes() != checksum {
        return Err(fault("its checksum is wrong"));
    }
    let (header, values) = content.split_at(HEADER_BYTES);
    if header != self::header(key, n, dimension) {
        return Err(fault("it belongs to other labels"));
    }
    let (values, _) = values.as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|it| f32::from_le_bytes(*it)).collect();
    let classes = values.chunks_exact(dimension).map(|it| Embedding::from_unit(it.to_vec()));
    let classes = classes.collect::<Result<_, _>>().map_err(|it| fault(&it.to_string()))?;
    ClassEmbeddings::new(classes).map_err(|it| fault(&it.to_string()))
}

fn write(folder: &Path, key: Key, embeddings: &ClassEmbeddings) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let classes = embeddings.as_slice();
    let mut bytes = header(key, classes.len(), embeddings.dimension());
    for value in classes.iter().flat_map(Embedding::as_slice) {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    // Not synced: what a power cut leaves of it has a wrong checksum.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&bytes)?;
    file.persist(folder.join(key.file())).map_err(|it| it.error)?;
    Ok(())
}

fn header(Key(key): Key, n: usize, dimension: usize) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(key);
    for number in [n, dimension] {
        bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }
    bytes
}

fn prune(folder: &Path) -> io::Result<()> {
    let mut packs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == EXTENSION)
            // Another process may remove it first.
            && let Ok(modified) = fs::metadata(&path).and_then(|it| it.modified())
        {
            packs.push((modified, path));
        }
    }
    packs.sort_unstable();
    let n_old = packs.len().saturating_sub(MAX_PACKS);
    for (_, path) in &packs[..n_old] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(n: usize) -> ClassEmbeddings {
        let class = |i: usize| {
            let values = (0..3u8).map(|it| f32::from(it) + if i == 0 { 1.0 } else { -0.5 });
            Embedding::normalize(values.collect()).unwrap()
        };
        ClassEmbeddings::new((0..n).map(class).collect()).unwrap()
    }

    fn key(byte: u8) -> Key {
        Key([byte; KEY_BYTES])
    }

    #[test]
    fn what_was_put_is_got_again_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let packs = Packs(Some(folder.path().join("cache/labels")));
        assert_eq!(packs.get(key(1), 2, 3), None);
        packs.put(key(1), &classes(2));
        assert_eq!(packs.get(key(1), 2, 3), Some(classes(2)));
        assert_eq!(packs.get(key(2), 2, 3), None);
        for (n, dimension) in [(3, 3), (2, 2), (3, 2)] {
            assert_eq!(packs.get(key(1), n, dimension), None, "{n} {dimension}");
        }
        assert_eq!(Packs::nowhere().get(key(1), 2, 3), None);
        Packs::nowhere().put(key(1), &classes(2));
    }

    #[test]
    fn no_damage_passes() {
        let folder = tempfile::tempdir().unwrap();
        let packs = Packs(Some(folder.path().to_owned()));
        packs.put(key(1), &classes(2));
        let path = folder.path().join(key(1).file());
        let whole = fs::read(&path).unwrap();
        let is_refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            packs.get(key(1), 2, 3).is_none()
        };
        for len in 0..whole.len() {
            assert!(is_refused(&whole[..len]), "{len} bytes");
        }
        assert!(is_refused(&[whole.as_slice(), &[0]].concat()), "a byte more");
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 16;
            assert!(is_refused(&flipped), "byte {at}");
        }
        // Another set's file under this name.
        packs.put(key(2), &classes(2));
        assert!(is_refused(&fs::read(folder.path().join(key(2).file())).unwrap()));
        packs.put(key(1), &classes(2));
        assert_eq!(packs.get(key(1), 2, 3), Some(classes(2)));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_no_fault() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let packs = Packs(Some(file.join("labels")));
        packs.put(key(1), &classes(2));
        assert_eq!(packs.get(key(1), 2, 3), None);
    }

    #[test]
    fn only_so_many_are_kept_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let packs = Packs(Some(folder.path().to_owned()));
        fs::write(folder.path().join("mine.txt"), "").unwrap();
        let n_packs = u8::try_from(MAX_PACKS).unwrap() + 3;
        for i in 0..n_packs {
            packs.put(key(i), &classes(2));
            let file = File::open(folder.path().join(key(i).file())).unwrap();
            // Older than any that is written after it.
            let time = UNIX_EPOCH + std::time::Duration::from_secs(i.into());
            file.set_modified(time).unwrap();
        }
        let there = |i: u8| packs.get(key(i), 2, 3).is_some();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), MAX_PACKS + 1);
        assert!(there(n_packs - 1) && there(10));
    }
}
