//! `checkind demo` as a process: with and without privileges, and how it cleans up.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tempfile::TempDir;

use crate::support::{http, lan::Namespace, wait_for};

/// Longer than any demo here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A running demo in its own network namespace, where no other process uses its port or interfaces.
struct Demo {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    complained: Arc<Mutex<String>>,
}

impl Demo {
    /// `prefix` is a command that runs the program, for example as another user.
    fn start(namespace: &Namespace, folder: &Path, prefix: &[&str], seconds: u32) -> Self {
        // Another user may not be able to read the build folder.
        let program = folder.with_extension("checkind");
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_checkind"), &program).expect("a copy of the program");
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace.name()]).args(prefix).arg(&program);
        command.args(["demo", "--seconds", &seconds.to_string()]).env("TMPDIR", folder).env_remove("RUST_LOG");
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|fault| panic!("ip: {fault}; install iproute2"));
        let (said, complained) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<String>>::default());
        let (output, lines) = (child.stdout.take().expect("a pipe"), Arc::clone(&said));
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                lines.lock().expect("the lines").push(line.expect("UTF-8"));
            }
        });
        let (mut output, text) = (child.stderr.take().expect("a pipe"), Arc::clone(&complained));
        thread::spawn(move || {
            let mut all = String::new();
            let _read = output.read_to_string(&mut all);
            *text.lock().expect("the text") = all;
        });
        Self { child, said, complained }
    }

    fn text(&self) -> String {
        self.said.lock().expect("the lines").join("\n")
    }

    fn wait_for_line(&self, with: &str) -> String {
        wait_for(with, LIMIT, || {
            let said = self.said.lock().expect("the lines");
            let found = said.iter().find(|line| line.contains(with)).cloned();
            found.ok_or_else(|| format!("{}\n{}", said.join("\n"), self.complained.lock().expect("the text")))
        })
    }

    /// The API's address and the password of its user.
    fn api(&self) -> (SocketAddr, String) {
        let line = self.wait_for_line("API  ");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(',').next());
        let password = line.split("password ").nth(1);
        (address.expect("an address").parse().expect("an address"), password.expect("a password").to_owned())
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success());
    }

    /// Waits for the end. Returns the exit code and the output.
    fn end(mut self) -> (Option<i32>, String) {
        let code = wait_for("the demo to end", LIMIT, || match self.child.try_wait().expect("a child") {
            Some(status) => Ok(status.code()),
            None => Err(self.text()),
        });
        self.wait_for_line("The demo has removed everything it created.");
        let complained = self.complained.lock().expect("the text").clone();
        assert_eq!(complained, "", "no errors on standard error");
        (code, self.text())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A folder that every user may write to.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("a mode");
    let inner = folder.path().join("tmp");
    fs::create_dir(&inner).expect("a folder");
    fs::set_permissions(inner, fs::Permissions::from_mode(0o777)).expect("a mode");
    folder
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// The first check-in, read through the API while the demo runs.
fn first_checkin(namespace: &Namespace, api: SocketAddr, password: &str) -> serde_json::Value {
    let login = format!("Basic {}", STANDARD.encode(format!("demo:{password}")));
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            Namespace::enter(namespace.name());
            http::send(api, "GET", "/api/spaces/checkins/1", &[("Authorization", &login)], "")
        });
        let answer = asking.join().expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    })
}

/// Checks what a day always contains, even on a slow machine.
fn is_a_whole_day(text: &str) {
    assert!(text.contains("The day is over."), "{text}");
    for code in [
        "ambiguous_card",
        "coworker_inactive",
        "network_not_allowed",
        "other_business",
        "refused_no_rights",
        "unrecognised_card",
        "unrecognised_device",
    ] {
        assert!(text.contains(code), "{code} is missing in:\n{text}");
    }
    for line in ["by network, device", "by silence, as of", "by the cut-off, as of", "out      Mara Quill"] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
    let figure = |label: &str, word: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(label));
        let line = line.unwrap_or_else(|| panic!("{label} is missing in:\n{text}"));
        let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let at = words.iter().position(|known| *known == word).unwrap_or_else(|| panic!("{word} is missing in {line}"));
        words[at - 1].parse::<u32>().unwrap_or_else(|_| panic!("no number in {line}"))
    };
    assert!(figure("visits", "by") >= 24, "{text}");
    assert_eq!(figure("door messages", "received"), figure("door messages", "acknowledged"), "{text}");
    assert!(figure("door messages", "received") >= 100, "{text}");
    assert_eq!(figure("door messages", "not"), 1, "one message is torn\n{text}");
}

#[test]
fn a_day_passes_on_a_real_wire_and_leaves_nothing_behind() {
    let (namespace, folder) = (Namespace::new("demo"), folder());
    let temporary = folder.path().join("tmp");
    let demo = Demo::start(&namespace, &temporary, &[], 20);
    let pid = demo.child.id();
    let (api, password) = demo.api();
    demo.wait_for_line("07:41  in       Mara Quill               by card at Main entrance");
    let checkin = first_checkin(&namespace, api, &password);
    assert_eq!(checkin["CoworkerFullName"], "Mara Quill");
    assert_eq!(checkin["Source"], 2);
    let (code, text) = demo.end();
    assert_eq!(code, Some(0));
    assert!(text.contains("through a real wire"), "{text}");
    is_a_whole_day(&text);
    let captured = text.lines().find(|line| line.contains(" captured, ")).expect("the frames");
    assert!(captured.contains(" 3 suspicious, 0 lost"), "{captured}");
    assert_eq!(entries(&temporary), Vec::<String>::new());
    assert!(!namespace.ip(&["link"]).contains("ckdemo"));
    assert!(!Path::new("/run/netns").join(format!("ckdemo{pid}")).exists());
}

#[test]
fn a_day_passes_without_privileges() {
    let (namespace, folder) = (Namespace::new("demo"), folder());
    let temporary = folder.path().join("tmp");
    let unprivileged = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let demo = Demo::start(&namespace, &temporary, &unprivileged, 20);
    let (api, password) = demo.api();
    demo.wait_for_line("07:41  in       Mara Quill");
    assert_eq!(first_checkin(&namespace, api, &password)["BusinessName"], "Harbour Hub");
    let (code, text) = demo.end();
    assert_eq!(code, Some(0));
    assert!(text.contains("directly through the frame decoder"), "{text}");
    is_a_whole_day(&text);
    assert_eq!(entries(&temporary), Vec::<String>::new());
}

#[test]
fn the_next_demo_cleans_up_after_a_killed_one_and_ends_with_ctrl_c() {
    let (namespace, folder) = (Namespace::new("demo"), folder());
    let temporary = folder.path().join("tmp");
    let killed = Demo::start(&namespace, &temporary, &[], 60);
    killed.wait_for_line("07:41  in");
    assert!(namespace.ip(&["link"]).contains("ckdemo"));
    killed.signal("-KILL");
    drop(killed);
    wait_for("the wire to go with its process", LIMIT, || {
        let links = namespace.ip(&["link"]);
        if links.contains("ckdemo") { Err(links) } else { Ok(()) }
    });
    let next = Demo::start(&namespace, &temporary, &[], 60);
    next.wait_for_line("07:41  in");
    assert_eq!(entries(&temporary).len(), 1, "only the demo's own folder is left");
    next.signal("-INT");
    let (code, _) = next.end();
    assert_eq!(code, Some(0));
    assert_eq!(entries(&temporary), Vec::<String>::new());
    assert!(!namespace.ip(&["link"]).contains("ckdemo"));
}
