//! PURE. A time zone: a name with its rules in one version of the zone data. [`crate::settings::zones`] reads the data.

use std::{fmt, sync::Arc};

use chrono::{Datelike, NaiveDateTime, TimeDelta, Timelike};
use jiff::{
    Timestamp,
    civil::{Date, Time},
    tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::clock::WallTime;

/// A time zone. Two zones with the same name are equal: rules change with the data, but that must not change settings.
#[derive(Clone)]
pub struct Zone {
    name: Arc<str>,
    rules: TimeZone,
}

impl Zone {
    /// A zone with these rules.
    pub fn new(name: &str, rules: TimeZone) -> Self {
        Self { name: name.into(), rules }
    }

    /// A zone under its name in the data, spelled as in the IANA list.
    pub fn known_as(name: &str, rules: TimeZone) -> Self {
        let name = rules.iana_name().unwrap_or(name).into();
        Self { name, rules }
    }

    /// Coordinated universal time. Needs no data.
    pub fn utc() -> Self {
        Self::new("UTC", TimeZone::UTC)
    }

    /// A zone with the rules built into the program; `None` for a name they do not have.
    pub fn bundled(name: &str) -> Option<Self> {
        let rules = TimeZoneDatabase::bundled().get(name).ok()?;
        Some(Self::known_as(name, rules))
    }

    /// The IANA name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether both have the same rules.
    pub fn has_rules_of(&self, other: &Self) -> bool {
        self.rules == other.rules
    }

    /// The local time at an instant.
    pub fn local(&self, at: WallTime) -> NaiveDateTime {
        let utc = at.utc().naive_utc();
        utc.checked_add_signed(TimeDelta::milliseconds(self.ahead(at))).unwrap_or(utc)
    }

    /// The instant of a local time. For a time that the clocks skip it is the first instant after the gap; for one that
    /// occurs twice, the first occurrence.
    pub fn instant(&self, local: NaiveDateTime) -> WallTime {
        let ([first, _], is_skipped) = self.read(local);
        if is_skipped { self.gap_before(first) } else { first }
    }

    /// Both instants of a local time. They differ in the hour that occurs twice. A time that the clocks skip is read
    /// with the offset before the change, as shown by a clock that has not been set forward yet.
    pub fn occurrences(&self, local: NaiveDateTime) -> [WallTime; 2] {
        let (occurrences, _) = self.read(local);
        occurrences
    }

    /// See [`Zone::occurrences`]; also returns whether the clocks skip the time. Times beyond the rules are read as
    /// UTC.
    fn read(&self, local: NaiveDateTime) -> ([WallTime; 2], bool) {
        let utc = WallTime::from(local.and_utc());
        let Some(civil) = civil(local) else { return ([utc; 2], false) };
        let with = |offset: Offset| utc.moved(-i64::from(offset.seconds()) * 1000);
        match self.rules.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => ([with(offset); 2], false),
            AmbiguousOffset::Fold { before, after } => ([with(before), with(after)], false),
            AmbiguousOffset::Gap { before, .. } => ([with(before); 2], true),
        }
    }

    /// How far local time is ahead of UTC at an instant, in milliseconds.
    pub fn ahead(&self, at: WallTime) -> i64 {
        let offset = Timestamp::from_millisecond(at.millis()).map_or(0, |at| self.rules.to_offset(at).seconds());
        i64::from(offset) * 1000
    }

    /// The end of the last gap before an instant.
    fn gap_before(&self, at: WallTime) -> WallTime {
        let after = Timestamp::from_millisecond(at.millis() + 1).ok();
        let last = after.and_then(|after| self.rules.preceding(after).next());
        last.map_or(at, |last| WallTime::from_millis(last.timestamp().as_millisecond()))
    }
}

fn civil(local: NaiveDateTime) -> Option<jiff::civil::DateTime> {
    let small = |number: u32| i8::try_from(number).ok();
    let date = Date::new(i16::try_from(local.year()).ok()?, small(local.month())?, small(local.day())?).ok()?;
    let nanosecond = i32::try_from(local.nanosecond()).ok()?.min(999_999_999);
    let time = Time::new(small(local.hour())?, small(local.minute())?, small(local.second())?, nanosecond).ok()?;
    Some(date.to_datetime(time))
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

/// Only the name is stored. The zone has the program's rules (UTC for an unknown name) until
/// [`crate::settings::zones::Zones`] replaces them with the system's.
impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Ok(Self::bundled(&name).unwrap_or_else(|| Self::new(&name, TimeZone::UTC)))
    }
}

#[cfg(test)]
pub(crate) fn test_zone(name: &str) -> Zone {
    Zone::bundled(name).expect("a zone that is known")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Another implementation of the same rules agrees, in years whose rules have not changed since its data.
        #[test]
        fn another_library_says_the_same(
            millis in 1_000_000_000_000i64..1_750_000_000_000,
            name in prop::sample::select(vec!["Europe/London", "America/Santiago", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "America/Vancouver"]),
        ) {
            use chrono::TimeZone as _;
            let (zone, other): (Zone, chrono_tz::Tz) = (test_zone(name), name.parse().expect("a zone"));
            let at = WallTime::from_millis(millis);
            let local = other.from_utc_datetime(&at.utc().naive_utc()).naive_local();
            prop_assert_eq!(zone.local(at), local);
            let earliest = other.from_local_datetime(&local).earliest().expect("the clock shows it");
            prop_assert_eq!(zone.instant(local), WallTime::from(earliest.to_utc()));
        }
    }

    #[test]
    fn a_time_that_is_skipped_is_the_first_instant_after_the_gap() {
        for (name, local, expected) in [
            ("Europe/London", "2026-03-29T01:00:00", "2026-03-29T01:00:00Z"),
            ("Europe/London", "2026-03-29T01:30:00", "2026-03-29T01:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-04T02:15:00", "2026-10-03T15:30:00Z"),
            ("America/Santiago", "2026-09-06T00:00:00", "2026-09-06T04:00:00Z"),
            ("Pacific/Apia", "2011-12-30T12:00:00", "2011-12-30T10:00:00Z"),
            ("Europe/London", "2080-03-31T01:30:00", "2080-03-31T01:00:00Z"),
        ] {
            let at = test_zone(name).instant(local.parse().expect("a time"));
            assert_eq!(at.to_rfc3339_seconds(), expected, "{name} {local}");
        }
    }

    #[test]
    fn times_beyond_the_rules_are_in_utc() {
        let zone = test_zone("Europe/London");
        for at in [WallTime::from_millis(i64::MAX / 2), WallTime::from_millis(i64::MIN / 2)] {
            let _local = zone.local(at);
        }
        let _at = zone.instant(chrono::DateTime::<chrono::Utc>::MAX_UTC.naive_utc());
        assert_eq!(
            serde_json::from_str::<Zone>("\"Mars/Base\"").expect("a name"),
            Zone::new("Mars/Base", TimeZone::UTC)
        );
    }
}
