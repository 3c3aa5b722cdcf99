//! The bundle: made in a folder beside its place, proven there, and put into its place whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lookout_core::Embedding;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tract_onnx::prelude::*;

use super::float::FloatTower;
use super::json::Faults;
use super::quantize::{Quantizer, Summary};
use super::source::{Family, Given, Source, Tokenizer};
use super::tower::Tower;
use super::workplace::Workplace;
use super::{ImportHost, ImportOptions, ImportReport, ImportStep, TowerReport};
use crate::bundle::{BundleFile, entries, hex, is_terms, read_file};
use crate::golden::{Golden, SampleCheck};
use crate::manifest::{Clean, Manifest, Pad, TEXT_RULE, TokenSpec, TokenizerKind, short_text};
use crate::onnx::{Written, check_ids};
use crate::preprocess::{Filter, ImageRule, Layout, Resize, Rounding, preprocess};
use crate::tokens::Tokens;
use crate::{Bundle, EncoderError, ImageTower, TextTower};

/// The largest sample picture or notice, in bytes.
const MAX_SAMPLE_BYTES: u64 = 64 << 20;
/// Below this cosine to its float twin a tower is no use: it is an angle of 11 degrees, and what
/// int8 weights cost is below 3.
const MIN_USEFUL_COSINE: f64 = 0.98;
/// Below this, an image tower is tried with finer activations: what is expected of int8.
const GOOD_COSINE: f64 = 0.995;
/// The angle that float kernels of other CPUs and the resizing of pictures may differ by, in
/// radians; a cosine of 0.9999.
const FLOAT_ANGLE: f64 = 0.01414;
/// What other CPUs' int8 kernels may differ by, in parts of the angle that this one shows.
const ANGLE_FACTOR: f64 = 2.0;

const IMAGE_FILE: &str = "image.onnx";
const TEXT_FILE: &str = "text.onnx";
const GOLDEN_FILE: &str = "golden.json";
const PICTURES_DIR: &str = "pictures";
const HUGGING_FACE_FILE: &str = "tokenizer.json";
const MERGES_FILE: &str = "merges.txt";
/// What is at the top of a bundle that an import made.
pub(super) const OWN_FILES: [&str; 7] = [
    Bundle::MANIFEST,
    IMAGE_FILE,
    TEXT_FILE,
    GOLDEN_FILE,
    PICTURES_DIR,
    HUGGING_FACE_FILE,
    MERGES_FILE,
];

/// Imports a model, as `options` say. On an error nothing is at the output that was not there
/// before.
pub fn import(
    options: &ImportOptions,
    host: &mut dyn ImportHost,
) -> Result<ImportReport, EncoderError> {
    let given = Given {
        logit_scale: options.logit_scale,
        logit_bias: options.logit_bias,
        license: options.license.clone(),
    };
    check_options(options)?;
    check_folders(&options.source, &options.output)?;
    check_replaced(options)?;
    let source = Source::read(&options.source, &given)?;
    let parent = options.output.parent().filter(|it| !it.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let Workplace { folder, lock } = Workplace::open(parent, &options.output)?;
    let report = Importer { dir: folder.path(), options, source: &source }.run(host);
    // The temporary folder's name would mean nothing to the user, and it is gone.
    let report = report.map_err(|err| err.moved(folder.path(), &options.output))?;
    // Again, for what the minutes of work have brought.
    check_replaced(options)?;
    keep_terms(options, folder.path())?;
    sync(folder.path())?;
    put(folder, &options.output, options.replace)?;
    let write_error = |source| EncoderError::Write { path: parent.to_owned(), source };
    File::open(parent).and_then(|it| it.sync_all()).map_err(write_error)?;
    drop(lock);
    Ok(report)
}

fn check_options(options: &ImportOptions) -> Result<(), EncoderError> {
    let mut faults = Faults::default();
    if options.pictures.is_empty() {
        faults.add("pictures", "at least 1 sample picture", 0);
    }
    if options.texts.is_empty() {
        faults.add("texts", "at least 1 sample text", 0);
    }
    let copied = || options.pictures.iter().chain(&options.notices);
    let mut names: Vec<Option<&str>> = copied().map(|it| plain_name(it)).collect();
    if let Some(odd) = copied().find(|it| plain_name(it).is_none()) {
        let rule = "files with names of ASCII letters, digits, `.`, `_` and `-`";
        faults.add("pictures", rule, odd.display());
    }
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|it| it[0] == it[1]) {
        faults.add("pictures", "of different names", pair[0].unwrap_or_default());
    }
    for (key, text) in [("license", &options.license), ("origin", &options.origin)] {
        if let Some(text) = text.as_ref().filter(|it| short_text(it).is_none()) {
            faults.add(key, TEXT_RULE, format!("{:?}", text.chars().take(60).collect::<String>()));
        }
    }
    if options.output.file_name().is_none() {
        let rule = "a path that ends with the name of a folder, the bundle's";
        faults.add("output", rule, options.output.display());
    }
    if let Some(space) = options.space.as_ref().filter(|it| !Manifest::is_space(it)) {
        faults.add("space", Manifest::SPACE_RULE, format!("{space:?}"));
    }
    if faults.0.is_empty() {
        return Ok(());
    }
    Err(EncoderError::Invalid { path: options.output.clone(), faults: faults.0 })
}

/// The source must be a folder, and the output apart from it: replacing a folder around the source
/// would take the source along, and within the source one could pass for a part of it.
fn check_folders(source: &Path, output: &Path) -> Result<(), EncoderError> {
    let read_error = |err| EncoderError::Read { path: source.to_owned(), source: err };
    let from = fs::canonicalize(source).map_err(read_error)?;
    if !from.is_dir() {
        return Err(read_error(io::ErrorKind::NotADirectory.into()));
    }
    let to = fs::canonicalize(output).or_else(|_| {
        let parent = output.parent().filter(|it| !it.as_os_str().is_empty());
        let parent = fs::canonicalize(parent.unwrap_or(Path::new(".")))?;
        io::Result::Ok(parent.join(output.file_name().unwrap_or_default()))
    });
    let to = to.map_err(|err| EncoderError::Write { path: output.to_owned(), source: err })?;
    if from.starts_with(&to) || to.starts_with(&from) {
        let mut faults = Faults::default();
        let rule = format!("a folder apart from {}, neither in it nor around it", source.display());
        faults.add("output", rule, output.display());
        return Err(EncoderError::Invalid { path: output.to_owned(), faults: faults.0 });
    }
    Ok(())
}

fn check_free(output: &Path) -> Result<(), EncoderError> {
    if fs::symlink_metadata(output).is_err() {
        return Ok(());
    }
    let mut faults = Faults::default();
    let rule = "a place where nothing stands, or a bundle that is replaced with --force";
    faults.add("output", rule, "something that stands there now");
    Err(EncoderError::Invalid { path: output.to_owned(), faults: faults.0 })
}

/// Takes the files of terms along to the bundle in `to`, which replaces theirs.
fn keep_terms(options: &ImportOptions, to: &Path) -> Result<(), EncoderError> {
    if !options.replace || !options.output.exists() {
        return Ok(());
    }
    for entry in entries(&options.output)? {
        if entry.file_name().to_str().is_some_and(is_terms) {
            let path = to.join(entry.file_name());
            fs::copy(entry.path(), &path).map_err(|source| EncoderError::Write { path, source })?;
        }
    }
    Ok(())
}

/// What is replaced is removed, so it must be a bundle and nothing else.
fn check_replaced(options: &ImportOptions) -> Result<(), EncoderError> {
    let path = &options.output;
    if !options.replace {
        return check_free(path);
    }
    if !path.exists() {
        return Ok(());
    }
    let others = Bundle::others(path)?;
    if others.is_empty() {
        return Ok(());
    }
    let mut faults = Faults::default();
    let rule = "a folder with nothing beside what its model.toml names; first move away the rest";
    faults.add("output", rule, others.join(", "));
    Err(EncoderError::Invalid { path: path.clone(), faults: faults.0 })
}

fn plain_name(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let allowed = |it: u8| it.is_ascii_alphanumeric() || b"._-".contains(&it);
    (name.bytes().all(allowed) && !name.starts_with('.')).then_some(name)
}

/// Makes a bundle in `dir`.
struct Importer<'a> {
    dir: &'a Path,
    options: &'a ImportOptions,
    source: &'a Source,
}

/// Everything that the manifest says and the source does not.
struct Facts<'a> {
    space: String,
    dimension: usize,
    tokenizer_file: &'a str,
    /// Of the image tower; a text tower always counts as one that has them.
    has_outliers: bool,
    min_cosine: f64,
    hashes: Vec<(String, String)>,
}

#[derive(Serialize)]
struct GoldenFile {
    made_by: serde_json::Value,
    pictures: Vec<GoldenSample>,
    texts: Vec<GoldenSample>,
}

#[derive(Serialize)]
struct GoldenSample {
    name: String,
    embedding: Vec<f32>,
}

impl Importer<'_> {
    fn run(&self, host: &mut dyn ImportHost) -> Result<ImportReport, EncoderError> {
        let source = self.source;
        let tokenizer_file = match source.tokens.kind {
            TokenizerKind::HuggingFace => HUGGING_FACE_FILE,
            TokenizerKind::ClipBpe => MERGES_FILE,
        };
        let mut hashes = Vec::new();
        // The cheap parts first, so that what is wrong with them is found before the long ones.
        let tokenizer = read_file(&options_path(self, &source.tokens.file), MAX_SAMPLE_BYTES)?;
        let file =
            BundleFile { path: options_path(self, &source.tokens.file), bytes: tokenizer.clone() };
        let tokens = Tokens::load(file, &token_spec(&source.tokens))?;
        if let Some(largest_id) = tokens.largest_id() {
            let Tower { float, input, .. } = &source.text;
            check_ids(&float.path, float.graph()?, &input.name, largest_id)?;
        }
        hashes.push((tokenizer_file.to_owned(), self.write(tokenizer_file, &tokenizer)?));
        hashes.append(&mut self.copy_pictures()?);

        let (image, image_summary) =
            self.quantize(&source.image, IMAGE_FILE, ImportStep::QuantizeImage, host)?;
        hashes.push((IMAGE_FILE.to_owned(), image.sha256.clone()));
        let (text, text_summary) =
            self.quantize(&source.text, TEXT_FILE, ImportStep::QuantizeText, host)?;
        hashes.push((TEXT_FILE.to_owned(), text.sha256.clone()));

        let pictures = self.golden_pictures(host)?;
        let texts = self.golden_texts(&tokens, host)?;
        let dimension = self.dimension(&pictures, &texts)?;
        let golden = GoldenFile { made_by: self.made_by(), pictures, texts };
        let json = serde_json::to_vec(&golden).map_err(|err| EncoderError::Write {
            path: self.dir.join(GOLDEN_FILE),
            source: err.into(),
        })?;
        hashes.push((GOLDEN_FILE.to_owned(), self.write(GOLDEN_FILE, &json)?));
        hashes.sort();

        let mut facts = Facts {
            space: self.space(),
            dimension,
            tokenizer_file,
            has_outliers: false,
            min_cosine: 1e-6,
            hashes,
        };
        self.write_manifest(&facts)?;
        let (mut pictures, texts) = self.verify(host)?;
        if lowest(&pictures) < GOOD_COSINE {
            facts.has_outliers = true;
            self.write_manifest(&facts)?;
            let finer = self.verify_pictures(host)?;
            facts.has_outliers = lowest(&pictures) < lowest(&finer);
            if facts.has_outliers {
                pictures = finer;
            }
        }
        let lowest = lowest(&pictures).min(self::lowest(&texts));
        facts.min_cosine = min_cosine(lowest);
        self.write_manifest(&facts)?;
        let bound = |mut it: SampleCheck| {
            it.min_cosine = facts.min_cosine;
            it
        };
        if let Some(worst) = pictures.iter().chain(&texts).find(|it| it.cosine < MIN_USEFUL_COSINE)
        {
            return Err(EncoderError::Quantized {
                path: self.options.source.clone(),
                sample: worst.sample.clone(),
                min_cosine: MIN_USEFUL_COSINE,
                cosine: worst.cosine,
            });
        }
        Ok(ImportReport {
            space: facts.space.clone(),
            dimension,
            logit_scale: source.scalars.scale.unwrap_or_default(),
            logit_bias: source.scalars.bias,
            towers: [report(&image, image_summary), report(&text, text_summary)],
            pictures: pictures.into_iter().map(bound).collect(),
            texts: texts.into_iter().map(bound).collect(),
            min_cosine: facts.min_cosine,
        })
    }

    fn quantize(
        &self,
        tower: &Tower,
        name: &str,
        step: ImportStep,
        host: &mut dyn ImportHost,
    ) -> Result<(Written, Summary), EncoderError> {
        let quantizer = Quantizer::new(&tower.float)?;
        let total = quantizer.n_elements();
        host.progress(step, 0, total);
        let told = &*host;
        quantizer.write(&self.dir.join(name), &|done| told.progress(step, done, total))
    }

    fn golden_pictures(
        &self,
        host: &mut dyn ImportHost,
    ) -> Result<Vec<GoldenSample>, EncoderError> {
        let tower = &self.source.image;
        let rule = image_rule(self.source);
        let side = rule.size_px as usize;
        let shape = [1, 3, side, side];
        let float = FloatTower::load(
            tower.float.path.clone(),
            tower.float.whole()?,
            &[(&tower.input.name, f32::fact(shape))],
            &tower.output,
        )?;
        let mut samples = Vec::new();
        let total = self.options.pictures.len() as u64;
        for path in &self.options.pictures {
            host.progress(ImportStep::GoldenPictures, samples.len() as u64, total);
            let picture = host
                .read_picture(path)
                .map_err(|source| EncoderError::SamplePicture { path: path.clone(), source })?;
            let values = preprocess(&picture, &rule)?;
            let name = plain_name(path).unwrap_or_default().to_owned();
            let embedding = float.run(&format!("picture {name:?}"), || {
                Ok(tvec![Tensor::from_shape(&shape, &values)?.into_tvalue()])
            })?;
            samples.push(GoldenSample { name, embedding: embedding.as_slice().to_vec() });
        }
        host.progress(ImportStep::GoldenPictures, total, total);
        Ok(samples)
    }

    fn golden_texts(
        &self,
        tokens: &Tokens,
        host: &mut dyn ImportHost,
    ) -> Result<Vec<GoldenSample>, EncoderError> {
        let tower = &self.source.text;
        let shape = [1, self.source.tokens.context_length as usize];
        let names = [Some(&tower.input.name), tower.mask.as_ref()];
        let inputs: Vec<(&str, TypedFact)> =
            names.into_iter().flatten().map(|it| (it.as_str(), i64::fact(shape))).collect();
        let (path, whole) = (tower.float.path.clone(), tower.float.whole()?);
        let float = FloatTower::load(path, whole, &inputs, &tower.output)?;
        let mut samples = Vec::new();
        let total = self.options.texts.len() as u64;
        for text in &self.options.texts {
            host.progress(ImportStep::GoldenTexts, samples.len() as u64, total);
            let (ids, mask) = tokens.encode(text)?;
            let embedding: Embedding = float.run(&format!("text {text:?}"), || {
                let mut values = tvec![Tensor::from_shape(&shape, &ids)?.into_tvalue()];
                if tower.mask.is_some() {
                    values.push(Tensor::from_shape(&shape, &mask)?.into_tvalue());
                }
                Ok(values)
            })?;
            let embedding = embedding.as_slice().to_vec();
            samples.push(GoldenSample { name: text.clone(), embedding });
        }
        host.progress(ImportStep::GoldenTexts, total, total);
        Ok(samples)
    }

    /// The one dimension that both towers and the configuration agree on.
    fn dimension(
        &self,
        pictures: &[GoldenSample],
        texts: &[GoldenSample],
    ) -> Result<usize, EncoderError> {
        let len = |samples: &[GoldenSample]| samples.first().map_or(0, |it| it.embedding.len());
        let (image, text) = (len(pictures), len(texts));
        let mut faults = Faults::default();
        if image != text {
            let rule = format!("{image}, as the image tower's");
            faults.add("the text tower's dimension", rule, text);
        }
        if let Some(said) = self.source.dimension.filter(|it| *it as usize != image) {
            faults.add("the image tower's dimension", format!("{said}, as configured"), image);
        }
        if faults.0.is_empty() {
            return Ok(image);
        }
        Err(EncoderError::Invalid { path: self.options.source.clone(), faults: faults.0 })
    }

    /// How the bundle that was written compares with the float files.
    fn verify(
        &self,
        host: &mut dyn ImportHost,
    ) -> Result<(Vec<SampleCheck>, Vec<SampleCheck>), EncoderError> {
        let pictures = self.verify_pictures(host)?;
        let bundle = Bundle::open(self.dir)?;
        let golden = Golden::open(&bundle)?;
        let total = (pictures.len() + golden.texts().len()) as u64;
        host.progress(ImportStep::Verify, pictures.len() as u64, total);
        let texts = golden.check_texts(&mut TextTower::load(&bundle)?, usize::MAX)?;
        host.progress(ImportStep::Verify, total, total);
        Ok((pictures, texts))
    }

    fn verify_pictures(&self, host: &mut dyn ImportHost) -> Result<Vec<SampleCheck>, EncoderError> {
        let bundle = Bundle::open(self.dir)?;
        bundle.verify_files()?;
        let golden = Golden::open(&bundle)?;
        let n_pictures = golden.picture_names().len();
        let total = (n_pictures + golden.texts().len()) as u64;
        host.progress(ImportStep::Verify, 0, total);
        let mut tower = ImageTower::load(&bundle)?;
        golden.check_pictures(&mut tower, n_pictures, |it| host.read_picture(it))
    }

    /// Returns the copies with their hashes.
    fn copy_pictures(&self) -> Result<Vec<(String, String)>, EncoderError> {
        let mut hashes = Vec::new();
        let dir = self.dir.join(PICTURES_DIR);
        fs::create_dir(&dir).map_err(|source| EncoderError::Write { path: dir.clone(), source })?;
        for path in self.options.pictures.iter().chain(&self.options.notices) {
            let bytes = read_file(path, MAX_SAMPLE_BYTES)?;
            let name = path.file_name().unwrap_or_default();
            let name = format!("{PICTURES_DIR}/{}", name.to_string_lossy());
            let hash = self.write(&name, &bytes)?;
            hashes.push((name, hash));
        }
        Ok(hashes)
    }

    /// Writes a file of the bundle and returns its hash.
    fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<String, EncoderError> {
        let path = self.dir.join(name);
        let write_error = |source| EncoderError::Write { path: path.clone(), source };
        File::create(&path).and_then(|mut it| it.write_all(bytes)).map_err(write_error)?;
        Ok(hex(&Sha256::digest(bytes)))
    }

    /// What the golden embeddings were computed from, for the reader of the file.
    fn made_by(&self) -> serde_json::Value {
        let files = |tower: &Tower| {
            let name = tower.float.path.file_name().unwrap_or_default().to_string_lossy();
            let own = (name.into_owned(), tower.float.sha256().to_owned());
            let others = tower.float.outside_files();
            let others = others.map(|(name, sha256)| (name.to_owned(), sha256.to_owned()));
            std::iter::once(own).chain(others).collect::<BTreeMap<String, String>>()
        };
        serde_json::json!({
            "runtime": "tract, the float files as they are",
            "image": files(&self.source.image),
            "text": files(&self.source.text),
        })
    }

    fn folder_name(&self) -> String {
        let path = fs::canonicalize(&self.options.source);
        let path = path.as_deref().unwrap_or(&self.options.source);
        path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The user's name for the space, else the folder's name with a part of the towers' hash: two
    /// sets of weights never share a space by accident.
    fn space(&self) -> String {
        if let Some(space) = &self.options.space {
            return space.clone();
        }
        let allowed = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '.';
        let slug: String = self
            .folder_name()
            .to_ascii_lowercase()
            .chars()
            .map(|it| if allowed(it) { it } else { '-' })
            .take(50)
            .collect();
        let towers = [self.source.image.float.sha256(), self.source.text.float.sha256()].concat();
        format!("{slug}-{}", &hex(&Sha256::digest(towers.as_bytes()))[..8])
    }

    fn write_manifest(&self, facts: &Facts<'_>) -> Result<(), EncoderError> {
        self.write(Bundle::MANIFEST, self.manifest(facts).as_bytes()).map(drop)
    }

    fn manifest(&self, facts: &Facts<'_>) -> String {
        let Source { family, image, text, pixels, tokens, scalars, license, .. } = self.source;
        let quote = |it: &str| toml::Value::from(it).to_string();
        let origin = self.options.origin.clone().unwrap_or_else(|| self.folder_name());
        let license = match self.options.notices.is_empty() {
            true => license.clone(),
            false => format!("{license}; sample pictures: see {PICTURES_DIR}"),
        };
        let outliers = match facts.has_outliers {
            true => "# 8-bit activations turned an embedding too far.\nhas_outliers = true\n",
            false => "",
        };
        let bias = scalars.bias.map_or(String::new(), |it| format!("logit_bias = {it:?}\n"));
        let templates = match family {
            Family::Clip => r#"["a photo of a {}.", "{}"]"#,
            Family::Siglip => r#"["This is a photo of {}.", "{}"]"#,
        };
        let resize = match pixels.resize {
            Resize::Exact => "resize = \"exact\"\n".to_owned(),
            Resize::ShortSide { short_side_px, long_side, crop } => format!(
                "resize = \"short_side\"\nshort_side_px = {short_side_px}\n\
                 long_side_rounding = \"{}\"\ncrop = \"{}\"\n",
                match long_side {
                    Rounding::Floor => "floor",
                    Rounding::HalfEven => "half_even",
                },
                match crop {
                    Rounding::Floor => "center",
                    Rounding::HalfEven => "center_half_even",
                },
            ),
        };
        let interpolation = match pixels.filter {
            Filter::Bicubic => "bicubic",
            Filter::Bilinear => "bilinear",
            Filter::Lanczos => "lanczos",
        };
        let mask = text.mask.as_ref();
        let mask = mask.map_or(String::new(), |it| format!("mask_input = {}\n", quote(it)));
        let pad = match &tokens.pad {
            Pad::Token(token) => format!("pad_token = {}", quote(token)),
            Pad::Id(id) => format!("pad_id = {id}"),
        };
        let (kind, clean) = (
            match tokens.kind {
                TokenizerKind::HuggingFace => "hugging_face",
                TokenizerKind::ClipBpe => "clip_bpe",
            },
            match tokens.clean {
                Clean::None => "none",
                Clean::Lower => "lower",
                Clean::Clip => "clip",
                Clean::Canonicalize => "canonicalize",
            },
        );
        let mut manifest = format!(
            "# Made by `lookout models import`. Weights are int8 with a scale for each output\n\
             # channel; activations are float.\n\
             format = 1\n\n\
             space = {space}\n\
             dimension = {dimension}\n\
             license = {license}\n\
             # The float files' SHA-256: image {image_sha256},\n\
             # text {text_sha256}.\n\
             origin = {origin}\n\n\
             # Linear.\n\
             logit_scale = {scale:?}\n{bias}\n\
             templates = {templates}\n\n\
             [fusion]\n\
             weighting = \"pooled\"\n\
             n_captions = 16\n\n\
             # Where one class outweighs all others together; not measured for this model.\n\
             [decision]\n\
             enter = 0.5\n\
             margin = 0.2\n\
             exit = 0.35\n\n\
             [image]\n\
             file = \"{IMAGE_FILE}\"\n\
             input = {image_input}\n\
             output = {image_output}\n\
             layout = \"nchw\"\n\
             channels = \"rgb\"\n\
             size_px = {size_px}\n\
             {resize}\
             interpolation = \"{interpolation}\"\n\
             mean = {mean:?}\n\
             std = {std:?}\n{outliers}\n\
             [text]\n\
             file = \"{TEXT_FILE}\"\n\
             ids_input = {text_input}\n\
             {mask}\
             output = {text_output}\n\
             tokenizer_kind = \"{kind}\"\n\
             tokenizer = \"{tokenizer_file}\"\n\
             context_length = {context_length}\n\
             padding = \"right\"\n\
             {pad}\n\
             end_token = {end_token}\n\
             clean = \"{clean}\"\n\
             strip = true\n\n\
             # Embeddings of the float files. The bound: twice the angle that int8 cost here.\n\
             [golden]\n\
             file = \"{GOLDEN_FILE}\"\n\
             pictures = \"{PICTURES_DIR}\"\n\
             min_cosine = {min_cosine:?}\n\n\
             [sha256]\n",
            space = quote(&facts.space),
            dimension = facts.dimension,
            license = quote(&license),
            image_sha256 = image.float.sha256(),
            text_sha256 = text.float.sha256(),
            origin = quote(&origin),
            scale = scalars.scale.unwrap_or_default(),
            image_input = quote(&image.input.name),
            image_output = quote(&image.output),
            size_px = pixels.size_px,
            mean = pixels.mean,
            std = pixels.std,
            text_input = quote(&text.input.name),
            text_output = quote(&text.output),
            tokenizer_file = facts.tokenizer_file,
            context_length = tokens.context_length,
            end_token = quote(&tokens.end_token),
            min_cosine = facts.min_cosine,
        );
        for (name, hash) in &facts.hashes {
            manifest += &format!("{} = \"{hash}\"\n", quote(name));
        }
        manifest
    }
}

fn options_path(importer: &Importer<'_>, name: &str) -> PathBuf {
    importer.options.source.join(name)
}

fn token_spec(tokens: &Tokenizer) -> TokenSpec {
    TokenSpec {
        kind: tokens.kind,
        file: tokens.file.clone(),
        context_length: tokens.context_length as usize,
        pad: tokens.pad.clone(),
        end_token: tokens.end_token.clone(),
        clean: tokens.clean,
        strip: true,
    }
}

fn image_rule(source: &Source) -> ImageRule {
    #[expect(clippy::cast_possible_truncation, reason = "the tensor's values are f32")]
    let single = |it: [f64; 3]| it.map(|it| it as f32);
    let pixels = &source.pixels;
    ImageRule {
        size_px: pixels.size_px,
        resize: pixels.resize,
        filter: pixels.filter,
        mean: single(pixels.mean),
        std: single(pixels.std),
        layout: Layout::Nchw,
    }
}

fn report(written: &Written, summary: Summary) -> TowerReport {
    let (relative_error, plain_relative_error) = summary.relative_errors();
    TowerReport {
        n_quantized: summary.n_quantized,
        n_elements: summary.n_elements,
        bytes: written.bytes,
        relative_error,
        plain_relative_error,
    }
}

fn lowest(checks: &[SampleCheck]) -> f64 {
    checks.iter().map(|it| it.cosine).fold(1.0, f64::min)
}

/// The bound for golden embeddings, given the lowest cosine seen: the cosine of twice that angle,
/// and of no less than float kernels differ by. Weights are the same everywhere, so another CPU
/// shares most of the angle; the other half is for its rounding of activations.
fn min_cosine(lowest: f64) -> f64 {
    let angle = lowest.clamp(-1.0, 1.0).acos();
    let bound = (ANGLE_FACTOR * angle).max(FLOAT_ANGLE).cos();
    // Six digits, rounded down, are what a reader can judge.
    (bound.max(1e-6) * 1e6).floor() / 1e6
}

/// Lets everything in `dir` reach the disk.
fn sync(dir: &Path) -> Result<(), EncoderError> {
    let write_error = |source| EncoderError::Write { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(write_error)? {
        let entry = entry.map_err(write_error)?;
        if entry.file_type().map_err(write_error)?.is_dir() {
            sync(&entry.path())?;
        } else {
            File::open(entry.path()).and_then(|it| it.sync_all()).map_err(write_error)?;
        }
    }
    File::open(dir).and_then(|it| it.sync_all()).map_err(write_error)
}

/// Puts the finished folder into its place. What is replaced is removed; where that fails, the
/// import has succeeded all the same.
fn put(folder: tempfile::TempDir, output: &Path, replace: bool) -> Result<(), EncoderError> {
    let write_error = |source| EncoderError::Write { path: output.to_owned(), source };
    let mut old = None;
    if replace && output.exists() {
        old = Some(swap(folder.path(), output).map_err(write_error)?);
    } else if fs::symlink_metadata(output).is_ok() {
        return check_free(output);
    } else {
        fs::rename(folder.path(), output).map_err(write_error)?;
    }
    // What has its name now, if anything, is the old bundle.
    let _gone: PathBuf = folder.keep();
    if let Some(old) = old
        && let Err(error) = fs::remove_dir_all(&old)
        // Another import may have cleared it away.
        && error.kind() != io::ErrorKind::NotFound
    {
        let folder = old.display();
        tracing::warn!(%folder, %error, "The replaced bundle cannot be removed; remove it by hand.");
    }
    Ok(())
}

/// Renames `new` to `output`, and returns where that which stood there is now. The two change
/// places in one step, so that a bundle is there at every moment. Where the file system cannot do
/// that, the old one is put aside first, and back if the renaming fails.
fn swap(new: &Path, output: &Path) -> io::Result<PathBuf> {
    match renameat_with(CWD, new, CWD, output, RenameFlags::EXCHANGE) {
        Ok(()) => return Ok(new.to_owned()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        Err(error) => return Err(error.into()),
    }
    let aside = new.with_extension("old");
    fs::rename(output, &aside)?;
    if let Err(error) = fs::rename(new, output) {
        fs::rename(&aside, output)?;
        return Err(error);
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn made(parent: &Path) -> tempfile::TempDir {
        let folder =
            tempfile::Builder::new().prefix(".lookout-import-").tempdir_in(parent).unwrap();
        fs::write(folder.path().join(Bundle::MANIFEST), "new").unwrap();
        folder
    }

    #[test]
    fn a_bundle_is_there_at_every_moment_of_its_replacement() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("bundle");
        put(made(dir.path()), &output, false).unwrap();
        let (is_done, was_gone) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    was_gone.fetch_or(!output.exists(), Ordering::Relaxed);
                }
            });
            for _ in 0..2000 {
                put(made(dir.path()), &output, true).unwrap();
            }
            is_done.store(true, Ordering::Relaxed);
        });
        assert!(!was_gone.into_inner());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_removed_does_not_fail_a_finished_import() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("bundle");
        // No folder, so removing it as one fails, for root too.
        fs::write(&output, "old").unwrap();
        put(made(dir.path()), &output, true).unwrap();
        assert_eq!(fs::read(output.join(Bundle::MANIFEST)).unwrap(), b"new");
        let names = fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().path());
        let [left] =
            <[PathBuf; 1]>::try_from(names.filter(|it| *it != output).collect::<Vec<_>>()).unwrap();
        assert_eq!(fs::read(left).unwrap(), b"old");
    }
}
