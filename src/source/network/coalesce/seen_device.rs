//! PURE. One device in a capture's table: its presence, and the evidence that has not been delivered yet.

use std::{sync::Arc, time::Duration};

use crate::base::{
    clock::{BootTime, Now, WallTime},
    mac::MacAddr,
    sighting::Presence,
};

/// One device.
#[derive(Debug)]
pub(super) struct SeenDevice {
    /// Whether it belongs to a person.
    pub(super) known: bool,
    /// Start of the unbroken presence; `None` while all evidence has been weak.
    since: Option<WallTime>,
    last_strong: Option<BootTime>,
    /// The last evidence that counts against silence.
    pub(super) last_alive: BootTime,
    delivered: Option<BootTime>,
    pub(super) announced: Announced,
    pending: Option<PendingEvidence>,
}

/// Whether the start of this presence has been delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    No,
    /// The address is in the queue of devices that have appeared.
    Queued,
    Yes,
}

/// Evidence that has not been delivered yet.
#[derive(Clone, Copy, Debug)]
struct PendingEvidence {
    first_at: WallTime,
    last_at: WallTime,
    last_strong_at: Option<WallTime>,
    frames: u32,
}

impl SeenDevice {
    pub(super) fn new(known: bool, now: Now) -> Self {
        Self {
            known,
            since: None,
            last_strong: None,
            last_alive: now.boot,
            delivered: None,
            announced: Announced::No,
            pending: None,
        }
    }

    /// Merges one frame of evidence.
    #[inline]
    pub(super) fn merge(&mut self, strong: bool, idle_limit: Duration, now: Now) {
        self.add_pending(strong, now);
        if strong {
            self.merge_strong(idle_limit, now);
        } else {
            self.merge_weak(idle_limit, now);
        }
    }

    fn add_pending(&mut self, strong: bool, now: Now) {
        let pending = self.pending.get_or_insert(PendingEvidence {
            first_at: now.wall,
            last_at: now.wall,
            last_strong_at: None,
            frames: 0,
        });
        pending.first_at = pending.first_at.min(now.wall);
        pending.last_at = now.wall;
        pending.frames = pending.frames.saturating_add(1);
        if strong {
            pending.last_strong_at = Some(now.wall);
        }
    }

    /// A presence begins with strong evidence after a silence. But if an earlier presence is still waiting for room in
    /// the queue, the two become one.
    fn merge_strong(&mut self, idle_limit: Duration, now: Now) {
        let silent = now.boot.since(self.last_alive) > idle_limit;
        let waiting = self.announced == Announced::Queued;
        if self.since.is_none() || (silent && !waiting) {
            self.since = Some(now.wall);
            self.announced = Announced::No;
        }
        self.last_strong = Some(now.boot);
        self.last_alive = now.boot;
    }

    /// Weak evidence prevents silence for at most two idle limits: the network card of a computer that is off answers
    /// all night.
    fn merge_weak(&mut self, idle_limit: Duration, now: Now) {
        if self.last_strong.is_some_and(|strong| now.boot.since(strong) <= idle_limit.saturating_mul(2)) {
            self.last_alive = now.boot;
        }
    }

    /// Whether there is anything to deliver. Weak evidence alone opens nothing, so it is useless for an unknown device.
    #[inline]
    pub(super) fn has_pending(&self) -> bool {
        self.pending.is_some_and(|pending| self.known || pending.last_strong_at.is_some())
    }

    /// When pending evidence is due for delivery.
    #[inline]
    pub(super) fn due_at(&self, refresh: Duration, now: Now) -> BootTime {
        self.delivered.map_or(now.boot, |at| at.plus(refresh))
    }

    /// Takes the pending evidence; `None` if there is none.
    pub(super) fn take_presence(&mut self, interface: &Arc<str>, mac: MacAddr, now: Now) -> Option<Presence> {
        let pending = self.pending.take()?;
        self.delivered = Some(now.boot);
        Some(Presence {
            interface: Arc::clone(interface),
            mac,
            since: self.since.unwrap_or(pending.first_at),
            first_at: pending.first_at,
            last_at: pending.last_at,
            last_strong_at: pending.last_strong_at,
            frames: pending.frames,
            arrived: now,
        })
    }
}
