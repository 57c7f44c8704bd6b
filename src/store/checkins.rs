//! `checkins` and `failed_checkins`, as the API reads them.

use std::{collections::BTreeSet, time::Duration};

use chrono::NaiveDateTime;
use uuid::Uuid;

use super::{
    batch::IdRow,
    columns::sql,
    error::StoreError,
    handle::Store,
    list_plan::ListedTable,
    list_text::{FieldsOf, ListedRecord},
    statement::{Arg, Statement, statement},
    stored::{Row, StoredRow},
};
use crate::base::{
    clock::WallTime,
    listing::ListedField,
    mac::MacAddr,
    record::{
        BusinessId, Checkin, CheckinId, CheckinSource, CoworkerCharge, CoworkerChargeId, CoworkerId, FailedCheckin,
        FailedCheckinId, TimePassId, charge_fields, checkin_fields, failed_checkin_fields,
    },
};

/// Declares the fields of a record as the columns of its table, and reads it from them.
macro_rules! read_record {
    ($name:ident { $($field:ident: $kind:ty),+ }) => {
        impl super::columns::Columns for $name {
            const COLUMNS: &'static [super::columns::Column] = &[$(super::columns::Column {
                name: stringify!($field),
                kind: <$kind as super::columns::ColumnType>::KIND,
            }),+];
        }
        super::stored::stored_row!($name { $($field),+ });

        impl FieldsOf for $name {
            const COLUMNS_OF_C: &'static [&'static str] = &[$(concat!("c.", stringify!($field))),+];
        }
    };
}

checkin_fields!(read_record);
failed_checkin_fields!(read_record);
charge_fields!(read_record);

/// The maximum number of records that one call returns, earliest first. A large site has some hundreds a day.
const RETURNED: i64 = 10_000;

/// When the person of check-in `c` was seen, as far as that is not in the check-in.
const KNOWN: &str = "SELECT s.last_activity AS at FROM standings s
      WHERE s.subject = c.coworker_id AND s.business_id = c.business_id
    UNION ALL SELECT p.last_at FROM presences p
      WHERE p.subject = c.coworker_id AND p.business_id = c.business_id";

/// Check-ins `c`, each with the last time its person was seen. An open visit that merely continues is not written
/// again: its last activity is in the person state, or in a presence that is not in a fact yet. Both are found by their
/// primary keys.
macro_rules! checkins {
    ($rest:literal) => {
        sql!(WITH_LAST_KNOWN, " FROM checkins c ", $rest)
    };
}

/// The columns that [`checkin`] reads.
const WITH_LAST_KNOWN: &str = sql!(
    "SELECT ", [Checkin: "c.*"], ", CASE WHEN c.to_time IS NULL THEN (SELECT max(known.at) FROM (",
    KNOWN, ") AS known) END AS last_known"
);

/// The locations in a table, at most $1: one step in its index by location and time for each.
macro_rules! businesses {
    ($table:literal) => {
        concat!(
            "WITH RECURSIVE b(business_id) AS (SELECT min(business_id) FROM ",
            $table,
            " UNION ALL SELECT (SELECT c.business_id FROM ",
            $table,
            " c WHERE c.business_id > b.business_id
                ORDER BY c.business_id LIMIT 1) FROM b WHERE b.business_id IS NOT NULL)
            SELECT business_id FROM b WHERE business_id IS NOT NULL LIMIT $1"
        )
    };
}

/// The last time the person of an open visit was seen, as a statement compares it: what [`checkin`] reads.
const LAST_ACTIVITY: (&str, &str) = (
    sql!(
        "CASE WHEN c.to_time IS NULL THEN nullif(max(coalesce(c.last_activity, ''), coalesce((
       SELECT strftime('%Y-%m-%dT%H:%M:%S', max(known.at) / 1000, 'unixepoch') || printf('.%03dZ', max(known.at) % 1000)
       FROM (",
        KNOWN,
        ") AS known), '')), '') ELSE c.last_activity END"
    ),
    sql!(
        "CASE WHEN c.to_time IS NULL THEN greatest(c.last_activity, (
       SELECT timestamptz 'epoch' + max(known.at) * interval '1 millisecond'
       FROM (",
        KNOWN,
        ") AS known)) ELSE c.last_activity END"
    ),
);

/// The number of records in a table, at most $1.
macro_rules! records {
    ($table:literal) => {
        concat!("SELECT count(*) AS records FROM (SELECT 1 FROM ", $table, " LIMIT $1) AS c")
    };
}

impl ListedRecord for Checkin {
    const TABLE: ListedTable = ListedTable {
        columns: WITH_LAST_KNOWN,
        name: "checkins c",
        time: "from_time",
        time_of_c: "c.from_time",
        businesses: businesses!("checkins"),
        records: records!("checkins"),
        by_time: " INDEXED BY checkins_by_time",
        by_coworker: " INDEXED BY checkins_by_coworker",
        by_late_change: " INDEXED BY checkins_changed_late",
        open: Some((
            "checkins c INDEXED BY checkins_one_open",
            // PostgreSQL does not look into it for another way.
            "(SELECT * FROM checkins WHERE to_time IS NULL OFFSET 0) c",
        )),
        is_ordered: true,
    };

    fn text_of(field: &ListedField) -> (&'static str, &'static str) {
        if field.column == "last_activity" { LAST_ACTIVITY } else { Self::column_of(field) }
    }

    fn from_row(row: &Row) -> Result<Self, StoreError> {
        checkin(row)
    }
}

impl ListedRecord for FailedCheckin {
    const TABLE: ListedTable = ListedTable {
        columns: sql!("SELECT ", [FailedCheckin: "c.*"]),
        name: "failed_checkins c",
        time: "checkin_attempt_time",
        time_of_c: "c.checkin_attempt_time",
        businesses: businesses!("failed_checkins"),
        records: records!("failed_checkins"),
        by_time: " INDEXED BY failed_checkins_by_time",
        by_coworker: " INDEXED BY failed_checkins_by_coworker",
        by_late_change: " INDEXED BY failed_checkins_changed_late",
        open: None,
        is_ordered: false,
    };

    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Self::read(row)
    }
}

impl ListedRecord for CoworkerCharge {
    const TABLE: ListedTable = ListedTable {
        columns: sql!("SELECT ", [CoworkerCharge: "c.*"]),
        name: "payg_charges c",
        time: "from_time",
        time_of_c: "c.from_time",
        businesses: businesses!("payg_charges"),
        records: records!("payg_charges"),
        by_time: " INDEXED BY payg_charges_by_time",
        by_coworker: " INDEXED BY payg_charges_by_coworker",
        by_late_change: " INDEXED BY payg_charges_changed_late",
        open: None,
        is_ordered: false,
    };

    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Self::read(row)
    }
}

/// By the primary key.
const CHECKIN: Statement = statement!(checkins!("WHERE c.id = $1"));
/// By the unique index of `unique_id`.
const CHECKIN_OF: Statement = statement!(rows(IdRow) checkins!("WHERE c.unique_id IN (SELECT unique_id FROM r)"));
/// By the index `checkins_by_coworker`. No check-in lasts longer than a pass day, so the search starts that long before.
const OVERLAPPING: Statement = statement!(checkins!(
    "WHERE c.coworker_id = $1 AND c.from_time >= $2 AND c.from_time < $4 AND (c.to_time IS NULL OR c.to_time > $3)
     ORDER BY c.from_time, c.id LIMIT 10"
));
/// By the index `checkins_by_coworker`.
const EDITED_AMONG: Statement = statement!(
    "SELECT id FROM checkins WHERE coworker_id = $1 AND from_time >= $2 AND from_time < $3 AND edited = TRUE"
);
/// By the primary key.
const FAILED_CHECKIN: Statement =
    statement!(sql!("SELECT ", [FailedCheckin: "*"], " FROM failed_checkins WHERE id = $1"));
/// By the unique index of open check-ins, `checkins_one_open`.
const OPEN: Statement = statement!(checkins!("WHERE c.to_time IS NULL ORDER BY c.from_time, c.id"));
/// By the index `checkins_by_time`.
const BETWEEN: Statement = statement!(checkins!(
    "WHERE c.business_id = $1 AND c.from_time >= $2 AND c.from_time < $3 ORDER BY c.from_time, c.id LIMIT $4"
));
/// By the index `failed_checkins_by_time`.
const FAILED_BETWEEN: Statement = statement!(sql!(
    "SELECT ", [FailedCheckin: "*"], " FROM failed_checkins
     WHERE business_id = $1 AND checkin_attempt_time >= $2 AND checkin_attempt_time < $3
     ORDER BY checkin_attempt_time, id LIMIT $4",
));

/// The longest a check-in lasts: a pass day on which the clocks go back.
const LONGEST_CHECKIN: Duration = Duration::from_hours(25);

/// A check-in, with the last time its person was seen.
fn checkin(row: &Row) -> Result<Checkin, StoreError> {
    let mut checkin = Checkin::read(row)?;
    checkin.last_activity = checkin.last_activity.max(row.opt_int("last_known")?.map(WallTime::from_millis));
    Ok(checkin)
}

impl Store {
    /// One check-in.
    pub async fn checkin(&self, id: CheckinId) -> Result<Option<Checkin>, StoreError> {
        self.sql.read(CHECKIN, &[Arg::Int(id.0)]).await?.first().map(checkin).transpose()
    }

    /// The check-in with this identity.
    pub(crate) async fn checkin_of(&self, unique_id: Uuid) -> Result<Option<Checkin>, StoreError> {
        self.sql.read(CHECKIN_OF, &[Arg::rows(&IdRow::all(&[unique_id]))]).await?.first().map(checkin).transpose()
    }

    /// The check-ins of a coworker that share an instant with `[from, to)`, each with whether an edit has set it; at
    /// most ten, the earliest first.
    pub(crate) async fn overlapping_checkins(
        &self,
        coworker: CoworkerId,
        (from, to): (WallTime, WallTime),
    ) -> Result<Vec<(Checkin, bool)>, StoreError> {
        let since = from.minus(LONGEST_CHECKIN);
        let args = [Arg::Int(coworker.0), Arg::Time(since), Arg::Time(from), Arg::Time(to)];
        let found: Vec<Checkin> =
            self.sql.read(OVERLAPPING, &args).await?.iter().map(checkin).collect::<Result<_, _>>()?;
        let args = [Arg::Int(coworker.0), Arg::Time(since), Arg::Time(to)];
        let rows = self.sql.read(EDITED_AMONG, &args).await?;
        let edited: BTreeSet<i64> = rows.iter().map(|row| row.column("id")).collect::<Result<_, _>>()?;
        let with_mark = |found: Checkin| {
            let is_edited = edited.contains(&found.id.0);
            (found, is_edited)
        };
        Ok(found.into_iter().map(with_mark).collect())
    }

    /// One failed check-in.
    pub async fn failed_checkin(&self, id: FailedCheckinId) -> Result<Option<FailedCheckin>, StoreError> {
        self.sql.read(FAILED_CHECKIN, &[Arg::Int(id.0)]).await?.first().map(FailedCheckin::read).transpose()
    }

    /// The open check-ins of every business, earliest first.
    pub async fn open_checkins(&self) -> Result<Vec<Checkin>, StoreError> {
        self.sql.read(OPEN, &[]).await?.iter().map(checkin).collect()
    }

    /// The check-ins of a business that began from one instant until another, earliest first, at most 10,000.
    pub async fn checkins_between(
        &self,
        business: BusinessId,
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<Checkin>, StoreError> {
        let args = [Arg::Int(business.0), Arg::Time(from), Arg::Time(to), Arg::Int(RETURNED)];
        self.sql.read(BETWEEN, &args).await?.iter().map(checkin).collect()
    }

    /// The failed check-ins of a business from one instant until another, earliest first, at most 10,000.
    pub async fn failed_checkins_between(
        &self,
        business: BusinessId,
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<FailedCheckin>, StoreError> {
        let args = [Arg::Int(business.0), Arg::Time(from), Arg::Time(to), Arg::Int(RETURNED)];
        self.sql.read(FAILED_BETWEEN, &args).await?.iter().map(FailedCheckin::read).collect()
    }
}

#[cfg(test)]
pub(super) fn tables() -> [(&'static str, &'static [super::columns::Column]); 2] {
    use super::columns::Columns;
    [("checkins", Checkin::COLUMNS), ("failed_checkins", FailedCheckin::COLUMNS)]
}
