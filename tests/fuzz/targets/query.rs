//! The query of a list from strangers: whatever the bytes, it is read, or refused with faults that can be read.
#![no_main]

#[path = "../checks/query.rs"]
mod query;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| query::check(bytes));
