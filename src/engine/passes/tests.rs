use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, NaiveDate, NaiveTime, Utc, Weekday};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    limits::{Windows, in_months, in_weeks},
    payg::{Charged, charge},
    *,
};
use crate::directory::{
    Builder, Coworker,
    catalogue::{Cycle, TimePass},
    import,
};
use crate::{
    base::{
        clock::WallTime,
        record::{BusinessId, CheckinSource, CoworkerId, TimePassId},
        zone::test_zone,
    },
    policy::passes::{PassesAsked, PayAsYouGo},
};

/// Wednesday, 10:00 in London.
const NOW: &str = "2026-01-14T10:00:00Z";

/// How a pass was used today.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Today {
    Untouched,
    /// An earlier visit with it is over.
    Begun,
    /// Coming in here has just ended the visit with it elsewhere.
    Continued,
}

/// The properties that distinguish two passes in the table of rules.
#[derive(Clone, Copy)]
struct Spec {
    today: Today,
    priority: &'static str,
    minutes: Option<u32>,
    price: u32,
    granted: bool,
    businesses: &'static [i64],
    left: u32,
    own: bool,
}

const PLAIN: Spec = Spec {
    today: Today::Untouched,
    priority: "Normal",
    minutes: None,
    price: 10,
    granted: false,
    businesses: &[1, 2],
    left: 5,
    own: true,
};

type Change = fn(&mut Spec);

/// The rules of the choice, in order: what makes a pass come first, and what makes it come last.
const RULES: [(&str, Change, Change); 9] = [
    ("continued", |spec| spec.today = Today::Continued, |_| {}),
    ("begun today", |spec| spec.today = Today::Begun, |_| {}),
    ("priority", |spec| spec.priority = "High", |spec| spec.priority = "Low"),
    ("day before time", |_| {}, |spec| spec.minutes = Some(600)),
    ("cheaper", |spec| spec.price = 9, |spec| spec.price = 11),
    ("granted", |spec| spec.granted = true, |_| {}),
    ("fewer locations", |spec| spec.businesses = &[1], |spec| spec.businesses = &[1, 2, 3]),
    ("more left", |spec| spec.left = 6, |spec| spec.left = 4),
    ("own", |_| {}, |spec| spec.own = false),
];

#[test]
fn each_rule_of_the_choice_decides_where_those_before_it_do_not() {
    assert_eq!(chosen(PLAIN, PLAIN), 10, "if equal, the smaller number");
    for (place, (rule, better, worse)) in RULES.into_iter().enumerate() {
        let (mut good, mut bad) = (PLAIN, PLAIN);
        better(&mut good);
        worse(&mut bad);
        assert_eq!(chosen(bad, good), 20, "{rule}");
        for (later, better_later, worse_later) in RULES.into_iter().skip(place + 1) {
            // Only a day pass can have been begun today.
            if (rule, later) == ("begun today", "day before time") {
                continue;
            }
            let (mut good, mut bad) = (good, bad);
            worse_later(&mut good);
            better_later(&mut bad);
            assert_eq!(chosen(bad, good), 20, "{rule} comes before {later}");
        }
    }
}

/// The number of the pass that Ada uses: 10 or 20.
fn chosen(first: Spec, second: Spec) -> i64 {
    let kind = |id: i64, spec: &Spec| {
        json!({"Id": id, "Name": "Pass", "Price": spec.price, "UsePriority": spec.priority,
            "MinutesIncluded": spec.minutes, "Businesses": spec.businesses})
    };
    let held = |id: i64, spec: &Spec| {
        json!({"Id": id, "CoworkerId": if spec.own { 1 } else { 2 }, "TimePassId": id, "IsFromTariff": spec.granted,
            "RemainingUses": spec.left * if spec.minutes.is_some() { 60 } else { 1 }})
    };
    let site = Site::of(json!({
        "Teams": [{"Id": 8, "Name": "Rocket", "TeamMembers": [1, 2], "ShareTimePasses": true}],
        "TimePasses": [kind(10, &first), kind(20, &second)],
        "CoworkerTimePasses": [held(10, &first), held(20, &second)],
    }));
    let guid = |id| site.guid(id);
    let begun = [(10, first), (20, second)].into_iter().filter(|(_, spec)| spec.today == Today::Begun);
    let also: Vec<Spent> = begun.map(|(id, _)| site.spent(1, guid(id), "08:00", Some("09:00"))).collect();
    let mut both = [(10, first), (20, second)].into_iter();
    let continued = both.find(|(_, spec)| spec.today == Today::Continued).map(|(id, _)| guid(id));
    let ask = Ask { continued, ..site.question(1, CheckinSource::DoorAccess, NOW) };
    site.answer(&ask, &Usage::default(), &also).expect("let in").time_pass.0
}

/// One way to fail for each reason: changes to the kind of pass and to the pass that make it fail.
fn misses() -> Vec<(&'static str, Value, Value)> {
    vec![
        ("pass_archived", json!({"Archived": true}), json!({})),
        ("pass_not_for_customer", json!({"OnlyForMembers": true}), json!({})),
        ("pass_other_business", json!({"Businesses": [2]}), json!({})),
        ("pass_expired", json!({}), json!({"ExpireDate": "2026-01-13"})),
        ("pass_used_up", json!({}), json!({"Used": true})),
        (
            "pass_outside_hours",
            json!({"TimeSlots": [{"DayOfWeek": 4, "FromTime": "09:00", "ToTime": "17:00"}]}),
            json!({}),
        ),
        ("pass_no_network", json!({"AllowNetworkCheckIn": false}), json!({})),
        ("pass_in_use", json!({"MinutesIncluded": 600}), json!({})),
    ]
}

/// The refusal of Ada with passes that fail in these ways.
fn fails(ways: &[(&'static str, Value, Value)]) -> Refused {
    let (mut kinds, mut held) = (Vec::new(), Vec::new());
    for (at, (_, kind, pass)) in ways.iter().enumerate() {
        kinds.push(merged(json!({"Id": at, "Name": "Mornings"}), kind, 1));
        held.push(merged(json!({"Id": at, "CoworkerId": 1, "TimePassId": at + 1}), pass, 1));
    }
    let site = Site::of(json!({"TimePasses": kinds, "CoworkerTimePasses": held}));
    let also: Vec<Spent> = ways
        .iter()
        .enumerate()
        .filter(|(_, (code, ..))| *code == "pass_in_use")
        .map(|(at, _)| site.spent(2, site.guid(i64::try_from(at).expect("small") + 1), "09:30", None))
        .collect();
    site.ask_by(CheckinSource::NetworkActivity, NOW, &Usage::default(), &also).expect_err("refused")
}

/// Both objects merged, with `from` added to the `Id`.
fn merged(mut base: Value, more: &Value, from: i64) -> Value {
    base["Id"] = (base["Id"].as_i64().expect("a number") + from).into();
    for (name, value) in more.as_object().expect("fields") {
        base[name] = value.clone();
    }
    base
}

#[test]
fn each_way_to_fail_has_its_reason_and_tells_what_the_front_desk_needs() {
    let told: Vec<String> = misses()
        .into_iter()
        .map(|miss| {
            let refused = fails(std::slice::from_ref(&miss));
            assert_eq!(refused.reason.code(), miss.0);
            refused.reason.description_with(refused.detail.as_deref())
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    pass_archived: the coworker's kind of pass has been withdrawn; give them another ("Mornings")
    pass_not_for_customer: the coworker's pass is not valid for their kind of customer or plan ("Mornings")
    pass_other_business: the coworker's pass is not valid at this business ("Mornings" is valid at business 2)
    pass_expired: the coworker's pass has expired ("Mornings" was valid until the end of 2026-01-13)
    pass_used_up: the coworker's pass is used up ("Mornings")
    pass_outside_hours: the coworker's pass does not cover this weekday and time ("Mornings" is valid Thu 09:00-17:00)
    pass_no_network: the coworker's pass does not allow check-ins by network; they can use a door ("Mornings")
    pass_in_use: the coworker's pass is in use by another check-in; check that one out ("Mornings" has been in use since 2026-01-14 09:30)
    "#);
}

#[test]
fn of_several_passes_the_nearest_miss_is_named() {
    let misses = misses();
    for (at, far) in misses.iter().enumerate() {
        for near in &misses[at + 1..] {
            for ways in [[far.clone(), near.clone()], [near.clone(), far.clone()]] {
                assert_eq!(fails(&ways).reason.code(), near.0, "{} is nearer than {}", near.0, far.0);
            }
        }
    }
    let old = ("", json!({}), json!({"ExpireDate": "2025-12-31"}));
    let newer = ("", json!({}), json!({"ExpireDate": "2026-01-01T18:00:00Z"}));
    for ways in [[old.clone(), newer.clone()], [newer, old]] {
        let told = fails(&ways).detail.expect("which");
        assert_eq!(told.as_ref(), "\"Mornings\" expired on 2026-01-01 18:00");
    }
}

#[test]
fn a_person_without_a_pass_is_refused_unless_passes_are_off() {
    let none = Site::of(json!({}));
    let archived = Site::of(json!({"TimePasses": [{"Id": 3, "Name": "Old", "Archived": true}]}));
    for (site, asked, expected) in [
        (&none, PassesAsked::IfAny, "unchecked"),
        (&none, PassesAsked::Required, "no_valid_pass"),
        (&archived, PassesAsked::IfAny, "no_valid_pass"),
        (&archived, PassesAsked::Off, "unchecked"),
    ] {
        let policy = PassPolicy { asked, ..PassPolicy::default() };
        let ask = site.question(1, CheckinSource::DoorAccess, NOW);
        let answer = entitle(&site.directory, &policy, &site.calendar, &ask, &Usage::default(), &[]);
        let said = match answer {
            Ok(Entitlement::Unchecked) => "unchecked",
            Ok(Entitlement::Pass(_)) => "pass",
            Err(refused) => refused.reason.code(),
        };
        assert_eq!(said, expected, "{asked:?}");
    }
}

#[test]
fn a_pass_is_good_where_its_owner_is_or_where_it_says() {
    let here = |kind: Value| {
        let site = Site::of(json!({
            "Businesses": [{"Id": 1, "Name": "One", "RootLocationId": 7}, {"Id": 2, "Name": "Two"}, {"Id": 7, "Name": "Head"}],
            "TimePasses": [merged(json!({"Id": 0, "Name": "Day"}), &kind, 1)],
            "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1}],
        }));
        site.ask(NOW).is_ok()
    };
    for (kind, expected) in [
        (json!({}), true),
        (json!({"BusinessId": 1}), true),
        (json!({"BusinessId": 2}), false),
        (json!({"BusinessId": 7}), true),
        (json!({"BusinessId": 2, "Businesses": [{"Id": 1}]}), true),
        (json!({"BusinessId": 1, "Businesses": [2]}), false),
        (json!({"BusinessId": 7, "Businesses": [2]}), false),
    ] {
        assert_eq!(here(kind.clone()), expected, "{kind}");
    }
}

#[test]
fn members_contacts_and_plans_are_distinguished() {
    let site = |kind: &Value| {
        Site::of(json!({
            "Tariffs": [{"Id": 5, "Name": "Full time"}],
            "Coworkers": [{"Id": 1, "FullName": "Ada"}, {"Id": 3, "FullName": "Eve", "TariffId": 5},
                          {"Id": 4, "FullName": "Dan", "TariffName": "Part time"}],
            "TimePasses": [merged(json!({"Id": 0, "Name": "Day"}), kind, 1)],
            "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1}, {"Id": 3, "CoworkerId": 3, "TimePassId": 1},
                                   {"Id": 4, "CoworkerId": 4, "TimePassId": 1}],
        }))
    };
    for (kind, expected) in [
        (json!({}), [true, true, true]),
        (json!({"OnlyForMembers": true}), [false, true, true]),
        (json!({"OnlyForContacts": true}), [true, false, false]),
        (json!({"Tariffs": [5]}), [false, true, false]),
        (json!({"Tariffs": [{"Id": 6}]}), [false, false, false]),
    ] {
        let site = site(&kind);
        let may = [1, 3, 4].map(|id| site.ask_of(id, NOW).is_ok());
        assert_eq!(may, expected, "{kind}");
    }
}

/// When and why the only pass stops covering a visit that begins now.
fn ends(kind: &Value, pass: &Value, now: &str) -> String {
    let site = Site::of(json!({
        "TimePasses": [merged(json!({"Id": 0, "Name": "Pass"}), kind, 1)],
        "CoworkerTimePasses": [merged(json!({"Id": 0, "CoworkerId": 1, "TimePassId": 1}), pass, 1)],
    }));
    match site.ask(now) {
        Ok(found) => match found.ends {
            Some((at, end)) => format!("{} {}", at.to_rfc3339_seconds(), end.word()),
            None => "never".to_owned(),
        },
        Err(refused) => refused.reason.code().to_owned(),
    }
}

#[test]
fn a_pass_ends_with_its_minutes_its_slot_or_its_date_whichever_is_first() {
    let morning = json!({"DayOfWeek": 3, "FromTime": "09:00", "ToTime": "13:00"});
    for (kind, pass, expected) in [
        (json!({}), json!({}), "never"),
        (json!({"MinutesIncluded": 90}), json!({}), "2026-01-14T11:30:00Z minutes_used_up"),
        (json!({"MinutesIncluded": 90}), json!({"RemainingMinutes": 1}), "2026-01-14T10:01:00Z minutes_used_up"),
        (json!({"MinutesIncluded": 90}), json!({"RemainingUses": 30}), "2026-01-14T10:30:00Z minutes_used_up"),
        (
            json!({"MinutesIncluded": 90}),
            json!({"RemainingUses": 1, "TotalUses": 1}),
            "2026-01-14T11:30:00Z minutes_used_up",
        ),
        (json!({"MinutesIncluded": 90}), json!({"RemainingUses": 0}), "pass_used_up"),
        // An end after the cut-off does not matter.
        (json!({"MinutesIncluded": 900}), json!({}), "never"),
        (json!({"TimeSlots": [morning]}), json!({}), "2026-01-14T13:00:00Z slot_ends"),
        (json!({"TimeSlots": [morning], "MinutesIncluded": 90}), json!({}), "2026-01-14T11:30:00Z minutes_used_up"),
        (json!({}), json!({"ExpireDate": "2026-01-14T12:00:00Z"}), "2026-01-14T12:00:00Z expires"),
        (json!({}), json!({"ExpireDate": "2026-01-14T10:00:00Z"}), "pass_expired"),
        (json!({}), json!({"ExpireDate": "2026-01-14"}), "never"),
        (json!({}), json!({"ExpireDate": "2026-01-13"}), "pass_expired"),
    ] {
        assert_eq!(ends(&kind, &pass, NOW), expected, "{kind} {pass}");
    }
}

#[test]
fn slots_are_weekdays_and_times_of_the_wall_clock() {
    let slot = |day: i64, from: &str, to: &str| json!({"DayOfWeek": day, "FromTime": from, "ToTime": to});
    for (slots, now, expected) in [
        (vec![slot(3, "09:00", "13:00")], "2026-01-14T08:59:59Z", "pass_outside_hours"),
        (vec![slot(3, "09:00", "13:00")], "2026-01-14T09:00:00Z", "2026-01-14T13:00:00Z slot_ends"),
        (vec![slot(3, "09:00", "13:00")], "2026-01-14T13:00:00Z", "pass_outside_hours"),
        (vec![slot(3, "09:00", "13:00")], "2026-01-15T10:00:00Z", "pass_outside_hours"),
        (
            vec![slot(2, "09:00", "13:00"), slot(3, "09:00", "13:00"), slot(3, "13:00", "17:00")],
            NOW,
            "2026-01-14T17:00:00Z slot_ends",
        ),
        (vec![slot(3, "09:00", "13:00"), slot(3, "12:00", "12:30")], NOW, "2026-01-14T13:00:00Z slot_ends"),
        (vec![slot(3, "00:00", "23:59")], "2026-01-14T23:59:30Z", "never"),
        (vec![slot(3, "00:00", "00:00")], "2026-01-14T23:59:30Z", "never"),
        // After midnight it is still Tuesday's slot.
        (vec![slot(2, "22:00", "02:00")], "2026-01-14T01:00:00Z", "2026-01-14T02:00:00Z slot_ends"),
        (vec![slot(2, "22:00", "02:00")], "2026-01-14T02:00:00Z", "pass_outside_hours"),
        (vec![slot(2, "22:00", "02:00")], "2026-01-14T22:30:00Z", "pass_outside_hours"),
        // Nine o'clock in London as the platform writes it, in winter and in summer.
        (vec![slot(3, "1976-01-01T09:00:00Z", "1976-01-01T13:00:00Z")], NOW, "2026-01-14T13:00:00Z slot_ends"),
        (
            vec![slot(3, "1976-01-01T09:00:00Z", "1976-01-01T13:00:00Z")],
            "2026-07-15T08:30:00Z",
            "2026-07-15T12:00:00Z slot_ends",
        ),
        (vec![slot(3, "09:00", "13:00")], "2026-07-15T08:30:00Z", "2026-07-15T12:00:00Z slot_ends"),
        // The hour that the clocks skip is not part of the slot.
        (vec![slot(0, "00:30", "01:30")], "2026-03-29T00:45:00Z", "2026-03-29T01:00:00Z slot_ends"),
    ] {
        assert_eq!(ends(&json!({"TimeSlots": slots}), &json!({}), now), expected, "{slots:?} {now}");
    }
}

#[test]
fn a_slot_written_in_utc_is_the_wall_clocks_where_the_zone_is_far_from_it() {
    let site = |from: &str, to: &str| {
        let slot = json!({"DayOfWeek": 3, "FromTime": from, "ToTime": to});
        let mut site = Site::of(json!({
            "TimePasses": [{"Id": 1, "Name": "Pass", "TimeSlots": [slot]}],
            "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1}],
        }));
        site.calendar.zone = test_zone("Asia/Tokyo");
        site
    };
    // Wednesday from eight to ten in Tokyo is Tuesday 23:00 to Wednesday 01:00 in UTC.
    let site = site("1975-12-31T23:00:00Z", "1976-01-01T01:00:00Z");
    assert!(site.ask("2026-01-13T23:30:00Z").is_ok());
    assert!(site.ask("2026-01-14T01:00:00Z").is_err());
    assert!(site.ask("2026-01-14T23:30:00Z").is_err());
}

#[test]
fn a_day_that_was_begun_is_paid_and_another_needs_another_use() {
    let site = |pass: Value| {
        Site::of(json!({
            "Teams": [{"Id": 8, "Name": "Rocket", "TeamMembers": [1, 2], "ShareTimePasses": true}],
            "TimePasses": [{"Id": 1, "Name": "Day"}],
            "CoworkerTimePasses": [merged(json!({"Id": 0, "CoworkerId": 1, "TimePassId": 1}), &pass, 1)],
        }))
    };
    let monday = ("2026-01-12T09:00:00Z", "2026-01-12T17:00:00Z");
    let today = ("2026-01-14T08:00:00Z", "2026-01-14T09:00:00Z");
    for (pass, who, visit, expected) in [
        (json!({}), 1, monday, false),
        (json!({}), 1, today, true),
        (json!({}), 2, today, false),
        (json!({"RemainingUses": 2}), 1, monday, true),
        (json!({"RemainingUses": 2}), 2, today, true),
        (json!({"TotalUses": 2}), 1, monday, true),
        (json!({"Used": true, "TotalUses": 2}), 1, monday, false),
        (json!({"Used": true, "UsedDate": "2026-01-14T07:00:00Z"}), 1, monday, true),
        (json!({"Used": true, "UsedDate": "2026-01-14"}), 1, monday, true),
        (json!({"Used": true, "UsedDate": "2026-01-13T07:00:00Z"}), 1, monday, false),
        (json!({"Used": true, "UsedDate": "2026-01-13"}), 1, monday, false),
    ] {
        let site = site(pass.clone());
        let guid = site.guid(1);
        let spent = site.visit(who, Some(guid), at(visit.0), Some(at(visit.1)));
        assert_eq!(site.ask_with(NOW, &Usage::default(), &[spent]).is_ok(), expected, "{pass} {who} {visit:?}");
        let usage = Site::used(guid, &spent, WallTime::from_millis(0));
        assert_eq!(site.ask_with(NOW, &usage, &[]).is_ok(), expected, "{pass} {who} {visit:?} in the totals");
        assert_eq!(site.ask_with(NOW, &usage, &[spent]).is_ok(), expected, "{pass} {who} {visit:?} in both");
    }
}

#[test]
fn the_day_of_a_business_with_another_cut_off_is_the_same_day() {
    let site = Site::of(json!({
        "TimePasses": [{"Id": 1, "Name": "Day"}],
        "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1}],
    }));
    for (day, expected) in
        [("2026-01-14T03:00:00Z", true), ("2026-01-13T19:00:00Z", true), ("2026-01-13T03:00:00Z", false)]
    {
        let pass_day = PassDay {
            start: at(day),
            end: at(day).plus(Duration::from_hours(24)),
            date: at(day).plus(Duration::from_hours(12)).utc().date_naive(),
        };
        let from = at(day).plus(Duration::from_hours(4));
        let to = Some(from.plus(Duration::from_mins(1)));
        let spent = Spent { day: pass_day, ..site.visit(1, Some(site.guid(1)), from, to) };
        assert_eq!(site.ask_with(NOW, &Usage::default(), &[spent]).is_ok(), expected, "{day}");
        let usage = Site::used(site.guid(1), &spent, WallTime::from_millis(0));
        assert_eq!(site.ask_with(NOW, &usage, &[]).is_ok(), expected, "{day} in the totals");
        assert_eq!(site.ask_with(NOW, &usage, &[spent]).is_ok(), expected, "{day} in both");
    }
}

#[test]
fn what_was_used_before_the_import_is_in_what_it_said() {
    let text = json!({
        "TimePasses": [{"Id": 1, "Name": "Day"}, {"Id": 2, "Name": "Hour", "MinutesIncluded": 60}],
        "Coworkers": [{"Id": 1, "FullName": "Ada"}],
        "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1}],
    });
    let monday = "2026-01-12T09:00:00Z";
    for (said, expected) in [("2026-01-12T08:00:00Z", false), ("2026-01-12T12:00:00Z", true)] {
        let site = Site::said(text.clone(), at(said));
        let spent = site.visit(1, Some(site.guid(1)), at(monday), Some(at(monday)));
        let usage = Site::used(site.guid(1), &spent, at(said));
        assert_eq!(site.ask_with(NOW, &usage, &[]).is_ok(), expected, "{said}");
        assert_eq!(site.ask_with(NOW, &Usage::default(), &[spent]).is_ok(), expected, "{said}, still open to change");
    }
    // What was counted against an earlier import is already included in the later one.
    let site = Site::said(text, at("2026-01-12T12:00:00Z"));
    let spent = site.visit(1, Some(site.guid(1)), at(monday), Some(at(monday)));
    let usage = Site::used(site.guid(1), &spent, at("2026-01-12T08:00:00Z"));
    assert_eq!(usage.passes[&site.guid(1)][0].days, 1);
    assert!(site.ask_with(NOW, &usage, &[]).is_ok());
}

#[test]
fn minutes_are_used_by_one_visit_at_a_time_and_add_up() {
    let site = Site::of(json!({
        "Teams": [{"Id": 8, "Name": "Rocket", "TeamMembers": [1, 2], "ShareTimePasses": true}],
        "TimePasses": [{"Id": 1, "Name": "10 hours", "MinutesIncluded": 600}],
        "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 2, "TimePassId": 1}],
    }));
    let guid = site.guid(1);
    let left = |usage: &Usage, also: &[Spent]| match site.ask_with(NOW, usage, also) {
        Ok(found) => found.ends.map_or("hours".to_owned(), |(end, _)| end.since(at(NOW)).as_secs().to_string()),
        Err(refused) => refused.reason.code().to_owned(),
    };
    let used = |seconds, open: Option<&str>| {
        let last_day = NaiveDate::from_ymd_opt(2026, 1, 12);
        let nothing = Used::nothing(CoworkerId(2), WallTime::from_millis(0));
        let used = Used { days: 1, last_day, seconds, open: open.map(at), ..nothing };
        Usage { passes: BTreeMap::from([(guid, vec![used])]), ..Usage::default() }
    };
    assert_eq!(left(&Usage::default(), &[]), "36000");
    assert_eq!(left(&used(35_000, None), &[]), "1000");
    assert_eq!(left(&used(35_000, None), &[site.spent(1, guid, "09:00:01", Some("09:15:01"))]), "100");
    assert_eq!(left(&used(36_000, None), &[]), "pass_used_up");
    assert_eq!(left(&used(36_001, None), &[]), "pass_used_up");
    assert_eq!(left(&used(0, Some("2026-01-14T09:59:00Z")), &[]), "pass_in_use");
    assert_eq!(left(&used(0, Some("2026-01-14T10:01:00Z")), &[]), "36000");
    assert_eq!(left(&used(0, None), &[site.spent(2, guid, "09:00", None)]), "pass_in_use");
    assert_eq!(left(&used(0, None), &[site.spent(2, guid, "09:00", Some("10:30"))]), "pass_in_use");
}

#[test]
fn passes_of_former_customers_are_not_shared() {
    let site = |bob: Value, shares: bool| {
        Site::of(json!({
            "Teams": [{"Id": 8, "Name": "Rocket", "TeamMembers": [1], "ShareTimePasses": shares}],
            "Coworkers": [{"Id": 1, "FullName": "Ada"}, merged(json!({"Id": 1, "FullName": "Bob", "Teams": [8]}), &bob, 1)],
            "TimePasses": [{"Id": 1, "Name": "Day"}],
            "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 2, "TimePassId": 1}],
        }))
    };
    for (bob, shares, expected) in [
        (json!({}), true, true),
        (json!({}), false, false),
        (json!({"Active": false}), true, false),
        (json!({"Archived": true}), true, false),
        (json!({"Teams": []}), true, false),
    ] {
        assert_eq!(site(bob.clone(), shares).ask(NOW).is_ok(), expected, "{bob} {shares}");
    }
}

/// Returns whether Ada, on a plan with one limit, may come in after visits of eight hours on these days.
fn limited(plan: &Value, person: &Value, days: &[&str], now: &str) -> String {
    let site = Site::of(json!({
        "Tariffs": [merged(json!({"Id": 0, "Name": "Part time"}), plan, 5)],
        "Coworkers": [merged(json!({"Id": 0, "FullName": "Ada", "TariffId": 5}), person, 1)],
        "TimePasses": [{"Id": 1, "Name": "Day", "CountsTowardsPlanLimits": true}],
        "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1, "RemainingUses": 999}],
    }));
    let visits: Vec<Spent> = days
        .iter()
        .map(|date| {
            let from = at(&format!("{date}T09:00:00Z"));
            let to = from.plus(Duration::from_hours(8));
            Spent { counts: true, ..site.visit(1, None, from, Some(to)) }
        })
        .collect();
    let mut tally = PlanTally::default();
    let totals = visits.iter().flat_map(|visit| tally.add(visit.day.date, visit.present(visit.from)));
    let plan = PlanUsed(totals.collect());
    let usage = Usage { plans: BTreeMap::from([(CoworkerId(1), plan)]), ..Usage::default() };
    let said = |found: Result<PassUse, Refused>| match found {
        Ok(found) => {
            found.ends.map_or("in".to_owned(), |(end, why)| format!("{} {}", end.to_rfc3339_seconds(), why.word()))
        }
        Err(refused) => refused.reason.code().to_owned(),
    };
    let told = said(site.ask_with(now, &usage, &[]));
    assert_eq!(said(site.ask_with(now, &Usage::default(), &visits)), told, "the same, whether counted or not yet");
    told
}

#[test]
fn the_limits_of_a_plan_are_days_and_hours_of_a_week_a_month_and_a_cycle() {
    let renews = json!({"RenewalDate": "2025-10-15"});
    for (plan, person, days, now, expected) in [
        // 2026-01-14 is a Wednesday; the week began on the 12th.
        (json!({"CheckinWeekLimit": 2}), json!({}), vec!["2026-01-11", "2026-01-12"], NOW, "in"),
        (json!({"CheckinWeekLimit": 2}), json!({}), vec!["2026-01-12", "2026-01-13"], NOW, "plan_limit_days_week"),
        (json!({"CheckinWeekLimit": 2}), json!({}), vec!["2026-01-12", "2026-01-14"], "2026-01-14T20:00:00Z", "in"),
        (json!({"CheckinWeekLimit": 0}), json!({}), vec!["2026-01-12", "2026-01-13"], NOW, "in"),
        (json!({"CheckinMonthLimit": 2}), json!({}), vec!["2025-12-31", "2026-01-01"], NOW, "in"),
        (json!({"CheckinMonthLimit": 2}), json!({}), vec!["2026-01-01", "2026-01-02"], NOW, "plan_limit_days_month"),
        (json!({"CheckinPricePlanLimit": 2}), renews.clone(), vec!["2025-12-14", "2025-12-15"], NOW, "in"),
        (
            json!({"CheckinPricePlanLimit": 2}),
            renews.clone(),
            vec!["2025-12-15", "2025-12-16"],
            NOW,
            "plan_limit_days_cycle",
        ),
        (
            json!({"CheckinPricePlanLimit": 2}),
            renews.clone(),
            vec!["2025-12-16", "2025-12-17"],
            "2026-01-15T10:00:00Z",
            "in",
        ),
        (
            json!({"CheckinPricePlanLimit": 2, "InvoiceEvery": 3}),
            renews.clone(),
            vec!["2025-10-15", "2025-10-16"],
            NOW,
            "plan_limit_days_cycle",
        ),
        (
            json!({"CheckinPricePlanLimit": 2, "InvoiceEveryWeeks": 2}),
            renews,
            vec!["2026-01-07", "2026-01-08"],
            NOW,
            "plan_limit_days_cycle",
        ),
        (
            json!({"CheckinPricePlanLimit": 2}),
            json!({"RegistrationDate": "2020-06-15T00:00:00Z"}),
            vec!["2025-12-15", "2025-12-16"],
            NOW,
            "plan_limit_days_cycle",
        ),
        (
            json!({"CheckinPricePlanLimit": 2}),
            json!({}),
            vec!["2026-01-01", "2026-01-02"],
            NOW,
            "plan_limit_days_cycle",
        ),
        (
            json!({"HoursWeekLimit": 17}),
            json!({}),
            vec!["2026-01-12", "2026-01-13"],
            NOW,
            "2026-01-14T11:00:00Z limit_reached",
        ),
        (json!({"HoursWeekLimit": 16}), json!({}), vec!["2026-01-12", "2026-01-13"], NOW, "plan_limit_hours_week"),
        (json!({"HoursMonthLimit": 8}), json!({}), vec!["2026-01-02"], NOW, "plan_limit_hours_month"),
        (json!({"HoursPricePlanLimit": 8}), json!({}), vec!["2026-01-02"], NOW, "plan_limit_hours_cycle"),
        (
            json!({"HoursMonthLimit": 9, "HoursWeekLimit": 99}),
            json!({}),
            vec!["2026-01-02"],
            NOW,
            "2026-01-14T11:00:00Z limit_reached",
        ),
    ] {
        assert_eq!(limited(&plan, &person, &days, now), expected, "{plan} {person} {days:?}");
    }
}

#[test]
fn a_visit_that_does_not_count_is_not_ended_by_the_plans_hours() {
    let site = Site::of(json!({
        "Tariffs": [{"Id": 5, "Name": "Part time", "HoursWeekLimit": 1}],
        "Coworkers": [{"Id": 1, "FullName": "Ada", "TariffId": 5}],
        "TimePasses": [{"Id": 1, "Name": "Day"}],
        "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1}],
    }));
    assert_eq!(site.ask(NOW).expect("let in").ends, None);
    let also = Spent { counts: true, ..site.spent(1, Uuid::nil(), "08:00", None) };
    let refused = site.ask_with(NOW, &Usage::default(), &[also]).expect_err("an hour is over, spare pass or not");
    assert_eq!(refused.detail.as_deref(), Some("\"Part time\": 1 hour from 2026-01-12 to 2026-01-18"));
}

#[test]
fn a_pass_day_belongs_to_the_week_of_its_date_whatever_the_cut_off() {
    let mut site = Site::of(json!({
        "Tariffs": [{"Id": 5, "Name": "Part time", "CheckinWeekLimit": 1}],
        "Coworkers": [{"Id": 1, "FullName": "Ada", "TariffId": 5}],
        "TimePasses": [{"Id": 1, "Name": "Day", "CountsTowardsPlanLimits": true}],
        "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1, "RemainingUses": 9}],
    }));
    site.calendar.cut_off = NaiveTime::from_hms_opt(3, 0, 0).expect("a time");
    let sunday_night = at("2026-01-12T02:00:00Z");
    let spent = Spent { counts: true, ..site.visit(1, None, sunday_night, None) };
    assert!(site.ask_with("2026-01-12T09:00:00Z", &Usage::default(), &[spent]).is_ok());
    let monday = site.calendar.pass_day(at("2026-01-12T09:00:00Z"));
    let spent = Spent { counts: true, ..site.visit(1, None, monday.start, Some(monday.start)) };
    assert!(site.ask_with(NOW, &Usage::default(), &[spent]).is_err());
}

#[test]
fn cycles_of_people_without_a_day_of_their_own_have_one_phase() {
    let day = |number| NaiveDate::from_num_days_from_ce_opt(number).expect("a date");
    let (first, week_starts_on) = (739_000, Weekday::Mon);
    for cycle in
        [Cycle::Weeks(1), Cycle::Weeks(2), Cycle::Weeks(3), Cycle::Months(1), Cycle::Months(5), Cycle::Months(24)]
    {
        let around = |today| Windows::around(today, cycle, None, week_starts_on).cycle;
        let mut known = around(day(first));
        for today in (first..first + 900).map(day) {
            let now = around(today);
            assert!(now == known || now.0 == known.1 && now.0 == today, "{cycle:?} {today}: {now:?} after {known:?}");
            known = now;
        }
    }
    let of = |cycle, today: &str| Windows::around(today.parse().expect("a date"), cycle, None, week_starts_on).cycle.0;
    assert_eq!(of(Cycle::Months(3), "2026-02-14").to_string(), "2026-01-01", "a quarter");
    assert_eq!(of(Cycle::Months(12), "2026-02-14").to_string(), "2026-01-01");
    assert_eq!(of(Cycle::Weeks(2), "2026-01-14").to_string(), "2026-01-12");
    assert_eq!(of(Cycle::Weeks(2), "2026-01-11").to_string(), "2025-12-29");
}

#[test]
fn every_window_that_has_a_limit_has_its_first_day() {
    let site = |plan: Value| {
        Site::of(json!({
            "Tariffs": [merged(json!({"Id": 0, "Name": "Part time"}), &plan, 5)],
            "Coworkers": [{"Id": 1, "FullName": "Ada", "TariffId": 5, "RenewalDate": "2026-06-10"}],
        }))
    };
    for (plan, expected) in [
        (json!({}), vec![]),
        (json!({"HoursWeekLimit": 3}), vec!["2026-01-12"]),
        (json!({"CheckinWeekLimit": 3, "HoursMonthLimit": 3}), vec!["2026-01-01", "2026-01-12"]),
        (json!({"CheckinPricePlanLimit": 3}), vec!["2026-01-10"]),
    ] {
        let site = site(plan.clone());
        let today = NaiveDate::from_ymd_opt(2026, 1, 14).expect("a date");
        let starts = window_starts(&site.directory, &PassPolicy::default(), &site.calendar, site.coworker(1), today);
        assert_eq!(starts.iter().map(NaiveDate::to_string).collect::<Vec<_>>(), expected, "{plan}");
    }
}

#[test]
fn a_gap_between_two_stretches_of_a_day_is_no_presence() {
    let site = Site::of(json!({
        "Tariffs": [{"Id": 5, "Name": "Part time", "HoursWeekLimit": 3}],
        "Coworkers": [{"Id": 1, "FullName": "Ada", "TariffId": 5}],
        "TimePasses": [{"Id": 1, "Name": "Day", "CountsTowardsPlanLimits": true}],
        "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1}],
    }));
    let stretches = |since: &str, before: u64, to: Option<&str>| Spent {
        counts: true,
        since: at(&format!("2026-01-14T{since}:00Z")),
        before,
        ..site.spent(1, site.guid(1), "06:00", to)
    };
    let left = |spent: Spent| match site.ask_with(NOW, &Usage::default(), &[spent]) {
        Ok(found) => found.ends.map_or(0, |(end, _)| end.since(at(NOW)).as_secs() / 60),
        Err(refused) => panic!("{}", refused.reason.code()),
    };
    assert_eq!(left(stretches("09:00", 3600, None)), 60, "an hour early in the morning, and one since nine");
    assert_eq!(left(stretches("09:00", 3600, Some("09:30"))), 90);
    assert_eq!(left(stretches("06:00", 0, Some("08:30"))), 30);
}

#[test]
fn totals_of_a_pass_count_each_day_once_and_what_came_after_the_import() {
    let site = Site::of(json!({}));
    let (said, guid) = (at("2026-01-12T12:00:00Z"), Some(Uuid::from_u128(1)));
    let mut used = Used::nothing(CoworkerId(1), said);
    for (from, to, days, seconds) in [
        ("2026-01-12T08:00:00Z", "2026-01-12T09:00:00Z", 0, 0),
        ("2026-01-12T11:00:00Z", "2026-01-12T13:00:00Z", 0, 7200),
        ("2026-01-12T14:00:00Z", "2026-01-12T15:00:00Z", 0, 10_800),
        ("2026-01-13T09:00:00Z", "2026-01-13T10:00:00Z", 1, 14_400),
        ("2026-01-13T11:00:00Z", "2026-01-13T12:00:00Z", 1, 18_000),
        ("2026-01-14T09:00:00Z", "2026-01-14T10:00:00Z", 2, 21_600),
    ] {
        let spent = site.visit(1, guid, at(from), Some(at(to)));
        used.add(&spent);
        assert_eq!((used.days, used.seconds), (days, seconds), "{from}");
    }
    assert_eq!(used.based_on(said), used);
    let later = used.based_on(at("2026-01-15T00:00:00Z"));
    assert_eq!((later.days, later.seconds, later.last_day), (0, 0, used.last_day));
}

#[test]
fn without_a_valid_pass_the_cheapest_pay_as_you_go_pass_per_minute_is_assigned() {
    let members = json!({"UseAsPayAsYouGoForMembers": true});
    let contacts = json!({"UseAsPayAsYouGoForContacts": true});
    let kind = |id: i64, price: &str, minutes: Option<u32>, more: &Value| {
        merged(json!({"Id": 0, "Name": "Hot desk", "Price": price, "MinutesIncluded": minutes}), more, id)
    };
    let hours = json!([{"DayOfWeek": 4, "FromTime": "09:00", "ToTime": "10:00"}]);
    let with = |key: &str, value: Value| merged_field(&contacts, key, value);
    for (kinds, expected) in [
        (vec![kind(1, "6", Some(60), &contacts)], "1"),
        (vec![kind(1, "6", Some(60), &members)], "no_valid_pass"),
        (vec![kind(1, "6", Some(60), &contacts), kind(2, "11.99", Some(120), &contacts)], "2"),
        (vec![kind(1, "6", Some(60), &contacts), kind(2, "12", Some(120), &contacts)], "1"),
        (vec![kind(1, "6", Some(60), &contacts), kind(2, "144", None, &contacts)], "1"),
        (vec![kind(1, "6", Some(60), &contacts), kind(2, "143.99", None, &contacts)], "2"),
        (vec![kind(1, "1", Some(60), &with("Archived", true.into())), kind(2, "6", Some(60), &contacts)], "2"),
        (vec![kind(1, "1", Some(60), &with("Businesses", json!([2]))), kind(2, "6", Some(60), &contacts)], "2"),
        (vec![kind(1, "1", Some(60), &with("CurrencyCode", "EUR".into())), kind(2, "6", Some(60), &contacts)], "2"),
        (vec![kind(1, "1", Some(60), &with("TimeSlots", hours.clone())), kind(2, "6", Some(60), &contacts)], "2"),
        (vec![kind(1, "1", Some(60), &with("TimeSlots", hours.clone()))], "no_valid_pass"),
        (vec![kind(1, "1", Some(60), &with("OnlyForMembers", true.into()))], "no_valid_pass"),
        (vec![kind(1, "1", Some(60), &with("AllowNetworkCheckIn", false.into()))], "no_valid_pass"),
    ] {
        let site = Site::of(json!({"TimePasses": kinds}));
        let said = match site.ask_by(CheckinSource::NetworkActivity, NOW, &Usage::default(), &[]) {
            Ok(found) => {
                assert_eq!((found.kind, found.guid), (PassKind::PayAsYouGo, None));
                found.time_pass.to_string()
            }
            Err(refused) => refused.reason.code().to_owned(),
        };
        assert_eq!(said, expected, "{kinds:?}");
    }
    let closed = [with("TimeSlots", hours), with("AllowNetworkCheckIn", false.into())].map(|more| {
        let site = Site::of(json!({"TimePasses": [kind(1, "1", Some(60), &more)]}));
        let refused = site.ask_by(CheckinSource::NetworkActivity, NOW, &Usage::default(), &[]).expect_err("none fits");
        refused.detail.expect("the pass that is valid at another time or at a door").to_string()
    });
    assert_eq!(
        closed,
        ["pay-as-you-go \"Hot desk\" is valid Thu 09:00-10:00", "pay-as-you-go \"Hot desk\" is valid at a door"]
    );
    // A day pass that another person is using is valid at a door too.
    let by_day = json!({"Id": 9, "Name": "Day", "AllowNetworkCheckIn": false});
    let site = Site::of(json!({
        "TimePasses": [kind(1, "6", Some(60), &contacts), by_day],
        "Teams": [{"Id": 8, "Name": "Rocket", "TeamMembers": [1, 2], "ShareTimePasses": true}],
        "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 2, "TimePassId": 9, "RemainingUses": 5}],
    }));
    let bob = site.spent(2, site.guid(1), "09:00", None);
    let refused = site.ask_by(CheckinSource::NetworkActivity, NOW, &Usage::default(), &[bob]).expect_err("refused");
    assert_eq!(refused.reason, Reason::PassNoNetwork);

    let site = Site::of(json!({"TimePasses": [kind(1, "6", Some(60), &contacts)]}));
    let off = PassPolicy { pay_as_you_go: None, ..PassPolicy::default() };
    let ask = site.question(1, CheckinSource::DoorAccess, NOW);
    let refused = entitle(&site.directory, &off, &site.calendar, &ask, &Usage::default(), &[]).expect_err("off");
    assert_eq!(refused.reason, Reason::NoValidPass);
}

#[test]
fn a_person_with_a_pass_for_the_door_is_not_charged_because_the_network_saw_them() {
    let site = Site::of(json!({
        "TimePasses": [{"Id": 1, "Name": "Day", "AllowNetworkCheckIn": false},
                       {"Id": 2, "Name": "Hot desk", "Price": 6, "MinutesIncluded": 60, "UseAsPayAsYouGoForContacts": true}],
        "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1, "ExpireDate": "2026-01-14"}],
    }));
    let by = |by, now| site.ask_by(by, now, &Usage::default(), &[]);
    let refused = by(CheckinSource::NetworkActivity, NOW).expect_err("not charged");
    assert_eq!(refused.reason, Reason::PassNoNetwork);
    assert_eq!(by(CheckinSource::DoorAccess, NOW).expect("the day pass").kind, PassKind::Day);
    let tomorrow = by(CheckinSource::NetworkActivity, "2026-01-15T10:00:00Z").expect("charged");
    assert_eq!(tomorrow.kind, PassKind::PayAsYouGo);
}

fn merged_field(base: &Value, key: &str, value: Value) -> Value {
    let mut fields = base.clone();
    fields[key] = value;
    fields
}

/// A kind of pass with this price and length.
fn priced(price: &str, minutes: Option<u32>) -> TimePass {
    let site = Site::of(json!({"TimePasses": [{"Id": 1, "Name": "Desk", "Price": price, "MinutesIncluded": minutes}]}));
    site.directory.time_pass(TimePassId(1)).expect("a known kind").clone()
}

fn rules(currency: &str, minimum: i64, maximum: Option<i64>) -> PayAsYouGo {
    PayAsYouGo { currency: currency.parse().expect("a currency"), minimum, maximum, step: Duration::from_mins(15) }
}

#[test]
fn a_stay_is_charged_in_whole_steps_and_rounded_up_to_a_minor_unit() {
    for (price, minutes, currency, seconds, expected) in [
        ("6", Some(60), "GBP", Some(0), (15, 150)),
        ("6", Some(60), "GBP", None, (15, 150)),
        ("6", Some(60), "GBP", Some(600), (15, 150)),
        ("6", Some(60), "GBP", Some(900), (15, 150)),
        ("6", Some(60), "GBP", Some(901), (30, 300)),
        ("6", Some(60), "GBP", Some(7200), (120, 1200)),
        ("1", Some(60), "GBP", Some(60), (15, 25)),
        ("1", Some(70), "GBP", Some(60), (15, 22)),
        ("0.001", Some(60), "GBP", Some(60), (15, 1)),
        ("12.5", Some(60), "GBP", Some(3600), (60, 1250)),
        ("1000", Some(60), "JPY", Some(3600), (60, 1000)),
        ("1", Some(60), "KWD", Some(900), (15, 250)),
        ("20", None, "GBP", Some(900), (15, 2000)),
        ("0", None, "GBP", Some(900), (15, 0)),
    ] {
        let from = at(NOW);
        let to = seconds.map(|seconds| from.plus(Duration::from_secs(seconds)));
        let cost = charge(&priced(price, minutes), &rules(currency, 0, None), from, to, &Charged::default());
        assert_eq!((cost.minutes, cost.amount), expected, "{price} {minutes:?} {currency} {seconds:?}");
        assert_eq!(cost.currency.to_string(), currency);
    }
}

#[test]
fn a_day_costs_between_its_minimum_and_its_maximum_and_a_day_pass_once() {
    let (hourly, daily) = (priced("6", Some(60)), priced("20", None));
    for (kind, minimum, maximum, hours, expected) in [
        (&hourly, 0, None, vec![1, 1], vec![600, 600]),
        (&hourly, 500, None, vec![1, 1], vec![600, 600]),
        (&hourly, 1000, None, vec![1, 1], vec![1000, 200]),
        (&hourly, 1500, None, vec![1, 1, 1], vec![1500, 0, 300]),
        (&hourly, 0, Some(1000), vec![1, 1, 1], vec![600, 400, 0]),
        (&hourly, 800, Some(1000), vec![1, 1, 1], vec![800, 200, 0]),
        (&hourly, 500, Some(500), vec![3], vec![500]),
        (&daily, 0, None, vec![1, 1], vec![2000, 0]),
        (&daily, 2500, None, vec![1, 1], vec![2500, 0]),
    ] {
        let rules = rules("GBP", minimum, maximum);
        let mut already = Charged::default();
        let amounts: Vec<i64> = hours
            .iter()
            .map(|hours| {
                let to = at(NOW).plus(Duration::from_hours(*hours));
                let cost = charge(kind, &rules, at(NOW), Some(to), &already);
                already.add(kind.id, cost.unbounded, cost.amount);
                cost.amount
            })
            .collect();
        assert_eq!(amounts, expected, "{minimum} {maximum:?} {hours:?}");
    }
}

proptest! {
    #[test]
    fn whatever_the_visits_a_day_stays_within_its_bounds_and_nothing_is_given_back(
        price in 0i64..100_000_000,
        minutes in prop::option::of(1u32..3000),
        stays in prop::collection::vec(0u64..90_000, 1..8),
        minimum in 0i64..5000,
        more in prop::option::of(0i64..5000),
    ) {
        let kind = TimePass { price: crate::directory::catalogue::Price(price), ..priced("0", minutes) };
        let rules = rules("GBP", minimum, more.map(|more| minimum + more));
        let mut already = Charged::default();
        for stay in stays {
            let cost = charge(&kind, &rules, at(NOW), Some(at(NOW).plus(Duration::from_secs(stay))), &already);
            prop_assert!(cost.amount >= 0);
            prop_assert!(u64::from(cost.minutes) * 60 >= stay);
            prop_assert_eq!(cost.minutes % 15, 0);
            already.add(kind.id, cost.unbounded, cost.amount);
            let exact = already.unbounded.max(minimum);
            prop_assert_eq!(already.amount, rules.maximum.map_or(exact, |maximum| exact.min(maximum)));
        }
    }

    #[test]
    fn billing_cycles_follow_each_other_without_gap_or_overlap(
        today in 700_000i32..760_000, anchor in 700_000i32..760_000, months in 1i32..25, weeks in 1i64..60,
    ) {
        let date = |days| NaiveDate::from_num_days_from_ce_opt(days).expect("a date");
        let (today, anchor) = (date(today), date(anchor));
        for cycle in [|today, anchor, months, _| in_months(today, anchor, months), |today, anchor, _, weeks| in_weeks(today, anchor, weeks)]
            as [fn(NaiveDate, NaiveDate, i32, i64) -> (NaiveDate, NaiveDate); 2]
        {
            let (first, end) = cycle(today, anchor, months, weeks);
            prop_assert!(first <= today && today < end, "{} {} {}", first, today, end);
            prop_assert_eq!(cycle(first, anchor, months, weeks), (first, end));
            prop_assert_eq!(cycle(end, anchor, months, weeks).0, end);
            prop_assert_eq!(cycle(anchor, anchor, months, weeks).0, anchor);
        }
    }

    #[test]
    fn whatever_is_asked_is_answered(
        kinds in prop::collection::vec((prop::option::of(1u32..700), any::<bool>(), any::<bool>(), 0i64..3, any::<bool>()), 1..5),
        held in prop::collection::vec((1i64..5, 1i64..3, prop::option::of(0u32..3), any::<bool>()), 0..6),
        minutes in 0u64..20_000,
        by_network in any::<bool>(),
    ) {
        let kinds: Vec<Value> = kinds.iter().enumerate().map(|(at, (minutes, members, payg, business, network))| json!({
            "Id": at + 1, "Name": "Pass", "MinutesIncluded": minutes, "OnlyForMembers": members, "Price": 3,
            "UseAsPayAsYouGoForContacts": payg, "AllowNetworkCheckin": network,
            "Businesses": if *business == 0 { vec![] } else { vec![*business] },
            "TimeSlots": if *network { json!([{"DayOfWeek": 3, "FromTime": "09:00", "ToTime": "17:00"}]) } else { json!([]) },
        })).collect();
        let held: Vec<Value> = held.iter().enumerate().map(|(at, (kind, who, uses, expired))| json!({
            "Id": at + 1, "CoworkerId": who, "TimePassId": kind, "RemainingUses": uses,
            "ExpireDate": if *expired { json!("2026-01-12") } else { json!(null) },
        })).collect();
        let site = Site::of(json!({"TimePasses": kinds, "CoworkerTimePasses": held}));
        let now = at("2026-01-12T00:00:00Z").plus(Duration::from_secs(minutes * 60));
        let by = if by_network { CheckinSource::NetworkActivity } else { CheckinSource::DoorAccess };
        match site.ask_by(by, &now.to_rfc3339_seconds(), &Usage::default(), &[]) {
            Ok(found) => {
                let day = site.calendar.pass_day(now);
                prop_assert!(found.ends.is_none_or(|(end, _)| now < end && end < day.end));
                prop_assert_eq!(found.guid.is_none(), found.kind == PassKind::PayAsYouGo);
                let kind = site.directory.time_pass(found.time_pass).expect("a known kind");
                prop_assert!(!by_network || kind.allow_network_checkin);
                prop_assert!(kind.places.cover(BusinessId(1)));
                prop_assert!(!kind.only_for_members);
            }
            Err(refused) => prop_assert!(refused.reason == Reason::NoValidPass || refused.detail.is_some()),
        }
    }
}

proptest! {
    /// Visits may be counted in any order that occurs at two businesses with different dates for their pass days.
    #[test]
    fn running_totals_are_those_of_the_days(visits in prop::collection::vec((0u64..9, -1i64..=1, 0u64..9000), 1..40)) {
        let mut tally = PlanTally::default();
        let (mut stored, mut days): (BTreeMap<NaiveDate, Counted>, BTreeMap<NaiveDate, u64>) = Default::default();
        let mut date = NaiveDate::from_ymd_opt(2026, 1, 10).expect("a date");
        for (gap, apart, seconds) in visits {
            date = date + chrono::Days::new(gap);
            let of = date + chrono::TimeDelta::days(apart);
            stored.extend(tally.add(of, seconds));
            *days.entry(of).or_default() += seconds;
            prop_assert!(tally.days().len() <= 8);
            for before in days.keys() {
                let counted = PlanUsed(stored.clone()).within(NaiveDate::MIN, *before);
                let expected = Counted {
                    days: u32::try_from(days.range(..before).count()).expect("few"),
                    seconds: days.range(..before).map(|(_, seconds)| seconds).sum(),
                };
                prop_assert_eq!(counted, expected, "before {}", before);
            }
        }
    }
}

/// A site in London. Its people are Ada (1) and Bob (2) by default.
struct Site {
    directory: Directory,
    calendar: Calendar,
}

impl Site {
    fn of(site: Value) -> Self {
        Self::said(site, WallTime::from_millis(0))
    }

    /// A site with an import that set what its passes have left at `said`.
    fn said(mut site: Value, said: WallTime) -> Self {
        if site.get("Coworkers").is_none() {
            site["Coworkers"] = json!([{"Id": 1, "FullName": "Ada"}, {"Id": 2, "FullName": "Bob"}]);
        }
        let mut documents = import::read_json(&site.to_string(), "key").expect("imports").documents;
        documents.sort_by_key(|document| (document.kind, document.id));
        let mut builder = Builder::new(1, "key");
        for document in documents {
            builder.add_as_of(document.kind.read_text(&document.body).expect("reads"), said);
        }
        let calendar = Calendar { zone: test_zone("Europe/London"), cut_off: NaiveTime::MIN };
        Self { directory: builder.build(), calendar }
    }

    fn coworker(&self, id: i64) -> &Coworker {
        self.directory.coworker(CoworkerId(id)).expect("a coworker")
    }

    /// The identity of a pass that a person holds.
    fn guid(&self, id: i64) -> Uuid {
        let everybody: BTreeSet<i64> = (1..5).collect();
        let mut held = everybody.iter().flat_map(|who| self.directory.usable(CoworkerId(*who)));
        held.find(|pass| pass.id.0 == id).expect("a pass").guid
    }

    /// A visit today.
    fn spent(&self, who: i64, pass: Uuid, from: &str, to: Option<&str>) -> Spent {
        let time = |time: &str| {
            at(&format!("2026-01-14T{}Z", if time.len() == 5 { format!("{time}:00") } else { time.to_owned() }))
        };
        self.visit(who, Some(pass), time(from), to.map(time))
    }

    /// A visit in one stretch.
    fn visit(&self, who: i64, pass: Option<Uuid>, from: WallTime, to: Option<WallTime>) -> Spent {
        let day = self.calendar.pass_day(from);
        Spent { coworker: CoworkerId(who), pass, counts: false, from, to, day, since: from, before: 0 }
    }

    /// What one visit used of a pass, counted against the import of `basis_at`.
    fn used(pass: Uuid, spent: &Spent, basis_at: WallTime) -> Usage {
        let mut used = Used::nothing(spent.coworker, basis_at);
        used.add(spent);
        Usage { passes: BTreeMap::from([(pass, vec![used])]), ..Usage::default() }
    }

    fn question(&self, who: i64, by: CheckinSource, now: &str) -> Ask<'_> {
        Ask { coworker: self.coworker(who), business: BusinessId(1), by, at: at(now), from: at(now), continued: None }
    }

    fn ask(&self, now: &str) -> Result<PassUse, Refused> {
        self.ask_of(1, now)
    }

    fn ask_of(&self, who: i64, now: &str) -> Result<PassUse, Refused> {
        self.answer(&self.question(who, CheckinSource::DoorAccess, now), &Usage::default(), &[])
    }

    fn ask_with(&self, now: &str, usage: &Usage, also: &[Spent]) -> Result<PassUse, Refused> {
        self.answer(&self.question(1, CheckinSource::DoorAccess, now), usage, also)
    }

    fn ask_by(&self, by: CheckinSource, now: &str, usage: &Usage, also: &[Spent]) -> Result<PassUse, Refused> {
        self.answer(&self.question(1, by, now), usage, also)
    }

    fn answer(&self, ask: &Ask<'_>, usage: &Usage, also: &[Spent]) -> Result<PassUse, Refused> {
        match entitle(&self.directory, &PassPolicy::default(), &self.calendar, ask, usage, also)? {
            Entitlement::Pass(found) => Ok(found),
            Entitlement::Unchecked => panic!("the site has no passes"),
        }
    }
}

fn at(text: &str) -> WallTime {
    WallTime::from(text.parse::<DateTime<Utc>>().expect("a time in the test"))
}
