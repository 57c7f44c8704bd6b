//! One transaction: load, fold, write. It takes as many statements for a thousand facts as for one.
//!
//! Most of the code answers two questions: who must be folded together, and from when. A tap that arrives in order is
//! folded over the person's current state. A late fact is folded over the state at the beginning of its day, together
//! with every fact since then, and whatever comes out differently is changed.

mod load;
mod refold;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use self::{
    load::{add_people, load_more, load_other_coverage, load_usage},
    refold::{RefoldSource, load_refolds},
};
use super::{
    batch_work::{Attempt, BatchResult, BatchWork},
    decide::{self, FoldInput, PendingPoint},
    intake::Intake,
    past_directory,
    state::{Pipeline, calendar_of},
};
use crate::{
    base::{
        clock::{Now, WallTime},
        fact::{DoorFact, LogDay, Subject},
        record::BusinessId,
    },
    directory::Directory,
    engine::{decision::Outcome, fold::World},
    store::{BatchRows, CommitMark, StoreError, Writes},
};

/// How long a presence may have waited to be decided: a minute in its capture, and as long in the queue.
const WAITING: Duration = Duration::from_mins(2);

impl Pipeline {
    /// Makes one attempt, which moves the mark of this gateway to `mark`.
    pub(super) async fn try_transaction(
        &self,
        work: BatchWork<'_>,
        mark: CommitMark,
        now: Now,
    ) -> Result<Attempt, StoreError> {
        let directories = Arc::clone(&self.context.directories.borrow());
        let policies = Arc::clone(&self.context.policies.borrow());
        let (policy, latest) = (self.policy(), Arc::clone(directories.latest()));
        if !work.is_read_by(&directories) {
            return Ok(Attempt::Stale);
        }
        let sub_batch = work.sub_batch;
        let subjects: BTreeSet<Subject> = sub_batch.subjects().union(work.people).copied().collect();
        let first = sub_batch.first().unwrap_or(now.wall);
        let mut transaction = self.context.store.batch().await?;

        // People who may use the same passes are folded together, according to every version of the directory since the
        // beginning of the first fact's day, where a refold would begin. At least the last 24 hours count, because a
        // visit of yesterday may be due today.
        let since = LogDay::of(first).start().min(now.wall.minus(Duration::from_hours(24)));
        let (directories, groups) =
            past_directory::groups(&directories, &subjects, since, &policy.site.passes, &mut transaction).await?;
        let versions = directories.since(since);

        // Shared passes are locked before any state is read, so two gateways cannot both spend the last use.
        let coworkers = subjects.iter().filter_map(|subject| subject.as_coworker());
        transaction.lock_passes(&versions, &policy.site.passes, coworkers).await?;

        // Load the states of these people, which facts are already known, and the newest versions.
        let edits = sub_batch.edits.iter().map(|new| new.edit.key());
        let keys: Vec<_> = sub_batch.doors.iter().map(DoorFact::key).chain(edits).collect();
        let mut loaded = transaction.load(&subjects, &keys).await?;
        if self.context.stale.is_some() && (loaded.directory, loaded.policies) != (latest.version_id(), policies.newest)
        {
            return Ok(Attempt::Stale);
        }

        let (mut result, mut writes) = (BatchResult::default(), Writes::default());
        let doors = sort_out(work, &loaded, &mut result, &mut writes);

        // Other members of a group are folded too if they are in or have a fact after the first new one.
        let sharing: BTreeSet<Subject> = groups
            .iter()
            .filter(|group| group.len() > 1)
            .flatten()
            .copied()
            .filter(|known| !subjects.contains(known))
            .collect();
        let active = transaction.active(&sharing, first).await?;
        load_more(&mut loaded, &mut transaction, &active).await?;
        let folded: BTreeSet<Subject> = subjects.union(&active).copied().collect();
        let mut inputs = self.fold_inputs(&groups, &folded, &versions, &loaded);
        assign_facts(&mut inputs, doors, sub_batch, &loaded);

        // If something is late, the fold begins earlier. Silence counts up to `quiet_until`: while presences wait in
        // the queue, one of them may still break a recent silence.
        let quiet_until = if self.presences_waiting { now.wall.minus(WAITING) } else { now.wall };
        let business = self.context.business;
        let mut coverage = BTreeMap::from([(business, self.coverage.coverage(now))]);
        let policies = policies.as_ref();
        let world = World { directories: &directories, policies, coverage: &coverage, now: now.wall, quiet_until };
        let source = RefoldSource { groups: &groups, work, world, present: &self.present, business };
        load_refolds(&mut inputs, &source, &mut loaded, &mut transaction, &mut writes).await?;

        // Load what the folds depend on: others' usage of the passes, coverage, directories as far back as the folds
        // reach, and totals towards plan limits.
        load_usage(&mut inputs, &directories, &mut transaction).await?;
        if self.context.store.is_shared() {
            load_other_coverage(&inputs, business, now, &mut coverage, &mut transaction).await?;
        }
        let begins = inputs.iter().filter_map(FoldInput::begins).min().unwrap_or(now.wall);
        let everyone = inputs.iter().flat_map(|input| input.current.keys()).filter_map(|subject| subject.as_coworker());
        let directories =
            past_directory::load_versions(&directories, &everyone.collect(), begins, &mut transaction).await?;
        let world = World { directories: &directories, policies, coverage: &coverage, now: now.wall, quiet_until };
        let totals = transaction.totals(&decide::totals_to_read(&world, &inputs)).await?;

        // Everything is loaded: fold each group and collect what changes.
        for mut input in inputs {
            input.group.totals.clone_from(&totals);
            result.unproven.extend(decide::unproven(&input, &world, business));
            let decided = decide::decide(world, input, &mut writes);
            result.outcomes.extend(decided.outcomes.iter().copied());
            result.decided.push(decided);
        }

        if work.refold_from.is_some() || result.decided.iter().any(|decided| decided.ended_by_silence > 0) {
            // The coverage that proves a silence must be stored together with the check-out that it caused.
            writes.coverage = self.coverage.to_write(now).map(|(id, covered)| (id, business, covered));
        }
        let calendar = |business: BusinessId, at: WallTime| calendar_of(policies, business, at);
        transaction.write(&writes, &calendar, now.wall).await?;
        if !self.move_mark(&mut transaction, mark).await? {
            return Ok(Attempt::WentBack);
        }
        if !work.is_rehearsal {
            transaction.commit().await?;
        }
        Ok(Attempt::Committed(Box::new(result)))
    }

    /// One input for each group, with those of its members who are folded.
    fn fold_inputs(
        &self,
        groups: &[BTreeSet<Subject>],
        folded: &BTreeSet<Subject>,
        versions: &[&Directory],
        loaded: &BatchRows,
    ) -> Vec<FoldInput> {
        let input = |group: &BTreeSet<Subject>| {
            let members: BTreeSet<Subject> = group.intersection(folded).copied().collect();
            let mut input = FoldInput::of(group, versions);
            add_people(&mut input, &members, loaded, &self.present, self.context.business);
            input
        };
        groups.iter().map(input).collect()
    }
}

/// Counts duplicates, and writes what needs no fold: facts that are only recorded, rejected messages and failed
/// check-ins of unknown devices. Returns the door facts to decide.
fn sort_out(work: BatchWork<'_>, loaded: &BatchRows, result: &mut BatchResult, writes: &mut Writes) -> Vec<DoorFact> {
    let (new, duplicates) = decide::new_facts(work.sub_batch, &loaded.known);
    result.outcomes.extend((0..duplicates).map(|_| (Outcome::Duplicate, None)));
    let (doors, only_recorded) = decide::undecided(new, &work.sub_batch.rejected, writes);
    result.outcomes.extend((0..only_recorded).map(|_| (Outcome::Recorded, None)));
    for (failure, fact) in work.unknown_devices {
        writes.failures.push(failure.clone());
        writes.facts.push(fact.clone());
        result.outcomes.push((Outcome::Failed, Some(failure.refused.reason)));
    }
    doors
}

/// Adds each new fact to the input of its person.
fn assign_facts(inputs: &mut [FoldInput], doors: Vec<DoorFact>, sub_batch: &Intake, loaded: &BatchRows) {
    let input_of: BTreeMap<Subject, usize> = inputs
        .iter()
        .enumerate()
        .flat_map(|(index, input)| input.current.keys().map(move |subject| (*subject, index)))
        .collect();
    for fact in doors {
        if let Some(input) = input_of.get(&fact.subject).and_then(|index| inputs.get_mut(*index)) {
            input.doors.push(fact);
        }
    }
    // The keys of edits follow those of door facts. An edit that is in the log already is not decided again.
    let is_new = |index: usize| !loaded.known.contains(&(sub_batch.doors.len() + index));
    for (_, new) in sub_batch.edits.iter().enumerate().filter(|(index, _)| is_new(*index)) {
        if let Some(input) = input_of.get(&new.edit.subject).and_then(|index| inputs.get_mut(*index)) {
            input.edits.push(new.clone());
        }
    }
    for presence in &sub_batch.presences {
        if let Some(input) = input_of.get(&presence.subject).and_then(|index| inputs.get_mut(*index)) {
            input.points.push(PendingPoint { presence: presence.clone(), is_new: true, was_pending: false });
        }
    }
}
