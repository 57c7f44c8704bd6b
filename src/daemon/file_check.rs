//! Checks a SQLite file after a crash, beside the parts that use it: a person at a door must not wait for that.

use std::time::Duration;

use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::{
    base::health::{ConditionKind, Health, RaisedBy},
    pipeline,
    store::{Store, StoreError},
};

/// How long to wait if the file cannot be read.
const AGAIN: Duration = Duration::from_secs(5);

/// Checks the file once, and raises the condition if it is damaged: until a restart. Runs until stopped.
pub(super) async fn run(store: Store, health: Health, stop: CancellationToken) {
    loop {
        match store.check(&stop).await {
            Ok(true) => {
                tracing::info!("the last shutdown was unclean; the database was checked and is sound");
                return stop.cancelled().await;
            }
            Ok(false) => return,
            Err(damage @ StoreError::Refused { .. }) => {
                let detail = pipeline::outage(&damage, store.is_shared());
                health.raise_by(RaisedBy::Check, ConditionKind::DatabaseUnavailable, detail);
                return stop.cancelled().await;
            }
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the database cannot be checked yet");
            }
        }
        if stop.run_until_cancelled(time::sleep(AGAIN)).await.is_none() {
            return;
        }
    }
}
