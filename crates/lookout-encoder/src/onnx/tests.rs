//! ONNX files read in one pass: against prost's own decoder, and against hostile bytes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use prost::Message;
use prost::encoding::encode_varint;
use sha2::{Digest, Sha256};
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
    ValueInfoProto,
};

use super::{OnnxFile, OnnxWriter, Payloads};
use crate::EncoderError;

/// A tensor of floats that count from `start`.
fn floats(name: &str, n: u16, start: u16) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: vec![2, i64::from(n / 2)],
        data_type: DataType::Float as i32,
        raw_data: (start..start + n).flat_map(|it| f32::from(it).to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

fn attribute(name: &str) -> AttributeProto {
    AttributeProto { name: name.to_owned(), ..AttributeProto::default() }
}

fn node(op_type: &str, output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op_type.to_owned(),
        output: vec![output.to_owned()],
        attribute,
        ..NodeProto::default()
    }
}

/// Large and small initializers, a large constant, and a subgraph with a large initializer.
fn sample() -> ModelProto {
    let inner = GraphProto {
        name: "branch".to_owned(),
        initializer: vec![floats("inner", 1100, 7)],
        ..GraphProto::default()
    };
    let constant = AttributeProto { t: Some(floats("", 1026, 3)), ..attribute("value") };
    let branch = AttributeProto { g: Some(inner), ..attribute("then_branch") };
    let graph = GraphProto {
        name: "sample".to_owned(),
        node: vec![node("Constant", "large", vec![constant]), node("If", "out", vec![branch])],
        initializer: vec![
            floats("large", 2000, 0),
            floats("small", 10, 1),
            floats("edge", 1024, 2),
            floats("below", 1022, 2),
        ],
        output: vec![ValueInfoProto { name: "out".to_owned(), ..ValueInfoProto::default() }],
        ..GraphProto::default()
    };
    ModelProto { ir_version: 8, graph: Some(graph), ..ModelProto::default() }
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

/// A folder with `bytes` as `model.onnx`.
fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|it| format!("{it:02x}")).collect()
}

fn names(payloads: &Payloads) -> Vec<&str> {
    payloads.names().collect()
}

/// What opening `bytes` says.
#[track_caller]
fn refusal(bytes: &[u8]) -> String {
    let (_dir, path) = file(bytes);
    let err = OnnxFile::open(&path).unwrap_err();
    assert_eq!(err.disposition(), lookout_core::Disposition::Fatal);
    let message = err.to_string();
    assert!(message.contains("model.onnx"), "{message}");
    message.split_once(": ").map_or(message.clone(), |it| it.1.to_owned())
}

#[test]
fn large_tensors_stay_in_the_file_and_come_back_whole() {
    let model = sample();
    let bytes = model.encode_to_vec();
    let (_dir, path) = file(&bytes);
    let mut onnx = OnnxFile::open_checked(&path, &sha256(&bytes)).unwrap();
    assert_eq!(onnx.payloads.sha256(), sha256(&bytes));
    // The constant would be called as the initializer is.
    assert_eq!(names(&onnx.payloads), ["edge", "inner", "large", "large.2"]);
    assert_eq!(onnx.payloads.len("large"), Some(8000));
    assert_eq!(onnx.payloads.len("small"), None);
    assert_eq!(onnx.payloads.read("large").unwrap(), floats("large", 2000, 0).raw_data);
    let large = &onnx.model.graph.as_ref().unwrap().initializer[0];
    assert_eq!((large.raw_data.len(), large.dims.as_slice()), (0, [2, 1000].as_slice()));

    onnx.take_inline_where(|it| it == "edge").unwrap();
    assert_eq!(names(&onnx.payloads), ["inner", "large", "large.2"]);
    onnx.take_inline_where(|_| true).unwrap();
    assert!(names(&onnx.payloads).is_empty());
    let constant = &mut graph(&mut onnx.model).node[0].attribute[0].t;
    assert_eq!(std::mem::take(&mut constant.as_mut().unwrap().name), "large.2");
    assert_eq!(onnx.model, model);
}

#[test]
fn real_files_are_read_as_prost_reads_them() {
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/starter");
    for name in ["image.onnx", "text.onnx"] {
        let path = starter.join(name);
        let bytes = fs::read(&path).unwrap();
        let mut expected = ModelProto::decode(bytes.as_slice()).unwrap();
        let mut onnx = OnnxFile::open(&path).unwrap();
        assert_eq!(onnx.payloads.sha256(), sha256(&bytes));
        let in_file: u64 = onnx.payloads.names().filter_map(|it| onnx.payloads.len(it)).sum();
        assert!(bytes.len() as u64 * 9 / 10 < in_file, "{name}: {in_file}");
        onnx.take_inline_where(|_| true).unwrap();
        for it in &mut graph(&mut expected).node {
            it.doc_string.clear();
        }
        assert!(onnx.model == expected, "{name}");
    }
}

#[test]
fn a_file_that_changes_after_it_was_hashed_is_refused() {
    let (_dir, path) = file(&sample().encode_to_vec());
    let onnx = OnnxFile::open(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|it| it == 1500f32.to_le_bytes()).unwrap();
    let writer = fs::OpenOptions::new().write(true).open(&path).unwrap();
    writer.write_all_at(&[9], at as u64).unwrap();
    let message = onnx.payloads.read("large").unwrap_err().to_string();
    let rule = "as it was when the file was hashed; do not write to a model in use";
    assert!(message.ends_with(&format!("tensor \"large\" must be {rule}, got other bytes")));
    assert!(onnx.payloads.read("edge").is_ok());
    writer.set_len(100).unwrap();
    assert!(matches!(onnx.payloads.read("edge"), Err(EncoderError::Read { .. })));
    let message = onnx.payloads.read("none").unwrap_err().to_string();
    assert!(message.contains("\"none\""), "{message}");
}

#[test]
fn of_a_file_that_should_be_known_only_the_hash_is_told() {
    let bytes = sample().encode_to_vec();
    for changed in [&bytes[..bytes.len() / 2], b"rubbish".as_slice(), b""] {
        let (_dir, path) = file(changed);
        let err = OnnxFile::open_checked(&path, &sha256(&bytes)).unwrap_err();
        let EncoderError::Hash { got, .. } = err else { panic!("{err}") };
        assert_eq!(got, sha256(changed));
    }
}

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: key.to_owned(), value: value.to_owned() }
}

/// A tensor of `n` floats in another file.
fn outside(name: &str, n: u16, entries: &[(&str, &str)]) -> TensorProto {
    TensorProto {
        raw_data: vec![],
        data_location: Some(DataLocation::External as i32),
        external_data: entries.iter().map(|(key, value)| entry(key, value)).collect(),
        ..floats(name, n, 0)
    }
}

fn external(tensors: Vec<TensorProto>) -> (tempfile::TempDir, Result<OnnxFile, EncoderError>) {
    let graph = GraphProto { initializer: tensors, ..GraphProto::default() };
    let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
    let (dir, path) = file(&model.encode_to_vec());
    let data: Vec<u8> = (0..4000u16).flat_map(|it| f32::from(it).to_le_bytes()).collect();
    fs::write(dir.path().join("model.onnx.data"), data).unwrap();
    let onnx = OnnxFile::open(&path);
    (dir, onnx)
}

#[test]
fn tensors_in_other_files_are_hashed_and_read_like_those_inside() {
    let location = ("location", "model.onnx.data");
    let (dir, onnx) = external(vec![
        outside("late", 2000, &[location, ("offset", "8000"), ("length", "8000")]),
        outside("early", 2000, &[location]),
        outside("again", 2000, &[location, ("offset", "0")]),
        outside("few", 2, &[location, ("offset", "16"), ("length", "8")]),
    ]);
    // A small one within a large one overlaps it.
    let message = onnx.unwrap_err().to_string();
    assert!(
        message.ends_with("\"few\" must be apart from the others, got one that overlaps another")
    );
    drop(dir);

    let (dir, onnx) = external(vec![
        outside("late", 1000, &[location, ("offset", "8000"), ("length", "4000")]),
        outside("early", 2000, &[location]),
        outside("again", 2000, &[location, ("offset", "0")]),
        outside("few", 2, &[location, ("offset", "12000"), ("length", "8")]),
    ]);
    let onnx = onnx.unwrap();
    assert_eq!(names(&onnx.payloads), ["again", "early"]);
    let tensors = &onnx.model.graph.as_ref().unwrap().initializer;
    assert_eq!(tensors[3].raw_data, [3000f32.to_le_bytes(), 3001f32.to_le_bytes()].concat());
    assert_eq!(tensors[0].raw_data.len(), 4000);
    assert_eq!(onnx.payloads.read("early").unwrap(), floats("", 2000, 0).raw_data);
    assert_eq!(onnx.payloads.read("again").unwrap(), floats("", 2000, 0).raw_data);
    let data = fs::read(dir.path().join("model.onnx.data")).unwrap();
    let files: Vec<(&str, &str)> = onnx.payloads.outside_files().collect();
    assert_eq!(files, [("model.onnx.data", sha256(&data).as_str())]);
}

#[test]
fn files_of_external_data_are_named_though_they_are_away() {
    let (dir, onnx) = external(vec![
        outside("late", 1000, &[("location", "model.onnx.data"), ("offset", "8000")]),
        outside("few", 2, &[("location", "other.data")]),
        floats("inside", 1000, 0),
    ]);
    assert!(onnx.is_err(), "one of them is not there");
    fs::remove_file(dir.path().join("model.onnx.data")).unwrap();
    let names = OnnxFile::outside_names(&dir.path().join("model.onnx")).unwrap();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["model.onnx.data", "other.data"]);

    let (dir, _) = external(vec![outside("weight", 2, &[("location", "../secret")])]);
    let err = OnnxFile::outside_names(&dir.path().join("model.onnx")).unwrap_err();
    assert!(err.to_string().contains("plain name of a file"), "{err}");
}

#[test]
fn external_data_cannot_lead_elsewhere() {
    let here = "the plain name of a file in the model's folder";
    for (entries, message) in [
        (vec![("location", "../secret")], here),
        (vec![("location", "/etc/passwd")], here),
        (vec![("location", "sub/file")], here),
        (vec![("location", "..")], here),
        (vec![], here),
        (vec![("location", "gone")], "gone"),
        (vec![("location", "model.onnx.data"), ("offset", "-4")], "a whole number, got \"-4\""),
        (
            vec![("location", "model.onnx.data"), ("offset", "9000")],
            "within the file's 16000 bytes, got 8000 bytes at 9000",
        ),
        (
            vec![("location", "model.onnx.data"), ("offset", "18446744073709551615")],
            "within the file's 16000 bytes",
        ),
        (vec![("location", "model.onnx.data"), ("length", "7996")], "of 8000 bytes"),
    ] {
        let (_dir, onnx) = external(vec![outside("weight", 2000, &entries)]);
        let err = onnx.unwrap_err().to_string();
        assert!(err.contains(message), "{entries:?}: {err}");
        assert!(err.contains("weight") || err.contains("gone"), "{err}");
    }
}

#[test]
fn the_order_and_form_of_fields_is_free() {
    // raw_data, then dims one by one, then name; unknown fields of every wire type between.
    let large = floats("w", 2000, 0);
    let mut tensor = vec![9 << 3 | 2, 0xc0, 0x3e];
    tensor.extend(&large.raw_data);
    tensor.extend([0xf0, 0x7f, 0x01, 0xf1, 0x7f, 1, 2, 3, 4, 5, 6, 7, 8, 0xf5, 0x7f, 1, 2, 3, 4]);
    tensor.extend([
        1 << 3,
        2,
        1 << 3,
        0xe8,
        0x07,
        2 << 3,
        1,
        8 << 3 | 2,
        1,
        b'w',
        0xf2,
        0x7f,
        1,
        9,
    ]);
    let field = |tag: u8, body: &[u8]| {
        let mut bytes = vec![tag << 3 | 2];
        encode_varint(body.len() as u64, &mut bytes);
        bytes.extend(body);
        bytes
    };
    let bytes = field(7, &field(5, &tensor));
    let (_dir, path) = file(&bytes);
    let mut onnx = OnnxFile::open(&path).unwrap();
    assert_eq!(onnx.payloads.read("w").unwrap(), large.raw_data);
    onnx.take_inline_where(|_| true).unwrap();
    assert_eq!(graph(&mut onnx.model).initializer, [large]);
}

#[test]
fn what_breaks_a_rule_is_told_with_its_place() {
    type Edit<'a> = &'a dyn Fn(&mut ModelProto);
    let refused = |edit: Edit<'_>| {
        let mut model = sample();
        edit(&mut model);
        refusal(&model.encode_to_vec())
    };
    let cases: [(Edit<'_>, &str); 8] = [
        (&|it| it.graph = None, "the file must be a model with a graph, got none"),
        (
            &|it| graph(it).initializer[0].dims[1] = 999,
            "tensor \"large\" must be of 7992 bytes, which its dimensions and type ask for, got 8000",
        ),
        (
            &|it| graph(it).initializer[1].dims[1] = 6,
            "tensor \"small\" must be of 48 bytes, which its dimensions and type ask for, got 40",
        ),
        (
            &|it| graph(it).initializer[0].dims[1] = -4,
            "tensor \"large\" must be of dimensions that can be multiplied, got [2, -4]",
        ),
        (
            &|it| graph(it).initializer[0].dims = vec![i64::MAX; 3],
            "tensor \"large\" must be of dimensions that can be multiplied",
        ),
        (
            &|it| graph(it).initializer[0].data_type = 99,
            "tensor \"large\" must be of a data type of fixed size, got 99",
        ),
        (
            &|it| graph(it).initializer[2].name = "large".to_owned(),
            "tensor \"large\" must be the only one of its name, got another",
        ),
        (
            &|it| graph(it).initializer[0].float_data = vec![1.0],
            "tensor \"large\" must be one with its data in one place, got two",
        ),
    ];
    for (edit, message) in cases {
        let got = refused(edit);
        assert!(got.starts_with(message), "{got}");
    }

    let bytes = sample().encode_to_vec();
    let cut = refusal(&bytes[..bytes.len() - 1]);
    assert!(cut.contains("must be a length of at most"), "{cut}");
    for (bytes, message) in [
        (vec![0x3b, 0], "what is at byte 0 must be a field of wire type 0, 1, 2 or 5, got 3"),
        (vec![0x38, 0], "what is at byte 0 must be field 7 of Model in its own wire type, got 0"),
        (vec![0x02, 0], "what is at byte 0 must be a field with a number of 1 to 2^29 - 1, got 0"),
        (vec![0x08, 0x80], "what is at byte 1 must be a number that ends within its message"),
        (vec![0xff; 12], "what is at byte 0 must be a number of 64 bits, got a longer one"),
        (
            vec![0x3a, 0x05, 0],
            "what is at byte 1 must be a length of at most the 1 bytes left, got 5",
        ),
        (vec![0x12, 1, 0xff], "the file must be a valid ONNX model"),
    ] {
        let got = refusal(&bytes);
        assert!(got.starts_with(message), "{bytes:?}: {got}");
    }
}

#[test]
fn what_would_fill_the_memory_is_refused() {
    // Two bytes a node, each of which would take hundreds.
    let nodes = vec![[0x0a, 0]; 1 << 20].concat();
    let mut bytes = vec![0x3a, 0x80, 0x80, 0x80, 0x01];
    bytes.extend(&nodes);
    let got = refusal(&bytes);
    assert!(got.contains("a graph of at most 67108864 bytes besides its raw tensors"), "{got}");

    let mut model = sample();
    graph(&mut model).initializer[0] =
        TensorProto { raw_data: vec![], float_data: vec![0.5; 17 << 20], ..floats("w", 2, 0) };
    let got = refusal(&model.encode_to_vec());
    assert!(got.contains("a graph of at most 67108864 bytes"), "{got}");

    let mut nested = GraphProto::default();
    for _ in 0..20 {
        let branch = AttributeProto { g: Some(nested), ..attribute("body") };
        nested = GraphProto { node: vec![node("Loop", "", vec![branch])], ..GraphProto::default() };
    }
    let model = ModelProto { graph: Some(nested), ..ModelProto::default() };
    let got = refusal(&model.encode_to_vec());
    assert!(got.contains("messages nested at most 40 deep"), "{got}");
}

#[test]
fn only_regular_files_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    let err = OnnxFile::open(dir.path()).unwrap_err();
    assert!(matches!(err, EncoderError::NotAFile { .. }), "{err}");
    let err = OnnxFile::open(&dir.path().join("gone")).unwrap_err();
    assert!(matches!(err, EncoderError::Read { .. }), "{err}");
}

/// The sample with its large tensors to be written later.
fn announced() -> (ModelProto, BTreeMap<String, u64>, BTreeMap<String, Vec<u8>>) {
    let mut model = sample();
    let mut payloads = BTreeMap::new();
    for name in ["large", "edge"] {
        let list = &mut graph(&mut model).initializer;
        let tensor = list.iter_mut().find(|it| it.name == name).unwrap();
        payloads.insert(name.to_owned(), std::mem::take(&mut tensor.raw_data));
    }
    let lens = payloads.iter().map(|(name, it)| (name.clone(), it.len() as u64)).collect();
    (model, lens, payloads)
}

#[test]
fn what_is_written_tensor_by_tensor_is_the_model() {
    let (model, lens, payloads) = announced();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    let mut asked = Vec::new();
    let written = OnnxWriter::new(&model, &lens)
        .write(&path, |name| {
            asked.push(name.to_owned());
            Ok(payloads[name].clone())
        })
        .unwrap();
    assert_eq!(asked, ["large", "edge"]);
    let bytes = fs::read(&path).unwrap();
    assert_eq!((written.sha256, written.bytes), (sha256(&bytes), bytes.len() as u64));
    assert_eq!(ModelProto::decode(bytes.as_slice()).unwrap(), sample());
}

#[test]
fn a_file_is_written_wholly_or_not_at_all() {
    let (model, lens, payloads) = announced();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    fs::write(&path, "old").unwrap();
    let refuse = |model: &ModelProto, lens: &BTreeMap<String, u64>, extra: usize| {
        let payload = |name: &str| {
            let mut bytes = payloads[name].clone();
            bytes.extend(vec![0; extra]);
            Ok(bytes)
        };
        OnnxWriter::new(model, lens).write(&path, payload).unwrap_err().to_string()
    };
    assert!(refuse(&model, &lens, 1).contains("\"large\" must be of 8000 bytes, as announced"));
    let mut more = lens.clone();
    more.insert("gone".to_owned(), 4);
    assert!(refuse(&model, &more, 0).contains("tensor \"gone\" must be in the graph"));
    assert!(refuse(&sample(), &lens, 0).contains("\"large\" must be the only one of its name"));
    more = lens.clone();
    more.insert("large".to_owned(), 3 << 30);
    assert!(refuse(&model, &more, 0).contains("the most that protobuf holds"));
    let err = OnnxWriter::new(&model, &lens)
        .write(&path, |name| {
            if name == "edge" { Err(io_error(&path)) } else { Ok(payloads[name].clone()) }
        })
        .unwrap_err();
    assert!(matches!(err, EncoderError::Read { .. }), "{err}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

fn io_error(path: &Path) -> EncoderError {
    EncoderError::Read { path: path.to_owned(), source: std::io::Error::other("gone") }
}

/// Opens `bytes` and reads all that it finds.
fn digest(bytes: &[u8]) {
    let (_dir, path) = file(bytes);
    if let Ok(mut onnx) = OnnxFile::open(&path) {
        for name in names(&onnx.payloads) {
            let len = onnx.payloads.len(name).unwrap();
            assert!(len <= bytes.len() as u64);
            assert_eq!(onnx.payloads.read(name).unwrap().len() as u64, len);
        }
        onnx.take_inline_where(|_| true).unwrap();
        // What was accepted can be encoded, and is accepted again.
        let (_dir, path) = file(&onnx.model.encode_to_vec());
        OnnxFile::open(&path).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_change_of_a_file_is_an_error_or_another_model(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        near_the_head in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = sample().encode_to_vec();
        // Payloads are most of the file, and their bytes are of no interest.
        let tensors = bytes.len() - 12_300;
        for (at, value) in edits {
            let range = if near_the_head { 120 } else { bytes.len() };
            let at = if near_the_head { at.index(range) } else { at.index(tensors.max(1)) };
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        digest(&bytes);
    }

    #[test]
    fn any_bytes_are_an_error_or_a_model(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        digest(&bytes);
    }
}
