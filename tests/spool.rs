//! Many gateways on one PostgreSQL: door messages are on the gateway's own disk before they are acknowledged, so
//! nothing is lost or doubled while the database is down.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, thread, time::Duration};

use checkind::{base::clock::WallTime, engine::decision::Outcome};
use rustix::process::Signal;

use crate::support::{
    broker::{Broker, BrokerOptions},
    daemon::{BINARY, Daemon, Home, LIMIT, Way, card, doors, flat_event, now, people, site},
    ledger::Ledger,
    postgres::Postgres,
    wait_for,
};

/// People who use the doors.
const PEOPLE: u32 = 20;

/// A tap of one of these people on their way in.
fn tap(number: u32, at: WallTime) -> String {
    flat_event(number, card(1 + number % PEOPLE), Way::In, at)
}

fn taps(numbers: std::ops::Range<u32>) -> Vec<String> {
    let at = now();
    numbers.map(|number| tap(number, at)).collect()
}

/// Taps per second. Once its queue is full, mosquitto drops messages that arrive faster than its client reads.
const A_SECOND: u32 = 1000;

fn publish_paced(broker: &Broker, numbers: std::ops::Range<u32>) {
    let portions = numbers.step_by(100).map(|first| taps(first..first + 100));
    broker.publish_portions("flat/events", portions, Duration::from_millis(95));
}

/// A tap without a number and a time: its key is derived from its arrival.
fn anonymous(person: u32) -> String {
    format!(r#"{{"door":"side","card":"{}","result":"granted","direction":"in"}}"#, card(person))
}

/// A site on this server, with its people.
fn gateway(server: &Postgres, broker: &Broker, more: &str) -> Home {
    let home = Home::on(&server.url(), &(site("") + &doors(broker.port) + more));
    home.import(&people(PEOPLE, &[]));
    home
}

fn short_queue() -> BrokerOptions {
    BrokerOptions { short_queue: true, ..BrokerOptions::default() }
}

fn wait_for_facts(ledger: &Ledger, daemon: &mut Daemon, rows: i64) {
    wait_for(&format!("{rows} facts"), LIMIT, || {
        daemon.still_runs();
        match ledger.try_facts()? {
            now if now >= rows => Ok(()),
            now => Err(format!("{now}\n{}", daemon.log())),
        }
    });
}

/// Checks that each message is one fact, and that no person has been checked out, or checked in twice.
fn intact(home: &Home, daemon: &mut Daemon, messages: u32) {
    let ledger = home.ledger();
    wait_for_facts(&ledger, daemon, i64::from(messages));
    assert_eq!(ledger.facts(), i64::from(messages));
    assert_eq!(ledger.count("checkins"), i64::from(messages.min(PEOPLE)));
    assert_eq!(ledger.count("checkins WHERE to_time IS NOT NULL"), 0, "someone was checked out");
}

/// Checks that every message of this process, and every one that an earlier process left in the spool, ended in one
/// outcome, and that none waits.
fn adds_up(daemon: &Daemon) {
    // Messages left with the broker arrived again, and are counted twice.
    let received = daemon.metric("checkind_mqtt_messages_total", "") - daemon.metric("checkind_mqtt_shed_total", "");
    daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", received);
    let replayed = daemon.metric("checkind_spool_replayed_total", "");
    daemon.wait_for_metric("checkind_decisions_total", "", received + replayed);
    daemon.wait_for_metric("checkind_spool_depth", "", 0);
}

/// How long the database is down, in seconds.
#[expect(clippy::disallowed_methods, reason = "a variable sets a longer outage")]
fn outage() -> u32 {
    std::env::var("CHECKIND_TEST_OUTAGE").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(10)
}

/// `CHECKIND_TEST_OUTAGE` sets the outage in seconds; ten by default.
#[test]
fn a_database_that_is_away_while_the_broker_keeps_little_costs_nothing() {
    let mut server = Postgres::start();
    let broker = Broker::start(short_queue());
    let home = gateway(&server, &broker, "");
    let mut daemon = home.start();
    daemon.wait_until_ready();
    // For comparison, a client that does not read its session meanwhile: it shows what the broker alone can keep.
    let compared = home.path("compared");
    let reader = broker.subscriber("flat/events", fs::File::create(&compared).expect("a file"));
    broker.publish_lines("flat/events", taps(0..1), 1);
    let lines = || fs::read_to_string(&compared).unwrap_or_default().lines().count();
    wait_for("the other client to read", LIMIT, || if lines() == 1 { Ok(()) } else { Err(String::new()) });
    reader.signal(Signal::STOP);

    server.crash();
    let messages = outage() * A_SECOND;
    publish_paced(&broker, 1..messages + 1);
    wait_for("all of them to be acknowledged", LIMIT, || match daemon.metric("checkind_mqtt_acknowledged_total", "") {
        now if now == u64::from(messages) + 1 => Ok(()),
        now => Err(format!("{now}\n{}", daemon.log())),
    });
    let waiting = daemon.metric("checkind_spool_depth", "");
    assert!(waiting >= u64::from(messages), "{waiting} wait in the spool");
    // Wait until the pipeline has noticed, not only a reader of `/readyz`.
    daemon.wait_for_line("stay in the spool");
    server.resume();
    daemon.wait_until_ready();
    intact(&home, &mut daemon, messages + 1);
    adds_up(&daemon);
    assert_eq!(daemon.metric("checkind_mqtt_shed_total", ""), 0);
    assert_eq!(daemon.changes_of("database_unavailable"), (1, 1), "{}", daemon.log());
    daemon.stop();

    reader.signal(Signal::CONT);
    // The broker sends what it has kept before any new message.
    broker.publish("flat/events", b"the end", 1);
    wait_for("the other client to read on", LIMIT, || {
        let text = fs::read_to_string(&compared).unwrap_or_default();
        if text.ends_with("the end\n") { Ok(()) } else { Err(format!("{} lines", lines())) }
    });
    let read = lines();
    assert!(read < usize::try_from(messages).expect("few"), "the broker kept all {read}: this test proves nothing");
}

#[test]
fn what_was_acknowledged_while_the_database_was_away_outlives_a_kill_and_is_decided_once() {
    let mut server = Postgres::start();
    let broker = Broker::plain();
    let home = gateway(&server, &broker, "");
    let mut daemon = home.start();
    daemon.wait_until_ready();
    // Committed, but perhaps not deleted yet: then these are replayed needlessly, although they have neither number nor
    // time.
    broker.publish_lines("flat/events", (11..=20).map(anonymous), 1);
    wait_for_facts(&home.ledger(), &mut daemon, 10);
    server.crash();
    broker.publish_lines("flat/events", (1..=10).map(anonymous), 1);
    broker.publish_lines("flat/events", taps(0..3000), 1);
    daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", 3020);
    daemon.kill();

    // Longer than the debounce window, on which the keys of messages without number and time depend.
    thread::sleep(Duration::from_secs(6));
    // A second process without the database: it accepts more messages, and loses none of them either.
    let daemon = home.spawn_by(&[BINARY], &[]);
    daemon.wait_for_line("subscribed to the topics");
    broker.publish_lines("flat/events", taps(3000..5000), 1);
    thread::sleep(Duration::from_secs(1));
    daemon.kill();

    server.resume();
    let mut daemon = home.start();
    daemon.wait_until_ready();
    intact(&home, &mut daemon, 5020);
    let replayed = daemon.metric("checkind_spool_replayed_total", "");
    assert!(replayed >= 3010, "{replayed} messages were replayed");
    adds_up(&daemon);
    assert_eq!(home.ledger().facts_with(Outcome::Opened), i64::from(PEOPLE));
    daemon.stop();
    let mut daemon = home.start();
    daemon.wait_until_ready();
    assert_eq!(daemon.metric("checkind_spool_replayed_total", ""), 0, "a clean end leaves nothing behind");
    daemon.still_runs();
    daemon.stop();
}

#[test]
fn a_gateway_that_starts_without_its_database_collects_and_stops_cleanly() {
    let mut server = Postgres::start();
    let broker = Broker::start(short_queue());
    let home = gateway(&server, &broker, "");
    server.crash();
    let daemon = home.spawn_by(&[BINARY], &[]);
    daemon.wait_for_line("condition=\"database_unavailable\"");
    daemon.wait_for_line("subscribed to the topics");
    publish_paced(&broker, 0..2000);
    daemon.stop();
    let daemon = home.spawn_by(&[BINARY], &[]);
    daemon.wait_for_line("subscribed to the topics");
    server.resume();
    let mut daemon = daemon.listening();
    daemon.wait_until_ready();
    intact(&home, &mut daemon, 2000);
    adds_up(&daemon);
    daemon.stop();
}

#[test]
fn a_full_spool_acknowledges_nothing_more_and_drains_when_the_database_is_back() {
    const TAPS: u32 = 6000;
    let mut server = Postgres::start();
    let broker = Broker::plain();
    let spool = tempfile::tempdir().expect("a folder");
    let path = spool.path().join("spool.db");
    let home = gateway(&server, &broker, &format!("[spool]\npath = \"{}\"\nlimit = \"1MB\"\n", path.display()));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let mode = fs::metadata(&path).expect("the spool").permissions().mode();
    assert_eq!(mode & 0o077, 0, "it contains what people typed at keypads: {mode:o}");
    server.crash();
    broker.publish_lines("flat/events", taps(0..TAPS), 1);
    let detail = daemon.wait_for_condition("spool_full");
    assert!(detail.contains("stay with the broker"), "{detail}");
    let acknowledged = daemon.metric("checkind_mqtt_acknowledged_total", "");
    assert!(acknowledged < u64::from(TAPS), "the spool is not small enough for this test");
    assert_eq!(daemon.get("/readyz").status, 503);
    server.resume();
    daemon.wait_until_ready();
    intact(&home, &mut daemon, TAPS);
    adds_up(&daemon);
    assert_eq!(daemon.changes_of("spool_full"), (1, 1), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_spool_whose_disk_is_full_acknowledges_only_what_it_holds() {
    const TAPS: u32 = 8000;
    let mut server = Postgres::start();
    let broker = Broker::plain();
    let disk = tempfile::tempdir().expect("a mount point");
    let place = disk.path().to_str().expect("a path of ours").to_owned();
    let home = gateway(&server, &broker, &format!("[spool]\npath = \"{place}/spool.db\"\n"));
    // Only the daemon sees the small disk, which ends with it.
    let script = "mount -t tmpfs -o size=2m,mode=700 tmpfs \"$1\" && shift && exec \"$@\"";
    let mut daemon = home.start_by(&["unshare", "--mount", "sh", "-c", script, "sh", &place, BINARY], &[]);
    daemon.wait_until_ready();
    server.crash();
    broker.publish_lines("flat/events", taps(0..TAPS), 1);
    let detail = daemon.wait_for_condition("spool_unavailable");
    assert!(detail.contains("full"), "{detail}");
    let query = "import sqlite3, sys; print(sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)\
                 .execute('SELECT count(*) FROM spool').fetchone()[0])";
    let output = Command::new("nsenter")
        .args(["--mount", "--target", &daemon.pid().to_string(), "python3", "-c", query, &format!("{place}/spool.db")])
        .output()
        .expect("nsenter of util-linux");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let held: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
    let acknowledged = daemon.metric("checkind_mqtt_acknowledged_total", "");
    assert!(acknowledged < u64::from(TAPS), "the disk is not small enough for this test");
    assert_eq!(held, acknowledged, "everything acknowledged is on the disk");
    server.resume();
    daemon.wait_until_ready();
    intact(&home, &mut daemon, TAPS);
    adds_up(&daemon);
    daemon.stop();
}

#[test]
fn two_gateways_of_one_business_with_the_same_doors_write_everything_once() {
    let mut server = Postgres::start();
    let broker = Broker::plain();
    let first = gateway(&server, &broker, "");
    let other = (site("") + &doors(broker.port)).replace("checkind-test", "checkind-other");
    let second = Home::on(&server.url(), &other);
    let mut daemons = [first.start(), second.start()];
    daemons.iter_mut().for_each(Daemon::wait_until_ready);
    thread::scope(|scope| {
        scope.spawn(|| broker.publish_lines("flat/events", taps(0..4000), 1));
        wait_for_facts(&first.ledger(), &mut daemons[0], 1000);
        server.crash();
        server.resume();
    });
    for daemon in &mut daemons {
        daemon.wait_for_metric("checkind_mqtt_messages_total", "", 4000);
        intact(&first, daemon, 4000);
        adds_up(daemon);
    }
    let outcomes = |word: &str| -> u64 {
        daemons.iter().map(|daemon| daemon.metric("checkind_decisions_total", &format!("\"{word}\""))).sum()
    };
    // Late messages cause others to be decided again, so only the records show which gateway opened what. Only one
    // gateway decides.
    assert!(outcomes("duplicate") >= 4000, "{}", outcomes("duplicate"));
    for daemon in daemons {
        daemon.stop();
    }
}

#[test]
fn fifty_gateways_of_fifty_businesses_on_one_server_lose_double_and_block_nothing() {
    const GATEWAYS: u32 = 50;
    const TAPS: u32 = 100;
    const VISITOR: u32 = GATEWAYS * PEOPLE + 1;
    const VISITED: u32 = 5;
    let server = Postgres::with_room_for(GATEWAYS * 2 + 10);
    let broker = Broker::plain();
    let homes: Vec<Home> = (1..=GATEWAYS)
        .map(|business| {
            let text = (site("") + &doors(broker.port))
                .replace("business = 1", &format!("business = {business}"))
                .replace("checkind-test", &format!("checkind-{business}"))
                .replace("flat/events", &format!("flat/{business}"));
            Home::on(&server.url(), &text)
        })
        .collect();
    homes[0].import(&people(VISITOR, &[]));
    let mut daemons: Vec<Daemon> = homes.iter().map(Home::start).collect();
    daemons.iter_mut().for_each(Daemon::wait_until_ready);
    // People enter at every site, at the same time and with the same event numbers; a visitor was at some sites for a
    // second each.
    let at = now();
    let was_at = |business: u32| at.minus(Duration::from_secs(u64::from(VISITED - business)));
    thread::scope(|scope| {
        for business in 1..=GATEWAYS {
            let broker = &broker;
            scope.spawn(move || {
                let first = 1 + (business - 1) * PEOPLE;
                let taps = (0..TAPS).map(|number| flat_event(number, card(first + number % PEOPLE), Way::In, at));
                let visits = business <= VISITED;
                let visitor = visits.then(|| flat_event(TAPS, card(VISITOR), Way::In, was_at(business)));
                broker.publish_lines(&format!("flat/{business}"), taps.chain(visitor), 1);
            });
        }
    });
    let ledger = homes[0].ledger();
    wait_for_facts(&ledger, &mut daemons[0], i64::from(GATEWAYS * TAPS + VISITED));
    assert_eq!(ledger.facts(), i64::from(GATEWAYS * TAPS + VISITED));
    assert_eq!(ledger.count("checkins"), i64::from(GATEWAYS * PEOPLE + VISITED));
    let of_visitor = format!("coworker_id = {VISITOR}");
    assert_eq!(ledger.count(&format!("checkins WHERE to_time IS NOT NULL AND NOT {of_visitor}")), 0);
    let visits = ledger.texts(&format!(
        "SELECT CAST(business_id AS TEXT), CAST(extract(epoch FROM to_time - from_time)::integer AS TEXT) FROM checkins \
         WHERE {of_visitor} ORDER BY from_time"
    ));
    let second = |business| if business == VISITED { String::new() } else { "1".to_owned() };
    let wanted: Vec<_> = (1..=VISITED).map(|business| vec![business.to_string(), second(business)]).collect();
    assert_eq!(visits, wanted, "entering elsewhere ends the visit before");
    for daemon in daemons {
        adds_up(&daemon);
        assert_eq!(daemon.complaints(), [""; 0], "{}", daemon.log());
        daemon.stop();
    }
}

#[test]
fn a_gateway_that_the_server_has_no_room_for_collects_says_so_and_decides_when_there_is_room() {
    let server = Postgres::with_room_for(8);
    let broker = Broker::plain();
    let home = gateway(&server, &broker, "");
    home.import(&people(PEOPLE, &[]));
    let others = server.held(8);
    let daemon = home.spawn_by(&[BINARY], &[]);
    wait_for("the gateway to say so", LIMIT, || {
        let log = daemon.log();
        if log.contains("too many clients already") { Ok(()) } else { Err(log) }
    });
    broker.publish_lines("flat/events", taps(0..PEOPLE), 1);
    drop(others);
    let mut daemon = daemon.listening();
    daemon.wait_until_ready();
    intact(&home, &mut daemon, PEOPLE);
    adds_up(&daemon);
    daemon.stop();
}
