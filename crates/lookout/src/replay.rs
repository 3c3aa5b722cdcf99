//! `lookout replay`: what would have happened, with the same parts as `run` and the recording's clock.

mod args;
mod html;
mod report;
mod run;
mod story;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use lookout_capture::Recording;
use lookout_config::Config;
use lookout_core::{Candidate, Disposition, Embedding, Stamp};
use lookout_replay::{Figures, Page, RunPage, Seen};

pub(crate) use args::ReplayArgs;
use run::Run;

use crate::cli::ConfigArgs;
use crate::engine::{self, Engine};
use crate::failure::Failure;
use crate::index::meter::Meter;
use crate::packs::Packs;
use crate::plan::{self, PlannedCamera};
use crate::{memory, output, recorded};

/// Bad frames that are told one by one.
const MAX_TOLD: u64 = 20;

/// What became of the frames, whatever was decided.
#[derive(Default)]
struct Frames {
    n: u64,
    /// Of them those that could not be read.
    n_bad: u64,
    /// Parts of the recording that are no frames.
    n_damaged: u64,
}

pub(crate) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let base = plan::load(&args.config)?;
    let camera = camera_id(&base, args)?;
    if let Some(path) = &args.html {
        // Told before hours of work.
        html::check(path, &args.recording)?;
    }
    let (mut engine, watched) = plan::offline(&base, &Packs::here())?;
    watched.uncalibrated.notes().iter().for_each(|it| output::complain(it));
    let camera_of = |cameras: Vec<PlannedCamera>| {
        cameras.into_iter().find(|it| it.settings.id.as_str() == camera)
    };
    let mut runs = Vec::new();
    let first = camera_of(watched.cameras).context("the camera is gone")?;
    runs.push(Run::new("as configured", &base, &watched.recipe, &first)?);
    for changes in &args.compare {
        let config = varied(&args.config, changes, &base)?;
        let watched = plan::cameras_with(&config, &engine, &Packs::here())?;
        watched
            .uncalibrated
            .notes()
            .iter()
            .for_each(|it| output::complain(&format!("{}: {it}", changes.text)));
        let camera = camera_of(watched.cameras).context("the camera is gone")?;
        runs.push(Run::new(&changes.text, &config, &watched.recipe, &camera)?);
    }
    let limits = engine::limits(&engine.bundle);
    let mut recording =
        Recording::open(&args.recording, args.fps, limits).map_err(anyhow::Error::from)?;
    let truths = recorded::truths(&recording, runs.iter().map(|it| &*it.classes), &camera)?;
    runs.iter_mut().zip(truths).for_each(|(run, truths)| run.truths = truths);
    memory::steady();
    let frames = play(&mut recording, &mut engine, &mut runs, args.html.is_some())?;
    // A frame that came too soon was not looked at.
    if runs.iter().all(|it| it.counts.evaluated + it.counts.gated == 0) {
        return Err(Failure::Other(anyhow::anyhow!("no frame of the recording can be read")));
    }
    let tolerance = Duration::try_from_secs_f64(args.tolerance).unwrap_or(Duration::MAX);
    let figures: Vec<Figures> =
        runs.iter().map(|it| Figures::of(&it.timeline, tolerance)).collect();
    if args.json {
        report::json(args, &camera, &frames, &runs, &figures)?;
    } else {
        report::text(&frames, &runs, &figures)?;
    }
    if let Some(path) = &args.html {
        let page = page(args, &camera, &frames, &runs, &figures, tolerance);
        html::write(path, &args.recording, &page)?;
    }
    if frames.n_bad + frames.n_damaged == 0 { Ok(()) } else { Err(Failure::Partial) }
}

/// The camera that is meant: the one named, else the only one.
fn camera_id(config: &Config, args: &ReplayArgs) -> anyhow::Result<String> {
    let ids: Vec<&str> = config.cameras.iter().map(|it| it.id.as_str()).collect();
    match (&args.camera, ids.as_slice()) {
        (Some(id), ids) if ids.contains(&id.as_str()) => Ok(id.clone()),
        (Some(id), ids) => bail!("--camera must be one of {}, got {id:?}", ids.join(", ")),
        (None, [only]) => Ok((*only).to_owned()),
        (None, ids) => bail!("name a camera with --camera, one of {}", ids.join(", ")),
    }
}

/// The configuration with `changes`, which may change what is decided but not what is seen.
fn varied(args: &ConfigArgs, changes: &args::Compare, base: &Config) -> Result<Config, Failure> {
    let set = args.set.iter().chain(&changes.set).cloned().collect();
    let config = plan::load(&ConfigArgs { set, ..args.clone() })?;
    let n_candidates = |it: &Config| (it.fusion.candidates, it.fusion.captions);
    let same = [
        ("model", config.model == base.model),
        ("index", config.index == base.index),
        ("taught", config.taught == base.taught),
        ("encoder.device", config.encoder == base.encoder),
        ("fusion.candidates and fusion.captions", n_candidates(&config) == n_candidates(base)),
    ];
    match same.iter().find(|it| !it.1) {
        None => Ok(config),
        Some((key, _)) => Err(Failure::Config(vec![format!(
            "--compare {:?} must leave {key} as it is: each frame is encoded and searched for once; \
             use --set in a replay of its own",
            changes.text
        )])),
    }
}

/// Takes every frame of the recording to every run that would have asked for it. A frame takes no time.
fn play(
    recording: &mut Recording,
    engine: &mut Engine,
    runs: &mut [Run],
    keeps_pictures: bool,
) -> anyhow::Result<Frames> {
    let mut frames = Frames::default();
    let mut meter = Meter::start("frames");
    while let Some(next) = recording.next() {
        let (done, total) = recording.progress();
        let frame = match next {
            Ok(frame) => frame,
            Err(error) => {
                frames.n_damaged += 1;
                frames.complain(&format!("{:#}", anyhow::Error::from(error)));
                continue;
            }
        };
        frames.n += 1;
        meter.tick(done, total, frames.n);
        let at = Stamp { mono: frame.at, wall: None };
        let mut asking = Vec::new();
        for run in runs.iter_mut() {
            run.wait_until(frame.at);
            run.tell(frame.at, &frame.truth, &frame.name);
            if run.asks(frame.at) {
                asking.push(run);
            }
        }
        if asking.is_empty() {
            continue;
        }
        let picture = match frame.picture() {
            Ok(picture) => picture,
            Err(error) => {
                frames.n_bad += 1;
                frames.complain(&format!("{:#}", anyhow::Error::from(error)));
                continue;
            }
        };
        let kept = keeps_pictures.then_some(&picture);
        let mut sight: Option<(Embedding, Vec<Candidate>)> = None;
        for run in asking {
            run.show_truth(kept);
            if run.gate(at, &picture, &frame.name, kept) {
                continue;
            }
            if sight.is_none() {
                sight = match recorded::see(engine, &picture) {
                    Ok(sight) => Some(sight),
                    Err(error) if error.disposition == Disposition::Fatal => {
                        return Err(error.into());
                    }
                    Err(error) => {
                        frames.n_bad += 1;
                        frames.complain(&format!("{}: {error}", frame.name));
                        break;
                    }
                };
            }
            let Some((image, candidates)) = &sight else { break };
            let recalled = engine.recalled(image);
            run.observe(at, &frame.name, image, candidates.clone(), recalled, kept)?;
        }
    }
    meter.finish();
    Ok(frames)
}

impl Frames {
    /// Tells what was wrong with the last one that was counted as bad or damaged.
    fn complain(&self, what: &str) {
        match (self.n_bad + self.n_damaged).cmp(&MAX_TOLD) {
            std::cmp::Ordering::Less => output::complain(what),
            std::cmp::Ordering::Equal => {
                output::complain(&format!("{what}; further ones are counted, not told"));
            }
            std::cmp::Ordering::Greater => {}
        }
    }
}

fn page(
    args: &ReplayArgs,
    camera: &str,
    frames: &Frames,
    runs: &[Run],
    figures: &[Figures],
    tolerance: Duration,
) -> String {
    let first_frames: Vec<Vec<Option<Seen>>> =
        runs.iter().zip(figures).map(|(run, it)| run.first_frames(it)).collect();
    let pages: Vec<RunPage<'_>> = runs
        .iter()
        .zip(figures)
        .zip(&first_frames)
        .map(|((run, figures), first_frames)| RunPage {
            name: &run.name,
            classes: &run.classes,
            timeline: &run.timeline,
            figures,
            counts: run.counts,
            decided_by: &run.decided_by,
            first_frames,
        })
        .collect();
    let recording = name_of(&args.recording);
    Page {
        recording: &recording,
        camera,
        n_frames: frames.n,
        n_unreadable: frames.n_bad,
        n_damaged: frames.n_damaged,
        tolerance,
        runs: &pages,
    }
    .render()
}

/// The last part of the path, which is what people call it.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
