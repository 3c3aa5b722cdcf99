//! `lookout index build`, `info` and `search`.

use std::path::Path;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use lookout_core::Embedding;
use lookout_encoder::{Bundle, EncoderError, Golden, ImageTower, TextTower};
use lookout_index::{
    CaptionFault, Index, IndexBuilder, IndexError, IndexInfo, Section, SkippedRow, read_captions,
};
use serde::Serialize;

use crate::cli::{IndexBuildArgs, IndexInfoArgs, IndexSearchArgs};
use crate::failure::Failure;
use crate::{assets, engine, output};

pub(crate) fn build(args: &IndexBuildArgs) -> Result<(), Failure> {
    Ok(build_index(args)?)
}

fn build_index(args: &IndexBuildArgs) -> anyhow::Result<()> {
    // What can be known to fail is found before the minutes of work.
    check_replaceable(&args.output)?;
    let folder = args.output.parent().filter(|it| !it.as_os_str().is_empty());
    if !folder.unwrap_or(Path::new(".")).is_dir() {
        bail!("{}: the folder of the output does not exist", args.output.display());
    }
    IndexBuilder::check_output(&args.output)?;
    let mut captions = read_captions(&args.captions)?;
    let bundle = Bundle::open(&assets::model_dir(args.model.model.as_deref())?)?;
    let runtime = engine::open(args.device.device)?;
    let batch = args.batch.map_or_else(|| runtime.batch(), usize::from);
    let mut tower = TextTower::load_on(&bundle, &runtime, batch).with_context(|| {
        format!("for batches of {batch}; a model that takes one text at a time needs --batch 1")
    })?;
    for check in Golden::open(&bundle)?.check_texts(&mut tower, usize::MAX)? {
        check.ensure()?;
    }
    let mut builder = IndexBuilder::new(bundle.space(), bundle.dimension())?;

    let texts = std::mem::take(&mut captions.texts);
    let lines = std::mem::take(&mut captions.lines);
    let embedding = bar("embedding captions", texts.len());
    for (texts, lines) in texts.chunks(batch).zip(lines.chunks(batch)) {
        let mut rows: Vec<(&str, u64)> =
            texts.iter().map(String::as_str).zip(lines.iter().copied()).collect();
        let vectors = encode(&mut tower, &mut rows, &mut |line| {
            captions.leave_out(SkippedRow { line, fault: CaptionFault::NoTokens });
        })?;
        for ((text, _), vector) in rows.iter().zip(&vectors) {
            builder.push(text, vector, None)?;
        }
        embedding.inc(texts.len() as u64);
    }
    embedding.finish();
    drop(tower);
    if builder.n_entries() == 0 {
        let (path, first) = (args.captions.clone(), captions.skipped.first().copied());
        bail!(IndexError::NoCaptions { path, n_rows: captions.n_skipped, first });
    }

    let graph = bar("building the graph", builder.n_entries());
    builder.write(&args.output, &|done, _| graph.set_position(done as u64))?;
    graph.finish();

    if 0 < captions.n_skipped {
        let (path, n) = (args.captions.display(), captions.n_skipped);
        output::complain(&format!("{path}: {n} rows left out:"));
        for row in &captions.skipped {
            output::complain(&format!("    {row}"));
        }
    }
    let info = Index::open(&args.output)?.info();
    output::line(format!(
        "{}: {} captions, {}",
        args.output.display(),
        info.n_entries,
        size(info.file_bytes),
    ))
}

/// The embeddings of `rows`, captions with their lines. Those without a token leave `rows`, and
/// `leave_out` is told their lines.
fn encode(
    tower: &mut TextTower,
    rows: &mut Vec<(&str, u64)>,
    leave_out: &mut dyn FnMut(u64),
) -> anyhow::Result<Vec<Embedding>> {
    loop {
        let texts: Vec<&str> = rows.iter().map(|it| it.0).collect();
        // All are made tokens before the model runs, so what is repeated is little.
        let error = match tower.encode_texts(&texts) {
            Ok(vectors) => return Ok(vectors),
            Err(error) => error,
        };
        let place = match &error {
            EncoderError::EmptyText { text } => texts.iter().position(|it| it == text),
            _ => None,
        };
        let Some(place) = place else {
            return Err(error).with_context(|| format!("captions {texts:?}"));
        };
        leave_out(rows.remove(place).1);
    }
}

/// Only an index may be replaced: not the captions by a slip, and nothing that is no file.
fn check_replaceable(output: &Path) -> anyhow::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(output) else { return Ok(()) };
    let other = match Index::open(output) {
        _ if !metadata.is_file() => "no regular file",
        Err(IndexError::NotAnIndex { .. }) => "no caption index",
        // A damaged one may be replaced by a whole one.
        Ok(_) | Err(_) => return Ok(()),
    };
    bail!("{}: something stands there that is {other}; choose another output", output.display())
}

/// A bar with rate and time left on standard error; silent where that is no terminal.
pub(crate) fn bar(what: &'static str, n: usize) -> ProgressBar {
    let template = "{msg} {wide_bar} {pos}/{len} {per_sec} {eta} left";
    // The template is a constant, so the default is never used.
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(n as u64).with_style(style).with_message(what)
}

#[derive(Serialize)]
struct InfoLine<'a> {
    index: &'a str,
    version: u32,
    space: &'a str,
    dimension: usize,
    entries: usize,
    own_keys: bool,
    ef_construction: usize,
    ef_search: usize,
    input_sha256: &'a str,
    bytes: u64,
    section_bytes: serde_json::Map<String, serde_json::Value>,
}

pub(crate) fn info(args: &IndexInfoArgs) -> Result<(), Failure> {
    let index = Index::open(&args.index).map_err(anyhow::Error::from)?;
    index.verify_all().map_err(anyhow::Error::from)?;
    let info = index.info();
    let path = args.index.to_string_lossy();
    if args.json {
        let section = |(section, bytes): &(Section, u64)| {
            (section.to_string(), serde_json::Value::from(*bytes))
        };
        output::json_line(&InfoLine {
            index: &path,
            version: info.version,
            space: &info.space,
            dimension: info.dimension,
            entries: info.n_entries,
            own_keys: info.own_keys,
            ef_construction: info.ef_construction,
            ef_search: info.ef_search,
            input_sha256: &info.input_hash,
            bytes: info.file_bytes,
            section_bytes: info.section_bytes.iter().map(section).collect(),
        })?;
    } else {
        output::line(describe(&path, &info))?;
    }
    Ok(())
}

fn describe(path: &str, info: &IndexInfo) -> String {
    let keys = if info.own_keys { "image embeddings" } else { "the captions' own vectors" };
    let mut text = format!(
        "{path}: whole and undamaged\n\
         format version   {}\n\
         embedding space  {}, {} dimensions\n\
         captions         {}\n\
         keys             {keys}\n\
         ef               {} at building, {} at searching\n\
         input SHA-256    {}\n\
         size             {}",
        info.version,
        info.space,
        info.dimension,
        info.n_entries,
        info.ef_construction,
        info.ef_search,
        info.input_hash,
        size(info.file_bytes),
    );
    for (section, bytes) in info.section_bytes.iter().filter(|it| 0 < it.1) {
        text += &format!("\n    {:15}{:>10}", section.to_string(), size(*bytes));
    }
    text
}

#[derive(Serialize)]
struct SearchLine<'a> {
    picture: &'a str,
    found: Vec<Found<'a>>,
}

#[derive(Serialize)]
struct Found<'a> {
    text: &'a str,
    similarity: f64,
    key_similarity: f64,
}

pub(crate) fn search(args: &IndexSearchArgs) -> Result<(), Failure> {
    Ok(search_index(args)?)
}

fn search_index(args: &IndexSearchArgs) -> anyhow::Result<()> {
    let model = assets::model_dir(args.model.model.as_deref())?;
    let bundle = Bundle::open(&model)?;
    let path = engine::index_path(args.index.as_deref(), &model)?;
    let n = usize::from(args.count);
    let index = engine::open_index(&path, &bundle, n)?;
    let runtime = engine::open(args.device.device)?;
    let mut tower = ImageTower::load_on(&bundle, &runtime, 1)?;
    let image = tower
        .encode(&engine::read(&args.picture)?)
        .with_context(|| args.picture.display().to_string())?;
    let candidates = index.search(&image, n)?;
    let found: Vec<Found<'_>> = candidates
        .iter()
        .map(|it| Found {
            text: &it.text,
            similarity: image.cosine(&it.embedding),
            key_similarity: it.key_similarity,
        })
        .collect();
    if args.json {
        return output::json_line(&SearchLine { picture: &args.picture.to_string_lossy(), found });
    }
    for it in &found {
        output::line(format!("{:.3}  {}", it.similarity, it.text))?;
    }
    Ok(())
}

/// In kB or MB, thousands and millions of bytes.
pub(crate) fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let bytes = bytes as f64;
    if bytes < 1e6 { format!("{:.1} kB", bytes / 1e3) } else { format!("{:.1} MB", bytes / 1e6) }
}
