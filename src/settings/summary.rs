//! The summary of the settings that `check-config` prints.

use std::fmt::Write as _;

use crate::{
    policy::site::Site,
    settings::{
        capture::CaptureBackend,
        sections::{
            Api, Database, JwtSettings, LeaseSettings, ListenAddress, Settings, SpoolSettings, SyncSettings, TlsMode,
        },
    },
};

/// Summarises what will run: one line per section, no secrets.
pub fn summary(settings: &Settings) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let _written = writeln!(text, "{label:<10}{value}");
    };
    line(
        "database",
        match &settings.database {
            Database::Sqlite { path } => format!("SQLite, {}", path.display()),
            Database::Postgres { url, password, tls } => {
                let mode = match tls.mode {
                    TlsMode::IfOffered => "TLS if the server offers it",
                    TlsMode::VerifyFull => "with TLS",
                    TlsMode::Unverified => "with TLS to any server that answers",
                    TlsMode::Off => "without TLS",
                };
                let password = if password.is_some() { ", with a password" } else { "" };
                format!("PostgreSQL, {url}, {mode}{}{password}", protection(tls.protected_by.as_ref()))
            }
        },
    );
    if let Some(SpoolSettings { path, limit, keep }) = &settings.spool {
        line(
            "spool",
            format!(
                "{}, {} MB at most, kept for {}",
                path.display(),
                limit / 1_000_000,
                humantime::format_duration(*keep)
            ),
        );
    }
    line(
        "site",
        settings.site.as_ref().map_or("none: serves the records of all businesses".to_owned(), |site| {
            let Site { business, name, time_zone, cut_off, .. } = site;
            format!("{name} (business {business}), {time_zone}, pass day ends at {}", cut_off.format("%H:%M"))
        }),
    );
    line("zones", settings.zones.to_string());
    if let Some(LeaseSettings { holder }) = &settings.lease {
        line("lease", format!("active or standby, as {holder}"));
    }
    line(
        "broker",
        settings.mqtt.as_ref().map_or("none".to_owned(), |mqtt| {
            let tls = if mqtt.tls.is_some() { "with TLS" } else { "without TLS" };
            let host = if mqtt.host.contains(':') { format!("[{}]", mqtt.host) } else { mqtt.host.clone() };
            let protection = protection(mqtt.protected_by.as_ref());
            format!("{host}:{} {tls}{protection}, as {}", mqtt.port, mqtt.client_id)
        }),
    );
    line("sources", counted(settings.sources.iter().map(|source| source.name.as_ref())));
    line("doors", counted(settings.doors.iter().map(|door| door.name.as_str())));
    let captures = settings.captures.iter().map(|capture| {
        let backend = match capture.backend {
            CaptureBackend::Ring => "ring",
            CaptureBackend::Portable => "portable",
        };
        format!("{} ({backend})", capture.interface)
    });
    let captures: Vec<String> = captures.collect();
    line("captures", counted(captures.iter().map(String::as_str)));
    line(
        "api",
        settings
            .api
            .as_ref()
            .map_or("off".to_owned(), |api| format!("{}{}", served(api), protection(api.protected_by.as_ref()))),
    );
    if let Some(SyncSettings { host, port, tls, every, protected_by, .. }) = &settings.sync {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let every = humantime::format_duration(*every);
        line("sync", format!("{scheme}://{host}:{port}, every {every}{}", protection(protected_by.as_ref())));
    }
    if let Some(JwtSettings { issuer, keys, .. }) = settings.jwt.as_deref() {
        line("jwt", format!("tokens of {issuer}, keys from {keys}"));
    }
    text
}

/// Where the API is served, and how.
fn served(api: &Api) -> String {
    match (&api.listen, &api.tls) {
        (ListenAddress::Tcp(address), Some(_)) => format!("https://{address}"),
        (ListenAddress::Tcp(address), None) => format!("http://{address}"),
        (ListenAddress::Unix(_), _) => api.listen.to_string(),
    }
}

/// What protects a connection instead of TLS, in the operator's words.
fn protection(words: Option<&String>) -> String {
    words.map_or(String::new(), |words| format!(" (protected by: {words})"))
}

/// Formats names as `2: Main entrance, Back door`.
fn counted<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { format!("{}: {}", names.len(), names.join(", ")) }
}
