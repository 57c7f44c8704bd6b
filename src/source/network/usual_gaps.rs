//! PURE. How long a mirror usually goes without any frame, by hour of the week.
//!
//! The gaps are learnt. An hour of the week is compared with the same hour of earlier weeks, with the adjacent hours,
//! and with the last two hours, so a building that empties on a holiday is not reported as a failure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::{EARLIEST, WallTime};

/// A mirror is not reported as silent sooner than this: the quietest live network has a frame a minute, if only from
/// its spanning tree.
pub const SOONEST: Duration = Duration::from_mins(1);

/// A mirror is reported as silent after this time at the latest, whatever is usual, and in an hour without known gaps.
pub const LATEST: Duration = Duration::from_mins(10);

/// A busy machine may pause for this long. It matters if our clock runs faster than the machine's, as in the demo.
pub const MACHINE_PAUSE: Duration = Duration::from_secs(3);

/// Hours of a week, counted from Thursday 00:00 UTC because 1970 began on one. Daylight saving time moves a site by one
/// hour; comparing with the adjacent hours absorbs that.
const HOURS: usize = 168;

const HOUR: i64 = 3_600_000;

/// We learn from an hour only if at least this much of it was covered.
const ENOUGH: Duration = Duration::from_mins(30);

/// The longest usual gaps between two frames. A few hundred octets in size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsualGaps {
    /// In seconds, by hour of the week; `None` for an hour that was never covered.
    hours: Vec<Option<u16>>,
    #[serde(skip)]
    current: Option<Hour>,
    /// The longest gap of the previous hour.
    #[serde(skip)]
    previous: Duration,
    #[serde(skip)]
    /// Whether anything has been learnt since the last [`UsualGaps::take_changed`].
    changed: bool,
}

/// The current hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hour {
    /// Counted from 1970.
    number: i64,
    longest: Duration,
    /// How much of it was covered.
    covered: Duration,
}

impl Default for UsualGaps {
    fn default() -> Self {
        Self { hours: vec![None; HOURS], current: None, previous: Duration::ZERO, changed: false }
    }
}

impl UsualGaps {
    /// Checks gaps that were read from a file; `None` if the file contains something else.
    pub fn validated(self) -> Option<Self> {
        (self.hours.len() == HOURS).then_some(self)
    }

    /// The longest time without a frame that is acceptable now: twice the longest usual gap, because a gap that is
    /// slightly longer than ever before is not a failure.
    pub fn longest(&self, now: WallTime) -> Duration {
        let number = now.millis() / HOUR;
        if self.at_hour(number).is_none() {
            return LATEST;
        }
        let usual = [number - 1, number, number + 1].into_iter().filter_map(|hour| self.at_hour(hour));
        let lately = match self.current {
            Some(hour) if hour.number == number => hour.longest.max(self.previous),
            Some(hour) if hour.number + 1 == number => hour.longest,
            Some(_) | None => Duration::ZERO,
        };
        let longest = usual.max().unwrap_or_default().max(lately);
        longest.saturating_mul(2).clamp(SOONEST, LATEST)
    }

    /// Records a gap that a frame has ended. A gap longer than [`LATEST`] is a failure, and nothing is learnt from it.
    pub fn record(&mut self, gap: Duration, now: WallTime) {
        if gap > LATEST || now < EARLIEST {
            return;
        }
        self.start_hour(now);
        if let Some(hour) = &mut self.current {
            hour.longest = hour.longest.max(gap);
            hour.covered += gap;
        }
    }

    /// Called when the capture ends: learns from the current hour.
    pub fn finish(&mut self) {
        if let Some(hour) = self.current.take() {
            self.learn(hour);
        }
    }

    /// Whether anything has been learnt since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Starts the hour of `now`, unless it has started, and learns from the one before.
    fn start_hour(&mut self, now: WallTime) {
        let number = now.millis() / HOUR;
        let over = self.current.filter(|hour| hour.number != number);
        if let Some(hour) = over {
            self.learn(hour);
            self.previous = if hour.number + 1 == number { hour.longest } else { Duration::ZERO };
        }
        if over.is_some() || self.current.is_none() {
            self.current = Some(Hour { number, longest: Duration::ZERO, covered: Duration::ZERO });
        }
    }

    /// Learns from an hour. A longer gap becomes usual at once, a shorter one gradually: each week halves the
    /// difference.
    fn learn(&mut self, hour: Hour) {
        let seconds = u16::try_from(hour.longest.as_millis().div_ceil(1000)).unwrap_or(u16::MAX);
        let covered_enough = hour.covered >= ENOUGH;
        let Some(known) = self.hours.get_mut(slot(hour.number)) else { return };
        let learnt = match *known {
            Some(usual) if seconds < usual && covered_enough => seconds.midpoint(usual),
            Some(usual) => usual.max(seconds),
            None if covered_enough => seconds,
            None => return,
        };
        self.changed |= *known != Some(learnt);
        *known = Some(learnt);
    }

    fn at_hour(&self, hour: i64) -> Option<Duration> {
        self.hours.get(slot(hour)).copied().flatten().map(|seconds| Duration::from_secs(seconds.into()))
    }
}

fn slot(hour: i64) -> usize {
    usize::try_from(hour.rem_euclid(168)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{BootTime, Now};
    use proptest::prelude::*;

    /// Monday 2026-03-02T00:00:00Z.
    const MONDAY: i64 = 1_772_409_600_000;

    fn at(seconds: u64) -> Now {
        Now {
            wall: WallTime::from_millis(MONDAY).plus(Duration::from_secs(seconds)),
            boot: BootTime::from_duration(Duration::from_secs(seconds)),
        }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Records frames with this gap for `count` hours, starting at hour `from`.
    fn hours(usual: &mut UsualGaps, from: u64, count: u64, gap: u64) {
        for second in (from * 3600..(from + count) * 3600).step_by(usize::try_from(gap).expect("small")).skip(1) {
            usual.record(secs(gap), at(second).wall);
        }
    }

    #[test]
    fn an_hour_without_known_gaps_may_be_silent_for_the_longest_time() {
        let mut usual = UsualGaps::default();
        assert_eq!(usual.longest(at(0).wall), LATEST);
        hours(&mut usual, 9, 2, 1);
        assert_eq!(usual.longest(at(9 * 3600 + 168 * 3600).wall), SOONEST, "an hour that was covered");
        assert_eq!(usual.longest(at(12 * 3600).wall), LATEST, "an hour that was not covered");
    }

    #[test]
    fn a_quiet_night_is_usual_at_night_and_no_earlier() {
        let mut usual = UsualGaps::default();
        hours(&mut usual, 8, 10, 1);
        hours(&mut usual, 18, 14, 200);
        hours(&mut usual, 32, 1, 1);
        let of = |hour: u64| usual.longest(at((168 + hour) * 3600).wall);
        assert_eq!([of(12), of(17), of(18), of(24)], [secs(60), secs(400), secs(400), secs(400)]);
    }

    #[test]
    fn longer_gaps_are_usual_at_once_and_shorter_ones_gradually() {
        let mut usual = UsualGaps::default();
        let mut seen = Vec::new();
        for (week, gap) in [(0, 10), (1, 250), (2, 10), (3, 10), (4, 10)] {
            hours(&mut usual, week * 168 + 12, 1, gap);
            usual.finish();
            assert!(usual.take_changed());
            seen.push(usual.hours[slot(at(12 * 3600).wall.millis() / HOUR)].expect("known"));
        }
        assert_eq!(seen, [10, 250, 130, 70, 40]);
        // One minute of an hour does not represent the rest.
        usual.record(secs(1), at(5 * 168 * 3600 + 12 * 3600 + 60).wall);
        usual.finish();
        assert!(!usual.take_changed());
    }

    #[test]
    fn a_failure_is_not_learnt() {
        let mut usual = UsualGaps::default();
        hours(&mut usual, 12, 1, 1);
        usual.record(LATEST + secs(1), at(12 * 3600 + 3599).wall);
        usual.finish();
        assert_eq!(usual.longest(at((168 + 12) * 3600).wall), SOONEST);
    }

    #[test]
    fn usual_gaps_survive_as_json() {
        let mut usual = UsualGaps::default();
        hours(&mut usual, 12, 2, 20);
        usual.finish();
        let text = serde_json::to_string(&usual).expect("plain data");
        let kept: UsualGaps = serde_json::from_str(&text).expect("plain data");
        assert_eq!(kept.validated().map(|kept| kept.hours), Some(usual.hours));
        let other: UsualGaps = serde_json::from_str("{\"hours\":[1]}").expect("plain data");
        assert_eq!(other.validated(), None);
    }

    proptest! {
        #[test]
        fn usual_gaps_stay_within_their_bounds(
            gaps in proptest::collection::vec((0u64..2000, 0u64..700_000), 0..200),
        ) {
            let mut usual = UsualGaps::default();
            let mut second = 0;
            for (gap, pause) in gaps {
                second += gap + pause;
                usual.record(secs(gap), at(second).wall);
                let longest = usual.longest(at(second).wall);
                prop_assert!((SOONEST..=LATEST).contains(&longest));
                prop_assert_eq!(usual.hours.len(), HOURS);
            }
        }
    }
}
