//! PURE. The controller's clock: reads its time, corrects it and decides whether to trust it.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::{
    base::{clock::WallTime, sighting::TimeQuality, zone::Zone},
    mapping::value::is_empty,
};

/// How far from the arrival a controller's time is trusted if neither the source nor its preset sets it. Ten minutes is
/// more than a controller needs to resend what the network lost, and less than a quarter of an hour, the least error of
/// a clock that is set to another time zone. No clock may be ahead by more than two minutes.
const TRUST: Trust = Trust { past: Duration::from_mins(10), future: Duration::from_mins(2) };

/// How far an offset may be from a whole number of quarter hours and still be attributed to another time zone, in
/// milliseconds.
const ZONE_JITTER: i64 = 90_000;

/// How much of the shape of an unreadable time is shown, in characters; the longest known format has 35.
const LONGEST_SHAPE: usize = 40;

/// Numbers above this are milliseconds: as seconds they would be in the year 5138.
const MOST_SECONDS: f64 = 1e11;

/// `[source.time]`, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimePlan {
    pub(super) parse: Vec<TimeFormat>,
    /// For text without an offset; `None` until the site's zone is set.
    pub(super) zone: Option<Zone>,
    /// Added to the controller's time.
    pub(super) offset: TimeDelta,
    pub(super) trust: Trust,
}

/// One way to read a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TimeFormat {
    /// Seconds since 1970, as a number or as digits; milliseconds if the number is too large for seconds.
    Unix,
    /// Seconds since 1970 from a clock that was set to the local time of its zone and treats it as UTC.
    UnixLocal,
    /// Milliseconds since 1970.
    UnixMillis,
    /// `2026-03-01T09:00:00+01:00`, also with a space instead of the `T`, a comma before the fraction, or the offset
    /// `+0100` or `+01`.
    Rfc3339,
    /// A pattern of `strptime(3)`. A zone abbreviation (`%Z`) is skipped: CST and IST each mean several zones.
    Pattern { text: String, has_offset: bool },
}

/// The window around the arrival in which the controller's time is trusted.
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

/// The reading of a controller's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClockReading {
    /// The message has no time.
    Absent,
    /// No format in `time.parse` fits. Contains the shape: every digit is a `#`, every letter an `x`.
    Unreadable(String),
    /// How far the time is ahead of the arrival, in milliseconds, after the source's correction, whether trusted or
    /// not.
    Ahead(i64, ClockNotation),
}

/// How a controller writes its time, which determines how to correct a wrong time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockNotation {
    /// As a number counted from 1970 in UTC.
    Number,
    /// As a text with its offset from UTC.
    WithOffset,
    /// As a text without an offset, or as a number from a clock that was set to local time.
    Local,
}

impl TimePlan {
    /// The event time, its quality, and the reading of the controller's clock. The arrival replaces a time that is
    /// absent, unreadable or outside the window: a controller with a flat clock battery must not prevent check-ins.
    /// `waited` is how long the broker may have kept the message for us.
    pub(super) fn event_time(
        &self,
        value: Option<&Value>,
        arrived: WallTime,
        waited: Duration,
    ) -> (WallTime, TimeQuality, ClockReading) {
        // A controller without the time may send a blank text.
        let Some(value) = value.filter(|value| !is_empty(value)) else {
            return (arrived, TimeQuality::Arrival, ClockReading::Absent);
        };
        let read = self.read(value, arrived);
        let corrected = read.and_then(|(at, writing)| Some((at.checked_add_signed(self.offset)?, writing)));
        let Some((at, writing)) = corrected else {
            return (arrived, TimeQuality::Arrival, ClockReading::Unreadable(shape(value)));
        };
        // Compare before converting to WallTime, which is clamped: 1970 minus an offset would become 1970.
        let ahead = at.timestamp_millis().saturating_sub(arrived.millis());
        let window = if ahead < 0 { self.trust.past.saturating_add(waited) } else { self.trust.future };
        if u128::from(ahead.unsigned_abs()) > window.as_millis() {
            return (arrived, TimeQuality::Arrival, ClockReading::Ahead(ahead, writing));
        }
        let quality = if self.offset.is_zero() { TimeQuality::Device } else { TimeQuality::Corrected };
        (WallTime::from(at), quality, ClockReading::Ahead(ahead, writing))
    }

    fn zone(&self) -> Zone {
        self.zone.clone().unwrap_or_else(Zone::utc)
    }

    /// What an operator should do about a clock that is ahead by this many milliseconds at `at`.
    pub(super) fn advice(&self, (ahead, writing): (i64, ClockNotation), at: WallTime) -> String {
        const QUARTER: i64 = 15 * 60_000;
        // Zones range from twelve hours behind UTC to fourteen ahead of it.
        const MOST: i64 = 26 * 3_600_000;
        // Zones differ by quarter hours; a clock that is off by anything else is simply wrong.
        let quarters = (ahead + ahead.signum() * QUARTER / 2) / QUARTER;
        if quarters == 0 || ahead.abs() > MOST || (ahead - quarters * QUARTER).abs() > ZONE_JITTER {
            return "set the controller's clock, and keep it right by NTP".to_owned();
        }
        // The setting that would read this clock correctly depends on how the controller writes its time.
        let used = self.zone().ahead(at);
        let line = match writing {
            ClockNotation::Local => {
                let meant = used + quarters * QUARTER;
                match (meant, meant % 3_600_000) {
                    (0, _) => "zone = \"UTC\"".to_owned(),
                    // The signs of these names are reversed (in RFC 3339, zones east of Greenwich are ahead).
                    (_, 0) => format!("its zone, for example zone = \"Etc/GMT{:+}\"", -meant / 3_600_000),
                    _ => "zone = \"the name of its zone\"".to_owned(),
                }
            }
            ClockNotation::Number if used == quarters * QUARTER => "parse = [\"unix_local\"]".to_owned(),
            ClockNotation::Number => "parse = [\"unix_local\"] and zone = \"the name of its zone\"".to_owned(),
            ClockNotation::WithOffset => {
                "parse = [\"%Y-%m-%dT%H:%M:%SZ\"], which reads it as local time, and zone = \"the name of its zone\" if that \
                 is not the site's"
                    .to_owned()
            }
        };
        format!("the clock is set to another time zone: correct it, or write under [source.time] {line}")
    }

    /// How late a live message may be for its time to be trusted.
    pub(super) const fn lateness(&self) -> Duration {
        self.trust.past
    }

    fn read(&self, value: &Value, arrived: WallTime) -> Option<(DateTime<Utc>, ClockNotation)> {
        self.parse.iter().find_map(|format| Some((self.read_as(format, value, arrived)?, format.writing())))
    }

    fn read_as(&self, format: &TimeFormat, value: &Value, arrived: WallTime) -> Option<DateTime<Utc>> {
        match format {
            TimeFormat::Unix => unix(number(value)?),
            TimeFormat::UnixLocal => Some(in_zone(unix(number(value)?)?.naive_utc(), &self.zone(), arrived)),
            TimeFormat::UnixMillis => millis(number(value)?),
            TimeFormat::Rfc3339 => rfc3339(text(value)?),
            TimeFormat::Pattern { text: pattern, has_offset } => {
                let read = |value: &str| {
                    if *has_offset {
                        DateTime::parse_from_str(value, pattern).ok().map(|at| at.to_utc())
                    } else {
                        let local = NaiveDateTime::parse_from_str(value, pattern).ok()?;
                        Some(in_zone(local, &self.zone(), arrived))
                    }
                };
                let value = text(value)?;
                read(value).or_else(|| {
                    let (whole, fraction) = without_fraction(value)?;
                    read(&whole)?.checked_add_signed(fraction)
                })
            }
        }
    }
}

/// The shape of a value, without its content.
fn shape(value: &Value) -> String {
    let cover = |c: char| match c {
        _ if c.is_numeric() => '#',
        _ if c.is_alphabetic() => 'x',
        _ if c.is_control() => ' ',
        _ => c,
    };
    match value {
        Value::String(text) => format!("\"{}\"", text.chars().take(LONGEST_SHAPE).map(cover).collect::<String>()),
        Value::Number(number) => number.to_string().chars().take(LONGEST_SHAPE).map(cover).collect(),
        Value::Null | Value::Bool(_) => "neither text nor a number".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// Seconds since 1970, or milliseconds.
fn unix(number: f64) -> Option<DateTime<Utc>> {
    if number.abs() > MOST_SECONDS { millis(number) } else { millis(number * 1000.0) }
}

fn millis(number: f64) -> Option<DateTime<Utc>> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast from f64 saturates, and the result is outside the window"
    )]
    DateTime::from_timestamp_millis(number.round() as i64)
}

/// Reads RFC 3339, and the other forms of ISO 8601 that controllers send.
fn rfc3339(value: &str) -> Option<DateTime<Utc>> {
    let mut value = value.replacen(' ', "T", 1).replace(',', ".");
    // The sign of an offset is after the time; the hyphens of the date are before it.
    let is_offset = |at: &usize| *at > "2026-03-01T".len() && value[at + 1..].bytes().all(|byte| byte.is_ascii_digit());
    let sign = value.rfind(['+', '-']).filter(is_offset);
    match sign.map(|at| value.len() - at) {
        Some(3) => value.push_str(":00"),
        Some(5) => value.insert(value.len() - 2, ':'),
        Some(_) | None => {}
    }
    DateTime::parse_from_rfc3339(&value).ok().map(|at| at.to_utc())
}

/// Splits the fraction of the second off a text, for patterns that cannot read one.
fn without_fraction(value: &str) -> Option<(String, TimeDelta)> {
    let bytes = value.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let behind_seconds = |at: &usize| {
        matches!(bytes[*at], b'.' | b',')
            && *at >= 3
            && bytes[*at - 3] == b':'
            && is_digit(*at - 2)
            && is_digit(*at - 1)
            && is_digit(*at + 1)
    };
    let at = (0..bytes.len()).find(behind_seconds)?;
    let digits = (at + 1..bytes.len()).take_while(|at| is_digit(*at)).count();
    // Digits beyond milliseconds are dropped.
    let millis = format!("{:0<3.3}", &value[at + 1..at + 1 + digits]).parse().ok()?;
    Some((format!("{}{}", &value[..at], &value[at + 1 + digits..]), TimeDelta::milliseconds(millis)))
}

/// The instant of a local time. In the hour that occurs twice, the one nearer to the arrival.
fn in_zone(local: NaiveDateTime, zone: &Zone, arrived: WallTime) -> DateTime<Utc> {
    let [first, second] = zone.occurrences(local);
    let nearer = if second.distance(arrived) < first.distance(arrived) { second } else { first };
    nearer.utc()
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().map(str::trim)
}

fn number(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| text(value)?.parse().ok())?;
    number.is_finite().then_some(number)
}

impl TimeFormat {
    const fn writing(&self) -> ClockNotation {
        match self {
            Self::Unix | Self::UnixMillis => ClockNotation::Number,
            Self::Rfc3339 | Self::Pattern { has_offset: true, .. } => ClockNotation::WithOffset,
            Self::UnixLocal | Self::Pattern { has_offset: false, .. } => ClockNotation::Local,
        }
    }

    /// Parses `unix`, `unix_local`, `unix_ms`, `rfc3339`, or a pattern with `%`. The error explains what is accepted.
    pub(super) fn parse(word: &str) -> Result<Self, String> {
        match word {
            "unix" => Ok(Self::Unix),
            "unix_local" => Ok(Self::UnixLocal),
            "unix_ms" => Ok(Self::UnixMillis),
            "rfc3339" => Ok(Self::Rfc3339),
            _ => Self::pattern(word),
        }
    }

    fn pattern(word: &str) -> Result<Self, String> {
        use chrono::format::{Fixed, Item, StrftimeItems};

        if !word.contains('%') {
            return Err(format!(
                "\"{word}\" is not a time format; write unix, unix_local, unix_ms, rfc3339 or a pattern like %Y-%m-%d %H:%M:%S"
            ));
        }
        let items: Vec<Item<'_>> = StrftimeItems::new(word).collect();
        if items.contains(&Item::Error) {
            return Err(format!("\"{word}\" has an unknown % sequence"));
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
    /// Parses `2d past, 2m future`, in either order. A side that is missing keeps its default.
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

/// Parses `-2h`, `+90s`, `1h 30m`: a correction of the controller's clock, at most a day either way.
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
    use crate::base::zone::test_zone;
    use proptest::prelude::*;
    use serde_json::json;

    fn at(text: &str) -> WallTime {
        WallTime::from(text.parse::<DateTime<Utc>>().expect("a time in the test"))
    }

    fn plan(formats: &[&str], zone: &str, offset: &str) -> TimePlan {
        TimePlan {
            parse: formats.iter().map(|word| TimeFormat::parse(word).expect("a format")).collect(),
            zone: Some(test_zone(zone)),
            offset: parse_offset(offset).expect("an offset"),
            trust: TRUST,
        }
    }

    impl TimePlan {
        /// The event time of a live message.
        fn judged(&self, value: &Value, arrived: WallTime) -> (WallTime, TimeQuality) {
            let (at, quality, _) = self.event_time(Some(value), arrived, Duration::ZERO);
            (at, quality)
        }
    }

    #[test]
    fn every_kind_of_clock_is_read() {
        let arrived = at("2026-03-02T09:00:03Z");
        let uhppoted = "%Y-%m-%d %H:%M:%S %Z";
        let table = [
            (&["unix"][..], "UTC", "0s", json!(1_772_442_000), "2026-03-02T09:00:00Z", TimeQuality::Device),
            (&["unix"], "UTC", "0s", json!("1772442000"), "2026-03-02T09:00:00Z", TimeQuality::Device),
            (&["unix_ms"], "UTC", "0s", json!(1_772_442_000_250_i64), "2026-03-02T09:00:00.250Z", TimeQuality::Device),
            (
                &["rfc3339"],
                "UTC",
                "0s",
                json!("2026-03-02T10:00:00+01:00"),
                "2026-03-02T09:00:00Z",
                TimeQuality::Device,
            ),
            (
                &[uhppoted],
                "America/Los_Angeles",
                "0s",
                json!("2026-03-02 01:00:00 PST"),
                "2026-03-02T09:00:00Z",
                TimeQuality::Device,
            ),
            // The abbreviation is wrong (the bridge writes its own host's); the configured zone counts.
            (
                &[uhppoted],
                "Europe/London",
                "0s",
                json!("2026-03-02 09:00:00 CEST"),
                "2026-03-02T09:00:00Z",
                TimeQuality::Device,
            ),
            // pvtex: local digits, a newline, and a fixed two hours too many.
            (
                &["%d.%m.%Y %H:%M:%S"],
                "UTC",
                "-2h",
                json!("02.03.2026 11:00:00\n"),
                "2026-03-02T09:00:00Z",
                TimeQuality::Corrected,
            ),
            (&["rfc3339", "unix"], "UTC", "0s", json!(1_772_442_000), "2026-03-02T09:00:00Z", TimeQuality::Device),
        ];
        for (formats, zone, offset, value, want, quality) in table {
            let got = plan(formats, zone, offset).judged(&value, arrived);
            assert_eq!(got, (at(want), quality), "{formats:?} {value}");
        }
    }

    #[test]
    fn a_clock_outside_the_window_is_replaced_by_the_arrival() {
        let arrived = at("2026-03-02T09:00:00Z");
        let unix = plan(&["unix"], "UTC", "0s");
        let absent = [json!(null), json!({}), json!(" ")];
        let unreadable = [json!("soon"), json!(true), json!([1])];
        let wrong = [json!(0), json!(-5), json!(1e300), json!(1_772_442_000 + 121), json!(1_772_442_000 - 601)];
        let judged = |value: &Value| {
            let (at, quality, reading) = unix.event_time(Some(value), arrived, Duration::ZERO);
            assert_eq!((at, quality), (arrived, TimeQuality::Arrival), "{value}");
            reading
        };
        assert!(absent.iter().all(|value| judged(value) == ClockReading::Absent));
        let shapes = unreadable.each_ref().map(|value| match judged(value) {
            ClockReading::Unreadable(shape) => shape,
            read @ (ClockReading::Absent | ClockReading::Ahead(..)) => panic!("{read:?}"),
        });
        assert_eq!(shapes, ["\"xxxx\"", "neither text nor a number", "a list"]);
        assert!(
            wrong
                .iter()
                .take(2)
                .all(|value| matches!(judged(value), ClockReading::Ahead(..-1_000_000_000, ClockNotation::Number)))
        );
        assert_eq!(judged(&wrong[3]), ClockReading::Ahead(121_000, ClockNotation::Number));
        assert_eq!(judged(&wrong[4]), ClockReading::Ahead(-601_000, ClockNotation::Number));
        assert_eq!(unix.event_time(None, arrived, Duration::ZERO).2, ClockReading::Absent);
        for edge in [120, -600] {
            assert_eq!(unix.judged(&json!(1_772_442_000 + edge), arrived).1, TimeQuality::Device);
        }
    }

    #[test]
    fn a_message_that_the_broker_kept_may_be_late_by_as_long_as_it_was_kept() {
        let arrived = at("2026-03-02T09:00:00Z");
        let quality = |value: &str, waited| {
            let waited = Duration::from_secs(waited);
            plan(&["rfc3339"], "UTC", "0s").event_time(Some(&json!(value)), arrived, waited).1
        };
        let weekend = 3 * 86_400;
        assert_eq!(quality("2026-02-27T08:51:00Z", weekend), TimeQuality::Device);
        assert_eq!(quality("2026-02-27T08:49:00Z", weekend), TimeQuality::Arrival);
        assert_eq!(quality("2026-03-02T09:03:00Z", weekend), TimeQuality::Arrival);
        assert_eq!(quality("2026-03-02T08:49:00Z", 0), TimeQuality::Arrival);
    }

    #[test]
    fn loose_spellings_of_a_format_are_read_too() {
        let (arrived, nine) = (at("2026-03-02T09:00:03Z"), at("2026-03-02T09:00:00Z"));
        let local = "%Y-%m-%d %H:%M:%S";
        let table = [
            ("rfc3339", json!("2026-03-02T10:00:00+0100"), 0),
            ("rfc3339", json!("2026-03-02 10:00:00+01"), 0),
            ("rfc3339", json!("2026-03-02 04:00:00,25-0500"), 250),
            ("unix", json!(1_772_442_000_250_i64), 250),
            ("unix", json!("1772442000.5"), 500),
            ("unix_local", json!(1_772_442_000 + 3600), 0),
            (local, json!("2026-03-02 10:00:00.25"), 250),
            (local, json!("2026-03-02 10:00:00,123456"), 123),
            ("%Y-%m-%d %H:%M:%S %z", json!("2026-03-02 10:00:00.5 +0100"), 500),
        ];
        for (format, value, later) in table {
            let got = plan(&[format], "Europe/Berlin", "0s").judged(&value, arrived);
            assert_eq!(got, (nine.plus(Duration::from_millis(later)), TimeQuality::Device), "{format} {value}");
        }
        for (format, value) in
            [("rfc3339", "2026-03-02T09:00:00"), (local, "2026-03-02 10:00:00."), (local, "10:00:00.5")]
        {
            let reading = plan(&[format], "UTC", "0s").event_time(Some(&json!(value)), arrived, Duration::ZERO).2;
            assert!(matches!(reading, ClockReading::Unreadable(_)), "{value}");
        }
    }

    #[test]
    fn the_hours_in_which_clocks_change_are_read_near_the_arrival() {
        let london = plan(&["%Y-%m-%d %H:%M:%S"], "Europe/London", "0s");
        let twice = json!("2026-10-25 01:30:00");
        assert_eq!(london.judged(&twice, at("2026-10-25T00:30:02Z")).0, at("2026-10-25T00:30:00Z"));
        assert_eq!(london.judged(&twice, at("2026-10-25T01:30:02Z")).0, at("2026-10-25T01:30:00Z"));
        let never = json!("2026-03-29 01:30:00");
        assert_eq!(london.judged(&never, at("2026-03-29T01:30:02Z")).0, at("2026-03-29T01:30:00Z"));
    }

    #[test]
    fn the_clock_of_another_zone_gets_the_line_to_write() {
        let summer = at("2026-07-01T09:00:00Z");
        let hours = |hours: f64| {
            #[expect(clippy::cast_possible_truncation, reason = "hours of a test")]
            let millis = (hours * 3_600_000.0) as i64;
            millis
        };
        let advice = |format: &str, zone: &str, ahead: f64| {
            let plan = plan(&[format], zone, "0s");
            plan.advice((hours(ahead), plan.parse[0].writing()), summer)
        };
        let local = "%Y-%m-%d %H:%M:%S";
        for (advice, want) in [
            (advice(local, "Europe/London", -1.0), "zone = \"UTC\""),
            (advice(local, "Europe/London", 1.01), "zone = \"Etc/GMT-2\""),
            (advice(local, "America/New_York", 9.5), "zone = \"the name of its zone\""),
            (advice("unix", "America/New_York", -4.0), "parse = [\"unix_local\"]"),
            (advice("unix", "Europe/London", -4.0), "parse = [\"unix_local\"] and zone"),
            (advice("rfc3339", "Europe/London", 1.0), "parse = [\"%Y-%m-%dT%H:%M:%SZ\"]"),
            (advice(local, "UTC", 0.1), "set the controller's clock, and keep it right by NTP"),
            (advice(local, "UTC", -30.0), "set the controller's clock, and keep it right by NTP"),
        ] {
            assert!(advice.contains(want), "{advice}");
        }
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
        fn no_time_panics(value in ".{0,40}", number: f64, arrived in 0i64..253_402_300_799_999) {
            let plan = plan(&["unix", "unix_ms", "rfc3339", "%Y-%m-%d %H:%M:%S %Z", "%s"], "America/Sao_Paulo", "-2h");
            let arrived = WallTime::from_millis(arrived);
            for value in [json!(value), json!(number)] {
                let (event, quality) = plan.judged(&value, arrived);
                prop_assert!(quality != TimeQuality::Arrival || event == arrived);
            }
        }
    }
}
