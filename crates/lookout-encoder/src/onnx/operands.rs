//! Differences and quotients as sums and products.
//!
//! tract 0.23.9 joins an operator with the convolution or product that makes one of its operands,
//! and takes `c − x` for `x − c` and `c / x` for `x / c` where that is the second.

use std::collections::HashSet;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

/// Writes `a − x` as `a + (−x)` and `a / x` as `a · (1 / x)` where a layer makes `x`, and where `a`
/// is a constant: what stands between the layer and `x` may be something that tract joins with it,
/// or leaves out.
pub(crate) fn commute(graph: &mut GraphProto) {
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(commute);
        }
    }
    // What a layer makes, under each of its names.
    let mut layers: HashSet<String> = HashSet::new();
    let mut constants = Constants::of(graph);
    for node in &graph.node {
        let is_layer = match node.op_type.as_str() {
            "Conv" | "ConvTranspose" | "Gemm" | "MatMul" => true,
            "Identity" => node.input.first().is_some_and(|it| layers.contains(it)),
            _ => false,
        };
        if is_layer {
            layers.extend(node.output.iter().cloned());
        }
        constants.follow(node);
    }
    let inputs = graph.input.iter().map(|it| it.name.clone());
    let initializers = graph.initializer.iter().map(|it| it.name.clone());
    let outputs = graph.node.iter().flat_map(|it| it.output.clone());
    let mut names: HashSet<String> = inputs.chain(initializers).chain(outputs).collect();
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        let (inverse, commutative) = match node.op_type.as_str() {
            "Sub" => ("Neg", "Add"),
            "Div" => ("Reciprocal", "Mul"),
            _ => {
                nodes.push(node);
                continue;
            }
        };
        if let [left, right] = node.input.as_mut_slice()
            && (layers.contains(right.as_str())
                || constants.floats.contains(left) && !constants.all.contains(right))
        {
            let mut name = format!("{right}.{inverse}");
            while !names.insert(name.clone()) {
                name.push('\'');
            }
            nodes.push(NodeProto {
                op_type: inverse.to_owned(),
                input: vec![std::mem::replace(right, name.clone())],
                output: vec![name],
                ..NodeProto::default()
            });
            node.op_type = commutative.to_owned();
        }
        nodes.push(node);
    }
    graph.node = nodes;
}

/// What does not depend on the graph's inputs.
struct Constants {
    all: HashSet<String>,
    /// Those that are floats: of integers there is no 1 / x.
    floats: HashSet<String>,
}

impl Constants {
    fn of(graph: &GraphProto) -> Self {
        let inputs: HashSet<&str> = graph.input.iter().map(|it| it.name.as_str()).collect();
        let fixed = || graph.initializer.iter().filter(|it| !inputs.contains(it.name.as_str()));
        let name = |it: &TensorProto| it.name.clone();
        let floats = fixed().filter(|it| is_float(it.data_type));
        Self { all: fixed().map(name).collect(), floats: floats.map(name).collect() }
    }

    /// Takes in what `node` makes, if it follows from constants.
    fn follow(&mut self, node: &NodeProto) {
        let has_graph = node.attribute.iter().any(|it| it.g.is_some() || !it.graphs.is_empty());
        let mut inputs = node.input.iter().filter(|it| !it.is_empty());
        if has_graph || !inputs.all(|it| self.all.contains(it)) {
            return;
        }
        let attribute = |name: &str| node.attribute.iter().find(|it| it.name == name);
        let is_floats = match node.op_type.as_str() {
            "Constant" => {
                attribute("value_float").is_some()
                    || attribute("value_floats").is_some()
                    || attribute("value")
                        .and_then(|it| it.t.as_ref())
                        .is_some_and(|it| is_float(it.data_type))
            }
            "Cast" => attribute("to").is_some_and(|it| i32::try_from(it.i).is_ok_and(is_float)),
            "DequantizeLinear" => true,
            "ArgMax" | "ArgMin" | "NonZero" | "Shape" | "Size" => false,
            _ => node.input.first().is_some_and(|it| self.floats.contains(it)),
        };
        self.all.extend(node.output.iter().cloned());
        if is_floats {
            self.floats.extend(node.output.iter().cloned());
        }
    }
}

fn is_float(data_type: i32) -> bool {
    let floats = [DataType::Float, DataType::Float16, DataType::Double, DataType::Bfloat16];
    floats.iter().any(|it| *it as i32 == data_type)
}
