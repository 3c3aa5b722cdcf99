//! The state file of a daemon: what each camera said last, so that a restart makes no event of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lookout_core::{
    CameraMemory, ClassKind, ClassSet, Disposition, Id, Means, Memory, PortError, Remember,
    Remembered, Weighting,
};
use serde::{Deserialize, Serialize};

use crate::{StoreError, kept, prompts};

const HEADING: &str = "lookout state 1";
const DAMAGED: &str = ".damaged";

/// What each camera had said when the file was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    cameras: BTreeMap<String, CameraState>,
}

/// What one camera had said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraState {
    last_event: Option<Event>,
    last_known: Option<Known>,
    means: KeptMeans,
}

/// The history of a camera's fusion, which means something for its classes and weighting alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptMeans {
    prompts: String,
    weighting: String,
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

/// The state file of a running daemon.
pub struct StateFile {
    path: PathBuf,
    weighting: String,
    /// Cameras that are configured and do not run keep what they said.
    idle: BTreeMap<String, CameraState>,
}

impl State {
    /// Reads `path`; a file that is not there holds nothing. One that is not what was written is copied
    /// beside it, with `.damaged` added to its name, where nothing stands there yet.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        match kept::read::<File>(path, HEADING) {
            Ok(File { cameras }) => {
                let state = Self { cameras };
                match state.cameras.values().try_for_each(CameraState::check) {
                    Ok(()) => Ok(state),
                    Err(reason) => {
                        set_aside(path);
                        Err(StoreError::Damaged { path: path.to_path_buf(), reason })
                    }
                }
            }
            Err(StoreError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => {
                if !matches!(error, StoreError::Read { .. }) {
                    set_aside(path);
                }
                Err(error)
            }
        }
    }

    /// What `camera` said, and the history of its fusion if that was over `classes` and by `weighting`.
    pub fn camera(
        &self,
        camera: &Id,
        classes: &ClassSet,
        weighting: Weighting,
    ) -> (Memory, Option<Means>) {
        let Some(it) = self.cameras.get(camera.as_str()) else { return (Memory::default(), None) };
        let is_same = it.means.prompts == prompts::of_set(classes)
            && it.means.weighting == name_of(weighting);
        let KeptMeans { n_frames, image, captions, .. } = it.means;
        (it.memory(), is_same.then_some(Means { n_frames, image, captions }))
    }
}

/// Where a damaged state file is copied to.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(DAMAGED);
    name.into()
}

/// Whoever looks into it later finds it. That it cannot be copied is no reason not to start.
fn set_aside(path: &Path) {
    let copy = aside(path);
    if !copy.exists() {
        fs::copy(path, copy).ok();
    }
}

fn name_of(weighting: Weighting) -> String {
    format!("{weighting:?}")
}

impl CameraState {
    fn of(memory: &CameraMemory, weighting: &str) -> Self {
        let class = |it: &Remembered| Class {
            id: it.id.to_string(),
            is_label: it.kind == ClassKind::Label,
            name: it.name.clone(),
        };
        let CameraMemory { said, means, classes } = memory;
        Self {
            last_event: said
                .last_event
                .as_ref()
                .map(|(it, time)| Event { class: it.as_ref().map(class), time_ms: time.map(ms) }),
            last_known: said
                .last_known
                .as_ref()
                .map(|(it, time)| Known { class: class(it), time_ms: time.map(ms) }),
            means: KeptMeans {
                prompts: prompts::of_set(classes),
                weighting: weighting.to_owned(),
                n_frames: means.n_frames,
                image: means.image,
                captions: means.captions,
            },
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
        let KeptMeans { image, captions, .. } = self.means;
        match [image, captions].iter().all(|it| (0.0..=1.0).contains(it)) {
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
    pub fn new(path: &Path, weighting: Weighting, before: &State, idle: &[Id]) -> Self {
        let idle = idle
            .iter()
            .filter_map(|id| Some((id.to_string(), before.cameras.get(id.as_str())?.clone())));
        Self { path: path.to_path_buf(), weighting: name_of(weighting), idle: idle.collect() }
    }

    /// Replaces the file.
    pub fn write(&self, cameras: &BTreeMap<Id, CameraMemory>) -> Result<(), StoreError> {
        let mut all = self.idle.clone();
        for (id, memory) in cameras {
            all.insert(id.to_string(), CameraState::of(memory, &self.weighting));
        }
        kept::write(&self.path, HEADING, &File { cameras: all })
    }
}

impl Remember for StateFile {
    fn remember(&mut self, cameras: &BTreeMap<Id, CameraMemory>) -> Result<(), PortError> {
        self.write(cameras).map_err(|it| PortError::new(Disposition::SkipFrame, it))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lookout_core::DEFAULT_TEMPLATE;

    use super::*;

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
        }
    }

    #[test]
    fn what_was_said_is_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!(State::read(&path).unwrap(), State::default(), "there is none yet");
        let file = StateFile::new(&path, Weighting::Memoryless, &State::default(), &[]);
        file.write(&BTreeMap::from([(id("yard"), memory()), (id("shed"), memory())])).unwrap();
        let state = State::read(&path).unwrap();
        let of = |name: &str, weighting| state.camera(&id("yard"), &classes(name), weighting);
        assert_eq!(of("a cat", Weighting::Memoryless), (memory().said, Some(memory().means)));
        assert_eq!(of("a big cat", Weighting::Memoryless), (memory().said, None));
        let other = Weighting::History(lookout_core::Window::Unbounded);
        assert_eq!(of("a cat", other).1, None);
        let stranger = state.camera(&id("door"), &classes("a cat"), Weighting::Memoryless);
        assert_eq!(stranger, (Memory::default(), None));
        // A camera that does not run keeps what it said; one that is no more is forgotten.
        let next = StateFile::new(&path, Weighting::Memoryless, &state, &[id("shed"), id("door")]);
        next.write(&BTreeMap::new()).unwrap();
        let left: Vec<String> = State::read(&path).unwrap().cameras.into_keys().collect();
        assert_eq!(left, ["shed"]);
    }

    #[test]
    fn a_damaged_file_is_told_and_set_aside_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        for text in ["lookout state 1\nrubbish\n", "lookout state 9\n{}\n", "other rubbish"] {
            fs::write(&path, text).unwrap();
            let error = State::read(&path).unwrap_err();
            assert!(!matches!(error, StoreError::Read { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), text.as_bytes(), "nothing is taken away");
        }
        let first = fs::read_to_string(aside(&path)).unwrap();
        assert_eq!(first, "lookout state 1\nrubbish\n");
    }

    #[test]
    fn values_that_no_state_has_are_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let refused = |change: &dyn Fn(&mut CameraState)| {
            let mut it = CameraState::of(&memory(), "Memoryless");
            change(&mut it);
            let cameras = BTreeMap::from([("yard".to_owned(), it)]);
            kept::write(&path, HEADING, &File { cameras }).unwrap();
            let error = State::read(&path).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        };
        refused(&|it| it.means.image = 1.5);
        refused(&|it| it.last_known.as_mut().unwrap().class.id = "A cat".to_owned());
        refused(&|it| it.last_known.as_mut().unwrap().class.name = " ".to_owned());
    }
}
