//! The temporary folder of the demo, gone when it ends.

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

/// Entries of the temporary directory that are looked at for what killed demos have left behind.
const LOOKED_AT: usize = 10_000;

/// A folder that only this user can read; removed when dropped, and before a panic that aborts.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes it, and removes those of demos that were killed.
    pub(super) fn make() -> anyhow::Result<Self> {
        let all = settings::environment().find(|(name, value)| name == "TMPDIR" && !value.is_empty());
        let all = all.map_or_else(|| PathBuf::from("/tmp"), |(_, path)| PathBuf::from(path));
        remove_leftovers(&all);
        let path = all.join(format!("{PREFIX}{}-{}", std::process::id(), random::uuid().simple()));
        DirBuilder::new().mode(0o700).create(&path).with_context(|| {
            format!("{} cannot be made; set TMPDIR to a folder that can be written", path.display())
        })?;
        let folder = Self(path);
        folder.remove_before_abort();
        Ok(folder)
    }

    /// A place in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a new file that only this user can read.
    pub(super) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.file(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    }

    /// Where panics abort, nothing is dropped.
    fn remove_before_abort(&self) {
        let path = self.0.clone();
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            usual(what);
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
        tracing::warn!(%error, "{} could not be removed", path.display());
    }
}

/// Folders of our own whose process has gone.
fn remove_leftovers(all: &Path) {
    let Ok(entries) = fs::read_dir(all) else { return };
    let us = rustix::process::geteuid().as_raw();
    for entry in entries.take(LOOKED_AT).flatten() {
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
