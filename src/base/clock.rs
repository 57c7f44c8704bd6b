//! The only module that reads the time.
//!
//! There are two kinds of time, which never mix: [`WallTime`] is for records, [`BootTime`] for waiting. The wall clock
//! of a gateway without a battery jumps; the boot-time clock includes suspend and never jumps (`clock_gettime(2)`). So
//! a step of the wall clock is believed only after it has lasted, see [`CONFIRMED_AFTER`].

mod steady;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, TimeZone, Utc};
use serde::{Deserialize, Serialize};

use steady::Steady;
pub use steady::{CONFIRMED_AFTER, EARLIEST, FIRST_SYNC, STEP};

/// A UTC instant with millisecond precision, as stored in records (both databases return exactly what was written).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(i64);

impl WallTime {
    /// The instant this many milliseconds after 1970-01-01T00:00:00Z.
    ///
    /// Clamped to the years 1970 to 9999, the range that RFC 3339 and both databases support.
    pub const fn from_millis(millis: i64) -> Self {
        const LAST: i64 = 253_402_300_799_999;
        Self(if millis < 0 {
            0
        } else if millis > LAST {
            LAST
        } else {
            millis
        })
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// As a chrono instant.
    pub fn utc(self) -> DateTime<Utc> {
        Utc.timestamp_millis_opt(self.0).single().expect("WallTime is clamped to chrono's range")
    }

    /// The time from `earlier` to this; zero if this is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The distance between two instants, whichever is earlier.
    pub fn distance(self, other: Self) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }

    /// This much later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This much earlier.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Moved by this many milliseconds, in either direction.
    #[must_use]
    pub const fn moved(self, millis: i64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// The beginning of its minute.
    #[must_use]
    pub const fn minute(self) -> Self {
        Self::from_millis(self.0 - self.0.rem_euclid(60_000))
    }

    /// `YYYY-MM-DDTHH:MM:SS.mmmZ`, the fixed-width text stored in SQLite: it sorts in order of time.
    pub fn to_rfc3339_millis(self) -> String {
        self.utc().to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    /// `YYYY-MM-DDTHH:MM:SSZ`, as the API writes times (fractions are truncated).
    pub fn to_rfc3339_seconds(self) -> String {
        self.utc().to_rfc3339_opts(SecondsFormat::Secs, true)
    }
}

impl From<DateTime<Utc>> for WallTime {
    fn from(at: DateTime<Utc>) -> Self {
        Self::from_millis(at.timestamp_millis())
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339_millis())
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for WallTime {
    /// As text in human-readable formats, as milliseconds in binary ones.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_i64(self.0) }
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return i64::deserialize(deserializer).map(Self::from_millis);
        }
        let text = String::deserialize(deserializer)?;
        DateTime::parse_from_rfc3339(&text).map(|at| at.to_utc().into()).map_err(serde::de::Error::custom)
    }
}

/// The time since the machine started, suspend included (`CLOCK_BOOTTIME`). Never written into a record.
///
/// Instants stored before the machine's last start lie before that start ([`BootTime::earlier`]): the spans between
/// them are right, and to every current wait they are long past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootTime(Duration);

/// The start of the machine. Later than every wall time, so earlier instants fit before it.
const START: Duration = Duration::from_secs(253_402_300_800);

impl BootTime {
    /// The instant this long after the machine's start.
    pub const fn from_duration(since_boot: Duration) -> Self {
        Self(START.saturating_add(since_boot))
    }

    /// An instant before the machine's last start. Only its wall time is still meaningful.
    pub fn earlier(wall: WallTime) -> Self {
        Self(Duration::from_millis(wall.millis().unsigned_abs()))
    }

    /// Whether this is before the machine's last start.
    pub fn is_earlier(self) -> bool {
        self.0 < START
    }

    /// The time from `earlier` to this; zero if this is not later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This much later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// One reading of both clocks, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// For records.
    pub wall: WallTime,
    /// For waiting and measuring.
    pub boot: BootTime,
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> WallTime {
        WallTime::from(text.parse::<DateTime<Utc>>().expect("a time in the test"))
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
    fn both_system_clocks_move_forward() {
        let clock = Clock::system();
        let first = clock.now();
        let second = clock.now();
        assert!(second.boot >= first.boot);
    }
}
