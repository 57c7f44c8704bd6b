//! What the pipeline asks and writes: a fixed number of statements per batch, whatever its size.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
};

use serde::Serialize;
use uuid::Uuid;

use super::{
    Store, StoreError,
    checkins::snapshot,
    leases::Fence,
    sql::{self, Arg, Row, Statement, statement},
};
use crate::{
    clock::WallTime,
    engine::{Standing, Visit, calendar::Calendar, decision::Reason},
    mac::MacAddr,
    record::{BusinessId, CheckinSource, CoworkerId, Snapshot, join_macs, split_macs},
    sighting::SightingKey,
};

const DECIDED: Statement = statement!(
    rows(key text)
    "SELECT s.key FROM r CROSS JOIN sightings s WHERE s.business_id = $2 AND s.key = r.key"
);

/// The columns of a visit: all that the engine knows of it, and no more, because a batch reads thousands of them.
macro_rules! visit_columns {
    () => {
        "c.unique_id, c.coworker_id, c.coworker_full_name, c.business_id, c.business_name, c.source, c.from_time,
         c.to_time, c.auto_checkout, c.last_activity, c.mac_addresses, c.teams_at_the_time_of_checkin,
         c.tariff_at_the_time_of_checkin, c.door_in_at, c.strong_at, c.lingered_at"
    };
}

/// Two ways in, so that each finds its index: the open visit however old, and those from the one before the coworker's
/// earliest claim on, so that a long day costs no more than a short one. A recent open visit is found twice.
/// `CROSS JOIN` keeps SQLite from walking the visits instead of the few coworkers; PostgreSQL locks the rows, because
/// another gateway may write at the same time, while SQLite's writer is alone anyway.
const STANDINGS: Statement = {
    const TEXT: Statement = statement!(
        rows(coworker_id bigint, earliest timestamptz)
        concat!(
            "SELECT ", visit_columns!(), " FROM r CROSS JOIN checkins c
               WHERE c.business_id = $2 AND c.coworker_id = r.coworker_id AND c.to_time IS NULL
             UNION ALL
             SELECT ", visit_columns!(), " FROM r CROSS JOIN checkins c
               WHERE c.business_id = $2 AND c.coworker_id = r.coworker_id AND c.from_time >= coalesce(
                 (SELECT max(p.from_time) FROM checkins p WHERE p.business_id = $2 AND p.coworker_id = r.coworker_id
                    AND p.from_time >= $3 AND p.from_time <= r.earliest), $3)"
        )
    );
    const LOCKED: Statement = statement!(
        rows(coworker_id bigint, earliest timestamptz)
        concat!(
            "SELECT ", visit_columns!(), " FROM checkins c WHERE c.id IN (
               SELECT o.id FROM r JOIN checkins o
                 ON o.business_id = $2 AND o.coworker_id = r.coworker_id AND o.to_time IS NULL
               UNION ALL
               SELECT n.id FROM r CROSS JOIN LATERAL (
                   SELECT max(p.from_time) AS at FROM checkins p WHERE p.business_id = $2
                     AND p.coworker_id = r.coworker_id AND p.from_time >= $3 AND p.from_time <= r.earliest) before
                 JOIN checkins n ON n.business_id = $2 AND n.coworker_id = r.coworker_id
                   AND n.from_time >= coalesce(before.at, $3))
             ORDER BY c.id FOR UPDATE OF c"
        )
    );
    Statement { sqlite: TEXT.sqlite, postgres: LOCKED.postgres }
};

const OPEN_HERE: Statement =
    statement!("SELECT * FROM checkins WHERE business_id = $1 AND to_time IS NULL AND coworker_id IS NOT NULL");

const CHANGE_VISITS: Statement = statement!(
    rows(
        unique_id uuid, source bigint, from_time timestamptz, to_time timestamptz, auto_checkout boolean,
        last_activity timestamptz, mac_addresses text, from_time_local text, to_time_local text, now timestamptz,
        door_in_at timestamptz, strong_at timestamptz, lingered_at timestamptz
    )
    "UPDATE checkins SET
       source = r.source, from_time = r.from_time, to_time = r.to_time, auto_checkout = r.auto_checkout,
       last_activity = r.last_activity, mac_addresses = r.mac_addresses, from_time_local = r.from_time_local,
       to_time_local = r.to_time_local, updated_on = r.now, updated_by = 'checkind',
       door_in_at = r.door_in_at, strong_at = r.strong_at, lingered_at = r.lingered_at
     FROM r WHERE checkins.unique_id = r.unique_id"
);

/// Only what is new: an insert that turns into an update would use up a number of PostgreSQL's sequence each time.
const PUT_VISITS: Statement = statement!(
    rows(
        unique_id uuid, coworker_id bigint, coworker_full_name text, business_id bigint, business_name text,
        source bigint, from_time timestamptz, to_time timestamptz, auto_checkout boolean, last_activity timestamptz,
        mac_addresses text, teams text, tariff text, from_time_local text, to_time_local text, now timestamptz,
        door_in_at timestamptz, strong_at timestamptz, lingered_at timestamptz
    )
    "INSERT INTO checkins (
       unique_id, coworker_id, coworker_full_name, business_id, business_name, source, from_time, to_time,
       auto_checkout, last_activity, mac_addresses, teams_at_the_time_of_checkin, tariff_at_the_time_of_checkin,
       from_time_local, to_time_local, created_on, updated_on, updated_by, door_in_at, strong_at, lingered_at)
     SELECT unique_id, coworker_id, coworker_full_name, business_id, business_name, source, from_time, to_time,
       auto_checkout, last_activity, mac_addresses, teams, tariff,
       from_time_local, to_time_local, now, now, 'checkind', door_in_at, strong_at, lingered_at
     FROM r"
);

const PUT_FAILED: Statement = statement!(
    rows(
        unique_id uuid, coworker_id bigint, coworker_full_name text, business_id bigint, business_name text,
        attempt_at timestamptz, source bigint, mac_addresses text, teams text, tariff text, description text,
        attempt_local text, now timestamptz, code text, once_key text
    )
    "INSERT INTO failed_checkins (
       unique_id, coworker_id, coworker_full_name, business_id, business_name, checkin_attempt_time, source,
       mac_addresses, teams_at_the_time_of_checkin, tariff_at_the_time_of_checkin, description,
       checkin_attempt_time_local, created_on, updated_on, updated_by, code, once_key)
     SELECT unique_id, coworker_id, coworker_full_name, business_id, business_name, attempt_at, source,
       mac_addresses, teams, tariff, description, attempt_local, now, now, 'checkind', code, once_key
     FROM r WHERE r.once_key IS NULL OR NOT EXISTS (SELECT 1 FROM failed_checkins f WHERE f.once_key = r.once_key)
     ON CONFLICT DO NOTHING RETURNING unique_id"
);

const PUT_SIGHTINGS: Statement = statement!(
    rows(
        key text, business_id bigint, source text, door text, kind text, direction text, credential text, mac text,
        coworker_id bigint, event_at timestamptz, last_at timestamptz, strong_at timestamptz, time_quality text,
        received_at timestamptz, decision text, reason text, checkin uuid, frames bigint
    )
    "INSERT INTO sightings (
       key, business_id, source, door, kind, direction, credential, mac, coworker_id, event_at, last_at, strong_at,
       time_quality, received_at, decision, reason, checkin, frames)
     SELECT key, business_id, source, door, kind, direction, credential, mac, coworker_id, event_at, last_at, strong_at,
       time_quality, received_at, decision, reason, checkin, frames
     FROM r WHERE true
     ON CONFLICT (business_id, key) DO UPDATE SET
       last_at = CASE WHEN excluded.last_at > sightings.last_at THEN excluded.last_at ELSE sightings.last_at END,
       strong_at = coalesce(excluded.strong_at, sightings.strong_at),
       received_at = excluded.received_at, frames = sightings.frames + excluded.frames
     WHERE sightings.kind = 'network'"
);

const PUT_HEARD: Statement = statement!(
    "INSERT INTO heard (id, business_id, from_time, to_time) VALUES ($1, $2, $3, $4)
     ON CONFLICT (id) DO UPDATE SET to_time = excluded.to_time"
);
const HEARD: Statement =
    statement!("SELECT from_time, to_time FROM heard WHERE business_id = $1 AND to_time >= $2 ORDER BY from_time");
const FORGET_HEARD: Statement = statement!("DELETE FROM heard WHERE business_id = $1 AND to_time < $2");

const UNRECOGNISED: Statement = statement!(
    "SELECT mac_addresses FROM failed_checkins
     WHERE business_id = $1 AND checkin_attempt_time >= $2 AND code = $3 AND mac_addresses IS NOT NULL LIMIT $4"
);

/// The visits of a batch that are to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes<'a> {
    /// Not in the database yet.
    pub(crate) new: Vec<&'a Visit>,
    /// There, and different now.
    pub(crate) changed: Vec<&'a Visit>,
}

/// A failed check-in to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewFailure {
    pub(crate) unique_id: Uuid,
    pub(crate) coworker: Option<CoworkerId>,
    pub(crate) then: Snapshot,
    pub(crate) business: BusinessId,
    pub(crate) business_name: Option<String>,
    pub(crate) attempt_at: WallTime,
    pub(crate) source: CheckinSource,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) reason: Reason,
    /// What makes a repetition the same attempt; none where every attempt is a record.
    pub(crate) once_key: Option<String>,
}

/// A line of the sighting log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LogLine {
    pub(crate) key: SightingKey,
    pub(crate) business_id: BusinessId,
    pub(crate) source: String,
    pub(crate) door: Option<String>,
    pub(crate) kind: &'static str,
    pub(crate) direction: Option<&'static str>,
    pub(crate) credential: Option<String>,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) coworker_id: Option<CoworkerId>,
    pub(crate) event_at: WallTime,
    pub(crate) last_at: WallTime,
    pub(crate) strong_at: Option<WallTime>,
    pub(crate) time_quality: &'static str,
    pub(crate) received_at: WallTime,
    pub(crate) decision: &'static str,
    pub(crate) reason: Option<&'static str>,
    pub(crate) checkin: Option<Uuid>,
    pub(crate) frames: u32,
}

/// A stretch of time during which a business's captures could hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) from: WallTime,
    pub(crate) to: WallTime,
}

/// One batch's transaction.
#[derive(Debug)]
pub(crate) struct Batch {
    transaction: sql::Transaction,
    fence: Option<Fence>,
}

impl Store {
    /// Begins the transaction of a batch.
    pub(crate) async fn batch(&self) -> Result<Batch, StoreError> {
        Ok(Batch { transaction: self.sql.begin().await?, fence: self.fence })
    }

    /// The open visits of a business.
    pub(crate) async fn open_visits(&self, business: BusinessId) -> Result<Vec<Visit>, StoreError> {
        self.sql.read(OPEN_HERE, &[Arg::Int(business.0)]).await?.iter().map(visit).collect()
    }

    /// Writes down that a business's captures heard from `heard.from` to `heard.to`; the same `id` extends a stretch.
    pub(crate) async fn put_heard(&self, id: Uuid, business: BusinessId, heard: Heard) -> Result<(), StoreError> {
        let id = Arg::Text(id.to_string());
        let args = [id, Arg::Int(business.0), Arg::Time(heard.from), Arg::Time(heard.to)];
        self.sql.change(PUT_HEARD, &args).await.map(drop)
    }

    /// The stretches that reach beyond `since`; older ones are forgotten.
    pub(crate) async fn heard(&self, business: BusinessId, since: WallTime) -> Result<Vec<Heard>, StoreError> {
        let args = [Arg::Int(business.0), Arg::Time(since)];
        self.sql.change(FORGET_HEARD, &args).await?;
        let rows = self.sql.read(HEARD, &args).await?;
        rows.iter().map(|row| Ok(Heard { from: row.time("from_time")?, to: row.time("to_time")? })).collect()
    }

    /// The devices that a failed check-in of this reason names since `since`, at most `limit`.
    pub(crate) async fn failed_devices(
        &self,
        business: BusinessId,
        since: WallTime,
        reason: Reason,
        limit: usize,
    ) -> Result<BTreeSet<MacAddr>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let args = [Arg::Int(business.0), Arg::Time(since), Arg::Text(reason.code().to_owned()), Arg::Int(limit)];
        let mut macs = BTreeSet::new();
        for row in self.sql.read(UNRECOGNISED, &args).await? {
            macs.extend(split_macs(row.opt_text("mac_addresses")?.as_deref()));
        }
        Ok(macs)
    }
}

impl Batch {
    /// Which of these sightings have been decided before?
    pub(crate) async fn decided(
        &mut self,
        keys: &[SightingKey],
        business: BusinessId,
    ) -> Result<BTreeSet<SightingKey>, StoreError> {
        #[derive(Serialize)]
        struct KeyRow<'a> {
            key: &'a SightingKey,
        }
        if keys.is_empty() {
            return Ok(BTreeSet::new());
        }
        let rows: Vec<KeyRow<'_>> = keys.iter().map(|key| KeyRow { key }).collect();
        let rows = self.transaction.rows(DECIDED, &[Arg::rows(&rows), Arg::Int(business.0)]).await?;
        rows.iter().map(|row| row.text("key").map(SightingKey)).collect()
    }

    /// Where these coworkers stand: their open visit, and of those that began at or after `since` the last one that began
    /// up to the instant given for the coworker (the earliest that anything is claimed of them), and all later ones.
    pub(crate) async fn standings(
        &mut self,
        coworkers: &BTreeMap<CoworkerId, WallTime>,
        business: BusinessId,
        since: WallTime,
    ) -> Result<BTreeMap<CoworkerId, Standing>, StoreError> {
        #[derive(Serialize)]
        struct CoworkerRow {
            coworker_id: CoworkerId,
            earliest: WallTime,
        }
        if coworkers.is_empty() {
            return Ok(BTreeMap::new());
        }
        let row = |(&coworker_id, &earliest): (&CoworkerId, &WallTime)| CoworkerRow { coworker_id, earliest };
        let rows: Vec<CoworkerRow> = coworkers.iter().map(row).collect();
        let args = [Arg::rows(&rows), Arg::Int(business.0), Arg::Time(since)];
        let mut visits: BTreeMap<CoworkerId, BTreeMap<Uuid, Visit>> =
            coworkers.keys().map(|&id| (id, BTreeMap::new())).collect();
        for row in self.transaction.rows(STANDINGS, &args).await? {
            let visit = visit(&row)?;
            visits.entry(visit.coworker).or_default().insert(visit.unique_id, visit);
        }
        Ok(visits.into_iter().map(|(id, visits)| (id, Standing::new(visits.into_values().collect()))).collect())
    }

    /// Writes visits. Changed ones go first, so that whoever left and came back within the batch never has two open rows.
    pub(crate) async fn put_visits(
        &mut self,
        visits: &Changes<'_>,
        calendar: &Calendar,
        now: WallTime,
    ) -> Result<(), StoreError> {
        let rows = |visits: &[&Visit]| {
            Arg::rows(&visits.iter().map(|visit| visit_row(visit, calendar, now)).collect::<Vec<_>>())
        };
        if !visits.changed.is_empty() {
            self.transaction.change(CHANGE_VISITS, &[rows(&visits.changed)]).await?;
        }
        if !visits.new.is_empty() {
            self.transaction.change(PUT_VISITS, &[rows(&visits.new)]).await?;
        }
        Ok(())
    }

    /// Writes failed check-ins; says which were written, and not merely repeated.
    pub(crate) async fn put_failures(
        &mut self,
        failures: &[NewFailure],
        calendar: &Calendar,
        now: WallTime,
    ) -> Result<BTreeSet<Uuid>, StoreError> {
        if failures.is_empty() {
            return Ok(BTreeSet::new());
        }
        let rows: Vec<FailureRow<'_>> = failures.iter().map(|failure| failure_row(failure, calendar, now)).collect();
        let written = self.transaction.rows(PUT_FAILED, &[Arg::rows(&rows)]).await?;
        written.iter().map(|row| row.uuid("unique_id")).collect()
    }

    /// Writes the sighting log; keys must differ. A network line whose key is there grows. A door line whose key is
    /// there was decided by another gateway since [`Batch::decided`] was asked: that is a conflict.
    pub(crate) async fn put_log(&mut self, lines: &[impl Borrow<LogLine> + Serialize]) -> Result<(), StoreError> {
        if lines.is_empty() {
            return Ok(());
        }
        let written = self.transaction.change(PUT_SIGHTINGS, &[Arg::rows(lines)]).await?;
        if written < lines.len() as u64 { Err(StoreError::Conflict) } else { Ok(()) }
    }

    /// Makes the batch durable, if this gateway may still write.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        if let Some(fence) = self.fence {
            fence.check(&mut self.transaction).await?;
        }
        self.transaction.commit().await
    }
}

#[derive(Serialize)]
struct VisitRow<'a> {
    unique_id: Uuid,
    coworker_id: CoworkerId,
    coworker_full_name: Option<&'a str>,
    business_id: BusinessId,
    business_name: Option<&'a str>,
    source: i64,
    from_time: WallTime,
    to_time: Option<WallTime>,
    auto_checkout: bool,
    last_activity: WallTime,
    mac_addresses: Option<String>,
    teams: Option<&'a str>,
    tariff: Option<&'a str>,
    from_time_local: String,
    to_time_local: Option<String>,
    now: WallTime,
    door_in_at: Option<WallTime>,
    strong_at: Option<WallTime>,
    lingered_at: Option<WallTime>,
}

fn visit_row<'a>(visit: &'a Visit, calendar: &Calendar, now: WallTime) -> VisitRow<'a> {
    VisitRow {
        unique_id: visit.unique_id,
        coworker_id: visit.coworker,
        coworker_full_name: visit.then.full_name.as_deref(),
        business_id: visit.business,
        business_name: visit.business_name.as_deref(),
        source: visit.source.number(),
        from_time: visit.from,
        to_time: visit.to,
        auto_checkout: visit.auto_checkout,
        last_activity: visit.last_activity,
        mac_addresses: join_macs(&visit.macs),
        teams: visit.then.teams.as_deref(),
        tariff: visit.then.tariff.as_deref(),
        from_time_local: local(visit.from, calendar),
        to_time_local: visit.to.map(|to| local(to, calendar)),
        now,
        door_in_at: visit.door_in_at,
        strong_at: visit.strong_at,
        lingered_at: visit.lingered_at,
    }
}

fn visit(row: &Row) -> Result<Visit, StoreError> {
    let from = row.time("from_time")?;
    Ok(Visit {
        unique_id: row.uuid("unique_id")?,
        coworker: CoworkerId(row.int("coworker_id")?),
        business: BusinessId(row.int("business_id")?),
        business_name: row.opt_text("business_name")?,
        then: snapshot(row)?,
        source: CheckinSource::from_number(row.int("source")?).unwrap_or(CheckinSource::None),
        from,
        to: row.opt_time("to_time")?,
        auto_checkout: row.bool("auto_checkout")?,
        last_activity: row.opt_time("last_activity")?.unwrap_or(from),
        macs: split_macs(row.opt_text("mac_addresses")?.as_deref()),
        door_in_at: row.opt_time("door_in_at")?,
        strong_at: row.opt_time("strong_at")?,
        lingered_at: row.opt_time("lingered_at")?,
    })
}

#[derive(Serialize)]
struct FailureRow<'a> {
    unique_id: Uuid,
    coworker_id: Option<CoworkerId>,
    coworker_full_name: Option<&'a str>,
    business_id: BusinessId,
    business_name: Option<&'a str>,
    attempt_at: WallTime,
    source: i64,
    mac_addresses: Option<MacAddr>,
    teams: Option<&'a str>,
    tariff: Option<&'a str>,
    description: String,
    attempt_local: String,
    now: WallTime,
    code: &'static str,
    once_key: Option<&'a str>,
}

fn failure_row<'a>(failure: &'a NewFailure, calendar: &Calendar, now: WallTime) -> FailureRow<'a> {
    FailureRow {
        unique_id: failure.unique_id,
        coworker_id: failure.coworker,
        coworker_full_name: failure.then.full_name.as_deref(),
        business_id: failure.business,
        business_name: failure.business_name.as_deref(),
        attempt_at: failure.attempt_at,
        source: failure.source.number(),
        mac_addresses: failure.mac,
        teams: failure.then.teams.as_deref(),
        tariff: failure.then.tariff.as_deref(),
        description: failure.reason.description(),
        attempt_local: local(failure.attempt_at, calendar),
        now,
        code: failure.reason.code(),
        once_key: failure.once_key.as_deref(),
    }
}

/// The questions of a batch, with the number of their arguments.
#[cfg(test)]
pub(super) fn questions() -> [(Statement, usize); 4] {
    [(DECIDED, 2), (STANDINGS, 3), (OPEN_HERE, 1), (UNRECOGNISED, 4)]
}

fn local(at: WallTime, calendar: &Calendar) -> String {
    calendar.local(at).format(sql::LOCAL).to_string()
}
