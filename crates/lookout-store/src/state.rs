//! The state file of a daemon: what each camera said last, so that a restart makes no event of it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lookout_core::{
    CameraMemory, ClassKind, ClassSet, Disposition, Id, Means, Memory, PortError, Remember,
    Remembered, Weighting, Window,
};
use serde::{Deserialize, Serialize};

use crate::{StoreError, kept, prompts};

const HEADING: &str = "lookout state 1";

/// What each camera had said when the file was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    cameras: BTreeMap<String, CameraState>,
}

/// What one camera had said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraState {
    /// The number of the last event; 0: there was none.
    #[serde(default)]
    last_number: u64,
    last_event: Option<Event>,
    last_known: Option<Known>,
    /// `null` where the fusion has no history.
    means: Option<KeptMeans>,
}

/// The history of a camera's fusion, which means something for its classes and for the same fusion alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptMeans {
    prompts: String,
    fusion: String,
    n_frames: u64,
    image: f64,
    captions: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    /// `null`: unknown.
    class: Option<Class>,
    time_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    class: Class,
    time_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    id: String,
    is_label: bool,
    name: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cameras: BTreeMap<String, CameraState>,
}

/// What the histories of all cameras' fusions are of, apart from their classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FusedFrom<'a> {
    /// Id of the embedding space.
    pub space: &'a str,
    /// The hash of what went into the caption index; `None` without one.
    pub index: Option<&'a str>,
    /// The weighting.
    pub weighting: Weighting,
}

impl FusedFrom<'_> {
    /// The names of weightings in files, whatever they are called in code. `None` where there is no
    /// history.
    fn name(&self) -> Option<String> {
        let Weighting::History(window) = self.weighting else { return None };
        let window = match window {
            Window::Unbounded => "all frames".to_owned(),
            Window::Frames(n) => format!("{n} frames"),
        };
        Some(format!("{} / {} / {window}", self.space, self.index.unwrap_or("no index")))
    }
}

/// The state file of a running daemon.
pub struct StateFile {
    path: PathBuf,
    /// What the means are of; `None`: there are none.
    fusion: Option<String>,
    /// Of the classes that each camera had when it was last written.
    prompts: BTreeMap<Id, (Arc<ClassSet>, String)>,
    /// Cameras that are configured and do not run keep what they said.
    idle: BTreeMap<String, CameraState>,
}

impl State {
    /// Reads `path`; a file that is not there holds nothing.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let damaged = |reason| StoreError::Damaged { path: path.to_path_buf(), reason };
        match kept::read::<File>(path, HEADING) {
            Ok(File { cameras }) => {
                cameras.values().try_for_each(CameraState::check).map_err(damaged)?;
                Ok(Self { cameras })
            }
            Err(StoreError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => Err(error),
        }
    }

    /// The number of the last event of `camera` that counts; `None`: nothing is known of it. One that waits for
    /// the broker with a greater number was never told: the program was killed in between, and what was said is
    /// what was said before it.
    pub fn last_event(&self, camera: &Id) -> Option<u64> {
        self.cameras.get(camera.as_str()).map(|it| it.last_number)
    }

    /// The greatest of those numbers.
    pub fn n_events(&self) -> u64 {
        self.cameras.values().map(|it| it.last_number).max().unwrap_or(0)
    }

    /// What `camera` said, and the history of its fusion if that was over `classes` and of the same fusion.
    pub fn camera(
        &self,
        camera: &Id,
        classes: &ClassSet,
        from: &FusedFrom<'_>,
    ) -> (Memory, Option<Means>) {
        let Some(it) = self.cameras.get(camera.as_str()) else { return (Memory::default(), None) };
        let same = it.means.as_ref().filter(|it| {
            from.name().is_some_and(|name| name == it.fusion)
                && it.prompts == prompts::of_set(classes)
        });
        let means =
            same.map(|it| Means { n_frames: it.n_frames, image: it.image, captions: it.captions });
        (it.memory(), means)
    }
}

impl CameraState {
    /// `of` tells what the means are of: fusion and prompts.
    fn new(memory: &CameraMemory, of: Option<(&str, &str)>) -> Self {
        let class = |it: &Remembered| Class {
            id: it.id.to_string(),
            is_label: it.kind == ClassKind::Label,
            name: it.name.clone(),
        };
        let CameraMemory { said, means, classes: _, last_event } = memory;
        Self {
            last_number: *last_event,
            last_event: said
                .last_event
                .as_ref()
                .map(|(it, time)| Event { class: it.as_ref().map(class), time_ms: time.map(ms) }),
            last_known: said
                .last_known
                .as_ref()
                .map(|(it, time)| Known { class: class(it), time_ms: time.map(ms) }),
            means: of.map(|(fusion, prompts)| KeptMeans {
                prompts: prompts.to_owned(),
                fusion: fusion.to_owned(),
                n_frames: means.n_frames,
                image: means.image,
                captions: means.captions,
            }),
        }
    }

    /// Checked before.
    fn memory(&self) -> Memory {
        let class = |it: &Class| {
            let kind = if it.is_label { ClassKind::Label } else { ClassKind::Negative };
            Some(Remembered { id: Id::new(it.id.as_str()).ok()?, kind, name: it.name.clone() })
        };
        let time = |it: Option<u64>| it.map(Duration::from_millis);
        Memory {
            last_event: self
                .last_event
                .as_ref()
                .map(|it| (it.class.as_ref().and_then(class), time(it.time_ms))),
            last_known: self
                .last_known
                .as_ref()
                .and_then(|it| Some((class(&it.class)?, time(it.time_ms)))),
        }
    }

    fn check(&self) -> Result<(), String> {
        let said = self.last_event.as_ref().and_then(|it| it.class.as_ref());
        for class in said.into_iter().chain(self.last_known.as_ref().map(|it| &it.class)) {
            Id::new(class.id.as_str()).map_err(|it| it.to_string())?;
            let n_chars = class.name.trim().chars().count();
            if !(1..=ClassSet::MAX_TEXT_LEN).contains(&n_chars) {
                return Err(format!("the name of class {} has {n_chars} characters", class.id));
            }
        }
        let Some(KeptMeans { image, captions, .. }) = &self.means else { return Ok(()) };
        match [*image, *captions].iter().all(|it| (0.0..=1.0).contains(it)) {
            true => Ok(()),
            false => Err(format!("means must be 0 to 1, got {image} and {captions}")),
        }
    }
}

fn ms(it: Duration) -> u64 {
    u64::try_from(it.as_millis()).unwrap_or(u64::MAX)
}

impl StateFile {
    /// To be written to `path`. Of `before`, the cameras of `idle` keep what they said.
    pub fn new(path: &Path, from: &FusedFrom<'_>, before: &State, idle: &[Id]) -> Self {
        let idle = idle
            .iter()
            .filter_map(|id| Some((id.to_string(), before.cameras.get(id.as_str())?.clone())));
        let (path, idle) = (path.to_path_buf(), idle.collect());
        Self { path, fusion: from.name(), prompts: BTreeMap::new(), idle }
    }

    /// Replaces the file.
    pub fn write(&mut self, cameras: &BTreeMap<Id, CameraMemory>) -> Result<(), StoreError> {
        let mut all = self.idle.clone();
        for (id, memory) in cameras {
            if self.fusion.is_some() {
                self.hash(id, &memory.classes);
            }
            let prompts = self.prompts.get(id).map(|it| it.1.as_str());
            let state = CameraState::new(memory, self.fusion.as_deref().zip(prompts));
            all.insert(id.to_string(), state);
        }
        kept::write(&self.path, HEADING, &File { cameras: all })
    }

    /// Thousands of prompts at each event would take longer than all the rest.
    fn hash(&mut self, camera: &Id, classes: &Arc<ClassSet>) {
        if self.prompts.get(camera).is_none_or(|(old, _)| !Arc::ptr_eq(old, classes)) {
            let of_set = prompts::of_set(classes);
            self.prompts.insert(camera.clone(), (Arc::clone(classes), of_set));
        }
    }
}

impl Remember for StateFile {
    fn remember(&mut self, cameras: &BTreeMap<Id, CameraMemory>) -> Result<(), PortError> {
        self.write(cameras).map_err(|it| PortError::new(Disposition::SkipFrame, it))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lookout_core::DEFAULT_TEMPLATE;

    use super::*;

    const FROM: FusedFrom<'static> = FusedFrom {
        space: "space-1",
        index: Some("a3"),
        weighting: Weighting::History(Window::Unbounded),
    };

    fn id(text: &str) -> Id {
        Id::new(text).unwrap()
    }

    fn classes(name: &str) -> Arc<ClassSet> {
        let class = |id: &str, name: &str| lookout_core::Class {
            id: Id::new(id).unwrap(),
            kind: ClassKind::Label,
            name: name.to_owned(),
            aliases: vec![],
            prompts: vec![],
            enter: None,
        };
        let classes = vec![class("cat", name), class("dog", "a dog")];
        Arc::new(ClassSet::new(vec![DEFAULT_TEMPLATE.to_owned()], classes).unwrap())
    }

    fn memory() -> CameraMemory {
        let cat =
            Remembered { id: id("cat"), kind: ClassKind::Label, name: "a cat \"ä\"".to_owned() };
        let time = Some(Duration::from_millis(1_700_000_000_123));
        CameraMemory {
            said: Memory { last_event: Some((None, None)), last_known: Some((cat, time)) },
            means: Means { n_frames: 7, image: 0.25, captions: 0.1 },
            classes: classes("a cat"),
            last_event: 9,
        }
    }

    #[test]
    fn what_was_said_is_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!(State::read(&path).unwrap(), State::default(), "there is none yet");
        let mut file = StateFile::new(&path, &FROM, &State::default(), &[]);
        file.write(&BTreeMap::from([(id("yard"), memory()), (id("shed"), memory())])).unwrap();
        let state = State::read(&path).unwrap();
        let of = |name: &str, from: &FusedFrom<'_>| state.camera(&id("yard"), &classes(name), from);
        assert_eq!(of("a cat", &FROM), (memory().said, Some(memory().means)));
        assert_eq!(of("a big cat", &FROM), (memory().said, None));
        let window = Window::Frames(std::num::NonZeroU64::new(9).unwrap());
        for other in [
            FusedFrom { space: "space-2", ..FROM },
            FusedFrom { index: Some("c4"), ..FROM },
            FusedFrom { index: None, ..FROM },
            FusedFrom { weighting: Weighting::Memoryless, ..FROM },
            FusedFrom { weighting: Weighting::History(window), ..FROM },
        ] {
            assert_eq!(of("a cat", &other), (memory().said, None), "{other:?}");
        }
        let stranger = state.camera(&id("door"), &classes("a cat"), &FROM);
        assert_eq!(stranger, (Memory::default(), None));
        assert_eq!((state.last_event(&id("yard")), state.last_event(&id("door"))), (Some(9), None));
        assert_eq!((state.n_events(), State::default().n_events()), (9, 0));
        // A camera that does not run keeps what it said; one that is no more is forgotten.
        let mut next = StateFile::new(&path, &FROM, &state, &[id("shed"), id("door")]);
        next.write(&BTreeMap::new()).unwrap();
        let left: Vec<String> = State::read(&path).unwrap().cameras.into_keys().collect();
        assert_eq!(left, ["shed"]);
    }

    #[test]
    fn prompts_are_hashed_once_for_a_history_and_never_without() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut file = StateFile::new(&path, &FROM, &State::default(), &[]);
        let (mut first, mut second) = (memory(), memory());
        file.write(&BTreeMap::from([(id("yard"), first.clone())])).unwrap();
        // A sign that the hash is taken and not made.
        file.prompts.get_mut(&id("yard")).unwrap().1 = "taken".to_owned();
        first.means.n_frames += 1;
        let written = |file: &mut StateFile, memory: &CameraMemory| {
            file.write(&BTreeMap::from([(id("yard"), memory.clone())])).unwrap();
            State::read(&path).unwrap().cameras.remove("yard").unwrap().means
        };
        assert_eq!(written(&mut file, &first).unwrap().prompts, "taken");
        second.classes = classes("a big cat");
        let after = written(&mut file, &second).unwrap().prompts;
        assert_eq!(after, prompts::of_set(&second.classes), "a reload");
        let from = FusedFrom { weighting: Weighting::Pooled, ..FROM };
        let mut file = StateFile::new(&path, &from, &State::default(), &[]);
        assert_eq!(written(&mut file, &first), None);
        assert!(file.prompts.is_empty());
    }

    /// A whole file.
    fn kept_text() -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut file = StateFile::new(&path, &FROM, &State::default(), &[]);
        file.write(&BTreeMap::from([(id("yard"), memory())])).unwrap();
        fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn what_is_no_state_stays_and_a_damaged_one_can_be_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        for text in ["lookout state 9\n{}\n", "\nnode = \"garden\"\n"] {
            fs::write(&path, text).unwrap();
            let error = State::read(&path).unwrap_err();
            assert!(matches!(error, StoreError::Other { .. }), "{error}");
        }
        let good = kept_text();
        let damaged = good.replace("lookout state", "lookout stake");
        for text in ["lookout state 1\nrubbish\n", &damaged, &"\0".repeat(423)] {
            fs::write(&path, text).unwrap();
            let error = State::read(&path).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
            let copy = kept::set_aside(&path).unwrap();
            assert_eq!(copy, folder.path().join("state.damaged"));
            assert_eq!(fs::read(copy).unwrap(), text.as_bytes(), "the last one");
            assert_eq!(fs::read(&path).unwrap(), text.as_bytes(), "nothing is taken away");
        }
    }

    #[test]
    fn values_that_no_state_has_are_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let refused = |change: &dyn Fn(&mut CameraState)| {
            let mut it = CameraState::new(&memory(), Some(("fusion", "prompts")));
            change(&mut it);
            let cameras = BTreeMap::from([("yard".to_owned(), it)]);
            kept::write(&path, HEADING, &File { cameras }).unwrap();
            let error = State::read(&path).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        };
        refused(&|it| it.means.as_mut().unwrap().image = 1.5);
        refused(&|it| it.last_known.as_mut().unwrap().class.id = "A cat".to_owned());
        refused(&|it| it.last_known.as_mut().unwrap().class.name = " ".to_owned());
    }
}
