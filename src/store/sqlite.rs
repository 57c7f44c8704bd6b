//! A SQLite file: how it is opened, and the connections that read and write it.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Executor,
    sqlite::{
        SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
        SqliteSynchronous,
    },
};
use tokio::{
    sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::base::{
    clock::{BootTime, Clock, WallTime},
    disk::with_suffix,
};

use super::{
    error::{RESTORE, StoreError, sqlite_code},
    limits::{DISK, SLOW, TIME_LIMIT},
    schema::{CopyFirst, SchemaChange, compare, unusable},
    sqlite_access::{only_files, what_is_in_the_way, what_is_in_the_way_of_reading},
    upgrade::{applied, bring_up_to_date, steps},
};

/// How long SQLite waits for another process's lock before a statement fails. A copy or an import that holds it for a
/// moment is no outage. A longer lock raises a condition, and the work is retried.
const BUSY: Duration = Duration::from_secs(5);

/// The number of pages in SQLite's log at which a commit checkpoints them into the file, which costs it two more syncs.
/// A single tap writes some ten pages: at SQLite's default of 1,000, one acknowledgement in a hundred waits that long,
/// at 8,000 (16 MB) one in eight hundred.
const PAGES_IN_LOG: &str = "8000";

/// The bytes of SQLite's log that stay on the disk once all of it is in the file and it begins again.
const LOG_LIMIT: &str = "2000000";

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

/// How many of these may read lists at the same time: reads that take longer leave one for all others. Further lists
/// wait, and fail after [`LIST_WAIT`].
const LIST_READERS: u32 = 3;
const _: () = assert!(LIST_READERS < READERS, "no reader is left");

/// How long a list waits for its turn.
const LIST_WAIT: Duration = Duration::from_secs(5);

/// The bytes of SQLite's log at which no list begins until the log can begin again: four times as long as it becomes
/// otherwise. It only grows while at each commit some list is being read that began before it.
const LONG_LOG: u64 = 64_000_000;

/// How often lists wait for that at most: a backup may keep the log from beginning again, and lists must go on.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// A SQLite file, with one connection that writes and a few that read.
///
/// The writer begins every transaction with `BEGIN IMMEDIATE` and is discarded after any failure, because a
/// connection whose transaction failed on a full disk or an I/O error may report commits that never happened.
#[derive(Clone)]
pub(crate) struct SqliteFile {
    options: SqliteConnectOptions,
    writer: Arc<Mutex<Option<SqliteConnection>>>,
    pub(super) readers: SqlitePool,
    lists: Arc<Semaphore>,
    /// When lists last waited for the log to begin again.
    shortened: Arc<Mutex<Option<BootTime>>>,
    /// The file when it was opened, if only to be read.
    stamp: Option<WriteStamp>,
    /// The device and number of the file that was opened.
    identity: Option<(u64, u64)>,
    checked: Arc<CheckState>,
}

/// SQLite's code for a damaged file.
const SQLITE_CORRUPT: u32 = 11;

/// What is known of the file's structure.
#[derive(Debug, Default)]
pub(super) struct CheckState {
    /// Whether a check after a crash has not come to its end.
    is_pending: AtomicBool,
    /// What SQLite said about the damage.
    damage: OnceLock<String>,
    /// Cancelled when there is damage.
    is_found: CancellationToken,
}

impl CheckState {
    /// Notes that the file is damaged, which only another file changes: what can still be read may be wrong, and what is
    /// written may make it worse.
    fn note_damage(&self, damage: &str) {
        let _first = self.damage.set(damage.replace('\n', " "));
        self.is_found.cancel();
    }

    /// Passes an answer on, after noting whether it says that the file is damaged.
    pub(super) fn noted<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Refused { source, .. }) = &answer
            && sqlite_code(source) == Some(SQLITE_CORRUPT)
        {
            self.note_damage(&source.to_string());
        }
        answer
    }
}

/// The device and number of the file at a path.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl fmt::Debug for SqliteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteFile({})", self.options.get_filename().display())
    }
}

/// The right to write, and the slot to which the connection returns after a successful commit.
pub(super) type WriterSlot = OwnedMutexGuard<Option<SqliteConnection>>;

/// What shows that a file has been written to: number, length and time of change of the file and of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WriteStamp([Option<(u64, u64, i64, i64)>; 2]);

impl WriteStamp {
    fn of(path: &Path) -> Self {
        let of = |path: &Path| {
            fs::metadata(path).ok().map(|found| (found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
        };
        Self([of(path), of(&with_suffix(path, "-wal"))])
    }

    const fn has_log(&self) -> bool {
        self.0[1].is_some()
    }

    /// Whether the last write was at least a second ago. The file system's clock may tick rarely, so what is written
    /// now may leave the stamp as it is.
    pub(crate) fn is_settled(&self, now: WallTime) -> bool {
        let last = self.0.iter().flatten().map(|(_, _, seconds, _)| *seconds).max();
        last.is_some_and(|seconds| seconds.saturating_add(2) <= now.millis() / 1000)
    }
}

impl SqliteFile {
    /// When the file was last written to.
    pub(super) fn write_stamp(&self) -> WriteStamp {
        WriteStamp::of(self.options.get_filename())
    }

    /// Opens or creates the file of the records; brings its schema up to date.
    pub(super) async fn open(path: &Path, first: CopyFirst) -> Result<(Self, SchemaChange), StoreError> {
        let options = durable(path);
        only_files(path)?;
        create_for_owner(path);
        // A file can be cut from its end only if it was made for that.
        let is_new = fs::metadata(path).is_ok_and(|file| file.len() == 0);
        let first_options =
            if is_new { options.clone().auto_vacuum(SqliteAutoVacuum::Incremental) } else { options.clone() };
        let mut writer = first_options.connect().await.map_err(|error| unopened(path, error))?;
        let change = bring_up_to_date(path, &mut writer, first)
            .await
            .map_err(|error| because(path, error, what_is_in_the_way(path)));
        let (writer, change) = kept_if_good(writer, change).await?;
        Ok((Self::new(options, Some(writer)), change))
    }

    /// Opens an existing file of the records to write to it; its schema must be up to date.
    pub(super) async fn open_existing(path: &Path) -> Result<Self, StoreError> {
        must_exist(path)?;
        let options = durable(path).create_if_missing(false);
        let mut writer = options.connect().await.map_err(|error| unopened(path, error))?;
        let steps = steps();
        let suits = applied(&mut writer).await.and_then(|applied| compare(&steps, &applied)?.is_current());
        let (writer, ()) = kept_if_good(writer, suits).await?;
        Ok(Self::new(options, Some(writer)))
    }

    /// Opens an existing file of the records to read it. Creates and writes no file, and needs no right to.
    ///
    /// While a daemon has the file open, or has left its log behind, SQLite reads that log too, by locks in the file
    /// beside it. After a clean shutdown there is no log, and SQLite would create one; then the file is read as one
    /// that does not change, and [`was_left_alone`](Self::was_left_alone) tells whether that was true.
    pub(super) async fn open_to_read(path: &Path) -> Result<(Self, (i64, i64)), StoreError> {
        must_exist(path)?;
        let stamp = WriteStamp::of(path);
        let options = to_read(path).immutable(!stamp.has_log());
        let unread = |error: StoreError| because(path, error, what_is_in_the_way_of_reading(path));
        let mut reader = options.connect().await.map_err(|error| unread(error.into()))?;
        let steps = steps();
        let schema = compare(&steps, &applied(&mut reader).await.map_err(unread)?)?;
        schema.exists()?;
        reader.close().await?;
        let file = Self { stamp: Some(stamp), ..Self::new(options, None) };
        Ok((file, (schema.version, schema.known)))
    }

    /// Whether everything that a file opened to be read has said is of one state: no daemon began to write to it.
    pub(super) fn was_left_alone(&self) -> bool {
        self.stamp.as_ref().is_none_or(|before| before.has_log() || *before == self.write_stamp())
    }

    /// Opens or creates a file with this schema, whose deleted rows are overwritten on the disk.
    pub(super) async fn open_scratch(path: &Path, schema: &'static str) -> Result<Self, StoreError> {
        only_files(path)?;
        create_for_owner(path);
        let options = durable(path).pragma("secure_delete", "ON");
        let mut writer = options.connect().await.map_err(|error| unopened(path, error))?;
        sqlx::query(schema).execute(&mut writer).await?;
        Ok(Self::new(options, Some(writer)))
    }

    fn new(options: SqliteConnectOptions, writer: Option<SqliteConnection>) -> Self {
        // Without timeouts the pool has no maintenance task. That task can read the count of idle connections just when
        // it has wrapped below zero, and then never yields its thread again (sqlx 0.9.0; transact-rs/sqlx#3645).
        let pool = SqlitePoolOptions::new().idle_timeout(None).max_lifetime(None);
        let readers = pool.max_connections(READERS).acquire_timeout(TIME_LIMIT).connect_lazy_with(
            options.clone().read_only(true).create_if_missing(false).pragma("cache_size", READER_CACHE),
        );
        let identity = identity(options.get_filename());
        let (writer, checked) = (Arc::new(Mutex::new(writer)), Arc::default());
        let lists = Arc::new(Semaphore::new(LIST_READERS as usize));
        Self { options, writer, readers, lists, shortened: Arc::default(), stamp: None, identity, checked }
    }

    /// Waits for the right to write. The connection is a new one if the last transaction failed.
    pub(super) async fn writer(&self) -> Result<(WriterSlot, SqliteConnection), StoreError> {
        let mut slot = Arc::clone(&self.writer).lock_owned().await;
        self.is_in_place()?;
        self.is_sound()?;
        let connection = match slot.take() {
            Some(connection) => connection,
            None if self.stamp.is_some() => return Err(unusable("it was opened only to be read")),
            None => self.options.connect().await?,
        };
        Ok((slot, connection))
    }

    /// Waits for the turn to read a list. What is read in it must not wait for a client: until it is read, the log cannot
    /// begin again.
    pub(super) async fn list_turn(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        if fs::metadata(with_suffix(self.path(), "-wal")).is_ok_and(|log| log.len() > LONG_LOG) {
            self.shorten_log().await?;
        }
        self.list_turns(1).await
    }

    async fn list_turns(&self, number: u32) -> Result<OwnedSemaphorePermit, StoreError> {
        let turns = time::timeout(LIST_WAIT, Arc::clone(&self.lists).acquire_many_owned(number)).await;
        turns.map_err(|_| StoreError::too_late())?.map_err(|_| sqlx::Error::PoolClosed.into())
    }

    /// Copies the whole log into the file while no list is read. The next commit then begins it again.
    async fn shorten_log(&self) -> Result<(), StoreError> {
        let Ok(mut last) = self.shortened.try_lock() else { return Ok(()) };
        let now = Clock::system().now().boot;
        if self.stamp.is_some() || last.is_some_and(|last| now.since(last) < LOG_PAUSE) {
            return Ok(());
        }
        *last = Some(now);
        // Lists that take longer go on; the next attempt follows.
        let Ok(_alone) = self.list_turns(LIST_READERS).await else { return Ok(()) };
        let (mut slot, mut connection) = self.writer().await?;
        let copied = time::timeout(DISK, connection.execute("PRAGMA wal_checkpoint(PASSIVE)")).await;
        self.checked.noted(copied.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(StoreError::from))?;
        *slot = Some(connection);
        Ok(())
    }

    /// Refuses to write if the path leads to another file than the one that was opened: what is written to a file that
    /// has been removed or replaced is lost when the process ends.
    fn is_in_place(&self) -> Result<(), StoreError> {
        let path = self.options.get_filename();
        if self.identity.is_none() || identity(path) == self.identity {
            return Ok(());
        }
        Err(StoreError::Refused {
            what: "put the file back, or restart checkind, which then uses the file that is there now".to_owned(),
            source: sqlx::Error::Io(io::Error::other(format!("{} was removed or replaced", path.display()))),
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.options.get_filename()
    }

    /// Notes that the file is to be checked, or was found to be sound.
    pub(super) fn is_being_checked(&self, is_pending: bool) {
        self.checked.is_pending.store(is_pending, Ordering::Relaxed);
    }

    /// Notes that the file is damaged.
    pub(super) fn note_damage(&self, damage: &str) {
        self.checked.note_damage(damage);
    }

    /// What is known of the file's structure.
    pub(super) const fn checked(&self) -> &Arc<CheckState> {
        &self.checked
    }

    /// Waits until the file is found to be damaged.
    pub(super) async fn until_damaged(&self) -> StoreError {
        self.checked.is_found.cancelled().await;
        damaged(self.checked.damage.get().map_or("", String::as_str))
    }

    /// Refuses a file that was found to be damaged.
    pub(super) fn is_sound(&self) -> Result<(), StoreError> {
        self.checked.damage.get().map_or(Ok(()), |damage| Err(damaged(damage)))
    }

    /// Closes the connections; the last one to close checkpoints SQLite's log into the file and removes it. A file that
    /// has not been found to be sound keeps its log, by which the next process knows that it must be checked.
    pub(super) async fn close(&self) {
        self.readers.close().await;
        let writer = self.writer.lock().await.take();
        if self.checked.is_pending.load(Ordering::Relaxed) {
            // Dropping it would close it. The process ends soon.
            Box::leak(Box::new(writer));
            return;
        }
        if let Some(writer) = writer
            && let Err(error) = writer.close().await
        {
            tracing::warn!(%error, "could not close the database");
        }
    }
}

/// Closes the connection to a file that is not used after all. If it were only dropped, a process that ends could leave
/// SQLite's log behind, as after a crash.
async fn kept_if_good<T>(
    writer: SqliteConnection,
    found: Result<T, StoreError>,
) -> Result<(SqliteConnection, T), StoreError> {
    match found {
        Ok(found) => Ok((writer, found)),
        Err(error) => {
            if let Err(fault) = writer.close().await {
                tracing::debug!(%fault, "could not close a database that is not used");
            }
            Err(error)
        }
    }
}

/// The error of a file that SQLite's check has found to be damaged.
pub(super) fn damaged(damage: &str) -> StoreError {
    StoreError::Refused {
        what: format!("the file is damaged; {RESTORE}"),
        source: sqlx::Error::Protocol(damage.to_owned()),
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
        .pragma("journal_size_limit", LOG_LIMIT)
        .pragma("cache_size", CACHE)
        // A statement's undo pages, a few for each, stay in memory: writing them to a file would cost time for nothing.
        .pragma("temp_store", "MEMORY")
        .log_slow_statements(tracing::log::LevelFilter::Warn, SLOW)
        .log_statements(tracing::log::LevelFilter::Off)
}

/// How a file is opened that is only read.
fn to_read(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .create_if_missing(false)
        .busy_timeout(BUSY)
        .row_buffer_size(ROWS_AHEAD)
        .log_slow_statements(tracing::log::LevelFilter::Warn, SLOW)
        .log_statements(tracing::log::LevelFilter::Off)
}

/// Refuses a file that does not exist, and what is no file in its place or beside it.
pub(super) fn must_exist(path: &Path) -> Result<(), StoreError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unusable(format!(
            "there is no file {}; `checkind run`, `checkind import` and `checkind migrate` create it",
            path.display()
        ))),
        // Opening a pipe to read it would wait for another process.
        Ok(found) if !found.is_file() => Err(unusable(format!("{} is not a file", path.display()))),
        Ok(_) | Err(_) => only_files(path),
    }
}

/// Creates the file if it is missing, before SQLite would: only its owner may read it. SQLite gives its side files the
/// same rights. If it cannot be created here, SQLite reports why it cannot open it.
fn create_for_owner(path: &Path) {
    let _made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
}

/// Names the file in the error if it cannot be opened, and says why, if it is known.
fn unopened(path: &Path, error: sqlx::Error) -> StoreError {
    because(path, error.into(), what_is_in_the_way(path))
}

fn because(path: &Path, error: StoreError, obstacle: Option<String>) -> StoreError {
    match error {
        // SQLITE_PERM, SQLITE_READONLY and SQLITE_CANTOPEN, with their extended codes.
        StoreError::Refused { source, what } if is_about_rights(&source) => match obstacle {
            Some(obstacle) => {
                StoreError::Refused { what: format!("{} cannot be used: {obstacle}", path.display()), source }
            }
            None => StoreError::Refused { what: format!("{}: {what}", path.display()), source },
        },
        other @ (StoreError::Unavailable(_)
        | StoreError::Refused { .. }
        | StoreError::Unfit(_)
        | StoreError::Conflict
        | StoreError::Unusable { .. }) => other,
    }
}

fn is_about_rights(error: &sqlx::Error) -> bool {
    sqlite_code(error).is_some_and(|code| [3, 8, 14].contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_pool_of_readers_has_no_maintenance_task() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = SqliteFile::open(&folder.path().join("x.db"), CopyFirst::Yes).await.expect("a file").0;
        let options = file.readers.options();
        assert_eq!((options.get_idle_timeout(), options.get_max_lifetime()), (None, None));
        assert_eq!(options.get_min_connections(), 0);
    }
}
