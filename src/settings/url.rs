//! PURE. Reads the URLs of the database, of the broker and of the platform.

use std::{borrow::Cow, path::PathBuf};

use config::Value;

use crate::{
    base::machine::is_this_machine,
    settings::{
        reader::{ValueFaults, refused, refused_unseen, short},
        sections::WebOrigin,
        value::string,
    },
};

/// Reads one of `api.cors_origins`. A browser compares exactly, so it must be written as a browser writes it.
pub(super) fn web_origin(value: &Value) -> Result<WebOrigin, ValueFaults> {
    const FORM: &str = "write for example \"https://kiosk.example\"";
    let text = string(value, "the origin of a web page in quotes, for example \"https://kiosk.example\"")?;
    if text == "*" || text == "null" {
        return refused(format!("\"{text}\" would open the API to every page; list the origins of yours"));
    }
    let url = url::Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
    let Some(url) = url else { return refused(format!("\"{}\" is not the origin of a web page; {FORM}", short(text))) };
    let origin = url.origin().ascii_serialization();
    if origin != text {
        return refused(format!("\"{}\" is never sent by a browser; write \"{}\"", short(text), short(&origin)));
    }
    Ok(WebOrigin(origin))
}

/// Reads `jwt.jwks_url`.
pub(super) fn keys_url(value: &Value) -> Result<url::Url, ValueFaults> {
    const FORM: &str = "https://login.example/keys";
    let text = string(value, "a URL in quotes, for example \"https://login.example/keys\"")?;
    let url = url::Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    let Some(url) = url else {
        return refused(format!("\"{}\" is not a URL; write for example \"{FORM}\"", short(text)));
    };
    if url.scheme() == "http" && !is_this_machine(url.host_str().unwrap_or_default()) {
        return refused("lets anyone on the way answer with keys of their own; write \"https://…\", or use jwks_file");
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return refused_unseen(format!("has a user, a password or a \"#\"; write for example \"{FORM}\""));
    }
    Ok(url)
}

/// The parts of `database.url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DatabaseUrl {
    /// The path of the file.
    Sqlite(PathBuf),
    /// PostgreSQL.
    Postgres {
        /// The URL, without a password.
        url: String,
        /// Whether the server is on this machine.
        is_local: bool,
    },
}

/// How to write the URL of a PostgreSQL database.
const POSTGRES_FORM: &str = "postgres://USER@HOST:PORT/DATABASE";

/// Reads `database.url`.
pub(super) fn database_url(value: &Value) -> Result<DatabaseUrl, ValueFaults> {
    let wanted = "\"sqlite:/var/lib/checkind/checkind.db\" or \"postgres://checkind@db.example/checkind\"";
    let text = string(value, wanted)?;
    if let Some(path) = text.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return match path {
            "" => refused("names no file; write for example \"sqlite:/var/lib/checkind/checkind.db\""),
            ":memory:" => refused("a database in memory loses every check-in at a restart; name a file"),
            path if path.contains('?') => refused("parameters are not supported; write the path alone"),
            path => Ok(DatabaseUrl::Sqlite(PathBuf::from(path))),
        };
    }
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        // Not printed: it may contain a password.
        return refused_unseen(format!("is not the URL of a database; expected {wanted}"));
    }
    let Ok(url) = url::Url::parse(text) else {
        return refused_unseen("is not a URL; expected postgres://USER@HOST:PORT/DATABASE");
    };
    // check-config prints this URL, so the password must be in a file.
    if url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password") {
        return refused_unseen("must not contain a password; write it to a file and set password_file to its name");
    }
    if url.path().trim_matches('/').is_empty() {
        return refused(format!("names no database; expected {POSTGRES_FORM}"));
    }
    if url.fragment().is_some() {
        return refused_unseen("has a \"#\"; write it as %23");
    }
    // A host that is a folder (`%2Frun%2Fpostgresql`) or absent is a Unix socket.
    let host = url.host_str().unwrap_or_default();
    if host.contains(',') {
        return refused("names several hosts; name one, for example that of a proxy which knows the primary");
    }
    let has_socket = socket_folder(&url)?;
    let is_socket = has_socket || host.is_empty() || host.to_ascii_lowercase().starts_with("%2f");
    Ok(DatabaseUrl::Postgres { url: text.to_owned(), is_local: is_socket || is_this_machine(host) })
}

/// Checks the parameters of the URL. sqlx would ignore those that it does not know, and some that it knows would
/// override keys of the settings. Returns whether there is the folder of a socket.
fn socket_folder(url: &url::Url) -> Result<bool, ValueFaults> {
    let mut has_socket = false;
    for (key, value) in url.query_pairs() {
        let instead = match key.as_ref() {
            "host" if value.starts_with('/') => {
                has_socket = true;
                continue;
            }
            // Settings of the session, such as the schema: `options=-csearch_path%3Dcheckind`.
            "options" => continue,
            name if name.starts_with("options[") && name.ends_with(']') => continue,
            "host" | "hostaddr" | "port" | "dbname" | "user" => {
                Cow::from(format!("write it in the url itself, {POSTGRES_FORM}"))
            }
            "sslmode" | "ssl-mode" => Cow::from("set the key tls instead, for example tls = \"verify-full\""),
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => Cow::from("set the key ca_file instead"),
            "sslcert" | "ssl-cert" => Cow::from("set the key cert_file instead"),
            "sslkey" | "ssl-key" => Cow::from("set the key key_file instead"),
            _ => Cow::from("only host (the folder of a Unix socket) and options may follow the \"?\""),
        };
        return refused(format!("must not have the parameter \"{}\"; {instead}", short(&key)));
    }
    Ok(has_socket)
}

/// The parts of `mqtt.url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BrokerUrl {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

/// Reads `mqtt.url`.
pub(super) fn broker_url(value: &Value) -> Result<BrokerUrl, ValueFaults> {
    let wanted = "\"mqtts://broker.example:8883\", or mqtt:// without TLS";
    let text = string(value, wanted)?;
    let Ok(url) = url::Url::parse(text) else {
        return refused_unseen(format!("is not the URL of a broker; expected {wanted}"));
    };
    // The scheme determines whether to use TLS. Any other URL may contain a password, so its line is not printed.
    let tls = match url.scheme() {
        "mqtt" => false,
        "mqtts" => true,
        _ => return refused_unseen(format!("is not the URL of a broker; expected {wanted}")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return refused_unseen("must not contain a user name or a password; set username and password_file instead");
    }
    // Only a host and perhaps a port may remain.
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    if host.is_empty() {
        return refused(format!("names no host; expected {wanted}"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return refused(format!("must end after the port; expected {wanted}"));
    }
    match url.port() {
        Some(0) => refused("must not have port 0"),
        port => Ok(BrokerUrl { host: host.to_owned(), port: port.unwrap_or(if tls { 8883 } else { 1883 }), tls }),
    }
}

/// The parts of `sync.url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlatformUrl {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

/// Reads `sync.url`.
pub(super) fn platform_url(value: &Value) -> Result<PlatformUrl, ValueFaults> {
    let wanted = "\"https://spaces.example\", or http:// without TLS";
    let text = string(value, wanted)?;
    // Any other URL may contain a password, so its line is not printed.
    let Ok(url) = url::Url::parse(text) else {
        return refused_unseen(format!("is not the URL of a server; expected {wanted}"));
    };
    let tls = match url.scheme() {
        "http" => false,
        "https" => true,
        _ => return refused_unseen(format!("is not the URL of a server; expected {wanted}")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return refused_unseen("must not contain a user name or a password; set token_file instead");
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return refused(format!("must end before the path /api, which is added; expected {wanted}"));
    }
    match url.port_or_known_default() {
        Some(0) | None => refused("must not have port 0"),
        Some(port) => Ok(PlatformUrl { host: host.to_owned(), port, tls }),
    }
}
