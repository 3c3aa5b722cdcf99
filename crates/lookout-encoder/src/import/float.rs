//! A float tower run by tract as it is, to compare its int8 twin with.

use std::path::PathBuf;
use std::sync::Arc;

use lookout_core::Embedding;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use crate::EncoderError;
use crate::error::{LOAD, RUN};
use crate::manifest::Manifest;
use crate::onnx::{commute, fault, name_nodes};
use crate::runtime::guard;
use crate::runtime::sizes::{check_growth, check_sizes};

/// What to do about a graph that tract refuses.
const ADVICE: &str = "tract refuses the graph; export the model again with fixed shapes and ONNX's \
                      standard operators";

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
            source: err.context(ADVICE).into(),
        })?;
        let fact = plan.model().output_fact(0).ok();
        let shape = fact.and_then(|it| it.shape.as_concrete()).unwrap_or(&[]);
        let most = Manifest::MAX_DIMENSION;
        let fits = |n: usize| u32::try_from(n).is_ok_and(|it| (1..=most).contains(&it));
        if !matches!(shape, [1, n] if fits(*n)) {
            let at = format!("output {output:?}");
            let rule = format!("one row of 1 to {most} numbers, an embedding");
            return Err(fault(&path, at, rule, format!("shape {shape:?}")));
        }
        Ok(Self { path, plan })
    }

    /// Runs it on one value an input; `of` says what the embedding is of.
    pub(crate) fn run(
        &self,
        of: &str,
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
        let (path, of) = (&self.path, of.to_owned());
        Embedding::normalize(values).map_err(|source| EncoderError::Output {
            path: path.clone(),
            of,
            source,
        })
    }
}

fn optimize(
    mut proto: ModelProto,
    inputs: &[(&str, TypedFact)],
    output: &str,
) -> TractResult<Arc<TypedRunnableModel>> {
    if let Some(graph) = &mut proto.graph {
        commute(graph);
        name_nodes(graph);
    }
    let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    let mut model = onnx.model_for_proto_model(&proto)?;
    // tract has its own copy of every weight now.
    drop(proto);
    model.select_inputs_by_name(inputs.iter().map(|(name, _)| *name))?;
    model.select_outputs_by_name([output])?;
    for (idx, (_, fact)) in inputs.iter().enumerate() {
        model.set_input_fact(idx, fact.clone().into())?;
    }
    check_growth(&model)?;
    let model = model.into_typed()?;
    check_sizes(&model)?;
    model.into_optimized()?.into_runnable()
}
