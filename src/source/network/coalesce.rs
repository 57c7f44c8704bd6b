//! PURE. Merges the evidence of frames into one presence per device.
//!
//! However many frames arrive, a device is delivered when it appears and then once per refresh, and memory is bounded.
//!
//! Never here: whether a presence opens or refreshes a check-in. The engine decides that.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use self::{
    scope::CaptureScope,
    seen_device::{Announced, SeenDevice},
};
use super::frame::{Evidence, Observation, WhyNot};
use crate::{
    base::{
        clock::{BootTime, Now},
        mac::MacAddr,
    },
    settings::Capture,
    source::Presences,
};

mod scope;
mod seen_device;

/// The addresses that belong to people; the whole set is replaced when the directory changes.
pub type KnownMacs = Arc<BTreeSet<MacAddr>>;

/// How many unknown devices each capture remembers at once. Ten times the visitors of a large site in a day; 1 MiB at
/// most. Strong evidence of further devices is dropped and counted as left out.
pub const UNKNOWN_DEVICES: usize = 8192;

/// How many devices are delivered together at most: as many as the pipeline writes in one batch. The rest follow in the
/// next delivery.
pub const DELIVERED_TOGETHER: usize = 512;

/// The time between two deliveries of a device that keeps sending; shorter if the idle limit is short.
const LONGEST_REFRESH: Duration = Duration::from_secs(60);

/// The table is scanned at most this often: one pass over a full table takes a fifth of a millisecond.
const BETWEEN_SCANS: Duration = Duration::from_secs(1);

/// Silent devices are forgotten this often.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(60);

/// What happened to an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeOutcome {
    /// Merged as strong evidence.
    Strong,
    /// Merged as weak evidence, or ignored because there is no presence to refresh.
    Weak,
    /// No evidence.
    NoEvidence(WhyNot),
    /// From a VLAN or relay that is not captured, from this machine, or from listed infrastructure.
    OutOfScope,
    /// From an unknown device for which there is no room.
    LeftOut,
}

/// The devices that one capture has seen recently.
#[derive(Debug)]
pub struct Coalescer {
    interface: Arc<str>,
    scope: CaptureScope,
    known: KnownMacs,
    idle_limit: Duration,
    refresh: Duration,
    devices: BTreeMap<MacKey, SeenDevice>,
    /// How many of `devices` are not in `known`.
    unknown: usize,
    /// Devices that have just appeared, in order of appearance; no longer than `devices`.
    appeared: VecDeque<MacAddr>,
    next_scan: Option<BootTime>,
    next_sweep: Option<BootTime>,
}

/// An address as a number: a storm is mostly lookups, and numbers compare in one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MacKey(u64);

impl From<MacAddr> for MacKey {
    fn from(mac: MacAddr) -> Self {
        let [a, b, c, d, e, f] = mac.octets();
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
}

impl From<MacKey> for MacAddr {
    fn from(key: MacKey) -> Self {
        let [_, _, octets @ ..] = key.0.to_be_bytes();
        Self::new(octets)
    }
}

impl Coalescer {
    /// A coalescer without known addresses and without devices.
    pub fn new(capture: &Capture, idle_limit: Duration) -> Self {
        Self {
            interface: Arc::clone(&capture.interface),
            scope: CaptureScope::new(capture),
            known: KnownMacs::default(),
            idle_limit,
            refresh: LONGEST_REFRESH.min(idle_limit / 4),
            devices: BTreeMap::new(),
            unknown: 0,
            appeared: VecDeque::new(),
            next_scan: None,
            next_sweep: None,
        }
    }

    /// Replaces the addresses that belong to people. A device that has become known is delivered with its next frame.
    pub fn set_known(&mut self, known: KnownMacs) {
        self.known = known;
        for (key, device) in &mut self.devices {
            let is_known = self.known.contains(&MacAddr::from(*key));
            if is_known && !device.known && device.announced == Announced::Yes {
                device.announced = Announced::No;
            }
            device.known = is_known;
        }
        self.unknown = self.devices.values().filter(|device| !device.known).count();
    }

    /// Replaces the addresses of this machine, which are never evidence.
    pub fn set_own(&mut self, own: Vec<MacAddr>) {
        self.scope.set_own(own);
    }

    /// Merges one observation.
    pub fn merge(&mut self, seen: &Observation, now: Now) -> MergeOutcome {
        if !self.scope.has_vlan(&seen.vlans) {
            return MergeOutcome::OutOfScope;
        }
        let strong = match seen.evidence {
            Evidence::None(why) => return MergeOutcome::NoEvidence(why),
            Evidence::Strong => true,
            Evidence::Weak => false,
        };
        let Some(mac) = seen.mac else { return MergeOutcome::NoEvidence(WhyNot::NoAddress) };
        let Some(strong) = self.scope.strength(seen.via, strong) else { return MergeOutcome::OutOfScope };
        if self.scope.excludes(mac) {
            return MergeOutcome::OutOfScope;
        }
        if self.keep(mac, strong, now) {
            if strong { MergeOutcome::Strong } else { MergeOutcome::Weak }
        } else if strong {
            MergeOutcome::LeftOut
        } else {
            MergeOutcome::Weak
        }
    }

    /// Whether this device belongs to a person.
    pub fn knows(&self, mac: MacAddr) -> bool {
        self.known.contains(&mac)
    }

    /// Records evidence of a device. Returns false if the device is not remembered: there is no room, or it is unknown
    /// and the evidence is weak.
    fn keep(&mut self, mac: MacAddr, strong: bool, now: Now) -> bool {
        use std::collections::btree_map::Entry;
        let device = match self.devices.entry(mac.into()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let known = self.known.contains(&mac);
                if !known && (!strong || self.unknown >= UNKNOWN_DEVICES) {
                    return false;
                }
                self.unknown += usize::from(!known);
                entry.insert(SeenDevice::new(known, now))
            }
        };
        device.merge(strong, self.idle_limit, now);
        if strong && device.announced == Announced::No {
            device.announced = Announced::Queued;
            self.appeared.push_back(mac);
        }
        // Devices in the queue are delivered without a scan.
        if device.announced != Announced::Queued && device.has_pending() {
            let due = device.due_at(self.refresh, now);
            self.next_scan = Some(self.next_scan.map_or(due, |next| next.min(due)));
        }
        true
    }

    /// Whether anything is due.
    pub fn has_due(&self, now: Now) -> bool {
        !self.appeared.is_empty() || self.next_scan.is_some_and(|next| next <= now.boot)
    }

    /// Takes at most [`DELIVERED_TOGETHER`] devices that are due; those that have just appeared come first. Call it
    /// again while [`Coalescer::has_due`].
    pub fn take_due(&mut self, now: Now) -> Presences {
        let mut due = Vec::new();
        while due.len() < DELIVERED_TOGETHER {
            let Some(mac) = self.appeared.pop_front() else { break };
            if let Some(device) = self.devices.get_mut(&mac.into()) {
                device.announced = Announced::Yes;
                due.extend(device.take_presence(&self.interface, mac, now));
            }
        }
        if self.next_scan.is_some_and(|next| next <= now.boot) && due.len() < DELIVERED_TOGETHER {
            self.scan(&mut due, now);
        }
        due
    }

    /// Takes the devices that are due for a refresh, and schedules the next scan.
    fn scan(&mut self, due: &mut Presences, now: Now) {
        let mut next: Option<BootTime> = None;
        for (&key, device) in &mut self.devices {
            if !device.has_pending() {
                continue;
            }
            let at = device.due_at(self.refresh, now);
            if at <= now.boot && due.len() < DELIVERED_TOGETHER {
                due.extend(device.take_presence(&self.interface, key.into(), now));
            } else {
                next = Some(next.map_or(at, |soonest| soonest.min(at)));
            }
        }
        let full = due.len() >= DELIVERED_TOGETHER;
        self.next_scan = next.map(|at| if full { at } else { at.max(now.boot.plus(BETWEEN_SCANS.min(self.refresh))) });
    }

    /// Forgets devices that have been silent for longer than the idle limit and have no evidence left to deliver.
    pub fn sweep(&mut self, now: Now) {
        if self.next_sweep.is_some_and(|next| now.boot < next) {
            return;
        }
        self.next_sweep = Some(now.boot.plus(BETWEEN_SWEEPS.min(self.idle_limit)));
        let idle_limit = self.idle_limit;
        self.devices.retain(|_, device| device.has_pending() || now.boot.since(device.last_alive) <= idle_limit);
        self.unknown = self.devices.values().filter(|device| !device.known).count();
    }

    /// Called when the capture ends: makes all undelivered evidence due.
    pub fn finish(&mut self, now: Now) {
        self.refresh = Duration::ZERO;
        self.next_scan = Some(now.boot);
    }

    /// How many devices are remembered.
    pub fn remembered(&self) -> usize {
        self.devices.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::WallTime,
        settings::{MacPattern, Relays},
        source::network::frame::{FrameKind, Via, Vlans},
    };
    use proptest::prelude::*;

    const LIMIT: Duration = Duration::from_secs(45 * 60);

    fn coalescer() -> Coalescer {
        Coalescer::new(&capture(), LIMIT)
    }

    fn capture() -> Capture {
        Capture {
            interface: "eth1".into(),
            vlans: Vec::new(),
            ignore: vec![MacPattern { prefix: vec![0x00, 0x50, 0x56] }],
            relays: Relays::Any,
            backend: crate::settings::CaptureBackend::Ring,
        }
    }

    fn at(seconds: u64) -> Now {
        Now {
            wall: WallTime::from_millis(1_700_000_000_000).plus(Duration::from_secs(seconds)),
            boot: BootTime::from_duration(Duration::from_secs(seconds)),
        }
    }

    fn mac(number: u32) -> MacAddr {
        let [a, b, c, d] = number.to_be_bytes();
        MacAddr::new([0x3c, 0x22, a, b, c, d])
    }

    fn seen(number: u32, evidence: Evidence) -> Observation {
        let (kind, vlans, mac) = (FrameKind::ArpRequest, Vlans::default(), Some(mac(number)));
        Observation { kind, vlans, mac, evidence, via: Via::Link, lease: None }
    }

    fn knowing(number: u32) -> KnownMacs {
        Arc::new(BTreeSet::from([mac(number)]))
    }

    #[test]
    fn a_device_is_delivered_when_it_appears_and_then_once_a_minute_while_it_sends() {
        let mut coalescer = coalescer();
        let mut delivered = Vec::new();
        for second in 0..=150 {
            coalescer.merge(&seen(1, Evidence::Strong), at(second));
            while coalescer.has_due(at(second)) {
                let due = coalescer.take_due(at(second));
                if due.is_empty() {
                    break;
                }
                delivered.extend(due.into_iter().map(|presence| (second, presence.frames)));
            }
        }
        assert_eq!(delivered, [(0, 1), (60, 60), (120, 60)]);
    }

    #[test]
    fn a_silent_device_is_not_delivered_again() {
        let mut coalescer = coalescer();
        coalescer.merge(&seen(1, Evidence::Strong), at(0));
        assert_eq!(coalescer.take_due(at(0)).len(), 1);
        assert!((1..600).all(|second| !coalescer.has_due(at(second)) || coalescer.take_due(at(second)).is_empty()));
    }

    #[test]
    fn a_new_presence_begins_only_after_a_silence_longer_than_the_limit() {
        for (gap, begins_at) in [(45 * 60, 0), (45 * 60 + 1, 45 * 60 + 1)] {
            let mut coalescer = coalescer();
            coalescer.merge(&seen(1, Evidence::Strong), at(0));
            coalescer.take_due(at(0));
            coalescer.merge(&seen(1, Evidence::Strong), at(gap));
            let due = coalescer.take_due(at(gap));
            assert_eq!(due[0].since, at(begins_at).wall, "gap {gap}");
            assert_eq!(due[0].first_at, at(gap).wall);
        }
    }

    #[test]
    fn weak_evidence_bridges_a_silence_for_two_limits_and_no_longer() {
        let minutes = |count: u64| at(count * 60);
        for (last_weak, strong_again, begins_at) in [(80, 120, 0), (95, 120, 120)] {
            let mut coalescer = coalescer();
            coalescer.set_known(knowing(1));
            coalescer.merge(&seen(1, Evidence::Strong), minutes(0));
            for minute in (10..=last_weak).step_by(5).filter(|minute| last_weak == 80 || *minute > 90) {
                coalescer.merge(&seen(1, Evidence::Weak), minutes(minute));
                coalescer.take_due(minutes(minute));
            }
            coalescer.merge(&seen(1, Evidence::Strong), minutes(strong_again));
            let due = coalescer.take_due(minutes(strong_again));
            assert_eq!(due.last().map(|presence| presence.since), Some(minutes(begins_at).wall), "weak to {last_weak}");
        }
    }

    #[test]
    fn weak_evidence_alone_is_delivered_for_known_devices_only() {
        let mut coalescer = coalescer();
        coalescer.set_known(knowing(1));
        coalescer.merge(&seen(1, Evidence::Weak), at(0));
        coalescer.merge(&seen(2, Evidence::Weak), at(0));
        let due = coalescer.take_due(at(0));
        assert_eq!(
            due.iter().map(|presence| (presence.mac, presence.last_strong_at)).collect::<Vec<_>>(),
            [(mac(1), None)]
        );
        assert_eq!(coalescer.remembered(), 1);
        coalescer.merge(&seen(1, Evidence::Strong), at(1));
        assert_eq!(coalescer.take_due(at(1)).len(), 1, "the first strong evidence does not wait for the refresh");
    }

    #[test]
    fn a_device_that_has_become_known_is_delivered_with_its_next_frame() {
        let mut coalescer = coalescer();
        coalescer.merge(&seen(1, Evidence::Strong), at(0));
        coalescer.take_due(at(0));
        coalescer.set_known(knowing(1));
        coalescer.merge(&seen(1, Evidence::Strong), at(2));
        assert_eq!(coalescer.take_due(at(2)).len(), 1);
    }

    #[test]
    fn our_own_addresses_infrastructure_and_other_vlans_are_out_of_scope() {
        let mut coalescer = Coalescer::new(&Capture { vlans: vec![10], ..capture() }, LIMIT);
        assert_eq!(coalescer.merge(&seen(1, Evidence::Strong), at(0)), MergeOutcome::OutOfScope);
        let mut coalescer = super::tests::coalescer();
        coalescer.set_own(vec![mac(1)]);
        assert_eq!(coalescer.merge(&seen(1, Evidence::Strong), at(0)), MergeOutcome::OutOfScope);
        let listed = Observation { mac: Some(MacAddr::new([0, 0x50, 0x56, 1, 2, 3])), ..seen(1, Evidence::Strong) };
        assert_eq!(coalescer.merge(&listed, at(0)), MergeOutcome::OutOfScope);
        assert_eq!(coalescer.remembered(), 0);
    }

    #[test]
    fn only_listed_relays_prove_their_clients_and_a_router_opens_nothing() {
        let [ours, theirs] = [[10, 1, 0, 1], [10, 2, 0, 1]].map(std::net::Ipv4Addr::from);
        let all = [Via::Link, Via::Relay(ours), Via::Relay(theirs), Via::Router];
        let (yes, no) = (MergeOutcome::Strong, MergeOutcome::OutOfScope);
        for (relays, wanted) in [
            (Relays::Any, [yes, yes, yes, yes]),
            (Relays::Listed(vec![ours]), [yes, yes, no, MergeOutcome::Weak]),
            (Relays::Listed(Vec::new()), [yes, no, no, no]),
        ] {
            let mut coalescer = Coalescer::new(&Capture { relays: relays.clone(), ..capture() }, LIMIT);
            let got = all.map(|via| coalescer.merge(&Observation { via, ..seen(1, Evidence::Strong) }, at(0)));
            assert_eq!(got, wanted, "{relays:?}");
        }
    }

    #[test]
    fn a_million_forged_addresses_fill_one_table_and_known_devices_still_come_through() {
        let mut coalescer = coalescer();
        coalescer.set_known(knowing(5_000_000));
        let mut left_out = 0;
        let mut delivered = 0;
        for number in 0..1_000_000 {
            left_out += u32::from(coalescer.merge(&seen(number, Evidence::Strong), at(0)) == MergeOutcome::LeftOut);
        }
        assert_eq!(left_out as usize, 1_000_000 - UNKNOWN_DEVICES);
        assert_eq!(coalescer.merge(&seen(5_000_000, Evidence::Strong), at(0)), MergeOutcome::Strong);
        assert_eq!(coalescer.remembered(), UNKNOWN_DEVICES + 1);
        while coalescer.has_due(at(0)) {
            let due = coalescer.take_due(at(0));
            assert!(due.len() <= DELIVERED_TOGETHER);
            delivered += due.len();
        }
        assert_eq!(delivered, UNKNOWN_DEVICES + 1);
        coalescer.sweep(at(46 * 60));
        assert_eq!(coalescer.remembered(), 0);
        assert_eq!(coalescer.merge(&seen(1, Evidence::Strong), at(46 * 60)), MergeOutcome::Strong);
    }

    #[test]
    fn what_is_waiting_goes_out_when_the_capture_ends() {
        let mut coalescer = coalescer();
        coalescer.merge(&seen(1, Evidence::Strong), at(0));
        coalescer.take_due(at(0));
        coalescer.merge(&seen(1, Evidence::Strong), at(5));
        assert!(!coalescer.has_due(at(5)));
        coalescer.finish(at(5));
        assert_eq!(coalescer.take_due(at(5)).len(), 1);
    }

    proptest! {
        /// However the queue stalls, every frame of evidence is delivered exactly once, and the times of a presence are
        /// in order.
        #[test]
        fn nothing_but_repetition_is_lost(
            steps in proptest::collection::vec((0u32..20, any::<bool>(), 0u64..1200, any::<bool>()), 1..200),
        ) {
            let mut coalescer = coalescer();
            coalescer.set_known(Arc::new((0..20).map(mac).collect()));
            let (mut clock, mut merged, mut delivered) = (0, 0u32, 0u32);
            for (number, strong, pause, room) in steps {
                clock += pause;
                let evidence = if strong { Evidence::Strong } else { Evidence::Weak };
                coalescer.merge(&seen(number, evidence), at(clock));
                merged += 1;
                coalescer.sweep(at(clock));
                if room {
                    for presence in coalescer.take_due(at(clock)) {
                        prop_assert!(presence.first_at <= presence.last_at);
                        prop_assert!(presence.since <= presence.last_at);
                        prop_assert!(presence.last_strong_at.is_none_or(|last| presence.first_at <= last));
                        delivered += presence.frames;
                    }
                }
            }
            coalescer.finish(at(clock));
            delivered += coalescer.take_due(at(clock)).iter().map(|presence| presence.frames).sum::<u32>();
            prop_assert_eq!(merged, delivered);
        }
    }
}
