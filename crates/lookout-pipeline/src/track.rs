//! One camera's way from an image embedding to a decision.

use std::sync::Arc;
use std::time::Duration;

use lookout_core::{
    Background, CameraMemory, Candidate, Change, Classifier, ClassifyError, Decider, Decision,
    Embedding, Evidence, Id, Means, Memory, Picture, Recalled, Snapshot, Stamp, State,
};

use crate::CameraCounters;
use crate::gate::{Gate, GateRules};
use crate::repeats::Repeats;

/// What a camera's [`Track`] is made of.
pub struct TrackSettings {
    /// The camera.
    pub camera: Id,
    /// Makes evidence of its frames.
    pub classifier: Classifier,
    /// Decides on it.
    pub decider: Decider,
    /// Skips still scenes.
    pub gate: GateRules,
    /// A frame older than this when its turn comes is dropped.
    pub max_age: Duration,
    /// The state is sent at least this often.
    pub heartbeat: Duration,
    /// Shared with the camera's stage.
    pub counters: Arc<CameraCounters>,
    /// What an earlier run left.
    pub earlier: Earlier,
}

/// What an earlier run of a camera left.
#[derive(Clone, Debug, Default)]
pub struct Earlier {
    /// What it said.
    pub said: Memory,
    /// Its history of fusion, where that was over the same classes.
    pub means: Option<Means>,
    /// The number of its last event; 0: there was none.
    pub last_event: u64,
}

/// What takes the place of a track's labels, all of it at once.
#[derive(Debug)]
pub struct Labels {
    /// Makes evidence over the classes of `decider`; `None`: they are the ones in use.
    pub classifier: Option<Classifier>,
    /// What is known of the scene's background, over the classes of `decider`.
    pub background: Background,
    /// Decides on it, by its own rules.
    pub decider: Decider,
}

/// The state of one camera's decisions.
pub struct Track {
    pub(crate) camera: Id,
    pub(crate) max_age: Duration,
    pub(crate) counters: Arc<CameraCounters>,
    pub(crate) skips: Repeats,
    pub(crate) last_event: u64,
    classifier: Classifier,
    decider: Decider,
    /// Decides as it would be in the other mode of adaptation.
    otherwise: Option<Decider>,
    gate: Gate,
    heartbeat: Duration,
    seq: u64,
    sent: Option<(State, Duration)>,
    memory: Memory,
}

impl Track {
    /// Nothing was seen or sent yet.
    pub fn new(settings: TrackSettings) -> Self {
        let TrackSettings {
            camera,
            mut classifier,
            decider,
            gate,
            max_age,
            heartbeat,
            counters,
            earlier: Earlier { said, means, last_event },
        } = settings;
        if let Some(means) = means {
            classifier.go_on_from(means);
        }
        Self {
            camera,
            max_age,
            counters,
            skips: Repeats::default(),
            last_event,
            otherwise: classifier.is_adapting().then(|| decider.clone()),
            classifier,
            decider,
            gate: Gate::new(gate),
            heartbeat,
            seq: 0,
            sent: None,
            memory: said,
        }
    }

    /// Takes up what an earlier run said; see [`Decider::remembering`]. To be published: the end of a
    /// class that is gone, and the first state.
    pub fn begin(&mut self, at: Stamp) -> Vec<Decision> {
        let memory = std::mem::take(&mut self.memory);
        let Some(old) = Decider::remembering(self.decider.rules(), &memory, at) else {
            return Vec::new();
        };
        if let Some(otherwise) = &mut self.otherwise {
            otherwise.clone_from(&old);
        }
        let new = std::mem::replace(&mut self.decider, old);
        self.hand_over(at, new)
    }

    /// What the next run is to know, at `at`.
    pub fn memory(&self, at: Stamp) -> CameraMemory {
        CameraMemory {
            said: self.decider.memory(at),
            means: self.classifier.means(),
            classes: Arc::clone(self.decider.classes()),
            last_event: self.last_event,
        }
    }

    /// Decides without evaluating `picture` if it shows nothing new; `None`: evaluate it.
    pub fn gate(&mut self, at: Stamp, picture: &Picture) -> Option<Decision> {
        if !self.gate.is_still(picture, at.mono) {
            return None;
        }
        // Neither machine is stepped unless both are content with what they have.
        let mut otherwise = self.otherwise.clone();
        if let Some(it) = &mut otherwise {
            it.gated(at.mono)?;
        }
        let (snapshot, change) = self.decider.gated(at.mono)?;
        self.otherwise = otherwise;
        Some(self.decision(at, None, None, snapshot, change))
    }

    /// Has the next frame evaluated, however still the scene is.
    pub fn look_again(&mut self) {
        self.gate.forget();
    }

    /// Decides on an evaluated frame.
    pub fn observe(
        &mut self,
        at: Stamp,
        frame_name: Option<String>,
        embedding: &Embedding,
        candidates: Vec<Candidate>,
        recalled: Vec<Recalled>,
    ) -> Result<Decision, ClassifyError> {
        let evidence = self.classifier.classify(embedding, candidates, recalled)?;
        let (snapshot, change) = self.decider.observe(at.mono, evidence.observation());
        if let (Some(decider), Some(seen)) = (&mut self.otherwise, evidence.otherwise()) {
            decider.observe(at.mono, seen);
        }
        // By this frame itself as by the mean over time, and without what adaptation adds.
        let verdict = self.decider.judge(evidence.unadapted_observation());
        if let (State::Label(class) | State::None(class), Some(accepted)) =
            (snapshot.state, verdict.accepted)
            && class == accepted
        {
            self.classifier.accepted(embedding, class, &evidence);
        }
        Ok(self.decision(at, frame_name, Some(evidence), snapshot, change))
    }

    /// What time alone has to say: the first state, stale, or a heartbeat.
    pub fn tick(&mut self, at: Stamp) -> Option<Decision> {
        let snapshot = self.decider.tick(at.mono);
        if let Some(otherwise) = &mut self.otherwise {
            otherwise.tick(at.mono);
        }
        self.has_to_send(at.mono, snapshot.state)
            .then(|| self.decision(at, None, None, snapshot, None))
    }

    /// Goes on with other labels; see [`Decider::take_over`]. To be published, in this order: the
    /// end of a class that is gone, which is over the old classes, and the state over the new ones.
    pub fn relabel(&mut self, at: Stamp, labels: Labels) -> Vec<Decision> {
        let Labels { classifier, background, decider } = labels;
        if let Some(classifier) = classifier {
            self.classifier = classifier;
        }
        self.classifier.set_background(background);
        self.hand_over(at, decider)
    }

    /// Decides with `decider` from now on, which takes over.
    fn hand_over(&mut self, at: Stamp, mut decider: Decider) -> Vec<Decision> {
        let (snapshot, change) = decider.take_over(&self.decider, at.mono);
        let end = change.map(|change| {
            // The class it was is known to the old classes alone, all else of the snapshot to the new.
            let nameless =
                Snapshot { score: None, margin: None, sigma: None, last_known: None, ..snapshot };
            Decision { send_state: false, ..self.decision(at, None, None, nameless, Some(change)) }
        });
        if let Some(otherwise) = &mut self.otherwise {
            let mut new = decider.clone();
            new.take_over(otherwise, at.mono);
            *otherwise = new;
        }
        self.decider = decider;
        self.sent = None;
        end.into_iter().chain([self.decision(at, None, None, snapshot, None)]).collect()
    }

    /// When [`Track::tick`] next has something to say, if no frame comes before.
    pub fn next_due(&self) -> Duration {
        let heartbeat_at = self.sent.map_or(Duration::ZERO, |(_, at)| at + self.heartbeat);
        self.decider.stale_at().map_or(heartbeat_at, |it| it.min(heartbeat_at))
    }

    fn has_to_send(&self, now: Duration, state: State) -> bool {
        self.sent.is_none_or(|(sent, at)| sent != state || self.heartbeat <= now.saturating_sub(at))
    }

    fn decision(
        &mut self,
        at: Stamp,
        frame_name: Option<String>,
        evidence: Option<Evidence>,
        snapshot: Snapshot,
        change: Option<Change>,
    ) -> Decision {
        let send_state = self.has_to_send(at.mono, snapshot.state);
        if send_state {
            self.sent = Some((snapshot.state, at.mono));
        }
        self.seq += 1;
        let (camera, seq) = (self.camera.clone(), self.seq);
        let classes = Arc::clone(self.decider.classes());
        Decision {
            camera,
            seq,
            at,
            classes,
            frame_name,
            evidence,
            snapshot,
            send_state,
            change,
            event: 0,
            otherwise: self.otherwise.as_ref().map(Decider::state),
        }
    }
}

#[cfg(test)]
mod tests {
    use lookout_core::{AdaptationMode, DecisionRules, Outcome, Reason};

    use super::*;
    use crate::testing::{axis, frame, settings_of, track};

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn stamp(seconds: u64) -> Stamp {
        Stamp { mono: at(seconds), wall: None }
    }

    fn see(track: &mut Track, seconds: u64, angle: f32) -> Decision {
        track.observe(stamp(seconds), None, &axis(angle), vec![], vec![]).unwrap()
    }

    #[test]
    fn the_state_is_sent_on_change_and_at_each_heartbeat() {
        let mut track = track("yard", 0.0, &Arc::default());
        assert_eq!(track.next_due(), Duration::ZERO, "the first state is due at once");
        let first = track.tick(stamp(0)).unwrap();
        assert!(first.send_state && first.snapshot.state == State::Stale);
        assert!(track.tick(stamp(1)).is_none());
        let cat = see(&mut track, 2, 0.0);
        assert!(cat.send_state && cat.change.is_some());
        let same = see(&mut track, 3, 0.0);
        assert!(!same.send_state && same.change.is_none() && same.evidence.is_some());
        assert_eq!((first.seq, cat.seq, same.seq), (1, 2, 3));
        assert_eq!(track.next_due(), at(13), "stale comes before the heartbeat");
        for seconds in 4..32 {
            assert!(!see(&mut track, seconds, 0.0).send_state, "{seconds}");
        }
        assert!(see(&mut track, 32, 0.0).send_state, "heartbeat");
        assert!(see(&mut track, 33, 1.5).send_state, "a change does not wait for it");
        let stale = track.tick(stamp(43)).unwrap();
        assert!(stale.snapshot.state == State::Stale && stale.evidence.is_none());
    }

    fn labels(ids: &[&str], now: u64) -> Labels {
        let TrackSettings { classifier, decider, .. } = settings_of(ids, at(now));
        let background = Background::unknown(ids.len());
        Labels { classifier: Some(classifier), background, decider }
    }

    #[test]
    fn new_labels_are_told_at_once_and_a_held_one_makes_no_event() {
        let mut track = track("yard", 5.0, &Arc::default());
        let picture = frame(100, Duration::ZERO).picture;
        track.gate(stamp(1), &picture);
        let cat = see(&mut track, 1, 0.0);
        let told = track.relabel(stamp(2), labels(&["dog", "cat"], 2));
        let [state] = told.as_slice() else { panic!("{told:?}") };
        assert!(state.send_state && state.change.is_none() && state.seq == cat.seq + 1);
        assert_eq!(state.snapshot.state, State::Label(1));
        assert_eq!(state.classes.classes()[1].id.as_str(), "cat");
        assert!(track.tick(stamp(2)).is_none(), "said already");
        assert!(track.gate(stamp(3), &picture).is_none(), "a still scene is evaluated once more");
        let again = see(&mut track, 3, 0.0);
        assert_eq!(
            (again.snapshot.state, again.change),
            (State::Label(1), None),
            "the same picture"
        );
        assert!(track.gate(stamp(4), &picture).is_some());
    }

    #[test]
    fn the_end_of_a_class_is_told_with_its_name() {
        let mut track = track("yard", 0.0, &Arc::default());
        see(&mut track, 1, 0.0);
        let told = track.relabel(stamp(2), labels(&["dog", "car"], 2));
        let [end, state] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(end.change, Some(Change { from: Outcome::Class(0), to: Outcome::Unknown }));
        assert_eq!(end.classes.classes()[0].id.as_str(), "cat");
        assert!(!end.send_state && state.send_state && state.change.is_none());
        assert_eq!(state.classes.classes()[0].id.as_str(), "dog");
        assert_eq!(state.snapshot.reason, Some(Reason::Removed));
        let dog = see(&mut track, 3, 1.5);
        assert_eq!(dog.classes.classes()[0].id.as_str(), "dog");
        assert_eq!(dog.evidence.unwrap().fused.top().0, 0);
    }

    /// A track of a cat at angle 0 and a dog at 1.5, whose kept frames reach as far as 0.45.
    fn adapting(mode: AdaptationMode) -> Track {
        let settings = settings_of(&["cat", "dog"], Duration::ZERO);
        Track::new(TrackSettings {
            classifier: settings.classifier.adapting(mode, 0.1),
            ..settings
        })
    }

    fn kept(it: &Decision) -> usize {
        it.evidence.as_ref().unwrap().adapted.as_ref().unwrap().n_kept
    }

    #[test]
    fn only_accepted_frames_are_kept() {
        let mut track = adapting(AdaptationMode::Shadow);
        let first = see(&mut track, 1, 0.0);
        assert_eq!((first.snapshot.state, kept(&first)), (State::Label(0), 0));
        let doubtful = see(&mut track, 2, 0.75);
        assert_eq!((doubtful.snapshot.state, kept(&doubtful)), (State::Unknown, 1));
        assert_eq!(kept(&see(&mut track, 3, 0.0)), 1, "the doubtful one is not");
    }

    #[test]
    fn in_the_shadow_kept_frames_are_told_and_when_on_they_decide() {
        let decided = [AdaptationMode::Shadow, AdaptationMode::On].map(|mode| {
            let mut track = adapting(mode);
            see(&mut track, 1, 0.55);
            let border = see(&mut track, 2, 0.77);
            (border.snapshot.state, border.otherwise)
        });
        let (cat, unknown) = (State::Label(0), State::Unknown);
        assert_eq!(decided, [(unknown, Some(cat)), (cat, Some(unknown))]);
        let mut plain = track("yard", 0.0, &Arc::default());
        assert_eq!(see(&mut plain, 1, 0.0).otherwise, None);
    }

    #[test]
    fn a_still_scene_is_evaluated_while_the_other_mode_waits_for_its_dwell() {
        let picture = frame(100, Duration::ZERO).picture;
        let is_gated = |is_adapting: bool| {
            let settings = settings_of(&["cat", "dog"], Duration::ZERO);
            let rules = DecisionRules { dwell: at(3), ..settings.decider.rules() };
            let classes = Arc::clone(settings.decider.classes());
            let decider = Decider::new(rules, classes, Duration::ZERO).unwrap();
            let classifier = match is_adapting {
                true => settings.classifier.adapting(AdaptationMode::Shadow, 0.1),
                false => settings.classifier,
            };
            let gate = GateRules { luma_change: 5.0, ..settings.gate };
            let mut track = Track::new(TrackSettings { classifier, decider, gate, ..settings });
            // A cat that is kept, then nothing, then a border that only what was kept makes a cat.
            for (seconds, angle) in [(1, 0.55), (5, 0.55), (6, 3.89), (10, 3.89)] {
                see(&mut track, seconds, angle);
            }
            assert!(track.gate(stamp(11), &picture).is_none(), "the first frame");
            assert_eq!(see(&mut track, 11, 0.74).snapshot.state, State::Unknown);
            track.gate(stamp(12), &picture).is_some()
        };
        assert_eq!([false, true].map(is_gated), [true, false]);
    }

    #[test]
    fn a_still_scene_is_decided_without_evidence() {
        let mut track = track("yard", 5.0, &Arc::default());
        let picture = frame(100, Duration::ZERO).picture;
        assert!(track.gate(stamp(0), &picture).is_none(), "the first frame is evaluated");
        see(&mut track, 0, 0.0);
        let gated = track.gate(stamp(1), &picture).unwrap();
        assert!(gated.evidence.is_none() && gated.snapshot.state == State::Label(0));
        track.look_again();
        assert!(track.gate(stamp(1), &picture).is_none(), "something was taught");
        assert!(track.gate(stamp(1), &picture).is_some(), "once");
        track.tick(stamp(20));
        assert!(track.gate(stamp(21), &picture).is_none(), "after stale nothing can be repeated");
    }
}
