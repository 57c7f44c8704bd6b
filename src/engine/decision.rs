//! PURE. What the engine answers: an outcome, and the reason or note that explains it.
//!
//! The codes are a closed list and part of the product: they begin every `Description`, label metrics and are what
//! `explain` shows.

use crate::sighting::Refusal;

/// What became of a received event. Every one ends in exactly one of these, and each is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// A check-in was opened.
    Opened,
    /// A check-in was refreshed.
    Refreshed,
    /// A check-in was closed.
    Closed,
    /// A failed check-in was written.
    Failed,
    /// Nothing but the sighting log was written.
    Recorded,
    /// The same sighting had been decided before.
    Duplicate,
    /// The message could not be mapped.
    Rejected,
}

impl Outcome {
    /// Every outcome, so that each counter is present at zero.
    pub const ALL: [Self; 7] =
        [Self::Opened, Self::Refreshed, Self::Closed, Self::Failed, Self::Recorded, Self::Duplicate, Self::Rejected];

    /// The word for metrics and the sighting log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Refreshed => "refreshed",
            Self::Closed => "closed",
            Self::Failed => "failed",
            Self::Recorded => "recorded",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
        }
    }
}

/// Why a check-in failed: the code and sentence of a failed check-in's `Description`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No coworker has this card, fob or PIN.
    UnrecognisedCard,
    /// No coworker has a device with this MAC address.
    UnrecognisedDevice,
    /// More than one coworker has this card, fob or PIN.
    AmbiguousCard,
    /// More than one coworker has this MAC address.
    AmbiguousDevice,
    /// The coworker is not active.
    CoworkerInactive,
    /// The coworker is archived.
    CoworkerArchived,
    /// The coworker belongs to other businesses.
    OtherBusiness,
    /// The coworker may not check in by network.
    NetworkNotAllowed,
    /// The controller refused.
    RefusedByController(Refusal),
    /// A duress code was used and the controller did not open.
    Duress,
    /// No `[[door]]` matches the door.
    DoorNotConfigured,
}

impl Reason {
    /// Every reason, for the documentation and for counters present at zero.
    pub fn all() -> impl Iterator<Item = Self> {
        [
            Self::UnrecognisedCard,
            Self::UnrecognisedDevice,
            Self::AmbiguousCard,
            Self::AmbiguousDevice,
            Self::CoworkerInactive,
            Self::CoworkerArchived,
            Self::OtherBusiness,
            Self::NetworkNotAllowed,
            Self::Duress,
            Self::DoorNotConfigured,
        ]
        .into_iter()
        .chain(Refusal::ALL.into_iter().map(Self::RefusedByController))
    }

    /// The reason with this code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::all().find(|reason| reason.code() == code)
    }

    /// The code: stable, part of the API.
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnrecognisedCard => "unrecognised_card",
            Self::UnrecognisedDevice => "unrecognised_device",
            Self::AmbiguousCard => "ambiguous_card",
            Self::AmbiguousDevice => "ambiguous_device",
            Self::CoworkerInactive => "coworker_inactive",
            Self::CoworkerArchived => "coworker_archived",
            Self::OtherBusiness => "other_business",
            Self::NetworkNotAllowed => "network_not_allowed",
            Self::RefusedByController(refusal) => match refusal {
                Refusal::NoRights => "refused_no_rights",
                Refusal::OutsideHours => "refused_outside_hours",
                Refusal::Expired => "refused_expired",
                Refusal::Disabled => "refused_disabled",
                Refusal::WrongPin => "refused_wrong_pin",
                Refusal::AntiPassback => "refused_anti_passback",
                Refusal::Interlock => "refused_interlock",
                Refusal::MoreCards => "refused_more_cards",
                Refusal::Other => "refused_by_controller",
            },
            Self::Duress => "duress",
            Self::DoorNotConfigured => "door_not_configured",
        }
    }

    /// The sentence that tells the front desk what happened.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::UnrecognisedCard => "no coworker has this card, fob or PIN",
            Self::UnrecognisedDevice => "no coworker has a device with this MAC address",
            Self::AmbiguousCard => "more than one coworker has this card, fob or PIN; remove it from all but one",
            Self::AmbiguousDevice => {
                "more than one coworker has a device with this MAC address; remove it from all but one"
            }
            Self::CoworkerInactive => "the coworker is not active",
            Self::CoworkerArchived => "the coworker is archived",
            Self::OtherBusiness => "the coworker does not belong to this business",
            Self::NetworkNotAllowed => "the coworker may not check in by network",
            Self::RefusedByController(refusal) => match refusal {
                Refusal::NoRights => "the door controller refused: no rights at this door",
                Refusal::OutsideHours => "the door controller refused: outside the permitted hours",
                Refusal::Expired => "the door controller refused: the credential has expired",
                Refusal::Disabled => "the door controller refused: the credential is disabled",
                Refusal::WrongPin => "the door controller refused: wrong PIN",
                Refusal::AntiPassback => "the door controller refused: anti-passback",
                Refusal::Interlock => "the door controller refused: another door is open",
                Refusal::MoreCards => "the door controller refused: more cards are needed",
                Refusal::Other => "the door controller refused and gave no reason that we know",
            },
            Self::Duress => "a duress code was used and the door stayed shut",
            Self::DoorNotConfigured => "no [[door]] in the settings matches this door; add one",
        }
    }

    /// `code: sentence`, as `Description` holds it.
    pub fn description(self) -> String {
        format!("{}: {}", self.code(), self.sentence())
    }
}

/// Why nothing but the sighting log was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// An exit, or activity, of somebody who is not checked in.
    NotCheckedIn,
    /// The phone is still in range while its owner leaves.
    Lingering,
    /// An older event that changes nothing any more.
    Late,
    /// The event names nobody (a button, a door contact).
    NamesNobody,
    /// The door is configured to record only.
    RecordOnly,
    /// The same credential at the same door again, too soon.
    RepeatedTap,
    /// The device has not been present for the minimum dwell.
    DwellNotReached,
    /// `network_opens` does not let the network open this check-in.
    NetworkMayNotOpen,
    /// Weak evidence of somebody who is not checked in, or too long after the last strong evidence.
    WeakEvidence,
    /// The same failed check-in was written before in this pass day.
    FailedBefore,
}

impl Note {
    /// The word for the sighting log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotCheckedIn => "not_checked_in",
            Self::Lingering => "lingering",
            Self::Late => "late",
            Self::NamesNobody => "names_nobody",
            Self::RecordOnly => "record_only",
            Self::RepeatedTap => "repeated_tap",
            Self::DwellNotReached => "dwell_not_reached",
            Self::NetworkMayNotOpen => "network_may_not_open",
            Self::WeakEvidence => "weak_evidence",
            Self::FailedBefore => "failed_before",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own() {
        let mut codes: Vec<&str> = Reason::all().map(Reason::code).collect();
        codes.sort_unstable();
        let all = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), all);
    }
}
