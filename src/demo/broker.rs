//! An MQTT broker inside this process, on a free loopback port, until the process ends.

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

/// The only user that may log in.
pub(super) const USER: &str = "demo";

/// How many ports to try: another process may take a free port before the broker does.
const ATTEMPTS: u32 = 3;

/// How long the broker may take to start listening.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// A running broker.
#[derive(Debug)]
pub(super) struct Broker {
    /// The port on 127.0.0.1.
    pub(super) port: u16,
    /// The password of [`USER`], random for each run: every user of this machine can reach the port.
    pub(super) password: SecretString,
}

impl Broker {
    /// Starts the broker in its own threads, which end with the process: rumqttd has no other way to stop them.
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
        bail!("the embedded broker did not start listening");
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let mut broker = rumqttd::Broker::new(config);
    let thread = thread::Builder::new().name("broker".to_owned()).spawn(move || {
        if let Err(error) = broker.start() {
            tracing::error!(%error, "the embedded broker ended");
        }
    });
    thread.map(drop).context("cannot start the broker's thread")
}

async fn is_listening(port: u16) -> bool {
    let listening = async {
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(TIME_LIMIT, listening).await.is_ok()
}

/// Returns a port that is free now.
pub(super) fn free_port() -> io::Result<u16> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.local_addr().map(|address| address.port())
}

/// The broker's configuration: limits for a few clients and small messages, in a few megabytes of memory.
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
