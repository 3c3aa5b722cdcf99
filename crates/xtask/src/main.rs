//! From a clean clone to a running demo, a passed gate or a measured encoder, with one command each.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "automation speaks to its user")]

mod bench;
mod fuzz;
mod gate;
mod needs;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use needs::Need;

/// Builds and runs Lookout from its sources.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build the program and run `lookout demo`
    #[command(after_help = "\
Examples:
  cargo xtask demo --yes                      install what is missing, build, run until Ctrl-C
  cargo xtask demo -- --frames 20 --port 18830
  cargo xtask demo -- --json")]
    Demo {
        #[command(flatten)]
        install: Install,
        /// Arguments for `lookout demo`
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Run the gate: format, lints, documentation, tests
    #[command(after_help = "\
Examples:
  cargo xtask test --yes                      what CI runs
  cargo xtask test                            name what is missing instead of installing it

For one test, plain cargo is quicker: cargo test --release --workspace NAME. Keep --workspace:
other selections have other features and build large dependencies again.")]
    Test {
        #[command(flatten)]
        install: Install,
    },
    /// Measure against other programs
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Fuzz what reads the files of others, and our own that may be damaged
    #[command(after_help = "\
Examples:
  cargo xtask fuzz --yes                      all targets, a minute each
  cargo xtask fuzz index --seconds 3600
  cargo xtask fuzz index --input target/fuzz/artifacts/index/crash-...

A panic, more than 2 GB of memory and more than 10 s are findings; their inputs are kept in
target/fuzz/artifacts. The next run goes on with what is in target/fuzz/corpus.")]
    Fuzz {
        #[command(flatten)]
        install: Install,
        #[command(flatten)]
        args: fuzz::FuzzArgs,
    },
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// The image encoder against onnxruntime, both in turns on one thread
    #[command(after_help = "\
Examples:
  cargo xtask bench encoder --yes                     all four models
  cargo xtask bench encoder --models starter,tiny16 --rounds 30

The first run installs onnxruntime from PyPI into target/bench and makes models there (some 3 GB,
ten minutes). Run it on a quiet machine: the load average is printed with the figures.")]
    Encoder {
        #[command(flatten)]
        install: Install,
        #[command(flatten)]
        args: bench::EncoderArgs,
    },
    /// What int8 costs the image encoder in accuracy: embeddings of labelled pictures against the
    /// float model's, by onnxruntime
    #[command(after_help = "\
Examples:
  cargo xtask bench accuracy --yes --float image-f32.onnx --pictures pictures.tsv
  cargo xtask bench accuracy --float float/vision_model.onnx --pictures p.tsv --bundle models/other

The table of pictures has the columns file, source and label; files lie in the folder `pictures`
beside it. Each source with labels is a set of its own, its classes are the labels in it.")]
    Accuracy {
        #[command(flatten)]
        install: Install,
        #[command(flatten)]
        args: bench::AccuracyArgs,
    },
    /// What one taught picture corrects in other views of its scene, and what it changes elsewhere
    #[command(after_help = "\
Examples:
  cargo xtask bench teach --yes --pictures pictures.tsv
  cargo xtask bench teach --pictures pictures.tsv --labels labels.toml --bundle models/other

The table of pictures has the columns file and labels: names of the label set that are right, with `|`
between them. Files lie in the folder `pictures` beside it. Each picture that is labelled wrongly is taught
by itself.")]
    Teach {
        #[command(flatten)]
        install: Install,
        #[command(flatten)]
        args: bench::TeachArgs,
    },
    /// Ways to fuse pictures with captions, by name, on sets of embeddings
    #[command(after_help = "\
Example:
  cargo xtask bench fusion --yes embeddings/*

A set is a folder as `lookout eval --embeddings` reads it. The formulas stand in
crates/xtask/bench/fusion.py.")]
    Fusion {
        #[command(flatten)]
        install: Install,
        #[command(flatten)]
        args: bench::FusionArgs,
    },
    /// Figures of every way to make labels, on sets of pictures and of embeddings
    #[command(after_help = "\
Examples:
  cargo xtask bench eval --yes 'COCO=--labels configs/labels/coco-80.toml coco.tsv'
  cargo xtask bench eval 'birds=birds.tsv' 'CIFAR=--embeddings cifar --unknown others'

What follows the name goes to `lookout eval`: a table of pictures, with --labels where its classes are
not its own labels, or --embeddings FOLDER. Where no --unknown is given, every second class is taken away
and the pictures that show only such ones are the unknown.")]
    Eval {
        #[command(flatten)]
        install: Install,
        #[command(flatten)]
        args: bench::EvalArgs,
    },
    /// How many pictures get a label that show none, and how many keep the right one that show one
    #[command(after_help = "\
Example:
  cargo xtask bench unknown --yes --pictures pictures.tsv

The table of pictures has the columns file and label; files lie beside it or in its folder `pictures`. Of its
labels 2, 4, 8 and 20 are drawn, again and again.")]
    Unknown {
        #[command(flatten)]
        install: Install,
        #[command(flatten)]
        args: bench::UnknownArgs,
    },
    /// A stream whose changes are known, and what a camera makes of it by different rules
    #[command(after_help = "\
Examples:
  cargo xtask bench stream --yes
  cargo xtask bench stream --scenes scenes.tsv --bundle models/other

An hour of pans and cuts over real pictures, day and night, with noise and an empty scene between. The
table of scenes has the columns file and truth: a label, or none; files lie beside it or in its folder
`pictures`.")]
    Stream {
        #[command(flatten)]
        install: Install,
        #[command(flatten)]
        args: bench::StreamArgs,
    },
    /// The caption index: size, building, opening, memory, recall and time, against an exhaustive search
    /// of floats and against usearch
    #[command(after_help = "\
Examples:
  cargo xtask bench index --yes                       20,000 and 100,000 entries
  cargo xtask bench index -- --embeddings DIR         like the embeddings in these folders
  cargo xtask bench index -- --entries 1000000 --contestants exhaustive
  cargo xtask bench index -- --help")]
    Index {
        #[command(flatten)]
        install: Install,
        /// Arguments of the benchmark
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Install {
    /// Install missing system packages with apt-get, through sudo unless root; also with CI=true
    #[arg(long)]
    yes: bool,
}

impl Install {
    fn agreed(&self) -> bool {
        self.yes || std::env::var_os("CI").is_some_and(|it| it == "true")
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Demo { install, args } => demo(install.agreed(), &args),
        Verb::Test { install } => {
            needs::provide(Need::FOR_TEST, install.agreed()).and_then(|()| gate::run(root()))
        }
        Verb::Fuzz { install, args } => {
            needs::provide(Need::FOR_FUZZ, install.agreed()).and_then(|()| fuzz::run(root(), &args))
        }
        Verb::Bench { what } => measure(&what),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(what: &Bench) -> anyhow::Result<()> {
    let for_bench = |install: &Install| needs::provide(Need::FOR_BENCH, install.agreed());
    match what {
        Bench::Accuracy { install, args } => {
            for_bench(install).and_then(|()| bench::accuracy(root(), args))
        }
        Bench::Encoder { install, args } => {
            for_bench(install).and_then(|()| bench::encoder(root(), args))
        }
        Bench::Eval { install, args } => {
            for_bench(install).and_then(|()| bench::eval(root(), args))
        }
        Bench::Fusion { install, args } => {
            for_bench(install).and_then(|()| bench::fusion(root(), args))
        }
        Bench::Stream { install, args } => {
            for_bench(install).and_then(|()| bench::stream(root(), args))
        }
        Bench::Teach { install, args } => {
            for_bench(install).and_then(|()| bench::teach(root(), args))
        }
        Bench::Unknown { install, args } => {
            for_bench(install).and_then(|()| bench::unknown(root(), args))
        }
        Bench::Index { install, args } => bench_index(install.agreed(), args),
    }
}

/// Becomes the demo, so that signals and the exit code are its own.
fn demo(agreed: bool, args: &[String]) -> anyhow::Result<()> {
    needs::provide(Need::FOR_BUILD, agreed)?;
    let manifest = root().join("Cargo.toml");
    let mut command = cargo();
    command.args(["run", "--release", "--locked", "--package", "lookout", "--manifest-path"]);
    command.arg(manifest).args(["--", "demo"]).args(args);
    Err(command.exec()).context("cargo cannot be started")
}

/// Becomes the index's benchmark. It stands apart from the workspace, so that usearch's C++ is built for
/// those who measure.
fn bench_index(agreed: bool, args: &[String]) -> anyhow::Result<()> {
    needs::provide(Need::FOR_INDEX_BENCH, agreed)?;
    let mut command = cargo();
    command.args(["run", "--release", "--locked", "--manifest-path"]);
    command.arg(root().join("crates/xtask/bench/index/Cargo.toml"));
    command.arg("--target-dir").arg(root().join("target/bench/index"));
    command.args(["--", "--root"]).arg(root()).args(args);
    Err(command.exec()).context("cargo cannot be started")
}

/// Cargo as it would run by itself: what it tells a program that it runs about that program's
/// package would make dependencies that look at it (ring) be built again.
fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(key);
        }
    }
    command
}

/// The root of the repository that this program was built in.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["xtask", "demo", "--yes", "--", "--frames", "3"]);
        let Verb::Demo { install, args } = cli.verb else { panic!("not the demo") };
        assert!(install.agreed());
        assert_eq!(args, ["--frames", "3"]);
        assert!(Cli::try_parse_from(["xtask", "demo", "--frames", "3"]).is_err());
    }

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("crates/xtask/Cargo.toml").is_file());
    }
}
