//! `lookout suggest`: what could be labelled here, by the captions that the index has for pictures.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use lookout_capture::{PICTURE_EXTENSIONS, picture_names, read_picture};
use lookout_core::{ClassEmbeddings, Embedding, Retrieved, Selection, choose, suggest};
use lookout_index::Index;
use serde::Serialize;

use crate::cli::SuggestArgs;
use crate::engine::{self, Engine};
use crate::failure::Failure;
use crate::packs::Packs;
use crate::{assets, bank, index, memory, output, phrases, plan};

/// Captions of one picture that a word must stand in: what one alone has is a matter of chance.
const FEWEST_OF_PICTURE: usize = 2;
/// Captions of the index.
const FEWEST_OF_INDEX: usize = 5;
/// Least share of a word's uses in which it stands as a thing does. Of the starter's captions: "bear"
/// 0.33, "people" 0.33, "baby" 0.27; "sandy" 0.10, "large" 0.07, "small" 0.03, "riding" 0.00.
const LEAST_THINGS: f64 = 0.2;
/// Words that are embedded at most, those in most captions: 3 templates of 500 take some 15 s.
const MAX_WORDS: usize = 500;
/// A lower score is told as 0.000: captions have the word, and the pictures do not show it.
const LEAST_SCORE: f64 = 5e-4;
const N_EXAMPLES: usize = 2;

/// What is kept of a picture.
struct Seen {
    image: Embedding,
    /// The mean of the captions retrieved.
    captions: Embedding,
    texts: Vec<String>,
    /// How many of them have each word.
    support: HashMap<String, usize>,
}

#[derive(Serialize)]
struct Report<'a> {
    v: u32,
    pictures: usize,
    suggestions: &'a [Suggestion],
}

#[derive(Serialize)]
struct Suggestion {
    word: String,
    score: f64,
    pictures: usize,
    captions_in_index: usize,
    examples: Vec<String>,
}

pub(crate) fn run(args: &SuggestArgs) -> Result<(), Failure> {
    let (model, index) = match args.source.config() {
        Some(named) => {
            let config = plan::load(&named)?;
            let file = named.config.display();
            let none = || anyhow!("{file}: names no caption index, which words are taken from");
            (config.model, config.index.ok_or_else(none)?)
        }
        None => {
            let model = assets::model_dir(args.source.model.model.as_deref())?;
            let index = engine::index_path(args.source.index.as_deref(), &model)?;
            (model, index)
        }
    };
    let pictures = pictures(&args.pictures)?;
    let runtime = engine::open(args.source.device.device).map_err(anyhow::Error::from)?;
    let mut engine =
        Engine::load(&runtime, &model, Some(&index), None, None).map_err(anyhow::Error::from)?;
    memory::steady();
    let mut all_good = true;
    let mut seen = Vec::new();
    let bar = index::bar("pictures", pictures.len());
    for path in &pictures {
        match look(&mut engine, path) {
            Ok(it) => seen.push(it),
            Err(error) => {
                all_good = false;
                output::complain(&format!("{error:#}"));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if !seen.is_empty() {
        memory::loading();
        let suggestions = suggestions(&engine, &seen, usize::from(args.count))?;
        tell(args, seen.len(), &suggestions)?;
    }
    if all_good { Ok(()) } else { Err(Failure::Partial) }
}

/// The pictures that are named, and those in folders that are, in the order of their names.
fn pictures(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    for path in named {
        if !path.is_dir() {
            pictures.push(path.clone());
            continue;
        }
        let inside = picture_names(path).with_context(|| path.display().to_string())?;
        if inside.is_empty() {
            bail!("{} has no picture ({})", path.display(), PICTURE_EXTENSIONS.join(", "));
        }
        pictures.extend(inside.into_iter().map(|it| path.join(it)));
    }
    Ok(pictures)
}

fn look(engine: &mut Engine, path: &Path) -> anyhow::Result<Seen> {
    let picture = read_picture(path, &engine::limits(&engine.bundle))?;
    let image = engine.tower.encode(&picture).with_context(|| path.display().to_string())?;
    let retrieved =
        choose(&image, engine.candidates(&image)?, Selection::best(engine.bundle.n_captions()));
    let embeddings: Vec<Embedding> = retrieved.iter().map(|it| it.embedding.clone()).collect();
    let captions = Embedding::mean(&embeddings).context("the index has no captions for it")?;
    let mut support: HashMap<String, usize> = HashMap::new();
    let texts: Vec<String> = retrieved.into_iter().map(|Retrieved { text, .. }| text).collect();
    for phrase in texts.iter().flat_map(|it| phrases::candidates(it)) {
        *support.entry(phrase).or_default() += 1;
    }
    support.retain(|_, n| FEWEST_OF_PICTURE <= *n);
    Ok(Seen { image, captions, texts, support })
}

fn suggestions(engine: &Engine, seen: &[Seen], count: usize) -> anyhow::Result<Vec<Suggestion>> {
    let index = engine.index.as_ref().context("there is no caption index")?;
    let wanted: HashSet<&str> =
        seen.iter().flat_map(|it| it.support.keys().map(String::as_str)).collect();
    let known = names_of_things(index, &wanted)?;
    let support = |word: &str| -> usize { seen.iter().filter_map(|it| it.support.get(word)).sum() };
    let mut words: Vec<String> = known.keys().cloned().collect();
    words.sort_by(|a, b| support(b).cmp(&support(a)).then_with(|| a.cmp(b)));
    words.truncate(MAX_WORDS);
    let embeddings = match words.len() {
        // One word alone is above no other.
        0 | 1 => return Ok(Vec::new()),
        _ => {
            let set = bank::set_of(&words, engine.bundle.templates())?;
            engine::compile(&engine.runtime, &engine.bundle, &[&set], &Packs::nowhere())?.remove(0)
        }
    };
    let scores = scores(engine, seen, &words, &embeddings)?;
    // "bear", "bears" and "brown bear" are one thing, called by the word that most captions have.
    let mut things: Vec<(f64, usize)> = Vec::new();
    let mut thing_of: HashMap<String, usize> = HashMap::new();
    for (idx, (word, score)) in words.iter().zip(scores).enumerate() {
        let forms = phrases::forms(word.rsplit(' ').next().unwrap_or(word));
        match forms.iter().find_map(|it| thing_of.get(it)) {
            Some(thing) => {
                let (sum, name) = &mut things[*thing];
                *sum += score;
                let rank = |idx: usize| (support(&words[idx]), words[idx].len());
                if rank(*name) < rank(idx) {
                    *name = idx;
                }
            }
            None => {
                let thing = things.len();
                thing_of.extend(forms.into_iter().map(|it| (it, thing)));
                things.push((score, idx));
            }
        }
    }
    things.retain(|it| LEAST_SCORE <= it.0);
    things.sort_by(|a, b| b.0.total_cmp(&a.0));
    things.truncate(count);
    let mut suggestions = Vec::new();
    for (score, idx) in things {
        let word = &words[idx];
        let has = |it: &&Seen| it.support.contains_key(word);
        let examples = seen.iter().filter(has).flat_map(|it| &it.texts);
        let examples = examples.filter(|it| phrases::candidates(it).contains(word));
        suggestions.push(Suggestion {
            word: word.clone(),
            score,
            pictures: seen.iter().filter(has).count(),
            captions_in_index: known.get(word).copied().unwrap_or(0),
            examples: examples.take(N_EXAMPLES).cloned().collect(),
        });
    }
    Ok(suggestions)
}

/// Of `wanted` what names a thing, with how many captions of the index have it.
fn names_of_things(
    index: &Index,
    wanted: &HashSet<&str>,
) -> anyhow::Result<HashMap<String, usize>> {
    let mut captions_with: HashMap<String, usize> = HashMap::new();
    // Of each last word: uses, and those as a thing.
    let last = |phrase: &str| phrase.rsplit(' ').next().unwrap_or(phrase).to_owned();
    let mut uses: HashMap<String, (u32, u32)> =
        wanted.iter().map(|it| (last(it), (0, 0))).collect();
    let bar = index::bar("captions", index.info().n_entries);
    for caption in index.captions() {
        let caption = caption?;
        for phrase in phrases::candidates(&caption) {
            if wanted.contains(phrase.as_str()) {
                *captions_with.entry(phrase).or_default() += 1;
            }
        }
        for (word, is_thing) in phrases::things(&caption) {
            if let Some((all, things)) = uses.get_mut(&word) {
                *all += 1;
                *things += u32::from(is_thing);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    captions_with.retain(|phrase, n| {
        let (all, things) = uses.get(&last(phrase)).copied().unwrap_or((0, 0));
        FEWEST_OF_INDEX <= *n && LEAST_THINGS * f64::from(all) <= f64::from(things)
    });
    Ok(captions_with)
}

/// Over the pictures the mean of: a word's score, times the share of the picture's captions that have it.
fn scores(
    engine: &Engine,
    seen: &[Seen],
    words: &[String],
    embeddings: &ClassEmbeddings,
) -> anyhow::Result<Vec<f64>> {
    let mut sums = vec![0.0f64; words.len()];
    let scale = engine.bundle.scales().image;
    for it in seen {
        let scores = suggest(&it.image, &it.captions, embeddings, scale)?;
        for ((sum, word), score) in sums.iter_mut().zip(words).zip(scores.probabilities()) {
            let n = it.support.get(word).copied().unwrap_or(0);
            #[expect(clippy::cast_precision_loss, reason = "counts of captions")]
            let share = n as f64 / it.texts.len().max(1) as f64;
            *sum += score * share;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of pictures")]
    let n = seen.len() as f64;
    Ok(sums.into_iter().map(|it| it / n).collect())
}

fn tell(args: &SuggestArgs, pictures: usize, suggestions: &[Suggestion]) -> anyhow::Result<()> {
    if args.json {
        return output::json_line(&Report { v: 1, pictures, suggestions });
    }
    if suggestions.is_empty() {
        return output::line(
            "No word: the captions that the index has for this have nothing in common.",
        );
    }
    output::line("score  pictures  in index  word")?;
    for Suggestion { word, score, pictures, captions_in_index, examples } in suggestions {
        let example = examples.first().map_or("", String::as_str);
        output::line(format!(
            "{score:.3}  {pictures:8}  {captions_in_index:8}  {:20}  {}",
            output::one_line(word),
            output::one_line(example)
        ))?;
    }
    let words: Vec<String> = suggestions
        .iter()
        .map(|it| serde_json::Value::from(it.word.as_str()).to_string())
        .collect();
    output::line(
        "\nscore, 0 to 1: how well the word fits the pictures, compared with the other words found, times \
         the\nshare of the captions near them that have it. `lookout suggest --help` says more. To paste:\n",
    )?;
    output::line(format!("labels = [{}]", words.join(", ")))
}
