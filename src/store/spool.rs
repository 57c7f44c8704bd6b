//! The spool file: a SQLite queue, whichever database the records are in. [`crate::spool`] decides what it contains and
//! when it is read.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    columns::sql,
    error::StoreError,
    rows::row,
    sql::Sql,
    statement::{Arg, Statement, statement},
    stored::StoredRow,
};
use crate::base::clock::WallTime;

/// Door messages that are acknowledged but not yet in the shared database, in the order of arrival. They contain PINs
/// as typed.
const SCHEMA: &str =
    "CREATE TABLE IF NOT EXISTS spool (seq INTEGER PRIMARY KEY, arrived_at TEXT NOT NULL, message TEXT NOT NULL)";

const KEY: &[&str] = &["seq"];

/// By the primary key. A row that already exists is the same one, from an earlier attempt whose outcome was unknown.
const APPEND: Statement = statement!(
    rows(Spooled)
    sql!(
        "INSERT INTO spool (", [Spooled: "*"], ") SELECT ", [Spooled: "*"], " FROM r WHERE true ORDER BY seq
         ON CONFLICT (seq) DO UPDATE SET ", [Spooled, except KEY: "* = excluded.*"],
    )
);
const FORGET: Statement = statement!("DELETE FROM spool WHERE seq <= $1");
/// In the order of the primary key.
const PAGE: Statement = statement!(sql!("SELECT ", [Spooled: "*"], " FROM spool WHERE seq > $1 ORDER BY seq LIMIT $2"));
const ENDS: Statement = statement!("SELECT min(seq) AS first, max(seq) AS last FROM spool");
const USED: Statement = statement!(
    "SELECT (p.page_count - f.freelist_count) * s.page_size AS used
     FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s"
);

row! {
    read
    /// One row of the spool.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Spooled {
        /// Its place: messages with higher numbers arrived later.
        pub(crate) seq: i64,
        /// When it arrived.
        pub(crate) arrived_at: WallTime,
        /// The message as JSON.
        pub(crate) message: String,
    }
}

/// An open spool.
#[derive(Clone, Debug)]
pub(crate) struct SpoolFile {
    sql: Sql,
}

impl SpoolFile {
    /// Opens or creates the file, which only its owner can read.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { sql: Sql::open_scratch(path, SCHEMA).await? })
    }

    /// Removes the file with everything in it.
    pub(crate) fn remove(path: &Path) -> io::Result<()> {
        for suffix in ["", "-wal", "-shm"] {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            match fs::remove_file(PathBuf::from(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The first and the last number in it; `None` if it is empty.
    pub(crate) async fn ends(&self) -> Result<Option<(i64, i64)>, StoreError> {
        let rows = self.sql.read(ENDS, &[]).await?;
        let row = rows.first();
        let first = row.map(|row| row.opt_int("first")).transpose()?.flatten();
        let last = row.map(|row| row.opt_int("last")).transpose()?.flatten();
        Ok(first.zip(last))
    }

    /// Adds rows and deletes everything up to the number `done`, in one durable transaction; returns how many bytes of
    /// the file are then in use. The same rows may be added again if it is unknown whether the last attempt succeeded.
    pub(crate) async fn append(&self, rows: &[Spooled], done: i64) -> Result<u64, StoreError> {
        let mut transaction = self.sql.begin().await?;
        transaction.change(FORGET, &[Arg::Int(done)]).await?;
        if !rows.is_empty() {
            transaction.change(APPEND, &[Arg::rows(rows)]).await?;
        }
        let used = transaction.rows(USED, &[]).await?;
        transaction.commit().await?;
        let used = used.first().map(|row| row.int("used")).transpose()?.unwrap_or(0);
        Ok(u64::try_from(used).unwrap_or(0))
    }

    /// At most `limit` rows after a number, in order.
    pub(crate) async fn page(&self, after: i64, limit: usize) -> Result<Vec<Spooled>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.sql.read(PAGE, &[Arg::Int(after), Arg::Int(limit)]).await?;
        rows.iter().map(Spooled::read).collect()
    }

    /// Closes the connections cleanly.
    pub(crate) async fn close(&self) {
        self.sql.close().await;
    }
}
