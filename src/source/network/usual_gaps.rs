//! PURE. Is the mirror dead, or the building empty? How long each is usually without any frame, by the hour of the week.
//!
//! Any frame counts, so that the network's own chatter shows that the mirror works when everybody has gone. What is usual is
//! learnt: an hour of the week is compared with itself, with the hours beside it, and with the last two hours, so that a
//! building that empties on a holiday is no failure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::link::LinkIndex;
use crate::base::clock::{EARLIEST, Now, WallTime};

/// No mirror is called silent sooner: the quietest live network has a frame a minute, be it only its spanning tree's.
pub const SOONEST: Duration = Duration::from_mins(1);

/// No mirror is silent for longer without being called so, whatever it usually is; also one that is not known yet.
pub const LATEST: Duration = Duration::from_mins(10);

/// A machine may be busy for so long. It matters where a clock runs faster than the machine's, as in the demo.
pub const MOMENT: Duration = Duration::from_secs(3);

/// Hours of a week, from Thursday 00:00 UTC on, as the days since 1970 are. Daylight saving time moves a site by one,
/// which the hours beside it bear.
const HOURS: usize = 168;

const HOUR: i64 = 3_600_000;

/// An hour shows what is usual when at least so much of it was heard.
const ENOUGH: Duration = Duration::from_mins(30);

/// The longest gaps between two frames. All of it is some hundred octets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsualGaps {
    /// In seconds, by the hour of the week; none of one that was never heard.
    hours: Vec<Option<u16>>,
    #[serde(skip)]
    current: Option<Hour>,
    /// The longest gap of the hour before.
    #[serde(skip)]
    before: Duration,
    #[serde(skip)]
    news: bool,
}

/// The hour that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hour {
    /// Since 1970.
    number: i64,
    longest: Duration,
    heard: Duration,
}

impl Default for UsualGaps {
    fn default() -> Self {
        Self { hours: vec![None; HOURS], current: None, before: Duration::ZERO, news: false }
    }
}

impl UsualGaps {
    /// What was kept, unless it is something else.
    pub fn kept(self) -> Option<Self> {
        (self.hours.len() == HOURS).then_some(self)
    }

    /// For how long there may be nothing at this time: twice the longest gap that is usual, since what is a little longer than
    /// ever before is no failure.
    pub fn longest(&self, now: WallTime) -> Duration {
        let number = now.millis() / HOUR;
        if self.of(number).is_none() {
            return LATEST;
        }
        let usual = [number - 1, number, number + 1].into_iter().filter_map(|hour| self.of(hour));
        let lately = match self.current {
            Some(hour) if hour.number == number => hour.longest.max(self.before),
            Some(hour) if hour.number + 1 == number => hour.longest,
            Some(_) | None => Duration::ZERO,
        };
        let longest = usual.max().unwrap_or_default().max(lately);
        longest.saturating_mul(2).clamp(SOONEST, LATEST)
    }

    /// A gap has ended with a frame. One that is longer than any may be is a failure, and teaches nothing.
    pub fn ended(&mut self, gap: Duration, now: WallTime) {
        if gap > LATEST || now < EARLIEST {
            return;
        }
        self.turn(now);
        if let Some(hour) = &mut self.current {
            hour.longest = hour.longest.max(gap);
            hour.heard += gap;
        }
    }

    /// The capture ends: what is known of the hour that goes on is kept.
    pub fn finish(&mut self) {
        if let Some(hour) = self.current.take() {
            self.learn(hour);
        }
    }

    /// Is there more to keep than when it was last asked?
    pub fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Begins the hour of `now`, if it has not begun.
    fn turn(&mut self, now: WallTime) {
        let number = now.millis() / HOUR;
        let over = self.current.filter(|hour| hour.number != number);
        if let Some(hour) = over {
            self.learn(hour);
            self.before = if hour.number + 1 == number { hour.longest } else { Duration::ZERO };
        }
        if over.is_some() || self.current.is_none() {
            self.current = Some(Hour { number, longest: Duration::ZERO, heard: Duration::ZERO });
        }
    }

    /// Longer gaps are usual at once; shorter ones by and by, half of the way a week.
    fn learn(&mut self, hour: Hour) {
        let seconds = u16::try_from(hour.longest.as_millis().div_ceil(1000)).unwrap_or(u16::MAX);
        let heard_enough = hour.heard >= ENOUGH;
        let Some(known) = self.hours.get_mut(slot(hour.number)) else { return };
        let learnt = match *known {
            Some(usual) if seconds < usual && heard_enough => seconds.midpoint(usual),
            Some(usual) => usual.max(seconds),
            None if heard_enough => seconds,
            None => return,
        };
        self.news |= *known != Some(learnt);
        *known = Some(learnt);
    }

    fn of(&self, hour: i64) -> Option<Duration> {
        self.hours.get(slot(hour)).copied().flatten().map(|seconds| Duration::from_secs(seconds.into()))
    }
}

fn slot(hour: i64) -> usize {
    usize::try_from(hour.rem_euclid(168)).unwrap_or(0)
}

/// How a mirror stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorState {
    /// A frame has come since the last look.
    Heard,
    /// One has, after a silence.
    Back,
    /// None has, and that is usual.
    Quiet,
    /// None has for longer than is usual.
    Silent {
        /// The last frame; where none has come, since it is listened to.
        since: Now,
        /// For how long there may be none at this time.
        longest: Duration,
    },
}

/// The frames of one mirror.
#[derive(Debug, Default)]
pub struct Mirror {
    usual: UsualGaps,
    /// However short is usual, what takes the machine a moment is no silence.
    moment: Duration,
    /// Which interface, how many frames it had received, and the last one.
    watched: Option<(LinkIndex, u64, Now)>,
    /// Has any frame come since it is listened to?
    heard: bool,
    silent: bool,
}

impl Mirror {
    /// With what is usual there. `moment` is [`MOMENT`] on the clock that the capture is timed by.
    pub fn new(usual: UsualGaps, moment: Duration) -> Self {
        Self { usual, moment, ..Self::default() }
    }

    /// The interface has received so many frames in all.
    pub fn look(&mut self, index: LinkIndex, received: u64, now: Now) -> MirrorState {
        match &mut self.watched {
            Some((known, frames, _)) if *known == index => {
                if std::mem::replace(frames, received) != received {
                    return self.frame(now);
                }
            }
            Some(_) | None => {
                self.watched = Some((index, received, now));
                (self.heard, self.silent) = (false, false);
            }
        }
        let Some((_, _, last)) = self.watched else { return MirrorState::Quiet };
        let longest = self.longest(now);
        // What was found silent stays so until the next frame, even where the next hour is a quieter one.
        self.silent |= now.boot.since(last.boot) > longest;
        if self.silent { MirrorState::Silent { since: last, longest } } else { MirrorState::Quiet }
    }

    /// A frame has come.
    pub fn frame(&mut self, now: Now) -> MirrorState {
        let longest = self.longest(now);
        let Some((_, _, last)) = &mut self.watched else { return MirrorState::Back };
        let gap = now.boot.since(std::mem::replace(last, now).boot);
        let usual = !self.silent && gap <= longest;
        if std::mem::replace(&mut self.heard, true) {
            self.usual.ended(gap, now.wall);
        }
        self.silent = false;
        if usual { MirrorState::Heard } else { MirrorState::Back }
    }

    fn longest(&self, now: Now) -> Duration {
        self.usual.longest(now.wall).max(self.moment)
    }

    /// It is not listened to any more: the link is down, or gone.
    pub fn leave(&mut self) {
        self.watched = None;
    }

    /// What is usual there.
    pub fn usual(&mut self) -> &mut UsualGaps {
        &mut self.usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::BootTime;
    use proptest::prelude::*;

    const ETH1: LinkIndex = LinkIndex(3);

    /// Monday 2026-03-02T00:00:00Z.
    const MONDAY: i64 = 1_772_409_600_000;

    fn at(seconds: u64) -> Now {
        Now {
            wall: WallTime::from_millis(MONDAY).plus(Duration::from_secs(seconds)),
            boot: BootTime::from_duration(Duration::from_secs(seconds)),
        }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Hears frames for so many hours from an hour on, with such gaps.
    fn hours(usual: &mut UsualGaps, from: u64, count: u64, gap: u64) {
        for second in (from * 3600..(from + count) * 3600).step_by(usize::try_from(gap).expect("small")).skip(1) {
            usual.ended(secs(gap), at(second).wall);
        }
    }

    #[test]
    fn what_is_not_known_yet_is_given_the_longest_time() {
        let mut usual = UsualGaps::default();
        assert_eq!(usual.longest(at(0).wall), LATEST);
        hours(&mut usual, 9, 2, 1);
        assert_eq!(usual.longest(at(9 * 3600 + 168 * 3600).wall), SOONEST, "an hour that was heard");
        assert_eq!(usual.longest(at(12 * 3600).wall), LATEST, "an hour that was not");
    }

    #[test]
    fn a_quiet_night_is_usual_at_night_and_no_earlier() {
        let mut usual = UsualGaps::default();
        hours(&mut usual, 8, 10, 1);
        hours(&mut usual, 18, 14, 200);
        hours(&mut usual, 32, 1, 1);
        let of = |hour: u64| usual.longest(at((168 + hour) * 3600).wall);
        assert_eq!([of(12), of(17), of(18), of(24)], [secs(60), secs(400), secs(400), secs(400)]);
    }

    #[test]
    fn a_building_that_empties_on_a_holiday_is_no_failure() {
        let mut usual = UsualGaps::default();
        hours(&mut usual, 0, 168, 2);
        assert_eq!(usual.longest(at((168 + 12) * 3600).wall), SOONEST);
        // Every minute the gaps grow by a little.
        let mut mirror = Mirror::new(usual, MOMENT);
        let (mut second, mut frames) = ((168 + 12) * 3600, 0);
        for gap in (2..240).chain([240; 200]) {
            for quiet in 0..gap {
                let stands = mirror.look(ETH1, frames, at(second + quiet));
                assert!(!matches!(stands, MirrorState::Silent { .. }), "{stands:?} in a gap of {gap} s");
            }
            second += gap;
            frames += 1;
        }
    }

    #[test]
    fn longer_gaps_are_usual_at_once_and_shorter_ones_by_and_by() {
        let mut usual = UsualGaps::default();
        let mut seen = Vec::new();
        for (week, gap) in [(0, 10), (1, 250), (2, 10), (3, 10), (4, 10)] {
            hours(&mut usual, week * 168 + 12, 1, gap);
            usual.finish();
            assert!(usual.has_news());
            seen.push(usual.hours[slot(at(12 * 3600).wall.millis() / HOUR)].expect("known"));
        }
        assert_eq!(seen, [10, 250, 130, 70, 40]);
        // A minute of an hour says nothing of the rest.
        usual.ended(secs(1), at(5 * 168 * 3600 + 12 * 3600 + 60).wall);
        usual.finish();
        assert!(!usual.has_news());
    }

    #[test]
    fn a_failure_is_not_learnt() {
        let mut usual = UsualGaps::default();
        hours(&mut usual, 12, 1, 1);
        usual.ended(LATEST + secs(1), at(12 * 3600 + 3599).wall);
        usual.finish();
        assert_eq!(usual.longest(at((168 + 12) * 3600).wall), SOONEST);
    }

    #[test]
    fn a_mirror_is_silent_from_its_last_frame_on_until_the_next() {
        let mut usual = UsualGaps::default();
        hours(&mut usual, 0, 4, 1);
        let mut mirror = Mirror::new(usual, MOMENT);
        assert_eq!(mirror.look(ETH1, 7, at(10)), MirrorState::Quiet);
        assert_eq!(mirror.look(ETH1, 8, at(11)), MirrorState::Heard);
        for second in 12..=71 {
            assert_eq!(mirror.look(ETH1, 8, at(second)), MirrorState::Quiet, "{second}");
        }
        let silent = MirrorState::Silent { since: at(11), longest: SOONEST };
        assert_eq!(mirror.look(ETH1, 8, at(72)), silent);
        assert_eq!(mirror.look(ETH1, 8, at(9000)), silent);
        assert_eq!(mirror.look(ETH1, 9, at(9001)), MirrorState::Back);
        assert_eq!(mirror.frame(at(9002)), MirrorState::Heard);
        assert_eq!(mirror.look(ETH1, 10, at(9063)), MirrorState::Back, "nobody has looked, and it was silent");
        assert_eq!(mirror.look(LinkIndex(4), 10, at(9064)), MirrorState::Quiet, "another interface begins anew");
        mirror.leave();
        assert_eq!(mirror.look(LinkIndex(4), 10, at(20_000)), MirrorState::Quiet, "and one that was down");
    }

    #[test]
    fn what_is_usual_is_kept_as_text() {
        let mut usual = UsualGaps::default();
        hours(&mut usual, 12, 2, 20);
        usual.finish();
        let text = serde_json::to_string(&usual).expect("plain data");
        let kept: UsualGaps = serde_json::from_str(&text).expect("plain data");
        assert_eq!(kept.kept().map(|kept| kept.hours), Some(usual.hours));
        let other: UsualGaps = serde_json::from_str("{\"hours\":[1]}").expect("plain data");
        assert_eq!(other.kept(), None);
    }

    proptest! {
        #[test]
        fn what_is_usual_stays_within_its_bounds(
            gaps in proptest::collection::vec((0u64..2000, 0u64..700_000), 0..200),
        ) {
            let mut usual = UsualGaps::default();
            let mut second = 0;
            for (gap, pause) in gaps {
                second += gap + pause;
                usual.ended(secs(gap), at(second).wall);
                let longest = usual.longest(at(second).wall);
                prop_assert!((SOONEST..=LATEST).contains(&longest));
                prop_assert_eq!(usual.hours.len(), HOURS);
            }
        }
    }
}
