//! The few questions and commands that the rest of the program has for the database.
//!
//! One interface, one SQL text where the two databases allow it, one contract suite that runs on both. The database has
//! the last word: at most one open check-in per coworker and business is a unique index, not a promise of the code.

mod batch;
mod facts;
mod policies;
mod locks;
mod access;
mod adopt;
mod checkins;
mod directory;
mod leases;
mod postgres;
mod retention;
mod rows;
mod safety;
mod spool;
mod sql;

pub use access::TokenPair;
pub(crate) use adopt::{OldCharge, OldLine, OldRecords, OldRefusal, OldVisit};
pub(crate) use batch::{
    Batch, BatchRows, ChangedVisit, CoverageRow, DecidedFact, KnownRecords, KnownVisit, NewStanding, PendingPresence,
    PersonStanding, Writes,
};
pub use directory::StoredEntity;
pub use facts::LoggedFact;
pub use retention::Expired;
pub use safety::BackupError;
pub(crate) use spool::{SpoolFile, Spooled};
pub use sql::StoreError;

use crate::settings::Database;

/// An open database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    sql: sql::Sql,
    /// Batches are committed only while a lease is ours.
    fence: Option<leases::Fence>,
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not answer now, [`StoreError::Unusable`] when it never will.
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        let sql = match database {
            Database::Sqlite { path } => sql::Sql::open_sqlite(path).await?,
            Database::Postgres { url, password } => sql::Sql::open_postgres(url, password.as_ref()).await?,
        };
        Ok(Self { sql, fence: None })
    }

    /// The same database for the pipeline: what others ask does not keep it waiting. Once for each process.
    ///
    /// # Errors
    /// When the connections have been closed.
    pub async fn deciding(&self) -> Result<Self, StoreError> {
        Ok(Self { sql: self.sql.deciding().await?, fence: self.fence })
    }

    /// Does the database answer, and would it let us write?
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.sql.probe().await
    }

    /// Is it shared with other gateways, and elsewhere, so that door messages wait in a spool for it?
    pub const fn is_shared(&self) -> bool {
        matches!(self.sql, sql::Sql::Postgres(_))
    }

    /// Ends the connections in good order.
    pub async fn close(&self) {
        self.sql.close().await;
    }
}

#[cfg(test)]
pub(crate) use sql::SAID;
#[cfg(test)]
mod false_commits;
#[cfg(test)]
pub(crate) mod tests;
