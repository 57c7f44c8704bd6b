//! PURE. From what a transaction has read and what is new, through the fold, to everything that it writes.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use uuid::Uuid;

use super::intake::{HeardDevice, Intake};
use crate::{
    base::{
        clock::WallTime,
        fact::{DoorFact, Fact, FactDigest, LOG_SPAN, LogDay, PresenceFact, RejectedFact, Subject},
        mac::MacAddr,
        record::{BusinessId, CoworkerId},
    },
    directory::{Directory, history::DirectoryHistory},
    engine::{
        Decision,
        decision::{DecisionCode, Note, Outcome, Reason},
        fold::{self, FoldItem, Folded, Group, VisitRecord, What, World},
        passes::{PlanTally, Used},
        person::{PersonState, Visit, visits_of},
    },
    policy::passes::PassPolicy,
    store::{
        ChangedVisit, DecidedFact, NewPersonState, StoredPerson, StoredRecords, StoredVisit, UnloggedPresence, Writes,
    },
};

/// People who are folded together because they may use the same passes; mostly one person.
pub(crate) type People = BTreeSet<Subject>;

/// Everybody who may use a pass that these people may use too, and so on, by any of these versions of the directory: what
/// is late is judged by an earlier one.
pub(crate) fn groups(subjects: &People, versions: &[&Directory], policy: &PassPolicy) -> Vec<People> {
    let versions: Vec<&Directory> = versions.iter().copied().filter(|version| policy.asks(version)).collect();
    let mut left = subjects.clone();
    let mut groups = Vec::new();
    while let Some(first) = left.pop_first() {
        let mut group = People::from([first]);
        let mut asked = vec![BTreeSet::new(); versions.len()];
        let mut members: Vec<CoworkerId> = first.as_coworker().into_iter().collect();
        while let Some(member) = members.pop() {
            for (version, asked) in versions.iter().zip(&mut asked).filter(|(_, asked)| !asked.contains(&member)) {
                let sharing = version.who_share_passes_with(member);
                members.extend(sharing.iter().copied().filter(|other| group.insert(Subject::coworker(*other))));
                asked.extend(sharing);
            }
        }
        for member in &group {
            left.remove(member);
        }
        groups.push(group);
    }
    groups
}

/// One point of a presence that no fact holds yet, and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct UnloggedPoint {
    pub(crate) heard: HeardDevice,
    /// It has just been handed over.
    pub(crate) new: bool,
    /// It was kept beside the log.
    pub(crate) was_pending: bool,
}

impl UnloggedPoint {
    /// The points that were pending.
    pub(crate) fn pending(pending: &UnloggedPresence) -> impl Iterator<Item = Self> {
        let UnloggedPresence { business, subject, mac, interface, points } = pending;
        let interface: std::sync::Arc<str> = interface.as_str().into();
        points.iter().map(move |point| Self {
            heard: HeardDevice {
                subject: *subject,
                business: *business,
                mac: *mac,
                interface: std::sync::Arc::clone(&interface),
                point: *point,
            },
            new: false,
            was_pending: true,
        })
    }
}

/// What is known of a group before it is folded, and what is new.
#[derive(Debug, Default)]
pub(crate) struct GroupCase {
    /// As they are now.
    pub(crate) now: BTreeMap<Subject, StoredPerson>,
    /// As they were before the first thing that is folded, and the facts since; none when nothing came late.
    pub(crate) past: Option<RefoldInput>,
    pub(crate) doors: Vec<DoorFact>,
    pub(crate) unwritten: Vec<UnloggedPoint>,
    pub(crate) group: Group,
    /// Others may use the passes of these people too.
    pub(crate) shares: bool,
    /// The passes of these people: others may have used them, and not be of the group any more.
    pub(crate) passes: BTreeSet<Uuid>,
    /// Who of the group holds passes, be they folded or not: what they used before others could is known of them alone.
    pub(crate) holders: BTreeSet<Subject>,
}

/// What a fold that begins earlier needs besides.
#[derive(Debug, Default)]
pub(crate) struct RefoldInput {
    /// The first day that is folded again.
    pub(crate) from: LogDay,
    pub(crate) facts: Vec<DecidedFact>,
    /// The records of these people, with those of a while before.
    pub(crate) records: StoredRecords,
    /// From when on visits are of the fold, by whose they are.
    pub(crate) since: BTreeMap<CoworkerId, WallTime>,
    /// The days of which there is a checkpoint.
    pub(crate) checkpoints: Vec<(Subject, LogDay)>,
}

impl GroupCase {
    /// Nothing yet, of people who are folded together.
    pub(crate) fn of(group: &BTreeSet<Subject>, versions: &[&Directory]) -> Self {
        let mut case = Self { shares: group.len() > 1, ..Self::default() };
        for (subject, coworker) in group.iter().filter_map(|subject| Some((subject, subject.as_coworker()?))) {
            for held in versions.iter().flat_map(|version| version.own_passes(coworker)) {
                case.passes.insert(held.guid);
                case.holders.insert(*subject);
            }
        }
        case
    }

    /// The earliest instant whose directory may be asked for.
    pub(crate) fn begins(&self) -> Option<WallTime> {
        let folded = self.group.people.values().flat_map(|person| {
            let visits = person.visits.iter().map(|visit| visit.from);
            visits.chain((person.folded.at.millis() > 0).then_some(person.folded.at))
        });
        folded
            .chain(self.doors.iter().map(|fact| fact.at))
            .chain(self.unwritten.iter().map(|new| new.heard.point.last_at))
            // Everything since the beginning of the first day is decided again.
            .chain(self.past.iter().map(|past| past.from.start()))
            .min()
    }

    /// When something is said of each at each business, or they come in.
    fn instants(&self) -> BTreeMap<(Subject, BusinessId), BTreeSet<WallTime>> {
        let doors = self.doors.iter().map(|fact| (fact.subject, fact.business, fact.at));
        let heard = self.unwritten.iter().map(|new| (new.heard.subject, new.heard.business, new.heard.point.last_at));
        let past = self.past.iter().flat_map(|past| &past.facts);
        let past = past.map(|row| (row.fact.subject, row.fact.business, row.fact.at));
        let open = self.group.people.iter().filter_map(|(subject, person)| Some((*subject, person.open()?)));
        let open = open.map(|(subject, open)| (subject, open.business, open.from));
        let mut instants: BTreeMap<(Subject, BusinessId), BTreeSet<WallTime>> = BTreeMap::new();
        for (subject, business, at) in doors.chain(heard).chain(past).chain(open) {
            instants.entry((subject, business)).or_default().insert(at);
        }
        instants
    }

    /// Is anybody's open visit, or any fact, at another business?
    pub(super) fn is_about_others(&self, business: BusinessId) -> bool {
        let visits =
            self.group.people.values().flat_map(|person| &person.visits).any(|visit| visit.business != business);
        visits || self.past.as_ref().is_some_and(|past| past.facts.iter().any(|row| row.fact.business != business))
    }
}

/// Whose total before which day is to be read: of every window that a plan may be counted in during the fold, unless the
/// person's state has a day before it.
pub(crate) fn totals_to_read(world: &World<'_>, cases: &[GroupCase]) -> BTreeSet<(CoworkerId, NaiveDate)> {
    let mut asked = BTreeSet::new();
    for case in cases {
        let versions = world.directories.between(case.begins(), world.now);
        for ((subject, business), instants) in case.instants() {
            let counted = case.group.people.get(&subject).and_then(|person| person.counted.days().first());
            // Where nothing was counted yet, nothing was before any day.
            let Some((coworker, (known_from, _))) = subject.as_coworker().zip(counted) else { continue };
            // Visits end by themselves, and are asked about again, on the day of something that was said.
            for at in instants.iter().chain(&versions).chain([&world.now]) {
                let starts = fold::window_starts(world, coworker, business, *at);
                asked.extend(starts.into_iter().filter(|first| first <= known_from).map(|first| (coworker, first)));
            }
        }
    }
    asked
}

/// What others, who are not folded, have used of passes of the people of each case.
pub(crate) fn know_usage(cases: &mut [GroupCase], users: Vec<(Uuid, Subject, Used)>) {
    let mut of: BTreeMap<Uuid, Vec<(Subject, Used)>> = BTreeMap::new();
    for (pass, subject, used) in users {
        of.entry(pass).or_default().push((subject, used));
    }
    if of.is_empty() {
        return;
    }
    for GroupCase { group, passes, .. } in cases {
        for (pass, users) in passes.iter().filter_map(|pass| of.get_key_value(pass)) {
            let others = users.iter().filter(|(subject, _)| !group.people.contains_key(subject));
            group.others.entry(*pass).or_default().extend(others.map(|(_, used)| *used));
        }
    }
}

/// Whoever holds passes that people of a case may use, and is not folded.
pub(super) fn absent_holders(cases: &[GroupCase]) -> People {
    let absent = |case: &GroupCase| {
        case.holders.iter().filter(|holder| !case.now.contains_key(holder)).copied().collect::<People>()
    };
    cases.iter().filter(|case| case.shares).flat_map(absent).collect()
}

/// What they used stands in their own state.
pub(super) fn add_holders(
    users: &mut Vec<(Uuid, Subject, Used)>,
    holders: &BTreeMap<Subject, StoredPerson>,
    passes: &BTreeSet<Uuid>,
    directories: &DirectoryHistory,
) {
    users.retain(|(_, subject, _)| !holders.contains_key(subject));
    for (subject, coworker, person) in
        holders.iter().filter_map(|(subject, known)| Some((*subject, subject.as_coworker()?, &known.person)))
    {
        let used =
            person.uses(coworker, |pass| passes.contains(pass), |pass| basis_of(directories, coworker, person, pass));
        users.extend(used.into_iter().map(|(pass, used)| (pass, subject, used)));
    }
}

/// Since when a pass is counted, as it was said when somebody was last folded.
fn basis_of(
    directories: &DirectoryHistory,
    coworker: CoworkerId,
    person: &PersonState,
    pass: Uuid,
) -> Option<WallTime> {
    directories.at(person.folded.at).pass(coworker, pass).map(|held| held.basis_at)
}

/// From which day on a group must be folded again, if anything new comes before what was decided.
pub(super) fn late_from(case: &GroupCase, world: &World<'_>) -> Option<LogDay> {
    let nothing = PersonState::default();
    let doors = case.doors.iter().map(FoldItem::door);
    let heard = case.unwritten.iter().map(|unwritten| item_of(&unwritten.heard));
    let others = case.now.len() > 1 || case.shares && !case.passes.is_empty();
    let late = doors.chain(heard).filter(|item| {
        let person = case.now.get(&item.subject).map_or(&nothing, |standing| &standing.person);
        let behind_others = || {
            others
                && case.now.iter().any(|(subject, other)| *subject != item.subject && item.place <= other.person.folded)
        };
        item.is_late(person) || behind_others()
    });
    let late = late.map(|item| LogDay::of(item.place.at.min(item.heard_at())));
    // A version that came into force before something that was folded without it.
    let versions = case.now.values().filter(|known| known.revision > 0).filter_map(|known| {
        let from = world.directories.newer_than(known.person.directory)?;
        (from <= known.person.folded.at).then(|| LogDay::of(from))
    });
    let silence = fold::silence_behind(case.now.values().map(|known| &known.person), world).map(LogDay::of);
    late.chain(versions).chain(silence).min()
}

/// Whose new facts may come after a silence that is not known yet, and its instant: it would have run out in the span since
/// the last frame, of which only the next frame shows whether it was heard. Rather one too many: they are folded again then.
pub(super) fn unproven(case: &GroupCase, world: &World<'_>, business: BusinessId) -> BTreeMap<Subject, WallTime> {
    let Some((known, (last_frame, _))) =
        world.coverage.get(&business).and_then(|known| Some((known, known.unproven()?)))
    else {
        return BTreeMap::new();
    };
    let doors = case.doors.iter().map(FoldItem::door);
    let heard = case.unwritten.iter().filter(|unwritten| unwritten.new).map(|unwritten| item_of(&unwritten.heard));
    let new = doors.chain(heard).filter(|item| item.business == business);
    let mut newest: BTreeMap<Subject, WallTime> = BTreeMap::new();
    let mut since: BTreeMap<Subject, Vec<WallTime>> = BTreeMap::new();
    for item in new {
        let last = newest.entry(item.subject).or_insert(item.heard_at());
        *last = item.heard_at().max(*last);
        since.entry(item.subject).or_default().push(item.place.at);
    }
    newest.retain(|_, last| *last > last_frame);
    if newest.is_empty() {
        return BTreeMap::new();
    }
    if case.past.is_some() {
        // What lies between is not looked through for this.
        return newest.into_keys().map(|subject| (subject, last_frame.moved(1))).collect();
    }
    let at_most = known.at_most();
    let silence = |since: WallTime| {
        let limit = world.policies.at(business, since)?.site.idle_limit;
        known.run_out(since, limit).is_none().then(|| at_most.run_out(since, limit)).flatten()
    };
    let pending = case.unwritten.iter().filter(|unwritten| unwritten.was_pending);
    for heard in pending.map(|unwritten| &unwritten.heard).filter(|heard| newest.contains_key(&heard.subject)) {
        since.entry(heard.subject).or_default().push(heard.point.last_at);
    }
    let first = |(subject, newest): (Subject, WallTime)| {
        let visits = case.group.people.get(&subject).into_iter().flat_map(|person| &person.visits);
        let stood = visits.filter(|visit| visit.business == business).map(|visit| visit.last_activity);
        let said = since.get(&subject).into_iter().flatten().copied();
        let first = stood.chain(said).filter_map(silence).min()?;
        (first < newest).then_some((subject, first))
    };
    newest.into_iter().filter_map(first).collect()
}

fn item_of(heard: &HeardDevice) -> FoldItem<'static> {
    FoldItem::heard(heard.subject, heard.business, heard.mac, heard.point)
}

/// What came of a case.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// What became of each new door fact and each new presence.
    pub(super) outcomes: Vec<(Outcome, Option<Reason>)>,
    /// Everybody as they are now.
    pub(super) people: BTreeMap<Subject, PersonState>,
    /// How many people were folded again.
    pub(super) again: u64,
    /// Visits that ended by themselves: of how many a silence.
    pub(super) ended: usize,
    pub(super) silent: usize,
}

/// Where the facts of a fold stand: each gets its decision.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FactOrigin {
    NewDoor,
    OldDoor(usize),
    /// A point of a stored presence.
    OldPoint(usize),
    Unwritten(usize),
}

/// Everything that is folded, in the order of time.
pub(crate) fn items<'a>(
    old: &'a [Fact],
    doors: &'a [DoorFact],
    unwritten: &'a [UnloggedPoint],
) -> Vec<(FoldItem<'a>, FactOrigin)> {
    let mut items: Vec<(FoldItem<'_>, FactOrigin)> = Vec::with_capacity(old.len() + doors.len() + unwritten.len());
    for (index, fact) in old.iter().enumerate() {
        match fact {
            Fact::Door(door) if !door.too_late => items.push((FoldItem::door(door), FactOrigin::OldDoor(index))),
            Fact::Presence(presence) => items.extend(presence.points.iter().map(|point| {
                (
                    FoldItem::heard(presence.subject, presence.business, presence.mac, *point),
                    FactOrigin::OldPoint(index),
                )
            })),
            Fact::Door(_) | Fact::StrangeDevice(_) | Fact::Rejected(_) => {}
        }
    }
    items.extend(doors.iter().map(|door| (FoldItem::door(door), FactOrigin::NewDoor)));
    let unwritten_items = unwritten.iter().enumerate();
    items.extend(unwritten_items.map(|(index, unwritten)| (item_of(&unwritten.heard), FactOrigin::Unwritten(index))));
    // A point that was handed over twice is one.
    items.sort_by_key(|(item, _)| item.place);
    items.dedup_by_key(|(item, _)| (item.place, item.subject));
    items
}

/// Folds a case and says what changes.
pub(super) fn decide(world: World<'_>, case: GroupCase, writes: &mut Writes) -> Decided {
    let GroupCase { now, mut past, doors, unwritten, group, shares, passes: _, holders: _ } = case;
    let mut records = past.as_mut().map(|past| (std::mem::take(&mut past.records), std::mem::take(&mut past.since)));
    let read = |row| -> Option<(&DecidedFact, Fact)> { Some((row, Fact::read(&row.fact).ok()?)) };
    let (rows, old): (Vec<&DecidedFact>, Vec<Fact>) = past.iter().flat_map(|past| &past.facts).filter_map(read).unzip();
    let items = items(&old, &doors, &unwritten);
    if let Some((records, since)) = &mut records {
        let opened = items.iter().flat_map(|(item, _)| visits_of(item.place.digest)).collect();
        records.keep_since(since, &opened);
    }

    // What the totals are counted on from, where they are counted again.
    let counted = past.is_some().then(|| {
        let tally = |(subject, person): (&Subject, &PersonState)| (*subject, person.counted.clone());
        group.people.iter().map(tally).collect()
    });
    let folded_items: Vec<FoldItem<'_>> = items.iter().map(|(item, _)| *item).collect();
    let folded = fold::fold(world, group, &folded_items);

    let mut decided = Decided::default();
    let mut lines = PresenceLines::default();
    let mut again: BTreeMap<usize, DecisionCode> = BTreeMap::new();
    for ((item, origin), decision) in items.iter().zip(&folded.decisions) {
        match (origin, item.what) {
            (FactOrigin::NewDoor, What::Door(door)) => {
                decided.outcomes.push((decision.outcome, decision.reason));
                writes.facts.push(DecidedFact { fact: Fact::Door(door.clone()).stored(), decision: decision.code() });
            }
            (FactOrigin::Unwritten(index), _) => {
                if let Some(unwritten) = unwritten.get(*index) {
                    if unwritten.new {
                        decided.outcomes.push((decision.outcome, decision.reason));
                    }
                    lines.add(&unwritten.heard, decision);
                }
            }
            (FactOrigin::OldDoor(index) | FactOrigin::OldPoint(index), _) => {
                again.insert(*index, decision.code());
            }
            (FactOrigin::NewDoor, What::Heard(..)) => {}
        }
    }
    writes.facts.extend(lines.into_facts());
    if past.is_some() {
        for (index, row) in rows.iter().enumerate() {
            if let Some(code) = again.get(&index).filter(|code| **code != row.decision) {
                // Of credentials that are no one's the log is what knows their failed check-ins.
                if row.fact.subject.as_coworker().is_none() && row.decision.outcome() == Outcome::Failed {
                    writes.gone_failures.push(fold::door_failure(row.fact.digest));
                }
                writes.decided_again.push(DecidedFact { fact: row.fact.clone(), decision: *code });
            }
        }
        decided.again = folded.people.len() as u64;
    }
    let pending = unwritten.iter().filter(|unwritten| unwritten.was_pending);
    writes.gone_unlogged.extend(pending.map(|unwritten| unwritten.heard.subject));
    decided.ended = folded.ended.len();
    decided.silent = folded.ended.iter().filter(|(_, ended)| ended.by == crate::engine::life::CloseBy::Silence).count();
    change_records(&folded, &now, records.as_ref().map(|(records, _)| records), writes);
    change_people(&folded, &now, counted.as_ref(), &world, writes);
    change_checkpoints(&folded, past.as_ref(), writes);
    share_usage(&folded, &now, shares, &world, writes);
    decided.people = folded.people;
    decided
}

/// A device of somebody at a business on a day of the log.
type DeviceDay = (Subject, BusinessId, MacAddr, LogDay);

/// Points of one device on their way to the log: at most a quarter of an hour, and never across midnight, in one entry.
#[derive(Default)]
struct PresenceLines {
    lines: BTreeMap<(DeviceDay, WallTime), (PresenceFact, DecisionCode)>,
    open: BTreeMap<DeviceDay, WallTime>,
}

impl PresenceLines {
    fn add(&mut self, heard: &HeardDevice, decision: &Decision) {
        let day = LogDay::of(heard.point.last_at);
        let key = (heard.subject, heard.business, heard.mac, day);
        let first = *self.open.entry(key).or_insert(heard.point.last_at);
        let first = if heard.point.last_at.millis() - first.millis() < LOG_SPAN { first } else { heard.point.last_at };
        self.open.insert(key, first);
        let line = self.lines.entry((key, first)).or_insert_with(|| {
            let fact = PresenceFact {
                business: heard.business,
                subject: heard.subject,
                mac: heard.mac,
                interface: std::sync::Arc::clone(&heard.interface),
                points: Vec::new(),
            };
            (fact, decision.code())
        });
        line.0.points.push(heard.point);
        line.1 = decision.code();
    }

    fn into_facts(self) -> impl Iterator<Item = DecidedFact> {
        self.lines.into_values().map(|(fact, decision)| DecidedFact { fact: Fact::Presence(fact).stored(), decision })
    }
}

/// What of the records is new, differs, or never was.
fn change_records(
    folded: &Folded,
    now: &BTreeMap<Subject, StoredPerson>,
    records: Option<&StoredRecords>,
    writes: &mut Writes,
) {
    match records {
        None => {
            let visits = now.values().flat_map(|known| &known.person.visits);
            let known: BTreeMap<Uuid, &Visit> = visits.map(|visit| (visit.unique_id, visit)).collect();
            let mut touched = BTreeSet::new();
            for (id, record) in &folded.visits {
                match known.get(id) {
                    None => writes.new_visits.push(record.clone()),
                    Some(visit) if same_record(visit, &record.visit) => continue,
                    Some(visit) => {
                        let stays = began_like(visit, &record.visit);
                        writes.changed_visits.push(ChangedVisit { known_as: *id, record: record.clone(), stays });
                        if paid(visit) && !folded.charges.contains_key(id) {
                            writes.gone_charges.push(*id);
                        }
                    }
                }
                touched.insert(*id);
            }
            writes.charges.extend(folded.charges.values().filter(|charge| touched.contains(&charge.checkin)).cloned());
            writes.failures.extend(folded.failures.values().cloned());
        }
        Some(records) => change_past_records(folded, records, writes),
    }
    writes.plan_usage.extend(folded.counted.iter().map(|(key, counted)| (*key, *counted)));
}

fn change_past_records(folded: &Folded, known: &StoredRecords, writes: &mut Writes) {
    let mut gone: Vec<&StoredVisit> =
        known.visits.values().filter(|visit| !folded.visits.contains_key(&visit.unique_id)).collect();
    for (id, record) in &folded.visits {
        let stored = known.visits.get(id);
        // A visit whose first fact is another now keeps its number as long as it overlaps its earlier self.
        let earlier_self = || gone.iter().position(|visit| overlaps(visit, record)).map(|at| gone.remove(at));
        match stored.or_else(earlier_self) {
            None if record.opened.is_none() => {}
            None => writes.new_visits.push(record.clone()),
            Some(stored) if stored.unique_id == *id && same_as_stored(stored, record) => {}
            Some(stored) => writes.changed_visits.push(ChangedVisit {
                known_as: stored.unique_id,
                record: record.clone(),
                stays: false,
            }),
        }
    }
    writes.gone_visits.extend(gone.iter().map(|visit| visit.unique_id));
    for (id, failure) in &folded.failures {
        if known.failures.contains_key(id) {
            writes.changed_failures.push(failure.clone());
        } else {
            writes.failures.push(failure.clone());
        }
    }
    writes.gone_failures.extend(known.failures.keys().filter(|id| !folded.failures.contains_key(id)));
    writes.charges.extend(folded.charges.values().cloned());
    writes.gone_charges.extend(known.charges.keys().filter(|id| !folded.charges.contains_key(id)));
}

fn overlaps(stored: &StoredVisit, record: &VisitRecord) -> bool {
    let visit = &record.visit;
    let meets = |to: Option<WallTime>, from: WallTime| to.is_none_or(|to| to >= from);
    stored.coworker == record.coworker
        && stored.business == visit.business
        && meets(stored.to, visit.from)
        && meets(visit.to, stored.from)
}

fn same_as_stored(stored: &StoredVisit, record: &VisitRecord) -> bool {
    let visit = &record.visit;
    (stored.from, stored.to, stored.auto_checkout, stored.source)
        == (visit.from, visit.to, visit.auto_checkout, visit.source)
        && stored.macs == visit.macs
        && stored.pass == visit.pass
        && (visit.is_open() || stored.last_activity == visit.last_activity)
        && record.opened.as_ref().is_none_or(|opened| *opened == stored.opened)
}

/// Nothing of the record differs: of an open visit the last activity is read from the standing.
fn same_record(one: &Visit, other: &Visit) -> bool {
    began_like(one, other)
        && (one.to, one.auto_checkout) == (other.to, other.auto_checkout)
        && one.macs == other.macs
        && (other.is_open() || one.last_activity == other.last_activity)
}

fn began_like(one: &Visit, other: &Visit) -> bool {
    (one.from, one.source, &one.pass) == (other.from, other.source, &other.pass)
}

fn paid(visit: &Visit) -> bool {
    visit.pass.as_ref().is_some_and(|pass| pass.guid.is_none())
}

fn change_people(
    folded: &Folded,
    now: &BTreeMap<Subject, StoredPerson>,
    counted: Option<&BTreeMap<Subject, PlanTally>>,
    world: &World<'_>,
    writes: &mut Writes,
) {
    let nothing = StoredPerson::default();
    for (subject, person) in &folded.people {
        let standing = now.get(subject).unwrap_or(&nothing);
        let deadline = fold::deadline(person, world);
        // A deadline that is only too early is looked at when it comes: till then its index is left alone.
        let early = |(business, at): (BusinessId, WallTime)| {
            at > world.now && deadline.is_some_and(|(place, later)| place == business && at <= later)
        };
        let kept = standing.deadline.filter(|known| early(*known));
        let deadline = kept.or(deadline);
        let same_deadline = standing.revision > 0 && deadline == standing.deadline;
        if same_deadline && standing.person == *person {
            continue;
        }
        let (subject, revision, person) = (*subject, standing.revision, person.clone());
        writes.people.push(NewPersonState { subject, revision, person, deadline, same_deadline });
        if let Some((counted, coworker)) = counted.zip(subject.as_coworker()) {
            let counted = counted.get(&subject).map(PlanTally::days).unwrap_or_default();
            writes.recounted.push((coworker, counted.last().map(|(date, _)| *date)));
            // Those that may change may have been changed by what is folded again.
            for (date, total) in counted {
                writes.plan_usage.entry((coworker, *date)).or_insert(*total);
            }
        }
    }
}

fn change_checkpoints(folded: &Folded, past: Option<&RefoldInput>, writes: &mut Writes) {
    writes.checkpoints.extend(folded.checkpoints.iter().cloned());
    if let Some(past) = past {
        let written: BTreeSet<(Subject, LogDay)> =
            folded.checkpoints.iter().map(|(subject, day, _)| (*subject, *day)).collect();
        let gone = past.checkpoints.iter().filter(|key| key.1 >= past.from && !written.contains(key));
        writes.gone_checkpoints.extend(gone.copied());
    }
}

/// What people used of passes that others may use too stands where the others read it. Who has left a team has used its
/// passes all the same.
fn share_usage(
    folded: &Folded,
    now: &BTreeMap<Subject, StoredPerson>,
    shares: bool,
    world: &World<'_>,
    writes: &mut Writes,
) {
    for (subject, person) in &folded.people {
        let Some(coworker) = subject.as_coworker() else { continue };
        let directory = world.directories.latest();
        let is_own = |pass: &Uuid| directory.own_passes(coworker).any(|held| held.guid == *pass);
        let basis_of = |pass| basis_of(world.directories, coworker, person, pass);
        let others_read = |pass: &Uuid| shares || !is_own(pass);
        let mut uses = person.uses(coworker, others_read, basis_of);
        // What they turn out not to have used is free again.
        if let Some(before) = now.get(subject) {
            for (pass, used) in before.person.uses(coworker, others_read, basis_of) {
                uses.entry(pass).or_insert(Used::nothing(coworker, used.basis_at));
            }
        }
        writes.pass_usage.extend(uses.into_iter().map(|(pass, used)| (pass, *subject, used)));
    }
}

/// What is left to decide of the new facts, and how many are only written down: what is too old or names no one. What was
/// not understood is written down, too.
pub(super) fn undecided(new: Vec<DoorFact>, rejected: &[RejectedFact], writes: &mut Writes) -> (Vec<DoorFact>, usize) {
    for rejected in rejected {
        let decision = DecisionCode::of(Outcome::Rejected, Some(&rejected.why));
        writes.facts.push(DecidedFact { fact: Fact::Rejected(rejected.clone()).stored(), decision });
    }
    let before = writes.facts.len();
    let mut doors = Vec::with_capacity(new.len());
    for fact in new {
        let note = if fact.too_late {
            Some(Note::Late)
        } else {
            (fact.subject == Subject::BUSINESS).then_some(Note::NamesNobody)
        };
        match note {
            Some(note) => {
                let decision = DecisionCode::of(Outcome::Recorded, Some(note.word()));
                writes.facts.push(DecidedFact { fact: Fact::Door(fact).stored(), decision });
            }
            None => doors.push(fact),
        }
    }
    (doors, writes.facts.len() - before)
}

/// Which of a part's facts are new: not in the log, and not twice in the part.
pub(super) fn new_facts(intake: &Intake, known: &BTreeSet<usize>) -> (Vec<DoorFact>, u64) {
    let mut seen: BTreeSet<(FactDigest, Option<WallTime>)> = BTreeSet::new();
    let (mut new, mut twice) = (Vec::new(), 0);
    for (index, fact) in intake.doors.iter().enumerate() {
        let key = (fact.digest, (!fact.has_arrival_time()).then_some(fact.at));
        if known.contains(&index) || !seen.insert(key) {
            twice += 1;
        } else {
            new.push(fact.clone());
        }
    }
    (new, twice)
}
