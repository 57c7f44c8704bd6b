//! Commands as real clients of the platform send them, to a running daemon that decides about check-ins. What they read is
//! in `clients.rs`.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::support::{
    daemon::{Daemon, Home, now, site},
    http::Answer,
};

const ADMIN: &str = "admin@example.com";
const PASSWORD: &str = "pässword: with ümlaut+& 100%";
const CHECKINS: &str = "/api/spaces/checkins";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// A desk at a site where Ada (7) and Bob (8) have passes.
struct Desk {
    _home: Home,
    daemon: Daemon,
    basic: String,
    bearer: String,
}

impl Desk {
    fn open() -> Self {
        let home = Home::new(&site(""));
        home.import(&json!({
            "Businesses": [{"Id": 1, "Name": "Hub One"}],
            "TimePasses": [{"Id": 1, "Name": "Day"}],
            "Coworkers": [
                {"Id": 7, "FullName": "Ada", "AccessCardId": "100"}, {"Id": 8, "FullName": "Bob", "AccessCardId": "200"},
            ],
            "CoworkerTimePasses": [
                {"Id": 1, "CoworkerId": 7, "TimePassId": 1}, {"Id": 2, "CoworkerId": 8, "TimePassId": 1},
            ],
        }));
        home.tell(&["user", "add", ADMIN, "--admin"], PASSWORD);
        let mut daemon = home.start();
        daemon.wait_until_ready();
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("grant_type", "password"), ("username", ADMIN), ("password", PASSWORD)])
            .finish();
        let tokens = daemon.send("POST", "/api/token", &[("Content-Type", FORM)], &form).json();
        let token = tokens["access_token"].as_str().unwrap_or_else(|| panic!("no token in {tokens}"));
        let bearer = format!("Bearer {token}");
        let basic = format!("Basic {}", STANDARD.encode(format!("{ADMIN}:{PASSWORD}")));
        Self { _home: home, daemon, basic, bearer }
    }

    fn basic(&self, method: &str, path: &str, kind: &str, body: &str) -> Answer {
        self.daemon.send(method, path, &[("Authorization", &self.basic), ("Content-Type", kind)], body)
    }

    fn bearer(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.daemon.send(method, path, &[("Authorization", &self.bearer), ("Content-Type", JSON)], &body.to_string())
    }

    fn checkin(&self, id: i64) -> Value {
        let answer = self.daemon.send("GET", &format!("{CHECKINS}/{id}"), &[("Authorization", &self.bearer)], "");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
}

/// This many minutes ago, to the second.
fn ago(minutes: u64) -> String {
    now().minus(Duration::from_mins(minutes)).to_rfc3339_seconds()
}

/// The id in the answer to a command that was carried out, in the form in which clients look for it.
fn done(answer: &Answer) -> i64 {
    let body = answer.json();
    assert_eq!((answer.status, &body["WasSuccessful"], &body["Errors"]), (200, &json!(true), &Value::Null), "{body}");
    assert!(body["Value"]["UniqueId"].is_string(), "{body}");
    body["Value"]["Id"].as_i64().expect("an id")
}

#[test]
fn check_ins_are_created_however_clients_send_them() {
    let desk = Desk::open();
    let post = |kind: &str, body: &str| desk.basic("POST", CHECKINS, kind, body);

    // A kiosk in PHP: ids as text, the source by name.
    let start = ago(30);
    let kiosk = json!({"BusinessId": "1", "CoworkerId": "7", "Source": "Manual", "FromTime": start});
    let open = done(&post(JSON, &kiosk.to_string()));
    let record = desk.checkin(open);
    let shown = (&record["CoworkerId"], &record["Source"], &record["FromTime"], &record["ToTime"]);
    assert_eq!(shown, (&json!(7), &json!(1), &json!(start), &Value::Null));

    // A door of the same kiosk: a closed visit, with a fraction of a second.
    let (from, to) = (ago(600), ago(540));
    let fraction = from.replace('Z', ".123Z");
    let door = json!({"CoworkerId": 7, "BusinessId": 1, "Source": "DoorAccess", "FromTime": fraction, "ToTime": to});
    let closed = desk.checkin(done(&post(JSON, &door.to_string())));
    assert_eq!((&closed["FromTime"], &closed["ToTime"], &closed["Source"]), (&json!(from), &json!(to), &json!(1)));

    // A Node client: a date of RFC 1123, and a key in another case. It is the visit that the kiosk has opened.
    let rfc_1123 = chrono::DateTime::parse_from_rfc3339(&start).expect("a time").format("%a, %d %b %Y %H:%M:%S GMT");
    let node = json!({"BusinessId": 1, "FromTime": rfc_1123.to_string(), "CoWorkerId": 7});
    assert_eq!(done(&post(JSON, &node.to_string())), open);

    // A client in Python: a form, without a person.
    let form = format!("BusinessId=1&FromTime={start}");
    let plain = desk.checkin(done(&post(FORM, &form)));
    assert_eq!((&plain["CoworkerId"], &plain["FromTime"]), (&Value::Null, &json!(start)));

    // A simulator: the source by number.
    let simulated = json!({"BusinessId": 1, "CoworkerId": 7, "FromTime": ago(480), "Source": 2, "ToTime": ago(420)});
    let simulated = desk.bearer("POST", CHECKINS, &simulated);
    assert_ne!(done(&simulated), open);
    let unique_id = simulated.json()["Value"]["UniqueId"].clone();
    assert_eq!(desk.checkin(done(&simulated))["UniqueId"], unique_id);

    // What clients read when it goes wrong.
    let refused = json!({"BusinessId": 1, "CoworkerId": 999, "FromTime": ago(480)});
    let refused = desk.bearer("POST", CHECKINS, &refused);
    let body = refused.json();
    assert!(refused.status == 200 || refused.status == 400, "{refused:?}");
    assert_eq!(body["WasSuccessful"], json!(false));
    assert!(body["Message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    let missing = desk.bearer("POST", CHECKINS, &json!({"CoworkerId": 7}));
    assert_eq!((missing.status, &missing.json()["Errors"][0]["PropertyName"]), (400, &json!("BusinessId")));
    let listed = desk.daemon.send("GET", CHECKINS, &[("Authorization", &desk.basic)], "").json();
    assert_eq!(listed["TotalItems"], json!(4), "what was refused left nothing: {listed}");
}

#[test]
fn check_ins_are_changed_and_deleted_however_clients_send_it() {
    let desk = Desk::open();
    let (start, end) = (ago(50), ago(10));
    let bob = done(&desk.bearer("POST", CHECKINS, &json!({"BusinessId": 1, "CoworkerId": 8, "FromTime": start})));
    let before = desk.checkin(bob);
    assert_eq!(before["ToTime"], Value::Null);

    // A kiosk checks out: it sends back the whole record with an end, and keys that no client can set.
    let mut whole = before.clone();
    let echoed =
        json!({"ToTime": end, "UniqueId": "a1b2c3d4-e5f6-7890-abcd-ef1234567890", "UpdatedBy": "x", "IsNew": true});
    whole.as_object_mut().expect("an object").extend(echoed.as_object().expect("an object").clone());
    assert_eq!(done(&desk.basic("PUT", CHECKINS, JSON, &whole.to_string())), bob);
    let after = desk.checkin(bob);
    assert_eq!(after["ToTime"], json!(end));
    for key in ["Id", "UniqueId", "CoworkerId", "BusinessId", "FromTime", "Source", "CreatedOn", "IsNew"] {
        assert_eq!(after[key], before[key], "{key}");
    }

    // A client in Python sends a form of three keys; what it leaves out stays.
    let form = format!("Id={bob}&BusinessId=1&FromTime={start}");
    assert_eq!(done(&desk.basic("PUT", CHECKINS, FORM, &form)), bob);
    assert_eq!(desk.checkin(bob)["ToTime"], json!(end));

    // A command of the platform's own pages is refused in the form of commands.
    let run = json!({"Key": "X", "Ids": [bob], "Parameters": []});
    let run = desk.bearer("POST", &format!("{CHECKINS}/runcommand"), &run);
    assert_eq!((run.status, &run.json()["WasSuccessful"]), (200, &json!(false)));

    let one = format!("{CHECKINS}/{bob}");
    let none = |method: &str, path: &str| desk.basic(method, path, FORM, "").status;
    assert_eq!(done(&desk.basic("DELETE", &one, FORM, "")), bob);
    for (method, path) in [("GET", one.as_str()), ("DELETE", &one), ("DELETE", "/api/spaces/checkins/404404")] {
        assert_eq!(none(method, path), 404, "{method} {path}");
    }
    let gone = desk.basic("PUT", CHECKINS, FORM, &form);
    assert_eq!((gone.status, &gone.json()["WasSuccessful"]), (404, &json!(false)));
}
