//! The operators that tract runs for us.
//!
//! Each is a [`Kernel`]: what it makes of shapes, and of values. [`Operator`] makes a tract operator
//! of any of them.

use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::Arc;

use lookout_kernels::{
    Activation, Depthwise, FloatConv, Isa, Output, Patches, Rows, Shape, Weights, Window,
    layer_norm, multiply,
};
use tract_onnx::pb::{ModelProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::internal::*;

use super::graph::{self, Graph, Kind, Quantized, Slide};
use crate::EncoderError;
use crate::runtime::Signature;
use crate::runtime::tract::select;

/// What an operator does.
pub(super) trait Kernel: Debug + Send + Sync {
    fn name(&self) -> &'static str;

    /// The output's shape for inputs of these shapes, or why there is none.
    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>>;

    /// The output; the inputs have shapes that [`Self::shape`] accepted.
    fn run(&self, inputs: TVec<TValue>) -> TractResult<Tensor>;

    /// The same linear layer with a second input that is added to its output.
    fn with_residual(&self) -> Option<Operator> {
        None
    }
}

/// A kernel as an operator of tract.
#[derive(Clone, Debug)]
pub(super) struct Operator(Arc<dyn Kernel>);

impl PartialEq for Operator {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Operator {}

impl Operator {
    /// The type of nodes that stand for operators, and their attribute that numbers them.
    pub(super) const TYPE: &str = "LookoutFused";
    pub(super) const NUMBER: &str = "number";

    pub(super) fn of(kernel: impl Kernel + 'static) -> Self {
        Self(Arc::new(kernel))
    }

    /// The operator for `kind`; its weights are read and packed.
    pub(super) fn new(
        kind: Kind,
        output: &str,
        graph: &Graph,
        isa: Isa,
    ) -> Result<Self, EncoderError> {
        Ok(match kind {
            Kind::Linear(linear) => Self::of(Linear {
                activation: linear.activation,
                weights: Arc::new(pack(&linear, graph, isa)?),
                has_residual: false,
            }),
            Kind::Conv(conv) => Self::of(Conv {
                activation: conv.linear.activation,
                weights: Arc::new(pack(&conv.linear, graph, isa)?),
                slide: conv.slide,
                has_residual: false,
            }),
            Kind::Depthwise(conv) => {
                check_finite(graph, output, [&conv.weights, &conv.bias])?;
                Self::of(PictureConv::new(conv, true, graph, isa)?)
            }
            Kind::FloatConv(conv) => {
                check_finite(graph, output, [&conv.weights, &conv.bias])?;
                Self::of(PictureConv::new(conv, false, graph, isa)?)
            }
            Kind::LayerNorm { scale, bias, epsilon } => {
                check_finite(graph, output, [&scale, &bias])?;
                Self::of(LayerNorm { scale, bias, epsilon, isa })
            }
            Kind::Activation(activation) => Self::of(Pointwise { activation, isa }),
            Kind::Embedding { table } => {
                let integers = read(&table, graph)?;
                Self::of(Embedding { integers, scales: table.scales })
            }
            Kind::Mean { keeps_axes } => Self::of(Mean { keeps_axes }),
            Kind::Turn { to_last } => Self::of(Turn { to_last }),
            Kind::Onnx(node) => {
                let got = node.op_type.clone();
                return Err(graph.fault("a node of ours", "one that was joined", got));
            }
        })
    }

    /// What its kernel is called.
    #[cfg(test)]
    pub(super) fn kind(&self) -> &'static str {
        self.0.name()
    }

    pub(super) fn with_residual(&self) -> Option<Self> {
        self.0.with_residual()
    }
}

/// Refuses weights that are no numbers: a kernel could turn them into plausible ones.
fn check_finite(graph: &Graph, output: &str, weights: [&[f32]; 2]) -> Result<(), EncoderError> {
    match weights.into_iter().flatten().find(|it| !it.is_finite()) {
        None => Ok(()),
        Some(bad) => {
            let at = format!("each weight of the layer that makes {output:?}");
            Err(graph.fault(&at, "a finite number", bad.to_string()))
        }
    }
}

fn read(table: &Quantized, graph: &Graph) -> Result<Vec<i8>, EncoderError> {
    graph.bytes(&table.name)?.ok_or_else(|| {
        let tensor = format!("tensor {:?}", table.name);
        graph.fault(&tensor, "8-bit integers as many as its dimensions say", "others".to_owned())
    })
}

fn pack(linear: &graph::Linear, graph: &Graph, isa: Isa) -> Result<Weights, EncoderError> {
    let graph::Linear { weights, layout, bias, n_inputs, .. } = linear;
    let integers = read(weights, graph)?;
    let packed = Weights::pack(isa, &integers, *layout, &weights.scales, bias.as_deref());
    let fault = |got: String| {
        graph.fault(&format!("tensor {:?}", weights.name), "the weights of a linear layer", got)
    };
    let packed = packed.map_err(|err| fault(err.to_string()))?;
    if packed.n_inputs() != *n_inputs {
        return Err(fault(format!("{} inputs for {n_inputs}", packed.n_inputs())));
    }
    Ok(packed)
}

thread_local! {
    /// The operators of the graph that this thread parses: tract's builders are plain functions.
    static OPERATORS: RefCell<Vec<Operator>> = const { RefCell::new(Vec::new()) };
    /// Quantized activations; one buffer for all layers, since they run in turn.
    static ROWS: RefCell<Rows> = RefCell::default();
}

/// Parses the rewritten graph for `signature`.
pub(super) fn parse(
    proto: ModelProto,
    operators: Vec<Operator>,
    signature: &Signature,
) -> TractResult<InferenceModel> {
    let mut onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    onnx.op_register.insert(Operator::TYPE, build);
    OPERATORS.set(operators);
    let parsed = onnx.parse(&proto, None);
    OPERATORS.take();
    let mut model = parsed?.model;
    select(&mut model, signature)?;
    Ok(model)
}

fn build(
    _: &tract_onnx::model::ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let number = graph::attr(node, Operator::NUMBER).and_then(|it| usize::try_from(it.i).ok());
    let operator = OPERATORS.with_borrow(|it| number.and_then(|number| it.get(number).cloned()));
    let operator = operator.with_context(|| {
        format!("operator type {} is reserved; the file must not use it", Operator::TYPE)
    })?;
    Ok((expand(operator), vec![]))
}

impl Expansion for Operator {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.given(&inputs[0].shape, move |s, shape| {
            let sides = shape.iter().map(|it| Ok(it.to_usize()?));
            let shape = sides.collect::<TractResult<TVec<usize>>>()?;
            let out = self.0.shape(&[&shape])?;
            let out: TVec<TDim> = out.iter().map(ToDim::to_dim).collect();
            s.equals(&outputs[0].shape, out)
        })
    }
}

impl Op for Operator {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{:?}", self.0)])
    }

    op_as_typed_op!();
}

impl EvalOp for Operator {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(tvec![self.0.run(inputs)?.into_tvalue()])
    }
}

impl TypedOp for Operator {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shapes = inputs
            .iter()
            .map(|it| it.shape.as_concrete().context("shapes must be known"))
            .collect::<TractResult<TVec<_>>>()?;
        Ok(tvec![f32::fact(self.0.shape(&shapes)?)])
    }
}

pub(super) fn floats(value: &TValue) -> TractResult<&[f32]> {
    value.try_as_plain_ram()?.as_slice::<f32>()
}

/// A tensor of the shape, filled by `fill`.
pub(super) fn filled(
    shape: &[usize],
    fill: impl FnOnce(&mut [f32]) -> TractResult<()>,
) -> TractResult<Tensor> {
    // SAFETY: any bits are a float, and each kernel writes every entry before it reads one.
    #[expect(unsafe_code, reason = "tract offers no other way to a tensor without a first pass")]
    let mut out = unsafe { Tensor::uninitialized::<f32>(shape)? };
    fill(out.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?)?;
    Ok(out)
}

/// rows · weights + bias, activation, and a second input added where there is one.
#[derive(Debug)]
struct Linear {
    weights: Arc<Weights>,
    activation: Activation,
    has_residual: bool,
}

impl Linear {
    fn out(&self, input: &[usize]) -> TractResult<TVec<usize>> {
        let n_inputs = self.weights.n_inputs();
        let mut shape: TVec<usize> = input.into();
        let last = shape.last_mut().filter(|it| **it == n_inputs);
        let last = last.with_context(|| {
            format!("a linear layer of {n_inputs} inputs cannot take {input:?}")
        })?;
        *last = self.weights.n_outputs();
        Ok(shape)
    }
}

impl Kernel for Linear {
    fn name(&self) -> &'static str {
        "Linear"
    }

    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        let shape = self.out(inputs[0])?;
        check_residual(self.has_residual, inputs, &shape)?;
        Ok(shape)
    }

    fn run(&self, mut inputs: TVec<TValue>) -> TractResult<Tensor> {
        let residual = if self.has_residual { inputs.pop() } else { None };
        let shape = self.out(inputs[0].shape())?;
        ROWS.with_borrow_mut(|rows| {
            rows.quantize(floats(&inputs[0])?, &self.weights);
            into_output(&shape, residual, |output, out| {
                multiply(rows, &self.weights, self.activation, output, out);
            })
        })
    }

    fn with_residual(&self) -> Option<Operator> {
        (!self.has_residual).then(|| {
            Operator::of(Self { weights: self.weights.clone(), has_residual: true, ..*self })
        })
    }
}

fn check_residual(has: bool, inputs: &[&[usize]], shape: &[usize]) -> TractResult<()> {
    let expected = if has { 2 } else { 1 };
    ensure!(inputs.len() == expected, "an operator of {expected} inputs got {}", inputs.len());
    if let Some(residual) = inputs.get(1) {
        ensure!(*residual == shape, "a residual of {residual:?} cannot be added to {shape:?}");
    }
    Ok(())
}

/// Lets `compute` write a new tensor, or add to the residual, in place where nobody else has it.
fn into_output(
    shape: &[usize],
    residual: Option<TValue>,
    compute: impl FnOnce(Output, &mut [f32]),
) -> TractResult<Tensor> {
    let Some(residual) = residual else {
        return filled(shape, |out| {
            compute(Output::Set, out);
            Ok(())
        });
    };
    let mut out = residual.into_tensor();
    compute(Output::Add, out.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
    Ok(out)
}

/// A convolution, channels last, by the same layer on windows of the picture.
#[derive(Debug)]
struct Conv {
    weights: Arc<Weights>,
    slide: Slide,
    activation: Activation,
    has_residual: bool,
}

impl Conv {
    fn n_channels(&self) -> usize {
        self.weights.n_inputs() / (self.slide.size[0] * self.slide.size[1])
    }
}

impl Kernel for Conv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        let (n, window, _) = place(self.slide, self.n_channels(), inputs[0])?;
        let shape = tvec![n, window.out[0], window.out[1], self.weights.n_outputs()];
        check_residual(self.has_residual, inputs, &shape)?;
        Ok(shape)
    }

    fn run(&self, mut inputs: TVec<TValue>) -> TractResult<Tensor> {
        let residual = if self.has_residual { inputs.pop() } else { None };
        let n_channels = self.n_channels();
        let (n, window, picture) = place(self.slide, n_channels, inputs[0].shape())?;
        let values = floats(&inputs[0])?;
        let n_outputs = self.weights.n_outputs();
        let shape = [n, window.out[0], window.out[1], n_outputs];
        ROWS.with_borrow_mut(|rows| {
            into_output(&shape, residual, |output, out| {
                let mut patches = Patches::new(window);
                let out_len = window.out[0] * window.out[1] * n_outputs;
                let outs = out.chunks_exact_mut(out_len.max(1));
                for (values, out) in values.chunks_exact(picture.len().max(1)).zip(outs) {
                    if window.is_pixel(picture) {
                        rows.quantize_pixels(values, &self.weights);
                    } else {
                        patches.quantize(values, picture, &self.weights, rows);
                    }
                    multiply(rows, &self.weights, self.activation, output, out);
                }
            })
        })
    }

    fn with_residual(&self) -> Option<Operator> {
        (!self.has_residual).then(|| {
            Operator::of(Self { weights: self.weights.clone(), has_residual: true, ..*self })
        })
    }
}

/// Number of pictures, window and shape of each for pictures of `shape`, channels last.
fn place(slide: Slide, n_channels: usize, shape: &[usize]) -> TractResult<(usize, Window, Shape)> {
    let [n, height, width, channels] = *shape else {
        bail!("a convolution over pictures cannot take {shape:?}");
    };
    ensure!(channels == n_channels, "a convolution of {n_channels} channels cannot take {shape:?}");
    let Slide { size, step, pads: [top, left, bottom, right] } = slide;
    let side = |side: usize, pads: usize, axis: usize| -> TractResult<usize> {
        let room = (side + pads).checked_sub(size[axis]);
        let room = room.with_context(|| format!("a window of {size:?} does not fit {shape:?}"))?;
        Ok(room / step[axis] + 1)
    };
    let out = [side(height, top + bottom, 0)?, side(width, left + right, 1)?];
    let window = Window { size, step, before: [top, left], out };
    Ok((n, window, Shape { height, width, channels }))
}

/// A convolution with float weights, channels last.
#[derive(Debug)]
struct PictureConv {
    slide: Slide,
    n_channels: usize,
    n_outputs: usize,
    kernel: FloatKernel,
}

#[derive(Debug)]
enum FloatKernel {
    /// Each channel has a window of its own.
    Depthwise(Depthwise),
    /// Each output is a sum over all channels.
    Dense(FloatConv),
}

impl PictureConv {
    fn new(
        conv: graph::FloatConv,
        is_depthwise: bool,
        graph: &Graph,
        isa: Isa,
    ) -> Result<Self, EncoderError> {
        let graph::FloatConv { weights, slide, n_channels, bias, activation } = conv;
        let (size, n_outputs) = (slide.size, bias.len());
        let n_inputs = size[0] * size[1] * if is_depthwise { 1 } else { n_channels };
        if n_inputs * n_outputs != weights.len() || weights.is_empty() {
            let rule = format!("{n_inputs} weights for each of its {n_outputs} outputs");
            return Err(graph.fault("a convolution", &rule, weights.len().to_string()));
        }
        let kernel = if is_depthwise {
            FloatKernel::Depthwise(Depthwise::new(isa, size, &weights, bias, activation))
        } else {
            FloatKernel::Dense(FloatConv::new(isa, size, &weights, bias, activation))
        };
        Ok(Self { slide, n_channels, n_outputs, kernel })
    }
}

impl Kernel for PictureConv {
    fn name(&self) -> &'static str {
        match self.kernel {
            FloatKernel::Depthwise(_) => "DepthwiseConv",
            FloatKernel::Dense(_) => "FloatConv",
        }
    }

    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        check_residual(false, inputs, &[])?;
        let (n, window, _) = place(self.slide, self.n_channels, inputs[0])?;
        Ok(tvec![n, window.out[0], window.out[1], self.n_outputs])
    }

    fn run(&self, inputs: TVec<TValue>) -> TractResult<Tensor> {
        let input = &inputs[0];
        let (n, window, picture) = place(self.slide, self.n_channels, input.shape())?;
        let values = floats(input)?;
        filled(&[n, window.out[0], window.out[1], self.n_outputs], |out| {
            let out_len = window.out[0] * window.out[1] * self.n_outputs;
            let outs = out.chunks_exact_mut(out_len.max(1));
            for (values, out) in values.chunks_exact(picture.len().max(1)).zip(outs) {
                match &self.kernel {
                    FloatKernel::Depthwise(kernel) => kernel.run(window, values, picture, out),
                    FloatKernel::Dense(kernel) => kernel.run(window, values, picture, out),
                }
            }
            Ok(())
        })
    }
}

#[derive(Debug)]
struct LayerNorm {
    scale: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
    isa: Isa,
}

impl Kernel for LayerNorm {
    fn name(&self) -> &'static str {
        "LayerNorm"
    }

    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        check_residual(false, inputs, &[])?;
        let n = self.scale.len();
        ensure!(
            inputs[0].last() == Some(&n),
            "a normalization of {n} channels cannot take {:?}",
            inputs[0]
        );
        Ok(inputs[0].into())
    }

    fn run(&self, inputs: TVec<TValue>) -> TractResult<Tensor> {
        let values = floats(&inputs[0])?;
        filled(inputs[0].shape(), |out| {
            layer_norm(self.isa, values, &self.scale, &self.bias, self.epsilon, out);
            Ok(())
        })
    }
}

#[derive(Debug)]
struct Pointwise {
    activation: Activation,
    isa: Isa,
}

impl Kernel for Pointwise {
    fn name(&self) -> &'static str {
        "Activation"
    }

    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        check_residual(false, inputs, &[])?;
        Ok(inputs[0].into())
    }

    fn run(&self, mut inputs: TVec<TValue>) -> TractResult<Tensor> {
        let mut out = inputs.remove(0).into_tensor();
        self.activation.apply(self.isa, out.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
        Ok(out)
    }
}

/// Rows of a table of 8-bit integers, by their numbers.
struct Embedding {
    integers: Vec<i8>,
    scales: Vec<f32>,
}

impl Debug for Embedding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embedding({} rows)", self.scales.len())
    }
}

impl Kernel for Embedding {
    fn name(&self) -> &'static str {
        "Embedding"
    }

    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        check_residual(false, inputs, &[])?;
        let mut shape: TVec<usize> = inputs[0].into();
        shape.push(self.integers.len() / self.scales.len().max(1));
        Ok(shape)
    }

    fn run(&self, inputs: TVec<TValue>) -> TractResult<Tensor> {
        let ids = inputs[0].cast_to::<i64>()?;
        let ids = ids.try_as_plain_ram()?.as_slice::<i64>()?.to_vec();
        let n_channels = self.integers.len() / self.scales.len().max(1);
        filled(&self.shape(&[inputs[0].shape()])?, |out| {
            for (id, out) in ids.into_iter().zip(out.chunks_exact_mut(n_channels.max(1))) {
                let n_rows = self.scales.len();
                // Negative ones count from the end.
                let row = usize::try_from(id)
                    .ok()
                    .or_else(|| n_rows.checked_sub(usize::try_from(id.unsigned_abs()).ok()?));
                let row = row.filter(|it| *it < n_rows).with_context(|| {
                    format!("a token must be less than {n_rows}, the rows of its table, got {id}")
                })?;
                let integers = &self.integers[row * n_channels..(row + 1) * n_channels];
                for (out, integer) in out.iter_mut().zip(integers) {
                    *out = f32::from(*integer) * self.scales[row];
                }
            }
            Ok(())
        })
    }
}

/// Pictures turned from ONNX's order of axes (NCHW) to that of the kernels (NHWC), or back.
#[derive(Debug)]
struct Turn {
    to_last: bool,
}

impl Kernel for Turn {
    fn name(&self) -> &'static str {
        "Turn"
    }

    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        check_residual(false, inputs, &[])?;
        let [n, a, b, c] = *inputs[0] else { bail!("pictures have 4 axes, got {:?}", inputs[0]) };
        Ok(if self.to_last { tvec![n, b, c, a] } else { tvec![n, c, a, b] })
    }

    fn run(&self, inputs: TVec<TValue>) -> TractResult<Tensor> {
        let values = floats(&inputs[0])?;
        let [_, a, b, c] = *inputs[0].shape() else { bail!("pictures have 4 axes") };
        let (rows, columns) = if self.to_last { (a, b * c) } else { (a * b, c) };
        filled(&self.shape(&[inputs[0].shape()])?, |out| {
            let n = (rows * columns).max(1);
            for (picture, out) in values.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
                for (row, values) in picture.chunks_exact(columns).enumerate() {
                    let to = out[row..].iter_mut().step_by(rows);
                    to.zip(values).for_each(|(to, value)| *to = *value);
                }
            }
            Ok(())
        })
    }
}

/// The mean over a picture's area, channels last.
#[derive(Debug)]
struct Mean {
    keeps_axes: bool,
}

impl Kernel for Mean {
    fn name(&self) -> &'static str {
        "Mean"
    }

    fn shape(&self, inputs: &[&[usize]]) -> TractResult<TVec<usize>> {
        check_residual(false, inputs, &[])?;
        let [n, _, _, channels] = *inputs[0] else {
            bail!("a mean over a picture's area cannot take {:?}", inputs[0]);
        };
        Ok(if self.keeps_axes { tvec![n, 1, 1, channels] } else { tvec![n, channels] })
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of pixels")]
    fn run(&self, inputs: TVec<TValue>) -> TractResult<Tensor> {
        let values = floats(&inputs[0])?;
        let shape = inputs[0].shape();
        let (area, channels) = (shape[1] * shape[2], shape[3]);
        filled(&self.shape(&[shape])?, |out| {
            let pictures = values.chunks_exact((area * channels).max(1));
            for (picture, out) in pictures.zip(out.chunks_exact_mut(channels.max(1))) {
                out.fill(0.0);
                for pixel in picture.chunks_exact(channels) {
                    out.iter_mut().zip(pixel).for_each(|(out, value)| *out += value);
                }
                out.iter_mut().for_each(|it| *it /= area as f32);
            }
            Ok(())
        })
    }
}
