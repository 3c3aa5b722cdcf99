//! Payloads as text, delivery against a scripted broker, and delivery to mosquitto.

mod delivery;
mod mosquitto;
mod payloads;
mod real;
mod rules;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lookout_core::{
    AdaptationMode, Adapted, Change, Class, ClassKind, ClassSet, Clock, Decision, Disposition,
    Distribution, Embedding, Evidence, Id, LastKnown, Outcome, PortError, Publish, Reason,
    Recalled, Retrieved, Snapshot, Spool, Stamp, State, Stop, Taught, WaitingEvent, Weights, When,
};

use crate::payload::{IndexInfo, ModelInfo, NodeInfo};
use crate::{MqttSettings, Publisher};

/// Far more than any step takes.
const LONG: Duration = Duration::from_secs(20);

/// Stands still: nothing here is decided by the time of day.
struct StillClock;

impl Clock for StillClock {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(61_500)
    }

    fn wall(&self) -> Option<Duration> {
        Some(Duration::from_millis(1_764_000_000_250))
    }

    fn wait(&self, stop: &Stop, timeout: Duration) -> bool {
        stop.wait_timeout(timeout)
    }
}

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

/// A car whose name holds what could break JSON, a person, and an empty scene.
fn classes() -> ClassSet {
    let class = |class_id: &str, kind, name: &str| Class {
        id: id(class_id),
        kind,
        name: name.to_owned(),
        aliases: vec![],
        prompts: vec![],
        enter: None,
    };
    let classes = vec![
        class("car", ClassKind::Label, "a \"red\"\n\u{7}car"),
        class("person", ClassKind::Label, "a person"),
        class("empty", ClassKind::Negative, "an empty scene"),
    ];
    ClassSet::new(vec!["{}".to_owned()], classes).unwrap()
}

fn cameras() -> BTreeMap<Id, Arc<ClassSet>> {
    BTreeMap::from([(id("door"), Arc::new(classes()))])
}

fn info() -> NodeInfo {
    NodeInfo {
        version: "1.2.3".to_owned(),
        model: ModelInfo {
            name: "starter".to_owned(),
            space: "space-1".to_owned(),
            run_by: "an abacus".to_owned(),
        },
        index: Some(IndexInfo { file: "captions.idx".to_owned(), n_entries: 3 }),
    }
}

fn evidence(caption: &str) -> Evidence {
    let distribution = |logits: [f64; 3]| Distribution::softmax(&logits).unwrap();
    Evidence {
        cosines: vec![0.25, 0.125, 0.0],
        sigmas: vec![Some(4.5), None, Some(-0.25)],
        familiarity: Some(0.625),
        image: distribution([2.0, 1.0, 0.0]),
        matches: Some(vec![0.75, 0.125, 0.5]),
        captions: Some(distribution([3.0, 0.0, 0.0])),
        retrieved: vec![Retrieved {
            text: caption.to_owned(),
            embedding: Embedding::normalize(vec![1.0, 0.0]).unwrap(),
            similarity: 0.25,
        }],
        weights: Weights { image: 0.25, captions: 0.75 },
        taught: Some(Taught {
            distribution: distribution([0.0, 4.0, 0.0]),
            weight: 0.5,
            recalled: vec![Recalled {
                number: 3,
                text: "our \"red\" car".to_owned(),
                embedding: Embedding::normalize(vec![1.0, 0.0]).unwrap(),
                similarity: 0.97,
                reach: 0.75,
            }],
        }),
        adapted: Some(Adapted {
            mode: AdaptationMode::Shadow,
            without: distribution([2.75, 0.25, 0.0]),
            with: distribution([2.75, 2.25, 0.0]),
            n_kept: 4,
            drift: 0.125,
        }),
        fused: distribution([2.75, 0.25, 0.0]),
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        state: State::Label(0),
        score: Some(0.75),
        margin: Some(0.5),
        sigma: Some(4.25),
        reason: None,
        since: Duration::from_secs(60),
        last_known: Some(LastKnown { class: 2, at: When::Here(Duration::from_millis(60_250)) }),
    }
}

fn stamp() -> Stamp {
    Stamp::now(&StillClock)
}

/// A decision with a change of state, an event and evidence.
fn decision(seq: u64) -> Decision {
    Decision {
        camera: id("door"),
        seq,
        at: stamp(),
        classes: Arc::new(classes()),
        frame_name: Some("a.jpg".to_owned()),
        evidence: Some(evidence("a car on a road")),
        snapshot: snapshot(),
        send_state: true,
        change: Some(Change { from: Outcome::Unknown, to: Outcome::Class(0) }),
        event: seq,
        otherwise: Some(State::Label(1)),
    }
}

/// A decision that makes an event and nothing else.
fn event(seq: u64) -> Decision {
    Decision { evidence: None, send_state: false, ..decision(seq) }
}

impl Publisher {
    /// As the link does with what is acknowledged.
    fn forget(&self, number: u64) {
        self.shared.forget(number);
    }
}

/// Hands over such an event as the pipeline does.
fn tell(publisher: &Publisher, seq: u64) {
    publisher.keep(&event(seq));
    publisher.decision(event(seq));
}

fn settings(port: u16) -> MqttSettings {
    MqttSettings {
        max_retry_wait: Duration::from_secs(1),
        ..MqttSettings::new("localhost", port, "n1")
    }
}

/// A spool that outlives its publisher, and may fail.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<(Vec<WaitingEvent>, bool)>>);

impl Shelf {
    fn ids(&self) -> Vec<u64> {
        self.waiting().iter().map(|it| it.number).collect()
    }

    fn set_failing(&self, is_failing: bool) {
        self.0.lock().unwrap().1 = is_failing;
    }

    fn result(&self) -> Result<(), PortError> {
        match self.0.lock().unwrap().1 {
            true => Err(PortError::new(Disposition::SkipFrame, "the disk is full")),
            false => Ok(()),
        }
    }
}

impl Spool for Shelf {
    fn waiting(&self) -> Vec<WaitingEvent> {
        self.0.lock().unwrap().0.clone()
    }

    fn add(&mut self, event: WaitingEvent) -> Result<(), PortError> {
        self.0.lock().unwrap().0.push(event);
        self.result()
    }

    fn remove(&mut self, number: u64) -> Result<(), PortError> {
        self.0.lock().unwrap().0.retain(|it| it.number != number);
        self.result()
    }

    fn retry(&mut self) -> Result<bool, PortError> {
        self.result().map(|()| true)
    }
}

fn start_with(settings: MqttSettings, shelf: &Shelf) -> Publisher {
    let spool = Some(Box::new(shelf.clone()) as Box<dyn Spool>);
    Publisher::start(settings, &info(), cameras(), Arc::new(StillClock), spool).unwrap()
}

fn start(settings: MqttSettings) -> Publisher {
    Publisher::start(settings, &info(), cameras(), Arc::new(StillClock), None).unwrap()
}

/// A reason, so that every one is spelled somewhere.
const REASONS: [Reason; 7] = [
    Reason::Gated,
    Reason::LowScore,
    Reason::LowMargin,
    Reason::Background,
    Reason::Dwell,
    Reason::Cooldown,
    Reason::Removed,
];
