//! A settings file with any mistakes: whatever the bytes, they are read, or refused with faults that can be read.
#![no_main]

use std::path::Path;

#[path = "../checks/settings.rs"]
mod settings;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| settings::check(bytes, Path::new("/nowhere/checkind.toml")));
