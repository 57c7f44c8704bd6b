//! The lock that reserves the spool for one process.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use crate::store::StoreError;

/// Locks the spool for this process, until the file is dropped.
pub(super) fn lock(spool: &Path) -> Result<File, StoreError> {
    let mut name = spool.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let unusable = |what: String| StoreError::Unusable { what, source: None };
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(|error| {
        unusable(format!("cannot create {} ({error}); its directory must exist and be writable", name.display()))
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(unusable(format!("another checkind uses the spool {}; give each its own spool.path", spool.display())))
        }
        Err(TryLockError::Error(error)) => Err(unusable(format!("cannot lock {} ({error})", name.display()))),
    }
}
