//! Commits work, retrying while the database is unavailable and whenever there is a newer directory or newer settings.

use std::sync::Arc;

use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    attempts::{PipelineError, STALE, retry},
    batch_work::{Attempt, BatchResult, BatchWork},
    state::Pipeline,
};

impl Pipeline {
    /// Decides and commits work whose facts do not depend on the directory, so it can simply be repeated with a newer
    /// one.
    pub(super) async fn commit(
        &mut self,
        work: BatchWork<'_>,
        deadline: &CancellationToken,
    ) -> Result<BatchResult, PipelineError> {
        loop {
            if let Some(result) = self.try_commit(work, deadline).await? {
                return Ok(result);
            }
        }
    }

    /// Decides and commits work. `None` if there is a newer directory or newer settings; by then they are loaded, or it
    /// has waited a moment for them. Also `None` if the database went back; by then the pipeline has recovered.
    pub(super) async fn try_commit(
        &mut self,
        work: BatchWork<'_>,
        deadline: &CancellationToken,
    ) -> Result<Option<BatchResult>, PipelineError> {
        // Marked before the attempt, to notice a version that arrives during it.
        let (mut directories, mut policies) = (self.context.directories.clone(), self.context.policies.clone());
        directories.mark_unchanged();
        policies.mark_unchanged();
        let (now, mark) = (self.now(), self.mark.next(work.place));
        match retry!(self, deadline, self.try_transaction(work, mark, now)) {
            Attempt::Committed(result) => {
                self.note_mark(mark);
                self.remember(&result, work);
                return Ok(Some(*result));
            }
            Attempt::WentBack => {
                self.recover_again(deadline).await?;
                return Ok(None);
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
        Ok(None)
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
