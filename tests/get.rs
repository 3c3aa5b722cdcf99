//! `lookout models get` against a hub on loopback that keeps its rules, and against one that does
//! not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lookout_hub::{Endpoint, Folder, Hub, HubError, RepoId, Revision, Timeouts, Watch};
use serde_json::json;

use crate::hub::{Answer, Break, COMMIT, FakeHub, REPO, Request};
use crate::support::{PATIENCE, Ran, lookout, root};

const SECRET: &str = "hf_topsecret";
const TOWER: &str = "onnx/vision_model.onnx";

/// The files of an export, by path.
fn export(name: &str) -> BTreeMap<String, Vec<u8>> {
    fn gather(dir: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                gather(&path, &format!("{name}/"), files);
            } else {
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    gather(&root().join("tests/exports").join(name), "", &mut files);
    files.insert("README.md".to_owned(), b"---\nlicense: mit\n---\n".to_vec());
    files
}

/// An export with what a hub has beside it: weights of 5 MB with the scale at their end.
fn repository() -> BTreeMap<String, Vec<u8>> {
    let mut files = export("clip-gelu-o13");
    let filler = 5_000_000_usize;
    let header = json!({
        "__metadata__": { "format": "pt" },
        "weight": { "dtype": "F32", "shape": [filler / 4], "data_offsets": [0, filler] },
        "logit_scale": { "dtype": "F32", "shape": [], "data_offsets": [filler, filler + 4] },
    });
    let header = header.to_string();
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend(header.bytes());
    weights.resize(weights.len() + filler, 7);
    weights.extend(4.5_f32.to_le_bytes());
    files.insert("model.safetensors".to_owned(), weights);
    files.insert("pytorch_model.bin".to_owned(), vec![1; 20_000]);
    files.insert("onnx/vision_model_quantized.onnx".to_owned(), vec![2; 20_000]);
    files
}

struct Place {
    hub: Arc<FakeHub>,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { hub: FakeHub::start(repository()), dir: tempfile::tempdir().unwrap() }
    }

    fn output(&self) -> PathBuf {
        self.dir.path().join("clip")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = lookout();
        command.args(["models", "get", REPO, "--output"]).arg(self.output());
        for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_ENDPOINT"] {
            command.env_remove(variable).env_remove(variable.to_lowercase());
        }
        if !more.contains(&"--endpoint") {
            command.args(["--endpoint", self.hub.address()]);
        }
        command.args(more);
        command
    }

    fn get(&self, more: &[&str]) -> Ran {
        Ran::from(self.command(more).output().unwrap())
    }

    #[track_caller]
    fn refusal(&self, more: &[&str]) -> String {
        let ran = self.get(more);
        assert_eq!(ran.code, Some(1), "{}{}", ran.stdout, ran.stderr);
        assert!(!ran.stderr.contains("sesame"), "a signature is told: {}", ran.stderr);
        ran.stderr
    }

    /// What is in the folder, by path.
    fn there(&self) -> Vec<String> {
        fn gather(dir: &Path, prefix: &str, names: &mut Vec<String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
                if path.is_dir() {
                    gather(&path, &format!("{name}/"), names)
                } else {
                    names.push(name)
                }
            }
        }
        let mut names = Vec::new();
        gather(&self.output(), "", &mut names);
        names.sort();
        names
    }

    /// Bytes of files that are on their way.
    fn part_bytes(&self) -> u64 {
        let Ok(parts) = fs::read_dir(self.output().join(".lookout-get")) else { return 0 };
        // One that is done meanwhile is gone.
        parts.map(|it| it.unwrap().metadata().map_or(0, |it| it.len())).sum()
    }
}

fn is_file(request: &Request, path: &str) -> bool {
    request.path.starts_with(&format!("/store/{path}"))
}

#[test]
fn a_repository_arrives_and_can_be_imported() {
    let place = Place::new();
    let ran = place.get(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(
        place.there(),
        [
            "README.md",
            "config.json",
            "model.safetensors",
            "onnx/text_model.onnx",
            "onnx/vision_model.onnx",
            "preprocessor_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
    );
    let files = repository();
    for path in place.there().iter().filter(|it| *it != "model.safetensors") {
        assert_eq!(fs::read(place.output().join(path)).unwrap(), files[path], "{path}");
    }
    // Of 5 MB of weights, the header and one number.
    let (_, sent) = place.hub.take_log();
    let of_weights: usize =
        sent.iter().filter(|it| it.0.contains("model.safetensors?")).map(|it| it.1).sum();
    assert!((8..1000).contains(&of_weights), "{of_weights}");

    assert!(ran.stdout.contains("logit_scale read from a part of the weights"), "{}", ran.stdout);
    let next = ran.stdout.lines().find_map(|it| it.strip_prefix("next: lookout ")).unwrap();
    assert!(next.contains(&format!("--origin {}/{REPO}/tree/{COMMIT}", place.hub.address())));
    let words: Vec<&str> = next.split(' ').collect();
    let imported = crate::support::run(&[&words[..], &["--text", "a dog", "--json"]].concat());
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    let scale = imported.json()[0]["logit_scale"].as_f64().unwrap();
    assert!((scale - 4.5_f64.exp()).abs() < 1e-6, "{scale}");

    // Nothing is fetched twice, and quiet is quiet.
    let ran = place.get(&["--quiet"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
    let (requests, _) = place.hub.take_log();
    let fetched: Vec<&str> = requests
        .iter()
        .map(|it| it.path.as_str())
        .filter(|it| it.contains("/resolve/") && !it.contains("safetensors"))
        .collect();
    assert!(fetched.is_empty(), "{fetched:?}");
}

#[test]
fn every_export_that_is_fetched_has_what_an_import_reads() {
    for entry in fs::read_dir(root().join("tests/exports")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let place = Place { hub: FakeHub::start(export(name)), dir: tempfile::tempdir().unwrap() };
        let ran = place.get(&["--json"]);
        assert_eq!(ran.code, Some(0), "{name}: {}", ran.stderr);
        let mut expected: Vec<String> = export(name).into_keys().collect();
        // What tests compare with, and what the repository's tokenizer makes needless.
        let has_tokenizer = expected.iter().any(|it| it.ends_with("tokenizer.json"));
        // Both towers by themselves, and weights that tell the scale, make the whole needless.
        let has_towers = expected.iter().any(|it| it.ends_with("vision_model.onnx"));
        expected.retain(|it| {
            let is_unread = (has_tokenizer
                && (it.ends_with("merges.txt") || it.ends_with("vocab.json")))
                || (has_towers && it == "onnx/model.onnx");
            it != "expected.json" && !is_unread
        });
        assert_eq!(place.there(), expected, "{name}");
        // Weights of which a part came have no hash, and are no file of the hub.
        expected.retain(|it| !it.ends_with(".safetensors"));
        assert_eq!(ran.json()[0]["files"].as_u64().unwrap(), expected.len() as u64, "{name}");
    }
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    let place = Place::new();
    let whole = repository()[TOWER].len();
    let half = whole / 2;
    place.hub.twist(move |request, answer| match is_file(request, TOWER) {
        true => Answer { breaks: Some((half, Break::Stall)), ..answer },
        false => answer,
    });
    let mut child = place.command(&[]).spawn().unwrap();
    let (_sender, pause) = channel::<()>();
    let n_waits = PATIENCE.as_millis() / 20;
    for _ in 0..n_waits {
        if place.part_bytes() == half as u64 {
            break;
        }
        assert_eq!(pause.recv_timeout(Duration::from_millis(20)), Err(RecvTimeoutError::Timeout));
    }
    assert_eq!(place.part_bytes(), half as u64);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!place.there().contains(&TOWER.to_owned()), "half a file is in a file's place");

    place.hub.twist(|_, answer| answer);
    place.hub.take_log();
    let ran = place.get(&["--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let (requests, sent) = place.hub.take_log();
    let of_tower = requests.iter().find(|it| is_file(it, TOWER)).unwrap();
    assert_eq!(of_tower.range, Some((half, whole - 1)));
    assert_eq!(sent[&of_tower.path], whole - half);
    assert_eq!(fs::read(place.output().join(TOWER)).unwrap(), repository()[TOWER]);
    assert!(!place.output().join(".lookout-get").exists());
}

#[test]
fn a_connection_that_breaks_is_made_anew() {
    let place = Place::new();
    let n_breaks = Arc::new(AtomicUsize::new(0));
    let counter = n_breaks.clone();
    place.hub.twist(move |request, answer| {
        if is_file(request, TOWER) && counter.fetch_add(1, Ordering::SeqCst) == 0 {
            return Answer { breaks: Some((5000, Break::Close)), ..answer };
        }
        answer
    });
    let ran = place.get(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(n_breaks.load(Ordering::SeqCst), 2);
    assert_eq!(fs::read(place.output().join(TOWER)).unwrap(), repository()[TOWER]);
}

#[test]
fn a_hub_that_sends_no_parts_starts_again() {
    let place = Place::new();
    place.hub.twist(|request, answer| {
        let whole = request.range.is_none();
        match is_file(request, TOWER) && whole {
            true => Answer { breaks: Some((5000, Break::Close)), ..answer },
            false if is_file(request, TOWER) => {
                Answer { body: repository()[TOWER].clone(), ..Answer::status(200) }
            }
            false => answer,
        }
    });
    let ran = place.get(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(fs::read(place.output().join(TOWER)).unwrap(), repository()[TOWER]);
}

#[test]
fn other_bytes_are_refused_and_not_kept() {
    let changed = |path: &'static str| {
        let place = Place::new();
        place.hub.twist(move |request, mut answer| {
            if request.path.contains(path) && 10 < answer.body.len() {
                answer.body[10] ^= 1;
            }
            answer
        });
        let message = place.refusal(&[]);
        assert!(!place.output().join(path).exists());
        assert_eq!(place.part_bytes(), 0, "something wrong was kept");
        message
    };
    let message = changed(TOWER);
    assert!(message.contains("onnx/vision_model.onnx: SHA-256 must be "), "{message}");
    assert!(message.contains(", got "), "{message}");
    let message = changed("preprocessor_config.json");
    assert!(message.contains("preprocessor_config.json: git's SHA-1 must be "), "{message}");
}

#[test]
fn lengths_that_lie_are_refused() {
    for (body_change, header, part) in [
        (0_isize, Some("7"), "Content-Length must be"),
        (9, None, "Content-Length must be"),
        (-9, None, "Content-Length must be"),
    ] {
        let place = Place::new();
        place.hub.twist(move |request, mut answer| {
            if is_file(request, TOWER) {
                let len = answer.body.len().saturating_add_signed(body_change);
                answer.body.resize(len, 0);
                answer.headers.extend(header.map(|it| ("Content-Length", it.to_owned())));
            }
            answer
        });
        let message = place.refusal(&[]);
        assert!(message.contains(part), "{message}");
    }
    // Without a length, only the bytes tell.
    let place = Place::new();
    place.hub.twist(|request, mut answer| {
        if is_file(request, TOWER) {
            answer.body.extend([0; 100_000]);
            let mut chunked = format!("{:x}\r\n", answer.body.len()).into_bytes();
            chunked.append(&mut answer.body);
            chunked.extend(b"\r\n0\r\n\r\n");
            answer.body = chunked;
            answer.headers.push(("Transfer-Encoding", "chunked".to_owned()));
        }
        answer
    });
    let message = place.refusal(&[]);
    assert!(message.contains(TOWER) && message.contains("must be"), "{message}");
    assert_eq!(place.part_bytes(), 0);
}

#[test]
fn a_listing_cannot_lead_elsewhere() {
    for path in ["../evil.onnx", "/etc/evil", "onnx/../../evil", "onnx\\..\\evil", "a\u{1b}[31mb"] {
        let place = Place::new();
        let mut listing = place.hub.listing();
        listing[1]["path"] = json!(path);
        place.hub.twist(move |request, answer| match request.path.contains("/tree/") {
            true => Answer::json(&listing),
            false => answer,
        });
        let message = place.refusal(&[]);
        assert!(message.contains("a file must be in the repository"), "{message}");
        assert!(!message.contains('\u{1b}'), "{message:?}");
        assert!(!place.output().exists(), "{path}");
    }
    // Nor can a link that stands in the folder.
    let place = Place::new();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir(place.output()).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), place.output().join("onnx")).unwrap();
    let message = place.refusal(&["--force"]);
    assert!(message.contains("onnx: must be a folder, and no link"), "{message}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn a_listing_is_bounded() {
    let with = |edit: fn(&mut serde_json::Value)| {
        let place = Place::new();
        let mut listing = place.hub.listing();
        let file = listing.as_array_mut().unwrap().iter_mut().find(|it| it["path"] == TOWER);
        edit(file.unwrap());
        place.hub.twist(move |request, answer| match request.path.contains("/tree/") {
            true => Answer::json(&listing),
            false => answer,
        });
        place.refusal(&[])
    };
    let message = with(|it| it["lfs"]["size"] = json!(1_u64 << 60));
    assert!(message.contains("at most 2147483647 are fetched for such a file"), "{message}");
    let message = with(|it| it["lfs"]["oid"] = json!("0123"));
    assert!(message.contains("listed with its hash"), "{message}");
    let message = with(|it| it["path"] = json!("other.onnx"));
    assert!(message.contains("an import needs vision_model.onnx"), "{message}");

    let place = Place::new();
    let next =
        format!("<{}/api/models/{REPO}/tree/{COMMIT}?cursor=x>; rel=\"next\"", place.hub.address());
    place.hub.twist(move |request, answer| match request.path.contains("/tree/") {
        true => Answer { headers: vec![("Link", next.clone())], ..Answer::json(&json!([])) },
        false => answer,
    });
    let message = place.refusal(&[]);
    assert!(message.contains("the listing must be at most 20 pages long"), "{message}");
    assert!(place.hub.take_log().0.len() < 30);
}

#[test]
fn pages_of_a_listing_are_followed() {
    let place = Place::new();
    let listing = place.hub.listing();
    let next =
        format!("<{}/api/models/{REPO}/tree/{COMMIT}?cursor=x>; rel=\"next\"", place.hub.address());
    place.hub.twist(move |request, answer| {
        let entries = listing.as_array().unwrap();
        let (first, second) = entries.split_at(4);
        match request.path.split_once("/tree/") {
            Some((_, rest)) if rest.contains("cursor") => Answer::json(&json!(second)),
            Some(_) => {
                Answer { headers: vec![("Link", next.clone())], ..Answer::json(&json!(first)) }
            }
            None => answer,
        }
    });
    let ran = place.get(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn redirects_end_and_stay_in_their_scheme() {
    let place = Place::new();
    place.hub.twist(|request, answer| match request.path.contains("config.json") {
        true => Answer::to("/config.json"),
        false => answer,
    });
    let message = place.refusal(&[]);
    assert!(message.contains("an answer after at most 5 redirects"), "{message}");
    assert!(place.hub.take_log().0.len() < 12);
    for location in ["file:///etc/passwd", "ftp://127.0.0.1/", "", "//elsewhere", "http://a@b/"] {
        place.hub.twist(move |request, answer| match request.path.contains("config.json") {
            true => Answer::to(location),
            false => answer,
        });
        let message = place.refusal(&[]);
        assert!(message.contains("the redirect must be an HTTP address"), "{message}");
    }
}

#[test]
fn what_is_not_there_or_not_open_is_told() {
    let place = Place::new();
    let told = |status: u16, more: &[&str]| {
        place.hub.twist(move |_, _| Answer::status(status));
        place.refusal(more)
    };
    let message = told(404, &[]);
    assert!(message.contains("answers 404: no such repository, revision or file"), "{message}");
    assert!(told(401, &[]).contains("give your token with --token-file"));
    assert!(told(403, &[]).contains("give your token with --token-file"));
    let token = place.dir.path().join("token");
    fs::write(&token, SECRET).unwrap();
    let token = token.to_str().unwrap();
    assert!(
        told(403, &["--token-file", token]).contains("the token does not open this repository")
    );
    place.hub.twist(|_, _| Answer { body: b"<html>".to_vec(), ..Answer::status(200) });
    assert!(place.refusal(&[]).contains("is this a model hub?"));
    assert!(!place.output().exists());

    place.hub.twist(|_, answer| answer);
    let message = place.refusal(&["--revision", "nightly"]);
    assert!(message.contains("/revision/nightly answers 404"), "{message}");
    // A file that vanished between listing and fetching.
    place.hub.twist(|request, answer| match request.path.ends_with("/tokenizer.json") {
        true => Answer::status(404),
        false => answer,
    });
    assert!(place.refusal(&[]).contains("tokenizer.json answers 404"));

    let message = place.refusal(&["--endpoint", "http://127.0.0.1:1"]);
    assert!(message.contains("cannot talk to http://127.0.0.1:1/api/models"), "{message}");
    let ran = Ran::from(lookout().args(["models", "get", "../x"]).output().unwrap());
    assert!(ran.stderr.contains("the repository must be OWNER/NAME"), "{}", ran.stderr);
}

#[test]
fn a_token_goes_to_the_hub_alone_and_into_no_log() {
    let place = Place::new();
    let token = place.dir.path().join("token");
    fs::write(&token, format!("{SECRET}\n")).unwrap();
    let mut command = place.command(&["--token-file", token.to_str().unwrap()]);
    let ran = Ran::from(command.env("LOOKOUT_LOG", "trace").output().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("/api/models/"), "the client's own log is not in it");
    assert!(!ran.stderr.contains(SECRET) && !ran.stdout.contains(SECRET), "{}", ran.stderr);
    let (requests, _) = place.hub.take_log();
    assert!(requests.iter().any(|it| it.at_store) && requests.iter().any(|it| !it.at_store));
    for Request { at_store, authorization, path, .. } in requests {
        let expected = (!at_store).then(|| format!("Bearer {SECRET}"));
        assert_eq!(authorization, expected, "{path}");
    }
    let message = place.refusal(&[
        "--endpoint",
        "http://hub.invalid",
        "--token-file",
        token.to_str().unwrap(),
    ]);
    assert!(message.contains("must be one with https"), "{message}");
}

#[test]
fn the_environment_names_a_hub_and_the_flag_goes_before_it() {
    let place = Place::new();
    let run = |args: &[&str], variable: &str| {
        let mut command = lookout();
        command.args(["models", "get", REPO, "--output"]).arg(place.output()).args(args);
        for variable in ["HTTP_PROXY", "ALL_PROXY"] {
            command.env_remove(variable).env_remove(variable.to_lowercase());
        }
        Ran::from(command.env("HF_ENDPOINT", variable).output().unwrap())
    };
    let ran = run(&[], place.hub.address());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ran = run(&["--endpoint", place.hub.address()], "http://127.0.0.1:1");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ran = run(&[], "hub.example.org");
    assert!(ran.stderr.contains("HF_ENDPOINT: the endpoint must be"), "{}", ran.stderr);
}

#[test]
fn files_of_others_stay_unless_forced() {
    let place = Place::new();
    fs::create_dir(place.output()).unwrap();
    let config = place.output().join("config.json");
    fs::write(&config, "mine").unwrap();
    let message = place.refusal(&[]);
    assert!(message.contains("config.json: something else than the hub's file stands there"));
    assert_eq!(fs::read(&config).unwrap(), b"mine");
    assert_eq!(place.get(&["--force"]).code, Some(0));
    assert_eq!(fs::read(&config).unwrap(), repository()["config.json"]);
}

#[test]
fn without_parts_of_weights_the_scale_is_asked_for() {
    let place = Place::new();
    place.hub.twist(|request, answer| match request.path.contains("safetensors") {
        true => Answer { body: vec![0; 64], ..Answer::status(200) },
        false => answer,
    });
    let ran = place.get(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("model.safetensors: the scale was not read"), "{}", ran.stderr);
    assert!(ran.stdout.contains("give the trained one with --logit-scale"), "{}", ran.stdout);
    assert!(ran.stdout.contains("--logit-scale SCALE"), "{}", ran.stdout);
    assert!(!place.output().join("model.safetensors").exists());
}

/// Waits for nothing, and keeps the errors.
#[derive(Default)]
struct Impatient(Mutex<Vec<String>>);

impl Watch for Impatient {
    fn progress(&mut self, _: u64) {}

    fn retry(&mut self, _: u32, error: &HubError) {
        self.0.lock().unwrap().push(error.to_string());
    }
}

#[test]
fn a_hub_that_falls_silent_is_left() {
    let place = Place::new();
    let timeouts = Timeouts {
        connect: Duration::from_secs(5),
        response: Duration::from_secs(5),
        stall: Duration::from_secs(1),
    };
    let endpoint: Endpoint = place.hub.address().parse().unwrap();
    let hub = Hub::new(endpoint, None, timeouts).unwrap();
    let (id, revision): (RepoId, Revision) = (REPO.parse().unwrap(), "main".parse().unwrap());
    let repo = hub.open(&id, &revision).unwrap();
    place.hub.twist(|_, answer| Answer {
        breaks: Some((answer.body.len() / 2, Break::Stall)),
        ..answer
    });
    let folder = Folder::open(&place.output(), false).unwrap();
    let busy = Folder::open(&place.output(), false).unwrap_err();
    assert!(matches!(busy, HubError::Busy { .. }), "{busy}");
    let file = repo.file("tokenizer.json").unwrap();
    let mut watch = Impatient::default();
    let err = hub.fetch(&repo, file, 1 << 30, &folder, &mut watch).unwrap_err();
    assert!(matches!(err, HubError::Short { .. }), "{err}");
    // Each try got half of what was left.
    assert_eq!(watch.0.lock().unwrap().len(), 4);
    let err = hub.open(&id, &revision).unwrap_err();
    assert!(matches!(err, HubError::Connect { .. }), "{err}");
}

#[test]
fn https_needs_a_certificate_that_the_system_trusts() {
    let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("roots.pem");
    fs::write(&roots, key.cert.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private.unwrap())
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream.unwrap());
            let mut buffer = [0; 4096];
            // Whoever does not trust the certificate sends nothing.
            if stream.read(&mut buffer).is_ok_and(|n| 0 < n) {
                let head = b"HTTP/1.1 404 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.write_all(head).unwrap();
            }
        }
    });
    let place = Place { hub: FakeHub::start(BTreeMap::new()), dir };
    let mut command = place.command(&["--endpoint", &address]);
    let ran = Ran::from(command.env("SSL_CERT_FILE", &roots).output().unwrap());
    assert!(ran.stderr.contains("answers 404"), "{}", ran.stderr);
    let message = place.refusal(&["--endpoint", &address]);
    assert!(message.contains("cannot talk to https://127.0.0.1"), "{message}");
    assert!(message.contains("certificate"), "{message}");
}
