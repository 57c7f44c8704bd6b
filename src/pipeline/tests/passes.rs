//! Passes through the whole pipeline: every reason, and what happens during a visit when a pass ends.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    gateway::at,
    hub::{Act, Hub, PHONE, coworker, day_pass, held, merged, minutes},
};
use crate::{
    base::{
        clock::WallTime,
        record::BusinessId,
        sighting::{Direction, DoorEventKind, Refusal},
    },
    directory::entity::EntityKind,
    engine::decision::Reason,
    pipeline::Pipeline,
    policy::passes::PassesAsked,
};

/// A code, the entities of the directory, the events, and the text for the front desk.
type Case = (&'static str, Vec<(EntityKind, Value)>, Vec<Act>, &'static str);

/// A person at a door or on the network produces each reason, and its text is enough for the front desk.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table with a row per reason")]
async fn every_reason_is_produced_through_the_pipeline() {
    use EntityKind::{Coworker, CoworkerTimePass as Held, Tariff, TimePass};
    let ada = |more: Value| {
        (Coworker, merged(json!({"Id": 7, "FullName": "Ada", "AccessCardId": "700", "MacAddresses": PHONE}), more))
    };
    let plain = || ada(json!({}));
    let kind = |more: Value| (TimePass, merged(json!({"Id": 1, "Name": "Hours", "MinutesIncluded": 600}), more));
    let day = || (TimePass, json!({"Id": 1, "Name": "Day"}));
    let held = |more: Value| (Held, merged(json!({"Id": 1, "CoworkerId": 7, "TimePassId": 1}), more));
    let limited = |limit: &str| {
        vec![
            (Tariff, json!({"Id": 5, "Name": "Part time", limit: 1})),
            ada(json!({"TariffId": 5})),
            kind(json!({"CountsTowardsPlanLimits": true})),
            held(json!({})),
        ]
    };
    let card = || vec![Act::Tap("700")];
    let hours = || vec![Act::Tap("700"), Act::Wait(60), Act::Tap("700")];
    let two_days = || vec![Act::Tap("700"), Act::Out("700"), Act::Wait(24 * 60), Act::Tap("700")];
    let cases: Vec<Case> = vec![
        ("unrecognised_card", vec![], vec![Act::Tap("1234567")], "no coworker has this card"),
        ("unrecognised_device", vec![], vec![Act::Seen], "no coworker has a device"),
        (
            "ambiguous_card",
            vec![plain(), (Coworker, json!({"Id": 8, "FullName": "Bob", "AccessCardId": "700"}))],
            card(),
            "more than one coworker has this card",
        ),
        (
            "ambiguous_device",
            vec![plain(), (Coworker, json!({"Id": 8, "FullName": "Bob", "MacAddresses": PHONE}))],
            vec![Act::Seen],
            "more than one coworker has a device",
        ),
        ("coworker_inactive", vec![ada(json!({"Active": false}))], card(), "not active"),
        ("coworker_archived", vec![ada(json!({"Archived": true}))], card(), "archived"),
        ("other_business", vec![ada(json!({"Businesses": [9]}))], card(), "does not belong"),
        (
            "network_not_allowed",
            vec![ada(json!({"AllowNetworkCheckin": false}))],
            vec![Act::Seen],
            "is not allowed to check in by network",
        ),
        ("duress", vec![plain()], vec![Act::Event(DoorEventKind::Duress, None)], "duress"),
        ("door_not_configured", vec![plain()], vec![Act::Elsewhere], "no [[door]]"),
        (
            "plan_limit_days_week",
            limited("CheckinWeekLimit"),
            two_days(),
            "Part time\": 1 day from 2026-03-02 to 2026-03-08",
        ),
        ("plan_limit_days_month", limited("CheckinMonthLimit"), two_days(), "1 day from 2026-03-01 to 2026-03-31"),
        ("plan_limit_days_cycle", limited("CheckinPricePlanLimit"), two_days(), "1 day from 2026-03-01 to 2026-03-31"),
        ("plan_limit_hours_week", limited("HoursWeekLimit"), hours(), "1 hour from 2026-03-02 to 2026-03-08"),
        ("plan_limit_hours_month", limited("HoursMonthLimit"), hours(), "1 hour from 2026-03-01 to 2026-03-31"),
        ("plan_limit_hours_cycle", limited("HoursPricePlanLimit"), hours(), "1 hour from 2026-03-01 to 2026-03-31"),
        ("no_valid_pass", vec![plain(), day()], card(), "pass"),
        ("pass_archived", vec![plain(), kind(json!({"Archived": true})), held(json!({}))], card(), "Hours"),
        (
            "pass_not_for_customer",
            vec![plain(), kind(json!({"OnlyForMembers": true})), held(json!({}))],
            card(),
            "Hours",
        ),
        ("pass_other_business", vec![plain(), kind(json!({"Businesses": [9]})), held(json!({}))], card(), "Hours"),
        (
            "pass_expired",
            vec![plain(), kind(json!({})), held(json!({"ExpireDate": "2026-02-27"}))],
            card(),
            "was valid until the end of 2026-02-27",
        ),
        ("pass_used_up", vec![plain(), day(), held(json!({"RemainingUses": 1}))], two_days(), "Day"),
        (
            "pass_outside_hours",
            vec![
                plain(),
                kind(json!({"TimeSlots": [{"DayOfWeek": 2, "FromTime": "09:00", "ToTime": "17:00"}]})),
                held(json!({})),
            ],
            card(),
            "is valid Tue 09:00-17:00",
        ),
        (
            "pass_no_network",
            vec![plain(), kind(json!({"AllowNetworkCheckin": false})), held(json!({}))],
            vec![Act::Seen],
            "Hours",
        ),
        (
            "pass_in_use",
            vec![
                plain(),
                (Coworker, json!({"Id": 8, "FullName": "Bob", "AccessCardId": "800"})),
                kind(json!({})),
                held(json!({})),
                (EntityKind::Team, json!({"Id": 3, "Name": "Rocket", "TeamMembers": [7, 8], "ShareTimePasses": true})),
            ],
            vec![Act::Tap("700"), Act::Wait(5), Act::Tap("800")],
            "of Ada has been in use since 2026-03-02 09:00",
        ),
    ];
    let mut seen = BTreeSet::new();
    for (code, entities, acts, text) in cases {
        let mut hub = Hub::new(entities).await;
        for act in &acts {
            hub.act(act).await;
        }
        let failed = hub.failed().await;
        let last = failed.last().unwrap_or_else(|| panic!("{code}: no failed check-in"));
        assert!(last.starts_with(&format!("{code}: ")) && last.contains(text), "{code}: {last}");
        seen.insert(code.to_owned());
    }
    for refusal in Refusal::ALL {
        let mut hub = Hub::new(vec![plain()]).await;
        hub.act(&Act::Event(DoorEventKind::Denied, Some(refusal))).await;
        let code = Reason::RefusedByController(refusal).code();
        assert!(hub.failed().await.iter().any(|failed| failed.starts_with(&format!("{code}: "))), "{code}");
        seen.insert(code.to_owned());
    }
    let all: BTreeSet<String> = Reason::all().map(|reason| reason.code().to_owned()).collect();
    assert_eq!(seen, all, "each reason must have a case here");
}

#[tokio::test]
async fn with_a_day_pass_the_day_is_one_block_unless_every_visit_is_recorded() {
    for (every, visits) in [(false, vec!["09:00-11:00 Day"]), (true, vec!["09:00-09:30 Day", "10:30-11:00 Day"])] {
        let mut hub = Hub::new(day_pass()).await;
        hub.change_site(|book| book.site.record_every_visit = every);
        hub.taps(&[(0, true), (30, false), (90, true), (120, false)]).await;
        assert_eq!(hub.visits().await, visits);
    }
}

#[tokio::test]
async fn with_a_time_pass_every_visit_is_its_own_and_uses_its_minutes() {
    let mut hub = Hub::new(minutes(60)).await;
    hub.taps(&[(0, true), (30, false), (90, true), (150, false)]).await;
    assert_eq!(hub.visits().await, ["09:00-09:30 Time", "10:30-11:00 Time auto"], "the minutes are used up at eleven");
    assert_eq!(
        hub.failed().await,
        ["pass_used_up"].map(Hub::description),
        "and the front desk got a failed check-in then"
    );
}

#[tokio::test]
async fn a_visit_continues_by_the_next_pass_or_pay_as_you_go_when_the_minutes_run_out() {
    let mut entities = minutes(60);
    entities.push((
        EntityKind::TimePass,
        json!({
            "Id": 4, "Name": "As you go", "MinutesIncluded": 60, "Price": 6, "UseAsPayAsYouGoForContacts": true,
        }),
    ));
    let mut hub = Hub::new(entities).await;
    hub.taps(&[(0, true), (100, false)]).await;
    assert_eq!(hub.visits().await, ["09:00-10:00 Time auto", "10:00-10:40 PayAsYouGo"]);
    assert_eq!(hub.charges().await, ["45 min 450 final"]);
    assert!(hub.failed().await.is_empty());
}

#[tokio::test]
async fn a_charge_is_provisional_during_a_visit_and_final_at_its_end() {
    let as_you_go =
        json!({"Id": 4, "Name": "As you go", "MinutesIncluded": 60, "Price": 6, "UseAsPayAsYouGoForContacts": true});
    let mut hub = Hub::new(vec![coworker(), (EntityKind::TimePass, as_you_go)]).await;
    hub.act(&Act::Tap("700")).await;
    assert_eq!(hub.charges().await, ["15 min 150"]);
    hub.act(&Act::Wait(20)).await;
    hub.gateway.restart().await;
    hub.act(&Act::Out("700")).await;
    assert_eq!(hub.charges().await, ["30 min 300 final"]);
}

#[tokio::test]
async fn the_network_decides_whether_a_person_with_a_device_stayed() {
    let mut hub = Hub::new(minutes(60)).await;
    hub.act(&Act::Seen).await;
    for _ in 0..4 {
        hub.act(&Act::Wait(20)).await;
        hub.act(&Act::Seen).await;
    }
    assert_eq!(hub.visits().await, ["09:00-10:00 Time auto"], "until the minutes end: the phone was seen at ten");
    assert_eq!(hub.failed().await, [Hub::description("pass_used_up")], "at ten, and only once a day");

    let mut hub = Hub::new(minutes(60)).await;
    hub.act(&Act::Seen).await;
    hub.act(&Act::Wait(40)).await;
    hub.act(&Act::Seen).await;
    hub.act(&Act::Wait(60)).await;
    assert_eq!(hub.visits().await, ["09:00-09:40 Time auto"], "not seen again, so no more minutes are used");
}

#[tokio::test]
async fn a_slot_and_an_expiry_end_a_visit_when_they_come() {
    let slot = json!({"TimeSlots": [{"DayOfWeek": 1, "FromTime": "08:00", "ToTime": "10:00"}]});
    for (kind, held) in [(slot, json!({})), (json!({}), json!({"ExpireDate": "2026-03-02T10:00:00Z"}))] {
        let mut hub = Hub::new(vec![
            coworker(),
            (EntityKind::TimePass, merged(json!({"Id": 1, "Name": "Hours", "MinutesIncluded": 600}), kind)),
            (EntityKind::CoworkerTimePass, merged(json!({"Id": 1, "CoworkerId": 7, "TimePassId": 1}), held)),
        ])
        .await;
        hub.taps(&[(0, true), (90, false)]).await;
        assert_eq!(hub.visits().await, ["09:00-10:00 Time auto"]);
        assert_eq!(hub.failed().await.len(), 1);
    }
}

#[tokio::test]
async fn an_import_that_archives_a_person_or_a_pass_ends_the_visit() {
    let archived = (EntityKind::Coworker, json!({"Id": 7, "FullName": "Ada", "AccessCardId": "700", "Archived": true}));
    let mut hub = Hub::new(minutes(600)).await;
    hub.taps(&[(0, true), (20, true)]).await;
    hub.import(vec![archived]).await;
    assert_eq!(hub.visits().await, ["09:00-09:20 Time auto"]);

    let mut hub = Hub::new(minutes(600)).await;
    hub.taps(&[(0, true), (20, true)]).await;
    hub.import(vec![
        coworker(),
        (EntityKind::TimePass, json!({"Id": 1, "Name": "Hours", "MinutesIncluded": 600, "Archived": true})),
        held(),
    ])
    .await;
    assert_eq!(hub.visits().await, ["09:00-09:20 Time auto"]);
    assert_eq!(hub.failed().await.len(), 1, "the front desk gets a failed check-in");
}

#[tokio::test]
async fn an_import_that_leaves_the_pass_as_it_was_changes_nothing_and_more_minutes_last_longer() {
    let mut hub = Hub::new(minutes(60)).await;
    hub.taps(&[(0, true), (20, true)]).await;
    hub.import(minutes(60)).await;
    assert_eq!(hub.visits().await, ["09:00- Time"]);
    hub.import(minutes(180)).await;
    hub.taps(&[(150, false)]).await;
    assert_eq!(hub.visits().await, ["09:00-11:30 Time"]);
}

#[tokio::test]
async fn a_plan_that_changes_during_a_visit_counts_from_the_next_one_on_and_the_record_keeps_the_old() {
    let plan = |id: i64, name: &str| (EntityKind::Tariff, json!({"Id": id, "Name": name}));
    let person = |tariff: i64| {
        (EntityKind::Coworker, json!({"Id": 7, "FullName": "Ada", "AccessCardId": "700", "TariffId": tariff}))
    };
    let mut hub = Hub::new(vec![plan(5, "Full time"), person(5)]).await;
    hub.act(&Act::Tap("700")).await;
    hub.import(vec![plan(5, "Full time"), plan(6, "Part time"), person(6)]).await;
    hub.taps(&[(30, false), (60, true)]).await;
    let store = &hub.gateway.pipeline.context.store;
    let (from, to) = (WallTime::from_millis(0), at("2026-03-03T00:00:00Z"));
    let records = store.checkins_between(BusinessId(1), from, to).await.expect("read");
    let plans: Vec<_> = records.iter().map(|record| record.tariff_at_the_time_of_checkin.as_deref()).collect();
    assert_eq!(plans, [Some("Full time"), Some("Part time")]);
}

/// Ada and Bob, who share `left` minutes.
fn sharing(left: u32) -> Vec<(EntityKind, Value)> {
    let mut entities = minutes(left);
    entities.push((EntityKind::Coworker, json!({"Id": 8, "FullName": "Bob", "AccessCardId": "800"})));
    entities
        .push((EntityKind::Team, json!({"Id": 3, "Name": "Rocket", "TeamMembers": [7, 8], "ShareTimePasses": true})));
    entities
}

#[tokio::test]
async fn two_who_share_minutes_and_come_in_the_same_moment_do_not_both_use_them() {
    let mut hub = Hub::new(sharing(60)).await;
    let when = hub.gateway.clock.now().wall;
    let both =
        ["700", "800"].map(|card| hub.delivery(card, "main", (Direction::In, DoorEventKind::Granted, None), when));
    hub.gateway.settle(both.into(), Vec::new()).await;
    assert_eq!(hub.visits().await, ["09:00- Time"]);
    assert!(hub.failed().await.iter().all(|failed| failed.starts_with("pass_in_use")));
    assert_eq!(hub.failed().await.len(), 1);
}

/// Within one backlog, each person uses the minutes once the person before has left.
#[tokio::test]
async fn those_who_share_minutes_take_turns_also_in_one_batch() {
    for (first, second) in [("700", "800"), ("800", "700")] {
        let mut hub = Hub::new(sharing(60)).await;
        let start = hub.gateway.clock.now().wall;
        hub.gateway.pass(Duration::from_mins(30)).await;
        let mut backlog = Vec::new();
        for (minute, card, way) in [
            (0, first, Direction::In),
            (2, second, Direction::In),
            (5, first, Direction::Out),
            (6, second, Direction::In),
            (9, second, Direction::Out),
            (10, first, Direction::In),
        ] {
            let at = start.moved(minute * 60_000);
            backlog.push(hub.delivery(card, "main", (way, DoorEventKind::Granted, None), at));
        }
        backlog.reverse();
        hub.gateway.settle(backlog, Vec::new()).await;
        let in_order = hub.visits_of(if first == "700" { 7 } else { 8 }).await;
        assert_eq!(in_order, ["09:00-09:05 Time", "09:10- Time"], "{first}");
        assert_eq!(hub.visits_of(if first == "700" { 8 } else { 7 }).await, ["09:06-09:09 Time"], "{first}");
        let failed = hub.failed().await;
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(failed[0].starts_with("pass_in_use"), "{failed:?}");
    }
}

/// Usage by a sharer counts even after they leave the team, during a visit or after it.
#[tokio::test]
async fn use_of_a_shared_pass_stays_used_when_a_member_leaves_the_team() {
    for leaves_first in [true, false] {
        let mut hub = Hub::new(sharing(60)).await;
        hub.act(&Act::Tap("800")).await;
        hub.act(&Act::Wait(40)).await;
        if leaves_first {
            hub.act(&Act::Out("800")).await;
        }
        let mut alone = minutes(60);
        alone.push((EntityKind::Coworker, json!({"Id": 8, "FullName": "Bob", "AccessCardId": "800"})));
        hub.import(alone).await;
        hub.act(&Act::Wait(5)).await;
        hub.act(&Act::Tap("700")).await;
        hub.act(&Act::Wait(60)).await;
        assert_eq!(hub.visits_of(8).await.len(), 1, "{leaves_first}");
        assert_eq!(hub.visits_of(7).await, ["09:45-10:05 Time auto"], "{leaves_first}");
    }
}

/// A cut-off in the middle of a backlog does not take the minutes from the person who was in until then.
#[tokio::test]
async fn a_sharer_keeps_the_minutes_until_the_visit_ends_whatever_follows_in_the_backlog() {
    for (first, second) in [("700", "800"), ("800", "700")] {
        let mut hub = Hub::new(sharing(1000)).await;
        let start = hub.gateway.clock.now().wall;
        hub.gateway.pass(Duration::from_hours(16)).await;
        let mut backlog = Vec::new();
        for (hour, card, way) in [(13, first, Direction::In), (14, second, Direction::In), (14, first, Direction::Out)]
        {
            let at = start.moved(hour * 3_600_000 + i64::from(way == Direction::Out) * 60_000);
            backlog.push(hub.delivery(card, "main", (way, DoorEventKind::Granted, None), at));
        }
        hub.gateway.settle(backlog, Vec::new()).await;
        assert_eq!(hub.visits_of(if first == "700" { 7 } else { 8 }).await, ["22:00-23:01 Time"], "{first}");
        assert_eq!(hub.visits_of(if first == "700" { 8 } else { 7 }).await, [""; 0], "{first}");
        let failed = hub.failed().await;
        assert!(failed.len() == 1 && failed[0].starts_with("pass_in_use"), "{failed:?}");
    }
}

#[tokio::test]
async fn two_openings_within_a_quarter_of_an_hour_are_decided_again_like_others() {
    let mut hub = Hub::new(vec![coworker()]).await;
    hub.act(&Act::Seen).await;
    hub.act(&Act::Wait(1)).await;
    hub.act(&Act::Out("700")).await;
    hub.act(&Act::Wait(12)).await;
    hub.act(&Act::Seen).await;
    hub.act(&Act::Wait(5)).await;
    hub.act(&Act::Seen).await;
    hub.late_exit(14).await;
    assert_eq!(hub.visits().await, ["09:00-09:01 None", "09:13-09:14 None"]);
}

#[tokio::test]
async fn the_timer_of_a_visit_that_another_gateway_has_closed_is_forgotten() {
    let mut hub = Hub::new(vec![coworker()]).await;
    hub.act(&Act::Tap("700")).await;
    let now = hub.gateway.clock.now().wall;
    let exit = hub.delivery("700", "main", (Direction::Out, DoorEventKind::Granted, None), now);
    let mut other = Pipeline::new(hub.gateway.pipeline.context.clone());
    other.process_batch(&mut vec![exit], Vec::new(), &CancellationToken::new()).await.expect("another gateway commits");
    hub.act(&Act::Wait(16 * 60)).await;
    assert_eq!(hub.gateway.pipeline.present.len(), 0);
    assert_eq!(hub.visits().await, ["09:00-09:00 None"]);
}

#[tokio::test]
async fn a_late_exit_gives_minutes_back_and_takes_a_failed_check_in_with_it() {
    let mut hub = Hub::new(minutes(60)).await;
    hub.taps(&[(0, true), (90, true)]).await;
    let at_end = Hub::description("pass_used_up");
    assert_eq!(hub.visits().await, ["09:00-10:00 Time auto"]);
    let at_door = at_end.replace(')', "; at Main)");
    assert_eq!(hub.failed().await, [at_end, at_door], "when the minutes ended, and at the door");
    hub.late_exit(30).await;
    assert_eq!(hub.visits().await, ["09:00-09:30 Time", "10:30- Time"]);
    assert!(hub.failed().await.is_empty());
}

#[tokio::test]
async fn a_record_keeps_what_an_earlier_directory_decided_when_something_comes_late() {
    let mut hub = Hub::new(vec![coworker()]).await;
    hub.taps(&[(0, true), (60, false), (90, true)]).await;
    hub.change_site(|book| book.site.passes.asked = PassesAsked::Required);
    hub.import(vec![coworker()]).await;
    hub.late_exit(30).await;
    let visits = hub.visits().await;
    assert_eq!(visits.first().map(String::as_str), Some("09:00-09:30 None"), "{visits:?}");
}
