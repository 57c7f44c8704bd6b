//! PURE. What the engine answers: an outcome, and the reason or note that explains it.
//!
//! The codes are a closed list and part of the product: they begin every `Description`, label metrics and are what
//! `explain` shows.

use serde::{Deserialize, Serialize};

use crate::base::sighting::Refusal;

/// What became of a received event. Every one ends in exactly one of these, and each is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// A limit of the plan is reached.
    PlanLimit(PlanLimit),
    /// Nothing that they hold is of any use here, and there is no pay-as-you-go.
    NoValidPass,
    /// The pass was withdrawn.
    PassArchived,
    /// The pass is for another kind of customer, or for other plans.
    PassNotForCustomer,
    /// The pass is for other businesses.
    PassOtherBusiness,
    /// The pass has expired.
    PassExpired,
    /// The uses or minutes of the pass are used up.
    PassUsedUp,
    /// The pass does not cover this weekday and time.
    PassOutsideHours,
    /// The pass does not allow check-ins by network.
    PassNoNetwork,
    /// The minutes of the pass are being used by another check-in.
    PassInUse,
}

/// A limit of a plan: what is counted, and in which stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PlanLimit {
    /// Days of access in a week.
    DaysWeek,
    /// Days of access in a calendar month.
    DaysMonth,
    /// Days of access in a billing cycle.
    DaysCycle,
    /// Hours in a week.
    HoursWeek,
    /// Hours in a calendar month.
    HoursMonth,
    /// Hours in a billing cycle.
    HoursCycle,
}

impl PlanLimit {
    /// Every limit, in the order in which they are looked at.
    pub const ALL: [Self; 6] =
        [Self::DaysWeek, Self::DaysMonth, Self::DaysCycle, Self::HoursWeek, Self::HoursMonth, Self::HoursCycle];

    /// Are hours counted, and not days?
    pub const fn is_hours(self) -> bool {
        match self {
            Self::DaysWeek | Self::DaysMonth | Self::DaysCycle => false,
            Self::HoursWeek | Self::HoursMonth | Self::HoursCycle => true,
        }
    }
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
        .chain(PlanLimit::ALL.into_iter().map(Self::PlanLimit))
        .chain([
            Self::NoValidPass,
            Self::PassArchived,
            Self::PassNotForCustomer,
            Self::PassOtherBusiness,
            Self::PassExpired,
            Self::PassUsedUp,
            Self::PassOutsideHours,
            Self::PassNoNetwork,
            Self::PassInUse,
        ])
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
            Self::PlanLimit(limit) => match limit {
                PlanLimit::DaysWeek => "plan_limit_days_week",
                PlanLimit::DaysMonth => "plan_limit_days_month",
                PlanLimit::DaysCycle => "plan_limit_days_cycle",
                PlanLimit::HoursWeek => "plan_limit_hours_week",
                PlanLimit::HoursMonth => "plan_limit_hours_month",
                PlanLimit::HoursCycle => "plan_limit_hours_cycle",
            },
            Self::NoValidPass => "no_valid_pass",
            Self::PassArchived => "pass_archived",
            Self::PassNotForCustomer => "pass_not_for_customer",
            Self::PassOtherBusiness => "pass_other_business",
            Self::PassExpired => "pass_expired",
            Self::PassUsedUp => "pass_used_up",
            Self::PassOutsideHours => "pass_outside_hours",
            Self::PassNoNetwork => "pass_no_network",
            Self::PassInUse => "pass_in_use",
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
            Self::PlanLimit(limit) => match limit {
                PlanLimit::DaysWeek => "the plan's days of access for this week are used up",
                PlanLimit::DaysMonth => "the plan's days of access for this month are used up",
                PlanLimit::DaysCycle => "the plan's days of access for this billing cycle are used up",
                PlanLimit::HoursWeek => "the plan's hours for this week are used up",
                PlanLimit::HoursMonth => "the plan's hours for this month are used up",
                PlanLimit::HoursCycle => "the plan's hours for this billing cycle are used up",
            },
            Self::NoValidPass => "the coworker holds no pass and no pay-as-you-go pass fits; sell or grant one",
            Self::PassArchived => "the coworker's pass is of a kind that was withdrawn; give them another",
            Self::PassNotForCustomer => "the coworker's pass is not for customers of this kind or plan",
            Self::PassOtherBusiness => "the coworker's pass is for other businesses",
            Self::PassExpired => "the coworker's pass has expired",
            Self::PassUsedUp => "the coworker's pass is used up",
            Self::PassOutsideHours => "the coworker's pass does not cover this weekday and time",
            Self::PassNoNetwork => "the coworker's pass does not allow check-ins by network; they can use a door",
            Self::PassInUse => "the coworker's pass is in use by another check-in; check that one out",
        }
    }

    /// `code: sentence`, as `Description` holds it.
    pub fn description(self) -> String {
        format!("{}: {}", self.code(), self.sentence())
    }

    /// `code: sentence (detail)`, where something is known that the front desk needs.
    pub fn description_with(self, detail: Option<&str>) -> String {
        detail.map_or_else(|| self.description(), |detail| format!("{} ({detail})", self.description()))
    }
}

/// Why nothing but the sighting log was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// Network evidence of somebody who is checked in at another business.
    InElsewhere,
}

impl Note {
    /// Every note.
    pub const ALL: [Self; 11] = [
        Self::NotCheckedIn,
        Self::Lingering,
        Self::Late,
        Self::NamesNobody,
        Self::RecordOnly,
        Self::RepeatedTap,
        Self::DwellNotReached,
        Self::NetworkMayNotOpen,
        Self::WeakEvidence,
        Self::FailedBefore,
        Self::InElsewhere,
    ];

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
            Self::InElsewhere => "in_elsewhere",
        }
    }

    /// The note with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|note| note.word() == word)
    }

    /// The sentence that tells the front desk what happened.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::NotCheckedIn => "not checked in here at that time, so there was nothing to end or refresh",
            Self::Lingering => "just checked out; the device is still in range",
            Self::Late => "too old to change anything",
            Self::NamesNobody => "the event names no one",
            Self::RecordOnly => "the settings only record what this door says",
            Self::RepeatedTap => "the same credential at the same door again, too soon",
            Self::DwellNotReached => "the device has not been here long enough yet",
            Self::NetworkMayNotOpen => "the settings do not let the network open this check-in",
            Self::WeakEvidence => "others may have sent this for the device; it checks no one in",
            Self::FailedBefore => "this device already has the same failed check-in on this day",
            Self::InElsewhere => "checked in at another business at that time",
        }
    }
}

/// Every word that explains a decision, by its number in the log. Only ever appended to.
const WORDS: [&str; 53] = [
    "unrecognised_card",
    "unrecognised_device",
    "ambiguous_card",
    "ambiguous_device",
    "coworker_inactive",
    "coworker_archived",
    "other_business",
    "network_not_allowed",
    "duress",
    "door_not_configured",
    "plan_limit_days_week",
    "plan_limit_days_month",
    "plan_limit_days_cycle",
    "plan_limit_hours_week",
    "plan_limit_hours_month",
    "plan_limit_hours_cycle",
    "no_valid_pass",
    "pass_archived",
    "pass_not_for_customer",
    "pass_other_business",
    "pass_expired",
    "pass_used_up",
    "pass_outside_hours",
    "pass_no_network",
    "pass_in_use",
    "refused_no_rights",
    "refused_outside_hours",
    "refused_expired",
    "refused_disabled",
    "refused_wrong_pin",
    "refused_anti_passback",
    "refused_interlock",
    "refused_more_cards",
    "refused_by_controller",
    "not_checked_in",
    "lingering",
    "late",
    "names_nobody",
    "record_only",
    "repeated_tap",
    "dwell_not_reached",
    "network_may_not_open",
    "weak_evidence",
    "failed_before",
    "in_elsewhere",
    "oversize",
    "empty",
    "not_utf8",
    "not_in_format",
    "bad_field",
    "no_rule",
    "unknown_topic",
    "other_topic",
];

/// What the log keeps of a decision: the outcome and the word that explains it, as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DecisionCode(pub i64);

impl DecisionCode {
    /// Of an outcome and its word.
    pub fn of(outcome: Outcome, word: Option<&str>) -> Self {
        let word = word.and_then(|word| WORDS.iter().position(|known| *known == word));
        let number = |at: Option<usize>| at.and_then(|at| i64::try_from(at + 1).ok()).unwrap_or(0);
        Self(number(Outcome::ALL.iter().position(|known| *known == outcome)) * 1000 + number(word))
    }

    /// The outcome.
    pub fn outcome(self) -> Outcome {
        let at = usize::try_from(self.0 / 1000 - 1).ok();
        at.and_then(|at| Outcome::ALL.get(at)).copied().unwrap_or(Outcome::Recorded)
    }

    /// The word that explains it.
    pub fn word(self) -> Option<&'static str> {
        let at = usize::try_from(self.0 % 1000 - 1).ok()?;
        WORDS.get(at).copied()
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

    #[test]
    fn every_word_has_its_number_in_the_log() {
        let reasons = Reason::all().map(|reason| (Outcome::Failed, reason.code()));
        let notes = Note::ALL.into_iter().map(|note| (Outcome::Recorded, note.word()));
        let rejected =
            crate::mapping::content::RejectReason::ALL.into_iter().map(|why| (Outcome::Rejected, why.word()));
        for (outcome, word) in reasons.chain(notes).chain(rejected) {
            let code = DecisionCode::of(outcome, Some(word));
            assert_eq!((code.outcome(), code.word()), (outcome, Some(word)));
        }
        assert_eq!(DecisionCode::of(Outcome::Opened, None).word(), None);
    }
}
