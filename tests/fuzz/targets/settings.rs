//! A settings file with any mistakes: whatever the bytes, they are read, or refused with faults that can be read.
#![no_main]

use std::{env, fs, path::PathBuf, process, sync::LazyLock};

#[path = "../checks/settings.rs"]
mod settings;

/// A folder of this process's own, in `TMPDIR`; it stays behind, with one small file.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = env::temp_dir().join(format!("checkind-fuzz-{}", process::id()));
    fs::create_dir_all(&folder).expect("a folder for the settings");
    folder.join("checkind.toml")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| settings::check(bytes, &FILE));
