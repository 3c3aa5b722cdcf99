//! What the pipeline needs from the outside world, as traits; adapters implement them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Candidate, Change, ClassSet, Embedding, Evidence, Frame, Id, Means, Memory, Picture, Recalled,
    Snapshot, State, Stop,
};

/// Time, injected so that tests own it.
pub trait Clock: Send + Sync {
    /// Time since an arbitrary origin; never goes back and is not moved by clock changes.
    fn monotonic(&self) -> Duration;

    /// Time since the Unix epoch, or `None` while the system says that its clock is not
    /// synchronized.
    fn wall(&self) -> Option<Duration>;

    /// Waits until `timeout` has passed or a stop is requested; true when it was.
    fn wait(&self, stop: &Stop, timeout: Duration) -> bool;
}

/// What is done about an error. Decided by the error, never by its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// This frame is lost; the next one may be fine.
    SkipFrame,
    /// The resource is away; open it again after a backoff.
    Reopen,
    /// The resource is there and silent; open it again after a backoff.
    Stalled,
    /// Nothing later can succeed; end, and let the service manager decide.
    Fatal,
}

/// An adapter's error, with what to do about it. Displays its cause and that one's causes.
#[derive(Debug)]
pub struct PortError {
    /// What to do.
    pub disposition: Disposition,
    /// What happened.
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}

impl PortError {
    /// Wraps an adapter's own error.
    pub fn new(
        disposition: Disposition,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { disposition, cause: cause.into() }
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        let mut cause = self.cause.source();
        while let Some(it) = cause {
            write!(f, ": {it}")?;
            cause = it.source();
        }
        Ok(())
    }
}

impl std::error::Error for PortError {}

/// Turns pictures into embeddings of one space.
pub trait ImageEncoder: Send {
    /// The embedding of `picture`. An error concerns this picture alone unless it is
    /// [`Disposition::Fatal`].
    fn encode_image(&mut self, picture: &Picture) -> Result<Embedding, PortError>;
}

/// Finds captions near an image embedding.
pub trait CaptionSearch: Send {
    /// The `n_candidates` entries whose *keys* are nearest to `image`, nearest first; fewer when
    /// the index holds fewer.
    fn search(
        &mut self,
        image: &Embedding,
        n_candidates: usize,
    ) -> Result<Vec<Candidate>, PortError>;
}

/// Recalls what was taught.
pub trait LessonRecall: Send {
    /// Takes up what has been taught or undone since the last call; true when there was something.
    /// Called for every frame. An error leaves the lessons as they were; it is given once for each
    /// state of the store that cannot be used, and `Ok(false)` then.
    fn refresh(&mut self) -> Result<bool, PortError>;

    /// The lessons in reach of `image`, in any order.
    fn recall(&self, image: &Embedding) -> Vec<Recalled>;
}

/// What the next run of the program is to know of a camera.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraMemory {
    /// What was said.
    pub said: Memory,
    /// The history of its fusion, over these classes.
    pub means: Means,
    /// The classes that it decides between.
    pub classes: Arc<ClassSet>,
    /// [`Decision::event`] of the last event; 0: there was none.
    pub last_event: u64,
}

/// Keeps over a restart what each camera has said.
pub trait Remember: Send {
    /// What is to be known from now on. It is kept when this returns; called at each event and at the
    /// end. An error leaves what was kept before.
    fn remember(&mut self, cameras: &BTreeMap<Id, CameraMemory>) -> Result<(), PortError>;
}

/// An event that waits for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingEvent {
    /// [`Decision::event`].
    pub number: u64,
    /// The camera.
    pub camera: Id,
    /// As it is sent after a restart.
    pub payload: String,
}

/// Keeps over a restart the events that the broker has not acknowledged.
pub trait Spool: Send {
    /// What is kept, oldest first.
    fn waiting(&self) -> Vec<WaitingEvent>;

    /// Adds the newest event. It is kept when this returns. After an error it is kept as soon as a later call
    /// succeeds.
    fn add(&mut self, event: WaitingEvent) -> Result<(), PortError>;

    /// The event is delivered, or given up; a loss of power may bring it back.
    fn remove(&mut self, number: u64) -> Result<(), PortError>;

    /// Tries again what failed. True when there was something, and all that waits is kept now.
    fn retry(&mut self) -> Result<bool, PortError>;
}

/// An open camera.
pub trait FrameSource: Send {
    /// Waits for the next frame. `Ok(None)` when a stop was requested or the camera has come to
    /// its end. [`Disposition::SkipFrame`]: the picture was bad, ask again.
    /// [`Disposition::Reopen`] and [`Disposition::Stalled`]: drop this source and open another
    /// after a backoff.
    fn next_frame(&mut self, stop: &Stop) -> Result<Option<Frame>, PortError>;

    /// Frames that the camera delivered and a newer one replaced before they were asked for,
    /// since this source was opened.
    fn n_displaced(&self) -> u64 {
        0
    }
}

/// Whether a camera delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CameraStatus {
    /// Frames arrive.
    Streaming,
    /// The camera is open and no frame came within its deadline.
    Stalled,
    /// The camera cannot be opened, or has gone.
    Disconnected,
    /// Switched off in the configuration.
    Disabled,
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// On the monotonic clock.
    pub mono: Duration,
    /// Since the Unix epoch; `None` while the clock is not synchronized.
    pub wall: Option<Duration>,
}

impl Stamp {
    /// Now, on both clocks.
    pub fn now(clock: &dyn Clock) -> Self {
        Self { mono: clock.monotonic(), wall: clock.wall() }
    }

    /// The stamp of another monotonic moment, at the same distance on both clocks.
    pub fn at(self, mono: Duration) -> Self {
        let wall = self.wall.and_then(|wall| (wall + mono).checked_sub(self.mono));
        Self { mono, wall }
    }
}

/// What was decided about a camera at one moment.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The camera.
    pub camera: Id,
    /// Counts the camera's decisions in this run, from 1. State, evidence and event of one
    /// decision share it.
    pub seq: u64,
    /// When it was made.
    pub at: Stamp,
    /// The classes that evidence, snapshot and change are over.
    pub classes: Arc<ClassSet>,
    /// The file of the frame, where the camera is a folder or a file.
    pub frame_name: Option<String>,
    /// What was seen; `None` when time alone decided (stale, heartbeat).
    pub evidence: Option<Evidence>,
    /// The camera's state after it.
    pub snapshot: Snapshot,
    /// Whether the state has to be sent: it changed, or its heartbeat is due.
    pub send_state: bool,
    /// The change to announce, if there is one.
    pub change: Option<Change>,
    /// The number of the event that announces it, 0 where there is none. It grows from event to event, over
    /// all cameras and restarts.
    pub event: u64,
    /// What the state would be in the other mode of adaptation; see [`Evidence::otherwise`]. `None`
    /// where nothing is adapted.
    pub otherwise: Option<State>,
}

/// Delivers decisions. Calls return at once and never wait for a network.
pub trait Publish: Send + Sync {
    /// A camera's status changed.
    fn camera_status(&self, camera: &Id, status: CameraStatus);

    /// Keeps the event of a decision over a restart, before anybody is told of it.
    fn keep(&self, decision: &Decision);

    /// A camera's decision, in order.
    fn decision(&self, decision: Decision);

    /// From now on these are the classes of all cameras, those that are switched off included.
    /// What a decision is over it says itself.
    fn classes(&self, cameras: &BTreeMap<Id, Arc<ClassSet>>);
}
