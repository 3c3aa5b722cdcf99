//! ONNX files whose large tensors stay on the disk: reading and writing them without ever holding
//! a whole model.

mod check;
mod file;
mod operands;
mod rules;
#[cfg(test)]
pub(crate) mod sketch;
mod table;
#[cfg(test)]
mod tests;
mod wire;
mod write;

pub(crate) use check::{
    check_count, check_operators, check_values, inputs_of, name_nodes, retain_needed,
};
pub(crate) use file::{MAX_FILE_BYTES, MAX_OUTSIDE_BYTES, OnnxFile, Payloads, fault};
pub(crate) use operands::commute;
pub(crate) use rules::check_opset;
pub(crate) use table::check_ids;
pub(crate) use write::{OnnxWriter, Written};
