//! Recognizes activations by what they compute, not by how an exporter wrote them.
//!
//! A *cone* is a value with all the elementwise operators between it and the one value that it
//! depends on. It is evaluated at a few points; where it agrees with a known activation, it is one.

use lookout_kernels::Activation;
use tract_onnx::pb::NodeProto;

use super::graph::{Graph, Kind, attr};

/// Gelu by the error function has 5 operators, by tanh up to 9.
const MAX_NODES: usize = 10;

/// So far out that only a function without a bound goes along.
const FAR: f64 = 1e30;

/// Where cones and activations are compared.
const POINTS: [f64; 11] = [-7.0, -3.5, -2.9, -1.3, -0.4, 0.0, 0.3, 1.1, 2.7, 5.5, 7.0];

/// An activation with its cone.
pub(super) struct Cone {
    pub(super) input: String,
    pub(super) activation: Activation,
    /// The other nodes than the last one.
    pub(super) inner: Vec<usize>,
}

/// The activation that node `last` ends, if it ends one.
pub(super) fn activation(graph: &Graph, last: usize) -> Option<Cone> {
    let mut nodes = vec![last];
    // Going back from the last node, the node nearest to it goes first, so that a value on which
    // everything depends is met alone.
    loop {
        let mut open = open_values(graph, &nodes)?;
        if let [input] = open.as_slice()
            && let Some(activation) = compare(graph, &nodes, last, input)
        {
            let inner: Vec<usize> = nodes.into_iter().filter(|it| *it != last).collect();
            return Some(Cone { input: input.clone(), activation, inner });
        }
        open.sort_by_key(|it| graph.producer(it));
        let next = graph.producer(open.last()?)?;
        elementwise(graph, next)?;
        if nodes.len() == MAX_NODES || !is_closed(graph, next, &nodes) {
            return None;
        }
        nodes.push(next);
    }
}

/// Whether all readers of what `node` makes are in the cone.
fn is_closed(graph: &Graph, node: usize, nodes: &[usize]) -> bool {
    graph.node(node).is_some_and(|it| graph.is_read_within(&it.output, nodes))
}

/// Values that the cone reads, that are not constant and that no node of it makes.
fn open_values(graph: &Graph, nodes: &[usize]) -> Option<Vec<String>> {
    let mut open: Vec<String> = Vec::new();
    for node in nodes {
        for input in elementwise(graph, *node)?.input.iter().filter(|it| !it.is_empty()) {
            let is_inside = graph.producer(input).is_some_and(|it| nodes.contains(&it));
            if !is_inside && graph.constant(input).is_none() && !open.contains(input) {
                open.push(input.clone());
            }
        }
    }
    Some(open)
}

fn elementwise(graph: &Graph, idx: usize) -> Option<&NodeProto> {
    let Kind::Onnx(node) = &graph.node(idx)?.kind else { return None };
    const KNOWN: &[&str] = &[
        "Add",
        "Clip",
        "Div",
        "Erf",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Mul",
        "Neg",
        "Pow",
        "QuickGelu",
        "Relu",
        "Sigmoid",
        "Sub",
        "Tanh",
    ];
    (KNOWN.contains(&node.op_type.as_str()) && node.output.len() == 1).then_some(node)
}

fn compare(graph: &Graph, nodes: &[usize], last: usize, input: &str) -> Option<Activation> {
    let at = |x: f64| evaluate(graph, nodes, last, input, x, MAX_NODES);
    let values: Vec<f64> = POINTS.iter().map(|x| at(*x)).collect::<Option<_>>()?;
    let agrees = |activation: &Activation| {
        let exact = |(x, got): (&f64, &f64)| {
            let want = formula(*activation, *x);
            (want - got).abs() <= 2e-7 + 1e-6 * want.abs()
        };
        POINTS.iter().zip(&values).all(exact)
    };
    let known = [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Silu,
        Activation::HardSwish,
    ];
    if let Some(found) = known.into_iter().find(agrees) {
        return Some(found);
    }
    // Only what is written as bounds is taken for bounds: a small number that is added, or a slope
    // near 0, look alike at a few points.
    let is_bound = nodes.len() == 1
        && elementwise(graph, last)
            .is_some_and(|it| ["Relu", "Clip"].contains(&it.op_type.as_str()));
    if !is_bound {
        return None;
    }
    let (low, high) = (at(-FAR)?, at(FAR)?);
    #[expect(clippy::cast_possible_truncation, reason = "bounds are floats in the file")]
    let bound =
        |value: f64, infinite: f32| if FAR <= value.abs() { infinite } else { value as f32 };
    let clamp =
        Activation::Clamp { low: bound(low, f32::NEG_INFINITY), high: bound(high, f32::INFINITY) };
    Some(clamp).filter(agrees)
}

/// What `last` makes of `x`; `None` where the cone holds something that is not understood.
fn evaluate(
    graph: &Graph,
    nodes: &[usize],
    last: usize,
    input: &str,
    x: f64,
    depth: usize,
) -> Option<f64> {
    let depth = depth.checked_sub(1)?;
    let node = elementwise(graph, last)?;
    let value = |position: usize| -> Option<f64> {
        let name = node.input.get(position).filter(|it| !it.is_empty())?;
        if name == input {
            return Some(x);
        }
        // A constant of higher rank could raise the output's.
        if graph.dims(name).is_some_and(|it| it.len() <= 1)
            && let Some(scalar) = graph.scalar(name)
        {
            return Some(f64::from(scalar));
        }
        let producer = graph.producer(name).filter(|it| nodes.contains(it))?;
        evaluate(graph, nodes, producer, input, x, depth)
    };
    let float = |name: &str, default: f32| f64::from(attr(node, name).map_or(default, |it| it.f));
    let bound = |position: usize, name: &str, default: f64| -> Option<f64> {
        match node.input.get(position) {
            Some(it) if !it.is_empty() => Some(f64::from(graph.scalar(it)?)),
            _ => Some(attr(node, name).map_or(default, |it| f64::from(it.f))),
        }
    };
    let a = value(0)?;
    Some(match node.op_type.as_str() {
        "Add" => a + value(1)?,
        "Sub" => a - value(1)?,
        "Mul" => a * value(1)?,
        "Div" => a / value(1)?,
        "Pow" => a.powf(value(1)?),
        "Neg" => -a,
        "Relu" => a.max(0.0),
        "Clip" => a.max(bound(1, "min", f64::NEG_INFINITY)?).min(bound(2, "max", f64::INFINITY)?),
        "Sigmoid" => sigmoid(a),
        "Tanh" => a.tanh(),
        "Erf" => erf(a),
        "HardSigmoid" => (float("alpha", 0.2) * a + float("beta", 0.5)).clamp(0.0, 1.0),
        "HardSwish" => formula(Activation::HardSwish, a),
        "QuickGelu" => a * sigmoid(float("alpha", 1.702) * a),
        "Gelu" if attr(node, "approximate").is_some_and(|it| it.s == b"tanh") => {
            formula(Activation::GeluTanh, a)
        }
        "Gelu" => formula(Activation::Gelu, a),
        _ => return None,
    })
}

fn formula(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Clamp { low, high } => x.max(f64::from(low)).min(f64::from(high)),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::GeluTanh => {
            let y = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + y.tanh())
        }
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Silu => x * sigmoid(x),
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The error function: its Taylor series near 0, 1 beyond 6.
fn erf(x: f64) -> f64 {
    if 6.0 <= x.abs() {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}
