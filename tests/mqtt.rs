//! The broker session against a real mosquitto: the traps of brokers and of the client library.

use std::{
    collections::BTreeSet,
    fs,
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use checkind::{
    base::{
        clock::Clock,
        health::{ConditionKind, Health},
        sighting::Sighting,
        turns::Turn,
        zone::Zone,
    },
    mapping::{
        Mapping, MappingFragment,
        content::{Content, RejectReason},
    },
    settings::{Mqtt, Tls},
    source::{
        DELIVERIES, DELIVERY_BYTES, Delivery, delivery_channel,
        mqtt::{
            counters::MqttCounters,
            session::{MOST_HELD, Session},
            session_state::SessionState,
        },
    },
};
use tokio::{runtime::Runtime, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::support::{
    broker::{Broker, BrokerOptions, BrokerTls, free_port},
    wait_for,
};

#[path = "fuzz/checks/mapping.rs"]
mod mapping_check;

/// How long an expected event may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// How long a test waits to see that something does not happen.
const QUIET: Duration = Duration::from_millis(1500);

/// A session in its own runtime. To the broker, dropping it looks like a crash.
struct Gateway {
    runtime: Runtime,
    deliveries: mpsc::Receiver<Delivery>,
    health: Health,
    counters: Arc<MqttCounters>,
    stop: CancellationToken,
    drained: CancellationToken,
    task: JoinHandle<()>,
}

fn settings(broker: &Broker) -> Mqtt {
    settings_for(broker.port)
}

fn settings_for(port: u16) -> Mqtt {
    let (host, client_id) = ("127.0.0.1".to_owned(), "checkind-test".to_owned());
    Mqtt { host, port, client_id, login: None, tls: None, protected_by: None }
}

fn tls(mut settings: Mqtt, ca: &std::path::Path, client: Option<&Broker>) -> Mqtt {
    let client = client.map(|broker| (broker.file("client.crt"), broker.file("client.key")));
    settings.tls = Some(Tls { ca_file: Some(ca.to_owned()), client });
    settings
}

/// A mapping for messages like `{"n":7}` on `doors/NAME`.
fn doors() -> Arc<Mapping> {
    source(
        r#"
        name = "front"
        topics = ["doors/{door}"]
        field = { card = "/card", n = "/n" }
        key = { door = "{door}", id = "{n}" }
        rule = [{ when = { "/bell" = true }, kind = "bell" }, { kind = "read" }]
        "#,
    )
}

fn source(text: &str) -> Arc<Mapping> {
    let fragment: MappingFragment = toml::from_str(text).expect("TOML in the test");
    Arc::new(Mapping::compile(&fragment).expect("a mapping without faults"))
}

fn tap(n: usize) -> String {
    format!(r#"{{"n":{n},"card":"c{n}"}}"#)
}

impl Gateway {
    fn start(settings: Mqtt) -> Self {
        Self::start_with(settings, vec![doors()], DELIVERIES)
    }

    fn start_with(settings: Mqtt, sources: Vec<Arc<Mapping>>, queue: usize) -> Self {
        Self::start_with_state(SessionState::default(), settings, sources, queue)
    }

    fn start_with_state(session_state: SessionState, settings: Mqtt, sources: Vec<Arc<Mapping>>, queue: usize) -> Self {
        Self::start_at(Clock::system(), session_state, settings, sources, queue)
    }

    fn start_at(
        clock: Clock,
        session_state: SessionState,
        settings: Mqtt,
        sources: Vec<Arc<Mapping>>,
        queue: usize,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (sender, deliveries) = delivery_channel(queue, DELIVERY_BYTES);
        let health = Health::new(clock.clone());
        let counters = Arc::new(MqttCounters::default());
        let (stop, drained) = (CancellationToken::new(), CancellationToken::new());
        let session = Session {
            settings,
            sources,
            turn: Turn::unwatched(clock.clone()),
            clock,
            deliveries: sender,
            health: health.clone(),
            counters: Arc::clone(&counters),
            session_state,
            session_file: None,
            permit: None,
            stop: stop.clone(),
            drained: drained.clone(),
        };
        let task = runtime.spawn(session.run());
        Self { runtime, deliveries, health, counters, stop, drained, task }
    }

    fn ready(self) -> Self {
        self.wait("all subscriptions", |gateway| gateway.counters.is_ready());
        self
    }

    fn wait(&self, what: &str, state: impl Fn(&Self) -> bool) {
        wait_for(what, LIMIT, || {
            if state(self) { Ok(()) } else { Err(format!("{:?}\n{:?}", self.counters, self.health.conditions())) }
        });
    }

    fn wait_for_condition(&self, kind: ConditionKind) {
        self.wait(kind.name(), |gateway| gateway.health.conditions().iter().any(|condition| condition.kind == kind));
    }

    fn has(&self, kind: ConditionKind) -> bool {
        self.health.conditions().iter().any(|condition| condition.kind == kind)
    }

    fn next(&mut self) -> Delivery {
        let next = self.runtime.block_on(async { timeout(LIMIT, self.deliveries.recv()).await });
        let counters = &self.counters;
        next.unwrap_or_else(|_| panic!("nothing came within {LIMIT:?}: {counters:?}"))
            .expect("the session has not ended")
    }

    fn nothing_comes(&mut self) {
        let next = self.runtime.block_on(async { timeout(QUIET, self.deliveries.recv()).await });
        assert!(next.is_err(), "{next:?}");
    }

    /// Takes `count` messages, acknowledges each, and returns their numbers.
    fn take(&mut self, count: usize) -> Vec<String> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            let delivery = self.next();
            numbers.push(number(&delivery));
            delivery.receipt.spend();
        }
        numbers
    }

    /// Shuts down in the daemon's order: intake, then receipts, then the connection.
    fn shutdown(self) {
        self.stop.cancel();
        self.drained.cancel();
        let ended = self.runtime.block_on(async { timeout(LIMIT, self.task).await });
        ended.expect("the session stops").expect("without a panic");
    }
}

/// The `n` of a message, from its key.
fn number(delivery: &Delivery) -> String {
    match &delivery.content {
        Content::Sightings(sightings) => sightings[0].key.0.rsplit('/').next().expect("a key").to_owned(),
        Content::Ignored => "ignored".to_owned(),
        Content::Rejected(rejection) => rejection.why.word().to_owned(),
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the test measures real time")]
    Instant::now()
}

#[test]
fn a_closed_port_is_tried_less_and_less_often_until_a_broker_answers() {
    let port = free_port();
    let start = now();
    let gateway = Gateway::start(settings_for(port));
    gateway.wait("the third failure", |gateway| gateway.counters.failures.load(Relaxed) >= 3);
    // At least half of 1 s, then half of 2 s.
    assert!(start.elapsed() >= Duration::from_millis(1500), "{:?}", start.elapsed());
    assert!(gateway.has(ConditionKind::BrokerUnavailable));
    assert!(!gateway.counters.is_ready());
    let _broker = Broker::start_on(port, BrokerOptions::default());
    let gateway = gateway.ready();
    assert!(!gateway.has(ConditionKind::BrokerUnavailable));
}

#[test]
fn a_refused_login_is_tried_again_slowly() {
    let broker = Broker::start(BrokerOptions { passwords: true, ..BrokerOptions::default() });
    let mut wrong = settings(&broker);
    wrong.login = Some(("daemon".to_owned(), "wrong".into()));
    let gateway = Gateway::start(wrong);
    gateway.wait_for_condition(ConditionKind::BrokerUnavailable);
    let detail = gateway.health.conditions()[0].detail.clone();
    assert!(detail.contains("refused our login") && !detail.contains("wrong\""), "{detail}");
    std::thread::sleep(QUIET);
    assert_eq!(gateway.counters.failures.load(Relaxed), 1);
}

#[test]
fn a_password_opens() {
    let broker = Broker::start(BrokerOptions { passwords: true, ..BrokerOptions::default() });
    let mut right = settings(&broker);
    right.login = Some(("daemon".to_owned(), "daemonpw".into()));
    let mut gateway = Gateway::start(right).ready();
    broker.publish("doors/front", tap(1).as_bytes(), 1);
    assert_eq!(gateway.take(1), ["1"]);
}

#[test]
fn a_broker_that_forgot_us_is_subscribed_to_again_and_reported() {
    let mut broker = Broker::plain();
    let gateway = Gateway::start(settings(&broker)).ready();
    assert!(!gateway.has(ConditionKind::SessionLost), "a first connection has nothing to lose");
    broker.stop();
    gateway.wait("the loss of the connection", |gateway| !gateway.counters.connected.load(Relaxed));
    broker.resume();
    gateway.wait("a second connection", |gateway| gateway.counters.connects.load(Relaxed) == 2);
    gateway.wait_for_condition(ConditionKind::SessionLost);
    let mut gateway = gateway.ready();
    broker.publish("doors/front", tap(1).as_bytes(), 1);
    assert_eq!(gateway.take(1), ["1"]);
    gateway.nothing_comes();
}

#[test]
fn a_broker_that_remembers_us_keeps_what_came_while_we_were_away() {
    let mut broker = Broker::start(BrokerOptions { persistence: true, ..BrokerOptions::default() });
    Gateway::start(settings(&broker)).ready().shutdown();
    broker.publish_lines("doors/front", (0..50).map(tap), 1);
    broker.publish("doors/front", tap(50).as_bytes(), 0);
    broker.stop();
    broker.resume();
    let mut gateway = Gateway::start(settings(&broker)).ready();
    assert_eq!(gateway.take(50), numbers(0..50), "QoS 1 in order, and QoS 0 is not kept");
    gateway.nothing_comes();
    assert!(!gateway.has(ConditionKind::SessionLost));
}

#[test]
fn a_refused_subscription_is_a_condition_and_the_others_work() {
    let rules = tempfile::tempdir().expect("a directory");
    let file = rules.path().join("dynsec.json");
    let text = r#"{"defaultACLAccess":{"publishClientSend":true,"publishClientReceive":true,"subscribe":false,"unsubscribe":true},
        "clients":[],"anonymousGroup":"all","groups":[{"groupname":"all","roles":[{"rolename":"doors"}]}],
        "roles":[{"rolename":"doors","acls":[{"acltype":"subscribePattern","topic":"doors/#","allow":true}]}]}"#;
    fs::write(&file, text).expect("the rules");
    let lines = vec![
        "plugin /usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so".to_owned(),
        format!("plugin_opt_config_file {}", file.display()),
    ];
    let broker = Broker::start(BrokerOptions { lines, ..BrokerOptions::default() });
    let secret = source("name = \"vault\"\ntopics = [\"vault/+\"]\nrule = [{ kind = \"bell\" }]");
    let mut gateway = Gateway::start_with(settings(&broker), vec![doors(), secret], 16);
    gateway.wait_for_condition(ConditionKind::SubscriptionRefused);
    assert!(gateway.health.is_raised(ConditionKind::SubscriptionRefused, "vault/+"));
    assert!(!gateway.health.is_raised(ConditionKind::SubscriptionRefused, "doors/+"));
    gateway.wait("the other subscription", |gateway| gateway.counters.subscribed.load(Relaxed) == 1);
    assert!(!gateway.counters.is_ready());
    broker.publish("doors/front", tap(1).as_bytes(), 1);
    assert_eq!(gateway.take(1), ["1"]);
}

#[test]
fn a_large_message_passes_and_a_huge_one_does_not_stop_the_rest() {
    let broker = Broker::plain();
    let mut gateway = Gateway::start(settings(&broker)).ready();
    let padded = |n: usize, length: usize| format!(r#"{{"n":{n},"card":"c","picture":"{}"}}"#, "x".repeat(length));
    broker.publish("doors/front", padded(1, 20 * 1024).as_bytes(), 1);
    broker.publish("doors/front", padded(2, 300 * 1024).as_bytes(), 1);
    broker.publish_retained("doors/front", padded(3, 300 * 1024).as_bytes());
    broker.publish("doors/front", padded(4, 250 * 1024).as_bytes(), 1);
    assert_eq!(gateway.take(2), ["1", "4"]);
    assert_eq!(gateway.counters.connects.load(Relaxed), 1, "no reconnecting");
}

#[test]
fn bad_payloads_are_delivered_as_rejections_and_never_block_the_queue() {
    let broker =
        Broker::start(BrokerOptions { lines: vec!["max_inflight_messages 5".to_owned()], ..BrokerOptions::default() });
    let mut gateway = Gateway::start(settings(&broker)).ready();
    let bad: [(&[u8], RejectReason); 6] = [
        (b"", RejectReason::Empty),
        (b"\xff\xfe", RejectReason::NotUtf8),
        (b"{", RejectReason::NotInFormat),
        (b"[1,2]", RejectReason::BadField),
        (b"{\"card\":{}}", RejectReason::BadField),
        (b"null", RejectReason::BadField),
    ];
    for _ in 0..4 {
        for (payload, why) in bad {
            broker.publish("doors/front", payload, 1);
            assert_eq!(gateway.take(1), [why.word()], "{payload:?}");
        }
    }
    broker.publish("doors/front", tap(1).as_bytes(), 1);
    assert_eq!(gateway.take(1), ["1"]);
    assert_eq!(gateway.counters.rejected(RejectReason::BadField), 12);
}

#[test]
fn a_topic_that_no_source_claims_any_more_is_rejected_not_kept() {
    let broker = Broker::start(BrokerOptions { persistence: true, ..BrokerOptions::default() });
    Gateway::start(settings(&broker)).ready().shutdown();
    let bells = source("name = \"bells\"\ntopics = [\"bells/+\"]\nrule = [{ kind = \"bell\" }]");
    let mut gateway = Gateway::start_with(settings(&broker), vec![bells], 16).ready();
    broker.publish("doors/front", tap(1).as_bytes(), 1);
    let delivery = gateway.next();
    assert_eq!((number(&delivery).as_str(), &*delivery.source), ("unknown_topic", "mqtt"));
}

#[test]
fn a_topic_that_a_reload_took_out_is_not_sent_any_more() {
    let broker = Broker::start(BrokerOptions { lines: vec!["log_type all".to_owned()], ..BrokerOptions::default() });
    let bells = || source("name = \"bells\"\ntopics = [\"bells/+\"]\nrule = [{ kind = \"bell\" }]");
    let session_state = SessionState::default();
    let start = |sources| Gateway::start_with_state(session_state.clone(), settings(&broker), sources, 16).ready();
    start(vec![doors(), bells()]).shutdown();
    broker.publish("doors/front", tap(1).as_bytes(), 1);
    let mut gateway = start(vec![bells()]);
    let delivery = gateway.next();
    assert_eq!(number(&delivery), "unknown_topic", "messages sent before are not lost silently");
    delivery.receipt.spend();
    broker.publish("doors/front", tap(2).as_bytes(), 1);
    gateway.nothing_comes();
    broker.publish("bells/front", b"{}", 1);
    gateway.next().receipt.spend();
    gateway.shutdown();
    start(vec![bells(), doors()]).shutdown();
    let unsubscribed = broker.log().matches("Received UNSUBSCRIBE").count();
    assert_eq!(unsubscribed, 1, "once, not on every connection");
}

#[test]
fn what_was_not_acknowledged_comes_again_to_the_next_process() {
    let broker = Broker::plain();
    let mut first = Gateway::start(settings(&broker)).ready();
    broker.publish_lines("doors/front", (0..30).map(tap), 1);
    let unspent: Vec<Delivery> = (0..20).map(|_| first.next()).collect();
    drop(first);
    drop(unspent);

    let mut second = Gateway::start(settings(&broker)).ready();
    assert_eq!(second.take(30), numbers(0..30));
    assert!(second.counters.redelivered.load(Relaxed) >= 20, "{:?}", second.counters);
    second.wait("all acknowledgements", |gateway| gateway.counters.acknowledged.load(Relaxed) == 30);
    second.shutdown();

    let mut third = Gateway::start(settings(&broker)).ready();
    third.nothing_comes();
}

#[test]
fn acknowledgements_leave_in_order_even_when_receipts_are_spent_backwards() {
    let broker = Broker::start(BrokerOptions { lines: vec!["log_type all".to_owned()], ..BrokerOptions::default() });
    let mut gateway = Gateway::start(settings(&broker)).ready();
    broker.publish_lines("doors/front", (0..10).map(tap), 1);
    let mut deliveries: Vec<Delivery> = (0..10).map(|_| gateway.next()).collect();
    while let Some(delivery) = deliveries.pop() {
        delivery.receipt.spend();
    }
    let acknowledged = || {
        let log = broker.log();
        let lines = log.lines().filter(|line| line.starts_with("Received PUBACK from checkind-test"));
        lines.map(|line| line.split("Mid: ").nth(1).expect("a Mid").to_owned()).collect::<Vec<_>>()
    };
    wait_for("ten acknowledgements at the broker", LIMIT, || {
        if acknowledged().len() == 10 { Ok(()) } else { Err(broker.log()) }
    });
    let order: Vec<u16> =
        acknowledged().iter().map(|mid| mid.split(',').next().expect("a number").parse().expect("a Mid")).collect();
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn receipts_of_an_old_connection_change_nothing_on_the_new_one() {
    let mut broker = Broker::start(BrokerOptions { persistence: true, ..BrokerOptions::default() });
    let mut gateway = Gateway::start(settings(&broker)).ready();
    broker.publish_lines("doors/front", (0..5).map(tap), 1);
    let old: Vec<Delivery> = (0..5).map(|_| gateway.next()).collect();
    broker.stop();
    gateway.wait("the loss of the connection", |gateway| !gateway.counters.connected.load(Relaxed));
    broker.resume();
    let mut gateway = gateway.ready();
    let new: Vec<Delivery> = (0..5).map(|_| gateway.next()).collect();
    for delivery in old {
        delivery.receipt.spend();
    }
    assert_eq!((gateway.counters.stale.load(Relaxed), gateway.counters.acknowledged.load(Relaxed)), (5, 0));
    for delivery in new {
        delivery.receipt.spend();
    }
    gateway.wait("five acknowledgements", |gateway| gateway.counters.acknowledged.load(Relaxed) == 5);
    broker.publish("doors/front", tap(6).as_bytes(), 1);
    assert_eq!(gateway.take(1), ["6"]);
    assert_eq!(gateway.counters.connects.load(Relaxed), 2, "a wrong acknowledgement would have ended the connection");
}

/// A source whose messages have neither id nor time. Its debounce window is a millisecond, so later messages are new
/// events.
fn readers() -> Arc<Mapping> {
    let text = "name = \"reader\"\npreset = \"esp-rfid-v2\"\ntopics = [\"readers/send\"]";
    let fragment: MappingFragment = toml::from_str(text).expect("TOML in the test");
    let mapping = Mapping::compile(&fragment).expect("a mapping without faults");
    Arc::new(mapping.at_site(&Zone::utc(), Duration::from_millis(1)))
}

fn sightings(delivery: &Delivery) -> &[Sighting] {
    match &delivery.content {
        Content::Sightings(sightings) => sightings,
        Content::Ignored | Content::Rejected(_) => panic!("{delivery:?}"),
    }
}

#[test]
fn a_message_without_id_and_time_is_the_same_sighting_when_it_comes_again() {
    const TAP: &[u8] =
        br#"{"type":"access","isKnown":"true","access":"Always","username":"A","uid":"04a1b2c3","hostname":"reader"}"#;
    let mut broker = Broker::start(BrokerOptions { persistence: true, ..BrokerOptions::default() });
    let mut gateway = Gateway::start_with(settings(&broker), vec![readers()], 16).ready();
    broker.publish("readers/send", TAP, 1);
    broker.publish("readers/send", TAP, 1);
    let first: Vec<Delivery> = (0..2).map(|_| gateway.next()).collect();
    assert_ne!(sightings(&first[0]), sightings(&first[1]), "two taps with one card");
    broker.stop();
    gateway.wait("the loss of the connection", |gateway| !gateway.counters.connected.load(Relaxed));
    broker.resume();
    let mut gateway = gateway.ready();
    for before in first {
        let again = gateway.next();
        assert_eq!(sightings(&again), sightings(&before));
        before.receipt.spend();
        again.receipt.spend();
    }
    gateway.wait("acknowledgements", |gateway| gateway.counters.acknowledged.load(Relaxed) == 2);
    assert_eq!((gateway.counters.redelivered.load(Relaxed), gateway.counters.stale.load(Relaxed)), (2, 2));
    broker.publish("readers/send", TAP, 1);
    gateway.next().receipt.spend();
    gateway.nothing_comes();
}

#[test]
fn a_receipt_that_is_dropped_fetches_its_message_again() {
    let broker = Broker::plain();
    let mut gateway = Gateway::start(settings(&broker)).ready();
    broker.publish_lines("doors/front", (0..3).map(tap), 1);
    gateway.take(1);
    drop(gateway.next());
    gateway.next().receipt.spend();
    assert_eq!(gateway.take(2), ["1", "2"], "later messages are not acknowledged out of order");
    assert_eq!(gateway.counters.connects.load(Relaxed), 2);
    gateway.nothing_comes();
}

#[test]
fn a_retained_message_comes_once_per_new_subscription_and_differs_from_a_live_one() {
    let broker = Broker::start(BrokerOptions { persistence: true, ..BrokerOptions::default() });
    broker.publish_retained("doors/front", tap(1).as_bytes());
    let mut first = Gateway::start(settings(&broker)).ready();
    assert_eq!(first.take(1), ["ignored"], "a retained copy is no current event");
    broker.publish_retained("doors/front", tap(2).as_bytes());
    assert_eq!(first.take(1), ["2"], "a message published to a live subscription is an event");
    first.wait("acknowledgements", |gateway| gateway.counters.acknowledged.load(Relaxed) == 2);
    first.shutdown();
    let mut second = Gateway::start(settings(&broker)).ready();
    second.nothing_comes();
}

#[test]
fn qos_0_needs_no_acknowledgement() {
    let broker = Broker::plain();
    let mut gateway = Gateway::start(settings(&broker)).ready();
    broker.publish("doors/front", tap(1).as_bytes(), 0);
    let delivery = gateway.next();
    assert_eq!(format!("{:?}", delivery.receipt), "Receipt(none)");
    delivery.receipt.spend();
    assert_eq!(gateway.counters.acknowledged.load(Relaxed), 0);
}

#[test]
fn tls_trusts_only_its_own_authority_and_rereads_it_for_each_connection() {
    let broker = Broker::start(BrokerOptions { tls: BrokerTls::Server, ..BrokerOptions::default() });
    let ca = broker.file("trusted.crt");
    fs::copy(broker.file("other.crt"), &ca).expect("the wrong authority");
    let gateway = Gateway::start(tls(settings(&broker), &ca, None));
    gateway.wait_for_condition(ConditionKind::BrokerUnavailable);
    assert_eq!(gateway.counters.connects.load(Relaxed), 0);
    fs::copy(broker.file("ca.crt"), &ca).expect("the right authority");
    let mut gateway = gateway.ready();
    broker.publish("doors/front", tap(1).as_bytes(), 1);
    assert_eq!(gateway.take(1), ["1"]);
}

#[test]
fn without_a_ca_file_the_system_decides_which_authorities_to_trust() {
    let broker = Broker::start(BrokerOptions { tls: BrokerTls::Mutual, ..BrokerOptions::default() });
    let files = (broker.file("client.crt"), broker.file("client.key"));
    for client in [None, Some(files)] {
        let mut settings = settings(&broker);
        settings.tls = Some(Tls { ca_file: None, client });
        let gateway = Gateway::start(settings);
        gateway.wait_for_condition(ConditionKind::BrokerUnavailable);
        let detail = gateway.health.conditions()[0].detail.clone();
        assert!(detail.contains("not signed by an authority that this system trusts"), "{detail}");
    }
}

#[test]
fn an_unreadable_certificate_is_named() {
    let gateway = Gateway::start(tls(settings_for(1), std::path::Path::new("/nonexistent/ca.pem"), None));
    gateway.wait_for_condition(ConditionKind::BrokerUnavailable);
    let detail = gateway.health.conditions()[0].detail.clone();
    assert!(detail.contains("/nonexistent/ca.pem"), "{detail}");
}

#[test]
fn a_client_certificate_opens_where_one_is_required() {
    let options = BrokerOptions { tls: BrokerTls::Mutual, ..BrokerOptions::default() };
    let broker = Broker::start(options);
    let ca = broker.file("ca.crt");
    let without = Gateway::start(tls(settings(&broker), &ca, None));
    without.wait_for_condition(ConditionKind::BrokerUnavailable);
    assert_eq!(without.counters.connects.load(Relaxed), 0);
    drop(without);
    let mut gateway = Gateway::start(tls(settings(&broker), &ca, Some(&broker))).ready();
    broker.publish("doors/front", tap(1).as_bytes(), 1);
    assert_eq!(gateway.take(1), ["1"]);
}

/// Another client of the broker; ends when dropped.
struct Intruder(Child);

impl Drop for Intruder {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

#[test]
fn another_client_with_our_id_is_reported_and_not_fought() {
    let broker = Broker::plain();
    let gateway = Gateway::start(settings(&broker)).ready();
    let intruder = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-i", "checkind-test", "-t", "x"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mosquitto_sub does not start; install it with: apt-get install mosquitto-clients");
    let _intruder = Intruder(intruder);
    gateway.wait_for_condition(ConditionKind::SessionTakenOver);
    let connects = gateway.counters.connects.load(Relaxed);
    assert!(connects <= 3, "{connects}");
    std::thread::sleep(2 * QUIET);
    assert_eq!(gateway.counters.connects.load(Relaxed), connects, "the next attempt is half a minute away");
}

#[test]
fn a_thousand_queued_messages_arrive_in_order_at_the_start() {
    let broker = Broker::plain();
    Gateway::start(settings(&broker)).ready().shutdown();
    broker.publish_lines("doors/front", (0..1000).map(tap), 1);
    let mut gateway = Gateway::start(settings(&broker));
    assert_eq!(gateway.take(1000), numbers(0..1000));
}

#[test]
fn stopping_ends_intake_at_once_and_still_acknowledges_what_commits() {
    let broker = Broker::plain();
    let mut gateway = Gateway::start(settings(&broker)).ready();
    broker.publish_lines("doors/front", (0..3).map(tap), 1);
    let held: Vec<Delivery> = (0..3).map(|_| gateway.next()).collect();
    gateway.stop.cancel();
    let end = gateway.runtime.block_on(async { timeout(LIMIT, gateway.deliveries.recv()).await });
    assert!(end.expect("the end of the queue").is_none());
    broker.publish("doors/front", tap(3).as_bytes(), 1);
    for delivery in held {
        delivery.receipt.spend();
    }
    gateway.shutdown();
    let mut next = Gateway::start(settings(&broker)).ready();
    assert_eq!(next.take(1), ["3"], "three were acknowledged, the fourth waited");
    next.nothing_comes();
}

#[test]
fn what_is_held_at_the_end_of_intake_counts_as_left_with_the_broker() {
    let broker = Broker::plain();
    let mut gateway = Gateway::start_with(settings(&broker), vec![doors()], 2).ready();
    broker.publish_lines("doors/front", (0..10).map(tap), 1);
    gateway.wait("ten messages", |gateway| gateway.counters.received.load(Relaxed) == 10);
    gateway.stop.cancel();
    let taken = gateway.take(2);
    assert_eq!(taken, numbers(0..2));
    let end = gateway.runtime.block_on(async { timeout(LIMIT, gateway.deliveries.recv()).await });
    assert!(end.expect("the end of the queue").is_none());
    let counters = Arc::clone(&gateway.counters);
    gateway.shutdown();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    assert_eq!(counters.events(), 2, "only messages sent to the pipeline count as events: {counters:?}");
    assert_eq!(
        (count(&counters.acknowledged), count(&counters.shed), count(&counters.held)),
        (2, 8, 0),
        "{counters:?}"
    );
}

#[test]
fn in_the_middle_of_a_flood_everything_committed_is_acknowledged_before_we_leave() {
    const FLOOD: usize = 30_000;
    const COMMITTED: usize = 3000;
    let broker = Broker::plain();
    let mut gateway = Gateway::start(settings(&broker)).ready();
    let mut committed = BTreeSet::new();
    std::thread::scope(|scope| {
        scope.spawn(|| broker.publish_lines("doors/front", (0..FLOOD).map(tap), 1));
        committed.extend(gateway.take(COMMITTED));
        gateway.stop.cancel();
        while let Some(delivery) = gateway.runtime.block_on(gateway.deliveries.recv()) {
            committed.insert(number(&delivery));
            delivery.receipt.spend();
        }
        gateway.shutdown();
    });
    let mut next = Gateway::start(settings(&broker)).ready();
    let rest: BTreeSet<String> = next.take(FLOOD - committed.len()).into_iter().collect();
    let again: Vec<_> = rest.intersection(&committed).collect();
    assert!(again.is_empty(), "{} of {} were delivered again: {again:?}", again.len(), committed.len());
    assert_eq!(rest.len() + committed.len(), FLOOD);
    next.nothing_comes();
}

#[test]
fn without_a_pipeline_messages_stay_with_the_broker() {
    let broker = Broker::plain();
    let mut gateway = Gateway::start(settings(&broker)).ready();
    gateway.deliveries.close();
    broker.publish_lines("doors/front", (0..3).map(tap), 1);
    gateway.wait("a message", |gateway| gateway.counters.received.load(Relaxed) >= 1);
    let counters = Arc::clone(&gateway.counters);
    gateway.shutdown();
    assert_eq!(
        (counters.connects.load(Relaxed), counters.acknowledged.load(Relaxed)),
        (1, 0),
        "no needless reconnecting"
    );
    let mut next = Gateway::start(settings(&broker));
    assert_eq!(next.take(3), numbers(0..3));
}

#[test]
fn stopping_while_no_broker_answers_takes_no_time() {
    let gateway = Gateway::start(settings_for(free_port()));
    gateway.wait("a failure", |gateway| gateway.counters.failures.load(Relaxed) >= 1);
    gateway.shutdown();
}

#[test]
fn a_burst_with_a_slow_consumer_neither_deadlocks_nor_loses() {
    const BURST: usize = 30_000;
    const BATCH: usize = 500;
    let broker = Broker::plain();
    let mut gateway = Gateway::start(settings(&broker)).ready();
    let start = now();
    let mut seen = BTreeSet::new();
    std::thread::scope(|scope| {
        scope.spawn(|| broker.publish_lines("doors/front", (0..BURST).map(tap), 1));
        while seen.len() < BURST {
            let mut batch = vec![gateway.next()];
            while let Ok(delivery) = gateway.deliveries.try_recv() {
                batch.push(delivery);
                if batch.len() == BATCH {
                    break;
                }
            }
            // As long as a commit on a slow SD card.
            std::thread::sleep(Duration::from_millis(4));
            for delivery in batch {
                seen.insert(number(&delivery));
                delivery.receipt.spend();
            }
        }
    });
    println!("{BURST} messages in {:?}, {:?}", start.elapsed(), gateway.counters);
    gateway.wait("all acknowledgements", |gateway| gateway.counters.acknowledged.load(Relaxed) >= BURST as u64);
    assert_eq!(gateway.counters.connects.load(Relaxed), 1);
}

/// How many messages are committed before the pipeline stalls. Some must be: mosquitto respects the session's window of
/// unacknowledged messages until acknowledgements arrive in the middle of a backlog.
const BEFORE: usize = 5000;

/// Publishes numbered taps with QoS 1, in parts, because mosquitto_pub exits early if more messages are under way than
/// there are packet ids.
fn publish_backlog(broker: &Broker, messages: usize) {
    const PART: usize = 40_000;
    for first in (0..messages).step_by(PART) {
        broker.publish_lines("doors/front", (first..messages.min(first + PART)).map(tap), 1);
    }
}

/// A session whose queue and holding area are full: the test has consumed [`BEFORE`] messages and stopped.
fn crammed(broker: &Broker, queue: usize, backlog: usize) -> Gateway {
    let mut gateway = Gateway::start_with(settings(broker), vec![doors()], queue).ready();
    std::thread::scope(|scope| {
        scope.spawn(|| publish_backlog(broker, backlog));
        assert_eq!(gateway.take(BEFORE), numbers(0..BEFORE));
    });
    gateway.wait("all room to be taken", |gateway| gateway.counters.held.load(Relaxed) == MOST_HELD as u64);
    gateway
}

#[test]
fn a_backlog_far_larger_than_what_is_held_is_taken_over_on_one_connection() {
    const BACKLOG: usize = 60_000;
    const BATCH: usize = 500;
    let broker = Broker::plain();
    let mut gateway = Gateway::start_with(settings(&broker), vec![doors()], 64).ready();
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| publish_backlog(&broker, BACKLOG));
        seen.extend(gateway.take(BEFORE));
        gateway.wait("all room to be taken", |gateway| gateway.counters.held.load(Relaxed) == MOST_HELD as u64);
        while seen.len() < BACKLOG {
            seen.extend(gateway.take(BATCH));
            assert!(gateway.counters.held.load(Relaxed) <= MOST_HELD as u64);
        }
    });
    assert_eq!(seen, numbers(0..BACKLOG), "each once, in order");
    gateway.wait("all acknowledgements", |gateway| gateway.counters.acknowledged.load(Relaxed) == BACKLOG as u64);
    let counters = &gateway.counters;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    assert_eq!(
        (count(&counters.received), count(&counters.redelivered), count(&counters.shed), count(&counters.connects)),
        (BACKLOG as u64, 0, 0, 1),
        "{counters:?}"
    );
    assert_eq!((count(&counters.failures), count(&counters.stale)), (0, 0), "{counters:?}");
    gateway.nothing_comes();
}

#[test]
fn a_pipeline_that_stands_still_costs_no_connection_however_long_it_does() {
    const BACKLOG: usize = 20_000;
    // More than the broker's limit, one and a half times the keep-alive.
    const GIVEN_UP: Duration = Duration::from_secs(15);
    let broker = Broker::plain();
    let mut gateway = crammed(&broker, 64, BACKLOG);
    gateway.wait("messages to be left with the broker", |gateway| gateway.counters.shed.load(Relaxed) > 0);
    gateway.wait("the broker's time to give us up", |gateway| {
        gateway.counters.oldest.load(Relaxed) > GIVEN_UP.as_secs() + 5
    });
    assert!(!broker.log().contains("exceeded timeout"), "{}", broker.log());
    let counters = Arc::clone(&gateway.counters);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    assert_eq!((count(&counters.connects), count(&counters.failures)), (1, 0), "{counters:?}");
    assert_eq!((count(&counters.held), count(&counters.acknowledged)), (MOST_HELD as u64, BEFORE as u64));
    let mut seen: BTreeSet<_> = numbers(0..BEFORE).into_iter().collect();
    while seen.len() < BACKLOG {
        seen.extend(gateway.take(1));
    }
    gateway.wait("all acknowledgements", |_| count(&counters.acknowledged) == BACKLOG as u64);
    assert_eq!((count(&counters.connects), count(&counters.stale)), (2, 0), "the rest is fetched once");
    gateway.nothing_comes();
}

#[test]
fn an_unread_connection_is_left_cleanly_when_we_have_to_stop() {
    const BACKLOG: usize = 20_000;
    const QUEUE: usize = 64;
    let broker = Broker::plain();
    let mut gateway = crammed(&broker, QUEUE, BACKLOG);
    gateway.stop.cancel();
    assert_eq!(gateway.take(QUEUE), numbers(BEFORE..BEFORE + QUEUE));
    let end = gateway.runtime.block_on(async { timeout(LIMIT, gateway.deliveries.recv()).await });
    assert!(end.expect("the end of the queue").is_none());
    let counters = Arc::clone(&gateway.counters);
    gateway.shutdown();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    assert_eq!((count(&counters.acknowledged), count(&counters.held)), ((BEFORE + QUEUE) as u64, 0), "{counters:?}");
    let mut next = Gateway::start(settings(&broker));
    let rest = numbers(BEFORE + QUEUE..BACKLOG);
    assert_eq!(next.take(rest.len()), rest, "acknowledged messages are not delivered again");
    next.nothing_comes();
}

#[test]
fn a_pipeline_that_ends_while_the_connection_is_not_read_ends_the_pause() {
    let broker = Broker::plain();
    let mut gateway = crammed(&broker, 64, 20_000);
    gateway.deliveries.close();
    gateway.wait("what is held to be left with the broker", |gateway| gateway.counters.held.load(Relaxed) == 0);
    let counters = Arc::clone(&gateway.counters);
    gateway.shutdown();
    assert_eq!((counters.connects.load(Relaxed), counters.acknowledged.load(Relaxed)), (1, BEFORE as u64));
}

#[test]
fn a_flood_fills_bounded_memory_and_what_the_broker_keeps_comes_later() {
    const FLOOD: usize = MOST_HELD + 4000;
    let broker = Broker::plain();
    let mut gateway = Gateway::start_with(settings(&broker), vec![doors()], 64).ready();
    broker.publish_lines("doors/front", (0..FLOOD).map(tap), 0);
    // The publisher exits before the broker has read everything, and another publisher could overtake it.
    gateway.wait("the whole flood", |gateway| gateway.counters.received.load(Relaxed) == FLOOD as u64);
    assert!(gateway.counters.dropped.load(Relaxed) > 0);
    broker.publish_lines("doors/front", (FLOOD..FLOOD + 100).map(tap), 1);
    gateway.wait("messages to be left with the broker", |gateway| gateway.counters.shed.load(Relaxed) == 100);
    assert!(gateway.counters.held.load(Relaxed) <= MOST_HELD as u64);
    let mut kept = BTreeSet::new();
    while kept.len() < 100 {
        let delivery = gateway.next();
        let n: usize = number(&delivery).parse().expect("a number");
        if n >= FLOOD {
            kept.insert(n);
        }
        delivery.receipt.spend();
    }
    assert_eq!(gateway.counters.connects.load(Relaxed), 2, "one new connection fetched them");
}

#[test]
fn the_mapping_keeps_its_promises_over_the_corpus_and_every_cut_of_it() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus/mapping");
    let files: Vec<_> = fs::read_dir(corpus).expect("the corpus").map(|file| file.expect("a file").path()).collect();
    assert!(files.len() >= 10, "the corpus is incomplete: {files:?}");
    for file in files {
        let bytes = fs::read(&file).expect("a file of the corpus");
        for end in 0..=bytes.len() {
            mapping_check::check(&bytes[..end]);
        }
        for at in 1..bytes.len() {
            let mut bent = bytes.clone();
            for flip in [0x01, 0x20, 0x80] {
                bent[at] = bytes[at] ^ flip;
                mapping_check::check(&bent);
            }
        }
    }
}

#[test]
fn unspent_receipts_are_a_stall_unless_the_cause_is_known() {
    let broker = Broker::plain();
    // A minute passes in a second.
    let clock = Clock::accelerated(Clock::system().now().wall, 60, Duration::from_hours(24));
    let mut gateway = Gateway::start_at(clock, SessionState::default(), settings(&broker), vec![doors()], 16).ready();
    gateway.health.raise(ConditionKind::DatabaseUnavailable, "", "it is away");
    broker.publish("doors/front", tap(1).as_bytes(), 1);
    let delivery = gateway.next();
    gateway.wait("the message to grow old", |gateway| gateway.counters.oldest.load(Relaxed) > 120);
    assert_eq!(gateway.counters.unacknowledged.load(Relaxed), 1);
    let stalled = |gateway: &Gateway| gateway.health.is_raised(ConditionKind::AcknowledgementsStalled, "");
    assert!(!stalled(&gateway), "the database is the cause");
    gateway.health.clear(ConditionKind::DatabaseUnavailable, "");
    gateway.wait("the stall", stalled);
    delivery.receipt.spend();
    gateway.wait("its end", |gateway| !stalled(gateway));
    gateway.wait("the acknowledgement", |gateway| gateway.counters.unacknowledged.load(Relaxed) == 0);
}
