//! The fence that lets a gateway commit only while it holds the lease.

use uuid::Uuid;

use super::{
    error::StoreError,
    sql::Transaction,
    statement::{Arg, Statement, statement},
};
use crate::base::record::BusinessId;

/// The last statement of a transaction before its commit. PostgreSQL's row lock keeps the lease unchanged until then:
/// if another gateway takes it before, this batch fails; if after, this batch was valid. SQLite has only one writer
/// anyway. The row is found by the primary key.
const STILL_OURS: Statement = statement!(
    sqlite: "SELECT instance FROM leases WHERE business_id = $1 AND instance = $2",
    postgres: "SELECT instance FROM leases WHERE business_id = $1 AND instance = $2 FOR SHARE"
);

/// The lease that this gateway must still hold when a transaction commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(super) business: BusinessId,
    pub(super) instance: Uuid,
}

impl Fence {
    /// Fails if another gateway has the lease now.
    pub(super) async fn check(self, transaction: &mut Transaction) -> Result<(), StoreError> {
        let args = [Arg::Int(self.business.0), Arg::Text(self.instance.to_string())];
        if transaction.rows(STILL_OURS, &args).await?.is_empty() {
            return Err(StoreError::Unusable {
                what: "another gateway has taken over this site; restart this one to make it the standby".to_owned(),
                source: None,
            });
        }
        Ok(())
    }
}
