//! Makes gateways that spend the passes of the same people wait for each other.

use std::collections::BTreeSet;

use super::{
    batch::Batch,
    error::StoreError,
    rows::row,
    sql::Transaction,
    statement::{Arg, Statement, statement},
};
use crate::{
    base::record::CoworkerId,
    directory::{Directory, entity::EntityKind},
    policy::passes::PassPolicy,
};

row! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct KeyRow {
        kind: &'static str,
        id: i64,
    }
}

/// Locks the rows in a fixed order, so two sites that need the same rows wait for each other and never deadlock. By the
/// primary key. `NO KEY` allows rows that refer to these to be written meanwhile.
const LOCK: Statement = statement!(
    rows(KeyRow)
    "SELECT d.id FROM r JOIN directory d ON d.kind = r.kind AND d.id = r.id
     ORDER BY d.kind, d.id FOR NO KEY UPDATE OF d"
);

impl Batch {
    /// Waits for other gateways that are spending the passes of the same people, and makes them wait until the commit.
    /// SQLite has only one writer anyway. Must be called before anything else is read, so the values read include what
    /// they have spent.
    pub(crate) async fn lock_passes(
        &mut self,
        versions: &[&Directory],
        policy: &PassPolicy,
        coworkers: impl IntoIterator<Item = CoworkerId>,
    ) -> Result<(), StoreError> {
        if matches!(self.transaction, Transaction::Sqlite { .. })
            || !versions.iter().any(|version| policy.asks(version))
        {
            return Ok(());
        }
        let mut keys = BTreeSet::new();
        for coworker in coworkers {
            keys.insert(KeyRow { kind: EntityKind::Coworker.word(), id: coworker.0 });
            let pass = EntityKind::CoworkerTimePass.word();
            let usable = versions.iter().flat_map(|version| version.usable(coworker));
            keys.extend(usable.map(|held| KeyRow { kind: pass, id: held.id.0 }));
        }
        if keys.is_empty() {
            return Ok(());
        }
        let keys: Vec<KeyRow> = keys.into_iter().collect();
        self.transaction.rows(LOCK, &[Arg::rows(&keys)]).await.map(drop)
    }
}
