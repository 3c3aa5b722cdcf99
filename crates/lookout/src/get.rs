//! `lookout models get`: the files of a hub's repository that `models import` reads.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use lookout_core::{Clock, Stop, Stopper, stop_pair};
use lookout_encoder::{ImportFiles, WantedFile, external_data};
use lookout_hub::{
    Endpoint, File, Folder, Hub, HubError, Repo, RepoId, Revision, Timeouts, Token, Watch,
};
use serde::Serialize;

use crate::cli::GetArgs;
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::{index, output};

/// Names a hub in place of the public one; other programs for the same hubs know it too.
const ENDPOINT_VARIABLE: &str = "HF_ENDPOINT";
/// The longest file with a token, in bytes.
const MAX_TOKEN_BYTES: u64 = 8192;

pub(crate) fn run(args: &GetArgs) -> Result<(), Failure> {
    Ok(get(args)?)
}

fn get(args: &GetArgs) -> anyhow::Result<()> {
    let id: RepoId = args.repo.parse()?;
    let revision: Revision = args.revision.parse()?;
    let endpoint = endpoint(args.endpoint.as_deref())?;
    let token = args.token_file.as_deref().map(token).transpose()?;
    let dir = args.output.clone().unwrap_or_else(|| PathBuf::from(id.name()));

    let hub = Hub::new(endpoint.clone(), token, Timeouts::default())?;
    let repo = hub.open(&id, &revision)?;
    let listing: Vec<&str> = repo.files.iter().map(|it| it.path.as_str()).collect();
    let wanted = ImportFiles::of(&listing);
    if !wanted.missing.is_empty() {
        bail!(
            "{} at {}: an import needs {}, and the repository has no such file; choose one with \
             float ONNX exports, or export the model yourself",
            id.as_str(),
            repo.commit,
            wanted.missing.join("; and "),
        );
    }

    let folder = Folder::open(&dir, args.force)?;
    let mut run = Run { hub: &hub, repo: &repo, folder: &folder, args, report: Report::default() };
    // A graph says which files its tensors are in, so graphs go before these.
    for file in &wanted.whole {
        run.fetch(file)?;
    }
    for tower in &wanted.towers {
        run.fetch_external_data(&dir, tower)?;
    }
    run.fetch_tensors(&wanted.weights)?;
    let Run { report, .. } = run;
    folder.finish()?;
    tell(args, &endpoint, &repo, &dir, &wanted, &report)
}

/// The flag, else the environment, else the public hub.
fn endpoint(flag: Option<&str>) -> anyhow::Result<Endpoint> {
    if let Some(flag) = flag {
        return flag.parse().context("--endpoint");
    }
    #[expect(clippy::disallowed_methods, reason = "a name that users of hubs have set already")]
    match std::env::var(ENDPOINT_VARIABLE) {
        Ok(text) if !text.is_empty() => text.parse().context(ENDPOINT_VARIABLE),
        Ok(_) | Err(std::env::VarError::NotPresent) => Ok(Endpoint::PUBLIC.parse()?),
        Err(error) => Err(error).context(ENDPOINT_VARIABLE),
    }
}

fn token(path: &Path) -> anyhow::Result<Token> {
    let read = || {
        // Opening a pipe would wait for a writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(std::io::Error::other("it must be a regular file"));
        }
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_TOKEN_BYTES).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let text = read().with_context(|| format!("cannot read the token of {}", path.display()))?;
    text.parse().with_context(|| path.display().to_string())
}

/// What came, and what is known of the scale.
#[derive(Default)]
struct Report {
    n_files: usize,
    kept: u64,
    received: u64,
    /// Of the wanted tensors, those found.
    tensors: Vec<String>,
}

struct Run<'a> {
    hub: &'a Hub,
    repo: &'a Repo,
    folder: &'a Folder,
    args: &'a GetArgs,
    report: Report,
}

impl Run<'_> {
    fn fetch(&mut self, wanted: &WantedFile) -> anyhow::Result<()> {
        let file = self.repo.file(&wanted.path).with_context(|| {
            format!("{}: the repository has no such file; it is not whole", wanted.path)
        })?;
        let mut bar = Bar::of(file, self.args.quiet);
        let fetched = self.hub.fetch(self.repo, file, wanted.max_bytes, self.folder, &mut bar)?;
        bar.finish();
        self.report.n_files += 1;
        self.report.kept += fetched.kept;
        self.report.received += fetched.received;
        Ok(())
    }

    fn fetch_external_data(&mut self, dir: &Path, tower: &str) -> anyhow::Result<()> {
        let folder = tower.rsplit_once('/').map_or(String::new(), |it| format!("{}/", it.0));
        for WantedFile { path, max_bytes } in external_data(&dir.join(tower))? {
            self.fetch(&WantedFile { path: format!("{folder}{path}"), max_bytes })
                .with_context(|| format!("{tower} has tensors in {path:?}"))?;
        }
        Ok(())
    }

    /// Two numbers of a large file. Without them a user can still give them, so a hub that sends
    /// no parts of files is no failure.
    fn fetch_tensors(&mut self, weights: &[String]) -> anyhow::Result<()> {
        for path in weights {
            let Some(file) = self.repo.file(path) else { continue };
            let fetched =
                self.hub.fetch_tensors(self.repo, file, &ImportFiles::TENSORS, self.folder);
            match fetched {
                Ok(tensors) => {
                    self.report.received += tensors.received;
                    self.report.tensors.extend(tensors.names);
                }
                Err(
                    error @ (HubError::Answer { .. }
                    | HubError::Status { .. }
                    | HubError::Connect { .. }
                    | HubError::Short { .. }),
                ) => {
                    let error = anyhow::Error::from(error);
                    output::complain(&format!("{path}: the scale was not read: {error:#}"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// A bar for a file; silent where standard error is no terminal.
struct Bar {
    bar: ProgressBar,
    clock: SystemClock,
    /// Its drop would end the waits.
    _stopper: Stopper,
    stop: Stop,
}

impl Bar {
    fn of(file: &File, quiet: bool) -> Self {
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        // The template is a constant, so the default is never used.
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(file.bytes) };
        let bar = bar.with_style(style).with_message(output::one_line(&file.path));
        let (stopper, stop) = stop_pair();
        Self { bar, clock: SystemClock::start(), _stopper: stopper, stop }
    }

    fn finish(self) {
        self.bar.finish();
    }
}

impl Watch for Bar {
    fn progress(&mut self, bytes: u64) {
        // What was there already does not count for the rate.
        if self.bar.position() == 0 || bytes < self.bar.position() {
            self.bar.set_position(bytes);
            self.bar.reset_eta();
        } else {
            self.bar.set_position(bytes);
        }
    }

    fn retry(&mut self, attempt: u32, error: &HubError) {
        let pause = Duration::from_secs(1 << attempt.min(5).saturating_sub(1));
        tracing::warn!(%error, seconds = pause.as_secs(), "Going on after a pause.");
        self.clock.wait(&self.stop, pause);
    }
}

#[derive(Serialize)]
struct Line<'a> {
    folder: &'a str,
    repository: &'a str,
    commit: &'a str,
    files: usize,
    bytes_kept: u64,
    bytes_received: u64,
    tensors: &'a [String],
    passed_over: &'a [String],
    next: &'a [String],
}

fn tell(
    args: &GetArgs,
    endpoint: &Endpoint,
    repo: &Repo,
    dir: &Path,
    wanted: &ImportFiles,
    report: &Report,
) -> anyhow::Result<()> {
    let Report { n_files, kept, received, tensors } = report;
    let next = next(endpoint, repo, dir, tensors);
    if args.json {
        return output::json_line(&Line {
            folder: &dir.to_string_lossy(),
            repository: repo.id.as_str(),
            commit: &repo.commit,
            files: *n_files,
            bytes_kept: *kept,
            bytes_received: *received,
            tensors,
            passed_over: &wanted.passed_over,
            next: &next,
        });
    }
    if args.quiet {
        return Ok(());
    }
    for path in &wanted.passed_over {
        output::complain(&format!("{path} stays at the hub: another file has its role"));
    }
    output::line(format!(
        "{}: {n_files} files of {} at {}, hashes as listed; {} received, {} were there",
        dir.display(),
        repo.id.as_str(),
        repo.commit,
        index::size(*received),
        index::size(*kept),
    ))?;
    if !tensors.is_empty() {
        output::line(format!(
            "{} read from a part of the weights, for which the hub has no hash",
            tensors.join(" and ")
        ))?;
    }
    if !tensors.iter().any(|it| it == "logit_scale") {
        output::line(
            "no logit scale there: give the trained one with --logit-scale, unless model.onnx ends \
             with the logits of both towers",
        )?;
    }
    let next: Vec<String> = next.iter().map(|it| quoted(it)).collect();
    output::line(format!("next: {}", next.join(" ")))
}

/// The command that makes a bundle of the folder.
fn next(endpoint: &Endpoint, repo: &Repo, dir: &Path, tensors: &[String]) -> Vec<String> {
    let origin = format!("{endpoint}/{}/tree/{}", repo.id.as_str(), repo.commit);
    let mut bundle = dir.as_os_str().to_owned();
    bundle.push("-int8");
    let mut words: Vec<String> = ["lookout", "models", "import"].map(str::to_owned).to_vec();
    words.push(dir.to_string_lossy().into_owned());
    words.extend(["--output".to_owned(), bundle.to_string_lossy().into_owned()]);
    words.extend(["--origin".to_owned(), origin]);
    if !tensors.iter().any(|it| it == "logit_scale") {
        words.extend(["--logit-scale", "SCALE"].map(str::to_owned));
    }
    words
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "/._-:=@%+,".contains(it);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_command_can_be_pasted() {
        assert_eq!(quoted("models/b32"), "models/b32");
        assert_eq!(quoted("my models"), "'my models'");
        assert_eq!(quoted("it's; rm -rf $HOME"), "'it'\\''s; rm -rf $HOME'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_token_comes_from_one_line_and_is_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "hf_secret\n").unwrap();
        assert!(!format!("{:?}", token(&path).unwrap()).contains("secret"));
        for bad in ["", "hf_secret hf_other", "\n\n"] {
            std::fs::write(&path, bad).unwrap();
            let message = format!("{:#}", token(&path).unwrap_err());
            assert!(message.contains("the token must be one line"), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
        let message = format!("{:#}", token(&dir.path().join("gone")).unwrap_err());
        assert!(message.contains("cannot read the token of"), "{message}");
    }
}
