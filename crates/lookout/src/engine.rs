//! Model and index together, agreed on one embedding space.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::HumanDuration;
use lookout_capture::{PictureLimits, read_picture};
use lookout_core::{
    AdaptationMode, Background, Candidate, ClassEmbeddings, ClassSet, Classifier, Clock, Device,
    Embedding, Picture, Reach, Recalled, Scales, Selection, Weighting,
};
use lookout_encoder::{
    Bundle, DecisionDefaults, EncoderError, Golden, ImageTower, Runtime, TextTower,
};
use lookout_index::{Index, Lessons};

use crate::clock::SystemClock;
use crate::index;
use crate::packs::{Key, Packs};

/// Embedding more texts than this is announced: on a small board they take half a minute and longer.
const MANY_TEXTS: usize = 200;
/// The log target of that, which verbs without a daemon's log show too.
pub(crate) const TEXTS_LOG: &str = "lookout::texts";
/// N where nothing else is said: enough for K captions after duplicates are gone.
const DEFAULT_CANDIDATES: usize = lookout_index::DEFAULT_CANDIDATES;

/// Encoder and index of one embedding space.
pub(crate) struct Engine {
    pub(crate) bundle: Bundle,
    pub(crate) runtime: Runtime,
    pub(crate) tower: ImageTower,
    pub(crate) index: Option<Index>,
    /// N, the candidates asked of the index.
    pub(crate) n_candidates: usize,
    /// What was taught; `None` where nothing can be.
    pub(crate) lessons: Option<Lessons>,
}

/// Which part of an [`Engine`] cannot be used.
#[derive(Debug)]
pub(crate) enum EngineError {
    Model(anyhow::Error),
    Index(anyhow::Error),
    Taught(anyhow::Error),
}

impl From<EngineError> for anyhow::Error {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Model(error) | EngineError::Index(error) | EngineError::Taught(error) => {
                error
            }
        }
    }
}

impl Engine {
    /// Loads both and checks that they agree, and that this machine computes the bundle's first
    /// golden embedding.
    pub(crate) fn load(
        runtime: &Runtime,
        model: &Path,
        index: Option<&Path>,
        n_candidates: Option<usize>,
        taught: Option<&Path>,
    ) -> Result<Self, EngineError> {
        let (bundle, tower) = load_model(runtime, model).map_err(EngineError::Model)?;
        let n_candidates = n_candidates.unwrap_or(DEFAULT_CANDIDATES.max(bundle.n_captions()));
        let index = index
            .map(|path| open_index(path, &bundle, n_candidates))
            .transpose()
            .map_err(EngineError::Index)?;
        let lessons = match taught {
            // A model that cannot be taught is none the worse for it.
            Some(path) if path.exists() || reach(&bundle).is_ok() => {
                Some(open_lessons(path, &bundle).map_err(EngineError::Taught)?)
            }
            _ => None,
        };
        Ok(Self { bundle, runtime: runtime.clone(), tower, index, n_candidates, lessons })
    }

    /// The lessons in reach of an image.
    pub(crate) fn recalled(&self, image: &Embedding) -> Vec<Recalled> {
        self.lessons.as_ref().map_or_else(Vec::new, |it| it.recall(image))
    }

    /// How classifiers are made that search this engine's index.
    pub(crate) fn recipe(
        &self,
        weighting: Option<Weighting>,
        n_captions: Option<usize>,
    ) -> anyhow::Result<Recipe> {
        Recipe::new(&self.bundle, self.index.as_ref(), weighting, n_captions)
    }

    /// The candidates for an image; none without an index.
    pub(crate) fn candidates(&self, image: &Embedding) -> anyhow::Result<Vec<Candidate>> {
        match &self.index {
            Some(index) => Ok(index.search(image, self.n_candidates)?),
            None => Ok(Vec::new()),
        }
    }
}

/// Opens a device, and says where the model will run and why.
pub(crate) fn open(device: Device) -> Result<Runtime, EncoderError> {
    let runtime = Runtime::open(device)?;
    let on = runtime.describe();
    match runtime.fallback() {
        Some(_) if !cfg!(feature = "cuda") => {
            tracing::info!(on, "The model runs on the CPU, the only device of this build.");
        }
        Some(reason) => tracing::info!(on, "The model runs on the CPU: {reason}"),
        None => tracing::info!(on, "The model runs on device {device}."),
    }
    Ok(runtime)
}

fn load_model(runtime: &Runtime, model: &Path) -> anyhow::Result<(Bundle, ImageTower)> {
    let bundle = Bundle::open(model)?;
    let mut tower = ImageTower::load_on(&bundle, runtime, 1)?;
    for check in Golden::open(&bundle)?.check_pictures(&mut tower, 1, |path| Ok(read(path)?))? {
        check.ensure()?;
    }
    Ok((bundle, tower))
}

/// Opens an index for searches of up to `n_candidates`, and refuses one of another embedding
/// space than the bundle's.
pub(crate) fn open_index(
    path: &Path,
    bundle: &Bundle,
    n_candidates: usize,
) -> anyhow::Result<Index> {
    let index = Index::open_for(path, n_candidates)?;
    index.check_space(bundle.space(), bundle.dimension()).with_context(|| {
        format!("model {} and index {} do not fit", bundle.dir().display(), path.display())
    })?;
    Ok(index)
}

/// The lessons in `path`; none where there is no such file. Errs where the model has too few sample
/// pictures for any.
pub(crate) fn open_lessons(path: &Path, bundle: &Bundle) -> anyhow::Result<Lessons> {
    let lessons = Lessons::open(path, bundle.space(), bundle.dimension(), reach(bundle)?)?;
    tell_torn(path, &lessons);
    Ok(lessons)
}

/// The lessons of a file, which must be there.
pub(crate) fn lessons(path: &Path, bundle: &Bundle) -> anyhow::Result<Lessons> {
    if !path.exists() {
        bail!("{} does not exist; `lookout teach` makes such a file", path.display());
    }
    open_lessons(path, bundle)
}

/// Tells of what an interrupted write left.
fn tell_torn(path: &Path, lessons: &Lessons) {
    if 0 < lessons.torn_bytes() {
        tracing::warn!(
            lessons = lessons.lessons().len(),
            "The last record of {} is not whole: a write was interrupted, or the disk damaged it. What it \
             said does not count; the next `lookout teach` puts it into {}.",
            path.display(),
            lookout_index::torn_path(path).display()
        );
    }
}

/// How far lessons reach with a model, by its sample pictures.
pub(crate) fn reach(bundle: &Bundle) -> anyhow::Result<Reach> {
    let golden = Golden::open(bundle)?;
    let pictures: Vec<Embedding> = golden.picture_embeddings().cloned().collect();
    Reach::beyond(&pictures).with_context(|| {
        format!(
            "model {} has {} sample pictures; to be taught it must have {} of different scenes",
            bundle.dir().display(),
            pictures.len(),
            Reach::MIN_PICTURES
        )
    })
}

/// The lessons to use: those named, else those beside the index.
pub(crate) fn taught_path(named: Option<&Path>, index: Option<&Path>) -> Option<PathBuf> {
    named.map(Path::to_path_buf).or_else(|| index.map(lookout_index::taught_path))
}

/// The index to use with a bundle when none is named: the one in its folder.
pub(crate) fn index_path(named: Option<&Path>, model: &Path) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        return Ok(path.to_path_buf());
    }
    let path = model.join(crate::assets::INDEX_FILE);
    if !path.exists() {
        bail!(
            "{} does not exist; name an index with --index (one for this model is built with \
             `lookout index build --model {} CAPTIONS.tsv --output NAME.lidx`), or let the image \
             decide alone (`classify` and `eval` have --image-only)",
            path.display(),
            model.display()
        );
    }
    Ok(path)
}

/// The embeddings of every class, from `packs` where they are there.
pub(crate) fn compile(
    runtime: &Runtime,
    bundle: &Bundle,
    sets: &[&ClassSet],
    packs: &Packs,
) -> anyhow::Result<Vec<ClassEmbeddings>> {
    let keys: Vec<Option<Key>> = sets.iter().map(|it| Key::of(it, bundle, runtime)).collect();
    let get = |(set, key): (&&ClassSet, &Option<Key>)| {
        packs.get((*key)?, set.classes().len(), bundle.dimension())
    };
    let mut compiled: Vec<Option<ClassEmbeddings>> = sets.iter().zip(&keys).map(get).collect();
    let missing: Vec<usize> = (0..sets.len()).filter(|it| compiled[*it].is_none()).collect();
    tracing::debug!(sets = sets.len(), compiled = missing.len(), "Labels are embedded.");
    if missing.is_empty() {
        // A damaged model is told all the same.
        bundle.verify_text_files()?;
    } else {
        let new: Vec<&ClassSet> = missing.iter().map(|it| sets[*it]).collect();
        for (idx, classes) in missing.into_iter().zip(embed(runtime, bundle, &new)?) {
            if let Some(key) = keys[idx] {
                packs.put(key, &classes);
            }
            compiled[idx] = Some(classes);
        }
    }
    Ok(compiled.into_iter().flatten().collect())
}

/// Embeds the prompts of every class. The text tower is loaded for this alone and released, and
/// a prompt that several sets share is embedded once.
fn embed(
    runtime: &Runtime,
    bundle: &Bundle,
    sets: &[&ClassSet],
) -> anyhow::Result<Vec<ClassEmbeddings>> {
    let mut tower = TextTower::load_on(bundle, runtime, 1)?;
    let golden = Golden::open(bundle)?;
    let clock = SystemClock::start();
    for check in golden.check_texts(&mut tower, 1)? {
        check.ensure()?;
    }
    let time_of_one = clock.monotonic();
    let all = sets.iter().flat_map(|set| (0..set.classes().len()).flat_map(|it| set.prompts(it)));
    let n_texts = all.collect::<HashSet<String>>().len();
    if MANY_TEXTS < n_texts {
        let about = time_of_one.saturating_mul(u32::try_from(n_texts).unwrap_or(u32::MAX));
        tracing::info!(
            target: TEXTS_LOG,
            texts = n_texts,
            "Labels and the words of the background bank are embedded, once; this may take {}.",
            HumanDuration(about)
        );
    }
    let bar = index::bar("texts", n_texts);
    let mut known: HashMap<String, Embedding> = HashMap::new();
    let mut compile_set = |set: &ClassSet| {
        let mut classes = Vec::with_capacity(set.classes().len());
        for (idx, class) in set.classes().iter().enumerate() {
            let mut prompts = Vec::new();
            for prompt in set.prompts(idx) {
                let embedding = match known.get(&prompt) {
                    Some(it) => it.clone(),
                    None => {
                        let it = tower
                            .encode_text(&prompt)
                            .with_context(|| format!("class `{}`, prompt {prompt:?}", class.id))?;
                        known.insert(prompt, it.clone());
                        bar.inc(1);
                        it
                    }
                };
                prompts.push(embedding);
            }
            let mean = Embedding::mean(&prompts)
                .with_context(|| format!("the prompts of class `{}` cancel out", class.id))?;
            classes.push(mean);
        }
        anyhow::Ok(ClassEmbeddings::new(classes)?)
    };
    let compiled = sets.iter().map(|set| compile_set(set)).collect::<anyhow::Result<_>>();
    bar.finish_and_clear();
    if MANY_TEXTS < n_texts && compiled.is_ok() {
        let took = HumanDuration(clock.monotonic());
        tracing::info!(target: TEXTS_LOG, texts = n_texts, "They are embedded; it took {took}.");
    }
    compiled
}

/// What classifiers are made by, whatever their classes.
#[derive(Clone)]
pub(crate) struct Recipe {
    scales: Scales,
    weighting: Weighting,
    selection: Selection,
    caption_mean: Option<Vec<f32>>,
    adaptation: Option<(AdaptationMode, f64)>,
    samples: Vec<Embedding>,
}

impl Recipe {
    /// As the bundle recommends it where nothing else is said.
    pub(crate) fn new(
        bundle: &Bundle,
        index: Option<&Index>,
        weighting: Option<Weighting>,
        n_captions: Option<usize>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            scales: bundle.scales(),
            weighting: weighting.unwrap_or_else(|| bundle.weighting()),
            selection: Selection::best(n_captions.unwrap_or_else(|| bundle.n_captions())),
            caption_mean: index.map(Index::caption_mean),
            adaptation: None,
            samples: Golden::open(bundle)?.picture_embeddings().cloned().collect(),
        })
    }

    /// How its classifiers fuse.
    pub(crate) fn weighting(&self) -> Weighting {
        self.weighting
    }

    /// With another way to choose captions; see [`Selection`].
    pub(crate) fn choosing(mut self, rerank: bool, dedupe: bool) -> Self {
        (self.selection.rerank, self.selection.dedupe) = (rerank, dedupe);
        self
    }

    /// With classifiers that adapt to their stream. Errs where the model has too few sample pictures to
    /// tell how far apart pictures lie.
    pub(crate) fn adapting(self, mode: AdaptationMode) -> anyhow::Result<Self> {
        let distance = self.typical_distance().with_context(|| {
            let n = self.samples.len();
            format!(
                "the model has {n} sample pictures; to adapt it must have 2 of different scenes"
            )
        })?;
        Ok(Self { adaptation: Some((mode, distance)), ..self })
    }

    /// How far apart pictures of different things lie, by the model's samples; `None` where it has too
    /// few of them.
    pub(crate) fn typical_distance(&self) -> Option<f64> {
        lookout_core::typical_distance(&self.samples)
    }

    /// What can be said of any scene's background, by the model's sample pictures; nothing where it has
    /// too few of them.
    pub(crate) fn background(&self, classes: &ClassEmbeddings) -> Background {
        Background::of_samples(classes, &self.samples)
            .unwrap_or_else(|| Background::unknown(classes.as_slice().len()))
    }

    /// A classifier over compiled classes, without a past.
    pub(crate) fn classifier(&self, classes: ClassEmbeddings) -> anyhow::Result<Classifier> {
        let it = Classifier::choosing(classes, self.scales, self.weighting, self.selection);
        let it = match &self.caption_mean {
            Some(mean) => it.with_caption_mean(mean)?,
            None => it,
        };
        Ok(match self.adaptation {
            Some((mode, distance)) => it.adapting(mode, distance),
            None => it,
        })
    }
}

/// Reads a picture within the default limits, every pixel of it.
pub(crate) fn read(path: &Path) -> anyhow::Result<Picture> {
    Ok(read_picture(path, &PictureLimits::default())?)
}

/// The default limits for pictures that only `bundle`'s image tower looks at.
pub(crate) fn limits(bundle: &Bundle) -> PictureLimits {
    PictureLimits { enough_px: Some(bundle.image_rule().enough_px()), ..PictureLimits::default() }
}

/// Rules for judging single pictures: a bundle's thresholds, no memory.
pub(crate) fn single_picture_rules(decision: DecisionDefaults) -> lookout_core::DecisionRules {
    lookout_core::DecisionRules {
        enter: decision.enter,
        margin: decision.margin,
        exit: decision.exit,
        sigmas: None,
        familiarity: None,
        smoothing: Duration::ZERO,
        dwell: Duration::ZERO,
        cooldown: Duration::ZERO,
        stale_after: Duration::MAX,
    }
}
