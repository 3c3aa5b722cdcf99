//! MQTT delivery: topics, payloads, acknowledgements.
//!
//! [`Publisher`] implements [`lookout_core::Publish`] and never blocks its caller. What it is
//! handed waits in a bounded outbox, from which one thread feeds one broker connection at a time:
//!
//! | topic under `<base>/<node>/` | kept while the broker is away | QoS, retained |
//! |---|---|---|
//! | `status`, `info`, `<camera>/status`, `<camera>/state` | the last value of each | 1, yes |
//! | `<camera>/event` | the last [`MqttSettings::event_capacity`], until acknowledged | 1, no |
//! | `<camera>/evidence` | nothing | 0, no |
//!
//! A decision is published under the names of the classes that it carries, whichever are in use
//! when its turn comes.
//!
//! On every connection the retained topics are published again before anything else. An event is
//! delivered at least once and in order; `replayed` is true when a connection was lost, or could
//! not be made, while it waited.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod error;
mod link;
mod outbox;
pub mod payload;
mod publisher;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod topic;

pub use error::PublishError;
pub use publisher::{CloseReport, LinkSnapshot, Publisher};
pub use settings::{MqttSettings, Secret, Tls};
