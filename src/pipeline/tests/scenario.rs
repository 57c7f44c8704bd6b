//! Random sites with a few days of facts, in the form of the reference model and in that of the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{Datelike, Days, NaiveDate, NaiveTime, Weekday};
use serde_json::{Value, json};
use uuid::Uuid;

use super::model::{
    self, Action, Business, Coverage, Directory, EditEnd, Fact, FactKind, Held, Kind, NetworkOpens, PassRow,
    PassesAsked, PayAsYouGo, Person, Records, Scenario, Settings, Slot, Tariff,
};
use crate::{
    base::{
        clock::WallTime,
        fact::{
            DoorFact, Edit, EditFact, EditedEnd, FactDigest, Point, Recognised, ShownCredential, Subject, TimeSpan,
        },
        mac::MacAddr,
        record::{BusinessId, CheckinSource},
        sighting::{CredentialKind, Direction, DoorEventKind, DoorKey, TimeQuality},
    },
    directory::{
        Builder,
        entity::EntityKind,
        history::DirectoryHistory,
        import::{Document, EntryPlace},
    },
    engine::{coverage, passes::PassUse},
    policy::{
        PolicyHistory, SitePolicy,
        door::{Door, DoorAction},
        passes::PassPolicy,
        site::Site,
    },
};

pub(super) const MINUTE: i64 = 60_000;

/// The start dates of scenarios, at 00:00 UTC: a Monday, and the Saturdays before London's clocks go forward and back.
const STARTS: [i64; 3] = [1_772_409_600_000, 1_774_656_000_000, 1_792_800_000_000];

/// The length of a scenario, in minutes.
pub(super) const SPAN: u64 = 3 * 1440;

/// Whether some scenarios have edits by hand.
pub(super) const EDITS: bool = true;

/// The distance between the numbers of people in two scenarios on one database; the same for businesses and passes.
pub(super) const PEOPLE: i64 = 10;

/// Pseudo-random numbers, the same for the same seed.
#[derive(Clone, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    pub(super) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn of<T: Copy, const N: usize>(&mut self, all: [T; N]) -> T {
        all[usize::try_from(self.below(N as u64)).expect("small")]
    }

    fn small(&mut self, bound: u64) -> u32 {
        u32::try_from(self.below(bound)).expect("small")
    }

    pub(super) fn minutes(&mut self, bound: u64) -> i64 {
        self.below(bound).cast_signed() * MINUTE
    }
}

/// The seeds of a run; `CHECKIND_SCENARIOS=FROM-TO` chooses others.
#[expect(clippy::disallowed_methods, reason = "a search by hand chooses its seeds")]
pub(super) fn asked(otherwise: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("CHECKIND_SCENARIOS").ok();
    let range = asked.as_deref().and_then(|text| text.split_once('-'));
    range.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?)).unwrap_or(0..otherwise)
}

/// Two hubs, three people, passes that are shared or not, imports and changes of settings in the middle.
pub(super) fn scenario(dice: &mut Dice) -> Scenario {
    let start = dice.of(STARTS);
    let businesses = (1..=2).map(|id| Business { id, settings: all_settings(dice, start) }).collect();
    let versions = dice.below(3);
    // A plan does not change during a visit.
    let plan = plan(dice, start);
    let members = [dice.one_in(2), dice.one_in(2), dice.one_in(2)];
    let reset = dice.one_in(2);
    let directories: Vec<Directory> =
        (0..=versions).map(|version| directory(dice, (start, version), &(plan.clone(), members, reset))).collect();
    let many = 10 + dice.below(30);
    // Half of the facts fall within a few minutes: repetitions, people who meet, the boundaries of cut-offs and slots.
    let busy: [i64; 6] = std::array::from_fn(|_| match dice.below(3) {
        0 => dice.of([179, 180, 1079, 1080, 1439, 1440]) * MINUTE + dice.below(2).cast_signed() * 1440 * MINUTE,
        _ => dice.minutes(SPAN),
    });
    let mut facts: Vec<Fact> = (0..many).map(|tie| fact(dice, start, busy, tie)).collect();
    meet_edges(dice, start, &directories, &mut facts);
    let spans = (1..=2).flat_map(|business| (0..4).map(move |span| (business, span)));
    let coverage = spans.map(|(business, span)| {
        let from = start + span * 1000 * MINUTE;
        model::Coverage { business, from, to: from + dice.minutes(1100) }
    });
    let coverage: Vec<Coverage> = coverage.collect();
    let mut scenario =
        Scenario { start, businesses, directories, facts, coverage, now: start + SPAN.cast_signed() * MINUTE };
    if EDITS && dice.one_in(3) {
        for _ in 0..=dice.below(4) {
            add_edit(dice, &mut scenario);
        }
    }
    scenario
}

/// An edit, as the generator needs it.
#[derive(Clone, Copy, Debug)]
struct Edited {
    person: i64,
    business: i64,
    label: u32,
    made: i64,
    was: Option<(i64, i64)>,
    set: Option<(i64, EditEnd)>,
    by_network: bool,
}

/// The edits so far; the latest of each label is its last.
fn edits_of(scenario: &Scenario) -> Vec<Edited> {
    let edit = |fact: &Fact| match fact.kind {
        FactKind::Edit { person, label, made, was, set, by_network } => {
            Some(Edited { person, business: fact.business, label, made, was, set, by_network })
        }
        FactKind::Door { .. } | FactKind::Presence { .. } => None,
    };
    let mut edits: Vec<Edited> = scenario.facts.iter().filter_map(edit).collect();
    edits.sort_by_key(|edit| edit.made);
    edits
}

/// Adds an edit that an operator may have made who saw the records of the facts and of the edits so far.
pub(super) fn add_edit(dice: &mut Dice, scenario: &mut Scenario) {
    let earlier = edits_of(scenario);
    let next = earlier.iter().map(|edit| edit.label + 1).max().unwrap_or(1);
    let visits = model::records(scenario).visits;
    let seen = |at: u64| visits.get(usize::try_from(at).expect("small"));
    let edit = match dice.below(8) {
        0 | 1 => created(dice, scenario, next),
        2 | 3 => match earlier.get(usize::try_from(dice.below(earlier.len().max(1) as u64)).expect("small")) {
            Some(edit) => edited_again(dice, scenario, &earlier, edit.label),
            None => None,
        },
        _ => match seen(dice.below(visits.len().max(1) as u64)) {
            // The visit may be one that an edit began.
            Some(visit) => {
                let begins = |edit: &&Edited| {
                    let set = edit.set.is_some_and(|(from, _)| from == visit.from);
                    set && edit.person == visit.person && edit.business == visit.business
                };
                match earlier.iter().rev().find(begins) {
                    Some(edit) => edited_again(dice, scenario, &earlier, edit.label),
                    None => edited(dice, scenario, next, visit),
                }
            }
            None => None,
        },
    };
    let Some(Edited { person, business, label, made, was, set, by_network }) = edit else { return };
    // Other settings may be in force at a moved beginning.
    let crosses = |(from, end)| match end {
        EditEnd::At(to) | EditEnd::NotBefore(to) => to > model::day_around(scenario, business, from).1,
        EditEnd::Free | EditEnd::Joins => false,
    };
    if set.is_some_and(crosses) {
        return;
    }
    let at = [was.map(|(from, _)| from), set.map(|(from, _)| from)].into_iter().flatten().min();
    let kind = FactKind::Edit { person, label, made, was, set, by_network };
    let tie = scenario.facts.iter().map(|fact| fact.tie + 1).max().unwrap_or(0);
    scenario.facts.push(Fact { business, at: at.expect("something was or is"), tie, kind });
}

/// An instant within two others, both included: often that of a fact or a boundary of an edit.
fn instant_within(dice: &mut Dice, scenario: &Scenario, from: i64, to: i64) -> i64 {
    let mut known: Vec<i64> = scenario.facts.iter().map(|fact| fact.at).collect();
    for edit in edits_of(scenario) {
        known.push(edit.made);
        known.extend(edit.was.map(|(_, to)| to));
        known.extend(edit.set.map(|(from, _)| from));
        known.extend(edit.set.and_then(|(_, end)| match end {
            EditEnd::At(at) | EditEnd::NotBefore(at) => Some(at),
            EditEnd::Free | EditEnd::Joins => None,
        }));
    }
    known.extend([from, to]);
    known.retain(|at| (from..=to).contains(at));
    if !known.is_empty() && dice.one_in(4) {
        return known[usize::try_from(dice.below(known.len() as u64)).expect("small")];
    }
    // Half of the others are near the beginning.
    let longest = (to - from).max(0).min(if dice.one_in(2) { 90 * MINUTE } else { i64::MAX });
    // The use of passes is counted in whole seconds.
    let at = from + dice.below(longest.unsigned_abs() + 1).cast_signed();
    ((at + 999).div_euclid(1000) * 1000).min(to)
}

/// When an operator edits a visit that began then, up to two days later.
fn made_after(dice: &mut Dice, scenario: &Scenario, from: i64) -> Option<i64> {
    let last = scenario.now.min(from + 2 * 1440 * MINUTE);
    let soon = last.min(from + 6 * 60 * MINUTE);
    let last = if dice.one_in(2) { soon } else { last };
    (from + 1000 <= last).then(|| instant_within(dice, scenario, from + 1000, last))
}

fn created(dice: &mut Dice, scenario: &Scenario, label: u32) -> Option<Edited> {
    let person = 1 + dice.below(3).cast_signed();
    let business = 1 + dice.below(2).cast_signed();
    let end = scenario.start + SPAN.cast_signed() * MINUTE;
    let near = scenario.facts.get(usize::try_from(dice.below(scenario.facts.len().max(1) as u64)).expect("small"));
    let from = match near {
        Some(fact) if dice.one_in(2) => (fact.at - dice.minutes(120)).max(scenario.start),
        Some(_) | None => instant_within(dice, scenario, scenario.start, end - MINUTE),
    };
    let made = made_after(dice, scenario, from)?;
    let latest = made.min(model::day_around(scenario, business, from).1);
    let end = match dice.below(4) {
        0 => EditEnd::Joins,
        1 => EditEnd::Free,
        _ => EditEnd::At(instant_within(dice, scenario, from, latest)),
    };
    Some(Edited { person, business, label, made, was: None, set: Some((from, end)), by_network: dice.one_in(5) })
}

/// An edit of a visit that facts made.
fn edited(dice: &mut Dice, scenario: &Scenario, label: u32, visit: &model::VisitRow) -> Option<Edited> {
    let made = made_after(dice, scenario, visit.from)?;
    let to = visit.to.filter(|to| *to <= made);
    let was = (visit.from, to.unwrap_or(made));
    let set = new_interval(dice, scenario, visit.business, (was, to.is_none()), made);
    let (person, business, by_network) = (visit.person, visit.business, visit.by_network);
    Some(Edited { person, business, label, made, was: Some(was), set, by_network })
}

/// An edit of a visit that was edited before. A deleted visit cannot be edited.
fn edited_again(dice: &mut Dice, scenario: &Scenario, earlier: &[Edited], label: u32) -> Option<Edited> {
    let last = *earlier.iter().rev().find(|edit| edit.label == label)?;
    let (from, end) = last.set?;
    let made = made_after(dice, scenario, last.made)?;
    let (to, open) = match end {
        EditEnd::At(at) => (at, false),
        EditEnd::NotBefore(_) | EditEnd::Free | EditEnd::Joins => (made, true),
    };
    let was = (from, to);
    let set = new_interval(dice, scenario, last.business, (was, open), made);
    Some(Edited { made, was: Some(was), set, ..last })
}

/// What an operator sets instead of an interval, within one pass day.
fn new_interval(
    dice: &mut Dice,
    scenario: &Scenario,
    business: i64,
    ((from, to), open): ((i64, i64), bool),
    made: i64,
) -> Option<(i64, EditEnd)> {
    let (day_begins, day_ends) = model::day_around(scenario, business, from);
    let latest = made.min(day_ends);
    let to = to.min(latest);
    let moved = |dice: &mut Dice| {
        let earliest = day_begins.max(from - 180 * MINUTE).max(scenario.start);
        let last = to.min(day_ends - 1000).min(made - 1000);
        if dice.one_in(2) {
            instant_within(dice, scenario, earliest, from)
        } else {
            instant_within(dice, scenario, from, last.max(from))
        }
    };
    let same_day = made < day_ends;
    Some(match dice.below(8) {
        0 => (from, EditEnd::At(instant_within(dice, scenario, from, to))),
        1 => (from, EditEnd::At(instant_within(dice, scenario, to, latest))),
        2 if open || dice.one_in(2) => (moved(dice), EditEnd::Free),
        2 => (moved(dice), EditEnd::At(to)),
        3 => {
            let from = moved(dice);
            (from, EditEnd::At(instant_within(dice, scenario, from, latest)))
        }
        4 if same_day => (from, EditEnd::NotBefore(made)),
        5 if same_day => (moved(dice), EditEnd::NotBefore(made)),
        4 | 5 => (from, EditEnd::At(latest)),
        _ => return None,
    })
}

/// A plan, and the renewal date of the people who have it.
type Plan = (Tariff, Option<NaiveDate>);

fn plan(dice: &mut Dice, start: i64) -> Plan {
    let (days, hours) = (dice.one_in(3).then_some(2), dice.one_in(3).then_some(6));
    let of_cycle = dice.one_in(2);
    let tariff = Tariff {
        id: 1,
        days_week: days.filter(|_| !of_cycle),
        days_month: (dice.one_in(6)).then_some(2),
        days_cycle: days.filter(|_| of_cycle),
        hours_week: hours.filter(|_| !of_cycle),
        hours_month: None,
        hours_cycle: hours.filter(|_| of_cycle),
        invoice_every_months: dice.of([1, 2, 5]),
        invoice_every_weeks: dice.one_in(2).then_some(2),
    };
    let near = date_of(start) + Days::new(dice.below(4));
    (tariff, dice.one_in(3).then_some(near))
}

/// Moves some facts to the very instant at which a day, a slot or the minutes of a pass may end. No two are at the same
/// instant.
fn meet_edges(dice: &mut Dice, start: i64, directories: &[Directory], facts: &mut [Fact]) {
    for index in 0..facts.len() {
        if !dice.one_in(4) {
            continue;
        }
        let kind = &directories[0].kinds[usize::try_from(dice.below(4)).expect("small")];
        let day = dice.below(3).cast_signed() * 1440 * MINUTE;
        let at = match (dice.below(3), kind.slots.first()) {
            (0, _) => start + day + dice.of([0, 2, 3, 17, 18, 23]) * 60 * MINUTE,
            (1, Some(slot)) => start + day + i64::from(slot.to_minute) * MINUTE - dice.of([0, 60]) * MINUTE,
            _ => {
                let other = &facts[usize::try_from(dice.below(facts.len() as u64)).expect("small")];
                let held = &directories[0].held;
                let left = held[usize::try_from(dice.below(held.len() as u64)).expect("small")].left;
                other.at + dice.of([i64::from(left), 60, 120, 360]) * MINUTE
            }
        };
        let within = start <= at && at < start + SPAN.cast_signed() * MINUTE;
        if !within || facts.iter().any(|fact| fact.at == at) {
            continue;
        }
        let by = at - facts[index].at;
        facts[index].at = at;
        if let FactKind::Presence { since, first_at, strong_at, .. } = &mut facts[index].kind {
            (*since, *first_at, *strong_at) = (*since + by, *first_at + by, strong_at.map(|strong| strong + by));
        }
    }
}

fn all_settings(dice: &mut Dice, start: i64) -> Vec<Settings> {
    let versions = dice.below(2);
    let settings = |version| Settings {
        from: if version == 0 { 0 } else { start + dice.minutes(SPAN) + 55_000 },
        zone: chrono_tz::Europe::London,
        cut_off: NaiveTime::from_hms_opt(dice.of([0, 3, 18]), 0, 0).expect("a time of day"),
        idle_limit: dice.of([15, 45]) * MINUTE,
        linger: 10 * MINUTE,
        debounce: 5000,
        toggle_minimum_stay: MINUTE,
        minimum_dwell: dice.of([0, 5]) * MINUTE,
        record_every_visit: dice.one_in(3),
        network_opens: dice.of([
            NetworkOpens::Always,
            NetworkOpens::AfterDoor,
            NetworkOpens::Never,
            NetworkOpens::Always,
        ]),
        week_starts_on: Weekday::Mon,
        pay_as_you_go: dice.one_in(2).then_some(PayAsYouGo { step_minutes: 15, minimum: 100, maximum: Some(5000) }),
    };
    (0..=versions).map(settings).collect()
}

fn directory(dice: &mut Dice, (start, version): (i64, u64), fixed: &(Plan, [bool; 3], bool)) -> Directory {
    let ((tariff, renews), members, reset) = fixed;
    // Between two facts, because no two events may be at the same instant.
    let from = if version == 0 { 0 } else { start + dice.minutes(SPAN) + 50_000 + version.cast_signed() * 1000 };
    let slots = |dice: &mut Dice| -> Vec<Slot> {
        if !dice.one_in(3) {
            return Vec::new();
        }
        let first = date_of(start).weekday();
        let slot = |weekday| Slot {
            weekday,
            from_minute: u16::try_from(480 + dice.below(120)).expect("a minute"),
            to_minute: u16::try_from(900 + dice.below(700)).expect("a minute"),
        };
        [first, first.succ(), first.succ().succ()].map(slot).to_vec()
    };
    let kind = |id: i64| Kind {
        id,
        minutes: (id % 2 == 0).then(|| 60 * (1 + dice.small(5))),
        price: dice.below(100_000).cast_signed(),
        priority: dice.of([0, 1, 2]),
        counts: !dice.one_in(4),
        allow_network: !dice.one_in(4),
        archived: dice.one_in(8),
        only_members: dice.one_in(8),
        only_contacts: dice.one_in(8),
        tariffs: Vec::new(),
        businesses: if dice.one_in(4) { vec![1] } else { Vec::new() },
        slots: slots(dice),
        payg_members: dice.one_in(3),
        payg_contacts: dice.one_in(3),
    };
    let kinds = (1..=4).map(kind).collect();
    // With two passes, one person holds none.
    let many = dice.of([6, 6, 2]);
    let held = |id| Held {
        id,
        holder: 1 + id % 3,
        kind: 1 + id % 4,
        left: if dice.one_in(2) { 1 + dice.small(3) } else { dice.small(400) },
        basis_at: if *reset { from } else { 0 },
        expires: dice.one_in(4).then(|| date_of(start)),
        price: None,
        granted: dice.one_in(2),
    };
    let held = (1..=many).map(held).collect();
    let person = |id| Person {
        id,
        active: !dice.one_in(10),
        archived: dice.one_in(10),
        businesses: if dice.one_in(6) { vec![1] } else { Vec::new() },
        allow_network: !dice.one_in(6),
        tariff: members[usize::try_from(id - 1).expect("small")].then_some(1),
        renews: *renews,
    };
    let people = (1..=3).map(person).collect();
    Directory {
        from,
        people,
        tariffs: vec![tariff.clone()],
        kinds,
        held,
        sharing: if dice.one_in(2) { vec![vec![1, 2]] } else { Vec::new() },
        passes_asked: PassesAsked::IfAny,
    }
}

fn date_of(start: i64) -> NaiveDate {
    WallTime::from_millis(start).utc().date_naive()
}

fn fact(dice: &mut Dice, start: i64, busy: [i64; 6], tie: u64) -> Fact {
    let minute = if dice.one_in(2) { dice.of(busy) } else { dice.minutes(SPAN) };
    let at = start + minute + tie.cast_signed() * 1000;
    let person = 1 + dice.below(3).cast_signed();
    let kind = if dice.one_in(2) {
        let action = dice.of([Action::CheckIn, Action::CheckOut, Action::Toggle, Action::Activity]);
        let (door, refused) = (door_name(action).to_owned(), dice.one_in(10));
        FactKind::Door { person, door, direction: model::Direction::In, action, refused }
    } else {
        let first_at = at - dice.minutes(3);
        let strong_at = (!dice.one_in(4)).then(|| first_at.max(at - dice.minutes(3)));
        FactKind::Presence { person, mac: dice.below(2), since: first_at - dice.minutes(60), first_at, strong_at }
    };
    Fact { business: 1 + dice.below(2).cast_signed(), at, tie, kind }
}

const fn door_name(action: Action) -> &'static str {
    match action {
        Action::CheckIn => "in",
        Action::CheckOut => "out",
        Action::Toggle => "toggle",
        Action::Activity => "desk",
    }
}

impl Scenario {
    /// The same with other people, businesses and passes.
    pub(super) fn renumbered(mut self, by: i64) -> Self {
        for business in &mut self.businesses {
            business.id += by;
        }
        for directory in &mut self.directories {
            let places = |places: &mut Vec<i64>| places.iter_mut().for_each(|place| *place += by);
            for person in &mut directory.people {
                person.id += by;
                places(&mut person.businesses);
            }
            directory.kinds.iter_mut().for_each(|kind| places(&mut kind.businesses));
            for held in &mut directory.held {
                held.id += by;
                held.holder += by;
            }
            directory.sharing.iter_mut().for_each(places);
        }
        for fact in &mut self.facts {
            fact.business += by;
            match &mut fact.kind {
                FactKind::Door { person, .. } | FactKind::Presence { person, .. } | FactKind::Edit { person, .. } => {
                    *person += by;
                }
            }
        }
        self.coverage.iter_mut().for_each(|known| known.business += by);
        self
    }
}

impl Records {
    /// In an order that does not depend on the order of arrival.
    pub(super) fn sorted(mut self) -> Self {
        self.visits.sort();
        self.failures.sort();
        self.charges.sort();
        self
    }

    /// The same with other people, businesses and passes.
    pub(super) fn renumbered(mut self, by: i64) -> Self {
        for visit in &mut self.visits {
            (visit.person, visit.business) = (visit.person + by, visit.business + by);
            if let Some(held) = visit.pass.as_mut().and_then(|pass| pass.held.as_mut()) {
                *held += by;
            }
        }
        for failure in &mut self.failures {
            (failure.person, failure.business) = (failure.person + by, failure.business + by);
        }
        for charge in &mut self.charges {
            (charge.person, charge.business) = (charge.person + by, charge.business + by);
        }
        self
    }
}

/// The number of a held pass, which is part of its identity if the platform assigned it none.
fn number_of(pass: Uuid) -> i64 {
    pass.as_bytes()[8..].iter().skip(1).fold(0, |number, byte| number << 8 | i64::from(*byte))
}

impl PassRow {
    pub(super) fn of(pass: &PassUse) -> Self {
        Self { held: pass.guid.map(number_of), kind: pass.time_pass.0 }
    }
}

/// The code that a description begins with. The model has one code for a controller's refusal, whatever the reason.
pub(super) fn code_of(description: &str) -> String {
    let code = description.split(':').next().unwrap_or_default();
    code.replace("refused_by_controller", "refused_denied")
}

/// The numbers of a person's devices.
pub(super) fn devices(macs: &BTreeSet<MacAddr>) -> BTreeSet<u64> {
    macs.iter().map(|mac| u64::from(mac.octets()[5])).collect()
}

/// A person's device.
pub(super) fn device(person: i64, mac: u64) -> MacAddr {
    let [.., a, b, c] = person.to_be_bytes();
    MacAddr::new([0x3c, 0, a, b, c, u8::try_from(mac).expect("small")])
}

/// The same site for the engine.
pub(super) fn policies(scenario: &Scenario) -> PolicyHistory {
    let mut all: Vec<(i64, SitePolicy)> = Vec::new();
    for business in &scenario.businesses {
        all.extend(business.settings.iter().map(|settings| (settings.from, policy(business.id, settings))));
    }
    all.sort_by_key(|(from, _)| *from);
    let mut history = PolicyHistory::default();
    for (from, policy) in all {
        history.add(WallTime::from_millis(from), policy);
    }
    history
}

fn policy(business: i64, of: &Settings) -> SitePolicy {
    let span = |millis: i64| std::time::Duration::from_millis(millis.unsigned_abs());
    let pay_as_you_go = of.pay_as_you_go.as_ref().map(|rules| crate::policy::passes::PayAsYouGo {
        currency: crate::directory::catalogue::Currency::GBP,
        minimum: rules.minimum,
        maximum: rules.maximum,
        step: span(rules.step_minutes * MINUTE),
    });
    let site = Site {
        business: BusinessId(business),
        time_zone: crate::base::zone::test_zone(of.zone.name()),
        cut_off: of.cut_off,
        idle_limit: span(of.idle_limit),
        linger: span(of.linger),
        debounce: span(of.debounce),
        toggle_minimum_stay: span(of.toggle_minimum_stay),
        minimum_dwell: span(of.minimum_dwell),
        record_every_visit: of.record_every_visit,
        network_opens: match of.network_opens {
            NetworkOpens::Always => crate::policy::site::NetworkOpens::Always,
            NetworkOpens::AfterDoor => crate::policy::site::NetworkOpens::AfterDoor,
            NetworkOpens::Never => crate::policy::site::NetworkOpens::Never,
        },
        passes: PassPolicy { week_starts_on: of.week_starts_on, pay_as_you_go, ..PassPolicy::default() },
        ..crate::policy::site::test_site()
    };
    let door = |action, on_in| {
        let pattern = door_name(action).to_owned();
        Door { name: pattern.clone(), pattern, on_in, on_out: DoorAction::Record }
    };
    let doors = vec![
        door(Action::CheckIn, DoorAction::CheckIn),
        door(Action::CheckOut, DoorAction::CheckOut),
        door(Action::Toggle, DoorAction::Toggle),
        door(Action::Activity, DoorAction::Activity),
    ];
    SitePolicy { site, doors }
}

/// The directory's versions for the engine, earliest first.
pub(super) fn versions(scenario: &Scenario) -> Vec<(WallTime, Arc<crate::directory::Directory>)> {
    let mut sorted: Vec<&Directory> = scenario.directories.iter().collect();
    sorted.sort_by_key(|directory| directory.from);
    let version = |(number, directory): (i64, &Directory)| {
        (WallTime::from_millis(directory.from), Arc::new(built(number, directory)))
    };
    (1..).zip(sorted).map(version).collect()
}

/// All of them.
pub(super) fn directories(scenario: &Scenario) -> DirectoryHistory {
    let mut versions = versions(scenario).into_iter();
    let (_, first) = versions.next().expect("there is a directory");
    let mut history = DirectoryHistory::only(first);
    for (from, version) in versions {
        history.add(from, version);
    }
    history
}

fn built(number: i64, of: &Directory) -> crate::directory::Directory {
    let mut builder = Builder::new(number, "key");
    for (kind, document, basis_at) in documents(of) {
        builder.add_as_of(kind.read(document).expect("an entity"), WallTime::from_millis(basis_at));
    }
    builder.build()
}

/// A version as an import stores it. A missing team is archived. Every pass has a change, because the import sets the
/// time from which its usage is counted.
pub(super) fn stored(scenario: &Scenario, index: usize) -> Vec<Document> {
    let mut sorted: Vec<&Directory> = scenario.directories.iter().collect();
    sorted.sort_by_key(|directory| directory.from);
    let of = sorted[index];
    let mut all: Vec<(EntityKind, Value)> =
        documents(of).into_iter().map(|(kind, document, _)| (kind, document)).collect();
    let ever: BTreeMap<i64, &Held> = sorted.iter().flat_map(|each| &each.held).map(|held| (held.id, held)).collect();
    for held in ever.into_values() {
        if !of.held.iter().any(|there| there.id == held.id) {
            let document = json!({"Id": held.id, "CoworkerId": held.holder, "TimePassId": held.kind, "Archived": true});
            all.push((EntityKind::CoworkerTimePass, document));
        }
    }
    if of.sharing.is_empty() {
        let id = of.people.first().map_or(1, |person| person.id);
        all.push((EntityKind::Team, json!({"Id": id, "Name": "No more", "Archived": true})));
    }
    let document = |(kind, fields): (EntityKind, Value)| {
        let Value::Object(mut fields) = fields else { unreachable!("an entity") };
        if kind == EntityKind::CoworkerTimePass {
            fields.insert("Notes".to_owned(), index.into());
        }
        let id = fields.get("Id").and_then(Value::as_i64).expect("an id");
        let archived = fields.get("Archived").and_then(Value::as_bool).unwrap_or(false);
        Document::of(kind, (id, archived), fields, EntryPlace::Stored)
    };
    all.into_iter().map(document).collect()
}

/// The entities of a version and, for a pass, the time from which its usage is counted.
pub(super) fn documents(of: &Directory) -> Vec<(EntityKind, Value, i64)> {
    let mut all = Vec::new();
    let mut add = |kind, document| all.push((kind, document, 0));
    let places = of.people.first().map_or(0, |person| person.id - 1);
    for id in [places + 1, places + 2] {
        add(EntityKind::Business, json!({"Id": id, "Name": format!("Hub {id}")}));
    }
    for tariff in &of.tariffs {
        add(
            EntityKind::Tariff,
            json!({
                "Id": tariff.id, "Name": "Plan", "CheckinWeekLimit": tariff.days_week, "HoursWeekLimit": tariff.hours_week,
                "CheckinMonthLimit": tariff.days_month, "CheckinPricePlanLimit": tariff.days_cycle,
                "HoursPricePlanLimit": tariff.hours_cycle, "InvoiceEvery": tariff.invoice_every_months,
                "InvoiceEveryWeeks": tariff.invoice_every_weeks,
            }),
        );
    }
    for (team, members) in (places + 1..).zip(&of.sharing) {
        let team = json!({"Id": team, "Name": format!("Team {team}"), "TeamMembers": members, "ShareTimePasses": true});
        add(EntityKind::Team, team);
    }
    for kind in &of.kinds {
        add(EntityKind::TimePass, time_pass(kind));
    }
    for person in &of.people {
        let macs = format!("{},{}", device(person.id, 0), device(person.id, 1));
        let businesses: Vec<Value> = person.businesses.iter().map(|id| json!({"Id": id})).collect();
        add(
            EntityKind::Coworker,
            json!({
                "Id": person.id, "FullName": format!("Member {}", person.id), "Active": person.active,
                "Archived": person.archived, "AllowNetworkCheckin": person.allow_network, "TariffId": person.tariff,
                "RenewalDate": person.renews.map(|date| date.to_string()),
                "Businesses": businesses, "AccessCardId": card(person.id), "MacAddresses": macs,
            }),
        );
    }
    for held in &of.held {
        let minutes = of.kinds.iter().find(|kind| kind.id == held.kind).and_then(|kind| kind.minutes);
        let left = if minutes.is_some() { "RemainingMinutes" } else { "RemainingUses" };
        let document = json!({
            "Id": held.id, "CoworkerId": held.holder, "TimePassId": held.kind, left: held.left,
            "ExpireDate": held.expires.map(|date| date.to_string()), "IsFromTariff": held.granted,
        });
        all.push((EntityKind::CoworkerTimePass, document, held.basis_at));
    }
    all
}

/// A person's card.
pub(super) fn card(person: i64) -> String {
    (8_165_600 + person).to_string()
}

fn time_pass(kind: &Kind) -> Value {
    let face = |minute: u16| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
    let slot = |slot: &Slot| {
        json!({
            "DayOfWeek": slot.weekday.num_days_from_sunday(), "FromTime": face(slot.from_minute),
            "ToTime": face(slot.to_minute),
        })
    };
    let slots: Vec<Value> = kind.slots.iter().map(slot).collect();
    let businesses: Vec<Value> = kind.businesses.iter().map(|id| json!({"Id": id})).collect();
    let price = format!("{}.{:04}", kind.price / 10_000, kind.price % 10_000);
    let priority = ["High", "Normal", "Low"][usize::from(kind.priority)];
    json!({
        "Id": kind.id, "Name": format!("Kind {}", kind.id), "MinutesIncluded": kind.minutes,
        "Price": serde_json::from_str::<Value>(&price).expect("a number"), "UsePriority": priority,
        "CountsTowardsPlanLimits": kind.counts, "AllowNetworkCheckin": kind.allow_network, "Archived": kind.archived,
        "OnlyForMembers": kind.only_members, "OnlyForContacts": kind.only_contacts, "TimeSlots": slots,
        "Businesses": businesses, "UseAsPayAsYouGoForMembers": kind.payg_members,
        "UseAsPayAsYouGoForContacts": kind.payg_contacts,
    })
}

/// The coverage, for the engine.
pub(super) fn coverage(scenario: &Scenario) -> BTreeMap<BusinessId, coverage::Coverage> {
    let of = |business: i64| {
        let spans = scenario.coverage.iter().filter(|known| known.business == business);
        let at = WallTime::from_millis;
        (BusinessId(business), coverage::Coverage::new(spans.map(|known| (at(known.from), at(known.to)))))
    };
    (1..=2).map(of).collect()
}

/// A fact, for the engine.
#[derive(Clone, Debug)]
pub(super) enum EngineFact {
    Door(DoorFact),
    Presence(Subject, BusinessId, MacAddr, Point),
    Edit(EditFact),
}

pub(super) fn engine_fact(fact: &Fact) -> EngineFact {
    let at = WallTime::from_millis;
    let business = BusinessId(fact.business);
    match &fact.kind {
        FactKind::Door { person, door, refused, .. } => EngineFact::Door(DoorFact {
            business,
            at: at(fact.at),
            quality: TimeQuality::Device,
            arrived: at(fact.at),
            subject: Subject(*person),
            recognised: Recognised::Coworker,
            digest: FactDigest::of([fact.tie.to_be_bytes().as_slice()]),
            ordinal: fact.tie,
            source: "front".into(),
            kind: if *refused { DoorEventKind::Denied } else { DoorEventKind::Granted },
            door: DoorKey(door.clone()),
            direction: Direction::In,
            shown: Some(ShownCredential { kind: CredentialKind::Card, scope: None, value: Some(card(*person)) }),
            refusal: None,
            too_late: false,
        }),
        FactKind::Presence { person, mac, since, first_at, strong_at } => {
            let point = Point {
                last_at: at(fact.at),
                first_at: at(*first_at),
                strong_at: strong_at.map(at),
                since: at(*since),
                frames: 1,
            };
            EngineFact::Presence(Subject(*person), business, device(*person, *mac), point)
        }
        FactKind::Edit { person, label, made, was, set, by_network } => {
            let mut digest = [0; 16];
            digest[..8].copy_from_slice(&fact.tie.to_be_bytes());
            let source = if *by_network { CheckinSource::NetworkActivity } else { CheckinSource::Manual };
            EngineFact::Edit(EditFact {
                business,
                subject: Subject(*person),
                made: at(*made),
                digest: FactDigest(digest),
                visit: Uuid::from_u64_pair(person.cast_unsigned(), (*label).into()),
                source,
                by: "desk".into(),
                was: was.map(|(from, to)| TimeSpan { from: at(from), to: at(to) }),
                edit: match *set {
                    None => Edit::Removed,
                    Some((from, end)) => Edit::Set {
                        from: at(from),
                        end: match end {
                            EditEnd::At(to) => EditedEnd::At(at(to)),
                            EditEnd::NotBefore(until) => EditedEnd::NotBefore(at(until)),
                            EditEnd::Free => EditedEnd::Unset,
                            EditEnd::Joins => EditedEnd::Joins,
                        },
                        overrides: false,
                    },
                },
            })
        }
    }
}
