//! A private PgBouncer in transaction mode on a free loopback port: two connections to the server for each database and
//! login, which change owner with every transaction. Stopped when dropped. Also the rights that the README grants a
//! gateway.
//!
//! The store's own tests use this file too, so it must not depend on others of this folder.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

/// The pause between two checks whether it listens.
const PAUSE: Duration = Duration::from_millis(5);

/// The most checks: half a minute, for a busy machine.
const TRIES: u32 = 6000;

/// A running pooler.
#[derive(Debug)]
pub(crate) struct Pooler {
    dir: TempDir,
    port: u16,
    child: Child,
}

impl Pooler {
    /// Starts one in front of the server at this address (`127.0.0.1:5432`), for these logins, which share a password.
    pub(crate) fn start(server: &str, logins: &[&str], password: &str) -> Self {
        let (host, server_port) = server.split_once(':').expect("an address with a port");
        let free = TcpListener::bind(("127.0.0.1", 0)).expect("a free port on loopback");
        let port = free.local_addr().expect("its address").port();
        drop(free);
        let dir = tempfile::tempdir().expect("a temporary directory");
        // PgBouncer refuses to run as root, and its user must be able to read its files.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("its rights");
        let folder = dir.path().display();
        // PgBouncer ignores none of a client's start-up parameters, and keeps no session state.
        let settings = format!(
            "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users\npool_mode = transaction\n\
             max_client_conn = 100\ndefault_pool_size = 2\n"
        );
        let users: Vec<String> = logins.iter().map(|login| format!("\"{login}\" \"{password}\"\n")).collect();
        fs::write(dir.path().join("users"), users.concat()).expect("the users file");
        fs::write(dir.path().join("ini"), settings).expect("the settings");
        let log = fs::File::create(dir.path().join("log")).expect("a log file");
        let child =
            command().arg(dir.path().join("ini")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.expect("pgbouncer does not start; install it with: apt-get install pgbouncer");
        let pooler = Self { dir, port, child };
        for tries in 0.. {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            assert!(tries < TRIES, "pgbouncer does not listen: {}", pooler.log());
            thread::sleep(PAUSE);
        }
        pooler
    }

    /// The address on which it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().expect("its end");
        }
    }
}

/// The README's statements that grant a gateway's login its rights.
pub(crate) fn grants(login: &str) -> Vec<String> {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next());
    let statements = blocks.flat_map(|block| block.split(';')).map(str::trim);
    let grants = statements.filter(|statement| statement.starts_with("GRANT ")).map(|grant| {
        let what = grant.strip_suffix(" TO checkind").expect("a grant for the gateways");
        format!("{what} TO {login}")
    });
    grants.collect()
}

fn command() -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new("/usr/sbin/pgbouncer");
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--", "/usr/sbin/pgbouncer"]);
    command
}
