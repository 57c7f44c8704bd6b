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

use super::{
    copy::{BackupError, Existing, connect, copy},
    error::StoreError,
    handle::Store,
    sqlite::only_files,
};
use crate::{base::disk::with_suffix, settings::Database};

/// How long the check of the file may take; after that, the rest stays unchecked, with a warning. A hundred megabytes
/// take roughly a second, so this is enough for some gigabytes. It is well below the 90 s that systemd allows for
/// startup.
const LONGEST_CHECK: Duration = Duration::from_secs(30);

/// The number of steps of SQLite's virtual machine between two checks of the time: some milliseconds.
const STEPS: i32 = 100_000;

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
        if !fs::metadata(with_suffix(path, "-wal")).is_ok_and(|log| log.len() > 0) {
            return Ok(());
        }
        only_files(path)?;
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
