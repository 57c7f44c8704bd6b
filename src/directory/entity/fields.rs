//! PURE. Reads single fields of the platform's documents: numbers, prices, dates and times of day.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc, Weekday};
use serde::{Deserialize, Deserializer, de::Error};

use crate::{
    base::clock::WallTime,
    directory::catalogue::{Currency, Moment, Price, Priority},
};

/// A time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOfDay {
    /// Minutes from midnight.
    pub minutes: u16,
    /// In UTC, not on the business's wall clock.
    pub utc: bool,
}

/// A list of references: `[1, 2]`, `[{"Id": 1}]` or null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids(pub Vec<i64>);

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "an id, or an object with an Id")]
        enum Reference {
            Id(i64),
            Object {
                #[serde(rename = "Id")]
                id: i64,
            },
        }
        let list = Option::<Vec<Reference>>::deserialize(deserializer)?.unwrap_or_default();
        let id = |reference| match reference {
            Reference::Id(id) | Reference::Object { id } => id,
        };
        Ok(Self(list.into_iter().map(id).collect()))
    }
}

/// The values of a `,`-separated field, trimmed and without empty ones.
pub fn listed(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|value| !value.is_empty())
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn null_is_yes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Option::deserialize(deserializer).map(|value| value.unwrap_or(true))
}

pub(super) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Card numbers are often exported as numbers; only their text matters.
pub(super) fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text or a number")]
    enum Either {
        Text(String),
        Number(serde_json::Number),
    }
    let text = |either| match either {
        Either::Text(text) => text,
        Either::Number(number) => number.to_string(),
    };
    Ok(Option::<Either>::deserialize(deserializer)?.map(text))
}

/// A text; anything else counts as none, because nothing depends on it that an import should stop for.
pub(super) fn text_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => Ok(Some(text)),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => Ok(None),
    }
}

/// A number that counts something; `None` for null.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else { return Ok(None) };
    // Some exports write whole numbers with a fraction of zero.
    let text = number.to_string();
    let whole = text.strip_suffix(".0").unwrap_or(&text);
    whole
        .parse()
        .map(Some)
        .map_err(|_| D::Error::custom(format!("{number} is not a whole number from 0 to {}", u32::MAX)))
}

/// Like `count`, but refuses zero: a pass for no minutes could be meant as one for days, or for nothing.
pub(super) fn minutes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match count(deserializer)? {
        Some(0) => Err(D::Error::custom("0 minutes are no use; leave this out for a day pass")),
        minutes => Ok(minutes),
    }
}

pub(super) fn price<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Price>, D::Error> {
    let Some(text) = text_or_number(deserializer)? else { return Ok(None) };
    read_price(&text)
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("\"{text}\" is not a price; for example, write 12.5")))
}

/// Up to eleven digits, and up to four after a point, so no sum of prices overflows.
fn read_price(text: &str) -> Option<Price> {
    let (units, parts) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if units.is_empty() || units.len() > 11 || parts.len() > 4 || !digits(units) || !digits(parts) {
        return None;
    }
    let units: i64 = units.parse().ok()?;
    let parts: i64 = format!("{parts:0<4}").parse().ok()?;
    Some(Price(units * Price::UNIT + parts))
}

pub(super) fn currency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Currency>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    text.parse()
        .map(Some)
        .map_err(|()| D::Error::custom(format!("\"{text}\" is not a currency; for example, write GBP")))
}

pub(super) fn priority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Priority, D::Error> {
    match text_or_number(deserializer)?.as_deref() {
        None | Some("0" | "2" | "Normal") => Ok(Priority::Normal),
        Some("1" | "High") => Ok(Priority::High),
        Some("3" | "Low") => Ok(Priority::Low),
        Some(text) => Err(D::Error::custom(format!("\"{text}\" is not one of High, Normal, Low, 1, 2, 3"))),
    }
}

pub(super) fn weekday<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Weekday, D::Error> {
    const DAYS: [(&str, &str, Weekday); 7] = [
        ("0", "Sunday", Weekday::Sun),
        ("1", "Monday", Weekday::Mon),
        ("2", "Tuesday", Weekday::Tue),
        ("3", "Wednesday", Weekday::Wed),
        ("4", "Thursday", Weekday::Thu),
        ("5", "Friday", Weekday::Fri),
        ("6", "Saturday", Weekday::Sat),
    ];
    let text = text_or_number(deserializer)?.unwrap_or_default();
    let found = DAYS.into_iter().find(|(number, name, _)| *number == text || *name == text);
    found.map(|(.., day)| day).ok_or_else(|| {
        D::Error::custom(format!("\"{text}\" is not a weekday; write 0 (Sunday) to 6 (Saturday), or its English name"))
    })
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let minutes = |time: NaiveTime| u16::try_from(time.num_seconds_from_midnight() / 60).unwrap_or(0);
        let local = ["%H:%M", "%H:%M:%S"].iter().find_map(|form| NaiveTime::parse_from_str(&text, form).ok());
        if let Some(time) = local {
            return Ok(Self { minutes: minutes(time), utc: false });
        }
        match read_moment(&text) {
            Some(Moment::Instant(at)) => Ok(Self { minutes: minutes(at.utc().time()), utc: true }),
            Some(Moment::Date(_)) | None => {
                Err(D::Error::custom(format!("\"{text}\" is not a time of day; for example, write 09:00")))
            }
        }
    }
}

pub(super) fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Moment>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    read_moment(&text).map(Some).ok_or_else(|| {
        let example = "2026-01-31 or 2026-01-31T18:00:00Z";
        D::Error::custom(format!("\"{text}\" is not a date; for example, write {example}"))
    })
}

/// A date, an instant, or a date and time without a zone, which is UTC like everything on the platform.
fn read_moment(text: &str) -> Option<Moment> {
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(Moment::Date(date));
    }
    let zoned = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
    let plain = || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok().map(|at| at.and_utc());
    zoned.or_else(plain).map(|at: DateTime<Utc>| Moment::Instant(WallTime::from(at)))
}
