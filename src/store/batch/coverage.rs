//! `coverage`: when the captures of a business could have seen a device.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{
    base::{clock::WallTime, record::BusinessId},
    store::{
        batch::transaction::Batch,
        error::StoreError,
        handle::Store,
        statement::{Arg, Statement, statement},
        stored::Row,
    },
};

/// By the primary key. An interval only grows at its end.
const PUT_COVERAGE: Statement = statement!(
    "INSERT INTO coverage (id, business_id, from_time, to_time) VALUES ($1, $2, $3, $4)
     ON CONFLICT (id) DO UPDATE SET to_time = excluded.to_time"
);

/// For one business if `$3` is true, for all others if it is false. Scans the table, which retention keeps small.
const COVERAGE: Statement = statement!(
    "SELECT business_id, from_time, to_time FROM coverage WHERE to_time >= $1 AND (business_id = $2) = $3 ORDER BY from_time"
);

/// An interval of a business's coverage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CoverageRow {
    pub(crate) from: WallTime,
    pub(crate) to: WallTime,
}

fn args(business: BusinessId, others: bool, since: WallTime) -> [Arg; 3] {
    [Arg::Time(since), Arg::Int(business.0), Arg::Bool(!others)]
}

fn by_business(rows: &[Row]) -> Result<BTreeMap<BusinessId, Vec<CoverageRow>>, StoreError> {
    let mut found: BTreeMap<BusinessId, Vec<CoverageRow>> = BTreeMap::new();
    for row in rows {
        let interval = CoverageRow { from: row.time("from_time")?, to: row.time("to_time")? };
        found.entry(row.column("business_id")?).or_default().push(interval);
    }
    Ok(found)
}

impl Store {
    /// The intervals that end at `since` or later, of one business or of all others.
    pub(crate) async fn coverage(
        &self,
        business: BusinessId,
        others: bool,
        since: WallTime,
    ) -> Result<BTreeMap<BusinessId, Vec<CoverageRow>>, StoreError> {
        by_business(&self.sql.read(COVERAGE, &args(business, others, since)).await?)
    }
}

impl Batch {
    /// The same as [`Store::coverage`], inside the transaction.
    pub(crate) async fn coverage(
        &mut self,
        business: BusinessId,
        others: bool,
        since: WallTime,
    ) -> Result<BTreeMap<BusinessId, Vec<CoverageRow>>, StoreError> {
        by_business(&self.transaction.rows(COVERAGE, &args(business, others, since)).await?)
    }

    pub(super) async fn write_coverage(
        &mut self,
        id: Uuid,
        business: BusinessId,
        interval: CoverageRow,
    ) -> Result<(), StoreError> {
        let id = Arg::Text(id.to_string());
        let args = [id, Arg::Int(business.0), Arg::Time(interval.from), Arg::Time(interval.to)];
        self.transaction.change(PUT_COVERAGE, &args).await.map(drop)
    }
}

#[cfg(test)]
pub(super) fn statements() -> Vec<(Statement, usize)> {
    vec![(PUT_COVERAGE, 4)]
}
