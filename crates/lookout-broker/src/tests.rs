//! The broker against bare packets, and against mosquitto's clients.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, LastWill, Packet, Publish, Subscribe, SubscribeReasonCode,
};
use rumqttc::mqttbytes::{Error, QoS};

use super::*;

/// Far more than any step takes.
const LONG: Duration = Duration::from_secs(20);

/// A client that sends and receives bare packets.
struct Peer {
    stream: TcpStream,
    received: BytesMut,
}

impl Peer {
    fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self { stream, received: BytesMut::new() }
    }

    fn connect(addr: SocketAddr, connect: Connect) -> (Self, ConnectReturnCode) {
        let mut peer = Self::open(addr);
        peer.send(&Packet::Connect(connect));
        let Some(Packet::ConnAck(ack)) = peer.read() else { panic!("no CONNACK") };
        (peer, ack.code)
    }

    fn join(addr: SocketAddr, id: &str) -> Self {
        let (peer, code) = Self::connect(addr, Connect::new(id));
        assert_eq!(code, ConnectReturnCode::Success);
        peer
    }

    fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    /// `None` when the broker has closed the connection.
    fn read(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.received, usize::MAX) {
                Ok(it) => return Some(it),
                Err(Error::InsufficientBytes(_)) => (),
                Err(error) => panic!("{error}"),
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(n) => self.received.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) -> SubscribeReasonCode {
        let mut subscribe = Subscribe::new(filter, qos);
        subscribe.pkid = 7;
        self.send(&Packet::Subscribe(subscribe));
        let Some(Packet::SubAck(ack)) = self.read() else { panic!("no SUBACK") };
        assert_eq!(ack.pkid, 7);
        ack.return_codes[0]
    }

    fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &str) {
        let mut publish = Publish::new(topic, qos, payload);
        publish.retain = retain;
        publish.pkid = if qos == QoS::AtMostOnce { 0 } else { 9 };
        self.send(&Packet::Publish(publish));
    }

    /// Publishes, and waits until the broker has it.
    fn publish_acked(&mut self, topic: &str, retain: bool, payload: &str) {
        self.publish(topic, QoS::AtLeastOnce, retain, payload);
        assert!(matches!(self.read(), Some(Packet::PubAck(ack)) if ack.pkid == 9));
    }

    /// Topic, payload, QoS, retain flag.
    fn receive(&mut self) -> (String, String, u8, bool) {
        let Some(Packet::Publish(it)) = self.read() else { panic!("no PUBLISH") };
        let payload = String::from_utf8(it.payload.to_vec()).unwrap();
        (it.topic, payload, it.qos as u8, it.retain)
    }

    /// Asserts that nothing else is on its way.
    fn ping(&mut self) {
        self.send(&Packet::PingReq);
        assert_eq!(self.read(), Some(Packet::PingResp));
    }
}

fn text(topic: &str, payload: &str, qos: u8, retain: bool) -> (String, String, u8, bool) {
    (topic.to_owned(), payload.to_owned(), qos, retain)
}

fn with_will(id: &str) -> Connect {
    let mut connect = Connect::new(id);
    connect.last_will = Some(LastWill::new("gone", "offline", QoS::AtLeastOnce, true));
    connect
}

#[test]
fn messages_reach_those_subscribed_at_the_lower_qos() {
    let broker = Broker::start(0).unwrap();
    let mut a = Peer::join(broker.addr(), "a");
    let mut b = Peer::join(broker.addr(), "b");
    assert_eq!(a.subscribe("x/+", QoS::AtMostOnce), SubscribeReasonCode::Success(QoS::AtMostOnce));
    assert_eq!(
        a.subscribe("x/#", QoS::ExactlyOnce),
        SubscribeReasonCode::Success(QoS::AtLeastOnce)
    );
    assert_eq!(a.subscribe("x/#/y", QoS::AtMostOnce), SubscribeReasonCode::Failure);
    b.publish_acked("x/1", true, "one");
    b.publish("x/2", QoS::AtMostOnce, false, "two");
    b.publish_acked("y/1", false, "not for a");
    // Two subscriptions overlap and one copy comes, not marked as retained.
    assert_eq!(a.receive(), text("x/1", "one", 1, false));
    assert_eq!(a.receive(), text("x/2", "two", 0, false));
    a.ping();
    a.send(&Packet::Unsubscribe(rumqttc::mqttbytes::v4::Unsubscribe {
        pkid: 3,
        topics: vec!["x/#".to_owned(), "x/+".to_owned()],
    }));
    assert!(matches!(a.read(), Some(Packet::UnsubAck(ack)) if ack.pkid == 3));
    b.publish_acked("x/3", false, "three");
    a.ping();
}

#[test]
fn retained_messages_wait_for_subscribers_until_emptied_or_forgotten() {
    let broker = Broker::start(0).unwrap();
    let mut a = Peer::join(broker.addr(), "a");
    a.publish_acked("r/1", true, "old");
    a.publish_acked("r/1", true, "new");
    a.publish_acked("r/2", true, "two");
    a.publish_acked("r/2", true, "");
    a.publish_acked("r/3", false, "never");
    let mut b = Peer::join(broker.addr(), "b");
    b.subscribe("r/+", QoS::AtMostOnce);
    assert_eq!(b.receive(), text("r/1", "new", 0, true));
    b.ping();
    broker.forget_retained();
    b.subscribe("r/#", QoS::AtMostOnce);
    b.ping();
}

#[test]
fn the_will_is_published_unless_the_client_says_goodbye() {
    let broker = Broker::start(0).unwrap();
    let watch = broker.watch();
    let (mut polite, _) = Peer::connect(broker.addr(), with_will("polite"));
    polite.send(&Packet::Disconnect);
    assert_eq!(polite.read(), None);
    let (rude, _) = Peer::connect(broker.addr(), with_will("rude"));
    drop(rude);
    let will = watch.recv_timeout(LONG).unwrap();
    assert_eq!((will.topic.as_str(), will.payload.as_slice()), ("gone", &b"offline"[..]));
    assert_eq!((will.qos, will.retain), (1, true));
    assert!(watch.try_recv().is_err());
}

#[test]
fn a_silent_client_is_dropped_after_its_keep_alive() {
    let broker = Broker::start(0).unwrap();
    let watch = broker.watch();
    let mut connect = with_will("silent");
    connect.keep_alive = 1;
    let (mut silent, _) = Peer::connect(broker.addr(), connect);
    let mut connect = Connect::new("patient");
    connect.keep_alive = 0;
    let (mut patient, _) = Peer::connect(broker.addr(), connect);
    assert_eq!(silent.read(), None);
    assert_eq!(watch.recv_timeout(LONG).unwrap().topic, "gone");
    patient.ping();
}

#[test]
fn the_same_id_throws_out_the_earlier_client() {
    let broker = Broker::start(0).unwrap();
    let mut first = Peer::join(broker.addr(), "same");
    let mut second = Peer::join(broker.addr(), "same");
    assert_eq!(first.read(), None);
    second.subscribe("x", QoS::AtMostOnce);
    second.publish_acked("other", false, "");
    second.ping();
    // Without an id each gets one of its own.
    let (mut c, _) = Peer::connect(broker.addr(), Connect::new(""));
    let (mut d, _) = Peer::connect(broker.addr(), Connect::new(""));
    c.ping();
    d.ping();
}

#[test]
fn what_is_not_understood_ends_the_connection_alone() {
    let broker = Broker::start(0).unwrap();
    let mut bystander = Peer::join(broker.addr(), "bystander");
    let mut qos2 = Peer::join(broker.addr(), "qos2");
    qos2.publish("x", QoS::ExactlyOnce, false, "");
    let mut wildcard = Peer::join(broker.addr(), "wildcard");
    wildcard.publish("x/+", QoS::AtMostOnce, false, "");
    let mut again = Peer::join(broker.addr(), "again");
    again.send(&Packet::Connect(Connect::new("again")));
    let mut impatient = Peer::open(broker.addr());
    impatient.send(&Packet::PingReq);
    let mut rubbish = Peer::open(broker.addr());
    let http = "GET / HTTP/1.1\r\nHost: broker.example\r\nUser-Agent: somebody who is lost\r\n\r\n";
    rubbish.stream.write_all(http.as_bytes()).unwrap();
    let mut large = Peer::join(broker.addr(), "large");
    large.stream.write_all(&[0x30, 0xff, 0xff, 0xff, 0x7f]).unwrap();
    let mut short = Peer::join(broker.addr(), "short");
    short.stream.write_all(&[0x32, 3, 0, 9, b'x']).unwrap();
    for mut peer in [qos2, wildcard, again, impatient, rubbish, large, short] {
        assert_eq!(peer.read(), None);
    }
    bystander.ping();

    let mut five = Connect::new("five");
    five.protocol = rumqttc::mqttbytes::Protocol::V5;
    let (_, code) = Peer::connect(broker.addr(), five);
    assert_eq!(code, ConnectReturnCode::RefusedProtocolVersion);
    let mut nameless = Connect::new("");
    nameless.clean_session = false;
    let (_, code) = Peer::connect(broker.addr(), nameless);
    assert_eq!(code, ConnectReturnCode::BadClientId);
}

#[test]
fn a_client_that_does_not_read_is_disconnected() {
    let broker = Broker::start(0).unwrap();
    let mut slow = Peer::join(broker.addr(), "slow");
    slow.subscribe("x", QoS::AtMostOnce);
    let mut fast = Peer::join(broker.addr(), "fast");
    let payload = "x".repeat(100_000);
    // Beyond the queue and what the sockets hold.
    for _ in 0..1200 {
        fast.publish("x", QoS::AtMostOnce, false, &payload);
    }
    fast.ping();
    assert!(!broker.hub.lock().clients.contains_key("slow"));
}

#[test]
fn faults_happen_when_asked_for() {
    let broker = Broker::start(0).unwrap();
    let watch = broker.watch();
    let mut a = Peer::join(broker.addr(), "a");

    broker.withhold_acks(true);
    a.publish("x", QoS::AtLeastOnce, false, "kept");
    a.ping();
    assert_eq!(watch.recv_timeout(LONG).unwrap().payload, b"kept");
    broker.withhold_acks(false);
    a.publish_acked("x", false, "acknowledged");

    broker.refuse(Some(Refusal::BadCredentials));
    a.ping();
    let (_, code) = Peer::connect(broker.addr(), Connect::new("b"));
    assert_eq!(code, ConnectReturnCode::BadUserNamePassword);
    broker.refuse(Some(Refusal::Silent));
    let mut silent = Peer::open(broker.addr());
    silent.send(&Packet::Connect(Connect::new("b")));
    assert_eq!(silent.read(), None);
    broker.refuse(None);
    Peer::join(broker.addr(), "b").ping();

    broker.drop_connections();
    assert_eq!(a.read(), None);
    let addr = broker.addr();
    broker.stop();
    let broker = Broker::start(addr.port()).unwrap();
    assert!(matches!(Broker::start(addr.port()), Err(BrokerError::Listen { .. })));
    Peer::join(broker.addr(), "a").ping();
}

/// Debian's package `mosquitto-clients`.
fn mosquitto(program: &str, broker: &Broker, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    let port = broker.addr().port().to_string();
    command.args(["-h", "127.0.0.1", "-p", &port]).args(args).stdin(Stdio::null());
    command
}

#[test]
fn mosquitto_clients_work_against_it() {
    let broker = Broker::start(0).unwrap();
    let publish = |args: &[&str]| {
        let status = mosquitto("mosquitto_pub", &broker, args).status();
        assert!(status.expect("mosquitto_pub should be installed").success(), "{args:?}");
    };
    publish(&["-t", "lookout/n/status", "-m", "online", "-r", "-q", "1"]);
    let sub = ["-t", "lookout/#", "-v", "-q", "1", "-C", "2", "-W", "20"];
    let subscriber = mosquitto("mosquitto_sub", &broker, &sub).stdout(Stdio::piped()).spawn();
    let subscriber = subscriber.expect("mosquitto_sub should be installed");
    // The retained message comes whenever it subscribes; so does this one.
    publish(&["-t", "lookout/n/info", "-m", "{}", "-r", "-q", "1"]);
    let output = subscriber.wait_with_output().unwrap();
    let mut lines: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["lookout/n/info {}", "lookout/n/status online"]);
    assert!(output.status.success());

    broker.refuse(Some(Refusal::BadCredentials));
    let refused = mosquitto("mosquitto_pub", &broker, &["-t", "x", "-m", "y", "-q", "1"]).output();
    assert!(!refused.unwrap().status.success());
}
