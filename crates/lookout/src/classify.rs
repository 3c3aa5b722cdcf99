//! `lookout classify`: pictures to labels, each judged by itself, with the evidence.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use lookout_capture::read_picture;
use lookout_config::{BankPlace, LabelSet};
use lookout_core::{
    Background, ClassSet, Classifier, Decider, Distribution, Evidence, Id, Reason, State,
};
use lookout_publish::payload::{EvidencePayload, PictureLine};
use lookout_replay::{reason_words, sigma_words};
use lookout_store::{Calibrations, Known};
use serde::Serialize;

use crate::cli::ClassifyArgs;
use crate::engine::{self, Engine};
use crate::failure::Failure;
use crate::packs::Packs;
use crate::{assets, bank, memory, output};

/// Captions shown in text output; JSON has all.
const N_SHOWN: usize = 3;

#[derive(Serialize)]
struct ErrorLine<'a> {
    picture: &'a str,
    error: String,
}

pub(crate) fn run(args: &ClassifyArgs) -> Result<(), Failure> {
    let labels = match &args.labels {
        Some(path) => LabelSet::load(path)?,
        None => LabelSet::from_words(&args.label, &args.negative)?,
    };
    let model = assets::model_dir(args.model.model.as_deref())?;
    let index = match args.image_only {
        true => None,
        false => Some(engine::index_path(args.index.as_deref(), &model)?),
    };
    let taught = match args.no_taught {
        true => None,
        false => engine::taught_path(args.taught.as_deref(), index.as_deref()),
    };
    let runtime = engine::open(args.device.device).map_err(anyhow::Error::from)?;
    let mut engine = Engine::load(&runtime, &model, index.as_deref(), None, taught.as_deref())
        .map_err(anyhow::Error::from)?;
    let classes = labels
        .class_set(engine.bundle.templates())
        .map_err(|errors| Failure::Config(errors.iter().map(ToString::to_string).collect()))?;
    let classes = Arc::new(classes);
    let place = match args.bank.as_deref() {
        None => BankPlace::Off,
        Some(name) if name == Path::new("everyday") => BankPlace::Everyday,
        Some(path) => BankPlace::File(path.to_owned()),
    };
    let words = bank::words(&place, &engine.bundle)?;
    let sets: Vec<&ClassSet> = std::iter::once(&*classes).chain(&words).collect();
    let mut compiled = engine::compile(&runtime, &engine.bundle, &sets, &Packs::here())?;
    let embeddings = compiled.remove(0);
    let words = compiled.pop().map(|it| bank::ready(&it)).transpose().context("the bank")?;
    let bank = bank::apart(words.as_ref(), &classes, &embeddings).context("the bank")?;
    let recipe = engine.recipe(None, None)?;
    let samples = recipe.background(&embeddings);
    let background = match &args.calibration {
        Some(path) => calibrated(path, args.camera.as_ref(), engine.bundle.space(), &classes)?
            .or(&samples, &classes),
        None => samples,
    };
    let rules = engine::single_picture_rules(engine.bundle.decision());
    let decider = Decider::new(rules, Arc::clone(&classes), Duration::ZERO)
        .map_err(|error| Failure::Config(vec![error.to_string()]))?
        .on(&background);
    // Each picture starts without history, so that order does not matter.
    let classifier = recipe.classifier(embeddings)?.on(background).against(bank);

    let mut all_good = true;
    memory::steady();
    for path in &args.pictures {
        let picture = path.to_string_lossy();
        match evidence(&mut engine, classifier.clone(), path) {
            Ok(evidence) => {
                let verdict = decider.judge(evidence.observation());
                let state =
                    verdict.accepted.map_or(State::Unknown, |class| decider.state_of(class));
                if args.json {
                    let payload = EvidencePayload::new(
                        &classes,
                        &evidence,
                        state,
                        verdict.reason,
                        None,
                        None,
                    )
                    .context("cannot write the evidence")?;
                    output::json_line(&PictureLine::new(&picture, payload))?;
                } else {
                    output::line(describe(&picture, &classes, &evidence, state, verdict.reason))?;
                }
            }
            Err(error) => {
                all_good = false;
                let error = format!("{error:#}");
                if args.json {
                    output::json_line(&ErrorLine { picture: &picture, error })?;
                } else {
                    output::complain(&error);
                }
            }
        }
    }
    if all_good { Ok(()) } else { Err(Failure::Partial) }
}

fn evidence(
    engine: &mut Engine,
    mut classifier: Classifier,
    path: &Path,
) -> anyhow::Result<Evidence> {
    let picture = read_picture(path, &engine::limits(&engine.bundle))?;
    let image = engine.tower.encode(&picture).with_context(|| path.display().to_string())?;
    let candidates = engine.candidates(&image)?;
    Ok(classifier.classify(&image, candidates, engine.recalled(&image))?)
}

/// What the calibrations in `path` say of a camera's scene.
fn calibrated(
    path: &Path,
    camera: Option<&Id>,
    space: &str,
    classes: &ClassSet,
) -> anyhow::Result<Background> {
    let all = Calibrations::read(path)?;
    if all.space != space {
        bail!("{} is of model space {}, and the model's is {space}", path.display(), all.space);
    }
    let known: Vec<&str> = all.cameras.keys().map(Id::as_str).collect();
    let found = match (camera, all.cameras.len()) {
        (Some(id), _) => all.cameras.get(id),
        (None, 1) => all.cameras.values().next(),
        (None, _) => None,
    };
    let Some(found) = found else {
        let (known, path) = (known.join(", "), path.display());
        match camera {
            _ if known.is_empty() => bail!("{path} has no camera; `lookout calibrate` adds some"),
            Some(id) => bail!("--camera must be one of {known}, which {path} has, got {id}"),
            None => bail!("say with --camera which of {path} is meant: {known}"),
        }
    };
    let Known { background, changed, unfit_temperature } = found.known(classes);
    if !changed.is_empty() {
        let ids: Vec<&str> = changed.iter().map(Id::as_str).collect();
        tracing::warn!(
            "Not calibrated with these words: {}; run `lookout calibrate` with them again.",
            ids.join(", ")
        );
    }
    if let Some(temperature) = unfit_temperature {
        tracing::warn!("The temperature {temperature:.2} is of other classes and does not count.");
    }
    Ok(background)
}

/// One picture as text: what it shows, how sure each side is, and the best captions.
pub(crate) fn describe(
    picture: &str,
    classes: &ClassSet,
    evidence: &Evidence,
    state: State,
    reason: Option<Reason>,
) -> String {
    let name = |idx: usize| &classes.classes()[idx].name;
    let side = |side: &str, it: &Distribution, weight: f64| {
        let (top, _) = it.top();
        format!(
            "\n    {side:8} {} {:.2}, confidence {:.2}, weight {weight:.2}",
            name(top),
            it.probabilities()[top],
            it.confidence(),
        )
    };
    let (subject, said) = match state {
        State::Label(idx) => (idx, name(idx).clone()),
        State::None(idx) => (idx, format!("none ({})", name(idx))),
        State::Unknown | State::Stale => {
            let (top, _) = evidence.fused.top();
            let reason = reason.map_or("unknown", reason_words);
            (top, format!("unknown, {reason}: {}", name(top)))
        }
    };
    let (score, lead) = (evidence.fused.probabilities()[subject], evidence.fused.lead(subject));
    let mut text =
        format!("{}: {said}, score {score:.2}, lead {lead:.2}", output::one_line(picture));
    if let Some(familiarity) = evidence.familiarity {
        text += &format!(", familiarity {familiarity:.3}");
    }
    if let Some(sigma) = evidence.observation().sigma(subject) {
        text += &format!(", {}", sigma_words(sigma));
    }
    let rest = evidence.taught.as_ref().map_or(1.0, |it| 1.0 - it.weight);
    text += &side("picture", &evidence.image, rest * evidence.weights.image);
    if let Some(probability) = evidence.matches.as_ref().and_then(|it| it.get(subject)) {
        text += &format!(", match {probability:.2}");
    }
    if let Some(captions) = &evidence.captions {
        text += &side("captions", captions, rest * evidence.weights.captions);
    }
    for retrieved in evidence.retrieved.iter().take(N_SHOWN) {
        text += &format!(
            "\n             {:.2} {}",
            retrieved.similarity,
            output::one_line(&retrieved.text)
        );
    }
    if let Some(taught) = &evidence.taught {
        text += &side("taught", &taught.distribution, taught.weight);
        for it in taught.recalled.iter().take(N_SHOWN) {
            let caption = output::one_line(&it.text);
            text += &format!("\n             {:.2} lesson {}: {caption}", it.similarity, it.number);
        }
    }
    text
}
