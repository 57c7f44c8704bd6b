//! What a source owes the rest of the daemon: sightings with receipts, through bounded queues, and no decisions.

use std::{fmt, sync::Arc};

use crate::{base::sighting::Presence, mapping::content::Content};

pub mod mqtt;
pub mod network;

/// The queue of door messages between the broker session and the pipeline, in messages.
///
/// Two of the largest batches: while one commits, the next is there. When it is full the session holds a few more and then
/// stops reading, so that the broker keeps the rest.
pub const DELIVERIES: usize = 2048;

/// The queue of coalesced presences between the captures and the pipeline, in hand-overs (each a list of devices).
///
/// When it is full the capture goes on merging into the same entries, so nothing but repetition is lost.
pub const PRESENCES: usize = 16;

/// One message from a controller: what it said, and the right to acknowledge it.
#[derive(Debug)]
pub struct Delivery {
    /// The `[[source]]` that the topic belongs to; the session's own name for a topic that no source claims.
    pub source: Arc<str>,
    /// What the mapping made of it.
    pub content: Content,
    /// Spent once the decision is durable.
    pub receipt: Receipt,
}

/// The devices that one capture hands over together.
pub type Presences = Vec<Presence>;

/// The right to acknowledge one delivery, spent once, after the commit of its decision.
///
/// Dropped unspent, the broker delivers again.
pub struct Receipt(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Receipt {
    /// A receipt that does `acknowledge` when it is spent. `acknowledge` must not block.
    pub fn new(acknowledge: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(acknowledge)))
    }

    /// For a delivery that needs no acknowledgement (QoS 0).
    pub const fn none() -> Self {
        Self(None)
    }

    /// Is there anything to acknowledge?
    pub const fn acknowledges(&self) -> bool {
        self.0.is_some()
    }

    /// Acknowledges. Receipts are spent in the order in which their messages arrived (MQTT 5, 4.6.0-2).
    pub fn spend(self) {
        if let Some(acknowledge) = self.0 {
            acknowledge();
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Receipt" } else { "Receipt(none)" })
    }
}
