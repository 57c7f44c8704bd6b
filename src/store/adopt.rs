//! The table `sightings` of a version from before the log of facts. It is read once, in one transaction, and dropped at
//! its end. A database without the table has been migrated.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use uuid::Uuid;

use super::{
    batch::{Batch, DecidedFact, FactRow, PASS_IN_POSTGRES, PASS_IN_SQLITE, PUT_FACTS, PassColumns},
    columns::sql,
    directory::{CoworkerRow, coworker_rows},
    error::StoreError,
    handle::Store,
    statement::{Arg, Statement, statement},
    stored::{Row, from_number, stored},
};
use crate::{
    base::{
        clock::WallTime,
        mac::MacAddr,
        record::{BusinessId, CheckinSource, CoworkerId, TimePassId, split_macs},
    },
    engine::passes::PassUse,
};

const THERE: Statement = statement!(
    sqlite: "SELECT count(*) AS there FROM sqlite_master WHERE type = 'table' AND name = 'sightings'",
    // Also true if this login has no right to it.
    postgres: "SELECT count(*) AS there FROM pg_catalog.pg_class WHERE oid = to_regclass('sightings')"
);

/// Locks the only row, which makes other gateways that migrate the old log wait, and imports too. SQLite has only one
/// writer anyway.
const LOCK: Statement = statement!(
    sqlite: "SELECT version FROM directory_version",
    postgres: "SELECT version FROM directory_version FOR UPDATE"
);

const DROP: Statement = statement!("DROP TABLE sightings");

/// By the index `sightings_by_time`, once for each business.
const NEXT_BUSINESS: Statement = statement!("SELECT min(business_id) AS next FROM sightings WHERE business_id > $1");

/// The lines of a business in chronological order, by the index `sightings_by_time`; each is a JSON array.
macro_rules! lines {
    ($($line:tt),+) => {
        sql!(
            "SELECT ", $($line),+, " AS line
             FROM sightings s WHERE s.business_id = $1 AND s.event_at >= $2 AND (s.event_at, s.key) > ($2, $3)
             ORDER BY s.event_at, s.key LIMIT $4"
        )
    };
}

const LINES: Statement = statement!(
    sqlite: lines!("json_array(", [OldLine, json Sqlite: "s.*"], ")"),
    postgres: lines!("CAST(json_build_array(", [OldLine, json Postgres: "s.*"], ") AS text)")
);

const PEOPLE: Statement =
    statement!("SELECT DISTINCT coworker_id FROM checkins WHERE coworker_id IS NOT NULL ORDER BY coworker_id");

/// The people whose person state has already been written by this version.
const FOLDED: Statement = statement!("SELECT subject FROM standings WHERE subject > 0");

/// Every visit of these people, by the index `checkins_by_coworker`; each is a JSON array that contains two arrays.
macro_rules! visits {
    ($($visit:tt),+) => {
        sql!("SELECT ", $($visit),+, " AS visit FROM r CROSS JOIN checkins c WHERE c.coworker_id = r.coworker_id")
    };
}

const VISITS: Statement = statement!(
    rows(CoworkerRow)
    sqlite: visits!("json_array(json_array(", [OldVisitColumns, json Sqlite: "c.*"], "), ", PASS_IN_SQLITE, ")"),
    postgres: visits!(
        "CAST(json_build_array(json_build_array(", [OldVisitColumns, json Postgres: "c.*"], "), ", PASS_IN_POSTGRES, ") AS text)"
    )
);

/// By the index `payg_charges_by_coworker`.
const CHARGES: Statement = statement!(
    rows(CoworkerRow)
    "SELECT p.checkin, p.pass_day, p.time_pass_id, p.unbounded, p.amount FROM r CROSS JOIN payg_charges p
     WHERE p.coworker_id = r.coworker_id AND p.from_time >= $2"
);

/// Refusals of devices, which are written once in a pass day. By the index `failed_checkins_by_coworker`.
const REFUSALS: Statement = statement!(
    rows(CoworkerRow)
    "SELECT f.coworker_id, f.business_id, f.checkin_attempt_time, f.mac_addresses, f.code
     FROM r CROSS JOIN failed_checkins f
     WHERE f.coworker_id = r.coworker_id AND f.checkin_attempt_time >= $2 AND f.mac_addresses IS NOT NULL"
);

stored! {
    /// A line of the old log.
    #[derive(Clone, Debug, Deserialize)]
    pub(crate) struct OldLine {
        pub(crate) key: String,
        pub(crate) source: String,
        pub(crate) door: Option<String>,
        pub(crate) kind: String,
        pub(crate) direction: Option<String>,
        pub(crate) credential: Option<String>,
        pub(crate) mac: Option<String>,
        pub(crate) coworker: Option<CoworkerId> = "coworker_id",
        pub(crate) event_at: WallTime,
        pub(crate) last_at: WallTime,
        pub(crate) strong_at: Option<WallTime>,
        pub(crate) quality: String = "time_quality",
        pub(crate) received_at: WallTime,
        pub(crate) decision: String,
        pub(crate) reason: Option<String>,
        pub(crate) checkin: Option<Uuid>,
        pub(crate) frames: i64,
        pub(crate) claim: Option<String>,
        pub(crate) points: Option<String>,
    }
}

/// A check-in, including the columns that only earlier versions wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OldVisit {
    pub(crate) unique_id: Uuid,
    pub(crate) business: BusinessId,
    pub(crate) source: CheckinSource,
    pub(crate) from: WallTime,
    pub(crate) to: Option<WallTime>,
    pub(crate) auto_checkout: bool,
    pub(crate) last_activity: WallTime,
    pub(crate) macs: BTreeSet<MacAddr>,
    pub(crate) door_in_at: Option<WallTime>,
    pub(crate) strong_at: Option<WallTime>,
    pub(crate) lingered_at: Option<WallTime>,
    pub(crate) pass: Option<PassUse>,
}

/// What was charged for a check-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OldCharge {
    pub(crate) pass_day: WallTime,
    pub(crate) time_pass: TimePassId,
    pub(crate) unbounded: i64,
    pub(crate) amount: i64,
}

/// A device's failed check-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OldRefusal {
    pub(crate) business: BusinessId,
    pub(crate) at: WallTime,
    pub(crate) macs: BTreeSet<MacAddr>,
    pub(crate) code: String,
}

/// The records of some people.
#[derive(Clone, Debug, Default)]
pub(crate) struct OldRecords {
    pub(crate) visits: BTreeMap<CoworkerId, Vec<OldVisit>>,
    /// By the identity of the check-in.
    pub(crate) charges: BTreeMap<Uuid, OldCharge>,
    pub(crate) refusals: BTreeMap<CoworkerId, Vec<OldRefusal>>,
}

stored! {
    /// The columns of a check-in, without those of its pass.
    #[derive(Deserialize)]
    struct OldVisitColumns {
        unique_id: Uuid,
        coworker_id: CoworkerId,
        business_id: BusinessId,
        source: i64,
        from_time: WallTime,
        to_time: Option<WallTime>,
        #[serde(deserialize_with = "from_number")]
        auto_checkout: bool,
        last_activity: Option<WallTime>,
        mac_addresses: Option<String>,
        door_in_at: Option<WallTime>,
        strong_at: Option<WallTime>,
        lingered_at: Option<WallTime>,
    }
}

impl From<(OldVisitColumns, PassColumns)> for OldVisit {
    fn from((stored, pass): (OldVisitColumns, PassColumns)) -> Self {
        Self {
            pass: pass.used(),
            unique_id: stored.unique_id,
            business: stored.business_id,
            source: CheckinSource::from_number(stored.source).unwrap_or(CheckinSource::None),
            from: stored.from_time,
            to: stored.to_time,
            auto_checkout: stored.auto_checkout,
            last_activity: stored.last_activity.unwrap_or(stored.from_time),
            macs: split_macs(stored.mac_addresses.as_deref()),
            door_in_at: stored.door_in_at,
            strong_at: stored.strong_at,
            lingered_at: stored.lingered_at,
        }
    }
}

impl Store {
    /// Whether the log of an earlier version exists.
    pub(crate) async fn has_old_log(&self) -> Result<bool, StoreError> {
        is_there(&self.sql.read(THERE, &[]).await?)
    }
}

impl Batch {
    /// Waits for other gateways that are migrating the old log. Returns the version of the directory if the old log
    /// still exists afterwards.
    pub(crate) async fn lock_old_log(&mut self) -> Result<Option<i64>, StoreError> {
        let version = self.transaction.rows(LOCK, &[]).await?.first().map_or(Ok(0), |row| row.int("version"))?;
        let there = is_there(&self.transaction.rows(THERE, &[]).await?)?;
        Ok(there.then_some(version))
    }

    /// The businesses of the old log.
    pub(crate) async fn old_businesses(&mut self) -> Result<Vec<BusinessId>, StoreError> {
        let mut found = Vec::new();
        let mut after = i64::MIN;
        loop {
            let rows = self.transaction.rows(NEXT_BUSINESS, &[Arg::Int(after)]).await?;
            let Some(next) = rows.first().map(|row| row.opt_int("next")).transpose()?.flatten() else {
                return Ok(found);
            };
            found.push(BusinessId(next));
            after = next;
        }
    }

    /// The next lines of a business after the one with this time and key.
    pub(crate) async fn old_lines(
        &mut self,
        business: BusinessId,
        (at, key): (WallTime, &str),
        limit: usize,
    ) -> Result<Vec<OldLine>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let args = [Arg::Int(business.0), Arg::Time(at), Arg::Text(key.to_owned()), Arg::Int(limit)];
        let mut lines = Vec::new();
        let each = |row: Row| {
            lines.push(row.json("line")?);
            Ok(())
        };
        self.transaction.rows_each(LINES, &args, each).await?;
        Ok(lines)
    }

    /// Writes facts of the old log; a fact that already exists stays as it is.
    pub(crate) async fn put_old_facts(&mut self, facts: &[DecidedFact]) -> Result<(), StoreError> {
        self.change_rows(PUT_FACTS, &facts.iter().map(FactRow::from).collect::<Vec<_>>()).await
    }

    /// The people who have a check-in.
    pub(crate) async fn old_people(&mut self) -> Result<BTreeSet<CoworkerId>, StoreError> {
        let rows = self.transaction.rows(PEOPLE, &[]).await?;
        rows.iter().map(|row| row.int("coworker_id").map(CoworkerId)).collect()
    }

    /// The people whose state this version has already folded.
    pub(crate) async fn known_people(&mut self) -> Result<BTreeSet<CoworkerId>, StoreError> {
        let rows = self.transaction.rows(FOLDED, &[]).await?;
        rows.iter().map(|row| row.int("subject").map(CoworkerId)).collect()
    }

    /// Every check-in of these people and, since an instant, their charges and the refusals of their devices.
    pub(crate) async fn old_records(
        &mut self,
        people: &[CoworkerId],
        since: WallTime,
    ) -> Result<OldRecords, StoreError> {
        let mut records = OldRecords::default();
        let args = [coworker_rows(people), Arg::Time(since)];
        let visits = &mut records.visits;
        let each = |row: Row| {
            let stored = row.json::<(OldVisitColumns, PassColumns)>("visit")?;
            visits.entry(stored.0.coworker_id).or_default().push(stored.into());
            Ok(())
        };
        self.transaction.rows_each(VISITS, args.get(..1).unwrap_or_default(), each).await?;
        for row in self.transaction.rows(CHARGES, &args).await? {
            let charge = OldCharge {
                pass_day: row.time("pass_day")?,
                time_pass: TimePassId(row.int("time_pass_id")?),
                unbounded: row.int("unbounded")?,
                amount: row.int("amount")?,
            };
            records.charges.insert(row.uuid("checkin")?, charge);
        }
        for row in self.transaction.rows(REFUSALS, &args).await? {
            let refusal = OldRefusal {
                business: BusinessId(row.int("business_id")?),
                at: row.time("checkin_attempt_time")?,
                macs: split_macs(row.opt_text("mac_addresses")?.as_deref()),
                code: row.opt_text("code")?.unwrap_or_default(),
            };
            records.refusals.entry(CoworkerId(row.int("coworker_id")?)).or_default().push(refusal);
        }
        Ok(records)
    }

    /// Drops the old log once all of it has been migrated.
    pub(crate) async fn drop_old_log(&mut self) -> Result<(), StoreError> {
        self.transaction.change(DROP, &[]).await.map(drop)
    }
}

fn is_there(rows: &[Row]) -> Result<bool, StoreError> {
    Ok(rows.first().map_or(Ok(0), |row| row.int("there"))? > 0)
}

#[cfg(test)]
pub(super) fn tables() -> [(&'static str, &'static [super::columns::Column]); 1] {
    use super::columns::Columns;
    [("checkins", OldVisitColumns::COLUMNS)]
}
