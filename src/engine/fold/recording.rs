//! PURE. What a fold writes: checkpoints, visits, failed check-ins, charges and running totals.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use uuid::Uuid;

use super::{
    folding::Folding,
    records::{ChargeRecord, FailureRecord, Folded, Opened, VisitRecord},
};
use crate::{
    base::{
        clock::WallTime,
        fact::{FactOrder, LogDay, Subject},
        mac::MacAddr,
        record::{BusinessId, CheckinSource, CoworkerId},
    },
    directory::Coworker,
    engine::{
        identity,
        passes::{PassKind, Refused, Used, payg},
        person::{AfterPass, ChargedDay, EndedVisit, PersonState, Visit},
    },
};

impl Folding<'_> {
    /// Takes a person out of the group for an event. Before the first event of a day, it saves a checkpoint.
    pub(super) fn take(&mut self, subject: Subject, at: WallTime) -> Option<PersonState> {
        let person = self.folded.people.remove(&subject)?;
        let day = LogDay::of(at);
        if day > LogDay::of(person.folded.at) {
            self.folded.checkpoints.push((subject, day, person.clone()));
        }
        Some(person)
    }

    /// Puts a person back, and counts their visits that can no longer change.
    pub(super) fn put(&mut self, subject: Subject, mut person: PersonState, place: FactOrder) {
        person.folded = person.folded.max(place);
        person.forget_edits(place.at);
        if let Some(coworker) = subject.as_coworker() {
            while let Some(visit) = person.settled() {
                self.settle(coworker, &mut person, visit, place.at);
            }
        }
        self.folded.people.insert(subject, person);
    }

    pub(super) fn charge(&self, coworker: CoworkerId, visit: &Visit, before: &[ChargedDay]) -> Option<ChargeRecord> {
        let pass = visit.pass.as_ref().filter(|pass| pass.kind == PassKind::PayAsYouGo)?;
        // Prefer the rules from when they came; if those lack something, use the rules from when they were admitted.
        let instants = [visit.from, visit.admitted_at];
        let rules_at = |at| self.world.policy(visit.business, at)?.site.passes.pay_as_you_go.as_ref();
        let rules = instants.into_iter().find_map(rules_at)?;
        let kind = instants.into_iter().find_map(|at| self.world.directory(at).time_pass(pass.time_pass))?;
        let of_day = before.iter().find(|known| known.business == visit.business && known.day == visit.day.start);
        let already = of_day.map(|known| known.charged.clone()).unwrap_or_default();
        Some(ChargeRecord::of(coworker, visit, kind, rules, &already))
    }

    pub(super) fn note_opened(&mut self, subject: Subject, visit: &Visit, at: WallTime) {
        let Some(coworker) = subject.as_coworker() else { return };
        let opened = Some(self.opened(subject, visit.business, at));
        self.folded.visits.insert(visit.unique_id, VisitRecord { coworker, visit: visit.clone(), opened });
    }

    pub(super) fn note_ended(&mut self, subject: Subject, person: &PersonState, ended: EndedVisit) {
        match &ended.after_pass {
            Some(AfterPass::On(next)) => {
                if let Some(visit) = person.visit(*next) {
                    self.note_opened(subject, visit, ended.at);
                }
            }
            Some(AfterPass::Refused(refused)) => {
                let id = identity([ended.visit.as_bytes().as_slice(), b"stay", &ended.at.millis().to_be_bytes()]);
                let attempt = (ended.at, CheckinSource::DoorAccess, None);
                self.fail(id, subject, ended.business, attempt, refused.clone());
            }
            None => {}
        }
        self.folded.ended.push((subject, ended));
    }

    pub(super) fn fail(
        &mut self,
        unique_id: Uuid,
        subject: Subject,
        business: BusinessId,
        (attempt_at, source, mac): (WallTime, CheckinSource, Option<MacAddr>),
        refused: Refused,
    ) {
        let failure = FailureRecord {
            unique_id,
            coworker: subject.as_coworker(),
            then: self.opened(subject, business, attempt_at),
            business,
            attempt_at,
            source,
            mac,
            refused,
        };
        self.folded.failures.insert(unique_id, failure);
    }

    /// Adds the visits that may still change, as they are now, and returns the result of the fold.
    pub(super) fn finish(mut self) -> Folded {
        let version = self.world.directories.latest().version;
        let mut people = std::mem::take(&mut self.folded.people);
        for (subject, person) in &mut people {
            person.directory = version;
            let Some(coworker) = subject.as_coworker() else { continue };
            let mut charged = person.charged.clone();
            for visit in &person.visits {
                if let Some(charge) = self.charge(coworker, visit, &charged) {
                    add_charge(&mut charged, &charge);
                    self.folded.charges.insert(charge.checkin, charge);
                }
                self.record(coworker, visit.clone());
            }
        }
        Folded { people, ..self.folded }
    }

    /// Counts a visit towards its pass, the plan and the charges, once it can no longer change.
    fn settle(&mut self, coworker: CoworkerId, person: &mut PersonState, visit: Visit, at: WallTime) {
        let date = visit.day.date;
        if let Some(pass) = visit.held_pass() {
            let directory = self.world.directory(at);
            let usable: BTreeSet<Uuid> = directory.usable(coworker).map(|held| held.guid).collect();
            // The use of a pass that is gone is forgotten once no late fact can need it.
            let old = |day: Option<NaiveDate>| day.is_none_or(|day| (date - day).num_days() > 10);
            person.used.retain(|(known, used)| usable.contains(known) || !old(used.last_day));
            let known = person.used.iter().position(|(known, _)| *known == pass);
            let before = known.map(|at| person.used.remove(at).1);
            // If this person may no longer use the pass, keep its last basis: others may still use it.
            let basis_at = directory.pass(coworker, pass).map(|held| held.basis_at);
            let basis_at = basis_at.or(before.map(|used| used.basis_at)).unwrap_or(WallTime::from_millis(0));
            let mut used = before.unwrap_or(Used::nothing(coworker, basis_at)).based_on(basis_at);
            used.add(&visit.spent(coworker));
            person.used.push((pass, used));
        }
        if visit.counts() {
            for (date, total) in person.counted.add(date, visit.spent(coworker).present(visit.from)) {
                self.totals.insert((coworker, date), total);
                self.folded.counted.insert((coworker, date), total);
            }
        }
        if let Some(charge) = self.charge(coworker, &visit, &person.charged) {
            add_charge(&mut person.charged, &charge);
            self.folded.charges.insert(charge.checkin, charge);
        }
        self.record(coworker, visit);
    }

    fn record(&mut self, coworker: CoworkerId, visit: Visit) {
        let opened = self.folded.visits.remove(&visit.unique_id).and_then(|known| known.opened);
        self.folded.visits.insert(visit.unique_id, VisitRecord { coworker, visit, opened });
    }

    fn opened(&self, subject: Subject, business: BusinessId, at: WallTime) -> Opened {
        let directory = self.world.directory(at);
        let coworker = subject.as_coworker().and_then(|id| directory.coworker(id));
        let policy = self.world.policy(business, at);
        let name = directory.business(business).or_else(|| policy.map(|policy| policy.site.name.as_str()));
        Opened {
            then: coworker.map(Coworker::snapshot).unwrap_or_default(),
            business_name: name.map(ToOwned::to_owned),
        }
    }
}

pub(super) fn add_charge(charged: &mut Vec<ChargedDay>, charge: &ChargeRecord) {
    charged.retain(|known| known.business != charge.business || known.day >= charge.pass_day);
    let of_day = charged.iter().position(|known| known.business == charge.business && known.day == charge.pass_day);
    let index = of_day.unwrap_or_else(|| {
        let charged_day =
            ChargedDay { business: charge.business, day: charge.pass_day, charged: payg::Charged::default() };
        charged.push(charged_day);
        charged.len() - 1
    });
    if let Some(known) = charged.get_mut(index) {
        known.charged.add(charge.time_pass, charge.charge.unbounded, charge.charge.amount);
    }
}
