//! What is due at each turn in addition to new arrivals: newly proven silences, a newer directory, deadlines, and
//! presences and coverage to write.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    attempts::{LONGEST_ATTEMPT, PipelineError, attempt},
    batch_work::BatchWork,
    intake::Intake,
    parts::WorkParts,
    present_people::WRITE_EVERY,
    state::{Pipeline, calendar_of},
};
use crate::{
    base::{
        clock::WallTime,
        fact::{LogDay, Subject},
        record::BusinessId,
    },
    store::{StoreError, UnloggedPresence, Writes},
};

/// How often the coverage is written if there are no presences to write. A crash loses at most this much provable
/// silence, so a check-out may come that much later; and an empty building wears the disk with one page.
const COVERAGE_EVERY: Duration = Duration::from_mins(5);

impl Pipeline {
    /// Does everything that is due.
    pub(super) async fn do_due_work(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        self.compare_mark(deadline).await?;
        self.recount_set_aside().await;
        let now = self.now();
        // First, because a newly proven silence may precede a deadline.
        self.refold_proven(deadline).await?;

        // A newer directory may have removed the pass that an open visit uses.
        let version = self.directory_version();
        if self.reviewed_version != Some(version) {
            self.fold_everyone_present(deadline).await?;
            self.reviewed_version = Some(version);
        }
        self.run_deadlines(deadline).await?;
        self.cut_off_plain_checkins(deadline).await?;

        // At least four times within an idle limit: the presences that a crash loses must not look like a silence.
        let every = WRITE_EVERY.min(self.policy().site.idle_limit / 4);
        if self.presences_written_at.is_none_or(|written| now.boot.since(written) >= every) {
            if !self.present.unwritten(self.context.business).is_empty()
                || self.coverage.unwritten_for(now.boot) >= COVERAGE_EVERY
            {
                self.write_presences_in_parts(deadline).await?;
            }
            self.presences_written_at = Some(now.boot);
            let overdue = self.present.overdue(now.wall);
            if !overdue.is_empty() {
                self.fold_now(&overdue, None, deadline).await?;
            }
        }
        Ok(())
    }

    /// Updates the coverage from the captures, and refolds each person with a newly proven silence before their latest
    /// facts.
    async fn refold_proven(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let now = self.now();
        self.coverage.update(&self.context.site_coverage, now);
        let proven = self.coverage.proven(now);
        let mut by_day: BTreeMap<LogDay, BTreeSet<Subject>> = BTreeMap::new();
        for (subject, silence) in self.unproven.extract_if(.., |_, silence| *silence < proven) {
            by_day.entry(LogDay::of(silence)).or_default().insert(subject);
        }
        let no_facts = Intake::default();
        for (day, people) in by_day {
            let work = BatchWork { refold_from: Some(day), ..BatchWork::fold_now(&no_facts, &people) };
            self.commit(work, deadline).await?;
        }
        Ok(())
    }

    /// Writes the presences that only continue a visit and, in the same transaction, the coverage.
    pub(super) async fn write_presences(&mut self) -> Result<(), StoreError> {
        let unwritten = self.present.unwritten(self.context.business);
        if self.write_some_presences(unwritten).await? {
            self.present.mark_written();
        }
        Ok(())
    }

    /// Does the same, and halves what the database does not take. A row that it does not take alone stays in memory,
    /// until the person's next fold writes or sets aside what is in it.
    async fn write_presences_in_parts(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let mut parts = WorkParts::of([self.present.unwritten(self.context.business)]);
        while let Some(rows) = parts.next() {
            let write = attempt!(self, deadline, Some(rows.len()), self.write_some_presences(rows.clone()),
                within LONGEST_ATTEMPT);
            match write {
                Ok(true) => {}
                Ok(false) => return self.recover_again(deadline).await,
                Err(error) => {
                    if parts.halve(rows).is_err() {
                        tracing::debug!(%error, "the database does not take a presence");
                    }
                }
            }
        }
        self.present.mark_written();
        Ok(())
    }

    /// Writes these presences and the coverage in one transaction. False if the database went back.
    async fn write_some_presences(&mut self, unlogged: Vec<UnloggedPresence>) -> Result<bool, StoreError> {
        let now = self.now();
        let business = self.context.business;
        let covered = self.coverage.to_write(now);
        let coverage = covered.map(|(id, covered)| (id, business, covered));
        let writes = Writes { unlogged, coverage, ..Writes::default() };
        if writes.unlogged.is_empty() && writes.coverage.is_none() {
            return Ok(true);
        }
        let mark = self.mark.next(None);
        let policies = Arc::clone(&self.context.policies.borrow());
        let calendar = |business: BusinessId, at: WallTime| calendar_of(&policies, business, at);
        let mut transaction = self.context.store.batch().await?;
        transaction.write(&writes, &calendar, now.wall).await?;
        if !self.move_mark(&mut transaction, mark).await? {
            return Ok(false);
        }
        transaction.commit().await?;
        self.note_mark(mark);
        if let Some(covered) = covered {
            self.coverage.mark_written(covered, now);
        }
        Ok(true)
    }
}
