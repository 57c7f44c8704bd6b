//! `checkind admit` as a process: whether someone would be let in, with which pass and until when, or why not.

use std::time::Duration;

use checkind::base::clock::WallTime;

use crate::support::{
    broker::Broker,
    daemon::{Home, LIMIT, Way, doors, flat_event, now, site},
    faketime::WallClock,
    wait_for,
};

const SITE: &str = "[site]\nbusiness = 1\nname = \"Hub One\"\ntime_zone = \"Europe/London\"\n";

const PEOPLE: &str = r#"{
    "Businesses": [{"Id": 1, "Name": "Hub One"}, {"Id": 2, "Name": "Hub Two"}],
    "Tariffs": [{"Id": 5, "Name": "Part time", "HoursWeekLimit": 20}],
    "TimePasses": [
        {"Id": 1, "Name": "Day", "Price": 20, "AllowNetworkCheckIn": false},
        {"Id": 2, "Name": "10 hours", "Price": 60, "MinutesIncluded": 600, "CountsTowardsPlanLimits": true},
        {"Id": 3, "Name": "Mornings", "TimeSlots": [{"DayOfWeek": 1, "FromTime": "09:00", "ToTime": "13:00"}]},
        {"Id": 4, "Name": "Hot desk", "Price": "6.50", "MinutesIncluded": 60, "UseAsPayAsYouGoForContacts": true, "Businesses": [1]}
    ],
    "Coworkers": [
        {"Id": 11, "FullName": "Ada Example", "AccessCardId": "8165538", "MacAddresses": "3c:22:fb:00:00:01", "TariffId": 5},
        {"Id": 12, "FullName": "Bob Example", "AccessCardId": "8165539"},
        {"Id": 13, "FullName": "Eve Example", "AccessCardId": "8165540", "TariffId": 5, "Active": false},
        {"Id": 14, "FullName": "Dan Example", "AccessCardId": "8165541", "TariffId": 5},
        {"Id": 15, "FullName": "Fay Example", "AccessCardId": "8165542", "TariffId": 5}
    ],
    "CoworkerTimePasses": [
        {"Id": 21, "CoworkerId": 11, "TimePassId": 2, "RemainingMinutes": 90, "UniqueId": "5d2c7a06-6c2f-4a4e-9f0f-7d8f5b1c9e21"},
        {"Id": 22, "CoworkerId": 14, "TimePassId": 1, "ExpireDate": "2026-01-31"},
        {"Id": 23, "CoworkerId": 15, "TimePassId": 3}
    ]
}"#;

/// Ada shares her passes with Gus.
const TEAM: &str = r#"{
    "Teams": [{"Id": 8, "Name": "Rocket", "TeamMembers": [11, 16], "ShareTimePasses": true}],
    "Coworkers": [{"Id": 16, "FullName": "Gus Example", "TariffId": 5}]
}"#;

fn home() -> Home {
    let home = Home::new(SITE);
    home.import(&serde_json::from_str(PEOPLE).expect("JSON"));
    home
}

fn asked(home: &Home, who: &str, at: &str) -> String {
    home.ask(&["admit", who, "--at", at])
}

#[test]
fn the_answer_names_the_coworker_and_the_pass_or_the_reason() {
    let home = home();
    let asked = |who: &str, at: &str| asked(&home, who, at);
    let printed = [
        asked("8165538", "2026-02-04 10:00"),
        asked("3C-22-FB-00-00-01", "2026-02-04T10:00:00Z"),
        asked("11", "2026-07-01T10:00:00Z"),
        asked("bob example", "2026-02-04 10:00"),
        asked("8165540", "2026-02-04 10:00"),
        asked("8165541", "2026-01-31 23:30"),
        asked("8165541", "2026-02-01 00:00"),
        asked("15", "2026-02-02 09:30"),
        asked("15", "2026-02-03 09:30"),
        asked("1234567", "2026-02-04 10:00"),
        asked("3c:22:fb:00:00:09", "2026-02-04 10:00"),
    ];
    insta::assert_snapshot!(printed.concat(), @r#"
    Ada Example (coworker 11), by door, at Hub One on 2026-02-04 10:00
    let in with the time pass "10 hours", until 2026-02-04 11:30 when its minutes are used up
    Ada Example (coworker 11), by network, at Hub One on 2026-02-04 10:00
    let in with the time pass "10 hours", until 2026-02-04 11:30 when its minutes are used up
    Ada Example (coworker 11), by door, at Hub One on 2026-07-01 11:00
    let in with the time pass "10 hours", until 2026-07-01 12:30 when its minutes are used up
    Bob Example (coworker 12), by door, at Hub One on 2026-02-04 10:00
    let in with pay-as-you-go "Hot desk", 1.63 GBP for the first 15 min
    Eve Example (coworker 13), by door, at Hub One on 2026-02-04 10:00
    refused, coworker_inactive: the coworker is not active
    Dan Example (coworker 14), by door, at Hub One on 2026-01-31 23:30
    let in with the day pass "Day"
    Dan Example (coworker 14), by door, at Hub One on 2026-02-01 00:00
    refused, pass_expired: the coworker's pass has expired ("Day" was valid until the end of 2026-01-31)
    Fay Example (coworker 15), by door, at Hub One on 2026-02-02 09:30
    let in with the day pass "Mornings", until 2026-02-02 13:00 when its hours end
    Fay Example (coworker 15), by door, at Hub One on 2026-02-03 09:30
    refused, pass_outside_hours: the coworker's pass does not cover this weekday and time ("Mornings" is valid Mon 09:00-13:00)
    refused, unrecognised_card: no coworker has this card, fob or PIN
    refused, unrecognised_device: no coworker has a device with this MAC address
    "#);
}

#[test]
fn a_pass_that_expires_on_a_date_is_good_until_its_pass_day_ends() {
    // In July 03:00 in London is 02:00 UTC, so a pass day ends neither at local midnight nor at midnight UTC.
    let home = Home::new(&format!("{SITE}cut_off = \"03:00\"\n"));
    home.import(&serde_json::json!({
        "TimePasses": [{"Id": 1, "Name": "Day", "Price": 20}],
        "Coworkers": [{"Id": 1, "FullName": "Ada", "AccessCardId": "8165538"}],
        "CoworkerTimePasses": [{"Id": 2, "CoworkerId": 1, "TimePassId": 1, "ExpireDate": "2026-07-03"}],
    }));
    for (at, let_in) in [
        ("2026-07-03 02:59", true),
        ("2026-07-03 23:30", true),
        ("2026-07-04 00:30", true),
        ("2026-07-04 02:59", true),
        ("2026-07-04 03:00", false),
        ("2026-07-04 09:00", false),
    ] {
        let printed = asked(&home, "8165538", at);
        let expected = if let_in { "let in with the day pass" } else { "refused, pass_expired: " };
        assert!(printed.contains(expected), "{at}: {printed}");
    }
}

#[test]
fn what_was_used_before_and_who_is_in_is_read_from_the_database() {
    let broker = Broker::plain();
    let configuration = site("") + &doors(broker.port);
    let home = Home::new(&configuration);
    home.write("people.json", PEOPLE);
    home.write("team.json", TEAM);
    // A pass's remaining minutes are as of the import, so the import must precede the visits.
    let clock = WallClock::off_by(-4 * 3600);
    for file in ["people.json", "team.json"] {
        let path = home.path(file);
        let mut import = home.command(&["import", path.to_str().expect("a path of ours")]);
        assert!(import.envs(clock.environment()).status().expect("the binary starts").success());
    }
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let ledger = home.ledger();
    let tap = |number: u32, way: Way, at: WallTime| {
        broker.publish("flat/events", flat_event(number, 8_165_538, way, at).as_bytes(), 1);
    };
    let wait_for_row = |rows: &str| {
        wait_for(rows, LIMIT, || if ledger.count(rows) == 1 { Ok(()) } else { Err(daemon.log()) });
    };
    let now = now().minute();
    let ago = |minutes: u64| now.minus(Duration::from_secs(minutes * 60));
    let ahead = |minutes: u64| now.plus(Duration::from_secs(minutes * 60)).utc().format("%Y-%m-%d %H:%M");
    tap(1, Way::In, ago(180));
    tap(2, Way::Out, ago(120));
    wait_for_row(&format!("checkins WHERE to_time = '{}'", ago(120)));
    let asked = |who: &str| asked(&home, who, &now.to_rfc3339_seconds());
    let of_ninety = |left: u64| format!("\"10 hours\", until {} when its minutes are used up", ahead(left));
    for who in ["11", "16"] {
        let printed = asked(who);
        assert!(printed.contains(&of_ninety(30)), "{printed}");
    }
    tap(3, Way::In, ago(1));
    wait_for_row("checkins WHERE to_time IS NULL");
    let since = ago(1).utc().format("%Y-%m-%d %H:%M");
    let printed = asked("11");
    assert!(printed.contains(&format!("already in, since {since}")), "{printed}");
    let later = now.plus(Duration::from_secs(2 * 3600)).to_rfc3339_seconds();
    let printed = home.ask(&["admit", "11", "--at", &later]);
    assert!(printed.contains("refused, pass_used_up"), "by then they are out: {printed}");
    let printed = asked("16");
    assert!(printed.contains("refused, pass_in_use: ") && printed.contains(&format!("since {since}")), "{printed}");
    daemon.stop();
    // A check-in elsewhere ends the one here, and uses the same pass.
    home.configure(&configuration.replace("business = 1", "business = 2").replace("Hub One", "Hub Two"));
    let printed = asked("11");
    assert!(printed.contains(&of_ninety(29)), "{printed}");
}

#[test]
fn json_has_every_field() {
    let home = home();
    insta::assert_snapshot!(home.ask(&["admit", "8165538", "--at", "2026-02-04 10:00", "--json"]), @r#"
    {
      "Admitted": true,
      "At": "2026-02-04T10:00:00Z",
      "BusinessId": 1,
      "Code": null,
      "CoworkerFullName": "Ada Example",
      "CoworkerId": 11,
      "Description": null,
      "InSince": null,
      "Pass": {
        "CountsTowardsPlanLimits": true,
        "CoworkerTimePassGuid": "5d2c7a06-6c2f-4a4e-9f0f-7d8f5b1c9e21",
        "Ends": "2026-02-04T11:30:00Z",
        "EndsBecause": "minutes_used_up",
        "FirstCharge": null,
        "Kind": "time",
        "TimePassId": 2,
        "TimePassName": "10 hours"
      },
      "Source": 2
    }
    "#);
    insta::assert_snapshot!(home.ask(&["admit", "8165541", "--at", "2026-02-04 10:00", "--json"]), @r#"
    {
      "Admitted": false,
      "At": "2026-02-04T10:00:00Z",
      "BusinessId": 1,
      "Code": "pass_expired",
      "CoworkerFullName": "Dan Example",
      "CoworkerId": 14,
      "Description": "pass_expired: the coworker's pass has expired (\"Day\" was valid until the end of 2026-01-31)",
      "InSince": null,
      "Pass": null,
      "Source": 2
    }
    "#);
}

#[test]
fn a_site_without_passes_requires_none_and_errors_say_what_to_write() {
    let home = Home::new(SITE);
    home.import(&serde_json::json!({"Coworkers": [{"Id": 1, "FullName": "Ada"}]}));
    assert!(home.ask(&["admit", "1"]).ends_with("\nlet in; this site does not require passes\n"));
    let refused = home.run(&["admit", "1", "--at", "noon"]);
    assert_eq!(refused.status.code(), Some(64));
    insta::assert_snapshot!(String::from_utf8_lossy(&refused.stderr), @r#"
      checkind: "noon" is not a time; write 10:30, "2026-01-31 10:30" in the site's time zone, or 2026-01-31T10:30:00Z
      "#);
    let records_only = Home::new("");
    assert_eq!(records_only.run(&["admit", "1"]).status.code(), Some(78));
}

#[test]
fn the_argument_names_one_person_or_a_card() {
    let home = home();
    let twins = r#"{"Coworkers": [{"Id": 17, "FullName": "Ada Example", "AccessCardId": "8165590"}]}"#;
    home.import(&serde_json::from_str(twins).expect("JSON"));
    for (who, printed) in
        [("", "give a card"), ("  ", "give a card"), ("ada example", "more than one coworker is called")]
    {
        let output = home.run(&["admit", who]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(64) && said.contains(printed), "{who:?}: {output:?}");
    }
    // A coworker's number has no leading zeros; a card number may.
    assert!(asked(&home, "11", "2026-02-04 10:00").contains("Ada Example"));
    let card = asked(&home, "0011", "2026-02-04 10:00");
    assert!(card.contains("unrecognised_card") && !card.contains("Ada"), "{card}");
}
