//! What the broker session counts; metrics and readiness read it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use crate::mapping::content::{Content, RejectReason};

/// Counters of the broker session since the start of the process; plain atomics, each true by itself.
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
    /// Attempts that failed, and connections that ended without our wish.
    pub failures: AtomicU64,
    /// Messages.
    pub received: AtomicU64,
    /// Bytes of their payloads.
    pub bytes: AtomicU64,
    /// Messages with the DUP flag: delivered before, and not acknowledged.
    pub redelivered: AtomicU64,
    /// Sightings in them, counted when the pipeline is given them.
    pub sightings: AtomicU64,
    /// Messages that were understood and say nothing to decide, counted likewise.
    pub ignored: AtomicU64,
    rejected: [AtomicU64; RejectReason::ALL.len()],
    /// Messages of QoS 0 that were dropped, likewise.
    pub dropped: AtomicU64,
    /// Messages of QoS 1 that were left with the broker, which sends them again: because nothing more could be held, or
    /// because intake ended while they were.
    pub shed: AtomicU64,
    /// Messages that wait for room in the queue to the pipeline, now.
    pub held: AtomicU64,
    /// Acknowledgements handed to the connection that the message came on.
    pub acknowledged: AtomicU64,
    /// Messages that are not acknowledged yet, now.
    pub unacknowledged: AtomicU64,
    /// Whole seconds since the oldest of them came.
    pub oldest: AtomicU64,
    /// Whole seconds for which the broker may have kept a message that comes now.
    pub waited: AtomicU64,
    /// Receipts that were spent after their connection had ended: the broker delivers those messages again.
    pub stale: AtomicU64,
    sources: Mutex<BTreeMap<Arc<str>, Arc<SourceCounters>>>,
}

/// Counters of one `[[source]]`.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// Events whose controller's time no format of `time.parse` could read.
    pub times_unreadable: AtomicU64,
    /// Events whose controller's time was read and not believed.
    pub times_not_believed: AtomicU64,
    /// Events with a key that another event had before them.
    pub keys_reused: AtomicU64,
    /// How far ahead the clock of a controller is that is off by a constant, in milliseconds; below zero for one that is
    /// behind, zero where none is off.
    pub clock_ahead: AtomicI64,
}

impl MqttCounters {
    /// Has the broker granted every subscription of this connection?
    pub fn is_ready(&self) -> bool {
        self.connected.load(Relaxed) && self.subscribed.load(Relaxed) == self.topics.load(Relaxed)
    }

    /// Messages rejected for this reason, counted likewise.
    pub fn rejected(&self, why: RejectReason) -> u64 {
        self.rejected[slot(why)].load(Relaxed)
    }

    /// Everything that the pipeline was given and must end in one outcome: sightings, and messages that could not be
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
