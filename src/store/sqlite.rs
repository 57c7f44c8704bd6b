//! A SQLite file: how it is opened, and the connections that read and write it.

use std::{fmt, io, path::Path, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions, Connection,
    sqlite::{
        SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
    },
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    error::{StoreError, database_code, migration_error},
    limits::{SLOW, TIME_LIMIT},
};

/// How long SQLite waits for another process's lock before a statement fails. A copy or an import that holds it for a
/// moment is no outage. A longer lock raises a condition, and the work is retried.
const BUSY: Duration = Duration::from_secs(5);

/// The number of pages in SQLite's log at which a commit checkpoints them into the file, which costs it two more syncs.
/// A single tap writes some ten pages: at SQLite's default of 1,000, one acknowledgement in a hundred waits that long,
/// at 8,000 (16 MB) one in eight hundred.
const PAGES_IN_LOG: &str = "8000";

/// How much of a file the writing connection may keep in memory, in KiB, which SQLite marks with a minus. A batch of a
/// thousand taps changes some 5 MB of pages; those that do not fit are written to the log before the commit, one write
/// each, and read again after it.
const CACHE: &str = "-8192";

/// The same for a read-only connection: the kernel caches the file, too.
const READER_CACHE: &str = "-512";

/// The page size of a new SQLite file, in bytes: half of SQLite's default, because most commits change a few scattered
/// rows and write every page that they touch. A file keeps the page size with which it was created.
const PAGE: u32 = 2048;

/// How many rows SQLite's thread may be ahead of the task that reads them: those of the largest batch, so neither waits
/// for the other after every few rows.
const ROWS_AHEAD: usize = 1024;

/// The number of statements that a connection keeps prepared: all that a batch may need, for each number of rows.
const STATEMENTS: usize = 200;

/// Read-only connections per process, for pages and API calls at the same time. Further reads wait their turn.
const READERS: u32 = 4;

/// A SQLite file, with one connection that writes and a few that read.
///
/// The writer begins every transaction with `BEGIN IMMEDIATE` and is discarded after any failure, because a
/// connection whose transaction failed on a full disk or an I/O error may report commits that never happened.
#[derive(Clone)]
pub(crate) struct SqliteFile {
    options: SqliteConnectOptions,
    writer: Arc<Mutex<Option<SqliteConnection>>>,
    pub(super) readers: SqlitePool,
}

impl fmt::Debug for SqliteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteFile({})", self.options.get_filename().display())
    }
}

/// The right to write, and the slot to which the connection returns after a successful commit.
pub(super) type WriterSlot = OwnedMutexGuard<Option<SqliteConnection>>;

impl SqliteFile {
    /// Opens or creates the file of the records; brings its schema up to date.
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = durable(path);
        let mut writer = options.connect().await.map_err(|error| unopened(path, error))?;
        sqlx::migrate!("src/store/migrations/sqlite").run(&mut writer).await.map_err(migration_error)?;
        Ok(Self::new(path, options, writer))
    }

    /// Opens or creates a file with this schema, whose deleted rows are overwritten on the disk.
    pub(super) async fn open_scratch(path: &Path, schema: &'static str) -> Result<Self, StoreError> {
        let options = durable(path).pragma("secure_delete", "ON");
        let mut writer = options.connect().await.map_err(|error| unopened(path, error))?;
        sqlx::query(schema).execute(&mut writer).await?;
        Ok(Self::new(path, options, writer))
    }

    fn new(path: &Path, options: SqliteConnectOptions, writer: SqliteConnection) -> Self {
        give_to_folder_owner(path);
        // Without timeouts the pool has no maintenance task. That task can read the count of idle connections just when
        // it has wrapped below zero, and then never yields its thread again (sqlx 0.9.0; transact-rs/sqlx#3645).
        let pool = SqlitePoolOptions::new().idle_timeout(None).max_lifetime(None);
        let readers = pool.max_connections(READERS).acquire_timeout(TIME_LIMIT).connect_lazy_with(
            options.clone().read_only(true).create_if_missing(false).pragma("cache_size", READER_CACHE),
        );
        Self { options, writer: Arc::new(Mutex::new(Some(writer))), readers }
    }

    /// Waits for the right to write. The connection is a new one if the last transaction failed.
    pub(super) async fn writer(&self) -> Result<(WriterSlot, SqliteConnection), StoreError> {
        let mut slot = Arc::clone(&self.writer).lock_owned().await;
        let connection = match slot.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok((slot, connection))
    }

    /// Closes the connections; the last one to close checkpoints SQLite's log into the file.
    pub(super) async fn close(&self) {
        self.readers.close().await;
        let writer = self.writer.lock().await.take();
        if let Some(writer) = writer
            && let Err(error) = writer.close().await
        {
            tracing::warn!(%error, "could not close the database");
        }
    }
}

/// How each of our SQLite files is opened: whatever was committed is on the disk.
fn durable(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .page_size(PAGE)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .row_buffer_size(ROWS_AHEAD)
        .statement_cache_capacity(STATEMENTS)
        .pragma("wal_autocheckpoint", PAGES_IN_LOG)
        .pragma("cache_size", CACHE)
        // A statement's undo pages, a few for each, stay in memory: writing them to a file would cost time for nothing.
        .pragma("temp_store", "MEMORY")
        .log_slow_statements(tracing::log::LevelFilter::Warn, SLOW)
        .log_statements(tracing::log::LevelFilter::Off)
}

/// A command run by root must not leave files that the daemon's user cannot open, so they are given to the owner of the
/// folder. If that fails, opening them fails later with an error that shows it.
fn give_to_folder_owner(path: &Path) {
    use std::os::unix::fs::MetadataExt;

    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(owner) = std::fs::metadata(folder) else { return };
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return;
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        if let Err(error) = std::os::unix::fs::chown(&file, Some(owner.uid()), Some(owner.gid()))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a database file could not be given to the owner of its folder");
        }
    }
}

/// Names the file in the error if it cannot be opened.
fn unopened(path: &Path, error: sqlx::Error) -> StoreError {
    match StoreError::from(error) {
        // SQLITE_CANTOPEN.
        StoreError::Refused { source, .. } if database_code(&source).as_deref() == Some("14") => StoreError::Refused {
            what: format!("{} cannot be opened; its folder must exist and be writable by this user", path.display()),
            source,
        },
        other @ (StoreError::Unavailable(_)
        | StoreError::Refused { .. }
        | StoreError::Unfit(_)
        | StoreError::Conflict
        | StoreError::Unusable { .. }) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_pool_of_readers_has_no_maintenance_task() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = SqliteFile::open(&folder.path().join("x.db")).await.expect("a file");
        let options = file.readers.options();
        assert_eq!((options.get_idle_timeout(), options.get_max_lifetime()), (None, None));
        assert_eq!(options.get_min_connections(), 0);
    }
}
