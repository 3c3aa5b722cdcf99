//! `lookout run` and `lookout check`: a configuration becomes stages, and stages a daemon.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use crossbeam_channel::Sender;
use lookout_capture::{CameraUri, OpenOptions, PictureLimits, WorkerCommand};
use lookout_config::{Camera, Config, Fault};
use lookout_core::{
    CameraStatus, CaptionSearch, ClassEmbeddings, ClassSet, ClassSetError, Clock, Decider,
    DecisionRules, Id, InvalidRules, Publish, Stop, stop_pair,
};
use lookout_index::Index;
use lookout_pipeline::{
    Backoff, Busy, CameraCounters, CameraStage, Event, GateRules, InferStage, Supervisor, Track,
    TrackSettings, mailboxes,
};
use lookout_publish::payload::{IndexInfo, ModelInfo, NodeInfo};
use lookout_publish::{LinkSnapshot, MqttSettings, Publisher, Secret, Tls};

use crate::cli::ConfigArgs;
use crate::clock::SystemClock;
use crate::engine::{self, Engine, EngineError};
use crate::failure::Failure;
use crate::service::{Manager, watch_signals};
use crate::{memory, node, output};

const REOPEN_MIN: Duration = Duration::from_millis(500);
const REOPEN_MAX: Duration = Duration::from_secs(30);

/// The largest CA file that is read.
const MAX_CA_BYTES: u64 = 1 << 20;

/// A configuration with all it names loaded and found to fit together.
pub(crate) struct Plan {
    config: Config,
    engine: Engine,
    cameras: Vec<PlannedCamera>,
    mqtt: MqttSettings,
}

struct PlannedCamera {
    settings: Camera,
    uri: CameraUri,
    classes: Arc<ClassSet>,
    embeddings: ClassEmbeddings,
    rules: DecisionRules,
}

pub(crate) fn check(args: &ConfigArgs) -> Result<(), Failure> {
    let plan = Plan::make(load(args)?)?;
    let n_cameras = plan.cameras.len();
    output::line(format!(
        "{}: good; {n_cameras} camera{}, model {} ({}), {}, broker {}:{}",
        args.config.display(),
        if n_cameras == 1 { "" } else { "s" },
        plan.config.model.display(),
        plan.engine.bundle.space(),
        match &plan.engine.index {
            Some(index) => format!("{} captions", index.info().n_entries),
            None => "no caption index".to_owned(),
        },
        plan.mqtt.host,
        plan.mqtt.port,
    ))?;
    Ok(())
}

pub(crate) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    serve(Plan::make(load(args)?)?, |publisher, _| Arc::clone(publisher) as Arc<dyn Publish>)
}

fn load(args: &ConfigArgs) -> Result<Config, Failure> {
    Ok(Config::load(&args.config, environment(), &args.set)?)
}

/// The process's variables; one that is not Unicode cannot be ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}

impl Plan {
    /// Loads what the configuration names. Everything that is wrong is reported at once, as far
    /// as one fault does not hide another.
    pub(crate) fn make(config: Config) -> Result<Self, Failure> {
        let mut faults = Vec::new();
        let uris = camera_uris(&config, &mut faults);
        let mqtt = mqtt_settings(&config, &mut faults);
        let n_candidates = config.fusion.candidates.or(config.fusion.captions.map(|it| it * 8));
        let engine =
            Engine::load(&config.model, config.index.as_deref(), n_candidates).map_err(|error| {
                let (key, error) = match error {
                    EngineError::Model(error) => ("model", error),
                    EngineError::Index(error) => ("index", error),
                };
                faults.push(config.fault(key, format!("cannot be used: {error:#}"), None));
            });
        let (Some(uris), Some(mqtt), Ok(engine)) = (uris, mqtt, engine) else {
            return Err(Failure::faults(&faults));
        };
        let n_captions = config.fusion.captions.unwrap_or_else(|| engine.bundle.n_captions());
        if engine.n_candidates < n_captions {
            let rule = format!("must be at least the captions kept ({n_captions})");
            let got = Some(engine.n_candidates.to_string());
            faults.push(config.fault("fusion.candidates", rule, got));
        }
        let mut checked = Vec::new();
        for (settings, uri) in config.cameras.iter().cloned().zip(uris) {
            if let Some((classes, rules)) =
                classes_and_rules(&config, &engine, &settings, &mut faults)
            {
                checked.push((settings, uri, classes, rules));
            }
        }
        if !faults.is_empty() {
            return Err(Failure::faults(&faults));
        }
        let sets: Vec<&ClassSet> = checked.iter().map(|it| &it.2).collect();
        let compiled = engine::compile(&engine.bundle, &sets)?;
        let planned = checked.into_iter().zip(compiled).map(|(checked, embeddings)| {
            let (settings, uri, classes, rules) = checked;
            PlannedCamera { settings, uri, classes: Arc::new(classes), embeddings, rules }
        });
        Ok(Self { cameras: planned.collect(), config, engine, mqtt })
    }

    /// The classes of each camera.
    pub(crate) fn classes(&self) -> BTreeMap<Id, Arc<ClassSet>> {
        let pair = |it: &PlannedCamera| (it.settings.id.clone(), Arc::clone(&it.classes));
        self.cameras.iter().map(pair).collect()
    }

    fn node_info(&self) -> NodeInfo {
        let name = self.engine.bundle.dir().file_name();
        NodeInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: ModelInfo {
                name: name.unwrap_or_default().to_string_lossy().into_owned(),
                space: self.engine.bundle.space().to_owned(),
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
    let size = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    if MAX_CA_BYTES < size {
        return Err(anyhow!(
            "{} must have at most {MAX_CA_BYTES} bytes, got {size}",
            path.display()
        ));
    }
    std::fs::read(path).with_context(|| path.display().to_string())
}

/// The classes of a camera and the rules that it decides by; `None` when a fault was reported.
fn classes_and_rules(
    config: &Config,
    engine: &Engine,
    camera: &Camera,
    faults: &mut Vec<Fault>,
) -> Option<(ClassSet, DecisionRules)> {
    let key = format!("cameras.{}", camera.id);
    let classes = match camera.labels.class_set(engine.bundle.templates()) {
        Ok(classes) => classes,
        Err(errors) => {
            let fault = |error: &ClassSetError| config.fault(&key, error.to_string(), None);
            faults.extend(errors.iter().map(fault));
            return None;
        }
    };
    let defaults = engine.bundle.decision();
    let rules = camera.decision.rules(defaults.enter, defaults.margin, defaults.exit);
    if let Err(error) = Decider::new(rules, &classes, Duration::ZERO) {
        let InvalidRules { key: rule_key, rule, got } = error;
        let key = format!("{key}.decision.{rule_key}");
        faults.push(config.fault(&key, format!("must be {rule}"), Some(got)));
        return None;
    }
    Some((classes, rules))
}

/// Runs the daemon until it is asked to stop, a stage fails, or every camera has come to its end.
/// `wrap` may stand between the stages and the publisher, and ask for a stop.
pub(crate) fn serve(
    plan: Plan,
    wrap: impl FnOnce(&Arc<Publisher>, Sender<Event>) -> Arc<dyn Publish>,
) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let mut supervisor = Supervisor::new(Arc::clone(&clock));
    let is_draining = Arc::new(AtomicBool::new(false));
    watch_signals(supervisor.events(), Arc::clone(&is_draining))?;

    let info = plan.node_info();
    let publisher = Publisher::start(plan.mqtt.clone(), &info, plan.classes(), Arc::clone(&clock))
        .map_err(anyhow::Error::from)?;
    let publisher = Arc::new(publisher);
    let publish = wrap(&publisher, supervisor.events());

    let (stopper, stop) = stop_pair();
    let busy = Arc::new(Busy::default());
    let grace = plan.config.stop_grace;
    let index_path = plan.config.index.clone();
    let counters = start_stages(&mut supervisor, plan, &publish, &clock, &busy, &stop)?;

    memory::steady();
    let mut manager = Manager::new();
    manager.ready();
    tracing::info!(cameras = counters.len(), "Ready.");
    match index_path {
        Some(path) => verify_in_background(path)?,
        None => tracing::info!("No caption index is configured: the image alone decides."),
    }

    let stop_began = Arc::new(Mutex::new(None));
    let stop_sources = {
        let (stop_began, clock) = (Arc::clone(&stop_began), Arc::clone(&clock));
        move || {
            *stop_began.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock.monotonic());
            tracing::info!("Stopping.");
            Manager::new().stopping();
            drop(stopper);
        }
    };
    let (tick, events) = (manager.tick(), supervisor.events());
    let mut publisher_failed = false;
    let on_tick = || {
        let link = publisher.snapshot();
        if !link.running && !publisher_failed {
            publisher_failed = true;
            let result = Err("the delivery thread has ended".into());
            let stage = "publisher".to_owned();
            if events.send(Event::StageExited { stage, result }).is_err() {
                tracing::debug!("The supervisor has ended.");
            }
        }
        manager.status(status_line(&link, &counters));
        manager.feed(busy.busy_for(clock.monotonic()));
    };
    let report = supervisor.run(stop_sources, grace, tick, on_tick);
    is_draining.store(true, SeqCst);

    for (camera, counters) in &counters {
        tracing::info!(%camera, frames = %counters.counts(), "Camera ended.");
    }
    if !report.stuck.is_empty() {
        return Err(Failure::Other(anyhow!(
            "still running when the end was forced: {}",
            report.stuck.join(", ")
        )));
    }
    let began = *stop_began.lock().unwrap_or_else(PoisonError::into_inner);
    let used = began.map_or(Duration::ZERO, |it| clock.monotonic().saturating_sub(it));
    let closed = publisher.close(grace.saturating_sub(used).max(Duration::from_secs(1)));
    if !closed.disconnected || 0 < closed.n_events {
        tracing::warn!(
            events = closed.n_events,
            topics = closed.topics.join(" "),
            "The broker did not acknowledge everything before the end."
        );
    }
    if report.failed.is_empty() {
        return Ok(());
    }
    let failed: Vec<String> =
        report.failed.iter().map(|(stage, error)| format!("{stage}: {error}")).collect();
    Err(Failure::Other(anyhow!(failed.join("; "))))
}

/// Starts the infer stage and one stage a camera; returns the counters of each camera.
fn start_stages(
    supervisor: &mut Supervisor,
    plan: Plan,
    publish: &Arc<dyn Publish>,
    clock: &Arc<dyn Clock>,
    busy: &Arc<Busy>,
    stop: &Stop,
) -> anyhow::Result<Vec<(Id, Arc<CameraCounters>)>> {
    let Plan { config, engine, cameras, mqtt } = plan;
    let (enabled, disabled): (Vec<PlannedCamera>, Vec<PlannedCamera>) =
        cameras.into_iter().partition(|it| it.settings.enabled);
    for camera in disabled {
        publish.camera_status(&camera.settings.id, CameraStatus::Disabled);
    }

    let worker = WorkerCommand {
        program: std::env::current_exe().context("cannot tell where this program is")?,
        args: vec!["capture-worker".into()],
    };
    let (senders, receiver) = mailboxes(enabled.len());
    let mut tracks = Vec::new();
    let mut stages = Vec::new();
    let mut all_counters = Vec::new();
    for camera in enabled {
        let PlannedCamera { settings, uri, classes, embeddings, rules } = camera;
        let counters = Arc::new(CameraCounters::default());
        all_counters.push((settings.id.clone(), Arc::clone(&counters)));
        let fusion = config.fusion;
        tracks.push(Track::new(TrackSettings {
            camera: settings.id.clone(),
            classifier: engine::classifier(
                &engine.bundle,
                embeddings,
                fusion.weighting,
                fusion.captions,
            ),
            decider: Decider::new(rules, &classes, clock.monotonic())?,
            gate: GateRules {
                luma_change: config.gate.luma_change,
                interval: config.gate.interval,
            },
            max_age: settings.max_age,
            heartbeat: mqtt.heartbeat,
            counters: Arc::clone(&counters),
        }));
        let options = OpenOptions {
            base: config.folder().to_path_buf(),
            worker: worker.clone(),
            stall_after: settings.stall_after,
            limits: PictureLimits::default(),
        };
        let open_clock = Arc::clone(clock);
        stages.push(CameraStage {
            camera: settings.id,
            open: Box::new(move || {
                Ok(lookout_capture::open(&uri, &options, Arc::clone(&open_clock))?)
            }),
            min_interval: Duration::try_from_secs_f64(1.0 / settings.max_fps)
                .unwrap_or(Duration::MAX),
            backoff: Backoff::new(REOPEN_MIN, REOPEN_MAX),
            counters,
            publish: Arc::clone(publish),
            clock: Arc::clone(clock),
        });
    }
    let infer = InferStage {
        encoder: Box::new(engine.tower),
        captions: engine.index.map(|it| Box::new(it) as Box<dyn CaptionSearch>),
        n_candidates: engine.n_candidates,
        tracks,
        publish: Arc::clone(publish),
        clock: Arc::clone(clock),
        busy: Arc::clone(busy),
    };
    supervisor
        .spawn("infer".to_owned(), move || infer.run(&receiver))
        .context("cannot start the infer stage")?;
    for (stage, sender) in stages.into_iter().zip(senders) {
        let (name, stop) = (format!("camera {}", stage.camera), stop.clone());
        supervisor
            .spawn(name, move || stage.run(&stop, &sender))
            .context("cannot start a camera's stage")?;
    }
    Ok(all_counters)
}

/// Reads what opening left unread: vectors and text. A fault is reported, and the index goes on
/// to be used, for its search survives any content.
fn verify_in_background(path: std::path::PathBuf) -> anyhow::Result<()> {
    let body = move || match Index::open(&path).and_then(|index| index.verify_all()) {
        Ok(()) => tracing::debug!(index = %path.display(), "Index verified."),
        Err(error) => {
            let error = anyhow::Error::from(error);
            tracing::error!(index = %path.display(), "The caption index is damaged; build it again: {error:#}");
        }
    };
    std::thread::Builder::new()
        .name("verify index".to_owned())
        .spawn(body)
        .context("cannot start a thread")?;
    Ok(())
}

fn status_line(link: &LinkSnapshot, counters: &[(Id, Arc<CameraCounters>)]) -> String {
    let broker = match (&link.last_error, link.connected) {
        (_, true) => "broker connected".to_owned(),
        (Some(error), false) => format!("broker away: {error}"),
        (None, false) => "connecting to the broker".to_owned(),
    };
    format!("{} cameras, {broker}", counters.len())
}
