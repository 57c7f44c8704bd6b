//! Why a SQLite file cannot be opened or written, where the operating system knows more than SQLite says.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, StatVfsMountFlags, access, statvfs},
    process::geteuid,
};

use super::error::StoreError;
use crate::base::disk::{self, folder_of, with_suffix};

/// What is wrong, and what to do; `None` if nothing is in the way of writing.
pub(super) fn what_is_in_the_way(file: &Path) -> Option<String> {
    let folder = folder_of(file);
    let shown = folder.display();
    match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(format!("the folder {shown} does not exist; create it, as the user of the service"));
        }
        Err(error) => return Some(format!("the folder {shown} cannot be reached: {error}")),
        Ok(found) if !found.is_dir() => return Some(format!("{shown} is not a folder")),
        Ok(_) => {}
    }
    if statvfs(folder).is_ok_and(|disk| disk.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return Some(format!("the disk of {shown} is mounted read-only; mount it for writing, and look why it is"));
    }
    if access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Some(foreign("folder", folder));
    }
    let files = ["", "-wal", "-shm"].map(|suffix| with_suffix(file, suffix));
    let is_foreign =
        |file: &&PathBuf| file.exists() && access(file.as_path(), Access::READ_OK | Access::WRITE_OK).is_err();
    files.iter().find(is_foreign).map(|file| foreign("file", file))
}

/// The same for a file that is only read: its log can be read only by way of the file of locks beside it.
pub(super) fn what_is_in_the_way_of_reading(file: &Path) -> Option<String> {
    if access(file, Access::READ_OK).is_err() {
        return Some(foreign("file", file));
    }
    let [log, locks] = ["-wal", "-shm"].map(|suffix| with_suffix(file, suffix));
    let obstacle = what_is_in_the_way(file)?;
    (log.exists() && !locks.exists()).then(|| {
        format!(
            "{} holds changes, and SQLite needs {} to read them, which it cannot create here: {obstacle}. Or copy {} with its \
             -wal to a folder of your own, and read the copy",
            log.display(),
            locks.display(),
            file.display()
        )
    })
}

/// Refuses what is no ordinary file in place of the database or of a file beside it: SQLite would wait for a pipe.
pub(super) fn only_files(path: &Path) -> Result<(), StoreError> {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let file = with_suffix(path, suffix);
        if fs::metadata(&file).is_ok_and(|found| !found.is_file()) {
            return Err(StoreError::Refused {
                what: "remove it, and find out who put it there".to_owned(),
                source: sqlx::Error::Io(io::Error::other(format!("{} is not an ordinary file", file.display()))),
            });
        }
    }
    Ok(())
}

/// Says whose it is.
fn foreign(what: &str, path: &Path) -> String {
    // To give a link to someone would give them what it leads to.
    if disk::is_link(path) {
        return format!("{} is a link to another file; remove it, and find out who put it there", path.display());
    }
    let owner = fs::metadata(path).map_or_else(|_| "unknown".to_owned(), |found| found.uid().to_string());
    let shown = path.display();
    format!(
        "the {what} {shown} belongs to the user with id {owner}, and this process runs as id {}, which may not write it; run it \
         as that user, or give it to this one",
        geteuid().as_raw()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_foreign_is_named() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let said = |path: &Path| what_is_in_the_way(path).unwrap_or_default();
        assert_eq!(said(&folder.path().join("x.db")), "");
        assert_eq!(said(Path::new("x.db")), "");
        assert!(said(&folder.path().join("none/x.db")).contains("does not exist"));
        fs::write(folder.path().join("file"), "").expect("written");
        assert!(said(&folder.path().join("file/x.db")).contains("is not a folder"));
        assert!(said(Path::new("/proc/1/x.db")).contains("/proc/1"), "{}", said(Path::new("/proc/1/x.db")));
        assert!(foreign("file", &folder.path().join("file")).contains("runs as id"));
        let [soft, hard] = ["soft", "hard"].map(|name| folder.path().join(name));
        std::os::unix::fs::symlink("file", &soft).expect("a link");
        assert!(foreign("file", &soft).contains("is a link"));
        fs::hard_link(folder.path().join("file"), &hard).expect("a second name");
        assert!(foreign("file", &hard).contains("is a link"));
    }
}
