//! Forgets what the policy says to forget: a reconciler, idempotent, by time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    base::{clock::Clock, record::BusinessId},
    policy::HISTORY,
    settings::Retention,
    store::{Expired, Store},
};

/// How often it looks. Retention is counted in days, so an hour late is nothing.
const EVERY: Duration = Duration::from_hours(1);

/// The pause between two portions, so that a large clean-up never holds up a batch for longer than one of them.
const BETWEEN: Duration = Duration::from_millis(50);

/// Deletes this business's expired rows until it is stopped. A database that is away is tried again an hour later.
pub async fn run(business: BusinessId, retention: Retention, store: Store, clock: Clock, stop: CancellationToken) {
    let policy = [
        // What may still be folded again is kept, whatever the settings say.
        (Expired::Facts, retention.sightings.map(|keep| keep.max(HISTORY))),
        (Expired::Checkpoints, Some(HISTORY)),
        (Expired::Checkins, retention.checkins),
        (Expired::FailedCheckins, retention.failed_checkins),
        (Expired::UnrecognisedDevices, retention.unrecognised),
        (Expired::Coverage, Some(HISTORY)),
    ];
    loop {
        for (what, keep) in policy {
            if let Some(keep) = keep {
                forget(what, business, keep, &store, &clock, &stop).await;
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(clock.real(EVERY))).await.is_none() {
            return;
        }
    }
}

async fn forget(
    what: Expired,
    business: BusinessId,
    keep: Duration,
    store: &Store,
    clock: &Clock,
    stop: &CancellationToken,
) {
    let mut forgotten = 0;
    while !stop.is_cancelled() {
        let before = clock.now().wall.minus(keep);
        match store.forget(what, business, before).await {
            Ok(0) => break,
            Ok(more) => forgotten += more,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    what = what.word(),
                    "retention could not delete"
                );
                return;
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(BETWEEN)).await.is_none() {
            break;
        }
    }
    if forgotten > 0 {
        tracing::info!(what = what.word(), rows = forgotten, "forgotten, as the retention policy says");
    }
}
