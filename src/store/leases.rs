//! Which of several gateways of one business works: a row that one of them holds, for as long as the database's clock
//! says. Plain statements, so that any engine that speaks PostgreSQL's protocol can do it.

use uuid::Uuid;

use super::{
    Store, StoreError,
    sql::{Arg, Statement, Transaction, statement},
};
use crate::base::record::BusinessId;

/// Takes the lease, or prolongs it: it is ours, or nobody's any more. Ten seconds, see [`crate::base::permit::LEASE_TERM`].
const TAKE: Statement = statement!(
    sqlite: "INSERT INTO leases (business_id, holder, instance, expires_at)
             VALUES ($1, $2, $3, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+10 seconds'))
             ON CONFLICT (business_id) DO UPDATE SET
               holder = excluded.holder, instance = excluded.instance, expires_at = excluded.expires_at
             WHERE leases.instance = excluded.instance OR leases.expires_at <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
    postgres: "INSERT INTO leases (business_id, holder, instance, expires_at)
             VALUES ($1, $2, $3, clock_timestamp() + interval '10 seconds')
             ON CONFLICT (business_id) DO UPDATE SET
               holder = excluded.holder, instance = excluded.instance, expires_at = excluded.expires_at
             WHERE leases.instance = excluded.instance OR leases.expires_at <= clock_timestamp()"
);

const HOLDER: Statement = statement!("SELECT holder FROM leases WHERE business_id = $1");

const RELEASE: Statement = statement!(
    sqlite: "UPDATE leases SET expires_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
             WHERE business_id = $1 AND instance = $2",
    postgres: "UPDATE leases SET expires_at = clock_timestamp() WHERE business_id = $1 AND instance = $2"
);

/// The last word of a transaction before its commit. PostgreSQL keeps the row as it is until then: whoever takes the
/// lease does so before, and we fail, or after, and we were right. SQLite's writer is alone anyway.
const STILL_OURS: Statement = statement!(
    sqlite: "SELECT instance FROM leases WHERE business_id = $1 AND instance = $2",
    postgres: "SELECT instance FROM leases WHERE business_id = $1 AND instance = $2 FOR SHARE"
);

/// What a transaction must find at its end to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    business: BusinessId,
    instance: Uuid,
}

impl Fence {
    /// Fails when somebody else has the lease now.
    pub(super) async fn check(self, transaction: &mut Transaction) -> Result<(), StoreError> {
        let args = [Arg::Int(self.business.0), Arg::Text(self.instance.to_string())];
        if transaction.rows(STILL_OURS, &args).await?.is_empty() {
            return Err(StoreError::Unusable {
                what: "another gateway has taken over this site; this one must start again, as its standby".to_owned(),
                source: None,
            });
        }
        Ok(())
    }
}

impl Store {
    /// The same database, for the decisions of a gateway that works only while it holds the lease: every batch fails at its
    /// end if the lease is not this instance's any more.
    #[must_use]
    pub fn fenced(&self, business: BusinessId, instance: Uuid) -> Self {
        Self { sql: self.sql.clone(), fence: Some(Fence { business, instance }) }
    }

    /// Takes or prolongs the lease of a business for ten seconds; false when another instance has it.
    pub async fn take_lease(&self, business: BusinessId, holder: &str, instance: Uuid) -> Result<bool, StoreError> {
        let args = [Arg::Int(business.0), Arg::Text(holder.to_owned()), Arg::Text(instance.to_string())];
        Ok(self.sql.change(TAKE, &args).await? > 0)
    }

    /// The gateway that has, or last had, the lease.
    pub async fn lease_holder(&self, business: BusinessId) -> Result<Option<String>, StoreError> {
        let rows = self.sql.read(HOLDER, &[Arg::Int(business.0)]).await?;
        rows.first().map(|row| row.text("holder")).transpose()
    }

    /// Gives the lease back, if this instance has it.
    pub async fn release_lease(&self, business: BusinessId, instance: Uuid) -> Result<(), StoreError> {
        let args = [Arg::Int(business.0), Arg::Text(instance.to_string())];
        self.sql.change(RELEASE, &args).await.map(drop)
    }
}
