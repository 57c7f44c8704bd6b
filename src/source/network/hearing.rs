//! PURE. How long this site could hear: silence counts only while it could.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::clock::BootTime;

/// A capture says that it hears at least this often. A longer gap was spent suspended or starved, and is not counted.
pub const LONGEST_GAP: Duration = Duration::from_secs(2);

/// The hearing of all captures of the site together; cheap to clone.
///
/// The site hears while every capture of it does: nobody knows on which of them a device would have spoken, and a
/// check-out that comes late costs less than one that is wrong.
#[derive(Clone, Debug)]
pub struct Hearing(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    longest_gap: Duration,
    /// How many captures there are.
    ears: u32,
    /// Those that hear now.
    open: BTreeSet<u32>,
    /// The last time one of them said so.
    confirmed: Option<BootTime>,
    /// Heard up to `confirmed`.
    total: Duration,
    /// The largest answer given; answers never go back.
    answered: Duration,
}

impl Hearing {
    /// Deaf, until an ear opens. `longest_gap` is [`LONGEST_GAP`] on the clock that the captures are timed by.
    pub fn new(longest_gap: Duration) -> Self {
        let (open, zero) = (BTreeSet::new(), Duration::ZERO);
        Self(Arc::new(Mutex::new(State { longest_gap, ears: 0, open, confirmed: None, total: zero, answered: zero })))
    }

    /// One capture's part in it; deaf at first.
    pub fn ear(&self) -> Ear {
        let mut state = self.state();
        state.ears += 1;
        Ear { hearing: self.clone(), number: state.ears }
    }

    /// Do all captures hear now? Never where there are none.
    pub fn is_hearing(&self) -> bool {
        self.state().hears()
    }

    /// How long the site has heard, in all, since it was made. Never goes back; stands still while the site is deaf.
    ///
    /// The silence of a device is the difference between two answers.
    pub fn heard(&self, now: BootTime) -> Duration {
        let mut state = self.state();
        let running = if state.hears() { state.gap(now) } else { Duration::ZERO };
        state.answered = state.answered.max(state.total + running);
        state.answered
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hears(&self) -> bool {
        self.ears > 0 && self.open.len() == self.ears as usize
    }

    fn gap(&self, now: BootTime) -> Duration {
        self.confirmed.map_or(Duration::ZERO, |at| now.since(at)).min(self.longest_gap)
    }

    fn settle(&mut self, now: BootTime) {
        if self.hears() {
            self.total += self.gap(now);
        }
        self.confirmed = Some(self.confirmed.map_or(now, |at| at.max(now)));
    }
}

/// One capture's part in the hearing of the site. Dropped, it is deaf.
#[derive(Debug)]
pub struct Ear {
    hearing: Hearing,
    number: u32,
}

impl Ear {
    /// The capture hears, and has heard since it last said so. To be said at least once a second.
    pub fn hears(&self, now: BootTime) {
        let mut state = self.hearing.state();
        state.settle(now);
        state.open.insert(self.number);
    }

    /// The capture no longer hears.
    pub fn is_deaf(&self, now: BootTime) {
        let mut state = self.hearing.state();
        if state.open.contains(&self.number) {
            state.settle(now);
            state.open.remove(&self.number);
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.hearing.state().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_duration(Duration::from_secs(seconds))
    }

    fn hears_through(ear: &Ear, seconds: std::ops::RangeInclusive<u64>) {
        for second in seconds {
            ear.hears(at(second));
        }
    }

    #[test]
    fn time_is_heard_only_between_two_confirmations() {
        let hearing = Hearing::new(LONGEST_GAP);
        let ear = hearing.ear();
        assert!(!hearing.is_hearing());
        assert_eq!(hearing.heard(at(100)), Duration::ZERO);
        hears_through(&ear, 100..=110);
        assert!(hearing.is_hearing());
        assert_eq!(hearing.heard(at(110)), Duration::from_secs(10));
        ear.is_deaf(at(111));
        assert_eq!(hearing.heard(at(500)), Duration::from_secs(11));
        ear.hears(at(600));
        assert_eq!(hearing.heard(at(601)), Duration::from_secs(12));
    }

    #[test]
    fn a_night_of_suspension_is_not_heard() {
        let hearing = Hearing::new(LONGEST_GAP);
        let ear = hearing.ear();
        hears_through(&ear, 0..=10);
        assert_eq!(hearing.heard(at(8 * 3600)), Duration::from_secs(12));
        ear.hears(at(8 * 3600));
        assert_eq!(hearing.heard(at(8 * 3600)), Duration::from_secs(12));
    }

    #[test]
    fn one_deaf_capture_makes_the_site_deaf_and_two_do_not_count_twice() {
        let hearing = Hearing::new(LONGEST_GAP);
        let (left, right) = (hearing.ear(), hearing.ear());
        for second in 0..=10 {
            left.hears(at(second));
            right.hears(at(second));
        }
        assert_eq!(hearing.heard(at(10)), Duration::from_secs(10));
        left.is_deaf(at(10));
        hears_through(&right, 11..=20);
        assert_eq!(hearing.heard(at(20)), Duration::from_secs(10), "a phone may have spoken where nobody heard it");
        left.hears(at(20));
        hears_through(&right, 20..=21);
        assert_eq!(hearing.heard(at(21)), Duration::from_secs(11));
        drop(right);
        assert!(!hearing.is_hearing());
    }
}
