//! Opens the database and the spool, and retries until they are available.

use std::{pin::pin, sync::Arc, time::Duration};

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::time;

use super::{requests::Requests, supervisor::Supervisor, systemd::notify};
use crate::{
    base::{
        backoff::Backoff,
        health::{ConditionKind, RaisedBy},
        record::BusinessId,
    },
    directory::history::DirectoryHistory,
    policy::{PolicyHistory, SitePolicy},
    settings::{Database, Settings, SpoolSettings},
    spool::Spool,
    store::{Store, StoreError},
};

/// The pauses between two attempts to open the database or the spool.
const RETRY: Backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(5) };

/// How often systemd's start time-out is extended while an attempt lasts.
const EXTENDED_EVERY: Duration = Duration::from_secs(20);

/// How long PostgreSQL may be silent at the start before a condition says so: as long as later.
const SILENT: Duration = Duration::from_secs(3);

/// What a reload does to an attempt that it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtReload {
    /// The attempt depends on settings that may have changed.
    StartsAgain,
    /// The attempt may be in the middle of a copy of a file.
    GoesOn,
}

/// What a pipeline needs to decide.
#[derive(Debug)]
pub(super) struct Basis {
    pub(super) business: BusinessId,
    pub(super) policies: Arc<PolicyHistory>,
    pub(super) directories: Arc<DirectoryHistory>,
}

impl Supervisor {
    /// Whether the database is PostgreSQL.
    const fn is_shared(&self) -> bool {
        matches!(self.settings.database, Database::Postgres { .. })
    }

    /// Opens the database; `None` when a stop was requested meanwhile.
    pub(super) async fn open_store(&mut self, requests: &mut Requests) -> anyhow::Result<Option<Store>> {
        let was_left_open = Store::was_left_open(&self.settings.database);
        let open = async |settings: Settings| Store::open(&settings.database).await;
        let again = if self.is_shared() { AtReload::StartsAgain } else { AtReload::GoesOn };
        let opened = self.retry_until_open(ConditionKind::DatabaseUnavailable, again, open, requests).await?;
        if let Some(store) = opened.as_ref().filter(|store| !store.is_shared()) {
            self.start_check(store, was_left_open);
        }
        Ok(opened)
    }

    /// Opens the spool; `None` when a stop was requested meanwhile.
    pub(super) async fn open_spool(
        &mut self,
        settings: &SpoolSettings,
        requests: &mut Requests,
    ) -> anyhow::Result<Option<Spool>> {
        let (clock, health, counters) = (self.clock.clone(), self.health.clone(), Arc::clone(&self.spool_counters));
        let open = async |_| {
            Store::check_spool(&settings.path).await?;
            Spool::open(settings, clock.clone(), health.clone(), Arc::clone(&counters)).await
        };
        let spool = self.retry_until_open(ConditionKind::SpoolUnavailable, AtReload::GoesOn, open, requests).await;
        spool.context("the spool cannot be used")
    }

    /// Records the site's own policy, then loads all policies and the directory; `None` when a stop was requested
    /// meanwhile.
    pub(super) async fn load_basis(&mut self, store: &Store, requests: &mut Requests) -> anyhow::Result<Option<Basis>> {
        let clock = self.clock.clone();
        let load = async |settings: Settings| {
            let Settings { site, doors, zones, .. } = settings;
            let site = site.expect("a reload does not take the site away");
            let business = site.business;
            let own = SitePolicy { site, doors };
            let policies = Arc::new(zones.rule(&store.policies(&own, clock.now().wall).await?));
            let directories = Arc::new(store.load_directories().await?);
            Ok(Basis { business, policies, directories })
        };
        let loaded =
            self.retry_until_open(ConditionKind::DatabaseUnavailable, AtReload::StartsAgain, load, requests).await;
        loaded.context("could not load the directory and the earlier settings")
    }

    /// Retries until `open` succeeds or fails for good; `None` when a stop was requested meanwhile.
    async fn retry_until_open<T>(
        &mut self,
        kind: ConditionKind,
        at_reload: AtReload,
        open: impl AsyncFn(Settings) -> Result<T, StoreError>,
        requests: &mut Requests,
    ) -> anyhow::Result<Option<T>> {
        let what = if kind == ConditionKind::SpoolUnavailable { "the spool" } else { "the database" };
        let is_asked = kind == ConditionKind::DatabaseUnavailable && self.is_shared();
        let mut failures = 0;
        loop {
            // A server that hangs must not delay a shutdown.
            let mut opening = Box::pin(open(self.settings.clone()));
            let mut silent = pin!(time::sleep(SILENT));
            let opened = loop {
                tokio::select! {
                    opened = &mut opening => break opened,
                    request = requests.next() => {
                        if self.is_stop(request).await {
                            return Ok(None);
                        }
                        if at_reload == AtReload::StartsAgain {
                            opening = Box::pin(open(self.settings.clone()));
                        }
                    }
                    Some(ended) = self.parts.next_end() => return Err(ended.into_error()),
                    () = &mut silent, if is_asked && !silent.is_elapsed() => {
                        let seconds = SILENT.as_secs();
                        let detail = format!(
                            "{what} has not answered for {seconds} s; it, its disk or the network hangs, or a change of its \
                             schema takes long; waiting for it"
                        );
                        self.health.raise_by(RaisedBy::Start, kind, detail);
                    }
                    // A copy and a change of a large database take longer than systemd waits for a start.
                    () = time::sleep(EXTENDED_EVERY) => extend(EXTENDED_EVERY * 3),
                }
            };
            match opened {
                Ok(opened) => {
                    self.health.clear_by(RaisedBy::Start, kind);
                    return Ok(Some(opened));
                }
                Err(StoreError::Conflict) => {}
                Err(unusable @ StoreError::Unusable { .. }) => return Err(unusable.into()),
                Err(away @ (StoreError::Unavailable(_) | StoreError::Refused { .. } | StoreError::Unfit(_))) => {
                    self.health.raise_by(RaisedBy::Start, kind, format!("{}; waiting for it", away.in_words(what)));
                }
            }

            // The daemon does what it can without it. A start that waited for it would delay the machine's own start,
            // and an upgrade of the package.
            if failures == 0 {
                notify(&[NotifyState::Ready]);
            }
            tokio::select! {
                () = time::sleep(RETRY.pause(failures)) => {}
                // After a reload, at once: it may have corrected what was wrong.
                request = requests.next() => if self.is_stop(request).await { return Ok(None) },
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
