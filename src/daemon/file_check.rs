//! Checks a SQLite file after a crash, beside the parts that use it: a person at a door must not wait for that.

use std::time::Duration;

use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::{
    base::health::{ConditionKind, Health},
    pipeline,
    store::{Store, StoreError},
};

/// How long to wait if the file cannot be read, and how often the condition of a damaged one is looked after.
const AGAIN: Duration = Duration::from_secs(5);

/// Checks the file once, and keeps the condition raised if it is damaged. Runs until stopped.
pub(super) async fn run(store: Store, health: Health, stop: CancellationToken) {
    loop {
        match store.check(&stop).await {
            Ok(true) => {
                tracing::info!("the last shutdown was unclean; the database was checked and is sound");
                return stop.cancelled().await;
            }
            Ok(false) => return,
            Err(damage @ StoreError::Refused { .. }) => {
                // What another part had begun to read may still clear it.
                if !health.is_raised(ConditionKind::DatabaseUnavailable, "") {
                    health.raise(ConditionKind::DatabaseUnavailable, "", pipeline::outage(&damage, store.is_shared()));
                }
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
