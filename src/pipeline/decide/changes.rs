//! PURE. Compares the result of a fold with what is stored, and writes the difference: visits, charges, failed
//! check-ins, the states of people and their checkpoints.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::input::Refold;
use crate::{
    base::{
        clock::WallTime,
        fact::{LogDay, Subject},
        record::BusinessId,
    },
    engine::{
        fold::{self, Folded, VisitRecord, World},
        passes::PlanTally,
        person::Visit,
    },
    store::{ChangedVisit, NewPersonState, StoredPerson, StoredRecords, StoredVisit, Writes},
};

/// Writes the records that are new, changed or gone. `records` are the stored ones in a refold. Otherwise they are not
/// needed: the current states contain every visit that the fold can change.
pub(super) fn write_records(
    folded: &Folded,
    current: &BTreeMap<Subject, StoredPerson>,
    records: Option<&StoredRecords>,
    writes: &mut Writes,
) {
    match records {
        None => write_recent_records(folded, current, writes),
        Some(records) => write_refolded_records(folded, records, writes),
    }
    writes.plan_usage.extend(folded.counted.iter().map(|(key, counted)| (*key, *counted)));
}

fn write_recent_records(folded: &Folded, current: &BTreeMap<Subject, StoredPerson>, writes: &mut Writes) {
    let visits = current.values().flat_map(|known| &known.person.visits);
    let known: BTreeMap<Uuid, &Visit> = visits.map(|visit| (visit.unique_id, visit)).collect();
    let mut touched = BTreeSet::new();
    for (id, record) in &folded.visits {
        match known.get(id) {
            None => writes.new_visits.push(record.clone()),
            Some(visit) if same_record(visit, &record.visit) => continue,
            Some(visit) => {
                let stays = began_alike(visit, &record.visit);
                writes.changed_visits.push(ChangedVisit { known_as: *id, record: record.clone(), stays });
                if is_charged(visit) && !folded.charges.contains_key(id) {
                    writes.gone_charges.push(*id);
                }
            }
        }
        touched.insert(*id);
    }
    writes.charges.extend(folded.charges.values().filter(|charge| touched.contains(&charge.checkin)).cloned());
    writes.failures.extend(folded.failures.values().cloned());
}

fn write_refolded_records(folded: &Folded, known: &StoredRecords, writes: &mut Writes) {
    let mut gone: Vec<&StoredVisit> =
        known.visits.values().filter(|visit| !folded.visits.contains_key(&visit.unique_id)).collect();
    for (id, record) in &folded.visits {
        let stored = known.visits.get(id);
        // A visit that now begins with another fact keeps its number if it overlaps its former self.
        let earlier_self = || gone.iter().position(|visit| overlaps(visit, record)).map(|at| gone.remove(at));
        match stored.or_else(earlier_self) {
            None if record.opened.is_none() => {}
            None => writes.new_visits.push(record.clone()),
            Some(stored) if stored.unique_id == *id && same_as_stored(stored, record) => {}
            Some(stored) => writes.changed_visits.push(ChangedVisit {
                known_as: stored.unique_id,
                record: record.clone(),
                stays: false,
            }),
        }
    }
    writes.gone_visits.extend(gone.iter().map(|visit| visit.unique_id));
    for (id, failure) in &folded.failures {
        if known.failures.contains_key(id) {
            writes.changed_failures.push(failure.clone());
        } else {
            writes.failures.push(failure.clone());
        }
    }
    writes.gone_failures.extend(known.failures.keys().filter(|id| !folded.failures.contains_key(id)));
    writes.charges.extend(folded.charges.values().cloned());
    writes.gone_charges.extend(known.charges.keys().filter(|id| !folded.charges.contains_key(id)));
}

fn overlaps(stored: &StoredVisit, record: &VisitRecord) -> bool {
    let visit = &record.visit;
    let meets = |to: Option<WallTime>, from: WallTime| to.is_none_or(|to| to >= from);
    stored.coworker == record.coworker
        && stored.business == visit.business
        && meets(stored.to, visit.from)
        && meets(visit.to, stored.from)
}

fn same_as_stored(stored: &StoredVisit, record: &VisitRecord) -> bool {
    let visit = &record.visit;
    (stored.from, stored.to, stored.auto_checkout, stored.source)
        == (visit.from, visit.to, visit.auto_checkout, visit.source)
        && stored.macs == visit.macs
        && stored.pass == visit.pass
        && (visit.is_open() || stored.last_activity == visit.last_activity)
        && record.opened.as_ref().is_none_or(|opened| *opened == stored.opened)
}

/// Whether the two visits have the same record. The last activity of an open visit is not part of its record; it is
/// read from the person's state.
fn same_record(one: &Visit, other: &Visit) -> bool {
    began_alike(one, other)
        && (one.to, one.auto_checkout) == (other.to, other.auto_checkout)
        && one.macs == other.macs
        && (other.is_open() || one.last_activity == other.last_activity)
}

fn began_alike(one: &Visit, other: &Visit) -> bool {
    (one.from, one.source, &one.pass) == (other.from, other.source, &other.pass)
}

fn is_charged(visit: &Visit) -> bool {
    visit.pass.as_ref().is_some_and(|pass| pass.guid.is_none())
}

/// Writes the states that have changed. `counted` are the totals towards plan limits from which a refold counts on.
pub(super) fn write_people(
    folded: &Folded,
    current: &BTreeMap<Subject, StoredPerson>,
    counted: Option<&BTreeMap<Subject, PlanTally>>,
    world: &World<'_>,
    writes: &mut Writes,
) {
    let unknown = StoredPerson::default();
    for (subject, person) in &folded.people {
        let standing = current.get(subject).unwrap_or(&unknown);
        let deadline = fold::deadline(person, world);
        // A stored deadline that is merely too early is kept: postponing it with every presence would rewrite the
        // index.
        let early = |(business, at): (BusinessId, WallTime)| {
            at > world.now && deadline.is_some_and(|(place, later)| place == business && at <= later)
        };
        let kept = standing.deadline.filter(|known| early(*known));
        let deadline = kept.or(deadline);
        let same_deadline = standing.revision > 0 && deadline == standing.deadline;
        if same_deadline && standing.person == *person {
            continue;
        }
        let (subject, revision, person) = (*subject, standing.revision, person.clone());
        writes.people.push(NewPersonState { subject, revision, person, deadline, same_deadline });
        if let Some((counted, coworker)) = counted.zip(subject.as_coworker()) {
            let counted = counted.get(&subject).map(PlanTally::days).unwrap_or_default();
            writes.recounted.push((coworker, counted.last().map(|(date, _)| *date)));
            // The refold replaces every total that was not final, including the unchanged ones.
            for (date, total) in counted {
                writes.plan_usage.entry((coworker, *date)).or_insert(*total);
            }
        }
    }
}

/// Writes new checkpoints, and deletes those that a refold did not write again.
pub(super) fn write_checkpoints(folded: &Folded, refold: Option<&Refold>, writes: &mut Writes) {
    writes.checkpoints.extend(folded.checkpoints.iter().cloned());
    if let Some(refold) = refold {
        let written: BTreeSet<(Subject, LogDay)> =
            folded.checkpoints.iter().map(|(subject, day, _)| (*subject, *day)).collect();
        let gone = refold.checkpoints.iter().filter(|key| key.1 >= refold.from && !written.contains(key));
        writes.gone_checkpoints.extend(gone.copied());
    }
}
