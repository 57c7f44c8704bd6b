//! Another wall clock for a process: libfaketime. Its boot-time clock stays the machine's.

use std::fs;

/// A wall clock that is off, and goes on from there.
#[derive(Debug)]
pub(crate) struct WallClock {
    library: String,
    offset: String,
}

impl WallClock {
    /// So many seconds off.
    pub(crate) fn off_by(seconds: i64) -> Self {
        Self { library: library(), offset: offset(seconds) }
    }

    /// For the process that is to have it.
    pub(crate) fn environment(&self) -> [(&str, &str); 3] {
        [("LD_PRELOAD", &self.library), ("FAKETIME", &self.offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]
    }
}

/// The library.
pub(crate) fn library() -> String {
    let folders = fs::read_dir("/usr/lib").expect("a Debian machine").flatten();
    let mut files = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let file = files.find(|file| file.exists()).expect("no libfaketime; install the Debian package faketime");
    file.to_str().expect("a path").to_owned()
}

/// An offset in its words.
pub(crate) fn offset(seconds: i64) -> String {
    format!("{seconds:+}")
}
