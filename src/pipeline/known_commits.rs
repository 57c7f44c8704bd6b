//! PURE. What this gateway knows to be committed in the shared database; see [`super::went_back`].

use crate::{base::clock::BootTime, store::CommitMark};

/// What this gateway has committed, as far as it knows. Unused without a spool: a database on this machine is restored
/// only while the daemon is stopped.
#[derive(Debug, Default)]
pub(super) struct KnownCommits {
    /// Whether the database has a mark of this gateway.
    pub(super) has_begun: bool,
    pub(super) known: CommitMark,
    /// The number of the last transaction that was tried.
    pub(super) last_turn: i64,
    /// When the database was last known to have everything.
    pub(super) compared_at: Option<BootTime>,
    /// How often it was found to have gone back.
    pub(super) times: u32,
}

impl KnownCommits {
    /// The mark after the next transaction, which commits everything up to `place`. However often the transaction is
    /// tried, the mark is the same.
    pub(super) fn next(&mut self, place: Option<i64>) -> CommitMark {
        self.last_turn += 1;
        CommitMark { turn: self.last_turn, place: place.unwrap_or_default() }
    }
}
