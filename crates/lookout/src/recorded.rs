//! A recording as the daemon would see it: which frames it would ask for, what is said of them, and those
//! that cannot be used, which are told and do not end anything.

use std::cmp::Ordering;
use std::time::Duration;

use lookout_capture::{Recording, Truth as Told};
use lookout_core::{
    Candidate, ClassKind, ClassSet, Disposition, Embedding, ImageEncoder, Picture, PortError,
};
use lookout_replay::Truth;

use crate::engine::Engine;
use crate::failure::Failure;
use crate::output;

/// Bad frames that are told one by one.
const MAX_TOLD: u64 = 20;
/// Times in tables are rounded.
const ROUNDING: Duration = Duration::from_millis(1);

/// Asks for frames as a camera's thread does: none sooner than `min_interval` after the last.
#[derive(Debug)]
pub(crate) struct Pace {
    min_interval: Duration,
    asked_at: Option<Duration>,
}

/// Frames that cannot be used.
#[derive(Debug, Default)]
pub(crate) struct BadFrames {
    pub(crate) n: u64,
}

impl Pace {
    pub(crate) fn new(min_interval: Duration) -> Self {
        Self { min_interval, asked_at: None }
    }

    /// Whether a frame that comes at `at` would have been asked for.
    pub(crate) fn asks(&mut self, at: Duration) -> bool {
        let is_due = |it: Duration| it.saturating_add(self.min_interval) <= at + ROUNDING;
        let asks = self.asked_at.is_none_or(is_due);
        if asks {
            self.asked_at = Some(at);
        }
        asks
    }
}

impl BadFrames {
    /// One more; `what` says which and why.
    pub(crate) fn add(&mut self, what: &str) {
        self.n += 1;
        match self.n.cmp(&MAX_TOLD) {
            Ordering::Less => output::complain(what),
            Ordering::Equal => {
                output::complain(&format!("{what}; further ones are counted, not told"));
            }
            Ordering::Greater => {}
        }
    }
}

/// What `told` means; `None` where no class is called so.
pub(crate) fn truth(classes: &ClassSet, told: &Told) -> Option<Truth> {
    let name = match told {
        Told::Class(name) => name,
        Told::NoLabel => return Some(Truth::NoLabel),
        Told::Unsaid => return Some(Truth::Unsaid),
    };
    let classes = classes.classes();
    let by_id = classes.iter().position(|it| it.id.as_str() == name);
    let by_name = || classes.iter().position(|it| it.name == *name);
    let by_alias = || classes.iter().position(|it| it.aliases.contains(name));
    let idx = by_id.or_else(by_name).or_else(by_alias)?;
    Some(match classes[idx].kind {
        ClassKind::Label => Truth::Label(idx),
        ClassKind::Negative => Truth::NoLabel,
    })
}

/// What the recording says is right must be a class in each of `sets`.
pub(crate) fn check_truths<'a>(
    recording: &Recording,
    sets: impl Iterator<Item = &'a ClassSet>,
    camera: &str,
) -> Result<(), Failure> {
    let Some((path, truths)) = recording.truths() else { return Ok(()) };
    let sets: Vec<&ClassSet> = sets.collect();
    let mut faults = Vec::new();
    for (name, line) in truths {
        // Once, however many sets lack it.
        let told = Told::Class(name.clone());
        if sets.iter().any(|classes| truth(classes, &told).is_none()) {
            faults.push(format!(
                "{}:{line}: `truth` must be the id, the name or an alias of a class of camera {camera}, \
                 `none` or empty, got {name:?}",
                path.display()
            ));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Failure::Config(faults)) }
}

/// What the model sees in `picture`, and the captions near it.
pub(crate) fn see(
    engine: &mut Engine,
    picture: &Picture,
) -> Result<(Embedding, Vec<Candidate>), PortError> {
    let image = engine.tower.encode_image(picture)?;
    let candidates =
        engine.candidates(&image).map_err(|error| PortError::new(Disposition::Fatal, error))?;
    Ok((image, candidates))
}

#[cfg(test)]
mod tests {
    use lookout_core::{Class, Id};

    use super::*;

    #[test]
    fn frames_are_asked_for_no_faster_than_the_camera_may() {
        let n_asked = |min_interval_ms| {
            let mut pace = Pace::new(Duration::from_millis(min_interval_ms));
            (0..100u64).filter(|it| pace.asks(Duration::from_millis(it * 50))).count()
        };
        assert_eq!([0, 50, 51, 500].map(n_asked), [100, 100, 100, 10]);
        // From the frame that was asked for, not from a grid.
        let mut pace = Pace::new(Duration::from_secs(1));
        let asked = [0, 700, 1600, 2100, 2600].map(|it| pace.asks(Duration::from_millis(it)));
        assert_eq!(asked, [true, false, true, false, true]);
    }

    #[test]
    fn truth_is_an_id_a_name_or_an_alias() {
        let class = |id: &str, kind, alias: &str| Class {
            id: Id::new(id).unwrap(),
            kind,
            name: format!("a {id}"),
            aliases: vec![alias.to_owned()],
            prompts: vec![],
            enter: None,
        };
        let classes = vec![
            class("cat", ClassKind::Label, "a kitten"),
            class("street", ClassKind::Negative, "a road"),
        ];
        let set = ClassSet::new(vec!["{}".to_owned()], classes).unwrap();
        let of = |name: &str| truth(&set, &Told::Class(name.to_owned()));
        assert_eq!(["cat", "a cat", "a kitten"].map(of), [Some(Truth::Label(0)); 3]);
        assert_eq!(["street", "a street", "a road"].map(of), [Some(Truth::NoLabel); 3]);
        assert_eq!(["a kiten", "Cat", ""].map(of), [None; 3]);
        assert_eq!(truth(&set, &Told::NoLabel), Some(Truth::NoLabel));
        assert_eq!(truth(&set, &Told::Unsaid), Some(Truth::Unsaid));
    }
}
