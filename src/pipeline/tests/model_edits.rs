//! The reference model's own tests for edits by hand: a day at two hubs, with the rows that must follow.

use chrono::NaiveTime;

use super::{
    model::{
        Action, Business, Coverage, Direction, Directory, EditEnd, Fact, FactKind, Held, Kind, NetworkOpens,
        PassesAsked, Person, Records, Scenario, Settings, day_around, records,
    },
    scenario::{Dice, MINUTE, add_edit, scenario},
};
use EditEnd::{At, Free, Joins, NotBefore};

/// The beginning of the day: a Monday.
const START: i64 = 1_772_409_600_000;

/// An instant of the day: `930` is half past nine.
const fn t(clock: i64) -> i64 {
    START + (clock / 100 * 60 + clock % 100) * MINUTE
}

/// Two hubs and one person who needs no pass: the day is one record.
fn hubs() -> Scenario {
    let settings = Settings {
        from: 0,
        zone: chrono_tz::UTC,
        cut_off: NaiveTime::MIN,
        idle_limit: 45 * MINUTE,
        linger: 10 * MINUTE,
        debounce: 5000,
        toggle_minimum_stay: MINUTE,
        minimum_dwell: 0,
        record_every_visit: false,
        network_opens: NetworkOpens::Always,
        week_starts_on: chrono::Weekday::Mon,
        pay_as_you_go: None,
    };
    let person = Person {
        id: 1,
        active: true,
        archived: false,
        businesses: Vec::new(),
        allow_network: true,
        tariff: None,
        renews: None,
    };
    let directory = Directory {
        from: 0,
        people: vec![person],
        tariffs: Vec::new(),
        kinds: Vec::new(),
        held: Vec::new(),
        sharing: Vec::new(),
        passes_asked: PassesAsked::IfAny,
    };
    let coverage = |business| Coverage { business, from: START, to: t(4800) };
    Scenario {
        start: START,
        businesses: [1, 2].map(|id| Business { id, settings: vec![settings.clone()] }).to_vec(),
        directories: vec![directory],
        facts: Vec::new(),
        coverage: vec![coverage(1), coverage(2)],
        now: t(4800),
    }
}

/// The same with two time passes of one kind, of so many minutes each.
fn with_passes(minutes: u32) -> Scenario {
    let mut scenario = hubs();
    let kind = Kind {
        id: 1,
        minutes: Some(60),
        price: 0,
        priority: 0,
        counts: false,
        allow_network: true,
        archived: false,
        only_members: false,
        only_contacts: false,
        tariffs: Vec::new(),
        businesses: Vec::new(),
        slots: Vec::new(),
        payg_members: false,
        payg_contacts: false,
    };
    let held =
        |id| Held { id, holder: 1, kind: 1, left: minutes, basis_at: 0, expires: None, price: None, granted: false };
    scenario.directories[0].kinds = vec![kind];
    scenario.directories[0].held = vec![held(1), held(2)];
    scenario
}

fn fact(business: i64, at: i64, kind: FactKind) -> Fact {
    Fact { business, at, tie: 0, kind }
}

fn tap(business: i64, at: i64, action: Action) -> Fact {
    let door = format!("{action:?}");
    fact(business, at, FactKind::Door { person: 1, door, direction: Direction::In, action, refused: false })
}

fn enters(business: i64, at: i64) -> Fact {
    tap(business, at, Action::CheckIn)
}

fn exits(business: i64, at: i64) -> Fact {
    tap(business, at, Action::CheckOut)
}

fn refused(business: i64, at: i64) -> Fact {
    let mut tap = enters(business, at);
    if let FactKind::Door { refused, .. } = &mut tap.kind {
        *refused = true;
    }
    tap
}

/// Strong evidence of device 7.
fn seen(business: i64, first_at: i64, at: i64) -> Fact {
    fact(business, at, FactKind::Presence { person: 1, mac: 7, since: first_at, first_at, strong_at: Some(at) })
}

/// Weak evidence of device 8.
fn weak(business: i64, at: i64) -> Fact {
    fact(business, at, FactKind::Presence { person: 1, mac: 8, since: at, first_at: at, strong_at: None })
}

fn edit((business, label, made): (i64, u32, i64), was: Option<(i64, i64)>, set: Option<(i64, EditEnd)>) -> Fact {
    let begins = [was.map(|was| was.0), set.map(|set| set.0)].into_iter().flatten().min();
    let kind = FactKind::Edit { person: 1, label, made, was, set, by_network: false };
    fact(business, begins.expect("an edit of something"), kind)
}

fn by_network(mut edit: Fact) -> Fact {
    if let FactKind::Edit { by_network, .. } = &mut edit.kind {
        *by_network = true;
    }
    edit
}

/// The records in words: business, from, to and last activity, then what is not the usual.
fn rows(records: &Records) -> Vec<String> {
    let clock = |at: i64| {
        let minutes = (at - START).div_euclid(MINUTE);
        format!("{:02}:{:02}", minutes / 60, minutes % 60)
    };
    let visits = records.visits.iter().map(|visit| {
        let to = visit.to.map_or("now".to_owned(), clock);
        let mut row =
            vec![format!("{} {}-{to} last {}", visit.business, clock(visit.from), clock(visit.last_activity))];
        row.extend(visit.auto_checkout.then(|| "auto".to_owned()));
        row.extend(visit.by_network.then(|| "network".to_owned()));
        row.extend(visit.macs.iter().map(|mac| format!("device {mac}")));
        let held = visit.pass.as_ref().and_then(|pass| pass.held);
        row.extend(held.map(|held| format!("pass {held}")));
        row.join(" ")
    });
    let failures = records
        .failures
        .iter()
        .map(|failure| format!("failed {} {} {}", failure.business, clock(failure.at), failure.code));
    visits.chain(failures).collect()
}

/// Compares the rows of each case: what it shows, its facts, and what must follow.
#[track_caller]
fn assert_rows(base: &Scenario, cases: Vec<(&str, Vec<Fact>, Vec<&str>)>) {
    for (what, facts, expected) in cases {
        let mut scenario = base.clone();
        scenario.facts = facts;
        for (tie, fact) in (0..).zip(&mut scenario.facts) {
            fact.tie = tie;
        }
        assert_eq!(rows(&records(&scenario)), expected, "{what}");
    }
}

#[test]
fn the_latest_edit_of_a_label_sets_the_visit_and_all_pin_absences() {
    let first = || edit((1, 1, t(1300)), Some((t(900), t(1200))), Some((t(1000), At(t(1200)))));
    assert_rows(
        &hubs(),
        vec![
            (
                "E1: the later edit sets the end, and the earlier one still pins the absence until ten",
                vec![
                    enters(1, t(900)),
                    enters(1, t(930)),
                    exits(1, t(1200)),
                    edit((1, 1, t(1400)), Some((t(1000), t(1200))), Some((t(1000), At(t(1100))))),
                    first(),
                    enters(1, t(1130)),
                    enters(1, t(1200)),
                ],
                vec!["1 10:00-11:00 last 11:00", "1 12:00-24:00 last 12:00 auto"],
            ),
            (
                "E1: of two edits made at one instant the greater tie number is later",
                vec![first(), edit((1, 1, t(1300)), Some((t(1000), t(1200))), None)],
                vec![],
            ),
            (
                "E1: the part before and the part after are both absences",
                vec![
                    edit((1, 1, t(1300)), Some((t(900), t(1200))), Some((t(1000), At(t(1100))))),
                    enters(1, t(930)),
                    enters(1, t(1130)),
                ],
                vec!["1 10:00-11:00 last 11:00"],
            ),
            (
                "E1: a visit without a pinned end leaves no absence after its beginning",
                vec![
                    edit((1, 1, t(1300)), Some((t(900), t(1200))), Some((t(1000), Free))),
                    enters(1, t(930)),
                    enters(1, t(1130)),
                ],
                vec!["1 10:00-24:00 last 11:30 auto"],
            ),
            (
                "E13: an edit that begins after now does not exist",
                vec![edit((1, 1, t(5000)), None, Some((t(4801), Free)))],
                vec![],
            ),
        ],
    );
}

#[test]
fn facts_in_a_running_span_only_refresh() {
    let span = || edit((1, 1, t(1300)), None, Some((t(1000), At(t(1200)))));
    assert_rows(
        &hubs(),
        vec![
            (
                "E3: an exit is activity, and an entry elsewhere is nothing",
                vec![span(), exits(1, t(1030)), enters(2, t(1100)), seen(2, t(1100), t(1101))],
                vec!["1 10:00-12:00 last 12:00"],
            ),
            (
                "E3: presences add their devices, also weak ones",
                vec![span(), weak(1, t(1030)), seen(1, t(1040), t(1050)), enters(2, t(1130))],
                vec!["1 10:00-12:00 last 12:00 device 7 device 8"],
            ),
            (
                "E3: a refused tap is a failed check-in and refreshes nothing",
                vec![
                    by_network(edit((1, 1, t(1300)), None, Some((t(1000), NotBefore(t(4800)))))),
                    refused(1, t(1030)),
                    refused(2, t(1040)),
                ],
                vec![
                    "1 10:00-24:00 last 10:00 auto network",
                    "failed 1 10:30 refused_denied",
                    "failed 2 10:40 refused_denied",
                ],
            ),
            (
                "E3: a toggle in the span is an entry, and the next one after it an exit",
                vec![
                    edit((1, 1, t(1100)), None, Some((t(1000), NotBefore(t(1100))))),
                    tap(1, t(1030), Action::Toggle),
                    tap(1, t(1040), Action::Toggle),
                    tap(1, t(1130), Action::Toggle),
                ],
                vec!["1 10:00-11:30 last 11:30"],
            ),
            (
                "E5: without a door entry the next toggle is one",
                vec![
                    edit((1, 1, t(1100)), None, Some((t(1000), NotBefore(t(1100))))),
                    tap(1, t(1130), Action::Toggle),
                    tap(1, t(1140), Action::Toggle),
                ],
                vec!["1 10:00-11:40 last 11:40"],
            ),
        ],
    );
}

#[test]
fn facts_in_an_absence_decide_nothing() {
    let deleted = || edit((1, 1, t(1300)), Some((t(1000), t(1200))), None);
    let mut inactive = hubs();
    inactive.directories[0].people[0].active = false;
    assert_rows(
        &hubs(),
        vec![
            (
                "E4: no one comes in, and a refusal by the controller is a failed check-in",
                vec![deleted(), enters(1, t(1000)), seen(1, t(1100), t(1130)), refused(1, t(1140))],
                vec!["failed 1 11:40 refused_denied"],
            ),
            (
                "E4: at the end it is over",
                vec![deleted(), enters(1, t(1200)), exits(1, t(1230))],
                vec!["1 12:00-12:30 last 12:30"],
            ),
            (
                "E4: a tap in it is remembered for the debounce",
                vec![deleted(), enters(1, t(1200) - 3000), enters(1, t(1200)), enters(1, t(1300))],
                vec!["1 13:00-24:00 last 13:00 auto"],
            ),
            (
                "E4: evidence in it does not linger",
                vec![
                    enters(1, t(900)),
                    exits(1, t(955)),
                    edit((1, 1, t(1300)), Some((t(957), t(1001))), None),
                    seen(1, t(959), t(1000)),
                    seen(1, t(1006), t(1007)),
                    exits(1, t(1008)),
                ],
                vec!["1 09:00-10:08 last 10:08 device 7"],
            ),
            (
                "E4: a running span goes before an absence",
                vec![
                    deleted(),
                    edit((1, 2, t(1300)), None, Some((t(1030), At(t(1100))))),
                    seen(1, t(1040), t(1040)),
                    seen(1, t(1130), t(1130)),
                ],
                vec!["1 10:30-11:00 last 11:00 device 7"],
            ),
        ],
    );
    assert_rows(
        &inactive,
        vec![(
            "E4: admission does not refuse in it",
            vec![deleted(), enters(1, t(1100)), enters(1, t(1230))],
            vec!["failed 1 12:30 coworker_inactive"],
        )],
    );
}

#[test]
fn a_pinned_visit_ends_what_is_open_and_is_its_own_record() {
    let pinned = |business| edit((business, 1, t(1300)), None, Some((t(1100), At(t(1200)))));
    assert_rows(
        &hubs(),
        vec![
            (
                "E5: what is open at the same business and not tracked ends at its beginning",
                vec![enters(1, t(900)), pinned(1)],
                vec!["1 09:00-11:00 last 09:00 auto", "1 11:00-12:00 last 12:00"],
            ),
            (
                "E5: a tracked visit ends at its last activity",
                vec![enters(1, t(1000)), seen(1, t(1030), t(1040)), pinned(2)],
                vec!["1 10:00-10:40 last 10:40 auto device 7", "2 11:00-12:00 last 12:00"],
            ),
            (
                "E5: a running span ends with it and does not resume",
                vec![
                    edit((1, 2, t(1300)), None, Some((t(1000), At(t(1230))))),
                    pinned(2),
                    enters(1, t(1210)),
                    exits(1, t(1220)),
                ],
                vec!["1 10:00-11:00 last 10:00 auto", "1 12:10-12:20 last 12:20", "2 11:00-12:00 last 12:00"],
            ),
            (
                "E5: it reopens no block",
                vec![enters(1, t(900)), exits(1, t(1000)), pinned(1)],
                vec!["1 09:00-10:00 last 10:00", "1 11:00-12:00 last 12:00"],
            ),
            (
                "E5: of two at one instant the later edit counts",
                vec![edit((2, 2, t(1230)), None, Some((t(1100), Free))), pinned(1)],
                vec!["1 11:00-12:00 last 12:00"],
            ),
        ],
    );
    let mut after_door = hubs();
    for business in &mut after_door.businesses {
        business.settings[0].network_opens = NetworkOpens::AfterDoor;
    }
    assert_rows(
        &after_door,
        vec![
            (
                "E5: the person counts as let in by a door",
                vec![pinned(1), seen(1, t(1300), t(1300)), exits(1, t(1310))],
                vec!["1 11:00-12:00 last 12:00", "1 13:00-13:10 last 13:10 network device 7"],
            ),
            (
                "E5: but not if the record says that the network opened it",
                vec![by_network(pinned(1)), seen(1, t(1300), t(1300)), exits(1, t(1310))],
                vec!["1 11:00-12:00 last 12:00 network"],
            ),
            (
                "E3: unless a door said so in the span",
                vec![by_network(pinned(1)), enters(1, t(1130)), seen(1, t(1300), t(1300)), exits(1, t(1310))],
                vec!["1 11:00-12:00 last 12:00 network", "1 13:00-13:10 last 13:10 network device 7"],
            ),
        ],
    );
}

#[test]
fn a_pinned_visit_uses_the_pass_that_admission_chooses() {
    let pinned = |business| edit((business, 1, t(1300)), None, Some((t(1100), At(t(1200)))));
    assert_rows(
        &with_passes(600),
        vec![
            (
                "E5: the pass goes on from the other business",
                // Pass 1 has less left than pass 2, and would not be chosen by itself.
                vec![enters(1, t(1000)), pinned(2), enters(1, t(1230)), exits(1, t(1240))],
                vec![
                    "1 10:00-11:00 last 10:00 auto pass 1",
                    "1 12:30-12:40 last 12:40 pass 2",
                    "2 11:00-12:00 last 12:00 pass 1",
                ],
            ),
            (
                "E5: it is chosen again at the same business",
                vec![enters(1, t(1000)), pinned(1)],
                vec!["1 10:00-11:00 last 10:00 auto pass 1", "1 11:00-12:00 last 12:00 pass 2"],
            ),
        ],
    );
    assert_rows(
        &with_passes(30),
        vec![(
            "E11: all its minutes count, although its pass had fewer",
            vec![pinned(1), enters(1, t(1300)), exits(1, t(1310))],
            vec!["1 11:00-12:00 last 12:00 pass 1", "1 13:00-13:10 last 13:10 pass 2"],
        )],
    );
    assert_rows(
        &with_passes(0),
        vec![("E5: existence is pinned if admission refuses", vec![pinned(1)], vec!["1 11:00-12:00 last 12:00"])],
    );
}

#[test]
fn an_absence_ends_what_is_open() {
    let shorter = || edit((1, 1, t(1300)), Some((t(900), t(1200))), None);
    assert_rows(
        &hubs(),
        vec![
            (
                "E6: at its beginning, if no device was seen",
                vec![enters(1, t(800)), shorter()],
                vec!["1 08:00-09:00 last 08:00 auto"],
            ),
            (
                "E6: at the last activity, if one was",
                vec![enters(1, t(800)), seen(1, t(830), t(840)), shorter()],
                vec!["1 08:00-08:40 last 08:40 auto device 7"],
            ),
            (
                "E6: not while a span is running, and not later either",
                vec![
                    edit((1, 2, t(1000)), None, Some((t(830), NotBefore(t(1000))))),
                    shorter(),
                    exits(1, t(1130)),
                    exits(1, t(1210)),
                ],
                vec!["1 08:30-12:10 last 12:10"],
            ),
        ],
    );
}

#[test]
fn a_pinned_end_is_like_an_exit_but_never_reopened() {
    let pinned = || edit((1, 1, t(1300)), Some((t(1000), t(1200))), Some((t(1000), At(t(1100)))));
    let longer = || edit((1, 1, t(1300)), Some((t(1000), t(1030))), Some((t(1000), At(t(1100)))));
    assert_rows(
        &hubs(),
        vec![
            (
                "E7: the absence follows at once",
                vec![enters(1, t(1000)), pinned(), exits(1, t(1200))],
                vec!["1 10:00-11:00 last 11:00"],
            ),
            (
                "E7: the device lingers",
                vec![longer(), seen(1, t(1101), t(1102)), seen(1, t(1110), t(1111))],
                vec!["1 10:00-11:00 last 11:00"],
            ),
            (
                "E7: a return is a new record, and the next return reopens that one",
                vec![longer(), enters(1, t(1120)), exits(1, t(1130)), enters(1, t(1140)), exits(1, t(1150))],
                vec!["1 10:00-11:00 last 11:00", "1 11:20-11:50 last 11:50"],
            ),
            (
                "E7: an older block is not reopened past it",
                vec![
                    enters(1, t(900)),
                    exits(1, t(930)),
                    edit((2, 1, t(1300)), None, Some((t(1000), At(t(1100))))),
                    enters(1, t(1120)),
                    exits(1, t(1130)),
                ],
                vec!["1 09:00-09:30 last 09:30", "1 11:20-11:30 last 11:30", "2 10:00-11:00 last 11:00"],
            ),
            (
                "E7: a visit may last no time at all",
                vec![edit((1, 1, t(1300)), None, Some((t(1000), At(t(1000))))), enters(2, t(1000)), exits(2, t(1010))],
                vec!["1 10:00-10:00 last 10:00", "2 10:00-10:10 last 10:10"],
            ),
        ],
    );
}

#[test]
fn nothing_but_the_cut_off_ends_a_running_span() {
    assert_rows(
        &hubs(),
        vec![
            (
                "E8: no silence",
                vec![edit((1, 1, t(2000)), None, Some((t(1000), At(t(1800))))), seen(1, t(1010), t(1010))],
                vec!["1 10:00-18:00 last 18:00 device 7"],
            ),
            (
                "E8: the cut-off ends it, at the last activity",
                vec![
                    edit((1, 1, t(2600)), None, Some((t(1000), At(t(2500))))),
                    seen(1, t(1010), t(1010)),
                    enters(2, t(2430)),
                ],
                vec!["1 10:00-10:10 last 10:10 auto device 7", "2 24:30-48:00 last 24:30 auto"],
            ),
        ],
    );
    assert_rows(
        &with_passes(60),
        vec![(
            "E8: no end of its pass",
            vec![edit((1, 1, t(2000)), None, Some((t(1000), At(t(1800)))))],
            vec!["1 10:00-18:00 last 18:00 pass 1"],
        )],
    );
    let mut left = hubs();
    left.directories.push(Directory { from: t(1100), people: Vec::new(), ..left.directories[0].clone() });
    assert_rows(
        &left,
        vec![
            (
                "E8: no new directory",
                vec![edit((1, 1, t(2000)), None, Some((t(1000), At(t(1800)))))],
                vec!["1 10:00-18:00 last 18:00"],
            ),
            (
                "C36: nor is it made up for at the end of the span",
                vec![edit((1, 1, t(2000)), None, Some((t(1000), NotBefore(t(1130)))))],
                vec!["1 10:00-24:00 last 11:30 auto"],
            ),
            (
                "E12: at the very end of a span it is over for a new directory",
                vec![edit((1, 1, t(2000)), None, Some((t(1000), NotBefore(t(1100)))))],
                vec!["1 10:00-11:00 last 11:00 auto"],
            ),
        ],
    );
}

#[test]
fn a_reopened_visit_is_like_any_other_from_then_on() {
    let open = || edit((1, 1, t(1200)), Some((t(1000), t(1100))), Some((t(1000), NotBefore(t(1200)))));
    assert_rows(
        &hubs(),
        vec![
            ("E9: it stays open", vec![open()], vec!["1 10:00-24:00 last 12:00 auto"]),
            (
                "E9: silence counts from there",
                vec![open(), seen(1, t(1010), t(1010)), enters(2, t(1240)), exits(2, t(1250))],
                vec!["1 10:00-12:00 last 12:00 auto device 7", "2 12:40-12:50 last 12:50"],
            ),
            (
                "E9: an exit at that instant is one",
                vec![open(), exits(1, t(1159)), exits(1, t(1200))],
                vec!["1 10:00-12:00 last 12:00"],
            ),
            (
                "E9: a visit with only a beginning ends as facts say",
                vec![
                    edit((1, 1, t(1200)), Some((t(1000), t(1100))), Some((t(930), Free))),
                    enters(1, t(1000)),
                    exits(1, t(1100)),
                ],
                vec!["1 09:30-11:00 last 11:00"],
            ),
        ],
    );
    assert_rows(
        &with_passes(60),
        vec![
            (
                "E9: a pass that ended before ends it then, and the other goes on",
                vec![open()],
                vec![
                    "1 10:00-12:00 last 12:00 auto pass 1",
                    "1 12:00-13:00 last 12:00 auto pass 2",
                    "failed 1 13:00 pass_used_up",
                ],
            ),
            (
                "C33: an exit at that instant goes before it",
                vec![open(), exits(1, t(1200))],
                vec!["1 10:00-12:00 last 12:00 pass 1"],
            ),
        ],
    );
}

#[test]
fn presences_move_no_beginning_past_an_edit() {
    let absence = || edit((1, 1, t(1300)), Some((t(900), t(1000))), None);
    let pinned = || edit((1, 1, t(1300)), None, Some((t(1000), Free)));
    let mut strong_before = seen(1, t(930), t(1005));
    if let FactKind::Presence { strong_at, .. } = &mut strong_before.kind {
        *strong_at = Some(t(959));
    }
    assert_rows(
        &hubs(),
        vec![
            (
                "E10: a door's visit is moved by evidence from before it",
                vec![enters(1, t(1000)), seen(1, t(930), t(1005)), exits(1, t(1010))],
                vec!["1 09:30-10:10 last 10:10 network device 7"],
            ),
            (
                "E10: a pinned one is not",
                vec![pinned(), seen(1, t(930), t(1005)), exits(1, t(1010))],
                vec!["1 10:00-10:10 last 10:10 device 7"],
            ),
            (
                "E10: nor one across an absence",
                vec![absence(), enters(1, t(1001)), seen(1, t(930), t(1005)), exits(1, t(1010))],
                vec!["1 10:01-10:10 last 10:10 device 7"],
            ),
            (
                "E10: but one since the absence",
                vec![absence(), enters(1, t(1004)), seen(1, t(1002), t(1005)), exits(1, t(1010))],
                vec!["1 10:02-10:10 last 10:10 network device 7"],
            ),
            (
                "E10: a visit of the network does not begin in an absence",
                vec![absence(), seen(1, t(930), t(1005)), exits(1, t(1010))],
                vec!["1 10:05-10:10 last 10:10 network device 7"],
            ),
            ("E10: and strong evidence from it opens nothing", vec![absence(), strong_before], vec![]),
        ],
    );
}

#[test]
fn evidence_in_an_absence_is_the_next_evidence_of_a_silence() {
    let mut every = hubs();
    every.businesses[0].settings[0].record_every_visit = true;
    // The visit goes on into the absence, and its device was last heard in its span.
    let edits = || {
        vec![
            edit((1, 1, t(1400)), None, Some((t(1000), NotBefore(t(1100))))),
            edit((1, 2, t(1400)), Some((t(1030), t(1300))), None),
            seen(1, t(1050), t(1050)),
        ]
    };
    let with = |facts: Vec<Fact>| edits().into_iter().chain(facts).collect::<Vec<Fact>>();
    assert_rows(
        &every,
        vec![
            (
                "E14: evidence that reaches back far enough ends the silence",
                with(vec![seen(1, t(1140), t(1305)), exits(1, t(1310))]),
                vec!["1 10:00-13:10 last 13:10 device 7"],
            ),
            (
                "E14: but not after evidence in the absence that does not",
                with(vec![seen(1, t(1200), t(1200)), seen(1, t(1140), t(1305)), exits(1, t(1310))]),
                vec!["1 10:00-11:00 last 11:00 auto device 7", "1 13:05-13:10 last 13:10 network device 7"],
            ),
        ],
    );
}

#[test]
fn exits_at_the_instant_of_an_edit() {
    let pinned = || edit((2, 1, t(1300)), None, Some((t(1100), At(t(1200)))));
    assert_rows(
        &hubs(),
        vec![
            (
                "C33: an exit at the beginning of a span is inside, and is none",
                vec![enters(1, t(1000)), exits(1, t(1100)), pinned()],
                vec!["1 10:00-11:00 last 10:00 auto", "2 11:00-12:00 last 12:00"],
            ),
            (
                "C33: nor is one at the beginning of an absence",
                vec![enters(1, t(1000)), exits(1, t(1100)), edit((1, 1, t(1300)), Some((t(1100), t(1200))), None)],
                vec!["1 10:00-11:00 last 10:00 auto"],
            ),
            (
                "C33: but one at its end is an exit",
                vec![
                    edit((1, 2, t(1300)), None, Some((t(1130), NotBefore(t(1200))))),
                    edit((1, 1, t(1300)), Some((t(1100), t(1200))), None),
                    exits(1, t(1200)),
                ],
                vec!["1 11:30-12:00 last 12:00"],
            ),
            (
                "E12: a visit with only a beginning has no span, so the exit comes first",
                vec![
                    enters(1, t(1000)),
                    exits(1, t(1100)),
                    edit((2, 1, t(1300)), None, Some((t(1100), Free))),
                    exits(2, t(1200)),
                ],
                vec!["1 10:00-11:00 last 11:00", "2 11:00-12:00 last 12:00"],
            ),
            (
                "E12: an entry at the end of a span is after it",
                vec![pinned(), enters(1, t(1200)), exits(1, t(1210))],
                vec!["1 12:00-12:10 last 12:10", "2 11:00-12:00 last 12:00"],
            ),
        ],
    );
}

/// The scenarios for the properties, each with the numbers that made it.
fn edited_scenarios() -> impl Iterator<Item = (Scenario, Dice)> {
    (0..150).map(|seed| {
        let mut dice = Dice(seed * 7919 + 5);
        let mut scenario = scenario(&mut dice);
        for _ in 0..=dice.below(5) {
            add_edit(&mut dice, &mut scenario);
        }
        (scenario, dice)
    })
}

#[test]
fn the_order_and_the_number_of_copies_of_facts_change_nothing() {
    let mut edits = 0;
    for (scenario, mut dice) in edited_scenarios() {
        let expected = records(&scenario);
        let mut other = scenario.clone();
        for at in (1..other.facts.len()).rev() {
            other.facts.swap(at, usize::try_from(dice.below(at as u64 + 1)).expect("small"));
        }
        assert_eq!(records(&other), expected, "shuffled: {scenario:?}");
        let is_edit = |fact: &&Fact| matches!(fact.kind, FactKind::Edit { .. });
        let copies: Vec<Fact> = other.facts.iter().filter(is_edit).cloned().collect();
        edits += copies.len();
        other.facts.extend(copies);
        assert_eq!(records(&other), expected, "twice: {scenario:?}");
    }
    assert!(edits > 100, "{edits} edits");
}

#[test]
fn what_the_generator_sets_stays_in_its_pass_day_and_shows_in_the_records() {
    let mut shown = [0; 3];
    for (scenario, _) in edited_scenarios() {
        let edits = scenario.facts.iter().filter_map(|fact| match fact.kind {
            FactKind::Edit { person, label, made, was, set, .. } => Some((fact, person, label, made, was, set)),
            FactKind::Door { .. } | FactKind::Presence { .. } => None,
        });
        let edits: Vec<_> = edits.collect();
        let visits = records(&scenario).visits;
        for &(fact, person, label, made, was, set) in &edits {
            assert!(made <= scenario.now && was.is_none_or(|(from, to)| from <= to && to <= made), "{fact:?}");
            // Who joins a visit need not begin one.
            let Some((from, end)) = set.filter(|(_, end)| *end != EditEnd::Joins) else { continue };
            let latest = made.min(day_around(&scenario, fact.business, from).1);
            let until = match end {
                At(to) | NotBefore(to) => to,
                Free | Joins => from,
            };
            assert!(from <= until && until <= latest, "{fact:?}");
            let later = |other: &(&Fact, i64, u32, i64, _, Option<(i64, EditEnd)>)| {
                let same = other.2 == label || other.1 == person && other.5.is_some_and(|(begins, _)| begins == from);
                same && (other.3, other.0.tie) > (made, fact.tie)
            };
            if edits.iter().any(later) {
                continue;
            }
            let row =
                visits.iter().find(|row| row.person == person && row.business == fact.business && row.from == from);
            let row = row.unwrap_or_else(|| panic!("no visit of {fact:?} in {scenario:?}"));
            match end {
                At(to) => shown[0] += i32::from(row.to == Some(to) && !row.auto_checkout),
                NotBefore(_) => shown[1] += 1,
                Free | Joins => shown[2] += 1,
            }
        }
    }
    assert!(shown.into_iter().all(|times| times > 10), "{shown:?}");
}
