//! PURE. The controller's clock: reading its text, correcting it, and deciding whether to believe it.

use std::time::Duration;

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use crate::{clock::WallTime, sighting::TimeQuality};

/// How far from the arrival a controller's time is believed when `time.trust` says nothing: a bridge may replay two days,
/// and no clock may run ahead by more than two minutes (`reference/doors.md` 6.2).
const TRUST: Trust = Trust { past: Duration::from_secs(2 * 24 * 3600), future: Duration::from_secs(120) };

/// `[source.time]`, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimePlan {
    pub(super) parse: Vec<TimeFormat>,
    /// For text without an offset; none until the site's is put in.
    pub(super) zone: Option<Tz>,
    /// Added to what the controller says.
    pub(super) offset: TimeDelta,
    pub(super) trust: Trust,
}

/// One way to read a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TimeFormat {
    /// Seconds since 1970, as a number or as digits.
    Unix,
    /// Milliseconds since 1970.
    UnixMillis,
    /// `2026-03-01T09:00:00+01:00`.
    Rfc3339,
    /// A pattern of `strptime(3)`. A zone abbreviation (`%Z`) is skipped: there are several CSTs and ISTs.
    Pattern { text: String, has_offset: bool },
}

/// The window around the arrival inside which the controller's time is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trust {
    pub(super) past: Duration,
    pub(super) future: Duration,
}

impl Default for TimePlan {
    fn default() -> Self {
        Self { parse: Vec::new(), zone: None, offset: TimeDelta::zero(), trust: TRUST }
    }
}

impl TimePlan {
    /// The event time, and whose clock it is. A time that is absent, unreadable or outside the window is replaced by the
    /// arrival: a door with a flat battery must still let its people be checked in.
    pub(super) fn event_time(&self, said: Option<&Value>, arrived: WallTime) -> (WallTime, TimeQuality) {
        let Some(said) = said.and_then(|said| self.read(said, arrived)) else {
            return (arrived, TimeQuality::Arrival);
        };
        let Some(at) = said.checked_add_signed(self.offset) else {
            return (arrived, TimeQuality::Arrival);
        };
        // Compared before it becomes a WallTime, which is clamped: 1970 minus an offset would look like 1970.
        let ahead = at.timestamp_millis().saturating_sub(arrived.millis());
        let window = if ahead < 0 { self.trust.past } else { self.trust.future };
        if u128::from(ahead.unsigned_abs()) > window.as_millis() {
            return (arrived, TimeQuality::Arrival);
        }
        let quality = if self.offset.is_zero() { TimeQuality::Device } else { TimeQuality::Corrected };
        (WallTime::from(at), quality)
    }

    fn read(&self, said: &Value, arrived: WallTime) -> Option<DateTime<Utc>> {
        self.parse.iter().find_map(|format| self.read_as(format, said, arrived))
    }

    fn read_as(&self, format: &TimeFormat, said: &Value, arrived: WallTime) -> Option<DateTime<Utc>> {
        match format {
            TimeFormat::Unix => {
                let seconds = number(said)?;
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "a cast from f64 saturates, and the window refuses it"
                )]
                DateTime::from_timestamp_millis((seconds * 1000.0).round() as i64)
            }
            TimeFormat::UnixMillis =>
            {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "a cast from f64 saturates, and the window refuses it"
                )]
                DateTime::from_timestamp_millis(number(said)?.round() as i64)
            }
            TimeFormat::Rfc3339 => DateTime::parse_from_rfc3339(text(said)?).ok().map(|at| at.to_utc()),
            TimeFormat::Pattern { text: pattern, has_offset: true } => {
                DateTime::parse_from_str(text(said)?, pattern).ok().map(|at| at.to_utc())
            }
            TimeFormat::Pattern { text: pattern, has_offset: false } => {
                let local = NaiveDateTime::parse_from_str(text(said)?, pattern).ok()?;
                in_zone(local, self.zone.unwrap_or(Tz::UTC), arrived)
            }
        }
    }
}

/// A wall-clock reading as an instant. In the hour that the clock shows twice it is the one nearer to the arrival; in the
/// hour that the clock skips, it is read with the offset from before.
fn in_zone(local: NaiveDateTime, zone: Tz, arrived: WallTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) => Some(at.to_utc()),
        LocalResult::Ambiguous(first, second) => {
            let distance = |at: &DateTime<Utc>| at.timestamp_millis().abs_diff(arrived.millis());
            [first.to_utc(), second.to_utc()].into_iter().min_by_key(distance)
        }
        LocalResult::None => {
            let hour = TimeDelta::hours(1);
            let before = zone.from_local_datetime(&local.checked_sub_signed(hour)?).earliest()?;
            before.to_utc().checked_add_signed(hour)
        }
    }
}

fn text(said: &Value) -> Option<&str> {
    said.as_str().map(str::trim)
}

fn number(said: &Value) -> Option<f64> {
    let number = said.as_f64().or_else(|| text(said)?.parse().ok())?;
    number.is_finite().then_some(number)
}

impl TimeFormat {
    /// `unix`, `unix_ms`, `rfc3339`, or a pattern with `%`; the error says what would be right.
    pub(super) fn parse(word: &str) -> Result<Self, String> {
        match word {
            "unix" => Ok(Self::Unix),
            "unix_ms" => Ok(Self::UnixMillis),
            "rfc3339" => Ok(Self::Rfc3339),
            _ => Self::pattern(word),
        }
    }

    fn pattern(word: &str) -> Result<Self, String> {
        use chrono::format::{Fixed, Item, StrftimeItems};

        if !word.contains('%') {
            return Err(format!(
                "\"{word}\" is not a time format; write unix, unix_ms, rfc3339 or a pattern like %Y-%m-%d %H:%M:%S"
            ));
        }
        let items: Vec<Item<'_>> = StrftimeItems::new(word).collect();
        if items.contains(&Item::Error) {
            return Err(format!("\"{word}\" has a % sequence that does not exist"));
        }
        let has_offset = items.iter().any(|item| {
            matches!(
                item,
                Item::Fixed(
                    Fixed::TimezoneOffset
                        | Fixed::TimezoneOffsetColon
                        | Fixed::TimezoneOffsetDoubleColon
                        | Fixed::TimezoneOffsetTripleColon
                        | Fixed::TimezoneOffsetColonZ
                        | Fixed::TimezoneOffsetZ
                        | Fixed::RFC2822
                        | Fixed::RFC3339
                )
            )
        });
        Ok(Self::Pattern { text: word.to_owned(), has_offset })
    }
}

impl Trust {
    /// `2d past, 2m future`, in either order; a side that is not named keeps its default.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a trust window; write it as \"2d past, 2m future\"");
        let mut trust = TRUST;
        for part in text.split(',') {
            let (span, side) = part.trim().rsplit_once(' ').ok_or_else(wrong)?;
            let span = humantime::parse_duration(span.trim()).map_err(|_| wrong())?;
            match side {
                "past" => trust.past = span,
                "future" => trust.future = span,
                _ => return Err(wrong()),
            }
        }
        Ok(trust)
    }
}

/// `-2h`, `+90s`, `1h 30m`: a correction of the controller's clock, at most a day either way.
pub(super) fn parse_offset(text: &str) -> Result<TimeDelta, String> {
    let (sign, span) = match text.trim().strip_prefix('-') {
        Some(span) => (-1, span),
        None => (1, text.trim().trim_start_matches('+')),
    };
    let span = humantime::parse_duration(span.trim()).ok().filter(|span| *span <= Duration::from_secs(86_400));
    let seconds = span.and_then(|span| i64::try_from(span.as_secs()).ok());
    match seconds {
        Some(seconds) => Ok(TimeDelta::seconds(sign * seconds)),
        None => Err(format!("\"{text}\" is not an offset; write it as \"-2h\" or \"90s\", at most a day")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn at(text: &str) -> WallTime {
        WallTime::from(text.parse::<DateTime<Utc>>().expect("a time in the test"))
    }

    fn plan(formats: &[&str], zone: Tz, offset: &str) -> TimePlan {
        TimePlan {
            parse: formats.iter().map(|word| TimeFormat::parse(word).expect("a format")).collect(),
            zone: Some(zone),
            offset: parse_offset(offset).expect("an offset"),
            trust: TRUST,
        }
    }

    #[test]
    fn every_kind_of_clock_is_read() {
        let arrived = at("2026-03-02T09:00:03Z");
        let uhppoted = "%Y-%m-%d %H:%M:%S %Z";
        let table = [
            (&["unix"][..], Tz::UTC, "0s", json!(1_772_442_000), "2026-03-02T09:00:00Z", TimeQuality::Device),
            (&["unix"], Tz::UTC, "0s", json!("1772442000"), "2026-03-02T09:00:00Z", TimeQuality::Device),
            (
                &["unix_ms"],
                Tz::UTC,
                "0s",
                json!(1_772_442_000_250_i64),
                "2026-03-02T09:00:00.250Z",
                TimeQuality::Device,
            ),
            (
                &["rfc3339"],
                Tz::UTC,
                "0s",
                json!("2026-03-02T10:00:00+01:00"),
                "2026-03-02T09:00:00Z",
                TimeQuality::Device,
            ),
            (
                &[uhppoted],
                Tz::America__Los_Angeles,
                "0s",
                json!("2026-03-02 01:00:00 PST"),
                "2026-03-02T09:00:00Z",
                TimeQuality::Device,
            ),
            // The abbreviation lies (the bridge stamps the host's own), the configured zone counts.
            (
                &[uhppoted],
                Tz::Europe__London,
                "0s",
                json!("2026-03-02 09:00:00 CEST"),
                "2026-03-02T09:00:00Z",
                TimeQuality::Device,
            ),
            // pvtex: local digits, a newline, and a fixed two hours too many.
            (
                &["%d.%m.%Y %H:%M:%S"],
                Tz::UTC,
                "-2h",
                json!("02.03.2026 11:00:00\n"),
                "2026-03-02T09:00:00Z",
                TimeQuality::Corrected,
            ),
            (&["rfc3339", "unix"], Tz::UTC, "0s", json!(1_772_442_000), "2026-03-02T09:00:00Z", TimeQuality::Device),
        ];
        for (formats, zone, offset, said, want, quality) in table {
            let got = plan(formats, zone, offset).event_time(Some(&said), arrived);
            assert_eq!(got, (at(want), quality), "{formats:?} {said}");
        }
    }

    #[test]
    fn a_clock_outside_the_window_is_replaced_by_the_arrival() {
        let arrived = at("2026-03-02T09:00:00Z");
        let unix = plan(&["unix"], Tz::UTC, "0s");
        for said in [
            json!(0),
            json!(-5),
            json!(1e300),
            json!("soon"),
            json!(null),
            json!({}),
            json!(1_772_442_000 + 121),
            json!(1_772_442_000 - 2 * 86_400 - 1),
        ] {
            assert_eq!(unix.event_time(Some(&said), arrived), (arrived, TimeQuality::Arrival), "{said}");
        }
        assert_eq!(unix.event_time(None, arrived), (arrived, TimeQuality::Arrival));
        assert_eq!(unix.event_time(Some(&json!(1_772_442_000 + 120)), arrived).1, TimeQuality::Device);
        assert_eq!(unix.event_time(Some(&json!(1_772_442_000 - 2 * 86_400)), arrived).1, TimeQuality::Device);
    }

    #[test]
    fn the_hours_in_which_clocks_change_are_read_near_the_arrival() {
        let london = plan(&["%Y-%m-%d %H:%M:%S"], Tz::Europe__London, "0s");
        let twice = json!("2026-10-25 01:30:00");
        assert_eq!(london.event_time(Some(&twice), at("2026-10-25T00:30:02Z")).0, at("2026-10-25T00:30:00Z"));
        assert_eq!(london.event_time(Some(&twice), at("2026-10-25T01:30:02Z")).0, at("2026-10-25T01:30:00Z"));
        let never = json!("2026-03-29 01:30:00");
        assert_eq!(london.event_time(Some(&never), at("2026-03-29T01:30:02Z")).0, at("2026-03-29T01:30:00Z"));
    }

    #[test]
    fn windows_and_offsets_are_read() {
        let seven = Trust::parse("1m future, 7d past").expect("a window");
        assert_eq!(seven, Trust { past: Duration::from_secs(7 * 86_400), future: Duration::from_secs(60) });
        assert_eq!(Trust::parse("1h past").expect("a window").future, TRUST.future);
        for bad in ["", "2d", "2d ago", "x past"] {
            assert!(Trust::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_offset("-1h 30m"), Ok(TimeDelta::minutes(-90)));
        assert!(parse_offset("2d").is_err());
        assert!(TimeFormat::parse("%Q").is_err());
        assert!(TimeFormat::parse("iso").is_err());
    }

    proptest! {
        #[test]
        fn no_time_panics(said in ".{0,40}", number: f64, arrived in 0i64..253_402_300_799_999) {
            let plan = plan(&["unix", "unix_ms", "rfc3339", "%Y-%m-%d %H:%M:%S %Z", "%s"], Tz::America__Sao_Paulo, "-2h");
            let arrived = WallTime::from_millis(arrived);
            for said in [json!(said), json!(number)] {
                let (event, quality) = plan.event_time(Some(&said), arrived);
                prop_assert!(quality != TimeQuality::Arrival || event == arrived);
            }
        }
    }
}
