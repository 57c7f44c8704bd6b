//! Folds over a small world: Ada (1) and Bob (2), who share their passes, at two businesses.

use std::{collections::BTreeMap, sync::Arc};

use chrono::NaiveDate;
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Value, json};

use super::*;
use crate::{
    base::{
        fact::{DoorFact, FactOrder, Point, Recognised, ShownCredential, Subject},
        sighting::{CredentialKind, Direction, DoorEventKind, DoorKey, TimeQuality},
    },
    directory::{Builder, Directory, history::DirectoryHistory, import},
    engine::{
        fold::{FoldGroup, FoldItem, Folded, VisitRecord, World, ask, deadline, fold, silence_behind},
        passes::Counted,
        person::AfterPass,
    },
    policy::{
        PolicyHistory, SitePolicy,
        door::{Door, DoorAction},
        site::{NetworkOpens, test_site},
    },
};

const ADA: Subject = Subject(1);
const BOB: Subject = Subject(2);
/// A card that no one has.
const STRANGER: Subject = Subject(-7);

#[test]
fn a_pass_continues_at_the_business_where_they_come_in_next() {
    // By the other rules, a day pass would be chosen before a time pass.
    let passes = json!({
        "TimePasses": [{"Id": 1, "Name": "Hours", "MinutesIncluded": 600},
                       {"Id": 2, "Name": "Day", "Businesses": [2]}],
        "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1},
                               {"Id": 2, "CoworkerId": 1, "TimePassId": 2}],
    });
    let little = Little::of(&[(0, passes)]);
    let mut story = Story::default();
    story.door(ADA, ONE, Direction::In, at("09:00"));
    story.door(ADA, TWO, Direction::In, at("10:00"));
    story.door(ADA, TWO, Direction::Out, at("11:00"));
    story.door(ADA, TWO, Direction::In, at("12:00"));
    let folded = little.fold(&story, at("13:00"));
    let kinds = |visit: &VisitRecord| (visit.visit.business, visit.visit.pass.as_ref().map(|pass| pass.time_pass.0));
    let mut visits: Vec<&VisitRecord> = folded.visits.values().collect();
    visits.sort_by_key(|visit| visit.visit.from);
    let found: Vec<_> = visits.into_iter().map(kinds).collect();
    assert_eq!(found, [(ONE, Some(1)), (TWO, Some(1)), (TWO, Some(2))], "after an exit a pass is chosen again");
    assert_eq!(folded.ended.iter().map(|(_, ended)| ended.by).collect::<Vec<_>>(), [CloseBy::Elsewhere]);
}

#[test]
fn in_and_out_at_one_instant_is_decided_by_the_phase_of_the_person() {
    let mut little = Little::of(&[(0, json!({}))]);
    little.change_site(ONE, |site| site.record_every_visit = true);
    let seconds = |visit: &VisitRecord| visit.visit.to.map(|to| to.since(visit.visit.from).as_secs());
    for directions in [[Direction::In, Direction::Out], [Direction::Out, Direction::In]] {
        // A person who was out came in and left again.
        let mut story = Story::default();
        for direction in directions {
            story.door(ADA, ONE, direction, at("09:00"));
        }
        let folded = little.fold(&story, at("10:00"));
        assert_eq!(folded.visits.values().map(seconds).collect::<Vec<_>>(), [Some(0)], "{directions:?}");
        // A person who was in left and came back.
        let mut story = Story::default();
        story.door(ADA, ONE, Direction::In, at("08:00"));
        for direction in directions {
            story.door(ADA, ONE, direction, at("09:00"));
        }
        let folded = little.fold(&story, at("10:00"));
        let mut stays: Vec<_> = folded.visits.values().map(seconds).collect();
        stays.sort_unstable();
        assert_eq!(stays, [None, Some(3600)], "{directions:?}");
    }
}

#[test]
fn an_exit_in_the_instant_of_the_end_is_in_time_and_an_entry_belongs_to_what_begins() {
    // A Monday, like the day of the facts. The minutes end at 12:00, the slot at 12:00 and the day at 24:00.
    let monday = json!([{"DayOfWeek": chrono::Datelike::weekday(&at("09:00").utc()).num_days_from_sunday(), "FromTime": "09:00", "ToTime": "12:00"}]);
    for (kind, end) in
        [(json!({"MinutesIncluded": 180}), "12:00"), (json!({"TimeSlots": monday}), "12:00"), (json!({}), "24:00")]
    {
        let mut kind = kind;
        (kind["Id"], kind["Name"]) = (json!(1), json!("Pass"));
        let as_you_go =
            json!({"Id": 2, "Name": "Desk", "Price": 6, "MinutesIncluded": 60, "UseAsPayAsYouGoForContacts": true});
        let held = json!([{"Id": 1, "CoworkerId": 1, "TimePassId": 1}]);
        let little = Little::of(&[(0, json!({"TimePasses": [kind, as_you_go], "CoworkerTimePasses": held}))]);
        let told = |direction, late: i64| {
            let mut story = Story::default();
            story.door(ADA, ONE, Direction::In, at("09:00"));
            story.door(ADA, ONE, direction, at(end).moved(late));
            let folded = little.fold(&story, at(end).moved(10 * 60_000));
            let mut visits: Vec<&Visit> = folded.visits.values().map(|record| &record.visit).collect();
            visits.sort_by_key(|visit| visit.from);
            visits.iter().map(|visit| (visit.to, visit.auto_checkout)).collect::<Vec<_>>()
        };
        assert_eq!(told(Direction::Out, 0), [(Some(at(end)), false)], "{kind}");
        assert_eq!(told(Direction::In, 0), [(Some(at(end)), true), (None, false)], "{kind}");
        assert_eq!(told(Direction::Out, 1)[0], (Some(at(end)), true), "{kind}");

        // A fold that ran at that very instant must be done again.
        let (mut story, mut exit) = (Story::default(), Story::default());
        story.door(ADA, ONE, Direction::In, at("09:00"));
        exit.door(ADA, ONE, Direction::Out, at(end));
        let folded = little.fold(&story, at(end));
        assert!(exit.items()[0].is_late(&folded.people[&ADA]), "{kind}");
    }
}

#[test]
fn a_block_counts_its_presence_towards_the_plan_without_the_gap() {
    let little = Little::of(&[(0, plan(&json!({"HoursWeekLimit": 99})))]);
    let mut story = Story::default();
    for day in 0..3 {
        for (direction, hour) in [(Direction::In, 9), (Direction::Out, 12), (Direction::In, 13), (Direction::Out, 17)] {
            story.door(ADA, ONE, direction, minutes(day * 1440 + hour * 60));
        }
    }
    let folded = little.fold(&story, minutes(3 * 1440));
    assert_eq!(folded.visits.len(), 3);
    // The last two days may still change.
    let counted = folded.people[&ADA].counted.days().last().map(|(_, total)| *total);
    assert_eq!(counted, Some(Counted { days: 1, seconds: 7 * 3600 }));
}

/// Coworkers on a plan with these limits, and a day pass that counts towards them.
fn plan(limits: &Value) -> Value {
    let mut tariff = json!({"Id": 5, "Name": "Part time"});
    for (name, value) in limits.as_object().expect("fields") {
        tariff[name] = value.clone();
    }
    json!({
        "Tariffs": [tariff],
        "Coworkers": [{"Id": 1, "FullName": "Ada", "TariffId": 5}, {"Id": 2, "FullName": "Bob"}],
        "TimePasses": [{"Id": 1, "Name": "Day", "CountsTowardsPlanLimits": true},
                       {"Id": 2, "Name": "Hour", "MinutesIncluded": 60, "CountsTowardsPlanLimits": true}],
        "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1, "RemainingUses": 9999}],
    })
}

/// A person with a long history, but no visits in the last weeks.
fn long_known() -> PersonState {
    let mut person = PersonState::default();
    person.counted.add(NaiveDate::from_ymd_opt(2025, 11, 20).expect("a date"), 800 * 3600);
    person
}

#[test]
fn what_was_before_the_window_does_not_count_towards_a_plan() {
    let little = Little::of(&[(0, plan(&json!({"HoursWeekLimit": 1})))]);
    let mut story = Story::default();
    story.door(ADA, ONE, Direction::In, at("09:00"));
    let folded = little.fold_from(&[(ADA, long_known())], &story, at("09:30"));
    assert_eq!(folded.decisions[0].outcome, Outcome::Opened);
}

#[test]
fn a_new_limit_in_the_directory_does_not_count_what_was_before_its_window() {
    // The old plan limits a week, the new one a month.
    let month = json!({"HoursMonthLimit": 20});
    let little = Little::of(&[(0, plan(&json!({"HoursWeekLimit": 20}))), (at("10:00").millis(), plan(&month))]);
    let mut story = Story::default();
    story.door(ADA, ONE, Direction::In, at("09:00"));
    let folded = little.fold_from(&[(ADA, long_known())], &story, at("11:00"));
    assert!(folded.people[&ADA].open().is_some(), "no hour of this month was used before: {:?}", folded.ended);
}

#[test]
fn a_pass_that_ends_is_followed_by_another_although_something_was_said_elsewhere_since() {
    // The weeks of the two businesses begin on different days.
    let mut kinds = plan(&json!({"HoursWeekLimit": 20}));
    kinds["CoworkerTimePasses"] = json!([
        {"Id": 1, "CoworkerId": 1, "TimePassId": 1, "RemainingUses": 9999, "ExpireDate": "2026-01-10T10:00:00Z"},
        {"Id": 2, "CoworkerId": 1, "TimePassId": 2},
    ]);
    let mut little = Little::of(&[(0, kinds)]);
    little.change_site(TWO, |site| site.passes.week_starts_on = chrono::Weekday::Sun);
    let mut story = Story::default();
    story.door(ADA, TWO, Direction::In, at("09:00"));
    story.door(ADA, ONE, Direction::Out, at("09:30"));
    let folded = little.fold_from(&[(ADA, long_known())], &story, at("10:30"));
    let (_, ended) = &folded.ended[0];
    assert_eq!(ended.at, at("10:00"));
    assert!(matches!(ended.after_pass, Some(AfterPass::On(_))), "{ended:?}");
}

#[test]
fn a_state_stays_small_however_many_visits_there_were() {
    let sizes = [20, 200].map(|days| {
        let little = Little::of(&[(0, busy())]);
        let mut story = Story::default();
        for day in 0..days {
            for (number, business) in [ONE, TWO, ONE].into_iter().enumerate() {
                let from = minutes(day * 1440 + 9 * 60 + i64::try_from(number).expect("small") * 120);
                story.door(ADA, business, Direction::In, from);
                story.heard(ADA, business, PHONE, from.plus(Duration::from_mins(5)), Duration::from_mins(1));
                story.door(ADA, business, Direction::Out, from.plus(Duration::from_hours(1)));
                story.denied(ADA, business, from.plus(Duration::from_mins(70)));
            }
        }
        let folded = little.fold(&story, minutes(days * 1440));
        assert!(i64::try_from(folded.visits.len()).is_ok_and(|visits| visits >= 2 * days), "{}", folded.visits.len());
        let person = &folded.people[&ADA];
        assert!(person.visits.len() <= person::STILL_OPEN_TO_CHANGE);
        person.to_bytes().len()
    });
    assert!(sizes[1] <= sizes[0] + 16, "{sizes:?}");
    assert!(sizes[1] < 800, "{sizes:?}");
}

#[test]
fn visits_before_a_window_that_are_settled_in_it_do_not_count_in_it() {
    // 2026-01-10 is a Saturday; eight hours on that day and each of the next three.
    let little = Little::of(&[(0, plan(&json!({"HoursWeekLimit": 20})))]);
    let mut story = Story::default();
    for day in 0..4 {
        story.door(ADA, ONE, Direction::In, minutes(day * 1440 + 9 * 60));
        story.door(ADA, ONE, Direction::Out, minutes(day * 1440 + 17 * 60));
    }
    story.door(ADA, ONE, Direction::In, minutes(4 * 1440 + 9 * 60));
    let folded = little.fold(&story, minutes(4 * 1440 + 10 * 60));
    assert_eq!(folded.decisions[8].outcome, Outcome::Opened, "16 of 20 hours: {:?}", folded.decisions[8]);
    let open = folded.people[&ADA].open().expect("open");
    assert_eq!(open.pass.as_ref().and_then(|pass| pass.ends).map(|(at, _)| at), Some(minutes(4 * 1440 + 13 * 60)));
}

#[test]
fn a_window_that_is_asked_about_late_in_a_fold_counts_from_its_first_day() {
    // Monday is in the week that began on Sunday at the other business, and in the one that begins here. The state
    // contains the total before both, so it need not be looked up.
    let mut little = Little::of(&[(0, plan(&json!({"HoursWeekLimit": 20})))]);
    little.change_site(TWO, |site| site.passes.week_starts_on = chrono::Weekday::Sun);
    little.change_site(ONE, |site| site.record_every_visit = true);
    let mut story = Story::default();
    for hour in [9, 11, 13] {
        story.door(ADA, ONE, Direction::In, minutes(2 * 1440 + hour * 60));
        story.door(ADA, ONE, Direction::Out, minutes(2 * 1440 + (hour + 1) * 60));
    }
    story.door(ADA, TWO, Direction::In, minutes(2 * 1440 + 15 * 60));
    let folded = little.fold_from(&[(ADA, long_known())], &story, minutes(2 * 1440 + 16 * 60));
    assert_eq!(folded.decisions[6].outcome, Outcome::Opened, "three of 20 hours: {:?}", folded.decisions[6]);
}

#[test]
fn a_directory_that_says_the_same_changes_no_end_of_a_pass() {
    let limits = plan(&json!({"HoursWeekLimit": 4}));
    for versions in [vec![(0, limits.clone())], vec![(0, limits.clone()), (at("13:30").millis(), limits)]] {
        let little = Little::of(&versions);
        let mut story = Story::default();
        for (direction, time) in [(Direction::In, "09:00"), (Direction::Out, "12:00"), (Direction::In, "13:00")] {
            story.door(ADA, ONE, direction, at(time));
        }
        let folded = little.fold(&story, at("13:45"));
        let open = folded.people[&ADA].open().expect("open");
        let ends = open.pass.as_ref().and_then(|pass| pass.ends);
        assert_eq!(ends.map(|(end, _)| end), Some(at("14:00")), "three of four hours were used: {}", versions.len());
    }
}

#[test]
fn the_last_use_of_a_day_pass_lasts_although_an_import_says_that_it_is_used() {
    let kinds = |uses: u32| {
        json!({
            "TimePasses": [{"Id": 1, "Name": "Day"}],
            "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1, "RemainingUses": uses}],
        })
    };
    let little = Little::of(&[(0, kinds(1)), (at("12:00").millis(), kinds(0))]);
    let mut story = Story::default();
    story.door(ADA, ONE, Direction::In, at("09:00"));
    let folded = little.fold(&story, at("13:00"));
    assert_eq!(folded.ended, [], "the day is paid");
    assert_eq!(folded.visits.len(), 1);
}

#[test]
fn the_idle_limit_is_that_of_the_business_where_they_are_in() {
    let mut little = Little::of(&[(0, json!({}))]);
    little.change_site(TWO, |site| site.idle_limit = Duration::from_mins(30));
    for (time, note) in [("09:35", Some(Note::InElsewhere)), ("09:46", None)] {
        let mut story = Story::default();
        story.door(ADA, ONE, Direction::In, at("09:00"));
        story.heard(ADA, TWO, PHONE, at(time), Duration::ZERO);
        let folded = little.fold(&story, at(time));
        assert_eq!(folded.decisions[1].note, note, "{time}");
    }
    for (time, note) in [("09:29", Some(Note::InElsewhere)), ("09:31", None)] {
        let mut story = Story::default();
        story.door(ADA, TWO, Direction::In, at("09:00"));
        story.heard(ADA, ONE, PHONE, at(time), Duration::ZERO);
        let folded = little.fold(&story, at(time));
        assert_eq!(folded.decisions[1].note, note, "{time}");
    }
}

#[test]
fn a_withdrawn_person_is_out_when_the_directory_says_so() {
    let little = Little::of(&[(0, busy()), (at("10:00").millis(), busier())]);
    let mut story = Story::default();
    story.door(BOB, ONE, Direction::In, at("09:00"));
    story.door(BOB, ONE, Direction::In, at("10:30"));
    let folded = little.fold(&story, at("11:00"));
    let ended: Vec<_> = folded.ended.iter().map(|(who, ended)| (*who, ended.at, ended.by)).collect();
    assert_eq!(ended, [(BOB, at("10:00"), CloseBy::Withdrawn)]);
    assert_eq!(folded.decisions[1].reason, Some(Reason::CoworkerInactive));
    assert_eq!((folded.visits.len(), folded.failures.len()), (1, 1));
}

#[test]
fn a_device_that_is_refused_again_fails_once_a_day() {
    let little = Little::of(&[(0, busier())]);
    let mut story = Story::default();
    for minute in [540, 550, 560, 1980] {
        story.heard(BOB, ONE, PHONE, minutes(minute), Duration::ZERO);
    }
    let folded = little.fold(&story, minutes(2 * 1440));
    assert_eq!(folded.failures.len(), 2);
    let notes: Vec<_> = folded.decisions.iter().map(|decision| decision.note).collect();
    assert_eq!(notes, [None, Some(Note::FailedBefore), Some(Note::FailedBefore), None]);
}

#[test]
fn silence_waits_for_earlier_evidence_that_is_not_delivered_yet() {
    let little = Little::of(&[(0, json!({}))]);
    let mut story = Story::default();
    story.heard(ADA, ONE, PHONE, at("09:00"), Duration::ZERO);
    let items = story.items();
    for (quiet_until, open) in [("09:45", true), ("09:46", false)] {
        let folded = fold(little.world(at("10:00"), at(quiet_until)), Little::group(&[]), &items);
        assert_eq!(folded.people[&ADA].open().is_some(), open, "{quiet_until}");
    }
    // A presence that began before the silence was over keeps them in, although it is decided after that.
    story.heard(ADA, ONE, PHONE, at("09:50"), Duration::from_mins(6));
    let folded = little.fold(&story, at("10:00"));
    assert_eq!((folded.visits.len(), folded.ended.len()), (1, 0));
}

#[test]
fn the_same_facts_give_the_same_identities() {
    let little = Little::of(&[(0, busy())]);
    let mut story = Story::default();
    story.door(ADA, ONE, Direction::In, at("09:00"));
    story.denied(BOB, TWO, at("09:30"));
    let ids = |now: &str| {
        let folded = little.fold(&story, at(now));
        (folded.visits.into_keys().collect::<Vec<_>>(), folded.failures.into_keys().collect::<Vec<_>>())
    };
    assert_eq!(ids("10:00"), ids("23:00"));
}

#[test]
fn a_deadline_is_never_later_than_the_end_of_a_visit() {
    let little = Little::of(&[(0, json!({}))]);
    let mut by_card = Story::default();
    by_card.door(ADA, ONE, Direction::In, at("09:00"));
    let mut tracked = Story::default();
    tracked.heard(ADA, TWO, PHONE, at("09:00"), Duration::ZERO);
    let idle = WallTime::from_millis(at("09:45").millis() + 1);
    for (story, business, expected) in [(&by_card, ONE, at("24:00")), (&tracked, TWO, idle)] {
        let folded = little.fold(story, at("09:10"));
        let world = little.world(at("09:10"), at("09:10"));
        assert_eq!(deadline(&folded.people[&ADA], &world), Some((business, expected)));
        let folded = little.fold(story, expected);
        assert_eq!(deadline(&folded.people[&ADA], &world), None, "the visit is over by then");
    }
}

#[test]
fn an_answer_says_what_would_be_done_and_what_was_charged() {
    let desk = json!({"TimePasses": [{"Id": 3, "Name": "Desk", "Price": 6, "MinutesIncluded": 60,
        "UseAsPayAsYouGoForContacts": true}]});
    let little = Little::of(&[(0, desk)]);
    let mut story = Story::default();
    story.door(ADA, ONE, Direction::In, at("09:00"));
    story.door(ADA, ONE, Direction::Out, at("10:00"));
    let people = little.fold(&story, at("12:00")).people;
    let world = little.world(at("12:00"), at("12:00"));
    let asked = |business, time| {
        let group = FoldGroup { people: people.clone(), ..FoldGroup::default() };
        let (admission, charged) = ask(world, group, CoworkerId(1), business, (at(time), CheckinSource::DoorAccess));
        let kind = match admission {
            Admission::Admitted(Some(pass)) => Some(pass.kind),
            Admission::Admitted(None) | Admission::Refused(_) | Admission::NotNow(_) => None,
        };
        (kind, charged.amount)
    };
    assert_eq!(asked(ONE, "12:00"), (Some(PassKind::PayAsYouGo), 600));
    assert_eq!(asked(TWO, "12:00"), (Some(PassKind::PayAsYouGo), 0), "each business charges its own day");
    assert_eq!(asked(ONE, "36:00"), (Some(PassKind::PayAsYouGo), 0), "another day");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases * 2,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/regressions/folding.txt"))),
        ..ProptestConfig::default()
    })]

    /// A fold up to some point, and another from the people that it returned, make the same records as one over
    /// everything.
    #[test]
    fn a_fold_that_is_split_makes_the_same_records(
        told in prop::collection::vec((0i64..3 * 86_400, 0usize..3, any::<bool>(), 0u8..8, 0u64..3000), 2..40),
        split in 0usize..40,
        later in 0i64..=100,
        changes: bool,
    ) {
        let versions = if changes { vec![(0, busy()), (minutes(2000).millis(), busier())] } else { vec![(0, busy())] };
        let mut little = Little::of(&versions);
        little.change_site(TWO, |site| {
            site.cut_off = NaiveTime::from_hms_opt(3, 0, 0).expect("a time");
            site.idle_limit = Duration::from_mins(30);
            site.network_opens = NetworkOpens::AfterDoor;
        });
        let mut story = Story::default();
        for (second, who, here, kind, length) in told {
            let (subject, business) = ([ADA, BOB, STRANGER][who], if here { ONE } else { TWO });
            story.some(subject, business, kind, WallTime::from_millis(MIDNIGHT + second * 1000), length);
        }
        let items = story.items();
        let end = minutes(4 * 1440);
        let whole = fold(little.world(end, end), Little::group(&[]), &items);

        // A fact that is late for the first fold would make it start earlier, so move the split until nothing is late.
        let mut at = split.min(items.len() - 1);
        let (before, after) = loop {
            let (first, rest) = items.split_at(at);
            let next = rest.first().map_or(end, |item| item.place.at);
            let last = first.last().map_or(WallTime::from_millis(MIDNIGHT), |item| item.place.at);
            let now = last.moved((next.millis() - last.millis()) * later / 100);
            let quiet_until = rest.iter().map(FoldItem::seen_at).min().unwrap_or(now).min(now);
            let before = fold(little.world(now, quiet_until), Little::group(&[]), first);
            let late = rest.iter().any(|item| item.is_late(&before.people[&item.subject]));
            let silence = silence_behind(before.people.values(), &little.world(end, end));
            if !late && silence.is_none() || at == 0 {
                // The totals of the first fold are what a database would contain.
                let group = FoldGroup { people: before.people.clone(), totals: before.counted.clone(), ..FoldGroup::default() };
                let after = fold(little.world(end, end), group, rest);
                break (before, after);
            }
            at -= 1;
        };
        let decisions: Vec<&Decision> = before.decisions.iter().chain(&after.decisions).collect();
        prop_assert_eq!(decisions, whole.decisions.iter().collect::<Vec<_>>());
        let mut visits = before.visits;
        for (id, record) in after.visits {
            let opened = visits.remove(&id).and_then(|known| known.opened);
            visits.insert(id, VisitRecord { opened: record.opened.clone().or(opened), ..record });
        }
        prop_assert_eq!(visits, whole.visits);
        let failures: BTreeMap<_, _> = before.failures.into_iter().chain(after.failures).collect();
        prop_assert_eq!(failures, whole.failures);
        let charges: BTreeMap<_, _> = before.charges.into_iter().chain(after.charges).collect();
        prop_assert_eq!(charges, whole.charges);
        let counted: BTreeMap<_, _> = before.counted.into_iter().chain(after.counted).collect();
        prop_assert_eq!(counted, whole.counted);
        let shown = |people: BTreeMap<Subject, PersonState>| {
            people.into_values().map(|person| PersonState { silent_at: None, ..person }).collect::<Vec<_>>()
        };
        prop_assert_eq!(shown(after.people), shown(whole.people));
    }

    /// A late fact makes a fold start at a checkpoint. From there it makes the same records.
    #[test]
    fn a_fold_from_a_checkpoint_makes_the_same_records(
        told in prop::collection::vec((0i64..4 * 86_400, any::<bool>(), 0u8..8, 0u64..3000), 2..40),
        chosen: prop::sample::Index,
        changes: bool,
    ) {
        let mut versions = vec![(0, busy())];
        if changes {
            versions.push((minutes(2000).millis(), busier()));
        }
        let little = Little::of(&versions);
        let mut story = Story::default();
        for (second, here, kind, length) in told {
            let business = if here { ONE } else { TWO };
            story.some(ADA, business, kind, WallTime::from_millis(MIDNIGHT + second * 1000), length);
        }
        let items = story.items();
        let whole = little.fold(&story, minutes(5 * 1440));
        prop_assume!(!whole.checkpoints.is_empty());
        let (subject, day, person) = chosen.get(&whole.checkpoints);
        prop_assert!(person.folded.at < day.start() || person.folded == FactOrder::FIRST);
        let rest = &items[items.partition_point(|item| item.place <= person.folded)..];
        prop_assert!(rest.iter().all(|item| !item.is_late(person)));
        let end = minutes(5 * 1440);
        let again = fold(little.world(end, end), Little::group(&[(*subject, person.clone())]), rest);
        prop_assert_eq!(&again.people, &whole.people);
        prop_assert_eq!(&again.decisions[..], &whole.decisions[items.len() - rest.len()..]);
        for (id, record) in &again.visits {
            prop_assert_eq!(&record.visit, &whole.visits[id].visit);
        }
        let since = whole.visits.values().filter(|record| record.visit.from >= day.start());
        prop_assert!(since.into_iter().all(|record| again.visits.contains_key(&record.visit.unique_id)));
        let charges = again.charges.iter().all(|(id, charge)| whole.charges.get(id) == Some(charge));
        prop_assert!(charges, "{:?} are not among {:?}", again.charges, whole.charges);
    }
}

/// Everything that can affect a decision: limits, shared passes for days and minutes, pay-as-you-go.
fn busy() -> Value {
    json!({
        "Teams": [{"Id": 8, "Name": "Rocket", "TeamMembers": [1, 2], "ShareTimePasses": true}],
        "Tariffs": [{"Id": 5, "Name": "Part time", "HoursWeekLimit": 40, "CheckinMonthLimit": 20}],
        "Coworkers": [{"Id": 1, "FullName": "Ada", "TariffId": 5}, {"Id": 2, "FullName": "Bob"}],
        "TimePasses": [
            {"Id": 1, "Name": "Day", "CountsTowardsPlanLimits": true},
            {"Id": 2, "Name": "Hours", "MinutesIncluded": 300, "CountsTowardsPlanLimits": true},
            {"Id": 3, "Name": "Desk", "Price": 6, "MinutesIncluded": 60, "UseAsPayAsYouGoForContacts": true,
             "UseAsPayAsYouGoForMembers": true},
        ],
        "CoworkerTimePasses": [
            {"Id": 1, "CoworkerId": 1, "TimePassId": 1, "RemainingUses": 2},
            {"Id": 2, "CoworkerId": 2, "TimePassId": 2},
        ],
    })
}

/// The same, after the day passes were taken away and Bob left.
fn busier() -> Value {
    let mut site = busy();
    site["Coworkers"][1]["Active"] = false.into();
    site["CoworkerTimePasses"] = json!([{"Id": 3, "CoworkerId": 1, "TimePassId": 2}]);
    site
}

/// What is needed to judge facts: directories in force from different instants, two businesses, coverage most of the
/// time.
struct Little {
    directories: DirectoryHistory,
    policies: PolicyHistory,
    sites: [SitePolicy; 2],
    coverage: BTreeMap<BusinessId, Coverage>,
}

impl Little {
    fn of(versions: &[(i64, Value)]) -> Self {
        let mut directories: Option<DirectoryHistory> = None;
        for (number, (from, site)) in (1..).zip(versions) {
            let from = WallTime::from_millis(*from);
            let read = Arc::new(directory(number, site, from));
            match &mut directories {
                None => directories = Some(DirectoryHistory::only(read)),
                Some(known) => known.add(from, read),
            }
        }
        let hears = Coverage::new([(minutes(0), minutes(1500)), (minutes(1560), minutes(300 * 1440))]);
        let sites = [ONE, TWO].map(|business| {
            let door = Door {
                pattern: "*".to_owned(),
                name: "Main".to_owned(),
                on_in: DoorAction::CheckIn,
                on_out: DoorAction::CheckOut,
            };
            SitePolicy { site: settings_of(business), doors: vec![door] }
        });
        let mut little = Self {
            directories: directories.expect("a version"),
            policies: PolicyHistory::default(),
            sites,
            coverage: BTreeMap::from([(ONE, hears.clone()), (TWO, hears)]),
        };
        little.change_site(ONE, |_| {});
        little
    }

    fn change_site(&mut self, business: BusinessId, change: impl FnOnce(&mut crate::policy::site::Site)) {
        if let Some(policy) = self.sites.iter_mut().find(|policy| policy.site.business == business) {
            change(&mut policy.site);
        }
        self.policies = PolicyHistory::default();
        for policy in &self.sites {
            self.policies.add(WallTime::from_millis(0), policy.clone());
        }
    }

    fn world(&self, now: WallTime, quiet_until: WallTime) -> World<'_> {
        let Self { directories, policies, coverage, .. } = self;
        World { directories, policies, coverage, now, quiet_until }
    }

    /// Everyone, with the states of those who are already known.
    fn group(known: &[(Subject, PersonState)]) -> FoldGroup {
        let mut people: BTreeMap<Subject, PersonState> =
            [ADA, BOB, STRANGER].map(|subject| (subject, PersonState::default())).into();
        people.extend(known.iter().cloned());
        FoldGroup { people, ..FoldGroup::default() }
    }

    fn fold(&self, story: &Story, now: WallTime) -> Folded {
        self.fold_from(&[], story, now)
    }

    fn fold_from(&self, known: &[(Subject, PersonState)], story: &Story, now: WallTime) -> Folded {
        fold(self.world(now, now), Self::group(known), &story.items())
    }
}

fn settings_of(business: BusinessId) -> crate::policy::site::Site {
    crate::policy::site::Site { business, ..test_site() }
}

fn directory(version: i64, site: &Value, basis_at: WallTime) -> Directory {
    let mut site = site.clone();
    if site.get("Coworkers").is_none() {
        site["Coworkers"] = json!([{"Id": 1, "FullName": "Ada"}, {"Id": 2, "FullName": "Bob"}]);
    }
    let mut documents = import::read_json(&site.to_string(), "key").expect("imports").documents;
    documents.sort_by_key(|document| (document.kind, document.id));
    let mut builder = Builder::new(version, "key");
    for document in documents {
        builder.add_as_of(document.kind.read_text(&document.body).expect("reads"), basis_at);
    }
    builder.build()
}

/// What happened, in any order.
#[derive(Default)]
struct Story {
    doors: Vec<DoorFact>,
    heard: Vec<(Subject, BusinessId, MacAddr, Point)>,
}

impl Story {
    /// The items in time order, each once.
    fn items(&self) -> Vec<FoldItem<'_>> {
        let heard =
            self.heard.iter().map(|&(subject, business, mac, point)| FoldItem::seen(subject, business, mac, point));
        let mut items: Vec<FoldItem<'_>> = self.doors.iter().map(FoldItem::door).chain(heard).collect();
        items.sort_by_key(|item| item.place);
        items.dedup_by_key(|item| item.place);
        items
    }

    fn door(&mut self, subject: Subject, business: BusinessId, direction: Direction, at: WallTime) {
        self.said(subject, business, (DoorEventKind::Granted, direction), at);
    }

    fn denied(&mut self, subject: Subject, business: BusinessId, at: WallTime) {
        self.said(subject, business, (DoorEventKind::Denied, Direction::In), at);
    }

    fn said(
        &mut self,
        subject: Subject,
        business: BusinessId,
        (kind, direction): (DoorEventKind, Direction),
        at: WallTime,
    ) {
        let known = subject.as_coworker().is_some();
        let number = self.doors.len().to_be_bytes();
        self.doors.push(DoorFact {
            business,
            at,
            quality: TimeQuality::Device,
            arrived: at,
            subject,
            recognised: if known { Recognised::Coworker } else { Recognised::Unknown },
            digest: FactDigest::of([number.as_slice()]),
            ordinal: 0,
            source: "front".into(),
            kind,
            door: DoorKey("main".to_owned()),
            direction,
            shown: Some(ShownCredential {
                kind: CredentialKind::Card,
                scope: None,
                value: Some(subject.0.to_string()),
            }),
            refusal: None,
            too_late: false,
        });
    }

    /// Strong evidence up to an instant.
    fn heard(&mut self, subject: Subject, business: BusinessId, mac: MacAddr, last_at: WallTime, length: Duration) {
        let first_at = last_at.minus(length);
        let point = Point { last_at, first_at, strong_at: Some(last_at), since: first_at, frames: 3 };
        self.heard.push((subject, business, mac, point));
    }

    fn some(&mut self, subject: Subject, business: BusinessId, kind: u8, at: WallTime, length: u64) {
        match kind {
            0 | 1 => self.door(subject, business, Direction::In, at),
            2 => self.door(subject, business, Direction::Out, at),
            3 => self.denied(subject, business, at),
            _ if subject == STRANGER => self.door(subject, business, Direction::In, at),
            4 => {
                self.heard(subject, business, LAPTOP, at, Duration::from_secs(length));
                let (.., point) = self.heard.last_mut().expect("just added");
                point.strong_at = None;
            }
            _ => self.heard(subject, business, PHONE, at, Duration::from_secs(length)),
        }
    }
}
