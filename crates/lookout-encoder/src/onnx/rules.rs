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

/// Windows, steps and groups must be such as a layer can have.
pub(super) fn check_attributes(path: &Path, node: &NodeProto) -> Result<(), EncoderError> {
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
        if let Some(value) = values.iter().find(|it| !(least..=MAX_SIZE).contains(*it)) {
            let rule = format!("{least} to {MAX_SIZE}; export the model again");
            return Err(fault(path, at(), rule, value));
        }
    }
    Ok(())
}
