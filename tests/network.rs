//! The daemon on a mirror port: real clients on a real wire lead to check-ins that are refreshed and closed
//! automatically, and neither a dead wire nor a flood of forged addresses does any harm.

use std::time::Duration;

use checkind::{
    base::{
        clock::{Clock, WallTime},
        mac::MacAddr,
    },
    pipeline::UNRECOGNISED_A_DAY,
};
use serde_json::json;

use crate::support::{
    broker::Broker,
    daemon::{BINARY, Daemon, Home, LIMIT, Way, card, doors, flat_event, now, people, site, site_until},
    faketime::WallClock,
    frame::arp_request,
    lan::{Namespace, Office, Wire},
    wait_for,
};

/// Starts the daemon in a namespace, where API requests are then made too.
fn start_in(home: &Home, namespace: &Namespace) -> Daemon {
    let mut daemon = home.start_by(&["ip", "netns", "exec", namespace.name(), BINARY], &[]).inside(namespace.name());
    daemon.wait_until_ready();
    daemon
}

/// A site with this interface as its only capture.
fn capturing(interface: &str, more: &str) -> String {
    format!("{}[[capture]]\ninterface = \"{interface}\"\n", site(more))
}

/// A person with this device.
fn owner(mac: &str) -> serde_json::Value {
    people(0, &[json!({ "Id": 7, "FullName": "Ada Lovelace", "MacAddresses": mac })])
}

/// Device number `number`. None of these devices belongs to a person.
fn device(number: u32) -> MacAddr {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddr::new([0x02, 0xf0, a, b, c, d])
}

/// The member's device on a plain wire.
const MEMBER: &str = "02:aa:00:00:00:01";

fn member() -> MacAddr {
    MEMBER.parse().expect("an address")
}

/// The check-ins by person: source, addresses, from, last activity, to, automatic.
fn visits(home: &Home) -> Vec<[String; 6]> {
    // The last refresh of an open visit is not in its row yet.
    let rows = home.ledger().texts(
        "SELECT CAST(source AS TEXT), mac_addresses, from_time, last_activity, to_time, CAST(auto_checkout AS TEXT), \
         CAST((SELECT max(last_activity) FROM standings WHERE subject = coworker_id AND to_time IS NULL) AS TEXT), \
         CAST((SELECT max(last_at) FROM presences WHERE subject = coworker_id AND to_time IS NULL) AS TEXT) \
         FROM checkins ORDER BY coworker_id",
    );
    let visit = |row: Vec<String>| {
        let [source, macs, from, last, to, automatic, person_state, presence]: [String; 8] =
            row.try_into().expect("eight columns");
        let later = [person_state, presence].into_iter().filter_map(|millis| millis.parse().ok());
        let later = later.map(|millis| WallTime::from_millis(millis).to_rfc3339_millis());
        [source, macs, from, later.fold(last, Ord::max), to, automatic]
    };
    rows.into_iter().map(visit).collect()
}

/// The only check-in, as in [`visits`].
fn checkin(home: &Home) -> Option<[String; 6]> {
    let visits = visits(home);
    assert!(visits.len() < 2, "one visit is one check-in: {visits:?}");
    visits.into_iter().next()
}

/// Waits until the only check-in is as wanted.
fn wait_for_checkin(home: &Home, daemon: &Daemon, what: &str, want: impl Fn(&[String; 6]) -> bool) -> [String; 6] {
    wait_for(what, LIMIT, || match checkin(home) {
        Some(found) if want(&found) => Ok(found),
        other => Err(format!("{other:?}\n{}", daemon.log())),
    })
}

#[test]
fn the_daemon_is_not_ready_before_it_captures() {
    let namespace = Namespace::new("blind");
    let home = Home::new(&capturing("s1", ""));
    let daemon = home.start_by(&["ip", "netns", "exec", namespace.name(), BINARY], &[]).inside(namespace.name());
    wait_for("the capture to be blind", LIMIT, || {
        let answer = daemon.get("/readyz");
        assert_ne!(answer.status, 200, "{}", answer.body);
        if answer.body.contains("capture_blind") { Ok(()) } else { Err(answer.body) }
    });
    daemon.stop();
}

#[test]
fn a_members_computer_that_asks_for_an_address_is_a_checkin_until_it_falls_silent() {
    let office = Office::new("2h");
    let home = Home::new(&capturing("eth0", "idle_limit = \"6s\""));
    home.import(&owner(Office::CLIENT));
    let daemon = start_in(&home, &office.mirror);
    // A device's silence counts only while other frames show that the mirror works.
    let _chatter = office.server.chatters("eth0");
    office.ask_for_address();
    let [source, macs, from, ..] = wait_for_checkin(&home, &daemon, "a check-in by network", |_| true);
    assert_eq!((source.as_str(), macs.as_str()), ("3", Office::CLIENT), "{}", office.describe());

    let file = |name: &str| home.path(name).display().to_string();
    let (leases, pid) = (file("leases"), file("pid"));
    let client = office.client.start("dhclient", &["-d", "-sf", "/bin/true", "-lf", &leases, "-pf", &pid, "eth0"]);
    let [_, _, _, refreshed, to, _] =
        wait_for_checkin(&home, &daemon, "a refresh", |[_, _, _, last, to, _]| *last > from || !to.is_empty());
    assert!(refreshed > from && to.is_empty(), "{refreshed} {to}");

    let [_, _, began, last, to, automatic] =
        wait_for_checkin(&home, &daemon, "the check-out", |[_, _, _, _, to, _]| !to.is_empty());
    assert_eq!((began, to, automatic.as_str()), (from, last, "1"), "it ends at the last activity");
    assert_eq!(daemon.lines("checked out automatically").len(), 1, "{}", daemon.log());
    drop(client);
    daemon.stop();
}

#[test]
fn time_without_coverage_checks_no_one_out() {
    const IDLE: Duration = Duration::from_secs(5);
    let wire = Wire::new();
    let home = Home::new(&capturing("s1", "idle_limit = \"5s\""));
    home.import(&owner(MEMBER));
    let daemon = start_in(&home, &wire.mirror);
    wire.send(&[arp_request(member())]);
    wait_for_checkin(&home, &daemon, "a check-in", |_| true);
    // The wire may have come up a moment after the daemon.
    let (mut begun, mut over) = daemon.changes_of("capture_blind");
    for cause in [BlindCause::Down, BlindCause::Deleted] {
        match cause {
            BlindCause::Down => drop(wire.sender.ip(&["link", "set", "s0", "down"])),
            BlindCause::Deleted => wire.unplug(),
        }
        daemon.wait_for_condition("capture_blind");
        wait_out(IDLE + Duration::from_secs(2));
        let [_, _, _, before, to, _] = checkin(&home).expect("a check-in");
        assert_eq!(to, "", "{}", daemon.log());
        assert_eq!(daemon.get("/readyz").status, 503);
        match cause {
            BlindCause::Down => drop(wire.sender.ip(&["link", "set", "s0", "up"])),
            BlindCause::Deleted => wire.plug(),
        }
        // The wire carries frames only a moment after it is up, so each attempt sends a frame of the device.
        wait_for("a refresh", LIMIT, || {
            wire.send(&[arp_request(member())]);
            match checkin(&home).expect("a check-in") {
                [_, _, _, last, to, _] if last > before && to.is_empty() => Ok(()),
                other => Err(format!("{other:?}\n{}", daemon.log())),
            }
        });
        daemon.wait_until_over("capture_blind");
        (begun, over) = (begun + 1, over + 1);
        assert_eq!(daemon.changes_of("capture_blind"), (begun, over), "{}", daemon.log());
    }
    assert!(daemon.lines("checked out").is_empty(), "{}", daemon.log());
    daemon.stop();
}

/// Checks that the only check-in is open.
fn is_in(home: &Home, daemon: &Daemon) {
    let [.., to, _] = checkin(home).expect("a check-in");
    assert_eq!(to, "", "{}", daemon.log());
}

#[test]
fn a_mirror_that_dies_while_its_link_stays_up_checks_no_one_out_and_is_reported() {
    const IDLE: Duration = Duration::from_secs(5);
    let wire = Wire::new();
    let home = Home::new(&capturing("s1", "idle_limit = \"5s\""));
    // With these gaps even a second without a frame is unusual, at any hour.
    let usual: Vec<u16> = vec![1; 168];
    home.write("usual-gaps-s1.json", &json!({ "hours": usual }).to_string());
    home.import(&owner(MEMBER));
    let daemon = start_in(&home, &wire.mirror);
    let chatter = wire.sender.chatters("s0");
    wire.send(&[arp_request(member())]);
    wait_for_checkin(&home, &daemon, "a check-in", |_| true);
    // The switch loses the mirror session.
    drop(chatter);
    let died = now();
    wait_out(IDLE * 2);
    assert!(daemon.get("/readyz").body.contains("\"conditions\":[]"), "no alarm yet: {}", daemon.get("/readyz").body);
    is_in(&home, &daemon);
    let silent = wait_for("the mirror to be found silent", 3 * LIMIT, || {
        let conditions: serde_json::Value = serde_json::from_str(&daemon.get("/readyz").body).expect("JSON");
        let found =
            conditions["conditions"].as_array().into_iter().flatten().find(|known| known["name"] == "mirror_silent");
        found.cloned().ok_or_else(|| conditions.to_string())
    });
    let since: chrono::DateTime<chrono::Utc> = silent["since"].as_str().expect("since when").parse().expect("a time");
    assert!(WallTime::from(since).distance(died) < Duration::from_secs(20), "{silent}, died {died}");
    assert_eq!(daemon.get("/readyz").status, 200, "an empty building may look the same");
    assert!(daemon.metric("checkind_capture_last_frame_age_seconds", "interface=\"s1\"") >= 55);
    is_in(&home, &daemon);
    // The mirror session is back, but the member is not.
    let [_, _, _, last_activity, ..] = checkin(&home).expect("a check-in");
    let _chatter = wire.sender.chatters("s0");
    daemon.wait_until_over("mirror_silent");
    let [.., to, automatic] = wait_for_checkin(&home, &daemon, "the check-out", |[.., to, _]| !to.is_empty());
    assert_eq!(
        (to, automatic.as_str()),
        (last_activity, "1"),
        "chatter is no activity of the device: {}",
        daemon.log()
    );
    assert_eq!(daemon.changes_of("mirror_silent"), (1, 1), "{}", daemon.log());
    daemon.stop();
}

/// Waits for this long, to see that something does not happen.
fn wait_out(time: Duration) {
    let clock = Clock::system();
    let since = clock.now().boot;
    wait_for("time to pass", LIMIT, || {
        let passed = clock.now().boot.since(since);
        if passed > time { Ok(()) } else { Err(format!("{passed:?}")) }
    });
}

/// Why the capture is blind.
#[derive(Clone, Copy)]
enum BlindCause {
    Down,
    Deleted,
}

#[test]
fn a_stopped_daemon_checks_no_one_out() {
    /// Longer than the coverage before the kill plus the coverage after the restart, on a busy machine.
    const IDLE: Duration = Duration::from_secs(20);
    let wire = Wire::new();
    let home = Home::new(&capturing("s1", "idle_limit = \"20s\""));
    home.import(&owner(MEMBER));
    let daemon = start_in(&home, &wire.mirror);
    wire.send(&[arp_request(member())]);
    wait_for_checkin(&home, &daemon, "a check-in", |_| true);
    daemon.kill();
    wait_out(IDLE + Duration::from_secs(1));
    let [_, _, _, before, to, _] = checkin(&home).expect("a check-in");
    assert_eq!(to, "");
    let daemon = start_in(&home, &wire.mirror);
    // Timers are checked every second.
    wait_out(Duration::from_millis(2500));
    wire.send(&[arp_request(member())]);
    let [_, _, _, _, to, _] =
        wait_for_checkin(&home, &daemon, "a refresh", |[_, _, _, last, to, _]| *last > before || !to.is_empty());
    assert_eq!(to, "", "{}", daemon.log());
    daemon.stop();
}

#[test]
fn an_unknown_device_is_one_failed_checkin_a_day() {
    let wire = Wire::new();
    let home = Home::new(&capturing("s1", "idle_limit = \"4s\""));
    home.import(&owner(MEMBER));
    for round in 0..2 {
        let daemon = start_in(&home, &wire.mirror);
        wait_for("its frames to be counted", LIMIT, || {
            wire.send(&[arp_request(device(1))]);
            match daemon.metric("checkind_presences_total", "") {
                0..3 => Err(daemon.log()),
                _ => Ok(()),
            }
        });
        let failed = home.ledger().texts("SELECT description, mac_addresses FROM failed_checkins");
        assert_eq!(failed.len(), 1, "in round {round}: {failed:?}");
        assert!(failed[0][0].starts_with("unrecognised_device: "), "{failed:?}");
        assert_eq!(failed[0][1], device(1).to_string());
        assert!(!daemon.log().contains(&device(1).to_string()), "no address in the log");
        daemon.stop();
    }
    assert_eq!(home.ledger().count("checkins"), 0);
}

#[test]
fn a_million_forged_addresses_fill_neither_memory_nor_disk_nor_hide_a_member() {
    const FORGED: u32 = 1_000_000;
    const AT_ONCE: u32 = 50_000;
    /// In KiB.
    const GROWTH: u64 = 32 * 1024;
    let wire = Wire::new();
    let home = Home::new(&capturing("s1", ""));
    home.import(&owner(MEMBER));
    let daemon = start_in(&home, &wire.mirror);
    daemon.wait_for_line("capturing on s1");
    let before = daemon.peak_memory();
    for first in (0..FORGED).step_by(AT_ONCE as usize) {
        let frames: Vec<Vec<u8>> = (first..first + AT_ONCE).map(|number| arp_request(device(number))).collect();
        wire.send(&frames);
    }
    wait_for("the flood to be over", LIMIT, || {
        let all = daemon.metric("checkind_capture_frames_total", "")
            + daemon.metric("checkind_capture_kernel_drops_total", "");
        if all >= u64::from(FORGED) { Ok(()) } else { Err(format!("{all}\n{}", daemon.log())) }
    });
    daemon.wait_for_condition("unrecognised_flood");
    wire.send(&[arp_request(member())]);
    wait_for_checkin(&home, &daemon, "the member", |_| true);
    assert_eq!(home.ledger().count("failed_checkins"), i64::try_from(UNRECOGNISED_A_DAY).expect("small"));
    let grown = daemon.peak_memory() - before;
    assert!(grown < GROWTH, "memory grew by {grown} KiB from {before}");
    assert_eq!(daemon.changes_of("unrecognised_flood"), (1, 0), "{}", daemon.log());
    assert_eq!(daemon.get("/readyz").status, 200, "a flood is a warning");
    daemon.stop();
}

#[test]
fn a_day_that_ended_while_the_daemon_was_away_is_closed_at_its_start() {
    const AGO: Duration = Duration::from_hours(21);
    // The last cut-off was eighteen hours ago; both people came on the pass day before it.
    let minute = now().plus(Duration::from_hours(6)).minute();
    let cut_off = minute.minus(Duration::from_hours(24));
    let (wire, broker) = (Wire::new(), Broker::plain());
    let site = site_until(&cut_off.utc().format("%H:%M").to_string(), "");
    let home = Home::new(&(site.clone() + &doors(broker.port)));
    home.import(&people(1, &[json!({ "Id": 2, "FullName": "Ada Lovelace", "MacAddresses": MEMBER })]));

    let clock = WallClock::off_by(-i64::try_from(AGO.as_secs()).expect("small"));
    let mut daemon = home.start_by(&[BINARY], &clock.environment());
    daemon.wait_until_ready();
    broker.publish("flat/events", flat_event(1, card(1), Way::In, now().minus(AGO)).as_bytes(), 1);
    wait_for_visits(&home, &daemon, 1);
    daemon.stop();
    // The namespace of the wire has no route to the broker.
    home.configure(&(site + "[[capture]]\ninterface = \"s1\"\n"));
    let starter = ["ip", "netns", "exec", wire.mirror.name(), BINARY];
    let mut daemon = home.start_by(&starter, &clock.environment()).inside(wire.mirror.name());
    daemon.wait_until_ready();
    wire.send(&[arp_request(member())]);
    wait_for_visits(&home, &daemon, 2);
    daemon.stop();
    let open = visits(&home);
    let last_activity = open[1][3].clone();
    assert!(
        open.iter().all(|[_, _, _, _, to, _]| to.is_empty()) && last_activity < cut_off.to_rfc3339_millis(),
        "{open:?}"
    );

    let daemon = start_in(&home, &wire.mirror);
    wait_for("both to be checked out", LIMIT, || match home.ledger().count("checkins WHERE to_time IS NULL") {
        0 => Ok(()),
        open => Err(format!("{open}\n{}", daemon.log())),
    });
    let ended: Vec<_> = visits(&home).into_iter().map(|[_, _, _, _, to, automatic]| (to, automatic)).collect();
    let automatic = |at: String| (at, "1".to_owned());
    let wanted = [automatic(cut_off.to_rfc3339_millis()), automatic(last_activity)];
    assert_eq!(ended, wanted, "the cut-off for a card, the last activity for a device");
    daemon.stop();
}

fn wait_for_visits(home: &Home, daemon: &Daemon, count: usize) {
    wait_for(&format!("{count} check-ins"), LIMIT, || {
        let visits = visits(home);
        if visits.len() == count { Ok(()) } else { Err(format!("{visits:?}\n{}", daemon.log())) }
    });
}
