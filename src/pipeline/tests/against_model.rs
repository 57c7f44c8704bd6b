//! The engine against the reference model, which was written from the documents alone.

use std::collections::BTreeMap;

use super::{
    model::{ChargeRow, Coverage, Fact, FailureRow, PassRow, Records, Scenario, VisitRow, records},
    scenario::{Dice, EngineFact, asked, code_of, coverage, devices, directories, engine_fact, policies, scenario},
};
use crate::{
    base::{clock::WallTime, fact::Subject, record::CheckinSource},
    engine::{
        fold::{FoldGroup, FoldItem, Folded, World, fold},
        person::PersonState,
    },
};

/// The number of scenarios to try: they take some seconds.
const CASES: u64 = 3500;

/// The maximum number of failing scenarios to print.
const SHOWN: u64 = 3;

/// How many times to try a failing scenario with one element removed.
const TRIES: usize = 5000;

/// The records that the engine produces from a scenario, in one fold.
fn folded(scenario: &Scenario) -> Records {
    let (directories, policies, coverage) = (directories(scenario), policies(scenario), coverage(scenario));
    let now = WallTime::from_millis(scenario.now);
    let world =
        World { directories: &directories, policies: &policies, coverage: &coverage, now, quiet_until: now.moved(1) };
    let facts: Vec<EngineFact> = scenario.facts.iter().map(engine_fact).collect();
    let mut items: Vec<FoldItem<'_>> = facts
        .iter()
        .map(|facts| match facts {
            EngineFact::Door(fact) => FoldItem::door(fact),
            EngineFact::Presence(subject, business, mac, point) => FoldItem::seen(*subject, *business, *mac, *point),
            EngineFact::Edit(edit) => FoldItem::edit(edit, false),
        })
        .collect();
    items.sort_by_key(|item| item.place);
    let people: BTreeMap<Subject, PersonState> = (1..=3).map(|id| (Subject(id), PersonState::default())).collect();
    let folded = fold(world, FoldGroup { people, ..FoldGroup::default() }, &items);
    rows(&folded)
}

fn rows(folded: &Folded) -> Records {
    let millis = |at: WallTime| at.millis();
    let visits = folded
        .visits
        .values()
        .map(|record| {
            let visit = &record.visit;
            VisitRow {
                person: record.coworker.0,
                business: visit.business.0,
                from: millis(visit.from),
                to: visit.to.map(millis),
                auto_checkout: visit.auto_checkout,
                last_activity: millis(visit.last_activity),
                macs: devices(&visit.macs),
                by_network: visit.source == CheckinSource::NetworkActivity,
                pass: visit.pass.as_ref().map(PassRow::of),
            }
        })
        .collect();
    let failures = folded
        .failures
        .values()
        .map(|failure| FailureRow {
            person: failure.coworker.map_or(0, |id| id.0),
            business: failure.business.0,
            at: millis(failure.attempt_at),
            code: code_of(failure.refused.reason.code()),
            by_network: failure.source == CheckinSource::NetworkActivity,
        })
        .collect();
    let charges = folded
        .charges
        .values()
        .map(|charge| ChargeRow {
            person: charge.coworker.0,
            business: charge.business.0,
            from: millis(charge.from),
            minutes: i64::from(charge.charge.minutes),
            amount: charge.charge.amount,
            is_final: charge.to.is_some(),
        })
        .collect();
    Records { visits, failures, charges }.sorted()
}

/// The smallest version of a scenario that still differs, within the limited number of tries.
pub(super) fn smallest(
    mut scenario: Scenario,
    mut tries: usize,
    mut differs: impl FnMut(&Scenario) -> bool,
) -> Scenario {
    // Removes one element after the other, if the records still differ without it.
    let mut at = 0;
    while let Some(smaller) = smaller_ones(&scenario).into_iter().nth(at).filter(|_| tries > 0) {
        tries -= 1;
        if differs(&smaller) {
            scenario = smaller;
        } else {
            at += 1;
        }
    }
    scenario
}

/// The scenario with one element removed.
fn smaller_ones(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut without = |change: &dyn Fn(&mut Scenario)| {
        let mut smaller = scenario.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    for index in 0..scenario.facts.len() {
        without(&|smaller| {
            let _gone = smaller.facts.remove(index);
        });
    }
    for index in 0..scenario.coverage.len() {
        without(&|smaller| {
            let _gone = smaller.coverage.remove(index);
        });
    }
    for index in 0..scenario.directories.len() {
        if scenario.directories.len() > 1 {
            without(&|smaller| {
                let _gone = smaller.directories.remove(index);
            });
        }
        let directory = &scenario.directories[index];
        for at in 0..directory.held.len() {
            without(&|smaller| {
                let _gone = smaller.directories[index].held.remove(at);
            });
        }
        for at in 0..directory.sharing.len() {
            without(&|smaller| {
                let _gone = smaller.directories[index].sharing.remove(at);
            });
        }
        for at in 0..directory.kinds.len() {
            without(&|smaller| {
                let _gone = smaller.directories[index].kinds.remove(at);
            });
            if !directory.kinds[at].slots.is_empty() {
                without(&|smaller| smaller.directories[index].kinds[at].slots.clear());
            }
        }
    }
    for at in 0..3 {
        if scenario.directories.iter().any(|directory| directory.people[at].tariff.is_some()) {
            without(&|smaller| smaller.directories.iter_mut().for_each(|each| each.people[at].tariff = None));
        }
    }
    for index in 0..scenario.businesses.len() {
        for at in 1..scenario.businesses[index].settings.len() {
            without(&|smaller| {
                let _gone = smaller.businesses[index].settings.remove(at);
            });
        }
    }
    all
}

/// A scenario in a form for people.
pub(super) fn text_of(scenario: &Scenario) -> String {
    let clock = |at: i64| WallTime::from_millis(at).to_rfc3339_seconds();
    let mut lines: Vec<String> = Vec::new();
    for business in &scenario.businesses {
        lines.push(format!("business {}", business.id));
        lines.extend(business.settings.iter().map(|each| format!("  {each:?}")));
    }
    for directory in &scenario.directories {
        lines.push(format!("directory from {} sharing {:?}", clock(directory.from), directory.sharing));
        lines.extend(directory.people.iter().map(|each| format!("  {each:?}")));
        lines.extend(directory.tariffs.iter().map(|each| format!("  {each:?}")));
        lines.extend(directory.kinds.iter().map(|each| format!("  {each:?}")));
        lines.extend(directory.held.iter().map(|each| format!("  {each:?}")));
    }
    let covered = |each: &Coverage| format!("covered {} {} - {}", each.business, clock(each.from), clock(each.to));
    lines.extend(scenario.coverage.iter().map(covered));
    let fact = |each: &Fact| format!("{} business {} {:?}", clock(each.at), each.business, each.kind);
    lines.extend(scenario.facts.iter().map(fact));
    lines.join("\n")
}

pub(super) fn text_of_records(records: &Records) -> String {
    let visits = records.visits.iter().map(|each| format!("  {each:?}"));
    let failures = records.failures.iter().map(|each| format!("  {each:?}"));
    let charges = records.charges.iter().map(|each| format!("  {each:?}"));
    visits.chain(failures).chain(charges).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_engine_makes_the_records_of_the_model() {
    let mut wrong = 0;
    let seeds = asked(CASES);
    let many = seeds.end - seeds.start;
    for seed in seeds {
        let scenario = scenario(&mut Dice(seed * 7919 + 1));
        let differs = |scenario: &Scenario| folded(scenario) != records(scenario);
        if differs(&scenario) {
            wrong += 1;
            eprintln!("seed {seed} differs");
            if wrong <= SHOWN {
                let small = smallest(scenario, TRIES, differs);
                let (engine, model) = (text_of_records(&folded(&small)), text_of_records(&records(&small)));
                eprintln!("seed {seed}\n{}\nengine\n{engine}\nmodel\n{model}", text_of(&small));
            }
        }
    }
    assert_eq!(wrong, 0, "of {many} scenarios");
}
