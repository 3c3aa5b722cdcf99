//! Settings that are refused, and why.

use super::*;
use crate::{PublishError, Secret, Tls};

fn error(change: impl FnOnce(&mut MqttSettings)) -> String {
    let mut settings = settings(1883);
    change(&mut settings);
    let started = Publisher::start(settings, &info(), cameras(), Arc::new(StillClock), None);
    started.err().expect("should be refused").to_string()
}

#[test]
fn every_rule_names_key_rule_and_value() {
    let topic = "1 to 256 bytes without +, #, leading $ or empty level";
    for (got, expected) in [
        (error(|it| it.host = String::new()), "`host` must be a host name or address, got ".into()),
        (error(|it| it.port = 0), "`port` must be 1 to 65535, got 0".into()),
        (
            error(|it| it.base_topic = "a//b".into()),
            format!("`base_topic` must be {topic}, got \"a//b\""),
        ),
        (
            error(|it| it.base_topic = "$SYS".into()),
            format!("`base_topic` must be {topic}, got \"$SYS\""),
        ),
        (error(|it| it.node_id = "+".into()), format!("`node_id` must be {topic}, got \"+\"")),
        (error(|it| it.node_id = "#".into()), format!("`node_id` must be {topic}, got \"#\"")),
        (
            error(|it| it.node_id = "a/b".into()),
            "`node_id` must be one topic level, without /, got a/b".into(),
        ),
        (
            error(|it| it.client_id = String::new()),
            "`client_id` must be 1 to 256 bytes of text, got ".into(),
        ),
        (
            error(|it| it.keep_alive = Duration::from_millis(1500)),
            "`keep_alive` must be 1 to 65535 whole seconds, got 1.5s".into(),
        ),
        (
            error(|it| it.keep_alive = Duration::ZERO),
            "`keep_alive` must be 1 to 65535 whole seconds, got 0ns".into(),
        ),
        (
            error(|it| it.heartbeat = Duration::ZERO),
            "`heartbeat` must be greater than 0, got 0ns".into(),
        ),
        (
            error(|it| it.max_packet_bytes = 10 * 1024),
            "`max_packet_bytes` must be 16384 to 268435456, got 10240".into(),
        ),
        (error(|it| it.event_capacity = 0), "`event_capacity` must be at least 1, got 0".into()),
        (
            error(|it| it.evidence_capacity = 0),
            "`evidence_capacity` must be at least 1, got 0".into(),
        ),
        (
            error(|it| it.max_retry_wait = Duration::ZERO),
            "`max_retry_wait` must be 1 s to 1 h, got 0ns".into(),
        ),
        (
            error(|it| it.password = Some(Secret::new("x"))),
            "`password` must be given together with a user, got no user".into(),
        ),
        (
            error(|it| (it.host, it.tls) = ("a_b..".into(), Some(Tls::default()))),
            "`host` must be a DNS name or an address, for TLS, got a_b..".into(),
        ),
    ] {
        assert_eq!(got, expected);
    }
}

/// One past each limit, and what must not be inside a text.
#[test]
fn limits_and_texts_are_checked_at_their_edges() {
    let hour = Duration::from_secs(3600);
    for (got, key) in [
        (error(|it| it.host = "x".repeat(254)), "host"),
        (error(|it| it.host = "a b".into()), "host"),
        (error(|it| it.host = "a\u{7}b".into()), "host"),
        (error(|it| it.host = "mqtt://a".into()), "host"),
        (error(|it| it.base_topic = "x".repeat(257)), "base_topic"),
        (error(|it| it.base_topic = "a\0b".into()), "base_topic"),
        (error(|it| it.client_id = "x".repeat(257)), "client_id"),
        (error(|it| it.user = Some(String::new())), "user"),
        (error(|it| it.user = Some("x".repeat(1025))), "user"),
        (error(|it| it.keep_alive = Duration::from_secs(65_536)), "keep_alive"),
        (error(|it| it.max_packet_bytes = 256 * 1024 * 1024 + 1), "max_packet_bytes"),
        (error(|it| it.max_retry_wait = hour + Duration::from_nanos(1)), "max_retry_wait"),
    ] {
        assert!(got.starts_with(&format!("`{key}` must be ")), "{key}: {got}");
    }
}

#[test]
fn a_password_is_never_shown() {
    let secret = "hunter2".repeat(200);
    let mut settings = settings(1883);
    settings.user = Some("u".to_owned());
    settings.password = Some(Secret::new(secret.as_str()));
    let shown = format!("{settings:?} {}", settings.check().unwrap_err());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_ca_file_has_to_hold_certificates() {
    let with_ca = |pem: &str| error(|it| it.tls = Some(Tls { ca_pem: Some(pem.into()) }));
    for pem in ["", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let error = with_ca(pem);
        assert!(
            error.starts_with("the TLS CA file must hold certificates in PEM format: "),
            "{error}"
        );
    }
}

#[test]
fn names_and_sizes_that_cannot_work_are_refused() {
    for reserved in ["status", "info"] {
        let cameras = BTreeMap::from([(id(reserved), Arc::new(classes()))]);
        let started =
            Publisher::start(settings(1883), &info(), cameras, Arc::new(StillClock), None);
        assert_eq!(
            started.err().unwrap().to_string(),
            format!(
                "`cameras` must be ids other than the reserved `status` and `info`, got {reserved}"
            )
        );
    }
    let info = NodeInfo { version: "x".repeat(20_000), ..info() };
    let settings = MqttSettings { max_packet_bytes: 16 * 1024, ..settings(1883) };
    let started = Publisher::start(settings, &info, super::cameras(), Arc::new(StillClock), None);
    assert!(matches!(started.err(), Some(PublishError::InfoTooLarge { max: 16_384, .. })));
}
