//! The counters of one capture, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{coalesce::MergeOutcome, frame::WhyNot};

/// The counters of one capture since it was opened.
#[derive(Debug, Default)]
pub struct CaptureCounters {
    /// Frames that the kernel's filter let through.
    pub frames: AtomicU64,
    /// Frames that were strong evidence.
    pub strong: AtomicU64,
    /// Frames that were weak evidence.
    pub weak: AtomicU64,
    /// ARP, DHCP and neighbour discovery frames that were no evidence.
    pub no_evidence: AtomicU64,
    /// Of those, frames that contain an address that they were not sent from.
    pub suspicious: AtomicU64,
    /// Of those, frames that violate their protocol.
    pub malformed: AtomicU64,
    /// Frames from other VLANs, from this machine and from listed infrastructure.
    pub out_of_scope: AtomicU64,
    /// Strong evidence of unknown devices for which there was no room.
    pub left_out: AtomicU64,
    /// Frames that the kernel dropped because the ring was full.
    pub kernel_drops: AtomicU64,
    /// How often the ring was full.
    pub freezes: AtomicU64,
    /// Seconds since the last frame of any kind, including those that the filter drops; since the start if there was
    /// none.
    pub last_frame: AtomicU64,
}

/// What one block of frames adds to the counters. In a storm, adding each frame to the shared counters would take a
/// tenth of the time.
#[derive(Debug, Default)]
pub(super) struct BlockTally {
    pub(super) frames: u64,
    strong: u64,
    weak: u64,
    no_evidence: u64,
    suspicious: u64,
    malformed: u64,
    out_of_scope: u64,
    left_out: u64,
}

impl BlockTally {
    #[inline]
    pub(super) fn count(&mut self, outcome: MergeOutcome) {
        match outcome {
            MergeOutcome::Strong => self.strong += 1,
            MergeOutcome::Weak => self.weak += 1,
            MergeOutcome::OutOfScope => self.out_of_scope += 1,
            MergeOutcome::LeftOut => self.left_out += 1,
            MergeOutcome::NoEvidence(why) => {
                self.no_evidence += 1;
                self.suspicious += u64::from(why.is_suspicious());
                self.malformed += u64::from(why == WhyNot::Malformed);
            }
        }
    }
}

impl CaptureCounters {
    /// Adds a block. `frames` is last, so a reader that sees the new value also sees what the frames were.
    pub(super) fn add(&self, tally: &BlockTally) {
        add(&self.strong, tally.strong);
        add(&self.weak, tally.weak);
        add(&self.no_evidence, tally.no_evidence);
        add(&self.suspicious, tally.suspicious);
        add(&self.malformed, tally.malformed);
        add(&self.out_of_scope, tally.out_of_scope);
        add(&self.left_out, tally.left_out);
        self.frames.fetch_add(tally.frames, Ordering::Release);
    }
}

/// Adds to one counter. Each counter has one writer, and its readers may be a block late.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    if more > 0 {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}
