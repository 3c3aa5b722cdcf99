//! A model bundle: a folder with `model.toml` and the files that it names.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use lookout_core::{Scales, Weighting};
use sha2::{Digest, Sha256};

use crate::manifest::Manifest;
use crate::onnx::OnnxFile;
use crate::{DecisionDefaults, EncoderError, Fault, ImageRule};

/// The largest manifest, in bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// The largest tokenizer, golden file or sample picture, in bytes.
const MAX_TABLE_BYTES: u64 = 64 << 20;
/// The largest other file, in bytes: what protobuf, and so ONNX, can hold.
const MAX_MODEL_BYTES: u64 = 2 << 30;

/// An opened bundle whose manifest holds every rule. Its files are there; their content is
/// checked when they are loaded, or by [`Bundle::verify_files`].
#[derive(Clone, Debug)]
pub struct Bundle {
    dir: PathBuf,
    pub(crate) manifest: Manifest,
}

/// A file of the bundle, read and found to be the one described.
pub(crate) struct BundleFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

/// A file of the bundle that is not read yet, with the hash that it must have.
pub(crate) struct BundleEntry {
    pub(crate) path: PathBuf,
    sha256: String,
    limit: u64,
}

impl BundleEntry {
    /// The whole file. What is returned is what was hashed.
    pub(crate) fn read(self) -> Result<BundleFile, EncoderError> {
        let bytes = read_file(&self.path, self.limit)?;
        compare(self.path.clone(), &self.sha256, &hex(&Sha256::digest(&bytes)))?;
        Ok(BundleFile { path: self.path, bytes })
    }

    /// The file as ONNX whose large tensors are read when they are asked for.
    pub(crate) fn open_onnx(&self) -> Result<OnnxFile, EncoderError> {
        let onnx = OnnxFile::open_checked(&self.path, &self.sha256)?;
        if let Some((name, _)) = onnx.payloads.outside_files().next() {
            return Err(EncoderError::Onnx {
                path: self.path.clone(),
                at: "the file".to_owned(),
                rule: "one that holds its weights itself; `lookout models import` makes one"
                    .to_owned(),
                got: format!("weights in {name:?}"),
            });
        }
        Ok(onnx)
    }
}

impl Bundle {
    /// The manifest's name in the folder.
    pub const MANIFEST: &str = "model.toml";

    /// Reads `dir/model.toml` and checks it wholly; every fault is reported at once.
    pub fn open(dir: &Path) -> Result<Self, EncoderError> {
        let bundle = Self { dir: dir.to_owned(), manifest: Self::read_manifest(dir)? };
        let faults = bundle.file_faults();
        if faults.is_empty() {
            return Ok(bundle);
        }
        Err(EncoderError::Invalid { path: dir.join(Self::MANIFEST), faults })
    }

    fn read_manifest(dir: &Path) -> Result<Manifest, EncoderError> {
        let path = dir.join(Self::MANIFEST);
        let bytes = read_file(&path, MAX_MANIFEST_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|err| EncoderError::Invalid {
            path: path.clone(),
            faults: vec![Fault {
                key: Self::MANIFEST.to_owned(),
                rule: "UTF-8".to_owned(),
                got: err.utf8_error().to_string(),
            }],
        })?;
        let table = text
            .parse()
            .map_err(|err| EncoderError::Syntax { path: path.clone(), source: Box::new(err) })?;
        Manifest::from_table(table).map_err(|faults| EncoderError::Invalid { path, faults })
    }

    /// What is in `dir` and not of the bundle there, by name, but files of its terms. Its manifest
    /// must hold every rule; its other files need not be there.
    pub(crate) fn others(dir: &Path) -> Result<Vec<String>, EncoderError> {
        let Manifest { golden, sha256, .. } = Self::read_manifest(dir)?;
        let mut others = Vec::new();
        for entry in entries(dir)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            // A folder of a file's name holds something of somebody else.
            let is_file = entry.file_type().is_ok_and(|it| it.is_file());
            let is_file = is_file
                && (name == Self::MANIFEST || is_terms(&name) || sha256.contains_key(&name));
            if !is_file && name != golden.pictures {
                others.push(name);
            }
        }
        let pictures = dir.join(&golden.pictures);
        if pictures.is_dir() {
            for entry in entries(&pictures)? {
                let name = format!("{}/{}", golden.pictures, entry.file_name().to_string_lossy());
                let is_file = entry.file_type().is_ok_and(|it| it.is_file());
                if !is_file || !sha256.contains_key(&name) {
                    others.push(name);
                }
            }
        }
        others.sort_unstable();
        Ok(others)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names the embedding space; only embeddings of one space can be compared.
    pub fn space(&self) -> &str {
        &self.manifest.space
    }

    /// Entries of an embedding.
    pub fn dimension(&self) -> usize {
        self.manifest.dimension
    }

    /// From cosines to logits.
    pub fn scales(&self) -> Scales {
        self.manifest.scales
    }

    /// The weighting of the two modalities that suits the model.
    pub fn weighting(&self) -> Weighting {
        self.manifest.weighting
    }

    /// K, the captions to keep for a picture; at least 1.
    pub fn n_captions(&self) -> usize {
        self.manifest.n_captions
    }

    /// The prompt templates that suit the model; at least one, `{}` exactly once in each.
    pub fn templates(&self) -> &[String] {
        &self.manifest.templates
    }

    /// The decision rules that suit the model.
    pub fn decision(&self) -> DecisionDefaults {
        self.manifest.decision
    }

    /// How a picture becomes the image tower's input.
    pub fn image_rule(&self) -> &ImageRule {
        &self.manifest.image.rule
    }

    /// Under which terms the bundle may be used.
    pub fn license(&self) -> &str {
        &self.manifest.license
    }

    /// Where the bundle comes from.
    pub fn origin(&self) -> &str {
        &self.manifest.origin
    }

    /// The folder of sample pictures.
    pub fn pictures_dir(&self) -> PathBuf {
        self.dir.join(&self.manifest.golden.pictures)
    }

    /// File names with their SHA-256 as 64 lower-case hexadecimal digits, by name.
    pub fn sha256(&self) -> impl Iterator<Item = (&str, &str)> {
        self.manifest.sha256.iter().map(|(name, hash)| (name.as_str(), hash.as_str()))
    }

    /// Hashes every file of the manifest, in order of name; the first that differs is the error.
    pub fn verify_files(&self) -> Result<(), EncoderError> {
        self.manifest.sha256.keys().try_for_each(|name| self.verify_file(name))
    }

    /// Hashes the files of the text tower, for those who do without loading it.
    pub fn verify_text_files(&self) -> Result<(), EncoderError> {
        let text = &self.manifest.text;
        [&text.file, &text.tokens.file].into_iter().try_for_each(|name| self.verify_file(name))
    }

    fn verify_file(&self, name: &str) -> Result<(), EncoderError> {
        let BundleEntry { path, sha256, limit } = self.entry(name);
        let got = hash(open_file(&path, limit)?)
            .map_err(|source| EncoderError::Read { path: path.clone(), source })?;
        compare(path, &sha256, &got)
    }

    /// Hashes the sample picture `name`.
    pub(crate) fn verify_picture(&self, name: &str) -> Result<(), EncoderError> {
        self.verify_file(&self.picture(name))
    }

    /// Every one of these sample pictures must have its hash in the manifest.
    pub(crate) fn check_pictures<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<(), EncoderError> {
        let missing = names.map(|it| self.picture(it));
        let missing = missing.filter(|it| !self.manifest.sha256.contains_key(it));
        let fault = |name: String| Fault {
            key: format!("sha256.{name:?}"),
            rule: format!(
                "the SHA-256 of that sample picture, which {} lists; restore the bundle, or import \
                 the model again",
                self.manifest.golden.file
            ),
            got: "nothing".to_owned(),
        };
        let faults: Vec<Fault> = missing.map(fault).collect();
        if faults.is_empty() {
            return Ok(());
        }
        Err(EncoderError::Invalid { path: self.dir.join(Self::MANIFEST), faults })
    }

    /// What the manifest calls the sample picture `name`.
    fn picture(&self, name: &str) -> String {
        format!("{}/{name}", self.manifest.golden.pictures)
    }

    /// Reads a file named by the manifest. What is returned is what was hashed.
    pub(crate) fn read(&self, name: &str) -> Result<BundleFile, EncoderError> {
        self.entry(name).read()
    }

    /// A file named by the manifest, not read yet.
    pub(crate) fn entry(&self, name: &str) -> BundleEntry {
        let sha256 = self.manifest.sha256.get(name).cloned().unwrap_or_default();
        BundleEntry { path: self.dir.join(name), sha256, limit: self.limit(name) }
    }

    fn limit(&self, name: &str) -> u64 {
        let Manifest { text, golden, .. } = &self.manifest;
        let is_table = name == text.tokens.file || name == golden.file || name.contains('/');
        if is_table { MAX_TABLE_BYTES } else { MAX_MODEL_BYTES }
    }

    fn file_faults(&self) -> Vec<Fault> {
        let Manifest { image, text, golden, sha256, .. } = &self.manifest;
        let mut faults = Vec::new();
        let mut fault = |key: String, rule: &str, got: String| {
            faults.push(Fault { key, rule: rule.to_owned(), got });
        };
        for (key, name) in [
            ("image.file", &image.file),
            ("text.file", &text.file),
            ("text.tokenizer", &text.tokens.file),
            ("golden.file", &golden.file),
        ] {
            if !sha256.contains_key(name) {
                let rule = "a file with an entry in `sha256`";
                fault(key.to_owned(), rule, format!("{name:?}"));
            }
        }
        for name in sha256.keys() {
            if let Err(err) = open_file(&self.dir.join(name), self.limit(name)) {
                let key = format!("sha256.{name:?}");
                fault(key, "the hash of a readable file in the bundle's folder", reason(&err));
            }
        }
        if !self.pictures_dir().is_dir() {
            let got = format!("{:?}", golden.pictures);
            fault("golden.pictures".to_owned(), "a folder in the bundle's folder", got);
        }
        faults
    }
}

/// Whether a file of this name tells of terms or of the bundle as a whole: it is no part of the
/// model, and stays where a bundle is replaced.
pub(crate) fn is_terms(name: &str) -> bool {
    let stem = name.split(['.', '-', '_']).next().unwrap_or_default();
    ["NOTICE", "LICENSE", "LICENCE", "COPYING", "README"].contains(&stem)
}

/// What is in the folder `dir`.
pub(crate) fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>, EncoderError> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect);
    entries.map_err(|source| EncoderError::Read { path: dir.to_owned(), source })
}

fn reason(err: &EncoderError) -> String {
    match err {
        EncoderError::Read { source, .. } => source.to_string(),
        err => err.to_string(),
    }
}

fn compare(path: PathBuf, expected: &str, got: &str) -> Result<(), EncoderError> {
    if expected == got {
        return Ok(());
    }
    Err(EncoderError::Hash { path, expected: expected.to_owned(), got: got.to_owned() })
}

fn hash(mut file: File) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..n]);
    }
}

/// `bytes` as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

/// Opens a regular file of at most `limit` bytes. Its kind is looked at before it is opened,
/// because opening a pipe waits for a writer.
pub(crate) fn open_file(path: &Path, limit: u64) -> Result<File, EncoderError> {
    let read_error = |source| EncoderError::Read { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(read_error)?;
    if !metadata.is_file() {
        return Err(EncoderError::NotAFile { path: path.to_owned() });
    }
    if limit < metadata.len() {
        let got = metadata.len();
        return Err(EncoderError::TooLarge { path: path.to_owned(), limit, got });
    }
    File::open(path).map_err(read_error)
}

/// Reads a regular file of at most `limit` bytes.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, EncoderError> {
    let mut bytes = Vec::new();
    open_file(path, limit)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| EncoderError::Read { path: path.to_owned(), source })?;
    let got = bytes.len() as u64;
    if limit < got {
        return Err(EncoderError::TooLarge { path: path.to_owned(), limit, got });
    }
    Ok(bytes)
}
