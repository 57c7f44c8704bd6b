//! PURE. Decides how facts change people's check-ins. No I/O, no clock, no randomness: the caller passes `now`, and
//! identities are derived from the facts.
//!
//! There is one path. [`fold`] starts from the state of people at some point ([`person::PersonState`]), applies the
//! facts since then in time order, runs the timers that expire between them (silence, cut-off, end of the pass), and
//! returns the new state of the people with every record made on the way. A late fact is not a special case: the fold
//! just starts earlier.

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

/// A claim about a coworker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A door reported something at this instant.
    Door {
        /// What it means, by the door's settings.
        action: DoorClaim,
        /// When.
        at: WallTime,
    },
    /// The network saw one of their devices.
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
    /// According to the directory, they may no longer be in.
    Withdrawn {
        /// Since when.
        at: WallTime,
    },
}

/// What a grant means, by the door's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorClaim {
    /// In.
    Entry,
    /// Out.
    Exit,
    /// In when out, out when in.
    Toggle,
    /// Present: only refreshes an open check-in.
    Activity,
}

impl Claim {
    /// When the claim is decided, which is also its place in the order.
    pub const fn at(self) -> WallTime {
        match self {
            Self::Door { at, .. } | Self::Withdrawn { at } => at,
            Self::Network { last_at, .. } => last_at,
        }
    }

    /// The source that its records name.
    pub const fn source(self) -> CheckinSource {
        match self {
            Self::Door { .. } | Self::Withdrawn { .. } => CheckinSource::DoorAccess,
            Self::Network { .. } => CheckinSource::NetworkActivity,
        }
    }

    /// When the person was first seen: the first evidence ends the silence, although the claim is decided at the last.
    pub const fn seen_at(self) -> WallTime {
        match self {
            Self::Door { at, .. } | Self::Withdrawn { at } => at,
            Self::Network { first_at, .. } => first_at,
        }
    }
}

/// Whether a claim may open a check-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes, by this pass if one is required.
    Admitted(Option<PassUse>),
    /// No: a failed check-in is written.
    Refused(Refused),
    /// Not now, but this is no failure (the stay is too short, or the network may not open check-ins at this site).
    NotNow(Note),
}

/// The decision on a claim or fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The outcome.
    pub outcome: Outcome,
    /// Why a check-in failed.
    pub reason: Option<Reason>,
    /// More detail for the front desk.
    pub detail: Option<Arc<str>>,
    /// Why only the log was written.
    pub note: Option<Note>,
    /// The visit that was opened, refreshed or closed, or that the lingering phone belongs to.
    pub visit: Option<Uuid>,
}

impl Decision {
    /// A decision that only writes the log.
    pub const fn recorded(note: Note) -> Self {
        Self { outcome: Outcome::Recorded, reason: None, detail: None, note: Some(note), visit: None }
    }

    /// A decision that writes a failed check-in.
    pub const fn failed(reason: Reason) -> Self {
        Self { outcome: Outcome::Failed, reason: Some(reason), detail: None, note: None, visit: None }
    }

    fn refused(refused: Refused) -> Self {
        Self { detail: refused.detail, ..Self::failed(refused.reason) }
    }

    const fn of(outcome: Outcome, visit: Uuid) -> Self {
        Self { outcome, reason: None, detail: None, note: None, visit: Some(visit) }
    }

    /// Its code in the log.
    pub fn code(&self) -> decision::DecisionCode {
        decision::DecisionCode::of(self.outcome, self.word())
    }

    /// The word that explains it in the log; `None` if the outcome is enough.
    pub fn word(&self) -> Option<&'static str> {
        self.reason.map(Reason::code).or_else(|| self.note.map(Note::word))
    }
}

/// The identity of a record: a version 5 UUID (RFC 9562, 5.5) of the facts behind it. The same facts produce the same
/// identities, wherever and in whatever order they are folded.
pub fn identity<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Uuid {
    /// Generated once, for checkind's records.
    const NAMESPACE: Uuid = Uuid::from_u128(0x5b0c_8f6e_7d8c_4f55_9a39_3c0f_1d0e_6b52);
    Uuid::new_v5(&NAMESPACE, &crate::base::fact::FactDigest::of(parts).0)
}

#[cfg(test)]
mod tests;
