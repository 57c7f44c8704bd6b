//! An open database, as the rest of the program holds it.

use super::{error::StoreError, fence::Fence, sql::Sql};
use crate::settings::Database;

/// An open database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) sql: Sql,
    /// Set when batches may commit only while a lease is ours.
    pub(super) fence: Option<Fence>,
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not answer now, [`StoreError::Unusable`] when it never will.
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        let sql = match database {
            Database::Sqlite { path } => Sql::open_sqlite(path).await?,
            Database::Postgres { url, password } => Sql::open_postgres(url, password.as_ref()).await?,
        };
        Ok(Self { sql, fence: None })
    }

    /// The same database for the pipeline: reads by other tasks do not keep it waiting. Once for each process.
    ///
    /// # Errors
    /// When the connections have been closed.
    pub async fn deciding(&self) -> Result<Self, StoreError> {
        Ok(Self { sql: self.sql.deciding().await?, fence: self.fence })
    }

    /// Checks that the database answers and lets us write.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.sql.probe().await
    }

    /// True for a PostgreSQL: other gateways share it over the network, so door messages wait for it in a spool.
    pub const fn is_shared(&self) -> bool {
        matches!(self.sql, Sql::Postgres(_))
    }

    /// Ends the connections cleanly.
    pub async fn close(&self) {
        self.sql.close().await;
    }
}
