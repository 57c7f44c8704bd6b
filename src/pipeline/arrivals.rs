//! Processes a batch of messages and presences: reads, decides, commits and acknowledges it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use super::{
    attempts::{Attempts, PipelineError},
    batch_work::{BatchResult, BatchWork, CommitEnd},
    clock_step::{retime, retimed_presence},
    intake::Intake,
    parts::{Halves as _, WorkParts},
    state::Pipeline,
    sub_batch::SubBatch,
    unknown_devices::UNRECOGNISED_A_DAY,
};
use crate::{
    base::{
        clock::{Now, WallTime},
        fact::{DoorFact, FactDigest, RejectedFact},
        health::ConditionKind,
        mac::MacAddr,
        sighting::Presence,
    },
    engine::decision::Outcome,
    mapping::content::Content,
    source::{Delivery, Presences},
};

/// The maximum number of facts in one transaction: twice those of a batch of ordinary messages, and some 10 MB with
/// everything derived from them. A message may contain many events; the rest go into the next transaction.
const FACTS: usize = 2048;

/// The maximum number of people in one transaction. Their states are read and written: some 2 MB.
pub(super) const PEOPLE: usize = 2000;

/// The part of a batch that is committed, set aside, or needs no decision, and is skipped if the batch is read again.
#[derive(Debug, Default)]
struct AlreadyCommitted {
    doors: BTreeSet<(WallTime, FactDigest)>,
    presences: BTreeSet<(MacAddr, WallTime)>,
    /// The number of presences that only continue a visit.
    refreshed: u64,
    facts: usize,
}

impl AlreadyCommitted {
    fn remove_from(&self, intake: &mut Intake) {
        intake.doors.retain(|fact| !self.doors.contains(&identity(fact)));
        intake.presences.retain(|presence| !self.presences.contains(&(presence.mac, presence.point.last_at)));
        intake.unknown_devices.retain(|fact| !self.presences.contains(&(fact.mac, fact.point.last_at)));
    }

    fn add(&mut self, sub_batch: &Intake) {
        self.doors.extend(sub_batch.doors.iter().map(identity));
        self.presences.extend(sub_batch.presences.iter().map(|presence| (presence.mac, presence.point.last_at)));
    }
}

/// The identity of a door fact within its batch. It is the same if another version of the directory attributes the fact
/// to another person.
const fn identity(fact: &DoorFact) -> (WallTime, FactDigest) {
    (fact.at, fact.digest)
}

impl Pipeline {
    /// Decides and commits one batch, then spends its receipts.
    pub(super) async fn process_batch(
        &mut self,
        deliveries: &mut Vec<Delivery>,
        presences: Presences,
        deadline: &CancellationToken,
    ) -> Result<(), PipelineError> {
        let began = self.context.clock.now().boot;
        let now = self.now();
        // The frames of these presences have been captured, so the coverage extends at least to them.
        self.coverage.update(&self.context.site_coverage, now);

        // The clock may have been stepped while a message waited in the queue.
        for delivery in deliveries.iter_mut() {
            retime(delivery, now);
        }
        let presences: Presences = presences.into_iter().map(|presence| retimed_presence(presence, now)).collect();

        // If a newer directory comes into force meanwhile, the facts are read again: a card may have changed hands.
        let mut rejected = self.read_rejected(deliveries, now);
        let mut committed = AlreadyCommitted::default();
        let mut times = self.mark.times;
        while !self.try_batch(deliveries, &presences, &mut rejected, &mut committed, deadline).await? {
            // A database that went back may have lost what was committed of this batch.
            if std::mem::replace(&mut times, self.mark.times) != self.mark.times {
                committed = AlreadyCommitted::default();
            }
        }

        // Everything is durable now. Receipts are spent in the order of arrival, as MQTT requires.
        let committed_at = self.context.clock.now().boot;
        for delivery in deliveries.drain(..) {
            if let Content::Sightings(sightings) = &delivery.content
                && let Some(sighting) = sightings.first().filter(|sighting| !sighting.arrived.boot.is_earlier())
            {
                self.context.metrics.lag(committed_at.since(sighting.arrived.boot));
            }
            delivery.receipt.spend();
        }
        let took = self.context.clock.now().boot.since(began);
        self.context.metrics.batch(u32::try_from(committed.facts).unwrap_or(u32::MAX), took);
        Ok(())
    }

    /// Decides and commits what is left of a batch. Returns false if it has to be read again with a newer directory.
    async fn try_batch(
        &mut self,
        deliveries: &[Delivery],
        presences: &[Presence],
        rejected: &mut Vec<RejectedFact>,
        committed: &mut AlreadyCommitted,
        deadline: &CancellationToken,
    ) -> Result<bool, PipelineError> {
        let now = self.now();
        let mut intake = self.read_facts(deliveries, presences, now, deadline).await?;
        committed.remove_from(&mut intake);
        intake.rejected.clone_from(rejected);

        // Most presences only continue a visit. They need no transaction: they stay in memory until the next fold.
        let rules = self.policy().rules();
        for presence in intake.presences.extract_if(.., |presence| self.present.keep_if_continuing(presence, &rules)) {
            committed.presences.insert((presence.mac, presence.point.last_at));
            committed.refreshed += 1;
        }

        // Nothing about people whose state the database does not take now; they send more.
        let left_alone = intake.presences.extract_if(.., |presence| self.is_left_alone(presence.subject)).count();

        // Only unknown devices that are new today get a failed check-in.
        let directories = Arc::clone(&self.context.directories.borrow());
        let unknown = std::mem::take(&mut intake.unknown_devices);
        let unknown = self.unknown_devices.records(unknown, &self.policy(), &directories, now.wall);
        let mut records = unknown.records;

        // One transaction for each sub-batch. Those already committed stay committed if a later one finds a newer
        // directory. One that the database does not take is halved, until a single fact is set aside.
        let (ignored, read_by, metrics) = (intake.ignored, Some(intake.version), self.context.metrics.clone());
        let no_people = BTreeSet::new();
        let mut attempts = Attempts::default();
        let split = intake.split(FACTS, PEOPLE).into_iter();
        let mut parts =
            WorkParts::of(split.map(|facts| SubBatch { facts, unknown_devices: std::mem::take(&mut records) }));
        while let Some(part) = parts.next() {
            // All messages of the batch are committed with the last one.
            let place = if parts.is_last() { self.place_of(deliveries) } else { None };
            if part.len() == 0 && place.is_none() {
                continue;
            }
            let SubBatch { facts, unknown_devices } = &part;
            let work = BatchWork { unknown_devices, place, read_by, ..BatchWork::fold_now(facts, &no_people) };
            let done = match self.try_commit(work, deadline).await? {
                CommitEnd::Stale => return Ok(false),
                CommitEnd::Committed(result) => {
                    committed.facts += facts.len();
                    self.count_outcomes(result);
                    part
                }
                CommitEnd::Unfit(error) => {
                    let Err(single) = parts.halve(part) else { continue };
                    if !self.set_aside(&single, &error, &mut attempts, deadline).await? {
                        parts.again(single);
                        continue;
                    }
                    // The place in the spool moves in a transaction of its own.
                    if place.is_some() && single.len() > 0 {
                        parts.add(SubBatch::default());
                    }
                    single
                }
            };
            let SubBatch { facts, unknown_devices } = done;
            rejected.retain(|fact| facts.rejected.iter().all(|done| done.digest != fact.digest));
            committed.add(&facts);
            metrics.received((facts.doors.len() + facts.rejected.len()) as u64);
            metrics.presences((facts.presences.len() + unknown_devices.len()) as u64);
            for (failure, fact) in unknown_devices {
                if let Some(mac) = failure.mac {
                    self.unknown_devices.mark_reported(failure.refused.reason, mac);
                    committed.presences.insert((mac, fact.fact.at));
                }
            }
            self.report_alive();
        }
        metrics.decided(Outcome::Refreshed, committed.refreshed);
        metrics.decided(Outcome::Recorded, ignored + unknown.skipped);
        metrics.decided(Outcome::SetAside, left_alone as u64);
        metrics.presences(committed.refreshed + ignored + unknown.skipped + left_alone as u64);
        self.report_flood(unknown.left_out, now);
        Ok(true)
    }

    /// Counts the outcomes of the facts of a sub-batch.
    pub(super) fn count_outcomes(&self, result: BatchResult) {
        let metrics = &self.context.metrics;
        let mut outcomes: BTreeMap<Outcome, u64> = BTreeMap::new();
        for (outcome, reason) in result.outcomes {
            *outcomes.entry(outcome).or_default() += 1;
            if let Some(reason) = reason {
                metrics.failed(reason.code());
            }
        }
        for (outcome, facts) in outcomes {
            metrics.decided(outcome, facts);
        }
    }

    /// Raises the condition that there are too many unknown devices, until the end of the pass day.
    fn report_flood(&mut self, left_out: u64, now: Now) {
        if left_out > 0 {
            self.left_out += left_out;
            self.context.metrics.left_out(left_out);
            let detail = format!(
                "more than {UNRECOGNISED_A_DAY} unrecognised devices today; {} presences of other devices were not \
                 recorded. If this is a guest network, set unrecognised_devices to \"global-only\" or \"off\"",
                self.left_out
            );
            self.context.health.raise_once(ConditionKind::UnrecognisedFlood, "", detail);
            self.flood_day = Some(self.policy().calendar().pass_day(now.wall));
        } else if self.flood_day.is_some_and(|day| !day.contains(now.wall)) {
            self.context.health.clear(ConditionKind::UnrecognisedFlood, "");
            self.flood_day = None;
            self.left_out = 0;
        }
    }
}
