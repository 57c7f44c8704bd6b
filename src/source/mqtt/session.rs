//! The broker session. Only the files of this folder name the MQTT client library.
//!
//! One task polls the connection. It maps what it receives and puts it into the bounded queue to the pipeline. What
//! commits comes back as a spent receipt and becomes an acknowledgement. [`life`] decides what an event means for the
//! connection, and when the next one is tried; the other files carry that out.
//!
//! **What is promised.** A message of QoS 1 is acknowledged after its receipt was spent and not before, in the order of
//! arrival, on the connection that it came on. The broker delivers everything else again on the next connection, which
//! is the only way that the protocol has. The session is persistent ([`SESSION_EXPIRY`]), so the broker queues messages
//! of QoS 1 while we are away. Messages of QoS 0 that were sent while we were away are lost.
//!
//! **When the pipeline is slow.** The queue fills, then up to [`MOST_HELD`] sightings are held here, and then the connection
//! is not polled until there is room, so TCP makes the broker wait. Its window of unacknowledged messages would do the
//! same, but some brokers overrun it (mosquitto 2.0 does).
//!
//! That pause is safe, although the connection's task waits for the application in it:
//! * *It cannot deadlock.* The pipeline never waits for this task: a receipt is spent into a queue that cannot be full
//!   (`REQUESTS`), so room comes as soon as a batch has committed, and the acknowledgements of that batch go out then.
//!   During the pause the task also waits for everything else that may happen (a stop request, dropped receipts, a
//!   pipeline that is gone), and any of it ends the pause. The poll is not dropped; it waits in the middle of its work.
//! * *It cannot cost the connection.* The broker closes the connection when it gets nothing for one and a half
//!   keep-alives. A ping is due one keep-alive after what went out last, so a pause may delay it by less than half of
//!   one. From the first pause until something of ours went out no more than `LONGEST_PAUSE` passes, half of that.
//!
//! **When the pipeline is stalled**, because the database is away or the disk hangs, the pause budget runs out. The
//! connection is read on, for hours if need be, so pings go out and this task waits for nothing. Messages of QoS 1 are
//! left with the broker, unread and unacknowledged, and fetched by a new connection when the backlog is cleared.
//! Messages of QoS 0 are dropped and counted.
//!
//! **Each connection starts fresh**, with a new client, newly read certificates and a new window of receipts, so nothing
//! of an old connection can leak into it. What has to outlast a connection is in the [`SessionState`].
//!
//! [`SESSION_EXPIRY`]: super::session_state::SESSION_EXPIRY

mod client;
mod connection;
mod context;
mod delivery_queue;
mod life;
mod tls;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::{context::UNCLAIMED, delivery_queue::MOST_HELD};
use self::{
    context::{SessionContext, WaitEnd},
    delivery_queue::DeliveryQueue,
    life::{AttemptStreak, ConnectionEnd},
};
use super::{
    counters::{MqttCounters, add},
    session_file::SessionFile,
    session_state::SessionState,
    watch::{self, Watch},
};
use crate::{
    base::{clock::Clock, health::Health, permit::LeasePermit, random},
    mapping::Mapping,
    settings,
    source::Delivery,
};

/// How often a gateway without the lease checks whether it may connect.
const PERMIT_CHECK: Duration = Duration::from_secs(1);

/// The broker session and what it works with.
///
/// Ends in two steps. When `stop` is cancelled, intake ends at once: the queue to the pipeline is closed (held
/// deliveries are left with the broker), and only acknowledgements go out. When `drained` is cancelled too, because no
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
    /// What earlier sessions of this process left behind; give the next one the same.
    pub session_state: SessionState,
    /// The file that tells the next process that there was a session; none to do without.
    pub session_file: Option<PathBuf>,
    /// Where a site has two gateways, only the one with the lease connects; none where there is one gateway.
    pub permit: Option<LeasePermit>,
    /// Ends intake.
    pub stop: CancellationToken,
    /// Ends the connection.
    pub drained: CancellationToken,
}

impl Session {
    /// Connects, and connects again after each end of a connection, until it has to stop. Never fails: faults become
    /// conditions, and the next attempt follows. When the pipeline drops its end of the queue, messages are left with
    /// the broker, and this returns at the next end of the connection.
    pub async fn run(self) {
        let mut context = self.prepare().await;
        loop {
            while !context.may_connect() {
                if context.wait(PERMIT_CHECK).await == WaitEnd::Stopped {
                    return;
                }
            }
            let (end, fault) = connection::run(&mut context).await;
            context.disconnected();
            if context.stop.is_cancelled() || context.queue.is_closed() || end == ConnectionEnd::Finished {
                context.save();
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

    /// Takes up what earlier sessions left, and clears their conditions.
    async fn prepare(self) -> SessionContext {
        let filters: BTreeSet<String> = self.sources.iter().flat_map(|source| source.filters()).collect();
        self.counters.topics.store(filters.len() as u64, Relaxed);
        self.session_state.belongs_to(&self.settings);
        let saved = match &self.session_file {
            Some(path) => SessionFile::read(path, &self.settings).await,
            None => None,
        };
        if let Some(saved) = &saved {
            self.session_state.subscribed(&saved.filters);
            let now = self.clock.now().wall;
            // One in the future was written by a clock that was wrong, or this clock is.
            if let Some(caught_up) = saved.caught_up.filter(|caught_up| *caught_up <= now) {
                self.session_state.was_away(now.since(caught_up));
            }
        }
        for kind in watch::KINDS {
            self.health.clear_kind(kind);
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
            permit: self.permit,
            had_session: saved.is_some(),
            session_file: self.session_file,
            saved,
            watch: Watch::default(),
            streak: AttemptStreak::default(),
        }
    }
}
