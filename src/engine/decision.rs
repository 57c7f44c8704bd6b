//! PURE. The engine's answers: an outcome, and the reason or note that explains it.
//!
//! The codes are a closed list and part of the product: every `Description` starts with one, metrics are labelled by
//! them, and `explain` shows them. Each is defined once, in one row with its sentence and its number in the log of
//! facts.

use serde::{Deserialize, Serialize};

use crate::{
    base::{closed_list::closed_list, sighting::Refusal},
    mapping::content::RejectReason,
};

closed_list! {
    /// What became of a received event. Every event ends in exactly one of these, and each is counted.
    ///
    /// The order of declaration determines the numbers in the log of facts: append only.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum Outcome: &'static str {
        /// A check-in was opened.
        Opened => "opened",
        /// A check-in was refreshed.
        Refreshed => "refreshed",
        /// A check-in was closed.
        Closed => "closed",
        /// A failed check-in was written.
        Failed => "failed",
        /// Only the log of facts was written.
        Recorded => "recorded",
        /// The same sighting has already been decided.
        Duplicate => "duplicate",
        /// The message could not be mapped.
        Rejected => "rejected",
        /// The database did not take it, so it was set aside, undecided.
        SetAside => "set_aside",
    }
}

impl Outcome {
    /// The word for metrics and the log of facts.
    pub const fn word(self) -> &'static str {
        self.row()
    }
}

closed_list! {
    /// A limit of a plan: what is counted, and in which window. The row is `true` if hours are counted.
    ///
    /// Limits are checked in this order.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum PlanLimit: bool {
        /// Days of access in a week.
        DaysWeek => false,
        /// Days of access in a calendar month.
        DaysMonth => false,
        /// Days of access in a billing cycle.
        DaysCycle => false,
        /// Hours in a week.
        HoursWeek => true,
        /// Hours in a calendar month.
        HoursMonth => true,
        /// Hours in a billing cycle.
        HoursCycle => true,
    }
}

impl PlanLimit {
    /// Whether hours are counted rather than days.
    pub const fn is_hours(self) -> bool {
        self.row()
    }
}

/// Declares [`Reason`] with one row per reason: its number in the log of facts, its code and its sentence. A variant
/// that holds another enum has a row for each variant of that enum; adding a variant there does not compile without its
/// row here.
macro_rules! reasons {
    (
        $(#[$about:meta])*
        pub enum $name:ident {
            $(
                $(#[$meaning:meta])*
                $variant:ident
                $(=> ($number:literal, $code:literal, $sentence:literal))?
                $(($inner:ident) {
                    $($part:ident => ($part_number:literal, $part_code:literal, $part_sentence:literal),)+
                })?,
            )+
        }
    ) => {
        $(#[$about])*
        pub enum $name {
            $($(#[$meaning])* $variant $(($inner))?,)+
        }

        impl $name {
            /// Every reason with its row.
            const ROWS: &[(Self, ReasonRow)] = &[
                $(
                    $((Self::$variant, ($number, $code, $sentence)),)?
                    $($((Self::$variant($inner::$part), ($part_number, $part_code, $part_sentence)),)+)?
                )+
            ];

            const fn row(self) -> ReasonRow {
                match self {
                    $(
                        $(Self::$variant => ($number, $code, $sentence),)?
                        $($(Self::$variant($inner::$part) => ($part_number, $part_code, $part_sentence),)+)?
                    )+
                }
            }
        }
    };
}

/// The number in the log of facts, the code and the sentence of a reason.
type ReasonRow = (i64, &'static str, &'static str);

reasons! {
    /// Why a check-in failed: the code and sentence of a failed check-in's `Description`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum Reason {
        /// No coworker has this card, fob or PIN.
        UnrecognisedCard => (1, "unrecognised_card", "no coworker has this card, fob or PIN"),
        /// No coworker has a device with this MAC address.
        UnrecognisedDevice => (2, "unrecognised_device", "no coworker has a device with this MAC address"),
        /// More than one coworker has this card, fob or PIN.
        AmbiguousCard => (
            3,
            "ambiguous_card",
            "more than one coworker has this card, fob or PIN; remove it from all but one"
        ),
        /// More than one coworker has this MAC address.
        AmbiguousDevice => (
            4,
            "ambiguous_device",
            "more than one coworker has a device with this MAC address; remove it from all but one"
        ),
        /// The coworker is not active.
        CoworkerInactive => (5, "coworker_inactive", "the coworker is not active"),
        /// The coworker is archived.
        CoworkerArchived => (6, "coworker_archived", "the coworker is archived"),
        /// The coworker belongs to other businesses.
        OtherBusiness => (7, "other_business", "the coworker does not belong to this business"),
        /// The coworker may not check in by network.
        NetworkNotAllowed => (8, "network_not_allowed", "the coworker is not allowed to check in by network"),
        /// The controller refused.
        RefusedByController(Refusal) {
            NoRights => (26, "refused_no_rights", "the door controller refused: no rights at this door"),
            OutsideHours => (27, "refused_outside_hours", "the door controller refused: outside the permitted hours"),
            Expired => (28, "refused_expired", "the door controller refused: the credential has expired"),
            Disabled => (29, "refused_disabled", "the door controller refused: the credential is disabled"),
            WrongPin => (30, "refused_wrong_pin", "the door controller refused: wrong PIN"),
            AntiPassback => (31, "refused_anti_passback", "the door controller refused: anti-passback"),
            Interlock => (32, "refused_interlock", "the door controller refused: another door is open"),
            MoreCards => (33, "refused_more_cards", "the door controller refused: more cards are required"),
            Other => (34, "refused_by_controller", "the door controller refused and gave no reason that we recognise"),
        },
        /// A duress code was used and the controller did not open.
        Duress => (9, "duress", "a duress code was used and the door stayed shut"),
        /// No `[[door]]` matches the door.
        DoorNotConfigured => (10, "door_not_configured", "no [[door]] in the settings matches this door; add one"),
        /// A limit of the plan is reached.
        PlanLimit(PlanLimit) {
            DaysWeek => (11, "plan_limit_days_week", "the plan's days of access for this week are used up"),
            DaysMonth => (12, "plan_limit_days_month", "the plan's days of access for this month are used up"),
            DaysCycle => (13, "plan_limit_days_cycle", "the plan's days of access for this billing cycle are used up"),
            HoursWeek => (14, "plan_limit_hours_week", "the plan's hours for this week are used up"),
            HoursMonth => (15, "plan_limit_hours_month", "the plan's hours for this month are used up"),
            HoursCycle => (16, "plan_limit_hours_cycle", "the plan's hours for this billing cycle are used up"),
        },
        /// They hold no pass that could be valid here, and no pay-as-you-go pass applies.
        NoValidPass => (
            17,
            "no_valid_pass",
            "the coworker has no pass and no pay-as-you-go pass applies; sell or grant one"
        ),
        /// The kind of pass was withdrawn.
        PassArchived => (18, "pass_archived", "the coworker's kind of pass has been withdrawn; give them another"),
        /// The pass is for another kind of customer, or for other plans.
        PassNotForCustomer => (
            19,
            "pass_not_for_customer",
            "the coworker's pass is not valid for their kind of customer or plan"
        ),
        /// The pass is for other businesses.
        PassOtherBusiness => (20, "pass_other_business", "the coworker's pass is not valid at this business"),
        /// The pass has expired.
        PassExpired => (21, "pass_expired", "the coworker's pass has expired"),
        /// The uses or minutes of the pass are used up.
        PassUsedUp => (22, "pass_used_up", "the coworker's pass is used up"),
        /// The pass does not cover this weekday and time.
        PassOutsideHours => (23, "pass_outside_hours", "the coworker's pass does not cover this weekday and time"),
        /// The pass does not allow check-ins by network.
        PassNoNetwork => (
            24,
            "pass_no_network",
            "the coworker's pass does not allow check-ins by network; they can use a door"
        ),
        /// Another check-in is using the minutes of the pass.
        PassInUse => (25, "pass_in_use", "the coworker's pass is in use by another check-in; check that one out"),
    }
}

impl Reason {
    /// Every reason, for the documentation and for counters that start at zero.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ROWS.iter().map(|(reason, _)| *reason)
    }

    /// The reason with this code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::all().find(|reason| reason.code() == code)
    }

    /// The code: stable, part of the API.
    pub const fn code(self) -> &'static str {
        self.row().1
    }

    /// The sentence that tells the front desk what happened.
    pub const fn sentence(self) -> &'static str {
        self.row().2
    }

    /// `code: sentence`, as in `Description`.
    pub fn description(self) -> String {
        format!("{}: {}", self.code(), self.sentence())
    }

    /// `code: sentence (detail)`, if there is a detail for the front desk.
    pub fn description_with(self, detail: Option<&str>) -> String {
        detail.map_or_else(|| self.description(), |detail| format!("{} ({detail})", self.description()))
    }
}

closed_list! {
    /// Why only the log of facts was written. The row holds the number in the log of facts, the word and the sentence.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum Note: (i64, &'static str, &'static str) {
        /// An exit or activity of a person who is not checked in.
        NotCheckedIn => (
            35,
            "not_checked_in",
            "not checked in here at that time, so there was nothing to close or refresh"
        ),
        /// The phone is still in range while its owner leaves.
        Lingering => (36, "lingering", "just checked out; the device is still in range"),
        /// An older event that no longer changes anything.
        Late => (37, "late", "too old to change anything"),
        /// The event does not identify anyone (a button, a door contact).
        NamesNoOne => (38, "names_nobody", "the event does not say who was at the door"),
        /// The door is configured to record only.
        RecordOnly => (39, "record_only", "the settings only record events at this door"),
        /// The same credential at the same door again, too soon.
        RepeatedTap => (40, "repeated_tap", "the same credential at the same door again, too soon"),
        /// The device has not been present for the minimum dwell.
        DwellNotReached => (41, "dwell_not_reached", "the device has not been here long enough yet"),
        /// `network_opens` does not let the network open this check-in.
        NetworkMayNotOpen => (
            42,
            "network_may_not_open",
            "the settings do not let the network open this check-in"
        ),
        /// Weak evidence of a person who is not checked in, or that is too long after the last strong evidence.
        WeakEvidence => (
            43,
            "weak_evidence",
            "another device may have sent this for it, so it checks no one in"
        ),
        /// The same failed check-in has already been written in this pass day.
        FailedBefore => (44, "failed_before", "this device already has the same failed check-in for this day"),
        /// Network evidence of a person who is checked in at another business.
        InElsewhere => (45, "in_elsewhere", "checked in at another business at that time"),
        /// An edit has settled what was true at that time.
        Edited => (55, "edited", "a user of the API has set what was true at that time"),
    }
}

impl Note {
    /// The word for the log of facts.
    pub const fn word(self) -> &'static str {
        self.row().1
    }

    /// The note with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|note| note.word() == word)
    }

    /// The sentence that tells the front desk what happened.
    pub const fn sentence(self) -> &'static str {
        self.row().2
    }
}

/// The number of a rejection in the log of facts.
const fn rejection_number(why: RejectReason) -> i64 {
    match why {
        RejectReason::Oversize => 46,
        RejectReason::Empty => 47,
        RejectReason::NotUtf8 => 48,
        RejectReason::NotInFormat => 49,
        RejectReason::BadField => 50,
        RejectReason::NoRule => 51,
        RejectReason::UnknownTopic => 52,
        RejectReason::OtherTopic => 53,
        RejectReason::Malformed => 54,
    }
}

/// Every word that explains a decision, with its number in the log of facts. A number is never reused for another word.
fn numbered_words() -> impl Iterator<Item = (i64, &'static str)> {
    let reasons = Reason::all().map(|reason| (reason.row().0, reason.code()));
    let notes = Note::ALL.into_iter().map(|note| (note.row().0, note.word()));
    let rejections = RejectReason::ALL.into_iter().map(|why| (rejection_number(why), why.word()));
    reasons.chain(notes).chain(rejections)
}

/// A decision as the log of facts stores it: the outcome and the word that explains it, in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DecisionCode(pub i64);

impl DecisionCode {
    /// From an outcome and its word.
    pub fn of(outcome: Outcome, word: Option<&str>) -> Self {
        let word = word.and_then(|word| numbered_words().find(|(_, known)| *known == word));
        let outcome = Outcome::ALL.iter().position(|known| *known == outcome);
        let outcome = outcome.and_then(|at| i64::try_from(at + 1).ok()).unwrap_or(0);
        Self(outcome * 1000 + word.map_or(0, |(number, _)| number))
    }

    /// The outcome.
    pub fn outcome(self) -> Outcome {
        let at = usize::try_from(self.0 / 1000 - 1).ok();
        at.and_then(|at| Outcome::ALL.get(at)).copied().unwrap_or(Outcome::Recorded)
    }

    /// The word that explains it.
    pub fn word(self) -> Option<&'static str> {
        numbered_words().find(|(number, _)| *number == self.0 % 1000).map(|(_, word)| word)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        let rejected = RejectReason::ALL.into_iter().map(|why| (Outcome::Rejected, why.word()));
        for (outcome, word) in reasons.chain(notes).chain(rejected) {
            let code = DecisionCode::of(outcome, Some(word));
            assert_eq!((code.outcome(), code.word()), (outcome, Some(word)));
        }
        assert_eq!(DecisionCode::of(Outcome::Opened, None).word(), None);
        let numbers: BTreeSet<i64> = numbered_words().map(|(number, _)| number).collect();
        assert_eq!(numbers.len(), numbered_words().count(), "each word has a unique number");
    }
}
