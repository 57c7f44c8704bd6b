//! The public keys of the identity provider (RFC 7517), from a file or a URL. They are read again for a key that is not known,
//! and when they are an hour old, at most once a minute. What cannot be read leaves the keys as they are.

use std::{
    fmt::Write as _,
    io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::body::{Body, to_bytes};
use hyper::{Request, Response, StatusCode, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Mutex, MutexGuard},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::Url;

use crate::{
    base::{
        clock::{BootTime, Clock},
        health::{ConditionKind, Health},
    },
    settings::{KeysPlace, read_bounded},
};

/// The age at which the keys are read again: a key that the provider has withdrawn is out by then.
const OLD: Duration = Duration::from_hours(1);

/// The shortest time between two readings: strangers can name keys that do not exist.
const PAUSE: Duration = Duration::from_mins(1);

/// How long a reading may take; a request waits for it.
const FETCH: Duration = Duration::from_secs(5);

/// The largest set of keys, in bytes: hundreds of keys. A larger one is refused.
const LARGEST: usize = 256 * 1024;

/// The keys of the provider.
#[derive(Debug)]
pub(super) struct ProviderKeys {
    place: KeysPlace,
    health: Health,
    known: RwLock<KnownKeys>,
    /// When they were last read, or could not be. Held while they are read.
    tried: Mutex<Option<BootTime>>,
}

#[derive(Clone, Debug, Default)]
struct KnownKeys {
    keys: Arc<[Jwk]>,
    read: Option<BootTime>,
}

/// Why the keys cannot be read.
#[derive(Debug, thiserror::Error)]
enum KeysError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the host cannot be the name in a certificate")]
    Name,
    #[error("no certificate of an authority is installed on this machine")]
    NoAuthorities,
    #[error("{}", with_causes(.0))]
    Http(#[from] hyper::Error),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is cut off, or larger than {LARGEST} bytes")]
    Body,
    #[error("it is not a set of keys in JSON: {0}")]
    Form(#[from] serde_json::Error),
    #[error("it has no key for signatures that can be used")]
    Empty,
}

/// hyper's errors leave out their causes.
fn with_causes(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        write!(text, ": {cause}").expect("writing to a String cannot fail");
        next = cause.source();
    }
    text
}

impl ProviderKeys {
    pub(super) fn new(place: KeysPlace, health: Health) -> Self {
        Self { place, health, known: RwLock::default(), tried: Mutex::default() }
    }

    /// Reads them for the first time.
    pub(super) async fn prepare(&self, clock: &Clock) {
        self.read(self.tried.lock().await, clock).await;
    }

    /// The key with this id; of a provider with one key, that one.
    pub(super) async fn find(&self, id: Option<&str>, clock: &Clock) -> Option<Jwk> {
        let known = self.known();
        match (known.key(id), known.read) {
            (Some(key), Some(read)) if clock.now().boot.since(read) < OLD => return Some(key),
            // Others go on with the keys that they have.
            (Some(_), _) => {
                if let Ok(turn) = self.tried.try_lock() {
                    self.read(turn, clock).await;
                }
            }
            (None, _) => {
                let turn = self.tried.lock().await;
                // Another request may have read them meanwhile.
                if self.known().key(id).is_none() {
                    self.read(turn, clock).await;
                }
            }
        }
        self.known().key(id)
    }

    fn known(&self) -> KnownKeys {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn read(&self, mut tried: MutexGuard<'_, Option<BootTime>>, clock: &Clock) {
        let now = clock.now().boot;
        if tried.is_some_and(|last| now.since(last) < PAUSE) {
            return;
        }
        *tried = Some(now);
        let read = timeout(FETCH, fetch(&self.place)).await;
        let late = || KeysError::Io(io::Error::new(io::ErrorKind::TimedOut, "there was no answer in time"));
        match read.unwrap_or_else(|_| Err(late())) {
            Ok(keys) => {
                let read = KnownKeys { keys: keys.into(), read: Some(now) };
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = read;
                self.health.clear(ConditionKind::ProviderKeysUnavailable, "");
            }
            Err(error) => {
                let rest = if self.known().read.is_some() {
                    "the keys of before stay in force"
                } else {
                    "its tokens are refused until then"
                };
                let detail =
                    format!("the keys of the identity provider cannot be read from {}: {error}; {rest}", self.place);
                self.health.raise(ConditionKind::ProviderKeysUnavailable, "", detail);
            }
        }
    }
}

impl KnownKeys {
    fn key(&self, id: Option<&str>) -> Option<Jwk> {
        match (id, &*self.keys) {
            (Some(id), keys) => keys.iter().find(|key| key.common.key_id.as_deref() == Some(id)).cloned(),
            (None, [only]) => Some(only.clone()),
            (None, _) => None,
        }
    }
}

/// Reads the keys that are for signatures.
async fn fetch(place: &KeysPlace) -> Result<Vec<Jwk>, KeysError> {
    let text = match place {
        KeysPlace::File(path) => read_bounded(path, LARGEST as u64)?,
        KeysPlace::Url(url) => download(url).await?,
    };
    let keys = serde_json::from_slice::<JwkSet>(&text)?.keys.into_iter().filter(is_for_signatures);
    let keys: Vec<Jwk> = keys.collect();
    if keys.is_empty() { Err(KeysError::Empty) } else { Ok(keys) }
}

fn is_for_signatures(key: &Jwk) -> bool {
    let is_public = matches!(
        key.algorithm,
        AlgorithmParameters::RSA(_) | AlgorithmParameters::EllipticCurve(_) | AlgorithmParameters::OctetKeyPair(_)
    );
    is_public && key.common.public_key_use.as_ref().is_none_or(|is_for| *is_for == PublicKeyUse::Signature)
}

/// One GET, without following redirects.
async fn download(url: &Url) -> Result<Vec<u8>, KeysError> {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_matches(['[', ']']);
    let socket = TcpStream::connect((bare, url.port_or_known_default().unwrap_or(443))).await?;
    let response = if url.scheme() == "https" {
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| KeysError::Name)?;
        let connector = TlsConnector::from(Arc::new(client_config().await?));
        get(connector.connect(name, socket).await?, url).await?
    } else {
        get(socket, url).await?
    };
    Ok(response)
}

async fn get<S>(stream: S, url: &Url) -> Result<Vec<u8>, KeysError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let request = Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header(header::HOST, format!("{}{port}", url.host_str().unwrap_or_default()))
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Body::empty())
        .expect("the parts of a URL are those of a request");
    let exchange = async move {
        let response: Response<Incoming> = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(KeysError::Status(response.status()));
        }
        to_bytes(Body::new(response.into_body()), LARGEST).await.map(Vec::from).map_err(|_| KeysError::Body)
    };
    // The connection moves the exchange on. What ends it badly ends the exchange too, which then says so.
    let (exchanged, _end) = tokio::join!(exchange, connection);
    exchanged
}

/// Trusts the authorities of the system.
async fn client_config() -> Result<ClientConfig, KeysError> {
    let read = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await.map_err(io::Error::from)?;
    let mut roots = RootCertStore::empty();
    let (known, _) = roots.add_parsable_certificates(read.certs);
    if known == 0 {
        return Err(KeysError::NoAuthorities);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("the provider knows TLS 1.2 and 1.3");
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Now, WallTime};

    #[tokio::test]
    async fn keys_are_read_again_when_one_is_unknown_or_they_are_old_and_kept_when_that_fails() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("jwks.json");
        let write = |ids: &[&str]| {
            let key = |id: &&str| format!(r#"{{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"{id}"}}"#);
            let keys: Vec<String> = ids.iter().map(key).collect();
            std::fs::write(&path, format!(r#"{{"keys":[{}]}}"#, keys.join(","))).expect("written");
        };
        let boot = BootTime::from_duration(Duration::from_secs(100));
        let clock = Clock::manual(Now { wall: WallTime::from_millis(0), boot });
        let health = Health::new(clock.clone());
        let keys = ProviderKeys::new(KeysPlace::File(path.clone()), health.clone());
        let has = async |id: Option<&str>| keys.find(id, &clock).await.is_some();
        let is_raised = || health.is_raised(ConditionKind::ProviderKeysUnavailable, "");

        write(&["a"]);
        assert!(has(Some("a")).await && has(None).await && !is_raised());
        write(&["a", "b"]);
        assert!(!has(Some("b")).await, "read a moment ago");
        clock.advance(PAUSE);
        assert!(has(Some("b")).await && !has(None).await);

        std::fs::write(&path, "{").expect("written");
        clock.advance(PAUSE);
        assert!(!has(Some("c")).await && is_raised());
        clock.advance(OLD);
        assert!(has(Some("a")).await && is_raised(), "the keys of before");
        write(&["c"]);
        assert!(has(Some("a")).await, "not before a minute is over");
        clock.advance(PAUSE);
        assert!(!has(Some("a")).await && has(Some("c")).await && !is_raised(), "withdrawn");
    }
}
