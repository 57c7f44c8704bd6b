//! A disk that is slow, hangs or fails when a file is synced, for programs that load `c/slowsync.c`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::compiled;

/// The disk. It works normally at first.
#[derive(Debug)]
pub(crate) struct Disk {
    library: PathBuf,
    orders: PathBuf,
}

impl Disk {
    /// Compiles the library into this folder.
    pub(crate) fn new(folder: &Path) -> Self {
        let disk = Self { library: compiled::library("slowsync", folder), orders: folder.join("orders") };
        disk.is("ok");
        disk
    }

    /// The environment of a program that writes to this disk.
    pub(crate) fn environment(&self) -> [(&str, &str); 2] {
        [
            ("LD_PRELOAD", self.library.to_str().expect("a path of ours")),
            ("SLOWSYNC_ORDERS", self.orders.to_str().expect("a path of ours")),
        ]
    }

    /// Sets how the disk behaves from now on: `ok`, `slow MICROSECONDS`, `hang` (at a sync), `freeze` (at a rename)
    /// or `fail`.
    pub(crate) fn is(&self, order: &str) {
        // Rename, so a reader sees the old order or the new one, never half of it.
        let new = self.orders.with_extension("new");
        fs::write(&new, order).expect("the file is written");
        fs::rename(new, &self.orders).expect("the file is written");
    }
}
