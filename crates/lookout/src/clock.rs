//! The system's clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lookout_core::{Clock, Stop};

/// Monotonic time since the program started, and wall time while the kernel says that it is
/// synchronized.
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn wall(&self) -> Option<Duration> {
        if !is_synchronized() {
            return None;
        }
        SystemTime::now().duration_since(UNIX_EPOCH).ok()
    }

    fn wait(&self, stop: &Stop, timeout: Duration) -> bool {
        stop.wait_timeout(timeout)
    }
}

/// Whether the kernel's clock is disciplined by a time source: `adjtimex(2)`, `STA_UNSYNC`.
/// Where the call is not allowed, the answer is no.
#[expect(unsafe_code, reason = "no safe crate offers adjtimex")]
fn is_synchronized() -> bool {
    // SAFETY: `timex` is a plain C struct for which all zeros is a valid value, and with `modes`
    // zero the call only writes into it.
    unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        let state = libc::adjtimex(&raw mut timex);
        0 <= state && state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0
    }
}
