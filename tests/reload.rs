//! SIGHUP to `run`: other labels without a restart.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use serde_json::Value;

use crate::daemon::Site;
use crate::support::{Lines, Message, Mosquitto, PATIENCE, Running, Subscription};

const BEAR: &str = "file:pictures/coco_000000000285.jpg?fps=8";

/// A site whose labels are in a file of their own.
fn site(port: u16, labels: &str) -> Site {
    let site = Site::new(port, BEAR);
    let text = fs::read_to_string(site.config()).unwrap();
    let is_words = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("labels =") || line.starts_with("negatives =")
    };
    let rest: Vec<&str> = text.lines().filter(|it| !is_words(it)).collect();
    fs::write(site.config(), format!("labels_file = 'labels.toml'\n{}", rest.join("\n"))).unwrap();
    write(&site, labels);
    site
}

fn write(site: &Site, labels: &str) {
    fs::write(site.folder.path().join("labels.toml"), labels).unwrap();
}

fn edit_config(site: &Site, from: &str, to: &str) {
    let text = fs::read_to_string(site.config()).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(site.config(), text.replacen(from, to, 1)).unwrap();
}

/// Label `id` with name, and so on; then a negative.
fn labels(labels: &[(&str, &str)]) -> String {
    let label = |(id, name): &(&str, &str)| format!("[[label]]\nid = '{id}'\nname = '{name}'\n");
    let negative = "[[negative]]\nid = 'street'\nname = 'empty street'\n";
    labels.iter().map(label).collect::<String>() + negative
}

/// What the service manager is told, one message a datagram.
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    pub(crate) fn new(folder: &Path) -> Self {
        let socket = UnixDatagram::bind(folder.join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    pub(crate) fn until(&self, part: &str) -> String {
        let mut bytes = [0; 4096];
        loop {
            let n = self.0.recv(&mut bytes).unwrap_or_else(|error| panic!("no {part:?}: {error}"));
            let text = String::from_utf8(bytes[..n].to_vec()).unwrap();
            if text.contains(part) {
                return text;
            }
        }
    }
}

/// Starts the daemon with a label cache of its own.
fn run(site: &Site) -> (Running, Lines) {
    let folder = site.folder.path();
    site.run_with(|it| {
        it.env("XDG_CACHE_HOME", folder.join("cache")).env("NOTIFY_SOCKET", folder.join("notify"));
    })
}

fn hang_up(daemon: &Running, log: &Lines, expected: &str) -> String {
    daemon.signal("-HUP");
    log.until(|line| line.contains(expected).then(|| line.to_owned()))
}

/// The ids that the evidence has scores of; none for another topic.
fn scored(message: &Message) -> BTreeSet<String> {
    match message.topic.as_str() {
        "lookout/test/yard/evidence" => {
            message.json()["scores"].as_object().unwrap().keys().cloned().collect()
        }
        _ => BTreeSet::new(),
    }
}

fn ids(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|it| (*it).to_owned()).collect()
}

/// All messages up to the evidence that has scores of `of`.
fn until_scored(messages: &Subscription, of: &[&str]) -> Vec<Message> {
    let mut seen = Vec::new();
    messages.until(|it| {
        seen.push(it.clone());
        scored(it) == ids(of)
    });
    seen
}

fn events(seen: &[Message]) -> Vec<Value> {
    seen.iter().filter(|it| it.topic.ends_with("yard/event")).map(Message::json).collect()
}

#[test]
fn labels_change_without_a_restart_and_nothing_is_mixed() {
    let mosquitto = Mosquitto::start();
    let site = site(mosquitto.port(), &labels(&[("bear", "bear"), ("kitchen", "kitchen")]));
    let (mut daemon, log) = run(&site);
    let messages = mosquitto.subscribe();
    let is_bear = |it: &Message, name: &str| {
        it.topic.ends_with("yard/state") && it.json()["label"]["name"] == name
    };
    let before = messages.until(|it| is_bear(it, "bear")).json();
    until_scored(&messages, &["bear", "kitchen", "street"]);

    // Another name, another place in the order, and one label more.
    write(&site, &labels(&[("cat", "cat"), ("kitchen", "kitchen"), ("bear", "brown bear")]));
    hang_up(
        &daemon,
        &log,
        "Reloaded: new labels, rules or calibration are in use. cameras=\"shed yard\"",
    );
    let mut seen = until_scored(&messages, &["bear", "cat", "kitchen", "street"]);
    seen.extend(until_scored(&messages, &["bear", "cat", "kitchen", "street"]));
    let renamed = seen.iter().find(|it| it.topic.ends_with("yard/state")).unwrap().json();
    assert_eq!(renamed["label"]["id"], "bear");
    assert_eq!(renamed["label"]["name"], "brown bear");
    assert_eq!(renamed["last_known"]["name"], "brown bear");
    assert_eq!(renamed["boot_id"], before["boot_id"]);
    assert_eq!(renamed["since"]["mono_ms"], before["since"]["mono_ms"], "it was held");
    let info = seen.iter().find(|it| it.topic.ends_with("/info")).unwrap().json();
    assert_eq!(info["cameras"]["yard"]["labels"][0]["id"], "cat");
    assert_eq!(events(&seen), Vec::<Value>::new());

    // The label that is held is taken out.
    write(&site, &labels(&[("cat", "cat"), ("kitchen", "kitchen")]));
    hang_up(&daemon, &log, "Reloaded: new labels, rules or calibration are in use.");
    let more = until_scored(&messages, &["cat", "kitchen", "street"]);
    let end = events(&more).remove(0);
    assert_eq!(end["from"]["label"]["id"], "bear");
    assert_eq!(end["from"]["label"]["name"], "brown bear");
    assert_eq!(end["to"]["state"], "unknown");
    let state = mosquitto.subscribe().until_topic("lookout/test/yard/state").json();
    assert_ne!(state["label"]["id"], "bear");
    assert_ne!(state["last_known"]["id"], "bear");

    // No frame had scores of both sets, and the camera was not opened again.
    seen.extend(more);
    let all: Vec<BTreeSet<String>> = seen.iter().map(scored).filter(|it| !it.is_empty()).collect();
    let order = [
        ids(&["bear", "kitchen", "street"]),
        ids(&["bear", "cat", "kitchen", "street"]),
        ids(&["cat", "kitchen", "street"]),
    ];
    let positions: Vec<_> = all.iter().map(|it| order.iter().position(|set| set == it)).collect();
    assert!(positions.iter().all(Option::is_some) && positions.is_sorted(), "{positions:?}");
    assert!(!seen.iter().any(|it| it.topic.ends_with("yard/status")), "{seen:#?}");

    daemon.signal("-TERM");
    assert_eq!(daemon.wait(), Some(0), "{:?}", log.rest());
}

#[test]
fn a_fault_changes_nothing_and_is_told_until_it_is_mended() {
    let mosquitto = Mosquitto::start();
    let good = labels(&[("bear", "bear"), ("kitchen", "kitchen")]);
    let site = site(mosquitto.port(), &good);
    let manager = Manager::new(site.folder.path());
    let (mut daemon, log) = run(&site);
    manager.until("READY=1");
    let messages = mosquitto.subscribe();

    write(&site, &good.replace("name = 'kitchen'", "name = 'kitchen'\nenter = 2"));
    let said = hang_up(&daemon, &log, "Reload failed, the old labels go on: ");
    for part in ["labels.toml:7", "`label[1].enter`", "at most 1", "got 2"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert!(manager.until("RELOADING=1").contains("MONOTONIC_USEC="));
    manager.until("READY=1");
    assert!(manager.until("reload failed: ").contains("labels.toml:7"));
    until_scored(&messages, &["bear", "kitchen", "street"]);

    write(&site, "[[label]\n");
    let said = hang_up(&daemon, &log, "Reload failed");
    assert!(said.contains("labels_file") && said.contains("labels.toml:1:"), "{said}");
    fs::remove_file(site.folder.path().join("labels.toml")).unwrap();
    assert!(hang_up(&daemon, &log, "Reload failed").contains("cannot be read"));
    write(&site, &good);
    let port = format!("port = {}", mosquitto.port());
    edit_config(&site, &port, "port = 99999");
    assert!(hang_up(&daemon, &log, "Reload failed").contains("`mqtt.port`"));

    // What cannot change is named, and what can does.
    edit_config(&site, "port = 99999", "port = 99");
    edit_config(&site, "max_fps = 20", "max_fps = 19");
    write(&site, &labels(&[("bear", "bear"), ("van", "delivery van")]));
    let said = hang_up(&daemon, &log, "Takes effect at the next start");
    assert!(said.contains("mqtt.port, cameras.yard.max_fps."), "{said}");
    log.until(|line| line.contains("Reloaded: new labels").then_some(()));
    until_scored(&messages, &["bear", "van", "street"]);
    loop {
        let status = manager.until("STATUS=");
        if !status.contains("reload failed") {
            break;
        }
    }
    hang_up(&daemon, &log, "Reloaded: no label, rule of decision or calibration has changed.");
    daemon.signal("-TERM");
    assert_eq!(daemon.wait(), Some(0), "{:?}", log.rest());
}

#[test]
fn rules_change_without_other_labels() {
    let mosquitto = Mosquitto::start();
    let site = site(mosquitto.port(), &labels(&[("bear", "bear"), ("kitchen", "kitchen")]));
    let (daemon, log) = run(&site);
    let messages = mosquitto.subscribe();
    let event = messages.until_topic("lookout/test/yard/event").json();
    assert_eq!(event["to"]["label"]["id"], "bear");
    edit_config(&site, "[decision]", "[decision]\nenter = 1\nexit = 1");
    hang_up(&daemon, &log, "Reloaded: new labels, rules or calibration are in use.");
    let event = messages.until_topic("lookout/test/yard/event").json();
    assert_eq!(event["from"]["label"]["id"], "bear");
    assert_eq!(event["to"]["state"], "unknown");
}

/// Compiling takes minutes here. Meanwhile frames are decided by the old labels, and a stop does
/// not wait for it.
#[test]
fn frames_and_a_stop_do_not_wait_for_a_compilation() {
    let mosquitto = Mosquitto::start();
    let site = site(mosquitto.port(), &labels(&[("bear", "bear"), ("kitchen", "kitchen")]));
    let (mut daemon, log) = run(&site);
    let messages = mosquitto.subscribe();
    until_scored(&messages, &["bear", "kitchen", "street"]);
    let templates: Vec<String> = (0..200).map(|it| format!("'{it} {{}}'")).collect();
    let many: String = (0..500).map(|it| format!("[[label]]\nname = 'thing {it}'\n")).collect();
    write(&site, &format!("templates = [{}]\n{many}", templates.join(", ")));
    hang_up(&daemon, &log, "Reading the configuration again.");
    for _ in 0..20 {
        until_scored(&messages, &["bear", "kitchen", "street"]);
    }
    daemon.signal("-TERM");
    assert_eq!(daemon.wait(), Some(0), "{:?}", log.rest());
    let rest = log.rest().join("\n");
    assert!(!rest.contains("Reloaded") && !rest.contains("Reload failed"), "{rest}");
}

/// However many signals come, the last edit is in use, and no more reloads than signals are made.
#[test]
fn signals_during_a_reload_are_one_more_reload() {
    let mosquitto = Mosquitto::start();
    let site = site(mosquitto.port(), &labels(&[("bear", "bear"), ("kitchen", "kitchen")]));
    let (mut daemon, log) = run(&site);
    let messages = mosquitto.subscribe();
    write(&site, &labels(&[("bear", "bear"), ("cat", "cat")]));
    hang_up(&daemon, &log, "Reading the configuration again.");
    write(&site, &labels(&[("bear", "bear"), ("boat", "boat")]));
    (0..5).for_each(|_| daemon.signal("-HUP"));
    until_scored(&messages, &["bear", "boat", "street"]);
    daemon.signal("-TERM");
    assert_eq!(daemon.wait(), Some(0));
    let rest = log.rest();
    let n_more = rest.iter().filter(|it| it.contains("Reading the configuration")).count();
    assert!((1..=5).contains(&n_more), "{rest:#?}");
}
