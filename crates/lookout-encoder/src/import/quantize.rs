//! Weights to 8 bits: the graph keeps its form, and a layer takes its weights from an int8
//! initializer through `DequantizeLinear`, one scale for each output channel.
//!
//! What is quantized: constant 2-D weights of MatMul and Gemm (per column, of a transposed Gemm per
//! row), weights of convolutions that are not grouped (per output channel), and tables from which
//! Gather takes rows by a number that the user's input decides (per row). All else stays float:
//! biases, norms, position tables, grouped convolutions, tensors below [`MIN_ELEMENTS`], and
//! first convolutions with a small window, whose weights are few and see the raw pixels.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

use super::graph::{FloatModel, prune, whole_numbers};
use super::scale::Step;
use crate::EncoderError;
use crate::onnx::{OnnxWriter, Written, fault, inputs_of};

/// Weights with fewer elements stay float: they save nothing.
pub(crate) const MIN_ELEMENTS: usize = 1024;
/// A convolution of at most so many input channels is a first layer,
const MAX_COLORS: usize = 4;
/// and stays float when fewer inputs than these make one output.
const MIN_FIRST_INPUTS: usize = 256;

/// What quantizing did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Summary {
    /// Weights that are int8 now.
    pub(crate) n_quantized: usize,
    /// Their elements.
    pub(crate) n_elements: u64,
    /// Sum over the weights of squared error / squared values.
    error: f64,
    /// The same without clipping.
    plain_error: f64,
}

impl Summary {
    /// The root mean square of the weights' relative errors, with and without clipping.
    pub(crate) fn relative_errors(&self) -> (f64, f64) {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let n = self.n_quantized.max(1) as f64;
        ((self.error / n).sqrt(), (self.plain_error / n).sqrt())
    }
}

/// A quantized model that is not written yet.
pub(crate) struct Quantizer<'a> {
    float: &'a FloatModel,
    model: ModelProto,
    weights: Vec<Weight>,
}

/// Weights that become int8.
#[derive(Debug)]
struct Weight {
    /// The name before `_q`, `_scale` and `_dequantized`.
    base: String,
    initializer: String,
    views: Vec<View>,
    /// Dimensions as the layer sees them.
    dims: Vec<usize>,
    /// Where the scales stand.
    axis: usize,
}

/// What stands between an initializer and the layer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum View {
    Transpose(Vec<usize>),
    Reshape(Vec<usize>),
}

impl<'a> Quantizer<'a> {
    /// Plans which weights of `float` become int8. Reads none of them.
    pub(crate) fn new(float: &'a FloatModel) -> Result<Self, EncoderError> {
        let plan = Plan::of(float.graph()?);
        let mut model = float.model.clone();
        let Some(graph) = &mut model.graph else {
            return Ok(Self { float, model, weights: Vec::new() });
        };
        let Plan { weights, layers, .. } = plan;
        let mut is_written = vec![false; weights.len()];
        let nodes = std::mem::take(&mut graph.node);
        for (idx, mut node) in nodes.into_iter().enumerate() {
            if let Some((input_idx, weight_idx)) = layers.get(&idx) {
                let weight = &weights[*weight_idx];
                if !std::mem::replace(&mut is_written[*weight_idx], true) {
                    graph.node.push(weight.node());
                }
                node.input[*input_idx] = weight.dequantized();
            }
            graph.node.push(node);
        }
        graph.initializer.extend(weights.iter().flat_map(Weight::tensors));
        prune(graph);
        Ok(Self { float, model, weights })
    }

    /// Elements that will be read.
    pub(crate) fn n_elements(&self) -> u64 {
        self.weights.iter().map(|it| it.n_elements() as u64).sum()
    }

    /// Writes the model, reading one tensor at a time. `progress` hears the elements done.
    pub(crate) fn write(
        &self,
        path: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<(Written, Summary), EncoderError> {
        let mut lens = BTreeMap::new();
        for tensor in self.model.graph.iter().flat_map(|it| &it.initializer) {
            if let Some(len) = self.float.len(&tensor.name) {
                lens.insert(tensor.name.clone(), len);
            }
        }
        let mut integers = HashMap::new();
        for weight in &self.weights {
            lens.insert(weight.integers(), weight.n_elements() as u64);
            lens.insert(weight.scales(), 4 * weight.dims[weight.axis] as u64);
            integers.insert(weight.integers(), weight);
        }
        let mut summary = Summary::default();
        // Each weight's scales follow its integers.
        let mut scales = Vec::new();
        let written = OnnxWriter::new(&self.model, &lens).write(path, |name| {
            if let Some(weight) = integers.get(name) {
                let quantized = self.quantize(weight, &mut summary)?;
                scales = quantized.scales;
                progress(summary.n_elements);
                return Ok(quantized.integers);
            }
            if self.float.len(name).is_some() {
                return self.float.read(name);
            }
            Ok(scales.drain(..).flat_map(f32::to_le_bytes).collect())
        })?;
        Ok((written, summary))
    }

    fn quantize(&self, weight: &Weight, summary: &mut Summary) -> Result<Quantized, EncoderError> {
        let name = &weight.initializer;
        let at = || format!("tensor {name:?}");
        let tensor = self.float.initializer(name);
        let tensor = tensor.ok_or_else(|| fault(&self.float.path, at(), "there", "nothing"))?;
        let mut bytes = self.float.floats(tensor)?;
        let mut dims = dims_of(tensor).unwrap_or_default();
        if bytes.len() != 4 * dims.iter().product::<usize>() {
            let rule = "as long as its dimensions ask for";
            return Err(fault(&self.float.path, at(), rule, format!("{} bytes", bytes.len())));
        }
        let is_finite = |it: &[u8]| float(it).is_finite();
        if let Some(idx) = bytes.chunks_exact(4).position(|it| !is_finite(it)) {
            let got = format!("{} at index {idx}", float(&bytes[4 * idx..]));
            return Err(fault(&self.float.path, at(), "of finite numbers", got));
        }
        for view in &weight.views {
            match view {
                View::Reshape(shape) => dims.clone_from(shape),
                View::Transpose(order) => (bytes, dims) = transposed(&bytes, &dims, order),
            }
        }
        Ok(integers(&bytes, &dims, weight.axis, summary))
    }
}

/// Weights as they are written.
struct Quantized {
    integers: Vec<u8>,
    scales: Vec<f32>,
}

/// `bytes` are finite floats of dimensions `dims`.
fn integers(bytes: &[u8], dims: &[usize], axis: usize, summary: &mut Summary) -> Quantized {
    let n_channels = dims[axis];
    let stride: usize = dims[axis + 1..].iter().product();
    let mut integers = vec![0; bytes.len() / 4];
    let mut scales = Vec::with_capacity(n_channels);
    let mut values = Vec::new();
    let (mut power, mut error, mut plain_error) = (0.0, 0.0, 0.0);
    for channel in 0..n_channels {
        // The elements of a channel: runs of `stride`, one in each block of the axes before.
        let starts = (channel * stride..integers.len()).step_by(n_channels * stride);
        let places = || starts.clone().flat_map(|start| start..start + stride);
        values.clear();
        values.extend(places().map(|it| float(&bytes[4 * it..])));
        let step = Step::of(&values);
        for (place, value) in places().zip(&values) {
            integers[place] = step.integer(*value).cast_unsigned();
        }
        scales.push(step.scale);
        power += values.iter().map(|it| f64::from(*it).powi(2)).sum::<f64>();
        error += step.error;
        plain_error += step.plain_error;
    }
    summary.n_quantized += 1;
    summary.n_elements += integers.len() as u64;
    if 0.0 < power {
        summary.error += error / power;
        summary.plain_error += plain_error / power;
    }
    Quantized { integers, scales }
}

fn float(bytes: &[u8]) -> f32 {
    bytes.first_chunk().copied().map_or(0.0, f32::from_le_bytes)
}

/// The floats with axis `order[i]` as axis i.
fn transposed(bytes: &[u8], dims: &[usize], order: &[usize]) -> (Vec<u8>, Vec<usize>) {
    let stride = |axis: usize| dims[axis + 1..].iter().product::<usize>();
    let new_dims: Vec<usize> = order.iter().map(|axis| dims[*axis]).collect();
    let strides: Vec<usize> = order.iter().map(|axis| stride(*axis)).collect();
    let mut position = vec![0; new_dims.len()];
    let mut new = Vec::with_capacity(bytes.len());
    for _ in 0..bytes.len() / 4 {
        let at: usize = position.iter().zip(&strides).map(|(i, stride)| i * stride).sum();
        new.extend_from_slice(&bytes[4 * at..4 * at + 4]);
        for (i, dim) in position.iter_mut().zip(&new_dims).rev() {
            *i += 1;
            if *i < *dim {
                break;
            }
            *i = 0;
        }
    }
    (new, new_dims)
}

impl Weight {
    fn n_elements(&self) -> usize {
        self.dims.iter().product()
    }

    fn integers(&self) -> String {
        format!("{}_q", self.base)
    }

    fn scales(&self) -> String {
        format!("{}_scale", self.base)
    }

    fn dequantized(&self) -> String {
        format!("{}_dequantized", self.base)
    }

    fn node(&self) -> NodeProto {
        NodeProto {
            name: format!("{}/DequantizeLinear", self.base),
            op_type: "DequantizeLinear".to_owned(),
            input: vec![self.integers(), self.scales()],
            output: vec![self.dequantized()],
            attribute: vec![AttributeProto {
                name: "axis".to_owned(),
                r#type: AttributeType::Int as i32,
                i: whole(self.axis),
                ..AttributeProto::default()
            }],
            ..NodeProto::default()
        }
    }

    /// The integers, then the scales, both without their data.
    fn tensors(&self) -> [TensorProto; 2] {
        let tensor = |name, kind: DataType, dims: &[usize]| TensorProto {
            name,
            data_type: kind as i32,
            dims: dims.iter().map(|it| whole(*it)).collect(),
            ..TensorProto::default()
        };
        [
            tensor(self.integers(), DataType::Int8, &self.dims),
            tensor(self.scales(), DataType::Float, &self.dims[self.axis..=self.axis]),
        ]
    }
}

/// Which layer takes which weight.
#[derive(Default)]
struct Plan {
    weights: Vec<Weight>,
    /// By node: the input, and the weight that it takes.
    layers: HashMap<usize, (usize, usize)>,
    known: HashMap<(String, Vec<View>, usize), usize>,
    names: BTreeSet<String>,
}

impl Plan {
    fn of(graph: &GraphProto) -> Self {
        let graph = Graph::of(graph);
        let mut plan = Self::default();
        let outputs = graph.proto.node.iter().flat_map(|it| &it.output);
        let tensors = graph.proto.initializer.iter().map(|it| &it.name);
        plan.names = outputs.chain(tensors).cloned().collect();
        for (idx, node) in graph.proto.node.iter().enumerate() {
            if let Some((input_idx, axis)) = graph.layer(node) {
                plan.take(&graph, idx, node, input_idx, axis);
            }
        }
        plan
    }

    fn take(
        &mut self,
        graph: &Graph<'_>,
        idx: usize,
        node: &NodeProto,
        input_idx: usize,
        axis: usize,
    ) {
        let Some(constant) = graph.constant(&node.input[input_idx]) else { return };
        let Constant { initializer, views, dims } = constant;
        let key = (initializer.to_owned(), views.clone(), axis);
        let weight_idx = match self.known.get(&key) {
            Some(weight_idx) => *weight_idx,
            None => {
                let base = self.name(initializer, node);
                let initializer = initializer.to_owned();
                self.weights.push(Weight { base, initializer, views, dims, axis });
                self.known.insert(key, self.weights.len() - 1);
                self.weights.len() - 1
            }
        };
        self.layers.insert(idx, (input_idx, weight_idx));
    }

    /// A name that says where the weight belongs: the initializer's, unless an exporter numbered
    /// it; then that of the node.
    fn name(&mut self, initializer: &str, node: &NodeProto) -> String {
        let is_number = |it: &str| it.bytes().all(|it| it.is_ascii_digit());
        let is_dull = initializer.starts_with("onnx::")
            || is_number(initializer.trim_start_matches("val_"))
            || initializer.ends_with("_output_0");
        let place = node.name.trim_matches('/').replace('/', ".");
        let place = place.strip_suffix(&format!(".{}", node.op_type)).unwrap_or(&place);
        let base = if is_dull && !place.is_empty() && !place.starts_with("node_") {
            format!("{place}.weight")
        } else {
            initializer.to_owned()
        };
        let is_free = |it: &str| {
            ["_q", "_scale", "_dequantized"].iter().all(|end| {
                let name = format!("{it}{end}");
                !self.names.contains(&name)
            })
        };
        let numbered = (2..).map(|n: u32| format!("{base}.{n}"));
        let base = std::iter::once(base.clone()).chain(numbered).find(|it| is_free(it));
        let base = base.unwrap_or_default();
        self.names.extend(["_q", "_scale", "_dequantized"].map(|end| format!("{base}{end}")));
        base
    }
}

/// An initializer as a node sees it.
struct Constant<'a> {
    initializer: &'a str,
    views: Vec<View>,
    dims: Vec<usize>,
}

/// A graph with its producers at hand.
struct Graph<'a> {
    proto: &'a GraphProto,
    producers: HashMap<&'a str, &'a NodeProto>,
    initializers: HashMap<&'a str, &'a TensorProto>,
    /// Values whose numbers, not only shapes, depend on the graph's inputs.
    variable: BTreeSet<&'a str>,
}

impl<'a> Graph<'a> {
    fn of(proto: &'a GraphProto) -> Self {
        let mut producers = HashMap::new();
        let initializers: HashMap<_, _> =
            proto.initializer.iter().map(|it| (it.name.as_str(), it)).collect();
        let inputs = proto.input.iter().map(|it| it.name.as_str());
        let mut variable: BTreeSet<&str> =
            inputs.filter(|it| !initializers.contains_key(it)).collect();
        for node in &proto.node {
            let is_variable = !matches!(node.op_type.as_str(), "Shape" | "Size")
                && inputs_of(node).iter().any(|it| variable.contains(it));
            for output in &node.output {
                producers.insert(output.as_str(), node);
                if is_variable {
                    variable.insert(output);
                }
            }
        }
        Self { proto, producers, initializers, variable }
    }

    /// Which input of `node` can be int8, and along which axis its scales stand.
    fn layer(&self, node: &NodeProto) -> Option<(usize, usize)> {
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            return None;
        }
        let weight = |idx: usize| self.constant(node.input.get(idx)?);
        let (idx, axis, dims) = match node.op_type.as_str() {
            "MatMul" => (1, 1, weight(1)?.dims),
            "Gemm" => {
                let is_one =
                    |name| attribute(node, name).is_none_or(|it| it.f.to_bits() == 1f32.to_bits());
                if !is_one("alpha") || !is_one("beta") || int(node, "transA", 0) != 0 {
                    return None;
                }
                (1, usize::from(int(node, "transB", 0) == 0), weight(1)?.dims)
            }
            "Conv" => {
                let dims = weight(1)?.dims;
                let [_, n_channels, height, width] = dims[..] else { return None };
                let is_small =
                    n_channels <= MAX_COLORS && n_channels * height * width < MIN_FIRST_INPUTS;
                if int(node, "group", 1) != 1 || is_small {
                    return None;
                }
                (1, 0, dims)
            }
            "Gather" => {
                let ids = node.input.get(1)?;
                if int(node, "axis", 0) != 0 || !self.variable.contains(ids.as_str()) {
                    return None;
                }
                (0, 0, weight(0)?.dims)
            }
            _ => return None,
        };
        let rank = if node.op_type == "Conv" { 4 } else { 2 };
        let fits = dims.len() == rank && MIN_ELEMENTS <= dims.iter().product();
        fits.then_some((idx, axis))
    }

    /// The float initializer behind `value`, and what was done to it on its way.
    fn constant(&self, value: &str) -> Option<Constant<'a>> {
        if let Some(tensor) = self.initializers.get(value) {
            let dims = dims_of(tensor)?;
            let is_float = tensor.data_type == DataType::Float as i32;
            let initializer = tensor.name.as_str();
            return is_float.then(|| Constant { initializer, views: Vec::new(), dims });
        }
        let node = self.producers.get(value)?;
        let [source, rest @ ..] = node.input.as_slice() else { return None };
        let mut constant = match node.op_type.as_str() {
            "Identity" | "Transpose" | "Reshape" => self.constant(source)?,
            "Cast" if int(node, "to", 0) == DataType::Float as i64 => self.constant(source)?,
            _ => return None,
        };
        let rank = constant.dims.len();
        match node.op_type.as_str() {
            "Transpose" => {
                let order: Vec<usize> = match attribute(node, "perm") {
                    Some(it) => {
                        it.ints.iter().map(|it| usize::try_from(*it).ok()).collect::<Option<_>>()?
                    }
                    None => (0..rank).rev().collect(),
                };
                let mut sorted = order.clone();
                sorted.sort_unstable();
                if !sorted.into_iter().eq(0..rank) {
                    return None;
                }
                constant.dims = order.iter().map(|it| constant.dims[*it]).collect();
                constant.views.push(View::Transpose(order));
            }
            "Reshape" => {
                let allows_zero = int(node, "allowzero", 0) != 0;
                let shape = self.numbers(rest.first()?)?;
                constant.dims = reshaped(&constant.dims, &shape, allows_zero)?;
                constant.views.push(View::Reshape(constant.dims.clone()));
            }
            _ => {}
        }
        Some(constant)
    }

    fn numbers(&self, name: &str) -> Option<Vec<i64>> {
        if let Some(tensor) = self.initializers.get(name) {
            return whole_numbers(tensor);
        }
        let node = self.producers.get(name).filter(|it| it.op_type == "Constant")?;
        match attribute(node, "value_ints") {
            Some(it) => Some(it.ints.clone()),
            None => whole_numbers(attribute(node, "value")?.t.as_ref()?),
        }
    }
}

fn reshaped(dims: &[usize], shape: &[i64], allows_zero: bool) -> Option<Vec<usize>> {
    let n: usize = dims.iter().product();
    let mut new = Vec::with_capacity(shape.len());
    let mut rest = None;
    for (i, dim) in shape.iter().enumerate() {
        match dim {
            -1 if rest.is_none() => {
                rest = Some(i);
                new.push(1);
            }
            0 if !allows_zero => new.push(*dims.get(i)?),
            _ => new.push(usize::try_from(*dim).ok()?),
        }
    }
    let known = new.iter().try_fold(1usize, |product, it| product.checked_mul(*it))?;
    if let Some(i) = rest {
        new[i] = n.checked_div(known)?;
    }
    let product = new.iter().try_fold(1usize, |product, it| product.checked_mul(*it))?;
    (product == n).then_some(new)
}

/// The dimensions; `None` where they are negative or their product overflows.
fn dims_of(tensor: &TensorProto) -> Option<Vec<usize>> {
    let dims: Vec<usize> =
        tensor.dims.iter().map(|it| usize::try_from(*it).ok()).collect::<Option<_>>()?;
    dims.iter().try_fold(4usize, |product, it| product.checked_mul(*it))?;
    Some(dims)
}

/// Dimensions came from an `i64`, so this saturates never.
fn whole(dim: usize) -> i64 {
    i64::try_from(dim).unwrap_or(i64::MAX)
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|it| it.name == name)
}

fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).map_or(default, |it| it.i)
}
