//! `models bench --paced`, as `cargo xtask bench encoder` drives it.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn paced(input: &str) -> Output {
    let starter = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/starter");
    let mut child = Command::new(env!("CARGO_BIN_EXE_lookout"))
        .args(["models", "bench", "--paced", starter])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn each_line_is_answered_and_the_report_comes_last() {
    let output = paced("2\n1\n");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}");
    let lines: Vec<serde_json::Value> =
        stdout.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let times = |at: usize| lines[at]["cpu_ms"].as_array().unwrap().len();
    assert_eq!((lines.len(), times(0), times(1), times(2)), (4, 0, 2, 1), "{stdout}");
    assert_eq!(lines[3]["pictures"], 3);
    assert!(lines[3]["cosine_min"].as_f64().unwrap() > 0.9, "{stdout}");
}

#[test]
fn a_line_that_is_no_number_of_pictures_is_named() {
    for line in ["0", "many", "100001"] {
        let output = paced(&format!("{line}\n"));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{line}");
        assert!(stderr.contains("1 to 100000") && stderr.contains(line), "{stderr}");
    }
}
