//! The mark of a gateway: which of its transactions the shared database has.
//!
//! Every transaction of a pipeline with a spool moves the mark of its gateway forward, and fails to do so if the mark
//! is behind the gateway's last commit. That happens only to a database that went back in time: it was restored, or a
//! failover discarded commits.

use super::{
    batch::Batch,
    error::StoreError,
    handle::Store,
    statement::{Arg, Statement, statement},
    stored::Row,
};

/// By the primary key.
pub(super) const FIND: Statement = statement!("SELECT turn, place FROM marks WHERE gateway = $1");
/// By the primary key.
const BEGIN: Statement =
    statement!("INSERT INTO marks (gateway, turn, place) VALUES ($1, 0, 0) ON CONFLICT (gateway) DO NOTHING");
/// By the primary key. A mark never moves back: two gateways whose disks are copies of each other share one.
const MOVE: Statement = statement!(
    "UPDATE marks SET turn = CASE WHEN turn < $2 THEN $2 ELSE turn END, place = CASE WHEN place < $3 THEN $3 ELSE place END
     WHERE gateway = $1 AND turn >= $4 AND place >= $5"
);

/// What a gateway has committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommitMark {
    /// The number of the gateway's last transaction.
    pub(crate) turn: i64,
    /// Every message of the gateway's spool up to this place is committed.
    pub(crate) place: i64,
}

impl CommitMark {
    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self { turn: row.int("turn")?, place: row.int("place")? })
    }

    /// Whether everything up to another mark is committed.
    pub(crate) const fn includes(self, other: Self) -> bool {
        self.turn >= other.turn && self.place >= other.place
    }
}

impl Store {
    /// The mark of a gateway, if it has one.
    pub(crate) async fn mark(&self, gateway: &str) -> Result<Option<CommitMark>, StoreError> {
        let rows = self.sql.read(FIND, &[Arg::Text(gateway.to_owned())]).await?;
        rows.first().map(CommitMark::read).transpose()
    }

    /// The mark of a gateway, which begins at zero.
    pub(crate) async fn begin_mark(&self, gateway: &str) -> Result<CommitMark, StoreError> {
        if let Some(mark) = self.mark(gateway).await? {
            return Ok(mark);
        }
        self.sql.change(BEGIN, &[Arg::Text(gateway.to_owned())]).await?;
        Ok(self.mark(gateway).await?.unwrap_or_default())
    }
}

impl Batch {
    /// Moves the mark of a gateway forward. False if the database does not have everything up to `known`.
    pub(crate) async fn move_mark(
        &mut self,
        gateway: &str,
        known: CommitMark,
        to: CommitMark,
    ) -> Result<bool, StoreError> {
        let numbers = [to.turn, to.place, known.turn, known.place].map(Arg::Int);
        let args: Vec<Arg> = std::iter::once(Arg::Text(gateway.to_owned())).chain(numbers).collect();
        Ok(self.transaction.change(MOVE, &args).await? > 0)
    }
}
