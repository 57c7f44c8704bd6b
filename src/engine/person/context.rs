//! PURE. Where a claim is made, who decides whether it may open a check-in, and what ends a visit.

use uuid::Uuid;

use super::state::PersonState;
use crate::{
    base::{
        clock::WallTime,
        record::{BusinessId, CheckinSource},
    },
    engine::{Admission, Claim, coverage::Coverage, life::CloseBy, passes::Refused},
    policy::Rules,
};

/// Decides whether a claim may open a check-in. It is asked only when one would be opened.
pub trait AdmissionCheck {
    /// May this claim open a check-in that began at `from`, for a person in this state? `continued` is the pass of a
    /// visit elsewhere that it ends.
    fn may_open(&self, claim: &Claim, from: WallTime, person: &PersonState, continued: Option<Uuid>) -> Admission;

    /// May a person whose pass ends at this instant stay? There is no claim: nothing says that they are still there, or
    /// that they left.
    fn may_stay(&self, at: WallTime, source: CheckinSource, person: &PersonState) -> Admission;
}

/// Where a claim is made, and what holds there at its time.
#[derive(Clone, Copy)]
pub struct ClaimContext<'a> {
    /// The business.
    pub business: BusinessId,
    /// Its rules at the time.
    pub rules: &'a Rules,
    /// The coverage of its captures.
    pub coverage: &'a Coverage,
    /// Decides who may come in.
    pub admission: &'a dyn AdmissionCheck,
    /// The idle limit of the business where the person is in, if that is another.
    pub idle_elsewhere: std::time::Duration,
}

impl std::fmt::Debug for ClaimContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClaimContext")
            .field("business", &self.business)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// A visit that a timer, or coming in elsewhere, has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedVisit {
    /// Which.
    pub visit: Uuid,
    /// Where.
    pub business: BusinessId,
    /// When the timer ran out, which for silence is later than the visit's end.
    pub at: WallTime,
    /// Which timer.
    pub by: CloseBy,
    /// What followed when a pass ended and nothing said whether the person had left.
    pub after_pass: Option<AfterPass>,
}

/// What becomes of a person whose pass ends while they are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterPass {
    /// Another pass covers them: a new visit.
    On(Uuid),
    /// No other pass covers them: a failed check-in.
    Refused(Refused),
}
