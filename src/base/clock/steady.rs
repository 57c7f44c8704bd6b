//! PURE. Which wall time is in force: a step of the machine's clock is not believed until it has lasted.
//!
//! Between two readings the wall clock must advance as far as the boot-time clock. If it does not, it was stepped, and
//! which of the two times is right is unknown. So the old time continues, advanced by the boot-time clock, and a step
//! undone within [`CONFIRMED_AFTER`] leaves no trace in any record.

use std::time::Duration;

use super::time::{BootTime, Now, WallTime};

/// The largest difference between the progress of the two clocks that still counts as a slew. More is a step.
pub const STEP: Duration = Duration::from_secs(2);

/// No site ran this program before 2026-01-01T00:00:00Z: an earlier time means a machine without a battery whose clock
/// has not been set. Such a time is never believed, and any later time replaces it at once.
pub const EARLIEST: WallTime = WallTime::from_millis(1_767_225_600_000);

/// How long a step must last before it is believed. An hour, because time services correct their mistakes within
/// minutes, an operator who set the wrong date sees the condition, and an hour of records with the old time is still
/// usable.
pub const CONFIRMED_AFTER: Duration = Duration::from_hours(1);

/// A step forward this soon after the machine's start is its first synchronisation, and is believed at once: a machine
/// without a battery starts with the time at which it was switched off.
pub const FIRST_SYNC: Duration = Duration::from_mins(10);

/// The time in force.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Steady {
    in_force: Option<Now>,
    doubt: Option<UnconfirmedStep>,
}

/// A step that is not believed yet.
#[derive(Clone, Copy, Debug)]
struct UnconfirmedStep {
    /// When it was first seen, by both of the machine's clocks.
    seen: Now,
    /// Its size in milliseconds.
    by: i64,
}

impl Steady {
    /// Starts with the machine's time in force.
    pub(super) fn new(now: Now) -> Self {
        Self { in_force: Some(now), doubt: None }
    }

    /// The time in force when the machine's clocks read `now`.
    pub(super) fn observe(&mut self, now: Now) -> WallTime {
        let Some(was) = self.in_force else {
            return self.believe(now);
        };
        let expected = was.wall.plus(now.boot.since(was.boot));
        // A forward step soon after boot is the first synchronisation.
        let first_sync = now.boot < BootTime::from_duration(FIRST_SYNC) && now.wall > expected;
        if now.wall.distance(expected) <= STEP || was.wall < EARLIEST || first_sync {
            return self.believe(now);
        }
        // The same step as before keeps counting; another step, or a return to 1970, restarts the hour.
        let same = self.doubt.filter(|doubt| {
            now.wall.distance(doubt.seen.wall.plus(now.boot.since(doubt.seen.boot))) <= STEP && now.wall >= EARLIEST
        });
        let by = now.wall.millis().saturating_sub(expected.millis());
        let doubt = UnconfirmedStep { by, ..same.unwrap_or(UnconfirmedStep { seen: now, by }) };
        if now.boot.since(doubt.seen.boot) >= CONFIRMED_AFTER {
            return self.believe(now);
        }
        self.doubt = Some(doubt);
        self.in_force = Some(Now { wall: expected, boot: now.boot.max(was.boot) });
        expected
    }

    /// By how many milliseconds the machine's time differs from the one in force.
    pub(super) fn doubt(&self) -> Option<i64> {
        self.doubt.map(|doubt| doubt.by)
    }

    /// Puts the machine's time in force.
    fn believe(&mut self, now: Now) -> WallTime {
        *self = Self::new(now);
        now.wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;
    const NOON: i64 = 1_772_452_800;

    /// Reads the time once a second for `seconds`, with the machine's wall clock `off` seconds from the true time.
    /// Returns the last result as a difference from the true time.
    fn run(steady: &mut Steady, from: u64, seconds: u64, off: i64) -> i64 {
        (from..from + seconds).map(|boot| off_by(steady, boot, off)).last().expect("at least one reading")
    }

    fn off_by(steady: &mut Steady, boot: u64, off: i64) -> i64 {
        let truth = NOON + i64::try_from(boot).expect("small");
        let now = Now {
            wall: WallTime::from_millis((truth + off) * 1000),
            boot: BootTime::from_duration(Duration::from_secs(boot)),
        };
        steady.observe(now).millis() / 1000 - truth
    }

    #[test]
    fn a_step_that_is_undone_leaves_no_trace() {
        for off in [10 * DAY, -10 * DAY, 3600, -3600, 3, -3, -30_000 * DAY] {
            let mut steady = Steady::default();
            assert_eq!(run(&mut steady, 5000, 10, 0), 0);
            assert_eq!(run(&mut steady, 5010, 3599, off), 0, "{off}");
            assert!(steady.doubt().is_some(), "{off}");
            assert_eq!(run(&mut steady, 9000, 10, 0), 0, "{off}");
            assert_eq!(steady.doubt(), None, "{off}");
        }
    }

    #[test]
    fn a_step_that_lasts_is_believed_after_an_hour() {
        for off in [10 * DAY, -10 * DAY, 3600, -3600] {
            let mut steady = Steady::default();
            run(&mut steady, 5000, 10, 0);
            assert_eq!(run(&mut steady, 5010, 3601, off), off);
            assert_eq!(steady.doubt(), None, "{off}");
        }
    }

    #[test]
    fn a_clock_that_keeps_jumping_is_not_believed() {
        let mut steady = Steady::default();
        run(&mut steady, 5000, 10, 0);
        for (turn, from) in (6000..60_000).step_by(1800).enumerate() {
            let off = if turn % 2 == 0 { DAY } else { -DAY };
            assert_eq!(run(&mut steady, from, 1800, off), 0);
        }
    }

    #[test]
    fn an_unset_clock_is_replaced_at_once_and_never_believed() {
        let in_1970 = -NOON;
        let mut steady = Steady::default();
        assert_eq!(run(&mut steady, 5000, 10, in_1970), in_1970);
        assert_eq!(run(&mut steady, 5010, 1, 0), 0);
        assert_eq!(run(&mut steady, 5011, 9000, in_1970), 0);
    }

    #[test]
    fn the_first_synchronisation_after_the_start_is_believed_at_once() {
        let mut steady = Steady::default();
        run(&mut steady, 20, 10, -15 * 3600);
        assert_eq!(run(&mut steady, 30, 1, 0), 0);
        assert_eq!(run(&mut steady, 31, 60, -DAY), 0, "a step back is not a first synchronisation");
    }

    proptest! {
        #[test]
        fn slewing_is_followed(rates in prop::collection::vec(-1i64..=1, 1..200)) {
            let mut steady = Steady::default();
            let mut off = 0;
            for (boot, rate) in (5000u64..).zip(rates) {
                off += rate;
                prop_assert_eq!(off_by(&mut steady, boot, off), off);
            }
        }
    }
}
