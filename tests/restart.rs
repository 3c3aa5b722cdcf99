//! `run` killed and started again: what was said is known, and a restart is no event.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use lookout_core::{Id, Spool, WaitingEvent};
use lookout_store::{EventSpool, State};
use serde_json::Value;

use crate::daemon::Site;
use crate::support::{Mosquitto, Ran, lookout};

const BEAR: &str = "coco_000000000285.jpg";
const KITCHEN: &str = "coco_000000030213.jpg";
/// Frames that are watched for an event that must not come.
const N_QUIET: usize = 8;

/// A site whose camera shows one picture, `now.jpg`.
fn site(port: u16) -> Site {
    let site = Site::new(port, "file:now.jpg?fps=8");
    show(&site, BEAR);
    site
}

fn show(site: &Site, name: &str) {
    let folder = site.folder.path();
    fs::copy(folder.join("pictures").join(name), folder.join("now.jpg")).unwrap();
}

fn state_file(site: &Site) -> PathBuf {
    site.folder.path().join("test.state")
}

/// Runs the daemon until it has shown `label` for some frames, ends it with `signal`, and gives the
/// events that it made and the last state. An event that an earlier run made comes again where it was killed
/// before it knew of the acknowledgement.
fn run(
    mosquitto: &Mosquitto,
    site: &Site,
    label: &str,
    signal: &str,
    change: impl FnOnce(&mut Command),
) -> (Vec<Value>, Value) {
    let messages = mosquitto.subscribe();
    let (mut daemon, log) = site.run_with(change);
    let (mut events, mut state, mut n_quiet) = (Vec::new(), Value::Null, 0);
    messages.until(|it| {
        match it.topic.as_str() {
            "lookout/test/yard/event" if it.json()["replayed"] == false => events.push(it.json()),
            "lookout/test/yard/state" if !it.retained => state = it.json(),
            "lookout/test/yard/evidence" if state["label"]["id"] == label => n_quiet += 1,
            _ => {}
        }
        n_quiet == N_QUIET
    });
    daemon.signal(signal);
    daemon.wait();
    drop(log);
    (events, state)
}

fn from_to(events: &[Value]) -> Vec<[String; 2]> {
    let side = |it: &Value| match it["label"]["id"].as_str() {
        Some(id) => id.to_owned(),
        None => it["state"].as_str().unwrap().to_owned(),
    };
    events.iter().map(|it| [side(&it["from"]), side(&it["to"])]).collect()
}

#[test]
fn a_killed_daemon_announces_the_same_label_once_and_another_one_once() {
    let mosquitto = Mosquitto::start();
    let site = site(mosquitto.port());
    // Killed as soon as the event is out.
    let messages = mosquitto.subscribe();
    let (mut daemon, _log) = site.run_with(|_| {});
    let event = messages.until_topic("lookout/test/yard/event").json();
    assert_eq!(from_to(&[event]), [["unknown", "a_bear"]]);
    daemon.signal("-KILL");
    daemon.wait();
    let kept = fs::read(state_file(&site)).unwrap();

    let (events, state) = run(&mosquitto, &site, "a_bear", "-KILL", |_| {});
    assert!(events.is_empty(), "{events:#?}");
    assert_eq!(state["last_known"]["id"], "a_bear");
    assert_eq!(fs::read(state_file(&site)).unwrap(), kept, "without an event nothing is written");

    show(&site, KITCHEN);
    let (events, _) = run(&mosquitto, &site, "a_kitchen", "-TERM", |_| {});
    assert_eq!(from_to(&events), [["a_bear", "a_kitchen"]]);
    assert_ne!(fs::read(state_file(&site)).unwrap(), kept);

    let (events, _) = run(&mosquitto, &site, "a_kitchen", "-TERM", |_| {});
    assert!(events.is_empty(), "after a clean stop too: {events:#?}");
}

#[test]
fn what_was_known_is_told_before_the_first_frame() {
    let mosquitto = Mosquitto::start();
    let site = site(mosquitto.port());
    run(&mosquitto, &site, "a_bear", "-TERM", |_| {});
    let messages = mosquitto.subscribe();
    let (_daemon, _log) = site.run_with(|it| {
        it.args(["--set", "cameras.yard.uri=dir:nowhere"]);
    });
    let state = messages.until(|it| it.topic == "lookout/test/yard/state" && !it.retained).json();
    assert_eq!((&state["state"], &state["label"]), (&"stale".into(), &Value::Null));
    assert_eq!(state["last_known"]["id"], "a_bear");
    assert_eq!(state["last_known"]["mono_ms"], Value::Null, "it was in another run");
}

#[test]
fn a_label_that_was_removed_in_between_ends_with_one_event() {
    let mosquitto = Mosquitto::start();
    let site = site(mosquitto.port());
    run(&mosquitto, &site, "a_bear", "-TERM", |_| {});
    show(&site, KITCHEN);
    let fewer = |it: &mut Command| {
        it.args(["--set", "labels=a kitchen,a cat"]);
    };
    let (events, _) = run(&mosquitto, &site, "a_kitchen", "-KILL", fewer);
    let expected = [["a_bear", "unknown"], ["unknown", "a_kitchen"]];
    assert_eq!(from_to(&events), expected, "{events:#?}");
    assert_eq!(events[0]["from"]["label"]["name"], "a bear");
    let (events, _) = run(&mosquitto, &site, "a_kitchen", "-TERM", fewer);
    assert!(events.is_empty(), "{events:#?}");
}

#[test]
fn a_damaged_state_is_told_and_set_aside_and_nothing_else_happens() {
    let mosquitto = Mosquitto::start();
    let site = site(mosquitto.port());
    run(&mosquitto, &site, "a_bear", "-TERM", |_| {});
    let mut text = fs::read_to_string(state_file(&site)).unwrap();
    text = text.replace("a_bear", "a_hare");
    fs::write(state_file(&site), &text).unwrap();
    let (events, _) = run(&mosquitto, &site, "a_bear", "-TERM", |_| {});
    assert_eq!(from_to(&events), [["unknown", "a_bear"]], "as after the first start");
    let aside = site.folder.path().join("test.state.damaged");
    assert_eq!(fs::read_to_string(aside).unwrap(), text);
    let (events, _) = run(&mosquitto, &site, "a_bear", "-TERM", |_| {});
    assert!(events.is_empty(), "{events:#?}");
}

#[test]
fn an_event_that_waits_for_the_broker_survives_a_kill_and_comes_once() {
    let mut mosquitto = Mosquitto::start();
    let site = site(mosquitto.port());
    mosquitto.kill();
    let (mut daemon, log) = site.run_with(|_| {});
    let events = site.folder.path().join("test.state.events");
    let waits = || fs::read_to_string(&events).is_ok_and(|it| it.contains("a_bear"));
    while !waits() {
        std::thread::yield_now();
        assert!(daemon.0.try_wait().unwrap().is_none(), "{:?}", log.rest());
    }
    daemon.signal("-KILL");
    daemon.wait();

    mosquitto.restart();
    let messages = mosquitto.subscribe();
    let (mut daemon, _log) = site.run_with(|_| {});
    let event = messages.until_topic("lookout/test/yard/event").json();
    assert_eq!(from_to(std::slice::from_ref(&event)), [["unknown", "a_bear"]]);
    assert_eq!(event["replayed"], true);
    let evidence = messages.until_topic("lookout/test/yard/evidence").json();
    assert_ne!(event["boot_id"], evidence["boot_id"], "it is the earlier run's");
    while waits() {
        std::thread::yield_now();
    }
    daemon.signal("-KILL");
    daemon.wait();

    let again = mosquitto.subscribe();
    let (_daemon, _log) = site.run_with(|_| {});
    let next = again.until(|it| {
        it.topic.ends_with("/event")
            || (it.topic.ends_with("/state") && it.json()["state"] == "label")
    });
    assert!(next.topic.ends_with("/state"), "{next:?}");
}

#[test]
fn an_event_that_was_kept_and_never_counted_is_taken_back() {
    let mosquitto = Mosquitto::start();
    let site = site(mosquitto.port());
    run(&mosquitto, &site, "a_bear", "-TERM", |_| {});
    let yard = Id::new("yard").unwrap();
    let last = State::read(&state_file(&site)).unwrap().last_event(&yard).unwrap();
    assert!(0 < last);
    let path = site.folder.path().join("test.state.events");
    let waiting = || EventSpool::open(&path).unwrap().0.waiting();
    assert!(waiting().is_empty());
    // Killed before the state was written, and before the first was acknowledged.
    let (mut spool, _) = EventSpool::open(&path).unwrap();
    for number in [last, last + 1] {
        let payload = format!("{{\"replayed\":true,\"number\":{number}}}");
        spool.add(WaitingEvent { number, camera: yard.clone(), payload }).unwrap();
    }
    drop(spool);
    show(&site, KITCHEN);
    let messages = mosquitto.subscribe();
    let (mut daemon, _log) = site.run_with(|_| {});
    let mut events = Vec::new();
    messages.until(|it| {
        if it.topic.ends_with("/event") {
            events.push(it.json());
        }
        events.last().is_some_and(|it| it["replayed"] == false)
    });
    daemon.signal("-TERM");
    daemon.wait();
    assert_eq!(events.len(), 2, "{events:#?}");
    assert_eq!(events[0]["number"], last);
    assert_eq!(from_to(&events[1..]), [["a_bear", "a_kitchen"]]);
    assert!(waiting().is_empty());
}

#[test]
fn one_daemon_has_a_state_and_what_is_none_stays() {
    let mosquitto = Mosquitto::start();
    let site = site(mosquitto.port());
    let (daemon, _log) = site.run_with(|_| {});
    let ran = |state: &str| {
        let mut command = lookout();
        command.args(["run", "--config"]).arg(site.config());
        command.args(["--set", &format!("state={state}")]);
        Ran::from(command.output().unwrap())
    };
    ran("test.state").failed(1, &["another daemon keeps its state", "test.state.events is in use"]);
    drop(daemon);
    let config = fs::read(site.config()).unwrap();
    ran("lookout.toml").failed(78, &["`state` cannot be used", "must begin with", "move it away"]);
    assert_eq!(fs::read(site.config()).unwrap(), config);
    // What lies beside is looked at too, by whoever starts and whoever checks.
    fs::write(site.folder.path().join("mine.events"), "mine\n").unwrap();
    ran("mine").failed(78, &["`state` cannot be used", "mine.events must begin with"]);
    ran("pictures").failed(78, &["`state` cannot be used", "must be a regular file"]);
    ran("no/such/state").failed(78, &["`state` cannot be used", "no/such does not exist"]);
    assert!(!site.folder.path().join("no").exists());
}

#[test]
fn a_daemon_that_is_to_keep_nothing_keeps_nothing() {
    let mosquitto = Mosquitto::start();
    let site = site(mosquitto.port());
    let off = |it: &mut Command| {
        it.args(["--set", "state=off"]);
    };
    for _ in 0..2 {
        let (events, _) = run(&mosquitto, &site, "a_bear", "-TERM", off);
        assert_eq!(from_to(&events), [["unknown", "a_bear"]]);
    }
    assert!(!state_file(&site).exists() && !site.folder.path().join("off").exists());
}
