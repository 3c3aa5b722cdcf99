//! ONNX files to tract models whose costly parts are operators of our own.
//!
//! The graph is rewritten in three steps, each of which leaves what it does not know to tract:
//! weights that the file holds as 8-bit integers are bound to the layers that use them and never
//! become floats (`bind`), small operators are joined with the layer before them (`join`), and
//! convolutions get the order of channels that their kernels want (`layout`). What is left to join
//! needs shapes, so it is done on tract's own graph: residual sums and attention (`attention`).

mod attention;
mod bind;
mod cone;
mod graph;
mod join;
mod layout;
mod operators;
#[cfg(test)]
mod tests;

use lookout_kernels::Isa;
use tract_onnx::prelude::*;

use crate::EncoderError;
use crate::error::{LOAD, model_error};
use crate::onnx::{
    OnnxFile, check_count, check_ids, check_operators, check_opset, check_values, retain_needed,
};
use crate::runtime::Signature;
use crate::runtime::sizes::{check_growth, check_sizes};
use crate::runtime::tract::check_names;
use graph::Graph;
use operators::Operator;

/// What to do about a graph that tract refuses.
const ADVICE: &str = "tract refuses the graph; export the model again with fixed shapes and ONNX's \
                      standard operators, or try device \"ort-cpu\"";

/// What to do about an operator that nothing here can run.
const OPERATOR_ADVICE: &str =
    "export the model with ONNX's standard operators, or try device \"ort-cpu\"";

/// Operator sets that tract reads. Imports take fewer, since they change what they read.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=25;

/// Reads `onnx` for `signature` into a model that is ready to be made runnable, with kernels of
/// `isa`.
pub(crate) fn model(
    onnx: OnnxFile,
    signature: &Signature,
    isa: Isa,
) -> Result<TypedModel, EncoderError> {
    let path = onnx.payloads.path().to_owned();
    let OnnxFile { mut model, payloads } = onnx;
    check_opset(&path, &model, OPSETS)?;
    if let Some(graph) = &mut model.graph {
        check_values(&path, graph)?;
        check_names(&path, graph, signature)?;
        // What the other outputs need is left out with them.
        graph.output.retain(|it| it.name == signature.output);
        retain_needed(graph);
        check_count(&path, graph)?;
        let known = tract_onnx::onnx().op_register;
        let is_known = |it: &str| it == Operator::TYPE || known.0.contains_key(it);
        check_operators(&path, graph, &is_known, OPERATOR_ADVICE)?;
        if let (Some(largest_id), Some(input)) = (signature.largest_id, signature.inputs.first()) {
            check_ids(&path, graph, &input.name, largest_id)?;
        }
    }
    let mut graph = Graph::new(OnnxFile { model, payloads });
    graph.refuse_reserved()?;
    bind::bind(&mut graph)?;
    join::join(&mut graph)?;
    layout::layout(&mut graph);
    let (proto, operators) = graph.finish(isa)?;
    let model = operators::parse(proto, operators, signature).and_then(|model| {
        check_growth(&model)?;
        let model = model.into_typed()?;
        check_sizes(&model)?;
        let mut model = model.into_decluttered()?;
        attention::join(&mut model, isa)?;
        model.into_optimized()
    });
    model.map_err(|err| model_error(&path, LOAD, err.context(ADVICE)))
}
