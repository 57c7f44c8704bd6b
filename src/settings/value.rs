//! PURE. Reads single values: checks them and converts them to the type of their key.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use chrono::NaiveTime;
use config::{Value, ValueKind};

use crate::{
    base::record::BusinessId,
    directory::catalogue::Currency,
    policy::LATEST,
    settings::{
        capture::{MacPattern, MacPatternError, Relays},
        origin::ValueOrigin,
        reader::{ValueFault, ValueFaults, from_variable, refused, short, wrong_type},
        sections::{ListenAddress, MappedRight},
    },
};

/// The longest duration that can be configured, in days: a hundred years. A longer one is a typing error, and could
/// overflow the calendar.
const LONGEST_DAYS: u64 = 36_525;

/// The longest step of pay-as-you-go: a visit ends with its pass day.
const LONGEST_STEP: Duration = Duration::from_hours(24);

/// The largest amount of money that can be configured, in minor units: far above the price of a day, and small enough
/// that sums do not overflow.
const LARGEST_AMOUNT: i64 = 1_000_000_000_000;

pub(super) fn string<'v>(value: &'v Value, wanted: &str) -> Result<&'v str, ValueFaults> {
    let ValueKind::String(text) = &value.kind else { return wrong_type(wanted, value) };
    match text.trim() {
        "" => refused(format!("is empty; expected {wanted}")),
        text => Ok(text),
    }
}

pub(super) fn text(value: &Value) -> Result<String, ValueFaults> {
    let text = string(value, "text in quotes")?;
    if text.chars().any(char::is_control) {
        return refused("contains a control character");
    }
    Ok(text.to_owned())
}

pub(super) fn path(value: &Value) -> Result<PathBuf, ValueFaults> {
    string(value, "a file name in quotes").map(PathBuf::from)
}

pub(super) fn boolean(value: &Value) -> Result<bool, ValueFaults> {
    match (&value.kind, from_variable(value)) {
        (ValueKind::Boolean(yes), _) => Ok(*yes),
        (_, Some("true")) => Ok(true),
        (_, Some("false")) => Ok(false),
        _ => wrong_type("true or false", value),
    }
}

pub(super) fn integer(value: &Value, wanted: &str) -> Result<i64, ValueFaults> {
    let number = if let ValueKind::I64(number) = &value.kind {
        Some(*number)
    } else {
        from_variable(value).and_then(|text| text.parse().ok())
    };
    number.map_or_else(|| wrong_type(wanted, value), Ok)
}

pub(super) fn business(value: &Value) -> Result<BusinessId, ValueFaults> {
    match integer(value, "a business number such as 1")? {
        number @ 1.. => Ok(BusinessId(number)),
        number => refused(format!("{number} is not a business number; write 1 or more")),
    }
}

/// Reads a duration of a second or more.
pub(super) fn span(value: &Value) -> Result<Duration, ValueFaults> {
    let span = span_or_none(value)?;
    if span.is_zero() {
        return refused("must be at least \"1s\"");
    }
    Ok(span)
}

/// Reads a duration of a second or more, or zero.
pub(super) fn span_or_none(value: &Value) -> Result<Duration, ValueFaults> {
    let text = string(value, "a duration in quotes, for example \"45m\"")?;
    let Ok(span) = humantime::parse_duration(text) else {
        return refused(format!("\"{}\" is not a duration; write for example \"45m\"", short(text)));
    };
    if !span.is_zero() && span < Duration::from_secs(1) {
        return refused(format!("\"{}\" is too short; write \"1s\" or more", short(text)));
    }
    if span > Duration::from_secs(LONGEST_DAYS * 86_400) {
        return refused(format!("\"{}\" is longer than a hundred years", short(text)));
    }
    Ok(span)
}

/// Reads how long something is kept that could still be decided, or zero.
pub(super) fn kept_span(value: &Value) -> Result<Duration, ValueFaults> {
    let span = span_or_none(value)?;
    if span > LATEST {
        return refused("is longer than eight days; older messages are no longer decided");
    }
    Ok(span)
}

/// Reads a whole number of minutes, because charges are by the minute.
pub(super) fn whole_minutes(value: &Value) -> Result<Duration, ValueFaults> {
    let span = span(value)?;
    if !span.as_secs().is_multiple_of(60) || span.subsec_nanos() > 0 {
        return refused("must be whole minutes, for example \"15m\"");
    }
    if span > LONGEST_STEP {
        return refused("is longer than a day");
    }
    Ok(span)
}

pub(super) fn currency(value: &Value) -> Result<Currency, ValueFaults> {
    let text = string(value, "a currency in quotes, for example \"GBP\"")?;
    text.parse().or_else(|()| {
        refused(format!("\"{}\" is not a currency; write its three capital letters, for example \"GBP\"", short(text)))
    })
}

/// Reads an amount in minor units.
pub(super) fn amount(value: &Value) -> Result<i64, ValueFaults> {
    match integer(value, "an amount in minor units, for example 1250 for 12.50")? {
        amount @ 0..=LARGEST_AMOUNT => Ok(amount),
        amount => refused(format!("{amount} is out of range; write 0 to {LARGEST_AMOUNT}")),
    }
}

/// Reads a size on disk, in bytes, of at least a megabyte.
pub(super) fn size(value: &Value) -> Result<u64, ValueFaults> {
    const UNITS: [(&str, u64); 3] = [("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000)];
    let text = string(value, "a size in quotes, for example \"1GB\"")?;
    let unit = UNITS.iter().find_map(|(name, bytes)| Some((text.strip_suffix(name)?.trim(), bytes)));
    let bytes = unit.and_then(|(number, bytes)| number.parse::<u32>().ok().map(|number| u64::from(number) * bytes));
    match bytes {
        Some(bytes @ 1..) => Ok(bytes),
        Some(0) => refused("must be at least \"1MB\""),
        None => refused(format!("\"{}\" is not a size; write for example \"500MB\" or \"1GB\"", short(text))),
    }
}

pub(super) fn time_of_day(value: &Value) -> Result<NaiveTime, ValueFaults> {
    let text = string(value, "a time in quotes, for example \"00:00\"")?;
    let digits = text.len() == 5 && text.as_bytes()[2] == b':';
    match NaiveTime::parse_from_str(text, "%H:%M") {
        Ok(time) if digits => Ok(time),
        _ => refused(format!("\"{}\" is not a time of day; write for example \"00:00\" or \"23:30\"", short(text))),
    }
}

/// Reads the name of a zone; validation looks it up in the zone data.
pub(super) fn time_zone(value: &Value) -> Result<String, ValueFaults> {
    string(value, "a time zone in quotes, for example \"Europe/London\"").map(str::to_owned)
}

pub(super) fn word<T: Copy>(value: &Value, words: &[(&'static str, T)]) -> Result<T, ValueFaults> {
    let known: Vec<String> = words.iter().map(|(known, _)| format!("\"{known}\"")).collect();
    let known = known.join(", ");
    let text = string(value, &format!("one of {known}"))?;
    match words.iter().find(|(known, _)| *known == text) {
        Some((_, meaning)) => Ok(*meaning),
        None => refused(format!("\"{}\" is not one of {known}", short(text))),
    }
}

pub(super) fn list<T>(value: &Value, item: impl Fn(&Value) -> Result<T, ValueFaults>) -> Result<Vec<T>, ValueFaults> {
    let ValueKind::Array(items) = &value.kind else { return wrong_type("a list in square brackets", value) };
    let mut good = Vec::with_capacity(items.len());
    let mut bad = Vec::new();
    for value in items {
        match item(value) {
            Ok(item) => good.push(item),
            Err(ValueFaults(reasons)) => {
                let at = Some(ValueOrigin::of(value).value);
                bad.extend(reasons.into_iter().map(|reason| ValueFault { at, ..reason }));
            }
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(ValueFaults(bad)) }
}

pub(super) fn vlan(value: &Value) -> Result<u16, ValueFaults> {
    let number = integer(value, "a VLAN number")?;
    match u16::try_from(number) {
        Ok(vlan @ 1..=4094) => Ok(vlan),
        _ => refused(format!("{number} is not a VLAN number; write 1 to 4094")),
    }
}

pub(super) fn mac_pattern(value: &Value) -> Result<MacPattern, ValueFaults> {
    let text = string(value, "an address in quotes, for example \"00:50:56:*\"")?;
    text.parse().or_else(|fault: MacPatternError| refused(fault.to_string()))
}

pub(super) fn vlans(value: &Value) -> Result<Vec<u16>, ValueFaults> {
    if matches!(&value.kind, ValueKind::Array(items) if items.is_empty()) {
        return refused("is empty; leave it out to include every VLAN");
    }
    list(value, vlan)
}

pub(super) fn relays(value: &Value) -> Result<Relays, ValueFaults> {
    const WORDS: [(&str, bool); 2] = [("any", true), ("none", false)];
    let wanted = "\"any\", \"none\" or a list of addresses in square brackets";
    let address = |value: &Value| {
        let text = string(value, "the address of a relay in quotes, for example \"10.1.0.1\"")?;
        let relay = text.parse::<Ipv4Addr>().ok().filter(|relay| !relay.is_unspecified());
        relay.map_or_else(
            || {
                refused(format!(
                    "\"{}\" is not the IPv4 address of a relay; write for example \"10.1.0.1\"",
                    short(text)
                ))
            },
            Ok,
        )
    };
    if let ValueKind::Array(items) = &value.kind {
        return if items.is_empty() {
            refused("is empty; write \"none\" or \"any\"")
        } else {
            list(value, address).map(Relays::Listed)
        };
    }
    string(value, wanted)?;
    word(value, &WORDS).map(|any| if any { Relays::Any } else { Relays::Listed(Vec::new()) })
}

/// Reads the name of an interface. On Linux, it has at most 15 bytes, no slash and no space (`IFNAMSIZ`,
/// dev_valid_name); an altname may have 127 (`ALTIFNAMSIZ`).
pub(super) fn interface(value: &Value) -> Result<String, ValueFaults> {
    let text = string(value, "the name of an interface in quotes, for example \"eth1\"")?;
    let odd =
        |character: char| character == '/' || character == ':' || character.is_whitespace() || character.is_control();
    if text.len() > 127 || text == "." || text == ".." || text.contains(odd) {
        return refused(format!("\"{}\" cannot be the name of an interface", short(text)));
    }
    Ok(text.to_owned())
}

/// Reads a client id. MQTT allows 65535 bytes, but brokers and logs handle long ids badly.
pub(super) fn client_id(value: &Value) -> Result<String, ValueFaults> {
    let id = text(value)?;
    if id.len() > 256 {
        return refused("is longer than 256 bytes");
    }
    Ok(id)
}

/// Reads one of `jwt.roles`: what a role of the identity provider allows, `front-desk = Checkin-List`.
pub(super) fn mapped_role(value: &Value) -> Result<(String, MappedRight), ValueFaults> {
    let text = string(value, "a role in quotes, for example \"front-desk = Checkin-List\"")?;
    let Some((theirs, ours)) = text.rsplit_once('=').map(|(theirs, ours)| (theirs.trim(), ours.trim())) else {
        return refused("has no \"=\"; write for example \"front-desk = Checkin-List\", or \"managers = admin\"");
    };
    if theirs.is_empty() {
        return refused("names no role of the identity provider before the \"=\"");
    }
    if ours == "admin" {
        return Ok((theirs.to_owned(), MappedRight::Administrator));
    }
    match ours.parse() {
        Ok(role) => Ok((theirs.to_owned(), MappedRight::Role(role))),
        Err(_) => refused(format!("\"{}\" is no role; write admin, or for example Checkin-List", short(ours))),
    }
}

/// The longest path of a Unix socket, in bytes (`sun_path` in unix(7)).
const LONGEST_SOCKET: usize = 107;

/// Reads where the API listens; `None` for `off`.
pub(super) fn listen(value: &Value) -> Result<Option<ListenAddress>, ValueFaults> {
    let text = string(value, "an address and a port in quotes, for example \"127.0.0.1:8080\", or \"off\"")?;
    if text == "off" {
        return Ok(None);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') || path.ends_with('/') {
            return refused("names no socket; write an absolute path, for example \"unix:/run/checkind/api.sock\"");
        }
        if path.len() > LONGEST_SOCKET {
            return refused(format!("is longer than the {LONGEST_SOCKET} bytes that the path of a socket may have"));
        }
        return Ok(Some(ListenAddress::Unix(PathBuf::from(path))));
    }
    match text.parse() {
        Ok(address) => Ok(Some(ListenAddress::Tcp(address))),
        Err(_) => refused(format!(
            "\"{}\" is not an address with a port; write for example \"127.0.0.1:8080\", \"[::]:8080\", \
             \"unix:/run/checkind/api.sock\" or \"off\"",
            short(text)
        )),
    }
}
