//! PURE. Ends visits on timers, and decides what happens to a person whose pass ends while they are in.

use std::collections::BTreeSet;

use super::{
    context::{AfterPass, ClaimContext, EndedVisit},
    state::PersonState,
    visit::{Pinned, Visit},
};
use crate::{
    base::clock::WallTime,
    engine::{Admission, identity, life::CloseBy},
};

impl PersonState {
    /// Closes the open visit, and decides nothing more.
    pub(super) fn close_open(&mut self, by: CloseBy, at: WallTime) -> Option<EndedVisit> {
        let visit = self.visits.iter_mut().find(|visit| visit.is_open())?;
        visit.close(by, at);
        Some(EndedVisit { visit: visit.unique_id, business: visit.business, at, by, after_pass: None })
    }

    /// Ends the open visit on a timer that expired at `at`.
    pub fn end(&mut self, context: Option<&ClaimContext<'_>>, by: CloseBy, at: WallTime) -> Option<EndedVisit> {
        let visit = self.visits.iter_mut().find(|visit| visit.is_open())?;
        visit.close(by, at);
        if by == CloseBy::Silence {
            self.silent_at = Some((visit.business, at));
        }
        let ended = visit.clone();
        let then = (by == CloseBy::PassEnd && !ended.is_tracked())
            .then(|| context.and_then(|context| self.stay_after_pass(context, &ended, at)))
            .flatten();
        Some(EndedVisit { visit: ended.unique_id, business: ended.business, at, by, after_pass: then })
    }

    /// Decides what happens to an untracked person when their pass ends and no door has reported an exit. Another valid
    /// pass takes over; without one, a failed check-in tells the front desk. For a tracked person, the network shows
    /// whether they are still there.
    fn stay_after_pass(&mut self, context: &ClaimContext<'_>, ended: &Visit, at: WallTime) -> Option<AfterPass> {
        match context.admission.may_stay(at, ended.source, self) {
            Admission::Admitted(pass) => {
                let id = identity([ended.unique_id.as_bytes().as_slice(), b"stay", &at.millis().to_be_bytes()]);
                self.visits.push(Visit {
                    unique_id: id,
                    from: at,
                    admitted_at: at,
                    to: None,
                    day: context.rules.calendar.pass_day(at),
                    auto_checkout: false,
                    pass_ended: false,
                    last_activity: at,
                    macs: BTreeSet::new(),
                    strong_at: None,
                    lingered_at: None,
                    pass,
                    first_of_day: false,
                    since: at,
                    before: 0,
                    pinned: Pinned::No,
                    ..ended.clone()
                });
                Some(AfterPass::On(id))
            }
            Admission::Refused(refused) => Some(AfterPass::Refused(refused)),
            Admission::NotNow(_) => None,
        }
    }
}
