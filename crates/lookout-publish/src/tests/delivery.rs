//! Delivery against the scripted broker.

use std::sync::mpsc::Receiver;

use lookout_broker::{Broker, Message, Refusal};
use lookout_core::{CameraStatus, Publish};

use super::*;

/// The next publication: topic below the prefix, and payload.
fn next(watch: &Receiver<Message>) -> (String, String) {
    let it = watch.recv_timeout(LONG).expect("should be published");
    let topic = it.topic.strip_prefix("lookout/n1/").unwrap().to_owned();
    let is_event = topic.ends_with("/event");
    let is_evidence = topic.ends_with("/evidence");
    assert_eq!(it.retain, !is_event && !is_evidence, "{topic}");
    assert_eq!(it.qos, u8::from(!is_evidence), "{topic}");
    (topic, String::from_utf8(it.payload).unwrap())
}

fn topics(watch: &Receiver<Message>, n: usize) -> Vec<String> {
    (0..n).map(|_| next(watch).0).collect()
}

/// The next event's seq and replayed, whatever else comes before.
fn next_event(watch: &Receiver<Message>) -> (u64, bool) {
    loop {
        let (topic, payload) = next(watch);
        if topic == "door/event" {
            let it: serde_json::Value = serde_json::from_str(&payload).unwrap();
            return (it["seq"].as_u64().unwrap(), it["replayed"].as_bool().unwrap());
        }
    }
}

fn status(payload: &str) -> (String, String) {
    ("status".to_owned(), payload.to_owned())
}

#[test]
fn every_connection_starts_with_what_is_retained() {
    let broker = Broker::start(0).unwrap();
    let watch = broker.watch();
    let publisher = start(settings(broker.addr().port()));
    publisher.camera_status(&id("door"), CameraStatus::Streaming);
    publisher.decision(decision(1));
    assert!(publisher.wait_drained(LONG));
    assert_eq!(next(&watch), status("online"));
    let mut first: Vec<String> = topics(&watch, 5);
    first.sort();
    assert_eq!(first, ["door/event", "door/evidence", "door/state", "door/status", "info"]);

    broker.forget_retained();
    broker.drop_connections();
    assert_eq!(next(&watch), status("offline"));
    assert_eq!(next(&watch), status("online"));
    assert_eq!(next(&watch).0, "info");
    assert_eq!(next(&watch), ("door/status".to_owned(), "streaming".to_owned()));
    assert_eq!(next(&watch).0, "door/state");
    assert!(publisher.wait_drained(LONG));
    assert!(watch.try_recv().is_err(), "an acknowledged event is not sent again");
    assert_eq!(publisher.snapshot().n_connections, 2);
}

#[test]
fn the_end_is_said_in_order_or_left_to_the_will() {
    let broker = Broker::start(0).unwrap();
    let watch = broker.watch();
    let publisher = start(settings(broker.addr().port()));
    publisher.decision(decision(1));
    let report = publisher.close(LONG);
    assert!(report.disconnected && report.n_events == 0 && report.topics.is_empty(), "{report:?}");
    assert!(!publisher.snapshot().running && !publisher.snapshot().connected);
    let all = topics(&watch, 6);
    assert_eq!((all[0].as_str(), all[5].as_str()), ("status", "status"));
    assert!(all.contains(&"door/evidence".to_owned()));

    let publisher = start(settings(broker.addr().port()));
    assert!(publisher.wait_drained(LONG));
    assert_eq!((next(&watch), next(&watch).0.as_str()), (status("online"), "info"));
    drop(publisher);
    assert_eq!(next(&watch), status("offline"));
}

#[test]
fn unacknowledged_events_are_sent_again_in_order() {
    let broker = Broker::start(0).unwrap();
    let watch = broker.watch();
    let publisher = start(settings(broker.addr().port()));
    assert!(publisher.wait_drained(LONG));
    broker.withhold_acks(true);
    // More than the window holds.
    for seq in 1..=15 {
        publisher.decision(event(seq));
    }
    for seq in 1..=10 {
        assert_eq!(next_event(&watch), (seq, false));
    }
    assert!(!publisher.wait_drained(Duration::ZERO));
    assert_eq!(publisher.snapshot().n_events_waiting, 15);
    broker.withhold_acks(false);
    broker.drop_connections();
    for seq in 1..=15 {
        assert_eq!(next_event(&watch), (seq, true));
    }
    assert!(publisher.wait_drained(LONG));
    publisher.decision(event(16));
    assert_eq!(next_event(&watch), (16, false));
}

#[test]
fn events_wait_for_the_broker_and_evidence_does_not() {
    let broker = Broker::start(0).unwrap();
    let port = broker.addr().port();
    let publisher = start(MqttSettings { event_capacity: 4, ..settings(port) });
    assert!(publisher.wait_drained(LONG));
    broker.stop();
    while publisher.snapshot().last_error.is_none() {
        std::thread::yield_now();
    }
    for seq in 1..=6 {
        publisher.decision(decision(seq));
    }
    let snapshot = publisher.snapshot();
    assert_eq!((snapshot.n_events_waiting, snapshot.n_events_dropped), (4, 2));
    assert_eq!(snapshot.n_evidence_dropped, 6);
    assert!(!snapshot.connected && snapshot.running);

    let broker = restart(port);
    let watch = broker.watch();
    for seq in 3..=6 {
        assert_eq!(next_event(&watch), (seq, true));
    }
    assert!(publisher.wait_drained(LONG));
}

#[test]
fn events_that_wait_survive_the_end_of_the_program() {
    let broker = Broker::start(0).unwrap();
    let port = broker.addr().port();
    broker.stop();
    let shelf = Shelf::default();
    let publisher = start_with(settings(port), &shelf);
    (1..=3).for_each(|seq| tell(&publisher, seq));
    let first_run = publisher.boot_id().to_owned();
    assert_eq!(publisher.close(LONG).n_events, 3);
    assert_eq!(shelf.ids(), [1, 2, 3]);

    // Fewer than that may wait now, and the oldest goes, of the earlier run's as of this one's.
    let two = || MqttSettings { event_capacity: 2, ..settings(port) };
    drop(start_with(two(), &shelf));
    assert_eq!(shelf.ids(), [2, 3]);
    let other = Shelf::default();
    let publisher = start_with(two(), &other);
    (1..=3).for_each(|seq| tell(&publisher, seq));
    drop(publisher);
    assert_eq!(other.ids(), [2, 3]);

    let broker = restart(port);
    let watch = broker.watch();
    let publisher = start_with(settings(port), &shelf);
    for seq in 2..=3 {
        let (_, payload) = std::iter::repeat_with(|| next(&watch))
            .find(|(topic, _)| topic == "door/event")
            .unwrap();
        let json: serde_json::Value = serde_json::from_str(&payload).unwrap();
        assert_eq!((json["seq"].as_u64(), json["replayed"].as_bool()), (Some(seq), Some(true)));
        assert_eq!(json["boot_id"], first_run.as_str());
    }
    assert!(publisher.wait_drained(LONG));
    broker.withhold_acks(true);
    tell(&publisher, 4);
    assert_eq!(next_event(&watch), (4, false), "an event of this run");
    assert_eq!(publisher.snapshot().n_events_waiting, 1);
    publisher.close(Duration::from_millis(50));
    assert_eq!(shelf.ids(), [4], "what was acknowledged is gone, and what was not is kept");
}

#[test]
fn a_spool_that_fails_is_told_and_hinders_nothing() {
    let broker = Broker::start(0).unwrap();
    let watch = broker.watch();
    let shelf = Shelf::default();
    let publisher = start_with(settings(broker.addr().port()), &shelf);
    shelf.set_failing(true);
    tell(&publisher, 1);
    assert_eq!(next_event(&watch), (1, false));
    let error = publisher.snapshot().spool_error;
    assert!(error.is_some_and(|it| it.contains("full")));
    shelf.set_failing(false);
    tell(&publisher, 2);
    assert_eq!(next_event(&watch), (2, false));
    assert!(publisher.wait_drained(LONG));
    assert_eq!(publisher.snapshot().spool_error, None);
    // What is struck out proves nothing, what is tried again does.
    shelf.set_failing(true);
    publisher.retry_spool();
    shelf.set_failing(false);
    publisher.forget(7);
    assert!(publisher.snapshot().spool_error.is_some());
    publisher.close(LONG);
    assert_eq!((publisher.snapshot().spool_error, shelf.ids()), (None, vec![]));
}

/// A broker on the port of one that has just ended.
fn restart(port: u16) -> Broker {
    Broker::start(port).expect("the port should be free again")
}

#[test]
fn a_message_that_lost_its_acknowledgement_does_not_block_the_others() {
    let broker = Broker::start(0).unwrap();
    let watch = broker.watch();
    let publisher = start(settings(broker.addr().port()));
    assert!(publisher.wait_drained(LONG));
    broker.withhold_acks(true);
    publisher.decision(event(1));
    assert_eq!(next_event(&watch), (1, false));
    broker.withhold_acks(false);
    // Packet ids come round to the one that is still open.
    for seq in 2..=150 {
        publisher.decision(event(seq));
    }
    assert!(publisher.wait_drained(LONG));
    assert_eq!(publisher.snapshot().n_connections, 2);
    let mut seen = std::collections::BTreeSet::new();
    while let Ok(it) = watch.try_recv() {
        if it.topic.ends_with("/event") {
            let it: serde_json::Value = serde_json::from_slice(&it.payload).unwrap();
            seen.insert(it["seq"].as_u64().unwrap());
        }
    }
    assert_eq!(seen, (1..=150).collect());
}

#[test]
fn what_is_too_large_is_refused_and_the_rest_goes_on() {
    let broker = Broker::start(0).unwrap();
    let watch = broker.watch();
    let publisher =
        start(MqttSettings { max_packet_bytes: 16 * 1024, ..settings(broker.addr().port()) });
    assert!(publisher.wait_connected(LONG));
    let mut large = decision(1);
    large.evidence = Some(evidence(&"x".repeat(16 * 1024)));
    publisher.decision(large);
    publisher.decision(decision(2));
    // The broker acknowledges `offline` after it has read the evidence, which it does not
    // acknowledge.
    assert!(publisher.close(LONG).disconnected);
    assert_eq!(publisher.snapshot().n_refused, 1);
    assert_eq!(publisher.snapshot().n_connections, 1);
    let all = watch.try_iter().filter(|it| it.topic.ends_with("/evidence"));
    assert_eq!(all.count(), 1);
}

#[test]
fn a_decision_that_cannot_be_published_is_counted() {
    let broker = Broker::start(0).unwrap();
    let publisher = start(settings(broker.addr().port()));
    publisher.camera_status(&id("other"), CameraStatus::Streaming);
    publisher.decision(Decision { camera: id("other"), ..decision(1) });
    let mut wrong = decision(2);
    wrong.snapshot.state = State::Label(9);
    publisher.decision(wrong);
    assert_eq!(publisher.snapshot().n_refused, 3);
    assert_eq!(publisher.snapshot().n_events_waiting, 0);
}

/// The decision made with the old classes is published after the change, under the old names.
#[test]
fn classes_change_with_the_decisions_that_carry_them() {
    let broker = Broker::start(0).unwrap();
    let watch = broker.watch();
    let publisher = start(settings(broker.addr().port()));
    assert!(publisher.wait_drained(LONG));
    assert_eq!(topics(&watch, 2), ["status", "info"]);

    let mut renamed = classes().classes().to_vec();
    renamed[0].name = "van".to_owned();
    let renamed = Arc::new(ClassSet::new(vec!["{}".to_owned()], renamed).unwrap());
    let cameras = BTreeMap::from([(id("door"), Arc::clone(&renamed))]);
    publisher.check_classes(&cameras).unwrap();
    publisher.classes(&cameras);
    publisher.decision(decision(1));
    publisher.decision(Decision { classes: renamed, ..decision(2) });
    assert!(publisher.wait_drained(LONG));
    let json = |(topic, payload): (String, String)| {
        (topic, serde_json::from_str::<serde_json::Value>(&payload).unwrap())
    };
    let seen: Vec<(String, serde_json::Value)> = watch
        .try_iter()
        .map(|it| json((it.topic, String::from_utf8(it.payload).unwrap())))
        .collect();
    let all =
        |topic: &'static str| seen.iter().filter(move |it| it.0.ends_with(topic)).map(|it| &it.1);
    assert_eq!(all("/info").next_back().unwrap()["cameras"]["door"]["labels"][0]["name"], "van");
    let names: Vec<&serde_json::Value> =
        all("/event").map(|it| &it["to"]["label"]["name"]).collect();
    assert_eq!(names, ["a \"red\"\n\u{7}car", "van"]);
    assert_eq!(all("/state").next_back().unwrap()["label"]["name"], "van");
    assert_eq!(publisher.snapshot().n_refused, 0);
}

#[test]
fn a_refused_password_is_named_and_tried_again() {
    let broker = Broker::start(0).unwrap();
    let port = broker.addr().port();
    broker.refuse(Some(Refusal::BadCredentials));
    let publisher = start(settings(port));
    assert!(!publisher.wait_connected(Duration::from_millis(100)));
    assert_eq!(
        publisher.snapshot().last_error.unwrap(),
        format!("localhost:{port} refused the user or password; check both")
    );
    broker.refuse(None);
    assert!(publisher.wait_drained(LONG));
    assert_eq!(publisher.snapshot().last_error, None);
}

#[test]
fn closing_does_not_wait_for_a_broker_that_is_away() {
    let broker = Broker::start(0).unwrap();
    let port = broker.addr().port();
    broker.stop();
    let publisher = start(settings(port));
    publisher.decision(event(1));
    // The grace is an hour: the test ends because the attempt fails.
    let report = publisher.close(Duration::from_secs(3600));
    assert_eq!((report.disconnected, report.n_events), (false, 1));
    assert_eq!(report.topics, ["lookout/n1/status", "lookout/n1/info"]);
}

#[test]
fn closing_gives_up_after_the_grace() {
    let broker = Broker::start(0).unwrap();
    let watch = broker.watch();
    let publisher = start(settings(broker.addr().port()));
    assert!(publisher.wait_drained(LONG));
    broker.withhold_acks(true);
    publisher.decision(event(1));
    assert_eq!(next_event(&watch), (1, false));
    let report = publisher.close(Duration::from_millis(50));
    assert_eq!((report.disconnected, report.n_events), (false, 1));
    assert_eq!(next(&watch), status("offline"));
}

#[test]
fn a_flood_neither_blocks_nor_reorders() {
    let broker = Broker::start(0).unwrap();
    let watch = broker.watch();
    let publisher = start(settings(broker.addr().port()));
    assert!(publisher.wait_drained(LONG));
    for seq in 1..=3000 {
        publisher.decision(decision(seq));
    }
    assert!(publisher.wait_drained(LONG));
    let snapshot = publisher.snapshot();
    let (mut events, mut last_state) = (Vec::new(), 0);
    for it in watch.try_iter() {
        if let Ok(json) = serde_json::from_slice::<serde_json::Value>(&it.payload) {
            let seq = json["seq"].as_u64();
            match it.topic.rsplit('/').next() {
                Some("event") => events.push(seq.unwrap()),
                Some("state") => last_state = seq.unwrap(),
                _ => (),
            }
        }
    }
    assert!(events.is_sorted_by(|a, b| a < b));
    assert_eq!(events.len() as u64 + snapshot.n_events_dropped, 3000);
    assert_eq!((events.last(), last_state), (Some(&3000), 3000));
}
