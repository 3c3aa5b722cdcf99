//! The command line of `teach`.

use std::path::PathBuf;

use clap::Args;

use super::shared::SourceArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lookout teach --config lookout.toml --caption 'open garage' a.jpg b.jpg
  lookout teach --config lookout.toml --list
  lookout teach --config lookout.toml --undo      the last lesson; --undo 3: lesson 3
  lookout teach --index captions.lidx --export > lessons.jsonl

A picture near a taught one is of the same scene, and what was said holds for it too. Say it in
the words of your labels or negatives; with --config the answer tells what they make of it.
Where a scene has several states, teach each: an open door and a shut one look alike, and the
nearer decides. A running daemon takes it up with its next frame.

Lessons lie in one file, beside the caption index unless the configuration or --taught names
another.")]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct TeachArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// The file of lessons [default: beside the index, with `.taught` added to its name]
    #[arg(long, value_name = "FILE")]
    pub(crate) taught: Option<PathBuf>,
    /// What the pictures show, in the words of your labels
    #[arg(long, value_name = "TEXT", group = "what", requires = "pictures")]
    pub(crate) caption: Option<String>,
    /// List the lessons in force
    #[arg(long, group = "what")]
    pub(crate) list: bool,
    /// Undo the last lesson, or the one of this number
    #[arg(long, value_name = "NUMBER", group = "what", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "the flag, and its value")]
    pub(crate) undo: Option<Option<u32>>,
    /// Print the lessons in force with their embeddings, one JSON object a line
    #[arg(long, group = "what")]
    pub(crate) export: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Pictures of one scene, at most 25
    #[arg(value_name = "PICTURE", conflicts_with_all = ["list", "undo", "export"])]
    pub(crate) pictures: Vec<PathBuf>,
}
