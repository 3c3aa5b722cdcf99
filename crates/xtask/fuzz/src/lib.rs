//! What the fuzz targets have in common: where they work, what they begin with, and what they hold to
//! be a bug.
//!
//! A bug is a panic of ours, caught or not; a panic of a dependency that is not caught; more than
//! [`memory::LIMIT_BYTES`] allocated at once; an input that takes longer than libFuzzer is told; and
//! whatever a target asserts.

pub mod index_file;
pub mod lesson_file;
pub mod memory;
pub mod source;

use std::backtrace::Backtrace;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Sets a target up, and puts its seeds into the corpus that the command line names first.
pub fn begin(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    // libfuzzer-sys would end the process at every panic. Those of the crate `parquet` are met by its
    // caller, and one that nobody meets ends the process all the same.
    drop(std::panic::take_hook());
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_none_or(|it| !is_parquet(it.file())) {
            usual(panic);
            std::process::abort();
        }
    }));
    let Some(corpus) = std::env::args_os().nth(1).map(PathBuf::from).filter(|it| it.is_dir())
    else {
        return;
    };
    for (number, seed) in seeds().into_iter().enumerate() {
        fs::write(corpus.join(format!("seed-{number:02}")), seed).expect("a seed can be written");
    }
}

/// Whether the crate `parquet`, or what it uses, panics in this file.
fn is_parquet(file: &str) -> bool {
    if !file.starts_with("/rustc/") {
        return file.contains("/registry/");
    }
    // Of the standard library: who called it?
    let frames = Backtrace::force_capture().to_string();
    let mut frames = frames.lines().filter_map(|it| it.split_once(": ")?.1.split("::").next());
    let known = ["parquet", "<parquet", "lookout_sources", "<lookout_sources", "fuzz"];
    frames.find(|it| known.contains(it)).is_some_and(|it| it.ends_with("parquet"))
}

/// A folder of this process, made once.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the folder can be made");
        folder
    })
}

/// A file among those that the tests read, as other programs wrote them.
pub fn oracle(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/oracle/sources");
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Makes the text of an error and of its causes.
pub fn check_error(error: &dyn std::error::Error) {
    let mut next = Some(error);
    while let Some(error) = next {
        assert!(!error.to_string().is_empty());
        next = error.source();
    }
}

/// The number at byte `at`.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

/// The number at byte `at`.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

/// Puts bytes in the place of others.
pub fn put(bytes: &mut [u8], at: usize, new: impl AsRef<[u8]>) {
    bytes[at..][..new.as_ref().len()].copy_from_slice(new.as_ref());
}
