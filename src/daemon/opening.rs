//! Opens the database and the spool, and retries until they are available.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::time;

use super::{requests::Requests, supervisor::Supervisor, systemd::notify};
use crate::{
    base::{backoff::Backoff, health::ConditionKind, record::BusinessId},
    directory::history::DirectoryHistory,
    policy::{PolicyHistory, SitePolicy},
    settings::{Database, SpoolSettings},
    spool::Spool,
    store::{Store, StoreError},
};

/// The pauses between two attempts to open the database or the spool.
const RETRY: Backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(5) };

/// How often systemd's start time-out is extended while an attempt lasts.
const EXTENDED_EVERY: Duration = Duration::from_secs(20);

/// What a pipeline needs to decide.
#[derive(Debug)]
pub(super) struct Basis {
    pub(super) business: BusinessId,
    pub(super) policies: Arc<PolicyHistory>,
    pub(super) directories: Arc<DirectoryHistory>,
}

impl Supervisor {
    /// Opens the database; `None` when a stop was requested meanwhile.
    pub(super) async fn open_store(&mut self, requests: &mut Requests) -> anyhow::Result<Option<Store>> {
        let database = self.settings.database.clone();
        // Once is enough: a large file takes seconds, and the log should not say again that it is sound.
        let is_checked = AtomicBool::new(false);
        let open = async || {
            if !is_checked.load(Ordering::Relaxed) {
                Store::check_after_crash(&database).await?;
                is_checked.store(true, Ordering::Relaxed);
            }
            Store::open(&database).await
        };
        self.retry_until_open(ConditionKind::DatabaseUnavailable, "the database", open, requests).await
    }

    /// Opens the spool; `None` when a stop was requested meanwhile.
    pub(super) async fn open_spool(
        &mut self,
        settings: &SpoolSettings,
        requests: &mut Requests,
    ) -> anyhow::Result<Option<Spool>> {
        let (clock, health, counters) = (self.clock.clone(), self.health.clone(), Arc::clone(&self.spool_counters));
        let open = async || {
            Store::check_after_crash(&Database::Sqlite { path: settings.path.clone() }).await?;
            Spool::open(settings, clock.clone(), health.clone(), Arc::clone(&counters)).await
        };
        let spool = self.retry_until_open(ConditionKind::SpoolUnavailable, "the spool", open, requests).await;
        spool.context("the spool cannot be used")
    }

    /// Records the site's own policy, then loads all policies and the directory; `None` when a stop was requested
    /// meanwhile.
    pub(super) async fn load_basis(
        &mut self,
        store: &Store,
        requests: &mut Requests,
        own: &SitePolicy,
    ) -> anyhow::Result<Option<Basis>> {
        let (clock, business, zones) = (self.clock.clone(), own.site.business, self.settings.zones.clone());
        let load = async || {
            let policies = Arc::new(zones.rule(&store.policies(own, clock.now().wall).await?));
            let directories = Arc::new(store.load_directories().await?);
            Ok(Basis { business, policies, directories })
        };
        let loaded = self.retry_until_open(ConditionKind::DatabaseUnavailable, "the database", load, requests).await;
        loaded.context("could not load the directory and the earlier settings")
    }

    /// Retries until `open` succeeds or fails for good; `None` when a stop was requested meanwhile.
    async fn retry_until_open<T>(
        &mut self,
        kind: ConditionKind,
        what: &str,
        open: impl AsyncFn() -> Result<T, StoreError>,
        requests: &mut Requests,
    ) -> anyhow::Result<Option<T>> {
        let mut failures = 0;
        loop {
            // A server that hangs must not delay a shutdown.
            let mut opening = Box::pin(open());
            let opened = loop {
                tokio::select! {
                    opened = &mut opening => break opened,
                    () = requests.stop() => return Ok(None),
                    Some(ended) = self.parts.next_end() => return Err(ended.into_error()),
                    // A copy and a change of a large database take longer than systemd waits for a start.
                    () = time::sleep(EXTENDED_EVERY) => extend(EXTENDED_EVERY * 3),
                }
            };
            match opened {
                Ok(opened) => {
                    self.health.clear(kind, "");
                    return Ok(Some(opened));
                }
                Err(StoreError::Conflict) => {}
                Err(unusable @ StoreError::Unusable { .. }) => return Err(unusable.into()),
                Err(away @ (StoreError::Unavailable(_) | StoreError::Refused { .. } | StoreError::Unfit(_))) => {
                    self.health.raise(kind, "", format!("{}; waiting for it", away.in_words(what)));
                }
            }

            // The daemon does what it can without it. A start that waited for it would delay the machine's own start,
            // and an upgrade of the package.
            if failures == 0 {
                notify(&[NotifyState::Ready]);
            }
            tokio::select! {
                () = time::sleep(RETRY.pause(failures)) => {}
                () = requests.stop() => return Ok(None),
                Some(ended) = self.parts.next_end() => return Err(ended.into_error()),
            }
            failures = failures.saturating_add(1);
        }
    }
}

/// Tells systemd that the start takes this much longer.
fn extend(by: Duration) {
    notify(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
}
