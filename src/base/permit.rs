//! Permission to start what only the holder of the site's lease may do.
//!
//! Never here: taking and renewing the lease (`daemon::lease`).

use std::time::Duration;

use tokio::sync::watch;

use super::clock::BootTime;

/// How long a lease lasts unless it is renewed. Must match the SQL statement that takes the lease.
pub const LEASE_TERM: Duration = Duration::from_secs(10);

/// When this gateway was last known to hold the lease; cheap to clone.
#[derive(Clone, Debug)]
pub struct LeasePermit(watch::Receiver<Option<BootTime>>);

impl LeasePermit {
    /// A permit that reads from `known` when this gateway was last known to hold the lease.
    pub const fn new(known: watch::Receiver<Option<BootTime>>) -> Self {
        Self(known)
    }

    /// Whether this gateway still holds the lease, so it may start what only the holder may do.
    pub fn holds(&self, now: BootTime) -> bool {
        self.0.borrow().is_some_and(|known| now.since(known) < LEASE_TERM)
    }
}
