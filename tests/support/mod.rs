//! What the integration tests share: private servers, networks built from namespaces, and waiting for a state.

pub(crate) mod http;
pub(crate) mod bpf;
pub(crate) mod frame;
pub(crate) mod shapes;
pub(crate) mod lan;
pub(crate) mod machine;
pub(crate) mod compiled;
pub(crate) mod disk;
pub(crate) mod faketime;
pub(crate) mod tzif;
pub(crate) mod powercut;
pub(crate) mod broker;
pub(crate) mod certificates;
pub(crate) mod fake_broker;
pub(crate) mod daemon;
pub(crate) mod ledger;
pub(crate) mod postgres;
pub(crate) mod pooler;
pub(crate) mod proxy;

use std::time::{Duration, Instant};

/// Calls `probe` until it returns `Ok`. Panics with its last error once `limit` has passed.
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

/// Reports that a test proves nothing on this machine. Bypasses the capture of test output; `tests/run` repeats the
/// line at the end.
pub(crate) fn skipped(what: &str, why: &str) {
    use std::io::Write as _;

    // One call, because lines of concurrent tests must not mix.
    let _unseen = std::io::stderr().write_all(format!("\nSKIPPED: {what}: {why}\n").as_bytes());
}
