//! Time limits for both databases.

use std::time::Duration;

/// A statement that takes longer is logged. All statements of a batch of a thousand taps together take a fifth of this.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// How long opening a connection may take, in either database, before the work counts as failed.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(10);
