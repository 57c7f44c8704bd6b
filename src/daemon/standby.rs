//! Standby: what a gateway with `[lease]` does until it holds the lease.

use std::sync::Arc;

use tokio::{
    sync::{Notify, mpsc, watch},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    lease::Lease, opening::Basis, parts::Part, prepared::Prepared, requests::Requests, supervisor::Supervisor,
    version_watch::VersionWatch,
};
use crate::{
    pipeline::{self, COMPARE_EVERY, Inputs, Pipeline},
    settings::SpoolSettings,
    source::{
        DELIVERIES, DELIVERY_BYTES, delivery_channel,
        network::{
            coalesce::KnownMacs,
            coverage::{LONGEST_GAP, SiteCoverage},
        },
    },
    spool::{Spool, SpoolEnds},
    store::Store,
};

impl Supervisor {
    /// Waits for the lease and starts renewing it; false when a stop was requested meanwhile. First decides what an
    /// earlier process left in the spool: no other gateway has it, and this one may have held the lease when it
    /// arrived.
    pub(super) async fn stand_by(
        &mut self,
        lease: Arc<Lease>,
        prepared: &mut Prepared,
        store: &Store,
        requests: &mut Requests,
    ) -> anyhow::Result<bool> {
        let spool_settings = self.settings.spool.clone();
        let mut spool = None;
        if let Some(settings) = &spool_settings {
            spool = self.decided_spool(settings, store, requests).await?;
            if spool.is_none() {
                return Ok(false);
            }
        }

        // The captures run meanwhile, so a gateway that takes over has coverage at once.
        let mut acquiring = Box::pin(lease.acquire());
        let mut comparing = time::interval(COMPARE_EVERY);
        loop {
            tokio::select! {
                acquired = &mut acquiring => {
                    acquired?;
                    break;
                }
                // What this gateway committed while it was active may be lost while another one is.
                _ = comparing.tick() => {
                    if let (Some(settings), Some(known)) = (&spool_settings, &spool)
                        && self.lacks(store, known).await
                    {
                        drop(spool.take());
                        spool = self.decided_spool(settings, store, requests).await?;
                        if spool.is_none() {
                            return Ok(false);
                        }
                    }
                }
                // The holder decides these presences. Devices that are still here at a takeover will send more frames.
                Some(_) = prepared.presences.recv() => {}
                request = requests.next() => if self.is_stop(request).await { return Ok(false) },
                Some(ended) = self.parts.next_end() => return Err(ended.into_error()),
            }
        }
        drop(acquiring);

        // From here on this gateway is active. Losing the lease ends the process.
        let (keeper, rest) = (Arc::clone(&lease), self.stop.rest.clone());
        let turn = self.turns.watch(Part::Lease.name());
        self.parts.spawn(Part::Lease, async move { keeper.keep(&turn, &rest).await.map_err(anyhow::Error::from) });
        self.lease = Some(lease);
        if let Some(spool) = spool {
            self.start_spool(spool);
        }
        Ok(true)
    }

    /// Opens the spool, and decides what an earlier process left in it and what the database has lost of it. `None`
    /// when a stop was requested meanwhile.
    async fn decided_spool(
        &mut self,
        settings: &SpoolSettings,
        store: &Store,
        requests: &mut Requests,
    ) -> anyhow::Result<Option<Spool>> {
        loop {
            let Some(spool) = self.open_spool(settings, requests).await? else { return Ok(None) };
            if !self.lacks(store, &spool).await && spool.is_empty() {
                return Ok(Some(spool));
            }
            let Some(basis) = self.load_basis(store, requests).await? else { return Ok(None) };
            let mut deciding = Box::pin(self.decide_leftovers(spool, basis, store.clone()));
            loop {
                tokio::select! {
                    decided = &mut deciding => break decided?,
                    request = requests.next() => if self.is_stop(request).await { return Ok(None) },
                }
            }
        }
    }

    /// Whether the database has lost something that is in the spool, which then delivers it again.
    async fn lacks(&self, store: &Store, spool: &Spool) -> bool {
        spool.link().forget_went_back(&self.health, self.clock.now().wall);
        // If the database does not answer, it is compared again.
        let compared = time::timeout(COMPARE_EVERY, spool.link().compare_with(store)).await;
        let Ok(Ok(Some(again))) = compared else { return false };
        spool.link().report_went_back(again, &self.health, self.clock.now().wall);
        true
    }

    /// Decides what is in the spool, with a separate pipeline.
    fn decide_leftovers(
        &self,
        spool: Spool,
        basis: Basis,
        store: Store,
    ) -> impl Future<Output = anyhow::Result<()>> + 'static {
        // Neither the broker nor the captures feed this pipeline, so their channels are closed from the start.
        let (output, deliveries) = delivery_channel(DELIVERIES, DELIVERY_BYTES);
        let (_, presences) = mpsc::channel(1);
        let (_, input) = delivery_channel(1, 1);
        let ends = SpoolEnds { input, output, settled: CancellationToken::new(), stop: CancellationToken::new() };
        let (clock, health, metrics) = (self.clock.clone(), self.health.clone(), self.metrics.clone());
        let (zones, turns, link) = (self.settings.zones.clone(), self.turns.clone(), spool.link());
        let spool_turn = turns.watch(Part::Spool.name());
        async move {
            // A pipeline waits for the newest directory, so this one needs a watch for imports too.
            let (directory_sender, directories) = watch::channel(basis.directories);
            let (policy_sender, policies) = watch::channel(basis.policies);
            let stale = Arc::new(Notify::new());
            let stop_watching = CancellationToken::new();
            let watcher = VersionWatch {
                business: basis.business,
                store: store.clone(),
                directories: directory_sender,
                policies: policy_sender,
                known_macs: watch::channel(KnownMacs::default()).0,
                health: health.clone(),
                clock: clock.clone(),
                stale: Arc::clone(&stale),
                zones,
                zone_stamps: Vec::new(),
                checked: None,
                news: None,
                checked_at: None,
                failing_since: None,
                turn: turns.watch(Part::Directory.name()),
            };
            let watching = watcher.run(stop_watching.clone());

            let pipeline = Pipeline::new(pipeline::Context {
                site_coverage: SiteCoverage::new(clock.passing_in(LONGEST_GAP)),
                turn: turns.watch(Part::Pipeline.name()),
                business: basis.business,
                stale: Some(stale),
                news: None,
                spool: Some(link),
                clock,
                store,
                policies,
                directories,
                health,
                metrics,
            });
            // The API still answers that nothing decides here.
            let (_no_requests, requests) = mpsc::channel(1);
            let inputs = Inputs { deliveries, presences, requests };
            let deciding = pipeline.run(inputs, CancellationToken::new(), CancellationToken::new());

            // The spool ends when everything in it has been sent, the pipeline when everything sent has been committed.
            let working = async {
                let (spooled, decided) = tokio::join!(spool.run(ends, spool_turn), deciding);
                stop_watching.cancel();
                spooled?;
                decided?;
                Ok(())
            };
            tokio::join!(watching, working).1
        }
    }
}
