//! Active and standby: two gateways of one site, one of which is active. If it fails, the other takes over within
//! fifteen seconds, nothing is lost, and nothing is decided twice.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use checkind::{base::clock::Clock, engine::decision::Outcome};
use rustix::process::Signal;

use crate::support::{
    broker::Broker,
    daemon::{Daemon, Home, LIMIT, Way, card, doors, flat_event, now, people, site},
    postgres::Postgres,
    wait_for,
};

/// People who use the doors.
const PEOPLE: u32 = 20;

/// The longest time that a takeover may take.
const TAKEOVER: Duration = Duration::from_secs(15);

fn tap(number: u32) -> String {
    flat_event(number, card(1 + number % PEOPLE), Way::In, now())
}

/// Two gateways of one site. The first has imported the people.
fn pair(server: &Postgres, broker: &Broker) -> [Home; 2] {
    let homes = ["gateway-a", "gateway-b"].map(|name| {
        let more = format!("[lease]\nholder = \"{name}\"\n");
        Home::on(&server.url(), &(site("") + &doors(broker.port) + &more))
    });
    homes[0].import(&people(PEOPLE, &[]));
    homes
}

/// Whether this gateway is active: connected to the broker and subscribed.
fn works(daemon: &Daemon) -> bool {
    daemon.metric("checkind_mqtt_subscribed", "") > 0
}

/// Waits until a gateway is active. Returns how long that took.
fn wait_until_it_works(daemon: &mut Daemon) -> Duration {
    let clock = Clock::system();
    let began = clock.now().boot;
    wait_for("the gateway to work", LIMIT, || {
        daemon.still_runs();
        if works(daemon) { Ok(()) } else { Err(daemon.log()) }
    });
    clock.now().boot.since(began)
}

/// Starts both: the first is active, the second stands by.
fn one_works(homes: &[Home; 2]) -> [Daemon; 2] {
    let mut first = homes[0].start();
    wait_until_it_works(&mut first);
    let second = homes[1].start();
    stands_by(&second);
    [first, second]
}

fn stands_by(daemon: &Daemon) {
    daemon.wait_for_condition("standby");
    assert_eq!(daemon.metric("checkind_mqtt_connects_total", ""), 0, "a standby has no session");
    let own = daemon.metric("checkind_spool_replayed_total", "");
    let decided = daemon.metric("checkind_decisions_total", "");
    assert_eq!(decided, own, "a standby decides only what its own earlier process had acknowledged");
    assert_eq!(daemon.get("/readyz").status, 200, "a standby is ready to take over");
}

/// Checks that every message is one fact, and each person is checked in once. `working` is the active gateway.
fn check(home: &Home, working: &Daemon, messages: u32) {
    let ledger = home.ledger();
    wait_for(&format!("{messages} facts"), LIMIT, || match ledger.try_facts()? {
        now if now >= i64::from(messages) => Ok(()),
        now => Err(format!("{now}\n{}\n{}", working.log(), working.get("/metrics").body)),
    });
    assert_eq!(ledger.facts(), i64::from(messages));
    assert_eq!(ledger.count("checkins"), i64::from(PEOPLE.min(messages)));
    assert_eq!(ledger.count("checkins WHERE to_time IS NOT NULL"), 0, "a person was checked out");
    assert_eq!(ledger.facts_with(Outcome::Opened), i64::from(PEOPLE.min(messages)));
}

#[test]
fn whichever_of_two_gateways_is_killed_the_other_goes_on_and_nothing_is_lost_or_doubled() {
    const ROUNDS: usize = 4;
    let server = Postgres::start();
    let broker = Broker::plain();
    let homes = pair(&server, &broker);
    let mut daemons = vec![homes[0].start()];
    wait_until_it_works(&mut daemons[0]);
    daemons.push(homes[1].start());
    stands_by(&daemons[1]);
    let (going, sent) = (AtomicBool::new(true), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while going.load(Ordering::Relaxed) {
                let first = sent.load(Ordering::Relaxed);
                broker.publish_lines("flat/events", (first..first + 10).map(tap), 1);
                sent.store(first + 10, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
        });
        // In a thread, because the stream must end even if an assertion fails.
        let rounds = thread::Builder::new().spawn_scoped(scope, || {
            for round in 0..ROUNDS {
                let active = usize::from(works(&daemons[1]));
                // First the active one is killed, then the standby; after that chance decides.
                let victim = match round {
                    0 => active,
                    1 => 1 - active,
                    _ => usize::from(now().millis() % 2 == 0),
                };
                daemons.remove(victim).kill();
                let survivor = &mut daemons[0];
                let took = wait_until_it_works(survivor);
                assert!(took < TAKEOVER, "round {round}: {took:?}\n{}", survivor.log());
                daemons.insert(victim, homes[victim].start());
                stands_by(&daemons[victim]);
            }
        });
        let outcome = rounds.expect("a thread").join();
        going.store(false, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let working = daemons.iter().find(|daemon| works(daemon)).expect("one works");
    check(&homes[0], working, sent.load(Ordering::Relaxed));
    for daemon in daemons {
        daemon.stop();
    }
}

#[test]
fn a_gateway_that_was_frozen_past_its_lease_writes_nothing_more_and_comes_back_as_the_standby() {
    let server = Postgres::start();
    let broker = Broker::plain();
    let homes = pair(&server, &broker);
    let [first, mut second] = one_works(&homes);
    broker.publish_lines("flat/events", (0..200).map(tap), 1);
    check(&homes[0], &first, 200);
    thread::scope(|scope| {
        // Some of these messages are under way when the first gateway freezes.
        scope.spawn(|| broker.publish_lines("flat/events", (200..3000).map(tap), 1));
        first.signal(Signal::STOP);
    });
    let took = wait_until_it_works(&mut second);
    assert!(took < TAKEOVER, "{took:?}\n{}", second.log());
    broker.publish_lines("flat/events", (3000..3200).map(tap), 1);
    first.signal(Signal::CONT);
    let (status, log) = first.wait();
    assert_eq!(status.code(), Some(69), "{log}");
    assert!(log.contains("taken over this site"), "{log}");
    // Restart it, as systemd would.
    let third = homes[0].start();
    third.wait_for_condition("standby");
    assert_eq!(third.metric("checkind_mqtt_connects_total", ""), 0);
    check(&homes[0], &second, 3200);
    assert!(works(&second), "{}", second.log());
    assert_eq!(second.changes_of("session_taken_over"), (0, 0), "{}", second.log());
    second.stop();
    third.stop();
}

#[test]
fn a_clean_shutdown_passes_the_site_to_the_standby_at_once() {
    let server = Postgres::start();
    let broker = Broker::plain();
    let homes = pair(&server, &broker);
    let [first, mut second] = one_works(&homes);
    broker.publish_lines("flat/events", (0..100).map(tap), 1);
    first.stop();
    broker.publish_lines("flat/events", (100..200).map(tap), 1);
    let took = wait_until_it_works(&mut second);
    assert!(took < Duration::from_secs(5), "{took:?}\n{}", second.log());
    check(&homes[0], &second, 200);
    second.stop();
}

#[test]
fn while_the_database_is_away_the_working_gateway_collects_and_stays_the_working_one() {
    let mut server = Postgres::start();
    let broker = Broker::plain();
    let homes = pair(&server, &broker);
    let [mut first, mut second] = one_works(&homes);
    server.crash();
    // The stream takes longer than the term of the lease.
    let portions = (0..150).map(|portion| (portion * 10..portion * 10 + 10).map(tap).collect());
    broker.publish_portions("flat/events", portions, Duration::from_millis(100));
    first.wait_for_metric("checkind_mqtt_acknowledged_total", "", 1500);
    server.resume();
    check(&homes[0], &first, 1500);
    first.wait_until_ready();
    first.still_runs();
    second.still_runs();
    assert!(works(&first) && !works(&second), "{}\n{}", first.log(), second.log());
    first.stop();
    second.stop();
}
