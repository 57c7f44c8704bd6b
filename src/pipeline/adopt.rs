//! Takes over what a version before the log of facts has left, once, before anything is decided. What it becomes is pure and in
//! [`former`]; here is the one transaction in which it does.

mod former;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time;

use super::{LONGEST_TRY, Pipeline, STALE, TICK, calendar_of};
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
use former::Former;

/// Lines that are read and written at a time: some 30 MB with everything that is made of them.
const LINES: usize = 4_000;

/// People whose records are read at a time: of ten years, some 50 MB.
const PEOPLE: usize = 100;

/// How long one portion may take. A slow disk needs some seconds.
const LONGEST_PORTION: Duration = Duration::from_mins(2);

/// How long the end may take: a database frees every page of a table that it drops, and the old log may be gigabytes.
const LONGEST_END: Duration = Duration::from_mins(30);

/// How long all of it may take, millions of lines on a slow disk.
pub(super) const LONGEST: Duration = Duration::from_hours(2);

/// How long a pass day, and whatever is about a day, reaches back beyond its lines.
const BEFORE: Duration = Duration::from_hours(48);

/// What was taken over.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    lines: u64,
    facts: u64,
    people: u64,
    open: u64,
    checkpoints: u64,
}

impl Pipeline {
    /// Takes over the old log, if there is one. None where what we decide by is not the newest.
    pub(super) async fn adopt(&self) -> Result<Option<()>, StoreError> {
        if !time::timeout(LONGEST_TRY, self.with.store.has_old_log()).await.map_err(|_| StoreError::too_late())?? {
            return Ok(Some(()));
        }
        let mut adopting = Box::pin(self.adopt_all());
        loop {
            tokio::select! {
                done = &mut adopting => return done,
                // It takes as long as it takes, and each portion is bounded: nothing is stuck.
                () = time::sleep(TICK) => {
                    self.with.alive.send_replace(Some(self.with.clock.now().boot));
                }
            }
        }
    }

    /// Waits for a newer directory, or for newer settings.
    pub(super) async fn wait_for_newer(&self) {
        if let Some(stale) = &self.with.stale {
            stale.notify_one();
        }
        time::sleep(STALE).await;
    }

    async fn adopt_all(&self) -> Result<Option<()>, StoreError> {
        let began = self.with.clock.now();
        let now = began.wall;
        let directories = Arc::clone(&self.with.directories.borrow());
        let policies = Arc::clone(&self.with.policies.borrow());
        let mut transaction = portion(self.with.store.batch()).await?;
        let Some(version) = portion(transaction.lock_old_log()).await? else { return Ok(Some(())) };
        let known = directories.latest().version;
        if self.with.stale.is_some() && version != known {
            tracing::info!(
                known,
                version,
                "waiting for the newest directory, to take over the log of an earlier version"
            );
            return Ok(None);
        }
        let mut former = Former::new(self.with.business, directories.latest(), &policies, now);
        let mut counts = Counts::default();
        adopt_lines(&mut former, &mut transaction, &mut counts).await?;
        let coverage = portion(self.coverage_everywhere(&mut transaction, now)).await?;
        let world =
            World { directories: &directories, policies: &policies, coverage: &coverage, now, quiet_until: now };
        adopt_people(&former, &world, &mut transaction, &mut counts).await?;
        let end = async {
            transaction.drop_old_log().await?;
            transaction.commit().await
        };
        time::timeout(LONGEST_END, end).await.unwrap_or(Err(StoreError::too_late()))?;
        let Counts { lines, facts, people, open, checkpoints, .. } = counts;
        let seconds = self.with.clock.now().boot.since(began.boot).as_secs_f64();
        let unreadable = former.unreadable;
        // A new database has an empty one.
        if lines + people > 0 {
            tracing::info!(
                lines,
                facts,
                unreadable,
                people,
                open,
                checkpoints,
                seconds,
                "the log of an earlier version was taken over"
            );
        }
        Ok(Some(()))
    }

    async fn coverage_everywhere(
        &self,
        transaction: &mut Batch,
        now: WallTime,
    ) -> Result<BTreeMap<BusinessId, Coverage>, StoreError> {
        let (business, since) = (self.with.business, now.minus(HISTORY));
        let mut stretches = transaction.coverage(business, false, since).await?;
        stretches.extend(transaction.coverage(business, true, since).await?);
        let coverage = |covered: Vec<crate::store::CoverageRow>| {
            Coverage::new(covered.into_iter().map(|covered| (covered.from, covered.to)))
        };
        Ok(stretches.into_iter().map(|(business, covered)| (business, coverage(covered))).collect())
    }
}

async fn portion<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    time::timeout(LONGEST_PORTION, work).await.unwrap_or(Err(StoreError::too_late()))
}

/// Lines become facts, in the order of their time; what is remembered of them is some hundred bytes for each person and day.
async fn adopt_lines(former: &mut Former<'_>, transaction: &mut Batch, counts: &mut Counts) -> Result<(), StoreError> {
    for business in portion(transaction.old_businesses()).await? {
        let (mut at, mut key) = (former.since(), String::new());
        loop {
            let lines = portion(transaction.old_lines(business, (at, &key), LINES)).await?;
            let Some(last) = lines.last() else { break };
            (at, key) = (last.event_at, last.key.clone());
            let mut facts: Vec<_> = lines.iter().flat_map(|line| former.line(business, line)).collect();
            // As the log is clustered.
            facts.sort_by_key(|decided| (decided.fact.day, decided.fact.subject, decided.fact.at, decided.fact.digest));
            portion(transaction.put_old_facts(&facts)).await?;
            counts.lines += lines.len() as u64;
            counts.facts += facts.len() as u64;
        }
    }
    Ok(())
}

/// Records become states.
async fn adopt_people(
    former: &Former<'_>,
    world: &World<'_>,
    transaction: &mut Batch,
    counts: &mut Counts,
) -> Result<(), StoreError> {
    let mut everybody: BTreeSet<CoworkerId> = portion(transaction.old_people()).await?;
    everybody.extend(former.people());
    let known = portion(transaction.known_people()).await?;
    everybody.retain(|coworker| !known.contains(coworker));
    let everybody: Vec<CoworkerId> = everybody.into_iter().collect();
    let calendar = |business: BusinessId, at: WallTime| calendar_of(world.policies, business, at);
    for people in everybody.chunks(PEOPLE) {
        let mut records = portion(transaction.old_records(people, former.since().minus(BEFORE))).await?;
        let mut writes = Writes::default();
        for &coworker in people {
            let adopted = former.person(coworker, &mut records);
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
        portion(transaction.write(&writes, &calendar, world.now)).await?;
    }
    Ok(())
}
