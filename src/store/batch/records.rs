//! Reads the records of some people since an instant, which a late fact may change.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::{
    base::{clock::WallTime, record::CoworkerId},
    store::{
        batch::{
            transaction::Batch,
            visits::{PASS_IN_POSTGRES, PASS_IN_SQLITE, PassColumns, StoredVisit, VisitColumns},
        },
        columns::sql,
        error::StoreError,
        rows::row,
        statement::{Arg, Statement, statement},
        stored::{Row, StoredRow, stored},
    },
};

row! {
    /// A person, and the instant from which to read their records.
    struct SinceRow {
        coworker_id: CoworkerId,
        since: WallTime,
    }
}

stored! {
    read
    /// The identity of a failed check-in, and its person.
    struct FailureKey {
        unique_id: Uuid,
        coworker_id: CoworkerId,
    }
}

stored! {
    read
    /// The check-in of a charge, its person and its beginning.
    struct ChargeKey {
        checkin: Uuid,
        coworker_id: CoworkerId,
        from_time: WallTime,
    }
}

/// The records of each person since an instant, by an index of the person and the time. PostgreSQL plans every batch
/// for a hundred people, and would scan the table for them. It cannot flatten a subquery with `OFFSET 0`, so it looks
/// up each person by the index.
macro_rules! since {
    ($time:literal, $table:literal, $which:literal, sqlite: [$($sqlite:tt),+], postgres: [$($postgres:tt),+] $(,)?) => {
        statement!(
            rows(SinceRow)
            sqlite: sql!(
                "SELECT ", $($sqlite),+, " FROM r CROSS JOIN ", $table,
                " c WHERE c.coworker_id = r.coworker_id AND c.", $time, " >= r.since", $which,
            ),
            postgres: sql!(
                "SELECT found.* FROM r CROSS JOIN LATERAL (SELECT ", $($postgres),+, " FROM ", $table,
                " c WHERE c.coworker_id = r.coworker_id AND c.", $time, " >= r.since", $which, " OFFSET 0) AS found",
            )
        )
    };
}

/// By the index `checkins_by_coworker`. Each visit is one value: a JSON array that contains two arrays.
const VISITS: Statement = since!(
    "from_time", "checkins", "",
    sqlite: [
        "CAST(json_array(json_array(", [VisitColumns, json Sqlite: "c.*"], "), ", PASS_IN_SQLITE, ") AS text) AS visit"
    ],
    postgres: [
        "CAST(json_build_array(json_build_array(", [VisitColumns, json Postgres: "c.*"], "), ", PASS_IN_POSTGRES,
        ") AS text) AS visit"
    ],
);

/// By the index `failed_checkins_by_coworker`. Those that users have written follow from no fact.
const FAILED: Statement = since!(
    "checkin_attempt_time", "failed_checkins", " AND c.by_hand = FALSE",
    sqlite: [[FailureKey: "c.*"]], postgres: [[FailureKey: "c.*"]],
);

/// By the index `payg_charges_by_coworker`.
const CHARGED: Statement =
    since!("from_time", "payg_charges", "", sqlite: [[ChargeKey: "c.*"]], postgres: [[ChargeKey: "c.*"]]);

/// The records of some people since an instant.
#[derive(Debug, Default)]
pub(crate) struct StoredRecords {
    pub(crate) visits: BTreeMap<Uuid, StoredVisit>,
    /// Each with its person.
    pub(crate) failures: BTreeMap<Uuid, CoworkerId>,
    /// Each with its person and its beginning.
    pub(crate) charges: BTreeMap<Uuid, (CoworkerId, WallTime)>,
}

impl StoredRecords {
    /// Drops the visits, and their charges, that began before the fold, unless one of its facts opened them.
    pub(crate) fn keep_since(&mut self, since: &BTreeMap<CoworkerId, WallTime>, opened: &BTreeSet<Uuid>) {
        let belongs = |id: &Uuid, coworker: CoworkerId, from: WallTime| {
            opened.contains(id) || since.get(&coworker).is_none_or(|since| from >= *since)
        };
        self.visits.retain(|id, visit| belongs(id, visit.coworker, visit.from));
        self.charges.retain(|id, (coworker, from)| belongs(id, *coworker, *from));
    }

    /// Takes out the records of some people.
    pub(crate) fn take(&mut self, people: &BTreeSet<CoworkerId>) -> Self {
        Self {
            visits: self.visits.extract_if(.., |_, visit| people.contains(&visit.coworker)).collect(),
            failures: self.failures.extract_if(.., |_, coworker| people.contains(coworker)).collect(),
            charges: self.charges.extract_if(.., |_, (coworker, _)| people.contains(coworker)).collect(),
        }
    }
}

impl Batch {
    /// The records of these people, each person's since two instants: one for check-ins and charges, one for failures.
    pub(crate) async fn records(
        &mut self,
        since: &BTreeMap<CoworkerId, (WallTime, WallTime)>,
    ) -> Result<StoredRecords, StoreError> {
        let mut known = StoredRecords::default();
        if since.is_empty() {
            return Ok(known);
        }
        let rows = |which: &dyn Fn(&(WallTime, WallTime)) -> WallTime| {
            let rows = since.iter().map(|(&coworker_id, since)| SinceRow { coworker_id, since: which(since) });
            [Arg::rows(&rows.collect::<Vec<_>>())]
        };
        // One by one: a row uses several times the memory of the visit in it.
        let each = |row: Row| {
            let visit = StoredVisit::from(row.json::<(VisitColumns, PassColumns)>("visit")?);
            known.visits.insert(visit.unique_id, visit);
            Ok(())
        };
        let visits = rows(&|(visits, _)| *visits);
        self.transaction.rows_each(VISITS, &visits, each).await?;
        for row in self.transaction.rows(FAILED, &rows(&|(_, failures)| *failures)).await? {
            let FailureKey { unique_id, coworker_id } = FailureKey::read(&row)?;
            known.failures.insert(unique_id, coworker_id);
        }
        for row in self.transaction.rows(CHARGED, &visits).await? {
            let ChargeKey { checkin, coworker_id, from_time } = ChargeKey::read(&row)?;
            known.charges.insert(checkin, (coworker_id, from_time));
        }
        Ok(known)
    }
}

#[cfg(test)]
pub(super) fn tables() -> Vec<(&'static str, &'static [crate::store::columns::Column])> {
    use crate::store::columns::Columns;
    vec![("failed_checkins", FailureKey::COLUMNS), ("payg_charges", ChargeKey::COLUMNS)]
}

#[cfg(test)]
pub(super) fn statements() -> Vec<(Statement, usize)> {
    vec![(VISITS, 1), (FAILED, 1), (CHARGED, 1)]
}

#[cfg(test)]
pub(super) fn indexed() -> Vec<(Statement, usize, &'static [&'static str])> {
    vec![
        (VISITS, 1, &["SEARCH c USING INDEX checkins_by_coworker (coworker_id=? AND from_time>?)"]),
        (FAILED, 1, &["SEARCH c USING INDEX failed_checkins_by_coworker (coworker_id=? AND checkin_attempt_time>?)"]),
        (CHARGED, 1, &["SEARCH c USING INDEX payg_charges_by_coworker (coworker_id=? AND from_time>?)"]),
    ]
}
