//! The directory is read from another server with the platform's API: here a second daemon of ours, behind a relay that
//! fails as servers do.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use checkind::base::clock::Clock;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};

use crate::support::{
    certificates::Certificates,
    daemon::{Daemon, Home, LIMIT, site},
    http::{Answer, parse, send},
    postgres::Postgres,
    wait_for,
};

const PASSWORD: &str = "correct horse battery";

/// The first id of entities that are created in a gateway.
const OWN: i64 = 1_000_000_000_000;

/// The server that is read from.
struct Platform {
    home: Home,
    daemon: Daemon,
}

impl Platform {
    fn start(directory: &Value) -> Self {
        let home = Home::new("");
        home.import(directory);
        home.tell(&["user", "add", "gateway", "--admin"], &format!("{PASSWORD}\n"));
        let mut daemon = home.start();
        daemon.wait_until_ready();
        Self { home, daemon }
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Answer {
        command(&self.daemon, method, path, body)
    }
}

/// A command that must succeed, as the same user.
fn command(daemon: &Daemon, method: &str, path: &str, body: &Value) -> Answer {
    let basic = format!("Basic {}", STANDARD.encode(format!("gateway:{PASSWORD}")));
    let answer = daemon.send(method, path, &[("Authorization", &basic)], &body.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// What the relay does with requests whose path begins with a text.
#[derive(Clone, Debug)]
enum Act {
    /// Closes the connection.
    HangUp,
    /// Answers this instead.
    Say(String),
}

/// A relay in front of the server. Each connection carries one request.
struct Relay {
    address: SocketAddr,
    state: Arc<Mutex<RelayState>>,
}

#[derive(Debug, Default)]
struct RelayState {
    /// The requests so far, as `GET /path`.
    asked: Vec<String>,
    acts: Vec<(String, Act)>,
}

impl Relay {
    fn start(server: SocketAddr) -> Self {
        Self::start_with(server, None)
    }

    /// The same; with a certificate and its key, over TLS.
    fn start_with(server: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::<Mutex<RelayState>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, shared, tls) = (client.expect("a connection"), Arc::clone(&shared), tls.clone());
                thread::spawn(move || match tls {
                    None => relay(client, server, &shared),
                    Some(tls) => {
                        let session = rustls::ServerConnection::new(tls).expect("a session");
                        relay(rustls::StreamOwned::new(session, client), server, &shared);
                    }
                });
            }
        });
        Self { address, state }
    }

    fn state(&self) -> MutexGuard<'_, RelayState> {
        self.state.lock().expect("no thread of the relay panics")
    }

    /// From now on, does this with requests whose path begins with `path`, and forwards all others.
    fn acts(&self, path: &str, act: Act) {
        self.state().acts = vec![(path.to_owned(), act)];
    }

    /// From now on, only forwards.
    fn forwards(&self) {
        self.state().acts.clear();
    }

    /// The requests so far that contain a text.
    fn asked(&self, text: &str) -> Vec<String> {
        self.state().asked.iter().filter(|asked| asked.contains(text)).cloned().collect()
    }

    /// Waits for a request with this text that comes after now.
    fn wait_for_next(&self, text: &str) {
        let before = self.asked(text).len();
        wait_for(text, LIMIT, || {
            if self.asked(text).len() > before { Ok(()) } else { Err(self.state().asked.join("\n")) }
        });
    }
}

fn relay(mut client: impl Read + Write, server: SocketAddr, shared: &Mutex<RelayState>) {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    let (head, body) = loop {
        let Ok(read @ 1..) = client.read(&mut piece) else { return };
        request.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let act = {
        let mut state = shared.lock().expect("no thread of the relay panics");
        state.asked.push(format!("{method} {path}"));
        state.acts.iter().find(|(start, _)| path.starts_with(start)).map(|(_, act)| act.clone())
    };
    let answer = match act {
        Some(Act::HangUp) => return,
        Some(Act::Say(answer)) => answer,
        None => {
            let headers: Vec<(&str, &str)> = lines
                .filter_map(|line| line.split_once(": "))
                .filter(|(name, _)| ["authorization", "content-type"].contains(&name.to_ascii_lowercase().as_str()))
                .collect();
            let answer = send(server, method, path, &headers, &body);
            said(answer.status, "", &answer.body)
        }
    };
    let _gone = client.write_all(answer.as_bytes());
}

/// An answer as it is sent.
fn said(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    let text = format!("HTTP/1.1 {status} -\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    assert_eq!(parse(&text).status, status);
    text
}

/// A gateway that reads from there every second.
fn gateway(relay: &Relay) -> Home {
    let home = Home::new(&(site("") + &section(relay)));
    home.write("sync-password", PASSWORD);
    home.ask(&["migrate"]);
    home.tell(&["user", "add", "gateway", "--admin"], &format!("{PASSWORD}\n"));
    home
}

fn section(relay: &Relay) -> String {
    let url = format!("http://{}", relay.address);
    format!("[sync]\nurl = \"{url}\"\nusername = \"gateway\"\npassword_file = \"sync-password\"\nevery = \"1s\"\n")
}

/// The stored document of an entity, as JSON; null if there is none.
fn stored(home: &Home, kind: &str, id: i64) -> Value {
    let rows = home.ledger().texts(&format!("SELECT document FROM directory WHERE kind = '{kind}' AND id = {id}"));
    rows.first().map_or(Value::Null, |row| serde_json::from_str(&row[0]).expect("JSON"))
}

fn wait_until(home: &Home, daemon: &Daemon, (kind, id): (&str, i64), key: &str, expected: &Value) {
    wait_for(&format!("{key} of {kind} {id}"), LIMIT, || {
        let document = stored(home, kind, id);
        if document[key] == *expected { Ok(()) } else { Err(format!("{document}\n{}", daemon.log())) }
    });
}

fn directory() -> Value {
    let people: Vec<Value> =
        (3..=12).map(|id| json!({"Id": id, "FullName": format!("Member {id}"), "Teams": [{"Id": 8}]})).collect();
    let mut directory = json!({
        "Businesses": [{"Id": 1, "Name": "Hub One"}],
        "Teams": [{"Id": 8, "Name": "Rocket", "TeamMembers": [1]}],
        "Tariffs": [{"Id": 5, "Name": "Full time"}],
        "TimePasses": [{"Id": 6, "Name": "Day", "Businesses": [{"Id": 1}]}],
        "Coworkers": [
            {"Id": 1, "FullName": "Ada", "AccessCardId": "8165601", "TariffId": 5, "Teams": [{"Id": 8}], "AccessPincode": "4711"},
            {"Id": 2, "FullName": "Bob", "AccessCardId": "8165602"}
        ],
        "CoworkerTimePasses": [{"Id": 7, "CoworkerId": 1, "TimePassId": 6, "RemainingUses": 3}]
    });
    directory["Coworkers"].as_array_mut().expect("a list").extend(people);
    directory
}

#[test]
fn the_directory_of_another_server_is_read_and_kept_up_to_date() {
    let platform = Platform::start(&directory());
    let relay = Relay::start(platform.daemon.api());
    let home = gateway(&relay);
    // What was assigned by hand, and what was created here.
    home.ledger().execute(
        r#"INSERT INTO directory (kind, id, document, updated_on) VALUES ('coworker', 2,
           '{"Id":2,"FullName":"Robert","ByHand":{"Slots":"locks/back/3"}}', '2026-11-20T09:00:00.000Z')"#,
    );
    let mut daemon = home.start();
    daemon.wait_until_ready();
    wait_until(&home, &daemon, ("coworker_time_pass", 7), "RemainingUses", &json!(3));
    let ada = stored(&home, "coworker", 1);
    for (key, expected) in [
        ("AccessCardId", json!("8165601")),
        ("TariffId", json!(5)),
        ("Teams", json!([{"Id": 8}])),
        ("AccessPincode", Value::Null),
    ] {
        assert_eq!(ada[key], expected, "{key} in {ada}");
    }
    assert_eq!(stored(&home, "team", 8)["TeamMembers"], json!([1]));
    assert_eq!(stored(&home, "time_pass", 6)["Businesses"], json!([{"Id": 1}]));
    let bob = stored(&home, "coworker", 2);
    assert_eq!((&bob["FullName"], &bob["ByHand"]["Slots"]), (&json!("Bob"), &json!("locks/back/3")));
    let identity = platform.command("GET", "/api/spaces/coworkertimepasses/7", &Value::Null).json()["UniqueId"].clone();
    assert_eq!(stored(&home, "coworker_time_pass", 7)["UniqueId"], identity);

    // Changes there arrive here, and only they are asked for.
    let own =
        command(&daemon, "POST", "/api/spaces/coworkers", &json!({"FullName": "Own"})).json()["Value"]["Id"].clone();
    assert_eq!(own, json!(OWN));
    platform.command("PUT", "/api/spaces/coworkers", &json!({"Id": 1, "AccessCardId": "8165699"}));
    wait_until(&home, &daemon, ("coworker", 1), "AccessCardId", &json!("8165699"));
    assert!(!relay.asked("from_Coworker_UpdatedOn=").is_empty(), "{:?}", relay.state().asked);
    platform.command("POST", "/api/spaces/coworkers", &json!({"Id": 20, "FullName": "New"}));
    wait_until(&home, &daemon, ("coworker", 20), "FullName", &json!("New"));

    // What is gone there is archived when everything is read, as at a start; what was created here is not.
    platform.command("DELETE", "/api/spaces/coworkers/3", &Value::Null);
    relay.wait_for_next("businesses");
    assert_ne!(stored(&home, "coworker", 3)["Archived"], json!(true));
    daemon.stop();
    let mut daemon = home.start();
    daemon.wait_until_ready();
    wait_until(&home, &daemon, ("coworker", 3), "Archived", &json!(true));
    assert_eq!(stored(&home, "coworker", OWN)["Archived"], Value::Null);
    assert_eq!(stored(&home, "coworker", 2)["ByHand"]["Slots"], json!("locks/back/3"));
    // The person comes back when they are listed again.
    platform.home.import(&json!({"Coworkers": [{"Id": 3, "FullName": "Member 3"}]}));
    wait_until(&home, &daemon, ("coworker", 3), "Archived", &json!(false));
    assert_eq!(daemon.conditions().keys().filter(|name| name.starts_with("sync")).count(), 0);
    assert!(!daemon.log().contains(PASSWORD) && !daemon.log().contains("8165699"), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn what_fails_is_named_changes_nothing_and_is_tried_again() {
    let platform = Platform::start(&directory());
    let relay = Relay::start(platform.daemon.api());
    let home = gateway(&relay);
    let mut daemon = {
        relay.acts("/", Act::HangUp);
        home.start()
    };
    daemon.wait_until_ready();
    let says = |words: &str| {
        wait_for(words, LIMIT, || {
            let detail = daemon.conditions().remove("sync_failing").unwrap_or_default();
            if detail.contains(words) { Ok(()) } else { Err(format!("{detail}\n{}", daemon.log())) }
        });
    };
    for (path, act, words) in [
        ("/", Act::HangUp, "it cannot be reached"),
        ("/api/token", Act::Say(said(400, "", r#"{"error":"invalid_grant"}"#)), "check token_file, or username"),
        ("/api/spaces/coworkers?", Act::Say(said(403, "", "No such role.")), "with 403 Forbidden: No such role."),
        ("/api/spaces/teams?", Act::Say(said(200, "", "<html>")), "its answer to /api/spaces/teams"),
        ("/api/spaces/coworkers?", Act::Say(said(200, "", r#"{"Records": [{"Id": 0}]}"#)), "has no Id"),
        (
            "/api/spaces/coworkers?",
            Act::Say(said(200, "", r#"{"Records": [{"Id": 1}], "TotalItems": 2, "HasNextPage": false}"#)),
            "changed while it was read",
        ),
        ("/api/spaces/coworkers/12", Act::HangUp, "it cannot be reached"),
        ("/api/spaces/coworkers/12", Act::Say(said(500, "", "oops")), "500 Internal Server Error: oops"),
        (
            "/api/sys/businesses?",
            Act::Say(said(200, "", r#"{"Records": [{"Id": 1, "Name": 5}]}"#)),
            "cannot be imported, because of Businesses 1: Name;",
        ),
    ] {
        relay.acts(path, act);
        says(words);
        assert_eq!(home.ledger().count("directory"), 0, "{words}");
    }
    // What was read before the failure is not read again.
    let before = relay.asked("/api/spaces/coworkers/5").len();
    relay.forwards();
    daemon.wait_until_over("sync_failing");
    wait_until(&home, &daemon, ("coworker", 12), "FullName", &json!("Member 12"));
    assert_eq!(home.ledger().count("directory WHERE kind = 'coworker'"), 12);
    assert!(relay.asked("/api/spaces/coworkers/5").len() <= before + 2);
    daemon.stop();
}

#[test]
fn a_server_that_asks_to_wait_is_left_alone_that_long() {
    let platform = Platform::start(&directory());
    let relay = Relay::start(platform.daemon.api());
    let home = gateway(&relay);
    relay.acts("/api/spaces/coworkers?", Act::Say(said(429, "Retry-After: 3\r\n", "Too many requests.")));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    daemon.wait_for_line("the platform asks the sync to wait seconds=3");
    let (clock, before) = (Clock::system(), relay.asked("").len());
    let told = clock.now().boot;
    relay.forwards();
    wait_for("the next question", LIMIT, || if relay.asked("").len() > before { Ok(()) } else { Err(daemon.log()) });
    assert!(clock.now().boot.since(told) > Duration::from_secs(2), "{}", daemon.log());
    wait_until(&home, &daemon, ("coworker", 1), "AccessCardId", &json!("8165601"));
    assert!(!daemon.conditions().contains_key("sync_failing"));
    // In words, as the platform says it.
    relay.acts("/api/spaces/teams?", Act::Say(said(429, "", r#"{"Message": "Wait 2 seconds."}"#)));
    daemon.wait_for_line("the platform asks the sync to wait seconds=2");
    daemon.stop();
}

#[test]
fn people_who_are_gone_by_the_dozen_are_not_archived_at_once() {
    let platform = Platform::start(&directory());
    let relay = Relay::start(platform.daemon.api());
    let home = gateway(&relay);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    wait_until(&home, &daemon, ("coworker", 12), "FullName", &json!("Member 12"));
    daemon.stop();
    for id in 4..=8 {
        platform.command("DELETE", &format!("/api/spaces/coworkers/{id}"), &Value::Null);
    }
    platform.command("PUT", "/api/spaces/coworkers", &json!({"Id": 12, "Email": "m12@example.com"}));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let detail = daemon.wait_for_condition("sync_held_back");
    assert!(detail.contains("no longer lists 5 of 12 people"), "{detail}");
    assert_eq!(stored(&home, "coworker", 12)["Email"], json!("m12@example.com"), "what has changed is taken over");
    assert_eq!(home.ledger().count("directory WHERE archived <> FALSE"), 0);
    relay.wait_for_next("businesses");
    assert!(daemon.conditions().contains_key("sync_held_back"), "it stays");
    daemon.stop();
}

#[test]
fn a_token_in_a_file_is_sent_as_it_is_and_a_wrong_one_is_named() {
    let platform = Platform::start(&directory());
    let form = format!("grant_type=password&username=gateway&password={}", PASSWORD.replace(' ', "+"));
    let granted = platform.daemon.send("POST", "/api/token", &[], &form).json();
    let relay = Relay::start(platform.daemon.api());
    let url = format!("http://{}", relay.address);
    let home = Home::new(&format!("[sync]\nurl = \"{url}\"\ntoken_file = \"sync-token\"\nevery = \"1s\"\n"));
    home.write("sync-token", "wrong\n");
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let detail = daemon.wait_for_condition("sync_failing");
    assert!(detail.contains("refuses the login of [sync] (401 Unauthorized)") && !detail.contains("wrong"), "{detail}");
    daemon.stop();
    home.write("sync-token", granted["access_token"].as_str().expect("a token"));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    wait_until(&home, &daemon, ("coworker", 1), "AccessCardId", &json!("8165601"));
    assert!(relay.asked("/api/token").is_empty());
    daemon.stop();
}

#[test]
fn a_server_with_tls_must_have_the_right_certificate() {
    let certificates = Certificates::new();
    certificates.self_signed("server", "/CN=localhost", &["-addext", "subjectAltName=DNS:localhost"]);
    certificates.self_signed("other", "/CN=localhost", &["-addext", "subjectAltName=DNS:localhost"]);
    let certificate = CertificateDer::from_pem_file(certificates.file("server")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(certificates.key("server")).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("TLS 1.3").with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], key).expect("they belong together");
    let platform = Platform::start(&directory());
    let relay = Relay::start_with(platform.daemon.api(), Some(Arc::new(config)));
    for (name, is_right) in [("other", false), ("server", true)] {
        let home = Home::new(&format!(
            "[sync]\nurl = \"https://localhost:{}\"\nusername = \"gateway\"\npassword_file = \"sync-password\"\nca_file = \"{}\"\n",
            relay.address.port(),
            certificates.file(name).display()
        ));
        home.write("sync-password", PASSWORD);
        let mut daemon = home.start();
        daemon.wait_until_ready();
        if is_right {
            wait_until(&home, &daemon, ("coworker", 12), "FullName", &json!("Member 12"));
        } else {
            let detail = daemon.wait_for_condition("sync_failing");
            assert!(detail.contains("it cannot be reached: invalid peer certificate"), "{detail}");
            assert!(relay.asked("").is_empty());
        }
        daemon.stop();
    }
}

#[test]
fn one_gateway_of_a_database_reads_at_a_time() {
    let platform = Platform::start(&directory());
    let relays = [(); 2].map(|()| Relay::start(platform.daemon.api()));
    let server = Postgres::start();
    let homes = [0, 1].map(|at: usize| {
        let home = Home::on(&server.url(), &section(&relays[at]));
        home.write("sync-password", PASSWORD);
        home
    });
    let mut daemons = homes.each_ref().map(Home::start);
    for daemon in &mut daemons {
        daemon.wait_until_ready();
    }
    wait_until(&homes[0], &daemons[0], ("coworker", 12), "FullName", &json!("Member 12"));
    let [first, second] = daemons;
    let reads = |relay: &Relay| !relay.asked("/api/").is_empty();
    assert_ne!(reads(&relays[0]), reads(&relays[1]), "one of them reads");
    let (reader, other, waits) = if reads(&relays[0]) { (first, second, 1) } else { (second, first, 0) };
    // The other takes over when the first is gone.
    reader.stop();
    relays[waits].wait_for_next("businesses");
    other.stop();
}
