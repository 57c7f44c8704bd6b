//! What is sent over a network: certificates of the broker and of PostgreSQL as operators make them, what every failure
//! says, what a server gets to see that refuses TLS, and messages that break MQTT.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::Output,
    sync::{Arc, Mutex},
    time::Duration,
};

use checkind::engine::decision::Outcome;

use crate::support::{
    broker::{Broker, BrokerOptions, free_port},
    certificates::Certificates,
    daemon::{Daemon, Home, LIMIT, Way, card, doors, flat_event, now, people, site},
    fake_broker::{Answer, FakeBroker},
    ledger::Ledger,
    postgres::Postgres,
    wait_for,
};

/// A broker with this certificate, and more lines of configuration.
fn broker(certificates: &Certificates, name: &str, port: u16, more: &[String]) -> Broker {
    let (file, key) = (certificates.file(name), certificates.key(name));
    let mut lines = vec![format!("certfile {}", file.display()), format!("keyfile {}", key.display())];
    lines.extend_from_slice(more);
    Broker::start_on(port, BrokerOptions { lines, ..BrokerOptions::default() })
}

/// A gateway whose broker has this URL.
fn gateway(url: &str, more: &str) -> Home {
    let plain = doors(1);
    let text = plain.replace("url = \"mqtt://127.0.0.1:1\"", &format!("url = \"{url}\"\n{more}"));
    assert_ne!(text, plain);
    Home::new(&(site("") + &text))
}

fn key(name: &str, path: &Path) -> String {
    format!("{name} = \"{}\"\n", path.display())
}

/// Waits until the condition of the broker says this.
fn says(daemon: &Daemon, what: &str, words: &[&str]) {
    wait_for(what, LIMIT, || {
        let detail = daemon.conditions().remove("broker_unavailable").unwrap_or_default();
        if words.iter().all(|words| detail.contains(words)) {
            Ok(())
        } else {
            Err(format!("{detail}\n{}", daemon.log()))
        }
    });
}

#[test]
fn a_certificate_that_a_broker_signed_itself_works_as_ca_file_and_no_other_does() {
    let certificates = Certificates::new();
    let made: [(&str, &[&str]); 5] = [
        ("as-told", &[]),
        ("no-authority", &["-addext", "basicConstraints=critical,CA:FALSE"]),
        ("other-name", &["-addext", "subjectAltName=DNS:other.example"]),
        ("address", &["-addext", "subjectAltName=IP:127.0.0.1"]),
        ("for-clients", &["-addext", "extendedKeyUsage=clientAuth"]),
    ];
    for (name, more) in made {
        certificates.self_signed(name, "/CN=broker", more);
    }
    certificates.self_signed_and_expired("expired", "/CN=broker");
    certificates.self_signed("forged", "/CN=broker", &[]);
    let port = free_port();
    let names = made.iter().map(|(name, _)| *name).chain(["expired"]);
    for name in names {
        let url = format!("mqtts://127.0.0.1:{port}");
        let home = gateway(&url, &key("ca_file", &certificates.file(name)));
        let broker = broker(&certificates, name, port, &[]);
        let mut daemon = home.start();
        daemon.wait_until_ready();
        if name == "expired" {
            daemon.wait_for_line("the server's certificate has expired");
        }
        daemon.stop();
        drop(broker);
        // Another key with the same name is not that broker.
        let _intruder = self::broker(&certificates, "forged", port, &[]);
        let daemon = home.start();
        says(&daemon, name, &["signed itself", "copy exactly that one to", name]);
        assert_eq!(daemon.metric("checkind_mqtt_connects_total", ""), 0);
        daemon.stop();
    }
}

#[test]
fn every_failure_of_tls_at_the_broker_says_which_file_name_or_port_to_change() {
    let certificates = Certificates::new();
    certificates.self_signed("ca", "/CN=ca", &[]);
    certificates.self_signed("other-ca", "/CN=other", &[]);
    certificates.signed("ca", "good", Some("IP:127.0.0.1"));
    certificates.signed("ca", "named", Some("DNS:broker.example,DNS:*.lan"));
    certificates.signed("ca", "nameless", None);
    certificates.signed_and_expired("ca", "expired", Some("IP:127.0.0.1"));
    certificates.signed("other-ca", "foreign", Some("IP:127.0.0.1"));
    let trusts = |name| key("ca_file", &certificates.file(name));
    let client = |name| key("cert_file", &certificates.file(name)) + &key("key_file", &certificates.key(name));
    let mutual = [format!("cafile {}", certificates.file("ca").display()), "require_certificate true".to_owned()];
    let ca = certificates.file("ca").display().to_string();
    let foreign = certificates.file("foreign").display().to_string();
    let table: [(&str, String, &[String], &[&str]); 8] = [
        ("named", trusts("ca"), &[], &["is for broker.example, *.lan", "url says 127.0.0.1"]),
        ("nameless", trusts("ca"), &[], &["no subjectAltName", "subjectAltName=IP:127.0.0.1"]),
        ("expired", trusts("ca"), &[], &["the certificate of the broker expired on 20", "renew"]),
        ("foreign", trusts("ca"), &[], &["not signed by an authority in", &ca]),
        ("good", String::new(), &[], &["not signed by an authority that this system trusts", "ca_file"]),
        ("good", trusts("ca"), &mutual, &["client certificate", "cert_file"]),
        ("good", trusts("ca") + &client("foreign"), &mutual, &["client certificate in", &foreign]),
        (
            "good",
            trusts("ca") + &key("cert_file", &certificates.file("good")) + &key("key_file", &certificates.key("ca")),
            &[],
            &["cert_file and key_file must belong together"],
        ),
    ];
    let port = free_port();
    let url = format!("mqtts://127.0.0.1:{port}");
    for (name, more, lines, words) in table {
        let _broker = broker(&certificates, name, port, lines);
        let home = gateway(&url, &more);
        let daemon = home.start();
        says(&daemon, &format!("{name} {words:?}"), words);
        daemon.stop();
    }
    // The wrong port, both ways.
    let broker = broker(&certificates, "good", port, &[]);
    let home = gateway(&format!("mqtt://127.0.0.1:{port}"), "");
    let daemon = home.start();
    says(&daemon, "plain to TLS", &["mqtts://"]);
    daemon.stop();
    drop(broker);
    let plain = Broker::plain();
    let home = gateway(&format!("mqtts://127.0.0.1:{}", plain.port), &trusts("ca"));
    let daemon = home.start();
    says(&daemon, "TLS to plain", &["port for TLS", "8883"]);
    daemon.stop();
}

#[test]
fn a_broker_of_an_earlier_mqtt_and_what_is_no_broker_are_named() {
    let table: [(&'static [u8], &[&str]); 4] = [
        (&[0x20, 2, 0, 1], &["speaks only MQTT 3.1.1", "needs MQTT 5", "mosquitto has since 1.6"]),
        (&[0x20, 3, 0, 0x84, 0], &["does not speak MQTT 5", "mosquitto has since 1.6"]),
        (b"", &["without an answer", "MQTT 3.1.1"]),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", &["does not speak MQTT", "port"]),
    ];
    for (answer, words) in table {
        let broker = FakeBroker::start(Answer::Bytes(answer), &[]);
        let home = gateway(&format!("mqtt://127.0.0.1:{}", broker.port), "");
        let daemon = home.start();
        says(&daemon, &format!("{answer:?}"), words);
        daemon.stop();
    }
}

/// A PUBLISH: first byte, topic, packet id, properties, payload.
fn publish(first: u8, topic: &[u8], id: Option<u16>, properties: &[u8], payload: &[u8]) -> (Option<u16>, Vec<u8>) {
    let mut packet = vec![first];
    packet.extend(u16::try_from(topic.len()).expect("short").to_be_bytes());
    packet.extend_from_slice(topic);
    packet.extend(id.into_iter().flat_map(u16::to_be_bytes));
    packet.extend_from_slice(properties);
    packet.extend_from_slice(payload);
    (id.filter(|id| *id > 0), packet)
}

#[test]
fn a_message_that_breaks_mqtt_is_rejected_and_the_taps_behind_it_arrive() {
    let tap = flat_event(1, card(1), Way::In, now());
    let large = vec![b'x'; 400_000];
    let packets = [
        publish(0x32, b"flat/\0events", Some(1), &[0], tap.as_bytes()),
        publish(0x3a, b"flat/\xff\xfe", Some(2), &[0], tap.as_bytes()),
        publish(0x32, b"flat/+", Some(3), &[0], b"{}"),
        publish(0x33, b"#", Some(4), &[0], b""),
        publish(0x32, b"", Some(5), &[0], tap.as_bytes()),
        publish(0x32, b"flat/events", Some(6), &[3, 35, 0, 9], tap.as_bytes()),
        publish(0x32, b"flat/events", Some(7), &[1, 99], tap.as_bytes()),
        publish(0x32, b"flat/events", Some(8), &[0xff, 0x7f, 1], b""),
        publish(0x32, b"flat/events", Some(9), &[0], &large),
        publish(0x34, b"flat/#", Some(10), &[0], b"{}"),
        publish(0x32, b"flat/events", Some(0), &[0], b"{}"),
        publish(0x36, b"flat/events", Some(11), &[0], b"{}"),
        publish(0x32, b"flat/events", Some(20), &[0], tap.as_bytes()),
    ];
    // What has no usable packet id cannot be acknowledged, and the fake sends it once.
    let packets = packets.map(|(id, packet)| (id.filter(|id| *id != 11 && *id != 10), packet));
    let broker = FakeBroker::start(Answer::Messages, &packets);
    let home = gateway(&format!("mqtt://127.0.0.1:{}", broker.port), "");
    home.import(&people(1, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    daemon.wait_for_metric("checkind_rejected_messages_total", "malformed", 12);
    daemon.wait_for_metric("checkind_open_checkins", "", 1);
    wait_for("the acknowledgements", LIMIT, || {
        let left = broker.unacknowledged();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}\n{}", daemon.log())) }
    });
    assert_eq!(broker.connections(), 1, "{}", daemon.log());
    assert_eq!(home.ledger().number("SELECT count(*) FROM checkins"), 1);
    assert_eq!(daemon.lines("a message that breaks MQTT").len(), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_message_that_breaks_mqtt_passes_the_spool_and_comes_again_without_an_endless_reconnect() {
    const BROKEN: u64 = 3;
    let tap = |way, number| flat_event(number, card(1), way, now());
    let packets = [
        publish(0x32, b"flat/\0events", Some(1), &[0], tap(Way::In, 1).as_bytes()),
        publish(0x32, b"flat/\xff\xfe", Some(2), &[0], tap(Way::In, 1).as_bytes()),
        publish(0x32, b"flat/events", Some(3), &[1, 99], b"\0"),
        publish(0x32, b"flat/events", Some(20), &[0], tap(Way::In, 2).as_bytes()),
    ];
    let server = Postgres::start();
    let broker = FakeBroker::start(Answer::Messages, &packets);
    broker.lose_acknowledgements(true);
    let home = Home::on(&server.url(), &(site("") + &doors(broker.port)));
    home.import(&people(1, &[]));
    let all = BROKEN + 1;
    let mut daemon = home.start();
    daemon.wait_until_ready();
    daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", all);
    daemon.wait_for_metric("checkind_open_checkins", "", 1);

    // The broker has not heard of it and delivers all of them again, on another connection and to another process.
    broker.disconnect();
    daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", 2 * all);
    daemon.wait_for_metric("checkind_rejected_messages_total", "malformed", 2 * BROKEN);
    daemon.wait_for_metric("checkind_spool_depth", "", 0);
    assert_eq!(broker.connections(), 2, "{}", daemon.log());
    daemon.kill();
    broker.lose_acknowledgements(false);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    wait_for("the acknowledgements", LIMIT, || {
        let left = broker.unacknowledged();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}\n{}", daemon.log())) }
    });
    daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", all);
    daemon.wait_for_metric("checkind_spool_depth", "", 0);
    assert_eq!(broker.connections(), 3, "{}", daemon.log());
    assert_eq!(home.ledger().count("checkins"), 1);
    assert_eq!(home.ledger().facts_with(Outcome::Opened), 1, "the tap counts once");
    assert_eq!(home.ledger().count("set_aside"), 0);
    assert_eq!(daemon.changes_of("database_unavailable"), (0, 0), "{}", daemon.log());
    daemon.stop();
}

/// A server in place of PostgreSQL that refuses TLS and asks for the password in clear text. Returns its port, and what
/// it gets.
fn refusing_server() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    let got = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&got);
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _limit = client.set_read_timeout(Some(Duration::from_secs(10)));
            let mut buffer = [0; 4096];
            let mut first = true;
            while let Ok(read @ 1..) = client.read(&mut buffer) {
                record.lock().expect("the record").extend_from_slice(&buffer[..read]);
                // Refuse TLS, then ask for the password (AuthenticationCleartextPassword).
                let answer: &[u8] = if first { b"N" } else { &[b'R', 0, 0, 0, 8, 0, 0, 0, 3] };
                first = false;
                if client.write_all(answer).is_err() {
                    break;
                }
            }
        }
    });
    (port, got)
}

/// A gateway on PostgreSQL, with more keys of `[database]`.
fn database_home(url: &str, more: &str) -> Home {
    let home = Home::on(url, "");
    let written = std::fs::read_to_string(home.path("checkind.toml")).expect("its settings");
    home.write("checkind.toml", &written.replacen("[database]\n", &format!("[database]\n{more}"), 1));
    home
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn a_server_that_refuses_tls_gets_no_password_and_no_user_name() {
    for mode in ["verify-full", "unverified"] {
        let (port, got) = refusing_server();
        let url = format!("postgres://checkind@localhost:{port}/checkind");
        let home = database_home(&url, &format!("tls = \"{mode}\"\npassword_file = \"password\"\n"));
        home.write("password", "hunter2");
        let told = home.command(&["who"]).env("PGSSLMODE", "disable").output().expect("the binary starts");
        assert!(!told.status.success() && said(&told).contains("does not offer TLS"), "{}", said(&told));
        // The request for TLS (SSLRequest), and nothing else.
        let request = [0, 0, 0, 8, 4, 210, 22, 47];
        let got = got.lock().expect("the record").clone();
        assert!(got.chunks(8).all(|part| part == request), "{}", String::from_utf8_lossy(&got));
    }
    // On this machine the server may do without, and may ask for the password in clear text: `threats.md` says so.
    let (port, got) = refusing_server();
    let home =
        database_home(&format!("postgres://checkind@localhost:{port}/checkind"), "password_file = \"password\"\n");
    home.write("password", "hunter2");
    assert!(!home.run(&["who"]).status.success());
    assert!(String::from_utf8_lossy(&got.lock().expect("the record")).contains("hunter2"));
}

#[test]
fn every_failure_of_tls_at_postgresql_says_which_file_or_name_to_change() {
    let certificates = Certificates::new();
    certificates.self_signed("ca", "/CN=ca", &[]);
    certificates.self_signed("other-ca", "/CN=other", &[]);
    certificates.signed("ca", "good", Some("DNS:localhost"));
    certificates.signed("ca", "named", Some("DNS:db.example"));
    certificates.signed_and_expired("ca", "expired", Some("DNS:localhost"));
    certificates.self_signed("as-told", "/CN=localhost", &[]);
    let leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=DNS:localhost"];
    certificates.self_signed("leaf", "/CN=localhost", &leaf);
    let trusts = |name| "tls = \"verify-full\"\n".to_owned() + &key("ca_file", &certificates.file(name));
    let other = certificates.file("other-ca").display().to_string();
    let works: &[&str] = &[];
    let table: [(&str, String, &[&str]); 9] = [
        ("good", trusts("ca"), works),
        ("leaf", trusts("leaf"), works),
        ("as-told", "tls = \"unverified\"\n".to_owned(), works),
        ("as-told", String::new(), works),
        ("as-told", trusts("as-told"), &["signed itself", "CA:FALSE", "subjectAltName=DNS:localhost"]),
        ("named", trusts("ca"), &["is for db.example", "url says localhost"]),
        ("expired", trusts("ca"), &["the certificate of the database server expired on"]),
        ("good", trusts("other-ca"), &["not signed by an authority in", &other]),
        ("good", "tls = \"verify-full\"\n".to_owned(), &["not signed by an authority that this system trusts"]),
    ];
    let mut server = Postgres::start();
    for (name, more, words) in table {
        server.crash();
        server.encrypt(&certificates.file(name), &certificates.key(name));
        server.resume();
        let home = database_home(&server.url().replace("127.0.0.1", "localhost"), &more);
        let told = home.run(&["migrate"]);
        assert_eq!(told.status.success(), words.is_empty(), "{name} {more}: {}", said(&told));
        for words in words {
            assert!(said(&told).contains(words), "{name} {more}: {}", said(&told));
        }
        if words.is_empty() {
            wait_for("an encrypted connection", LIMIT, || {
                let log = server.log();
                let encrypted = log.contains("application_name=checkind SSL enabled");
                if encrypted { Ok(()) } else { Err(log) }
            });
        }
    }
}

#[test]
fn a_client_certificate_opens_a_database_that_asks_for_one_and_every_failure_says_what_to_change() {
    // The certificates of these tests are all for localhost. So is the login, whose name PostgreSQL looks for in them.
    const LOGIN: &str = "localhost";
    let certificates = Certificates::new();
    certificates.self_signed("ca", "/CN=ca", &[]);
    certificates.self_signed("other-ca", "/CN=other", &[]);
    certificates.signed("ca", "server", Some("DNS:localhost"));
    certificates.signed("ca", "client", None);
    certificates.signed_and_expired("ca", "expired", None);
    certificates.signed("other-ca", "stranger", None);
    let mut server = Postgres::start();
    for login in [LOGIN, "bob"] {
        Ledger::of(&server.url()).execute(&format!("CREATE ROLE {login} LOGIN SUPERUSER"));
    }
    server.crash();
    server.encrypt(&certificates.file("server"), &certificates.key("server"));
    server.asks_for_a_certificate(&format!("{LOGIN},bob"), &certificates.file("ca"));
    server.resume();
    let home = |login: &str, client: Option<(&str, &str)>| {
        let url = server.url().replace("checkind@127.0.0.1", &format!("{login}@localhost"));
        let client = client.map(|(certificate, of_key)| {
            key("cert_file", &certificates.file(certificate)) + &key("key_file", &certificates.key(of_key))
        });
        let trusts = "tls = \"verify-full\"\n".to_owned() + &key("ca_file", &certificates.file("ca"));
        database_home(&url, &(trusts + &client.unwrap_or_default()))
    };

    let with_it = home(LOGIN, Some(("client", "client")));
    let mut daemon = with_it.start();
    daemon.wait_until_ready();
    assert!(server.log().contains("user=localhost database=postgres application_name=checkind SSL enabled"));
    daemon.stop();

    for (login, client, words) in [
        (LOGIN, None, "cert_file"),
        (LOGIN, Some(("expired", "expired")), "cert_file"),
        (LOGIN, Some(("stranger", "stranger")), "cert_file"),
        (LOGIN, Some(("client", "stranger")), "cert_file and key_file"),
        ("bob", Some(("client", "client")), "certificate authentication failed for user \"bob\""),
    ] {
        let told = home(login, client).run(&["migrate"]);
        assert!(!told.status.success() && said(&told).contains(words), "{login} {client:?}: {}", said(&told));
    }
}
