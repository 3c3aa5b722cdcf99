//! Every verb explains itself, with examples.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::process::Command;

fn help(args: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_lookout")).args(args).arg("--help").output().unwrap();
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_verb_has_examples() {
    for args in [
        &[][..],
        &["demo"],
        &["run"],
        &["check"],
        &["calibrate"],
        &["classify"],
        &["embed"],
        &["eval"],
        &["replay"],
        &["index", "build"],
        &["index", "info"],
        &["index", "search"],
        &["labels", "tune"],
        &["labels", "show"],
        &["suggest"],
        &["teach"],
        &["models", "verify"],
        &["models", "get"],
        &["models", "import"],
    ] {
        let help = help(args);
        let (_, examples) =
            help.split_once("Example").unwrap_or_else(|| panic!("{args:?}: {help}"));
        let command = ["lookout", &args.join(" ")].join(" ");
        assert!(examples.contains(command.trim()), "{args:?}: {help}");
    }
    assert!(!help(&[]).contains("capture-worker"), "it is not for people");
}

#[test]
fn wrong_usage_says_what_is_missing_and_exits_1() {
    for (args, part) in [
        (&["run"][..], "--config"),
        (&["classify", "x.jpg"], "--label"),
        (&["index", "build", "x.tsv"], "--output"),
        (&["demo", "--frames", "0"], "--frames"),
        (&["demo", "--port", "70000"], "--port"),
        (&["check", "--config", "x", "--set", "novalue"], "KEY=VALUE"),
        (&["watch"], "unrecognized"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_lookout")).args(args).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains(part), "{args:?}: {stderr}");
    }
}
