//! The safety of the SQLite file: a backup while the daemon runs, and a check of the file after an unclean shutdown.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection, Row};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    copy::{BackupError, Existing, connect, copy},
    error::StoreError,
    handle::Store,
    sql::Sql,
    sqlite::damaged,
    sqlite_access::only_files,
};
use crate::{base::disk::with_suffix, settings::Database};

/// How long the check of a spool may take; after that, the rest stays unchecked, with a warning. A hundred megabytes
/// take some seconds. It is well below the 90 s that systemd allows for startup.
const LONGEST_CHECK: Duration = Duration::from_secs(30);

/// The number of steps of SQLite's check between two pauses: some milliseconds.
const STEPS: i32 = 20_000;

/// Such a pause, for the taps of the meantime.
const PAUSE: Duration = Duration::from_millis(4);

impl Store {
    /// Copies a SQLite database, as it is at this moment, into a new file that only its owner can read. Returns the
    /// number of bytes written.
    ///
    /// The daemon continues meanwhile: the copy is just another reader. `to` appears once the copy is complete and on
    /// the disk.
    pub async fn backup(database: &Database, to: &Path) -> Result<u64, BackupError> {
        let Database::Sqlite { path } = database else { return Err(BackupError::Postgres) };
        copy(path, to, Existing::Kept).await
    }

    /// Whether the last process that wrote to a SQLite file did not close it. The last connection to close copies the log
    /// into the file and removes it. With PostgreSQL there is nothing to check.
    pub fn was_left_open(database: &Database) -> bool {
        let Database::Sqlite { path } = database else { return false };
        is_left_open(path)
    }

    /// Checks the structure of the whole SQLite file, beside all that use it: as one more reader that pauses often.
    /// If it is damaged, nothing more is read or written in this process. False if it was stopped before the end; then
    /// the log stays when the file is closed, so the next process checks it again.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the file is damaged, [`StoreError::Unavailable`] if it cannot be read now.
    pub async fn check(&self, stop: &CancellationToken) -> Result<bool, StoreError> {
        let Sql::Sqlite(file) = &self.sql else { return Ok(true) };
        file.is_sound()?;
        file.is_being_checked(true);
        let verdict = match check(file.path(), stop).await {
            Ok(verdict) => verdict,
            Err(StoreError::Refused { source, .. }) => Some(source.to_string()),
            Err(error) => return Err(error),
        };
        match verdict.as_deref() {
            None => return Ok(false),
            Some("ok") => file.is_being_checked(false),
            Some(damage) => file.note_damage(damage),
        }
        file.is_sound().map(|()| true)
    }

    /// Waits until SQLite says that the file is damaged, in answer to any question. Never ends with PostgreSQL.
    pub async fn until_damaged(&self) -> StoreError {
        match &self.sql {
            Sql::Sqlite(file) => file.until_damaged().await,
            Sql::Postgres(_) => std::future::pending().await,
        }
    }
}

impl Store {
    /// Checks the file of a spool that was not closed, before it is used: all that was acknowledged and not decided is in
    /// it. Takes at most half a minute; a spool rarely has more than some megabytes.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the file is damaged, [`StoreError::Unavailable`] if it cannot be read now.
    pub async fn check_spool(path: &Path) -> Result<(), StoreError> {
        if !is_left_open(path) {
            return Ok(());
        }
        let stop = CancellationToken::new();
        let verdict = {
            let mut check = std::pin::pin!(check(path, &stop));
            match time::timeout(LONGEST_CHECK, &mut check).await {
                Ok(verdict) => verdict?,
                Err(_) => {
                    stop.cancel();
                    check.await?
                }
            }
        };
        match verdict.as_deref() {
            Some("ok") => tracing::info!("the last shutdown was unclean; the spool was checked and is sound"),
            Some(damage) => return Err(damaged(damage)),
            // An aborted check proves nothing, and does not keep the daemon from starting.
            None => {
                let seconds = LONGEST_CHECK.as_secs();
                tracing::warn!(
                    seconds,
                    "the last shutdown was unclean, and only part of the spool was checked in time"
                );
            }
        }
        Ok(())
    }
}

/// Whether the log of a SQLite file has content: only an unclean end leaves it.
fn is_left_open(path: &Path) -> bool {
    fs::metadata(with_suffix(path, "-wal")).is_ok_and(|log| log.len() > 0)
}

/// What SQLite says about the file; `None` if it was stopped.
async fn check(path: &Path, stop: &CancellationToken) -> Result<Option<String>, StoreError> {
    only_files(path)?;
    let mut connection = connect(path).await?;
    let is_stopped = Arc::new(AtomicBool::new(false));
    let goes_on = {
        let is_stopped = Arc::clone(&is_stopped);
        move || {
            std::thread::sleep(PAUSE);
            !is_stopped.load(Ordering::Relaxed)
        }
    };
    connection.lock_handle().await?.set_progress_handler(STEPS, goes_on);
    let verdict = {
        let mut check = std::pin::pin!(sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut connection));
        match stop.run_until_cancelled(&mut check).await {
            Some(verdict) => verdict,
            None => {
                is_stopped.store(true, Ordering::Relaxed);
                let _aborted = check.await;
                return Ok(None);
            }
        }
    };
    let verdict = verdict?.try_get(0)?;
    connection.close().await?;
    Ok(Some(verdict))
}
