//! Reload: reads the settings again and applies what can change while the daemon runs.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::time;

use super::{
    parts::Part,
    shutdown::DEADLINE,
    supervisor::{SettingsOrigin, SitePhase, Supervisor},
    systemd::{notify, notify_reloading},
};
use crate::{
    base::health::ConditionKind,
    policy::SitePolicy,
    settings::{self, Settings},
    store::StoreError,
};

/// How long the last batch usually takes to commit once the queue is empty.
const LAST_COMMIT: Duration = Duration::from_millis(200);

/// How often to check whether the queue is empty.
const QUEUE_CHECK: Duration = Duration::from_millis(10);

impl Supervisor {
    /// Reads the settings again. If a file has faults, the old settings stay. Changes that need a restart are reported.
    pub(super) async fn reload(&mut self) {
        let file = match &self.origin {
            SettingsOrigin::File(file) => file.clone(),
            SettingsOrigin::Made => return,
        };
        tracing::info!("reading the settings again");
        notify_reloading();
        match settings::load(file.as_deref(), settings::environment()) {
            Err(faults) => {
                let count = faults.faults().len();
                let first = faults.faults().first().map(|fault| fault.head().to_string()).unwrap_or_default();
                let counted = if count == 1 {
                    format!("1 fault: {first}")
                } else {
                    format!("{count} faults, the first: {first}")
                };
                let detail = format!(
                    "the changed settings were refused ({counted}); the old ones stay in force. Run checkind check-config"
                );
                // At its beginning the condition logs the first fault.
                let begins = !self.health.is_raised(ConditionKind::SettingsRefused, "");
                self.health.raise_once(ConditionKind::SettingsRefused, "", detail);
                for fault in faults.faults().iter().skip(usize::from(begins)) {
                    tracing::error!("{}", fault.head());
                }
            }
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    tracing::warn!("{}", warning.head());
                }
                self.apply(loaded.settings).await;
            }
        }
        notify(&[NotifyState::Ready]);
    }

    /// Applies new settings, except changes that need a restart.
    async fn apply(&mut self, new: Settings) {
        // Changes to `[mqtt]` need no restart: the session is started again below.
        let restart: Vec<&str> = settings::changes_needing_restart(&self.settings, &new)
            .into_iter()
            .filter(|section| *section != "mqtt")
            .collect();
        // A fact is decided by the policy of its time, so a policy takes effect only once it is recorded.
        if let (SitePhase::Deciding { policies, records }, Some(site)) = (&self.site, &new.site)
            && !restart.contains(&"site.business")
        {
            let own = SitePolicy { site: site.clone(), doors: new.doors.clone() };
            // A stop request waits meanwhile.
            let recorded = time::timeout(DEADLINE, records.policies(&own, self.clock.now().wall)).await;
            match recorded.unwrap_or(Err(StoreError::too_late())) {
                Ok(known) => {
                    policies.send_replace(Arc::new(new.zones.rule(&known)));
                }
                Err(error) => {
                    let detail =
                        format!("the changed settings could not be recorded ({error}); the old ones stay in force");
                    self.health.raise(ConditionKind::SettingsRefused, "", detail);
                    return;
                }
            }
        }

        if restart.is_empty() {
            self.health.clear(ConditionKind::SettingsRefused, "");
        } else {
            let detail = format!("{} changed; restart checkind for that to take effect", restart.join(", "));
            self.health.raise(ConditionKind::SettingsRefused, "", detail);
        }

        // Settings that need a restart keep their old values, so the next reload compares with what really runs.
        let idle_limit = self.settings.site.as_ref().map(|site| site.idle_limit);
        let old = std::mem::replace(&mut self.settings, new);
        if restart.contains(&"site.business") {
            self.settings.site = old.site;
        } else if let (Some(site), Some(idle_limit)) = (&mut self.settings.site, idle_limit)
            && restart.contains(&"site.idle_limit")
        {
            site.idle_limit = idle_limit;
        }
        self.settings.database = old.database;
        self.settings.spool = old.spool;
        self.settings.lease = old.lease;
        self.settings.api = old.api;
        self.settings.captures = old.captures;
        self.settings.retention = old.retention;

        // The old session ends before the new one starts. The broker keeps our messages in between.
        if let Some(session) = self.broker.session.take() {
            session.stop.cancel();
            self.await_commits().await;
            session.drained.cancel();
            self.await_session().await;
        }
        // Its conditions stay until the new session has found them to be over.
        self.start_session();
        tracing::info!("the new settings are in force");
    }

    /// Gives the pipeline time to commit what the session has sent, so it is acknowledged before the connection ends.
    /// The broker delivers unacknowledged messages again.
    async fn await_commits(&self) {
        let Some(deliveries) = self.door_queue.sender() else { return };
        let empty = async {
            while !deliveries.is_empty() {
                time::sleep(QUEUE_CHECK).await;
            }
            time::sleep(LAST_COMMIT).await;
        };
        if time::timeout(DEADLINE, empty).await.is_err() {
            tracing::warn!("the queue did not empty before the reload; the broker will deliver the rest again");
        }
    }

    /// Waits until the stopped session has ended, so two never share a client id. Other parts that end meanwhile are
    /// reported afterwards, as they would have been without the reload.
    async fn await_session(&mut self) {
        let mut others = Vec::new();
        while self.parts.is_running(Part::Session) {
            match self.parts.next_end().await {
                Some(ended) if ended.part == Part::Session => {}
                Some(other) => others.push(other),
                None => break,
            }
        }
        for other in others {
            self.parts.spawn(other.part, async move { other.result });
        }
    }
}
