//! Late facts, in edge cases: cut-offs, steps of the clock, retention, lost confirmations, charges.

use std::{sync::Arc, time::Duration};

use chrono::NaiveTime;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    gateway::at,
    hub::{Act, Hub, PHONE, START, coworker, day_pass, minutes},
};
use crate::{
    base::{
        clock::{CONFIRMED_AFTER, WallTime},
        fact::LogDay,
        record::{BusinessId, CoworkerId},
        sighting::{Direction, DoorEventKind, Presence, Refusal},
    },
    directory::entity::EntityKind,
    engine::decision::Outcome,
    pipeline::{
        Pipeline,
        decide::{FoldInput, Refold},
    },
    policy::HISTORY,
    source::{Delivery, Receipt},
    store::{
        Expired, LoggedFact,
        tests::{Fresh, contract},
    },
};

const ENTRY: (Direction, DoorEventKind, Option<Refusal>) = (Direction::In, DoorEventKind::Granted, None);
const EXIT: (Direction, DoorEventKind, Option<Refusal>) = (Direction::Out, DoorEventKind::Granted, None);

contract!(
    a_visit_whose_commit_was_not_confirmed_ends_at_the_cut_off,
    a_pass_that_ends_and_another_that_begins_at_one_instant_can_come_again,
    a_cut_off_of_a_time_that_comes_twice_comes_twice,
    presences_on_both_sides_of_a_cut_off_are_two_visits_also_when_something_comes_late,
    what_the_cut_off_wrote_stays_when_the_next_day_is_decided_again,
    a_day_that_was_paid_for_before_a_step_of_the_clock_is_paid_once,
    facts_in_the_future_after_a_step_back_make_nothing_late,
    a_timer_in_the_future_after_a_step_back_is_not_due,
    a_visit_that_ends_in_the_future_makes_nothing_late,
    facts_of_a_clock_that_was_ahead_decide_nothing_before_their_time,
    a_visit_that_began_earlier_than_was_known_is_charged_from_there,
    a_visit_that_began_earlier_than_was_known_uses_its_minutes_from_there,
    retention_leaves_what_may_still_be_folded_again,
    a_fact_that_is_too_old_does_not_stop_others_from_being_decided_again,
    a_fact_that_is_too_old_is_only_recorded,
    an_earlier_refusal_stays_when_a_later_import_would_admit_the_person,
    a_refusal_that_has_another_reason_now_is_recorded_with_it,
    a_device_that_changes_hands_leaves_each_owner_their_own_line,
    a_monthly_limit_counts_visits_from_before_it_replaced_a_weekly_one,
    a_first_limit_counts_earlier_visits,
    a_weekly_limit_counts_visits_from_before_it_replaced_a_monthly_one,
    later_visits_of_a_day_cost_more_once_an_earlier_one_is_free,
    a_repetition_is_known_after_a_restart_and_a_redelivery,
    a_card_belongs_to_its_holder_of_that_time_after_a_restart_too,
    a_pass_is_what_it_was_then_after_a_restart_too,
    use_of_a_pass_before_it_was_shared_counts,
    a_pass_with_a_new_holder_begins_with_what_the_import_says,
    a_card_belongs_to_its_holder_in_the_newest_directory_even_if_that_came_meanwhile,
    a_silence_of_a_week_ago_still_ends_the_visit_in_a_refold,
);

/// A gateway that has just started, `hours` after START. The first of these versions of the directory came into force
/// at START, the others each an hour later.
async fn restarted(fresh: &Fresh, hours: u64, versions: &[Value]) -> Hub {
    for (hour, version) in (0..).zip(versions) {
        fresh.imports(&version.to_string(), at(START).moved(hour * 3_600_000).millis()).await;
    }
    let hub = Hub::on(fresh, Vec::new());
    let history = fresh.store.load_directories().await.expect("loaded");
    let only = versions.len() - 1;
    assert_eq!(history.missing(WallTime::from_millis(0)).len(), only, "only the newest is loaded");
    hub.gateway.change_directories(history);
    hub.gateway.clock.advance(Duration::from_hours(hours));
    hub
}

async fn a_card_belongs_to_its_holder_of_that_time_after_a_restart_too(fresh: Fresh) {
    let with = |ada: &str, ben: &str, eva: &str| {
        json!({"Coworkers": [
            {"Id": 7, "FullName": "Ada", "AccessCardId": ada}, {"Id": 8, "FullName": "Ben", "AccessCardId": ben},
            {"Id": 9, "FullName": "Eva", "AccessCardId": eva}]})
    };
    let versions = [with("700", "1", "2"), with("0", "700", "2"), with("0", "1", "700")];
    let mut hub = restarted(&fresh, 3, &versions).await;
    for minute in [30, 150, 90] {
        let tap = hub.delivery("700", "main", ENTRY, at(START).moved(minute * 60_000));
        hub.gateway.settle(vec![tap], Vec::new()).await;
    }
    assert_eq!(hub.visits_of(7).await, ["09:30- None"]);
    assert_eq!(hub.visits_of(8).await, ["10:30- None"]);
    assert_eq!(hub.visits_of(9).await, ["11:30- None"]);
    // In one batch; one of the facts is from before the first version.
    let exits = [59, 100, 170, -30].map(|minute| hub.delivery("700", "main", EXIT, at(START).moved(minute * 60_000)));
    hub.gateway.settle(exits.into(), Vec::new()).await;
    assert_eq!(hub.visits_of(7).await, ["09:30-09:59 None"]);
    assert_eq!(hub.visits_of(8).await, ["10:30-10:40 None"]);
    assert_eq!(hub.visits_of(9).await, ["11:30-11:50 None"]);
}

async fn a_pass_is_what_it_was_then_after_a_restart_too(fresh: Fresh) {
    // Ada holds ten hours until ten o'clock, then Ben, who shared them before. From eleven the pass is archived.
    let with = |holder: i64, members: &[i64], archived: bool| {
        json!({
            "Coworkers": [{"Id": 7, "FullName": "Ada", "AccessCardId": "700"}, {"Id": 8, "FullName": "Ben", "AccessCardId": "800"}],
            "Teams": [{"Id": 1, "Name": "Team", "ShareTimePasses": true, "TeamMembers": members}],
            "TimePasses": [{"Id": 1, "Name": "Hours", "MinutesIncluded": 600}],
            "CoworkerTimePasses": [{"Id": 1, "CoworkerId": holder, "TimePassId": 1, "RemainingMinutes": 300, "Archived": archived}],
        })
    };
    let versions = [with(7, &[7, 8], false), with(8, &[], false), with(8, &[], true)];
    let mut hub = restarted(&fresh, 4, &versions).await;
    let taps = [
        ("800", 10, ENTRY),
        ("800", 30, EXIT),
        ("700", 40, ENTRY),
        ("700", 50, EXIT),
        ("700", 70, ENTRY),
        ("800", 80, ENTRY),
    ];
    for (card, minute, what) in taps.into_iter().rev() {
        let tap = hub.delivery(card, "main", what, at(START).moved(minute * 60_000));
        hub.gateway.settle(vec![tap], Vec::new()).await;
    }
    assert_eq!(hub.visits_of(8).await, ["09:10-09:30 Time", "10:20-11:00 Time auto"]);
    assert_eq!(hub.visits_of(7).await, ["09:40-09:50 Time"]);
    assert_eq!(hub.failed().await.len(), 2, "Ada has no pass at ten past ten, and Ben loses it at eleven");
}

async fn a_visit_whose_commit_was_not_confirmed_ends_at_the_cut_off(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, vec![coworker()]);
    let tap = hub.now("700", ENTRY);
    // The database has committed it, but this process does not know: it decides the same batch again.
    let mut crashed = Pipeline::new(hub.gateway.pipeline.context.clone());
    let committed = crashed.process_batch(&mut vec![copy(&tap)], Vec::new(), &CancellationToken::new()).await;
    committed.expect("committed");
    hub.gateway.settle(vec![tap], Vec::new()).await;
    assert_eq!(hub.gateway.pipeline.present.len(), 1);
    hub.hours(16).await;
    assert_eq!(hub.visits().await, ["09:00-00:00 None auto"]);
    assert_eq!(hub.gateway.pipeline.present.len(), 0);
}

async fn a_pass_that_ends_and_another_that_begins_at_one_instant_can_come_again(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, [minutes(60), vec![by_the_minute()]].concat());
    hub.taps(&[(0, true), (70, false)]).await;
    assert_eq!(hub.visits().await, ["09:00-10:00 Time auto", "10:00-10:10 PayAsYouGo"]);
    hub.late_exit(65).await;
    assert_eq!(hub.visits().await, ["09:00-10:00 Time auto", "10:00-10:05 PayAsYouGo"], "it can be decided again");
}

async fn a_cut_off_of_a_time_that_comes_twice_comes_twice(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, vec![coworker()]);
    hub.taps(&[(0, true)]).await;
    hub.hours(16).await;
    hub.step(-24).await;
    hub.act(&Act::Tap("700")).await;
    let day = tokio::time::timeout(Duration::from_mins(1), hub.hours(24)).await;
    day.expect("the earlier line does not block the fold");
    assert_eq!(hub.visits().await, ["09:00-00:00 None auto", "02:01-00:00 None auto"]);
}

async fn presences_on_both_sides_of_a_cut_off_are_two_visits_also_when_something_comes_late(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, vec![coworker()]);
    hub.change_site(|policy| policy.site.cut_off = NaiveTime::from_hms_opt(9, 20, 0).expect("a time of day"));
    for wait in [16, 2, 4, 2] {
        hub.act(&Act::Wait(wait)).await;
        hub.act(&Act::Seen).await;
    }
    assert_eq!(hub.visits().await, ["09:16-09:18 None auto", "09:22- None"]);
    hub.act(&Act::Wait(6)).await;
    hub.late_exit(23).await;
    assert_eq!(hub.visits().await, ["09:16-09:18 None auto", "09:22-09:23 None"]);
}

async fn what_the_cut_off_wrote_stays_when_the_next_day_is_decided_again(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, vec![coworker()]);
    hub.act(&Act::Tap("700")).await;
    hub.hours(24).await;
    hub.act(&Act::Tap("700")).await;
    hub.hours(2).await;
    hub.act(&Act::Out("700")).await;
    hub.late_exit(24 * 60 + 30).await;
    assert_eq!(hub.visits().await, ["09:00-00:00 None auto", "09:00-09:30 None"]);
}

async fn a_day_that_was_paid_for_before_a_step_of_the_clock_is_paid_once(fresh: Fresh) {
    let day = json!({"Id": 4, "Name": "Day as you go", "Price": 10, "UseAsPayAsYouGoForContacts": true});
    let mut hub = Hub::on(&fresh, vec![coworker(), (EntityKind::TimePass, day)]);
    hub.act(&Act::Tap("700")).await;
    hub.step(1).await;
    hub.act(&Act::Out("700")).await;
    hub.act(&Act::Wait(30)).await;
    hub.act(&Act::Tap("700")).await;
    hub.act(&Act::Out("700")).await;
    assert_eq!(hub.visits().await, ["10:00-11:01 PayAsYouGo", "11:31-11:31 PayAsYouGo"]);
    let charges = hub.gateway.pipeline.context.store.charges(CoworkerId(7)).await.expect("read");
    let amounts: Vec<_> = charges.iter().map(|(_, amount, _, to)| (*amount, to.is_some())).collect();
    assert_eq!(amounts, [(1000, true), (0, true)]);
}

async fn facts_in_the_future_after_a_step_back_make_nothing_late(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, vec![coworker()]);
    hub.act(&Act::Tap("700")).await;
    hub.act(&Act::Wait(30)).await;
    hub.gateway.clock.step_wall(hub.wall().moved(-3_600_000));
    // Until the step is believed, records keep the time before it.
    hub.act(&Act::Wait(30)).await;
    hub.act(&Act::Tap("700")).await;
    hub.act(&Act::Wait(57)).await;
    assert_eq!(hub.wall(), at("2026-03-02T09:57:00Z"), "the step is believed");
    hub.act(&Act::Out("700")).await;
    assert_eq!(hub.visits().await, ["08:00-09:57 None"]);
    hub.act(&Act::Wait(3)).await;
    hub.refused_twice().await;
    // The day cannot be decided again. The refusals since then neither close nor open anything.
    let late = hub.at("700", ENTRY, 59);
    hub.gateway.settle(vec![late], Vec::new()).await;
    assert_eq!(hub.visits().await, ["08:00-09:57 None", "09:59- None"]);
}

async fn a_timer_in_the_future_after_a_step_back_is_not_due(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, vec![coworker()]);
    hub.act(&Act::Seen).await;
    hub.act(&Act::Wait(50)).await;
    assert_eq!(hub.visits().await, ["09:00-09:00 None auto"], "the silence has reached the limit");
    hub.act(&Act::Tap("700")).await;
    hub.step(-2).await;
    hub.act(&Act::Wait(53)).await;
    assert_eq!(hub.wall(), at("2026-03-02T09:44:00Z"), "a minute before the silence as it was before the step");
    hub.act(&Act::Out("700")).await;
    assert_eq!(hub.visits().await, ["07:00-07:00 None auto", "07:50-09:44 None"]);
    hub.refused_twice().await;
}

async fn a_visit_that_ends_in_the_future_makes_nothing_late(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, vec![coworker()]);
    hub.taps(&[(0, true), (58, false), (59, true)]).await;
    hub.step(-2).await;
    hub.act(&Act::Wait(55)).await;
    assert_eq!(hub.wall(), at("2026-03-02T09:55:00Z"));
    assert_eq!(hub.visits().await, ["07:00-07:58 None", "07:59- None"]);
    hub.act(&Act::Out("700")).await;
    assert_eq!(hub.visits().await, ["07:00-07:58 None", "07:59-09:55 None"]);
}

async fn facts_of_a_clock_that_was_ahead_decide_nothing_before_their_time(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, vec![coworker()]);
    hub.gateway.clock.step_wall(hub.wall().moved(-3_600_000));
    hub.taps(&[(70 - 25, true), (70 - 15, false)]).await;
    hub.act(&Act::Wait(30)).await;
    assert_eq!(hub.wall(), at("2026-03-02T09:25:00Z"), "the step is believed");
    hub.act(&Act::Tap("700")).await;
    assert_eq!(hub.visits().await, ["08:45-08:55 None", "09:25- None"], "what was in the future is now an hour ago");
    hub.act(&Act::Wait(10)).await;
    hub.act(&Act::Out("700")).await;
    assert_eq!(hub.visits().await, ["08:45-08:55 None", "09:25-09:35 None"]);
}

async fn a_visit_that_began_earlier_than_was_known_is_charged_from_there(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, vec![coworker(), by_the_minute()]);
    hub.taps(&[(1, true)]).await;
    assert_eq!(hub.charges().await, ["15 min 150"]);
    hub.act(&Act::Wait(15)).await;
    let exit = hub.now("700", EXIT);
    let presence = hub.presence((0, 2));
    hub.gateway.settle(vec![exit], vec![presence]).await;
    assert_eq!(hub.visits().await, ["09:00-09:16 PayAsYouGo"]);
    assert_eq!(hub.charges().await, ["30 min 300 final"]);
}

async fn a_visit_that_began_earlier_than_was_known_uses_its_minutes_from_there(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, minutes(60));
    hub.taps(&[(1, true)]).await;
    hub.act(&Act::Wait(49)).await;
    let taps = vec![hub.at("700", EXIT, 31), hub.at("700", ENTRY, 40)];
    let presence = hub.presence((0, 2));
    hub.gateway.settle(taps, vec![presence]).await;
    hub.act(&Act::Wait(60)).await;
    assert_eq!(hub.visits().await, ["09:00-09:31 Time", "09:40-10:09 Time auto"]);
}

async fn retention_leaves_what_may_still_be_folded_again(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, day_pass());
    hub.taps(&[(0, true), (30, false), (60, true), (120, false)]).await;
    hub.hours(46).await;
    let expired = hub.wall().minus(HISTORY);
    for what in [Expired::Facts, Expired::Checkpoints, Expired::Coverage] {
        assert_eq!(fresh.store.forget(what, BusinessId(1), expired).await.expect("forgotten"), 0);
    }
    hub.late_exit(90).await;
    assert_eq!(hub.visits().await, ["09:00-10:30 Day"]);
}

/// Ada comes for two hours, and again nine days later.
async fn after_nine_days(fresh: &Fresh) -> Hub {
    let mut hub = Hub::on(fresh, vec![coworker()]);
    hub.taps(&[(0, true), (120, false)]).await;
    hub.hours(9 * 24 - 2).await;
    hub.act(&Act::Tap("700")).await;
    hub.hours(2).await;
    hub.act(&Act::Out("700")).await;
    hub
}

async fn a_fact_that_is_too_old_does_not_stop_others_from_being_decided_again(fresh: Fresh) {
    let mut hub = after_nine_days(&fresh).await;
    let late = vec![hub.at("700", EXIT, 60), hub.at("700", EXIT, 9 * 24 * 60 + 60)];
    hub.gateway.settle(late, Vec::new()).await;
    assert_eq!(hub.visits().await, ["09:00-11:00 None", "09:00-10:00 None"]);
}

async fn a_fact_that_is_too_old_is_only_recorded(fresh: Fresh) {
    let mut hub = after_nine_days(&fresh).await;
    let late = vec![hub.at("700", ENTRY, 60), hub.at("700", EXIT, 9 * 24 * 60 + 60)];
    hub.gateway.settle(late, Vec::new()).await;
    assert_eq!(hub.visits().await, ["09:00-11:00 None", "09:00-10:00 None"]);
    let old = hub.log().await.into_iter().find(|line| line.event_at == minute(60)).expect("a line");
    assert_eq!(old.reason, Some("late"));
    // The same for a person with no other fact.
    let mut hub =
        Hub::on(&fresh, vec![(EntityKind::Coworker, json!({"Id": 8, "FullName": "Bob", "AccessCardId": "800"}))]);
    hub.hours(9 * 24).await;
    let late = vec![hub.at("800", ENTRY, 60)];
    hub.gateway.settle(late, Vec::new()).await;
    assert_eq!(hub.visits_of(8).await, [""; 0]);
}

async fn an_earlier_refusal_stays_when_a_later_import_would_admit_the_person(fresh: Fresh) {
    let without = day_pass().into_iter().filter(|(kind, _)| *kind != EntityKind::CoworkerTimePass).collect();
    let mut hub = Hub::on(&fresh, without);
    hub.act(&Act::Seen).await;
    hub.act(&Act::Wait(20)).await;
    hub.act(&Act::Seen).await;
    assert_eq!(hub.failed().await.len(), 1, "only once a day");
    hub.import(day_pass()).await;
    hub.act(&Act::Wait(20)).await;
    hub.act(&Act::Tap("700")).await;
    hub.late_exit(30).await;
    assert_eq!(hub.visits().await, ["09:40- Day"]);
}

async fn a_refusal_that_has_another_reason_now_is_recorded_with_it(fresh: Fresh) {
    let slot = json!([{"DayOfWeek": 1, "FromTime": "09:00", "ToTime": "11:00"}]);
    let kind = json!({"Id": 1, "Name": "Hours", "MinutesIncluded": 600, "TimeSlots": slot});
    let held = json!({"Id": 1, "CoworkerId": 7, "TimePassId": 1, "RemainingMinutes": 60});
    let entities = vec![coworker(), (EntityKind::TimePass, kind), (EntityKind::CoworkerTimePass, held)];
    let mut hub = Hub::on(&fresh, entities);
    hub.taps(&[(0, true), (150, true)]).await;
    let codes = |failed: Vec<String>| -> Vec<String> {
        failed.iter().filter_map(|text| Some(text.split_once(':')?.0.to_owned())).collect()
    };
    assert_eq!(codes(hub.failed().await), ["pass_used_up", "pass_used_up"], "when the minutes ended, and at the door");
    hub.late_exit(30).await;
    assert_eq!(codes(hub.failed().await), ["pass_outside_hours"]);
}

async fn a_device_that_changes_hands_leaves_each_owner_their_own_line(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, vec![coworker()]);
    hub.act(&Act::Seen).await;
    hub.act(&Act::Wait(2)).await;
    hub.act(&Act::Seen).await;
    let bob = json!({"Id": 8, "FullName": "Bob", "MacAddresses": PHONE});
    let ada = json!({"Id": 7, "FullName": "Ada", "AccessCardId": "700"});
    hub.import(vec![(EntityKind::Coworker, ada), (EntityKind::Coworker, bob)]).await;
    for wait in [2, 10] {
        hub.act(&Act::Wait(wait)).await;
        hub.act(&Act::Seen).await;
    }
    hub.late_exit(1).await;
    assert_eq!(hub.visits().await, ["09:00-09:01 None"]);
}

async fn a_monthly_limit_counts_visits_from_before_it_replaced_a_weekly_one(fresh: Fresh) {
    limits_change(&fresh, &json!({"HoursWeekLimit": 50}), &json!({"CheckinMonthLimit": 5})).await;
}

async fn a_first_limit_counts_earlier_visits(fresh: Fresh) {
    limits_change(&fresh, &json!({}), &json!({"CheckinMonthLimit": 5})).await;
}

async fn a_weekly_limit_counts_visits_from_before_it_replaced_a_monthly_one(fresh: Fresh) {
    limits_change(&fresh, &json!({"CheckinMonthLimit": 10}), &json!({"HoursWeekLimit": 2})).await;
}

/// Three hours in the first week and two in the second, then the plan changes: the next tap is one too many.
async fn limits_change(fresh: &Fresh, first: &Value, second: &Value) {
    let with = |limits: &Value| {
        let mut tariff = limits.clone();
        (tariff["Id"], tariff["Name"]) = (json!(5), json!("Part time"));
        let mut entities = day_pass();
        entities.push((EntityKind::Tariff, tariff));
        for (kind, entity) in &mut entities {
            match kind {
                EntityKind::TimePass => entity["CountsTowardsPlanLimits"] = json!(true),
                EntityKind::Coworker => entity["TariffId"] = json!(5),
                EntityKind::CoworkerTimePass => entity["RemainingUses"] = json!(99),
                EntityKind::Business | EntityKind::Team | EntityKind::Tariff => {}
            }
        }
        entities
    };
    let mut hub = Hub::on(fresh, with(first));
    for day in 0..9 {
        if matches!(day, 0..3 | 7..9) {
            hub.act(&Act::Tap("700")).await;
            hub.hours(1).await;
            hub.act(&Act::Out("700")).await;
            hub.hours(23).await;
        } else {
            hub.hours(24).await;
        }
    }
    assert_eq!((hub.visits().await.len(), hub.failed().await.len()), (5, 0));
    hub.import(with(second)).await;
    hub.act(&Act::Tap("700")).await;
    let refused = |failed: &[String]| failed.len() == 1 && failed.iter().all(|text| text.starts_with("plan_limit_"));
    assert!(refused(&hub.failed().await), "{:?}", hub.visits().await);
    // The same after a refold from Wednesday of the first week.
    hub.late_exit(3 * 24 * 60).await;
    assert!(refused(&hub.failed().await), "{:?}", hub.visits().await);
}

async fn later_visits_of_a_day_cost_more_once_an_earlier_one_is_free(fresh: Fresh) {
    let slot = json!({
        "Id": 1, "Name": "Early", "MinutesIncluded": 600,
        "TimeSlots": [{"DayOfWeek": 1, "FromTime": "09:00", "ToTime": "10:00"}],
    });
    let held = json!({"Id": 1, "CoworkerId": 7, "TimePassId": 1});
    let early = vec![(EntityKind::TimePass, slot), (EntityKind::CoworkerTimePass, held)];
    let mut hub = Hub::on(&fresh, [vec![coworker(), by_the_minute()], early].concat());
    hub.change_site(|policy| {
        let rules = policy.site.passes.pay_as_you_go.as_mut().expect("the default");
        rules.maximum = Some(1000);
    });
    hub.act(&Act::Wait(65)).await;
    hub.act(&Act::Seen).await;
    hub.act(&Act::Wait(55)).await;
    hub.act(&Act::Tap("700")).await;
    hub.act(&Act::Wait(120)).await;
    hub.act(&Act::Out("700")).await;
    assert_eq!(hub.visits().await, ["10:05-10:05 PayAsYouGo auto", "11:00-13:00 PayAsYouGo"]);
    assert_eq!(hub.charges().await, ["15 min 150 final", "120 min 850 final"], "a day costs at most ten");
    let late = vec![hub.at("700", ENTRY, 30), hub.at("700", EXIT, 59)];
    hub.gateway.settle(late, Vec::new()).await;
    assert_eq!(hub.visits().await, ["09:30-09:59 Time", "11:00-13:00 PayAsYouGo"], "the phone left only with Ada");
    assert_eq!(hub.charges().await, ["120 min 1000 final"]);
}

async fn a_repetition_is_known_after_a_restart_and_a_redelivery(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, vec![coworker()]);
    let refused = (Direction::In, DoorEventKind::Denied, None);
    let first = hub.now("700", refused);
    let began = hub.wall();
    hub.gateway.settle(vec![copy(&first)], Vec::new()).await;
    hub.act(&Act::Wait(1)).await;
    hub.gateway.restart().await;
    hub.gateway.settle(vec![first], Vec::new()).await;
    let repetition = hub.delivery("700", "main", refused, began.moved(2000));
    hub.gateway.settle(vec![repetition], Vec::new()).await;
    assert_eq!(hub.failed().await.len(), 1);
}

#[tokio::test]
async fn only_one_of_two_gateways_counts_a_tap_that_both_decide() {
    let fresh = Fresh::postgres().await;
    let mut hub = Hub::on(&fresh, vec![coworker()]);
    hub.taps(&[(0, true), (120, false)]).await;
    let late = hub.at("700", EXIT, 60);
    let mut other = Pipeline::new(hub.gateway.pipeline.context.clone());
    let never = CancellationToken::new();
    let (mut one, mut two) = (vec![copy(&late)], vec![late]);
    let (first, second) = tokio::join!(
        hub.gateway.pipeline.process_batch(&mut one, Vec::new(), &never),
        other.process_batch(&mut two, Vec::new(), &never),
    );
    first.and(second).expect("both commit");
    assert_eq!(hub.visits().await, ["09:00-10:00 None"]);
    let line = hub.log().await.into_iter().find(|line| line.event_at == minute(60)).expect("a line");
    assert_eq!(line.outcome, Outcome::Closed);
    let figures = hub.gateway.pipeline.context.metrics.text(crate::metrics::TextFormat::Plain);
    for (outcome, times) in [("closed", 2), ("duplicate", 1)] {
        let figure = format!("checkind_decisions_total{{outcome=\"{outcome}\"}} {times}\n");
        assert!(figures.contains(&figure), "{figure}{figures}");
    }
}

impl Hub {
    fn wall(&self) -> WallTime {
        self.gateway.clock.now().wall
    }

    /// Passes time in larger steps.
    async fn hours(&mut self, hours: u32) {
        for _ in 0..2 * hours {
            self.gateway.clock.advance(Duration::from_mins(30));
            self.gateway.capture.frame_seen(self.gateway.clock.now().boot);
            self.gateway.settle(Vec::new(), Vec::new()).await;
        }
    }

    /// Steps the wall clock by `hours`, and lets time pass until the step is believed.
    async fn step(&mut self, hours: i64) {
        let then = self.wall();
        self.gateway.clock.step_wall(then.moved(hours * 3_600_000));
        let seen = CONFIRMED_AFTER + Duration::from_mins(1);
        self.gateway.pass(seen).await;
        assert_eq!(self.wall(), then.moved(hours * 3_600_000).plus(seen));
    }

    fn now(&mut self, card: &str, what: (Direction, DoorEventKind, Option<Refusal>)) -> Delivery {
        let now = self.wall();
        self.delivery(card, "main", what, now)
    }

    /// A tap `after` minutes after the start, which arrives now.
    fn at(&mut self, card: &str, what: (Direction, DoorEventKind, Option<Refusal>), after: i64) -> Delivery {
        self.delivery(card, "main", what, minute(after))
    }

    /// A presence of the phone between two times in minutes after the start, which arrives now.
    fn presence(&self, (from, to): (i64, i64)) -> Presence {
        Presence {
            interface: "eth1".into(),
            mac: PHONE,
            since: minute(from),
            first_at: minute(from),
            last_at: minute(to),
            last_strong_at: Some(minute(to)),
            frames: 2,
            arrived: self.gateway.clock.now(),
        }
    }

    /// A refusal, and its repetition.
    async fn refused_twice(&mut self) {
        let before = self.failed().await.len();
        for _ in 0..2 {
            self.act(&Act::Event(DoorEventKind::Denied, None)).await;
            self.gateway.pass(Duration::from_secs(2)).await;
        }
        assert_eq!(self.failed().await.len(), before + 1, "the second repeats the first");
    }

    /// Every fact about Ada, in chronological order.
    async fn log(&self) -> Vec<LoggedFact> {
        let store = &self.gateway.pipeline.context.store;
        let facts = store.facts_between(BusinessId(1), WallTime::from_millis(0), far()).await.expect("read");
        facts.into_iter().filter(|fact| fact.coworker == Some(CoworkerId(7))).collect()
    }
}

fn minute(after: i64) -> WallTime {
    at(START).moved(after * 60_000)
}

fn far() -> WallTime {
    at("2027-01-01T00:00:00Z")
}

fn copy(delivery: &Delivery) -> Delivery {
    Delivery::new(Arc::clone(&delivery.source), delivery.content.clone(), Receipt::none())
}

/// Pay-as-you-go, at 1.00 for ten minutes.
fn by_the_minute() -> (EntityKind, Value) {
    let kind =
        json!({"Id": 4, "Name": "As you go", "MinutesIncluded": 60, "Price": 6, "UseAsPayAsYouGoForContacts": true});
    (EntityKind::TimePass, kind)
}

#[test]
fn a_refold_needs_the_directories_of_its_whole_first_day() {
    let of_late = Refold { from: LogDay::of(at(START)), ..Refold::default() };
    let case = FoldInput { refold: Some(of_late), ..FoldInput::default() };
    assert_eq!(case.begins(), Some(LogDay::of(at(START)).start()));
}

async fn use_of_a_pass_before_it_was_shared_counts(fresh: Fresh) {
    let with = |team: &[i64]| {
        let ben = json!({"Id": 8, "FullName": "Ben", "AccessCardId": "800"});
        let team = json!({"Id": 1, "Name": "Team", "ShareTimePasses": true, "TeamMembers": team});
        [minutes(60), vec![(EntityKind::Coworker, ben), (EntityKind::Team, team)]].concat()
    };
    let mut hub = Hub::on(&fresh, with(&[]));
    hub.taps(&[(0, true), (25, false)]).await;
    hub.import(with(&[7, 8])).await;
    hub.act(&Act::Wait(35)).await;
    hub.act(&Act::Tap("800")).await;
    hub.act(&Act::Wait(60)).await;
    assert_eq!(hub.visits().await, ["09:00-09:25 Time"]);
    assert_eq!(hub.visits_of(8).await, ["10:00-10:35 Time auto"]);
    // Ada leaves the team: her usage counts only for herself until she shares again.
    hub.import(with(&[])).await;
    hub.import(with(&[7, 8])).await;
    hub.act(&Act::Tap("700")).await;
    assert_eq!(hub.visits().await, ["09:00-09:25 Time"], "no minutes are left");
}

async fn a_pass_with_a_new_holder_begins_with_what_the_import_says(fresh: Fresh) {
    let with = |holder: i64| {
        json!({
            "Coworkers": [{"Id": 7, "FullName": "Ada", "AccessCardId": "700"}, {"Id": 8, "FullName": "Ben", "AccessCardId": "800"}],
            "TimePasses": [{"Id": 1, "Name": "Day"}],
            "CoworkerTimePasses": [{"Id": 1, "CoworkerId": holder, "TimePassId": 1, "RemainingUses": 1}],
        })
    };
    let mut hub = restarted(&fresh, 4, &[with(8), with(8), with(7)]).await;
    // Ben is in and out while he holds it, then Ada is in. Ada's visit arrives first, the rest arrives late.
    let taps = [("700", 150, ENTRY), ("800", 30, ENTRY), ("800", 40, EXIT), ("700", 10, EXIT)];
    for (card, minute, what) in taps {
        let tap = hub.delivery(card, "main", what, at(START).moved(minute * 60_000));
        hub.gateway.settle(vec![tap], Vec::new()).await;
        assert_eq!(hub.visits_of(7).await, ["11:30- Day"]);
    }
    assert_eq!(hub.visits_of(8).await, ["09:30-09:40 Day"]);
    assert_eq!(hub.failed().await, [""; 0]);
}

async fn a_card_belongs_to_its_holder_in_the_newest_directory_even_if_that_came_meanwhile(fresh: Fresh) {
    let with = |ada: &str, ben: &str| {
        json!({"Coworkers": [
            {"Id": 7, "FullName": "Ada", "AccessCardId": ada}, {"Id": 8, "FullName": "Ben", "AccessCardId": ben}]})
    };
    let mut hub = restarted(&fresh, 1, &[with("700", "1")]).await;
    let asked = std::sync::Arc::new(tokio::sync::Notify::new());
    hub.gateway.pipeline.context.stale = Some(std::sync::Arc::clone(&asked));
    // An import a minute ago that the daemon has not loaded yet, and a tap now.
    hub.act(&Act::Wait(1)).await;
    let now = hub.gateway.clock.now().wall;
    fresh.imports(&with("0", "700").to_string(), now.moved(-60_000).millis()).await;
    let tap = hub.delivery("700", "main", ENTRY, now);
    let newest = fresh.store.load_directories().await.expect("loaded");
    let loads = hub.gateway.loads_when_asked(newest, asked);
    let (mut taps, never) = (vec![tap], CancellationToken::new());
    let commits = hub.gateway.pipeline.process_batch(&mut taps, Vec::new(), &never);
    let (committed, ()) = tokio::join!(commits, loads);
    committed.expect("committed");
    assert_eq!(hub.visits_of(8).await.len(), 1, "the card is Ben's now");
    assert_eq!(hub.visits_of(7).await, [""; 0]);
}

async fn a_silence_of_a_week_ago_still_ends_the_visit_in_a_refold(fresh: Fresh) {
    let mut hub = Hub::on(&fresh, vec![coworker()]);
    for wait in [0, 10, 120, 10] {
        hub.act(&Act::Wait(wait)).await;
        hub.act(&Act::Seen).await;
    }
    hub.hours(24 * 6).await;
    let stays = ["09:00-09:10 None auto", "11:10-11:20 None auto"];
    assert_eq!(hub.visits().await, stays);
    hub.gateway.restart().await;
    hub.late_exit(200).await;
    assert_eq!(hub.visits().await, stays, "the two visits stay apart");
}

/// A gateway that takes over decides what the previous one kept in its spool. No process has the timers of these visits
/// in memory.
#[tokio::test]
async fn a_visit_that_another_gateway_has_written_ends_at_the_cut_off() {
    let fresh = Fresh::postgres().await;
    let mut hub = Hub::on(&fresh, vec![coworker()]);
    hub.act(&Act::Wait(1)).await;
    let tap = hub.now("700", ENTRY);
    let mut other = Pipeline::new(hub.gateway.pipeline.context.clone());
    other.process_batch(&mut vec![tap], Vec::new(), &CancellationToken::new()).await.expect("commits");
    hub.hours(16).await;
    assert_eq!(hub.visits().await, ["09:01-00:00 None auto"]);
}
