//! The command line of `labels`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::shared::ModelArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum LabelsVerb {
    /// Which of a class's words people use, by how often the captions of an index have them
    #[command(after_help = "\
Examples:
  lookout labels tune --labels labels.toml
  lookout labels tune --labels labels.toml --index own.lidx --output tuned.toml

For each class its name and aliases are counted as whole words, plural or not, in the captions.
The word that is used most is advised as its name, and words that hardly anybody writes are
advised to be dropped: those in less than a tenth as many captions as the most used one. Of a
name in fewer than 5 captions the same is said. A word may be used for another thing than
yours: an example stands beside each. Captions cannot vouch for a class of which they have no
word. A word of two classes, be it the plural of the other's, is left to the one that is called
so, else to the first. --output writes the label set as advised; ids, comments, line ends and a
byte order mark stay, and where a link stands there, its file is replaced.")]
    Tune(TuneArgs),
    /// The texts that stand for each class
    #[command(after_help = "Example:\n  lookout labels show --labels labels.toml")]
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TuneArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The label set, TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: PathBuf,
    /// Caption index [default: captions.lidx in the model's folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) index: Option<PathBuf>,
    /// Write the label set as advised; the file must not be there
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the file at --output, which may be the label set itself
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// One JSON object a line, a class each, instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The label set, TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: PathBuf,
    /// One JSON object a line, a class each, instead of text
    #[arg(long)]
    pub(crate) json: bool,
}
