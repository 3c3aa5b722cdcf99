//! The thread that owns the connection: one rumqttc event loop a connection.
//!
//! An event loop that lost its connection is thrown away. Kept, it would drop what it still holds
//! when the broker has no session, or, after a packet id collision, send nothing for ever; the
//! outbox knows what has to be sent again. A poll is never cancelled while its connection is to
//! live on: a packet could be lost between rumqttc's bookkeeping and the socket.

use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use lookout_core::Clock;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, Incoming, MqttOptions,
    Outgoing, StateError, TlsError,
};
use tokio::time::timeout;

use crate::outbox::{Message, OFFLINE, WINDOW};
use crate::publisher::{Phase, Shared};
use crate::topic::Topic;

/// For connecting, with name look-up and TLS, and for each write.
const NETWORK_TIMEOUT_S: u64 = 5;
const FIRST_RETRY_WAIT: Duration = Duration::from_millis(250);
/// A connection that lasts this long ends a series of failures.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: MqttOptions,
    pub(crate) prefix: String,
    pub(crate) max_retry_wait: Duration,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Why a connection is over.
enum End {
    /// `offline` is acknowledged and the broker was told.
    Disconnected,
    Aborted,
    Failed(String),
}

pub(crate) fn spawn(link: Link) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("mqtt".to_owned()).spawn(move || {
        let ended = Ended(Arc::clone(&link.shared));
        let in_order = runtime.block_on(link.run());
        // A name look-up may hang in a thread of its own; it is not waited for.
        runtime.shutdown_background();
        ended.0.lock().phase = Phase::Ended(in_order);
    })
}

/// Says that the thread has ended, also when it panics.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.phase = state.phase.max(Phase::Ended(false));
        drop(state);
        self.0.changed.notify_all();
    }
}

impl Link {
    /// Connects again and again; true when the connection ended in order.
    async fn run(&self) -> bool {
        let mut n_failures = 0;
        let mut logged: Option<String> = None;
        loop {
            let started = self.clock.monotonic();
            let end = self.serve(&mut logged).await;
            let cause = match end {
                End::Disconnected => return true,
                End::Aborted => return false,
                End::Failed(cause) => cause,
            };
            if logged.as_ref() != Some(&cause) {
                tracing::warn!(cause, "No connection to the MQTT broker; retrying.");
                logged = Some(cause.clone());
            }
            if self.note_failure(cause) != Phase::Open {
                return false;
            }
            if PROVEN_AFTER <= self.clock.monotonic().saturating_sub(started) {
                n_failures = 0;
            }
            n_failures += 1;
            self.pause(retry_wait(n_failures, self.max_retry_wait, fastrand::f64())).await;
        }
    }

    fn note_failure(&self, cause: String) -> Phase {
        let mut state = self.shared.lock();
        state.outbox.disconnected();
        state.last_error = Some(cause);
        let phase = state.phase;
        drop(state);
        self.shared.changed.notify_all();
        phase
    }

    /// Waits, unless the end is asked for.
    async fn pause(&self, wait: Duration) {
        let woken = async {
            while self.shared.lock().phase == Phase::Open {
                self.shared.wake.notified().await;
            }
        };
        // Either way another attempt follows.
        timeout(wait, woken).await.unwrap_or_default();
    }

    /// One connection from its start to its end.
    async fn serve(&self, logged: &mut Option<String>) -> End {
        let (client, mut event_loop) = AsyncClient::new(self.options.clone(), 2 * WINDOW);
        event_loop.network_options.set_connection_timeout(NETWORK_TIMEOUT_S);
        event_loop.network_options.set_tcp_nodelay(true);
        loop {
            if let Err(end) = self.feed(&client) {
                return end;
            }
            let event = match self.poll(&client, &mut event_loop).await {
                Ok(event) => event,
                Err(end) => return end,
            };
            let mut delivered = None;
            let mut state = self.shared.lock();
            match event {
                Event::Incoming(Incoming::ConnAck(_)) => {
                    state.outbox.connected();
                    state.n_connections += 1;
                    state.last_error = None;
                    *logged = None;
                    tracing::info!(broker = self.broker(), "Connected to the MQTT broker.");
                }
                Event::Outgoing(Outgoing::Publish(packet_id)) => state.outbox.written(packet_id),
                Event::Incoming(Incoming::PubAck(ack)) => {
                    delivered = state.outbox.acknowledged(ack.pkid);
                }
                Event::Outgoing(Outgoing::AwaitAck(packet_id)) => {
                    return End::Failed(format!(
                        "the broker left packet {packet_id} unacknowledged"
                    ));
                }
                Event::Outgoing(Outgoing::Disconnect) => return End::Disconnected,
                _ => (),
            }
            drop(state);
            if let Some(number) = delivered {
                self.shared.forget(number);
            }
            self.shared.changed.notify_all();
        }
    }

    /// The next event. Meanwhile the client is fed with what is handed in.
    async fn poll(&self, client: &AsyncClient, event_loop: &mut EventLoop) -> Result<Event, End> {
        // The keep-alive ping makes an event at least this often, unless a write hangs.
        let limit = self.options.keep_alive() + Duration::from_secs(2 * NETWORK_TIMEOUT_S);
        let mut poll = pin!(timeout(limit, event_loop.poll()));
        loop {
            tokio::select! {
                polled = &mut poll => return match polled {
                    Ok(Ok(event)) => Ok(event),
                    Ok(Err(error)) => Err(End::Failed(self.explain(&error))),
                    Err(_) => Err(End::Failed(format!("the broker is silent for {limit:?}"))),
                },
                () = self.shared.wake.notified() => self.feed(client)?,
            }
        }
    }

    /// Gives the client what it has room for.
    fn feed(&self, client: &AsyncClient) -> Result<(), End> {
        let mut state = self.shared.lock();
        if state.phase == Phase::Abort {
            return Err(End::Aborted);
        }
        while let Some(Message { topic, payload }) = state.outbox.next() {
            let (name, qos, retain) = (topic.name(&self.prefix), topic.qos(), topic.is_retained());
            // The client has room for twice the window.
            if let Err(error) = client.try_publish(name, qos, retain, payload) {
                return Err(End::Failed(error.to_string()));
            }
        }
        if state.phase == Phase::Closing && state.outbox.is_connected() && state.outbox.is_drained()
        {
            if state.outbox.is(&Topic::Status, OFFLINE) {
                return client.try_disconnect().map_err(|it| End::Failed(it.to_string()));
            }
            state.outbox.set(Message { topic: Topic::Status, payload: OFFLINE.into() });
            drop(state);
            return self.feed(client);
        }
        Ok(())
    }

    fn broker(&self) -> String {
        let (host, port) = self.options.broker_address();
        format!("{host}:{port}")
    }

    /// What the user can do about `error`.
    fn explain(&self, error: &ConnectionError) -> String {
        let broker = self.broker();
        match error {
            ConnectionError::ConnectionRefused(
                ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
            ) => format!("{broker} refused the user or password; check both"),
            ConnectionError::ConnectionRefused(ConnectReturnCode::BadClientId) => {
                format!("{broker} refused the client id {:?}", self.options.client_id())
            }
            ConnectionError::ConnectionRefused(code) => {
                format!("{broker} refused the connection: {code:?}")
            }
            ConnectionError::Tls(TlsError::Io(error)) => format!(
                "no TLS connection to {broker}: {error}; check the CA file, the broker's \
                 certificate and its name"
            ),
            ConnectionError::Io(error) => format!("cannot reach {broker}: {error}"),
            ConnectionError::NetworkTimeout => {
                format!("{broker} gave no answer within {NETWORK_TIMEOUT_S} s")
            }
            ConnectionError::MqttState(StateError::ConnectionAborted) => {
                let id = self.options.client_id();
                format!(
                    "{broker} closed the connection; it does so, too, when another client comes \
                     with the client id {id:?}"
                )
            }
            ConnectionError::MqttState(StateError::AwaitPingResp) => {
                format!("{broker} does not answer a ping")
            }
            error => format!("connection to {broker} lost: {error}"),
        }
    }
}

/// Doubles with every failure up to `max`, then takes a random part of it, at least half.
/// `random` is within 0 to 1.
fn retry_wait(n_failures: u32, max: Duration, random: f64) -> Duration {
    let doublings = n_failures.saturating_sub(1).min(20);
    let wait = FIRST_RETRY_WAIT.saturating_mul(1 << doublings).min(max);
    wait.mul_f64(0.5 + 0.5 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_back_off_to_the_cap_with_jitter() {
        let max = Duration::from_secs(30);
        let waits: Vec<u128> =
            [1, 2, 3, 8, 1000].map(|n| retry_wait(n, max, 1.0).as_millis()).to_vec();
        assert_eq!(waits, [250, 500, 1000, 30_000, 30_000]);
        assert_eq!(retry_wait(3, max, 0.0).as_millis(), 500);
    }
}
