//! Compares old and new settings: which changes need a restart.

use secrecy::{ExposeSecret, SecretString};

use crate::settings::sections::{Database, Mqtt, Settings};

/// The sections that changed and need a restart of the daemon. Everything else takes effect on a reload. A restart is
/// needed for the database, because every part uses its pool and schema; for the business, because its check-ins are
/// open; for the idle limit, which determines how often running captures report; for the retention; and for addresses
/// and sockets that are opened at startup, or need a privilege that is dropped after it.
pub fn changes_needing_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let business = |settings: &Settings| settings.site.as_ref().map(|site| site.business);
    let listen = |settings: &Settings| settings.api.as_ref().map(|api| api.listen);
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
    ];
    changed.into_iter().filter_map(|(section, changed)| changed.then_some(section)).collect()
}

fn same_database(old: &Database, new: &Database) -> bool {
    match (old, new) {
        (Database::Sqlite { path: old }, Database::Sqlite { path: new }) => old == new,
        (
            Database::Postgres { url: old, password: old_password, tls: old_tls },
            Database::Postgres { url: new, password: new_password, tls: new_tls },
        ) => {
            let same_tls = old_tls.mode == new_tls.mode && old_tls.files == new_tls.files;
            old == new && same_tls && same_secret(old_password.as_ref(), new_password.as_ref())
        }
        (Database::Sqlite { .. }, Database::Postgres { .. }) | (Database::Postgres { .. }, Database::Sqlite { .. }) => {
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

fn same_secret(old: Option<&SecretString>, new: Option<&SecretString>) -> bool {
    old.map(ExposeSecret::expose_secret) == new.map(ExposeSecret::expose_secret)
}
