//! PURE. Decides: folds the new facts over what a transaction has read, and works out everything that it writes.

mod changes;
mod groups;
mod input;
mod items;
mod late;
mod new_facts;
mod presence_lines;
mod usage;

use std::collections::BTreeMap;

use crate::{
    base::fact::{Edit, EditFact, Fact, FactDigest, Subject},
    engine::{
        Decision,
        decision::{DecisionCode, Outcome, Reason},
        fold::{self, FoldItem, Folded, What, World},
        life::CloseBy,
        passes::PlanTally,
        person::PersonState,
    },
    pipeline::intake::NewEdit,
    store::{DecidedFact, EditedVisit, Writes},
};
use presence_lines::PresenceLines;

pub(crate) use groups::{People, groups};
pub(crate) use input::{FoldInput, PendingPoint, Refold};
pub(crate) use items::{FactOrigin, items};
pub(crate) use late::days_between;
pub(super) use late::{late_from, unproven};
pub(super) use new_facts::{new_facts, undecided};
pub(super) use usage::{absent_holders, use_states_of_holders};
pub(crate) use usage::{add_usage, totals_to_read};

/// The result of a fold, apart from what it writes.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// The outcome of each new door fact and each new presence.
    pub(super) outcomes: Vec<(Outcome, Option<Reason>)>,
    /// The decision on each new edit.
    pub(super) edits: Vec<(FactDigest, Decision)>,
    /// The new states.
    pub(super) people: BTreeMap<Subject, PersonState>,
    /// The number of people who were refolded.
    pub(super) refolded: u64,
    /// The number of visits that ended automatically.
    pub(super) auto_ended: usize,
    /// The number of these that a silence ended.
    pub(super) ended_by_silence: usize,
}

/// Folds an input and adds the changes to `writes`.
pub(super) fn decide(world: World<'_>, input: FoldInput, writes: &mut Writes) -> Decided {
    let FoldInput { current, mut refold, doors, points, edits, group, shares_passes, passes: _, holders: _ } = input;

    // Put the logged facts (in a refold), the new door facts and the pending points in one chronological order.
    let mut records = refold.as_mut().map(|refold| {
        let visits_since = std::mem::take(&mut refold.visits_since);
        (std::mem::take(&mut refold.records), visits_since)
    });
    let read = |row| -> Option<(&DecidedFact, Fact)> { Some((row, Fact::read(&row.fact).ok()?)) };
    let rows = refold.iter().flat_map(|refold| &refold.facts);
    let (rows, old): (Vec<&DecidedFact>, Vec<Fact>) = rows.filter_map(read).unzip();
    let items = items(&old, &doors, &points, &edits);
    if let Some((records, visits_since)) = &mut records {
        // The records were read starting one pass day earlier: keep those of the refold's own visits.
        let opened = items.iter().flat_map(|(item, _)| item.may_open()).collect();
        records.keep_since(visits_since, &opened);
    }

    // A refold recounts towards plan limits, starting from the totals of the states that it begins with.
    let counted = refold.is_some().then(|| {
        let tally = |(subject, person): (&Subject, &PersonState)| (*subject, person.counted.clone());
        group.people.iter().map(tally).collect::<BTreeMap<Subject, PlanTally>>()
    });
    let fold_items: Vec<FoldItem<'_>> = items.iter().map(|(item, _)| *item).collect();
    let folded = fold::fold(world, group, &fold_items);

    // Each fact gets its decision: new facts are added to the log, logged ones are updated if the decision differs.
    let mut decided = Decided::default();
    let mut lines = PresenceLines::default();
    let mut decided_again: BTreeMap<usize, DecisionCode> = BTreeMap::new();
    for ((item, origin), decision) in items.iter().zip(&folded.decisions) {
        match (origin, item.what) {
            (FactOrigin::NewDoor, What::Door(door)) => {
                decided.outcomes.push((decision.outcome, decision.reason));
                writes.facts.push(DecidedFact { fact: Fact::Door(door.clone()).stored(), decision: decision.code() });
            }
            (FactOrigin::Pending(index), _) => {
                if let Some(point) = points.get(*index) {
                    if point.is_new {
                        decided.outcomes.push((decision.outcome, decision.reason));
                    }
                    lines.add(&point.presence, decision);
                }
            }
            (FactOrigin::NewEdit(index), _) => {
                if let Some(NewEdit { edit, system_id, .. }) = edits.get(*index) {
                    if decision.outcome != Outcome::Failed && edit.edit != Edit::Removed {
                        writes.edited_visits.push(EditedVisit {
                            unique_id: decision.visit.unwrap_or(edit.visit),
                            by: std::sync::Arc::clone(&edit.by),
                            system_id: system_id.clone(),
                        });
                    }
                    decided.edits.push((edit.digest, decision.clone()));
                    let fact = Fact::Edit(settled(edit, decision)).stored();
                    writes.facts.push(DecidedFact { fact, decision: decision.code() });
                }
            }
            (FactOrigin::OldDoor(index) | FactOrigin::OldPoint(index) | FactOrigin::OldEdit(index), _) => {
                decided_again.insert(*index, decision.code());
            }
            (FactOrigin::NewDoor, What::Seen(..) | What::Edit(_) | What::Asked(_)) => {}
        }
    }
    writes.facts.extend(lines.into_facts());
    if refold.is_some() {
        write_decisions_again(&rows, &decided_again, writes);
        decided.refolded = folded.people.len() as u64;
    }

    // The points are in the log now, and no longer pending.
    let pending = points.iter().filter(|point| point.was_pending);
    writes.gone_unlogged.extend(pending.map(|point| point.presence.subject));

    // Records and states are written if they differ from what is stored.
    changes::write_records(&folded, &current, records.as_ref().map(|(records, _)| records), writes);
    changes::write_people(&folded, &current, counted.as_ref(), &world, writes);
    changes::write_checkpoints(&folded, refold.as_ref(), writes);
    usage::write_shared_usage(&folded, &current, shares_passes, &world, writes);

    let Folded { people, ended, .. } = folded;
    decided.auto_ended = ended.len();
    decided.ended_by_silence = ended.iter().filter(|(_, ended)| ended.by == CloseBy::Silence).count();
    decided.people = people;
    decided
}

/// The edit as the log keeps it: what admission said when it was made holds whatever is learnt later.
fn settled(edit: &EditFact, decision: &Decision) -> EditFact {
    let mut edit = edit.clone();
    if let (Edit::Set { from, .. }, Some(reason)) = (&edit.edit, decision.reason) {
        let detail = decision.detail.as_deref().map(ToOwned::to_owned);
        edit.edit = Edit::Refused { from: *from, reason: reason.code().to_owned(), detail };
    }
    edit
}

/// Writes the decisions on logged facts that a refold has changed.
fn write_decisions_again(rows: &[&DecidedFact], again: &BTreeMap<usize, DecisionCode>, writes: &mut Writes) {
    for (index, row) in rows.iter().enumerate() {
        let Some(decision) = again.get(&index).filter(|decision| **decision != row.decision) else { continue };
        // The failed check-in of an unknown credential belongs to no coworker's records, so it is found only through
        // the log.
        if row.fact.subject.as_coworker().is_none() && row.decision.outcome() == Outcome::Failed {
            writes.gone_failures.push(fold::door_failure(row.fact.digest));
        }
        writes.decided_again.push(DecidedFact { fact: row.fact.clone(), decision: *decision });
    }
}
