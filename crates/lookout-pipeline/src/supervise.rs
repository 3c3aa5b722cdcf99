//! Starts the stages and ends them in order, within a deadline.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use lookout_core::Clock;

/// Why a stage ended.
pub type StageError = Box<dyn std::error::Error + Send + Sync>;

/// Everything that can happen to the daemon as a whole.
#[derive(Debug)]
pub enum Event {
    /// An operator or the service manager asked for the end.
    StopRequested,
    /// A stage has ended.
    StageExited {
        /// Its name.
        stage: String,
        /// How.
        result: Result<(), StageError>,
    },
}

/// How the daemon ended. Both lists empty means a clean stop.
#[derive(Debug, Default)]
pub struct Report {
    /// Stages that failed, with the reason.
    pub failed: Vec<(String, StageError)>,
    /// Stages still running when the grace period, or the operator's patience, ran out.
    pub stuck: Vec<String>,
}

/// Watches the stages.
pub struct Supervisor {
    clock: Arc<dyn Clock>,
    events_tx: Sender<Event>,
    events: Receiver<Event>,
    running: BTreeSet<String>,
}

impl Supervisor {
    /// No stage runs yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        // Unbounded, but each stage sends once and signals are few.
        let (events_tx, events) = unbounded();
        Self { clock, events_tx, events, running: BTreeSet::new() }
    }

    /// For the signal handler.
    pub fn events(&self) -> Sender<Event> {
        self.events_tx.clone()
    }

    /// Starts a stage on a thread of its own. A panic in it ends the daemon as a failure.
    pub fn spawn(
        &mut self,
        stage: String,
        body: impl FnOnce() -> Result<(), StageError> + Send + 'static,
    ) -> io::Result<()> {
        let events_tx = self.events_tx.clone();
        let name = stage.clone();
        thread::Builder::new().name(name.clone()).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(body))
                .unwrap_or_else(|panic| Err(describe(&*panic).into()));
            if events_tx.send(Event::StageExited { stage: name, result }).is_err() {
                tracing::debug!("Stage ended after the supervisor.");
            }
        })?;
        self.running.insert(stage);
        Ok(())
    }

    /// Blocks until every stage has ended or the end has to be forced.
    ///
    /// The first stop request or failure calls `stop_sources`, which ends the cameras; the infer
    /// stage ends because its input closes. A second request, or `grace` running out, forces the
    /// end. A camera that has come to its end by itself stops nothing else. `on_tick` is called
    /// at least every `tick`, with no promise of regularity; it feeds the watchdog.
    pub fn run(
        mut self,
        stop_sources: impl FnOnce(),
        grace: Duration,
        tick: Duration,
        mut on_tick: impl FnMut(),
    ) -> Report {
        let mut stop_sources = Some(stop_sources);
        let mut deadline: Option<Duration> = None;
        let mut report = Report::default();
        while !self.running.is_empty() {
            on_tick();
            let left = deadline.map(|it| it.saturating_sub(self.clock.monotonic()));
            let must_stop = match self.events.recv_timeout(left.map_or(tick, |it| it.min(tick))) {
                Ok(Event::StageExited { stage, result }) => {
                    self.running.remove(&stage);
                    let failed = result.is_err();
                    if let Err(error) = result {
                        report.failed.push((stage, error));
                    }
                    failed
                }
                Ok(Event::StopRequested) if deadline.is_none() => true,
                Ok(Event::StopRequested) => {
                    report.stuck = self.running.into_iter().collect();
                    break;
                }
                Err(RecvTimeoutError::Timeout) if left.is_some_and(|it| it.is_zero()) => {
                    report.stuck = self.running.into_iter().collect();
                    break;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
            };
            if must_stop && let Some(stop_sources) = stop_sources.take() {
                stop_sources();
                deadline = Some(self.clock.monotonic() + grace);
            }
        }
        report
    }
}

fn describe(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    format!("panicked: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookout_core::{Stop, Stopper, stop_pair};
    use std::sync::Mutex;

    const SOON: Duration = Duration::from_millis(1);

    /// A clock that jumps a minute each time it is asked, so that no test waits for a grace
    /// period.
    #[derive(Default)]
    struct Leaping(Mutex<Duration>);

    impl Clock for Leaping {
        fn monotonic(&self) -> Duration {
            let mut now = self.0.lock().unwrap();
            *now += Duration::from_secs(60);
            *now
        }

        fn wall(&self) -> Option<Duration> {
            None
        }

        fn wait(&self, stop: &Stop, _: Duration) -> bool {
            stop.is_requested()
        }
    }

    fn supervisor() -> Supervisor {
        Supervisor::new(Arc::new(Leaping::default()))
    }

    /// A stage that runs until what is returned is dropped.
    fn spawn_waiting(supervisor: &mut Supervisor, stage: &str) -> Stopper {
        let (stopper, stop) = stop_pair();
        let body = move || {
            while !stop.wait_timeout(Duration::from_secs(3600)) {}
            Ok(())
        };
        supervisor.spawn(stage.to_owned(), body).unwrap();
        stopper
    }

    /// A grace period that the leaping clock never exceeds, and one that it always does.
    const PATIENT: Duration = Duration::from_secs(u32::MAX as u64);
    const IMPATIENT: Duration = Duration::from_secs(1);

    #[test]
    fn a_stop_drains_the_chain() {
        let mut supervisor = supervisor();
        let (stopper, stop) = stop_pair();
        let (sender, receiver) = crossbeam_channel::bounded::<u32>(1);
        supervisor
            .spawn("source".to_owned(), move || {
                let _keeps_the_sink_alive = sender;
                while !stop.wait_timeout(Duration::from_secs(3600)) {}
                Ok(())
            })
            .unwrap();
        supervisor
            .spawn("sink".to_owned(), move || {
                receiver.iter().for_each(drop);
                Ok(())
            })
            .unwrap();
        supervisor.events().send(Event::StopRequested).unwrap();
        let report = supervisor.run(move || drop(stopper), PATIENT, SOON, || ());
        assert!(report.failed.is_empty() && report.stuck.is_empty());
    }

    #[test]
    fn failures_and_panics_are_named_and_stop_the_rest() {
        for (body, message) in [
            (Box::new(|| Err("no disk".into())) as Box<dyn FnOnce() -> _ + Send>, "no disk"),
            (Box::new(|| panic!("scripted panic")), "panicked: scripted panic"),
        ] {
            let mut supervisor = supervisor();
            supervisor.spawn("bad".to_owned(), body).unwrap();
            let stopper = spawn_waiting(&mut supervisor, "good");
            let report = supervisor.run(move || drop(stopper), PATIENT, SOON, || ());
            let failed: Vec<(String, String)> =
                report.failed.iter().map(|(s, e)| (s.clone(), e.to_string())).collect();
            assert_eq!(failed, [("bad".to_owned(), message.to_owned())]);
            assert!(report.stuck.is_empty());
        }
    }

    #[test]
    fn a_stage_that_ends_by_itself_stops_nothing() {
        let mut supervisor = supervisor();
        supervisor.spawn("short".to_owned(), || Ok(())).unwrap();
        let report = supervisor.run(|| panic!("nothing asked for a stop"), PATIENT, SOON, || ());
        assert!(report.failed.is_empty() && report.stuck.is_empty());
    }

    #[test]
    fn who_outlives_the_grace_period_is_named() {
        let mut supervisor = supervisor();
        let _keep = spawn_waiting(&mut supervisor, "stuck");
        supervisor.events().send(Event::StopRequested).unwrap();
        let report = supervisor.run(|| (), IMPATIENT, SOON, || ());
        assert_eq!(report.stuck, ["stuck"]);
    }

    #[test]
    fn a_second_request_ends_at_once() {
        let mut supervisor = supervisor();
        let _keep = spawn_waiting(&mut supervisor, "stuck");
        supervisor.events().send(Event::StopRequested).unwrap();
        supervisor.events().send(Event::StopRequested).unwrap();
        let report = supervisor.run(|| (), PATIENT, SOON, || ());
        assert_eq!(report.stuck, ["stuck"]);
    }
}
