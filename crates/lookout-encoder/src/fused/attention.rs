//! Joins what needs shapes, on tract's own graph: residual sums with the layer before them, and
//! attention.
//!
//! By then tract has reduced every exporter's way of writing attention to two products with a
//! softmax between them, whose axes tell which is which.

use std::sync::{Mutex, PoisonError};

use lookout_kernels::{Attention, Heads, Isa};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::nn::{Softmax, SoftmaxKind};

use super::operators::{Kernel, Operator, filled, floats};

/// Joins attention, then residual sums, wherever `model` has them.
pub(super) fn join(model: &mut TypedModel, isa: Isa) -> TractResult<()> {
    each(model, |model, node| attention(model, node, isa))?;
    each(model, residual)
}

/// Applies `rule` to every node that was there in the beginning.
fn each(
    model: &mut TypedModel,
    rule: impl Fn(&TypedModel, &TypedNode) -> TractResult<Option<TypedModelPatch>>,
) -> TractResult<()> {
    for id in model.eval_order()? {
        if let Some(patch) = rule(model, model.node(id))? {
            patch.apply(model)?;
        }
    }
    model.compact()
}

/// A sum of a layer's output and another value of the same shape.
fn residual(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    let (Some(op), [a, b]) = (binary(node, "Add"), node.inputs.as_slice()) else { return Ok(None) };
    // A sum that also casts is none of ours.
    if op.1.is_some() {
        return Ok(None);
    }
    // The later layer takes the other value as its residual, so no layer waits for itself.
    for (layer, other) in if a.node < b.node { [(b, a), (a, b)] } else { [(a, b), (b, a)] } {
        let layer_node = model.node(layer.node);
        let Some(joined) = layer_node.op_as::<Operator>().and_then(Operator::with_residual) else {
            continue;
        };
        let (fact, other_fact) = (model.outlet_fact(*layer)?, model.outlet_fact(*other)?);
        let is_only_reader =
            layer_node.outputs[0].successors.len() == 1 && !model.output_outlets()?.contains(layer);
        let is_same = fact.shape == other_fact.shape && other_fact.datum_type == f32::datum_type();
        if !is_only_reader || !is_same || other_fact.konst.is_some() || layer.node == other.node {
            continue;
        }
        let mut patch = TypedModelPatch::default();
        let inputs = patch.taps(model, &[layer_node.inputs[0], *other])?;
        let out = patch.wire_node(&layer_node.name, joined, &inputs)?;
        patch.shunt_outside(model, node.id.into(), out[0])?;
        return Ok(Some(patch));
    }
    Ok(None)
}

fn binary<'a>(node: &'a TypedNode, name: &str) -> Option<&'a TypedBinOp> {
    node.op_as::<TypedBinOp>().filter(|it| it.0.name() == name)
}

/// softmax(scale · queries keysᵀ + mask) values, where `last` is the last product.
fn attention(
    model: &TypedModel,
    last: &TypedNode,
    isa: Isa,
) -> TractResult<Option<TypedModelPatch>> {
    let Some(found) = find(model, last)? else { return Ok(None) };
    let Found { heads, scale, n_samples, n_masks, queries, keys, values, mask } = found;
    let mut inputs = vec![queries, keys, values];
    inputs.extend(mask);
    let kernel = Joined {
        n_samples,
        n_masks,
        shape: model.outlet_fact(last.id.into())?.shape.as_concrete().unwrap_or(&[]).into(),
        attention: Mutex::new(Attention::new(isa, heads, scale)),
    };
    let mut patch = TypedModelPatch::default();
    let inputs = patch.taps(model, &inputs)?;
    let out = patch.wire_node(&last.name, Operator::of(kernel), &inputs)?;
    patch.shunt_outside(model, last.id.into(), out[0])?;
    Ok(Some(patch))
}

struct Found {
    heads: Heads,
    scale: f32,
    n_samples: usize,
    n_masks: usize,
    queries: OutletId,
    keys: OutletId,
    values: OutletId,
    mask: Option<OutletId>,
}

fn find(model: &TypedModel, last: &TypedNode) -> TractResult<Option<Found>> {
    let Some([shares, values]) = product(last) else { return Ok(None) };
    let softmax = model.node(shares.node);
    let Some(op) = softmax.op_as::<Softmax>() else { return Ok(None) };
    if !matches!(op.kind, SoftmaxKind::Softmax) || op.quant_output_dt.is_some() {
        return Ok(None);
    }
    let [key_axis] = op.axes.as_slice() else { return Ok(None) };

    // From the softmax back to the first product: a mask, then a scale.
    let mut scores = softmax.inputs[0];
    let mut mask = None;
    let node = model.node(scores.node);
    if binary(node, "Add").is_some() {
        let Some((inner, other)) = reaches_product(model, node) else { return Ok(None) };
        (scores, mask) = (inner, Some(other));
    }
    let mut scale = 1.0;
    let node = model.node(scores.node);
    if binary(node, "Mul").is_some() {
        let Some((inner, other)) = reaches_product(model, node) else { return Ok(None) };
        let Some(factor) = scalar(model, other)? else { return Ok(None) };
        (scores, scale) = (inner, factor);
    }
    let first = model.node(scores.node);
    let Some([queries, keys]) = product(first) else { return Ok(None) };

    let facts = [queries, keys, values].map(|it| model.outlet_fact(it));
    let [Ok(q), Ok(k), Ok(v)] = facts else { return Ok(None) };
    let shapes = [q, k, v].map(|it| it.shape.as_concrete());
    let [Some(q), Some(k), Some(v)] = shapes else { return Ok(None) };
    let Some(out) = model.outlet_fact(last.id.into())?.shape.as_concrete() else { return Ok(None) };
    let (Some(scoring), Some(mixing)) =
        (roles(first, q, k), roles(last, shares_shape(model, shares)?, v))
    else {
        return Ok(None);
    };
    // In the first product the channels are summed, in the second the keys.
    let heads = Heads { n: scoring.batch.size, dim: scoring.summed.size };
    let (n_queries, n_keys) = (scoring.left.size, scoring.right.size);
    let n_samples = scoring.samples.map_or(1, |it| it.size);
    let samples = |side: fn(Role) -> Option<usize>, of: &Roles| of.samples.and_then(side);
    let is_attention = scoring.right.out == Some(*key_axis)
        && mixing.summed.size == n_keys
        && mixing.summed.left == Some(*key_axis)
        && mixing.batch.size == heads.n
        && mixing.batch.left == scoring.batch.out
        && mixing.left.left == scoring.left.out
        && mixing.right.size == heads.dim
        && mixing.samples.map_or(1, |it| it.size) == n_samples
        && samples(|it| it.left, &mixing) == samples(|it| it.out, &scoring)
        // Rows of all heads: sample, token, head, channel.
        && in_order(samples(|it| it.left, &scoring), [scoring.left.left, scoring.batch.left, scoring.summed.left], q)
        && in_order(samples(|it| it.right, &scoring), [scoring.right.right, scoring.batch.right, scoring.summed.right], k)
        && in_order(samples(|it| it.right, &mixing), [mixing.summed.right, mixing.batch.right, mixing.right.right], v)
        && in_order(samples(|it| it.out, &mixing), [mixing.left.out, mixing.batch.out, mixing.right.out], out);
    if !is_attention {
        return Ok(None);
    }
    let mut n_masks = 1;
    if let Some(mask) = mask {
        // One for all heads, by query and key, or by key alone; of each sample, or of all.
        let fact = model.outlet_fact(mask)?;
        let shape = fact.shape.as_concrete().unwrap_or(&[]);
        let side = |axis: Option<usize>| axis.and_then(|it| shape.get(it)).copied().unwrap_or(1);
        let sample_axis = samples(|it| it.out, &scoring);
        n_masks = side(sample_axis);
        let rows = side(scoring.left.out);
        let is_plain = fact.datum_type == f32::datum_type()
            && sample_axis < scoring.left.out
            && scoring.left.out < scoring.right.out
            && side(scoring.right.out) == n_keys
            && [1, n_queries].contains(&rows)
            && [1, n_samples].contains(&n_masks)
            && n_masks * rows * n_keys == shape.iter().product::<usize>();
        if !is_plain {
            return Ok(None);
        }
    }
    Ok(Some(Found { heads, scale, n_samples, n_masks, queries, keys, values, mask }))
}

fn shares_shape(model: &TypedModel, shares: OutletId) -> TractResult<&[usize]> {
    Ok(model.outlet_fact(shares)?.shape.as_concrete().unwrap_or(&[]))
}

/// The two inputs of a product in float.
fn product(node: &TypedNode) -> Option<[OutletId; 2]> {
    let op = node.op_as::<EinSum>()?;
    let is_plain = op.q_params.is_none() && op.operating_dt == f32::datum_type();
    is_plain.then_some(())?;
    node.inputs.as_slice().try_into().ok()
}

/// Of the two inputs of `node`, the one that leads to a product and the other.
fn reaches_product(model: &TypedModel, node: &TypedNode) -> Option<(OutletId, OutletId)> {
    let [a, b] = node.inputs.as_slice() else { return None };
    let leads = |it: &OutletId| {
        let node = model.node(it.node);
        product(node).is_some()
            || (binary(node, "Mul").is_some()
                && node.inputs.iter().any(|it| product(model.node(it.node)).is_some()))
    };
    match (leads(a), leads(b)) {
        (true, false) => Some((*a, *b)),
        (false, true) => Some((*b, *a)),
        _ => None,
    }
}

fn scalar(model: &TypedModel, outlet: OutletId) -> TractResult<Option<f32>> {
    let Some(konst) = &model.outlet_fact(outlet)?.konst else { return Ok(None) };
    if konst.len() != 1 || konst.datum_type() != f32::datum_type() {
        return Ok(None);
    }
    Ok(konst.try_as_plain_ram()?.as_slice::<f32>()?.first().copied())
}

/// Where an axis of a product stands in both inputs and the output.
#[derive(Clone, Copy, Debug, Default)]
struct Role {
    size: usize,
    left: Option<usize>,
    right: Option<usize>,
    out: Option<usize>,
}

/// The axes of a product of matrices, one for each head of each sample. Axes of size 1 do not
/// count.
#[derive(Clone, Copy, Debug)]
struct Roles {
    samples: Option<Role>,
    batch: Role,
    left: Role,
    right: Role,
    summed: Role,
}

fn roles(node: &TypedNode, left: &[usize], right: &[usize]) -> Option<Roles> {
    let op = node.op_as::<EinSum>()?;
    let mut batches: Vec<Role> = Vec::new();
    let mut found: [Option<Role>; 3] = [None; 3];
    for axis in op.axes.iter_all_axes() {
        let one = |it: &TVec<usize>| match it.as_slice() {
            [] => Some(None),
            [axis] => Some(Some(*axis)),
            _ => None,
        };
        let (l, r, out) = (one(&axis.inputs[0])?, one(&axis.inputs[1])?, one(&axis.outputs[0])?);
        let sizes = [l.and_then(|it| left.get(it)), r.and_then(|it| right.get(it))];
        let size = sizes.into_iter().flatten().copied().max()?;
        let role = Role { size, left: l, right: r, out };
        let slot = match (l, r, out) {
            (Some(_), Some(_), Some(_)) => {
                batches.push(role);
                continue;
            }
            (Some(_), None, Some(_)) => 0,
            (None, Some(_), Some(_)) => 1,
            (Some(_), Some(_), None) => 2,
            _ if size == 1 => continue,
            _ => return None,
        };
        match &mut found[slot] {
            // A batch of 1 stands beside the axis that counts.
            Some(it) if it.size == 1 => *it = role,
            Some(_) if size == 1 => {}
            Some(_) => return None,
            slot => *slot = Some(role),
        }
    }
    // Heads lie within tokens, samples around them.
    batches.sort_by_key(|it| it.left);
    let batch = batches.pop()?;
    let samples = batches.pop();
    let [left, right, summed] = found;
    batches.is_empty().then_some(())?;
    Some(Roles { samples, batch, left: left?, right: right?, summed: summed? })
}

/// Whether the axes follow each other in a tensor of this shape, all others being 1.
fn in_order(first: Option<usize>, axes: [Option<usize>; 3], shape: &[usize]) -> bool {
    let [Some(a), Some(b), Some(c)] = axes else { return false };
    let mut others =
        shape.iter().enumerate().filter(|(it, _)| ![a, b, c].contains(it) && first != Some(*it));
    first.is_none_or(|it| it < a) && a < b && b < c && others.all(|(_, size)| *size == 1)
}

/// Attention over rows of all heads.
#[derive(Debug)]
struct Joined {
    n_samples: usize,
    /// 1 where the samples share their mask.
    n_masks: usize,
    shape: TVec<usize>,
    attention: Mutex<Attention>,
}

impl Kernel for Joined {
    fn name(&self) -> &'static str {
        "Attention"
    }

    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        ensure!([3, 4].contains(&inputs.len()), "attention takes 3 or 4 inputs");
        let n = |it: &[usize]| it.iter().product::<usize>();
        ensure!(n(inputs[0]) == n(&self.shape), "attention cannot take {:?}", inputs[0]);
        Ok(self.shape.clone())
    }

    fn run(&self, inputs: TVec<TValue>) -> TractResult<Tensor> {
        let mask = inputs.get(3).map(floats).transpose()?;
        let [queries, keys, values] = [0, 1, 2].map(|it| floats(&inputs[it]));
        let (queries, keys, values) = (queries?, keys?, values?);
        // A panic leaves scratch memory only.
        let mut attention = self.attention.lock().unwrap_or_else(PoisonError::into_inner);
        filled(&self.shape, |out| {
            let part = |of: &[f32]| (of.len() / self.n_samples).max(1);
            let samples =
                queries.chunks_exact(part(queries)).zip(out.chunks_exact_mut(part(queries)));
            let sources = keys.chunks_exact(part(keys)).zip(values.chunks_exact(part(values)));
            for (sample, ((queries, out), (keys, values))) in samples.zip(sources).enumerate() {
                let mask = mask.map(|it| {
                    let len = it.len() / self.n_masks;
                    &it[sample % self.n_masks * len..][..len]
                });
                attention.run(queries, keys, values, mask, out);
            }
            Ok(())
        })
    }
}
