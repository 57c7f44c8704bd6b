//! PURE. What the pipeline remembers between batches: timers of open check-ins, recent taps, devices already reported.
//!
//! All of it can be lost: the database has the last word, and a restart builds it again from there.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use uuid::Uuid;

use crate::{
    clock::{BootTime, Now, WallTime},
    engine::{Timeout, Visit, calendar::PassDay},
    mac::MacAddr,
    record::CoworkerId,
    sighting::{Credential, Direction, DoorKey, Sighting, TimeQuality},
};

/// Unrecognised devices for which a failed check-in is written, per business and pass day. A busy open network shows a
/// few hundred strangers' phones a day; what comes beyond is counted and named as a condition, not written.
pub const UNRECOGNISED_A_DAY: usize = 1000;

/// Taps remembered for the debounce: a turnstile lets through about one person a second, and taps are forgotten after
/// the debounce time. When it is full the oldest goes, so that at worst a repeated tap counts as a second one.
const RECENT_TAPS: usize = 4096;

/// People whose last taps are remembered, so that the next is compared with them without asking the log. When it is full
/// the oldest go, and their next tap within the debounce time has the log asked.
const RECENT_PEOPLE: usize = 16_384;

/// A presence is handed over at most this long after its last evidence; how late one is, is not believed beyond this,
/// because it is a difference of wall times.
const LATEST_HAND_OVER: Duration = Duration::from_secs(120);

/// No cut-off is further away than this: the longest pass day, 25 hours, and one more. A visit that was written by a
/// clock ahead of ours is not in for ever.
const LONGEST_DAY: Duration = Duration::from_hours(26);

/// An open check-in and its two timers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OpenVisit {
    visit: Uuid,
    tracked: bool,
    from: WallTime,
    last_activity: WallTime,
    /// Silence counted before `mark`.
    quiet: Duration,
    /// The hearing clock from which on silence is counted.
    mark: Duration,
    /// When its pass day ends, on the clock that never jumps.
    cut_off: BootTime,
    /// When its pass ends, as it is written, and on the clock that never jumps.
    pass_end: Option<(WallTime, BootTime)>,
    /// When it was first seen here; none for one that was found at start.
    seen: Option<BootTime>,
}

/// What was last decided of somebody: good as long as the log knows of nothing later.
#[derive(Clone, Debug)]
struct Recent {
    /// The last thing that the log knew.
    frontier: WallTime,
    /// The taps that were not repetitions, of a while before it.
    taps: Taps,
    decided: BootTime,
}

/// When each tap (see [`walk`](super::walk)) was one, and not a repetition.
pub(super) type Taps = BTreeMap<String, BTreeSet<WallTime>>;

/// The pipeline's memory.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    open: BTreeMap<CoworkerId, OpenVisit>,
    recent: BTreeMap<CoworkerId, Recent>,
    recent_order: VecDeque<(BootTime, CoworkerId)>,
    /// The last tap of each credential at each door, and the order in which they came.
    taps: BTreeMap<TapKey, Tap>,
    tap_order: VecDeque<(BootTime, TapKey)>,
    unrecognised: BTreeSet<MacAddr>,
    unrecognised_day: Option<PassDay>,
}

/// What must be the same for a tap to be a repetition: a grant is none of the refusal before it, and a way out none of
/// the way in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TapKey {
    door: DoorKey,
    direction: Direction,
    let_in: bool,
    credential: Credential,
}

impl TapKey {
    fn of(sighting: &Sighting) -> Option<Self> {
        let event = &sighting.event;
        Some(Self {
            door: event.door.clone(),
            direction: event.direction,
            let_in: event.kind.lets_in(),
            credential: event.credential.clone()?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tap {
    event_at: WallTime,
    time_quality: TimeQuality,
    arrived: BootTime,
}

/// A timer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    /// Whose.
    pub(super) coworker: CoworkerId,
    /// Which check-in it was about.
    pub(super) visit: Uuid,
    /// Its last activity as we knew it; when the database knows a later one, the timer starts anew.
    pub(super) last_activity: WallTime,
    /// Which timer.
    pub(super) timeout: Timeout,
}

impl Memory {
    /// Remembers nothing yet.
    pub(super) fn new() -> Self {
        Self {
            open: BTreeMap::new(),
            recent: BTreeMap::new(),
            recent_order: VecDeque::new(),
            taps: BTreeMap::new(),
            tap_order: VecDeque::new(),
            unrecognised: BTreeSet::new(),
            unrecognised_day: None,
        }
    }

    /// Who is in here.
    pub(super) fn people(&self) -> impl Iterator<Item = CoworkerId> {
        self.open.keys().copied()
    }

    /// Is this person in, as far as is known here?
    pub(super) fn is_in(&self, coworker: CoworkerId) -> bool {
        self.open.contains_key(&coworker)
    }

    /// How many check-ins are open here.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Takes over a visit as it stands in the database now. `heard` is the hearing clock, `day_end` the end of the
    /// visit's pass day. Silence is counted from its last activity, which for a presence lies a moment back; `heard_now`
    /// says that the network has just seen a device of theirs, whatever the wall clock makes of it.
    pub(super) fn settle(&mut self, visit: &Visit, day_end: WallTime, heard: Duration, now: Now, heard_now: bool) {
        if !visit.is_open() {
            if self.open.get(&visit.coworker).is_some_and(|open| open.visit == visit.unique_id) {
                self.open.remove(&visit.coworker);
            }
            return;
        }
        let known = self.open.get(&visit.coworker).filter(|open| open.visit == visit.unique_id);
        let (quiet, mark) = match known {
            Some(open) if visit.last_activity <= open.last_activity && !heard_now => (open.quiet, open.mark),
            Some(_) | None => {
                let late = now.wall.since(visit.last_activity).min(LATEST_HAND_OVER);
                (Duration::ZERO, heard.saturating_sub(late))
            }
        };
        let cut_off = known.map_or_else(|| cut_off(day_end, now), |open| open.cut_off);
        let same = |at: &WallTime| known.and_then(|open| open.pass_end).filter(|(known, _)| known == at);
        let pass_end = visit.pass_ends().map(|at| same(&at).unwrap_or_else(|| (at, self::cut_off(at, now))));
        let seen = known.map_or(Some(now.boot), |open| open.seen);
        self.open.insert(
            visit.coworker,
            OpenVisit {
                visit: visit.unique_id,
                tracked: visit.is_tracked(),
                from: visit.from,
                last_activity: visit.last_activity,
                quiet,
                mark,
                cut_off,
                pass_end,
                seen,
            },
        );
    }

    /// Gives a visit found at start the silence that was heard before.
    pub(super) fn quiet_before(&mut self, coworker: CoworkerId, quiet: Duration, heard: Duration) {
        if let Some(open) = self.open.get_mut(&coworker) {
            open.quiet = quiet;
            open.mark = heard;
            open.seen = None;
        }
    }

    /// Silence of which nothing could be learnt, because what was heard could not be written, does not count.
    pub(super) fn forgive(&mut self, unheard: Duration) {
        for open in self.open.values_mut() {
            open.mark += unheard;
        }
    }

    /// The site's pass days have changed: every timer is set anew.
    pub(super) fn reset_cut_offs(&mut self, day_end: impl Fn(WallTime) -> WallTime, now: Now) {
        for open in self.open.values_mut() {
            open.cut_off = cut_off(day_end(open.from), now);
        }
    }

    /// The check-ins whose times were written by our clock before it was stepped by so many milliseconds: those whose
    /// moved beginning fits better to how long we have known them (a controller's own clock may have been right all the
    /// time). Of those found at start, all, or none when this is the `first` synchronisation.
    pub(super) fn stamped_before_step(&self, by: i64, first: bool, now: Now) -> BTreeMap<Uuid, CoworkerId> {
        let ours = |open: &OpenVisit| match open.seen {
            None => !first,
            Some(seen) => {
                let began = now.wall.minus(now.boot.since(seen));
                open.from.moved(by).distance(began) < open.from.distance(began)
            }
        };
        self.open.iter().filter(|(_, open)| ours(open)).map(|(coworker, open)| (open.visit, *coworker)).collect()
    }

    /// The wall clock was stepped by so many milliseconds, and these check-ins moved with it: every cut-off is set anew.
    pub(super) fn step(
        &mut self,
        moved: &BTreeMap<Uuid, CoworkerId>,
        by: i64,
        day_end: impl Fn(WallTime) -> WallTime,
        now: Now,
    ) {
        for open in self.open.values_mut().filter(|open| moved.contains_key(&open.visit)) {
            open.from = open.from.moved(by);
            open.last_activity = open.last_activity.moved(by);
        }
        self.reset_cut_offs(day_end, now);
    }

    /// The timers that are due, at most `limit`; the rest come next time.
    pub(super) fn due(&self, idle_limit: Duration, heard: Duration, now: BootTime, limit: usize) -> Vec<Due> {
        let timer = |(coworker, open): (&CoworkerId, &OpenVisit)| {
            let timeout = if now >= open.cut_off {
                Timeout::CutOff
            } else if open.pass_end.is_some_and(|(_, at)| now >= at) {
                Timeout::PassEnd
            } else if open.tracked && open.quiet + heard.saturating_sub(open.mark) > idle_limit {
                Timeout::Silence
            } else {
                return None;
            };
            Some(Due { coworker: *coworker, visit: open.visit, last_activity: open.last_activity, timeout })
        };
        self.open.iter().filter_map(timer).take(limit).collect()
    }

    /// Forgets an open visit that the database does not have any more.
    pub(super) fn gone(&mut self, coworker: CoworkerId) {
        self.open.remove(&coworker);
    }

    /// Is this the same credential at the same door again within `debounce`? Arrival times are compared on the
    /// boot-time clock; a controller's own times with each other, because a backlog arrives all at once.
    pub(super) fn is_repeated(&self, sighting: &Sighting, debounce: Duration) -> bool {
        let Some(key) = TapKey::of(sighting) else {
            return false;
        };
        self.taps.get(&key).is_some_and(|tap| match (tap.time_quality, sighting.time_quality) {
            (TimeQuality::Arrival, _) | (_, TimeQuality::Arrival) => {
                sighting.arrived.boot.since(tap.arrived) < debounce
            }
            (TimeQuality::Device | TimeQuality::Corrected, TimeQuality::Device | TimeQuality::Corrected) => {
                tap.event_at.distance(sighting.event_at) < debounce
            }
        })
    }

    /// Remembers a tap.
    pub(super) fn tapped(&mut self, sighting: &Sighting) {
        let Some(key) = TapKey::of(sighting) else {
            return;
        };
        let tap =
            Tap { event_at: sighting.event_at, time_quality: sighting.time_quality, arrived: sighting.arrived.boot };
        self.remember_tap(key, tap);
    }

    fn remember_tap(&mut self, key: TapKey, tap: Tap) {
        if self.tap_order.len() >= RECENT_TAPS {
            self.forget_oldest_tap();
        }
        self.tap_order.push_back((tap.arrived, key.clone()));
        self.taps.insert(key, tap);
    }

    fn forget_oldest_tap(&mut self) {
        let Some((arrived, key)) = self.tap_order.pop_front() else {
            return;
        };
        if self.taps.get(&key).is_some_and(|tap| tap.arrived <= arrived) {
            self.taps.remove(&key);
        }
    }

    /// The recent taps of somebody of whom the log knows nothing later than `frontier`; none when that is not known here,
    /// because we have just started or another gateway decides too.
    pub(super) fn recent(&self, coworker: CoworkerId, frontier: Option<WallTime>) -> Option<&Taps> {
        let known = self.recent.get(&coworker)?;
        (Some(known.frontier) == frontier).then_some(&known.taps)
    }

    /// Remembers what a committed batch has decided of somebody.
    pub(super) fn decided(&mut self, coworker: CoworkerId, frontier: WallTime, taps: Taps, now: BootTime) {
        self.recent.insert(coworker, Recent { frontier, taps, decided: now });
        self.recent_order.push_back((now, coworker));
        while self.recent_order.len() > RECENT_PEOPLE {
            self.forget_oldest_person();
        }
    }

    fn forget_oldest_person(&mut self) {
        let Some((decided, coworker)) = self.recent_order.pop_front() else { return };
        if self.recent.get(&coworker).is_some_and(|recent| recent.decided <= decided) {
            self.recent.remove(&coworker);
        }
    }

    /// Forgets taps that arrived longer ago than `debounce`, so that the list is short whenever nothing is going on.
    pub(super) fn forget_taps(&mut self, debounce: Duration, now: BootTime) {
        while self.recent_order.front().is_some_and(|(decided, _)| now.since(*decided) > debounce.max(LATEST_HAND_OVER))
        {
            self.forget_oldest_person();
        }
        while self.tap_order.front().is_some_and(|(arrived, _)| now.since(*arrived) > debounce) {
            self.forget_oldest_tap();
        }
    }

    /// Begins a pass day with the devices that were reported in it before.
    pub(super) fn begin_day(&mut self, day: PassDay, reported: BTreeSet<MacAddr>) {
        self.unrecognised = reported;
        self.unrecognised_day = Some(day);
    }

    /// May a failed check-in be written for this unrecognised device at this instant?
    pub(super) fn unrecognised(&self, mac: MacAddr, day: PassDay) -> Unrecognised {
        if self.unrecognised_day != Some(day) {
            return Unrecognised::New;
        }
        if self.unrecognised.contains(&mac) {
            Unrecognised::Reported
        } else if self.unrecognised.len() >= UNRECOGNISED_A_DAY {
            Unrecognised::LeftOut
        } else {
            Unrecognised::New
        }
    }

    /// How many unrecognised devices were reported on a pass day.
    pub(super) fn unrecognised_on(&self, day: PassDay) -> usize {
        if self.unrecognised_day == Some(day) { self.unrecognised.len() } else { 0 }
    }

    /// Takes over the taps of a committed batch.
    pub(super) fn take_taps(&mut self, other: &mut Self) {
        for (_, key) in std::mem::take(&mut other.tap_order) {
            if let Some(tap) = other.taps.remove(&key) {
                self.remember_tap(key, tap);
            }
        }
    }

    /// Remembers that a failed check-in was written for this device. A later day starts a new list; an older day (a
    /// presence from before the cut-off) is left to the database's unique key.
    pub(super) fn reported(&mut self, mac: MacAddr, day: PassDay) {
        match self.unrecognised_day {
            Some(known) if known == day => {}
            Some(known) if known > day => return,
            Some(_) | None => self.begin_day(day, BTreeSet::new()),
        }
        if self.unrecognised.len() < UNRECOGNISED_A_DAY {
            self.unrecognised.insert(mac);
        }
    }
}

fn cut_off(day_end: WallTime, now: Now) -> BootTime {
    now.boot.plus(day_end.since(now.wall).min(LONGEST_DAY))
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// What is known of an unrecognised device on a pass day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unrecognised {
    /// Not reported yet.
    New,
    /// Reported already.
    Reported,
    /// The day's bound is reached.
    LeftOut,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{BusinessId, CheckinSource, Snapshot},
        sighting::{CredentialKind, Direction, DoorEvent, DoorEventKind, SightingKey},
    };

    const IDLE: Duration = Duration::from_mins(45);

    #[test]
    fn silence_is_counted_on_the_hearing_clock_only() {
        let mut memory = Memory::new();
        memory.settle(&visit(1, true), wall(86_400), secs(100), now(1000, 1000), false);
        assert!(memory.due(IDLE, secs(100) + IDLE, boot(9000), 10).is_empty(), "not longer than the limit");
        let due = memory.due(IDLE, secs(101) + IDLE, boot(9000), 10);
        assert_eq!(due.iter().map(|due| due.timeout).collect::<Vec<_>>(), [Timeout::Silence]);
    }

    #[test]
    fn a_visit_that_the_network_never_saw_has_no_silence() {
        let mut memory = Memory::new();
        memory.settle(&visit(1, false), wall(86_400), secs(0), now(1000, 1000), false);
        assert!(memory.due(IDLE, secs(100_000), boot(9000), 10).is_empty());
    }

    #[test]
    fn the_cut_off_comes_on_the_boot_clock_whatever_the_wall_clock_does() {
        let mut memory = Memory::new();
        memory.settle(&visit(1, false), wall(1600), secs(0), now(1000, 50), false);
        memory.settle(&visit(1, false), wall(1600), secs(0), now(999_999, 60), false);
        assert!(memory.due(IDLE, secs(0), boot(649), 10).is_empty());
        let due = memory.due(IDLE, secs(0), boot(650), 10);
        assert_eq!(due.iter().map(|due| due.timeout).collect::<Vec<_>>(), [Timeout::CutOff]);
    }

    #[test]
    fn a_visit_from_a_clock_ahead_of_ours_is_not_in_for_ever() {
        let mut memory = Memory::new();
        memory.settle(&visit(1, false), wall(1_000_000_000), secs(0), now(1000, 50), false);
        assert!(memory.due(IDLE, secs(0), boot(24 * 3600), 10).is_empty());
        assert_eq!(memory.due(IDLE, secs(0), boot(26 * 3600 + 50), 10).len(), 1);
    }

    #[test]
    fn a_refresh_without_newer_activity_does_not_restart_the_silence() {
        let mut memory = Memory::new();
        memory.settle(&visit(1, true), wall(86_400), secs(100), now(1000, 1000), false);
        memory.settle(&visit(1, true), wall(86_400), secs(2000), now(2900, 2900), false);
        assert_eq!(memory.due(IDLE, secs(101) + IDLE, boot(9000), 10).len(), 1);
    }

    #[test]
    fn evidence_restarts_the_silence_even_when_the_wall_clock_went_back() {
        let mut memory = Memory::new();
        memory.settle(&visit(1, true), wall(86_400), secs(100), now(1000, 1000), false);
        memory.settle(&visit(1, true), wall(86_400), secs(2000), now(10, 2900), true);
        assert!(memory.due(IDLE, secs(2000) + IDLE, boot(9000), 10).is_empty());
    }

    #[test]
    fn silence_during_which_nothing_could_be_written_is_forgiven() {
        let mut memory = Memory::new();
        memory.settle(&visit(1, true), wall(86_400), secs(100), now(1000, 1000), false);
        memory.forgive(secs(600));
        assert!(memory.due(IDLE, secs(700) + IDLE, boot(9000), 10).is_empty());
        assert_eq!(memory.due(IDLE, secs(701) + IDLE, boot(9000), 10).len(), 1);
    }

    #[test]
    fn a_closed_visit_has_no_timers() {
        let mut memory = Memory::new();
        memory.settle(&visit(1, true), wall(86_400), secs(0), now(1000, 1000), false);
        memory.settle(&Visit { to: Some(wall(1500)), ..visit(1, true) }, wall(86_400), secs(0), now(1500, 1500), false);
        assert_eq!(memory.open(), 0);
    }

    #[test]
    fn taps_are_compared_on_the_clock_that_timed_them() {
        let mut memory = Memory::new();
        memory.tapped(&tap("A", 100, 100, TimeQuality::Arrival));
        let five = Duration::from_secs(5);
        assert!(memory.is_repeated(&tap("A", 999_999, 104, TimeQuality::Arrival), five), "the wall clock was stepped");
        assert!(!memory.is_repeated(&tap("A", 105, 105, TimeQuality::Arrival), five));
        assert!(!memory.is_repeated(&tap("B", 101, 101, TimeQuality::Arrival), five));

        let mut memory = Memory::new();
        memory.tapped(&tap("A", 3600, 100, TimeQuality::Device));
        assert!(!memory.is_repeated(&tap("A", 7200, 100, TimeQuality::Device), five), "a backlog arrives at once");
        assert!(memory.is_repeated(&tap("A", 3598, 101, TimeQuality::Device), five));
    }

    #[test]
    fn unrecognised_devices_are_bounded_per_day() {
        let mut memory = Memory::new();
        let (today, tomorrow) = (day(0), day(86_400));
        for number in 0..UNRECOGNISED_A_DAY {
            assert_eq!(memory.unrecognised(mac(number), today), Unrecognised::New);
            memory.reported(mac(number), today);
        }
        assert_eq!(memory.unrecognised(mac(5), today), Unrecognised::Reported);
        assert_eq!(memory.unrecognised(mac(UNRECOGNISED_A_DAY), today), Unrecognised::LeftOut);
        assert_eq!(memory.unrecognised(mac(5), tomorrow), Unrecognised::New);
        memory.reported(mac(5), tomorrow);
        assert_eq!(memory.unrecognised(mac(6), tomorrow), Unrecognised::New);
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn wall(seconds: i64) -> WallTime {
        WallTime::from_millis(seconds * 1000)
    }

    fn boot(seconds: u64) -> BootTime {
        BootTime::from_duration(secs(seconds))
    }

    fn now(wall_seconds: i64, boot_seconds: u64) -> Now {
        Now { wall: wall(wall_seconds), boot: boot(boot_seconds) }
    }

    fn day(start: i64) -> PassDay {
        PassDay { start: wall(start), end: wall(start + 86_400) }
    }

    fn mac(number: usize) -> MacAddr {
        let bytes = u32::try_from(number).expect("small").to_be_bytes();
        MacAddr::new([2, 0, bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn visit(coworker: i64, tracked: bool) -> Visit {
        Visit {
            unique_id: Uuid::from_u128(1),
            coworker: CoworkerId(coworker),
            business: BusinessId(1),
            business_name: None,
            then: Snapshot::default(),
            source: CheckinSource::DoorAccess,
            from: wall(1000),
            to: None,
            auto_checkout: false,
            last_activity: wall(1000),
            macs: BTreeSet::new(),
            door_in_at: None,
            strong_at: tracked.then(|| wall(1000)),
            lingered_at: None,
            pass: None,
        }
    }

    fn tap(card: &str, event: i64, arrived: u64, time_quality: TimeQuality) -> Sighting {
        Sighting {
            key: SightingKey(String::new()),
            source: "front".into(),
            event_at: wall(event),
            time_quality,
            arrived: now(event, arrived),
            event: DoorEvent {
                kind: DoorEventKind::Granted,
                door: DoorKey("d".to_owned()),
                direction: Direction::In,
                credential: Some(Credential {
                    kind: CredentialKind::Card,
                    scope: None,
                    value: card.to_owned(),
                    spellings: Vec::new(),
                }),
                refusal: None,
            },
        }
    }
}
