//! An ONNX graph that can be rewritten: nodes by number, values by name.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use lookout_kernels::{Activation, Isa};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto};

use super::operators::Operator;
use crate::EncoderError;
use crate::onnx::{OnnxFile, Payloads, commute, fault, inputs_of, name_nodes};

/// A graph being rewritten.
pub(super) struct Graph {
    model: ModelProto,
    payloads: Payloads,
    /// In an order in which each comes after what it reads; taken ones are gone.
    nodes: Vec<Option<Node>>,
    /// Initializers and the values of `Constant` nodes.
    constants: HashMap<String, TensorProto>,
    outputs: HashSet<String>,
    producers: HashMap<String, usize>,
    readers: HashMap<String, Vec<usize>>,
    n_names: usize,
}

/// A node: one of ONNX, or what became of several.
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) inputs: Vec<String>,
    pub(super) output: String,
}

pub(super) enum Kind {
    Onnx(Box<NodeProto>),
    Linear(Linear),
    Conv(Conv),
    Depthwise(FloatConv),
    FloatConv(FloatConv),
    LayerNorm {
        scale: Vec<f32>,
        bias: Vec<f32>,
        epsilon: f32,
    },
    Activation(Activation),
    /// Rows of a table of 8-bit integers.
    Embedding {
        table: Quantized,
    },
    /// Channels last, or back to ONNX's order.
    Turn {
        to_last: bool,
    },
    /// The mean over a picture's area, channels last.
    Mean {
        keeps_axes: bool,
    },
}

/// 8-bit weights with a scale for each output channel; the integers are still in the file.
#[derive(Clone)]
pub(super) struct Quantized {
    pub(super) name: String,
    pub(super) scales: Vec<f32>,
}

pub(super) struct Linear {
    pub(super) weights: Quantized,
    pub(super) n_inputs: usize,
    pub(super) layout: lookout_kernels::Layout,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) activation: Activation,
}

/// How a window moves, as ONNX has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slide {
    pub(super) size: [usize; 2],
    pub(super) step: [usize; 2],
    /// Above, left, below, right.
    pub(super) pads: [usize; 4],
}

pub(super) struct Conv {
    pub(super) linear: Linear,
    pub(super) slide: Slide,
}

pub(super) struct FloatConv {
    /// As ONNX orders them.
    pub(super) weights: Vec<f32>,
    pub(super) slide: Slide,
    pub(super) n_channels: usize,
    pub(super) bias: Vec<f32>,
    pub(super) activation: Activation,
}

impl Graph {
    pub(super) fn new(onnx: OnnxFile) -> Self {
        let OnnxFile { mut model, payloads } = onnx;
        let graph = model.graph.get_or_insert_default();
        let outputs = graph.output.iter().map(|it| it.name.clone()).collect();
        let initializers = std::mem::take(&mut graph.initializer);
        let mut constants: HashMap<String, TensorProto> =
            initializers.into_iter().map(|it| (it.name.clone(), it)).collect();
        let mut aliases: HashMap<String, String> = HashMap::new();
        let mut nodes = Vec::new();
        for mut node in std::mem::take(&mut graph.node) {
            rename_inputs(&mut node, &aliases);
            if node.op_type == "Constant"
                && let [output] = node.output.as_slice()
                && let Some(tensor) =
                    attribute(&mut node.attribute, "value").and_then(|it| it.t.take())
            {
                constants.insert(output.clone(), tensor);
                continue;
            }
            let [output] = node.output.as_slice() else {
                nodes.push(Some(Node::onnx(node)));
                continue;
            };
            if node.op_type == "Identity" && !Self::is_output(&outputs, output) {
                aliases.insert(output.clone(), node.input.first().cloned().unwrap_or_default());
                continue;
            }
            nodes.push(Some(Node::onnx(node)));
        }
        let mut graph = Self {
            model,
            payloads,
            nodes,
            constants,
            outputs,
            producers: HashMap::new(),
            readers: HashMap::new(),
            n_names: 0,
        };
        graph.connect();
        graph
    }

    fn is_output(outputs: &HashSet<String>, name: &str) -> bool {
        outputs.contains(name)
    }

    /// Finds out again who makes and who reads what. To be called after a step that moves nodes.
    pub(super) fn connect(&mut self) {
        self.producers.clear();
        self.readers.clear();
        for (idx, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            for output in node.outputs() {
                self.producers.insert(output.to_owned(), idx);
            }
            for input in node.all_inputs() {
                self.readers.entry(input.to_owned()).or_default().push(idx);
            }
        }
    }

    /// Refuses a file that uses the type of our own nodes.
    pub(super) fn refuse_reserved(&self) -> Result<(), EncoderError> {
        let reserved = (0..self.nodes.len()).any(|it| self.onnx(it, Operator::TYPE).is_some());
        if !reserved {
            return Ok(());
        }
        Err(self.fault("a node's type", "one of ONNX's", format!("{:?}", Operator::TYPE)))
    }

    /// An error about this file: `at` must be `rule`.
    pub(super) fn fault(&self, at: &str, rule: &str, got: String) -> EncoderError {
        let path = self.payloads.path().to_owned();
        EncoderError::Onnx { path, at: at.to_owned(), rule: rule.to_owned(), got }
    }

    pub(super) fn n_nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn node(&self, idx: usize) -> Option<&Node> {
        self.nodes.get(idx)?.as_ref()
    }

    pub(super) fn node_mut(&mut self, idx: usize) -> Option<&mut Node> {
        self.nodes.get_mut(idx)?.as_mut()
    }

    /// The node's ONNX form, where it has one of this type and a single output.
    pub(super) fn onnx(&self, idx: usize, op_type: &str) -> Option<&NodeProto> {
        match &self.node(idx)?.kind {
            Kind::Onnx(node) if node.op_type == op_type && node.output.len() == 1 => Some(node),
            _ => None,
        }
    }

    /// Which node makes `value`.
    pub(super) fn producer(&self, value: &str) -> Option<usize> {
        self.producers.get(value).copied()
    }

    /// Which nodes read `value`; a node once for each time that it does.
    pub(super) fn readers(&self, value: &str) -> &[usize] {
        self.readers.get(value).map_or(&[], Vec::as_slice)
    }

    /// The only node that reads `value`, which is no output of the graph.
    pub(super) fn only_reader(&self, value: &str) -> Option<usize> {
        match self.readers(value) {
            [reader] if !self.outputs.contains(value) => Some(*reader),
            _ => None,
        }
    }

    /// Whether `value` is read by nothing but these nodes and is no output of the graph.
    pub(super) fn is_read_within(&self, value: &str, nodes: &[usize]) -> bool {
        !self.outputs.contains(value) && self.readers(value).iter().all(|it| nodes.contains(it))
    }

    /// Puts `node` where `at` was, and removes `others`. Connections are kept up to date.
    pub(super) fn replace(&mut self, at: usize, node: Node, others: &[usize]) {
        for idx in others.iter().chain([&at]) {
            self.remove(*idx);
        }
        for output in node.outputs() {
            self.producers.insert(output.to_owned(), at);
        }
        for input in node.all_inputs() {
            self.readers.entry(input.to_owned()).or_default().push(at);
        }
        if let Some(slot) = self.nodes.get_mut(at) {
            *slot = Some(node);
        }
    }

    fn remove(&mut self, idx: usize) {
        let Some(node) = self.nodes.get_mut(idx).and_then(Option::take) else { return };
        for output in node.outputs() {
            self.producers.remove(output);
        }
        for input in node.all_inputs() {
            if let Some(readers) = self.readers.get_mut(input) {
                readers.retain(|it| *it != idx);
            }
        }
    }

    /// Takes all nodes out, to be put back by [`Self::set_nodes`].
    pub(super) fn take_nodes(&mut self) -> Vec<Node> {
        std::mem::take(&mut self.nodes).into_iter().flatten().collect()
    }

    /// The same without nodes whose values nobody needs any more.
    fn take_needed(&mut self) -> Vec<Node> {
        let mut needed = self.outputs.clone();
        let mut nodes = Vec::new();
        for node in self.take_nodes().into_iter().rev() {
            if node.outputs().iter().any(|it| needed.contains(*it)) {
                needed.extend(node.all_inputs().into_iter().map(str::to_owned));
                nodes.push(node);
            }
        }
        nodes.reverse();
        nodes
    }

    pub(super) fn set_nodes(&mut self, nodes: Vec<Node>) {
        self.nodes = nodes.into_iter().map(Some).collect();
        self.connect();
    }

    pub(super) fn is_graph_output(&self, value: &str) -> bool {
        self.outputs.contains(value)
    }

    /// A name that no value has.
    pub(super) fn new_name(&mut self, base: &str) -> String {
        loop {
            self.n_names += 1;
            let name = format!("{base}.fused{}", self.n_names);
            if !self.producers.contains_key(&name) && !self.constants.contains_key(&name) {
                return name;
            }
        }
    }

    pub(super) fn constant(&self, name: &str) -> Option<&TensorProto> {
        self.constants.get(name)
    }

    pub(super) fn add_constant(&mut self, tensor: TensorProto) {
        self.constants.insert(tensor.name.clone(), tensor);
    }

    /// Dimensions of a constant.
    pub(super) fn dims(&self, name: &str) -> Option<Vec<usize>> {
        self.constant(name)?.dims.iter().map(|it| usize::try_from(*it).ok()).collect()
    }

    /// The floats of a constant of that type; `None` for anything else.
    pub(super) fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, EncoderError> {
        let Some(tensor) = self.constant(name) else { return Ok(None) };
        if tensor.data_type != DataType::Float as i32 {
            return Ok(None);
        }
        let read;
        let raw = if self.payloads.len(name).is_some() {
            read = self.payloads.read(name)?;
            read.as_slice()
        } else if !tensor.float_data.is_empty() {
            let fits = Some(tensor.float_data.len()) == self.dims(name).and_then(count);
            return Ok(fits.then(|| tensor.float_data.clone()));
        } else {
            tensor.raw_data.as_slice()
        };
        let (floats, rest) = raw.as_chunks::<4>();
        let fits = rest.is_empty() && Some(floats.len()) == self.dims(name).and_then(count);
        Ok(fits.then(|| floats.iter().map(|it| f32::from_le_bytes(*it)).collect()))
    }

    /// A constant with one entry, of whatever rank.
    pub(super) fn scalar(&self, name: &str) -> Option<f32> {
        if self.dims(name).and_then(count)? != 1 {
            return None;
        }
        self.floats(name).ok()??.first().copied()
    }

    /// The whole numbers of a small constant of that type.
    pub(super) fn integers(&self, name: &str) -> Option<Vec<i64>> {
        let tensor = self.constant(name)?;
        if tensor.data_type != DataType::Int64 as i32 {
            return None;
        }
        if !tensor.int64_data.is_empty() {
            return Some(tensor.int64_data.clone());
        }
        let (integers, rest) = tensor.raw_data.as_chunks::<8>();
        rest.is_empty().then(|| integers.iter().map(|it| i64::from_le_bytes(*it)).collect())
    }

    /// The 8-bit integers of a constant.
    pub(super) fn bytes(&self, name: &str) -> Result<Option<Vec<i8>>, EncoderError> {
        let Some(tensor) = self.constant(name) else { return Ok(None) };
        if tensor.data_type != DataType::Int8 as i32 {
            return Ok(None);
        }
        let bytes: Vec<i8> = if self.payloads.len(name).is_some() {
            self.payloads.read(name)?.into_iter().map(u8::cast_signed).collect()
        } else if tensor.raw_data.is_empty() {
            let byte = |it: &i32| i8::try_from(*it).ok();
            let Some(bytes) = tensor.int32_data.iter().map(byte).collect() else { return Ok(None) };
            bytes
        } else {
            tensor.raw_data.iter().map(|it| it.cast_signed()).collect()
        };
        Ok((Some(bytes.len()) == self.dims(name).and_then(count)).then_some(bytes))
    }

    /// The rewritten graph, and the operators that its nodes of type [`Operator::TYPE`] stand for,
    /// by number. Weights are packed here, one tensor at a time; those that are left stay ordinary.
    pub(super) fn finish(mut self, isa: Isa) -> Result<(ModelProto, Vec<Operator>), EncoderError> {
        let nodes = self.take_needed();
        let mut operators = Vec::new();
        let mut protos = Vec::new();
        let mut used = HashSet::new();
        for node in nodes {
            let proto = match node.kind {
                Kind::Onnx(proto) => *proto,
                kind => {
                    let number = i64::try_from(operators.len()).unwrap_or(i64::MAX);
                    operators.push(Operator::new(kind, &node.output, &self, isa)?);
                    NodeProto {
                        name: node.output.clone(),
                        op_type: Operator::TYPE.to_owned(),
                        input: node.inputs,
                        output: vec![node.output],
                        attribute: vec![AttributeProto {
                            name: Operator::NUMBER.to_owned(),
                            r#type: tract_onnx::pb::attribute_proto::AttributeType::Int as i32,
                            i: number,
                            ..AttributeProto::default()
                        }],
                        ..NodeProto::default()
                    }
                }
            };
            used.extend(inputs_of(&proto).into_iter().map(str::to_owned));
            protos.push(proto);
        }
        used.extend(self.outputs.iter().cloned());
        let Self { mut model, payloads, constants, .. } = self;
        let graph = model.graph.get_or_insert_default();
        graph.node = protos;
        for (name, mut tensor) in constants {
            if used.contains(&name) {
                if payloads.len(&name).is_some() {
                    tensor.raw_data = payloads.read(&name)?;
                }
                if let Some(idx) = nan_at(&tensor) {
                    let (at, got) = (format!("tensor {name:?}"), format!("NaN at index {idx}"));
                    return Err(fault(payloads.path(), at, "of numbers", got));
                }
                tensor.name = name;
                graph.initializer.push(tensor);
            }
        }
        graph.initializer.sort_by(|a, b| a.name.cmp(&b.name));
        commute(graph);
        name_nodes(graph);
        Ok((model, operators))
    }
}

/// Lets a node, and the graphs within it, read what `aliases` stand for.
fn rename_inputs(node: &mut NodeProto, aliases: &HashMap<String, String>) {
    for input in &mut node.input {
        if let Some(alias) = aliases.get(input) {
            input.clone_from(alias);
        }
    }
    for graph in node.attribute.iter_mut().flat_map(|it| it.g.iter_mut().chain(&mut it.graphs)) {
        let own = graph.node.iter().flat_map(|it| &it.output);
        let own = own.chain(graph.input.iter().map(|it| &it.name));
        let own = own.chain(graph.initializer.iter().map(|it| &it.name));
        let own: HashSet<&String> = own.filter(|it| aliases.contains_key(*it)).collect();
        // A name that the inner graph uses anew is its own.
        let mut visible = Cow::Borrowed(aliases);
        if !own.is_empty() {
            visible.to_mut().retain(|name, _| !own.contains(name));
        }
        graph.node.iter_mut().for_each(|it| rename_inputs(it, &visible));
    }
}

impl Node {
    pub(super) fn onnx(node: NodeProto) -> Self {
        let output = node.output.first().cloned().unwrap_or_default();
        Self { kind: Kind::Onnx(Box::new(node)), inputs: Vec::new(), output }
    }

    /// What it reads, graphs within it included. Names within those that are not ours are looked
    /// up in vain.
    pub(super) fn all_inputs(&self) -> Vec<&str> {
        match &self.kind {
            Kind::Onnx(node) => inputs_of(node),
            _ => self.inputs.iter().map(String::as_str).collect(),
        }
    }

    fn outputs(&self) -> Vec<&str> {
        match &self.kind {
            Kind::Onnx(node) => node.output.iter().map(String::as_str).collect(),
            _ => vec![&self.output],
        }
    }
}

/// Where a tensor of floats has one that is no number.
fn nan_at(tensor: &TensorProto) -> Option<usize> {
    if tensor.data_type != DataType::Float as i32 {
        return None;
    }
    let (raw, _) = tensor.raw_data.as_chunks::<4>();
    let in_raw = raw.iter().position(|it| f32::from_le_bytes(*it).is_nan());
    in_raw.or_else(|| tensor.float_data.iter().position(|it| it.is_nan()))
}

fn count(dims: Vec<usize>) -> Option<usize> {
    dims.into_iter().try_fold(1usize, usize::checked_mul)
}

fn attribute<'a>(
    attributes: &'a mut [AttributeProto],
    name: &str,
) -> Option<&'a mut AttributeProto> {
    attributes.iter_mut().find(|it| it.name == name)
}

/// The attribute `name` of an ONNX node.
pub(super) fn attr<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|it| it.name == name)
}

/// The whole number `name` of an ONNX node, or its default.
pub(super) fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    attr(node, name).map_or(default, |it| it.i)
}
