//! PURE. Decides what facts do to people's check-ins. No I/O, no clock, no randomness: the caller passes `now`, and
//! identities follow from the facts.
//!
//! There is one path. [`fold`] takes people as they were at some point ([`person::PersonState`]) and the facts since
//! then in the order of time, with the timers that ran out between them (silence, cut-off, end of the pass), and gives
//! the people as they are then, with every record on the way. A late fact is not a special case: the fold starts
//! earlier.

pub mod admission;
pub mod coverage;
pub mod decision;
pub mod fold;
pub mod life;
pub mod passes;
pub mod person;

use std::sync::Arc;

use uuid::Uuid;

use crate::base::{clock::WallTime, mac::MacAddr, record::CheckinSource};
use decision::{Note, Outcome, Reason};
use passes::{PassUse, Refused};

/// What is claimed about a coworker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A door said something at this instant.
    Door {
        /// What the door's configuration makes of it.
        action: DoorClaim,
        /// When.
        at: WallTime,
    },
    /// The network saw a device of theirs.
    Network {
        /// The device.
        mac: MacAddr,
        /// Start of the unbroken presence.
        since: WallTime,
        /// First evidence of this presence.
        first_at: WallTime,
        /// Last evidence of this presence.
        last_at: WallTime,
        /// Last strong evidence of this presence.
        strong_at: Option<WallTime>,
    },
    /// The directory says that they may no longer be in.
    Withdrawn {
        /// From when on.
        at: WallTime,
    },
}

/// What a door's configuration makes of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorClaim {
    /// In.
    Entry,
    /// Out.
    Exit,
    /// In when out, out when in.
    Toggle,
    /// There.
    Activity,
}

impl Claim {
    /// The instant that the claim is decided at, and so its place in the order.
    pub const fn at(self) -> WallTime {
        match self {
            Self::Door { at, .. } | Self::Withdrawn { at } => at,
            Self::Network { last_at, .. } => last_at,
        }
    }

    /// What a record of it says that it came from.
    pub const fn source(self) -> CheckinSource {
        match self {
            Self::Door { .. } | Self::Withdrawn { .. } => CheckinSource::DoorAccess,
            Self::Network { .. } => CheckinSource::NetworkActivity,
        }
    }

    /// When the device was first seen: silence ends with the first evidence, although the claim is decided at the last.
    pub const fn seen_at(self) -> WallTime {
        match self {
            Self::Door { at, .. } | Self::Withdrawn { at } => at,
            Self::Network { first_at, .. } => first_at,
        }
    }
}

/// May a claim open a check-in?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes; by this pass, where one is required.
    Admitted(Option<PassUse>),
    /// No, and that is a failed check-in.
    Refused(Refused),
    /// Not now, but this is not a failure (too short a stay, a site where the network opens nothing).
    Held(Note),
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What became of the claim.
    pub outcome: Outcome,
    /// Why a check-in failed.
    pub reason: Option<Reason>,
    /// What the front desk needs to know besides.
    pub detail: Option<Arc<str>>,
    /// Why nothing was written.
    pub note: Option<Note>,
    /// The visit that was opened, refreshed or closed, or whose phone lingers.
    pub visit: Option<Uuid>,
}

impl Decision {
    /// Only the log is written.
    pub const fn recorded(note: Note) -> Self {
        Self { outcome: Outcome::Recorded, reason: None, detail: None, note: Some(note), visit: None }
    }

    /// A failed check-in is written.
    pub const fn failed(reason: Reason) -> Self {
        Self { outcome: Outcome::Failed, reason: Some(reason), detail: None, note: None, visit: None }
    }

    fn refused(refused: Refused) -> Self {
        Self { detail: refused.detail, ..Self::failed(refused.reason) }
    }

    const fn of(outcome: Outcome, visit: Uuid) -> Self {
        Self { outcome, reason: None, detail: None, note: None, visit: Some(visit) }
    }

    /// What the log keeps of it.
    pub fn code(&self) -> decision::DecisionCode {
        decision::DecisionCode::of(self.outcome, self.word())
    }

    /// The word that explains it in the log; none where the outcome says it all.
    pub fn word(&self) -> Option<&'static str> {
        self.reason.map(Reason::code).or_else(|| self.note.map(Note::word))
    }
}

/// The identity of a record: a version 5 UUID (RFC 9562, 5.5) of what made it: the same facts give the same
/// identities, wherever and in whatever order they are folded.
pub fn identity<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Uuid {
    /// Drawn once, for checkind's records.
    const NAMESPACE: Uuid = Uuid::from_u128(0x5b0c_8f6e_7d8c_4f55_9a39_3c0f_1d0e_6b52);
    Uuid::new_v5(&NAMESPACE, &crate::base::fact::FactDigest::of(parts).0)
}

#[cfg(test)]
mod tests;
