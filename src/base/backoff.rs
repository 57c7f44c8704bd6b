//! How long to wait before the next attempt: twice as long each time, up to a limit, with jitter, which keeps many
//! gateways from retrying in step after an outage.

use std::time::Duration;

use super::random;

/// The pauses between attempts.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The pause after the first failure.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Backoff {
    /// The pause after this many failures (0: before the first retry), between half of [`Self::nominal`] and all of it.
    pub fn pause(self, failures: u32) -> Duration {
        random::jittered(self.nominal(failures))
    }

    /// The pause before jitter.
    pub fn nominal(self, failures: u32) -> Duration {
        // 2^16 times the shortest pause in use (50 ms) is longer than every limit.
        self.first.saturating_mul(1 << failures.min(16)).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_limit() {
        let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
        let seconds = |failures| backoff.nominal(failures).as_secs();
        assert_eq!([0, 1, 2, 5, 6, 7, 99].map(seconds), [1, 2, 4, 32, 60, 60, 60]);
    }
}
