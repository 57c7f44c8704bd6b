//! PURE. The places for connections: who gets one, and who gives way when all are taken.
//!
//! A connection *waits* while the next step is the client's: it owes us the rest of a request, or reads a response, or
//! is idle. It *works* while the step is ours. Only those that wait give way, first of the address that has the most
//! connections. So clients that never finish a request or never read a response hold no place that another one needs.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr};

use super::address::Address;
use crate::base::clock::BootTime;

/// The most connections. A web page and a few integrations need ten.
pub(super) const CONNECTIONS: usize = 128;

/// The most connections of one address, so half of the places are left to all others. Loopback has no such limit,
/// because everyone comes from there if a proxy is in front.
const PER_ADDRESS: usize = 64;

/// Places beyond [`CONNECTIONS`] for loopback, where only the paths of monitoring are served. A load balancer, a
/// watchdog and a scraper need one each.
const MONITORING: usize = 8;

/// What a place is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaceKind {
    /// Any request.
    General,
    /// `/healthz`, `/readyz` and `/metrics` only.
    Monitoring,
}

/// The connections that have a place. `T` cuts one.
#[derive(Debug)]
pub(super) struct PlaceTable<T> {
    taken: BTreeMap<u64, Place<T>>,
    next: u64,
}

#[derive(Debug)]
struct Place<T> {
    address: Address,
    kind: PlaceKind,
    /// Since when the next step has been the client's; `None` while it is ours.
    waits: Option<BootTime>,
    cut: T,
}

/// What becomes of a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arrival<T> {
    /// Its place; `None` if it is refused.
    pub(super) place: Option<(u64, PlaceKind)>,
    /// The connection that gives way.
    pub(super) cut: Option<T>,
    /// Whether all general places were taken.
    pub(super) is_exhausted: bool,
}

impl<T> Default for PlaceTable<T> {
    fn default() -> Self {
        Self { taken: BTreeMap::new(), next: 0 }
    }
}

impl<T> PlaceTable<T> {
    /// Finds a place for a connection from this address.
    pub(super) fn admit(&mut self, peer: IpAddr, cut: T, now: BootTime) -> Arrival<T> {
        let (address, is_local) = (Address::of(peer), peer.to_canonical().is_loopback());
        let is_exhausted = self.count(|place| place.kind == PlaceKind::General) >= CONNECTIONS;
        let is_over_share = !is_local && self.count(|place| place.address == address) >= PER_ADDRESS;
        let gives_way = if is_over_share {
            self.oldest_waiting(|place| place.address == address)
        } else if is_exhausted {
            self.oldest_of_the_most_numerous()
        } else {
            None
        };
        let (kind, gives_way) = match gives_way {
            Some(oldest) => (PlaceKind::General, Some(oldest)),
            None if !is_exhausted && !is_over_share => (PlaceKind::General, None),
            None if is_local => {
                let is_full = self.count(|place| place.kind == PlaceKind::Monitoring) >= MONITORING;
                let oldest = self.oldest_waiting(|place| place.kind == PlaceKind::Monitoring);
                if is_full && oldest.is_none() {
                    return Arrival { place: None, cut: None, is_exhausted };
                }
                (PlaceKind::Monitoring, oldest.filter(|_| is_full))
            }
            None => return Arrival { place: None, cut: None, is_exhausted },
        };
        let given_up = gives_way.and_then(|id| self.taken.remove(&id)).map(|place| place.cut);
        let id = self.next;
        self.next += 1;
        self.taken.insert(id, Place { address, kind, waits: Some(now), cut });
        Arrival { place: Some((id, kind)), cut: given_up, is_exhausted }
    }

    /// The next step of a connection is ours.
    pub(super) fn works(&mut self, id: u64) {
        if let Some(place) = self.taken.get_mut(&id) {
            place.waits = None;
        }
    }

    /// The next step of a connection is the client's.
    pub(super) fn waits(&mut self, id: u64, now: BootTime) {
        if let Some(place) = self.taken.get_mut(&id) {
            place.waits = Some(now);
        }
    }

    /// A connection has ended.
    pub(super) fn ended(&mut self, id: u64) {
        self.taken.remove(&id);
    }

    /// How many connections have a place.
    pub(super) fn taken(&self) -> usize {
        self.taken.len()
    }

    fn count(&self, is_counted: impl Fn(&Place<T>) -> bool) -> usize {
        self.taken.values().filter(|place| is_counted(place)).count()
    }

    fn oldest_waiting(&self, may: impl Fn(&Place<T>) -> bool) -> Option<u64> {
        let waiting = self.taken.iter().filter(|(_, place)| may(place));
        waiting.filter_map(|(id, place)| Some((place.waits?, *id))).min().map(|(_, id)| id)
    }

    /// Of the waiting connections in general places, the oldest one of the addresses with the most connections.
    fn oldest_of_the_most_numerous(&self) -> Option<u64> {
        let mut numbers = BTreeMap::<Address, usize>::new();
        for place in self.taken.values() {
            *numbers.entry(place.address).or_default() += 1;
        }
        let waiting = self.taken.iter().filter(|(_, place)| place.kind == PlaceKind::General);
        let ranked = waiting.filter_map(|(id, place)| Some((Reverse(numbers[&place.address]), place.waits?, *id)));
        ranked.min().map(|(_, _, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    fn at(second: u64) -> BootTime {
        BootTime::from_duration(Duration::from_secs(second))
    }

    fn remote(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0xc633_0000 + number).into()
    }

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Fills every general place, one connection per address or all of one.
    fn full(address: impl Fn(u32) -> IpAddr) -> PlaceTable<u32> {
        let mut places = PlaceTable::default();
        for number in 0..128 {
            let admission = places.admit(address(number), number, at(u64::from(number)));
            assert_eq!(admission.place, Some((u64::from(number), PlaceKind::General)));
            assert_eq!((admission.cut, admission.is_exhausted), (None, false));
        }
        places
    }

    #[test]
    fn the_one_that_has_waited_longest_gives_way() {
        let mut places = full(remote);
        places.waits(0, at(500));
        places.works(1);
        let admission = places.admit(remote(1000), 1000, at(501));
        let place = Some((128, PlaceKind::General));
        assert_eq!(admission, Arrival { place, cut: Some(2), is_exhausted: true });
        places.ended(7);
        assert_eq!(places.admit(remote(1001), 1001, at(502)).cut, None, "there is a free place");
    }

    #[test]
    fn an_address_with_many_connections_gives_way_before_one_with_few() {
        let mut places = full(|number| if number < 100 { remote(number) } else { remote(200) });
        assert_eq!(places.admit(remote(1000), 1000, at(500)).cut, Some(100), "not the oldest of all");
    }

    #[test]
    fn an_address_has_its_share_and_replaces_its_own() {
        let mut places = PlaceTable::default();
        for number in 0..64 {
            places.admit(remote(1), number, at(0));
        }
        let admission = places.admit(remote(1), 64, at(1));
        assert_eq!((admission.cut, admission.is_exhausted), (Some(0), false));
        for id in 1..=64 {
            places.works(id);
        }
        assert_eq!(places.admit(remote(1), 65, at(2)), Arrival { place: None, cut: None, is_exhausted: false });
        assert!(places.admit(remote(2), 66, at(2)).place.is_some());
    }

    #[test]
    fn monitoring_on_this_machine_has_places_of_its_own() {
        let mut places = full(|_| LOCAL);
        for id in 0..128 {
            places.works(id);
        }
        assert_eq!(places.admit(remote(1), 0, at(500)).place, None, "others are refused");
        for number in 0..8 {
            let admission = places.admit(LOCAL, 500 + number, at(500));
            assert_eq!(admission.place.map(|(_, kind)| kind), Some(PlaceKind::Monitoring));
            assert_eq!((admission.cut, admission.is_exhausted), (None, true));
        }
        let ninth = places.admit(LOCAL, 508, at(501));
        assert_eq!(ninth.cut, Some(500), "the oldest of them gives way");
        assert_eq!(places.taken(), 136);
        for id in places.taken.keys().copied().collect::<Vec<_>>() {
            places.works(id);
        }
        assert_eq!(places.admit(LOCAL, 509, at(502)).place, None);
    }

    proptest::proptest! {
        #[test]
        fn no_sequence_takes_more_places_than_there_are(steps: Vec<(u8, u8, bool)>) {
            let mut places = PlaceTable::default();
            for (second, (number, kind, is_local)) in steps.into_iter().enumerate() {
                let now = at(second as u64);
                match kind % 8 {
                    0 => places.works(u64::from(number)),
                    1 => places.waits(u64::from(number), now),
                    2 => places.ended(u64::from(number)),
                    _ => drop(places.admit(if is_local { LOCAL } else { remote(u32::from(number % 3)) }, (), now)),
                }
                let general = places.count(|place| place.kind == PlaceKind::General);
                assert!(general <= CONNECTIONS && places.taken() - general <= MONITORING);
            }
        }
    }
}
