//! The binary as a process: notifications to systemd, reload, the ways to end, and commands beside a running daemon.

use std::{fs, os::unix::fs::PermissionsExt};

use checkind::{base::fact::Fact, engine::decision::Outcome};
use rustix::process::Signal;

use crate::support::{
    broker::{Broker, BrokerOptions, free_port},
    daemon::{BINARY, Daemon, Home, LIMIT, Systemd, Way, card, doors, flat_event, next_second, now, people, site},
    wait_for,
};

/// A site with people and doors, running.
fn open_site(broker: &Broker, persons: u32) -> (Home, Daemon) {
    let home = Home::new(&(site("") + &doors(broker.port)));
    home.import(&people(persons, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    (home, daemon)
}

#[test]
fn systemd_is_notified_from_start_to_stop() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    let mut systemd = Systemd::new(&home.path("."));
    let address = systemd.address().to_owned();
    // The shell becomes the daemon and keeps its process id, so it can set `WATCHDOG_PID`.
    let starter = ["sh", "-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\"", BINARY];
    let daemon = home.start_by(&starter, &[("NOTIFY_SOCKET", &address), ("WATCHDOG_USEC", "1500000")]);
    systemd.wait_for("STATUS=opening the database");
    systemd.wait_for("READY=1");
    systemd.wait_for("STATUS=0 check-ins open");
    systemd.wait_for("WATCHDOG=1");
    systemd.wait_for("WATCHDOG=1");
    daemon.signal(Signal::HUP);
    let reloading = systemd.wait_for("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "systemd requires both in one message: {reloading}");
    systemd.wait_for("READY=1");
    daemon.signal(Signal::TERM);
    systemd.wait_for("STOPPING=1");
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_good_reload_applies_and_a_bad_one_keeps_the_old_settings() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    home.import(&people(3, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let more = "[[source]]\nname = \"back\"\npreset = \"generic-json\"\ntopics = [\"back/events\"]\n\
                [[door]]\nmatch = \"yard\"\non_in = \"check_in\"\n";
    home.configure(&(site("") + &doors(broker.port) + more));
    daemon.signal(Signal::HUP);
    daemon.wait_for_line("the new settings are in force");
    daemon.wait_for_metric("checkind_mqtt_subscribed", "", 3);
    let tap = flat_event(1, card(1), Way::In, next_second()).replace("side", "yard");
    broker.publish("back/events", tap.as_bytes(), 1);
    decided(&home, &daemon, |source, outcome| source == "back" && outcome == Outcome::Opened, 1);

    home.configure("[site]\nbusiness = \"one\"\nname = \"Hub One\"\ntime_zone = \"UTC\"\n");
    daemon.signal(Signal::HUP);
    let detail = daemon.wait_for_condition("settings_refused");
    assert!(detail.contains("expected a business number") && detail.contains("old ones stay in force"), "{detail}");
    let answer = daemon.get("/readyz");
    assert_eq!(answer.status, 200, "it continues with the old settings: {}", answer.body);
    broker.publish("flat/events", flat_event(2, card(2), Way::In, now()).as_bytes(), 1);
    decided(&home, &daemon, |source, outcome| source == "flat" && outcome == Outcome::Opened, 1);

    home.configure(&(site("") + &doors(broker.port)));
    daemon.signal(Signal::HUP);
    daemon.wait_until_over("settings_refused");
    assert_eq!(daemon.changes_of("settings_refused"), (1, 1), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn what_was_received_before_the_end_is_decided_and_acknowledged() {
    const TAPS: u32 = 500;
    let broker = Broker::plain();
    let (home, daemon) = open_site(&broker, 5);
    let lock = home.ledger().lock();
    let at = now();
    broker.publish_lines("flat/events", (0..TAPS).map(|number| flat_event(number, card(1), Way::In, at)), 1);
    daemon.wait_for_metric("checkind_mqtt_messages_total", "", TAPS.into());
    daemon.signal(Signal::TERM);
    daemon.wait_for_line("shutting down: no longer accepting input");
    assert_eq!(home.ledger().facts(), 0, "the database is locked");
    drop(lock);
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(home.ledger().facts(), i64::from(TAPS));
    // Nothing is left at the broker for the next process.
    let mut daemon = home.start();
    daemon.wait_until_ready();
    broker.publish("flat/events", flat_event(TAPS, card(1), Way::In, at).as_bytes(), 1);
    decided(&home, &daemon, |source, _| source == "flat", TAPS as usize + 1);
    assert_eq!(daemon.metric("checkind_mqtt_messages_total", ""), 1);
    daemon.stop();
}

#[test]
fn an_end_in_the_middle_of_a_stream_loses_and_doubles_nothing() {
    const TAPS: u32 = 3000;
    let broker = Broker::plain();
    let (home, daemon) = open_site(&broker, 5);
    let at = now();
    let taps = (0..TAPS).map(|number| flat_event(number, card(1 + number % 5), Way::In, at));
    std::thread::scope(|scope| {
        scope.spawn(|| broker.publish_lines("flat/events", taps, 1));
        wait_for("the first taps", LIMIT, || match daemon.metric("checkind_mqtt_messages_total", "") {
            0 => Err(daemon.log()),
            _ => Ok(()),
        });
        daemon.stop();
    });
    assert!(home.ledger().facts() > 0);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    decided(&home, &daemon, |source, _| source == "flat", TAPS as usize);
    assert_eq!(home.ledger().count("checkins"), 5);
    daemon.stop();
}

#[test]
fn a_second_signal_ends_at_once_what_the_first_cannot() {
    let broker = Broker::plain();
    let (home, daemon) = open_site(&broker, 1);
    let lock = home.ledger().lock();
    broker.publish("flat/events", flat_event(1, card(1), Way::In, now()).as_bytes(), 1);
    daemon.wait_for_metric("checkind_mqtt_messages_total", "", 1);
    daemon.signal(Signal::TERM);
    daemon.wait_for_line("a second one ends the process at once");
    daemon.wait_for_line("shutting down: no longer accepting input");
    daemon.signal(Signal::TERM);
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("a second signal: exiting at once"), "{log}");
    assert!(!log.contains("abandoned"), "it waited for the deadline: {log}");
    drop(lock);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    decided(&home, &daemon, |_, outcome| outcome == Outcome::Opened, 1);
}

#[test]
fn a_part_that_is_late_at_the_deadline_is_named_and_loses_nothing() {
    let broker = Broker::plain();
    let (home, daemon) = open_site(&broker, 1);
    let lock = home.ledger().lock();
    broker.publish("flat/events", flat_event(1, card(1), Way::In, now()).as_bytes(), 1);
    daemon.wait_for_metric("checkind_mqtt_messages_total", "", 1);
    daemon.signal(Signal::TERM);
    let (status, log) = daemon.wait();
    assert!(status.code().is_some_and(|code| code != 0), "{status}: {log}");
    assert!(log.contains("abandoned: ") && log.contains("the pipeline"), "{log}");
    drop(lock);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    decided(&home, &daemon, |_, outcome| outcome == Outcome::Opened, 1);
    daemon.stop();
}

#[test]
fn the_exit_code_says_whose_fault_it_is() {
    let home = Home::new("[site]\nbusiness = \"one\"\nname = 5\ntime_zone = \"Mars/Base\"\n[mqqt]\nurl = \"x\"\n");
    let bad = home.run(&["run"]);
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert_eq!(bad.status.code(), Some(78), "{said}");
    for fault in ["6:12: business:", "7:8: name:", "8:13: time_zone:", "9:2: mqqt:"] {
        assert!(said.contains(fault), "{fault} is missing in {said}");
    }

    assert_eq!(home.run(&["dance"]).status.code(), Some(64));

    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let home = Home::new("");
    let port = taken.local_addr().expect("its address").port();
    let run = home.command(&["run"]).env("CHECKIND__API__LISTEN", format!("127.0.0.1:{port}")).output();
    let run = run.expect("the binary starts");
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(69), "{said}");
    assert!(said.contains(&format!("the API cannot listen on 127.0.0.1:{port}")), "{said}");

    let home = Home::on("sqlite:/nonexistent/checkind/checkind.db", "");
    let run = home.run(&["who"]);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(69), "{said}");
    assert!(said.contains("there is no file /nonexistent/checkind/checkind.db"), "{said}");
}

#[test]
fn without_the_right_to_capture_the_daemon_says_what_it_needs() {
    let home = Home::new(&(site("") + "[[capture]]\ninterface = \"lo\"\n"));
    // Copy the binary, which may be where only root has access, into a folder that the user `nobody` can read.
    let folder = home.path("").canonicalize().expect("the folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("an open folder");
    let binary = folder.join("checkind");
    fs::copy(BINARY, &binary).expect("a copy");
    let binary = binary.to_str().expect("a path of ours");
    let starter = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", binary];
    let run = home.command_of(&starter, &["run"]).output().expect("setpriv of util-linux");
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(77), "{said}");
    assert!(said.contains("CAP_NET_RAW"), "{said}");
}

#[test]
fn the_commands_work_beside_a_running_daemon() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    assert_eq!(home.ask(&["who"]), "No one is checked in.\n");
    home.import(&people(1, &[]));
    daemon.wait_for_line("the directory has changed");
    broker.publish("flat/events", flat_event(1, card(1), Way::In, now()).as_bytes(), 1);
    decided(&home, &daemon, |_, outcome| outcome == Outcome::Opened, 1);
    let who = home.ask(&["who"]);
    assert!(who.contains("Member 1") && who.contains("Hub One"), "{who}");
    let who: serde_json::Value = serde_json::from_str(&home.ask(&["who", "--json"])).expect("JSON");
    assert_eq!((&who[0]["CoworkerId"], &who[0]["ToTime"]), (&1.into(), &serde_json::Value::Null), "{who}");

    home.tell(&["user", "add", "ada", "--role", "Checkin-Read"], "correct horse battery\n");
    assert!(home.ask(&["user", "list"]).contains("ada"));
    assert_eq!(home.run(&["user", "remove", "bob"]).status.code(), Some(64));
    daemon.stop();
}

#[test]
fn a_start_without_a_broker_is_a_condition_until_it_comes() {
    let port = free_port();
    let home = Home::new(&(site("") + &doors(port)));
    home.import(&people(1, &[]));
    let mut daemon = home.start();
    daemon.wait_for_condition("broker_unavailable");
    assert_eq!(daemon.get("/readyz").status, 503);
    assert_eq!(daemon.get("/healthz").status, 200);
    let _broker = Broker::start_on(port, BrokerOptions::default());
    daemon.wait_until_ready();
    assert_eq!(daemon.changes_of("broker_unavailable"), (1, 1), "{}", daemon.log());
    daemon.stop();
}

/// Waits until the log has `count` door facts whose source and outcome match.
fn decided(home: &Home, daemon: &Daemon, which: impl Fn(&str, Outcome) -> bool, count: usize) {
    wait_for(&format!("{count} facts"), LIMIT, || {
        let log = home.ledger().log();
        let all = log.iter().filter(|(fact, outcome)| {
            let Fact::Door(door) = fact else { return false };
            which(&door.source, *outcome)
        });
        let all = all.count();
        if all == count { Ok(()) } else { Err(format!("{all}\n{}", daemon.log())) }
    });
}
