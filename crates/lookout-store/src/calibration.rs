//! The file of calibrations: what `lookout calibrate` found of each camera.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lookout_core::{
    Background, Bound, CalibratedClass, Calibration, ClassBackground, ClassKind, ClassSet,
    Extrapolation, Id, NoBound, Temperature,
};
use serde::{Deserialize, Serialize};

use crate::{StoreError, kept, prompts};

const HEADING: &str = "lookout calibration 1";
/// Of the copy of a file that one of another model has replaced.
const BEFORE: &str = ".before";

/// The calibrations of a file, all of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibrations {
    /// Id of the embedding space that the cosines are of.
    pub space: String,
    /// One a camera.
    pub cameras: BTreeMap<Id, CameraCalibration>,
}

/// The calibration of one camera, by the ids of its classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraCalibration {
    /// When it was made, in seconds since the Unix epoch; `None`: the clock was not synchronized.
    pub made_s: Option<u64>,
    /// Frames that it is from.
    pub n_frames: usize,
    /// Time that they cover, in seconds.
    pub covered_s: f64,
    /// τ of the mean over time that the bounds are for, in seconds.
    pub smoothing_s: f64,
    /// What the bounds are for, of all labels together.
    pub false_alarms_a_day: f64,
    /// Most frames a second that were asked of the camera; `None`: an earlier version did not note it.
    #[serde(default)]
    pub max_fps: Option<f64>,
    /// At least 1; see [`Background::temperature`].
    pub temperature: f64,
    /// Where that comes from: `negatives`, `no negatives` or `unfit negatives`.
    pub temperature_from: String,
    /// A hash of all prompts, which the temperature is for.
    prompts: String,
    /// By id.
    pub classes: BTreeMap<String, KeptClass>,
}

/// What a calibration says of classes that may have changed since.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// What is known.
    pub background: Background,
    /// The ids of those that were calibrated with other prompts or not at all.
    pub changed: Vec<Id>,
    /// A temperature that does not count any more, as it is of the classes as they were, all of them and
    /// in their order.
    pub unfit_temperature: Option<f64>,
}

/// What is kept of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptClass {
    /// A label; a negative has no bound.
    pub is_label: bool,
    /// A hash of its prompts.
    prompts: String,
    /// Median cosine on the background.
    pub mean: f64,
    /// Its deviation there.
    pub deviation: f64,
    /// Sigmas from which on the label is there; `None`: no bound.
    pub bound: Option<f64>,
    /// Sigmas below which it has gone.
    pub lower_bound: Option<f64>,
    /// How the bound was found, for people; `None`: it is provisional, or there is none.
    pub from: Option<KeptExtrapolation>,
    /// Why a label has no bound for the rate of false alarms, for people; one that is there is provisional.
    pub why_no_bound: Option<String>,
}

/// How a bound was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptExtrapolation {
    /// After how long the series has forgotten itself, in seconds.
    pub correlation_s: f64,
    /// The length of a block, in seconds.
    pub block_s: f64,
    /// How many there were.
    pub n_blocks: usize,
    /// The most that was seen, in sigmas.
    pub greatest: f64,
    /// The level without caution, in sigmas.
    pub estimate: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The file says itself what its bounds are.
    note: String,
    space: String,
    cameras: BTreeMap<String, CameraCalibration>,
}

impl Calibrations {
    /// Reads a file. Every value in it is checked.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let File { note: _, space, cameras } = kept::read(path, HEADING)?;
        let damaged = |reason| StoreError::Damaged { path: path.to_path_buf(), reason };
        let mut checked = BTreeMap::new();
        for (id, camera) in cameras {
            let id = Id::new(id).map_err(|it| damaged(it.to_string()))?;
            camera.check().map_err(|it| damaged(format!("camera {id}: {it}")))?;
            checked.insert(id, camera);
        }
        Ok(Self { space, cameras: checked })
    }

    /// Whether `path` can be written, before the work that is to be written there.
    pub fn try_write(path: &Path) -> Result<(), StoreError> {
        kept::try_write(path)
    }

    /// Replaces the file.
    pub fn write(&self, path: &Path) -> Result<(), StoreError> {
        kept::write(path, HEADING, &self.file())
    }

    /// Puts these cameras into the file, which keeps what it says of others: also what another process
    /// wrote just before. One of another model is replaced, and a copy stays beside it, with `.before` added
    /// to its name: that copy.
    pub fn add_to(&self, path: &Path) -> Result<Option<PathBuf>, StoreError> {
        let mut copy = None;
        kept::update(path, HEADING, || {
            let mut all = self.clone();
            match Self::read(path) {
                Ok(old) if old.space == self.space => {
                    old.cameras.into_iter().for_each(|(id, it)| {
                        all.cameras.entry(id).or_insert(it);
                    });
                }
                Ok(_) => {
                    let failed = |source| StoreError::Write { path: path.to_path_buf(), source };
                    copy = Some(kept::copy_beside(path, BEFORE).map_err(failed)?);
                }
                Err(StoreError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            Ok(all.file())
        })?;
        Ok(copy)
    }

    fn file(&self) -> File {
        let cameras = self.cameras.iter().map(|(id, it)| (id.to_string(), it.clone())).collect();
        let note = "Bounds are extrapolated from the recorded time to a day; they know nothing of \
                    what that time did not have."
            .to_owned();
        File { note, space: self.space.clone(), cameras }
    }
}

impl CameraCalibration {
    /// What was found of a camera that decides between `classes` and gives at most `max_fps` frames a
    /// second, `made` after the Unix epoch.
    pub fn new(
        found: &Calibration,
        classes: &ClassSet,
        max_fps: f64,
        made: Option<Duration>,
    ) -> Self {
        let of_class = |(idx, class): (usize, &CalibratedClass)| {
            let it = &classes.classes()[idx];
            let is_label = it.kind == ClassKind::Label;
            (it.id.to_string(), KeptClass::new(class, is_label, prompts::of_class(classes, idx)))
        };
        Self {
            made_s: made.map(|it| it.as_secs()),
            n_frames: found.n_frames,
            covered_s: found.covered.as_secs_f64(),
            smoothing_s: found.smoothing.as_secs_f64(),
            false_alarms_a_day: found.false_alarms_a_day,
            max_fps: Some(max_fps),
            temperature: found.temperature.get(),
            temperature_from: match found.temperature {
                Temperature::OfNegatives(_) => "negatives",
                Temperature::NoNegatives => "no negatives",
                Temperature::Unfit => "unfit negatives",
            }
            .to_owned(),
            prompts: prompts::of_set(classes),
            classes: found.classes.iter().enumerate().map(of_class).collect(),
        }
    }

    /// What is known of `classes`.
    pub fn known(&self, classes: &ClassSet) -> Known {
        let mut unknown = Vec::new();
        let mut known = Vec::with_capacity(classes.classes().len());
        for (idx, class) in classes.classes().iter().enumerate() {
            let found = self.classes.get(class.id.as_str());
            let found = found.filter(|it| it.prompts == prompts::of_class(classes, idx));
            if found.is_none() {
                unknown.push(class.id.clone());
            }
            known.push(found.map(KeptClass::background));
        }
        let is_same = self.prompts == prompts::of_set(classes);
        let temperature = if is_same { self.temperature } else { 1.0 };
        let n_classes = known.len();
        // Checked when it was read or made.
        let background = Background::new(known, temperature);
        Known {
            background: background.unwrap_or_else(|_| Background::unknown(n_classes)),
            changed: unknown,
            unfit_temperature: Some(self.temperature).filter(|it| !is_same && 1.0 < *it),
        }
    }

    /// The ids of the labels without a bound.
    pub fn without_bound(&self) -> Vec<&str> {
        self.labels(|it| it.bound.is_none())
    }

    /// The ids of the labels whose bound is provisional.
    pub fn provisional(&self) -> Vec<&str> {
        self.labels(|it| it.bound.is_some() && it.why_no_bound.is_some())
    }

    fn labels(&self, wanted: impl Fn(&KeptClass) -> bool) -> Vec<&str> {
        let is_one = |it: &KeptClass| it.is_label && wanted(it);
        self.classes.iter().filter(|it| is_one(it.1)).map(|it| it.0.as_str()).collect()
    }

    fn check(&self) -> Result<(), String> {
        let at_least_0 = |what: &str, it: f64| match it.is_finite() && 0.0 <= it {
            true => Ok(()),
            false => Err(format!("{what} must be at least 0, got {it}")),
        };
        at_least_0("covered_s", self.covered_s)?;
        at_least_0("smoothing_s", self.smoothing_s)?;
        at_least_0("false_alarms_a_day", self.false_alarms_a_day)?;
        at_least_0("max_fps", self.max_fps.unwrap_or_default())?;
        for (id, class) in &self.classes {
            Id::new(id.as_str()).map_err(|it| it.to_string())?;
            if class.bound.is_some() != class.lower_bound.is_some() {
                return Err(format!("class {id} must have both bounds or none"));
            }
        }
        let classes = self.classes.values().map(|it| Some(it.background())).collect();
        Background::new(classes, self.temperature).map(drop).map_err(|it| it.to_string())
    }
}

impl KeptClass {
    fn new(found: &CalibratedClass, is_label: bool, prompts: String) -> Self {
        let ClassBackground { mean, deviation, bound } = found.background;
        Self {
            is_label,
            prompts,
            mean,
            deviation,
            bound: bound.map(|it| it.enter),
            lower_bound: bound.map(|it| it.exit),
            from: found.extrapolation.map(KeptExtrapolation::new),
            why_no_bound: found.why_no_bound.as_ref().map(why),
        }
    }

    fn background(&self) -> ClassBackground {
        let bound = self.bound.zip(self.lower_bound);
        ClassBackground {
            mean: self.mean,
            deviation: self.deviation,
            bound: bound.map(|(enter, exit)| Bound { enter, exit }),
        }
    }
}

impl KeptExtrapolation {
    fn new(it: Extrapolation) -> Self {
        let Extrapolation { correlation, block, n_blocks, greatest, estimate } = it;
        let (correlation_s, block_s) = (correlation.as_secs_f64(), block.as_secs_f64());
        Self { correlation_s, block_s, n_blocks, greatest, estimate }
    }
}

/// A sentence for people, with what to do.
fn why(why: &NoBound) -> String {
    match why {
        NoBound::SeemsPresent { accepted } => format!(
            "it was accepted in {:.0} % of the frames, so it seems to be in the picture; calibrate \
             while it is not, or say that it was not with --absent",
            100.0 * accepted
        ),
        NoBound::TwoLevels { upper } => format!(
            "its cosine keeps to two levels, the upper one in {:.0} % of the frames, as if it were there for \
             part of the time; calibrate while it is not, and while the light stays as it is, or say that it \
             was not with --absent",
            100.0 * upper
        ),
        NoBound::TooFewBlocks { got, needed } => format!(
            "the scene changes so slowly that the time holds {got} independent block{}, and {} tell \
             something of a day; calibrate for at least {} minutes",
            if *got == 1 { "" } else { "s" },
            lookout_core::MIN_BLOCKS,
            needed.as_secs().div_ceil(60)
        ),
    }
}

#[cfg(test)]
mod tests {
    use lookout_core::Class;

    use super::*;

    fn classes(names: [&str; 3]) -> ClassSet {
        let class = |(idx, name): (usize, &str)| Class {
            id: Id::new(["cat", "dog", "empty"][idx]).unwrap(),
            kind: if idx == 2 { ClassKind::Negative } else { ClassKind::Label },
            name: name.to_owned(),
            aliases: vec![],
            prompts: vec![],
            enter: None,
        };
        let classes = names.into_iter().enumerate().map(class).collect();
        ClassSet::new(vec!["{}".to_owned()], classes).unwrap()
    }

    fn calibration() -> Calibration {
        let background = |bound| ClassBackground { mean: 0.21, deviation: 0.004, bound };
        let extrapolation = Extrapolation {
            correlation: Duration::from_secs(2),
            block: Duration::from_secs(20),
            n_blocks: 30,
            greatest: 3.5,
            estimate: 5.0,
        };
        let cat = CalibratedClass {
            background: background(Some(Bound { enter: 6.0, exit: 3.0 })),
            extrapolation: Some(extrapolation),
            why_no_bound: None,
        };
        let why = NoBound::SeemsPresent { accepted: 0.25 };
        let dog = CalibratedClass {
            background: background(None),
            extrapolation: None,
            why_no_bound: Some(why),
        };
        let empty = CalibratedClass { why_no_bound: None, ..dog.clone() };
        Calibration {
            n_frames: 1200,
            covered: Duration::from_secs(600),
            smoothing: Duration::from_secs(1),
            false_alarms_a_day: 1.0,
            temperature: Temperature::OfNegatives(1.5),
            classes: vec![cat, dog, empty],
        }
    }

    fn calibrations() -> Calibrations {
        let camera = CameraCalibration::new(
            &calibration(),
            &classes(["a cat", "a dog", "nothing"]),
            5.0,
            None,
        );
        let cameras = BTreeMap::from([(Id::new("yard").unwrap(), camera)]);
        Calibrations { space: "space-1".to_owned(), cameras }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calibration");
        calibrations().write(&path).unwrap();
        assert_eq!(Calibrations::read(&path).unwrap(), calibrations());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(HEADING) && text.contains("extrapolated"), "{text}");
        assert!(text.contains("25 % of the frames"), "{text}");
    }

    #[test]
    fn classes_with_other_prompts_are_unknown() {
        let camera = &calibrations().cameras[&Id::new("yard").unwrap()];
        let Known { background: same, changed, unfit_temperature } =
            camera.known(&classes(["a cat", "a dog", "nothing"]));
        assert!(
            unfit_temperature.is_none()
                && changed.is_empty()
                && (same.temperature() - 1.5).abs() < 1e-12
        );
        assert_eq!(same.classes()[0].unwrap().bound, Some(Bound { enter: 6.0, exit: 3.0 }));
        assert_eq!(same.classes()[1].unwrap().bound, None);
        assert_eq!((camera.without_bound(), camera.provisional()), (vec!["dog"], vec![]));
        let mut provisional = camera.clone();
        let dog = provisional.classes.get_mut("dog").unwrap();
        (dog.bound, dog.lower_bound) = (Some(3.0), Some(1.5));
        assert_eq!((provisional.without_bound(), provisional.provisional()), (vec![], vec!["dog"]));
        let Known { background: other, changed, unfit_temperature } =
            camera.known(&classes(["a cat", "a big dog", "nothing"]));
        assert_eq!(unfit_temperature, Some(1.5));
        assert_eq!(changed, [Id::new("dog").unwrap()]);
        assert!(other.classes()[0] == same.classes()[0] && other.classes()[1].is_none());
        assert!((other.temperature() - 1.0).abs() < 1e-12, "it was of all classes together");
    }

    #[test]
    fn cameras_are_added_to_those_of_the_file_unless_it_is_of_another_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calibration");
        assert_eq!(calibrations().add_to(&path).unwrap(), None);
        let mut shed = calibrations();
        let mut camera = shed.cameras.pop_first().unwrap().1;
        camera.n_frames = 7;
        shed.cameras.insert(Id::new("shed").unwrap(), camera);
        assert_eq!(shed.add_to(&path).unwrap(), None);
        let all = Calibrations::read(&path).unwrap();
        let n_frames: Vec<usize> = all.cameras.values().map(|it| it.n_frames).collect();
        assert_eq!(n_frames, [7, 1200], "shed and yard");
        shed.space = "space-2".to_owned();
        let before = std::fs::read(&path).unwrap();
        let copy = shed.add_to(&path).unwrap().unwrap();
        assert_eq!(std::fs::read(copy).unwrap(), before);
        assert_eq!(Calibrations::read(&path).unwrap(), shed);
        std::fs::write(&path, "lookout calibration 1\n").unwrap();
        assert!(matches!(shed.add_to(&path), Err(StoreError::Damaged { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"lookout calibration 1\n");
    }

    #[test]
    fn values_that_no_calibration_has_are_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calibration");
        let refused = |change: &dyn Fn(&mut CameraCalibration)| {
            let mut it = calibrations();
            change(it.cameras.get_mut(&Id::new("yard").unwrap()).unwrap());
            it.write(&path).unwrap();
            let error = Calibrations::read(&path).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
            error.to_string()
        };
        let cat = |it: &mut CameraCalibration, change: fn(&mut KeptClass)| {
            change(it.classes.get_mut("cat").unwrap());
        };
        assert!(refused(&|it| it.temperature = 0.5).contains("temperature must be 1 to 100"));
        assert!(refused(&|it| cat(it, |it| it.deviation = 0.0)).contains("deviation"));
        assert!(refused(&|it| cat(it, |it| it.mean = 2.0)).contains("mean"));
        assert!(refused(&|it| cat(it, |it| it.lower_bound = None)).contains("both bounds"));
        assert!(refused(&|it| cat(it, |it| it.lower_bound = Some(7.0))).contains("at most"));
        assert!(refused(&|it| it.covered_s = -1.0).contains("covered_s"));
        assert!(refused(&|it| it.max_fps = Some(-5.0)).contains("max_fps"));
        refused(&|it| {
            let cat = it.classes["cat"].clone();
            it.classes.insert("A cat".to_owned(), cat);
        });
    }
}
