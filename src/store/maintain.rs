//! Gives the disk space of deleted rows back, a few pages at a time, while the daemon runs.
//!
//! SQLite keeps the pages of deleted rows for later rows, so a file only grows. A file made by this version can be cut
//! from its end page by page (`auto_vacuum = INCREMENTAL`); one made by an earlier version must be rewritten once,
//! which is done only while no other process has it open.

use std::{fs, path::Path, time::Duration};

use sqlx::{
    ConnectOptions, Connection, Executor, Row, SqliteConnection,
    sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteLockingMode, SqliteSynchronous},
};
use tokio::time;

use super::{
    error::{StoreError, database_code},
    handle::Store,
    sql::Sql,
    sqlite::must_exist,
    statement::{Statement, statement},
};
use crate::{
    base::{
        clock::Clock,
        disk::{self, folder_of, with_suffix},
    },
    settings::Database,
};

/// How long one step may keep others from writing. A tap that comes meanwhile waits for it, and SQLite looks again
/// after 1, 2 and 5 ms.
const STEP: Duration = Duration::from_millis(4);

/// The most pages in a step, so a step after a fast one is not far too long.
const MOST_PAGES: i64 = 256;

/// The pause after a step, in multiples of its duration: the work is a small part of what the disk can do.
const PAUSES: u32 = 4;

/// The shortest such pause.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

/// How many pages are moved before SQLite's log is copied into the file, so the daemon's own commits never have to copy
/// so much.
const PAGES_IN_LOG: i64 = 500;

/// How long to wait for the right to write.
const BUSY: Duration = Duration::from_secs(10);

/// What a file uses, in bytes.
const UNUSED: Statement =
    statement!("SELECT f.freelist_count * s.page_size AS unused FROM pragma_freelist_count f, pragma_page_size s");

/// How long a cut of the log may keep others from writing while it waits for a reader. Then it is tried again.
const CUT: Duration = Duration::from_millis(2);

/// How often the log is tried to be cut, and the pause between two attempts. A backup reads for longer; then the log
/// stays as it is, and later commits use it again.
const CUTS: u32 = 100;
const CUT_PAUSE: Duration = Duration::from_millis(50);

/// What was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// The size of the file and its log before, in bytes.
    pub before: u64,
    /// Their size now, in bytes.
    pub after: u64,
}

/// Why no space was given back.
#[derive(Debug, thiserror::Error)]
pub enum MaintainError {
    /// PostgreSQL does this itself.
    #[error("the database is in PostgreSQL, which uses the space of deleted rows again by itself (autovacuum)")]
    Postgres,
    /// The file must be rewritten, and another process has it open.
    #[error(
        "the file was made by an earlier version, so it must be rewritten once, and no process may use it meanwhile. Stop \
         the daemon, run `checkind maintain`, and start it again; {megabytes} MB will be given back"
    )]
    InUse {
        /// What can be given back, in millions of bytes.
        megabytes: u64,
    },
    /// The file must be rewritten, and there is no room for it.
    #[error("rewriting the file needs {needed} MB of free space on its disk, which has {free} MB")]
    NoRoom {
        /// What it needs, in millions of bytes.
        needed: u64,
        /// What is free, in millions of bytes.
        free: u64,
    },
    /// The database failed. What was given back until then stays so.
    #[error("cannot give space back")]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for MaintainError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The pages of a file.
#[derive(Clone, Copy, Debug)]
struct Pages {
    all: u64,
    free: u64,
    bytes: u64,
}

impl Store {
    /// Gives the free pages of a SQLite file back to the disk. `left` gets the number of bytes that are left to do.
    ///
    /// # Errors
    /// [`MaintainError`]
    pub async fn maintain(database: &Database, left: impl Fn(u64)) -> Result<Reclaimed, MaintainError> {
        let Database::Sqlite { path } = database else { return Err(MaintainError::Postgres) };
        must_exist(path)?;
        let before = bytes_of(path);
        let mut connection = options(path).connect().await?;
        let found = pages(&mut connection).await?;
        let is_incremental = number(&mut connection, "PRAGMA auto_vacuum").await? == 2;
        if !is_incremental && found.free > 0 {
            connection.close().await?;
            rewrite(path, found).await?;
            connection = options(path).connect().await?;
        } else if is_incremental {
            shrink(&mut connection, found, left).await?;
        }
        cut_log(&mut connection).await?;
        connection.close().await?;
        Ok(Reclaimed { before, after: bytes_of(path) })
    }

    /// The bytes of a SQLite file that no row uses; `None` with PostgreSQL.
    pub async fn unused(&self) -> Result<Option<u64>, StoreError> {
        let Sql::Sqlite(_) = &self.sql else { return Ok(None) };
        let rows = self.sql.read(UNUSED, &[]).await?;
        let unused = rows.first().map_or(Ok(0), |row| row.int("unused"))?;
        Ok(Some(u64::try_from(unused).unwrap_or(0)))
    }
}

/// Cuts the free pages from the file, in steps between which others write.
async fn shrink(connection: &mut SqliteConnection, before: Pages, left: impl Fn(u64)) -> Result<(), MaintainError> {
    let clock = Clock::system();
    let (mut step, mut in_log) = (1_i64, 0);
    let mut free = before.free;
    while free > 0 {
        left(free * before.bytes);
        connection.execute("BEGIN IMMEDIATE").await?;
        let began = clock.now().boot;
        connection.execute(sqlx::AssertSqlSafe(format!("PRAGMA incremental_vacuum({step})"))).await?;
        connection.execute("COMMIT").await?;
        let took = clock.now().boot.since(began);
        in_log += step;
        if in_log >= PAGES_IN_LOG {
            checkpoint(connection).await?;
            in_log = 0;
        }
        step = next_step(step, took);
        time::sleep((took * PAUSES).max(SHORTEST_PAUSE)).await;
        free = pages(connection).await?.free;
    }
    // The file itself becomes shorter when the whole log has been copied into it.
    checkpoint(connection).await
}

/// The number of pages for the next step, which may take as long as [`STEP`].
fn next_step(step: i64, took: Duration) -> i64 {
    let next = if took > STEP {
        step / 2
    } else if took * 2 < STEP {
        step * 2
    } else {
        step
    };
    next.clamp(1, MOST_PAGES)
}

/// Copies SQLite's log into the file, as far as readers allow it. Neither readers nor writers wait for it.
async fn checkpoint(connection: &mut SqliteConnection) -> Result<(), MaintainError> {
    connection.fetch_all("PRAGMA wal_checkpoint(PASSIVE)").await?;
    Ok(())
}

/// Cuts SQLite's log, if no reader needs it. Others cannot write meanwhile, so most of the log is copied into the file
/// before.
async fn cut_log(connection: &mut SqliteConnection) -> Result<(), MaintainError> {
    let milliseconds = CUT.as_millis();
    connection.execute(sqlx::AssertSqlSafe(format!("PRAGMA busy_timeout = {milliseconds}"))).await?;
    for _ in 0..CUTS {
        checkpoint(connection).await?;
        // The first column says whether a reader or a writer was in the way.
        match connection.fetch_one("PRAGMA wal_checkpoint(TRUNCATE)").await {
            Ok(row) if row.try_get::<i64, _>(0)? == 0 => return Ok(()),
            Ok(_) => {}
            // SQLITE_BUSY
            Err(error) if database_code(&error).as_deref() == Some("5") => {}
            Err(error) => return Err(error.into()),
        }
        time::sleep(CUT_PAUSE).await;
    }
    tracing::info!("the log could not be cut, because it is being read; run `checkind maintain` again after a backup");
    Ok(())
}

/// The size of a file and its log.
fn bytes_of(path: &Path) -> u64 {
    let of = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    of(path) + of(&with_suffix(path, "-wal"))
}

/// Rewrites a file of an earlier version, while no other process has it open.
async fn rewrite(path: &Path, before: Pages) -> Result<(), MaintainError> {
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    // Once beside the file, and once in its log.
    let needed = 2 * (before.all - before.free) * before.bytes;
    let folder = folder_of(path);
    let free = disk::free(folder).map_err(sqlx::Error::Io)?;
    if free < needed {
        return Err(MaintainError::NoRoom { needed: megabytes(needed), free: megabytes(free) });
    }
    let in_use = |error: sqlx::Error| match database_code(&error).as_deref() {
        // SQLITE_BUSY
        Some("5") => MaintainError::InUse { megabytes: megabytes(before.free * before.bytes) },
        Some(_) | None => error.into(),
    };
    let alone = options(path)
        .locking_mode(SqliteLockingMode::Exclusive)
        .busy_timeout(Duration::ZERO)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .pragma("temp_store", "FILE");
    let mut connection = alone.connect().await.map_err(in_use)?;
    // Its temporary file is as large as the database, too large for a `/tmp` in memory.
    let quoted = folder.display().to_string().replace('\'', "''");
    connection.execute(sqlx::AssertSqlSafe(format!("PRAGMA temp_store_directory = '{quoted}'"))).await?;
    connection.execute("VACUUM").await.map_err(in_use)?;
    connection.fetch_all("PRAGMA wal_checkpoint(TRUNCATE)").await?;
    connection.close().await?;
    Ok(())
}

/// How the file is opened: without a sync for each step, because a step that a power cut takes back loses nothing. The
/// daemon's next commit syncs the log with everything before it.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(BUSY)
        .synchronous(SqliteSynchronous::Normal)
        .pragma("wal_autocheckpoint", "0")
        .log_statements(tracing::log::LevelFilter::Off)
        .log_slow_statements(tracing::log::LevelFilter::Off, Duration::ZERO)
}

async fn pages(connection: &mut SqliteConnection) -> Result<Pages, MaintainError> {
    let all = number(connection, "PRAGMA page_count").await?;
    let free = number(connection, "PRAGMA freelist_count").await?;
    Ok(Pages { all, free, bytes: number(connection, "PRAGMA page_size").await? })
}

async fn number(connection: &mut SqliteConnection, pragma: &'static str) -> Result<u64, MaintainError> {
    let number: i64 = connection.fetch_one(pragma).await?.try_get(0)?;
    Ok(u64::try_from(number).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_until_they_take_long_enough() {
        for (step, milliseconds, next) in [(1, 0, 2), (1, 100, 1), (8, 3, 8), (8, 5, 4), (256, 1, 256), (200, 1, 256)] {
            assert_eq!(next_step(step, Duration::from_millis(milliseconds)), next, "{step} in {milliseconds} ms");
        }
    }
}
