//! From a source to an index: rows are read, filtered, encoded and written down block by block, and
//! the index is written at the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use lookout_encoder::{Bundle, Runtime};
use lookout_index::{Index, IndexBuilder, IndexError, Lessons, SearchMethod};
use lookout_sources::{BadRow, Entry, Fault, Filters, Position, Source, Tally};
use serde::Serialize;

use super::encode::{Encoder, Needs};
use super::inputs::inputs;
use super::meter::Meter;
use super::work::{Block, WorkFile};
use super::{report, size, source};
use crate::cli::IndexBuildArgs;
use crate::{assets, engine, memory, output};

/// Entries of a block, which is dealt with and written down as a whole; more where batches are larger.
/// A killed build does so much again at most.
pub(super) const BLOCK: usize = 32;
/// Rows of a block, bad and refused ones with them, for each entry that it may have.
const ROWS_PER_ENTRY: usize = 64;

#[derive(Serialize)]
struct BuiltLine<'a> {
    index: &'a str,
    source: &'a str,
    kind: String,
    entries: usize,
    bad_rows: u64,
    first_bad: &'a [String],
    refused: &'a BTreeMap<String, u64>,
    bytes: u64,
}

pub(super) fn run(args: &IndexBuildArgs) -> anyhow::Result<()> {
    // What can be known to fail is found before the hours of work.
    let output = args.output.as_deref().context("--output is missing")?;
    check_output(output)?;
    let (kind, spec) = source::spec(args)?;
    let mut filters = source::filters(&args.filters)?;
    let mut rows = Source::open(&spec)?;
    let bundle = Bundle::open(&assets::model_dir(args.model.model.as_deref())?)?;
    let needs = Needs::of(rows.gives(), &bundle)?;
    let runtime = if needs.any() { Some(engine::open(args.device.device)?) } else { None };
    let lessons = args.with_taught.as_deref().map(|it| engine::lessons(it, &bundle)).transpose()?;
    let inputs = inputs(args, kind, &rows, &bundle, runtime.as_ref())?;
    let dimension = bundle.dimension();
    let mut work = WorkFile::open(output, &inputs, args.restart, dimension, needs.own_keys)?;
    let mut builder = IndexBuilder::new(bundle.space(), dimension)?;
    let mut tally = Tally::default();
    go_on(&mut work, &mut rows, &mut filters, &mut builder, &mut tally)?;

    let default_batch = runtime.as_ref().map_or(1, Runtime::batch);
    let batch = args.batch.map_or(default_batch, usize::from);
    // Towers are loaded when the first entry needs them.
    let mut encoder = None;
    let mut meter = Meter::start(if needs.any() { "captions embedded" } else { "captions read" });
    while let Some(some) = read(&mut rows, &mut filters, &mut tally, BLOCK.max(batch)) {
        let encoder = match &mut encoder {
            Some(encoder) => encoder,
            none => {
                let loaded = Encoder::load(&bundle, runtime.as_ref(), needs, batch)?;
                memory::steady();
                none.insert(loaded)
            }
        };
        let block = encode(some, encoder, &mut tally)?;
        for (caption, vectors) in block.captions.iter().zip(&block.vectors) {
            builder.push(caption, &vectors.caption, vectors.key.as_ref())?;
        }
        // Where nothing is computed, reading again is as fast as going on.
        if needs.any() {
            work.append(&block, meter.now())?;
        }
        let progress = rows.progress();
        meter.tick(progress.done, progress.total, builder.n_entries() as u64);
    }
    meter.finish();
    drop(encoder);
    if !args.json {
        report::left_out(&args.source, &tally);
    }
    if builder.n_entries() == 0 {
        work.remove()?;
        bail!(report::nothing(&args.source, &tally));
    }

    for lesson in lessons.iter().flat_map(Lessons::lessons) {
        // Of pairs each view is an entry; which of one caption's is the nearest, the search finds.
        let keys = if needs.own_keys { lesson.keys.as_slice() } else { &[] };
        if keys.is_empty() {
            builder.push(&lesson.caption, &lesson.embedding, None)?;
        }
        for key in keys {
            builder.push(&lesson.caption, &lesson.embedding, Some(key))?;
        }
    }
    let n_entries = builder.n_entries();
    let is_graph = SearchMethod::for_entries(n_entries, needs.own_keys) == SearchMethod::Graph;
    let meter = is_graph.then(|| Mutex::new(Meter::start("entries in the graph")));
    builder.write(output, &|done, total| {
        if let Some(meter) = &meter {
            let (done, total) = (done as u64, total as u64);
            meter.lock().unwrap_or_else(PoisonError::into_inner).tick(done, total, done);
        }
    })?;
    if let Some(meter) = meter {
        meter.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
    }
    work.remove()?;

    let info = Index::open(output)?.info();
    if args.json {
        return output::json_line(&BuiltLine {
            index: &output.to_string_lossy(),
            source: &args.source.to_string_lossy(),
            kind: kind.to_string(),
            entries: n_entries,
            bad_rows: tally.n_bad(),
            first_bad: tally.first(),
            refused: tally.refused(),
            bytes: info.file_bytes,
        });
    }
    output::line(format!(
        "{}: {} captions, {}",
        output.display(),
        info.n_entries,
        size(info.file_bytes),
    ))
}

/// Takes over what a killed build has embedded.
fn go_on(
    work: &mut WorkFile,
    rows: &mut Source,
    filters: &mut Filters,
    builder: &mut IndexBuilder,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut next = None;
    work.replay(|block| {
        for (caption, vectors) in block.captions.iter().zip(&block.vectors) {
            builder.push(caption, &vectors.caption, vectors.key.as_ref())?;
        }
        block.captions.iter().chain(&block.spent).for_each(|it| filters.remember(it));
        (*tally, next) = (block.tally, Some(block.next));
        Ok(())
    })?;
    if let Some(next) = next {
        let next: Position = next.parse()?;
        rows.resume(&next)?;
        let n = builder.n_entries();
        output::complain(&format!("going on at {next}, after {n} entries"));
    }
    Ok(())
}

/// Some rows of a source.
pub(super) struct Rows {
    /// What filters let through, and what is bad.
    pub(super) items: Vec<Result<Entry, BadRow>>,
    /// Where the source goes on, refused rows left behind.
    pub(super) next: Position,
}

/// The next rows, up to `n_entries` that filters let through; `None` at the end of the source. What
/// filters refuse is counted in `tally`.
pub(super) fn read(
    source: &mut Source,
    filters: &mut Filters,
    tally: &mut Tally,
    n_entries: usize,
) -> Option<Rows> {
    let (mut items, mut n_good, mut next) = (Vec::new(), 0, None);
    for row in source.take(n_entries * ROWS_PER_ENTRY) {
        let position = row.as_ref().map_or_else(|it| &it.position, |it| &it.position);
        next = Some(position.next());
        if let Ok(entry) = &row {
            if let Err(refusal) = filters.admit(&entry.caption) {
                tally.refuse(&refusal);
                continue;
            }
            n_good += 1;
        }
        items.push(row);
        if n_good == n_entries {
            break;
        }
    }
    Some(Rows { items, next: next? })
}

/// Encodes rows and counts the bad ones, in their order.
fn encode(rows: Rows, encoder: &mut Encoder, tally: &mut Tally) -> anyhow::Result<Block> {
    let mut entries = Vec::with_capacity(rows.items.len());
    let bad = |it| match it {
        Ok(entry) => {
            entries.push(entry);
            None
        }
        Err(bad) => Some(bad),
    };
    let order: Vec<Option<BadRow>> = rows.items.into_iter().map(bad).collect();
    let mut encoded = encoder.encode(&entries)?.into_iter();
    let mut entries = entries.into_iter();
    let (mut captions, mut vectors, mut spent) = (Vec::new(), Vec::new(), Vec::new());
    for bad in order {
        if let Some(bad) = bad {
            tally.leave_out(&bad);
            continue;
        }
        let (Some(entry), Some(encoded)) = (entries.next(), encoded.next()) else { break };
        match encoded {
            Ok(encoded) => {
                captions.push(entry.caption);
                vectors.push(encoded);
            }
            Err(reason) => {
                let fault = Fault::Unusable { reason };
                tally.leave_out(&BadRow { position: entry.position, fault });
                spent.push(entry.caption);
            }
        }
    }
    Ok(Block { next: rows.next.to_string(), tally: tally.clone(), captions, spent, vectors })
}

/// Only an index may be replaced: not the captions by a slip, and nothing that is no file.
fn check_output(output: &Path) -> anyhow::Result<()> {
    if let Ok(metadata) = std::fs::symlink_metadata(output) {
        let other = match Index::open(output) {
            _ if !metadata.is_file() => Some("no regular file"),
            Err(IndexError::NotAnIndex { .. }) => Some("no caption index"),
            // A damaged one may be replaced by a whole one.
            Ok(_) | Err(_) => None,
        };
        if let Some(other) = other {
            let path = output.display();
            bail!("{path}: something stands there that is {other}; choose another output");
        }
    }
    let folder = output.parent().filter(|it| !it.as_os_str().is_empty());
    if !folder.unwrap_or(Path::new(".")).is_dir() {
        bail!("{}: the folder of the output does not exist", output.display());
    }
    Ok(IndexBuilder::check_output(output)?)
}
