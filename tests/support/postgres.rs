//! A private PostgreSQL on a free loopback port. Tests stop and start it at will; it is removed when dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection as _, postgres::PgConnection};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    broker::free_port,
    ledger::{Ledger, runtime},
    wait_for,
};

/// How long the server may take to start or to stop on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug)]
pub(crate) struct Postgres {
    dir: TempDir,
    programs: PathBuf,
    port: u16,
    connections: u32,
    /// Whether every statement is logged, with its name.
    logs: bool,
    encrypts: bool,
    child: Option<Child>,
}

/// Connections that use up the server's limit.
#[derive(Debug)]
pub(crate) struct Held {
    _connections: Vec<PgConnection>,
    _runtime: Runtime,
}

impl Postgres {
    /// Creates a new cluster and starts it.
    pub(crate) fn start() -> Self {
        Self::with_room_for(100)
    }

    /// The same, for this many connections. The administrator's three reserved ones are included.
    pub(crate) fn with_room_for(connections: u32) -> Self {
        Self::with(connections, false)
    }

    /// The same, with every statement logged.
    pub(crate) fn that_logs() -> Self {
        Self::with(100, true)
    }

    fn with(connections: u32, logs: bool) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let programs = programs();
        let mut server = Self { dir, programs, port: free_port(), connections, logs, encrypts: false, child: None };
        run(Command::new("chown").arg("postgres").arg(server.dir.path()));
        run(server
            .program("initdb")
            .args(["-A", "trust", "-U", "checkind", "-E", "UTF8", "--no-locale", "--no-sync", "-D"])
            .arg(server.dir.path().join("data")));
        server.resume();
        server
    }

    /// The URL for `[database]`.
    pub(crate) fn url(&self) -> String {
        format!("postgres://checkind@{}/postgres", self.address())
    }

    /// The address on which it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Asks this login for its password from now on; all others need none.
    pub(crate) fn asks_for_a_password(&self, login: &str) {
        let file = self.dir.path().join("data/pg_hba.conf");
        let rest = fs::read_to_string(&file).expect("the file of initdb");
        fs::write(&file, format!("host all {login} all scram-sha-256\n{rest}")).expect("written");
        Ledger::of(&self.url()).execute("SELECT pg_reload_conf()");
    }

    /// Replaces what `ALTER SYSTEM` has set with this line, as an administrator does on a server that is read-only.
    pub(crate) fn write_setting(&self, line: &str) {
        fs::write(self.dir.path().join("data/postgresql.auto.conf"), line).expect("written");
        Ledger::of(&self.url()).execute("SELECT pg_reload_conf()");
    }

    /// Opens idle connections, until dropped.
    pub(crate) fn held(&self, connections: u32) -> Held {
        let runtime = runtime();
        let connect = async || PgConnection::connect(&self.url()).await.expect("room for a connection");
        let held = (0..connections).map(|_| runtime.block_on(connect())).collect();
        Held { _connections: held, _runtime: runtime }
    }

    /// From its next start on, offers TLS with this certificate.
    pub(crate) fn encrypt(&mut self, certificate: &Path, key: &Path) {
        for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
            let file = self.dir.path().join("data").join(name);
            fs::copy(from, &file).expect("a copy of the file");
            // The server refuses a key that others can read.
            run(Command::new("chmod").arg("600").arg(&file));
            run(Command::new("chown").arg("postgres").arg(&file));
        }
        self.encrypts = true;
    }

    /// From its next start on, lets this login in with a certificate of this authority that has its name, and in no other
    /// way.
    pub(crate) fn asks_for_a_certificate(&self, login: &str, authority: &Path) {
        let data = self.dir.path().join("data");
        fs::copy(authority, data.join("root.crt")).expect("a copy of the file");
        run(Command::new("chown").arg("postgres").arg(data.join("root.crt")));
        fs::write(data.join("postgresql.auto.conf"), "ssl_ca_file = 'root.crt'\n").expect("written");
        let rules = data.join("pg_hba.conf");
        let rest = fs::read_to_string(&rules).expect("the file of initdb");
        let rule = format!("hostssl all {login} all cert\nhostnossl all {login} all reject\n");
        fs::write(&rules, rule + &rest).expect("written");
    }

    /// Starts the server again on the same port, with its data.
    pub(crate) fn resume(&mut self) {
        assert!(self.child.is_none(), "the server is already running");
        let folder = self.dir.path().display().to_string();
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.dir.path().join("data")).args(["-p", &self.port.to_string()]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("unix_socket_directories={folder}")]);
        command.args(["-c", &format!("max_connections={}", self.connections)]);
        if self.logs {
            command.args(["-c", "log_min_duration_statement=0", "-c", "log_line_prefix=%u "]);
        }
        if self.encrypts {
            command.args(["-c", "ssl=on", "-c", "log_connections=on"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(self.dir.path().join("log")).expect("a log file"));
        self.child = Some(command.spawn().expect("PostgreSQL starts"));
        wait_for("PostgreSQL to answer", LIMIT, || {
            let answer = Ledger::of(&self.url()).try_number("SELECT 1");
            answer.map(drop).map_err(|fault| format!("{fault}; {}", self.log()))
        });
    }

    /// Stops the server without a clean shutdown, as `pg_ctl stop -m immediate` does.
    pub(crate) fn crash(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = kill_process(Pid::from_child(&child), Signal::QUIT);
            child.wait().expect("its end");
        }
    }

    /// Copies the data of a server that does not run.
    pub(crate) fn save(&self) {
        self.replace("saved", "data");
    }

    /// Puts the saved copy in the place of the data of a server that does not run.
    pub(crate) fn restore(&self) {
        self.replace("data", "saved");
    }

    fn replace(&self, folder: &str, with: &str) {
        assert!(self.child.is_none(), "the server is running");
        let path = |name: &str| self.dir.path().join(name);
        run(Command::new("rm").arg("-rf").arg(path(folder)));
        run(Command::new("cp").arg("-a").arg(path(with)).arg(path(folder)));
    }

    /// A program of PostgreSQL under another user, because the server refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups", "--"]);
        command.arg(self.programs.join(name)).current_dir(self.dir.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

/// Debian's folder with the programs of the newest version.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = versions
        .max_by_key(|path| path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok()));
    let newest = newest.map(|path| path.join("bin")).filter(|path| Path::new(path).join("initdb").exists());
    newest.expect("PostgreSQL is missing; install it with: apt-get install postgresql")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|fault| panic!("{command:?} does not start: {fault}; install it"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
