//! PURE. The context of a claim, the check that decides whether it may open a check-in, and how a visit ended.

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

/// Decides whether a claim may open a check-in. Called only if one would be opened.
pub trait AdmissionCheck {
    /// Whether this claim may open a check-in that began at `from`, for a person in this state. `continued` is the pass
    /// of a visit elsewhere that the claim ends.
    fn may_open(&self, claim: &Claim, from: WallTime, person: &PersonState, continued: Option<Uuid>) -> Admission;

    /// Whether a person in this state may come in at this instant, for whom an edit says so.
    fn may_come_in(
        &self,
        at: WallTime,
        source: CheckinSource,
        person: &PersonState,
        continued: Option<Uuid>,
    ) -> Admission;

    /// Whether a person may stay when their pass ends at this instant. There is no claim: nothing shows whether they
    /// are still there or have left.
    fn may_stay(&self, at: WallTime, source: CheckinSource, person: &PersonState) -> Admission;
}

/// Where a claim is made, and the rules that apply there at its time.
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
    /// The idle limit of the other business if the person is in elsewhere.
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

/// A visit that was ended by a timer, by the directory or by coming in elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedVisit {
    /// Its identity.
    pub visit: Uuid,
    /// Where.
    pub business: BusinessId,
    /// When it was ended; for silence this is when the timer expired, which is later than the visit's end.
    pub at: WallTime,
    /// What ended it.
    pub by: CloseBy,
    /// What followed, if a pass ended and nothing showed whether the person had left.
    pub after_pass: Option<AfterPass>,
}

/// What happens to a person whose pass ends while they are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterPass {
    /// Another pass covers them: a new visit.
    On(Uuid),
    /// No other pass covers them: a failed check-in.
    Refused(Refused),
}
