//! Copies a SQLite file while it is in use, into a file that only its owner can read and that appears once it is whole.

use std::{
    fs::{self, DirEntry, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{error::StoreError, sqlite_access::only_files};
use crate::base::{
    clock::{BootTime, Clock},
    disk::{PLAIN, folder_of, only_a_file, with_suffix},
};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// PostgreSQL has its own tools.
    #[error("the database is in PostgreSQL; back it up with pg_dump")]
    Postgres,
    /// The database, or what lies beside it, is no file.
    #[error(transparent)]
    NoFile(StoreError),
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

/// What happens to a file that already has the name of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// It stays, and there is no copy.
    Kept,
    /// The copy takes its place.
    Replaced,
}

/// Between the name of a copy and a process id: the name of a copy that is being written.
const PARTIAL: &str = ".checkind-partial-";

/// How many bytes are written between two syncs of a copy. A sync of a whole copy would make the daemon's own wait as
/// long.
const CHUNK: u64 = 256 * 1024;

/// The shortest pause after each, for the syncs of others.
const PAUSE: Duration = Duration::from_millis(5);

/// Such a pause in multiples of the time since the one before: a copy takes at most half of the disk and of a processor.
const PAUSES: u32 = 1;

/// How much of the copy SQLite may keep in memory, in KiB, which SQLite marks with a minus. All of it is written at once
/// at the end.
const CACHE: &str = "PRAGMA cache_size = -256";

/// The number of steps of SQLite's virtual machine between two looks at the length of the copy: some hundred rows.
const STEPS: i32 = 2_000;

/// Copies the file as it is at this moment; returns the number of bytes written. A daemon continues meanwhile: the copy
/// is just another reader.
pub(super) async fn copy(from: &Path, to: &Path, existing: Existing) -> Result<u64, BackupError> {
    if existing == Existing::Kept && to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    // SQLite would wait for a pipe.
    only_files(from).map_err(BackupError::NoFile)?;
    remove_leftovers(folder_of(to));
    let partial = with_suffix(to, &format!("{PARTIAL}{}", std::process::id()));
    let written = match write(from, &partial).await {
        Ok(_lock) => publish(&partial, to, existing),
        Err(error) => Err(error),
    };
    if written.is_err()
        && let Err(error) = fs::remove_file(&partial)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "an unfinished backup could not be removed");
    }
    written
}

/// Writes the copy; returns the file, locked while this process uses it.
async fn write(from: &Path, partial: &Path) -> Result<File, BackupError> {
    let unwritable = |source| BackupError::Write { path: partial.to_owned(), source };
    // SQLite writes into an empty file as if it were new. Because it is created here, no other user can ever read it.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial).map_err(unwritable)?;
    file.try_lock().map_err(|error| unwritable(error.into()))?;
    // At rest a file has no log. Reading it creates one, which only a connection that may write removes again; but that
    // would also remove the log of a crash, which tells the daemon to check the file.
    let mut connection = if with_suffix(from, "-wal").exists() {
        connect(from).await.map_err(BackupError::Read)?
    } else {
        let options = SqliteConnectOptions::new().filename(from).create_if_missing(false);
        options.log_statements(tracing::log::LevelFilter::Off).connect().await.map_err(BackupError::Read)?
    };
    sqlx::query(CACHE).execute(&mut connection).await.map_err(BackupError::Read)?;
    let clock = Clock::system();
    let paused = clock.now().boot;
    let mut paced = PacedFile { synced: 0, file: file.try_clone().map_err(unwritable)?, clock, paused };
    let mut handle = connection.lock_handle().await.map_err(BackupError::Read)?;
    handle.set_progress_handler(STEPS, move || {
        paced.sync();
        true
    });
    drop(handle);
    let name = partial.to_str().ok_or_else(|| unwritable(io::Error::other("its name is not UTF-8")))?;
    sqlx::query("VACUUM INTO ?").bind(name).execute(&mut connection).await.map_err(BackupError::Read)?;
    connection.close().await.map_err(BackupError::Read)?;
    Ok(file)
}

/// A file that SQLite is writing, brought to the disk in pieces.
struct PacedFile {
    file: File,
    /// The length at the last sync.
    synced: u64,
    clock: Clock,
    /// When the last pause ended.
    paused: BootTime,
}

impl PacedFile {
    /// Syncs what has been written since, if it is enough, and pauses. An error will be met again at the end.
    fn sync(&mut self) {
        let length = self.file.metadata().map_or(0, |found| found.len());
        if length >= self.synced + CHUNK && self.file.sync_data().is_ok() {
            self.synced = length;
            let worked = self.clock.now().boot.since(self.paused);
            std::thread::sleep((worked * PAUSES).max(PAUSE));
            self.paused = self.clock.now().boot;
        }
    }
}

/// Gives the copy its final name once it is on the disk.
fn publish(partial: &Path, to: &Path, existing: Existing) -> Result<u64, BackupError> {
    let unwritable = |source| BackupError::Write { path: to.to_owned(), source };
    let file = File::open(partial).map_err(unwritable)?;
    file.sync_all().map_err(unwritable)?;
    let bytes = file.metadata().map_err(unwritable)?.len();
    let flags = match existing {
        Existing::Kept => RenameFlags::NOREPLACE,
        Existing::Replaced => RenameFlags::empty(),
    };
    match renameat_with(CWD, partial, CWD, to, flags) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Err(BackupError::Exists(to.to_owned())),
        Err(errno) => return Err(unwritable(errno.into())),
    }
    File::open(folder_of(to)).and_then(|folder| folder.sync_all()).map_err(unwritable)?;
    Ok(bytes)
}

/// Removes what interrupted copies have left in this folder: a process that writes one holds a lock on it.
pub(super) fn remove_leftovers(folder: &Path) {
    // A folder that cannot be listed has no leftovers that we could remove.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(is_leftover) {
        let removed = fs::remove_file(entry.path());
        match removed {
            Ok(()) => tracing::info!(file = %entry.path().display(), "removed what an interrupted backup had left"),
            Err(error) => tracing::debug!(%error, "what an interrupted backup had left could not be removed"),
        }
    }
}

/// Whether this is a file of ours that no process is writing: a copy, or SQLite's journal beside one.
fn is_leftover(entry: &DirEntry) -> bool {
    let path = entry.path();
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let copy = name.strip_suffix("-journal").unwrap_or(name);
    let Some((_, number)) = copy.rsplit_once(PARTIAL) else { return false };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    is_ours_and_unused(&path)
        && (copy == name || !path.with_file_name(copy).exists() || is_ours_and_unused(&path.with_file_name(copy)))
}

/// Whether this is a file, neither a link nor a pipe, that this user owns and no process has locked.
fn is_ours_and_unused(path: &Path) -> bool {
    let Ok(file) = OpenOptions::new().read(true).custom_flags(PLAIN).open(path) else { return false };
    let user = rustix::process::geteuid().as_raw();
    only_a_file(&file).is_ok() && file.metadata().is_ok_and(|found| found.uid() == user) && file.try_lock().is_ok()
}

/// Opens a separate, read-only connection.
pub(super) async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).create_if_missing(false);
    options.log_statements(tracing::log::LevelFilter::Off).connect().await
}
