//! The validated configuration, section by section.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use secrecy::SecretString;
use url::Url;

use crate::{
    access::Role,
    mapping::Mapping,
    policy::{door::Door, site::Site},
    settings::{capture::Capture, zones::Zones},
};

/// The validated configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The time zone data.
    pub zones: Zones,
    /// `[database]`.
    pub database: Database,
    /// `[site]`; absent in an instance that only serves records.
    pub site: Option<Site>,
    /// `[mqtt]`; absent if no door controller speaks MQTT.
    pub mqtt: Option<Mqtt>,
    /// `[[source]]`, compiled with its preset, in the order of the files.
    pub sources: Vec<Arc<Mapping>>,
    /// `[[door]]`, in the order of the files; the first whose pattern matches counts.
    pub doors: Vec<Door>,
    /// `[[capture]]`.
    pub captures: Vec<Capture>,
    /// `[spool]`; absent with SQLite, whose file is on the same disk, and in an instance that only serves records.
    pub spool: Option<SpoolSettings>,
    /// `[lease]`; absent if the site has one gateway.
    pub lease: Option<LeaseSettings>,
    /// `[api]`; absent if the API is switched off.
    pub api: Option<Api>,
    /// `[sync]`; absent if the directory is not read from the platform.
    pub sync: Option<SyncSettings>,
    /// `[jwt]`; absent if only users of this program call the API.
    pub jwt: Option<Box<JwtSettings>>,
    /// `[retention]`.
    pub retention: Retention,
}

impl Settings {
    /// The file on this machine with data that must not be lost, and what it is: the SQLite database or, with a shared
    /// one, the spool.
    pub fn data_file(&self) -> Option<(&'static str, &Path)> {
        let spool = self.spool.as_ref().map(|spool| ("spool", spool.path.as_path()));
        self.database.file().map(|file| ("database", file)).or(spool)
    }
}

/// `[database]`.
#[derive(Debug, Clone)]
pub enum Database {
    /// `sqlite:PATH`.
    Sqlite {
        /// The file; its folder must exist and be writable.
        path: PathBuf,
    },
    /// `postgres://…`.
    Postgres {
        /// The URL as written, without a password.
        url: String,
        /// From `password_file`.
        password: Option<SecretString>,
        /// How the connection is protected.
        tls: DatabaseTls,
    },
}

impl Database {
    /// The SQLite file with the records.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite { path } => Some(path),
            Self::Postgres { .. } => None,
        }
    }
}

/// How the connection to PostgreSQL is protected. The files are read again for each connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseTls {
    /// `tls`.
    pub mode: TlsMode,
    /// `ca_file`, `cert_file` and `key_file`.
    pub files: Tls,
    /// `protected_by`.
    pub protected_by: Option<String>,
}

/// `database.tls`: what the connection to PostgreSQL must offer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Encrypts if the server offers it, and trusts any certificate. Only for a server on this machine.
    #[default]
    IfOffered,
    /// Encrypts, and checks the certificate and the name in it.
    VerifyFull,
    /// Encrypts, and trusts any certificate.
    Unverified,
    /// Does not encrypt.
    Off,
}

impl TlsMode {
    /// Every mode with its word.
    pub(super) const WORDS: [(&str, Self); 4] = [
        ("verify-full", Self::VerifyFull),
        ("unverified", Self::Unverified),
        ("if-offered", Self::IfOffered),
        ("off", Self::Off),
    ];
}

/// `[mqtt]`.
#[derive(Debug, Clone)]
pub struct Mqtt {
    /// Host of `url`.
    pub host: String,
    /// Port of `url`; 1883 or 8883 if it has none.
    pub port: u16,
    /// `client_id`.
    pub client_id: String,
    /// `username`, and the content of `password_file`.
    pub login: Option<(String, SecretString)>,
    /// Present for `mqtts://`.
    pub tls: Option<Tls>,
    /// `protected_by`: what protects `mqtt://` to another machine.
    pub protected_by: Option<String>,
}

/// The files for TLS. They are read again for each connection, to pick up renewed certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// `ca_file`: PEM; the system's roots if absent.
    pub ca_file: Option<PathBuf>,
    /// `cert_file` and `key_file`: PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// `[spool]`: where door messages wait for a shared database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolSettings {
    /// `path`: a SQLite file; its folder must exist and be writable.
    pub path: PathBuf,
    /// `limit`: how many bytes may be in use.
    pub limit: u64,
    /// `keep`: how long a message is kept after the shared database has it.
    pub keep: Duration,
}

/// `[lease]`: this gateway works only while it holds the lease of its site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSettings {
    /// `holder`: the name of this gateway.
    pub holder: String,
}

/// Where the API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// `unix:PATH`: a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    /// As in the settings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => fmt::Display::fmt(address, f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The origin of web pages (RFC 6454), as a browser writes it in `Origin`: `https://kiosk.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOrigin(pub(super) String);

impl WebOrigin {
    /// As in the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The PEM files of the API's TLS. They are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// `tls_cert_file`: the certificate and its chain.
    pub cert_file: PathBuf,
    /// `tls_key_file`: its private key.
    pub key_file: PathBuf,
}

/// `[api]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// `listen`.
    pub listen: ListenAddress,
    /// `tls_cert_file` and `tls_key_file`; without them the API speaks plain HTTP.
    pub tls: Option<ServerTls>,
    /// `protected_by`: what does TLS in front of an address beyond loopback.
    pub protected_by: Option<String>,
    /// `cors_origins`: the origins whose pages may call the API from a browser.
    pub cors_origins: Vec<WebOrigin>,
}

/// `[sync]`: where the directory is read from.
#[derive(Debug, Clone)]
pub struct SyncSettings {
    /// Host of `url`.
    pub host: String,
    /// Port of `url`; 80 or 443 if it has none.
    pub port: u16,
    /// How to sign in.
    pub login: SyncLogin,
    /// `every`: how often to ask for changes.
    pub every: Duration,
    /// Present for `https://`.
    pub tls: Option<Tls>,
    /// `protected_by`: what protects `http://` to another machine.
    pub protected_by: Option<String>,
}

/// How to sign in at the platform.
#[derive(Debug, Clone)]
pub enum SyncLogin {
    /// The content of `token_file`: a long-lived bearer token.
    Token(SecretString),
    /// `username`, and the content of `password_file`.
    Password(String, SecretString),
}

/// `[jwt]`: an identity provider whose tokens the API accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtSettings {
    /// `issuer`: the claim `iss`.
    pub issuer: String,
    /// `audience`: one of the claim `aud`.
    pub audience: String,
    /// `jwks_file` or `jwks_url`.
    pub keys: KeysPlace,
    /// `name_claim`: where a token has the name of its user.
    pub name_claim: String,
    /// `roles_claim`: where a token has the roles of its user.
    pub roles_claim: String,
    /// `roles`: what each of those roles allows here.
    pub roles: Vec<(String, MappedRight)>,
    /// `businesses_claim`: where a token has the businesses of its user; without it, tokens are for all.
    pub businesses_claim: Option<String>,
}

/// Where the public keys of the identity provider are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysPlace {
    /// `jwks_file`.
    File(PathBuf),
    /// `jwks_url`.
    Url(Url),
}

impl fmt::Display for KeysPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => fmt::Display::fmt(&path.display(), f),
            Self::Url(url) => fmt::Display::fmt(url, f),
        }
    }
}

/// What a role of the identity provider allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappedRight {
    /// Everything.
    Administrator,
    /// This.
    Role(Role),
}

/// `[retention]`; `None` means forever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// `sightings`.
    pub sightings: Option<Duration>,
    /// `checkins`.
    pub checkins: Option<Duration>,
    /// `failed_checkins`.
    pub failed_checkins: Option<Duration>,
    /// `unrecognised`: for failed check-ins of unknown devices, whose addresses are erased after this time.
    pub unrecognised: Option<Duration>,
}
