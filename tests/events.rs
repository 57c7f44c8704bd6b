//! Door events sent through a real broker, and the resulting records.

use std::time::Duration;

use checkind::base::clock::WallTime;
use serde_json::{Value, json};

use crate::support::{
    broker::Broker,
    daemon::{BINARY, Daemon, Home, LIMIT, Way, board_event, card, now, people, site},
    faketime::WallClock,
    wait_for,
};

/// A site with doors, its broker, and the daemon.
struct Hall {
    broker: Broker,
    home: Home,
    daemon: Daemon,
    sent: i64,
}

/// The folder of a site with these people. `doors` has the `[[source]]`s and `[[door]]`s.
fn home(broker: &Broker, doors: &str, members: &Value) -> Home {
    let mqtt = format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\nclient_id = \"checkind-test\"\n", broker.port);
    let home = Home::new(&(site("") + &mqtt + doors));
    home.import(members);
    home
}

impl Hall {
    /// Starts the site. `doors` has the `[[source]]`s and `[[door]]`s.
    fn open(doors: &str, members: &Value) -> Self {
        let broker = Broker::plain();
        let home = home(&broker, doors, members);
        let mut daemon = home.start();
        daemon.wait_until_ready();
        Self { broker, home, daemon, sent: 0 }
    }

    /// Publishes messages, and waits until all have been decided.
    fn publish(&mut self, topic: &str, messages: &[String]) {
        self.broker.publish_lines(topic, messages.iter().cloned(), 1);
        self.sent += i64::try_from(messages.len()).expect("few");
        let sent = self.sent;
        wait_for("every message to be decided", LIMIT, || match self.home.ledger().try_facts()? {
            decided if decided >= sent => Ok(()),
            decided => Err(format!("{decided} of {sent}\n{}", self.daemon.log())),
        });
    }

    /// Every visit: the person, and the length in seconds (-1 while open).
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
time.trust = "8d past"

[[door]]
match = "side"
name = "Side door"
on_in = "check_in"
on_out = "check_out"
"#;

fn ago(seconds: u64) -> WallTime {
    now().minus(Duration::from_secs(seconds))
}

/// A time of a record.
fn instant(text: &str) -> WallTime {
    WallTime::from(text.parse::<chrono::DateTime<chrono::Utc>>().expect("a time"))
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
    hall.publish("doors/side", &taps);
    let expected: Vec<Vec<String>> = (1..=20).map(|person: u32| vec![person.to_string(), "2".to_owned()]).collect();
    assert_eq!(hall.visits(), expected, "{}", hall.daemon.log());
    // Messages delivered again are the same events.
    hall.broker.publish_lines("doors/side", taps, 1);
    hall.daemon.wait_for_metric("checkind_decisions_total", "duplicate", 40);
    assert_eq!(hall.visits(), expected);
}

#[test]
fn in_and_out_within_one_minute_is_a_visit_where_the_clock_shows_minutes_only() {
    let doors = FLAT.replace("topics =", "time.parse = [\"%Y-%m-%d %H:%M\"]\ntime.zone = \"UTC\"\ntopics =");
    let mut hall = Hall::open(&doors, &people(8, &[]));
    let minute = ago(60).utc().format("%Y-%m-%d %H:%M").to_string();
    let tap =
        |person: u32, way: &str| flat(&json!({"card": card(person).to_string(), "direction": way, "time": minute}));
    // Four pairs in order, and four in reverse order, in separate messages.
    let taps: Vec<String> = (1..=4).flat_map(|person| [tap(person, "in"), tap(person, "out")]).collect();
    hall.publish("doors/side", &taps);
    for person in 5..=8 {
        hall.publish("doors/side", &[tap(person, "out")]);
        hall.publish("doors/side", &[tap(person, "in")]);
    }
    let expected: Vec<Vec<String>> = (1..=8).map(|person: u32| vec![person.to_string(), "0".to_owned()]).collect();
    assert_eq!(hall.visits(), expected, "{}", hall.daemon.log());
}

#[test]
fn a_controller_that_counts_from_one_again_is_recorded() {
    let mut hall = Hall::open(FLAT, &people(4, &[]));
    let start = ago(4000);
    let tap = |id: u32, person: u32, way: &str, later: u64| {
        let at = start.plus(Duration::from_secs(later)).to_rfc3339_seconds();
        flat(&json!({"id": id, "card": card(person).to_string(), "direction": way, "time": at}))
    };
    hall.publish("doors/side", &[tap(1, 1, "in", 0), tap(2, 2, "in", 100)]);
    // After a power cut the controller numbers its events from 1 again.
    hall.publish("doors/side", &[tap(1, 3, "in", 3000), tap(2, 2, "out", 3100), tap(3, 4, "in", 3200)]);
    let visits: Vec<Vec<String>> =
        [("1", "-1"), ("2", "3000"), ("3", "-1"), ("4", "-1")].map(|(who, long)| vec![who.into(), long.into()]).into();
    assert_eq!(hall.visits(), visits, "{}", hall.daemon.log());
}

#[test]
fn numbers_that_another_door_has_used_are_still_free_for_this_one() {
    let mut hall = Hall::open(FLAT, &people(10, &[]));
    let beats: Vec<String> =
        (100..110).map(|id| json!({"id": id, "door": "side", "result": "heartbeat"}).to_string()).collect();
    hall.publish("doors/other", &beats);
    let taps: Vec<String> = (0..10)
        .map(|nth| {
            let at = ago(50 - u64::from(nth)).to_rfc3339_seconds();
            flat(&json!({"id": 100 + nth, "card": card(nth + 1).to_string(), "direction": "in", "time": at}))
        })
        .collect();
    hall.publish("doors/side", &taps);
    assert_eq!(hall.visits().len(), 10, "{}", hall.daemon.log());
}

#[test]
fn a_blank_or_empty_value_falls_back_to_the_next_path_of_a_field() {
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
    hall.publish("board", &taps.map(|tap| tap.to_string()));
    assert_eq!(hall.visits().len(), 4, "{}", hall.daemon.log());
}

#[test]
fn every_refused_attempt_at_a_door_is_a_record_that_names_the_door() {
    let mut hall = Hall::open(FLAT, &people(2, &[]));
    let at = |before: u64| ago(before).to_rfc3339_seconds();
    let attempts = [
        // A wrong PIN, and an unreadable card.
        flat(&json!({"result": "denied", "reason": "wrong_pin", "time": at(90)})),
        flat(&json!({"result": "denied", "card": "0", "time": at(80)})),
        flat(&json!({"result": "denied", "reason": "expired", "card": card(1).to_string(), "time": at(70)})),
        flat(&json!({"card": "12345", "time": at(60)})),
        flat(&json!({"card": card(2).to_string(), "door": "back \"3\"", "time": at(50)})),
    ];
    hall.publish("doors/side", &attempts);
    let text = hall.failures();
    let expected = [
        ("refused_wrong_pin: ", "(at Side door)"),
        ("refused_by_controller: ", "(at Side door)"),
        ("refused_expired: ", "(at Side door)"),
        ("unrecognised_card: ", "(at Side door)"),
        ("door_not_configured: ", r#"(match = "back \"3\"")"#),
    ];
    assert_eq!(text.len(), expected.len(), "{text:?}\n{}", hall.daemon.log());
    for (text, (code, door)) in text.iter().zip(expected) {
        assert!(text.starts_with(code) && text.ends_with(door), "{text}");
    }
    // Each guess of a PIN is an attempt. A card refused twice within the debounce is one attempt.
    let pin = |before| flat(&json!({"result": "denied", "reason": "wrong_pin", "time": at(before)}));
    let card = |before| {
        flat(&json!({"result": "denied", "reason": "expired", "card": card(1).to_string(), "time": at(before)}))
    };
    hall.publish("doors/side", &[pin(88), pin(40), card(68)]);
    assert_eq!(hall.failures().len(), 7);
}

#[test]
fn a_card_that_is_held_at_a_toggle_door_is_read_once_and_does_not_check_in_again_at_once() {
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
    hall.publish("doors/side", &taps(&[0]));
    // An hour later the card is held to the reader, and tapped again half a minute later because the door did not open.
    hall.publish("doors/side", &taps(&[3600, 3602, 3604, 3606, 3611]));
    hall.publish("doors/side", &taps(&[3640]));
    let first = || vec!["1".to_owned(), "3600".to_owned()];
    assert_eq!(hall.visits(), [first()], "{}", hall.daemon.log());
    // A later tap is an entry.
    hall.publish("doors/side", &taps(&[3661]));
    assert_eq!(hall.visits(), [first(), vec!["1".to_owned(), "-1".to_owned()]]);
}

/// Controllers that do not buffer events.
const PROMPT: &str = r#"
[[source]]
name = "flat"
preset = "generic-json"
topics = ["doors/{door}"]

[[source]]
name = "esp"
preset = "esp-rfid-v2"
topics = ["esp/send"]

[[source]]
name = "board"
preset = "uhppoted"
topics = ["board"]

[[door]]
match = "*"
name = "Side door"
on_in = "check_in"
on_out = "check_out"
"#;

#[test]
fn messages_that_the_broker_kept_over_a_long_weekend_keep_their_time() {
    const WEEKEND: u64 = 3 * 86_400;
    let broker = Broker::plain();
    let home = home(&broker, PROMPT, &people(3, &[]));
    // On Friday the gateway is switched off.
    let friday = WallClock::off_by(-WEEKEND.cast_signed());
    let mut daemon = home.start_by(&[BINARY], &friday.environment());
    daemon.wait_until_ready();
    daemon.stop();
    let tap = |person: u32, way: &str, at: WallTime| {
        flat(&json!({"card": card(person).to_string(), "direction": way, "time": at.to_rfc3339_seconds()}))
    };
    let came = ago(WEEKEND - 7200);
    let left = came.plus(Duration::from_secs(3600));
    // An event older than the absence was stamped by a wrong clock.
    let wrong = ago(WEEKEND + 3600);
    broker.publish_lines("doors/side", [tap(1, "in", came), tap(1, "out", left), tap(2, "in", wrong)], 1);

    let mut daemon = home.start();
    daemon.wait_until_ready();
    let mut hall = Hall { broker, home, daemon, sent: 3 };
    hall.publish("doors/side", &[]);
    assert_eq!(
        hall.visits(),
        [["1", "3600"], ["2", "-1"]].map(|row| row.map(ToOwned::to_owned)),
        "{}",
        hall.daemon.log()
    );
    let began = hall.home.ledger().texts("SELECT from_time FROM checkins ORDER BY coworker_id");
    let millis = |text: &str| instant(text).millis();
    assert_eq!(millis(&began[0][0]), came.millis() / 1000 * 1000);
    assert!(instant(&began[1][0]).distance(now()) < LIMIT);

    // A live message was not kept by the broker, whatever its time. The time of a board that buffers is trusted.
    wait_for("everything that the broker kept to arrive", LIMIT, || {
        match hall.daemon.metric("checkind_mqtt_may_have_waited_seconds", "") {
            waited if waited < 60 => Ok(()),
            waited => Err(format!("{waited} s")),
        }
    });
    hall.publish("doors/side", &[tap(3, "in", ago(47 * 3600))]);
    let last = hall.home.ledger().texts("SELECT last_activity FROM checkins WHERE coworker_id = 3");
    assert!(instant(&last[0][0]).distance(now()) < LIMIT, "{last:?}");
    let before = ago(47 * 3600);
    hall.publish("board", &[board_event(1, card(2), Way::In, before)]);
    let first = hall.home.ledger().texts("SELECT min(from_time) FROM checkins WHERE coworker_id = 2");
    assert_eq!(millis(&first[0][0]), before.millis() / 1000 * 1000);
}

#[test]
fn a_clock_in_another_zone_is_reported_and_nothing_is_shifted() {
    let mut hall = Hall::open(PROMPT, &people(5, &[]));
    let local = |person: u32| {
        let unix = ago(5 * 3600).millis() / 1000;
        let uid = format!("{:x}", card(person));
        json!({"type": "access", "time": unix, "isKnown": "true", "access": "Always", "username": "x", "uid": uid,
               "hostname": "esp-1", "doorName": "side"})
        .to_string()
    };
    hall.publish("esp/send", &(1..=4).map(local).collect::<Vec<_>>());
    let text = hall.daemon.wait_for_condition("clock_offset");
    for part in ["\"esp\"", "\"side\"", "5 h behind", "not corrected", "parse = [\"unix_local\"]"] {
        assert!(text.contains(part), "{text}");
    }
    let metrics = hall.daemon.get("/metrics").body;
    let ahead =
        metrics.lines().find_map(|line| line.strip_prefix("checkind_source_clock_ahead_seconds{source=\"esp\"} "));
    let ahead: f64 = ahead.and_then(|ahead| ahead.parse().ok()).unwrap_or_else(|| panic!("{metrics}"));
    // A message may take a second or two on a busy machine.
    assert!((-18_060.0..=-17_999.0).contains(&ahead), "{ahead}");
    assert_eq!(hall.daemon.metric("checkind_source_times_not_believed_total", "source=\"esp\""), 4);
    let began = hall.home.ledger().texts("SELECT from_time FROM checkins");
    assert_eq!(began.len(), 4);
    for row in began {
        let began = instant(&row[0]);
        assert!(began.distance(now()) < LIMIT, "{began}");
    }
    // Now the clock is set right.
    let now_is = |person: u32| {
        let mut event: Value = serde_json::from_str(&local(person)).expect("JSON");
        event["time"] = json!(now().millis() / 1000);
        event.to_string()
    };
    hall.publish("esp/send", &(1..=5).map(now_is).collect::<Vec<_>>());
    hall.daemon.wait_until_over("clock_offset");
}

#[test]
fn a_time_that_cannot_be_read_is_counted_and_reported() {
    let mut hall = Hall::open(PROMPT, &people(30, &[]));
    let tap = |person: u32, time: &str| flat(&json!({"card": card(person).to_string(), "time": time}));
    hall.publish("doors/side", &[tap(1, "02.03.2026 09:00"), tap(2, "02.03.2026 09:00 Uhr")]);
    let text = hall.daemon.wait_for_condition("time_unreadable");
    assert!(
        text.contains("\"##.##.#### ##:##") && text.contains("\"flat\"") && text.contains("[source.time]"),
        "{text}"
    );
    assert_eq!(hall.daemon.metric("checkind_source_times_unreadable_total", "source=\"flat\""), 2);
    assert_eq!(hall.visits().len(), 2);
    // Now the format is corrected at the controller.
    let right = |person| tap(person, &now().to_rfc3339_seconds());
    hall.publish("doors/side", &(3..=22).map(right).collect::<Vec<_>>());
    hall.daemon.wait_until_over("time_unreadable");
}

#[test]
fn keys_that_are_used_again_and_again_are_reported() {
    let mut hall = Hall::open(PROMPT, &people(8, &[]));
    let tap = |id: u32, person: u32| flat(&json!({"id": id, "card": card(person).to_string(), "direction": "in"}));
    hall.publish("doors/side", &[tap(1, 1), tap(2, 2), tap(3, 3)]);
    // A repetition is not a new event, and raises no condition.
    hall.broker.publish_lines("doors/side", [tap(1, 1), tap(2, 2)], 1);
    hall.publish("doors/side", &[tap(1, 4), tap(2, 5)]);
    assert_eq!(hall.daemon.metric("checkind_source_keys_reused_total", "source=\"flat\""), 2);
    assert!(!hall.daemon.conditions().contains_key("keys_reused"));
    hall.publish("doors/side", &[tap(3, 6)]);
    let text = hall.daemon.wait_for_condition("keys_reused");
    assert!(text.contains("\"flat\"") && text.contains("\"side\"") && text.contains("key.id"), "{text}");
    assert_eq!(hall.visits().len(), 6);
}

#[test]
fn a_controller_cannot_speak_for_the_door_of_another_topic() {
    let mut hall = Hall::open(PROMPT, &people(2, &[]));
    let tap = |person: u32, door: &str| {
        json!({"door": door, "result": "granted", "direction": "in", "card": card(person).to_string()}).to_string()
    };
    // The topic identifies the door if the payload does not.
    let silent = json!({"result": "granted", "direction": "in", "card": card(2).to_string()}).to_string();
    hall.publish("doors/back", &[tap(1, "side"), silent]);
    assert_eq!(hall.visits(), [["2", "-1"].map(ToOwned::to_owned)], "{}", hall.daemon.log());
    assert_eq!(hall.daemon.metric("checkind_rejected_messages_total", "reason=\"other_topic\""), 1);
    hall.publish("doors/side", &[tap(1, "side")]);
    assert_eq!(hall.visits().len(), 2);
}

#[test]
fn a_card_that_is_held_at_a_toggle_door_without_a_clock_is_one_tap_too() {
    let doors = FLAT.replace("on_in = \"check_in\"\non_out = \"check_out\"", "on_in = \"toggle\"\non_out = \"toggle\"");
    let hall = Hall::open(&doors, &people(1, &[]));
    let read = flat(&json!({"card": card(1).to_string()}));
    // One read a second for twelve seconds, as the controller sends them.
    let portions = std::iter::repeat_n(vec![read], 12);
    hall.broker.publish_portions("doors/side", portions, Duration::from_secs(1));
    hall.daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", 12);
    hall.daemon.adds_up();
    let decided = |outcome: &str| hall.daemon.metric("checkind_decisions_total", &format!("outcome=\"{outcome}\""));
    assert_eq!((decided("opened"), decided("refreshed")), (1, 0), "{}", hall.daemon.log());
}

#[test]
fn a_card_left_on_a_reader_is_one_event_and_is_reported() {
    let doors = FLAT.replace("on_in = \"check_in\"\non_out = \"check_out\"", "on_in = \"toggle\"\non_out = \"toggle\"");
    let mut hall = Hall::open(&doors, &people(2, &[]));
    let at = ago(4000);
    let read = |second: u64| {
        let time = at.plus(Duration::from_secs(second)).to_rfc3339_seconds();
        flat(&json!({"card": card(1).to_string(), "time": time}))
    };
    hall.publish("doors/side", &(0..30).map(|nth| read(nth * 4)).collect::<Vec<_>>());
    assert!(!hall.daemon.conditions().contains_key("reader_repeats"));
    hall.publish("doors/side", &(30..150).map(|nth| read(nth * 4)).collect::<Vec<_>>());
    let text = hall.daemon.wait_for_condition("reader_repeats");
    assert!(text.contains("\"side\"") && text.contains("same card"), "{text}");
    assert_eq!(hall.visits(), [["1", "-1"].map(ToOwned::to_owned)]);
    assert_eq!(hall.daemon.metric("checkind_decisions_total", "outcome=\"opened\""), 1);
    hall.daemon.wait_until_over("reader_repeats");
    assert_eq!(hall.daemon.changes_of("reader_repeats"), (1, 1));
}
