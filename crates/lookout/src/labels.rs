//! `lookout labels tune` and `show`: words for labels.

mod advice;
mod list;
mod owners;
mod rewrite;

use lookout_config::LabelSet;
use lookout_core::{ClassKind, ClassSet, DEFAULT_TEMPLATE};
use lookout_encoder::Bundle;
use lookout_index::Index;
use serde::Serialize;

use crate::cli::{ShowArgs, TuneArgs};
use crate::failure::Failure;
use crate::{assets, engine, index, output};

use advice::{Advice, Counter, Use};

#[derive(Serialize)]
struct TuneLine<'a> {
    v: u32,
    id: &'a str,
    kind: &'static str,
    words: &'a [Use],
    advice: &'a Advice,
    /// Why, in words.
    because: String,
}

#[derive(Serialize)]
struct ShowLine<'a> {
    v: u32,
    id: &'a str,
    kind: &'static str,
    name: &'a str,
    prompts: Vec<String>,
}

pub(crate) fn tune(args: &TuneArgs) -> Result<(), Failure> {
    let classes = load(&args.labels, &[DEFAULT_TEMPLATE.to_owned()])?;
    // What is in the way is told before minutes of counting.
    let output = args.output.as_deref();
    let output = output.map(|it| rewrite::Output::check(it, args.force)).transpose()?;
    let path = match &args.index {
        Some(path) => path.clone(),
        None => engine::index_path(None, &assets::model_dir(args.model.model.as_deref())?)?,
    };
    let index = Index::open(&path).map_err(anyhow::Error::from)?;
    let mut counter = Counter::new(&classes);
    let bar = index::bar("captions", index.info().n_entries);
    for caption in index.captions() {
        counter.add(&caption.map_err(anyhow::Error::from)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut advised = Vec::new();
    for (class, uses) in classes.classes().iter().zip(counter.finish()) {
        let advice = Advice::of(&uses);
        if args.json {
            output::json_line(&TuneLine {
                v: 1,
                id: class.id.as_str(),
                kind: kind(class.kind),
                words: &uses,
                advice: &advice,
                because: advice.because(&uses),
            })?;
        } else {
            output::line(describe(class.id.as_str(), &uses, &advice))?;
        }
        advised.push((class, advice));
    }
    if let Some(output) = output {
        let n_changed = rewrite::write(&args.labels, &output, &advised)?;
        if !args.json {
            // A set has two classes at least.
            let n = advised.len();
            output::line(format!("{output}: written, {n_changed} of {n} classes changed"))?;
        }
    }
    Ok(())
}

pub(crate) fn show(args: &ShowArgs) -> Result<(), Failure> {
    let model = assets::model_dir(args.model.model.as_deref())?;
    let bundle = Bundle::open(&model).map_err(anyhow::Error::from)?;
    let classes = load(&args.labels, bundle.templates())?;
    for (idx, class) in classes.classes().iter().enumerate() {
        let (id, prompts) = (class.id.as_str(), classes.prompts(idx));
        if args.json {
            output::json_line(&ShowLine {
                v: 1,
                id,
                kind: kind(class.kind),
                name: &class.name,
                prompts,
            })?;
        } else {
            let kind = kind(class.kind);
            output::line(format!("{id} ({kind}): {}", output::count(prompts.len(), "text")))?;
            for prompt in &prompts {
                output::line(format!("    {}", output::one_line(prompt)))?;
            }
        }
    }
    Ok(())
}

fn load(path: &std::path::Path, templates: &[String]) -> Result<ClassSet, Failure> {
    LabelSet::load(path)?
        .class_set(templates)
        .map_err(|errors| Failure::Config(errors.iter().map(ToString::to_string).collect()))
}

fn kind(kind: ClassKind) -> &'static str {
    match kind {
        ClassKind::Label => "label",
        ClassKind::Negative => "negative",
    }
}

fn describe(id: &str, uses: &[Use], advice: &Advice) -> String {
    let mut text = format!("{id}: {}", output::one_line(&advice.because(uses)));
    for Use { word, captions, example, .. } in uses {
        let example = example.as_deref().map_or("", |it| it);
        let (word, example) = (output::one_line(word), output::one_line(example));
        text += &format!("\n    {captions:7}  {word:24}  {example}");
    }
    text
}
