//! What can go wrong between a bundle on disk and an embedding.

use std::fmt;
use std::path::{Path, PathBuf};

use lookout_core::{Device, Disposition, EmbeddingError};

/// A foreign error, kept as a source so that its type stays out of the interface.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One rule of `model.toml` that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Full path of the key, such as `image.size_px`.
    pub key: String,
    /// What the value must be.
    pub rule: String,
    /// The value found, or `nothing`.
    pub got: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` must be {}, got {}", self.key, self.rule, self.got)
    }
}

/// A bundle, a model or an input is unusable.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A directory, device or pipe stands where a file belongs.
    #[error("{path} must be a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A file is larger than its kind may be.
    #[error("{path} may have at most {limit} bytes, got {got}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes.
        limit: u64,
        /// Its bytes; where it grew while being read, those seen so far.
        got: u64,
    },
    /// A manifest is no TOML.
    #[error("{path} is not valid TOML")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A manifest breaks rules; all of them are listed.
    #[error("{path} breaks {} rule(s):{}", faults.len(), lines(faults))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Every broken rule.
        faults: Vec<Fault>,
    },
    /// A file is not the one that the manifest describes.
    #[error(
        "{path} must have SHA-256 {expected}, got {got}; restore the file from where the bundle came from"
    )]
    Hash {
        /// The file.
        path: PathBuf,
        /// The hash in the manifest, 64 hexadecimal digits.
        expected: String,
        /// The hash of the file.
        got: String,
    },
    /// The program was built without what a device needs.
    #[error(
        "this program was built without support for device \"{device}\"; build it with `cargo build --release --locked -p lookout --features {feature}`, or choose device \"cpu\""
    )]
    NotBuilt {
        /// The device.
        device: Device,
        /// The cargo feature.
        feature: &'static str,
    },
    /// A device cannot be used on this machine.
    #[error("device \"{device}\" cannot be used; {advice}, or choose device \"cpu\"")]
    Device {
        /// The device.
        device: Device,
        /// What to do.
        advice: &'static str,
        /// What is missing.
        source: BoxError,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An imported model lost too much with its float weights.
    #[error(
        "{path} cannot be used with int8 weights: the embedding of {sample:?} must have a cosine of at least {min_cosine} to that of the float file, got {cosine}"
    )]
    Quantized {
        /// The imported folder.
        path: PathBuf,
        /// The text, or the picture's file.
        sample: String,
        /// The least cosine.
        min_cosine: f64,
        /// The cosine found.
        cosine: f64,
    },
    /// An ONNX file is not what such a file may be.
    #[error("{path}: {at} must be {rule}, got {got}")]
    Onnx {
        /// The file.
        path: PathBuf,
        /// The tensor, the position in the file, or the file itself.
        at: String,
        /// What it must be.
        rule: String,
        /// What was found.
        got: String,
    },
    /// A runtime refuses a model or its input.
    #[error("cannot {action} {path}")]
    Model {
        /// The model.
        path: PathBuf,
        /// `load` or `run`.
        action: &'static str,
        /// Its reason.
        source: BoxError,
    },
    /// A library panicked on what it was given.
    #[error("cannot {action} {path}: the library panicked: {message}")]
    Panicked {
        /// The file.
        path: PathBuf,
        /// `load` or `run`.
        action: &'static str,
        /// The panic's message.
        message: String,
    },
    /// A model's output is not what the manifest declares.
    #[error("{path} must output one row of {expected} numbers, got shape {got:?}")]
    OutputShape {
        /// The model.
        path: PathBuf,
        /// The declared dimension.
        expected: usize,
        /// The output's shape; empty where it is unknown before the model runs.
        got: Vec<usize>,
    },
    /// A model's output is no direction.
    #[error("{path} gave no embedding of {of}")]
    Output {
        /// The model.
        path: PathBuf,
        /// The text, or the picture as far as it is known here.
        of: String,
        /// What it gave.
        source: EmbeddingError,
    },
    /// A tokenizer cannot be parsed, or refuses a text.
    #[error("cannot {action} {path}")]
    Tokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// `load` or `run`.
        action: &'static str,
        /// Its reason.
        source: BoxError,
    },
    /// A tokenizer contradicts the manifest.
    #[error("{path} must {rule}, got {got}")]
    TokenizerRule {
        /// The tokenizer's file.
        path: PathBuf,
        /// What the manifest says.
        rule: String,
        /// What it does.
        got: String,
    },
    /// A text without content.
    #[error("text {text:?} must have at least 1 token besides white space and special tokens")]
    EmptyText {
        /// The text's beginning.
        text: String,
    },
    /// A text beyond [`crate::TextTower::MAX_TEXT_BYTES`].
    #[error("a text may have at most {limit} bytes, got {got}")]
    TextTooLong {
        /// The most bytes.
        limit: usize,
        /// Its bytes.
        got: usize,
    },
    /// The resizer refuses a picture.
    #[error("cannot resize a picture of {width_px}x{height_px} px")]
    Resize {
        /// The picture's width.
        width_px: u32,
        /// The picture's height.
        height_px: u32,
        /// Its reason.
        source: BoxError,
    },
    /// The file of golden embeddings is malformed.
    #[error("{path} is not a valid file of golden embeddings")]
    Golden {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: BoxError,
    },
    /// A picture of the bundle cannot be used to check it.
    #[error("cannot read the sample picture {path}")]
    SamplePicture {
        /// The picture.
        path: PathBuf,
        /// The reader's reason.
        source: BoxError,
    },
    /// An embedding differs from the golden one.
    #[error(
        "the embedding of {sample:?} must have a cosine of at least {min_cosine} to its golden value, got {cosine}; {} (run by {run_by}; processor: {cpu})",
        cause(*portable, *min_cosine)
    )]
    GoldenMismatch {
        /// The text, or the picture's file.
        sample: String,
        /// The least cosine.
        min_cosine: f64,
        /// The cosine found.
        cosine: f64,
        /// The cosine that the portable kernels give; `None` where they cannot run the model.
        portable: Option<f64>,
        /// What computed it, with its kernels.
        run_by: String,
        /// The processor's features.
        cpu: String,
    },
}

impl EncoderError {
    /// The same, said of `sample` where it says that there is no embedding.
    pub(crate) fn about(mut self, sample: String) -> Self {
        if let Self::Output { of, .. } = &mut self {
            *of = sample;
        }
        self
    }

    /// The same about a file in the folder `to`, where it is about that in `from`.
    pub(crate) fn moved(mut self, from: &Path, to: &Path) -> Self {
        let path = match &mut self {
            Self::Read { path, .. }
            | Self::NotAFile { path }
            | Self::TooLarge { path, .. }
            | Self::Syntax { path, .. }
            | Self::Invalid { path, .. }
            | Self::Hash { path, .. }
            | Self::Write { path, .. }
            | Self::Quantized { path, .. }
            | Self::Onnx { path, .. }
            | Self::Model { path, .. }
            | Self::Panicked { path, .. }
            | Self::OutputShape { path, .. }
            | Self::Output { path, .. }
            | Self::Tokenizer { path, .. }
            | Self::TokenizerRule { path, .. }
            | Self::Golden { path, .. }
            | Self::SamplePicture { path, .. } => path,
            Self::NotBuilt { .. }
            | Self::Device { .. }
            | Self::EmptyText { .. }
            | Self::TextTooLong { .. }
            | Self::Resize { .. }
            | Self::GoldenMismatch { .. } => return self,
        };
        if let Ok(rest) = path.strip_prefix(from) {
            *path = to.join(rest);
        }
        self
    }

    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Output { .. }
            | Self::Resize { .. }
            | Self::EmptyText { .. }
            | Self::TextTooLong { .. }
            | Self::Model { action: RUN, .. }
            | Self::Tokenizer { action: RUN, .. }
            | Self::Panicked { action: RUN, .. } => Disposition::SkipFrame,
            Self::Read { .. }
            | Self::NotAFile { .. }
            | Self::TooLarge { .. }
            | Self::Syntax { .. }
            | Self::Invalid { .. }
            | Self::Hash { .. }
            | Self::NotBuilt { .. }
            | Self::Device { .. }
            | Self::Write { .. }
            | Self::Onnx { .. }
            | Self::Quantized { .. }
            | Self::Model { .. }
            | Self::Panicked { .. }
            | Self::OutputShape { .. }
            | Self::Tokenizer { .. }
            | Self::TokenizerRule { .. }
            | Self::Golden { .. }
            | Self::SamplePicture { .. }
            | Self::GoldenMismatch { .. } => Disposition::Fatal,
        }
    }
}

/// What tract says about the model at `path`.
pub(crate) fn model_error(
    path: &Path,
    action: &'static str,
    source: impl Into<BoxError>,
) -> EncoderError {
    EncoderError::Model { path: path.to_owned(), action, source: source.into() }
}

/// The action of a failure that concerns one input.
pub(crate) const RUN: &str = "run";
/// The action of a failure that concerns the model.
pub(crate) const LOAD: &str = "load";

/// Why an embedding differs from its golden value, as far as the portable kernels can tell.
fn cause(portable: Option<f64>, min_cosine: f64) -> String {
    match portable {
        Some(it) if min_cosine <= it => format!(
            "the portable kernels give {it}, so this machine computes the model wrongly; choose another device, and report it"
        ),
        Some(it) => format!(
            "the portable kernels give {it}, so it is not this machine's doing: model.toml describes the model otherwise than when the golden embeddings were made, or these are another model's; restore the bundle"
        ),
        None => {
            "this machine computes the model wrongly, or model.toml describes it wrongly".into()
        }
    }
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(|it| format!("\n  {it}")).collect()
}

/// An error and its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(it) = cause {
        text += &format!(": {it}");
        cause = it.source();
    }
    text
}
