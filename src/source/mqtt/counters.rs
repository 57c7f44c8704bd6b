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
    /// Is there a connection that the broker has accepted?
    pub connected: AtomicBool,
    /// Topic filters that we want.
    pub topics: AtomicU64,
    /// Topic filters that the broker granted on this connection.
    pub subscribed: AtomicU64,
    /// Connections that the broker accepted.
    pub connects: AtomicU64,
    /// Attempts that failed, and connections that ended although we did not stop.
    pub failures: AtomicU64,
    /// Messages received.
    pub received: AtomicU64,
    /// Bytes of their payloads.
    pub bytes: AtomicU64,
    /// Messages with the DUP flag: delivered before, and not acknowledged.
    pub redelivered: AtomicU64,
    /// Sightings in them, counted when they go to the pipeline.
    pub sightings: AtomicU64,
    /// Messages that were understood and need no decision, counted when they go to the pipeline.
    pub ignored: AtomicU64,
    rejected: [AtomicU64; RejectReason::ALL.len()],
    /// Messages of QoS 0 that were dropped because there was no room, or because intake ended.
    pub dropped: AtomicU64,
    /// Messages of QoS 1 that were left with the broker, which sends them again: because there was no room, or because
    /// intake ended while they were held.
    pub shed: AtomicU64,
    /// Messages that wait now for room in the queue to the pipeline.
    pub held: AtomicU64,
    /// Acknowledgements sent on the connection that the message came on.
    pub acknowledged: AtomicU64,
    /// Messages that are unacknowledged now.
    pub unacknowledged: AtomicU64,
    /// Age of the oldest unacknowledged message, in whole seconds.
    pub oldest: AtomicU64,
    /// How long the broker may have kept a message that comes now, in whole seconds.
    pub waited: AtomicU64,
    /// Receipts that were spent after their connection had ended: the broker delivers their messages again.
    pub stale: AtomicU64,
    sources: Mutex<BTreeMap<Arc<str>, Arc<SourceCounters>>>,
}

/// Counters of one `[[source]]`.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// Events whose controller's time no format of `time.parse` could read.
    pub times_unreadable: AtomicU64,
    /// Events whose controller's time was readable but not believed.
    pub times_not_believed: AtomicU64,
    /// Events with a key that an earlier event used.
    pub keys_reused: AtomicU64,
    /// How far ahead a controller's clock is, in milliseconds, where it is off by a constant: below zero for a clock that
    /// is behind, zero where no clock is off.
    pub clock_ahead: AtomicI64,
}

impl MqttCounters {
    /// Has the broker granted every subscription of this connection?
    pub fn is_ready(&self) -> bool {
        self.connected.load(Relaxed) && self.subscribed.load(Relaxed) == self.topics.load(Relaxed)
    }

    /// Messages rejected for this reason, counted when they go to the pipeline.
    pub fn rejected(&self, why: RejectReason) -> u64 {
        self.rejected[slot(why)].load(Relaxed)
    }

    /// Everything that went to the pipeline and must end in one outcome: sightings, and messages that could not be
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
