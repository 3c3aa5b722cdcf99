//! What waits to be delivered, and what became of it. Pure: no network, no time.
//!
//! The link takes messages with [`Outbox::next`] and reports what the network says of them. A
//! connection is used once: after [`Outbox::disconnected`] nothing of it counts any more.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::topic::Topic;

pub(crate) const ONLINE: &str = "online";
pub(crate) const OFFLINE: &str = "offline";

/// Most messages on their way at one time. Far below rumqttc's own limit (see `settings.rs`), and
/// few enough that little is sent twice after a lost connection.
pub(crate) const WINDOW: usize = 10;

/// What the outbox counts, from the start of the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) events_dropped: u64,
    pub(crate) evidence_dropped: u64,
}

/// One message for the network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) topic: Topic,
    pub(crate) payload: Vec<u8>,
}

/// An event in both forms, so that nothing can go wrong when it is sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// [`lookout_core::Decision::event`].
    pub(crate) number: u64,
    pub(crate) topic: Topic,
    pub(crate) payload: Vec<u8>,
    /// The same with `replayed: true`.
    pub(crate) replay: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// The first attempt to connect is under way.
    Starting,
    Up,
    Down,
}

#[derive(Debug)]
struct Retained {
    payload: Vec<u8>,
    /// Not sent on this connection.
    is_due: bool,
    /// Sent and not acknowledged. A newer value waits meanwhile, and replaces older ones.
    is_on_its_way: bool,
}

#[derive(Debug)]
struct Waiting {
    event: Event,
    is_replay: bool,
    is_on_its_way: bool,
}

/// A message that the link took.
#[derive(Clone, Debug)]
enum Taken {
    Retained(Topic),
    Event(u64),
    Evidence,
}

pub(crate) struct Outbox {
    link: Link,
    retained: BTreeMap<Topic, Retained>,
    events: VecDeque<Waiting>,
    event_capacity: usize,
    evidence: VecDeque<Message>,
    evidence_capacity: usize,
    /// Taken and not yet written to the network, in order.
    taken: VecDeque<Taken>,
    /// Written and not yet acknowledged, by packet id.
    written: HashMap<u16, Taken>,
    counts: Counts,
}

impl Outbox {
    /// Both capacities are at least 1.
    pub(crate) fn new(event_capacity: usize, evidence_capacity: usize) -> Self {
        Self {
            link: Link::Starting,
            retained: BTreeMap::new(),
            events: VecDeque::new(),
            event_capacity,
            evidence: VecDeque::new(),
            evidence_capacity,
            taken: VecDeque::new(),
            written: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// Replaces the value of a retained topic.
    pub(crate) fn set(&mut self, message: Message) {
        let Message { topic, payload } = message;
        match self.retained.get_mut(&topic) {
            Some(it) => {
                it.payload = payload;
                it.is_due = true;
            }
            None => {
                let it = Retained { payload, is_due: true, is_on_its_way: false };
                self.retained.insert(topic, it);
            }
        }
    }

    /// Queues an event. When the queue is full, the oldest that is not on its way is dropped; its number.
    pub(crate) fn push_event(&mut self, event: Event) -> Option<u64> {
        let mut dropped = None;
        if self.event_capacity <= self.events.len() {
            let oldest = self.events.iter().position(|it| !it.is_on_its_way).unwrap_or(0);
            dropped = self.events.remove(oldest).map(|it| it.event.number);
            self.counts.events_dropped += 1;
        }
        let is_replay = self.link == Link::Down;
        self.events.push_back(Waiting { event, is_replay, is_on_its_way: false });
        dropped
    }

    /// Queues evidence. It is dropped while the broker is away; when the queue is full, the
    /// oldest goes.
    pub(crate) fn push_evidence(&mut self, message: Message) {
        if self.link == Link::Down {
            self.counts.evidence_dropped += 1;
            return;
        }
        if self.evidence_capacity <= self.evidence.len() {
            self.evidence.pop_front();
            self.counts.evidence_dropped += 1;
        }
        self.evidence.push_back(message);
    }

    /// A connection is made: everything retained is due.
    pub(crate) fn connected(&mut self) {
        self.link = Link::Up;
        for it in self.retained.values_mut() {
            it.is_due = true;
        }
    }

    /// A connection is lost, or an attempt failed. What was on its way waits again; events become
    /// replays, evidence is dropped.
    pub(crate) fn disconnected(&mut self) {
        self.link = Link::Down;
        for it in self.retained.values_mut() {
            it.is_due = true;
            it.is_on_its_way = false;
        }
        for it in &mut self.events {
            it.is_replay = true;
            it.is_on_its_way = false;
        }
        let on_its_way = self.taken.iter().filter(|it| matches!(it, Taken::Evidence)).count();
        self.counts.evidence_dropped += (on_its_way + self.evidence.len()) as u64;
        self.evidence.clear();
        self.taken.clear();
        self.written.clear();
    }

    /// The next message to send, if the window has room: what is retained, then events, then
    /// evidence.
    pub(crate) fn next(&mut self) -> Option<Message> {
        if self.link != Link::Up || WINDOW <= self.taken.len() + self.written.len() {
            return None;
        }
        let is_ready = |it: &Retained| it.is_due && !it.is_on_its_way;
        if let Some((topic, it)) = self.retained.iter_mut().find(|(_, it)| is_ready(it)) {
            it.is_due = false;
            it.is_on_its_way = true;
            self.taken.push_back(Taken::Retained(topic.clone()));
            return Some(Message { topic: topic.clone(), payload: it.payload.clone() });
        }
        if let Some(it) = self.events.iter_mut().find(|it| !it.is_on_its_way) {
            it.is_on_its_way = true;
            self.taken.push_back(Taken::Event(it.event.number));
            let payload = if it.is_replay { &it.event.replay } else { &it.event.payload };
            return Some(Message { topic: it.event.topic.clone(), payload: payload.clone() });
        }
        let message = self.evidence.pop_front()?;
        self.taken.push_back(Taken::Evidence);
        Some(message)
    }

    /// The oldest message taken was written to the network; `packet_id` is 0 for QoS 0.
    pub(crate) fn written(&mut self, packet_id: u16) {
        let Some(taken) = self.taken.pop_front() else { return };
        self.counts.sent += 1;
        if packet_id != 0 {
            self.written.insert(packet_id, taken);
        }
    }

    /// The broker has `packet_id`. The number of the event that it was.
    pub(crate) fn acknowledged(&mut self, packet_id: u16) -> Option<u64> {
        let taken = self.written.remove(&packet_id)?;
        self.counts.acknowledged += 1;
        match taken {
            Taken::Retained(topic) => {
                if let Some(it) = self.retained.get_mut(&topic) {
                    it.is_on_its_way = false;
                }
            }
            Taken::Event(number) => {
                self.events.retain(|it| it.event.number != number);
                return Some(number);
            }
            Taken::Evidence => (),
        }
        None
    }

    /// Whether all that was handed in is acknowledged, or written where nothing acknowledges it.
    pub(crate) fn is_drained(&self) -> bool {
        self.events.is_empty()
            && self.evidence.is_empty()
            && self.taken.is_empty()
            && self.unacknowledged().next().is_none()
    }

    /// The retained topics whose last value is not acknowledged.
    pub(crate) fn unacknowledged(&self) -> impl Iterator<Item = &Topic> {
        let is_open = |it: &Retained| it.is_due || it.is_on_its_way;
        self.retained.iter().filter(move |(_, it)| is_open(it)).map(|(topic, _)| topic)
    }

    /// Events that wait for acknowledgement.
    pub(crate) fn n_events(&self) -> usize {
        self.events.len()
    }

    /// Whether the last value of a retained topic is `payload`.
    pub(crate) fn is(&self, topic: &Topic, payload: &str) -> bool {
        self.retained.get(topic).is_some_and(|it| it.payload == payload.as_bytes())
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.link == Link::Up
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use lookout_core::Id;
    use proptest::prelude::*;

    use super::*;

    fn camera() -> Id {
        Id::new("door").unwrap()
    }

    fn event(n: u64) -> Event {
        let (payload, replay) = (format!("{n}").into(), format!("{n}!").into());
        Event { number: n, topic: Topic::Event(camera()), payload, replay }
    }

    fn message(topic: Topic, payload: &str) -> Message {
        Message { topic, payload: payload.into() }
    }

    fn text(outbox: &mut Outbox) -> Option<String> {
        outbox.next().map(|it| String::from_utf8(it.payload).unwrap())
    }

    fn outbox() -> Outbox {
        let mut outbox = Outbox::new(3, 2);
        outbox.connected();
        outbox
    }

    #[test]
    fn retained_values_coalesce_and_come_first() {
        let mut outbox = outbox();
        outbox.push_evidence(message(Topic::Evidence(camera()), "evidence"));
        outbox.push_event(event(1));
        outbox.set(message(Topic::State(camera()), "old"));
        outbox.set(message(Topic::State(camera()), "new"));
        outbox.set(message(Topic::Status, "online"));
        let order: Vec<_> = std::iter::from_fn(|| text(&mut outbox)).collect();
        assert_eq!(order, ["online", "new", "1", "evidence"]);

        // While one value is on its way the next ones wait, and replace each other.
        outbox.set(message(Topic::Status, "a"));
        outbox.set(message(Topic::Status, "b"));
        assert_eq!(text(&mut outbox), None);
        (1..=3).for_each(|id| outbox.written(id));
        outbox.written(0);
        assert_eq!((1..=3).filter_map(|id| outbox.acknowledged(id)).collect::<Vec<_>>(), [1]);
        assert!(!outbox.is_drained());
        assert_eq!(text(&mut outbox).as_deref(), Some("b"));
        outbox.written(4);
        outbox.acknowledged(4);
        assert!(outbox.is_drained() && outbox.is(&Topic::Status, "b"));
        assert_eq!((outbox.counts().sent, outbox.counts().acknowledged), (5, 4));

        // The next broker may know nothing of it.
        outbox.disconnected();
        assert_eq!(outbox.unacknowledged().count(), 2);
    }

    #[test]
    fn the_oldest_event_that_is_not_on_its_way_is_dropped() {
        let mut outbox = outbox();
        outbox.push_event(event(1));
        assert_eq!(text(&mut outbox).as_deref(), Some("1"));
        let dropped = (2..=4).filter_map(|n| outbox.push_event(event(n)));
        assert_eq!(dropped.collect::<Vec<_>>(), [2]);
        assert_eq!((outbox.n_events(), outbox.counts().events_dropped), (3, 1));
        outbox.disconnected();
        outbox.connected();
        let order: Vec<_> = std::iter::from_fn(|| text(&mut outbox)).collect();
        assert_eq!(order, ["1!", "3!", "4!"]);
    }

    #[test]
    fn an_event_is_a_replay_only_if_a_connection_failed_while_it_waited() {
        let mut outbox = Outbox::new(3, 2);
        outbox.push_event(event(1));
        assert_eq!(text(&mut outbox), None);
        outbox.connected();
        assert_eq!(text(&mut outbox).as_deref(), Some("1"));
        outbox.disconnected();
        outbox.push_event(event(2));
        outbox.connected();
        outbox.push_event(event(3));
        let order: Vec<_> = std::iter::from_fn(|| text(&mut outbox)).collect();
        assert_eq!(order, ["1!", "2!", "3"]);
    }

    #[test]
    fn evidence_does_not_wait_for_the_broker() {
        let mut outbox = outbox();
        let evidence = |text: &str| message(Topic::Evidence(camera()), text);
        ["a", "b", "c"].iter().for_each(|it| outbox.push_evidence(evidence(it)));
        assert_eq!(text(&mut outbox).as_deref(), Some("b"));
        assert!(!outbox.is_drained());
        outbox.disconnected();
        outbox.push_evidence(evidence("d"));
        assert_eq!(outbox.counts().evidence_dropped, 4);
        assert!(outbox.is_drained());
        outbox.connected();
        assert_eq!(text(&mut outbox), None);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push,
        Take,
        Write,
        Acknowledge,
        Lose,
    }

    fn step() -> impl Strategy<Value = Step> {
        use Step::{Acknowledge, Lose, Push, Take, Write};
        prop_oneof![
            6 => Just(Push), 9 => Just(Take), 9 => Just(Write), 9 => Just(Acknowledge), 1 => Just(Lose)
        ]
    }

    proptest! {
        /// Whatever the network does, every event arrives, for the first time in order, and what
        /// arrives again says so.
        #[test]
        fn events_arrive_at_least_once_and_in_order(
            steps in prop::collection::vec(step(), 0..400),
        ) {
            let mut outbox = Outbox::new(1000, 1);
            outbox.connected();
            let (mut pushed, mut packet_id) = (0u64, 0u16);
            let (mut taken, mut arrived, mut unacknowledged) =
                (VecDeque::new(), Vec::<String>::new(), VecDeque::new());
            // In the end the network works.
            let end = [Step::Take, Step::Write, Step::Acknowledge].repeat(401);
            for step in steps.into_iter().chain([Step::Lose]).chain(end) {
                match step {
                    Step::Push => {
                        pushed += 1;
                        outbox.push_event(event(pushed));
                    }
                    Step::Take => taken.extend(text(&mut outbox)),
                    Step::Write => if let Some(it) = taken.pop_front() {
                        packet_id += 1;
                        outbox.written(packet_id);
                        arrived.push(it);
                        unacknowledged.push_back(packet_id);
                    },
                    Step::Acknowledge => if let Some(it) = unacknowledged.pop_front() {
                        prop_assert!(outbox.acknowledged(it).is_some());
                    },
                    Step::Lose => {
                        outbox.disconnected();
                        taken.clear();
                        unacknowledged.clear();
                        outbox.connected();
                    }
                }
                prop_assert!(taken.len() + unacknowledged.len() <= WINDOW);
            }
            prop_assert!(outbox.is_drained());
            let mut highest = 0;
            for it in &arrived {
                let n: u64 = it.trim_end_matches('!').parse().unwrap();
                prop_assert!(n <= highest + 1, "{arrived:?}");
                prop_assert!(highest < n || it.ends_with('!'), "{arrived:?}");
                highest = highest.max(n);
            }
            prop_assert_eq!(highest, pushed);
        }
    }
}
