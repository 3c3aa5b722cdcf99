//! An ONNX file read in one pass: the graph in memory, the bytes of large tensors still in the
//! file, everything hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

use super::wire::{MARK, PAYLOAD_BYTES, Place, RuleError, Skeleton, Stream, WalkError, walk};
use crate::EncoderError;
use crate::bundle::{hex, open_file};

/// The largest ONNX file, in bytes: what protobuf can hold.
pub(crate) const MAX_FILE_BYTES: u64 = (2 << 30) - 1;
/// The largest file of external data, in bytes.
pub(crate) const MAX_OUTSIDE_BYTES: u64 = 64 << 30;

/// An ONNX file whose graph is in memory while its large tensors are not.
///
/// Its messages hold every field that tract knows but comments. A tensor with its bytes left in a
/// file keeps name, dimensions and data type, has no data, and is found by its name in
/// [`Payloads`]. Tensors without a name of their own, in the attributes of nodes, are given one.
#[derive(Debug)]
pub(crate) struct OnnxFile {
    pub(crate) model: ModelProto,
    pub(crate) payloads: Payloads,
}

/// The tensors that are still in their files. What is read from here has the checksum that was
/// taken while the file was hashed, so a file that changed in between is an error.
#[derive(Debug)]
pub(crate) struct Payloads {
    /// The ONNX file first.
    files: Vec<Source>,
    table: BTreeMap<String, Payload>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    /// The plain name that the ONNX file calls it; empty for the ONNX file itself.
    name: String,
    file: File,
    sha256: String,
}

#[derive(Clone, Copy, Debug)]
struct Payload {
    file: usize,
    offset: u64,
    len: u64,
    crc: u32,
}

impl OnnxFile {
    /// Reads the file at `path`, of which nothing is known.
    pub(crate) fn open(path: &Path) -> Result<Self, EncoderError> {
        Self::read(path, None)
    }

    /// Reads the file at `path`, whose SHA-256 must be `sha256`, 64 lower-case hexadecimal
    /// digits. A file with another hash is that error, whatever else is wrong with it. The hashes
    /// of external data are for the caller to compare: [`Payloads::outside_files`].
    pub(crate) fn open_checked(path: &Path, sha256: &str) -> Result<Self, EncoderError> {
        Self::read(path, Some(sha256))
    }

    /// The plain names of the files that the file at `path` has external data in, whether they are
    /// there or not.
    pub(crate) fn outside_names(path: &Path) -> Result<BTreeSet<String>, EncoderError> {
        let (_, _, marked) = Self::parse(path, None)?;
        let mut names = BTreeSet::new();
        for Marked { name, bytes, place } in marked {
            if let Place::Outside(entries) = place {
                names.insert(location(path, &name, &entries, bytes)?.0);
            }
        }
        Ok(names)
    }

    fn read(path: &Path, expected: Option<&str>) -> Result<Self, EncoderError> {
        let (model, main, marked) = Self::parse(path, expected)?;
        let payloads = Self::place(main, marked)?;
        let mut onnx = Self { model, payloads };
        // Small tensors are in the graph, wherever the file has them.
        let small = onnx.payloads.table.iter().filter(|it| it.1.len < PAYLOAD_BYTES);
        let small: BTreeSet<String> = small.map(|it| it.0.clone()).collect();
        onnx.take_inline_where(|it| small.contains(it))?;
        Ok(onnx)
    }

    /// The graph, the file, and the tensors that are in this file or another.
    fn parse(
        path: &Path,
        expected: Option<&str>,
    ) -> Result<(ModelProto, Source, Vec<Marked>), EncoderError> {
        let file = open_file(path, MAX_FILE_BYTES)?;
        let read_error = |source| EncoderError::Read { path: path.to_owned(), source };
        let len = file.metadata().map_err(read_error)?.len();
        let mut stream = Stream::new(&file);
        let walked = walk(&mut stream, len);
        let (digest, got_len) = stream.finish().map_err(read_error)?;
        let sha256 = hex(&digest);
        if let Some(expected) = expected.filter(|it| *it != sha256) {
            let (path, expected, got) = (path.to_owned(), expected.to_owned(), sha256);
            return Err(EncoderError::Hash { path, expected, got });
        }
        let Skeleton { bytes, payloads, .. } = walked.map_err(|err| match err {
            WalkError::Io(source) => read_error(source),
            WalkError::Rule(RuleError { offset, rule, got }) => {
                fault(path, format!("what is at byte {offset}"), rule, got)
            }
        })?;
        if got_len != len {
            return Err(fault(path, "the file", format!("left alone at {len} bytes"), got_len));
        }
        let mut model = ModelProto::decode(bytes.as_slice())
            .map_err(|err| fault(path, "the file", "a valid ONNX model", err))?;
        drop(bytes);

        let main = Source { path: path.to_owned(), name: String::new(), file, sha256 };
        let mut table = Table::new(path);
        let marked = table.collect(&mut model, &payloads)?;
        Ok((model, main, marked))
    }

    /// Opens the files of external data and hashes them.
    fn place(main: Source, marked: Vec<Marked>) -> Result<Payloads, EncoderError> {
        let path = main.path.clone();
        let mut files = vec![main];
        let mut table = BTreeMap::new();
        let mut outside: BTreeMap<String, Vec<(String, Range)>> = BTreeMap::new();
        for Marked { name, bytes, place } in marked {
            match place {
                Place::Inside { offset, len, crc } => {
                    check_len(&path, &name, bytes, len)?;
                    table.insert(name, Payload { file: 0, offset, len, crc });
                }
                Place::Outside(entries) => {
                    let (location, offset) = location(&path, &name, &entries, bytes)?;
                    outside.entry(location).or_default().push((name, Range { offset, len: bytes }));
                }
            }
        }
        for (name, mut wanted) in outside {
            let number = files.len();
            let source_path = path.parent().unwrap_or(Path::new("")).join(&name);
            let file = open_file(&source_path, MAX_OUTSIDE_BYTES)?;
            wanted.sort_by_key(|(_, range)| (range.offset, range.len));
            let (sums, sha256) = checksums(&source_path, &file, &wanted)?;
            for ((tensor, Range { offset, len }), crc) in wanted.into_iter().zip(sums) {
                table.insert(tensor, Payload { file: number, offset, len, crc });
            }
            files.push(Source { path: source_path, name, file, sha256 });
        }
        Ok(Payloads { files, table })
    }

    /// Puts the bytes of the tensors that `wanted` names back into the graph, where they stay
    /// ordinary ones.
    pub(crate) fn take_inline_where(
        &mut self,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), EncoderError> {
        let payloads = &mut self.payloads;
        let mut take = |tensor: &mut TensorProto, _: Owner<'_>| {
            if payloads.len(&tensor.name).is_some() && wanted(&tensor.name) {
                tensor.raw_data = payloads.read(&tensor.name)?;
                payloads.table.remove(&tensor.name);
            }
            Ok(())
        };
        self.model.graph.as_mut().map_or(Ok(()), |graph| each_tensor(graph, &mut take))
    }
}

impl Payloads {
    /// The ONNX file.
    pub(crate) fn path(&self) -> &Path {
        self.files.first().map_or(Path::new(""), |it| &it.path)
    }

    /// SHA-256 of the ONNX file, as 64 lower-case hexadecimal digits.
    pub(crate) fn sha256(&self) -> &str {
        self.files.first().map_or("", |it| &it.sha256)
    }

    /// Name and SHA-256 of every other file that tensors are in.
    pub(crate) fn outside_files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().skip(1).map(|it| (it.name.as_str(), it.sha256.as_str()))
    }

    /// The tensors' names, in their order.
    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.table.keys().map(String::as_str)
    }

    /// The bytes of tensor `name`; `None` where it is not in a file.
    pub(crate) fn len(&self, name: &str) -> Option<u64> {
        self.table.get(name).map(|it| it.len)
    }

    /// Calls the tensor `from` by the name `to` from now on; false where that name is taken.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> bool {
        if from == to || self.table.contains_key(to) {
            return from == to;
        }
        if let Some(payload) = self.table.remove(from) {
            self.table.insert(to.to_owned(), payload);
        }
        true
    }

    /// Reads the tensor `name`: little endian, row by row, as `raw_data` has it.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, EncoderError> {
        let tensor = || format!("tensor {name:?}");
        let rule = "one whose data is in a file";
        let payload = self.table.get(name);
        let payload = payload.ok_or_else(|| fault(self.path(), tensor(), rule, "another"))?;
        let Source { path, file, .. } = &self.files[payload.file];
        let len = usize::try_from(payload.len)
            .map_err(|_| fault(path, tensor(), "one that fits in memory", payload.len))?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, payload.offset)
            .map_err(|source| EncoderError::Read { path: path.clone(), source })?;
        if crc32fast::hash(&bytes) != payload.crc {
            let rule = "as it was when the file was hashed; do not write to a model in use";
            return Err(fault(path, tensor(), rule, "other bytes"));
        }
        Ok(bytes)
    }
}

/// A tensor whose data is elsewhere.
struct Marked {
    name: String,
    /// The bytes that its dimensions and type ask for.
    bytes: u64,
    place: Place,
}

/// Gives every tensor without data its own name.
struct Table<'a> {
    path: &'a Path,
    names: BTreeSet<String>,
    marked: Vec<Marked>,
}

impl<'a> Table<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, names: BTreeSet::new(), marked: Vec::new() }
    }

    fn collect(
        &mut self,
        model: &mut ModelProto,
        places: &[Place],
    ) -> Result<Vec<Marked>, EncoderError> {
        let path = self.path;
        let Some(graph) = &mut model.graph else {
            return Err(fault(path, "the file", "a model with a graph", "none"));
        };
        // Initializers keep their names, so they come first.
        each_tensor(graph, &mut |tensor, owner| match owner {
            Owner::Graph => self.take(tensor, places),
            Owner::Node(_) => Ok(()),
        })?;
        each_tensor(graph, &mut |tensor, owner| match owner {
            Owner::Node(node) if !tensor.external_data.is_empty() => {
                tensor.name = self.unused(node);
                self.take(tensor, places)
            }
            _ => check_inline(path, tensor),
        })?;
        if self.marked.len() != places.len() {
            let rule = "the graph's weights only, not those of functions or training";
            return Err(fault(path, "tensors of 4 KiB and more", rule, "others"));
        }
        Ok(std::mem::take(&mut self.marked))
    }

    /// Notes `tensor` if it has no data, and takes the mark from it.
    fn take(&mut self, tensor: &mut TensorProto, places: &[Place]) -> Result<(), EncoderError> {
        let mark = std::mem::take(&mut tensor.external_data).into_iter().next();
        let number = mark.filter(|it| it.key == MARK).and_then(|it| it.value.parse().ok());
        let Some(place) = number.and_then(|it: usize| places.get(it)) else { return Ok(()) };
        tensor.data_location = None;
        let name = tensor.name.clone();
        let at = || format!("tensor {name:?}");
        if !tensor.raw_data.is_empty() || has_typed_data(tensor) {
            return Err(fault(self.path, at(), "one with its data in one place", "two"));
        }
        let bytes = byte_len(tensor).map_err(|(rule, got)| fault(self.path, at(), rule, got))?;
        if !self.names.insert(name.clone()) {
            return Err(fault(self.path, at(), "the only one of its name", "another"));
        }
        self.marked.push(Marked { name, bytes, place: place.clone() });
        Ok(())
    }

    fn unused(&self, node: &NodeProto) -> String {
        let base = node.output.first().filter(|it| !it.is_empty()).unwrap_or(&node.name);
        let mut name = base.clone();
        let mut n = 1;
        while self.names.contains(&name) {
            n += 1;
            name = format!("{base}.{n}");
        }
        name
    }
}

/// Whose tensor it is.
#[derive(Clone, Copy)]
enum Owner<'a> {
    Graph,
    Node(&'a NodeProto),
}

/// Calls `visit` for every tensor of `graph` and the graphs in it, but sparse ones.
fn each_tensor(
    graph: &mut GraphProto,
    visit: &mut impl FnMut(&mut TensorProto, Owner<'_>) -> Result<(), EncoderError>,
) -> Result<(), EncoderError> {
    for tensor in &mut graph.initializer {
        visit(tensor, Owner::Graph)?;
    }
    for node in &mut graph.node {
        let mut attributes = std::mem::take(&mut node.attribute);
        let result = attributes.iter_mut().try_for_each(|attribute| {
            for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
                visit(tensor, Owner::Node(node))?;
            }
            let mut graphs = attribute.g.iter_mut().chain(&mut attribute.graphs);
            graphs.try_for_each(|graph| each_tensor(graph, visit))
        });
        node.attribute = attributes;
        result?;
    }
    Ok(())
}

fn has_typed_data(tensor: &TensorProto) -> bool {
    !(tensor.float_data.is_empty()
        && tensor.int32_data.is_empty()
        && tensor.int64_data.is_empty()
        && tensor.double_data.is_empty()
        && tensor.uint64_data.is_empty()
        && tensor.string_data.is_empty())
}

/// The bytes of a tensor's data, from its dimensions and type.
fn byte_len(tensor: &TensorProto) -> Result<u64, (&'static str, String)> {
    let bits: u64 = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float | DataType::Int32 | DataType::Uint32) => 32,
        Ok(DataType::Double | DataType::Int64 | DataType::Uint64 | DataType::Complex64) => 64,
        Ok(DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16) => 16,
        Ok(DataType::Int8 | DataType::Uint8 | DataType::Bool) => 8,
        Ok(
            DataType::Float8e4m3fn
            | DataType::Float8e4m3fnuz
            | DataType::Float8e5m2
            | DataType::Float8e5m2fnuz,
        ) => 8,
        Ok(DataType::Uint4 | DataType::Int4 | DataType::Float4e2m1) => 4,
        Ok(DataType::Complex128) => 128,
        Ok(DataType::Undefined | DataType::String) | Err(_) => {
            return Err(("of a data type of fixed size", tensor.data_type.to_string()));
        }
    };
    let bits = tensor.dims.iter().try_fold(bits, |product, dim| {
        u64::try_from(*dim).ok().and_then(|it| product.checked_mul(it))
    });
    let dims = || format!("{:?}", tensor.dims);
    bits.map(|it| it.div_ceil(8)).ok_or_else(|| ("of dimensions that can be multiplied", dims()))
}

/// Raw data that is not as long as its dimensions say is found here, not in a library.
fn check_inline(path: &Path, tensor: &TensorProto) -> Result<(), EncoderError> {
    if tensor.raw_data.is_empty() {
        return Ok(());
    }
    let at = || format!("tensor {:?}", tensor.name);
    let bytes = byte_len(tensor).map_err(|(rule, got)| fault(path, at(), rule, got))?;
    check_len(path, &tensor.name, bytes, tensor.raw_data.len() as u64)
}

fn check_len(path: &Path, name: &str, expected: u64, got: u64) -> Result<(), EncoderError> {
    if expected == got {
        return Ok(());
    }
    let rule = format!("of {expected} bytes, which its dimensions and type ask for");
    Err(fault(path, format!("tensor {name:?}"), rule, got))
}

/// A part of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    offset: u64,
    len: u64,
}

/// File and offset of an external tensor of `bytes` bytes.
fn location(
    path: &Path,
    name: &str,
    entries: &[(String, String)],
    bytes: u64,
) -> Result<(String, u64), EncoderError> {
    let at = |key: &str| format!("`{key}` of the external tensor {name:?}");
    let value = |key: &str| entries.iter().find(|it| it.0 == key).map(|it| it.1.as_str());
    let number = |key: &str| {
        let Some(text) = value(key) else { return Ok(None) };
        let number: Result<u64, _> = text.parse();
        number.map(Some).map_err(|_| fault(path, at(key), "a whole number", format!("{text:?}")))
    };
    let location = value("location").unwrap_or_default();
    let is_plain = !location.is_empty()
        && !location.contains(['/', '\\', '\0'])
        && location != "."
        && location != "..";
    if !is_plain {
        let rule = "the plain name of a file in the model's folder";
        return Err(fault(path, at("location"), rule, format!("{location:?}")));
    }
    if let Some(len) = number("length")? {
        check_len(path, name, bytes, len)?;
    }
    Ok((location.to_owned(), number("offset")?.unwrap_or_default()))
}

/// CRC-32 of every range, in its order, and the SHA-256 of the file, in one pass. `wanted` is
/// sorted; ranges are equal or apart.
fn checksums(
    path: &Path,
    file: &File,
    wanted: &[(String, Range)],
) -> Result<(Vec<u32>, String), EncoderError> {
    let read_error = |source: io::Error| EncoderError::Read { path: path.to_owned(), source };
    let file_len = file.metadata().map_err(read_error)?.len();
    let mut stream = Stream::new(file);
    let mut sums: Vec<u32> = Vec::with_capacity(wanted.len());
    let mut last: Option<Range> = None;
    for (name, range) in wanted {
        if last == Some(*range)
            && let Some(sum) = sums.last().copied()
        {
            sums.push(sum);
            continue;
        }
        let at = || format!("the external tensor {name:?}");
        if range.offset.checked_add(range.len).is_none_or(|end| file_len < end) {
            let got = format!("{} bytes at {}", range.len, range.offset);
            return Err(fault(path, at(), format!("within the file's {file_len} bytes"), got));
        }
        let Some(gap) = range.offset.checked_sub(stream.position()) else {
            return Err(fault(path, at(), "apart from the others", "one that overlaps another"));
        };
        let mut crc = crc32fast::Hasher::new();
        stream.pass(gap, |_| ()).map_err(read_error)?;
        stream.pass(range.len, |it| crc.update(it)).map_err(read_error)?;
        sums.push(crc.finalize());
        last = Some(*range);
    }
    let (digest, got) = stream.finish().map_err(read_error)?;
    if got != file_len {
        return Err(fault(path, "the file", format!("left alone at {file_len} bytes"), got));
    }
    Ok((sums, hex(&digest)))
}

/// What `at` in the file must be, and is not.
pub(crate) fn fault(
    path: &Path,
    at: impl Into<String>,
    rule: impl Into<String>,
    got: impl ToString,
) -> EncoderError {
    EncoderError::Onnx {
        path: path.to_owned(),
        at: shortened(at.into()),
        rule: shortened(rule.into()),
        got: shortened(got.to_string()),
    }
}

/// Names in a file may have any length.
fn shortened(text: String) -> String {
    const MAX_CHARS: usize = 400;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
