//! What one transaction of the pipeline asks and writes: as many statements for a thousand people as for one.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Datelike, NaiveDate};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    Store, StoreError,
    leases::Fence,
    rows::{Columns, hex, row, unhex},
    sql::{self, Arg, Row, Statement, statement},
};
use crate::{
    base::{
        clock::WallTime,
        fact::{self, FactDigest, FactKey, LogDay, Point, StoredFact, Subject},
        mac::MacAddr,
        record::{BusinessId, CheckinSource, CoworkerId, Snapshot, TimePassId, join_macs, split_macs},
    },
    engine::{
        decision::{DecisionCode, Reason},
        fold::{ChargeRecord, FailureRecord, Opened, VisitRecord},
        passes::{Counted, PassEnd, PassKind, PassUse, Used},
        person::{PersonState, Visit},
    },
    policy::calendar::Calendar,
};

/// Everything that an ordinary batch needs to know, in one row: what SQLite's thread hands over row by row costs more than to
/// find it. Of the subjects in `$1` where they stand and what the network said since; of the facts in `$2` which the log has;
/// and the newest versions of directory and settings.
const LOAD: Statement = statement!(
    sqlite: "SELECT
       (SELECT version FROM directory_version) AS version,
       (SELECT coalesce(max(number), 0) FROM site_policies) AS policies,
       (SELECT json_group_array(json_array(s.subject, s.revision, s.business_id, s.deadline, hex(s.state))) FROM json_each($1) r
          CROSS JOIN standings s WHERE s.subject = r.value) AS standings,
       (SELECT json_group_array(json_array(p.business_id, p.subject, p.device, p.interface, p.at, hex(p.points)))
          FROM json_each($1) r CROSS JOIN presences p WHERE p.subject = r.value) AS presences,
       (SELECT json_group_array(r.value->>0) FROM json_each($2) r WHERE EXISTS (SELECT 1 FROM facts f
            WHERE f.day = r.value->>1 AND f.subject = r.value->>2 AND f.at = r.value->>3
              AND f.digest = unhex(r.value->>4))
          OR r.value->>5 = 1 AND EXISTS (SELECT 1 FROM facts f
            WHERE f.digest = unhex(r.value->>4) AND f.arrived = TRUE)) AS known",
    postgres: "SELECT
       (SELECT version FROM directory_version) AS version,
       (SELECT coalesce(max(number), 0) FROM site_policies) AS policies,
       (SELECT coalesce(CAST(json_agg(json_build_array(s.subject, s.revision, s.business_id, s.deadline,
            encode(s.state, 'hex'))) AS text), '[]')
          FROM jsonb_array_elements_text($1::jsonb) AS r(value) JOIN standings s ON s.subject = CAST(r.value AS bigint)
       ) AS standings,
       (SELECT coalesce(CAST(json_agg(json_build_array(p.business_id, p.subject, p.device, p.interface, p.at,
            encode(p.points, 'hex'))) AS text), '[]')
          FROM jsonb_array_elements_text($1::jsonb) AS r(value) JOIN presences p ON p.subject = CAST(r.value AS bigint)
       ) AS presences,
       (SELECT coalesce(CAST(json_agg(CAST(r.value->>0 AS bigint)) AS text), '[]')
          FROM jsonb_array_elements($2::jsonb) AS r(value) WHERE EXISTS (SELECT 1 FROM facts f
            WHERE f.day = CAST(r.value->>1 AS bigint) AND f.subject = CAST(r.value->>2 AS bigint)
              AND f.at = CAST(r.value->>3 AS bigint) AND f.digest = decode(r.value->>4, 'hex'))
          OR r.value->>5 = '1' AND EXISTS (SELECT 1 FROM facts f
            WHERE f.digest = decode(r.value->>4, 'hex') AND f.arrived = TRUE)) AS known"
);

/// Of these people, those who are in, or of whom something is known from then on.
const ACTIVE: Statement = statement!(
    rows(SubjectRow)
    "SELECT s.subject FROM r CROSS JOIN standings s
     WHERE s.subject = r.subject AND (s.deadline IS NOT NULL OR s.folded_at >= $2)"
);

const PASS_USERS: Statement =
    statement!(rows(PassRow) "SELECT u.* FROM r CROSS JOIN pass_usage u WHERE u.pass = r.pass");

const TOTALS: Statement = statement!(
    rows(FirstRow)
    "SELECT u.subject, u.day, u.days, u.seconds FROM r CROSS JOIN plan_usage u
     WHERE u.subject = r.subject AND u.day = (SELECT max(b.day) FROM plan_usage b WHERE b.subject = r.subject AND b.day < r.first)"
);

macro_rules! checkpoints {
    ($hex:expr) => {
        concat!(
            "SELECT c.subject, c.day, ",
            $hex,
            " AS state FROM r CROSS JOIN checkpoints c
             WHERE c.day = r.day AND c.subject = r.subject"
        )
    };
}

const CHECKPOINTS: Statement = statement!(
    rows(DayRow) sqlite: checkpoints!("hex(c.state)"), postgres: checkpoints!("encode(c.state, 'hex')")
);

const FACTS: Statement = statement!(
    rows(DayRow)
    "SELECT f.* FROM r CROSS JOIN facts f WHERE f.day = r.day AND f.subject = r.subject"
);

/// What each person has from an instant of their own on. PostgreSQL takes every batch for a hundred people, and would walk
/// the table for them; what it may not take apart (`OFFSET 0`) it looks up for each by the index.
macro_rules! since {
    ($time:expr, $table:expr, $sqlite:expr, $postgres:expr) => {
        statement!(
            rows(SinceRow)
            sqlite: concat!(
                "SELECT ", $sqlite, " FROM r CROSS JOIN ", $table,
                " c WHERE c.coworker_id = r.coworker_id AND c.", $time, " >= r.since"
            ),
            postgres: concat!(
                "SELECT found.* FROM r CROSS JOIN LATERAL (SELECT ", $postgres, " FROM ", $table,
                " c WHERE c.coworker_id = r.coworker_id AND c.", $time, " >= r.since OFFSET 0) AS found"
            )
        )
    };
}

/// The pass of a visit as a JSON array, see [`StoredPass`].
macro_rules! pass {
    ($array:expr) => {
        concat!(
            $array,
            "(c.coworker_time_pass_guid, CAST(c.counts_towards_plan_limits AS integer), c.time_pass_id, c.pass_kind,
              c.pass_ends, c.pass_end)"
        )
    };
}
pub(super) use pass;

/// A visit as a JSON array, see [`StoredVisit`].
macro_rules! visit {
    ($array:expr) => {
        concat!(
            "CAST(",
            $array,
            "(c.unique_id, c.coworker_id, c.coworker_full_name, c.business_id, c.business_name, c.source, c.from_time,
              c.to_time, CAST(c.auto_checkout AS integer), c.last_activity, c.mac_addresses,
              c.teams_at_the_time_of_checkin, c.tariff_at_the_time_of_checkin, ",
            pass!($array),
            ") AS text) AS visit"
        )
    };
}

const VISITS: Statement = since!("from_time", "checkins", visit!("json_array"), visit!("json_build_array"));

const FAILED: Statement =
    since!("checkin_attempt_time", "failed_checkins", "c.unique_id, c.coworker_id", "c.unique_id, c.coworker_id");

const CHARGED: Statement = since!(
    "from_time",
    "payg_charges",
    "c.checkin, c.coworker_id, c.from_time",
    "c.checkin, c.coworker_id, c.from_time"
);

macro_rules! put_facts {
    ($digest:expr, $payload:expr) => {
        concat!(
            "INSERT INTO facts (day, subject, at, digest, business_id, arrived, decision, payload)
             SELECT day, subject, at, ",
            $digest,
            ", business_id, arrived, decision, ",
            $payload,
            " FROM r WHERE true
             ON CONFLICT DO NOTHING"
        )
    };
}

pub(super) const PUT_FACTS: Statement = statement!(
    rows(FactRow)
    sqlite: put_facts!("digest", "payload"),
    postgres: put_facts!("decode(digest, 'hex')", "decode(payload, 'hex')")
);

macro_rules! decide_facts {
    ($digest:expr) => {
        concat!(
            "UPDATE facts SET decision = r.decision FROM r
             WHERE facts.day = r.day AND facts.subject = r.subject AND facts.at = r.at AND facts.digest = ",
            $digest
        )
    };
}

const DECIDE_FACTS: Statement = statement!(
    rows(FactKeyRow)
    sqlite: decide_facts!("r.digest"), postgres: decide_facts!("decode(r.digest, 'hex')")
);

macro_rules! drop_facts {
    ($digest:expr) => {
        concat!("DELETE FROM facts WHERE (day, subject, at, digest) IN (SELECT day, subject, at, ", $digest, " FROM r)")
    };
}

const DROP_FACTS: Statement = statement!(
    rows(FactKeyRow)
    sqlite: drop_facts!("digest"), postgres: drop_facts!("decode(digest, 'hex')")
);

/// A row that another writer has changed since it was read is not written: the revision tells.
macro_rules! put_standings {
    ($state:expr, $deadline:expr) => {
        concat!(
            "INSERT INTO standings (subject, business_id, deadline, last_activity, folded_at, revision, state)
             SELECT subject, business_id, deadline, last_activity, folded_at, revision, ",
            $state,
            " FROM r WHERE true
             ON CONFLICT (subject) DO UPDATE SET ",
            $deadline,
            "last_activity = excluded.last_activity,
               folded_at = excluded.folded_at, revision = excluded.revision, state = excluded.state
             WHERE standings.revision = excluded.revision - 1"
        )
    };
}

const PUT_STANDINGS: Statement = statement!(
    rows(StandingRow)
    sqlite: put_standings!("state", "business_id = excluded.business_id, deadline = excluded.deadline, "),
    postgres: put_standings!("decode(state, 'hex')", "business_id = excluded.business_id, deadline = excluded.deadline, ")
);

/// Where the deadline stays as it is: SQLite would write its index again even with the same value.
const KEEP_DEADLINES: Statement = statement!(
    rows(StandingRow)
    sqlite: put_standings!("state", ""),
    postgres: put_standings!("decode(state, 'hex')", "")
);

const DROP_CHECKPOINTS: Statement = statement!(
    rows(DayRow)
    "DELETE FROM checkpoints WHERE (day, subject) IN (SELECT day, subject FROM r)"
);

macro_rules! put_checkpoints {
    ($state:expr) => {
        concat!(
            "INSERT INTO checkpoints (day, subject, state) SELECT day, subject, ",
            $state,
            " FROM r WHERE true
             ON CONFLICT (day, subject) DO UPDATE SET state = excluded.state"
        )
    };
}

const PUT_CHECKPOINTS: Statement = statement!(
    rows(CheckpointRow)
    sqlite: put_checkpoints!("state"), postgres: put_checkpoints!("decode(state, 'hex')")
);

const DROP_PRESENCES: Statement = statement!(
    rows(SubjectRow) "DELETE FROM presences WHERE subject IN (SELECT subject FROM r)"
);

macro_rules! put_presences {
    ($points:expr) => {
        concat!(
            "INSERT INTO presences (subject, device, business_id, interface, at, last_at, points)
             SELECT subject, device, business_id, interface, at, last_at, ", $points, " FROM r WHERE true
             ON CONFLICT (subject, device, business_id) DO UPDATE SET
               interface = excluded.interface, at = excluded.at, last_at = excluded.last_at, points = excluded.points"
        )
    };
}

const PUT_PRESENCES: Statement = statement!(
    rows(PendingRow<'_>)
    sqlite: put_presences!("points"), postgres: put_presences!("decode(points, 'hex')")
);

/// Only what is new: an insert that turns into an update would use up a number of PostgreSQL's sequence each time.
const PUT_VISITS: Statement = statement!(
    rows(VisitRow<'_>)
    "INSERT INTO checkins (
       unique_id, coworker_id, coworker_full_name, business_id, business_name, source, from_time, to_time,
       auto_checkout, last_activity, mac_addresses, teams_at_the_time_of_checkin, tariff_at_the_time_of_checkin,
       from_time_local, to_time_local, created_on, updated_on, updated_by,
       coworker_time_pass_guid, counts_towards_plan_limits, time_pass_id, pass_kind, pass_ends, pass_end, pass_day,
       seconds)
     SELECT unique_id, coworker_id, coworker_full_name, business_id, business_name, source, from_time, to_time,
       auto_checkout, last_activity, mac_addresses, teams, tariff,
       from_time_local, to_time_local, now, now, 'checkind',
       pass_guid, counts, time_pass_id, pass_kind, pass_ends, pass_end, pass_day, seconds
     FROM r"
);

macro_rules! change_visits {
    ($beginning:expr) => {
        concat!(
            "UPDATE checkins SET ",
            $beginning,
            "to_time = r.to_time, to_time_local = r.to_time_local, auto_checkout = r.auto_checkout,
               last_activity = r.last_activity, mac_addresses = r.mac_addresses, updated_on = r.now,
               updated_by = 'checkind', seconds = r.seconds
             FROM r WHERE checkins.unique_id = r.known_as"
        )
    };
}

/// What changes while somebody is in and when they leave. A statement that also set what is as it was would, in SQLite, write
/// the indexes anew.
const CHANGE_STAYS: Statement = statement!(
    rows(StayRow)
    change_visits!("")
);

/// What a late fact may change: all of it but the number and who it is.
const CHANGE_VISITS: Statement = statement!(
    rows(VisitRow<'_>)
    change_visits!(
        "unique_id = r.unique_id, source = r.source, from_time = r.from_time, from_time_local = r.from_time_local,
         coworker_time_pass_guid = r.pass_guid, counts_towards_plan_limits = r.counts, time_pass_id = r.time_pass_id,
         pass_kind = r.pass_kind, pass_ends = r.pass_ends, pass_end = r.pass_end, pass_day = r.pass_day,
         coworker_full_name = CASE WHEN r.opened = TRUE THEN r.coworker_full_name ELSE checkins.coworker_full_name END,
         business_name = CASE WHEN r.opened = TRUE THEN r.business_name ELSE checkins.business_name END,
         teams_at_the_time_of_checkin =
           CASE WHEN r.opened = TRUE THEN r.teams ELSE checkins.teams_at_the_time_of_checkin END,
         tariff_at_the_time_of_checkin =
           CASE WHEN r.opened = TRUE THEN r.tariff ELSE checkins.tariff_at_the_time_of_checkin END, "
    )
);

const PUT_FAILED: Statement = statement!(
    rows(FailureRow<'_>)
    "INSERT INTO failed_checkins (
       unique_id, coworker_id, coworker_full_name, business_id, business_name, checkin_attempt_time, source,
       mac_addresses, teams_at_the_time_of_checkin, tariff_at_the_time_of_checkin, description,
       checkin_attempt_time_local, created_on, updated_on, updated_by, code)
     SELECT unique_id, coworker_id, coworker_full_name, business_id, business_name, attempt_at, source,
       mac_addresses, teams, tariff, description, attempt_local, now, now, 'checkind', code
     FROM r WHERE NOT EXISTS (SELECT 1 FROM failed_checkins f WHERE f.unique_id = r.unique_id)
     ON CONFLICT DO NOTHING"
);

/// The same attempt, seen earlier or told otherwise.
const CHANGE_FAILED: Statement = statement!(
    rows(FailureRow<'_>)
    "UPDATE failed_checkins SET checkin_attempt_time = r.attempt_at, checkin_attempt_time_local = r.attempt_local,
       description = r.description, code = r.code, updated_on = r.now
     FROM r WHERE failed_checkins.unique_id = r.unique_id
       AND (failed_checkins.checkin_attempt_time <> r.attempt_at OR failed_checkins.description <> r.description)"
);

const PUT_CHARGES: Statement = statement!(
    rows(ChargeRow)
    "INSERT INTO payg_charges (
       checkin, coworker_id, business_id, time_pass_id, pass_day, from_time, to_time, minutes, unbounded, amount,
       currency, final, created_on, updated_on)
     SELECT checkin, coworker_id, business_id, time_pass_id, pass_day, from_time, to_time, minutes, unbounded, amount,
       currency, is_final, now, now
     FROM r WHERE true
     ON CONFLICT (checkin) DO UPDATE SET
       time_pass_id = excluded.time_pass_id, pass_day = excluded.pass_day, from_time = excluded.from_time,
       to_time = excluded.to_time, minutes = excluded.minutes, unbounded = excluded.unbounded,
       amount = excluded.amount, currency = excluded.currency, final = excluded.final, updated_on = excluded.updated_on"
);

const DROP_CHARGES: Statement =
    statement!(rows(IdRow) "DELETE FROM payg_charges WHERE checkin IN (SELECT unique_id FROM r)");

const DROP_VISITS: Statement =
    statement!(rows(IdRow) "DELETE FROM checkins WHERE unique_id IN (SELECT unique_id FROM r)");

const DROP_FAILED: Statement =
    statement!(rows(IdRow) "DELETE FROM failed_checkins WHERE unique_id IN (SELECT unique_id FROM r)");

const PUT_PASS_USAGE: Statement = statement!(
    rows(PassUsageRow)
    "INSERT INTO pass_usage (pass, subject, basis_at, days, last_day, days_before, seconds, open_from)
     SELECT pass, subject, basis_at, days, last_day, days_before, seconds, open_from FROM r WHERE true
     ON CONFLICT (pass, subject) DO UPDATE SET basis_at = excluded.basis_at, days = excluded.days,
       last_day = excluded.last_day, days_before = excluded.days_before, seconds = excluded.seconds, open_from = excluded.open_from"
);

/// Written like [`since`], for the same reason.
const DROP_PLAN_USAGE: Statement = statement!(
    rows(RecountedRow)
    sqlite: "DELETE FROM plan_usage WHERE (subject, day) IN (SELECT u.subject, u.day FROM r
       CROSS JOIN plan_usage u WHERE u.subject = r.subject AND u.day > r.day)",
    postgres: "DELETE FROM plan_usage WHERE (subject, day) IN (SELECT found.subject, found.day FROM r
       CROSS JOIN LATERAL (SELECT u.subject, u.day FROM plan_usage u WHERE u.subject = r.subject AND u.day > r.day
         OFFSET 0) AS found)"
);

const PUT_PLAN_USAGE: Statement = statement!(
    rows(PlanUsageRow)
    "INSERT INTO plan_usage (subject, day, days, seconds) SELECT subject, day, days, seconds FROM r WHERE true
     ON CONFLICT (subject, day) DO UPDATE SET days = excluded.days, seconds = excluded.seconds"
);

const PUT_COVERAGE: Statement = statement!(
    "INSERT INTO coverage (id, business_id, from_time, to_time) VALUES ($1, $2, $3, $4)
     ON CONFLICT (id) DO UPDATE SET to_time = excluded.to_time"
);

const COVERAGE: Statement = statement!(
    "SELECT business_id, from_time, to_time FROM coverage WHERE to_time >= $1 AND (business_id = $2) = $3 ORDER BY from_time"
);

const DUE: Statement = statement!(
    "SELECT subject FROM standings WHERE business_id = $1 AND deadline IS NOT NULL AND deadline <= $2
     ORDER BY deadline LIMIT $3"
);

const NEXT_DEADLINE: Statement =
    statement!("SELECT min(deadline) AS deadline FROM standings WHERE business_id = $1 AND deadline IS NOT NULL");

const IN: Statement = statement!(
    "SELECT subject FROM standings WHERE business_id = $1 AND deadline IS NOT NULL AND subject > $2
     ORDER BY subject LIMIT $3"
);

/// Of whom something is known from a time to come.
const AHEAD: Statement = statement!(
    "SELECT subject FROM standings WHERE folded_at > $2 AND (business_id = $1 OR business_id IS NULL) LIMIT $3"
);

/// Devices that a failed check-in of this pass day names, so that a restart writes none twice.
const UNRECOGNISED: Statement = statement!(
    "SELECT mac_addresses FROM failed_checkins
     WHERE business_id = $1 AND checkin_attempt_time >= $2 AND code = $3 LIMIT $4"
);

/// A stretch of time during which a business's captures could hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CoverageRow {
    pub(crate) from: WallTime,
    pub(crate) to: WallTime,
}

/// Where a person stands, as the database has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PersonStanding {
    pub(crate) revision: i64,
    pub(crate) deadline: Option<(BusinessId, WallTime)>,
    pub(crate) person: PersonState,
}

/// Presences of one device that no fact holds yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PendingPresence {
    pub(crate) business: BusinessId,
    pub(crate) subject: Subject,
    pub(crate) mac: MacAddr,
    pub(crate) interface: String,
    /// Earliest first; never empty.
    pub(crate) points: Vec<Point>,
}

/// What [`Batch::load`] found.
#[derive(Debug, Default)]
pub(crate) struct BatchRows {
    /// The newest version of the directory.
    pub(crate) directory: i64,
    /// The newest version of anybody's settings.
    pub(crate) policies: i64,
    pub(crate) standings: BTreeMap<Subject, PersonStanding>,
    /// Presences that no fact holds yet.
    pub(crate) pending: BTreeMap<Subject, Vec<PendingPresence>>,
    /// Which of the facts the log has.
    pub(crate) known: BTreeSet<usize>,
}

/// A visit as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownVisit {
    pub(crate) unique_id: Uuid,
    pub(crate) coworker: CoworkerId,
    pub(crate) business: BusinessId,
    pub(crate) source: CheckinSource,
    pub(crate) from: WallTime,
    pub(crate) to: Option<WallTime>,
    pub(crate) auto_checkout: bool,
    pub(crate) last_activity: WallTime,
    pub(crate) macs: BTreeSet<MacAddr>,
    pub(crate) pass: Option<PassUse>,
    pub(crate) opened: Opened,
}

/// The records of some people since an instant.
#[derive(Debug, Default)]
pub(crate) struct KnownRecords {
    pub(crate) visits: BTreeMap<Uuid, KnownVisit>,
    /// With whose they are.
    pub(crate) failures: BTreeMap<Uuid, CoworkerId>,
    /// With whose they are, and from when.
    pub(crate) charges: BTreeMap<Uuid, (CoworkerId, WallTime)>,
}

impl KnownRecords {
    /// Leaves out the visits, and their charges, that began before the fold, unless one of its facts has opened them.
    pub(crate) fn keep_since(&mut self, since: &BTreeMap<CoworkerId, WallTime>, opened: &BTreeSet<Uuid>) {
        let belongs = |id: &Uuid, coworker: CoworkerId, from: WallTime| {
            opened.contains(id) || since.get(&coworker).is_none_or(|since| from >= *since)
        };
        self.visits.retain(|id, visit| belongs(id, visit.coworker, visit.from));
        self.charges.retain(|id, (coworker, from)| belongs(id, *coworker, *from));
    }

    /// Takes out those of some people.
    pub(crate) fn take(&mut self, people: &BTreeSet<CoworkerId>) -> Self {
        Self {
            visits: self.visits.extract_if(.., |_, visit| people.contains(&visit.coworker)).collect(),
            failures: self.failures.extract_if(.., |_, coworker| people.contains(coworker)).collect(),
            charges: self.charges.extract_if(.., |_, (coworker, _)| people.contains(coworker)).collect(),
        }
    }
}

/// A fact and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DecidedFact {
    pub(crate) fact: StoredFact,
    pub(crate) decision: DecisionCode,
}

/// Where a person stands from now on.
#[derive(Clone, Debug)]
pub(crate) struct NewStanding {
    pub(crate) subject: Subject,
    /// Of the row that it replaces; 0 for none.
    pub(crate) revision: i64,
    pub(crate) person: PersonState,
    pub(crate) deadline: Option<(BusinessId, WallTime)>,
    /// The deadline is the one that the row has.
    pub(crate) same_deadline: bool,
}

/// A visit that is there and differs.
#[derive(Clone, Debug)]
pub(crate) struct ChangedVisit {
    /// Its identity in the database.
    pub(crate) known_as: Uuid,
    pub(crate) record: VisitRecord,
    /// Only its end, its last activity and its devices differ.
    pub(crate) stays: bool,
}

/// All that a batch writes.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    pub(crate) facts: Vec<DecidedFact>,
    /// Facts that are there and were decided otherwise.
    pub(crate) decided_again: Vec<DecidedFact>,
    /// Facts whose times a step of the clock has made wrong.
    pub(crate) gone_facts: Vec<StoredFact>,
    pub(crate) standings: Vec<NewStanding>,
    pub(crate) checkpoints: Vec<(Subject, LogDay, PersonState)>,
    pub(crate) gone_checkpoints: Vec<(Subject, LogDay)>,
    pub(crate) gone_pending: BTreeSet<Subject>,
    pub(crate) pending: Vec<PendingPresence>,
    pub(crate) new_visits: Vec<VisitRecord>,
    pub(crate) changed_visits: Vec<ChangedVisit>,
    pub(crate) gone_visits: Vec<Uuid>,
    pub(crate) failures: Vec<FailureRecord>,
    /// Failures that may be there already, told otherwise.
    pub(crate) changed_failures: Vec<FailureRecord>,
    pub(crate) gone_failures: Vec<Uuid>,
    pub(crate) charges: Vec<ChargeRecord>,
    pub(crate) gone_charges: Vec<Uuid>,
    pub(crate) pass_usage: Vec<(Uuid, Subject, Used)>,
    pub(crate) plan_usage: BTreeMap<(CoworkerId, NaiveDate), Counted>,
    /// From the day after on, what was counted is counted again.
    pub(crate) recounted: Vec<(CoworkerId, Option<NaiveDate>)>,
    pub(crate) coverage: Option<(Uuid, BusinessId, CoverageRow)>,
}

/// One batch's transaction.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(super) transaction: sql::Transaction,
    fence: Option<Fence>,
}

impl Store {
    /// Begins the transaction of a batch.
    pub(crate) async fn batch(&self) -> Result<Batch, StoreError> {
        Ok(Batch { transaction: self.sql.begin().await?, fence: self.fence })
    }

    /// The stretches that reach beyond `since`: of one business, or of all others.
    pub(crate) async fn coverage(
        &self,
        business: BusinessId,
        others: bool,
        since: WallTime,
    ) -> Result<BTreeMap<BusinessId, Vec<CoverageRow>>, StoreError> {
        covered(&self.sql.read(COVERAGE, &coverage_args(business, others, since)).await?)
    }

    /// Whose deadlines at a business have come, the earliest first.
    pub(crate) async fn due(
        &self,
        business: BusinessId,
        now: WallTime,
        limit: usize,
    ) -> Result<Vec<Subject>, StoreError> {
        self.subjects(DUE, business, now.millis(), limit).await
    }

    /// Of whom something is known from a time to come, because a clock was wrong.
    pub(crate) async fn people_ahead(
        &self,
        business: BusinessId,
        now: WallTime,
        limit: usize,
    ) -> Result<Vec<Subject>, StoreError> {
        self.subjects(AHEAD, business, now.millis(), limit).await
    }

    /// Who is in at a business: the first after this one.
    pub(crate) async fn people_in(
        &self,
        business: BusinessId,
        after: Subject,
        limit: usize,
    ) -> Result<Vec<Subject>, StoreError> {
        self.subjects(IN, business, after.0, limit).await
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
        self.sql.read(statement, &args).await?.iter().map(|row| row.int("subject").map(Subject)).collect()
    }

    /// When the next deadline at a business comes.
    pub(crate) async fn next_deadline(&self, business: BusinessId) -> Result<Option<WallTime>, StoreError> {
        let rows = self.sql.read(NEXT_DEADLINE, &[Arg::Int(business.0)]).await?;
        let next = rows.first().map(|row| row.opt_int("deadline")).transpose()?.flatten();
        Ok(next.map(WallTime::from_millis))
    }

    /// Where people stand, and what everybody has used of some passes, without a transaction: for questions that write nothing.
    pub(crate) async fn standings(
        &self,
        people: &BTreeSet<Subject>,
        passes: &BTreeSet<Uuid>,
    ) -> Result<(BatchRows, Vec<(Uuid, Subject, Used)>), StoreError> {
        let people: Vec<&Subject> = people.iter().collect();
        let rows = self.sql.read(LOAD, &[Arg::json(&people), Arg::Json("[]".to_owned())]).await?;
        let loaded = rows.first().map(loaded).transpose()?.unwrap_or_default();
        if passes.is_empty() {
            return Ok((loaded, Vec::new()));
        }
        let rows = self.sql.read(PASS_USERS, &[pass_rows(passes)]).await?;
        Ok((loaded, rows.iter().map(pass_user).collect::<Result<_, _>>()?))
    }

    /// The checkpoints and the facts of these people on these days, without a transaction: for questions that write nothing.
    pub(crate) async fn past(
        &self,
        asked: &[(Subject, LogDay)],
    ) -> Result<(Vec<(Subject, LogDay, PersonState)>, Vec<DecidedFact>), StoreError> {
        let days = [day_rows(asked)];
        let checkpoints = self.sql.read(CHECKPOINTS, &days).await?.iter().map(checkpoint).collect::<Result<_, _>>()?;
        let facts = self.sql.read(FACTS, &days).await?.iter().map(decided_fact).collect::<Result<_, _>>()?;
        Ok((checkpoints, facts))
    }

    /// What these people had counted towards their plans before these days, without a transaction.
    pub(crate) async fn totals(
        &self,
        asked: &BTreeSet<(CoworkerId, NaiveDate)>,
    ) -> Result<BTreeMap<(CoworkerId, NaiveDate), Counted>, StoreError> {
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        totals(&self.sql.read(TOTALS, &[first_rows(asked)]).await?)
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

type StoredStanding = (Subject, i64, Option<BusinessId>, Option<i64>, String);

#[cfg(test)]
impl Store {
    /// The charges of one person, earliest first: minutes, amount, from and to.
    pub(crate) async fn charges(
        &self,
        coworker: CoworkerId,
    ) -> Result<Vec<(i64, i64, WallTime, Option<WallTime>)>, StoreError> {
        const CHARGES: Statement = statement!("SELECT * FROM payg_charges WHERE coworker_id = $1 ORDER BY from_time");
        let rows = self.sql.read(CHARGES, &[Arg::Int(coworker.0)]).await?;
        let charge =
            |row: &Row| Ok((row.int("minutes")?, row.int("amount")?, row.time("from_time")?, row.opt_time("to_time")?));
        rows.iter().map(charge).collect()
    }
}

fn coverage_args(business: BusinessId, others: bool, since: WallTime) -> [Arg; 3] {
    [Arg::Time(since), Arg::Int(business.0), Arg::Bool(!others)]
}

fn covered(rows: &[Row]) -> Result<BTreeMap<BusinessId, Vec<CoverageRow>>, StoreError> {
    let mut found: BTreeMap<BusinessId, Vec<CoverageRow>> = BTreeMap::new();
    for row in rows {
        let covered = CoverageRow { from: row.time("from_time")?, to: row.time("to_time")? };
        found.entry(BusinessId(row.int("business_id")?)).or_default().push(covered);
    }
    Ok(found)
}

impl Batch {
    /// The same as [`Store::coverage`], where a batch has begun.
    pub(crate) async fn coverage(
        &mut self,
        business: BusinessId,
        others: bool,
        since: WallTime,
    ) -> Result<BTreeMap<BusinessId, Vec<CoverageRow>>, StoreError> {
        covered(&self.transaction.rows(COVERAGE, &coverage_args(business, others, since)).await?)
    }

    /// What an ordinary batch needs to know of these subjects and facts.
    pub(crate) async fn load(
        &mut self,
        subjects: &BTreeSet<Subject>,
        facts: &[FactKey],
    ) -> Result<BatchRows, StoreError> {
        let keys: Vec<_> = facts
            .iter()
            .enumerate()
            .map(|(ord, fact)| {
                (ord, fact.day, fact.subject, fact.at.millis(), hex(&fact.digest.0), u8::from(fact.arrived))
            })
            .collect();
        let subjects: Vec<&Subject> = subjects.iter().collect();
        let rows = self.transaction.rows(LOAD, &[Arg::json(&subjects), Arg::json(&keys)]).await?;
        rows.first().map(loaded).transpose().map(Option::unwrap_or_default)
    }

    /// Of these people, those who are in, or of whom something is known from `since` on.
    pub(crate) async fn active(
        &mut self,
        people: &BTreeSet<Subject>,
        since: WallTime,
    ) -> Result<BTreeSet<Subject>, StoreError> {
        if people.is_empty() {
            return Ok(BTreeSet::new());
        }
        let people: Vec<SubjectRow> = people.iter().map(|&subject| SubjectRow { subject }).collect();
        let rows = self.transaction.rows(ACTIVE, &[Arg::rows(&people), Arg::Int(since.millis())]).await?;
        rows.iter().map(|row| row.int("subject").map(Subject)).collect()
    }

    /// What everybody has used of these passes.
    pub(crate) async fn pass_users(
        &mut self,
        passes: &BTreeSet<Uuid>,
    ) -> Result<Vec<(Uuid, Subject, Used)>, StoreError> {
        if passes.is_empty() {
            return Ok(Vec::new());
        }
        self.transaction.rows(PASS_USERS, &[pass_rows(passes)]).await?.iter().map(pass_user).collect()
    }

    /// What these people had counted towards their plans before these days.
    pub(crate) async fn totals(
        &mut self,
        asked: &BTreeSet<(CoworkerId, NaiveDate)>,
    ) -> Result<BTreeMap<(CoworkerId, NaiveDate), Counted>, StoreError> {
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        totals(&self.transaction.rows(TOTALS, &[first_rows(asked)]).await?)
    }

    /// The checkpoints of these people on these days.
    pub(crate) async fn checkpoints(
        &mut self,
        asked: &[(Subject, LogDay)],
    ) -> Result<Vec<(Subject, LogDay, PersonState)>, StoreError> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        self.transaction.rows(CHECKPOINTS, &[day_rows(asked)]).await?.iter().map(checkpoint).collect()
    }

    /// The facts of these people on these days.
    pub(crate) async fn facts(&mut self, asked: &[(Subject, LogDay)]) -> Result<Vec<DecidedFact>, StoreError> {
        let mut facts = Vec::new();
        if asked.is_empty() {
            return Ok(facts);
        }
        let each = |row: Row| {
            facts.push(decided_fact(&row)?);
            Ok(())
        };
        self.transaction.rows_each(FACTS, &[day_rows(asked)], each).await?;
        Ok(facts)
    }

    /// The records of these people, each from instants of their own on: one for check-ins and charges, one for failures.
    pub(crate) async fn records(
        &mut self,
        since: &BTreeMap<CoworkerId, (WallTime, WallTime)>,
    ) -> Result<KnownRecords, StoreError> {
        let mut known = KnownRecords::default();
        if since.is_empty() {
            return Ok(known);
        }
        let rows = |which: &dyn Fn(&(WallTime, WallTime)) -> WallTime| {
            let rows = since.iter().map(|(&coworker_id, since)| SinceRow { coworker_id, since: which(since) });
            [Arg::rows(&rows.collect::<Vec<_>>())]
        };
        let each = |row: Row| {
            let visit = KnownVisit::from(row.json::<StoredVisit>("visit")?);
            known.visits.insert(visit.unique_id, visit);
            Ok(())
        };
        let visits = rows(&|(visits, _)| *visits);
        self.transaction.rows_each(VISITS, &visits, each).await?;
        for row in self.transaction.rows(FAILED, &rows(&|(_, failures)| *failures)).await? {
            known.failures.insert(row.uuid("unique_id")?, CoworkerId(row.int("coworker_id")?));
        }
        for row in self.transaction.rows(CHARGED, &visits).await? {
            let charge = (CoworkerId(row.int("coworker_id")?), row.time("from_time")?);
            known.charges.insert(row.uuid("checkin")?, charge);
        }
        Ok(known)
    }

    /// Writes everything. `calendar` gives the wall clock of a business at an instant.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another gateway has written the same facts or people meanwhile.
    pub(crate) async fn write(
        &mut self,
        writes: &Writes,
        calendar: Calendars<'_>,
        now: WallTime,
    ) -> Result<(), StoreError> {
        self.write_log(writes).await?;
        self.write_visits(writes, calendar, now).await?;
        self.change_rows(DROP_FAILED, &unique_ids(&writes.gone_failures)).await?;
        self.change_rows(CHANGE_FAILED, &failure_rows(&writes.changed_failures, calendar, now)).await?;
        self.change_rows(PUT_FAILED, &failure_rows(&writes.failures, calendar, now)).await?;
        self.change_rows(DROP_CHARGES, &unique_ids(&writes.gone_charges)).await?;
        let charges: Vec<ChargeRow> = writes.charges.iter().map(|charge| charge_row(charge, now)).collect();
        self.change_rows(PUT_CHARGES, &charges).await?;
        self.write_usage(writes).await?;
        self.write_people(writes).await
    }

    async fn write_log(&mut self, writes: &Writes) -> Result<(), StoreError> {
        let gone: Vec<FactKeyRow> = writes.gone_facts.iter().map(|fact| fact_key(fact, DecisionCode(0))).collect();
        self.change_rows(DROP_FACTS, &gone).await?;
        if !writes.facts.is_empty() {
            let rows: Vec<FactRow> = writes.facts.iter().map(fact_row).collect();
            // One that is there was written by another gateway since we asked.
            if self.transaction.change(PUT_FACTS, &[Arg::rows(&rows)]).await? < rows.len() as u64 {
                return Err(StoreError::Conflict);
            }
        }
        let again: Vec<FactKeyRow> =
            writes.decided_again.iter().map(|decided| fact_key(&decided.fact, decided.decision)).collect();
        self.change_rows(DECIDE_FACTS, &again).await?;
        let gone: Vec<SubjectRow> = writes.gone_pending.iter().map(|&subject| SubjectRow { subject }).collect();
        self.change_rows(DROP_PRESENCES, &gone).await?;
        let pending: Vec<PendingRow> = writes.pending.iter().filter_map(pending_row).collect();
        self.change_rows(PUT_PRESENCES, &pending).await?;
        if let Some((id, business, covered)) = writes.coverage {
            let id = Arg::Text(id.to_string());
            let args = [id, Arg::Int(business.0), Arg::Time(covered.from), Arg::Time(covered.to)];
            self.transaction.change(PUT_COVERAGE, &args).await?;
        }
        Ok(())
    }

    /// Those that never were go first, then those that are closed, so that whoever left and came back within the batch never
    /// has two open rows.
    async fn write_visits(
        &mut self,
        writes: &Writes,
        calendar: Calendars<'_>,
        now: WallTime,
    ) -> Result<(), StoreError> {
        self.change_rows(DROP_VISITS, &unique_ids(&writes.gone_visits)).await?;
        for open in [false, true] {
            let (stays, others): (Vec<&ChangedVisit>, Vec<_>) = writes
                .changed_visits
                .iter()
                .filter(|changed| changed.record.visit.is_open() == open)
                .partition(|changed| changed.stays);
            let rows = others.iter().map(|changed| visit_row(&changed.record, changed.known_as, calendar, now));
            self.change_rows(CHANGE_VISITS, &rows.collect::<Vec<_>>()).await?;
            let rows = stays.iter().map(|changed| stay_row(&changed.record.visit, changed.known_as, calendar, now));
            self.change_rows(CHANGE_STAYS, &rows.collect::<Vec<_>>()).await?;
        }
        let new = writes.new_visits.iter().map(|record| visit_row(record, record.visit.unique_id, calendar, now));
        let new: Vec<VisitRow<'_>> = new.collect();
        self.change_rows(PUT_VISITS, &new).await
    }

    async fn write_usage(&mut self, writes: &Writes) -> Result<(), StoreError> {
        let used = |(pass, subject, used): &(Uuid, Subject, Used)| PassUsageRow {
            pass: *pass,
            subject: *subject,
            basis_at: used.basis_at.millis(),
            days: used.days,
            last_day: used.last_day.map(day_number),
            days_before: used.days_before,
            seconds: used.seconds,
            open_from: used.open.map(WallTime::millis),
        };
        self.change_rows(PUT_PASS_USAGE, &writes.pass_usage.iter().map(used).collect::<Vec<_>>()).await?;
        let recounted = |(subject, last): &(CoworkerId, Option<NaiveDate>)| RecountedRow {
            subject: *subject,
            day: last.map_or(i64::MIN / 2, day_number),
        };
        self.change_rows(DROP_PLAN_USAGE, &writes.recounted.iter().map(recounted).collect::<Vec<_>>()).await?;
        let counted = |((subject, date), counted): (&(CoworkerId, NaiveDate), &Counted)| PlanUsageRow {
            subject: *subject,
            day: day_number(*date),
            days: counted.days,
            seconds: counted.seconds,
        };
        self.change_rows(PUT_PLAN_USAGE, &writes.plan_usage.iter().map(counted).collect::<Vec<_>>()).await
    }

    async fn write_people(&mut self, writes: &Writes) -> Result<(), StoreError> {
        if !writes.gone_checkpoints.is_empty() {
            self.transaction.change(DROP_CHECKPOINTS, &[day_rows(&writes.gone_checkpoints)]).await?;
        }
        let checkpoint = |(subject, day, person): &(Subject, LogDay, PersonState)| CheckpointRow {
            day: *day,
            subject: *subject,
            state: fact::encoded(person),
        };
        self.change_rows(PUT_CHECKPOINTS, &writes.checkpoints.iter().map(checkpoint).collect::<Vec<_>>()).await?;
        for (same, statement) in [(false, PUT_STANDINGS), (true, KEEP_DEADLINES)] {
            let rows: Vec<StandingRow> =
                writes.standings.iter().filter(|new| new.same_deadline == same).map(standing_row).collect();
            if !rows.is_empty() && self.transaction.change(statement, &[Arg::rows(&rows)]).await? < rows.len() as u64 {
                return Err(StoreError::Conflict);
            }
        }
        Ok(())
    }

    /// Says a statement about these rows; nothing when there are none.
    pub(super) async fn change_rows<T: Columns>(&mut self, statement: Statement, rows: &[T]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.transaction.change(statement, &[Arg::rows(rows)]).await.map(drop)
    }

    /// Makes the batch durable, if this gateway may still write.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        if let Some(fence) = self.fence {
            fence.check(&mut self.transaction).await?;
        }
        self.transaction.commit().await
    }
}

/// What [`LOAD`] found.
fn loaded(row: &Row) -> Result<BatchRows, StoreError> {
    let mut loaded = BatchRows {
        directory: row.int("version")?,
        policies: row.int("policies")?,
        known: row.json("known")?,
        ..BatchRows::default()
    };
    for (subject, revision, business, deadline, state) in row.json::<Vec<StoredStanding>>("standings")? {
        let deadline = business.zip(deadline.map(WallTime::from_millis));
        loaded.standings.insert(subject, PersonStanding { revision, deadline, person: state_of(&state)? });
    }
    for (business, subject, device, interface, at, points) in
        row.json::<Vec<(BusinessId, Subject, i64, String, i64, String)>>("presences")?
    {
        let points = unhex(&points).and_then(|bytes| fact::unpack_points(&bytes, WallTime::from_millis(at)).ok());
        let points = points.filter(|points| !points.is_empty()).ok_or_else(damaged)?;
        let pending = PendingPresence { business, subject, mac: mac_of(device), interface, points };
        loaded.pending.entry(subject).or_default().push(pending);
    }
    Ok(loaded)
}

fn pass_rows(passes: &BTreeSet<Uuid>) -> Arg {
    Arg::rows(&passes.iter().map(|&pass| PassRow { pass }).collect::<Vec<_>>())
}

fn pass_user(row: &Row) -> Result<(Uuid, Subject, Used), StoreError> {
    let subject = Subject(row.int("subject")?);
    let used = Used {
        coworker: CoworkerId(subject.0),
        basis_at: WallTime::from_millis(row.int("basis_at")?),
        days: u32::try_from(row.int("days")?).unwrap_or(u32::MAX),
        last_day: row.opt_int("last_day")?.and_then(date_of),
        days_before: u8::try_from(row.int("days_before")?).unwrap_or(0),
        seconds: row.int("seconds")?.unsigned_abs(),
        open: row.opt_int("open_from")?.map(WallTime::from_millis),
    };
    Ok((row.uuid("pass")?, subject, used))
}

fn checkpoint(row: &Row) -> Result<(Subject, LogDay, PersonState), StoreError> {
    Ok((Subject(row.int("subject")?), LogDay(row.int("day")?), state_of(&row.text("state")?)?))
}

fn first_rows(asked: &BTreeSet<(CoworkerId, NaiveDate)>) -> Arg {
    let row = |&(subject, first): &(CoworkerId, NaiveDate)| FirstRow { subject, first: day_number(first) };
    Arg::rows(&asked.iter().map(row).collect::<Vec<_>>())
}

fn totals(rows: &[Row]) -> Result<BTreeMap<(CoworkerId, NaiveDate), Counted>, StoreError> {
    let mut totals = BTreeMap::new();
    for row in rows {
        let Some(day) = date_of(row.int("day")?) else { continue };
        let counted = Counted {
            days: u32::try_from(row.int("days")?).unwrap_or(u32::MAX),
            seconds: row.int("seconds")?.unsigned_abs(),
        };
        totals.insert((CoworkerId(row.int("subject")?), day), counted);
    }
    Ok(totals)
}

pub(super) fn decided_fact(row: &Row) -> Result<DecidedFact, StoreError> {
    let digest: [u8; 16] = row.bytes("digest")?.try_into().map_err(|_| damaged())?;
    let fact = StoredFact {
        business: BusinessId(row.int("business_id")?),
        day: LogDay(row.int("day")?),
        subject: Subject(row.int("subject")?),
        at: WallTime::from_millis(row.int("at")?),
        digest: FactDigest(digest),
        arrived: row.bool("arrived")?,
        payload: row.bytes("payload")?,
    };
    Ok(DecidedFact { fact, decision: DecisionCode(row.int("decision")?) })
}

pub(super) fn damaged() -> StoreError {
    StoreError::Unusable { what: "a column does not hold what it should".to_owned(), source: None }
}

fn state_of(hex: &str) -> Result<PersonState, StoreError> {
    unhex(hex).and_then(|bytes| fact::decoded(&bytes).ok()).ok_or_else(damaged)
}

/// The 48 bits of an address as a number.
fn device(mac: MacAddr) -> i64 {
    mac.octets().iter().fold(0, |number, octet| number << 8 | i64::from(*octet))
}

fn mac_of(device: i64) -> MacAddr {
    let [_, _, octets @ ..] = device.to_be_bytes();
    MacAddr::new(octets)
}

/// Days since 1970.
fn day_number(date: NaiveDate) -> i64 {
    i64::from(date.num_days_from_ce() - 719_163)
}

fn date_of(day: i64) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(i32::try_from(day + 719_163).ok()?)
}

row! {
    struct SinceRow {
        coworker_id: CoworkerId,
        since: WallTime,
    }
}

row! {
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

row! {
    struct PlanUsageRow {
        subject: CoworkerId,
        day: i64,
        days: u32,
        seconds: u64,
    }
}

row! {
    struct RecountedRow {
        subject: CoworkerId,
        day: i64,
    }
}

row! {
    struct CheckpointRow {
        day: LogDay,
        subject: Subject,
        state: Vec<u8>,
    }
}

row! {
    struct PassRow {
        pass: Uuid,
    }
}

row! {
    struct FirstRow {
        subject: CoworkerId,
        first: i64,
    }
}

row! {
    struct DayRow {
        subject: Subject,
        day: LogDay,
    }
}

row! {
    struct SubjectRow {
        subject: Subject,
    }
}

fn day_rows(days: &[(Subject, LogDay)]) -> Arg {
    Arg::rows(&days.iter().map(|&(subject, day)| DayRow { subject, day }).collect::<Vec<_>>())
}

row! {
    struct IdRow {
        unique_id: Uuid,
    }
}

fn unique_ids(ids: &[Uuid]) -> Vec<IdRow> {
    ids.iter().map(|&unique_id| IdRow { unique_id }).collect()
}

row! {
    pub(super) struct FactRow {
        day: LogDay,
        subject: Subject,
        at: i64,
        digest: [u8; 16],
        business_id: BusinessId,
        arrived: bool,
        decision: i64,
        payload: Vec<u8>,
    }
}

pub(super) fn fact_row(decided: &DecidedFact) -> FactRow {
    let fact = &decided.fact;
    FactRow {
        day: fact.day,
        subject: fact.subject,
        at: fact.at.millis(),
        digest: fact.digest.0,
        business_id: fact.business,
        arrived: fact.arrived,
        decision: decided.decision.0,
        payload: fact.payload.clone(),
    }
}

row! {
    struct FactKeyRow {
        day: LogDay,
        subject: Subject,
        at: i64,
        digest: [u8; 16],
        decision: i64,
    }
}

fn fact_key(fact: &StoredFact, decision: DecisionCode) -> FactKeyRow {
    let StoredFact { day, subject, at, digest, .. } = fact;
    FactKeyRow { day: *day, subject: *subject, at: at.millis(), digest: digest.0, decision: decision.0 }
}

row! {
    struct PendingRow<'a> {
        subject: Subject,
        device: i64,
        business_id: BusinessId,
        interface: &'a str,
        at: i64,
        last_at: i64,
        points: Vec<u8>,
    }
}

fn pending_row(pending: &PendingPresence) -> Option<PendingRow<'_>> {
    let first = pending.points.first()?;
    Some(PendingRow {
        subject: pending.subject,
        device: device(pending.mac),
        business_id: pending.business,
        interface: &pending.interface,
        at: first.last_at.millis(),
        last_at: pending.points.iter().map(|point| point.last_at.millis()).max()?,
        points: fact::pack_points(&pending.points, first.last_at),
    })
}

row! {
    struct StandingRow {
        subject: Subject,
        business_id: Option<BusinessId>,
        deadline: Option<i64>,
        last_activity: Option<i64>,
        folded_at: i64,
        revision: i64,
        state: Vec<u8>,
    }
}

fn standing_row(new: &NewStanding) -> StandingRow {
    StandingRow {
        subject: new.subject,
        business_id: new.deadline.map(|(business, _)| business),
        deadline: new.deadline.map(|(_, at)| at.millis()),
        last_activity: new.person.open().map(|open| open.last_activity.millis()),
        folded_at: new.person.folded.at.millis(),
        revision: new.revision + 1,
        state: fact::encoded(&new.person),
    }
}

row! {
    struct VisitRow<'a> {
        known_as: Uuid,
        unique_id: Uuid,
        opened: bool,
        coworker_id: CoworkerId,
        coworker_full_name: Option<&'a str>,
        business_id: BusinessId,
        business_name: Option<&'a str>,
        teams: Option<&'a str>,
        tariff: Option<&'a str>,
        source: i64,
        from_time: WallTime,
        to_time: Option<WallTime>,
        auto_checkout: bool,
        last_activity: WallTime,
        mac_addresses: Option<String>,
        from_time_local: String,
        to_time_local: Option<String>,
        now: WallTime,
        seconds: Option<u64>,
        pass_guid: Option<Uuid>,
        counts: bool,
        time_pass_id: Option<TimePassId>,
        pass_kind: Option<&'static str>,
        pass_ends: Option<WallTime>,
        pass_end: Option<&'static str>,
        pass_day: WallTime,
    }
}

row! {
    struct StayRow {
        known_as: Uuid,
        to_time: Option<WallTime>,
        auto_checkout: bool,
        last_activity: WallTime,
        mac_addresses: Option<String>,
        to_time_local: Option<String>,
        now: WallTime,
        seconds: Option<u64>,
    }
}

fn stay_row(visit: &Visit, known_as: Uuid, calendar: Calendars<'_>, now: WallTime) -> StayRow {
    StayRow {
        known_as,
        to_time: visit.to,
        auto_checkout: visit.auto_checkout,
        last_activity: visit.last_activity,
        mac_addresses: join_macs(&visit.macs),
        to_time_local: visit.to.map(|to| local(to, &calendar(visit.business, visit.from))),
        now,
        seconds: seconds(visit),
    }
}

/// How long a visit that is over was.
fn seconds(visit: &Visit) -> Option<u64> {
    visit.to.map(|to| to.since(visit.from).as_secs())
}

/// The wall clock of a business at an instant.
type Calendars<'a> = &'a (dyn Fn(BusinessId, WallTime) -> Calendar + Sync);

fn visit_row<'a>(record: &'a VisitRecord, known_as: Uuid, calendar: Calendars<'_>, now: WallTime) -> VisitRow<'a> {
    let VisitRecord { coworker, visit, opened } = record;
    let calendar = calendar(visit.business, visit.from);
    let pass = visit.pass.as_ref();
    let then = opened.as_ref().map(|opened| &opened.then);
    VisitRow {
        known_as,
        unique_id: visit.unique_id,
        opened: opened.is_some(),
        coworker_id: *coworker,
        coworker_full_name: then.and_then(|then| then.full_name.as_deref()),
        business_id: visit.business,
        business_name: opened.as_ref().and_then(|opened| opened.business_name.as_deref()),
        teams: then.and_then(|then| then.teams.as_deref()),
        tariff: then.and_then(|then| then.tariff.as_deref()),
        source: visit.source.number(),
        from_time: visit.from,
        to_time: visit.to,
        auto_checkout: visit.auto_checkout,
        last_activity: visit.last_activity,
        mac_addresses: join_macs(&visit.macs),
        from_time_local: local(visit.from, &calendar),
        to_time_local: visit.to.map(|to| local(to, &calendar)),
        now,
        seconds: seconds(visit),
        // Nobody holds a pass that is assigned on the spot: it is known by the check-in that it was assigned to.
        pass_guid: pass.map(|pass| pass.guid.unwrap_or(visit.unique_id)),
        counts: visit.counts(),
        time_pass_id: pass.map(|pass| pass.time_pass),
        pass_kind: pass.map(|pass| pass.kind.word()),
        pass_ends: pass.and_then(|pass| pass.ends).map(|(at, _)| at),
        pass_end: pass.and_then(|pass| pass.ends).map(|(_, why)| why.word()),
        pass_day: visit.day.start,
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
    pass: StoredPass,
}

/// The pass of a visit as the database hands it over: an array of these columns.
#[derive(Deserialize)]
pub(super) struct StoredPass {
    guid: Option<Uuid>,
    counts: u8,
    time_pass: Option<TimePassId>,
    kind: Option<String>,
    ends: Option<WallTime>,
    end: Option<String>,
}

impl StoredPass {
    /// None for a kind or an end that no version of this program wrote.
    pub(super) fn used(self) -> Option<PassUse> {
        let kind = self.kind.as_deref().and_then(PassKind::from_word)?;
        Some(PassUse {
            guid: self.guid.filter(|_| kind != PassKind::PayAsYouGo),
            time_pass: self.time_pass?,
            kind,
            counts_towards_plan_limits: self.counts != 0,
            ends: self.ends.zip(self.end.as_deref().and_then(PassEnd::from_word)),
        })
    }
}

impl From<StoredVisit> for KnownVisit {
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
            pass: stored.pass.used(),
            opened: Opened {
                then: Snapshot { full_name: stored.coworker_full_name, teams: stored.teams, tariff: stored.tariff },
                business_name: stored.business_name,
            },
        }
    }
}

row! {
    struct FailureRow<'a> {
        unique_id: Uuid,
        coworker_id: Option<CoworkerId>,
        coworker_full_name: Option<&'a str>,
        business_id: BusinessId,
        business_name: Option<&'a str>,
        attempt_at: WallTime,
        source: i64,
        mac_addresses: Option<String>,
        teams: Option<&'a str>,
        tariff: Option<&'a str>,
        description: String,
        attempt_local: String,
        now: WallTime,
        code: &'static str,
    }
}

fn failure_rows<'a>(failures: &'a [FailureRecord], calendar: Calendars<'_>, now: WallTime) -> Vec<FailureRow<'a>> {
    failures.iter().map(|failure| failure_row(failure, calendar, now)).collect()
}

fn failure_row<'a>(failure: &'a FailureRecord, calendar: Calendars<'_>, now: WallTime) -> FailureRow<'a> {
    let Opened { then, business_name } = &failure.then;
    FailureRow {
        unique_id: failure.unique_id,
        coworker_id: failure.coworker,
        coworker_full_name: then.full_name.as_deref(),
        business_id: failure.business,
        business_name: business_name.as_deref(),
        attempt_at: failure.attempt_at,
        source: failure.source.number(),
        mac_addresses: failure.mac.map(|mac| mac.to_string()),
        teams: then.teams.as_deref(),
        tariff: then.tariff.as_deref(),
        description: failure.refused.reason.description_with(failure.refused.detail.as_deref()),
        attempt_local: local(failure.attempt_at, &calendar(failure.business, failure.attempt_at)),
        now,
        code: failure.refused.reason.code(),
    }
}

row! {
    struct ChargeRow {
        checkin: Uuid,
        coworker_id: CoworkerId,
        business_id: BusinessId,
        time_pass_id: TimePassId,
        pass_day: WallTime,
        from_time: WallTime,
        to_time: Option<WallTime>,
        minutes: u32,
        unbounded: i64,
        amount: i64,
        currency: String,
        is_final: bool,
        now: WallTime,
    }
}

fn charge_row(record: &ChargeRecord, now: WallTime) -> ChargeRow {
    ChargeRow {
        checkin: record.checkin,
        coworker_id: record.coworker,
        business_id: record.business,
        time_pass_id: record.time_pass,
        pass_day: record.pass_day,
        from_time: record.from,
        to_time: record.to,
        minutes: record.charge.minutes,
        unbounded: record.charge.unbounded,
        amount: record.charge.amount,
        currency: record.charge.currency.to_string(),
        is_final: record.to.is_some(),
        now,
    }
}

fn local(at: WallTime, calendar: &Calendar) -> String {
    calendar.local(at).format(sql::LOCAL).to_string()
}

/// What batches, timers and restarts ask and write over, with the number of their arguments.
#[cfg(test)]
pub(super) fn questions() -> Vec<(Statement, usize)> {
    let with_two = [LOAD, ACTIVE];
    let of_rows = [
        PASS_USERS,
        TOTALS,
        CHECKPOINTS,
        FACTS,
        VISITS,
        FAILED,
        CHARGED,
        PUT_FACTS,
        DECIDE_FACTS,
        DROP_FACTS,
        PUT_STANDINGS,
        KEEP_DEADLINES,
        DROP_CHECKPOINTS,
        PUT_CHECKPOINTS,
        DROP_PRESENCES,
        PUT_PRESENCES,
        PUT_VISITS,
        CHANGE_STAYS,
        CHANGE_VISITS,
        PUT_FAILED,
        CHANGE_FAILED,
        PUT_CHARGES,
        DROP_CHARGES,
        DROP_VISITS,
        DROP_FAILED,
        PUT_PASS_USAGE,
        DROP_PLAN_USAGE,
        PUT_PLAN_USAGE,
        NEXT_DEADLINE,
    ];
    let others = [(DUE, 3), (IN, 3), (UNRECOGNISED, 4), (PUT_COVERAGE, 4)];
    with_two.map(|two| (two, 2)).into_iter().chain(of_rows.map(|one| (one, 1))).chain(others).collect()
}

/// The steps by which SQLite must find what these ask.
#[cfg(test)]
pub(super) fn indexed() -> [(Statement, usize, &'static [&'static str]); 17] {
    [
        (
            LOAD,
            2,
            &[
                "SEARCH s USING INTEGER PRIMARY KEY (rowid=?)",
                "SEARCH p USING PRIMARY KEY (subject=?)",
                "SEARCH f USING PRIMARY KEY (day=? AND subject=? AND at=? AND digest=?)",
                "SEARCH f USING INDEX facts_arrived (digest=?)",
            ],
        ),
        (ACTIVE, 2, &["SEARCH s USING INTEGER PRIMARY KEY (rowid=?)"]),
        (PASS_USERS, 1, &["SEARCH u USING PRIMARY KEY (pass=?)"]),
        (
            TOTALS,
            1,
            &["SEARCH u USING PRIMARY KEY (subject=? AND day=?)", "SEARCH b USING PRIMARY KEY (subject=? AND day<?)"],
        ),
        (CHECKPOINTS, 1, &["SEARCH c USING PRIMARY KEY (day=? AND subject=?)"]),
        (FACTS, 1, &["SEARCH f USING PRIMARY KEY (day=? AND subject=?)"]),
        (VISITS, 1, &["SEARCH c USING INDEX checkins_by_coworker (coworker_id=? AND from_time>?)"]),
        (FAILED, 1, &["SEARCH c USING INDEX failed_checkins_by_coworker (coworker_id=? AND checkin_attempt_time>?)"]),
        (CHARGED, 1, &["SEARCH c USING INDEX payg_charges_by_coworker (coworker_id=? AND from_time>?)"]),
        (DUE, 3, &["SEARCH standings USING INDEX standings_due (business_id=? AND deadline>? AND deadline<?)"]),
        (NEXT_DEADLINE, 1, &["SEARCH standings USING INDEX standings_due (business_id=?"]),
        (IN, 3, &["SEARCH standings USING INDEX standings_due (business_id=?"]),
        (DROP_FACTS, 1, &["SEARCH facts USING PRIMARY KEY (day=? AND subject=? AND at=? AND digest=?)"]),
        (DECIDE_FACTS, 1, &["SEARCH facts USING PRIMARY KEY (day=? AND subject=? AND at=? AND digest=?)"]),
        (DROP_CHECKPOINTS, 1, &["SEARCH checkpoints USING PRIMARY KEY (day=? AND subject=?)"]),
        (
            DROP_PLAN_USAGE,
            1,
            &[
                "SEARCH plan_usage USING PRIMARY KEY (subject=? AND day=?)",
                "SEARCH u USING PRIMARY KEY (subject=? AND day>?)",
            ],
        ),
        (
            UNRECOGNISED,
            4,
            &["SEARCH failed_checkins USING INDEX failed_checkins_by_code (business_id=? AND code=? AND "],
        ),
    ]
}
