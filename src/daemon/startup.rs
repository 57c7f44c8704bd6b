//! Starts the parts: the API, the spool, the broker session, the captures, the pipeline and what watches over them.

use std::sync::Arc;

use anyhow::Context;
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
};
use tokio_util::sync::CancellationToken;

use super::{
    opening::Basis,
    parts::Part,
    prepared::{Prepared, data_folder},
    retention,
    supervisor::{Running, SessionTokens, SitePhase, Supervisor},
    systemd::Reporter,
    version_watch::{VersionWatch, known_macs},
};
use crate::{
    api::{self, ApiState, Ready},
    base::{
        clock::BootTime,
        disk::{self, DiskFigures},
        record::BusinessId,
    },
    metrics::figures,
    pipeline::{self, Inputs, Pipeline},
    source::{mqtt::session::Session, network::CaptureTask},
    spool::Spool,
    store::Store,
};

/// The file in which the next process finds that the broker has a session for us, in the data folder.
const SESSION_FILE: &str = "broker-session.json";

impl Supervisor {
    /// Starts the API where it is configured. Returns its address, and the handle that lets `/readyz` judge.
    pub(super) async fn start_api(&mut self, store: &Store) -> anyhow::Result<(Running, Ready)> {
        let mut running = Running::default();
        let state = ApiState::new(store.clone(), self.health.clone(), self.metrics.clone(), self.clock.clone());
        let ready = state.ready();
        if let Some(api) = &self.settings.api {
            let listener = TcpListener::bind(api.listen).await.with_context(|| {
                format!("the API cannot listen on {}; change api.listen or free the port", api.listen)
            })?;
            running.api = Some(listener.local_addr()?);
            let rest = self.stop.rest.clone();
            self.parts
                .spawn(Part::Api, async move { api::serve(listener, state, rest).await.map_err(anyhow::Error::from) });
        }
        // These figures are shown even where there is no session or spool, at zero.
        let counters = Arc::clone(&self.broker.counters);
        self.metrics.watch("session", "broker", Arc::new(move || figures::session(&counters)));
        let counters = Arc::clone(&self.spool_counters);
        self.metrics.watch("spool", "local", Arc::new(move || figures::spool(&counters)));
        Ok((running, ready))
    }

    /// Starts each capture on a separate thread.
    pub(super) fn start_captures(&mut self, captures: Vec<CaptureTask>) -> anyhow::Result<()> {
        for mut capture in captures {
            // A blind capture raises its condition here, before anyone can ask whether we are ready.
            capture.attach()?;
            let counters = capture.counters();
            let interface = capture.interface().clone();
            self.metrics.watch("interface", &interface, Arc::new(move || figures::capture(&counters)));
            self.parts.spawn_blocking(Part::Capture, move || capture.run().map_err(anyhow::Error::from));
        }
        Ok(())
    }

    /// Starts everything that decides for the site. `store` is what the pipeline writes to, fenced where there is a
    /// lease; `records` is where a reload records a new policy.
    pub(super) async fn start_site(
        &mut self,
        prepared: Prepared,
        store: &Store,
        records: &Store,
        basis: Basis,
        alive: watch::Sender<Option<BootTime>>,
    ) -> anyhow::Result<()> {
        self.start_disk_watch();
        let Basis { business, policies, directories } = basis;
        self.start_retention(business, store);

        // The captures need to know whose devices to report before their first frame.
        tracing::info!(coworkers = directories.latest().coworkers(), "directory loaded");
        prepared.known_macs.send_replace(known_macs(directories.latest()));

        // The pipeline before what feeds it, so nothing waits in the queues for no reason.
        let (directory_sender, directories) = watch::channel(directories);
        let (policy_sender, policies) = watch::channel(policies);
        let stale = Arc::new(Notify::new());
        let pipeline = Pipeline::new(pipeline::Context {
            clock: self.clock.clone(),
            store: store.deciding().await?,
            business,
            policies,
            directories,
            stale: Some(Arc::clone(&stale)),
            site_coverage: prepared.coverage.clone(),
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            alive,
        });
        let inputs = Inputs { deliveries: self.door_queue.open_for_pipeline(), presences: prepared.presences };
        let (drain, deadline) = (self.stop.drain.clone(), self.stop.deadline.clone());
        self.parts.spawn(Part::Pipeline, async move {
            pipeline.run(inputs, drain, deadline).await.map_err(anyhow::Error::from)
        });

        // Imports, other gateways' settings and new zone data reach the pipeline through this.
        let watcher = VersionWatch {
            store: store.clone(),
            directories: directory_sender,
            policies: policy_sender.clone(),
            known_macs: prepared.known_macs,
            health: self.health.clone(),
            clock: self.clock.clone(),
            stale,
            zones: self.settings.zones.clone(),
            zone_stamps: Vec::new(),
        };
        let rest = self.stop.rest.clone();
        self.parts.spawn(Part::Directory, async move {
            watcher.run(rest).await;
            Ok(())
        });

        // With a lease the captures run already, and `prepared` holds none.
        self.start_captures(prepared.captures)?;
        self.site = SitePhase::Deciding { policies: policy_sender, records: Box::new(records.clone()) };

        // With a spool and no lease the session runs already.
        if self.broker.session.is_none() {
            self.start_session();
        }
        Ok(())
    }

    /// Deletes what the retention policy says to forget.
    fn start_retention(&mut self, business: BusinessId, store: &Store) {
        let policy = self.settings.retention.clone();
        let (store, clock, stop) = (store.clone(), self.clock.clone(), self.stop.rest.clone());
        self.parts.spawn(Part::Retention, async move {
            retention::run(business, policy, store, clock, stop).await;
            Ok(())
        });
    }

    /// Warns before the disk of the database or the spool is full.
    fn start_disk_watch(&mut self) {
        let (folder, health, stop) = (data_folder(&self.settings), self.health.clone(), self.stop.rest.clone());
        let figures = Arc::new(DiskFigures::default());
        let shown = Arc::clone(&figures);
        self.metrics.watch("disk", "local", Arc::new(move || figures::disk(&shown)));
        self.parts.spawn(Part::Disk, async move {
            disk::run(folder, figures, health, stop).await;
            Ok(())
        });
    }

    /// Puts the spool between the broker session and the pipeline.
    pub(super) fn start_spool(&mut self, spool: Spool) {
        let ends = self.door_queue.open_through_spool(self.stop.rest.clone());
        self.parts.spawn(Part::Spool, async move { spool.run(ends).await.map_err(anyhow::Error::from) });
    }

    /// Connects to the broker, if there is `[mqtt]` and something reads door messages.
    pub(super) fn start_session(&mut self) {
        let (Some(mqtt), Some(deliveries)) = (self.settings.mqtt.clone(), self.door_queue.sender().cloned()) else {
            return;
        };
        for source in &self.settings.sources {
            let counters = self.broker.counters.of_source(&source.name);
            self.metrics.watch("source", &source.name, Arc::new(move || figures::source(&counters)));
        }
        let tokens = SessionTokens { stop: self.stop.intake.child_token(), drained: CancellationToken::new() };
        let session = Session {
            settings: mqtt,
            sources: self.settings.sources.clone(),
            clock: self.clock.clone(),
            deliveries,
            health: self.health.clone(),
            counters: Arc::clone(&self.broker.counters),
            session_state: self.broker.session_state.clone(),
            session_file: Some(data_folder(&self.settings).join(SESSION_FILE)),
            permit: self.lease.as_ref().map(|lease| lease.permit()),
            stop: tokens.stop.clone(),
            drained: tokens.drained.clone(),
        };
        self.broker.session = Some(tokens);
        self.parts.spawn(Part::Session, async move {
            session.run().await;
            Ok(())
        });
    }

    /// Starts the reports to systemd. The broker is waited for only where its session has been started.
    pub(super) fn start_reports(&mut self, ready: Ready, alive: watch::Receiver<Option<BootTime>>) {
        let reporter = Reporter {
            clock: self.clock.clone(),
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            counters: Arc::clone(&self.broker.counters),
            ready,
            alive,
            waits_for_broker: self.broker.session.is_some(),
        };
        let rest = self.stop.rest.clone();
        self.parts.spawn(Part::Notify, async move {
            reporter.run(rest).await;
            Ok(())
        });
    }
}
