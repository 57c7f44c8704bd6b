//! PURE. Distinguishes a dead mirror from an empty building.
//!
//! Any frame counts, so the network's own chatter shows that the mirror works after everyone has left.

use std::time::Duration;

use super::{link::LinkIndex, usual_gaps::UsualGaps};
use crate::base::clock::Now;

/// The state of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MirrorState {
    /// A frame has arrived since the last check.
    Receiving,
    /// A frame has arrived, after a silence.
    Resumed,
    /// No frame has arrived, and that is usual.
    Quiet,
    /// No frame has arrived for longer than usual.
    Silent {
        /// When the last frame arrived; if there was none, when the watch over the interface began.
        since: Now,
        /// The longest time without a frame that is acceptable now.
        longest: Duration,
    },
}

/// The frames of one mirror.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    usual: UsualGaps,
    /// A silence must be longer than this, whatever is usual: the machine may have paused.
    machine_pause: Duration,
    /// The interface, how many frames it had received, and the time of the last one.
    watched: Option<(LinkIndex, u64, Now)>,
    /// Whether any frame has arrived since the watch began.
    received_any: bool,
    silent: bool,
}

impl Mirror {
    /// `machine_pause` is [`MACHINE_PAUSE`](super::usual_gaps::MACHINE_PAUSE) on the capture's clock.
    pub(super) fn new(usual: UsualGaps, machine_pause: Duration) -> Self {
        Self { usual, machine_pause, ..Self::default() }
    }

    /// Checks the mirror by the total number of frames that the interface has received.
    pub(super) fn check(&mut self, index: LinkIndex, received: u64, now: Now) -> MirrorState {
        match &mut self.watched {
            Some((known, frames, _)) if *known == index => {
                if std::mem::replace(frames, received) != received {
                    return self.frame_seen(now);
                }
            }
            Some(_) | None => {
                self.watched = Some((index, received, now));
                (self.received_any, self.silent) = (false, false);
            }
        }
        let Some((_, _, last)) = self.watched else { return MirrorState::Quiet };
        let longest = self.longest(now);
        // A silent mirror stays silent until the next frame, even if the next hour is usually quieter.
        self.silent |= now.boot.since(last.boot) > longest;
        if self.silent { MirrorState::Silent { since: last, longest } } else { MirrorState::Quiet }
    }

    /// A frame has arrived.
    pub(super) fn frame_seen(&mut self, now: Now) -> MirrorState {
        let longest = self.longest(now);
        let Some((_, _, last)) = &mut self.watched else { return MirrorState::Resumed };
        let gap = now.boot.since(std::mem::replace(last, now).boot);
        let usual = !self.silent && gap <= longest;
        // The time before the first frame is not a gap between two frames.
        if std::mem::replace(&mut self.received_any, true) {
            self.usual.record(gap, now.wall);
        }
        self.silent = false;
        if usual { MirrorState::Receiving } else { MirrorState::Resumed }
    }

    fn longest(&self, now: Now) -> Duration {
        self.usual.longest(now.wall).max(self.machine_pause)
    }

    /// Records that the interface is no longer captured: the link is down or gone.
    pub(super) fn detach(&mut self) {
        self.watched = None;
    }

    /// The usual gaps of this mirror.
    pub(super) fn usual_gaps(&mut self) -> &mut UsualGaps {
        &mut self.usual
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::usual_gaps::{MACHINE_PAUSE, SOONEST},
        *,
    };
    use crate::base::clock::{BootTime, WallTime};

    const ETH1: LinkIndex = LinkIndex(3);

    /// Monday 2026-03-02T00:00:00Z.
    const MONDAY: i64 = 1_772_409_600_000;

    fn at(seconds: u64) -> Now {
        Now {
            wall: WallTime::from_millis(MONDAY).plus(Duration::from_secs(seconds)),
            boot: BootTime::from_duration(Duration::from_secs(seconds)),
        }
    }

    /// The usual gaps after `count` hours from Monday on, with a frame every `gap` seconds.
    fn usual_after(count: u64, gap: u64) -> UsualGaps {
        let mut usual = UsualGaps::default();
        for second in (0..count * 3600).step_by(usize::try_from(gap).expect("small")).skip(1) {
            usual.record(Duration::from_secs(gap), at(second).wall);
        }
        usual
    }

    #[test]
    fn a_building_that_empties_on_a_holiday_is_no_failure() {
        let usual = usual_after(168, 2);
        assert_eq!(usual.longest(at((168 + 12) * 3600).wall), SOONEST);
        // Each gap is a second longer than the one before.
        let mut mirror = Mirror::new(usual, MACHINE_PAUSE);
        let (mut second, mut frames) = ((168 + 12) * 3600, 0);
        for gap in (2..240).chain([240; 200]) {
            for quiet in 0..gap {
                let state = mirror.check(ETH1, frames, at(second + quiet));
                assert!(!matches!(state, MirrorState::Silent { .. }), "{state:?} in a gap of {gap} s");
            }
            second += gap;
            frames += 1;
        }
    }

    #[test]
    fn a_mirror_is_silent_from_its_last_frame_on_until_the_next() {
        let mut mirror = Mirror::new(usual_after(4, 1), MACHINE_PAUSE);
        assert_eq!(mirror.check(ETH1, 7, at(10)), MirrorState::Quiet);
        assert_eq!(mirror.check(ETH1, 8, at(11)), MirrorState::Receiving);
        for second in 12..=71 {
            assert_eq!(mirror.check(ETH1, 8, at(second)), MirrorState::Quiet, "{second}");
        }
        let silent = MirrorState::Silent { since: at(11), longest: SOONEST };
        assert_eq!(mirror.check(ETH1, 8, at(72)), silent);
        assert_eq!(mirror.check(ETH1, 8, at(9000)), silent);
        assert_eq!(mirror.check(ETH1, 9, at(9001)), MirrorState::Resumed);
        assert_eq!(mirror.frame_seen(at(9002)), MirrorState::Receiving);
        assert_eq!(mirror.check(ETH1, 10, at(9063)), MirrorState::Resumed, "it was silent, although no check found it");
        assert_eq!(mirror.check(LinkIndex(4), 10, at(9064)), MirrorState::Quiet, "another interface starts afresh");
        mirror.detach();
        assert_eq!(mirror.check(LinkIndex(4), 10, at(20_000)), MirrorState::Quiet, "so does one that was down");
    }
}
