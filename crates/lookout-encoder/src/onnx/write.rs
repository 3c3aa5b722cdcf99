//! Writes an ONNX file whose large tensors come one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use sha2::{Digest, Sha256};
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};

use super::file::fault;
use crate::EncoderError;
use crate::bundle::hex;

/// Field numbers of onnx.proto.
const MODEL_GRAPH: u32 = 7;
const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_RAW_DATA: u32 = 9;
/// The largest file, in bytes: what protobuf can hold.
const MAX_FILE_BYTES: u64 = (2 << 30) - 1;
/// What the name of a file begins and ends with that is being written.
const PREFIX: &str = ".lookout-";
const SUFFIX: &str = ".tmp";

/// A model to write: the graph, and how long those of its initializers are whose bytes come
/// later.
pub(crate) struct OnnxWriter<'a> {
    model: &'a ModelProto,
    lens: &'a BTreeMap<String, u64>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// 64 lower-case hexadecimal digits.
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
}

impl<'a> OnnxWriter<'a> {
    /// `lens` names initializers of the graph that have no data, each with its bytes.
    pub(crate) fn new(model: &'a ModelProto, lens: &'a BTreeMap<String, u64>) -> Self {
        Self { model, lens }
    }

    /// Whether a file that is being written can have this name.
    pub(crate) fn is_temporary(name: &str) -> bool {
        name.starts_with(PREFIX) && name.ends_with(SUFFIX)
    }

    /// Writes `path` through a temporary file beside it: on an error that file is gone and
    /// `path` is as it was. `payload` gives the bytes of one tensor; it is called once for each,
    /// in the order of the initializers.
    pub(crate) fn write(
        &self,
        path: &Path,
        mut payload: impl FnMut(&str) -> Result<Vec<u8>, EncoderError>,
    ) -> Result<Written, EncoderError> {
        let write_error = |source| EncoderError::Write { path: path.to_owned(), source };
        let parts = self.parts(path)?;
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let mut temporary = tempfile::Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(folder)
            .map_err(write_error)?;
        let mut sink = Sink::new(temporary.as_file_mut());
        self.body(path, &parts, &mut sink, &mut payload)?;
        let written = sink.finish().map_err(write_error)?;
        temporary.as_file().sync_all().map_err(write_error)?;
        temporary.persist(path).map_err(|err| write_error(err.error))?;
        File::open(folder).and_then(|it| it.sync_all()).map_err(write_error)?;
        Ok(written)
    }

    fn body(
        &self,
        path: &Path,
        parts: &Parts,
        sink: &mut Sink<'_>,
        payload: &mut impl FnMut(&str) -> Result<Vec<u8>, EncoderError>,
    ) -> Result<(), EncoderError> {
        let write_error = |source| EncoderError::Write { path: path.to_owned(), source };
        let Parts { head, graph_head, graph_len } = parts;
        sink.put(head).map_err(write_error)?;
        sink.header(MODEL_GRAPH, *graph_len).map_err(write_error)?;
        sink.put(graph_head).map_err(write_error)?;
        for tensor in self.initializers() {
            sink.header(GRAPH_INITIALIZER, self.tensor_len(tensor)).map_err(write_error)?;
            sink.put(&tensor.encode_to_vec()).map_err(write_error)?;
            let Some(len) = self.lens.get(&tensor.name) else { continue };
            let bytes = payload(&tensor.name)?;
            if bytes.len() as u64 != *len {
                let at = format!("tensor {:?}", tensor.name);
                let rule = format!("of {len} bytes, as announced");
                return Err(fault(path, at, rule, bytes.len()));
            }
            sink.header(TENSOR_RAW_DATA, *len).map_err(write_error)?;
            sink.put(&bytes).map_err(write_error)?;
        }
        Ok(())
    }

    fn initializers(&self) -> impl Iterator<Item = &'a TensorProto> {
        self.model.graph.iter().flat_map(|it| &it.initializer)
    }

    /// The bytes of an initializer with its payload.
    fn tensor_len(&self, tensor: &TensorProto) -> u64 {
        let payload = self.lens.get(&tensor.name);
        let payload = payload.map_or(0, |len| header_len(TENSOR_RAW_DATA, *len) + len);
        tensor.encoded_len() as u64 + payload
    }

    /// Encodes all but the initializers, and checks that these are as announced.
    fn parts(&self, path: &Path) -> Result<Parts, EncoderError> {
        let Some(graph) = &self.model.graph else {
            return Err(fault(path, "the model", "one with a graph", "none"));
        };
        let mut missing: BTreeSet<&str> = self.lens.keys().map(String::as_str).collect();
        let mut graph_len = 0;
        for tensor in &graph.initializer {
            let len = self.tensor_len(tensor);
            graph_len += header_len(GRAPH_INITIALIZER, len) + len;
            let is_new = missing.remove(tensor.name.as_str());
            if self.lens.contains_key(&tensor.name) && !(is_new && tensor.raw_data.is_empty()) {
                let rule = "the only one of its name, and without data in the graph";
                return Err(fault(path, format!("tensor {:?}", tensor.name), rule, "another"));
            }
        }
        if let Some(name) = missing.first() {
            return Err(fault(path, format!("tensor {name:?}"), "in the graph", "nothing"));
        }
        let graph_head = GraphProto {
            node: graph.node.clone(),
            name: graph.name.clone(),
            initializer: Vec::new(),
            sparse_initializer: graph.sparse_initializer.clone(),
            doc_string: graph.doc_string.clone(),
            input: graph.input.clone(),
            output: graph.output.clone(),
            value_info: graph.value_info.clone(),
            quantization_annotation: graph.quantization_annotation.clone(),
        }
        .encode_to_vec();
        graph_len += graph_head.len() as u64;
        let head = ModelProto {
            ir_version: self.model.ir_version,
            opset_import: self.model.opset_import.clone(),
            producer_name: self.model.producer_name.clone(),
            producer_version: self.model.producer_version.clone(),
            domain: self.model.domain.clone(),
            model_version: self.model.model_version,
            doc_string: self.model.doc_string.clone(),
            graph: None,
            metadata_props: self.model.metadata_props.clone(),
            training_info: self.model.training_info.clone(),
            functions: self.model.functions.clone(),
        }
        .encode_to_vec();
        let len = head.len() as u64 + header_len(MODEL_GRAPH, graph_len) + graph_len;
        if MAX_FILE_BYTES < len {
            let rule = format!("at most {MAX_FILE_BYTES} bytes, the most that protobuf holds");
            return Err(fault(path, "the file", rule, len));
        }
        Ok(Parts { head, graph_head, graph_len })
    }
}

/// The encoded model without its graph, the graph without its initializers, and the bytes of the
/// whole graph.
struct Parts {
    head: Vec<u8>,
    graph_head: Vec<u8>,
    graph_len: u64,
}

fn header_len(field: u32, len: u64) -> u64 {
    (key_len(field) + encoded_len_varint(len)) as u64
}

/// Buffers, hashes and counts what is written.
struct Sink<'a> {
    writer: BufWriter<&'a mut File>,
    hasher: Sha256,
    bytes: u64,
}

impl<'a> Sink<'a> {
    fn new(file: &'a mut File) -> Self {
        Self { writer: BufWriter::new(file), hasher: Sha256::new(), bytes: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.writer.write_all(bytes)
    }

    fn header(&mut self, field: u32, len: u64) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(10);
        encode_key(field, WireType::LengthDelimited, &mut bytes);
        encode_varint(len, &mut bytes);
        self.put(&bytes)
    }

    fn finish(mut self) -> io::Result<Written> {
        self.writer.flush()?;
        Ok(Written { sha256: hex(&self.hasher.finalize()), bytes: self.bytes })
    }
}
