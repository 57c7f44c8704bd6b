//! PURE. A batch and where its people stand, to everything that is written in its one transaction.
//!
//! Built from what the database said, thrown away when the transaction fails; only after the commit does anything of it
//! reach the pipeline's memory.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use uuid::Uuid;

use super::{
    charges::{self, Till},
    logged::{self, Point},
    memory::{Memory, Taps, Unrecognised},
    portion::Whose,
    questions::{horizon, too_old},
    walk::{self, Difference, Entry, Span, Walk, Walked},
};
use crate::{
    clock::{Now, WallTime},
    directory::{Coworker, Directory},
    engine::{
        self, Decision, Gate, Person, Rules, Standing, Visit,
        admission::{self, Doorkeeper, PresenceVerdict, Said},
        decision::{Note, Outcome, Reason},
        heard::HeardTimes,
        passes::Usage,
    },
    mac::MacAddr,
    record::{CheckinSource, CoworkerId, Snapshot},
    settings::{Door, Site},
    sighting::{Presence, Sighting, SightingKey, TimeQuality},
    source::Rejection,
    store::{Changes, LogLine, NewCharge, NewFailure, Past},
};

/// What a site decides by.
#[derive(Clone, Debug)]
pub struct Rulebook {
    /// `[site]`.
    pub site: Site,
    /// `[[door]]`.
    pub doors: Vec<Door>,
    /// How long the sighting log is kept; none for ever. Nothing older is decided again.
    pub log_kept: Option<Duration>,
}

impl Rulebook {
    /// The rules of the engine.
    pub fn rules(&self) -> Rules {
        Rules {
            calendar: engine::calendar::Calendar { zone: self.site.time_zone, cut_off: self.site.cut_off },
            idle_limit: self.site.idle_limit,
            linger: self.site.linger,
            toggle_minimum_stay: self.site.toggle_minimum_stay,
            record_every_visit: self.site.record_every_visit,
        }
    }
}

/// What a batch writes, and what it will have meant.
pub(super) struct Plan<'a> {
    directory: &'a Directory,
    book: &'a Rulebook,
    rules: Rules,
    memory: &'a Memory,
    heard: &'a HeardTimes,
    now: Now,
    /// As the database has them.
    before: BTreeMap<CoworkerId, Standing>,
    frontiers: BTreeMap<CoworkerId, WallTime>,
    again: BTreeMap<CoworkerId, WallTime>,
    pasts: BTreeMap<CoworkerId, Past>,
    decided_from: BTreeMap<CoworkerId, WallTime>,
    usage: Usage,
    /// As they are after the batch.
    after: BTreeMap<CoworkerId, Standing>,
    failures: Vec<NewFailure>,
    log: BTreeMap<SightingKey, LogLine>,
    /// What each log line means if its failure turns out to be a repetition.
    failing: BTreeMap<Uuid, SightingKey>,
    gone: Difference,
    /// Until when passes of each may be said to have ended: from then on it is somebody else's turn.
    until: BTreeMap<CoworkerId, WallTime>,
    /// New in memory once it is committed.
    taps: Memory,
    reports: BTreeSet<MacAddr>,
    outcomes: Vec<(Outcome, Option<Reason>, Option<Uuid>)>,
    /// Whose open check-in the network has just refreshed.
    heard_now: BTreeSet<CoworkerId>,
    /// What will be the last thing that the log knows of each, and their last taps.
    recent: Vec<(CoworkerId, WallTime, Taps)>,
    decided_again: u64,
    left_out: u64,
}

/// What the database said about the people of a batch.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) standings: BTreeMap<CoworkerId, Standing>,
    pub(super) frontiers: BTreeMap<CoworkerId, WallTime>,
    /// From when on those are decided again of whom something came late.
    pub(super) again: BTreeMap<CoworkerId, WallTime>,
    /// What the log has since then, and the last taps of some others.
    pub(super) pasts: BTreeMap<CoworkerId, Past>,
    /// From when on the visits of each say themselves what they use.
    pub(super) decided_from: BTreeMap<CoworkerId, WallTime>,
    /// What was used before.
    pub(super) usage: Usage,
    /// Until when the time of some is walked: then comes what others do who wait for the same passes.
    pub(super) until: BTreeMap<CoworkerId, WallTime>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        directory: &'a Directory,
        book: &'a Rulebook,
        memory: &'a Memory,
        heard: &'a HeardTimes,
        found: Found,
        now: Now,
    ) -> Self {
        Self {
            directory,
            book,
            rules: book.rules(),
            memory,
            heard,
            now,
            before: found.standings,
            frontiers: found.frontiers,
            again: found.again,
            pasts: found.pasts,
            decided_from: found.decided_from,
            usage: found.usage,
            after: BTreeMap::new(),
            failures: Vec::new(),
            log: BTreeMap::new(),
            failing: BTreeMap::new(),
            gone: Difference::default(),
            until: found.until,
            taps: Memory::new(),
            reports: BTreeSet::new(),
            outcomes: Vec::new(),
            heard_now: BTreeSet::new(),
            recent: Vec::new(),
            decided_again: 0,
            left_out: 0,
        }
    }

    /// Decides everything in the order of its time, whatever order it came in; `decided` are the keys of sightings
    /// that the database has already.
    pub(super) fn decide(
        &mut self,
        sightings: &[Whose<'_, Sighting>],
        presences: &[Whose<'_, Presence>],
        decided: &BTreeSet<SightingKey>,
        mut new_id: impl FnMut() -> Uuid,
    ) {
        let mut people: BTreeMap<CoworkerId, Vec<Entry>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (sighting, _) in sightings {
            if decided.contains(&sighting.key) || !seen.insert(&sighting.key) {
                self.outcomes.push((Outcome::Duplicate, None, None));
                continue;
            }
            let site = &self.book.site;
            let (said, coworker) =
                admission::judge_door(&sighting.event, self.directory, &self.book.doors, site.business);
            match coworker {
                Some(coworker) => {
                    let line = LogLine {
                        coworker_id: Some(coworker.id),
                        claim: Some(logged::said_text(said)),
                        ..self.door_line(sighting)
                    };
                    people.entry(coworker.id).or_default().push(Entry::door(line, said));
                }
                None => self.stranger(sighting, said, new_id()),
            }
        }
        for (presence, _) in presences {
            match admission::judge_presence(presence, self.directory, &self.book.site) {
                PresenceVerdict::Nothing => self.outcomes.push((Outcome::Recorded, None, None)),
                PresenceVerdict::Fail(reason) => self.unclaimed(presence, reason, new_id()),
                PresenceVerdict::Claim { coworker, barrier } => {
                    let line = LogLine {
                        mac: Some(presence.mac),
                        coworker_id: Some(coworker.id),
                        claim: Some(logged::network_text(barrier)),
                        ..self.network_line(presence)
                    };
                    let entry = Entry::network(line, presence.mac, barrier, Point::of(presence));
                    people.entry(coworker.id).or_default().push(entry);
                }
            }
        }
        for (coworker, entries) in people {
            if let Some(coworker) = self.directory.coworker(coworker) {
                self.walk(coworker, entries, &mut new_id);
            }
        }
    }

    /// Notes a message that could not be mapped; `written` says whether the log gets a line for it.
    pub(super) fn reject(&mut self, source: &str, rejection: &Rejection, written: bool, id: Uuid) {
        self.outcomes.push((Outcome::Rejected, None, None));
        if !written {
            return;
        }
        let key = SightingKey(format!("rejected/{source}/{id}"));
        let line = LogLine {
            key: key.clone(),
            source: source.to_owned(),
            kind: Cow::Borrowed("rejected"),
            door: Some(logged::without_numbers(&rejection.topic)),
            decision: Cow::Borrowed(Outcome::Rejected.word()),
            reason: Some(Cow::Borrowed(rejection.why.word())),
            ..self.blank()
        };
        self.log.insert(key, line);
    }

    /// Decides what is new of a coworker; all since then, when something came late.
    fn walk(&mut self, coworker: &Coworker, mut entries: Vec<Entry>, new_id: &mut dyn FnMut() -> Uuid) {
        let person = self.person(coworker);
        let counted = self.counted(coworker.id);
        let doorkeeper = Doorkeeper { counted: &counted, ..self.doorkeeper(coworker.id) };
        let blank = self.blank();
        let walk = self.walk_of(&person, &doorkeeper, &blank);
        let standing = self.before.get(&coworker.id).cloned().unwrap_or_default();
        let horizon = horizon(self.now.wall);
        let past = self.pasts.get(&coworker.id);
        let too_old = too_old(self.now.wall);
        let mut old: Vec<Entry> = entries.extract_if(.., |entry| entry.at() < too_old).collect();
        if let Some((from, past)) = self.again.get(&coworker.id).zip(past) {
            let again = |visit: &Visit| *from <= visit.from && visit.from <= horizon;
            let (walked_before, base): (Vec<Visit>, Vec<Visit>) = standing.visits().iter().cloned().partition(again);
            let version = self.directory.version;
            let again = || Entry::again(&past.lines, &walked_before, version);
            let kept = walk::is_complete(&walked_before, past).then(again).flatten();
            if let Some(kept) = kept {
                let came = entries.len();
                let known: BTreeSet<&SightingKey> = past.lines.iter().map(|line| &line.key).collect();
                entries.retain(|entry| !entry.is_among(&known));
                let twice = came - entries.len();
                // What is too old to be among what is decided again.
                old.extend(entries.extract_if(.., |entry| entry.at() < *from));
                entries.extend(kept);
                let mut walked = walk.walk(Standing::new(base.clone()), entries, Span::Again, Taps::new(), new_id);
                walked.outcomes.extend(std::iter::repeat_n((Outcome::Duplicate, None, None), twice));
                walk.note_all(old, Note::Late, &mut walked);
                let difference = walked.compare(&walked_before, &base, past);
                self.decided_again += 1;
                self.gone.visits.extend(difference.visits);
                self.gone.failures.extend(difference.failures);
                self.gone.lines.extend(difference.lines);
                self.remember(coworker.id, &walked);
                self.take(coworker.id, walked);
                return;
            }
        }
        let frontier = self.frontiers.get(&coworker.id).copied();
        let remembered = self.memory.recent(coworker.id, frontier).cloned();
        let known = remembered.or_else(|| past.map(|past| walk::taps(&past.lines)));
        let first = entries.iter().map(Entry::at).min().unwrap_or(self.now.wall);
        let nothing_near = frontier.is_none_or(|frontier| frontier < first.minus(self.book.site.debounce));
        let sure = known.is_some() || nothing_near;
        let taps = known.unwrap_or_default();
        let debounce = self.book.site.debounce;
        let (repeated, entries): (Vec<Entry>, Vec<Entry>) =
            entries.into_iter().partition(|entry| entry.repeats(&taps, debounce));
        let (late, entries): (Vec<Entry>, Vec<Entry>) = entries
            .into_iter()
            .partition(|entry| last_of(&standing, self.now.wall).is_some_and(|last| entry.at() < last));
        let mut walked = walk.walk(standing, entries, Span::New, taps, new_id);
        walk.note_all(old, Note::Late, &mut walked);
        walk.note_all(late, Note::Late, &mut walked);
        walk.note_all(repeated, Note::RepeatedTap, &mut walked);
        if sure {
            self.remember(coworker.id, &walked);
        }
        self.take(coworker.id, walked);
    }

    /// The next tap can be compared with these, as long as the log knows nothing that is not known here.
    fn remember(&mut self, coworker: CoworkerId, walked: &Walked) {
        let lines = walked.lines.values().map(|line| line.last_at);
        if let Some(frontier) = lines.chain(self.frontiers.get(&coworker).copied()).max() {
            self.recent.push((coworker, frontier, walked.taps.clone()));
        }
    }

    fn take(&mut self, coworker: CoworkerId, walked: Walked) {
        self.after.insert(coworker, walked.standing);
        self.log.extend(walked.lines);
        self.failures.extend(walked.failures);
        self.failing.extend(walked.failing);
        self.outcomes.extend(walked.outcomes);
        if walked.heard {
            self.heard_now.insert(coworker);
        }
    }

    fn person(&self, coworker: &Coworker) -> Person {
        let site = &self.book.site;
        Person {
            coworker: coworker.id,
            then: coworker.snapshot(),
            business: site.business,
            business_name: Some(self.directory.business(site.business).unwrap_or(&site.name).to_owned()),
        }
    }

    fn doorkeeper(&self, coworker: CoworkerId) -> Doorkeeper<'_> {
        Doorkeeper {
            site: &self.book.site,
            calendar: self.rules.calendar,
            directory: self.directory,
            coworker: self.directory.coworker(coworker),
            usage: &self.usage,
            counted: &[],
        }
    }

    /// The visits that are in what was used before.
    fn counted(&self, coworker: CoworkerId) -> Vec<Uuid> {
        let from = self.decided_from.get(&coworker).copied().unwrap_or(self.now.wall);
        let before = self.before.get(&coworker).map_or(&[][..], Standing::visits);
        before.iter().filter(|visit| visit.from < from).map(|visit| visit.unique_id).collect()
    }

    fn walk_of<'w>(&'w self, person: &'w Person, gate: &'w dyn Gate, blank: &'w LogLine) -> Walk<'w> {
        Walk {
            person,
            rules: &self.rules,
            heard: self.heard,
            gate,
            debounce: self.book.site.debounce,
            now: self.until.get(&person.coworker).map_or(self.now.wall, |until| self.now.wall.min(*until)),
            blank,
        }
    }

    /// A door event that names nobody whom we know.
    fn stranger(&mut self, sighting: &Sighting, said: Said, id: Uuid) {
        let names = sighting.event.kind.names_somebody();
        let repeated = names
            && (self.memory.is_repeated(sighting, self.book.site.debounce)
                || self.taps.is_repeated(sighting, self.book.site.debounce));
        if names && !repeated {
            self.taps.tapped(sighting);
        }
        let decision = match said {
            Said::Claim { .. } | Said::Fail(_) | Said::Record(_) if repeated => Decision::recorded(Note::RepeatedTap),
            Said::Fail(reason) => {
                self.fail(sighting.event_at, CheckinSource::DoorAccess, reason, None, id);
                Decision::failed(reason)
            }
            Said::Record(note) => Decision::recorded(note),
            Said::Claim { .. } => Decision::recorded(Note::NamesNobody),
        };
        self.outcomes.push((decision.outcome, decision.reason, None));
        let line = LogLine {
            decision: Cow::Borrowed(decision.outcome.word()),
            reason: decision.word().map(Cow::Borrowed),
            ..self.door_line(sighting)
        };
        self.log.insert(line.key.clone(), line);
    }

    /// A device that nobody, or more than one person, has registered: one failed check-in per pass day, and a bound.
    fn unclaimed(&mut self, presence: &Presence, reason: Reason, id: Uuid) {
        if reason != Reason::UnrecognisedDevice {
            self.fail_device(presence, reason, id);
            return;
        }
        let day = self.rules.calendar.pass_day(presence.last_at);
        let known = self.memory.unrecognised(presence.mac, day);
        let full = self.memory.unrecognised_on(day) + self.reports.len() >= super::memory::UNRECOGNISED_A_DAY;
        match known {
            Unrecognised::Reported => self.outcomes.push((Outcome::Recorded, None, None)),
            Unrecognised::New if self.reports.contains(&presence.mac) => {
                self.outcomes.push((Outcome::Recorded, None, None));
            }
            Unrecognised::LeftOut => self.leave_out(),
            Unrecognised::New if full => self.leave_out(),
            Unrecognised::New => {
                self.reports.insert(presence.mac);
                self.fail_device(presence, reason, id);
            }
        }
    }

    fn leave_out(&mut self) {
        self.left_out += 1;
        self.outcomes.push((Outcome::Recorded, None, None));
    }

    fn fail_device(&mut self, presence: &Presence, reason: Reason, id: Uuid) {
        self.fail(presence.last_at, CheckinSource::NetworkActivity, reason, Some(presence.mac), id);
        self.outcomes.push((Outcome::Failed, Some(reason), Some(id)));
        let day = self.rules.calendar.pass_day(presence.last_at).start;
        let key = SightingKey(format!("network/{}/{}/{day}/{}", presence.interface, presence.mac, reason.code()));
        self.failing.insert(id, key.clone());
        if let Some(known) = self.log.get_mut(&key) {
            known.last_at = known.last_at.max(presence.last_at);
            known.strong_at = known.strong_at.max(presence.last_strong_at);
            known.frames = known.frames.saturating_add(presence.frames);
            return;
        }
        let line = LogLine {
            key: key.clone(),
            mac: Some(presence.mac),
            decision: Cow::Borrowed(Outcome::Failed.word()),
            reason: Some(Cow::Borrowed(reason.code())),
            strong_at: presence.last_strong_at,
            frames: presence.frames,
            ..self.network_line(presence)
        };
        self.log.insert(key, line);
    }

    fn fail(&mut self, attempt_at: WallTime, source: CheckinSource, reason: Reason, mac: Option<MacAddr>, id: Uuid) {
        let site = &self.book.site;
        let day = self.rules.calendar.pass_day(attempt_at).start;
        self.failures.push(NewFailure {
            unique_id: id,
            coworker: None,
            then: Snapshot::default(),
            business: site.business,
            business_name: Some(self.directory.business(site.business).unwrap_or(&site.name).to_owned()),
            attempt_at,
            source,
            mac,
            reason,
            detail: None,
            once_key: mac.map(|mac| walk::once_a_day(site.business, day, reason, mac)),
        });
    }

    fn door_line(&self, sighting: &Sighting) -> LogLine {
        let event = &sighting.event;
        LogLine {
            key: sighting.key.clone(),
            source: sighting.source.to_string(),
            kind: Cow::Borrowed(event.kind.word()),
            door: Some(event.door.0.clone()),
            direction: Some(Cow::Borrowed(logged::direction(event.direction))),
            credential: logged::credential(event),
            event_at: sighting.event_at,
            last_at: sighting.event_at,
            time_quality: Cow::Borrowed(logged::quality(sighting.time_quality)),
            received_at: sighting.arrived.wall,
            ..self.blank()
        }
    }

    fn network_line(&self, presence: &Presence) -> LogLine {
        LogLine {
            source: presence.interface.to_string(),
            kind: Cow::Borrowed(walk::NETWORK),
            event_at: presence.first_at,
            last_at: presence.last_at,
            received_at: presence.arrived.wall,
            ..self.blank()
        }
    }

    fn blank(&self) -> LogLine {
        LogLine {
            key: SightingKey(String::new()),
            business_id: self.book.site.business,
            source: String::new(),
            door: None,
            kind: Cow::Borrowed(""),
            direction: None,
            credential: None,
            mac: None,
            coworker_id: None,
            event_at: self.now.wall,
            last_at: self.now.wall,
            strong_at: None,
            time_quality: Cow::Borrowed(logged::quality(TimeQuality::Arrival)),
            received_at: self.now.wall,
            decision: Cow::Borrowed(Outcome::Recorded.word()),
            reason: None,
            checkin: None,
            frames: 0,
            claim: None,
            points: None,
            directory_version: Some(self.directory.version),
        }
    }

    /// Closes visits whose timers are due, unless the database knows better.
    pub(super) fn time_out(&mut self, due: &[super::memory::Due], mut new_id: impl FnMut() -> Uuid) {
        for due in due {
            let Some(standing) = self.before.get(&due.coworker) else {
                continue;
            };
            let open = standing.open().filter(|open| open.unique_id == due.visit);
            let Some(open) =
                open.filter(|open| open.last_activity <= due.last_activity || due.timeout != engine::Timeout::Silence)
            else {
                continue;
            };
            let at = match due.timeout {
                engine::Timeout::CutOff => self.rules.calendar.pass_day(open.from).end,
                engine::Timeout::PassEnd => open.pass_ends().unwrap_or(self.now.wall),
                engine::Timeout::Silence => self
                    .heard
                    .run_out(open.last_activity, self.rules.idle_limit)
                    .map_or(self.now.wall, |at| at.min(self.now.wall)),
            };
            let person = open.person();
            let (counted, blank) = (self.counted(due.coworker), self.blank());
            let doorkeeper = Doorkeeper { counted: &counted, ..self.doorkeeper(due.coworker) };
            let walk = self.walk_of(&person, &doorkeeper, &blank);
            let walked = walk.time_out(standing.clone(), due.timeout, at, &mut new_id);
            self.take(due.coworker, walked);
        }
    }

    /// The visits to be written: those that the database does not have yet, those that differ from what it said, and
    /// those that never were.
    pub(super) fn visits(&self) -> Changes<'_> {
        let mut changes = Changes { gone: self.gone.visits.clone(), ..Changes::default() };
        for (coworker, standing) in &self.after {
            let before = self.before.get(coworker).map_or(&[][..], Standing::visits);
            for visit in standing.visits() {
                match before.iter().find(|before| before.unique_id == visit.unique_id) {
                    None => changes.new.push(visit),
                    Some(before) if before == visit => {}
                    Some(before) if before.began_like(visit) => changes.stays.push(visit),
                    Some(_) => changes.changed.push(visit),
                }
            }
        }
        changes
    }

    /// The charges to be written, and the check-ins whose charges are taken back.
    pub(super) fn charges(&self) -> (Vec<NewCharge>, Vec<Uuid>) {
        let mut taken_back = self.gone.visits.clone();
        let mut charges = Vec::new();
        for (coworker, standing) in &self.after {
            let before = self.before.get(coworker).map_or(&[][..], Standing::visits);
            let paid = |visit: &&Visit| charges::assigned(visit).is_some();
            let now = |id: Uuid| standing.visits().iter().filter(paid).any(|visit| visit.unique_id == id);
            taken_back.extend(before.iter().filter(paid).map(|visit| visit.unique_id).filter(|id| !now(*id)));
            let Some(rules) = &self.book.site.passes.pay_as_you_go else { continue };
            let calendar = &self.rules.calendar;
            let till = Till { directory: self.directory, rules, calendar, usage: &self.usage };
            let counted = self.counted(*coworker);
            let decided = standing.visits().iter().filter(|visit| !counted.contains(&visit.unique_id));
            let decided: Vec<&Visit> = decided.collect();
            charges.extend(till.charges(&decided, before));
        }
        (charges, taken_back)
    }

    /// Takes out those whom the directory no longer lets be in, and looks anew at how long the passes of the others last.
    pub(super) fn review(&mut self, coworkers: &[CoworkerId], mut new_id: impl FnMut() -> Uuid) {
        for id in coworkers {
            let Some(standing) = self.before.get(id).cloned() else { continue };
            let Some(open) = standing.open().cloned() else { continue };
            let coworker = self.directory.coworker(*id);
            let (doorkeeper, blank) = (self.doorkeeper(*id), self.blank());
            if coworker.is_none_or(|known| admission::barrier(known, self.book.site.business).is_some()) {
                let person = open.person();
                let line = LogLine {
                    key: SightingKey(format!("{}/{id}/{}", walk::DIRECTORY, self.now.wall)),
                    source: walk::DIRECTORY.to_owned(),
                    kind: Cow::Borrowed(walk::DIRECTORY),
                    coworker_id: Some(*id),
                    claim: Some(Cow::Borrowed("withdrawn")),
                    ..self.blank()
                };
                let walk = self.walk_of(&person, &doorkeeper, &blank);
                let walked = walk.walk(standing, vec![Entry::withdrawn(line)], Span::New, Taps::new(), &mut new_id);
                self.take(*id, walked);
            } else if let Some(pass) = doorkeeper.lasts(&open, self.now.wall) {
                let visits = standing.into_visits().into_iter();
                let changed = visits.map(|visit| {
                    if visit.unique_id == open.unique_id { Visit { pass: Some(pass.clone()), ..visit } } else { visit }
                });
                self.after.insert(*id, Standing::new(changed.collect()));
            }
        }
    }

    /// The failed check-ins to be written.
    pub(super) fn failures(&self) -> &[NewFailure] {
        &self.failures
    }

    /// The failed check-ins that never were, and the lines of the log that are written anew.
    pub(super) fn taken_back(&self) -> (&[Uuid], &[SightingKey]) {
        (&self.gone.failures, &self.gone.lines)
    }

    /// Now it is known which failures were written; the lines of the others say that they only repeated.
    pub(super) fn repeated(&mut self, written: &BTreeSet<Uuid>) {
        let new: BTreeSet<&SightingKey> =
            self.failing.iter().filter(|(failure, _)| written.contains(failure)).map(|(_, key)| key).collect();
        for key in self.failing.values() {
            if !new.contains(key)
                && let Some(line) = self.log.get_mut(key)
                && line.decision == Outcome::Failed.word()
            {
                line.decision = Cow::Borrowed(Outcome::Recorded.word());
                line.reason = Some(Cow::Borrowed(Note::FailedBefore.word()));
            }
        }
    }

    /// The lines of the log.
    pub(super) fn log(&self) -> impl ExactSizeIterator<Item = &LogLine> {
        self.log.values()
    }

    /// What is left to do once it is committed.
    pub(super) fn done(self, written: &BTreeSet<Uuid>) -> Done {
        let repeated = |failure: Option<Uuid>| failure.is_some_and(|failure| !written.contains(&failure));
        let outcomes = self.outcomes.into_iter().map(|(outcome, reason, failure)| {
            if repeated(failure) { (Outcome::Recorded, None) } else { (outcome, reason) }
        });
        let calendar = self.rules.calendar;
        // Also of those of whom nothing was decided: what the database says of them may be news, after a commit of which no
        // answer came, or when another gateway decides too.
        let untouched = self.before.into_iter().filter(|(coworker, _)| !self.after.contains_key(coworker));
        let untouched: Vec<_> = untouched.collect();
        let settled = self
            .after
            .into_iter()
            .chain(untouched)
            .map(|(coworker, standing)| (coworker, standing.into_visits().into_iter().rev().take(4).collect()))
            .collect();
        let reports = self.failures.iter().filter(|failure| failure.reason == Reason::UnrecognisedDevice);
        let reports =
            reports.filter_map(|failure| Some((failure.mac?, calendar.pass_day(failure.attempt_at)))).collect();
        Done {
            outcomes: outcomes.collect(),
            taps: self.taps,
            settled,
            heard: self.heard_now,
            recent: self.recent,
            reports,
            decided_again: self.decided_again,
            left_out: self.left_out,
        }
    }
}

/// The last that the visits know of somebody; what a clock that was ahead wrote is left out.
fn last_of(standing: &Standing, now: WallTime) -> Option<WallTime> {
    let last = |visit: &Visit| {
        let last = visit.to.unwrap_or(visit.from).max(visit.last_activity);
        // Whoever is in by now has come in, even if a controller's clock ahead of ours refreshed it.
        if last > now && visit.is_open() { visit.from } else { last }
    };
    standing.visits().iter().map(last).filter(|at| *at <= now).max()
}

/// What a committed batch meant, for the memory, the metrics and the log.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) outcomes: Vec<(Outcome, Option<Reason>)>,
    pub(super) taps: Memory,
    /// Where everybody in the batch stands now: the latest visits of each.
    pub(super) settled: Vec<(CoworkerId, Vec<Visit>)>,
    /// Whose open check-in the network has just refreshed.
    pub(super) heard: BTreeSet<CoworkerId>,
    /// What is now the last thing that the log knows of each, and their last taps.
    pub(super) recent: Vec<(CoworkerId, WallTime, Taps)>,
    pub(super) reports: Vec<(MacAddr, engine::calendar::PassDay)>,
    /// How many people were decided again, because something of theirs came late.
    pub(super) decided_again: u64,
    pub(super) left_out: u64,
}
