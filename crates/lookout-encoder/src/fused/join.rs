//! Joins small operators: layer normalization out of its parts, activations out of theirs, then
//! bias and activation with the layer before them.

use lookout_kernels::Activation;

use super::cone;
use super::graph::{Graph, Kind, Linear, Node, attr, int};
use crate::EncoderError;

pub(super) fn join(graph: &mut Graph) -> Result<(), EncoderError> {
    for idx in 0..graph.n_nodes() {
        norm(graph, idx)?;
    }
    for idx in 0..graph.n_nodes() {
        bias(graph, idx)?;
        scale(graph, idx);
    }
    for idx in 0..graph.n_nodes() {
        if let Some(cone::Cone { input, activation, inner }) = cone::activation(graph, idx)
            && let Some(output) = graph.node(idx).map(|it| it.output.clone())
        {
            let kind = Kind::Activation(activation);
            graph.replace(idx, Node { kind, inputs: vec![input], output }, &inner);
        }
    }
    for idx in 0..graph.n_nodes() {
        fold_activation(graph, idx);
    }
    Ok(())
}

/// Layer normalization over the last axis, as one ONNX operator or as its parts.
fn norm(graph: &mut Graph, idx: usize) -> Result<(), EncoderError> {
    if let Some(found) = norm_operator(graph, idx)? {
        graph.replace(idx, found, &[]);
    } else if let Some((found, inner)) = norm_parts(graph, idx)? {
        graph.replace(idx, found, &inner);
    }
    Ok(())
}

fn norm_operator(graph: &Graph, idx: usize) -> Result<Option<Node>, EncoderError> {
    let Some(node) = graph.onnx(idx, "LayerNormalization") else { return Ok(None) };
    let [input, scale, rest @ ..] = node.input.as_slice() else { return Ok(None) };
    // The last axis is -1, or one less than the length of a scale of rank 1 would tell; only the
    // former is certain without shapes.
    if int(node, "axis", -1) != -1 || graph.dims(scale).is_none_or(|it| it.len() != 1) {
        return Ok(None);
    }
    let Some(scale) = graph.floats(scale)? else { return Ok(None) };
    let bias = match rest.first().filter(|it| !it.is_empty()) {
        Some(name) => graph.floats(name)?,
        None => Some(vec![0.0; scale.len()]),
    };
    // One entry could stand for all.
    let Some(bias) = bias.filter(|it| it.len() == scale.len() && 1 < it.len()) else {
        return Ok(None);
    };
    let epsilon = attr(node, "epsilon").map_or(1e-5, |it| it.f);
    let (inputs, output) = (vec![input.clone()], node.output[0].clone());
    Ok(Some(Node { kind: Kind::LayerNorm { scale, bias, epsilon }, inputs, output }))
}

/// `(x − mean) / √(mean of squares + ε) · scale + bias`, where `idx` is the last sum.
fn norm_parts(graph: &Graph, idx: usize) -> Result<Option<(Node, Vec<usize>)>, EncoderError> {
    let mut inner = Vec::new();
    let Some((scaled, bias)) = with_constant(graph, idx, "Add") else { return Ok(None) };
    let Some(mul) = graph.producer(&scaled) else { return Ok(None) };
    let Some((quotient, scale)) = with_constant(graph, mul, "Mul") else { return Ok(None) };
    inner.push(mul);
    let Some((input, epsilon)) = normalized(graph, &quotient, &mut inner) else { return Ok(None) };
    let is_vector = |name: &str| graph.dims(name).is_some_and(|it| it.len() == 1);
    if !is_vector(&scale) || !is_vector(&bias) {
        return Ok(None);
    }
    let (Some(scale), Some(bias)) = (graph.floats(&scale)?, graph.floats(&bias)?) else {
        return Ok(None);
    };
    let mut all = inner.clone();
    all.push(idx);
    let is_closed =
        |it: &usize| graph.node(*it).is_some_and(|it| graph.is_read_within(&it.output, &all));
    if scale.len() != bias.len() || scale.len() < 2 || !inner.iter().all(is_closed) {
        return Ok(None);
    }
    let Some(output) = graph.node(idx).map(|it| it.output.clone()) else { return Ok(None) };
    let kind = Kind::LayerNorm { scale, bias, epsilon };
    Ok(Some((Node { kind, inputs: vec![input], output }, inner)))
}

/// The input and ε of the normalization whose quotient is `value`; its nodes are added to `inner`.
fn normalized(graph: &Graph, value: &str, inner: &mut Vec<usize>) -> Option<(String, f32)> {
    let div = graph.producer(value)?;
    let [centered, deviation] = graph.onnx(div, "Div")?.input.as_slice() else { return None };
    let sub = graph.producer(centered)?;
    let [input, mean] = graph.onnx(sub, "Sub")?.input.as_slice() else { return None };
    let mean_idx = graph.producer(mean)?;
    let sqrt = graph.producer(deviation)?;
    let add = graph.producer(graph.onnx(sqrt, "Sqrt")?.input.first()?)?;
    let (variance, epsilon) = with_constant(graph, add, "Add")?;
    let variance_idx = graph.producer(&variance)?;
    let squares = last_mean(graph, variance_idx)?;
    let square = graph.producer(&squares)?;
    let is_square = match graph.onnx(square, "Pow") {
        Some(pow) => pow.input.first()? == centered && graph.scalar(pow.input.get(1)?) == Some(2.0),
        None => graph.onnx(square, "Mul")?.input.iter().all(|it| it == centered),
    };
    let epsilon = graph.scalar(&epsilon)?;
    let is_norm = is_square && last_mean(graph, mean_idx).as_ref() == Some(input);
    inner.extend([div, sub, mean_idx, sqrt, add, variance_idx, square]);
    is_norm.then(|| (input.clone(), epsilon))
}

/// What node `idx` takes the mean of, over the last axis, which it keeps.
fn last_mean(graph: &Graph, idx: usize) -> Option<String> {
    let node = graph.onnx(idx, "ReduceMean")?;
    let axes = match node.input.get(1) {
        Some(name) => graph.integers(name)?,
        None => attr(node, "axes")?.ints.clone(),
    };
    (axes == [-1] && int(node, "keepdims", 1) == 1).then(|| node.input.first().cloned())?
}

/// The two inputs of an operator of this type, where one is constant: the other one first.
fn with_constant(graph: &Graph, idx: usize, op_type: &str) -> Option<(String, String)> {
    let [a, b] = graph.onnx(idx, op_type)?.input.as_slice() else { return None };
    match (graph.constant(a).is_some(), graph.constant(b).is_some()) {
        (false, true) => Some((a.clone(), b.clone())),
        (true, false) => Some((b.clone(), a.clone())),
        _ => None,
    }
}

/// Adds a constant vector to the bias of the linear layer before it.
fn bias(graph: &mut Graph, idx: usize) -> Result<(), EncoderError> {
    let Some((value, name)) = with_constant(graph, idx, "Add") else { return Ok(()) };
    let Some(layer) = graph.producer(&value).filter(|_| graph.only_reader(&value) == Some(idx))
    else {
        return Ok(());
    };
    let Some(Node { kind: Kind::Linear(linear), .. }) = graph.node(layer) else { return Ok(()) };
    let n_outputs = linear.weights.scales.len();
    let is_vector = graph.dims(&name).is_some_and(|it| {
        it.iter().rev().skip(1).all(|it| *it == 1) && it.last() == Some(&n_outputs)
    });
    if !is_vector || linear.activation != Activation::Identity {
        return Ok(());
    }
    // A bias of higher rank would raise the output's.
    if graph.dims(&name).is_none_or(|it| it.len() != 1) {
        return Ok(());
    }
    let Some(added) = graph.floats(&name)? else { return Ok(()) };
    let Some(output) = graph.node(idx).map(|it| it.output.clone()) else { return Ok(()) };
    let Some(node) = take(graph, layer, output) else { return Ok(()) };
    let Node { kind: Kind::Linear(mut linear), inputs, output } = node else { return Ok(()) };
    match &mut linear.bias {
        Some(bias) => bias.iter_mut().zip(added).for_each(|(bias, it)| *bias += it),
        bias => *bias = Some(added),
    }
    let kind = Kind::Linear(linear);
    graph.replace(layer, Node { kind, inputs, output }, &[idx]);
    Ok(())
}

/// Multiplies the weights of a linear layer by a constant that its output is multiplied by.
fn scale(graph: &mut Graph, idx: usize) {
    let Some((value, name)) = with_constant(graph, idx, "Mul") else { return };
    let Some(factor) = graph.scalar(&name).filter(|it| it.is_finite() && 0.0 < *it) else { return };
    let Some(layer) = graph.producer(&value).filter(|_| graph.only_reader(&value) == Some(idx))
    else {
        return;
    };
    let is_plain = graph.node(layer).is_some_and(
        |it| matches!(&it.kind, Kind::Linear(it) if it.activation == Activation::Identity),
    );
    // A constant of higher rank could raise the output's.
    if !is_plain || graph.dims(&name).is_none_or(|it| 1 < it.len()) {
        return;
    }
    let Some(output) = graph.node(idx).map(|it| it.output.clone()) else { return };
    let Some(mut node) = take(graph, layer, output) else { return };
    if let Kind::Linear(linear) = &mut node.kind {
        let bias = linear.bias.iter_mut().flatten();
        bias.chain(&mut linear.weights.scales).for_each(|it| *it *= factor);
    }
    graph.replace(layer, node, &[idx]);
}

/// Takes the node out; what it makes is now called `output`.
fn take(graph: &mut Graph, idx: usize, output: String) -> Option<Node> {
    let node = graph.node_mut(idx)?;
    let kind = std::mem::replace(&mut node.kind, Kind::Activation(Activation::Identity));
    Some(Node { kind, inputs: node.inputs.clone(), output })
}

/// Lets the layer before an activation apply it.
fn fold_activation(graph: &mut Graph, idx: usize) {
    let Some(Node { kind: Kind::Activation(activation), inputs, output }) = graph.node(idx) else {
        return;
    };
    let (activation, output) = (*activation, output.clone());
    let Some(layer) = inputs
        .first()
        .and_then(|it| graph.producer(it).filter(|_| graph.only_reader(it) == Some(idx)))
    else {
        return;
    };
    let can = match graph.node(layer).map(|it| &it.kind) {
        Some(Kind::Linear(Linear { activation, .. })) => *activation,
        Some(Kind::Conv(conv)) => conv.linear.activation,
        Some(Kind::Depthwise(conv) | Kind::FloatConv(conv)) => conv.activation,
        _ => return,
    };
    if can != Activation::Identity {
        return;
    }
    let Some(mut node) = take(graph, layer, output) else { return };
    match &mut node.kind {
        Kind::Linear(linear) => linear.activation = activation,
        Kind::Conv(conv) => conv.linear.activation = activation,
        Kind::Depthwise(conv) | Kind::FloatConv(conv) => conv.activation = activation,
        _ => {}
    }
    graph.replace(layer, node, &[idx]);
}
