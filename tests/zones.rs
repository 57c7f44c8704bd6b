//! Time zone rules come from the system: new zone data take effect as soon as they are on the disk, and a zone that
//! they do not have is refused.

use std::fs;

use checkind::base::clock::WallTime;
use serde_json::json;

use crate::support::{
    broker::Broker,
    daemon::{BINARY, Home, LIMIT, Way, card, doors, flat_event, next_second, now, site},
    tzif::zone_file,
    wait_for,
};

/// Rules in the form of tzset(3) by which the local time is now this many minutes after midnight.
fn showing(minutes: i64, now: WallTime) -> String {
    let utc = now.millis() / 60_000 % 1440;
    let west = utc - minutes;
    let sign = if west < 0 { "-" } else { "" };
    format!("XXX{sign}{}:{:02}", west.abs() / 60, west.abs() % 60)
}

/// A home with its own zone data, which has only Vancouver.
fn with_data(configuration: &str, vancouver: &str, version: &str) -> Home {
    let home = Home::new(configuration);
    fs::create_dir_all(home.path("zones/America")).expect("a folder");
    put(&home, vancouver, version);
    home
}

/// Replaces the files, as a package manager does.
fn put(home: &Home, vancouver: &str, version: &str) {
    let files = [
        ("UTC", zone_file("UTC0")),
        ("America/Vancouver", zone_file(vancouver)),
        ("tzdata.zi", format!("# version {version}\n").into()),
    ];
    for (name, bytes) in files {
        home.write_bytes("new", &bytes);
        fs::rename(home.path("new"), home.path("zones").join(name)).expect("the file is replaced");
    }
}

#[test]
fn another_database_of_time_zones_is_in_force_without_a_restart() {
    let broker = Broker::plain();
    let vancouver =
        site("").replace("\"UTC\"", "\"America/Vancouver\"").replace("cut_off = ", "cut_off = \"00:00\" # ");
    let began = now();
    let home = with_data(&(vancouver + &doors(broker.port)), &showing(8 * 60 + 5, began), "2025b");
    let slot = |day: i64| json!({"DayOfWeek": day, "FromTime": "09:00", "ToTime": "17:00"});
    let people = [1, 2].map(|id| json!({"Id": id, "FullName": "Ada", "AccessCardId": card(id).to_string()}));
    let held = [1, 2].map(|id| json!({"Id": id, "CoworkerId": id, "TimePassId": 1}));
    let zones = home.path("zones").display().to_string();
    let import = json!({
        "TimePasses": [{"Id": 1, "Name": "Office hours", "TimeSlots": (0..7).map(slot).collect::<Vec<_>>()}],
        "Coworkers": people, "CoworkerTimePasses": held,
    });
    home.write("site.json", &import.to_string());
    let path = home.path("site.json");
    let mut importing = home.command(&["import", path.to_str().expect("a path of ours")]);
    assert!(importing.env("TZDIR", &zones).status().expect("it starts").success());

    let mut daemon = home.start_by(&[BINARY], &[("TZDIR", &zones)]);
    daemon.wait_until_ready();
    let said = daemon.lines("time zone data");
    assert!(said.iter().any(|line| line.contains(&zones) && line.contains("2025b")), "{}", daemon.log());
    let ledger = home.ledger();
    let one = |rows: &str| {
        wait_for(rows, LIMIT, || if ledger.count(rows) == 1 { Ok(()) } else { Err(daemon.log()) });
    };
    broker.publish("flat/events", flat_event(1, card(1), Way::In, next_second()).as_bytes(), 1);
    one("failed_checkins WHERE coworker_id = 1 AND description LIKE 'pass_outside_hours:%'");

    put(&home, &showing(9 * 60 + 5, began), "2026a");
    daemon.wait_for_line("the time zone data has changed");
    let told = daemon.lines("the time zone data has changed").join("");
    assert!(told.contains("2026a") && told.contains("America/Vancouver"), "{told}");
    broker.publish("flat/events", flat_event(2, card(2), Way::In, next_second()).as_bytes(), 1);
    one("checkins WHERE coworker_id = 2");
    assert_eq!(ledger.count("failed_checkins"), 1);
    daemon.stop();
}

#[test]
fn a_zone_that_the_system_does_not_have_is_refused_and_the_data_is_named() {
    let vancouver = site("").replace("\"UTC\"", "\"America/Vancouver\"");
    let home = with_data(&vancouver, "XXX7", "2026a");
    let zones = home.path("zones").display().to_string();
    let check = || home.command(&["check-config"]).env("TZDIR", &zones).output().expect("it starts");
    let checked = check();
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && told.contains(&format!("{zones}, version 2026a")), "{checked:?}");

    home.configure(&vancouver.replace("America/Vancouver", "America/Vancuver"));
    let refused = check();
    assert_eq!(refused.status.code(), Some(78));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("time_zone: \"America/Vancuver\" is not in the time zone data of this system"), "{told}");
    assert!(told.contains("did you mean \"America/Vancouver\"?"), "{told}");
    home.configure(&vancouver.replace("America/Vancouver", "Europe/London"));
    assert_eq!(check().status.code(), Some(78), "a zone missing in the system is not taken from elsewhere");
}
