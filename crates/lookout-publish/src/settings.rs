//! What a connection needs to know, and the rules for it.

use std::fmt;
use std::time::Duration;

use rumqttc::{LastWill, MqttOptions, QoS, TlsConfiguration, Transport};

use crate::PublishError;
use crate::topic::Topic;

/// Broker, names and limits. Plain values; [`MqttSettings::check`] knows the rules.
#[derive(Clone, Debug)]
pub struct MqttSettings {
    /// Name or address of the broker.
    pub host: String,
    /// Its TCP port, at least 1.
    pub port: u16,
    /// First levels of every topic.
    pub base_topic: String,
    /// The level after them: this device.
    pub node_id: String,
    /// MQTT client id, 1 to 256 bytes. Two clients with one id throw each other out for ever.
    pub client_id: String,
    /// User name.
    pub user: Option<String>,
    /// Password, already read; needs a user.
    pub password: Option<Secret>,
    /// Encrypts and verifies the broker when given.
    pub tls: Option<Tls>,
    /// Whole seconds, 1 to 65535. A dead connection is noticed within twice this time.
    pub keep_alive: Duration,
    /// Longest time between two `state` messages of a camera; stated in them.
    pub heartbeat: Duration,
    /// Largest packet sent, 16 KiB to 256 MiB. States and events always fit; evidence that does
    /// not is dropped and counted.
    pub max_packet_bytes: usize,
    /// Most events that wait for acknowledgement, at least 1; more drop the oldest.
    pub event_capacity: usize,
    /// Most evidence messages that wait for the network, at least 1; more drop the oldest.
    pub evidence_capacity: usize,
    /// Longest wait between attempts to connect, 1 s to 1 h.
    pub max_retry_wait: Duration,
}

/// TLS with verification, always.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Certificates to trust, in PEM; the system's when absent.
    pub ca_pem: Option<Vec<u8>>,
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` out of every log.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

const MIN_PACKET_BYTES: usize = 16 * 1024;
const MAX_PACKET_BYTES: usize = 256 * 1024 * 1024;
/// Packet ids that rumqttc cycles through. A message that stays unacknowledged while this many
/// others pass collides with a new one, so the outbox's own window is far smaller.
const INFLIGHT: u16 = 100;

impl MqttSettings {
    /// Settings without credentials or TLS: base topic `lookout`, keep-alive 15 s, heartbeat
    /// 60 s, packets up to 256 KiB, 1000 events, 32 pieces of evidence, retries at most 30 s
    /// apart.
    pub fn new(host: impl Into<String>, port: u16, node_id: impl Into<String>) -> Self {
        let node_id = node_id.into();
        Self {
            host: host.into(),
            port,
            base_topic: "lookout".to_owned(),
            client_id: format!("lookout-{node_id}"),
            node_id,
            user: None,
            password: None,
            tls: None,
            keep_alive: Duration::from_secs(15),
            heartbeat: Duration::from_secs(60),
            max_packet_bytes: 256 * 1024,
            event_capacity: 1000,
            evidence_capacity: 32,
            max_retry_wait: Duration::from_secs(30),
        }
    }

    /// Names the first setting that is out of its range, or the certificates that cannot be used.
    /// After `Ok` no setter of rumqttc panics.
    pub fn check(&self) -> Result<(), PublishError> {
        let host_ok = (1..=253).contains(&self.host.len())
            && !self.host.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/');
        rule("host", host_ok, "a host name or address", &self.host)?;
        rule("port", self.port != 0, "1 to 65535", self.port)?;
        check_topic("base_topic", &self.base_topic)?;
        check_topic("node_id", &self.node_id)?;
        rule("node_id", !self.node_id.contains('/'), "one topic level, without /", &self.node_id)?;
        let client_id_ok = is_text(&self.client_id, 1..=256);
        rule("client_id", client_id_ok, "1 to 256 bytes of text", &self.client_id)?;
        if let Some(user) = &self.user {
            rule("user", is_text(user, 1..=1024), "1 to 1024 bytes of text", user)?;
        }
        if let Some(Secret(password)) = &self.password {
            let ok = (1..=1024).contains(&password.len());
            rule("password", ok, "1 to 1024 bytes", format!("{} bytes", password.len()))?;
            rule("password", self.user.is_some(), "given together with a user", "no user")?;
        }
        let whole_seconds = self.keep_alive.subsec_nanos() == 0;
        let keep_alive_ok = whole_seconds && (1..=65535).contains(&self.keep_alive.as_secs());
        rule("keep_alive", keep_alive_ok, "1 to 65535 whole seconds", dbg(self.keep_alive))?;
        rule("heartbeat", !self.heartbeat.is_zero(), "greater than 0", dbg(self.heartbeat))?;
        let packet_ok = (MIN_PACKET_BYTES..=MAX_PACKET_BYTES).contains(&self.max_packet_bytes);
        let packet_rule = format!("{MIN_PACKET_BYTES} to {MAX_PACKET_BYTES}");
        rule("max_packet_bytes", packet_ok, &packet_rule, self.max_packet_bytes)?;
        rule("event_capacity", 0 < self.event_capacity, "at least 1", self.event_capacity)?;
        rule(
            "evidence_capacity",
            0 < self.evidence_capacity,
            "at least 1",
            self.evidence_capacity,
        )?;
        let retry_ok =
            (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.max_retry_wait);
        rule("max_retry_wait", retry_ok, "1 s to 1 h", dbg(self.max_retry_wait))?;
        if let Some(tls) = &self.tls {
            crate::tls::client_config(tls)?;
            let name_ok = rustls::pki_types::ServerName::try_from(self.host.as_str()).is_ok();
            rule("host", name_ok, "a DNS name or an address, for TLS", &self.host)?;
        }
        Ok(())
    }

    /// `<base>/<node>`.
    pub(crate) fn prefix(&self) -> String {
        format!("{}/{}", self.base_topic, self.node_id)
    }

    /// rumqttc's options for settings that passed [`MqttSettings::check`].
    pub(crate) fn options(&self) -> Result<MqttOptions, PublishError> {
        let mut options = MqttOptions::new(&self.client_id, &self.host, self.port);
        let will = Topic::Status.name(&self.prefix());
        options
            .set_keep_alive(self.keep_alive)
            // Nothing is subscribed to, and what has to be sent again is in the outbox.
            .set_clean_session(true)
            .set_inflight(INFLIGHT)
            .set_max_packet_size(self.max_packet_bytes, self.max_packet_bytes)
            .set_last_will(LastWill::new(will, crate::outbox::OFFLINE, QoS::AtLeastOnce, true));
        if let Some(user) = &self.user {
            let password = self.password.as_ref().map_or("", |it| &it.0);
            options.set_credentials(user, password);
        }
        if let Some(tls) = &self.tls {
            let config = TlsConfiguration::Rustls(crate::tls::client_config(tls)?);
            options.set_transport(Transport::Tls(config));
        }
        Ok(options)
    }
}

fn rule(
    key: &'static str,
    holds: bool,
    rule: &str,
    got: impl fmt::Display,
) -> Result<(), PublishError> {
    if holds {
        return Ok(());
    }
    Err(PublishError::InvalidSetting { key, rule: rule.to_owned(), got: got.to_string() })
}

fn dbg(duration: Duration) -> String {
    format!("{duration:?}")
}

fn is_text(text: &str, len: std::ops::RangeInclusive<usize>) -> bool {
    len.contains(&text.len()) && !text.chars().any(char::is_control)
}

/// A topic that can be published under: no wildcard, no empty level, not the broker's own `$`.
fn check_topic(key: &'static str, topic: &str) -> Result<(), PublishError> {
    let ok = is_text(topic, 1..=256)
        && !topic.contains(['+', '#'])
        && !topic.starts_with('$')
        && topic.split('/').all(|level| !level.is_empty());
    rule(key, ok, "1 to 256 bytes without +, #, leading $ or empty level", format!("{topic:?}"))
}
