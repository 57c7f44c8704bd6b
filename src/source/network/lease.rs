//! PURE. Is the silence limit long enough for the DHCP leases that this network grants?

use std::time::Duration;

use crate::clock::BootTime;

/// A lease time counts for this long after it was last granted: a client that holds the longest usual one, a day, has
/// renewed twice by then, and a lease time that the site has shortened is forgotten.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// An awake client renews at half its lease (RFC 2131 4.4.5); this much later it has certainly been heard.
const GRACE: Duration = Duration::from_secs(5 * 60);

/// The longest lease time granted lately.
#[derive(Debug, Default)]
pub struct LeaseWatch {
    longest: Option<(Duration, BootTime)>,
}

/// The silence limit is shorter than the silence of an awake client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort {
    /// The lease time that was seen.
    pub lease: Duration,
    /// The shortest silence limit that fits it.
    pub needed: Duration,
}

impl LeaseWatch {
    /// A server granted this lease time.
    pub fn granted(&mut self, lease: Duration, now: BootTime) {
        self.forget(now);
        if self.longest.is_none_or(|(longest, _)| lease >= longest) {
            self.longest = Some((lease, now));
        }
    }

    /// Is the limit too short for the leases seen?
    pub fn check(&mut self, idle_limit: Duration, now: BootTime) -> Option<TooShort> {
        self.forget(now);
        let (lease, _) = self.longest?;
        let needed = lease / 2 + GRACE;
        (idle_limit < needed).then_some(TooShort { lease, needed })
    }

    fn forget(&mut self, now: BootTime) {
        if self.longest.is_some_and(|(_, at)| now.since(at) > REMEMBERED) {
            self.longest = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(count * 60)
    }

    #[test]
    fn half_a_lease_and_five_minutes_must_fit_into_the_limit() {
        let start = BootTime::from_duration(minutes(1));
        for (lease, limit, fits) in [(80, 45, true), (81, 45, false), (60, 35, true), (60, 34, false), (2, 6, true)] {
            let mut watch = LeaseWatch::default();
            watch.granted(minutes(lease), start);
            assert_eq!(watch.check(minutes(limit), start).is_none(), fits, "lease {lease}, limit {limit}");
        }
    }

    #[test]
    fn a_lease_time_that_is_no_longer_granted_is_forgotten_after_a_day() {
        let start = BootTime::from_duration(minutes(1));
        let mut watch = LeaseWatch::default();
        watch.granted(minutes(8 * 60), start);
        watch.granted(minutes(60), start.plus(minutes(10)));
        assert_eq!(
            watch.check(minutes(45), start.plus(minutes(10))),
            Some(TooShort { lease: minutes(480), needed: minutes(245) })
        );
        let later = start.plus(minutes(24 * 60 + 1));
        watch.granted(minutes(60), later);
        assert_eq!(watch.check(minutes(45), later), None);
    }
}
