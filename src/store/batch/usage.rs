//! `pass_usage` and `plan_usage`: people's usage of passes, and totals towards plan limits.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Datelike, NaiveDate};
use uuid::Uuid;

use crate::{
    base::{clock::WallTime, fact::Subject, record::CoworkerId},
    engine::{
        passes::{Counted, Shift, Used},
        person::AmendedTotals,
    },
    store::{
        batch::transaction::Batch,
        columns::sql,
        error::StoreError,
        handle::Store,
        rows::row,
        statement::{Arg, Statement, statement},
        stored::{Row, StoredRow},
    },
};

row! {
    read
    /// What one person has used of one pass.
    struct PassUsageRow {
        pass: Uuid,
        subject: Subject,
        basis_at: i64,
        days: u32,
        last_day: Option<i64>,
        days_before: u8,
        seconds: u64,
        open_from: Option<i64>,
    }
}

const PASS_KEY: &[&str] = &["pass", "subject"];

row! {
    read
    /// The total that counts towards a person's plan limits up to the end of a day.
    struct PlanUsageRow {
        subject: CoworkerId,
        day: i64,
        days: u32,
        seconds: u64,
    }
}

const PLAN_KEY: &[&str] = &["subject", "day"];

row! {
    /// A pass, as an argument of a statement.
    struct PassRow {
        pass: Uuid,
    }
}

row! {
    /// A day of a person, as days since 1970.
    struct PlanDayRow {
        subject: CoworkerId,
        day: i64,
    }
}

/// By the primary key, whose first column is the pass.
pub(super) const PASS_USERS: Statement = statement!(
    rows(PassRow)
    sql!("SELECT ", [PassUsageRow: "u.*"], " FROM r CROSS JOIN pass_usage u WHERE u.pass = r.pass")
);

/// The last row of each person before a day, found by two look-ups by the primary key.
const TOTALS: Statement = statement!(
    rows(PlanDayRow)
    sql!(
        "SELECT ", [PlanUsageRow: "u.*"], " FROM r CROSS JOIN plan_usage u WHERE u.subject = r.subject
           AND u.day = (SELECT max(b.day) FROM plan_usage b WHERE b.subject = r.subject AND b.day < r.day)",
    )
);

/// The primary key finds the row that is replaced.
const PUT_PASS_USAGE: Statement = statement!(
    rows(PassUsageRow)
    sql!(
        "INSERT INTO pass_usage (", [PassUsageRow: "*"], ") SELECT ", [PassUsageRow: "*"], " FROM r WHERE true
         ON CONFLICT (", [PassUsageRow, only PASS_KEY: "*"], ")
         DO UPDATE SET ", [PassUsageRow, except PASS_KEY: "* = excluded.*"],
    )
);

/// By the primary key. PostgreSQL plans every batch for a hundred people, and would scan the table for them. It cannot
/// flatten a subquery with `OFFSET 0`, so it looks up each person by the index.
const DROP_PLAN_USAGE: Statement = statement!(
    rows(PlanDayRow)
    sqlite: "DELETE FROM plan_usage WHERE (subject, day) IN (SELECT u.subject, u.day FROM r
       CROSS JOIN plan_usage u WHERE u.subject = r.subject AND u.day > r.day)",
    postgres: "DELETE FROM plan_usage WHERE (subject, day) IN (SELECT found.subject, found.day FROM r
       CROSS JOIN LATERAL (SELECT u.subject, u.day FROM plan_usage u WHERE u.subject = r.subject AND u.day > r.day
         OFFSET 0) AS found)"
);

/// The primary key finds the row that is replaced.
const PUT_PLAN_USAGE: Statement = statement!(
    rows(PlanUsageRow)
    sql!(
        "INSERT INTO plan_usage (", [PlanUsageRow: "*"], ") SELECT ", [PlanUsageRow: "*"], " FROM r WHERE true
         ON CONFLICT (", [PlanUsageRow, only PLAN_KEY: "*"], ")
         DO UPDATE SET ", [PlanUsageRow, except PLAN_KEY: "* = excluded.*"],
    )
);

row! {
    /// What an edit of an old visit adds to the totals of a person from a day on.
    struct PlanShiftRow {
        subject: CoworkerId,
        day: i64,
    } with {
        more_days: i64,
        more_seconds: i64,
    }
}

row! {
    /// What an edit of an old visit adds to the use of a pass.
    struct PassShiftRow {
        pass: Uuid,
        subject: Subject,
        basis_at: i64,
    } with {
        more_days: i64,
        more_seconds: i64,
    }
}

/// By the primary key.
const SHIFT_PLAN_USAGE: Statement = statement!(
    rows(PlanShiftRow)
    "UPDATE plan_usage SET
       days = CASE WHEN plan_usage.days + r.more_days < 0 THEN 0 ELSE plan_usage.days + r.more_days END,
       seconds = CASE WHEN plan_usage.seconds + r.more_seconds < 0 THEN 0 ELSE plan_usage.seconds + r.more_seconds END
     FROM r WHERE plan_usage.subject = r.subject AND plan_usage.day >= r.day"
);

/// By the primary key.
const SHIFT_PASS_USAGE: Statement = statement!(
    rows(PassShiftRow)
    "UPDATE pass_usage SET
       days = CASE WHEN pass_usage.days + r.more_days < 0 THEN 0 ELSE pass_usage.days + r.more_days END,
       seconds = CASE WHEN pass_usage.seconds + r.more_seconds < 0 THEN 0 ELSE pass_usage.seconds + r.more_seconds END
     FROM r WHERE pass_usage.pass = r.pass AND pass_usage.subject = r.subject AND pass_usage.basis_at = r.basis_at"
);

pub(super) fn pass_rows(passes: &BTreeSet<Uuid>) -> Arg {
    Arg::rows(&passes.iter().map(|&pass| PassRow { pass }).collect::<Vec<_>>())
}

/// What one person has used of one pass.
pub(super) fn pass_user(row: &Row) -> Result<(Uuid, Subject, Used), StoreError> {
    let row = PassUsageRow::read(row)?;
    let used = Used {
        coworker: CoworkerId(row.subject.0),
        basis_at: WallTime::from_millis(row.basis_at),
        days: row.days,
        last_day: row.last_day.and_then(date_of),
        days_before: row.days_before,
        seconds: row.seconds,
        open: row.open_from.map(WallTime::from_millis),
    };
    Ok((row.pass, row.subject, used))
}

fn usage_row((pass, subject, used): &(Uuid, Subject, Used)) -> PassUsageRow {
    PassUsageRow {
        pass: *pass,
        subject: *subject,
        basis_at: used.basis_at.millis(),
        days: used.days,
        last_day: used.last_day.map(day_number),
        days_before: used.days_before,
        seconds: used.seconds,
        open_from: used.open.map(WallTime::millis),
    }
}

fn day_rows(days: &BTreeSet<(CoworkerId, NaiveDate)>) -> Arg {
    let row = |&(subject, day): &(CoworkerId, NaiveDate)| PlanDayRow { subject, day: day_number(day) };
    Arg::rows(&days.iter().map(row).collect::<Vec<_>>())
}

fn totals(rows: &[Row]) -> Result<BTreeMap<(CoworkerId, NaiveDate), Counted>, StoreError> {
    let mut totals = BTreeMap::new();
    for row in rows {
        let row = PlanUsageRow::read(row)?;
        let Some(day) = date_of(row.day) else { continue };
        totals.insert((row.subject, day), Counted { days: row.days, seconds: row.seconds });
    }
    Ok(totals)
}

/// Days since 1970.
fn day_number(date: NaiveDate) -> i64 {
    i64::from(date.num_days_from_ce() - 719_163)
}

fn date_of(day: i64) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(i32::try_from(day + 719_163).ok()?)
}

impl Store {
    /// The totals towards these people's plan limits before these days, without a transaction.
    pub(crate) async fn totals(
        &self,
        days: &BTreeSet<(CoworkerId, NaiveDate)>,
    ) -> Result<BTreeMap<(CoworkerId, NaiveDate), Counted>, StoreError> {
        if days.is_empty() {
            return Ok(BTreeMap::new());
        }
        totals(&self.sql.read(TOTALS, &[day_rows(days)]).await?)
    }
}

impl Batch {
    /// Shifts stored totals for an edit of a visit whose facts are deleted.
    pub(crate) async fn shift_usage(
        &mut self,
        coworker: CoworkerId,
        AmendedTotals { plan, pass }: AmendedTotals,
    ) -> Result<(), StoreError> {
        if let Some((date, Shift { days, seconds })) = plan {
            let row = PlanShiftRow { subject: coworker, day: day_number(date), more_days: days, more_seconds: seconds };
            self.change_rows(SHIFT_PLAN_USAGE, &[row]).await?;
        }
        if let Some((pass, basis_at, Shift { days, seconds })) = pass {
            let row = PassShiftRow {
                pass,
                subject: Subject::coworker(coworker),
                basis_at: basis_at.millis(),
                more_days: days,
                more_seconds: seconds,
            };
            self.change_rows(SHIFT_PASS_USAGE, &[row]).await?;
        }
        Ok(())
    }

    /// Everyone's usage of these passes.
    pub(crate) async fn pass_users(
        &mut self,
        passes: &BTreeSet<Uuid>,
    ) -> Result<Vec<(Uuid, Subject, Used)>, StoreError> {
        if passes.is_empty() {
            return Ok(Vec::new());
        }
        self.transaction.rows(PASS_USERS, &[pass_rows(passes)]).await?.iter().map(pass_user).collect()
    }

    /// The totals towards these people's plan limits before these days.
    pub(crate) async fn totals(
        &mut self,
        days: &BTreeSet<(CoworkerId, NaiveDate)>,
    ) -> Result<BTreeMap<(CoworkerId, NaiveDate), Counted>, StoreError> {
        if days.is_empty() {
            return Ok(BTreeMap::new());
        }
        totals(&self.transaction.rows(TOTALS, &[day_rows(days)]).await?)
    }

    pub(super) async fn write_pass_usage(&mut self, used: &[(Uuid, Subject, Used)]) -> Result<(), StoreError> {
        self.change_rows(PUT_PASS_USAGE, &used.iter().map(usage_row).collect::<Vec<_>>()).await
    }

    /// Deletes the totals of people after a day, or all their totals, then writes the recounted ones.
    pub(super) async fn write_plan_usage(
        &mut self,
        recounted: &[(CoworkerId, Option<NaiveDate>)],
        new: &BTreeMap<(CoworkerId, NaiveDate), Counted>,
    ) -> Result<(), StoreError> {
        let day = |(subject, last): &(CoworkerId, Option<NaiveDate>)| PlanDayRow {
            subject: *subject,
            day: last.map_or(i64::MIN / 2, day_number),
        };
        self.change_rows(DROP_PLAN_USAGE, &recounted.iter().map(day).collect::<Vec<_>>()).await?;
        let row = |((subject, date), counted): (&(CoworkerId, NaiveDate), &Counted)| PlanUsageRow {
            subject: *subject,
            day: day_number(*date),
            days: counted.days,
            seconds: counted.seconds,
        };
        self.change_rows(PUT_PLAN_USAGE, &new.iter().map(row).collect::<Vec<_>>()).await
    }
}

#[cfg(test)]
pub(super) fn tables() -> Vec<(&'static str, &'static [crate::store::columns::Column])> {
    use crate::store::columns::Columns;
    vec![("pass_usage", PassUsageRow::COLUMNS), ("plan_usage", PlanUsageRow::COLUMNS)]
}

#[cfg(test)]
pub(super) fn statements() -> Vec<(Statement, usize)> {
    [PASS_USERS, TOTALS, PUT_PASS_USAGE, DROP_PLAN_USAGE, PUT_PLAN_USAGE, SHIFT_PLAN_USAGE, SHIFT_PASS_USAGE]
        .map(|statement| (statement, 1))
        .to_vec()
}

#[cfg(test)]
pub(super) fn indexed() -> Vec<(Statement, usize, &'static [&'static str])> {
    vec![
        (PASS_USERS, 1, &["SEARCH u USING PRIMARY KEY (pass=?)"]),
        (
            TOTALS,
            1,
            &["SEARCH u USING PRIMARY KEY (subject=? AND day=?)", "SEARCH b USING PRIMARY KEY (subject=? AND day<?)"],
        ),
        (
            DROP_PLAN_USAGE,
            1,
            &[
                "SEARCH plan_usage USING PRIMARY KEY (subject=? AND day=?)",
                "SEARCH u USING PRIMARY KEY (subject=? AND day>?)",
            ],
        ),
    ]
}
