//! Time limits for both databases. Every question has one: a server that vanishes without a word, or a disk that hangs,
//! must not hold its caller forever. A connection whose question ran into its limit is discarded, never used again.

use std::time::Duration;

/// A statement that takes longer is logged. All statements of a batch of a thousand taps together take a fifth of this.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// How long a transaction may take to begin, in either database, before the work counts as failed. Includes the wait
/// for a free connection, and connecting.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How long PostgreSQL may be silent after a statement or a `COMMIT`: fifty times as long as all statements of a large
/// batch take, and longer than the eight seconds for which a gateway that froze in mid-transaction may lock rows. At
/// the limit the connection is discarded and the work tried again on a new one.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// The same for the question whether there is news, which waits for a schema change only. If it finds a dead connection, there
/// must be time for a new one within the fifteen seconds in which everything works again.
pub(super) const NEWS: Duration = Duration::from_secs(5);

/// The same for SQLite, whose statements wait for nothing but this machine's disk: ten times as long as the longest
/// batch on a slow one. The connection is discarded.
pub(super) const DISK: Duration = Duration::from_secs(30);

/// The same, in either database, for a step of an upgrade, which may rewrite a table of years.
pub(super) const UPGRADE: Duration = Duration::from_mins(30);

/// The same for a portion of an import, which may first wait for another import to end.
pub(super) const IMPORT: Duration = Duration::from_mins(2);
