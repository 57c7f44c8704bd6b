//! A private mosquitto on a free loopback port: plain, with passwords, or with TLS. Tests restart and kill it at will.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::wait_for;

/// How to configure the broker.
#[derive(Clone, Debug, Default)]
pub(crate) struct BrokerOptions {
    /// Whether sessions and queues survive a restart.
    pub(crate) persistence: bool,
    /// Whether clients must log in, as `daemon` with `daemonpw` or as `door` with `doorpw`.
    pub(crate) passwords: bool,
    /// How the broker encrypts.
    pub(crate) tls: BrokerTls,
    /// Whether to keep only 1,000 messages for a disconnected client, mosquitto's default; otherwise it keeps all of
    /// them.
    pub(crate) short_queue: bool,
    /// More lines of configuration.
    pub(crate) lines: Vec<String>,
}

/// How the broker encrypts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BrokerTls {
    /// Without TLS.
    #[default]
    Off,
    /// With a certificate of a private authority for `localhost` and 127.0.0.1.
    Server,
    /// In addition, clients need a certificate of the same authority.
    Mutual,
}

/// A running broker, stopped when dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    dir: TempDir,
    options: BrokerOptions,
    /// The port on 127.0.0.1.
    pub(crate) port: u16,
    child: Option<Child>,
}

/// Returns a port on which no server listens now, and which was not returned before. It is below those that Linux uses for
/// outgoing connections (from 32768 on): one of these would take the port of a server that a test has stopped for a while.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const MANY: u32 = 12_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let ports = (0..MANY).map(|_| {
        // Processes that run at the same time begin at different places.
        let place = (std::process::id() * 97 + GIVEN.fetch_add(1, Relaxed)) % MANY;
        u16::try_from(FIRST + place).expect("a port")
    });
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.into_iter().find(is_free).expect("a free port on loopback")
}

impl Broker {
    /// Starts a plain broker, which forgets everything when it ends.
    pub(crate) fn plain() -> Self {
        Self::start(BrokerOptions::default())
    }

    /// Starts a broker on a free port.
    pub(crate) fn start(options: BrokerOptions) -> Self {
        Self::start_on(free_port(), options)
    }

    /// Starts a broker on a given port.
    pub(crate) fn start_on(port: u16, options: BrokerOptions) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        if options.tls != BrokerTls::Off {
            authority(dir.path(), "ca");
            certificate(dir.path(), "ca", "server", "localhost");
            certificate(dir.path(), "ca", "client", "daemon");
            authority(dir.path(), "other");
        }
        if options.passwords {
            fs::write(dir.path().join("passwd"), "").expect("the password file");
            for (user, password) in [("daemon", "daemonpw"), ("door", "doorpw")] {
                run(Command::new("mosquitto_passwd").arg("-b").arg(dir.path().join("passwd")).args([user, password]));
            }
        }
        let mut broker = Self { dir, options, port, child: None };
        fs::write(broker.file("mosquitto.conf"), broker.configuration()).expect("the configuration");
        broker.resume();
        broker
    }

    /// A file of the broker: `ca.crt`, `other.crt` (another authority), `client.crt`, `client.key`, `log`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// Starts the broker again on the same port, with what it kept.
    pub(crate) fn resume(&mut self) {
        assert!(self.child.is_none(), "the broker is already running");
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(self.file("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto does not start; install it with: apt-get install mosquitto mosquitto-clients");
        self.child = Some(child);
        wait_for("mosquitto to listen", Duration::from_secs(20), || {
            TcpStream::connect(("127.0.0.1", self.port)).map(drop).map_err(|fault| format!("{fault}; {}", self.log()))
        });
    }

    /// Stops the broker as `systemctl stop` would. It writes its database if it has one.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            run(Command::new("kill").arg(child.id().to_string()));
            child.wait().expect("the broker's exit");
        }
    }

    fn configuration(&self) -> String {
        let (dir, options) = (self.dir.path().display(), &self.options);
        // Started as root, mosquitto would switch to a user who cannot read the test's directory.
        let mut text = format!(
            "listener {} 127.0.0.1\nuser root\nset_tcp_nodelay true\nallow_anonymous {}\nlog_dest file {dir}/log\n\
             log_timestamp false\npid_file {dir}/pid\n",
            self.port, !options.passwords,
        );
        if !options.short_queue {
            text.push_str("max_queued_messages 0\n");
        }
        if options.persistence {
            write!(text, "persistence true\npersistence_location {dir}/\n").expect("writing to a String cannot fail");
        }
        if options.passwords {
            writeln!(text, "password_file {dir}/passwd").expect("writing to a String cannot fail");
        }
        if options.tls != BrokerTls::Off {
            write!(text, "cafile {dir}/ca.crt\ncertfile {dir}/server.crt\nkeyfile {dir}/server.key\n")
                .expect("writing to a String cannot fail");
        }
        if options.tls == BrokerTls::Mutual {
            text.push_str("require_certificate true\n");
        }
        for line in &options.lines {
            writeln!(text, "{line}").expect("writing to a String cannot fail");
        }
        text
    }

    fn publisher(&self) -> Command {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if self.options.passwords {
            command.args(["-u", "door", "-P", "doorpw"]);
        }
        if self.options.tls != BrokerTls::Off {
            command.arg("--cafile").arg(self.file("ca.crt"));
        }
        if self.options.tls == BrokerTls::Mutual {
            command.arg("--cert").arg(self.file("client.crt")).arg("--key").arg(self.file("client.key"));
        }
        command
    }

    /// Publishes one message, which may contain any bytes.
    pub(crate) fn publish(&self, topic: &str, payload: &[u8], qos: u8) {
        self.publish_with(topic, payload, qos, &[]);
    }

    /// Publishes one retained message.
    pub(crate) fn publish_retained(&self, topic: &str, payload: &[u8]) {
        self.publish_with(topic, payload, 1, &["-r"]);
    }

    /// Publishes a file of any size as one message with QoS 1.
    pub(crate) fn publish_file(&self, topic: &str, file: &Path) {
        let mut command = self.publisher();
        command.args(["-t", topic, "-q", "1", "-f"]).arg(file);
        feed(command, b"");
    }

    /// Sends a signal to the broker.
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("it runs");
    }

    /// Takes over a client's session and discards it with all queued messages, as any client that may log in can.
    pub(crate) fn wipe_session(&self, client: &str) {
        let mut command = Command::new("mosquitto_sub");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-i", client, "-t", "x", "-E"]);
        run(&mut command);
    }

    fn publish_with(&self, topic: &str, payload: &[u8], qos: u8, more: &[&str]) {
        let mut command = self.publisher();
        command.args(["-t", topic, "-q", &qos.to_string()]).args(more);
        // mosquitto_pub has a separate option for an empty message.
        command.arg(if payload.is_empty() { "-n" } else { "-s" });
        feed(command, payload);
    }

    /// Publishes lines as messages over one connection, in portions, with a `pause` after each.
    pub(crate) fn publish_portions(
        &self,
        topic: &str,
        portions: impl IntoIterator<Item = Vec<String>>,
        pause: Duration,
    ) {
        let mut command = self.publisher();
        command.args(["-t", topic, "-q", "1", "-l"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("mosquitto_pub starts");
        let mut input = child.stdin.take().expect("its input");
        for portion in portions {
            let text: String = portion.into_iter().map(|line| line + "\n").collect();
            input.write_all(text.as_bytes()).expect("the payload is written");
            // Not a wait for a state, but the pace of the stream.
            std::thread::sleep(pause);
        }
        drop(input);
        assert!(child.wait().expect("its exit").success(), "mosquitto_pub failed");
    }

    /// A subscriber with a persistent session, which writes each message as a line, for comparison with checkind's.
    pub(crate) fn subscriber(&self, topic: &str, output: fs::File) -> Subscriber {
        let command = || {
            let mut command = Command::new("mosquitto_sub");
            command.args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-t",
                topic,
                "-q",
                "1",
                "-i",
                "other",
                "-c",
            ]);
            command.stdin(Stdio::null());
            command
        };
        // First only subscribe: from then on the broker keeps messages for this session.
        run(command().arg("-E"));
        Subscriber(command().stdout(output).spawn().expect("mosquitto_sub starts"))
    }

    /// Publishes each line as a message, in order, over one connection.
    pub(crate) fn publish_lines(&self, topic: &str, lines: impl IntoIterator<Item = String>, qos: u8) {
        // mosquitto_pub exits early, without an error, if more messages are under way than there are packet ids.
        const AT_ONCE: usize = 50_000;
        let lines: Vec<String> = lines.into_iter().map(|line| line + "\n").collect();
        for part in lines.chunks(AT_ONCE) {
            let mut command = self.publisher();
            command.args(["-t", topic, "-q", &qos.to_string(), "-l"]);
            feed(command, part.concat().as_bytes());
        }
    }
}

/// Another client of the broker; ends when dropped.
#[derive(Debug)]
pub(crate) struct Subscriber(Child);

impl Subscriber {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it runs");
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

fn feed(mut command: Command, input: &[u8]) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("mosquitto_pub does not start; install it with: apt-get install mosquitto-clients");
    child.stdin.take().expect("its input").write_all(input).expect("the payload is written");
    assert!(child.wait().expect("its exit").success(), "mosquitto_pub failed");
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|fault| panic!("{command:?} does not start: {fault}; install it"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Creates `NAME.crt` and `NAME.key` of a certificate authority.
fn authority(dir: &Path, name: &str) {
    run(Command::new("openssl")
        .current_dir(dir)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"])
        .args(["-subj", &format!("/CN={name}"), "-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")]));
}

/// Creates `NAME.crt` and `NAME.key`, signed by the authority, for `localhost` and 127.0.0.1.
fn certificate(dir: &Path, authority: &str, name: &str, subject: &str) {
    fs::write(dir.join("san"), "subjectAltName=DNS:localhost,IP:127.0.0.1").expect("the extension file");
    run(Command::new("openssl")
        .current_dir(dir)
        .args(["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", &format!("/CN={subject}"), "-keyout", &format!("{name}.key"), "-out", &format!("{name}.csr")]));
    run(Command::new("openssl")
        .current_dir(dir)
        .args(["x509", "-req", "-days", "30", "-CAcreateserial", "-extfile", "san"])
        .args(["-in", &format!("{name}.csr"), "-out", &format!("{name}.crt")])
        .args(["-CA", &format!("{authority}.crt"), "-CAkey", &format!("{authority}.key")]));
}
