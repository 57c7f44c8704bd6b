//! PURE. Checks whether the idle limit is long enough for the DHCP leases that this network grants to its people's
//! devices.

use std::time::Duration;

use crate::base::{bounded_table::BoundedTable, clock::BootTime, mac::MacAddr};

/// A lease time counts for this long after it was last granted. By then a client with the longest usual lease, a day,
/// has renewed twice, so a lease time that the site has shortened is forgotten after this.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// An awake client renews at half its lease (RFC 2131 4.4.5); after this much longer, it has certainly sent a frame.
const GRACE: Duration = Duration::from_secs(5 * 60);

/// At least this many devices must have the lease time: one message may be forged, and one device may have a special
/// lease.
const SEVERAL: usize = 3;

/// How many devices' leases are remembered; beyond that, the lease granted longest ago is forgotten. Far more than are
/// needed, and far less than a page of memory each.
const DEVICES: usize = 256;

/// The lease times that were granted recently, by device.
#[derive(Debug)]
pub struct LeaseWatch {
    granted: BoundedTable<MacAddr, (Duration, BootTime)>,
}

impl Default for LeaseWatch {
    fn default() -> Self {
        Self { granted: BoundedTable::new(DEVICES) }
    }
}

/// The idle limit is too short: an awake client may be silent for longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort {
    /// The longest lease time that several devices have.
    pub lease: Duration,
    /// The shortest idle limit that is long enough for it.
    pub needed: Duration,
}

impl LeaseWatch {
    /// Records that a server granted this lease time to one of our people's devices.
    pub fn granted(&mut self, device: MacAddr, lease: Duration, now: BootTime) {
        self.granted.insert(device, (lease, now), |(_, at)| *at);
    }

    /// Checks whether the limit is too short for the leases seen.
    pub fn check(&mut self, idle_limit: Duration, now: BootTime) -> Option<TooShort> {
        self.granted.retain(|_, (_, at)| now.since(*at) <= REMEMBERED);
        let mut leases: Vec<Duration> = self.granted.values().map(|(lease, _)| *lease).collect();
        leases.sort_unstable_by(|one, other| other.cmp(one));
        let lease = *leases.get(SEVERAL - 1)?;
        let needed = lease / 2 + GRACE;
        (idle_limit < needed).then_some(TooShort { lease, needed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(count * 60)
    }

    fn start() -> BootTime {
        BootTime::from_duration(minutes(1))
    }

    fn device(number: usize) -> MacAddr {
        let [.., a, b] = number.to_be_bytes();
        MacAddr::new([0x3c, 0x22, 0xfb, 0, a, b])
    }

    /// Devices with these leases, in minutes.
    fn leases(of: &[u64]) -> LeaseWatch {
        let mut watch = LeaseWatch::default();
        for (number, lease) in of.iter().enumerate() {
            watch.granted(device(number), minutes(*lease), start());
        }
        watch
    }

    #[test]
    fn half_a_lease_and_five_minutes_must_fit_into_the_limit() {
        for (lease, limit, fits) in [(80, 45, true), (81, 45, false), (60, 35, true), (60, 34, false), (2, 6, true)] {
            let mut watch = leases(&[lease; SEVERAL]);
            assert_eq!(watch.check(minutes(limit), start()).is_none(), fits, "lease {lease}, limit {limit}");
        }
    }

    #[test]
    fn a_lease_counts_only_when_several_devices_have_it() {
        let short = |lease: u64| TooShort { lease: minutes(lease), needed: minutes(lease / 2 + 5) };
        for (granted, wanted) in [
            (&[1440][..], None),
            (&[1440, 1440], None),
            (&[1440, 60, 60, 60], None),
            (&[1440, 120, 120], Some(short(120))),
            (&[120, 1440, 1440, 480, 60], Some(short(480))),
        ] {
            assert_eq!(leases(granted).check(minutes(45), start()), wanted, "{granted:?}");
        }
        let mut again = LeaseWatch::default();
        (0..10).for_each(|_| again.granted(device(1), minutes(1440), start()));
        assert_eq!(again.check(minutes(45), start()), None, "several leases of one device");
    }

    #[test]
    fn a_lease_time_that_is_no_longer_granted_is_forgotten() {
        let mut watch = leases(&[480; 4]);
        assert!(watch.check(minutes(45), start()).is_some());
        (0..2).for_each(|number| watch.granted(device(number), minutes(60), start().plus(minutes(10))));
        assert_eq!(watch.check(minutes(45), start().plus(minutes(10))), None, "two have a shorter one now");
        let mut watch = leases(&[480; 4]);
        assert_eq!(watch.check(minutes(45), start().plus(minutes(24 * 60 + 1))), None);
    }

    #[test]
    fn a_flood_of_devices_is_bounded() {
        let mut watch = LeaseWatch::default();
        (0..10_000).for_each(|number| watch.granted(device(number), minutes(60), start().plus(minutes(1))));
        assert_eq!(watch.granted.len(), DEVICES);
    }
}
