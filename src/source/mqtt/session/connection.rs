//! One connection to the broker: polls the client library, and carries out what [`super::life`] decides.

use std::{
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use rumqttc::{
    AsyncClient, ConnAck, Event, EventLoop, Incoming, ManualAck, Outgoing, Publish, QoS, RetainForwardRule, SubAck,
    SubscribeFilter, SubscribeReasonCode, UnsubAck, UnsubAckReason,
};
use tokio::time::Sleep;

use super::{
    client::{client, fault},
    context::SessionContext,
    life::{AttemptStreak, ConnectionEnd, LOST_SHOWN, LinkAction, LinkEvent, LinkFault, LinkPhase, STABLE, step},
};
use crate::{
    base::{clock::BootTime, health::ConditionKind},
    source::{
        Delivery, Receipt,
        mqtt::{
            counters::add,
            pause_budget::PauseBudget,
            session_state::{FirstArrival, MessageDigest, SESSION_EXPIRY},
            window::AckWindow,
        },
    },
};

/// How long the connection may go unread: a third of the keep-alive. If the broker requires a shorter keep-alive, a
/// quarter of that applies. EMQX also closes a connection that has read nothing for 15 seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long the broker may be silent after a ping or a request of ours. At the limit the connection is dead; the next
/// one gets everything that was not acknowledged.
const ANSWER: Duration = Duration::from_secs(6);

/// How long leaving may take before the connection is closed anyway; less than [`crate::daemon::DEADLINE`].
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often we check whether acknowledgements go out, while messages wait for them.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How often we check when everything is acknowledged: an idle gateway wakes up rarely.
const IDLE_CHECK: Duration = Duration::from_secs(10);

/// If no acknowledgement goes out for this long, although messages wait and the database accepts writes, that is a
/// stall. Longer than one attempt at the slowest batch may take, and shorter than the watchdog's limit.
const STALL: Duration = Duration::from_secs(45);

/// After this long without a message, with everything acknowledged, we assume the broker's backlog is empty. The broker
/// sends what it has as soon as its window has room, so this is far longer than a round trip. If there is never such a
/// gap, the wider trust window stays in force.
const QUIET: Duration = Duration::from_millis(500);

/// Conditions that already explain why nothing is acknowledged.
const KNOWN_CAUSES: [ConditionKind; 4] = [
    ConditionKind::DatabaseUnavailable,
    ConditionKind::ClockNotSet,
    ConditionKind::SpoolFull,
    ConditionKind::SpoolUnavailable,
];

/// The state of one connection.
struct BrokerConnection<'a> {
    context: &'a mut SessionContext,
    client: AsyncClient,
    /// Acknowledgements with their packet ids, and when their messages arrived.
    window: Arc<AckWindow<(u16, ManualAck, BootTime)>>,
    check: Pin<Box<Sleep>>,
    /// Whether the next check is far away, because the connection is idle.
    checks_rarely: bool,
    /// Count and time of the last progress: an acknowledgement went out, or none was due.
    progress: (u64, BootTime),
    phase: LinkPhase,
    /// When the last message arrived, or the broker accepted us.
    last_message: BootTime,
    /// How much longer the connection may go unread.
    pause_budget: PauseBudget,
    /// Set at CONNACK to [`STABLE`], then to [`LOST_SHOWN`].
    lasting: Pin<Box<Sleep>>,
    /// Set to [`ANSWER`] while [`Self::is_asked`].
    answer_due: Pin<Box<Sleep>>,
    /// Whether we asked something and nothing at all has arrived since.
    is_asked: bool,
    /// The filters in our UNSUBSCRIBE, in the order in which the broker answers them.
    unwanted: Vec<String>,
    /// The error that the client library reported at the end.
    fault: String,
}

/// Runs one connection from setup to end. Returns how it ended, and the fault as text.
pub(super) async fn run(context: &mut SessionContext) -> (ConnectionEnd, String) {
    let (client, mut eventloop) = match client(&context.settings, &context.stand_in).await {
        Ok(built) => built,
        Err(fault) => return (ConnectionEnd::Setup, fault.to_string()),
    };
    let mut connection = BrokerConnection::new(context, client);
    loop {
        connection.next(&mut eventloop).await;
        if let LinkPhase::Ended(end) = connection.phase {
            return (end, connection.fault);
        }
        if connection.has_caught_up() {
            connection.advance(LinkEvent::CaughtUp);
        }
        if connection.context.queue.is_closed() {
            connection.advance(LinkEvent::PipelineGone);
        }
    }
}

impl<'a> BrokerConnection<'a> {
    fn new(context: &'a mut SessionContext, client: AsyncClient) -> Self {
        let (sender, counters) = (client.clone(), Arc::clone(&context.counters));
        let (session_state, clock) = (context.session_state.clone(), context.clock.clone());
        let window = AckWindow::new(move |(packet, acknowledgement, _)| {
            // Fails only if the connection is gone; then the broker delivers the message again.
            if sender.try_manual_ack(acknowledgement).is_ok() {
                session_state.acknowledged(packet, clock.now().boot);
                add(&counters.acknowledged, 1);
            } else {
                add(&counters.stale, 1);
            }
        });
        let now = context.clock.now().boot;
        Self {
            context,
            client,
            window,
            check: Box::pin(tokio::time::sleep(Duration::ZERO)),
            checks_rarely: false,
            progress: (0, now),
            phase: LinkPhase::Connecting,
            last_message: now,
            pause_budget: PauseBudget::new(LONGEST_PAUSE),
            lasting: Box::pin(tokio::time::sleep(STABLE)),
            answer_due: Box::pin(tokio::time::sleep(ANSWER)),
            is_asked: false,
            unwanted: Vec::new(),
            fault: String::new(),
        }
    }

    /// Whether messages were left with the broker and everything before them is committed and acknowledged.
    fn has_caught_up(&self) -> bool {
        self.phase.is_shedding() && !self.context.queue.is_waiting() && self.window.is_settled()
    }

    /// Whether to stop reading because the queue is full.
    fn is_full(&self) -> bool {
        let queue = &self.context.queue;
        self.phase.is_open() && !self.phase.is_shedding() && !queue.is_closed() && queue.is_full()
    }

    /// Handles the next event of the client library. While waiting for it, sends held deliveries to the pipeline and
    /// reacts to stop requests and timers.
    ///
    /// The poll is never dropped before it has finished, unless the connection ends with it.
    async fn next(&mut self, eventloop: &mut EventLoop) {
        let mut poll = pin!(eventloop.poll());
        loop {
            // Without room, do not poll, so TCP makes the broker wait; but only until the pause budget is spent.
            self.context.turn.works();
            let full = self.is_full();
            if full {
                self.pause_budget.begin();
            }
            let pauses = full && !self.pause_budget.is_spent();
            if pauses && self.is_asked {
                // The answer may have arrived, but we do not read.
                self.answer_due.set(tokio::time::sleep(ANSWER));
            }
            let phase = self.phase;
            let receipts_matter = phase.heeds(LinkEvent::ReceiptDropped) && !self.context.queue.is_closed();
            tokio::select! {
                biased;
                () = self.context.stop.cancelled(), if phase.heeds(LinkEvent::Stop) => {
                    self.advance(LinkEvent::Stop);
                    if matches!(self.phase, LinkPhase::Ended(_)) {
                        return;
                    }
                }
                () = self.context.drained.cancelled(), if phase.heeds(LinkEvent::Drained) => {
                    self.advance(LinkEvent::Drained);
                }
                () = self.window.abandoned().cancelled(), if receipts_matter => {
                    self.advance(LinkEvent::ReceiptDropped);
                }
                () = &mut self.check => {
                    self.checks_rarely = self.check();
                    let clock = &self.context.clock;
                    let pause = if self.checks_rarely { clock.until_beat(IDLE_CHECK) } else { CHECK_EVERY };
                    self.check.set(tokio::time::sleep(pause));
                }
                () = &mut self.lasting, if phase.heeds(LinkEvent::Lasted) => self.advance(LinkEvent::Lasted),
                () = self.context.queue.forward(), if self.context.queue.is_waiting() => {
                    if self.has_caught_up() {
                        self.advance(LinkEvent::CaughtUp);
                    }
                }
                () = self.pause_budget.end(), if pauses => {
                    tracing::debug!("the pipeline is stalled; reading the connection only to keep it alive");
                }
                event = &mut poll, if !pauses => return self.handle(event),
                // Last, so an answer that has arrived counts.
                () = &mut self.answer_due, if self.is_asked && !pauses => {
                    self.fault = format!("it has not answered for {} s", ANSWER.as_secs());
                    return self.advance(LinkEvent::Broken(LinkFault::Other));
                }
            }
        }
    }

    /// Moves the connection to its next phase, and carries out the action that this requires.
    fn advance(&mut self, event: LinkEvent) {
        let (phase, action) = step(self.phase, event);
        self.phase = phase;
        match action {
            LinkAction::Nothing => {}
            LinkAction::Subscribe => {
                self.lasting.set(tokio::time::sleep(STABLE));
                // Subscribe on every connection: that costs nothing if the session already has the subscriptions, and
                // repairs a session that has lost them or was created with other settings.
                self.subscribe();
            }
            LinkAction::ClearFailures => {
                self.lasting.set(tokio::time::sleep(LOST_SHOWN));
                self.context.streak = AttemptStreak::default();
                self.context.health.clear(ConditionKind::SessionTakenOver, "");
            }
            LinkAction::ClearLoss => {
                self.lasting.set(tokio::time::sleep(LOST_SHOWN));
                self.context.health.clear(ConditionKind::SessionLost, "");
            }
            LinkAction::CloseIntake => self.context.queue.close(),
            LinkAction::ReportPipelineGone => {
                tracing::error!("the pipeline no longer reads door messages; leaving them with the broker");
            }
            LinkAction::Leave => self.leave(),
        }
    }

    /// Updates the gauges of unacknowledged messages, and raises a condition if acknowledgements stall, that is, if
    /// some part of the daemon never spends its receipts. Returns whether nothing waits for the next check.
    fn check(&mut self) -> bool {
        let now = self.context.clock.now().boot;
        let (count, since) = self.window.owed(|count, oldest| (count, oldest.map(|(_, _, came)| *came)));
        let age = since.map_or(Duration::ZERO, |since| now.since(since)).as_secs();
        let counters = &self.context.counters;
        counters.unacknowledged.store(count as u64, Relaxed);
        counters.oldest.store(age, Relaxed);
        let acknowledged = counters.acknowledged.load(Relaxed);
        let is_quiet = self.is_quiet(now);
        if is_quiet {
            self.context.caught_up(now);
        }
        self.context.counters.waited.store(self.context.session_state.waited(now).as_secs(), Relaxed);
        self.context.check_sources(now);

        let health = &self.context.health;
        let is_known = KNOWN_CAUSES.into_iter().any(|kind| health.is_raised(kind, ""));
        // A new connection owes nothing until the broker delivers again what the last one left unacknowledged.
        let is_settled = count == 0 && (is_quiet || !health.is_raised(ConditionKind::AcknowledgementsStalled, ""));
        if is_settled || acknowledged != self.progress.0 || is_known {
            self.progress = (acknowledged, now);
            health.clear(ConditionKind::AcknowledgementsStalled, "");
        } else if now.since(self.progress.1) >= STALL {
            let messages = if count == 1 { "door message is" } else { "door messages are" };
            let detail = format!(
                "{count} {messages} waiting, the oldest for {age} seconds, and none is acknowledged although the \
                 database accepts writes; restart checkind, which loses nothing"
            );
            health.raise_once(ConditionKind::AcknowledgementsStalled, "", detail);
        }
        is_quiet && count == 0
    }

    /// Whether the broker's backlog is empty.
    fn is_quiet(&self, now: BootTime) -> bool {
        self.phase.is_open()
            && !self.phase.is_shedding()
            && now.since(self.last_message) >= QUIET
            && !self.context.queue.is_waiting()
            && self.window.is_settled()
    }

    /// Notes what we ask the broker, and that it is not silent.
    fn note_exchange(&mut self, event: &Event) {
        match event {
            Event::Incoming(_) if self.is_asked => {
                self.is_asked = false;
                // A timer that is waited for by no one would still wake the machine.
                self.answer_due.set(tokio::time::sleep(ANSWER));
            }
            Event::Outgoing(Outgoing::PingReq | Outgoing::Subscribe(_) | Outgoing::Unsubscribe(_))
                if !self.is_asked =>
            {
                self.is_asked = true;
                self.answer_due.set(tokio::time::sleep(ANSWER));
            }
            Event::Incoming(_) | Event::Outgoing(_) | Event::Auth(_) => {}
        }
    }

    fn handle(&mut self, event: Result<Event, rumqttc::ConnectionError>) {
        if let Ok(event) = &event {
            self.note_exchange(event);
        }
        match event {
            Ok(Event::Incoming(Incoming::Publish(publish))) => self.received(&publish),
            Ok(Event::Incoming(Incoming::ConnAck(answer))) => {
                self.accepted(&answer);
                self.advance(LinkEvent::Accepted);
            }
            Ok(Event::Incoming(Incoming::SubAck(answer))) => self.subscribed(&answer),
            Ok(Event::Incoming(Incoming::UnsubAck(answer))) => self.unsubscribed(&answer),
            Ok(Event::Outgoing(_)) => self.pause_budget.renew(),
            Ok(Event::Incoming(_) | Event::Auth(_)) => {}
            Err(error) => {
                let (fault, text) = fault(&error, self.phase, &self.context.settings);
                self.fault = text;
                self.advance(LinkEvent::Broken(fault));
            }
        }
    }

    /// The broker has accepted us: applies the limits that it sets, and cancels subscriptions that are no longer
    /// configured.
    fn accepted(&mut self, answer: &ConnAck) {
        let Self { context, .. } = self;
        self.last_message = context.clock.now().boot;
        context.counters.connected.store(true, Relaxed);
        add(&context.counters.connects, 1);
        context.health.clear(ConditionKind::BrokerUnavailable, "");
        let resumed = answer.session_present;
        let settings = &context.settings;
        tracing::info!(host = settings.host, port = settings.port, resumed, "connected to the broker");

        // A new session has no stored messages. If there was an old one, its messages are lost.
        if resumed {
            let now = context.clock.now().wall;
            let lost = context.health.since(ConditionKind::SessionLost, "");
            if lost.is_some_and(|lost| now.since(lost) >= LOST_SHOWN) {
                context.health.clear(ConditionKind::SessionLost, "");
            }
        } else {
            context.session_state.session_is_new();
            context.session_state.caught_up(self.last_message);
            if context.had_session {
                let detail = "the broker lost our session, and with it the door events sent while we were away; turn on \
                              persistence in the broker, and let no other client use our client id";
                context.health.raise(ConditionKind::SessionLost, "", detail);
            }
        }

        // The broker may require a shorter keep-alive and a shorter session. A keep-alive of zero means no limit.
        let keep_alive = answer.properties.as_ref().and_then(|properties| properties.server_keep_alive);
        if let Some(seconds) = keep_alive.filter(|seconds| *seconds > 0) {
            self.pause_budget = PauseBudget::new(LONGEST_PAUSE.min(Duration::from_secs(seconds.into()) / 4));
        }
        let granted = answer.properties.as_ref().and_then(|properties| properties.session_expiry_interval);
        if let Some(seconds) = granted.filter(|seconds| u64::from(*seconds) < SESSION_EXPIRY.as_secs()) {
            tracing::warn!(seconds, "the broker keeps our session for less time than we requested");
        }

        self.unwanted = context.session_state.unwanted(&context.filters);
        if !self.unwanted.is_empty()
            && let Err(fault) = self.client.try_unsubscribe_many(self.unwanted.iter().cloned())
        {
            tracing::warn!(%fault, "could not unsubscribe from topics that are no longer configured");
        }
    }

    /// Sends the acknowledgements that are due, then DISCONNECT. Messages that arrive from here on are discarded.
    ///
    /// We send another SUBSCRIBE in between: its SUBACK, for which the library waits before it disconnects, proves that
    /// the broker has read our acknowledgements. Otherwise closing a socket with unread data resets it, and the broker
    /// may discard them.
    fn leave(&self) {
        self.subscribe();
        // The queue has room for it, see `REQUESTS`; if it did not, the keep-alive would end the connection.
        if let Err(fault) = self.client.try_disconnect_with_timeout(LEAVE_TIMEOUT) {
            tracing::warn!(%fault, "could not disconnect cleanly from the broker");
        }
    }

    /// Subscribes to all filters, in one packet. Only for a new subscription does the broker send retained messages.
    fn subscribe(&self) {
        if self.context.filters.is_empty() {
            return;
        }
        let filters = self.context.filters.iter().map(|path| SubscribeFilter {
            path: path.clone(),
            qos: QoS::AtLeastOnce,
            nolocal: false,
            preserve_retain: false,
            retain_forward_rule: RetainForwardRule::OnNewSubscribe,
        });
        if let Err(fault) = self.client.try_subscribe_many(filters) {
            self.context.health.raise(ConditionKind::SubscriptionRefused, "", fault);
        }
    }

    fn subscribed(&mut self, answer: &SubAck) {
        // This answers the SUBSCRIBE of `leave`.
        if matches!(self.phase, LinkPhase::Leaving(_)) {
            return;
        }
        let Self { context, .. } = self;
        let mut granted = 0;
        for (filter, code) in context.filters.iter().zip(&answer.return_codes) {
            let SubscribeReasonCode::Success(qos) = code else {
                let detail =
                    format!("the broker refused our subscription to {filter}: {code:?}; check its access rules");
                context.health.raise(ConditionKind::SubscriptionRefused, filter, detail);
                continue;
            };
            granted += 1;
            context.health.clear(ConditionKind::SubscriptionRefused, filter);
            if *qos == QoS::AtMostOnce {
                tracing::warn!(
                    topic = filter,
                    "the broker granted only QoS 0: it stores no messages for us while we are away"
                );
            }
        }
        context.had_session = true;
        context.session_state.subscribed(&context.filters);
        context.save();
        context.health.clear(ConditionKind::SubscriptionRefused, "");
        context.counters.subscribed.store(granted, Relaxed);
        tracing::info!(granted, wanted = context.filters.len(), "subscribed to the topics of the doors");
    }

    fn unsubscribed(&mut self, answer: &UnsubAck) {
        let unwanted = std::mem::take(&mut self.unwanted);
        for (filter, reason) in unwanted.iter().zip(&answer.reasons) {
            match reason {
                UnsubAckReason::Success | UnsubAckReason::NoSubscriptionExisted => {
                    tracing::info!(topic = filter, "unsubscribed from a topic that is no longer configured");
                }
                UnsubAckReason::UnspecifiedError
                | UnsubAckReason::ImplementationSpecificError
                | UnsubAckReason::NotAuthorized
                | UnsubAckReason::TopicFilterInvalid
                | UnsubAckReason::PacketIdentifierInUse => {
                    tracing::warn!(
                        topic = filter,
                        ?reason,
                        "the broker refused to cancel the subscription to a topic that is no longer configured"
                    );
                }
            }
        }
        // If the broker refused, do not try again: the answer would be the same.
        self.context.session_state.unsubscribed(&unwanted);
        self.context.save();
    }

    fn received(&mut self, publish: &Publish) {
        // After intake has ended no new message is acknowledged, so the broker keeps this one.
        if !self.phase.is_open() {
            return;
        }
        let counters = &self.context.counters;
        add(&counters.received, 1);
        add(&counters.bytes, publish.payload.len());
        add(&counters.redelivered, usize::from(publish.dup));
        let acknowledgement = self.client.prepare_ack(publish);
        let broker_keeps_it = acknowledgement.is_some();

        // How long the broker may have kept it depends on the gap before it, so check that first.
        let now = self.context.clock.now();
        if self.is_quiet(now.boot) {
            self.context.caught_up(now.boot);
        }
        self.last_message = now.boot;
        // While the connection was idle, the next check was far away.
        if std::mem::take(&mut self.checks_rarely) {
            self.check.set(tokio::time::sleep(CHECK_EVERY));
        }
        let session_state = &self.context.session_state;
        let arrived = if broker_keeps_it {
            let digest = MessageDigest::new(&publish.topic, &publish.payload);
            session_state.arrival(publish.pkid, publish.dup, digest, now)
        } else {
            FirstArrival { at: now, waited: session_state.waited(now.boot) }
        };

        // Once one QoS 1 message was left with the broker, all later ones are as well, to acknowledge in order.
        if self.context.queue.is_full() || (self.phase.is_shedding() && broker_keeps_it) {
            if broker_keeps_it {
                self.advance(LinkEvent::NoRoom);
            }
            self.context.queue.skip(broker_keeps_it);
            return;
        }

        let (source, content) = self.context.map(&publish.topic, &publish.payload, publish.retain, arrived);
        let receipt = acknowledgement.map_or_else(Receipt::none, |acknowledgement| {
            self.window.receipt((publish.pkid, acknowledgement, now.boot))
        });
        self.context.queue.offer(Delivery::new(source, content, receipt));
    }
}
