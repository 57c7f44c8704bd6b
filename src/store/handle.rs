//! The handle to an open database for the rest of the program.

use super::{error::StoreError, fence::Fence, sql::Sql};
use crate::settings::Database;

/// An open database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) sql: Sql,
    /// Set if batches may commit only while this gateway holds a lease.
    pub(super) fence: Option<Fence>,
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it does not answer now, [`StoreError::Unusable`] if it never will.
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        let sql = match database {
            Database::Sqlite { path } => Sql::open_sqlite(path).await?,
            Database::Postgres { url, password, tls } => Sql::open_postgres(url, password.as_ref(), tls).await?,
        };
        Ok(Self { sql, fence: None })
    }

    /// The same database for the pipeline, which does not wait for reads by other tasks. Call once per process.
    ///
    /// # Errors
    /// If the connections have been closed.
    pub async fn deciding(&self) -> Result<Self, StoreError> {
        Ok(Self { sql: self.sql.deciding().await?, fence: self.fence })
    }

    /// Checks that the database answers and accepts a write transaction.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.sql.probe().await
    }

    /// Whether the database is PostgreSQL: other gateways share it over the network, so door messages wait for it in a
    /// spool.
    pub const fn is_shared(&self) -> bool {
        matches!(self.sql, Sql::Postgres(_))
    }

    /// Closes the connections cleanly.
    pub async fn close(&self) {
        self.sql.close().await;
    }
}
