//! The spool file: a SQLite queue, whichever database the records are in. [`crate::spool`] decides what it contains and
//! when it is read.

use std::{fs, io, path::Path};

use super::{
    columns::sql,
    error::StoreError,
    rows::{LARGEST_PORTION, row},
    sql::Sql,
    statement::{Arg, Statement, statement},
    stored::StoredRow,
};
use crate::base::{clock::WallTime, disk::with_suffix};

/// Door messages that are acknowledged, in the order of arrival: those that the shared database does not have yet, and
/// those that it has had for a short time. They contain PINs as typed.
const SCHEMA: &str =
    "CREATE TABLE IF NOT EXISTS spool (seq INTEGER PRIMARY KEY, arrived_at TEXT NOT NULL, message TEXT NOT NULL);
     CREATE TABLE IF NOT EXISTS spool_id (id TEXT NOT NULL);
     CREATE TABLE IF NOT EXISTS went_back (at TEXT NOT NULL, detail TEXT NOT NULL)";

/// A file of an earlier version lacks this column.
const HAS_MARKED: Statement =
    statement!("SELECT count(*) AS found FROM pragma_table_info('spool') WHERE name = 'marked'");
const ADD_MARKED: Statement = statement!("ALTER TABLE spool ADD COLUMN marked INTEGER");
const FIND_ID: Statement = statement!("SELECT id FROM spool_id");
const FORGET_ID: Statement = statement!("DELETE FROM spool_id");
const PUT_ID: Statement = statement!("INSERT INTO spool_id (id) VALUES ($1)");

const FIND_WENT_BACK: Statement = statement!("SELECT at, detail FROM went_back");
const FORGET_WENT_BACK: Statement = statement!("DELETE FROM went_back");
const PUT_WENT_BACK: Statement = statement!("INSERT INTO went_back (at, detail) VALUES ($1, $2)");

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
const SIZES: Statement =
    statement!("SELECT seq, octet_length(message) AS bytes FROM spool WHERE seq > $1 ORDER BY seq LIMIT $2");
const PAGE: Statement =
    statement!(sql!("SELECT ", [Spooled: "*"], " FROM spool WHERE seq > $1 AND seq <= $2 ORDER BY seq"));
/// By the primary key.
const ENDS: Statement = statement!(
    "SELECT min(seq) AS first, max(seq) AS last, (SELECT marked FROM spool ORDER BY seq DESC LIMIT 1) AS marked
     FROM spool"
);
/// By the primary key.
const MARK_LAST: Statement = statement!("UPDATE spool SET marked = $2 WHERE seq = $1");
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
        /// What the shared database was known to have when this row was written: every message up to this place. It is
        /// in the row because a page of its own would double what is written for a tap. `None` in a row that an earlier
        /// version wrote.
        pub(crate) marked: Option<i64>,
    }
}

/// The rows of a spool that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpoolRows {
    /// The first place.
    pub(crate) first: i64,
    /// The last place.
    pub(crate) last: i64,
    /// See [`Spooled::marked`], of the last row.
    pub(crate) marked: Option<i64>,
}

/// When the shared database was last found to have gone back in time, and what was said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WentBack {
    pub(crate) at: WallTime,
    pub(crate) detail: String,
}

/// An open spool.
#[derive(Clone, Debug)]
pub(crate) struct SpoolFile {
    sql: Sql,
}

impl SpoolFile {
    /// Opens or creates the file, which only its owner can read.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let sql = Sql::open_scratch(path, SCHEMA).await?;
        if sql.read(HAS_MARKED, &[]).await?.first().map_or(Ok(0), |row| row.int("found"))? == 0 {
            sql.change(ADD_MARKED, &[]).await?;
        }
        Ok(Self { sql })
    }

    /// The random id of the file, if it has one.
    pub(crate) async fn id(&self) -> Result<Option<String>, StoreError> {
        self.sql.read(FIND_ID, &[]).await?.first().map(|row| row.text("id")).transpose()
    }

    /// Gives the file an id.
    pub(crate) async fn set_id(&self, id: &str) -> Result<(), StoreError> {
        let mut transaction = self.sql.begin().await?;
        transaction.change(FORGET_ID, &[]).await?;
        transaction.change(PUT_ID, &[Arg::Text(id.to_owned())]).await?;
        transaction.commit().await
    }

    /// What was noted of a database that went back.
    pub(crate) async fn went_back(&self) -> Result<Option<WentBack>, StoreError> {
        let rows = self.sql.read(FIND_WENT_BACK, &[]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(WentBack { at: row.time("at")?, detail: row.text("detail")? }))
    }

    /// Notes it instead of an earlier time.
    pub(crate) async fn note_went_back(&self, noted: &WentBack) -> Result<(), StoreError> {
        let mut transaction = self.sql.begin().await?;
        transaction.change(FORGET_WENT_BACK, &[]).await?;
        transaction.change(PUT_WENT_BACK, &[Arg::Time(noted.at), Arg::Text(noted.detail.clone())]).await?;
        transaction.commit().await
    }

    /// Removes the file with everything in it.
    pub(crate) fn remove(path: &Path) -> io::Result<()> {
        for suffix in ["", "-wal", "-shm"] {
            match fs::remove_file(with_suffix(path, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The rows in it; `None` if it is empty.
    pub(crate) async fn rows(&self) -> Result<Option<SpoolRows>, StoreError> {
        let rows = self.sql.read(ENDS, &[]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let marked = row.opt_int("marked")?;
        Ok(row.opt_int("first")?.zip(row.opt_int("last")?).map(|(first, last)| SpoolRows { first, last, marked }))
    }

    /// Notes in the last row what the shared database is known to have: every message up to `marked`.
    pub(crate) async fn note(&self, last: i64, marked: i64) -> Result<(), StoreError> {
        self.sql.change(MARK_LAST, &[Arg::Int(last), Arg::Int(marked)]).await.map(drop)
    }

    /// Adds rows and deletes everything up to the number `done`, in one durable transaction; returns how many bytes of
    /// the file are then in use. The same rows may be added again if it is unknown whether the last attempt succeeded.
    pub(crate) async fn append(&self, rows: &[Spooled], done: i64) -> Result<u64, StoreError> {
        let mut transaction = self.sql.begin().await?;
        transaction.change(FORGET, &[Arg::Int(done)]).await?;
        // As many at once as one statement takes: the values of a statement are copies, and messages may be large.
        for part in rows.chunks(LARGEST_PORTION) {
            transaction.change(APPEND, &[Arg::rows(part)]).await?;
        }
        let used = transaction.rows(USED, &[]).await?;
        transaction.commit().await?;
        let used = used.first().map(|row| row.int("used")).transpose()?.unwrap_or(0);
        Ok(u64::try_from(used).unwrap_or(0))
    }

    /// The rows after a number, in order: at most `limit`, whose messages have at most this many `bytes` together; one
    /// row may have more.
    pub(crate) async fn page(&self, after: i64, limit: usize, bytes: usize) -> Result<Vec<Spooled>, StoreError> {
        let [limit, bytes] = [limit, bytes].map(|bound| i64::try_from(bound).unwrap_or(i64::MAX));
        let (mut last, mut total) = (after, 0);
        for row in self.sql.read(SIZES, &[Arg::Int(after), Arg::Int(limit)]).await? {
            total += row.int("bytes")?;
            if total > bytes && last > after {
                break;
            }
            last = row.int("seq")?;
        }
        let rows = self.sql.read(PAGE, &[Arg::Int(after), Arg::Int(last)]).await?;
        rows.iter().map(Spooled::read).collect()
    }

    /// Closes the connections cleanly.
    pub(crate) async fn close(&self) {
        self.sql.close().await;
    }
}
