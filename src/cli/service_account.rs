//! Checks what the account of the service may read and write, by becoming that account. Only root can do that, and
//! there is no way back, so it is the last thing that a command does.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{fs::Access, io::Errno};

use super::account::{Keep, become_user};
use crate::{
    base::disk::{folder_of, is_link, with_suffix},
    settings::Settings,
};

/// The account that the shipped unit and its sysusers file name.
const SHIPPED: &str = "checkind";

/// What the unit's `StateDirectory=` creates at the first start.
const STATE: &str = "/var/lib/checkind";

/// The account that runs the service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServiceAccount {
    /// Its name; its number if it has none.
    pub(super) name: String,
    user: u32,
    groups: Vec<u32>,
}

impl ServiceAccount {
    /// The owner of the data folder, which systemd gives to the unit's `User=`. If there is no such folder yet, or it
    /// is root's, the account of the shipped unit. `None` if there is no such account, or this process is not root.
    pub(super) fn find(settings: &Settings) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let folder = settings.data_file().and_then(|(_, file)| file.parent()?.metadata().ok());
        match folder {
            Some(folder) if folder.uid() != 0 => {
                let known = Self::named(&folder.uid().to_string());
                let unnamed =
                    || Self { name: folder.uid().to_string(), user: folder.uid(), groups: vec![folder.gid()] };
                Some(known.unwrap_or_else(unnamed))
            }
            Some(_) | None => Self::named(SHIPPED),
        }
    }

    /// An account of this machine, by name or number. id(1) asks all sources of accounts, not only `/etc/passwd`.
    fn named(account: &str) -> Option<Self> {
        let ask = |what: &str| {
            let said = Command::new("id").args([what, "--", account]).output().ok()?;
            said.status.success().then(|| String::from_utf8_lossy(&said.stdout).trim().to_owned())
        };
        let groups = ask("-G")?.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { name: ask("-un")?, user: ask("-u")?.parse().ok()?, groups })
    }

    /// Makes this process that account, with its groups and without any capability.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub(super) fn enter(&self) -> io::Result<()> {
        let group = self.groups.first().copied().unwrap_or(self.user);
        become_user(self.user, group, &self.groups, Keep::Nothing)
    }
}

/// What this process may not write although the service has to, one line each.
pub(super) fn unwritable(settings: &Settings) -> Vec<String> {
    let Some((what, file)) = settings.data_file() else { return Vec::new() };
    let folder = folder_of(file);
    match rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => {}
        Err(Errno::NOENT) if folder == Path::new(STATE) => return Vec::new(),
        Err(error) => {
            return vec![format!("{}: the folder of the {what} cannot be written: {error}", folder.display())];
        }
    }
    // SQLite's own files beside it (sqlite.org/wal.html).
    let path = |end: &&str| with_suffix(file, end);
    let fault = |path: PathBuf| match rustix::fs::access(&path, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) | Err(Errno::NOENT) => None,
        Err(_) if is_link(&path) => {
            let path = path.display();
            Some(format!("{path}: it is a link to another file; remove it, and find out who put it there"))
        }
        Err(error) => Some(format!("{}: the {what} cannot be written: {error}", path.display())),
    };
    ["", "-wal", "-shm"].iter().map(path).filter_map(fault).collect()
}
