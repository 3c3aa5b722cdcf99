//! Scenes from the cameras themselves, opened as the daemon opens them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use crossbeam_channel::{Receiver, unbounded};
use lookout_config::Config;
use lookout_core::{CameraStatus, ClassSet, Clock, Decision, Id, Publish, Stop, stop_pair};
use lookout_pipeline::{Event, FrameReceiver, StageError, Taken, mailboxes};

use super::{Subject, is_full};
use crate::clock::SystemClock;
use crate::daemon::camera_stage;
use crate::engine::{self, Engine};
use crate::index::meter::Meter;
use crate::output;
use crate::plan::PlannedCamera;
use crate::service::watch_signals;

/// From one look at the clock and the signals to the next.
const LOOK: Duration = Duration::from_millis(500);

/// Nothing is published while calibrating; the stages log what happens to the cameras.
struct Nobody;

impl Publish for Nobody {
    fn camera_status(&self, _: &Id, _: CameraStatus) {}

    fn keep(&self, _: &Decision) {}

    fn decision(&self, _: Decision) {}

    fn classes(&self, _: &BTreeMap<Id, Arc<ClassSet>>) {}
}

/// Takes in what the cameras show for so long, or until a signal. `subjects` are those of `cameras`, in
/// their order.
pub(super) fn collect(
    config: &Config,
    cameras: Vec<PlannedCamera>,
    engine: &mut Engine,
    subjects: &mut [Subject],
    time: Duration,
) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let (events, signals) = unbounded();
    let is_ending = Arc::new(AtomicBool::new(false));
    watch_signals(events, Arc::clone(&is_ending))?;
    let (stopper, stop) = stop_pair();
    let (senders, receiver) = mailboxes(cameras.len());
    let limits = engine::limits(&engine.bundle);
    let mut threads: Vec<JoinHandle<Result<(), StageError>>> = Vec::new();
    for (camera, sender) in cameras.into_iter().zip(senders) {
        let publish: Arc<dyn Publish> = Arc::new(Nobody);
        let PlannedCamera { settings, uri, .. } = camera;
        let name = format!("camera {}", settings.id);
        let stage = camera_stage(config, settings, uri, limits, Arc::default(), publish, &clock)?;
        let stop: Stop = stop.clone();
        let body = move || stage.run(&stop, &sender);
        threads.push(std::thread::Builder::new().name(name).spawn(body)?);
    }
    let seen = watch(engine, subjects, &receiver, clock.as_ref(), &signals, time);
    is_ending.store(true, SeqCst);
    drop((stopper, receiver));
    for thread in threads {
        let name = thread.thread().name().unwrap_or_default().to_owned();
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => output::complain(&format!("{name}: {error}")),
            Err(_) => return Err(anyhow!("{name} has panicked")),
        }
    }
    seen
}

fn watch(
    engine: &mut Engine,
    subjects: &mut [Subject],
    frames: &FrameReceiver,
    clock: &dyn Clock,
    signals: &Receiver<Event>,
    time: Duration,
) -> anyhow::Result<()> {
    let mut meter = Meter::start("frames");
    let mut n_frames = 0;
    let mut n_skipped = 0u64;
    let begin = clock.monotonic();
    loop {
        let elapsed = clock.monotonic().saturating_sub(begin);
        let done = u64::try_from(elapsed.min(time).as_millis()).unwrap_or(u64::MAX);
        meter.tick(done, u64::try_from(time.as_millis()).unwrap_or(u64::MAX), n_frames);
        if time <= elapsed {
            break;
        }
        if let Ok(Event::StopRequested) = signals.try_recv() {
            output::complain("ended early; what there is counts");
            break;
        }
        match frames.take(Some(LOOK.min(time - elapsed))) {
            Taken::Frame(idx, frame) => {
                let subject = &mut subjects[idx];
                let at = clock.monotonic();
                match subject.see(engine, at, &frame.picture) {
                    Ok(()) => n_frames += 1,
                    Err(error) if n_skipped == 0 => {
                        n_skipped += 1;
                        let camera = &subject.camera;
                        output::complain(&format!("camera {camera}: a frame is left out: {error}"));
                    }
                    Err(_) => n_skipped += 1,
                }
                if is_full(subjects) {
                    output::complain("there is no memory for more frames; what there is counts");
                    break;
                }
            }
            Taken::Closed => {
                output::complain("the cameras have come to their end; what there is counts");
                break;
            }
            Taken::TimedOut | Taken::Labels(_) => {}
        }
    }
    meter.finish();
    if 0 < n_skipped {
        output::complain(&format!("left out: {}", output::count(n_skipped, "frame")));
    }
    if n_frames == 0 {
        return Err(anyhow!("no camera gave a frame")).context("nothing was calibrated");
    }
    Ok(())
}
