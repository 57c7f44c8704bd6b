//! PURE. What entitles people: kinds of passes, the passes that they hold, and plans with their limits. Resolved from
//! the entities, so using them needs no further lookup.
//!
//! Not in this module: whether a pass is valid now (`engine::passes`).

use std::{fmt, str::FromStr, sync::Arc};

use chrono::{Datelike, NaiveDate, Weekday};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base::{
    clock::WallTime,
    record::{BusinessId, CoworkerId, CoworkerTimePassId, TariffId, TimePassId},
};

/// An amount of money as in an import, in ten-thousandths of the currency's unit. No currency has a smaller coin; how
/// many of them make a minor unit depends on the currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price(pub i64);

impl Price {
    /// Ten-thousandths in a unit.
    pub const UNIT: i64 = 10_000;
}

/// A currency by its ISO 4217 code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Pounds sterling.
    pub const GBP: Self = Self(*b"GBP");

    /// The number of minor units in a unit (ISO 4217; a hundred for all but a few).
    pub fn minor_units(self) -> i64 {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG" | b"RWF" | b"UGX"
            | b"UYI" | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 1,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 1000,
            b"CLF" | b"UYW" => 10_000,
            _ => 100,
        }
    }
}

impl FromStr for Currency {
    type Err = ();

    /// Three capital letters.
    fn from_str(text: &str) -> Result<Self, ()> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| ())?;
        if code.iter().all(u8::is_ascii_uppercase) { Ok(Self(code)) } else { Err(()) }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A date or an instant, which the platform uses for the start or end of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A day on the business's wall clock.
    Date(NaiveDate),
    /// An instant.
    Instant(WallTime),
}

/// A location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Business {
    /// Its name.
    pub name: Arc<str>,
    /// The location at the head of its network.
    pub root: Option<BusinessId>,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tariff {
    /// Its name.
    pub name: Arc<str>,
    /// The limits on days of access.
    pub days: Limits,
    /// The limits on hours.
    pub hours: Limits,
    /// The length of a billing cycle.
    pub cycle: Cycle,
}

impl Tariff {
    /// Whether anything is limited.
    pub fn has_limits(&self) -> bool {
        self.days != Limits::default() || self.hours != Limits::default()
    }
}

/// How much a plan allows in each period; `None` for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Per week.
    pub week: Option<u32>,
    /// Per calendar month.
    pub month: Option<u32>,
    /// Per billing cycle.
    pub cycle: Option<u32>,
}

/// The length of a billing cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cycle {
    /// This many months.
    Months(u32),
    /// This many weeks.
    Weeks(u32),
}

/// Which passes are used up first, as chosen by the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before others.
    High,
    /// As usual.
    #[default]
    Normal,
    /// After others.
    Low,
}

/// Where a kind of pass is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Places {
    /// At every business.
    Everywhere,
    /// At these businesses; sorted.
    Only(Box<[BusinessId]>),
}

impl Places {
    /// Whether it is valid at this business.
    pub fn cover(&self, business: BusinessId) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Only(list) => list.binary_search(&business).is_ok(),
        }
    }

    /// The number of businesses where it is valid, for comparing.
    pub fn number(&self) -> usize {
        match self {
            Self::Everywhere => usize::MAX,
            Self::Only(list) => list.len(),
        }
    }
}

/// A part of a weekday in which a kind of pass is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The day on which it begins, on the business's wall clock.
    pub weekday: Weekday,
    /// Minutes from midnight.
    pub from: u16,
    /// Minutes from the same midnight, greater than `from`; beyond 1440 the slot ends on the next day.
    pub to: u16,
    /// The minutes are UTC, as the platform sends them; the weekday is local nevertheless.
    pub utc: bool,
}

/// A kind of pass.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the platform's kind of pass has these switches")]
pub struct TimePass {
    /// Its number.
    pub id: TimePassId,
    /// Its name.
    pub name: Arc<str>,
    /// Withdrawn: no pass of this kind is valid.
    pub archived: bool,
    /// The minutes of a time pass; `None` for a day pass.
    pub minutes: Option<u32>,
    /// What it costs.
    pub price: Price,
    /// The currency, if the import contains it.
    pub currency: Option<Currency>,
    /// Whether it is used before or after others.
    pub priority: Priority,
    /// Whether visits with it count towards the limits of the plan.
    pub counts_towards_plan_limits: bool,
    /// Whether the network may check people in with it.
    pub allow_network_checkin: bool,
    /// Only for people with a plan.
    pub only_for_members: bool,
    /// Only for people without a plan.
    pub only_for_contacts: bool,
    /// Only for people with one of these plans; empty for all people.
    pub tariffs: Box<[TariffId]>,
    /// Where it is valid.
    pub places: Places,
    /// When it is valid; empty for always.
    pub slots: Box<[Slot]>,
    /// May be assigned and charged to people with a plan.
    pub pay_as_you_go_for_members: bool,
    /// May be assigned and charged to people without a plan.
    pub pay_as_you_go_for_contacts: bool,
}

/// A pass that a person holds. Packed, because a large network holds hundreds of thousands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldPass {
    /// Its number.
    pub id: CoworkerTimePassId,
    /// Its identity in check-ins.
    pub guid: Uuid,
    /// Whose it is.
    pub holder: CoworkerId,
    /// The kind of pass.
    pub kind: Arc<TimePass>,
    /// What it cost.
    pub price: Price,
    /// When the import set [`left`](Self::left).
    pub basis_at: WallTime,
    pub(super) expires: PackedMoment,
    pub(super) used: PackedMoment,
    /// The days of a day pass or the minutes of a time pass that were left at `basis_at`.
    pub left: u32,
    pub(super) expires_on_date: bool,
    pub(super) used_on_date: bool,
    /// Granted by a plan or a product, not added by hand.
    pub granted: bool,
}

impl HeldPass {
    /// When it expires; a date means the end of that day.
    pub fn expires(&self) -> Option<Moment> {
        self.expires.moment(self.expires_on_date)
    }

    /// When it was last used, according to the import.
    pub fn used(&self) -> Option<Moment> {
        self.used.moment(self.used_on_date)
    }
}

/// A moment, or none, in eight octets: milliseconds, or days of the common era if a separate flag marks it as a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedMoment(i64);

impl PackedMoment {
    const NEVER: i64 = i64::MAX;

    /// The packed moment and its flag.
    pub(super) fn pack(moment: Option<Moment>) -> (Self, bool) {
        match moment {
            None => (Self(Self::NEVER), false),
            Some(Moment::Instant(at)) => (Self(at.millis()), false),
            Some(Moment::Date(date)) => (Self(i64::from(date.num_days_from_ce())), true),
        }
    }

    fn moment(self, on_date: bool) -> Option<Moment> {
        match (self.0, on_date) {
            (Self::NEVER, _) => None,
            (millis, false) => Some(Moment::Instant(WallTime::from_millis(millis))),
            (days, true) => i32::try_from(days).ok().and_then(NaiveDate::from_num_days_from_ce_opt).map(Moment::Date),
        }
    }
}
