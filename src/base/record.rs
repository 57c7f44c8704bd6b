//! PURE. The records that the program produces, and their identifiers.
//!
//! `Checkin` and `FailedCheckin` have the fields of the platform's API; `api::shape` prints them as JSON.

use std::{collections::BTreeSet, fmt};

use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base::{clock::WallTime, mac::MacAddr};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id!(/// A location.
    BusinessId);
id!(/// A person.
    CoworkerId);
id!(/// A team of coworkers.
    TeamId);
id!(/// A plan.
    TariffId);
id!(/// A kind of pass.
    TimePassId);
id!(/// A pass that a coworker holds.
    CoworkerTimePassId);
id!(/// A check-in, numbered by the database.
    CheckinId);
id!(/// A failed check-in, numbered by the database.
    FailedCheckinId);
id!(/// A charge, numbered by the database.
    CoworkerChargeId);

/// How a check-in was created (`eCheckinSource` of the platform; the numbers are part of the API).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CheckinSource {
    /// 0.
    None,
    /// 1: by hand.
    Manual,
    /// 2: a door.
    DoorAccess,
    /// 3: the network.
    NetworkActivity,
    /// 4: a tile.
    Tile,
    /// 5: a sensor.
    Sensor,
}

impl CheckinSource {
    /// The platform's number.
    pub const fn number(self) -> i64 {
        match self {
            Self::None => 0,
            Self::Manual => 1,
            Self::DoorAccess => 2,
            Self::NetworkActivity => 3,
            Self::Tile => 4,
            Self::Sensor => 5,
        }
    }

    /// All of them, by their number.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Manual, Self::DoorAccess, Self::NetworkActivity, Self::Tile, Self::Sensor];

    /// The platform's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Manual => "Manual",
            Self::DoorAccess => "DoorAccess",
            Self::NetworkActivity => "NetworkActivity",
            Self::Tile => "Tile",
            Self::Sensor => "Sensor",
        }
    }

    /// The source with this name, in any case, or this number.
    pub fn from_text(text: &str) -> Option<Self> {
        let named = Self::ALL.into_iter().find(|source| source.name().eq_ignore_ascii_case(text));
        named.or_else(|| Self::from_number(text.parse().ok()?))
    }

    /// The source with the platform's number.
    pub const fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Manual,
            2 => Self::DoorAccess,
            3 => Self::NetworkActivity,
            4 => Self::Tile,
            5 => Self::Sensor,
            _ => return None,
        })
    }
}

/// A coworker's details at the time of the record; later edits never change them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Full name.
    pub full_name: Option<String>,
    /// Team names joined by `,`.
    pub teams: Option<String>,
    /// Plan name.
    pub tariff: Option<String>,
}

/// Declares a record: a row of a table, as the API serves it. Its fields are the columns of the table and, in Pascal
/// case, the keys of the API. Also declares a macro that passes the fields to another macro, which the store uses to
/// read them. The page `docs::development` lists the steps to add a field.
macro_rules! record {
    ($dollar:tt $fields:ident; $(#[$of:meta])* pub struct $name:ident { $($(#[$on:meta])* pub $field:ident: $kind:ty,)+ }) => {
        $(#[$of])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$on])* pub $field: $kind,)+ }

        macro_rules! $fields {
            ($dollar use_them:ident) => {
                $dollar use_them! { $name { $($field: $kind),+ } }
            };
        }
        pub(crate) use $fields;
    };
}

record! { $ checkin_fields;
    /// A row of `checkins`.
    pub struct Checkin {
        /// Assigned by the database.
        pub id: CheckinId,
        /// Assigned by checkind before the row is written.
        pub unique_id: Uuid,
        /// Who; null if unknown. checkind always sets it.
        pub coworker_id: Option<CoworkerId>,
        /// Their name then.
        pub coworker_full_name: Option<String>,
        /// Where.
        pub business_id: BusinessId,
        /// The location's name then.
        pub business_name: Option<String>,
        /// What created it.
        pub source: CheckinSource,
        /// Start of the visit.
        pub from_time: WallTime,
        /// End of the visit; null while it is open.
        pub to_time: Option<WallTime>,
        /// Copied from the pass used.
        pub counts_towards_plan_limits: bool,
        /// The pass used.
        pub coworker_time_pass_guid: Option<Uuid>,
        /// Closed by us rather than by an exit.
        pub auto_checkout: bool,
        /// The last evidence of presence.
        pub last_activity: Option<WallTime>,
        /// The devices seen during the visit.
        pub mac_addresses: BTreeSet<MacAddr>,
        /// Team names then, joined by `,`.
        pub teams_at_the_time_of_checkin: Option<String>,
        /// The plan's name then.
        pub tariff_at_the_time_of_checkin: Option<String>,
        /// Never written by checkind; part of the platform's shape.
        pub validate_checkin_job_id: Option<String>,
        /// `from_time` on the business's wall clock.
        pub from_time_local: Option<NaiveDateTime>,
        /// `to_time` on the business's wall clock.
        pub to_time_local: Option<NaiveDateTime>,
        /// When the row was written.
        pub created_on: WallTime,
        /// When it was last changed.
        pub updated_on: WallTime,
        /// Who changed it last; checkind writes [`UPDATED_BY`].
        pub updated_by: String,
        /// Never written by checkind; part of the platform's shape.
        pub system_id: Option<String>,
    }
}

record! { $ failed_checkin_fields;
    /// A row of `failed_checkins`.
    pub struct FailedCheckin {
        /// Assigned by the database.
        pub id: FailedCheckinId,
        /// Assigned by checkind.
        pub unique_id: Uuid,
        /// Who; null if no person was recognised.
        pub coworker_id: Option<CoworkerId>,
        /// Their name then.
        pub coworker_full_name: Option<String>,
        /// Where.
        pub business_id: BusinessId,
        /// The location's name then.
        pub business_name: Option<String>,
        /// When it was attempted.
        pub checkin_attempt_time: WallTime,
        /// How it was attempted.
        pub source: CheckinSource,
        /// The device, for attempts by network.
        pub mac_addresses: BTreeSet<MacAddr>,
        /// Team names then, joined by `,`.
        pub teams_at_the_time_of_checkin: Option<String>,
        /// The plan's name then.
        pub tariff_at_the_time_of_checkin: Option<String>,
        /// `code: sentence`.
        pub description: Option<String>,
        /// `checkin_attempt_time` on the business's wall clock.
        pub checkin_attempt_time_local: Option<NaiveDateTime>,
        /// When the row was written.
        pub created_on: WallTime,
        /// When it was last changed.
        pub updated_on: WallTime,
        /// Who changed it last.
        pub updated_by: String,
        /// Never written by checkind; part of the platform's shape.
        pub system_id: Option<String>,
    }
}

record! { $ charge_fields;
    /// A row of `payg_charges`: what a visit without a pass costs.
    pub struct CoworkerCharge {
        /// Assigned by the database.
        pub id: CoworkerChargeId,
        /// The `unique_id` of the check-in.
        pub checkin: Uuid,
        /// Who.
        pub coworker_id: CoworkerId,
        /// Where.
        pub business_id: BusinessId,
        /// The kind of pass.
        pub time_pass_id: TimePassId,
        /// The beginning of the pass day.
        pub pass_day: WallTime,
        /// Start of the visit.
        pub from_time: WallTime,
        /// End of the visit; null while it is open.
        pub to_time: Option<WallTime>,
        /// The minutes that are charged.
        pub minutes: i64,
        /// In minor units of the currency, without the minimum and maximum of the day.
        pub unbounded: i64,
        /// In minor units of the currency.
        pub amount: i64,
        /// ISO 4217.
        pub currency: String,
        /// Whether the check-in no longer exists or costs nothing: then the amounts are zero.
        pub withdrawn: bool,
        /// When the row was written.
        pub created_on: WallTime,
        /// When it was last changed.
        pub updated_on: WallTime,
    }
}

/// The name in [`Checkin::updated_by`] for changes by this program.
pub const UPDATED_BY: &str = "checkind";

/// `MacAddresses` as stored in records: lower case with colons, joined by `,`; `None` without a device.
pub fn join_macs(macs: &BTreeSet<MacAddr>) -> Option<String> {
    (!macs.is_empty()).then(|| macs.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

/// Reads what [`join_macs`] wrote; ignores anything else in the column.
pub fn split_macs(text: Option<&str>) -> BTreeSet<MacAddr> {
    text.unwrap_or_default().split(',').filter_map(|mac| mac.parse().ok()).collect()
}

/// An open check-in by door at business 1 that begins at `from`, for tests.
#[cfg(test)]
pub(crate) fn test_checkin(from: WallTime) -> Checkin {
    Checkin {
        id: CheckinId(1),
        unique_id: uuid::Uuid::nil(),
        coworker_id: Some(CoworkerId(1)),
        coworker_full_name: Some("Ada Lovelace".to_owned()),
        business_id: BusinessId(1),
        business_name: Some("Hub One".to_owned()),
        source: CheckinSource::DoorAccess,
        from_time: from,
        to_time: None,
        from_time_local: None,
        to_time_local: None,
        counts_towards_plan_limits: false,
        coworker_time_pass_guid: None,
        auto_checkout: false,
        last_activity: None,
        mac_addresses: BTreeSet::new(),
        teams_at_the_time_of_checkin: None,
        tariff_at_the_time_of_checkin: None,
        validate_checkin_job_id: None,
        created_on: from,
        updated_on: from,
        updated_by: "checkind".to_owned(),
        system_id: None,
    }
}
