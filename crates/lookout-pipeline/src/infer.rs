//! The infer stage: owns encoder and index, and decides for every camera.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::Sender;
use lookout_core::{
    CaptionSearch, ClassSet, Clock, Decision, Disposition, Frame, Id, ImageEncoder, LessonRecall,
    PortError, Publish, Recalled, Stamp,
};

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
        loop {
            for track in &mut self.tracks {
                if let Some(decision) = track.tick(Stamp::now(self.clock.as_ref())) {
                    self.publish.decision(decision);
                }
            }
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
                Taken::Closed => return Ok(()),
            }
        }
    }

    fn relabel(&mut self, labels: NewLabels) {
        let NewLabels { mut tracks, classes, done } = labels;
        let at = Stamp::now(self.clock.as_ref());
        self.publish.classes(&classes);
        for track in &mut self.tracks {
            let Some(labels) = tracks.remove(&track.camera) else { continue };
            for decision in track.relabel(at, labels) {
                self.publish.decision(decision);
            }
        }
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
            self.publish.decision(decision);
            return Ok(());
        }
        match self.evaluate(camera_idx, frame) {
            Ok(decision) => {
                counters.evaluated.fetch_add(1, Relaxed);
                self.publish.decision(decision);
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
mod tests {
    use super::*;
    use crate::testing::{Recorder, SimulatedClock, axis, classes, frame, id, settings_of, track};
    use crate::{CameraCounters, TrackSettings, mailboxes};
    use lookout_core::{Candidate, Embedding, Picture, State};

    /// Luma 0 is a cat, 1 a dog, 2 unreadable; anything else can never be encoded.
    struct ByLuma;

    impl ImageEncoder for ByLuma {
        fn encode_image(&mut self, picture: &Picture) -> Result<Embedding, PortError> {
            match picture.rgb()[0] {
                0 => Ok(axis(0.0)),
                1 => Ok(axis(1.5)),
                2 => Err(PortError::new(Disposition::SkipFrame, "unreadable")),
                _ => Err(PortError::new(Disposition::Fatal, "broken encoder")),
            }
        }
    }

    /// Says "dog" of everything.
    struct Dogs;

    impl CaptionSearch for Dogs {
        fn search(&mut self, _: &Embedding, n: usize) -> Result<Vec<Candidate>, PortError> {
            let dog = |i: usize| Candidate {
                text: format!("dog {i}"),
                embedding: axis(1.5),
                key_similarity: 0.5,
            };
            Ok((0..n).map(dog).collect())
        }
    }

    /// Knows one lesson from its second refresh on; the first one fails.
    struct Lesson(u32);

    impl LessonRecall for Lesson {
        fn refresh(&mut self) -> Result<bool, PortError> {
            self.0 += 1;
            match self.0 {
                1 => Err(PortError::new(Disposition::SkipFrame, "damaged")),
                it => Ok(it == 2),
            }
        }

        fn recall(&self, _: &Embedding) -> Vec<Recalled> {
            let dog = Recalled {
                number: 1,
                text: "a dog".to_owned(),
                embedding: axis(1.5),
                similarity: 1.0,
                reach: 1.0,
            };
            if self.0 < 2 { vec![] } else { vec![dog] }
        }
    }

    fn run(
        frames: Vec<Frame>,
        captions: Option<Box<dyn CaptionSearch>>,
        lessons: Option<Box<dyn LessonRecall>>,
    ) -> (Result<(), String>, Vec<Decision>, crate::Counts) {
        let counters = Arc::new(CameraCounters::default());
        let publish = Arc::new(Recorder::default());
        let clock = Arc::new(SimulatedClock::default());
        clock.set(Duration::from_secs(100));
        let names = ["a", "b", "c", "d", "e"];
        let (senders, receiver) = mailboxes(frames.len());
        let tracks = names.iter().take(frames.len()).map(|it| track(it, 0.0, &counters)).collect();
        for (sender, frame) in senders.iter().zip(frames) {
            sender.put(frame);
        }
        drop(senders);
        let stage = InferStage {
            encoder: Box::new(ByLuma),
            captions,
            n_candidates: 4,
            lessons,
            tracks,
            publish: Arc::clone(&publish) as Arc<dyn Publish>,
            clock,
            busy: Arc::default(),
        };
        let result = stage.run(&receiver).map_err(|error| error.to_string());
        let decisions = std::mem::take(&mut *publish.decisions.lock().unwrap());
        let evaluated = decisions.into_iter().filter(|it| it.evidence.is_some()).collect();
        (result, evaluated, counters.counts())
    }

    #[test]
    fn fresh_frames_are_decided_and_bad_ones_skipped() {
        let now = Duration::from_secs(100);
        let old = now - Duration::from_secs(2);
        let frames = vec![frame(0, now), frame(2, now), frame(1, old), frame(1, now)];
        let (result, decisions, counts) = run(frames, None, None);
        assert_eq!(result, Ok(()));
        let states: Vec<(&str, State)> =
            decisions.iter().map(|it| (it.camera.as_str(), it.snapshot.state)).collect();
        assert_eq!(states, [("a", State::Label(0)), ("d", State::Label(1))]);
        assert_eq!((counts.evaluated, counts.skipped, counts.aged), (2, 1, 1));
    }

    #[test]
    fn captions_take_part() {
        let now = Duration::from_secs(100);
        let (_, decisions, _) = run(vec![frame(0, now)], Some(Box::new(Dogs)), None);
        let evidence = decisions[0].evidence.as_ref().unwrap();
        assert_eq!(evidence.retrieved.len(), 4);
        assert_eq!(evidence.captions.as_ref().unwrap().top().0, 1);
        assert_eq!(decisions[0].snapshot.state, State::Unknown, "two sure voices disagree");
    }

    /// A cat, then labels that have none; the encoder tells when it is asked.
    struct Relabelling {
        labels: crate::LabelSender,
        new: Option<NewLabels>,
    }

    impl ImageEncoder for Relabelling {
        fn encode_image(&mut self, picture: &Picture) -> Result<Embedding, PortError> {
            // They arrive while a frame is worked on.
            if let Some(new) = self.new.take() {
                self.labels.put(new);
            }
            ByLuma.encode_image(picture)
        }
    }

    #[test]
    fn labels_change_between_two_frames_for_all_cameras_at_once() {
        let counters = Arc::new(CameraCounters::default());
        let publish = Arc::new(Recorder::default());
        let clock = Arc::new(SimulatedClock::default());
        let now = Duration::from_secs(100);
        clock.set(now);
        let (senders, receiver) = mailboxes(3);
        let tracks = ["a", "b", "c"].map(|it| track(it, 0.0, &counters)).into();
        for sender in &senders {
            sender.put(frame(0, now));
        }
        drop(senders);
        let fresh = |camera: &str| {
            let TrackSettings { classifier, decider, .. } = settings_of(&["fox", "hen"], now);
            (id(camera), Labels { classifier: Some(classifier), decider })
        };
        let (done, is_done) = crossbeam_channel::bounded(1);
        let new = NewLabels {
            tracks: ["a", "b"].map(fresh).into(),
            classes: BTreeMap::from([(id("a"), classes(&["fox", "hen"]))]),
            done,
        };
        let stage = InferStage {
            encoder: Box::new(Relabelling { labels: receiver.label_sender(), new: Some(new) }),
            captions: None,
            n_candidates: 4,
            lessons: None,
            tracks,
            publish: Arc::clone(&publish) as Arc<dyn Publish>,
            clock,
            busy: Arc::default(),
        };
        stage.run(&receiver).unwrap();
        assert!(is_done.try_recv().is_ok());
        let first_id = |it: &Decision| it.classes.classes()[0].id.to_string();
        let told: Vec<String> = publish
            .decisions
            .lock()
            .unwrap()
            .iter()
            .filter(|it| it.evidence.is_some() || it.change.is_some())
            .map(|it| {
                let kind = if it.evidence.is_some() { "frame" } else { "end" };
                format!("{} {kind} {}", it.camera, first_id(it))
            })
            .collect();
        let expected = ["a frame cat", "a end cat", "b frame fox", "c frame cat"];
        assert_eq!(told, expected);
        // Three first states and a frame, then the new classes.
        assert_eq!(*publish.relabelled_at.lock().unwrap(), [4]);
    }

    #[test]
    fn a_lesson_corrects_from_the_next_frame_on() {
        let now = Duration::from_secs(100);
        let frames = vec![frame(0, now), frame(0, now), frame(0, now)];
        let (result, decisions, _) = run(frames, None, Some(Box::new(Lesson(0))));
        assert_eq!(result, Ok(()), "what cannot be read is told and ends nothing");
        let states: Vec<State> = decisions.iter().map(|it| it.snapshot.state).collect();
        assert_eq!(states, [State::Label(0), State::Label(1), State::Label(1)]);
        let taught = decisions[1].evidence.as_ref().unwrap().taught.as_ref().unwrap();
        assert_eq!(taught.recalled[0].text, "a dog");
    }

    #[test]
    fn a_fatal_error_ends_the_stage() {
        let (result, decisions, _) = run(vec![frame(9, Duration::from_secs(100))], None, None);
        assert_eq!(result, Err("broken encoder".to_owned()));
        assert!(decisions.is_empty());
    }

    #[test]
    fn busy_tells_work_from_waiting() {
        let busy = Busy::default();
        let at = Duration::from_secs;
        assert_eq!(busy.busy_for(at(5)), None);
        busy.set(Some(at(5)));
        assert_eq!(busy.busy_for(at(7)), Some(at(2)));
        busy.set(None);
        assert_eq!(busy.busy_for(at(7)), None);
    }
}
