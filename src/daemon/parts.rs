//! The daemon's tasks, and how the supervisor learns that one has ended.

use std::collections::BTreeMap;

use anyhow::anyhow;
use tokio::task::{self, JoinError, JoinSet};

/// A part of the daemon that the supervisor watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Capture,
    Session,
    Spool,
    Pipeline,
    Directory,
    Retention,
    Sync,
    Lease,
    Database,
    Check,
    Disk,
    Api,
    Notify,
}

impl Part {
    /// The part's name in the log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Capture => "a capture",
            Self::Session => "the broker session",
            Self::Spool => "the spool",
            Self::Pipeline => "the pipeline",
            Self::Directory => "the directory watch",
            Self::Retention => "retention",
            Self::Sync => "the sync with the platform",
            Self::Lease => "the lease",
            Self::Database => "the database watch",
            Self::Check => "the check of the database",
            Self::Disk => "the disk watch",
            Self::Api => "the API",
            Self::Notify => "the systemd notifier",
        }
    }
}

/// A part that has ended, and its result.
#[derive(Debug)]
pub(super) struct PartEnd {
    pub(super) part: Part,
    pub(super) result: anyhow::Result<()>,
}

impl PartEnd {
    /// The error to report when the daemon had not stopped this part.
    pub(super) fn into_error(self) -> anyhow::Error {
        let name = self.part.name();
        match self.result {
            Ok(()) => anyhow!("{name} ended unexpectedly"),
            Err(error) => error.context(format!("{name} failed")),
        }
    }
}

/// The parts that are running.
#[derive(Debug, Default)]
pub(super) struct Parts {
    tasks: JoinSet<anyhow::Result<()>>,
    running: BTreeMap<task::Id, Part>,
}

impl Parts {
    /// Starts a part as a task of the runtime.
    pub(super) fn spawn(&mut self, part: Part, work: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let task = self.tasks.spawn(work);
        self.running.insert(task.id(), part);
    }

    /// Starts a part that blocks, on a separate thread.
    pub(super) fn spawn_blocking(&mut self, part: Part, work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) {
        let task = self.tasks.spawn_blocking(work);
        self.running.insert(task.id(), part);
    }

    /// Whether any task of this part is still running.
    pub(super) fn is_running(&self, part: Part) -> bool {
        self.running.values().any(|running| *running == part)
    }

    /// Waits for the next part to end; `None` when all have ended. A panic counts as a failure. May be dropped at any
    /// time.
    pub(super) async fn next_end(&mut self) -> Option<PartEnd> {
        let ended = self.tasks.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let part = self.running.remove(&id).unwrap_or(Part::Notify);
        let result = match ended {
            Ok((_, result)) => result,
            Err(error) => Err(anyhow::Error::from(error)),
        };
        Some(PartEnd { part, result })
    }

    /// Waits until every task has ended, whatever its result.
    pub(super) async fn join_all(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Aborts every task that is still running.
    pub(super) fn abort_all(&mut self) {
        self.tasks.abort_all();
    }

    /// The names of the parts that are still running, for the log.
    pub(super) fn names(&self) -> String {
        self.running.values().map(|part| part.name()).collect::<Vec<_>>().join(", ")
    }
}
