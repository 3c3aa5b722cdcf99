//! `configs/`: the examples hold, and the README lists every key with its rule and default, and
//! no other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Fixture;
use crate::{Config, LabelSet};

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

/// A row of a table: rule, and default where it is a literal.
struct Row {
    rule: String,
    default: Option<String>,
}

/// The rows of the tables below the heading `## title`, by key.
fn rows(title: &str) -> BTreeMap<String, Row> {
    let text = std::fs::read_to_string(configs().join("README.md")).unwrap();
    let section = text.split("\n## ").find(|it| it.starts_with(title)).unwrap();
    let mut rows = BTreeMap::new();
    for line in section.lines().filter(|it| it.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, key, rule, default, _meaning, _] = cells[..] else { panic!("{line}") };
        let literal = |it: &str| Some(it.strip_prefix('`')?.strip_suffix('`')?.to_owned());
        let row = Row { rule: rule.to_owned(), default: literal(default) };
        let known = rows.insert(literal(key).unwrap(), row);
        assert!(known.is_none(), "twice: {line}");
    }
    rows
}

/// The keys that a message names as known.
fn known_keys(message: &str) -> BTreeSet<String> {
    let list = message.lines().find_map(|it| it.split_once("its keys are ")).unwrap().1;
    list.split(", ").map(str::to_owned).collect()
}

/// The last level of each key of `rows` directly below `section`, sections included.
fn documented(rows: &BTreeMap<String, Row>, section: &str) -> BTreeSet<String> {
    let below = |key: &String| Some(key.strip_prefix(section)?.split('.').next()?.to_owned());
    rows.keys().filter_map(below).collect()
}

#[test]
fn the_readme_has_every_key_and_no_other() {
    let rows = rows("Keys");
    for section in [
        "",
        "background.",
        "encoder.",
        "fusion.",
        "decision.",
        "gate.",
        "mqtt.",
        "stop.",
        "cameras.ID.",
        "cameras.ID.decision.",
    ] {
        let key = format!("{}zzz", section.replace("ID", "front"));
        let fixture = Fixture::minimal(&[(&key, "1")]);
        let known = known_keys(&fixture.message(fixture.load()));
        assert_eq!(documented(&rows, section), known, "keys of `{section}`");
    }
}

#[test]
fn the_readme_states_every_rule() {
    for (key, Row { rule, .. }) in rows("Keys") {
        let key = key.replace("ID", "front");
        let fixture = Fixture::minimal(&[(&key, "[[]]")]);
        let message = fixture.message(fixture.load());
        let want = format!("`{key}` must be {rule}, got a list of 1");
        assert!(message.contains(&want), "want {want}\n got {message}");
    }
}

#[test]
fn the_readme_states_every_default() {
    let plain = |fixture: &Fixture| {
        let mut config = fixture.load().unwrap();
        config.file = PathBuf::new();
        config.model = PathBuf::new();
        config.places.clear();
        config
    };
    let minimal = plain(&Fixture::minimal(&[]));
    let mut n_literals = 0;
    for (key, Row { default, .. }) in rows("Keys") {
        let Some(default) = default else { continue };
        n_literals += 1;
        let key = key.replace("ID", "front");
        let given = plain(&Fixture::minimal(&[(&key, &default)]));
        assert_eq!(given, minimal, "{key} = {default}");
    }
    assert_eq!(n_literals, 22);
}

#[test]
fn the_readme_describes_label_sets() {
    let rows = rows("Label set");
    let message = |text: &str| {
        let fixture = Fixture::new(text);
        fixture.message(LabelSet::load(&fixture.path))
    };
    assert_eq!(documented(&rows, ""), known_keys(&message("zzzzzzzzz = 1")));
    assert_eq!(documented(&rows, "label."), known_keys(&message("[[label]]\nzzzzzzzzz = 1")));
    for (key, Row { rule, .. }) in &rows {
        let text = match key.strip_prefix("label.") {
            Some(key) => format!("[[label]]\n{key} = [[]]"),
            None => format!("{key} = [[]]"),
        };
        assert!(message(&text).contains(&format!(" must be {rule}, got a list of 1")), "{key}");
    }
}

#[test]
fn the_examples_hold() {
    for name in ["demo.toml", "usb-camera.toml"] {
        let config = Config::load(&configs().join(name), [], &[]);
        assert!(config.is_ok(), "{}", config.unwrap_err());
    }
    let coco = LabelSet::load(&configs().join("labels/coco-80.toml")).unwrap();
    let classes = coco.class_set(&["{}".to_owned()]).unwrap();
    assert_eq!(classes.classes().len(), 80);
    assert_eq!(classes.classes()[9].id.as_str(), "traffic_light");
}

/// Every key either waits for the next start or may change while cameras run.
#[test]
fn every_key_is_told_for_restart_or_belongs_to_labels_and_decision() {
    const BASE: [(&str, &str); 6] = [
        ("background.bank", "\"everyday\""),
        ("mqtt.port", "1"),
        ("mqtt.user", "\"u\""),
        ("mqtt.tls", "true"),
        ("fusion.weighting", "\"history\""),
        ("fusion.window", "2"),
    ];
    let config = |change: &[(&str, &str)]| {
        let kept = BASE.iter().filter(|(key, _)| change.iter().all(|(it, _)| it != key));
        let keys: Vec<(&str, &str)> = kept.chain(change).copied().collect();
        let fixture = Fixture::minimal(&keys);
        std::fs::write(fixture.folder.path().join("set.toml"), SET).unwrap();
        let folder = fixture.folder.path().display().to_string();
        let mut config = fixture.load().unwrap_or_else(|error| panic!("{change:?}: {error}"));
        // The folder is another one each time.
        for path in [&mut config.model, &mut config.file] {
            *path = path.strip_prefix(&folder).unwrap().to_owned();
        }
        config
    };
    const SET: &str = "[[label]]\nname = \"x\"\n[[negative]]\nname = \"y\"\n";
    const NO_WORDS: [(&str, &str); 2] = [("labels", ""), ("negatives", "")];
    let base = config(&[]);
    assert_eq!(base.changes_for_restart(&config(&[])), Vec::<String>::new());
    for key in rows("Keys").into_keys() {
        let key = key.replace("ID", "front");
        let last = key.rsplit('.').next().unwrap();
        let value = match last {
            "device" => "\"cpu\"",
            "weighting" => "\"memoryless\"",
            "adaptation" => "\"shadow\"",
            "tls" | "enabled" | "rerank" | "dedupe" => "false",
            "labels" | "negatives" => "[\"a tree\"]",
            "templates" => "[\"a drawing of {}\"]",
            "labels_file" => "\"set.toml\"",
            "keep_alive_s" | "max_packet_kib" | "candidates" => "99",
            "captions" | "window" | "port" => "7",
            "enter" | "margin" | "familiarity" => "0.5",
            "exit" => "0.1",
            _ if last.ends_with("_s") || ["luma_change", "max_fps", "sigmas"].contains(&last) => {
                "7.5"
            }
            _ => "\"other\"",
        };
        let mut change = vec![(key.as_str(), value)];
        match key.as_str() {
            "labels_file" => change.extend(NO_WORDS),
            "fusion.weighting" => change.push(("fusion.window", "")),
            _ => {}
        }
        let changed = config(&change);
        let may_change = key.contains("decision.")
            || ["calibration", "labels", "negatives", "templates", "labels_file"].contains(&last);
        let expected = if may_change { vec![] } else { vec![key.clone()] };
        assert_eq!(base.changes_for_restart(&changed), expected, "{key}");
    }
    let more = config(&[("cameras.back.uri", "\"dir:x\"")]);
    assert_eq!(base.changes_for_restart(&more), ["cameras.back"]);
    assert_eq!(more.changes_for_restart(&base), ["cameras.back"]);
}
