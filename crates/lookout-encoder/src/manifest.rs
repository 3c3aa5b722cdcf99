//! `model.toml` to a checked [`Manifest`]. The only module that knows that format.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use lookout_core::{ClassSet, LogitBias, LogitScale, Scales, Weighting, Window};
use toml::{Table, Value};

use crate::Fault;
use crate::preprocess::{Filter, ImageRule, Layout, Resize, Rounding};

/// What a bundle recommends for decisions; each within 0 to 1, `exit` at most `enter`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecisionDefaults {
    /// The score at which a class is accepted; above 0.
    pub enter: f64,
    /// The least distance to the next class.
    pub margin: f64,
    /// The score below which an accepted class is dropped.
    pub exit: f64,
}

/// A checked `model.toml`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) space: String,
    pub(crate) dimension: usize,
    pub(crate) license: String,
    pub(crate) origin: String,
    pub(crate) scales: Scales,
    pub(crate) templates: Vec<String>,
    pub(crate) weighting: Weighting,
    pub(crate) n_captions: usize,
    pub(crate) decision: DecisionDefaults,
    pub(crate) image: ImageSpec,
    pub(crate) text: TextSpec,
    pub(crate) golden: GoldenSpec,
    pub(crate) sha256: BTreeMap<String, String>,
}

/// The image tower.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ImageSpec {
    pub(crate) file: String,
    pub(crate) input: String,
    pub(crate) output: String,
    pub(crate) rule: ImageRule,
    /// Whether its activations have outliers that 8 bits would drown.
    pub(crate) has_outliers: bool,
}

/// The text tower.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TextSpec {
    pub(crate) file: String,
    pub(crate) ids_input: String,
    pub(crate) mask_input: Option<String>,
    pub(crate) output: String,
    pub(crate) tokens: TokenSpec,
}

/// How a text becomes token ids.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenSpec {
    pub(crate) kind: TokenizerKind,
    pub(crate) file: String,
    pub(crate) context_length: usize,
    pub(crate) pad: Pad,
    pub(crate) end_token: String,
    pub(crate) clean: Clean,
    pub(crate) strip: bool,
}

/// What the tokenizer's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenizerKind {
    /// The `tokenizer.json` of Hugging Face's library.
    HuggingFace,
    /// The merge rules of CLIP's byte pair encoding.
    ClipBpe,
}

/// What fills a text up to the context length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pad {
    /// A token of the tokenizer.
    Token(String),
    /// The id of a token.
    Id(u32),
}

/// What happens to a text before the tokenizer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clean {
    /// Nothing.
    None,
    /// Lower case.
    Lower,
    /// As CLIP was trained: repaired Unicode, HTML entities resolved, one space for white space,
    /// lower case.
    Clip,
    /// As SigLIP was trained: lower case, ASCII punctuation gone, one space for white space.
    Canonicalize,
}

/// The bundle's proof of itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GoldenSpec {
    pub(crate) file: String,
    pub(crate) pictures: String,
    pub(crate) min_cosine: f64,
}

impl Manifest {
    /// The version of the format that this program reads.
    const FORMAT: i64 = 1;
    /// The most entries of an embedding.
    pub(crate) const MAX_DIMENSION: u32 = 65_536;
    /// What names an embedding space.
    pub(crate) const SPACE_RULE: &str = "1 to 64 characters of a-z, 0-9, `.`, `_` and `-`";

    /// Whether `text` may name an embedding space.
    pub(crate) fn is_space(text: &str) -> bool {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-".contains(&c);
        (1..=64).contains(&text.len()) && text.bytes().all(allowed)
    }

    /// Checks everything in `table` and reports every fault.
    pub(crate) fn from_table(table: Table) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let manifest = Self::read(Section::root(table, &mut faults));
        match manifest {
            Some(manifest) if faults.is_empty() => Ok(manifest),
            _ => Err(faults),
        }
    }

    /// `None` only where a fault was noted.
    fn read(mut root: Section<'_>) -> Option<Self> {
        root.integer::<i64>("format", Self::FORMAT, Self::FORMAT);
        let space = root.get("space", Self::SPACE_RULE, |it| {
            it.as_str().filter(|it| Self::is_space(it)).map(str::to_owned)
        });
        let dimension = root.integer("dimension", 1, i64::from(Self::MAX_DIMENSION));
        let license = root.text("license");
        let origin = root.text("origin");
        let scale_rule = LogitScale::RULE;
        let logit_scale = root.get("logit_scale", scale_rule, scale);
        let logit_bias = root.optional("logit_bias", "a finite number", bias);
        let caption_logit_scale = root.optional("caption_logit_scale", scale_rule, scale);
        let templates = root.get(
            "templates",
            "1 to 200 texts of at most 1000 characters that contain {} exactly once",
            templates,
        );
        let fusion = root.section("fusion", Self::read_fusion);
        let decision = root.section("decision", Self::read_decision);
        let image = root.section("image", ImageSpec::read);
        let text = root.section("text", TextSpec::read);
        let golden = root.section("golden", GoldenSpec::read);
        let sha256 = root.get(
            "sha256",
            "a table of file names, plain or in the folder `golden.pictures`, and 64 lower-case \
             hexadecimal digits each",
            |it| {
                let folder = golden.as_ref().map(|it| it.pictures.as_str());
                let table = it.as_table()?;
                let entry = |(name, it): (&String, _)| Some((listed(name, folder)?, digest(it)?));
                table.iter().map(entry).collect()
            },
        );
        root.finish();

        let image_scale = logit_scale?;
        let (weighting, n_captions) = fusion?;
        Some(Self {
            space: space?,
            dimension: dimension?,
            license: license?,
            origin: origin?,
            scales: Scales {
                image: image_scale,
                caption: caption_logit_scale.unwrap_or(image_scale),
                bias: logit_bias,
            },
            templates: templates?,
            weighting,
            n_captions,
            decision: decision?,
            image: image?,
            text: text?,
            golden: golden?,
            sha256: sha256?,
        })
    }

    fn read_fusion(section: &mut Section<'_>) -> Option<(Weighting, usize)> {
        let weighting = section.one_of("weighting", &["memoryless", "history", "pooled"]);
        let window = section.optional("window", "a number of frames or \"unbounded\"", |it| {
            if it.as_str() == Some("unbounded") {
                return Some(Window::Unbounded);
            }
            u64::try_from(it.as_integer()?).ok().and_then(NonZeroU64::new).map(Window::Frames)
        });
        let n_captions = section.integer("n_captions", 1, 1000);
        let weighting = match (weighting?.as_str(), window) {
            ("memoryless", None) => Weighting::Memoryless,
            ("pooled", None) => Weighting::Pooled,
            ("history", Some(window)) => Weighting::History(window),
            (_, window) => {
                let got = if window.is_some() { "a window" } else { "nothing" };
                section.fault("window", "given with weighting = \"history\" and only then", got);
                return None;
            }
        };
        Some((weighting, n_captions?))
    }

    fn read_decision(section: &mut Section<'_>) -> Option<DecisionDefaults> {
        let enter =
            section.number("enter", "greater than 0 and at most 1", |it| 0.0 < it && it <= 1.0);
        let margin = section.number("margin", "0 to 1", |it| (0.0..=1.0).contains(&it));
        let exit = section.number("exit", "0 to `decision.enter`", |it| {
            (0.0..=enter.unwrap_or(1.0)).contains(&it)
        });
        Some(DecisionDefaults { enter: enter?, margin: margin?, exit: exit? })
    }
}

impl ImageSpec {
    const OF_SHORT_SIDE: [&str; 3] = ["short_side_px", "long_side_rounding", "crop"];

    fn read(section: &mut Section<'_>) -> Option<Self> {
        let file = section.file("file");
        let input = section.text("input");
        let output = section.text("output");
        let layout = section.choice("layout", &[("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)]);
        section.one_of("channels", &["rgb"]);
        let size_px: Option<u32> = section.integer("size_px", 1, 4096);
        let resize = match section.one_of("resize", &["short_side", "exact"]) {
            Some(it) if it == "exact" => Self::read_exact(section),
            Some(_) => Self::read_short_side(section, size_px),
            // Which keys belong to it cannot be told.
            None => {
                for key in Self::OF_SHORT_SIDE {
                    section.table.remove(key);
                }
                None
            }
        };
        let filter = section.choice(
            "interpolation",
            &[
                ("bicubic", Filter::Bicubic),
                ("bilinear", Filter::Bilinear),
                ("lanczos", Filter::Lanczos),
            ],
        );
        let mean = section
            .get("mean", "3 finite numbers, for values of 0 to 255", |it| triple(it, |_| true));
        let std = section.get("std", "3 numbers greater than 0, for values of 0 to 255", |it| {
            triple(it, |it| 0.0 < it)
        });
        let has_outliers = section.optional("has_outliers", "true or false", Value::as_bool);
        let rule = ImageRule {
            size_px: size_px?,
            resize: resize?,
            filter: filter?,
            mean: mean?,
            std: std?,
            layout: layout?,
        };
        let has_outliers = has_outliers.unwrap_or(false);
        Some(Self { file: file?, input: input?, output: output?, rule, has_outliers })
    }

    fn read_short_side(section: &mut Section<'_>, size_px: Option<u32>) -> Option<Resize> {
        let short_side_px: Option<u32> = section.integer("short_side_px", 1, 8192);
        if let (Some(size), Some(short)) = (size_px, short_side_px)
            && short < size
        {
            section.fault("short_side_px", "at least `image.size_px`", &short.to_string());
        }
        let long_side = section.choice(
            "long_side_rounding",
            &[("half_even", Rounding::HalfEven), ("floor", Rounding::Floor)],
        );
        let crop = section.choice(
            "crop",
            &[("center", Rounding::Floor), ("center_half_even", Rounding::HalfEven)],
        );
        Some(Resize::ShortSide {
            short_side_px: short_side_px?,
            long_side: long_side?,
            crop: crop?,
        })
    }

    /// Nothing is cut off, so there is nothing to say about a crop.
    fn read_exact(section: &mut Section<'_>) -> Option<Resize> {
        for key in Self::OF_SHORT_SIDE {
            section.absent(key, "removed; it belongs to resize = \"short_side\"");
        }
        Some(Resize::Exact)
    }
}

impl TextSpec {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let file = section.file("file");
        let ids_input = section.text("ids_input");
        let mask_input = section.optional("mask_input", TEXT_RULE, |it| short_text(it.as_str()?));
        let output = section.text("output");
        let tokens = TokenSpec::read(section);
        Some(Self {
            file: file?,
            ids_input: ids_input?,
            mask_input,
            output: output?,
            tokens: tokens?,
        })
    }
}

impl TokenSpec {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let kind = section.choice(
            "tokenizer_kind",
            &[("hugging_face", TokenizerKind::HuggingFace), ("clip_bpe", TokenizerKind::ClipBpe)],
        );
        let file = section.file("tokenizer");
        let context_length = section.integer("context_length", 2, 4096);
        section.one_of("padding", &["right"]);
        let pad = Self::read_pad(section);
        let end_token = section.text("end_token");
        let clean = match section.has("clean") {
            false => Some(Clean::None),
            true => section.choice(
                "clean",
                &[
                    ("none", Clean::None),
                    ("lower", Clean::Lower),
                    ("clip", Clean::Clip),
                    ("canonicalize", Clean::Canonicalize),
                ],
            ),
        };
        let strip = section.get("strip", "true or false", Value::as_bool);
        Some(Self {
            kind: kind?,
            file: file?,
            context_length: context_length?,
            pad: pad?,
            end_token: end_token?,
            clean: clean?,
            strip: strip?,
        })
    }

    fn read_pad(section: &mut Section<'_>) -> Option<Pad> {
        if !section.has("pad_id") {
            return section.text("pad_token").map(Pad::Token);
        }
        section.absent("pad_token", "removed where `text.pad_id` is given");
        section.integer("pad_id", 0, u32::MAX.into()).map(Pad::Id)
    }
}

impl GoldenSpec {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let file = section.file("file");
        let pictures = section.file("pictures");
        let min_cosine = section
            .number("min_cosine", "greater than 0 and at most 1", |it| 0.0 < it && it <= 1.0);
        Some(Self { file: file?, pictures: pictures?, min_cosine: min_cosine? })
    }
}

pub(crate) const TEXT_RULE: &str =
    "a text of 1 to 1000 characters, none of them a control character";

/// A table being read: what was taken is gone from it, so what remains is unknown.
struct Section<'a> {
    table: Table,
    prefix: String,
    faults: &'a mut Vec<Fault>,
}

impl<'a> Section<'a> {
    fn root(table: Table, faults: &'a mut Vec<Fault>) -> Self {
        Self { table, prefix: String::new(), faults }
    }

    fn fault(&mut self, key: &str, rule: &str, got: &str) {
        let key = format!("{}{key}", self.prefix);
        self.faults.push(Fault { key, rule: rule.to_owned(), got: got.to_owned() });
    }

    fn optional<T>(
        &mut self,
        key: &str,
        rule: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.table.remove(key)?;
        let read = read(&value);
        if read.is_none() {
            self.fault(key, rule, &shorten(&value.to_string()));
        }
        read
    }

    fn get<T>(
        &mut self,
        key: &str,
        rule: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        if !self.table.contains_key(key) {
            self.fault(key, rule, "nothing");
        }
        self.optional(key, rule, read)
    }

    fn integer<T: TryFrom<i64>>(&mut self, key: &str, min: i64, max: i64) -> Option<T> {
        let rule =
            if min == max { min.to_string() } else { format!("a whole number, {min} to {max}") };
        self.get(key, &rule, |it| {
            let value = it.as_integer().filter(|it| (min..=max).contains(it))?;
            T::try_from(value).ok()
        })
    }

    fn number(&mut self, key: &str, rule: &str, holds: impl Fn(f64) -> bool) -> Option<f64> {
        self.get(key, rule, |it| number(it).filter(|it| holds(*it)))
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.get(key, TEXT_RULE, |it| short_text(it.as_str()?))
    }

    fn file(&mut self, key: &str) -> Option<String> {
        self.get(key, "the plain name of something in the bundle's folder", |it| {
            plain(it.as_str()?)
        })
    }

    fn one_of(&mut self, key: &str, allowed: &[&str]) -> Option<String> {
        let quoted: Vec<String> = allowed.iter().map(|it| format!("{it:?}")).collect();
        self.get(key, &quoted.join(" or "), |it| {
            it.as_str().filter(|it| allowed.contains(it)).map(str::to_owned)
        })
    }

    /// One of the named values.
    fn choice<T: Clone>(&mut self, key: &str, allowed: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = allowed.iter().map(|(name, _)| *name).collect();
        let name = self.one_of(key, &names)?;
        allowed.iter().find(|(it, _)| *it == name).map(|(_, value)| value.clone())
    }

    fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A fault where `key` is given.
    fn absent(&mut self, key: &str, rule: &str) {
        if self.table.remove(key).is_some() {
            self.fault(key, rule, "a value");
        }
    }

    fn section<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        let table = self.get(key, "a table", |it| it.as_table().cloned())?;
        let prefix = format!("{}{key}.", self.prefix);
        let mut section = Section { table, prefix, faults: self.faults };
        let value = read(&mut section);
        section.finish();
        value
    }

    fn finish(mut self) {
        for (key, _) in std::mem::take(&mut self.table) {
            self.fault(&shorten(&key), "removed; this program knows no such key", "a value");
        }
    }
}

fn shorten(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn number(value: &Value) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "settings are far below 2^52")]
    let value = value.as_float().or_else(|| value.as_integer().map(|it| it as f64))?;
    value.is_finite().then_some(value)
}

fn scale(value: &Value) -> Option<LogitScale> {
    LogitScale::from_linear(number(value)?)
}

fn bias(value: &Value) -> Option<LogitBias> {
    LogitBias::new(number(value)?)
}

/// Texts are printed, where a line break or an escape sequence could forge what is not there.
pub(crate) fn short_text(text: &str) -> Option<String> {
    let fits = (1..=1000).contains(&text.trim().chars().count());
    (fits && !text.contains(char::is_control)).then(|| text.to_owned())
}

fn templates(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array().filter(|it| (1..=ClassSet::MAX_TEXTS).contains(&it.len()))?;
    let template = |it: &Value| {
        let text = it.as_str()?;
        let fits = text.chars().count() <= ClassSet::MAX_TEXT_LEN;
        (fits && text.matches("{}").count() == 1).then(|| text.to_owned())
    };
    list.iter().map(template).collect()
}

fn triple(value: &Value, holds: impl Fn(f32) -> bool) -> Option<[f32; 3]> {
    #[expect(clippy::cast_possible_truncation, reason = "the tensor's values are f32")]
    let entry = |it: &Value| Some(number(it)? as f32).filter(|it| it.is_finite() && holds(*it));
    let list: Option<Vec<f32>> = value.as_array()?.iter().map(entry).collect();
    list?.try_into().ok()
}

/// A name that cannot lead out of the folder.
fn plain(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let fits = (1..=255).contains(&name.len()) && name.chars().all(allowed);
    (fits && !name.starts_with('.')).then(|| name.to_owned())
}

/// A name in the bundle's folder, or in that of its pictures.
fn listed(name: &str, pictures: Option<&str>) -> Option<String> {
    match name.split_once('/') {
        None => plain(name),
        Some((folder, file)) => {
            let is_it = pictures.is_none_or(|it| it == folder);
            (is_it && plain(file).is_some()).then(|| name.to_owned())
        }
    }
}

fn digest(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    (text.len() == 64 && text.bytes().all(hex)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTER: &str = include_str!("../../../models/starter/model.toml");

    fn faults(text: &str) -> Vec<String> {
        let faults = Manifest::from_table(text.parse().unwrap()).unwrap_err();
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_value_has_a_rule() {
        assert!(Manifest::from_table(STARTER.parse().unwrap()).is_ok());
        for (from, to, fault) in [
            ("format = 1", "format = 2", "`format` must be 1, got 2"),
            (
                "dimension = 384",
                "dimension = 0",
                "`dimension` must be a whole number, 1 to 65536, got 0",
            ),
            ("dimension = 384", "dimension = 384.0", "got 384.0"),
            (
                "logit_scale = 30.0",
                "logit_scale = nan",
                "`logit_scale` must be 0.001 to 1000000, got nan",
            ),
            ("logit_scale = 30.0", "", "`logit_scale` must be 0.001 to 1000000, got nothing"),
            (
                "logit_scale = 30.0",
                "logit_scale = 1e-320",
                "`logit_scale` must be 0.001 to 1000000, got 0.000",
            ),
            ("logit_scale = 30.0", "logit_scale = 2e6", "`logit_scale` must be 0.001 to 1000000"),
            (
                "origin = \"EfficientNet",
                "origin = \"forged\\nlicense  MIT \\u001b[2J EfficientNet",
                "`origin` must be a text of 1 to 1000 characters, none of them a control character",
            ),
            ("license = \"Apache", "license = \"\\tApache", "`license` must be a text of"),
            (
                "\"captions.tsv\" =",
                "\"elsewhere/captions.tsv\" =",
                "`sha256` must be a table of file names, plain or in the folder `golden.pictures`",
            ),
            ("\"captions.tsv\" =", "\"pictures/../x\" =", "`sha256` must be a table of"),
            ("\"captions.tsv\" =", "\"pictures/\" =", "`sha256` must be a table of"),
            ("\"captions.tsv\" =", "\"pictures/a/b\" =", "`sha256` must be a table of"),
            ("space = \"starter-2\"", "space = \"Starter 2\"", "`space` must be"),
            ("\"a photo of a {}\"", "\"a photo\"", "`templates` must be"),
            ("weighting = \"pooled\"", "weighting = \"history\"", "`fusion.window` must be given"),
            ("n_captions = 16", "n_captions = 16\nwindow = 5", "`fusion.window` must be given"),
            (
                "exit = 0.35",
                "exit = 0.51",
                "`decision.exit` must be 0 to `decision.enter`, got 0.51",
            ),
            ("margin = 0.2", "margin = -0.2", "`decision.margin` must be 0 to 1, got -0.2"),
            (
                "file = \"image.onnx\"",
                "file = \"../image.onnx\"",
                "`image.file` must be the plain name",
            ),
            (
                "file = \"image.onnx\"",
                "file = \"/image.onnx\"",
                "`image.file` must be the plain name",
            ),
            ("file = \"image.onnx\"", "file = \"..\"", "`image.file` must be the plain name"),
            (
                "layout = \"nchw\"",
                "layout = \"chwn\"",
                "`image.layout` must be \"nchw\" or \"nhwc\", got \"chwn\"",
            ),
            (
                "interpolation = \"bicubic\"",
                "interpolation = \"area\"",
                "`image.interpolation` must be \"bicubic\"",
            ),
            (
                "short_side_px = 256",
                "short_side_px = 200",
                "`image.short_side_px` must be at least `image.size_px`, got 200",
            ),
            (
                "std = [128.0, 128.0, 128.0]",
                "std = [128.0, 0, 128.0]",
                "`image.std` must be 3 numbers",
            ),
            (
                "mean = [127.0, 127.0, 127.0]",
                "mean = [127.0]",
                "`image.mean` must be 3 finite numbers",
            ),
            ("strip = true", "strip = 1", "`text.strip` must be true or false, got 1"),
            (
                "short_side_px = 256",
                "short_side_px = 256\nhas_outliers = \"no\"",
                "`image.has_outliers` must be true or false, got \"no\"",
            ),
            ("min_cosine = 0.9999", "min_cosine = 1.1", "`golden.min_cosine` must be"),
            (
                "crop = \"center\"",
                "crop = \"center\"\nflip = true",
                "`image.flip` must be removed; this program knows no such key",
            ),
            (
                "resize = \"short_side\"",
                "resize = \"longest\"",
                "`image.resize` must be \"short_side\" or \"exact\", got \"longest\"",
            ),
            (
                "long_side_rounding = \"half_even\"",
                "long_side_rounding = \"up\"",
                "`image.long_side_rounding` must be \"half_even\" or \"floor\", got \"up\"",
            ),
            (
                "crop = \"center\"",
                "crop = \"top\"",
                "`image.crop` must be \"center\" or \"center_half_even\", got \"top\"",
            ),
            (
                "logit_scale = 30.0",
                "logit_scale = 30.0\nlogit_bias = -inf",
                "`logit_bias` must be a finite number, got -inf",
            ),
            (
                "tokenizer_kind = \"hugging_face\"",
                "tokenizer_kind = \"spiece\"",
                "`text.tokenizer_kind` must be \"hugging_face\" or \"clip_bpe\"",
            ),
            (
                "strip = true",
                "strip = true\nclean = \"upper\"",
                "`text.clean` must be \"none\" or \"lower\" or \"clip\" or \"canonicalize\"",
            ),
            (
                "pad_token = \"[PAD]\"",
                "pad_token = \"[PAD]\"\npad_id = 0",
                "`text.pad_token` must be removed where `text.pad_id` is given",
            ),
            (
                "pad_token = \"[PAD]\"",
                "pad_id = -1",
                "`text.pad_id` must be a whole number, 0 to 4294967295, got -1",
            ),
            ("pad_token = \"[PAD]\"", "", "`text.pad_token` must be a text"),
            ("= \"1d27", "= \"1D27", "`sha256` must be a table of file names"),
        ] {
            assert!(STARTER.contains(from), "{from}");
            let found = faults(&STARTER.replacen(from, to, 1));
            assert!(found.len() == 1 && found[0].contains(fault), "{to}: {found:?}");
        }
    }

    #[test]
    fn a_model_of_another_family_is_described_by_other_values() {
        let siglip = [
            ("logit_scale = 30.0", "logit_scale = 117.3\nlogit_bias = -12.9"),
            ("short_side_px = 256", ""),
            ("long_side_rounding = \"half_even\"", ""),
            ("crop = \"center\"", ""),
            ("resize = \"short_side\"", "resize = \"exact\""),
            ("pad_token = \"[PAD]\"", "pad_id = 1"),
            ("mask_input = \"attention_mask\"", ""),
            ("strip = true", "strip = true\nclean = \"canonicalize\""),
        ];
        let change = |text: String, (from, to): &(&str, &str)| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        };
        let text = siglip.iter().fold(STARTER.to_owned(), change);
        let manifest = Manifest::from_table(text.parse().unwrap()).unwrap();
        assert_eq!(manifest.scales.bias.map(LogitBias::get), Some(-12.9));
        assert_eq!(manifest.image.rule.resize, Resize::Exact);
        assert_eq!(manifest.text.mask_input, None);
        let TokenSpec { pad, clean, .. } = manifest.text.tokens;
        assert_eq!((pad, clean), (Pad::Id(1), Clean::Canonicalize));

        let mobile_clip = [
            ("interpolation = \"bicubic\"", "interpolation = \"bilinear\""),
            ("long_side_rounding = \"half_even\"", "long_side_rounding = \"floor\""),
            ("crop = \"center\"", "crop = \"center_half_even\""),
            ("\"hugging_face\"", "\"clip_bpe\""),
        ];
        let text = mobile_clip.iter().fold(STARTER.to_owned(), change);
        let manifest = Manifest::from_table(text.parse().unwrap()).unwrap();
        assert_eq!(manifest.scales.bias, None);
        assert_eq!(manifest.image.rule.filter, Filter::Bilinear);
        let (long_side, crop) = (Rounding::Floor, Rounding::HalfEven);
        let resize = Resize::ShortSide { short_side_px: 256, long_side, crop };
        assert_eq!(manifest.image.rule.resize, resize);
        let TokenSpec { kind, clean, .. } = manifest.text.tokens;
        assert_eq!((kind, clean), (TokenizerKind::ClipBpe, Clean::None));
    }

    #[test]
    fn what_belongs_to_a_crop_is_refused_without_one() {
        let exact = STARTER.replacen("\"short_side\"", "\"exact\"", 1);
        let found = faults(&exact);
        let fault = |key: &str| {
            format!(
                "`image.{key}` must be removed; it belongs to resize = \"short_side\", got a value"
            )
        };
        assert_eq!(found, ["short_side_px", "long_side_rounding", "crop"].map(fault));
    }

    #[test]
    fn all_faults_come_at_once() {
        let found = faults("space = 1\nsurprise = 2\n[text]\nfile = 3");
        assert!(15 < found.len(), "{found:#?}");
        for key in ["format", "space", "surprise", "image", "text.file", "text.strip", "sha256"] {
            let start = format!("`{key}` must be ");
            assert_eq!(found.iter().filter(|it| it.starts_with(&start)).count(), 1, "{key}");
        }
    }
}
