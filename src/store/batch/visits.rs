//! `checkins`, as a batch writes them and reads them back.

use std::collections::BTreeSet;

use serde::Deserialize;
use uuid::Uuid;

use crate::{
    base::{
        clock::WallTime,
        mac::MacAddr,
        record::{BusinessId, CheckinSource, CoworkerId, Snapshot, TimePassId, UPDATED_BY, join_macs, split_macs},
    },
    engine::{
        fold::{Opened, VisitRecord},
        passes::{PassEnd, PassKind, PassUse},
        person::Visit,
    },
    policy::calendar::Calendar,
    store::{
        batch::transaction::Batch,
        columns::sql,
        error::StoreError,
        rows::row,
        statement::{Statement, statement},
        stored::{LOCAL, from_number, stored},
    },
};

row! {
    /// A visit to write. `known_as` is its identity in the database; `opened` is whether names, teams and plan are
    /// known.
    struct VisitRow<'a> {
        unique_id: Uuid,
        coworker_id: CoworkerId,
        coworker_full_name: Option<&'a str>,
        business_id: BusinessId,
        business_name: Option<&'a str>,
        source: CheckinSource,
        from_time: WallTime,
        to_time: Option<WallTime>,
        counts_towards_plan_limits: bool,
        coworker_time_pass_guid: Option<Uuid>,
        auto_checkout: bool,
        last_activity: WallTime,
        mac_addresses: Option<String>,
        teams_at_the_time_of_checkin: Option<&'a str>,
        tariff_at_the_time_of_checkin: Option<&'a str>,
        from_time_local: String,
        to_time_local: Option<String>,
        created_on: WallTime,
        updated_on: WallTime,
        updated_by: &'static str,
        pass_day: WallTime,
        seconds: Option<u64>,
        time_pass_id: Option<TimePassId>,
        pass_kind: Option<&'static str>,
        pass_ends: Option<WallTime>,
        pass_end: Option<&'static str>,
    } with {
        known_as: Uuid,
        opened: bool,
    }
}

/// Columns with the state of things when the visit was opened.
const OPENED: &[&str] =
    &["coworker_full_name", "business_name", "teams_at_the_time_of_checkin", "tariff_at_the_time_of_checkin"];

/// Columns that a late fact never changes, and [`OPENED`].
const FIXED_OR_OPENED: &[&str] = &[
    "coworker_id",
    "business_id",
    "created_on",
    "coworker_full_name",
    "business_name",
    "teams_at_the_time_of_checkin",
    "tariff_at_the_time_of_checkin",
];

row! {
    /// The columns that change while a visit is open and when it ends.
    struct StayRow {
        to_time: Option<WallTime>,
        auto_checkout: bool,
        last_activity: WallTime,
        mac_addresses: Option<String>,
        to_time_local: Option<String>,
        updated_on: WallTime,
        updated_by: &'static str,
        seconds: Option<u64>,
    } with {
        known_as: Uuid,
    }
}

row! {
    /// The identity of a record.
    pub(in crate::store) struct IdRow {
        unique_id: Uuid,
    }
}

impl IdRow {
    pub(in crate::store) fn all(ids: &[Uuid]) -> Vec<Self> {
        ids.iter().map(|&unique_id| Self { unique_id }).collect()
    }
}

row! {
    /// What an edit sets beside the interval of a visit. Without a `system_id`, that stays.
    struct EditedRow<'a> {
        unique_id: Uuid,
        updated_by: &'a str,
    } with {
        system_id: Option<&'a str>,
        at: WallTime,
    }
}

/// By the unique index of `unique_id`.
const MARK_EDITED: Statement = statement!(
    rows(EditedRow<'_>)
    "UPDATE checkins SET updated_by = r.updated_by, updated_on = r.at, edited = TRUE,
       system_id = coalesce(r.system_id, checkins.system_id)
     FROM r WHERE checkins.unique_id = r.unique_id"
);

/// New visits only: an insert that turns into an update would use up a number of PostgreSQL's sequence each time. The
/// unique indexes of `unique_id` and of open visits make it fail if another gateway was faster.
const PUT_VISITS: Statement = statement!(
    rows(VisitRow<'_>)
    sql!("INSERT INTO checkins (", [VisitRow<'_>: "*"], ") SELECT ", [VisitRow<'_>: "*"], " FROM r")
);

/// By the unique index of `unique_id`. If the statement also set columns that stay as they are, SQLite would write
/// their indexes again.
const CHANGE_STAYS: Statement = statement!(
    rows(StayRow)
    sql!("UPDATE checkins SET ", [StayRow: "* = r.*"], " FROM r WHERE checkins.unique_id = r.known_as")
);

/// By the unique index of `unique_id`. The [`OPENED`] columns stay, unless the fold included the opening.
const CHANGE_VISITS: Statement = statement!(
    rows(VisitRow<'_>)
    sql!(
        "UPDATE checkins SET ", [VisitRow<'_>, except FIXED_OR_OPENED: "* = r.*"], ", ",
        [VisitRow<'_>, only OPENED: "* = CASE WHEN r.opened = TRUE THEN r.* ELSE checkins.* END"],
        " FROM r WHERE checkins.unique_id = r.known_as",
    )
);

/// By the unique index of `unique_id`.
const DROP_VISITS: Statement =
    statement!(rows(IdRow) "DELETE FROM checkins WHERE unique_id IN (SELECT unique_id FROM r)");

/// A visit that an edit is about.
#[derive(Clone, Debug)]
pub(crate) struct EditedVisit {
    pub(crate) unique_id: Uuid,
    /// The user.
    pub(crate) by: std::sync::Arc<str>,
    /// `None` keeps what is there.
    pub(crate) system_id: Option<String>,
}

/// A visit that exists but differs.
#[derive(Clone, Debug)]
pub(crate) struct ChangedVisit {
    /// Its identity in the database.
    pub(crate) known_as: Uuid,
    pub(crate) record: VisitRecord,
    /// Whether only its end, its last activity and its devices differ.
    pub(crate) stays: bool,
}

/// A visit as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredVisit {
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

stored! {
    /// The columns of a visit that the engine reads back, without those of its pass.
    #[derive(Deserialize)]
    pub(super) struct VisitColumns {
        unique_id: Uuid,
        coworker_id: CoworkerId,
        coworker_full_name: Option<String>,
        business_id: BusinessId,
        business_name: Option<String>,
        source: i64,
        from_time: WallTime,
        to_time: Option<WallTime>,
        #[serde(deserialize_with = "from_number")]
        auto_checkout: bool,
        last_activity: Option<WallTime>,
        mac_addresses: Option<String>,
        teams_at_the_time_of_checkin: Option<String>,
        tariff_at_the_time_of_checkin: Option<String>,
    }
}

stored! {
    /// The pass of a visit.
    #[derive(Deserialize)]
    pub(in crate::store) struct PassColumns {
        coworker_time_pass_guid: Option<Uuid>,
        #[serde(deserialize_with = "from_number")]
        counts_towards_plan_limits: bool,
        time_pass_id: Option<TimePassId>,
        pass_kind: Option<String>,
        pass_ends: Option<WallTime>,
        pass_end: Option<String>,
    }
}

/// The pass of a visit `c` as a JSON array.
pub(in crate::store) const PASS_IN_SQLITE: &str = sql!("json_array(", [PassColumns, json Sqlite: "c.*"], ")");
pub(in crate::store) const PASS_IN_POSTGRES: &str = sql!("json_build_array(", [PassColumns, json Postgres: "c.*"], ")");

impl PassColumns {
    /// The use of the pass; `None` without a pass of a known kind.
    pub(in crate::store) fn used(self) -> Option<PassUse> {
        let kind = self.pass_kind.as_deref().and_then(PassKind::from_word)?;
        Some(PassUse {
            guid: self.coworker_time_pass_guid.filter(|_| kind != PassKind::PayAsYouGo),
            time_pass: self.time_pass_id?,
            kind,
            counts_towards_plan_limits: self.counts_towards_plan_limits,
            ends: self.pass_ends.zip(self.pass_end.as_deref().and_then(PassEnd::from_word)),
        })
    }
}

impl From<(VisitColumns, PassColumns)> for StoredVisit {
    fn from((stored, pass): (VisitColumns, PassColumns)) -> Self {
        Self {
            unique_id: stored.unique_id,
            coworker: stored.coworker_id,
            business: stored.business_id,
            source: CheckinSource::from_number(stored.source).unwrap_or(CheckinSource::None),
            from: stored.from_time,
            to: stored.to_time,
            auto_checkout: stored.auto_checkout,
            last_activity: stored.last_activity.unwrap_or(stored.from_time),
            macs: split_macs(stored.mac_addresses.as_deref()),
            pass: pass.used(),
            opened: Opened {
                then: Snapshot {
                    full_name: stored.coworker_full_name,
                    teams: stored.teams_at_the_time_of_checkin,
                    tariff: stored.tariff_at_the_time_of_checkin,
                },
                business_name: stored.business_name,
            },
        }
    }
}

/// Returns the calendar of a business at an instant.
pub(super) type Calendars<'a> = &'a (dyn Fn(BusinessId, WallTime) -> Calendar + Sync);

pub(in crate::store) fn local(at: WallTime, calendar: &Calendar) -> String {
    calendar.local(at).format(LOCAL).to_string()
}

/// The length of a visit, if it is over.
fn seconds(visit: &Visit) -> Option<u64> {
    visit.to.map(|to| to.since(visit.from).as_secs())
}

fn stay_row(visit: &Visit, known_as: Uuid, calendar: Calendars<'_>, now: WallTime) -> StayRow {
    StayRow {
        to_time: visit.to,
        auto_checkout: visit.auto_checkout,
        last_activity: visit.last_activity,
        mac_addresses: join_macs(&visit.macs),
        to_time_local: visit.to.map(|to| local(to, &calendar(visit.business, visit.from))),
        updated_on: now,
        updated_by: UPDATED_BY,
        seconds: seconds(visit),
        known_as,
    }
}

fn visit_row<'a>(record: &'a VisitRecord, known_as: Uuid, calendar: Calendars<'_>, now: WallTime) -> VisitRow<'a> {
    let VisitRecord { coworker, visit, opened } = record;
    let calendar = calendar(visit.business, visit.from);
    let pass = visit.pass.as_ref();
    let then = opened.as_ref().map(|opened| &opened.then);
    VisitRow {
        unique_id: visit.unique_id,
        coworker_id: *coworker,
        coworker_full_name: then.and_then(|then| then.full_name.as_deref()),
        business_id: visit.business,
        business_name: opened.as_ref().and_then(|opened| opened.business_name.as_deref()),
        source: visit.source,
        from_time: visit.from,
        to_time: visit.to,
        counts_towards_plan_limits: visit.counts(),
        // A pass that is assigned on the spot has no holder: it is identified by the check-in to which it was assigned.
        coworker_time_pass_guid: pass.map(|pass| pass.guid.unwrap_or(visit.unique_id)),
        auto_checkout: visit.auto_checkout,
        last_activity: visit.last_activity,
        mac_addresses: join_macs(&visit.macs),
        teams_at_the_time_of_checkin: then.and_then(|then| then.teams.as_deref()),
        tariff_at_the_time_of_checkin: then.and_then(|then| then.tariff.as_deref()),
        from_time_local: local(visit.from, &calendar),
        to_time_local: visit.to.map(|to| local(to, &calendar)),
        created_on: now,
        updated_on: now,
        updated_by: UPDATED_BY,
        pass_day: visit.day.start,
        seconds: seconds(visit),
        time_pass_id: pass.map(|pass| pass.time_pass),
        pass_kind: pass.map(|pass| pass.kind.word()),
        pass_ends: pass.and_then(|pass| pass.ends).map(|(at, _)| at),
        pass_end: pass.and_then(|pass| pass.ends).map(|(_, why)| why.word()),
        known_as,
        opened: opened.is_some(),
    }
}

impl Batch {
    /// Deletes visits, then changes those that are over, then those that are open, then adds new ones. In this order, a
    /// person who left and came back within the batch never has two open rows, which the unique index forbids.
    pub(super) async fn write_visits(
        &mut self,
        gone: &[Uuid],
        changed: &[ChangedVisit],
        new: &[VisitRecord],
        (calendar, now): (Calendars<'_>, WallTime),
    ) -> Result<(), StoreError> {
        self.change_rows(DROP_VISITS, &IdRow::all(gone)).await?;
        for open in [false, true] {
            let (stays, others): (Vec<&ChangedVisit>, Vec<_>) = changed
                .iter()
                .filter(|changed| changed.record.visit.is_open() == open)
                .partition(|changed| changed.stays);
            let rows = others.iter().map(|changed| visit_row(&changed.record, changed.known_as, calendar, now));
            self.change_rows(CHANGE_VISITS, &rows.collect::<Vec<_>>()).await?;
            let rows = stays.iter().map(|changed| stay_row(&changed.record.visit, changed.known_as, calendar, now));
            self.change_rows(CHANGE_STAYS, &rows.collect::<Vec<_>>()).await?;
        }
        let new = new.iter().map(|record| visit_row(record, record.visit.unique_id, calendar, now));
        self.change_rows(PUT_VISITS, &new.collect::<Vec<_>>()).await
    }

    /// Marks visits as edited.
    pub(super) async fn mark_edited(&mut self, edited: &[EditedVisit], now: WallTime) -> Result<(), StoreError> {
        let rows = edited.iter().map(|EditedVisit { unique_id, by, system_id }| EditedRow {
            unique_id: *unique_id,
            updated_by: by,
            system_id: system_id.as_deref(),
            at: now,
        });
        self.change_rows(MARK_EDITED, &rows.collect::<Vec<_>>()).await
    }
}

/// The columns with which a new visit is written.
#[cfg(test)]
pub(super) fn written() -> (&'static str, &'static [crate::store::columns::Column]) {
    ("checkins", <VisitRow<'_> as crate::store::columns::Columns>::COLUMNS)
}

#[cfg(test)]
pub(super) fn tables() -> Vec<(&'static str, &'static [crate::store::columns::Column])> {
    use crate::store::columns::Columns;
    let columns =
        [VisitRow::COLUMNS, EditedRow::COLUMNS, StayRow::COLUMNS, VisitColumns::COLUMNS, PassColumns::COLUMNS];
    columns.map(|columns| ("checkins", columns)).to_vec()
}

#[cfg(test)]
pub(super) fn statements() -> Vec<(Statement, usize)> {
    [PUT_VISITS, CHANGE_STAYS, CHANGE_VISITS, DROP_VISITS, MARK_EDITED].map(|statement| (statement, 1)).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_the_opening_are_set_once() {
        assert!(FIXED_OR_OPENED.ends_with(OPENED));
    }
}
