//! Delivery to mosquitto: credentials, TLS, and a broker that is killed.

use lookout_core::{CameraStatus, Publish};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::mosquitto::{Gate, Mosquitto, USER};
use super::*;
use crate::{Secret, Tls};

fn with_user(port: u16, password: &str) -> MqttSettings {
    let mut settings = settings(port);
    settings.user = Some(USER.0.to_owned());
    settings.password = Some(Secret::new(password));
    settings
}

/// The error of the first attempt.
fn first_error(publisher: &Publisher) -> String {
    loop {
        assert!(!publisher.snapshot().connected, "should be refused");
        if let Some(error) = publisher.snapshot().last_error {
            return error;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_wrong_password_is_named() {
    let broker = Mosquitto::start(None);
    let port = broker.port();
    let publisher = start(with_user(port, "wrong"));
    let expected = format!("localhost:{port} refused the user or password; check both");
    assert_eq!(first_error(&publisher), expected);
    let publisher = start(settings(port));
    assert_eq!(first_error(&publisher), expected);
    let publisher = start(with_user(port, USER.1));
    assert!(publisher.wait_drained(LONG));
}

/// A certificate authority, and a certificate of it for `localhost`: CA, certificate, key.
fn certificates(name: &str) -> (Vec<u8>, String, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, name);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem().into_bytes();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    (ca_pem, certificate.pem(), key.serialize_pem())
}

#[test]
fn tls_is_verified() {
    let (ca_pem, certificate, key) = certificates("first");
    let (other_ca_pem, ..) = certificates("second");
    let broker = Mosquitto::start(Some((&certificate, &key)));
    let port = broker.port();
    let with_ca = |ca_pem: Option<&Vec<u8>>, host: &str| {
        let tls = Some(Tls { ca_pem: ca_pem.cloned() });
        start(MqttSettings { tls, host: host.to_owned(), ..with_user(port, USER.1) })
    };
    assert!(with_ca(Some(&ca_pem), "localhost").wait_drained(LONG));

    for (ca_pem, host, cause) in [
        (Some(&other_ca_pem), "localhost", "UnknownIssuer"),
        (None, "localhost", "UnknownIssuer"),
        (Some(&ca_pem), "127.0.0.1", "not valid for name"),
    ] {
        let error = first_error(&with_ca(ca_pem, host));
        assert!(error.starts_with(&format!("no TLS connection to {host}:{port}: ")), "{error}");
        assert!(error.contains(cause), "{error}");
    }
    // Without TLS to a port that wants it.
    let error = first_error(&start(with_user(port, USER.1)));
    assert!(error.contains(&format!("localhost:{port}")), "{error}");
}

#[test]
fn a_killed_broker_gets_everything_again() {
    let mut broker = Mosquitto::start(None);
    let gate = Gate::to(broker.port());
    let publisher = start(with_user(gate.port(), USER.1));
    publisher.camera_status(&id("door"), CameraStatus::Streaming);
    publisher.decision(decision(1));
    assert!(publisher.wait_drained(LONG));

    gate.set_open(false);
    broker.kill();
    while publisher.snapshot().connected {
        std::thread::yield_now();
    }
    publisher.camera_status(&id("door"), CameraStatus::Stalled);
    for seq in 2..=30 {
        publisher.decision(decision(seq));
    }
    broker.restart();
    let events = broker.subscribe("lookout/n1/door/event");
    gate.set_open(true);
    assert!(publisher.wait_connected(LONG));
    assert!(publisher.wait_drained(Duration::from_secs(1)));

    for seq in 2..=30 {
        let (_, _, payload) = events.next();
        let it: serde_json::Value = serde_json::from_str(&payload).unwrap();
        assert_eq!((&it["seq"], &it["replayed"]), (&seq.into(), &true.into()));
    }
    publisher.decision(event(31));
    assert!(events.next().2.contains("\"seq\":31"), "nothing is delivered twice");

    // A newcomer gets the last values from the broker.
    let retained = broker.subscribe("lookout/#");
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    while seen.len() < 4 {
        let (is_retained, topic, payload) = retained.next();
        assert!(is_retained, "{topic}");
        seen.insert(topic, payload);
    }
    assert_eq!(seen["lookout/n1/status"], "online");
    assert_eq!(seen["lookout/n1/door/status"], "stalled");
    assert!(seen["lookout/n1/door/state"].contains("\"seq\":30"));
    assert!(seen["lookout/n1/info"].contains(publisher.boot_id()));

    let report = publisher.close(LONG);
    assert!(report.disconnected, "{report:?}");
    assert_eq!(retained.next(), (false, "lookout/n1/status".to_owned(), "offline".to_owned()));
}
