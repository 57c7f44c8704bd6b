//! Frames from strangers: whatever the bytes, the parser must not panic and must keep its promises.
#![no_main]

#[path = "../checks/frame.rs"]
mod frame;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| frame::check(bytes));
