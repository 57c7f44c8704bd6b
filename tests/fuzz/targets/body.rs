//! The body of a command from strangers: whatever the bytes, it is read, or refused with faults that can be read.
#![no_main]

#[path = "../checks/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::check(bytes));
