//! `lookout index build --dry-run`: what a build would give and take.

use std::collections::BTreeMap;

use anyhow::Context;
use lookout_encoder::Bundle;
use lookout_index::{DEFAULT_CANDIDATES, Estimate};
use lookout_sources::{Kind, Source};
use serde::Serialize;

use super::encode::Needs;
use super::meter::Meter;
use super::{build, method_name, report, size, source};
use crate::cli::IndexBuildArgs;
use crate::{assets, output};

/// Bytes of memory for each caption that is remembered to find it again: a hash in a table that is
/// doubled when it is full.
const REMEMBERED_BYTES: u64 = 20;
/// Bytes of memory for each caption and each picture of COCO annotations.
const COCO_BYTES: u64 = 24;

#[derive(Serialize)]
struct DryLine<'a> {
    source: &'a str,
    kind: String,
    entries: u64,
    bad_rows: u64,
    first_bad: &'a [String],
    refused: &'a BTreeMap<String, u64>,
    space: &'a str,
    dimension: usize,
    keys: &'static str,
    image_tower: bool,
    text_tower: bool,
    method: &'static str,
    file_bytes: u64,
    work_file_bytes: u64,
    build_memory_bytes: u64,
    search_memory_bytes: u64,
}

/// Reads and filters the source, decodes and encodes nothing, and says what the index would take.
pub(super) fn run(args: &IndexBuildArgs) -> anyhow::Result<()> {
    let (kind, spec) = source::spec(args)?;
    let mut filters = source::filters(&args.filters)?;
    let mut rows = Source::open(&spec)?;
    let bundle = Bundle::open(&assets::model_dir(args.model.model.as_deref())?)?;
    let needs = Needs::of(rows.gives(), &bundle)?;

    let mut tally = lookout_sources::Tally::default();
    let (mut n_entries, mut text_bytes) = (0u64, 0u64);
    let mut meter = Meter::start("reading captions");
    while let Some(some) = build::read(&mut rows, &mut filters, &mut tally, build::BLOCK) {
        for item in some.items {
            match item {
                Ok(entry) => {
                    n_entries += 1;
                    text_bytes += entry.caption.len() as u64;
                }
                Err(bad) => tally.leave_out(&bad),
            }
        }
        let progress = rows.progress();
        meter.tick(progress.done, progress.total, n_entries);
    }
    meter.finish();

    let dimension = bundle.dimension();
    let n = u32::try_from(n_entries).ok().filter(|it| *it as usize <= lookout_index::MAX_ENTRIES);
    let n = n.with_context(|| {
        let most = lookout_index::MAX_ENTRIES;
        format!("{n_entries} captions would be in, an index holds at most {most}; split the source")
    })?;
    let estimate = Estimate::new(n, dimension, needs.own_keys, text_bytes, DEFAULT_CANDIDATES);
    let vectors = (1 + u64::from(needs.own_keys)) * 4 * dimension as u64;
    let work_bytes = if needs.any() { n_entries * (vectors + 8) + text_bytes } else { 0 };
    let n_remembered = u64::from(kind == Kind::Tsv) + u64::from(args.filters.drop_near_duplicates);
    let n_places = if kind == Kind::Coco { 2 * rows.progress().total } else { 0 };
    let build_bytes =
        estimate.build_bytes + n_remembered * n_entries * REMEMBERED_BYTES + n_places * COCO_BYTES;

    let path = args.source.to_string_lossy();
    let keys = if needs.own_keys { "pictures" } else { "captions" };
    let method = method_name(estimate.method);
    if args.json {
        return output::json_line(&DryLine {
            source: &path,
            kind: kind.to_string(),
            entries: n_entries,
            bad_rows: tally.n_bad(),
            first_bad: tally.first(),
            refused: tally.refused(),
            space: bundle.space(),
            dimension,
            keys,
            image_tower: needs.image_tower,
            text_tower: needs.text_tower,
            method,
            file_bytes: estimate.file_bytes,
            work_file_bytes: work_bytes,
            build_memory_bytes: build_bytes,
            search_memory_bytes: estimate.search_bytes,
        });
    }
    report::left_out(&args.source, &tally);
    let towers = match (needs.image_tower, needs.text_tower) {
        (true, _) => "pictures and captions",
        (false, true) => "captions",
        (false, false) => "nothing",
    };
    let besides =
        if needs.any() { "besides the program and its model" } else { "besides the program" };
    output::line(format!(
        "{path}: {kind}, nothing was built\n\
         entries          {n_entries} at most; what the model cannot use comes off\n\
         embedding space  {}, {dimension} dimensions\n\
         found by         {keys}\n\
         to be encoded    {towers}\n\
         search           {method}\n\
         disk             {} at most; while building, {} more for the work file\n\
         memory           {} while building, {besides}\n\
         memory           {} while searching, besides pages of the file that the system may take back",
        bundle.space(),
        size(estimate.file_bytes),
        size(work_bytes),
        size(build_bytes),
        size(estimate.search_bytes),
    ))
}
