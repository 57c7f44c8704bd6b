//! PURE. A batch and where its people stand, to everything that is written in its one transaction.
//!
//! Built from what the database said, thrown away when the transaction fails; only after the commit does anything of it
//! reach the pipeline's memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use uuid::Uuid;

use super::memory::{Memory, Unrecognised};
use crate::{
    clock::{Now, WallTime},
    directory::{Coworker, Directory, Match},
    engine::{
        self, Claim, ClaimKind, Decision, Rules, Standing, Visit,
        admission::{self, DoorVerdict, PresenceVerdict},
        decision::{Note, Outcome, Reason},
    },
    mac::MacAddr,
    record::{CheckinSource, CoworkerId, Snapshot},
    settings::{Door, NetworkOpens, Site},
    sighting::{CredentialKind, Direction, DoorEvent, Presence, Sighting, SightingKey, TimeQuality},
    source::Rejection,
    store::{Changes, LogLine, NewFailure},
};

/// Network presences of one device and outcome are one line of the log per this span, so that a laptop that speaks
/// every minute fills four lines an hour.
const LOG_SPAN: Duration = Duration::from_mins(15);

/// What a site decides by.
#[derive(Clone, Debug)]
pub struct Rulebook {
    /// `[site]`.
    pub site: Site,
    /// `[[door]]`.
    pub doors: Vec<Door>,
}

impl Rulebook {
    /// The rules of the engine.
    pub fn rules(&self) -> Rules {
        Rules {
            calendar: engine::calendar::Calendar { zone: self.site.time_zone, cut_off: self.site.cut_off },
            idle_limit: self.site.idle_limit,
            linger: self.site.linger,
            toggle_minimum_stay: self.site.toggle_minimum_stay,
        }
    }
}

/// Whose standing a batch needs, and from when on: the earliest that it claims of each. Where the network opens only
/// after a door, a door that let somebody in counts for the whole day, so all visits since `since` are needed.
pub(super) fn who(
    sightings: &[&Sighting],
    presences: &[&Presence],
    directory: &Directory,
    opens: NetworkOpens,
    since: WallTime,
) -> BTreeMap<CoworkerId, WallTime> {
    let one = |found: Match<'_>| match found {
        Match::One(coworker) => Some(coworker.id),
        Match::Nobody | Match::Several => None,
    };
    let by_door = sightings.iter().filter_map(|sighting| {
        let credential = sighting.event.credential.as_ref()?;
        Some((one(directory.by_credential(credential))?, sighting.event_at))
    });
    let by_network = presences.iter().filter_map(|presence| {
        let from = match opens {
            NetworkOpens::AfterDoor => since,
            NetworkOpens::Always | NetworkOpens::Never => presence.first_at.min(presence.last_at),
        };
        Some((one(directory.by_mac(presence.mac))?, from))
    });
    let mut earliest = BTreeMap::new();
    for (coworker, at) in by_door.chain(by_network) {
        earliest.entry(coworker).and_modify(|known: &mut WallTime| *known = at.min(*known)).or_insert(at);
    }
    earliest
}

/// What a batch writes, and what it will have meant.
pub(super) struct Plan<'a> {
    directory: &'a Directory,
    book: &'a Rulebook,
    rules: Rules,
    memory: &'a Memory,
    now: Now,
    standings: BTreeMap<CoworkerId, Standing>,
    before: BTreeMap<CoworkerId, Vec<Visit>>,
    failures: Vec<NewFailure>,
    log: BTreeMap<SightingKey, LogLine>,
    /// What each log line means if its failure turns out to be a repetition.
    failing: BTreeMap<Uuid, SightingKey>,
    /// New in memory once it is committed.
    taps: Memory,
    reports: BTreeSet<MacAddr>,
    outcomes: Vec<(Outcome, Option<Reason>, Option<Uuid>)>,
    /// Whose open check-in the network has just refreshed.
    heard: BTreeSet<CoworkerId>,
    left_out: u64,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        directory: &'a Directory,
        book: &'a Rulebook,
        memory: &'a Memory,
        standings: BTreeMap<CoworkerId, Standing>,
        now: Now,
    ) -> Self {
        let before = standings.iter().map(|(id, standing)| (*id, standing.visits().to_vec())).collect();
        Self {
            directory,
            book,
            rules: book.rules(),
            memory,
            now,
            standings,
            before,
            failures: Vec::new(),
            log: BTreeMap::new(),
            failing: BTreeMap::new(),
            taps: Memory::new(),
            reports: BTreeSet::new(),
            outcomes: Vec::new(),
            heard: BTreeSet::new(),
            left_out: 0,
        }
    }

    /// Decides everything in the order of its time, whatever order it came in; `decided` are the keys of sightings
    /// that the database has already.
    pub(super) fn decide(
        &mut self,
        sightings: &[&Sighting],
        presences: &[&Presence],
        decided: &BTreeSet<SightingKey>,
        mut new_id: impl FnMut() -> Uuid,
    ) {
        enum Item<'i> {
            Door(&'i Sighting),
            Network(&'i Presence),
        }
        let doors = sightings.iter().map(|sighting| (sighting.event_at, Item::Door(sighting)));
        let network = presences.iter().map(|presence| (presence.last_at, Item::Network(presence)));
        let mut items: Vec<(WallTime, Item<'_>)> = doors.chain(network).collect();
        items.sort_by_key(|(at, _)| *at);
        for (_, item) in items {
            match item {
                Item::Door(sighting) if decided.contains(&sighting.key) || self.log.contains_key(&sighting.key) => {
                    self.outcomes.push((Outcome::Duplicate, None, None));
                }
                Item::Door(sighting) => self.door(sighting, new_id()),
                Item::Network(presence) => self.presence(presence, new_id()),
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
            door: Some(without_numbers(&rejection.topic)),
            reason: Some(rejection.why.word()),
            ..self.line(key.clone(), source, "rejected", self.now.wall, Outcome::Rejected)
        };
        self.log.insert(key, line);
    }

    fn door(&mut self, sighting: &Sighting, id: Uuid) {
        let repeated = self.memory.is_repeated(sighting, self.book.site.debounce)
            || self.taps.is_repeated(sighting, self.book.site.debounce);
        let verdict = if repeated && sighting.event.kind.names_somebody() {
            DoorVerdict::Record(Note::RepeatedTap, None)
        } else {
            admission::judge_door(&sighting.event, self.directory, &self.book.doors, self.book.site.business)
        };
        if !repeated && sighting.event.kind.names_somebody() {
            self.taps.tapped(sighting);
        }
        let (decision, coworker) = match verdict {
            DoorVerdict::Record(note, coworker) => (Decision::recorded(note), coworker.map(|coworker| coworker.id)),
            DoorVerdict::Fail(reason, coworker) => {
                self.fail(sighting.event_at, CheckinSource::DoorAccess, reason, coworker, None, id);
                (Decision::failed(reason), coworker.map(|coworker| coworker.id))
            }
            DoorVerdict::Claim { coworker, action, admission } => {
                let kind = ClaimKind::Door { action, at: sighting.event_at };
                let decision = self.claim(coworker, kind, admission, id);
                if let Some(reason) = decision.reason {
                    self.fail(sighting.event_at, CheckinSource::DoorAccess, reason, Some(coworker), None, id);
                }
                (decision, Some(coworker.id))
            }
        };
        self.finish_door(sighting, &decision, coworker);
    }

    fn finish_door(&mut self, sighting: &Sighting, decision: &Decision, coworker: Option<CoworkerId>) {
        self.outcomes.push((decision.outcome, decision.reason, None));
        let event = &sighting.event;
        let key = sighting.key.clone();
        let line = LogLine {
            door: Some(event.door.0.clone()),
            direction: Some(direction(event.direction)),
            credential: logged_credential(event),
            coworker_id: coworker,
            time_quality: quality(sighting.time_quality),
            received_at: sighting.arrived.wall,
            reason: decision.word(),
            checkin: decision.visit,
            ..self.line(key.clone(), &sighting.source, event.kind.word(), sighting.event_at, decision.outcome)
        };
        self.log.insert(key, line);
    }

    fn presence(&mut self, presence: &Presence, id: Uuid) {
        let standings = &self.standings;
        let verdict = admission::judge_presence(
            presence,
            self.directory,
            &self.book.site,
            &self.rules.calendar,
            |coworker: &Coworker| standings.get(&coworker.id),
        );
        match verdict {
            PresenceVerdict::Nothing => self.outcomes.push((Outcome::Recorded, None, None)),
            PresenceVerdict::Fail(reason) => self.unclaimed(presence, reason, id),
            PresenceVerdict::Claim { coworker, admission } => {
                let kind = ClaimKind::Network {
                    mac: presence.mac,
                    since: presence.since,
                    first_at: presence.first_at,
                    last_at: presence.last_at,
                    strong_at: presence.last_strong_at,
                };
                let decision = self.claim(coworker, kind, admission, id);
                if matches!(decision.outcome, Outcome::Opened | Outcome::Refreshed) {
                    self.heard.insert(coworker.id);
                }
                let once = decision.reason.map(|reason| {
                    self.fail(
                        presence.last_at,
                        CheckinSource::NetworkActivity,
                        reason,
                        Some(coworker),
                        Some(presence.mac),
                        id,
                    );
                });
                self.finish_presence(presence, &decision, Some(coworker.id), once.map(|()| id));
            }
        }
    }

    /// A device that nobody, or more than one person, has registered: one failed check-in per pass day, and a bound.
    fn unclaimed(&mut self, presence: &Presence, reason: Reason, id: Uuid) {
        if reason != Reason::UnrecognisedDevice {
            self.fail(presence.last_at, CheckinSource::NetworkActivity, reason, None, Some(presence.mac), id);
            self.finish_presence(presence, &Decision::failed(reason), None, Some(id));
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
                self.fail(presence.last_at, CheckinSource::NetworkActivity, reason, None, Some(presence.mac), id);
                self.finish_presence(presence, &Decision::failed(reason), None, Some(id));
            }
        }
    }

    fn leave_out(&mut self) {
        self.left_out += 1;
        self.outcomes.push((Outcome::Recorded, None, None));
    }

    fn finish_presence(
        &mut self,
        presence: &Presence,
        decision: &Decision,
        coworker: Option<CoworkerId>,
        failure: Option<Uuid>,
    ) {
        self.outcomes.push((decision.outcome, decision.reason, failure));
        let word = decision.word().unwrap_or(decision.outcome.word());
        let span = i64::try_from(LOG_SPAN.as_millis()).unwrap_or(i64::MAX);
        let bucket = WallTime::from_millis(presence.last_at.millis() / span * span);
        let key = SightingKey(format!("network/{}/{}/{bucket}/{word}", presence.interface, presence.mac));
        if let Some(failure) = failure {
            self.failing.insert(failure, key.clone());
        }
        if let Some(known) = self.log.get_mut(&key) {
            known.last_at = known.last_at.max(presence.last_at);
            known.strong_at = known.strong_at.max(presence.last_strong_at);
            known.frames = known.frames.saturating_add(presence.frames);
            return;
        }
        let line = LogLine {
            mac: Some(presence.mac),
            coworker_id: coworker,
            last_at: presence.last_at,
            strong_at: presence.last_strong_at,
            reason: decision.word(),
            checkin: decision.visit,
            frames: presence.frames,
            received_at: presence.arrived.wall,
            ..self.line(key.clone(), &presence.interface, "network", presence.first_at, decision.outcome)
        };
        self.log.insert(key, line);
    }

    fn claim(
        &mut self,
        coworker: &Coworker,
        kind: ClaimKind,
        admission: engine::life::Admission,
        id: Uuid,
    ) -> Decision {
        let site = &self.book.site;
        let claim = Claim {
            coworker: coworker.id,
            kind,
            admission,
            new_visit: id,
            then: coworker.snapshot(),
            business: site.business,
            business_name: Some(self.directory.business(site.business).unwrap_or(&site.name).to_owned()),
        };
        let standing = self.standings.entry(coworker.id).or_default();
        engine::decide(standing, claim, &self.rules, self.now.wall)
    }

    fn fail(
        &mut self,
        attempt_at: WallTime,
        source: CheckinSource,
        reason: Reason,
        coworker: Option<&Coworker>,
        mac: Option<MacAddr>,
        id: Uuid,
    ) {
        let site = &self.book.site;
        let day = self.rules.calendar.pass_day(attempt_at).start;
        self.failures.push(NewFailure {
            unique_id: id,
            coworker: coworker.map(|coworker| coworker.id),
            then: coworker.map_or_else(Snapshot::default, Coworker::snapshot),
            business: site.business,
            business_name: Some(self.directory.business(site.business).unwrap_or(&site.name).to_owned()),
            attempt_at,
            source,
            mac,
            reason,
            once_key: mac.map(|mac| format!("{}/{day}/{}/{mac}", site.business, reason.code())),
        });
    }

    fn line(&self, key: SightingKey, source: &str, kind: &'static str, at: WallTime, outcome: Outcome) -> LogLine {
        LogLine {
            key,
            business_id: self.book.site.business,
            source: source.to_owned(),
            door: None,
            kind,
            direction: None,
            credential: None,
            mac: None,
            coworker_id: None,
            event_at: at,
            last_at: at,
            strong_at: None,
            time_quality: quality(TimeQuality::Arrival),
            received_at: self.now.wall,
            decision: outcome.word(),
            reason: None,
            checkin: None,
            frames: 0,
        }
    }

    /// Closes visits whose timers are due, unless the database knows better.
    pub(super) fn time_out(&mut self, due: &[super::memory::Due]) {
        for due in due {
            let Some(standing) = self.standings.get_mut(&due.coworker) else {
                continue;
            };
            let unchanged = standing
                .open()
                .is_some_and(|open| open.unique_id == due.visit && open.last_activity <= due.last_activity);
            let same = standing.open().is_some_and(|open| open.unique_id == due.visit);
            if unchanged || (same && due.timeout == engine::Timeout::CutOff) {
                engine::time_out(standing, due.timeout, &self.rules);
            }
        }
    }

    /// The visits to be written: those that the database does not have yet, and those that differ from what it said.
    pub(super) fn visits(&self) -> Changes<'_> {
        let mut changes = Changes::default();
        for (coworker, standing) in &self.standings {
            let before = self.before.get(coworker).map_or(&[][..], Vec::as_slice);
            for visit in standing.visits() {
                match before.iter().find(|before| before.unique_id == visit.unique_id) {
                    None => changes.new.push(visit),
                    Some(before) if before != visit => changes.changed.push(visit),
                    Some(_) => {}
                }
            }
        }
        changes
    }

    pub(super) fn failures(&self) -> &[NewFailure] {
        &self.failures
    }

    /// The lines of the log, once it is known which failures were written and which only repeated.
    pub(super) fn log(&mut self, written: &BTreeSet<Uuid>) -> Vec<&LogLine> {
        let new: BTreeSet<&SightingKey> =
            self.failing.iter().filter(|(failure, _)| written.contains(failure)).map(|(_, key)| key).collect();
        for key in self.failing.values() {
            if !new.contains(key)
                && let Some(line) = self.log.get_mut(key)
                && line.decision == Outcome::Failed.word()
            {
                line.decision = Outcome::Recorded.word();
                line.reason = Some(Note::FailedBefore.word());
            }
        }
        self.log.values().collect()
    }

    /// What is left to do once it is committed.
    pub(super) fn done(self, written: &BTreeSet<Uuid>) -> Done {
        let repeated = |failure: Option<Uuid>| failure.is_some_and(|failure| !written.contains(&failure));
        let outcomes = self.outcomes.into_iter().map(|(outcome, reason, failure)| {
            if repeated(failure) { (Outcome::Recorded, None) } else { (outcome, reason) }
        });
        let calendar = self.rules.calendar;
        let settled = self
            .standings
            .into_iter()
            .map(|(coworker, standing)| (coworker, standing.visits().iter().rev().take(4).cloned().collect()))
            .collect();
        let reports = self.failures.iter().filter(|failure| failure.reason == Reason::UnrecognisedDevice);
        let reports =
            reports.filter_map(|failure| Some((failure.mac?, calendar.pass_day(failure.attempt_at)))).collect();
        Done {
            outcomes: outcomes.collect(),
            taps: self.taps,
            settled,
            heard: self.heard,
            reports,
            left_out: self.left_out,
        }
    }
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
    pub(super) reports: Vec<(MacAddr, engine::calendar::PassDay)>,
    pub(super) left_out: u64,
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::Unknown => "unknown",
    }
}

fn quality(quality: TimeQuality) -> &'static str {
    match quality {
        TimeQuality::Device => "device",
        TimeQuality::Corrected => "corrected",
        TimeQuality::Arrival => "arrival",
    }
}

/// Long numbers in a topic are card numbers or telephone numbers as often as device ids.
pub(super) fn without_numbers(topic: &str) -> String {
    let long = |level: &str| level.chars().filter(char::is_ascii_digit).count() > LONGEST_PIN;
    let masked = |level: &str| if long(level) { "…".to_owned() } else { level.to_owned() };
    topic.split('/').map(masked).collect::<Vec<_>>().join("/")
}

/// The most digits of a PIN, and of a number that may be one: some keypads send the PIN where the card number stands.
const LONGEST_PIN: usize = 6;

fn may_be_pin(value: &str) -> bool {
    value.len() <= LONGEST_PIN && !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit())
}

/// Card numbers are kept, so that an unknown card can be given to somebody in one step; PINs never are.
fn logged_credential(event: &DoorEvent) -> Option<String> {
    event.credential.as_ref().map(|credential| match credential.kind {
        CredentialKind::Pin => "PIN".to_owned(),
        CredentialKind::Card if may_be_pin(&credential.value) => "PIN or short number".to_owned(),
        CredentialKind::Card | CredentialKind::Slot | CredentialKind::User | CredentialKind::Name => {
            credential.value.clone()
        }
    })
}
