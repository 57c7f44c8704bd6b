//! Starts the parts: the API, the spool, the broker session, the captures, the pipeline and the watchers.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    database_watch::DatabaseWatch,
    file_check,
    opening::Basis,
    parts::Part,
    prepared::{Prepared, data_folder},
    retention,
    supervisor::{Running, SessionTokens, SitePhase, Supervisor},
    sync::DirectorySync,
    systemd::{Reporter, StartUp},
    version_watch::{VersionWatch, known_macs},
};
use crate::{
    api::{self, ApiListener, ApiState, Ready, StoreSlot},
    base::{
        disk::{self, DiskFigures, SpaceAdvice},
        record::BusinessId,
    },
    metrics::figures,
    pipeline::{self, Inputs, Pipeline},
    source::{
        mqtt::session::{self, Session},
        network::CaptureTask,
    },
    spool::Spool,
    store::Store,
};

/// The file in the data folder that tells the next process that the broker has a session for this client.
const SESSION_FILE: &str = "broker-session.json";

/// What tells the outside how the daemon is, before the database is open: the API and the reports to systemd.
#[derive(Debug)]
pub(super) struct OutsideView {
    pub(super) place: Running,
    /// What it reads from, once the database is open.
    pub(super) store_slot: StoreSlot,
    /// Tells the reports how far start-up has come; they mark it as finished for `/readyz`.
    pub(super) start_up: watch::Sender<StartUp>,
}
/// Fewer unused bytes than these are not worth a maintenance: the next rows use them.
const WORTH_RETURNING: u64 = 1_000_000;

impl Supervisor {
    /// Starts the API if configured, and the reports to systemd.
    pub(super) async fn start_outside_view(&mut self) -> anyhow::Result<OutsideView> {
        // Registered before the API listens, so the first scrape has them. Without a session or spool they stay at
        // zero.
        let counters = Arc::clone(&self.broker.counters);
        self.metrics.watch("session", "broker", Arc::new(move || figures::session(&counters)));
        let counters = Arc::clone(&self.spool_counters);
        self.metrics.watch("spool", "local", Arc::new(move || figures::spool(&counters)));
        let mut place = Running::default();
        let store_slot = StoreSlot::default();
        let origins = self.settings.api.as_ref().map(|api| api.cors_origins.clone()).unwrap_or_default();
        let mut state =
            ApiState::new(store_slot.clone(), self.health.clone(), self.metrics.clone(), self.clock.clone())
                .for_pages_of(&origins)
                .with_edits(self.edits.clone())
                .with_identity_provider(self.settings.jwt.as_deref());
        if let Some(site) = &self.settings.site {
            state = state.of_site(site.business, &site.name);
        }
        let ready = state.ready();
        if let Some(api) = &self.settings.api {
            let reload = self.certificate_reload.clone();
            let listener = ApiListener::open(api, self.health.clone(), reload).await?;
            place.api = listener.tcp_address()?;
            let rest = self.stop.rest.clone();
            self.parts
                .spawn(Part::Api, async move { api::serve(listener, state, rest).await.map_err(anyhow::Error::from) });
        }
        let start_up = self.start_reports(ready);
        Ok(OutsideView { place, store_slot, start_up })
    }

    /// Starts each capture on a separate thread.
    pub(super) fn start_captures(&mut self, captures: Vec<CaptureTask>) -> anyhow::Result<()> {
        for mut capture in captures {
            // A blind capture raises its condition here, before `/readyz` can answer 200.
            capture.attach()?;
            capture.report_to(self.turns.watch(format!("the capture of {}", capture.interface())));
            let counters = capture.counters();
            let interface = capture.interface().clone();
            self.metrics.watch("interface", &interface, Arc::new(move || figures::capture(&counters)));
            self.parts.spawn_blocking(Part::Capture, move || capture.run().map_err(anyhow::Error::from));
        }
        Ok(())
    }

    /// Starts everything that decides for the site. The pipeline writes to `store`, which is fenced if there is a
    /// lease; a reload records a new policy in `records`.
    pub(super) async fn start_site(
        &mut self,
        prepared: Prepared,
        store: &Store,
        records: &Store,
        basis: Basis,
    ) -> anyhow::Result<()> {
        self.start_disk_watch(records);
        let Basis { business, policies, directories } = basis;
        self.start_retention(business, store);

        // Before the first frame the captures must know which devices belong to people.
        tracing::info!(coworkers = directories.latest().coworkers(), "directory loaded");
        prepared.known_macs.send_replace(known_macs(directories.latest()));

        // Start the pipeline before its inputs.
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
            news: self.news.clone(),
            spool: self.spool_link.clone(),
            site_coverage: prepared.coverage.clone(),
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            turn: self.turns.watch(Part::Pipeline.name()),
        });
        let (edit_sender, edits) = mpsc::channel(pipeline::WAITING_EDITS);
        let deliveries = self.door_queue.open_for_pipeline();
        let inputs = Inputs { deliveries, presences: prepared.presences, edits };
        self.edits.fill(edit_sender);
        let (drain, deadline) = (self.stop.drain.clone(), self.stop.deadline.clone());
        self.parts.spawn(Part::Pipeline, async move {
            pipeline.run(inputs, drain, deadline).await.map_err(anyhow::Error::from)
        });

        // The watcher brings imports, other gateways' settings and new zone data to the pipeline.
        let watcher = VersionWatch {
            business,
            store: store.clone(),
            directories: directory_sender,
            policies: policy_sender.clone(),
            known_macs: prepared.known_macs,
            health: self.health.clone(),
            clock: self.clock.clone(),
            stale,
            zones: self.settings.zones.clone(),
            zone_stamps: Vec::new(),
            checked: None,
            news: self.news.clone(),
            checked_at: None,
            failing_since: None,
            turn: self.turns.watch(Part::Directory.name()),
        };
        let rest = self.stop.rest.clone();
        self.parts.spawn(Part::Directory, async move {
            watcher.run(rest).await;
            Ok(())
        });

        // With a lease the captures already run, and `prepared` has none left.
        self.start_captures(prepared.captures)?;
        self.site = SitePhase::Deciding { policies: policy_sender, records: Box::new(records.clone()) };

        // With a spool and without a lease the session already runs.
        if self.broker.session.is_none() {
            self.start_session();
        }
        Ok(())
    }

    /// Starts deleting expired rows.
    fn start_retention(&mut self, business: BusinessId, store: &Store) {
        let policy = self.settings.retention.clone();
        let (store, clock, stop) = (store.clone(), self.clock.clone(), self.stop.rest.clone());
        let turn = self.turns.watch(Part::Retention.name());
        self.parts.spawn(Part::Retention, async move {
            retention::run(business, policy, store, clock, turn, stop).await;
            Ok(())
        });
    }

    /// Starts reading the directory from the platform, if configured.
    pub(super) fn start_sync(&mut self, store: &Store) {
        let Some(settings) = self.settings.sync.clone() else { return };
        let turn = self.turns.watch(Part::Sync.name());
        let sync = DirectorySync::new(settings, store.clone(), self.clock.clone(), self.health.clone(), turn);
        let stop = self.stop.rest.clone();
        self.parts.spawn(Part::Sync, async move {
            sync.run(stop).await;
            Ok(())
        });
    }

    /// Starts asking a shared database whether it would take a write, and what is new. A SQLite file is changed by this
    /// machine only, where the pipeline and the disk watch notice what happens to it.
    pub(super) fn start_database_watch(&mut self, store: &Store) {
        if !store.is_shared() {
            return;
        }
        let (sender, news) = watch::channel(None);
        self.news = Some(news);
        let watch = DatabaseWatch {
            store: store.clone(),
            business: self.settings.site.as_ref().map(|site| site.business),
            gateway: Arc::clone(&self.gateway),
            news: sender,
            clock: self.clock.clone(),
            health: self.health.clone(),
            turn: self.turns.watch(Part::Database.name()),
        };
        let stop = self.stop.rest.clone();
        self.parts.spawn(Part::Database, async move {
            watch.run(stop).await;
            Ok(())
        });
    }

    /// Starts the check of a SQLite file, if it was not closed, and the report of damage that any part finds.
    pub(super) fn start_check(&mut self, store: &Store, was_left_open: bool) {
        let (store, health, stop) = (store.clone(), self.health.clone(), self.stop.rest.clone());
        self.parts.spawn(Part::Check, async move {
            file_check::run(store, was_left_open, health, stop).await;
            Ok(())
        });
    }

    /// Starts watching the free space on the disk of the database or the spool.
    fn start_disk_watch(&mut self, store: &Store) {
        let (folder, health, stop) = (data_folder(&self.settings), self.health.clone(), self.stop.rest.clone());
        let figures = Arc::new(DiskFigures::default());
        let shown = Arc::clone(&figures);
        self.metrics.watch("disk", "local", Arc::new(move || figures::disk(&shown)));
        let (store, turn) = (store.clone(), self.turns.watch(Part::Disk.name()));
        let advice: SpaceAdvice = Box::new(move || {
            let store = store.clone();
            Box::pin(async move { advice(store.unused().await.ok().flatten(), store.is_shared()) })
        });
        self.parts.spawn(Part::Disk, async move {
            disk::run(folder, figures, advice, health, turn, stop).await;
            Ok(())
        });
    }

    /// Puts the spool between the broker session and the pipeline.
    pub(super) fn start_spool(&mut self, spool: Spool) {
        let link = spool.link();
        // Set once: a process opens one spool.
        let _unchanged = self.gateway.set(link.id().to_owned());
        self.spool_link = Some(link);
        let ends = self.door_queue.open_through_spool(self.stop.rest.clone());
        let turn = self.turns.watch(Part::Spool.name());
        self.parts.spawn(Part::Spool, async move { spool.run(ends, turn).await.map_err(anyhow::Error::from) });
    }

    /// Starts the broker session, if `[mqtt]` is configured and the spool or the pipeline reads door messages.
    pub(super) fn start_session(&mut self) {
        let Some(mqtt) = self.settings.mqtt.clone() else {
            for kind in session::CONDITIONS {
                self.health.retain(kind, |_| false);
            }
            return;
        };
        let Some(deliveries) = self.door_queue.sender().cloned() else { return };
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
            turn: self.turns.watch(Part::Session.name()),
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

    /// Starts the reports to systemd. Returns the sender that tells them how far start-up has come.
    pub(super) fn start_reports(&mut self, ready: Ready) -> watch::Sender<StartUp> {
        let (sender, start_up) = watch::channel(StartUp::Opening);
        let reporter = Reporter {
            clock: self.clock.clone(),
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            counters: Arc::clone(&self.broker.counters),
            ready,
            start_up,
            turns: self.turns.clone(),
        };
        let rest = self.stop.rest.clone();
        self.parts.spawn(Part::Notify, async move {
            reporter.run(rest).await;
            Ok(())
        });
        sender
    }
}

/// What would give space back on the disk of the database or the spool. `unused` are the bytes of the SQLite file that
/// no row uses.
fn advice(unused: Option<u64>, is_shared: bool) -> String {
    match unused {
        Some(unused) if unused >= WORTH_RETURNING => format!(
            "The database does not use {} MB of its file: `checkind maintain` gives them back. Lower times in [retention] \
             make more of it free",
            unused / 1_000_000
        ),
        Some(_) => "The database uses all of its file: free other space, or lower the times in [retention], and run \
                    `checkind maintain` when the rows have been deleted"
            .to_owned(),
        None if is_shared => "Only the spool is on it, which empties when the database answers; spool.limit says how \
                              large it may become. Free other space"
            .to_owned(),
        None => "Free other space, or lower the times in [retention]".to_owned(),
    }
}
