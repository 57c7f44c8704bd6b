//! Failed check-ins that users write, and check-ins without a coworker, over the wire.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use checkind::base::clock::WallTime;
use serde_json::{Value, json};

use crate::support::{
    daemon::{Daemon, Home, LIMIT, now, people, site},
    http::Answer,
    postgres::Postgres,
    wait_for,
};

const ON: &str = "failed_checkin_writes = true\nkiosk_checkins = true\nkiosk_addresses = [\"10.0.0.0/24\"]\n";

fn started(home: Home) -> (Home, Daemon) {
    home.ask(&["migrate"]);
    home.import(&people(2, &[]));
    home.tell(&["user", "add", "admin", "--admin"], "correct horse battery\n");
    for right in ["List", "Create", "Edit", "Delete"] {
        let role = format!("FailedCheckin-{right}");
        home.tell(&["user", "add", right, "--role", &role], "correct horse battery\n");
    }
    let mut daemon = home.start();
    daemon.wait_until_ready();
    (home, daemon)
}

fn ask(daemon: &Daemon, user: &str, method: &str, path: &str, body: &str) -> Answer {
    let basic = format!("Basic {}", STANDARD.encode(format!("{user}:correct horse battery")));
    daemon.send(method, path, &[("Authorization", &basic)], body)
}

fn write(daemon: &Daemon, method: &str, body: &Value) -> Answer {
    ask(daemon, "admin", method, "/api/spaces/failedcheckins", &body.to_string())
}

fn read(daemon: &Daemon, id: i64) -> Answer {
    ask(daemon, "admin", "GET", &format!("/api/spaces/failedcheckins/{id}"), "")
}

fn done(answer: &Answer) -> i64 {
    let body = answer.json();
    assert_eq!((answer.status, &body["WasSuccessful"]), (200, &json!(true)), "{answer:?}");
    body["Value"]["Id"].as_i64().expect("an id")
}

fn ago(minutes: u64) -> WallTime {
    now().minus(Duration::from_secs(minutes * 60))
}

fn failures_are_written(home: &Home, daemon: &Daemon) {
    let at = ago(30).to_rfc3339_seconds();
    let id = done(&write(
        daemon,
        "POST",
        &json!({"businessid": "1", "CoworkerId": 1, "CheckinAttemptTime": at, "Description": "left the card at home",
          "MacAddresses": "AA-BB-CC-00-00-01; aa:bb:cc:00:00:02", "Source": "Manual"}),
    ));
    let record = read(daemon, id).json();
    for (key, expected) in [
        ("CoworkerId", json!(1)),
        ("CoworkerFullName", json!("Member 1")),
        ("BusinessName", json!("Hub One")),
        ("CheckinAttemptTime", json!(at)),
        ("Source", json!(1)),
        ("Description", json!("left the card at home")),
        ("MacAddresses", json!("aa:bb:cc:00:00:01,aa:bb:cc:00:00:02")),
        ("UpdatedBy", json!("admin")),
    ] {
        assert_eq!(record[key], expected, "{key}");
    }
    // A client sends back what it has read. What it leaves out stays, and null clears.
    let mut echoed = record.clone();
    echoed["Description"] = json!("found it");
    assert_eq!(done(&write(daemon, "PUT", &echoed)), id);
    assert_eq!(done(&write(daemon, "PUT", &json!({"Id": id, "MacAddresses": null, "SystemId": "desk-1"}))), id);
    let record = read(daemon, id).json();
    assert_eq!(
        (&record["Description"], &record["MacAddresses"], &record["SystemId"], &record["CheckinAttemptTime"]),
        (&json!("found it"), &Value::Null, &json!("desk-1"), &json!(at))
    );

    // Nothing that is decided about the person changes it: the earlier check-in folds the whole day again.
    let kiosk = |card: &str| {
        daemon.send("POST", "/api/public/checkin", &[("X-Forwarded-For", "10.0.0.1")], &format!("accessCardId={card}"))
    };
    assert_eq!(kiosk("8165601").json()["WasSuccessful"], json!(true));
    let earlier = json!({"BusinessId": 1, "CoworkerId": 1, "FromTime": ago(120).to_rfc3339_seconds(),
      "ToTime": ago(60).to_rfc3339_seconds()});
    done(&ask(daemon, "admin", "POST", "/api/spaces/checkins", &earlier.to_string()));
    assert_eq!(home.ledger().count("checkins"), 2);
    assert_eq!(read(daemon, id).status, 200);

    // What checkind has written stays.
    assert_eq!(kiosk("999").json()["WasSuccessful"], json!(false));
    let own = home.ledger().number("SELECT id FROM failed_checkins WHERE by_hand = FALSE");
    for answer in [
        write(daemon, "PUT", &json!({"Id": own, "Description": "no"})),
        ask(daemon, "admin", "DELETE", &format!("/api/spaces/failedcheckins/{own}"), ""),
    ] {
        let body = answer.json();
        assert_eq!((answer.status, &body["WasSuccessful"]), (200, &json!(false)), "{answer:?}");
        assert!(body["Message"].as_str().is_some_and(|text| text.starts_with("not_by_hand: ")), "{body}");
    }
    assert!(read(daemon, own).json()["Description"].as_str().is_some_and(|text| text.starts_with("unrecognised_card")));

    assert_eq!(done(&ask(daemon, "admin", "DELETE", &format!("/api/spaces/failedcheckins/{id}"), "")), id);
    assert_eq!(read(daemon, id).status, 404);
    assert_eq!(ask(daemon, "admin", "DELETE", &format!("/api/spaces/failedcheckins/{id}"), "").status, 404);
    assert_eq!(write(daemon, "PUT", &json!({"Id": id})).status, 404);
}

/// An open check-in without a coworker ends with its pass day, whether the daemon runs then or not.
fn plain_check_ins_end(home: &Home, daemon: Daemon) {
    let open = |daemon: &Daemon, from: WallTime| {
        let body = json!({"BusinessId": 1, "FromTime": from.to_rfc3339_seconds()});
        done(&ask(daemon, "admin", "POST", "/api/spaces/checkins", &body.to_string()))
    };
    let ended = |daemon: &Daemon, id: i64| {
        let path = format!("/api/spaces/checkins/{id}");
        wait_for("the end of its pass day", LIMIT, || {
            let record = ask(daemon, "admin", "GET", &path, "").json();
            if record["ToTime"].is_string() { Ok(record) } else { Err(record.to_string()) }
        })
    };
    let today = open(&daemon, ago(1));
    let yesterday = ended(&daemon, open(&daemon, ago(26 * 60)));
    assert_eq!(yesterday["AutoCheckout"], json!(true));
    // The cut-off is the same minute of each day.
    let cut_off = home.ask(&["check-config"]);
    let cut_off = cut_off.split("pass day ends at ").nth(1).expect("the cut-off").get(..5).expect("a time").to_owned();
    let to = yesterday["ToTime"].as_str().expect("a time");
    assert!(to.contains(&format!("T{cut_off}:00")), "{to} {cut_off}");

    // One that was open when the daemon stopped.
    daemon.stop();
    home.ledger().execute("UPDATE checkins SET to_time = NULL WHERE auto_checkout = TRUE AND coworker_id IS NULL");
    let mut daemon = home.start();
    daemon.wait_until_ready();
    assert_eq!(ended(&daemon, yesterday["Id"].as_i64().expect("an id"))["ToTime"], yesterday["ToTime"]);
    let still = ask(&daemon, "admin", "GET", &format!("/api/spaces/checkins/{today}"), "").json();
    assert_eq!(still["ToTime"], Value::Null);
}

#[test]
fn users_write_failed_check_ins_and_open_ones_of_no_one_end() {
    let (home, daemon) = started(Home::new(&format!("{ON}{}", site(""))));
    failures_are_written(&home, &daemon);
    plain_check_ins_end(&home, daemon);
}

#[test]
fn the_same_holds_on_postgresql() {
    let server = Postgres::start();
    let home = Home::on(&server.url(), "");
    home.configure(&format!("{ON}[spool]\npath = \"{}\"\n{}", home.path("spool.db").display(), site("")));
    let (home, daemon) = started(home);
    failures_are_written(&home, &daemon);
    plain_check_ins_end(&home, daemon);
}

#[test]
fn failed_check_ins_are_written_where_the_settings_and_the_role_allow_it() {
    let at = now().to_rfc3339_seconds();
    let new = json!({"BusinessId": 1, "CheckinAttemptTime": at}).to_string();
    let commands = |id: i64| {
        [
            ("Create", "POST", "/api/spaces/failedcheckins".to_owned(), new.clone()),
            ("Edit", "PUT", "/api/spaces/failedcheckins".to_owned(), json!({"Id": id}).to_string()),
            ("Delete", "DELETE", format!("/api/spaces/failedcheckins/{id}"), String::new()),
        ]
    };
    {
        let (_home, daemon) = started(Home::new(&site("")));
        for (_, method, path, body) in commands(1) {
            let answer = ask(&daemon, "admin", method, &path, &body);
            assert_eq!(answer.status, 403, "{answer:?}");
            assert!(answer.body.contains("failed_checkin_writes = true"), "{answer:?}");
        }
    }
    let (_home, daemon) = started(Home::new(&format!("{ON}{}", site(""))));
    let id = done(&ask(&daemon, "admin", "POST", "/api/spaces/failedcheckins", &new));
    for user in ["List", "Create", "Edit", "Delete"] {
        for (right, method, path, body) in commands(id) {
            let status = ask(&daemon, user, method, &path, &body).status;
            assert_eq!(status, if right == user { 200 } else { 403 }, "{user} {method}");
        }
    }
    for (body, expected) in [
        (json!({}), "BusinessId: is a required field; CheckinAttemptTime: is a required field"),
        (
            json!({"BusinessId": 9, "CheckinAttemptTime": at}),
            "BusinessId: is no business of a gateway that records here",
        ),
        (json!({"BusinessId": 1, "CoworkerId": 99, "CheckinAttemptTime": at}), "CoworkerId: is no coworker"),
        (
            json!({"BusinessId": 1, "CheckinAttemptTime": "soon", "MacAddresses": "phone"}),
            "CheckinAttemptTime: is a time, such as 2026-11-26T19:30:00Z; MacAddresses: is a list of MAC addresses, such \
             as 00:50:56:ab:cd:ef",
        ),
    ] {
        let answer = write(&daemon, "POST", &body);
        assert_eq!((answer.status, answer.json()["Message"].as_str()), (400, Some(expected)), "{body}");
    }
}
