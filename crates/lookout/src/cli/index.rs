//! The command line of `index`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lookout_sources::Kind;

use super::shared::{DeviceArgs, ModelArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum IndexVerb {
    /// Build an index of captions, of pictures with captions, or of precomputed embeddings
    #[command(after_help = "\
Examples:
  lookout index build captions.tsv --output captions.lidx
  lookout index build ~/pictures --output own.lidx           # a.jpg, its captions in a.txt
  lookout index build captions_val2017.json --pictures val2017 --output coco.lidx
  lookout index build shards --output web.lidx --language eng --max-words 20
  lookout index build embeddings --model models/b32 --output laion.lidx --dry-run
  lookout index build --device cuda --batch 256 captions.tsv --output captions.lidx

SOURCE, and its name for --source:
  tsv         a table .tsv or .txt with a column `caption`, or a caption a line
  pairs       a folder of pictures, each with its captions in a .txt of its name, one a line
  coco        COCO captions .json; --pictures is the folder of the pictures
  webdataset  a .tar, or a folder of them, with KEY.jpg and KEY.txt or KEY.json
  embeddings  a folder of img_emb_N.npy, text_emb_N.npy or both with metadata_N.parquet, as
              clip-retrieval writes them; they must come from the model that --model names

An index of pictures finds captions by pictures that look alike; the others find them by the
captions themselves. Rows that cannot be used are counted and listed, and left out. Embedding
takes hours on a small board: what is done is kept beside the output, and the same command goes
on after a kill or a power cut. --dry-run tells beforehand what an index will take.")]
    Build(IndexBuildArgs),
    /// Check a whole index and describe it
    #[command(after_help = "Example:\n  lookout index info models/starter/captions.lidx")]
    Info(IndexInfoArgs),
    /// The captions nearest to a picture
    #[command(
        after_help = "Example:\n  lookout index search --count 5 picture.jpg\n\nIn order of their keys; the number before each is the caption's own cosine to the\npicture."
    )]
    Search(IndexSearchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct IndexBuildArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Captions, or pictures, embedded at once [default: 1 on a CPU, 64 on a GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) batch: Option<u16>,
    /// The index to write; an index of that name is replaced when the new one is complete
    #[arg(long, short, value_name = "FILE", required_unless_present = "dry_run")]
    pub(crate) output: Option<PathBuf>,
    /// What SOURCE is: tsv, pairs, coco, webdataset or embeddings [default: what its name and contents
    /// say]
    #[arg(long = "source", value_name = "KIND")]
    pub(crate) kind: Option<Kind>,
    /// Folder of the pictures that COCO captions name
    #[arg(long, value_name = "DIR")]
    pub(crate) pictures: Option<PathBuf>,
    /// Throw away what a build that was killed has embedded
    #[arg(long)]
    pub(crate) restart: bool,
    /// Add the captions that were taught, from a file that `teach` made; in an index of pictures, each
    /// of their views
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub(crate) with_taught: Option<PathBuf>,
    /// Read and filter the source, encode nothing, and tell what the index would take
    #[arg(long, conflicts_with = "restart")]
    pub(crate) dry_run: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// The captions, with or without pictures
    #[arg(value_name = "SOURCE")]
    pub(crate) source: PathBuf,
    #[command(flatten)]
    pub(crate) filters: FilterArgs,
}

/// Which captions of a source are wanted.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArgs {
    /// Keep captions of this language alone, by its ISO 639-3 code such as eng; may be repeated
    #[arg(long, value_name = "CODE")]
    pub(crate) language: Vec<String>,
    /// Leave out captions whose language is not sure too, as of many short ones
    #[arg(long, requires = "language")]
    pub(crate) refuse_unsure: bool,
    /// Fewest words of a caption
    #[arg(long, value_name = "N")]
    pub(crate) min_words: Option<usize>,
    /// Most words
    #[arg(long, value_name = "N")]
    pub(crate) max_words: Option<usize>,
    /// Fewest characters of a caption
    #[arg(long, value_name = "N")]
    pub(crate) min_chars: Option<usize>,
    /// Most characters, up to 1000
    #[arg(long, value_name = "N")]
    pub(crate) max_chars: Option<usize>,
    /// Leave out captions with a word or phrase of this list, one a line, # begins a comment
    #[arg(long, value_name = "FILE")]
    pub(crate) unwanted_words: Option<PathBuf>,
    /// Leave out a caption with the words of an earlier one, upper case and punctuation aside
    #[arg(long)]
    pub(crate) drop_near_duplicates: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IndexInfoArgs {
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// The index
    #[arg(value_name = "INDEX")]
    pub(crate) index: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct IndexSearchArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Caption index [default: captions.lidx in the model's folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) index: Option<PathBuf>,
    /// How many captions
    #[arg(long, short = 'n', value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) count: u16,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// The picture
    #[arg(value_name = "PICTURE")]
    pub(crate) picture: PathBuf,
}
