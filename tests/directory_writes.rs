//! The directory is written over HTTP: what clients send, what they are told, and what a running daemon makes of it.

use base64::{Engine, engine::general_purpose::STANDARD};
use checkind::{
    access::{Reach, Right, Rights, Role, RoleEntity},
    base::record::BusinessId,
};
use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use crate::{
    api::Site,
    support::{
        broker::Broker,
        daemon::{Daemon, Home, LIMIT, Way, board_event, card, doors, flat_event, next_second, site as settings},
        http::{Answer, send},
        postgres::Postgres,
        wait_for,
    },
};

const PASSWORD: &str = "correct horse battery";

/// The first id of entities that are created here.
const FIRST: i64 = 1_000_000_000_000;

fn basic(name: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{PASSWORD}")))
}

fn ask(site: &Site, user: &str, method: &str, path: &str, body: &str) -> Answer {
    send(site.address(), method, path, &[("Authorization", &basic(user))], body)
}

/// The same as an administrator, with JSON.
fn write(site: &Site, method: &str, path: &str, body: &Value) -> Answer {
    ask(site, "admin@example.com", method, path, &body.to_string())
}

/// The answer to a command that was carried out.
fn done(answer: &Answer) -> i64 {
    let body = answer.json();
    assert_eq!(
        (answer.status, &body["WasSuccessful"], &body["Errors"]),
        (200, &json!(true), &Value::Null),
        "{answer:?}"
    );
    body["Value"]["Id"].as_i64().expect("an id")
}

/// The faults of a command, as `property: message`.
fn faults(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    assert_eq!((answer.status, &body["WasSuccessful"]), (400, &json!(false)), "{answer:?}");
    let faults = body["Errors"].as_array().expect("a list").iter();
    let text = |fault: &Value, key: &str| fault[key].as_str().unwrap_or_default().to_owned();
    faults.map(|fault| format!("{}: {}", text(fault, "PropertyName"), text(fault, "Message"))).collect()
}

fn version(site: &Site) -> i64 {
    let mut connection = site.connect();
    let version = sqlx::query_scalar("SELECT version FROM directory_version");
    let version = site.run(version.fetch_one(&mut connection)).expect("a version");
    site.run(connection.close()).expect("the end of the connection");
    version
}

fn fill(site: &Site, sql: &'static str) {
    let mut connection = site.connect();
    site.run(connection.execute(sql)).expect("the records");
    site.run(connection.close()).expect("the end of the connection");
}

#[test]
fn an_entity_is_created_read_listed_changed_and_deleted() {
    let site = Site::start();
    let before = version(&site);
    for (path, record, change, key) in [
        ("sys/businesses", json!({"Name": "Hub One"}), json!({"Name": "Hub 1"}), "Name"),
        ("spaces/teams", json!({"Name": "Rocket"}), json!({"ShareTimePasses": true}), "ShareTimePasses"),
        ("billing/tariffs", json!({"Name": "Full time"}), json!({"CheckinWeekLimit": 3}), "CheckinWeekLimit"),
        ("billing/timepasses", json!({"Name": "Day"}), json!({"UsePriority": "High"}), "UsePriority"),
        ("spaces/coworkers", json!({"FullName": "Ada"}), json!({"Email": "ada@example.com"}), "Email"),
        (
            "billing/coworkertimepasses",
            json!({"CoworkerId": FIRST.to_string(), "TimePassId": FIRST}),
            json!({"RemainingUses": 4}),
            "RemainingUses",
        ),
    ] {
        let created = write(&site, "POST", &format!("/api/{path}"), &record);
        assert_eq!(done(&created), FIRST, "{path}");
        let message = created.json()["Message"].as_str().expect("a message").to_owned();
        assert!(message.ends_with(" was successfully created."), "{message}");
        let one = format!("/api/{path}/{FIRST}");
        let read = ask(&site, "admin@example.com", "GET", &one, "").json();
        assert_eq!(read["UniqueId"], created.json()["Value"]["UniqueId"], "{path}");
        let listed = ask(&site, "admin@example.com", "GET", &format!("/api/{path}?Id={FIRST}"), "").json();
        assert_eq!(listed["TotalItems"], 1, "{path}");

        // A client sends back everything that it has read.
        let mut whole = read.clone();
        whole.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        assert_eq!(done(&write(&site, "PUT", &format!("/api/{path}"), &whole)), FIRST);
        let after = ask(&site, "admin@example.com", "GET", &one, "").json();
        assert_eq!(after[key], change[key], "{path}");
        assert_eq!(after["UniqueId"], read["UniqueId"], "{path}");
    }
    assert_eq!(version(&site), before + 12, "each change is a version");
    for path in ["billing/coworkertimepasses", "spaces/coworkers", "spaces/teams"] {
        let one = format!("/api/{path}/{FIRST}");
        assert_eq!(done(&ask(&site, "admin@example.com", "DELETE", &one, "")), FIRST);
        for (method, path) in [("GET", one.as_str()), ("DELETE", &one)] {
            assert_eq!(ask(&site, "admin@example.com", method, path, "").status, 404, "{method} {path}");
        }
        assert_eq!(write(&site, "PUT", &format!("/api/{path}"), &json!({"Id": FIRST, "Name": "x"})).status, 404);
        let listed = ask(&site, "admin@example.com", "GET", &format!("/api/{path}"), "").json();
        assert_eq!(listed["TotalItems"], 0, "{path}");
        // A new one would begin with what the deleted one had.
        let again = json!({"Id": FIRST, "Name": "x", "FullName": "x", "CoworkerId": FIRST, "TimePassId": FIRST});
        let again = faults(&write(&site, "POST", &format!("/api/{path}"), &again));
        assert_eq!(again, ["Id: is in use, or was before its record was deleted"], "{path}");
    }
    assert_eq!(version(&site), before + 15);
    // What changes nothing is no version.
    let same = write(&site, "PUT", "/api/sys/businesses", &json!({"Id": FIRST, "Name": "Hub 1"}));
    assert_eq!((done(&same), version(&site)), (FIRST, before + 15));
}

#[test]
fn bodies_are_read_in_every_spelling() {
    let site = Site::start();
    let form = "fullname=Bob+B%C3%B6b&ACTIVE=False&accesscardid=0012&nickname=B&teams=";
    let answer = send(
        site.address(),
        "POST",
        "/api/Spaces/Coworkers/",
        &[("Authorization", &basic("admin@example.com")), ("Content-Type", "application/x-www-form-urlencoded")],
        form,
    );
    assert_eq!(done(&answer), FIRST);
    let bob = ask(&site, "admin@example.com", "GET", &format!("/api/spaces/coworkers/{FIRST}"), "").json();
    for (key, expected) in [
        ("FullName", json!("Bob Böb")),
        ("Active", json!(false)),
        ("AccessCardId", json!("0012")),
        ("nickname", json!("B")),
        ("Teams", Value::Null),
    ] {
        assert_eq!(bob[key], expected, "{key}");
    }
    // An id may be chosen, as text or number; the next one is given.
    assert_eq!(done(&write(&site, "POST", "/api/sys/businesses", &json!({"id": "1", "name": "Hub One"}))), 1);
    let taken = write(&site, "POST", "/api/sys/businesses", &json!({"Id": 1, "Name": "Hub One"}));
    assert_eq!(faults(&taken), ["Id: is in use, or was before its record was deleted"]);
    let large = write(&site, "POST", "/api/sys/businesses", &json!({"Id": i64::MAX, "Name": "Hub One"}));
    assert_eq!(faults(&large), ["Id: is larger than clients can read (9007199254740991)"]);
    assert_eq!(done(&write(&site, "POST", "/api/spaces/coworkers", &json!({"Id": 0, "FullName": "Cy"}))), FIRST + 1);
    // A PIN is taken and never shown, and a card keeps every digit.
    let body = format!(r#"{{"Id": "{FIRST}", "accesspincode": "4711", "AccessCardId": 12345678901234567890123}}"#);
    assert_eq!(done(&ask(&site, "admin@example.com", "PUT", "/api/spaces/coworkers", &body)), FIRST);
    let bob = ask(&site, "admin@example.com", "GET", &format!("/api/spaces/coworkers/{FIRST}"), "");
    assert!(!bob.body.contains("Pincode") && !bob.body.contains("sha256"), "{bob:?}");
    assert_eq!(bob.json()["AccessCardId"], json!("12345678901234567890123"));
    assert_eq!(bob.json()["FullName"], json!("Bob Böb"), "keys that the body lacks stay");
}

#[test]
fn every_fault_is_told_at_once_and_nothing_is_written() {
    let site = Site::start();
    let before = version(&site);
    let body = json!({"MacAddresses": "nonsense", "TariffId": "many", "AccessCardId": 1.5, "Id": "x"});
    let answer = write(&site, "POST", "/api/spaces/coworkers", &body);
    let told = faults(&answer);
    let keys: Vec<&str> = told.iter().filter_map(|fault| fault.split(':').next()).collect();
    assert_eq!(keys, ["Id", "FullName", "TariffId", "AccessCardId", "MacAddresses"], "{told:?}");
    assert_eq!(told[1], "FullName: is a required field");
    assert_eq!(answer.json()["Errors"][4]["AttemptedValue"], "nonsense");
    let answer = write(&site, "POST", "/api/billing/coworkertimepasses", &json!({"CoworkerId": 5, "TimePassId": 6}));
    let expected =
        ["CoworkerId: there is no coworker 5 in Coworkers", "TimePassId: there is no kind of pass 6 in TimePasses"];
    assert_eq!(faults(&answer), expected);
    assert_eq!(faults(&write(&site, "PUT", "/api/spaces/teams", &json!({"Name": "x"}))), ["Id: is a required field"]);
    for (body, expected) in [
        ("{\"Name\": ", "body: is not JSON, at line 1, column 8"),
        ("{\"Name\": \"a\", \"name\": \"b\"}", "Name: is in the body twice"),
        ("{\"Name\": \"\\u0000\"}", "body: a text contains a NUL character, which the database cannot store"),
    ] {
        let answer = ask(&site, "admin@example.com", "POST", "/api/spaces/teams", body);
        assert_eq!(faults(&answer), [expected], "{body}");
    }
    assert_eq!(version(&site), before);
    // A record does not grow forever.
    assert_eq!(done(&write(&site, "POST", "/api/spaces/teams", &json!({"Id": 4, "Name": "Rocket"}))), 4);
    let grown =
        |at: usize| write(&site, "PUT", "/api/spaces/teams", &json!({"Id": 4, format!("k{at}"): "x".repeat(60_000)}));
    for at in 0..4 {
        assert_eq!(done(&grown(at)), 4);
    }
    let before = version(&site);
    assert_eq!(faults(&grown(4)), ["body: would make the record larger than 256 KiB"]);
    for (method, path) in
        [("PUT", "/api/spaces/teams/5"), ("POST", "/api/spaces/teams/5"), ("DELETE", "/api/spaces/teams")]
    {
        assert_eq!(ask(&site, "admin@example.com", method, path, "{}").status, 405, "{method} {path}");
    }
    for id in ["5", "x", "9223372036854775808", "-9223372036854775808"] {
        assert_eq!(
            ask(&site, "admin@example.com", "DELETE", &format!("/api/spaces/teams/{id}"), "").status,
            404,
            "{id}"
        );
    }
    assert_eq!(version(&site), before);
}

#[test]
fn each_right_opens_its_own_command() {
    let site = Site::start();
    fill(
        &site,
        "INSERT INTO directory (kind, id, document, updated_on) VALUES
        ('team', 5, '{\"Id\":5,\"Name\":\"Rocket\"}', '2026-11-20T09:00:00.000Z')",
    );
    for right in Right::ALL {
        let name = format!("{}@example.com", right.name());
        site.add(&name, &Rights::Roles([Role::of(RoleEntity::Team, right)].into()));
        for (method, path, needs) in [
            ("POST", "/api/spaces/teams", Right::Create),
            ("PUT", "/api/spaces/teams", Right::Edit),
            ("DELETE", "/api/spaces/teams/4", Right::Delete),
            ("POST", "/api/spaces/coworkers", Right::List),
        ] {
            let answer = ask(&site, &name, method, path, "{}");
            let is_allowed = right == needs && path.contains("teams");
            assert_eq!(answer.status == 403, !is_allowed, "{name} {method} {path}: {answer:?}");
        }
    }
    assert_eq!(send(site.address(), "POST", "/api/spaces/teams", &[], "{}").status, 401);
}

#[test]
fn a_user_of_one_business_writes_only_what_belongs_to_it() {
    let site = Site::start();
    fill(
        &site,
        "INSERT INTO directory (kind, id, document, updated_on) VALUES
        ('business', 1, '{\"Id\":1,\"Name\":\"Hub One\"}', '2026-11-20T09:00:00.000Z'),
        ('business', 2, '{\"Id\":2,\"Name\":\"Hub Two\"}', '2026-11-20T09:00:00.000Z'),
        ('tariff', 3, '{\"Id\":3,\"Name\":\"Of two\",\"BusinessId\":2}', '2026-11-20T09:00:00.000Z'),
        ('tariff', 4, '{\"Id\":4,\"Name\":\"Of all\"}', '2026-11-20T09:00:00.000Z'),
        ('time_pass', 5, '{\"Id\":5,\"Name\":\"Day\"}', '2026-11-20T09:00:00.000Z'),
        ('coworker', 6, '{\"Id\":6,\"FullName\":\"Of one\",\"Businesses\":[{\"Id\":1}]}', '2026-11-20T09:00:00.000Z'),
        ('coworker', 7, '{\"Id\":7,\"FullName\":\"Of two\",\"Businesses\":[{\"Id\":2}]}', '2026-11-20T09:00:00.000Z'),
        ('coworker', 8, '{\"Id\":8,\"FullName\":\"Of both\",\"Businesses\":[1,2]}', '2026-11-20T09:00:00.000Z'),
        ('coworker', 9, '{\"Id\":9,\"FullName\":\"Of all\"}', '2026-11-20T09:00:00.000Z'),
        ('coworker_time_pass', 10, '{\"Id\":10,\"CoworkerId\":7,\"TimePassId\":5}', '2026-11-20T09:00:00.000Z')",
    );
    site.add_within("one", PASSWORD, &Rights::Administrator, &Reach::of([BusinessId(1)]));
    let before = version(&site);
    let not_own = |key: &str| vec![format!("{key}: names a business that this user is not limited to, or none at all")];
    let refused = |method: &str, path: &str, body: Value| {
        faults(&ask(&site, "one", method, &format!("/api/spaces/{path}"), &body.to_string()))
    };
    assert_eq!(refused("POST", "coworkers", json!({"FullName": "x"})), not_own("Businesses"));
    assert_eq!(
        refused("POST", "coworkers", json!({"FullName": "x", "Businesses": [1, 9]}))[0].split(':').next(),
        Some("Businesses")
    );
    assert_eq!(refused("POST", "tariffs", json!({"Name": "x"})), not_own("BusinessId"));
    assert_eq!(refused("POST", "businesses", json!({"Name": "x"})), not_own("Id"));
    assert_eq!(refused("PUT", "coworkers", json!({"Id": 6, "Businesses": []})), not_own("Businesses"));
    for id in [8, 9] {
        assert_eq!(refused("PUT", "coworkers", json!({"Id": id, "Email": "x"})), not_own("Businesses"));
        let deleted = ask(&site, "one", "DELETE", &format!("/api/spaces/coworkers/{id}"), "");
        assert_eq!(faults(&deleted), not_own("Businesses"));
    }
    assert_eq!(refused("POST", "coworkers", json!({"Id": 70, "FullName": "x", "Businesses": [1]})).len(), 1);
    // What others have does not show: neither by its own id, nor in what refers to it.
    for (path, hidden, none) in [("coworkers", 7, 70), ("businesses", 2, 70), ("coworkertimepasses", 10, 70)] {
        for (method, body) in [("PUT", json!({"Name": "x"})), ("DELETE", Value::Null)] {
            let told = |id: i64| {
                let mut body = body.clone();
                let (path, body) = match body.as_object_mut() {
                    Some(fields) => {
                        fields.insert("Id".to_owned(), id.into());
                        (format!("/api/spaces/{path}"), body.to_string())
                    }
                    None => (format!("/api/spaces/{path}/{id}"), String::new()),
                };
                let answer = ask(&site, "one", method, &path, &body);
                let mut body = answer.json();
                body["RequestId"] = Value::Null;
                (answer.status, body)
            };
            assert_eq!(told(hidden), told(none), "{method} {path}");
            assert_eq!(told(none).0, 404);
        }
    }
    let told = |id: i64| refused("PUT", "coworkers", json!({"Id": 6, "TariffId": id}))[0].replace(&id.to_string(), "N");
    assert_eq!(told(3), told(30));
    let told = |id: i64| {
        refused("POST", "coworkertimepasses", json!({"CoworkerId": id, "TimePassId": 5}))[0]
            .replace(&id.to_string(), "N")
    };
    assert_eq!(told(7), told(70));
    assert_eq!(version(&site), before, "nothing was written");
    // Its own it may write.
    let body = json!({"FullName": "New", "Businesses": [{"Id": 1}], "TariffId": 4});
    assert_eq!(done(&ask(&site, "one", "POST", "/api/spaces/coworkers", &body.to_string())), FIRST);
    let pass = json!({"CoworkerId": FIRST, "TimePassId": 5});
    assert_eq!(done(&ask(&site, "one", "POST", "/api/spaces/coworkertimepasses", &pass.to_string())), FIRST);
    assert_eq!(done(&ask(&site, "one", "DELETE", &format!("/api/spaces/coworkertimepasses/{FIRST}"), "")), FIRST);
    assert_eq!(done(&ask(&site, "one", "PUT", "/api/sys/businesses", r#"{"Id": 1, "Name": "Hub 1"}"#)), 1);
}

#[test]
fn changes_at_the_same_time_are_all_made() {
    let site = Site::start();
    std::thread::scope(|scope| {
        for person in 0..8 {
            let site = &site;
            scope.spawn(move || {
                let body = json!({"FullName": format!("Member {person}")});
                done(&write(site, "POST", "/api/spaces/coworkers", &body));
            });
        }
    });
    let listed = ask(&site, "admin@example.com", "GET", "/api/spaces/coworkers?orderBy=Id", "").json();
    let ids: Vec<i64> =
        listed["Records"].as_array().expect("a list").iter().filter_map(|one| one["Id"].as_i64()).collect();
    assert_eq!(ids, (FIRST..FIRST + 8).collect::<Vec<_>>());
}

/// A command to the daemon's API.
fn command(daemon: &Daemon, method: &str, path: &str, body: &Value) -> Answer {
    daemon.send(method, path, &[("Authorization", &basic("ada"))], &body.to_string())
}

#[test]
fn a_change_is_in_force_when_it_is_answered() {
    let broker = Broker::plain();
    let home = Home::new(&(settings("") + &doors(broker.port)));
    home.ask(&["migrate"]);
    home.tell(&["user", "add", "ada", "--admin"], &format!("{PASSWORD}\n"));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    // The business of the gateway is known before there is any import.
    let known = command(&daemon, "GET", "/api/sys/businesses", &Value::Null).json();
    assert_eq!((&known["Records"][0]["Id"], &known["Records"][0]["Name"]), (&json!(1), &json!("Hub One")), "{known}");
    assert_eq!(command(&daemon, "GET", "/api/sys/businesses/1", &Value::Null).status, 200);

    let created =
        command(&daemon, "POST", "/api/spaces/coworkers", &json!({"FullName": "Zoe", "AccessCardId": card(1)}));
    let id = done(&created);
    broker.publish("flat/events", flat_event(1, card(1), Way::In, next_second()).as_bytes(), 1);
    let wait_for_row = |rows: &str| {
        wait_for(rows, LIMIT, || if home.ledger().count(rows) == 1 { Ok(()) } else { Err(daemon.log()) });
    };
    wait_for_row(&format!("checkins WHERE coworker_id = {id}"));
    done(&command(&daemon, "PUT", "/api/spaces/coworkers", &json!({"Id": id, "Active": false})));
    done(&command(&daemon, "DELETE", &format!("/api/spaces/coworkers/{id}"), &Value::Null));
    // At another door, because within five seconds a second tap at the same door is no new sighting.
    broker.publish("board/events", board_event(1, card(1), Way::In, next_second()).as_bytes(), 1);
    wait_for_row(&format!("failed_checkins WHERE code = 'coworker_archived' AND coworker_id = {id}"));
    assert_eq!(daemon.lines("the directory was changed over the API").len(), 3);
    assert!(!daemon.log().contains(&card(1).to_string()), "values stay private");
    daemon.stop();
}

#[test]
fn a_gateway_with_only_a_database_and_an_api_serves_the_directory() {
    let server = Postgres::start();
    for home in [Home::new(""), Home::on(&server.url(), "")] {
        home.ask(&["migrate"]);
        home.tell(&["user", "add", "ada", "--admin"], &format!("{PASSWORD}\n"));
        let mut daemon = home.start();
        daemon.wait_until_ready();
        for id in [FIRST, FIRST + 1] {
            assert_eq!(done(&command(&daemon, "POST", "/api/spaces/teams", &json!({"Name": "Rocket"}))), id);
        }
        done(&command(&daemon, "PUT", "/api/spaces/teams", &json!({"Id": FIRST, "Name": "Anvil"})));
        done(&command(&daemon, "DELETE", &format!("/api/spaces/teams/{}", FIRST + 1), &Value::Null));
        let listed = command(&daemon, "GET", "/api/spaces/teams", &Value::Null).json();
        assert_eq!((&listed["TotalItems"], &listed["Records"][0]["Name"]), (&json!(1), &json!("Anvil")), "{listed}");
        assert_eq!(command(&daemon, "GET", "/api/sys/businesses", &Value::Null).json()["TotalItems"], 0);
        daemon.stop();
    }
}
