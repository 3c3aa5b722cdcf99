//! The table of a text tower that token ids are looked up in.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::check::place;
use super::file::fault;
use crate::EncoderError;

/// Every table that the ids of `input` are looked up in must have a row for `largest_id`. Tables
/// are found where ids take no other way to them than through what only arranges them.
pub(crate) fn check_ids(
    path: &Path,
    graph: &GraphProto,
    input: &str,
    largest_id: u32,
) -> Result<(), EncoderError> {
    let n_rows = i64::from(largest_id) + 1;
    let mut ids = HashSet::from([input]);
    let mut tables: HashMap<&str, i64> =
        graph.initializer.iter().filter_map(|it| Some((it.name.as_str(), rows(it)?))).collect();
    for node in &graph.node {
        let Some(output) = node.output.first() else { continue };
        let mut inputs = node.input.iter().map(String::as_str);
        let (first, second) = (inputs.next().unwrap_or_default(), inputs.next());
        let table = tables.get(first).copied();
        match (node.op_type.as_str(), table) {
            ("Constant", _) => {
                let value = node.attribute.iter().find_map(|it| it.t.as_ref());
                tables.extend(value.and_then(rows).map(|it| (output.as_str(), it)));
            }
            ("Cast" | "Identity" | "DequantizeLinear", Some(rows)) => {
                tables.insert(output, rows);
            }
            ("Cast" | "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten", _)
                if ids.contains(first) =>
            {
                ids.insert(output);
            }
            ("Gather", Some(rows))
                if rows < n_rows
                    && axis(node) == 0
                    && second.is_some_and(|it| ids.contains(it)) =>
            {
                let at = format!("the table {first:?} of {}", place(node));
                let rule = format!(
                    "of at least {n_rows} rows, because the largest token id is {largest_id}; \
                     take the tokenizer that belongs to the model"
                );
                return Err(fault(path, at, rule, rows));
            }
            _ => {}
        }
    }
    Ok(())
}

fn rows(tensor: &TensorProto) -> Option<i64> {
    tensor.dims.first().copied()
}

fn axis(node: &NodeProto) -> i64 {
    node.attribute.iter().find(|it| it.name == "axis").map_or(0, |it| it.i)
}
