//! `lookout index build`, `info` and `search`.

mod build;
mod dry_run;
mod encode;
mod inputs;
pub(crate) mod meter;
mod report;
mod source;
mod work;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use lookout_encoder::{Bundle, ImageTower};
use lookout_index::{Index, IndexInfo, SearchMethod, Section};
use serde::Serialize;

use crate::cli::{IndexBuildArgs, IndexInfoArgs, IndexSearchArgs};
use crate::failure::Failure;
use crate::{assets, engine, output};

pub(crate) fn build(args: &IndexBuildArgs) -> Result<(), Failure> {
    Ok(if args.dry_run { dry_run::run(args) } else { build::run(args) }?)
}

/// A bar with rate and time left on standard error; silent where that is no terminal.
pub(crate) fn bar(what: &'static str, n: usize) -> ProgressBar {
    let template = if what.is_empty() {
        "{msg} {wide_bar} {percent} % {eta} left"
    } else {
        "{msg} {wide_bar} {pos}/{len} {per_sec} {eta} left"
    };
    // Templates are constants, so the default is never used.
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
    method: &'static str,
    kernel: &'static str,
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
            method: method_name(info.method),
            kernel: info.kernel,
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
    let keys = if info.own_keys { "pictures" } else { "captions" };
    let method = match info.method {
        SearchMethod::Exhaustive => "exhaustive, through sketches of all keys".to_owned(),
        SearchMethod::Graph => {
            let (building, searching) = (info.ef_construction, info.ef_search);
            format!("graph, with ef {building} at building and {searching} at searching")
        }
    };
    let mut text = format!(
        "{path}: whole and undamaged\n\
         format version   {}\n\
         embedding space  {}, {} dimensions\n\
         captions         {}\n\
         found by         {keys}\n\
         search           {method}\n\
         kernel           {}\n\
         input SHA-256    {}\n\
         size             {}",
        info.version,
        info.space,
        info.dimension,
        info.n_entries,
        info.kernel,
        info.input_hash,
        size(info.file_bytes),
    );
    for (section, bytes) in info.section_bytes.iter().filter(|it| 0 < it.1) {
        text += &format!("\n    {:15}{:>10}", section.to_string(), size(*bytes));
    }
    text
}

/// A way of searching in one word.
fn method_name(method: SearchMethod) -> &'static str {
    match method {
        SearchMethod::Exhaustive => "exhaustive",
        SearchMethod::Graph => "graph",
    }
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

/// In kB, MB or GB, powers of thousand bytes.
pub(crate) fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let bytes = bytes as f64;
    match bytes {
        it if it < 1e6 => format!("{:.1} kB", it / 1e3),
        it if it < 1e9 => format!("{:.1} MB", it / 1e6),
        it => format!("{:.2} GB", it / 1e9),
    }
}
