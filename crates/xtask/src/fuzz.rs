//! Fuzzing, by a package apart from the workspace: `crates/xtask/fuzz`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use crate::cargo;

/// What cargo-fuzz sets, but for the sanitizers, which need a nightly compiler.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// Larger inputs are slower, and the formats have no more to say in them.
const LIMITS: &[&str] =
    &["-rss_limit_mb=2048", "-timeout=10", "-max_len=16384", "-print_final_stats=1"];
/// Lines of a log that are shown when there is a finding.
const SHOWN_LINES: usize = 30;

#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// What is fuzzed; all in turns unless one is named
    target: Option<Target>,
    /// How long each is fuzzed
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
    /// Run this input and no others
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// Index files, opened, searched and verified
    Index,
    /// Files of lessons, read and written on
    Taught,
    /// Tables of embeddings
    Npy,
    /// Captions beside embeddings
    Parquet,
    /// WebDataset shards
    Tar,
    /// COCO's captions
    Coco,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Taught => "taught",
            Self::Npy => "npy",
            Self::Parquet => "parquet",
            Self::Tar => "tar",
            Self::Coco => "coco",
        }
    }
}

/// Builds the targets, runs them in turns, and errs when one has a finding.
pub(crate) fn run(root: &Path, args: &FuzzArgs) -> anyhow::Result<()> {
    let programs = build(root)?;
    let work = root.join("target/fuzz");
    let targets = match args.target {
        Some(one) => vec![one],
        None => Target::value_variants().to_vec(),
    };
    let mut found = Vec::new();
    for target in targets {
        let target = target.name();
        // Files are written at every run: in memory where that can be had.
        let memory = Some(Path::new("/dev/shm")).filter(|it| it.is_dir());
        let temporary =
            memory.unwrap_or(&work).join(format!("lookout-fuzz-{}", std::process::id()));
        fs::create_dir_all(&temporary)?;
        let mut command = Command::new(programs.join(target));
        command.env("TMPDIR", &temporary);
        let outcome = match &args.input {
            Some(input) => command.arg(input).status().context("the target cannot be started"),
            None => fuzz(command, &work, target, args.seconds),
        };
        fs::remove_dir_all(&temporary)?;
        if !outcome?.success() {
            found.push(target);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let artifacts = work.join("artifacts");
    bail!("findings of {}; the inputs are in {}", found.join(", "), artifacts.display())
}

/// Builds the targets, and gives the folder that they are in.
fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let host = host()?;
    let folder = root.join("target/fuzz/build");
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--manifest-path"]);
    command.arg(root.join("crates/xtask/fuzz/Cargo.toml"));
    // With a target named, what runs while building is not instrumented.
    command.args(["--target", &host, "--target-dir"]).arg(&folder);
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    if !command.status().context("cargo cannot be started")?.success() {
        bail!("the targets cannot be built");
    }
    Ok(folder.join(host).join("release"))
}

/// This machine, as rustc names it.
fn host() -> anyhow::Result<String> {
    let version = Command::new("rustc").arg("-vV").output().context("rustc cannot be started")?;
    let text = String::from_utf8(version.stdout).context("rustc prints no text")?;
    let host = text.lines().find_map(|it| it.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not name its host")
}

fn fuzz(
    mut command: Command,
    work: &Path,
    target: &str,
    seconds: u32,
) -> anyhow::Result<std::process::ExitStatus> {
    let [corpus, artifacts] = ["corpus", "artifacts"].map(|it| work.join(it).join(target));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let log = work.join(format!("{target}.log"));
    println!("{target}: {seconds} s, log in {}", log.display());
    let mut prefix = std::ffi::OsString::from("-artifact_prefix=");
    prefix.push(artifacts.join(""));
    command.arg(corpus).arg(prefix).args(LIMITS).arg(format!("-max_total_time={seconds}"));
    command.stdout(Stdio::null()).stderr(File::create(&log)?);
    let status = command.status().context("the target cannot be started")?;
    let text = fs::read(&log)?;
    let text = String::from_utf8_lossy(&text);
    if status.success() {
        println!("{target}: {}", Figures::read(&text));
    } else {
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        println!("{}\n{target}: {status}", shown.join("\n"));
    }
    Ok(status)
}

/// What libFuzzer says at the end of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    runs: u64,
    per_second: u64,
    slowest_s: u64,
    peak_mb: u64,
    /// Places of the code that were reached.
    coverage: u64,
    /// Inputs that are kept.
    corpus: u64,
}

impl Figures {
    fn read(log: &str) -> Self {
        let mut figures = Self::default();
        let number = |text: &str| -> Option<u64> {
            text.split(|it: char| !it.is_ascii_digit()).find(|it| !it.is_empty())?.parse().ok()
        };
        for line in log.lines() {
            let after = |key: &str| line.split_once(key).and_then(|it| number(it.1));
            let keys = [
                ("stat::number_of_executed_units:", &mut figures.runs),
                ("stat::average_exec_per_sec:", &mut figures.per_second),
                ("stat::slowest_unit_time_sec:", &mut figures.slowest_s),
                ("stat::peak_rss_mb:", &mut figures.peak_mb),
                (" cov: ", &mut figures.coverage),
                (" corp: ", &mut figures.corpus),
            ];
            for (key, place) in keys {
                *place = after(key).unwrap_or(*place);
            }
        }
        figures
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { runs, per_second, slowest_s, peak_mb, coverage, corpus } = self;
        write!(f, "{runs} inputs, {per_second} a second, none longer than {} s, ", slowest_s + 1)?;
        write!(f, "{peak_mb} MB at most; {coverage} places reached by {corpus} inputs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_a_program_of_the_package() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/src/bin");
        let files = fs::read_dir(folder).unwrap();
        let mut files: Vec<_> =
            files.map(|it| it.unwrap().path().file_stem().unwrap().to_owned()).collect();
        files.sort();
        let mut names: Vec<_> = Target::value_variants().iter().map(|it| it.name()).collect();
        names.sort_unstable();
        assert_eq!(files, names);
    }

    #[test]
    fn the_figures_of_a_run_are_read() {
        let log = "\
#2\tINITED cov: 5 ft: 5 corp: 1/1b exec/s: 0 rss: 27Mb
#19863460\tDONE   cov: 812 ft: 8 corp: 37/6b lim: 4096 exec/s: 1805769 rss: 27Mb
Done 19863460 runs in 11 second(s)
stat::number_of_executed_units: 19863460
stat::average_exec_per_sec:     1805769
stat::new_units_added:          209
stat::slowest_unit_time_sec:    2
stat::peak_rss_mb:              30
";
        let expected = Figures {
            runs: 19_863_460,
            per_second: 1_805_769,
            slowest_s: 2,
            peak_mb: 30,
            coverage: 812,
            corpus: 37,
        };
        assert_eq!(Figures::read(log), expected);
    }
}
