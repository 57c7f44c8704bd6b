//! `checkins` and `failed_checkins`, as the API reads them.

use super::{
    Store, StoreError,
    sql::{Arg, Row, Statement, statement},
};
use crate::base::{
    clock::WallTime,
    record::{
        BusinessId, Checkin, CheckinId, CheckinSource, CoworkerId, FailedCheckin, FailedCheckinId, Snapshot, split_macs,
    },
};

/// Records that one question for a stretch of time returns, at most: the first ones. A large site has some hundreds a day.
const RETURNED: i64 = 10_000;

/// An open visit that only goes on is not written: its last activity is where the person stands, or in what was heard since.
macro_rules! checkins {
    ($rest:expr) => {
        concat!(
            "SELECT c.*, CASE WHEN c.to_time IS NULL THEN (SELECT max(known.at) FROM (
               SELECT s.last_activity AS at FROM standings s
                 WHERE s.subject = c.coworker_id AND s.business_id = c.business_id
               UNION ALL SELECT p.last_at FROM presences p
                 WHERE p.subject = c.coworker_id AND p.business_id = c.business_id) AS known) END AS last_known
             FROM checkins c ",
            $rest
        )
    };
}

const CHECKIN: Statement = statement!(checkins!("WHERE c.id = $1"));
const FAILED_CHECKIN: Statement = statement!("SELECT * FROM failed_checkins WHERE id = $1");
const OPEN: Statement = statement!(checkins!("WHERE c.to_time IS NULL ORDER BY c.from_time, c.id"));
const BETWEEN: Statement = statement!(checkins!(
    "WHERE c.business_id = $1 AND c.from_time >= $2 AND c.from_time < $3 ORDER BY c.from_time, c.id LIMIT $4"
));
const FAILED_BETWEEN: Statement = statement!(
    "SELECT * FROM failed_checkins
     WHERE business_id = $1 AND checkin_attempt_time >= $2 AND checkin_attempt_time < $3
     ORDER BY checkin_attempt_time, id LIMIT $4"
);

impl Store {
    /// One check-in.
    pub async fn checkin(&self, id: CheckinId) -> Result<Option<Checkin>, StoreError> {
        self.sql.read(CHECKIN, &[Arg::Int(id.0)]).await?.first().map(checkin).transpose()
    }

    /// One failed check-in.
    pub async fn failed_checkin(&self, id: FailedCheckinId) -> Result<Option<FailedCheckin>, StoreError> {
        self.sql.read(FAILED_CHECKIN, &[Arg::Int(id.0)]).await?.first().map(failed_checkin).transpose()
    }

    /// Who is in, at every business, earliest first.
    pub async fn open_checkins(&self) -> Result<Vec<Checkin>, StoreError> {
        self.sql.read(OPEN, &[]).await?.iter().map(checkin).collect()
    }

    /// The check-ins of a business that began from one instant up to another, earliest first, at most 10,000.
    pub async fn checkins_between(
        &self,
        business: BusinessId,
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<Checkin>, StoreError> {
        let args = [Arg::Int(business.0), Arg::Time(from), Arg::Time(to), Arg::Int(RETURNED)];
        self.sql.read(BETWEEN, &args).await?.iter().map(checkin).collect()
    }

    /// The failed check-ins of a business from one instant up to another, earliest first, at most 10,000.
    pub async fn failed_checkins_between(
        &self,
        business: BusinessId,
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<FailedCheckin>, StoreError> {
        let args = [Arg::Int(business.0), Arg::Time(from), Arg::Time(to), Arg::Int(RETURNED)];
        self.sql.read(FAILED_BETWEEN, &args).await?.iter().map(failed_checkin).collect()
    }
}

pub(super) fn checkin(row: &Row) -> Result<Checkin, StoreError> {
    Ok(Checkin {
        id: CheckinId(row.int("id")?),
        unique_id: row.uuid("unique_id")?,
        coworker: row.opt_int("coworker_id")?.map(CoworkerId),
        then: snapshot(row)?,
        business: BusinessId(row.int("business_id")?),
        business_name: row.opt_text("business_name")?,
        source: CheckinSource::from_number(row.int("source")?).unwrap_or(CheckinSource::None),
        from: row.time("from_time")?,
        to: row.opt_time("to_time")?,
        from_local: row.opt_local("from_time_local")?,
        to_local: row.opt_local("to_time_local")?,
        counts_towards_plan_limits: row.bool("counts_towards_plan_limits")?,
        coworker_time_pass: row.opt_uuid("coworker_time_pass_guid")?,
        auto_checkout: row.bool("auto_checkout")?,
        last_activity: row.opt_time("last_activity")?.max(row.opt_int("last_known")?.map(WallTime::from_millis)),
        macs: split_macs(row.opt_text("mac_addresses")?.as_deref()),
        validate_checkin_job: row.opt_text("validate_checkin_job_id")?,
        created_on: row.time("created_on")?,
        updated_on: row.time("updated_on")?,
        updated_by: row.text("updated_by")?,
        system_id: row.opt_text("system_id")?,
    })
}

fn failed_checkin(row: &Row) -> Result<FailedCheckin, StoreError> {
    Ok(FailedCheckin {
        id: FailedCheckinId(row.int("id")?),
        unique_id: row.uuid("unique_id")?,
        coworker: row.opt_int("coworker_id")?.map(CoworkerId),
        then: snapshot(row)?,
        business: BusinessId(row.int("business_id")?),
        business_name: row.opt_text("business_name")?,
        attempt_at: row.time("checkin_attempt_time")?,
        attempt_local: row.opt_local("checkin_attempt_time_local")?,
        source: CheckinSource::from_number(row.int("source")?).unwrap_or(CheckinSource::None),
        macs: split_macs(row.opt_text("mac_addresses")?.as_deref()),
        description: row.opt_text("description")?,
        created_on: row.time("created_on")?,
        updated_on: row.time("updated_on")?,
        updated_by: row.text("updated_by")?,
        system_id: row.opt_text("system_id")?,
    })
}

/// What was true of the coworker then; every kind of record keeps it in the same columns.
pub(super) fn snapshot(row: &Row) -> Result<Snapshot, StoreError> {
    Ok(Snapshot {
        full_name: row.opt_text("coworker_full_name")?,
        teams: row.opt_text("teams_at_the_time_of_checkin")?,
        tariff: row.opt_text("tariff_at_the_time_of_checkin")?,
    })
}
