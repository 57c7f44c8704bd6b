//! PURE. Times as clients write them.
//!
//! The platform's documents show `YYYY-MM-DDTHH:mm` and `…Z`; real clients also send seconds without a zone, fractions,
//! offsets, a space in place of the `T`, and RFC 1123 dates. A time without a zone is UTC, as on the platform.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime};

use crate::base::clock::WallTime;

/// The longest text that is read as a time, in bytes; an RFC 1123 date has 29.
const LONGEST: usize = 64;

/// The years that both databases compare rightly.
const YEARS: std::ops::RangeInclusive<i32> = 0..=9999;

/// The forms without a zone, and with a `T` between date and time.
const FORMS: [&str; 2] = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"];

/// Reads an instant; without a zone, of UTC. `None` if the text is none.
pub(super) fn instant(text: &str) -> Option<WallTime> {
    let text = within_bounds(text)?;
    let zoned = DateTime::parse_from_rfc3339(&with_t(text)).or_else(|_| DateTime::parse_from_rfc2822(text));
    let utc = match zoned {
        Ok(at) => at.to_utc(),
        Err(_) => without_zone(text)?.and_utc(),
    };
    YEARS.contains(&utc.year()).then(|| WallTime::from(utc))
}

/// Reads a time on the wall clock; a zone that a client adds to it has no meaning and is left out. `None` if the text is
/// no time.
pub(super) fn wall_clock(text: &str) -> Option<NaiveDateTime> {
    let text = within_bounds(text)?;
    let local = match DateTime::parse_from_rfc3339(&with_t(text)) {
        Ok(at) => at.naive_local(),
        Err(_) => without_zone(text)?,
    };
    YEARS.contains(&local.year()).then_some(local)
}

fn within_bounds(text: &str) -> Option<&str> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= LONGEST && text.is_ascii()).then_some(text)
}

/// A `T` between date and time, and a capital `Z`.
fn with_t(text: &str) -> String {
    let mut text = text.to_ascii_uppercase();
    if text.as_bytes().get(10) == Some(&b' ') {
        text.replace_range(10..11, "T");
    }
    text
}

fn without_zone(text: &str) -> Option<NaiveDateTime> {
    let text = with_t(text);
    let text = text.strip_suffix('Z').unwrap_or(&text);
    let time = FORMS.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    time.or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|day| day.and_time(NaiveTime::MIN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_however_clients_write_them() {
        for (text, expected) in [
            ("2026-11-26T19:30:00Z", Some("2026-11-26T19:30:00.000Z")),
            ("2026-11-26T19:30:00.123Z", Some("2026-11-26T19:30:00.123Z")),
            ("2026-11-26t19:30:00z", Some("2026-11-26T19:30:00.000Z")),
            ("2026-11-26T19:30:00+01:00", Some("2026-11-26T18:30:00.000Z")),
            ("2026-11-26T19:30:00", Some("2026-11-26T19:30:00.000Z")),
            ("2026-11-26 19:30:00", Some("2026-11-26T19:30:00.000Z")),
            ("2026-11-26T19:30", Some("2026-11-26T19:30:00.000Z")),
            ("2026-11-26T19:30Z", Some("2026-11-26T19:30:00.000Z")),
            ("2026-11-26", Some("2026-11-26T00:00:00.000Z")),
            ("Thu, 26 Nov 2026 19:30:00 GMT", Some("2026-11-26T19:30:00.000Z")),
            (" 2026-11-26T19:30:00Z ", Some("2026-11-26T19:30:00.000Z")),
            ("", None),
            ("now", None),
            ("26/11/2026", None),
            ("2026-13-26T19:30:00Z", None),
            ("+12026-11-26T19:30:00", None),
            ("2026-11-26T19:30:00Zé", None),
        ] {
            assert_eq!(instant(text).map(WallTime::to_rfc3339_millis).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_zone_on_a_wall_clock_time_means_nothing() {
        for text in ["2026-11-26T19:30:00", "2026-11-26T19:30:00Z", "2026-11-26 19:30:00+01:00", "2026-11-26T19:30"] {
            let read = wall_clock(text).map(|at| at.format("%Y-%m-%dT%H:%M:%S").to_string());
            assert_eq!(read.as_deref(), Some("2026-11-26T19:30:00"), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text: String) {
            instant(&text);
            wall_clock(&text);
        }
    }
}
