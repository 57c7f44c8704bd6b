//! Door messages from strangers: whatever the bytes, the mapping must not panic and must keep its promises.
#![no_main]

#[path = "../checks/mapping.rs"]
mod mapping;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mapping::check(bytes));
