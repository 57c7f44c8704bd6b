//! Another wall clock for a process (libfaketime). Its boot-time clock stays the machine's.

use std::fs;

/// A wall clock that is off by a constant.
#[derive(Debug)]
pub(crate) struct WallClock {
    library: String,
    offset: String,
}

impl WallClock {
    /// A clock that is off by this many seconds.
    pub(crate) fn off_by(seconds: i64) -> Self {
        Self { library: library(), offset: offset(seconds) }
    }

    /// The environment of a process that uses this clock.
    pub(crate) fn environment(&self) -> [(&str, &str); 3] {
        [("LD_PRELOAD", &self.library), ("FAKETIME", &self.offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]
    }
}

/// The path of the library.
pub(crate) fn library() -> String {
    let folders = fs::read_dir("/usr/lib").expect("a Debian machine").flatten();
    let mut files = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let file = files.find(|file| file.exists()).expect("no libfaketime; install the Debian package faketime");
    file.to_str().expect("a path").to_owned()
}

/// An offset in libfaketime's format.
pub(crate) fn offset(seconds: i64) -> String {
    format!("{seconds:+}")
}
