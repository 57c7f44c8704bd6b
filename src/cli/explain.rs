//! `checkind explain`: the facts and decisions about a coworker, card or device, in order. Nothing is written.
//!
//! [`load`] reads what the pipeline would read if something had come late. [`explain`] folds it as the pipeline would.
//! `text` and `json` say what came of it. So what is shown is what the engine decides; where the log says
//! otherwise, the line says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use chrono::{Days, NaiveDateTime, NaiveTime};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    admit::{AskedAbout, WhoError, asked, credential, find, money, named, when},
    who::{by, span},
};
use crate::{
    base::{
        clock::WallTime,
        fact::{DoorFact, Fact, FactOrder, FactRank, LogDay, Recognised, Subject},
        mac::MacAddr,
        plain::plain,
        record::{BusinessId, CoworkerId},
        sighting::{CredentialKind, Direction, DoorEventKind, Refusal, TimeQuality},
    },
    directory::{Match, history::DirectoryHistory, scoped},
    engine::{
        Decision,
        coverage::Coverage,
        decision::{DecisionCode, Note, Outcome, Reason},
        fold::{self, ChargeRecord, FoldItem, Folded, Repassed, What, World},
        identity,
        life::CloseBy,
        passes::PassUse,
        person::{AfterPass, EndedVisit, Visit},
    },
    pipeline::{
        calendar_of, days_of,
        decide::{self, FactOrigin, GroupCase, RefoldInput, UnloggedPoint},
    },
    policy::{HISTORY, PolicyHistory, SitePolicy, door::Door, site::Site},
    settings::Settings,
    store::{DecidedFact, Store, StoreError},
};

/// How far back at most, in days: as far as checkpoints reach.
pub const MOST_DAYS: u32 = 10;

/// How often it is read again when the daemon has written meanwhile.
const TRIES: u32 = 5;

/// From when on a message is called late, or a clock ahead.
const WORTH_SAYING: Duration = Duration::from_mins(1);

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// It names no one.
    #[error(transparent)]
    Who(#[from] WhoError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The daemon writes about these people all the time.
    #[error("the daemon keeps writing about these people; try again")]
    Busy,
}

/// Who is asked about.
#[derive(Clone, Debug, Default)]
struct Who {
    coworker: Option<(CoworkerId, String)>,
    /// For people.
    title: String,
    /// What the log files their facts under.
    subjects: BTreeSet<Subject>,
}

/// Everything that is read: what [`explain`] folds.
#[derive(Debug)]
pub struct ExplainInput {
    who: Who,
    business: BusinessId,
    from: WallTime,
    now: WallTime,
    directories: DirectoryHistory,
    policies: PolicyHistory,
    coverage: BTreeMap<BusinessId, Coverage>,
    cases: Vec<GroupCase>,
    /// Facts that are not folded: of strange devices, and from before the first checkpoint.
    logged: Vec<DecidedFact>,
}

/// What happened, in the order of time.
#[derive(Debug)]
pub struct Explained {
    who: Who,
    business: BusinessId,
    from: WallTime,
    now: WallTime,
    policies: PolicyHistory,
    names: BTreeMap<BusinessId, String>,
    events: Vec<TimelineEvent>,
    visits: Vec<Summary>,
    /// The database has a check-in open that is over: the daemon has not looked.
    behind: bool,
}

/// What sort of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventKind {
    Door,
    Network,
    Timer,
    Directory,
}

/// One line.
#[derive(Clone, Debug)]
struct TimelineEvent {
    place: FactOrder,
    kind: EventKind,
    business: BusinessId,
    /// What was said to have happened.
    what: String,
    /// Of presences: first and last evidence, and how many were merged.
    heard: Option<(WallTime, WallTime, u32)>,
    code: DecisionCode,
    /// What was decided, and why.
    said: String,
    /// What the log says was decided, where that is something else.
    log: Option<DecisionCode>,
    /// Lines of one device that say the same become one.
    same: Option<(BusinessId, MacAddr, DecisionCode)>,
}

/// A visit at the end.
#[derive(Clone, Debug)]
struct Summary {
    visit: Visit,
    pass: Option<String>,
    charge: Option<ChargeRecord>,
    /// While it is open: what ends it.
    ends: Option<String>,
}

/// Reads everything about who this names, since the beginning of the day so many days ago.
///
/// # Errors
/// [`ExplainError`]
pub async fn load(
    store: &Store,
    settings: &Settings,
    site: &Site,
    (who, days): (&str, u32),
    now: WallTime,
) -> Result<ExplainInput, ExplainError> {
    let who = asked(who)?;
    for _ in 0..TRIES {
        if let Some(known) = load_once(store, settings, site, (who, days), now).await? {
            return Ok(known);
        }
    }
    Err(ExplainError::Busy)
}

/// None when the daemon has written about the same people meanwhile.
async fn load_once(
    store: &Store,
    settings: &Settings,
    site: &Site,
    (who, days): (&str, u32),
    now: WallTime,
) -> Result<Option<ExplainInput>, ExplainError> {
    let business = site.business;
    let mut directories = store.load_directories().await?;
    let latest = Arc::clone(directories.latest());
    let mut policies = settings.zones.rule(&store.read_policies().await?);
    if policies.latest(business).is_none() {
        policies.add(WallTime::from_millis(0), SitePolicy { site: site.clone(), doors: settings.doors.clone() });
    }
    let sources: Vec<&str> = settings.sources.iter().map(|source| &*source.name).collect();
    let who = resolve(&latest, business, who, &sources)?;
    let calendar = calendar_of(&policies, business, now);
    let date = calendar.local(now).date();
    let first = date.checked_sub_days(Days::new(days.into())).unwrap_or(date).and_time(NaiveTime::MIN);
    let from = calendar.instant(first).max(now.minus(HISTORY));

    fill_in(&mut directories, from, store).await?;
    let versions = directories.since(from);
    let groups = decide::groups(&who.subjects, &versions, &site.passes);
    let everybody: BTreeSet<Subject> = groups.iter().flatten().copied().collect();
    let mut cases: Vec<GroupCase> = groups.iter().map(|group| GroupCase::of(group, &versions)).collect();
    let passes: BTreeSet<Uuid> = cases.iter().flat_map(|case| case.passes.iter().copied()).collect();
    let (loaded, users) = store.people(&everybody, &passes).await?;
    if loaded.directory != latest.version {
        return Ok(None);
    }
    let (first, tomorrow) = (LogDay::of(from), LogDay::of(now.plus(Duration::from_hours(24))));
    let mut asked = Vec::new();
    for (case, group) in cases.iter_mut().zip(&groups) {
        // Of those who share passes, who is in, or did something since.
        for subject in group {
            let standing = loaded.people.get(subject);
            let active =
                standing.is_some_and(|known| known.person.open().is_some() || known.person.folded.at >= first.start());
            if who.subjects.contains(subject) || active {
                case.now.insert(*subject, standing.cloned().unwrap_or_default());
                let pending = loaded.unlogged.get(subject).into_iter().flatten();
                case.unwritten.extend(pending.flat_map(UnloggedPoint::pending));
            }
        }
        let newest = case.now.values().map(|known| LogDay::of(known.person.folded.at)).chain([tomorrow]).max();
        let newest = newest.unwrap_or(tomorrow);
        asked.extend(case.now.keys().flat_map(|subject| days_of(first, newest).map(move |day| (*subject, day))));
    }
    let (checkpoints, facts) = store.past(&asked).await?;
    let (again, _) = store.people(&everybody, &BTreeSet::new()).await?;
    let revision = |subject: &Subject, standings: &BTreeMap<Subject, crate::store::StoredPerson>| {
        standings.get(subject).map_or(0, |known| known.revision)
    };
    let moved = everybody.iter().any(|subject| revision(subject, &loaded.people) != revision(subject, &again.people));
    if moved || again.directory != loaded.directory || again.policies != loaded.policies {
        return Ok(None);
    }
    let logged = begin(&mut cases, first, checkpoints, facts);
    decide::know_usage(&mut cases, users);
    let mut coverage = BTreeMap::new();
    for others in [false, true] {
        for (place, stretches) in store.coverage(business, others, now.minus(HISTORY)).await? {
            let stretches = stretches.iter().map(|covered| (covered.from, covered.to.min(now)));
            coverage.insert(place, Coverage::new(stretches));
        }
    }
    let begins = cases.iter().filter_map(GroupCase::begins).chain([from, first.start()]).min().unwrap_or(from);
    fill_in(&mut directories, begins, store).await?;
    let mut known = ExplainInput { who, business, from, now, directories, policies, coverage, cases, logged };
    let totals = store.totals(&decide::totals_to_read(&known.world(), &known.cases)).await?;
    for case in &mut known.cases {
        case.group.totals.clone_from(&totals);
    }
    Ok(Some(known))
}

/// Puts the versions in force since an instant at hand.
async fn fill_in(directories: &mut DirectoryHistory, since: WallTime, store: &Store) -> Result<(), StoreError> {
    for version in directories.missing(since) {
        directories.fill_in(version, Arc::new(store.load_directory_of(version).await?));
    }
    Ok(())
}

/// Everybody as they were before the first day, and what there is since; what cannot be folded is handed back.
fn begin(
    cases: &mut [GroupCase],
    first: LogDay,
    checkpoints: Vec<(Subject, LogDay, crate::engine::person::PersonState)>,
    facts: Vec<DecidedFact>,
) -> Vec<DecidedFact> {
    let mut before: BTreeMap<Subject, (LogDay, crate::engine::person::PersonState)> = BTreeMap::new();
    for (subject, day, person) in checkpoints {
        if before.get(&subject).is_none_or(|(known, _)| day < *known) {
            before.insert(subject, (day, person));
        }
    }
    for case in cases.iter_mut() {
        for (subject, known) in &case.now {
            let person = before.get(subject).map_or(&known.person, |(_, person)| person);
            case.group.people.insert(*subject, person.clone());
        }
        case.past = Some(RefoldInput { from: first, ..RefoldInput::default() });
    }
    let mut logged = Vec::new();
    for row in facts {
        let case = cases.iter_mut().find(|case| case.now.contains_key(&row.fact.subject));
        let person = case.as_ref().and_then(|case| case.group.people.get(&row.fact.subject));
        let decided = person.is_some_and(|person| row.fact.at <= person.folded.at);
        match case.and_then(|case| case.past.as_mut()).filter(|_| !decided) {
            Some(past) => past.facts.push(row),
            None => logged.push(row),
        }
    }
    logged
}

/// Who this names, and what else the log may file it under: a card was no one's before it was assigned.
fn resolve(
    directory: &crate::directory::Directory,
    business: BusinessId,
    who: &str,
    sources: &[&str],
) -> Result<Who, ExplainError> {
    let (mac, is_card, found) = match find(directory, who)? {
        AskedAbout::Card(found) => (None, true, found),
        AskedAbout::Device(mac, found) => (Some(mac), false, found),
        AskedAbout::Person(found) => (None, false, found),
    };
    let mut known = Who::default();
    let shown = plain(who);
    let thing = match mac {
        Some(mac) => format!("device {mac}"),
        None => format!("card \"{shown}\""),
    };
    match found {
        Match::One(coworker) => {
            let name = plain(&coworker.full_name);
            known.title = format!("{name} (coworker {})", coworker.id);
            known.coworker = Some((coworker.id, name));
            known.subjects.insert(Subject::coworker(coworker.id));
        }
        Match::Several => known.title = format!("{thing}, which more than one coworker has"),
        Match::Nobody if mac.is_some() => known.title = format!("{thing}, which no coworker has"),
        Match::Nobody => known.title = format!("\"{shown}\", which is no coworker's card, number or name"),
    }
    if let Some(mac) = mac {
        known.subjects.insert(Subject::strange_device(business, mac));
    } else if is_card || known.coworker.is_none() {
        let key = directory.pin_key();
        for text in [who.to_owned(), who.to_lowercase(), who.to_uppercase()] {
            known.subjects.insert(Subject::stranger(business, &credential(CredentialKind::Card, None, &text), key));
        }
        for kind in [CredentialKind::Slot, CredentialKind::User, CredentialKind::Name] {
            let written = scoped::parts(kind, who);
            for (scope, value) in sources.iter().map(|source| (*source, who)).chain(written) {
                let credential = credential(kind, Some(scope.to_owned()), value);
                known.subjects.insert(Subject::stranger(business, &credential, key));
            }
        }
    }
    Ok(known)
}

impl ExplainInput {
    fn world(&self) -> World<'_> {
        World {
            directories: &self.directories,
            policies: &self.policies,
            coverage: &self.coverage,
            now: self.now,
            quiet_until: self.now,
        }
    }

    fn pass(&self, pass: &PassUse, (business, at): (BusinessId, WallTime)) -> String {
        let kind = self.directories.at(at).time_pass(pass.time_pass);
        let mut said = named(pass.kind, kind.map_or("", |kind| &kind.name));
        if let Some((ends, why)) = pass.ends {
            let face = face(&self.policies, business, ends, at);
            write!(said, ", until {face} {}", when(why)).expect("a String takes everything");
        }
        said
    }
}

/// PURE. Folds what is known, and says what became of everything.
pub fn explain(mut known: ExplainInput) -> Explained {
    let mut events = Vec::new();
    let mut visits = Vec::new();
    let mut behind = false;
    for case in std::mem::take(&mut known.cases) {
        let GroupCase { now, past, unwritten, group, .. } = case;
        let rows: Vec<(Fact, DecisionCode)> = past
            .iter()
            .flat_map(|past| &past.facts)
            .filter_map(|row| Some((Fact::read(&row.fact).ok()?, row.decision)))
            .collect();
        let facts: Vec<Fact> = rows.iter().map(|(fact, _)| fact.clone()).collect();
        let items = decide::items(&facts, &[], &unwritten);
        let bare: Vec<FoldItem<'_>> = items.iter().map(|(item, _)| *item).collect();
        let folded = fold::fold(known.world(), group, &bare);
        let teller = Teller { known: &known, folded: &folded };
        // The log keeps of a stretch of presence what was decided last.
        let mut last = BTreeMap::new();
        for (index, (_, origin)) in items.iter().enumerate() {
            if let FactOrigin::OldDoor(row) | FactOrigin::OldPoint(row) = origin {
                last.insert(*row, index);
            }
        }
        for (index, ((item, origin), decision)) in items.iter().zip(&folded.decisions).enumerate() {
            if !known.who.subjects.contains(&item.subject) {
                continue;
            }
            let (row, interface) = match origin {
                FactOrigin::OldDoor(row) | FactOrigin::OldPoint(row) => (
                    rows.get(*row).filter(|_| last.get(row) == Some(&index)),
                    rows.get(*row).and_then(|row| interface(&row.0)),
                ),
                FactOrigin::Unwritten(of) => (None, unwritten.get(*of).map(|new| &*new.heard.interface)),
                FactOrigin::NewDoor => (None, None),
            };
            let log = row.map(|(_, code)| *code).filter(|code| *code != decision.code());
            events.push(teller.event(item, interface.unwrap_or_default(), decision, log));
        }
        let own = |subject: &Subject| known.who.subjects.contains(subject);
        events.extend(folded.ended.iter().filter(|(subject, _)| own(subject)).map(|(_, ended)| teller.ended(ended)));
        let repassed = folded.repassed.iter().filter(|change| {
            let record = folded.visits.get(&change.visit);
            record.is_some_and(|record| own(&Subject::coworker(record.coworker)))
        });
        events.extend(repassed.filter_map(|change| teller.repassed(change)));
        let set_aside = rows.iter().filter(|(fact, _)| matches!(fact, Fact::Door(door) if door.too_late));
        events.extend(set_aside.filter_map(|(fact, code)| logged(&known, fact, *code)));
        for record in folded.visits.values().filter(|record| own(&Subject::coworker(record.coworker))) {
            if record.visit.to.is_none_or(|to| to >= known.from) {
                visits.push(teller.summary(&record.visit));
            }
        }
        behind |= now.iter().filter(|(subject, _)| own(subject)).any(|(subject, standing)| {
            let open = |visit: &Visit| visit.unique_id;
            let folded = folded.people.get(subject).and_then(|person| person.open()).map(open);
            standing.person.open().map(open).is_some_and(|known| folded != Some(known))
        });
    }
    let before = std::mem::take(&mut known.logged);
    events.extend(before.iter().filter_map(|row| logged(&known, &Fact::read(&row.fact).ok()?, row.decision)));
    events.retain(|event| event.place.at >= known.from);
    events.sort_by_key(|event| event.place);
    visits.sort_by_key(|summary| (summary.visit.from, summary.visit.unique_id));
    let ExplainInput { who, business, from, now, directories, policies, .. } = known;
    let places: BTreeSet<BusinessId> = events
        .iter()
        .map(|event| event.business)
        .chain(visits.iter().map(|summary| summary.visit.business))
        .chain([business])
        .collect();
    let name = |place: BusinessId| {
        let settings = || policies.latest(place).map(|policy| policy.site.name.as_str());
        let name = directories.latest().business(place).or_else(settings);
        (place, name.map_or_else(|| format!("business {place}"), plain))
    };
    let names = places.into_iter().map(name).collect();
    let events = merged(events, &policies);
    Explained { who, business, from, now, policies, names, events, visits, behind }
}

/// Lines of one device that say the same, with nothing else between them, are one; on every date there is one.
fn merged(events: Vec<TimelineEvent>, policies: &PolicyHistory) -> Vec<TimelineEvent> {
    let mut lines: Vec<TimelineEvent> = Vec::new();
    let mut open: BTreeMap<(BusinessId, MacAddr), usize> = BTreeMap::new();
    for event in events {
        let Some((business, mac, code)) = event.same.filter(|_| event.log.is_none()) else {
            open.clear();
            lines.push(event);
            continue;
        };
        let date = |event: &TimelineEvent| calendar_of(policies, business, event.place.at).local(event.place.at).date();
        let known = open.get(&(business, mac)).copied().and_then(|at| lines.get_mut(at));
        match known.filter(|line| line.code == code && date(line) == date(&event)) {
            Some(line) => {
                if let (Some((_, last, many)), Some((_, to, more))) = (&mut line.heard, event.heard) {
                    *last = (*last).max(to);
                    *many += more;
                }
            }
            None => {
                open.insert((business, mac), lines.len());
                lines.push(event);
            }
        }
    }
    lines
}

fn interface(fact: &Fact) -> Option<&str> {
    match fact {
        Fact::Presence(presence) => Some(&presence.interface),
        Fact::StrangeDevice(device) => Some(&device.interface),
        Fact::Door(_) | Fact::Rejected(_) => None,
    }
}

/// Says what a fold came to.
struct Teller<'a> {
    known: &'a ExplainInput,
    folded: &'a Folded,
}

impl Teller<'_> {
    fn event(
        &self,
        item: &FoldItem<'_>,
        interface: &str,
        decision: &Decision,
        log: Option<DecisionCode>,
    ) -> TimelineEvent {
        let code = decision.code();
        let quiet = matches!(decision.outcome, Outcome::Refreshed | Outcome::Recorded);
        let (kind, what, heard, same) = match item.what {
            What::Door(door) => (EventKind::Door, door_text(door, &self.known.policies), None, None),
            What::Heard(mac, point) => {
                let same = quiet.then_some((item.business, mac, code));
                let heard = (point.first_at, point.last_at, 1);
                let weak = if point.strong_at.is_none() && !quiet { ", weak evidence" } else { "" };
                (EventKind::Network, format!("network {}, {mac}{weak}", plain(interface)), Some(heard), same)
            }
        };
        let said = match (decision.outcome, decision.visit) {
            (Outcome::Opened, Some(visit)) => self.opened(item, visit),
            (Outcome::Refreshed, _) if kind == EventKind::Network => "refreshed: still here".to_owned(),
            _ => decided(code, decision.detail.as_deref()),
        };
        TimelineEvent { place: item.place, kind, business: item.business, what, heard, code, said, log, same }
    }

    fn opened(&self, item: &FoldItem<'_>, visit: Uuid) -> String {
        let at = item.place.at;
        let mut said = "opened: checked in".to_owned();
        let Some(record) = self.folded.visits.get(&visit) else { return said };
        if visit != identity([item.place.digest.0.as_slice(), b"visit"]) {
            "opened: back in, the same visit goes on".clone_into(&mut said);
        } else if record.visit.from < at {
            let from = face(&self.known.policies, item.business, record.visit.from, at);
            said = format!("opened: checked in from {from}");
        }
        // As it was then: a version of the directory may have changed it since.
        let changed = self.folded.repassed.iter().find(|change| change.visit == visit && change.at > at);
        let pass = changed.map_or(record.visit.pass.as_ref(), |change| change.before.as_ref());
        if let Some(pass) = pass {
            said = format!("{said} with {}", self.known.pass(pass, (item.business, at)));
        }
        said
    }

    fn ended(&self, ended: &EndedVisit) -> TimelineEvent {
        let EndedVisit { visit, business, at, by, after_pass: then } = ended;
        let record = self.folded.visits.get(visit).map(|record| &record.visit);
        let to = record.and_then(|visit| visit.to).filter(|to| to < at);
        let as_of =
            to.map_or_else(String::new, |to| format!(", out as of {}", face(&self.known.policies, *business, to, *at)));
        let (kind, rank) = match by {
            CloseBy::Withdrawn => (EventKind::Directory, FactRank::Directory),
            CloseBy::Silence | CloseBy::CutOff | CloseBy::PassEnd | CloseBy::Exit | CloseBy::Elsewhere => {
                (EventKind::Timer, FactRank::Timer)
            }
        };
        let (what, why) = match by {
            CloseBy::Exit => ("exit".to_owned(), "checked out".to_owned()),
            CloseBy::Withdrawn => (self.version(*at), "may no longer be in".to_owned()),
            CloseBy::Silence => {
                let policy = self.known.policies.at(*business, *at);
                let limit = policy.map_or_else(String::new, |policy| format!(" for {}", span(policy.site.idle_limit)));
                ("silence".to_owned(), format!("no device heard{limit}"))
            }
            CloseBy::CutOff => ("daily cut-off".to_owned(), "the day is over".to_owned()),
            CloseBy::PassEnd => ("end of the pass".to_owned(), "the pass covers no more".to_owned()),
            CloseBy::Elsewhere => ("ended elsewhere".to_owned(), "came in at another business".to_owned()),
        };
        let then = match then {
            None => String::new(),
            Some(AfterPass::Refused(refused)) => {
                format!(
                    "; stays without a pass: failed, {}",
                    refused.reason.description_with(refused.detail.as_deref())
                )
            }
            Some(AfterPass::On(next)) => {
                let pass = self.folded.visits.get(next).and_then(|record| record.visit.pass.as_ref());
                let pass =
                    pass.map_or_else(String::new, |pass| format!(" with {}", self.known.pass(pass, (*business, *at))));
                format!("; opened: goes on{pass}")
            }
        };
        TimelineEvent {
            place: FactOrder { rank, ..FactOrder::before(*at) },
            kind,
            business: *business,
            what,
            heard: None,
            code: DecisionCode::of(Outcome::Closed, None),
            said: format!("closed, {}: {why}{as_of}{then}", by.word()),
            log: None,
            same: None,
        }
    }

    fn repassed(&self, change: &Repassed) -> Option<TimelineEvent> {
        let business = self.folded.visits.get(&change.visit)?.visit.business;
        let pass = self.known.pass(&change.now, (business, change.at));
        let lasts = if change.now.ends.is_none() { ", to the end of the day" } else { "" };
        Some(TimelineEvent {
            place: FactOrder { rank: FactRank::Directory, ..FactOrder::before(change.at) },
            kind: EventKind::Directory,
            business,
            what: self.version(change.at),
            heard: None,
            code: DecisionCode::of(Outcome::Refreshed, None),
            said: format!("refreshed: now {pass}{lasts}"),
            log: None,
            same: None,
        })
    }

    fn version(&self, at: WallTime) -> String {
        format!("directory version {} in force", self.known.directories.at(at).version)
    }

    fn summary(&self, visit: &Visit) -> Summary {
        let pass = visit.pass.as_ref().map(|pass| {
            let kind = self.known.directories.at(visit.from).time_pass(pass.time_pass);
            named(pass.kind, kind.map_or("", |kind| &kind.name))
        });
        let ends = visit.is_open().then(|| {
            let (at, by) = visit.ends_at_last();
            let at = face(&self.known.policies, visit.business, at, self.known.now);
            let by = if by == CloseBy::PassEnd { "the end of the pass" } else { "the cut-off" };
            let policy = self.known.policies.at(visit.business, visit.last_activity);
            match policy.filter(|_| visit.is_tracked()) {
                Some(policy) => format!("an exit, {} of silence, or {by} at {at}", span(policy.site.idle_limit)),
                None => format!("an exit, or {by} at {at}"),
            }
        });
        Summary { visit: visit.clone(), pass, charge: self.folded.charges.get(&visit.unique_id).cloned(), ends }
    }
}

/// A fact that is not folded, with what the log says of it.
fn logged(known: &ExplainInput, fact: &Fact, code: DecisionCode) -> Option<TimelineEvent> {
    let mut said = decided(code, None);
    let (place, kind, business, what, heard) = match fact {
        Fact::Door(door) => {
            if door.too_late {
                said = format!("{}, late: came too late to be decided, more than 8 days", code.outcome().word());
            }
            (door.place(), EventKind::Door, door.business, door_text(door, &known.policies), None)
        }
        Fact::Presence(presence) => {
            let first = presence.points.first()?;
            let last = presence.points.iter().map(|point| point.last_at).max()?;
            let many = u32::try_from(presence.points.len()).unwrap_or(u32::MAX);
            let what = format!("network {}, {}", plain(&presence.interface), presence.mac);
            let place = first.place(presence.business, presence.mac);
            (place, EventKind::Network, presence.business, what, Some((first.first_at, last, many)))
        }
        Fact::StrangeDevice(device) => {
            let whose = if device.recognised == Recognised::Ambiguous { "several people's" } else { "no one's" };
            let what = format!("network {}, {} ({whose})", plain(&device.interface), device.mac);
            let (point, place) = (&device.point, device.point.place(device.business, device.mac));
            (place, EventKind::Network, device.business, what, Some((point.first_at, point.last_at, 1)))
        }
        Fact::Rejected(_) => return None,
    };
    (place.at <= known.now).then_some(TimelineEvent {
        place,
        kind,
        business,
        what,
        heard,
        code,
        said,
        log: None,
        same: None,
    })
}

/// The outcome, and the code and sentence that explain it.
fn decided(code: DecisionCode, detail: Option<&str>) -> String {
    let outcome = code.outcome();
    let why = code.word().map(|word| {
        let note = || Note::from_word(word).map(|note| format!("{word}: {}", note.sentence()));
        let reason = Reason::from_code(word).map(|reason| reason.description_with(detail));
        reason.or_else(note).unwrap_or_else(|| word.to_owned())
    });
    match (why, outcome) {
        (Some(why), _) => format!("{}, {why}", outcome.word()),
        (None, Outcome::Opened) => "opened: checked in".to_owned(),
        (None, Outcome::Refreshed) => "refreshed: in already".to_owned(),
        (None, Outcome::Closed) => "closed: checked out".to_owned(),
        (None, Outcome::Failed | Outcome::Recorded | Outcome::Duplicate | Outcome::Rejected) => {
            outcome.word().to_owned()
        }
    }
}

/// Where, which way, what was presented, what the controller answered, and whose time it is.
fn door_text(fact: &DoorFact, policies: &PolicyHistory) -> String {
    let way = match fact.direction {
        Direction::In => ", in",
        Direction::Out => ", out",
        Direction::Unknown => "",
    };
    let shown = fact.shown.as_ref().map_or_else(String::new, |shown| {
        // As an import writes it.
        let scope = shown.scope.as_ref().map_or_else(String::new, |scope| format!("{}/", plain(scope)));
        match (shown.kind, shown.value.as_deref().map(plain)) {
            (_, None) => format!("{}, ", shown.text()),
            (CredentialKind::Card, Some(value)) => format!("card {value}, "),
            (CredentialKind::Pin, Some(_)) => "PIN, ".to_owned(),
            (CredentialKind::Slot, Some(value)) => format!("slot {scope}{value}, "),
            (CredentialKind::User, Some(value)) => format!("user {scope}{value}, "),
            (CredentialKind::Name, Some(value)) => format!("name {scope}{value}, "),
        }
    });
    let answer = match (fact.kind, fact.refusal) {
        (DoorEventKind::Granted, _) => "granted".to_owned(),
        (DoorEventKind::Read, _) => "read".to_owned(),
        (DoorEventKind::Denied, Some(refusal)) if refusal != Refusal::Other => {
            format!("refused by the controller, {}", refusal.word().replace('_', " "))
        }
        (DoorEventKind::Denied, _) => "refused by the controller".to_owned(),
        (DoorEventKind::UnknownCredential, _) => "not known to the controller".to_owned(),
        (kind, _) => kind.word().replace('_', " "),
    };
    let whose = match fact.quality {
        TimeQuality::Arrival => " (time of arrival used)".to_owned(),
        TimeQuality::Device | TimeQuality::Corrected => {
            let corrected = (fact.quality == TimeQuality::Corrected).then(|| "controller's clock corrected".to_owned());
            let (late, ahead) = (fact.arrived.since(fact.at), fact.at.since(fact.arrived));
            let late = (late >= WORTH_SAYING).then(|| format!("came {} late", span(late)));
            let ahead = (ahead >= WORTH_SAYING).then(|| format!("controller's clock {} ahead", span(ahead)));
            let marks: Vec<String> = [corrected, late, ahead].into_iter().flatten().collect();
            if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) }
        }
    };
    let doors = policies.at(fact.business, fact.at).map_or(&[][..], |policy| &policy.doors);
    let configured = Door::of(doors, &fact.door.0);
    let name = configured.filter(|door| door.name != door.pattern).map(|door| &door.name);
    let key = format!("{} of {}", plain(&fact.door.0), plain(&fact.source));
    let door = name.map_or_else(|| key.clone(), |name| format!("\"{}\" ({key})", plain(name)));
    format!("door {door}{way}: {shown}{answer}{whose}")
}

fn local(policies: &PolicyHistory, business: BusinessId, at: WallTime) -> NaiveDateTime {
    calendar_of(policies, business, at).local(at)
}

/// An instant on a business's wall clock, with the date if it is not that of the line.
fn face(policies: &PolicyHistory, business: BusinessId, at: WallTime, line: WallTime) -> String {
    let (at, line) = (local(policies, business, at), local(policies, business, line));
    at.format(if at.date() == line.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" }).to_string()
}

/// For people: a line for each event, under its date, and the visits.
pub fn text(explained: &Explained) -> String {
    let Explained { who, business, from, now, policies, names, events, visits, behind } = explained;
    let name = |place: BusinessId| names.get(&place).map_or("", String::as_str);
    let minute = |at: WallTime| local(policies, *business, at).format("%Y-%m-%d %H:%M");
    let mut lines = vec![format!("{}, from {} to {} at {}", who.title, minute(*from), minute(*now), name(*business))];
    if events.is_empty() {
        lines.push("Nothing is known of this time: no door and no capture said anything.".to_owned());
    }
    let mut date = None;
    for event in events {
        let at = local(policies, event.business, event.place.at);
        if date != Some(at.date()) {
            date = Some(at.date());
            lines.push(at.format("%a %Y-%m-%d").to_string());
        }
        let face = |instant: WallTime| face(policies, event.business, instant, event.place.at);
        let heard = match event.heard {
            Some((first, last, 1)) if last.since(first) < Duration::from_secs(1) => ": heard".to_owned(),
            Some((first, _, 1)) => format!(": heard since {}", face(first)),
            Some((first, last, many)) => format!(": heard {many} times from {} to {}", face(first), face(last)),
            None => String::new(),
        };
        let place = if event.business == *business { String::new() } else { format!("at {}, ", name(event.business)) };
        let log = event.log.map_or_else(String::new, |code| {
            format!(" [the log says \"{}\", which is a fault or a change by hand]", decided(code, None))
        });
        lines.push(format!("  {}  {place}{}{heard} -> {}{log}", at.format("%H:%M:%S"), event.what, event.said));
    }
    if !visits.is_empty() {
        lines.push("Check-ins".to_owned());
        lines.extend(visits.iter().map(|summary| summary_text(summary, explained)));
    }
    if *behind {
        lines.push(
            "The database still has a check-in open that is over by now. Is the daemon running? It closes it."
                .to_owned(),
        );
    }
    lines.join("\n") + "\n"
}

fn summary_text(summary: &Summary, explained: &Explained) -> String {
    let Summary { visit, pass, charge, ends } = summary;
    let face = |at: WallTime, line: WallTime| face(&explained.policies, visit.business, at, line);
    let from = local(&explained.policies, visit.business, visit.from).format("%Y-%m-%d %H:%M:%S");
    let stay = match visit.to {
        Some(to) => {
            let out = if visit.auto_checkout { "closed automatically" } else { "left by a door" };
            format!("{from} to {}, {}, {out}", face(to, visit.from), span(to.since(visit.from)))
        }
        None => format!("{from}, still in until {}", ends.as_deref().unwrap_or("an exit")),
    };
    let place = if visit.business == explained.business {
        String::new()
    } else {
        explained.names.get(&visit.business).map_or_else(String::new, |name| format!(", at {name}"))
    };
    let pass = pass.as_ref().map_or_else(String::new, |pass| format!(", {pass}"));
    let charge = charge.as_ref().map_or_else(String::new, |record| {
        let amount = money(record.charge.amount, record.charge.currency);
        let so_far = if record.to.is_none() { " so far" } else { "" };
        format!(", charged {amount} for {} minutes{so_far}", record.charge.minutes)
    });
    format!("  {stay}, opened by {}{place}{pass}{charge}", by(visit.source))
}

/// For programs.
pub fn json(explained: &Explained) -> String {
    let Explained { who, business, from, now, policies, events, visits, behind, .. } = explained;
    let time = |at: WallTime| at.to_rfc3339_seconds();
    let event = |event: &TimelineEvent| {
        let heard = event.heard;
        json!({
            "At": time(event.place.at),
            "AtLocal": local(policies, event.business, event.place.at).format("%Y-%m-%dT%H:%M:%S").to_string(),
            "BusinessId": event.business,
            "Kind": match event.kind {
                EventKind::Door => "door",
                EventKind::Network => "network",
                EventKind::Timer => "timer",
                EventKind::Directory => "directory",
            },
            "What": event.what,
            "HeardFrom": heard.map(|(first, ..)| time(first)),
            "HeardTo": heard.map(|(_, last, _)| time(last)),
            "HeardTimes": heard.map(|(.., many)| many),
            "Outcome": event.code.outcome().word(),
            "Code": event.code.word(),
            "Description": event.said,
            "LogSays": event.log.map(|code| decided(code, None)),
        })
    };
    let visit = |summary: &Summary| {
        let Summary { visit, pass, charge, .. } = summary;
        json!({
            "UniqueId": visit.unique_id.to_string(),
            "BusinessId": visit.business,
            "Source": visit.source.number(),
            "FromTime": time(visit.from),
            "ToTime": visit.to.map(time),
            "AutoCheckout": visit.auto_checkout,
            "TimePass": pass,
            "PassEnds": visit.pass.as_ref().and_then(|pass| pass.ends).map(|(at, _)| time(at)),
            "Charge": charge.as_ref().map(|record| json!({
                "Minutes": record.charge.minutes, "Amount": record.charge.amount,
                "Currency": record.charge.currency.to_string(), "Final": record.to.is_some(),
            })),
        })
    };
    let value = json!({
        "CoworkerId": who.coworker.as_ref().map(|(id, _)| id),
        "CoworkerFullName": who.coworker.as_ref().map(|(_, name)| name),
        "BusinessId": business,
        "From": time(*from),
        "To": time(*now),
        "Events": events.iter().map(event).collect::<Vec<Value>>(),
        "Checkins": visits.iter().map(visit).collect::<Vec<Value>>(),
        "DatabaseBehind": behind,
    });
    serde_json::to_string_pretty(&value).expect("a value is JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{
            fact::{FactDigest, Point, PresenceFact, ShownCredential},
            sighting::DoorKey,
        },
        directory::{Builder, Directory, entity::EntityKind},
        engine::person::PersonState,
        policy::door::{Door, DoorAction},
        store::StoredPerson,
    };

    const ADA: Subject = Subject(11);
    const LAPTOP: &str = "3c:22:fb:00:00:01";

    fn at(text: &str) -> WallTime {
        WallTime::from(format!("2026-07-{text}Z").parse::<chrono::DateTime<chrono::Utc>>().expect("a time in the test"))
    }

    fn directory(version: i64, active: bool, minutes: u32) -> Arc<Directory> {
        let mut builder = Builder::new(version, "key");
        let entities = [
            (EntityKind::Business, json!({"Id": 2, "Name": "Hub Two"})),
            (EntityKind::TimePass, json!({"Id": 1, "Name": "10 hours", "Price": 60, "MinutesIncluded": 600})),
            (
                EntityKind::TimePass,
                json!({"Id": 2, "Name": "Desk", "Price": 6, "MinutesIncluded": 60, "UseAsPayAsYouGoForContacts": true}),
            ),
            (EntityKind::Coworker, json!({"Id": 11, "FullName": "Ada", "MacAddresses": LAPTOP, "Active": active})),
            (
                EntityKind::CoworkerTimePass,
                json!({"Id": 21, "CoworkerId": 11, "TimePassId": 1, "RemainingMinutes": minutes}),
            ),
        ];
        for (kind, entity) in entities {
            let text = entity.to_string();
            builder.add(kind.read(&mut serde_json::Deserializer::from_str(&text)).expect("an entity"));
        }
        Arc::new(builder.build())
    }

    fn policies() -> PolicyHistory {
        let door = |business: i64, zone: &str| SitePolicy {
            site: Site {
                business: BusinessId(business),
                time_zone: crate::base::zone::test_zone(zone),
                ..crate::policy::site::test_site()
            },
            doors: vec![Door {
                pattern: "side".to_owned(),
                name: "Side entrance".to_owned(),
                on_in: DoorAction::CheckIn,
                on_out: DoorAction::CheckOut,
            }],
        };
        let mut policies = PolicyHistory::only(door(1, "Europe/London"));
        policies.add(WallTime::from_millis(0), door(2, "Europe/Madrid"));
        policies
    }

    fn door(number: u8, when: &str, direction: Direction) -> DoorFact {
        DoorFact {
            business: BusinessId(1),
            at: at(when),
            quality: TimeQuality::Device,
            arrived: at(when),
            subject: ADA,
            recognised: Recognised::Coworker,
            digest: FactDigest([number; 16]),
            ordinal: number.into(),
            source: "board".into(),
            kind: DoorEventKind::Granted,
            door: DoorKey("side".to_owned()),
            direction,
            shown: Some(ShownCredential { kind: CredentialKind::Card, scope: None, value: Some("8165538".to_owned()) }),
            refusal: None,
            too_late: false,
        }
    }

    fn heard(points: &[&str]) -> Fact {
        let point = |when: &&str| {
            let (last_at, since) = (at(when), at("01T08:30:00"));
            Point { last_at, first_at: last_at.moved(-20_000), strong_at: Some(last_at), since, frames: 3 }
        };
        Fact::Presence(PresenceFact {
            business: BusinessId(1),
            subject: ADA,
            mac: LAPTOP.parse().expect("an address"),
            interface: "eth0".into(),
            points: points.iter().map(point).collect(),
        })
    }

    fn row(fact: &Fact, outcome: Outcome, word: Option<&str>) -> DecidedFact {
        DecidedFact { fact: fact.stored(), decision: DecisionCode::of(outcome, word) }
    }

    fn known(directories: DirectoryHistory, facts: Vec<DecidedFact>, now: &str) -> ExplainInput {
        let mut case =
            GroupCase { past: Some(RefoldInput { facts, ..RefoldInput::default() }), ..GroupCase::default() };
        case.group.people.insert(ADA, PersonState::default());
        case.now.insert(ADA, StoredPerson::default());
        let name = "Ada".to_owned();
        let title = "Ada (coworker 11)".to_owned();
        ExplainInput {
            who: Who { coworker: Some((CoworkerId(11), name)), title, subjects: BTreeSet::from([ADA]) },
            business: BusinessId(1),
            from: at("01T00:00:00"),
            now: at(now),
            directories,
            policies: policies(),
            coverage: BTreeMap::from([(BusinessId(1), Coverage::new([(at("01T00:00:00"), at(now))]))]),
            cases: vec![case],
            logged: Vec::new(),
        }
    }

    #[test]
    fn a_day_is_told_in_order_and_the_same_again_and_again_is_one_line() {
        let facts = vec![
            row(&Fact::Door(door(1, "01T08:30:05", Direction::In)), Outcome::Opened, None),
            row(&Fact::Door(door(2, "01T08:30:07", Direction::In)), Outcome::Recorded, Some("repeated_tap")),
            row(&heard(&["01T08:31:00", "01T08:32:00", "01T08:33:00"]), Outcome::Refreshed, None),
            row(&heard(&["01T09:00:00", "01T09:30:00"]), Outcome::Refreshed, None),
            row(
                &Fact::Door(DoorFact {
                    kind: DoorEventKind::Denied,
                    refusal: Some(Refusal::OutsideHours),
                    arrived: at("01T13:40:00"),
                    ..door(3, "01T11:30:00", Direction::In)
                }),
                Outcome::Failed,
                Some("refused_outside_hours"),
            ),
            row(
                &Fact::Door(DoorFact { quality: TimeQuality::Arrival, ..door(4, "01T12:00:00", Direction::In) }),
                Outcome::Failed,
                Some("no_valid_pass"),
            ),
            row(
                &Fact::Door(DoorFact { business: BusinessId(2), ..door(5, "01T16:00:00", Direction::In) }),
                Outcome::Opened,
                None,
            ),
        ];
        let directories = DirectoryHistory::only(directory(1, true, 150));
        let told = text(&explain(known(directories, facts, "01T17:00:00")));
        insta::assert_snapshot!(told, @r#"
        Ada (coworker 11), from 2026-07-01 01:00 to 2026-07-01 18:00 at Hub One
        Wed 2026-07-01
          09:30:05  door "Side entrance" (side of board), in: card 8165538, granted -> opened: checked in with the time pass "10 hours", until 12:00:05 when its minutes are used up
          09:30:07  door "Side entrance" (side of board), in: card 8165538, granted -> recorded, repeated_tap: the same credential at the same door again, too soon
          09:31:00  network eth0, 3c:22:fb:00:00:01: heard 5 times from 09:30:40 to 10:30:00 -> refreshed: still here
          11:15:00  silence -> closed, silence: no device heard for 45 min, out as of 10:30:00
          12:30:00  door "Side entrance" (side of board), in: card 8165538, refused by the controller, outside hours (came 2 h 10 min late) -> failed, refused_outside_hours: the door controller refused: outside the permitted hours
          13:00:00  door "Side entrance" (side of board), in: card 8165538, granted (time of arrival used) -> opened: checked in with the time pass "10 hours", until 14:30:05 when its minutes are used up [the log says "failed, no_valid_pass: the coworker holds no pass and no pay-as-you-go pass fits; sell or grant one", which is a fault or a change by hand]
          14:30:05  end of the pass -> closed, pass_end: the pass covers no more; opened: goes on with pay-as-you-go "Desk"
          17:00:00  ended elsewhere -> closed, in_elsewhere: came in at another business
          18:00:00  at Hub Two, door "Side entrance" (side of board), in: card 8165538, granted -> opened: checked in with pay-as-you-go "Desk"
        Check-ins
          2026-07-01 09:30:05 to 10:30:00, 59 min, closed automatically, opened by door, the time pass "10 hours"
          2026-07-01 13:00:00 to 14:30:05, 1 h 30 min, closed automatically, opened by door, the time pass "10 hours"
          2026-07-01 14:30:05 to 17:00:00, 2 h 29 min, closed automatically, opened by door, pay-as-you-go "Desk", charged 15.00 GBP for 150 minutes
          2026-07-01 18:00:00, still in until an exit, or the cut-off at 2026-07-02 00:00:00, opened by door, at Hub Two, pay-as-you-go "Desk", charged 1.50 GBP for 15 minutes so far
        "#);
    }

    #[test]
    fn what_a_version_of_the_directory_changed_is_told() {
        let mut directories = DirectoryHistory::only(directory(1, true, 600));
        directories.add(at("01T09:00:00"), directory(2, true, 120));
        directories.add(at("01T09:30:00"), directory(3, true, 120));
        directories.add(at("01T10:00:00"), directory(4, false, 120));
        let facts = vec![
            row(&Fact::Door(door(1, "01T08:30:05", Direction::In)), Outcome::Opened, None),
            row(&Fact::Door(door(2, "01T11:00:00", Direction::In)), Outcome::Failed, Some("coworker_inactive")),
        ];
        let told = text(&explain(known(directories, facts, "02T12:00:00")));
        insta::assert_snapshot!(told, @r#"
        Ada (coworker 11), from 2026-07-01 01:00 to 2026-07-02 13:00 at Hub One
        Wed 2026-07-01
          09:30:05  door "Side entrance" (side of board), in: card 8165538, granted -> opened: checked in with the time pass "10 hours", until 19:30:05 when its minutes are used up
          10:00:00  directory version 2 in force -> refreshed: now the time pass "10 hours", until 11:30:05 when its minutes are used up
          11:00:00  directory version 4 in force -> closed, withdrawn: may no longer be in
          12:00:00  door "Side entrance" (side of board), in: card 8165538, granted -> failed, coworker_inactive: the coworker is not active
        Check-ins
          2026-07-01 09:30:05 to 11:00:00, 1 h 29 min, closed automatically, opened by door, the time pass "10 hours"
        "#);
    }

    #[test]
    fn without_a_pass_the_charge_is_told_and_who_is_still_in() {
        let facts = vec![
            row(&Fact::Door(door(1, "01T08:30:00", Direction::In)), Outcome::Opened, None),
            row(&Fact::Door(door(2, "01T10:00:00", Direction::Out)), Outcome::Closed, None),
            row(&Fact::Door(door(3, "01T12:00:00", Direction::In)), Outcome::Opened, None),
            row(
                &Fact::Door(DoorFact { too_late: true, ..door(4, "01T12:30:00", Direction::Out) }),
                Outcome::Recorded,
                Some("late"),
            ),
        ];
        let directories = DirectoryHistory::only(directory(1, true, 0));
        let explained = explain(known(directories, facts, "01T13:00:00"));
        insta::assert_snapshot!(text(&explained), @r#"
        Ada (coworker 11), from 2026-07-01 01:00 to 2026-07-01 14:00 at Hub One
        Wed 2026-07-01
          09:30:00  door "Side entrance" (side of board), in: card 8165538, granted -> opened: checked in with pay-as-you-go "Desk"
          11:00:00  door "Side entrance" (side of board), out: card 8165538, granted -> closed: checked out
          13:00:00  door "Side entrance" (side of board), in: card 8165538, granted -> opened: checked in with pay-as-you-go "Desk"
          13:30:00  door "Side entrance" (side of board), out: card 8165538, granted -> recorded, late: came too late to be decided, more than 8 days
        Check-ins
          2026-07-01 09:30:00 to 11:00:00, 1 h 30 min, left by a door, opened by door, pay-as-you-go "Desk", charged 9.00 GBP for 90 minutes
          2026-07-01 13:00:00, still in until an exit, or the cut-off at 2026-07-02 00:00:00, opened by door, pay-as-you-go "Desk", charged 1.50 GBP for 15 minutes so far
        "#);
        let value: Value = serde_json::from_str(&json(&explained)).expect("JSON");
        assert_eq!(value["Checkins"][0]["Charge"]["Final"], true);
        assert_eq!(value["Events"][0]["AtLocal"], "2026-07-01T09:30:00");
    }

    #[test]
    fn doors_and_clocks_are_told_in_words() {
        let told = |change: fn(&mut DoorFact)| {
            let mut fact = door(1, "01T08:30:00", Direction::Unknown);
            change(&mut fact);
            door_text(&fact, &policies())
        };
        let told = [
            told(|fact| fact.quality = TimeQuality::Corrected),
            told(|fact| fact.arrived = fact.at.moved(-180_000)),
            told(|fact| fact.kind = DoorEventKind::UnknownCredential),
            told(|fact| fact.shown = Some(ShownCredential { kind: CredentialKind::Pin, scope: None, value: None })),
            told(|fact| fact.shown = Some(ShownCredential { kind: CredentialKind::Card, scope: None, value: None })),
            told(|fact| fact.door = DoorKey("side\u{1b}[2J".to_owned())),
        ];
        insta::assert_snapshot!(told.join("\n"), @r#"
        door "Side entrance" (side of board): card 8165538, granted (controller's clock corrected)
        door "Side entrance" (side of board): card 8165538, granted (controller's clock 3 min ahead)
        door "Side entrance" (side of board): card 8165538, not known to the controller
        door "Side entrance" (side of board): PIN, granted
        door "Side entrance" (side of board): PIN or short number, granted
        door side[2J of board: card 8165538, granted
        "#);
    }
}
