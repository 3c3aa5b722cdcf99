//! What the runtimes made of tract share: a model's inputs and output, and running what became of
//! it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use tract_onnx::pb::GraphProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::runtime::Runnable;

use crate::EncoderError;
use crate::error::{RUN, model_error};
use crate::onnx::{fault, inputs_of};
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

/// The graph, whose nodes are in order, must have the output of `signature`, take its inputs, and
/// need no others for it.
pub(crate) fn check_names(
    path: &Path,
    graph: &GraphProto,
    signature: &Signature,
) -> Result<(), EncoderError> {
    let list = |names: &mut dyn Iterator<Item = &str>| {
        names.map(|it| format!("{it:?}")).collect::<Vec<_>>().join(", ")
    };
    let outputs = || graph.output.iter().map(|it| it.name.as_str());
    let wanted = signature.output.as_str();
    if !outputs().any(|it| it == wanted) {
        let rule = format!("{wanted:?} among others, as model.toml says");
        return Err(fault(path, "the outputs", rule, list(&mut outputs())));
    }
    let constants: HashSet<&str> = graph.initializer.iter().map(|it| it.name.as_str()).collect();
    let inputs =
        || graph.input.iter().map(|it| it.name.as_str()).filter(|it| !constants.contains(it));
    let given = || signature.inputs.iter().map(|it| it.name.as_str());
    // Another output may need other inputs.
    let mut needed = HashSet::from([wanted]);
    for node in graph.node.iter().rev() {
        if node.output.iter().any(|it| needed.contains(it.as_str())) {
            needed.extend(inputs_of(node));
        }
    }
    let is_needed = |it: &&str| needed.contains(it);
    let fits = given().all(|it| inputs().any(|input| input == it))
        && inputs().filter(is_needed).all(|it| given().any(|given| given == it));
    if !fits {
        let rule = format!("{}, as model.toml says", list(&mut given()));
        return Err(fault(path, "the inputs", rule, list(&mut inputs())));
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
