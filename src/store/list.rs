//! Lists of records: filtered, sorted, one page at a time.

use std::collections::BTreeSet;

use super::{
    error::StoreError,
    handle::Store,
    list_plan::{ListPart, ListWay, MOST_MERGED, named_businesses},
    list_text::{ListText, ListedRecord},
    statement::{Arg, statement},
    stored::Row,
    totals::FEW,
};
use crate::base::{
    listing::{FieldKind, ListPage, ListPosition, ListQuery, ListedField, PositionKey},
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
        let way = ListWay::of(&T::TABLE, query);
        let named = named_businesses(query);
        let businesses = match (&named, &way) {
            (Some(named), _) => Some(named.clone()),
            (None, ListWay::Merged(_)) => self.businesses::<T>().await?,
            (None, ListWay::Any | ListWay::ById | ListWay::Open | ListWay::Coworker) => None,
        };
        if businesses.as_ref().is_some_and(BTreeSet::is_empty) {
            return Ok(ListPage { records: Vec::new(), total: 0, has_more: false, end: None });
        }
        let parts = way.parts(businesses.as_ref());
        let (mut records, mut end, mut has_more) = (Vec::<T>::new(), None, false);
        let size = usize::try_from(query.size).unwrap_or(usize::MAX);
        let text = ListText::page::<T>(query, &parts, !self.is_shared());
        self.sql
            .read_list(&text, |row| {
                has_more = records.len() == size;
                if !has_more {
                    records.push(T::from_row(row)?);
                    if query.order.has_places() {
                        end = Some(position(row, query.order)?);
                    }
                }
                Ok(())
            })
            .await?;
        let found = u64::try_from(records.len()).unwrap_or(u64::MAX);
        let up_to = query.before() + found;
        // The last page shows how many there are, unless it is beyond the end or began at a known place.
        let total = if has_more || query.after.is_some() || (found == 0 && query.before() > 0) {
            let counted = way.to_count(named.is_some());
            let parts = counted.parts(if counted == ListWay::Any { named.as_ref() } else { businesses.as_ref() });
            let least = if found > 0 { up_to + u64::from(has_more) } else { 0 };
            self.total::<T>(query, &parts).await?.max(least)
        } else {
            up_to
        };
        Ok(ListPage { records, total, has_more, end })
    }

    /// The locations with records of this kind; `None` if they are too many to merge.
    pub(super) async fn businesses<T: ListedRecord>(&self) -> Result<Option<BTreeSet<i64>>, StoreError> {
        let most = i64::try_from(MOST_MERGED).unwrap_or(i64::MAX);
        let rows = self.sql.read(statement!(T::TABLE.businesses), &[Arg::Int(most + 1)]).await?;
        let all: BTreeSet<i64> = rows.iter().map(|row| row.int("business_id")).collect::<Result<_, _>>()?;
        Ok(Some(all).filter(|all| all.len() <= MOST_MERGED))
    }

    async fn total<T: ListedRecord>(&self, query: &ListQuery, parts: &[ListPart]) -> Result<u64, StoreError> {
        let text = ListText::total::<T>(query, parts, !self.is_shared());
        let counting = async {
            let mut total = 0;
            let counted = |row: &Row| {
                total = row.int("total")?.unsigned_abs();
                Ok(())
            };
            self.sql.read_list(&text, counted).await?;
            Ok(total)
        };
        self.totals.recent(&text, counting, async { Ok(self.records_up_to::<T>(FEW + 1).await? > FEW) }).await
    }

    /// How many records there are, at most this many.
    pub(super) async fn records_up_to<T: ListedRecord>(&self, most: i64) -> Result<i64, StoreError> {
        let rows = self.sql.read(statement!(T::TABLE.records), &[Arg::Int(most)]).await?;
        rows.first().map_or(Ok(0), |row| row.int("records"))
    }
}

/// The place after the record of a row.
fn position(row: &Row, order: &'static ListedField) -> Result<ListPosition, StoreError> {
    let key = if order.kind == FieldKind::Instant {
        PositionKey::Instant(row.time(order.column)?)
    } else {
        PositionKey::Number(row.int(order.column)?)
    };
    Ok(ListPosition { key, id: row.int("id")? })
}
