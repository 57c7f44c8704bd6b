//! What comes late, of many people at once: decided again in portions, and only where it must be.

use std::{sync::Arc, time::Duration};

use super::tests::{Gateway, at, site};
use crate::{
    clock::{BootTime, Now, WallTime},
    directory::{
        Builder,
        entity::{Coworker, Entity},
    },
    engine::Visit,
    mac::MacAddr,
    record::BusinessId,
    settings::{Door, DoorAction},
    sighting::{
        Credential, CredentialKind, Direction, DoorEvent, DoorEventKind, DoorKey, Presence, Sighting, SightingKey,
        TimeQuality,
    },
    source::{Content, Delivery, Receipt, RejectReason, Rejection},
    store::SAID,
};

const START: &str = "2026-03-02T12:00:00Z";
const PEOPLE: i64 = 7;

#[tokio::test]
async fn what_comes_late_for_many_people_is_decided_again_in_portions() {
    let mut said = Vec::new();
    for room in [1, 3 * 2, 1000] {
        let mut hub = Hub::new().await;
        hub.gateway.pipeline.room = room;
        let exits: Vec<Delivery> = (1..=PEOPLE).map(|person| tap(person, Direction::Out, 60)).collect();
        hub.gateway.settle(exits, Vec::new()).await;
        let again: Vec<Delivery> = (1..=PEOPLE).map(|person| tap(person, Direction::In, 70)).collect();
        hub.gateway.settle(again, Vec::new()).await;
        let mut late: Vec<Delivery> = (1..=PEOPLE).map(|person| tap(person, Direction::In, 30)).collect();
        // One of them twice, nobody's card, a message that was not understood; and people who are heard just now.
        late.extend([tap(1, Direction::In, 30), tap(99, Direction::In, 30), not_understood()]);
        let heard = [2, 3].map(|person| hub.presence(person));
        let before = SAID.get();
        hub.gateway.settle(late, heard.to_vec()).await;
        said.push(SAID.get() - before);
        for person in 1..=PEOPLE {
            assert_eq!(hub.visits(person).await, ["12:30-13:00", "13:10-"], "{person}, room for {room} lines");
        }
        assert_eq!(hub.figure("checkind_decided_again_total"), PEOPLE);
        assert_eq!(hub.figure("checkind_decisions_total"), 3 * PEOPLE + 3 + 2);
        assert_eq!(hub.figure("checkind_door_events_total"), 3 * PEOPLE + 3);
        assert_eq!(hub.failed().await.len(), 1, "nobody's card");
    }
    assert!(said[0] > said[1] && said[1] > said[2], "{said:?} statements");
}

#[tokio::test]
async fn a_tap_soon_after_a_restart_is_compared_with_the_log_and_nothing_is_decided_again() {
    let mut hub = Hub::new().await;
    hub.gateway.settle(vec![tap(1, Direction::In, 0)], Vec::new()).await;
    hub.gateway.restart().await;
    let mut second = tap(1, Direction::In, 0);
    shift(&mut second, 3000);
    hub.gateway.settle(vec![second], Vec::new()).await;
    hub.gateway.restart().await;
    // Three seconds after a repetition, six after the tap itself.
    let mut third = tap(1, Direction::Out, 0);
    shift(&mut third, 6000);
    hub.gateway.settle(vec![third], Vec::new()).await;
    assert_eq!(hub.visits(1).await, ["12:00-12:00"]);
    assert_eq!(hub.figure("checkind_decided_again_total"), 0);
    assert_eq!(hub.figure("checkind_decisions_total{outcome=\"recorded\"}"), 1);
}

struct Hub {
    gateway: Gateway,
}

impl Hub {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let now = Now {
            wall: at(START).plus(Duration::from_hours(2)),
            boot: BootTime::from_duration(Duration::from_hours(10)),
        };
        let mut people = Builder::new(1, "key");
        for id in 1..=PEOPLE {
            let person = serde_json::json!({
                "Id": id, "FullName": format!("Member {id}"), "AccessCardId": card(id), "MacAddresses": phone(id).to_string(),
            });
            people.add(Entity::Coworker(serde_json::from_value::<Coworker>(person).expect("a coworker")));
        }
        let door = Door {
            pattern: "main".to_owned(),
            name: "Main".to_owned(),
            on_in: DoorAction::CheckIn,
            on_out: DoorAction::CheckOut,
        };
        Self { gateway: Gateway::with(folder, now, people.build(), vec![door], site(chrono_tz::Tz::UTC)).await }
    }

    /// The sum of a metric over its labels, or with them.
    fn figure(&self, name: &str) -> i64 {
        let text = self.gateway.pipeline.with.metrics.text();
        let lines = text.lines().filter(|line| {
            let named = line.split(' ').next().unwrap_or_default();
            named == name || named.split('{').next() == Some(name)
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<i64>().ok()).sum()
    }

    fn presence(&self, person: i64) -> Presence {
        let arrived = self.gateway.clock.now();
        let seen = arrived.wall;
        Presence {
            interface: "eth1".into(),
            mac: phone(person),
            since: seen,
            first_at: seen,
            last_at: seen,
            last_strong_at: Some(seen),
            frames: 1,
            arrived,
        }
    }

    async fn visits(&self, person: i64) -> Vec<String> {
        let face = |at: WallTime| at.utc().format("%H:%M").to_string();
        let line = |visit: &Visit| format!("{}-{}", face(visit.from), visit.to.map(face).unwrap_or_default());
        self.gateway.visits_of(person).await.iter().map(line).collect()
    }

    async fn failed(&self) -> Vec<String> {
        let (from, to) = (WallTime::from_millis(0), at("2026-04-01T00:00:00Z"));
        let failed = self.gateway.pipeline.with.store.failed_checkins_between(BusinessId(1), from, to).await;
        failed.expect("read").into_iter().filter_map(|failed| failed.description).collect()
    }
}

fn card(person: i64) -> String {
    (8_165_600 + person).to_string()
}

fn phone(person: i64) -> MacAddr {
    MacAddr::new([0x3c, 0x22, 0xfb, 0, 0, u8::try_from(person).expect("few people")])
}

/// A tap so many minutes after the start.
fn tap(person: i64, direction: Direction, minute: i64) -> Delivery {
    let event_at = at(START).moved(minute * 60_000);
    let sighting = Sighting {
        key: SightingKey(format!("{person}/{direction:?}/{event_at}")),
        source: Arc::from("front"),
        event_at,
        time_quality: TimeQuality::Device,
        arrived: Now {
            wall: at(START).plus(Duration::from_hours(2)),
            boot: BootTime::from_duration(Duration::from_hours(10)),
        },
        event: DoorEvent {
            kind: DoorEventKind::Granted,
            door: DoorKey("main".to_owned()),
            direction,
            credential: Some(Credential {
                kind: CredentialKind::Card,
                scope: None,
                value: card(person),
                spellings: Vec::new(),
            }),
            refusal: None,
        },
    };
    Delivery { source: "front".into(), content: Content::Sightings(vec![sighting]), receipt: Receipt::none() }
}

fn shift(delivery: &mut Delivery, millis: i64) {
    let Content::Sightings(sightings) = &mut delivery.content else { return };
    for sighting in sightings {
        sighting.event_at = sighting.event_at.moved(millis);
        sighting.key = SightingKey(format!("{}/{millis}", sighting.key));
    }
}

fn not_understood() -> Delivery {
    let rejection = Rejection { why: RejectReason::Empty, topic: "front".to_owned(), sample: String::new() };
    Delivery { source: "front".into(), content: Content::Rejected(rejection), receipt: Receipt::none() }
}
