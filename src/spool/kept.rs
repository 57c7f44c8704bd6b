//! PURE. How long committed messages stay in the spool: the shared database may lose what it has committed, in a
//! restore or a failover, and then needs them again.

use std::{collections::VecDeque, time::Duration};

use crate::base::clock::BootTime;

/// How many points in time are remembered per [`KeptRows::keep`]: committed messages are deleted in as many portions,
/// and stay at most this fraction longer. So a tap does not delete an older one, which would write another page.
const PORTIONS: u32 = 60;

/// When messages were committed, as far as it matters for their deletion.
#[derive(Debug)]
pub(super) struct KeptRows {
    keep: Duration,
    /// Everything up to the place was committed by this time. Earliest first, at most [`PORTIONS`] and two more.
    committed: VecDeque<(BootTime, i64)>,
    /// Everything up to here may be deleted.
    expired: i64,
}

impl KeptRows {
    /// Nothing is known to be committed.
    pub(super) const fn new(keep: Duration) -> Self {
        Self { keep, committed: VecDeque::new(), expired: 0 }
    }

    /// Notes that everything up to `place` is committed. Returns the place up to which everything may be deleted,
    /// because it was committed long enough ago.
    pub(super) fn update(&mut self, place: i64, now: BootTime) -> i64 {
        while let Some((_, place)) = self.committed.front().copied().filter(|(at, _)| now.since(*at) >= self.keep) {
            self.expired = place;
            self.committed.pop_front();
        }
        let is_new = self.committed.back().map_or(self.expired, |(_, last)| *last) < place;
        let is_due = self.committed.back().is_none_or(|(at, _)| now.since(*at) >= self.keep / PORTIONS);
        if is_new && is_due {
            self.committed.push_back((now, place));
        }
        self.expired
    }

    /// Notes that nothing after `place` is committed any more.
    pub(super) fn went_back_to(&mut self, place: i64) {
        self.committed.clear();
        self.expired = self.expired.min(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_is_kept_for_its_time_and_little_longer() {
        let at = |seconds| BootTime::from_duration(Duration::from_secs(seconds));
        let mut kept = KeptRows::new(Duration::from_mins(60));
        let mut committed_at = Vec::new();
        // A message every ten seconds for three hours.
        for place in 1..=1080 {
            let now = u64::try_from(place).expect("small") * 10;
            committed_at.push(now);
            let expired = kept.update(place, at(now));
            assert!(kept.committed.len() <= 62, "{}", kept.committed.len());
            let age = |place: i64| now - committed_at[usize::try_from(place - 1).expect("small")];
            assert!(expired == 0 || age(expired) >= 3600, "{place}: {expired} is gone after {}", age(expired));
            assert!(age(expired + 1) <= 3730, "{place}: {} is still there after {}", expired + 1, age(expired + 1));
        }
        // An idle spool is not woken to delete: the next message deletes them all.
        kept.update(1080, at(10_900));
        assert_eq!(kept.update(1081, at(20_000)), 1080);
        kept.went_back_to(500);
        assert_eq!(kept.update(501, at(20_001)), 500);
    }
}
