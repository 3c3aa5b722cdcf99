//! Pictures to embeddings.

use lookout_core::{Embedding, ImageEncoder, Picture, PortError};
use tract_onnx::prelude::*;

use crate::model::Model;
use crate::preprocess::{ImageRule, Layout, preprocess};
use crate::{Bundle, EncoderError};

/// A loaded image tower.
pub struct ImageTower {
    model: Model,
    rule: ImageRule,
}

impl ImageTower {
    /// Loads the bundle's image tower. Its file is hashed before tract sees it.
    pub fn load(bundle: &Bundle) -> Result<Self, EncoderError> {
        let spec = &bundle.manifest.image;
        let rule = spec.rule.clone();
        let fact = f32::fact(shape(&rule));
        let file = bundle.read(&spec.file)?;
        let model = Model::load(file, &[(&spec.input, fact)], &spec.output, bundle.dimension())?;
        Ok(Self { model, rule })
    }

    /// The embedding of `picture`.
    pub fn encode(&mut self, picture: &Picture) -> Result<Embedding, EncoderError> {
        self.encode_values(&preprocess(picture, &self.rule)?)
    }

    fn encode_values(&mut self, values: &[f32]) -> Result<Embedding, EncoderError> {
        let input = self.model.tensor(&shape(&self.rule), values)?;
        self.model.run(tvec![input])
    }
}

impl ImageEncoder for ImageTower {
    fn encode_image(&mut self, picture: &Picture) -> Result<Embedding, PortError> {
        self.encode(picture).map_err(|err| PortError::new(err.disposition(), err))
    }
}

fn shape(rule: &ImageRule) -> [usize; 4] {
    let side = rule.size_px as usize;
    match rule.layout {
        Layout::Nchw => [1, 3, side, side],
        Layout::Nhwc => [1, side, side, 3],
    }
}
