//! The capture stage: keeps one camera open and hands its newest frame on.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use lookout_core::{CameraStatus, Clock, Disposition, FrameSource, Id, PortError, Publish, Stop};

use crate::repeats::Repeats;
use crate::{Backoff, CameraCounters, FrameSender, Put, StageError};

/// Opens a camera; called again after each fault.
pub type OpenCamera = Box<dyn FnMut() -> Result<Box<dyn FrameSource>, PortError> + Send>;

/// A stream this long has proved itself: the next fault starts with the shortest wait.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// Keeps one camera open until a stop is requested or the camera comes to its end.
pub struct CameraStage {
    /// The camera.
    pub camera: Id,
    /// Opens it.
    pub open: OpenCamera,
    /// Least time between two frames.
    pub min_interval: Duration,
    /// Waiting times between attempts to open it.
    pub backoff: Backoff,
    /// Shared with the camera's track.
    pub counters: Arc<CameraCounters>,
    /// Where its status goes.
    pub publish: Arc<dyn Publish>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// What was said of the camera, so that it is not said again.
#[derive(Default)]
struct Said {
    status: Option<CameraStatus>,
    last_error: String,
    skips: Repeats,
}

enum Ended {
    Stopped,
    Finished,
    Fault(PortError),
}

impl CameraStage {
    /// Errs only when nothing later can succeed.
    pub fn run(mut self, stop: &Stop, frames: &FrameSender) -> Result<(), StageError> {
        let mut said = Said::default();
        loop {
            let ended = match (self.open)() {
                Ok(source) => self.stream(source, stop, frames, &mut said),
                Err(error) => Ended::Fault(error),
            };
            let error = match ended {
                Ended::Stopped => return Ok(()),
                Ended::Finished => {
                    self.report(&mut said, CameraStatus::Disconnected);
                    tracing::info!(camera = %self.camera, "Camera has come to its end.");
                    return Ok(());
                }
                Ended::Fault(error) => error,
            };
            self.counters.faults.fetch_add(1, Relaxed);
            let new_status = match error.disposition {
                Disposition::Fatal => return Err(Box::new(error)),
                Disposition::Stalled => CameraStatus::Stalled,
                Disposition::Reopen | Disposition::SkipFrame => CameraStatus::Disconnected,
            };
            self.report(&mut said, new_status);
            let wait = self.backoff.next_wait();
            let message = error.to_string();
            // A camera that stays away says so once, not at every attempt.
            if message == said.last_error {
                tracing::debug!(camera = %self.camera, %error, ?wait, "Camera is still away.");
            } else {
                tracing::warn!(camera = %self.camera, %error, ?wait, "Camera failed; will be opened again.");
                said.last_error = message;
            }
            if self.clock.wait(stop, wait) {
                return Ok(());
            }
        }
    }

    fn stream(
        &mut self,
        mut source: Box<dyn FrameSource>,
        stop: &Stop,
        frames: &FrameSender,
        said: &mut Said,
    ) -> Ended {
        let opened_at = self.clock.monotonic();
        let mut n_displaced = 0;
        loop {
            let next = source.next_frame(stop);
            let displaced = source.n_displaced();
            self.counters.displaced.fetch_add(displaced - n_displaced, Relaxed);
            n_displaced = displaced;
            let now = self.clock.monotonic();
            match next {
                Ok(Some(frame)) => {
                    if said.status.is_some_and(|it| it != CameraStatus::Streaming) {
                        tracing::info!(camera = %self.camera, "Camera is back.");
                    }
                    self.report(said, CameraStatus::Streaming);
                    if PROVEN_AFTER <= now.saturating_sub(opened_at) {
                        self.backoff.reset();
                        said.last_error.clear();
                    }
                    match frames.put(frame) {
                        Put::Stored => {}
                        Put::Displaced => _ = self.counters.displaced.fetch_add(1, Relaxed),
                        Put::Closed => return Ended::Stopped,
                    }
                }
                Ok(None) if stop.is_requested() => return Ended::Stopped,
                Ok(None) => return Ended::Finished,
                Err(error) if error.disposition == Disposition::SkipFrame => {
                    if said.skips.is_first(&error.to_string()) {
                        tracing::warn!(camera = %self.camera, %error, "Frame skipped; said once.");
                    }
                    self.counters.skipped.fetch_add(1, Relaxed);
                }
                Err(error) => return Ended::Fault(error),
            }
            if self.clock.wait(stop, self.min_interval) {
                return Ended::Stopped;
            }
        }
    }

    fn report(&self, said: &mut Said, new: CameraStatus) {
        if said.status != Some(new) {
            said.status = Some(new);
            self.publish.camera_status(&self.camera, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::{Taken, mailboxes};
    use crate::testing::{Recorder, SimulatedClock, frame, id};
    use lookout_core::{Frame, stop_pair};
    use std::collections::VecDeque;
    use std::sync::Mutex;

    type Step = Result<Option<Frame>, Disposition>;

    /// Plays a list of steps, then ends.
    struct Scripted(VecDeque<Step>);

    impl FrameSource for Scripted {
        fn next_frame(&mut self, _: &Stop) -> Result<Option<Frame>, PortError> {
            match self.0.pop_front() {
                Some(Ok(frame)) => Ok(frame),
                Some(Err(disposition)) => Err(PortError::new(disposition, "scripted")),
                None => Ok(None),
            }
        }

        fn n_displaced(&self) -> u64 {
            3
        }
    }

    fn run(
        script: Vec<Result<Vec<Step>, Disposition>>,
    ) -> (Result<(), String>, Vec<CameraStatus>, crate::Counts, Vec<Duration>) {
        let clock = Arc::new(SimulatedClock::default());
        let publish = Arc::new(Recorder::default());
        let counters = Arc::new(CameraCounters::default());
        let opened_at = Arc::new(Mutex::new(Vec::new()));
        let (senders, receiver) = mailboxes(1);
        let (_stopper, stop) = stop_pair();
        let mut script = VecDeque::from(script);
        let open = {
            let (opened_at, clock) = (Arc::clone(&opened_at), Arc::clone(&clock));
            Box::new(move || {
                opened_at.lock().unwrap().push(clock.monotonic());
                match script.pop_front() {
                    Some(Ok(steps)) => Ok(Box::new(Scripted(steps.into())) as Box<dyn FrameSource>),
                    Some(Err(disposition)) => Err(PortError::new(disposition, "cannot open")),
                    None => Err(PortError::new(Disposition::Fatal, "script is over")),
                }
            })
        };
        let stage = CameraStage {
            camera: id("yard"),
            open,
            min_interval: Duration::from_secs(1),
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
            counters: Arc::clone(&counters),
            publish: Arc::clone(&publish) as Arc<dyn Publish>,
            clock,
        };
        let result = stage.run(&stop, &senders[0]).map_err(|error| error.to_string());
        while let Taken::Frame(..) = receiver.take(Some(Duration::ZERO)) {}
        let statuses = publish.statuses.lock().unwrap().clone();
        let opened_at = opened_at.lock().unwrap().clone();
        (result, statuses, counters.counts(), opened_at)
    }

    fn good() -> Step {
        Ok(Some(frame(0, Duration::ZERO)))
    }

    #[test]
    fn a_camera_that_ends_is_no_failure() {
        let (result, statuses, counts, _) = run(vec![Ok(vec![good(), good(), Ok(None)])]);
        assert_eq!(result, Ok(()));
        assert_eq!(statuses, [CameraStatus::Streaming, CameraStatus::Disconnected]);
        assert_eq!(counts.displaced, 4, "three in the source, one in the mailbox");
    }

    #[test]
    fn faults_are_named_and_the_camera_is_opened_again() {
        let (_, statuses, counts, opened_at) = run(vec![
            Err(Disposition::Reopen),
            Ok(vec![good(), Err(Disposition::SkipFrame), good(), Err(Disposition::Stalled)]),
            Ok(vec![good(), Err(Disposition::Reopen)]),
            Ok(vec![Ok(None)]),
        ]);
        use CameraStatus::{Disconnected, Stalled, Streaming};
        assert_eq!(statuses, [Disconnected, Streaming, Stalled, Streaming, Disconnected]);
        assert_eq!((counts.faults, counts.skipped), (3, 1));
        assert_eq!(opened_at.len(), 4);
    }

    #[test]
    fn the_wait_grows_while_the_camera_stays_away() {
        let (result, _, _, opened_at) = run(vec![Err(Disposition::Reopen); 6]);
        assert_eq!(result, Err("script is over".to_owned()));
        let waits: Vec<Duration> = opened_at.windows(2).map(|it| it[1] - it[0]).collect();
        for (n, wait) in waits.iter().enumerate() {
            let full = Duration::from_secs(1 << n);
            assert!(full / 2 <= *wait && *wait <= full, "{waits:?}");
        }
    }

    #[test]
    fn a_stop_ends_the_wait_for_a_camera() {
        let (stopper, stop) = stop_pair();
        drop(stopper);
        let (senders, _receiver) = mailboxes(1);
        let stage = CameraStage {
            camera: id("yard"),
            open: Box::new(|| Err(PortError::new(Disposition::Reopen, "away"))),
            min_interval: Duration::ZERO,
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(1)),
            counters: Arc::default(),
            publish: Arc::new(Recorder::default()),
            clock: Arc::new(SimulatedClock::default()),
        };
        assert!(stage.run(&stop, &senders[0]).is_ok());
    }
}
