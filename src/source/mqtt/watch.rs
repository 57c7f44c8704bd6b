//! PURE. Detects faults of controllers that no single message shows: clocks that are off, times that cannot be read,
//! keys that are used again, readers that repeat.
//!
//! It decides nothing and corrects no time; it raises the conditions that tell a person what to fix.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::counters::{SourceCounters, add};
use crate::{
    base::{
        clock::{BootTime, Now, WallTime},
        health::ConditionKind,
        sighting::{DoorKey, Sighting, TimeQuality},
    },
    mapping::{ClockNotation, ClockReading, Mapping},
};

/// A message is live if the broker cannot have kept it longer than this. Only a live one shows how far a clock is off.
const LIVE: Duration = Duration::from_mins(1);

/// How far off a clock may be before that is reported, in milliseconds; also how far apart the offsets of one clock may
/// be.
const TOLERANCE: i64 = 60_000;

/// How many equal offsets prove a wrong clock if they cannot be lateness.
const PROOF: u32 = 3;

/// If the offsets may be lateness: how many equal ones prove a wrong clock, and over how long. A controller that sends
/// late sends in bursts.
const STEADY: (u32, Duration) = (5, Duration::from_mins(2));

/// How many clocks are checked, one per door. If there are more doors, only the first ones are checked.
const MOST_CLOCKS: usize = 1000;

/// How many keys are remembered: those of the last hours, in 150 KB. A key that is used again later goes unnoticed
/// here, but its event is still decided.
const MOST_KEYS: usize = 4096;

/// How many reused keys within [`REUSE_SPAN`] raise the condition.
const MANY_REUSED: usize = 3;

/// See [`MANY_REUSED`]; the condition ends after this long without a reused key.
const REUSE_SPAN: Duration = Duration::from_hours(1);

/// A card that is read without a break for this long was left on the reader.
const LEFT_ON_READER: Duration = Duration::from_mins(2);

/// How many cards are watched for repeated reads. If there are more cards, only the first ones are watched.
const MOST_READS: usize = 1024;

/// How many readable times in a row clear the condition that times are unreadable.
const READABLE: u32 = 20;

/// A condition to raise or to clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceFinding {
    pub(super) kind: ConditionKind,
    /// The source, or the door of it.
    pub(super) subject: String,
    /// What is wrong and what to do; `None` to clear the condition.
    pub(super) detail: Option<String>,
}

/// What is remembered about the messages of the last hours.
#[derive(Debug, Default)]
pub(super) struct Watch {
    sources: BTreeMap<Arc<str>, SourceWatch>,
    /// By source and door.
    clocks: BTreeMap<u64, ClockTrail>,
    keys: Keys,
    /// By source, door, direction and credential.
    reads: BTreeMap<u64, Reads>,
}

#[derive(Debug, Default)]
struct SourceWatch {
    counters: Arc<SourceCounters>,
    /// Readable times since the last unreadable one; `None` if there was none lately.
    readable: Option<u32>,
    /// When keys were reused most recently.
    reused: VecDeque<BootTime>,
}

/// The recent offsets of one clock.
#[derive(Debug)]
struct ClockTrail {
    source: Arc<str>,
    door: DoorKey,
    run: Option<ClockRun>,
    /// How far it is off, in milliseconds, and how the controller writes its time; `None` if the clock is right.
    off: Option<(i64, ClockNotation)>,
}

/// Consecutive offsets that are equal within [`TOLERANCE`].
#[derive(Clone, Copy, Debug)]
struct ClockRun {
    since: BootTime,
    many: u32,
    /// In milliseconds ahead of the arrival.
    least: i64,
    most: i64,
}

/// The content last seen with each key.
#[derive(Debug, Default)]
struct Keys {
    content: BTreeMap<u64, u64>,
    /// The keys, oldest first.
    order: VecDeque<u64>,
}

/// Reads of one card at one reader, each within the debounce window of the one before.
#[derive(Debug)]
struct Reads {
    source: Arc<str>,
    door: DoorKey,
    first: WallTime,
    last: WallTime,
    /// When the last one arrived.
    came: BootTime,
    /// A longer gap ends the series.
    gap: Duration,
    is_reported: bool,
}

impl Watch {
    /// Checks a mapped message. `waited` is how long the broker may have kept it.
    pub(super) fn observe(
        &mut self,
        mapping: &Mapping,
        (sightings, clocks): (&[Sighting], &[ClockReading]),
        (now, waited): (Now, Duration),
        counters: impl Fn() -> Arc<SourceCounters>,
    ) -> Vec<SourceFinding> {
        let mut found = Vec::new();
        let of_source = self.sources.entry(Arc::clone(&mapping.name));
        of_source.or_insert_with(|| SourceWatch { counters: counters(), ..SourceWatch::default() });
        for (sighting, clock) in sightings.iter().zip(clocks) {
            self.check_clock(mapping, sighting, clock, now, waited, &mut found);
            self.check_key(sighting, now.boot, &mut found);
            self.check_reads(mapping, sighting, now.boot, &mut found);
        }
        found
    }

    fn check_clock(
        &mut self,
        mapping: &Mapping,
        sighting: &Sighting,
        clock: &ClockReading,
        now: Now,
        waited: Duration,
        found: &mut Vec<SourceFinding>,
    ) {
        let Some(of) = self.sources.get_mut(&mapping.name) else { return };
        let subject = || mapping.name.to_string();
        // An unreadable time raises its own condition; there is no offset to judge.
        let (ahead, writing) = match clock {
            ClockReading::Absent => return,
            ClockReading::Unreadable(shape) => {
                add(&of.counters.times_unreadable, 1);
                let detail = format!(
                    "the source \"{}\" sends a time that no format in its time.parse can read: {shape}; the time of \
                     arrival is used instead; add the format to parse under [source.time]",
                    mapping.name
                );
                found.push(SourceFinding {
                    kind: ConditionKind::TimeUnreadable,
                    subject: subject(),
                    detail: Some(detail),
                });
                of.readable = Some(0);
                return;
            }
            ClockReading::Ahead(ahead, writing) => (*ahead, *writing),
        };
        // One readable time is not enough to clear that condition: a controller may send both kinds.
        if let Some(readable) = &mut of.readable {
            *readable += 1;
            if *readable >= READABLE {
                of.readable = None;
                found.push(SourceFinding { kind: ConditionKind::TimeUnreadable, subject: subject(), detail: None });
            }
        }
        if sighting.time_quality == TimeQuality::Arrival {
            add(&of.counters.times_not_believed, 1);
        }
        // The offset of a stored message contains its time at the broker, so it proves nothing.
        if waited > LIVE {
            return;
        }
        let id = hashed(&(&*mapping.name, &sighting.event.door.0));
        if self.clocks.len() >= MOST_CLOCKS && !self.clocks.contains_key(&id) {
            return;
        }
        let trail = self.clocks.entry(id).or_insert_with(|| ClockTrail {
            source: Arc::clone(&mapping.name),
            door: sighting.event.door.clone(),
            run: None,
            off: None,
        });
        // Report only changes.
        let before = trail.off;
        trail.note((ahead, writing), now.boot, mapping.lateness());
        if before != trail.off {
            found.push(self.clock_finding(mapping, now.wall));
        }
    }

    /// Reports the worst clock of a source; clears the condition if none is off.
    fn clock_finding(&self, mapping: &Mapping, now: WallTime) -> SourceFinding {
        let of_source = self.clocks.values().filter(|trail| trail.source == mapping.name);
        let off = of_source.filter_map(|trail| Some((trail.off?, &trail.door)));
        let worst = off.max_by_key(|((ahead, _), door)| (ahead.unsigned_abs(), *door));
        if let Some(of) = self.sources.get(&mapping.name) {
            of.counters.clock_ahead.store(worst.map_or(0, |((ahead, _), _)| ahead), Relaxed);
        }
        let detail = worst.map(|(off, door)| {
            let way = if off.0 > 0 { "ahead" } else { "behind" };
            format!(
                "the clock at door \"{door}\" of the source \"{}\" is {} {way}; its times are not corrected; {}",
                mapping.name,
                two_units(off.0),
                mapping.clock_advice(off, now)
            )
        });
        SourceFinding { kind: ConditionKind::ClockOffset, subject: mapping.name.to_string(), detail }
    }

    fn check_key(&mut self, sighting: &Sighting, now: BootTime, found: &mut Vec<SourceFinding>) {
        let (key, content) = (hashed(&sighting.key.0), content_of(sighting));
        if !self.keys.is_reused(key, content) {
            return;
        }
        let Some(of) = self.sources.get_mut(&sighting.source) else { return };
        add(&of.counters.keys_reused, 1);
        of.reused.push_back(now);
        if of.reused.len() > MANY_REUSED {
            of.reused.pop_front();
        }
        let recent = of.reused.iter().filter(|at| now.since(**at) <= REUSE_SPAN).count();
        if recent >= MANY_REUSED {
            let detail = format!(
                "events of the source \"{}\" have keys that earlier events used, most recently at door \"{}\"; they still count \
                 as separate events. If a controller starts counting from one again, add the time to key.id; if none \
                 does, another client publishes on its topics",
                sighting.source, sighting.event.door
            );
            let subject = sighting.source.to_string();
            found.push(SourceFinding { kind: ConditionKind::KeysReused, subject, detail: Some(detail) });
        }
    }

    fn check_reads(&mut self, mapping: &Mapping, sighting: &Sighting, now: BootTime, found: &mut Vec<SourceFinding>) {
        let Some(credential) = &sighting.event.credential else { return };
        let (door, at, gap) = (&sighting.event.door, sighting.event_at, mapping.debounce());
        let direction = sighting.event.direction as u8;
        let id = hashed(&(&*mapping.name, &door.0, direction, credential.kind, &credential.scope, &credential.value));
        if self.reads.len() >= MOST_READS && !self.reads.contains_key(&id) {
            return;
        }
        let reads = self.reads.entry(id).or_insert_with(|| {
            let (source, door) = (Arc::clone(&mapping.name), door.clone());
            Reads { source, door, first: at, last: at, came: now, gap, is_reported: false }
        });
        if at.distance(reads.last) <= gap || (reads.first..=reads.last).contains(&at) {
            reads.first = reads.first.min(at);
            reads.last = reads.last.max(at);
        } else {
            (reads.first, reads.last) = (at, at);
        }
        reads.came = now;
        if reads.last.since(reads.first) >= LEFT_ON_READER {
            reads.is_reported = true;
            let detail = format!(
                "the reader at door \"{door}\" of the source \"{}\" has been reading the same card since {}; it counts once; \
                 check whether a card was left on it, or set the reader to report each card once",
                mapping.name,
                reads.first.to_rfc3339_seconds()
            );
            let subject = format!("{}/{door}", mapping.name);
            found.push(SourceFinding { kind: ConditionKind::ReaderRepeats, subject, detail: Some(detail) });
        }
    }

    /// Forgets the sources that are no longer configured, and clears their conditions.
    pub(super) fn retain_sources(&mut self, configured: &[Arc<Mapping>]) -> Vec<SourceFinding> {
        let stays = |source: &Arc<str>| configured.iter().any(|mapping| mapping.name == *source);
        let mut found = Vec::new();
        let mut clear = |kind, subject| found.push(SourceFinding { kind, subject, detail: None });
        for source in self.sources.keys().filter(|source| !stays(source)) {
            for kind in [ConditionKind::ClockOffset, ConditionKind::TimeUnreadable, ConditionKind::KeysReused] {
                clear(kind, source.to_string());
            }
        }
        for reads in self.reads.values().filter(|reads| reads.is_reported && !stays(&reads.source)) {
            clear(ConditionKind::ReaderRepeats, format!("{}/{}", reads.source, reads.door));
        }
        self.sources.retain(|source, _| stays(source));
        self.clocks.retain(|_, trail| stays(&trail.source));
        self.reads.retain(|_, reads| stays(&reads.source));
        found
    }

    /// Clears the conditions that have ended. Called once a second.
    pub(super) fn tick(&mut self, now: BootTime) -> Vec<SourceFinding> {
        let mut found = Vec::new();
        let mut ended = Vec::new();
        self.reads.retain(|_, reads| {
            let is_over = now.since(reads.came) > reads.gap.max(Duration::from_secs(1));
            if is_over && reads.is_reported {
                ended.push(format!("{}/{}", reads.source, reads.door));
            }
            !is_over
        });
        for subject in ended {
            let goes_on = |reads: &Reads| reads.is_reported && format!("{}/{}", reads.source, reads.door) == subject;
            if !self.reads.values().any(goes_on) {
                found.push(SourceFinding { kind: ConditionKind::ReaderRepeats, subject, detail: None });
            }
        }
        for (source, of) in &mut self.sources {
            if of.reused.back().is_some_and(|last| now.since(*last) > REUSE_SPAN) {
                of.reused.clear();
                found.push(SourceFinding {
                    kind: ConditionKind::KeysReused,
                    subject: source.to_string(),
                    detail: None,
                });
            }
        }
        found
    }
}

impl ClockTrail {
    /// Adds an offset, and judges the clock by the run of equal offsets.
    fn note(&mut self, (ahead, writing): (i64, ClockNotation), now: BootTime, lateness: Duration) {
        if ahead.abs() <= TOLERANCE {
            // The clock is right: earlier messages were late, or it has been set.
            (self.run, self.off) = (None, None);
            return;
        }
        let new = ClockRun { since: now, many: 0, least: ahead, most: ahead };
        let goes_on = |run: &ClockRun| run.most.max(ahead).saturating_sub(run.least.min(ahead)) <= TOLERANCE;
        let run = self.run.filter(goes_on).unwrap_or(new);
        let run = ClockRun { many: run.many + 1, least: run.least.min(ahead), most: run.most.max(ahead), ..run };
        self.run = Some(run);
        let lateness = i64::try_from(lateness.as_millis()).unwrap_or(i64::MAX);
        let may_be_lateness = run.most < 0 && run.most >= lateness.saturating_neg();
        let is_sure =
            if may_be_lateness { run.many >= STEADY.0 && now.since(run.since) >= STEADY.1 } else { run.many >= PROOF };
        // Late messages make a clock look further behind than it is, so the largest offset is closest to the truth.
        // Compare in minutes, or jitter would cause repeated reports.
        let minutes = |ahead: i64| (ahead + ahead.signum() * 30_000) / 60_000;
        if is_sure && self.off.is_none_or(|(off, _)| minutes(off).abs_diff(minutes(run.most)) > 1) {
            self.off = Some((run.most, writing));
        }
    }
}

impl Keys {
    /// Whether this key last identified other content. From now on it identifies this.
    fn is_reused(&mut self, key: u64, content: u64) -> bool {
        match self.content.insert(key, content) {
            Some(before) => before != content,
            None => {
                self.order.push_back(key);
                if self.order.len() > MOST_KEYS
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.content.remove(&oldest);
                }
                false
            }
        }
    }
}

fn hashed(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// A hash of everything that a message contains about an event; the time of arrival is not part of that.
fn content_of(sighting: &Sighting) -> u64 {
    let event = &sighting.event;
    let at = (sighting.time_quality != TimeQuality::Arrival).then(|| sighting.event_at.millis());
    let refusal = event.refusal.map(|refusal| refusal as u8);
    let fields = (at, event.kind as u8, event.direction as u8, refusal, &event.door.0);
    let shown = event.credential.as_ref().map(|shown| (shown.kind, &shown.scope, &shown.value));
    hashed(&(fields, shown))
}

/// Formats a span in at most two units: `5 h`, `5 h 45 min`, `1 min 35 s`, `9 d 2 h`.
fn two_units(millis: i64) -> String {
    let seconds = (millis.unsigned_abs() + 500) / 1000;
    // From ten minutes on, seconds do not matter.
    let seconds = if seconds >= 600 { (seconds + 30) / 60 * 60 } else { seconds };
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let shown = parts.iter().filter(|(many, _)| *many > 0);
    shown.take(2).map(|(many, unit)| format!("{many} {unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::Now,
        mapping::{Mapped, MappingFragment, Meta, content::Content},
    };

    /// One source, and the conditions that its messages raised.
    struct Bench {
        mapping: Mapping,
        watch: Watch,
        counters: Arc<SourceCounters>,
        raised: BTreeMap<(ConditionKind, String), String>,
        boot: u64,
    }

    impl Bench {
        fn new(trust: &str) -> Self {
            let text = format!(
                "name = \"front\"\npreset = \"generic-json\"\ntopics = [\"doors\"]\ntime.trust = \"{trust} past\"\n"
            );
            let fragment: MappingFragment = toml::from_str(&text).expect("TOML");
            let mapping = Mapping::compile(&fragment).expect("a mapping");
            Self { mapping, watch: Watch::default(), counters: Arc::default(), raised: BTreeMap::new(), boot: 0 }
        }

        /// A tap `later` seconds after the last one, by a clock that is `ahead` seconds ahead.
        fn tap(&mut self, later: u64, ahead: i64) {
            self.boot += later;
            let unix = 1_772_442_000 + self.boot.cast_signed();
            let payload = format!(r#"{{"door":"main","card":"{}","time":{}}}"#, self.boot, unix + ahead);
            self.receive(&payload);
        }

        fn receive(&mut self, payload: &str) {
            let boot = BootTime::from_duration(Duration::from_secs(self.boot));
            let wall = WallTime::from_millis((1_772_442_000 + self.boot.cast_signed()) * 1000);
            let now = Now { wall, boot };
            let Mapped { content, clocks } = self.mapping.map("doors", payload.as_bytes(), Meta::default(), now);
            let Content::Sightings(sightings) = content else { panic!("{content:?}") };
            let counters = Arc::clone(&self.counters);
            let found = self
                .watch
                .observe(&self.mapping, (&sightings, &clocks), (now, Duration::ZERO), || Arc::clone(&counters));
            let ended = self.watch.tick(boot);
            for SourceFinding { kind, subject, detail } in found.into_iter().chain(ended) {
                match detail {
                    Some(detail) => drop(self.raised.insert((kind, subject), detail)),
                    None => drop(self.raised.remove(&(kind, subject))),
                }
            }
        }

        fn detail(&self, kind: ConditionKind) -> Option<&str> {
            self.raised.iter().find(|((raised, _), _)| *raised == kind).map(|(_, detail)| detail.as_str())
        }
    }

    #[test]
    fn a_clock_is_off_if_every_tap_has_the_same_offset() {
        let mut ahead = Bench::new("10m");
        (0..2).for_each(|_| ahead.tap(60, 3600));
        assert_eq!(ahead.detail(ConditionKind::ClockOffset), None, "two do not prove it");
        ahead.tap(60, 3601);
        assert!(ahead.detail(ConditionKind::ClockOffset).is_some_and(|detail| detail.contains("1 h ahead")));
        assert_eq!(ahead.counters.clock_ahead.load(Relaxed), 3_601_000);
        // The clock has been set.
        ahead.tap(60, 1);
        assert_eq!(ahead.detail(ConditionKind::ClockOffset), None);
        assert_eq!(ahead.counters.clock_ahead.load(Relaxed), 0);

        let mut erratic = Bench::new("10m");
        for ahead in [3600, -7200, 900, 5000, 86_400] {
            erratic.tap(60, ahead);
        }
        assert_eq!(erratic.detail(ConditionKind::ClockOffset), None);
    }

    #[test]
    fn taps_that_a_controller_buffered_are_no_wrong_clock() {
        // An hour's taps in one burst, and an hour later the next.
        let mut buffers = Bench::new("8d");
        for _ in 0..3 {
            buffers.boot += 3600;
            (1..=6).for_each(|ten| buffers.tap(0, ten * -600));
        }
        assert_eq!(buffers.detail(ConditionKind::ClockOffset), None);
        // Taps within a minute, all an hour late, may be a burst.
        (0..5).for_each(|nth| buffers.tap(1, -3600 - nth));
        assert_eq!(buffers.detail(ConditionKind::ClockOffset), None);
        // Always an hour late over several minutes: not a burst.
        (0..40).for_each(|_| buffers.tap(4, -3600));
        assert!(buffers.detail(ConditionKind::ClockOffset).is_some_and(|detail| detail.contains("1 h behind")));
    }

    #[test]
    fn spans_have_two_units_at_most() {
        let table = [
            (-18_000_000, "5 h"),
            (20_700_000, "5 h 45 min"),
            (95_400, "1 min 35 s"),
            (788_400_000, "9 d 3 h"),
            (20_699_000, "5 h 45 min"),
            (-3_599_000, "1 h"),
        ];
        for (millis, text) in table {
            assert_eq!(two_units(millis), text);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut bench = Bench::new("10m");
        for nth in 0..(MOST_KEYS + 100) {
            let door = nth % (MOST_CLOCKS + 100);
            bench.receive(&format!(r#"{{"id":"x{nth}","door":"d{door}","card":"c{nth}","time":"?"}}"#));
            bench.receive(&format!(r#"{{"id":"y{nth}","door":"d{door}","card":"c{nth}","time":1772442000}}"#));
        }
        let watch = &bench.watch;
        assert!(watch.clocks.len() <= MOST_CLOCKS && watch.reads.len() <= MOST_READS);
        assert_eq!((watch.keys.content.len(), watch.keys.order.len()), (MOST_KEYS, MOST_KEYS));
    }
}
