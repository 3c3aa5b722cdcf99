//! `lookout run`: a plan becomes stages, and stages a daemon.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use crossbeam_channel::Sender;
use lookout_capture::{CameraUri, OpenOptions, PictureLimits, WorkerCommand};
use lookout_config::{Camera, Config, StatePlace};
use lookout_core::{
    CameraStatus, CaptionSearch, Clock, Embedding, Id, LessonRecall, PortError, Publish, Recalled,
    Remember, Stop, stop_pair,
};
use lookout_index::{Index, Lessons};
use lookout_pipeline::{
    Backoff, Busy, CameraCounters, CameraStage, Event, InferStage, LabelSender, Report, Supervisor,
    mailboxes,
};
use lookout_publish::{LinkSnapshot, Publisher};
use lookout_store::{FusedFrom, StateFile};

use crate::cli::ConfigArgs;
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::packs::Packs;
use crate::plan::{self, Plan, PlannedCamera};
use crate::reload::{Note, Reloader};
use crate::said::Kept;
use crate::service::{Hangups, Manager, watch_signals};
use crate::{engine, memory, reload, said};

const REOPEN_MIN: Duration = Duration::from_millis(500);
const REOPEN_MAX: Duration = Duration::from_secs(30);

/// What happened to the frames of each camera.
type Counters = Vec<(Id, Arc<CameraCounters>)>;

pub(crate) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    // One that comes while everything is loaded is served afterwards.
    let hangups = Hangups::watch()?;
    let plan = Plan::make(plan::load(args)?, &Packs::here())?;
    let reloader = Reloader::new(args, &plan);
    serve(plan, Some((reloader, hangups)), |publisher, _| Arc::clone(publisher) as Arc<dyn Publish>)
}

/// Runs the daemon until it is asked to stop, a stage fails, or every camera has come to its end.
/// With `reload` the configuration is read again whenever that is asked for. `wrap` may stand between the stages and the publisher, and ask for a stop.
pub(crate) fn serve(
    plan: Plan,
    reload: Option<(Reloader, Hangups)>,
    wrap: impl FnOnce(&Arc<Publisher>, Sender<Event>) -> Arc<dyn Publish>,
) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let mut supervisor = Supervisor::new(Arc::clone(&clock));
    let is_draining = Arc::new(AtomicBool::new(false));
    watch_signals(supervisor.events(), Arc::clone(&is_draining))?;

    let topics = format!("{}/{}/#", plan.mqtt.base_topic, plan.mqtt.node_id);
    let info = plan.node_info();
    let mut kept = said::open(&plan.config.state, &plan.mqtt.node_id)?;
    let spool = kept.as_mut().and_then(|it| it.spool.take());
    let keeps_events = spool.is_some();
    let is_spool_missed = !keeps_events && plan.config.state != StatePlace::Off;
    let health = Health::default();
    let cameras = plan.classes();
    let publisher = Publisher::start(plan.mqtt.clone(), &info, cameras, Arc::clone(&clock), spool)
        .map_err(anyhow::Error::from)?;
    let publisher = Arc::new(publisher);
    let publish = wrap(&publisher, supervisor.events());

    let (stopper, stop) = stop_pair();
    let busy = Arc::new(Busy::default());
    let grace = plan.config.stop_grace;
    let index_path = plan.config.index.clone();
    plan.uncalibrated.warn();
    let uncalibrated = Note::default();
    uncalibrated.set(plan.uncalibrated.status());
    let (counters, labels) =
        start_stages(&mut supervisor, plan, kept, &publish, &clock, &busy, &stop, &health)?;

    memory::steady();
    let mut manager = Manager::new();
    manager.ready();
    tracing::info!(cameras = counters.len(), topics, "Ready.");
    let index_is_damaged = Arc::new(AtomicBool::new(false));
    match index_path {
        Some(path) => verify_in_background(path, Arc::clone(&index_is_damaged))?,
        None => tracing::info!("No caption index is configured: the image alone decides."),
    }

    let last_failure = Note::default();
    if let Some((reloader, hangups)) = reload {
        let daemon = reload::Daemon {
            labels,
            publisher: Arc::clone(&publisher),
            clock: Arc::clone(&clock),
            stop,
            events: supervisor.events(),
            last_failure: last_failure.clone(),
            uncalibrated: uncalibrated.clone(),
        };
        reloader.start(hangups, daemon)?;
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
    let mut n_events_dropped = 0;
    let on_tick = || {
        let link = publisher.snapshot();
        if n_events_dropped < link.n_events_dropped {
            // Once a time the queue overflows, not once an event.
            if n_events_dropped == 0 || link.connected {
                tracing::warn!(
                    so_far = link.n_events_dropped,
                    "Too many events wait for the broker; the oldest are lost."
                );
            }
            n_events_dropped = link.n_events_dropped;
        }
        if !link.running && !publisher_failed {
            publisher_failed = true;
            let result = Err("the delivery thread has ended".into());
            let stage = "publisher".to_owned();
            if events.send(Event::StageExited { stage, result }).is_err() {
                tracing::debug!("The supervisor has ended.");
            }
        }
        let mut status = status_line(&link, counters.len(), index_is_damaged.load(SeqCst));
        if health.lessons_are_behind.load(SeqCst) {
            status += ", what was taught cannot be read";
        }
        if health.state_is_behind.load(SeqCst) {
            status += ", the state cannot be written";
        }
        if link.spool_error.is_some() {
            publisher.retry_spool();
        }
        if is_spool_missed || link.spool_error.is_some() {
            status += ", waiting events are not kept";
        }
        if let Some(note) = uncalibrated.get() {
            status += &format!(", calibration: {note}");
        }
        if let Some(failure) = last_failure.get() {
            status += &format!(", reload failed: {failure}");
        }
        manager.status(status);
        manager.feed(busy.busy_for(clock.monotonic()));
    };
    let report = supervisor.run(stop_sources, grace, tick, on_tick);
    is_draining.store(true, SeqCst);

    for (camera, counters) in &counters {
        tracing::info!(%camera, frames = %counters.counts(), "Camera ended.");
    }
    let end = describe(&report).map_or(Ok(()), |it| Err(Failure::Other(anyhow!(it))));
    if !report.stuck.is_empty() {
        // Nobody wants to wait longer; the broker says `offline` by the will.
        return end;
    }
    let began = *stop_began.lock().unwrap_or_else(PoisonError::into_inner);
    let used = began.map_or(Duration::ZERO, |it| clock.monotonic().saturating_sub(it));
    let closed = publisher.close(grace.saturating_sub(used).max(Duration::from_secs(1)));
    let link = publisher.snapshot();
    tracing::info!(
        acknowledged = link.n_acknowledged,
        events_dropped = link.n_events_dropped,
        evidence_dropped = link.n_evidence_dropped,
        refused = link.n_refused,
        connections = link.n_connections,
        "Delivery ended."
    );
    if !closed.disconnected || 0 < closed.n_events {
        // The next start takes back what the state does not count.
        let is_counted = !health.state_is_behind.load(SeqCst);
        let events_kept = keeps_events && is_counted && link.spool_error.is_none();
        tracing::warn!(
            events = closed.n_events,
            events_kept,
            topics = closed.topics.join(" "),
            "The broker did not acknowledge everything before the end."
        );
    }
    end
}

/// Who failed and why, and who was still running; `None` after a clean stop.
fn describe(report: &Report) -> Option<String> {
    let mut parts: Vec<String> =
        report.failed.iter().map(|(stage, error)| format!("{stage}: {error}")).collect();
    if !report.stuck.is_empty() {
        parts.push(format!("still running when the end was forced: {}", report.stuck.join(", ")));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Starts the infer stage and one stage a camera; returns the counters of each camera, and what
/// changes their labels.
#[expect(clippy::too_many_arguments, reason = "each is another part of the daemon")]
fn start_stages(
    supervisor: &mut Supervisor,
    plan: Plan,
    kept: Option<Kept>,
    publish: &Arc<dyn Publish>,
    clock: &Arc<dyn Clock>,
    busy: &Arc<Busy>,
    stop: &Stop,
    health: &Health,
) -> anyhow::Result<(Counters, LabelSender)> {
    let Plan { config, engine, recipe, cameras, uncalibrated: _, mqtt, words: _ } = plan;
    let (enabled, disabled): (Vec<PlannedCamera>, Vec<PlannedCamera>) =
        cameras.into_iter().partition(|it| it.settings.enabled);
    for camera in &disabled {
        publish.camera_status(&camera.settings.id, CameraStatus::Disabled);
    }
    let idle: Vec<Id> = disabled.into_iter().map(|it| it.settings.id).collect();
    let (space, index) = (engine.bundle.space().to_owned(), engine.index.as_ref().map(Index::info));
    let index = index.map(|it| it.input_hash);
    let from = FusedFrom { space: &space, index: index.as_deref(), weighting: recipe.weighting() };

    // The gate looks at less than the image tower does.
    let limits = engine::limits(&engine.bundle);
    let (senders, receiver) = mailboxes(enabled.len());
    let labels = receiver.label_sender();
    let mut tracks = Vec::new();
    let mut stages = Vec::new();
    let mut all_counters = Vec::new();
    for camera in enabled {
        let earlier = kept.as_ref().map(|it| it.earlier(&camera, &from)).unwrap_or_default();
        let counters = Arc::new(CameraCounters::default());
        tracks.push(camera.track(
            &config,
            &recipe,
            mqtt.heartbeat,
            clock.monotonic(),
            &counters,
            earlier,
        )?);
        let PlannedCamera { settings, uri, .. } = camera;
        all_counters.push((settings.id.clone(), Arc::clone(&counters)));
        let publish = Arc::clone(publish);
        stages.push(camera_stage(&config, settings, uri, limits, counters, publish, clock)?);
    }
    let lessons = engine.lessons.map(|it| {
        let is_behind = Arc::clone(&health.lessons_are_behind);
        Box::new(WatchedLessons { lessons: it, is_behind }) as Box<dyn LessonRecall>
    });
    let n_events = kept.as_ref().map_or(0, |it| it.n_events);
    let memory = kept.map(|Kept { path, state, .. }| {
        let file = StateFile::new(&path, &from, &state, &idle);
        let is_behind = Arc::clone(&health.state_is_behind);
        Box::new(said::Watched { file, is_behind }) as Box<dyn Remember>
    });
    let infer = InferStage {
        encoder: Box::new(engine.tower),
        captions: engine.index.map(|it| Box::new(it) as Box<dyn CaptionSearch>),
        n_candidates: engine.n_candidates,
        lessons,
        memory,
        n_events,
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
    Ok((all_counters, labels))
}

/// The stage that keeps a camera open.
pub(crate) fn camera_stage(
    config: &Config,
    settings: Camera,
    uri: CameraUri,
    limits: PictureLimits,
    counters: Arc<CameraCounters>,
    publish: Arc<dyn Publish>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<CameraStage> {
    let worker = WorkerCommand {
        program: std::env::current_exe().context("cannot tell where this program is")?,
        args: vec!["capture-worker".into()],
    };
    let options = OpenOptions {
        base: config.folder().to_path_buf(),
        worker,
        stall_after: settings.stall_after,
        limits,
    };
    let open_clock = Arc::clone(clock);
    Ok(CameraStage {
        min_interval: plan::min_interval(&settings),
        camera: settings.id,
        open: Box::new(move || Ok(lookout_capture::open(&uri, &options, Arc::clone(&open_clock))?)),
        backoff: Backoff::new(REOPEN_MIN, REOPEN_MAX),
        counters,
        publish,
        clock: Arc::clone(clock),
    })
}

/// What is not as it should be, told by the stages.
#[derive(Default)]
struct Health {
    lessons_are_behind: Arc<AtomicBool>,
    state_is_behind: Arc<AtomicBool>,
}

/// Lessons whose state the operator sees.
struct WatchedLessons {
    lessons: Lessons,
    is_behind: Arc<AtomicBool>,
}

impl LessonRecall for WatchedLessons {
    fn refresh(&mut self) -> Result<bool, PortError> {
        let result = LessonRecall::refresh(&mut self.lessons);
        self.is_behind.store(self.lessons.is_behind(), SeqCst);
        if let Ok(true) = result {
            let (lessons, torn_bytes) = (self.lessons.lessons().len(), self.lessons.torn_bytes());
            tracing::info!(lessons, "What was taught has changed.");
            if 0 < torn_bytes {
                tracing::warn!(torn_bytes, "The file of lessons was cut off: some may be gone.");
            }
        }
        result
    }

    fn recall(&self, image: &Embedding) -> Vec<Recalled> {
        self.lessons.recall(image)
    }
}

/// Reads what opening left unread: vectors and text. A fault is reported, and the index goes on
/// to be used, for its search survives any content.
fn verify_in_background(path: PathBuf, is_damaged: Arc<AtomicBool>) -> anyhow::Result<()> {
    let body = move || match Index::open(&path).and_then(|index| index.verify_all()) {
        Ok(()) => tracing::debug!(index = %path.display(), "Index verified."),
        Err(error) => {
            is_damaged.store(true, SeqCst);
            let error = anyhow::Error::from(error);
            tracing::error!("The caption index is damaged; build it again: {error:#}");
        }
    };
    std::thread::Builder::new()
        .name("verify index".to_owned())
        .spawn(body)
        .context("cannot start a thread")?;
    Ok(())
}

/// What the service manager shows: the broker, and all that is not as it should be.
fn status_line(link: &LinkSnapshot, n_cameras: usize, index_is_damaged: bool) -> String {
    let broker = match (&link.last_error, link.connected) {
        (_, true) => "broker connected".to_owned(),
        (Some(error), false) => format!("broker away: {error}"),
        (None, false) => "connecting to the broker".to_owned(),
    };
    let mut line = format!("{n_cameras} cameras, {broker}");
    if 0 < link.n_events_dropped {
        line += &format!(", {} events dropped", link.n_events_dropped);
    }
    if index_is_damaged {
        line += ", caption index damaged";
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_failure_is_told_beside_who_was_stuck() {
        assert_eq!(describe(&Report::default()), None);
        let report = Report {
            failed: vec![("infer".to_owned(), "broken encoder".into())],
            stuck: vec!["camera yard".to_owned()],
        };
        let told = "infer: broken encoder; still running when the end was forced: camera yard";
        assert_eq!(describe(&report).as_deref(), Some(told));
    }
}
