//! The state that the broker session keeps from one connection to the next.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    delivery_queue::DeliveryQueue,
    filter::MalformedMessage,
    life::{AttemptStreak, ConnectionEnd, Retry},
};
use crate::{
    base::{
        clock::{BootTime, Clock},
        health::{ConditionKind, Health},
        permit::LeasePermit,
        plain::is_unruly,
        turns::Turn,
    },
    mapping::{
        Mapped, Mapping, Meta,
        content::{Content, RejectReason},
        reject, route,
    },
    settings,
    source::mqtt::{
        counters::MqttCounters,
        session_file::{SessionFile, SessionFileWriter},
        session_state::{FirstArrival, SESSION_EXPIRY, SessionState},
        watch::{SourceFinding, Watch},
    },
};

/// The source name of messages that no `[[source]]` claims.
pub const UNCLAIMED: &str = "mqtt";

/// How often the session file is updated while we are caught up. After a crash, the next process assumes that the
/// broker may have stored messages for up to this much longer than it really did.
const SAVE_EVERY: Duration = Duration::from_mins(10);

/// How a wait ended: after its whole span, or because we have to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitEnd {
    Whole,
    Stopped,
}

/// The state of the session's task.
pub(super) struct SessionContext {
    pub(super) settings: settings::Mqtt,
    pub(super) sources: Vec<Arc<Mapping>>,
    /// All topics of the sources.
    pub(super) filters: Vec<String>,
    pub(super) clock: Clock,
    pub(super) queue: DeliveryQueue,
    pub(super) health: Health,
    pub(super) counters: Arc<MqttCounters>,
    pub(super) session_state: SessionState,
    pub(super) stop: CancellationToken,
    pub(super) drained: CancellationToken,
    pub(super) turn: Turn,
    pub(super) permit: Option<LeasePermit>,
    /// Whether the broker has had a session for us, in this process or an earlier one.
    pub(super) had_session: bool,
    /// Writes what the next process must know of the session.
    pub(super) session_file: Option<SessionFileWriter>,
    pub(super) watch: Watch,
    pub(super) streak: AttemptStreak,
    /// The topic of a message that stands in for a malformed one: known to this session only, so no client can use it.
    pub(super) stand_in: Arc<str>,
    /// Whether a malformed message was logged; the others are only counted.
    pub(super) saw_malformed: bool,
}

impl SessionContext {
    pub(super) fn may_connect(&self) -> bool {
        let now = self.clock.now().boot;
        self.permit.as_ref().is_none_or(|permit| permit.holds(now))
    }

    /// Resets the gauges of a connection that has ended.
    pub(super) fn disconnected(&self) {
        self.counters.connected.store(false, Relaxed);
        self.counters.subscribed.store(0, Relaxed);
        self.counters.unacknowledged.store(0, Relaxed);
        self.counters.oldest.store(0, Relaxed);
        self.session_state.disconnected(self.clock.now().boot);
    }

    /// Reports how a connection ended.
    pub(super) fn report(&self, end: ConnectionEnd, retry: Retry, fault: &str) {
        let settings::Mqtt { host, port, client_id, .. } = &self.settings;
        let contested = |seen: String| {
            let detail = format!("{seen}; give each gateway a different client_id");
            self.health.raise(ConditionKind::SessionTakenOver, "", detail);
            format!("the broker at {host}:{port} closed the connection; see session_taken_over")
        };
        let detail = match end {
            ConnectionEnd::Setup => fault.to_owned(),
            ConnectionEnd::Refused => format!("the broker at {host}:{port} refused our login: {fault}"),
            ConnectionEnd::TakenOver => contested(format!("another client uses the client id \"{client_id}\"")),
            ConnectionEnd::CutShort if retry.is_contested => contested(format!(
                "the broker keeps closing our connections without a reason, as it does when another client uses the \
                 client id \"{client_id}\""
            )),
            ConnectionEnd::CutShort => format!("the broker at {host}:{port} closed the connection: {fault}"),
            ConnectionEnd::Lost => format!("no connection to the broker at {host}:{port}: {fault}"),
            ConnectionEnd::Abandoned => {
                return tracing::info!("door messages were returned unprocessed; reconnecting to fetch them again");
            }
            ConnectionEnd::Shed => {
                return tracing::info!(
                    "the backlog is cleared; reconnecting to fetch the messages left with the broker"
                );
            }
            ConnectionEnd::Finished => return,
        };
        self.health.raise(ConditionKind::BrokerUnavailable, "", detail);
    }

    /// Waits, and sends held deliveries to the pipeline meanwhile.
    pub(super) async fn wait(&mut self, span: Duration) -> WaitEnd {
        self.turn.rests(span);
        let mut sleep = pin!(tokio::time::sleep(span));
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return WaitEnd::Stopped,
                () = self.queue.forward(), if self.queue.is_waiting() => {}
                () = &mut sleep => return WaitEnd::Whole,
            }
        }
    }

    /// Records that the broker's backlog is empty.
    pub(super) fn caught_up(&mut self, now: BootTime) {
        self.session_state.caught_up(now);
        let wall = self.clock.now().wall;
        let is_old = |saved: &SessionFile| saved.caught_up.is_none_or(|known| known.distance(wall) >= SAVE_EVERY);
        if self.session_file.as_ref().and_then(SessionFileWriter::given).is_some_and(is_old) {
            self.save();
        }
    }

    /// Writes the session file for the next process, unless nothing in it has changed.
    pub(super) fn save(&mut self) {
        let now = self.clock.now();
        let waited = self.session_state.waited(now.boot);
        let caught_up = (waited < SESSION_EXPIRY).then(|| now.wall.minus(waited));
        let file = SessionFile::new(&self.settings, &self.session_state.filters(), caught_up);
        if let Some(writer) = &mut self.session_file {
            writer.write(file);
        }
    }

    /// Maps a message to content, with the name of its source.
    pub(super) fn map(
        &mut self,
        topic: &[u8],
        payload: &[u8],
        retained: bool,
        arrived: FirstArrival,
    ) -> (Arc<str>, Content) {
        if topic == self.stand_in.as_bytes() {
            return (Arc::from(UNCLAIMED), self.malformed(payload));
        }
        let topic = String::from_utf8_lossy(topic);
        let Some(mapping) = route(&self.sources, &topic) else {
            let rejection = reject(RejectReason::UnknownTopic, &topic, payload);
            return (Arc::from(UNCLAIMED), Content::Rejected(rejection));
        };
        let FirstArrival { at, waited } = arrived;
        let Mapped { content, clocks } = mapping.map(&topic, payload, Meta { retained, waited }, at);
        let name = Arc::clone(&mapping.name);
        // A retained copy tells us nothing new about its controller.
        if let Content::Sightings(sightings) = &content
            && !retained
        {
            let counters = || self.counters.of_source(&name);
            let found = self.watch.observe(mapping, (sightings, &clocks), (at, waited), counters);
            self.report_findings(found);
        }
        (name, content)
    }

    /// The rejection of a message that the broker should never have passed on.
    fn malformed(&mut self, payload: &[u8]) -> Content {
        let MalformedMessage { topic, rest } = MalformedMessage::of(payload);
        // Without the characters that it must not contain: databases cannot store NUL.
        let topic = String::from_utf8_lossy(topic).replace(is_unruly, "\u{fffd}");
        let rejection = reject(RejectReason::Malformed, &topic, rest);
        if !std::mem::replace(&mut self.saw_malformed, true) {
            tracing::warn!(
                topic = rejection.topic,
                "the broker passed on a message that breaks MQTT; such messages are rejected, counted and acknowledged; \
                 look for the client that publishes it, and update the broker"
            );
        }
        Content::Rejected(rejection)
    }

    /// Lets the watch clear the conditions of sources that have ended by now.
    pub(super) fn check_sources(&mut self, now: BootTime) {
        let found = self.watch.tick(now);
        self.report_findings(found);
    }

    fn report_findings(&self, found: Vec<SourceFinding>) {
        for SourceFinding { kind, subject, detail } in found {
            match detail {
                Some(detail) => self.health.raise_once(kind, &subject, detail),
                None => self.health.clear(kind, &subject),
            }
        }
    }
}
