//! `run` and `demo` as processes, with real brokers.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{
    Lines, Message, Mosquitto, Running, Subscription, free_port, lookout, root, run,
};

/// A folder with a configuration for `run`: one camera of two pictures.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new(port: u16, uri: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = root().join("models/starter");
        let text = format!(
            r#"
            node = "test"
            state = "test.state"
            model = "{model}"
            index = "{model}/captions.lidx"
            labels = ["a bear", "a kitchen", "a cat", "a motorcycle"]
            negatives = ["an empty street"]
            [decision]
            smoothing_s = 0
            dwell_s = 0
            cooldown_s = 0
            [mqtt]
            host = "127.0.0.1"
            port = {port}
            [cameras.yard]
            uri = "{uri}"
            max_fps = 20
            [cameras.shed]
            uri = "dir:nowhere"
            enabled = false
            "#,
            model = model.display(),
        );
        fs::write(folder.path().join("lookout.toml"), text).unwrap();
        fs::create_dir(folder.path().join("pictures")).unwrap();
        for name in ["coco_000000000285.jpg", "coco_000000030213.jpg"] {
            let from = root().join("models/starter/pictures").join(name);
            fs::copy(from, folder.path().join("pictures").join(name)).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("lookout.toml")
    }

    /// Starts the daemon and waits until it says that it is ready.
    fn run(&self) -> (Running, Lines) {
        self.run_with(|_| {})
    }

    /// Likewise, after `change` to the command.
    pub(crate) fn run_with(&self, change: impl FnOnce(&mut Command)) -> (Running, Lines) {
        let mut command = lookout();
        command.args(["run", "--config"]).arg(self.config());
        change(&mut command);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Lines::of(child.stderr.take().unwrap());
        log.until(|line| line.contains("Ready.").then_some(()));
        (Running(child), log)
    }
}

fn is_state(message: &Message, label: &str) -> bool {
    message.topic == "lookout/test/yard/state" && message.json()["label"]["id"] == label
}

#[test]
fn a_broker_that_is_killed_and_comes_back_empty_knows_everything_again() {
    let mut mosquitto = Mosquitto::start();
    let site = Site::new(mosquitto.port(), "dir:pictures?fps=4");
    let (mut daemon, log) = site.run();

    let before = mosquitto.subscribe();
    let event = before.until_topic("lookout/test/yard/event").json();
    assert_eq!(event["replayed"], false);
    let last_seq = event["seq"].as_u64().unwrap();
    mosquitto.kill();
    log.until(|line| line.contains("WARN").then_some(()));
    mosquitto.restart();

    let after = mosquitto.subscribe();
    let mut seen: Vec<Message> = Vec::new();
    let mut events: Vec<Value> = Vec::new();
    after.until(|message| {
        if message.topic.ends_with("/event") {
            events.push(message.json());
        }
        seen.push(message.clone());
        events.len() == 6
    });
    let payload = |topic: &str| {
        let found = seen.iter().find(|it| it.topic == format!("lookout/test/{topic}"));
        found.unwrap_or_else(|| panic!("no {topic} in {seen:?}")).payload.clone()
    };
    assert_eq!(payload("status"), "online");
    assert_eq!(payload("yard/status"), "streaming");
    assert_eq!(payload("shed/status"), "disabled");
    let info: Value = serde_json::from_str(&payload("info")).unwrap();
    assert_eq!(info["model"]["space"], "starter-2");
    let state: Value = serde_json::from_str(&payload("yard/state")).unwrap();
    assert_eq!(state["v"], 1);
    // Nothing was lost and nothing came out of order.
    let seqs: Vec<u64> = events.iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    // Only an event whose acknowledgement was lost with the broker comes again, and says so.
    assert!(last_seq < seqs[0] || (last_seq == seqs[0] && events[0]["replayed"] == true));
    for pair in events.windows(2) {
        assert_eq!(pair[0]["to"], pair[1]["from"], "{events:#?}");
    }

    daemon.signal("-TERM");
    assert_eq!(daemon.wait(), Some(0), "{:?}", log.rest());
    let offline = mosquitto.subscribe().until_topic("lookout/test/status");
    assert!(offline.payload == "offline" && offline.retained);
}

/// Compiling labels takes the text tower, and a daemon that is ready has given it back. Without
/// frames it then holds little more than the image tower; the text tower's weights alone, in 8
/// bits as in its file, would go beyond the bound.
#[test]
fn the_text_tower_is_gone_when_the_daemon_is_ready() {
    let site = Site::new(free_port(), "dir:nowhere");
    let (daemon, _log) = site.run();
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("RssAnon:")).unwrap();
    let got: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    let kib =
        |name: &str| fs::metadata(root().join("models/starter").join(name)).unwrap().len() / 1024;
    let bound = 2 * kib("image.onnx") + kib("text.onnx");
    assert!(got < bound, "{got} KiB of anonymous memory, the bound is {bound} KiB");
}

#[test]
fn a_daemon_that_is_killed_is_offline_by_its_will() {
    let mosquitto = Mosquitto::start();
    let site = Site::new(mosquitto.port(), "dir:pictures?fps=4");
    let (daemon, _log) = site.run();
    let messages = mosquitto.subscribe();
    messages.until(|it| it.topic == "lookout/test/status" && it.payload == "online");
    daemon.signal("-KILL");
    messages.until(|it| it.topic == "lookout/test/status" && it.payload == "offline");
}

#[test]
fn a_camera_that_is_away_says_so_and_is_found_again() {
    let mosquitto = Mosquitto::start();
    let site = Site::new(mosquitto.port(), "dir:later?fps=4");
    let (mut daemon, log) = site.run();
    let messages = mosquitto.subscribe();
    messages.until(|it| it.topic == "lookout/test/yard/status" && it.payload == "disconnected");
    fs::rename(site.folder.path().join("pictures"), site.folder.path().join("later")).unwrap();
    messages.until(|it| it.topic == "lookout/test/yard/status" && it.payload == "streaming");
    messages.until(|it| is_state(it, "a_bear"));
    messages.until(|it| is_state(it, "a_kitchen"));
    daemon.signal("-INT");
    assert_eq!(daemon.wait(), Some(0), "{:?}", log.rest());
}

#[test]
fn each_camera_has_its_own_labels() {
    let mosquitto = Mosquitto::start();
    let site = Site::new(mosquitto.port(), "dir:pictures?fps=4");
    let text = fs::read_to_string(site.config()).unwrap().replace(
        "uri = \"dir:nowhere\"\n            enabled = false",
        "uri = \"dir:pictures?fps=4\"\nmax_fps = 20\n\
         labels = [\"a stove\", \"an airplane\"]\nnegatives = [\"a brown bear\"]",
    );
    fs::write(site.config(), text).unwrap();
    let (mut daemon, log) = site.run();
    let messages = mosquitto.subscribe();
    let evidence = |camera: &str, picture: &str| {
        let topic = format!("lookout/test/{camera}/evidence");
        let it = messages.until(|it| it.topic == topic && it.json()["picture"] == picture).json();
        let scores = it["image"]["scores"].as_object().unwrap().clone();
        scores.keys().next().unwrap().clone()
    };
    assert_eq!(evidence("yard", "coco_000000000285.jpg"), "a_bear");
    assert_eq!(evidence("shed", "coco_000000000285.jpg"), "a_brown_bear");
    assert_eq!(evidence("yard", "coco_000000030213.jpg"), "a_kitchen");
    assert_eq!(evidence("shed", "coco_000000030213.jpg"), "a_stove");
    daemon.signal("-TERM");
    assert_eq!(daemon.wait(), Some(0), "{:?}", log.rest());
}

#[test]
fn a_stop_without_a_broker_ends_too() {
    let site = Site::new(free_port(), "dir:pictures?fps=4");
    let (mut daemon, log) = site.run();
    daemon.signal("-TERM");
    assert_eq!(daemon.wait(), Some(0), "{:?}", log.rest());
}

#[test]
fn a_second_signal_does_not_wait_for_a_broker_that_never_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new(silent.local_addr().unwrap().port(), "dir:pictures?fps=4");
    let (mut daemon, log) = site.run();
    daemon.signal("-TERM");
    log.until(|line| line.contains("Camera ended").then_some(()));
    daemon.signal("-TERM");
    let said = log.until(|line| line.contains("second signal").then(|| line.to_owned()));
    assert!(said.contains("before all was delivered"), "{said}");
    assert_eq!(daemon.wait(), Some(1));
}

#[test]
fn check_says_good_or_lists_every_fault() {
    let site = Site::new(1883, "dir:pictures");
    let config = site.config();
    let path = config.to_str().unwrap();
    let good = run(&["check", "--config", path]);
    assert_eq!(good.code, Some(0), "{}", good.stderr);
    assert!(good.stdout.contains("24507 captions"), "{}", good.stdout);

    run(&["check", "--config", path, "--set", "decision.enter=2", "--set", "mqtt.port=x"])
        .failed(78, &["decision.enter", "mqtt.port"]);
    let uris = ["cameras.yard.uri=ftp://user:secret@host/", "cameras.shed.uri=dir:x?fps=0"];
    let bad = run(&["check", "--config", path, "--set", uris[0], "--set", uris[1]]);
    bad.failed(78, &["cameras.yard.uri", "cameras.shed.uri", "ftp", "fps"]);
    assert!(!bad.stderr.contains("secret"), "{}", bad.stderr);
    run(&["run", "--config", path, "--set", "decision.exit=0.9"]).failed(78, &["exit"]);
    run(&["run", "--config", "no-such.toml"]).failed(78, &["no-such.toml"]);
    run(&["check", "--config", path, "--set", "model=no/such/model"])
        .failed(78, &["model", "no/such/model"]);
    run(&["check", "--config", path, "--set", "fusion.candidates=15"])
        .failed(78, &["fusion.candidates", "at least the captions kept (16), got 15"]);
    let ca = site.folder.path().join("ca.pem");
    fs::write(&ca, vec![b'\n'; (1 << 20) + 1]).unwrap();
    let ca = format!("mqtt.ca_file={}", ca.display());
    run(&["check", "--config", path, "--set", "mqtt.tls=true", "--set", &ca])
        .failed(78, &["mqtt.ca_file", "at most 1048576 bytes, got 1048577"]);
}

#[test]
fn the_demo_publishes_what_classify_says() {
    let mut child = lookout()
        .args(["demo", "--frames", "8", "--json", "--port", &free_port().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = Lines::of(child.stdout.take().unwrap());
    let stderr = Lines::of(child.stderr.take().unwrap());
    let mut demo = Running(child);
    let port = stderr.until(|line| {
        let rest = line.split_once("127.0.0.1:").expect("the first line names the broker").1;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some(digits.parse().unwrap())
    });
    let subscription = Subscription::to(port);
    let mut messages: Vec<Message> = Vec::new();
    subscription.until(|message| {
        messages.push(message.clone());
        message.topic == "lookout/demo/status" && message.payload == "offline"
    });
    assert_eq!(demo.wait(), Some(0), "{:?}", stderr.rest());
    let printed: Vec<Value> =
        stdout.rest().iter().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(printed.len(), 8);

    // What the demo printed and what `classify` says of the same pictures.
    let paths: Vec<String> = printed
        .iter()
        .map(|it| format!("models/starter/pictures/{}", it["picture"].as_str().unwrap()))
        .collect();
    let mut args = vec!["classify", "--json", "--labels", "configs/labels/demo.toml"];
    args.extend(paths.iter().map(String::as_str));
    let classified = run(&args);
    assert_eq!(classified.code, Some(0), "{}", classified.stderr);
    for (printed, classified) in printed.iter().zip(classified.json()) {
        for key in ["reason", "label", "margin", "scores", "image", "captions", "weights", "state"]
        {
            assert_eq!(printed[key], classified[key], "{key} of {}", printed["picture"]);
        }
    }

    // What came over MQTT.
    let of = |topic: &str| -> Vec<Value> {
        let topic = format!("lookout/demo/samples/{topic}");
        messages.iter().filter(|it| it.topic == topic).map(Message::json).collect()
    };
    let (evidence, states, events) = (of("evidence"), of("state"), of("event"));
    assert!(!evidence.is_empty() && !states.is_empty() && !events.is_empty());
    for message in &evidence {
        let line = printed.iter().find(|it| it["picture"] == message["picture"]).unwrap();
        for key in ["state", "reason", "label", "margin", "captions", "weights"] {
            if key == "captions" {
                assert_eq!(message[key]["retrieved"], line[key]["retrieved"]);
            } else {
                assert_eq!(message[key], line[key], "{key}");
            }
        }
        for (id, score) in message["scores"].as_object().unwrap() {
            assert_eq!(score, &line["scores"][id]);
        }
    }
    for message in states.iter().filter(|it| it["picture"].is_string()) {
        let line = printed.iter().find(|it| it["picture"] == message["picture"]).unwrap();
        assert_eq!(message["state"], line["state"]);
        assert_eq!(message["label"]["id"], line["label"]["id"]);
    }
    for message in &events {
        let state = states.iter().find(|it| it["seq"] == message["seq"]);
        assert!(state.is_none_or(|it| it["state"] == message["to"]["state"]), "{message}");
    }
}
