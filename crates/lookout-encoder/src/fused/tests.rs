//! Small graphs through the fused operators, against what tract makes of the same graph without
//! them.

use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::*;

use super::operators::{Operator, floats as values_of};
use crate::onnx::sketch::{NodeExt, floats, info, int, ints, model, node, numbers, tensor, values};
use crate::onnx::{OnnxFile, name_nodes};
use crate::runtime::tract::select;
use crate::runtime::{InputKind, InputSpec, Signature, guard};
use crate::{EncoderError, Isa};

/// What a graph gave, and the operators of ours that did.
#[derive(Debug)]
struct Ran {
    shape: Vec<usize>,
    values: Vec<f32>,
    ours: Vec<&'static str>,
}

/// A graph with one output.
struct Case {
    name: &'static str,
    model: ModelProto,
    /// Shape of `x`.
    shape: Vec<usize>,
    ids: Vec<i64>,
}

impl Case {
    fn new(
        name: &'static str,
        shape: &[usize],
        node: Vec<NodeProto>,
        initializer: Vec<TensorProto>,
    ) -> Self {
        let (model, shape) = (model(node, initializer), shape.to_vec());
        Self { name, model, shape, ids: vec![2, 0, 3] }
    }

    /// The same with the output of this name alone.
    fn giving(mut self, output: &str) -> Self {
        self.model.graph.as_mut().unwrap().output = vec![info(output, DataType::Float)];
        self
    }

    fn signature(&self) -> Signature {
        let graph = self.model.graph.as_ref().unwrap();
        let reads =
            |name: &str| graph.node.iter().any(|it| crate::onnx::inputs_of(it).contains(&name));
        let mut inputs = Vec::new();
        if reads("x") {
            let shape = self.shape.clone();
            inputs.push(InputSpec { name: "x".into(), kind: InputKind::F32, shape });
        }
        if reads("ids") {
            let shape = vec![1, self.ids.len()];
            inputs.push(InputSpec { name: "ids".into(), kind: InputKind::I64, shape });
        }
        let output = graph.output.last().map_or(String::new(), |it| it.name.clone());
        Signature { inputs, output, dimension: 1, rows: 1, has_outliers: false, largest_id: None }
    }

    fn run(&self, model: TypedModel) -> TractResult<Ran> {
        let ours = model.nodes().iter().filter_map(|it| it.op_as::<Operator>()).map(Operator::kind);
        let ours = ours.collect();
        let mut inputs = tvec![];
        for input in self.signature().inputs {
            let n = input.shape.iter().product();
            // Some of them 0, and none beyond ±4.
            let x: Vec<f32> =
                values("x", n).into_iter().map(|it| (it * 16.0).round() / 4.0).collect();
            inputs.push(match input.kind {
                InputKind::F32 => Tensor::from_shape(&input.shape, &x)?.into_tvalue(),
                InputKind::I64 => Tensor::from_shape(&input.shape, &self.ids)?.into_tvalue(),
            });
        }
        let out = model.into_runnable()?.run(inputs)?.remove(0);
        Ok(Ran { shape: out.shape().to_vec(), values: values_of(&out)?.to_vec(), ours })
    }

    /// With our operators. A panic of ours is no answer.
    fn fused(&self) -> Result<Ran, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        std::fs::write(&path, self.model.encode_to_vec()).unwrap();
        let ran = OnnxFile::open(&path).and_then(|onnx| {
            let model = super::model(onnx, &self.signature(), Isa::precise())?;
            self.run(model).map_err(|err| crate::error::model_error(&path, "run", err))
        });
        ran.map_err(|err: EncoderError| {
            crate::error::chain(&err).replace(&*path.to_string_lossy(), "model.onnx")
        })
    }

    /// Without them.
    fn plain(&self) -> Result<Ran, String> {
        let mut named = self.model.clone();
        name_nodes(named.graph.as_mut().unwrap());
        let run = || {
            let onnx = tract_onnx::onnx().with_ignore_value_info(true);
            let mut model = onnx.with_ignore_output_shapes(true).model_for_proto_model(&named)?;
            select(&mut model, &self.signature())?;
            self.run(model.into_typed()?.into_optimized()?)
        };
        let ran = guard(std::path::Path::new("model.onnx"), "run", run);
        ran.map_err(|err| err.to_string())?.map_err(|err| format!("{err:#}"))
    }

    /// What is wrong, if anything: `ours` must have run, and given what tract gives.
    fn fault(&self, ours: &[&str]) -> Option<String> {
        let fused = guard(std::path::Path::new(""), "run", || self.fused());
        let fused = match fused {
            Ok(fused) => fused,
            Err(panic) => return Some(panic.to_string()),
        };
        let (fused, plain) = match (fused, self.plain()) {
            (Ok(fused), Ok(plain)) => (fused, plain),
            (fused, plain) => return Some(format!("fused {fused:?}, plain {plain:?}")),
        };
        if fused.ours != ours {
            return Some(format!("run by {:?}", fused.ours));
        }
        if fused.shape != plain.shape {
            return Some(format!("shape {:?}, not {:?}", fused.shape, plain.shape));
        }
        // Activations of 11 bits.
        let finite = plain.values.iter().filter(|it| it.is_finite());
        let room = 1e-6 + 4e-3 * finite.fold(0f32, |most, it| most.max(it.abs()));
        let is_close = |(got, want): (&f32, &f32)| {
            got.to_bits() == want.to_bits()
                || (got.is_nan() && want.is_nan())
                || (got - want).abs() <= room
        };
        let all = fused.values.iter().zip(&plain.values);
        let far = all.clone().find(|it| !is_close(*it));
        far.map(|(got, want)| format!("{got}, not {want}"))
    }
}

/// Checks all before it fails, so that each case that does is told.
#[track_caller]
fn check(cases: &[(Case, &[&str])]) {
    let faults = cases
        .iter()
        .filter_map(|(case, ours)| case.fault(ours).map(|it| format!("{}: {it}", case.name)));
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Each must be refused with a message that holds these parts.
#[track_caller]
fn check_refusals(cases: &[(Case, &[&str])]) {
    let faults = cases.iter().filter_map(|(case, parts)| {
        let got = match guard(std::path::Path::new(""), "run", || case.fused()) {
            Ok(Err(message)) => message,
            Ok(Ok(ran)) => format!("{ran:?}"),
            Err(panic) => panic.to_string(),
        };
        let is_told = parts.iter().all(|it| got.contains(it)) && !got.contains("panicked");
        (!is_told).then(|| format!("{}: {got}", case.name))
    });
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn few(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let raw_data = values.iter().flat_map(|it| it.to_le_bytes()).collect();
    tensor(name, dims, DataType::Float, raw_data)
}

/// 8-bit weights `{name}_q` with scales of the given shape, and the node that makes `name` of them.
fn quantized(
    name: &str,
    dims: &[i64],
    axis: i64,
    scale_dims: &[i64],
) -> (NodeProto, [TensorProto; 2]) {
    let n = usize::try_from(dims.iter().product::<i64>()).unwrap();
    let mut state = 17u8;
    let bytes = (0..n).map(|_| {
        state = state.wrapping_mul(37).wrapping_add(11);
        state
    });
    let (integers, scales) = (format!("{name}_q"), format!("{name}_scale"));
    let n_scales = u16::try_from(scale_dims.iter().product::<i64>()).unwrap();
    let steps: Vec<f32> = (0..n_scales).map(|it| 0.01 + 0.002 * f32::from(it % 5)).collect();
    let tensors = [
        tensor(&integers, dims, DataType::Int8, bytes.collect()),
        few(&scales, scale_dims, &steps),
    ];
    (node("DequantizeLinear", &[&integers, &scales], name).with("axis", int(axis)), tensors)
}

/// A graph around one layer with 8-bit weights `w`.
fn layer(
    name: &'static str,
    shape: &[usize],
    (dequantize, weights): (NodeProto, [TensorProto; 2]),
    nodes: Vec<NodeProto>,
    mut constants: Vec<TensorProto>,
) -> Case {
    let mut all = vec![dequantize];
    all.extend(nodes);
    constants.extend(weights);
    Case::new(name, shape, all, constants)
}

#[test]
fn layers_are_bound_only_as_their_weights_and_bias_say() {
    let w = || quantized("w", &[6, 4], 1, &[4]);
    let gemm = |bias: &str| vec![node("Gemm", &["x", "w", bias], "y")];
    let conv = |pads: &[i64]| vec![node("Conv", &["x", "w"], "y").with("pads", ints(pads))];
    let far = [1, 1, 1, 1];
    check(&[
        (
            layer("MatMul", &[3, 6], w(), vec![node("MatMul", &["x", "w"], "y")], vec![]),
            &["Linear"],
        ),
        (layer("Gemm", &[4, 6], w(), gemm("b"), vec![floats("b", &[4])]), &["Linear"]),
        (
            layer("a bias of one row", &[4, 6], w(), gemm("b"), vec![floats("b", &[1, 4])]),
            &["Linear"],
        ),
        (layer("a bias of one column", &[4, 6], w(), gemm("b"), vec![floats("b", &[4, 1])]), &[]),
        (
            layer(
                "more inputs than sums hold",
                &[1, 8200],
                quantized("w", &[8200, 2], 1, &[2]),
                vec![node("MatMul", &["x", "w"], "y")],
                vec![],
            ),
            &[],
        ),
        (
            layer(
                "Conv",
                &[1, 2, 5, 5],
                quantized("w", &[4, 2, 3, 3], 0, &[4]),
                conv(&far),
                vec![],
            ),
            &["Turn", "Conv", "Turn"],
        ),
        (
            layer(
                "a window that may lie outside",
                &[1, 2, 5, 5],
                quantized("w", &[4, 2, 1, 1], 0, &[4]),
                conv(&far),
                vec![],
            ),
            &[],
        ),
        (
            layer(
                "a scale below 0",
                &[3, 6],
                {
                    let (dequantize, [integers, _]) = w();
                    let scales = few("w_scale", &[4], &[0.01, -0.02, 0.03, 0.01]);
                    (dequantize, [integers, scales])
                },
                vec![node("MatMul", &["x", "w"], "y")],
                vec![],
            ),
            &[],
        ),
        (
            Case::new(
                "a float window that may lie outside",
                &[1, 2, 5, 5],
                vec![node("Conv", &["x", "w"], "y").with("pads", ints(&[0, 2, 0, 2]))],
                vec![floats("w", &[4, 2, 2, 2])],
            ),
            &[],
        ),
        (
            Case::new(
                "a depthwise window that may lie outside",
                &[1, 2, 5, 5],
                vec![
                    node("Conv", &["x", "w"], "y")
                        .with("pads", ints(&[1, 0, 1, 0]))
                        .with("group", int(2)),
                ],
                vec![floats("w", &[2, 1, 1, 1])],
            ),
            &[],
        ),
        (
            layer(
                "Gather",
                &[],
                quantized("w", &[5, 3], 0, &[5]),
                vec![node("Gather", &["w", "ids"], "y")],
                vec![],
            ),
            &["Embedding"],
        ),
        (
            Case {
                ids: vec![-1, 4, -5],
                ..layer(
                    "rows counted from the end",
                    &[],
                    quantized("w", &[5, 3], 0, &[5]),
                    vec![node("Gather", &["w", "ids"], "y")],
                    vec![],
                )
            },
            &["Embedding"],
        ),
    ]);
}

#[test]
fn scales_of_blocks_are_refused() {
    let matmul = || vec![node("MatMul", &["x", "w"], "y")];
    let (dequantize, weights) = quantized("w", &[6, 4], 1, &[4]);
    let blocked = (dequantize.with("block_size", int(2)), weights);
    // As many scales as outputs, but for blocks of other axes.
    let square = quantized("w", &[2, 4], 0, &[1, 4]);
    let many = quantized("w", &[6, 4], 1, &[2, 2]);
    let rule = "the scale \"w_scale\" of \"w\" must be one number, or one for each channel";
    check_refusals(&[
        (layer("a size of blocks", &[3, 6], blocked, matmul(), vec![]), &[rule, "blocks of 2"]),
        (layer("scales with two axes", &[3, 2], square, matmul(), vec![]), &[rule, "[1, 4]"]),
        (layer("as many as outputs", &[3, 6], many, matmul(), vec![]), &[rule, "[2, 2]"]),
    ]);
}

#[test]
fn a_row_beyond_the_table_is_refused() {
    for id in [5, -6, i64::MIN] {
        let case = layer(
            "Gather",
            &[],
            quantized("w", &[5, 3], 0, &[5]),
            vec![node("Gather", &["w", "ids"], "y")],
            vec![],
        );
        let message = Case { ids: vec![0, id], ..case }.fused().unwrap_err();
        let expected = format!("must be less than 5, the rows of its table, got {id}");
        assert!(message.ends_with(&expected), "{message}");
    }
}

#[test]
fn only_what_computes_an_activation_is_one() {
    let one = |value: f32| vec![few("c", &[1], &[value])];
    let gate = |dims: &[i64]| {
        let nodes = vec![
            node("Mul", &["x", "c"], "scaled"),
            node("Sigmoid", &["scaled"], "gate"),
            node("Mul", &["x", "gate"], "y"),
        ];
        (nodes, vec![few("c", dims, &[1.702])])
    };
    let (plain, plain_c) = gate(&[]);
    let (raised, raised_c) = gate(&[1, 1, 1]);
    check(&[
        (Case::new("Relu", &[3, 4], vec![node("Relu", &["x"], "y")], vec![]), &["Activation"]),
        (Case::new("QuickGelu", &[3, 4], plain, plain_c), &["Activation"]),
        (Case::new("a constant of higher rank", &[3, 4], raised, raised_c), &[]),
        (
            Case::new(
                "a small number that is added",
                &[3, 4],
                vec![node("Add", &["x", "c"], "sum"), node("Div", &["d", "sum"], "y")],
                [one(5e-6), vec![few("d", &[1], &[1.0])]].concat(),
            ),
            &[],
        ),
        (
            Case::new(
                "a slope near 0",
                &[3, 4],
                vec![node("Mul", &["x", "c"], "small"), node("Mul", &["small", "d"], "y")],
                [one(5e-10), vec![few("d", &[1], &[3e9])]].concat(),
            ),
            &[],
        ),
        (Case::new("identity", &[3, 4], vec![node("Mul", &["x", "c"], "y")], one(1.0)), &[]),
    ]);
}

/// The parts of a normalization as exporters write them.
fn norm_parts() -> Vec<NodeProto> {
    let mean = |from: &str, to: &str| node("ReduceMean", &[from], to).with("axes", ints(&[-1]));
    vec![
        mean("x", "mean"),
        node("Sub", &["x", "mean"], "centered"),
        node("Pow", &["centered", "two"], "square"),
        mean("square", "variance"),
        node("Add", &["variance", "epsilon"], "sum"),
        node("Sqrt", &["sum"], "deviation"),
        node("Div", &["centered", "deviation"], "quotient"),
        node("Mul", &["quotient", "scale"], "scaled"),
        node("Add", &["scaled", "bias"], "y"),
    ]
}

fn norm_constants(n: i64) -> Vec<TensorProto> {
    vec![
        few("two", &[], &[2.0]),
        few("epsilon", &[], &[1e-5]),
        floats("scale", &[n]),
        floats("bias", &[n]),
    ]
}

#[test]
fn a_normalization_has_a_scale_for_each_channel() {
    let operator = || vec![node("LayerNormalization", &["x", "scale", "bias"], "y")];
    check(&[
        (Case::new("parts", &[3, 4], norm_parts(), norm_constants(4)), &["LayerNorm"]),
        (Case::new("parts, one scale", &[3, 4], norm_parts(), norm_constants(1)), &[]),
        (Case::new("operator", &[3, 4], operator(), norm_constants(4)), &["LayerNorm"]),
        (Case::new("operator, one scale", &[3, 4], operator(), norm_constants(1)), &[]),
    ]);
}

#[test]
fn a_constant_beside_a_convolution_keeps_its_axes() {
    let nodes = || vec![node("Conv", &["x", "w"], "v"), node("Add", &["v", "c"], "y")];
    let constants = |dims: &[i64]| vec![floats("w", &[4, 2, 1, 1]), floats("c", dims)];
    let case = |name, dims: &[i64]| Case::new(name, &[1, 2, 3, 3], nodes(), constants(dims));
    let ours = &["Turn", "FloatConv", "Turn"];
    check(&[
        (case("by channel", &[4, 1, 1]), ours),
        (case("by channel, 4 axes", &[1, 4, 1, 1]), ours),
        (case("5 axes", &[1, 1, 4, 1, 1]), ours),
        (case("5 axes, one entry", &[1, 1, 1, 1, 1]), ours),
    ]);
}

/// `If` with these branches, each with one output.
fn branch(then: NodeProto, otherwise: NodeProto) -> NodeProto {
    let body = |name: &str, node: NodeProto| {
        let output = vec![info(&node.output[0], DataType::Float)];
        let graph =
            GraphProto { name: name.into(), node: vec![node], output, ..Default::default() };
        AttributeProto { g: Some(graph), r#type: AttributeType::Graph as i32, ..Default::default() }
    };
    node("If", &["condition"], "y")
        .with("then_branch", body("then", then))
        .with("else_branch", body("else", otherwise))
}

#[test]
fn graphs_within_nodes_read_the_values_around_them() {
    // A condition that nobody knows before the run.
    let condition = || {
        vec![
            node("ReduceSum", &["x"], "sum").with("keepdims", int(0)),
            node("Less", &["sum", "c"], "condition"),
        ]
    };
    let c = || few("c", &[], &[1e9]);
    let outer = |made: Vec<NodeProto>| {
        let branches = branch(node("Neg", &["v"], "t"), node("Abs", &["v"], "e"));
        [condition(), made, vec![branches]].concat()
    };
    let renamed = vec![node("Identity", &["x"], "same"), node("Identity", &["same"], "v")];
    let mut inner = branch(node("Neg", &["v"], "t2"), node("Abs", &["v"], "e2"));
    inner.output = vec!["t".into()];
    let branches = branch(inner, node("Abs", &["x"], "e"));
    let deep = [condition(), vec![node("Relu", &["x"], "v"), branches]].concat();
    let layer_norm = vec![node("LayerNormalization", &["x", "scale", "bias"], "v")];
    let turned = vec![node("Conv", &["x", "w"], "v")];
    let constant = |mut it: Vec<TensorProto>| {
        it.push(c());
        it
    };
    check(&[
        (Case::new("an identity", &[3, 4], outer(renamed), vec![c()]).giving("y"), &[]),
        (Case::new("two graphs deep", &[3, 4], deep, vec![c()]).giving("y"), &["Activation"]),
        (
            Case::new("a fused value", &[3, 4], outer(layer_norm), constant(norm_constants(4)))
                .giving("y"),
            &["LayerNorm"],
        ),
        (
            Case::new(
                "channels last",
                &[1, 2, 3, 3],
                outer(turned),
                constant(vec![floats("w", &[4, 2, 1, 1])]),
            )
            .giving("y"),
            &["Turn", "FloatConv", "Turn"],
        ),
    ]);
}

/// Layers too large for our float kernel, so that tract has them.
#[test]
fn a_layer_may_be_what_is_subtracted_or_divided_by() {
    let with = |nodes: &[NodeProto]| {
        let between = [
            node("Conv", &["x", "w"], "v"),
            node("Identity", &["v"], "same"),
            node("Mul", &["v", "k"], "scaled"),
            node("Cast", &["v"], "cast").with("to", int(DataType::Float as i64)),
        ];
        let nodes = [between.to_vec(), nodes.to_vec()].concat();
        let channels = |name| floats(name, &[128, 1, 1]);
        let constants = vec![floats("w", &[128, 16, 3, 3]), channels("c"), channels("k")];
        Case::new("", &[1, 16, 5, 5], nodes, constants).giving("y").fused().unwrap().values
    };
    for layer in ["v", "same", "scaled", "cast"] {
        let got = with(&[node("Sub", &["c", layer], "y")]);
        let want = with(&[node("Sub", &[layer, "c"], "d"), node("Neg", &["d"], "y")]);
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4 * b.abs().max(1.0);
        assert!(got.iter().zip(&want).all(close), "c - {layer}: {got:?}, not {want:?}");
        let got = with(&[node("Div", &["c", layer], "y")]);
        let want = with(&[node("Div", &[layer, "c"], "d"), node("Reciprocal", &["d"], "y")]);
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-3 * b.abs().max(1.0);
        assert!(got.iter().zip(&want).all(close), "c / {layer}: {got:?}, not {want:?}");
    }
}

#[test]
fn names_of_nodes_are_no_names_of_values() {
    let named = |name: &str, node: NodeProto| NodeProto { name: name.into(), ..node };
    let add = |name| named(name, node("Add", &["x", "c"], "v"));
    let c = || vec![floats("c", &[4])];
    let neg = |name| named(name, node("Neg", &["v"], "y"));
    check(&[
        (Case::new("an initializer's", &[3, 4], vec![add("c"), neg("n")], c()), &[]),
        (Case::new("an input's", &[3, 4], vec![add("x"), neg("n")], c()), &[]),
        (Case::new("the output's", &[3, 4], vec![add("y"), neg("n")], c()), &[]),
        (Case::new("each other's value", &[3, 4], vec![add("y"), neg("v")], c()), &[]),
        (Case::new("another node's", &[3, 4], vec![add("n"), neg("n")], c()), &[]),
        (Case::new("none", &[3, 4], vec![add(""), neg("")], c()), &[]),
    ]);
}

#[test]
fn a_layer_without_inputs_is_no_panic() {
    let without = |op: &str| {
        let mut nodes = norm_parts();
        for node in nodes.iter_mut().filter(|it| it.op_type == op) {
            node.input.clear();
        }
        Case::new("parts without inputs", &[3, 4], nodes, norm_constants(4))
    };
    check_refusals(&[(without("Pow"), &["Pow"]), (without("ReduceMean"), &["ReduceMean"])]);
}

#[test]
fn inputs_are_those_that_the_output_needs() {
    let both = || {
        let nodes = vec![
            node("Neg", &["x"], "y"),
            node("Cast", &["ids"], "floats").with("to", int(DataType::Float as i64)),
            node("Neg", &["floats"], "z"),
        ];
        Case::new("both", &[3, 4], nodes, vec![])
    };
    let load = |inputs: &[&str], output: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        std::fs::write(&path, both().model.encode_to_vec()).unwrap();
        let mut signature = Signature { output: output.into(), ..both().signature() };
        signature.inputs.retain(|it| inputs.contains(&it.name.as_str()));
        let loaded = super::model(OnnxFile::open(&path).unwrap(), &signature, Isa::precise());
        loaded.map(drop).map_err(|err| err.to_string())
    };
    load(&["x"], "y").unwrap();
    load(&["ids"], "z").unwrap();
    // One that is not needed is ignored.
    load(&["x", "ids"], "y").unwrap();
    let message = load(&["x"], "z").unwrap_err();
    let rule = "the inputs must be \"x\", as model.toml says, got \"x\", \"ids\"";
    assert!(message.ends_with(rule), "{message}");
}

#[test]
fn a_layer_without_output_is_left_out() {
    let mut nodes = vec![node("MatMul", &["x", "w"], "lost"), node("Neg", &["x"], "y")];
    nodes[0].output.clear();
    let w = quantized("w", &[4, 4], 1, &[4]);
    // tract refuses such a node, but nothing needs it.
    let case = layer("a layer without output", &[3, 4], w, nodes, vec![]).giving("y");
    assert!(case.fused().unwrap().ours.is_empty());
}

#[test]
fn what_cannot_be_run_is_told_with_its_place() {
    let relu = || node("Relu", &["x"], "v");
    let neg = || node("Neg", &["v"], "y");
    let case = |name, nodes| Case::new(name, &[3, 4], nodes, vec![]).giving("y");
    let strange = NodeProto { domain: "com.example".into(), ..node("Polish", &["x"], "v") };
    let inner = branch(node("Polish", &["x"], "t"), node("Neg", &["x"], "e"));
    let truth = || tensor("condition", &[], DataType::Bool, vec![1]);
    let hands_on = {
        let mut node = branch(node("Neg", &["x"], "t"), node("Neg", &["x"], "e"));
        node.attribute[0].g.as_mut().unwrap().output[0].name = "x".into();
        node
    };
    check_refusals(&[
        (
            case("not in order", vec![neg(), relu()]),
            &[
                "model.onnx: input \"v\" of node \"/place/y/Neg\" (Neg) must be",
                "got what node \"/place/v/Relu\" (Relu) makes later: the nodes are not in order",
            ],
        ),
        (
            case("missing", vec![neg()]),
            &[
                "model.onnx: input \"v\" of node \"/place/y/Neg\" (Neg) must be an input of the graph, \
                 an initializer or what an earlier node makes; export the model again, got nothing",
            ],
        ),
        (
            case("made twice", vec![relu(), relu(), neg()]),
            &["output \"v\" of node \"/place/v/Relu\" (Relu) must be the only value of its name"],
        ),
        (
            case("unknown", vec![strange, neg()]),
            &["the operator of node \"/place/v/Polish\" (Polish) must be one that tract or this \
                 program can run; export the model with ONNX's standard operators, or try device \
                 \"ort-cpu\", got Polish of com.example"],
        ),
        (
            Case::new("unknown within", &[3, 4], vec![inner], vec![truth()]),
            &["the operator of node \"/place/t/Polish\" (Polish) must be"],
        ),
        (
            Case::new("handed on", &[3, 4], vec![hands_on], vec![truth()]),
            &["output \"x\" of graph \"then\" must be what one of its nodes makes"],
        ),
        (
            Case::new("reserved", &[3, 4], vec![node(Operator::TYPE, &["x"], "y")], vec![]),
            &["a node's type must be one of ONNX's, got \"LookoutFused\""],
        ),
        (case("no such output", vec![relu()]), &["output \"y\" of graph \"\" must be what"]),
        (
            Case::new(
                "without measure",
                &[1, 4],
                vec![node("Expand", &["x", "shape"], "v"), neg()],
                vec![numbers("shape", &[70_000_000, 4])],
            ),
            &["may have at most 268435456 entries", "[70000000, 4]"],
        ),
        (
            Case::new(
                "no number of tract's",
                &[3, 4],
                vec![node("Add", &["x", "c"], "y")],
                vec![few("c", &[4], &[f32::NEG_INFINITY, f32::NAN, 0.0, 0.0])],
            ),
            &["tensor \"c\" must be of numbers, got NaN at index 1"],
        ),
        (
            Case::new(
                "no number",
                &[1, 2, 3, 3],
                vec![node("Conv", &["x", "w"], "y")],
                vec![few("w", &[1, 2, 1, 1], &[1.0, f32::NAN])],
            ),
            &["each weight of the layer that makes \"y", "must be a finite number, got NaN"],
        ),
    ]);
}

#[test]
fn constants_do_not_grow_without_measure() {
    let (huge, large) = (1_000_000_000_000, 2_000_000_000);
    let single = |name: &str, value: i64| TensorProto { dims: vec![], ..numbers(name, &[value]) };
    let add = |value: &str| node("Add", &["x", value], "y");
    let cast = || node("Cast", &["r"], "c").with("to", int(DataType::Float as i64));
    let case = |name, nodes, initializer| Case::new(name, &[1, 4], nodes, initializer);
    let range = |from, to, step| vec![single("from", from), single("to", to), single("by", step)];
    let by_range = || vec![node("Range", &["from", "to", "by"], "r"), cast(), add("c")];
    let of_shape = |op: &str, inputs: &[&str]| vec![node(op, inputs, "c"), add("c")];
    let told: &[&str] = &["may have at most 268435456 entries", "got shape [1000000000000"];
    let told_large: &[&str] = &["may have at most 268435456 entries", "got shape [2000000000"];
    let long = || floats("long", &[1_000_000, 1]);
    let flat = || vec![node("Transpose", &["long"], "flat")];
    check_refusals(&[
        (case("range", by_range(), range(0, huge, 1)), told),
        (
            case("range down", by_range(), range(huge, 0, -1)),
            &["/place/r/Range", "a step greater than 0, got -1"],
        ),
        (
            case("of shape", of_shape("ConstantOfShape", &["n"]), vec![numbers("n", &[large])]),
            told_large,
        ),
        (
            case(
                "expand",
                of_shape("Expand", &["one", "n"]),
                vec![few("one", &[1], &[1.0]), numbers("n", &[large, 1])],
            ),
            told_large,
        ),
        (
            case(
                "tile",
                of_shape("Tile", &["one", "n"]),
                vec![few("one", &[1], &[1.0]), numbers("n", &[large])],
            ),
            told_large,
        ),
        (
            case(
                "of a computed shape",
                vec![
                    node("Shape", &["long"], "s"),
                    node("Mul", &["s", "s"], "n"),
                    node("ConstantOfShape", &["n"], "c"),
                    add("c"),
                ],
                vec![long()],
            ),
            told,
        ),
        (
            case(
                "broadcast",
                [flat(), vec![node("Mul", &["long", "flat"], "c"), add("c")]].concat(),
                vec![long()],
            ),
            &["may have at most 268435456 entries", "got shape [1000000, 1000000]"],
        ),
        (
            case(
                "within a branch",
                vec![branch(node("ConstantOfShape", &["n"], "t"), node("Neg", &["x"], "e"))],
                vec![numbers("n", &[large]), tensor("condition", &[], DataType::Bool, vec![1])],
            ),
            told_large,
        ),
        (
            case("a step of nothing", by_range(), range(0, 5, 0)),
            &["/place/r/Range", "a step greater than 0, got 0"],
        ),
    ]);
    check(&[(
        case(
            "a range within measure",
            vec![node("Range", &["from", "to", "by"], "r"), cast(), add("c")],
            range(0, 8, 2),
        ),
        &[],
    )]);
}

#[test]
fn attributes_that_no_layer_can_have_are_named() {
    let conv = |name: &str, value: AttributeProto| {
        let nodes = vec![node("Conv", &["x", "w"], "y").with(name, value)];
        Case::new("convolution", &[1, 2, 6, 6], nodes, vec![floats("w", &[4, 2, 3, 3])])
    };
    let pool = |op: &str, name: &str, value: AttributeProto| {
        let size = ints(if name == "kernel_shape" { &[] } else { &[2, 2] });
        let mut pool = node(op, &["x"], "y").with(name, value);
        if name != "kernel_shape" {
            pool = pool.with("kernel_shape", size);
        }
        Case::new("pooling", &[1, 2, 6, 6], vec![pool], vec![])
    };
    let text = |s: &str| AttributeProto {
        s: s.as_bytes().to_vec(),
        r#type: AttributeType::String as i32,
        ..AttributeProto::default()
    };
    check_refusals(&[
        (
            conv("strides", ints(&[1, 0])),
            &["model.onnx: `strides` of node \"/place/y/Conv\" (Conv) must be 1 to 65535", "got 0"],
        ),
        (conv("strides", ints(&[-1, 1])), &["`strides` of node", "got -1"]),
        (conv("dilations", ints(&[0, 1])), &["`dilations` of node", "got 0"]),
        (conv("dilations", ints(&[1, i64::MAX])), &["`dilations` of node"]),
        (conv("kernel_shape", ints(&[-3, 3])), &["`kernel_shape` of node", "got -3"]),
        (conv("pads", ints(&[0, -1, 0, 0])), &["`pads` of node", "0 to 65535", "got -1"]),
        (conv("group", int(0)), &["`group` of node", "got 0"]),
        (
            conv("auto_pad", text("SIDEWAYS")),
            &["`auto_pad` of node \"/place/y/Conv\" (Conv) must be", "got \"SIDEWAYS\""],
        ),
        (pool("MaxPool", "strides", ints(&[0, 1])), &["`strides` of node \"/place/y/MaxPool\""]),
        (pool("AveragePool", "strides", ints(&[1, -2])), &["(AveragePool)", "got -2"]),
        (pool("MaxPool", "dilations", ints(&[1, 0])), &["`dilations`", "got 0"]),
        (pool("MaxPool", "kernel_shape", ints(&[0, 2])), &["`kernel_shape`", "got 0"]),
        (pool("AveragePool", "auto_pad", text("")), &["`auto_pad`", "got \"\""]),
    ]);
    for good in ["NOTSET", "VALID", "SAME_UPPER"] {
        let mut case = conv("auto_pad", text(good));
        case.model.graph.as_mut().unwrap().node[0].attribute.truncate(1);
        case.fused().unwrap();
    }
}

#[test]
fn operators_of_unknown_sets_are_refused() {
    let of = |domain: &str, op: &str| {
        let strange = NodeProto { domain: domain.into(), ..node(op, &["x"], "y") };
        Case::new("of a domain", &[3, 4], vec![strange], vec![])
    };
    let opset = |domain: &str, version: i64| {
        let mut case = of("", "Relu");
        case.model.opset_import[0].version = version;
        domain.clone_into(&mut case.model.opset_import[0].domain);
        case
    };
    check_refusals(&[
        (of("com.example", "Relu"), &["node \"/place/y/Relu\" (Relu)", "got Relu of com.example"]),
        (of("com.microsoft", "Relu"), &["got Relu of com.microsoft"]),
        (opset("", 999), &["model.onnx: the operator set must be 7 to 25", "got 999"]),
        (opset("", 6), &["the operator set must be 7 to 25", "got 6"]),
        (opset("com.example", 14), &["the operator set must be 7 to 25", "got nothing"]),
    ]);
    for good in [of("ai.onnx", "Relu"), of("com.microsoft", "QuickGelu"), opset("ai.onnx", 21)] {
        good.fused().unwrap();
    }
    // What the output does not need may be of anyone.
    let other = NodeProto { domain: "com.example".into(), ..node("Polish", &["x"], "z") };
    let nodes = vec![other, node("Relu", &["x"], "y")];
    Case::new("not needed", &[3, 4], nodes, vec![]).giving("y").fused().unwrap();
}

#[test]
fn a_graph_without_end_is_refused() {
    let names: Vec<String> = (0..10_001).map(|it| format!("v{it}")).collect();
    let mut nodes = vec![node("Neg", &["x"], "v0")];
    nodes.extend(names.windows(2).map(|it| node("Neg", &[&it[0]], &it[1])));
    let case = |n| Case::new("chain", &[1, 4], nodes.clone(), vec![]).giving(&format!("v{n}"));
    let told = "model.onnx: the graph must be of at most 10000 nodes that its output needs";
    check_refusals(&[(case(10_000), &[told, "got 10001"])]);
    // Nodes behind the output do not count.
    case(100).fused().unwrap();
}

#[test]
fn bounds_may_lie_far_out() {
    let nodes = vec![
        node("Mul", &["x", "large"], "v"),
        node("MatMul", &["v", "w"], "p"),
        node("Clip", &["p", "low", "high"], "y"),
    ];
    let w = floats("w", &[8, 8]);
    let scalars = [few("large", &[], &[1e6]), few("low", &[], &[-2e4]), few("high", &[], &[2e4])];
    let constants = [vec![w], scalars.to_vec()].concat();
    let values = Case::new("", &[3, 8], nodes, constants).giving("y").fused().unwrap().values;
    assert!(values.iter().all(|it| it.abs() <= 2e4), "{values:?}");
    assert!(values.iter().any(|it| 1.9e4 < it.abs()), "{values:?}");
}

#[test]
fn what_tract_passes_over_is_refused() {
    let case = |name, node| Case::new(name, &[3, 4], vec![node], vec![floats("c", &[4])]);
    let text = |text: &str| AttributeProto { s: text.into(), ..AttributeProto::default() };
    let mha = node("MultiHeadAttention", &["x", "x", "x"], "y");
    let mha = NodeProto { domain: "com.microsoft".into(), ..mha };
    let norm = node("SkipSimplifiedLayerNormalization", &["x", "x", "c", "c"], "y");
    let norm = NodeProto { domain: "com.microsoft".into(), ..norm };
    let lstm = || node("LSTM", &["x", "c", "c"], "y");
    check_refusals(&[
        (case("causal", mha.with("unidirectional", int(1))), &["`unidirectional` of node"]),
        (case("bias", norm), &["input 3, the bias, of node"]),
        (case("reverse", lstm().with("direction", text("reverse"))), &["`direction` of node"]),
        (case("clip", lstm().with("clip", int(0))), &["`clip` of node"]),
        (
            Case::new(
                "window",
                &[1, 1, 4, 4],
                vec![node("MaxPool", &["x"], "y").with("kernel_shape", ints(&[1001, 1001]))],
                vec![],
            ),
            &["`kernel_shape` of node", "at most 262144 positions"],
        ),
    ]);
}

#[test]
fn a_shape_cut_from_a_large_constant_is_known() {
    let large = numbers("large", &[vec![1_000_000; 2], vec![1; 2998]].concat());
    let bounds = ["from", "to", "axis"].iter().zip([0, 2, 0]);
    let bounds = bounds.map(|(name, it)| numbers(name, &[it]));
    let nodes = vec![
        node("Slice", &["large", "from", "to", "axis"], "shape"),
        node("ConstantOfShape", &["shape"], "c"),
        node("Add", &["x", "c"], "y"),
    ];
    let constants = [vec![large], bounds.collect()].concat();
    check_refusals(&[(
        Case::new("cut", &[1, 1], nodes, constants),
        &["may have at most 268435456 entries", "got shape [1000000, 1000000]"],
    )]);
}
