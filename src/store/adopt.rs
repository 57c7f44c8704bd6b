//! What a version before the log of facts has left: its table `sightings` is read once, in one transaction, and dropped at
//! the end of it. A database without that table has been taken over.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use uuid::Uuid;

use super::{
    Batch, DecidedFact, Store, StoreError,
    batch::{PUT_FACTS, StoredPass, fact_row, pass},
    directory::{CoworkerRow, coworker_rows},
    sql::{Arg, Row, Statement, statement},
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
    // Also where this login has no right to it.
    postgres: "SELECT count(*) AS there FROM pg_catalog.pg_class WHERE oid = to_regclass('sightings')"
);

/// Other gateways that want to take over wait here, and imports too. SQLite has one writer anyway.
const LOCK: Statement = statement!(
    sqlite: "SELECT version FROM directory_version",
    postgres: "SELECT version FROM directory_version FOR UPDATE"
);

const DROP: Statement = statement!("DROP TABLE sightings");

const NEXT_BUSINESS: Statement = statement!("SELECT min(business_id) AS next FROM sightings WHERE business_id > $1");

/// By the index of time. What a line is, as a JSON array: see [`OldLine`].
macro_rules! lines {
    ($array:expr, $after:expr, $until:expr) => {
        concat!(
            "SELECT ", $after, $array,
            "(s.key, s.source, s.door, s.kind, s.direction, s.credential, s.mac, s.coworker_id, s.event_at, s.last_at,
              s.strong_at, s.time_quality, s.received_at, s.decision, s.reason, s.checkin, s.frames, s.claim, s.points)",
            $until, " AS line
             FROM sightings s WHERE s.business_id = $1 AND s.event_at >= $2 AND (s.event_at, s.key) > ($2, $3)
             ORDER BY s.event_at, s.key LIMIT $4"
        )
    };
}

const LINES: Statement =
    statement!(sqlite: lines!("json_array", "", ""), postgres: lines!("json_build_array", "CAST(", " AS text)"));

const EVERYBODY: Statement =
    statement!("SELECT DISTINCT coworker_id FROM checkins WHERE coworker_id IS NOT NULL ORDER BY coworker_id");

const STANDING: Statement = statement!("SELECT subject FROM standings WHERE subject > 0");

macro_rules! visits {
    ($array:expr, $before:expr, $after:expr) => {
        concat!(
            "SELECT ",
            $before,
            $array,
            "(c.unique_id, c.coworker_id, c.business_id, c.source, c.from_time, c.to_time,
              CAST(c.auto_checkout AS integer), c.last_activity, c.mac_addresses, c.door_in_at, c.strong_at,
              c.lingered_at, ",
            pass!($array),
            ")",
            $after,
            " AS visit FROM r CROSS JOIN checkins c WHERE c.coworker_id = r.coworker_id"
        )
    };
}

const VISITS: Statement = statement!(
    rows(CoworkerRow)
    sqlite: visits!("json_array", "", ""), postgres: visits!("json_build_array", "CAST(", " AS text)")
);

const CHARGES: Statement = statement!(
    rows(CoworkerRow)
    "SELECT p.checkin, p.pass_day, p.time_pass_id, p.unbounded, p.amount FROM r CROSS JOIN payg_charges p
     WHERE p.coworker_id = r.coworker_id AND p.from_time >= $2"
);

/// Refusals of devices, which are written once in a pass day.
const REFUSALS: Statement = statement!(
    rows(CoworkerRow)
    "SELECT f.coworker_id, f.business_id, f.checkin_attempt_time, f.mac_addresses, f.code
     FROM r CROSS JOIN failed_checkins f
     WHERE f.coworker_id = r.coworker_id AND f.checkin_attempt_time >= $2 AND f.mac_addresses IS NOT NULL"
);

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
    pub(crate) coworker: Option<CoworkerId>,
    pub(crate) event_at: WallTime,
    pub(crate) last_at: WallTime,
    pub(crate) strong_at: Option<WallTime>,
    pub(crate) quality: String,
    pub(crate) received_at: WallTime,
    pub(crate) decision: String,
    pub(crate) reason: Option<String>,
    pub(crate) checkin: Option<Uuid>,
    pub(crate) frames: i64,
    pub(crate) claim: Option<String>,
    pub(crate) points: Option<String>,
}

/// A check-in with all that the old columns know of it.
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

#[derive(Deserialize)]
struct FormerVisit {
    unique_id: Uuid,
    coworker_id: CoworkerId,
    business_id: BusinessId,
    source: i64,
    from_time: WallTime,
    to_time: Option<WallTime>,
    auto_checkout: u8,
    last_activity: Option<WallTime>,
    mac_addresses: Option<String>,
    door_in_at: Option<WallTime>,
    strong_at: Option<WallTime>,
    lingered_at: Option<WallTime>,
    pass: StoredPass,
}

impl From<FormerVisit> for OldVisit {
    fn from(stored: FormerVisit) -> Self {
        Self {
            pass: stored.pass.used(),
            unique_id: stored.unique_id,
            business: stored.business_id,
            source: CheckinSource::from_number(stored.source).unwrap_or(CheckinSource::None),
            from: stored.from_time,
            to: stored.to_time,
            auto_checkout: stored.auto_checkout != 0,
            last_activity: stored.last_activity.unwrap_or(stored.from_time),
            macs: split_macs(stored.mac_addresses.as_deref()),
            door_in_at: stored.door_in_at,
            strong_at: stored.strong_at,
            lingered_at: stored.lingered_at,
        }
    }
}

impl Store {
    /// Is there a log that an earlier version has written?
    pub(crate) async fn has_old_log(&self) -> Result<bool, StoreError> {
        is_there(&self.sql.read(THERE, &[]).await?)
    }
}

impl Batch {
    /// Waits for other gateways that are taking over the old log; the version of the directory, if it is still there
    /// afterwards.
    pub(crate) async fn lock_old_log(&mut self) -> Result<Option<i64>, StoreError> {
        let version = self.transaction.rows(LOCK, &[]).await?.first().map_or(Ok(0), |row| row.int("version"))?;
        let there = is_there(&self.transaction.rows(THERE, &[]).await?)?;
        Ok(there.then_some(version))
    }

    /// The businesses that it is about.
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

    /// The next lines of a business after one, which is told by its time and key; those that cannot be read are none.
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

    /// Writes facts of the old log; one that is there already is the same.
    pub(crate) async fn put_old_facts(&mut self, facts: &[DecidedFact]) -> Result<(), StoreError> {
        self.change_rows(PUT_FACTS, &facts.iter().map(fact_row).collect::<Vec<_>>()).await
    }

    /// Everybody who has a check-in.
    pub(crate) async fn old_people(&mut self) -> Result<BTreeSet<CoworkerId>, StoreError> {
        let rows = self.transaction.rows(EVERYBODY, &[]).await?;
        rows.iter().map(|row| row.int("coworker_id").map(CoworkerId)).collect()
    }

    /// Those whose state is known already: this version has decided about them.
    pub(crate) async fn known_people(&mut self) -> Result<BTreeSet<CoworkerId>, StoreError> {
        let rows = self.transaction.rows(STANDING, &[]).await?;
        rows.iter().map(|row| row.int("subject").map(CoworkerId)).collect()
    }

    /// Every check-in of these people; and since an instant what they were charged, and which of their devices were refused.
    pub(crate) async fn old_records(
        &mut self,
        people: &[CoworkerId],
        since: WallTime,
    ) -> Result<OldRecords, StoreError> {
        let mut records = OldRecords::default();
        let args = [coworker_rows(people), Arg::Time(since)];
        let visits = &mut records.visits;
        let each = |row: Row| {
            let stored = row.json::<FormerVisit>("visit")?;
            visits.entry(stored.coworker_id).or_default().push(stored.into());
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

    /// All of it has been taken over.
    pub(crate) async fn drop_old_log(&mut self) -> Result<(), StoreError> {
        self.transaction.change(DROP, &[]).await.map(drop)
    }
}

fn is_there(rows: &[Row]) -> Result<bool, StoreError> {
    Ok(rows.first().map_or(Ok(0), |row| row.int("there"))? > 0)
}
