//! The process among others: signals, the service manager, the capture worker.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::Sender;
use lookout_capture::WorkerArgs;
use lookout_pipeline::Event;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::CaptureWorkerArgs;
use crate::failure::Failure;
use crate::output;

/// Longest time between two looks at the watchdog and the link.
const TICK: Duration = Duration::from_secs(1);

/// Turns SIGTERM and SIGINT into stop requests. Once the supervisor has handed over to delivery,
/// which `is_draining` tells, a second signal ends the process itself.
pub(crate) fn watch_signals(
    events: Sender<Event>,
    is_draining: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot watch for signals")?;
    let body = move || {
        for (n, _) in signals.forever().enumerate() {
            if 0 < n && is_draining.load(SeqCst) {
                output::complain("second signal: ending at once, before all was delivered");
                #[expect(clippy::exit, reason = "the operator does not want to wait")]
                std::process::exit(1);
            }
            if events.send(Event::StopRequested).is_err() {
                tracing::debug!("Signal after the supervisor has ended.");
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(body)
        .context("cannot start the thread for signals")?;
    Ok(())
}

/// Watches for SIGHUP from its making on. Signals that come before the last one is looked at are
/// one.
pub(crate) struct Hangups {
    signals: Signals,
    had_terminal: bool,
}

/// What SIGHUP means.
pub(crate) enum Hangup {
    /// Read the configuration again.
    Reload,
    /// The terminal that the daemon was started in is closed.
    TerminalGone,
}

impl Hangups {
    pub(crate) fn watch() -> anyhow::Result<Self> {
        let signals = Signals::new([SIGHUP]).context("cannot watch for SIGHUP")?;
        Ok(Self { signals, had_terminal: std::io::stderr().is_terminal() })
    }

    pub(crate) fn forever(&mut self) -> impl Iterator<Item = Hangup> {
        let had_terminal = self.had_terminal;
        self.signals.forever().map(move |_| {
            // A terminal that has hung up is none any more when its signal arrives.
            match had_terminal && !std::io::stderr().is_terminal() {
                true => Hangup::TerminalGone,
                false => Hangup::Reload,
            }
        })
    }
}

/// What the service manager is told. Silent where there is none.
pub(crate) struct Manager {
    watchdog: Option<Duration>,
    status: String,
}

impl Manager {
    pub(crate) fn new() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), status: String::new() }
    }

    pub(crate) fn ready(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// [`Manager::ready`] follows, however it ends.
    pub(crate) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "The service manager is not told of the reload."),
        }
    }

    pub(crate) fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }

    /// Sent only when it differs from the last one.
    pub(crate) fn status(&mut self, status: String) {
        if self.status != status {
            notify(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// How often the watchdog wants to be fed, at most [`TICK`].
    pub(crate) fn tick(&self) -> Duration {
        self.watchdog.map_or(TICK, |it| (it / 3).min(TICK))
    }

    /// Tells the watchdog that work goes on, unless one frame has kept the infer stage busy for
    /// half of the watchdog's patience.
    pub(crate) fn feed(&self, busy_for: Option<Duration>) {
        let Some(watchdog) = self.watchdog else { return };
        if busy_for.is_none_or(|it| it < watchdog / 2) {
            notify(&[NotifyState::Watchdog]);
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "Cannot reach the service manager.");
    }
}

/// `lookout capture-worker`.
pub(crate) fn capture_worker(args: &CaptureWorkerArgs) -> Result<(), Failure> {
    let CaptureWorkerArgs { device, size, format, fps } = args;
    let args =
        WorkerArgs { size: *size, format: *format, fps: *fps, ..WorkerArgs::new(device.clone()) };
    lookout_capture::run_worker(&args).map_err(|error| Failure::Other(error.into()))
}
