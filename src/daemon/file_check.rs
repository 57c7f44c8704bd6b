//! Checks a SQLite file after a crash, beside the parts that use it: a person at a door must not wait for that. Reports
//! damage, whichever part finds it.

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

/// Checks the file once, if the last process did not close it. Raises the condition as soon as the file is found to be
/// damaged, by the check or by any other part, until a restart. Runs until stopped.
pub(super) async fn run(store: Store, was_left_open: bool, health: Health, stop: CancellationToken) {
    let check = async {
        if !was_left_open {
            return;
        }
        loop {
            match store.check(&stop).await {
                Ok(true) => {
                    return tracing::info!("the last shutdown was unclean; the database was checked and is sound");
                }
                // Stopped, or damaged, which is reported below.
                Ok(false) | Err(StoreError::Refused { .. }) => return,
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "the database cannot be checked yet");
                }
            }
            if stop.run_until_cancelled(time::sleep(AGAIN)).await.is_none() {
                return;
            }
        }
    };
    let report = async {
        if let Some(damage) = stop.run_until_cancelled(store.until_damaged()).await {
            let detail = pipeline::outage(&damage, store.is_shared());
            health.raise_by(RaisedBy::Check, ConditionKind::DatabaseUnavailable, detail);
        }
    };
    tokio::join!(check, report);
    stop.cancelled().await;
}
