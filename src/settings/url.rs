//! PURE. Reads the URLs of the database and of the broker.

use std::path::PathBuf;

use config::Value;

use crate::settings::{
    reader::{ValueFaults, refused, refused_unseen},
    value::string,
};

/// The parts of `database.url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DatabaseUrl {
    /// The path of the file.
    Sqlite(PathBuf),
    /// The URL, without a password.
    Postgres(String),
}

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
        return refused_unseen("is not a URL; expected postgres://USER@HOST/DATABASE");
    };
    // check-config prints this URL, so the password must be in a file.
    if url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password") {
        return refused_unseen("must not contain a password; write it to a file and set password_file to its name");
    }
    if url.path().trim_matches('/').is_empty() {
        return refused("names no database; expected postgres://USER@HOST/DATABASE");
    }
    Ok(DatabaseUrl::Postgres(text.to_owned()))
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
