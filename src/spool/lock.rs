//! The lock that reserves the spool for one process.

use std::{
    fs::{File, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{
    base::disk::{PLAIN, only_a_file, with_suffix},
    store::StoreError,
};

/// Locks the spool for this process, until the file is dropped.
pub(super) fn lock(spool: &Path) -> Result<File, StoreError> {
    let name = with_suffix(spool, ".lock");
    let refused = |what: String, error| StoreError::Refused { what, source: sqlx::Error::Io(error) };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(PLAIN)
        .open(&name)
        .and_then(|file| only_a_file(&file).map(|()| file))
        .map_err(|error| {
            refused(format!("cannot create {}; its directory must exist and be writable", name.display()), error)
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Unusable {
            what: format!("another checkind uses the spool {}; give each its own spool.path", spool.display()),
            source: None,
        }),
        Err(TryLockError::Error(error)) => Err(refused(format!("cannot lock {}", name.display()), error)),
    }
}
