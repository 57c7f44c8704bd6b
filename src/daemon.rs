//! Starts the parts, notices when one ends, and stops them cleanly.
//!
//! The API listens first, whatever the database says: `/readyz` must tell why nothing works yet. With a spool, the
//! broker session starts before the database answers; until then the spool keeps its messages on this machine. No
//! answer of PostgreSQL ends the process, and no state of a SQLite file: a restart would find the same. With a lease,
//! the site starts when this gateway gets the lease; until then the API answers, and what the captures see is dropped.
//!
//! A shutdown ends the intake first: the captures and the broker session accept nothing new, the pipeline drains what
//! they have sent, and then the session acknowledges the last commits and disconnects. Parts that are still running at
//! [`DEADLINE`] are logged and abandoned; what was not committed was not acknowledged. A second signal ends the process
//! at once. A part that ends unexpectedly ends the process with an error.

mod database_watch;
mod door_queue;
mod file_check;
pub mod lease;
mod opening;
mod parts;
mod prepared;
mod recording;
mod reload;
mod requests;
pub mod retention;
mod shutdown;
mod stalls;
mod standby;
mod startup;
mod supervisor;
mod sync;
mod systemd;
mod version_watch;

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use sd_notify::NotifyState;
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::store::Store;
use lease::Lease;
use requests::{OutsideRequest, Requests};
use startup::OutsideView;
use systemd::{StartUp, notify};

pub use prepared::Prepared;
pub use shutdown::DEADLINE;
pub use supervisor::{Running, SettingsOrigin, Supervisor};

/// How long closing the database may take. Committed data is safe even if it is not closed.
const CLOSING: Duration = Duration::from_secs(2);

impl Supervisor {
    /// Runs until a signal or `stop` ends it. Calls `running` when everything has been started.
    ///
    /// # Errors
    /// When a part cannot start or ends unexpectedly.
    pub async fn run(
        mut self,
        prepared: Prepared,
        stop: CancellationToken,
        running: impl FnOnce(&Running),
    ) -> anyhow::Result<()> {
        let mut requests = Requests::new(stop)?;
        let outside = self.start_outside_view().await?;

        // Parts that have been started must be stopped in order, so an error here is returned only after the shutdown.
        let (store, outcome) = match self.collect_until_open(&mut requests).await {
            Ok(Some(store)) => {
                let outcome = Box::pin(self.serve(prepared, &store, outside, &mut requests, running)).await;
                (Some(store), outcome)
            }
            Ok(None) => (None, Ok(())),
            Err(error) => (None, Err(error)),
        };

        notify(&[NotifyState::Stopping]);
        tracing::info!("shutting down: no longer accepting input");
        let late = self.shut_down(&mut requests).await;

        // The standby may take over now: this gateway decides nothing more.
        if let Some(lease) = &self.lease {
            lease.release().await;
        }
        if let Some(store) = store
            && time::timeout(CLOSING, store.close()).await.is_err()
        {
            tracing::warn!("the database did not close in time");
        }
        match (outcome, late) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(late)) => Err(anyhow!("still running at the shutdown deadline and abandoned: {late}")),
            (Ok(()), None) => {
                tracing::info!("stopped");
                Ok(())
            }
        }
    }

    /// Opens the database; `None` when a stop was requested meanwhile. A spool accepts door messages even while the
    /// database is unavailable; with a lease, only the holder may connect to the broker.
    async fn collect_until_open(&mut self, requests: &mut Requests) -> anyhow::Result<Option<Store>> {
        if let (Some(settings), None) = (self.settings.spool.clone(), &self.settings.lease) {
            let Some(spool) = self.open_spool(&settings, requests).await? else { return Ok(None) };
            self.start_spool(spool);
            self.start_session();
        }
        self.open_store(requests).await
    }

    /// Starts what the settings configure, and runs until there is a reason to stop.
    async fn serve(
        &mut self,
        mut prepared: Prepared,
        store: &Store,
        outside: OutsideView,
        requests: &mut Requests,
        running: impl FnOnce(&Running),
    ) -> anyhow::Result<()> {
        let OutsideView { place, store_slot, start_up } = outside;
        store.report_to(&self.health);
        store_slot.fill(store);
        self.store = Some(store.clone());
        self.start_database_watch(store);
        match (self.settings.site.clone().map(|site| site.business), self.settings.lease.clone()) {
            // A standby is ready as soon as it waits for the lease: systemd and the caller must not wait for a
            // takeover.
            (Some(business), Some(settings)) => {
                self.start_captures(std::mem::take(&mut prepared.captures))?;
                start_up.send_replace(self.started());
                running(&place);
                notify(&[NotifyState::Ready]);
                let (clock, health) = (self.clock.clone(), self.health.clone());
                let lease = Lease::new(store.clone(), business, settings.holder, clock, health);
                let leased = store.fenced(business, lease.instance());
                if !self.stand_by(Arc::new(lease), &mut prepared, store, requests).await? {
                    return Ok(());
                }
                let Some(basis) = self.load_basis(store, requests).await? else { return Ok(()) };
                self.start_site(prepared, &leased, store, basis).await?;
            }
            // A single gateway is ready when its site has been started.
            (Some(_), None) => {
                let Some(basis) = self.load_basis(store, requests).await? else { return Ok(()) };
                self.start_site(prepared, store, store, basis).await?;
                start_up.send_replace(self.started());
                running(&place);
                notify(&[NotifyState::Ready]);
            }
            // Without a site there is only the API.
            (None, _) => {
                start_up.send_replace(self.started());
                running(&place);
                notify(&[NotifyState::Ready]);
            }
        }
        self.start_sync(store);
        self.wait_for_end(requests).await
    }

    /// Everything has been started.
    const fn started(&self) -> StartUp {
        StartUp::Started { waits_for_broker: self.broker.session.is_some() }
    }

    /// Waits for a reason to stop: a signal, the caller, or a part that ended. Reloads meanwhile.
    async fn wait_for_end(&mut self, requests: &mut Requests) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                request = requests.next() => match request {
                    OutsideRequest::Reload => self.reload().await,
                    OutsideRequest::StopBySignal(signal) => {
                        // During the shutdown a second signal ends the process at once.
                        tracing::info!(signal, "signal received; a second one ends the process at once");
                        return Ok(());
                    }
                    OutsideRequest::StopByCaller => return Ok(()),
                },
                known = self.reloads.recorded() => self.take_effect(known).await,
                Some(ended) = self.parts.next_end() => return Err(ended.into_error()),
            }
        }
    }
}
