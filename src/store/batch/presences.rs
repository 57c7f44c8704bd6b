//! `presences`: presences of devices that are not in a fact of the log yet.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::{
    base::{
        clock::WallTime,
        fact::{self, Point, Subject},
        mac::MacAddr,
        record::BusinessId,
    },
    store::{
        batch::{people::SubjectRow, transaction::Batch},
        columns::sql,
        error::StoreError,
        rows::row,
        statement::{Statement, statement},
        stored::from_hex,
    },
};

row! {
    /// The presences of one device.
    #[derive(Deserialize)]
    pub(super) struct PresenceRow {
        subject: Subject,
        device: i64,
        business_id: BusinessId,
        interface: String,
        at: i64,
        last_at: i64,
        #[serde(deserialize_with = "from_hex")]
        points: Vec<u8>,
    }
}

const KEY: &[&str] = &["subject", "device", "business_id"];

/// By the primary key, whose first column is the subject.
const DROP_PRESENCES: Statement = statement!(
    rows(SubjectRow) "DELETE FROM presences WHERE subject IN (SELECT subject FROM r)"
);

/// The primary key finds the row that is replaced.
const PUT_PRESENCES: Statement = statement!(
    rows(PresenceRow)
    sql!(
        "INSERT INTO presences (", [PresenceRow: "*"], ") SELECT ", [PresenceRow: "*"], " FROM r WHERE true
         ON CONFLICT (", [PresenceRow, only KEY: "*"], ") DO UPDATE SET ", [PresenceRow, except KEY: "* = excluded.*"],
    )
);

/// Presences of one device that are not in a fact yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnloggedPresence {
    pub(crate) business: BusinessId,
    pub(crate) subject: Subject,
    pub(crate) mac: MacAddr,
    pub(crate) interface: String,
    /// Earliest first; never empty.
    pub(crate) points: Vec<Point>,
}

impl UnloggedPresence {
    /// The row; `None` if there are no points.
    fn row(&self) -> Option<PresenceRow> {
        let first = self.points.first()?;
        Some(PresenceRow {
            subject: self.subject,
            device: device_number(self.mac),
            business_id: self.business,
            interface: self.interface.clone(),
            at: first.last_at.millis(),
            last_at: self.points.iter().map(|point| point.last_at.millis()).max()?,
            points: fact::pack_points(&self.points, first.last_at),
        })
    }
}

impl TryFrom<PresenceRow> for UnloggedPresence {
    type Error = StoreError;

    fn try_from(row: PresenceRow) -> Result<Self, StoreError> {
        let points = fact::unpack_points(&row.points, WallTime::from_millis(row.at)).ok();
        Ok(Self {
            business: row.business_id,
            subject: row.subject,
            mac: device_address(row.device),
            interface: row.interface,
            points: points.filter(|points| !points.is_empty()).ok_or_else(StoreError::damaged)?,
        })
    }
}

/// The 48 bits of an address as a number.
fn device_number(mac: MacAddr) -> i64 {
    mac.octets().iter().fold(0, |number, octet| number << 8 | i64::from(*octet))
}

fn device_address(number: i64) -> MacAddr {
    let [_, _, octets @ ..] = number.to_be_bytes();
    MacAddr::new(octets)
}

impl Batch {
    /// Deletes all presences of some people, then writes new ones, which may include remaining ones of the same people.
    pub(super) async fn write_presences(
        &mut self,
        gone: &BTreeSet<Subject>,
        new: &[UnloggedPresence],
    ) -> Result<(), StoreError> {
        self.change_rows(DROP_PRESENCES, &SubjectRow::all(gone)).await?;
        self.change_rows(PUT_PRESENCES, &new.iter().filter_map(UnloggedPresence::row).collect::<Vec<_>>()).await
    }
}

#[cfg(test)]
pub(super) fn tables() -> Vec<(&'static str, &'static [crate::store::columns::Column])> {
    use crate::store::columns::Columns;
    vec![("presences", PresenceRow::COLUMNS)]
}

#[cfg(test)]
pub(super) fn statements() -> Vec<(Statement, usize)> {
    vec![(DROP_PRESENCES, 1), (PUT_PRESENCES, 1)]
}
