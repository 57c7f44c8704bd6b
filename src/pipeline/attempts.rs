//! What the pipeline does when the database fails: it retries until it succeeds or a shutdown runs out of time.

use std::time::Duration;

use tokio::time;
use tokio_util::sync::CancellationToken;

use super::state::Pipeline;
use crate::{
    base::{
        backoff::Backoff,
        health::{ConditionKind, RaisedBy},
    },
    store::StoreError,
};

/// The pauses between attempts while the database fails. Its recovery is noticed within the longest pause.
pub(super) const RETRY: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

/// The time limit of one attempt, with all its questions to the database, each of which has a shorter one. It is ten
/// times the longest batch ever seen on a slow disk, and less than the time after which the pipeline counts as stalled.
pub(super) const LONGEST_ATTEMPT: Duration = Duration::from_secs(30);

/// How long the pipeline waits for a newer version of the directory or the settings before it requests it again.
pub(super) const STALE: Duration = Duration::from_millis(500);

/// The number of conflicts that are retried without a pause: each means that another gateway made progress.
const CONFLICTS: u32 = 10;

/// Why the pipeline ended.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// This process must not write any more: another gateway has the lease.
    #[error("the pipeline cannot continue")]
    Store(#[from] StoreError),
    /// The deadline of the shutdown passed while the database was unavailable; nothing uncommitted was acknowledged.
    #[error("stopped before the last batch was committed; the spool or the broker will deliver it again")]
    GaveUp,
}

/// The failures of one piece of work.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failures: u32,
    /// Conflicts with another writer, which are retried without a pause.
    conflicts: u32,
}

/// The number of further conflicts, with pauses of nine seconds in all, after which no other writer can be the cause,
/// but only this work: a row that contradicts it.
const STUCK: u32 = 8;

/// After how many failures without an answer work is split: a server that restarts needs one or two.
const SILENCES: u32 = 2;

/// What follows from a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterFailure {
    /// The same work again, after a pause if the database is away.
    Again,
    /// The work has to become smaller. If it contains a single thing, that has to be set aside.
    Smaller,
    /// The same, after a pause.
    SmallerLater,
}

impl Attempts {
    /// What follows from an error, if the work contains this many facts, people or rows; `None` if the work is nothing
    /// that could be made smaller or set aside.
    pub(super) fn after(&self, error: &StoreError, size: Option<usize>) -> AfterFailure {
        let Some(size) = size else { return AfterFailure::Again };
        let is_divisible = size > 1;
        match error {
            StoreError::Unfit(_) => AfterFailure::Smaller,
            // After so many conflicts the work itself may be their cause. Work that can be split is, before anything is
            // waited for.
            StoreError::Conflict if self.conflicts >= CONFLICTS && (is_divisible || self.failures >= STUCK) => {
                AfterFailure::Smaller
            }
            // The database may have too little memory or time for so much at once: it has not answered several times.
            // What it answers, such as a full disk, concerns any work.
            error if is_divisible && error.is_silence() && self.failures >= SILENCES => AfterFailure::SmallerLater,
            StoreError::Conflict
            | StoreError::Unavailable(_)
            | StoreError::Refused { .. }
            | StoreError::Unusable { .. } => AfterFailure::Again,
        }
    }
}

/// Makes attempts at database work until one succeeds, or until the work has to become smaller: a `Result` with the
/// error. `$size` is that of [`Attempts::after`]. `$work` is evaluated again for each attempt, and each attempt is
/// limited to `$longest`. See [`Pipeline::wait_to_retry`] for what happens in between.
macro_rules! attempt {
    ($pipeline:ident, $deadline:expr, $size:expr, $work:expr, within $longest:expr) => {{
        let mut attempts = $crate::pipeline::attempts::Attempts::default();
        loop {
            let result = ::tokio::time::timeout($longest, $work).await;
            let error = match result.unwrap_or(Err($crate::store::StoreError::too_late())) {
                Ok(value) => {
                    $pipeline.note_success();
                    break Ok(value);
                }
                Err(error) => error,
            };
            match attempts.after(&error, $size) {
                $crate::pipeline::attempts::AfterFailure::Again => {
                    $pipeline.wait_to_retry(&mut attempts, error, $deadline).await?;
                }
                $crate::pipeline::attempts::AfterFailure::Smaller => {
                    $pipeline.note_unfit();
                    break Err(error);
                }
                $crate::pipeline::attempts::AfterFailure::SmallerLater => {
                    $pipeline.wait_to_retry(&mut attempts, error, $deadline).await?;
                    break Err($crate::store::StoreError::too_late());
                }
            }
        }
    }};
}
pub(super) use attempt;

/// Repeats database work until it succeeds. Each attempt is limited to [`LONGEST_ATTEMPT`] or to the duration after
/// `within`. Otherwise as [`attempt`].
macro_rules! retry {
    ($pipeline:ident, $deadline:expr, $work:expr) => {
        retry!($pipeline, $deadline, $work, within $crate::pipeline::attempts::LONGEST_ATTEMPT)
    };
    ($pipeline:ident, $deadline:expr, $work:expr, within $longest:expr) => {
        // Without a size, no error ends the attempts.
        $crate::pipeline::attempts::attempt!($pipeline, $deadline, None, $work, within $longest)?
    };
}
pub(super) use retry;

/// What the condition says while the database does not take what the pipeline has.
pub fn outage(error: &StoreError, is_shared: bool) -> String {
    let meanwhile =
        if is_shared { "door messages stay in the spool meanwhile" } else { "nothing is acknowledged meanwhile" };
    format!("{}; {meanwhile}, nothing is lost", error.in_words("the database"))
}

impl Pipeline {
    /// Notes that the database works.
    pub(super) fn note_success(&mut self) {
        self.context.health.clear_by(RaisedBy::Pipeline, ConditionKind::DatabaseUnavailable);
        self.coverage.note_success();
        self.report_alive();
    }

    /// Notes that the database does not take this work, or not so much of it.
    pub(super) fn note_unfit(&self) {
        self.context.metrics.commit_failed();
        self.report_alive();
    }

    /// Waits until the next attempt is due: a conflict is retried at once, an unavailable database after a growing
    /// pause.
    ///
    /// # Errors
    /// If this process must not write any more (another gateway has the lease), or the deadline passes first.
    pub(super) async fn wait_to_retry(
        &mut self,
        attempts: &mut Attempts,
        error: StoreError,
        deadline: &CancellationToken,
    ) -> Result<(), PipelineError> {
        self.context.metrics.commit_failed();
        self.coverage.note_failure();
        // Waiting for the database counts as working: a restart would not help.
        self.report_alive();
        match error {
            StoreError::Conflict if attempts.conflicts < CONFLICTS => {
                attempts.conflicts += 1;
                tracing::debug!(times = attempts.conflicts, "another writer changed the same records");
                return Ok(());
            }
            away @ (StoreError::Conflict
            | StoreError::Unavailable(_)
            | StoreError::Refused { .. }
            | StoreError::Unfit(_)) => {
                let detail = outage(&away, self.context.store.is_shared());
                self.context.health.raise_by(RaisedBy::Pipeline, ConditionKind::DatabaseUnavailable, detail);
            }
            unusable @ StoreError::Unusable { .. } => return Err(PipelineError::Store(unusable)),
        }
        tokio::select! {
            () = deadline.cancelled() => return Err(PipelineError::GaveUp),
            () = time::sleep(RETRY.pause(attempts.failures)) => {}
        }
        attempts.failures = attempts.failures.saturating_add(1);
        Ok(())
    }

    /// Asks the daemon to load the newest directory and settings.
    pub(super) fn ask_for_newer(&self) {
        if let Some(stale) = &self.context.stale {
            stale.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_a_failure_is_as_in_the_table() {
        use AfterFailure::{Again, Smaller, SmallerLater};
        let unfit = || StoreError::Unfit(sqlx::Error::PoolClosed);
        let full = || StoreError::Unavailable(sqlx::Error::PoolClosed);
        let refused = || StoreError::Refused { what: String::new(), source: sqlx::Error::PoolClosed };
        // The error, how many conflicts and failures came before it, and what follows for work that cannot be made
        // smaller, for a single thing, and for many.
        let table = [
            (unfit(), 0, 0, [Again, Smaller, Smaller]),
            (full(), 0, 0, [Again, Again, Again]),
            (full(), CONFLICTS, 100, [Again, Again, Again]),
            (refused(), 0, 100, [Again, Again, Again]),
            (StoreError::too_late(), 0, SILENCES - 1, [Again, Again, Again]),
            (StoreError::too_late(), 0, SILENCES, [Again, Again, SmallerLater]),
            (StoreError::Conflict, CONFLICTS - 1, 100, [Again, Again, Again]),
            (StoreError::Conflict, CONFLICTS, 0, [Again, Again, Smaller]),
            (StoreError::Conflict, CONFLICTS, STUCK, [Again, Smaller, Smaller]),
        ];
        for (error, conflicts, failures, follows) in table {
            let attempts = Attempts { failures, conflicts };
            let found = [None, Some(1), Some(2)].map(|size| attempts.after(&error, size));
            assert_eq!(found, follows, "{error:?} after {conflicts} conflicts and {failures} failures");
        }
    }
}
