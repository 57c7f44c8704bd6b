//! PURE. The keys: which there are, what each may hold, and its value in a type of its own. All of them may be absent.
//!
//! Never here: which keys are required, and what they mean together (`settings::validate`).

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use chrono::{NaiveTime, Weekday};
use config::{Map, Value, ValueKind};

use super::{
    CaptureBackend, MacPattern, MacPatternError, Relays,
    fragment::{At, did_you_mean},
    report::{FAULTS_SHOWN, Finding, Show, Span},
};
use crate::{
    base::record::BusinessId,
    directory::catalogue::Currency,
    policy::{
        door::DoorAction,
        passes::PassesAsked,
        site::{NetworkOpens, UnrecognisedDevices},
    },
};

/// The longest span that can be configured, in days: a hundred years. Longer ones are slips, and would carry the
/// calendar's arithmetic out of its range.
const LONGEST_DAYS: u64 = 36_525;

/// The longest step of pay-as-you-go: a visit does not outlast its pass day.
const LONGEST_STEP: Duration = Duration::from_hours(24);

/// The largest amount of money that can be configured, in minor units: far above the price of any day, and far below
/// where sums of them would overflow.
const LARGEST_AMOUNT: i64 = 1_000_000_000_000;

/// The sections as written; of a fragment, or of all layers together.
#[derive(Debug, Default)]
pub(super) struct WrittenSections {
    pub(super) database: DatabaseWritten,
    pub(super) spool: SpoolWritten,
    pub(super) site: SiteWritten,
    pub(super) pay_as_you_go: PayAsYouGoWritten,
    pub(super) lease: LeaseWritten,
    pub(super) mqtt: MqttWritten,
    pub(super) api: ApiWritten,
    pub(super) retention: RetentionWritten,
}

impl WrittenSections {
    /// Reads the sections; everything that is wrong with a single value goes to `findings`.
    pub(super) fn read(sections: &Map<String, Value>, findings: &mut Vec<Finding>) -> Self {
        let mut written = Self::default();
        for (name, value) in sections {
            let place = At::of(value).key;
            match name.as_str() {
                "database" => {
                    written.database = DatabaseWritten::read(SectionReader::open("[database]", place, value, findings));
                }
                "spool" => written.spool = SpoolWritten::read(SectionReader::open("[spool]", place, value, findings)),
                "site" => written.site = SiteWritten::read(SectionReader::open("[site]", place, value, findings)),
                "pay_as_you_go" => {
                    written.pay_as_you_go =
                        PayAsYouGoWritten::read(SectionReader::open("[pay_as_you_go]", place, value, findings));
                }
                "lease" => written.lease = LeaseWritten::read(SectionReader::open("[lease]", place, value, findings)),
                "mqtt" => written.mqtt = MqttWritten::read(SectionReader::open("[mqtt]", place, value, findings)),
                "api" => written.api = ApiWritten::read(SectionReader::open("[api]", place, value, findings)),
                "retention" => {
                    written.retention =
                        RetentionWritten::read(SectionReader::open("[retention]", place, value, findings));
                }
                // The fragment has refused it.
                _ => {}
            }
        }
        written
    }
}

/// `[database]`.
#[derive(Debug, Default)]
pub(super) struct DatabaseWritten {
    pub(super) url: Given<DatabaseUrl>,
    pub(super) password_file: Given<PathBuf>,
}

impl DatabaseWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self { url: table.take("url", database_url), password_file: table.take("password_file", path) };
        table.close();
        read
    }
}

/// `[spool]`.
#[derive(Debug, Default)]
pub(super) struct SpoolWritten {
    pub(super) path: Given<PathBuf>,
    /// Bytes.
    pub(super) limit: Given<u64>,
}

impl SpoolWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self { path: table.take("path", path), limit: table.take("limit", size) };
        table.close();
        read
    }
}

/// `[site]`.
#[derive(Debug, Default)]
pub(super) struct SiteWritten {
    pub(super) business: Given<BusinessId>,
    pub(super) name: Given<String>,
    pub(super) time_zone: Given<String>,
    pub(super) cut_off: Given<NaiveTime>,
    pub(super) idle_limit: Given<Duration>,
    pub(super) record_every_visit: Given<bool>,
    pub(super) minimum_dwell: Given<Duration>,
    pub(super) linger: Given<Duration>,
    pub(super) network_opens: Given<NetworkOpens>,
    pub(super) unrecognised_devices: Given<UnrecognisedDevices>,
    pub(super) network_checkins: Given<bool>,
    pub(super) debounce: Given<Duration>,
    pub(super) toggle_minimum_stay: Given<Duration>,
    pub(super) passes: Given<PassesAsked>,
    pub(super) week_starts_on: Given<Weekday>,
}

impl SiteWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            business: table.take("business", business),
            name: table.take("name", text),
            time_zone: table.take("time_zone", time_zone),
            cut_off: table.take("cut_off", time_of_day),
            idle_limit: table.take("idle_limit", span),
            record_every_visit: table.take("record_every_visit", boolean),
            minimum_dwell: table.take("minimum_dwell", span_or_none),
            linger: table.take("linger", span),
            network_opens: table.take("network_opens", |value| word(value, &NETWORK_OPENS)),
            unrecognised_devices: table.take("unrecognised_devices", |value| word(value, &UNRECOGNISED_DEVICES)),
            network_checkins: table.take("network_checkins", boolean),
            debounce: table.take("debounce", span),
            toggle_minimum_stay: table.take("toggle_minimum_stay", span),
            passes: table.take("passes", |value| word(value, &PASSES)),
            week_starts_on: table.take("week_starts_on", |value| word(value, &WEEKDAYS)),
        };
        table.close();
        read
    }
}

const NETWORK_OPENS: [(&str, NetworkOpens); 3] =
    [("always", NetworkOpens::Always), ("after-door", NetworkOpens::AfterDoor), ("never", NetworkOpens::Never)];

const UNRECOGNISED_DEVICES: [(&str, UnrecognisedDevices); 3] = [
    ("all", UnrecognisedDevices::All),
    ("global-only", UnrecognisedDevices::GlobalOnly),
    ("off", UnrecognisedDevices::Off),
];

const PASSES: [(&str, PassesAsked); 3] =
    [("if-any", PassesAsked::IfAny), ("required", PassesAsked::Required), ("off", PassesAsked::Off)];

const WEEKDAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Mon),
    ("tuesday", Weekday::Tue),
    ("wednesday", Weekday::Wed),
    ("thursday", Weekday::Thu),
    ("friday", Weekday::Fri),
    ("saturday", Weekday::Sat),
    ("sunday", Weekday::Sun),
];

/// `[pay_as_you_go]`.
#[derive(Debug, Default)]
pub(super) struct PayAsYouGoWritten {
    pub(super) enabled: Given<bool>,
    pub(super) currency: Given<Currency>,
    pub(super) minimum: Given<i64>,
    /// 0 for none.
    pub(super) maximum: Given<i64>,
    pub(super) step: Given<Duration>,
}

impl PayAsYouGoWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            enabled: table.take("enabled", boolean),
            currency: table.take("currency", currency),
            minimum: table.take("minimum", amount),
            maximum: table.take("maximum", amount),
            step: table.take("step", whole_minutes),
        };
        table.close();
        read
    }
}

/// `[lease]`.
#[derive(Debug, Default)]
pub(super) struct LeaseWritten {
    pub(super) holder: Given<String>,
}

impl LeaseWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self { holder: table.take("holder", text) };
        table.close();
        read
    }
}

/// `[mqtt]`.
#[derive(Debug, Default)]
pub(super) struct MqttWritten {
    pub(super) url: Given<BrokerUrl>,
    pub(super) client_id: Given<String>,
    pub(super) username: Given<String>,
    pub(super) password_file: Given<PathBuf>,
    pub(super) ca_file: Given<PathBuf>,
    pub(super) cert_file: Given<PathBuf>,
    pub(super) key_file: Given<PathBuf>,
}

impl MqttWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            url: table.take("url", broker_url),
            client_id: table.take("client_id", client_id),
            username: table.take("username", text),
            password_file: table.take("password_file", path),
            ca_file: table.take("ca_file", path),
            cert_file: table.take("cert_file", path),
            key_file: table.take("key_file", path),
        };
        table.close();
        read
    }
}

/// `[api]`.
#[derive(Debug, Default)]
pub(super) struct ApiWritten {
    /// None for `off`.
    pub(super) listen: Given<Option<SocketAddr>>,
}

impl ApiWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self { listen: table.take("listen", listen) };
        table.close();
        read
    }
}

/// `[retention]`; zero means kept.
#[derive(Debug, Default)]
pub(super) struct RetentionWritten {
    pub(super) sightings: Given<Duration>,
    pub(super) checkins: Given<Duration>,
    pub(super) failed_checkins: Given<Duration>,
    pub(super) unrecognised: Given<Duration>,
}

impl RetentionWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            sightings: table.take("sightings", span_or_none),
            checkins: table.take("checkins", span_or_none),
            failed_checkins: table.take("failed_checkins", span_or_none),
            unrecognised: table.take("unrecognised", span_or_none),
        };
        table.close();
        read
    }
}

/// One `[[door]]`.
#[derive(Debug)]
pub(super) struct DoorWritten {
    pub(super) place: Span,
    pub(super) pattern: Given<String>,
    pub(super) name: Given<String>,
    pub(super) on_in: Given<DoorAction>,
    pub(super) on_out: Given<DoorAction>,
}

impl DoorWritten {
    pub(super) fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            place: table.place,
            pattern: table.take("match", text),
            name: table.take("name", text),
            on_in: table.take("on_in", |value| word(value, &DOOR_ACTIONS)),
            on_out: table.take("on_out", |value| word(value, &DOOR_ACTIONS)),
        };
        table.close();
        read
    }
}

const DOOR_ACTIONS: [(&str, DoorAction); 5] = [
    ("check_in", DoorAction::CheckIn),
    ("check_out", DoorAction::CheckOut),
    ("toggle", DoorAction::Toggle),
    ("activity", DoorAction::Activity),
    ("record", DoorAction::Record),
];

/// One `[[capture]]`.
#[derive(Debug)]
pub(super) struct CaptureWritten {
    pub(super) place: Span,
    pub(super) interface: Given<String>,
    pub(super) vlans: Given<Vec<u16>>,
    pub(super) ignore: Given<Vec<MacPattern>>,
    pub(super) relays: Given<Relays>,
    pub(super) backend: Given<CaptureBackend>,
}

impl CaptureWritten {
    pub(super) fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            place: table.place,
            interface: table.take("interface", interface),
            vlans: table.take("vlans", vlans),
            ignore: table.take("ignore", |value| list(value, mac_pattern)),
            relays: table.take("relays", relays),
            backend: table.take("backend", |value| word(value, &BACKENDS)),
        };
        table.close();
        read
    }
}

const BACKENDS: [(&str, CaptureBackend); 2] = [("ring", CaptureBackend::Ring), ("portable", CaptureBackend::Portable)];

/// What a key holds.
#[derive(Debug, Clone, Default)]
pub(super) enum Given<T> {
    /// Not written.
    #[default]
    Absent,
    /// Written, and already refused: nobody needs to be told that it is missing.
    Faulty,
    /// Written.
    Good(T, Span),
}

impl<T> Given<T> {
    /// The value, if it is written and good.
    pub(super) fn good(self) -> Option<T> {
        match self {
            Self::Good(value, _) => Some(value),
            Self::Absent | Self::Faulty => None,
        }
    }

    /// Where it is written by the operator, good; a shipped default is written nowhere.
    pub(super) fn place(&self) -> Option<Span> {
        match self {
            Self::Good(_, place) if *place != Span::SHIPPED => Some(*place),
            Self::Good(..) | Self::Absent | Self::Faulty => None,
        }
    }

    /// Not written, not even wrongly.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A section that is being read: what is asked for is known, what is left over is not.
#[derive(Debug)]
pub(super) struct SectionReader<'t> {
    label: &'static str,
    place: Span,
    entries: Option<&'t Map<String, Value>>,
    asked: Vec<&'static str>,
    findings: &'t mut Vec<Finding>,
}

impl<'t> SectionReader<'t> {
    pub(super) fn open(label: &'static str, place: Span, value: &'t Value, findings: &'t mut Vec<Finding>) -> Self {
        let entries = if let ValueKind::Table(entries) = &value.kind { Some(entries) } else { None };
        Self { label, place, entries, asked: Vec::new(), findings }
    }

    fn take<T>(&mut self, key: &'static str, read: impl FnOnce(&Value) -> Result<T, ValueFaults>) -> Given<T> {
        self.asked.push(key);
        let Some(value) = self.entries.and_then(|entries| entries.get(key)) else { return Given::Absent };
        let place = At::of(value).value;
        let ValueFaults(refused) = match read(value) {
            Ok(good) => return Given::Good(good, place),
            Err(refused) => refused,
        };
        for ValueFault { at, show, message } in refused {
            let place = at.unwrap_or(place);
            self.findings.push(Finding { place, show, key: key.to_owned(), message });
        }
        Given::Faulty
    }

    fn close(self) {
        let mut unknown: Vec<(At, &String)> = self
            .entries
            .into_iter()
            .flatten()
            .filter(|(key, _)| !self.asked.contains(&key.as_str()))
            .map(|(key, value)| (At::of(value), key))
            .collect();
        unknown.sort_by_key(|(at, _)| at.key);
        for (count, (At { key: place, variable, .. }, key)) in unknown.into_iter().enumerate() {
            let section = self.label.trim_matches(['[', ']']);
            let spell = |known: &str| {
                if variable { format!("CHECKIND__{section}__{known}").to_uppercase() } else { known.to_owned() }
            };
            // What is not printed needs no advice: looking for near names is the dear part.
            let printed = count < FAULTS_SHOWN;
            let advice = if printed { did_you_mean(key, self.asked.iter().copied(), spell) } else { String::new() };
            let message = format!("unknown key of {}; {advice}", self.label);
            self.findings.push(Finding { place, show: Show::Start, key: key.clone(), message });
        }
    }
}

/// Why a value is refused; a list may have several reasons.
struct ValueFaults(Vec<ValueFault>);

struct ValueFault {
    /// The item of a list; the whole value when absent.
    at: Option<Span>,
    show: Show,
    message: String,
}

fn refused<T>(message: impl Into<String>) -> Result<T, ValueFaults> {
    Err(ValueFaults(vec![ValueFault { at: None, show: Show::Line, message: message.into() }]))
}

/// Refuses a value that holds a secret, without printing its line.
fn refused_unseen<T>(message: impl Into<String>) -> Result<T, ValueFaults> {
    Err(ValueFaults(vec![ValueFault { at: None, show: Show::Nothing, message: message.into() }]))
}

fn wrong_type<T>(wanted: &str, value: &Value) -> Result<T, ValueFaults> {
    if let Some(text) = from_variable(value) {
        return refused(format!("expected {wanted}, found \"{}\"", short(text)));
    }
    let found = match &value.kind {
        ValueKind::Nil => "a date or a time without quotes",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::U64(_) => "a number",
        ValueKind::I128(_) | ValueKind::U128(_) => "a number out of range",
        ValueKind::Float(_) => "a fraction",
        ValueKind::String(_) => "text in quotes",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    };
    refused(format!("expected {wanted}, found {found}"))
}

fn string<'v>(value: &'v Value, wanted: &str) -> Result<&'v str, ValueFaults> {
    let ValueKind::String(text) = &value.kind else { return wrong_type(wanted, value) };
    match text.trim() {
        "" => refused(format!("is empty; expected {wanted}")),
        text => Ok(text),
    }
}

fn text(value: &Value) -> Result<String, ValueFaults> {
    let text = string(value, "text in quotes")?;
    if text.chars().any(char::is_control) {
        return refused("holds a control character");
    }
    Ok(text.to_owned())
}

fn path(value: &Value) -> Result<PathBuf, ValueFaults> {
    string(value, "a file name in quotes").map(PathBuf::from)
}

/// In the environment everything is text.
fn from_variable(value: &Value) -> Option<&str> {
    let ValueKind::String(text) = &value.kind else { return None };
    At::of(value).variable.then_some(text.trim())
}

fn boolean(value: &Value) -> Result<bool, ValueFaults> {
    match (&value.kind, from_variable(value)) {
        (ValueKind::Boolean(yes), _) => Ok(*yes),
        (_, Some("true")) => Ok(true),
        (_, Some("false")) => Ok(false),
        _ => wrong_type("true or false", value),
    }
}

fn integer(value: &Value, wanted: &str) -> Result<i64, ValueFaults> {
    let number = if let ValueKind::I64(number) = &value.kind {
        Some(*number)
    } else {
        from_variable(value).and_then(|text| text.parse().ok())
    };
    number.map_or_else(|| wrong_type(wanted, value), Ok)
}

fn business(value: &Value) -> Result<BusinessId, ValueFaults> {
    match integer(value, "the number of a business, such as 1")? {
        number @ 1.. => Ok(BusinessId(number)),
        number => refused(format!("{number} is not the number of a business; they begin at 1")),
    }
}

/// Anything from a second up.
fn span(value: &Value) -> Result<Duration, ValueFaults> {
    let span = span_or_none(value)?;
    if span.is_zero() {
        return refused("must be at least \"1s\"");
    }
    Ok(span)
}

/// Anything from a second up, or zero.
fn span_or_none(value: &Value) -> Result<Duration, ValueFaults> {
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

/// What is charged by the minute goes by whole ones.
fn whole_minutes(value: &Value) -> Result<Duration, ValueFaults> {
    let span = span(value)?;
    if !span.as_secs().is_multiple_of(60) || span.subsec_nanos() > 0 {
        return refused("must be whole minutes, for example \"15m\"");
    }
    if span > LONGEST_STEP {
        return refused("is longer than a day");
    }
    Ok(span)
}

fn currency(value: &Value) -> Result<Currency, ValueFaults> {
    let text = string(value, "a currency in quotes, for example \"GBP\"")?;
    text.parse().or_else(|()| {
        refused(format!("\"{}\" is not a currency; write its three capital letters, for example \"GBP\"", short(text)))
    })
}

/// Minor units.
fn amount(value: &Value) -> Result<i64, ValueFaults> {
    match integer(value, "an amount in minor units, for example 1250 for 12.50")? {
        amount @ 0..=LARGEST_AMOUNT => Ok(amount),
        amount => refused(format!("{amount} is not an amount from 0 to {LARGEST_AMOUNT}")),
    }
}

/// A size on a disk, in bytes, from a megabyte up.
fn size(value: &Value) -> Result<u64, ValueFaults> {
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

fn time_of_day(value: &Value) -> Result<NaiveTime, ValueFaults> {
    let text = string(value, "a time in quotes, for example \"00:00\"")?;
    let digits = text.len() == 5 && text.as_bytes()[2] == b':';
    match NaiveTime::parse_from_str(text, "%H:%M") {
        Ok(time) if digits => Ok(time),
        _ => refused(format!("\"{}\" is not a time of day; write for example \"00:00\" or \"23:30\"", short(text))),
    }
}

/// Its name; whether there is such a zone, the zone data says.
fn time_zone(value: &Value) -> Result<String, ValueFaults> {
    string(value, "a time zone in quotes, for example \"Europe/London\"").map(str::to_owned)
}

fn word<T: Copy>(value: &Value, words: &[(&'static str, T)]) -> Result<T, ValueFaults> {
    let known: Vec<String> = words.iter().map(|(known, _)| format!("\"{known}\"")).collect();
    let known = known.join(", ");
    let text = string(value, &format!("one of {known}"))?;
    match words.iter().find(|(known, _)| *known == text) {
        Some((_, meaning)) => Ok(*meaning),
        None => refused(format!("\"{}\" is not one of {known}", short(text))),
    }
}

fn list<T>(value: &Value, item: impl Fn(&Value) -> Result<T, ValueFaults>) -> Result<Vec<T>, ValueFaults> {
    let ValueKind::Array(items) = &value.kind else { return wrong_type("a list in square brackets", value) };
    let mut good = Vec::with_capacity(items.len());
    let mut bad = Vec::new();
    for value in items {
        match item(value) {
            Ok(item) => good.push(item),
            Err(ValueFaults(reasons)) => {
                let at = Some(At::of(value).value);
                bad.extend(reasons.into_iter().map(|reason| ValueFault { at, ..reason }));
            }
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(ValueFaults(bad)) }
}

fn vlan(value: &Value) -> Result<u16, ValueFaults> {
    let number = integer(value, "a VLAN number")?;
    match u16::try_from(number) {
        Ok(vlan @ 1..=4094) => Ok(vlan),
        _ => refused(format!("{number} is not a VLAN number; they are 1 to 4094")),
    }
}

fn mac_pattern(value: &Value) -> Result<MacPattern, ValueFaults> {
    let text = string(value, "an address in quotes, for example \"00:50:56:*\"")?;
    text.parse().or_else(|fault: MacPatternError| refused(fault.to_string()))
}

fn vlans(value: &Value) -> Result<Vec<u16>, ValueFaults> {
    if matches!(&value.kind, ValueKind::Array(items) if items.is_empty()) {
        return refused("is empty; leave it out where every VLAN counts");
    }
    list(value, vlan)
}

fn relays(value: &Value) -> Result<Relays, ValueFaults> {
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

/// Linux: at most 15 bytes, no slash, no space (`IFNAMSIZ`, dev_valid_name); an altname may have 127 (`ALTIFNAMSIZ`).
fn interface(value: &Value) -> Result<String, ValueFaults> {
    let text = string(value, "the name of an interface in quotes, for example \"eth1\"")?;
    let odd =
        |character: char| character == '/' || character == ':' || character.is_whitespace() || character.is_control();
    if text.len() > 127 || text == "." || text == ".." || text.contains(odd) {
        return refused(format!("\"{}\" cannot be the name of an interface", short(text)));
    }
    Ok(text.to_owned())
}

/// `database.url`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DatabaseUrl {
    Sqlite(PathBuf),
    Postgres(String),
}

fn database_url(value: &Value) -> Result<DatabaseUrl, ValueFaults> {
    let wanted = "\"sqlite:/var/lib/checkind/checkind.db\" or \"postgres://checkind@db.example/checkind\"";
    let text = string(value, wanted)?;
    if let Some(path) = text.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return match path {
            "" => refused("names no file; write for example \"sqlite:/var/lib/checkind/checkind.db\""),
            ":memory:" => refused("a database in memory forgets every check-in; name a file"),
            path if path.contains('?') => refused("parameters are not supported; write the path alone"),
            path => Ok(DatabaseUrl::Sqlite(PathBuf::from(path))),
        };
    }
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        // Not printed: whatever it is, it may hold a password.
        return refused_unseen(format!("is not the URL of a database; expected {wanted}"));
    }
    let Ok(url) = url::Url::parse(text) else {
        return refused_unseen("is not a URL; expected postgres://USER@HOST/DATABASE");
    };
    if url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password") {
        return refused_unseen("holds a password; write it into a file and name that file as password_file");
    }
    if url.path().trim_matches('/').is_empty() {
        return refused("names no database; expected postgres://USER@HOST/DATABASE");
    }
    Ok(DatabaseUrl::Postgres(text.to_owned()))
}

/// `mqtt.url`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BrokerUrl {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

fn broker_url(value: &Value) -> Result<BrokerUrl, ValueFaults> {
    let wanted = "\"mqtts://broker.example:8883\", or mqtt:// without TLS";
    let text = string(value, wanted)?;
    let Ok(url) = url::Url::parse(text) else {
        return refused_unseen(format!("is not the URL of a broker; expected {wanted}"));
    };
    let tls = match url.scheme() {
        "mqtt" => false,
        "mqtts" => true,
        _ => return refused_unseen(format!("is not the URL of a broker; expected {wanted}")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return refused_unseen(
            "holds a user name or a password; write username, and password_file with the name of a file",
        );
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    if host.is_empty() {
        return refused(format!("names no host; expected {wanted}"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return refused(format!("ends behind the port; expected {wanted}"));
    }
    match url.port() {
        Some(0) => refused("0 is not the port of a broker"),
        port => Ok(BrokerUrl { host: host.to_owned(), port: port.unwrap_or(if tls { 8883 } else { 1883 }), tls }),
    }
}

/// MQTT allows 65535 bytes; brokers and their logs do not enjoy them.
fn client_id(value: &Value) -> Result<String, ValueFaults> {
    let id = text(value)?;
    if id.len() > 256 {
        return refused("is longer than 256 bytes");
    }
    Ok(id)
}

fn listen(value: &Value) -> Result<Option<SocketAddr>, ValueFaults> {
    let text = string(value, "an address and a port in quotes, for example \"127.0.0.1:8080\", or \"off\"")?;
    if text == "off" {
        return Ok(None);
    }
    match text.parse() {
        Ok(address) => Ok(Some(address)),
        Err(_) => refused(format!(
            "\"{}\" is not an address with a port; write for example \"127.0.0.1:8080\", \"[::]:8080\" or \"off\"",
            short(text)
        )),
    }
}

/// Enough of a value to recognise it.
pub(super) fn short(text: &str) -> String {
    if text.chars().count() <= 60 {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(60).collect::<String>())
    }
}
