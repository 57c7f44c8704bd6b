//! Permission to begin something that only the gateway with the lease of its site may do.
//!
//! Never here: how the lease is taken and renewed (`daemon::lease`).

use std::time::Duration;

use tokio::sync::watch;

use super::clock::BootTime;

/// How long a lease lasts unless it is renewed. The statement that takes it says the same.
pub const LEASE_TERM: Duration = Duration::from_secs(10);

/// When this gateway was last known to hold the lease; cheap to clone.
#[derive(Clone, Debug)]
pub struct LeasePermit(watch::Receiver<Option<BootTime>>);

impl LeasePermit {
    /// A permit that follows the instant at which this gateway was last known to hold the lease.
    pub const fn new(known: watch::Receiver<Option<BootTime>>) -> Self {
        Self(known)
    }

    /// May something begin that only the holder may do?
    pub fn holds(&self, now: BootTime) -> bool {
        self.0.borrow().is_some_and(|known| now.since(known) < LEASE_TERM)
    }
}
