//! Recording the policy of a reload: it takes effect only once the database has it, which may be after an outage.

use std::{fmt, future, pin::Pin, time::Duration};

use tokio::time;

use crate::{
    base::{
        backoff::Backoff,
        clock::Clock,
        health::{ConditionKind, Health},
    },
    policy::{PolicyHistory, SitePolicy},
    settings::Settings,
    store::{Store, StoreError},
};

/// The pauses between two attempts to record a policy.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(5) };

/// How long one attempt may take; each of its questions has a limit of its own.
const ATTEMPT: Duration = Duration::from_secs(30);

/// What reloads have left to do, and what they have said.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    waiting: Option<WaitingReload>,
    /// The faults of the last reload, which the log has named.
    pub(super) faults: Vec<String>,
}

/// New settings, until their policy is recorded.
pub(super) struct WaitingReload {
    settings: Settings,
    recording: Pin<Box<dyn Future<Output = PolicyHistory> + Send>>,
}

impl fmt::Debug for WaitingReload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WaitingReload")
    }
}

impl WaitingReload {
    /// Settings whose policy is recorded while this is polled.
    pub(super) fn new(settings: Settings, own: SitePolicy, records: Store, clock: Clock, health: Health) -> Self {
        Self { settings, recording: Box::pin(record(own, records, clock, health)) }
    }
}

impl Reloads {
    /// Waits with these settings instead of earlier ones.
    pub(super) fn wait_with(&mut self, reload: WaitingReload) {
        self.waiting = Some(reload);
    }

    /// A later reload replaces the one that waits.
    pub(super) fn replace(&mut self) {
        self.waiting = None;
    }

    /// The settings that wait, and all policies, once theirs is recorded; never if none wait. May be dropped at any
    /// time.
    pub(super) async fn recorded(&mut self) -> (Settings, PolicyHistory) {
        let Some(reload) = &mut self.waiting else { return future::pending().await };
        let known = reload.recording.as_mut().await;
        match self.waiting.take() {
            Some(reload) => (reload.settings, known),
            None => future::pending().await,
        }
    }
}

/// Records a policy, however long the database is away. It is in force from the time at which it is recorded.
async fn record(own: SitePolicy, records: Store, clock: Clock, health: Health) -> PolicyHistory {
    let mut failures = 0;
    loop {
        let recorded = time::timeout(ATTEMPT, records.policies(&own, clock.now().wall)).await;
        match recorded.unwrap_or(Err(StoreError::too_late())) {
            Ok(known) => return known,
            Err(error) => {
                let detail = format!(
                    "the changed settings cannot be recorded: {}. The old ones stay in force until they can",
                    error.in_words("the database")
                );
                health.raise(ConditionKind::SettingsRefused, "", detail);
            }
        }
        time::sleep(RETRY.pause(failures)).await;
        failures = failures.saturating_add(1);
    }
}
