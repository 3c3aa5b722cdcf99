//! One way of deciding on a recording: the track of a camera, and what is to be shown of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use lookout_capture::{Truth as Told, thumbnail};
use lookout_config::Config;
use lookout_core::{Candidate, ClassSet, Decision, Embedding, Evidence, Picture, Recalled, Stamp};
use lookout_pipeline::{Earlier, Track};
use lookout_replay::{Counts, DecidedBy, Figures, Seen, Timeline};

use crate::engine::Recipe;
use crate::plan::PlannedCamera;
use crate::recorded::{Pace, Truths};

/// Changes whose frames are kept for the page.
const MAX_SHOWN: usize = 200;
/// The longer side of a kept frame.
const THUMBNAIL_PX: u32 = 160;
/// Nobody listens for a heartbeat.
const NEVER: Duration = Duration::from_secs(1 << 40);

/// A track and what it has said.
pub(super) struct Run {
    pub(super) name: String,
    pub(super) classes: Arc<ClassSet>,
    pub(super) timeline: Timeline,
    pub(super) counts: Counts,
    /// What the recording's truth means.
    pub(super) truths: Truths,
    /// The first [`MAX_SHOWN`] of the events.
    pub(super) decided_by: Vec<DecidedBy>,
    /// When truth changed, and a frame of it; the first [`MAX_SHOWN`].
    first_frames: VecDeque<(Duration, Seen)>,
    track: Track,
    pace: Pace,
    last: Option<(String, Evidence)>,
}

impl Run {
    pub(super) fn new(
        name: &str,
        config: &Config,
        recipe: &Recipe,
        camera: &PlannedCamera,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            classes: Arc::clone(&camera.classes),
            timeline: Timeline::default(),
            counts: Counts::default(),
            truths: Truths::default(),
            decided_by: Vec::new(),
            first_frames: VecDeque::new(),
            track: camera.track(
                config,
                recipe,
                NEVER,
                Duration::ZERO,
                &Arc::default(),
                Earlier::default(),
            )?,
            pace: Pace::new(camera.min_interval()),
            last: None,
        })
    }

    /// What is right from `at` on, as the frame `name` shows.
    pub(super) fn tell(&mut self, at: Duration, told: &Told, name: &str) {
        let before = self.timeline.truths().len();
        self.timeline.tell(at, self.truths.of(told));
        if before < self.timeline.truths().len() && self.first_frames.len() < MAX_SHOWN {
            self.first_frames.push_back((at, Seen { name: name.to_owned(), jpeg: None }));
        }
    }

    /// Keeps `picture` if what is right has just changed.
    pub(super) fn show_truth(&mut self, picture: Option<&Picture>) {
        let now = self.timeline.end();
        if let Some((at, seen)) = self.first_frames.back_mut()
            && *at == now
            && seen.jpeg.is_none()
        {
            seen.jpeg = picture.and_then(small);
        }
    }

    /// Time passes until a frame comes at `at`.
    pub(super) fn wait_until(&mut self, at: Duration) {
        let mut due = self.track.next_due();
        while due < at {
            if let Some(decision) = self.track.tick(Stamp { mono: due, wall: None }) {
                self.timeline.decide(due, &decision.snapshot, decision.change);
            }
            let next = self.track.next_due();
            if next <= due {
                break;
            }
            due = next;
        }
    }

    /// Whether the camera would have been asked for a frame that comes at `at`.
    pub(super) fn asks(&mut self, at: Duration) -> bool {
        let asks = self.pace.asks(at);
        if !asks {
            self.counts.dropped += 1;
        }
        asks
    }

    /// Whether the frame shows nothing new, and is decided by that.
    pub(super) fn gate(
        &mut self,
        at: Stamp,
        picture: &Picture,
        name: &str,
        kept: Option<&Picture>,
    ) -> bool {
        let Some(decision) = self.track.gate(at, picture) else { return false };
        self.counts.gated += 1;
        self.decided(decision, name, kept);
        true
    }

    /// Decides on a frame.
    pub(super) fn observe(
        &mut self,
        at: Stamp,
        name: &str,
        image: &Embedding,
        candidates: Vec<Candidate>,
        recalled: Vec<Recalled>,
        kept: Option<&Picture>,
    ) -> anyhow::Result<()> {
        let frame_name = Some(name.to_owned());
        let decision = self
            .track
            .observe(at, frame_name, image, candidates, recalled)
            .with_context(|| name.to_owned())?;
        self.counts.evaluated += 1;
        self.decided(decision, name, kept);
        Ok(())
    }

    fn decided(&mut self, decision: Decision, name: &str, kept: Option<&Picture>) {
        let Decision { at, evidence, snapshot, change, .. } = decision;
        if let Some(evidence) = evidence {
            self.last = Some((name.to_owned(), evidence));
        }
        self.timeline.decide(at.mono, &snapshot, change);
        if change.is_some()
            && self.decided_by.len() < MAX_SHOWN
            && let Some((evaluated, evidence)) = &self.last
        {
            let frame = Seen { name: name.to_owned(), jpeg: kept.and_then(small) };
            self.decided_by.push(DecidedBy::new(frame, evaluated, evidence));
        }
    }

    /// The frames that showed the true changes first; the first of them.
    pub(super) fn first_frames(&self, figures: &Figures) -> Vec<Option<Seen>> {
        let changes = figures.judged.iter().flat_map(|it| &it.true_changes).take(MAX_SHOWN);
        let frame = |at: Duration| self.first_frames.iter().find(|it| it.0 == at);
        changes.map(|it| frame(it.at).map(|it| it.1.clone())).collect()
    }
}

/// A frame as the page shows it; one that cannot be made small is left out and logged.
fn small(picture: &Picture) -> Option<Vec<u8>> {
    thumbnail(picture, THUMBNAIL_PX)
        .inspect_err(|error| tracing::warn!("A frame is not shown on the page: {error}"))
        .ok()
}
