//! What is shipped with the program: the unit and the user, and whether the program works with the rights they grant.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use checkind::daemon;

use crate::support::{
    frame::arp_request,
    lan::{Namespace, Wire},
    wait_for,
};

/// The highest accepted score of `systemd-analyze security`, in tenths. 0 is best; a unit without hardening has 96.
const MOST_EXPOSED: u32 = 20;

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let folder = tempfile::tempdir().expect("a folder");
    // The unit must name an existing program, so here it names the one just built.
    let unit = unit().replace("/usr/bin/checkind", env!("CARGO_BIN_EXE_checkind"));
    let path = folder.path().join("checkind.service");
    fs::write(&path, unit).expect("the unit");
    let said = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path), "systemd");
    assert!(said.status.success(), "{}", text(&said));
    let complaints = text(&said);
    assert!(!complaints.contains("checkind.service"), "{complaints}");
}

#[test]
fn the_unit_leaves_little_exposed() {
    let said = run(
        Command::new("systemd-analyze")
            .args(["security", "--no-pager", "--offline=yes", &format!("--threshold={MOST_EXPOSED}")])
            .arg(shipped("systemd/checkind.service")),
        "systemd",
    );
    assert!(said.status.success(), "more exposed than {MOST_EXPOSED} tenths:\n{}", text(&said));
    assert!(text(&said).contains("Overall exposure level"), "{}", text(&said));
}

#[test]
fn the_unit_gives_one_right_and_no_more() {
    for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        assert_eq!(value(key), "CAP_NET_RAW", "{key}");
    }
    assert_eq!(value("NoNewPrivileges"), "yes");
}

#[test]
fn a_clean_shutdown_fits_into_the_units_stop_timeout() {
    // Late parts have one second to end, and then the database must be closed.
    let needed = daemon::DEADLINE + Duration::from_secs(5);
    assert!(seconds("TimeoutStopSec") >= needed, "TimeoutStopSec must be at least {needed:?}");
}

#[test]
fn systemd_never_gives_up() {
    assert_eq!(value("StartLimitIntervalSec"), "0");
    // Debian 12 has systemd 252, which does not know growing pauses.
    assert!(seconds("RestartSec") <= Duration::from_secs(5));
    assert!(!unit().contains("StartLimitBurst") && !unit().contains("RestartSteps"));
}

#[test]
fn mistakes_that_stay_are_not_tried_again() {
    let codes = value("RestartPreventExitStatus");
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("checkind.toml");
    fs::write(&config, "[site]\nbusines = 1\n").expect("a configuration with a fault");
    let config = config.to_str().expect("the path is UTF-8");
    for (arguments, code) in [(vec!["run", "--surprise"], 64), (vec!["run", "--config", config], 78)] {
        let ended = run(Command::new(env!("CARGO_BIN_EXE_checkind")).args(&arguments), "checkind");
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {}", text(&ended));
        assert!(codes.split(' ').any(|listed| listed == code.to_string()), "{code} is not in {codes}");
    }
}

#[test]
fn the_account_of_the_unit_is_made() {
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir(root.path().join("etc")).expect("etc");
    let made = run(
        Command::new("systemd-sysusers")
            .arg(format!("--root={}", root.path().display()))
            .arg(shipped("systemd/checkind.sysusers")),
        "systemd",
    );
    assert!(made.status.success(), "{}", text(&made));
    let accounts = fs::read_to_string(root.path().join("etc/passwd")).expect("the accounts");
    let user = value("User");
    let account: Vec<&str> = accounts
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{user}:")))
        .unwrap_or_else(|| panic!("no {user} in {accounts}"))
        .split(':')
        .collect();
    assert_eq!(account[4..], [format!("/var/lib/{}", value("StateDirectory")).as_str(), "/usr/sbin/nologin"]);
}

/// The unit's rights without systemd: an unprivileged user, only this one capability, and no way to gain another.
#[test]
fn the_daemon_captures_with_the_rights_of_the_unit() {
    let wire = Wire::new();
    let daemon = Daemon::start(&wire.mirror);
    let ready = wait_for("readiness", Duration::from_secs(30), || daemon.get("/readyz"));
    assert!(ready.contains("\"ready\""), "{ready}");
    let said = arp_request("3c:22:fb:01:02:03".parse().expect("an address"));
    wait_for("the device's failed check-in", Duration::from_secs(30), || {
        wire.send(std::slice::from_ref(&said));
        let metrics = daemon.get("/metrics")?;
        let written = "checkind_failed_checkins_total{code=\"unrecognised_device\"} 1";
        if metrics.lines().any(|line| line == written) { Ok(()) } else { Err(metrics) }
    });
}

/// A daemon that runs as an unprivileged user; stopped when dropped.
struct Daemon<'a> {
    child: Child,
    namespace: &'a Namespace,
    folder: tempfile::TempDir,
}

impl<'a> Daemon<'a> {
    const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

    fn start(namespace: &'a Namespace) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // An unprivileged user may not be able to enter the build folder.
        let program = folder.path().join("checkind");
        fs::copy(env!("CARGO_BIN_EXE_checkind"), &program).expect("a copy of the program");
        let config = folder.path().join("checkind.toml");
        let settings = format!(
            "[database]\nurl = \"sqlite:{}\"\n[site]\nbusiness = 1\nname = \"Hub\"\ntime_zone = \"UTC\"\n\
             [[capture]]\ninterface = \"s1\"\n[api]\nlisten = \"{}\"\n",
            folder.path().join("checkind.db").display(),
            Self::API
        );
        fs::write(&config, settings).expect("the configuration");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("the folder is ours");
        let child = Command::new("ip")
            .args(["netns", "exec", namespace.name(), "setpriv", "--reuid=nobody", "--regid=nogroup"])
            .args(["--clear-groups", "--no-new-privs", "--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw"])
            .args(["--bounding-set=-all,+net_raw", "--"])
            .arg(&program)
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).expect("a log"))
            .spawn()
            .unwrap_or_else(|error| panic!("ip: {error}; install iproute2 and util-linux"));
        Self { child, namespace, folder }
    }

    /// The body of a page of the API if it answers 200, otherwise the error from it or the log.
    fn get(&self, page: &str) -> Result<String, String> {
        let answer = self.namespace.http(Self::API, page);
        match answer {
            Some(answer) if answer.status == 200 => Ok(answer.body),
            Some(answer) => Err(answer.body),
            None => Err(fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()),
        }
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn unit() -> String {
    fs::read_to_string(shipped("systemd/checkind.service")).expect("the unit")
}

/// The value of a key that the unit sets once.
fn value(key: &str) -> String {
    let unit = unit();
    let values: Vec<&str> =
        unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::trim).collect();
    match values[..] {
        [value] => value.to_owned(),
        ref other => panic!("{key} should be there once, not as {other:?}"),
    }
}

fn seconds(key: &str) -> Duration {
    Duration::from_secs(value(key).parse().unwrap_or_else(|error| panic!("{key} is not in seconds: {error}")))
}

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn run(command: &mut Command, package: &str) -> Output {
    let program = command.get_program().to_owned();
    command.output().unwrap_or_else(|error| panic!("{}: {error}; install {package}", program.display()))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
