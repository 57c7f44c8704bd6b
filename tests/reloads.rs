//! What a reload does while a shared database is away or refuses, and what an operator is told meanwhile.

use std::{net::TcpListener, time::Duration};

use checkind::base::clock::{BootTime, Clock};
use rustix::process::Signal;

use crate::support::{
    broker::{Broker, free_port},
    daemon::{BINARY, Daemon, Home, LIMIT, Way, card, doors, flat_event, now, people, site},
    ledger::Ledger,
    pooler::grants,
    postgres::Postgres,
    wait_for,
};

const PEOPLE: u32 = 5;

/// The login of the gateway.
const LOGIN: &str = "gateway";

/// Ends every session, as an administrator does to make a change take effect.
const KICK: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'gateway'";

fn boot() -> BootTime {
    Clock::system().now().boot
}

/// Waits until a condition says this.
fn wait_for_words(daemon: &mut Daemon, name: &str, words: &[&str]) {
    wait_for(&format!("{name} with {words:?}"), LIMIT, || {
        daemon.still_runs();
        let said = daemon.conditions().remove(name).unwrap_or_default();
        if words.iter().all(|words| said.contains(words)) { Ok(()) } else { Err(format!("{said}\n{}", daemon.log())) }
    });
}

fn since(daemon: &Daemon, name: &str) -> String {
    let body = daemon.get("/readyz").json();
    let found = body["conditions"].as_array().expect("a list").iter().find(|condition| condition["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {body}"))["since"].as_str().expect("a time").to_owned()
}

/// A server whose login has a password and the rights of the README.
fn prepared(server: &Postgres) -> Ledger {
    Home::on(&server.url(), &site("")).import(&people(PEOPLE, &[]));
    let admin = Ledger::of(&server.url());
    admin.execute(&format!("CREATE ROLE {LOGIN} LOGIN PASSWORD 'first'"));
    server.asks_for_a_password(LOGIN);
    for grant in grants(LOGIN) {
        admin.execute(&grant);
    }
    admin
}

/// Starts a gateway with the password in this file.
fn start(home: &Home) -> Daemon {
    home.start_by(&[BINARY], &[("CHECKIND__DATABASE__PASSWORD_FILE", &home.path("password").display().to_string())])
}

#[test]
fn a_corrected_login_takes_effect_on_a_reload_in_an_outage_and_at_the_start() {
    let server = Postgres::start();
    let admin = prepared(&server);
    let broker = Broker::plain();
    let url = format!("postgres://{LOGIN}@{}/postgres", server.address());
    let settings = site("") + &doors(broker.port);
    let mut home = Home::on(&url, &settings);
    home.write("password", "first");
    let mut daemon = start(&home);
    daemon.wait_until_ready();

    admin.execute("ALTER ROLE gateway PASSWORD 'second'");
    admin.execute(KICK);
    broker.publish_lines(
        "flat/events",
        (0..PEOPLE).map(|number| flat_event(number, card(1 + number), Way::In, now())),
        1,
    );
    let refused = ["password authentication failed", "correct database.password_file and reload checkind"];
    wait_for_words(&mut daemon, "database_unavailable", &refused);
    // Another one starts with the old password.
    let other = Home::on(&url, &site("").replace("business = 1", "business = 2"));
    other.write("password", "first");
    let mut starting = start(&other);
    wait_for_words(&mut starting, "database_unavailable", &refused);
    // A reload with a policy that cannot be recorded: the password comes first.
    home.configure(&(site("debounce = \"7s\"\n") + &doors(broker.port)));
    for (home, daemon) in [(&home, &mut daemon), (&other, &mut starting)] {
        home.write("password", "second");
        daemon.signal(Signal::HUP);
        daemon.wait_until_ready();
    }
    wait_for("all taps", LIMIT, || match admin.facts() {
        found if found == i64::from(PEOPLE) => Ok(()),
        found => Err(format!("{found}\n{}", daemon.log())),
    });
    assert_eq!(admin.count("site_policies WHERE policy LIKE '%7000%' OR policy LIKE '%\"secs\":7%'"), 1);

    // Another login, while the old one still works: nothing uses the old one any more.
    admin.execute("CREATE ROLE other LOGIN");
    for grant in grants("other") {
        admin.execute(&grant);
    }
    home.configure_on(&url.replace(LOGIN, "other"), &settings);
    daemon.signal(Signal::HUP);
    daemon.wait_for_line("new connections to the database are made by the new settings");
    wait_for("the old connections to end", LIMIT, || {
        // A request uses whichever connection is free.
        assert_eq!(daemon.get("/readyz").status, 200);
        let of = |login: &str| {
            admin.count(&format!("pg_stat_activity WHERE application_name = 'checkind' AND usename = '{login}'"))
        };
        // One is of the other gateway.
        if of(LOGIN) <= 2 && of("other") >= 1 { Ok(()) } else { Err(format!("{} {}", of(LOGIN), of("other"))) }
    });

    // A mistyped login does not take a working gateway from its database.
    home.configure_on(&url.replace(LOGIN, "othr"), &settings);
    daemon.signal(Signal::HUP);
    wait_for_words(&mut daemon, "settings_refused", &["\"othr\"", "the old settings stay in force"]);
    assert_eq!(daemon.get("/readyz").status, 200);
    assert_eq!(daemon.changes_of("database_unavailable").0, 1, "{}", daemon.log());

    // Another database needs a restart, and says so.
    home.configure_on(&url.replace("/postgres", "/elsewhere").replace(LOGIN, "other"), &settings);
    daemon.signal(Signal::HUP);
    wait_for_words(&mut daemon, "settings_refused", &["database changed; restart checkind"]);
    daemon.wait_until_ready();
    daemon.stop();
    starting.stop();
}

#[test]
fn a_reload_during_an_outage_takes_effect_when_the_database_is_back() {
    let mut server = Postgres::start();
    let broker = Broker::plain();
    let with = |debounce: &str| site(&format!("debounce = \"{debounce}\"\n")) + &doors(broker.port);
    let home = Home::on(&server.url(), &with("5s"));
    home.import(&people(PEOPLE, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let admin = Ledger::of(&server.url());
    let policies = || admin.count("site_policies");
    assert_eq!(policies(), 1);

    server.crash();
    let in_force = "the new settings are in force";
    let before = daemon.lines(in_force).len();
    // The later one replaces the first.
    for debounce in ["7s", "9s"] {
        home.configure(&with(debounce));
        daemon.signal(Signal::HUP);
        let read_again = "reading the settings again";
        let count = if debounce == "7s" { 1 } else { 2 };
        wait_for(
            read_again,
            LIMIT,
            || {
                if daemon.lines(read_again).len() == count { Ok(()) } else { Err(daemon.log()) }
            },
        );
        wait_for_words(
            &mut daemon,
            "settings_refused",
            &["cannot be recorded", "Connection refused", "until they can"],
        );
    }
    assert_eq!(daemon.lines(in_force).len(), before);
    server.resume();
    daemon.wait_until_over("settings_refused");
    wait_for(in_force, LIMIT, || if daemon.lines(in_force).len() == before + 1 { Ok(()) } else { Err(daemon.log()) });
    daemon.wait_until_ready();
    assert_eq!(policies(), 2, "only the last");
    assert_eq!(daemon.changes_of("settings_refused"), (1, 1), "{}", daemon.log());
    // A stop does not wait for a reload that waits.
    server.crash();
    home.configure(&with("11s"));
    daemon.signal(Signal::HUP);
    wait_for_words(&mut daemon, "settings_refused", &["cannot be recorded"]);
    wait_for_words(&mut daemon, "database_unavailable", &["Connection refused"]);
    daemon.stop();
}

#[test]
fn settings_that_are_refused_again_and_again_are_told_once_whatever_else_needs_a_restart() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    home.configure(&(site("").replace("business = 1", "business = 2") + &doors(broker.port)));
    daemon.signal(Signal::HUP);
    wait_for_words(&mut daemon, "settings_refused", &["site.business changed"]);
    let fault = "expected a business number";
    for time in 1..=3 {
        home.configure(&(site("").replace("business = 1", "business = \"one\"") + &doors(broker.port)));
        daemon.signal(Signal::HUP);
        wait_for("the reload", LIMIT, || {
            if daemon.lines("reading the settings again").len() == 1 + time { Ok(()) } else { Err(daemon.log()) }
        });
        wait_for_words(&mut daemon, "settings_refused", &[fault]);
    }
    let lines: Vec<String> = daemon.lines(fault).into_iter().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(lines.len(), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_start_names_what_the_server_answers_at_once_and_its_silence_after_some_seconds() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let silent = listener.local_addr().expect("its address").port();
    let full = Postgres::with_room_for(8);
    let _others = full.held(8);
    let cases = [
        (format!("127.0.0.1:{}", free_port()), ["does not answer (Connection refused", "check that it runs"]),
        (full.address(), ["too many clients already", "raise max_connections"]),
        (format!("127.0.0.1:{silent}"), ["has not answered for 3 s", "the network hangs"]),
    ];
    for (address, words) in cases {
        let home = Home::on(&format!("postgres://checkind@{address}/hub"), &site(""));
        let mut daemon = home.start();
        let listens = boot();
        wait_for_words(&mut daemon, "database_unavailable", &words);
        let took = boot().since(listens);
        assert!(took < Duration::from_secs(if words[0].contains("3 s") { 6 } else { 2 }), "{took:?}");
        daemon.stop();
    }
}

/// Several parts of the daemon ask: what one of them cannot see must not end what another sees.
#[test]
fn an_outage_that_only_writes_notice_is_one_outage_with_one_beginning() {
    let server = Postgres::start();
    let admin = prepared(&server);
    let home = Home::on(&format!("postgres://{LOGIN}@{}/postgres", server.address()), &site(""));
    home.write("password", "first");
    let mut daemon = start(&home);
    daemon.wait_until_ready();
    admin.execute("ALTER SYSTEM SET default_transaction_read_only = on");
    admin.execute("SELECT pg_reload_conf()");
    daemon.wait_for_line("condition=\"database_unavailable\"");
    let (began, first) = (boot(), since(&daemon, "database_unavailable"));
    // Longer than the pause between two comparisons of the mark, which only read.
    wait_for("twelve seconds", LIMIT, || {
        if boot().since(began) > Duration::from_secs(12) { Ok(()) } else { Err(String::new()) }
    });
    assert_eq!(since(&daemon, "database_unavailable"), first);
    assert_eq!(daemon.changes_of("database_unavailable"), (1, 0), "{}", daemon.log());
    server.write_setting("default_transaction_read_only = off");
    daemon.wait_until_ready();
    daemon.stop();
}
