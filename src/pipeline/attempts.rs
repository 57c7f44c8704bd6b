//! What the pipeline does when the database fails: it retries until it succeeds or a shutdown runs out of time.

use std::time::Duration;

use tokio::time;
use tokio_util::sync::CancellationToken;

use super::state::Pipeline;
use crate::{
    base::{backoff::Backoff, health::ConditionKind},
    store::StoreError,
};

/// The pauses between attempts while the database fails. Its recovery is noticed within the longest pause.
pub(super) const RETRY: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

/// The time limit of one attempt: a server that vanishes without closing the connection would block it forever. It is
/// ten times the longest batch ever seen on a slow disk, and less than the time after which the watchdog considers the
/// pipeline stuck.
pub(super) const LONGEST_ATTEMPT: Duration = Duration::from_secs(30);

/// How long the pipeline waits for a newer version of the directory or the settings before it requests it again.
pub(super) const STALE: Duration = Duration::from_millis(500);

/// The number of conflicts that are retried without a pause: each means that another gateway made progress.
const CONFLICTS: u32 = 10;

/// Why the pipeline ended.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The database is unusable.
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

/// The number of further conflicts, with pauses of nine seconds in all, after which no other writer can be the cause, but
/// only this work: a row that contradicts it.
const STUCK: u32 = 8;

impl Attempts {
    /// Whether there were so many conflicts that the work itself may be their cause. Work that can be split is, before
    /// anything is waited for.
    pub(super) const fn is_stuck(&self, error: &StoreError, is_divisible: bool) -> bool {
        let is_conflict = matches!(error, StoreError::Conflict);
        is_conflict && self.conflicts >= CONFLICTS && (is_divisible || self.failures >= STUCK)
    }
}

/// Repeats database work until it succeeds. `$work` is evaluated again for each attempt, and each attempt is limited to
/// [`LONGEST_ATTEMPT`] or to the duration after `within`. See [`Pipeline::wait_to_retry`] for what happens in between.
macro_rules! retry {
    ($pipeline:ident, $deadline:expr, $work:expr) => {
        retry!($pipeline, $deadline, $work, within $crate::pipeline::attempts::LONGEST_ATTEMPT)
    };
    ($pipeline:ident, $deadline:expr, $work:expr, within $longest:expr) => {{
        let mut attempts = $crate::pipeline::attempts::Attempts::default();
        loop {
            let result = ::tokio::time::timeout($longest, $work).await;
            match result.unwrap_or(Err($crate::store::StoreError::too_late())) {
                Ok(value) => {
                    $pipeline.note_success();
                    break value;
                }
                Err(error) => $pipeline.wait_to_retry(&mut attempts, error, $deadline).await?,
            }
        }
    }};
}
pub(super) use retry;

impl Pipeline {
    /// Notes that the database works.
    pub(super) fn note_success(&mut self) {
        self.context.health.clear(ConditionKind::DatabaseUnavailable, "");
        self.coverage.note_success();
    }

    /// Waits until the next attempt is due: a conflict is retried at once, an unavailable database after a growing
    /// pause.
    ///
    /// # Errors
    /// If the database is unusable, or the deadline passes first.
    pub(super) async fn wait_to_retry(
        &mut self,
        attempts: &mut Attempts,
        error: StoreError,
        deadline: &CancellationToken,
    ) -> Result<(), PipelineError> {
        self.context.metrics.commit_failed();
        self.coverage.note_failure();
        // For the watchdog, waiting for the database counts as working: a restart would not help.
        self.report_alive();
        match error {
            StoreError::Conflict if attempts.conflicts < CONFLICTS => {
                attempts.conflicts += 1;
                tracing::debug!(times = attempts.conflicts, "another writer changed the same records");
                return Ok(());
            }
            StoreError::Conflict => {
                let detail =
                    "another writer keeps changing the same records; are two gateways running for one business?";
                self.context.health.raise(ConditionKind::DatabaseUnavailable, "", detail);
            }
            StoreError::Refused { what, source } => {
                let detail = format!("the database refuses ({source}): {what}; nothing is lost");
                self.context.health.raise(ConditionKind::DatabaseUnavailable, "", detail);
            }
            StoreError::Unavailable(source) | StoreError::Unfit(source) => {
                let meanwhile = if self.context.store.is_shared() {
                    "door messages stay in the spool meanwhile"
                } else {
                    "nothing is acknowledged meanwhile"
                };
                let detail = format!("writing to the database fails ({source}); {meanwhile}, nothing is lost");
                self.context.health.raise(ConditionKind::DatabaseUnavailable, "", detail);
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
