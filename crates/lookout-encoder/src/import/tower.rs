//! One tower of a model: a graph with the inputs and the output that an encoder needs.

use std::path::Path;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{AttributeProto, NodeProto, ValueInfoProto};

use super::graph::FloatModel;
use super::json::Faults;
use crate::EncoderError;

/// A graph that is cut to one output, and its inputs by their roles.
pub(crate) struct Tower {
    pub(crate) float: FloatModel,
    pub(crate) output: String,
    /// The picture, or the token ids.
    pub(crate) input: Input,
    /// The attention mask.
    pub(crate) mask: Option<String>,
}

/// An input of a graph.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Input {
    pub(crate) name: String,
    data_type: i32,
    /// The fixed dimensions; `None` for one that is free.
    pub(crate) dims: Vec<Option<u32>>,
}

/// Which half of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Image,
    Text,
}

impl Tower {
    /// Opens `dir/name`. Its output is the first of `outputs` that it has, or the only one.
    pub(crate) fn open(
        dir: &Path,
        name: &str,
        half: Half,
        outputs: &[&str],
        faults: &mut Faults,
    ) -> Result<Option<Self>, EncoderError> {
        let mut float = FloatModel::open(&dir.join(name))?;
        let have: Vec<String> = float.graph()?.output.iter().map(|it| it.name.clone()).collect();
        let known = outputs.iter().find(|it| have.iter().any(|have| have == *it));
        let output = match (known, have.as_slice()) {
            (Some(output), _) => (*output).to_owned(),
            (None, [only]) => only.clone(),
            _ => {
                let rule = format!("an output named {}, or a single one", outputs.join(" or "));
                faults.add(format!("{name}: outputs"), rule, have.join(", "));
                return Ok(None);
            }
        };
        float.cut(&output)?;
        let inputs: Vec<Input> = float.graph()?.input.iter().map(Input::of).collect();
        let is_mask = |it: &Input| half == Half::Text && it.name == "attention_mask";
        let (mask, rest): (Vec<Input>, Vec<Input>) = inputs.into_iter().partition(is_mask);
        let names = || rest.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ");
        let (kinds, rule): (&[DataType], _) = match half {
            Half::Image => (&[DataType::Float], "one input, the picture's floats"),
            Half::Text => (
                &[DataType::Int64, DataType::Int32],
                "one input, the token ids, and at most an attention_mask",
            ),
        };
        let key = format!("{name}: inputs of {output:?}");
        let [input] = rest.as_slice() else {
            faults.add(key, rule, names());
            return Ok(None);
        };
        let types = mask.iter().chain([input]).map(|it| it.data_type);
        if types.into_iter().any(|it| !kinds.iter().any(|kind| *kind as i32 == it)) {
            faults.add(key, rule, names());
            return Ok(None);
        }
        let rank = if half == Half::Image { 4 } else { 2 };
        let batch = input.dims.first().copied().flatten();
        if input.dims.len() != rank || batch.is_some_and(|it| it != 1) {
            let rule = format!("{rank} dimensions, the first of them 1 or free");
            faults.add(format!("{name}: input {:?}", input.name), rule, shape(&input.dims));
            return Ok(None);
        }
        for it in mask.iter().chain([input]) {
            if it.data_type == DataType::Int32 as i32 {
                float.take_long(&it.name)?;
            }
        }
        let (input, mask) = (input.clone(), mask.into_iter().next().map(|it| it.name));
        Ok(Some(Self { float, output, input, mask }))
    }

    /// Checks the sides of the picture that the graph has fixed.
    pub(crate) fn check_size(&self, size_px: u32, faults: &mut Faults) {
        let expected = [None, Some(3), Some(size_px), Some(size_px)];
        let fits = self
            .input
            .dims
            .iter()
            .zip(expected)
            .all(|(dim, expected)| dim.is_none() || expected.is_none() || *dim == expected);
        if !fits {
            let name = self.float.path.file_name().unwrap_or_default().to_string_lossy();
            let key = format!("{name}: input {:?}", self.input.name);
            let rule = format!("1 x 3 x {size_px} x {size_px}, as the pictures are prepared");
            faults.add(key, rule, shape(&self.input.dims));
        }
    }
}

fn shape(dims: &[Option<u32>]) -> String {
    let dim = |it: &Option<u32>| it.map_or("free".to_owned(), |it| it.to_string());
    dims.iter().map(dim).collect::<Vec<_>>().join(" x ")
}

impl Input {
    fn of(info: &ValueInfoProto) -> Self {
        let mut input = Self { name: info.name.clone(), data_type: 0, dims: Vec::new() };
        if let Some(Value::TensorType(it)) = info.r#type.as_ref().and_then(|it| it.value.as_ref()) {
            input.data_type = it.elem_type;
            let dims = it.shape.iter().flat_map(|it| &it.dim);
            input.dims = dims
                .map(|it| match &it.value {
                    Some(dimension::Value::DimValue(value)) => {
                        u32::try_from(*value).ok().filter(|it| 0 < *it)
                    }
                    _ => None,
                })
                .collect();
        }
        input
    }
}

impl FloatModel {
    /// Lets the 32-bit input `name` take 64-bit whole numbers, as all other token ids are.
    fn take_long(&mut self, name: &str) -> Result<(), EncoderError> {
        self.graph()?;
        let Some(graph) = &mut self.model.graph else { return Ok(()) };
        for info in graph.input.iter_mut().filter(|it| it.name == name) {
            if let Some(Value::TensorType(it)) =
                info.r#type.as_mut().and_then(|it| it.value.as_mut())
            {
                it.elem_type = DataType::Int64 as i32;
            }
        }
        let short = format!("{name}_int32");
        for input in graph.node.iter_mut().flat_map(|it| &mut it.input) {
            if input == name {
                input.clone_from(&short);
            }
        }
        let cast = NodeProto {
            name: format!("{short}/Cast"),
            op_type: "Cast".to_owned(),
            input: vec![name.to_owned()],
            output: vec![short],
            attribute: vec![AttributeProto {
                name: "to".to_owned(),
                r#type: AttributeType::Int as i32,
                i: DataType::Int32 as i64,
                ..AttributeProto::default()
            }],
            ..NodeProto::default()
        };
        graph.node.insert(0, cast);
        Ok(())
    }
}
