//! The temporary folder of the demo, removed when the demo ends.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    panic,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{base::random, settings};

const PREFIX: &str = "checkind-demo-";

/// How many entries of the temporary directory to search, at most, for folders of killed demos.
const MAX_ENTRIES: usize = 10_000;

/// A folder that only this user can read. Removed when dropped, and before a panic aborts the process.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Creates the folder, and removes the folders of killed demos.
    pub(super) fn make() -> anyhow::Result<Self> {
        let all = settings::environment().find(|(name, value)| name == "TMPDIR" && !value.is_empty());
        let all = all.map_or_else(|| PathBuf::from("/tmp"), |(_, path)| PathBuf::from(path));
        remove_leftovers(&all);
        let path = all.join(format!("{PREFIX}{}-{}", std::process::id(), random::uuid().simple()));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create {}; set TMPDIR to a writable folder", path.display()))?;
        let folder = Self(path);
        folder.remove_before_abort();
        Ok(folder)
    }

    /// The path of a file in the folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a new file that only this user can read.
    pub(super) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.file(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Removes the folder in the panic hook, because a panic that aborts drops nothing.
    fn remove_before_abort(&self) {
        let path = self.0.clone();
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            default(info);
            if cfg!(panic = "abort") {
                remove(&path);
            }
        }));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "could not remove {}", path.display());
    }
}

/// Removes this user's demo folders whose processes no longer run.
fn remove_leftovers(all: &Path) {
    let Ok(entries) = fs::read_dir(all) else { return };
    let us = rustix::process::geteuid().as_raw();
    for entry in entries.take(MAX_ENTRIES).flatten() {
        let ours = entry.metadata().is_ok_and(|about| about.is_dir() && about.uid() == us);
        if ours && owner(&entry.file_name()).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            remove(&entry.path());
        }
    }
}

fn owner(name: &OsStr) -> Option<u32> {
    name.to_str()?.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_a_demo_have_an_owner() {
        for (name, pid) in [
            ("checkind-demo-123-0af", Some(123)),
            ("checkind-demo-123", Some(123)),
            ("checkind-demo-x-0af", None),
            ("other-123", None),
        ] {
            assert_eq!(owner(OsStr::new(name)), pid, "{name}");
        }
    }
}
