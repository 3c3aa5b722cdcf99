//! A float tower run by tract as it is, to compare its int8 twin with.

use std::path::PathBuf;
use std::sync::Arc;

use lookout_core::Embedding;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use crate::EncoderError;
use crate::error::{LOAD, RUN};
use crate::runtime::guard;

/// A float model with fixed inputs, in memory.
pub(crate) struct FloatTower {
    path: PathBuf,
    plan: Arc<TypedRunnableModel>,
}

impl FloatTower {
    /// Loads a model with the named inputs, in this order, and the named output.
    pub(crate) fn load(
        path: PathBuf,
        model: ModelProto,
        inputs: &[(&str, TypedFact)],
        output: &str,
    ) -> Result<Self, EncoderError> {
        let plan = guard(&path, LOAD, || optimize(model, inputs, output))?;
        let plan = plan.map_err(|err| EncoderError::Model {
            path: path.clone(),
            action: LOAD,
            source: err.into(),
        })?;
        Ok(Self { path, plan })
    }

    /// Runs it on one value an input.
    pub(crate) fn run(
        &self,
        inputs: impl FnOnce() -> TractResult<TVec<TValue>>,
    ) -> Result<Embedding, EncoderError> {
        let values = guard(&self.path, RUN, || {
            let outputs = self.plan.run(inputs()?)?;
            TractResult::Ok(outputs[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
        })?;
        let values = values.map_err(|err| EncoderError::Model {
            path: self.path.clone(),
            action: RUN,
            source: err.into(),
        })?;
        Embedding::normalize(values)
            .map_err(|source| EncoderError::Output { path: self.path.clone(), source })
    }
}

fn optimize(
    proto: ModelProto,
    inputs: &[(&str, TypedFact)],
    output: &str,
) -> TractResult<Arc<TypedRunnableModel>> {
    let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    let mut model = onnx.model_for_proto_model(&proto)?;
    // tract has its own copy of every weight now.
    drop(proto);
    model.select_inputs_by_name(inputs.iter().map(|(name, _)| *name))?;
    model.select_outputs_by_name([output])?;
    for (idx, (_, fact)) in inputs.iter().enumerate() {
        model.set_input_fact(idx, fact.clone().into())?;
    }
    model.into_optimized()?.into_runnable()
}
