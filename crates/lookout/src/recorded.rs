//! A recording as the daemon would see it: which frames it would ask for, what is said of them, and those
//! that cannot be used, which are told and do not end anything.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use lookout_capture::{Recording, Truth as Told};
use lookout_core::{
    Candidate, ClassKind, ClassSet, Disposition, Embedding, ImageEncoder, Picture, PortError,
};
use lookout_replay::Truth;

use crate::engine::Engine;
use crate::failure::Failure;
use crate::names::{Names, Unmatched};
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

/// What a recording says is right, as the classes of one set have it.
#[derive(Debug, Default)]
pub(crate) struct Truths(HashMap<String, Truth>);

impl Truths {
    /// What `told` means; nobody said it where the recording's table did not have it when it was checked.
    pub(crate) fn of(&self, told: &Told) -> Truth {
        match told {
            Told::Class(name) => self.0.get(name).copied().unwrap_or(Truth::Unsaid),
            Told::NoLabel => Truth::NoLabel,
            Told::Unsaid => Truth::Unsaid,
        }
    }
}

/// What the recording says is right, for each of `sets`; it must be a class in all of them. Columns that mean
/// nothing are told.
pub(crate) fn truths<'a>(
    recording: &Recording,
    sets: impl Iterator<Item = &'a ClassSet>,
    camera: &str,
) -> Result<Vec<Truths>, Failure> {
    if let Some((path, headings)) = recording.other_headings() {
        output::complain(&other_headings(path, headings));
    }
    let none = BTreeMap::new();
    let (path, said) = recording.truths().unwrap_or((Path::new(""), &none));
    let mut all = Vec::new();
    // By line, so each is told once however many sets lack it.
    let mut faults: BTreeMap<(u64, &String), String> = BTreeMap::new();
    for set in sets {
        let names = Names::of(set);
        let mut truths = Truths::default();
        for (name, &line) in said {
            let but = match names.find(name) {
                Ok(at) => {
                    truths.0.insert(name.clone(), truth(set, at));
                    continue;
                }
                Err(Unmatched::Nothing) => String::new(),
                Err(Unmatched::Several(ids)) => format!(", which is each of {}", ids.join(", ")),
            };
            faults.entry((line, name)).or_insert_with(|| {
                format!(
                    "{}:{line}: `truth` must be the id, the name or an alias of a class of camera \
                     {camera}, `none` or empty, got {name:?}{but}",
                    path.display()
                )
            });
        }
        all.push(truths);
    }
    if faults.is_empty() { Ok(all) } else { Err(Failure::Config(faults.into_values().collect())) }
}

/// That some columns mean nothing; one of them may have been meant as the truth.
fn other_headings(path: &Path, headings: &[String]) -> String {
    let names: Vec<String> = headings.iter().map(|it| format!("{it:?}")).collect();
    let (names, columns) = (names.join(", "), if names.len() == 1 { "column" } else { "columns" });
    format!(
        "{}:1: {columns} headed {names} passed over; what is right is read from `truth`",
        path.display()
    )
}

fn truth(classes: &ClassSet, at: usize) -> Truth {
    match classes.classes()[at].kind {
        ClassKind::Label => Truth::Label(at),
        ClassKind::Negative => Truth::NoLabel,
    }
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
    fn columns_that_mean_nothing_are_named() {
        let of = |headings: &[&str]| {
            let headings: Vec<String> = headings.iter().map(|it| (*it).to_owned()).collect();
            other_headings(Path::new("frames.tsv"), &headings)
        };
        let rest = "passed over; what is right is read from `truth`";
        assert_eq!(of(&["trut"]), format!("frames.tsv:1: column headed \"trut\" {rest}"));
        assert_eq!(of(&["a", ""]), format!("frames.tsv:1: columns headed \"a\", \"\" {rest}"));
    }

    #[test]
    fn truth_is_an_id_a_name_or_an_alias_upper_case_aside_and_one_class() {
        let class = |id: &str, kind, aliases: &[&str]| Class {
            id: Id::new(id).unwrap(),
            kind,
            name: format!("a {id}"),
            aliases: aliases.iter().map(|it| (*it).to_owned()).collect(),
            prompts: vec![],
            enter: None,
        };
        let classes = vec![
            class("cat", ClassKind::Label, &["a kitten", "pet"]),
            class("dog", ClassKind::Label, &["pet"]),
            class("street", ClassKind::Negative, &["a Road"]),
        ];
        let set = ClassSet::new(vec!["{}".to_owned()], classes).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let of = |words: &[&str]| {
            let rows: String = words.iter().map(|it| format!("a.jpg\t0\t{it}\n")).collect();
            let table = format!("file\tseconds\ttruth\n{rows}");
            std::fs::write(folder.path().join("frames.tsv"), table).unwrap();
            let limits = lookout_capture::PictureLimits::default();
            let recording = Recording::open(folder.path(), None, limits).unwrap();
            truths(&recording, [&set, &set].into_iter(), "yard").map(|it| {
                let of = |word: &&str| it[0].of(&Told::Class((*word).to_owned()));
                words.iter().map(of).collect::<Vec<Truth>>()
            })
        };
        assert_eq!(of(&["cat", "a cat", "A KITTEN", "A Cat"]).unwrap(), [Truth::Label(0); 4]);
        assert_eq!(of(&["street", "A street", "a road"]).unwrap(), [Truth::NoLabel; 3]);
        let faults = of(&["a kiten", "cat", "CAT", "Pet"]).unwrap_err().lines();
        for (fault, parts) in faults.iter().zip([
            &["frames.tsv:2: ", "got \"a kiten\""][..],
            &["frames.tsv:4: ", "got \"CAT\""],
            &["frames.tsv:5: ", "got \"Pet\", which is each of cat, dog"],
        ]) {
            assert!(parts.iter().all(|it| fault.contains(it)), "{fault}");
        }
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert_eq!(Truths::default().of(&Told::NoLabel), Truth::NoLabel);
        assert_eq!(Truths::default().of(&Told::Unsaid), Truth::Unsaid);
    }
}
