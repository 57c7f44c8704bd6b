//! The shipped unit on a machine with a real systemd: installed as the README describes, with exactly the rights that
//! the unit grants, and restarted when it hangs or is killed.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::support::{
    compiled,
    daemon::{BINARY, LIMIT, Way, card, flat_event, now, people},
    frame::arp_request,
    lan::{Namespace, Process},
    machine::Machine,
    skipped, wait_for,
};

const UNIT: &str = "checkind.service";

const SITE: &str = r#"
[site]
business = 1
name = "Hub One"
time_zone = "Europe/London"
idle_limit = "40m"

[mqtt]
url = "mqtt://127.0.0.1:1883"
username = "checkind"
password_file = "mqtt-password"

[[source]]
name = "flat"
preset = "generic-json"
topics = ["flat/events"]

[[door]]
match = "side"
on_in = "check_in"
on_out = "check_out"

[[capture]]
interface = "s1"
"#;

/// A replacement for `sudo` on a machine without it.
const SUDO: &str = r#"sudo() { if [ "$1" = -u ]; then runuser -u "$2" -- "${@:3}"; else "$@"; fi; }"#;

/// A machine installed by the README, with a broker and a mirror port.
struct Site {
    machine: Machine,
    network: Namespace,
    _broker: Process,
    stage: tempfile::TempDir,
}

impl Site {
    /// `None`, reported as skipped, if no machine can be started here.
    fn new() -> Option<Self> {
        let stage = tempfile::tempdir().expect("a temporary directory");
        fill(stage.path());
        let machine = match Machine::boot(stage.path()) {
            Ok(machine) => machine,
            Err(why) => {
                skipped("the unit on a booted machine", &why);
                return None;
            }
        };
        let network = machine.network();
        network.ip(&["link", "add", "s0", "type", "veth", "peer", "name", "s1"]);
        network.ip(&["link", "set", "s0", "up"]);
        network.ip(&["link", "set", "s1", "up"]);
        let broker = network.start("mosquitto", &["-p", "1883"]);
        Some(Self { machine, network, _broker: broker, stage })
    }

    /// Installs the site with the README's commands (except the build), and imports the people.
    fn install(&self) {
        let readme = fs::read_to_string(shipped("README.md")).expect("the README");
        let (_, section) = readme.split_once("## Install it on a gateway").expect("the section");
        let block = section.split("```").nth(1).expect("its commands").trim_start_matches("sh");
        let mut followed = 0;
        for line in block.lines().filter(|line| !line.trim().is_empty()) {
            if line.starts_with("cargo build") {
                continue;
            }
            if line.contains("nano /etc/checkind/conf.d/50-site.toml") {
                self.machine.write("/etc/checkind/conf.d/50-site.toml", SITE);
                continue;
            }
            self.sh(&line.replace(" FILE ", " /stage/secret "));
            followed += 1;
        }
        assert!(followed >= 9, "only {followed} commands in {block}");
        let import = "sudo -u checkind checkind import /stage/site.json";
        let readme_says = "sudo -u checkind checkind import site.json";
        assert!(readme.contains(readme_says), "the README has another import command");
        self.sh(import);
        wait_for("the people of the import", LIMIT, || match self.machine.journal(UNIT) {
            journal if journal.contains("coworkers=20") => Ok(()),
            journal => Err(journal),
        });
        self.wait_until_ready();
    }

    fn sh(&self, line: &str) -> String {
        self.machine.sh(&format!("exec bash -c '{SUDO}; cd /stage; {}'", line.replace('\'', r"'\''")))
    }

    fn get(&self, path: &str) -> Result<String, String> {
        let answer = self.network.http(([127, 0, 0, 1], 8080).into(), path);
        match answer {
            Some(answer) if answer.status == 200 => Ok(answer.body),
            Some(answer) => Err(answer.body),
            None => Err("the API does not listen".to_owned()),
        }
    }

    fn wait_until_ready(&self) {
        wait_for("readiness", LIMIT, || {
            self.get("/readyz").map_err(|last| format!("{last}\n{}", self.machine.journal(UNIT)))
        });
    }

    /// Publishes a member's tap, and waits until the decision is committed.
    fn tap(&self, number: u32) {
        let tap = flat_event(number, card(number), Way::In, now());
        self.network.run("mosquitto_pub", &["-q", "1", "-t", "flat/events", "-m", &tap]);
        let name = format!("Member {number}");
        wait_for(&name, LIMIT, || {
            let who = self.sh("sudo -u checkind checkind who");
            if who.contains(&name) { Ok(()) } else { Err(format!("{who}\n{}", self.machine.journal(UNIT))) }
        });
    }

    fn main_process(&self) -> String {
        self.machine.property(UNIT, "MainPID")
    }

    /// Waits until systemd has restarted the daemon.
    fn wait_for_another(&self, than: &str) {
        wait_for("another process of the unit", LIMIT, || {
            let state = self.machine.property(UNIT, "SubState");
            match self.main_process() {
                now if now != than && now != "0" && state == "running" => Ok(()),
                now => Err(format!("{now}, {state}\n{}", self.machine.journal(UNIT))),
            }
        });
        self.wait_until_ready();
    }
}

/// Copies the files that the README takes from a clone.
fn fill(stage: &Path) {
    for folder in ["target/dist", "systemd", "config"] {
        fs::create_dir_all(stage.join(folder)).expect("a folder");
    }
    for file in ["systemd/checkind.service", "systemd/checkind.sysusers", "config/checkind.toml"] {
        fs::copy(shipped(file), stage.join(file)).expect("a copy");
    }
    fs::copy(BINARY, stage.join("target/dist/checkind")).expect("a copy");
    fs::write(stage.join("secret"), "a password").expect("a file");
    fs::write(stage.join("site.json"), people(20, &[]).to_string()).expect("a file");
    // The daemon's account must be able to read the folder.
    fs::set_permissions(stage, fs::Permissions::from_mode(0o755)).expect("the folder is ours");
}

fn shipped(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_unit_as_the_readme_installs_it_starts_works_and_reloads_with_one_right() {
    let Some(site) = Site::new() else { return };
    site.install();
    assert_eq!(site.machine.property(UNIT, "ActiveState"), "active");

    let process = site.main_process();
    let status = site.machine.sh(&format!("cat /proc/{process}/status"));
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {key} in {status}")).trim().to_owned()
    };
    // CAP_NET_RAW is capability 13 of capability.h.
    for set in ["CapEff", "CapPrm", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&value(set), 16), Ok(1 << 13), "{set}");
    }
    assert_eq!((value("NoNewPrivs").as_str(), value("Seccomp").as_str()), ("1", "2"));
    let account = site.machine.sh("id -u checkind");
    assert!(value("Uid").split_whitespace().all(|id| id == account.trim()), "{}", value("Uid"));

    site.tap(1);
    let device = arp_request("3c:22:fb:01:02:03".parse().expect("an address"));
    wait_for("the device's failed check-in", LIMIT, || {
        site.network.send("s0", std::slice::from_ref(&device));
        let metrics = site.get("/metrics")?;
        let written = "checkind_failed_checkins_total{code=\"unrecognised_device\"} 1";
        if metrics.lines().any(|line| line == written) { Ok(()) } else { Err(metrics) }
    });
    site.machine.wait_for_property(UNIT, "StatusText", "1 check-in open");

    let changed = SITE.replace("\"check_out\"", "\"activity\"");
    site.machine.write("/etc/checkind/conf.d/50-site.toml", &changed);
    site.sh("systemctl reload checkind");
    let lines = |text: &str| site.machine.journal(UNIT).matches(text).count();
    wait_for("the reload", LIMIT, || match lines("the new settings are in force") {
        1 => Ok(()),
        _ => Err(site.machine.journal(UNIT)),
    });
    site.wait_until_ready();
    site.machine.write("/etc/checkind/conf.d/60-bad.toml", "[site]\nidle_limit = \"soon\"\n");
    site.sh("systemctl reload checkind");
    wait_for("the refusal", LIMIT, || match lines("the old ones stay in force") {
        0 => Err(site.machine.journal(UNIT)),
        _ => Ok(()),
    });
    site.sh("rm /etc/checkind/conf.d/60-bad.toml");
    let warnings = site.machine.sh("journalctl --no-pager --output=cat --priority=warning --unit=checkind");
    assert!(warnings.contains("the old ones stay in force"), "{warnings}");
    assert!(!warnings.contains("the new settings are in force") && !warnings.contains("<4>"), "{warnings}");
    site.tap(2);
    assert_eq!(site.main_process(), process, "a reload is no restart");
    assert_eq!(site.machine.property(UNIT, "NRestarts"), "0");

    // A secret that the account cannot read is a fault, until systemd passes it as a credential.
    site.sh("chgrp root /etc/checkind/mqtt-password");
    let check = site.machine.try_sh("checkind check-config");
    let said = String::from_utf8_lossy(&check.stderr);
    assert_eq!(check.status.code(), Some(78), "{said}");
    assert!(said.contains("mqtt-password cannot be read") && said.contains("runs as checkind"), "{said}");
    site.sh("mkdir -p -m 700 /etc/credstore; mv /etc/checkind/mqtt-password /etc/credstore/checkind.mqtt-password");
    site.sh("checkind check-config");
    site.sh("systemctl restart checkind");
    site.wait_until_ready();

    site.sh("systemctl stop checkind");
    assert_eq!(site.machine.property(UNIT, "Result"), "success", "{}", site.machine.journal(UNIT));
}

#[test]
fn systemd_brings_the_unit_back_when_it_hangs_or_is_killed_but_not_from_a_wrong_configuration() {
    let Some(site) = Site::new() else { return };
    // As short as a slow machine allows: the test is about who notices, not when.
    let hurry = "[Service]\nWatchdogSec=3\nRestartSec=100ms\n";
    site.machine.write("/etc/systemd/system/checkind.service.d/hurry.conf", hurry);
    site.install();
    site.tap(1);

    let first = site.main_process();
    site.sh("systemctl kill --signal=STOP --kill-who=main checkind");
    site.wait_for_another(&first);
    assert!(site.machine.journal(UNIT).contains("Watchdog timeout"), "{}", site.machine.journal(UNIT));
    site.tap(2);

    let second = site.main_process();
    site.sh("systemctl kill --signal=KILL --kill-who=main checkind");
    site.wait_for_another(&second);
    site.tap(3);
    assert_eq!(site.machine.property(UNIT, "NRestarts"), "2");
    let who = site.sh("sudo -u checkind checkind who");
    assert!((1..=3).all(|person| who.contains(&format!("Member {person}"))), "{who}");

    site.machine.write("/etc/checkind/conf.d/60-bad.toml", "[site]\nidle_limit = \"soon\"\n");
    assert!(!site.machine.try_sh("systemctl restart checkind").status.success());
    site.machine.wait_for_property(UNIT, "ActiveState", "failed");
    // It would be "auto-restart" if systemd tried again.
    assert_eq!(site.machine.property(UNIT, "SubState"), "failed");
    assert_eq!(site.machine.property(UNIT, "ExecMainStatus"), "78");
}

#[test]
fn what_the_unit_forbids_is_refused_and_what_it_needs_is_not() {
    const MAY: [&str; 4] = ["may_write_state", "may_capture", "may_use_inet", "may_use_unix"];
    let Some(site) = Site::new() else { return };
    site.sh("systemd-sysusers /stage/systemd/checkind.sysusers");
    compiled::program("probe", &site.stage.path().join("probe"));
    site.sh("touch /tmp/secret; chmod 644 /tmp/secret; chmod 755 /root");

    let unit = fs::read_to_string(shipped("systemd/checkind.service")).expect("the unit");
    let of_a_daemon = ["Type=", "WatchdogSec=", "Restart=", "NotifyAccess="];
    let hardened: String = unit
        .lines()
        .filter(|line| !of_a_daemon.iter().any(|key| line.starts_with(key)))
        .map(|line| if line.starts_with("ExecStart=") { "Type=oneshot\nExecStart=/stage/probe" } else { line })
        .flat_map(|line| [line, "\n"])
        .collect();
    let as_root = hardened.replace("User=checkind\nGroup=checkind\n", "");
    assert!(hardened.contains("ExecStart=/stage/probe") && as_root.len() < hardened.len(), "{hardened}");
    let free = "[Service]\nType=oneshot\nExecStart=/stage/probe\nStateDirectory=checkind\n";

    let probe = |name: &str, unit: &str| -> Vec<(String, String)> {
        site.machine.write(&format!("/etc/systemd/system/{name}.service"), unit);
        site.sh(&format!("systemctl daemon-reload; systemctl start {name}"));
        let journal = site.machine.journal(&format!("{name}.service"));
        let tried = journal.lines().filter_map(|line| line.strip_prefix("tried ")?.split_once(' '));
        tried.map(|(what, outcome)| (what.to_owned(), outcome.to_owned())).collect()
    };
    // A refusal must be due to the unit, not only because its user is not root.
    let free = probe("free", free);
    let sandboxed_root = probe("sandboxed-root", &as_root);
    let unit = probe("unit", &hardened);
    // What this kernel does not support proves nothing about the unit.
    let provable: Vec<&str> =
        free.iter().filter(|(_, outcome)| outcome == "ok").map(|(what, _)| what.as_str()).collect();
    assert!(provable.len() >= 25, "{free:?}");
    for (who, outcomes) in [("the unit", &unit), ("root inside the unit", &sandboxed_root)] {
        assert_eq!(outcomes.len(), free.len(), "{outcomes:?}");
        for (what, outcome) in outcomes.iter().filter(|(what, _)| provable.contains(&what.as_str())) {
            let of_root = who != "the unit" && what == "see_other_processes";
            let may = MAY.contains(&what.as_str()) || of_root;
            assert_eq!(outcome == "ok", may, "{who}: {what}: {outcome}");
        }
    }
    for what in MAY {
        assert!(provable.contains(&what), "{what} is refused to every user on this machine: {free:?}");
    }
}
