//! Reads from the database what the pipeline would read to refold the same people.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{Days, NaiveTime};
use uuid::Uuid;

use super::model::{ExplainInput, NamedSubject};
use crate::{
    base::{
        clock::WallTime,
        fact::{LogDay, Subject},
        plain::plain,
        record::BusinessId,
        sighting::CredentialKind,
    },
    cli::lookup::{AskedAbout, WhoError, asked, credential, find},
    directory::{Directory, Match, history::DirectoryHistory, scoped},
    engine::{coverage::Coverage, person::PersonState},
    pipeline::{
        calendar_of,
        decide::{self, FoldInput, PendingPoint, Refold, days_between},
    },
    policy::{HISTORY, PolicyHistory, SitePolicy, site::Site},
    settings::Settings,
    store::{DecidedFact, SetAsideFact, Store, StoreError, StoredPerson},
};

/// The most days to go back: as far as checkpoints reach.
pub const MAX_DAYS: u32 = 10;

/// How many times to read before giving up, if the daemon keeps writing meanwhile.
const MAX_ATTEMPTS: u32 = 5;

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The text names no single coworker, card or device.
    #[error(transparent)]
    Who(#[from] WhoError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The daemon wrote about these people during every attempt.
    #[error("the daemon is writing about these people; try again")]
    Busy,
}

/// Reads everything about the coworker, card or device named by `who`, from the start of the day `days` days ago.
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
    for _ in 0..MAX_ATTEMPTS {
        if let Some(known) = load_once(store, settings, site, (who, days), now).await? {
            return Ok(known);
        }
    }
    Err(ExplainError::Busy)
}

/// Reads once. Returns `None` if the daemon wrote about the same people meanwhile.
async fn load_once(
    store: &Store,
    settings: &Settings,
    site: &Site,
    (who, days): (&str, u32),
    now: WallTime,
) -> Result<Option<ExplainInput>, ExplainError> {
    // The latest directory tells who is meant.
    let business = site.business;
    let mut directories = store.load_directories().await?;
    let latest = Arc::clone(directories.latest());
    let policies = load_policies(store, settings, site).await?;
    let sources: Vec<&str> = settings.sources.iter().map(|source| &*source.name).collect();
    let who = resolve(&latest, business, who, &sources)?;
    // Start at local midnight, but no further back than the daemon's history.
    let calendar = calendar_of(&policies, business, now);
    let date = calendar.local(now).date();
    let first = date.checked_sub_days(Days::new(days.into())).unwrap_or(date).and_time(NaiveTime::MIN);
    let from = calendar.instant(first).max(now.minus(HISTORY));

    // People who share passes are decided together, in one case.
    fill_in(&mut directories, from, store).await?;
    let versions = directories.since(from);
    let groups = decide::groups(&who.subjects, &versions, &site.passes);
    let people: BTreeSet<Subject> = groups.iter().flatten().copied().collect();
    let mut cases: Vec<FoldInput> = groups.iter().map(|group| FoldInput::of(group, &versions)).collect();
    let passes: BTreeSet<Uuid> = cases.iter().flat_map(|case| case.passes.iter().copied()).collect();
    let (loaded, users) = store.people(&people, &passes).await?;
    if loaded.directory != latest.version_id() {
        return Ok(None);
    }
    // Find out which days of which people to read from the log.
    let (first, tomorrow) = (LogDay::of(from), LogDay::of(now.plus(Duration::from_hours(24))));
    let mut asked = Vec::new();
    for (case, group) in cases.iter_mut().zip(&groups) {
        // Of the people who share passes, only those who are in or have been active since then can affect the result.
        for subject in group {
            let standing = loaded.people.get(subject);
            let active =
                standing.is_some_and(|known| known.person.open().is_some() || known.person.folded.at >= first.start());
            if who.subjects.contains(subject) || active {
                case.current.insert(*subject, standing.cloned().unwrap_or_default());
                let pending = loaded.unlogged.get(subject).into_iter().flatten();
                case.points.extend(pending.flat_map(PendingPoint::pending));
            }
        }
        let newest = case.current.values().map(|known| LogDay::of(known.person.folded.at)).chain([tomorrow]).max();
        let newest = newest.unwrap_or(tomorrow);
        asked.extend(
            case.current.keys().flat_map(|subject| days_between(first, newest).map(move |day| (*subject, day))),
        );
    }
    let (checkpoints, facts) = store.past(&asked).await?;
    // Read the revisions again: if one has changed, the data read above are not consistent.
    let (again, _) = store.people(&people, &BTreeSet::new()).await?;
    let revision = |subject: &Subject, standings: &BTreeMap<Subject, StoredPerson>| {
        standings.get(subject).map_or(0, |known| known.revision)
    };
    let moved = people.iter().any(|subject| revision(subject, &loaded.people) != revision(subject, &again.people));
    if moved || again.directory != loaded.directory || again.policies != loaded.policies {
        return Ok(None);
    }
    // The rest does not depend on the revisions: fill in what else the fold needs.
    let logged = begin(&mut cases, first, checkpoints, facts);
    decide::add_usage(&mut cases, users);
    let mut coverage = BTreeMap::new();
    for others in [false, true] {
        for (place, stretches) in store.coverage(business, others, now.minus(HISTORY)).await? {
            let stretches = stretches.iter().map(|covered| (covered.from, covered.to.min(now)));
            coverage.insert(place, Coverage::new(stretches));
        }
    }
    let begins = cases.iter().filter_map(FoldInput::begins).chain([from, first.start()]).min().unwrap_or(from);
    fill_in(&mut directories, begins, store).await?;
    let mut set_aside = Vec::new();
    for subject in &who.subjects {
        set_aside.extend(store.set_aside_of(*subject).await?);
    }
    let mut known =
        ExplainInput { who, business, from, now, directories, policies, coverage, cases, logged, set_aside };
    let totals = store.totals(&decide::totals_to_read(&known.world(), &known.cases)).await?;
    for case in &mut known.cases {
        case.group.totals.clone_from(&totals);
    }
    Ok(Some(known))
}

/// Loads the settings of every site. Before the daemon's first start none are recorded.
async fn load_policies(store: &Store, settings: &Settings, site: &Site) -> Result<PolicyHistory, StoreError> {
    let mut policies = settings.zones.rule(&store.read_policies().await?);
    if policies.latest(site.business).is_none() {
        policies.add(WallTime::from_millis(0), SitePolicy { site: site.clone(), doors: settings.doors.clone() });
    }
    Ok(policies)
}

/// Reads the facts of the site that were set aside, and the settings that name its doors.
///
/// # Errors
/// [`StoreError`]
pub async fn load_set_aside(
    store: &Store,
    settings: &Settings,
    site: &Site,
) -> Result<(Vec<SetAsideFact>, PolicyHistory), StoreError> {
    Ok((store.set_aside_at(site.business).await?, load_policies(store, settings, site).await?))
}

/// Loads the missing directory versions that have been in force since an instant.
async fn fill_in(directories: &mut DirectoryHistory, since: WallTime, store: &Store) -> Result<(), StoreError> {
    for version in directories.missing(since) {
        directories.fill_in(version, Arc::new(store.load_directory_of(version).await?));
    }
    Ok(())
}

/// Sets up each case: the people as of the first day, and the facts since then. Returns the facts that cannot be
/// folded.
fn begin(
    cases: &mut [FoldInput],
    first: LogDay,
    checkpoints: Vec<(Subject, LogDay, PersonState)>,
    facts: Vec<DecidedFact>,
) -> Vec<DecidedFact> {
    let mut before: BTreeMap<Subject, (LogDay, PersonState)> = BTreeMap::new();
    for (subject, day, person) in checkpoints {
        if before.get(&subject).is_none_or(|(known, _)| day < *known) {
            before.insert(subject, (day, person));
        }
    }
    for case in cases.iter_mut() {
        for (subject, known) in &case.current {
            let person = before.get(subject).map_or(&known.person, |(_, person)| person);
            case.group.people.insert(*subject, person.clone());
        }
        case.refold = Some(Refold { from: first, ..Refold::default() });
    }
    let mut logged = Vec::new();
    for row in facts {
        let case = cases.iter_mut().find(|case| case.current.contains_key(&row.fact.subject));
        let person = case.as_ref().and_then(|case| case.group.people.get(&row.fact.subject));
        let decided = person.is_some_and(|person| row.fact.at <= person.folded.at);
        match case.and_then(|case| case.refold.as_mut()).filter(|_| !decided) {
            Some(past) => past.facts.push(row),
            None => logged.push(row),
        }
    }
    logged
}

/// Finds who is meant, and every subject under which the log may store their facts: a card had no owner before it was
/// assigned.
fn resolve(
    directory: &Directory,
    business: BusinessId,
    who: &str,
    sources: &[&str],
) -> Result<NamedSubject, ExplainError> {
    let (mac, is_card, found) = match find(directory, who)? {
        AskedAbout::Card(found) => (None, true, found),
        AskedAbout::Device(mac, found) => (Some(mac), false, found),
        AskedAbout::Person(found) => (None, false, found),
    };
    // The heading, and the subject of the coworker's own facts.
    let mut known = NamedSubject::default();
    let shown = plain(who);
    let label = match mac {
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
        Match::Several => known.title = format!("{label}, which more than one coworker has"),
        Match::NoOne if mac.is_some() => known.title = format!("{label}, which no coworker has"),
        Match::NoOne => known.title = format!("\"{shown}\", which is not the card, number or name of any coworker"),
    }
    // Facts from the time when the device or credential had no owner, in every spelling and scope.
    if let Some(mac) = mac {
        known.subjects.insert(Subject::unknown_device(business, mac));
    } else if is_card || known.coworker.is_none() {
        let key = directory.pin_key();
        for text in [who.to_owned(), who.to_lowercase(), who.to_uppercase()] {
            known.subjects.insert(Subject::unknown_credential(
                business,
                &credential(CredentialKind::Card, None, &text),
                key,
            ));
        }
        for kind in [CredentialKind::Slot, CredentialKind::User, CredentialKind::Name] {
            let written = scoped::parts(kind, who);
            for (scope, value) in sources.iter().map(|source| (*source, who)).chain(written) {
                let credential = credential(kind, Some(scope.to_owned()), value);
                known.subjects.insert(Subject::unknown_credential(business, &credential, key));
            }
        }
    }
    Ok(known)
}
