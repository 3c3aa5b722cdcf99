//! Processes that take turns.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A process that has loaded a model, and what it has shown.
pub(crate) struct Contestant {
    name: String,
    /// What runs in it, where the process cannot say it whole.
    kernels: Option<String>,
    child: Child,
    /// Gone when it was told that this was all.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// CPU time of each picture of each turn, in milliseconds.
    turns_ms: Vec<Vec<f64>>,
    report: Option<Report>,
}

/// An answer to a number of pictures.
#[derive(Deserialize)]
struct Round {
    cpu_ms: Vec<f64>,
}

/// What a contestant says at the end.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) run_by: String,
    /// CPU time of loading the model, and how long it took.
    pub(crate) load_ms: f64,
    pub(crate) load_wall_ms: f64,
    /// Least cosine to the float file's embeddings.
    pub(crate) cosine_min: f64,
    /// Most memory that the process had; with the part that was there before the model.
    pub(crate) peak_mib: Option<u64>,
    pub(crate) empty_mib: Option<u64>,
    /// Whether the kernel gave it AMX's tiles.
    #[serde(default)]
    pub(crate) holds_amx: bool,
}

impl Contestant {
    /// Starts `command` and waits until its model is loaded.
    pub(crate) fn start(
        name: &str,
        kernels: Option<String>,
        mut command: Command,
    ) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no output")?;
        let mut contestant = Self {
            name: name.to_owned(),
            kernels,
            child,
            stdin,
            stdout: BufReader::new(stdout),
            turns_ms: Vec::new(),
            report: None,
        };
        let Round { cpu_ms } = contestant.answer()?;
        if !cpu_ms.is_empty() {
            bail!("{name} began with pictures that nobody asked for");
        }
        Ok(contestant)
    }

    fn turn(&mut self, n_pictures: u32) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("its turns are over")?;
        writeln!(stdin, "{n_pictures}").with_context(|| format!("{} has ended", self.name))?;
        let Round { cpu_ms } = self.answer()?;
        if cpu_ms.len() != n_pictures as usize {
            bail!("{} was asked for {n_pictures} pictures and ran {}", self.name, cpu_ms.len());
        }
        self.turns_ms.push(cpu_ms);
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.stdin = None;
        self.report = Some(self.answer()?);
        let status = self.child.wait().with_context(|| format!("{} is lost", self.name))?;
        if !status.success() {
            bail!("{} failed ({status})", self.name);
        }
        Ok(())
    }

    fn answer<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).with_context(|| format!("{}: no answer", self.name))?;
        if line.is_empty() {
            let status = self.child.wait().with_context(|| format!("{} is lost", self.name))?;
            bail!("{} ended without an answer ({status}); its message stands above", self.name);
        }
        let name = &self.name;
        serde_json::from_str(&line).with_context(|| format!("{name} answered {line:?}"))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.kernels.is_none()
    }

    /// What ran: library, operators, instruction set.
    pub(crate) fn run_by(&self) -> anyhow::Result<String> {
        let Report { run_by, holds_amx, .. } = self.report()?;
        let amx = if *holds_amx { ", AMX granted" } else { "" };
        Ok(match &self.kernels {
            None => run_by.clone(),
            Some(kernels) => format!("{run_by}: {kernels}{amx}"),
        })
    }

    pub(crate) fn report(&self) -> anyhow::Result<&Report> {
        self.report.as_ref().with_context(|| format!("{} has not finished", self.name))
    }

    /// CPU time of the fastest picture, in milliseconds.
    pub(crate) fn best_ms(&self) -> Option<f64> {
        self.turns_ms.iter().flatten().copied().reduce(f64::min)
    }

    /// CPU time of the picture in the middle, in milliseconds.
    pub(crate) fn median_ms(&self) -> Option<f64> {
        quantile(self.turns_ms.iter().flatten().copied(), 0.5)
    }

    /// This one's time over that of `other` in each round, of the picture in the middle of a turn.
    pub(crate) fn paired_ratios(&self, other: &Self) -> Vec<f64> {
        let median = |turn: &Vec<f64>| quantile(turn.iter().copied(), 0.5);
        let pairs = self.turns_ms.iter().zip(&other.turns_ms);
        pairs.filter_map(|(ours, theirs)| Some(median(ours)? / median(theirs)?)).collect()
    }
}

/// The value that `part` of the others, from 0 to 1, lie below; between two, by their distance.
pub(crate) fn quantile(values: impl Iterator<Item = f64>, part: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let place = part * sorted.len().checked_sub(1)? as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in it")]
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    let (low, high) = (*sorted.get(low)?, *sorted.get(high)?);
    Some(low + (high - low) * place.fract())
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // After a fault of another one; a process that has ended cannot be killed, and need not.
        self.stdin = None;
        if self.report.is_none() && self.child.kill().is_ok() {
            #[expect(clippy::let_underscore_must_use, reason = "it was killed: nothing to learn")]
            let _ = self.child.wait();
        }
    }
}

/// Lets each run `n_pictures`, `n_rounds` times; who begins moves on by one each round.
pub(crate) fn compete(
    contestants: &mut [Contestant],
    n_rounds: u32,
    n_pictures: u32,
) -> anyhow::Result<()> {
    for round in 0..n_rounds as usize {
        for i in 0..contestants.len() {
            let turn = (round + i) % contestants.len();
            contestants[turn].turn(n_pictures)?;
        }
    }
    contestants.iter_mut().try_for_each(Contestant::finish)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A contestant whose answers are the lines of a shell script.
    pub(crate) fn scripted(name: &str, kernels: Option<&str>, script: &str) -> Contestant {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Contestant::start(name, kernels.map(str::to_owned), command).expect("it should start")
    }

    const READY: &str = r#"echo '{"cpu_ms":[]}'"#;

    pub(crate) fn answering(cpu_ms: &str, report: &str) -> String {
        format!(r#"{READY}; while read n; do echo '{{"cpu_ms":{cpu_ms}}}'; done; echo '{report}'"#)
    }

    pub(crate) const REPORT: &str = r#"{"run_by":"x","load_ms":1.0,"load_wall_ms":2.0,"cosine_min":0.9,"peak_mib":20,"empty_mib":null}"#;

    #[test]
    fn turns_are_taken_and_compared_by_round() {
        let mut both = [
            scripted("a", None, &answering("[3.0,1.0]", REPORT)),
            scripted("b", Some("k"), &answering("[2.0,5.0]", REPORT)),
        ];
        compete(&mut both, 2, 2).expect("both should finish");
        assert_eq!((both[0].best_ms(), both[0].median_ms()), (Some(1.0), Some(2.0)));
        assert_eq!((both[1].best_ms(), both[1].median_ms()), (Some(2.0), Some(3.5)));
        assert_eq!(both[1].paired_ratios(&both[0]), [1.75, 1.75]);
        assert_eq!(both[1].run_by().expect("finished"), "x: k");
    }

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        let of = |values: &[f64], part| quantile(values.iter().copied(), part);
        assert_eq!(of(&[3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(of(&[4.0, 1.0], 0.5), Some(2.5));
        assert_eq!(of(&[0.0, 1.0, 2.0, 3.0, 4.0], 0.75), Some(3.0));
        assert_eq!(of(&[5.0], 0.25), Some(5.0));
        assert_eq!(of(&[], 0.5), None);
    }

    #[test]
    fn a_contestant_that_breaks_the_rules_is_named() {
        let error = |script: &str| {
            let mut one = [scripted("cheat", None, script)];
            format!("{:#}", compete(&mut one, 1, 2).expect_err("a fault"))
        };
        assert_eq!(error(&answering("[1.0]", REPORT)), "cheat was asked for 2 pictures and ran 1");
        assert!(error(&format!("{READY}; read n; exit 3")).contains("cheat ended without"));
        assert!(error(&answering("[1.0,1.0]", "nonsense")).contains("cheat answered"));
    }
}
