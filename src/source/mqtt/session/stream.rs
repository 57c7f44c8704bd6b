//! Connects to the broker: TCP, TLS with the certificates of the settings, and the filter of its packets.
//!
//! The client library could do TLS itself, but the filter must read what was decrypted.

use std::{io, path::Path, sync::Arc, time::Duration};

use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    filter::{PacketFilter, StreamFault},
    tls::{TlsSetupError, client_config},
};
use crate::{
    base::tls_words::{TlsPeer, cause, tls_error, tls_words},
    settings,
};

/// How long one address of the broker's name may take to accept, so there is time for the next.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// How long what we sent may stay unacknowledged by the broker's machine before the kernel ends the connection
/// (`TCP_USER_TIMEOUT`, tcp(7)), in milliseconds. Our own limits are usually faster; this one also holds while the
/// connection is not read.
const UNACKNOWLEDGED: u32 = 12_000;

/// The kernel's own checks of an idle connection: after this long, this often, this many (tcp(7)).
const PROBES: (Duration, Duration, u32) = (Duration::from_secs(8), Duration::from_secs(2), 2);

/// What the client library may read from and write to.
trait ByteStream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> ByteStream for T {}

/// How to connect to the broker.
#[derive(Clone)]
pub(super) struct BrokerWire {
    /// Absent without TLS.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The topic that replaces that of a malformed message.
    stand_in: Arc<str>,
    /// The largest packet that the broker may send, in bytes.
    largest: usize,
}

impl BrokerWire {
    /// Reads the certificates.
    pub(super) async fn prepare(
        settings: &settings::Mqtt,
        stand_in: &Arc<str>,
        largest: usize,
    ) -> Result<Self, TlsSetupError> {
        let tls = match &settings.tls {
            Some(files) => {
                let name = ServerName::try_from(settings.host.clone());
                let name = name.map_err(|_| TlsSetupError::Host(settings.host.clone()))?;
                Some((TlsConnector::from(client_config(files).await?), name))
            }
            None => None,
        };
        Ok(Self { tls, stand_in: Arc::clone(stand_in), largest })
    }

    /// Connects to an address, `host:port`.
    pub(super) async fn connect(
        self,
        address: String,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> {
        let socket = tcp(address).await?;
        let encrypted = self.tls.is_some();
        let wire: Box<dyn ByteStream> = match self.tls {
            None => Box::new(socket),
            Some((connector, name)) => match connector.connect(name, socket).await {
                Ok(stream) => Box::new(stream),
                Err(fault) if fault.get_ref().is_none_or(|inner| inner.downcast_ref::<rustls::Error>().is_none()) => {
                    return Err(io::Error::new(fault.kind(), StreamFault::ClosedInHandshake));
                }
                Err(fault) => return Err(fault),
            },
        };
        Ok(PacketFilter::new(wire, self.largest, self.stand_in, encrypted))
    }
}

/// Connects to the first address of a name that accepts, and lets the kernel give up a peer that is gone.
async fn tcp(address: String) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the broker's name has no address");
    for address in lookup_host(address).await? {
        match timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let (idle, interval, count) = PROBES;
                sockopt::set_socket_keepalive(&stream, true)?;
                sockopt::set_tcp_keepidle(&stream, idle)?;
                sockopt::set_tcp_keepintvl(&stream, interval)?;
                sockopt::set_tcp_keepcnt(&stream, count)?;
                sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED)?;
                return Ok(stream);
            }
            Ok(Err(fault)) => last = fault,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")),
        }
    }
    Err(last)
}

/// What an operator has to change, if that is known, when the connection to the broker fails. `unanswered`
/// says that the broker closed it before it answered our CONNECT.
pub(super) fn advice(
    error: &(dyn std::error::Error + 'static),
    settings: &settings::Mqtt,
    unanswered: bool,
) -> Option<String> {
    let settings::Mqtt { host, port, tls, .. } = settings;
    let plain = format!("write the broker's port for TLS (often 8883) in url, or mqtt:// if port {port} has none");
    let cert_file = tls.as_ref().and_then(|tls| tls.client.as_ref()).map(|(file, _)| file.as_path());
    let peer = TlsPeer {
        what: "the broker",
        host,
        ca_file: tls.as_ref().and_then(|tls| tls.ca_file.as_deref()),
        cert_file,
        pins: true,
        plain: &plain,
    };
    if let Some(fault) = tls_error(error) {
        return Some(tls_words(fault, &peer));
    }
    match cause::<StreamFault>(error) {
        Some(StreamFault::ClosedInHandshake) => {
            return Some(format!("the broker closed the connection during the TLS handshake; {plain}"));
        }
        Some(StreamFault::SpeaksTls) => {
            return Some(format!("the broker speaks TLS on port {port}; write mqtts:// in url, or its plain port"));
        }
        Some(StreamFault::OldProtocol) => return Some(format!("the broker speaks only MQTT 3.1.1; {MQTT_5}")),
        Some(StreamFault::NotMqtt) => {
            return Some(format!("what answers on port {port} does not speak MQTT; correct the port in url"));
        }
        None if unanswered => {}
        None => return None,
    }
    let why = match (tls.is_some(), cert_file) {
        (false, _) => "the port may be for TLS (write mqtts:// in url)",
        (true, None) => "the broker may require a client certificate (set cert_file and key_file)",
        (true, Some(file)) => {
            return Some(format!(
                "the broker closed the connection without an answer: it may refuse the client certificate in {}, or \
                 speak only MQTT 3.1.1 ({MQTT_5}); see its log",
                Path::new(file).display()
            ));
        }
    };
    Some(format!(
        "the broker closed the connection without an answer: {why}, or it may speak only MQTT 3.1.1 ({MQTT_5}); see \
         its log"
    ))
}

/// Which brokers have what we need.
pub(super) const MQTT_5: &str = "checkind needs MQTT 5, which mosquitto has since 1.6, EMQX since 3.0, HiveMQ since 4.0, \
                                 VerneMQ since 1.6 and RabbitMQ since 3.13";
