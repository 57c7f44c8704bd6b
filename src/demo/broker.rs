//! An MQTT broker inside this process, on a free port of loopback, for as long as the process lives.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use rumqttd::Config;
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::TcpStream, time};

use crate::base::random;

/// Who may log in.
pub(super) const USER: &str = "demo";

/// How often a port is tried that somebody else took in the meantime.
const ATTEMPTS: u32 = 3;

/// How long the broker may take to listen.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Where the broker is.
#[derive(Debug)]
pub(super) struct Broker {
    /// On 127.0.0.1.
    pub(super) port: u16,
    /// Of [`USER`]; drawn anew each time, because everybody on this machine can reach the port.
    pub(super) password: SecretString,
}

impl Broker {
    /// Starts the broker on threads of its own, which end with the process: it offers no other way.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let password = SecretString::from(random::uuid().simple().to_string());
        for _ in 0..ATTEMPTS {
            let port = free_port().context("no port is free on 127.0.0.1")?;
            let config = toml::from_str(&configuration(port, &password)).context("the broker is misconfigured")?;
            run(config)?;
            if is_listening(port).await {
                return Ok(Self { port, password });
            }
        }
        bail!("the embedded broker does not listen");
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let mut broker = rumqttd::Broker::new(config);
    let thread = thread::Builder::new().name("broker".to_owned()).spawn(move || {
        if let Err(error) = broker.start() {
            tracing::error!(%error, "the embedded broker ended");
        }
    });
    thread.map(drop).context("the broker's thread cannot be started")
}

async fn is_listening(port: u16) -> bool {
    let listening = async {
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(TIME_LIMIT, listening).await.is_ok()
}

/// A port that nobody listens on now.
pub(super) fn free_port() -> io::Result<u16> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.local_addr().map(|address| address.port())
}

/// A few clients, small messages, a few megabytes of memory.
fn configuration(port: u16, password: &SecretString) -> String {
    let password = password.expose_secret();
    format!(
        r#"
id = 0
[router]
id = 0
max_connections = 16
max_outgoing_packet_count = 200
max_segment_size = 1048576
max_segment_count = 4
[v5.demo]
name = "broker-v5"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.demo.connections]
connection_timeout_ms = 5000
max_payload_size = 262144
max_inflight_count = 200
dynamic_filters = true
[v5.demo.connections.auth]
{USER} = "{password}"
"#
    )
}
