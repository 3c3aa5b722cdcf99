//! The JSON documents, apart from the domain types they are made of.
//!
//! All have `v`, the version of their shape. Numbers are finite and rounded to nine decimals;
//! a domain value that is not finite is an error when the payload is made.

mod camera;
mod evidence;
mod info;

pub use camera::{EventPayload, StatePayload, camera_status};
pub use evidence::{EvidenceMessage, EvidencePayload, PictureLine};
pub use info::{IndexInfo, InfoPayload, ModelInfo, NodeInfo};

use std::time::Duration;

use lookout_core::{Class, ClassKind, ClassSet, Reason, Stamp, State};
use serde::{Serialize, Serializer};

use crate::PublishError;

/// The version of every payload's shape.
pub const VERSION: u32 = 1;

/// What the payloads of one decision have in common.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Random id of this run of the program; together with `seq` it names a decision.
    pub boot_id: &'a str,
    /// The camera's count of decisions.
    pub seq: u64,
    /// When the decision was made.
    pub at: Stamp,
}

/// A moment on both clocks.
#[derive(Clone, Debug, Serialize)]
struct Moment {
    /// RFC 3339, UTC, milliseconds; null while the clock is not synchronized, or beyond what the
    /// format can express.
    time: Option<String>,
    /// Null for a moment of an earlier run.
    mono_ms: Option<u64>,
}

impl Moment {
    fn new(at: Stamp) -> Self {
        let mono_ms = u64::try_from(at.mono.as_millis()).unwrap_or(u64::MAX);
        Self { mono_ms: Some(mono_ms), ..Self::earlier(at.wall) }
    }

    /// In an earlier run.
    fn earlier(wall: Option<Duration>) -> Self {
        let wall = wall.and_then(|it| jiff::SignedDuration::try_from(it).ok());
        let time = wall.and_then(|it| jiff::Timestamp::from_duration(it).ok());
        Self { time: time.map(|it| format!("{it:.3}")), mono_ms: None }
    }
}

/// A finite number, rounded to nine decimals.
#[derive(Clone, Copy, Debug)]
struct Number(f64);

impl Number {
    fn new(what: &'static str, value: f64) -> Result<Self, PublishError> {
        if !value.is_finite() {
            return Err(PublishError::NotFinite { what, got: value });
        }
        Ok(Self((value * 1e9).round() / 1e9))
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

/// A class by its stable id and its present name.
#[derive(Clone, Copy, Debug, Serialize)]
struct Named<'a> {
    id: &'a str,
    name: &'a str,
}

impl<'a> Named<'a> {
    fn new(class: &'a Class) -> Self {
        Self { id: class.id.as_str(), name: &class.name }
    }
}

fn class(classes: &ClassSet, index: usize) -> Result<&Class, PublishError> {
    let n_classes = classes.classes().len();
    classes.classes().get(index).ok_or(PublishError::UnknownClass { index, n_classes })
}

/// The label of a state; `None` unless the state is a label.
fn label_of(classes: &ClassSet, state: State) -> Result<Option<&Class>, PublishError> {
    match state {
        State::Label(index) => class(classes, index).map(Some),
        State::None(_) | State::Unknown | State::Stale => Ok(None),
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Label(_) => "label",
        State::None(_) => "none",
        State::Unknown => "unknown",
        State::Stale => "stale",
    }
}

fn kind_name(kind: ClassKind) -> &'static str {
    match kind {
        ClassKind::Label => "label",
        ClassKind::Negative => "none",
    }
}

/// What payloads call what held something else back.
pub fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Gated => "gated",
        Reason::LowScore => "low_score",
        Reason::LowMargin => "low_margin",
        Reason::Background => "background",
        Reason::Dwell => "dwell",
        Reason::Cooldown => "cooldown",
        Reason::Removed => "removed",
    }
}
