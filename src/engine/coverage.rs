//! PURE. When the captures of a business could have seen a device. Silence counts only during that time.

use std::time::Duration;

use crate::base::clock::WallTime;

/// Stretches of coverage, earliest first; they neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    known: Vec<(WallTime, WallTime)>,
    /// The time since the last frame. The next frame shows whether it was covered.
    unproven: Option<(WallTime, WallTime)>,
}

impl Coverage {
    /// No coverage.
    pub const fn none() -> Self {
        Self { known: Vec::new(), unproven: None }
    }

    /// From stretches in any order; those that overlap or touch are merged.
    pub fn new(stretches: impl IntoIterator<Item = (WallTime, WallTime)>) -> Self {
        let mut sorted: Vec<_> = stretches.into_iter().filter(|(from, to)| from < to).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(WallTime, WallTime)> = Vec::with_capacity(sorted.len());
        for (from, to) in sorted {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                Some(_) | None => merged.push((from, to)),
            }
        }
        Self { known: merged, unproven: None }
    }

    /// The same coverage with the unproven time since the last frame; an empty `span` is ignored.
    #[must_use]
    pub fn and_unproven(self, span: Option<(WallTime, WallTime)>) -> Self {
        Self { unproven: span.filter(|(from, to)| from < to), ..self }
    }

    /// The time since the last frame.
    pub const fn unproven(&self) -> Option<(WallTime, WallTime)> {
        self.unproven
    }

    /// The coverage if the unproven time turns out to be covered.
    #[must_use]
    pub fn at_most(&self) -> Self {
        Self::new(self.known.iter().copied().chain(self.unproven))
    }

    /// How much of the time since `since` is covered, if the unproven time counts as covered.
    pub fn at_most_since(&self, since: WallTime) -> Duration {
        self.known.iter().chain(&self.unproven).map(|&(from, to)| to.since(from.max(since))).sum()
    }

    /// The instant after which more than `limit` of covered time has passed since `since`; `None` if that much has not
    /// passed yet.
    pub fn run_out(&self, since: WallTime, limit: Duration) -> Option<WallTime> {
        let first = self.known.partition_point(|&(_, to)| to <= since);
        let mut left = limit;
        for &(from, to) in self.known.iter().skip(first) {
            let from = from.max(since);
            let covered = to.since(from);
            if covered > left {
                return Some(from.plus(left));
            }
            left = left.saturating_sub(covered);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_millis(seconds * 1000)
    }

    #[test]
    fn only_time_inside_a_stretch_counts() {
        let coverage = Coverage::new([(at(300), at(400)), (at(0), at(100)), (at(90), at(120))]);
        let secs = Duration::from_secs;
        assert_eq!(coverage.at_most_since(at(50)), secs(170));
        for (since, limit, expected) in [
            (0, 119, Some(119)),
            (0, 120, Some(300)),
            (50, 70, Some(300)),
            (50, 71, Some(301)),
            (110, 20, Some(310)),
            (200, 99, Some(399)),
            (200, 100, None),
            (500, 1, None),
        ] {
            assert_eq!(coverage.run_out(at(since), secs(limit)), expected.map(at), "{limit} s since {since}");
        }
    }

    #[test]
    fn unproven_time_counts_only_where_requested() {
        let coverage = Coverage::new([(at(0), at(100))]).and_unproven(Some((at(100), at(160))));
        assert_eq!(coverage.run_out(at(20), Duration::from_secs(100)), None);
        assert_eq!(coverage.at_most().run_out(at(20), Duration::from_secs(100)), Some(at(120)));
        assert_eq!(coverage.at_most_since(at(90)), Duration::from_secs(70));
        assert_eq!(coverage.clone().and_unproven(Some((at(100), at(100)))).unproven(), None);
    }
}
