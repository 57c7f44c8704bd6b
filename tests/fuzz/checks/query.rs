//! What must hold for any text sent as the query of a list.

use checkind::{api::strange_input::list_query, base::clock::WallTime};

/// The longest message for one fault, in bytes: a name and a value of a hundred characters, and what is expected.
const ONE_FAULT: usize = 1024;

/// Panics when the reading of a query breaks a promise.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(query) = std::str::from_utf8(bytes) else { return };
    let parameters = query.split('&').count();
    match list_query(query, WallTime::from_millis(1_800_000_000_000)) {
        Ok(ignored) => assert!(ignored <= parameters, "{ignored} of {parameters}"),
        Err(faults) => assert!(!faults.is_empty() && faults.len() <= ONE_FAULT * (parameters + 1), "{faults}"),
    }
}
