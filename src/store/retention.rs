//! Deletes what is older than the policy allows, a portion at a time.

use super::{
    Store, StoreError,
    sql::{Arg, Statement, statement},
};
use crate::{clock::WallTime, engine::decision::Reason, record::BusinessId};

/// Rows deleted in one transaction: some milliseconds of the writer's time.
const PORTION: i64 = 2000;

const SIGHTINGS: Statement = statement!(
    "DELETE FROM sightings WHERE key IN (SELECT key FROM sightings WHERE business_id = $3 AND event_at < $1
       ORDER BY event_at LIMIT $2) AND business_id = $3"
);
const FRONTIERS: Statement = statement!(
    "DELETE FROM frontiers WHERE business_id = $3 AND last_at < $1 AND coworker_id IN
       (SELECT coworker_id FROM frontiers WHERE business_id = $3 AND last_at < $1 LIMIT $2)"
);
const CHECKINS: Statement = statement!(
    "DELETE FROM checkins WHERE id IN
       (SELECT id FROM checkins WHERE business_id = $3 AND from_time < $1 AND to_time IS NOT NULL
        ORDER BY from_time LIMIT $2)"
);
const FAILED: Statement = statement!(
    "DELETE FROM failed_checkins WHERE id IN
       (SELECT id FROM failed_checkins WHERE business_id = $3 AND checkin_attempt_time < $1
        ORDER BY checkin_attempt_time LIMIT $2)"
);
const UNRECOGNISED: Statement = statement!(
    "DELETE FROM failed_checkins WHERE id IN
       (SELECT id FROM failed_checkins WHERE business_id = $3 AND code = $4 AND checkin_attempt_time < $1 LIMIT $2)"
);
const UNRECOGNISED_SIGHTINGS: Statement = statement!(
    "DELETE FROM sightings WHERE business_id = $3 AND key IN
       (SELECT key FROM sightings WHERE business_id = $3 AND event_at < $1 AND kind = 'network' AND reason = $4 LIMIT $2)"
);
const HEARD: Statement =
    statement!("DELETE FROM heard WHERE id IN (SELECT id FROM heard WHERE business_id = $3 AND to_time < $1 LIMIT $2)");

/// What a retention period is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// The sighting log, and when people who are not in it any more were last in it.
    Sightings,
    /// Closed check-ins.
    Checkins,
    /// Failed check-ins of any reason.
    FailedCheckins,
    /// Failed check-ins of devices that nobody has registered, and their lines in the sighting log: the address is then
    /// nowhere any more.
    UnrecognisedDevices,
    /// The stretches during which the captures could hear.
    Heard,
}

impl Expired {
    /// For the log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sightings => "sightings",
            Self::Checkins => "checkins",
            Self::FailedCheckins => "failed_checkins",
            Self::UnrecognisedDevices => "unrecognised",
            Self::Heard => "heard stretches",
        }
    }
}

impl Store {
    /// Deletes one portion, of each table that holds it, of what a business has that is older than `before`; how many rows that was.
    pub async fn forget(&self, what: Expired, business: BusinessId, before: WallTime) -> Result<u64, StoreError> {
        let mut args = vec![Arg::Time(before), Arg::Int(PORTION), Arg::Int(business.0)];
        let statements: &[Statement] = match what {
            Expired::Sightings => &[SIGHTINGS, FRONTIERS],
            Expired::Checkins => &[CHECKINS],
            Expired::FailedCheckins => &[FAILED],
            Expired::Heard => &[HEARD],
            Expired::UnrecognisedDevices => {
                args.push(Arg::Text(Reason::UnrecognisedDevice.code().to_owned()));
                &[UNRECOGNISED, UNRECOGNISED_SIGHTINGS]
            }
        };
        let mut rows = 0;
        for statement in statements {
            rows += self.sql.change(*statement, &args).await?;
        }
        Ok(rows)
    }
}
