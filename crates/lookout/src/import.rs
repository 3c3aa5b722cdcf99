//! `lookout models import`: a folder of float exports to a bundle.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use lookout_core::Picture;
use lookout_encoder::{
    BoxError, Bundle, ImportHost, ImportOptions, ImportReport, ImportStep, SampleCheck, TowerReport,
};
use serde::Serialize;

use crate::cli::ImportArgs;
use crate::failure::Failure;
use crate::{assets, engine, index, output};

/// As many of the starter's pictures are taken where none are named.
const N_PICTURES: usize = 12;
/// The files that may be sample pictures, by extension.
const PICTURES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// Where pictures of a folder get their licenses from.
const ATTRIBUTION: &str = "ATTRIBUTION.md";

/// Sample texts where none are named: labels and sentences, short and long.
const TEXTS: [&str; 8] = [
    "a dog",
    "a photo of a cat",
    "an empty street at night",
    "two people walking with umbrellas in the rain",
    "a red car parked in front of a house",
    "Somebody's left the garage door open!",
    "a parcel on the doorstep",
    "a delivery van has stopped at the gate, and its driver carries a large cardboard box up the \
     stairs to the front door",
];

pub(crate) fn run(args: &ImportArgs) -> Result<(), Failure> {
    Ok(import(args)?)
}

fn import(args: &ImportArgs) -> anyhow::Result<()> {
    check_output(&args.output, args.force)?;
    let (pictures, notices) = pictures(args.pictures.as_deref())?;
    let texts =
        if args.text.is_empty() { TEXTS.map(str::to_owned).to_vec() } else { args.text.clone() };
    let options = ImportOptions {
        source: args.source.clone(),
        output: args.output.clone(),
        replace: args.force,
        space: args.space.clone(),
        license: args.license.clone(),
        origin: args.origin.clone(),
        logit_scale: args.logit_scale,
        logit_bias: args.logit_bias,
        pictures,
        notices,
        texts,
    };
    let mut host = Host::default();
    let report = lookout_encoder::import(&options, &mut host);
    host.finish();
    tell(args, &report?)
}

/// Only a bundle may be replaced, and only when the user says so.
fn check_output(output: &Path, force: bool) -> anyhow::Result<()> {
    let folder = output.parent().filter(|it| !it.as_os_str().is_empty());
    if !folder.unwrap_or(Path::new(".")).is_dir() {
        bail!("{}: the folder of the output does not exist", output.display());
    }
    let Ok(metadata) = std::fs::symlink_metadata(output) else { return Ok(()) };
    if !metadata.is_dir() || !output.join(Bundle::MANIFEST).is_file() {
        bail!(
            "{}: something stands there that is no bundle; choose another output",
            output.display()
        );
    }
    if !force {
        bail!("{}: a bundle stands there; --force replaces it", output.display());
    }
    Ok(())
}

/// The sample pictures of a folder in order of name, and what belongs to them.
fn pictures(dir: Option<&Path>) -> anyhow::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (dir, n) = match dir {
        Some(dir) => (dir.to_owned(), usize::MAX),
        None => (assets::find(assets::STARTER)?.join("pictures"), N_PICTURES),
    };
    let read = || dir.display().to_string();
    let mut pictures = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(read)? {
        let path = entry.with_context(read)?.path();
        let extension = path.extension().and_then(|it| it.to_str()).map(str::to_ascii_lowercase);
        if extension.is_some_and(|it| PICTURES.contains(&it.as_str())) && path.is_file() {
            pictures.push(path);
        }
    }
    if pictures.is_empty() {
        bail!("{}: no picture there ({})", dir.display(), PICTURES.join(", "));
    }
    pictures.sort();
    pictures.truncate(n);
    let attribution = dir.join(ATTRIBUTION);
    Ok((pictures, attribution.is_file().then_some(attribution).into_iter().collect()))
}

/// Shows a bar for each step.
#[derive(Default)]
struct Host(RefCell<Option<(ImportStep, ProgressBar)>>);

impl Host {
    fn finish(&self) {
        if let Some((_, bar)) = self.0.borrow_mut().take() {
            bar.finish();
        }
    }
}

impl ImportHost for Host {
    fn read_picture(&mut self, path: &Path) -> Result<Picture, BoxError> {
        Ok(engine::read(path)?)
    }

    fn progress(&self, step: ImportStep, done: u64, total: u64) {
        let mut current = self.0.borrow_mut();
        match &*current {
            Some((known, bar)) if *known == step => bar.set_position(done),
            _ => {
                if let Some((_, bar)) = current.take() {
                    bar.finish();
                }
                let what = match step {
                    ImportStep::QuantizeImage => "quantizing the image tower",
                    ImportStep::QuantizeText => "quantizing the text tower",
                    ImportStep::GoldenPictures => "pictures through the float tower",
                    ImportStep::GoldenTexts => "texts through the float tower",
                    ImportStep::Verify => "checking the bundle",
                };
                let bar = index::bar(what, usize::try_from(total).unwrap_or(usize::MAX));
                bar.set_position(done);
                *current = Some((step, bar));
            }
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    bundle: &'a str,
    space: &'a str,
    dimension: usize,
    logit_scale: f64,
    logit_bias: Option<f64>,
    image: TowerLine,
    text: TowerLine,
    min_cosine: f64,
}

#[derive(Serialize)]
struct TowerLine {
    bytes: u64,
    quantized_weights: usize,
    quantized_elements: u64,
    relative_error: f64,
    relative_error_without_clipping: f64,
    lowest_cosine: f64,
    mean_cosine: f64,
}

impl TowerLine {
    fn of(tower: &TowerReport, checks: &[SampleCheck]) -> Self {
        let (lowest_cosine, mean_cosine) = cosines(checks);
        Self {
            bytes: tower.bytes,
            quantized_weights: tower.n_quantized,
            quantized_elements: tower.n_elements,
            relative_error: tower.relative_error,
            relative_error_without_clipping: tower.plain_relative_error,
            lowest_cosine,
            mean_cosine,
        }
    }
}

/// The lowest, and the mean.
fn cosines(checks: &[SampleCheck]) -> (f64, f64) {
    let lowest = checks.iter().map(|it| it.cosine).fold(1.0, f64::min);
    #[expect(clippy::cast_precision_loss, reason = "a few samples")]
    let n = checks.len().max(1) as f64;
    (lowest, checks.iter().map(|it| it.cosine).sum::<f64>() / n)
}

fn tell(args: &ImportArgs, report: &ImportReport) -> anyhow::Result<()> {
    let ImportReport { space, dimension, logit_scale, logit_bias, min_cosine, .. } = report;
    let [image, text] = &report.towers;
    if args.json {
        return output::json_line(&Line {
            bundle: &args.output.to_string_lossy(),
            space,
            dimension: *dimension,
            logit_scale: *logit_scale,
            logit_bias: *logit_bias,
            image: TowerLine::of(image, &report.pictures),
            text: TowerLine::of(text, &report.texts),
            min_cosine: *min_cosine,
        });
    }
    let bias = logit_bias.map_or(String::new(), |it| format!(", bias {it}"));
    output::line(format!(
        "{}: space {space}, {dimension} dimensions, logit scale {logit_scale:.4}{bias}",
        args.output.display()
    ))?;
    for (what, tower, checks, samples) in
        [("image", image, &report.pictures, "pictures"), ("text", text, &report.texts, "texts")]
    {
        let (lowest, mean) = cosines(checks);
        output::line(format!(
            "{what:5}  {}, {} weights int8; cosine to the float file over {} {samples}: lowest \
             {lowest:.6}, mean {mean:.6}",
            index::size(tower.bytes),
            tower.n_quantized,
            checks.len(),
        ))?;
    }
    output::line(format!("least cosine that later checks accept: {min_cosine}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_bundle_is_replaced_and_only_on_demand() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("bundle");
        check_output(&output, false).unwrap();
        fs::create_dir(&output).unwrap();
        let refused = |force| check_output(&output, force).unwrap_err().to_string();
        assert!(
            refused(true)
                .ends_with("something stands there that is no bundle; choose another output")
        );
        fs::write(output.join("model.toml"), "").unwrap();
        assert!(refused(false).ends_with("a bundle stands there; --force replaces it"));
        check_output(&output, true).unwrap();
        let orphan = dir.path().join("gone/bundle");
        let message = check_output(&orphan, false).unwrap_err().to_string();
        assert!(message.ends_with("the folder of the output does not exist"), "{message}");
    }

    #[test]
    fn pictures_are_found_by_their_extension() {
        let dir = tempfile::tempdir().unwrap();
        assert!(pictures(Some(dir.path())).unwrap_err().to_string().contains("no picture there"));
        for name in ["b.JPG", "a.png", "notes.txt", "ATTRIBUTION.md"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let (found, notices) = pictures(Some(dir.path())).unwrap();
        assert_eq!(found, ["a.png", "b.JPG"].map(|it| dir.path().join(it)));
        assert_eq!(notices, [dir.path().join("ATTRIBUTION.md")]);
    }
}
