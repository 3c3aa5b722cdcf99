//! Stand-ins for the outside world: a clock that is told the time, a publisher that remembers.

use std::collections::BTreeMap;
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
    /// The numbers of events that were to be kept, and how many decisions had been told before each.
    pub(crate) kept: Mutex<Vec<(u64, usize)>>,
    /// The number of decisions before each change of the classes.
    pub(crate) relabelled_at: Mutex<Vec<usize>>,
}

impl Publish for Recorder {
    fn camera_status(&self, _: &Id, status: CameraStatus) {
        self.statuses.lock().unwrap().push(status);
    }

    fn keep(&self, decision: &Decision) {
        let n_decisions = self.decisions.lock().unwrap().len();
        self.kept.lock().unwrap().push((decision.event, n_decisions));
    }

    fn decision(&self, decision: Decision) {
        self.decisions.lock().unwrap().push(decision);
    }

    fn classes(&self, _: &BTreeMap<Id, Arc<ClassSet>>) {
        let n_decisions = self.decisions.lock().unwrap().len();
        self.relabelled_at.lock().unwrap().push(n_decisions);
    }
}

pub(crate) fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

pub(crate) fn classes(ids: &[&str]) -> Arc<ClassSet> {
    let class = |name: &str| Class {
        id: id(name),
        kind: ClassKind::Label,
        name: name.to_owned(),
        aliases: vec![],
        prompts: vec![],
        enter: None,
    };
    let classes = ids.iter().map(|it| class(it)).collect();
    Arc::new(ClassSet::new(vec!["{}".to_owned()], classes).unwrap())
}

pub(crate) fn axis(angle: f32) -> Embedding {
    Embedding::normalize(vec![angle.cos(), angle.sin()]).unwrap()
}

fn embedding(id: &str) -> Embedding {
    axis(if ["cat", "car", "fox"].contains(&id) { 0.0 } else { 1.5 })
}

/// A gray frame; the test's encoder reads the class from its luma.
pub(crate) fn frame(luma: u8, captured_at: Duration) -> Frame {
    let picture = Picture::new(1, 1, vec![luma; 3]).unwrap();
    Frame { picture, captured_at, name: None }
}

/// A track of `cat` and `dog`; see [`settings_of`].
pub(crate) fn track(camera: &str, luma_change: f64, counters: &Arc<CameraCounters>) -> Track {
    let settings = settings_of(&["cat", "dog"], Duration::ZERO);
    Track::new(TrackSettings {
        camera: id(camera),
        gate: GateRules { luma_change, ..settings.gate },
        counters: Arc::clone(counters),
        ..settings
    })
}

/// Of two classes: `cat`, `car` and `fox` lie on one axis, all others on the other one. Decides by each frame alone and is stale
/// after 10 s.
pub(crate) fn settings_of(ids: &[&str], now: Duration) -> TrackSettings {
    let scale = LogitScale::from_linear(10.0).unwrap();
    let scales = Scales { image: scale, caption: scale, bias: None };
    let embeddings = ClassEmbeddings::new(ids.iter().map(|it| embedding(it)).collect()).unwrap();
    let second = Duration::from_secs(1);
    let rules = DecisionRules {
        enter: 0.6,
        margin: 0.1,
        exit: 0.5,
        sigmas: None,
        familiarity: None,
        smoothing: Duration::ZERO,
        dwell: Duration::ZERO,
        cooldown: Duration::ZERO,
        stale_after: second * 10,
    };
    TrackSettings {
        camera: id("yard"),
        classifier: Classifier::new(embeddings, scales, Weighting::Memoryless, 16),
        decider: Decider::new(rules, classes(ids), now).unwrap(),
        gate: GateRules { luma_change: 0.0, interval: second * 60 },
        max_age: second,
        heartbeat: second * 30,
        counters: Arc::default(),
        earlier: Default::default(),
    }
}
