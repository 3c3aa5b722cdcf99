//! How far a long piece of work is: a bar on a terminal, elsewhere a line now and then.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar};
use lookout_core::Clock;

use crate::clock::SystemClock;
use crate::output;

/// From one line to the next.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Work of a known size, with its rate and the time that is left.
pub(crate) struct Meter {
    what: &'static str,
    clock: SystemClock,
    bar: ProgressBar,
    /// Where no bar is shown: when the next line is due.
    next_line: Option<Duration>,
    /// When it was told of the first time, and what was done and counted then.
    begin: Option<(Duration, u64, u64)>,
}

impl Meter {
    pub(crate) fn start(what: &'static str) -> Self {
        let next_line = (!std::io::stderr().is_terminal()).then_some(LINE_EVERY);
        let bar = super::bar("", 0);
        Self { what, clock: SystemClock::start(), bar, next_line, begin: None }
    }

    /// Time since it began.
    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// `done` of `total` is behind; `counted` is what people count, such as captions.
    pub(crate) fn tick(&mut self, done: u64, total: u64, counted: u64) {
        let now = self.now();
        let (begin, first_done, first_counted) = match self.begin {
            Some(begin) => begin,
            None => {
                self.bar.set_length(total);
                self.bar.set_position(done);
                self.bar.reset_eta();
                *self.begin.insert((now, done, counted))
            }
        };
        self.bar.set_length(total);
        self.bar.set_position(done);
        let seconds = now.saturating_sub(begin).as_secs_f64().max(1e-3);
        #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let rate = counted.saturating_sub(first_counted) as f64 / seconds;
        let so_far = format!("{}: {counted} ({rate:.1} per s)", self.what);
        if self.next_line.is_some_and(|it| it <= now) {
            self.next_line = Some(now + LINE_EVERY);
            let behind = done.saturating_sub(first_done).max(1);
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let left = seconds * total.saturating_sub(done) as f64 / behind as f64;
            let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
            let percent = u128::from(done) * 100 / u128::from(total.max(1));
            output::complain(&format!("{so_far}, {percent} % done, {} left", HumanDuration(left)));
        }
        self.bar.set_message(so_far);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish();
    }
}
