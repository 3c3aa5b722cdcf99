//! `lookout embed`: the unit vectors of pictures or texts.

use anyhow::Context;
use lookout_core::Embedding;
use lookout_encoder::{Bundle, ImageTower, TextTower};
use serde::Serialize;

use crate::cli::EmbedArgs;
use crate::failure::Failure;
use crate::{assets, engine, memory, output};

#[derive(Serialize)]
struct Line<'a> {
    input: &'a str,
    embedding: &'a [f32],
}

#[derive(Serialize)]
struct ErrorLine<'a> {
    input: &'a str,
    error: String,
}

pub(crate) fn run(args: &EmbedArgs) -> Result<(), Failure> {
    let model = assets::model_dir(args.model.model.as_deref())?;
    let bundle = Bundle::open(&model).map_err(anyhow::Error::from)?;
    let runtime = engine::open(args.device.device).map_err(anyhow::Error::from)?;
    let mut all_good = true;
    let mut report = |input: &str, result: anyhow::Result<Embedding>| -> anyhow::Result<()> {
        match result {
            Ok(it) if args.json => output::json_line(&Line { input, embedding: it.as_slice() }),
            Ok(it) => {
                let numbers = it.as_slice();
                let head: Vec<String> = numbers.iter().take(4).map(|x| format!("{x:.4}")).collect();
                output::line(format!("{input}: {} numbers, {}, …", numbers.len(), head.join(", ")))
            }
            Err(error) => {
                all_good = false;
                let error = format!("{error:#}");
                if args.json {
                    output::json_line(&ErrorLine { input, error })
                } else {
                    output::complain(&error);
                    Ok(())
                }
            }
        }
    };
    if args.text.is_empty() {
        let mut tower = ImageTower::load_on(&bundle, &runtime, 1).map_err(anyhow::Error::from)?;
        memory::steady();
        for path in &args.pictures {
            let embedding = engine::read(path)
                .and_then(|it| tower.encode(&it).with_context(|| path.display().to_string()));
            report(&path.to_string_lossy(), embedding)?;
        }
    } else {
        let mut tower = TextTower::load_on(&bundle, &runtime, 1).map_err(anyhow::Error::from)?;
        for text in &args.text {
            let embedding = tower.encode_text(text).with_context(|| beginning(text));
            report(text, embedding)?;
        }
    }
    if all_good { Ok(()) } else { Err(Failure::Partial) }
}

/// A text for a message, which need not be read whole.
fn beginning(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
