//! Binds weights that the file holds as 8-bit integers to the layers that use them.
//!
//! The form is the ordinary one of weight-only quantization: an int8 initializer through
//! `DequantizeLinear` with one scale for each output channel into MatMul, Gemm, Conv or Gather.
//! Convolutions whose weights stay float are taken up too where a kernel of ours is better than
//! tract's: windows of their own for each channel, and layers of few weights.

use lookout_kernels::{Activation, Layout};
use tract_onnx::pb::NodeProto;

use super::graph::{Conv, FloatConv, Graph, Kind, Linear, Node, Quantized, Slide, attr, int};
use crate::EncoderError;

/// The most weights of a convolution that was left in float because it is small. Larger ones are
/// tract's.
const MAX_FLOAT_WEIGHTS: usize = 1 << 14;

/// The most inputs of a layer that every kernel can add up; layers of more are tract's.
const MAX_INPUTS: usize = 8192;

pub(super) fn bind(graph: &mut Graph) -> Result<(), EncoderError> {
    for idx in 0..graph.n_nodes() {
        let Some(Node { kind: Kind::Onnx(node), .. }) = graph.node(idx) else { continue };
        let kind = match node.op_type.as_str() {
            "MatMul" => matmul(graph, node)?,
            "Gemm" => gemm(graph, node)?,
            "Conv" => conv(graph, node)?,
            "Gather" => gather(graph, node)?,
            _ => None,
        };
        if let (Some((kind, input)), [output]) = (kind, node.output.as_slice()) {
            let (inputs, output) = (vec![input], output.clone());
            graph.replace(idx, Node { kind, inputs, output }, &[]);
        }
    }
    Ok(())
}

type Bound = Result<Option<(Kind, String)>, EncoderError>;

fn matmul(graph: &Graph, node: &NodeProto) -> Bound {
    let [input, weights] = node.input.as_slice() else { return Ok(None) };
    let Some((weights, dims, is_turned)) = quantized(graph, weights, 1)? else { return Ok(None) };
    let [rows, columns] = dims[..] else { return Ok(None) };
    let (n_inputs, layout) =
        if is_turned { (columns, Layout::OutputsFirst) } else { (rows, Layout::InputsFirst) };
    let linear = Linear { weights, n_inputs, layout, bias: None, activation: Activation::Identity };
    Ok((n_inputs <= MAX_INPUTS).then(|| (Kind::Linear(linear), input.clone())))
}

fn gemm(graph: &Graph, node: &NodeProto) -> Bound {
    let float = |name| attr(node, name).is_none_or(|it| it.f.to_bits() == 1f32.to_bits());
    if !float("alpha") || !float("beta") || int(node, "transA", 0) != 0 {
        return Ok(None);
    }
    let [input, weights, bias @ ..] = node.input.as_slice() else { return Ok(None) };
    let is_transposed = int(node, "transB", 0) != 0;
    let axis = usize::from(!is_transposed);
    let Some((weights, dims, is_turned)) = quantized(graph, weights, axis)? else {
        return Ok(None);
    };
    let [rows, columns] = dims[..] else { return Ok(None) };
    // Turned twice is not turned.
    let (n_inputs, layout) = if is_transposed == is_turned {
        (rows, Layout::InputsFirst)
    } else {
        (columns, Layout::OutputsFirst)
    };
    let Some(bias) = bias_of(graph, bias.first(), weights.scales.len())? else { return Ok(None) };
    let linear = Linear { weights, n_inputs, layout, bias, activation: Activation::Identity };
    Ok((n_inputs <= MAX_INPUTS).then(|| (Kind::Linear(linear), input.clone())))
}

fn conv(graph: &Graph, node: &NodeProto) -> Bound {
    let [input, weights, bias @ ..] = node.input.as_slice() else { return Ok(None) };
    let group = usize::try_from(int(node, "group", 1)).unwrap_or(0);
    if let Some((weights, dims, false)) = quantized(graph, weights, 0)? {
        let Some(slide) = slide(node, &dims) else { return Ok(None) };
        let Some(bias) = bias_of(graph, bias.first(), dims[0])? else { return Ok(None) };
        let n_positions = slide.size[0] * slide.size[1];
        if group != 1 || MAX_INPUTS < dims[1] * n_positions {
            return Ok(None);
        }
        let linear = Linear {
            weights,
            n_inputs: dims[1] * n_positions,
            layout: Layout::OutputsChannelsPositions { n_positions },
            bias,
            activation: Activation::Identity,
        };
        return Ok(Some((Kind::Conv(Conv { linear, slide }), input.clone())));
    }
    let Some(dims) = graph.dims(weights) else { return Ok(None) };
    let Some(slide) = slide(node, &dims) else { return Ok(None) };
    let [n_outputs, n_channels, ..] = dims[..] else { return Ok(None) };
    let is_depthwise = group == n_outputs && n_channels == 1;
    let is_small = group == 1 && dims.iter().product::<usize>() <= MAX_FLOAT_WEIGHTS;
    if !is_depthwise && !is_small {
        return Ok(None);
    }
    let Some(bias) = bias_of(graph, bias.first(), n_outputs)? else { return Ok(None) };
    let Some(weights) = graph.floats(weights)? else { return Ok(None) };
    let bias = bias.unwrap_or_else(|| vec![0.0; n_outputs]);
    let activation = Activation::Identity;
    let n_channels = if is_depthwise { n_outputs } else { n_channels };
    let conv = FloatConv { weights, slide, n_channels, bias, activation };
    let kind = if is_depthwise { Kind::Depthwise(conv) } else { Kind::FloatConv(conv) };
    Ok(Some((kind, input.clone())))
}

fn gather(graph: &Graph, node: &NodeProto) -> Bound {
    let [table, ids] = node.input.as_slice() else { return Ok(None) };
    if int(node, "axis", 0) != 0 {
        return Ok(None);
    }
    let Some((table, dims, false)) = quantized(graph, table, 0)? else { return Ok(None) };
    Ok((dims.len() == 2).then(|| (Kind::Embedding { table }, ids.clone())))
}

/// The int8 initializer behind `value`, its dimensions, and whether it is turned on its way. Its
/// scales must stand along `axis` of what arrives.
fn quantized(
    graph: &Graph,
    value: &str,
    axis: usize,
) -> Result<Option<(Quantized, Vec<usize>, bool)>, EncoderError> {
    let Some(producer) = graph.producer(value) else { return Ok(None) };
    if let Some(turn) = graph.onnx(producer, "Transpose") {
        let is_plain = attr(turn, "perm").is_none_or(|it| it.ints == [1, 0]);
        let [source] = turn.input.as_slice() else { return Ok(None) };
        if !is_plain || 1 < axis {
            return Ok(None);
        }
        let inner = quantized(graph, source, 1 - axis)?;
        let inner = inner.filter(|(_, dims, is_turned)| dims.len() == 2 && !is_turned);
        return Ok(inner.map(|(weights, dims, _)| (weights, dims, true)));
    }
    let Some(node) = graph.onnx(producer, "DequantizeLinear") else { return Ok(None) };
    let [name, scale, zero @ ..] = node.input.as_slice() else { return Ok(None) };
    let Some(dims) = graph.dims(name).filter(|it| axis < it.len() && !it.contains(&0)) else {
        return Ok(None);
    };
    // Scales for blocks of a channel have two axes; tract would take them for one axis.
    let (scale_dims, block) = (graph.dims(scale), int(node, "block_size", 0));
    if scale_dims.as_ref().is_some_and(|it| 1 < it.len()) || block != 0 {
        let rule = "one number, or one for each channel; quantize the model without blocks";
        let got = format!("shape {:?} for blocks of {block}", scale_dims.unwrap_or_default());
        return Err(graph.fault(&format!("the scale {scale:?} of {value:?}"), rule, got));
    }
    let Some(mut scales) = graph.floats(scale)? else { return Ok(None) };
    if let Some(bad) = scales.iter().find(|it| !it.is_finite()) {
        let at = format!("each scale {scale:?} of {value:?}");
        return Err(graph.fault(&at, "a finite number", bad.to_string()));
    }
    if scales.iter().any(|it| *it < 0.0) {
        return Ok(None);
    }
    if let [zero] = zero
        && !graph.bytes(zero)?.is_some_and(|it| it.iter().all(|it| *it == 0))
    {
        return Ok(None);
    }
    let n_outputs = dims[axis];
    if scales.len() == 1 {
        scales = vec![scales[0]; n_outputs];
    } else {
        let rank = i64::try_from(dims.len()).unwrap_or(0);
        let along = int(node, "axis", 1);
        let along = if along < 0 { along + rank } else { along };
        if usize::try_from(along) != Ok(axis) || scales.len() != n_outputs {
            return Ok(None);
        }
    }
    // Only the type is looked at here; the integers are read when they are packed.
    let is_int8 = graph
        .constant(name)
        .is_some_and(|it| it.data_type == tract_onnx::pb::tensor_proto::DataType::Int8 as i32);
    Ok(is_int8.then(|| (Quantized { name: name.clone(), scales }, dims, false)))
}

/// The bias; the outer `None` where there is one that cannot be read, or that is no row of one entry
/// for each output.
fn bias_of(
    graph: &Graph,
    name: Option<&String>,
    n_outputs: usize,
) -> Result<Option<Option<Vec<f32>>>, EncoderError> {
    match name {
        None => Ok(Some(None)),
        Some(name) if name.is_empty() => Ok(Some(None)),
        Some(name) => {
            let dims = graph.dims(name).unwrap_or_default();
            let is_row = matches!(dims[..], [n] | [1, n] if n == n_outputs);
            Ok(graph.floats(name)?.filter(|_| is_row).map(Some))
        }
    }
}

/// How the window of a convolution over pictures moves; `None` for one that we have no kernel for.
fn slide(node: &NodeProto, dims: &[usize]) -> Option<Slide> {
    let [_, _, height, width] = dims[..] else { return None };
    let ints = |name: &str, default: &[i64]| -> Option<Vec<usize>> {
        let values = attr(node, name).map_or(default, |it| it.ints.as_slice());
        values.iter().map(|it| usize::try_from(*it).ok().filter(|it| *it <= 4096)).collect()
    };
    let is_plain = attr(node, "auto_pad").is_none_or(|it| it.s == b"NOTSET");
    let step: [usize; 2] = ints("strides", &[1, 1])?.try_into().ok()?;
    let pads: [usize; 4] = ints("pads", &[0; 4])?.try_into().ok()?;
    let is_dense = ints("dilations", &[1, 1])? == [1, 1];
    let size = [height, width];
    // A window that may lie wholly outside the picture is tract's.
    let is_near = (0..4).all(|it| pads[it] < size[it % 2]);
    let is_sound = is_near && !step.contains(&0) && size.iter().all(|it| *it <= 4096);
    (is_plain && is_dense && is_sound).then_some(Slide { size, step, pads })
}
