//! A folder as a model hub holds it: which files it has, and what they say.
//!
//! Three layouts are known. transformers': `config.json`, `preprocessor_config.json`, a tokenizer,
//! and `vision_model.onnx` with `text_model.onnx`, or both in `model.onnx`, beside them or in
//! `onnx/`. open_clip's: `open_clip_config.json` in place of the two. And the one that splits
//! open_clip's into the folders `visual` and `textual`.

use std::fs;
use std::path::Path;

use lookout_core::LogitScale;
use serde_json::Value;

use super::graph::FloatModel;
use super::json::{Faults, Object, count, number};
use super::pixels::Pixels;
use super::scalars::{self, Scalars};
use super::tower::{Half, Tower};
use super::wanted;
use crate::bundle::read_file;
use crate::manifest::{Clean, Pad, TokenizerKind};
use crate::{EncoderError, clip_bpe};

/// The largest file of a tokenizer, in bytes.
pub(crate) const MAX_TOKENIZER_BYTES: u64 = 64 << 20;
/// The largest README, in bytes.
pub(crate) const MAX_README_BYTES: u64 = 4 << 20;

/// What a folder says, all of it checked.
pub(crate) struct Source {
    pub(crate) family: Family,
    pub(crate) image: Tower,
    pub(crate) text: Tower,
    pub(crate) pixels: Pixels,
    pub(crate) tokens: Tokenizer,
    pub(crate) scalars: Scalars,
    pub(crate) license: String,
    /// Entries of an embedding, where a configuration tells.
    pub(crate) dimension: Option<u32>,
}

/// What a user adds to a folder, or puts over it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    pub(crate) logit_scale: Option<f64>,
    pub(crate) logit_bias: Option<f64>,
    pub(crate) license: Option<String>,
}

/// The training that decides how embeddings are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Softmax over the logits.
    Clip,
    /// A sigmoid of each logit.
    Siglip,
}

/// How a text becomes token ids.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tokenizer {
    pub(crate) kind: TokenizerKind,
    /// The file within the folder.
    pub(crate) file: String,
    pub(crate) pad: Pad,
    pub(crate) end_token: String,
    pub(crate) clean: Clean,
    pub(crate) context_length: u32,
}

/// Who wrote the configuration, and so whose defaults hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Library {
    Transformers,
    OpenClip,
}

/// What the configurations say before a graph is looked at.
struct Settings {
    library: Library,
    family: Family,
    pixels: Option<Pixels>,
    context_length: Option<u32>,
    dimension: Option<u32>,
    /// What open_clip's own configuration says of the text's cleaning.
    clean: Option<Clean>,
}

impl Source {
    /// Reads all of `dir` but the weights. Every fault found is reported at once.
    pub(crate) fn read(dir: &Path, given: &Given) -> Result<Self, EncoderError> {
        let mut faults = Faults::default();
        let source = Self::gather(dir, given, &mut faults)?;
        match source {
            Some(source) if faults.0.is_empty() => Ok(source),
            _ => Err(EncoderError::Invalid { path: dir.to_owned(), faults: faults.0 }),
        }
    }

    /// `None` only where a fault was noted.
    fn gather(
        dir: &Path,
        given: &Given,
        faults: &mut Faults,
    ) -> Result<Option<Self>, EncoderError> {
        let settings = Settings::read(dir, faults)?;
        let license = given.license.clone().or(license(dir)?);
        if license.is_none() {
            let rule = "given with --license, or as `license` at the head of README.md";
            faults.add("license", rule, "nothing");
        }
        let family = settings.as_ref().map_or(Family::Clip, |it| it.family);
        let (image_outputs, text_outputs): (&[&str], &[&str]) = match family {
            Family::Clip => (&["image_embeds", "embedding"], &["text_embeds", "embedding"]),
            Family::Siglip => (
                &["image_embeds", "pooler_output", "embedding"],
                &["text_embeds", "pooler_output", "embedding"],
            ),
        };
        let both = one_of(dir, "the whole model", &wanted::BOTH_TOWERS, faults);
        let mut tower = |half: Half, role: &str, names: &[&str], outputs: &[&str]| {
            let before = faults.0.len();
            let own = one_of(dir, role, names, faults);
            let Some(name) = own.or_else(|| both.clone()) else {
                if before == faults.0.len() {
                    let rule = format!("there: {}, or both towers in model.onnx", names.join(", "));
                    faults.add(role, rule, "nothing");
                }
                return Ok(None);
            };
            Tower::open(dir, &name, half, outputs, faults)
        };
        let image = tower(Half::Image, "the image tower", &wanted::IMAGE_TOWERS, image_outputs)?;
        let text = tower(Half::Text, "the text tower", &wanted::TEXT_TOWERS, text_outputs)?;
        let Some(settings) = settings else { return Ok(None) };
        let scalars = scalars(dir, given, family, both.as_deref(), faults)?;
        let tokens = Tokenizer::read(dir, &settings, text.as_ref(), faults)?;
        if let (Some(image), Some(pixels)) = (&image, &settings.pixels) {
            image.check_size(pixels.size_px, faults);
        }
        let (Some(image), Some(text), Some(pixels)) = (image, text, settings.pixels) else {
            return Ok(None);
        };
        let (Some(tokens), Some(license)) = (tokens, license) else { return Ok(None) };
        let dimension = settings.dimension;
        Ok(Some(Self { family, image, text, pixels, tokens, scalars, license, dimension }))
    }
}

impl Settings {
    fn read(dir: &Path, faults: &mut Faults) -> Result<Option<Self>, EncoderError> {
        if let Some(mut json) = Object::read(dir, "open_clip_config.json", faults)? {
            let Some(model) = json.object("model_cfg", faults) else {
                if !json.has("model_cfg") {
                    faults.add(json.key("model_cfg"), "an object", "nothing");
                }
                return Ok(None);
            };
            let pixels = json.object("preprocess_cfg", faults);
            return Ok(Self::open_clip(model, pixels, faults));
        }
        let config = Object::read(dir, "config.json", faults)?;
        let Some(mut config) = config else {
            let rule = "there, or open_clip_config.json: one of them says what the model is";
            faults.add("config.json", rule, "nothing");
            return Ok(None);
        };
        if config.has("embed_dim") {
            let pixels = Object::read(dir, "visual/preprocess_cfg.json", faults)?;
            return Ok(Self::open_clip(config, pixels, faults));
        }
        let rule = "\"clip\", \"siglip\" or \"siglip2\"";
        let model_type = config.get("model_type", rule, faults, |it| {
            let known = ["clip", "siglip", "siglip2"];
            it.as_str().filter(|it| known.contains(it)).map(str::to_owned)
        });
        let Some(model_type) = model_type else {
            if faults.0.is_empty() {
                faults.add("config.json: model_type", rule, "nothing");
            }
            return Ok(None);
        };
        let is_clip = model_type == "clip";
        let text = config.object("text_config", faults);
        let vision = config.object("vision_config", faults);
        let context_length = text.and_then(|mut it| it.count("max_position_embeddings", faults));
        let dimension = config.count("projection_dim", faults).filter(|_| is_clip);
        let image_size = vision.and_then(|mut it| it.count("image_size", faults));
        let Some(json) = Object::read(dir, "preprocessor_config.json", faults)? else {
            let rule = "there: it says how a picture is prepared";
            faults.add("preprocessor_config.json", rule, "nothing");
            return Ok(None);
        };
        let pixels = Pixels::from_transformers(json, faults);
        if let (Some(pixels), Some(size)) = (&pixels, image_size)
            && pixels.size_px != size
        {
            let rule = format!("{size}, `image_size` of config.json");
            faults.add("preprocessor_config.json: size of the square", rule, pixels.size_px);
        }
        Ok(Some(Self {
            library: Library::Transformers,
            family: if is_clip { Family::Clip } else { Family::Siglip },
            pixels,
            context_length,
            dimension,
            clean: None,
        }))
    }

    fn open_clip(mut model: Object, pixels: Option<Object>, faults: &mut Faults) -> Option<Self> {
        let dimension = model.count("embed_dim", faults);
        let bias = model.get("init_logit_bias", "a number", faults, number);
        let vision = model.object("vision_cfg", faults);
        let rule = "the side of a square: N, or [N, N]";
        let image_size = vision.and_then(|mut it| {
            it.get("image_size", rule, faults, |it| match it.as_array().map(Vec::as_slice) {
                Some([height, width]) if height == width => count(height),
                Some(_) => None,
                None => count(it),
            })
        });
        let (mut context_length, mut clean) = (None, Some(Clean::Clip));
        if let Some(mut text) = model.object("text_cfg", faults) {
            context_length = Some(text.count("context_length", faults).unwrap_or(77));
            let is_own = text.has("hf_tokenizer_name");
            let kwargs = text.object("tokenizer_kwargs", faults);
            let rule = "\"canonicalize\" or \"lower\"";
            let named = kwargs.and_then(|mut it| {
                it.get("clean", rule, faults, |it| match it.as_str()? {
                    "canonicalize" => Some(Clean::Canonicalize),
                    "lower" => Some(Clean::Clip),
                    _ => None,
                })
            });
            if is_own && named.is_none() {
                let key = text.key("tokenizer_kwargs: clean");
                faults.add(key, format!("{rule} for a tokenizer that is not CLIP's"), "nothing");
            }
            clean = named.or(clean);
        }
        let Some(pixels) = pixels else {
            let rule = "there: it says how a picture is prepared";
            faults.add("preprocess_cfg", rule, "nothing");
            return None;
        };
        Some(Self {
            library: Library::OpenClip,
            family: if bias.is_some() { Family::Siglip } else { Family::Clip },
            pixels: Pixels::from_open_clip(pixels, image_size, faults),
            context_length,
            dimension,
            clean,
        })
    }
}

impl Tokenizer {
    fn read(
        dir: &Path,
        settings: &Settings,
        text: Option<&Tower>,
        faults: &mut Faults,
    ) -> Result<Option<Self>, EncoderError> {
        let folders = wanted::TOKENIZER_FOLDERS;
        let find = |name: &str| {
            folders.iter().map(|it| format!("{it}{name}")).find(|it| dir.join(it).exists())
        };
        let (kind, file) = match (find("tokenizer.json"), find("merges.txt")) {
            (Some(file), _) => (TokenizerKind::HuggingFace, file),
            (None, Some(file)) => (TokenizerKind::ClipBpe, file),
            (None, None) => {
                faults.add("the tokenizer", "there: tokenizer.json or merges.txt", "nothing");
                return Ok(None);
            }
        };
        if kind == TokenizerKind::ClipBpe {
            if settings.family == Family::Siglip {
                faults.add("the tokenizer", "tokenizer.json for a SigLIP model", &file);
            }
            if let Some(vocabulary) = find("vocab.json") {
                check_vocabulary(dir, &file, &vocabulary, faults)?;
            }
        }
        let mut config = None;
        for folder in folders {
            let name = format!("{folder}tokenizer_config.json");
            config = config.or(Object::read(dir, &name, faults)?);
        }
        // What the classes of transformers take where the file names nothing.
        let default = match settings.family {
            Family::Clip => "<|endoftext|>",
            Family::Siglip => "</s>",
        };
        let mut named = |key: &str| {
            let config = config.as_mut()?;
            config.get(key, "a token", faults, |it| match it {
                Value::String(token) => Some(token.clone()),
                it => it["content"].as_str().map(str::to_owned),
            })
        };
        let end_token = named("eos_token").unwrap_or_else(|| default.to_owned());
        let pad_token = named("pad_token").unwrap_or_else(|| default.to_owned());
        // open_clip's tokenizer fills up with zeros; its other tokenizers with their own token.
        let is_open_clip = settings.library == Library::OpenClip;
        let fills_zeros = is_open_clip && settings.clean == Some(Clean::Clip);
        let pad = if fills_zeros { Pad::Id(0) } else { Pad::Token(pad_token) };
        let clean = match (settings.clean, kind, settings.family) {
            (Some(clean), ..) => clean,
            (None, _, Family::Siglip) => Clean::Canonicalize,
            (None, TokenizerKind::ClipBpe, Family::Clip) => Clean::Clip,
            // Its own rules for case and white space are in the file.
            (None, TokenizerKind::HuggingFace, Family::Clip) => Clean::None,
        };
        let most = config.and_then(|mut it| {
            it.take("model_max_length")?.as_u64().and_then(|it| u32::try_from(it).ok())
        });
        let fixed = text.and_then(|it| it.input.dims.get(1).copied().flatten());
        let said = settings.context_length.or(most.filter(|it| *it <= 4096));
        let Some(context_length) = fixed.or(said) else {
            let rule = "a fixed dimension of the text tower, or `max_position_embeddings`";
            faults.add("the context length", rule, "nothing");
            return Ok(None);
        };
        if let Some(said) = settings.context_length.filter(|it| *it != context_length) {
            let rule = format!("{context_length}, as the text tower's input has it");
            faults.add("the context length", rule, said);
        }
        Ok(Some(Self { kind, file, pad, end_token, clean, context_length }))
    }
}

/// The merges must give every token of the vocabulary its number.
fn check_vocabulary(
    dir: &Path,
    merges: &str,
    vocabulary: &str,
    faults: &mut Faults,
) -> Result<(), EncoderError> {
    let bytes = read_file(&dir.join(vocabulary), MAX_TOKENIZER_BYTES)?;
    let expected: std::collections::HashMap<String, u32> = match serde_json::from_slice(&bytes) {
        Ok(expected) => expected,
        Err(err) => {
            faults.add(vocabulary, "tokens with their numbers", err);
            return Ok(());
        }
    };
    match clip_bpe::tokenizer(&read_file(&dir.join(merges), MAX_TOKENIZER_BYTES)?) {
        Ok(tokenizer) => {
            let got = tokenizer.get_vocab(true);
            let other = expected.iter().find(|(token, id)| got.get(*token) != Some(id));
            if let Some((token, id)) = other {
                let rule = format!("the tokens that {merges} gives, with their numbers");
                faults.add(vocabulary, rule, format!("{token:?}: {id}"));
            } else if got.len() != expected.len() {
                let rule = format!("{} tokens, as {merges} gives", got.len());
                faults.add(vocabulary, rule, expected.len());
            }
        }
        Err(err) => faults.add(merges, "CLIP's merge rules", err),
    }
    Ok(())
}

/// Scale and bias: what the user says, else what the weights say, else what the whole model's
/// graph says.
fn scalars(
    dir: &Path,
    given: &Given,
    family: Family,
    both: Option<&str>,
    faults: &mut Faults,
) -> Result<Scalars, EncoderError> {
    let needs_bias = family == Family::Siglip;
    let mut found = Scalars { scale: given.logit_scale, bias: given.logit_bias };
    let is_complete = |it: &Scalars| it.scale.is_some() && (it.bias.is_some() || !needs_bias);
    for name in wanted::WEIGHTS {
        let path = dir.join(name);
        if is_complete(&found) || !path.exists() {
            continue;
        }
        match scalars::from_safetensors(&path)? {
            Ok(it) => {
                found.scale = found.scale.or(it.scale);
                found.bias = found.bias.or(it.bias);
            }
            Err(got) => faults.add(name, "a safetensors file", got),
        }
    }
    if let Some(name) = both.filter(|_| !is_complete(&found)) {
        let it = scalars::from_graph(&FloatModel::open(&dir.join(name))?)?;
        found.scale = found.scale.or(it.scale);
        found.bias = found.bias.or(it.bias);
    }
    if found.scale.is_none() {
        let rule = "given with --logit-scale: neither a safetensors file nor a graph with both \
                    towers has it here (`logit_scale_init_value` is the value before training; \
                    CLIP models end near 100)";
        faults.add("logit_scale", rule, "nothing");
    }
    if let Some(scale) = found.scale.filter(|it| LogitScale::from_linear(*it).is_none()) {
        faults.add("logit_scale", LogitScale::RULE, scale);
    }
    match (needs_bias, found.bias) {
        (true, None) => {
            let rule = "given with --logit-bias: SigLIP's sigmoid needs it, and neither a \
                        safetensors file nor a graph with both towers has it here";
            faults.add("logit_bias", rule, "nothing");
        }
        (_, Some(bias)) if !bias.is_finite() => {
            faults.add("logit_bias", "a finite number", bias);
        }
        (false, Some(bias)) if given.logit_bias.is_some() => {
            faults.add("logit_bias", "left out for a model that was trained with softmax", bias);
        }
        (false, _) => found.bias = None,
        (true, Some(_)) => {}
    }
    Ok(found)
}

/// The file that is there, of several that may be.
fn one_of(dir: &Path, role: &str, names: &[&str], faults: &mut Faults) -> Option<String> {
    let there: Vec<&str> = names.iter().copied().filter(|it| dir.join(it).exists()).collect();
    if 1 < there.len() {
        faults.add(role, "one file", there.join(", "));
        return None;
    }
    there.first().map(|it| (*it).to_owned())
}

/// `license` in the head of README.md, which a hub keeps between two lines of dashes.
fn license(dir: &Path) -> Result<Option<String>, EncoderError> {
    let path = dir.join("README.md");
    if !fs::metadata(&path).is_ok_and(|it| it.is_file()) {
        return Ok(None);
    }
    let bytes = read_file(&path, MAX_README_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    if lines.next().map(str::trim_end) != Some("---") {
        return Ok(None);
    }
    let head: Vec<&str> = lines.take_while(|it| it.trim_end() != "---").collect();
    let value = |key: &str| {
        let line = head.iter().find_map(|it| it.strip_prefix(key)?.strip_prefix(':'))?;
        let value = line.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    // `other` says nothing without the name or the address of the text.
    Ok(match value("license").filter(|it| it != "other") {
        Some(license) => Some(license),
        None => match (value("license_name"), value("license_link")) {
            (Some(name), Some(link)) => Some(format!("{name} ({link})")),
            (name, link) => name.or(link),
        },
    })
}
