//! The real binary as a process: a folder with its configuration and database, its commands, the running daemon with
//! its log, API and signals, and a socket that listens as systemd does.
//!
//! A daemon stops when its value is dropped, even if the test fails.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    net::SocketAddr,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use checkind::base::clock::{Clock, WallTime};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{
    http::{self, Answer},
    ledger::Ledger,
    wait_for,
};

/// How long an expected event may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_checkind");

/// The time now.
pub(crate) fn now() -> WallTime {
    Clock::system().now().wall
}

/// Waits for the next whole second, and returns it. Controllers send no fractions of a second, and a tap is decided by
/// what was in force at the time in its message.
pub(crate) fn next_second() -> WallTime {
    let after = now();
    wait_for("the next second", LIMIT, || {
        let second = WallTime::from_millis(now().millis() / 1000 * 1000);
        if second >= after { Ok(second) } else { Err(format!("{second}")) }
    })
}

/// A daily cut-off in UTC six hours from now, which no test reaches by chance.
fn far_cut_off() -> String {
    now().plus(Duration::from_hours(6)).utc().format("%H:%M").to_string()
}

/// A folder with the configuration of one gateway, and the files that it writes.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
    database: String,
}

impl Home {
    /// A gateway with its own SQLite file. `more` is the rest of its configuration.
    pub(crate) fn new(more: &str) -> Self {
        let home = Self { dir: tempfile::tempdir().expect("a temporary directory"), database: String::new() };
        let database = format!("sqlite:{}", home.path("checkind.db").display());
        Self { database, ..home }.with(more)
    }

    /// A gateway on another database.
    pub(crate) fn on(database: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { dir, database: database.to_owned() }.with(more)
    }

    fn with(self, more: &str) -> Self {
        self.configure(more);
        self
    }

    /// Rewrites the configuration: the database, an API on a free port, and `more`.
    pub(crate) fn configure(&self, more: &str) {
        let spool = if self.database.starts_with("postgres") && !more.contains("[spool]") {
            format!("[spool]\npath = \"{}\"\n", self.path("spool.db").display())
        } else {
            String::new()
        };
        let text = format!("[database]\nurl = \"{}\"\n[api]\nlisten = \"127.0.0.1:0\"\n{spool}{more}", self.database);
        self.write("checkind.toml", &text);
    }

    /// Rewrites the configuration with another database.
    pub(crate) fn configure_on(&mut self, database: &str, more: &str) {
        database.clone_into(&mut self.database);
        self.configure(more);
    }

    /// The path of a file in this folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) {
        self.write_bytes(name, text.as_bytes());
    }

    /// Writes a file that is not text.
    pub(crate) fn write_bytes(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("the file is written");
    }

    /// The daemon's database.
    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::of(&self.database)
    }

    /// A command of the program with this configuration, in an environment without settings.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&[BINARY], arguments)
    }

    /// The same, started by another program.
    pub(crate) fn command_of(&self, starter: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(starter[0]);
        command.args(&starter[1..]).args(arguments).arg("--config").arg(self.path("checkind.toml"));
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary starts")
    }

    /// Runs a command that must succeed. Returns what it printed.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        succeeded(&self.run(arguments))
    }

    /// Runs a command that reads a line from its standard input.
    pub(crate) fn tell(&self, arguments: &[&str], line: &str) -> String {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        child.stdin.take().expect("its input").write_all(line.as_bytes()).expect("the line is written");
        succeeded(&child.wait_with_output().expect("it ends"))
    }

    /// Imports a document.
    pub(crate) fn import(&self, document: &serde_json::Value) {
        self.write("site.json", &document.to_string());
        self.ask(&["import", self.path("site.json").to_str().expect("a path of ours")]);
    }

    /// Starts the daemon and waits until its API listens.
    pub(crate) fn start(&self) -> Daemon {
        self.start_by(&[BINARY], &[])
    }

    /// The same, started by another program, with environment variables.
    pub(crate) fn start_by(&self, starter: &[&str], environment: &[(&str, &str)]) -> Daemon {
        self.spawn_by(starter, environment).listening()
    }

    /// Starts the daemon without waiting.
    pub(crate) fn spawn_by(&self, starter: &[&str], environment: &[(&str, &str)]) -> Daemon {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let log = self.path(&format!("log-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let mut command = self.command_of(starter, &["run"]);
        command.envs(environment.iter().copied()).stdout(Stdio::null());
        command.stderr(File::create(&log).expect("a log file"));
        let child = command.spawn().unwrap_or_else(|fault| panic!("{starter:?} does not start: {fault}; install it"));
        Daemon { child, log, api: None, namespace: None }
    }
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("output is UTF-8")
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    api: Option<SocketAddr>,
    /// The network namespace in which its API listens.
    namespace: Option<String>,
}

impl Daemon {
    /// Waits until the API listens.
    pub(crate) fn listening(mut self) -> Self {
        let address = wait_for("the API to listen", LIMIT, || {
            self.still_runs();
            let log = self.log();
            let line = log.lines().find(|line| line.contains("the API is listening"));
            let address = line.and_then(|line| line.split("address=").nth(1)).map(str::trim);
            address.and_then(|address| address.parse().ok()).ok_or(log)
        });
        self.api = Some(address);
        self
    }

    /// Sends API requests from inside this network namespace.
    pub(crate) fn inside(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The whole log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The lines of the log that contain this text.
    pub(crate) fn lines(&self, text: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// The warnings and errors in the log, without those about slow statements, which depend on the test machine.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.log()
            .lines()
            .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
            .filter(|line| !line.contains("slow statement"))
            .map(str::to_owned)
            .collect()
    }

    /// Waits for a line of the log that contains this text.
    pub(crate) fn wait_for_line(&self, text: &str) {
        wait_for(text, LIMIT, || if self.lines(text).is_empty() { Err(self.log()) } else { Ok(()) });
    }

    /// The address of its API.
    pub(crate) fn api(&self) -> SocketAddr {
        self.api.expect("its API listens")
    }

    /// Sends a GET request to the API.
    pub(crate) fn get(&self, path: &str) -> Answer {
        let api = self.api.expect("its API listens");
        let Some(namespace) = &self.namespace else { return http::send(api, "GET", path, &[], "") };
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                super::lan::Namespace::enter(namespace);
                http::send(api, "GET", path, &[], "")
            });
            asking.join().expect("an answer")
        })
    }

    /// Sends a request to the API.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        http::send(self.api.expect("its API listens"), method, path, headers, body)
    }

    /// The raised conditions: name and detail. Checks that each has a start time.
    pub(crate) fn conditions(&self) -> BTreeMap<String, String> {
        let answer = self.get("/readyz").json();
        let conditions = answer["conditions"].as_array().expect("a list").iter();
        let text = |condition: &serde_json::Value, key: &str| {
            condition[key].as_str().unwrap_or_else(|| panic!("{key} in {condition}")).to_owned()
        };
        let named = conditions.map(|condition| {
            let since = text(condition, "since");
            assert!(since.len() == 20 && since.ends_with('Z'), "{condition}");
            (text(condition, "name"), text(condition, "detail"))
        });
        named.collect()
    }

    /// Waits until `/readyz` reports that the daemon is ready.
    pub(crate) fn wait_until_ready(&mut self) {
        wait_for("the daemon to be ready", LIMIT, || {
            self.still_runs();
            let answer = self.get("/readyz");
            if answer.status == 200 { Ok(()) } else { Err(format!("{}\n{}", answer.body, self.log())) }
        });
    }

    /// Waits for a condition. Returns its detail.
    pub(crate) fn wait_for_condition(&self, name: &str) -> String {
        wait_for(name, LIMIT, || {
            let mut conditions = self.conditions();
            conditions.remove(name).ok_or_else(|| format!("{conditions:?}\n{}", self.log()))
        })
    }

    /// Waits until a condition is over.
    pub(crate) fn wait_until_over(&self, name: &str) {
        wait_for(&format!("the end of {name}"), LIMIT, || {
            let conditions = self.conditions();
            if conditions.contains_key(name) { Err(format!("{conditions:?}\n{}", self.log())) } else { Ok(()) }
        });
    }

    /// How often a condition began and ended, counted in the log. It has one line for each, and one for each further
    /// cause, which says since when the condition lasts.
    pub(crate) fn changes_of(&self, name: &str) -> (usize, usize) {
        let mut lines = self.lines(&format!("condition=\"{name}\""));
        lines.retain(|line| !line.contains(" since=\""));
        let over = lines.iter().filter(|line| line.contains("is over")).count();
        (lines.len() - over, over)
    }

    /// The sum of a metric's samples whose labels contain this text.
    pub(crate) fn metric(&self, name: &str, label: &str) -> u64 {
        let text = self.get("/metrics").body;
        sum_of(&text, name, label).unwrap_or_else(|| panic!("no metric {name} with {label} in\n{text}"))
    }

    /// Waits until a metric has this value.
    pub(crate) fn wait_for_metric(&self, name: &str, label: &str, value: u64) {
        wait_for(&format!("{name} {label} to be {value}"), LIMIT, || match self.metric(name, label) {
            now if now == value => Ok(()),
            now => Err(format!("{now}\n{}", self.log())),
        });
    }

    /// Waits until every event that this process received has ended in exactly one outcome, and every message was
    /// acknowledged, left with the broker, or received on an earlier connection. Only for sites whose messages all have
    /// QoS 1, while no client publishes.
    pub(crate) fn adds_up(&self) {
        wait_for("the counters to add up", LIMIT, || {
            let total = |name: &str| self.metric(&format!("checkind_{name}_total"), "");
            // Read the outcomes first: events received after that are no fault.
            let decided = total("decisions");
            // Only a gateway with a spool has this metric.
            let replayed = sum_of(&self.get("/metrics").body, "checkind_spool_replayed_total", "").unwrap_or(0);
            let events = total("mqtt_events") + total("kiosk_taps") + total("presences") + replayed;
            let settled = total("mqtt_acknowledged") + total("mqtt_stale_receipts") + total("mqtt_shed");
            let messages = total("mqtt_messages");
            if events == decided && messages == settled {
                return Ok(());
            }
            Err(format!(
                "{events} events received, {decided} decided; {messages} messages received, {settled} done with\n{}\n{}",
                self.get("/metrics").body,
                self.log()
            ))
        });
        for outcome in ["opened", "refreshed", "closed", "failed", "recorded", "duplicate", "rejected", "set_aside"] {
            self.metric("checkind_decisions_total", &format!("outcome=\"{outcome}\""));
        }
        let outcomes = self.get("/metrics").body.matches("checkind_decisions_total{").count();
        assert_eq!(outcomes, 8, "an outcome that the list above lacks");
    }

    /// The peak of the daemon's resident memory, in KiB (`VmHWM` of proc(5)).
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse().expect("kilobytes")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Kills the daemon.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Waits for the daemon to end. Returns its exit status and its log.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = wait_for("the daemon to end", LIMIT, || match self.child.try_wait().expect("it is ours") {
            Some(status) => Ok(status),
            None => Err(self.log()),
        });
        (status, self.log())
    }

    /// Stops the daemon as `systemctl stop` would, and expects a clean shutdown. Returns its log.
    pub(crate) fn stop(self) -> String {
        self.signal(Signal::TERM);
        let (status, log) = self.wait();
        assert!(status.success(), "{status}: {log}");
        log
    }

    /// Panics with the log if the daemon has exited.
    pub(crate) fn still_runs(&mut self) {
        if let Some(status) = self.child.try_wait().expect("it is ours") {
            panic!("the daemon has ended, {status}:\n{}", self.log());
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// `[site]` 1 in UTC, with a cut-off that is not reached during the test. `more` has further keys.
pub(crate) fn site(more: &str) -> String {
    site_until(&far_cut_off(), more)
}

/// `[site]` 1 in UTC with this cut-off. Every visit gets its own record, for tests to tell visits apart.
pub(crate) fn site_until(cut_off: &str, more: &str) -> String {
    let more = format!("record_every_visit = true\n{more}");
    format!("[site]\nbusiness = 1\nname = \"Hub One\"\ntime_zone = \"UTC\"\ncut_off = \"{cut_off}\"\n{more}\n")
}

/// A broker with two kinds of controllers: uhppoted boards on `board/events`, flat JSON on `flat/events`.
pub(crate) fn doors(port: u16) -> String {
    let mut text = format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\nclient_id = \"checkind-test\"\n");
    for (name, preset) in [("board", "uhppoted"), ("flat", "generic-json")] {
        // Both kinds buffer their events while they have no network.
        writeln!(
            text,
            "[[source]]\nname = \"{name}\"\npreset = \"{preset}\"\ntopics = [\"{name}/events\"]\ntime.trust = \"8d past\""
        )
        .expect("writing to a String cannot fail");
    }
    for pattern in ["405419896:*", "side"] {
        writeln!(text, "[[door]]\nmatch = \"{pattern}\"\non_in = \"check_in\"\non_out = \"check_out\"")
            .expect("writing to a String cannot fail");
    }
    text
}

/// The card of a person. Its number is too large for Wiegand 26, so every controller spells it the same way.
pub(crate) const fn card(person: u32) -> u32 {
    8_165_600 + person
}

/// People 1 to `number`, each with a card, and `more` entries of `Coworkers`.
pub(crate) fn people(number: u32, more: &[serde_json::Value]) -> serde_json::Value {
    let people = (1..=number).map(
        |id| serde_json::json!({ "Id": id, "FullName": format!("Member {id}"), "AccessCardId": card(id).to_string() }),
    );
    let coworkers: Vec<serde_json::Value> = people.chain(more.iter().cloned()).collect();
    serde_json::json!({ "Businesses": [{ "Id": 1, "Name": "Hub One" }], "Coworkers": coworkers })
}

/// A swipe at a uhppoted board, with the board's event number, the card, the direction and the time.
pub(crate) fn board_event(number: u32, card: u32, way: Way, at: WallTime) -> String {
    let direction = match way {
        Way::In => 1,
        Way::Out => 2,
    };
    let at = at.utc().format("%Y-%m-%d %H:%M:%S UTC");
    format!(
        r#"{{"message":{{"event":{{"event":{{"device-id":405419896,"event-id":{number},"event-type":1,"access-granted":true,"door-id":4,"direction":{direction},"card-number":{card},"timestamp":"{at}","event-reason":1}}}}}}}}"#
    )
}

/// The same as flat JSON.
pub(crate) fn flat_event(number: u32, card: u32, way: Way, at: WallTime) -> String {
    let direction = match way {
        Way::In => "in",
        Way::Out => "out",
    };
    let at = at.to_rfc3339_seconds();
    format!(
        r#"{{"id":"{number}","door":"side","card":"{card}","result":"granted","direction":"{direction}","time":"{at}"}}"#
    )
}

/// The direction of a tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// Listens on `NOTIFY_SOCKET` as systemd does.
#[derive(Debug)]
pub(crate) struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
    heard: Vec<String>,
}

impl Systemd {
    pub(crate) fn new(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_nonblocking(true).expect("a socket that does not block");
        Self { socket, path, heard: Vec::new() }
    }

    pub(crate) fn address(&self) -> &str {
        self.path.to_str().expect("a path of ours")
    }

    /// Waits for a message that contains this text, and consumes it. Returns the whole message.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        wait_for(text, LIMIT, || {
            let mut buffer = [0; 4096];
            while let Ok(length) = self.socket.recv(&mut buffer) {
                self.heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
            let Some(at) = self.heard.iter().position(|message| message.contains(text)) else {
                return Err(format!("{:?}", self.heard));
            };
            Ok(self.heard.remove(at))
        })
    }
}

fn sum_of(text: &str, name: &str, label: &str) -> Option<u64> {
    let mut found = None;
    for line in text.lines().filter(|line| !line.starts_with('#') && line.contains(label)) {
        let Some((sample, value)) = line.rsplit_once(' ') else { continue };
        if sample.split('{').next() == Some(name) {
            let value: f64 = value.parse().expect("a number");
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let value = value as u64;
            found = Some(found.unwrap_or(0) + value);
        }
    }
    found
}
