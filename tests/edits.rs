//! Check-ins that a user of the API creates, changes and deletes, beside what doors report.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use checkind::base::clock::WallTime;
use serde_json::{Value, json};

use crate::support::{
    broker::Broker,
    daemon::{Daemon, Home, Way, card, doors, flat_event, next_second, now, people, site},
};

const PASSWORD: &str = "correct horse battery";
const CHECKINS: &str = "/api/spaces/checkins";

fn ago(seconds: u64) -> WallTime {
    now().minus(Duration::from_secs(seconds))
}

fn text(at: WallTime) -> String {
    at.to_rfc3339_seconds()
}

/// A site with doors, people and the users admin@example.com and desk@example.com, who may only write check-ins.
fn home(broker: &Broker, document: &Value) -> Home {
    let home = Home::new(&(site("") + &doors(broker.port)));
    home.import(document);
    home.tell(&["user", "add", "admin@example.com", "--admin"], PASSWORD);
    let roles = ["--role", "Checkin-Create", "--role", "Checkin-Edit", "--role", "Checkin-Delete"];
    home.tell(&[&["user", "add", "desk@example.com"], &roles[..]].concat(), PASSWORD);
    home
}

fn send_by(daemon: &Daemon, user: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let credential = format!("Basic {}", STANDARD.encode(format!("{user}@example.com:{PASSWORD}")));
    let headers = [("Authorization", credential.as_str()), ("Content-Type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = daemon.send(method, path, &headers, &body);
    (answer.status, answer.json())
}

fn send(daemon: &Daemon, method: &str, path: &str, body: &Value) -> (u16, Value) {
    send_by(daemon, "admin", method, path, body)
}

/// The id of the check-in that a command was about.
fn done((status, answer): (u16, Value)) -> i64 {
    assert_eq!((status, &answer["WasSuccessful"]), (200, &json!(true)), "{answer}");
    answer["Value"]["Id"].as_i64().expect("an id")
}

/// The check-ins of a coworker, earliest first: beginning, end, whether it ended automatically, source.
fn checkins(daemon: &Daemon, coworker: u32) -> Vec<(String, Option<String>, bool, i64)> {
    let path = format!("{CHECKINS}?Checkin_Coworker={coworker}&orderBy=FromTime&dir=0");
    let (status, page) = send(daemon, "GET", &path, &Value::Null);
    assert_eq!(status, 200, "{page}");
    let row = |record: &Value| {
        (
            record["FromTime"].as_str().expect("a time").to_owned(),
            record["ToTime"].as_str().map(ToOwned::to_owned),
            record["AutoCheckout"].as_bool().expect("a flag"),
            record["Source"].as_i64().expect("a number"),
        )
    };
    page["Records"].as_array().expect("records").iter().map(row).collect()
}

fn tap(broker: &Broker, daemon: &Daemon, number: u32, way: Way, at: WallTime) {
    broker.publish("flat/events", flat_event(number, card(1), way, at).as_bytes(), 1);
    daemon.wait_for_metric("checkind_mqtt_events_total", "", number.into());
    daemon.adds_up();
}

#[test]
fn a_check_in_made_by_hand_stands_against_every_tap_that_comes_late() {
    let broker = Broker::plain();
    let home = home(&broker, &people(2, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let new = json!({
        "BusinessId": 1, "CoworkerId": 1, "FromTime": text(ago(10_800)), "ToTime": text(ago(7200)), "SystemId": "crm-7",
    });
    let id = done(send(&daemon, "POST", CHECKINS, &new));
    let made = (text(ago(10_800)), Some(text(ago(7200))), false, 1);
    let (_, record) = send(&daemon, "GET", &format!("{CHECKINS}/{id}"), &Value::Null);
    assert_eq!(
        (&record["UpdatedBy"], &record["SystemId"], &record["CoworkerFullName"]),
        (&json!("admin@example.com"), &json!("crm-7"), &json!("Member 1"))
    );
    let span = checkins(&daemon, 1);
    assert_eq!(span.len(), 1);
    let (from, to) = (span[0].0.clone(), span[0].1.clone());

    // Taps in the middle of it, and an exit: none of them ends it, or begins another.
    tap(&broker, &daemon, 1, Way::In, ago(9000));
    tap(&broker, &daemon, 2, Way::Out, ago(8500));
    assert_eq!(checkins(&daemon, 1), [(from.clone(), to.clone(), false, 1)], "{made:?}");
    // A later one begins another.
    let again = ago(3600);
    tap(&broker, &daemon, 3, Way::In, again);
    let later = (text(again), None, false, 2);
    assert_eq!(
        checkins(&daemon, 1),
        [(from.clone(), to.clone(), false, 1), later.clone()],
        "{}",
        home.ask(&["explain", "1"])
    );

    // The same after a restart that folds everything again, and after a tap from before everything.
    daemon.stop();
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let first = ago(14_400);
    broker.publish("flat/events", flat_event(4, card(1), Way::In, first).as_bytes(), 1);
    daemon.wait_for_metric("checkind_mqtt_events_total", "", 1);
    daemon.adds_up();
    assert_eq!(
        checkins(&daemon, 1),
        [(text(first), Some(from.clone()), true, 2), (from, to, false, 1), later],
        "the visit before it ends where it begins"
    );
    let told = home.ask(&["explain", "1"]);
    assert!(told.contains("by hand, admin@example.com at"), "{told}");
}

#[test]
fn a_check_out_by_hand_stands_and_a_deleted_check_in_does_not_come_back() {
    let broker = Broker::plain();
    let home = home(&broker, &people(2, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let came = ago(7200);
    tap(&broker, &daemon, 1, Way::In, came);
    let (_, page) = send(&daemon, "GET", CHECKINS, &Value::Null);
    let mut record = page["Records"][0].clone();
    let id = record["Id"].as_i64().expect("an id");
    let left = ago(3600);
    record["ToTime"] = json!(text(left));
    assert_eq!(done(send(&daemon, "PUT", CHECKINS, &record)), id);
    let row = (text(came), Some(text(left)), false, 2);
    assert_eq!(checkins(&daemon, 1), std::slice::from_ref(&row));
    // The front desk knew about the time since then: an exit or an entry in it comes too late to say otherwise.
    tap(&broker, &daemon, 2, Way::Out, ago(1800));
    tap(&broker, &daemon, 3, Way::In, ago(1200));
    assert_eq!(checkins(&daemon, 1), std::slice::from_ref(&row));
    // Sending the record again changes nothing.
    let (_, page) = send(&daemon, "GET", CHECKINS, &Value::Null);
    assert_eq!(done(send(&daemon, "PUT", CHECKINS, &page["Records"][0])), id);
    assert_eq!(checkins(&daemon, 1), [row]);

    assert_eq!(done(send(&daemon, "DELETE", &format!("{CHECKINS}/{id}"), &Value::Null)), id);
    assert_eq!(checkins(&daemon, 1), []);
    tap(&broker, &daemon, 4, Way::In, ago(6000));
    broker.publish("flat/events", flat_event(1, card(1), Way::In, came).as_bytes(), 1);
    daemon.wait_for_metric("checkind_mqtt_events_total", "", 5);
    daemon.adds_up();
    assert_eq!(checkins(&daemon, 1), []);
    let (status, gone) = send(&daemon, "DELETE", &format!("{CHECKINS}/{id}"), &Value::Null);
    assert_eq!((status, &gone["WasSuccessful"]), (404, &json!(false)));
    // What happens from now on counts.
    tap(&broker, &daemon, 6, Way::In, next_second());
    assert_eq!(checkins(&daemon, 1).len(), 1);
}

#[test]
fn a_check_in_is_refused_as_at_a_door_unless_an_administrator_ignores_that() {
    let broker = Broker::plain();
    let mut document = people(2, &[]);
    document["TimePasses"] = json!([{"Id": 1, "Name": "Day", "Price": 10}]);
    document["CoworkerTimePasses"] = json!([{"Id": 21, "CoworkerId": 1, "TimePassId": 1, "RemainingUses": 5}]);
    let home = home(&broker, &document);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let at = ago(60);
    let new = |coworker: u32| json!({"BusinessId": "1", "CoWorkerId": coworker.to_string(), "Source": "DoorAccess", "FromTime": text(at)});

    let id = done(send_by(&daemon, "desk", "POST", CHECKINS, &new(1)));
    // Someone who is in already is not checked in twice.
    assert_eq!(done(send_by(&daemon, "desk", "POST", CHECKINS, &new(1))), id);
    assert_eq!(checkins(&daemon, 1), [(text(at), None, false, 1)]);

    let (status, refused) = send_by(&daemon, "desk", "POST", CHECKINS, &new(2));
    assert_eq!((status, &refused["WasSuccessful"], &refused["Value"]), (200, &json!(false), &Value::Null));
    let message = refused["Message"].as_str().expect("a sentence");
    assert!(message.starts_with("no_valid_pass: "), "{message}");
    assert_eq!(checkins(&daemon, 2), []);
    let (_, failed) = send(&daemon, "GET", "/api/spaces/failedcheckins", &Value::Null);
    let failed = &failed["Records"][0];
    assert_eq!(
        (&failed["CoworkerId"], &failed["Source"], &failed["Description"]),
        (&json!(2), &json!(1), &json!(message))
    );

    let mut ignoring = new(2);
    ignoring["IgnoreAdmission"] = json!(true);
    let (status, only) = send_by(&daemon, "desk", "POST", CHECKINS, &ignoring);
    assert_eq!((status, &only["Errors"][0]["PropertyName"]), (400, &json!("IgnoreAdmission")));
    done(send(&daemon, "POST", CHECKINS, &ignoring));
    assert_eq!(checkins(&daemon, 2), [(text(at), None, false, 1)]);
    assert_eq!(daemon.lines("admission is ignored by an administrator").len(), 1);

    // Every fault at once.
    let (status, faults) = send(&daemon, "POST", CHECKINS, &json!({"CoworkerId": "x", "ToTime": "soon"}));
    let names: Vec<&str> = faults["Errors"]
        .as_array()
        .expect("faults")
        .iter()
        .filter_map(|fault| fault["PropertyName"].as_str())
        .collect();
    assert_eq!((status, names), (400, vec!["BusinessId", "CoworkerId", "FromTime", "ToTime"]));
}

/// What a client sends twice, and what the front desk changes its mind about.
#[test]
fn the_last_edit_has_the_last_word() {
    let broker = Broker::plain();
    let home = home(&broker, &people(2, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let open = |seconds: u64| json!({"BusinessId": 1, "CoworkerId": 1, "FromTime": text(ago(seconds))});
    // A repeated check-in is one check-in, also for the one who deletes it.
    let twice = open(7200);
    let id = done(send(&daemon, "POST", CHECKINS, &twice));
    assert_eq!(done(send(&daemon, "POST", CHECKINS, &twice)), id);
    assert_eq!(done(send(&daemon, "POST", CHECKINS, &open(5400))), id);
    done(send(&daemon, "DELETE", &format!("{CHECKINS}/{id}"), &Value::Null));
    assert_eq!(checkins(&daemon, 1), []);
    // So it is for the one who moves it.
    let id = done(send(&daemon, "POST", CHECKINS, &open(7000)));
    assert_eq!(done(send(&daemon, "POST", CHECKINS, &open(7000))), id);
    let (from, to) = (text(ago(6000)), text(ago(5000)));
    done(send(&daemon, "PUT", CHECKINS, &json!({"Id": id, "FromTime": from, "ToTime": to})));
    assert_eq!(checkins(&daemon, 1), [(from, Some(to), false, 1)]);
    done(send(&daemon, "DELETE", &format!("{CHECKINS}/{id}"), &Value::Null));
    // A deleted check-in can be created again, from an earlier time on.
    let again = open(6500);
    done(send(&daemon, "POST", CHECKINS, &again));
    assert_eq!(checkins(&daemon, 1), [(again["FromTime"].as_str().expect("text").to_owned(), None, false, 1)]);
    // A form without a value does not check anyone in again.
    let (_, page) = send(&daemon, "GET", CHECKINS, &Value::Null);
    let id = page["Records"][0]["Id"].as_i64().expect("an id");
    let left = text(ago(60));
    done(send(&daemon, "PUT", CHECKINS, &json!({"Id": id, "ToTime": left})));
    let credential = format!("Basic {}", STANDARD.encode(format!("admin@example.com:{PASSWORD}")));
    let form = [("Authorization", credential.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    let answer = daemon.send("PUT", CHECKINS, &form, &format!("Id={id}&BusinessId=1&ToTime="));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(checkins(&daemon, 1)[0].1, Some(left));
    daemon.stop();
    let mut daemon = home.start();
    daemon.wait_until_ready();
    assert_eq!(checkins(&daemon, 1).len(), 1, "the same after a restart");
}
