//! What decides the bytes of an index: a build that was killed goes on only with the same.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use lookout_core::MAX_CAPTION_CHARS;
use lookout_encoder::{Bundle, Runtime};
use lookout_sources::{Kind, Source};
use sha2::{Digest, Sha256};

use super::work::Inputs;
use crate::cli::IndexBuildArgs;

/// Hexadecimal digits that stand for a hash.
const SHOWN_DIGITS: usize = 16;

/// The inputs of a build by their names, as people read them. Pictures that COCO annotations name are
/// not looked at.
pub(super) fn inputs(
    args: &IndexBuildArgs,
    kind: Kind,
    source: &Source,
    bundle: &Bundle,
    runtime: Option<&Runtime>,
) -> anyhow::Result<Inputs> {
    let absolute = |path: &Path| {
        let path =
            fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()));
        path.map(|it| it.display().to_string())
    };
    let mut model = Sha256::new();
    bundle.sha256().for_each(|(name, hash)| model.update(format!("{name}\n{hash}\n")));
    let filters = &args.filters;
    let range = |min: Option<usize>, max: Option<usize>| {
        format!("{} to {}", min.unwrap_or(1), max.unwrap_or(MAX_CAPTION_CHARS))
    };
    let words = |path: &Path| {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::Ok(format!("hash {}", shown(&Sha256::digest(bytes))))
    };
    let optional =
        |value: Option<anyhow::Result<String>>| value.unwrap_or_else(|| Ok("none".to_owned()));
    Ok(Vec::from([
        ("program", env!("CARGO_PKG_VERSION").to_owned()),
        ("model", format!("{}, files {}", bundle.space(), shown(&model.finalize()))),
        ("device", runtime.map_or_else(|| "none".to_owned(), Runtime::describe)),
        ("source", absolute(&args.source)?),
        ("kind", kind.to_string()),
        ("files of the source", files(source)),
        ("pictures", optional(args.pictures.as_deref().map(absolute))?),
        ("languages", format!("{:?}", filters.language)),
        (
            "captions of an unsure language",
            if filters.refuse_unsure { "refused" } else { "kept" }.to_owned(),
        ),
        ("characters", range(filters.min_chars, filters.max_chars)),
        ("words", range(filters.min_words, filters.max_words)),
        ("unwanted words", optional(filters.unwanted_words.as_deref().map(words))?),
        (
            "near duplicates",
            if filters.drop_near_duplicates { "dropped" } else { "kept" }.to_owned(),
        ),
    ])
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect())
}

/// Number and size of a source's files, and a hash of their names, sizes and times of change.
fn files(source: &Source) -> String {
    let (mut n, mut n_bytes, mut hasher) = (0u64, 0, Sha256::new());
    for path in source.inputs() {
        hasher.update(path.as_os_str().as_encoded_bytes());
        // What is not there is a bad row, and may be there the next time.
        let stamp =
            fs::metadata(&path).map_or((0, 0, 0), |it| (it.len(), it.mtime(), it.mtime_nsec()));
        hasher.update(format!("\n{stamp:?}\n"));
        n += 1;
        n_bytes += stamp.0;
    }
    format!("{n} of {n_bytes} bytes, names and times {}", shown(&hasher.finalize()))
}

fn shown(hash: &[u8]) -> String {
    let mut text = String::new();
    for byte in &hash[..SHOWN_DIGITS / 2] {
        write!(text, "{byte:02x}").ok();
    }
    text
}
