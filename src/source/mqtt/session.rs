//! The broker session. Only this file and its folder refer to the MQTT client library.
//!
//! One task polls the connection. It maps each message and puts the result into the bounded queue to the pipeline. Once
//! that is committed, its receipt is spent and the acknowledgement goes out. `life` decides what an event means for
//! the connection, and when to try the next one; the other files carry that out.
//!
//! **Guarantees.** A QoS 1 message is acknowledged only after its receipt was spent, in order of arrival, on the
//! connection that delivered it. The broker delivers everything else again on the next connection; the protocol has no
//! other way. The session is persistent ([`SESSION_EXPIRY`]), so the broker queues QoS 1 messages while we are
//! disconnected. QoS 0 messages sent meanwhile are lost.
//!
//! **When the pipeline is slow.** The queue fills, then up to [`MOST_HELD`] sightings are held here, and then the
//! connection is not polled until there is room, so TCP makes the broker wait. The limit on unacknowledged messages
//! would do the same, but some brokers exceed it (mosquitto 2.0 does).
//!
//! That pause is safe, although the connection's task waits for the application meanwhile:
//! * *It cannot deadlock.* The pipeline never waits for this task: spending a receipt adds to a queue that cannot be
//!   full (`REQUESTS`), so there is room again as soon as a batch has committed, and then the acknowledgements of that
//!   batch go out. During the pause the task also waits for everything else that can happen (a stop request, a dropped
//!   receipt, the end of the pipeline), and any of these ends the pause. The poll is not dropped; it stays suspended.
//! * *It cannot cost the connection.* The broker closes the connection when it receives nothing for one and a half
//!   keep-alives. A ping is due one keep-alive after the last packet that we sent, so a pause must delay it by less
//!   than half a keep-alive. From the first pause until we send something, at most `LONGEST_PAUSE` passes, which is
//!   less.
//!
//! **A connection that died without a word** shows only by silence. After a ping, SUBSCRIBE or UNSUBSCRIBE the broker
//! has a few seconds to send anything at all; otherwise a new connection follows.
//!
//! **When the pipeline is stalled**, because the database is unavailable or the disk hangs, the pause budget runs out.
//! Then the connection is read again, for hours if necessary, so pings go out and this task waits for nothing. QoS 1
//! messages are discarded unacknowledged, so the broker keeps them, and a new connection fetches them when the backlog
//! is cleared. QoS 0 messages are dropped and counted.
//!
//! **Each connection starts fresh**, with a new client, newly read certificates and a new window of receipts, so
//! nothing of an old connection can leak into it. State that must outlast a connection is in the [`SessionState`].
//!
//! [`SESSION_EXPIRY`]: super::session_state::SESSION_EXPIRY

mod client;
mod connection;
mod context;
mod delivery_queue;
mod filter;
mod life;
mod stream;
pub(crate) mod tls;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

pub use self::{context::UNCLAIMED, delivery_queue::MOST_HELD};
use self::{
    context::{SessionContext, WaitEnd},
    delivery_queue::DeliveryQueue,
    life::{AttemptStreak, ConnectionEnd},
};
use super::{
    counters::{MqttCounters, add},
    session_file::{SessionFile, SessionFileWriter},
    session_state::SessionState,
    watch::SourceFinding,
};
use crate::{
    base::{
        clock::Clock,
        health::{ConditionKind, Health},
        permit::LeasePermit,
        random,
        turns::Turn,
    },
    mapping::Mapping,
    settings,
    source::DeliverySender,
};

/// How often a gateway without the lease checks whether it may connect.
const PERMIT_CHECK: Duration = Duration::from_secs(1);

/// The conditions that a session raises. They outlive it: the next session clears what it finds to be over.
pub const CONDITIONS: [ConditionKind; 9] = [
    ConditionKind::BrokerUnavailable,
    ConditionKind::SubscriptionRefused,
    ConditionKind::SessionLost,
    ConditionKind::SessionTakenOver,
    ConditionKind::AcknowledgementsStalled,
    ConditionKind::ClockOffset,
    ConditionKind::TimeUnreadable,
    ConditionKind::KeysReused,
    ConditionKind::ReaderRepeats,
];

/// The broker session and everything it needs.
///
/// It ends in two steps. When `stop` is cancelled, intake ends at once: the queue to the pipeline is closed (held
/// deliveries are left with the broker), and only acknowledgements go out. When `drained` is cancelled as well, because
/// no more receipts will be spent, it sends the last acknowledgements, then DISCONNECT, and [`Session::run`] returns.
#[derive(Debug)]
pub struct Session {
    /// `[mqtt]`.
    pub settings: settings::Mqtt,
    /// The mappings of all `[[source]]` tables, in order.
    pub sources: Vec<Arc<Mapping>>,
    /// For arrival times.
    pub clock: Clock,
    /// The queue to the pipeline or the spool.
    pub deliveries: DeliverySender,
    /// Where conditions are raised.
    pub health: Health,
    /// Counts everything; [`MqttCounters::is_ready`] returns whether all subscriptions are granted.
    pub counters: Arc<MqttCounters>,
    /// The state that earlier sessions of this process left; pass the same to the next one.
    pub session_state: SessionState,
    /// The file that tells the next process about this session; `None` to work without one.
    pub session_file: Option<PathBuf>,
    /// Reports each turn of its task.
    pub turn: Turn,
    /// If the site has two gateways, only the one with the lease connects; `None` if it has one.
    pub permit: Option<LeasePermit>,
    /// Ends intake.
    pub stop: CancellationToken,
    /// Ends the connection.
    pub drained: CancellationToken,
}

impl Session {
    /// Connects, and reconnects whenever a connection ends, until it has to stop. Never fails: faults become
    /// conditions, and another attempt follows. When the pipeline drops its end of the queue, messages are left with
    /// the broker, and this returns when the connection ends.
    pub async fn run(self) {
        let mut context = self.prepare();
        Self::keep_connected(&mut context).await;
        context.session_state.keep_watch(context.watch);
    }

    async fn keep_connected(context: &mut SessionContext) {
        loop {
            while !context.may_connect() {
                if context.wait(PERMIT_CHECK).await == WaitEnd::Stopped {
                    return;
                }
            }
            let (end, fault) = connection::run(context).await;
            context.disconnected();
            if context.stop.is_cancelled() || context.queue.is_closed() || end == ConnectionEnd::Finished {
                context.save();
                if let Some(writer) = &mut context.session_file {
                    writer.finish().await;
                }
                return;
            }
            add(&context.counters.failures, 1);
            let (streak, retry) = context.streak.after(end);
            context.streak = streak;
            context.report(end, retry, &fault);
            if context.wait(random::jittered(retry.pause)).await == WaitEnd::Stopped {
                return;
            }
        }
    }

    /// Restores what earlier sessions left, and clears the conditions of topics and sources that are no longer
    /// configured.
    fn prepare(self) -> SessionContext {
        let filters: BTreeSet<String> = self.sources.iter().flat_map(|source| source.filters()).collect();
        self.counters.topics.store(filters.len() as u64, Relaxed);
        self.session_state.belongs_to(&self.settings);
        let saved = match &self.session_file {
            Some(path) => SessionFile::read(path, &self.settings),
            None => None,
        };
        if let Some(saved) = &saved {
            self.session_state.subscribed(&saved.filters);
            let now = self.clock.now().wall;
            // If it is in the future, the clock was wrong when it was written, or is wrong now.
            if let Some(caught_up) = saved.caught_up.filter(|caught_up| *caught_up <= now) {
                self.session_state.was_away(now.since(caught_up));
            }
        }
        // The subject "" stands for all topics.
        self.health.retain(ConditionKind::SubscriptionRefused, |filter| filter.is_empty() || filters.contains(filter));
        let mut watch = self.session_state.take_watch();
        for SourceFinding { kind, subject, .. } in watch.retain_sources(&self.sources) {
            self.health.clear(kind, &subject);
        }
        SessionContext {
            filters: filters.into_iter().collect(),
            queue: DeliveryQueue::new(self.deliveries, Arc::clone(&self.counters)),
            settings: self.settings,
            sources: self.sources,
            clock: self.clock,
            health: self.health,
            counters: self.counters,
            session_state: self.session_state,
            stop: self.stop,
            drained: self.drained,
            turn: self.turn,
            permit: self.permit,
            had_session: saved.is_some(),
            session_file: self.session_file.map(|path| SessionFileWriter::new(path, saved)),
            watch,
            streak: AttemptStreak::default(),
            stand_in: format!("checkind/malformed/{}", random::uuid()).into(),
            saw_malformed: false,
        }
    }
}
