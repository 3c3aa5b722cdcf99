//! A small MQTT 3.1.1 broker for the demo and for scripted faults; never for production.
//!
//! It listens on loopback alone, asks nobody for a password and keeps everything in memory.
//! Retained messages, wills, QoS 0 and 1, wildcards and keep-alive work as the standard says.
//! QoS 2 does not exist: a subscription to it is granted QoS 1, a publication or will with it
//! ends the connection. Sessions are not kept: every connection starts without subscriptions, and
//! what a client does not acknowledge is not sent again.
//!
//! Everything is bounded: clients, packet size, subscriptions, retained topics, and the queue to
//! each client. A client that does not read its queue is disconnected.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod filter;
mod hub;
mod session;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::hub::Hub;

/// A running broker; dropping it ends it.
pub struct Broker {
    addr: SocketAddr,
    hub: Arc<Hub>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The port is not available.
    #[error("the broker cannot listen on {addr}; choose another port, or 0 for any")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// No runtime or thread could be made.
    #[error("the broker's thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// A publication that the broker accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// 0 or 1.
    pub qos: u8,
    /// Whether it is to be kept for later subscribers.
    pub retain: bool,
}

/// What a client that connects is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// That its user name or password is wrong.
    BadCredentials,
    /// Nothing: the connection is closed.
    Silent,
}

impl Broker {
    /// Most messages that wait for the reader of [`Broker::watch`].
    pub const WATCH_CAPACITY: usize = 10_000;

    /// Listens on loopback at `port`, 0 for any free one.
    pub fn start(port: u16) -> Result<Self, BrokerError> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listen = |source| BrokerError::Listen { addr, source };
        let listener = std::net::TcpListener::bind(addr).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BrokerError::Thread)?;
        let hub = Arc::new(Hub::default());
        let (stop, stopped) = oneshot::channel();
        let accept_hub = Arc::clone(&hub);
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    // Sent or dropped, the broker's end is the same.
                    _ = stopped => (),
                    () = session::accept(listener, accept_hub) => (),
                }
            });
        };
        let thread = std::thread::Builder::new().name("mqtt-broker".to_owned()).spawn(run);
        let thread = Some(thread.map_err(BrokerError::Thread)?);
        Ok(Self { addr, hub, stop: Some(stop), thread })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every publication accepted from now on, wills included, in order. A receiver that lets
    /// [`Broker::WATCH_CAPACITY`] of them wait is disconnected.
    pub fn watch(&self) -> mpsc::Receiver<Message> {
        let (sender, receiver) = mpsc::sync_channel(Self::WATCH_CAPACITY);
        self.hub.lock().watchers.push(sender);
        receiver
    }

    /// Refuses the connections to come, or with `None` no longer.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.hub.lock().refusal = refusal;
    }

    /// Whether publications are accepted without being acknowledged.
    pub fn withhold_acks(&self, withhold: bool) {
        self.hub.lock().withholds_acks = withhold;
    }

    /// Closes every connection without a word; wills are published.
    pub fn drop_connections(&self) {
        self.hub.lock().clients.clear();
    }

    /// Forgets every retained message, as a broker without persistence does when it restarts.
    pub fn forget_retained(&self) {
        self.hub.lock().retained.clear();
    }

    /// Closes every connection and ends. The port is free afterwards.
    pub fn stop(self) {}
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|it| it.join().is_err()) {
            tracing::error!("The broker's thread panicked.");
        }
    }
}
