//! Standby: what a gateway with `[lease]` does until it holds the lease.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    lease::Lease,
    opening::Basis,
    parts::Part,
    prepared::Prepared,
    requests::{OutsideRequest, Requests},
    supervisor::Supervisor,
    version_watch::VersionWatch,
};
use crate::{
    pipeline::{self, Inputs, Pipeline},
    policy::SitePolicy,
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
        own: &SitePolicy,
        prepared: &mut Prepared,
        store: &Store,
        requests: &mut Requests,
    ) -> anyhow::Result<bool> {
        // First what an earlier process left. After that the spool is opened again, now empty.
        let mut spool = None;
        if let Some(settings) = self.settings.spool.clone() {
            let Some(left) = self.open_spool(&settings, requests).await? else { return Ok(false) };
            if left.is_empty() {
                spool = Some(left);
            } else {
                let Some(basis) = self.load_basis(store, requests, own).await? else { return Ok(false) };
                let deciding = Box::pin(self.decide_leftovers(left, basis, store.clone()));
                tokio::select! {
                    decided = deciding => decided?,
                    () = requests.stop() => return Ok(false),
                }
                spool = self.open_spool(&settings, requests).await?;
                if spool.is_none() {
                    return Ok(false);
                }
            }
        }

        // The captures run meanwhile, so a gateway that takes over has coverage at once.
        let mut acquiring = Box::pin(lease.acquire());
        loop {
            tokio::select! {
                acquired = &mut acquiring => {
                    acquired?;
                    break;
                }
                // The holder decides these presences. Devices that are still here at a takeover will send more frames.
                Some(_) = prepared.presences.recv() => {}
                request = requests.next() => match request {
                    OutsideRequest::Reload => self.reload().await,
                    OutsideRequest::StopBySignal(_) | OutsideRequest::StopByCaller => return Ok(false),
                },
                Some(ended) = self.parts.next_end() => return Err(ended.into_error()),
            }
        }
        drop(acquiring);

        // From here on this gateway is active. Losing the lease ends the process.
        let (keeper, rest) = (Arc::clone(&lease), self.stop.rest.clone());
        self.parts.spawn(Part::Lease, async move { keeper.keep(&rest).await.map_err(anyhow::Error::from) });
        self.lease = Some(lease);
        if let Some(spool) = spool {
            self.start_spool(spool);
        }
        Ok(true)
    }

    /// Decides what an earlier process left in the spool, with a separate pipeline.
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
        let zones = self.settings.zones.clone();
        async move {
            // A pipeline waits for the newest directory, so this one needs a watch for imports too.
            let (directory_sender, directories) = watch::channel(basis.directories);
            let (policy_sender, policies) = watch::channel(basis.policies);
            let stale = Arc::new(Notify::new());
            let stop_watching = CancellationToken::new();
            let watcher = VersionWatch {
                store: store.clone(),
                directories: directory_sender,
                policies: policy_sender,
                known_macs: watch::channel(KnownMacs::default()).0,
                health: health.clone(),
                clock: clock.clone(),
                stale: Arc::clone(&stale),
                zones,
                zone_stamps: Vec::new(),
            };
            let watching = watcher.run(stop_watching.clone());

            let pipeline = Pipeline::new(pipeline::Context {
                site_coverage: SiteCoverage::new(clock.passing_in(LONGEST_GAP)),
                alive: watch::channel(None).0,
                business: basis.business,
                stale: Some(stale),
                clock,
                store,
                policies,
                directories,
                health,
                metrics,
            });
            let inputs = Inputs { deliveries, presences };
            let deciding = pipeline.run(inputs, CancellationToken::new(), CancellationToken::new());

            // The spool ends when everything in it has been sent, the pipeline when everything sent has been committed.
            let working = async {
                let (spooled, decided) = tokio::join!(spool.run(ends), deciding);
                stop_watching.cancel();
                spooled?;
                decided?;
                Ok(())
            };
            tokio::join!(watching, working).1
        }
    }
}
