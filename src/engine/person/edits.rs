//! PURE. What edits say about a person: when they were in, and when they were not, whatever doors and devices report.
//!
//! A visit that an edit has set begins when the edit says. While its *pinned span* runs, facts only refresh it, and
//! nothing but the daily cut-off ends it. While a *pinned absence* runs, facts decide nothing. Of several edits of one
//! visit, the last one says how long it was; what each of them took away stays an absence.

use std::{cmp::Reverse, collections::BTreeSet};

use uuid::Uuid;

use super::{
    context::{ClaimContext, EndedVisit},
    known_edits::{KnownEdits, PinnedAbsence, VisitAhead},
    state::PersonState,
    visit::{Pinned, Visit},
};
use crate::{
    base::{
        clock::WallTime,
        fact::{EditFact, EditedEnd, TimeSpan},
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
        let new = KnownEdits::of(edit);
        match self.edits.iter_mut().find(|known| known.visit == edit.visit) {
            Some(known) => known.add(new),
            None => self.edits.push(new),
        }
    }

    /// Forgets what edits say about times before `at`.
    pub fn forget_edits(&mut self, at: WallTime) {
        let places: BTreeSet<BusinessId> = self.edits.iter().map(|known| known.business).collect();
        for place in places {
            if let Some(end) = self.absence_before(place, at) {
                self.absent_until.retain(|(known, _)| *known != place);
                self.absent_until.push((place, end));
            }
        }
        self.edits.retain(|known| known.until > at);
    }

    /// The next boundary that edits have set.
    pub fn next_boundary(&self) -> Option<(WallTime, EditBoundary)> {
        let absences = self.absences().filter(|(absence, ..)| !absence.begun);
        let absences = absences.map(|(_, _, span)| (span.from, EditBoundary::AbsenceBegins));
        let visits = self.visits_ahead().map(|(_, ahead)| (ahead.from, EditBoundary::VisitBegins));
        absences.chain(visits).min()
    }

    /// What edits took away, as far as no later edit says that the person came in: the absence, its business, and what is
    /// left of it.
    fn absences(&self) -> impl Iterator<Item = (&PinnedAbsence, BusinessId, TimeSpan)> {
        let of = |known: &KnownEdits| known.business;
        self.edits
            .iter()
            .flat_map(move |known| known.absences.iter().map(move |absence| (absence, of(known))))
            .filter_map(|(absence, business)| {
                let later = self.edits.iter().filter(|known| {
                    known.business == business && known.latest > absence.made && !self.is_overruled(known)
                });
                let cut = later.filter_map(|known| known.open_from).min().unwrap_or(absence.span.to);
                let span = TimeSpan { from: absence.span.from, to: absence.span.to.min(cut) };
                (span.from < span.to).then_some((absence, business, span))
            })
    }

    /// Whether an edit only says that the person came in while they were in, and a later edit of that visit says
    /// otherwise: who made it knew of both.
    fn is_overruled(&self, joins: &KnownEdits) -> bool {
        let Some(VisitAhead { from, end: EditedEnd::Joins, .. }) = joins.ahead else { return false };
        let mut was = self.edits.iter().filter(|known| known.business == joins.business).flat_map(|known| &known.was);
        was.any(|(span, made)| *made > joins.latest && span.contains(from))
    }

    /// The visits that edits have set and that have not begun.
    fn visits_ahead(&self) -> impl Iterator<Item = (&KnownEdits, &VisitAhead)> {
        let ahead = self.edits.iter().filter_map(|known| Some((known, known.ahead.as_ref()?)));
        ahead.filter(|(known, _)| !self.is_overruled(known))
    }

    /// The business of the visit that begins at this instant.
    pub fn begins_at(&self, at: WallTime) -> Option<BusinessId> {
        self.beginning(at).map(|(_, business, _)| business)
    }

    /// If several begin at this instant, the one that was edited last. One that only joins a visit gives way to the
    /// others, and to an earlier one of its kind.
    fn beginning(&self, at: WallTime) -> Option<(Uuid, BusinessId, VisitAhead)> {
        let now = self.visits_ahead().filter(|(_, ahead)| ahead.from <= at);
        let rank = |(known, ahead): &(&KnownEdits, &VisitAhead)| {
            let joins = ahead.end == EditedEnd::Joins;
            (!joins, (!joins).then_some(known.latest), Reverse(joins.then_some(known.latest)))
        };
        now.max_by_key(rank).map(|(known, ahead)| (known.visit, known.business, ahead.clone()))
    }

    /// Begins the absences of this instant: an open visit at their business ends, unless an edit says that it goes on.
    pub fn begin_absences(&mut self, at: WallTime) -> Option<EndedVisit> {
        let places: BTreeSet<BusinessId> = self
            .absences()
            .filter(|(absence, _, span)| !absence.begun && span.from <= at)
            .map(|(_, business, _)| business)
            .collect();
        let begin = |absence: &mut PinnedAbsence| absence.begun |= absence.span.from <= at;
        self.edits.iter_mut().flat_map(|known| &mut known.absences).for_each(begin);
        let ends = self.open().is_some_and(|open| !open.runs_at(at) && places.contains(&open.business));
        if ends { self.close_open(CloseBy::Edit, at) } else { None }
    }

    /// Begins the visit that an edit has set at this instant. Without the settings of its business, it cannot begin.
    pub fn begin_pinned(&mut self, context: Option<&ClaimContext<'_>>, at: WallTime) -> Option<PinnedVisit> {
        let (unique_id, business, ahead) = self.beginning(at)?;
        // An overruled one never begins, and has to be told from one that has begun.
        let begun: BTreeSet<Uuid> =
            self.visits_ahead().filter(|(_, ahead)| ahead.from <= at).map(|(known, _)| known.visit).collect();
        for known in self.edits.iter_mut().filter(|known| begun.contains(&known.visit)) {
            known.ahead = None;
        }
        let context = context?;
        let VisitAhead { source, from, end } = ahead;
        // Someone who is in already is only seen again.
        if end == EditedEnd::Joins
            && let Some(open) = self.visits.iter_mut().find(|visit| visit.is_open() && visit.business == business)
        {
            open.last_activity = open.last_activity.max(from);
            return Some(PinnedVisit { ended: None, visit: None });
        }
        let elsewhere = self.open().filter(|open| open.business != business);
        let continued = elsewhere.and_then(Visit::held_pass);
        let ended = self.close_open(CloseBy::Edit, from);
        // The visit exists whatever admission says: then it has no pass.
        let pass = match context.admission.may_come_in(from, source, self, continued) {
            Admission::Admitted(pass) => pass,
            Admission::Refused(_) | Admission::NotNow(_) => None,
        };
        let day = context.rules.calendar.pass_day(from);
        self.came_on(business, day);
        if source != CheckinSource::NetworkActivity {
            self.let_in_at(business, from);
        }
        self.visits.push(Visit {
            pinned: match end {
                EditedEnd::At(to) => Pinned::Until(to),
                EditedEnd::NotBefore(at) => Pinned::NotBefore(at),
                EditedEnd::Unset | EditedEnd::Joins => Pinned::Begin,
            },
            ..Visit::begun(unique_id, (business, source), from, day, pass)
        });
        Some(PinnedVisit { ended, visit: Some(unique_id) })
    }

    /// Ends the pinned span of the open visit, and with it the visit if the edit says so.
    pub fn end_span(&mut self, at: WallTime) -> Option<EndedVisit> {
        let visit = self.visits.iter_mut().find(|visit| visit.is_open())?;
        match visit.pinned {
            Pinned::Until(_) => self.close_open(CloseBy::PinnedEnd, at),
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
        let mut absences = self.absences();
        let absent = absences.any(|(_, business, span)| business == context.business && span.contains(at));
        absent.then(|| Decision::recorded(Note::Edited))
    }

    /// The end of the last absence at a business before this instant: no evidence from before it opens a visit there.
    pub(super) fn absence_before(&self, business: BusinessId, at: WallTime) -> Option<WallTime> {
        let known = self.absences().filter(|(_, place, _)| *place == business).map(|(_, _, span)| span.to);
        let passed = self.absent_until.iter().filter(|(place, _)| *place == business).map(|(_, until)| *until);
        known.filter(|to| *to <= at).chain(passed).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fact::{Edit, FactDigest, Subject};

    fn at(minute: i64) -> WallTime {
        WallTime::from_millis(1_772_442_000_000 + minute * 60_000)
    }

    fn edit(visit: u128, made: i64, was: Option<(i64, i64)>, edit: Edit) -> EditFact {
        EditFact {
            business: BusinessId(1),
            subject: Subject(7),
            made: at(made),
            digest: FactDigest([7; 16]),
            visit: Uuid::from_u128(visit),
            source: CheckinSource::Manual,
            by: "desk@example.com".into(),
            was: was.map(|(from, to)| TimeSpan { from: at(from), to: at(to) }),
            edit,
        }
    }

    /// A visit that begins later must not bring it back.
    #[test]
    fn who_came_in_by_an_overruled_edit_cuts_no_absence() {
        let set = |from: i64, end| Edit::Set { from: at(from), end, overrides: false };
        let mut person = PersonState::default();
        for edit in [
            edit(1, 300, Some((0, 240)), Edit::Removed),
            edit(2, 310, None, set(60, EditedEnd::Joins)),
            edit(3, 320, Some((60, 90)), Edit::Removed),
            edit(4, 330, None, set(120, EditedEnd::At(at(150)))),
        ] {
            person.learn(&edit);
        }
        let is_absent = |person: &PersonState| {
            person.absences().any(|(_, _, span)| span.contains(at(60)) && span.contains(at(200)))
        };
        assert!(is_absent(&person));
        assert_eq!(person.begins_at(at(60)), None);
        person.begin_pinned(None, at(120));
        assert!(is_absent(&person));
    }
}
