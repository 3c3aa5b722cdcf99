//! `cargo xtask bench encoder`: our int8 path against onnxruntime, in turns, on one thread.
//!
//! Every contestant is a process of its own that has loaded its model and waits. They take turns
//! at a few pictures each, round after round, so that what else the machine does meets all alike.
//! What is compared is CPU time.

mod contest;
mod machine;
mod scripts;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use contest::{Contestant, compete};
use machine::{Machine, Setting};

pub(crate) use scripts::{
    AccuracyArgs, EvalArgs, FusionArgs, StreamArgs, TeachArgs, UnknownArgs, accuracy, eval, fusion,
    stream, teach, unknown,
};

#[derive(Debug, Args)]
pub(crate) struct EncoderArgs {
    /// Models to measure [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    models: Vec<Model>,
    /// Turns of each contestant
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Pictures of a turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pictures: u32,
}

/// What is measured. All but the starter have random weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Model {
    /// A ViT of TinyCLIP's size: 10 blocks of 256 channels, 197 tokens
    Tiny16,
    /// ViT-B/32: 12 blocks of 768 channels, 50 tokens
    B32,
    /// ViT-B/16: 12 blocks of 768 channels, 197 tokens
    B16,
    /// The starter bundle's convolutional network
    Starter,
}

impl Model {
    fn name(self) -> &'static str {
        match self {
            Self::Tiny16 => "tiny16",
            Self::B32 => "b32",
            Self::B16 => "b16",
            Self::Starter => "starter",
        }
    }
}

/// A form of a model for onnxruntime, as `models.py` describes it.
#[derive(Debug, Deserialize)]
struct Variant {
    name: String,
    file: String,
    /// Which operators its time goes to.
    operators: String,
}

/// Where things are.
struct Places {
    root: PathBuf,
    /// Everything that is made for the benchmark.
    work: PathBuf,
    lookout: PathBuf,
    python: PathBuf,
    /// The library that hides instruction sets, where it could be made.
    hide: PathBuf,
}

/// Prepares what is missing, measures, prints the tables.
pub(crate) fn encoder(root: &Path, args: &EncoderArgs) -> anyhow::Result<()> {
    let places = Places::provide(root)?;
    let models = if args.models.is_empty() { Model::value_variants() } else { &args.models };
    for model in models {
        places.provide_model(*model)?;
    }
    let machine = Machine::here()?;
    let settings = machine.settings();
    if settings.iter().any(|it| it.hides().is_some()) {
        places.provide_hide()?;
    }
    println!(
        "{}\n{} rounds of {} pictures.\n{}",
        machine.describe()?,
        args.rounds,
        args.pictures,
        table::LEGEND
    );
    let mut summary = Vec::new();
    for model in models {
        for setting in settings {
            let heading = format!("{}, {}", model.name(), setting.describe());
            println!("\n## {heading}\n");
            let result = measure(&places, &machine, *model, *setting, args)
                .and_then(|contestants| table::render(&contestants));
            let outcome = match result {
                Ok((table, outcome)) => {
                    let verdict = match outcome.is_met() {
                        _ if setting == &Setting::WithAmx => "for comparison, without a goal",
                        true => "goal met",
                        false => "goal missed",
                    };
                    let outcome = format!("{}: {verdict}", outcome.describe());
                    println!("{table}\nOurs / onnxruntime's best: {outcome}.");
                    outcome
                }
                Err(error) => {
                    println!("Not measured: {error:#}.");
                    "not measured".to_owned()
                }
            };
            summary.push(format!("- {heading}: {outcome}"));
        }
    }
    println!("\n## Ours / onnxruntime's best\n\n{}", summary.join("\n"));
    for line in machine.missing_rows() {
        println!("\n{line}");
    }
    println!("\nLoad average at the end: {}.", machine::load_average()?);
    Ok(())
}

fn measure(
    places: &Places,
    machine: &Machine,
    model: Model,
    setting: Setting,
    args: &EncoderArgs,
) -> anyhow::Result<Vec<Contestant>> {
    if let Some(what) = setting.hides() {
        places.check_hide(what)?;
    }
    let folder = places.model(model);
    let command = |program: &Path| {
        let mut command = Command::new(program);
        // One thread on both sides, whatever the environment says.
        command.env("OMP_NUM_THREADS", "1").env("RAYON_NUM_THREADS", "1");
        if let Some(what) = setting.hides() {
            command.env("LD_PRELOAD", &places.hide).env("BENCH_HIDE", what);
        }
        command
    };
    let mut ours = command(&places.lookout);
    ours.args(["models", "bench", "--paced"]);
    if setting == Setting::Avx2Only {
        ours.args(["--kernels", "avx2"]);
    }
    ours.arg(match model {
        Model::Starter => places.root.join("models/starter"),
        _ => folder.join("bundle"),
    });
    let mut contestants = vec![Contestant::start("ours", None, ours)?];
    let variants = fs::read(folder.join("variants.json")).context("variants.json")?;
    let variants: Vec<Variant> = serde_json::from_slice(&variants).context("variants.json")?;
    for Variant { name, file, operators } in variants {
        let mut theirs = command(&places.python);
        theirs
            .arg(places.root.join("crates/xtask/bench/worker.py"))
            .arg(folder.join(file))
            .arg(folder.join("inputs.npy"))
            .arg(folder.join("embeddings.npy"));
        let kernels = format!("{operators}; MLAS {}", machine.mlas(setting, &name));
        contestants.push(Contestant::start(&name, Some(kernels), theirs)?);
    }
    compete(&mut contestants, args.rounds, args.pictures)?;
    for it in &contestants {
        match (setting, it.report()?.holds_amx) {
            (Setting::WithoutAmx | Setting::Avx2Only, true) => {
                bail!("{} was given AMX though it should be refused", it.name())
            }
            (Setting::WithAmx, false) if !it.is_ours() => {
                bail!("{} was not given AMX though the processor has it", it.name())
            }
            _ => (),
        }
    }
    Ok(contestants)
}

impl Places {
    /// Builds the program and sets up Python.
    fn provide(root: &Path) -> anyhow::Result<Self> {
        let exe = std::env::current_exe().context("this program's place is unknown")?;
        let release = exe.parent().context("this program lies in no folder")?;
        let target = release.parent().context("this program lies in no target folder")?;
        let work = target.join("bench");
        fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
        let mut build = crate::cargo();
        // As the gate selects, so that nothing is built twice.
        build.args(["build", "--release", "--locked", "--workspace", "--bin", "lookout"]);
        build.current_dir(root).env("CARGO_TARGET_DIR", target);
        run("the build of lookout", &mut build)?;
        let venv = work.join("venv");
        let python = venv.join("bin/python");
        let requirements = root.join("crates/xtask/bench/requirements.txt");
        let wanted = read(&requirements)?;
        let stamp = venv.join("requirements");
        if !is_stamped(&stamp, &wanted) {
            eprintln!("Setting up onnxruntime in {}", venv.display());
            run("python3 -m venv", Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
            run("pip install", pip.arg("--requirement").arg(&requirements))?;
            fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())?;
        }
        let hide = work.join("hide.so");
        Ok(Self { root: root.to_owned(), lookout: release.join("lookout"), python, hide, work })
    }

    fn model(&self, model: Model) -> PathBuf {
        self.work.join("models").join(model.name())
    }

    /// Makes the model's files, unless they were made by the same script of the same starter.
    fn provide_model(&self, model: Model) -> anyhow::Result<()> {
        let script = self.root.join("crates/xtask/bench/models.py");
        let starter = self.root.join("models/starter");
        let wanted = [
            read(&script)?,
            read(&self.root.join("crates/xtask/bench/requirements.txt"))?,
            read(&starter.join("model.toml"))?,
        ]
        .concat();
        let folder = self.model(model);
        let stamp = folder.join("made_by");
        if is_stamped(&stamp, &wanted) {
            return Ok(());
        }
        eprintln!("Making {} and its int8 forms (minutes)", model.name());
        let mut make = Command::new(&self.python);
        make.arg(script).arg(model.name()).arg(&folder).arg(starter);
        run("models.py", &mut make)?;
        fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())
    }

    fn provide_hide(&self) -> anyhow::Result<()> {
        let source = self.root.join("crates/xtask/bench/hide.c");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&self.hide).arg(source);
        run("cc", &mut cc)
    }

    /// Whether a program can be kept from it here; the library's own words if not.
    fn check_hide(&self, what: &str) -> anyhow::Result<()> {
        let mut idle = Command::new("true");
        let output = idle.env("LD_PRELOAD", &self.hide).env("BENCH_HIDE", what).output();
        let output = output.context("true cannot be started")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Whether the file has this content. One that is missing or cannot be read is made anew.
fn is_stamped(stamp: &Path, wanted: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|it| it == wanted)
}

fn run(what: &str, command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{what} cannot be started"))?;
    if !status.success() {
        bail!("{what} failed ({status})");
    }
    Ok(())
}
