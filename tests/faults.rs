//! What happens when things break: killed processes, unavailable brokers and databases, full disks, and garbage as
//! input. Nothing acknowledged is lost, no person is checked out because of a fault, and each change of state is logged
//! in one line.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use checkind::{
    base::{
        clock::{Clock, WallTime},
        fact::Fact,
    },
    engine::decision::Outcome,
};
use rustix::process::Signal;

use crate::support::{
    broker::{Broker, BrokerOptions},
    daemon::{BINARY, Daemon, Home, LIMIT, Way, board_event, card, doors, flat_event, now, people, site},
    disk::Disk,
    postgres::Postgres,
    powercut::{PowerCut, Unsynced},
    wait_for,
};

/// People who use the boards' doors; as many others use the other door.
const PEOPLE: u32 = 20;

/// A broker whose queue survives a restart, except for changes of the last second.
fn keeping() -> BrokerOptions {
    BrokerOptions {
        persistence: true,
        lines: vec!["autosave_interval 1".to_owned(), "autosave_on_changes true".to_owned()],
        ..BrokerOptions::default()
    }
}

/// Event number `number` of a stream in which [`PEOPLE`] people walk in and out in turn, a second apart. One event in
/// ten has an unknown card. `first` is the first of these people, `from` the time of event 0.
fn walk(number: u32, first: u32, from: WallTime) -> (u32, Way, WallTime) {
    let at = from.plus(Duration::from_secs(number.into()));
    if number % 10 == 9 {
        return (900_000 + number, Way::In, at);
    }
    let step = number - number / 10;
    let way = if (step / PEOPLE).is_multiple_of(2) { Way::In } else { Way::Out };
    (card(first + step % PEOPLE), way, at)
}

/// The numbers of visits and failed check-ins expected from `events` events of [`walk`].
fn expected(events: u32) -> (i64, i64) {
    let unknown = events / 10;
    let steps = events - unknown;
    let rounds = steps / PEOPLE;
    let visits = (0..rounds).filter(|round| round % 2 == 0).count();
    let last = if rounds.is_multiple_of(2) { steps % PEOPLE } else { 0 };
    (i64::try_from(visits).expect("few") * i64::from(PEOPLE) + i64::from(last), i64::from(unknown))
}

/// Waits for `rows` decisions. Fails if there is no progress for [`LIMIT`].
fn wait_for_facts(home: &Home, daemon: &mut Daemon, rows: i64) {
    let mut seen = -1;
    while seen < rows {
        seen = wait_for(&format!("more than {seen} of {rows} facts"), LIMIT, || {
            daemon.still_runs();
            match home.ledger().try_facts()? {
                now if now > seen => Ok(now),
                _ => Err(format!("{}\n{}", daemon.log(), daemon.get("/metrics").body)),
            }
        });
    }
}

/// Kills per test.
const KILLS: u32 = 50;

/// Kills the daemon [`KILLS`] times during two streams of [`walk`] with `events` events each.
fn kills(home: &Home, broker: &Broker, events: u32) {
    home.import(&people(2 * PEOPLE + 1, &[]));
    // Events of the last hours: none may be too old for a controller's time to be trusted.
    let from = now().minus(Duration::from_secs(u64::from(events) + 60));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    daemon.kill();
    let slice = events / KILLS;
    for kill in 0..KILLS {
        let range = kill * slice..(kill + 1) * slice;
        let mut daemon = home.start();
        thread::scope(|scope| {
            for board in [true, false] {
                let range = range.clone();
                scope.spawn(move || {
                    let lines = range.map(|number| {
                        let (card, way, at) = walk(number, if board { 1 } else { 1 + PEOPLE }, from);
                        if board { board_event(number, card, way, at) } else { flat_event(number, card, way, at) }
                    });
                    broker.publish_lines(if board { "board/events" } else { "flat/events" }, lines, 1);
                });
            }
            // Each kill hits another point of the slice and of the running batch: new rows mean that a batch has just
            // been committed.
            wait_for_facts(home, &mut daemon, i64::from(2 * slice * kill + 2 * slice * kill / KILLS));
            thread::sleep(Duration::from_millis(u64::from(kill * 7 % 31)));
            daemon.kill();
        });
    }
    let mut daemon = home.start();
    wait_for_facts(home, &mut daemon, i64::from(2 * events));
    // One more tap, by another person: when it is decided, everything before it has been.
    broker.publish("flat/events", flat_event(events, card(2 * PEOPLE + 1), Way::In, now()).as_bytes(), 1);
    wait_for_facts(home, &mut daemon, i64::from(2 * events) + 1);
    daemon.adds_up();
    check_streams(home, events);
    daemon.stop();
}

/// Checks the database after two streams of `events` events each, and one event of another person.
fn check_streams(home: &Home, events: u32) {
    let ledger = home.ledger();
    let (visits, failures) = expected(events);
    assert_eq!(ledger.facts(), i64::from(2 * events) + 1, "one decision per message");
    let mut of_boards = BTreeSet::new();
    for (fact, _) in ledger.log() {
        if let Fact::Door(door) = fact
            && &*door.source == "board"
        {
            of_boards.insert(door.digest);
        }
    }
    assert_eq!(of_boards.len(), events as usize, "each message of the boards");
    let outcomes = ledger.outcomes();
    assert_eq!(outcomes.get(&Outcome::Opened), Some(&(2 * visits + 1)), "{outcomes:?}");
    assert_eq!(outcomes.get(&Outcome::Failed), Some(&(2 * failures)), "{outcomes:?}");
    assert_eq!(ledger.count("checkins"), 2 * visits + 1, "{outcomes:?}");
    assert_eq!(ledger.count("failed_checkins"), 2 * failures);
    let doubled = "checkins a JOIN checkins b ON a.coworker_id = b.coworker_id AND a.id < b.id \
                   WHERE a.from_time = b.from_time OR (a.to_time IS NULL AND b.to_time IS NULL) \
                   OR (a.from_time < b.from_time AND (a.to_time IS NULL OR a.to_time > b.from_time)) \
                   OR (b.from_time < a.from_time AND (b.to_time IS NULL OR b.to_time > a.from_time))";
    assert_eq!(ledger.count(doubled), 0, "no visit overlaps another of the same person");
}

#[test]
fn fifty_kills_during_ten_thousand_taps_lose_and_double_nothing_on_sqlite() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    kills(&home, &broker, 5000);
    let integrity = home.ledger().texts("PRAGMA integrity_check");
    assert_eq!(integrity, [["ok"]]);
}

#[test]
fn fifty_kills_during_ten_thousand_taps_lose_and_double_nothing_on_postgresql() {
    let server = Postgres::start();
    let broker = Broker::plain();
    let home = Home::on(&server.url(), &(site("") + &doors(broker.port)));
    kills(&home, &broker, 5000);
}

/// Cuts the power (or kills) `cuts` times during a stream of taps. Returns how many delivered (QoS 0) or acknowledged
/// (QoS 1) taps are missing.
fn lost_in_cuts(power: Option<&PowerCut>, qos: u8, cuts: u32, slice: u32) -> i64 {
    let settled = if qos == 0 { "checkind_decisions_total" } else { "checkind_mqtt_acknowledged_total" };
    let environment = power.map(PowerCut::environment).unwrap_or_default();
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    home.import(&people(PEOPLE + 1, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    daemon.stop();
    for cut in 0..cuts {
        let mut daemon = home.start_by(&[BINARY], &environment);
        daemon.wait_until_ready();
        thread::scope(|scope| {
            let taps = (cut * slice..(cut + 1) * slice).map(tap);
            scope.spawn(|| broker.publish_lines("flat/events", taps, qos));
            let enough = u64::from(slice / 10 * (1 + cut % 8));
            wait_for("settled taps", LIMIT, || match daemon.metric(settled, "") {
                now if now >= enough => Ok(()),
                now => Err(format!("{now} of {enough}\n{}", daemon.log())),
            });
            // Each cut hits another point of the running batch.
            thread::sleep(Duration::from_millis(u64::from(cut * 7 % 31)));
            daemon.kill();
        });
        if let Some(power) = power {
            power.cut(if cut % 2 == 0 { Unsynced::Lost } else { Unsynced::Some(cut as usize / 2) });
        }
    }
    let mut daemon = home.start();
    daemon.wait_until_ready();
    // The last tap arrives after everything that the broker still had.
    broker.publish("flat/events", flat_event(cuts * slice, card(PEOPLE + 1), Way::In, now()).as_bytes(), 1);
    wait_for("the last tap", LIMIT, || {
        let last = format!("SELECT count(*) FROM checkins WHERE coworker_id = {}", PEOPLE + 1);
        if home.ledger().try_number(&last)? == 1 { Ok(()) } else { Err(daemon.log()) }
    });
    if qos == 1 {
        daemon.adds_up();
    }
    daemon.stop();
    assert_eq!(home.ledger().texts("PRAGMA integrity_check"), [["ok"]]);
    i64::from(cuts * slice) + 1 - home.ledger().facts()
}

#[test]
fn twenty_power_cuts_take_away_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(lost_in_cuts(Some(&PowerCut::new(folder.path())), 1, 20, 300), 0);
}

/// Control: without syncs a cut must lose data, or the test above proves nothing. The library only pretends to sync,
/// except before checkpoints, as with `synchronous=NORMAL`, which the product does not offer.
#[test]
fn power_cuts_take_away_what_was_acknowledged_if_commits_were_not_synced() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let lost = lost_in_cuts(Some(&PowerCut::new(folder.path()).without_synced_commits()), 1, 4, 300);
    assert!(lost > 0, "nothing was lost");
}

/// Control: the kills above hit work in progress, because messages that the broker need not keep (QoS 0) are lost.
#[test]
fn kills_take_away_what_needs_no_acknowledgement() {
    let lost = lost_in_cuts(None, 0, 3, 2000);
    assert!(lost > 0, "nothing was lost");
}

/// A site on SQLite with one person in, by card.
fn one_person_in(broker_port: u16, broker: &Broker) -> (Home, Daemon) {
    let home = Home::new(&(site("") + &doors(broker_port)));
    home.import(&people(PEOPLE, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    broker.publish("flat/events", tap(0).as_bytes(), 1);
    wait_for_facts(&home, &mut daemon, 1);
    (home, daemon)
}

/// An entry at the other door. A person's first entry opens the check-in, later ones keep it open.
fn tap(number: u32) -> String {
    flat_event(number, card(1 + number % PEOPLE), Way::In, now())
}

/// Checks that no person has been checked out, and that each message is one fact and was acknowledged.
fn intact(home: &Home, daemon: &mut Daemon, messages: u32) {
    wait_for_facts(home, daemon, i64::from(messages));
    assert_eq!(home.ledger().facts(), i64::from(messages));
    assert_eq!(home.ledger().count("checkins WHERE to_time IS NOT NULL"), 0, "a person was checked out");
    assert_eq!(home.ledger().count("checkins"), i64::from(messages.min(PEOPLE)));
    daemon.adds_up();
}

#[test]
fn a_broker_that_restarts_with_its_queue_loses_nothing() {
    let mut broker = Broker::start(keeping());
    let (home, mut daemon) = one_person_in(broker.port, &broker);
    broker.stop();
    daemon.wait_for_condition("broker_unavailable");
    assert_eq!(daemon.get("/readyz").status, 503);
    broker.resume();
    broker.publish_lines("flat/events", (1..200).map(tap), 1);
    daemon.wait_until_ready();
    intact(&home, &mut daemon, 200);
    assert_eq!(daemon.changes_of("broker_unavailable"), (1, 1), "{}", daemon.log());
    assert_eq!(daemon.changes_of("session_lost"), (0, 0), "{}", daemon.log());
    assert_eq!(daemon.complaints().len(), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_broker_that_forgets_us_is_named_and_used_again() {
    let mut broker = Broker::plain();
    let (home, mut daemon) = one_person_in(broker.port, &broker);
    broker.stop();
    daemon.wait_for_condition("broker_unavailable");
    broker.resume();
    daemon.wait_until_ready();
    let detail = daemon.wait_for_condition("session_lost");
    assert!(detail.contains("persistence"), "{detail}");
    broker.publish_lines("flat/events", (1..200).map(tap), 1);
    intact(&home, &mut daemon, 200);
    assert_eq!(daemon.changes_of("broker_unavailable"), (1, 1), "{}", daemon.log());
    assert_eq!(daemon.changes_of("session_lost"), (1, 0), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_broker_that_hangs_for_three_seconds_is_waited_for() {
    let broker = Broker::plain();
    let (home, mut daemon) = one_person_in(broker.port, &broker);
    thread::scope(|scope| {
        scope.spawn(|| broker.publish_lines("flat/events", (1..2000).map(tap), 1));
        wait_for_facts(&home, &mut daemon, 2);
        broker.signal(Signal::STOP);
        // Not a wait for a state, but the time for which the broker hangs.
        thread::sleep(Duration::from_secs(3));
        broker.signal(Signal::CONT);
    });
    intact(&home, &mut daemon, 2000);
    assert_eq!(daemon.changes_of("broker_unavailable"), (0, 0), "{}", daemon.log());
    daemon.stop();
}

/// A proxy to the broker whose connections can be reset.
struct Road {
    port: u16,
    closed: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Road {
    fn to(broker: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let closed = Arc::<AtomicBool>::default();
        let (list, is_closed) = (Arc::clone(&open), Arc::clone(&closed));
        // The thread ends with the process; each test runs in its own.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_closed.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", broker)) else { continue };
                let both = [client.try_clone().expect("a handle"), server.try_clone().expect("a handle")];
                list.lock().expect("no panic").extend(both);
                for (from, to) in [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))] {
                    let (from, to) = (from.expect("a handle"), to.expect("a handle"));
                    thread::spawn(move || copy(from, to));
                }
            }
        });
        Self { port, closed, open }
    }

    /// Resets every connection (TCP RST) at both ends.
    fn reset(&self) {
        for stream in self.open.lock().expect("no panic").drain(..) {
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket option");
            // The copying threads hold handles too. A full shutdown would end the connection politely, so this only
            // wakes them.
            let _gone = stream.shutdown(std::net::Shutdown::Read);
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16_384];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // Both directions end together, and closing the last handle sends the reset.
    let _gone = (from.shutdown(std::net::Shutdown::Read), to.shutdown(std::net::Shutdown::Read));
}

#[test]
fn a_reset_connection_in_the_middle_of_a_stream_loses_nothing() {
    let broker = Broker::plain();
    let road = Road::to(broker.port);
    let (home, mut daemon) = one_person_in(road.port, &broker);
    thread::scope(|scope| {
        scope.spawn(|| broker.publish_lines("flat/events", (1..4000).map(tap), 1));
        wait_for_facts(&home, &mut daemon, 2);
        road.reset();
        daemon.wait_for_line("condition=\"broker_unavailable\"");
    });
    daemon.wait_until_ready();
    intact(&home, &mut daemon, 4000);
    assert_eq!(daemon.changes_of("broker_unavailable"), (1, 1), "{}", daemon.log());
    assert_eq!(daemon.complaints().len(), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_session_that_was_wiped_is_named_and_the_doors_go_on() {
    let broker = Broker::plain();
    let road = Road::to(broker.port);
    let (home, mut daemon) = one_person_in(road.port, &broker);
    road.closed.store(true, Ordering::SeqCst);
    road.reset();
    daemon.wait_for_condition("broker_unavailable");
    broker.wipe_session("checkind-test");
    road.closed.store(false, Ordering::SeqCst);
    let detail = daemon.wait_for_condition("session_lost");
    assert!(detail.contains("lost"), "{detail}");
    daemon.wait_until_ready();
    broker.publish_lines("flat/events", (1..200).map(tap), 1);
    intact(&home, &mut daemon, 200);
    assert_eq!(daemon.changes_of("session_lost"), (1, 0), "{}", daemon.log());
    daemon.stop();
}

/// A site on SQLite whose daemon writes to this disk, with one person in.
fn one_person_in_on(disk: &Disk, broker: &Broker) -> (Home, Daemon) {
    let home = Home::new(&(site("") + &doors(broker.port)));
    home.import(&people(PEOPLE, &[]));
    let mut daemon = home.start_by(&[BINARY], &disk.environment());
    daemon.wait_until_ready();
    broker.publish("flat/events", tap(0).as_bytes(), 1);
    wait_for_facts(&home, &mut daemon, 1);
    (home, daemon)
}

#[test]
fn a_disk_that_cannot_sync_acknowledges_nothing_and_everything_arrives_once_it_can() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let disk = Disk::new(folder.path());
    let broker = Broker::plain();
    let (home, mut daemon) = one_person_in_on(&disk, &broker);
    broker.publish_lines("flat/events", (1..1000).map(tap), 1);
    wait_for_facts(&home, &mut daemon, 1000);
    daemon.adds_up();
    disk.is("fail");
    broker.publish_lines("flat/events", (1000..3000).map(tap), 1);
    let detail = daemon.wait_for_condition("database_unavailable");
    assert!(detail.contains("nothing is acknowledged meanwhile"), "{detail}");
    // Several attempts, each on its own connection.
    wait_for("more failures", LIMIT, || match daemon.metric("checkind_commit_failures_total", "") {
        now if now >= 5 => Ok(()),
        now => Err(now.to_string()),
    });
    assert_eq!(daemon.metric("checkind_mqtt_acknowledged_total", ""), 1000);
    assert_eq!(daemon.get("/readyz").status, 503);
    assert_eq!(daemon.get("/healthz").status, 200, "a restart would not help");
    disk.is("ok");
    daemon.wait_until_ready();
    intact(&home, &mut daemon, 3000);
    assert_eq!(daemon.changes_of("database_unavailable"), (1, 1), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_burst_against_a_disk_that_hangs_is_bounded_and_drains() {
    const BURST: u32 = 100_000;
    let folder = tempfile::tempdir().expect("a temporary directory");
    let disk = Disk::new(folder.path());
    let lines = vec!["max_inflight_messages 1000".to_owned()];
    let broker = Broker::start(BrokerOptions { lines, ..BrokerOptions::default() });
    let (home, mut daemon) = one_person_in_on(&disk, &broker);
    disk.is("hang");
    broker.publish_lines("flat/events", (1..BURST).map(tap), 1);
    // The broker keeps what the session does not read, and the session holds no more than its limits.
    let taken = daemon.metric("checkind_mqtt_messages_total", "") - daemon.metric("checkind_mqtt_shed_total", "");
    assert!((20..6000).contains(&taken), "{taken} messages are held");
    assert_eq!(daemon.metric("checkind_mqtt_acknowledged_total", ""), 1);
    assert_eq!(daemon.get("/healthz").status, 200);
    disk.is("slow 4000");
    intact(&home, &mut daemon, BURST);
    let peak = daemon.peak_memory();
    assert!(peak < 250 * 1024, "{peak} KiB");
    daemon.stop();
}

#[test]
fn a_disk_that_hangs_in_the_middle_of_a_burst_costs_no_connection() {
    const BURST: u32 = 40_000;
    // In seconds: more than one and a half times the keep-alive.
    const GIVEN_UP: u64 = 15;
    let folder = tempfile::tempdir().expect("a temporary directory");
    let disk = Disk::new(folder.path());
    let broker = Broker::plain();
    let (home, mut daemon) = one_person_in_on(&disk, &broker);
    thread::scope(|scope| {
        scope.spawn(|| broker.publish_lines("flat/events", (1..BURST).map(tap), 1));
        wait_for_facts(&home, &mut daemon, 5000);
        disk.is("hang");
    });
    wait_for("the broker's time to give us up", LIMIT, || {
        match daemon.metric("checkind_mqtt_oldest_unacknowledged_seconds", "") {
            age if age > GIVEN_UP + 5 => Ok(()),
            age => Err(format!("{age}\n{}", daemon.get("/metrics").body)),
        }
    });
    let taken = daemon.metric("checkind_mqtt_unacknowledged", "");
    assert!((2000..6000).contains(&taken), "{taken} messages are held");
    assert!(!broker.log().contains("exceeded timeout"), "{}", broker.log());
    assert_eq!(daemon.metric("checkind_mqtt_connects_total", ""), 1, "{}", daemon.log());
    disk.is("ok");
    intact(&home, &mut daemon, BURST);
    daemon.stop();
}

#[test]
fn a_disk_that_hangs_under_the_session_file_stops_nothing() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let disk = Disk::new(folder.path());
    let mut broker = Broker::start(keeping());
    let (home, mut daemon) = one_person_in_on(&disk, &broker);
    // With each new connection the session replaces its small file.
    disk.is("freeze");
    broker.stop();
    daemon.wait_for_condition("broker_unavailable");
    broker.resume();
    daemon.wait_until_over("broker_unavailable");
    broker.publish_lines("flat/events", (1..100).map(tap), 1);
    intact(&home, &mut daemon, 100);
    assert_eq!(daemon.get("/readyz").status, 200);
    disk.is("ok");
    daemon.stop();
}

#[test]
fn a_locked_database_holds_the_doors_up_and_loses_nothing() {
    let broker = Broker::plain();
    let (home, mut daemon) = one_person_in(broker.port, &broker);
    let lock = home.ledger().lock();
    let clock = Clock::system();
    let locked = clock.now().boot;
    broker.publish_lines("flat/events", (1..200).map(tap), 1);
    daemon.wait_for_line("condition=\"database_unavailable\"");
    let detail = daemon.wait_for_condition("database_unavailable");
    assert!(detail.contains("nothing is acknowledged meanwhile"), "{detail}");
    assert_eq!(daemon.get("/readyz").status, 503);
    assert_eq!(daemon.get("/healthz").status, 200, "a restart would not help");
    assert_eq!(daemon.metric("checkind_mqtt_acknowledged_total", ""), 1);
    // Longer than SQLite's own wait for a lock.
    wait_for("eight seconds", LIMIT, || {
        if clock.now().boot.since(locked) >= Duration::from_secs(8) { Ok(()) } else { Err(String::new()) }
    });
    assert_eq!(home.ledger().facts(), 1);
    drop(lock);
    daemon.wait_until_ready();
    intact(&home, &mut daemon, 200);
    assert_eq!(daemon.changes_of("database_unavailable"), (1, 1), "{}", daemon.log());
    assert_eq!(daemon.complaints().len(), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_start_without_the_database_server_waits_for_it() {
    let mut server = Postgres::start();
    server.crash();
    let broker = Broker::plain();
    let home = Home::on(&server.url(), &(site("") + &doors(broker.port)));
    let daemon = home.spawn_by(&[BINARY], &[]);
    daemon.wait_for_line("condition=\"database_unavailable\"");
    server.resume();
    let mut daemon = daemon.listening();
    daemon.wait_until_ready();
    assert_eq!(daemon.changes_of("database_unavailable"), (1, 1), "{}", daemon.log());
    assert_eq!(daemon.complaints().len(), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_database_server_that_crashes_in_mid_stream_loses_nothing() {
    let mut server = Postgres::start();
    let broker = Broker::plain();
    let home = Home::on(&server.url(), &(site("") + &doors(broker.port)));
    home.import(&people(PEOPLE, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    thread::scope(|scope| {
        scope.spawn(|| broker.publish_lines("flat/events", (0..4000).map(tap), 1));
        wait_for_facts(&home, &mut daemon, 1);
        server.crash();
        // Wait until the pipeline has noticed, not only the probe of `/readyz`.
        daemon.wait_for_line("condition=\"database_unavailable\"");
        assert_eq!(daemon.get("/readyz").status, 503);
    });
    server.resume();
    daemon.wait_until_ready();
    intact(&home, &mut daemon, 4000);
    assert_eq!(daemon.changes_of("database_unavailable"), (1, 1), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_full_disk_acknowledges_nothing_and_everything_arrives_once_there_is_room() {
    const TAPS: u32 = 12_000;
    let broker = Broker::plain();
    let disk = tempfile::tempdir().expect("a mount point");
    let place = disk.path().to_str().expect("a path of ours").to_owned();
    let home = Home::on(&format!("sqlite:{place}/checkind.db"), &(site("") + &doors(broker.port)));
    // Only the daemon sees the small disk, which disappears when it ends.
    let script = "mount -t tmpfs -o size=2m,mode=700 tmpfs \"$1\" && shift && exec \"$@\"";
    let starter = ["unshare", "--mount", "sh", "-c", script, "sh", &place, BINARY];
    let mut daemon = home.start_by(&starter, &[]);
    daemon.wait_until_ready();
    let inside = |program: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &daemon.pid().to_string()]).args(program);
        let output = command.output().expect("nsenter of util-linux");
        assert!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let rows = || -> u64 {
        let query = "import sqlite3, sys; print(sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)\
                     .execute('SELECT count(*) FROM facts').fetchone()[0])";
        inside(&["python3", "-c", query, &format!("{place}/checkind.db")]).trim().parse().expect("a number")
    };
    broker.publish_lines("flat/events", (0..TAPS).map(tap), 1);
    let detail = daemon.wait_for_condition("database_unavailable");
    assert!(detail.contains("full"), "{detail}");
    let acknowledged = daemon.metric("checkind_mqtt_acknowledged_total", "");
    assert!(acknowledged < u64::from(TAPS), "the disk is not small enough for this test");
    assert_eq!(rows(), acknowledged, "everything acknowledged is on the disk");
    inside(&["mount", "-o", "remount,size=64m", &place]);
    wait_for("all taps", LIMIT, || match rows() {
        now if now == u64::from(TAPS) => Ok(()),
        now => Err(format!("{now} of {TAPS}\n{}", daemon.log())),
    });
    daemon.adds_up();
    assert_eq!(daemon.changes_of("database_unavailable"), (1, 1), "{}", daemon.log());
    // One more complaint: the disk was reported as nearly full before.
    assert_eq!(daemon.changes_of("disk_low").0, 1, "{}", daemon.log());
    assert_eq!(daemon.complaints().len(), 2, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn broken_input_is_counted_shown_masked_acknowledged_and_blocks_nothing() {
    let broker = Broker::plain();
    let (home, mut daemon) = one_person_in(broker.port, &broker);
    let endless = format!("{{\"door\":\"side\",\"card\":\"{}\"", "7".repeat(20 * 1024));
    let deep = format!("{{\"card\":{}", "[".repeat(100_000));
    let larger = "x".repeat(256 * 1024 + 1);
    let largest = "x".repeat(300 * 1024);
    let bad: [(&[u8], &str); 7] = [
        (endless.as_bytes(), "not_in_format"),
        (larger.as_bytes(), "oversize"),
        (b"\xff\xfe\xfd", "not_utf8"),
        (b"", "empty"),
        (br#"{"door":"side","card":{"number":4711},"result":"granted"}"#, "bad_field"),
        (deep.as_bytes(), "not_in_format"),
        (br#"{"door":"side","card":"4711","result":"dancing"}"#, "no_rule"),
    ];
    let mut sent = BTreeMap::<&str, u64>::new();
    for number in 0..25 {
        let (payload, why) = bad[number % bad.len()];
        // Use a file, because command arguments are short and cannot contain zero bytes.
        home.write_bytes("payload", payload);
        broker.publish_file("flat/events", &home.path("payload"));
        *sent.entry(why).or_default() += 1;
    }
    // Larger than the session's maximum packet size: the broker drops the message instead of ending the connection.
    home.write_bytes("payload", largest.as_bytes());
    broker.publish_file("flat/events", &home.path("payload"));
    broker.publish_lines("flat/events", (1..=10).map(tap), 1);
    wait_for("the good ten", LIMIT, || {
        daemon.still_runs();
        match home.ledger().facts_with(Outcome::Opened) {
            11 => Ok(()),
            now => Err(format!("{now}\n{}", daemon.log())),
        }
    });
    for (why, count) in &sent {
        let counted = daemon.metric("checkind_rejected_messages_total", &format!("\"{why}\""));
        assert_eq!(counted, *count, "{why}");
    }
    daemon.adds_up();
    let log = daemon.log();
    assert_eq!(daemon.lines("a message was not understood").len(), 25, "{log}");
    assert!(!log.contains("4711"), "samples are masked: {log}");
    assert_eq!(home.ledger().facts_with(Outcome::Rejected), 25);
    assert_eq!(home.ledger().count("checkins WHERE to_time IS NOT NULL"), 0);
    assert_eq!(daemon.changes_of("broker_unavailable"), (0, 0), "{log}");
    daemon.stop();
}

#[test]
fn messages_of_topics_that_we_no_longer_want_stop_nothing() {
    let broker = Broker::plain();
    let home = Home::new(
        &(site("")
            + &doors(broker.port)
            + "[[source]]\nname = \"old\"\npreset = \"generic-json\"\ntopics = [\"old/#\"]\n"),
    );
    home.import(&people(PEOPLE, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    daemon.stop();
    // The broker still has the subscription, and delivers what arrived meanwhile.
    home.configure(&(site("") + &doors(broker.port)));
    broker.publish_lines("old/events", (0..5).map(tap), 1);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    broker.publish("flat/events", tap(6).as_bytes(), 1);
    wait_for_facts(&home, &mut daemon, 6);
    assert_eq!(daemon.metric("checkind_rejected_messages_total", "unknown_topic"), 5);
    assert_eq!(home.ledger().count("checkins"), 1);
    daemon.adds_up();
    daemon.stop();
}

#[test]
fn a_database_file_that_is_removed_takes_no_more_taps_and_what_came_meanwhile_is_not_lost() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    broker.publish_lines("flat/events", (0..10).map(tap), 1);
    daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", 10);
    std::fs::remove_file(home.path("checkind.db")).expect("the file");
    broker.publish_lines("flat/events", (10..20).map(tap), 1);
    let detail = daemon.wait_for_condition("database_unavailable");
    assert!(detail.contains("was removed or replaced") && detail.contains("restart checkind"), "{detail}");
    assert_eq!(daemon.metric("checkind_mqtt_acknowledged_total", ""), 10);
    daemon.kill();
    for side in ["checkind.db-wal", "checkind.db-shm"] {
        std::fs::remove_file(home.path(side)).expect("a file of the removed database");
    }
    let daemon = home.start();
    daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", 10);
    daemon.stop();
}
