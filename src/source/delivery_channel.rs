//! The channel of door messages, bounded in messages and in the bytes that they keep in memory.
//!
//! A message is a few hundred bytes or, with many events and long texts, a thousand times that. The bytes of a delivery
//! count from the moment it is sent until it is dropped, after the commit: what the pipeline is working on counts too.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, mpsc::error::TrySendError};

use super::Delivery;

/// Creates a channel for at most this many messages and bytes.
pub fn delivery_channel(messages: usize, bytes: u32) -> (DeliverySender, mpsc::Receiver<Delivery>) {
    let (channel, receiver) = mpsc::channel(messages);
    (DeliverySender { channel, room: Arc::new(Semaphore::new(bytes as usize)), bytes }, receiver)
}

/// The sender's end.
#[derive(Clone, Debug)]
pub struct DeliverySender {
    channel: mpsc::Sender<Delivery>,
    room: Arc<Semaphore>,
    bytes: u32,
}

/// Room for one delivery.
#[derive(Debug)]
pub struct DeliveryRoom<'a> {
    place: mpsc::Permit<'a, Delivery>,
    bytes: OwnedSemaphorePermit,
}

impl DeliveryRoom<'_> {
    /// Sends a delivery, which takes its bytes with it.
    pub fn send(self, mut delivery: Delivery) {
        delivery.bytes = Some(self.bytes);
        self.place.send(delivery);
    }
}

/// Room for several deliveries, and the bytes that they may take together.
#[derive(Debug)]
pub struct DeliveryRooms<'a> {
    places: mpsc::PermitIterator<'a, Delivery>,
    bytes: OwnedSemaphorePermit,
    is_untouched: bool,
}

impl<'a> DeliveryRooms<'a> {
    /// How many deliveries there is room for, if they are small.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// Room for the next delivery of this many bytes; `None` if too little is left. The first always finds room.
    pub fn next(&mut self, bytes: usize) -> Option<DeliveryRoom<'a>> {
        let left = self.bytes.num_permits();
        let taken = if std::mem::take(&mut self.is_untouched) { bytes.min(left) } else { bytes };
        let bytes = self.bytes.split(taken)?;
        Some(DeliveryRoom { place: self.places.next()?, bytes })
    }
}

impl DeliverySender {
    /// Room for a delivery of this many bytes, if there is some now.
    ///
    /// # Errors
    /// As for [`mpsc::Sender::try_reserve`].
    pub fn try_reserve(&self, bytes: usize) -> Result<DeliveryRoom<'_>, TrySendError<()>> {
        let place = self.channel.try_reserve()?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(self.permits(bytes));
        Ok(DeliveryRoom { place, bytes: room.map_err(|_| TrySendError::Full(()))? })
    }

    /// Waits for room for a delivery of this many bytes; `None` once the receiver is gone. May be dropped at any time.
    pub async fn reserve(&self, bytes: usize) -> Option<DeliveryRoom<'_>> {
        let bytes = self.acquire(bytes).await?;
        Some(DeliveryRoom { place: self.channel.reserve().await.ok()?, bytes })
    }

    /// Room for several deliveries of this many bytes together, if there is some now.
    pub fn try_reserve_many(&self, messages: usize, bytes: usize) -> Option<DeliveryRooms<'_>> {
        let places = self.channel.try_reserve_many(messages).ok()?;
        let bytes = Arc::clone(&self.room).try_acquire_many_owned(self.permits(bytes)).ok()?;
        Some(DeliveryRooms { places, bytes, is_untouched: true })
    }

    /// Waits for room for several deliveries of this many bytes together; `None` once the receiver is gone. May be
    /// dropped at any time.
    pub async fn reserve_many(&self, messages: usize, bytes: usize) -> Option<DeliveryRooms<'_>> {
        let bytes = self.acquire(bytes).await?;
        Some(DeliveryRooms { places: self.channel.reserve_many(messages).await.ok()?, bytes, is_untouched: true })
    }

    async fn acquire(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(self.permits(bytes)) => room.ok(),
            () = self.channel.closed() => None,
        }
    }

    /// Whether no delivery waits in the channel.
    pub fn is_empty(&self) -> bool {
        self.channel.capacity() == self.channel.max_capacity()
    }

    /// The permits for this many bytes. A delivery that is larger than the whole channel takes all of it, and passes
    /// alone.
    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mapping::content::{Content, RejectReason, Rejection},
        source::Receipt,
    };

    fn delivery() -> Delivery {
        let rejection = Rejection { why: RejectReason::Empty, topic: String::new(), sample: String::new() };
        Delivery::new("front".into(), Content::Rejected(rejection), Receipt::none())
    }

    #[tokio::test]
    async fn bytes_are_taken_until_the_delivery_is_dropped() {
        let (sender, mut receiver) = delivery_channel(10, 100);
        sender.try_reserve(60).expect("room").send(delivery());
        assert!(matches!(sender.try_reserve(60), Err(TrySendError::Full(()))));
        let taken = receiver.recv().await.expect("a delivery");
        assert!(matches!(sender.try_reserve(60), Err(TrySendError::Full(()))), "the reader still works on it");
        drop(taken);
        sender.try_reserve(1000).expect("one that is too large passes alone").send(delivery());
        assert!(sender.try_reserve(1).is_err());
        drop(receiver);
        assert!(matches!(sender.try_reserve(1), Err(TrySendError::Closed(()))));
        assert!(sender.reserve(1).await.is_none());
    }

    #[tokio::test]
    async fn several_deliveries_share_what_was_reserved_for_them() {
        let (sender, mut receiver) = delivery_channel(10, 100);
        let mut rooms = sender.reserve_many(3, 80).await.expect("room");
        assert_eq!(rooms.places(), 3);
        rooms.next(50).expect("room").send(delivery());
        assert!(rooms.next(50).is_none(), "only 30 are left");
        drop(rooms);
        assert!(sender.try_reserve_many(1, 60).is_none());
        let mut rooms = sender.try_reserve_many(1, 50).expect("what was not used is free again");
        rooms.next(1000).expect("the first always finds room").send(delivery());
        assert!(rooms.next(0).is_none(), "one place was reserved");
        drop(rooms);
        assert!(sender.try_reserve(1).is_err());
        receiver.recv().await.expect("a delivery");
        assert!(sender.try_reserve(50).is_ok());
    }

    #[tokio::test]
    async fn a_sender_that_waits_for_bytes_notices_the_end() {
        let (sender, mut receiver) = delivery_channel(10, 100);
        sender.try_reserve(100).expect("room").send(delivery());
        let taken = receiver.recv().await.expect("a delivery");
        let (room, ()) = tokio::join!(sender.reserve(10), async { drop(receiver) });
        assert!(room.is_none());
        drop(taken);
    }
}
