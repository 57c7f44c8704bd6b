//! The database: everything that the rest of the program reads from it and writes to it.
//!
//! There is one interface, one SQL text wherever the two databases allow it, and one contract suite that runs on both.
//! The database has the last word: a unique index, not the code, ensures at most one open check-in per coworker and
//! business.

mod access;
mod adopt;
mod batch;
mod checkins;
mod columns;
mod copy;
mod directory;
mod error;
mod facts;
mod fence;
mod handle;
mod hex;
mod leases;
mod limits;
mod list;
mod list_plan;
mod list_text;
mod locks;
mod long_lived;
mod maintain;
mod marks;
mod news;
mod plain_checkins;
mod policies;
mod postgres;
mod postgres_tls;
mod retention;
mod rows;
mod safety;
mod schema;
mod set_aside;
mod spool;
mod sql;
mod sqlite;
mod sqlite_access;
mod sqlstates;
mod statement;
mod stored;
mod totals;
mod upgrade;

pub use access::{Rotation, TokenPair};
pub(crate) use adopt::{OldCharge, OldLine, OldRecords, OldRefusal, OldVisit};
pub(crate) use batch::{
    Batch, BatchRows, ChangedVisit, CoverageRow, DecidedFact, EditedVisit, NewPersonState, StoredPerson, StoredRecords,
    StoredVisit, UnloggedPresence, Writes,
};
pub use copy::BackupError;
pub use directory::StoredEntity;
pub use error::StoreError;
pub use facts::LoggedFact;
pub use handle::Store;
pub use long_lived::{LongLivedHolder, TokenAdded};
pub use maintain::{MaintainError, Reclaimed};
pub(crate) use marks::CommitMark;
pub use news::{DatabaseNews, Found};
pub(crate) use plain_checkins::PlainCheckin;
pub use retention::Expired;
pub use schema::{CopyFirst, SchemaChange};
pub use set_aside::SetAsideFact;
pub(crate) use spool::{SpoolFile, Spooled, WentBack};
pub(crate) use sqlite::WriteStamp;
pub use sqlstates::{SQLSTATES, SqlState, SqlStateEffect};

#[cfg(test)]
pub(crate) use sql::SENT;
#[cfg(test)]
pub(crate) mod tests;
