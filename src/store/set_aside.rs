//! `set_aside`: facts that the database did not take.

use super::{
    batch::fact_row,
    columns::sql,
    error::StoreError,
    handle::Store,
    statement::{Arg, Statement, statement},
    stored::{Row, StoredRow},
};
use crate::base::{
    clock::WallTime,
    fact::{StoredFact, Subject},
    record::BusinessId,
};

/// The maximum number of rows that one call returns, latest first: more than a person reads.
const RETURNED: i64 = 1000;

fact_row! {
    /// A row of the table.
    struct SetAsideRow {
        set_aside_at: i64,
        why: String,
    }
}

/// A fact that is already there, from before a crash or from another gateway, stays as it is.
const PUT: Statement = statement!(
    rows(SetAsideRow)
    sql!(
        "INSERT INTO set_aside (", [SetAsideRow: "*"], ") SELECT ", [SetAsideRow: "*"],
        " FROM r WHERE true ON CONFLICT DO NOTHING",
    )
);

/// By the index `set_aside_by_time`.
const COUNT: Statement =
    statement!("SELECT count(*) AS rows FROM set_aside WHERE business_id = $1 AND set_aside_at >= $2");
/// By the index `set_aside_by_time`, in its order.
const LATEST: Statement = statement!(sql!(
    "SELECT ", [SetAsideRow: "*"], " FROM set_aside WHERE business_id = $1 ORDER BY set_aside_at DESC LIMIT $2",
));
/// By the index `set_aside_by_subject`.
const OF_SUBJECT: Statement = statement!(sql!(
    "SELECT ", [SetAsideRow: "*"], " FROM set_aside WHERE subject = $1 ORDER BY set_aside_at DESC LIMIT $2",
));

/// A fact that the database did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAsideFact {
    /// The fact, as the log would hold it.
    pub fact: StoredFact,
    /// When it was set aside.
    pub at: WallTime,
    /// What the database answered.
    pub why: String,
}

impl Store {
    /// Sets facts aside, all or none; returns how many were not in the table before.
    pub(crate) async fn set_aside(&self, aside: Vec<SetAsideFact>) -> Result<u64, StoreError> {
        if aside.is_empty() {
            return Ok(0);
        }
        let row = |SetAsideFact { fact, at, why }: SetAsideFact| SetAsideRow::of(fact, at.millis(), why);
        let rows: Vec<SetAsideRow> = aside.into_iter().map(row).collect();
        let mut batch = self.batch().await?;
        let added = batch.transaction.change(PUT, &[Arg::rows(&rows)]).await?;
        batch.commit().await?;
        Ok(added)
    }

    /// The number of facts of a business that were set aside since an instant.
    pub(crate) async fn set_aside_since(&self, business: BusinessId, since: WallTime) -> Result<u64, StoreError> {
        let rows = self.sql.read(COUNT, &[Arg::Int(business.0), Arg::Int(since.millis())]).await?;
        let count = rows.first().map(|row| row.int("rows")).transpose()?.unwrap_or(0);
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The facts of a business that were set aside, latest first, at most 1,000.
    pub async fn set_aside_at(&self, business: BusinessId) -> Result<Vec<SetAsideFact>, StoreError> {
        self.set_aside_rows(LATEST, business.0).await
    }

    /// The facts about a subject that were set aside, latest first, at most 1,000.
    pub(crate) async fn set_aside_of(&self, subject: Subject) -> Result<Vec<SetAsideFact>, StoreError> {
        self.set_aside_rows(OF_SUBJECT, subject.0).await
    }

    async fn set_aside_rows(&self, statement: Statement, of: i64) -> Result<Vec<SetAsideFact>, StoreError> {
        let read = |row: &Row| SetAsideRow::read(row).map(SetAsideFact::from);
        self.sql.read(statement, &[Arg::Int(of), Arg::Int(RETURNED)]).await?.iter().map(read).collect()
    }
}

impl From<SetAsideRow> for SetAsideFact {
    fn from(row: SetAsideRow) -> Self {
        let (fact, at, why) = row.into_parts();
        Self { fact, at: WallTime::from_millis(at), why }
    }
}

#[cfg(test)]
pub(super) fn tables() -> Vec<(&'static str, &'static [super::columns::Column])> {
    use super::columns::Columns;
    vec![("set_aside", SetAsideRow::COLUMNS)]
}

/// The statements, with the number of their arguments.
#[cfg(test)]
pub(super) fn statements() -> [(Statement, usize); 4] {
    [(PUT, 1), (COUNT, 2), (LATEST, 2), (OF_SUBJECT, 2)]
}
