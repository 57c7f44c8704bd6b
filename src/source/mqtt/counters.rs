//! What the broker session counts, for metrics and readiness.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use crate::mapping::content::{Content, RejectReason};

/// Counters of the broker session since the start of the process: plain atomics, read one by one.
#[derive(Debug, Default)]
pub struct MqttCounters {
    /// Whether the broker has accepted the current connection.
    pub connected: AtomicBool,
    /// Topic filters that are configured.
    pub topics: AtomicU64,
    /// Topic filters that the broker granted on this connection.
    pub subscribed: AtomicU64,
    /// Connections that the broker accepted.
    pub connects: AtomicU64,
    /// Attempts that failed, and connections that ended before we stopped.
    pub failures: AtomicU64,
    /// Messages received.
    pub received: AtomicU64,
    /// Bytes of their payloads.
    pub bytes: AtomicU64,
    /// Messages with the DUP flag: delivered before but not acknowledged.
    pub redelivered: AtomicU64,
    /// Sightings in them, counted when they go to the pipeline.
    pub sightings: AtomicU64,
    /// Messages that were understood and need no decision, counted when they go to the pipeline.
    pub ignored: AtomicU64,
    rejected: [AtomicU64; RejectReason::ALL.len()],
    /// QoS 0 messages that were dropped because there was no room, or because intake had ended.
    pub dropped: AtomicU64,
    /// QoS 1 messages that were left with the broker, which sends them again, because there was no room, or because
    /// intake ended while they were held.
    pub shed: AtomicU64,
    /// Messages that are waiting for room in the queue to the pipeline.
    pub held: AtomicU64,
    /// Acknowledgements sent on the connection that delivered the message.
    pub acknowledged: AtomicU64,
    /// Messages that are currently unacknowledged.
    pub unacknowledged: AtomicU64,
    /// Age of the oldest unacknowledged message, in whole seconds.
    pub oldest: AtomicU64,
    /// How long the broker may have kept a message that arrives now, in whole seconds.
    pub waited: AtomicU64,
    /// Receipts that were spent after their connection had ended; the broker delivers their messages again.
    pub stale: AtomicU64,
    sources: Mutex<BTreeMap<Arc<str>, Arc<SourceCounters>>>,
}

/// Counters of one `[[source]]`.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// Events with a time that no format in `time.parse` could read.
    pub times_unreadable: AtomicU64,
    /// Events with a readable time that was not trusted.
    pub times_not_believed: AtomicU64,
    /// Events with a key that an earlier event had used.
    pub keys_reused: AtomicU64,
    /// How far ahead a controller's clock is, in milliseconds, if it is off by a constant: negative for a clock that is
    /// behind, zero if no clock is off.
    pub clock_ahead: AtomicI64,
}

impl MqttCounters {
    /// Whether the broker has granted every subscription of this connection.
    pub fn is_ready(&self) -> bool {
        self.connected.load(Relaxed) && self.subscribed.load(Relaxed) == self.topics.load(Relaxed)
    }

    /// Messages rejected for this reason, counted when they go to the pipeline.
    pub fn rejected(&self, why: RejectReason) -> u64 {
        self.rejected[slot(why)].load(Relaxed)
    }

    /// Everything that went to the pipeline and needs exactly one outcome: sightings, and messages that could not be
    /// mapped.
    pub fn events(&self) -> u64 {
        self.sightings.load(Relaxed) + RejectReason::ALL.map(|why| self.rejected(why)).iter().sum::<u64>()
    }

    /// The counters of a source, which outlive its settings.
    pub fn of_source(&self, source: &Arc<str>) -> Arc<SourceCounters> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(sources.entry(Arc::clone(source)).or_default())
    }

    pub(super) fn count(&self, content: &Content) {
        match content {
            Content::Sightings(sightings) => add(&self.sightings, sightings.len()),
            Content::Ignored => add(&self.ignored, 1),
            Content::Rejected(rejection) => add(&self.rejected[slot(rejection.why)], 1),
        }
    }
}

pub(super) fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Relaxed);
}

fn slot(why: RejectReason) -> usize {
    RejectReason::ALL.into_iter().position(|reason| reason == why).unwrap_or(0)
}
