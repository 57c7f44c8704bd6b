//! The slots in which connections are kept between transactions, and those of the API.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time};

use super::transaction::{ConnectionSlot, now};

/// The maximum number of further connections, for the API. If the server has no room for them, the API takes turns on the
/// others.
const SERVING: usize = 2;

/// How long a connection is kept while unused: longer than the pauses between the requests of a client that
/// reads page after page.
const UNUSED: Duration = Duration::from_secs(10);

/// The slots of the API.
pub(super) struct ServingSlots {
    pub(super) first: ConnectionSlot,
    pub(super) second: ConnectionSlot,
    pub(super) turns: Arc<Semaphore>,
}

impl Default for ServingSlots {
    fn default() -> Self {
        let turns = Arc::new(Semaphore::new(SERVING));
        Self { first: ConnectionSlot::default(), second: ConnectionSlot::default(), turns }
    }
}

/// Closes a connection a while after it was last used.
#[expect(clippy::disallowed_methods, reason = "it ends soon, and nothing depends on it")]
pub(super) fn close_when_unused(slot: &ConnectionSlot) {
    let slot = Arc::downgrade(slot);
    tokio::spawn(async move {
        loop {
            time::sleep(UNUSED / 2).await;
            let Some(slot) = slot.upgrade() else { return };
            let Ok(mut place) = slot.try_lock_owned() else { continue };
            match place.take() {
                None => return,
                Some(open) if open.used.is_none_or(|used| now().since(used) >= UNUSED) => {
                    open.close().await;
                    return;
                }
                used => *place = used,
            }
        }
    });
}
