//! Differences and quotients as sums and products.
//!
//! tract 0.23.9 joins an operator with the convolution or product that makes one of its operands,
//! and takes `c − x` for `x − c` and `c / x` for `x / c` where that is the second.

use std::collections::HashSet;

use tract_onnx::pb::{GraphProto, NodeProto};

/// Writes `a − x` as `a + (−x)` and `a / x` as `a · (1 / x)` where a layer makes `x`.
pub(crate) fn commute(graph: &mut GraphProto) {
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(commute);
        }
    }
    // What a layer makes, under each of its names.
    let mut layers: HashSet<String> = HashSet::new();
    for node in &graph.node {
        let is_layer = match node.op_type.as_str() {
            "Conv" | "ConvTranspose" | "Gemm" | "MatMul" => true,
            "Identity" => node.input.first().is_some_and(|it| layers.contains(it)),
            _ => false,
        };
        if is_layer {
            layers.extend(node.output.iter().cloned());
        }
    }
    let inputs = graph.input.iter().map(|it| it.name.clone());
    let constants = graph.initializer.iter().map(|it| it.name.clone());
    let outputs = graph.node.iter().flat_map(|it| it.output.clone());
    let mut names: HashSet<String> = inputs.chain(constants).chain(outputs).collect();
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
        if let [_, right] = node.input.as_mut_slice()
            && layers.contains(right.as_str())
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
