//! A model hub on loopback, with the public one's ways: commits, listings with hashes, large files
//! on another host. A twist makes it break them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(crate) const REPO: &str = "someone/small-clip";
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Files of at least so many bytes are where git keeps only pointers to them.
const LARGE: usize = 10_000;

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Whether it came to the host with the large files.
    pub(crate) at_store: bool,
    pub(crate) path: String,
    pub(crate) range: Option<(usize, usize)>,
    pub(crate) authorization: Option<String>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// After so many bytes of the body, this.
    pub(crate) breaks: Option<(usize, Break)>,
}

#[derive(Clone, Copy)]
pub(crate) enum Break {
    Close,
    /// The connection stays, and nothing more comes.
    Stall,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), breaks: None }
    }

    pub(crate) fn json(value: &Value) -> Self {
        Self { body: value.to_string().into_bytes(), ..Self::status(200) }
    }

    pub(crate) fn to(location: &str) -> Self {
        Self { headers: vec![("Location", location.to_owned())], ..Self::status(302) }
    }
}

type Twist = Box<dyn Fn(&Request, Answer) -> Answer + Send + Sync>;

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    /// Bytes of bodies sent, by path.
    sent: BTreeMap<String, usize>,
    /// Connections that are to stay.
    held: Vec<TcpStream>,
}

pub(crate) struct FakeHub {
    hub: String,
    store: String,
    files: BTreeMap<String, Vec<u8>>,
    twist: Mutex<Twist>,
    state: Mutex<State>,
}

impl FakeHub {
    pub(crate) fn start(files: BTreeMap<String, Vec<u8>>) -> Arc<Self> {
        let [hub, store] = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let address = |it: &TcpListener| format!("http://{}", it.local_addr().unwrap());
        let fake = Arc::new(Self {
            hub: address(&hub),
            store: address(&store),
            files,
            twist: Mutex::new(Box::new(|_, answer| answer)),
            state: Mutex::default(),
        });
        for (listener, at_store) in [(hub, false), (store, true)] {
            let fake = fake.clone();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (fake, stream) = (fake.clone(), stream.unwrap());
                    thread::spawn(move || fake.serve(stream, at_store));
                }
            });
        }
        fake
    }

    pub(crate) fn address(&self) -> &str {
        &self.hub
    }

    pub(crate) fn twist(&self, twist: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static) {
        *self.twist.lock().unwrap() = Box::new(twist);
    }

    /// What was asked since the last time, and the bytes sent by path.
    pub(crate) fn take_log(&self) -> (Vec<Request>, BTreeMap<String, usize>) {
        let mut state = self.state.lock().unwrap();
        (std::mem::take(&mut state.requests), std::mem::take(&mut state.sent))
    }

    fn serve(&self, mut stream: TcpStream, at_store: bool) {
        let Some(request) = Request::read(&stream, at_store) else { return };
        self.state.lock().unwrap().requests.push(request.clone());
        let answer = self.answer(&request);
        let answer = self.twist.lock().unwrap()(&request, answer);
        let mut head = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let has_length = ["Content-Length", "Transfer-Encoding"];
        if !answer.headers.iter().any(|it| has_length.contains(&it.0)) {
            head.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
        }
        head.push_str("\r\n");
        let end = answer.breaks.map_or(answer.body.len(), |it| it.0);
        // The other side may have gone, as a test wants it to.
        let is_sent = stream.write_all(head.as_bytes()).is_ok()
            && stream.write_all(&answer.body[..end]).is_ok();
        let mut state = self.state.lock().unwrap();
        if is_sent {
            *state.sent.entry(request.path).or_default() += end;
        }
        if let Some((_, Break::Stall)) = answer.breaks {
            state.held.push(stream);
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap();
        if path == format!("/api/models/{REPO}/revision/main") {
            return Answer::json(&json!({ "id": REPO, "sha": COMMIT }));
        }
        if path == format!("/api/models/{REPO}/tree/{COMMIT}") {
            return Answer::json(&self.listing());
        }
        if let Some(name) = path.strip_prefix("/store/") {
            return part(&self.files[name], request.range);
        }
        let Some(name) = path.strip_prefix(&format!("/{REPO}/resolve/{COMMIT}/")) else {
            return Answer::status(404);
        };
        match self.files.get(name) {
            None => Answer::status(404),
            Some(bytes) if bytes.len() < LARGE => part(bytes, request.range),
            // As signed addresses have it, a secret is in the query.
            Some(_) => Answer::to(&format!("{}/store/{name}?Signature=sesame", self.store)),
        }
    }

    pub(crate) fn listing(&self) -> Value {
        let file = |(path, bytes): (&String, &Vec<u8>)| {
            let mut blob = format!("blob {}\0", bytes.len()).into_bytes();
            blob.extend(bytes);
            let mut entry = json!({
                "type": "file", "oid": hex(&Sha1::digest(&blob)), "size": bytes.len(), "path": path
            });
            if LARGE <= bytes.len() {
                let oid = hex(&Sha256::digest(bytes));
                entry["oid"] = json!("f".repeat(40));
                entry["lfs"] = json!({ "oid": oid, "size": bytes.len(), "pointerSize": 130 });
            }
            entry
        };
        let folder =
            json!({ "type": "directory", "oid": "e".repeat(40), "size": 0, "path": "onnx" });
        std::iter::once(folder).chain(self.files.iter().map(file)).collect()
    }
}

impl Request {
    fn read(stream: &TcpStream, at_store: bool) -> Option<Self> {
        let mut lines = BufReader::new(stream.take(1 << 16)).lines();
        let first = lines.next()?.ok()?;
        let path = first.strip_prefix("GET ")?.split(' ').next()?.to_owned();
        let mut request = Self { at_store, path, range: None, authorization: None };
        for line in lines {
            let line = line.ok()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => request.authorization = Some(value.to_owned()),
                "range" => {
                    let (start, end) = value.strip_prefix("bytes=")?.split_once('-')?;
                    request.range = Some((start.parse().ok()?, end.parse().ok()?));
                }
                _ => {}
            }
        }
        Some(request)
    }
}

fn part(bytes: &[u8], range: Option<(usize, usize)>) -> Answer {
    let Some((start, last)) = range else {
        return Answer { body: bytes.to_vec(), ..Answer::status(200) };
    };
    let range = format!("bytes {start}-{last}/{}", bytes.len());
    Answer {
        headers: vec![("Content-Range", range)],
        body: bytes[start..=last].to_vec(),
        ..Answer::status(206)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}
