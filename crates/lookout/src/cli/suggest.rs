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

Words are taken from the captions that the index has for the pictures, so they are only as good
as those. The list after the table can be pasted into a configuration. A bad picture is
reported and the rest goes on; the exit code is then 1.")]
pub(crate) struct SuggestArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// How many words
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) count: u16,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Pictures, or folders of them
    #[arg(required = true, value_name = "PICTURE|DIR")]
    pub(crate) pictures: Vec<PathBuf>,
}
