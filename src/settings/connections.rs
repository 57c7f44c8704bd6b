//! Validates how the database, the broker, the API and the platform are reached, and what protects each from readers in between.
//!
//! To another machine, everything goes through verified TLS, unless `protected_by` says in words what protects the
//! connection instead. Without such words, that is a fault and no warning: passwords, cards and names would be readable
//! on the way, and a warning is read after it happened.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::{
    base::machine::{is_loopback, is_this_machine},
    policy::site::Site,
    settings::{
        reader::Given,
        report::Span,
        secrets::PemKind,
        sections::{
            Api, Database, DatabaseTls, JwtSettings, KeysPlace, ListenAddress, Mqtt, ServerTls, SyncLogin,
            SyncSettings, Tls, TlsMode,
        },
        url::{BrokerUrl, DatabaseUrl, PlatformUrl},
        validate::Check,
        written::{ApiWritten, DatabaseWritten, JwtWritten, MqttWritten, SyncWritten},
    },
};

impl Check<'_> {
    /// `[database]`.
    pub(super) fn database(&mut self, written: DatabaseWritten) -> Option<Database> {
        let DatabaseWritten { url, password_file, tls, protected_by, ca_file, cert_file, key_file } = written;
        let url_place = url.place();
        match url.good()? {
            DatabaseUrl::Sqlite(path) => {
                let files = [("ca_file", &ca_file), ("cert_file", &cert_file), ("key_file", &key_file)];
                for (key, file) in files {
                    if let Some(place) = file.place() {
                        self.fault(place, key, "is for PostgreSQL; SQLite has no connection to encrypt");
                    }
                }
                if let Some(place) = tls.place() {
                    self.fault(place, "tls", "is for PostgreSQL; SQLite has no connection to encrypt");
                }
                if let Some(place) = password_file.place() {
                    self.fault(place, "password_file", "is for PostgreSQL; SQLite has no password");
                }
                self.unused_protection(&protected_by, "SQLite has no connection to protect");
                if let (Some(place), true) = (url_place, path.is_relative()) {
                    self.warn(
                        place,
                        "url",
                        "is relative to the folder in which the daemon is started; write an absolute path",
                    );
                }
                Some(Database::Sqlite { path })
            }
            DatabaseUrl::Postgres { url, is_local } => {
                let password = self.secret("password_file", password_file);
                let mode = self.database_mode(&tls, is_local, &protected_by);
                let files = [("ca_file", &ca_file), ("cert_file", &cert_file), ("key_file", &key_file)];
                for (key, file) in files {
                    if let (Some(place), Some(TlsMode::Off)) = (file.place(), mode) {
                        self.fault(place, key, "is only for TLS; write tls = \"verify-full\" to use it");
                    }
                }
                if let (Some(place), Some(TlsMode::Unverified | TlsMode::IfOffered)) = (ca_file.place(), mode) {
                    let message = "is never used without tls = \"verify-full\": any other mode checks no certificate";
                    self.fault(place, "ca_file", message);
                }
                let files = self.tls_files(ca_file, cert_file, key_file);
                let tls = DatabaseTls { mode: mode?, files, protected_by: protected_by.good() };
                Some(Database::Postgres { url, password, tls })
            }
        }
    }

    /// What the connection to PostgreSQL must offer.
    fn database_mode(
        &mut self,
        written: &Given<TlsMode>,
        is_local: bool,
        protected_by: &Given<String>,
    ) -> Option<TlsMode> {
        let place = written.place();
        let mode = match written {
            Given::Absent => {
                if is_local {
                    TlsMode::IfOffered
                } else {
                    TlsMode::VerifyFull
                }
            }
            Given::Good(mode, _) => *mode,
            Given::Faulty => return None,
        };
        match (mode, place) {
            (TlsMode::IfOffered, Some(place)) if !is_local => {
                let message = "\"if-offered\" is for a server on this machine: on the way to another one, anyone in \
                               between can answer that TLS is not supported; write \"verify-full\"";
                self.fault(place, "tls", message);
            }
            (TlsMode::Unverified | TlsMode::Off, Some(place)) if !is_local && protected_by.is_absent() => {
                let what = if mode == TlsMode::Off {
                    "lets anyone on the way read the records and the password"
                } else {
                    "lets anyone on the way answer in the server's place"
                };
                let message = format!(
                    "{what}; write \"verify-full\", or say in protected_by what else protects the connection, for \
                     example protected_by = \"the VPN between the sites\""
                );
                self.fault(place, "tls", message);
            }
            _ if is_local => self.unused_protection(protected_by, "the server is on this machine"),
            (TlsMode::VerifyFull, _) => self.unused_protection(protected_by, "verified TLS protects the connection"),
            (TlsMode::IfOffered | TlsMode::Unverified | TlsMode::Off, _) => {}
        }
        Some(mode)
    }

    /// `[mqtt]`.
    pub(super) fn mqtt(&mut self, written: MqttWritten, site: Option<&Site>) -> Option<Mqtt> {
        let place = self.headers.get("mqtt").copied()?;
        let MqttWritten { url, client_id, username, password_file, ca_file, cert_file, key_file, protected_by } =
            written;
        let url_place = url.place();
        let url = self.required(place, "[mqtt]", "url", url);
        let encrypted = url.as_ref().is_none_or(|url| url.tls);
        let client_id = self.client_id(place, client_id, site);
        match &url {
            Some(url) if !url.tls && !is_this_machine(&url.host) => {
                if let (Some(place), true) = (url_place, protected_by.is_absent()) {
                    let message = "mqtt:// to another machine lets anyone on the way read and forge taps, and read the \
                                   password; write mqtts://, or say in protected_by what else protects the \
                                   connection, for example protected_by = \"its own VLAN\"";
                    self.fault(place, "url", message);
                }
            }
            Some(url) if url.tls => self.unused_protection(&protected_by, "TLS protects the connection"),
            Some(_) => self.unused_protection(&protected_by, "the broker is on this machine"),
            None => {}
        }
        let login = self.login(username, password_file);
        for (key, file) in [("ca_file", &ca_file), ("cert_file", &cert_file), ("key_file", &key_file)] {
            if let (Some(place), false) = (file.place(), encrypted) {
                self.fault(place, key, "is only for TLS; write url = \"mqtts://…\" to use it");
            }
        }
        let tls = self.tls_files(ca_file, cert_file, key_file);
        let BrokerUrl { host, port, tls: encrypted } = url?;
        let tls = encrypted.then_some(tls);
        Some(Mqtt { host, port, client_id: client_id?, login, tls, protected_by: protected_by.good() })
    }

    /// The client id. The broker queues our messages under it, so it must stay the same, and no other client may use
    /// it.
    fn client_id(&mut self, section: Span, written: Given<String>, site: Option<&Site>) -> Option<String> {
        match (&written, site) {
            (Given::Absent, Some(site)) => Some(format!("checkind-{}", site.business)),
            (Given::Absent, None) if self.headers.contains_key("site") => None,
            (Given::Absent, None) | (Given::Faulty | Given::Good(..), _) => {
                self.required(section, "[mqtt]", "client_id", written)
            }
        }
    }

    fn login(&mut self, username: Given<String>, password_file: Given<PathBuf>) -> Option<(String, SecretString)> {
        if let (Some(place), true) = (password_file.place(), username.is_absent()) {
            self.fault(place, "password_file", "needs a username as well");
        }
        if let (Some(place), true) = (username.place(), password_file.is_absent()) {
            self.missing(place, "username", "needs a password_file as well, the name of a file with the password");
        }
        let password = self.secret("password_file", password_file);
        Some((username.good()?, password?))
    }

    /// The files for TLS.
    fn tls_files(&mut self, ca_file: Given<PathBuf>, cert_file: Given<PathBuf>, key_file: Given<PathBuf>) -> Tls {
        if let (Some(place), true) = (cert_file.place(), key_file.is_absent()) {
            self.missing(place, "cert_file", "needs a key_file as well, the private key of the certificate");
        }
        if let (Some(place), true) = (key_file.place(), cert_file.is_absent()) {
            self.missing(place, "key_file", "needs a cert_file as well, the certificate of the key");
        }
        let ca_file = self.pem("ca_file", ca_file, PemKind::Certificate);
        let cert = self.pem("cert_file", cert_file, PemKind::Certificate);
        let key = self.pem("key_file", key_file, PemKind::PrivateKey);
        Tls { ca_file, client: cert.zip(key) }
    }

    /// `[api]`.
    pub(super) fn api(&mut self, written: ApiWritten) -> Option<Api> {
        let ApiWritten { listen, tls_cert_file, tls_key_file, protected_by, cors_origins } = written;
        let Given::Good(listen, place) = listen else { return None };
        let idle = ["site", "mqtt"].iter().all(|section| !self.headers.contains_key(*section));
        if listen.is_none() && idle {
            self.warn(place, "listen", "is \"off\" and there is no [site], so the daemon has nothing to do");
        }
        let listen = listen?;
        let tls_place = tls_cert_file.place().or(tls_key_file.place());
        let tls = self.server_tls(tls_cert_file, tls_key_file);
        match (&listen, tls_place) {
            (ListenAddress::Unix(_), Some(place)) => {
                self.fault(place, "tls_cert_file", "is for a TCP address; a Unix socket crosses no network");
            }
            (ListenAddress::Unix(_), None) => {
                self.unused_protection(&protected_by, "the API listens on this machine only");
            }
            (ListenAddress::Tcp(_), Some(_)) => self.unused_protection(&protected_by, "TLS protects the connections"),
            (ListenAddress::Tcp(address), None) if is_loopback(address.ip()) => {
                self.unused_protection(&protected_by, "the API listens on this machine only");
            }
            (ListenAddress::Tcp(_), None) if protected_by.is_absent() => {
                let message = "opens the API to other machines, and it speaks plain HTTP: anyone on the way reads its \
                               passwords and records; name the files of a certificate in tls_cert_file and \
                               tls_key_file, listen on \"127.0.0.1:8080\" behind a proxy with TLS, or say in \
                               protected_by what does TLS in front of it, for example protected_by = \"the load \
                               balancer\"";
                self.fault(place, "listen", message);
            }
            (ListenAddress::Tcp(_), None) => {}
        }
        if let Given::Good(origins, place) = &cors_origins {
            for origin in origins.iter().filter(|origin| origin.as_str().starts_with("http://")) {
                let message = format!(
                    "{} is a page without TLS: anyone on its way to the browser can change it, and read its tokens",
                    origin.as_str()
                );
                self.warn(*place, "cors_origins", message);
            }
        }
        let cors_origins = cors_origins.good().unwrap_or_default();
        Some(Api { listen, tls, protected_by: protected_by.good(), cors_origins })
    }

    /// `[jwt]`. `is_off` says whether the API is switched off.
    pub(super) fn jwt(&mut self, written: JwtWritten, is_off: bool) -> Option<JwtSettings> {
        let place = self.headers.get("jwt").copied()?;
        let JwtWritten { issuer, audience, jwks_file, jwks_url, name_claim, roles_claim, roles, businesses_claim } =
            written;
        if is_off {
            self.warn(place, "jwt", "is never used: the API is off");
        }
        let issuer = self.required(place, "[jwt]", "issuer", issuer);
        let audience = self.required(place, "[jwt]", "audience", audience);
        if jwks_file.is_absent() && jwks_url.is_absent() {
            self.missing(place, "[jwt]", "has no jwks_url and no jwks_file, the keys of the identity provider");
        }
        if let (Some(second), false) = (jwks_file.place(), jwks_url.is_absent()) {
            self.fault(second, "jwks_file", "is the second place of the keys; remove it or jwks_url");
        }
        if roles.is_absent() {
            let message = "has no roles, so tokens allow nothing; write for example roles = [\"managers = admin\"]";
            self.warn(place, "[jwt]", message);
        }
        let file = match jwks_file {
            Given::Good(written, place) => self.read("jwks_file", &written, place).map(|file| file.path),
            Given::Absent | Given::Faulty => None,
        };
        let keys = jwks_url.good().map(KeysPlace::Url).or(file.map(KeysPlace::File));
        Some(JwtSettings {
            issuer: issuer?,
            audience: audience?,
            keys: keys?,
            name_claim: name_claim.good()?,
            roles_claim: roles_claim.good()?,
            roles: roles.good().unwrap_or_default(),
            businesses_claim: businesses_claim.good(),
        })
    }

    /// The files of the API's certificate.
    fn server_tls(&mut self, cert_file: Given<PathBuf>, key_file: Given<PathBuf>) -> Option<ServerTls> {
        if let (Some(place), true) = (cert_file.place(), key_file.is_absent()) {
            let message = "needs a tls_key_file as well, the private key of the certificate";
            self.missing(place, "tls_cert_file", message);
        }
        if let (Some(place), true) = (key_file.place(), cert_file.is_absent()) {
            self.missing(place, "tls_key_file", "needs a tls_cert_file as well, the certificate of the key");
        }
        let cert_file = self.pem("tls_cert_file", cert_file, PemKind::Certificate);
        let key_file = self.pem("tls_key_file", key_file, PemKind::PrivateKey);
        Some(ServerTls { cert_file: cert_file?, key_file: key_file? })
    }

    /// `[sync]`.
    pub(super) fn sync(&mut self, written: SyncWritten) -> Option<SyncSettings> {
        let place = self.headers.get("sync").copied()?;
        let SyncWritten { url, token_file, username, password_file, every, ca_file, protected_by } = written;
        let url_place = url.place();
        let url = self.required(place, "[sync]", "url", url);
        match &url {
            Some(url) if !url.tls && !is_this_machine(&url.host) => {
                if let (Some(place), true) = (url_place, protected_by.is_absent()) {
                    let message = "http:// to another machine lets anyone on the way read the directory, the cards and the \
                                   token; write https://, or say in protected_by what else protects the connection, for \
                                   example protected_by = \"the VPN between the sites\"";
                    self.fault(place, "url", message);
                }
            }
            Some(url) if url.tls => self.unused_protection(&protected_by, "TLS protects the connection"),
            Some(_) => self.unused_protection(&protected_by, "the server is on this machine"),
            None => {}
        }
        let encrypted = url.as_ref().is_none_or(|url| url.tls);
        if let (Some(place), false) = (ca_file.place(), encrypted) {
            self.fault(place, "ca_file", "is only for TLS; write url = \"https://…\" to use it");
        }
        let login = self.sync_login(place, token_file, username, password_file);
        let tls = self.tls_files(ca_file, Given::Absent, Given::Absent);
        let PlatformUrl { host, port, tls: encrypted } = url?;
        let tls = encrypted.then_some(tls);
        Some(SyncSettings { host, port, login: login?, every: every.good()?, tls, protected_by: protected_by.good() })
    }

    /// A token, or a user name with a password.
    fn sync_login(
        &mut self,
        section: Span,
        token_file: Given<PathBuf>,
        username: Given<String>,
        password_file: Given<PathBuf>,
    ) -> Option<SyncLogin> {
        if token_file.is_absent() {
            if username.is_absent() && password_file.is_absent() {
                let message = "needs a token_file, the name of a file with the token; or username and password_file";
                self.missing(section, "[sync]", message);
                return None;
            }
            return self.login(username, password_file).map(|(name, password)| SyncLogin::Password(name, password));
        }
        for (key, place) in [("username", username.place()), ("password_file", password_file.place())] {
            if let Some(place) = place {
                self.fault(place, key, "is never used beside token_file; remove one of the two");
            }
        }
        self.secret("token_file", token_file).map(SyncLogin::Token)
    }

    /// Warns about words that nothing needs.
    fn unused_protection(&mut self, protected_by: &Given<String>, why: &str) {
        if let Some(place) = protected_by.place() {
            self.warn(place, "protected_by", format!("is never used: {why}"));
        }
    }
}
