//! How the connections to PostgreSQL are made.

use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};

use crate::{
    settings::DatabaseTls,
    store::{
        error::StoreError,
        limits::SLOW,
        postgres_tls::{explained, protected},
    },
};

/// How to connect. The settings can change it while the daemon runs.
pub(super) struct ConnectionWay {
    options: PgConnectOptions,
    tls: DatabaseTls,
}

impl ConnectionWay {
    pub(super) fn new(url: &str, password: Option<&SecretString>, tls: &DatabaseTls) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url).map_err(|error| StoreError::Unusable {
            what: "database.url is not a PostgreSQL URL".to_owned(),
            source: Some(error),
        })?;
        let mut options = protected(options, tls)
            .application_name("checkind")
            // PgBouncer rejects startup parameters that it does not know.
            .extra_float_digits(None)
            .statement_cache_capacity(0)
            .log_slow_statements(tracing::log::LevelFilter::Warn, SLOW)
            .log_statements(tracing::log::LevelFilter::Off);
        if let Some(password) = password {
            options = options.password(password.expose_secret());
        }
        Ok(Self { options, tls: tls.clone() })
    }

    /// Connects once.
    pub(super) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.options.connect().await
    }

    /// The error of an attempt, with words for what to change if TLS is the reason.
    pub(super) fn explained(&self, error: sqlx::Error) -> sqlx::Error {
        explained(error, self.options.get_host(), &self.tls)
    }
}
