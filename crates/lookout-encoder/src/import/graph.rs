//! A float graph made ready for the quantizer: 32-bit floats throughout, constants among the
//! initializers, and nothing that the wanted output does not need.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, ValueInfoProto};
use tract_onnx::prelude::f16;

use crate::EncoderError;
use crate::onnx::{
    OnnxFile, Payloads, check_count, check_operators, check_opset, check_values, fault,
    retain_needed,
};

/// Operator sets whose operators mean what this program takes them to mean.
const OPSETS: std::ops::RangeInclusive<i64> = 13..=22;

/// A model whose weights are still on the disk. Weights that the file holds in 16 bits are given
/// in 32.
pub(crate) struct FloatModel {
    pub(crate) path: PathBuf,
    pub(crate) model: ModelProto,
    payloads: Payloads,
    /// The tensors in files that have 16 bits there.
    halves: BTreeMap<String, DataType>,
}

impl FloatModel {
    /// Reads the graph of the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, EncoderError> {
        let OnnxFile { model, payloads } = OnnxFile::open(path)?;
        let path = path.to_owned();
        let mut float = Self { path, model, payloads, halves: BTreeMap::new() };
        float.check()?;
        float.hoist()?;
        float.widen()?;
        Ok(float)
    }

    fn check(&self) -> Result<(), EncoderError> {
        check_opset(&self.path, &self.model, OPSETS)?;
        if !self.model.functions.is_empty() {
            let rule = "without functions of its own; export it with them inlined";
            return Err(fault(&self.path, "the model", rule, self.model.functions.len()));
        }
        check_values(&self.path, self.graph()?)
    }

    /// The graph. Reading made sure that there is one.
    pub(crate) fn graph(&self) -> Result<&GraphProto, EncoderError> {
        let none = || fault(&self.path, "the file", "a model with a graph", "none");
        self.model.graph.as_ref().ok_or_else(none)
    }

    fn graph_mut(&mut self) -> Result<&mut GraphProto, EncoderError> {
        let none = fault(&self.path, "the file", "a model with a graph", "none");
        self.model.graph.as_mut().ok_or(none)
    }

    /// SHA-256 of the file, 64 lower-case hexadecimal digits.
    pub(crate) fn sha256(&self) -> &str {
        self.payloads.sha256()
    }

    /// Name and SHA-256 of every other file that weights are in.
    pub(crate) fn outside_files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.payloads.outside_files()
    }

    /// Turns constants whose bytes are in a file into initializers.
    fn hoist(&mut self) -> Result<(), EncoderError> {
        let mut hoisted = Vec::new();
        let mut moves = Vec::new();
        let payloads = &self.payloads;
        let Some(graph) = &mut self.model.graph else { return Ok(()) };
        graph.node.retain_mut(|node| {
            if node.op_type != "Constant" || !node.domain.is_empty() {
                return true;
            }
            let [attribute] = node.attribute.as_mut_slice() else { return true };
            let [output] = node.output.as_slice() else { return true };
            let Some(tensor) = &mut attribute.t else { return true };
            if payloads.len(&tensor.name).is_none() {
                return true;
            }
            moves.push((tensor.name.clone(), output.clone()));
            hoisted.push(TensorProto { name: output.clone(), ..std::mem::take(tensor) });
            false
        });
        graph.initializer.append(&mut hoisted);
        for (from, to) in moves {
            if !self.payloads.rename(&from, &to) {
                let at = format!("the constant {to:?}");
                return Err(fault(&self.path, at, "the only tensor of its name", "another"));
            }
        }
        Ok(())
    }

    /// Makes every 16-bit float a 32-bit one.
    fn widen(&mut self) -> Result<(), EncoderError> {
        let Self { path, model, payloads, halves } = self;
        let Some(graph) = &mut model.graph else { return Ok(()) };
        widen_graph(graph, &mut |tensor| {
            let Some(half) = half(tensor.data_type) else { return Ok(()) };
            if payloads.len(&tensor.name).is_some() {
                halves.insert(tensor.name.clone(), half);
            } else if !tensor.raw_data.is_empty() {
                tensor.raw_data = single(&tensor.raw_data, half);
            } else {
                let low = |it: &i32| u16::try_from(it & 0xffff).unwrap_or_default().to_le_bytes();
                let bytes: Vec<u8> = tensor.int32_data.iter().flat_map(low).collect();
                tensor.int32_data = Vec::new();
                tensor.raw_data = single(&bytes, half);
            }
            tensor.data_type = DataType::Float as i32;
            Ok(())
        })
        .map_err(|got: String| fault(path, "the model", "one of 32-bit or 16-bit floats", got))
    }

    /// Leaves of the graph what the output `output` needs.
    pub(crate) fn cut(&mut self, output: &str) -> Result<(), EncoderError> {
        let graph = self.graph_mut()?;
        graph.output.retain(|it| it.name == output);
        if graph.output.len() != 1 {
            let at = format!("output {output:?}");
            return Err(fault(&self.path, at, "one of the model's", "nothing"));
        }
        prune(graph);
        check_count(&self.path, self.graph()?)?;
        let known = tract_onnx::onnx().op_register;
        let is_known = |it: &str| known.0.contains_key(it);
        let advice = "export the model with the standard operators of ONNX";
        check_operators(&self.path, self.graph()?, &is_known, advice)
    }

    /// The initializer `name`.
    pub(crate) fn initializer(&self, name: &str) -> Option<&TensorProto> {
        self.model.graph.as_ref()?.initializer.iter().find(|it| it.name == name)
    }

    /// The bytes that the tensor has when it is written; `None` for one that is in the graph.
    pub(crate) fn len(&self, name: &str) -> Option<u64> {
        let factor = if self.halves.contains_key(name) { 2 } else { 1 };
        self.payloads.len(name).map(|it| it * factor)
    }

    /// The bytes of a tensor that is in a file, 16-bit floats as 32-bit ones.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, EncoderError> {
        let bytes = self.payloads.read(name)?;
        Ok(self.halves.get(name).map(|half| single(&bytes, *half)).unwrap_or(bytes))
    }

    /// The 32-bit floats of an initializer, as bytes.
    pub(crate) fn floats(&self, tensor: &TensorProto) -> Result<Vec<u8>, EncoderError> {
        if self.payloads.len(&tensor.name).is_some() {
            return self.read(&tensor.name);
        }
        if tensor.raw_data.is_empty() {
            return Ok(tensor.float_data.iter().flat_map(|it| it.to_le_bytes()).collect());
        }
        Ok(tensor.raw_data.clone())
    }

    /// The whole model in memory.
    pub(crate) fn whole(&self) -> Result<ModelProto, EncoderError> {
        let mut model = self.model.clone();
        for tensor in model.graph.iter_mut().flat_map(|it| &mut it.initializer) {
            if self.payloads.len(&tensor.name).is_some() {
                tensor.raw_data = self.read(&tensor.name)?;
            }
        }
        Ok(model)
    }
}

fn half(data_type: i32) -> Option<DataType> {
    let kind = DataType::try_from(data_type).ok()?;
    matches!(kind, DataType::Float16 | DataType::Bfloat16).then_some(kind)
}

/// 16-bit floats as 32-bit ones, which hold them exactly.
fn single(bytes: &[u8], half: DataType) -> Vec<u8> {
    let widen = |it: &[u8]| {
        let bits = u16::from_le_bytes([it[0], it[1]]);
        let value = match half {
            DataType::Bfloat16 => f32::from_bits(u32::from(bits) << 16),
            _ => f16::from_bits(bits).to_f32(),
        };
        value.to_le_bytes()
    };
    bytes.chunks_exact(2).flat_map(widen).collect()
}

fn widen_graph(
    graph: &mut GraphProto,
    widen: &mut impl FnMut(&mut TensorProto) -> Result<(), String>,
) -> Result<(), String> {
    for tensor in &mut graph.initializer {
        widen(tensor)?;
    }
    let infos = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
    for info in infos {
        if let Some(Value::TensorType(it)) = info.r#type.as_mut().and_then(|it| it.value.as_mut())
            && half(it.elem_type).is_some()
        {
            it.elem_type = DataType::Float as i32;
        }
    }
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            let names_type = matches!(attribute.name.as_str(), "to" | "dtype" | "output_dtype");
            let data_type = i32::try_from(attribute.i).unwrap_or_default();
            if names_type && half(data_type).is_some() {
                attribute.i = DataType::Float as i64;
            }
            for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
                widen(tensor)?;
            }
            for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                widen_graph(graph, widen)?;
            }
        }
    }
    Ok(())
}

/// Drops nodes, initializers and inputs that no output needs.
pub(crate) fn prune(graph: &mut GraphProto) {
    let needed = retain_needed(graph);
    graph.initializer.retain(|it| needed.contains(&it.name));
    let is_needed = |it: &ValueInfoProto| needed.contains(&it.name);
    graph.input.retain(is_needed);
    // Nothing needs the shapes written beside the graph, and some are not true any more.
    graph.value_info.clear();
    graph.quantization_annotation.clear();
}

/// The whole numbers of a constant of the graph.
pub(crate) fn whole_numbers(tensor: &TensorProto) -> Option<Vec<i64>> {
    if tensor.data_type != DataType::Int64 as i32 {
        return None;
    }
    if tensor.raw_data.is_empty() {
        return Some(tensor.int64_data.clone());
    }
    let value = |it: &[u8]| Some(i64::from_le_bytes(it.try_into().ok()?));
    tensor.raw_data.chunks_exact(8).map(value).collect()
}
