//! Compares old and new settings: which changes need a restart.

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::settings::sections::{Database, Mqtt, Settings, SyncLogin, SyncSettings};

/// The sections that changed and need a restart of the daemon. Everything else takes effect on a reload. A restart is
/// needed for another database, because every part remembers what is in this one; for the business, because its check-ins are
/// open; for the idle limit, which determines how often running captures report; for the retention; and for addresses
/// and sockets that are opened at startup, or need a privilege that is dropped after it.
pub fn changes_needing_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let business = |settings: &Settings| settings.site.as_ref().map(|site| site.business);
    let listen = |settings: &Settings| settings.api.as_ref().map(|api| api.listen.clone());
    let certificate = |settings: &Settings| settings.api.as_ref().and_then(|api| api.tls.clone());
    let origins = |settings: &Settings| settings.api.as_ref().map(|api| api.cors_origins.clone()).unwrap_or_default();
    let idle_limit = |settings: &Settings| settings.site.as_ref().map(|site| site.idle_limit);
    let changed = [
        ("database", !same_database(&old.database, &new.database)),
        ("spool", old.spool != new.spool),
        ("lease", old.lease != new.lease),
        ("site.business", business(old) != business(new)),
        ("mqtt", !same_broker(old.mqtt.as_ref(), new.mqtt.as_ref())),
        ("site.idle_limit", !new.captures.is_empty() && idle_limit(old) != idle_limit(new)),
        ("capture", old.captures != new.captures),
        ("retention", old.retention != new.retention),
        ("api.listen", listen(old) != listen(new)),
        ("api.tls_cert_file", certificate(old) != certificate(new)),
        ("jwt", old.jwt != new.jwt),
        ("api.cors_origins", origins(old) != origins(new)),
        ("sync", !same_platform(old.sync.as_ref(), new.sync.as_ref())),
    ];
    changed.into_iter().filter_map(|(section, changed)| changed.then_some(section)).collect()
}

/// Whether the settings name the same database, perhaps by another way to connect to it.
fn same_database(old: &Database, new: &Database) -> bool {
    match (old, new) {
        (Database::Sqlite { path: old }, Database::Sqlite { path: new }) => old == new,
        (Database::Postgres { url: old, .. }, Database::Postgres { url: new, .. }) => {
            old == new || place_of(old).is_some_and(|place| Some(place) == place_of(new))
        }
        (Database::Sqlite { .. }, Database::Postgres { .. }) | (Database::Postgres { .. }, Database::Sqlite { .. }) => {
            false
        }
    }
}

/// The URL of a PostgreSQL database without its user.
fn place_of(url: &str) -> Option<Url> {
    let mut url = Url::parse(url).ok()?;
    url.set_username("").ok()?;
    // The default port (PostgreSQL manual, 32.1.1.2).
    url.set_port(url.port().or(Some(5432))).ok()?;
    Some(url)
}

/// Whether the same database is reached in another way: with another login or password, or other files for TLS.
pub fn connection_changed(old: &Database, new: &Database) -> bool {
    match (old, new) {
        (
            Database::Postgres { url: old_url, password: old_password, tls: old_tls },
            Database::Postgres { url, password, tls },
        ) => {
            let same_tls = old_tls.mode == tls.mode && old_tls.files == tls.files;
            same_database(old, new)
                && !(old_url == url && same_tls && same_secret(old_password.as_ref(), password.as_ref()))
        }
        (Database::Sqlite { .. } | Database::Postgres { .. }, Database::Sqlite { .. } | Database::Postgres { .. }) => {
            false
        }
    }
}

fn same_broker(old: Option<&Mqtt>, new: Option<&Mqtt>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return old.is_none() && new.is_none() };
    let user = |mqtt: &Mqtt| mqtt.login.as_ref().map(|(user, _)| user.clone());
    let secret = |mqtt: &Mqtt| mqtt.login.as_ref().map(|(_, secret)| secret.clone());
    old.host == new.host
        && old.port == new.port
        && old.client_id == new.client_id
        && old.tls == new.tls
        && user(old) == user(new)
        && same_secret(secret(old).as_ref(), secret(new).as_ref())
}

fn same_platform(old: Option<&SyncSettings>, new: Option<&SyncSettings>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return old.is_none() && new.is_none() };
    let same_login = match (&old.login, &new.login) {
        (SyncLogin::Token(old), SyncLogin::Token(new)) => same_secret(Some(old), Some(new)),
        (SyncLogin::Password(old_name, old), SyncLogin::Password(name, new)) => {
            old_name == name && same_secret(Some(old), Some(new))
        }
        (SyncLogin::Token(_), SyncLogin::Password(..)) | (SyncLogin::Password(..), SyncLogin::Token(_)) => false,
    };
    same_login && old.host == new.host && old.port == new.port && old.every == new.every && old.tls == new.tls
}

fn same_secret(old: Option<&SecretString>, new: Option<&SecretString>) -> bool {
    old.map(ExposeSecret::expose_secret) == new.map(ExposeSecret::expose_secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::sections::{DatabaseTls, TlsMode};

    #[test]
    fn another_login_is_another_way_to_the_same_database_and_another_name_is_another_database() {
        let on = |url: &str| Database::Postgres { url: url.to_owned(), password: None, tls: DatabaseTls::default() };
        let old = on("postgres://gateway@db.example/hub");
        let table = [
            ("postgres://gateway@db.example/hub", (true, false)),
            ("postgres://gateway@db.example:5432/hub", (true, true)),
            ("postgres://other@db.example/hub", (true, true)),
            ("postgres://gateway@db.example:5433/hub", (false, false)),
            ("postgres://gateway@standby.example/hub", (false, false)),
            ("postgres://gateway@db.example/other", (false, false)),
            ("postgres://gateway@db.example/hub?options=-csearch_path%3Dother", (false, false)),
        ];
        for (url, wanted) in table {
            let new = on(url);
            assert_eq!((same_database(&old, &new), connection_changed(&old, &new)), wanted, "{url}");
        }
        let sockets = ["postgres:///hub?host=/run/postgresql", "postgres://gateway@/hub?host=/run/postgresql"].map(on);
        assert!(same_database(&sockets[0], &sockets[0]));
        assert!(!same_database(&old, &sockets[0]));
        let file = Database::Sqlite { path: "x.db".into() };
        assert!(!same_database(&old, &file) && !connection_changed(&old, &file));
        let by = |word: &str, mode| Database::Postgres {
            url: "postgres://gateway@db.example/hub".to_owned(),
            password: Some(SecretString::from(word)),
            tls: DatabaseTls { mode, ..DatabaseTls::default() },
        };
        let old = by("old", TlsMode::VerifyFull);
        assert!(!connection_changed(&old, &by("old", TlsMode::VerifyFull)));
        assert!(connection_changed(&old, &by("new", TlsMode::VerifyFull)));
        assert!(connection_changed(&old, &by("old", TlsMode::Unverified)));
    }
}
