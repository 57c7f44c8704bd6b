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
pub struct CoverageSpan {
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
pub struct SiteCoverage(Arc<Mutex<CoverageState>>);

#[derive(Debug)]
struct CoverageState {
    longest_gap: Duration,
    /// By their numbers.
    captures: Vec<CaptureState>,
}

#[derive(Clone, Copy, Debug)]
enum CaptureState {
    NoCoverage,
    /// Looked last at this time; what was heard until then, if any frame has come.
    Listening(BootTime, Option<CoverageSpan>),
}

impl SiteCoverage {
    /// Deaf, until an capture opens. `longest_gap` is [`LONGEST_GAP`] on the clock that the captures are timed by.
    pub fn new(longest_gap: Duration) -> Self {
        Self(Arc::new(Mutex::new(CoverageState { longest_gap, captures: Vec::new() })))
    }

    /// One capture's part in it; deaf at first.
    pub fn capture(&self) -> CaptureCoverage {
        let mut state = self.state();
        state.captures.push(CaptureState::NoCoverage);
        CaptureCoverage { site: self.clone(), number: state.captures.len() - 1 }
    }

    /// Do all captures listen now, and is none known to be deaf? Never where there are none.
    pub fn is_covered(&self) -> bool {
        let captures = &self.state().captures;
        !captures.is_empty() && captures.iter().all(|capture| matches!(capture, CaptureState::Listening(..)))
    }

    /// What all captures have heard without a break up to their last frames; none while one of them is deaf.
    pub fn span(&self) -> Option<CoverageSpan> {
        let of = |capture: &CaptureState| match capture {
            CaptureState::NoCoverage => None,
            CaptureState::Listening(_, heard) => *heard,
        };
        let each = self.state().captures.iter().map(of).collect::<Option<Vec<CoverageSpan>>>()?;
        let from = each.iter().map(|heard| heard.from).max()?;
        let until = each.iter().map(|heard| heard.until).min()?;
        (from <= until).then_some(CoverageSpan { from, until })
    }

    fn state(&self) -> MutexGuard<'_, CoverageState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One capture's part in the hearing of the site. Dropped, it is deaf.
#[derive(Debug)]
pub struct CaptureCoverage {
    site: SiteCoverage,
    number: usize,
}

impl CaptureCoverage {
    /// The capture listens, and nothing has come since it last said so. To be said at least once a second.
    pub fn listening(&self, now: BootTime) {
        self.look(now, |heard| heard);
    }

    /// A frame has come: since the one before it, the capture has heard.
    pub fn frame_seen(&self, now: BootTime) {
        self.look(now, |heard| Some(CoverageSpan { from: heard.map_or(now, |heard| heard.from), until: now }));
    }

    /// The capture does not hear, and has not since its last frame.
    pub fn lost(&self) {
        self.set(|_, _| CaptureState::NoCoverage);
    }

    fn look(&self, now: BootTime, then: impl FnOnce(Option<CoverageSpan>) -> Option<CoverageSpan>) {
        self.set(|capture, longest_gap| {
            let heard = match capture {
                CaptureState::Listening(looked, heard) if now.since(looked) <= longest_gap => heard,
                CaptureState::Listening(..) | CaptureState::NoCoverage => None,
            };
            CaptureState::Listening(now, then(heard))
        });
    }

    fn set(&self, then: impl FnOnce(CaptureState, Duration) -> CaptureState) {
        let mut state = self.site.state();
        let longest_gap = state.longest_gap;
        if let Some(capture) = state.captures.get_mut(self.number) {
            *capture = then(*capture, longest_gap);
        }
    }
}

impl Drop for CaptureCoverage {
    fn drop(&mut self) {
        self.lost();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_duration(Duration::from_secs(seconds))
    }

    fn heard(from: u64, until: u64) -> CoverageSpan {
        CoverageSpan { from: at(from), until: at(until) }
    }

    #[test]
    fn time_is_heard_only_between_two_frames() {
        let hearing = SiteCoverage::new(LONGEST_GAP);
        let capture = hearing.capture();
        assert!(!hearing.is_covered());
        capture.listening(at(99));
        assert!(hearing.is_covered());
        assert_eq!(hearing.span(), None, "no frame has come yet");
        capture.frame_seen(at(100));
        (101..=160).for_each(|second| capture.listening(at(second)));
        assert_eq!(hearing.span(), Some(heard(100, 100)), "a minute of nothing may be a dead mirror");
        capture.frame_seen(at(161));
        assert_eq!(hearing.span(), Some(heard(100, 161)), "it was not");
        capture.lost();
        assert_eq!(hearing.span(), None);
        capture.frame_seen(at(600));
        assert_eq!(hearing.span(), Some(heard(600, 600)), "what was deaf is not heard afterwards");
    }

    #[test]
    fn a_night_of_suspension_is_not_heard() {
        let hearing = SiteCoverage::new(LONGEST_GAP);
        let capture = hearing.capture();
        (0..=10).for_each(|second| capture.frame_seen(at(second)));
        assert_eq!(hearing.span(), Some(heard(0, 10)));
        capture.frame_seen(at(8 * 3600));
        assert_eq!(hearing.span(), Some(heard(8 * 3600, 8 * 3600)));
    }

    #[test]
    fn one_deaf_capture_makes_the_site_deaf() {
        let hearing = SiteCoverage::new(LONGEST_GAP);
        let (left, right) = (hearing.capture(), hearing.capture());
        for second in 0..=10 {
            left.frame_seen(at(second));
            right.frame_seen(at(second));
        }
        assert_eq!(hearing.span(), Some(heard(0, 10)));
        left.listening(at(11));
        right.frame_seen(at(11));
        assert_eq!(hearing.span(), Some(heard(0, 10)), "a phone may have spoken where nobody heard it");
        left.lost();
        assert_eq!(hearing.span(), None);
        assert!(!hearing.is_covered());
        left.frame_seen(at(12));
        right.frame_seen(at(12));
        assert_eq!(hearing.span(), Some(heard(12, 12)));
        drop(right);
        assert!(!hearing.is_covered());
    }
}
