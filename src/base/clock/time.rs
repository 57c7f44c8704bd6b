//! PURE. Instants: wall time, boot time, and both at once.

use std::{fmt, time::Duration};

use chrono::{DateTime, SecondsFormat, TimeZone, Utc};
use serde::{Deserialize, Serialize};

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
