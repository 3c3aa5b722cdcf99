//! The handle that the pipeline holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use lookout_core::{
    CameraStatus, Change, ClassSet, Clock, Decision, Id, PortError, Publish, Spool, Stamp,
    WaitingEvent,
};
use serde::Serialize;
use tokio::sync::Notify;

use crate::outbox::{Event, Message, ONLINE, Outbox};
use crate::payload::{
    EventPayload, EvidenceMessage, EvidencePayload, InfoPayload, NodeInfo, Origin, StatePayload,
    camera_status,
};
use crate::topic::{Topic, packet_len};
use crate::{MqttSettings, PublishError, link};

/// Classes in each list of scores on the `evidence` topic.
const TOP_N: usize = 10;

/// Delivers to one broker from a thread of its own, until closed or dropped.
pub struct Publisher {
    pub(crate) shared: Arc<Shared>,
    settings: MqttSettings,
    prefix: String,
    boot_id: String,
    info: NodeInfo,
    cameras: BTreeSet<Id>,
    clock: Arc<dyn Clock>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How delivery stands. Counters start with the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSnapshot {
    /// Whether the thread runs. False before [`Publisher::close`] is a fault to restart for.
    pub running: bool,
    /// Whether the broker accepted the connection and it still stands.
    pub connected: bool,
    /// Connections made.
    pub n_connections: u64,
    /// Messages written to the network.
    pub n_sent: u64,
    /// Messages acknowledged.
    pub n_acknowledged: u64,
    /// Events that wait for acknowledgement.
    pub n_events_waiting: usize,
    /// Events dropped because too many waited.
    pub n_events_dropped: u64,
    /// Evidence dropped because the broker was away or slow.
    pub n_evidence_dropped: u64,
    /// Messages refused because no packet may be that large, or no payload could be made.
    pub n_refused: u64,
    /// Why the last attempt failed or the last connection ended; `None` while connected.
    pub last_error: Option<String>,
    /// Why waiting events would not survive an end of the program; `None` where they would, and where
    /// nothing keeps them.
    pub spool_error: Option<String>,
}

/// What [`Publisher::close`] left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReport {
    /// Whether the connection ended in order, with `offline` acknowledged. Otherwise the broker
    /// publishes it as the will.
    pub disconnected: bool,
    /// Events that were not acknowledged.
    pub n_events: usize,
    /// Retained topics whose last value was not acknowledged.
    pub topics: Vec<String>,
}

/// What the handle and the link share.
pub(crate) struct Shared {
    state: Mutex<SharedState>,
    /// Never locked while the state is.
    spool: Mutex<Option<Box<dyn Spool>>>,
    /// The handle changed the state; for the link.
    pub(crate) wake: Notify,
    /// The link changed the state; for the handle.
    pub(crate) changed: Condvar,
}

pub(crate) struct SharedState {
    pub(crate) outbox: Outbox,
    pub(crate) phase: Phase,
    pub(crate) n_connections: u64,
    pub(crate) n_refused: u64,
    pub(crate) last_error: Option<String>,
    spool_error: Option<String>,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Open,
    /// Deliver what waits, then say `offline`.
    Closing,
    /// End at once, so that the broker publishes the will.
    Abort,
    /// The link has ended; true when it ended in order.
    Ended(bool),
}

impl Shared {
    /// A panic elsewhere leaves the outbox consistent enough to go on.
    pub(crate) fn lock(&self) -> MutexGuard<'_, SharedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the spool, if there is one, keep a change; true: that proves that it can. A failure is told once, and
    /// again when it is over.
    fn spool(&self, change: impl FnOnce(&mut dyn Spool) -> Result<bool, PortError>) {
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(spool) = spool.as_mut() else { return };
        let result = change(spool.as_mut());
        let mut state = self.lock();
        match result {
            Ok(true) if state.spool_error.take().is_some() => {
                tracing::info!("Events that wait for the broker are kept again.");
            }
            Ok(_) => {}
            Err(error) => {
                if state.spool_error.replace(error.to_string()).is_none() {
                    tracing::error!(
                        "An end of the program would lose the events that wait for the broker: {error}"
                    );
                }
            }
        }
    }

    /// The event is delivered, or given up.
    pub(crate) fn forget(&self, number: u64) {
        self.spool(|it| it.remove(number).map(|()| false));
    }

    /// Waits until `is_done`, for at most `timeout`; true when it is.
    fn wait(&self, timeout: Duration, is_done: impl Fn(&SharedState) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, |it| !is_done(it));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        is_done(&state)
    }
}

impl Publisher {
    /// Checks the settings and starts to connect. A broker that is away is retried for ever.
    ///
    /// `cameras` holds the classes of each camera, for the `info` topic. What waits in `spool` is sent
    /// first; without one, events that wait for the broker end with the program.
    pub fn start(
        settings: MqttSettings,
        info: &NodeInfo,
        cameras: BTreeMap<Id, Arc<ClassSet>>,
        clock: Arc<dyn Clock>,
        spool: Option<Box<dyn Spool>>,
    ) -> Result<Self, PublishError> {
        settings.check()?;
        if let Some(camera) = cameras.keys().find(|it| ["status", "info"].contains(&it.as_str())) {
            let rule = "ids other than the reserved `status` and `info`".to_owned();
            let got = camera.to_string();
            return Err(PublishError::InvalidSetting { key: "cameras", rule, got });
        }
        let options = settings.options()?;
        let prefix = settings.prefix();
        let boot_id = format!("{:016x}", fastrand::u64(..));

        let mut outbox = Outbox::new(settings.event_capacity, settings.evidence_capacity);
        outbox.set(Message { topic: Topic::Status, payload: ONLINE.into() });
        outbox.set(info_message(&settings, &boot_id, info, &cameras, Stamp::now(&*clock))?);

        let state = SharedState {
            outbox,
            phase: Phase::Open,
            n_connections: 0,
            n_refused: 0,
            last_error: None,
            spool_error: None,
        };
        let waiting = spool.as_ref().map_or_else(Vec::new, |it| it.waiting());
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            spool: Mutex::new(spool),
            wake: Notify::new(),
            changed: Condvar::new(),
        });
        shared.spool(|it| it.retry());
        take_up(&shared, &settings, waiting);
        let link = link::Link {
            shared: Arc::clone(&shared),
            options,
            prefix: prefix.clone(),
            max_retry_wait: settings.max_retry_wait,
            clock: Arc::clone(&clock),
        };
        let thread = Mutex::new(Some(link::spawn(link)?));
        let (info, cameras) = (info.clone(), cameras.into_keys().collect());
        Ok(Self { shared, settings, prefix, boot_id, info, cameras, clock, thread })
    }

    /// Whether [`Publisher::start`] could make the `info` message of this node.
    pub fn check_info(
        settings: &MqttSettings,
        info: &NodeInfo,
        cameras: &BTreeMap<Id, Arc<ClassSet>>,
    ) -> Result<(), PublishError> {
        // As long as any clock and any run id.
        let at =
            Stamp { mono: Duration::from_secs(1 << 32), wall: Some(Duration::from_secs(1 << 32)) };
        info_message(settings, &"0".repeat(16), info, cameras, at).map(|_| ())
    }

    /// Whether `cameras` would fit into the `info` message of this publisher.
    pub fn check_classes(&self, cameras: &BTreeMap<Id, Arc<ClassSet>>) -> Result<(), PublishError> {
        Self::check_info(&self.settings, &self.info, cameras)
    }

    /// Random id of this run.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// How delivery stands.
    pub fn snapshot(&self) -> LinkSnapshot {
        let state = self.shared.lock();
        let counts = state.outbox.counts();
        let running = !matches!(state.phase, Phase::Ended(_));
        LinkSnapshot {
            running,
            connected: running && state.outbox.is_connected(),
            n_connections: state.n_connections,
            n_sent: counts.sent,
            n_acknowledged: counts.acknowledged,
            n_events_waiting: state.outbox.n_events(),
            n_events_dropped: counts.events_dropped,
            n_evidence_dropped: counts.evidence_dropped,
            n_refused: state.n_refused,
            last_error: state.last_error.clone(),
            spool_error: state.spool_error.clone(),
        }
    }

    /// Tries again to keep what could not be kept.
    pub fn retry_spool(&self) {
        self.shared.spool(|it| it.retry());
    }

    /// Waits for at most `timeout` until the broker accepts the connection; true when it has.
    pub fn wait_connected(&self, timeout: Duration) -> bool {
        self.shared.wait(timeout, |it| it.outbox.is_connected())
    }

    /// Waits for at most `timeout` until all events and retained values handed in so far are
    /// acknowledged and all evidence is written; true when they are.
    pub fn wait_drained(&self, timeout: Duration) -> bool {
        self.shared.wait(timeout, |it| it.outbox.is_drained())
    }

    /// Delivers what waits, says `offline`, and disconnects; for at most `grace`. A broker that
    /// cannot be reached at the next attempt is not waited for. Nothing handed in afterwards is
    /// delivered.
    pub fn close(&self, grace: Duration) -> CloseReport {
        self.advance(Phase::Closing);
        self.shared.wait(grace, |it| matches!(it.phase, Phase::Ended(_)));
        self.join();
        self.retry_spool();
        let state = self.shared.lock();
        CloseReport {
            disconnected: state.phase == Phase::Ended(true),
            n_events: state.outbox.n_events(),
            topics: state.outbox.unacknowledged().map(|it| it.name(&self.prefix)).collect(),
        }
    }

    fn advance(&self, phase: Phase) {
        let mut state = self.shared.lock();
        state.phase = state.phase.max(phase);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Ends the thread; it never waits for the network once told to abort.
    fn join(&self) {
        self.advance(Phase::Abort);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|it| it.join().is_err()) {
            tracing::error!("The MQTT thread panicked.");
        }
    }

    /// Makes a message of `payload`, unless its packet would be too large.
    fn message(&self, topic: Topic, payload: Vec<u8>) -> Option<Message> {
        let got = packet_len(&topic.name(&self.prefix), payload.len());
        if self.settings.max_packet_bytes < got {
            let (topic, max) = (topic.name(&self.prefix), self.settings.max_packet_bytes);
            tracing::warn!(topic, got, max, "Refused a message larger than max_packet_bytes.");
            self.shared.lock().n_refused += 1;
            return None;
        }
        Some(Message { topic, payload })
    }

    fn deliver(&self, decision: &Decision) -> Result<(), PublishError> {
        let (camera, classes) = (&decision.camera, &*decision.classes);
        let origin = self.origin(decision);
        let picture = decision.frame_name.as_deref();
        let snapshot = &decision.snapshot;

        // Everything is made before anything is queued: a bad decision leaves no half behind.
        let state = match decision.send_state {
            false => None,
            true => {
                let heartbeat = self.settings.heartbeat;
                let it = StatePayload::new(origin, classes, snapshot, picture, heartbeat)?;
                self.message(Topic::State(camera.clone()), to_json(&it)?)
            }
        };
        let event = match decision.change {
            None => None,
            Some(change) => {
                let payload = |replayed| event_payload(origin, decision, change, replayed);
                // `false` is the longer word.
                let message = self.message(Topic::Event(camera.clone()), payload(false)?);
                let (number, replay) = (decision.event, payload(true)?);
                message.map(|it| Event { number, topic: it.topic, payload: it.payload, replay })
            }
        };
        let evidence = match &decision.evidence {
            None => None,
            Some(it) => {
                let (state, reason) = (snapshot.state, snapshot.reason);
                let it = EvidencePayload::new(
                    classes,
                    it,
                    state,
                    reason,
                    Some(TOP_N),
                    decision.otherwise,
                )?;
                let it = EvidenceMessage::new(origin, camera.as_str(), picture, it);
                self.message(Topic::Evidence(camera.clone()), to_json(&it)?)
            }
        };

        let mut shared = self.shared.lock();
        if let Some(state) = state {
            shared.outbox.set(state);
        }
        let dropped = event.and_then(|it| shared.outbox.push_event(it));
        if let Some(evidence) = evidence {
            shared.outbox.push_evidence(evidence);
        }
        drop(shared);
        if let Some(number) = dropped {
            self.shared.forget(number);
        }
        self.shared.wake.notify_one();
        Ok(())
    }

    fn origin(&self, decision: &Decision) -> Origin<'_> {
        Origin { boot_id: &self.boot_id, seq: decision.seq, at: decision.at }
    }

    fn refuse(&self, camera: &Id, reason: &dyn std::fmt::Display) {
        tracing::error!(%camera, %reason, "A decision cannot be published.");
        self.shared.lock().n_refused += 1;
    }
}

impl Publish for Publisher {
    fn camera_status(&self, camera: &Id, status: CameraStatus) {
        if !self.cameras.contains(camera) {
            return self.refuse(camera, &"the camera was not named at the start");
        }
        let topic = Topic::CameraStatus(camera.clone());
        if let Some(message) = self.message(topic, camera_status(status).into()) {
            self.shared.lock().outbox.set(message);
            self.shared.wake.notify_one();
        }
    }

    fn keep(&self, decision: &Decision) {
        let Some(change) = decision.change else { return };
        // What cannot be sent is told when that is tried.
        let Ok(payload) = event_payload(self.origin(decision), decision, change, true) else {
            return;
        };
        let (number, camera) = (decision.event, decision.camera.clone());
        let payload = String::from_utf8_lossy(&payload).into_owned();
        let name = Topic::Event(camera.clone()).name(&self.prefix);
        if packet_len(&name, payload.len()) <= self.settings.max_packet_bytes {
            let event = WaitingEvent { number, camera, payload };
            self.shared.spool(|it| it.add(event).map(|()| true));
        }
    }

    fn decision(&self, decision: Decision) {
        if !self.cameras.contains(&decision.camera) {
            return self.refuse(&decision.camera, &"the camera was not named at the start");
        }
        if let Err(error) = self.deliver(&decision) {
            self.refuse(&decision.camera, &error);
        }
    }

    fn classes(&self, cameras: &BTreeMap<Id, Arc<ClassSet>>) {
        let at = Stamp::now(&*self.clock);
        match info_message(&self.settings, &self.boot_id, &self.info, cameras, at) {
            Ok(message) => {
                self.shared.lock().outbox.set(message);
                self.shared.wake.notify_one();
            }
            Err(error) => {
                tracing::error!(%error, "The info topic cannot be published.");
                self.shared.lock().n_refused += 1;
            }
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.join();
    }
}

/// Queues what an earlier run left.
fn take_up(shared: &Shared, settings: &MqttSettings, waiting: Vec<WaitingEvent>) {
    for WaitingEvent { number, camera, payload } in waiting {
        let topic = Topic::Event(camera);
        let name = topic.name(&settings.prefix());
        let (got, max) = (packet_len(&name, payload.len()), settings.max_packet_bytes);
        let given_up = if max < got {
            tracing::warn!(topic = name, got, max, "Refused an event of an earlier run.");
            shared.lock().n_refused += 1;
            Some(number)
        } else {
            let payload = payload.into_bytes();
            let event = Event { number, topic, replay: payload.clone(), payload };
            shared.lock().outbox.push_event(event)
        };
        if let Some(number) = given_up {
            shared.forget(number);
        }
    }
}

fn event_payload(
    origin: Origin<'_>,
    decision: &Decision,
    change: Change,
    replayed: bool,
) -> Result<Vec<u8>, PublishError> {
    let Decision { classes, snapshot, .. } = decision;
    to_json(&EventPayload::new(origin, classes, change, snapshot, replayed)?)
}

/// The `info` message, which has to fit into a packet.
fn info_message(
    settings: &MqttSettings,
    boot_id: &str,
    info: &NodeInfo,
    cameras: &BTreeMap<Id, Arc<ClassSet>>,
    at: Stamp,
) -> Result<Message, PublishError> {
    let payload = to_json(&InfoPayload::new(boot_id, at, info, cameras))?;
    let topic = Topic::Info;
    let got = packet_len(&topic.name(&settings.prefix()), payload.len());
    let max = settings.max_packet_bytes;
    if max < got {
        Err(PublishError::InfoTooLarge { got, max })
    } else {
        Ok(Message { topic, payload })
    }
}

fn to_json(payload: &impl Serialize) -> Result<Vec<u8>, PublishError> {
    Ok(serde_json::to_vec(payload)?)
}
