//! Sets of embeddings: any model's, without its weights.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use lookout_core::{
    Background, Candidate, Class, ClassEmbeddings, ClassKind, ClassSet, DEFAULT_TEMPLATE,
    Embedding, Id, typical_distance,
};
use lookout_encoder::DecisionDefaults;
use lookout_sources::EmbeddingSet;

use super::args::EvalArgs;
use super::halves;
use super::report::{About, SetReport, Shared};
use super::stream::{Stream, Subject, Texts, Truth};
use crate::engine;
use crate::failure::Failure;
use crate::index::meter::Meter;

/// K of the format.
const CAPTIONS: usize = 16;
/// Pictures that tell how far apart pictures lie, as many as the starter bundle has samples.
const N_SAMPLES: usize = 40;
/// By which a picture is accepted: what an imported model begins with.
const RULES: DecisionDefaults = DecisionDefaults { enter: 0.5, margin: 0.2, exit: 0.35 };

/// Every set in the order given. All are read before any is evaluated, so that a mistake shows at once.
pub(super) fn evaluate(args: &EvalArgs) -> Result<Vec<SetReport>, Failure> {
    let read = |folder: &Path| EmbeddingSet::read(folder).map_err(anyhow::Error::from);
    let unknown = args.unknown.as_deref().map(read).transpose()?;
    let mut sets = Vec::new();
    for folder in &args.embeddings {
        let set = read(folder)?;
        if set.truth.iter().all(|it| it.classes.is_empty()) {
            let folder = folder.display();
            return Err(anyhow!(
                "{folder}: truth.tsv names no class of any row; name in its column `classes` what each \
                 row shows, in the words of classes.txt"
            )
            .into());
        }
        if let (Some(unknown), Some(path)) = (&unknown, &args.unknown) {
            check_unknown(&set, unknown).with_context(|| {
                format!("--unknown {} and {}", path.display(), folder.display())
            })?;
        }
        check_halves(args, folder, &set, unknown.as_ref())?;
        sets.push((folder, set));
    }
    let mut reports = Vec::new();
    for (folder, set) in sets {
        reports.push(evaluate_one(args, folder, &set, unknown.as_ref())?);
    }
    Ok(reports)
}

/// Errs where a half has no picture.
fn check_halves(
    args: &EvalArgs,
    folder: &Path,
    set: &EmbeddingSet,
    unknown: Option<&EmbeddingSet>,
) -> Result<(), Failure> {
    let folder = folder.display();
    let shows = |row: &usize| !set.truth[*row].classes.is_empty();
    let scored = (0..set.images.len()).filter(shows).map(name);
    halves::check(args, &format!("{folder}: of the pictures with a class"), scored)?;
    let unknown = (0..unknown.map_or(0, |it| it.images.len())).map(name);
    halves::check(args, "of the pictures of --unknown", unknown)
}

/// What a row's half follows from: the same rows of two sets of the same pictures fall into the same.
fn name(row: usize) -> String {
    row.to_string()
}

/// Errs unless the pictures of `unknown` can be judged in `set`, and show none of its classes.
fn check_unknown(set: &EmbeddingSet, unknown: &EmbeddingSet) -> anyhow::Result<()> {
    let dimension = |it: &EmbeddingSet| it.images.first().map_or(0, Embedding::dimension);
    if (&set.space, dimension(set)) != (&unknown.space, dimension(unknown)) {
        bail!(
            "must be of one model, got {:?} ({} dimensions) and {:?} ({})",
            unknown.space,
            dimension(unknown),
            set.space,
            dimension(set)
        );
    }
    for (row, truth) in unknown.truth.iter().enumerate() {
        let names = truth.classes.iter().map(|it| &unknown.classes[*it]);
        if let Some(name) = names.into_iter().find(|it| set.classes.contains(it)) {
            bail!("row {row} of the unknown shows {name:?}, which is a class");
        }
    }
    Ok(())
}

fn evaluate_one(
    args: &EvalArgs,
    folder: &Path,
    set: &EmbeddingSet,
    unknown: Option<&EmbeddingSet>,
) -> Result<SetReport, Failure> {
    let counts = args.counts(CAPTIONS)?;
    let classes =
        ClassEmbeddings::new(set.class_embeddings.clone()).map_err(anyhow::Error::from)?;
    let subject = Subject {
        // Of the model no pictures of other things are known.
        texts: Texts { classes, background: Background::unknown(set.classes.len()) },
        names: None,
        n_labels: set.classes.len(),
        scales: set.scales,
        captions: counts.captions,
        caption_mean: Some(mean(&set.caption_embeddings)),
        distance: typical_distance(&spread(&set.images, N_SAMPLES)),
        rules: engine::single_picture_rules(RULES),
        set: Arc::new(class_set(set)?),
    };
    let mut stream = Stream::new(&subject, args.seed)?;
    let mut shared = Shared::default();
    let mut meter = Meter::start("pictures");
    let total = (set.images.len() + unknown.map_or(0, |it| it.images.len())) as u64;
    let mut done = 0;
    let mut picture =
        |row: usize, image: &Embedding, truth: &Truth, own: &dyn Fn(usize) -> bool| {
            let candidates = shared.search(|| nearest(set, image, counts.candidates, own));
            stream.picture(&name(row), image, &candidates, truth).map_err(anyhow::Error::from)?;
            done += 1;
            meter.tick(done, total, done);
            anyhow::Ok(())
        };
    for (row, (image, truth)) in set.images.iter().zip(&set.truth).enumerate() {
        let own = |caption: usize| truth.own_captions.contains(&caption);
        let shows = match truth.classes.is_empty() {
            true => Truth::Unsaid,
            false => Truth::Shows(truth.classes.clone()),
        };
        picture(row, image, &shows, &own)?;
    }
    if let Some(unknown) = unknown {
        for (row, (image, truth)) in unknown.images.iter().zip(&unknown.truth).enumerate() {
            // The bank is the other set's, so own captions are found by their words.
            let own = |caption: usize| {
                let text = &set.captions[caption];
                truth.own_captions.iter().any(|it| unknown.captions[*it] == *text)
            };
            picture(row, image, &Truth::Unknown, &own)?;
        }
    }
    meter.finish();
    let about = About {
        set: folder.display().to_string(),
        kind: "embeddings",
        space: set.space.clone(),
        labels: set.classes.len(),
        negatives: 0,
        bank: set.captions.len(),
        counts: Some(counts),
    };
    Ok(SetReport::new(about, args, &stream, shared))
}

/// The classes under ids by their number.
fn class_set(set: &EmbeddingSet) -> anyhow::Result<ClassSet> {
    let class = |(at, name): (usize, &String)| {
        let id = Id::new(format!("class_{at}"))?;
        let (kind, name) = (ClassKind::Label, name.clone());
        anyhow::Ok(Class { id, kind, name, aliases: vec![], prompts: vec![], enter: None })
    };
    let classes = set.classes.iter().enumerate().map(class).collect::<Result<_, _>>()?;
    ClassSet::new(vec![DEFAULT_TEMPLATE.to_owned()], classes).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow!("classes.txt: {}", errors.join("; "))
    })
}

/// `n` of them evenly over all, as sets are often sorted by class; all where there are fewer.
fn spread(images: &[Embedding], n: usize) -> Vec<Embedding> {
    let n = n.min(images.len());
    (0..n).map(|it| images[it * images.len() / n].clone()).collect()
}

/// The mean, not normalized.
fn mean(embeddings: &[Embedding]) -> Vec<f32> {
    let mut sum = vec![0.0f64; embeddings.first().map_or(0, Embedding::dimension)];
    for embedding in embeddings {
        for (sum, it) in sum.iter_mut().zip(embedding.as_slice()) {
            *sum += f64::from(*it);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let n = embeddings.len() as f64;
    #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
    let values = sum.into_iter().map(|it| (it / n) as f32).collect();
    values
}

/// The `n` captions nearest to an image, without its own, by their exact cosines. Of equals the first.
fn nearest(
    set: &EmbeddingSet,
    image: &Embedding,
    n: usize,
    is_own: &dyn Fn(usize) -> bool,
) -> Vec<Candidate> {
    let mut hits: Vec<(f64, usize)> = set
        .caption_embeddings
        .iter()
        .enumerate()
        .filter(|(at, _)| !is_own(*at))
        .map(|(at, it)| (image.cosine(it), at))
        .collect();
    let nearer = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if n < hits.len() {
        hits.select_nth_unstable_by(n, nearer);
        hits.truncate(n);
    }
    hits.sort_unstable_by(nearer);
    let candidate = |(key_similarity, at): (f64, usize)| {
        let (text, embedding) = (set.captions[at].clone(), set.caption_embeddings[at].clone());
        Candidate { text, embedding, key_similarity }
    };
    hits.into_iter().map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_of_the_whole_set() {
        let one = |it: u16| Embedding::normalize(vec![f32::from(it), 1.0]).unwrap();
        let images: Vec<Embedding> = (0..100).map(one).collect();
        assert_eq!(spread(&images, 4), [0, 25, 50, 75].map(one));
        assert_eq!(spread(&images[..3], 40), images[..3]);
        assert_eq!(spread(&[], 40), []);
    }
}
