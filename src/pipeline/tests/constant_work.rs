//! How many statements a batch takes.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::gateway::site;
use crate::{
    base::zone::Zone,
    pipeline::{Context, Delivery, Pipeline},
};
use crate::{
    base::{
        clock::{BootTime, Clock, Now},
        health::Health,
        record::BusinessId,
        sighting::{
            Credential, CredentialKind, Direction, DoorEvent, DoorEventKind, DoorKey, Sighting, SightingKey,
            TimeQuality,
        },
        turns::Turn,
    },
    directory::{
        Builder,
        entity::{Entity, EntityKind},
        history::DirectoryHistory,
    },
    mapping::content::Content,
    metrics::Metrics,
    policy::{
        PolicyHistory, SitePolicy,
        door::{Door, DoorAction},
    },
    source::{
        Receipt,
        network::coverage::{LONGEST_GAP, SiteCoverage},
    },
    store::{SENT, tests::Fresh},
};

#[tokio::test]
async fn a_batch_takes_as_many_statements_for_a_thousand_people_as_for_one() {
    let cases = [(Passes::None, 4..=14), (Passes::Limited, 4..=18)];
    for (fresh, (passes, bound)) in [
        (Fresh::sqlite().await, cases[0].clone()),
        (Fresh::postgres().await, cases[0].clone()),
        (Fresh::sqlite().await, cases[1].clone()),
        (Fresh::postgres().await, cases[1].clone()),
    ] {
        let mut pipeline = pipeline(&fresh, passes);
        let mut statements = Vec::new();
        for people in [1..=1, 2..=1001] {
            let hour = Duration::from_hours(1);
            for (direction, offset, late) in [
                (Direction::In, 0, Duration::ZERO),
                (Direction::Out, 0, Duration::ZERO),
                (Direction::In, 1_000_000, Duration::ZERO),
                (Direction::Unknown, 0, hour),
            ] {
                let mut deliveries: Vec<Delivery> = people
                    .clone()
                    .map(|number| tap(&pipeline.context.clock, number + offset, direction, late))
                    .collect();
                let before = SENT.get();
                pipeline
                    .process_batch(&mut deliveries, Vec::new(), &CancellationToken::new())
                    .await
                    .expect("the database commits it");
                statements.push(SENT.get() - before);
            }
        }
        assert_eq!(
            statements[..4],
            statements[4..],
            "in, out, an unknown card, and late; for one, for a thousand; {passes:?}"
        );
        assert!(statements.iter().all(|statements| bound.contains(statements)), "{statements:?}");
        assert_eq!(fresh.store.checkins_between(BusinessId(1), at(0), at(i64::MAX)).await.expect("read").len(), 1001);
    }
}

fn at(millis: i64) -> crate::base::clock::WallTime {
    crate::base::clock::WallTime::from_millis(millis.min(4_000_000_000_000))
}

fn tap(clock: &Clock, number: u64, direction: Direction, late: Duration) -> Delivery {
    let now = clock.now();
    let later = if direction == Direction::Out { Duration::from_secs(1) } else { Duration::ZERO };
    let event = DoorEvent {
        kind: DoorEventKind::Granted,
        door: DoorKey("1:1".to_owned()),
        direction,
        credential: Some(Credential {
            kind: CredentialKind::Card,
            scope: None,
            value: (1_000_000 + number).to_string(),
            spellings: Vec::new(),
        }),
        refusal: None,
    };
    let sighting = Sighting {
        key: SightingKey(format!("test/{number}/{direction:?}")),
        source: Arc::from("test"),
        event_at: now.wall.plus(later).minus(late),
        time_quality: TimeQuality::Device,
        arrived: now,
        event,
    };
    Delivery::new(Arc::from("test"), Content::Sightings(vec![sighting]), Receipt::none())
}

/// The passes of the people in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passes {
    None,
    /// A plan with limits, a time pass that counts towards them, a day pass of lower priority, and pay-as-you-go.
    Limited,
}

fn pipeline(fresh: &Fresh, passes: Passes) -> Pipeline {
    let mut people = Builder::new(1, "key");
    let mut add = |kind: EntityKind, document: serde_json::Value| {
        let entity: Entity = kind.read(document).expect("an entity");
        people.add(entity);
    };
    if passes == Passes::Limited {
        add(
            EntityKind::Tariff,
            serde_json::json!({"Id": 5, "Name": "Part", "HoursWeekLimit": 9, "CheckinMonthLimit": 9}),
        );
        let counts = serde_json::json!({
            "Id": 1, "Name": "Hours", "MinutesIncluded": 600, "UsePriority": "High", "CountsTowardsPlanLimits": true,
        });
        add(EntityKind::TimePass, counts);
        add(EntityKind::TimePass, serde_json::json!({"Id": 2, "Name": "Day"}));
        let assigned = serde_json::json!({
            "Id": 3, "Name": "As you go", "MinutesIncluded": 60, "Price": 6, "UseAsPayAsYouGoForMembers": true,
        });
        add(EntityKind::TimePass, assigned);
    }
    for id in 1..=1001 {
        let card = (1_000_000 + id).to_string();
        add(
            EntityKind::Coworker,
            serde_json::json!({"Id": id, "FullName": "Ada", "AccessCardId": card, "TariffId": 5}),
        );
        for kind in (1..=2).filter(|_| passes == Passes::Limited) {
            let held = serde_json::json!({"Id": id * 10 + kind, "CoworkerId": id, "TimePassId": kind});
            add(EntityKind::CoworkerTimePass, held);
        }
    }
    // Noon: an hour earlier is on the same day.
    let noon = Now { wall: at(1_782_907_200_000), boot: BootTime::from_duration(Duration::from_hours(10)) };
    let clock = Clock::manual(noon);
    let health = Health::new(clock.clone());
    let any = Door {
        pattern: "*".to_owned(),
        name: "Any".to_owned(),
        on_in: DoorAction::CheckIn,
        on_out: DoorAction::CheckOut,
    };
    let policy = SitePolicy { site: site(Zone::utc()), doors: vec![any] };
    Pipeline::new(Context {
        turn: Turn::unwatched(clock.clone()),
        clock,
        store: fresh.store.clone(),
        business: BusinessId(1),
        policies: watch::channel(Arc::new(PolicyHistory::only(policy))).1,
        directories: watch::channel(Arc::new(DirectoryHistory::only(Arc::new(people.build())))).1,
        stale: None,
        news: None,
        spool: None,
        site_coverage: SiteCoverage::new(LONGEST_GAP),
        metrics: Metrics::new(health.clone(), &[]),
        health,
    })
}
