//! The daemon's state: its settings, its running parts, and how they are stopped.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    database_watch::News, door_queue::DoorQueue, lease::Lease, parts::Parts, prepared::Prepared, recording::Reloads,
};
use crate::{
    api::{CertificateReload, RequestSlot},
    base::{clock::Clock, health::Health, turns::Turns},
    engine::decision::Reason,
    metrics::Metrics,
    policy::PolicyHistory,
    settings::Settings,
    source::mqtt::{counters::MqttCounters, session_state::SessionState},
    spool::{SpoolCounters, SpoolLink},
    store::Store,
};

/// Where the settings came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsOrigin {
    /// From this main file (`None`: the default one) and the files beside it; a reload reads them again.
    File(Option<PathBuf>),
    /// Built by the program; there is nothing to reload.
    Made,
}

/// Where the running daemon can be reached.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// The API's TCP address; `None` when it is off, or on a Unix socket.
    pub api: Option<SocketAddr>,
}

/// The daemon.
#[derive(Debug)]
pub struct Supervisor {
    pub(super) settings: Settings,
    pub(super) origin: SettingsOrigin,
    pub(super) clock: Clock,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) parts: Parts,
    pub(super) turns: Turns,
    pub(super) stop: StopTokens,
    pub(super) door_queue: DoorQueue,
    pub(super) spool_counters: Arc<SpoolCounters>,
    /// The link to the running spool; `None` without one.
    pub(super) spool_link: Option<SpoolLink>,
    /// The id of that spool, by which a shared database knows this gateway.
    pub(super) gateway: Arc<OnceLock<String>>,
    /// What a shared database has answered last; `None` with SQLite.
    pub(super) news: Option<News>,
    pub(super) broker: BrokerLink,
    /// Held while the site runs; `None` while standing by, and without `[lease]`.
    pub(super) lease: Option<Arc<Lease>>,
    pub(super) site: SitePhase,
    /// The open database; `None` until it is open.
    pub(super) store: Option<Store>,
    pub(super) reloads: Reloads,
    pub(super) certificate_reload: CertificateReload,
    /// Takes requests from the API to the pipeline.
    pub(super) api_requests: RequestSlot,
}

/// The tokens that stop the parts.
#[derive(Debug)]
pub(super) struct StopTokens {
    /// Ends the intake: the captures and the broker session.
    pub(super) intake: CancellationToken,
    /// Tells the pipeline to decide what it has received and end.
    pub(super) drain: CancellationToken,
    /// Ends the parts that belong neither to the intake nor to the pipeline.
    pub(super) rest: CancellationToken,
    /// Tells the pipeline to abandon what it has not committed.
    pub(super) deadline: CancellationToken,
}

/// The running broker session, and the state that outlives it.
#[derive(Debug, Default)]
pub(super) struct BrokerLink {
    pub(super) counters: Arc<MqttCounters>,
    /// The client's half of the session state. It outlives a reload, as the broker's half does.
    pub(super) session_state: SessionState,
    /// The tokens of the running session; `None` without `[mqtt]`, and until the spool or the pipeline reads door
    /// messages.
    pub(super) session: Option<SessionTokens>,
}

/// The tokens that stop one broker session.
#[derive(Clone, Debug)]
pub(super) struct SessionTokens {
    /// Ends its intake. A reload cancels only this token, so the captures continue.
    pub(super) stop: CancellationToken,
    /// Cancelled when nothing more will be committed: the session acknowledges what it has receipts for and
    /// disconnects.
    pub(super) drained: CancellationToken,
}

/// Whether the site's pipeline runs.
#[derive(Debug)]
pub(super) enum SitePhase {
    /// It does not run: the database does not answer, another gateway holds the lease, or there is no `[site]`.
    Waiting,
    /// It runs. A reload records the new policy in `records` and sends the history that includes it to the pipeline.
    Deciding { policies: watch::Sender<Arc<PolicyHistory>>, records: Box<Store> },
}

impl Supervisor {
    /// A daemon with these settings that has not started yet.
    pub fn new(settings: Settings, origin: SettingsOrigin, prepared: &Prepared) -> Self {
        let codes: Vec<&'static str> = Reason::all().map(Reason::code).collect();
        Self {
            settings,
            origin,
            clock: prepared.clock.clone(),
            health: prepared.health.clone(),
            metrics: Metrics::new(prepared.health.clone(), &codes),
            parts: Parts::default(),
            turns: Turns::new(prepared.clock.clone()),
            stop: StopTokens {
                intake: prepared.intake.clone(),
                drain: CancellationToken::new(),
                rest: CancellationToken::new(),
                deadline: CancellationToken::new(),
            },
            door_queue: DoorQueue::default(),
            spool_counters: Arc::default(),
            spool_link: None,
            gateway: Arc::default(),
            news: None,
            broker: BrokerLink::default(),
            lease: None,
            site: SitePhase::Waiting,
            store: None,
            reloads: Reloads::default(),
            api_requests: RequestSlot::default(),
            certificate_reload: CertificateReload::default(),
        }
    }
}
