//! A fact that the database does not take is set aside, and everything else is decided. A database that takes nothing
//! is away. Messages with many events take bounded memory.

use std::{fmt::Write as _, time::Duration};

use checkind::engine::decision::Outcome;

use crate::support::{
    broker::Broker,
    daemon::{Daemon, Home, LIMIT, Way, card, doors, flat_event, now, people, site},
    ledger::Ledger,
    postgres::Postgres,
    wait_for,
};

/// People who use the door. The database takes nothing about the last of them.
const PEOPLE: u32 = 21;

const FUNCTION: &str = "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS \
                        $$ BEGIN RAISE EXCEPTION 'poison' USING ERRCODE = '22000'; END $$";

/// Messages 0 to `number`, one of them with the card of the last person.
fn taps(number: u32, poison: u32) -> impl Iterator<Item = String> {
    let at = now().minus(Duration::from_mins(1));
    (0..number).map(move |tap| {
        let person = if tap == poison { PEOPLE } else { 1 + tap % (PEOPLE - 1) };
        flat_event(tap, card(person), Way::In, at)
    })
}

/// Waits until the log has this many facts and the table of those set aside has one.
fn wait_for_all_but_one(ledger: &Ledger, daemon: &mut Daemon, facts: i64) {
    wait_for("every fact to be decided or set aside", 2 * LIMIT, || {
        daemon.still_runs();
        let now = (ledger.try_facts()?, ledger.try_number("SELECT count(*) FROM set_aside")?);
        if now == (facts, 1) { Ok(()) } else { Err(format!("{now:?}\n{}", daemon.log())) }
    });
}

/// Checks that the fact of the last person is the one that was set aside, and that a person can find it.
fn is_named(home: &Home, daemon: &Daemon, answer: &str) {
    assert_eq!(home.ledger().number("SELECT subject FROM set_aside"), i64::from(PEOPLE));
    let detail = daemon.wait_for_condition("set_aside");
    assert!(detail.contains("did not take 1 fact") && detail.contains("explain --set-aside"), "{detail}");
    assert_eq!(daemon.get("/readyz").status, 200, "it only warns");
    assert_eq!(daemon.changes_of("database_unavailable"), (0, 0), "{}", daemon.log());
    for arguments in [vec!["explain", "--set-aside"], vec!["explain", &PEOPLE.to_string()]] {
        let printed = home.ask(&arguments);
        assert!(printed.contains(&format!("card {}, granted", card(PEOPLE))), "{printed}");
        assert!(printed.contains("set aside") && printed.contains(answer), "{printed}");
    }
    let json: serde_json::Value = serde_json::from_str(&home.ask(&["explain", "--set-aside", "--json"])).expect("JSON");
    assert_eq!(json[0]["CoworkerId"], PEOPLE);
    assert!(!daemon.log().contains(&card(PEOPLE).to_string()), "the log names no card");
}

#[test]
fn of_ten_thousand_messages_the_one_that_the_database_does_not_take_is_set_aside() {
    const TAPS: u32 = 10_000;
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    home.import(&people(PEOPLE, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    home.ledger().execute(&format!(
        "CREATE TRIGGER poison BEFORE INSERT ON facts WHEN NEW.subject = {PEOPLE} \
         BEGIN SELECT RAISE(ABORT, 'poison'); END"
    ));
    broker.publish_lines("flat/events", taps(TAPS, 5000), 1);
    wait_for_all_but_one(&home.ledger(), &mut daemon, i64::from(TAPS) - 1);
    daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", u64::from(TAPS));
    daemon.wait_for_metric("checkind_decisions_total", "outcome=\"set_aside\"", 1);
    daemon.adds_up();
    is_named(&home, &daemon, "poison");
    assert_eq!(home.ledger().count("checkins"), i64::from(PEOPLE) - 1);
    daemon.stop();
    // The condition outlives the process, and the message does not come again.
    let mut daemon = home.start();
    daemon.wait_until_ready();
    is_named(&home, &daemon, "poison");
    daemon.stop();
}

#[test]
fn what_shows_only_at_the_commit_is_set_aside_from_the_spool_also_after_a_kill() {
    const TAPS: u32 = 3000;
    let server = Postgres::start();
    let broker = Broker::plain();
    let home = Home::on(&server.url(), &(site("") + &doors(broker.port)));
    home.import(&people(PEOPLE, &[]));
    home.ledger().execute(FUNCTION);
    home.ledger().execute(&format!(
        "CREATE CONSTRAINT TRIGGER poison AFTER INSERT ON facts DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW WHEN (NEW.subject = {PEOPLE}) EXECUTE FUNCTION poison()"
    ));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    broker.publish_lines("flat/events", taps(TAPS, 700), 1);
    daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", u64::from(TAPS));
    daemon.kill();
    let mut daemon = home.start();
    wait_for_all_but_one(&home.ledger(), &mut daemon, i64::from(TAPS) - 1);
    daemon.wait_for_metric("checkind_spool_depth", "", 0);
    is_named(&home, &daemon, "poison");
    daemon.stop();
    let daemon = home.start();
    assert_eq!(daemon.metric("checkind_spool_replayed_total", ""), 0, "it is not tried again");
    daemon.stop();
}

#[test]
fn a_database_that_takes_nothing_is_away_and_nothing_is_set_aside() {
    const TAPS: u32 = 500;
    let server = Postgres::start();
    let broker = Broker::plain();
    let home = Home::on(&server.url(), &(site("") + &doors(broker.port)));
    home.import(&people(PEOPLE, &[]));
    home.ledger().execute(&FUNCTION.replace("22000", "53200"));
    home.ledger().execute("CREATE TRIGGER poison BEFORE INSERT ON facts FOR EACH ROW EXECUTE FUNCTION poison()");
    let mut daemon = home.start();
    daemon.wait_until_ready();
    broker.publish_lines("flat/events", taps(TAPS, TAPS), 1);
    daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", u64::from(TAPS));
    daemon.wait_for_condition("database_unavailable");
    home.ledger().execute("DROP TRIGGER poison ON facts");
    wait_for("every fact", LIMIT, || {
        daemon.still_runs();
        let facts = home.ledger().try_facts()?;
        if facts == i64::from(TAPS) { Ok(()) } else { Err(format!("{facts}\n{}", daemon.log())) }
    });
    assert_eq!(home.ledger().count("set_aside"), 0);
    daemon.wait_until_over("database_unavailable");
    assert!(!daemon.conditions().contains_key("set_aside"));
    daemon.stop();
}

#[test]
fn a_server_with_little_memory_gets_smaller_batches() {
    const TAPS: u32 = 1500;
    let server = Postgres::start();
    let broker = Broker::plain();
    let home = Home::on(&server.url(), &(site("") + &doors(broker.port)));
    home.import(&people(PEOPLE, &[]));
    let function = FUNCTION.replace("22000", "53200");
    home.ledger().execute(
        &function
            .replace("RAISE", "IF (SELECT count(*) FROM made) > 40 THEN RAISE")
            .replace("'; END", "'; END IF; RETURN NULL; END"),
    );
    home.ledger().execute(
        "CREATE TRIGGER poison AFTER INSERT ON facts REFERENCING NEW TABLE AS made \
         FOR EACH STATEMENT EXECUTE FUNCTION poison()",
    );
    let mut daemon = home.start();
    daemon.wait_until_ready();
    broker.publish_lines("flat/events", taps(TAPS, TAPS), 1);
    wait_for("every fact", LIMIT, || {
        daemon.still_runs();
        let facts = home.ledger().try_facts()?;
        if facts == i64::from(TAPS) { Ok(()) } else { Err(format!("{facts}\n{}", daemon.log())) }
    });
    assert!(
        daemon.metric("checkind_commit_failures_total", "") > 0,
        "no batch was too large: this test proves nothing"
    );
    assert_eq!(home.ledger().count("set_aside"), 0);
    assert_eq!(home.ledger().facts_with(Outcome::Opened), i64::from(PEOPLE) - 1);
    assert_eq!(daemon.changes_of("database_unavailable"), (0, 0), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn two_thousand_messages_of_many_large_events_take_bounded_memory() {
    const MESSAGES: u32 = 2000;
    const EVENTS: u32 = 64;
    /// What they may add to the daemon's memory, in KiB. Without a bound, the messages alone would take 150 MB.
    const MOST: u64 = 100 * 1024;
    let broker = Broker::plain();
    let source = "[[source]]\nname = \"many\"\npreset = \"generic-json\"\ntopics = [\"many/events\"]\neach = \"/events\"\n\
                  time.trust = \"8d past\"\n";
    let home = Home::new(&(site("") + &doors(broker.port) + source));
    home.import(&people(PEOPLE, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let before = daemon.peak_memory();
    let at = now().minus(Duration::from_mins(1));
    let long = "x".repeat(230);
    let message = |message: u32| {
        let mut text = "{\"events\":[".to_owned();
        for event in 0..EVENTS {
            let number = message * EVENTS + event;
            let one = flat_event(number, card(1 + number % PEOPLE), Way::In, at)
                .replace("\"id\":\"", &format!("\"id\":\"{long}"));
            write!(text, "{}{one}", if event == 0 { "" } else { "," }).expect("writing to a String cannot fail");
        }
        text + "]}"
    };
    let lock = home.ledger().lock();
    broker.publish_lines("many/events", (0..MESSAGES).map(message), 1);
    wait_for("all room to be taken", LIMIT, || match daemon.metric("checkind_mqtt_shed_total", "") {
        0 => Err(daemon.get("/metrics").body),
        _ => Ok(()),
    });
    drop(lock);
    wait_for("some batches", 2 * LIMIT, || {
        daemon.still_runs();
        match home.ledger().try_facts()? {
            facts if facts >= 10_000 => Ok(()),
            facts => Err(format!("{facts}\n{}", daemon.log())),
        }
    });
    let added = daemon.peak_memory() - before;
    assert!(added < MOST, "{added} KiB more than before");
}
