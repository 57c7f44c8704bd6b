//! The broker session: the only module that names the MQTT client library.
//!
//! One task polls the connection. What it receives goes through the mapping into the bounded queue to the pipeline; what
//! commits comes back as a spent receipt and becomes an acknowledgement.
//!
//! **What is promised.** A message of QoS 1 is acknowledged after its receipt was spent and not before, in the order of
//! arrival, on the connection that it came on. Everything else is delivered again by the broker: at the next connection,
//! because the protocol has no other way. The session is persistent ([`SESSION_EXPIRY`]), so messages of QoS 1 queue at
//! the broker while we are away. QoS 0 stays QoS 0: what was sent while nobody listened is gone.
//!
//! **When the pipeline is slow.** The queue fills, then up to [`MOST_HELD`] sightings are held here, and then the connection
//! is not polled until there is room, so that TCP makes the broker wait. Its window of unacknowledged messages would do
//! the same, but there are brokers that overrun it (mosquitto 2.0 does).
//!
//! That pause is safe, although the connection's task waits for the application in it:
//! * *It cannot deadlock.* The pipeline never waits for this task: a receipt is spent into a queue that cannot be full
//!   (`REQUESTS`), so room comes as soon as a batch has committed, and what was acknowledged meanwhile goes out then.
//!   Whatever else may happen (told to stop, receipts dropped, the pipeline gone) is waited for during the pause, too, and
//!   ends it. The poll is not dropped, it waits in the middle of what it did.
//! * *It cannot cost the connection.* The broker gives us up when it hears nothing for one and a half keep-alives. A ping
//!   is due one keep-alive after what went out last, so a pause may put it off by less than half of one. From the first
//!   pause until something of ours went out no more than `LONGEST_PAUSE` passes, half of that.
//!
//! **When the pipeline stands still**, because the database is away or the disk hangs, the pause_budget ends. The connection is
//! read on, for hours if need be, so that pings go out and nothing here waits for anybody: messages of QoS 1 are left with
//! the broker, unread and unacknowledged, and fetched by a new connection when the backlog is gone; messages of QoS 0 are
//! dropped and counted.
//!
//! **Each connection is made anew**: a fresh client with fresh certificates, and with it a fresh window of receipts, so
//! that nothing of an old connection can leak into a new one. What has to outlast them is the [`SessionState`].

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    path::{Path, PathBuf},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use rumqttc::{
    AckMode, AsyncClient, ConnAck, ConnectReturnCode, ConnectionError, DisconnectReasonCode, Event, EventLoop,
    Incoming, ManualAck, MqttOptions, PersistedAckMode, PersistedSession, Publish, QoS, RetainForwardRule,
    SessionStore, SessionStoreError, SessionStoreKey, StateError, SubAck, SubscribeFilter, SubscribeReasonCode,
    TlsConfiguration, Transport, UnsubAck, UnsubAckReason,
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use secrecy::ExposeSecret;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Interval, Sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    counters::{MqttCounters, add},
    pause_budget::PauseBudget,
    session_file::SessionFile,
    session_state::{FirstArrival, MessageDigest, SessionState},
    watch::{self, SourceFinding, Watch},
    window::AckWindow,
};
use crate::{
    base::{
        backoff::Backoff,
        clock::{BootTime, Clock},
        health::{ConditionKind, Health},
        permit::LeasePermit,
        random,
    },
    mapping::{
        LARGEST_PAYLOAD, Mapped, Mapping, Meta,
        content::{Content, RejectReason},
        reject, route,
    },
    settings::{self, Tls},
    source::{Delivery, Receipt},
};

/// The source of messages that no `[[source]]` claims.
pub const UNCLAIMED: &str = "mqtt";

/// How long the broker keeps our session and its queue while we are away. A long weekend with a dead gateway must not
/// lose events; after a week a person looks anyway. Brokers may lower it, which is logged.
pub const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many sightings are held for the queue to the pipeline, before the connection is not read any more. When it has not
/// been for `LONGEST_PAUSE`, and nothing of ours has gone out since, messages beyond it are left with the broker (QoS 1) or
/// dropped (QoS 0): a flood of QoS 0 that lasts longer than that is dropped in part, because only pings go out meanwhile.
pub const MOST_HELD: usize = 1024;

/// How many unacknowledged messages the broker may send, the size of a large batch. mosquitto overruns it.
const RECEIVE_MAXIMUM: u16 = 1024;

/// The largest packet that the broker may send, in bytes: the largest payload with a long topic and properties. The
/// broker drops larger ones instead of sending them (MQTT 5, 3.1.2.11.4).
#[expect(clippy::cast_possible_truncation, reason = "a constant far below the limit")]
const LARGEST_PACKET: u32 = (LARGEST_PAYLOAD + 4096) as u32;

/// How often the connection is checked while nothing is sent; a dead one is noticed after at most two of it.
const KEEP_ALIVE_SECONDS: u16 = 20;

/// How long the connection may go unread: a quarter of the keep-alive, or of a shorter one that the broker wants. EMQX
/// also closes a connection that has taken nothing for 15 seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long connecting may take, TLS and login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests waiting for the connection. An acknowledgement answers a packet id that the broker cannot use again before,
/// so there are never more of them than packet ids: the queue cannot be full.
const REQUESTS: usize = 65_535 + 16;

/// So many acknowledgements are sent with one write; the library would spend a packet on each.
const AT_ONCE: usize = 64;

/// How long taking leave may take before the connection is simply closed, below [`crate::daemon::DEADLINE`].
const LEAVE: Duration = Duration::from_secs(5);

/// Between two attempts: doubled from the first to the last, with jitter.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// The same after a refused login or an unreadable certificate, which only a person can mend; brokers lock clients out
/// that try too often.
const SLOW_BACKOFF: Backoff = Backoff { first: Duration::from_secs(30), longest: Duration::from_secs(300) };

/// Pause after another client took over our id: with jitter at most two attempts a minute, so that two gateways with one
/// id do not throw each other out all the time.
const TAKEN_OVER: Duration = Duration::from_secs(60);

/// So many young connections in a row, closed by the broker without a reason, are taken for a fight over our id.
const FIGHT: u32 = 3;

/// A connection that lasted this long is a good one: the next failure is the first again.
const STABLE: Duration = Duration::from_secs(60);

/// How often it is looked whether acknowledgements go out.
const LOOK: Duration = Duration::from_secs(1);

/// Nothing acknowledged for so long, though messages wait and the database takes what is written, is a stall: longer
/// than one try of the slowest batch may take, and sooner than the watchdog ends the process.
const STALL: Duration = Duration::from_secs(45);

/// Nothing has come for so long although everything was acknowledged: then the broker has nothing more that it kept for us. It
/// sends what it has as soon as its window has room, so this is far longer than a way there and back. Where messages never
/// leave such a gap, their controllers' times are believed for longer, as if they had been kept.
const QUIET: Duration = Duration::from_millis(500);

/// How often it is written down that we had everything: a process that dies takes messages for kept that came up to so much
/// earlier.
const KEEP_EVERY: Duration = Duration::from_mins(10);

/// How long a lost session stays a condition, so that a person sees it.
const LOST_SHOWN: Duration = Duration::from_secs(3600);

/// The broker session and what it works with.
///
/// Ends in two steps. When `stop` is cancelled, intake ends at once: the queue to the pipeline is closed (what was not
/// handed over stays with the broker), and only acknowledgements go out. When `drained` is cancelled too, because no
/// receipt will be spent any more, the last acknowledgements are sent, then DISCONNECT, and [`Session::run`] returns.
#[derive(Debug)]
pub struct Session {
    /// `[mqtt]`.
    pub settings: settings::Mqtt,
    /// `[[source]]`, in order.
    pub sources: Vec<Arc<Mapping>>,
    /// For arrival times.
    pub clock: Clock,
    /// The queue to the pipeline, of [`crate::source::DELIVERIES`] messages.
    pub deliveries: mpsc::Sender<Delivery>,
    /// Where conditions are raised.
    pub health: Health,
    /// Where everything is counted; [`MqttCounters::is_ready`] says whether all subscriptions are granted.
    pub counters: Arc<MqttCounters>,
    /// What earlier sessions of this process left to know; give the next one the same.
    pub session_state: SessionState,
    /// The file in which the next process finds that there was a session; none to do without.
    pub session_file: Option<PathBuf>,
    /// Where a site has two gateways, only the one that works connects; none where there is one.
    pub permit: Option<LeasePermit>,
    /// Ends intake.
    pub stop: CancellationToken,
    /// Ends the connection.
    pub drained: CancellationToken,
}

impl Session {
    /// Connects, and connects again whenever that ends, until it is told to stop. Never fails: what goes wrong is a
    /// condition and is tried again. When the pipeline drops its end of the queue, messages are left with the broker, and
    /// this returns at the next end of the connection.
    pub async fn run(self) {
        let filters: BTreeSet<String> = self.sources.iter().flat_map(|source| source.filters()).collect();
        self.counters.topics.store(filters.len() as u64, Relaxed);
        self.session_state.concerns(&self.settings);
        let kept = match &self.session_file {
            Some(path) => SessionFile::read(path, &self.settings).await,
            None => None,
        };
        if let Some(kept) = &kept {
            self.session_state.subscribed(&kept.filters);
            let now = self.clock.now().wall;
            // One that lies in the future was written by a clock that was wrong, or this one is.
            if let Some(caught_up) = kept.caught_up.filter(|caught_up| *caught_up <= now) {
                self.session_state.was_away(now.since(caught_up));
            }
        }
        for kind in watch::KINDS {
            self.health.clear_kind(kind);
        }
        let mut worker = Worker {
            filters: filters.into_iter().collect(),
            handover: DeliveryQueue::new(self.deliveries, Arc::clone(&self.counters)),
            settings: self.settings,
            sources: self.sources,
            clock: self.clock,
            health: self.health,
            counters: self.counters,
            session_state: self.session_state,
            stop: self.stop,
            drained: self.drained,
            had_session: kept.is_some(),
            session_file: self.session_file,
            kept,
            watch: Watch::default(),
            permit: self.permit,
            failures: 0,
            cut_short: 0,
        };
        loop {
            while !worker.may_connect() {
                if worker.pause(LOOK).await.is_stopped() {
                    return;
                }
            }
            let end = worker.connection().await;
            worker.counters.connected.store(false, Relaxed);
            worker.counters.subscribed.store(0, Relaxed);
            worker.counters.unacknowledged.store(0, Relaxed);
            worker.counters.oldest.store(0, Relaxed);
            worker.session_state.disconnected(worker.clock.now().boot);
            if worker.stop.is_cancelled() || worker.handover.is_closed() || matches!(end, End::Finished) {
                worker.keep();
                return;
            }
            let pause = worker.account(&end);
            if worker.pause(pause).await.is_stopped() {
                return;
            }
        }
    }
}

/// Why a connection ended, as far as the next attempt cares.
#[derive(Debug)]
enum End {
    /// We left, or were told to stop before there was anything to leave.
    Finished,
    /// The certificates or options cannot be used.
    Setup(SetupError),
    /// The broker does not accept our login or id.
    Refused(ConnectReturnCode),
    /// Another client connected with our id, says the broker.
    TakenOver,
    /// The broker closed a young connection without saying why; mosquitto 2.0 does so when our id is taken over.
    CutShort(String),
    /// Everything that may be better in a moment.
    Lost(String),
    /// A receipt was dropped unspent: its message has to be fetched again.
    Abandoned,
    /// Messages were left with the broker and there is room for them now.
    Shed,
}

/// The connection cannot even be tried.
#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error("cannot read {path}: {fault}")]
    File { path: PathBuf, fault: io::Error },
    #[error("{path} holds no usable PEM: {fault}")]
    Pem { path: PathBuf, fault: rustls::pki_types::pem::Error },
    #[error("the client certificate cannot be used: {0}")]
    Certificate(rustls::Error),
    #[error("TLS cannot be set up: {0}")]
    Tls(rumqttc::TlsError),
    #[error("the client cannot be set up: {0}")]
    Client(String),
}

/// What already says why nothing is acknowledged.
const EXCUSES: [ConditionKind; 4] = [
    ConditionKind::DatabaseUnavailable,
    ConditionKind::ClockNotSet,
    ConditionKind::SpoolFull,
    ConditionKind::SpoolUnavailable,
];

/// Did a wait end because we were told to stop?
#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitEnd {
    Whole,
    Stopped,
}

impl WaitEnd {
    fn is_stopped(self) -> bool {
        self == Self::Stopped
    }
}

/// What lives as long as the process.
struct Worker {
    settings: settings::Mqtt,
    sources: Vec<Arc<Mapping>>,
    filters: Vec<String>,
    clock: Clock,
    handover: DeliveryQueue,
    health: Health,
    counters: Arc<MqttCounters>,
    session_state: SessionState,
    stop: CancellationToken,
    drained: CancellationToken,
    /// The broker has kept a session for us, in this process or an earlier one.
    had_session: bool,
    permit: Option<LeasePermit>,
    session_file: Option<PathBuf>,
    /// What stands in that file.
    kept: Option<SessionFile>,
    watch: Watch,
    /// Attempts in a row that did not lead to a stable connection.
    failures: u32,
    /// Young connections in a row that the broker closed without a reason.
    cut_short: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LinkPhase {
    /// Not accepted yet.
    Connecting,
    /// Messages come in.
    Open,
    /// Intake has ended, acknowledgements go out.
    Stopping,
    /// The last acknowledgements are on their way, then DISCONNECT.
    Leaving,
}

/// What lives as long as one connection.
struct BrokerConnection {
    client: AsyncClient,
    /// Acknowledgements with their packet ids, and when their messages came.
    window: Arc<AckWindow<(u16, ManualAck, BootTime)>>,
    look: Interval,
    /// How many acknowledgements had gone out when one last did, or none was owed, and when that was.
    progress: (u64, BootTime),
    phase: LinkPhase,
    /// When a message last came, or the broker let us in.
    came: BootTime,
    /// How much longer it may go unread.
    pause_budget: PauseBudget,
    /// Messages of QoS 1 are left with the broker. All of them from the first on, which keeps acknowledgements in order.
    shedding: bool,
    /// Set at CONNACK to [`STABLE`], then to [`LOST_SHOWN`].
    settle: Pin<Box<Sleep>>,
    settled: bool,
    /// What the broker was asked to unsubscribe, in the order of its answer.
    unwanted: Vec<String>,
    /// Why we leave.
    farewell: End,
}

impl Worker {
    /// One connection from setup to end.
    async fn connection(&mut self) -> End {
        let (client, mut eventloop) = match client(&self.settings).await {
            Ok(made) => made,
            Err(fault) => return End::Setup(fault),
        };
        let (sender, counters) = (client.clone(), Arc::clone(&self.counters));
        let (session_state, clock) = (self.session_state.clone(), self.clock.clone());
        let window = AckWindow::new(move |(packet, acknowledgement, _)| {
            // Fails only when the connection is gone; the broker delivers the message again.
            if sender.try_manual_ack(acknowledgement).is_ok() {
                session_state.acknowledged(packet, clock.now().boot);
                add(&counters.acknowledged, 1);
            } else {
                add(&counters.stale, 1);
            }
        });
        let mut link = BrokerConnection {
            client,
            window,
            look: tokio::time::interval(LOOK),
            progress: (0, self.clock.now().boot),
            came: self.clock.now().boot,
            phase: LinkPhase::Connecting,
            pause_budget: PauseBudget::new(LONGEST_PAUSE),
            shedding: false,
            settle: Box::pin(tokio::time::sleep(STABLE)),
            settled: false,
            unwanted: Vec::new(),
            farewell: End::Finished,
        };
        loop {
            match self.next(&mut eventloop, &mut link).await {
                Ok(event) => self.handle(event, &mut link),
                Err(end) => return end,
            }
            if self.has_caught_up(&link) {
                self.leave(&mut link, End::Shed);
            }
            if self.handover.is_closed() && link.phase == LinkPhase::Open {
                tracing::error!("nobody reads the door messages any more; leaving them with the broker");
                link.phase = LinkPhase::Stopping;
            }
        }
    }

    fn may_connect(&self) -> bool {
        let now = self.clock.now().boot;
        self.permit.as_ref().is_none_or(|permit| permit.holds(now))
    }

    /// Were messages left with the broker, and is everything before them committed and acknowledged?
    fn has_caught_up(&self, link: &BrokerConnection) -> bool {
        link.shedding && link.phase == LinkPhase::Open && self.handover.held.is_empty() && link.window.is_settled()
    }

    /// Is nothing to be read, because there is no room for it?
    fn is_full(&self, link: &BrokerConnection) -> bool {
        link.phase == LinkPhase::Open && !link.shedding && !self.handover.is_closed() && self.handover.is_full()
    }

    /// The next event of the connection. Meanwhile held messages are handed over, and the wishes to stop are heard.
    ///
    /// The poll is never dropped before it is done, unless the connection ends with it.
    async fn next(&mut self, eventloop: &mut EventLoop, link: &mut BrokerConnection) -> Result<Event, End> {
        let mut poll = pin!(eventloop.poll());
        loop {
            let full = self.is_full(link);
            if full {
                link.pause_budget.spend();
            }
            let pauses = full && !link.pause_budget.is_over();
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if link.has_intake() => {
                    self.handover.close();
                    if link.phase == LinkPhase::Connecting {
                        return Err(End::Finished);
                    }
                    link.phase = LinkPhase::Stopping;
                }
                () = self.drained.cancelled(), if link.phase == LinkPhase::Stopping => self.leave(link, End::Finished),
                () = link.window.abandoned().cancelled(), if link.phase == LinkPhase::Open && !self.handover.is_closed() => {
                    self.leave(link, End::Abandoned);
                }
                _ = link.look.tick() => self.look(link),
                () = &mut link.settle, if link.phase == LinkPhase::Open => self.settle(link),
                () = self.handover.forward(), if !self.handover.held.is_empty() => {
                    if self.has_caught_up(link) {
                        self.leave(link, End::Shed);
                    }
                }
                () = link.pause_budget.end(), if pauses => {
                    tracing::debug!("the pipeline stands still; reading the connection for its own sake");
                }
                event = &mut poll, if !pauses => return event.map_err(|fault| end_of(&fault, link)),
            }
        }
    }

    /// Notes how many messages wait for their acknowledgement, and names a stall: somebody holds receipts for ever.
    fn look(&mut self, link: &mut BrokerConnection) {
        let now = self.clock.now().boot;
        let (count, came) = link.window.owed(|count, oldest| (count, oldest.map(|(_, _, came)| *came)));
        let oldest = came.map_or(Duration::ZERO, |came| now.since(came));
        self.counters.unacknowledged.store(count as u64, Relaxed);
        self.counters.oldest.store(oldest.as_secs(), Relaxed);
        let acknowledged = self.counters.acknowledged.load(Relaxed);
        self.rest(link, now);
        self.counters.waited.store(self.session_state.waited(now).as_secs(), Relaxed);
        for finding in self.watch.look(now) {
            self.tell(finding);
        }
        let known = EXCUSES.into_iter().any(|kind| self.health.is_raised(kind, ""));
        if count == 0 || acknowledged != link.progress.0 || known {
            link.progress = (acknowledged, now);
            self.health.clear(ConditionKind::AcknowledgementsStalled, "");
        } else if now.since(link.progress.1) >= STALL {
            let detail = format!(
                "{count} door messages wait, the oldest for {} seconds, and nothing is acknowledged though the database \
                 takes what is written; restart checkind, nothing is lost by that",
                oldest.as_secs()
            );
            self.health.raise(ConditionKind::AcknowledgementsStalled, "", detail);
        }
    }

    /// Has the broker nothing more for us?
    fn rest(&mut self, link: &BrokerConnection, now: BootTime) {
        let is_quiet = link.phase == LinkPhase::Open
            && !link.shedding
            && now.since(link.came) >= QUIET
            && self.handover.held.is_empty()
            && link.window.is_settled();
        if !is_quiet {
            return;
        }
        self.session_state.caught_up(now);
        let wall = self.clock.now().wall;
        let is_old = |kept: &SessionFile| kept.caught_up.is_none_or(|known| known.distance(wall) >= KEEP_EVERY);
        if self.kept.as_ref().is_some_and(is_old) {
            self.keep();
        }
    }

    fn tell(&self, SourceFinding { kind, subject, detail }: SourceFinding) {
        match detail {
            Some(detail) => self.health.raise(kind, &subject, detail),
            None => self.health.clear(kind, &subject),
        }
    }

    fn handle(&mut self, event: Event, link: &mut BrokerConnection) {
        match event {
            Event::Incoming(Incoming::Publish(publish)) => self.received(&publish, link),
            Event::Incoming(Incoming::ConnAck(answer)) => self.connected(&answer, link),
            Event::Incoming(Incoming::SubAck(answer)) => self.subscribed(&answer, link),
            Event::Incoming(Incoming::UnsubAck(answer)) => self.unsubscribed(&answer, link),
            Event::Outgoing(_) => link.pause_budget.renew(),
            Event::Incoming(_) | Event::Auth(_) => {}
        }
    }

    fn connected(&mut self, answer: &ConnAck, link: &mut BrokerConnection) {
        link.phase = LinkPhase::Open;
        link.came = self.clock.now().boot;
        link.settle.set(tokio::time::sleep(STABLE));
        self.counters.connected.store(true, Relaxed);
        add(&self.counters.connects, 1);
        self.health.clear(ConditionKind::BrokerUnavailable, "");
        let resumed = answer.session_present;
        tracing::info!(host = self.settings.host, port = self.settings.port, resumed, "connected to the broker");
        if !resumed {
            self.session_state.session_is_new();
            self.session_state.caught_up(link.came);
        }
        if resumed {
            self.health.clear(ConditionKind::SessionLost, "");
        } else if self.had_session {
            let detail = "the broker had forgotten our session, door events sent meanwhile are lost; give the broker \
                          persistence, and let no other client use our client id";
            self.health.raise(ConditionKind::SessionLost, "", detail);
        }
        let keep_alive = answer.properties.as_ref().and_then(|properties| properties.server_keep_alive);
        // Zero: the broker waits for ever.
        if let Some(seconds) = keep_alive.filter(|seconds| *seconds > 0) {
            link.pause_budget = PauseBudget::new(LONGEST_PAUSE.min(Duration::from_secs(seconds.into()) / 4));
        }
        let granted = answer.properties.as_ref().and_then(|properties| properties.session_expiry_interval);
        if let Some(seconds) = granted.filter(|seconds| u64::from(*seconds) < SESSION_EXPIRY.as_secs()) {
            tracing::warn!(seconds, "the broker keeps our session for a shorter time than asked");
        }
        link.unwanted = self.session_state.unwanted(&self.filters);
        if !link.unwanted.is_empty()
            && let Err(fault) = link.client.try_unsubscribe_many(link.unwanted.iter().cloned())
        {
            tracing::warn!(%fault, "topics that are not wanted any more stay subscribed");
        }
        // Again on every connection: it costs nothing when the session has them, and mends a session that has lost them
        // or was made with other settings.
        self.subscribe(link);
    }

    /// Sends the acknowledgements that are due, then DISCONNECT. From here on what comes in is thrown away.
    ///
    /// Between the two goes SUBSCRIBE once more. Its answer, for which the library waits before it disconnects, says that
    /// the broker has read the acknowledgements: while messages come in, closing the connection resets it, and a
    /// broker that sees that first drops what it has not read.
    fn leave(&self, link: &mut BrokerConnection, farewell: End) {
        link.phase = LinkPhase::Leaving;
        link.farewell = farewell;
        self.subscribe(link);
        // The queue has room for it, see REQUESTS; if it had not, the keep-alive would end the connection.
        if let Err(fault) = link.client.try_disconnect_with_timeout(LEAVE) {
            tracing::warn!(%fault, "cannot take leave of the broker");
        }
    }

    /// Subscribes to everything, in one packet. Only a subscription that is new brings retained messages.
    fn subscribe(&self, link: &BrokerConnection) {
        if self.filters.is_empty() {
            return;
        }
        let filters = self.filters.iter().map(|path| SubscribeFilter {
            path: path.clone(),
            qos: QoS::AtLeastOnce,
            nolocal: false,
            preserve_retain: false,
            retain_forward_rule: RetainForwardRule::OnNewSubscribe,
        });
        if let Err(fault) = link.client.try_subscribe_many(filters) {
            self.health.raise(ConditionKind::SubscriptionRefused, "", fault);
        }
    }

    fn subscribed(&mut self, answer: &SubAck, link: &BrokerConnection) {
        if link.phase == LinkPhase::Leaving {
            return;
        }
        let mut granted = 0;
        for (filter, code) in self.filters.iter().zip(&answer.return_codes) {
            let SubscribeReasonCode::Success(qos) = code else {
                let detail = format!("the broker refuses the topic {filter}: {code:?}; check its access rules");
                self.health.raise(ConditionKind::SubscriptionRefused, filter, detail);
                continue;
            };
            granted += 1;
            self.health.clear(ConditionKind::SubscriptionRefused, filter);
            if *qos == QoS::AtMostOnce {
                tracing::warn!(
                    topic = filter,
                    "the broker grants only QoS 0: it keeps nothing for us while we are away"
                );
            }
        }
        self.had_session = true;
        self.session_state.subscribed(&self.filters);
        self.keep();
        self.health.clear(ConditionKind::SubscriptionRefused, "");
        self.counters.subscribed.store(granted, Relaxed);
        tracing::info!(granted, wanted = self.filters.len(), "subscribed to the topics of the doors");
    }

    /// Writes down for the next process that there is a session, and what it is subscribed to.
    fn keep(&mut self) {
        let now = self.clock.now();
        let waited = self.session_state.waited(now.boot);
        let caught_up = (waited < SESSION_EXPIRY).then(|| now.wall.minus(waited));
        let kept = SessionFile::new(&self.settings, &self.session_state.filters(), caught_up);
        if let Some(path) = &self.session_file
            && self.kept.as_ref() != Some(&kept)
        {
            kept.write(path);
            self.kept = Some(kept);
        }
    }

    fn unsubscribed(&mut self, answer: &UnsubAck, link: &mut BrokerConnection) {
        let unwanted = std::mem::take(&mut link.unwanted);
        for (filter, reason) in unwanted.iter().zip(&answer.reasons) {
            match reason {
                UnsubAckReason::Success | UnsubAckReason::NoSubscriptionExisted => {
                    tracing::info!(topic = filter, "unsubscribed from a topic that is not wanted any more");
                }
                UnsubAckReason::UnspecifiedError
                | UnsubAckReason::ImplementationSpecificError
                | UnsubAckReason::NotAuthorized
                | UnsubAckReason::TopicFilterInvalid
                | UnsubAckReason::PacketIdentifierInUse => {
                    tracing::warn!(
                        topic = filter,
                        ?reason,
                        "the broker keeps a subscription that is not wanted any more"
                    );
                }
            }
        }
        // Not asked again where it was refused: the answer would be the same.
        self.session_state.unsubscribed(&unwanted);
        self.keep();
    }

    fn received(&mut self, publish: &Publish, link: &mut BrokerConnection) {
        // Without intake nothing is acknowledged, so the broker keeps it.
        if link.phase != LinkPhase::Open {
            return;
        }
        add(&self.counters.received, 1);
        add(&self.counters.bytes, publish.payload.len());
        add(&self.counters.redelivered, usize::from(publish.dup));
        let acknowledgement = link.client.prepare_ack(publish);
        let broker_keeps_it = acknowledgement.is_some();
        let now = self.clock.now();
        self.rest(link, now.boot);
        link.came = now.boot;
        let arrived = if broker_keeps_it {
            let said = MessageDigest::new(&publish.topic, &publish.payload);
            self.session_state.arrival(publish.pkid, publish.dup, said, now)
        } else {
            FirstArrival { at: now, waited: self.session_state.waited(now.boot) }
        };
        if self.handover.is_full() || (link.shedding && broker_keeps_it) {
            link.shedding |= broker_keeps_it;
            self.handover.leave_out(broker_keeps_it);
            return;
        }
        let (source, content) = self.content(publish, arrived);
        let receipt = acknowledgement.map_or_else(Receipt::none, |acknowledgement| {
            link.window.receipt((publish.pkid, acknowledgement, now.boot))
        });
        self.handover.offer(Delivery { source, content, receipt });
    }

    fn content(&mut self, publish: &Publish, arrived: FirstArrival) -> (Arc<str>, Content) {
        let topic = String::from_utf8_lossy(&publish.topic);
        let Some(mapping) = route(&self.sources, &topic) else {
            let rejection = reject(RejectReason::UnknownTopic, &topic, &publish.payload);
            return (Arc::from(UNCLAIMED), Content::Rejected(rejection));
        };
        let FirstArrival { at, waited } = arrived;
        let meta = Meta { retained: publish.retain, waited };
        let Mapped { content, clocks } = mapping.map(&topic, &publish.payload, meta, at);
        let name = Arc::clone(&mapping.name);
        // A copy says nothing new of its controller.
        if let Content::Sightings(sightings) = &content
            && !publish.retain
        {
            let counters = || self.counters.of_source(&name);
            let found = self.watch.saw(mapping, (sightings, &clocks), (at, waited), counters);
            for finding in found {
                self.tell(finding);
            }
        }
        (name, content)
    }

    /// The connection has lasted.
    fn settle(&mut self, link: &mut BrokerConnection) {
        self.failures = 0;
        self.cut_short = 0;
        self.health.clear(ConditionKind::SessionTakenOver, "");
        if link.settled {
            self.health.clear(ConditionKind::SessionLost, "");
        }
        link.settled = true;
        link.settle.set(tokio::time::sleep(LOST_SHOWN));
    }

    /// Says what ended the connection; gives the pause before the next attempt.
    fn account(&mut self, end: &End) -> Duration {
        add(&self.counters.failures, 1);
        let host = format!("{}:{}", self.settings.host, self.settings.port);
        let unavailable = |detail: String| self.health.raise(ConditionKind::BrokerUnavailable, "", detail);
        let pause = match end {
            End::Setup(fault) => {
                unavailable(fault.to_string());
                SLOW_BACKOFF.pause(self.failures)
            }
            End::Refused(code) => {
                unavailable(format!(
                    "the broker at {host} refuses us: {code:?}; check client_id, username and password"
                ));
                SLOW_BACKOFF.pause(self.failures)
            }
            End::TakenOver => {
                let id = &self.settings.client_id;
                let detail = format!("another client uses the client id \"{id}\"; every gateway needs one of its own");
                self.health.raise(ConditionKind::SessionTakenOver, "", &detail);
                unavailable(detail);
                random::jittered(TAKEN_OVER)
            }
            End::CutShort(fault) if self.cut_short + 1 < FIGHT => {
                unavailable(format!("the broker at {host} closed the connection: {fault}"));
                BACKOFF.pause(self.failures)
            }
            End::CutShort(_) => {
                let id = &self.settings.client_id;
                let detail = format!(
                    "the broker closes our connections without a reason, which it does when another client uses the \
                     client id \"{id}\"; every gateway needs one of its own"
                );
                self.health.raise(ConditionKind::SessionTakenOver, "", &detail);
                unavailable(detail);
                random::jittered(TAKEN_OVER)
            }
            End::Lost(fault) => {
                unavailable(format!("no connection to the broker at {host}: {fault}"));
                BACKOFF.pause(self.failures)
            }
            End::Abandoned => {
                tracing::info!("door messages were given back unread; connecting anew to fetch them");
                BACKOFF.pause(self.failures)
            }
            End::Shed => {
                tracing::info!("the backlog is gone; connecting anew to fetch what was left with the broker");
                return Duration::ZERO;
            }
            End::Finished => Duration::ZERO,
        };
        self.failures = self.failures.saturating_add(1);
        match end {
            End::CutShort(_) => self.cut_short = self.cut_short.saturating_add(1),
            // Where nobody listens, nobody fights for our id: the broker itself was away.
            End::Lost(_) => self.cut_short = 0,
            End::Finished | End::Setup(_) | End::Refused(_) | End::TakenOver | End::Abandoned | End::Shed => {}
        }
        pause
    }

    /// Waits, and meanwhile hands over what is held.
    async fn pause(&mut self, span: Duration) -> WaitEnd {
        let mut sleep = pin!(tokio::time::sleep(span));
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return WaitEnd::Stopped,
                () = self.handover.forward(), if !self.handover.held.is_empty() => {}
                () = &mut sleep => return WaitEnd::Whole,
            }
        }
    }
}

/// The way to the pipeline: the bounded queue, and what waits for room in it.
struct DeliveryQueue {
    /// None once intake has ended.
    deliveries: Option<mpsc::Sender<Delivery>>,
    held: VecDeque<Delivery>,
    /// Sightings in `held`, each message at least one.
    weight: usize,
    /// How many messages were left out since that was logged; none while there is room.
    left_out: Option<u64>,
    counters: Arc<MqttCounters>,
}

impl DeliveryQueue {
    fn new(deliveries: mpsc::Sender<Delivery>, counters: Arc<MqttCounters>) -> Self {
        Self { deliveries: Some(deliveries), held: VecDeque::new(), weight: 0, left_out: None, counters }
    }

    /// Has intake ended, by our wish or because the pipeline is gone?
    const fn is_closed(&self) -> bool {
        self.deliveries.is_none()
    }

    const fn is_full(&self) -> bool {
        self.weight >= MOST_HELD
    }

    /// Hands over, or holds until there is room.
    fn offer(&mut self, delivery: Delivery) {
        let Some(queue) = self.deliveries.clone() else {
            return self.leave(&delivery);
        };
        let room = if self.held.is_empty() { queue.try_reserve() } else { Err(TrySendError::Full(())) };
        match room {
            Ok(room) => {
                self.counters.count(&delivery.content);
                room.send(delivery);
            }
            Err(TrySendError::Full(())) => {
                self.weight += weight(&delivery);
                self.held.push_back(delivery);
                self.counters.held.store(self.held.len() as u64, Relaxed);
            }
            Err(TrySendError::Closed(())) => {
                self.leave(&delivery);
                self.close();
            }
        }
    }

    /// Waits for room and hands over the oldest. Nothing is taken before there is room, so this may be dropped.
    async fn forward(&mut self) {
        let Some(queue) = &self.deliveries else {
            return self.close();
        };
        let Ok(room) = queue.reserve().await else {
            return self.close();
        };
        if let Some(delivery) = self.held.pop_front() {
            self.weight = self.weight.saturating_sub(weight(&delivery));
            self.counters.held.store(self.held.len() as u64, Relaxed);
            self.counters.count(&delivery.content);
            room.send(delivery);
        }
        if self.held.is_empty()
            && let Some(left_out) = self.left_out.take()
        {
            tracing::info!(left_out, "door messages are read again");
        }
    }

    /// A message for which there is no room.
    fn leave_out(&mut self, broker_keeps_it: bool) {
        if self.left_out.is_none() {
            tracing::warn!(
                held = self.held.len(),
                "too many door messages wait for the database; leaving out the next"
            );
        }
        *self.left_out.get_or_insert(0) += 1;
        add(if broker_keeps_it { &self.counters.shed } else { &self.counters.dropped }, 1);
    }

    /// A message that nobody will be given.
    fn leave(&self, delivery: &Delivery) {
        let left = if delivery.receipt.acknowledges() { &self.counters.shed } else { &self.counters.dropped };
        add(left, 1);
    }

    /// Ends intake; the pipeline sees the end of the queue once it has read what is in it. What is still held is left
    /// with the broker.
    fn close(&mut self) {
        self.deliveries = None;
        for delivery in std::mem::take(&mut self.held) {
            self.leave(&delivery);
        }
        self.weight = 0;
        self.counters.held.store(0, Relaxed);
    }
}

fn weight(delivery: &Delivery) -> usize {
    match &delivery.content {
        Content::Sightings(sightings) => sightings.len().max(1),
        Content::Ignored | Content::Rejected(_) => 1,
    }
}

impl BrokerConnection {
    fn has_intake(&self) -> bool {
        matches!(self.phase, LinkPhase::Connecting | LinkPhase::Open)
    }
}

fn end_of(fault: &ConnectionError, link: &mut BrokerConnection) -> End {
    if link.phase == LinkPhase::Leaving {
        return std::mem::replace(&mut link.farewell, End::Finished);
    }
    if let ConnectionError::ConnectionRefused(code) = fault {
        return if needs_a_person(*code) { End::Refused(*code) } else { End::Lost(format!("refused: {code:?}")) };
    }
    if let ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) = fault
        && *reason_code == DisconnectReasonCode::SessionTakenOver
    {
        return End::TakenOver;
    }
    if let ConnectionError::MqttState(StateError::ConnectionAborted | StateError::Io(_)) = fault
        && link.phase == LinkPhase::Open
        && !link.settled
    {
        return End::CutShort(fault.to_string());
    }
    End::Lost(fault.to_string())
}

fn needs_a_person(code: ConnectReturnCode) -> bool {
    matches!(
        code,
        ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::NotAuthorized
            | ConnectReturnCode::Banned
            | ConnectReturnCode::BadAuthenticationMethod
            | ConnectReturnCode::BadClientId
            | ConnectReturnCode::ClientIdentifierNotValid
            | ConnectReturnCode::RefusedProtocolVersion
            | ConnectReturnCode::UnsupportedProtocolVersion
    )
}

/// A client that has not connected yet.
async fn client(settings: &settings::Mqtt) -> Result<(AsyncClient, EventLoop), SetupError> {
    let address = (settings.host.clone(), settings.port);
    let mut options = MqttOptions::new(settings.client_id.clone(), address);
    options
        .set_keep_alive(KEEP_ALIVE_SECONDS)
        .set_connect_timeout(CONNECT_TIMEOUT)
        .set_clean_start(false)
        .set_session_expiry_interval(Some(u32::try_from(SESSION_EXPIRY.as_secs()).unwrap_or(u32::MAX)))
        .set_receive_maximum(Some(RECEIVE_MAXIMUM))
        .set_max_packet_size(Some(LARGEST_PACKET))
        .set_ack_mode(AckMode::Manual)
        .set_outgoing_inflight_upper_limit(OUTGOING)
        .set_max_request_batch(AT_ONCE)
        .set_session_store(NothingOutgoing);
    if let Some((username, password)) = &settings.login {
        options.set_credentials(username.clone(), password.expose_secret().to_owned());
    }
    if let Some(tls) = &settings.tls {
        options.set_transport(transport(tls).await?);
    }
    let built = AsyncClient::builder(options).capacity(REQUESTS).try_build();
    built.map_err(|fault| SetupError::Client(fault.to_string()))
}

/// Reads the certificates, at each connection: renewed ones are picked up without a restart.
async fn transport(tls: &Tls) -> Result<Transport, SetupError> {
    let client = match &tls.client {
        Some((certificate, key)) => Some((read(certificate).await?, read(key).await?)),
        None => None,
    };
    if let Some(path) = &tls.ca_file {
        let ca = read(path).await?;
        if let Err(fault) = CertificateDer::from_pem_slice(&ca) {
            return Err(SetupError::Pem { path: path.clone(), fault });
        }
        return Ok(Transport::tls(ca, client, None));
    }
    let configuration = TlsConfiguration::try_default_rustls().map_err(SetupError::Tls)?;
    match (configuration, client, &tls.client) {
        (TlsConfiguration::Rustls(config), Some((chain, key)), Some((chain_path, key_path))) => {
            let pem = |path: &Path, fault| SetupError::Pem { path: path.to_owned(), fault };
            let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>();
            let chain = chain.map_err(|fault| pem(chain_path, fault))?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|fault| pem(key_path, fault))?;
            let mut config = (*config).clone();
            let certified =
                CertifiedKey::from_der(chain, key, config.crypto_provider()).map_err(SetupError::Certificate)?;
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
            Ok(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))))
        }
        (configuration, _, _) => Ok(Transport::tls_with_config(configuration)),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, SetupError> {
    tokio::fs::read(path).await.map_err(|fault| SetupError::File { path: path.to_owned(), fault })
}

/// How many messages of ours may be under way: we publish none here, and the library makes its tables of this size.
const OUTGOING: u16 = 4;

/// Tells the client library that this side of the session has nothing under way.
///
/// A broker that has kept our session while we were restarted is right to resume it. The library refuses that, or
/// refuses every later SUBSCRIBE, unless it is shown the client's half of the session (MQTT 5, 3.2.2-4). Ours is always
/// empty: we publish nothing, and unacknowledged receives of QoS 1 are the broker's half.
#[derive(Debug)]
struct NothingOutgoing;

impl SessionStore for NothingOutgoing {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> StoreFuture<'a, Option<PersistedSession>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: None,
            outgoing_inflight_upper_limit: Some(OUTGOING),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(std::future::ready(Ok(Some(session))))
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> StoreFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> StoreFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;
