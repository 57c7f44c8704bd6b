//! Adopts the log and the records of a version from before the log of facts, once, before anything is decided. All of
//! it happens in the one transaction in this file; [`old_log`] and [`old_person`], which are pure, do the conversion.

mod old_log;
mod old_person;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time;

use super::{
    attempts::LONGEST_ATTEMPT,
    state::{Pipeline, TICK, calendar_of},
};
use crate::{
    base::{
        clock::WallTime,
        fact::Subject,
        record::{BusinessId, CoworkerId},
    },
    engine::{
        coverage::Coverage,
        fold::{self, World},
    },
    policy::HISTORY,
    store::{Batch, NewPersonState, StoreError, Writes},
};
use old_log::OldLog;

/// The number of lines read and written at a time: some 30 MB with everything derived from them.
const LINES: usize = 4_000;

/// The number of people whose records are read at a time: for ten years, some 50 MB.
const PEOPLE: usize = 100;

/// The time limit of one step. A slow disk needs some seconds.
const LONGEST_STEP: Duration = Duration::from_mins(2);

/// The time limit of the last step: a database frees every page of a table that it drops, and the old log may be
/// gigabytes.
const LONGEST_END: Duration = Duration::from_mins(30);

/// The time limit of the whole adoption, enough for millions of lines on a slow disk.
pub(super) const LONGEST: Duration = Duration::from_hours(2);

/// How far a pass day and its records may reach back before the first line that is read.
const BEFORE: Duration = Duration::from_hours(48);

/// What has been adopted.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    lines: u64,
    facts: u64,
    people: u64,
    open: u64,
    checkpoints: u64,
}

impl Pipeline {
    /// Adopts the old log, if there is one. `None` if the loaded directory is not the newest.
    pub(super) async fn adopt(&self) -> Result<Option<()>, StoreError> {
        if !time::timeout(LONGEST_ATTEMPT, self.context.store.has_old_log())
            .await
            .map_err(|_| StoreError::too_late())??
        {
            return Ok(Some(()));
        }
        let mut adopting = Box::pin(self.adopt_all());
        loop {
            tokio::select! {
                done = &mut adopting => return done,
                // The whole adoption may take hours, but each step has a time limit, so it is not stuck.
                () = time::sleep(TICK) => {
                    self.report_alive();
                }
            }
        }
    }

    async fn adopt_all(&self) -> Result<Option<()>, StoreError> {
        let began = self.context.clock.now();
        let now = began.wall;
        let directories = Arc::clone(&self.context.directories.borrow());
        let policies = Arc::clone(&self.context.policies.borrow());
        // If several gateways start at once, one gets the lock, and the others then find no old log.
        let mut transaction = limited(self.context.store.upgrade_batch()).await?;
        let Some(version) = limited(transaction.lock_old_log()).await? else { return Ok(Some(())) };
        // Passes and short card numbers are read from the newest directory, so it must be loaded.
        let known = directories.latest().version;
        if self.context.stale.is_some() && version != known {
            tracing::info!(
                known,
                version,
                "waiting for the newest directory to take over the log of an earlier version"
            );
            return Ok(None);
        }
        // The lines first: the states of people depend on them as well as on the records.
        let mut log = OldLog::new(self.context.business, directories.latest(), &policies, now);
        let mut counts = Counts::default();
        adopt_lines(&mut log, &mut transaction, &mut counts).await?;
        let coverage = limited(self.coverage_everywhere(&mut transaction, now)).await?;
        let world =
            World { directories: &directories, policies: &policies, coverage: &coverage, now, quiet_until: now };
        adopt_people(&log, &world, &mut transaction, &mut counts).await?;
        // Dropping the old log in the same transaction ensures that the adoption happens exactly once.
        let end = async {
            transaction.drop_old_log().await?;
            transaction.commit().await
        };
        time::timeout(LONGEST_END, end).await.unwrap_or(Err(StoreError::too_late()))?;
        // Report what was adopted.
        let Counts { lines, facts, people, open, checkpoints, .. } = counts;
        let seconds = self.context.clock.now().boot.since(began.boot).as_secs_f64();
        let unreadable = log.unreadable;
        // A new database has an empty old log, which is not worth logging.
        if lines + people > 0 {
            tracing::info!(
                lines,
                facts,
                unreadable,
                people,
                open,
                checkpoints,
                seconds,
                "took over the log of an earlier version"
            );
        }
        Ok(Some(()))
    }

    async fn coverage_everywhere(
        &self,
        transaction: &mut Batch,
        now: WallTime,
    ) -> Result<BTreeMap<BusinessId, Coverage>, StoreError> {
        let (business, since) = (self.context.business, now.minus(HISTORY));
        let mut spans = transaction.coverage(business, false, since).await?;
        spans.extend(transaction.coverage(business, true, since).await?);
        let coverage = |covered: Vec<crate::store::CoverageRow>| {
            Coverage::new(covered.into_iter().map(|covered| (covered.from, covered.to)))
        };
        Ok(spans.into_iter().map(|(business, covered)| (business, coverage(covered))).collect())
    }
}

async fn limited<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    time::timeout(LONGEST_STEP, work).await.unwrap_or(Err(StoreError::too_late()))
}

/// Turns lines into facts, in chronological order. Remembering what states depend on takes some hundred bytes per
/// person and day.
async fn adopt_lines(log: &mut OldLog<'_>, transaction: &mut Batch, counts: &mut Counts) -> Result<(), StoreError> {
    for business in limited(transaction.old_businesses()).await? {
        let (mut at, mut key) = (log.since(), String::new());
        loop {
            let lines = limited(transaction.old_lines(business, (at, &key), LINES)).await?;
            let Some(last) = lines.last() else { break };
            (at, key) = (last.event_at, last.key.clone());
            let mut facts: Vec<_> = lines.iter().flat_map(|line| log.line(business, line)).collect();
            // The order in which the log is clustered.
            facts.sort_by_key(|decided| (decided.fact.day, decided.fact.subject, decided.fact.at, decided.fact.digest));
            limited(transaction.put_old_facts(&facts)).await?;
            counts.lines += lines.len() as u64;
            counts.facts += facts.len() as u64;
        }
    }
    Ok(())
}

/// Turns records into states.
async fn adopt_people(
    log: &OldLog<'_>,
    world: &World<'_>,
    transaction: &mut Batch,
    counts: &mut Counts,
) -> Result<(), StoreError> {
    let mut everyone: BTreeSet<CoworkerId> = limited(transaction.old_people()).await?;
    everyone.extend(log.people());
    let known = limited(transaction.known_people()).await?;
    everyone.retain(|coworker| !known.contains(coworker));
    let everyone: Vec<CoworkerId> = everyone.into_iter().collect();
    let calendar = |business: BusinessId, at: WallTime| calendar_of(world.policies, business, at);
    for people in everyone.chunks(PEOPLE) {
        let mut records = limited(transaction.old_records(people, log.since().minus(BEFORE))).await?;
        let mut writes = Writes::default();
        for &coworker in people {
            let adopted = log.person(coworker, &mut records);
            let subject = Subject::coworker(coworker);
            let deadline = fold::deadline(&adopted.now, world);
            counts.people += 1;
            counts.open += u64::from(deadline.is_some());
            counts.checkpoints += adopted.checkpoints.len() as u64;
            writes.checkpoints.extend(adopted.checkpoints.into_iter().map(|(day, person)| (subject, day, person)));
            writes.plan_usage.extend(adopted.counted.into_iter().map(|(date, counted)| ((coworker, date), counted)));
            writes.pass_usage.extend(adopted.shared.into_iter().map(|(pass, used)| (pass, subject, used)));
            let person = adopted.now;
            writes.people.push(NewPersonState { subject, revision: 0, person, deadline, same_deadline: false });
        }
        limited(transaction.write(&writes, &calendar, world.now)).await?;
    }
    Ok(())
}
