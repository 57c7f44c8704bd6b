//! Late facts about many people at once.

use serde_json::{Value, json};

use super::gateway::at;
use super::hub::{Act, Hub, PHONE, START};
use crate::{
    base::{
        clock::WallTime,
        record::BusinessId,
        sighting::{Direction, DoorEventKind},
    },
    directory::entity::EntityKind,
    mapping::content::{Content, RejectReason, Rejection},
    source::{Delivery, Receipt},
};

const PEOPLE: i64 = 7;

#[tokio::test]
async fn late_facts_about_many_people_are_decided_as_if_they_had_come_in_time() {
    {
        let mut hub = Hub::new((1..=PEOPLE).map(person).collect()).await;
        hub.act(&Act::Wait(120)).await;
        let exits = (1..=PEOPLE).map(|person| tap(&mut hub, person, Direction::Out, 60)).collect();
        hub.gateway.settle(exits, Vec::new()).await;
        let again = (1..=PEOPLE).map(|person| tap(&mut hub, person, Direction::In, 70)).collect();
        hub.gateway.settle(again, Vec::new()).await;
        let mut late: Vec<Delivery> = (1..=PEOPLE).map(|person| tap(&mut hub, person, Direction::In, 30)).collect();
        // A tap that arrives twice, an unknown card, a rejected message, and a person whose phone has just been seen.
        late.push(Delivery::new("front".into(), late[0].content.clone(), Receipt::none()));
        late.extend([tap(&mut hub, 99, Direction::In, 30), not_understood()]);
        hub.gateway.settle(late, vec![hub.phone()]).await;
        for person in 1..=PEOPLE {
            assert_eq!(hub.visits_of(person).await, ["09:30-10:00 None", "10:10- None"], "{person}");
        }
        assert_eq!(figure(&hub, "checkind_decided_again_total"), PEOPLE);
        assert_eq!(figure(&hub, "checkind_decisions_total"), 3 * PEOPLE + 3 + 1);
        assert_eq!(figure(&hub, "checkind_door_events_total"), 3 * PEOPLE + 3);
        assert_eq!(hub.failed().await.len(), 1, "the unknown card");
    }
}

#[tokio::test]
async fn a_tap_soon_after_a_restart_is_compared_with_the_log_and_nothing_is_decided_again() {
    let mut hub = Hub::new(vec![person(1)]).await;
    // The second repeats the first. The third follows three seconds after the second, and six after the first.
    for (seconds, direction) in [(0, Direction::In), (3, Direction::In), (6, Direction::Out)] {
        let tap = tap_at(&mut hub, 1, direction, at(START).moved(seconds * 1000));
        hub.gateway.settle(vec![tap], Vec::new()).await;
        hub.gateway.restart().await;
    }
    assert_eq!(hub.visits_of(1).await, ["09:00-09:00 None"]);
    assert_eq!(figure(&hub, "checkind_decided_again_total"), 0);
    assert_eq!(figure(&hub, "checkind_decisions_total{outcome=\"recorded\"}"), 1);
}

/// The sum of a metric over all labels, or its value with given ones.
#[tokio::test]
async fn unknown_cards_are_repeated_by_their_time_and_not_by_their_arrival() {
    let mut hub = Hub::new(vec![person(1)]).await;
    hub.act(&Act::Wait(120)).await;
    let began = hub.gateway.clock.now().wall.moved(-3_600_000);
    // The taps at 0, 4 and 8 s are one attempt, in any order of arrival.
    for after in [8000, 20_000, 0, 4000] {
        let late = tap_at(&mut hub, 99, Direction::In, began.moved(after));
        hub.gateway.settle(vec![late], Vec::new()).await;
    }
    let (from, to) = (began.moved(-1), began.moved(60_000));
    let failed =
        hub.gateway.pipeline.context.store.failed_checkins_between(BusinessId(1), from, to).await.expect("read");
    let mut after: Vec<i64> =
        failed.iter().map(|failed| failed.checkin_attempt_time.millis() - began.millis()).collect();
    after.sort_unstable();
    assert_eq!(after, [0, 20_000]);
}

fn figure(hub: &Hub, name: &str) -> i64 {
    let text = hub.gateway.pipeline.context.metrics.text(crate::metrics::TextFormat::Plain);
    let lines = text.lines().filter(|line| {
        let named = line.split(' ').next().unwrap_or_default();
        named == name || named.split('{').next() == Some(name)
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<i64>().ok()).sum()
}

/// A coworker; number 2 has a phone.
fn person(id: i64) -> (EntityKind, Value) {
    let macs = if id == 2 { PHONE.to_string() } else { String::new() };
    let person = json!({"Id": id, "FullName": format!("Member {id}"), "AccessCardId": card(id), "MacAddresses": macs});
    (EntityKind::Coworker, person)
}

fn card(person: i64) -> String {
    (8_165_600 + person).to_string()
}

/// A tap at `minute` after the start.
fn tap(hub: &mut Hub, person: i64, direction: Direction, minute: i64) -> Delivery {
    tap_at(hub, person, direction, at(START).moved(minute * 60_000))
}

fn tap_at(hub: &mut Hub, person: i64, direction: Direction, when: WallTime) -> Delivery {
    hub.delivery(&card(person), "main", (direction, DoorEventKind::Granted, None), when)
}

fn not_understood() -> Delivery {
    let rejection = Rejection { why: RejectReason::Empty, topic: "front".to_owned(), sample: String::new() };
    Delivery::new("front".into(), Content::Rejected(rejection), Receipt::none())
}
