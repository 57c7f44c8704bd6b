//! PURE. Folds what was read, as the pipeline would, and puts everything that happened in order.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    model::{ExplainInput, Explained, TimelineEvent},
    narrate::{Narrator, logged, set_aside},
};
use crate::{
    base::{
        fact::{Fact, Subject},
        mac::MacAddr,
        plain::plain,
        record::BusinessId,
    },
    engine::{
        decision::DecisionCode,
        fold::{self, FoldItem},
        person::Visit,
    },
    pipeline::{
        calendar_of,
        decide::{self, FactOrigin, FoldInput},
    },
    policy::PolicyHistory,
};

/// Folds each case and builds the timeline and the list of visits.
pub fn explain(mut known: ExplainInput) -> Explained {
    let mut events = Vec::new();
    let mut visits = Vec::new();
    let mut behind = false;
    for case in std::mem::take(&mut known.cases) {
        let FoldInput { current, refold, points, group, .. } = case;
        // Fold the facts as the pipeline would.
        let rows: Vec<(Fact, DecisionCode)> = refold
            .iter()
            .flat_map(|refold| &refold.facts)
            .filter_map(|row| Some((Fact::read(&row.fact).ok()?, row.decision)))
            .collect();
        let facts: Vec<Fact> = rows.iter().map(|(fact, _)| fact.clone()).collect();
        let items = decide::items(&facts, &[], &points, &[]);
        let bare: Vec<FoldItem<'_>> = items.iter().map(|(item, _)| *item).collect();
        let folded = fold::fold(known.world(), group, &bare);
        let narrator = Narrator { known: &known, folded: &folded };
        // The log keeps only the last decision of a merged presence, so only its last point is compared with the log.
        let mut last = BTreeMap::new();
        for (index, (_, origin)) in items.iter().enumerate() {
            if let FactOrigin::OldDoor(row) | FactOrigin::OldPoint(row) | FactOrigin::OldEdit(row) = origin {
                last.insert(*row, index);
            }
        }
        for (index, ((item, origin), decision)) in items.iter().zip(&folded.decisions).enumerate() {
            if !known.who.subjects.contains(&item.subject) {
                continue;
            }
            let (row, interface) = match origin {
                FactOrigin::OldDoor(row) | FactOrigin::OldPoint(row) | FactOrigin::OldEdit(row) => (
                    rows.get(*row).filter(|_| last.get(row) == Some(&index)),
                    rows.get(*row).and_then(|row| interface(&row.0)),
                ),
                FactOrigin::Pending(of) => (None, points.get(*of).map(|point| &*point.presence.interface)),
                FactOrigin::NewDoor | FactOrigin::NewEdit(_) => (None, None),
            };
            let log = row.map(|(_, code)| *code).filter(|code| *code != decision.code());
            events.push(narrator.event(item, interface.unwrap_or_default(), decision, log));
        }
        // Add what ended or changed without a fact: timers, a new directory version.
        let own = |subject: &Subject| known.who.subjects.contains(subject);
        events.extend(folded.ended.iter().filter(|(subject, _)| own(subject)).map(|(_, ended)| narrator.ended(ended)));
        let repassed = folded.repassed.iter().filter(|change| {
            let record = folded.visits.get(&change.visit);
            record.is_some_and(|record| own(&Subject::coworker(record.coworker)))
        });
        events.extend(repassed.filter_map(|change| narrator.repassed(change)));
        // Add facts that arrived too late: they are in the log, but not in the fold.
        let set_aside = rows.iter().filter(|(fact, _)| matches!(fact, Fact::Door(door) if door.too_late));
        events.extend(set_aside.filter_map(|(fact, code)| logged(&known, fact, *code)));
        for record in folded.visits.values().filter(|record| own(&Subject::coworker(record.coworker))) {
            if record.visit.to.is_none_or(|to| to >= known.from) {
                visits.push(narrator.summary(&record.visit));
            }
        }
        // A visit that is open in the database but not in the fold should have ended by now.
        behind |= current.iter().filter(|(subject, _)| own(subject)).any(|(subject, standing)| {
            let open = |visit: &Visit| visit.unique_id;
            let folded = folded.people.get(subject).and_then(|person| person.open()).map(open);
            standing.person.open().map(open).is_some_and(|known| folded != Some(known))
        });
    }
    // Add the facts from before the first checkpoint and of strange devices, and put everything in order.
    let before = std::mem::take(&mut known.logged);
    events.extend(before.iter().filter_map(|row| logged(&known, &Fact::read(&row.fact).ok()?, row.decision)));
    let aside = std::mem::take(&mut known.set_aside);
    events.extend(aside.iter().filter_map(|aside| set_aside(&known, aside)));
    events.retain(|event| event.place.at >= known.from);
    events.sort_by_key(|event| event.place);
    visits.sort_by_key(|summary| (summary.visit.from, summary.visit.unique_id));
    let ExplainInput { who, business, from, now, directories, policies, .. } = known;
    // Look up the names of all businesses that occur.
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

/// Merges consecutive lines of one device with the same decision into one line per date.
fn merged(events: Vec<TimelineEvent>, policies: &PolicyHistory) -> Vec<TimelineEvent> {
    let mut lines: Vec<TimelineEvent> = Vec::new();
    let mut open: BTreeMap<(BusinessId, MacAddr), usize> = BTreeMap::new();
    for event in events {
        let Some((business, mac, code)) = event.merge_key.filter(|_| event.log.is_none()) else {
            open.clear();
            lines.push(event);
            continue;
        };
        let date = |event: &TimelineEvent| calendar_of(policies, business, event.place.at).local(event.place.at).date();
        let known = open.get(&(business, mac)).copied().and_then(|at| lines.get_mut(at));
        match known.filter(|line| line.code == code && date(line) == date(&event)) {
            Some(line) => {
                if let (Some((_, last, many)), Some((_, to, more))) = (&mut line.seen, event.seen) {
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
        Fact::UnknownDevice(device) => Some(&device.interface),
        Fact::Door(_) | Fact::Rejected(_) | Fact::Edit(_) => None,
    }
}
