//! A camera's status, state and events.

use std::time::Duration;

use lookout_core::{CameraStatus, Change, ClassSet, Outcome, Snapshot, When};
use serde::Serialize;

use super::{
    Moment, Named, Number, Origin, VERSION, class, kind_name, label_of, reason_name, state_name,
};
use crate::PublishError;

/// The payload of a camera's `status` topic: plain text, not JSON.
pub fn camera_status(status: CameraStatus) -> &'static str {
    match status {
        CameraStatus::Streaming => "streaming",
        CameraStatus::Stalled => "stalled",
        CameraStatus::Disconnected => "disconnected",
        CameraStatus::Disabled => "disabled",
    }
}

/// The payload of a camera's `state` topic.
#[derive(Clone, Debug, Serialize)]
pub struct StatePayload<'a> {
    v: u32,
    #[serde(flatten)]
    at: Moment,
    boot_id: &'a str,
    seq: u64,
    state: &'static str,
    label: Option<Named<'a>>,
    score: Option<Number>,
    margin: Option<Number>,
    /// Deviations of the cosine above the background; null where that is not calibrated.
    sigma: Option<Number>,
    reason: Option<&'static str>,
    since: Moment,
    last_known: Option<Known<'a>>,
    picture: Option<&'a str>,
    heartbeat_s: Number,
}

#[derive(Clone, Debug, Serialize)]
struct Known<'a> {
    #[serde(flatten)]
    class: Named<'a>,
    state: &'static str,
    #[serde(flatten)]
    at: Moment,
}

/// The payload of a camera's `event` topic.
#[derive(Clone, Debug, Serialize)]
pub struct EventPayload<'a> {
    v: u32,
    #[serde(flatten)]
    at: Moment,
    boot_id: &'a str,
    seq: u64,
    from: Side<'a>,
    to: Side<'a>,
    score: Option<Number>,
    margin: Option<Number>,
    replayed: bool,
}

/// One end of a change; `label` is null unless `state` is `label`.
#[derive(Clone, Debug, Serialize)]
struct Side<'a> {
    state: &'static str,
    label: Option<Named<'a>>,
}

impl<'a> StatePayload<'a> {
    /// The state of a camera over `classes`. `picture` is the file of the deciding frame, if
    /// there is one; the next state follows within `heartbeat`.
    ///
    /// Fails when the snapshot is not over these classes, or holds a number that is not finite.
    pub fn new(
        origin: Origin<'a>,
        classes: &'a ClassSet,
        snapshot: &Snapshot,
        picture: Option<&'a str>,
        heartbeat: Duration,
    ) -> Result<Self, PublishError> {
        let last_known = match snapshot.last_known {
            None => None,
            Some(it) => {
                let class = class(classes, it.class)?;
                Some(Known {
                    class: Named::new(class),
                    state: kind_name(class.kind),
                    at: match it.at {
                        When::Here(mono) => Moment::new(origin.at.at(mono)),
                        When::Earlier(wall) => Moment::earlier(wall),
                    },
                })
            }
        };
        Ok(Self {
            v: VERSION,
            at: Moment::new(origin.at),
            boot_id: origin.boot_id,
            seq: origin.seq,
            state: state_name(snapshot.state),
            label: label_of(classes, snapshot.state)?.map(Named::new),
            score: number("score", snapshot.score)?,
            margin: number("margin", snapshot.margin)?,
            sigma: number("sigma", snapshot.sigma)?,
            reason: snapshot.reason.map(reason_name),
            since: Moment::new(origin.at.at(snapshot.since)),
            last_known,
            picture,
            heartbeat_s: Number::new("heartbeat", heartbeat.as_secs_f64())?,
        })
    }
}

impl<'a> EventPayload<'a> {
    /// A change of a camera's state over `classes`, which led to `snapshot`.
    ///
    /// Fails when it is not over these classes, or holds a number that is not finite.
    pub fn new(
        origin: Origin<'a>,
        classes: &'a ClassSet,
        change: Change,
        snapshot: &Snapshot,
        replayed: bool,
    ) -> Result<Self, PublishError> {
        Ok(Self {
            v: VERSION,
            at: Moment::new(origin.at),
            boot_id: origin.boot_id,
            seq: origin.seq,
            from: Side::new(classes, change.from)?,
            to: Side::new(classes, change.to)?,
            score: number("score", snapshot.score)?,
            margin: number("margin", snapshot.margin)?,
            replayed,
        })
    }
}

impl<'a> Side<'a> {
    fn new(classes: &'a ClassSet, outcome: Outcome) -> Result<Self, PublishError> {
        let Outcome::Class(index) = outcome else {
            return Ok(Self { state: "unknown", label: None });
        };
        let class = class(classes, index)?;
        let state = kind_name(class.kind);
        Ok(Self { state, label: (state == "label").then(|| Named::new(class)) })
    }
}

fn number(what: &'static str, value: Option<f64>) -> Result<Option<Number>, PublishError> {
    value.map(|it| Number::new(what, it)).transpose()
}
