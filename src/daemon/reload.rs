//! Reload: reads the settings again and applies what can change while the daemon runs.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::time;

use super::{
    parts::Part,
    recording::WaitingReload,
    requests::OutsideRequest,
    shutdown::DEADLINE,
    supervisor::{SettingsOrigin, SitePhase, Supervisor},
    systemd::{notify, notify_reloading},
};
use crate::{
    base::health::ConditionKind,
    policy::{PolicyHistory, SitePolicy},
    settings::{self, Database, Settings, SettingsFaults},
    store::{Store, StoreError},
};

/// How long the last batch usually takes to commit once the queue is empty.
const LAST_COMMIT: Duration = Duration::from_millis(200);

/// How long a reload waits until its policy is recorded. After that the daemon works on, and the settings take effect
/// when the database has it.
const RECORDED: Duration = Duration::from_secs(3);

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
        self.certificate_reload.ask();
        notify_reloading();
        self.reloads.replace();
        match settings::load(file.as_deref(), settings::environment()) {
            Err(faults) => self.refuse(&faults),
            Ok(loaded) => {
                self.reloads.faults.clear();
                for warning in &loaded.warnings {
                    tracing::warn!("{}", warning.head());
                }
                self.apply(loaded.settings).await;
            }
        }
        notify(&[NotifyState::Ready]);
    }

    /// Reloads if this is the request; returns whether it is one to stop.
    pub(super) async fn is_stop(&mut self, request: OutsideRequest) -> bool {
        match request {
            OutsideRequest::Reload => {
                self.reload().await;
                false
            }
            OutsideRequest::StopBySignal(_) | OutsideRequest::StopByCaller => true,
        }
    }

    /// Keeps the old settings, and names each fault once, however often they are read again.
    fn refuse(&mut self, faults: &SettingsFaults) {
        let heads: Vec<String> = faults.faults().iter().map(|fault| fault.head().to_string()).collect();
        let first = heads.first().map_or("", String::as_str);
        let counted = match heads.len() {
            1 => format!("1 fault: {first}"),
            count => format!("{count} faults, the first: {first}"),
        };
        let detail = format!(
            "the changed settings were refused ({counted}); the old ones stay in force. Run checkind check-config"
        );
        // At its beginning the condition logs the first fault.
        let begins = !self.health.is_raised(ConditionKind::SettingsRefused, "");
        self.health.raise_once(ConditionKind::SettingsRefused, "", detail);
        if heads != self.reloads.faults {
            for head in heads.iter().skip(usize::from(begins)) {
                tracing::error!("{head}");
            }
        }
        self.reloads.faults = heads;
    }

    /// Makes connections by these settings from now on. While the database is reached by the old ones, the server must
    /// first accept the new ones: a mistyped password must not take a working gateway from it.
    async fn changed_connection(&self, store: &Store, database: &Database) -> Result<(), StoreError> {
        if !self.health.is_raised(ConditionKind::DatabaseUnavailable, "")
            && let Err(refused @ StoreError::Refused { .. }) = store.try_connection(database).await
        {
            return Err(refused);
        }
        store.connect_by(database)
    }

    /// Applies new settings, except changes that need a restart.
    async fn apply(&mut self, new: Settings) {
        // The connection first: with a corrected password an outage ends.
        if settings::connection_changed(&self.settings.database, &new.database) {
            if let Some(store) = &self.store
                && let Err(error) = self.changed_connection(store, &new.database).await
            {
                let detail = format!("{}; the old settings stay in force", error.in_words("the database"));
                self.health.raise(ConditionKind::SettingsRefused, "", detail);
                return;
            }
            self.settings.database = new.database.clone();
            tracing::info!("new connections to the database are made by the new settings");
        }
        // A fact is decided by the policy of its time, so a policy takes effect only once it is recorded.
        if let (SitePhase::Deciding { records, .. }, Some(site)) = (&self.site, &new.site)
            && !settings::changes_needing_restart(&self.settings, &new).contains(&"site.business")
        {
            let own = SitePolicy { site: site.clone(), doors: new.doors.clone() };
            // What is recorded already need not wait for the database.
            if self.settings.site.as_ref() == Some(&own.site) && self.settings.doors == own.doors {
                return self.put_in_force(new).await;
            }
            let records = (**records).clone();
            self.reloads.wait_with(WaitingReload::new(new, own, records, self.clock.clone(), self.health.clone()));
            // A stop request waits meanwhile.
            match time::timeout(RECORDED, self.reloads.recorded()).await {
                Ok(recorded) => self.take_effect(recorded).await,
                Err(_) if self.health.is_raised(ConditionKind::SettingsRefused, "") => {}
                Err(_) => {
                    let detail = "the changed settings cannot be recorded yet, because the database does not answer. The \
                                  old ones stay in force until it does";
                    self.health.raise(ConditionKind::SettingsRefused, "", detail);
                }
            }
            return;
        }
        self.put_in_force(new).await;
    }

    /// Puts settings in force whose policy is recorded now.
    pub(super) async fn take_effect(&mut self, (new, known): (Settings, PolicyHistory)) {
        if let SitePhase::Deciding { policies, .. } = &self.site {
            policies.send_replace(Arc::new(new.zones.rule(&known)));
        }
        self.put_in_force(new).await;
    }

    /// Puts new settings in force, except changes that need a restart.
    async fn put_in_force(&mut self, new: Settings) {
        // Changes to `[mqtt]` need no restart: the session is started again below.
        let restart: Vec<&str> = settings::changes_needing_restart(&self.settings, &new)
            .into_iter()
            .filter(|section| *section != "mqtt")
            .collect();
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
        self.settings.jwt = old.jwt;
        self.settings.captures = old.captures;
        self.settings.sync = old.sync;
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
