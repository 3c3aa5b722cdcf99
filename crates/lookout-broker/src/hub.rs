//! What the connections share: who is subscribed to what, what is retained, and the faults set.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, Publish};
use tokio::sync::mpsc as queue;

use crate::filter::covers;
use crate::{Message, Refusal};

/// Most packets that wait for one client.
const QUEUE_CAPACITY: usize = 1000;
/// Fewer, so that a new subscriber can take them all.
const MAX_RETAINED: usize = 500;
const MAX_FILTERS: usize = 1000;
const MAX_CLIENTS: usize = 1000;

#[derive(Default)]
pub(crate) struct Hub(Mutex<State>);

#[derive(Default)]
pub(crate) struct State {
    /// By client id. Removing a client ends its connection, for it holds the only sender.
    pub(crate) clients: HashMap<String, Client>,
    pub(crate) retained: BTreeMap<String, Publish>,
    pub(crate) watchers: Vec<mpsc::SyncSender<Message>>,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) withholds_acks: bool,
    n_connections: u64,
}

pub(crate) struct Client {
    /// Tells this connection from an earlier one with the same id.
    serial: u64,
    outgoing: queue::Sender<Packet>,
    filters: Vec<(String, QoS)>,
    last_packet_id: u16,
}

impl Hub {
    /// A panic in one connection leaves the maps whole.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a client in, and throws out one that has its id. `None` when there are too many.
    /// A client without an id gets one.
    pub(crate) fn join(&mut self, id: &str) -> Option<(String, u64, queue::Receiver<Packet>)> {
        if MAX_CLIENTS <= self.clients.len() {
            return None;
        }
        self.n_connections += 1;
        let serial = self.n_connections;
        // No client can choose an id with a NUL.
        let id = if id.is_empty() { format!("\0{serial}") } else { id.to_owned() };
        let (outgoing, queue) = queue::channel(QUEUE_CAPACITY);
        let client = Client { serial, outgoing, filters: Vec::new(), last_packet_id: 0 };
        self.clients.insert(id.clone(), client);
        Some((id, serial, queue))
    }

    /// The connection is over; another with the same id stays.
    pub(crate) fn leave(&mut self, id: &str, serial: u64) {
        if self.clients.get(id).is_some_and(|it| it.serial == serial) {
            self.clients.remove(id);
        }
    }

    /// Adds or replaces a subscription; false when the client has too many.
    pub(crate) fn subscribe(&mut self, id: &str, filter: &str, qos: QoS) -> bool {
        let Some(client) = self.clients.get_mut(id) else { return false };
        client.filters.retain(|(it, _)| it != filter);
        if MAX_FILTERS <= client.filters.len() {
            return false;
        }
        client.filters.push((filter.to_owned(), qos));
        true
    }

    pub(crate) fn unsubscribe(&mut self, id: &str, filter: &str) {
        if let Some(client) = self.clients.get_mut(id) {
            client.filters.retain(|(it, _)| it != filter);
        }
    }

    /// Sends a client what is retained under `filter`.
    pub(crate) fn send_retained(&mut self, id: &str, filter: &str, qos: QoS) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let found = self.retained.values().filter(|it| covers(filter, &it.topic));
        if !found.into_iter().all(|it| client.send(it, qos, true)) {
            self.clients.remove(id);
        }
    }

    /// Hands a publication to all it concerns.
    pub(crate) fn publish(&mut self, publish: &Publish) {
        let message = Message {
            topic: publish.topic.clone(),
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
        };
        self.watchers.retain(|it| it.try_send(message.clone()).is_ok());
        if publish.retain {
            self.retain(publish);
        }
        self.clients.retain(|id, client| {
            let covering = client.filters.iter().filter(|(it, _)| covers(it, &publish.topic));
            // Several subscriptions that overlap get one copy, at the best of their QoS.
            let best = covering.map(|(_, qos)| *qos).max_by_key(|it| *it as u8);
            let keeps = best.is_none_or(|qos| client.send(publish, qos, false));
            if !keeps {
                tracing::warn!(client = id, "Disconnected a client that does not read.");
            }
            keeps
        });
    }

    fn retain(&mut self, publish: &Publish) {
        if publish.payload.is_empty() {
            self.retained.remove(&publish.topic);
        } else if self.retained.len() < MAX_RETAINED || self.retained.contains_key(&publish.topic) {
            self.retained.insert(publish.topic.clone(), publish.clone());
        } else {
            tracing::warn!(topic = publish.topic, "Too many retained topics; one is not kept.");
        }
    }
}

impl Client {
    /// False when the queue is full.
    fn send(&mut self, publish: &Publish, granted: QoS, retain: bool) -> bool {
        let mut publish = publish.clone();
        publish.dup = false;
        publish.retain = retain;
        if publish.qos == QoS::AtMostOnce || granted == QoS::AtMostOnce {
            publish.qos = QoS::AtMostOnce;
            publish.pkid = 0;
        } else {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            publish.qos = QoS::AtLeastOnce;
            publish.pkid = self.last_packet_id;
        }
        self.outgoing.try_send(Packet::Publish(publish)).is_ok()
    }
}
