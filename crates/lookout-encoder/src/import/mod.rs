//! Float exports of CLIP models to bundles: reads a folder as a model hub holds it, makes the
//! weights int8, and proves the result against the float files.
//!
//! The weights of a float file are read tensor by tensor. Only to compute the golden embeddings is
//! one float tower at a time in memory.

mod float;
mod graph;
mod json;
mod pixels;
mod quantize;
mod scalars;
mod scale;
mod source;
#[cfg(test)]
mod tests;
mod tower;
mod wanted;
mod workplace;
mod write;

use std::path::{Path, PathBuf};

use lookout_core::Picture;

use crate::BoxError;
use crate::golden::SampleCheck;

pub use wanted::{ImportFiles, WantedFile, external_data};
pub use write::import;

/// What to import, and what its files do not say.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The folder, as a hub holds it.
    pub source: PathBuf,
    /// The bundle's folder to be. Its parent is there.
    pub output: PathBuf,
    /// Whether a bundle at `output` may be replaced.
    pub replace: bool,
    /// The embedding space; made of the folder's name and the towers' hashes where it is missing.
    pub space: Option<String>,
    /// Under which terms the model may be used; over what the folder says.
    pub license: Option<String>,
    /// Where the model comes from; the folder's name where it is missing.
    pub origin: Option<String>,
    /// Linear; over what the folder says.
    pub logit_scale: Option<f64>,
    /// For a model trained with a sigmoid; over what the folder says.
    pub logit_bias: Option<f64>,
    /// The sample pictures, at least 1; copied into the bundle.
    pub pictures: Vec<PathBuf>,
    /// Further files to copy beside the pictures, such as their licenses.
    pub notices: Vec<PathBuf>,
    /// The sample texts, at least 1.
    pub texts: Vec<String>,
}

/// A part of the work, of which progress is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportStep {
    /// Image tower to int8, in weights.
    QuantizeImage,
    /// Text tower to int8, in weights.
    QuantizeText,
    /// Golden embeddings of pictures, in pictures.
    GoldenPictures,
    /// Golden embeddings of texts, in texts.
    GoldenTexts,
    /// Checks with the bundle, in samples.
    Verify,
}

/// The user's side of an import: reads pictures and hears of progress.
pub trait ImportHost {
    /// Decodes a picture.
    fn read_picture(&mut self, path: &Path) -> Result<Picture, BoxError>;

    /// `done` of `total` of a step are done.
    fn progress(&self, step: ImportStep, done: u64, total: u64);
}

/// What came out.
#[derive(Clone, Debug)]
pub struct ImportReport {
    /// The embedding space.
    pub space: String,
    /// Entries of an embedding.
    pub dimension: usize,
    /// Linear.
    pub logit_scale: f64,
    /// For a model trained with a sigmoid.
    pub logit_bias: Option<f64>,
    /// The towers, image first.
    pub towers: [TowerReport; 2],
    /// int8 bundle against float file, by picture.
    pub pictures: Vec<SampleCheck>,
    /// int8 bundle against float file, by text.
    pub texts: Vec<SampleCheck>,
    /// The bound that the bundle sets itself.
    pub min_cosine: f64,
}

/// What became of one tower.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TowerReport {
    /// Weights that are int8 now; the rest stayed float.
    pub n_quantized: usize,
    /// Elements of these.
    pub n_elements: u64,
    /// The file's size, in bytes.
    pub bytes: u64,
    /// Root mean square over the weights of their relative error.
    pub relative_error: f64,
    /// The same, had no value been clipped.
    pub plain_relative_error: f64,
}
