//! What a gateway needs of a shared PostgreSQL: few connections, the rights granted in the README, and no session
//! state.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::support::{
    broker::Broker,
    daemon::{Daemon, Home, LIMIT, Way, card, doors, flat_event, now, people, site},
    ledger::Ledger,
    pooler::{Pooler, grants},
    postgres::Postgres,
    wait_for,
};

/// People who use the doors.
const PEOPLE: u32 = 20;

/// The login of the gateways.
const LOGIN: &str = "gateway";

/// Prepares a server: its owner creates the tables, and a login with the rights granted in the README may open
/// `connections` connections.
fn prepared(server: &Postgres, connections: u32) {
    Home::on(&server.url(), &site("")).ask(&["migrate"]);
    let ledger = Ledger::of(&server.url());
    ledger.execute(&format!("CREATE ROLE {LOGIN} LOGIN CONNECTION LIMIT {connections}"));
    for grant in grants(LOGIN) {
        ledger.execute(&grant);
    }
}

fn url(address: &str) -> String {
    format!("postgres://{LOGIN}@{address}/postgres")
}

/// A gateway with its own business and topic.
fn gateway(address: &str, broker: &Broker, business: u32) -> Home {
    let text = (site("") + &doors(broker.port))
        .replace("business = 1", &format!("business = {business}"))
        .replace("checkind-test", &format!("checkind-{business}"))
        .replace("flat/events", &format!("flat/{business}"));
    Home::on(&url(address), &text)
}

/// Adds an API user who may read check-ins. Call it before the daemon starts: after that no connection is left for a
/// command.
fn add_reader(home: &Home) {
    home.ask(&["migrate"]);
    home.tell(&["user", "add", "ada", "--role", "Checkin-Read"], "correct horse battery\n");
}

/// The `Authorization` header of that user.
fn reader(daemon: &Daemon) -> String {
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let body = "grant_type=password&username=ada&password=correct+horse+battery";
    let answer = daemon.send("POST", "/api/token", &[form], body);
    assert_eq!(answer.status, 200, "{answer:?}");
    format!("Bearer {}", answer.json()["access_token"].as_str().expect("a token"))
}

fn tap(number: u32, way: Way) -> String {
    flat_event(number, card(1 + number % PEOPLE), way, now())
}

fn wait_for_facts(ledger: &Ledger, daemons: &mut [&mut Daemon], rows: u32) {
    wait_for(&format!("{rows} facts"), LIMIT, || {
        for daemon in daemons.iter_mut() {
            daemon.still_runs();
        }
        match ledger.facts() {
            now if now == i64::from(rows) => Ok(()),
            now => Err(format!("{now}\n{}", daemons[0].log())),
        }
    });
}

/// Both gateways share two connections to the server, and cannot tell which one they get.
#[test]
fn two_gateways_work_behind_a_pgbouncer_in_transaction_mode() {
    const TAPS: u32 = 200;
    let server = Postgres::that_logs();
    let pooler = Pooler::start(&server.address(), &["checkind", LOGIN], "");
    // The owner creates the tables through the pooler, too.
    let owner = Home::on(&format!("postgres://checkind@{}/postgres", pooler.address()), &site(""));
    owner.ask(&["migrate"]);
    prepared(&server, 2);
    let broker = Broker::plain();
    let homes = [1, 2].map(|business| gateway(&pooler.address(), &broker, business));
    homes[0].import(&people(PEOPLE, &[]));
    add_reader(&homes[0]);
    let [mut one, mut two] = homes.each_ref().map(Home::start);
    one.wait_until_ready();
    two.wait_until_ready();
    let authorization = reader(&one);
    thread::scope(|scope| {
        for business in [1, 2] {
            let broker = &broker;
            scope.spawn(move || {
                broker.publish_lines(&format!("flat/{business}"), (0..TAPS).map(|number| tap(number, Way::In)), 1);
            });
        }
        for daemon in [&one, &two] {
            let headers = [("Authorization", authorization.as_str())];
            scope.spawn(move || {
                for number in 1..100 {
                    let answer = daemon.send("GET", &format!("/api/spaces/checkins/{number}"), &headers, "");
                    assert!([200, 404].contains(&answer.status), "{answer:?}");
                }
            });
        }
    });
    let ledger = Ledger::of(&server.url());
    wait_for_facts(&ledger, &mut [&mut one, &mut two], 2 * TAPS);
    assert_eq!(ledger.count("checkins"), i64::from(2 * PEOPLE));
    for daemon in [one, two] {
        assert_eq!(daemon.complaints(), [""; 0], "{}", daemon.log());
        daemon.stop();
    }
    // The statements that the gateways sent, and their names.
    let log = server.log();
    let told: Vec<&str> = log.lines().filter(|line| line.starts_with(&format!("{LOGIN} "))).collect();
    assert!(told.iter().any(|line| line.contains("execute <unnamed>")), "the log has the names of statements");
    let named = |line: &&&str| {
        let words = ["parse ", "bind ", "execute "].map(|word| format!(" {word}"));
        words.iter().filter_map(|word| line.split_once(word)).any(|(_, name)| !name.starts_with("<unnamed>"))
            && line.contains("duration: ")
    };
    let bad: Vec<&&str> = told.iter().filter(named).take(3).collect();
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn a_gateway_takes_four_connections_at_work_and_one_at_rest() {
    connections_at_work(10, 4);
}

/// A login that was made for two connections is enough: then the API takes turns with the lease.
#[test]
fn a_gateway_makes_do_with_two_connections() {
    connections_at_work(2, 2);
}

/// A gateway at work, whose login may open `allowed` connections, takes at most `expected`.
fn connections_at_work(allowed: u32, expected: i64) {
    const TAPS: u32 = 2000;
    let server = Postgres::start();
    prepared(&server, allowed);
    let broker = Broker::plain();
    let home = gateway(&server.address(), &broker, 1);
    home.import(&people(PEOPLE, &[]));
    add_reader(&home);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let authorization = reader(&daemon);
    let ledger = Ledger::of(&server.url());
    let taken = || ledger.count(&format!("pg_stat_activity WHERE usename = '{LOGIN}'"));
    let working = AtomicBool::new(true);
    let mut most = 0;
    thread::scope(|scope| {
        let (daemon, working, broker) = (&daemon, &working, &broker);
        let headers = [("Authorization", authorization.as_str())];
        for _ in 0..4 {
            scope.spawn(move || {
                while working.load(Ordering::Relaxed) {
                    assert_eq!(daemon.send("GET", "/readyz", &[], "").status, 200);
                    let answer = daemon.send("GET", "/api/spaces/checkins/1", &headers, "");
                    // Before the first tap there is no check-in.
                    assert!([200, 404].contains(&answer.status), "{answer:?}");
                }
            });
        }
        let publishing = scope.spawn(move || {
            let portions = (0..TAPS).collect::<Vec<_>>();
            let portions =
                portions.chunks(50).map(|numbers| numbers.iter().map(|&number| tap(number, Way::In)).collect());
            broker.publish_portions("flat/1", portions, Duration::from_millis(50));
        });
        while !publishing.is_finished() {
            most = most.max(taken());
        }
        working.store(false, Ordering::Relaxed);
    });
    wait_for_facts(&ledger, &mut [&mut daemon], TAPS);
    // How many are seen at once depends on how the requests meet.
    assert!((2..=expected).contains(&most), "{most} connections at work");
    wait_for("one connection", LIMIT, || match taken() {
        1 => Ok(()),
        more => Err(format!("{more}")),
    });
    assert_eq!(daemon.complaints(), [""; 0], "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_gateway_without_its_rights_says_what_to_do() {
    let server = Postgres::start();
    prepared(&server, 2);
    let ledger = Ledger::of(&server.url());
    ledger.execute(&format!("REVOKE UPDATE ON standings FROM {LOGIN}"));
    let broker = Broker::plain();
    let home = gateway(&server.address(), &broker, 1);
    home.import(&people(PEOPLE, &[]));
    let mut daemon = home.start();
    // At once, before the first tap needs the right.
    let said = daemon.wait_for_condition("database_unavailable");
    for part in ["permission denied for table standings", "this login lacks a right", "README"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    ledger.execute(&format!("GRANT UPDATE ON standings TO {LOGIN}"));
    daemon.wait_until_ready();
    broker.publish_lines("flat/1", [tap(0, Way::In)], 1);
    wait_for_facts(&ledger, &mut [&mut daemon], 1);
    daemon.stop();
}
