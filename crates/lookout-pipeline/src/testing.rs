//! Stand-ins for the outside world: a clock that is told the time, a publisher that remembers.

use std::sync::Mutex;
use std::time::Duration;

use lookout_core::{
    CameraStatus, Class, ClassKind, ClassSet, Clock, Decision, Embedding, Frame, Id, Picture,
    Publish, Stop,
};

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
