//! Notes when a long-lived token was used. No request waits for that, and none fails because of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{access::TokenDigest, base::clock::WallTime, store::Store};

/// Stores uses, one at a time: a database that does not answer has one waiting write, however many requests come.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenUses(Arc<AtomicBool>);

impl TokenUses {
    /// Stores that this token was used. If another use is being stored, the next request with the token comes to it.
    pub(super) fn note(&self, store: &Store, token: &TokenDigest, now: WallTime) {
        if self.0.swap(true, Ordering::AcqRel) {
            return;
        }
        let (is_busy, store, token) = (Arc::clone(&self.0), store.clone(), token.clone());
        tokio::spawn(async move {
            if let Err(error) = store.note_token_use(&token, now).await {
                tracing::debug!(%error, "could not store that a token was used");
            }
            is_busy.store(false, Ordering::Release);
        });
    }
}
