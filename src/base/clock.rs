//! The only module that reads the time.
//!
//! There are two kinds of time, which never mix: [`WallTime`] is for records, [`BootTime`] for waiting. The wall clock
//! of a gateway without a battery jumps; the boot-time clock includes suspend and never jumps (`clock_gettime(2)`). So
//! a step of the wall clock is believed only after it has lasted, see [`CONFIRMED_AFTER`].

mod steady;
mod time;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::Utc;

use steady::Steady;
pub use steady::{CONFIRMED_AFTER, EARLIEST, FIRST_SYNC, STEP};
pub use time::{BootTime, Now, WallTime};

/// Reads the time; cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Arc<ClockKind>);

#[derive(Debug)]
enum ClockKind {
    System(Mutex<Steady>),
    /// From `from`, both clocks run `rate` times faster for `lead` of the machine's time, then at the machine's pace.
    /// The wall clock starts at `wall`.
    Accelerated {
        from: Duration,
        wall: WallTime,
        rate: u32,
        lead: Duration,
    },
    Manual(Mutex<(Now, Steady)>),
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self(Arc::new(ClockKind::System(Mutex::default())))
    }

    /// Clocks that start at `wall` and run `rate` times faster than the machine's until `span` of their own time has
    /// passed (the demo's day in a minute), then at the machine's pace.
    pub fn accelerated(wall: WallTime, rate: u32, span: Duration) -> Self {
        let rate = rate.max(1);
        Self(Arc::new(ClockKind::Accelerated { from: boot_clock(), wall, rate, lead: span / rate }))
    }

    /// Clocks that only move when they are set, for tests and for replays on virtual time.
    pub fn manual(start: Now) -> Self {
        Self(Arc::new(ClockKind::Manual(Mutex::new((start, Steady::new(start))))))
    }

    /// Reads both clocks. The wall time is the one in force.
    pub fn now(&self) -> Now {
        match &*self.0 {
            ClockKind::System(steady) => {
                let mut steady = steady.lock().unwrap_or_else(PoisonError::into_inner);
                let machine = Now { wall: wall_clock(), boot: BootTime::from_duration(boot_clock()) };
                Now { wall: steady.observe(machine), ..machine }
            }
            ClockKind::Accelerated { from, wall, rate, lead } => {
                let run = boot_clock().saturating_sub(*from);
                let fast = run.min(*lead);
                let run = fast.saturating_mul(*rate).saturating_add(run.saturating_sub(fast));
                Now { wall: wall.plus(run), boot: BootTime::from_duration(from.saturating_add(run)) }
            }
            ClockKind::Manual(hands) => {
                let (machine, steady) = &mut *hands.lock().unwrap_or_else(PoisonError::into_inner);
                Now { wall: steady.observe(*machine), ..*machine }
            }
        }
    }

    /// By how many milliseconds the machine's wall clock differs from the time in force, while a step is not believed
    /// yet.
    pub fn doubt(&self) -> Option<i64> {
        match &*self.0 {
            ClockKind::System(steady) => steady.lock().unwrap_or_else(PoisonError::into_inner).doubt(),
            ClockKind::Accelerated { .. } => None,
            ClockKind::Manual(hands) => hands.lock().unwrap_or_else(PoisonError::into_inner).1.doubt(),
        }
    }

    /// How long to sleep in real time for `span` of this clock to pass.
    pub fn real(&self, span: Duration) -> Duration {
        match &*self.0 {
            ClockKind::System(_) | ClockKind::Manual(_) => span,
            ClockKind::Accelerated { from, rate, lead, .. } => {
                if boot_clock().saturating_sub(*from) < *lead {
                    span / *rate
                } else {
                    span
                }
            }
        }
    }

    /// How long the machine has run without being suspended: the time in which timers run (`CLOCK_MONOTONIC`). It runs
    /// at the machine's pace also if this clock is accelerated.
    pub fn uptime(&self) -> Duration {
        match &*self.0 {
            ClockKind::System(_) | ClockKind::Accelerated { .. } => monotonic_clock(),
            ClockKind::Manual(hands) => {
                let boot = hands.lock().unwrap_or_else(PoisonError::into_inner).0.boot;
                boot.since(BootTime::from_duration(Duration::ZERO))
            }
        }
    }

    /// How long to sleep until the next multiple of `every` of the machine's uptime. Tasks that wait by this wake up at the
    /// same moment, which costs an idle machine a third of the wake-ups.
    pub fn until_beat(&self, every: Duration) -> Duration {
        let (uptime, every) = (self.uptime().as_nanos(), every.as_nanos().max(1));
        Duration::from_nanos(u64::try_from(every - uptime % every).unwrap_or(u64::MAX))
    }

    /// The most time that passes on this clock during `span` of the machine's time.
    pub fn passing_in(&self, span: Duration) -> Duration {
        match &*self.0 {
            ClockKind::System(_) | ClockKind::Manual(_) => span,
            ClockKind::Accelerated { rate, .. } => span.saturating_mul(*rate),
        }
    }

    /// Advances both clocks of a manual clock by `span`. Does nothing for the other kinds.
    pub fn advance(&self, span: Duration) {
        if let ClockKind::Manual(hands) = &*self.0 {
            let machine = &mut hands.lock().unwrap_or_else(PoisonError::into_inner).0;
            *machine = Now { wall: machine.wall.plus(span), boot: machine.boot.plus(span) };
        }
    }

    /// Steps only the wall time of a manual clock, as `date -s` would. Does nothing for the other kinds.
    pub fn step_wall(&self, wall: WallTime) {
        if let ClockKind::Manual(hands) = &*self.0 {
            hands.lock().unwrap_or_else(PoisonError::into_inner).0.wall = wall;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this module is the sanctioned reader of time")]
fn wall_clock() -> WallTime {
    WallTime::from(Utc::now())
}

fn boot_clock() -> Duration {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(at.tv_sec).unwrap_or(0), u32::try_from(at.tv_nsec).unwrap_or(0))
}

fn monotonic_clock() -> Duration {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(u64::try_from(at.tv_sec).unwrap_or(0), u32::try_from(at.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> WallTime {
        WallTime::from(text.parse::<chrono::DateTime<Utc>>().expect("a time in the test"))
    }

    #[test]
    fn times_are_kept_to_the_millisecond_and_print_at_fixed_width() {
        let time = at("2026-03-01T09:05:00.1239Z");
        assert_eq!(time.to_rfc3339_millis(), "2026-03-01T09:05:00.123Z");
        assert_eq!(time.to_rfc3339_seconds(), "2026-03-01T09:05:00Z");
        assert_eq!(serde_json::to_string(&time).expect("json"), "\"2026-03-01T09:05:00.123Z\"");
    }

    #[test]
    fn a_minute_begins_at_its_first_millisecond() {
        for (time, minute) in [
            ("2026-03-01T09:05:10.123Z", "2026-03-01T09:05:00Z"),
            ("2026-03-01T09:00:00Z", "2026-03-01T09:00:00Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:00Z"),
        ] {
            assert_eq!(at(time).minute(), at(minute));
        }
    }

    #[test]
    fn spans_do_not_go_below_zero() {
        let (early, late) = (at("2026-03-01T09:00:00Z"), at("2026-03-01T09:00:05Z"));
        assert_eq!(late.since(early), Duration::from_secs(5));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.distance(late), Duration::from_secs(5));
    }

    #[test]
    fn instants_before_the_machines_start_keep_their_spans_and_are_long_ago() {
        let (early, late) = (at("2026-03-01T09:00:00Z"), at("2026-03-01T09:00:05Z"));
        assert_eq!(BootTime::earlier(late).since(BootTime::earlier(early)), Duration::from_secs(5));
        let start = BootTime::from_duration(Duration::ZERO);
        assert!(BootTime::earlier(late).is_earlier() && !start.is_earlier());
        assert!(BootTime::earlier(WallTime::from_millis(i64::MAX)) < start);
        assert!(start.since(BootTime::earlier(late)) > Duration::from_secs(86_400 * 365));
    }

    #[test]
    fn a_wall_step_leaves_the_boot_clock_alone_and_is_doubted() {
        let start = at("2026-03-01T09:00:00Z");
        let clock = Clock::manual(Now { wall: start, boot: BootTime::from_duration(Duration::from_secs(5000)) });
        clock.step_wall(at("2026-03-11T09:00:00Z"));
        clock.advance(Duration::from_secs(1));
        let now = clock.now();
        assert_eq!(
            now,
            Now { wall: at("2026-03-01T09:00:01Z"), boot: BootTime::from_duration(Duration::from_secs(5001)) }
        );
        assert_eq!(clock.doubt(), Some(10 * 86_400_000));
        clock.advance(CONFIRMED_AFTER);
        assert_eq!(clock.now().wall, at("2026-03-11T10:00:01Z"));
        assert_eq!(clock.doubt(), None);
    }

    #[test]
    fn an_accelerated_clock_falls_back_to_the_machines_pace_when_its_span_is_over() {
        let start = at("2026-03-01T07:30:00Z");
        let running = Clock::accelerated(start, 1000, Duration::from_secs(1_000_000));
        assert_eq!(running.real(Duration::from_secs(5)), Duration::from_millis(5));
        assert_eq!(running.passing_in(Duration::from_millis(5)), Duration::from_secs(5));
        let over = Clock::accelerated(start, 1000, Duration::ZERO);
        assert_eq!(over.real(Duration::from_secs(5)), Duration::from_secs(5));
        assert!(over.now().wall.since(start) < Duration::from_secs(60));
    }

    #[test]
    fn tasks_that_wait_by_the_beat_wake_up_together() {
        let wall = at("2026-03-01T09:00:00Z");
        for (uptime, every, wait) in
            [(0, 5, 5000), (5000, 5, 5000), (7300, 5, 2700), (7300, 10, 2700), (12_000, 30, 18_000)]
        {
            let clock = Clock::manual(Now { wall, boot: BootTime::from_duration(Duration::from_millis(uptime)) });
            assert_eq!(
                clock.until_beat(Duration::from_secs(every)),
                Duration::from_millis(wait),
                "{uptime} ms, {every} s"
            );
        }
    }

    #[test]
    fn both_system_clocks_move_forward() {
        let clock = Clock::system();
        let first = clock.now();
        let second = clock.now();
        assert!(second.boot >= first.boot);
    }
}
