//! PURE. What edits say about a person: when they were in, and when they were not, whatever doors and devices report.
//!
//! A visit that an edit has set begins when the edit says. While its *pinned span* runs, facts only refresh it, and
//! nothing but the daily cut-off ends it. While a *pinned absence* runs, facts decide nothing. Of several edits of one
//! visit, the last one says how long it was; what each of them took away stays an absence.

use std::{cmp::Reverse, collections::BTreeSet};

use uuid::Uuid;

use super::{
    context::{ClaimContext, EndedVisit},
    known_edits::{KnownEdits, VisitAhead},
    state::PersonState,
    visit::{Pinned, Visit},
};
use crate::{
    base::{
        clock::WallTime,
        fact::{Edit, EditFact, EditedEnd, TimeSpan},
        record::{BusinessId, CheckinSource},
    },
    engine::{
        Admission, Claim, Decision,
        decision::{Note, Outcome},
        life::CloseBy,
    },
};

/// What happens at a boundary that an edit has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EditBoundary {
    /// An absence begins.
    AbsenceBegins,
    /// A visit begins.
    VisitBegins,
}

/// A visit that has begun because an edit says so.
#[derive(Debug)]
pub struct PinnedVisit {
    /// The visit that it ended.
    pub ended: Option<EndedVisit>,
    /// Its identity; `None` if the person was in already.
    pub visit: Option<Uuid>,
}

impl PersonState {
    /// Learns what an edit says.
    pub fn learn(&mut self, edit: &EditFact) {
        let made = (edit.made, edit.digest);
        let ahead = match edit.edit {
            Edit::Set { from, end, .. } => Some(VisitAhead { business: edit.business, source: edit.source, from, end }),
            Edit::Removed | Edit::Refused { .. } => None,
        };
        let ends = ahead.as_ref().map(|ahead| match ahead.end {
            EditedEnd::At(to) | EditedEnd::NotBefore(to) => to,
            EditedEnd::Unset | EditedEnd::Joins => ahead.from,
        });
        let until = ends.into_iter().chain(edit.was.map(|was| was.to)).max().unwrap_or(edit.at()).moved(1);
        let absences = edit.absences().map(|span| (span, false));
        match self.edits.iter_mut().find(|known| known.visit == edit.visit) {
            Some(known) => {
                if made > known.latest {
                    (known.latest, known.ahead) = (made, ahead);
                }
                known.absences.extend(absences);
                known.until = known.until.max(until);
            }
            None => self.edits.push(KnownEdits {
                visit: edit.visit,
                latest: made,
                ahead,
                absences: absences.collect(),
                until,
            }),
        }
    }

    /// Forgets what edits say about times before `at`.
    pub fn forget_edits(&mut self, at: WallTime) {
        self.absent_until = self.absent_until.max(self.absence_before(at));
        self.edits.retain(|known| known.until > at);
    }

    /// The next boundary that edits have set.
    pub fn next_boundary(&self) -> Option<(WallTime, EditBoundary)> {
        let absences = self.edits.iter().flat_map(|known| &known.absences).filter(|(_, begun)| !begun);
        let absences = absences.map(|(span, _)| (span.from, EditBoundary::AbsenceBegins));
        let visits = self.edits.iter().filter_map(|known| known.ahead.as_ref());
        absences.chain(visits.map(|ahead| (ahead.from, EditBoundary::VisitBegins))).min()
    }

    /// The business of the visit that begins at this instant.
    pub fn begins_at(&self, at: WallTime) -> Option<BusinessId> {
        self.beginning(at).map(|(_, ahead)| ahead.business)
    }

    /// If several begin at this instant, the one that was edited last. One that only joins a visit gives way to the others,
    /// and to an earlier one of its kind.
    fn beginning(&self, at: WallTime) -> Option<(Uuid, VisitAhead)> {
        let ahead = |known: &KnownEdits| {
            let ahead = known.ahead.clone().filter(|ahead| ahead.from <= at)?;
            let joins = ahead.end == EditedEnd::Joins;
            let rank = (!joins, (!joins).then_some(known.latest), Reverse(joins.then_some(known.latest)));
            Some((rank, known.visit, ahead))
        };
        let last = self.edits.iter().filter_map(ahead).max_by_key(|(rank, ..)| *rank);
        last.map(|(_, visit, ahead)| (visit, ahead))
    }

    /// Begins the absences of this instant: an open visit ends, unless an edit says that it goes on.
    pub fn begin_absences(&mut self, at: WallTime) -> Option<EndedVisit> {
        let begin = |(span, begun): &mut (TimeSpan, bool)| *begun |= span.from <= at;
        self.edits.iter_mut().flat_map(|known| &mut known.absences).for_each(begin);
        if self.open().is_some_and(|open| open.runs_at(at)) { None } else { self.end_by_edit(at) }
    }

    /// Begins the visit that an edit has set at this instant. Without the settings of its business, it cannot begin.
    pub fn begin_pinned(&mut self, context: Option<&ClaimContext<'_>>, at: WallTime) -> Option<PinnedVisit> {
        let (unique_id, ahead) = self.beginning(at)?;
        for known in &mut self.edits {
            known.ahead.take_if(|ahead| ahead.from <= at);
        }
        let context = context?;
        let VisitAhead { business, source, from, end } = ahead;
        // Someone who is in already is only seen again.
        if end == EditedEnd::Joins
            && let Some(open) = self.visits.iter_mut().find(|visit| visit.is_open() && visit.business == business)
        {
            open.last_activity = open.last_activity.max(from);
            return Some(PinnedVisit { ended: None, visit: None });
        }
        let elsewhere = self.open().filter(|open| open.business != business);
        let continued = elsewhere.and_then(Visit::held_pass);
        let ended = self.end_by_edit(from);
        // The visit exists whatever admission says: then it has no pass.
        let pass = match context.admission.may_come_in(from, source, self, continued) {
            Admission::Admitted(pass) => pass,
            Admission::Refused(_) | Admission::NotNow(_) => None,
        };
        let day = context.rules.calendar.pass_day(from);
        self.came.retain(|(known, _)| *known != business);
        self.came.push((business, day.start));
        if source != CheckinSource::NetworkActivity {
            self.let_in.retain(|(known, _)| *known != business);
            self.let_in.push((business, from));
        }
        self.visits.push(Visit {
            unique_id,
            business,
            source,
            from,
            admitted_at: from,
            to: None,
            day,
            auto_checkout: false,
            pass_ended: false,
            last_activity: from,
            macs: BTreeSet::new(),
            door_in_at: None,
            strong_at: None,
            lingered_at: None,
            pass,
            first_of_day: false,
            since: from,
            before: 0,
            pinned: match end {
                EditedEnd::At(to) => Pinned::Until(to),
                EditedEnd::NotBefore(at) => Pinned::NotBefore(at),
                EditedEnd::Unset | EditedEnd::Joins => Pinned::Begin,
            },
        });
        Some(PinnedVisit { ended, visit: Some(unique_id) })
    }

    /// Ends the pinned span of the open visit, and with it the visit if the edit says so.
    pub fn end_span(&mut self, at: WallTime) -> Option<EndedVisit> {
        let visit = self.visits.iter_mut().find(|visit| visit.is_open())?;
        match visit.pinned {
            Pinned::Until(_) => {
                visit.close(CloseBy::PinnedEnd, at);
                let (visit, business) = (visit.unique_id, visit.business);
                Some(EndedVisit { visit, business, at, by: CloseBy::PinnedEnd, after_pass: None })
            }
            Pinned::NotBefore(_) => {
                visit.pinned = Pinned::Begin;
                visit.last_activity = visit.last_activity.max(at);
                if let Some(pass) = &mut visit.pass {
                    pass.ends = pass.ends.map(|(end, why)| (end.max(at), why));
                }
                None
            }
            Pinned::No | Pinned::Begin => None,
        }
    }

    /// The decision on a claim about a time for which an edit has settled what was true.
    pub(super) fn settled_by_edit(&mut self, context: &ClaimContext<'_>, claim: &Claim) -> Option<Decision> {
        let at = claim.at();
        let runs = self.visits.iter().position(|visit| visit.is_open() && visit.runs_at(at));
        if let Some(index) = runs {
            let visit = self.visits.get(index).filter(|visit| visit.business == context.business);
            let (Some(unique_id), Claim::Door { .. } | Claim::Network { .. }) =
                (visit.map(|visit| visit.unique_id), claim)
            else {
                return Some(Decision::recorded(Note::Edited));
            };
            self.freshen(index, context, claim);
            return Some(Decision::of(Outcome::Refreshed, unique_id));
        }
        let mut absences = self.edits.iter().flat_map(|known| &known.absences);
        absences.any(|(span, _)| span.contains(at)).then(|| Decision::recorded(Note::Edited))
    }

    /// The end of the last absence before this instant: no evidence from before it opens a visit.
    pub(super) fn absence_before(&self, at: WallTime) -> Option<WallTime> {
        let absences = self.edits.iter().flat_map(|known| &known.absences);
        absences.map(|(span, _)| span.to).filter(|to| *to <= at).max().max(self.absent_until)
    }

    fn end_by_edit(&mut self, at: WallTime) -> Option<EndedVisit> {
        let visit = self.visits.iter_mut().find(|visit| visit.is_open())?;
        visit.close(CloseBy::Edit, at);
        let (visit, business) = (visit.unique_id, visit.business);
        Some(EndedVisit { visit, business, at, by: CloseBy::Edit, after_pass: None })
    }
}
