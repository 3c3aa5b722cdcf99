//! The gate: every check that a change must pass, in the order of their cost.

#![expect(clippy::disallowed_methods, reason = "the time of each step is measured, not decided by")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

struct Step {
    name: &'static str,
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    /// What to do when it fails.
    advice: &'static str,
}

// All select the whole workspace, so that features are the same: lints and documentation share one
// pass over the dependencies, with the optional devices so that these keep compiling; the program
// and all tests share another, without them.
const STEPS: &[Step] = &[
    Step {
        name: "format",
        args: &["fmt", "--all", "--check"],
        env: &[],
        advice: "run `cargo fmt --all`",
    },
    Step {
        name: "lints",
        args: &[
            "clippy",
            "--release",
            "--locked",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ],
        env: &[],
        advice: "change what clippy names, or argue an exception with #[expect(.., reason = \"..\")]",
    },
    Step {
        name: "documentation",
        args: &[
            "doc",
            "--release",
            "--locked",
            "--workspace",
            "--all-features",
            "--no-deps",
            "--document-private-items",
        ],
        env: &[("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links")],
        advice: "repair the links and texts that rustdoc names",
    },
    Step {
        name: "examples in documentation",
        args: &["test", "--release", "--locked", "--workspace", "--doc", "--quiet"],
        env: &[],
        advice: "repair the examples that are named above",
    },
    Step {
        name: "tests, crate map among them",
        args: &["test", "--release", "--locked", "--workspace", "--all-targets", "--no-fail-fast"],
        env: &[],
        advice: "run the named one alone: cargo test --release --workspace NAME",
    },
];

/// Runs every step in `root` and stops at the first that fails. Ends with the test runner's own
/// summary lines, one a binary, and their sum.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let mut summaries = Vec::new();
    for step in STEPS {
        println!("\n== {}: cargo {}", step.name, step.args.join(" "));
        let step_started = Instant::now();
        summaries = run_step(root, step)?;
        let took = step_started.elapsed();
        println!("== {}: {:.1} s", step.name, took.as_secs_f64());
        times.push((step.name, took));
    }
    println!("\nAll steps passed in {:.0} s:", started.elapsed().as_secs_f64());
    for (name, took) in times {
        println!("{:>8.1} s  {name}", took.as_secs_f64());
    }
    println!();
    for line in &summaries {
        println!("{line}");
    }
    println!("\n{}", total(&summaries));
    Ok(())
}

/// Runs one step, prints what it prints and returns its `test result:` lines, which are printed
/// later.
fn run_step(root: &Path, step: &Step) -> anyhow::Result<Vec<String>> {
    let mut child = crate::cargo()
        .args(step.args)
        .envs(step.env.iter().copied())
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo cannot be started")?;
    let mut summaries = Vec::new();
    let stdout = child.stdout.take().context("no output of cargo")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line =
            String::from_utf8_lossy(&line.context("the output of cargo broke off")?).into_owned();
        if line.starts_with(SUMMARY) {
            summaries.push(line);
        } else {
            println!("{line}");
        }
    }
    let status = child.wait().context("cargo is lost")?;
    if !status.success() {
        for line in summaries {
            println!("{line}");
        }
        bail!("{} failed; {}", step.name, step.advice);
    }
    Ok(summaries)
}

const SUMMARY: &str = "test result: ";

/// The sum of the runner's summary lines.
fn total(summaries: &[String]) -> String {
    let count = |what: &str| -> u64 {
        let in_line = |line: &String| {
            let (before, _) = line.split_once(what)?;
            before.rsplit([' ', ';']).find(|it| !it.is_empty())?.parse::<u64>().ok()
        };
        summaries.iter().filter_map(in_line).sum()
    };
    format!(
        "Total of {} test binaries: {} passed; {} failed; {} ignored",
        summaries.len(),
        count(" passed;"),
        count(" failed;"),
        count(" ignored;")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_sums_the_runners_lines() {
        let line = |passed, ignored| {
            format!(
                "test result: ok. {passed} passed; 0 failed; {ignored} ignored; 0 measured; 0 filtered out; finished in 0.01s"
            )
        };
        assert_eq!(
            total(&[line(12, 0), line(0, 1), line(30, 0)]),
            "Total of 3 test binaries: 42 passed; 0 failed; 1 ignored"
        );
        assert_eq!(total(&[]), "Total of 0 test binaries: 0 passed; 0 failed; 0 ignored");
    }
}
