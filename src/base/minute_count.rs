//! PURE. Counts within a minute, for limits per minute.

use std::time::Duration;

use super::clock::BootTime;

/// A minute begins with the first event after the end of the last one.
const MINUTE: Duration = Duration::from_mins(1);

/// How many events there were in the present minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct MinuteCount {
    began: Option<BootTime>,
    events: u32,
}

impl MinuteCount {
    /// Counts an event. Returns its number within its minute, from 1.
    pub fn next(&mut self, now: BootTime) -> u32 {
        if self.ends().is_none_or(|end| end <= now) {
            *self = Self { began: Some(now), events: 0 };
        }
        self.events = self.events.saturating_add(1);
        self.events
    }

    /// When the present minute ends; `None` before the first event.
    pub fn ends(&self) -> Option<BootTime> {
        self.began.map(|began| began.plus(MINUTE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_begins_with_its_first_event() {
        let mut count = MinuteCount::default();
        for (second, number) in [(10, 1), (10, 2), (69, 3), (70, 1), (200, 1), (201, 2)] {
            assert_eq!(count.next(BootTime::from_duration(Duration::from_secs(second))), number, "second {second}");
        }
    }
}
