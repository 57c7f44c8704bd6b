//! PURE. The directory's entities in the shape of the platform's API: what an import file holds.
//!
//! Only the fields that we use are named; the document is stored whole, so that nothing of it is lost.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc, Weekday};
use serde::{Deserialize, Deserializer, de::Error};
use uuid::Uuid;

use super::catalogue::{Currency, Moment, Price, Priority};
use crate::base::{clock::WallTime, closed_list::closed_list, sighting::CredentialKind};

/// One entity of an import.
#[derive(Clone, Debug, PartialEq)]
pub enum Entity {
    /// `Businesses`.
    Business(BusinessEntity),
    /// `Teams`.
    Team(TeamEntity),
    /// `Tariffs`.
    Tariff(TariffEntity),
    /// `TimePasses`.
    TimePass(TimePassEntity),
    /// `Coworkers`.
    Coworker(CoworkerEntity),
    /// `CoworkerTimePasses`.
    CoworkerTimePass(CoworkerTimePassEntity),
}

closed_list! {
    /// Which kind of entity: the arrays of an import file, in the order in which they refer to each other. The row holds
    /// the array's name in an import file, the word that the database stores and the noun for people.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum EntityKind: (&'static str, &'static str, &'static str) {
        /// `Businesses`.
        Business => ("Businesses", "business", "business"),
        /// `Teams`.
        Team => ("Teams", "team", "team"),
        /// `Tariffs`.
        Tariff => ("Tariffs", "tariff", "plan"),
        /// `TimePasses`.
        TimePass => ("TimePasses", "time_pass", "kind of pass"),
        /// `Coworkers`.
        Coworker => ("Coworkers", "coworker", "coworker"),
        /// `CoworkerTimePasses`.
        CoworkerTimePass => ("CoworkerTimePasses", "coworker_time_pass", "pass"),
    }
}

impl EntityKind {
    /// The array's name in an import file.
    pub const fn array(self) -> &'static str {
        self.row().0
    }

    /// The word that the database stores.
    pub const fn word(self) -> &'static str {
        self.row().1
    }

    /// The kind with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The noun for one entity, for people: `coworker`.
    pub const fn noun(self) -> &'static str {
        self.row().2
    }

    /// Reads a document of this kind, from a value or from text.
    ///
    /// # Errors
    /// Says which field is missing or has a wrong type.
    pub fn read<'de, D: Deserializer<'de>>(self, document: D) -> Result<Entity, D::Error> {
        Ok(match self {
            Self::Business => Entity::Business(BusinessEntity::deserialize(document)?),
            Self::Team => Entity::Team(TeamEntity::deserialize(document)?),
            Self::Tariff => Entity::Tariff(TariffEntity::deserialize(document)?),
            Self::TimePass => Entity::TimePass(TimePassEntity::deserialize(document)?),
            Self::Coworker => Entity::Coworker(CoworkerEntity::deserialize(document)?),
            Self::CoworkerTimePass => Entity::CoworkerTimePass(CoworkerTimePassEntity::deserialize(document)?),
        })
    }

    /// Reads the text of a document of this kind.
    ///
    /// # Errors
    /// No JSON, or which field is missing or has a wrong type.
    pub fn read_text(self, document: &str) -> Result<Entity, serde_json::Error> {
        let mut text = serde_json::Deserializer::from_str(document);
        let entity = self.read(&mut text)?;
        text.end()?;
        Ok(entity)
    }

    /// The fields that it cannot be read without.
    pub const fn needed(self) -> &'static [&'static str] {
        match self {
            Self::Business | Self::Team | Self::Tariff | Self::TimePass => &["Id", "Name"],
            Self::Coworker => &["Id", "FullName"],
            Self::CoworkerTimePass => &["Id", "CoworkerId", "TimePassId"],
        }
    }
}

/// A location.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BusinessEntity {
    /// `Id`.
    pub id: i64,
    /// `Name`.
    pub name: String,
    /// `RootLocationId`: the location at the head of the network; what that one owns is good at all of them.
    #[serde(default)]
    pub root_location_id: Option<i64>,
}

/// A team of coworkers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TeamEntity {
    /// `Id`.
    pub id: i64,
    /// `Name`.
    pub name: String,
    /// `TeamMembers`: ids of coworkers, or objects that have one.
    #[serde(default)]
    pub team_members: Ids,
    /// `ShareTimePasses`: its members may use each other's passes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub share_time_passes: bool,
}

/// A plan. Limits that are 0 or absent are none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TariffEntity {
    /// `Id`.
    pub id: i64,
    /// `Name`.
    pub name: String,
    /// `CheckinWeekLimit`: days of access in a week.
    #[serde(default, deserialize_with = "count")]
    pub checkin_week_limit: Option<u32>,
    /// `CheckinMonthLimit`: days of access in a calendar month.
    #[serde(default, deserialize_with = "count")]
    pub checkin_month_limit: Option<u32>,
    /// `CheckinPricePlanLimit`: days of access in a billing cycle.
    #[serde(default, deserialize_with = "count")]
    pub checkin_price_plan_limit: Option<u32>,
    /// `HoursWeekLimit`.
    #[serde(default, deserialize_with = "count")]
    pub hours_week_limit: Option<u32>,
    /// `HoursMonthLimit`.
    #[serde(default, deserialize_with = "count")]
    pub hours_month_limit: Option<u32>,
    /// `HoursPricePlanLimit`: hours in a billing cycle.
    #[serde(default, deserialize_with = "count")]
    pub hours_price_plan_limit: Option<u32>,
    /// `InvoiceEvery`: months of a billing cycle; 1 when absent.
    #[serde(default, deserialize_with = "count")]
    pub invoice_every: Option<u32>,
    /// `InvoiceEveryWeeks`: weeks of a billing cycle, instead of months.
    #[serde(default, deserialize_with = "count")]
    pub invoice_every_weeks: Option<u32>,
}

/// A kind of pass.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_excessive_bools, reason = "the platform's kind of pass has these switches")]
pub struct TimePassEntity {
    /// `Id`.
    pub id: i64,
    /// `Name`.
    pub name: String,
    /// `BusinessId`: who owns it; every business when absent.
    #[serde(default)]
    pub business_id: Option<i64>,
    /// `Businesses`: where it is good; empty for where its owner is.
    #[serde(default)]
    pub businesses: Ids,
    /// `Price`.
    #[serde(default, deserialize_with = "price")]
    pub price: Option<Price>,
    /// `CurrencyCode`: ISO 4217.
    #[serde(default, deserialize_with = "currency")]
    pub currency_code: Option<Currency>,
    /// `MinutesIncluded`: absent for a day pass.
    #[serde(default, deserialize_with = "minutes")]
    pub minutes_included: Option<u32>,
    /// `CountsTowardsPlanLimits`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub counts_towards_plan_limits: bool,
    /// `UseAsPayAsYouGoForMembers`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub use_as_pay_as_you_go_for_members: bool,
    /// `UseAsPayAsYouGoForContacts`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub use_as_pay_as_you_go_for_contacts: bool,
    /// `UsePriority`: `High`, `Normal`, `Low`, or 1, 2, 3; normal when absent.
    #[serde(default, deserialize_with = "priority")]
    pub use_priority: Priority,
    /// `AllowNetworkCheckin`, which the platform also spells `AllowNetworkCheckIn`; true when absent.
    #[serde(default = "yes", alias = "AllowNetworkCheckIn", deserialize_with = "null_is_yes")]
    pub allow_network_checkin: bool,
    /// `OnlyForMembers`: people with a plan.
    #[serde(default, deserialize_with = "null_is_default")]
    pub only_for_members: bool,
    /// `OnlyForContacts`: people without a plan.
    #[serde(default, deserialize_with = "null_is_default")]
    pub only_for_contacts: bool,
    /// `Tariffs`: the plans whose people may use it; empty for all.
    #[serde(default)]
    pub tariffs: Ids,
    /// `TimeSlots`: when it is good; empty for always.
    #[serde(default, deserialize_with = "null_is_default")]
    pub time_slots: Vec<TimeSlot>,
    /// `Archived`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub archived: bool,
}

/// A stretch of a weekday in which a kind of pass is good.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TimeSlot {
    /// `DayOfWeek`: 0 (Sunday) to 6 (Saturday), or its English name.
    #[serde(deserialize_with = "weekday")]
    pub day_of_week: Weekday,
    /// `FromTime`: `09:00` on the business's wall clock, or an instant as the platform writes it.
    pub from_time: TimeOfDay,
    /// `ToTime`: not after `FromTime`, it is a time of the next day; `23:59` is the end of the day.
    pub to_time: TimeOfDay,
}

/// A time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOfDay {
    /// Minutes from midnight.
    pub minutes: u16,
    /// Of UTC, not of the business's wall clock.
    pub utc: bool,
}

/// A pass that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_excessive_bools, reason = "the platform's pass has these switches")]
pub struct CoworkerTimePassEntity {
    /// `Id`.
    pub id: i64,
    /// `UniqueId`; made of the `Id` when absent.
    #[serde(default)]
    pub unique_id: Option<Uuid>,
    /// `CoworkerId`.
    pub coworker_id: i64,
    /// `TimePassId`.
    pub time_pass_id: i64,
    /// `Used`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub used: bool,
    /// `UsedDate`.
    #[serde(default, deserialize_with = "moment")]
    pub used_date: Option<Moment>,
    /// `RemainingUses`: days of a day pass, minutes of a time pass, except where `TotalUses` is 1: then it counts the pass.
    #[serde(default, deserialize_with = "count")]
    pub remaining_uses: Option<u32>,
    /// `TotalUses`.
    #[serde(default, deserialize_with = "count")]
    pub total_uses: Option<u32>,
    /// `RemainingMinutes` (our addition): of a time pass.
    #[serde(default, deserialize_with = "count")]
    pub remaining_minutes: Option<u32>,
    /// `Free`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub free: bool,
    /// `Price`; that of its kind when absent.
    #[serde(default, deserialize_with = "price")]
    pub price: Option<Price>,
    /// `ExpireDate`: an instant, or a date that is the last day.
    #[serde(default, deserialize_with = "moment")]
    pub expire_date: Option<Moment>,
    /// `IsFromTariff`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub is_from_tariff: bool,
    /// `IsPayAsYouGo`: the trace of a charge of the platform, never used again.
    #[serde(default, deserialize_with = "null_is_default")]
    pub is_pay_as_you_go: bool,
    /// `TariffTimePassUniqueId`.
    #[serde(default)]
    pub tariff_time_pass_unique_id: Option<String>,
    /// `CoworkerProductUniqueId`.
    #[serde(default)]
    pub coworker_product_unique_id: Option<String>,
    /// `CoworkerContractUniqueId`.
    #[serde(default)]
    pub coworker_contract_unique_id: Option<String>,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CoworkerEntity {
    /// `Id`.
    pub id: i64,
    /// `FullName`.
    pub full_name: String,
    /// `Active`; true when absent.
    #[serde(default = "yes", deserialize_with = "null_is_yes")]
    pub active: bool,
    /// `Archived`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub archived: bool,
    /// `AllowNetworkCheckin`; true when absent, because whoever registers a device wants it to count.
    #[serde(default = "yes", deserialize_with = "null_is_yes")]
    pub allow_network_checkin: bool,
    /// `AccessCardId`: card numbers, separated by `,`.
    #[serde(default, deserialize_with = "text_or_number")]
    pub access_card_id: Option<String>,
    /// `KeyFobNumber`: fob numbers, separated by `,`.
    #[serde(default, deserialize_with = "text_or_number")]
    pub key_fob_number: Option<String>,
    /// `AccessPincode`: PINs, separated by `,`; stored as digests only.
    #[serde(default, deserialize_with = "text_or_number")]
    pub access_pincode: Option<String>,
    /// `MacAddresses` (our addition): devices, separated by `,`.
    #[serde(default)]
    pub mac_addresses: Option<String>,
    /// `Slots` (our addition): slots of locks, each `scope/number`, separated by `,` ([`super::scoped`]).
    #[serde(default)]
    pub slots: Option<String>,
    /// `AccessUsers` (our addition): what controllers know them by, each `scope/id`, separated by `,`.
    #[serde(default)]
    pub access_users: Option<String>,
    /// `AccessNames` (our addition): what controllers call them, each `scope/name`, separated by `,`.
    #[serde(default)]
    pub access_names: Option<String>,
    /// `ByHand` (our addition): what was assigned by hand, in the same fields. No import brings or takes it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub by_hand: BTreeMap<CredentialField, String>,
    /// `TariffId`.
    #[serde(default)]
    pub tariff_id: Option<i64>,
    /// `TariffName`, used when `TariffId` names no known plan.
    #[serde(default)]
    pub tariff_name: Option<String>,
    /// `TeamNames`: separated by `,`.
    #[serde(default)]
    pub team_names: Option<String>,
    /// `Teams`: ids, or objects that have one.
    #[serde(default)]
    pub teams: Ids,
    /// `Businesses`: ids, or objects that have one; empty for the whole network.
    #[serde(default)]
    pub businesses: Ids,
    /// `InvoicingBusinessId`.
    #[serde(default)]
    pub invoicing_business_id: Option<i64>,
    /// `RenewalDate`: a day on which a billing cycle begins.
    #[serde(default, deserialize_with = "moment")]
    pub renewal_date: Option<Moment>,
    /// `RegistrationDate`: the same, where there is no `RenewalDate`.
    #[serde(default, deserialize_with = "moment")]
    pub registration_date: Option<Moment>,
}

impl CoworkerEntity {
    /// Every credential of theirs as it is written, imported or assigned by hand.
    pub fn credentials(&self) -> impl Iterator<Item = (CredentialField, &str)> {
        CredentialField::ALL.into_iter().flat_map(|field| {
            let by_hand = self.by_hand.get(&field).map(String::as_str);
            listed(self.imported(field)).chain(listed(by_hand)).map(move |value| (field, value))
        })
    }

    fn imported(&self, field: CredentialField) -> Option<&str> {
        let text = match field {
            CredentialField::AccessCardId => &self.access_card_id,
            CredentialField::KeyFobNumber => &self.key_fob_number,
            CredentialField::AccessPincode => &self.access_pincode,
            CredentialField::MacAddresses => &self.mac_addresses,
            CredentialField::Slots => &self.slots,
            CredentialField::AccessUsers => &self.access_users,
            CredentialField::AccessNames => &self.access_names,
        };
        text.as_deref()
    }
}

closed_list! {
    /// A field of a coworker that holds credentials. The row holds its key in a document, and the type that a reader
    /// gives the credential: none for devices, which no reader sees.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
    pub enum CredentialField: (&'static str, Option<CredentialKind>) {
        /// Cards.
        AccessCardId => ("AccessCardId", Some(CredentialKind::Card)),
        /// Fobs, which are cards to a reader.
        KeyFobNumber => ("KeyFobNumber", Some(CredentialKind::Card)),
        /// PINs, as digests.
        AccessPincode => ("AccessPincode", Some(CredentialKind::Pin)),
        /// Devices.
        MacAddresses => ("MacAddresses", None),
        /// Slots of locks.
        Slots => ("Slots", Some(CredentialKind::Slot)),
        /// User ids of controllers.
        AccessUsers => ("AccessUsers", Some(CredentialKind::User)),
        /// Names that controllers use.
        AccessNames => ("AccessNames", Some(CredentialKind::Name)),
    }
}

impl CredentialField {
    /// Its key in a document.
    pub const fn key(self) -> &'static str {
        self.row().0
    }

    /// Does this key hold credentials?
    pub fn holds(key: &str) -> bool {
        Self::ALL.iter().any(|field| field.key() == key)
    }

    /// The type that a reader gives the credential; none for devices, which no reader sees.
    pub const fn kind(self) -> Option<CredentialKind> {
        self.row().1
    }
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

/// The values of a `,`-separated field, trimmed, empty ones left out.
pub fn listed(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|value| !value.is_empty())
}

fn yes() -> bool {
    true
}

fn null_is_yes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Option::deserialize(deserializer).map(|value| value.unwrap_or(true))
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Card numbers are often exported as numbers; their text is what counts.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
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

/// A number that counts something; none for null.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else { return Ok(None) };
    // Some exports write whole numbers with a fraction of zero.
    let text = number.to_string();
    let whole = text.strip_suffix(".0").unwrap_or(&text);
    whole
        .parse()
        .map(Some)
        .map_err(|_| D::Error::custom(format!("{number} is not a whole number from 0 to {}", u32::MAX)))
}

/// A pass for no minutes could be meant as one for days, or for nothing.
fn minutes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match count(deserializer)? {
        Some(0) => Err(D::Error::custom("0 minutes are of no use; leave it out for a day pass")),
        minutes => Ok(minutes),
    }
}

fn price<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Price>, D::Error> {
    let Some(text) = text_or_number(deserializer)? else { return Ok(None) };
    read_price(&text)
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("\"{text}\" is not a price; write for example 12.5")))
}

/// Digits, and up to four after a point; up to eleven before it, so that no sum of prices overflows.
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

fn currency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Currency>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    text.parse()
        .map(Some)
        .map_err(|()| D::Error::custom(format!("\"{text}\" is not a currency; write for example GBP")))
}

fn priority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Priority, D::Error> {
    match text_or_number(deserializer)?.as_deref() {
        None | Some("0" | "2" | "Normal") => Ok(Priority::Normal),
        Some("1" | "High") => Ok(Priority::High),
        Some("3" | "Low") => Ok(Priority::Low),
        Some(text) => Err(D::Error::custom(format!("\"{text}\" is not one of High, Normal, Low, 1, 2, 3"))),
    }
}

fn weekday<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Weekday, D::Error> {
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
                Err(D::Error::custom(format!("\"{text}\" is not a time of day; write for example 09:00")))
            }
        }
    }
}

fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Moment>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    read_moment(&text).map(Some).ok_or_else(|| {
        let example = "2026-01-31 or 2026-01-31T18:00:00Z";
        D::Error::custom(format!("\"{text}\" is not a date; write for example {example}"))
    })
}

/// A date, an instant, or a date with a time that has no zone: that is UTC, as everything of the platform.
fn read_moment(text: &str) -> Option<Moment> {
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(Moment::Date(date));
    }
    let zoned = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
    let plain = || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok().map(|at| at.and_utc());
    zoned.or_else(plain).map(|at: DateTime<Utc>| Moment::Instant(WallTime::from(at)))
}
