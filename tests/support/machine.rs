//! A machine with a real systemd, in a disposable container of systemd-nspawn.
//!
//! Its root is a minimal Debian, created once by debootstrap under `target/` and never written to: each machine writes
//! to an overlay in memory. It has its own network, and may not set the clock.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{lan::Namespace, wait_for};

/// How long creating the root may take, in seconds: about 60 MB to download and unpack.
const FETCHING: &str = "300";

/// How long the machine may take to boot. Half a second is usual.
const BOOTING: Duration = Duration::from_secs(30);

/// A booted machine; removed when dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    container: Child,
    /// The machine's PID 1, as seen from outside.
    init: u32,
    name: String,
    log: TempDir,
}

impl Machine {
    /// Boots a machine that sees `stage` as `/stage`, or returns why that is impossible here.
    pub(crate) fn boot(stage: &Path) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return Err("booting a container needs root".to_owned());
        }
        let root = root()?;
        let name = format!("ckd-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let log = tempfile::tempdir().expect("a temporary directory");
        let output = fs::File::create(log.path().join("console")).expect("a log file");
        let mut command = Command::new("setpriv");
        // The container dies with the test, however the test ends.
        command.args(["--pdeathsig=KILL", "systemd-nspawn", "--quiet", "--boot", "--volatile=overlay"]);
        // Do not register: the test machine may have no systemd.
        command.args(["--register=no", "--keep-unit", "--private-network", "--machine", &name]);
        command.arg("--directory").arg(&root).arg(format!("--bind-ro={}:/stage", stage.display()));
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("the log file")).stderr(output);
        let container = command.spawn().map_err(|fault| format!("setpriv of util-linux: {fault}"))?;
        let mut machine = Self { container, init: 0, name, log };
        let console = || fs::read_to_string(machine.log.path().join("console")).unwrap_or_default();
        let mut booted = None;
        for _ in 0..BOOTING.as_millis() / 50 {
            if let Ok(Some(status)) = machine.container.try_wait() {
                return Err(format!("systemd-nspawn: {status}: {}", console()));
            }
            booted = child_of(machine.container.id()).filter(|init| is_up(*init));
            if booted.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        machine.init = booted.ok_or_else(|| format!("no systemd after {BOOTING:?}: {}", console()))?;
        Ok(machine)
    }

    /// A program inside the machine, as root without the rights that would reach the host.
    pub(crate) fn command(&self, program: &[&str]) -> Command {
        inside(self.init, program)
    }

    /// Runs a line of shell inside, which must succeed. Returns what it printed.
    pub(crate) fn sh(&self, line: &str) -> String {
        let output = self.try_sh(line);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{line}: {}{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
        said
    }

    /// Runs a line of shell inside.
    pub(crate) fn try_sh(&self, line: &str) -> Output {
        self.command(&["sh", "-c", line]).output().expect("nsenter of util-linux")
    }

    /// Writes a file inside.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let mut command = self.command(&["sh", "-c", "mkdir -p \"$(dirname \"$1\")\" && cat >\"$1\"", "sh", path]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("nsenter of util-linux");
        child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("the text is written");
        assert!(child.wait().expect("its end").success(), "{path} cannot be written");
    }

    /// The machine's network namespace, under a name.
    pub(crate) fn network(&self) -> Namespace {
        Namespace::of_process(self.init)
    }

    /// A property of a unit.
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.sh(&format!("systemctl show --value --property={name} {unit}")).trim().to_owned()
    }

    /// Waits until a property of a unit has this value.
    pub(crate) fn wait_for_property(&self, unit: &str, name: &str, value: &str) {
        wait_for(&format!("{name} of {unit} to be {value}"), super::daemon::LIMIT, || {
            match self.property(unit, name) {
                now if now == value => Ok(()),
                now => Err(format!("{now}\n{}", self.journal(unit))),
            }
        });
    }

    /// The journal of a unit.
    pub(crate) fn journal(&self, unit: &str) -> String {
        self.sh(&format!("journalctl --no-pager --output=cat --unit={unit}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(init) = i32::try_from(self.init).ok().and_then(Pid::from_raw) {
            // Everything inside ends with its PID 1, and then the container ends.
            let _gone = kill_process(init, Signal::KILL);
            for _ in 0..100 {
                if matches!(self.container.try_wait(), Ok(Some(_))) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _gone = self.container.kill();
        let _gone = self.container.wait();
        // Remove what a killed container has left behind.
        let _gone = fs::remove_dir(Path::new("/run/systemd/nspawn/propagate").join(&self.name));
    }
}

/// Enters all namespaces of a machine. A process that enters keeps the rights it had outside, so those that reach
/// beyond the machine (above all the clock, which has no namespace) are dropped.
fn inside(init: u32, program: &[&str]) -> Command {
    const BEYOND: &str = "-sys_time,-sys_module,-sys_boot,-sys_rawio,-syslog,-wake_alarm";
    let mut command = Command::new("nsenter");
    command.args(["--target", &init.to_string(), "--all", "setpriv"]);
    command.args([&format!("--bounding-set={BEYOND}"), &format!("--inh-caps={BEYOND}"), "--"]).args(program);
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null());
    command
}

fn child_of(process: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn is_up(init: u32) -> bool {
    // The child has its own network before it becomes the machine's init; until then this would find the test's own.
    let its_own = |kind: &str| {
        let inode = |process: &str| fs::metadata(format!("/proc/{process}/ns/{kind}")).ok().map(|found| found.ino());
        inode(&init.to_string()).is_some_and(|found| Some(found) != inode("self"))
    };
    if !["pid", "mnt", "net"].into_iter().all(its_own) {
        return false;
    }
    let said = inside(init, &["systemctl", "is-system-running"]).output().map(|output| output.stdout);
    said.is_ok_and(|said| matches!(said.trim_ascii(), b"running" | b"degraded"))
}

/// The root of all machines, created if missing.
fn root() -> Result<PathBuf, String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or("");
    let suite = value("VERSION_CODENAME").trim_matches('"');
    if value("ID") != "debian" || suite.is_empty() {
        return Err("the program was built against the libraries of a system that debootstrap cannot make".to_owned());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let root = folder.join(format!("machine-{suite}"));
    // Tests that need it at the same time create it only once.
    let lock = fs::File::create(folder.join("machine.lock")).expect("the folder of test data");
    lock.lock().expect("a lock");
    if root.join("usr/lib/systemd/systemd").exists() {
        return Ok(root);
    }
    let half = folder.join(format!("machine-{suite}-half"));
    let _gone = fs::remove_dir_all(&half);
    let made = Command::new("timeout")
        .args([FETCHING, "debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv,dbus,procps", suite])
        .arg(&half)
        .output();
    match made {
        Ok(output) if output.status.success() => {
            fs::rename(&half, &root).expect("the root is moved into place");
            Ok(root)
        }
        Ok(output) => {
            let _gone = fs::remove_dir_all(&half);
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let last: Vec<&str> = said.lines().rev().take(5).collect();
            Err(format!("debootstrap: {}: {}", output.status, last.join(" / ")))
        }
        Err(fault) => Err(format!("debootstrap of the package debootstrap: {fault}")),
    }
}
