//! Stand-ins for the outside world: a clock that is told the time, a publisher that remembers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lookout_core::{
    CameraStatus, Class, ClassEmbeddings, ClassKind, ClassSet, Classifier, Clock, Decider,
    Decision, DecisionRules, Embedding, Frame, Id, LogitScale, Picture, Publish, Scales, Stop,
    Weighting,
};

use crate::{CameraCounters, GateRules, Track, TrackSettings};

/// Waiting advances it; nothing really waits.
#[derive(Default)]
pub(crate) struct SimulatedClock(Mutex<Duration>);

impl SimulatedClock {
    pub(crate) fn set(&self, now: Duration) {
        *self.0.lock().unwrap() = now;
    }
}

impl Clock for SimulatedClock {
    fn monotonic(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn wall(&self) -> Option<Duration> {
        None
    }

    fn wait(&self, stop: &Stop, timeout: Duration) -> bool {
        *self.0.lock().unwrap() += timeout;
        stop.is_requested()
    }
}

#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) statuses: Mutex<Vec<CameraStatus>>,
    pub(crate) decisions: Mutex<Vec<Decision>>,
}

impl Publish for Recorder {
    fn camera_status(&self, _: &Id, status: CameraStatus) {
        self.statuses.lock().unwrap().push(status);
    }

    fn decision(&self, decision: Decision) {
        self.decisions.lock().unwrap().push(decision);
    }
}

pub(crate) fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

/// `cat` and `dog`, whose embeddings are the two axes.
pub(crate) fn classes() -> ClassSet {
    let class = |name: &str| Class {
        id: id(name),
        kind: ClassKind::Label,
        name: name.to_owned(),
        aliases: vec![],
        prompts: vec![],
        enter: None,
    };
    ClassSet::new(vec!["{}".to_owned()], vec![class("cat"), class("dog")]).unwrap()
}

pub(crate) fn axis(angle: f32) -> Embedding {
    Embedding::normalize(vec![angle.cos(), angle.sin()]).unwrap()
}

/// A gray frame; the test's encoder reads the class from its luma.
pub(crate) fn frame(luma: u8, captured_at: Duration) -> Frame {
    let picture = Picture::new(1, 1, vec![luma; 3]).unwrap();
    Frame { picture, captured_at, name: None }
}

/// A track of [`classes`] that decides by each frame alone and is stale after 10 s.
pub(crate) fn track(camera: &str, luma_change: f64, counters: &Arc<CameraCounters>) -> Track {
    let scale = LogitScale::from_linear(10.0).unwrap();
    let scales = Scales { image: scale, caption: scale, bias: None };
    let embeddings = ClassEmbeddings::new(vec![axis(0.0), axis(1.5)]).unwrap();
    let second = Duration::from_secs(1);
    let rules = DecisionRules {
        enter: 0.6,
        margin: 0.1,
        exit: 0.5,
        smoothing: Duration::ZERO,
        dwell: Duration::ZERO,
        cooldown: Duration::ZERO,
        stale_after: second * 10,
    };
    Track::new(TrackSettings {
        camera: id(camera),
        classifier: Classifier::new(embeddings, scales, Weighting::Memoryless, 16),
        decider: Decider::new(rules, &classes(), Duration::ZERO).unwrap(),
        gate: GateRules { luma_change, interval: second * 60 },
        max_age: second,
        heartbeat: second * 30,
        counters: Arc::clone(counters),
    })
}
