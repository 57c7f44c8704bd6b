//! The real daemon on a wall clock that is stepped while it runs, or not set when it starts (libfaketime).

use std::fs;

use checkind::base::clock::WallTime;

use crate::support::{
    broker::Broker,
    daemon::{BINARY, Daemon, Home, LIMIT, Way, card, doors, flat_event, now, people, site},
    faketime::{library, offset},
    wait_for,
};

const TEN_DAYS: i64 = 864_000;

/// A daemon whose wall clock the test sets. Its boot-time clock is the machine's.
struct Stage {
    broker: Broker,
    home: Home,
    daemon: Daemon,
}

impl Stage {
    /// Starts with a wall clock that is wrong by `off` seconds.
    fn new(off: i64) -> Self {
        let broker = Broker::plain();
        let home = Home::new(&(site("") + &doors(broker.port)));
        home.import(&people(3, &[]));
        home.write("clock", &offset(off));
        let library = library();
        let file = home.path("clock");
        let environment = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().expect("a path of ours")),
            // In seconds. While one thread reads the file again, another may see the true time.
            ("FAKETIME_CACHE_DURATION", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        let daemon = home.start_by(&[BINARY], &environment);
        Self { broker, home, daemon }
    }

    /// Makes the wall clock wrong by `off` seconds. Replaces the file, because a half-written file reads as no offset.
    fn set(&self, off: i64) {
        self.home.write("clock.new", &offset(off));
        fs::rename(self.home.path("clock.new"), self.home.path("clock")).expect("the file is written");
    }

    /// Publishes a tap from a controller that sends no time.
    fn tap(&self, number: u32, person: u32, way: Way) {
        let at = now();
        let time = format!(r#","time":"{}""#, at.to_rfc3339_seconds());
        let event = flat_event(number, card(person), way, at).replace(&time, "");
        assert!(!event.contains("time"), "{event}");
        self.broker.publish("flat/events", event.as_bytes(), 1);
    }

    fn wait_for_facts(&mut self, rows: i64) {
        let Self { home, daemon, .. } = self;
        wait_for(&format!("{rows} facts"), LIMIT, || {
            daemon.still_runs();
            match home.ledger().facts() {
                now if now == rows => Ok(()),
                now => Err(format!("{now}\n{}", daemon.log())),
            }
        });
    }

    /// The number of times in the records outside this span.
    fn times_outside(&self, from: WallTime, to: WallTime) -> i64 {
        let span = format!("NOT BETWEEN '{from}' AND '{to}'");
        let ledger = self.home.ledger();
        let times = ["from_time", "last_activity", "to_time"];
        let records: i64 = times.iter().map(|time| ledger.count(&format!("checkins WHERE {time} {span}"))).sum();
        let span = format!("NOT BETWEEN {} AND {}", from.millis(), to.millis());
        let millis = ["facts WHERE at", "standings WHERE last_activity", "presences WHERE last_at"];
        records + millis.iter().map(|time| ledger.count(&format!("{time} {span}"))).sum::<i64>()
    }
}

#[test]
fn a_clock_stepped_ten_days_either_way_checks_no_one_out_and_leaves_no_trace() {
    let mut stage = Stage::new(0);
    stage.daemon.wait_until_ready();
    let began = now();
    stage.tap(1, 1, Way::In);
    stage.wait_for_facts(1);
    for (number, off, person) in [(2, TEN_DAYS, 2), (3, -TEN_DAYS, 3), (4, TEN_DAYS, 1)] {
        stage.set(off);
        let step = format!("stepped by {off} seconds");
        wait_for(&step, LIMIT, || {
            let detail = stage.daemon.conditions().remove("clock_stepped").unwrap_or_default();
            // The size of a step is rounded to seconds.
            let near = (off - 1..=off + 1).any(|off| detail.contains(&format!("stepped by {off} seconds")));
            if near { Ok(()) } else { Err(format!("{detail}\n{}", stage.daemon.log())) }
        });
        stage.tap(number, person, Way::In);
        stage.wait_for_facts(number.into());
    }
    let ledger = stage.home.ledger();
    assert_eq!((ledger.count("checkins"), ledger.count("checkins WHERE to_time IS NULL")), (3, 3));
    stage.set(0);
    stage.tap(5, 1, Way::Out);
    stage.wait_for_facts(5);
    assert_eq!((ledger.count("checkins"), ledger.count("checkins WHERE to_time IS NULL")), (3, 2));
    assert_eq!(ledger.count("checkins WHERE auto_checkout"), 0);
    assert_eq!(
        stage.times_outside(began, now()),
        0,
        "{:?}",
        ledger.texts("SELECT from_time, last_activity FROM checkins")
    );
    stage.daemon.stop();
}

#[test]
fn a_start_in_1970_waits_until_the_clock_is_set_and_then_knows_when_people_came() {
    let mut stage = Stage::new(20 - now().millis() / 1000);
    stage.daemon.wait_for_condition("clock_not_set");
    stage.daemon.wait_for_metric("checkind_mqtt_subscribed", "", 2);
    assert_eq!(stage.daemon.get("/readyz").status, 503);
    let began = now();
    stage.tap(1, 1, Way::In);
    stage.broker.publish("flat/events", flat_event(2, card(2), Way::In, now()).as_bytes(), 1);
    stage.daemon.wait_for_metric("checkind_mqtt_messages_total", "", 2);
    let received = now();
    assert_eq!(stage.home.ledger().facts(), 0, "decided before the clock was set");
    stage.set(0);
    stage.daemon.wait_until_over("clock_not_set");
    stage.wait_for_facts(2);
    assert_eq!(stage.home.ledger().count("checkins WHERE to_time IS NULL"), 2);
    let second = std::time::Duration::from_secs(1);
    assert_eq!(
        stage.times_outside(began.minus(second), received.plus(second)),
        0,
        "{:?}",
        stage.home.ledger().texts("SELECT from_time, last_activity FROM checkins")
    );
    stage.daemon.wait_until_ready();
    stage.daemon.stop();
}
