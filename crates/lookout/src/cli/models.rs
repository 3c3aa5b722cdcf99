//! The command line of `models`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::shared::DeviceArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsVerb {
    /// Check a bundle's files and its embeddings against another runtime's
    #[command(
        after_help = "Examples:\n  lookout models verify\n  lookout models verify models/other\n  lookout models verify --device cuda"
    )]
    Verify(VerifyArgs),
    /// Fetch from a model hub the files that `models import` reads
    #[command(after_help = "\
Examples:
  lookout models get OWNER/clip-vit-base-patch32
  lookout models get OWNER/siglip --revision v2 --output ~/hub/siglip
  lookout models get OWNER/gated --token-file ~/.config/hub-token
  lookout models get OWNER/clip --endpoint https://hub.example.org

Graphs, tokenizer, configuration and README are fetched, and of the weights the logit scale
alone. A download that was interrupted goes on when the command is run again. A file is kept
only if its hash is the one that the hub lists. The environment variable HF_ENDPOINT names
another hub where --endpoint does not; HTTPS_PROXY and NO_PROXY are heeded. A token is read
from a file alone, and goes to the hub's own host alone. The command to run next is printed at
the end.")]
    Get(GetArgs),
    /// Make a bundle with int8 weights from a folder of float ONNX exports
    #[command(after_help = "\
Examples:
  lookout models import ~/hub/clip-vit-base-patch32 --output models/b32 --logit-scale 100
  lookout models import siglip --output models/siglip --license Apache-2.0

The folder is one of a model hub: CLIP, TinyCLIP, MobileCLIP or SigLIP as transformers or
open_clip write them (vision_model.onnx, text_model.onnx, tokenizer.json,
preprocessor_config.json, config.json or open_clip_config.json). Preprocessing and scale come
from its files; what they say and this program cannot do is an error. The bundle is compared
with the float files before it is put in its place.")]
    Import(ImportArgs),
    /// Measure how fast this machine runs a bundle's image tower
    #[command(after_help = "\
Examples:
  lookout models bench
  lookout models bench models/other --pictures 200
  lookout models bench --kernels portable

Time is the process's CPU time for one picture, decoding and resizing left out.")]
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Pictures to run, after one that does not count
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) pictures: u32,
    /// Kernels to use, such as avx2 or portable [default: the fastest here]
    #[arg(long, value_name = "SET")]
    pub(crate) kernels: Option<String>,
    /// Take numbers of pictures from standard input, one a line, and answer each with the CPU times as
    /// JSON; for measuring in turns with another program
    #[arg(long, conflicts_with = "pictures")]
    pub(crate) paced: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Folder of the bundle [default: the starter bundle that came with the program]
    #[arg(value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Branch, tag or commit
    #[arg(long, value_name = "REV", default_value = "main")]
    pub(crate) revision: String,
    /// Folder to fetch into, made if it is not there [default: the repository's name without owner]
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Address of the hub [default: HF_ENDPOINT, else the public hub at huggingface.co]
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// File with an access token, for private and gated repositories
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Replace files in the folder that are not the hub's
    #[arg(long)]
    pub(crate) force: bool,
    /// Print nothing but errors
    #[arg(long, short, conflicts_with = "json")]
    pub(crate) quiet: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// The repository, such as OWNER/NAME
    #[arg(value_name = "REPO")]
    pub(crate) repo: String,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The bundle's folder to be
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Replace the bundle that stands there
    #[arg(long)]
    pub(crate) force: bool,
    /// Name of the embedding space [default: the folder's name and a part of the weights' hash]
    #[arg(long, value_name = "ID")]
    pub(crate) space: Option<String>,
    /// Terms of the model's use [default: `license` in the head of README.md]
    #[arg(long, value_name = "TEXT")]
    pub(crate) license: Option<String>,
    /// Where the model comes from [default: the folder's name]
    #[arg(long, value_name = "TEXT")]
    pub(crate) origin: Option<String>,
    /// Factor from cosine to logit, linear [default: from the weights' file or the whole graph]
    #[arg(long, value_name = "X")]
    pub(crate) logit_scale: Option<f64>,
    /// Term of the logit, for SigLIP [default: from the weights' file or the whole graph]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) logit_bias: Option<f64>,
    /// Folder of sample pictures, copied into the bundle [default: 12 of the starter's]
    #[arg(long, value_name = "DIR")]
    pub(crate) pictures: Option<PathBuf>,
    /// A sample text, in place of the built-in ones; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Vec<String>,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// The folder, as a hub holds it
    #[arg(value_name = "FOLDER")]
    pub(crate) source: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// One JSON object a line instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Folder of the bundle [default: the starter bundle that came with the program]
    #[arg(value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
}
