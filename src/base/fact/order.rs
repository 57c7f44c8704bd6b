//! PURE. Where a fact belongs: its day and key in the log, and its place in the order of time.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{digest::FactDigest, subject::Subject};
use crate::base::clock::WallTime;

/// Milliseconds in a day of the log. Days are UTC days, which depend on no setting, so a fact belongs to the same day
/// whenever it arrives.
const DAY: i64 = 86_400_000;

/// A day of the log: the number of days since 1970-01-01, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogDay(pub i64);

impl LogDay {
    /// The day of an instant.
    pub const fn of(at: WallTime) -> Self {
        Self(at.millis().div_euclid(DAY))
    }

    /// Its first instant.
    pub const fn start(self) -> WallTime {
        WallTime::from_millis(self.0 * DAY)
    }
}

/// What identifies a fact in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactKey {
    /// The day of `at`.
    pub day: LogDay,
    /// The subject under which the log files it.
    pub subject: Subject,
    /// When.
    pub at: WallTime,
    /// What makes it unique.
    pub digest: FactDigest,
    /// Whether `at` is the time of arrival: then a redelivery would have another `at`.
    pub arrived: bool,
}

impl FactKey {
    /// The key of a fact whose time is not its time of arrival.
    pub(super) const fn of(subject: Subject, at: WallTime, digest: FactDigest) -> Self {
        Self { day: LogDay::of(at), subject, at, digest, arrived: false }
    }
}

/// The place of a fact in the order of time. The order of facts of the same instant does not depend on their arrival:
/// timers, edits and directory versions first,
/// then the network, then doors. The digest decides only if nothing else does, see
/// [`FactOrder::ties_with`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FactOrder {
    /// When.
    pub at: WallTime,
    /// The order among facts of the same instant.
    pub rank: FactRank,
    /// The order within a rank: the controller's number of the event, if it has one.
    pub ordinal: u64,
    /// The order among facts with the same number.
    pub digest: FactDigest,
}

impl FactOrder {
    /// The place before everything at or after this instant.
    pub const fn before(at: WallTime) -> Self {
        Self { at, rank: FactRank::Timer, ordinal: 0, digest: FactDigest([0; 16]) }
    }

    /// Whether these are two door events whose order nothing in them determines. If both are of one person, that
    /// person's state does.
    pub fn ties_with(&self, other: &Self) -> bool {
        let is_door = self.rank == FactRank::Door && other.rank == FactRank::Door;
        is_door && self.at == other.at && self.ordinal == other.ordinal
    }

    /// The place before everything.
    pub const FIRST: Self = Self::before(WallTime::from_millis(0));
}

/// The kinds of facts of one instant, see `FactRank::order`. Stored by the order of declaration: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FactRank {
    /// A timer ran out.
    Timer,
    /// A version of the directory comes into force.
    Directory,
    /// A device was seen.
    Network,
    /// A door reported an event.
    Door,
    /// A user of the API said something about a check-in.
    Edit,
}

impl FactRank {
    /// The order of facts of one instant. An edit precedes what it decides about.
    const fn order(self) -> u8 {
        match self {
            Self::Timer => 0,
            Self::Edit => 1,
            Self::Directory => 2,
            Self::Network => 3,
            Self::Door => 4,
        }
    }
}

impl Ord for FactRank {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for FactRank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
