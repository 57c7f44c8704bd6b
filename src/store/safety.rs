//! The safety of the SQLite file: a backup while the daemon runs, and a check of the file after an unclean shutdown.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::time;

use super::{error::StoreError, handle::Store};
use crate::settings::Database;

/// How long the check of the file may take; after that, the rest stays unchecked, with a warning. A hundred megabytes
/// take roughly a second, so this is enough for some gigabytes. It is well below the 90 s that systemd allows for
/// startup.
const LONGEST_CHECK: Duration = Duration::from_secs(30);

/// The number of steps of SQLite's virtual machine between two checks of the time: some milliseconds.
const STEPS: i32 = 100_000;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// PostgreSQL has its own tools.
    #[error("the database is in PostgreSQL; back it up with pg_dump")]
    Postgres,
    /// Nothing is ever overwritten.
    #[error("{} exists; a backup overwrites nothing", .0.display())]
    Exists(PathBuf),
    /// The copy could not be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The database could not be read to its end.
    #[error("the database cannot be copied")]
    Read(#[source] sqlx::Error),
}

impl Store {
    /// Copies a SQLite database, as it is at this moment, into a new file that only its owner can read. Returns the
    /// number of bytes written.
    ///
    /// The daemon continues meanwhile: the copy is just another reader. `to` appears once the copy is complete and on
    /// the disk.
    pub async fn backup(database: &Database, to: &Path) -> Result<u64, BackupError> {
        let Database::Sqlite { path } = database else { return Err(BackupError::Postgres) };
        if to.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(to.to_owned()));
        }
        let mut name = to.as_os_str().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let partial = PathBuf::from(name);
        let written = copy(path, &partial).await.and_then(|()| publish(&partial, to));
        if written.is_err()
            && let Err(error) = fs::remove_file(&partial)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "an unfinished backup could not be removed");
        }
        written
    }

    /// Checks a SQLite file after an unclean shutdown, for at most half a minute.
    ///
    /// SQLite itself marks a clean shutdown: the last connection to close checkpoints the log into the file and removes
    /// the log. After that, and with PostgreSQL, there is nothing to check.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the file is damaged, [`StoreError::Unavailable`] if it cannot be read now.
    pub async fn check_after_crash(database: &Database) -> Result<(), StoreError> {
        let Database::Sqlite { path } = database else { return Ok(()) };
        // Only an unclean shutdown leaves a log with content.
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        if !fs::metadata(PathBuf::from(log)).is_ok_and(|log| log.len() > 0) {
            return Ok(());
        }
        let mut connection = connect(path).await?;
        // The handler makes SQLite abort the check once the time is up.
        let time_is_up = Arc::new(AtomicBool::new(false));
        let goes_on = {
            let time_is_up = Arc::clone(&time_is_up);
            move || !time_is_up.load(Ordering::Relaxed)
        };
        connection.lock_handle().await?.set_progress_handler(STEPS, goes_on);
        let check = sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut connection);
        let outcome = {
            let mut check = std::pin::pin!(check);
            match time::timeout(LONGEST_CHECK, &mut check).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    time_is_up.store(true, Ordering::Relaxed);
                    check.await
                }
            }
        };
        // An aborted check proves nothing, and does not keep the daemon from starting.
        let verdict = match outcome {
            Ok(row) => row.try_get::<String, _>(0)?,
            Err(_) if time_is_up.load(Ordering::Relaxed) => {
                let seconds = LONGEST_CHECK.as_secs();
                tracing::warn!(
                    seconds,
                    "the last shutdown was unclean, and only part of the database was checked in time"
                );
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if verdict != "ok" {
            return Err(StoreError::Refused {
                what: "the file is damaged; stop checkind and restore a backup made with `checkind backup`".to_owned(),
                source: sqlx::Error::Protocol(verdict),
            });
        }
        tracing::info!("the last shutdown was unclean; the database was checked and is sound");
        connection.close().await.map_err(StoreError::from)
    }
}

/// Opens a separate, read-only connection.
async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).create_if_missing(false);
    options.log_statements(tracing::log::LevelFilter::Off).connect().await
}

async fn copy(path: &Path, partial: &Path) -> Result<(), BackupError> {
    let unwritable = |source| BackupError::Write { path: partial.to_owned(), source };
    // SQLite writes into an empty file as if it were new. Because it is created here, no other user can ever read it.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial).map_err(unwritable)?;
    let mut connection = connect(path).await.map_err(BackupError::Read)?;
    let name = partial.to_str().ok_or_else(|| unwritable(io::Error::other("its name is not UTF-8")))?;
    sqlx::query("VACUUM INTO ?").bind(name).execute(&mut connection).await.map_err(BackupError::Read)?;
    connection.close().await.map_err(BackupError::Read)
}

/// Gives the copy its final name once it is on the disk.
fn publish(partial: &Path, to: &Path) -> Result<u64, BackupError> {
    let unwritable = |source| BackupError::Write { path: to.to_owned(), source };
    let file = File::open(partial).map_err(unwritable)?;
    file.sync_all().map_err(unwritable)?;
    let bytes = file.metadata().map_err(unwritable)?.len();
    match renameat_with(CWD, partial, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Err(BackupError::Exists(to.to_owned())),
        Err(errno) => return Err(unwritable(errno.into())),
    }
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unwritable)?;
    Ok(bytes)
}
