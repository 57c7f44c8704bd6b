//! PURE. One coworker's sightings in the order of their time, decided one after the other; those that the log has kept
//! among them, when one arrived late.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::{
    logged::{self, Point},
    memory::Taps,
};
use crate::{
    clock::WallTime,
    engine::{
        Admission, Claim, Decision, Ended, Gate, Person, Rules, Standing, Stay, Timeline, Timeout, Told, Visit,
        admission::Said,
        decision::{Note, Outcome, Reason},
        heard::HeardTimes,
        life::CloseBy,
        passes::Refused,
    },
    mac::MacAddr,
    record::{BusinessId, CheckinSource},
    sighting::{DoorEventKind, SightingKey},
    store::{LogLine, NewFailure, Past, TIMER},
};

/// Network presences of one device and outcome are one line of the log per this span, so that a laptop that speaks
/// every minute fills four lines an hour.
const LOG_SPAN: Duration = Duration::from_mins(15);

/// How long a tap is known from memory: what a broker kept back during a burst arrives within it. The debounce time keeps
/// them apart, so that there are some hundred of one card at one door.
const REMEMBERED: Duration = Duration::from_mins(10);

/// More than the span of one presence: they are handed over every minute.
const LONGEST_PRESENCE: Duration = Duration::from_mins(2);

/// The kind of a line that an import wrote: somebody who was in may no longer be.
pub(super) const DIRECTORY: &str = "directory";

/// The kind of a line that the network wrote.
pub(super) const NETWORK: &str = "network";

/// What makes a tap the same as another: the door, the way, what was shown, and whether it was let in.
pub(super) fn tap(door: &str, direction: &str, credential: &str, let_in: bool) -> String {
    format!("{}\u{1f}{direction}\u{1f}{credential}\u{1f}{door}", u8::from(let_in))
}

/// The tap that a line is about, if it is one of a door.
fn tap_of(line: &LogLine) -> Option<String> {
    if [NETWORK, DIRECTORY, TIMER].contains(&&*line.kind) {
        return None;
    }
    let let_in = [DoorEventKind::Granted, DoorEventKind::Read].iter().any(|known| known.word() == line.kind);
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let direction = text(line.direction.as_deref());
    Some(tap(&text(line.door.as_deref()), &direction, &text(line.credential.as_deref()), let_in))
}

/// The taps among these lines that were not repetitions.
pub(super) fn taps(lines: &[LogLine]) -> Taps {
    let mut taps = Taps::new();
    // A line without a claim has a wrong time: a step of the clock has spoilt it.
    let taps_of = |line: &&LogLine| line.claim.is_some() && line.reason.as_deref() != Some(Note::RepeatedTap.word());
    for line in lines.iter().filter(taps_of) {
        if let Some(tap) = tap_of(line) {
            taps.entry(tap).or_default().insert(line.event_at);
        }
    }
    taps
}

/// What makes two failed check-ins of a device one: the network refuses once a pass day, for each reason.
pub(super) fn once_a_day(business: BusinessId, day: WallTime, reason: Reason, mac: MacAddr) -> String {
    format!("{business}/{day}/{}/{mac}", reason.code())
}

/// One sighting of a coworker that is to be decided.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its place in the order. Those of one instant stand in an order of their own, so that none of arrival is left.
    order: (WallTime, Rank, String),
    what: What,
    /// Its line; of the network, what all presences of the line have in common.
    line: LogLine,
    /// Arrived with this batch, not read from the log.
    new: bool,
    /// What another directory than ours answered when it was decided first.
    answered: Option<Admission>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Directory,
    Network,
    Door,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Door(Said),
    Network { mac: MacAddr, barrier: Option<Reason>, point: Point },
    Withdrawn,
}

impl Entry {
    /// A door event that has just arrived.
    pub(super) fn door(line: LogLine, said: Said) -> Self {
        Self::new((line.event_at, Rank::Door, line.key.0.clone()), What::Door(said), line)
    }

    /// The directory says that the coworker may no longer be in.
    pub(super) fn withdrawn(line: LogLine) -> Self {
        Self::new((line.event_at, Rank::Directory, line.key.0.clone()), What::Withdrawn, line)
    }

    fn new(order: (WallTime, Rank, String), what: What, line: LogLine) -> Self {
        Self { order, what, line, new: true, answered: None }
    }

    /// A presence that has just arrived.
    pub(super) fn network(line: LogLine, mac: MacAddr, barrier: Option<Reason>, point: Point) -> Self {
        let tie = format!("{mac}/{}/{}/{}", line.source, point.first_at, point.strong_at.is_some());
        let order = (point.last_at, Rank::Network, tie);
        Self::new(order, What::Network { mac, barrier, point }, line)
    }

    /// Is it one of these lines, which another gateway has written since we asked what was decided?
    pub(super) fn is_among(&self, lines: &BTreeSet<&SightingKey>) -> bool {
        matches!(self.what, What::Door(_)) && lines.contains(&self.line.key)
    }

    /// When it happened.
    pub(super) fn at(&self) -> WallTime {
        self.order.0
    }

    /// What the log has kept, or none when a line cannot be decided again. Lines of timers are left out: their timers
    /// run out again. What another directory than `version` has answered stands: `before` are the visits that it opened.
    pub(super) fn again(lines: &[LogLine], before: &[Visit], version: i64) -> Option<Vec<Self>> {
        let mut entries = Vec::with_capacity(lines.len());
        for line in lines.iter().filter(|line| line.kind != TIMER) {
            let claim = line.claim.as_deref()?;
            let other = line.directory_version.is_some_and(|decided_by| decided_by != version);
            let answered = other.then(|| answered(line, before)).flatten();
            let kept = |entry: Self| Self { new: false, answered: answered.clone(), ..entry };
            if line.kind == NETWORK {
                let (mac, barrier) = (line.mac?, logged::network_barrier(claim).ok()?);
                for point in logged::points(line)? {
                    entries.push(kept(Self::network(line.clone(), mac, barrier, point)));
                }
            } else if line.kind == DIRECTORY {
                entries.push(kept(Self::withdrawn(line.clone())));
            } else {
                entries.push(kept(Self::door(line.clone(), logged::said(claim)?)));
            }
        }
        Some(entries)
    }

    fn tap(&self) -> Option<String> {
        tap_of(&self.line)
    }

    /// Is it certainly the repetition of one of these taps, whatever else comes late?
    pub(super) fn repeats(&self, taps: &Taps, debounce: Duration) -> bool {
        self.tap().is_some_and(|tap| is_known_repetition(taps, &tap, self.at(), debounce))
    }
}

fn answered(line: &LogLine, before: &[Visit]) -> Option<Admission> {
    if line.decision == Outcome::Opened.word() {
        let visit = before.iter().find(|visit| Some(visit.unique_id) == line.checkin)?;
        return Some(Admission::Admitted(visit.pass.clone()));
    }
    if line.reason.as_deref() == Some(Note::FailedBefore.word()) {
        return Some(Admission::Held(Note::FailedBefore));
    }
    let reason = line.reason.as_deref().filter(|_| line.decision == Outcome::Failed.word())?;
    Some(Admission::Refused(Refused { reason: Reason::from_code(reason)?, detail: None }))
}

/// What the decisions of one coworker depend on.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) person: &'a Person,
    pub(super) rules: &'a Rules,
    pub(super) heard: &'a HeardTimes,
    pub(super) gate: &'a dyn Gate,
    pub(super) debounce: Duration,
    pub(super) now: WallTime,
    /// A line with nothing in it but where and when it is written.
    pub(super) blank: &'a LogLine,
}

/// Is everything since the beginning of the walk in it, or only what is new?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// Only what is new: all of it is later than what was decided before.
    New,
    /// All of it, because something came late.
    Again,
}

/// Is a tap at this instant the repetition of one of these, whatever else comes late?
pub(super) fn is_known_repetition(taps: &Taps, tap: &str, at: WallTime, debounce: Duration) -> bool {
    let before = taps.get(tap).and_then(|known| known.range(..=at).next_back());
    before.is_some_and(|first| at.since(*first) < debounce)
}

fn recent(mut taps: Taps, since: WallTime) -> Taps {
    taps.retain(|_, known| {
        *known = known.split_off(&since);
        !known.is_empty()
    });
    taps
}

/// What a walk has come to.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) standing: Standing,
    /// The lines of everything that was walked.
    pub(super) lines: BTreeMap<SightingKey, LogLine>,
    pub(super) failures: Vec<NewFailure>,
    /// What each new sighting came to, with the failed check-in that it may have written.
    pub(super) outcomes: Vec<(Outcome, Option<Reason>, Option<Uuid>)>,
    /// The line of each failed check-in that may turn out to be a repetition.
    pub(super) failing: BTreeMap<Uuid, SightingKey>,
    /// Their check-in was opened or refreshed by the network just now.
    pub(super) heard: bool,
    /// The last taps that were not repetitions.
    pub(super) taps: Taps,
}

impl Walk<'_> {
    /// Decides the entries, from where the coworker stood before the first of them.
    pub(super) fn walk(
        &self,
        standing: Standing,
        mut entries: Vec<Entry>,
        span: Span,
        mut taps: Taps,
        new_id: &mut dyn FnMut() -> Uuid,
    ) -> Walked {
        entries.sort_by(|one, other| one.order.cmp(&other.order));
        let mut timeline = Timeline::new(self.person, self.rules, self.heard, self.gate, new_id, standing);
        let mut walked = Walked::default();
        let mut failed = BTreeSet::new();
        for entry in &entries {
            let decision = match entry.what {
                What::Door(said) => {
                    if entry.repeats(&taps, self.debounce) {
                        Decision::recorded(Note::RepeatedTap)
                    } else {
                        if let Some(tap) = entry.tap() {
                            taps.entry(tap).or_default().insert(entry.at());
                        }
                        door(&mut timeline, said, entry)
                    }
                }
                What::Network { mac, barrier, point } => {
                    timeline.decide(&Told { claim: point.claim(mac), barrier, answered: entry.answered.clone() })
                }
                What::Withdrawn => {
                    let claim = Claim::Withdrawn { at: entry.at() };
                    timeline.decide(&Told { claim, barrier: None, answered: None })
                }
            };
            self.note_ended(&mut timeline, &mut walked);
            let reason = decision.reason;
            let failure = reason.map(|reason| self.failure(entry, reason, decision.detail.clone(), timeline.new_id()));
            self.note(entry, &decision, span, &mut failed, failure, &mut walked);
        }
        let quiet_until = if span == Span::Again { self.now } else { WallTime::from_millis(0) };
        timeline.run_out(quiet_until, self.now);
        self.note_ended(&mut timeline, &mut walked);
        let last = entries.last().map_or(self.now, Entry::at);
        walked.taps = recent(taps, last.minus(REMEMBERED.max(self.debounce)));
        walked.heard &= timeline.standing().open().is_some();
        walked.standing = timeline.into_standing();
        walked
    }

    /// Ends the open visit on a timer that ran out at `at`.
    pub(super) fn time_out(
        &self,
        standing: Standing,
        timeout: Timeout,
        at: WallTime,
        new_id: &mut dyn FnMut() -> Uuid,
    ) -> Walked {
        let mut timeline = Timeline::new(self.person, self.rules, self.heard, self.gate, new_id, standing);
        let mut walked = Walked::default();
        timeline.time_out(timeout, at);
        timeline.run_out(WallTime::from_millis(0), self.now);
        self.note_ended(&mut timeline, &mut walked);
        walked.standing = timeline.into_standing();
        walked
    }

    /// What is only recorded: what came late and cannot be decided among what was before, and repetitions.
    pub(super) fn note_all(&self, entries: Vec<Entry>, note: Note, walked: &mut Walked) {
        let decision = Decision::recorded(note);
        for entry in entries {
            walked.outcomes.push((decision.outcome, None, None));
            match entry.what {
                What::Door(_) | What::Withdrawn => {
                    let line = decided(entry.line, &decision);
                    walked.lines.insert(line.key.clone(), line);
                }
                What::Network { mac, barrier, point } => {
                    note_presence(walked, &entry, &decision, mac, barrier, point, self.day(point));
                }
            }
        }
    }

    /// Writes down what became of an entry.
    fn note(
        &self,
        entry: &Entry,
        decision: &Decision,
        span: Span,
        failed: &mut BTreeSet<String>,
        failure: Option<NewFailure>,
        walked: &mut Walked,
    ) {
        let first = failure.as_ref().and_then(|failure| failure.once_key.clone()).is_none_or(|key| failed.insert(key));
        // In the order of time the first attempt is the record, and here that is known; the database tells the others.
        let before = Decision::recorded(Note::FailedBefore);
        let decision = if first || span == Span::New { decision } else { &before };
        let failure = failure.filter(|_| decision.reason.is_some());
        let key = match entry.what {
            What::Door(_) | What::Withdrawn => {
                let key = entry.line.key.clone();
                walked.lines.insert(key.clone(), decided(entry.line.clone(), decision));
                key
            }
            What::Network { mac, barrier, point } => {
                walked.heard |= entry.new && matches!(decision.outcome, Outcome::Opened | Outcome::Refreshed);
                note_presence(walked, entry, decision, mac, barrier, point, self.day(point))
            }
        };
        let unsure = failure.as_ref().filter(|failure| span == Span::New && failure.mac.is_some());
        if let Some(failure) = unsure {
            walked.failing.insert(failure.unique_id, key);
        }
        if entry.new && !matches!(entry.what, What::Withdrawn) {
            walked.outcomes.push((decision.outcome, decision.reason, unsure.map(|failure| failure.unique_id)));
        }
        walked.failures.extend(failure);
    }

    /// The beginning of the pass day that a presence is decided in.
    fn day(&self, point: Point) -> WallTime {
        self.rules.calendar.pass_day(point.last_at).start
    }

    fn failure(&self, entry: &Entry, reason: Reason, detail: Option<Arc<str>>, unique_id: Uuid) -> NewFailure {
        let business = self.person.business;
        let (source, mac, once_key) = match entry.what {
            What::Door(_) | What::Withdrawn => {
                (CheckinSource::DoorAccess, None, format!("door/{business}/{}", entry.line.key))
            }
            What::Network { mac, .. } => {
                let day = self.rules.calendar.pass_day(entry.at()).start;
                (CheckinSource::NetworkActivity, Some(mac), once_a_day(business, day, reason, mac))
            }
        };
        let attempt = (entry.at(), source, mac);
        self.new_failure(unique_id, attempt, Refused { reason, detail }, once_key)
    }

    fn new_failure(
        &self,
        unique_id: Uuid,
        (attempt_at, source, mac): (WallTime, CheckinSource, Option<MacAddr>),
        refused: Refused,
        once_key: String,
    ) -> NewFailure {
        NewFailure {
            unique_id,
            coworker: Some(self.person.coworker),
            then: self.person.then.clone(),
            business: self.person.business,
            business_name: self.person.business_name.clone(),
            attempt_at,
            source,
            mac,
            reason: refused.reason,
            detail: refused.detail,
            once_key: Some(once_key),
        }
    }

    /// Check-outs by timers are lines of the log too: they say why somebody is out, and that later was decided already.
    fn note_ended(&self, timeline: &mut Timeline<'_>, walked: &mut Walked) {
        for ended in timeline.take_ended() {
            self.timer_line(walked, &ended, Outcome::Closed, Some(ended.visit), ended.by.word());
            match &ended.then {
                Some(Stay::On(visit)) => {
                    self.timer_line(walked, &ended, Outcome::Opened, Some(*visit), "stays_on");
                }
                Some(Stay::Refused(refused)) => {
                    self.timer_line(walked, &ended, Outcome::Failed, None, refused.reason.code());
                    let once_key = format!("stay/{}/{}/{}", self.person.business, self.person.coworker, ended.at);
                    let attempt = (ended.at, CheckinSource::DoorAccess, None);
                    let failure = self.new_failure(timeline.new_id(), attempt, refused.clone(), once_key);
                    walked.failures.push(failure);
                }
                None => {}
            }
        }
    }

    fn timer_line(&self, walked: &mut Walked, ended: &Ended, outcome: Outcome, visit: Option<Uuid>, why: &'static str) {
        let key = SightingKey(format!("{TIMER}/{}/{}/{why}", self.person.coworker, ended.at));
        let line = LogLine {
            key: key.clone(),
            source: TIMER.to_owned(),
            kind: Cow::Borrowed(TIMER),
            coworker_id: Some(self.person.coworker),
            event_at: ended.at,
            // A presence that began before the silence was over is decided at its end, and among what was before.
            last_at: if ended.by == CloseBy::Silence { ended.at.plus(LONGEST_PRESENCE) } else { ended.at },
            decision: Cow::Borrowed(outcome.word()),
            reason: Some(Cow::Borrowed(why)),
            checkin: visit,
            ..self.blank.clone()
        };
        walked.lines.insert(key, line);
    }
}

fn door(timeline: &mut Timeline<'_>, said: Said, entry: &Entry) -> Decision {
    match said {
        Said::Claim { action, barrier } => {
            let claim = Claim::Door { action, at: entry.at() };
            timeline.decide(&Told { claim, barrier, answered: entry.answered.clone() })
        }
        Said::Fail(reason) => Decision::failed(reason),
        Said::Record(note) => Decision::recorded(note),
    }
}

fn note_presence(
    walked: &mut Walked,
    entry: &Entry,
    decision: &Decision,
    mac: MacAddr,
    barrier: Option<Reason>,
    point: Point,
    day: WallTime,
) -> SightingKey {
    let word = decision.word().unwrap_or(decision.outcome.word());
    let span = i64::try_from(LOG_SPAN.as_millis()).unwrap_or(i64::MAX);
    // What opened a visit is a line of its own, and no line reaches over a cut-off.
    let bucket = match decision.outcome {
        Outcome::Opened => point.last_at,
        Outcome::Refreshed
        | Outcome::Closed
        | Outcome::Failed
        | Outcome::Recorded
        | Outcome::Duplicate
        | Outcome::Rejected => WallTime::from_millis(point.last_at.millis() / span * span).max(day),
    };
    let against = barrier.map(|reason| format!("/{}", reason.code())).unwrap_or_default();
    let who = entry.line.coworker_id.map(|id| format!("/{id}")).unwrap_or_default();
    let key = SightingKey(format!("{NETWORK}/{}/{mac}{who}/{bucket}/{word}{against}", entry.line.source));
    let line = walked.lines.entry(key.clone()).or_insert_with(|| LogLine {
        key: key.clone(),
        event_at: point.first_at,
        last_at: point.last_at,
        strong_at: None,
        frames: 0,
        points: None,
        ..decided(entry.line.clone(), decision)
    });
    logged::merge(line, point);
    line.received_at = line.received_at.max(entry.line.received_at);
    key
}

fn decided(line: LogLine, decision: &Decision) -> LogLine {
    LogLine {
        decision: Cow::Borrowed(decision.outcome.word()),
        reason: decision.word().map(Cow::Borrowed),
        checkin: decision.visit,
        ..line
    }
}

/// What a walk over everything since `from` changes in the database.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) visits: Vec<Uuid>,
    pub(super) failures: Vec<Uuid>,
    pub(super) lines: Vec<SightingKey>,
}

impl Walked {
    /// Gives the visits the identities of those that they were `before` (those of `base` were not walked), and leaves in
    /// the lines and failures only what is new or different.
    pub(super) fn compare(&mut self, before: &[Visit], base: &[Visit], past: &Past) -> Difference {
        let names = self.names(before, base, past);
        self.rename(&names, before);
        let mut difference = Difference::default();
        let kept: BTreeSet<Uuid> = names.values().copied().collect();
        difference.visits = before.iter().map(|visit| visit.unique_id).filter(|id| !kept.contains(id)).collect();
        let mut there: BTreeMap<(Option<String>, WallTime, String), Uuid> = past
            .failures
            .iter()
            .map(|known| ((known.once_key.clone(), known.attempt_at, known.code.clone()), known.unique_id))
            .collect();
        self.failures.retain(|new| {
            there.remove(&(new.once_key.clone(), new.attempt_at, new.reason.code().to_owned())).is_none()
        });
        difference.failures = there.into_values().collect();
        // A visit that was not walked ended at the very instant that the walk begins with.
        let kept =
            |line: &&LogLine| line.kind != TIMER || !base.iter().any(|known| Some(known.unique_id) == line.checkin);
        for line in past.lines.iter().filter(kept) {
            if self.lines.get(&line.key).is_some_and(|again| same(again, line)) {
                self.lines.remove(&line.key);
            } else {
                difference.lines.push(line.key.clone());
            }
        }
        difference
    }

    /// Which visit of before each visit is: the one that the same sighting opened, else the first that was there at the
    /// same time.
    fn names(&self, before: &[Visit], base: &[Visit], past: &Past) -> BTreeMap<Uuid, Uuid> {
        let opened = |line: &&LogLine| line.decision == Outcome::Opened.word();
        let first_at = |line: &LogLine| (line.event_at, line.source.clone(), line.mac, line.door.clone());
        let was: BTreeMap<_, Uuid> =
            past.lines.iter().filter(opened).filter_map(|line| Some((first_at(line), line.checkin?))).collect();
        let mut free: Vec<&Visit> = before.iter().collect();
        let mut names = BTreeMap::new();
        for line in self.lines.values().filter(opened) {
            let Some((visit, old)) = line.checkin.zip(was.get(&first_at(line))) else { continue };
            if let Some(at) = free.iter().position(|visit| visit.unique_id == *old) {
                names.insert(visit, free.remove(at).unique_id);
            }
        }
        for visit in self.standing.visits() {
            if names.contains_key(&visit.unique_id) || base.iter().any(|base| base.unique_id == visit.unique_id) {
                continue;
            }
            let there =
                |old: &&Visit| old.to.is_none_or(|to| to >= visit.from) && visit.to.is_none_or(|to| to >= old.from);
            if let Some(at) = free.iter().position(there) {
                names.insert(visit.unique_id, free.remove(at).unique_id);
            }
        }
        names
    }

    fn rename(&mut self, names: &BTreeMap<Uuid, Uuid>, before: &[Visit]) {
        let visits = std::mem::take(&mut self.standing).into_visits();
        let again = visits.into_iter().map(|visit| {
            let Some(old) = names.get(&visit.unique_id) else { return visit };
            let kept = before.iter().find(|before| before.unique_id == *old);
            let (then, business_name) = kept.map_or((visit.then.clone(), visit.business_name.clone()), |old| {
                (old.then.clone(), old.business_name.clone())
            });
            Visit { unique_id: *old, then, business_name, ..visit }
        });
        self.standing = Standing::new(again.collect());
        for line in self.lines.values_mut() {
            if let Some(old) = line.checkin.and_then(|visit| names.get(&visit)) {
                line.checkin = Some(*old);
            }
        }
    }
}

/// The same but for when it was written and by which directory.
fn same(one: &LogLine, other: &LogLine) -> bool {
    one.decision == other.decision
        && one.reason == other.reason
        && one.checkin == other.checkin
        && one.points == other.points
        && one.event_at == other.event_at
        && one.last_at == other.last_at
}

/// Can these visits be decided again from these lines? Only if every one of them was opened by one of the lines.
pub(super) fn is_complete(before: &[Visit], past: &Past) -> bool {
    let opened: BTreeSet<Uuid> = past
        .lines
        .iter()
        .filter(|line| line.decision == Outcome::Opened.word())
        .filter_map(|line| line.checkin)
        .collect();
    before.iter().all(|visit| opened.contains(&visit.unique_id))
}
