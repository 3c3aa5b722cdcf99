//! Pictures to embeddings.

use lookout_core::{Embedding, ImageEncoder, Picture, PortError};

use crate::preprocess::{ImageRule, Layout, preprocess};
use crate::runtime::{Input, InputKind, InputSpec, Model, Runtime, Signature, repeat_last};
use crate::{Bundle, EncoderError};

/// A loaded image tower.
pub struct ImageTower {
    model: Model,
    rule: ImageRule,
}

impl ImageTower {
    /// Loads the bundle's image tower on the CPU, for one picture a run. Its file is hashed before
    /// tract sees it.
    pub fn load(bundle: &Bundle) -> Result<Self, EncoderError> {
        Self::load_on(bundle, &Runtime::cpu(), 1)
    }

    /// Loads the bundle's image tower on `runtime`, for `batch` pictures a run, at least 1.
    pub fn load_on(bundle: &Bundle, runtime: &Runtime, batch: usize) -> Result<Self, EncoderError> {
        let spec = &bundle.manifest.image;
        let rule = spec.rule.clone();
        let rows = batch.max(1);
        let side = rule.size_px as usize;
        let shape = match rule.layout {
            Layout::Nchw => vec![rows, 3, side, side],
            Layout::Nhwc => vec![rows, side, side, 3],
        };
        let signature = Signature {
            inputs: vec![InputSpec { name: spec.input.clone(), kind: InputKind::F32, shape }],
            output: spec.output.clone(),
            dimension: bundle.dimension(),
            rows,
            has_outliers: spec.has_outliers,
            largest_id: None,
        };
        Ok(Self { model: runtime.load(bundle, &spec.file, signature)?, rule })
    }

    /// How a picture becomes the input of [`Self::encode_values`].
    pub fn rule(&self) -> &ImageRule {
        &self.rule
    }

    /// The embedding of the picture that [`preprocess`] made `values` of; for a tower of one
    /// picture a run.
    pub fn encode_values(&mut self, values: &[f32]) -> Result<Embedding, EncoderError> {
        let mut embeddings = self.model.run(&[Input::F32(values)], 1, |_| "a picture".into())?;
        Ok(embeddings.swap_remove(0))
    }

    pub(crate) fn noise(&self) -> f64 {
        self.model.noise()
    }

    /// What computes it, for people.
    pub fn describe(&self) -> String {
        self.model.describe()
    }

    /// The embedding of `picture`.
    pub fn encode(&mut self, picture: &Picture) -> Result<Embedding, EncoderError> {
        let mut embeddings = self.encode_batch(std::slice::from_ref(picture))?;
        Ok(embeddings.swap_remove(0))
    }

    /// The embeddings of `pictures`, in their order, as many a run as the tower was loaded for.
    /// A run with fewer repeats the last one.
    pub fn encode_batch(&mut self, pictures: &[Picture]) -> Result<Vec<Embedding>, EncoderError> {
        let mut embeddings = Vec::with_capacity(pictures.len());
        for batch in pictures.chunks(self.model.rows()) {
            let mut values = Vec::new();
            for picture in batch {
                values.append(&mut preprocess(picture, &self.rule)?);
            }
            repeat_last(&mut values, batch.len(), self.model.rows());
            let of = |row: usize| {
                let size = batch.get(row).map(|it| (it.width_px(), it.height_px()));
                let (width, height) = size.unwrap_or_default();
                format!("a picture of {width}x{height} px")
            };
            embeddings.append(&mut self.model.run(&[Input::F32(&values)], batch.len(), of)?);
        }
        Ok(embeddings)
    }
}

impl ImageEncoder for ImageTower {
    fn encode_image(&mut self, picture: &Picture) -> Result<Embedding, PortError> {
        self.encode(picture).map_err(|err| PortError::new(err.disposition(), err))
    }
}
