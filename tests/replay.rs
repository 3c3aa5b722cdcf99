//! `lookout replay` on real pictures, against what `run` publishes for them.

use std::fs;

use serde_json::Value;

use crate::daemon::Site;
use crate::support::{Mosquitto, Ran, root, run};

const BEAR: &str = "coco_000000000285.jpg";
const KITCHEN: &str = "coco_000000030213.jpg";
const PICTURES: [&str; 5] =
    [BEAR, "coco_000000020247.jpg", KITCHEN, "coco_000000165518.jpg", "coco_000000358083.jpg"];

fn site(port: u16) -> Site {
    let site = Site::new(port, "dir:pictures?fps=2&loop=false");
    for name in PICTURES {
        let from = root().join("models/starter/pictures").join(name);
        fs::copy(from, site.folder.path().join("pictures").join(name)).unwrap();
    }
    site
}

fn replay(site: &Site, args: &[&str]) -> Ran {
    let config = site.config().display().to_string();
    let recording = site.folder.path().join("pictures").display().to_string();
    let fixed = ["replay", &recording, "--config", &config, "--camera", "yard"];
    run(&[&fixed, args].concat())
}

fn table(site: &Site, text: &str) {
    fs::write(site.folder.path().join("pictures/frames.tsv"), text).unwrap();
}

/// What an event goes to: a label's id, else the state.
fn published(side: &Value) -> String {
    side["label"]["id"].as_str().or(side["state"].as_str()).unwrap().to_owned()
}

fn replayed(change: &Value) -> String {
    let is_label = change["state"] == "label";
    let to = change["to"].as_str().filter(|_| is_label);
    to.or(change["state"].as_str()).unwrap().to_owned()
}

#[test]
fn changes_are_those_that_run_publishes() {
    let mosquitto = Mosquitto::start();
    let site = site(mosquitto.port());
    let messages = mosquitto.subscribe();
    let (mut daemon, log) = site.run_with(|_| {});
    let mut live: Vec<(String, f64)> = Vec::new();
    messages.until(|it| {
        if it.topic.ends_with("/event") {
            let event = it.json();
            live.push((published(&event["to"]), event["score"].as_f64().unwrap()));
        }
        it.topic == "lookout/test/status" && it.payload == "offline"
    });
    assert_eq!(daemon.wait(), Some(0), "{:?}", log.rest());
    let ran = replay(&site, &["--fps", "2", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report = ran.json().remove(0);
    let run = &report["runs"][0];
    assert_eq!((&report["frames"], &run["evaluated"]), (&5.into(), &5.into()));
    let changes = run["changes"].as_array().unwrap();
    let then: Vec<String> = changes.iter().map(replayed).collect();
    assert_eq!(then, live.iter().map(|it| it.0.clone()).collect::<Vec<_>>());
    assert!(3 <= then.len(), "{then:?}");
    for (change, (_, score)) in changes.iter().zip(&live) {
        let got = change["score"].as_f64().unwrap();
        assert!((got - score).abs() < 1e-6, "{change} {score}");
    }
}

#[test]
fn truth_is_held_against_what_was_said() {
    let site = site(1);
    let rows: String = [
        (BEAR, "0\tA Bear"),
        (BEAR, "2\ta kitchen"),
        (KITCHEN, "5\ta_kitchen"),
        (BEAR, "10\tnone"),
        (KITCHEN, "20\ta cat"),
    ]
    .map(|(picture, rest)| format!("{picture}\t{rest}\n"))
    .concat();
    table(&site, &format!("file\tseconds\ttruth\n{rows}"));
    let page = site.folder.path().join("page.html");
    let ran = replay(
        &site,
        &[
            "--json",
            "--html",
            &page.display().to_string(),
            "--compare",
            "cameras.yard.max_fps=0.01",
        ],
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report = ran.json().remove(0);
    let judged = &report["runs"][0]["figures"]["judged"];
    // A bear where nothing is right, and a kitchen where a cat is.
    assert_eq!(judged["false_alarms"], 2, "{report:#}");
    assert_eq!((&judged["true_changes"], &judged["missed"]), (&3.into(), &2.into()));
    assert_eq!(judged["longest_delay_s"], 3.0);
    let other = &report["runs"][1];
    assert_eq!((&other["evaluated"], &other["dropped"]), (&1.into(), &4.into()));
    let page = fs::read_to_string(page).unwrap();
    // Each change with its frame, and each true change with its first; the second run saw one frame.
    assert_eq!(page.matches("data:image/jpeg;base64,").count(), 4 + 3 + 1);
    assert_eq!(page.matches("false alarm</strong>").count(), 2);
}

#[test]
fn parts_that_are_no_frames_are_no_unreadable_frames() {
    let site = site(1);
    let recording = site.folder.path().join("yard.mjpeg");
    let picture = fs::read(root().join("models/starter/pictures").join(PICTURES[0])).unwrap();
    fs::write(&recording, [&picture[..], &[7; 100]].concat()).unwrap();
    let (config, recording) = (site.config(), recording.display().to_string());
    let config = config.display().to_string();
    let fixed = ["replay", &recording, "--config", &config, "--camera", "yard"];
    let ran = run(&[&fixed[..], &["--json"]].concat());
    ran.failed(1, &["yard.mjpeg"]);
    let report = ran.json().remove(0);
    let counts = ["frames", "unreadable", "damaged"].map(|it| report[it].as_u64());
    assert_eq!(counts, [1, 0, 1].map(Some));
    assert_eq!(report["runs"][0]["evaluated"], 1);
    // And it is no place for a page.
    run(&[&fixed[..], &["--html", &recording]].concat()).failed(1, &["the recording itself"]);
    let nowhere = site.folder.path().join("no/page.html").display().to_string();
    let ran = run(&[&fixed[..], &["--html", &nowhere]].concat());
    ran.failed(1, &[&format!("cannot write {nowhere}: there is no folder")]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 1), "{}", ran.stderr);
    assert!(fs::read(&recording).unwrap().starts_with(&picture));
}

#[test]
fn damaged_parts_cost_no_frame_and_a_cut_off_frame_is_one_that_is_unreadable() {
    let site = site(1);
    let recording = site.folder.path().join("yard.mjpeg");
    let read = |name| fs::read(root().join("models/starter/pictures").join(name)).unwrap();
    let pictures = PICTURES.map(read);
    // Two bytes that begin a picture, and what would be a segment as long as the next pictures.
    let garbage = [&[7; 50_000][..], &[0xff, 0xd8, 0xff ^ 1, 0xff, 0xe1, 0xff, 0xff]].concat();
    let [a, b, c, d, e] = &pictures;
    let all = [&garbage[..], a, &garbage, b, &c[..3000], d, &garbage, e].concat();
    fs::write(&recording, all).unwrap();
    let config = site.config().display().to_string();
    let recording = recording.display().to_string();
    let fixed = ["replay", &recording, "--config", &config, "--camera", "yard"];
    let ran = run(&[&fixed[..], &["--json"]].concat());
    ran.failed(1, &["yard.mjpeg#3", "are no JPEG and were passed over"]);
    let report = ran.json().remove(0);
    let counts = ["frames", "unreadable", "damaged"].map(|it| report[it].as_u64());
    assert_eq!(counts, [5, 1, 3].map(Some));
    assert_eq!(report["runs"][0]["evaluated"], 4);
    let ran = run(&fixed);
    ran.failed(1, &[]);
    assert!(
        ran.stdout.contains("\n5 frames, 1 unreadable; damaged parts of the recording: 3\n"),
        "{}",
        ran.stdout
    );
    for content in [&b""[..], &garbage, &c[..3000]] {
        fs::write(&recording, content).unwrap();
        let ran = run(&fixed);
        ran.failed(1, &["no frame of the recording can be read"]);
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn reasons_are_the_codes_that_payloads_have() {
    let site = site(1);
    let ran = replay(&site, &["--json", "--set", "decision.margin=0.99", "--fps", "2"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report = ran.json().remove(0);
    let spells = report["runs"][0]["timeline"].as_array().unwrap();
    assert!(spells.iter().any(|it| it["reason"] == "low_margin"), "{report:#}");
}

#[test]
fn what_is_wrong_is_told_and_the_rest_goes_on() {
    let site = site(1);
    table(&site, "file\tseconds\ttruth\na.jpg\t0\ta fox\nb.jpg\t1\ta yak\n");
    let compared = ["--compare", "decision.dwell_s=1", "--compare", "decision.dwell_s=2"];
    let ran = replay(&site, &compared);
    ran.failed(78, &["frames.tsv:2: `truth` must be the id, the name or an alias", "a yak"]);
    assert_eq!(ran.stderr.matches("a fox").count(), 1, "{}", ran.stderr);
    table(&site, "file\tseconds\ttruth\ttruth\na.jpg\t0\ta fox\ta yak\n");
    replay(&site, &[]).failed(1, &["frames.tsv:1: one column must be headed `truth`"]);
    table(&site, &format!("file\tseconds\ttrut\n{BEAR}\t0\ta fox\n"));
    let ran = replay(&site, &compared);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let told = "frames.tsv:1: column headed \"trut\" passed over";
    assert_eq!(ran.stderr.matches(told).count(), 1, "{}", ran.stderr);
    table(&site, &format!("file\tseconds\n{}\t0\ngone.jpg\t1\n{0}\t2\n", BEAR));
    let ran = replay(&site, &["--json"]);
    ran.failed(1, &["gone.jpg"]);
    let report = ran.json().remove(0);
    assert_eq!((&report["frames"], &report["unreadable"]), (&3.into(), &1.into()));
    assert_eq!(report["runs"][0]["evaluated"], 2);
    replay(&site, &["--compare", "model=elsewhere"]).failed(78, &["must leave model as it is"]);
    replay(&site, &["--compare", "decision.dwell=1"]).failed(78, &["decision.dwell"]);
    replay(&site, &["--fps", "2"]).failed(1, &["says when each frame was taken"]);
}
