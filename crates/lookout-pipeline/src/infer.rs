//! The infer stage: owns encoder and index, and decides for every camera.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::Sender;
use lookout_core::{
    CaptionSearch, ClassSet, Clock, Decision, Disposition, Frame, Id, ImageEncoder, LessonRecall,
    PortError, Publish, Recalled, Remember, Stamp,
};

use crate::kept::Told;
use crate::{FrameReceiver, Labels, StageError, Taken, Track};

/// Evaluates the newest frame of each camera in turn until the cameras are gone.
pub struct InferStage {
    /// Pictures to embeddings.
    pub encoder: Box<dyn ImageEncoder>,
    /// Embeddings to captions; `None`: the image alone decides.
    pub captions: Option<Box<dyn CaptionSearch>>,
    /// N, the candidates asked of the index.
    pub n_candidates: usize,
    /// What was taught; `None`: nothing can be.
    pub lessons: Option<Box<dyn LessonRecall>>,
    /// Keeps what was said; `None`: the next run knows nothing of this one.
    pub memory: Option<Box<dyn Remember>>,
    /// The number of the last event of all runs; 0: there was none.
    pub n_events: u64,
    /// One a camera, in the order of the mailboxes.
    pub tracks: Vec<Track>,
    /// Where decisions go.
    pub publish: Arc<dyn Publish>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Tells the supervisor whether a frame is being worked on.
    pub busy: Arc<Busy>,
}

/// Labels to go on with between two frames, all cameras at once.
#[derive(Debug)]
pub struct NewLabels {
    /// For the tracks whose labels or rules have changed; the others go on as they are.
    pub tracks: BTreeMap<Id, Labels>,
    /// The classes of every camera from then on.
    pub classes: BTreeMap<Id, Arc<ClassSet>>,
    /// Told when it is done, and gone without a word where it never will be.
    pub done: Sender<()>,
}

/// Since when a stage has been working on one frame. Waiting for a camera is not busy.
#[derive(Debug, Default)]
pub struct Busy(AtomicU64);

impl Busy {
    /// How long the current frame has taken at `now`; `None` when the stage is waiting.
    pub fn busy_for(&self, now: Duration) -> Option<Duration> {
        match self.0.load(Relaxed) {
            0 => None,
            since => Some(now.saturating_sub(Duration::from_nanos(since))),
        }
    }

    fn set(&self, since: Option<Duration>) {
        let nanos = since.map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX).max(1));
        self.0.store(nanos, Relaxed);
    }
}

impl InferStage {
    /// Runs until every camera's sender is gone, or until nothing later can succeed.
    pub fn run(mut self, frames: &FrameReceiver) -> Result<(), StageError> {
        self.memory = self.memory.map(|it| Box::new(Told::of(it)) as Box<dyn Remember>);
        let at = Stamp::now(self.clock.as_ref());
        let first = self.tracks.iter_mut().flat_map(|it| it.begin(at)).collect();
        self.tell(first);
        loop {
            let at = Stamp::now(self.clock.as_ref());
            let ticked = self.tracks.iter_mut().filter_map(|it| it.tick(at)).collect();
            self.tell(ticked);
            let now = self.clock.monotonic();
            let next_due = self.tracks.iter().map(Track::next_due).min();
            match frames.take(next_due.map(|it| it.saturating_sub(now))) {
                Taken::Frame(camera_idx, frame) => {
                    self.busy.set(Some(self.clock.monotonic()));
                    let result = self.frame(camera_idx, frame);
                    self.busy.set(None);
                    result?;
                }
                Taken::Labels(labels) => self.relabel(labels),
                Taken::TimedOut => {}
                Taken::Closed => {
                    self.keep();
                    return Ok(());
                }
            }
        }
    }

    /// Publishes. An event is kept before, and after it what was said up to it: it counts from then on, so that
    /// a program that is killed in between neither loses it nor says it twice.
    fn tell(&mut self, mut decisions: Vec<Decision>) {
        let mut has_event = false;
        for decision in decisions.iter_mut().filter(|it| it.change.is_some()) {
            self.n_events = self.n_events.saturating_add(1);
            decision.event = self.n_events;
            if let Some(track) = self.tracks.iter_mut().find(|it| it.camera == decision.camera) {
                track.last_event = decision.event;
            }
            self.publish.keep(decision);
            has_event = true;
        }
        if has_event {
            self.keep();
        }
        for decision in decisions {
            self.publish.decision(decision);
        }
    }

    fn keep(&mut self) {
        let Some(memory) = &mut self.memory else { return };
        let at = Stamp::now(self.clock.as_ref());
        let of = |it: &Track| (it.camera.clone(), it.memory(at));
        if let Err(error) = memory.remember(&self.tracks.iter().map(of).collect()) {
            tracing::debug!(%error, "Not kept.");
        }
    }

    fn relabel(&mut self, labels: NewLabels) {
        let NewLabels { mut tracks, classes, done } = labels;
        let at = Stamp::now(self.clock.as_ref());
        self.publish.classes(&classes);
        let mut decisions = Vec::new();
        for track in &mut self.tracks {
            if let Some(labels) = tracks.remove(&track.camera) {
                decisions.extend(track.relabel(at, labels));
            }
        }
        self.tell(decisions);
        if done.try_send(()).is_err() {
            tracing::debug!("Nobody waits for the new labels.");
        }
    }

    fn frame(&mut self, camera_idx: usize, frame: Frame) -> Result<(), StageError> {
        self.learn();
        let at = Stamp::now(self.clock.as_ref());
        let track = &mut self.tracks[camera_idx];
        let counters = Arc::clone(&track.counters);
        if track.max_age < at.mono.saturating_sub(frame.captured_at) {
            // Its label would describe a scene that has gone.
            counters.aged.fetch_add(1, Relaxed);
            return Ok(());
        }
        if let Some(decision) = track.gate(at, &frame.picture) {
            counters.gated.fetch_add(1, Relaxed);
            self.tell(vec![decision]);
            return Ok(());
        }
        match self.evaluate(camera_idx, frame) {
            Ok(decision) => {
                counters.evaluated.fetch_add(1, Relaxed);
                self.tell(vec![decision]);
                Ok(())
            }
            Err(error) if error.disposition == Disposition::Fatal => Err(Box::new(error)),
            Err(error) => {
                let Track { camera, skips, .. } = &mut self.tracks[camera_idx];
                if skips.is_first(&error.to_string()) {
                    tracing::warn!(%camera, %error, "Frame skipped; said once.");
                }
                counters.skipped.fetch_add(1, Relaxed);
                Ok(())
            }
        }
    }

    /// Takes up new lessons. They may change what a still scene is called.
    fn learn(&mut self) {
        match self.lessons.as_mut().map(|it| it.refresh()) {
            None | Some(Ok(false)) => {}
            Some(Ok(true)) => self.tracks.iter_mut().for_each(Track::look_again),
            Some(Err(error)) => tracing::error!("What was taught stays as it was: {error}"),
        }
    }

    fn evaluate(&mut self, camera_idx: usize, frame: Frame) -> Result<Decision, PortError> {
        let embedding = self.encoder.encode_image(&frame.picture)?;
        let candidates = match &mut self.captions {
            Some(index) => index.search(&embedding, self.n_candidates)?,
            None => Vec::new(),
        };
        let recalled: Vec<Recalled> =
            self.lessons.as_ref().map_or_else(Vec::new, |it| it.recall(&embedding));
        let at = Stamp::now(self.clock.as_ref());
        let track = &mut self.tracks[camera_idx];
        let decision = track.observe(at, frame.name, &embedding, candidates, recalled);
        // Dimensions were compared at the start, so no later frame can do better.
        decision.map_err(|error| PortError::new(Disposition::Fatal, error))
    }
}

#[cfg(test)]
mod tests;
