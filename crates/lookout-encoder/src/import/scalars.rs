//! The logit scale and bias that a model was trained to, from where a folder of exports has them.
//!
//! `logit_scale_init_value` of `config.json` is not such a place: it is the value before training
//! (14.3 for every CLIP, where the trained models have about 100).

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::Value;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};
use tract_onnx::prelude::f16;

use super::graph::FloatModel;
use crate::EncoderError;
use crate::bundle::open_file;

/// The largest header of a file of weights, in bytes.
const MAX_HEADER_BYTES: u64 = 64 << 20;
/// The largest file of weights, in bytes.
const MAX_WEIGHTS_BYTES: u64 = 1 << 40;

/// What turns a cosine into a logit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Scalars {
    /// Linear.
    pub(crate) scale: Option<f64>,
    pub(crate) bias: Option<f64>,
}

/// Reads `logit_scale` (kept as its natural logarithm) and `logit_bias` from a safetensors file,
/// and nothing else of it. `Err` of a text says what is wrong with the file.
pub(crate) fn from_safetensors(path: &Path) -> Result<Result<Scalars, String>, EncoderError> {
    let file = open_file(path, MAX_WEIGHTS_BYTES)?;
    let read_error = |source| EncoderError::Read { path: path.to_owned(), source };
    let file_len = file.metadata().map_err(read_error)?.len();
    let mut len = [0; 8];
    if file_len < len.len() as u64 {
        return Ok(Err(format!("{file_len} bytes")));
    }
    file.read_exact_at(&mut len, 0).map_err(read_error)?;
    let header_len = u64::from_le_bytes(len);
    if MAX_HEADER_BYTES < header_len || file_len - 8 < header_len {
        return Ok(Err(format!("a header of {header_len} bytes")));
    }
    let mut header = vec![0; usize::try_from(header_len).unwrap_or_default()];
    file.read_exact_at(&mut header, 8).map_err(read_error)?;
    let header: HashMap<String, Value> = match serde_json::from_slice(&header) {
        Ok(header) => header,
        Err(err) => return Ok(Err(format!("a header that is no JSON object: {err}"))),
    };
    let scalar = |name: &str| -> Result<Option<f64>, EncoderError> {
        let Some(entry) = header.get(name) else { return Ok(None) };
        let offset = |idx: usize| entry["data_offsets"][idx].as_u64();
        let (Some(start), Some(end)) = (offset(0), offset(1)) else { return Ok(Some(f64::NAN)) };
        let mut bytes = [0; 8];
        let (n, value): (usize, fn([u8; 8]) -> f64) = match entry["dtype"].as_str() {
            Some("F64") => (8, f64::from_le_bytes),
            Some("F32") => (4, |it| f64::from(f32::from_le_bytes([it[0], it[1], it[2], it[3]]))),
            Some("F16") => (2, |it| f16::from_bits(u16::from_le_bytes([it[0], it[1]])).to_f64()),
            Some("BF16") => (2, |it| f64::from(f32::from_le_bytes([0, 0, it[0], it[1]]))),
            _ => return Ok(Some(f64::NAN)),
        };
        let at = start.checked_add(8 + header_len).filter(|it| *it <= file_len);
        let (Some(at), Some(true)) = (at, end.checked_sub(start).map(|it| it == n as u64)) else {
            return Ok(Some(f64::NAN));
        };
        file.read_exact_at(&mut bytes[..n], at).map_err(read_error)?;
        Ok(Some(value(bytes)))
    };
    let scale = scalar("logit_scale")?.map(f64::exp);
    let bias = scalar("logit_bias")?;
    for (name, value) in [("logit_scale", scale), ("logit_bias", bias)] {
        if value.is_some_and(|it| !it.is_finite()) {
            return Ok(Err(format!("a tensor {name} that is not one finite float")));
        }
    }
    Ok(Ok(Scalars { scale, bias }))
}

/// Finds both in a graph that ends with both towers' logits: the factor and the term on the way
/// from the product of the embeddings to the output.
pub(crate) fn from_graph(model: &FloatModel) -> Result<Scalars, EncoderError> {
    let graph = model.graph()?;
    let mut scalars = Scalars::default();
    for output in ["logits_per_text", "logits_per_image"] {
        let mut value = output.to_owned();
        // The way is short; a graph that goes in circles ends it too.
        for _ in 0..16 {
            let Some(node) = graph.node.iter().find(|it| it.output.contains(&value)) else { break };
            let next = match (node.op_type.as_str(), node.input.as_slice()) {
                ("Transpose" | "Identity" | "Cast", [input, ..]) => input.clone(),
                ("Mul" | "Add", [left, right]) => {
                    let (number, other) = match (constant(graph, left), constant(graph, right)) {
                        (Some(number), None) => (number, right),
                        (None, Some(number)) => (number, left),
                        _ => break,
                    };
                    if node.op_type == "Mul" {
                        scalars.scale = scalars.scale.or(Some(number));
                    } else {
                        scalars.bias = scalars.bias.or(Some(number));
                    }
                    other.clone()
                }
                ("MatMul", [left, _]) => {
                    // Some multiply the text embeddings beforehand.
                    let producer = graph.node.iter().find(|it| it.output.contains(left));
                    match producer.filter(|it| it.op_type == "Mul" && scalars.scale.is_none()) {
                        Some(node) => {
                            scalars.scale = factor(graph, node);
                            break;
                        }
                        None => break,
                    }
                }
                _ => break,
            };
            value = next;
        }
        if scalars.scale.is_some() {
            break;
        }
        scalars = Scalars::default();
    }
    Ok(scalars)
}

fn factor(graph: &GraphProto, node: &NodeProto) -> Option<f64> {
    node.input.iter().find_map(|it| constant(graph, it))
}

/// The number behind `name`, a constant of one element or the exponential of one.
fn constant(graph: &GraphProto, name: &str) -> Option<f64> {
    if let Some(tensor) = graph.initializer.iter().find(|it| it.name == name) {
        return number(tensor);
    }
    let node = graph.node.iter().find(|it| it.output.iter().any(|it| it == name))?;
    match node.op_type.as_str() {
        "Constant" => {
            let attribute = node.attribute.first()?;
            match attribute.name.as_str() {
                "value" => number(attribute.t.as_ref()?),
                "value_float" => Some(f64::from(attribute.f)),
                _ => None,
            }
        }
        "Exp" => constant(graph, node.input.first()?).map(f64::exp),
        "Identity" | "Cast" => constant(graph, node.input.first()?),
        _ => None,
    }
}

fn number(tensor: &TensorProto) -> Option<f64> {
    let is_float = tensor.data_type == tract_onnx::pb::tensor_proto::DataType::Float as i32;
    let value = match (tensor.raw_data.as_slice(), tensor.float_data.as_slice()) {
        (raw, []) => f32::from_le_bytes(raw.try_into().ok()?),
        (_, [value]) => *value,
        _ => return None,
    };
    (is_float && value.is_finite()).then(|| f64::from(value))
}
