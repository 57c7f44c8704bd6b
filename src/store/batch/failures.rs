//! `failed_checkins`, as a batch writes them.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::{
    base::{
        clock::WallTime,
        mac::MacAddr,
        record::{BusinessId, CheckinSource, CoworkerId, UPDATED_BY, split_macs},
    },
    engine::{
        decision::Reason,
        fold::{FailureRecord, Opened},
    },
    store::{
        batch::{
            transaction::Batch,
            visits::{Calendars, IdRow, local},
        },
        columns::sql,
        error::StoreError,
        handle::Store,
        rows::row,
        statement::{Arg, Statement, statement},
    },
};

row! {
    /// A failed check-in to write.
    struct FailureRow<'a> {
        unique_id: Uuid,
        coworker_id: Option<CoworkerId>,
        coworker_full_name: Option<&'a str>,
        business_id: BusinessId,
        business_name: Option<&'a str>,
        checkin_attempt_time: WallTime,
        source: CheckinSource,
        mac_addresses: Option<String>,
        teams_at_the_time_of_checkin: Option<&'a str>,
        tariff_at_the_time_of_checkin: Option<&'a str>,
        description: String,
        checkin_attempt_time_local: String,
        created_on: WallTime,
        updated_on: WallTime,
        updated_by: &'static str,
        code: &'static str,
    }
}

/// The columns that a late fact may change.
const CHANGED: &[&str] = &["checkin_attempt_time", "checkin_attempt_time_local", "description", "code", "updated_on"];

/// A failed check-in that already exists stays as it is. It is looked up first, by the unique index of `unique_id`,
/// because an insert that does nothing would still use up a number of PostgreSQL's sequence.
const PUT_FAILED: Statement = statement!(
    rows(FailureRow<'_>)
    sql!(
        "INSERT INTO failed_checkins (", [FailureRow<'_>: "*"], ") SELECT ", [FailureRow<'_>: "*"],
        " FROM r WHERE NOT EXISTS (SELECT 1 FROM failed_checkins f WHERE f.unique_id = r.unique_id)
         ON CONFLICT DO NOTHING",
    )
);

/// Changes the time or the reason of an attempt. An unchanged one is not written. By the unique index of `unique_id`.
const CHANGE_FAILED: Statement = statement!(
    rows(FailureRow<'_>)
    sql!(
        "UPDATE failed_checkins SET ", [FailureRow<'_>, only CHANGED: "* = r.*"],
        " FROM r WHERE failed_checkins.unique_id = r.unique_id
           AND (failed_checkins.checkin_attempt_time <> r.checkin_attempt_time
             OR failed_checkins.description <> r.description)",
    )
);

/// By the unique index of `unique_id`.
const DROP_FAILED: Statement =
    statement!(rows(IdRow) "DELETE FROM failed_checkins WHERE unique_id IN (SELECT unique_id FROM r)");

/// The devices in failed check-ins with one code. By the index `failed_checkins_by_code`.
const FAILED_DEVICES: Statement = statement!(
    "SELECT mac_addresses FROM failed_checkins
     WHERE business_id = $1 AND checkin_attempt_time >= $2 AND code = $3 LIMIT $4"
);

fn failure_row<'a>(failure: &'a FailureRecord, calendar: Calendars<'_>, now: WallTime) -> FailureRow<'a> {
    let Opened { then, business_name } = &failure.then;
    FailureRow {
        unique_id: failure.unique_id,
        coworker_id: failure.coworker,
        coworker_full_name: then.full_name.as_deref(),
        business_id: failure.business,
        business_name: business_name.as_deref(),
        checkin_attempt_time: failure.attempt_at,
        source: failure.source,
        mac_addresses: failure.mac.map(|mac| mac.to_string()),
        teams_at_the_time_of_checkin: then.teams.as_deref(),
        tariff_at_the_time_of_checkin: then.tariff.as_deref(),
        description: failure.refused.reason.description_with(failure.refused.detail.as_deref()),
        checkin_attempt_time_local: local(failure.attempt_at, &calendar(failure.business, failure.attempt_at)),
        created_on: now,
        updated_on: now,
        updated_by: UPDATED_BY,
        code: failure.refused.reason.code(),
    }
}

fn failure_rows<'a>(failures: &'a [FailureRecord], calendar: Calendars<'_>, now: WallTime) -> Vec<FailureRow<'a>> {
    failures.iter().map(|failure| failure_row(failure, calendar, now)).collect()
}

impl Store {
    /// At most `limit` devices with a failed check-in for this reason since `since`. Read after a restart, to write no
    /// device twice.
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
        for row in self.sql.read(FAILED_DEVICES, &args).await? {
            macs.extend(split_macs(row.opt_text("mac_addresses")?.as_deref()));
        }
        Ok(macs)
    }
}

impl Batch {
    /// Deletes failed check-ins, changes existing ones, and writes new ones.
    pub(super) async fn write_failures(
        &mut self,
        gone: &[Uuid],
        changed: &[FailureRecord],
        new: &[FailureRecord],
        (calendar, now): (Calendars<'_>, WallTime),
    ) -> Result<(), StoreError> {
        self.change_rows(DROP_FAILED, &IdRow::all(gone)).await?;
        self.change_rows(CHANGE_FAILED, &failure_rows(changed, calendar, now)).await?;
        self.change_rows(PUT_FAILED, &failure_rows(new, calendar, now)).await
    }
}

/// The columns with which a new failed check-in is written.
#[cfg(test)]
pub(super) fn written() -> (&'static str, &'static [crate::store::columns::Column]) {
    ("failed_checkins", <FailureRow<'_> as crate::store::columns::Columns>::COLUMNS)
}

#[cfg(test)]
pub(super) fn tables() -> Vec<(&'static str, &'static [crate::store::columns::Column])> {
    use crate::store::columns::Columns;
    vec![("failed_checkins", FailureRow::COLUMNS)]
}

#[cfg(test)]
pub(super) fn statements() -> Vec<(Statement, usize)> {
    vec![(PUT_FAILED, 1), (CHANGE_FAILED, 1), (DROP_FAILED, 1), (FAILED_DEVICES, 4)]
}

#[cfg(test)]
pub(super) fn indexed() -> Vec<(Statement, usize, &'static [&'static str])> {
    vec![(
        FAILED_DEVICES,
        4,
        &["SEARCH failed_checkins USING INDEX failed_checkins_by_code (business_id=? AND code=? AND "],
    )]
}
