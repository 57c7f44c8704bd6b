//! The queue to the pipeline: the bounded channel, and the deliveries that wait for room in it.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::sync::mpsc::error::TrySendError;

use crate::{
    mapping::content::Content,
    source::{
        Delivery, DeliverySender,
        mqtt::counters::{MqttCounters, add},
    },
};

/// How many sightings wait here for room in the queue to the pipeline before the connection is no longer read.
///
/// When `LONGEST_PAUSE` has passed and we have sent nothing meanwhile, further messages are left with the broker (QoS
/// 1) or dropped (QoS 0). A longer flood of QoS 0 is partly dropped, because we send only pings meanwhile.
pub const MOST_HELD: usize = 1024;

/// The path of deliveries to the pipeline.
pub(super) struct DeliveryQueue {
    /// `None` once intake has ended.
    channel: Option<DeliverySender>,
    held: VecDeque<Delivery>,
    /// Sightings in `held`, each message at least one.
    weight: usize,
    /// How many messages were skipped since that was logged; `None` while there is room.
    skipped: Option<u64>,
    counters: Arc<MqttCounters>,
}

impl DeliveryQueue {
    pub(super) const fn new(channel: DeliverySender, counters: Arc<MqttCounters>) -> Self {
        Self { channel: Some(channel), held: VecDeque::new(), weight: 0, skipped: None, counters }
    }

    /// Whether intake has ended, because we closed it or because the pipeline is gone.
    pub(super) const fn is_closed(&self) -> bool {
        self.channel.is_none()
    }

    /// Whether there is no room to hold another message.
    pub(super) const fn is_full(&self) -> bool {
        self.weight >= MOST_HELD
    }

    /// Whether any delivery is waiting for room in the channel.
    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Sends a delivery to the pipeline, or holds it until there is room.
    pub(super) fn offer(&mut self, delivery: Delivery) {
        let Some(channel) = self.channel.clone() else {
            return self.count_unsent(&delivery);
        };
        // If others are waiting, this one has to wait behind them, to keep the order.
        let room =
            if self.held.is_empty() { channel.try_reserve(delivery.memory()) } else { Err(TrySendError::Full(())) };
        match room {
            Ok(room) => {
                self.counters.count(&delivery.content);
                room.send(delivery);
            }
            Err(TrySendError::Full(())) => {
                self.weight += weight(&delivery);
                self.held.push_back(delivery);
                self.counters.held.store(self.held.len() as u64, Relaxed);
            }
            Err(TrySendError::Closed(())) => {
                self.count_unsent(&delivery);
                self.close();
            }
        }
    }

    /// Waits for room, then sends the oldest. Removes nothing before there is room, so it is safe to cancel.
    pub(super) async fn forward(&mut self) {
        let Some(channel) = &self.channel else {
            return self.close();
        };
        let Some(room) = channel.reserve(self.held.front().map_or(0, Delivery::memory)).await else {
            return self.close();
        };
        if let Some(delivery) = self.held.pop_front() {
            self.weight = self.weight.saturating_sub(weight(&delivery));
            self.counters.held.store(self.held.len() as u64, Relaxed);
            self.counters.count(&delivery.content);
            room.send(delivery);
        }
        if self.held.is_empty()
            && let Some(skipped) = self.skipped.take()
        {
            tracing::info!(skipped, "accepting door messages again");
        }
    }

    /// Counts a message for which there is no room.
    pub(super) fn skip(&mut self, broker_keeps_it: bool) {
        if self.skipped.is_none() {
            tracing::warn!(
                held = self.held.len(),
                "too many door messages are waiting for the database; further ones stay with the broker (QoS 1) or are \
                 dropped (QoS 0)"
            );
        }
        *self.skipped.get_or_insert(0) += 1;
        add(if broker_keeps_it { &self.counters.shed } else { &self.counters.dropped }, 1);
    }

    /// Counts a message that will not reach the pipeline.
    fn count_unsent(&self, delivery: &Delivery) {
        let counter = if delivery.receipt.acknowledges() { &self.counters.shed } else { &self.counters.dropped };
        add(counter, 1);
    }

    /// Ends intake. The pipeline sees the end of the channel once it has read everything in it. Deliveries still held
    /// here are left with the broker.
    pub(super) fn close(&mut self) {
        self.channel = None;
        for delivery in std::mem::take(&mut self.held) {
            self.count_unsent(&delivery);
        }
        self.weight = 0;
        self.counters.held.store(0, Relaxed);
    }
}

fn weight(delivery: &Delivery) -> usize {
    match &delivery.content {
        Content::Sightings(sightings) => sightings.len().max(1),
        Content::Ignored | Content::Rejected(_) => 1,
    }
}
