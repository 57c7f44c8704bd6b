//! PURE. Coverage: the time in which this site could have seen a device. Silence counts only during coverage.
//!
//! A frame proves that the mirror worked until the frame arrived. The time after the last frame is uncertain: a switch
//! that forgets a mirror session leaves the link up, and its port is as silent as an empty building. So coverage ends
//! at the last frame, and the next frame extends it over the time in between.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::base::clock::BootTime;

/// A capture checks its link at least this often, twice the time that it waits when idle. A longer pause means that the
/// machine was suspended or overloaded, so coverage ends before it.
pub const LONGEST_GAP: Duration = Duration::from_secs(4);

/// A span of time that was covered without a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoverageSpan {
    /// The time of its first frame; no two spans begin with the same frame.
    pub from: BootTime,
    /// The time of its last frame so far.
    pub until: BootTime,
}

/// The coverage of all captures of the site together; cheap to clone.
///
/// The site is covered only while all of its captures are: a device may send on any of them, and a late check-out costs
/// less than a wrong one.
#[derive(Clone, Debug)]
pub struct SiteCoverage(Arc<Mutex<CoverageState>>);

#[derive(Debug)]
struct CoverageState {
    longest_gap: Duration,
    /// By the number of the capture.
    captures: Vec<CaptureState>,
}

#[derive(Clone, Copy, Debug)]
enum CaptureState {
    NoCoverage,
    /// When it last reported, and the span it had covered by then, if any frame has arrived.
    Listening(BootTime, Option<CoverageSpan>),
}

impl SiteCoverage {
    /// A site without captures, and so without coverage. `longest_gap` is [`LONGEST_GAP`] on the captures' clock.
    pub fn new(longest_gap: Duration) -> Self {
        Self(Arc::new(Mutex::new(CoverageState { longest_gap, captures: Vec::new() })))
    }

    /// Adds a capture, which has no coverage at first.
    pub fn capture(&self) -> CaptureCoverage {
        let mut state = self.state();
        state.captures.push(CaptureState::NoCoverage);
        CaptureCoverage { site: self.clone(), number: state.captures.len() - 1 }
    }

    /// Whether all captures are listening now. False if there are no captures.
    pub fn is_covered(&self) -> bool {
        let captures = &self.state().captures;
        !captures.is_empty() && captures.iter().all(|capture| matches!(capture, CaptureState::Listening(..)))
    }

    /// The span that all captures have covered without a break; `None` while one of them has no coverage.
    pub fn span(&self) -> Option<CoverageSpan> {
        let of = |capture: &CaptureState| match capture {
            CaptureState::NoCoverage => None,
            CaptureState::Listening(_, span) => *span,
        };
        let each = self.state().captures.iter().map(of).collect::<Option<Vec<CoverageSpan>>>()?;
        let from = each.iter().map(|span| span.from).max()?;
        let until = each.iter().map(|span| span.until).min()?;
        (from <= until).then_some(CoverageSpan { from, until })
    }

    fn state(&self) -> MutexGuard<'_, CoverageState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One capture's part in the coverage of the site. Dropping it ends the coverage.
#[derive(Debug)]
pub struct CaptureCoverage {
    site: SiteCoverage,
    number: usize,
}

impl CaptureCoverage {
    /// Reports that the capture is listening and no frame has arrived since its last report. Call this at least every
    /// two seconds.
    pub fn listening(&self, now: BootTime) {
        self.report(now, |span| span);
    }

    /// Reports that a frame has arrived, which covers the time since the frame before it.
    pub fn frame_seen(&self, now: BootTime) {
        self.report(now, |span| Some(CoverageSpan { from: span.map_or(now, |span| span.from), until: now }));
    }

    /// Reports that the capture cannot see frames, and has seen none since the last one reported.
    pub fn lost(&self) {
        self.set(|_, _| CaptureState::NoCoverage);
    }

    fn report(&self, now: BootTime, then: impl FnOnce(Option<CoverageSpan>) -> Option<CoverageSpan>) {
        self.set(|capture, longest_gap| {
            let span = match capture {
                CaptureState::Listening(reported, span) if now.since(reported) <= longest_gap => span,
                CaptureState::Listening(..) | CaptureState::NoCoverage => None,
            };
            CaptureState::Listening(now, then(span))
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

    fn span(from: u64, until: u64) -> CoverageSpan {
        CoverageSpan { from: at(from), until: at(until) }
    }

    #[test]
    fn time_is_covered_only_between_two_frames() {
        let coverage = SiteCoverage::new(LONGEST_GAP);
        let capture = coverage.capture();
        assert!(!coverage.is_covered());
        capture.listening(at(99));
        assert!(coverage.is_covered());
        assert_eq!(coverage.span(), None, "no frame has arrived yet");
        capture.frame_seen(at(100));
        (101..=160).for_each(|second| capture.listening(at(second)));
        assert_eq!(coverage.span(), Some(span(100, 100)), "a minute without frames may be a dead mirror");
        capture.frame_seen(at(161));
        assert_eq!(coverage.span(), Some(span(100, 161)), "it was not");
        capture.lost();
        assert_eq!(coverage.span(), None);
        capture.frame_seen(at(600));
        assert_eq!(coverage.span(), Some(span(600, 600)), "lost coverage does not come back");
    }

    #[test]
    fn a_night_of_suspension_is_not_covered() {
        let coverage = SiteCoverage::new(LONGEST_GAP);
        let capture = coverage.capture();
        (0..=10).for_each(|second| capture.frame_seen(at(second)));
        assert_eq!(coverage.span(), Some(span(0, 10)));
        capture.frame_seen(at(8 * 3600));
        assert_eq!(coverage.span(), Some(span(8 * 3600, 8 * 3600)));
    }

    #[test]
    fn one_blind_capture_ends_the_coverage_of_the_site() {
        let coverage = SiteCoverage::new(LONGEST_GAP);
        let (left, right) = (coverage.capture(), coverage.capture());
        for second in 0..=10 {
            left.frame_seen(at(second));
            right.frame_seen(at(second));
        }
        assert_eq!(coverage.span(), Some(span(0, 10)));
        left.listening(at(11));
        right.frame_seen(at(11));
        assert_eq!(coverage.span(), Some(span(0, 10)), "a phone may have sent on the capture that saw no frame");
        left.lost();
        assert_eq!(coverage.span(), None);
        assert!(!coverage.is_covered());
        left.frame_seen(at(12));
        right.frame_seen(at(12));
        assert_eq!(coverage.span(), Some(span(12, 12)));
        drop(right);
        assert!(!coverage.is_covered());
    }
}
