//! The transaction of one batch.

use crate::store::{
    error::StoreError,
    fence::Fence,
    handle::Store,
    limits::UPGRADE,
    rows::WrittenRow,
    sql::Transaction,
    statement::{Arg, Statement},
};

/// The transaction of one batch. If it is dropped before its commit, nothing of it remains.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(in crate::store) transaction: Transaction,
    fence: Option<Fence>,
}

impl Store {
    /// Begins the transaction of a batch.
    pub(crate) async fn batch(&self) -> Result<Batch, StoreError> {
        Ok(Batch { transaction: self.sql.begin().await?, fence: self.fence })
    }

    /// The same for an upgrade, whose statements may take longer.
    pub(crate) async fn upgrade_batch(&self) -> Result<Batch, StoreError> {
        Ok(Batch { transaction: self.sql.begin_within(UPGRADE).await?, fence: self.fence })
    }
}

impl Batch {
    /// Runs a statement with these rows; does nothing if there are none.
    pub(in crate::store) async fn change_rows<T: WrittenRow>(
        &mut self,
        statement: Statement,
        rows: &[T],
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.transaction.change(statement, &[Arg::rows(rows)]).await.map(drop)
    }

    /// The same if every row must be written. A row that is not has been written by another gateway since it was read.
    pub(super) async fn change_all_rows<T: WrittenRow>(
        &mut self,
        statement: Statement,
        rows: &[T],
    ) -> Result<(), StoreError> {
        if !rows.is_empty() && self.transaction.change(statement, &[Arg::rows(rows)]).await? < rows.len() as u64 {
            return Err(StoreError::Conflict);
        }
        Ok(())
    }

    /// Makes the batch durable, if this gateway may still write.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        // Last, so the row lock of the lease is held for as short a time as possible.
        if let Some(fence) = self.fence {
            fence.check(&mut self.transaction).await?;
        }
        self.transaction.commit().await
    }
}
