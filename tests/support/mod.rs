//! What the tests from outside share: private servers, networks made of namespaces, and waiting for a state.

pub(crate) mod http;
pub(crate) mod bpf;
pub(crate) mod frame;
pub(crate) mod lan;
pub(crate) mod broker;
pub(crate) mod daemon;
pub(crate) mod ledger;
pub(crate) mod postgres;

use std::time::{Duration, Instant};

/// Asks `probe` until it answers `Ok`, or panics with the last thing it said once `limit` has passed.
#[expect(clippy::disallowed_methods, reason = "a test's deadline is real time")]
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(last) if start.elapsed() > limit => panic!("waited {limit:?} for {what}; last seen: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
