//! A shared database that goes back in time: a backup is restored, or a failover discards commits. What the gateway's
//! spool still has comes back, and nothing that the gateway remembers is taken for true.

use checkind::engine::decision::Outcome;
use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    broker::Broker,
    daemon::{Daemon, Home, LIMIT, Way, card, doors, flat_event, next_second, now, people, site},
    ledger::Ledger,
    postgres::Postgres,
    wait_for,
};

/// People who use the doors.
const PEOPLE: u32 = 20;

fn taps(numbers: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    let at = now();
    numbers.map(move |number| flat_event(number, card(1 + number % PEOPLE), Way::In, at))
}

fn gateway(server: &Postgres, broker: &Broker, more: &str) -> Home {
    let home = Home::on(&server.url(), &(site("") + &doors(broker.port) + more));
    home.import(&people(PEOPLE, &[]));
    home
}

fn wait_for_number(home: &Home, query: &str, wanted: i64) {
    wait_for(&format!("{query} to be {wanted}"), LIMIT, || match home.ledger().try_number(query)? {
        found if found == wanted => Ok(()),
        found => Err(found.to_string()),
    });
}

/// Publishes taps, and waits until the database has as many facts and the spool knows it.
fn taps_are_decided(home: &Home, daemon: &Daemon, broker: &Broker, numbers: std::ops::Range<u32>) {
    let facts = i64::from(numbers.end);
    broker.publish_lines("flat/events", taps(numbers), 1);
    wait_for_number(home, "SELECT count(*) FROM facts", facts);
    daemon.wait_for_metric("checkind_spool_depth", "", 0);
}

/// Stops the server, does something to its data, and starts it again.
fn while_stopped(server: &mut Postgres, work: impl FnOnce(&Postgres)) {
    server.crash();
    work(server);
    server.resume();
}

/// Every message is one fact, and every person has one check-in.
fn each_is_there_once(home: &Home, messages: u32) {
    wait_for_number(home, "SELECT count(*) FROM facts", i64::from(messages));
    wait_for_number(home, "SELECT count(*) FROM checkins", i64::from(PEOPLE));
    assert_eq!(home.ledger().count("checkins WHERE to_time IS NOT NULL"), 0, "someone was checked out");
    assert_eq!(home.ledger().facts_with(Outcome::Opened), i64::from(PEOPLE));
}

#[test]
fn what_a_restored_database_lost_is_delivered_again_by_a_running_gateway() {
    let mut server = Postgres::start();
    let broker = Broker::plain();
    let home = gateway(&server, &broker, "");
    let mut daemon = home.start();
    daemon.wait_until_ready();
    taps_are_decided(&home, &daemon, &broker, 0..200);
    while_stopped(&mut server, Postgres::save);
    taps_are_decided(&home, &daemon, &broker, 200..400);
    while_stopped(&mut server, Postgres::restore);
    let detail = daemon.wait_for_condition("database_went_back");
    assert!(detail.contains("delivers 200 door messages again. "), "{detail}");
    each_is_there_once(&home, 400);
    daemon.wait_for_metric("checkind_spool_delivered_again_total", "", 200);
    daemon.wait_for_metric("checkind_spool_depth", "", 0);

    // Again, to an even earlier time, and while new taps arrive.
    taps_are_decided(&home, &daemon, &broker, 400..500);
    server.crash();
    broker.publish_lines("flat/events", taps(500..600), 1);
    daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", 600);
    server.restore();
    server.resume();
    each_is_there_once(&home, 600);
    // With them come those that are already on their way.
    daemon.wait_for_metric("checkind_spool_delivered_again_total", "", 600);
    daemon.wait_until_ready();
    daemon.stop();
    // The next process finds everything where it should be.
    let daemon = home.start();
    taps_are_decided(&home, &daemon, &broker, 600..601);
    assert_eq!(daemon.metric("checkind_spool_replayed_total", ""), 0);
    assert_eq!(daemon.conditions().get("database_went_back"), None);
    daemon.stop();
}

#[test]
fn what_a_restored_database_lost_is_delivered_again_by_the_next_process() {
    for is_killed in [false, true] {
        let mut server = Postgres::start();
        let broker = Broker::plain();
        let home = gateway(&server, &broker, "");
        let mut daemon = home.start();
        daemon.wait_until_ready();
        taps_are_decided(&home, &daemon, &broker, 0..200);
        while_stopped(&mut server, Postgres::save);
        taps_are_decided(&home, &daemon, &broker, 200..400);
        // Its row says that the others are committed, as a clean end would.
        taps_are_decided(&home, &daemon, &broker, 400..401);
        if is_killed {
            daemon.kill();
        } else {
            daemon.stop();
        }
        while_stopped(&mut server, Postgres::restore);
        let mut daemon = home.start();
        daemon.wait_until_ready();
        each_is_there_once(&home, 401);
        let detail = daemon.wait_for_condition("database_went_back");
        assert!(detail.contains("door messages again"), "{detail}");
        daemon.wait_for_metric("checkind_spool_depth", "", 0);
        daemon.stop();
    }
}

#[test]
fn what_was_committed_longer_ago_than_is_kept_is_said_to_be_lost() {
    let mut server = Postgres::start();
    let broker = Broker::plain();
    let spool = tempfile::tempdir().expect("a folder");
    let path = spool.path().join("spool.db");
    let home = gateway(&server, &broker, &format!("[spool]\npath = \"{}\"\nkeep = \"0s\"\n", path.display()));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    while_stopped(&mut server, Postgres::save);
    taps_are_decided(&home, &daemon, &broker, 0..100);
    // The next write deletes what is no longer kept.
    for number in 100..103 {
        taps_are_decided(&home, &daemon, &broker, number..number + 1);
    }
    while_stopped(&mut server, Postgres::restore);
    let detail = daemon.wait_for_condition("database_went_back");
    assert!(detail.contains("earlier ones are lost, because spool.keep is over for them"), "{detail}");
    daemon.stop();
}

/// Copies every table, or puts the copies back, in one transaction: as if the server had failed over to one that lacked
/// the last commits, behind an address that hides it.
const SAVE: &str = "DO $$ DECLARE t text; BEGIN CREATE SCHEMA saved;
    FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
      EXECUTE format('CREATE TABLE saved.%I AS TABLE public.%I', t, t);
    END LOOP; END $$";
const PUT_BACK: &str = "DO $$ DECLARE t text; BEGIN
    FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'saved' LOOP
      EXECUTE format('DELETE FROM public.%I', t);
      EXECUTE format('INSERT INTO public.%I SELECT * FROM saved.%I', t, t);
    END LOOP; END $$";

#[test]
fn commits_that_a_failover_discards_are_noticed_without_a_broken_connection() {
    let server = Postgres::start();
    let broker = Broker::plain();
    let home = gateway(&server, &broker, "");
    let mut daemon = home.start();
    daemon.wait_until_ready();
    taps_are_decided(&home, &daemon, &broker, 0..100);
    home.ledger().execute(SAVE);
    taps_are_decided(&home, &daemon, &broker, 100..200);
    home.ledger().execute(PUT_BACK);
    // No tap comes: the gateway compares every few seconds.
    each_is_there_once(&home, 200);
    daemon.wait_for_metric("checkind_spool_delivered_again_total", "", 100);
    home.ledger().execute(PUT_BACK);
    // The next tap shows it.
    broker.publish_lines("flat/events", taps(200..201), 1);
    each_is_there_once(&home, 201);
    daemon.wait_for_metric("checkind_spool_depth", "", 0);
    assert_eq!(daemon.changes_of("database_unavailable"), (0, 0), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn an_import_after_a_restore_comes_into_force_although_it_has_the_number_of_the_lost_one() {
    let mut server = Postgres::start();
    let broker = Broker::plain();
    let home = gateway(&server, &broker, "");
    let mut daemon = home.start();
    daemon.wait_until_ready();
    while_stopped(&mut server, Postgres::save);
    let inactive = |id: u32| json!({ "Coworkers": [{ "Id": id, "Active": false }] });
    // After the import: the controller's clock shows whole seconds.
    let tap = |number: u32, person: u32| flat_event(number, card(person), Way::In, next_second());
    let refused = |person: u32| format!("SELECT count(*) FROM failed_checkins WHERE coworker_id = {person}");
    home.import(&inactive(1));
    broker.publish_lines("flat/events", [tap(0, 1)], 1);
    wait_for_number(&home, &refused(1), 1);
    let version = home.ledger().number("SELECT version FROM directory_version");

    // The gateway must not see the database between the restore and the import.
    daemon.signal(Signal::STOP);
    while_stopped(&mut server, Postgres::restore);
    home.import(&inactive(2));
    assert_eq!(home.ledger().number("SELECT version FROM directory_version"), version);
    daemon.signal(Signal::CONT);
    broker.publish_lines("flat/events", [tap(1, 2)], 1);
    wait_for_number(&home, &refused(2), 1);
    // The tap that was delivered again is judged by the restored directory, in which this person is active.
    wait_for_number(&home, "SELECT count(*) FROM checkins WHERE coworker_id = 1", 1);
    daemon.wait_until_ready();
    daemon.stop();
}

#[test]
fn settings_that_a_restored_database_lacks_are_recorded_again() {
    let mut server = Postgres::start();
    let broker = Broker::plain();
    let home = gateway(&server, &broker, "");
    let mut daemon = home.start();
    daemon.wait_until_ready();
    while_stopped(&mut server, Postgres::save);
    let newest = "SELECT policy FROM site_policies ORDER BY number DESC LIMIT 1";
    let before = home.ledger().texts(newest);
    home.configure(&(site("debounce = \"7s\"\n") + &doors(broker.port)));
    daemon.signal(Signal::HUP);
    wait_for_number(&home, "SELECT count(*) FROM site_policies", 2);
    let changed = home.ledger().texts(newest);
    assert_ne!(before, changed);
    while_stopped(&mut server, Postgres::restore);
    wait_for_number(&home, "SELECT count(*) FROM site_policies", 2);
    assert_eq!(home.ledger().texts(newest), changed);
    daemon.wait_until_ready();
    daemon.stop();
}

#[test]
fn a_standby_delivers_again_what_it_had_committed_before_it_passed_the_site_on() {
    let mut server = Postgres::start();
    let broker = Broker::plain();
    let leased = |holder: &str| {
        Home::on(&server.url(), &(site("") + &doors(broker.port) + &format!("[lease]\nholder = \"{holder}\"\n")))
    };
    let (first, second) = (leased("a"), leased("b"));
    first.import(&people(PEOPLE, &[]));
    let mut active = first.start();
    active.wait_until_ready();
    // A gateway with a lease is ready before it has it.
    active.wait_for_line("subscribed to the topics");
    taps_are_decided(&first, &active, &broker, 0..100);
    while_stopped(&mut server, Postgres::save);
    taps_are_decided(&first, &active, &broker, 100..200);
    active.stop();
    let other = second.start();
    taps_are_decided(&second, &other, &broker, 200..300);
    // Its row says that the others are committed, as a clean end would.
    taps_are_decided(&second, &other, &broker, 300..301);
    let standby = first.start();
    standby.wait_for_condition("standby");

    // The restored database does not know the lease. While the standby cannot take it, the other starts again.
    standby.signal(Signal::STOP);
    other.kill();
    while_stopped(&mut server, Postgres::restore);
    let other = second.start();
    other.wait_for_line("this gateway holds the lease");
    standby.signal(Signal::CONT);
    each_is_there_once(&first, 301);
    for (gateway, messages) in [(standby, 100), (other, 101)] {
        let detail = gateway.wait_for_condition("database_went_back");
        assert!(detail.contains(&format!("delivers {messages} door messages again")), "{detail}");
        gateway.stop();
    }
}

#[test]
fn committed_messages_give_way_before_the_spool_is_full() {
    const TAPS: u32 = 6000;
    let server = Postgres::start();
    let broker = Broker::plain();
    let spool = tempfile::tempdir().expect("a folder");
    let path = spool.path().join("spool.db");
    let home = gateway(&server, &broker, &format!("[spool]\npath = \"{}\"\nlimit = \"1MB\"\n", path.display()));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    for first in (0..TAPS).step_by(1000) {
        taps_are_decided(&home, &daemon, &broker, first..first + 1000);
    }
    let ledger = Ledger::of(&format!("sqlite:{}", path.display()));
    let kept = ledger.count("spool");
    assert!((500..i64::from(TAPS)).contains(&kept), "{kept}");
    assert!(daemon.metric("checkind_spool_bytes", "") <= 1_000_000);
    assert_eq!(daemon.changes_of("spool_full"), (0, 0), "{}", daemon.log());
    assert_eq!(daemon.metric("checkind_mqtt_shed_total", ""), 0);
    daemon.stop();
}
