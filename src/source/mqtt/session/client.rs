//! Sets up the client library, and interprets its errors.

use std::{error::Error, io, pin::Pin, sync::Arc, time::Duration};

use rumqttc::{
    AckMode, AsyncClient, ConnectReturnCode, ConnectionError, DisconnectReasonCode, EventLoop, MqttOptions,
    PersistedAckMode, PersistedSession, SessionStore, SessionStoreError, SessionStoreKey, StateError,
};
use secrecy::ExposeSecret;

use super::{
    life::{LinkFault, LinkPhase},
    stream::{BrokerWire, MQTT_5, advice},
    tls::TlsSetupError,
};
use crate::{base::tls_words::cause, mapping::LARGEST_PAYLOAD, settings, source::mqtt::session_state::SESSION_EXPIRY};

/// How many unacknowledged messages the broker may send: about a large batch. mosquitto exceeds it.
const RECEIVE_MAXIMUM: u16 = 1024;

/// The largest packet that the broker may send, in bytes: the largest payload with a long topic and properties. The
/// broker drops larger ones instead of sending them (MQTT 5, 3.1.2.11.4).
#[expect(clippy::cast_possible_truncation, reason = "a constant far below the limit")]
const LARGEST_PACKET: u32 = (LARGEST_PAYLOAD + 4096) as u32;

/// How often the connection is checked while nothing is sent. A connection that died without a word must be replaced
/// within 15 seconds, so this, `ANSWER` and the first pause before the next attempt are shorter together.
const KEEP_ALIVE_SECONDS: u16 = 6;

/// How long connecting may take, including TLS and login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests that may wait for the connection. The broker cannot reuse a packet id before we acknowledge it, so there
/// are never more acknowledgements than packet ids, and the queue cannot be full.
const REQUESTS: usize = 65_535 + 16;

/// How many acknowledgements are sent with one write; by default, the library sends each in a packet of its own.
const WRITE_BATCH: usize = 64;

/// How many messages of ours may be in flight. We publish none here, and the library allocates tables of this size.
const OUTGOING: u16 = 4;

/// The client cannot be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientSetupError {
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    #[error("cannot set up the MQTT client: {0}")]
    Client(String),
}

/// A client that has not connected yet.
///
/// `stand_in` is the topic of messages that [`super::filter`] replaces.
pub(super) async fn client(
    settings: &settings::Mqtt,
    stand_in: &Arc<str>,
) -> Result<(AsyncClient, EventLoop), ClientSetupError> {
    let address = (settings.host.clone(), settings.port);
    let mut options = MqttOptions::new(settings.client_id.clone(), address);
    options
        .set_keep_alive(KEEP_ALIVE_SECONDS)
        .set_connect_timeout(CONNECT_TIMEOUT)
        .set_clean_start(false)
        .set_session_expiry_interval(Some(u32::try_from(SESSION_EXPIRY.as_secs()).unwrap_or(u32::MAX)))
        .set_receive_maximum(Some(RECEIVE_MAXIMUM))
        .set_max_packet_size(Some(LARGEST_PACKET))
        .set_ack_mode(AckMode::Manual)
        .set_outgoing_inflight_upper_limit(OUTGOING)
        .set_max_request_batch(WRITE_BATCH)
        .set_session_store(NothingOutgoing);
    if let Some((username, password)) = &settings.login {
        options.set_credentials(username.clone(), password.expose_secret().to_owned());
    }
    let wire = BrokerWire::prepare(settings, stand_in, LARGEST_PACKET as usize).await?;
    options.set_socket_connector(move |address, _| wire.clone().connect(address));
    let built = AsyncClient::builder(options).capacity(REQUESTS).try_build();
    built.map_err(|fault| ClientSetupError::Client(fault.to_string()))
}

/// Why a connection ended, and what to do, or else the text of the error.
pub(super) fn fault(error: &ConnectionError, phase: LinkPhase, settings: &settings::Mqtt) -> (LinkFault, String) {
    if let ConnectionError::ConnectionRefused(code) = error {
        let is_old =
            matches!(code, ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion);
        return if is_old {
            (LinkFault::Refused, format!("it does not speak MQTT 5 ({code:?}); {MQTT_5}"))
        } else if needs_a_person(*code) {
            (LinkFault::Refused, format!("{code:?}; check client_id, username and password"))
        } else {
            (LinkFault::Other, format!("refused: {code:?}"))
        };
    }
    let fault = if let ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) = error
        && *reason_code == DisconnectReasonCode::SessionTakenOver
    {
        LinkFault::TakenOver
    } else if let ConnectionError::MqttState(StateError::ConnectionAborted | StateError::Io(_)) = error {
        LinkFault::Aborted
    } else {
        LinkFault::Other
    };
    let reason = reason(error);
    let unanswered = phase == LinkPhase::Connecting && (fault == LinkFault::Aborted || is_reset(reason));
    (fault, advice(reason, settings, unanswered).unwrap_or_else(|| error.to_string()))
}

/// The error from which its causes can be followed. The library does not name the cause of a packet that it could not
/// read.
fn reason(error: &ConnectionError) -> &(dyn Error + 'static) {
    if let ConnectionError::MqttState(StateError::Deserialization(cause)) = error { cause } else { error }
}

/// Whether the broker closed the connection while something of ours was unread.
fn is_reset(error: &(dyn Error + 'static)) -> bool {
    let kind = cause::<io::Error>(error).map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof))
}

/// Whether the broker will refuse us until a person changes something.
fn needs_a_person(code: ConnectReturnCode) -> bool {
    matches!(
        code,
        ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::NotAuthorized
            | ConnectReturnCode::Banned
            | ConnectReturnCode::BadAuthenticationMethod
            | ConnectReturnCode::BadClientId
            | ConnectReturnCode::ClientIdentifierNotValid
            | ConnectReturnCode::RefusedProtocolVersion
            | ConnectReturnCode::UnsupportedProtocolVersion
    )
}

/// Tells the client library that our side of the session has nothing in flight.
///
/// A broker that kept our session across our restart is right to resume it. The library refuses that, or refuses every
/// later SUBSCRIBE, unless it is given the client's half of the session (MQTT 5, 3.2.2-4). Ours is always empty: we
/// publish nothing, and received QoS 1 messages that are not acknowledged yet belong to the broker's half.
#[derive(Debug)]
struct NothingOutgoing;

impl SessionStore for NothingOutgoing {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> StoreFuture<'a, Option<PersistedSession>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: None,
            outgoing_inflight_upper_limit: Some(OUTGOING),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(std::future::ready(Ok(Some(session))))
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> StoreFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> StoreFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;
