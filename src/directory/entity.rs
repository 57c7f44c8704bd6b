//! PURE. The directory's entities in the shape of the platform's API: the contents of an import file.
//!
//! Only the fields that we use are named. The document is stored whole, so nothing is lost.

mod fields;
mod keys;

pub use fields::{Ids, TimeOfDay, listed};

use std::collections::BTreeMap;

use chrono::Weekday;
use fields::{
    count, currency, minutes, moment, null_is_default, null_is_yes, price, priority, text_if_any, text_or_number,
    weekday, yes,
};
use keys::keys_of;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use super::catalogue::{Currency, Moment, Price, Priority};
use crate::base::{closed_list::closed_list, sighting::CredentialKind};

/// The first id of entities that are created here. The platform's ids have ten digits; from here on, ids never meet one
/// of them, and every client that reads numbers as floating point still reads them whole.
pub const FIRST_OWN_ID: i64 = 1_000_000_000_000;

/// The last id that a client may choose: beyond it, clients that read numbers as floating point read another number.
pub const LAST_OWN_ID: i64 = (1 << 53) - 1;

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
    Coworker(Box<CoworkerEntity>),
    /// `CoworkerTimePasses`.
    CoworkerTimePass(CoworkerTimePassEntity),
}

closed_list! {
    /// The kind of an entity: one for each array of an import file, in the order in which they refer to each other. The
    /// row holds the array's name in an import file, the word that the database stores and the noun for people.
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
    /// Names the field that is missing or has a wrong type.
    pub fn read<'de, D: Deserializer<'de>>(self, document: D) -> Result<Entity, D::Error> {
        Ok(match self {
            Self::Business => Entity::Business(BusinessEntity::deserialize(document)?),
            Self::Team => Entity::Team(TeamEntity::deserialize(document)?),
            Self::Tariff => Entity::Tariff(TariffEntity::deserialize(document)?),
            Self::TimePass => Entity::TimePass(TimePassEntity::deserialize(document)?),
            Self::Coworker => Entity::Coworker(Box::new(CoworkerEntity::deserialize(document)?)),
            Self::CoworkerTimePass => Entity::CoworkerTimePass(CoworkerTimePassEntity::deserialize(document)?),
        })
    }

    /// Reads the text of a document of this kind.
    ///
    /// # Errors
    /// The text is not JSON, or a field is missing or has a wrong type.
    pub fn read_text(self, document: &str) -> Result<Entity, serde_json::Error> {
        let mut text = serde_json::Deserializer::from_str(document);
        let entity = self.read(&mut text)?;
        text.end()?;
        Ok(entity)
    }

    /// The keys that we read, with their other spellings. A document may hold others, which are kept.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Business => keys_of::<BusinessEntity>(),
            Self::Team => keys_of::<TeamEntity>(),
            Self::Tariff => keys_of::<TariffEntity>(),
            Self::TimePass => keys_of::<TimePassEntity>(),
            Self::Coworker => keys_of::<CoworkerEntity>(),
            Self::CoworkerTimePass => keys_of::<CoworkerTimePassEntity>(),
        }
    }

    /// The required fields.
    pub const fn required(self) -> &'static [&'static str] {
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
    /// `RootLocationId`: the location at the head of the network. Passes that the head owns are valid at all its
    /// locations.
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
    /// `TeamMembers`: ids of coworkers, or objects with one.
    #[serde(default)]
    pub team_members: Ids,
    /// `ShareTimePasses`: its members may use each other's passes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub share_time_passes: bool,
}

/// A plan. A limit that is 0 or absent is no limit.
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
    /// `InvoiceEvery`: months in a billing cycle; 1 if absent.
    #[serde(default, deserialize_with = "count")]
    pub invoice_every: Option<u32>,
    /// `InvoiceEveryWeeks`: weeks in a billing cycle, instead of months.
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
    /// `BusinessId`: the owner; every business if absent.
    #[serde(default)]
    pub business_id: Option<i64>,
    /// `Businesses`: where it is valid; if empty, wherever its owner is.
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
    /// `UsePriority`: `High`, `Normal`, `Low`, or 1, 2, 3; normal if absent.
    #[serde(default, deserialize_with = "priority")]
    pub use_priority: Priority,
    /// `AllowNetworkCheckin`, which the platform also spells `AllowNetworkCheckIn`; true if absent.
    #[serde(default = "yes", alias = "AllowNetworkCheckIn", deserialize_with = "null_is_yes")]
    pub allow_network_checkin: bool,
    /// `OnlyForMembers`: people with a plan.
    #[serde(default, deserialize_with = "null_is_default")]
    pub only_for_members: bool,
    /// `OnlyForContacts`: people without a plan.
    #[serde(default, deserialize_with = "null_is_default")]
    pub only_for_contacts: bool,
    /// `Tariffs`: people with one of these plans may use it; if empty, everyone.
    #[serde(default)]
    pub tariffs: Ids,
    /// `TimeSlots`: when it is valid; if empty, always.
    #[serde(default, deserialize_with = "null_is_default")]
    pub time_slots: Vec<TimeSlot>,
    /// `Archived`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub archived: bool,
}

/// A part of a weekday in which a kind of pass is valid.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TimeSlot {
    /// `DayOfWeek`: 0 (Sunday) to 6 (Saturday), or its English name.
    #[serde(deserialize_with = "weekday")]
    pub day_of_week: Weekday,
    /// `FromTime`: `09:00` on the business's wall clock, or an instant as the platform writes it.
    pub from_time: TimeOfDay,
    /// `ToTime`: a time on the next day if it is not after `FromTime`; `23:59` is the end of the day.
    pub to_time: TimeOfDay,
}

/// A pass that a person holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_excessive_bools, reason = "the platform's pass has these switches")]
pub struct CoworkerTimePassEntity {
    /// `Id`.
    pub id: i64,
    /// `UniqueId`; derived from the `Id` if absent.
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
    /// `RemainingUses`: days of a day pass, minutes of a time pass; if `TotalUses` is 1, it counts the pass instead.
    #[serde(default, deserialize_with = "count")]
    pub remaining_uses: Option<u32>,
    /// `TotalUses`.
    #[serde(default, deserialize_with = "count")]
    pub total_uses: Option<u32>,
    /// `RemainingMinutes` (our addition): for a time pass.
    #[serde(default, deserialize_with = "count")]
    pub remaining_minutes: Option<u32>,
    /// `Free`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub free: bool,
    /// `Price`; the price of its kind if absent.
    #[serde(default, deserialize_with = "price")]
    pub price: Option<Price>,
    /// `ExpireDate`: an instant, or a date, which is the last day.
    #[serde(default, deserialize_with = "moment")]
    pub expire_date: Option<Moment>,
    /// `IsFromTariff`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub is_from_tariff: bool,
    /// `IsPayAsYouGo`: the trace of a charge by the platform, never used again.
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
    /// `Email`: with a PIN, it says who is at a kiosk.
    #[serde(default, deserialize_with = "text_if_any")]
    pub email: Option<String>,
    /// `Active`; true if absent.
    #[serde(default = "yes", deserialize_with = "null_is_yes")]
    pub active: bool,
    /// `Archived`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub archived: bool,
    /// `AllowNetworkCheckin`; true if absent, because people who register a device want it to count.
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
    /// `AccessUsers` (our addition): their user ids in controllers, each `scope/id`, separated by `,`.
    #[serde(default)]
    pub access_users: Option<String>,
    /// `AccessNames` (our addition): their names in controllers, each `scope/name`, separated by `,`.
    #[serde(default)]
    pub access_names: Option<String>,
    /// `ByHand` (our addition): credentials assigned by hand, in the same fields. No import adds or removes them.
    #[serde(default, deserialize_with = "null_is_default")]
    pub by_hand: BTreeMap<CredentialField, String>,
    /// `TariffId`.
    #[serde(default)]
    pub tariff_id: Option<i64>,
    /// `TariffName`, used if `TariffId` does not name a known plan.
    #[serde(default)]
    pub tariff_name: Option<String>,
    /// `TeamNames`: separated by `,`.
    #[serde(default)]
    pub team_names: Option<String>,
    /// `Teams`: ids, or objects with one.
    #[serde(default)]
    pub teams: Ids,
    /// `Businesses`: ids, or objects with one; empty for the whole network.
    #[serde(default)]
    pub businesses: Ids,
    /// `InvoicingBusinessId`.
    #[serde(default)]
    pub invoicing_business_id: Option<i64>,
    /// `RenewalDate`: a day on which a billing cycle begins.
    #[serde(default, deserialize_with = "moment")]
    pub renewal_date: Option<Moment>,
    /// `RegistrationDate`: the same, if there is no `RenewalDate`.
    #[serde(default, deserialize_with = "moment")]
    pub registration_date: Option<Moment>,
}

impl CoworkerEntity {
    /// Every credential of the person as written, imported or assigned by hand.
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
    /// A field of a coworker that holds credentials. The row holds its key in a document, and the type of credential
    /// that a reader sends; `None` for devices, which no reader sees.
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
        /// User ids in controllers.
        AccessUsers => ("AccessUsers", Some(CredentialKind::User)),
        /// Names in controllers.
        AccessNames => ("AccessNames", Some(CredentialKind::Name)),
    }
}

impl CredentialField {
    /// Its key in a document.
    pub const fn key(self) -> &'static str {
        self.row().0
    }

    /// Whether the field with this key holds credentials.
    pub fn holds(key: &str) -> bool {
        Self::ALL.iter().any(|field| field.key() == key)
    }

    /// The type of credential that a reader sends; `None` for devices, which no reader sees.
    pub const fn kind(self) -> Option<CredentialKind> {
        self.row().1
    }
}
