//! PURE. Corrects a person's state for an edit of a visit whose facts are deleted: nothing can be folded again, so the
//! visit, or what it added to the totals, is changed in place.

use chrono::NaiveDate;
use uuid::Uuid;

use super::{
    state::PersonState,
    visit::{Pinned, Visit},
};
use crate::{
    base::clock::WallTime,
    engine::passes::{Shift, Used},
};

/// An edit of a visit whose facts are deleted.
#[derive(Clone, Copy, Debug)]
pub struct Amendment<'a> {
    /// The visit as it was recorded, which was over.
    pub was: &'a Visit,
    /// When it ended.
    pub ended: WallTime,
    /// The beginning and end that it has now; `None` if it is deleted.
    pub now: Option<(WallTime, WallTime)>,
    /// Whether no other visit of its pass day counts towards the plan.
    pub alone_towards_plan: bool,
    /// Whether no other visit of its pass day uses its pass.
    pub alone_on_pass: bool,
}

/// What an amendment changes in totals that are stored outside the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AmendedTotals {
    /// Towards the limits of the plan, from this date on.
    pub plan: Option<(NaiveDate, Shift)>,
    /// Of a pass, as counted since the import at this instant.
    pub pass: Option<(Uuid, WallTime, Shift)>,
}

impl Amendment<'_> {
    /// What is added to the totals of all dates from the visit's on.
    fn towards_plan(&self) -> Shift {
        let seconds = |(from, to): (WallTime, WallTime)| i64::try_from(to.since(from).as_secs()).unwrap_or(i64::MAX);
        let days = if self.now.is_none() && self.alone_towards_plan { -1 } else { 0 };
        Shift { days, seconds: self.now.map_or(0, seconds) - seconds((self.was.from, self.ended)) }
    }

    /// What is added to the use of its pass, counted from an import at `basis_at`.
    fn of_pass(&self, basis_at: WallTime) -> Shift {
        let seconds = |(from, to): (WallTime, WallTime)| {
            if to >= basis_at { i64::try_from(to.since(from).as_secs()).unwrap_or(i64::MAX) } else { 0 }
        };
        let counted = self.was.from >= basis_at && self.alone_on_pass;
        let days = if self.now.is_none() && counted { -1 } else { 0 };
        Shift { days, seconds: self.now.map_or(0, seconds) - seconds((self.was.from, self.ended)) }
    }
}

impl PersonState {
    /// Applies an amendment, if the visit is part of this state. Returns what it changes in totals outside it.
    pub fn amend(&mut self, amendment: &Amendment<'_>) -> AmendedTotals {
        let mut totals = AmendedTotals::default();
        let id = amendment.was.unique_id;
        // A visit that is not counted yet is changed itself.
        if let Some(index) = self.visits.iter().position(|visit| visit.unique_id == id) {
            match amendment.now {
                None => {
                    self.visits.remove(index);
                }
                Some((from, to)) => {
                    let visit = &mut self.visits[index];
                    (visit.from, visit.since, visit.before) = (from, from, 0);
                    (visit.to, visit.pinned, visit.auto_checkout) = (Some(to), Pinned::Until(to), false);
                    visit.last_activity = visit.last_activity.clamp(from, to);
                }
            }
            return totals;
        }
        // A state from before the visit does not contain it.
        if self.folded.at < amendment.ended {
            return totals;
        }
        if let Some(pass) = amendment.was.held_pass()
            && let Some((_, used)) = self.used.iter_mut().find(|(known, _)| *known == pass)
        {
            let shift = amendment.of_pass(used.basis_at);
            *used = Used { days: shift.of_days(used.days), seconds: shift.of_seconds(used.seconds), ..*used };
            totals.pass = Some((pass, used.basis_at, shift));
        }
        if amendment.was.counts() {
            let (date, shift) = (amendment.was.day.date, amendment.towards_plan());
            self.counted.shift(date, shift);
            totals.plan = Some((date, shift));
        }
        totals
    }
}
