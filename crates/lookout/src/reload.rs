//! Other labels and rules of decision while the cameras run: SIGHUP makes the daemon read its
//! configuration again.
//!
//! All of it happens in a thread of its own: reading, checking, and compiling labels, for which
//! the text tower is loaded once more. Frames go on being decided by the old labels until the new
//! ones are complete; then the infer stage takes them, between two frames, for all cameras at
//! once. Whatever fails before that changes nothing.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use crossbeam_channel::{Sender, bounded, select};
use lookout_config::Config;
use lookout_core::{
    Background, BankWords, ClassEmbeddings, ClassSet, Clock, Decider, DecisionRules, Id, Stop,
};
use lookout_encoder::{Bundle, Runtime};
use lookout_pipeline::{Event, LabelSender, Labels, NewLabels};
use lookout_publish::Publisher;

use crate::cli::ConfigArgs;
use crate::engine::Recipe;
use crate::failure::Failure;
use crate::packs::Packs;
use crate::plan::{self, Plan};
use crate::service::{Hangup, Hangups, Manager};
use crate::{bank, engine, memory};

/// The classes of each camera and what it decides by.
pub(crate) type CameraLabels = BTreeMap<Id, InUse>;

/// The classes of a camera, the rules that it decides by, and what calibration says of its scene.
#[derive(Clone, PartialEq)]
pub(crate) struct InUse {
    pub(crate) classes: Arc<ClassSet>,
    pub(crate) rules: DecisionRules,
    pub(crate) calibrated: Background,
}

/// A part of the status line that may be empty, such as why the last reload failed.
#[derive(Clone, Default)]
pub(crate) struct Note(Arc<Mutex<Option<String>>>);

/// Reads a configuration again and again.
pub(crate) struct Reloader {
    args: ConfigArgs,
    /// What the daemon was started with: all but labels and rules is as it says.
    started: Config,
    bundle: Bundle,
    runtime: Runtime,
    /// The words of the background bank, if there is one.
    words: Option<BankWords>,
    recipe: Recipe,
    in_use: CameraLabels,
    /// What the model's samples say of any scene, for the classes in use.
    samples: BTreeMap<Id, Background>,
}

/// The daemon that labels are changed of.
pub(crate) struct Daemon {
    pub(crate) labels: LabelSender,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stop: Stop,
    pub(crate) events: Sender<Event>,
    pub(crate) last_failure: Note,
    pub(crate) uncalibrated: Note,
}

impl Note {
    pub(crate) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, note: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = note;
    }
}

impl Reloader {
    /// For the daemon that is made of `plan`, whose configuration `args` name.
    pub(crate) fn new(args: &ConfigArgs, plan: &Plan) -> Self {
        let labels = plan.cameras.iter().map(|it| {
            let (classes, calibrated) = (Arc::clone(&it.classes), it.calibrated.clone());
            (it.settings.id.clone(), InUse { classes, rules: it.rules, calibrated })
        });
        let samples = plan.cameras.iter().map(|it| (it.settings.id.clone(), it.samples.clone()));
        Self {
            args: args.clone(),
            started: plan.config.clone(),
            bundle: plan.engine.bundle.clone(),
            runtime: plan.engine.runtime.clone(),
            words: plan.words.clone(),
            recipe: plan.recipe.clone(),
            in_use: labels.collect(),
            samples: samples.collect(),
        }
    }

    /// Serves `hangups` until `daemon` stops. The thread is not waited for at the end, as a
    /// compilation may take longer than anybody wants to wait.
    pub(crate) fn start(mut self, mut hangups: Hangups, daemon: Daemon) -> anyhow::Result<()> {
        let body = move || {
            // Signals that come during one reload make one more, after it.
            for hangup in hangups.forever() {
                match hangup {
                    _ if daemon.stop.is_requested() => return,
                    Hangup::Reload => self.reload(&daemon),
                    Hangup::TerminalGone => {
                        if daemon.events.send(Event::StopRequested).is_err() {
                            tracing::debug!("Hung up after the supervisor has ended.");
                        }
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("reload".to_owned())
            .spawn(body)
            .context("cannot start the thread for reloads")?;
        Ok(())
    }

    fn reload(&mut self, daemon: &Daemon) {
        tracing::info!("Reading the configuration again.");
        let manager = Manager::new();
        manager.reloading();
        memory::loading();
        let result = catch_unwind(AssertUnwindSafe(|| self.try_reload(daemon)))
            .unwrap_or_else(|_| Err(anyhow!("a panic; the line before has it").into()));
        memory::steady();
        if daemon.stop.is_requested() {
            return;
        }
        match result {
            Ok(cameras) if cameras.is_empty() => {
                tracing::info!("Reloaded: no label, rule of decision or calibration has changed.");
                daemon.last_failure.set(None);
            }
            Ok(cameras) => {
                tracing::info!(
                    cameras = cameras.join(" "),
                    "Reloaded: new labels, rules or calibration are in use."
                );
                daemon.last_failure.set(None);
            }
            Err(failure) => {
                let faults = failure.lines();
                tracing::error!("Reload failed, the old labels go on: {}", faults.join("; "));
                daemon.last_failure.set(Some(short(&faults)));
            }
        }
        manager.ready();
    }

    /// The cameras whose labels or rules are others now.
    fn try_reload(&mut self, daemon: &Daemon) -> Result<Vec<String>, Failure> {
        let config = plan::load(&self.args)?;
        let mut in_use = self.in_use.clone();
        let mut changed = Vec::new();
        let (labels, uncalibrated) = plan::labels(&config, &self.bundle)?;
        for (id, labels) in labels {
            // A camera that is new waits for the next start, with its labels.
            if let Some(old) = in_use.get_mut(&id).filter(|old| **old != labels) {
                *old = labels;
                changed.push(id);
            }
        }
        if !changed.is_empty() {
            let classes =
                in_use.iter().map(|(id, it)| (id.clone(), Arc::clone(&it.classes))).collect();
            daemon
                .publisher
                .check_classes(&classes)
                .map_err(|error| plan::info_fault(&config, &error))?;
            let (tracks, samples) = self.compile(&in_use, &changed, daemon.clock.monotonic())?;
            swap(tracks, classes, daemon)?;
            self.in_use = in_use;
            self.samples.extend(samples);
        }
        uncalibrated.warn();
        daemon.uncalibrated.set(uncalibrated.status());
        let waiting = self.started.changes_for_restart(&config);
        if !waiting.is_empty() {
            tracing::warn!("Takes effect at the next start: {}.", waiting.join(", "));
        }
        Ok(changed.iter().map(Id::to_string).collect())
    }

    /// The labels of the cameras that have `changed`, and what the samples say of those whose classes
    /// have. A camera that has other rules or another calibration alone needs nothing compiled.
    fn compile(
        &self,
        new: &CameraLabels,
        changed: &[Id],
        now: Duration,
    ) -> anyhow::Result<(BTreeMap<Id, Labels>, BTreeMap<Id, Background>)> {
        let is_other =
            |id: &Id, set: &Arc<ClassSet>| self.in_use.get(id).is_none_or(|it| it.classes != *set);
        let (ids, sets): (Vec<&Id>, Vec<&ClassSet>) = new
            .iter()
            .filter(|(id, it)| is_other(id, &it.classes))
            .map(|(id, it)| (id, &*it.classes))
            .unzip();
        let compiled = match sets.as_slice() {
            [] => Vec::new(),
            sets => engine::compile(&self.runtime, &self.bundle, sets, &Packs::here())?,
        };
        let mut embeddings: BTreeMap<&Id, ClassEmbeddings> =
            ids.into_iter().zip(compiled).collect();
        let (mut tracks, mut samples) = (BTreeMap::new(), BTreeMap::new());
        for id in changed {
            let Some(InUse { classes, rules, calibrated }) = new.get(id) else { continue };
            if let Some(it) = embeddings.get(id) {
                samples.insert(id.clone(), self.recipe.background(it));
            }
            let known = samples.get(id).or_else(|| self.samples.get(id));
            let background = match known {
                Some(known) => calibrated.clone().or(known, classes),
                None => calibrated.clone(),
            };
            let decider = Decider::new(*rules, Arc::clone(classes), now)?.on(&background);
            let classifier = match embeddings.remove(id) {
                Some(it) => {
                    let bank = bank::apart(self.words.as_ref(), classes, &it)
                        .context("the background bank cannot be used")?;
                    Some(self.recipe.classifier(it)?.against(bank))
                }
                None => None,
            };
            tracks.insert(id.clone(), Labels { classifier, background, decider });
        }
        Ok((tracks, samples))
    }
}

/// Hands the labels over and waits until they are in use.
fn swap(
    tracks: BTreeMap<Id, Labels>,
    classes: BTreeMap<Id, Arc<ClassSet>>,
    daemon: &Daemon,
) -> anyhow::Result<()> {
    let (done, is_done) = bounded(1);
    daemon.labels.put(NewLabels { tracks, classes, done });
    select! {
        recv(is_done) -> it => it.context("the infer stage has ended"),
        recv(daemon.stop.channel()) -> _ => Err(anyhow!("the daemon stops")),
    }
}

/// What fits a status line.
fn short(faults: &[String]) -> String {
    const MAX_CHARS: usize = 300;
    let mut text: String =
        faults.first().map_or("", String::as_str).chars().take(MAX_CHARS).collect();
    if 1 < faults.len() {
        text += &format!(" (and {} more, see the log)", faults.len() - 1);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_one_line_and_short() {
        assert_eq!(short(&["a".to_owned()]), "a");
        let many = ["ä".repeat(5000), String::new(), String::new()];
        let text = short(&many);
        assert!(text.ends_with("ä (and 2 more, see the log)") && text.len() < 1000, "{text}");
    }
}
