//! An ONNX model with fixed input shapes, run by tract on one thread.

use std::any::Any;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lookout_core::Embedding;
use tract_onnx::prelude::*;

use crate::EncoderError;
use crate::bundle::BundleFile;
use crate::error::{LOAD, RUN};

/// A loaded tower: fixed inputs to one embedding.
pub(crate) struct Model {
    path: PathBuf,
    plan: Arc<TypedRunnableModel>,
    dimension: usize,
}

impl Model {
    /// Loads `file` with the named inputs, in this order, and the named output, which must be
    /// one row of `dimension` numbers.
    pub(crate) fn load(
        file: BundleFile,
        inputs: &[(&str, TypedFact)],
        output: &str,
        dimension: usize,
    ) -> Result<Self, EncoderError> {
        let BundleFile { path, bytes } = file;
        let model = guard(&path, LOAD, || optimize(bytes, inputs, output))?.map_err(|err| {
            EncoderError::Model { path: path.clone(), action: LOAD, source: err.into() }
        })?;
        let shape = model.output_fact(0).ok().and_then(|it| it.shape.as_concrete()).unwrap_or(&[]);
        if shape != [1, dimension] {
            let got = shape.to_vec();
            return Err(EncoderError::OutputShape { path, expected: dimension, got });
        }
        let plan = guard(&path, LOAD, || model.into_runnable())?.map_err(|err| {
            EncoderError::Model { path: path.clone(), action: LOAD, source: err.into() }
        })?;
        Ok(Self { path, plan, dimension })
    }

    /// A value for [`Self::run`].
    pub(crate) fn tensor<T: Datum + Copy>(
        &self,
        shape: &[usize],
        values: &[T],
    ) -> Result<TValue, EncoderError> {
        let tensor = Tensor::from_shape(shape, values).map_err(|err| EncoderError::Model {
            path: self.path.clone(),
            action: RUN,
            source: err.into(),
        })?;
        Ok(tensor.into())
    }

    /// Runs the model on one value an input.
    pub(crate) fn run(&self, inputs: TVec<TValue>) -> Result<Embedding, EncoderError> {
        let outputs = guard(&self.path, RUN, || {
            let outputs = self.plan.run(inputs)?;
            let values = outputs[0].try_as_plain_ram()?;
            TractResult::Ok(values.as_slice::<f32>()?.to_vec())
        })?;
        let values = outputs.map_err(|err| EncoderError::Model {
            path: self.path.clone(),
            action: RUN,
            source: err.into(),
        })?;
        if values.len() != self.dimension {
            let (expected, got) = (self.dimension, vec![values.len()]);
            return Err(EncoderError::OutputShape { path: self.path.clone(), expected, got });
        }
        Embedding::normalize(values)
            .map_err(|source| EncoderError::Output { path: self.path.clone(), source })
    }
}

fn optimize(bytes: Vec<u8>, inputs: &[(&str, TypedFact)], output: &str) -> TractResult<TypedModel> {
    // Files that name their batch dimension cannot be pinned to 1 while the shapes written
    // beside the graph are believed.
    let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    let mut model = onnx.model_for_read(&mut Cursor::new(bytes))?;
    model.select_inputs_by_name(inputs.iter().map(|(name, _)| *name))?;
    model.select_outputs_by_name([output])?;
    for (idx, (_, fact)) in inputs.iter().enumerate() {
        model.set_input_fact(idx, fact.clone().into())?;
    }
    model.into_optimized()
}

/// Runs `body`, which handles outside bytes in a library that may panic on them.
pub(crate) fn guard<T>(
    path: &Path,
    action: &'static str,
    body: impl FnOnce() -> T,
) -> Result<T, EncoderError> {
    // Nothing that `body` changes outlives a panic: what it makes is dropped with it.
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| EncoderError::Panicked {
        path: path.to_owned(),
        action,
        message: panic_message(panic.as_ref()),
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}
