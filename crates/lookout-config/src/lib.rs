//! From a TOML file, the environment and flags to a checked [`Config`].
//!
//! The `config` crate merges the three into one tree of values and does nothing else: its own
//! deserialization coerces types and stops at the first fault. The walk in this crate checks
//! types, unknown keys and rules itself and reports every fault at once, each with its key, where
//! the value came from, the rule and the value.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod changes;
mod check;
mod fault;
mod labels;
mod layers;
mod secret;
mod templates;
mod walk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lookout_core::{AdaptationMode, Bound, DecisionRules, Device, Id, Weighting};

pub use fault::{ConfigError, Fault, Origin};
pub use labels::LabelSet;

/// A checked configuration. Holding one means that every rule of this crate held. What only an
/// adapter knows, such as the forms of a camera URI, is not checked here.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// The node's id in topics; `None`: derived from the machine.
    pub node: Option<Id>,
    /// Folder of the model bundle.
    pub model: PathBuf,
    /// The caption index; `None`: the image alone decides.
    pub index: Option<PathBuf>,
    /// The file of lessons; `None`: beside the index, and nowhere without one.
    pub taught: Option<PathBuf>,
    /// The words that pictures are told apart from; see [`BankPlace`].
    pub bank: BankPlace,
    /// Whether frames of the stream that were accepted have a say in later ones; `None`: they have not.
    pub adaptation: Option<AdaptationMode>,
    /// The file of calibrations; `None`: no scene's background is known.
    pub calibration: Option<PathBuf>,
    /// Where it is kept what was said.
    pub state: StatePlace,
    /// How the model runs.
    pub encoder: Encoder,
    /// Fusion of the modalities.
    pub fusion: Fusion,
    /// When a still scene is skipped.
    pub gate: Gate,
    /// The broker.
    pub mqtt: Mqtt,
    /// At least one, in the order of their ids.
    pub cameras: Vec<Camera>,
    /// How long stages may take to drain after a stop request; greater than 0.
    pub stop_grace: Duration,
    /// Where each value came from.
    places: BTreeMap<String, Origin>,
}

/// Where the background bank is: words for what else a picture may resemble.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BankPlace {
    /// There is none.
    #[default]
    Off,
    /// The one that comes with the program.
    Everyday,
    /// A file with a word or phrase a line.
    File(PathBuf),
}

/// Where a daemon keeps what it said, for its next start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StatePlace {
    /// Where the service manager or the user has such files.
    #[default]
    Usual,
    /// Nowhere.
    Off,
    /// This file.
    File(PathBuf),
}

/// How the model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Encoder {
    /// Where it runs.
    pub device: Device,
}

/// Fusion of image and captions; what is `None` the bundle recommends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fusion {
    /// How confidences become weights.
    pub weighting: Option<Weighting>,
    /// Whether captions are ranked by their own cosine to the picture, not by that of their keys.
    pub rerank: bool,
    /// Whether of equal captions only one counts.
    pub dedupe: bool,
    /// Captions that count (K), 1 to 256.
    pub captions: Option<usize>,
    /// Candidates taken from the index (N), 1 to 4096; at least `captions` where both are given.
    pub candidates: Option<usize>,
}

/// When a frame that shows nothing new is not evaluated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    /// Least mean change of luma that counts as new, in 8-bit steps; 0: every frame is evaluated.
    pub luma_change: f64,
    /// A frame is evaluated at least this often; greater than 0.
    pub interval: Duration,
}

/// The broker and how to speak to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Mqtt {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// First levels of every topic.
    pub base: String,
    /// User name.
    pub user: Option<String>,
    /// File with the password; see [`Config::read_password`].
    pub password_file: Option<PathBuf>,
    /// MQTT client id; `None`: the program chooses.
    pub client_id: Option<String>,
    /// Keep-alive interval, in whole seconds, at least 5 s.
    pub keep_alive: Duration,
    /// Largest packet, in bytes.
    pub max_packet: usize,
    /// A state is sent at least this often; greater than 0.
    pub heartbeat: Duration,
    /// TLS with verification of the broker's certificate.
    pub tls: bool,
    /// Certificates to trust, PEM; `None`: the system's.
    pub ca_file: Option<PathBuf>,
}

/// One camera.
#[derive(Clone, Debug, PartialEq)]
pub struct Camera {
    /// Its id; never `status` or `info`.
    pub id: Id,
    /// Where its frames come from, not yet checked. Relative paths in it start at
    /// [`Config::folder`].
    pub uri: String,
    /// Whether it is used at all.
    pub enabled: bool,
    /// Most frames a second that are evaluated; greater than 0.
    pub max_fps: f64,
    /// An older frame is dropped before it is evaluated; greater than 0.
    pub max_age: Duration,
    /// Without a frame for this long the camera is opened again; greater than 0.
    pub stall_after: Duration,
    /// What it may be said to show.
    pub labels: LabelSet,
    /// When it is said.
    pub decision: Decision,
}

/// Rules of the decision; the scores that are `None` the bundle recommends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Least score to be accepted.
    pub enter: Option<f64>,
    /// Least lead to be accepted.
    pub margin: Option<f64>,
    /// Score below which an accepted class is given up.
    pub exit: Option<f64>,
    /// Least deviations above its background for a label, in place of the calibrated bounds; given up
    /// below half of it. Greater than 0.
    pub sigmas: Option<f64>,
    /// Least share of labels in what the picture resembles; given up below half of it. Greater than 0, at
    /// most 1.
    pub familiarity: Option<f64>,
    /// Time constant of the mean over time.
    pub smoothing: Duration,
    /// How long a class must be held before it is announced.
    pub dwell: Duration,
    /// Least time between two events.
    pub cooldown: Duration,
    /// Without a frame for this long the state is `stale`.
    pub stale_after: Duration,
}

impl Config {
    /// Merges `path`, then the variables of `env` that start with `LOOKOUT__`, then `flags`
    /// (dotted key, value), and checks everything.
    ///
    /// A variable names its key in capitals with `__` between the levels:
    /// `LOOKOUT__MQTT__PASSWORD_FILE`. Texts from `env` and `flags` are read as the type that
    /// the key has, lists are separated by commas; values in the file must have that type.
    /// Relative paths, wherever they were given, start at the file's folder.
    pub fn load(
        path: &Path,
        env: impl IntoIterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        check::load(path, env, flags)
    }

    /// The folder of the file; relative paths start here.
    pub fn folder(&self) -> &Path {
        layers::folder(&self.file)
    }

    /// Whether `key`, such as `decision.exit`, was given a value anywhere.
    pub fn is_set(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// A fault that the caller found in the value of `key`, such as `cameras.front.uri`. `rule`
    /// completes a sentence that starts with the key: "must be ...".
    pub fn fault(&self, key: &str, rule: impl Into<String>, got: Option<String>) -> Fault {
        let mut place = key;
        let origin = loop {
            match (self.places.get(place), place.rfind(['.', '['])) {
                (Some(origin), _) => break origin.clone(),
                (None, Some(end)) => place = &place[..end],
                (None, None) => break Origin::File { path: self.file.clone(), line: None },
            }
        };
        Fault { key: key.to_owned(), origin, rule: rule.into(), got }
    }

    /// The broker's password, if a file for it is configured: UTF-8, 1 byte to 4 KiB, one line
    /// end at its end removed. A file that everyone may read is refused.
    pub fn read_password(&self) -> Result<Option<String>, Fault> {
        let Some(path) = &self.mqtt.password_file else { return Ok(None) };
        secret::read(path).map(Some).map_err(|rule| {
            self.fault("mqtt.password_file", rule, Some(path.display().to_string()))
        })
    }
}

impl Decision {
    /// The rules, with the bundle's recommendations where the configuration says nothing.
    /// [`lookout_core::Decider::new`] checks how the scores fit together.
    pub fn rules(&self, enter: f64, margin: f64, exit: f64) -> DecisionRules {
        DecisionRules {
            enter: self.enter.unwrap_or(enter),
            margin: self.margin.unwrap_or(margin),
            exit: self.exit.unwrap_or(exit),
            sigmas: self.sigmas.map(half_way),
            familiarity: self.familiarity.map(half_way),
            smoothing: self.smoothing,
            dwell: self.dwell,
            cooldown: self.cooldown,
            stale_after: self.stale_after,
        }
    }
}

/// Held until half of what it takes to be accepted.
fn half_way(enter: f64) -> Bound {
    Bound { enter, exit: enter / 2.0 }
}

#[cfg(test)]
mod tests;
