//! What a source passes to the rest of the daemon: sightings with receipts, through bounded queues. Sources decide
//! nothing.

use std::{fmt, sync::Arc};

use tokio::sync::OwnedSemaphorePermit;

use crate::{base::sighting::Presence, mapping::content::Content};

mod delivery_channel;
pub mod mqtt;
pub mod network;

pub use delivery_channel::{DeliveryRoom, DeliveryRooms, DeliverySender, delivery_channel};

/// The queue of door messages between the broker session and the pipeline, in messages.
///
/// Holds two of the largest batches: while one commits, the next is ready. When the queue is full, the session holds a
/// few more messages and then stops reading, so the broker keeps the rest.
pub const DELIVERIES: usize = 2048;

/// The memory of the door messages in that queue and in the batch that is taken from it, in bytes.
///
/// Two thousand ordinary messages take 1 MiB of it. It holds some 3,500 events of messages that contain many; deciding
/// them takes a few times as much. When it is full, the same happens as when there are too many messages.
pub const DELIVERY_BYTES: u32 = 2 * 1024 * 1024;

/// The queue of coalesced presences between the captures and the pipeline, in lists of devices.
///
/// When the queue is full, the capture keeps merging into the same entries, so only repetition is lost.
pub const PRESENCES: usize = 16;

/// One message from a controller: its content, and the right to acknowledge it.
#[derive(Debug)]
pub struct Delivery {
    /// The `[[source]]` that the topic belongs to; [`mqtt::session::UNCLAIMED`] if no source claims the topic.
    pub source: Arc<str>,
    /// The result of mapping it.
    pub content: Content,
    /// To be spent once the message is durable.
    pub receipt: Receipt,
    /// The bytes that it takes from the channel in which it was sent, until it is dropped.
    bytes: Option<OwnedSemaphorePermit>,
}

impl Delivery {
    /// A delivery that no channel holds yet.
    pub const fn new(source: Arc<str>, content: Content, receipt: Receipt) -> Self {
        Self { source, content, receipt, bytes: None }
    }

    /// The memory that it needs, in bytes.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.content.memory()
    }
}

/// The devices that one capture sends together.
pub type Presences = Vec<Presence>;

/// The right to acknowledge one delivery. It is spent once: after the commit of its decision or, with a spool, after
/// the spool's fsync.
///
/// If it is dropped unspent, the broker delivers the message again.
pub struct Receipt {
    acknowledge: Option<Box<dyn FnOnce() + Send + Sync>>,
    place: Option<SpoolPlace>,
}

/// The place of a message in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolPlace {
    /// Increases when the spool delivers messages again that it has delivered before.
    pub round: u32,
    /// Later messages have higher numbers.
    pub seq: i64,
}

impl Receipt {
    /// A receipt that calls `acknowledge` when it is spent. `acknowledge` must not block.
    pub fn new(acknowledge: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { acknowledge: Some(Box::new(acknowledge)), place: None }
    }

    /// The same for a message that is in the spool.
    #[must_use]
    pub fn at(self, place: SpoolPlace) -> Self {
        Self { place: Some(place), ..self }
    }

    /// The message's place in the spool, if there is one.
    pub const fn place(&self) -> Option<SpoolPlace> {
        self.place
    }

    /// The receipt of a delivery that needs no acknowledgement (QoS 0).
    pub const fn none() -> Self {
        Self { acknowledge: None, place: None }
    }

    /// Whether spending this receipt acknowledges anything.
    pub const fn acknowledges(&self) -> bool {
        self.acknowledge.is_some()
    }

    /// Acknowledges the message. Acknowledgements go out in order of arrival (MQTT 5, 4.6.0-2), whatever the order of
    /// spending.
    pub fn spend(self) {
        if let Some(acknowledge) = self.acknowledge {
            acknowledge();
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.acknowledges() { "Receipt" } else { "Receipt(none)" })
    }
}
