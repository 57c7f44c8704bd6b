//! What the pipeline asks and writes: as many statements for a thousand people as for one.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Store, StoreError,
    leases::Fence,
    sql::{self, Arg, Row, Statement, statement},
};
use crate::{
    clock::WallTime,
    engine::{
        Standing, Visit,
        calendar::Calendar,
        decision::Reason,
        passes::{PassEnd, PassKind, PassUse},
    },
    mac::MacAddr,
    record::{BusinessId, CheckinSource, CoworkerId, Snapshot, TimePassId, join_macs, split_macs},
    sighting::SightingKey,
};

/// Which keys, of `$1`, the log has, and what is the last thing that it knows of each coworker, of `$2`, or later.
///
/// All in one row: what SQLite's thread hands over row by row costs more than to find it.
const KNOWN: Statement = Statement {
    sqlite: "SELECT
       (SELECT json_group_array(s.key) FROM json_each($1) r CROSS JOIN sightings s
          WHERE s.business_id = $3 AND s.key = r.value) AS decided,
       (SELECT json_group_array(json_array(f.coworker_id, f.last_at)) FROM json_each($2) r CROSS JOIN frontiers f
          WHERE f.business_id = $3 AND f.coworker_id = r.value) AS frontiers",
    postgres: "SELECT
       (SELECT coalesce(CAST(json_agg(s.key) AS text), '[]') FROM jsonb_array_elements_text($1::jsonb) AS r(value)
          JOIN sightings s ON s.business_id = $3 AND s.key = r.value) AS decided,
       (SELECT coalesce(CAST(json_agg(json_build_array(f.coworker_id, f.last_at)) AS text), '[]')
          FROM jsonb_array_elements_text($2::jsonb) AS r(value)
          JOIN frontiers f ON f.business_id = $3 AND f.coworker_id = CAST(r.value AS bigint)) AS frontiers",
};

macro_rules! open_here {
    () => {
        " AS visit FROM checkins c WHERE c.business_id = $1 AND c.to_time IS NULL AND c.coworker_id IS NOT NULL"
    };
}

/// A visit as a JSON array, see [`StoredVisit`]: all that the engine knows of it, and no more, because a batch reads thousands.
macro_rules! visit {
    ($array:expr) => {
        concat!(
            $array,
            "(c.unique_id, c.coworker_id, c.coworker_full_name, c.business_id, c.business_name, c.source, c.from_time,
              c.to_time, CAST(c.auto_checkout AS integer), c.last_activity, c.mac_addresses,
              c.teams_at_the_time_of_checkin, c.tariff_at_the_time_of_checkin, c.door_in_at, c.strong_at, c.lingered_at,
              c.coworker_time_pass_guid, CAST(c.counts_towards_plan_limits AS integer), c.time_pass_id, c.pass_kind,
              c.pass_ends, c.pass_end)"
        )
    };
}

/// Two ways in, so that each finds its index: the open visit however old, and those from the one before the coworker's
/// earliest claim on, so that a long day costs no more than a short one. All in one row, as in [`KNOWN`].
/// `CROSS JOIN` keeps SQLite from walking the visits instead of the few coworkers; PostgreSQL locks the rows, because
/// another gateway may write at the same time, while SQLite's writer is alone anyway.
const STANDINGS: Statement = {
    const TEXT: Statement = statement!(
        rows(coworker_id bigint, earliest timestamptz)
        concat!(
            "SELECT coalesce('[' || group_concat(visit, ',') || ']', '[]') AS found FROM (
             SELECT ", visit!("json_array"), " AS visit FROM r CROSS JOIN checkins c
               WHERE c.business_id = $2 AND c.coworker_id = r.coworker_id AND c.to_time IS NULL
             UNION ALL
             SELECT ", visit!("json_array"), " FROM r CROSS JOIN checkins c
               WHERE c.business_id = $2 AND c.coworker_id = r.coworker_id AND c.from_time >= coalesce(
                 (SELECT max(p.from_time) FROM checkins p WHERE p.business_id = $2 AND p.coworker_id = r.coworker_id
                    AND p.from_time >= $3 AND p.from_time <= r.earliest), $3) AND c.to_time IS NOT NULL)"
        )
    );
    const LOCKED: Statement = statement!(
        rows(coworker_id bigint, earliest timestamptz)
        concat!(
            "SELECT coalesce(CAST(json_agg(visit) AS text), '[]') AS found FROM (
             SELECT ", visit!("json_build_array"), " AS visit FROM checkins c WHERE c.id IN (
               SELECT o.id FROM r JOIN checkins o
                 ON o.business_id = $2 AND o.coworker_id = r.coworker_id AND o.to_time IS NULL
               UNION ALL
               SELECT n.id FROM r CROSS JOIN LATERAL (
                   SELECT max(p.from_time) AS at FROM checkins p WHERE p.business_id = $2
                     AND p.coworker_id = r.coworker_id AND p.from_time >= $3 AND p.from_time <= r.earliest) before
                 JOIN checkins n ON n.business_id = $2 AND n.coworker_id = r.coworker_id
                   AND n.from_time >= coalesce(before.at, $3))
             ORDER BY c.id FOR UPDATE OF c) AS locked"
        )
    );
    Statement { sqlite: TEXT.sqlite, postgres: LOCKED.postgres }
};

const OPEN_HERE: Statement = Statement {
    sqlite: concat!("SELECT ", visit!("json_array"), open_here!()),
    postgres: concat!("SELECT CAST(", visit!("json_build_array"), " AS text)", open_here!()),
};

macro_rules! change_visits {
    ($beginning:expr) => {
        concat!(
            "UPDATE checkins SET ",
            $beginning,
            "from_time_local = r.from_time_local, to_time = r.to_time, to_time_local = r.to_time_local,
               auto_checkout = r.auto_checkout, last_activity = r.last_activity, mac_addresses = r.mac_addresses,
               updated_on = r.now, updated_by = 'checkind', door_in_at = r.door_in_at, strong_at = r.strong_at,
               lingered_at = r.lingered_at, seconds = r.seconds
             FROM r WHERE checkins.unique_id = r.unique_id"
        )
    };
}

/// What changes while somebody is in and when they leave; their pass day stays the one that it was when they came. In SQLite a
/// statement that also set what is as it was would write the indexes by beginning and by pass anew.
const CHANGE_STAYS: Statement = statement!(
    rows(
        unique_id uuid, to_time timestamptz, auto_checkout boolean, last_activity timestamptz, mac_addresses text,
        from_time_local text, to_time_local text, now timestamptz, door_in_at timestamptz, strong_at timestamptz,
        lingered_at timestamptz, seconds bigint
    )
    change_visits!("")
);

const CHANGE_VISITS: Statement = statement!(
    rows(
        unique_id uuid, source bigint, from_time timestamptz, to_time timestamptz, auto_checkout boolean,
        last_activity timestamptz, mac_addresses text, from_time_local text, to_time_local text, now timestamptz,
        door_in_at timestamptz, strong_at timestamptz, lingered_at timestamptz, pass_guid uuid, counts boolean,
        time_pass_id bigint, pass_kind text, pass_ends timestamptz, pass_end text, pass_day timestamptz, seconds bigint
    )
    change_visits!(
        "source = r.source, from_time = r.from_time, coworker_time_pass_guid = r.pass_guid,
               counts_towards_plan_limits = r.counts, time_pass_id = r.time_pass_id, pass_kind = r.pass_kind,
               pass_ends = r.pass_ends, pass_end = r.pass_end, pass_day = r.pass_day, "
    )
);

/// Only what is new: an insert that turns into an update would use up a number of PostgreSQL's sequence each time.
const PUT_VISITS: Statement = statement!(
    rows(
        unique_id uuid, coworker_id bigint, coworker_full_name text, business_id bigint, business_name text,
        source bigint, from_time timestamptz, to_time timestamptz, auto_checkout boolean, last_activity timestamptz,
        mac_addresses text, teams text, tariff text, from_time_local text, to_time_local text, now timestamptz,
        door_in_at timestamptz, strong_at timestamptz, lingered_at timestamptz, pass_guid uuid, counts boolean,
        time_pass_id bigint, pass_kind text, pass_ends timestamptz, pass_end text, pass_day timestamptz, seconds bigint
    )
    "INSERT INTO checkins (
       unique_id, coworker_id, coworker_full_name, business_id, business_name, source, from_time, to_time,
       auto_checkout, last_activity, mac_addresses, teams_at_the_time_of_checkin, tariff_at_the_time_of_checkin,
       from_time_local, to_time_local, created_on, updated_on, updated_by, door_in_at, strong_at, lingered_at,
       coworker_time_pass_guid, counts_towards_plan_limits, time_pass_id, pass_kind, pass_ends, pass_end, pass_day,
       seconds)
     SELECT unique_id, coworker_id, coworker_full_name, business_id, business_name, source, from_time, to_time,
       auto_checkout, last_activity, mac_addresses, teams, tariff,
       from_time_local, to_time_local, now, now, 'checkind', door_in_at, strong_at, lingered_at,
       pass_guid, counts, time_pass_id, pass_kind, pass_ends, pass_end, pass_day, seconds
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
        received_at timestamptz, decision text, reason text, checkin uuid, frames bigint, claim text, points text,
        directory_version bigint
    )
    "INSERT INTO sightings (
       key, business_id, source, door, kind, direction, credential, mac, coworker_id, event_at, last_at, strong_at,
       time_quality, received_at, decision, reason, checkin, frames, claim, points, directory_version)
     SELECT key, business_id, source, door, kind, direction, credential, mac, coworker_id, event_at, last_at, strong_at,
       time_quality, received_at, decision, reason, checkin, frames, claim, points, directory_version
     FROM r WHERE true
     ON CONFLICT (business_id, key) DO UPDATE SET
       event_at = CASE WHEN excluded.event_at < sightings.event_at THEN excluded.event_at ELSE sightings.event_at END,
       last_at = CASE WHEN excluded.last_at > sightings.last_at THEN excluded.last_at ELSE sightings.last_at END,
       strong_at = CASE WHEN excluded.strong_at > sightings.strong_at OR sightings.strong_at IS NULL
         THEN excluded.strong_at ELSE sightings.strong_at END,
       received_at = excluded.received_at, frames = sightings.frames + excluded.frames,
       points = CASE WHEN length(sightings.points) < 16384 THEN sightings.points || excluded.points
         ELSE sightings.points END,
       checkin = CASE WHEN sightings.kind = 'timer' THEN excluded.checkin ELSE sightings.checkin END
     WHERE sightings.kind = 'network' OR sightings.kind = 'timer'"
);

const PUT_FRONTIERS: Statement = statement!(
    rows(business_id bigint, coworker_id bigint, last_at timestamptz)
    "INSERT INTO frontiers (business_id, coworker_id, last_at) SELECT business_id, coworker_id, last_at FROM r WHERE true
     ON CONFLICT (business_id, coworker_id) DO UPDATE SET last_at = excluded.last_at
     WHERE excluded.last_at > frontiers.last_at"
);

/// What a gateway of a version without frontiers has written.
const CATCH_UP: Statement = statement!(
    "INSERT INTO frontiers (business_id, coworker_id, last_at)
       SELECT s.business_id, s.coworker_id, max(s.last_at) FROM sightings s
       WHERE s.business_id = $1 AND s.last_at >= $2 AND s.coworker_id IS NOT NULL
         AND (s.claim IS NOT NULL OR s.kind = 'timer')
       GROUP BY s.business_id, s.coworker_id ORDER BY s.coworker_id
     ON CONFLICT (business_id, coworker_id) DO UPDATE SET last_at = excluded.last_at
     WHERE excluded.last_at > frontiers.last_at"
);

/// Of people who are asked about from the same instant on, by time: an index of the log by coworker would cost every batch
/// more than this costs those in which something comes late.
macro_rules! lines_of {
    ($what:expr, $grouped:expr) => {
        statement!(
            rows(coworker_id bigint)
            concat!(
                "SELECT ", $what, " FROM sightings s WHERE s.business_id = $2 AND s.last_at <= $3 AND s.last_at >= $4
                   AND s.coworker_id IN (SELECT coworker_id FROM r)", $grouped
            )
        )
    };
}

const LENGTHS: Statement = lines_of!("s.coworker_id, count(*) AS lines", " GROUP BY s.coworker_id");

const LOGGED: Statement = lines_of!("s.*", "");

const LAST_OF: Statement = lines_of!(
    "s.coworker_id, max(s.last_at) AS last_at",
    " AND (s.claim IS NOT NULL OR s.kind = 'timer') GROUP BY s.coworker_id"
);

const FAILED_OF: Statement = statement!(
    rows(coworker_id bigint, since timestamptz)
    "SELECT f.unique_id, f.coworker_id, f.checkin_attempt_time, f.once_key, f.code FROM r CROSS JOIN failed_checkins f
     WHERE f.business_id = $2 AND f.coworker_id = r.coworker_id AND f.checkin_attempt_time >= r.since
       AND f.checkin_attempt_time <= $3"
);

const DROP_VISITS: Statement =
    statement!(rows(unique_id uuid) "DELETE FROM checkins WHERE unique_id IN (SELECT unique_id FROM r)");

const DROP_FAILED: Statement =
    statement!(rows(unique_id uuid) "DELETE FROM failed_checkins WHERE unique_id IN (SELECT unique_id FROM r)");

const DROP_LINES: Statement =
    statement!(rows(key text) "DELETE FROM sightings WHERE business_id = $2 AND key IN (SELECT key FROM r)");

macro_rules! lines_to_spoil {
    ($change:expr, $which:expr) => {
        statement!(
            rows(coworker_id bigint, since timestamptz)
            concat!(
                $change, " WHERE business_id = $2 AND last_at >= $3 AND coworker_id IN (SELECT coworker_id FROM r)
                   AND last_at >= (SELECT since FROM r WHERE r.coworker_id = sightings.coworker_id)", $which
            )
        )
    };
}

/// Lines whose times a step of the clock has made wrong are not decided by again.
const SPOIL_LINES: Statement = lines_to_spoil!("UPDATE sightings SET claim = NULL", "");

const SPOIL_TIMERS: Statement = lines_to_spoil!("DELETE FROM sightings", " AND kind = 'timer'");

const SPOIL_FRONTIERS: Statement = statement!(
    rows(coworker_id bigint, before timestamptz)
    "UPDATE frontiers SET last_at = r.before FROM r
     WHERE frontiers.business_id = $2 AND frontiers.coworker_id = r.coworker_id AND frontiers.last_at > r.before"
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
    /// There, and different now, but they began as they did, and use the same pass.
    pub(crate) stays: Vec<&'a Visit>,
    /// There, and different in any other way.
    pub(crate) changed: Vec<&'a Visit>,
    /// There, and never were: what arrived late has shown it.
    pub(crate) gone: Vec<Uuid>,
}

/// What the database holds of a coworker since an instant, to be decided again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// Their lines of the log.
    pub(crate) lines: Vec<LogLine>,
    /// Their failed check-ins.
    pub(crate) failures: Vec<PastFailure>,
}

/// A failed check-in that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PastFailure {
    pub(crate) unique_id: Uuid,
    pub(crate) attempt_at: WallTime,
    pub(crate) once_key: Option<String>,
    pub(crate) code: String,
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
    /// What the front desk needs to know besides.
    pub(crate) detail: Option<Arc<str>>,
    /// What makes a repetition the same attempt; none where every attempt is a record.
    pub(crate) once_key: Option<String>,
}

/// The kind of a line that a timer wrote.
pub(crate) const TIMER: &str = "timer";

/// A line of the sighting log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LogLine {
    pub(crate) key: SightingKey,
    pub(crate) business_id: BusinessId,
    pub(crate) source: String,
    pub(crate) door: Option<String>,
    pub(crate) kind: Cow<'static, str>,
    pub(crate) direction: Option<Cow<'static, str>>,
    pub(crate) credential: Option<String>,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) coworker_id: Option<CoworkerId>,
    pub(crate) event_at: WallTime,
    pub(crate) last_at: WallTime,
    pub(crate) strong_at: Option<WallTime>,
    pub(crate) time_quality: Cow<'static, str>,
    pub(crate) received_at: WallTime,
    pub(crate) decision: Cow<'static, str>,
    pub(crate) reason: Option<Cow<'static, str>>,
    pub(crate) checkin: Option<Uuid>,
    pub(crate) frames: u32,
    /// What it said of its coworker, whatever their check-ins were.
    pub(crate) claim: Option<Cow<'static, str>>,
    /// The presences that were merged into it.
    pub(crate) points: Option<String>,
    /// The directory that it was decided by.
    pub(crate) directory_version: Option<i64>,
}

/// Lines of the log in the form in which the database takes them.
#[derive(Debug)]
pub(crate) struct Log {
    lines: u64,
    rows: Arg,
    /// The last line of each coworker; none where there is nobody.
    frontiers: Option<Arg>,
}

impl Log {
    /// The keys of the lines must differ.
    pub(crate) fn of<'a>(lines: impl ExactSizeIterator<Item = &'a LogLine>) -> Self {
        #[derive(Serialize)]
        struct FrontierRow {
            business_id: BusinessId,
            coworker_id: CoworkerId,
            last_at: WallTime,
        }
        let lines: Vec<&LogLine> = lines.collect();
        let mut last: BTreeMap<(BusinessId, CoworkerId), WallTime> = BTreeMap::new();
        for line in lines.iter().filter(|line| line.claim.is_some() || line.kind == TIMER) {
            if let Some(coworker) = line.coworker_id {
                let known = last.entry((line.business_id, coworker)).or_insert(line.last_at);
                *known = line.last_at.max(*known);
            }
        }
        let row = |((business_id, coworker_id), last_at)| FrontierRow { business_id, coworker_id, last_at };
        let frontiers: Vec<FrontierRow> = last.into_iter().map(row).collect();
        let frontiers = (!frontiers.is_empty()).then(|| Arg::rows(&frontiers));
        Self { lines: lines.len() as u64, rows: Arg::rows(&lines), frontiers }
    }
}

/// A stretch of time during which a business's captures could hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) from: WallTime,
    pub(crate) to: WallTime,
}

/// What the log knows of what a batch speaks of.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Sightings that have been decided before.
    pub(crate) decided: BTreeSet<SightingKey>,
    /// The last that is known of each coworker, or later.
    pub(crate) frontiers: BTreeMap<CoworkerId, WallTime>,
}

/// One batch's transaction.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(super) transaction: sql::Transaction,
    fence: Option<Fence>,
    /// The frontiers that are written with the commit.
    frontiers: Option<Arg>,
}

impl Store {
    /// Begins the transaction of a batch.
    pub(crate) async fn batch(&self) -> Result<Batch, StoreError> {
        Ok(Batch { transaction: self.sql.begin().await?, fence: self.fence, frontiers: None })
    }

    /// Hands over the open visits of a business one by one: a row takes ten times the room of what is remembered of it.
    pub(crate) async fn open_visits(
        &self,
        business: BusinessId,
        mut each: impl FnMut(&Visit),
    ) -> Result<(), StoreError> {
        let each = |row: &Row| row.json("visit").map(|stored: StoredVisit| each(&stored.into()));
        self.sql.read_each(OPEN_HERE, &[Arg::Int(business.0)], each).await
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

    /// Another gateway of the business may have written to a shared database before it knew of frontiers: before the first
    /// batch they are what the log says at least, as far back as anything is decided.
    pub(crate) async fn catch_up(&self, business: BusinessId, too_old: WallTime) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        self.sql.change(CATCH_UP, &[Arg::Int(business.0), Arg::Time(too_old)]).await.map(drop)
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
        let mut visits: BTreeMap<CoworkerId, Vec<Visit>> = coworkers.keys().map(|&id| (id, Vec::new())).collect();
        for row in self.transaction.rows(STANDINGS, &args).await? {
            for stored in row.json::<Vec<StoredVisit>>("found")? {
                let visit = Visit::from(stored);
                visits.entry(visit.coworker).or_default().push(visit);
            }
        }
        Ok(visits.into_iter().map(|(id, visits)| (id, Standing::new(visits))).collect())
    }

    /// Which of these sightings have been decided before, and the last instant up to `horizon` that the log knows anything
    /// of each of these coworkers, or a later one: what was taken back may have been the last. Of those who are known only
    /// beyond the horizon nothing is looked for before `too_old`.
    pub(crate) async fn known(
        &mut self,
        keys: &[&SightingKey],
        coworkers: &[CoworkerId],
        business: BusinessId,
        horizon: WallTime,
        too_old: WallTime,
    ) -> Result<Known, StoreError> {
        let mut known = Known::default();
        if keys.is_empty() && coworkers.is_empty() {
            return Ok(known);
        }
        let args = [Arg::rows(keys), Arg::rows(coworkers), Arg::Int(business.0)];
        for row in self.transaction.rows(KNOWN, &args).await? {
            known.decided.extend(row.json::<Vec<SightingKey>>("decided")?);
            known.frontiers.extend(row.json::<Vec<(CoworkerId, WallTime)>>("frontiers")?);
        }
        let ahead: Vec<CoworkerRow> = known
            .frontiers
            .extract_if(.., |_, last_at| *last_at > horizon)
            .map(|(coworker_id, _)| CoworkerRow { coworker_id })
            .collect();
        if !ahead.is_empty() {
            let args = [Arg::rows(&ahead), Arg::Int(business.0), Arg::Time(horizon), Arg::Time(too_old)];
            for row in self.transaction.rows(LAST_OF, &args).await? {
                known.frontiers.insert(CoworkerId(row.int("coworker_id")?), row.time("last_at")?);
            }
        }
        Ok(known)
    }

    /// How many lines the log has of these coworkers, each from an instant of their own up to `horizon`.
    pub(crate) async fn lengths(
        &mut self,
        since: &BTreeMap<CoworkerId, WallTime>,
        business: BusinessId,
        horizon: WallTime,
    ) -> Result<BTreeMap<CoworkerId, u64>, StoreError> {
        let mut lengths = BTreeMap::new();
        for (since, people) in by_since(since) {
            let args = [people, Arg::Int(business.0), Arg::Time(horizon), Arg::Time(since)];
            for row in self.transaction.rows(LENGTHS, &args).await? {
                lengths.insert(CoworkerId(row.int("coworker_id")?), row.int("lines")?.unsigned_abs());
            }
        }
        Ok(lengths)
    }

    /// What is there of these coworkers, each from an instant of their own up to `horizon`.
    pub(crate) async fn pasts(
        &mut self,
        since: &BTreeMap<CoworkerId, WallTime>,
        business: BusinessId,
        horizon: WallTime,
    ) -> Result<BTreeMap<CoworkerId, Past>, StoreError> {
        let mut pasts: BTreeMap<CoworkerId, Past> = since.keys().map(|&id| (id, Past::default())).collect();
        if pasts.is_empty() {
            return Ok(pasts);
        }
        for (since, people) in by_since(since) {
            let args = [people, Arg::Int(business.0), Arg::Time(horizon), Arg::Time(since)];
            let each = |row| {
                let line = log_line(&row)?;
                let coworker = line.coworker_id.unwrap_or(CoworkerId(0));
                pasts.entry(coworker).or_default().lines.push(line);
                Ok(())
            };
            self.transaction.rows_each(LOGGED, &args, each).await?;
        }
        let args = [since_rows(since), Arg::Int(business.0), Arg::Time(horizon)];
        let failures = self.transaction.rows(FAILED_OF, &args).await?;
        for row in &failures {
            let failure = PastFailure {
                unique_id: row.uuid("unique_id")?,
                attempt_at: row.time("checkin_attempt_time")?,
                once_key: row.opt_text("once_key")?,
                code: row.opt_text("code")?.unwrap_or_default(),
            };
            pasts.entry(CoworkerId(row.int("coworker_id")?)).or_default().failures.push(failure);
        }
        Ok(pasts)
    }

    /// The lines of these coworkers since then are not decided by again: a step of the clock has made their times wrong.
    pub(crate) async fn spoil(
        &mut self,
        since: &BTreeMap<CoworkerId, WallTime>,
        business: BusinessId,
    ) -> Result<(), StoreError> {
        #[derive(Serialize)]
        struct BeforeRow {
            coworker_id: CoworkerId,
            before: WallTime,
        }
        let Some(earliest) = since.values().min() else { return Ok(()) };
        let args = [since_rows(since), Arg::Int(business.0), Arg::Time(*earliest)];
        self.transaction.change(SPOIL_LINES, &args).await?;
        let before = since.iter().map(|(&coworker_id, since)| BeforeRow { coworker_id, before: since.moved(-1) });
        let rows = Arg::rows(&before.collect::<Vec<_>>());
        self.transaction.change(SPOIL_FRONTIERS, &[rows, Arg::Int(business.0)]).await?;
        self.transaction.change(SPOIL_TIMERS, &args).await.map(drop)
    }

    /// Takes back failed check-ins that never were, and lines that are written anew.
    pub(crate) async fn take_back(
        &mut self,
        failures: &[Uuid],
        lines: &[SightingKey],
        business: BusinessId,
    ) -> Result<(), StoreError> {
        #[derive(Serialize)]
        struct KeyRow<'a> {
            key: &'a SightingKey,
        }
        self.change_rows(DROP_FAILED, &unique_ids(failures)).await?;
        if !lines.is_empty() {
            let rows: Vec<KeyRow<'_>> = lines.iter().map(|key| KeyRow { key }).collect();
            self.transaction.change(DROP_LINES, &[Arg::rows(&rows), Arg::Int(business.0)]).await?;
        }
        Ok(())
    }

    /// Writes visits. Those that never were go first, then those that are closed, so that whoever left and came back within
    /// the batch never has two open rows.
    pub(crate) async fn put_visits(
        &mut self,
        visits: &Changes<'_>,
        calendar: &Calendar,
        now: WallTime,
    ) -> Result<(), StoreError> {
        self.change_rows(DROP_VISITS, &unique_ids(&visits.gone)).await?;
        for open in [false, true] {
            let of = |visit: &&&Visit| visit.is_open() == open;
            let changed = visits.changed.iter().filter(of).map(|visit| visit_row(visit, calendar, now));
            let stays = visits.stays.iter().filter(of).map(|visit| stay_row(visit, calendar, now));
            self.change_rows(CHANGE_VISITS, &changed.collect::<Vec<_>>()).await?;
            self.change_rows(CHANGE_STAYS, &stays.collect::<Vec<_>>()).await?;
        }
        let new = visits.new.iter().map(|visit| visit_row(visit, calendar, now));
        self.change_rows(PUT_VISITS, &new.collect::<Vec<_>>()).await
    }

    /// Says a statement about these rows; nothing when there are none.
    pub(super) async fn change_rows<T: Serialize>(
        &mut self,
        statement: Statement,
        rows: &[T],
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.transaction.change(statement, &[Arg::rows(rows)]).await.map(drop)
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

    /// Writes the sighting log. A network line whose key is there grows. A door line whose key is
    /// there was decided by another gateway since [`Batch::known`] was asked: that is a conflict.
    pub(crate) async fn put_log(&mut self, log: Log) -> Result<(), StoreError> {
        if log.lines == 0 {
            return Ok(());
        }
        let written = self.transaction.change(PUT_SIGHTINGS, std::slice::from_ref(&log.rows)).await?;
        if written < log.lines {
            return Err(StoreError::Conflict);
        }
        self.frontiers = log.frontiers;
        Ok(())
    }

    /// Makes the batch durable, if this gateway may still write.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        let frontiers = self.frontiers.as_ref().map(std::slice::from_ref);
        match (frontiers, self.fence) {
            (Some(frontiers), None) => self.transaction.commit_with(PUT_FRONTIERS, frontiers).await,
            (frontiers, fence) => {
                if let Some(frontiers) = frontiers {
                    self.transaction.change(PUT_FRONTIERS, frontiers).await?;
                }
                if let Some(fence) = fence {
                    fence.check(&mut self.transaction).await?;
                }
                self.transaction.commit().await
            }
        }
    }
}

#[derive(Serialize)]
struct CoworkerRow {
    coworker_id: CoworkerId,
}

/// Who is asked about from each instant on: these are pass days, or after a start minutes, mostly of one backlog.
fn by_since(since: &BTreeMap<CoworkerId, WallTime>) -> BTreeMap<WallTime, Arg> {
    let mut people: BTreeMap<WallTime, Vec<CoworkerRow>> = BTreeMap::new();
    for (&coworker_id, &since) in since {
        people.entry(since).or_default().push(CoworkerRow { coworker_id });
    }
    people.into_iter().map(|(since, people)| (since, Arg::rows(&people))).collect()
}

fn since_rows(since: &BTreeMap<CoworkerId, WallTime>) -> Arg {
    #[derive(Serialize)]
    struct SinceRow {
        coworker_id: CoworkerId,
        since: WallTime,
    }
    let rows: Vec<SinceRow> = since.iter().map(|(&coworker_id, &since)| SinceRow { coworker_id, since }).collect();
    Arg::rows(&rows)
}

#[derive(Serialize)]
struct IdRow {
    unique_id: Uuid,
}

fn unique_ids(ids: &[Uuid]) -> Vec<IdRow> {
    ids.iter().map(|&unique_id| IdRow { unique_id }).collect()
}

fn log_line(row: &Row) -> Result<LogLine, StoreError> {
    let word = |column| Ok::<_, StoreError>(row.opt_text(column)?.map(Cow::Owned));
    Ok(LogLine {
        key: SightingKey(row.text("key")?),
        business_id: BusinessId(row.int("business_id")?),
        source: row.text("source")?,
        door: row.opt_text("door")?,
        kind: Cow::Owned(row.text("kind")?),
        direction: word("direction")?,
        credential: row.opt_text("credential")?,
        mac: row.opt_text("mac")?.and_then(|mac| mac.parse().ok()),
        coworker_id: row.opt_int("coworker_id")?.map(CoworkerId),
        event_at: row.time("event_at")?,
        last_at: row.time("last_at")?,
        strong_at: row.opt_time("strong_at")?,
        time_quality: Cow::Owned(row.text("time_quality")?),
        received_at: row.time("received_at")?,
        decision: Cow::Owned(row.text("decision")?),
        reason: word("reason")?,
        checkin: row.opt_uuid("checkin")?,
        frames: u32::try_from(row.int("frames")?).unwrap_or(u32::MAX),
        claim: word("claim")?,
        points: row.opt_text("points")?,
        directory_version: row.opt_int("directory_version")?,
    })
}

#[derive(Serialize)]
struct StayRow {
    unique_id: Uuid,
    to_time: Option<WallTime>,
    auto_checkout: bool,
    last_activity: WallTime,
    mac_addresses: Option<String>,
    from_time_local: String,
    to_time_local: Option<String>,
    now: WallTime,
    door_in_at: Option<WallTime>,
    strong_at: Option<WallTime>,
    lingered_at: Option<WallTime>,
    seconds: Option<u64>,
}

fn stay_row(visit: &Visit, calendar: &Calendar, now: WallTime) -> StayRow {
    StayRow {
        unique_id: visit.unique_id,
        to_time: visit.to,
        auto_checkout: visit.auto_checkout,
        last_activity: visit.last_activity,
        mac_addresses: join_macs(&visit.macs),
        from_time_local: local(visit.from, calendar),
        to_time_local: visit.to.map(|to| local(to, calendar)),
        now,
        door_in_at: visit.door_in_at,
        strong_at: visit.strong_at,
        lingered_at: visit.lingered_at,
        seconds: visit.to.map(|to| to.since(visit.from).as_secs()),
    }
}

#[derive(Serialize)]
struct VisitRow<'a> {
    #[serde(flatten)]
    stay: StayRow,
    coworker_id: CoworkerId,
    coworker_full_name: Option<&'a str>,
    business_id: BusinessId,
    business_name: Option<&'a str>,
    source: i64,
    from_time: WallTime,
    teams: Option<&'a str>,
    tariff: Option<&'a str>,
    pass_guid: Option<Uuid>,
    counts: bool,
    time_pass_id: Option<TimePassId>,
    pass_kind: Option<&'static str>,
    pass_ends: Option<WallTime>,
    pass_end: Option<&'static str>,
    pass_day: WallTime,
}

fn visit_row<'a>(visit: &'a Visit, calendar: &Calendar, now: WallTime) -> VisitRow<'a> {
    let pass = visit.pass.as_ref();
    VisitRow {
        stay: stay_row(visit, calendar, now),
        coworker_id: visit.coworker,
        coworker_full_name: visit.then.full_name.as_deref(),
        business_id: visit.business,
        business_name: visit.business_name.as_deref(),
        source: visit.source.number(),
        from_time: visit.from,
        teams: visit.then.teams.as_deref(),
        tariff: visit.then.tariff.as_deref(),
        // Nobody holds a pass that is assigned on the spot: it is known by the check-in that it was assigned to.
        pass_guid: pass.map(|pass| pass.guid.unwrap_or(visit.unique_id)),
        counts: pass.is_some_and(|pass| pass.counts_towards_plan_limits),
        time_pass_id: pass.map(|pass| pass.time_pass),
        pass_kind: pass.map(|pass| pass.kind.word()),
        pass_ends: pass.and_then(|pass| pass.ends).map(|(at, _)| at),
        pass_end: pass.and_then(|pass| pass.ends).map(|(_, why)| why.word()),
        pass_day: calendar.pass_day(visit.from).start,
    }
}

/// A visit as the database hands it over: an array of these columns.
#[derive(Deserialize)]
struct StoredVisit {
    unique_id: Uuid,
    coworker_id: CoworkerId,
    coworker_full_name: Option<String>,
    business_id: BusinessId,
    business_name: Option<String>,
    source: i64,
    from_time: WallTime,
    to_time: Option<WallTime>,
    auto_checkout: u8,
    last_activity: Option<WallTime>,
    mac_addresses: Option<String>,
    teams: Option<String>,
    tariff: Option<String>,
    door_in_at: Option<WallTime>,
    strong_at: Option<WallTime>,
    lingered_at: Option<WallTime>,
    pass_guid: Option<Uuid>,
    counts: u8,
    time_pass_id: Option<TimePassId>,
    pass_kind: Option<String>,
    pass_ends: Option<WallTime>,
    pass_end: Option<String>,
}

impl StoredVisit {
    /// None for a kind or an end that no version of this program wrote.
    fn pass(&self) -> Option<PassUse> {
        let kind = self.pass_kind.as_deref().and_then(PassKind::from_word)?;
        Some(PassUse {
            guid: self.pass_guid.filter(|_| kind != PassKind::PayAsYouGo),
            time_pass: self.time_pass_id?,
            kind,
            counts_towards_plan_limits: self.counts != 0,
            ends: self.pass_ends.zip(self.pass_end.as_deref().and_then(PassEnd::from_word)),
        })
    }
}

impl From<StoredVisit> for Visit {
    fn from(stored: StoredVisit) -> Self {
        Self {
            unique_id: stored.unique_id,
            coworker: stored.coworker_id,
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
            pass: stored.pass(),
            business_name: stored.business_name,
            then: Snapshot { full_name: stored.coworker_full_name, teams: stored.teams, tariff: stored.tariff },
        }
    }
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
        description: failure.reason.description_with(failure.detail.as_deref()),
        attempt_local: local(failure.attempt_at, calendar),
        now,
        code: failure.reason.code(),
        once_key: failure.once_key.as_deref(),
    }
}

/// What is asked of the log only when something comes late or a clock was stepped, with the number of arguments.
#[cfg(test)]
pub(super) const LATE: [(Statement, usize); 5] =
    [(LENGTHS, 4), (LOGGED, 4), (LAST_OF, 4), (SPOIL_LINES, 3), (SPOIL_TIMERS, 3)];

/// The questions of a batch, with the number of their arguments.
#[cfg(test)]
pub(super) fn questions() -> [(Statement, usize); 5] {
    [(KNOWN, 3), (STANDINGS, 3), (FAILED_OF, 3), (OPEN_HERE, 1), (UNRECOGNISED, 4)]
}

fn local(at: WallTime, calendar: &Calendar) -> String {
    calendar.local(at).format(sql::LOCAL).to_string()
}
