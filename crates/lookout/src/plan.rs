//! `lookout check`, and what `run` starts from: a configuration with all it names loaded.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use lookout_capture::CameraUri;
use lookout_config::{Camera, Config, Fault};
use lookout_core::{
    Background, Bank, BankWords, ClassEmbeddings, ClassSet, ClassSetError, Decider, DecisionRules,
    Id, InvalidRules, Weighting,
};
use lookout_encoder::{Bundle, Runtime};
use lookout_index::Index;
use lookout_pipeline::{CameraCounters, Earlier, GateRules, Track, TrackSettings};
use lookout_publish::payload::{IndexInfo, ModelInfo, NodeInfo};
use lookout_publish::{MqttSettings, PublishError, Publisher, Secret, Tls};
use lookout_store::StoreError;

use crate::calibration::{Found, Uncalibrated};
use crate::cli::ConfigArgs;
use crate::engine::{self, Engine, EngineError, Recipe};
use crate::failure::Failure;
use crate::packs::Packs;
use crate::reload::{CameraLabels, InUse};
use crate::{bank, node, output, said};

/// The largest CA file that is read.
const MAX_CA_BYTES: u64 = 1 << 20;

/// A configuration with all it names loaded and found to fit together.
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) engine: Engine,
    /// How the cameras' classifiers are made.
    pub(crate) recipe: Recipe,
    pub(crate) cameras: Vec<PlannedCamera>,
    /// What is not calibrated though a calibration is configured.
    pub(crate) uncalibrated: Uncalibrated,
    pub(crate) mqtt: MqttSettings,
    /// The words of the background bank, if there is one.
    pub(crate) words: Option<BankWords>,
}

/// A camera that may be started.
pub(crate) struct PlannedCamera {
    pub(crate) settings: Camera,
    pub(crate) uri: CameraUri,
    pub(crate) classes: Arc<ClassSet>,
    pub(crate) embeddings: ClassEmbeddings,
    pub(crate) rules: DecisionRules,
    pub(crate) bank: Option<Bank>,
    /// What calibration says of its scene.
    pub(crate) calibrated: Background,
    /// What the model's samples say of any scene.
    pub(crate) samples: Background,
}

impl PlannedCamera {
    /// All that is known of its scene.
    pub(crate) fn background(&self) -> Background {
        self.calibrated.clone().or(&self.samples, &self.classes)
    }

    /// What decides about it from `now` on, after what it said before.
    pub(crate) fn track(
        &self,
        config: &Config,
        recipe: &Recipe,
        heartbeat: Duration,
        now: Duration,
        counters: &Arc<CameraCounters>,
        earlier: Earlier,
    ) -> anyhow::Result<Track> {
        let background = self.background();
        Ok(Track::new(TrackSettings {
            camera: self.settings.id.clone(),
            decider: Decider::new(self.rules, Arc::clone(&self.classes), now)?.on(&background),
            classifier: recipe
                .classifier(self.embeddings.clone())?
                .on(background)
                .against(self.bank.clone()),
            gate: GateRules {
                luma_change: config.gate.luma_change,
                interval: config.gate.interval,
            },
            max_age: self.settings.max_age,
            heartbeat,
            counters: Arc::clone(counters),
            earlier,
        }))
    }

    /// Least time between two frames.
    pub(crate) fn min_interval(&self) -> Duration {
        min_interval(&self.settings)
    }
}

/// Least time between two frames of a camera.
pub(crate) fn min_interval(camera: &Camera) -> Duration {
    Duration::try_from_secs_f64(1.0 / camera.max_fps).unwrap_or(Duration::MAX)
}

pub(crate) fn check(args: &ConfigArgs) -> Result<(), Failure> {
    // The text tower is to be checked too.
    let plan = Plan::make(load(args)?, &Packs::nowhere())?;
    if let Some(Err(error)) = plan.engine.index.as_ref().map(Index::verify_all) {
        let error = anyhow::Error::from(error);
        return Err(Failure::faults(&[plan.config.fault(
            "index",
            format!("cannot be used: {error:#}"),
            None,
        )]));
    }
    for note in plan.uncalibrated.notes() {
        output::complain(note);
    }
    output::line(format!(
        "{}: good; {}, model {} ({}, run by {}), {}, {}, broker {} port {}, topics {}/{}/#; \
         cameras and broker were not tried",
        args.config.display(),
        output::count(plan.cameras.len(), "camera"),
        plan.config.model.display(),
        plan.engine.bundle.space(),
        plan.engine.tower.describe(),
        match &plan.engine.index {
            Some(index) => output::count(index.info().n_entries, "caption"),
            None => "no caption index".to_owned(),
        },
        output::count(plan.engine.lessons.as_ref().map_or(0, |it| it.lessons().len()), "lesson"),
        plan.mqtt.host,
        plan.mqtt.port,
        plan.mqtt.base_topic,
        plan.mqtt.node_id,
    ))?;
    Ok(())
}

pub(crate) fn load(args: &ConfigArgs) -> Result<Config, Failure> {
    let device = args.device.map(|it| ("encoder.device".to_owned(), it.to_string()));
    let flags: Vec<_> = args.set.iter().cloned().chain(device).collect();
    Ok(Config::load(&args.config, environment()?, &flags)?)
}

/// The process's variables. One of ours that is not Unicode is a fault; others may be anything.
fn environment() -> Result<Vec<(String, String)>, Failure> {
    let mut variables = Vec::new();
    for (key, value) in std::env::vars_os() {
        let Ok(key) = key.into_string() else { continue };
        match value.into_string() {
            Ok(value) => variables.push((key, value)),
            Err(value) if key.starts_with("LOOKOUT__") => {
                let value = value.to_string_lossy();
                let fault = format!("environment variable {key} must be Unicode, got {value:?}");
                return Err(Failure::Config(vec![fault]));
            }
            Err(_) => {}
        }
    }
    Ok(variables)
}

impl Plan {
    /// Loads what the configuration names. Everything that is wrong is reported at once, as far
    /// as one fault does not hide another. Labels come from `packs` where they are there.
    pub(crate) fn make(config: Config, packs: &Packs) -> Result<Self, Failure> {
        let mut faults = Vec::new();
        let uris = camera_uris(&config, &mut faults);
        let mqtt = mqtt_settings(&config, &mut faults);
        if let Some(mqtt) = &mqtt {
            faults.extend(said::check(&config, &mqtt.node_id).err());
        }
        let engine = load_engine(&config, &mut faults);
        let (Some(uris), Some(mqtt), Some(engine)) = (uris, mqtt, engine) else {
            return Err(Failure::faults(&faults));
        };
        let Watched { recipe, cameras, uncalibrated, words } =
            planned(&config, &engine, uris, faults, packs)?;
        let plan = Self { cameras, config, engine, recipe, uncalibrated, mqtt, words };
        if let Err(error) = Publisher::check_info(&plan.mqtt, &plan.node_info(), &plan.classes()) {
            return Err(info_fault(&plan.config, &error));
        }
        Ok(plan)
    }

    /// The classes of each camera.
    pub(crate) fn classes(&self) -> BTreeMap<Id, Arc<ClassSet>> {
        let pair = |it: &PlannedCamera| (it.settings.id.clone(), Arc::clone(&it.classes));
        self.cameras.iter().map(pair).collect()
    }

    /// What the `info` topic says.
    pub(crate) fn node_info(&self) -> NodeInfo {
        let name = self.engine.bundle.dir().file_name();
        NodeInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: ModelInfo {
                name: name.unwrap_or_default().to_string_lossy().into_owned(),
                space: self.engine.bundle.space().to_owned(),
                run_by: self.engine.tower.describe(),
            },
            index: self.engine.index.as_ref().zip(self.config.index.as_ref()).map(
                |(index, path)| IndexInfo {
                    file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                    n_entries: index.info().n_entries as u64,
                },
            ),
        }
    }
}

/// Model and index of a configuration; `None` when a fault was reported.
fn load_engine(config: &Config, faults: &mut Vec<Fault>) -> Option<Engine> {
    let n_candidates = config.fusion.candidates.or(config.fusion.captions.map(|it| it * 8));
    // Without its device the model is still checked, on the CPU.
    let runtime = engine::open(config.encoder.device).unwrap_or_else(|error| {
        let rule = format!("cannot be used: {:#}", anyhow!(error));
        faults.push(config.fault("encoder.device", rule, None));
        Runtime::cpu()
    });
    let taught = engine::taught_path(config.taught.as_deref(), config.index.as_deref());
    Engine::load(&runtime, &config.model, config.index.as_deref(), n_candidates, taught.as_deref())
        .map_err(|error| {
            let mut fault = |key: &str, error: anyhow::Error| {
                let next = match key == "index" && is_missing(&error) {
                    true => "; `lookout index build` makes one, or leave the key out",
                    false => "",
                };
                faults.push(config.fault(key, format!("cannot be used: {error:#}{next}"), None));
            };
            match error {
                EngineError::Index(error) => fault("index", error),
                EngineError::Taught(error) => fault("taught", error),
                EngineError::Model(error) => {
                    fault("model", error);
                    if let Some(Err(error)) = config.index.as_deref().map(Index::open) {
                        fault("index", error.into());
                    }
                }
            }
        })
        .ok()
}

/// Whether the file is not there that `error` is about.
fn is_missing(error: &anyhow::Error) -> bool {
    let is_it = |it: &std::io::Error| it.kind() == std::io::ErrorKind::NotFound;
    error.chain().any(|it| it.downcast_ref().is_some_and(is_it))
}

/// The cameras of a configuration, and what they have in common.
pub(crate) struct Watched {
    /// How the cameras' classifiers are made.
    pub(crate) recipe: Recipe,
    pub(crate) cameras: Vec<PlannedCamera>,
    /// What is not calibrated though a calibration is configured.
    pub(crate) uncalibrated: Uncalibrated,
    /// The words of the background bank, if there is one.
    pub(crate) words: Option<BankWords>,
}

/// The cameras of a configuration, ready to be watched with `engine`. `faults` are those known already.
fn planned(
    config: &Config,
    engine: &Engine,
    uris: Vec<CameraUri>,
    mut faults: Vec<Fault>,
    packs: &Packs,
) -> Result<Watched, Failure> {
    let n_captions = config.fusion.captions.unwrap_or_else(|| engine.bundle.n_captions());
    if engine.n_candidates < n_captions {
        let rule = format!("must be at least the captions kept ({n_captions})");
        let got = Some(engine.n_candidates.to_string());
        faults.push(config.fault("fusion.candidates", rule, got));
    }
    if let Some(index) = &engine.index
        && index.info().n_entries < 10 * n_captions
        && config.fusion.weighting.unwrap_or_else(|| engine.bundle.weighting()) != Weighting::Pooled
    {
        tracing::warn!(
            captions = index.info().n_entries,
            "The caption index is small: of each frame's {n_captions} captions most have \
             nothing to do with it, and they count all the same."
        );
    }
    let recipe = engine
        .recipe(config.fusion.weighting, config.fusion.captions)?
        .choosing(config.fusion.rerank, config.fusion.dedupe);
    let recipe = match config.adaptation.map(|mode| recipe.clone().adapting(mode)) {
        None => recipe,
        Some(Ok(it)) => it,
        Some(Err(error)) => {
            faults.push(config.fault("adaptation", format!("cannot be used: {error:#}"), None));
            recipe
        }
    };
    let mut uncalibrated = Uncalibrated::default();
    let calibrations = calibrations(config, &engine.bundle, &mut uncalibrated, &mut faults);
    let mut checked = Vec::new();
    for (settings, uri) in config.cameras.iter().cloned().zip(uris) {
        if let Some((classes, rules)) =
            classes_and_rules(config, &engine.bundle, &settings, &mut faults)
        {
            let calibrated = calibrations.of(&settings, &classes, &rules, &mut uncalibrated);
            checked.push((settings, uri, classes, rules, calibrated));
        }
    }
    let words = bank::words(&config.bank, &engine.bundle).unwrap_or_else(|error| {
        faults.push(bank_fault(config, &error));
        None
    });
    if !faults.is_empty() {
        return Err(Failure::faults(&faults));
    }
    let mut sets: Vec<&ClassSet> = checked.iter().map(|it| &*it.2).collect();
    sets.extend(&words);
    let mut compiled = engine::compile(&engine.runtime, &engine.bundle, &sets, packs)?;
    let words = words
        .and_then(|_| compiled.pop())
        .map(|it| bank::ready(&it))
        .transpose()
        .map_err(|error| Failure::faults(&[bank_fault(config, &error)]))?;
    let mut cameras = Vec::new();
    for (checked, embeddings) in checked.into_iter().zip(compiled) {
        let (settings, uri, classes, rules, calibrated) = checked;
        let samples = recipe.background(&embeddings);
        let bank = bank::apart(words.as_ref(), &classes, &embeddings)
            .map_err(|error| Failure::faults(&[bank_fault(config, &error)]))?;
        cameras.push(PlannedCamera {
            settings,
            uri,
            classes,
            embeddings,
            rules,
            bank,
            calibrated,
            samples,
        });
    }
    Ok(Watched { recipe, cameras, uncalibrated, words })
}

/// Model, index and cameras of a configuration whose broker is of no interest.
pub(crate) fn offline(config: &Config, packs: &Packs) -> Result<(Engine, Watched), Failure> {
    let mut faults = Vec::new();
    let uris = camera_uris(config, &mut faults);
    let engine = load_engine(config, &mut faults);
    let (Some(uris), Some(engine)) = (uris, engine) else {
        return Err(Failure::faults(&faults));
    };
    let watched = planned(config, &engine, uris, faults, packs)?;
    Ok((engine, watched))
}

/// The cameras of a configuration that is like the one of `engine` in model and index.
pub(crate) fn cameras_with(
    config: &Config,
    engine: &Engine,
    packs: &Packs,
) -> Result<Watched, Failure> {
    let mut faults = Vec::new();
    match camera_uris(config, &mut faults) {
        Some(uris) => planned(config, engine, uris, faults, packs),
        None => Err(Failure::faults(&faults)),
    }
}

/// The labels and rules of each camera of a configuration that is read while another one runs,
/// whose bundle is `bundle`. All that can be checked without loading anything is checked, what
/// waits for the next start included.
pub(crate) fn labels(
    config: &Config,
    bundle: &Bundle,
) -> Result<(CameraLabels, Uncalibrated), Failure> {
    let mut faults = Vec::new();
    let mut uncalibrated = Uncalibrated::default();
    let calibrations = calibrations(config, bundle, &mut uncalibrated, &mut faults);
    camera_uris(config, &mut faults);
    mqtt_settings(config, &mut faults);
    let mut labels = CameraLabels::new();
    for camera in &config.cameras {
        if let Some((classes, rules)) = classes_and_rules(config, bundle, camera, &mut faults) {
            let calibrated = calibrations.of(camera, &classes, &rules, &mut uncalibrated);
            labels.insert(camera.id.clone(), InUse { classes, rules, calibrated });
        }
    }
    if faults.is_empty() { Ok((labels, uncalibrated)) } else { Err(Failure::faults(&faults)) }
}

/// The calibrations that the configuration names. A file that is damaged or of another model is a fault; one
/// that is not there yet leaves everything uncalibrated, and that is told.
fn calibrations(
    config: &Config,
    bundle: &Bundle,
    uncalibrated: &mut Uncalibrated,
    faults: &mut Vec<Fault>,
) -> Found {
    let Some(path) = &config.calibration else { return Found::None };
    Found::open(path, bundle.space(), uncalibrated).unwrap_or_else(|error| {
        let next = match error.downcast_ref() {
            Some(StoreError::Damaged { .. } | StoreError::Other { .. }) => {
                "; move it away and run `lookout calibrate --config FILE` again"
            }
            _ => "",
        };
        let rule = format!("cannot be used: {error:#}{next}");
        faults.push(config.fault("calibration", rule, None));
        Found::None
    })
}

pub(crate) fn bank_fault(config: &Config, error: &anyhow::Error) -> Fault {
    config.fault("background.bank", format!("cannot be used: {error:#}"), None)
}

/// The names of all classes together are too long for the `info` topic.
pub(crate) fn info_fault(config: &Config, error: &PublishError) -> Failure {
    let rule = format!("is too small: {error}");
    Failure::faults(&[config.fault("mqtt.max_packet_kib", rule, None)])
}

fn camera_uris(config: &Config, faults: &mut Vec<Fault>) -> Option<Vec<CameraUri>> {
    let parse = |camera: &Camera| match CameraUri::parse(&camera.uri) {
        Ok(uri) => Some(uri),
        Err(error) => {
            let key = format!("cameras.{}.uri", camera.id);
            faults.push(config.fault(&key, format!("cannot be used: {error}"), None));
            None
        }
    };
    let uris: Vec<Option<CameraUri>> = config.cameras.iter().map(parse).collect();
    uris.into_iter().collect()
}

fn mqtt_settings(config: &Config, faults: &mut Vec<Fault>) -> Option<MqttSettings> {
    let mqtt = &config.mqtt;
    let node = match config.node.clone().map_or_else(node::derived, Ok) {
        Ok(node) => node,
        Err(error) => {
            faults.push(config.fault("node", format!("must be set: {error:#}"), None));
            return None;
        }
    };
    let mut settings = MqttSettings::new(&mqtt.host, mqtt.port, node.as_str());
    settings.base_topic.clone_from(&mqtt.base);
    settings.user.clone_from(&mqtt.user);
    if let Some(client_id) = &mqtt.client_id {
        settings.client_id.clone_from(client_id);
    }
    settings.keep_alive = mqtt.keep_alive;
    settings.heartbeat = mqtt.heartbeat;
    settings.max_packet_bytes = mqtt.max_packet;
    match config.read_password() {
        Ok(password) => settings.password = password.map(Secret::new),
        Err(fault) => faults.push(fault),
    }
    if mqtt.tls {
        let ca_pem = match mqtt.ca_file.as_deref().map(read_ca).transpose() {
            Ok(ca_pem) => ca_pem,
            Err(error) => {
                let rule = format!("cannot be used: {error:#}");
                faults.push(config.fault("mqtt.ca_file", rule, None));
                None
            }
        };
        settings.tls = Some(Tls { ca_pem });
    }
    if let Err(error) = settings.check() {
        faults.push(config.fault("mqtt", format!("cannot be used: {error}"), None));
    }
    Some(settings)
}

fn read_ca(path: &Path) -> anyhow::Result<Vec<u8>> {
    let name = || path.display().to_string();
    let metadata = std::fs::metadata(path).with_context(name)?;
    if !metadata.is_file() {
        return Err(anyhow!("{} must be a regular file", name()));
    }
    let size = metadata.len();
    if MAX_CA_BYTES < size {
        return Err(anyhow!("{} must have at most {MAX_CA_BYTES} bytes, got {size}", name()));
    }
    std::fs::read(path).with_context(name)
}

/// The classes of a camera and the rules that it decides by; `None` when a fault was reported.
fn classes_and_rules(
    config: &Config,
    bundle: &Bundle,
    camera: &Camera,
    faults: &mut Vec<Fault>,
) -> Option<(Arc<ClassSet>, DecisionRules)> {
    let key = format!("cameras.{}", camera.id);
    let classes = match camera.labels.class_set(bundle.templates()) {
        Ok(classes) => Arc::new(classes),
        Err(errors) => {
            let fault = |error: &ClassSetError| config.fault(&key, error.to_string(), None);
            faults.extend(errors.iter().map(fault));
            return None;
        }
    };
    let defaults = bundle.decision();
    let rules = camera.decision.rules(defaults.enter, defaults.margin, defaults.exit);
    if let Err(error) = Decider::new(rules, Arc::clone(&classes), Duration::ZERO) {
        let InvalidRules { key: rule_key, rule, got } = error;
        let (own, common) = (format!("{key}.decision.{rule_key}"), format!("decision.{rule_key}"));
        // Named where it was set: for this camera, for all of them, or by neither.
        let key = if !config.is_set(&own) && config.is_set(&common) { common } else { own };
        faults.push(config.fault(&key, format!("must be {rule}"), Some(got)));
        return None;
    }
    Some((classes, rules))
}
