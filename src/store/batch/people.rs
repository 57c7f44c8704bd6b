//! `standings` and `checkpoints`: the current person states, and those before the first event of a day.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::{
    base::{
        clock::WallTime,
        fact::{LogDay, Subject},
        record::BusinessId,
    },
    engine::person::PersonState,
    store::{
        batch::{
            log::{DayRow, day_rows},
            transaction::Batch,
        },
        columns::sql,
        error::StoreError,
        handle::Store,
        rows::row,
        statement::{Arg, Statement, statement},
        stored::{Row, StoredRow, from_hex},
    },
};

row! {
    /// A person state.
    #[derive(Deserialize)]
    pub(super) struct PersonRow {
        pub(super) subject: Subject,
        business_id: Option<BusinessId>,
        deadline: Option<i64>,
        last_activity: Option<i64>,
        folded_at: i64,
        revision: i64,
        #[serde(deserialize_with = "from_hex")]
        state: Vec<u8>,
    }
}

const PERSON_KEY: &[&str] = &["subject"];
const PERSON_KEY_AND_DEADLINE: &[&str] = &["subject", "business_id", "deadline"];

row! {
    read
    /// A checkpoint.
    struct CheckpointRow {
        day: LogDay,
        subject: Subject,
        state: Vec<u8>,
    }
}

const CHECKPOINT_KEY: &[&str] = &["day", "subject"];

row! {
    /// A subject, as an argument of a statement.
    pub(super) struct SubjectRow {
        subject: Subject,
    }
}

impl SubjectRow {
    pub(super) fn all(subjects: &BTreeSet<Subject>) -> Vec<Self> {
        subjects.iter().map(|&subject| Self { subject }).collect()
    }
}

/// The people in `r` who are checked in, or whose state was folded up to `$2` or later. By the primary key.
const ACTIVE: Statement = statement!(
    rows(SubjectRow)
    "SELECT s.subject FROM r CROSS JOIN standings s
     WHERE s.subject = r.subject AND (s.deadline IS NOT NULL OR s.folded_at >= $2)"
);

/// A row that another writer has changed since it was read has another revision, so it is not written and not counted.
/// In PostgreSQL, the row lock of the other writer's transaction makes this statement wait until the outcome is known.
const PUT_PEOPLE: Statement = statement!(
    rows(PersonRow)
    sql!(
        "INSERT INTO standings (", [PersonRow: "*"], ") SELECT ", [PersonRow: "*"], " FROM r WHERE true
         ON CONFLICT (subject) DO UPDATE SET ", [PersonRow, except PERSON_KEY: "* = excluded.*"],
        " WHERE standings.revision = excluded.revision - 1",
    )
);

/// The same without the deadline, if it stays as it is: SQLite would write its index again even with the same value.
const PUT_PEOPLE_KEEP_DEADLINES: Statement = statement!(
    rows(PersonRow)
    sql!(
        "INSERT INTO standings (", [PersonRow: "*"], ") SELECT ", [PersonRow: "*"], " FROM r WHERE true
         ON CONFLICT (subject) DO UPDATE SET ", [PersonRow, except PERSON_KEY_AND_DEADLINE: "* = excluded.*"],
        " WHERE standings.revision = excluded.revision - 1",
    )
);

/// By the primary key.
pub(super) const CHECKPOINTS: Statement = statement!(
    rows(DayRow)
    sql!(
        "SELECT ", [CheckpointRow: "c.*"], " FROM r CROSS JOIN checkpoints c
         WHERE c.day = r.day AND c.subject = r.subject",
    )
);

/// By the primary key.
const DROP_CHECKPOINTS: Statement = statement!(
    rows(DayRow)
    "DELETE FROM checkpoints WHERE (day, subject) IN (SELECT day, subject FROM r)"
);

/// The primary key finds the row that is replaced.
const PUT_CHECKPOINTS: Statement = statement!(
    rows(CheckpointRow)
    sql!(
        "INSERT INTO checkpoints (", [CheckpointRow: "*"], ") SELECT ", [CheckpointRow: "*"], " FROM r WHERE true
         ON CONFLICT (", [CheckpointRow, only CHECKPOINT_KEY: "*"], ")
         DO UPDATE SET ", [CheckpointRow, except CHECKPOINT_KEY: "* = excluded.*"],
    )
);

/// By the index `standings_due`, in its order.
const DUE: Statement = statement!(
    "SELECT subject FROM standings WHERE business_id = $1 AND deadline IS NOT NULL AND deadline <= $2
     ORDER BY deadline LIMIT $3"
);

/// By the index `standings_due`: its first entry.
pub(in crate::store) const NEXT_DEADLINE: Statement =
    statement!("SELECT min(deadline) AS deadline FROM standings WHERE business_id = $1 AND deadline IS NOT NULL");

/// By the index `standings_due`, which contains only people who are checked in.
const CHECKED_IN: Statement = statement!(
    "SELECT subject FROM standings WHERE business_id = $1 AND deadline IS NOT NULL AND subject > $2
     ORDER BY subject LIMIT $3"
);

/// Person states that were folded beyond the present. Scans the table; needed only for a step of the clock.
const AHEAD: Statement = statement!(
    "SELECT subject FROM standings WHERE folded_at > $2 AND (business_id = $1 OR business_id IS NULL) LIMIT $3"
);

/// A person state as stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredPerson {
    pub(crate) revision: i64,
    pub(crate) deadline: Option<(BusinessId, WallTime)>,
    pub(crate) person: PersonState,
}

impl TryFrom<PersonRow> for StoredPerson {
    type Error = StoreError;

    fn try_from(row: PersonRow) -> Result<Self, StoreError> {
        Ok(Self {
            revision: row.revision,
            deadline: row.business_id.zip(row.deadline.map(WallTime::from_millis)),
            person: PersonState::from_bytes(&row.state).map_err(|_| StoreError::damaged())?,
        })
    }
}

/// A person state to write.
#[derive(Clone, Debug)]
pub(crate) struct NewPersonState {
    pub(crate) subject: Subject,
    /// The revision of the row that it replaces; 0 if there is none.
    pub(crate) revision: i64,
    pub(crate) person: PersonState,
    pub(crate) deadline: Option<(BusinessId, WallTime)>,
    /// Whether the deadline is the same as in the row.
    pub(crate) same_deadline: bool,
}

impl NewPersonState {
    fn row(&self) -> PersonRow {
        PersonRow {
            subject: self.subject,
            business_id: self.deadline.map(|(business, _)| business),
            deadline: self.deadline.map(|(_, at)| at.millis()),
            last_activity: self.person.open().map(|open| open.last_activity.millis()),
            folded_at: self.person.folded.at.millis(),
            revision: self.revision + 1,
            state: self.person.to_bytes(),
        }
    }
}

/// A checkpoint: the subject, the day and the state.
pub(super) fn checkpoint(row: &Row) -> Result<(Subject, LogDay, PersonState), StoreError> {
    let CheckpointRow { day, subject, state } = CheckpointRow::read(row)?;
    Ok((subject, day, PersonState::from_bytes(&state).map_err(|_| StoreError::damaged())?))
}

impl Store {
    /// The people whose deadlines at a business have passed, earliest first.
    pub(crate) async fn due(
        &self,
        business: BusinessId,
        now: WallTime,
        limit: usize,
    ) -> Result<Vec<Subject>, StoreError> {
        self.subjects(DUE, business, now.millis(), limit).await
    }

    /// The people whose state is later than `now`, because a clock was wrong.
    pub(crate) async fn people_ahead(
        &self,
        business: BusinessId,
        now: WallTime,
        limit: usize,
    ) -> Result<Vec<Subject>, StoreError> {
        self.subjects(AHEAD, business, now.millis(), limit).await
    }

    /// The people who are checked in at a business, starting after the subject `after`.
    pub(crate) async fn people_in(
        &self,
        business: BusinessId,
        after: Subject,
        limit: usize,
    ) -> Result<Vec<Subject>, StoreError> {
        self.subjects(CHECKED_IN, business, after.0, limit).await
    }

    async fn subjects(
        &self,
        statement: Statement,
        business: BusinessId,
        bound: i64,
        limit: usize,
    ) -> Result<Vec<Subject>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let args = [Arg::Int(business.0), Arg::Int(bound), Arg::Int(limit)];
        self.sql.read(statement, &args).await?.iter().map(|row| row.column("subject")).collect()
    }

    /// The next deadline at a business.
    pub(crate) async fn next_deadline(&self, business: BusinessId) -> Result<Option<WallTime>, StoreError> {
        let rows = self.sql.read(NEXT_DEADLINE, &[Arg::Int(business.0)]).await?;
        let next = rows.first().map(|row| row.opt_int("deadline")).transpose()?.flatten();
        Ok(next.map(WallTime::from_millis))
    }
}

impl Batch {
    /// Those of these people who are checked in, or whose state was folded up to `since` or later.
    pub(crate) async fn active(
        &mut self,
        people: &BTreeSet<Subject>,
        since: WallTime,
    ) -> Result<BTreeSet<Subject>, StoreError> {
        if people.is_empty() {
            return Ok(BTreeSet::new());
        }
        let args = [Arg::rows(&SubjectRow::all(people)), Arg::Int(since.millis())];
        self.transaction.rows(ACTIVE, &args).await?.iter().map(|row| row.column("subject")).collect()
    }

    /// The checkpoints of these people on these days.
    pub(crate) async fn checkpoints(
        &mut self,
        days: &[(Subject, LogDay)],
    ) -> Result<Vec<(Subject, LogDay, PersonState)>, StoreError> {
        if days.is_empty() {
            return Ok(Vec::new());
        }
        self.transaction.rows(CHECKPOINTS, &[Arg::rows(&day_rows(days))]).await?.iter().map(checkpoint).collect()
    }

    /// Deletes checkpoints, then writes new ones.
    pub(super) async fn write_checkpoints(
        &mut self,
        gone: &[(Subject, LogDay)],
        new: &[(Subject, LogDay, PersonState)],
    ) -> Result<(), StoreError> {
        self.change_rows(DROP_CHECKPOINTS, &day_rows(gone)).await?;
        let row = |(subject, day, person): &(Subject, LogDay, PersonState)| CheckpointRow {
            day: *day,
            subject: *subject,
            state: person.to_bytes(),
        };
        self.change_rows(PUT_CHECKPOINTS, &new.iter().map(row).collect::<Vec<_>>()).await
    }

    /// Writes person states.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another gateway has written one of them since it was read.
    pub(super) async fn write_people(&mut self, new: &[NewPersonState]) -> Result<(), StoreError> {
        for (same, statement) in [(false, PUT_PEOPLE), (true, PUT_PEOPLE_KEEP_DEADLINES)] {
            let rows = new.iter().filter(|new| new.same_deadline == same).map(NewPersonState::row);
            self.change_all_rows(statement, &rows.collect::<Vec<_>>()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) fn tables() -> Vec<(&'static str, &'static [crate::store::columns::Column])> {
    use crate::store::columns::Columns;
    vec![("standings", PersonRow::COLUMNS), ("checkpoints", CheckpointRow::COLUMNS)]
}

#[cfg(test)]
pub(super) fn statements() -> Vec<(Statement, usize)> {
    let of_rows =
        [CHECKPOINTS, PUT_PEOPLE, PUT_PEOPLE_KEEP_DEADLINES, DROP_CHECKPOINTS, PUT_CHECKPOINTS, NEXT_DEADLINE];
    of_rows.map(|one| (one, 1)).into_iter().chain([(ACTIVE, 2), (DUE, 3), (CHECKED_IN, 3)]).collect()
}

#[cfg(test)]
pub(super) fn indexed() -> Vec<(Statement, usize, &'static [&'static str])> {
    vec![
        (ACTIVE, 2, &["SEARCH s USING INTEGER PRIMARY KEY (rowid=?)"]),
        (CHECKPOINTS, 1, &["SEARCH c USING PRIMARY KEY (day=? AND subject=?)"]),
        (DUE, 3, &["SEARCH standings USING INDEX standings_due (business_id=? AND deadline>? AND deadline<?)"]),
        (NEXT_DEADLINE, 1, &["SEARCH standings USING INDEX standings_due (business_id=?"]),
        (CHECKED_IN, 3, &["SEARCH standings USING INDEX standings_due (business_id=?"]),
        (DROP_CHECKPOINTS, 1, &["SEARCH checkpoints USING PRIMARY KEY (day=? AND subject=?)"]),
    ]
}
