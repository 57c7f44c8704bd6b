//! Failed check-ins that users of the API write: plain rows, which no fact changes.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{
    batch::{IdRow, local},
    columns::sql,
    error::StoreError,
    handle::Store,
    rows::row,
    statement::{Arg, Statement, statement},
    stored::StoredRow,
};
use crate::{
    base::{
        clock::WallTime,
        mac::MacAddr,
        random,
        record::{BusinessId, CheckinSource, CoworkerId, FailedCheckin, FailedCheckinId, join_macs},
    },
    policy::calendar::Calendar,
};

/// The code of what users write, which is none of the reasons that checkind has.
const BY_HAND: &str = "by_hand";

/// A failed check-in as a user writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandFailure<'a> {
    pub(crate) coworker: Option<CoworkerId>,
    /// Their name then.
    pub(crate) full_name: Option<&'a str>,
    pub(crate) business: BusinessId,
    /// Its name then.
    pub(crate) business_name: Option<&'a str>,
    pub(crate) source: CheckinSource,
    /// When it was attempted.
    pub(crate) at: WallTime,
    pub(crate) macs: &'a BTreeSet<MacAddr>,
    pub(crate) teams: Option<&'a str>,
    pub(crate) tariff: Option<&'a str>,
    pub(crate) description: Option<&'a str>,
    /// Without one, that stays.
    pub(crate) system_id: Option<&'a str>,
    /// The calendar of the business then.
    pub(crate) calendar: &'a Calendar,
}

row! {
    /// A failed check-in written by hand.
    struct HandFailureRow<'a> {
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
        description: Option<&'a str>,
        checkin_attempt_time_local: String,
        created_on: WallTime,
        updated_on: WallTime,
        updated_by: &'a str,
        system_id: Option<&'a str>,
        code: &'static str,
        by_hand: bool,
    }
}

row! {
    /// Other fields of one.
    struct HandChangeRow<'a> {
        checkin_attempt_time: WallTime,
        mac_addresses: Option<String>,
        teams_at_the_time_of_checkin: Option<&'a str>,
        tariff_at_the_time_of_checkin: Option<&'a str>,
        description: Option<&'a str>,
        checkin_attempt_time_local: String,
        updated_on: WallTime,
        updated_by: &'a str,
    } with {
        id: i64,
        system_id: Option<&'a str>,
    }
}

const ADD: Statement = statement!(
    rows(HandFailureRow<'_>)
    sql!("INSERT INTO failed_checkins (", [HandFailureRow<'_>: "*"], ") SELECT ", [HandFailureRow<'_>: "*"], " FROM r")
);

/// By the primary key.
const CHANGE: Statement = statement!(
    rows(HandChangeRow<'_>)
    sql!(
        "UPDATE failed_checkins SET ", [HandChangeRow<'_>: "* = r.*"], ",
           system_id = coalesce(r.system_id, failed_checkins.system_id)
         FROM r WHERE failed_checkins.id = r.id AND failed_checkins.by_hand = TRUE",
    )
);

/// By the primary key.
const REMOVE: Statement = statement!("DELETE FROM failed_checkins WHERE id = $1 AND by_hand = TRUE");

/// By the unique index of `unique_id`.
const FAILURE_OF: Statement = statement!(
    rows(IdRow)
    sql!("SELECT ", [FailedCheckin: "*"], " FROM failed_checkins WHERE unique_id IN (SELECT unique_id FROM r)")
);

impl Store {
    /// Adds a failed check-in, and returns its identity.
    pub(crate) async fn add_hand_failure(
        &self,
        failure: &HandFailure<'_>,
        by: &str,
        now: WallTime,
    ) -> Result<Uuid, StoreError> {
        let row = HandFailureRow {
            unique_id: random::uuid(),
            coworker_id: failure.coworker,
            coworker_full_name: failure.full_name,
            business_id: failure.business,
            business_name: failure.business_name,
            checkin_attempt_time: failure.at,
            source: failure.source,
            mac_addresses: join_macs(failure.macs),
            teams_at_the_time_of_checkin: failure.teams,
            tariff_at_the_time_of_checkin: failure.tariff,
            description: failure.description,
            checkin_attempt_time_local: local(failure.at, failure.calendar),
            created_on: now,
            updated_on: now,
            updated_by: by,
            system_id: failure.system_id,
            code: BY_HAND,
            by_hand: true,
        };
        let unique_id = row.unique_id;
        self.sql.change(ADD, &[Arg::rows(&[row])]).await?;
        Ok(unique_id)
    }

    /// Changes a failed check-in; false if checkind wrote it.
    pub(crate) async fn change_hand_failure(
        &self,
        id: FailedCheckinId,
        failure: &HandFailure<'_>,
        by: &str,
        now: WallTime,
    ) -> Result<bool, StoreError> {
        let row = HandChangeRow {
            checkin_attempt_time: failure.at,
            mac_addresses: join_macs(failure.macs),
            teams_at_the_time_of_checkin: failure.teams,
            tariff_at_the_time_of_checkin: failure.tariff,
            description: failure.description,
            checkin_attempt_time_local: local(failure.at, failure.calendar),
            updated_on: now,
            updated_by: by,
            id: id.0,
            system_id: failure.system_id,
        };
        Ok(self.sql.change(CHANGE, &[Arg::rows(&[row])]).await? > 0)
    }

    /// Deletes a failed check-in; false if checkind wrote it.
    pub(crate) async fn remove_hand_failure(&self, id: FailedCheckinId) -> Result<bool, StoreError> {
        Ok(self.sql.change(REMOVE, &[Arg::Int(id.0)]).await? > 0)
    }

    /// The failed check-in with this identity.
    pub(crate) async fn failure_of(&self, unique_id: Uuid) -> Result<Option<FailedCheckin>, StoreError> {
        let rows = self.sql.read(FAILURE_OF, &[Arg::rows(&IdRow::all(&[unique_id]))]).await?;
        rows.first().map(FailedCheckin::read).transpose()
    }
}

#[cfg(test)]
pub(super) fn tables() -> Vec<(&'static str, &'static [super::columns::Column])> {
    use super::columns::Columns;
    vec![("failed_checkins", HandFailureRow::COLUMNS), ("failed_checkins", HandChangeRow::COLUMNS)]
}

/// The statements, with the number of their arguments.
#[cfg(test)]
pub(super) fn statements() -> [(Statement, usize); 4] {
    [(ADD, 1), (CHANGE, 1), (REMOVE, 1), (FAILURE_OF, 1)]
}
