//! `payg_charges`: what visits without a pass cost.

use uuid::Uuid;

use crate::{
    base::{
        clock::WallTime,
        record::{BusinessId, CoworkerId, TimePassId},
    },
    engine::fold::ChargeRecord,
    store::{
        batch::transaction::Batch,
        columns::sql,
        error::StoreError,
        rows::row,
        statement::{Statement, statement},
    },
};

row! {
    /// A charge to write.
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
        is_final: bool = "final",
        withdrawn: bool,
        created_on: WallTime,
        updated_on: WallTime,
    }
}

/// The columns that stay when a charge is replaced.
const KEPT: &[&str] = &["checkin", "coworker_id", "business_id", "created_on"];

/// The unique index of `checkin` finds the row that is replaced.
const PUT_CHARGES: Statement = statement!(
    rows(ChargeRow)
    sql!(
        "INSERT INTO payg_charges (", [ChargeRow: "*"], ") SELECT ", [ChargeRow: "*"], " FROM r WHERE true
         ON CONFLICT (checkin) DO UPDATE SET ", [ChargeRow, except KEPT: "* = excluded.*"],
    )
);

row! {
    /// A charge that is withdrawn.
    struct WithdrawnRow {
        updated_on: WallTime,
    } with {
        unique_id: Uuid,
    }
}

/// By the unique index of `checkin`. The row stays: a client that has billed it finds it by its time of change.
const WITHDRAW_CHARGES: Statement = statement!(
    rows(WithdrawnRow)
    "UPDATE payg_charges SET minutes = 0, unbounded = 0, amount = 0, withdrawn = TRUE, updated_on = r.updated_on
     FROM r WHERE payg_charges.checkin = r.unique_id AND payg_charges.withdrawn = FALSE"
);

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
        withdrawn: false,
        created_on: now,
        updated_on: now,
    }
}

impl Batch {
    /// Withdraws charges, then writes new ones: a charge in both remains.
    pub(super) async fn write_charges(
        &mut self,
        gone: &[Uuid],
        charges: &[ChargeRecord],
        now: WallTime,
    ) -> Result<(), StoreError> {
        let gone = gone.iter().map(|&unique_id| WithdrawnRow { updated_on: now, unique_id });
        self.change_rows(WITHDRAW_CHARGES, &gone.collect::<Vec<_>>()).await?;
        self.change_rows(PUT_CHARGES, &charges.iter().map(|charge| charge_row(charge, now)).collect::<Vec<_>>()).await
    }
}

#[cfg(test)]
impl crate::store::handle::Store {
    /// The charges of one person, earliest first: minutes, amount, from and to.
    pub(crate) async fn charges(
        &self,
        coworker: CoworkerId,
    ) -> Result<Vec<(i64, i64, WallTime, Option<WallTime>)>, StoreError> {
        use crate::store::{statement::Arg, stored::Row};
        const CHARGES: Statement =
            statement!("SELECT * FROM payg_charges WHERE coworker_id = $1 AND withdrawn = FALSE ORDER BY from_time");
        let rows = self.sql.read(CHARGES, &[Arg::Int(coworker.0)]).await?;
        let charge =
            |row: &Row| Ok((row.int("minutes")?, row.int("amount")?, row.time("from_time")?, row.column("to_time")?));
        rows.iter().map(charge).collect()
    }
}

#[cfg(test)]
pub(super) fn tables() -> Vec<(&'static str, &'static [crate::store::columns::Column])> {
    use crate::store::columns::Columns;
    vec![("payg_charges", ChargeRow::COLUMNS), ("payg_charges", WithdrawnRow::COLUMNS)]
}

#[cfg(test)]
pub(super) fn statements() -> Vec<(Statement, usize)> {
    vec![(PUT_CHARGES, 1), (WITHDRAW_CHARGES, 1)]
}
