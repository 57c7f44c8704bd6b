//! Loads what the folds of a transaction need: states, pending points, the usage of passes and the coverage of other
//! sites.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::{
    base::{
        clock::{Now, WallTime},
        fact::Subject,
        record::BusinessId,
    },
    directory::history::DirectoryHistory,
    engine::coverage::Coverage,
    pipeline::{
        decide::{self, FoldInput, PendingPoint},
        present_people::PresentPeople,
    },
    policy::HISTORY,
    store::{Batch, BatchRows, StoreError},
};

/// Loads the states and pending presences of more people.
pub(super) async fn load_more(
    loaded: &mut BatchRows,
    transaction: &mut Batch,
    people: &BTreeSet<Subject>,
) -> Result<(), StoreError> {
    if !people.is_empty() {
        let more = transaction.load(people, &[]).await?;
        loaded.people.extend(more.people);
        loaded.unlogged.extend(more.unlogged);
    }
    Ok(())
}

/// Adds people to an input: their current states, and their points that are not in the log yet.
pub(super) fn add_people(
    input: &mut FoldInput,
    members: &BTreeSet<Subject>,
    loaded: &BatchRows,
    present: &PresentPeople,
    business: BusinessId,
) {
    for subject in members {
        input.current.insert(*subject, loaded.people.get(subject).cloned().unwrap_or_default());
        // For a person who is in here, memory has all points in the database, and newer ones.
        let kept = present.pending(*subject, business);
        let stored = loaded.unlogged.get(subject).into_iter().flatten();
        let stored = stored.filter(|pending| kept.is_none() || pending.business != business);
        input.points.extend(stored.flat_map(PendingPoint::pending));
        input.points.extend(kept.iter().flatten().flat_map(PendingPoint::pending));
    }
}

/// Adds to each input the usage of its passes by people outside it.
pub(super) async fn load_usage(
    inputs: &mut [FoldInput],
    directories: &DirectoryHistory,
    transaction: &mut Batch,
) -> Result<(), StoreError> {
    let passes: BTreeSet<Uuid> = inputs.iter().flat_map(|input| input.passes.iter().copied()).collect();
    let mut users = transaction.pass_users(&passes).await?;
    let holders = decide::absent_holders(inputs);
    if !holders.is_empty() {
        let holders = transaction.load(&holders, &[]).await?.people;
        decide::use_states_of_holders(&mut users, &holders, &passes, directories);
    }
    decide::add_usage(inputs, users);
    Ok(())
}

/// Adds the coverage of other sites, if an input involves one.
pub(super) async fn load_other_coverage(
    inputs: &[FoldInput],
    business: BusinessId,
    now: Now,
    coverage: &mut BTreeMap<BusinessId, Coverage>,
    transaction: &mut Batch,
) -> Result<(), StoreError> {
    if inputs.iter().any(|input| input.involves_other_than(business)) {
        let since: WallTime = now.wall.minus(HISTORY);
        let others = transaction.coverage(business, true, since).await?;
        coverage.extend(
            others
                .into_iter()
                .map(|(other, spans)| (other, Coverage::new(spans.iter().map(|covered| (covered.from, covered.to))))),
        );
    }
    Ok(())
}
