//! Kiosks over the wire: what they are shown is decided as a tap, and told before they could guess.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    daemon::{Daemon, Home, LIMIT, next_second, site},
    http::Answer,
    postgres::Postgres,
    wait_for,
};

const PHONE: &str = "3c:22:fb:00:00:02";

/// Kiosks in this network, and the address of one.
const ON: &str = "kiosk_checkins = true\nkiosk_addresses = [\"10.0.0.0/24\"]\n";
const KIOSK: &str = "10.0.0.7";

/// People 1 and 2 with one PIN, 3 with a phone, 4 who is not active, and 5 and 6 who share a card.
fn people() -> Value {
    json!({
        "Businesses": [{"Id": 1, "Name": "Hub One"}],
        "Coworkers": [
            {"Id": 1, "FullName": "Ada", "Email": "Ada@example.com", "AccessCardId": "100", "AccessPincode": "4711"},
            {"Id": 2, "FullName": "Bob", "Email": "bob@example.com", "AccessCardId": "200", "AccessPincode": "4711, 0815"},
            {"Id": 3, "FullName": "Cid", "MacAddresses": PHONE},
            {"Id": 4, "FullName": "Dot", "AccessCardId": "400", "Active": false},
            {"Id": 5, "FullName": "Eve", "AccessCardId": "500"},
            {"Id": 6, "FullName": "Fay", "AccessCardId": "500"},
        ],
    })
}

fn started(home: Home) -> (Home, Daemon) {
    home.ask(&["migrate"]);
    home.import(&people());
    let mut daemon = home.start();
    daemon.wait_until_ready();
    (home, daemon)
}

fn gateway(api: &str, site_keys: &str) -> (Home, Daemon) {
    started(Home::new(&format!("{api}{}", site(site_keys))))
}

/// What a kiosk at an address sends.
fn shown_at(daemon: &Daemon, address: &str, body: &str) -> Answer {
    daemon.send("POST", "/api/public/checkin", &[("X-Forwarded-For", address)], body)
}

fn shown(daemon: &Daemon, body: &Value) -> Answer {
    shown_at(daemon, KIOSK, &body.to_string())
}

/// Whether it was successful, and what was said.
fn said(answer: &Answer) -> (bool, String) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    let message = body["Message"].as_str().expect("a message").to_owned();
    (body["WasSuccessful"].as_bool().expect("a truth"), message)
}

/// The check-ins, each with the person, the source, the devices and whether it is open.
fn checkins(home: &Home) -> Vec<String> {
    let rows = home.ledger().texts(
        "SELECT CAST(coworker_id AS text), CAST(source AS text), coalesce(mac_addresses, ''),
           CASE WHEN to_time IS NULL THEN 'in' ELSE 'out' END FROM checkins ORDER BY id",
    );
    rows.into_iter().map(|row| row.join(" ")).collect()
}

/// The descriptions of the failed check-ins.
fn failed(home: &Home) -> Vec<String> {
    home.ledger().texts("SELECT description FROM failed_checkins ORDER BY id").concat()
}

const IN: &str = "The coworker is in.";
const OUT: &str = "The coworker is out.";

fn what_is_shown_is_decided(home: &Home, daemon: &Daemon) {
    let card = shown(daemon, &json!({"AccessCardId": "100", "Toggle": true}));
    assert_eq!(said(&card), (true, IN.to_owned()));
    assert_eq!(card.json()["Value"], json!({"SessionExpire": null, "SessionTimeOut": null}));
    // A card that is left at the reader is one tap.
    assert_eq!(said(&shown(daemon, &json!({"accesscardid": 100, "TOGGLE": "true"}))), (true, IN.to_owned()));
    assert_eq!(checkins(home), ["1 2  in"]);
    let form = shown_at(daemon, KIOSK, "accessCardId=100&disconnect=true");
    assert_eq!(said(&form), (true, OUT.to_owned()));
    assert_eq!(checkins(home), ["1 2  out"]);

    // With an e-mail address, a PIN that two people have is enough.
    for (body, is_good, message) in [
        (json!({"pincode": "4711"}), false, "ambiguous_card: "),
        (json!({"pincode": "4711", "email": "cid@example.com"}), false, "unrecognised_card: "),
        (json!({"pincode": "1234", "email": "bob@example.com"}), false, "unrecognised_card: "),
        (json!({"pincode": "4711", "email": "BOB@example.com"}), true, IN),
        (json!({"pincode": "0815", "disconnect": true}), true, OUT),
        (json!({"accessCardId": "500"}), false, "ambiguous_card: "),
        (json!({"accessCardId": "400"}), false, "coworker_inactive: "),
        (json!({"mac": PHONE.to_uppercase()}), true, IN),
        (json!({"mac": PHONE, "disconnect": true}), true, OUT),
        (json!({"mac": "3c-22-fb-00-00-09"}), false, "unrecognised_device: "),
        (json!({"mac": "3c-22-fb-00-00-09", "disconnect": true}), false, "unrecognised_device: "),
    ] {
        let (good, told) = said(&shown(daemon, &body));
        assert!(good == is_good && told.starts_with(message), "{body}: {told}");
    }
    assert_eq!(checkins(home), ["1 2  out", "2 2  out", &format!("3 3 {PHONE} out")]);
    let failed = failed(home);
    let codes: Vec<&str> = failed.iter().filter_map(|text| text.split(':').next()).collect();
    assert_eq!(
        codes,
        [
            "ambiguous_card",
            "unrecognised_card",
            "unrecognised_card",
            "ambiguous_card",
            "coworker_inactive",
            "unrecognised_device",
            "unrecognised_device"
        ]
    );
    assert!(failed[0].ends_with("(at the kiosk)"), "{failed:?}");
    let explained = home.ask(&["explain", PHONE]);
    assert!(
        explained.contains("door \"the kiosk\" (api/kiosk of api), out: device 3c:22:fb:00:00:02, read"),
        "{explained}"
    );
    daemon.adds_up();
    assert!(!daemon.log().contains("4711"), "a PIN is never logged");
}

#[test]
fn what_a_kiosk_is_shown_is_decided_as_a_tap() {
    let (home, daemon) = gateway(ON, "");
    what_is_shown_is_decided(&home, &daemon);
}

#[test]
fn a_kiosk_on_postgresql_is_answered_after_the_commit_and_not_by_the_spool() {
    let server = Postgres::start();
    let home = Home::on(&server.url(), "");
    let spool = format!("{ON}[spool]\npath = \"{}\"\n{}", home.path("spool.db").display(), site(""));
    home.configure(&spool);
    let (home, daemon) = started(home);
    what_is_shown_is_decided(&home, &daemon);
}

#[test]
fn a_toggle_lets_out_who_has_stayed() {
    let (home, daemon) = gateway(ON, "debounce = \"1s\"\ntoggle_minimum_stay = \"2s\"");
    for body in [json!({"accessCardId": "100", "toggle": true}), json!({"mac": PHONE, "toggle": true})] {
        assert_eq!(said(&shown(&daemon, &body)), (true, IN.to_owned()));
        wait_for("the end of the minimum stay", LIMIT, || {
            // Reads of a card that is left at a reader are one tap, so there must be a gap.
            next_second();
            next_second();
            match said(&shown(&daemon, &body)) {
                (true, message) if message == OUT => Ok(()),
                other => {
                    assert_eq!(other, (true, IN.to_owned()));
                    Err(String::new())
                }
            }
        });
    }
    assert_eq!(checkins(&home), ["1 2  out", &format!("3 3 {PHONE} out")]);
    assert_eq!(failed(&home), Vec::<String>::new());
}

#[test]
fn a_kiosk_learns_how_long_the_pass_lasts() {
    let (home, daemon) = gateway(ON, "");
    let mut document = people();
    document["TimePasses"] = json!([{"Id": 1, "Name": "Hour", "MinutesIncluded": 60}, {"Id": 2, "Name": "Day"}]);
    document["CoworkerTimePasses"] =
        json!([{"Id": 1, "CoworkerId": 1, "TimePassId": 1}, {"Id": 2, "CoworkerId": 2, "TimePassId": 2}]);
    home.import(&document);
    for is_dry_run in [true, false] {
        let asked = |card: &str| json!({"accessCardId": card, "doNotCheckIn": is_dry_run});
        let answer = wait_for("the import", LIMIT, || {
            let answer = shown(&daemon, &asked("100"));
            if answer.json()["Value"]["SessionExpire"].is_string() { Ok(answer) } else { Err(answer.body) }
        });
        let body = answer.json();
        assert_eq!(body["Message"], body["Value"]["SessionExpire"], "{is_dry_run}");
        let left = body["Value"]["SessionTimeOut"].as_f64().expect("seconds");
        assert!(left > 3500.0 && left <= 3600.0, "{left}");
        // A day pass lasts until the cut-off, which is six hours away.
        let left = shown(&daemon, &asked("200")).json()["Value"]["SessionTimeOut"].as_f64().expect("seconds");
        assert!(left > 5.9 * 3600.0 && left <= 6.1 * 3600.0, "{left}");
        assert_eq!(checkins(&home).len(), if is_dry_run { 0 } else { 2 });
    }
    let (good, told) = said(&shown(&daemon, &json!({"mac": PHONE})));
    assert!(!good && told.starts_with("no_valid_pass: "), "{told}");
}

#[test]
fn a_dry_run_says_what_would_happen_and_writes_nothing() {
    let (home, daemon) = gateway(ON, "network_opens = \"after-door\"");
    let would = |body: Value| {
        let mut body = body;
        body["DoNotCheckIn"] = json!(true);
        said(&shown(&daemon, &body))
    };
    for (body, is_good, message) in [
        (json!({"accessCardId": "100"}), true, IN),
        (json!({"accessCardId": "100", "toggle": true}), true, IN),
        (json!({"accessCardId": "100", "disconnect": true}), false, "not_checked_in: "),
        (json!({"accessCardId": "400"}), false, "coworker_inactive: "),
        (json!({"accessCardId": "999"}), false, "unrecognised_card: "),
        (json!({"pincode": "4711"}), false, "ambiguous_card: "),
        (json!({"mac": PHONE}), false, "network_may_not_open: "),
        (json!({"mac": "3c-22-fb-00-00-09"}), false, "unrecognised_device: "),
    ] {
        let (good, told) = would(body.clone());
        assert!(good == is_good && told.starts_with(message), "{body}: {told}");
    }
    assert_eq!((checkins(&home), failed(&home), home.ledger().facts()), (Vec::new(), Vec::new(), 0));
    assert_eq!(said(&shown(&daemon, &json!({"accessCardId": "100"}))), (true, IN.to_owned()));
    assert_eq!(would(json!({"accessCardId": "100", "toggle": true})), (true, OUT.to_owned()));
    assert_eq!(would(json!({"accessCardId": "100", "disconnect": true})), (true, OUT.to_owned()));
    let (good, told) = said(&shown(&daemon, &json!({"mac": PHONE})));
    assert!(!good && told.starts_with("network_may_not_open: "), "{told}");
    assert_eq!(checkins(&home), ["1 2  in"]);
}

#[test]
fn a_kiosk_needs_the_settings_and_an_address_or_a_token() {
    let card = r#"{"accessCardId":"100"}"#;
    {
        let (_home, daemon) = gateway("", "");
        let answer = shown_at(&daemon, KIOSK, card);
        assert_eq!(answer.status, 403);
        assert!(answer.body.contains("kiosk_checkins = true"), "{answer:?}");
    }
    let (home, daemon) = gateway(ON, "");
    assert_eq!(shown_at(&daemon, "10.0.1.7", card).status, 401, "not listed");
    assert_eq!(daemon.send("POST", "/api/public/checkin", &[], card).status, 401, "nor is this machine");
    let token = |user: &str, role: &str, business: &str| {
        home.tell(&["user", "add", user, "--role", role, "--business", business], "correct horse battery\n");
        let printed = home.ask(&["user", "token", "add", user, "--name", "kiosk"]);
        let bearer = format!("Bearer {}", printed.lines().last().expect("the token"));
        daemon.send("POST", "/api/public/checkin", &[("Authorization", &bearer)], card).status
    };
    assert_eq!(token("reader", "Checkin-List", "1"), 403);
    assert_eq!(token("elsewhere", "Checkin-Create", "2"), 403);
    assert_eq!(token("kiosk", "Checkin-Create", "1"), 200);
    assert_eq!(checkins(&home), ["1 2  in"]);

    // A reload closes the door that stands for the kiosks at once.
    home.configure(&site(""));
    daemon.signal(Signal::HUP);
    wait_for("the reload", LIMIT, || match shown_at(&daemon, KIOSK, card) {
        answer if answer.status == 403 => Ok(()),
        answer => Err(answer.body),
    });
}

#[test]
fn guesses_at_a_kiosk_must_wait() {
    let (home, daemon) = gateway(ON, "");
    let guess = |address: &str, pin: u32| shown_at(&daemon, address, &json!({"pincode": pin.to_string()}).to_string());
    let guesses =
        |address: &str, from: u32| (from..from + 12).map(|pin| guess(address, pin).status).collect::<Vec<_>>();
    let statuses = guesses(KIOSK, 1000);
    assert_eq!(statuses[..5], [200; 5], "people mistype");
    assert_eq!(statuses[11], 429, "{statuses:?}");
    let answer = guess(KIOSK, 815);
    assert!(answer.status == 429 && answer.header("retry-after").parse::<u64>().is_ok(), "{answer:?}");
    assert_eq!(guess("10.0.0.8", 2000).status, 200, "another kiosk");
    // What is refused so is not decided.
    let written = failed(&home).len();
    assert!(written < 12, "{written}");

    // Each further person takes one failure back, and one person no more than one.
    let shown_there = |body: Value| shown_at(&daemon, "10.0.0.9", &body.to_string()).status;
    for card in ["100", "100", "200"] {
        assert_eq!(shown_there(json!({"accessCardId": card, "doNotCheckIn": true})), 200);
    }
    for pin in 3000..3004 {
        assert_eq!(shown_there(json!({"pincode": pin})), 200);
    }
    // Nothing was there to take back, so four failures count; a fifth, and the wait begins.
    assert_eq!(shown_there(json!({"pincode": 3004})), 200);
    assert!((0..10).any(|_| shown_there(json!({"accessCardId": "100"})) == 429));
}

#[test]
fn what_a_kiosk_should_not_send_is_told_at_once() {
    let (home, daemon) = gateway(ON, "");
    let one_of = "mac: is one of several: send mac, or accessCardId, or pincode with or without email";
    for (body, faults) in [
        (json!({}), &["mac: is required, or accessCardId, or pincode with or without email"][..]),
        (json!({"mac": PHONE, "accessCardId": "100"}), &[one_of]),
        (json!({"accessCardId": "100", "pincode": "4711"}), &[one_of]),
        (json!({"email": "ada@example.com"}), &["pincode: is required with an email"]),
        (
            json!({"email": "ada@example.com", "password": "x"}),
            &["password: is not taken here; send a pincode", "pincode: is required with an email"],
        ),
        (json!({"mac": "aa:bb"}), &["mac: is a MAC address, such as 00:50:56:ab:cd:ef"]),
        (
            json!({"accessCardId": "100", "toggle": true, "disconnect": true}),
            &["toggle: cannot be combined with disconnect"],
        ),
        (json!({"accessCardId": "100", "toggle": "perhaps"}), &["toggle: is true or false"]),
    ] {
        let answer = shown(&daemon, &body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        let told = answer.json()["Errors"].as_array().expect("a list").iter().fold(Vec::new(), |mut told, fault| {
            let text = |key: &str| fault[key].as_str().expect("a text").to_owned();
            told.push(format!("{}: {}", text("PropertyName"), text("Message")));
            told
        });
        assert_eq!(told, faults, "{body}");
    }
    let answer = shown(&daemon, &json!({"accessCardId": "100", "location": 7}));
    assert_eq!(answer.header("x-ignored-parameters"), "location");
    assert_eq!(checkins(&home), ["1 2  in"]);
}
