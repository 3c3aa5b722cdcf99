//! The loop over frames, with a stand-in for everything else.

use super::*;
use crate::testing::{Recorder, SimulatedClock, axis, classes, frame, id, settings_of, track};
use crate::{CameraCounters, Earlier, GateRules, TrackSettings, mailboxes};
use lookout_core::{
    Background, Bound, CameraMemory, Candidate, ClassBackground, Decider, DecisionRules, Embedding,
    Picture, State,
};
use proptest::strategy::Strategy;
use std::sync::Mutex;

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

/// Writes down what was to be known each time, and what had been kept and told before.
struct Diary(Arc<Recorder>, Arc<Mutex<Entries>>);

/// What was remembered, and how many events had been kept and decisions published by then.
type Entries = Vec<([usize; 2], BTreeMap<Id, CameraMemory>)>;

impl Remember for Diary {
    fn remember(&mut self, cameras: &BTreeMap<Id, CameraMemory>) -> Result<(), PortError> {
        let n_kept = self.0.kept.lock().unwrap().len();
        let n_told = self.0.decisions.lock().unwrap().len();
        self.1.lock().unwrap().push(([n_kept, n_told], cameras.clone()));
        Err(PortError::new(Disposition::SkipFrame, "a full disk is no reason to end"))
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
        memory: None,
        n_events: 0,
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
        let background = Background::unknown(2);
        (id(camera), Labels { classifier: Some(classifier), background, decider })
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
        memory: None,
        n_events: 0,
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
fn an_event_is_kept_before_it_is_told_and_what_was_kept_makes_no_event() {
    let now = Duration::from_secs(100);
    // A run of these frames of one camera, which knows what an earlier run said.
    let run = |lumas: &[u8], earlier: Earlier| {
        let publish = Arc::new(Recorder::default());
        let clock = Arc::new(SimulatedClock::default());
        clock.set(now);
        let (senders, receiver) = mailboxes(lumas.len());
        for (sender, luma) in senders.iter().zip(lumas) {
            sender.put(frame(*luma, now));
        }
        drop(senders);
        let ids = ["a", "b", "c"].into_iter().take(lumas.len());
        let tracks = ids.map(|it| {
            let settings = settings_of(&["cat", "dog"], now);
            Track::new(TrackSettings { camera: id(it), earlier: earlier.clone(), ..settings })
        });
        let diary = Arc::new(Mutex::new(Vec::new()));
        let stage = InferStage {
            encoder: Box::new(ByLuma),
            captions: None,
            n_candidates: 4,
            lessons: None,
            memory: Some(Box::new(Diary(Arc::clone(&publish), Arc::clone(&diary)))),
            n_events: 6,
            tracks: tracks.collect(),
            publish: Arc::clone(&publish) as Arc<dyn Publish>,
            clock,
            busy: Arc::default(),
        };
        stage.run(&receiver).unwrap();
        let kept = std::mem::take(&mut *diary.lock().unwrap());
        let told = std::mem::take(&mut *publish.decisions.lock().unwrap());
        let events = told.iter().enumerate().filter(|it| it.1.change.is_some());
        (events.map(|it| it.0).collect::<Vec<usize>>(), kept)
    };
    let (events, kept) = run(&[0, 0], Earlier::default());
    // Each event is kept, then what was said up to it, and then it is told; all that once more at the end.
    let before: Vec<[usize; 2]> = kept.iter().map(|it| it.0).collect();
    assert_eq!((events, before), (vec![2, 3], vec![[1, 2], [2, 3], [2, 4]]));
    let numbers = |entry: usize| ["a", "b"].map(|it| kept[entry].1[&id(it)].last_event);
    assert_eq!([0, 1, 2].map(numbers), [[7, 0], [7, 8], [7, 8]], "after the six of earlier runs");
    let CameraMemory { said, means, .. } = kept[2].1[&id("a")].clone();
    assert_eq!(said.last_event.as_ref().unwrap().0.as_ref().unwrap().id, id("cat"));
    assert!(kept[0].1[&id("b")].said.last_event.is_none(), "the second camera comes later");
    let earlier = Earlier { said, means: Some(means), last_event: 7 };
    let (events, kept) = run(&[0], earlier.clone());
    assert_eq!((events.len(), kept.len()), (0, 1), "the same label, kept at the end alone");
    assert_eq!(run(&[1], earlier).0.len(), 1, "another label");
}

/// Cameras that see these classes one frame after the other; `turns` says whose turn it is.
fn decided(frames: &[Vec<(u8, bool)>], turns: &[usize]) -> Vec<Vec<String>> {
    let counters = Arc::new(CameraCounters::default());
    let publish = Arc::new(Recorder::default());
    let clock = Arc::new(SimulatedClock::default());
    let rules = |settings: TrackSettings| {
        let rules = DecisionRules {
            sigmas: Some(Bound { enter: 2.0, exit: 1.0 }),
            smoothing: Duration::from_millis(700),
            dwell: Duration::from_secs(1),
            cooldown: Duration::from_secs(3),
            ..settings.decider.rules()
        };
        let known = ClassBackground { mean: 0.3, deviation: 0.1, bound: None };
        let background = Background::new(vec![Some(known), None], 1.0).unwrap();
        let classes = Arc::clone(settings.decider.classes());
        let decider = Decider::new(rules, classes, Duration::ZERO).unwrap();
        TrackSettings { classifier: settings.classifier.on(background), decider, ..settings }
    };
    let tracks = (0..frames.len()).map(|idx| {
        let settings = rules(settings_of(&["cat", "dog"], Duration::ZERO));
        let gate = GateRules { luma_change: 0.5, ..settings.gate };
        let camera = id(&format!("c{idx}"));
        Track::new(TrackSettings { camera, gate, counters: Arc::clone(&counters), ..settings })
    });
    let mut stage = InferStage {
        encoder: Box::new(ByLuma),
        captions: None,
        n_candidates: 4,
        lessons: None,
        memory: None,
        n_events: 0,
        tracks: tracks.collect(),
        publish: Arc::clone(&publish) as Arc<dyn Publish>,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        busy: Arc::default(),
    };
    for round in 0..frames[0].len() {
        let now = Duration::from_millis(400 * u64::try_from(round).unwrap());
        clock.set(now);
        let round_turns = turns[round % turns.len()..].iter().chain(&turns[..round % turns.len()]);
        for camera_idx in round_turns {
            let (luma, comes) = frames[*camera_idx][round];
            if comes {
                stage.frame(*camera_idx, frame(luma, now)).unwrap();
            }
        }
    }
    let told = publish.decisions.lock().unwrap();
    let of = |idx: usize| {
        let mine = told.iter().filter(|it| it.camera == id(&format!("c{idx}")));
        mine.map(|it| format!("{:?} {:?} {:?}", it.seq, it.snapshot, it.change)).collect()
    };
    (0..frames.len()).map(of).collect()
}

proptest::proptest! {
    /// In whatever order cameras are served, each decides the same, its gates included.
    #[test]
    fn the_order_of_the_cameras_is_irrelevant_to_each(
        frames in proptest::collection::vec(
            proptest::collection::vec((0u8..3, proptest::bool::weighted(0.8)), 30), 3),
        turns in proptest::strategy::Just(vec![0usize, 1, 2]).prop_shuffle(),
    ) {
        proptest::prop_assert_eq!(decided(&frames, &[0, 1, 2]), decided(&frames, &turns));
    }
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
