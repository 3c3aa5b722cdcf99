//! ONNX files whose large tensors stay on the disk: reading and writing them without ever holding
//! a whole model.

mod file;
#[cfg(test)]
mod tests;
mod wire;
mod write;

pub(crate) use file::{OnnxFile, Payloads, fault};
pub(crate) use write::{OnnxWriter, Written};
