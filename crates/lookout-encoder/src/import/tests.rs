//! Quantization of small graphs, weight by weight.

use std::collections::BTreeMap;
use std::path::PathBuf;

use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::*;

use super::float::FloatTower;
use super::graph::FloatModel;
use super::quantize::{Quantizer, Summary};
use crate::EncoderError;
use crate::onnx::sketch::{
    NodeExt, constant, floats, info, int, ints, model, node, numbers, tensor, values,
};

/// What quantizing writes, read again.
struct Quantized {
    graph: GraphProto,
    summary: Summary,
}

fn folder(model: &ModelProto) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    (dir, path)
}

fn try_quantize(model: &ModelProto) -> Result<Quantized, EncoderError> {
    let (dir, path) = folder(model);
    let float = FloatModel::open(&path)?;
    let target = dir.path().join("int8.onnx");
    let (_, summary) = Quantizer::new(&float)?.write(&target, &|_| ())?;
    let written = ModelProto::decode(std::fs::read(&target).unwrap().as_slice()).unwrap();
    assert_eq!(written.opset_import, float.model.opset_import);
    Ok(Quantized { graph: written.graph.unwrap(), summary })
}

#[track_caller]
fn quantize(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Quantized {
    try_quantize(&model(node, initializer)).unwrap()
}

impl Quantized {
    fn tensor(&self, name: &str) -> &TensorProto {
        let found = self.graph.initializer.iter().find(|it| it.name == name);
        found.unwrap_or_else(|| panic!("{name} is not in {:?}", self.names()))
    }

    fn names(&self) -> Vec<&str> {
        self.graph.initializer.iter().map(|it| it.name.as_str()).collect()
    }

    fn ops(&self) -> Vec<&str> {
        self.graph.node.iter().map(|it| it.op_type.as_str()).collect()
    }

    fn node(&self, output: &str) -> &NodeProto {
        self.graph.node.iter().find(|it| it.output == [output]).unwrap()
    }

    /// The floats behind input `idx` of the node that gives `output`, with their dimensions and
    /// the axis of the scales.
    #[track_caller]
    fn weight(&self, output: &str, idx: usize) -> (Vec<f32>, Vec<i64>, i64) {
        let dequantize = self.node(&self.node(output).input[idx]);
        assert_eq!(dequantize.op_type, "DequantizeLinear");
        let [integers, scales] = dequantize.input.as_slice() else { panic!("{dequantize:?}") };
        let [attribute] = dequantize.attribute.as_slice() else { panic!("{dequantize:?}") };
        assert_eq!(attribute.name, "axis");
        let (integers, scales) = (self.tensor(integers), self.tensor(scales));
        assert_eq!(integers.data_type, DataType::Int8 as i32);
        let axis = usize::try_from(attribute.i).unwrap();
        assert_eq!(scales.dims, [integers.dims[axis]]);
        let scale = |it: &[u8]| f32::from_le_bytes(it.try_into().unwrap());
        let scales: Vec<f32> = scales.raw_data.chunks(4).map(scale).collect();
        let stride: i64 = integers.dims[axis + 1..].iter().product();
        let channel = |i: usize| i / usize::try_from(stride).unwrap() % scales.len();
        let float = |(i, it): (usize, &u8)| f32::from(it.cast_signed()) * scales[channel(i)];
        let floats = integers.raw_data.iter().enumerate().map(float).collect();
        (floats, integers.dims.clone(), attribute.i)
    }

    /// Each value is at most half a step of its channel from what it was; a step is at most
    /// 1 / 127.
    #[track_caller]
    fn check(&self, output: &str, idx: usize, expected: &[f32], dims: &[i64], axis: i64) {
        let (got, got_dims, got_axis) = self.weight(output, idx);
        assert_eq!((got_dims.as_slice(), got_axis), (dims, axis), "{output}");
        assert_eq!(got.len(), expected.len());
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            // The largest few may be clipped.
            let room = if expected.abs() < 0.6 { 0.5 / 127.0 + 1e-6 } else { 0.06 };
            assert!((got - expected).abs() <= room, "{output} at {i}: {got} for {expected}");
        }
        let power: f32 = expected.iter().map(|it| it * it).sum();
        let error: f32 = got.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
        assert!(error < 1e-3 * power, "{output}: {error} of {power}");
    }
}

fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows;
    (0..columns).flat_map(|i| (0..rows).map(move |j| values[j * columns + i])).collect()
}

#[test]
fn layers_take_int8_weights_along_their_outputs() {
    let quantized = quantize(
        vec![
            node("MatMul", &["x", "a"], "y"),
            node("Gemm", &["x", "b", "bias"], "z").with("transB", int(1)),
            node("Gemm", &["x", "c"], "u"),
            node("Conv", &["x", "k"], "v"),
            node("Gather", &["table", "ids"], "w"),
        ],
        vec![
            floats("a", &[32, 48]),
            floats("b", &[48, 32]),
            floats("bias", &[1, 2048]),
            floats("c", &[32, 40]),
            floats("k", &[16, 8, 3, 3]),
            floats("table", &[70, 20]),
        ],
    );
    quantized.check("y", 1, &values("a", 32 * 48), &[32, 48], 1);
    quantized.check("z", 1, &values("b", 32 * 48), &[48, 32], 0);
    quantized.check("u", 1, &values("c", 32 * 40), &[32, 40], 1);
    quantized.check("v", 1, &values("k", 16 * 72), &[16, 8, 3, 3], 0);
    quantized.check("w", 0, &values("table", 1400), &[70, 20], 0);
    assert_eq!(quantized.tensor("bias").raw_data.len(), 8192);
    assert_eq!(quantized.summary.n_quantized, 5);
    assert_eq!(
        quantized.names(),
        [
            "bias",
            "a_q",
            "a_scale",
            "b_q",
            "b_scale",
            "c_q",
            "c_scale",
            "k_q",
            "k_scale",
            "table_q",
            "table_scale",
        ]
    );
    let (error, plain) = quantized.summary.relative_errors();
    assert!(0.0 < error && error <= plain && plain < 0.02, "{error} {plain}");
}

#[test]
fn what_must_stay_float_stays() {
    let quantized = quantize(
        vec![
            node("MatMul", &["x", "few"], "a"),
            node("MatMul", &["left", "x"], "b"),
            node("MatMul", &["x", "deep"], "c"),
            node("Conv", &["x", "grouped"], "d").with("group", int(4)),
            node("Conv", &["x", "stem"], "e"),
            node("Gemm", &["x", "scaled"], "f")
                .with("alpha", AttributeProto { f: 0.5, ..AttributeProto::default() }),
            node("Add", &["x", "term"], "g"),
            node("Shape", &["ids"], "shape"),
            node("Gather", &["positions", "shape"], "h"),
            node("Gather", &["columns", "ids"], "i").with("axis", int(1)),
        ],
        vec![
            floats("few", &[31, 33]),
            floats("left", &[32, 48]),
            floats("deep", &[2, 32, 48]),
            floats("grouped", &[64, 2, 3, 3]),
            floats("stem", &[64, 3, 5, 5]),
            floats("scaled", &[32, 48]),
            floats("term", &[32, 48]),
            floats("positions", &[77, 20]),
            floats("columns", &[77, 20]),
        ],
    );
    assert_eq!(quantized.summary.n_quantized, 0);
    for name in ["few", "left", "deep", "grouped", "stem", "scaled", "term", "positions", "columns"]
    {
        let tensor = quantized.tensor(name);
        assert_eq!(*tensor, floats(name, &tensor.dims));
    }
}

#[test]
fn weights_are_found_behind_what_only_arranges_them() {
    let quantized = quantize(
        vec![
            node("Constant", &[], "constant").with("value", constant(floats("", &[48, 32]))),
            node("Identity", &["constant"], "same"),
            node("Transpose", &["same"], "turned").with("perm", ints(&[1, 0])),
            node("MatMul", &["x", "turned"], "y"),
            node("Constant", &[], "shape").with("value", constant(numbers("", &[32, -1]))),
            node("Reshape", &["cube", "shape"], "flat"),
            node("MatMul", &["x", "flat"], "z"),
            node("Transpose", &["cube"], "around").with("perm", ints(&[2, 0, 1])),
            node("Reshape", &["around", "shape"], "flat_around"),
            node("MatMul", &["x", "flat_around"], "u"),
        ],
        vec![floats("cube", &[32, 6, 8])],
    );
    // The constant has no name of its own; its values follow from the empty one.
    quantized.check("y", 1, &transposed(&values("", 32 * 48), 48), &[32, 48], 1);
    quantized.check("z", 1, &values("cube", 32 * 48), &[32, 48], 1);
    let cube = values("cube", 32 * 48);
    let mut around = Vec::new();
    for k in 0..8 {
        for i in 0..32 {
            around.extend((0..6).map(|j| cube[(i * 6 + j) * 8 + k]));
        }
    }
    quantized.check("u", 1, &around, &[32, 48], 1);
    // What arranged the floats is gone with them.
    let expected = ["DequantizeLinear", "MatMul"].repeat(3);
    assert_eq!(quantized.ops(), expected);
    assert_eq!(
        quantized.names(),
        ["constant_q", "constant_scale", "cube_q", "cube_scale", "cube.2_q", "cube.2_scale",]
    );
}

#[test]
fn a_shared_weight_is_written_once_and_kept_float_where_it_must() {
    let quantized = quantize(
        vec![
            node("MatMul", &["x", "a"], "y"),
            node("MatMul", &["y", "a"], "z"),
            node("Transpose", &["a"], "turned"),
            node("MatMul", &["z", "turned"], "u"),
            node("Mul", &["u", "a"], "v"),
        ],
        vec![floats("a", &[40, 40])],
    );
    assert_eq!(quantized.node("y").input[1], quantized.node("z").input[1]);
    quantized.check("y", 1, &values("a", 1600), &[40, 40], 1);
    quantized.check("u", 1, &transposed(&values("a", 1600), 40), &[40, 40], 1);
    assert_eq!(*quantized.tensor("a"), floats("a", &[40, 40]));
    assert_eq!(quantized.summary.n_quantized, 2);
}

#[test]
fn numbered_names_give_way_to_the_layers_own() {
    let quantized = quantize(
        vec![
            node("MatMul", &["x", "onnx::MatMul_17"], "y"),
            node("MatMul", &["x", "tower.weight"], "z"),
            node("Conv", &["x", "kernel"], "u"),
        ],
        vec![
            floats("onnx::MatMul_17", &[32, 48]),
            floats("tower.weight", &[32, 48]),
            floats("kernel", &[32, 8, 2, 2]),
            floats("kernel_q", &[1]),
        ],
    );
    assert_eq!(quantized.node("y").input[1], "place.y.weight_dequantized");
    assert_eq!(quantized.node("z").input[1], "tower.weight_dequantized");
    // Its first name is taken, though nothing needs the tensor.
    assert_eq!(quantized.node("u").input[1], "kernel.2_dequantized");
}

#[test]
fn sixteen_bits_are_read_as_thirty_two() {
    // bfloat16 keeps the upper half of the bits; half precision knows these values exactly.
    let upper: Vec<u8> = values("b", 1536)
        .iter()
        .flat_map(|it| u16::try_from(it.to_bits() >> 16).unwrap().to_le_bytes())
        .collect();
    let half: Vec<u8> = (0..2048u16).flat_map(|it| (0x3c00 + it % 1024).to_le_bytes()).collect();
    let mut whole = model(
        vec![
            node("Cast", &["b"], "wide").with("to", int(DataType::Float as i64)),
            node("MatMul", &["x", "wide"], "y"),
            node("MatMul", &["x", "h"], "z"),
            node("Cast", &["x"], "narrow").with("to", int(DataType::Float16 as i64)),
            node("Add", &["narrow", "small"], "u"),
        ],
        vec![
            tensor("b", &[32, 48], DataType::Bfloat16, upper),
            tensor("h", &[32, 64], DataType::Float16, half),
            TensorProto {
                int32_data: vec![0x3c00, 0xc000],
                ..tensor("small", &[2], DataType::Float16, vec![])
            },
        ],
    );
    whole.graph.as_mut().unwrap().input[0] = info("x", DataType::Float16);
    let quantized = try_quantize(&whole).unwrap();
    let close: Vec<f32> =
        values("b", 1536).iter().map(|it| f32::from_bits(it.to_bits() & 0xffff_0000)).collect();
    quantized.check("y", 1, &close, &[32, 48], 1);
    let (got, ..) = quantized.weight("z", 1);
    for (i, got) in (0..1024u16).zip(&got) {
        let expected = 1.0 + f32::from(i) / 1024.0;
        let room = if expected < 1.9 { 1.0 / 127.0 + 1e-6 } else { 0.1 };
        assert!((got - expected).abs() < room, "{got} for {expected}");
    }
    let small = quantized.tensor("small");
    assert_eq!(small.raw_data, [1f32.to_le_bytes(), (-2f32).to_le_bytes()].concat());
    assert_eq!(quantized.node("narrow").attribute[0].i, DataType::Float as i64);
    assert_eq!(quantized.graph.input[0], info("x", DataType::Float));
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    for (value, name) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let mut a = floats("a", &[32, 48]);
        a.raw_data[4 * 77..4 * 78].copy_from_slice(&value.to_le_bytes());
        let model = model(vec![node("MatMul", &["x", "a"], "y")], vec![a]);
        let message = try_quantize(&model).err().unwrap().to_string();
        let expected = format!("tensor \"a\" must be of finite numbers, got {name} at index 77");
        assert!(message.ends_with(&expected), "{message}");
    }
}

#[test]
fn only_graphs_that_are_understood_are_taken() {
    let mut old = model(vec![node("MatMul", &["x", "a"], "y")], vec![floats("a", &[32, 48])]);
    old.opset_import[0].version = 12;
    let message = try_quantize(&old).err().unwrap().to_string();
    assert!(message.contains("the operator set must be 13 to 22; export"), "{message}");
    assert!(message.ends_with("got 12"), "{message}");
    old.opset_import[0].version = 14;
    old.functions.push(tract_onnx::pb::FunctionProto::default());
    let message = try_quantize(&old).err().unwrap().to_string();
    assert!(message.contains("without functions of its own"), "{message}");
}

#[test]
fn a_graph_that_cannot_be_run_is_told_before_it_is_quantized() {
    let refused = |nodes: Vec<NodeProto>| {
        let (_dir, path) = folder(&model(nodes, vec![]));
        let cut = FloatModel::open(&path).and_then(|mut it| it.cut("y"));
        cut.unwrap_err().to_string()
    };
    let relu = || node("Relu", &["v"], "y");
    let message = refused(vec![relu(), node("Neg", &["x"], "v")]);
    let expected = "got what node \"/place/v/Neg\" (Neg) makes later: the nodes are not in order";
    assert!(message.ends_with(expected), "{message}");
    let message = refused(vec![relu()]);
    assert!(message.contains("input \"v\" of node \"/place/y/Relu\" (Relu) must be"), "{message}");
    let message = refused(vec![node("Polish", &["x"], "v"), relu()]);
    let expected = "the operator of node \"/place/v/Polish\" (Polish) must be one that tract or this \
                    program can run; export the model with the standard operators of ONNX, got Polish";
    assert!(message.ends_with(expected), "{message}");
    let foreign = NodeProto { domain: "com.example".into(), ..node("Neg", &["x"], "v") };
    let message = refused(vec![foreign, relu()]);
    assert!(message.ends_with("got Neg of com.example"), "{message}");
    let still = node("MaxPool", &["x"], "v").with("strides", ints(&[0, 1]));
    let message = refused(vec![still, relu()]);
    let expected = "`strides` of node \"/place/v/MaxPool\" (MaxPool) must be";
    assert!(message.contains(expected), "{message}");
    // What the output does not need may be anything.
    let other = model(vec![node("Polish", &["x"], "z"), node("Neg", &["x"], "y")], vec![]);
    let (_dir, path) = folder(&other);
    FloatModel::open(&path).unwrap().cut("y").unwrap();
}

#[test]
fn a_float_tower_gives_one_row_of_a_size_that_fits() {
    let load = |shape: &[i64]| {
        let nodes = vec![
            node("ReduceMean", &["x"], "mean").with("keepdims", int(1)),
            node("Expand", &["mean", "shape"], "y"),
        ];
        let model = model(nodes, vec![numbers("shape", shape)]);
        let inputs = [("x", f32::fact([1, 4]))];
        FloatTower::load("tower.onnx".into(), model, &inputs, "y").map(drop)
    };
    load(&[1, 65_536]).unwrap();
    for shape in [&[1, 65_537][..], &[2, 3], &[1, 2, 3]] {
        let message = load(shape).unwrap_err().to_string();
        let rule = "tower.onnx: output \"y\" must be one row of 1 to 65536 numbers";
        assert!(message.starts_with(rule), "{shape:?}: {message}");
    }
    let message = crate::error::chain(&load(&[1, 280_000_000_000]).unwrap_err());
    assert!(message.contains("may have at most 268435456 entries, got shape"), "{message}");
}

#[test]
fn an_embedding_that_is_no_number_is_told_with_its_sample() {
    let nodes = vec![node("Sqrt", &["x"], "y")];
    let inputs = [("x", f32::fact([1, 2]))];
    let tower = FloatTower::load("tower.onnx".into(), model(nodes, vec![]), &inputs, "y").unwrap();
    let input = || Ok(tvec![Tensor::from_shape(&[1, 2], &[4f32, -1.0])?.into_tvalue()]);
    let err = tower.run("picture \"a.jpg\"", input).unwrap_err();
    let message = crate::error::chain(&err);
    assert!(
        message.starts_with("tower.onnx gave no embedding of picture \"a.jpg\": "),
        "{message}"
    );
    assert!(message.contains("NaN"), "{message}");
}

#[test]
fn a_cut_leaves_what_one_output_needs() {
    let both = model(
        vec![
            node("MatMul", &["x", "a"], "image"),
            node("Gather", &["table", "ids"], "text"),
            node("Mul", &["image", "text"], "logits"),
        ],
        vec![floats("a", &[32, 48]), floats("table", &[70, 20])],
    );
    let mut outputs: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for output in ["image", "text"] {
        let mut whole = both.clone();
        whole.graph.as_mut().unwrap().output = vec![
            info("logits", DataType::Float),
            info("image", DataType::Float),
            info("text", DataType::Float),
        ];
        let (_dir, path) = folder(&whole);
        let mut float = FloatModel::open(&path).unwrap();
        float.cut(output).unwrap();
        let graph = float.graph().unwrap();
        let names = graph.input.iter().map(|it| it.name.clone());
        outputs.insert(output, names.collect());
        assert_eq!((graph.node.len(), graph.initializer.len()), (1, 1));
        assert!(float.cut("logits").unwrap_err().to_string().contains("\"logits\""));
    }
    assert_eq!((&*outputs["image"][0], &*outputs["text"][0]), ("x", "ids"));
}
