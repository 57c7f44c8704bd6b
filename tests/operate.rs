//! What an operator relies on: journal priorities, conditions over a reload, the check as the account of the service, and
//! the alert rules and the board for Prometheus.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use checkind::{base::health::ConditionKind, settings};
use regex::Regex;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    broker::{Broker, BrokerOptions, BrokerTls, free_port},
    daemon::{Daemon, Home, LIMIT, doors, site},
    wait_for,
};

/// An account that no machine has.
const STRANGER: u32 = 54_321;

fn since(daemon: &Daemon, name: &str) -> String {
    let answer = daemon.get("/readyz").json();
    let conditions = answer["conditions"].as_array().expect("a list").clone();
    let found = conditions.iter().find(|condition| condition["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no {name} in {answer}\n{}", daemon.log()));
    found["since"].as_str().expect("a time").to_owned()
}

/// Reloads, and waits until the settings are in force.
fn reload(daemon: &Daemon) {
    let count = || daemon.lines("the new settings are in force").len();
    let before = count();
    daemon.signal(Signal::HUP);
    wait_for("the reload", LIMIT, || if count() > before { Ok(()) } else { Err(daemon.log()) });
}

#[test]
fn each_cause_of_an_outage_is_logged_once_and_a_reload_does_not_end_it() {
    let port = free_port();
    let home = Home::new("");
    let login = "client_id = \"checkind-test\"\nusername = \"daemon\"\npassword_file = \"password\"";
    let config = site("") + &doors(port).replace("client_id = \"checkind-test\"", login);
    home.write("password", "an old one");
    home.configure(&config);
    let mut daemon = home.start();
    let detail = daemon.wait_for_condition("broker_unavailable");
    assert!(detail.contains("refused"), "{detail}");
    let began = since(&daemon, "broker_unavailable");

    reload(&daemon);
    assert_eq!(since(&daemon, "broker_unavailable"), began);
    let _broker = Broker::start_on(port, BrokerOptions { passwords: true, ..BrokerOptions::default() });
    reload(&daemon);
    daemon.wait_for_line("refused our login");
    assert_eq!(since(&daemon, "broker_unavailable"), began);

    home.write("password", "daemonpw");
    reload(&daemon);
    daemon.wait_until_ready();
    let told = daemon.lines("condition=\"broker_unavailable\"");
    assert_eq!(told.len(), 3, "{told:#?}");
    for (line, text) in told.iter().zip(["Connection refused", "check client_id, username and password", "is over"]) {
        assert!(line.contains(text), "{text} in {told:#?}");
    }
    assert_eq!(daemon.changes_of("broker_unavailable"), (1, 1));
    daemon.stop();
}

#[test]
fn a_reload_ends_no_condition_that_still_holds() {
    let mut broker = Broker::plain();
    let config = site("") + &doors(broker.port);
    let home = Home::new(&config);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    broker.stop();
    daemon.wait_for_condition("broker_unavailable");
    broker.resume();
    daemon.wait_until_ready();
    daemon.wait_for_condition("session_lost");
    let lost = since(&daemon, "session_lost");

    // The retention takes effect at a restart, however often the settings are read again.
    home.configure(&(config.clone() + "[retention]\nsightings = \"20d\"\n"));
    reload(&daemon);
    let waits = since(&daemon, "settings_refused");
    daemon.wait_for_metric("checkind_mqtt_subscribed", "", 2);
    reload(&daemon);
    daemon.wait_for_metric("checkind_mqtt_subscribed", "", 2);
    assert_eq!(since(&daemon, "settings_refused"), waits);
    assert_eq!(since(&daemon, "session_lost"), lost);
    home.configure(&config);
    reload(&daemon);
    daemon.wait_until_over("settings_refused");

    // Without a broker in the settings, nothing is wrong with it.
    home.configure(&site(""));
    reload(&daemon);
    daemon.wait_until_over("session_lost");
    daemon.stop();
}

#[test]
fn journal_lines_begin_with_their_priority() {
    let home = Home::new(&(site("") + &doors(free_port())));
    let log = home.path("journal");
    let run = |arguments: &[&str]| {
        let stream = File::create(&log).expect("a file");
        let found = stream.metadata().expect("its numbers");
        let mut command = home.command(arguments);
        command.env("JOURNAL_STREAM", format!("{}:{}", found.dev(), found.ino())).stdout(Stdio::null()).stderr(stream);
        command
    };
    let mut child = run(&["run"]).spawn().expect("the daemon starts");
    let said = || fs::read_to_string(&log).expect("the log");
    wait_for("a condition", LIMIT, || if said().contains("broker_unavailable") { Ok(()) } else { Err(said()) });
    // A text with line ends cannot begin a line of its own.
    home.configure("[site]\nbusiness = 1\nname = \"Hub\"\ntime_zone = \"a\\n<0>panic\"\n");
    kill_process(Pid::from_child(&child), Signal::HUP).expect("it runs");
    wait_for("the refusal", LIMIT, || if said().contains("settings_refused") { Ok(()) } else { Err(said()) });
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert!(child.wait().expect("its end").success());
    for line in said().lines() {
        let urgent = ["condition=\"broker_unavailable\"", "condition=\"settings_refused\""];
        let expected = if urgent.iter().any(|text| line.contains(text)) { "<4>" } else { "<6>" };
        assert!(line.starts_with(expected), "{expected} {line}\n{}", said());
    }

    // What is said before the log begins has a priority too, and is said once.
    let failed = run(&["run"]).status().expect("the binary starts");
    assert_eq!(failed.code(), Some(78));
    assert!(said().lines().all(|line| line.starts_with("<3>")), "{}", said());
    home.configure("");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let listen = ("CHECKIND__API__LISTEN", taken.local_addr().expect("its address").to_string());
    let failed = run(&["run"]).env(listen.0, &listen.1).status();
    assert_eq!(failed.expect("the binary starts").code(), Some(69));
    let errors: Vec<_> = said().lines().filter(|line| line.starts_with("<3>")).map(str::to_owned).collect();
    assert!(errors.len() == 1 && errors[0].contains("the API cannot listen"), "{}", said());

    // A program that redirects standard error leaves the variable as it is.
    let elsewhere = home.command(&["run"]).env("JOURNAL_STREAM", "1:1").env(listen.0, &listen.1).output();
    let said = String::from_utf8(elsewhere.expect("the binary starts").stderr).expect("UTF-8");
    assert!(said.contains("the API cannot listen") && !said.contains("<3>"), "{said}");
}

#[test]
fn root_is_told_what_the_account_of_the_service_cannot_use() {
    let home = Home::new("");
    let config = site("")
        + &doors(8883).replace("mqtt://127.0.0.1:8883", "mqtts://127.0.0.1:8883").replace(
            "client_id = \"checkind-test\"",
            "username = \"daemon\"\npassword_file = \"password\"\nca_file = \"ca.pem\"",
        );
    home.configure(&config);
    home.write("password", "a secret");
    let broker = Broker::start(BrokerOptions { tls: BrokerTls::Server, ..BrokerOptions::default() });
    fs::copy(broker.file("ca.crt"), home.path("ca.pem")).expect("a certificate");
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(home.path(name), fs::Permissions::from_mode(mode)).expect("the file is ours");
    };
    let check = || {
        let said = home.run(&["check-config"]);
        (said.status.code(), String::from_utf8_lossy(&said.stderr).into_owned())
    };
    for name in ["password", "ca.pem"] {
        mode(name, 0o600);
    }
    // The folder of the data belongs to the account that runs the service.
    chown(home.path(""), Some(STRANGER), Some(STRANGER)).expect("we are root");
    let (code, said) = check();
    assert_eq!(code, Some(78), "{said}");
    for text in ["password_file: ", "ca_file: ", "password cannot be read: Permission denied", "^^^", "runs as 54321"] {
        assert!(said.contains(text), "{text} is missing in {said}");
    }
    for name in ["password", "ca.pem"] {
        chown(home.path(name), None, Some(STRANGER)).expect("we are root");
        mode(name, 0o640);
    }
    assert_eq!(check(), (Some(0), String::new()));

    // Made by a command that root ran.
    home.write("checkind.db-wal", "");
    let (code, said) = check();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("checkind.db-wal: the database cannot be written"), "{said}");
    chown(home.path("checkind.db-wal"), Some(STRANGER), None).expect("we are root");
    assert_eq!(check(), (Some(0), String::new()));
    fs::create_dir(home.path("conf.d")).expect("a folder");
    mode("conf.d", 0o700);
    let (code, said) = check();
    assert!(code == Some(78) && said.contains("conf.d: cannot be read: Permission denied"), "{said}");
}

#[test]
fn the_credentials_of_the_unit_are_known() {
    let unit = fs::read_to_string(shipped("systemd/checkind.service")).expect("the unit");
    let loaded: Vec<String> =
        unit.lines().filter_map(|line| line.strip_prefix("LoadCredential=")).map(str::to_owned).collect();
    let known = settings::UNIT_CREDENTIALS.map(|name| format!("{name}:checkind.{name}"));
    assert_eq!(loaded, known);
}

/// A scrape of a gateway that has everything, in the text format.
fn scrape() -> String {
    let home = Home::new(&(site("") + &doors(free_port()) + "[[capture]]\ninterface = \"none0\"\n"));
    let daemon = home.start();
    // The figures of the site come once the database is open.
    let text = wait_for("the figures of the site", LIMIT, || {
        let answer = daemon.send("GET", "/metrics", &[("Accept", "text/plain")], "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        if answer.body.contains("checkind_source_clock_ahead_seconds")
            && answer.body.contains("checkind_disk_free_bytes")
        {
            Ok(answer.body)
        } else {
            Err(answer.body)
        }
    });
    daemon.stop();
    text
}

fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool does not start; install prometheus");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn approves(output: &Output) {
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !said.contains("error"), "{said}");
}

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn path(path: &str) -> String {
    shipped(path).to_str().expect("a path of ours").to_owned()
}

#[test]
fn prometheus_accepts_the_metrics_and_the_alert_rules() {
    let linted = promtool(&["check", "metrics"], &scrape());
    approves(&linted);
    assert!(linted.stderr.is_empty(), "{}", String::from_utf8_lossy(&linted.stderr));
    approves(&promtool(&["check", "rules", &path("config/prometheus/checkind.rules.yml")], ""));
    approves(&promtool(&["test", "rules", &path("tests/prometheus/checkind.rules.test.yml")], ""));
}

/// Every panel's query.
fn queries() -> Vec<String> {
    let board = fs::read_to_string(shipped("config/prometheus/checkind-board.json")).expect("the board");
    let board: serde_json::Value = serde_json::from_str(&board).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "an id is used twice");
    let targets = panels.iter().filter(|panel| panel["type"] != "row").flat_map(|panel| {
        let targets = panel["targets"].as_array().unwrap_or_else(|| panic!("no targets in {panel}"));
        assert!(!targets.is_empty() && panel["gridPos"]["w"].as_u64() <= Some(24), "{panel}");
        targets.clone()
    });
    targets.map(|target| target["expr"].as_str().expect("a query").to_owned()).collect()
}

#[test]
fn prometheus_understands_every_query_of_the_board() {
    let queries = queries();
    assert!(queries.len() > 20, "{queries:?}");
    let rules: Vec<_> = queries
        .iter()
        .enumerate()
        .map(|(at, query)| {
            let query = query.replace("$__rate_interval", "5m").replace("$instance", ".*");
            serde_json::json!({ "record": format!("board:query_{at}"), "expr": query })
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rules.yml");
    // JSON is YAML.
    fs::write(&file, serde_json::json!({ "groups": [{ "name": "board", "rules": rules }] }).to_string())
        .expect("the rules");
    approves(&promtool(&["check", "rules", file.to_str().expect("a path of ours")], ""));
}

#[test]
fn rules_and_board_name_only_metrics_and_labels_that_exist() {
    let scrape = scrape();
    let samples: BTreeSet<&str> =
        scrape.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect();
    let rules = fs::read_to_string(shipped("config/prometheus/checkind.rules.yml")).expect("the rules");
    let text = rules.clone() + &queries().join("\n");
    let name = Regex::new(r"\bcheckind_[a-z_]+").expect("a pattern");
    for found in name.find_iter(&text) {
        assert!(samples.contains(found.as_str()), "{} is no metric", found.as_str());
    }
    let label = Regex::new(r#"\b(name|code|outcome|result|effect)(=|!=|=~|!~)"([^"]+)""#).expect("a pattern");
    for found in label.captures_iter(&text) {
        for value in found[3].split('|') {
            let pair = format!("{}=\"{value}\"", &found[1]);
            assert!(scrape.contains(&pair), "{pair} does not exist");
        }
    }
    for kind in ConditionKind::ALL {
        let effect = if kind.blocks_readiness() { "blocks" } else { "warns" };
        let series = format!("checkind_condition{{name=\"{}\",effect=\"{effect}\"}}", kind.name());
        assert!(scrape.contains(&series), "{series} is missing in {scrape}");
    }
}
