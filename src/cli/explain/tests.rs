use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    explain, json,
    model::{ExplainInput, NamedSubject},
    text,
    words::door_text,
};
use crate::{
    base::{
        clock::WallTime,
        fact::{DoorFact, Fact, FactDigest, Point, PresenceFact, Recognised, ShownCredential, Subject},
        record::{BusinessId, CoworkerId},
        sighting::{CredentialKind, Direction, DoorEventKind, DoorKey, Refusal, TimeQuality},
    },
    directory::{Builder, Directory, entity::EntityKind, history::DirectoryHistory},
    engine::{
        coverage::Coverage,
        decision::{DecisionCode, Outcome},
        person::PersonState,
    },
    pipeline::decide::{FoldInput, Refold},
    policy::{
        PolicyHistory, SitePolicy,
        door::{Door, DoorAction},
        site::Site,
    },
    store::{DecidedFact, StoredPerson},
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

fn seen(points: &[&str]) -> Fact {
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

fn input(directories: DirectoryHistory, facts: Vec<DecidedFact>, now: &str) -> ExplainInput {
    let mut case = FoldInput { refold: Some(Refold { facts, ..Refold::default() }), ..FoldInput::default() };
    case.group.people.insert(ADA, PersonState::default());
    case.current.insert(ADA, StoredPerson::default());
    let name = "Ada".to_owned();
    let title = "Ada (coworker 11)".to_owned();
    ExplainInput {
        who: NamedSubject { coworker: Some((CoworkerId(11), name)), title, subjects: BTreeSet::from([ADA]) },
        business: BusinessId(1),
        from: at("01T00:00:00"),
        now: at(now),
        directories,
        policies: policies(),
        coverage: BTreeMap::from([(BusinessId(1), Coverage::new([(at("01T00:00:00"), at(now))]))]),
        cases: vec![case],
        logged: Vec::new(),
        set_aside: Vec::new(),
    }
}

#[test]
fn a_day_is_in_order_and_repeated_sightings_are_one_line() {
    let facts = vec![
        row(&Fact::Door(door(1, "01T08:30:05", Direction::In)), Outcome::Opened, None),
        row(&Fact::Door(door(2, "01T08:30:07", Direction::In)), Outcome::Recorded, Some("repeated_tap")),
        row(&seen(&["01T08:31:00", "01T08:32:00", "01T08:33:00"]), Outcome::Refreshed, None),
        row(&seen(&["01T09:00:00", "01T09:30:00"]), Outcome::Refreshed, None),
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
    let shown = text(&explain(input(directories, facts, "01T17:00:00")));
    insta::assert_snapshot!(shown, @r#"
    Ada (coworker 11), from 2026-07-01 01:00 to 2026-07-01 18:00 at Hub One
    Wed 2026-07-01
      09:30:05  door "Side entrance" (side of board), in: card 8165538, granted -> opened: checked in with the time pass "10 hours", until 12:00:05 when its minutes are used up
      09:30:07  door "Side entrance" (side of board), in: card 8165538, granted -> recorded, repeated_tap: the same credential at the same door again, too soon
      09:31:00  network eth0, 3c:22:fb:00:00:01: seen 5 times from 09:30:40 to 10:30:00 -> refreshed: still here
      11:15:00  idle limit -> closed, silence: no device seen for 45 min, out as of 10:30:00
      12:30:00  door "Side entrance" (side of board), in: card 8165538, refused by the controller, outside hours (arrived 2 h 10 min late) -> failed, refused_outside_hours: the door controller refused: outside the permitted hours
      13:00:00  door "Side entrance" (side of board), in: card 8165538, granted (arrival time used) -> opened: checked in with the time pass "10 hours", until 14:30:05 when its minutes are used up [the log has "failed, no_valid_pass: the coworker has no pass and no pay-as-you-go pass applies; sell or grant one" instead: a bug, or a change by hand]
      14:30:05  end of the pass -> closed, pass_end: the pass no longer covers the visit; opened: continues with pay-as-you-go "Desk"
      17:00:00  check-in elsewhere -> closed, in_elsewhere: checked in at another business
      18:00:00  at Hub Two, door "Side entrance" (side of board), in: card 8165538, granted -> opened: checked in with pay-as-you-go "Desk"
    Check-ins
      2026-07-01 09:30:05 to 10:30:00, 59 min, closed automatically, opened by door, the time pass "10 hours"
      2026-07-01 13:00:00 to 14:30:05, 1 h 30 min, closed automatically, opened by door, the time pass "10 hours"
      2026-07-01 14:30:05 to 17:00:00, 2 h 29 min, closed automatically, opened by door, pay-as-you-go "Desk", charged 15.00 GBP for 150 min
      2026-07-01 18:00:00, still in, until an exit, or the cut-off at 2026-07-02 00:00:00, opened by door, at Hub Two, pay-as-you-go "Desk", charged 1.50 GBP for 15 min so far
    "#);
}

#[test]
fn changes_by_a_new_directory_version_are_shown() {
    let mut directories = DirectoryHistory::only(directory(1, true, 600));
    directories.add(at("01T09:00:00"), directory(2, true, 120));
    directories.add(at("01T09:30:00"), directory(3, true, 120));
    directories.add(at("01T10:00:00"), directory(4, false, 120));
    let facts = vec![
        row(&Fact::Door(door(1, "01T08:30:05", Direction::In)), Outcome::Opened, None),
        row(&Fact::Door(door(2, "01T11:00:00", Direction::In)), Outcome::Failed, Some("coworker_inactive")),
    ];
    let shown = text(&explain(input(directories, facts, "02T12:00:00")));
    insta::assert_snapshot!(shown, @r#"
    Ada (coworker 11), from 2026-07-01 01:00 to 2026-07-02 13:00 at Hub One
    Wed 2026-07-01
      09:30:05  door "Side entrance" (side of board), in: card 8165538, granted -> opened: checked in with the time pass "10 hours", until 19:30:05 when its minutes are used up
      10:00:00  directory version 2 in force -> refreshed: now the time pass "10 hours", until 11:30:05 when its minutes are used up
      11:00:00  directory version 4 in force -> closed, withdrawn: no longer allowed in
      12:00:00  door "Side entrance" (side of board), in: card 8165538, granted -> failed, coworker_inactive: the coworker is not active
    Check-ins
      2026-07-01 09:30:05 to 11:00:00, 1 h 29 min, closed automatically, opened by door, the time pass "10 hours"
    "#);
}

#[test]
fn without_a_pass_the_charge_is_shown_and_the_open_check_in() {
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
    let explained = explain(input(directories, facts, "01T13:00:00"));
    insta::assert_snapshot!(text(&explained), @r#"
    Ada (coworker 11), from 2026-07-01 01:00 to 2026-07-01 14:00 at Hub One
    Wed 2026-07-01
      09:30:00  door "Side entrance" (side of board), in: card 8165538, granted -> opened: checked in with pay-as-you-go "Desk"
      11:00:00  door "Side entrance" (side of board), out: card 8165538, granted -> closed: checked out
      13:00:00  door "Side entrance" (side of board), in: card 8165538, granted -> opened: checked in with pay-as-you-go "Desk"
      13:30:00  door "Side entrance" (side of board), out: card 8165538, granted -> recorded, late: arrived more than 8 days late, too late to be decided
    Check-ins
      2026-07-01 09:30:00 to 11:00:00, 1 h 30 min, checked out at a door, opened by door, pay-as-you-go "Desk", charged 9.00 GBP for 90 min
      2026-07-01 13:00:00, still in, until an exit, or the cut-off at 2026-07-02 00:00:00, opened by door, pay-as-you-go "Desk", charged 1.50 GBP for 15 min so far
    "#);
    let value: Value = serde_json::from_str(&json(&explained)).expect("JSON");
    assert_eq!(value["Checkins"][0]["Charge"]["Final"], true);
    assert_eq!(value["Events"][0]["AtLocal"], "2026-07-01T09:30:00");
}

#[test]
fn doors_and_clocks_are_put_in_words() {
    let shown = |change: fn(&mut DoorFact)| {
        let mut fact = door(1, "01T08:30:00", Direction::Unknown);
        change(&mut fact);
        door_text(&fact, &policies())
    };
    let shown = [
        shown(|fact| fact.quality = TimeQuality::Corrected),
        shown(|fact| fact.arrived = fact.at.moved(-180_000)),
        shown(|fact| fact.kind = DoorEventKind::UnknownCredential),
        shown(|fact| fact.shown = Some(ShownCredential { kind: CredentialKind::Pin, scope: None, value: None })),
        shown(|fact| fact.shown = Some(ShownCredential { kind: CredentialKind::Card, scope: None, value: None })),
        shown(|fact| fact.door = DoorKey("side\u{1b}[2J".to_owned())),
    ];
    insta::assert_snapshot!(shown.join("\n"), @r#"
    door "Side entrance" (side of board): card 8165538, granted (controller's clock corrected)
    door "Side entrance" (side of board): card 8165538, granted (controller's clock 3 min ahead)
    door "Side entrance" (side of board): card 8165538, unknown to the controller
    door "Side entrance" (side of board): PIN, granted
    door "Side entrance" (side of board): PIN or short number, granted
    door side[2J of board: card 8165538, granted
    "#);
}
