//! `lookout teach`: say what a picture shows, list what was said, undo it.

use std::path::PathBuf;

use anyhow::{Context, bail};
use lookout_config::{Config, LabelSet};
use lookout_core::{ClassSet, Clock, Embedding, means};
use lookout_encoder::{Bundle, Golden, ImageTower, TextTower};
use lookout_index::{Lesson, MAX_KEYS, TaughtWriter};
use serde::Serialize;

use crate::cli::TeachArgs;
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::packs::Packs;
use crate::views::{N_VIEWS, views};
use crate::{assets, engine, memory, output, plan};

/// A caption means a label clearly from this probability on.
const CLEAR: f64 = 0.8;

/// What is taught, and where it goes.
struct Target {
    bundle: Bundle,
    taught: PathBuf,
    /// The label sets it is for, each with a name.
    labels: Vec<(String, LabelSet)>,
}

#[derive(Serialize)]
struct TaughtLine<'a> {
    lesson: u32,
    caption: &'a str,
    pictures: usize,
    keys: usize,
    file: &'a str,
    means: Vec<MeansLine<'a>>,
}

#[derive(Serialize)]
struct MeansLine<'a> {
    camera: &'a str,
    label: &'a str,
    probability: f64,
    clear: bool,
}

#[derive(Serialize)]
struct LessonLine<'a> {
    lesson: u32,
    taught_at: Option<u64>,
    caption: &'a str,
    keys: usize,
}

#[derive(Serialize)]
struct ExportLine<'a> {
    lesson: u32,
    space: &'a str,
    taught_at: Option<u64>,
    caption: &'a str,
    caption_embedding: &'a [f32],
    keys: Vec<&'a [f32]>,
}

pub(crate) fn run(args: &TeachArgs) -> Result<(), Failure> {
    let target = target(args)?;
    if let Some(caption) = &args.caption {
        return Ok(teach(args, &target, caption)?);
    }
    if let Some(number) = args.undo {
        return Ok(undo(args, &target, number)?);
    }
    let lessons = engine::open_lessons(&target.taught, &target.bundle)?;
    for lesson in lessons.lessons() {
        if args.export {
            output::json_line(&export(&target, lesson))?;
        } else if args.json {
            output::json_line(&line(lesson))?;
        } else {
            let (number, keys) = (lesson.number, lesson.keys.len());
            let caption = output::one_line(&lesson.caption);
            output::line(format!("{number:4}  {caption}  ({keys} views)"))?;
        }
    }
    if lessons.lessons().is_empty() && !args.json && !args.export {
        output::line(format!("{}: nothing is taught", target.taught.display()))?;
    }
    Ok(())
}

fn target(args: &TeachArgs) -> Result<Target, Failure> {
    let (model, index, named, labels) = match args.source.config() {
        Some(named) => {
            let Config { model, index, taught, cameras, .. } = plan::load(&named)?;
            let labels = cameras.into_iter().map(|it| (it.id.to_string(), it.labels)).collect();
            (model, index, taught, labels)
        }
        None => {
            let model = assets::model_dir(args.source.model.model.as_deref())?;
            let index = match (&args.source.index, &args.taught) {
                (None, Some(_)) => None,
                (index, _) => Some(engine::index_path(index.as_deref(), &model)?),
            };
            (model, index, None, Vec::new())
        }
    };
    let named = args.taught.as_deref().or(named.as_deref());
    let taught = engine::taught_path(named, index.as_deref()).context(
        "the configuration names no caption index, so there is nothing to teach beside; \
         add `taught = \"lessons.taught\"` to it",
    )?;
    let bundle = Bundle::open(&model).map_err(anyhow::Error::from)?;
    if let (Some(index), None) = (&index, named) {
        // Beside no index nobody would look for it.
        engine::open_index(index, &bundle, 1)?;
    }
    Ok(Target { bundle, taught, labels })
}

fn writer(target: &Target) -> anyhow::Result<TaughtWriter> {
    let Target { bundle, taught, .. } = target;
    let on_wait = || {
        output::complain(&format!(
            "waiting for another process that has {} open",
            taught.display()
        ));
    };
    Ok(TaughtWriter::open(taught, bundle.space(), bundle.dimension(), &on_wait)?)
}

fn teach(args: &TeachArgs, target: &Target, caption: &str) -> anyhow::Result<()> {
    let most = MAX_KEYS / N_VIEWS;
    if most < args.pictures.len() {
        let got = args.pictures.len();
        bail!(
            "a lesson takes up to {most} pictures, got {got}; teach the others in another lesson"
        );
    }
    // Before minutes are spent on a slow board.
    let known = engine::open_lessons(&target.taught, &target.bundle)?;
    if let Err(fault) = lookout_index::check_caption(caption) {
        bail!("--caption {caption:?} {fault}");
    }
    let runtime = engine::open(args.source.device.device)?;
    let keys = embed_views(target, &runtime, &args.pictures)?;
    let embedding = embed_caption(target, &runtime, caption)?;
    let meant = meanings(target, &runtime, &embedding)?;

    let mut writer = writer(target)?;
    let caption = caption.trim();
    let taught_at = SystemClock::start().wall().map(|it| it.as_secs());
    let n_keys = keys.len();
    // The pictures themselves, without the views of them.
    let pictures: Vec<Embedding> = keys.iter().step_by(N_VIEWS).cloned().collect();
    let number = writer.teach(caption, embedding, keys, taught_at)?;
    drop(writer);

    for picture in &pictures {
        for it in known.recall(picture).iter().filter(|it| 1.0 <= it.reach && it.text != caption) {
            output::complain(&format!(
                "lesson {} says {:?} of a picture near to this (cosine {:.3}), and the nearer of both \
                 decides, the newer where they are equal; if it was wrong, undo it with --undo {}",
                it.number, it.text, it.similarity, it.number
            ));
        }
    }
    if args.json {
        let means = meant.iter().map(|it| MeansLine {
            camera: &it.camera,
            label: &it.label,
            probability: it.probability,
            clear: it.is_clear(),
        });
        return output::json_line(&TaughtLine {
            lesson: number,
            caption,
            pictures: pictures.len(),
            keys: n_keys,
            file: &target.taught.to_string_lossy(),
            means: means.collect(),
        });
    }
    let n = pictures.len();
    output::line(format!(
        "lesson {number}: {}, {n} picture{} in {n_keys} views, in {}",
        output::one_line(caption),
        if n == 1 { "" } else { "s" },
        target.taught.display()
    ))?;
    for it in &meant {
        let Meaning { camera, label, probability } = it;
        if it.is_clear() {
            output::line(format!("    {camera}: means `{label}` ({probability:.2})"))?;
        } else {
            output::complain(&format!(
                "{camera}: means none of its labels clearly, `{label}` most ({probability:.2}); to correct \
                 them, undo it and say it in their words"
            ));
        }
    }
    Ok(())
}

/// What a set of labels makes of a caption.
struct Meaning {
    camera: String,
    label: String,
    probability: f64,
}

impl Meaning {
    fn is_clear(&self) -> bool {
        CLEAR <= self.probability
    }
}

fn embed_views(
    target: &Target,
    runtime: &lookout_encoder::Runtime,
    paths: &[PathBuf],
) -> anyhow::Result<Vec<Embedding>> {
    let mut tower = ImageTower::load_on(&target.bundle, runtime, 1)?;
    let golden = Golden::open(&target.bundle)?;
    for check in golden.check_pictures(&mut tower, 1, |path| Ok(engine::read(path)?))? {
        check.ensure()?;
    }
    memory::steady();
    let mut keys = Vec::new();
    for path in paths {
        let about = || path.display().to_string();
        let picture = lookout_capture::read_picture(path, &engine::limits(&target.bundle))?;
        for view in views(&picture).with_context(about)? {
            keys.push(tower.encode(&view).with_context(about)?);
        }
    }
    Ok(keys)
}

fn embed_caption(
    target: &Target,
    runtime: &lookout_encoder::Runtime,
    caption: &str,
) -> anyhow::Result<Embedding> {
    let mut tower = TextTower::load_on(&target.bundle, runtime, 1)?;
    for check in Golden::open(&target.bundle)?.check_texts(&mut tower, 1)? {
        check.ensure()?;
    }
    tower.encode_text(caption.trim()).with_context(|| format!("caption {caption:?}"))
}

/// What each camera's labels make of the caption.
fn meanings(
    target: &Target,
    runtime: &lookout_encoder::Runtime,
    caption: &Embedding,
) -> anyhow::Result<Vec<Meaning>> {
    let Target { bundle, labels, .. } = target;
    let mut sets: Vec<(&str, ClassSet)> = Vec::new();
    for (camera, labels) in labels {
        // What is wrong with labels `check` tells; the lesson is none the worse for it.
        match labels.class_set(bundle.templates()) {
            Ok(set) => sets.push((camera, set)),
            Err(_) => {
                output::complain(&format!("camera {camera}: see `lookout check` on its labels"))
            }
        }
    }
    let classes: Vec<&ClassSet> = sets.iter().map(|it| &it.1).collect();
    let compiled = engine::compile(runtime, bundle, &classes, &Packs::here())?;
    let mut meant = Vec::new();
    for ((camera, set), embeddings) in sets.iter().zip(&compiled) {
        let distribution = means(embeddings, caption, bundle.scales().caption)?;
        let (top, _) = distribution.top();
        meant.push(Meaning {
            camera: (*camera).to_owned(),
            label: set.classes()[top].name.clone(),
            probability: distribution.probabilities()[top],
        });
    }
    Ok(meant)
}

fn undo(args: &TeachArgs, target: &Target, number: Option<u32>) -> anyhow::Result<()> {
    if !target.taught.exists() {
        bail!("{}: nothing is taught, so there is nothing to undo", target.taught.display());
    }
    let undone_at = SystemClock::start().wall().map(|it| it.as_secs());
    let lesson = writer(target)?.undo(number, undone_at)?;
    if args.json {
        return output::json_line(&line(&lesson));
    }
    let caption = output::one_line(&lesson.caption);
    output::line(format!("lesson {} is undone: {caption}", lesson.number))
}

fn line(lesson: &Lesson) -> LessonLine<'_> {
    LessonLine {
        lesson: lesson.number,
        taught_at: lesson.taught_at,
        caption: &lesson.caption,
        keys: lesson.keys.len(),
    }
}

fn export<'a>(target: &'a Target, lesson: &'a Lesson) -> ExportLine<'a> {
    ExportLine {
        lesson: lesson.number,
        space: target.bundle.space(),
        taught_at: lesson.taught_at,
        caption: &lesson.caption,
        caption_embedding: lesson.embedding.as_slice(),
        keys: lesson.keys.iter().map(Embedding::as_slice).collect(),
    }
}
