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

/// Who says whether a claim may open a check-in: asked only where one would be opened.
pub trait AdmissionCheck {
    /// May this claim open a check-in that began at `from`, for somebody who stands there? `continued` is the pass of a visit
    /// elsewhere that it ends.
    fn admission(&self, claim: &Claim, from: WallTime, person: &PersonState, continued: Option<Uuid>) -> Admission;

    /// May somebody whose pass ends at this instant stay? No claim is made: no one has said that they are still there, nor
    /// that they left.
    fn stay(&self, at: WallTime, source: CheckinSource, person: &PersonState) -> Admission;
}

/// Where a claim is made, and what holds there at its time.
#[derive(Clone, Copy)]
pub struct ClaimContext<'a> {
    /// The business.
    pub business: BusinessId,
    /// Its rules at the time.
    pub rules: &'a Rules,
    /// When its captures could hear.
    pub coverage: &'a Coverage,
    /// Who may come in.
    pub gate: &'a dyn AdmissionCheck,
    /// How long a device may be silent at the business where the person is in, if that is another.
    pub idle_elsewhere: std::time::Duration,
}

impl std::fmt::Debug for ClaimContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene").field("business", &self.business).field("rules", &self.rules).finish_non_exhaustive()
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
    /// What followed, where a pass ended under somebody of whom nothing was heard either way.
    pub after_pass: Option<AfterPass>,
}

/// What becomes of somebody whose pass ends while they are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterPass {
    /// Another pass covers them: a visit of its own.
    On(Uuid),
    /// None does: a failed check-in.
    Refused(Refused),
}
