//! Deletes rows that are older than the policy allows, a portion at a time.

use super::{
    error::StoreError,
    handle::Store,
    statement::{Arg, Statement, statement},
};
use crate::{
    base::{clock::WallTime, fact::LogDay, record::BusinessId},
    engine::decision::{DecisionCode, Outcome, Reason},
};

/// The number of rows deleted in one transaction: some milliseconds of the writer's time.
const PORTION: i64 = 500;

/// The number of days of the log to search for unrecognised devices, before the days that are kept.
const DAYS: i64 = 400;

/// Whole days only: the log's key begins with the day, so the oldest are found at once.
const FACTS: Statement = statement!(
    "DELETE FROM facts WHERE (day, subject, at, digest) IN (SELECT day, subject, at, digest FROM facts
       WHERE day < $1 AND business_id = $3 ORDER BY day LIMIT $2)"
);
/// By the index `set_aside_by_time`.
const SET_ASIDE: Statement = statement!(
    "DELETE FROM set_aside WHERE (day, subject, at, digest) IN (SELECT day, subject, at, digest FROM set_aside
       WHERE business_id = $3 AND set_aside_at < $1 LIMIT $2)"
);
/// No fold begins that far back; the current person states are in `standings`.
const CHECKPOINTS: Statement = statement!(
    "DELETE FROM checkpoints WHERE (day, subject) IN (SELECT day, subject FROM checkpoints WHERE day < $1 LIMIT $2)"
);
/// Credentials that belong to no coworker and were last shown before that time.
const STRANGERS: Statement = statement!(
    "DELETE FROM standings WHERE subject IN
       (SELECT subject FROM standings WHERE subject < 0 AND folded_at < $1 LIMIT $2)"
);
/// By the index `checkins_by_time`.
const CHECKINS: Statement = statement!(
    "DELETE FROM checkins WHERE id IN
       (SELECT id FROM checkins WHERE business_id = $3 AND from_time < $1 AND to_time IS NOT NULL
        ORDER BY from_time LIMIT $2)"
);
/// By the index `failed_checkins_by_time`.
const FAILED: Statement = statement!(
    "DELETE FROM failed_checkins WHERE id IN
       (SELECT id FROM failed_checkins WHERE business_id = $3 AND checkin_attempt_time < $1
        ORDER BY checkin_attempt_time LIMIT $2)"
);
/// By the index `failed_checkins_by_code`.
const UNRECOGNISED: Statement = statement!(
    "DELETE FROM failed_checkins WHERE id IN
       (SELECT id FROM failed_checkins WHERE business_id = $3 AND code = $4 AND checkin_attempt_time < $1 LIMIT $2)"
);
/// By the primary key, day by day: scanning the log would take minutes.
const UNRECOGNISED_FACTS: Statement = statement!(
    "WITH RECURSIVE r(day) AS (SELECT $1 - $5 UNION ALL SELECT day + 1 FROM r WHERE day < $1 - 1)
     DELETE FROM facts WHERE (day, subject, at, digest) IN (SELECT f.day, f.subject, f.at, f.digest FROM r
       CROSS JOIN facts f WHERE f.day = r.day AND f.subject < 0 AND f.decision = $2 AND f.business_id = $3 LIMIT $4)"
);
/// By the index of business and end.
const COVERAGE: Statement = statement!(
    "DELETE FROM coverage WHERE id IN (SELECT id FROM coverage WHERE business_id = $3 AND to_time < $1 LIMIT $2)"
);

/// What a retention period applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// The log, and facts that were set aside.
    Facts,
    /// Checkpoints, and the states of credentials that belong to no coworker.
    Checkpoints,
    /// Closed check-ins.
    Checkins,
    /// Failed check-ins of any reason.
    FailedCheckins,
    /// Failed check-ins of unregistered devices, and their facts: once they are deleted, the address is stored nowhere.
    UnrecognisedDevices,
    /// The intervals of coverage.
    Coverage,
}

impl Expired {
    /// The word for the program's log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Facts => "facts",
            Self::Checkpoints => "checkpoints",
            Self::Checkins => "checkins",
            Self::FailedCheckins => "failed_checkins",
            Self::UnrecognisedDevices => "unrecognised",
            Self::Coverage => "coverage",
        }
    }
}

impl Store {
    /// Deletes one portion of a business's rows that are older than `before` from each table concerned; returns the
    /// number of deleted rows.
    pub async fn forget(&self, what: Expired, business: BusinessId, before: WallTime) -> Result<u64, StoreError> {
        let day = LogDay::of(before);
        let portion = || Arg::Int(PORTION);
        let of_business = |until: Arg| vec![until, portion(), Arg::Int(business.0)];
        let code = Reason::UnrecognisedDevice.code();
        let changes: Vec<(Statement, Vec<Arg>)> = match what {
            Expired::Facts => {
                vec![(FACTS, of_business(Arg::Int(day.0))), (SET_ASIDE, of_business(Arg::Int(day.start().millis())))]
            }
            Expired::Checkpoints => vec![
                (CHECKPOINTS, vec![Arg::Int(day.0), portion()]),
                (STRANGERS, vec![Arg::Int(before.millis()), portion()]),
            ],
            Expired::Checkins => vec![(CHECKINS, of_business(Arg::Time(before)))],
            Expired::FailedCheckins => vec![(FAILED, of_business(Arg::Time(before)))],
            Expired::Coverage => vec![(COVERAGE, of_business(Arg::Time(before)))],
            Expired::UnrecognisedDevices => {
                let mut args = of_business(Arg::Time(before));
                args.push(Arg::Text(code.to_owned()));
                let decision = DecisionCode::of(Outcome::Failed, Some(code));
                let of_days = [Arg::Int(day.0), Arg::Int(decision.0), Arg::Int(business.0), portion(), Arg::Int(DAYS)];
                vec![(UNRECOGNISED, args), (UNRECOGNISED_FACTS, of_days.to_vec())]
            }
        };
        let mut rows = 0;
        for (statement, args) in changes {
            rows += self.sql.change(statement, &args).await?;
        }
        Ok(rows)
    }
}

/// The deletes, with the number of their arguments.
#[cfg(test)]
pub(super) fn statements() -> Vec<(Statement, usize)> {
    let of_business = [FACTS, SET_ASIDE, CHECKINS, FAILED, COVERAGE].map(|delete| (delete, 3));
    let others = [(CHECKPOINTS, 2), (STRANGERS, 2), (UNRECOGNISED, 4), (UNRECOGNISED_FACTS, 5)];
    of_business.into_iter().chain(others).collect()
}
