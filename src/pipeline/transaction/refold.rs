//! Loads what a refold needs if something is late: the state of everyone in the group at the beginning of that day, and
//! the facts and records since then.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::load::{add_people, load_more};
use crate::{
    base::{
        clock::WallTime,
        fact::{LogDay, Subject},
        record::{BusinessId, CoworkerId},
    },
    engine::{fold::World, person::PersonState},
    pipeline::{
        batch_work::BatchWork,
        clock_step,
        decide::{self, FoldInput, Refold, days_between},
        present_people::PresentPeople,
    },
    store::{Batch, BatchRows, DecidedFact, StoreError, Writes},
};

/// A visit begins at most this long before the fact that opens it: both are in the same pass day, and the longest has
/// 25 hours.
const LONGEST_DAY: Duration = Duration::from_hours(25);

/// What is known apart from the inputs themselves.
pub(super) struct RefoldSource<'a> {
    pub(super) groups: &'a [BTreeSet<Subject>],
    pub(super) work: BatchWork<'a>,
    pub(super) world: World<'a>,
    pub(super) present: &'a PresentPeople,
    pub(super) business: BusinessId,
}

/// Sets the states with which each input's fold begins: the current ones or, if something is late, those at the
/// beginning of that day, along with everything else that a refold needs.
pub(super) async fn load_refolds(
    inputs: &mut [FoldInput],
    source: &RefoldSource<'_>,
    loaded: &mut BatchRows,
    transaction: &mut Batch,
    writes: &mut Writes,
) -> Result<(), StoreError> {
    let RefoldSource { groups, work, world, present, business } = *source;
    // The day from which each group is refolded, if it is.
    let from: Vec<Option<LogDay>> = inputs
        .iter()
        .map(|input| match work.step {
            None => decide::late_from(input, &world).into_iter().chain(work.refold_from).min(),
            Some((step, moving)) => clock_step::moved_from(input, moving, step),
        })
        .collect();

    // A refold includes everyone who shares passes and has a fact since that day: their uses of the passes may change
    // too.
    let absent = |(index, group): (usize, &BTreeSet<Subject>)| {
        let late = inputs.get(index).filter(|_| from.get(index).is_some_and(Option::is_some) && group.len() > 1);
        late.map(|input| group.iter().copied().filter(|known| !input.current.contains_key(known)).collect::<Vec<_>>())
    };
    let absent: BTreeSet<Subject> = groups.iter().enumerate().filter_map(absent).flatten().collect();
    let earliest = from.iter().flatten().min().copied().unwrap_or_default();
    let active = transaction.active(&absent, earliest.start()).await?;
    load_more(loaded, transaction, &active).await?;

    // The days to read for each person: from the refold's first day to the latest that may have a fact.
    let tomorrow = LogDay::of(world.now.plus(Duration::from_hours(24)));
    let mut days = Vec::new();
    for ((input, group), from) in inputs.iter_mut().zip(groups).zip(&from) {
        let Some(from) = *from else { continue };
        let members = active.intersection(group).copied().collect();
        add_people(input, &members, loaded, present, business);
        let doors = input.doors.iter().map(|fact| LogDay::of(fact.at));
        let edits = input.edits.iter().map(|new| LogDay::of(new.edit.made));
        let folded = input.current.values().map(|known| LogDay::of(known.person.folded.at));
        let newest = doors.chain(edits).chain(folded).chain([tomorrow]).max().unwrap_or(tomorrow);
        days.extend(
            input.current.keys().flat_map(|subject| days_between(from, newest).map(move |day| (*subject, day))),
        );
        input.refold = Some(Refold { from, ..Refold::default() });
    }
    let mut checkpoints: BTreeMap<Subject, BTreeMap<LogDay, PersonState>> = BTreeMap::new();
    for (subject, day, person) in transaction.checkpoints(&days).await? {
        checkpoints.entry(subject).or_default().insert(day, person);
    }
    let mut facts: BTreeMap<Subject, Vec<DecidedFact>> = BTreeMap::new();
    for row in transaction.facts(&days).await? {
        facts.entry(row.fact.subject).or_default().push(row);
    }

    // Each person begins with their first checkpoint since that day, and each input gets their facts since then.
    let mut records_since = BTreeMap::new();
    for input in inputs.iter_mut() {
        begin_earlier(input, &mut checkpoints, &mut facts, &mut records_since);
        if let Some((step, moving)) = work.step {
            clock_step::move_facts(input, moving, step, writes);
        }
    }

    // The stored records, to compare with the result of the refold.
    let mut records = transaction.records(&records_since).await?;
    for input in inputs.iter_mut() {
        let people: BTreeSet<CoworkerId> = input.current.keys().filter_map(|subject| subject.as_coworker()).collect();
        if let Some(refold) = &mut input.refold {
            refold.records = records.take(&people);
        }
    }
    Ok(())
}

/// Sets the states with which an input's fold begins and, in a refold, the facts since then. Adds to `records_since`
/// the times from which each coworker's visits and other records are read.
fn begin_earlier(
    input: &mut FoldInput,
    checkpoints: &mut BTreeMap<Subject, BTreeMap<LogDay, PersonState>>,
    facts: &mut BTreeMap<Subject, Vec<DecidedFact>>,
    records_since: &mut BTreeMap<CoworkerId, (WallTime, WallTime)>,
) {
    let Some(refold) = &mut input.refold else {
        input.group.people = input.current.iter().map(|(subject, known)| (*subject, known.person.clone())).collect();
        return;
    };
    for (subject, known) in &input.current {
        refold.facts.extend(facts.remove(subject).into_iter().flatten());
        let known_days = checkpoints.remove(subject).unwrap_or_default();
        refold.checkpoints.extend(known_days.keys().map(|day| (*subject, *day)));
        // No checkpoint means that nothing has happened to the person on that day or later, so the current state is
        // also the state at its beginning.
        let person = known_days.into_values().next().unwrap_or_else(|| known.person.clone());
        if let Some(coworker) = subject.as_coworker() {
            let visits = person.visits.iter().map(|visit| visit.from).chain([refold.from.start()]).min();
            let visits = visits.unwrap_or(refold.from.start());
            refold.visits_since.insert(coworker, visits);
            records_since.insert(coworker, (visits.minus(LONGEST_DAY), refold.from.start()));
        }
        input.group.people.insert(*subject, person);
    }
}
