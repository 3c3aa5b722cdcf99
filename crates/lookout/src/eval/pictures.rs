//! Pictures with labels, through a bundle and its index.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use cpu_time::ProcessTime;
use lookout_capture::read_picture;
use lookout_config::{ConfigError, LabelSet};
use lookout_core::{Candidate, Class, ClassEmbeddings, ClassKind, ClassSet, DEFAULT_TEMPLATE};
use lookout_encoder::Bundle;
use lookout_sources::LabelledPicture;

use super::args::{Counts, EvalArgs};
use super::halves;
use super::report::{About, SetReport, Shared, UnmatchedLabel, Unreadable};
use super::stream::{Stream, Subject, Texts, Truth};
use crate::engine::{self, Engine};
use crate::failure::Failure;
use crate::index::meter::Meter;
use crate::names::{Names, Unmatched};
use crate::packs::Packs;
use crate::{assets, memory, output};

pub(super) fn evaluate(args: &EvalArgs, source: &Path) -> Result<SetReport, Failure> {
    let read = |source: &Path| LabelledPicture::read_all(source).map_err(anyhow::Error::from);
    let pictures = read(source)?;
    if pictures.iter().all(|it| it.labels.is_empty()) {
        return Err(unlabelled(source).into());
    }
    let unknown = args.unknown.as_deref().map(read).transpose()?.unwrap_or_default();
    let labels = match &args.labels {
        Some(path) => LabelSet::load(path)?,
        None => classes_of(&pictures, source)?,
    };
    let model = assets::model_dir(args.model.model.as_deref())?;
    // The classes depend on the bundle's templates, and a mistake in them should show before it loads.
    let bundle = Bundle::open(&model).map_err(anyhow::Error::from)?;
    let set = labels
        .class_set(bundle.templates())
        .map_err(|errors| Failure::Config(errors.iter().map(ToString::to_string).collect()))?;
    let names = Names::of(&set);
    let mut unmatched = BTreeMap::new();
    let mut samples: Vec<(&LabelledPicture, Truth)> =
        pictures.iter().map(|it| (it, truth(it, &names, &mut unmatched))).collect();
    if !args.skip_unmatched && !unmatched.is_empty() {
        return Err(tell_unmatched(&unmatched));
    }
    if !samples.iter().any(|it| matches!(it.1, Truth::Shows(_))) {
        let source = source.display();
        return Err(anyhow!(
            "{source}: no picture has a label that is a class; give classes of these labels with --labels"
        )
        .into());
    }
    let scored = samples.iter().filter(|it| matches!(it.1, Truth::Shows(_)));
    let (scored, source_name) = (scored.map(|it| &it.0.name), source.display());
    halves::check(args, &format!("of the pictures of {source_name} with a class"), scored)?;
    halves::check(args, "of the pictures of --unknown", unknown.iter().map(|it| &it.name))?;
    samples.extend(unknowns(&unknown, &names, &set)?);

    let counts = args.counts(bundle.n_captions())?;
    let most_own = samples.iter().map(|it| it.0.captions.len()).max().unwrap_or(0);
    let index = match args.image_only {
        true => None,
        false => Some(engine::index_path(args.index.as_deref(), &model)?),
    };
    let runtime = engine::open(args.device.device).map_err(anyhow::Error::from)?;
    let n = counts.candidates.saturating_add(most_own);
    let mut engine = Engine::load(&runtime, &model, index.as_deref(), Some(n), None)
        .map_err(anyhow::Error::from)?;
    let plain = plain(&set)?;
    let mut compiled =
        engine::compile(&runtime, &engine.bundle, &[&set, &plain], &Packs::here())?.into_iter();
    let classes = compiled.next().context("the label set was not embedded")?;
    let n_labels = set.classes().iter().filter(|it| it.kind == ClassKind::Label).count();
    let recipe = engine.recipe(None, None)?;
    let texts = |classes: ClassEmbeddings| {
        let background = recipe.background(&classes);
        Texts { classes, background }
    };
    let subject = Subject {
        names: compiled.next().map(texts),
        n_labels,
        scales: engine.bundle.scales(),
        captions: counts.captions,
        caption_mean: engine.index.as_ref().map(lookout_index::Index::caption_mean),
        distance: recipe.typical_distance(),
        rules: engine::single_picture_rules(engine.bundle.decision()),
        set: Arc::new(set.clone()),
        texts: texts(classes),
    };
    let mut stream = Stream::new(&subject, args.seed)?;
    let zero = Some(Duration::ZERO);
    let mut shared = Shared { decode: zero, encode: zero, search: Duration::ZERO };
    let mut unreadable = Vec::new();
    memory::steady();
    let mut meter = Meter::start("pictures");
    let total = samples.len() as u64;
    for (done, (picture, truth)) in (1..).zip(&samples) {
        match judge(&mut engine, &mut stream, &mut shared, counts, picture, truth) {
            Ok(()) => {}
            Err(error) => {
                let error = format!("{error:#}");
                if !args.json {
                    output::complain(&error);
                }
                unreadable.push(Unreadable { file: picture.name.clone(), error });
            }
        }
        meter.tick(done, total, done);
    }
    meter.finish();
    let about = About {
        set: source.display().to_string(),
        kind: "pictures",
        space: engine.bundle.space().to_owned(),
        labels: n_labels,
        negatives: set.classes().len() - n_labels,
        bank: engine.index.as_ref().map_or(0, |it| it.info().n_entries),
        counts: engine.index.is_some().then_some(counts),
    };
    let unmatched = unmatched
        .into_iter()
        .map(|(label, it)| UnmatchedLabel { label, pictures: it.pictures })
        .collect();
    Ok(SetReport::new(about, args, &stream, shared).without(unreadable, unmatched))
}

/// One picture through all variants.
fn judge(
    engine: &mut Engine,
    stream: &mut Stream,
    shared: &mut Shared,
    counts: Counts,
    picture: &LabelledPicture,
    truth: &Truth,
) -> anyhow::Result<()> {
    let start = ProcessTime::now();
    let decoded = read_picture(&picture.path, &engine::limits(&engine.bundle))?;
    let decode = start.elapsed();
    let start = ProcessTime::now();
    let image =
        engine.tower.encode(&decoded).with_context(|| picture.path.display().to_string())?;
    let encode = start.elapsed();
    let candidates = shared.search(|| engine.candidates(&image))?;
    let candidates = without_own(candidates, &picture.captions, counts.candidates);
    stream.picture(&picture.name, &image, &candidates, truth)?;
    shared.decode = shared.decode.map(|it| it + decode);
    shared.encode = shared.encode.map(|it| it + encode);
    Ok(())
}

/// The first `n` candidates whose text is not among `own`, upper case and space at the ends aside.
fn without_own(mut candidates: Vec<Candidate>, own: &[String], n: usize) -> Vec<Candidate> {
    let own: HashSet<String> = own.iter().map(|it| it.trim().to_lowercase()).collect();
    candidates.retain(|it| !own.contains(&it.text.trim().to_lowercase()));
    candidates.truncate(n);
    candidates
}

/// No picture of `source` has a label.
fn unlabelled(source: &Path) -> anyhow::Error {
    let name = source.display();
    match source.is_dir() {
        true => anyhow!(
            "{name}: there must be a folder for each class, named after it, with its pictures, such as \
             {}; all pictures lie outside of such folders",
            source.join("cat").join("a.jpg").display()
        ),
        false => anyhow!(
            "{name}: no picture has a label; say what each shows in a column headed `label`, or `labels` \
             for several joined by |, with tabs between columns"
        ),
    }
}

/// The labels of the pictures as classes, in the order in which they come.
fn classes_of(pictures: &[LabelledPicture], source: &Path) -> Result<LabelSet, Failure> {
    let mut seen = HashSet::new();
    let labels = pictures.iter().flat_map(|it| &it.labels);
    let labels: Vec<String> = labels.filter(|it| seen.insert(it.to_lowercase())).cloned().collect();
    LabelSet::from_pictures(&labels, source).map_err(|error| {
        let begin =
            format!("the labels of {} make no classes; name some with --labels", source.display());
        match error {
            ConfigError::Faults(faults) => {
                let faults = faults.iter().map(ToString::to_string);
                Failure::Config(std::iter::once(begin).chain(faults).collect())
            }
            other => Failure::from(other),
        }
    })
}

/// The same classes by their bare names.
fn plain(set: &ClassSet) -> Result<ClassSet, Failure> {
    let bare = |it: &Class| Class { aliases: vec![], prompts: vec![], ..it.clone() };
    let classes = set.classes().iter().map(bare).collect();
    ClassSet::new(vec![DEFAULT_TEMPLATE.to_owned()], classes)
        .map_err(|errors| Failure::Config(errors.iter().map(ToString::to_string).collect()))
}

/// A label that is no class.
struct NoClass {
    why: Unmatched,
    /// The first picture that has it.
    first: String,
    pictures: usize,
}

fn truth(
    picture: &LabelledPicture,
    names: &Names<'_>,
    unmatched: &mut BTreeMap<String, NoClass>,
) -> Truth {
    let mut shown = Vec::new();
    for label in &picture.labels {
        match names.find(label) {
            Ok(class) => shown.push(class),
            Err(why) => {
                let new = || NoClass { why, first: picture.name.clone(), pictures: 0 };
                unmatched.entry(label.clone()).or_insert_with(new).pictures += 1;
            }
        }
    }
    match shown.is_empty() {
        true => Truth::Unsaid,
        false => Truth::Shows(names.right(&shown)),
    }
}

fn tell_unmatched(unmatched: &BTreeMap<String, NoClass>) -> Failure {
    let line = |(label, it): (&String, &NoClass)| {
        let NoClass { why, first, pictures } = it;
        let whose = match pictures {
            1 => format!("label {label:?} of 1 picture, {first:?},"),
            _ => format!("label {label:?} of {pictures} pictures, the first {first:?},"),
        };
        match why {
            Unmatched::Nothing => format!("{whose} is no id, name or alias of a class"),
            Unmatched::Several(ids) => {
                format!("{whose} may be any of the classes {}; use an id", ids.join(", "))
            }
        }
    };
    let mut lines: Vec<String> = unmatched.iter().map(line).collect();
    lines.push("give classes for these labels, or --skip-unmatched to leave them out".to_owned());
    Failure::Config(lines)
}

/// Pictures that show none of the labels. Errs where their source says that one does.
fn unknowns<'a>(
    pictures: &'a [LabelledPicture],
    names: &Names<'_>,
    set: &ClassSet,
) -> Result<Vec<(&'a LabelledPicture, Truth)>, Failure> {
    let mut faults = Vec::new();
    for picture in pictures {
        for label in &picture.labels {
            let what = match names.find(label) {
                Ok(class) if set.classes()[class].kind == ClassKind::Label => {
                    "which is a label".to_owned()
                }
                Err(Unmatched::Several(ids)) => {
                    format!("which may be any of the classes {}; use an id", ids.join(", "))
                }
                Ok(_) | Err(Unmatched::Nothing) => continue,
            };
            faults.push(format!("--unknown: {:?} shows {label:?}, {what}", picture.name));
        }
    }
    if faults.is_empty() {
        Ok(pictures.iter().map(|it| (it, Truth::Unknown)).collect())
    } else {
        Err(Failure::Config(faults))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_label_is_not_unknown() {
        let class = |id: &str, kind, name: &str| Class {
            id: lookout_core::Id::new(id).unwrap(),
            kind,
            name: name.to_owned(),
            aliases: vec![],
            prompts: vec![],
            enter: None,
        };
        let classes = vec![
            class("crane1", ClassKind::Label, "crane"),
            class("crane2", ClassKind::Label, "crane"),
            class("dark", ClassKind::Negative, "darkness"),
        ];
        let set = ClassSet::new(vec!["{}".to_owned()], classes).unwrap();
        let names = Names::of(&set);
        let shows = |label: &str| {
            let picture = LabelledPicture {
                path: "a.jpg".into(),
                name: "a.jpg".to_owned(),
                labels: vec![label.to_owned()],
                captions: vec![],
            };
            match unknowns(&[picture], &names, &set) {
                Ok(it) => Ok(it.len()),
                Err(Failure::Config(faults)) => Err(faults.join("; ")),
                Err(_) => panic!("another failure"),
            }
        };
        assert_eq!(shows("darkness"), Ok(1));
        assert_eq!(shows("a truck"), Ok(1));
        assert_eq!(
            shows("Crane"),
            Err("--unknown: \"a.jpg\" shows \"Crane\", which may be any of the classes crane1, \
                 crane2; use an id"
                .to_owned())
        );
        let label = shows("crane1").unwrap_err();
        assert!(label.ends_with("which is a label"), "{label}");
    }
}
