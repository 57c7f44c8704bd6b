//! PURE. Reads the log of an earlier version: turns its lines into facts, and remembers what later decisions depend on
//! for each person and day.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use crate::{
    base::{
        clock::{BootTime, Now, WallTime},
        fact::{
            DoorFact, Fact, FactDigest, LogDay, Point, PresenceFact, Recognised, RejectedFact, StrangeDeviceFact,
            Subject, TapId,
        },
        mac::MacAddr,
        record::{BusinessId, CoworkerId},
        sighting::{
            Credential, CredentialKind, Direction, DoorEvent, DoorEventKind, DoorKey, Refusal, Sighting, SightingKey,
            TimeQuality,
        },
    },
    directory::Directory,
    engine::{
        decision::{DecisionCode, Note, Outcome, Reason},
        life::CloseBy,
    },
    policy::{AHEAD, HISTORY, PolicyHistory, calendar::Calendar},
    store::{DecidedFact, OldLine},
};

/// Every kind of door event, to look up by its word.
const KINDS: [DoorEventKind; 16] = [
    DoorEventKind::Granted,
    DoorEventKind::Read,
    DoorEventKind::Denied,
    DoorEventKind::UnknownCredential,
    DoorEventKind::Duress,
    DoorEventKind::Exit,
    DoorEventKind::RemoteOpen,
    DoorEventKind::DoorOpen,
    DoorEventKind::DoorClosed,
    DoorEventKind::Held,
    DoorEventKind::Forced,
    DoorEventKind::Tamper,
    DoorEventKind::Bell,
    DoorEventKind::Online,
    DoorEventKind::Offline,
    DoorEventKind::Heartbeat,
];

/// What the old log contains about one person on one day at one business, limited to what later decisions depend on.
#[derive(Clone, Debug, Default)]
pub(super) struct DayTrace {
    /// The last evidence that opened or refreshed a visit.
    pub(super) last: Option<WallTime>,
    pub(super) strong: Option<WallTime>,
    pub(super) entry: Option<WallTime>,
    pub(super) macs: BTreeSet<MacAddr>,
    /// When a silence ended a visit.
    pub(super) silent: Option<WallTime>,
    /// The time of the last line of any kind.
    pub(super) any: Option<WallTime>,
    /// Taps so late that a repetition may follow after the end of the day.
    pub(super) taps: Vec<(TapId, WallTime)>,
}

/// What the old log contains about one person.
#[derive(Clone, Debug, Default)]
pub(super) struct PersonTrace {
    pub(super) days: BTreeMap<(LogDay, BusinessId), DayTrace>,
    /// The last taps that were not repetitions.
    pub(super) taps: Vec<(TapId, WallTime)>,
}

/// The old log, as far as it has been read.
#[derive(Debug)]
pub(super) struct OldLog<'a> {
    own_business: BusinessId,
    pub(super) directory: &'a Directory,
    policies: &'a PolicyHistory,
    pub(super) now: WallTime,
    /// The first day whose lines are read.
    pub(super) first_day: LogDay,
    /// The holder of each pass, and the time from which its usage is counted.
    pub(super) passes: BTreeMap<Uuid, (CoworkerId, WallTime)>,
    /// The short card number of people who have just one. It may be a PIN, so the old log hides it.
    short_cards: BTreeMap<CoworkerId, Option<&'a str>>,
    pub(super) traces: BTreeMap<CoworkerId, PersonTrace>,
    /// When a timer or an import ended each visit: later than its end if the cause was a silence.
    pub(super) ended: BTreeMap<Uuid, WallTime>,
    /// The number of lines that no version of this program can have written.
    pub(super) unreadable: u64,
}

impl<'a> OldLog<'a> {
    pub(super) fn new(
        own_business: BusinessId,
        directory: &'a Directory,
        policies: &'a PolicyHistory,
        now: WallTime,
    ) -> Self {
        let passes = directory.all_held().map(|held| (held.guid, (held.holder, held.basis_at))).collect();
        let mut short_cards: BTreeMap<CoworkerId, Option<&str>> = BTreeMap::new();
        for (coworker, card) in directory.short_cards() {
            short_cards.entry(coworker).and_modify(|known| *known = None).or_insert(Some(card));
        }
        let first_day = LogDay::of(now.minus(HISTORY));
        Self {
            own_business,
            directory,
            policies,
            now,
            first_day,
            passes,
            short_cards,
            traces: BTreeMap::new(),
            ended: BTreeMap::new(),
            unreadable: 0,
        }
    }

    /// The time from which lines are read.
    pub(super) fn since(&self) -> WallTime {
        self.first_day.start()
    }

    /// Everyone who appears in a line of the old log.
    pub(super) fn people(&self) -> impl Iterator<Item = CoworkerId> {
        self.traces.keys().copied()
    }

    /// Turns a line into facts. Lines must be passed in chronological order.
    pub(super) fn line(&mut self, business: BusinessId, line: &OldLine) -> Vec<DecidedFact> {
        let Some(outcome) = Outcome::ALL.into_iter().find(|outcome| outcome.word() == line.decision) else {
            self.unreadable += 1;
            return Vec::new();
        };
        let decision = DecisionCode::of(outcome, line.reason.as_deref());
        let facts = match line.kind.as_str() {
            "timer" | "directory" => {
                self.note_ended(business, line, outcome);
                return Vec::new();
            }
            "rejected" => vec![Fact::Rejected(rejected(business, line))],
            "network" => match self.network(business, line, outcome) {
                Some(facts) => facts,
                None => {
                    self.unreadable += 1;
                    return Vec::new();
                }
            },
            _ => match self.door(business, line, outcome) {
                Some(fact) => vec![Fact::Door(fact)],
                None => {
                    self.unreadable += 1;
                    return Vec::new();
                }
            },
        };
        facts.iter().map(|fact| DecidedFact { fact: fact.stored(), decision }).collect()
    }

    fn note_ended(&mut self, business: BusinessId, line: &OldLine, outcome: Outcome) {
        if let Some(visit) = line.checkin.filter(|_| outcome == Outcome::Closed) {
            let known = self.ended.entry(visit).or_insert(line.event_at);
            *known = line.event_at.max(*known);
        }
        let silent = line.kind == "timer" && line.reason.as_deref() == Some(CloseBy::Silence.word());
        if let Some(coworker) = line.coworker {
            let trace = self.trace(coworker, business, line.event_at);
            trace.any = trace.any.max(Some(line.event_at));
            trace.silent = trace.silent.max(silent.then_some(line.event_at));
        }
    }

    fn trace(&mut self, coworker: CoworkerId, business: BusinessId, at: WallTime) -> &mut DayTrace {
        self.traces.entry(coworker).or_default().days.entry((LogDay::of(at), business)).or_default()
    }

    /// The latest credible time: anything later was stamped by a wrong clock.
    pub(super) fn latest(&self) -> WallTime {
        self.now.plus(AHEAD)
    }

    fn network(&mut self, business: BusinessId, line: &OldLine, outcome: Outcome) -> Option<Vec<Fact>> {
        let mac: MacAddr = line.mac.as_deref()?.parse().ok()?;
        let interface: Arc<str> = line.source.as_str().into();
        let whole = Point {
            last_at: line.last_at,
            first_at: line.event_at.min(line.last_at),
            strong_at: line.strong_at,
            since: line.event_at.min(line.last_at),
            frames: u32::try_from(line.frames).unwrap_or(u32::MAX),
        };
        // Without a coworker, it is an unknown device: its fact is kept, but nothing else depends on it.
        let Some(coworker) = line.coworker else {
            let ambiguous = line.reason.as_deref() == Some(Reason::AmbiguousDevice.code());
            let recognised = if ambiguous { Recognised::Ambiguous } else { Recognised::Unknown };
            return Some(vec![Fact::UnknownDevice(StrangeDeviceFact {
                business,
                mac,
                interface,
                recognised,
                point: whole,
            })]);
        };
        // A presence that was too late to be decided changed nothing, and must not do so now.
        if line.reason.as_deref() == Some(Note::Late.word()) {
            return Some(Vec::new());
        }
        // A line that does not list its points is read as a single point.
        let mut points = match line.points.as_deref() {
            Some(text) => text.split_terminator(';').map(point).collect::<Option<Vec<Point>>>()?,
            None => vec![whole],
        };
        let latest = self.latest();
        points.retain(|point| point.last_at <= latest);
        points.sort_unstable();
        points.dedup();
        // A fact contains the points of one day. Only those that opened or refreshed a visit are evidence for it.
        let counts = matches!(outcome, Outcome::Opened | Outcome::Refreshed);
        let mut days: BTreeMap<LogDay, Vec<Point>> = BTreeMap::new();
        for point in points {
            let trace = self.trace(coworker, business, point.last_at);
            trace.any = trace.any.max(Some(point.last_at));
            if counts {
                trace.last = trace.last.max(Some(point.last_at));
                trace.strong = trace.strong.max(point.strong_at);
                trace.macs.insert(mac);
            }
            days.entry(LogDay::of(point.last_at)).or_default().push(point);
        }
        let subject = Subject::coworker(coworker);
        let fact = |points| PresenceFact { business, subject, mac, interface: Arc::clone(&interface), points };
        Some(days.into_values().map(|points| Fact::Presence(fact(points))).collect())
    }

    /// The fact that the message of this line would become if it were delivered again, as far as the old log kept its
    /// content: the log hides PINs and numbers that may be PINs, and does not record the kind of a credential.
    fn door(&mut self, business: BusinessId, line: &OldLine, outcome: Outcome) -> Option<DoorFact> {
        let kind = KINDS.into_iter().find(|kind| kind.word() == line.kind)?;
        let direction = match line.direction.as_deref()? {
            "in" => Direction::In,
            "out" => Direction::Out,
            "unknown" => Direction::Unknown,
            _ => return None,
        };
        let time_quality = match line.quality.as_str() {
            "device" => TimeQuality::Device,
            "corrected" => TimeQuality::Corrected,
            "arrival" => TimeQuality::Arrival,
            _ => return None,
        };
        // The person is the one named in the line, even if the card has another holder now.
        let credential = line.credential.as_deref().map(|text| self.credential(text, line.coworker));
        let (subject, recognised) = match (line.coworker, credential.as_ref().filter(|_| kind.names_person())) {
            (Some(coworker), _) => (Subject::coworker(coworker), Recognised::Coworker),
            (None, None) => (Subject::BUSINESS, Recognised::NoCredential),
            (None, Some(credential)) => {
                let ambiguous = line.reason.as_deref() == Some(Reason::AmbiguousCard.code());
                let recognised = if ambiguous { Recognised::Ambiguous } else { Recognised::Unknown };
                (Subject::unknown_credential(business, credential, self.directory.pin_key()), recognised)
            }
        };
        // Built as a sighting, because the identity of a fact is derived from one.
        let sighting = Sighting {
            key: SightingKey(line.key.clone()),
            source: line.source.as_str().into(),
            event_at: line.event_at,
            time_quality,
            arrived: Now { wall: line.received_at, boot: BootTime::earlier(line.received_at) },
            event: DoorEvent {
                kind,
                door: DoorKey(line.door.clone().unwrap_or_default()),
                direction,
                credential,
                refusal: (kind == DoorEventKind::Denied).then(|| refusal(line)),
            },
        };
        let fact = DoorFact::of(&sighting, business, subject, recognised);
        // A fact that was too late to be decided is never decided. Nor are facts about unknown credentials: their
        // failed check-ins already exist, with other identities.
        let late = line.reason.as_deref() == Some(Note::Late.word()) || line.event_at > self.latest();
        let Some(coworker) = line.coworker.filter(|_| !late) else {
            return Some(DoorFact { too_late: true, ..fact });
        };
        self.trace_door(coworker, business, line, &fact, outcome);
        Some(fact)
    }

    fn trace_door(
        &mut self,
        coworker: CoworkerId,
        business: BusinessId,
        line: &OldLine,
        fact: &DoorFact,
        outcome: Outcome,
    ) {
        let debounce = self.policies.at(business, fact.at).or_else(|| self.policies.latest(self.own_business));
        let debounce = debounce.map_or(Duration::ZERO, |policy| policy.site.debounce);
        let tomorrow = LogDay(LogDay::of(fact.at).0 + 1).start();
        // Only a tap that opened or refreshed a visit is evidence for it; only an entry or a toggle let the person in.
        let enters = ["entry", "toggle"]
            .iter()
            .any(|word| line.claim.as_deref().is_some_and(|claim| claim.split(':').next() == Some(word)));
        let repeated = line.reason.as_deref() == Some(Note::RepeatedTap.word());
        let tap = (fact.tap(), fact.at);
        let trace = self.trace(coworker, business, fact.at);
        trace.any = trace.any.max(Some(fact.at));
        if matches!(outcome, Outcome::Opened | Outcome::Refreshed) {
            trace.last = trace.last.max(Some(fact.at));
            if enters {
                trace.entry = trace.entry.max(Some(fact.at));
            }
        }
        // Later repetitions are compared with the last tap that was not itself a repetition.
        if repeated {
            return;
        }
        if tomorrow.since(fact.at) < debounce {
            trace.taps.push(tap);
        }
        let taps = &mut self.traces.entry(coworker).or_default().taps;
        taps.retain(|(_, before)| fact.at.since(*before) < debounce);
        taps.push(tap);
    }

    fn credential(&self, text: &str, coworker: Option<CoworkerId>) -> Credential {
        let short_card = || coworker.and_then(|coworker| self.short_cards.get(&coworker).copied().flatten());
        let (kind, value) = match text {
            "PIN" => (CredentialKind::Pin, text),
            "PIN or short number" => (CredentialKind::Card, short_card().unwrap_or("0")),
            _ => (CredentialKind::Card, text),
        };
        Credential { kind, scope: None, value: value.to_owned(), spellings: Vec::new() }
    }

    /// The calendar of a business at an instant, from the settings of this site if those of the business are no longer
    /// known.
    pub(super) fn calendar(&self, business: BusinessId, at: WallTime) -> Calendar {
        let policy = self.policies.at(business, at).or_else(|| self.policies.at(self.own_business, at));
        let utc = Calendar { zone: crate::base::zone::Zone::utc(), cut_off: chrono::NaiveTime::MIN };
        policy.map_or(utc, |policy| policy.calendar())
    }
}

/// Parses a point in the form `LAST,LENGTH,LAST-STRONG,FIRST-SINCE,FRAMES`, in milliseconds; the third part is empty
/// without strong evidence.
fn point(text: &str) -> Option<Point> {
    let mut parts = text.split(',');
    let mut next = || parts.next();
    let last_at = WallTime::from_millis(next()?.parse().ok()?);
    let first_at = last_at.moved(-next()?.parse::<i64>().ok()?);
    let strong_at = match next()? {
        "" => None,
        less => Some(last_at.moved(-less.parse::<i64>().ok()?)),
    };
    let since = first_at.moved(-next()?.parse::<i64>().ok()?);
    Some(Point { last_at, first_at, strong_at, since, frames: next()?.parse().ok()? })
}

/// The controller's reason for a refusal: in the claim if the person was known, otherwise in the reason of the
/// decision.
fn refusal(line: &OldLine) -> Refusal {
    let claimed = line.claim.as_deref().and_then(|claim| claim.strip_prefix("fail:"));
    match claimed.or(line.reason.as_deref()).and_then(Reason::from_code) {
        Some(Reason::RefusedByController(refusal)) => refusal,
        Some(_) | None => Refusal::Other,
    }
}

/// The fact of a rejected message. The key of its line ends with a random identity.
fn rejected(business: BusinessId, line: &OldLine) -> RejectedFact {
    let random_id = line.key.rsplit('/').next().and_then(|id| id.parse::<Uuid>().ok());
    let digest = random_id.map_or_else(|| FactDigest::of([line.key.as_bytes()]), |id| FactDigest(id.into_bytes()));
    RejectedFact {
        business,
        at: line.event_at,
        digest,
        source: line.source.as_str().into(),
        topic: line.door.clone().unwrap_or_default(),
        why: line.reason.clone().unwrap_or_default(),
    }
}
