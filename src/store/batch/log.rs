//! `facts`: the log.

use crate::{
    base::fact::{LogDay, StoredFact, Subject},
    engine::decision::DecisionCode,
    store::{
        batch::transaction::Batch,
        columns::sql,
        error::StoreError,
        rows::row,
        statement::{Arg, Statement, statement},
        stored::{Row, StoredRow},
    },
};

/// Declares a row with the columns of a fact and some more, and the conversions from and to the fact.
macro_rules! fact_row {
    ($(#[$of:meta])* $vis:vis struct $name:ident { $($field:ident: $kind:ty),+ $(,)? }) => {
        $crate::store::rows::row! {
            read
            $(#[$of])*
            $vis struct $name {
                day: $crate::base::fact::LogDay,
                subject: $crate::base::fact::Subject,
                at: i64,
                digest: [u8; 16],
                business_id: $crate::base::record::BusinessId,
                arrived: bool,
                $($field: $kind,)+
                payload: Vec<u8>,
            }
        }

        impl $name {
            /// The row of a fact.
            fn of(fact: $crate::base::fact::StoredFact, $($field: $kind),+) -> Self {
                let $crate::base::fact::StoredFact { business, day, subject, at, digest, arrived, payload } = fact;
                Self {
                    day,
                    subject,
                    at: at.millis(),
                    digest: digest.0,
                    business_id: business,
                    arrived,
                    $($field,)+
                    payload,
                }
            }

            /// The fact, and the other columns.
            fn into_parts(self) -> ($crate::base::fact::StoredFact, $($kind),+) {
                let fact = $crate::base::fact::StoredFact {
                    business: self.business_id,
                    day: self.day,
                    subject: self.subject,
                    at: $crate::base::clock::WallTime::from_millis(self.at),
                    digest: $crate::base::fact::FactDigest(self.digest),
                    arrived: self.arrived,
                    payload: self.payload,
                };
                (fact, $(self.$field),+)
            }
        }
    };
}
pub(in crate::store) use fact_row;

fact_row! {
    /// A row of the log.
    pub(in crate::store) struct FactRow {
        decision: i64,
    }
}

row! {
    /// The key of a fact, and its decision.
    struct FactKeyRow {
        day: LogDay,
        subject: Subject,
        at: i64,
        digest: [u8; 16],
        decision: i64,
    }
}

const KEY: &[&str] = &["day", "subject", "at", "digest"];

row! {
    /// A day of a subject.
    pub(super) struct DayRow {
        subject: Subject,
        day: LogDay,
    }
}

/// By the primary key, whose first columns are the day and the subject.
pub(super) const FACTS: Statement = statement!(
    rows(DayRow)
    sql!("SELECT ", [FactRow: "f.*"], " FROM r CROSS JOIN facts f WHERE f.day = r.day AND f.subject = r.subject")
);

/// A fact that already exists stays as it is and is not counted. It is identified by the primary key or, without a time
/// of its own, by the unique index `facts_arrived`.
pub(in crate::store) const PUT_FACTS: Statement = statement!(
    rows(FactRow)
    sql!("INSERT INTO facts (", [FactRow: "*"], ") SELECT ", [FactRow: "*"], " FROM r WHERE true ON CONFLICT DO NOTHING")
);

/// By the primary key.
const DECIDE_FACTS: Statement = statement!(
    rows(FactKeyRow)
    "UPDATE facts SET decision = r.decision FROM r
     WHERE facts.day = r.day AND facts.subject = r.subject AND facts.at = r.at AND facts.digest = r.digest"
);

/// By the primary key.
const DROP_FACTS: Statement = statement!(
    rows(FactKeyRow)
    sql!(
        "DELETE FROM facts WHERE (", [FactKeyRow, only KEY: "*"], ") IN (SELECT ", [FactKeyRow, only KEY: "*"],
        " FROM r)",
    )
);

/// A fact and the decision on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DecidedFact {
    pub(crate) fact: StoredFact,
    pub(crate) decision: DecisionCode,
}

impl From<FactRow> for DecidedFact {
    fn from(row: FactRow) -> Self {
        let (fact, decision) = row.into_parts();
        Self { fact, decision: DecisionCode(decision) }
    }
}

impl From<&DecidedFact> for FactRow {
    fn from(decided: &DecidedFact) -> Self {
        Self::of(decided.fact.clone(), decided.decision.0)
    }
}

/// The fact and the decision in a row of the log.
pub(super) fn decided_fact(row: &Row) -> Result<DecidedFact, StoreError> {
    FactRow::read(row).map(DecidedFact::from)
}

fn key_row(fact: &StoredFact, decision: DecisionCode) -> FactKeyRow {
    let StoredFact { day, subject, at, digest, .. } = fact;
    FactKeyRow { day: *day, subject: *subject, at: at.millis(), digest: digest.0, decision: decision.0 }
}

pub(super) fn day_rows(days: &[(Subject, LogDay)]) -> Vec<DayRow> {
    days.iter().map(|&(subject, day)| DayRow { subject, day }).collect()
}

impl Batch {
    /// The facts of these people on these days.
    pub(crate) async fn facts(&mut self, days: &[(Subject, LogDay)]) -> Result<Vec<DecidedFact>, StoreError> {
        let mut facts = Vec::new();
        if days.is_empty() {
            return Ok(facts);
        }
        let each = |row: Row| {
            facts.push(decided_fact(&row)?);
            Ok(())
        };
        self.transaction.rows_each(FACTS, &[Arg::rows(&day_rows(days))], each).await?;
        Ok(facts)
    }

    /// Deletes facts, then writes new ones, in this order because a fact whose time was wrong may be in both. Then
    /// changes decisions.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a new fact already exists.
    pub(super) async fn write_log(
        &mut self,
        gone: &[StoredFact],
        new: &[DecidedFact],
        decided_again: &[DecidedFact],
    ) -> Result<(), StoreError> {
        let gone: Vec<FactKeyRow> = gone.iter().map(|fact| key_row(fact, DecisionCode(0))).collect();
        self.change_rows(DROP_FACTS, &gone).await?;
        self.change_all_rows(PUT_FACTS, &new.iter().map(FactRow::from).collect::<Vec<_>>()).await?;
        let again = decided_again.iter().map(|decided| key_row(&decided.fact, decided.decision));
        self.change_rows(DECIDE_FACTS, &again.collect::<Vec<_>>()).await
    }
}

#[cfg(test)]
pub(super) fn tables() -> Vec<(&'static str, &'static [crate::store::columns::Column])> {
    use crate::store::columns::Columns;
    vec![("facts", FactRow::COLUMNS), ("facts", FactKeyRow::COLUMNS)]
}

#[cfg(test)]
pub(super) fn statements() -> Vec<(Statement, usize)> {
    [FACTS, PUT_FACTS, DECIDE_FACTS, DROP_FACTS].map(|statement| (statement, 1)).to_vec()
}

#[cfg(test)]
pub(super) fn indexed() -> Vec<(Statement, usize, &'static [&'static str])> {
    const KEY_OF_FACT: &[&str] = &["SEARCH facts USING PRIMARY KEY (day=? AND subject=? AND at=? AND digest=?)"];
    vec![
        (FACTS, 1, &["SEARCH f USING PRIMARY KEY (day=? AND subject=?)"]),
        (DROP_FACTS, 1, KEY_OF_FACT),
        (DECIDE_FACTS, 1, KEY_OF_FACT),
    ]
}
