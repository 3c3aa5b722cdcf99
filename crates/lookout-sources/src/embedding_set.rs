//! A set of embeddings to evaluate with: pictures, classes and captions of one model, and what is true
//! of each picture. With one, retrieval and fusion are measured on a model whose weights are not at hand.

use std::collections::HashMap;
use std::path::Path;

use lookout_core::{Embedding, LogitBias, LogitScale, Scales};
use serde::Deserialize;

use crate::SourceError;
use crate::files::read_text;
use crate::npy::Npy;
use crate::table::{Table, parts};

const SET: &str = "set.json";
const IMAGES: &str = "images.npy";
const CLASSES: (&str, &str) = ("classes.npy", "classes.txt");
const CAPTIONS: (&str, &str) = ("captions.npy", "captions.txt");
const TRUTH: &str = "truth.tsv";
/// What `set.json` must do, for messages.
const ABOUT_RULE: &str = "be an object with `space`, a text, and `logit_scale`, a number; it may have the \
                          numbers `caption_logit_scale` and `logit_bias`";
/// Bytes of `set.json`, and of each text file.
const MAX_SET_BYTES: usize = 1 << 20;
const MAX_TEXT_BYTES: usize = 1 << 30;

/// A folder of `set.json`, `images.npy`, `classes.npy`, `classes.txt`, `captions.npy`, `captions.txt` and
/// `truth.tsv`, read whole.
///
/// Tables are float16 or float32, a row each; rows are scaled to unit length, and one that has none or
/// is not finite is an error. `set.json` has `space`, which names the model, `logit_scale`, and may have
/// `caption_logit_scale` and `logit_bias`; the rest of it is not looked at. `truth.tsv` is headed `row`,
/// `classes` and `own_captions`; the latter two are joined by `|`, and rows count from 0.
#[derive(Clone, Debug)]
pub struct EmbeddingSet {
    /// The model's embedding space.
    pub space: String,
    /// Its logit scales.
    pub scales: Scales,
    /// What is judged.
    pub images: Vec<Embedding>,
    /// Names of the classes, at least two, each once.
    pub classes: Vec<String>,
    /// Their embeddings, in their order.
    pub class_embeddings: Vec<Embedding>,
    /// Texts of the captions, at least one.
    pub captions: Vec<String>,
    /// Their embeddings, in their order.
    pub caption_embeddings: Vec<Embedding>,
    /// Of each image: positions of the classes it shows, and of the captions that are its own. Either
    /// may be empty.
    pub truth: Vec<ImageTruth>,
}

/// What is true of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageTruth {
    /// Positions of classes.
    pub classes: Vec<usize>,
    /// Positions of captions.
    pub own_captions: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct About {
    space: String,
    logit_scale: f64,
    caption_logit_scale: Option<f64>,
    logit_bias: Option<f64>,
}

impl EmbeddingSet {
    /// Reads a folder. Errs with file and row where anything does not fit.
    pub fn read(folder: &Path) -> Result<Self, SourceError> {
        let (space, scales) = about(folder)?;
        let (images, dimension) = table(folder, IMAGES, None)?;
        let (classes, class_embeddings) = named(folder, CLASSES, dimension)?;
        let wrong = |file: &str, problem: String| fault(folder, file, None, problem);
        if classes.len() < 2 {
            let problem = format!("there must be at least 2 classes, got {}", classes.len());
            return Err(wrong(CLASSES.1, problem));
        }
        let mut positions: HashMap<&str, usize> = HashMap::new();
        for (at, name) in classes.iter().enumerate() {
            let line = Some(at + 1);
            if name.trim().is_empty() || name.contains(['|', '\t']) {
                let problem = format!("a class must have a name without `|` and tab, got {name:?}");
                return Err(fault(folder, CLASSES.1, line, problem));
            }
            if let Some(first) = positions.insert(name, at) {
                let problem = format!("class {name:?} stands in line {} already", first + 1);
                return Err(fault(folder, CLASSES.1, line, problem));
            }
        }
        let (captions, caption_embeddings) = named(folder, CAPTIONS, dimension)?;
        if images.is_empty() || captions.is_empty() {
            let file = if images.is_empty() { IMAGES } else { CAPTIONS.0 };
            return Err(wrong(file, "there must be at least 1 row, got 0".to_owned()));
        }
        let truth = truth(folder, images.len(), &positions, captions.len())?;
        Ok(Self {
            space,
            scales,
            images,
            classes,
            class_embeddings,
            captions,
            caption_embeddings,
            truth,
        })
    }
}

fn fault(folder: &Path, file: &str, line: Option<usize>, problem: String) -> SourceError {
    SourceError::Set { path: folder.join(file), line, problem }
}

fn about(folder: &Path) -> Result<(String, Scales), SourceError> {
    let wrong = |problem: String| fault(folder, SET, None, problem);
    let text = read_text(&folder.join(SET), MAX_SET_BYTES)?;
    let unfit = |it: String| wrong(format!("{it}; it must {ABOUT_RULE}"));
    // It would be taken for the values in their order.
    if text.trim_start().starts_with('[') {
        return Err(unfit("got a list".to_owned()));
    }
    let about: About = serde_json::from_str(&text).map_err(|it| unfit(it.to_string()))?;
    let scale = |key: &str, value: f64| {
        LogitScale::from_linear(value).ok_or_else(|| {
            wrong(format!("`{key}` must be a number from {}, got {value}", LogitScale::RULE))
        })
    };
    let image = scale("logit_scale", about.logit_scale)?;
    let caption =
        about.caption_logit_scale.map(|it| scale("caption_logit_scale", it)).transpose()?;
    let bias = about.logit_bias.map(|it| {
        LogitBias::new(it).ok_or_else(|| wrong(format!("`logit_bias` must be finite, got {it}")))
    });
    let scales = Scales { image, caption: caption.unwrap_or(image), bias: bias.transpose()? };
    Ok((about.space, scales))
}

/// The rows of a table, and their dimension: `expected` where that is given.
fn table(
    folder: &Path,
    file: &str,
    expected: Option<usize>,
) -> Result<(Vec<Embedding>, usize), SourceError> {
    let path = folder.join(file);
    let mut npy = Npy::open(&path)?;
    let got = npy.dimension();
    if let Some(expected) = expected.filter(|it| *it != got) {
        return Err(SourceError::Dimension { path, got, expected });
    }
    let mut rows = Vec::new();
    for row in 0..npy.n_rows() {
        let values =
            npy.read().map_err(|source| SourceError::Read { path: path.clone(), source })?;
        let embedding = Embedding::normalize(values)
            .map_err(|error| fault(folder, file, None, format!("row {row}: {error}")))?;
        rows.push(embedding);
    }
    Ok((rows, got))
}

/// A table with its texts, a line for each row.
fn named(
    folder: &Path,
    (file, texts): (&str, &str),
    dimension: usize,
) -> Result<(Vec<String>, Vec<Embedding>), SourceError> {
    let (rows, _) = table(folder, file, Some(dimension))?;
    let lines = read_text(&folder.join(texts), MAX_TEXT_BYTES)?;
    let lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    if lines.len() != rows.len() {
        let problem = format!("{file} has {} rows, and here are {} lines", rows.len(), lines.len());
        return Err(fault(folder, texts, None, problem));
    }
    Ok((lines, rows))
}

fn truth(
    folder: &Path,
    n_images: usize,
    classes: &HashMap<&str, usize>,
    n_captions: usize,
) -> Result<Vec<ImageTruth>, SourceError> {
    let table = Table::read(&folder.join(TRUTH), &["row", "classes", "own_captions"], &[])?;
    let mut truth: Vec<Option<ImageTruth>> = vec![None; n_images];
    for line in table.lines() {
        let line = line?;
        let wrong = |problem: String| fault(folder, TRUTH, Some(line.number), problem);
        let at_most = |what: &str, n: usize, got: &str| {
            let at = got.parse().ok().filter(|it| *it < n);
            at.ok_or_else(|| wrong(format!("{what} must be 0 to {}, got {got:?}", n - 1)))
        };
        let row = at_most("row", n_images, line.get(0))?;
        let class = |name: &str| {
            let unknown = || wrong(format!("{name:?} is no class of {}", CLASSES.1));
            classes.get(name).copied().ok_or_else(unknown)
        };
        let shown: Vec<usize> = parts(line.get(1), "|").map(class).collect::<Result<_, _>>()?;
        let own = parts(line.get(2), "|").map(|it| at_most("own_captions", n_captions, it));
        let own_captions: Vec<usize> = own.collect::<Result<_, _>>()?;
        if truth[row].replace(ImageTruth { classes: shown, own_captions }).is_some() {
            return Err(wrong(format!("row {row} stands in an earlier line already")));
        }
    }
    if let Some(row) = truth.iter().position(Option::is_none) {
        let problem = format!("row {row} of {IMAGES} must have a line, and has none");
        return Err(fault(folder, TRUTH, None, problem));
    }
    Ok(truth.into_iter().flatten().collect())
}
