//! The command line of `suggest`.

use std::path::PathBuf;

use clap::Args;

use super::shared::SourceArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lookout suggest picture.jpg
  lookout suggest --count 20 frames/
  lookout suggest --config lookout.toml frames/*.jpg
  lookout suggest --json picture.jpg

Words are taken from the captions that the index finds near the pictures, so they are only as
good as those. The list after the table can be pasted into a configuration.

The score of a word, from 0 to 1, is a product of two numbers: how well the word fits the
picture and the mean of its captions, compared with all other words found (these add up to 1);
and the share of the picture's captions that have the word. It is the mean over the pictures,
and the sum over the forms of a word (bear, bears, brown bear). It puts words in order; it does
not tell how often a label would be right, which `lookout eval` measures. Words below 0.0005
are left out.

A bad picture is reported and the rest goes on; the exit code is then 1.")]
pub(crate) struct SuggestArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// How many words at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) count: u16,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Pictures, or folders of them
    #[arg(required = true, value_name = "PICTURE|DIR")]
    pub(crate) pictures: Vec<PathBuf>,
}
