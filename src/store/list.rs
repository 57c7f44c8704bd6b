//! Lists of records: filtered, sorted, one page at a time.

use super::{
    error::StoreError,
    handle::Store,
    list_text::{ListText, ListedRecord},
};
use crate::base::{
    listing::{ListPage, ListQuery},
    record::{Checkin, CoworkerCharge, FailedCheckin},
};

impl Store {
    /// A page of check-ins.
    pub async fn checkin_page(&self, query: &ListQuery) -> Result<ListPage<Checkin>, StoreError> {
        self.list(query).await
    }

    /// A page of failed check-ins.
    pub async fn failed_checkin_page(&self, query: &ListQuery) -> Result<ListPage<FailedCheckin>, StoreError> {
        self.list(query).await
    }

    /// A page of charges.
    pub async fn charge_page(&self, query: &ListQuery) -> Result<ListPage<CoworkerCharge>, StoreError> {
        self.list(query).await
    }

    async fn list<T: ListedRecord>(&self, query: &ListQuery) -> Result<ListPage<T>, StoreError> {
        let is_sqlite = !self.is_shared();
        let rows = self.sql.read_list(&ListText::page::<T>(query, is_sqlite)).await?;
        let records: Vec<T> = rows.iter().map(T::from_row).collect::<Result<_, _>>()?;
        // A page that is not full is the last one, unless it is beyond the end.
        let found = u64::try_from(records.len()).unwrap_or(u64::MAX);
        let before = query.before();
        if found < u64::from(query.size) && (found > 0 || before == 0) {
            return Ok(ListPage { records, total: before + found });
        }
        let rows = self.sql.read_list(&ListText::total::<T>(query, is_sqlite)).await?;
        let total = rows.first().map_or(Ok(0), |row| row.int("total"))?;
        Ok(ListPage { records, total: total.unsigned_abs() })
    }
}
