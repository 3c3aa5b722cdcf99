//! Files that were cut off or altered: an error or bad rows, never a panic, a hang or much memory.

use std::os::unix::fs::FileExt;
use std::panic;
use std::sync::Once;

use proptest::prelude::*;

use super::*;
use crate::Fault;

/// What a hostile file may make us use: the bounds of parquet pages, and the stack that a footer
/// is read on.
const MAX_RESIDENT_KB: u64 = 1_000_000;

/// The most memory that this process ever had.
fn peak_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Every kind of source, and every way of writing a shard of embeddings by itself, so that a file that
/// is spoiled is read without the others. The shards of `clip-retrieval` are alike.
fn all_alone() -> Vec<(TempDir, Spec)> {
    let mut all = all();
    all.retain(|it| !matches!(it.1, Spec::Embeddings(_)));
    for (name, shard) in
        [("clip-retrieval", "_0"), ("flat", "_00"), ("flat", "_01"), ("flat", "_02")]
    {
        let folder = copy(name);
        for path in files(folder.path()) {
            if !path.file_stem().unwrap().to_str().unwrap().ends_with(shard) {
                fs::remove_file(path).unwrap();
            }
        }
        let spec = Spec::Embeddings(folder.path().to_path_buf());
        all.push((folder, spec));
    }
    all
}

/// Writes over a file. Emptying or removing it first takes ext4 a hundred times as long.
fn replace(path: &Path, contents: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(contents, 0).unwrap();
    file.set_len(contents.len() as u64).unwrap();
}

/// The panics of the crate `parquet` are caught, and not worth a backtrace for each.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |it| {
            if !it.location().is_some_and(|it| it.file().contains("/parquet-")) {
                usual(it);
            }
        }));
    });
}

/// Number of good and bad rows, or `None` when the source is refused.
fn outcome(spec: &Spec) -> Option<(usize, u64)> {
    let (rows, tally) = read(spec).ok()?;
    Some((rows.iter().filter(|it| it.is_ok()).count(), tally.n_bad()))
}

#[test]
fn a_file_cut_off_anywhere_is_noticed() {
    hush();
    for (folder, spec) in all_alone() {
        if matches!(spec, Spec::Folder(_) | Spec::Tsv(_)) {
            continue;
        }
        let (n_good, n_bad) = outcome(&spec).unwrap();
        for path in files(folder.path()) {
            let whole = fs::read(&path).unwrap();
            let (n_needed, step) = match path.extension().and_then(|it| it.to_str()) {
                // A tar file ends at its first empty block; what follows fills it up.
                Some("tar") => {
                    (whole.len() - whole.iter().rev().position(|it| *it != 0).unwrap(), 13)
                }
                Some("md") => continue,
                _ => (whole.len(), 1),
            };
            for length in (0..n_needed).step_by(step) {
                replace(&path, &whole[..length]);
                let Ok((rows, _)) = read(&spec) else { continue };
                let is_damage =
                    |it: &Row| matches!(it, Err(it) if matches!(it.fault, Fault::Damaged { .. }));
                assert!(rows.iter().any(is_damage), "{path:?} at {length}");
            }
            replace(&path, &whole);
        }
        assert_eq!(outcome(&spec), Some((n_good, n_bad)));
    }
    assert!(peak_kb() < MAX_RESIDENT_KB, "{} kB", peak_kb());
}

#[test]
fn any_altered_byte_is_survived() {
    hush();
    for (folder, spec) in all_alone() {
        let (n_good, n_bad) = outcome(&spec).unwrap();
        for path in files(folder.path()) {
            let whole = fs::read(&path).unwrap();
            for place in 0..whole.len() {
                // A byte within zeros is like the next.
                if !place.is_multiple_of(16) && whole[place..].iter().take(16).all(|it| *it == 0) {
                    continue;
                }
                let mut altered = whole.clone();
                altered[place] ^= 1 << (place % 8);
                replace(&path, &altered);
                let Some(got) = outcome(&spec) else { continue };
                let n_rows = n_good as u64 + n_bad;
                // A key that was altered may make one sample two.
                assert!(got.0 as u64 + got.1 <= n_rows + 2, "{path:?} at {place}: {got:?}");
            }
            replace(&path, &whole);
        }
    }
    assert!(peak_kb() < MAX_RESIDENT_KB, "{} kB", peak_kb());
}

#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Set(at, value) => *at.get_mut(bytes) = *value,
            Self::Insert(at, new) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(at, n) => {
                let at = at.index(bytes.len());
                bytes.drain(at..bytes.len().min(at + n));
            }
            Self::Copy(from, to, n) => {
                let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
                let part = bytes[from..bytes.len().min(from + n)].to_vec();
                bytes.splice(to..to, part);
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, it)| Change::Set(at, it)),
        (at(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, it)| Change::Insert(at, it)),
        (at(), 1usize..600).prop_map(|(at, it)| Change::Remove(at, it)),
        (at(), at(), 1usize..600).prop_map(|(from, to, it)| Change::Copy(from, to, it)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_changes_are_survived(changes in prop::collection::vec(change(), 1..6)) {
        hush();
        for (folder, spec) in all() {
            for path in files(folder.path()) {
                let whole = fs::read(&path).unwrap();
                let mut altered = whole.clone();
                changes.iter().for_each(|it| it.apply(&mut altered));
                replace(&path, &altered);
                outcome(&spec);
                replace(&path, &whole);
            }
        }
        prop_assert!(peak_kb() < MAX_RESIDENT_KB, "{} kB", peak_kb());
    }
}

/// A parquet file that is nothing but a footer.
fn footer_alone(footer: &[u8]) -> Vec<u8> {
    let size = u32::try_from(footer.len()).unwrap().to_le_bytes();
    [b"PAR1", footer, &size, b"PAR1"].concat()
}

#[test]
fn columns_nested_as_deeply_as_a_footer_allows_are_survived() {
    for n in [2_000, 20_000, 200_000] {
        columns_nested(n);
    }
    assert!(peak_kb() < MAX_RESIDENT_KB, "{} kB", peak_kb());
}

fn columns_nested(n: u32) {
    let mut footer = vec![0x15, 2, 0x19, 0xfc];
    let digit = |shift: u32| u8::try_from(n >> shift & 0x7f).unwrap();
    footer.extend([0x80 | digit(0), 0x80 | digit(7), digit(14)]);
    for _ in 0..n - 1 {
        // A group without a name, with one column.
        footer.extend([0x48, 0, 0x15, 2, 0]);
    }
    footer.extend([0x15, 12, 0x25, 0, 0x18, 0, 0]);
    footer.extend([0x16, 0, 0x19, 0x0c, 0]);
    let folder = copy("flat");
    fs::write(folder.path().join("metadata_00.parquet"), footer_alone(&footer)).unwrap();
    let spec = Spec::Embeddings(folder.path().to_path_buf());
    let error = chain(&read(&spec).unwrap_err());
    assert!(error.contains("metadata_00.parquet"), "{error}");
}

/// Lists of 2³¹ − 1 truth values, none of which has a byte: as a field that the reader does not know, and
/// where it expects another type than is there.
#[test]
fn lists_that_a_footer_only_declares_cost_nothing() {
    let list = [0xf1, 0xff, 0xff, 0xff, 0xff, 7];
    let unknown: Vec<u8> = (0..50).flat_map(|_| [&[0x09, 40], &list[..]].concat()).collect();
    // A version that is text, of 400 bytes.
    let hidden = [&[0x18, 0x90, 3], &unknown[..]].concat();
    let folder = copy("flat");
    for footer in [&unknown, &hidden] {
        let path = folder.path().join("metadata_00.parquet");
        fs::write(path, footer_alone(&[footer, &[0][..]].concat())).unwrap();
        let spec = Spec::Embeddings(folder.path().to_path_buf());
        let (sender, refused) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(read(&spec).is_err()));
        let limit = std::time::Duration::from_secs(60);
        assert_eq!(refused.recv_timeout(limit), Ok(true), "it must not take long");
    }
}
