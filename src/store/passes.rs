//! What passes, plan limits and pay-as-you-go ask and write: a fixed number of statements, whatever the size of a batch.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;
use uuid::Uuid;

use super::{
    Batch, Store, StoreError,
    sql::{Arg, Row, Statement, Transaction, statement},
};
use crate::{
    clock::WallTime,
    directory::{Directory, entity::EntityKind},
    engine::{
        calendar::Calendar,
        passes::{Counted, PassPolicy, Usage, Used, limits_look_back, payg::Charge},
    },
    record::{BusinessId, CoworkerId, TimePassId},
};

/// How much earlier than a visit its pass day may have begun, with time to spare for a day of 25 hours.
const PASS_DAY: Duration = Duration::from_hours(36);

/// The visits with a pass, summed by person and pass day. Those at the asking business from `$3` on stand alone, by
/// their beginning, because some of them are about to be decided again.
const USED: Statement = statement!(
    rows(guid uuid, since timestamptz, basis_at timestamptz)
    "SELECT c.coworker_time_pass_guid AS guid, c.coworker_id, c.pass_day, min(c.from_time) AS first_from,
       CAST(coalesce(sum(CASE WHEN c.to_time >= r.basis_at THEN c.seconds ELSE 0 END), 0) AS bigint) AS seconds,
       max(CASE WHEN c.to_time IS NULL THEN c.from_time END) AS open_from,
       CASE WHEN c.business_id = $2 AND c.from_time >= $3 THEN c.from_time END AS alone
     FROM r CROSS JOIN checkins c
     WHERE c.coworker_time_pass_guid = r.guid AND c.pass_day >= r.since AND c.coworker_id IS NOT NULL
     GROUP BY 1, 2, 3, 7"
);

/// The visits that count towards somebody's plan, likewise.
const COUNTED: Statement = statement!(
    rows(coworker_id bigint, since timestamptz)
    "SELECT c.coworker_id, c.pass_day, CAST(coalesce(sum(c.seconds), 0) AS bigint) AS seconds,
       max(CASE WHEN c.to_time IS NULL THEN c.from_time END) AS open_from,
       CASE WHEN c.business_id = $2 AND c.from_time >= $3 THEN c.from_time END AS alone
     FROM r CROSS JOIN checkins c
     WHERE c.coworker_id = r.coworker_id AND c.counts_towards_plan_limits = TRUE AND c.pass_day >= r.since
     GROUP BY 1, 2, 5"
);

const CHARGED: Statement = statement!(
    rows(coworker_id bigint, since timestamptz)
    "SELECT p.coworker_id, p.pass_day, coalesce(c.from_time, p.from_time) AS from_time, p.time_pass_id, p.unbounded, p.amount
     FROM r CROSS JOIN payg_charges p LEFT JOIN checkins c ON c.unique_id = p.checkin
     WHERE p.business_id = $2 AND p.coworker_id = r.coworker_id AND p.pass_day >= r.since"
);

/// In one order, so that two sites that want the same rows wait for each other and do not lock each other out.
const LOCK: Statement = statement!(
    rows(kind text, id bigint)
    "SELECT d.id FROM r JOIN directory d ON d.kind = r.kind AND d.id = r.id
     ORDER BY d.kind, d.id FOR NO KEY UPDATE OF d"
);

const PUT_CHARGES: Statement = statement!(
    rows(
        checkin uuid, coworker_id bigint, business_id bigint, time_pass_id bigint, pass_day timestamptz,
        from_time timestamptz, to_time timestamptz, minutes bigint, unbounded bigint, amount bigint, currency text,
        final boolean, now timestamptz
    )
    "INSERT INTO payg_charges (
       checkin, coworker_id, business_id, time_pass_id, pass_day, from_time, to_time, minutes, unbounded, amount,
       currency, final, created_on, updated_on)
     SELECT checkin, coworker_id, business_id, time_pass_id, pass_day, from_time, to_time, minutes, unbounded, amount,
       currency, final, now, now
     FROM r WHERE true
     ON CONFLICT (checkin) DO UPDATE SET
       time_pass_id = excluded.time_pass_id, pass_day = excluded.pass_day, from_time = excluded.from_time,
       to_time = excluded.to_time, minutes = excluded.minutes, unbounded = excluded.unbounded,
       amount = excluded.amount, currency = excluded.currency, final = excluded.final, updated_on = excluded.updated_on"
);

const DELETE_CHARGES: Statement =
    statement!(rows(checkin uuid) "DELETE FROM payg_charges WHERE checkin IN (SELECT checkin FROM r)");

/// A charge to be written, in the same transaction as its check-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewCharge {
    /// The identity of the check-in.
    pub(crate) checkin: Uuid,
    pub(crate) coworker: CoworkerId,
    pub(crate) business: BusinessId,
    pub(crate) time_pass: TimePassId,
    /// The beginning of the pass day.
    pub(crate) pass_day: WallTime,
    pub(crate) from: WallTime,
    /// None while the check-in is open: then the charge is provisional.
    pub(crate) to: Option<WallTime>,
    pub(crate) charge: Charge,
}

/// Who asks for usage, and of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsageQuery<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) policy: &'a PassPolicy,
    pub(crate) calendar: &'a Calendar,
    /// The business that asks.
    pub(crate) business: BusinessId,
    /// Who, with the beginning of their earliest visit at this business that is decided now: from there on their own visits
    /// do not count, because the caller hands them in.
    pub(crate) people: &'a BTreeMap<CoworkerId, WallTime>,
}

impl Store {
    /// What was used before, as it is committed now.
    pub(crate) async fn usage(&self, query: &UsageQuery<'_>) -> Result<Usage, StoreError> {
        let mut usage = Usage::default();
        let Some(questions) = Questions::of(query) else { return Ok(usage) };
        for (kind, statement, args) in questions.statements() {
            let rows = self.sql.read(statement, &args).await?;
            take_in(&mut usage, kind, &rows, query)?;
        }
        Ok(usage)
    }
}

#[cfg(test)]
impl Store {
    /// The charges of one person, earliest first.
    pub(crate) async fn charges(&self, coworker: CoworkerId) -> Result<Vec<NewCharge>, StoreError> {
        const CHARGES: Statement = statement!("SELECT * FROM payg_charges WHERE coworker_id = $1 ORDER BY from_time");
        let rows = self.sql.read(CHARGES, &[Arg::Int(coworker.0)]).await?;
        let charge = |row: &Row| {
            Ok(NewCharge {
                checkin: row.uuid("checkin")?,
                coworker,
                business: BusinessId(row.int("business_id")?),
                time_pass: TimePassId(row.int("time_pass_id")?),
                pass_day: row.time("pass_day")?,
                from: row.time("from_time")?,
                to: row.opt_time("to_time")?,
                charge: Charge {
                    minutes: u32::try_from(row.int("minutes")?).unwrap_or(u32::MAX),
                    unbounded: row.int("unbounded")?,
                    amount: row.int("amount")?,
                    currency: row.text("currency")?.parse().expect("a currency"),
                },
            })
        };
        rows.iter().map(charge).collect()
    }
}

impl Batch {
    /// Waits for other gateways that are spending the passes of the same people, and keeps them waiting until the commit.
    /// SQLite has one writer anyway. Ask before anything else is read.
    pub(crate) async fn lock_passes(
        &mut self,
        directory: &Directory,
        policy: &PassPolicy,
        coworkers: impl IntoIterator<Item = CoworkerId>,
    ) -> Result<(), StoreError> {
        #[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
        struct KeyRow {
            kind: &'static str,
            id: i64,
        }
        if matches!(self.transaction, Transaction::Sqlite { .. }) || !policy.asks(directory) {
            return Ok(());
        }
        let mut keys = BTreeSet::new();
        for coworker in coworkers {
            keys.insert(KeyRow { kind: EntityKind::Coworker.word(), id: coworker.0 });
            let pass = EntityKind::CoworkerTimePass.word();
            keys.extend(directory.usable(coworker).map(|held| KeyRow { kind: pass, id: held.id.0 }));
        }
        if keys.is_empty() {
            return Ok(());
        }
        let keys: Vec<KeyRow> = keys.into_iter().collect();
        self.transaction.rows(LOCK, &[Arg::rows(&keys)]).await.map(drop)
    }

    /// What was used before, inside the batch's transaction.
    pub(crate) async fn usage(&mut self, query: &UsageQuery<'_>) -> Result<Usage, StoreError> {
        let mut usage = Usage::default();
        let Some(questions) = Questions::of(query) else { return Ok(usage) };
        for (kind, statement, args) in questions.statements() {
            let rows = self.transaction.rows(statement, &args).await?;
            take_in(&mut usage, kind, &rows, query)?;
        }
        Ok(usage)
    }

    /// Writes charges; one of a check-in that has one replaces it.
    pub(crate) async fn put_charges(&mut self, charges: &[NewCharge], now: WallTime) -> Result<(), StoreError> {
        let rows: Vec<ChargeRow> = charges.iter().map(|charge| charge_row(charge, now)).collect();
        self.change_rows(PUT_CHARGES, &rows).await
    }

    /// Takes back the charges of these check-ins.
    pub(crate) async fn delete_charges(&mut self, checkins: &[Uuid]) -> Result<(), StoreError> {
        #[derive(Serialize)]
        struct KeyRow {
            checkin: Uuid,
        }
        let rows: Vec<KeyRow> = checkins.iter().map(|&checkin| KeyRow { checkin }).collect();
        self.change_rows(DELETE_CHARGES, &rows).await
    }
}

#[derive(Clone, Copy)]
enum Question {
    Used,
    Counted,
    Charged,
}

/// What is asked, as rows of the statements.
struct Questions {
    business: BusinessId,
    /// The earliest visit that may not be counted.
    earliest: WallTime,
    passes: Vec<PassRow>,
    limited: Vec<PersonRow>,
    charged: Vec<PersonRow>,
}

#[derive(Serialize)]
struct PassRow {
    guid: Uuid,
    since: WallTime,
    basis_at: WallTime,
}

#[derive(Serialize)]
struct PersonRow {
    coworker_id: CoworkerId,
    since: WallTime,
}

impl Questions {
    /// Nothing where passes are not asked for, or nobody asks.
    fn of(query: &UsageQuery<'_>) -> Option<Self> {
        let UsageQuery { directory, policy, calendar, business, people } = *query;
        let earliest = *people.values().min()?;
        if !policy.asks(directory) {
            return None;
        }
        let mut passes: BTreeMap<Uuid, PassRow> = BTreeMap::new();
        let (mut limited, mut charged) = (Vec::new(), Vec::new());
        for (&coworker_id, &at) in people {
            for held in directory.usable(coworker_id) {
                let (guid, basis_at) = (held.guid, held.basis_at);
                let since = basis_at.min(at).minus(PASS_DAY);
                let known = passes.entry(guid).or_insert(PassRow { guid, since, basis_at });
                known.since = known.since.min(since);
            }
            let coworker = directory.coworker(coworker_id);
            let since = coworker.and_then(|coworker| limits_look_back(directory, policy, calendar, coworker, at));
            limited.extend(since.map(|since| PersonRow { coworker_id, since }));
            if policy.pay_as_you_go.is_some() {
                charged.push(PersonRow { coworker_id, since: calendar.pass_day(at).start });
            }
        }
        Some(Self { business, earliest, passes: passes.into_values().collect(), limited, charged })
    }

    fn statements(&self) -> impl Iterator<Item = (Question, Statement, Vec<Arg>)> {
        let (business, earliest) = (Arg::Int(self.business.0), Arg::Time(self.earliest));
        let three = |rows: Arg| vec![rows, business.clone(), earliest.clone()];
        [
            (!self.passes.is_empty()).then(|| (Question::Used, USED, three(Arg::rows(&self.passes)))),
            (!self.limited.is_empty()).then(|| (Question::Counted, COUNTED, three(Arg::rows(&self.limited)))),
            (!self.charged.is_empty())
                .then(|| (Question::Charged, CHARGED, vec![Arg::rows(&self.charged), business.clone()])),
        ]
        .into_iter()
        .flatten()
    }
}

fn take_in(usage: &mut Usage, kind: Question, rows: &[Row], query: &UsageQuery<'_>) -> Result<(), StoreError> {
    for row in rows {
        let coworker = CoworkerId(row.int("coworker_id")?);
        let day = row.time("pass_day")?;
        // Visits that are decided now are handed to the engine as they will be.
        let decided_now = |from: Option<WallTime>| {
            from.is_some_and(|from| query.people.get(&coworker).is_some_and(|earliest| from >= *earliest))
        };
        match kind {
            Question::Used => {
                let (first, open) = (row.time("first_from")?, row.opt_time("open_from")?);
                let (seconds, again) = (seconds(row)?, decided_now(row.opt_time("alone")?));
                usage.add_used(row.uuid("guid")?, Used { coworker, day, first, seconds, open, again });
            }
            Question::Counted if !decided_now(row.opt_time("alone")?) => {
                let counted = Counted { day, seconds: seconds(row)?, open: row.opt_time("open_from")? };
                usage.people.entry(coworker).or_default().push(counted);
            }
            Question::Charged if !decided_now(Some(row.time("from_time")?)) => {
                let time_pass = TimePassId(row.int("time_pass_id")?);
                let charged = usage.charges.entry((coworker, day)).or_default();
                charged.add(time_pass, row.int("unbounded")?, row.int("amount")?);
            }
            Question::Counted | Question::Charged => {}
        }
    }
    Ok(())
}

fn seconds(row: &Row) -> Result<u64, StoreError> {
    Ok(u64::try_from(row.int("seconds")?).unwrap_or(0))
}

#[derive(Serialize)]
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
    r#final: bool,
    now: WallTime,
}

fn charge_row(charge: &NewCharge, now: WallTime) -> ChargeRow {
    ChargeRow {
        checkin: charge.checkin,
        coworker_id: charge.coworker,
        business_id: charge.business,
        time_pass_id: charge.time_pass,
        pass_day: charge.pass_day,
        from_time: charge.from,
        to_time: charge.to,
        minutes: charge.charge.minutes,
        unbounded: charge.charge.unbounded,
        amount: charge.charge.amount,
        currency: charge.charge.currency.to_string(),
        r#final: charge.to.is_some(),
        now,
    }
}

/// The questions about passes, with the number of their arguments.
#[cfg(test)]
pub(super) fn questions() -> [(Statement, usize); 3] {
    [(USED, 3), (COUNTED, 3), (CHARGED, 2)]
}
