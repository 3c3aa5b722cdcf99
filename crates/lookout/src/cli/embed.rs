//! The command line of `embed`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{DeviceArgs, ModelArgs};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lookout embed --json picture.jpg
  lookout embed --text 'a cat on a sofa' --text 'a dog'")]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// A text; may be repeated
    #[arg(long, value_name = "TEXT", required_unless_present = "pictures", conflicts_with = "pictures", num_args = 1..)]
    pub(crate) text: Vec<String>,
    /// One JSON object a line instead of a summary
    #[arg(long)]
    pub(crate) json: bool,
    /// Pictures
    #[arg(value_name = "PICTURE")]
    pub(crate) pictures: Vec<PathBuf>,
}
