//! What the runtimes made of tract share: a model's inputs and output, and running what became of
//! it.

use std::path::{Path, PathBuf};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::runtime::Runnable;

use crate::EncoderError;
use crate::error::{RUN, model_error};
use crate::runtime::{Input, InputKind, Session, Signature, guard};

/// Gives `model` the inputs, in their order and shapes, and the output of `signature`.
pub(crate) fn select(model: &mut InferenceModel, signature: &Signature) -> TractResult<()> {
    model.select_inputs_by_name(signature.inputs.iter().map(|it| &it.name))?;
    model.select_outputs_by_name([&signature.output])?;
    for (idx, input) in signature.inputs.iter().enumerate() {
        let fact = match input.kind {
            InputKind::F32 => f32::fact(&input.shape),
            InputKind::I64 => i64::fact(&input.shape),
        };
        model.set_input_fact(idx, fact.into())?;
    }
    Ok(())
}

/// A model that tract runs, wherever.
pub(crate) struct TractSession {
    path: PathBuf,
    runnable: Box<dyn Runnable>,
    shapes: Vec<Vec<usize>>,
    description: String,
    noise: f64,
}

impl TractSession {
    /// Checks the output of what became of the file at `path` against `signature`.
    pub(crate) fn new(
        path: &Path,
        signature: &Signature,
        description: String,
        runnable: Box<dyn Runnable>,
    ) -> Result<Self, EncoderError> {
        let path = path.to_owned();
        let fact = runnable.output_fact(0).ok();
        let shape = fact.and_then(|it| it.shape.as_concrete()).unwrap_or(&[]);
        if shape != [signature.rows, signature.dimension] {
            let (expected, got) = (signature.dimension, shape.to_vec());
            return Err(EncoderError::OutputShape { path, expected, got });
        }
        let shapes = signature.inputs.iter().map(|it| it.shape.clone()).collect();
        Ok(Self { path, runnable, shapes, description, noise: 0.0 })
    }

    /// The same, with activations that are rounded.
    pub(crate) fn with_noise(self, noise: f64) -> Self {
        Self { noise, ..self }
    }
}

impl Session for TractSession {
    fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<f32>, EncoderError> {
        let outputs = guard(&self.path, RUN, || {
            let tensors = inputs.iter().zip(&self.shapes).map(|(input, shape)| {
                Ok(match input {
                    Input::F32(values) => Tensor::from_shape(shape, values)?.into_tvalue(),
                    Input::I64(values) => Tensor::from_shape(shape, values)?.into_tvalue(),
                })
            });
            let outputs = self.runnable.run(tensors.collect::<TractResult<_>>()?)?;
            let values = outputs[0].try_as_plain_ram()?;
            TractResult::Ok(values.as_slice::<f32>()?.to_vec())
        })?;
        outputs.map_err(|err| model_error(&self.path, RUN, err))
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn noise(&self) -> f64 {
        self.noise
    }
}
