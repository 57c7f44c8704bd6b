//! Commits work, retrying while the database is unavailable and whenever there is a newer directory or newer settings.

use std::sync::Arc;

use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    attempts::{Attempts, LONGEST_ATTEMPT, PipelineError, STALE, attempt},
    batch_work::{Attempt, BatchResult, BatchWork, CommitEnd},
    parts::WorkParts,
    state::Pipeline,
};

impl Pipeline {
    /// Folds people without new facts and commits, in smaller parts if the database does not take them together.
    /// Nothing here depends on the directory, so it is simply repeated with a newer one.
    pub(super) async fn commit(
        &mut self,
        work: BatchWork<'_>,
        deadline: &CancellationToken,
    ) -> Result<BatchResult, PipelineError> {
        let mut attempts = Attempts::default();
        let mut result = BatchResult::default();
        let mut parts = WorkParts::of([work.people.clone()]);
        while let Some(mut people) = parts.next() {
            people.retain(|subject| !self.is_left_alone(*subject));
            if people.is_empty() {
                continue;
            }
            match self.try_commit(BatchWork { people: &people, ..work }, deadline).await? {
                CommitEnd::Committed(part) => result.add(part),
                CommitEnd::Stale => parts.again(people),
                CommitEnd::Unfit(error) => {
                    if let Err(single) = parts.halve(people)
                        && !self.set_people_aside(&single, &error, &mut attempts, deadline).await?
                    {
                        parts.again(single);
                    }
                }
            }
        }
        Ok(result)
    }

    /// Decides and commits work. Waits while the database is away, and makes another attempt with the same work, or has
    /// it made smaller: a batch to which the database does not answer again and again may be too large.
    pub(super) async fn try_commit(
        &mut self,
        work: BatchWork<'_>,
        deadline: &CancellationToken,
    ) -> Result<CommitEnd, PipelineError> {
        // Marked before the attempt, to notice a version that arrives during it.
        let (mut directories, mut policies) = (self.context.directories.clone(), self.context.policies.clone());
        directories.mark_unchanged();
        policies.mark_unchanged();
        let (now, mark) = (self.now(), self.mark.next(work.place));
        let result = match attempt!(self, deadline, Some(work.size()),
            Box::pin(self.try_transaction(work, mark, now)), within LONGEST_ATTEMPT)
        {
            Ok(result) => result,
            Err(error) => return Ok(CommitEnd::Unfit(error)),
        };
        match result {
            Attempt::Committed(result) => {
                self.note_mark(mark);
                self.remember(&result, work);
                return Ok(CommitEnd::Committed(*result));
            }
            Attempt::WentBack => {
                self.recover_again(deadline).await?;
                return Ok(CommitEnd::Stale);
            }
            Attempt::Stale => {}
        }
        let directory = Arc::clone(&self.context.directories.borrow());
        if work.is_read_by(&directory) {
            tracing::debug!("waiting for the newest directory and settings");
            self.ask_for_newer();
            tokio::select! {
                _ = directories.changed() => {}
                _ = policies.changed() => {}
                () = deadline.cancelled() => return Err(PipelineError::GaveUp),
                () = time::sleep(STALE) => {}
            }
        }
        Ok(CommitEnd::Stale)
    }

    /// Remembers what a commit has changed: who is in, and which silences are unproven. The next deadline has to be
    /// read again.
    fn remember(&mut self, result: &BatchResult, work: BatchWork<'_>) {
        let now = self.now();
        self.unproven.extend(&result.unproven);
        // At startup it is not known when a visit was first seen. One folded because of a clock step counts as seen
        // now.
        let seen =
            (self.reviewed_version.is_some() || !work.people.is_empty() && work.step.is_some()).then_some(now.boot);
        for decided in &result.decided {
            for (subject, person) in &decided.people {
                self.present.update(*subject, person, self.context.business, seen);
            }
        }
        self.next_deadline = None;
        self.context.metrics.open_checkins(i64::try_from(self.present.len()).unwrap_or(i64::MAX));
        let refolded: u64 = result.decided.iter().map(|decided| decided.refolded).sum();
        self.context.metrics.decided_again(refolded);
    }
}
