//! Gives convolutions the order of axes that their kernels want.
//!
//! ONNX has pictures channel by channel (NCHW), the kernels want the channels of a pixel together
//! (NHWC). Every convolution reads and makes the latter; operators between convolutions that do
//! not care follow suit, and a value is turned only where something needs it the other way.

use std::collections::HashMap;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{NodeProto, TensorProto};

use super::graph::{Graph, Kind, Node, attr, int};

pub(super) fn layout(graph: &mut Graph) {
    let has_convolution = (0..graph.n_nodes()).any(|it| {
        matches!(
            graph.node(it).map(|it| &it.kind),
            Some(Kind::Conv(_) | Kind::Depthwise(_) | Kind::FloatConv(_))
        )
    });
    if !has_convolution {
        return;
    }
    let nodes = graph.take_nodes();
    let mut turned = Turned { graph, twins: HashMap::new(), nodes: Vec::new() };
    for node in nodes {
        turned.add(node);
    }
    let missing: Vec<String> =
        turned.twins.keys().filter(|it| turned.graph.is_graph_output(it)).cloned().collect();
    for value in missing {
        turned.turn_back(&value);
    }
    let Turned { nodes, graph, .. } = turned;
    graph.set_nodes(nodes);
}

struct Turned<'a> {
    graph: &'a mut Graph,
    /// Value to the same with its channels last.
    twins: HashMap<String, Twin>,
    nodes: Vec<Node>,
}

struct Twin {
    name: String,
    /// Whether the value itself is there too.
    has_original: bool,
}

impl Turned<'_> {
    fn add(&mut self, mut node: Node) {
        match &mut node.kind {
            Kind::Conv(_) | Kind::Depthwise(_) | Kind::FloatConv(_) => {
                node.inputs = node.inputs.iter().map(|it| self.twin(it)).collect();
                node.output = self.add_twin(&node.output);
                self.nodes.push(node);
            }
            Kind::Activation(_) if self.twins.contains_key(&node.inputs[0]) => {
                node.inputs[0] = self.twin(&node.inputs[0]);
                node.output = self.add_twin(&node.output);
                self.nodes.push(node);
            }
            Kind::Onnx(proto) if self.follow(proto) => {}
            _ => {
                for input in node.all_inputs() {
                    self.turn_back(input);
                }
                self.nodes.push(node);
            }
        }
    }

    /// Adds an operator that works in either order; false where it is no such one.
    fn follow(&mut self, proto: &NodeProto) -> bool {
        let [output] = proto.output.as_slice() else { return false };
        match proto.op_type.as_str() {
            "Sigmoid" | "HardSigmoid" | "Erf" | "Tanh" | "Relu" | "HardSwish" => {
                if !proto.input.iter().all(|it| self.twins.contains_key(it)) {
                    return false;
                }
                let inputs: Vec<String> = proto.input.iter().map(|it| self.twin(it)).collect();
                self.push_like(proto, inputs, output);
                true
            }
            "Add" | "Sub" | "Mul" | "Div" => {
                let is_any = proto.input.iter().any(|it| self.twins.contains_key(it));
                let fits = |it: &String| self.twins.contains_key(it) || self.broadcasts(it);
                if !is_any || !proto.input.iter().all(fits) {
                    return false;
                }
                let inputs: Vec<String> = proto
                    .input
                    .iter()
                    .map(|it| {
                        if self.twins.contains_key(it) {
                            self.twin(it)
                        } else {
                            self.channels_last(it)
                        }
                    })
                    .collect();
                self.push_like(proto, inputs, output);
                true
            }
            "GlobalAveragePool" => self.mean(proto, true),
            "ReduceMean" => {
                let axes = match proto.input.get(1) {
                    Some(name) => self.graph.integers(name),
                    None => attr(proto, "axes").map(|it| it.ints.clone()),
                };
                let is_area =
                    axes.is_some_and(|it| it == [2, 3] || it == [-2, -1] || it == [-1, -2]);
                is_area && self.mean(proto, int(proto, "keepdims", 1) == 1)
            }
            _ => false,
        }
    }

    /// Adds the mean over a picture's area.
    fn mean(&mut self, proto: &NodeProto, keeps_axes: bool) -> bool {
        let ([output], Some(input)) = (proto.output.as_slice(), proto.input.first()) else {
            return false;
        };
        if !self.twins.contains_key(input) {
            return false;
        }
        let input = self.twin(input);
        let name = if keeps_axes { self.add_twin(output) } else { output.clone() };
        let kind = Kind::Mean { keeps_axes };
        self.nodes.push(Node { kind, inputs: vec![input], output: name });
        true
    }

    fn push_like(&mut self, proto: &NodeProto, inputs: Vec<String>, output: &str) {
        let output = self.add_twin(output);
        let name = output.clone();
        let node = NodeProto { input: inputs, output: vec![output], name, ..proto.clone() };
        self.nodes.push(Node::onnx(node));
    }

    /// Whether `name` is a number, or one for each channel, for all pixels.
    fn broadcasts(&self, name: &str) -> bool {
        match self.graph.dims(name).as_deref() {
            Some([_, 1, 1] | [1, _, 1, 1]) => self.graph.floats(name).is_ok_and(|it| it.is_some()),
            Some(dims) => dims.len() <= 4 && dims.iter().all(|it| *it == 1),
            None => false,
        }
    }

    /// The constant `name`, one entry for each channel, as it stands beside channels that are last.
    fn channels_last(&mut self, name: &str) -> String {
        let dims = self.graph.dims(name).unwrap_or_default();
        let [.., n_channels, 1, 1] = dims[..] else { return name.to_owned() };
        let Ok(Some(values)) = self.graph.floats(name) else { return name.to_owned() };
        let new = self.graph.new_name(name);
        self.graph.add_constant(TensorProto {
            name: new.clone(),
            dims: vec![i64::try_from(n_channels).unwrap_or(0)],
            data_type: DataType::Float as i32,
            float_data: values,
            ..TensorProto::default()
        });
        new
    }

    /// `value` with its channels last.
    fn twin(&mut self, value: &str) -> String {
        if let Some(twin) = self.twins.get(value) {
            return twin.name.clone();
        }
        let name = self.graph.new_name(value);
        self.nodes.push(turn(value, &name, true));
        let twin = Twin { name: name.clone(), has_original: true };
        self.twins.insert(value.to_owned(), twin);
        name
    }

    /// A name for `value` with its channels last, which the next node makes.
    fn add_twin(&mut self, value: &str) -> String {
        let name = self.graph.new_name(value);
        let twin = Twin { name: name.clone(), has_original: false };
        self.twins.insert(value.to_owned(), twin);
        name
    }

    /// Makes sure that the value is there in ONNX's order.
    fn turn_back(&mut self, value: &str) {
        if let Some(twin) = self.twins.get_mut(value).filter(|it| !it.has_original) {
            twin.has_original = true;
            self.nodes.push(turn(&twin.name, value, false));
        }
    }
}

fn turn(from: &str, to: &str, to_last: bool) -> Node {
    Node { kind: Kind::Turn { to_last }, inputs: vec![from.to_owned()], output: to.to_owned() }
}
