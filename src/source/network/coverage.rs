//! PURE. When this site could hear: silence counts only while it could.
//!
//! A frame proves that the mirror worked until it came. What follows the last frame is not known yet: a switch that forgets
//! a mirror session leaves the link up, and its port is as silent as an empty building. So hearing ends at the last frame,
//! and goes on, over the time between, with the next one.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::base::clock::BootTime;

/// A capture looks at its link at least this often. A longer pause was spent suspended or starved: what was heard ends
/// before it.
pub const LONGEST_GAP: Duration = Duration::from_secs(2);

/// A stretch of time that was heard without a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The frame that it begins with; another stretch has another.
    pub from: BootTime,
    /// The last frame up to now.
    pub until: BootTime,
}

/// The hearing of all captures of the site together; cheap to clone.
///
/// The site hears while every capture of it does: nobody knows on which of them a device would have spoken, and a
/// check-out that comes late costs less than one that is wrong.
#[derive(Clone, Debug)]
pub struct Hearing(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    longest_gap: Duration,
    /// By their numbers.
    ears: Vec<Hears>,
}

#[derive(Clone, Copy, Debug)]
enum Hears {
    Nothing,
    /// Looked last at this time; what was heard until then, if any frame has come.
    Listens(BootTime, Option<Heard>),
}

impl Hearing {
    /// Deaf, until an ear opens. `longest_gap` is [`LONGEST_GAP`] on the clock that the captures are timed by.
    pub fn new(longest_gap: Duration) -> Self {
        Self(Arc::new(Mutex::new(State { longest_gap, ears: Vec::new() })))
    }

    /// One capture's part in it; deaf at first.
    pub fn ear(&self) -> Ear {
        let mut state = self.state();
        state.ears.push(Hears::Nothing);
        Ear { hearing: self.clone(), number: state.ears.len() - 1 }
    }

    /// Do all captures listen now, and is none known to be deaf? Never where there are none.
    pub fn is_hearing(&self) -> bool {
        let ears = &self.state().ears;
        !ears.is_empty() && ears.iter().all(|ear| matches!(ear, Hears::Listens(..)))
    }

    /// What all captures have heard without a break up to their last frames; none while one of them is deaf.
    pub fn heard(&self) -> Option<Heard> {
        let of = |ear: &Hears| match ear {
            Hears::Nothing => None,
            Hears::Listens(_, heard) => *heard,
        };
        let each = self.state().ears.iter().map(of).collect::<Option<Vec<Heard>>>()?;
        let from = each.iter().map(|heard| heard.from).max()?;
        let until = each.iter().map(|heard| heard.until).min()?;
        (from <= until).then_some(Heard { from, until })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One capture's part in the hearing of the site. Dropped, it is deaf.
#[derive(Debug)]
pub struct Ear {
    hearing: Hearing,
    number: usize,
}

impl Ear {
    /// The capture listens, and nothing has come since it last said so. To be said at least once a second.
    pub fn listens(&self, now: BootTime) {
        self.look(now, |heard| heard);
    }

    /// A frame has come: since the one before it, the capture has heard.
    pub fn hears(&self, now: BootTime) {
        self.look(now, |heard| Some(Heard { from: heard.map_or(now, |heard| heard.from), until: now }));
    }

    /// The capture does not hear, and has not since its last frame.
    pub fn is_deaf(&self) {
        self.set(|_, _| Hears::Nothing);
    }

    fn look(&self, now: BootTime, then: impl FnOnce(Option<Heard>) -> Option<Heard>) {
        self.set(|ear, longest_gap| {
            let heard = match ear {
                Hears::Listens(looked, heard) if now.since(looked) <= longest_gap => heard,
                Hears::Listens(..) | Hears::Nothing => None,
            };
            Hears::Listens(now, then(heard))
        });
    }

    fn set(&self, then: impl FnOnce(Hears, Duration) -> Hears) {
        let mut state = self.hearing.state();
        let longest_gap = state.longest_gap;
        if let Some(ear) = state.ears.get_mut(self.number) {
            *ear = then(*ear, longest_gap);
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.is_deaf();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_duration(Duration::from_secs(seconds))
    }

    fn heard(from: u64, until: u64) -> Heard {
        Heard { from: at(from), until: at(until) }
    }

    #[test]
    fn time_is_heard_only_between_two_frames() {
        let hearing = Hearing::new(LONGEST_GAP);
        let ear = hearing.ear();
        assert!(!hearing.is_hearing());
        ear.listens(at(99));
        assert!(hearing.is_hearing());
        assert_eq!(hearing.heard(), None, "no frame has come yet");
        ear.hears(at(100));
        (101..=160).for_each(|second| ear.listens(at(second)));
        assert_eq!(hearing.heard(), Some(heard(100, 100)), "a minute of nothing may be a dead mirror");
        ear.hears(at(161));
        assert_eq!(hearing.heard(), Some(heard(100, 161)), "it was not");
        ear.is_deaf();
        assert_eq!(hearing.heard(), None);
        ear.hears(at(600));
        assert_eq!(hearing.heard(), Some(heard(600, 600)), "what was deaf is not heard afterwards");
    }

    #[test]
    fn a_night_of_suspension_is_not_heard() {
        let hearing = Hearing::new(LONGEST_GAP);
        let ear = hearing.ear();
        (0..=10).for_each(|second| ear.hears(at(second)));
        assert_eq!(hearing.heard(), Some(heard(0, 10)));
        ear.hears(at(8 * 3600));
        assert_eq!(hearing.heard(), Some(heard(8 * 3600, 8 * 3600)));
    }

    #[test]
    fn one_deaf_capture_makes_the_site_deaf() {
        let hearing = Hearing::new(LONGEST_GAP);
        let (left, right) = (hearing.ear(), hearing.ear());
        for second in 0..=10 {
            left.hears(at(second));
            right.hears(at(second));
        }
        assert_eq!(hearing.heard(), Some(heard(0, 10)));
        left.listens(at(11));
        right.hears(at(11));
        assert_eq!(hearing.heard(), Some(heard(0, 10)), "a phone may have spoken where nobody heard it");
        left.is_deaf();
        assert_eq!(hearing.heard(), None);
        assert!(!hearing.is_hearing());
        left.hears(at(12));
        right.hears(at(12));
        assert_eq!(hearing.heard(), Some(heard(12, 12)));
        drop(right);
        assert!(!hearing.is_hearing());
    }
}
