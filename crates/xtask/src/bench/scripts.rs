//! Benchmarks that are a Python script each, which runs the program and prints tables.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use clap::Args;

use super::{Places, run};

#[derive(Debug, Args)]
pub(crate) struct AccuracyArgs {
    /// The float image tower that the bundle was made of
    #[arg(long, value_name = "ONNX")]
    float: PathBuf,
    /// Table of labelled pictures
    #[arg(long, value_name = "TSV")]
    pictures: PathBuf,
    /// Folder of the bundle [default: the starter]
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TeachArgs {
    /// Table of labelled pictures
    #[arg(long, value_name = "TSV")]
    pictures: PathBuf,
    /// The label set [default: configs/labels/coco-80.toml]
    #[arg(long, value_name = "TOML")]
    labels: Option<PathBuf>,
    /// Folder of the bundle [default: the starter]
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FusionArgs {
    /// Folders of embeddings, as `lookout eval --embeddings` reads them
    #[arg(required = true, value_name = "SET")]
    sets: Vec<PathBuf>,
}

/// Compares ways to fuse pictures with captions.
pub(crate) fn fusion(root: &Path, args: &FusionArgs) -> anyhow::Result<()> {
    let places = Places::provide(root)?;
    let mut command = places.script("fusion.py");
    command.args(&args.sets);
    run("the comparison", &mut command)
}

#[derive(Debug, Args)]
pub(crate) struct StreamArgs {
    /// Table of scenes, with the columns file and truth [default: scenes of the starter's pictures]
    #[arg(long, value_name = "TSV")]
    scenes: Option<PathBuf>,
    /// Folder of the bundle [default: the starter]
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
}

/// Makes a stream whose changes are known, and replays it by different rules.
pub(crate) fn stream(root: &Path, args: &StreamArgs) -> anyhow::Result<()> {
    let places = Places::provide(root)?;
    let mut command = places.script("stream.py");
    command.arg(&places.lookout);
    command.arg(places.bundle(&args.bundle));
    let output = places.work.join("stream");
    if output.exists() {
        fs::remove_dir_all(&output).with_context(|| output.display().to_string())?;
    }
    command.arg(&output).args(&args.scenes);
    run("the stream", &mut command)?;
    println!("\nFrames and page: {}", output.display());
    Ok(())
}

/// Teaches pictures that are labelled wrongly, one by one, and classifies others.
pub(crate) fn teach(root: &Path, args: &TeachArgs) -> anyhow::Result<()> {
    let places = Places::provide(root)?;
    let labels = args.labels.clone().unwrap_or_else(|| root.join("configs/labels/coco-80.toml"));
    let mut command = places.script("teach.py");
    command.arg(&places.lookout);
    command.arg(places.bundle(&args.bundle)).arg(&args.pictures);
    run("teaching", command.arg(labels))
}

/// Compares the bundle's embeddings of labelled pictures with the float model's.
pub(crate) fn accuracy(root: &Path, args: &AccuracyArgs) -> anyhow::Result<()> {
    let places = Places::provide(root)?;
    let mut command = places.script("accuracy.py");
    command.arg(&places.lookout);
    command.arg(places.bundle(&args.bundle));
    run("the comparison", command.arg(&args.float).arg(&args.pictures))
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// A name, and arguments of `lookout eval`: a table of pictures or --embeddings FOLDER
    #[arg(required = true, value_name = "NAME=ARGS")]
    sets: Vec<String>,
}

/// Figures of every way to make labels, on sets of pictures and of embeddings.
pub(crate) fn eval(root: &Path, args: &EvalArgs) -> anyhow::Result<()> {
    let places = Places::provide(root)?;
    let mut command = places.script("eval.py");
    run("the evaluation", command.arg(&places.lookout).args(&args.sets))
}

#[derive(Debug, Args)]
pub(crate) struct UnknownArgs {
    /// Table of labelled pictures
    #[arg(long, value_name = "TSV")]
    pictures: PathBuf,
    /// Times that labels are drawn
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(2..=1000))]
    draws: u32,
    /// Folder of the bundle [default: the starter]
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
}

/// Draws few labels of many, and classifies pictures of all of them.
pub(crate) fn unknown(root: &Path, args: &UnknownArgs) -> anyhow::Result<()> {
    let places = Places::provide(root)?;
    let mut command = places.script("unknown.py");
    command.arg(&places.lookout).arg(places.bundle(&args.bundle)).arg(&args.pictures);
    run("the comparison", command.arg(args.draws.to_string()))
}

impl Places {
    /// A script, to which arguments are to be added.
    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.root.join("crates/xtask/bench").join(name));
        command
    }

    fn bundle(&self, named: &Option<PathBuf>) -> PathBuf {
        named.clone().unwrap_or_else(|| self.root.join("models/starter"))
    }
}
