//! Leases decide which of several gateways of a business works. A lease is a row that one of them holds until the time
//! in it has passed by the database's clock. The statements are plain, so any database that speaks PostgreSQL's
//! protocol can run them.

use uuid::Uuid;

use super::{
    error::StoreError,
    fence::Fence,
    handle::Store,
    statement::{Arg, Statement, statement},
};
use crate::base::record::BusinessId;

/// Takes the lease if it has expired, or renews it if it is ours, for ten seconds: see
/// [`crate::base::permit::LEASE_TERM`]. By the primary key, whose row lock lets only one of two gateways win.
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

/// By the primary key.
const HOLDER: Statement = statement!("SELECT holder FROM leases WHERE business_id = $1");

/// By the primary key.
const RELEASE: Statement = statement!(
    sqlite: "UPDATE leases SET expires_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
             WHERE business_id = $1 AND instance = $2",
    postgres: "UPDATE leases SET expires_at = clock_timestamp() WHERE business_id = $1 AND instance = $2"
);

impl Store {
    /// The same database for a gateway that works only while it holds the lease: a batch fails at its commit if this
    /// instance no longer has it.
    #[must_use]
    pub fn fenced(&self, business: BusinessId, instance: Uuid) -> Self {
        Self { fence: Some(Fence { business, instance }), ..self.clone() }
    }

    /// Takes or renews the lease of a business for ten seconds. Returns false if another instance has it.
    pub async fn take_lease(&self, business: BusinessId, holder: &str, instance: Uuid) -> Result<bool, StoreError> {
        let args = [Arg::Int(business.0), Arg::Text(holder.to_owned()), Arg::Text(instance.to_string())];
        Ok(self.sql.change(TAKE, &args).await? > 0)
    }

    /// The gateway that has, or last had, the lease.
    pub async fn lease_holder(&self, business: BusinessId) -> Result<Option<String>, StoreError> {
        let rows = self.sql.read(HOLDER, &[Arg::Int(business.0)]).await?;
        rows.first().map(|row| row.text("holder")).transpose()
    }

    /// Releases the lease, if this instance has it.
    pub async fn release_lease(&self, business: BusinessId, instance: Uuid) -> Result<(), StoreError> {
        let args = [Arg::Int(business.0), Arg::Text(instance.to_string())];
        self.sql.change(RELEASE, &args).await.map(drop)
    }
}
