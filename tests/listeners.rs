//! Where the API listens: with TLS, and on a Unix socket.

use std::{
    fs,
    io::{self, Read as _, Write},
    net::TcpStream,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    sync::Arc,
    time::Duration,
};

use checkind::base::clock::Clock;
use rustix::process::Signal;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::support::{
    certificates::Certificates,
    daemon::{BINARY, Daemon, Home, site},
    http::{Answer, parse},
    wait_for,
};

const LIMIT: Duration = Duration::from_secs(60);

/// A gateway with a certificate of an authority that its clients trust.
struct Encrypted {
    home: Home,
    certificates: Certificates,
    client: Arc<ClientConfig>,
}

impl Encrypted {
    fn new() -> Self {
        let certificates = Certificates::new();
        certificates.self_signed("ca", "/CN=ours", &[]);
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(certificates.file("ca")).expect("a certificate");
        roots.add(authority).expect("an authority");
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let client = client.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots);
        let mut client = client.with_no_client_auth();
        // A resumed session shows the certificate of the first one.
        client.resumption = Resumption::disabled();
        let keys = "tls_cert_file = \"api.pem\"\ntls_key_file = \"api-key.pem\"\n";
        let home = Home::new(&format!("{keys}{}", site("")));
        let encrypted = Self { home, certificates, client: Arc::new(client) };
        encrypted.install("first");
        encrypted
    }

    /// Makes a certificate and puts it into the place of the one before.
    fn install(&self, name: &str) {
        self.certificates.signed("ca", name, Some("DNS:localhost"));
        fs::copy(self.certificates.key(name), self.home.path("api-key.pem")).expect("copied");
        fs::copy(self.certificates.file(name), self.home.path("api.pem")).expect("copied");
    }

    fn connect(&self, daemon: &Daemon) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let name = "localhost".try_into().expect("a name");
        let session = ClientConnection::new(Arc::clone(&self.client), name).expect("a session");
        let socket = TcpStream::connect(daemon.api())?;
        socket.set_read_timeout(Some(LIMIT))?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    fn get(&self, daemon: &Daemon, path: &str) -> Answer {
        ask(&mut self.connect(daemon).expect("a handshake"), path, "")
    }

    /// Whether a new connection is shown this certificate.
    fn is_shown(&self, daemon: &Daemon, name: &str) -> bool {
        let stream = self.connect(daemon).expect("a handshake");
        let shown = stream.conn.peer_certificates().expect("a certificate")[0].clone();
        shown == CertificateDer::from_pem_file(self.certificates.file(name)).expect("a certificate")
    }
}

/// One request on a connection of its own.
fn ask(stream: &mut (impl io::Read + Write), path: &str, more: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).expect("the request is sent");
    let mut answer = String::new();
    // A server that ends TLS without a farewell has still said all.
    let _end = stream.read_to_string(&mut answer);
    parse(&answer)
}

#[test]
fn a_client_that_checks_the_certificate_is_served() {
    let encrypted = Encrypted::new();
    let daemon = encrypted.home.start();
    assert_eq!(encrypted.get(&daemon, "/healthz").status, 200);
    let refused = encrypted.get(&daemon, "/api/spaces/checkins");
    assert_eq!((refused.status, refused.header("content-type")), (401, "application/json; charset=utf-8"));
    let check = encrypted.home.run(&["check-config"]);
    assert!(String::from_utf8_lossy(&check.stdout).contains("https://127.0.0.1:0"), "{check:?}");
    // Beyond loopback the certificate is enough.
    let mut command = encrypted.home.command(&["check-config"]);
    let open = command.env("CHECKIND__API__LISTEN", "0.0.0.0:8443").output().expect("the binary starts");
    assert!(open.status.success(), "{open:?}");

    // What is no TLS is not answered, and harms no other.
    let mut plain = TcpStream::connect(daemon.api()).expect("it listens");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    let _end = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(encrypted.get(&daemon, "/healthz").status, 200);
    assert_eq!(daemon.complaints(), Vec::<String>::new());
}

#[test]
fn a_renewed_certificate_is_taken_and_a_bad_one_is_not() {
    let encrypted = Encrypted::new();
    let daemon = encrypted.home.start();
    assert!(encrypted.is_shown(&daemon, "first"));
    let mut kept = encrypted.connect(&daemon).expect("a handshake");

    encrypted.install("second");
    daemon.signal(Signal::HUP);
    let shown = |name: &'static str| {
        wait_for(name, LIMIT, || if encrypted.is_shown(&daemon, name) { Ok(()) } else { Err(daemon.log()) });
    };
    shown("second");
    assert_eq!(ask(&mut kept, "/healthz", "").status, 200, "an open connection goes on");

    // A key that does not belong to the certificate.
    fs::copy(encrypted.certificates.key("first"), encrypted.home.path("api-key.pem")).expect("copied");
    daemon.signal(Signal::HUP);
    let raised = |is_raised: bool| {
        wait_for("the condition", LIMIT, || {
            let ready = encrypted.get(&daemon, "/readyz").body;
            if ready.contains("certificate_refused") == is_raised { Ok(ready) } else { Err(ready) }
        })
    };
    assert!(raised(true).contains("must belong together"));
    assert!(encrypted.is_shown(&daemon, "second"));

    // A change is noticed without a word.
    encrypted.install("third");
    shown("third");
    raised(false);
}

#[test]
fn a_slow_handshake_holds_up_no_other_and_ends() {
    let encrypted = Encrypted::new();
    let daemon = encrypted.home.start();
    let clock = Clock::system();
    let began = clock.now().boot;
    let silent: Vec<TcpStream> = (0..130).map(|_| TcpStream::connect(daemon.api()).expect("it listens")).collect();
    assert_eq!(encrypted.get(&daemon, "/healthz").status, 200);
    assert!(clock.now().boot.since(began) < Duration::from_secs(10), "it did not wait for them");
    for mut stream in silent {
        stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
        let mut end = [0];
        assert!(matches!(stream.read(&mut end), Ok(0) | Err(_)), "closed");
    }
    assert!(clock.now().boot.since(began) < Duration::from_secs(40), "in ten seconds");
    assert_eq!(encrypted.get(&daemon, "/healthz").status, 200);
}

/// A daemon whose API is on a Unix socket in its folder.
fn on_socket(home: &Home) -> Daemon {
    let listen = format!("unix:{}", home.path("api.sock").display());
    home.spawn_by(&[BINARY], &[("CHECKIND__API__LISTEN", &listen)])
}

#[test]
fn a_unix_socket_serves_its_group_and_goes_with_the_daemon() {
    let home = Home::new(&site(""));
    let path = home.path("api.sock");
    // One that a daemon left behind when it was killed.
    drop(UnixListener::bind(&path).expect("a socket"));
    let daemon = on_socket(&home);
    daemon.wait_for_line("the API is listening");
    let mode = fs::metadata(&path).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let get = |path_and_query: &str, more: &str| {
        ask(&mut UnixStream::connect(&path).expect("it listens"), path_and_query, more)
    };
    assert_eq!(get("/healthz", "").status, 200);
    // A client is one of this machine, and a proxy is believed about its client.
    for (more, peer) in [("", "127.0.0.1"), ("X-Forwarded-For: 198.51.100.7, 203.0.113.9\r\n", "203.0.113.9")] {
        assert_eq!(get("/api/spaces/checkins", &format!("Authorization: Bearer no\r\n{more}")).status, 401);
        daemon.wait_for_line(&format!("API credential refused peer={peer} "));
    }

    let second = on_socket(&home);
    let (status, log) = second.wait();
    assert!(!status.success() && log.contains("another process listens on it"), "{log}");
    assert_eq!(get("/healthz", "").status, 200, "the first one still has it");

    daemon.signal(Signal::TERM);
    let (status, log) = daemon.wait();
    assert!(status.success(), "{log}");
    assert!(!path.exists(), "{log}");

    fs::write(&path, "precious").expect("a file");
    let (status, log) = on_socket(&home).wait();
    assert!(!status.success() && log.contains("a file of this name exists"), "{log}");
    assert!(!fs::metadata(&path).expect("still there").file_type().is_socket());
}
