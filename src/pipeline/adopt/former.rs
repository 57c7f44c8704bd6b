//! PURE. What an earlier version knew, as this one keeps it: lines of the old log become facts, check-ins become the states of
//! people, as they are now and as they were at the beginning of each day that something late may be about.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::NaiveDate;
use uuid::Uuid;

use crate::{
    base::{
        clock::{BootTime, Now, WallTime},
        fact::{
            DoorFact, Fact, FactDigest, FactOrder, LogDay, Point, PresenceFact, Recognised, RejectedFact,
            StrangeDeviceFact, Subject, TapId,
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
        passes::{Counted, PlanTally, Used, payg::Charged},
        person::{ChargedDay, PersonState, RefusedDevice, STILL_OPEN_TO_CHANGE, Visit},
    },
    policy::{AHEAD, HISTORY, PolicyHistory, calendar::Calendar},
    store::{DecidedFact, OldCharge, OldLine, OldRecords, OldRefusal, OldVisit},
};

/// Every kind of a door's event, by its word.
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

/// What the old log says of one person on one day at one business, as far as later decisions depend on it.
#[derive(Clone, Debug, Default)]
struct DayTrace {
    /// The last sign of life that a visit was opened or refreshed by.
    last: Option<WallTime>,
    strong: Option<WallTime>,
    entry: Option<WallTime>,
    macs: BTreeSet<MacAddr>,
    /// When a silence ended a visit.
    silent: Option<WallTime>,
    /// Anything at all.
    any: Option<WallTime>,
    /// Taps that may be repeated after the end of the day.
    taps: Vec<(TapId, WallTime)>,
}

/// One person in the old log.
#[derive(Clone, Debug, Default)]
struct Traces {
    days: BTreeMap<(LogDay, BusinessId), DayTrace>,
    /// The last taps that were no repetitions.
    taps: Vec<(TapId, WallTime)>,
}

/// Reads the old log, and then the records.
#[derive(Debug)]
pub(super) struct Former<'a> {
    own: BusinessId,
    directory: &'a Directory,
    policies: &'a PolicyHistory,
    now: WallTime,
    /// The first day of which lines are read.
    first: LogDay,
    /// Whose pass each is, and when an import said what was left of it.
    passes: BTreeMap<Uuid, (CoworkerId, WallTime)>,
    /// The number that may be a PIN of those who have one only: the old log hides it.
    short_cards: BTreeMap<CoworkerId, Option<&'a str>>,
    people: BTreeMap<CoworkerId, Traces>,
    /// When a timer or an import ended each visit, which is later than its end where it was a silence.
    ended: BTreeMap<Uuid, WallTime>,
    /// Lines that no version of this program wrote.
    pub(super) unreadable: u64,
}

/// A person, taken over.
#[derive(Debug, Default)]
pub(super) struct Adopted {
    pub(super) now: PersonState,
    pub(super) checkpoints: Vec<(LogDay, PersonState)>,
    /// In all up to the end of each day.
    pub(super) counted: Vec<(NaiveDate, Counted)>,
    /// Of passes that others may ask about.
    pub(super) shared: Vec<(Uuid, Used)>,
}

impl<'a> Former<'a> {
    pub(super) fn new(own: BusinessId, directory: &'a Directory, policies: &'a PolicyHistory, now: WallTime) -> Self {
        let passes = directory.all_held().map(|held| (held.guid, (held.holder, held.basis_at))).collect();
        let mut short_cards: BTreeMap<CoworkerId, Option<&str>> = BTreeMap::new();
        for (coworker, card) in directory.short_cards() {
            short_cards.entry(coworker).and_modify(|known| *known = None).or_insert(Some(card));
        }
        let first = LogDay::of(now.minus(HISTORY));
        Self {
            own,
            directory,
            policies,
            now,
            first,
            passes,
            short_cards,
            people: BTreeMap::new(),
            ended: BTreeMap::new(),
            unreadable: 0,
        }
    }

    /// From when on lines are read.
    pub(super) fn since(&self) -> WallTime {
        self.first.start()
    }

    /// Everybody of whom the old log says something.
    pub(super) fn people(&self) -> impl Iterator<Item = CoworkerId> {
        self.people.keys().copied()
    }

    /// What a line of the old log says, as facts. Lines come in the order of their time.
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
        self.people.entry(coworker).or_default().days.entry((LogDay::of(at), business)).or_default()
    }

    /// What is later than this was written by a clock that was wrong.
    fn latest(&self) -> WallTime {
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
        let Some(coworker) = line.coworker else {
            let ambiguous = line.reason.as_deref() == Some(Reason::AmbiguousDevice.code());
            let recognised = if ambiguous { Recognised::Ambiguous } else { Recognised::Unknown };
            return Some(vec![Fact::StrangeDevice(StrangeDeviceFact {
                business,
                mac,
                interface,
                recognised,
                point: whole,
            })]);
        };
        // What came too late to be decided has changed nothing, and must not do it now.
        if line.reason.as_deref() == Some(Note::Late.word()) {
            return Some(Vec::new());
        }
        let mut points = match line.points.as_deref() {
            Some(text) => text.split_terminator(';').map(point).collect::<Option<Vec<Point>>>()?,
            None => vec![whole],
        };
        let latest = self.latest();
        points.retain(|point| point.last_at <= latest);
        points.sort_unstable();
        points.dedup();
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

    /// The fact that the message of this line would be if it came again, as far as the old log has kept what it said: it hides
    /// PINs, and numbers that may be one, and it does not say which kind of credential a number is.
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
        let credential = line.credential.as_deref().map(|text| self.credential(text, line.coworker));
        let (subject, recognised) = match (line.coworker, credential.as_ref().filter(|_| kind.names_person())) {
            (Some(coworker), _) => (Subject::coworker(coworker), Recognised::Coworker),
            (None, None) => (Subject::BUSINESS, Recognised::NoCredential),
            (None, Some(credential)) => {
                let ambiguous = line.reason.as_deref() == Some(Reason::AmbiguousCard.code());
                let recognised = if ambiguous { Recognised::Ambiguous } else { Recognised::Unknown };
                (Subject::stranger(business, credential, self.directory.pin_key()), recognised)
            }
        };
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
        // What came too late to be decided stays set aside. So do strangers: their failed check-ins are there, under other
        // identities.
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
        let debounce = self.policies.at(business, fact.at).or_else(|| self.policies.latest(self.own));
        let debounce = debounce.map_or(std::time::Duration::ZERO, |policy| policy.site.debounce);
        let tomorrow = LogDay(LogDay::of(fact.at).0 + 1).start();
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
        if repeated {
            return;
        }
        if tomorrow.since(fact.at) < debounce {
            trace.taps.push(tap);
        }
        let taps = &mut self.people.entry(coworker).or_default().taps;
        taps.retain(|(_, before)| fact.at.since(*before) < debounce);
        taps.push(tap);
    }

    fn credential(&self, text: &str, coworker: Option<CoworkerId>) -> Credential {
        let known = || coworker.and_then(|coworker| self.short_cards.get(&coworker).copied().flatten());
        let (kind, value) = match text {
            "PIN" => (CredentialKind::Pin, text),
            "PIN or short number" => (CredentialKind::Card, known().unwrap_or("0")),
            _ => (CredentialKind::Card, text),
        };
        Credential { kind, scope: None, value: value.to_owned(), spellings: Vec::new() }
    }

    fn calendar(&self, business: BusinessId, at: WallTime) -> Calendar {
        let policy = self.policies.at(business, at).or_else(|| self.policies.at(self.own, at));
        let utc = Calendar { zone: crate::base::zone::Zone::utc(), cut_off: chrono::NaiveTime::MIN };
        policy.map_or(utc, |policy| policy.calendar())
    }

    /// What the records say of one person.
    pub(super) fn person(&self, coworker: CoworkerId, records: &mut OldRecords) -> Adopted {
        let mut visits = records.visits.remove(&coworker).unwrap_or_default();
        // Closed ones of a time to come were written by a clock that was wrong.
        let latest = self.latest();
        visits.retain(|visit| visit.from <= latest || visit.to.is_none());
        visits.sort_by_key(|visit| (visit.from, visit.unique_id));
        let refusals = records.refusals.remove(&coworker).unwrap_or_default();
        let traces = self.people.get(&coworker);
        let mut told = FormerPerson {
            former: self,
            coworker,
            traces,
            refusals: &refusals,
            charges: &records.charges,
            state: Totals::default(),
            kept: Vec::new(),
        };
        let mut left = visits.iter().peekable();
        let mut first_of_day: BTreeSet<(BusinessId, WallTime)> = BTreeSet::new();
        let mut adopted = Adopted::default();
        for day in self.days(&visits, traces) {
            while let Some(old) = left.next_if(|old| old.from < day.start()) {
                told.push(self.visit(old, &mut first_of_day), Some(day));
            }
            told.settle(Some(day));
            adopted.checkpoints.push((day, told.state_at(Some(day))));
        }
        for old in left {
            told.push(self.visit(old, &mut first_of_day), None);
        }
        told.settle(None);
        adopted.now = told.state_at(None);
        adopted.shared = self.shared(coworker, &adopted.now);
        adopted.counted = std::mem::take(&mut told.state.counted_days).into_iter().collect();
        adopted
    }

    /// The days of which somebody's state at the beginning is kept: from the first on which anything happened to the last.
    fn days(&self, visits: &[OldVisit], traces: Option<&Traces>) -> impl Iterator<Item = LogDay> + use<> {
        let today = LogDay::of(self.now);
        let mut days: Vec<LogDay> = traces.iter().flat_map(|traces| traces.days.keys()).map(|(day, _)| *day).collect();
        for visit in visits {
            let last = self.ended_at(visit).map_or(today, LogDay::of);
            if last >= self.first {
                days.extend([LogDay::of(visit.from).max(self.first), last]);
            }
        }
        days.retain(|day| *day >= self.first && *day <= LogDay(today.0 + 1));
        let span = days.iter().min().copied().zip(days.iter().max().copied());
        span.into_iter().flat_map(|(from, to)| from.0..=to.0).map(LogDay)
    }

    /// When it was over: for a silence, when that had lasted long enough.
    fn ended_at(&self, visit: &OldVisit) -> Option<WallTime> {
        visit.to.map(|to| self.ended.get(&visit.unique_id).map_or(to, |ended| to.max(*ended)))
    }

    fn visit<'v>(
        &self,
        old: &'v OldVisit,
        first_of_day: &mut BTreeSet<(BusinessId, WallTime)>,
    ) -> (&'v OldVisit, Visit) {
        let day = self.calendar(old.business, old.from).pass_day(old.from);
        let visit = Visit {
            unique_id: old.unique_id,
            business: old.business,
            source: old.source,
            from: old.from,
            admitted_at: old.from,
            to: old.to,
            day,
            auto_checkout: old.auto_checkout,
            // Whether it was the pass is not known; where it was not, nothing comes of it.
            pass_ended: old.auto_checkout,
            last_activity: old.last_activity,
            macs: old.macs.clone(),
            door_in_at: old.door_in_at,
            strong_at: old.strong_at,
            lingered_at: old.lingered_at,
            pass: old.pass.clone(),
            first_of_day: first_of_day.insert((old.business, day.start)),
            since: old.from,
            before: 0,
        };
        (old, visit)
    }

    /// What somebody used of passes that others may ask about: of people who share them, and of those whose it is not.
    fn shared(&self, coworker: CoworkerId, person: &PersonState) -> Vec<(Uuid, Used)> {
        let shares = self.directory.who_share_passes_with(coworker).len() > 1;
        let asked = |pass: &Uuid| self.passes.get(pass).is_some_and(|(holder, _)| shares || *holder != coworker);
        let basis_of = |pass| self.passes.get(&pass).map(|(_, basis_at)| *basis_at);
        person.uses(coworker, asked, basis_of).into_iter().collect()
    }
}

/// What is counted of visits that nothing can change any more.
#[derive(Debug, Default)]
struct Totals {
    used: Vec<(Uuid, Used)>,
    counted: PlanTally,
    counted_days: BTreeMap<NaiveDate, Counted>,
    charged: Vec<ChargedDay>,
    let_in: BTreeMap<BusinessId, WallTime>,
    /// The last pass day with a visit at each business.
    came: BTreeMap<BusinessId, WallTime>,
    latest: Option<WallTime>,
}

/// One person, from the first visit on.
struct FormerPerson<'a> {
    former: &'a Former<'a>,
    coworker: CoworkerId,
    traces: Option<&'a Traces>,
    refusals: &'a [OldRefusal],
    charges: &'a BTreeMap<Uuid, OldCharge>,
    state: Totals,
    kept: Vec<(&'a OldVisit, Visit)>,
}

impl<'a> FormerPerson<'a> {
    /// The next visit, as things stood at the beginning of a day; none for now.
    fn push(&mut self, visit: (&'a OldVisit, Visit), day: Option<LogDay>) {
        self.kept.push(visit);
        self.settle(day);
    }

    /// Counts visits beyond those that may still change: the oldest that is over.
    fn settle(&mut self, day: Option<LogDay>) {
        while self.kept.len() > STILL_OPEN_TO_CHANGE {
            let over = |(old, _): &(&OldVisit, Visit)| match day {
                None => old.to.is_some(),
                Some(day) => self.former.ended_at(old).is_some_and(|ended| ended < day.start()),
            };
            let Some(oldest) = self.kept.iter().position(over) else { return };
            let (_, visit) = self.kept.remove(oldest);
            self.count(&visit);
        }
    }

    fn count(&mut self, visit: &Visit) {
        let (former, state) = (self.former, &mut self.state);
        let date = visit.day.date;
        let spent = visit.spent(self.coworker);
        if let Some((pass, (_, basis_at))) = visit.held_pass().and_then(|pass| Some((pass, former.passes.get(&pass)?)))
        {
            let known = state.used.iter().position(|(known, _)| *known == pass).map(|at| state.used.remove(at).1);
            let mut used = known.unwrap_or(Used::nothing(self.coworker, *basis_at));
            used.add(&spent);
            state.used.push((pass, used));
        }
        if visit.counts() {
            state.counted_days.extend(state.counted.add(date, spent.present(visit.from)));
        }
        if let Some(charge) = self.charges.get(&visit.unique_id) {
            let (business, day) = (visit.business, charge.pass_day);
            state.charged.retain(|known| known.business != business || known.day >= day);
            let charged = state.charged.iter_mut().find(|known| known.business == business && known.day == day);
            match charged {
                Some(known) => known.charged.add(charge.time_pass, charge.unbounded, charge.amount),
                None => {
                    let mut charged = Charged::default();
                    charged.add(charge.time_pass, charge.unbounded, charge.amount);
                    state.charged.push(ChargedDay { business, day, charged });
                }
            }
        }
        let came = state.came.entry(visit.business).or_insert(visit.day.start);
        *came = visit.day.start.max(*came);
        if let Some(entry) = visit.door_in_at {
            let known = state.let_in.entry(visit.business).or_insert(entry);
            *known = entry.max(*known);
        }
        state.latest = state.latest.max(Some(latest_of(visit)));
    }

    /// How they stood at the beginning of a day; none for now.
    fn state_at(&self, day: Option<LogDay>) -> PersonState {
        let visits: Vec<Visit> = self.kept.iter().map(|(old, visit)| self.visit_at(old, visit, day)).collect();
        let mut let_in = self.state.let_in.clone();
        for visit in &visits {
            if let Some(entry) = visit.door_in_at {
                let known = let_in.entry(visit.business).or_insert(entry);
                *known = entry.max(*known);
            }
        }
        let before = |at: &LogDay| day.is_none_or(|day| *at < day);
        let traces = self.traces.iter().flat_map(|traces| &traces.days).filter(|((at, _), _)| before(at));
        let (mut any, mut silent_at) = (None, None);
        for ((_, business), trace) in traces {
            any = any.max(trace.any);
            let silent = trace.silent.map(|at| (*business, at));
            silent_at = [silent_at, silent].into_iter().flatten().max_by_key(|(_, at)| *at);
        }
        let latest = visits.iter().map(latest_of).max().max(self.state.latest).max(any);
        let end = day.map_or(self.former.latest(), |day| day.start().moved(-1));
        let mut came = self.state.came.clone();
        for visit in &visits {
            let known = came.entry(visit.business).or_insert(visit.day.start);
            *known = visit.day.start.max(*known);
        }
        PersonState {
            folded: latest.map_or(FactOrder::FIRST, |latest| FactOrder::before(latest.moved(1).min(end))),
            directory: self.former.directory.version,
            silent_at,
            visits: in_order(visits),
            taps: self.taps_at(day),
            let_in: let_in.into_iter().collect(),
            refused: self.refused_at(day),
            used: self.state.used.clone(),
            counted: self.state.counted.clone(),
            charged: self.state.charged.clone(),
            came: came.into_iter().collect(),
        }
    }

    /// A visit that was not over then was open, with what had been seen of it.
    fn visit_at(&self, old: &OldVisit, visit: &Visit, day: Option<LogDay>) -> Visit {
        let Some(start) = day.map(LogDay::start) else { return visit.clone() };
        let known = |at: Option<WallTime>| at.filter(|at| *at < start);
        if self.former.ended_at(old).is_some_and(|ended| ended < start) {
            return Visit { lingered_at: known(visit.lingered_at), ..visit.clone() };
        }
        let seen = self.seen(visit, LogDay::of(start));
        // Of what was before the lines that are read, only the records know.
        let unknown = visit.from < self.former.since();
        let then = |at: Option<WallTime>, seen: Option<WallTime>, else_at: WallTime| {
            known(at).or(seen).or(at.filter(|_| unknown).map(|_| else_at))
        };
        let last = seen.last.unwrap_or(if unknown { start } else { visit.from });
        Visit {
            to: None,
            auto_checkout: false,
            pass_ended: false,
            lingered_at: None,
            last_activity: last.min(visit.last_activity).max(visit.from),
            strong_at: then(visit.strong_at, seen.strong, start.moved(-1)),
            door_in_at: then(visit.door_in_at, seen.entry, visit.from),
            macs: if unknown { visit.macs.clone() } else { visit.macs.intersection(&seen.macs).copied().collect() },
            ..visit.clone()
        }
    }

    /// What the old log says of a visit before a day.
    fn seen(&self, visit: &Visit, day: LogDay) -> DayTrace {
        let since = |at: Option<WallTime>| at.filter(|at| *at >= visit.from);
        let mut seen = DayTrace::default();
        let days = LogDay::of(visit.from)..day;
        let traces = self.traces.iter().flat_map(|traces| &traces.days);
        for (_, trace) in traces.filter(|((at, business), _)| days.contains(at) && *business == visit.business) {
            seen.last = seen.last.max(since(trace.last));
            seen.strong = seen.strong.max(since(trace.strong));
            seen.entry = seen.entry.max(since(trace.entry));
            seen.macs.extend(&trace.macs);
        }
        seen
    }

    fn taps_at(&self, day: Option<LogDay>) -> Vec<(TapId, WallTime)> {
        let Some(traces) = self.traces else { return Vec::new() };
        let Some(day) = day else { return traces.taps.clone() };
        let of_day = traces.days.iter().filter(|((at, _), _)| at.0 + 1 == day.0);
        of_day.flat_map(|(_, trace)| &trace.taps).copied().collect()
    }

    /// Refusals of devices in the pass day.
    fn refused_at(&self, day: Option<LogDay>) -> Vec<RefusedDevice> {
        let at = day.map_or(self.former.now, LogDay::start);
        let of_day = self.refusals.iter().filter(|refusal| day.is_none() || refusal.at < at).filter_map(|refusal| {
            let calendar = self.former.calendar(refusal.business, refusal.at);
            let start = calendar.pass_day(refusal.at).start;
            let reason = Reason::from_code(&refusal.code).filter(|_| start == calendar.pass_day(at).start)?;
            Some((refusal, reason, start))
        });
        let device = |(refusal, reason, day): (&OldRefusal, Reason, WallTime)| {
            let business = refusal.business;
            refusal.macs.clone().into_iter().map(move |mac| RefusedDevice { business, day, reason, mac })
        };
        of_day.flat_map(device).collect()
    }
}

/// Those that are over, earliest first, then the one that is open: they are counted from the front. An earlier version let people
/// be in at two places at once: then the one where they were active last is the one where they are.
fn in_order(mut visits: Vec<Visit>) -> Vec<Visit> {
    visits.sort_by_key(|visit| visit.is_open().then_some(std::cmp::Reverse(visit.last_activity)));
    visits
}

fn latest_of(visit: &Visit) -> WallTime {
    let times = [visit.to, visit.lingered_at, visit.door_in_at, visit.strong_at];
    times.into_iter().flatten().chain([visit.from, visit.last_activity]).max().unwrap_or(visit.from)
}

/// `last,length,last less strong,first less since,frames` in milliseconds; the third is empty without strong evidence.
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

/// The controller's reason: of somebody known in what was claimed of them, else in what became of it.
fn refusal(line: &OldLine) -> Refusal {
    let claimed = line.claim.as_deref().and_then(|claim| claim.strip_prefix("fail:"));
    match claimed.or(line.reason.as_deref()).and_then(Reason::from_code) {
        Some(Reason::RefusedByController(refusal)) => refusal,
        Some(_) | None => Refusal::Other,
    }
}

/// The key of such a line ends with what was drawn for it.
fn rejected(business: BusinessId, line: &OldLine) -> RejectedFact {
    let drawn = line.key.rsplit('/').next().and_then(|id| id.parse::<Uuid>().ok());
    let digest = drawn.map_or_else(|| FactDigest::of([line.key.as_bytes()]), |id| FactDigest(id.into_bytes()));
    RejectedFact {
        business,
        at: line.event_at,
        digest,
        source: line.source.as_str().into(),
        topic: line.door.clone().unwrap_or_default(),
        why: line.reason.clone().unwrap_or_default(),
    }
}
