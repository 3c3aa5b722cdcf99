//! Walks the protobuf encoding of an ONNX file in one pass: what is large stays where it is, what
//! is small is copied, and everything is hashed.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// Tensor bytes from this size on stay in the file.
pub(crate) const PAYLOAD_BYTES: u64 = 4 << 10;
/// What the graph without its payloads may take, in bytes as [`Skeleton`] counts them.
pub(crate) const MAX_SKELETON_BYTES: u64 = 64 << 20;
/// How deep messages may nest. A graph within a node's attribute takes 3 levels.
const MAX_DEPTH: usize = 40;
/// The most tensors that stay in files.
const MAX_PAYLOADS: usize = 1 << 16;
/// The longest name or value of an entry that says where external data is.
const MAX_ENTRY_BYTES: usize = 4 << 10;
/// What a message or a string costs in memory beside its bytes.
const OBJECT_BYTES: u64 = 256;
/// The most bytes that a byte of whole numbers becomes.
const PACKED_FACTOR: u64 = 8;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 16;
/// A length is written with as many bytes, so that it can be filled in afterwards.
const LENGTH_BYTES: usize = 5;

/// The key of the entry, among a tensor's `external_data`, that holds the number of its payload.
/// Only this module writes it: entries of the file never get that far.
pub(crate) const MARK: &str = "payload";

/// A file read front to back, hashed on the way.
pub(crate) struct Stream<R> {
    reader: R,
    hasher: Sha256,
    chunk: Box<[u8]>,
    start: usize,
    end: usize,
    position: u64,
}

impl<R: Read> Stream<R> {
    pub(crate) fn new(reader: R) -> Self {
        let chunk = vec![0; CHUNK_BYTES].into_boxed_slice();
        Self { reader, hasher: Sha256::new(), chunk, start: 0, end: 0, position: 0 }
    }

    /// Bytes taken so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes, at most `limit` of them; none at the end of the file.
    fn next(&mut self, limit: u64) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = loop {
                match self.reader.read(&mut self.chunk) {
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                    result => break result?,
                }
            };
            self.hasher.update(&self.chunk[..self.end]);
        }
        let rest = self.end - self.start;
        let n = usize::try_from(limit).unwrap_or(rest).min(rest);
        self.start += n;
        self.position += n as u64;
        Ok(&self.chunk[self.start - n..self.start])
    }

    /// Hands the next `n` bytes to `sink`, piece by piece.
    pub(crate) fn pass(&mut self, n: u64, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = n;
        while 0 < left {
            let piece = self.next(left)?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            sink(piece);
            left -= piece.len() as u64;
        }
        Ok(())
    }

    /// Reads to the end, then gives the hash of all and the number of bytes.
    pub(crate) fn finish(mut self) -> io::Result<([u8; 32], u64)> {
        while !self.next(u64::MAX)?.is_empty() {}
        Ok((self.hasher.finalize().into(), self.position))
    }
}

/// Where the bytes of a tensor are, within the ONNX file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the ONNX file itself.
    Inside { offset: u64, len: u64, crc: u32 },
    /// In another file, as the entries of `external_data` say.
    Outside(Vec<(String, String)>),
}

/// A file's messages without their payloads, and what was left out.
#[derive(Debug, Default)]
pub(crate) struct Skeleton {
    /// A `ModelProto`. A tensor without its payload has an entry [`MARK`] with the payload's
    /// number.
    pub(crate) bytes: Vec<u8>,
    /// The payloads by number.
    pub(crate) payloads: Vec<Place>,
    cost: u64,
}

/// Why the walk stopped.
#[derive(Debug)]
pub(crate) enum WalkError {
    Io(io::Error),
    Rule(RuleError),
}

/// Bytes that break a rule of the encoding, or a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RuleError {
    /// Position in the file.
    pub(crate) offset: u64,
    pub(crate) rule: String,
    pub(crate) got: String,
}

impl From<io::Error> for WalkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Walks a `ModelProto` of `len` bytes.
pub(crate) fn walk<R: Read>(stream: &mut Stream<R>, len: u64) -> Result<Skeleton, WalkError> {
    let mut walker = Walker { stream, skeleton: Skeleton::default() };
    walker.message(Kind::Model, len, 0)?;
    Ok(walker.skeleton)
}

/// The messages of ONNX that a field may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Model,
    Opset,
    Entry,
    Graph,
    Node,
    Attribute,
    Tensor,
    Segment,
    Sparse,
    Value,
    Type,
    TensorType,
    Shape,
    Dim,
    Annotation,
    Training,
    Function,
}

/// What is done with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Not known, or of no use here: skipped.
    Skip,
    Message(Kind),
    /// A string or bytes.
    Text,
    /// Whole numbers, single or packed.
    Whole,
    /// 4-byte numbers, single or packed.
    Single,
    /// 8-byte numbers, single or packed.
    Double,
    /// The bytes of a tensor.
    Payload,
    /// Where external data is.
    Location,
    /// Whether the data is external.
    IsOutside,
}

/// What a field of a message is; the fields of onnx.proto that tract knows, without the
/// comments on nodes and tensors.
fn rule(kind: Kind, field: u64) -> Rule {
    use Rule::{Double, Message, Single, Skip, Text, Whole};
    match (kind, field) {
        (Kind::Model, 1 | 5) => Whole,
        (Kind::Model, 2 | 3 | 4 | 6) => Text,
        (Kind::Model, 7) => Message(Kind::Graph),
        (Kind::Model, 8) => Message(Kind::Opset),
        (Kind::Model, 14) => Message(Kind::Entry),
        (Kind::Model, 20) => Message(Kind::Training),
        (Kind::Model, 25) => Message(Kind::Function),
        (Kind::Opset, 1) => Text,
        (Kind::Opset, 2) => Whole,
        (Kind::Entry, 1 | 2) => Text,
        (Kind::Graph, 1) => Message(Kind::Node),
        (Kind::Graph, 2 | 10) => Text,
        (Kind::Graph, 5) => Message(Kind::Tensor),
        (Kind::Graph, 11..=13) => Message(Kind::Value),
        (Kind::Graph, 14) => Message(Kind::Annotation),
        (Kind::Graph, 15) => Message(Kind::Sparse),
        (Kind::Node, 1..=4 | 7) => Text,
        (Kind::Node, 5) => Message(Kind::Attribute),
        (Kind::Attribute, 1 | 4 | 9 | 21) => Text,
        (Kind::Attribute, 2 | 7) => Single,
        (Kind::Attribute, 3 | 8 | 20) => Whole,
        (Kind::Attribute, 5 | 10) => Message(Kind::Tensor),
        (Kind::Attribute, 6 | 11) => Message(Kind::Graph),
        (Kind::Attribute, 15) => Message(Kind::Type),
        (Kind::Attribute, 22 | 23) => Message(Kind::Sparse),
        (Kind::Tensor, 1 | 2 | 5 | 7 | 11) => Whole,
        (Kind::Tensor, 3) => Message(Kind::Segment),
        (Kind::Tensor, 4) => Single,
        (Kind::Tensor, 6 | 8) => Text,
        (Kind::Tensor, 9) => Rule::Payload,
        (Kind::Tensor, 10) => Double,
        (Kind::Tensor, 13) => Rule::Location,
        (Kind::Tensor, 14) => Rule::IsOutside,
        (Kind::Segment, 1 | 2) => Whole,
        (Kind::Sparse, 1 | 2) => Message(Kind::Tensor),
        (Kind::Sparse, 3) => Whole,
        (Kind::Value, 1 | 3) => Text,
        (Kind::Value, 2) => Message(Kind::Type),
        (Kind::Type, 1) => Message(Kind::TensorType),
        (Kind::Type, 6) => Text,
        (Kind::TensorType, 1) => Whole,
        (Kind::TensorType, 2) => Message(Kind::Shape),
        (Kind::Shape, 1) => Message(Kind::Dim),
        (Kind::Dim, 1) => Whole,
        (Kind::Dim, 2 | 3) => Text,
        (Kind::Annotation, 1) => Text,
        (Kind::Annotation, 2) => Message(Kind::Entry),
        (Kind::Training, 1 | 2) => Message(Kind::Graph),
        (Kind::Training, 3 | 4) => Message(Kind::Entry),
        (Kind::Function, 1 | 4..=6 | 8 | 10) => Text,
        (Kind::Function, 7) => Message(Kind::Node),
        (Kind::Function, 9) => Message(Kind::Opset),
        _ => Skip,
    }
}

const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const LENGTH: u64 = 2;
const FOUR_BYTES: u64 = 5;

/// What a tensor says of its data, gathered while its fields pass.
#[derive(Default)]
struct TensorData {
    inside: Option<Place>,
    locations: Vec<(String, String)>,
    is_outside: bool,
}

struct Walker<'a, R> {
    stream: &'a mut Stream<R>,
    skeleton: Skeleton,
}

impl<R: Read> Walker<'_, R> {
    /// Copies the fields of a message that ends at `end`.
    fn message(&mut self, kind: Kind, end: u64, depth: usize) -> Result<(), WalkError> {
        if MAX_DEPTH < depth {
            let rule = format!("messages nested at most {MAX_DEPTH} deep");
            return self.fail(self.stream.position(), rule, "one more");
        }
        self.charge(OBJECT_BYTES)?;
        let mut tensor = TensorData::default();
        while self.stream.position() < end {
            let start = self.stream.position();
            let tag = self.varint(end)?;
            let (field, wire) = (tag >> 3, tag & 7);
            if field == 0 || u64::from(u32::MAX) < tag {
                return self.fail(start, "a field with a number of 1 to 2^29 - 1", field);
            }
            let rule = rule(kind, field);
            match (wire, rule) {
                (VARINT, Rule::Skip) => {
                    self.varint(end)?;
                }
                (VARINT, Rule::Whole) => {
                    let value = self.varint(end)?;
                    self.put(tag);
                    self.put(value);
                    self.charge(PACKED_FACTOR)?;
                }
                (VARINT, Rule::IsOutside) => tensor.is_outside = self.varint(end)? == 1,
                (EIGHT_BYTES, Rule::Skip) => self.skip(8, end)?,
                (FOUR_BYTES, Rule::Skip) => self.skip(4, end)?,
                (EIGHT_BYTES, Rule::Double) => self.copy(tag, 8, end)?,
                (FOUR_BYTES, Rule::Single) => self.copy(tag, 4, end)?,
                (LENGTH, rule) => {
                    let len = self.length(end)?;
                    self.delimited(tag, len, rule, &mut tensor, depth)?;
                }
                (3 | 4, _) | (6.., _) => {
                    return self.fail(start, "a field of wire type 0, 1, 2 or 5", wire);
                }
                _ => {
                    let rule = format!("field {field} of {kind:?} in its own wire type");
                    return self.fail(start, rule, wire);
                }
            }
        }
        if kind == Kind::Tensor { self.end_tensor(tensor, end) } else { Ok(()) }
    }

    /// A field whose `len` bytes come next, all of them within the message.
    fn delimited(
        &mut self,
        tag: u64,
        len: u64,
        rule: Rule,
        tensor: &mut TensorData,
        depth: usize,
    ) -> Result<(), WalkError> {
        let start = self.stream.position();
        let end = start + len;
        match rule {
            Rule::Skip => self.skip(len, end),
            Rule::Message(kind) => {
                self.put(tag);
                let at = self.skeleton.bytes.len();
                self.skeleton.bytes.extend([0; LENGTH_BYTES]);
                self.message(kind, end, depth + 1)?;
                self.fill_length(at);
                Ok(())
            }
            Rule::Text => {
                self.charge(OBJECT_BYTES)?;
                self.copy_delimited(tag, len, 1)
            }
            Rule::Whole => self.copy_delimited(tag, len, PACKED_FACTOR),
            Rule::Single | Rule::Double => self.copy_delimited(tag, len, 1),
            Rule::Payload if len < PAYLOAD_BYTES => self.copy_delimited(tag, len, 1),
            Rule::Payload => {
                if tensor.inside.is_some() {
                    return self.fail(start, "a tensor with its bytes once", "twice");
                }
                let mut crc = crc32fast::Hasher::new();
                self.stream.pass(len, |it| crc.update(it))?;
                tensor.inside = Some(Place::Inside { offset: start, len, crc: crc.finalize() });
                Ok(())
            }
            Rule::Location => {
                let entry = self.entry(end)?;
                tensor.locations.push(entry);
                Ok(())
            }
            Rule::IsOutside => self.fail(start, "a data location in its own wire type", LENGTH),
        }
    }

    /// Marks a tensor whose data is not in the skeleton.
    fn end_tensor(&mut self, tensor: TensorData, end: u64) -> Result<(), WalkError> {
        let place = match (tensor.inside, tensor.is_outside) {
            (None, false) => return Ok(()),
            (Some(place), false) => place,
            (None, true) => Place::Outside(tensor.locations),
            (Some(_), true) => {
                return self.fail(end, "a tensor's data inside or outside", "both");
            }
        };
        let number = self.skeleton.payloads.len();
        if MAX_PAYLOADS <= number {
            let rule = format!("at most {MAX_PAYLOADS} tensors with data of their own");
            return self.fail(end, rule, "one more");
        }
        self.skeleton.payloads.push(place);
        self.charge(OBJECT_BYTES)?;
        // Field 13 of a tensor: an entry with a key and a value.
        self.put(13 << 3 | LENGTH);
        let at = self.skeleton.bytes.len();
        self.skeleton.bytes.extend([0; LENGTH_BYTES]);
        for (field, text) in [(1, MARK), (2, number.to_string().as_str())] {
            self.put(field << 3 | LENGTH);
            self.put(text.len() as u64);
            self.skeleton.bytes.extend(text.as_bytes());
        }
        self.fill_length(at);
        Ok(())
    }

    /// A key and its value.
    fn entry(&mut self, end: u64) -> Result<(String, String), WalkError> {
        let (mut key, mut value) = (String::new(), String::new());
        while self.stream.position() < end {
            let start = self.stream.position();
            let tag = self.varint(end)?;
            let target = match (tag >> 3, tag & 7) {
                (1, LENGTH) => &mut key,
                (2, LENGTH) => &mut value,
                _ => return self.fail(start, "an entry of a key and a value", tag),
            };
            let len = self.length(end)?;
            if MAX_ENTRY_BYTES as u64 <= len {
                return self.fail(start, "an entry below 4096 bytes", len);
            }
            let mut bytes = Vec::new();
            self.stream.pass(len, |it| bytes.extend_from_slice(it))?;
            match String::from_utf8(bytes) {
                Ok(text) => *target = text,
                Err(err) => return self.fail(start, "an entry of UTF-8", err.utf8_error()),
            }
        }
        self.charge(OBJECT_BYTES + (key.len() + value.len()) as u64)?;
        Ok((key, value))
    }

    fn length(&mut self, end: u64) -> Result<u64, WalkError> {
        let start = self.stream.position();
        let len = self.varint(end)?;
        let left = end - self.stream.position();
        if left < len {
            return self.fail(start, format!("a length of at most the {left} bytes left"), len);
        }
        Ok(len)
    }

    fn varint(&mut self, end: u64) -> Result<u64, WalkError> {
        let start = self.stream.position();
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if end <= self.stream.position() {
                return self.fail(start, "a number that ends within its message", "more");
            }
            let mut byte = 0;
            self.stream.pass(1, |it| byte = it.first().copied().unwrap_or_default())?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && 1 < low {
                break;
            }
            value |= low << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        self.fail(start, "a number of 64 bits", "a longer one")
    }

    fn skip(&mut self, n: u64, end: u64) -> Result<(), WalkError> {
        self.check_room(n, end)?;
        Ok(self.stream.pass(n, |_| ())?)
    }

    fn copy(&mut self, tag: u64, n: u64, end: u64) -> Result<(), WalkError> {
        self.check_room(n, end)?;
        self.charge(n)?;
        self.put(tag);
        let Skeleton { bytes, .. } = &mut self.skeleton;
        Ok(self.stream.pass(n, |it| bytes.extend_from_slice(it))?)
    }

    fn copy_delimited(&mut self, tag: u64, len: u64, factor: u64) -> Result<(), WalkError> {
        self.charge(len.saturating_mul(factor))?;
        self.put(tag);
        self.put(len);
        let Skeleton { bytes, .. } = &mut self.skeleton;
        Ok(self.stream.pass(len, |it| bytes.extend_from_slice(it))?)
    }

    fn check_room(&self, n: u64, end: u64) -> Result<(), WalkError> {
        let left = end - self.stream.position();
        if left < n {
            let rule = format!("a number of {n} bytes within its message");
            return self.fail(self.stream.position(), rule, left);
        }
        Ok(())
    }

    /// Counts what a part of the skeleton will take in memory, before it is copied.
    fn charge(&mut self, cost: u64) -> Result<(), WalkError> {
        self.skeleton.cost = self.skeleton.cost.saturating_add(cost);
        if self.skeleton.cost <= MAX_SKELETON_BYTES {
            return Ok(());
        }
        let rule = format!("a graph of at most {MAX_SKELETON_BYTES} bytes besides its raw tensors");
        self.fail(self.stream.position(), rule, "more")
    }

    fn put(&mut self, mut value: u64) {
        while 0x80 <= value {
            self.skeleton.bytes.push(low_byte(value) | 0x80);
            value >>= 7;
        }
        self.skeleton.bytes.push(low_byte(value));
    }

    /// Writes the number of bytes after the place for it at `at`.
    fn fill_length(&mut self, at: usize) {
        let mut len = (self.skeleton.bytes.len() - at - LENGTH_BYTES) as u64;
        for (i, byte) in self.skeleton.bytes[at..at + LENGTH_BYTES].iter_mut().enumerate() {
            *byte = low_byte(len) | if i + 1 < LENGTH_BYTES { 0x80 } else { 0 };
            len >>= 7;
        }
    }

    fn fail<T>(
        &self,
        offset: u64,
        rule: impl Into<String>,
        got: impl ToString,
    ) -> Result<T, WalkError> {
        Err(WalkError::Rule(RuleError { offset, rule: rule.into(), got: got.to_string() }))
    }
}

/// The lowest 7 bits.
fn low_byte(value: u64) -> u8 {
    (value & 0x7f) as u8
}
