//! PURE. Limits how many rejected messages are recorded.

use std::time::Duration;

use crate::base::clock::BootTime;

/// The maximum number of rejected messages recorded per minute; the rest are only counted. Enough to see what a
/// controller sends, too few to fill a disk.
const REJECTIONS_A_MINUTE: u32 = 30;

/// A limit per minute.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RateLimit {
    minute: Option<BootTime>,
    used: u32,
}

impl RateLimit {
    /// Counts a message, and returns whether it may be recorded.
    pub(super) fn take(&mut self, now: BootTime) -> bool {
        if self.minute.is_none_or(|minute| now.since(minute) >= Duration::from_mins(1)) {
            *self = Self { minute: Some(now), used: 0 };
        }
        self.used += 1;
        self.used <= REJECTIONS_A_MINUTE
    }
}
