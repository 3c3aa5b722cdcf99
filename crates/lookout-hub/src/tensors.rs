//! A few small tensors of a large safetensors file, by ranges: its header, then their bytes.
//!
//! What comes of it is a safetensors file of these tensors alone. A part of a file has no hash in
//! a listing, so that the connection is all that vouches for it.

use std::fs;
use std::io::Write;

use serde_json::{Map, Value, json};

use crate::client::Span;
use crate::download::{io_error, text};
use crate::{File, Folder, Hub, HubError, Repo};

/// The largest header, in bytes; a CLIP model's has 60,000.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// The largest tensor, in bytes.
const MAX_TENSOR_BYTES: u64 = 4096;

/// What was found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensors {
    /// Those of the wanted ones that the file has. Where there is none, nothing was written.
    pub names: Vec<String>,
    /// Bytes that came over the network.
    pub received: u64,
}

impl Hub {
    /// Fetches of the safetensors file `file` the tensors `wanted` that it has, each of at most
    /// 4096 bytes, and writes them as a safetensors file at the same path in `folder`.
    pub fn fetch_tensors(
        &self,
        repo: &Repo,
        file: &File,
        wanted: &[&str],
        folder: &Folder,
    ) -> Result<Tensors, HubError> {
        let mut received = 0;
        let mut read = |start: u64, end: u64| {
            received += end - start;
            self.read_span(repo, file, Span { start, end })
        };
        let broken = |rule: &str, got: &dyn std::fmt::Display| HubError::Answer {
            url: self.address(repo, file),
            what: "the safetensors file",
            rule: rule.to_owned(),
            got: got.to_string(),
        };
        if file.bytes < 8 {
            return Err(broken("at least 8 bytes long", &file.bytes));
        }
        let len = read(0, 8)?.try_into().map_or(0, u64::from_le_bytes);
        if MAX_HEADER_BYTES.min(file.bytes - 8) < len || len == 0 {
            let rule = format!("one with a header of at most {MAX_HEADER_BYTES} bytes");
            return Err(broken(&rule, &len));
        }
        let header: Map<String, Value> = serde_json::from_slice(&read(8, 8 + len)?)
            .map_err(|err| broken("one with a header of JSON", &err))?;
        let mut bytes = Vec::new();
        let mut names = Vec::new();
        let note = format!("of {} at {}", file.path, repo.commit);
        let mut kept = Map::new();
        kept.insert("__metadata__".to_owned(), json!({ "taken": note }));
        for name in wanted {
            let Some(entry) = header.get(*name) else { continue };
            let offset = |idx: usize| entry["data_offsets"][idx].as_u64();
            let at = |offset: u64| offset.checked_add(8 + len).filter(|it| *it <= file.bytes);
            let span = (offset(0).and_then(at), offset(1).and_then(at));
            let (Some(start), Some(end)) = span else {
                return Err(broken("one whose tensors are in it", &entry));
            };
            if end <= start || MAX_TENSOR_BYTES < end - start {
                let rule = format!("one with {name} of 1 to {MAX_TENSOR_BYTES} bytes");
                return Err(broken(&rule, &entry));
            }
            let offset = bytes.len();
            bytes.extend(read(start, end)?);
            let offsets = [offset, bytes.len()];
            let entry = json!({
                "dtype": entry["dtype"], "shape": entry["shape"], "data_offsets": offsets
            });
            kept.insert((*name).to_owned(), entry);
            names.push((*name).to_owned());
        }
        if !names.is_empty() {
            let mut header = Value::Object(kept).to_string();
            // Tensors begin at a multiple of 8, as the format advises.
            while !header.len().is_multiple_of(8) {
                header.push(' ');
            }
            let mut whole = (header.len() as u64).to_le_bytes().to_vec();
            whole.extend(header.bytes());
            whole.append(&mut bytes);
            write(folder, &file.path, &whole)?;
        }
        Ok(Tensors { names, received })
    }

    fn read_span(&self, repo: &Repo, file: &File, span: Span) -> Result<Vec<u8>, HubError> {
        let url = self.address(repo, file);
        let n = span.end - span.start;
        let mut reply = self.get(&url, Some(span), n)?;
        let expected = format!("bytes {}-{}/{}", span.start, span.end - 1, file.bytes);
        let got = text(&reply.headers, ureq::http::header::CONTENT_RANGE);
        if reply.status.as_u16() != 206 || got != expected {
            let got = format!("status {}, {got:?}", reply.status.as_u16());
            return Err(HubError::Answer {
                url: reply.url,
                what: "an answer with a part of a file",
                rule: format!("status 206, {expected:?}"),
                got,
            });
        }
        // One more, so that a longer answer is noticed.
        let bytes = reply.body.with_config().limit(n + 1).read_to_vec();
        match bytes {
            Ok(bytes) if bytes.len() as u64 == n => Ok(bytes),
            Ok(bytes) => {
                let (file, got) = (file.path.clone(), bytes.len() as u64);
                Err(HubError::Short { file, expected: n, got, source: None })
            }
            Err(source) => Err(HubError::Connect { url: reply.url, source: Box::new(source) }),
        }
    }
}

/// Puts a small file in its place, unless it is there.
fn write(folder: &Folder, path: &str, bytes: &[u8]) -> Result<(), HubError> {
    let target = folder.target(path)?;
    let is_same = |it: fs::Metadata| it.is_file() && it.len() == bytes.len() as u64;
    if fs::symlink_metadata(&target).is_ok_and(is_same)
        && fs::read(&target).map_err(io_error(&target, "read it"))? == bytes
    {
        return Ok(());
    }
    folder.check_replaceable(&target)?;
    let part = folder.part("tensors.part");
    let mut output = fs::File::create(&part).map_err(io_error(&part, "create it"))?;
    output.write_all(bytes).map_err(io_error(&part, "write it"))?;
    output.sync_all().map_err(io_error(&part, "write it"))?;
    fs::rename(&part, &target).map_err(io_error(&target, "put the file there"))
}
