//! Deletes expired rows at intervals.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    base::{clock::Clock, record::BusinessId, turns::Turn},
    policy::HISTORY,
    settings::Retention,
    store::{Expired, Store, StoreError},
};

/// How often expired rows are deleted. Retention is counted in days, so an hour's delay does not matter.
const EVERY: Duration = Duration::from_hours(1);

/// The pause between two portions, so a large clean-up never delays a batch by more than one portion.
const PAUSE: Duration = Duration::from_millis(50);

/// How long deleting one portion may take; then it is tried again in the next hour.
const LONGEST_PORTION: Duration = Duration::from_secs(30);

/// Deletes this business's expired rows until stopped. If the database is unavailable, it tries again an hour later.
pub async fn run(
    business: BusinessId,
    retention: Retention,
    store: Store,
    clock: Clock,
    turn: Turn,
    stop: CancellationToken,
) {
    let policy = [
        // A refold for a late fact may still need these, so they are kept regardless of the settings.
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
                delete_expired((what, keep), business, (&store, &clock, &turn), &stop).await;
            }
        }
        turn.rests(clock.real(EVERY));
        if stop.run_until_cancelled(tokio::time::sleep(clock.real(EVERY))).await.is_none() {
            return;
        }
    }
}

/// Deletes one kind of rows, a portion at a time.
async fn delete_expired(
    (what, keep): (Expired, Duration),
    business: BusinessId,
    (store, clock, turn): (&Store, &Clock, &Turn),
    stop: &CancellationToken,
) {
    let mut deleted = 0;
    while !stop.is_cancelled() {
        let before = clock.now().wall.minus(keep);
        turn.works();
        let forgotten = tokio::time::timeout(LONGEST_PORTION, store.forget(what, business, before)).await;
        match forgotten.unwrap_or(Err(StoreError::too_late())) {
            Ok(0) => break,
            Ok(more) => deleted += more,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    what = what.word(),
                    "retention could not delete expired rows"
                );
                return;
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
            break;
        }
    }
    if deleted > 0 {
        tracing::info!(what = what.word(), rows = deleted, "deleted, as [retention] says");
    }
}
