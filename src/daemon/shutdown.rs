//! Shutdown: the intake ends, the pipeline drains, the session acknowledges the last commits, everything else ends.

use std::time::Duration;

use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{parts::Part, requests::Requests, supervisor::Supervisor};
use crate::base::health::ConditionKind;

/// How long a shutdown may take before late parts are abandoned. Shorter than the unit's `TimeoutStopSec`.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long late parts have to end after the deadline.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// How far a shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShutdownStage {
    /// The captures, the session and the spool pass on what they hold.
    Intake,
    /// The pipeline decides and commits what it has received.
    Draining,
    /// The session acknowledges the last commits; everything else ends.
    Ending,
}

impl Supervisor {
    /// Stops every part within [`DEADLINE`]. Returns the names of those that did not end in time.
    pub(super) async fn shut_down(&mut self, requests: &mut Requests) -> Option<String> {
        match time::timeout(DEADLINE, self.stop_in_order(requests)).await {
            Ok(()) => None,
            Err(_) => Some(self.abandon_late_parts().await),
        }
    }

    /// The clean shutdown; see the first line of this file. A further signal exits at once.
    async fn stop_in_order(&mut self, requests: &mut Requests) {
        self.stop.intake.cancel();
        self.door_queue.close();
        let spool_settled = self.door_queue.spool_settled().cloned();
        if spool_settled.is_some() && self.health.is_raised(ConditionKind::DatabaseUnavailable, "") {
            // Everything is in the spool, so there is no need to wait for the database.
            self.stop.deadline.cancel();
        }
        let spool_settled = spool_settled.unwrap_or_else(|| {
            let without_spool = CancellationToken::new();
            without_spool.cancel();
            without_spool
        });
        let mut stage = ShutdownStage::Intake;
        loop {
            let settled = spool_settled.is_cancelled() || !self.parts.is_running(Part::Spool);
            // The captures pass on what they have merged, and the spool what it holds, before the pipeline drains:
            // another gateway may take over the site, and could not read what stays in this spool.
            if stage == ShutdownStage::Intake && !self.parts.is_running(Part::Capture) && settled {
                self.stop.drain.cancel();
                stage = ShutdownStage::Draining;
            }
            // Nothing more will be committed, so the session can acknowledge the rest and disconnect.
            if stage == ShutdownStage::Draining && !self.parts.is_running(Part::Pipeline) && settled {
                if let Some(session) = &self.broker.session {
                    session.drained.cancel();
                }
                self.stop.rest.cancel();
                stage = ShutdownStage::Ending;
            }
            tokio::select! {
                signal = requests.stop_signal() => {
                    tracing::warn!(signal, "a second signal: exiting at once");
                    std::process::exit(1);
                }
                () = spool_settled.cancelled(), if !spool_settled.is_cancelled() => {}
                ended = self.parts.next_end() => {
                    let Some(ended) = ended else { return };
                    if let Err(error) = ended.result {
                        tracing::error!("{} failed during shutdown: {error:#}", ended.part.name());
                    }
                }
            }
        }
    }

    /// Gives late parts [`LAST_CHANCE`] to end, then aborts them. What was not committed was not acknowledged, so the
    /// broker or the spool still has it. Returns the names of the late parts.
    async fn abandon_late_parts(&mut self) -> String {
        let late = self.parts.names();
        self.stop.deadline.cancel();
        self.stop.rest.cancel();
        if time::timeout(LAST_CHANCE, self.parts.join_all()).await.is_err() {
            self.parts.abort_all();
        }
        late
    }
}
