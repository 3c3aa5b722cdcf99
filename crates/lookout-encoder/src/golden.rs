//! Embeddings that another runtime computed, to find out whether this machine agrees with it.

use std::path::{Path, PathBuf};

use lookout_core::{Embedding, Picture};
use lookout_kernels::Isa;
use serde::Deserialize;

use crate::{BoxError, Bundle, EncoderError, ImageTower, Runtime, TextTower};

/// The golden embeddings of a bundle.
#[derive(Clone, Debug)]
pub struct Golden {
    bundle: Bundle,
    pictures: Vec<Sample>,
    texts: Vec<Sample>,
    pictures_dir: PathBuf,
    min_cosine: f64,
}

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    embedding: Embedding,
}

/// How one sample compares.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleCheck {
    /// The text, or the picture's file name.
    pub sample: String,
    /// Cosine between the embedding computed here and the golden one.
    pub cosine: f64,
    /// The least cosine that the bundle allows, less what rounded activations may cost.
    pub min_cosine: f64,
    /// What computed it.
    pub run_by: String,
    /// Where the embeddings differ, the cosine that the portable kernels give, to tell a wrong kernel
    /// from a wrong bundle; `None` beyond the first such sample of its kind, or where those kernels
    /// cannot run the model.
    pub portable_cosine: Option<f64>,
}

impl SampleCheck {
    /// Whether the embeddings agree.
    pub fn passed(&self) -> bool {
        self.min_cosine <= self.cosine
    }

    /// An error unless the embeddings agree.
    pub fn ensure(self) -> Result<(), EncoderError> {
        if self.passed() {
            return Ok(());
        }
        let Self { sample, cosine, min_cosine, run_by, portable_cosine: portable } = self;
        let cpu = Isa::cpu_features();
        Err(EncoderError::GoldenMismatch { sample, min_cosine, cosine, portable, run_by, cpu })
    }
}

impl Golden {
    /// Reads the bundle's golden embeddings.
    pub fn open(bundle: &Bundle) -> Result<Self, EncoderError> {
        let spec = &bundle.manifest.golden;
        let file = bundle.read(&spec.file)?;
        let error = |source: BoxError| EncoderError::Golden { path: file.path.clone(), source };
        let raw: RawGolden =
            serde_json::from_slice(&file.bytes).map_err(|err| error(err.into()))?;
        let samples = |raw: Vec<RawSample>| {
            raw.into_iter().map(|it| it.check(bundle.dimension())).collect::<Result<Vec<_>, _>>()
        };
        if raw.pictures.is_empty() && raw.texts.is_empty() {
            return Err(error("it must hold at least one picture or text".into()));
        }
        let is_plain = |it: &RawSample| !it.name.contains(['/', '\\']) && it.name != "..";
        if let Some(bad) = raw.pictures.iter().find(|it| !is_plain(it)) {
            let name = &bad.name;
            return Err(error(format!("{name:?} must be the plain name of a picture").into()));
        }
        bundle.check_pictures(raw.pictures.iter().map(|it| it.name.as_str()))?;
        Ok(Self {
            pictures: samples(raw.pictures).map_err(error)?,
            texts: samples(raw.texts).map_err(error)?,
            pictures_dir: bundle.pictures_dir(),
            min_cosine: spec.min_cosine,
            bundle: bundle.clone(),
        })
    }

    /// The sample pictures' file names, within [`Bundle::pictures_dir`].
    pub fn picture_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.pictures.iter().map(|it| it.name.as_str())
    }

    /// The sample pictures' embeddings.
    pub fn picture_embeddings(&self) -> impl ExactSizeIterator<Item = &Embedding> {
        self.pictures.iter().map(|it| &it.embedding)
    }

    /// The sample texts.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = &str> {
        self.texts.iter().map(|it| it.name.as_str())
    }

    /// Compares the first `n` sample pictures, fewer where there are fewer. `read_picture`
    /// decodes a file, which has its hash.
    pub fn check_pictures(
        &self,
        tower: &mut ImageTower,
        n: usize,
        mut read_picture: impl FnMut(&Path) -> Result<Picture, BoxError>,
    ) -> Result<Vec<SampleCheck>, EncoderError> {
        let mut checks: Vec<SampleCheck> = Vec::new();
        for sample in self.pictures.iter().take(n) {
            self.bundle.verify_picture(&sample.name)?;
            let path = self.pictures_dir.join(&sample.name);
            let picture = read_picture(&path)
                .map_err(|source| EncoderError::SamplePicture { path, source })?;
            let about = |err: EncoderError| err.about(format!("picture {:?}", sample.name));
            let got = tower.encode(&picture).map_err(about)?;
            let mut check = self.compare(sample, &got, tower.noise(), tower.describe());
            if !check.passed() && checks.iter().all(SampleCheck::passed) {
                let portable = Runtime::cpu_with(Isa::PORTABLE);
                let portable = ImageTower::load_on(&self.bundle, &portable, 1);
                let got = portable.and_then(|mut it| it.encode(&picture));
                check.portable_cosine = got.ok().map(|it| sample.embedding.cosine(&it));
            }
            checks.push(check);
        }
        Ok(checks)
    }

    /// Compares the first `n` sample texts, fewer where there are fewer.
    pub fn check_texts(
        &self,
        tower: &mut TextTower,
        n: usize,
    ) -> Result<Vec<SampleCheck>, EncoderError> {
        let samples = &self.texts[..n.min(self.texts.len())];
        let texts: Vec<&str> = samples.iter().map(|it| it.name.as_str()).collect();
        let embeddings = tower.encode_texts(&texts)?;
        let check = |(sample, got)| self.compare(sample, got, tower.noise(), tower.describe());
        let mut checks: Vec<SampleCheck> = samples.iter().zip(&embeddings).map(check).collect();
        let failed = checks.iter_mut().zip(samples).find(|(check, _)| !check.passed());
        if let Some((check, sample)) = failed {
            let portable = Runtime::cpu_with(Isa::PORTABLE);
            let portable = TextTower::load_on(&self.bundle, &portable, 1);
            let got = portable.and_then(|mut it| it.encode_text(&sample.name));
            check.portable_cosine = got.ok().map(|it| sample.embedding.cosine(&it));
        }
        Ok(checks)
    }

    fn compare(
        &self,
        sample: &Sample,
        embedding: &Embedding,
        noise: f64,
        run_by: String,
    ) -> SampleCheck {
        let cosine = sample.embedding.cosine(embedding);
        let min_cosine = (self.min_cosine.acos() + noise).cos();
        let (sample, portable_cosine) = (sample.name.clone(), None);
        SampleCheck { sample, cosine, min_cosine, run_by, portable_cosine }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGolden {
    #[expect(dead_code, reason = "for the reader of the file")]
    made_by: serde_json::Value,
    pictures: Vec<RawSample>,
    texts: Vec<RawSample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSample {
    name: String,
    embedding: Vec<f32>,
}

impl RawSample {
    fn check(self, dimension: usize) -> Result<Sample, BoxError> {
        let Self { name, embedding } = self;
        if embedding.len() != dimension {
            let got = embedding.len();
            return Err(format!("{name:?} must have {dimension} numbers, got {got}").into());
        }
        let embedding =
            Embedding::from_unit(embedding).map_err(|err| format!("{name:?}: {err}"))?;
        Ok(Sample { name, embedding })
    }
}
