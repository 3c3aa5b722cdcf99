//! `lookout calibrate`: some minutes of each camera's scene become backgrounds and bounds.

mod from_recording;
mod live;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use lookout_core::{
    Calibrator, ClassKind, Classifier, Clock, Decider, Disposition, Id, MAX_VALUES, Picture,
    PortError, Stamp,
};
use lookout_pipeline::{Gate, GateRules};
use lookout_store::{Calibrations, CameraCalibration, StoreError};

use crate::cli::CalibrateArgs;
use crate::clock::SystemClock;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::names::Names;
use crate::packs::Packs;
use crate::plan::{self, PlannedCamera};
use crate::recorded::{self, Pace};
use crate::{memory, output};

/// One camera that is being calibrated.
struct Subject {
    camera: Id,
    max_fps: f64,
    /// Judges as the daemon would without a calibration: what it accepts seems to be there.
    decider: Decider,
    classifier: Classifier,
    calibrator: Calibrator,
    /// Leaves out what the daemon would not evaluate.
    gate: Gate,
    /// Likewise, of a recording; a camera's own thread asks it no faster.
    pace: Pace,
}

pub(crate) fn run(args: &CalibrateArgs) -> Result<(), Failure> {
    let mut config = plan::load(&args.config)?;
    let path = args.output.clone().or_else(|| config.calibration.take()).ok_or_else(|| {
        anyhow!(
            "no file for the calibration: add `calibration = \"lookout.calibration\"` to {}, or name \
             one with --output",
            args.config.config.display()
        )
    })?;
    if args.show {
        return Ok(show(&path, &args.camera)?);
    }
    let existing = existing(&path)?;
    Calibrations::try_write(&path).map_err(anyhow::Error::from)?;
    // What is known already would be calibrated away, and what adapts has no background of its own.
    config.calibration = None;
    config.adaptation = None;
    let (mut engine, watched) = plan::offline(&config, &Packs::here())?;
    let recipe = watched.recipe;
    if let Some(existing) = existing.filter(|it| it.space != engine.bundle.space()) {
        let cameras: Vec<&str> = existing.cameras.keys().map(Id::as_str).collect();
        output::complain(&format!(
            "{} is of another model: it will be replaced, what it says of {} will be kept in a copy, and \
             each camera is to be calibrated anew",
            path.display(),
            cameras.join(", ")
        ));
    }
    let cameras = choose(watched.cameras, &args.camera, args.from.is_some())?;
    let (luma_change, interval) = (config.gate.luma_change, config.gate.interval);
    let mut subjects = Vec::new();
    for it in &cameras {
        let background = it.background();
        let (rules, classes) = (it.rules, Arc::clone(&it.classes));
        subjects.push(Subject {
            camera: it.settings.id.clone(),
            max_fps: it.settings.max_fps,
            calibrator: Calibrator::new(Arc::clone(&classes), rules.smoothing, rules.stale_after),
            decider: Decider::new(rules, classes, Duration::ZERO)
                .map_err(anyhow::Error::from)?
                .on(&background),
            classifier: recipe
                .classifier(it.embeddings.clone())?
                .on(background)
                .against(it.bank.clone()),
            gate: Gate::new(GateRules { luma_change, interval }),
            pace: Pace::new(it.min_interval()),
        });
    }
    know_absent(&mut subjects, &args.absent)?;
    memory::steady();
    let all_good = match &args.from {
        Some(from) => from_recording::collect(&mut engine, &mut subjects[0], from, args.fps)?,
        None => {
            live::collect(&config, cameras, &mut engine, &mut subjects, args.time)?;
            true
        }
    };
    finish(args.false_alarms_a_day, &path, &subjects, engine.bundle.space())?;
    if all_good { Ok(()) } else { Err(Failure::Partial) }
}

/// Takes people at their word that these labels were not in the picture.
fn know_absent(subjects: &mut [Subject], labels: &[String]) -> anyhow::Result<()> {
    for label in labels {
        let mut is_one = false;
        for Subject { decider, calibrator, .. } in subjects.iter_mut() {
            let classes = decider.classes();
            let Ok(idx) = Names::of(classes).find(label) else { continue };
            if classes.classes()[idx].kind == ClassKind::Label {
                calibrator.know_absent(idx);
                is_one = true;
            }
        }
        if !is_one {
            let classes = subjects.iter().flat_map(|it| it.decider.classes().classes());
            let labels = classes.filter(|it| it.kind == ClassKind::Label);
            let known: BTreeSet<&str> = labels.map(|it| it.id.as_str()).collect();
            let known: Vec<&str> = known.into_iter().collect();
            bail!("--absent must be one of the labels {}, got {label:?}", known.join(", "));
        }
    }
    Ok(())
}

/// What is there before the work, to which its results can be added.
fn existing(path: &Path) -> anyhow::Result<Option<Calibrations>> {
    match Calibrations::read(path) {
        Ok(it) => Ok(Some(it)),
        Err(StoreError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow::Error::from(error))
            .context("a new calibration goes into the file of the old ones; move that away and run this again"),
    }
}

/// The cameras to calibrate: those named, else all that are enabled.
fn choose(
    mut cameras: Vec<PlannedCamera>,
    named: &[Id],
    is_recording: bool,
) -> anyhow::Result<Vec<PlannedCamera>> {
    for id in named {
        let Some(camera) = cameras.iter().find(|it| it.settings.id == *id) else {
            let known: Vec<&str> = cameras.iter().map(|it| it.settings.id.as_str()).collect();
            bail!("--camera must be one of {}, got {id}", known.join(", "));
        };
        if !camera.settings.enabled && !is_recording {
            bail!("camera {id} is switched off in the configuration");
        }
    }
    cameras.retain(|it| match named {
        [] => it.settings.enabled,
        named => named.contains(&it.settings.id),
    });
    match cameras.len() {
        0 => bail!("no camera is enabled"),
        1 => {}
        n if is_recording => {
            bail!("a recording is of one camera, and {n} are enabled; say which with --camera ID")
        }
        _ => {}
    }
    Ok(cameras)
}

impl Subject {
    /// Takes in one picture of the scene; a still one counts as the daemon counts it, by the last.
    fn see(
        &mut self,
        engine: &mut Engine,
        at: Duration,
        picture: &Picture,
    ) -> Result<(), PortError> {
        if self.gate.is_still(picture, at) && self.calibrator.repeat(at) {
            return Ok(());
        }
        let (image, candidates) = recorded::see(engine, picture).inspect_err(|_| {
            self.gate.forget();
        })?;
        let recalled = engine.recalled(&image);
        let evidence = self
            .classifier
            .classify(&image, candidates, recalled)
            .map_err(|error| PortError::new(Disposition::Fatal, error))?;
        let accepted = self.decider.judge(evidence.observation()).accepted;
        self.calibrator.add(at, &evidence, accepted);
        Ok(())
    }
}

/// Whether there is no memory for more frames.
fn is_full(subjects: &[Subject]) -> bool {
    MAX_VALUES <= subjects.iter().map(|it| it.calibrator.n_values()).sum()
}

/// Prints what was found, and adds it to what the file says of other cameras.
fn finish(
    false_alarms_a_day: f64,
    path: &Path,
    subjects: &[Subject],
    space: &str,
) -> Result<(), Failure> {
    let mut found_all = Calibrations { space: space.to_owned(), cameras: BTreeMap::new() };
    let made = Stamp::now(&SystemClock::start() as &dyn Clock).wall;
    let (mut n_good, mut n_bad) = (0, 0);
    for Subject { camera, max_fps, decider, calibrator, .. } in subjects {
        let found = calibrator.finish(false_alarms_a_day).map_err(|it| {
            format!("{it}; take more time, such as --for 30m, or a longer recording")
        });
        match found {
            Ok(found) => {
                n_good += 1;
                let it = CameraCalibration::new(&found, decider.classes(), *max_fps, made);
                report::print(camera, &it)?;
                for (which, what) in [
                    (it.without_bound(), "no bound was found, and the model's own decides"),
                    (it.provisional(), "the bound is provisional, as the scene changes too slowly"),
                ] {
                    if !which.is_empty() {
                        let which = which.join(", ");
                        output::complain(&format!("camera {camera}: {what}: {which}"));
                    }
                }
                found_all.cameras.insert(camera.clone(), it);
            }
            Err(reason) => {
                n_bad += 1;
                output::complain(&format!("camera {camera} is not calibrated: {reason}"));
            }
        }
    }
    if 0 < n_good {
        if let Some(copy) = found_all.add_to(path).map_err(anyhow::Error::from)? {
            output::complain(&format!("what was in it before is {} now", copy.display()));
        }
        output::line(format!("written to {}", path.display()))?;
    }
    if n_bad == 0 { Ok(()) } else { Err(Failure::Partial) }
}

fn show(path: &Path, cameras: &[Id]) -> anyhow::Result<()> {
    if !path.exists() {
        bail!("{} does not exist; `lookout calibrate` without --show makes it", path.display());
    }
    let all = Calibrations::read(path)?;
    for id in cameras {
        if !all.cameras.contains_key(id) {
            bail!("{} has no camera {id}", path.display());
        }
    }
    output::line(format!("{}, model space {}", path.display(), all.space))?;
    for (id, it) in &all.cameras {
        if cameras.is_empty() || cameras.contains(id) {
            report::print(id, it)?;
        }
    }
    Ok(())
}
