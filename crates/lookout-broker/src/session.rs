//! One connection, from CONNECT to its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, LastWill, Packet, PubAck, Publish, SubAck, Subscribe,
    SubscribeReasonCode, UnsubAck,
};
use rumqttc::mqttbytes::{Error, Protocol, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use crate::Refusal;
use crate::filter::{is_filter, is_topic};
use crate::hub::Hub;

const MAX_PACKET_BYTES: usize = 256 * 1024;
const READ_BYTES: usize = 16 * 1024;
/// For a client to say CONNECT, and to take what is written to it.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many bytes are gathered into one write.
const WRITE_BYTES: usize = 64 * 1024;

/// Why a connection is over.
enum End {
    /// The client said so: no will.
    Disconnect,
    /// Anything else.
    Lost(String),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

/// Serves whoever connects, until dropped.
pub(crate) async fn accept(listener: std::net::TcpListener, hub: Arc<Hub>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(it) => it,
        Err(error) => return tracing::error!(%error, "The broker cannot listen."),
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, Arc::clone(&hub)))),
            Err(error) => {
                // Too many open files, for one; waiting gives them time to be closed.
                tracing::warn!(%error, "The broker cannot take a connection.");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, hub: Arc<Hub>) {
    let mut wire = Wire { stream, received: BytesMut::new() };
    if let Err(End::Lost(reason)) = session(&mut wire, &hub).await {
        tracing::debug!(reason, "A connection to the broker ended.");
    }
}

async fn session(wire: &mut Wire, hub: &Hub) -> Result<(), End> {
    let connect = timeout(PATIENCE, wire.greeting()).await.map_err(|_| lost("no CONNECT"))??;
    let refusal = hub.lock().refusal;
    let code = match refusal {
        Some(Refusal::Silent) => return Err(lost("refused")),
        Some(Refusal::BadCredentials) => ConnectReturnCode::BadUserNamePassword,
        // The codec reads the start of MQTT 5, and no more of it.
        None if connect.protocol != Protocol::V4 => ConnectReturnCode::RefusedProtocolVersion,
        None if connect.client_id.is_empty() && !connect.clean_session => {
            ConnectReturnCode::BadClientId
        }
        None => ConnectReturnCode::Success,
    };
    let will = match connect.last_will.as_ref().map(will) {
        None => None,
        Some(it) => Some(it.ok_or_else(|| lost("a will with QoS 2 or a bad topic"))?),
    };
    let joined = match code {
        ConnectReturnCode::Success => hub.lock().join(&connect.client_id),
        _ => None,
    };
    let Some((id, serial, queue)) = joined else {
        let code = match code {
            ConnectReturnCode::Success => ConnectReturnCode::ServiceUnavailable,
            other => other,
        };
        wire.write([Packet::ConnAck(ConnAck::new(code, false))]).await?;
        return Err(lost("refused"));
    };
    let mut presence = Presence { hub, id, serial, will };
    wire.write([Packet::ConnAck(ConnAck::new(code, false))]).await?;
    let end = presence.converse(wire, queue, connect.keep_alive).await;
    if let Err(End::Disconnect) = end {
        presence.will = None;
    }
    end
}

/// The publication that stands for a will; `None` when it cannot be one.
fn will(will: &LastWill) -> Option<Publish> {
    let mut publish = Publish::new(&will.topic, will.qos, will.message.to_vec());
    publish.retain = will.retain;
    (is_topic(&will.topic) && will.qos != QoS::ExactlyOnce).then_some(publish)
}

/// A client in the hub. It leaves, and its will is published, however the connection ends: also
/// when the task panics on bytes that the codec cannot take.
struct Presence<'a> {
    hub: &'a Hub,
    id: String,
    serial: u64,
    will: Option<Publish>,
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        let mut hub = self.hub.lock();
        hub.leave(&self.id, self.serial);
        if let Some(will) = self.will.take() {
            hub.publish(&will);
        }
    }
}

impl Presence<'_> {
    async fn converse(
        &self,
        wire: &mut Wire,
        mut queue: Receiver<Packet>,
        keep_alive_s: u16,
    ) -> Result<(), End> {
        // A client that asked for no keep-alive may be silent for ever.
        let silence = match keep_alive_s {
            0 => Duration::MAX,
            it => Duration::from_secs(it.into()).mul_f64(1.5),
        };
        // Silence is counted from the client's last packet, whatever is sent to it.
        let mut deadline = Box::pin(tokio::time::sleep(silence));
        loop {
            tokio::select! {
                packet = wire.read() => {
                    let replies = self.handle(packet?)?;
                    wire.write(replies).await?;
                    deadline.set(tokio::time::sleep(silence));
                }
                packet = queue.recv() => {
                    let packet = packet.ok_or_else(|| lost("thrown out"))?;
                    let more = std::iter::from_fn(|| queue.try_recv().ok());
                    wire.write(std::iter::once(packet).chain(more)).await?;
                }
                () = &mut deadline => return Err(lost("silent beyond its keep-alive")),
            }
        }
    }

    /// Acts on a packet; gives what is to be answered at once.
    fn handle(&self, packet: Packet) -> Result<Option<Packet>, End> {
        match packet {
            Packet::Publish(it) => self.publish(&it),
            Packet::Subscribe(it) => Ok(Some(Packet::SubAck(self.subscribe(&it)))),
            Packet::Unsubscribe(it) => {
                let mut hub = self.hub.lock();
                it.topics.iter().for_each(|filter| hub.unsubscribe(&self.id, filter));
                Ok(Some(Packet::UnsubAck(UnsubAck::new(it.pkid))))
            }
            Packet::PingReq => Ok(Some(Packet::PingResp)),
            // Nothing is sent twice, so nothing waits for this.
            Packet::PubAck(_) => Ok(None),
            Packet::Disconnect => Err(End::Disconnect),
            other => Err(lost(format!("{other:?} is not for a client to send"))),
        }
    }

    fn publish(&self, publish: &Publish) -> Result<Option<Packet>, End> {
        if publish.qos == QoS::ExactlyOnce {
            return Err(lost("QoS 2 is not supported"));
        }
        if !is_topic(&publish.topic) {
            return Err(lost(format!("bad topic {:?}", publish.topic)));
        }
        let mut hub = self.hub.lock();
        hub.publish(publish);
        let is_acknowledged = publish.qos == QoS::AtLeastOnce && !hub.withholds_acks;
        Ok(is_acknowledged.then(|| Packet::PubAck(PubAck::new(publish.pkid))))
    }

    /// What is retained comes through the queue, after the answer.
    fn subscribe(&self, subscribe: &Subscribe) -> SubAck {
        let mut hub = self.hub.lock();
        let mut grant = |filter: &str, qos: QoS| {
            let qos = if qos == QoS::AtMostOnce { qos } else { QoS::AtLeastOnce };
            if !is_filter(filter) || !hub.subscribe(&self.id, filter, qos) {
                return SubscribeReasonCode::Failure;
            }
            hub.send_retained(&self.id, filter, qos);
            SubscribeReasonCode::Success(qos)
        };
        let codes = subscribe.filters.iter().map(|it| grant(&it.path, it.qos)).collect();
        SubAck::new(subscribe.pkid, codes)
    }
}

struct Wire {
    stream: TcpStream,
    received: BytesMut,
}

impl Wire {
    /// The next packet. Nothing is lost when the wait for it is given up.
    async fn read(&mut self) -> Result<Packet, End> {
        loop {
            match Packet::read(&mut self.received, MAX_PACKET_BYTES) {
                Ok(packet) => return Ok(packet),
                Err(Error::InsufficientBytes(_)) => (),
                Err(error) => return Err(lost(error)),
            }
            self.received.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(lost("closed by the client"));
            }
        }
    }

    async fn greeting(&mut self) -> Result<Connect, End> {
        match self.read().await? {
            Packet::Connect(it) => Ok(it),
            other => Err(lost(format!("{other:?} before CONNECT"))),
        }
    }

    /// Writes packets in few pieces.
    async fn write(&mut self, packets: impl IntoIterator<Item = Packet>) -> Result<(), End> {
        let mut bytes = BytesMut::new();
        for packet in packets {
            packet.write(&mut bytes, usize::MAX).map_err(lost)?;
            if WRITE_BYTES <= bytes.len() {
                self.send(&bytes.split()).await?;
            }
        }
        self.send(&bytes).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes)).await;
        Ok(sent.map_err(|_| lost("does not read"))??)
    }
}

fn lost(reason: impl ToString) -> End {
    End::Lost(reason.to_string())
}
