//! Rules of single nodes that libraries take for granted: they divide by a zero, or pass over what
//! they do not know.

use std::ops::RangeInclusive;
use std::path::Path;

use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto};

use super::check::place;
use super::file::fault;
use crate::EncoderError;

/// Operators of com.microsoft that tract knows. It knows operators by their names alone.
const OF_MICROSOFT: [&str; 11] = [
    "BiasGelu",
    "FastGelu",
    "GatherBlockQuantized",
    "Gelu",
    "GroupQueryAttention",
    "MatMulNBits",
    "MultiHeadAttention",
    "QuickGelu",
    "RotaryEmbedding",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
];
/// What `auto_pad` may be.
const AUTO_PADS: [&str; 4] = ["NOTSET", "SAME_LOWER", "SAME_UPPER", "VALID"];
/// The largest side, step or number of groups of a layer.
const MAX_SIZE: i64 = 65_535;
/// The most positions of a window: time and memory go by them, for each place that it moves to.
const MAX_AREA: i64 = 1 << 18;

/// The set of ONNX's own operators must be one of `versions`.
pub(crate) fn check_opset(
    path: &Path,
    model: &ModelProto,
    versions: RangeInclusive<i64>,
) -> Result<(), EncoderError> {
    let opset = model.opset_import.iter().find(|it| is_standard(&it.domain));
    let version = opset.map(|it| it.version);
    if version.is_some_and(|it| versions.contains(&it)) {
        return Ok(());
    }
    let (first, last) = (versions.start(), versions.end());
    let rule = format!("{first} to {last}; export the model with one of them");
    let got = version.map_or("nothing".to_owned(), |it| it.to_string());
    Err(fault(path, "the operator set", rule, got))
}

fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Whether the node's operator is of a set that this program knows.
pub(super) fn is_of_known_set(node: &NodeProto) -> bool {
    let is_microsoft = node.domain == "com.microsoft";
    is_standard(&node.domain) || is_microsoft && OF_MICROSOFT.contains(&&*node.op_type)
}

/// What tract passes over: an attribute of an operator, or an input by its place.
fn check_heeded(path: &Path, node: &NodeProto) -> Result<(), EncoderError> {
    let is_recurrent = matches!(node.op_type.as_str(), "GRU" | "LSTM" | "RNN");
    for attribute in &node.attribute {
        let is_unheeded = match (node.op_type.as_str(), attribute.name.as_str()) {
            ("MultiHeadAttention", "unidirectional") | (_, "input_forget") => attribute.i != 0,
            (_, "direction") if is_recurrent => attribute.s == b"reverse",
            (_, "activations" | "activation_alpha" | "activation_beta" | "clip") => is_recurrent,
            _ => false,
        };
        if is_unheeded {
            let at = format!("`{}` of {}", attribute.name, place(node));
            let rule = "what it is by default, because tract knows no other; export the model \
                        without it, or try device \"ort-cpu\"";
            return Err(fault(path, at, rule, "another value"));
        }
    }
    let has_bias = node.input.get(3).is_some_and(|it| !it.is_empty());
    if node.op_type == "SkipSimplifiedLayerNormalization" && has_bias {
        let at = format!("input 3, the bias, of {}", place(node));
        let rule = "absent, because tract leaves it out; export the model without this operator, \
                    or try device \"ort-cpu\"";
        return Err(fault(path, at, rule, "one"));
    }
    Ok(())
}

/// Windows, steps and groups must be such as a layer can have.
pub(super) fn check_attributes(path: &Path, node: &NodeProto) -> Result<(), EncoderError> {
    check_heeded(path, node)?;
    for attribute in &node.attribute {
        let AttributeProto { name, i, ints, s, .. } = attribute;
        let at = || format!("`{name}` of {}", place(node));
        let (least, values) = match name.as_str() {
            "kernel_shape" | "strides" | "dilations" => (1, ints.as_slice()),
            "pads" if node.op_type != "Pad" => (0, ints.as_slice()),
            "group" | "num_groups" | "num_heads" | "num_outputs" | "blocksize" => {
                (1, std::slice::from_ref(i))
            }
            "auto_pad" => {
                let text = String::from_utf8_lossy(s);
                if !AUTO_PADS.contains(&&*text) {
                    let rule = format!("{}; export the model again", AUTO_PADS.join(", "));
                    return Err(fault(path, at(), rule, format!("{text:?}")));
                }
                continue;
            }
            _ => continue,
        };
        let area = values.iter().try_fold(1i64, |area, it| area.checked_mul(*it));
        if name == "kernel_shape" && area.is_none_or(|it| MAX_AREA < it) {
            let rule = format!("of at most {MAX_AREA} positions; export the model again");
            return Err(fault(path, at(), rule, format!("{values:?}")));
        }
        if let Some(value) = values.iter().find(|it| !(least..=MAX_SIZE).contains(*it)) {
            let rule = format!("{least} to {MAX_SIZE}; export the model again");
            return Err(fault(path, at(), rule, value));
        }
    }
    Ok(())
}
