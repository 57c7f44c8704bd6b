//! Starts everything, notices when something ends, and stops everything in good order.
//!
//! With a spool, the broker session begins before the database answers: what it brings is kept here meanwhile. With a
//! lease, the site begins when the lease is ours; until then the API answers, and what the captures hear is forgotten.
//!
//! Stopping has two stages. First the intake ends: captures and the broker session take nothing new, the pipeline drains
//! what they handed over, then the session acknowledges the last commits and leaves. Whoever is not done by the deadline
//! is named and left behind; what was not committed was not acknowledged. A second signal ends the process at once, and
//! a part that ends without being told to ends the process with an error.

pub mod lease;
pub mod retention;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use futures_util::StreamExt;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, watch},
    task::{self, JoinError, JoinSet},
    time,
};
use tokio_util::sync::CancellationToken;

use lease::Lease;

use crate::{
    api::{self, ApiState, Ready},
    base::{
        backoff::Backoff,
        clock::{BootTime, Clock},
        disk::{self, DiskFigures},
        health::{ConditionKind, Health},
        record::BusinessId,
        zone::Zone,
    },
    directory::{Directory, history::DirectoryHistory},
    engine::decision::Reason,
    metrics::{self, Metrics},
    pipeline::{self, Inputs, Pipeline},
    policy::{PolicyHistory, SitePolicy},
    settings::{
        self, Settings,
        zones::{Stamp, Zones},
    },
    source::{
        DELIVERIES, Delivery, PRESENCES, Presences,
        mqtt::{counters::MqttCounters, session::Session, session_state::SessionState},
        network::{
            self, CaptureError, CaptureTask,
            coalesce::KnownMacs,
            coverage::{LONGEST_GAP, SiteCoverage},
        },
    },
    spool::{self, Spool, SpoolCounters},
    store::{Store, StoreError},
};

/// The file in which the next process finds that the broker has a session for us, in the folder of the database or spool.
const SESSION_FILE: &str = "broker-session.json";

/// How long a shutdown may take before whoever is late is left behind. Below the unit's `TimeoutStopSec`.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What the last batch out of an empty queue may take to its commit, in the usual case.
const LAST_COMMIT: Duration = Duration::from_millis(200);

/// How long closing the database may take; what is committed is safe without it.
const CLOSING: Duration = Duration::from_secs(2);

/// How often the directory's version is looked at: an import is in force within this.
const DIRECTORY_EVERY: Duration = Duration::from_secs(2);

/// A pipeline that has not turned for this long is stuck; the watchdog is no longer fed.
const STUCK: Duration = Duration::from_secs(60);

/// How often `STATUS=` and the watchdog are looked at when systemd asks for no watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// How long start-up waits for the broker and the captures before `/readyz` says what they are waiting for.
const START_UP: Duration = Duration::from_secs(10);

/// Between two attempts to open the database or the spool at start.
const OPENING: Backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(5) };

/// What is made before the runtime starts, while the process may still capture.
#[derive(Debug)]
pub struct Prepared {
    clock: Clock,
    health: Health,
    coverage: SiteCoverage,
    intake: CancellationToken,
    known: watch::Sender<KnownMacs>,
    presences: mpsc::Receiver<Presences>,
    captures: Vec<CaptureTask>,
    capture_context: network::CaptureContext,
}

impl Prepared {
    /// Opens every capture.
    ///
    /// # Errors
    /// [`CaptureError::NotPermitted`] without `CAP_NET_RAW`.
    pub fn lay(settings: &Settings, clock: Clock) -> Result<Self, CaptureError> {
        let health = Health::new(clock.clone());
        let site_coverage = SiteCoverage::new(clock.passing_in(LONGEST_GAP));
        let intake = CancellationToken::new();
        let (known, known_reader) = watch::channel(KnownMacs::default());
        let (sender, presences) = mpsc::channel(PRESENCES);
        let idle_limit = settings.site.as_ref().map_or(Duration::ZERO, |site| site.idle_limit);
        let capture_context = network::CaptureContext {
            idle_limit,
            clock: clock.clone(),
            presences: sender,
            known: known_reader,
            health: health.clone(),
            coverage: site_coverage.clone(),
            memory: (!settings.captures.is_empty()).then(|| folder(settings)),
            stop: intake.clone(),
        };
        let open = |capture| CaptureTask::open(capture, capture_context.clone());
        let captures = settings.captures.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self {
            clock,
            health,
            coverage: site_coverage,
            intake,
            known,
            presences,
            captures,
            capture_context: capture_context,
        })
    }

    /// What the captures were opened with, for frames that reach the daemon otherwise than through an interface.
    pub fn capture_context(&self) -> network::CaptureContext {
        self.capture_context.clone()
    }
}

/// Where the settings came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsOrigin {
    /// This main file (none: the default one) and what stands beside it; a reload reads them again.
    File(Option<PathBuf>),
    /// Nowhere; there is nothing to reload.
    Made,
}

/// Where the daemon can be found, once it runs.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// The API's address; none when it is off.
    pub api: Option<std::net::SocketAddr>,
}

/// The parts whose end is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Capture,
    Session,
    Spool,
    Pipeline,
    Directory,
    Retention,
    Lease,
    Disk,
    Api,
    Notify,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Capture => "a capture",
            Self::Session => "the broker session",
            Self::Spool => "the spool",
            Self::Pipeline => "the pipeline",
            Self::Directory => "the directory reader",
            Self::Retention => "the retention",
            Self::Lease => "the lease",
            Self::Disk => "the watch over the disk",
            Self::Api => "the API",
            Self::Notify => "the reports to systemd",
        }
    }
}

type PartEnd = (Part, anyhow::Result<()>);

/// The daemon.
#[derive(Debug)]
pub struct Supervisor {
    settings: Settings,
    origin: SettingsOrigin,
    clock: Clock,
    health: Health,
    metrics: Metrics,
    ready: Option<Ready>,
    parts: JoinSet<PartEnd>,
    /// Ends the intake: captures and session.
    intake: CancellationToken,
    /// Ends the session's intake alone, for a reload.
    session: Option<Connection>,
    deliveries: Option<mpsc::Sender<Delivery>>,
    /// The pipeline's end of the spool, until the pipeline starts.
    spooled: Option<mpsc::Receiver<Delivery>>,
    /// Cancelled when the spool acknowledges nothing more; none without a spool.
    taken: Option<CancellationToken>,
    spool_counters: Arc<SpoolCounters>,
    /// Held while the site runs; none where a site has one gateway.
    lease: Option<Arc<Lease>>,
    /// Tells the pipeline to drain.
    drain: CancellationToken,
    /// Ends everything that neither takes in nor decides.
    rest: CancellationToken,
    deadline: CancellationToken,
    /// What sites decide by; a reload adds to it.
    policies: Option<watch::Sender<Arc<PolicyHistory>>>,
    /// Where policies are written down; none before the database answers.
    records: Option<Store>,
    counters: Arc<MqttCounters>,
    /// Outlives a reload, as the broker's half of the session does.
    session_state: SessionState,
    /// The parts that have not ended.
    going: BTreeMap<task::Id, Part>,
}

/// The tokens of one broker session.
#[derive(Clone, Debug)]
struct Connection {
    stop: CancellationToken,
    drained: CancellationToken,
}

impl Supervisor {
    /// A daemon with these settings.
    pub fn new(settings: Settings, origin: SettingsOrigin, prepared: &Prepared) -> Self {
        let codes: Vec<&'static str> = Reason::all().map(Reason::code).collect();
        Self {
            settings,
            origin,
            clock: prepared.clock.clone(),
            health: prepared.health.clone(),
            metrics: Metrics::new(prepared.health.clone(), &codes),
            ready: None,
            parts: JoinSet::new(),
            intake: prepared.intake.clone(),
            session: None,
            deliveries: None,
            spooled: None,
            taken: None,
            spool_counters: Arc::default(),
            lease: None,
            drain: CancellationToken::new(),
            rest: CancellationToken::new(),
            deadline: CancellationToken::new(),
            policies: None,
            records: None,
            counters: Arc::default(),
            session_state: SessionState::default(),
            going: BTreeMap::new(),
        }
    }

    /// Runs until a signal, or `stop`, ends it; tells `running` when everything has been started.
    ///
    /// # Errors
    /// When a part cannot start, or ended without being told to.
    pub async fn run(
        mut self,
        prepared: Prepared,
        stop: CancellationToken,
        running: impl FnOnce(&Running),
    ) -> anyhow::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("signals cannot be handled")?;
        if let (Some(settings), None) = (self.settings.spool.clone(), &self.settings.lease) {
            let Some(spool) = self.open_spool(&settings, &mut signals, &stop).await? else {
                return Ok(());
            };
            self.start_spool(spool);
            self.start_session();
        }
        notify(&[NotifyState::Status("opening the database")]);
        let (store, outcome) = match self.open_store(&mut signals, &stop).await {
            Ok(Some(store)) => {
                let outcome = Box::pin(self.serve(prepared, &store, &mut signals, &stop, running)).await;
                (Some(store), outcome)
            }
            Ok(None) => (None, Ok(())),
            Err(error) => (None, Err(error)),
        };
        notify(&[NotifyState::Stopping]);
        tracing::info!("stopping: taking nothing in any more");
        let orderly = time::timeout(DEADLINE, self.wind_down(&mut signals)).await;
        let late = self.leave_behind(orderly.is_err()).await;
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
            (Ok(()), Some(late)) => Err(anyhow!("{late} did not end in time")),
            (Ok(()), None) => {
                tracing::info!("stopped");
                Ok(())
            }
        }
    }

    /// Opens the database, however long it takes; none when it was told to stop meanwhile.
    async fn open_store(&mut self, signals: &mut Signals, stop: &CancellationToken) -> anyhow::Result<Option<Store>> {
        let database = self.settings.database.clone();
        let open = async || {
            Store::check_after_crash(&database).await?;
            Store::open(&database).await
        };
        self.patiently(ConditionKind::DatabaseUnavailable, "the database", open, signals, stop).await
    }

    /// Reads who is who, and writes down what the site decides by, however long it takes; none when it was told to stop meanwhile.
    async fn load_basis(
        &mut self,
        store: &Store,
        signals: &mut Signals,
        stop: &CancellationToken,
        own: &SitePolicy,
    ) -> anyhow::Result<Option<Basis>> {
        let (clock, business, zones) = (self.clock.clone(), own.site.business, self.settings.zones.clone());
        let load = async || {
            let policies = Arc::new(zones.rule(&store.policies(own, clock.now().wall).await?));
            let directories = Arc::new(store.load_directories().await?);
            Ok(Basis { business, policies, directories })
        };
        let loaded = self.patiently(ConditionKind::DatabaseUnavailable, "the database", load, signals, stop).await;
        loaded.context("the directory and the settings of before cannot be loaded")
    }

    /// The same for the spool.
    async fn open_spool(
        &mut self,
        settings: &settings::SpoolSettings,
        signals: &mut Signals,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<Spool>> {
        let (clock, health, counters) = (self.clock.clone(), self.health.clone(), Arc::clone(&self.spool_counters));
        let open = async || {
            Store::check_after_crash(&settings::Database::Sqlite { path: settings.path.clone() }).await?;
            Spool::open(settings, clock.clone(), health.clone(), Arc::clone(&counters)).await
        };
        let spool = self.patiently(ConditionKind::SpoolUnavailable, "the spool", open, signals, stop).await;
        spool.context("the spool cannot be used")
    }

    /// Opens something, however long it takes; none when it was told to stop meanwhile.
    async fn patiently<T>(
        &mut self,
        kind: ConditionKind,
        what: &str,
        open: impl AsyncFn() -> Result<T, StoreError>,
        signals: &mut Signals,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<T>> {
        let mut failures = 0;
        loop {
            // A server that hangs must not keep us from stopping.
            let mut opening = Box::pin(open());
            let opened = loop {
                tokio::select! {
                    opened = &mut opening => break opened,
                    () = stop.cancelled() => return Ok(None),
                    Some((part, result)) = self.next_end() => return Err(ended(part, result)),
                    Some(signal) = signals.next() => {
                        if signal != SIGHUP {
                            return Ok(None);
                        }
                    }
                }
            };
            drop(opening);
            match opened {
                Ok(opened) => {
                    self.health.clear(kind, "");
                    return Ok(Some(opened));
                }
                Err(StoreError::Conflict) => {}
                Err(StoreError::Unavailable(error)) => {
                    self.health.raise(kind, "", format!("{what} does not answer ({error}); waiting for it"));
                }
                Err(unusable @ StoreError::Unusable { .. }) => return Err(unusable.into()),
            }
            let extend = u32::try_from((OPENING.nominal(failures) * 10).as_micros()).unwrap_or(u32::MAX);
            let status = format!("waiting for {what}");
            notify(&[NotifyState::Status(&status), NotifyState::ExtendTimeoutUsec(extend)]);
            tokio::select! {
                () = time::sleep(OPENING.pause(failures)) => {}
                () = stop.cancelled() => return Ok(None),
                Some((part, result)) = self.next_end() => return Err(ended(part, result)),
                Some(signal) = signals.next() => {
                    if signal != SIGHUP {
                        return Ok(None);
                    }
                }
            }
            failures = failures.saturating_add(1);
        }
    }

    /// Starts what there is to start, and runs until there is a reason to stop.
    async fn serve(
        &mut self,
        mut prepared: Prepared,
        store: &Store,
        signals: &mut Signals,
        stop: &CancellationToken,
        running: impl FnOnce(&Running),
    ) -> anyhow::Result<()> {
        let place = self.start_api(store).await?;
        let (alive, alive_reader) = watch::channel(None);
        let doors = self.settings.doors.clone();
        let own = self.settings.site.clone().map(|site| SitePolicy { site, doors });
        self.records = Some(store.clone());
        match (own, self.settings.lease.clone()) {
            (Some(own), Some(settings)) => {
                self.start_captures(std::mem::take(&mut prepared.captures))?;
                self.start_reports(alive_reader);
                running(&place);
                notify(&[NotifyState::Ready]);
                let (clock, health) = (self.clock.clone(), self.health.clone());
                let lease = Lease::new(store.clone(), own.site.business, settings.holder, clock, health);
                let leased = store.fenced(own.site.business, lease.instance());
                if !self.stand_by(Arc::new(lease), &own, &mut prepared, store, signals, stop).await? {
                    return Ok(());
                }
                let Some(basis) = self.load_basis(store, signals, stop, &own).await? else { return Ok(()) };
                self.start_site(prepared, &leased, basis, alive).await?;
            }
            (Some(own), None) => {
                let Some(basis) = self.load_basis(store, signals, stop, &own).await? else { return Ok(()) };
                self.start_site(prepared, store, basis, alive).await?;
                self.start_reports(alive_reader);
                running(&place);
                notify(&[NotifyState::Ready]);
            }
            (None, _) => {
                self.start_reports(alive_reader);
                running(&place);
                notify(&[NotifyState::Ready]);
            }
        }
        self.watch(signals, stop).await
    }

    /// Waits for the lease; false when it was told to stop meanwhile. What an earlier life has left in the spool is handed
    /// over first: nobody else has it, and it may have been ours to decide when it came.
    async fn stand_by(
        &mut self,
        lease: Arc<Lease>,
        own: &SitePolicy,
        prepared: &mut Prepared,
        store: &Store,
        signals: &mut Signals,
        stop: &CancellationToken,
    ) -> anyhow::Result<bool> {
        let mut spool = None;
        if let Some(settings) = self.settings.spool.clone() {
            let Some(left) = self.open_spool(&settings, signals, stop).await? else { return Ok(false) };
            if left.is_empty() {
                spool = Some(left);
            } else {
                let Some(basis) = self.load_basis(store, signals, stop, own).await? else { return Ok(false) };
                let handing_over = Box::pin(self.hand_over(left, basis, store.clone()));
                if !unless_stopped(handing_over, signals, stop).await? {
                    return Ok(false);
                }
                spool = self.open_spool(&settings, signals, stop).await?;
                if spool.is_none() {
                    return Ok(false);
                }
            }
        }
        let mut acquiring = Box::pin(lease.acquire());
        loop {
            tokio::select! {
                acquired = &mut acquiring => {
                    acquired?;
                    break;
                }
                // Devices that were here while we stood by are seen again when they speak again.
                Some(_) = prepared.presences.recv() => {}
                () = stop.cancelled() => return Ok(false),
                Some(signal) = signals.next() => match signal {
                    SIGHUP => self.reload().await,
                    _ => return Ok(false),
                },
                Some((part, result)) = self.next_end() => return Err(ended(part, result)),
            }
        }
        drop(acquiring);
        let (keeper, rest) = (Arc::clone(&lease), self.rest.clone());
        self.spawn(Part::Lease, async move { keeper.keep(&rest).await.map_err(anyhow::Error::from) });
        self.lease = Some(lease);
        if let Some(spool) = spool {
            self.start_spool(spool);
        }
        Ok(true)
    }

    /// Hands over to a pipeline of its own what an earlier process has left in the spool.
    fn hand_over(
        &self,
        spool: Spool,
        basis: Basis,
        store: Store,
    ) -> impl Future<Output = anyhow::Result<()>> + 'static {
        let (output, deliveries) = mpsc::channel(DELIVERIES);
        let (_, presences) = mpsc::channel(1);
        let (_, input) = mpsc::channel(1);
        let ends = spool::SpoolEnds { input, output, taken: CancellationToken::new(), stop: CancellationToken::new() };
        let (clock, health, metrics) = (self.clock.clone(), self.health.clone(), self.metrics.clone());
        let zones = self.settings.zones.clone();
        async move {
            let (imports, directories) = watch::channel(basis.directories);
            let (reloads, policies) = watch::channel(basis.policies);
            let stale = Arc::new(Notify::new());
            let stop = CancellationToken::new();
            let watcher = VersionWatch {
                store: store.clone(),
                directories: imports,
                policies: reloads,
                known_macs: watch::channel(KnownMacs::default()).0,
                health: health.clone(),
                clock: clock.clone(),
                stale: Arc::clone(&stale),
                zones,
                looked_at: Vec::new(),
            };
            let watching = watcher.run(stop.clone());
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
            let working = async {
                let (spooled, decided) = tokio::join!(spool.run(ends), deciding);
                stop.cancel();
                spooled?;
                decided?;
                Ok(())
            };
            tokio::join!(watching, working).1
        }
    }

    async fn start_api(&mut self, store: &Store) -> anyhow::Result<Running> {
        let mut place = Running::default();
        let state = ApiState::new(store.clone(), self.health.clone(), self.metrics.clone(), self.clock.clone());
        self.ready = Some(state.ready());
        if let Some(api) = &self.settings.api {
            let listener = TcpListener::bind(api.listen).await.with_context(|| {
                format!("the API cannot listen on {}; change api.listen or free the port", api.listen)
            })?;
            place.api = Some(listener.local_addr()?);
            let rest = self.rest.clone();
            self.spawn(Part::Api, async move { api::serve(listener, state, rest).await.map_err(anyhow::Error::from) });
        }
        let counters = Arc::clone(&self.counters);
        self.metrics.watch("session", "broker", Arc::new(move || metrics::figures::session(&counters)));
        let counters = Arc::clone(&self.spool_counters);
        self.metrics.watch("spool", "local", Arc::new(move || metrics::figures::spool(&counters)));
        Ok(place)
    }

    fn start_captures(&mut self, captures: Vec<CaptureTask>) -> anyhow::Result<()> {
        for mut capture in captures {
            // Before anything can be asked whether we are ready.
            capture.look()?;
            let counters = capture.counters();
            self.metrics.watch(
                "interface",
                &capture.interface().clone(),
                Arc::new(move || metrics::figures::capture(&counters)),
            );
            let going = self.parts.spawn_blocking(move || (Part::Capture, capture.run().map_err(anyhow::Error::from)));
            self.going.insert(going.id(), Part::Capture);
        }
        Ok(())
    }

    async fn start_site(
        &mut self,
        prepared: Prepared,
        store: &Store,
        basis: Basis,
        alive: watch::Sender<Option<BootTime>>,
    ) -> anyhow::Result<()> {
        self.start_watch_over_disk();
        let Basis { business, policies, directories } = basis;
        let policy = self.settings.retention.clone();
        let (rows, clock, stop) = (store.clone(), self.clock.clone(), self.rest.clone());
        self.spawn(Part::Retention, async move {
            retention::run(business, policy, rows, clock, stop).await;
            Ok(())
        });
        tracing::info!(coworkers = directories.latest().coworkers(), "directory loaded");
        prepared.known.send_replace(known(directories.latest()));
        let (imports, directories) = watch::channel(directories);
        let (reloads, policies) = watch::channel(policies);
        let stale = Arc::new(Notify::new());
        let deliveries = self.deliveries_of_pipeline();
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
        let inputs = Inputs { deliveries, presences: prepared.presences };
        let (drain, deadline) = (self.drain.clone(), self.deadline.clone());
        self.spawn(
            Part::Pipeline,
            async move { pipeline.run(inputs, drain, deadline).await.map_err(anyhow::Error::from) },
        );
        let watcher = VersionWatch {
            store: store.clone(),
            directories: imports,
            policies: reloads.clone(),
            known_macs: prepared.known,
            health: self.health.clone(),
            clock: self.clock.clone(),
            stale,
            zones: self.settings.zones.clone(),
            looked_at: Vec::new(),
        };
        let rest = self.rest.clone();
        self.spawn(Part::Directory, async move {
            watcher.run(rest).await;
            Ok(())
        });
        self.start_captures(prepared.captures)?;
        self.policies = Some(reloads);
        if self.session.is_none() {
            self.start_session();
        }
        Ok(())
    }

    fn start_watch_over_disk(&mut self) {
        let (folder, health, stop) = (folder(&self.settings), self.health.clone(), self.rest.clone());
        let figures = Arc::new(DiskFigures::default());
        let shown = Arc::clone(&figures);
        self.metrics.watch("disk", "local", Arc::new(move || metrics::figures::disk(&shown)));
        self.spawn(Part::Disk, async move {
            disk::run(folder, figures, health, stop).await;
            Ok(())
        });
    }

    /// Where the pipeline reads: behind the spool, or right behind the session.
    fn deliveries_of_pipeline(&mut self) -> mpsc::Receiver<Delivery> {
        if let Some(spooled) = self.spooled.take() {
            return spooled;
        }
        let (sender, deliveries) = mpsc::channel(DELIVERIES);
        self.deliveries = Some(sender);
        deliveries
    }

    fn start_spool(&mut self, spool: Spool) {
        let (sender, input) = mpsc::channel(DELIVERIES);
        let (output, spooled) = mpsc::channel(DELIVERIES);
        let taken = CancellationToken::new();
        let ends = spool::SpoolEnds { input, output, taken: taken.clone(), stop: self.rest.clone() };
        self.deliveries = Some(sender);
        self.spooled = Some(spooled);
        self.taken = Some(taken);
        self.spawn(Part::Spool, async move { spool.run(ends).await.map_err(anyhow::Error::from) });
    }

    fn start_session(&mut self) {
        let (Some(mqtt), Some(deliveries)) = (self.settings.mqtt.clone(), self.deliveries.clone()) else {
            return;
        };
        for source in &self.settings.sources {
            let counters = self.counters.of_source(&source.name);
            self.metrics.watch("source", &source.name, Arc::new(move || metrics::figures::source(&counters)));
        }
        let connection = Connection { stop: self.intake.child_token(), drained: CancellationToken::new() };
        let session = Session {
            settings: mqtt,
            sources: self.settings.sources.clone(),
            clock: self.clock.clone(),
            deliveries,
            health: self.health.clone(),
            counters: Arc::clone(&self.counters),
            session_state: self.session_state.clone(),
            session_file: Some(folder(&self.settings).join(SESSION_FILE)),
            permit: self.lease.as_ref().map(|lease| lease.permit()),
            stop: connection.stop.clone(),
            drained: connection.drained.clone(),
        };
        self.session = Some(connection);
        self.spawn(Part::Session, async move {
            session.run().await;
            Ok(())
        });
    }

    /// Feeds the watchdog while the pipeline turns, says in `STATUS=` how things are, and lets `/readyz` judge once the
    /// broker has had its first chance; the captures have had theirs.
    fn start_reports(&mut self, alive: watch::Receiver<Option<BootTime>>) {
        let (clock, health, counters) = (self.clock.clone(), self.health.clone(), Arc::clone(&self.counters));
        let (metrics_open, ready, stop) = (self.metrics.clone(), self.ready.clone(), self.rest.clone());
        let waits_for_broker = self.session.is_some();
        let watchdog = sd_notify::watchdog_enabled();
        self.spawn(Part::Notify, async move {
            let every = watchdog.map_or(STATUS_EVERY, |period| period / 3).min(STATUS_EVERY);
            let began = clock.now().boot;
            let mut said = String::new();
            loop {
                let now = clock.now().boot;
                let broker_known = !waits_for_broker
                    || counters.is_ready()
                    || health.is_raised(ConditionKind::BrokerUnavailable, "")
                    || clock.real(now.since(began)) > START_UP;
                if broker_known && let Some(ready) = &ready {
                    ready.started();
                }
                if watchdog.is_some() && alive.borrow().is_none_or(|turned| now.since(turned) < STUCK) {
                    notify(&[NotifyState::Watchdog]);
                }
                let status = status(&health, metrics_open.open_now());
                if status != said {
                    notify(&[NotifyState::Status(&status)]);
                    said = status;
                }
                let pause = if broker_known { every } else { Duration::from_millis(100) };
                if stop.run_until_cancelled(time::sleep(pause)).await.is_none() {
                    return Ok(());
                }
            }
        });
    }

    /// Waits for a reason to stop: a signal, the caller, or a part that ended.
    async fn watch(&mut self, signals: &mut Signals, stop: &CancellationToken) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(signal) = signals.next() => match signal {
                    SIGHUP => self.reload().await,
                    _ => {
                        // From now on a second signal ends the process, even if the runtime is stuck.
                        tracing::info!(signal, "signal received; a second one ends the process at once");
                        return Ok(());
                    }
                },
                Some((part, result)) = self.next_end() => return Err(ended(part, result)),
            }
        }
    }

    /// Reads the settings again. A bad file keeps the old ones; what cannot change while running is named.
    async fn reload(&mut self) {
        let file = match &self.origin {
            SettingsOrigin::File(file) => file.clone(),
            SettingsOrigin::Made => return,
        };
        tracing::info!("reading the settings again");
        reloading();
        match settings::load(file.as_deref(), settings::environment()) {
            Err(faults) => {
                for fault in faults.faults() {
                    tracing::error!("{}", fault.head());
                }
                let detail = format!(
                    "the changed settings were refused ({} faults, the first: {}); the old ones stay in force. \
                     Run checkind check-config",
                    faults.faults().len(),
                    faults.faults().first().map(|fault| fault.head().to_string()).unwrap_or_default()
                );
                self.health.raise(ConditionKind::SettingsRefused, "", detail);
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

    async fn apply(&mut self, new: Settings) {
        let restart: Vec<&str> = settings::changes_needing_restart(&self.settings, &new)
            .into_iter()
            .filter(|section| *section != "mqtt")
            .collect();
        if restart.is_empty() {
            self.health.clear(ConditionKind::SettingsRefused, "");
        } else {
            let detail = format!("{} changed; that takes effect with a restart of checkind", restart.join(", "));
            self.health.raise(ConditionKind::SettingsRefused, "", detail);
        }
        if let (Some(policies), Some(store), Some(site)) = (&self.policies, &self.records, &new.site)
            && !restart.contains(&"site.business")
        {
            let own = SitePolicy { site: site.clone(), doors: new.doors.clone() };
            match store.policies(&own, self.clock.now().wall).await {
                Ok(known) => {
                    policies.send_replace(Arc::new(new.zones.rule(&known)));
                }
                Err(error) => {
                    let detail =
                        format!("the changed settings could not be written down ({error}); the old ones stay in force");
                    self.health.raise(ConditionKind::SettingsRefused, "", detail);
                    return;
                }
            }
        }
        let old = std::mem::replace(&mut self.settings, new);
        if restart.contains(&"site.business") {
            self.settings.site = old.site;
        }
        self.settings.database = old.database;
        self.settings.api = old.api;
        self.settings.captures = old.captures;
        // The broker keeps our session while we change over to the new subscriptions.
        if let Some(session) = self.session.take() {
            session.stop.cancel();
            self.await_commits().await;
            session.drained.cancel();
            self.await_session().await;
            // Whatever the old session complained of concerns the new one only if it happens again.
            self.health.clear_kind(ConditionKind::SubscriptionRefused);
            self.health.clear_kind(ConditionKind::BrokerUnavailable);
        }
        self.start_session();
        tracing::info!("the new settings are in force");
    }

    /// Gives the pipeline a moment to commit what the session has handed over, so that it is acknowledged before the
    /// connection ends; what is not, the broker delivers again.
    async fn await_commits(&self) {
        let Some(deliveries) = &self.deliveries else { return };
        let empty = async {
            while deliveries.capacity() < deliveries.max_capacity() {
                time::sleep(Duration::from_millis(10)).await;
            }
            time::sleep(LAST_COMMIT).await;
        };
        if time::timeout(DEADLINE, empty).await.is_err() {
            tracing::warn!("the queue did not empty before the reload; the broker delivers the rest again");
        }
    }

    /// Waits until the session that was told to stop has ended, so that two never share a client id. Whatever else ends
    /// meanwhile is noticed afterwards, as it would have been without the reload.
    async fn await_session(&mut self) {
        let mut others = Vec::new();
        while self.is_going(Part::Session) {
            match self.next_end().await {
                Some((Part::Session, _)) => {}
                Some(other) => others.push(other),
                None => break,
            }
        }
        for (part, result) in others {
            self.spawn(part, async move { result });
        }
    }

    fn spawn(&mut self, part: Part, work: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let going = self.parts.spawn(async move { (part, work.await) });
        self.going.insert(going.id(), part);
    }

    fn is_going(&self, part: Part) -> bool {
        self.going.values().any(|going| *going == part)
    }

    /// Waits for the next part to end; none when all have. A part that panicked has failed.
    async fn next_end(&mut self) -> Option<PartEnd> {
        let ended = self.parts.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let part = self.going.remove(&id).unwrap_or(Part::Notify);
        Some(match ended {
            Ok((_, ended)) => ended,
            Err(error) => (part, Err(anyhow::Error::from(error))),
        })
    }

    /// Ends whoever is left; names them when they were given their time.
    async fn leave_behind(&mut self, late: bool) -> Option<String> {
        if !late {
            return None;
        }
        let late = names(self.going.values().copied());
        tracing::error!("still running at the deadline and left behind: {late}");
        self.deadline.cancel();
        self.rest.cancel();
        let last_words = async { while self.parts.join_next().await.is_some() {} };
        if time::timeout(Duration::from_secs(1), last_words).await.is_err() {
            self.parts.abort_all();
        }
        Some(late)
    }

    /// The orderly end; see the module.
    async fn wind_down(&mut self, signals: &mut Signals) {
        self.intake.cancel();
        self.deliveries = None;
        if self.taken.is_some() && self.health.is_raised(ConditionKind::DatabaseUnavailable, "") {
            // Everything is in the spool; there is nothing to wait for.
            self.deadline.cancel();
        }
        let taken = self.taken.clone().unwrap_or_else(|| {
            let nothing = CancellationToken::new();
            nothing.cancel();
            nothing
        });
        let mut stage = 0;
        loop {
            let taken_in = taken.is_cancelled() || !self.is_going(Part::Spool);
            // Captures hand over what they have merged, and the spool what the session has left in it, before the pipeline is
            // told to drain: another gateway may take over the site, and would not have what stays in the spool.
            if stage == 0 && !self.is_going(Part::Capture) && taken_in {
                self.drain.cancel();
                stage = 1;
            }
            if stage == 1 && !self.is_going(Part::Pipeline) && taken_in {
                if let Some(session) = &self.session {
                    session.drained.cancel();
                }
                self.rest.cancel();
                stage = 2;
            }
            tokio::select! {
                Some(signal) = signals.next() => {
                    if signal != SIGHUP {
                        tracing::warn!(signal, "a second signal: ending at once");
                        std::process::exit(1);
                    }
                }
                () = taken.cancelled(), if !taken.is_cancelled() => {}
                ended = self.next_end() => match ended {
                    None => return,
                    Some((_, Ok(()))) => {}
                    Some((part, Err(error))) => tracing::error!("{} failed while stopping: {error:#}", part.name()),
                }
            }
        }
    }
}

/// Does some work to its end; false when it was told to stop meanwhile, and the work was dropped.
async fn unless_stopped(
    work: impl Future<Output = anyhow::Result<()>> + Unpin,
    signals: &mut Signals,
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    let mut work = work;
    loop {
        tokio::select! {
            done = &mut work => return done.map(|()| true),
            () = stop.cancelled() => return Ok(false),
            Some(signal) = signals.next() => {
                if signal != SIGHUP {
                    return Ok(false);
                }
            }
        }
    }
}

/// A part that ended without being told to.
fn ended(part: Part, result: anyhow::Result<()>) -> anyhow::Error {
    let ended = anyhow!("{} ended without being told to", part.name());
    result.err().map_or(ended, |error| error.context(format!("{} failed", part.name())))
}

/// Who is in which part, in words for the log.
fn names(parts: impl Iterator<Item = Part>) -> String {
    parts.map(Part::name).collect::<Vec<_>>().join(", ")
}

/// Where this machine keeps what must not be lost.
fn folder(settings: &Settings) -> PathBuf {
    let file = match (&settings.spool, &settings.database) {
        (Some(spool), _) => Some(&spool.path),
        (None, settings::Database::Sqlite { path }) => Some(path),
        (None, settings::Database::Postgres { .. }) => None,
    };
    file.and_then(|file| file.parent()).unwrap_or(std::path::Path::new("")).to_owned()
}

fn known(directory: &Directory) -> KnownMacs {
    Arc::new(directory.known_macs().collect())
}

/// What a pipeline decides by.
#[derive(Debug)]
struct Basis {
    business: BusinessId,
    policies: Arc<PolicyHistory>,
    directories: Arc<DirectoryHistory>,
}

/// A reconciler: whenever the directory or anybody's settings have another version than ours, loads and publishes them. While
/// they cannot be read the last ones stay in force, so that a half-failed import checks nobody out.
#[derive(Debug)]
struct VersionWatch {
    store: Store,
    directories: watch::Sender<Arc<DirectoryHistory>>,
    policies: watch::Sender<Arc<PolicyHistory>>,
    known_macs: watch::Sender<KnownMacs>,
    health: Health,
    clock: Clock,
    /// The pipeline has seen a newer version.
    stale: Arc<Notify>,
    zones: Zones,
    /// By what the zone data was known, when it was last looked at.
    looked_at: Vec<Stamp>,
}

impl VersionWatch {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            self.look_at_zones();
            let pause = self.clock.real(DIRECTORY_EVERY).max(Duration::from_millis(100));
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.stale.notified() => {}
                () = time::sleep(pause) => {}
            }
            match self.look().await {
                Ok(()) => self.health.clear(ConditionKind::DirectoryStale, ""),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    self.health.raise(
                        ConditionKind::DirectoryStale,
                        "",
                        format!("{error}; the last one stays in force"),
                    );
                }
            }
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let ours = self.directories.borrow().latest().version;
        if self.store.directory_version().await? != ours {
            let newer = Arc::new(self.store.load_directory().await?);
            let versions = self.store.directory_versions().await?;
            tracing::info!(coworkers = newer.coworkers(), version = newer.version, "the directory has changed");
            self.known_macs.send_replace(known(&newer));
            let history = self.directories.borrow().followed_by(newer, &versions);
            self.directories.send_replace(Arc::new(history));
        }
        if self.store.newest_policy().await? != self.policies.borrow().newest {
            let policies = self.store.read_policies().await?;
            self.policies.send_replace(Arc::new(self.zones.rule(&policies)));
        }
        Ok(())
    }

    /// Zone data that was replaced on disk is in force from then on, for all instants.
    fn look_at_zones(&mut self) {
        let known = Arc::clone(&self.policies.borrow());
        let stamps = self.zones.stamps(known.zones().map(Zone::name));
        if std::mem::replace(&mut self.looked_at, stamps.clone()) == stamps {
            return;
        }
        let newer = self.zones.opened_again();
        let ruled = newer.rule(&known);
        let changed: BTreeSet<&str> = ruled
            .zones()
            .zip(known.zones())
            .filter(|(new, old)| !new.has_rules_of(old))
            .map(|(new, _)| new.name())
            .collect();
        if newer.version() != self.zones.version() || !changed.is_empty() {
            let (version, zones) = (newer.version(), changed.iter().copied().collect::<Vec<_>>().join(", "));
            tracing::info!(
                source = newer.source(),
                version,
                "the time zone data is another; changed here: {zones:?}; times that controllers write without an offset are \
                 read by it after a reload"
            );
        }
        for gone in known.zones().map(Zone::name).filter(|name| newer.find(name).is_none()).collect::<BTreeSet<_>>() {
            let source = newer.source();
            tracing::warn!(
                source,
                "the time zone data has no {gone} any more, or its file is damaged; the rules that were read stay in force \
                 until checkind ends, and it will not start without them: mend the package tzdata"
            );
        }
        if !changed.is_empty() {
            self.policies.send_replace(Arc::new(ruled));
        }
        self.zones = newer;
    }
}

/// `STATUS=`: how many are in, and what is wrong.
fn status(health: &Health, open: i64) -> String {
    let conditions = health.conditions();
    let people = if open == 1 { "1 check-in open".to_owned() } else { format!("{open} check-ins open") };
    if conditions.is_empty() {
        return people;
    }
    let wrong: Vec<String> = conditions
        .iter()
        .map(|condition| match condition.subject.as_str() {
            "" => condition.kind.name().to_owned(),
            subject => format!("{} {subject}", condition.kind.name()),
        })
        .collect();
    format!("{people}; {}", wrong.join(", "))
}

/// `RELOADING=1` needs the monotonic time in the same message.
fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the time of the reload is not known"),
    }
}

fn notify(states: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell; a failing socket is no reason to stop.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
