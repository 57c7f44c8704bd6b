//! PURE. The records that the product exists for, and their identifiers.
//!
//! `Checkin` and `FailedCheckin` have the fields of the platform's API; `api::shape` prints them in its form.

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
id!(/// A pass that somebody holds.
    CoworkerTimePassId);
id!(/// A check-in, numbered by the database.
    CheckinId);
id!(/// A failed check-in, numbered by the database.
    FailedCheckinId);

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

    /// From the platform's number.
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

/// What was true of a coworker at the moment of the record; later edits never change it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Full name.
    pub full_name: Option<String>,
    /// Team names joined by `,`.
    pub teams: Option<String>,
    /// Plan name.
    pub tariff: Option<String>,
}

/// A row of `checkins`, as the API serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkin {
    /// Numbered by the database.
    pub id: CheckinId,
    /// Ours, known before the row is written.
    pub unique_id: Uuid,
    /// Who; null for records made through the API without one.
    pub coworker: Option<CoworkerId>,
    /// Name, teams and plan then.
    pub then: Snapshot,
    /// Where.
    pub business: BusinessId,
    /// The location's name then.
    pub business_name: Option<String>,
    /// What created it.
    pub source: CheckinSource,
    /// In.
    pub from: WallTime,
    /// Out; none while it is open.
    pub to: Option<WallTime>,
    /// `from` on the business's wall clock.
    pub from_local: Option<NaiveDateTime>,
    /// `to` on the business's wall clock.
    pub to_local: Option<NaiveDateTime>,
    /// Copied from the pass used.
    pub counts_towards_plan_limits: bool,
    /// The pass used.
    pub coworker_time_pass: Option<Uuid>,
    /// Closed by us rather than by an exit.
    pub auto_checkout: bool,
    /// The last sign of life.
    pub last_activity: Option<WallTime>,
    /// The devices seen during it.
    pub macs: BTreeSet<MacAddr>,
    /// `ValidateCheckinJobId`: only ever what an API caller wrote.
    pub validate_checkin_job: Option<String>,
    /// When the row was written.
    pub created_on: WallTime,
    /// When it was last changed.
    pub updated_on: WallTime,
    /// Who changed it last: an API user's name, or `checkind`.
    pub updated_by: String,
    /// Free text of API callers.
    pub system_id: Option<String>,
}

/// A row of `failed_checkins`, as the API serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCheckin {
    /// Numbered by the database.
    pub id: FailedCheckinId,
    /// Ours.
    pub unique_id: Uuid,
    /// Who; none when nobody was recognised.
    pub coworker: Option<CoworkerId>,
    /// Name, teams and plan then.
    pub then: Snapshot,
    /// Where.
    pub business: BusinessId,
    /// The location's name then.
    pub business_name: Option<String>,
    /// When it was attempted.
    pub attempt_at: WallTime,
    /// `attempt_at` on the business's wall clock.
    pub attempt_local: Option<NaiveDateTime>,
    /// How it was attempted.
    pub source: CheckinSource,
    /// The device, for attempts by network.
    pub macs: BTreeSet<MacAddr>,
    /// `code: sentence`; none only in a record that an API caller made.
    pub description: Option<String>,
    /// When the row was written.
    pub created_on: WallTime,
    /// When it was last changed.
    pub updated_on: WallTime,
    /// Who changed it last.
    pub updated_by: String,
    /// Free text of API callers.
    pub system_id: Option<String>,
}

/// `MacAddresses` as records write it: lower case, colons, joined by `,`; none when there is no device.
pub fn join_macs(macs: &BTreeSet<MacAddr>) -> Option<String> {
    (!macs.is_empty()).then(|| macs.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

/// Reads what [`join_macs`] wrote; anything else in the column is left out.
pub fn split_macs(text: Option<&str>) -> BTreeSet<MacAddr> {
    text.unwrap_or_default().split(',').filter_map(|mac| mac.parse().ok()).collect()
}
