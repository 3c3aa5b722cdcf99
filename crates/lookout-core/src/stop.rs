//! The stop request: dropping one value ends every wait.

use std::convert::Infallible;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

/// Holds the work going. Dropping it is the stop request.
#[derive(Debug)]
pub struct Stopper(#[expect(dead_code, reason = "its drop is the signal")] Sender<Infallible>);

/// Tells whether a stop was requested; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop(Receiver<Infallible>);

/// A connected pair.
pub fn stop_pair() -> (Stopper, Stop) {
    let (sender, receiver) = crossbeam_channel::bounded(0);
    (Stopper(sender), Stop(receiver))
}

impl Stop {
    /// Whether the [`Stopper`] is gone.
    pub fn is_requested(&self) -> bool {
        matches!(self.0.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// Waits for the stop request for at most `timeout` of real time; true when it came.
    /// Code that holds a [`crate::Clock`] waits through that instead.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        matches!(self.0.recv_timeout(timeout), Err(RecvTimeoutError::Disconnected))
    }

    /// A channel that yields nothing and disconnects on the stop request, for `select!`.
    pub fn channel(&self) -> &Receiver<Infallible> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_the_stopper_ends_every_wait() {
        let (stopper, stop) = stop_pair();
        let clone = stop.clone();
        assert!(!stop.is_requested() && !stop.wait_timeout(Duration::ZERO));
        drop(stopper);
        assert!(stop.is_requested() && clone.wait_timeout(Duration::from_secs(3600)));
    }
}
