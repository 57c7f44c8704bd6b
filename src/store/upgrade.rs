//! Brings the schema of a SQLite file up to date, after keeping a copy of the file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sqlx::{Executor, FromRow as _, Row, SqliteConnection};

use super::{
    copy::{BackupError, Existing, copy},
    error::{StoreError, migration_error},
    schema::{APPLIED, AppliedMigration, CopyFirst, NOTE, SQLITE_NOTES, Schema, SchemaChange, compare},
};
use crate::base::{
    clock::Clock,
    disk::{self, folder_of, with_suffix},
};

/// Between the name of the file and the version that its schema had: the name of a copy.
const BEFORE: &str = ".before-";

/// How many of these copies are kept: a roll-back goes one version back, or two.
const COPIES_KEPT: usize = 2;

/// The migrations of this program.
pub(super) fn steps() -> sqlx::migrate::Migrator {
    sqlx::migrate!("src/store/migrations/sqlite")
}

/// Applies the missing migrations, all or none. An up-to-date schema is only read.
///
/// # Errors
/// After an error the connection must not be used again: it may still be in the transaction.
pub(super) async fn bring_up_to_date(
    path: &Path,
    connection: &mut SqliteConnection,
    first: CopyFirst,
) -> Result<SchemaChange, StoreError> {
    let began = Clock::system().now().boot;
    let steps = steps();
    let found = compare(&steps, &applied(connection).await?)?;
    let mut change =
        SchemaChange { from: found.version, to: found.version, copy: None, took: std::time::Duration::ZERO };
    if found.missing.is_empty() {
        return Ok(change);
    }

    // No other process writes from here on, so the copy is what the change begins with. Another may have just changed
    // the schema.
    connection.execute("BEGIN IMMEDIATE").await?;
    let Schema { version, known, missing } = compare(&steps, &applied(connection).await?)?;
    if !missing.is_empty() {
        if version > 0 {
            tracing::info!(from = version, to = known, "changing the schema of the database");
            if first == CopyFirst::Yes {
                change.copy = Some(keep_copy(path, connection, version).await?);
            }
        }
        connection.execute(SQLITE_NOTES).await?;
        for step in missing {
            let note = sqlx::query(NOTE).bind(step.version).bind(&*step.description).bind(&*step.checksum);
            connection.execute(note).await?;
            connection
                .execute(sqlx::raw_sql(step.sql.clone()))
                .await
                .map_err(|fault| migration_error(sqlx::migrate::MigrateError::ExecuteMigration(fault, step.version)))?;
        }
    }
    connection.execute("COMMIT").await?;
    change.to = version.max(known);
    change.took = Clock::system().now().boot.since(began);
    if version > 0 {
        let seconds = change.took.as_secs_f64();
        let copy = change.copy.as_ref().map_or_else(|| "none".to_owned(), |copy| copy.display().to_string());
        tracing::info!(from = version, to = known, seconds, copy, "the schema of the database was changed");
    }
    Ok(change)
}

/// The migrations that the file has recorded; none if it is new.
pub(super) async fn applied(connection: &mut SqliteConnection) -> Result<Vec<AppliedMigration>, StoreError> {
    let there = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations')";
    if !connection.fetch_one(there).await?.try_get::<bool, _>(0)? {
        return Ok(Vec::new());
    }
    Ok(connection.fetch_all(APPLIED).await?.iter().map(AppliedMigration::from_row).collect::<Result<_, _>>()?)
}

/// Copies the file to `NAME.before-VERSION`, and removes the oldest of such copies.
async fn keep_copy(path: &Path, connection: &mut SqliteConnection, version: i64) -> Result<PathBuf, StoreError> {
    let used = "SELECT (p.page_count - f.freelist_count) * s.page_size
                FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s";
    let used: i64 = connection.fetch_one(used).await?.try_get(0)?;
    // As much again for the change itself, which may write every row.
    let needed = 2 * u64::try_from(used).unwrap_or(0);
    let free = disk::free(folder_of(path)).map_err(unavailable)?;
    if free < needed {
        let (folder, free, needed) = (folder_of(path).display(), megabytes(free), megabytes(needed));
        return Err(unavailable(io::Error::new(
            io::ErrorKind::StorageFull,
            format!(
                "its schema must be changed from version {version}, and {folder} has only {free} free of the {needed} \
                 that a copy and the change need. Free some space, or copy the database to another disk with `checkind \
                 backup` and then run `checkind migrate --without-copy`"
            ),
        )));
    }
    let to = with_suffix(path, &format!("{BEFORE}{version}"));
    match copy(path, &to, Existing::Replaced).await {
        Ok(_) => {}
        Err(BackupError::Read(error)) => return Err(error.into()),
        Err(BackupError::NoFile(error)) => return Err(error),
        Err(BackupError::Write { path, source }) => {
            return Err(unavailable(io::Error::new(
                source.kind(),
                format!("{} cannot be written: {source}", path.display()),
            )));
        }
        Err(error @ (BackupError::Postgres | BackupError::Exists(_))) => {
            return Err(unavailable(io::Error::other(error)));
        }
    }
    remove_older_copies(path);
    Ok(to)
}

/// Removes all copies but the newest.
fn remove_older_copies(path: &Path) {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
    let version = |entry: fs::DirEntry| {
        let found = entry.file_name();
        let number = found.to_str()?.strip_prefix(name)?.strip_prefix(BEFORE)?.parse::<u32>().ok()?;
        Some((number, entry.path()))
    };
    let entries = fs::read_dir(folder_of(path)).into_iter().flatten().flatten();
    let mut copies: Vec<(u32, PathBuf)> = entries.filter_map(version).collect();
    copies.sort();
    for (_, old) in copies.iter().rev().skip(COPIES_KEPT) {
        if let Err(error) = fs::remove_file(old) {
            tracing::warn!(%error, file = %old.display(), "an old copy of the database could not be removed");
        }
    }
}

fn unavailable(error: io::Error) -> StoreError {
    StoreError::Unavailable(sqlx::Error::Io(error))
}

/// With one decimal.
fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
