//! What happened at doors is what is written: messages through a real broker, and the records that they leave.

use std::time::Duration;

use checkind::clock::WallTime;
use serde_json::{Value, json};

use crate::support::{
    broker::Broker,
    daemon::{Daemon, Home, LIMIT, card, now, people, site},
    wait_for,
};

/// A site with doors, its broker, and the daemon.
struct Hall {
    broker: Broker,
    home: Home,
    daemon: Daemon,
    said: i64,
}

impl Hall {
    /// `doors` are `[[source]]`s and `[[door]]`s.
    fn open(doors: &str, members: &Value) -> Self {
        let broker = Broker::plain();
        let mqtt = format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\nclient_id = \"checkind-test\"\n", broker.port);
        let home = Home::new(&(site("") + &mqtt + doors));
        home.import(members);
        let mut daemon = home.start();
        daemon.wait_until_ready();
        Self { broker, home, daemon, said: 0 }
    }

    /// Publishes these and waits until all have been decided.
    fn says(&mut self, topic: &str, messages: &[String]) {
        self.broker.publish_lines(topic, messages.iter().cloned(), 1);
        self.said += i64::try_from(messages.len()).expect("few");
        let said = self.said;
        wait_for("every message to be decided", LIMIT, || match self.home.ledger().try_facts()? {
            decided if decided >= said => Ok(()),
            decided => Err(format!("{decided} of {said}\n{}", self.daemon.log())),
        });
    }

    /// Who came and went: the person, and how many seconds they stayed, if they left.
    fn visits(&self) -> Vec<Vec<String>> {
        self.home
            .ledger()
            .texts("SELECT CAST(coworker_id AS TEXT), CAST(coalesce(seconds, -1) AS TEXT) FROM checkins ORDER BY coworker_id, from_time")
    }

    fn failures(&self) -> Vec<String> {
        let failures = "SELECT description FROM failed_checkins ORDER BY checkin_attempt_time, description";
        self.home.ledger().texts(failures).into_iter().flatten().collect()
    }
}

const FLAT: &str = r#"
[[source]]
name = "flat"
preset = "generic-json"
topics = ["doors/+"]

[[door]]
match = "side"
name = "Side door"
on_in = "check_in"
on_out = "check_out"
"#;

fn ago(seconds: u64) -> WallTime {
    now().minus(Duration::from_secs(seconds))
}

fn flat(more: &Value) -> String {
    let mut event = json!({"door": "side", "result": "granted"});
    event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    event.to_string()
}

#[test]
fn in_and_out_two_seconds_later_is_a_visit_although_no_message_has_an_id() {
    let mut hall = Hall::open(FLAT, &people(20, &[]));
    let at = ago(60);
    let tap = |person: u32, way: &str, later: u64| {
        let at = at.plus(Duration::from_secs(later)).to_rfc3339_seconds();
        flat(&json!({"card": card(person).to_string(), "direction": way, "time": at}))
    };
    let taps: Vec<String> = (1..=20).flat_map(|person| [tap(person, "in", 0), tap(person, "out", 2)]).collect();
    hall.says("doors/side", &taps);
    let expected: Vec<Vec<String>> = (1..=20).map(|person: u32| vec![person.to_string(), "2".to_owned()]).collect();
    assert_eq!(hall.visits(), expected, "{}", hall.daemon.log());
    // Delivered again, they are the same events.
    hall.broker.publish_lines("doors/side", taps, 1);
    hall.daemon.wait_for_metric("checkind_decisions_total", "duplicate", 40);
    assert_eq!(hall.visits(), expected);
}

#[test]
fn a_controller_that_counts_from_one_again_is_heard() {
    let mut hall = Hall::open(FLAT, &people(4, &[]));
    let start = ago(4000);
    let tap = |id: u32, person: u32, way: &str, later: u64| {
        let at = start.plus(Duration::from_secs(later)).to_rfc3339_seconds();
        flat(&json!({"id": id, "card": card(person).to_string(), "direction": way, "time": at}))
    };
    hall.says("doors/side", &[tap(1, 1, "in", 0), tap(2, 2, "in", 100)]);
    // A power cut.
    hall.says("doors/side", &[tap(1, 3, "in", 3000), tap(2, 2, "out", 3100), tap(3, 4, "in", 3200)]);
    let visits: Vec<Vec<String>> =
        [("1", "-1"), ("2", "3000"), ("3", "-1"), ("4", "-1")].map(|(who, long)| vec![who.into(), long.into()]).into();
    assert_eq!(hall.visits(), visits, "{}", hall.daemon.log());
}

#[test]
fn numbers_that_somebody_else_used_up_are_not_taken_from_a_door() {
    let mut hall = Hall::open(FLAT, &people(10, &[]));
    let beats: Vec<String> =
        (100..110).map(|id| json!({"id": id, "door": "side", "result": "heartbeat"}).to_string()).collect();
    hall.says("doors/other", &beats);
    let taps: Vec<String> = (0..10)
        .map(|nth| {
            let at = ago(50 - u64::from(nth)).to_rfc3339_seconds();
            flat(&json!({"id": 100 + nth, "card": card(nth + 1).to_string(), "direction": "in", "time": at}))
        })
        .collect();
    hall.says("doors/side", &taps);
    assert_eq!(hall.visits().len(), 10, "{}", hall.daemon.log());
}

#[test]
fn a_blank_or_empty_value_gives_way_to_the_next_place_of_a_field() {
    let source = r#"
[[source]]
name = "board"
topics = ["board"]
field = { card = ["/CardNo", "/UserID"], door = ["/Reader", "/Door"] }
key = { door = "{door}" }
card = { empty = ["0"] }
rule = [{ kind = "granted" }]

[[door]]
match = "side"
on_in = "check_in"
on_out = "check_out"
"#;
    let mut hall = Hall::open(source, &people(4, &[]));
    let by_user =
        |number: u32, blank: Value| json!({"CardNo": blank, "UserID": card(number), "Reader": "", "Door": "side"});
    let taps = [by_user(1, json!("")), by_user(2, json!("  ")), by_user(3, json!("0")), by_user(4, json!(0))];
    hall.says("board", &taps.map(|tap| tap.to_string()));
    assert_eq!(hall.visits().len(), 4, "{}", hall.daemon.log());
}

#[test]
fn every_refused_attempt_at_a_door_is_a_record_that_names_the_door() {
    let mut hall = Hall::open(FLAT, &people(2, &[]));
    let at = |before: u64| ago(before).to_rfc3339_seconds();
    let attempts = [
        // A wrong PIN, and a card that could not be read.
        flat(&json!({"result": "denied", "reason": "wrong_pin", "time": at(90)})),
        flat(&json!({"result": "denied", "card": "0", "time": at(80)})),
        flat(&json!({"result": "denied", "reason": "expired", "card": card(1).to_string(), "time": at(70)})),
        flat(&json!({"card": "12345", "time": at(60)})),
        flat(&json!({"card": card(2).to_string(), "door": "back \"3\"", "time": at(50)})),
    ];
    hall.says("doors/side", &attempts);
    let told = hall.failures();
    let expected = [
        ("refused_wrong_pin: ", "(at Side door)"),
        ("refused_by_controller: ", "(at Side door)"),
        ("refused_expired: ", "(at Side door)"),
        ("unrecognised_card: ", "(at Side door)"),
        ("door_not_configured: ", r#"(match = "back \"3\"")"#),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}\n{}", hall.daemon.log());
    for (told, (code, door)) in told.iter().zip(expected) {
        assert!(told.starts_with(code) && told.ends_with(door), "{told}");
    }
    // The same wrong PIN again within the debounce is one attempt; later it is another.
    let pin = |before| flat(&json!({"result": "denied", "reason": "wrong_pin", "time": at(before)}));
    hall.says("doors/side", &[pin(88), pin(40)]);
    assert_eq!(hall.failures().len(), 6);
}

#[test]
fn a_card_that_is_held_at_a_toggle_door_is_read_once_and_nobody_comes_back_at_once() {
    let doors = FLAT.replace("on_in = \"check_in\"\non_out = \"check_out\"", "on_in = \"toggle\"\non_out = \"toggle\"");
    let mut hall = Hall::open(&doors, &people(1, &[]));
    let at = ago(4000);
    let taps = |seconds: &[u64]| -> Vec<String> {
        let tap = |second: &u64| {
            let time = at.plus(Duration::from_secs(*second)).to_rfc3339_seconds();
            flat(&json!({"card": card(1).to_string(), "time": time}))
        };
        seconds.iter().map(tap).collect()
    };
    hall.says("doors/side", &taps(&[0]));
    // An hour later they hold it there; half a minute after that they tap once more, because the door did not open.
    hall.says("doors/side", &taps(&[3600, 3602, 3604, 3606, 3611]));
    hall.says("doors/side", &taps(&[3640]));
    let first = || vec!["1".to_owned(), "3600".to_owned()];
    assert_eq!(hall.visits(), [first()], "{}", hall.daemon.log());
    // Later is an entry.
    hall.says("doors/side", &taps(&[3661]));
    assert_eq!(hall.visits(), [first(), vec!["1".to_owned(), "-1".to_owned()]]);
}
