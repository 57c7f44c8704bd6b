//! Check-ins that are only rows, because they name no coworker: nothing is folded about them.

use uuid::Uuid;

use super::{
    batch::local,
    columns::sql,
    error::StoreError,
    handle::Store,
    rows::row,
    statement::{Arg, Statement, statement},
};
use crate::{
    base::{
        clock::WallTime,
        random,
        record::{BusinessId, CheckinId, CheckinSource, UPDATED_BY},
    },
    policy::calendar::Calendar,
};

/// A check-in without a coworker, to be added.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainCheckin<'a> {
    pub(crate) business: BusinessId,
    pub(crate) source: CheckinSource,
    /// Its beginning and its end.
    pub(crate) times: (WallTime, Option<WallTime>),
    /// The calendar of the business then.
    pub(crate) calendar: &'a Calendar,
}

row! {
    /// A check-in without a coworker.
    struct PlainRow<'a> {
        unique_id: Uuid,
        business_id: BusinessId,
        source: CheckinSource,
        from_time: WallTime,
        to_time: Option<WallTime>,
        auto_checkout: bool,
        counts_towards_plan_limits: bool,
        from_time_local: String,
        to_time_local: Option<String>,
        created_on: WallTime,
        updated_on: WallTime,
        updated_by: &'a str,
        system_id: Option<&'a str>,
        seconds: Option<u64>,
        edited: bool,
    }
}

row! {
    /// The other interval of a check-in. Without a `system_id`, that stays.
    struct PlainChangeRow<'a> {
        from_time: WallTime,
        to_time: Option<WallTime>,
        from_time_local: String,
        to_time_local: Option<String>,
        updated_on: WallTime,
        updated_by: &'a str,
        seconds: Option<u64>,
    } with {
        id: i64,
        system_id: Option<&'a str>,
    }
}

const ADD: Statement = statement!(
    rows(PlainRow<'_>)
    sql!("INSERT INTO checkins (", [PlainRow<'_>: "*"], ") SELECT ", [PlainRow<'_>: "*"], " FROM r")
);

/// By the primary key.
const CHANGE: Statement = statement!(
    rows(PlainChangeRow<'_>)
    sql!(
        "UPDATE checkins SET ", [PlainChangeRow<'_>: "* = r.*"], ", edited = TRUE,
           system_id = coalesce(r.system_id, checkins.system_id)
         FROM r WHERE checkins.id = r.id AND checkins.coworker_id IS NULL",
    )
);

/// By the primary key.
const REMOVE: Statement = statement!("DELETE FROM checkins WHERE id = $1 AND coworker_id IS NULL");

row! {
    /// The end of a check-in that its business's cut-off ends.
    struct PlainEndRow {
        to_time: WallTime,
        to_time_local: String,
        auto_checkout: bool,
        updated_on: WallTime,
        updated_by: &'static str,
        seconds: u64,
    } with {
        id: i64,
    }
}

/// By the unique index of open check-ins, `checkins_one_open`.
const OPEN: Statement = statement!(
    "SELECT id, from_time FROM checkins
     WHERE business_id = $1 AND coworker_id IS NULL AND to_time IS NULL AND from_time < $2 LIMIT $3"
);

/// By the primary key.
const END: Statement = statement!(
    rows(PlainEndRow)
    sql!(
        "UPDATE checkins SET ", [PlainEndRow: "* = r.*"],
        " FROM r WHERE checkins.id = r.id AND checkins.coworker_id IS NULL AND checkins.to_time IS NULL",
    )
);

/// By the primary key.
const SET_SYSTEM_ID: Statement =
    statement!("UPDATE checkins SET system_id = $2, updated_by = $3, updated_on = $4 WHERE id = $1");

impl Store {
    /// Adds a check-in without a coworker, and returns its identity.
    pub(crate) async fn add_plain_checkin(
        &self,
        plain: PlainCheckin<'_>,
        by: &str,
        system_id: Option<&str>,
        now: WallTime,
    ) -> Result<Uuid, StoreError> {
        let PlainCheckin { business, source, times: (from, to), calendar } = plain;
        let row = PlainRow {
            unique_id: random::uuid(),
            business_id: business,
            source,
            from_time: from,
            to_time: to,
            auto_checkout: false,
            counts_towards_plan_limits: false,
            from_time_local: local(from, calendar),
            to_time_local: to.map(|to| local(to, calendar)),
            created_on: now,
            updated_on: now,
            updated_by: by,
            system_id,
            seconds: to.map(|to| to.since(from).as_secs()),
            edited: true,
        };
        let unique_id = row.unique_id;
        self.sql.change(ADD, &[Arg::rows(&[row])]).await?;
        Ok(unique_id)
    }

    /// Changes the interval of a check-in without a coworker.
    pub(crate) async fn change_plain_checkin(
        &self,
        id: CheckinId,
        (from, to): (WallTime, Option<WallTime>),
        calendar: &Calendar,
        (by, system_id): (&str, Option<&str>),
        now: WallTime,
    ) -> Result<(), StoreError> {
        let row = PlainChangeRow {
            from_time: from,
            to_time: to,
            from_time_local: local(from, calendar),
            to_time_local: to.map(|to| local(to, calendar)),
            updated_on: now,
            updated_by: by,
            seconds: to.map(|to| to.since(from).as_secs()),
            id: id.0,
            system_id,
        };
        self.sql.change(CHANGE, &[Arg::rows(&[row])]).await.map(|_| ())
    }

    /// Deletes a check-in without a coworker.
    pub(crate) async fn remove_plain_checkin(&self, id: CheckinId) -> Result<(), StoreError> {
        self.sql.change(REMOVE, &[Arg::Int(id.0)]).await.map(|_| ())
    }

    /// At most `limit` open check-ins without a coworker that began at a business before an instant, each with its
    /// beginning.
    pub(crate) async fn open_plain_checkins(
        &self,
        business: BusinessId,
        before: WallTime,
        limit: usize,
    ) -> Result<Vec<(CheckinId, WallTime)>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.sql.read(OPEN, &[Arg::Int(business.0), Arg::Time(before), Arg::Int(limit)]).await?;
        rows.iter().map(|row| Ok((row.column("id")?, row.time("from_time")?))).collect()
    }

    /// Ends check-ins without a coworker; each has its beginning, its end, and the calendar of its business then.
    pub(crate) async fn end_plain_checkins(
        &self,
        ends: &[(CheckinId, WallTime, WallTime, Calendar)],
        now: WallTime,
    ) -> Result<(), StoreError> {
        let row = |(id, from, to, calendar): &(CheckinId, WallTime, WallTime, Calendar)| PlainEndRow {
            to_time: *to,
            to_time_local: local(*to, calendar),
            auto_checkout: true,
            updated_on: now,
            updated_by: UPDATED_BY,
            seconds: to.since(*from).as_secs(),
            id: id.0,
        };
        let rows: Vec<PlainEndRow> = ends.iter().map(row).collect();
        self.sql.change(END, &[Arg::rows(&rows)]).await.map(|_| ())
    }

    /// Sets the free text that only callers of the API see.
    pub(crate) async fn set_system_id(
        &self,
        id: CheckinId,
        text: &str,
        by: &str,
        now: WallTime,
    ) -> Result<(), StoreError> {
        let args = [Arg::Int(id.0), Arg::Text(text.to_owned()), Arg::Text(by.to_owned()), Arg::Time(now)];
        self.sql.change(SET_SYSTEM_ID, &args).await.map(|_| ())
    }
}

#[cfg(test)]
pub(super) fn tables() -> Vec<(&'static str, &'static [super::columns::Column])> {
    use super::columns::Columns;
    vec![("checkins", PlainRow::COLUMNS), ("checkins", PlainChangeRow::COLUMNS), ("checkins", PlainEndRow::COLUMNS)]
}

/// The statements, with the number of their arguments.
#[cfg(test)]
pub(super) fn statements() -> [(Statement, usize); 6] {
    [(ADD, 1), (CHANGE, 1), (REMOVE, 1), (OPEN, 3), (END, 1), (SET_SYSTEM_ID, 4)]
}
