//! The caption index measured: size, build, opening, memory, recall and time, against an exhaustive
//! search of floats and against usearch.
//!
//! Building and searching are processes of their own, so that their memory is theirs alone.

mod bank;
mod contest;
mod peer;
mod source;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask bench index")]
pub(crate) struct Cli {
    #[command(flatten)]
    what: contest::Args,
    #[command(subcommand)]
    step: Option<Step>,
}

/// What the measured processes do.
#[derive(Subcommand)]
enum Step {
    #[command(hide = true)]
    Build { bank: String, output: PathBuf, contestant: String },
    #[command(hide = true)]
    Search { index: PathBuf, queries: PathBuf, contestant: String, candidates: usize },
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.step {
        None => contest::run(&cli.what),
        Some(Step::Build { bank, output, contestant }) => {
            contest::build(&cli.what, &bank, &output, &contestant)
        }
        Some(Step::Search { index, queries, contestant, candidates }) => {
            contest::search(&index, &queries, &contestant, candidates)
        }
    }
}
