//! Asks a shared database whether it would take a write, also when nothing arrives: a night without a tap must not hide
//! that it refuses them.

use std::time::Duration;

use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::{
    base::health::{ConditionKind, Health, RaisedBy},
    store::{Store, StoreError},
};

/// How often the database is asked: three round trips, which lock nothing and write nothing.
const EVERY: Duration = Duration::from_secs(10);

/// How often it is asked while it refuses or does not answer, to notice the end.
const AGAIN: Duration = Duration::from_secs(2);

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// How often in a row the answer may be missing. A long read may occupy the connection once; what the database refuses is
/// named at once.
const MISSED: u32 = 2;

/// Raises and clears the condition until stopped. If the pipeline has raised it too, that is shown, because the pipeline
/// knows more than this question.
pub(super) async fn run(store: Store, health: Health, stop: CancellationToken) {
    let mut missed = 0;
    let mut is_ours = false;
    while stop.run_until_cancelled(time::sleep(if is_ours { AGAIN } else { EVERY })).await.is_some() {
        let Some(answer) = stop.run_until_cancelled(time::timeout(ANSWER, store.probe())).await else { return };
        let is_named = match answer.unwrap_or(Err(StoreError::too_late())) {
            Ok(()) => {
                missed = 0;
                if is_ours {
                    health.clear_by(RaisedBy::Watch, ConditionKind::DatabaseUnavailable);
                    is_ours = false;
                }
                continue;
            }
            // It answers, and another gateway works.
            Err(StoreError::Conflict) => continue,
            Err(error @ StoreError::Unavailable(_)) => {
                missed += 1;
                (missed >= MISSED).then_some(error)
            }
            Err(error @ (StoreError::Refused { .. } | StoreError::Unfit(_) | StoreError::Unusable { .. })) => {
                Some(error)
            }
        };
        if let Some(error) = is_named {
            let detail = format!("{}; nothing is lost", error.in_words("the database"));
            health.raise_by(RaisedBy::Watch, ConditionKind::DatabaseUnavailable, detail);
            is_ours = true;
        }
    }
}
