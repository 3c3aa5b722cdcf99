//! What an operator or an attacker may put in the way: each was once a crash, a hang or a loss.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Ran, lookout, root, run};

const PICTURE: &str = "models/starter/pictures/coco_000000000285.jpg";
const CLASSES: [&str; 4] = ["--label", "a bear", "--negative", "an empty room"];

fn classify(pictures: &[&str]) -> Ran {
    run(&[&["classify", "--json"], &CLASSES[..], pictures].concat())
}

fn pipe(path: &Path) -> String {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    path.to_str().unwrap().to_owned()
}

/// A minimal configuration, with `more` at its end.
fn config(folder: &Path, more: &str) -> String {
    let model = root().join("models/starter");
    let text = format!(
        "node = 'test'\nmodel = '{model}'\nindex = '{model}/captions.lidx'\n\
         labels = ['a bear']\nnegatives = ['an empty room']\n\
         cameras.yard.uri = 'dir:.'\n[mqtt]\nhost = '127.0.0.1'\n{more}\n",
        model = model.display()
    );
    let path = folder.join("lookout.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_log_that_cannot_be_written_is_only_lost() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = lookout()
        .args(["classify", "--json"])
        .args(CLASSES)
        .arg(PICTURE)
        .arg("no-such-picture.jpg")
        .env("LOOKOUT_LOG", "trace")
        .stderr(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "one picture is missing");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    for args in [&["classify", "--label", "a", "--label", "b", PICTURE][..], &["demo"]] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = lookout().args(args).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("cannot write to standard output"), "{stderr}");
    }
}

#[test]
fn only_an_index_is_replaced_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let captions = at("captions.tsv");
    fs::write(&captions, "a bear in a river\na cat on a sofa\n").unwrap();
    let build = |output: &str| run(&["index", "build", &captions, "--output", output]);
    build(&captions).failed(1, &["captions.tsv", "no caption index"]);
    build(&pipe(&folder.path().join("pipe"))).failed(1, &["pipe", "no regular file"]);
    std::os::unix::fs::symlink(&captions, at("link")).unwrap();
    build(&at("link")).failed(1, &["link", "no regular file"]);
    build(&at("missing/x.lidx")).failed(1, &["missing/x.lidx", "folder"]);
    assert_eq!(fs::read_to_string(&captions).unwrap(), "a bear in a river\na cat on a sofa\n");

    let output = at("own.lidx");
    for _ in 0..2 {
        let built = build(&output);
        assert_eq!(built.code, Some(0), "{}", built.stderr);
    }
    let found = run(&["index", "search", "--index", &output, "-n", "1", PICTURE]);
    assert!(found.stdout.contains("a bear in a river"), "{}{}", found.stdout, found.stderr);
    // What was cut off may be replaced, but not used.
    let whole = fs::read(&output).unwrap();
    fs::write(&output, &whole[..whole.len() / 2]).unwrap();
    run(&["index", "info", &output]).failed(1, &["own.lidx"]);
    assert_eq!(build(&output).code, Some(0));
    assert_eq!(fs::read(&output).unwrap(), whole, "built again, the same bytes");
}

#[test]
fn a_pipe_in_place_of_a_file_does_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = pipe(&folder.path().join("pipe"));
    run(&["check", "--config", &pipe]).failed(78, &["pipe"]);
    run(&["classify", "--labels", &pipe, PICTURE]).failed(78, &["pipe"]);
    classify(&[&pipe]).failed(1, &[]);
    let secret = config(folder.path(), &format!("user = 'u'\npassword_file = '{pipe}'"));
    run(&["check", "--config", &secret]).failed(78, &["mqtt.password_file"]);
    let get = ["models", "get", "owner/name", "--endpoint", "http://127.0.0.1:9"];
    run(&[&get[..], &["--token-file", &pipe]].concat()).failed(1, &["pipe", "regular file"]);
    let ca = config(folder.path(), &format!("tls = true\nca_file = '{pipe}'"));
    run(&["check", "--config", &ca]).failed(78, &["mqtt.ca_file", "regular file"]);
}

#[test]
fn check_finds_what_run_would_stumble_over() {
    let folder = tempfile::tempdir().unwrap();
    let check = |more: &str| run(&["check", "--config", &config(folder.path(), more)]);
    let good = check("");
    assert_eq!(good.code, Some(0), "{}", good.stderr);
    let picture = root().join(PICTURE);
    check(&format!("tls = true\nca_file = '{}'", picture.display())).failed(78, &["certificate"]);

    let names: Vec<String> = (0..300).map(|n| format!("'{n} {}'", "x".repeat(900))).collect();
    let many = config(folder.path(), "");
    let labels = format!("labels = [{}]", names.join(","));
    let text = fs::read_to_string(&many).unwrap().replace("labels = ['a bear']", &labels);
    fs::write(&many, text).unwrap();
    run(&["check", "--config", &many]).failed(78, &["mqtt.max_packet_kib"]);

    // A damaged caption is found by `check`, which reads all; a running daemon goes on.
    let index = folder.path().join("flipped.lidx");
    let mut bytes = fs::read(root().join("models/starter/captions.lidx")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&index, bytes).unwrap();
    let flipped = config(folder.path(), "");
    let set = format!("index={}", index.display());
    run(&["check", "--config", &flipped, "--set", &set]).failed(78, &["`index`", "flipped.lidx"]);
}

#[test]
fn names_cannot_forge_lines() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("x.jpg: a bear\u{1b}[31m\ny.jpg");
    fs::copy(root().join(PICTURE), &name).unwrap();
    let args = [&["classify"], &CLASSES[..], &[name.to_str().unwrap()]].concat();
    let ran = run(&args);
    assert_eq!(ran.code, Some(0));
    assert!(!ran.stdout.contains('\u{1b}') && !ran.stdout.contains("\ny.jpg"), "{}", ran.stdout);
}

#[test]
fn a_variable_that_is_not_unicode_is_a_fault() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let output = lookout()
        .args(["check", "--config", &config(folder.path(), "")])
        .env("LOOKOUT__MQTT__HOST", std::ffi::OsStr::from_bytes(b"\xff"))
        .output()
        .unwrap();
    Ran::from(output).failed(78, &["LOOKOUT__MQTT__HOST"]);
}

#[test]
fn a_closed_pipe_ends_the_output_quietly() {
    let mut child = lookout()
        .args(["classify", "--json"])
        .args(CLASSES)
        .args([PICTURE; 3])
        .stdout(Stdio::piped())
        .stderr(File::create("/dev/null").unwrap())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_text_beyond_the_limit_is_not_told_whole() {
    let text = "x".repeat(70_000);
    for json in [&[][..], &["--json"]] {
        let ran = run(&[&["embed", "--text", &text], json].concat());
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        let told = if json.is_empty() { &ran.stderr } else { &ran.stdout };
        assert!(told.contains("may have at most 65536 bytes, got 70000"), "{}", ran.stderr);
        if json.is_empty() {
            assert!(told.len() < 400, "{} bytes", told.len());
        }
    }
}
