//! Notes when a long-lived token was used. No request fails because of it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    access::TokenDigest,
    base::clock::{BootTime, Now},
    store::Store,
};

/// How long a request waits for its use to be stored. A database that takes longer learns of a later use.
const LONGEST: Duration = Duration::from_millis(500);

/// How long no use is stored after one that could not be: the database has other worries.
const PAUSE: Duration = Duration::from_mins(1);

/// Stores uses, one at a time: however many requests come, one of them waits. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenUses(Arc<Mutex<Option<BootTime>>>);

impl TokenUses {
    /// Stores that this token was used. If another use is being stored, the next request with the token comes to it.
    pub(super) async fn note(&self, store: &Store, token: &TokenDigest, now: Now) {
        if self.not_before().is_some_and(|then| now.boot < then) {
            return;
        }
        *self.not_before() = Some(now.boot.plus(PAUSE));
        match timeout(LONGEST, store.note_token_use(token, now.wall)).await {
            Ok(Ok(())) => *self.not_before() = None,
            Ok(Err(error)) => tracing::debug!(%error, "could not store that a token was used"),
            Err(_) => tracing::debug!("could not store in time that a token was used"),
        }
    }

    fn not_before(&self) -> MutexGuard<'_, Option<BootTime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
