//! Small graphs for tests.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::{Tensor, Value};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TypeProto,
    ValueInfoProto,
};

/// Values between -1 and 1 with a few near the ends, the same for each name.
pub(crate) fn values(name: &str, n: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(7u32, |sum, it| sum.wrapping_mul(31) + u32::from(it));
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).unwrap()) / 32_768.0 - 1.0
    };
    (0..n).map(|_| next() * next()).collect()
}

pub(crate) fn floats(name: &str, dims: &[i64]) -> TensorProto {
    let n = usize::try_from(dims.iter().product::<i64>()).unwrap();
    let raw_data = values(name, n).iter().flat_map(|it| it.to_le_bytes()).collect();
    tensor(name, dims, DataType::Float, raw_data)
}

pub(crate) fn tensor(name: &str, dims: &[i64], kind: DataType, raw_data: Vec<u8>) -> TensorProto {
    let (name, dims, data_type) = (name.to_owned(), dims.to_vec(), kind as i32);
    TensorProto { name, dims, data_type, raw_data, ..TensorProto::default() }
}

pub(crate) fn numbers(name: &str, values: &[i64]) -> TensorProto {
    let raw_data = values.iter().flat_map(|it| it.to_le_bytes()).collect();
    tensor(name, &[i64::try_from(values.len()).unwrap()], DataType::Int64, raw_data)
}

pub(crate) fn node(op_type: &str, input: &[&str], output: &str) -> NodeProto {
    NodeProto {
        name: format!("/place/{output}/{op_type}"),
        op_type: op_type.to_owned(),
        input: input.iter().map(|it| (*it).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

pub(crate) trait NodeExt {
    fn with(self, name: &str, attribute: AttributeProto) -> NodeProto;
}

impl NodeExt for NodeProto {
    fn with(mut self, name: &str, attribute: AttributeProto) -> NodeProto {
        self.attribute.push(AttributeProto { name: name.to_owned(), ..attribute });
        self
    }
}

pub(crate) fn int(i: i64) -> AttributeProto {
    AttributeProto { i, r#type: AttributeType::Int as i32, ..AttributeProto::default() }
}

pub(crate) fn ints(ints: &[i64]) -> AttributeProto {
    AttributeProto {
        ints: ints.to_vec(),
        r#type: AttributeType::Ints as i32,
        ..AttributeProto::default()
    }
}

pub(crate) fn constant(tensor: TensorProto) -> AttributeProto {
    AttributeProto {
        t: Some(tensor),
        r#type: AttributeType::Tensor as i32,
        ..AttributeProto::default()
    }
}

pub(crate) fn info(name: &str, kind: DataType) -> ValueInfoProto {
    let tensor = Tensor { elem_type: kind as i32, shape: None };
    let r#type = Some(TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() });
    ValueInfoProto { name: name.to_owned(), r#type, ..ValueInfoProto::default() }
}

/// A model of these nodes whose outputs are those that no node takes.
pub(crate) fn model(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let is_taken = |name: &String| node.iter().any(|it| it.input.contains(name));
    let output = node.iter().flat_map(|it| &it.output).filter(|it| !is_taken(it));
    let output = output.map(|it| info(it, DataType::Float)).collect();
    let input = vec![info("x", DataType::Float), info("ids", DataType::Int64)];
    let graph = GraphProto { node, initializer, input, output, ..GraphProto::default() };
    let opset = OperatorSetIdProto { domain: String::new(), version: 14 };
    ModelProto {
        ir_version: 8,
        opset_import: vec![opset],
        graph: Some(graph),
        ..ModelProto::default()
    }
}
