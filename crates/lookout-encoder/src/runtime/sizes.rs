//! No value may need memory without measure: neither when a model runs, nor while it is loaded.

use std::collections::{BTreeSet, HashMap};

use tract_onnx::ops::logic::If;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::ensure;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::scan::InferenceScan;

/// The most entries of a value: 1 GiB of floats, where the largest value of a large tower has some
/// millions.
const MAX_ENTRIES: u32 = 1 << 28;
/// The most entries of a value that is computed to find the sizes of others. A shape has a few.
const MAX_KNOWN: usize = 1 << 10;
/// The most entries of a value that such may be computed from, by cutting it out.
const MAX_SOURCE: usize = 1 << 22;

/// Checks every value of a graph whose shapes are known.
pub(crate) fn check_sizes(model: &TypedModel) -> TractResult<()> {
    for node in model.nodes() {
        for fact in &node.outputs {
            check_shape(&node.name, &node.op.name(), &fact.fact.shape.to_tvec())?;
        }
    }
    Ok(())
}

/// Checks the same, as far as it can be told, before tract computes what follows from constants:
/// it does so while it finds out shapes, so that one small constant may ask for any memory.
pub(crate) fn check_growth(model: &InferenceModel) -> TractResult<()> {
    let mut model = model.clone();
    for id in model.eval_order()? {
        check_range(&model, id)?;
        check_bodies(&model, id)?;
        let Some(facts) = outputs(&mut model, id)? else { continue };
        for (slot, fact) in facts.into_iter().enumerate() {
            model.set_outlet_fact(OutletId::new(id, slot), fact)?;
        }
    }
    Ok(())
}

/// What is known of a node's outputs, their values included where they are small; `None` where
/// tract finds a contradiction, which it tells when it analyses the graph.
fn outputs(model: &mut InferenceModel, id: usize) -> TractResult<Option<TVec<InferenceFact>>> {
    let (inputs, outputs) = model.node_facts(id)?;
    let inputs: TVec<InferenceFact> = inputs.into_iter().cloned().collect();
    let outputs: TVec<InferenceFact> = outputs.into_iter().cloned().collect();
    let observed = model.node(id).op.observe_outlets(model, model.node(id))?;
    let observed = observed.iter().map(|it| model.outlet_fact(*it).cloned());
    let observed: TVec<InferenceFact> = observed.collect::<TractResult<_>>()?;
    let node = model.node_mut(id);
    let inferred = node.op.infer_facts(
        inputs.iter().collect(),
        outputs.iter().collect(),
        observed.iter().collect(),
    );
    let Ok((inputs, outputs, _)) = inferred else { return Ok(None) };
    let mut is_small = !inputs.is_empty();
    for fact in &outputs {
        let Some(shape) = fact.shape.concretize() else {
            is_small = false;
            continue;
        };
        check_shape(&node.name, &node.op.name(), &shape)?;
        is_small &= entries(&shape).is_some_and(|it| it <= MAX_KNOWN);
    }
    let known = |it: &InferenceFact| it.value.concretize().filter(|it| it.len() <= MAX_SOURCE);
    let values: Option<TVec<TValue>> =
        inputs.iter().map(|it| known(it).map(IntoTValue::into_tvalue)).collect();
    let Some(values) = values.filter(|_| is_small) else { return Ok(Some(outputs)) };
    let Ok(Some(values)) = node.op.eval_out_of_plan(values) else { return Ok(Some(outputs)) };
    let fact = |it: TValue| it.into_arc_tensor().try_into();
    values.into_iter().map(fact).collect::<TractResult<_>>().map(Some)
}

/// tract divides by the step of a range, and counts one entry too many of a range that goes down.
fn check_range(model: &InferenceModel, id: usize) -> TractResult<()> {
    let node = model.node(id);
    if node.op.name() != "Range" {
        return Ok(());
    }
    let mut numbers = TVec::new();
    for input in &node.inputs {
        let Some(value) = model.outlet_fact(*input)?.value.concretize() else { return Ok(()) };
        let Ok(value) = value.cast_to::<f64>() else { return Ok(()) };
        numbers.extend(value.try_as_plain_ram()?.as_slice::<f64>()?.first().copied());
    }
    let [start, limit, step] = numbers.as_slice() else { return Ok(()) };
    let (name, most) = (&node.name, f64::from(MAX_ENTRIES));
    ensure!(0.0 < *step, "node {name:?} (Range) must have a step greater than 0, got {step}");
    let n = ((limit - start) / step).ceil();
    ensure!(
        n <= most,
        "what node {name:?} (Range) makes may have at most {MAX_ENTRIES} entries, got shape [{n}]"
    );
    Ok(())
}

/// Checks the graphs within a node, which tract analyses along with it.
fn check_bodies(model: &InferenceModel, id: usize) -> TractResult<()> {
    let node = model.node(id);
    if let Some(scan) = node.op_as::<InferenceScan>() {
        return check_growth(&scan.body);
    }
    let Some(If { then_body, else_body, .. }) = node.op_as::<If>() else { return Ok(()) };
    // What they read of the outer graph are their inputs, and in order of name the node's behind
    // the condition.
    let names = |body: &InferenceModel| -> TractResult<Vec<String>> {
        Ok(body.input_outlets()?.iter().map(|it| body.node(it.node).name.clone()).collect())
    };
    let all: BTreeSet<String> = names(then_body)?.into_iter().chain(names(else_body)?).collect();
    let outer: HashMap<&String, &OutletId> = all.iter().zip(node.inputs.iter().skip(1)).collect();
    for body in [then_body, else_body] {
        let mut body = body.clone();
        for (idx, name) in names(&body)?.iter().enumerate() {
            if let Some(outlet) = outer.get(name) {
                body.set_input_fact(idx, model.outlet_fact(**outlet)?.clone())?;
            }
        }
        check_growth(&body)?;
    }
    Ok(())
}

fn check_shape(name: &str, op: &str, shape: &[TDim]) -> TractResult<()> {
    // One that is not a number yet is checked when it is.
    if shape.iter().any(|it| it.to_i64().is_err()) {
        return Ok(());
    }
    let n = entries(shape).and_then(|it| u32::try_from(it).ok());
    ensure!(
        n.is_some_and(|it| it <= MAX_ENTRIES),
        "what node {name:?} ({op}) makes may have at most {MAX_ENTRIES} entries, got shape [{}]",
        shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

fn entries(shape: &[TDim]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, it| product.checked_mul(it.to_usize().ok()?))
}
