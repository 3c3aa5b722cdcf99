//! Waiting times before a camera is opened again: doubling, capped, jittered.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The waiting times of one camera.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    n_failures: u32,
    seed: RandomState,
}

impl Backoff {
    /// From `min`, doubling up to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, n_failures: 0, seed: RandomState::new() }
    }

    /// The next waiting time: between half of the doubled value and all of it, so that cameras
    /// that failed together do not come back together.
    pub fn next_wait(&mut self) -> Duration {
        let doubled =
            self.min.saturating_mul(1u32.checked_shl(self.n_failures).unwrap_or(u32::MAX));
        let capped = doubled.min(self.max);
        let mut hasher = self.seed.build_hasher();
        hasher.write_u32(self.n_failures);
        self.n_failures = self.n_failures.saturating_add(1);
        #[expect(clippy::cast_precision_loss, reason = "53 of 64 random bits are plenty")]
        let jitter = hasher.finish() as f64 / u64::MAX as f64;
        capped.mul_f64(0.5 + jitter / 2.0)
    }

    /// It works again: the next failure waits `min`.
    pub fn reset(&mut self) {
        self.n_failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap_within_the_jitter() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(min, max);
        for n in 0..100u32 {
            let full = min.saturating_mul(2u32.saturating_pow(n)).min(max);
            let wait = backoff.next_wait();
            assert!(full / 2 <= wait && wait <= full, "{n}: {wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= min);
    }
}
