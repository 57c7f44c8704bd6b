//! The life cycle of a check-in from outside: one coworker, one day, one claim after the other.

mod folding;

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use chrono::NaiveTime;
use proptest::prelude::*;

use super::{
    coverage::Coverage,
    life::CloseBy,
    passes::PassKind,
    person::{AdmissionCheck, ClaimContext, EndedVisit, PersonState, Visit},
    *,
};
use crate::base::{
    fact::{FactDigest, TapId},
    record::{BusinessId, CoworkerId, TimePassId},
    zone::test_zone,
};
use crate::policy::{Rules, calendar::Calendar};

const ONE: BusinessId = BusinessId(1);
const TWO: BusinessId = BusinessId(2);

const PHONE: MacAddr = MacAddr::new([0x3c, 0x22, 0xfb, 0, 0, 1]);
const LAPTOP: MacAddr = MacAddr::new([0x3c, 0x22, 0xfb, 0, 0, 2]);

#[test]
fn a_tap_in_and_a_tap_out_make_one_visit() {
    let mut site = Site::new();
    assert_eq!(site.door(DoorClaim::Entry, "09:00").outcome, Outcome::Opened);
    assert_eq!(site.door(DoorClaim::Activity, "11:00").outcome, Outcome::Refreshed);
    assert_eq!(site.door(DoorClaim::Exit, "17:00").outcome, Outcome::Closed);
    assert_eq!(site.visits(), ["09:00-17:00 door"]);
}

#[test]
fn a_second_entry_refreshes_and_an_exit_while_out_does_nothing() {
    let mut site = Site::new();
    assert_eq!(site.door(DoorClaim::Exit, "08:00").note, Some(Note::NotCheckedIn));
    site.door(DoorClaim::Entry, "09:00");
    assert_eq!(site.door(DoorClaim::Entry, "09:30").outcome, Outcome::Refreshed);
    assert_eq!(site.visits(), ["09:00- door last 09:30"]);
}

#[test]
fn a_refused_entry_fails_with_its_reason_and_opens_nothing() {
    let mut site = Site::new();
    site.admission = Admission::Refused(Refused { reason: Reason::CoworkerInactive, detail: None });
    let decision = site.door(DoorClaim::Entry, "09:00");
    assert_eq!((decision.outcome, decision.reason), (Outcome::Failed, Some(Reason::CoworkerInactive)));
    assert!(site.visits().is_empty());
}

#[test]
fn toggle_lets_in_then_out_but_not_within_the_minimum_stay() {
    let mut site = Site::new();
    assert_eq!(site.door(DoorClaim::Toggle, "09:00:00").outcome, Outcome::Opened);
    assert_eq!(site.door(DoorClaim::Toggle, "09:00:30").outcome, Outcome::Refreshed);
    assert_eq!(site.door(DoorClaim::Toggle, "09:01:00").outcome, Outcome::Closed);
    assert_eq!(site.door(DoorClaim::Toggle, "09:02:00").outcome, Outcome::Opened);
}

#[test]
fn the_first_toggle_tap_after_the_network_opened_the_visit_is_an_entry() {
    let mut site = Site::new();
    site.strong(PHONE, "08:55");
    assert_eq!(site.door(DoorClaim::Toggle, "09:00").outcome, Outcome::Refreshed);
    assert_eq!(site.door(DoorClaim::Toggle, "12:00").outcome, Outcome::Closed);
}

#[test]
fn the_first_toggle_tap_after_their_pass_ended_is_their_exit() {
    let ends = Some((at("12:00"), passes::PassEnd::SlotEnds));
    let morning = Admission::Admitted(Some(PassUse { ends, ..day_pass(Uuid::from_u128(1)) }));
    let refused = Admission::Refused(Refused { reason: Reason::PassOutsideHours, detail: None });
    let was_in = |heard: Option<&str>| {
        let mut site = Site { admission: morning.clone(), coverage: always(), ..Site::new() };
        site.door(DoorClaim::Toggle, "09:00");
        heard.map(|heard| site.strong(PHONE, heard));
        site.admission = refused.clone();
        site.pass_time("12:00");
        site.admission = Admission::Admitted(None);
        site
    };
    let exit = (Outcome::Recorded, "09:00-12:00 door auto");
    for (heard, tap, expected) in [
        (None, "12:30", exit),
        (None, "23:59", exit),
        (Some("11:50"), "12:35", exit),
        // They had left long before; the next day is separate.
        (Some("11:50"), "12:36", (Outcome::Opened, "09:00-11:50 door auto")),
        (None, "24:00", (Outcome::Opened, "09:00-12:00 door auto")),
    ] {
        let mut site = was_in(heard);
        let outcome = site.door(DoorClaim::Toggle, tap).outcome;
        assert_eq!((outcome, site.visits()[0].as_str()), expected, "{heard:?} {tap}");
    }
    let mut site = was_in(None);
    let taps = ["12:30:00", "12:30:59", "12:31:00"].map(|tap| site.door(DoorClaim::Toggle, tap).outcome);
    assert_eq!(taps, [Outcome::Recorded, Outcome::Recorded, Outcome::Opened], "in again after the minimum absence");
}

#[test]
fn strong_evidence_opens_weak_evidence_only_refreshes() {
    let mut site = Site::new();
    assert_eq!(site.weak(PHONE, "08:50").note, Some(Note::WeakEvidence));
    assert_eq!(site.strong(PHONE, "09:00").outcome, Outcome::Opened);
    assert_eq!(site.weak(PHONE, "09:40").outcome, Outcome::Refreshed);
    assert_eq!(site.visits(), ["09:00- network last 09:40"]);
}

#[test]
fn weak_evidence_keeps_no_one_in_for_longer_than_two_idle_limits() {
    let mut site = Site::new();
    site.strong(PHONE, "09:00");
    assert_eq!(site.weak(PHONE, "10:30").outcome, Outcome::Refreshed);
    assert_eq!(site.weak(PHONE, "10:31").note, Some(Note::WeakEvidence));
}

#[test]
fn weak_evidence_does_not_make_a_card_visit_tracked() {
    let mut site = Site { coverage: always(), ..Site::new() };
    site.door(DoorClaim::Entry, "09:00");
    assert_eq!(site.weak(PHONE, "09:10").note, Some(Note::WeakEvidence));
    assert_eq!(site.pass_time("23:59"), []);
    assert_eq!(site.visits(), ["09:00- door last 09:00"]);
}

#[test]
fn silence_closes_a_tracked_visit_at_its_last_activity() {
    let mut site = Site { coverage: always(), ..Site::new() };
    site.door(DoorClaim::Entry, "09:00");
    site.strong(LAPTOP, "09:30");
    site.strong(LAPTOP, "10:15");
    assert_eq!(site.pass_time("11:00"), [], "the silence is not longer than the limit");
    let ended = site.pass_time("11:01");
    assert_eq!(ended.iter().map(|ended| (ended.by, ended.at)).collect::<Vec<_>>(), [(CloseBy::Silence, at("11:00"))]);
    assert_eq!(site.visits(), ["09:00-10:15 door auto"]);
}

#[test]
fn the_cut_off_closes_a_tracked_visit_at_its_last_activity_and_another_at_the_cut_off() {
    let mut site = Site::new();
    site.strong(PHONE, "18:00");
    site.pass_time("24:00");
    assert_eq!(site.visits(), ["18:00-18:00 network auto"]);

    let mut site = Site::new();
    site.door(DoorClaim::Entry, "18:00");
    site.pass_time("24:00");
    assert_eq!(site.visits(), ["18:00-24:00 door auto"]);
}

#[test]
fn a_claim_from_the_next_day_ends_the_day_of_a_visit_whose_timer_has_not_fired() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "18:00");
    assert_eq!(site.door(DoorClaim::Entry, "33:00").outcome, Outcome::Opened);
    assert_eq!(site.visits(), ["18:00-24:00 door auto", "33:00- door last 33:00"]);
}

#[test]
fn a_phone_that_leaves_with_its_owner_opens_nothing() {
    let mut site = Site::telling_visits_apart();
    site.strong(PHONE, "09:00");
    site.door(DoorClaim::Exit, "17:00");
    for at in ["17:01", "17:05", "17:14"] {
        assert_eq!(site.strong(PHONE, at).note, Some(Note::Lingering), "{at}");
    }
    assert_eq!(site.strong(PHONE, "17:25").outcome, Outcome::Opened, "more than the linger time after 17:14");
    assert_eq!(site.visits(), ["09:00-17:00 network", "17:25- network last 17:25"]);
}

#[test]
fn lingering_ends_one_idle_limit_after_the_exit() {
    let mut site = Site::telling_visits_apart();
    site.strong(PHONE, "09:00");
    site.door(DoorClaim::Exit, "17:00");
    for minute in (1..=45).step_by(4) {
        let decision = site.strong(PHONE, &format!("17:{minute:02}"));
        assert_eq!(decision.note, Some(Note::Lingering), "17:{minute:02}");
    }
    assert_eq!(site.strong(PHONE, "17:46").outcome, Outcome::Opened);
    assert_eq!(site.visits(), ["09:00-17:00 network", "17:46- network last 17:46"]);
}

#[test]
fn silence_is_counted_only_while_we_could_hear() {
    for (heard, visits) in [
        (("08:00", "12:00"), vec!["09:00-09:00 network auto", "10:00- network last 10:00"]),
        (("08:00", "09:45"), vec!["09:00- network last 10:00"]),
        (("09:10", "09:56"), vec!["09:00-09:00 network auto", "10:00- network last 10:00"]),
        (("09:15", "12:00"), vec!["09:00- network last 10:00"]),
    ] {
        let mut site = Site { coverage: Coverage::new([(at(heard.0), at(heard.1))]), ..Site::telling_visits_apart() };
        site.strong(PHONE, "09:00");
        site.strong(PHONE, "10:00");
        assert_eq!(site.visits(), visits, "{heard:?}");
    }
}

#[test]
fn a_withdrawn_coworker_is_out() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "09:00");
    assert_eq!(site.claim(Claim::Withdrawn { at: at("10:00") }).outcome, Outcome::Closed);
    assert_eq!(site.visits(), ["09:00-10:00 door auto"]);
    assert_eq!(site.claim(Claim::Withdrawn { at: at("11:00") }).note, Some(Note::Late));
}

#[test]
fn devices_are_gathered() {
    let mut site = Site::new();
    site.strong(PHONE, "09:00");
    site.strong(LAPTOP, "09:20");
    let visit = site.person.open().expect("open");
    assert_eq!(visit.macs, BTreeSet::from([PHONE, LAPTOP]));
    assert_eq!(visit.last_activity, at("09:20"));
}

#[test]
fn the_network_opens_at_the_start_of_the_unbroken_presence() {
    let mut site = Site::new();
    site.claim(Claim::Network {
        mac: PHONE,
        since: at("09:00"),
        first_at: at("09:04"),
        last_at: at("09:05"),
        strong_at: Some(at("09:05")),
    });
    assert_eq!(site.visits(), ["09:00- network last 09:05"]);
}

#[test]
fn presence_from_before_the_cut_off_opens_in_the_new_day() {
    let mut site = Site::new();
    site.strong(PHONE, "23:30");
    site.claim(Claim::Network {
        mac: PHONE,
        since: at("23:30"),
        first_at: at("23:59"),
        last_at: at("24:01"),
        strong_at: Some(at("24:01")),
    });
    assert_eq!(site.visits(), ["23:30-23:30 network auto", "24:01- network last 24:01"]);
}

#[test]
fn an_entry_by_a_door_counts_for_its_pass_day_only() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "09:00");
    let calendar = site.rules.calendar;
    assert!(site.person.let_in_by_door(ONE, &calendar, at("23:00")));
    assert!(!site.person.let_in_by_door(ONE, &calendar, at("08:00")));
    assert!(!site.person.let_in_by_door(ONE, &calendar, at("25:00")));
    assert!(!site.person.let_in_by_door(TWO, &calendar, at("23:00")), "another business");
}

#[test]
fn an_entry_elsewhere_ends_the_visit_where_they_were() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "09:00");
    let (decision, ended) = site.door_of(TWO, DoorClaim::Entry, "10:00");
    assert_eq!(decision.outcome, Outcome::Opened);
    let ended = ended.expect("the first visit is over");
    assert_eq!((ended.business, ended.at, ended.by, ended.after_pass), (ONE, at("10:00"), CloseBy::Elsewhere, None));
    assert_eq!(site.visits(), ["09:00-10:00 door auto", "10:00- door last 10:00 at 2"]);
}

#[test]
fn a_tracked_person_who_comes_in_elsewhere_was_there_until_their_last_activity() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "09:00");
    site.strong(PHONE, "09:30");
    site.door_of(TWO, DoorClaim::Toggle, "10:00");
    assert_eq!(site.visits(), ["09:00-09:30 door auto", "10:00- door last 10:00 at 2"]);
    assert_eq!(
        site.door_of(TWO, DoorClaim::Toggle, "12:00").0.outcome,
        Outcome::Closed,
        "a toggle there depends on the visit there"
    );
    site.door(DoorClaim::Entry, "12:30");
    let here_again = ["09:00-09:30 door auto", "10:00-12:00 door at 2", "12:30- door last 12:30"];
    assert_eq!(site.visits(), here_again);
}

#[test]
fn a_refused_entry_elsewhere_ends_the_visit_too() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "09:00");
    site.admission = Admission::Refused(Refused { reason: Reason::OtherBusiness, detail: None });
    let (decision, ended) = site.door_of(TWO, DoorClaim::Entry, "10:00");
    assert_eq!((decision.outcome, ended.is_some()), (Outcome::Failed, true));
    assert_eq!(site.visits(), ["09:00-10:00 door auto"], "a door there let them in, although we refused");
}

#[test]
fn an_exit_or_activity_elsewhere_does_nothing() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "09:00");
    for (action, at) in [(DoorClaim::Exit, "09:30"), (DoorClaim::Activity, "10:00")] {
        let (decision, ended) = site.door_of(TWO, action, at);
        assert_eq!((decision.note, ended), (Some(Note::NotCheckedIn), None), "{action:?}");
    }
    let (decision, ended) = site.claim_at(TWO, Claim::Withdrawn { at: at("10:30") });
    assert_eq!((decision.note, ended), (Some(Note::Late), None));
    assert_eq!(site.visits(), ["09:00- door last 09:00"]);
}

#[test]
fn a_phone_elsewhere_moves_no_one_within_the_idle_limit() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "09:00");
    assert_eq!(site.strong_of(TWO, PHONE, "09:45").0.note, Some(Note::InElsewhere));
    assert_eq!(site.weak_of(TWO, PHONE, "09:46").0.note, Some(Note::WeakEvidence));
    let (decision, ended) = site.strong_of(TWO, PHONE, "09:46");
    assert_eq!((decision.outcome, ended.map(|ended| ended.by)), (Outcome::Opened, Some(CloseBy::Elsewhere)));
    assert_eq!(site.visits(), ["09:00-09:46 door auto", "09:46- network last 09:46 at 2"]);
}

#[test]
fn a_phone_that_is_seen_here_keeps_its_owner_here() {
    let mut site = Site { coverage: always(), ..Site::new() };
    for minute in ["09:00", "09:30", "10:00"] {
        site.strong(PHONE, minute);
    }
    assert_eq!(site.strong_of(TWO, LAPTOP, "10:45").0.note, Some(Note::InElsewhere));
    // Their device was silent here for longer than the limit, so the visit had ended before.
    assert_eq!(site.strong_of(TWO, LAPTOP, "10:50").0.outcome, Outcome::Opened);
    assert_eq!(site.visits(), ["09:00-10:00 network auto", "10:50- network last 10:50 at 2"]);
}

#[test]
fn the_network_moves_a_tracked_person_when_this_business_had_no_coverage() {
    let mut site = Site::new();
    site.strong(PHONE, "09:00");
    site.claim_at(
        TWO,
        Claim::Network {
            mac: PHONE,
            since: at("08:30"),
            first_at: at("10:00"),
            last_at: at("10:01"),
            strong_at: Some(at("10:01")),
        },
    );
    let moved = ["09:00-09:00 network auto", "10:00- network last 10:01 at 2"];
    assert_eq!(site.visits(), moved, "not from when they were still here");
}

#[test]
fn a_person_the_network_may_not_let_in_elsewhere_stays_where_they_are() {
    for admission in [
        Admission::Refused(Refused { reason: Reason::PassOtherBusiness, detail: None }),
        Admission::NotNow(Note::NetworkMayNotOpen),
    ] {
        let mut site = Site::new();
        site.door(DoorClaim::Entry, "09:00");
        site.admission = admission;
        let (decision, ended) = site.strong_of(TWO, PHONE, "12:00");
        assert_eq!((decision.visit, ended), (None, None));
        assert_eq!(site.visits(), ["09:00- door last 09:00"]);
    }
}

#[test]
fn a_person_who_left_lingers_only_where_they_were() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "09:00");
    site.door(DoorClaim::Exit, "17:00");
    assert_eq!(site.strong(PHONE, "17:01").note, Some(Note::Lingering));
    assert_eq!(site.strong_of(TWO, PHONE, "17:02").0.outcome, Outcome::Opened);
}

#[test]
fn admission_gets_the_pass_of_a_visit_that_coming_in_elsewhere_ends() {
    let pass = Uuid::from_u128(7);
    let mut site = Site { admission: Admission::Admitted(Some(day_pass(pass))), ..Site::new() };
    site.door(DoorClaim::Entry, "09:00");
    site.door_of(TWO, DoorClaim::Entry, "10:00");
    site.strong(PHONE, "12:00");
    site.door(DoorClaim::Exit, "13:00");
    site.door_of(TWO, DoorClaim::Entry, "14:00");
    assert_eq!(site.asked, [None, Some(pass), Some(pass), None], "an exit ends a visit for good");
}

#[test]
fn a_day_with_a_day_pass_is_one_block_and_the_gaps_are_no_presence() {
    let mut site = Site { admission: Admission::Admitted(Some(day_pass(Uuid::from_u128(7)))), ..Site::new() };
    for (entry, exit) in [("09:00", "12:00"), ("13:00", "15:00"), ("15:30", "17:00")] {
        assert_eq!(site.door(DoorClaim::Entry, entry).outcome, Outcome::Opened);
        assert_eq!(site.door(DoorClaim::Exit, exit).outcome, Outcome::Closed);
    }
    assert_eq!(site.visits(), ["09:00-17:00 door"]);
    let present = |site: &Site, now: &str| site.person.visits[0].spent(CoworkerId(7)).present(at(now));
    assert_eq!(present(&site, "18:00"), 3600 * 13 / 2);
    site.door(DoorClaim::Entry, "18:00");
    assert_eq!(present(&site, "19:00"), 3600 * 15 / 2, "plus an hour so far");

    let mut every = Site { admission: site.admission, ..Site::new() };
    every.rules.record_every_visit = true;
    every.door(DoorClaim::Entry, "09:00");
    every.door(DoorClaim::Exit, "12:00");
    every.door(DoorClaim::Entry, "13:00");
    assert_eq!(every.visits(), ["09:00-12:00 door", "13:00- door last 13:00"]);
}

#[test]
fn where_no_pass_is_required_the_day_is_one_record_unless_every_visit_is_recorded() {
    for (mut site, expected) in [
        (Site::new(), vec!["09:00-12:30 door", "25:00-26:00 door"]),
        (Site::telling_visits_apart(), vec!["09:00-10:00 door", "12:00-12:30 door", "25:00-26:00 door"]),
    ] {
        for (entry, exit) in [("09:00", "10:00"), ("12:00", "12:30"), ("25:00", "26:00")] {
            assert_eq!(site.door(DoorClaim::Entry, entry).outcome, Outcome::Opened);
            assert_eq!(site.door(DoorClaim::Exit, exit).outcome, Outcome::Closed);
        }
        assert_eq!(site.visits(), expected);
    }
}

#[test]
fn a_block_that_began_earlier_than_was_known_is_longer_by_that() {
    let mut site = Site { admission: Admission::Admitted(Some(day_pass(Uuid::from_u128(7)))), ..Site::new() };
    site.door(DoorClaim::Entry, "09:00");
    site.claim(Claim::Network {
        mac: PHONE,
        since: at("08:50"),
        first_at: at("08:50"),
        last_at: at("09:01"),
        strong_at: Some(at("09:01")),
    });
    site.door(DoorClaim::Exit, "12:00");
    assert_eq!(site.visits(), ["08:50-12:00 network"]);
    assert_eq!(site.person.visits[0].spent(CoworkerId(7)).present(at("12:00")), 3600 * 3 + 600);
}

#[test]
fn a_step_of_the_clock_moves_all_of_a_visit() {
    let mut site = Site { admission: Admission::Admitted(Some(day_pass(Uuid::from_u128(7)))), ..Site::new() };
    site.door(DoorClaim::Entry, "09:00");
    site.door(DoorClaim::Exit, "10:00");
    site.door(DoorClaim::Entry, "11:00");
    let visit = &site.person.visits[0];
    let day = site.rules.calendar.pass_day(at("34:00"));
    let moved = visit.moved(24 * 3_600_000, day);
    assert_eq!((moved.from, moved.since, moved.day), (at("33:00"), at("35:00"), day));
    let (before, after) = (visit.spent(CoworkerId(7)), moved.spent(CoworkerId(7)));
    assert_eq!(after.present(at("36:00")), before.present(at("12:00")));
}

#[test]
fn a_device_that_is_seen_before_the_door_moves_only_the_first_visit_of_the_day() {
    let earlier = |site: &mut Site| {
        site.claim(Claim::Network {
            mac: PHONE,
            since: at("12:50"),
            first_at: at("12:50"),
            last_at: at("13:01"),
            strong_at: Some(at("13:01")),
        });
    };
    let mut site = Site::telling_visits_apart();
    site.door(DoorClaim::Entry, "13:00");
    earlier(&mut site);
    assert_eq!(site.visits(), ["12:50- network last 13:01"]);

    let mut site = Site::telling_visits_apart();
    site.door(DoorClaim::Entry, "09:00");
    site.door(DoorClaim::Exit, "10:00");
    site.door(DoorClaim::Entry, "13:00");
    earlier(&mut site);
    assert_eq!(site.visits(), ["09:00-10:00 door", "13:00- door last 13:01"]);

    // Two visits elsewhere in between do not change that.
    let mut site = Site::telling_visits_apart();
    site.door(DoorClaim::Entry, "09:00");
    site.door(DoorClaim::Exit, "10:00");
    for (entry, exit) in [("10:30", "11:00"), ("11:30", "12:00")] {
        site.door_of(TWO, DoorClaim::Entry, entry);
        site.door_of(TWO, DoorClaim::Exit, exit);
    }
    site.door(DoorClaim::Entry, "13:00");
    earlier(&mut site);
    assert_eq!(site.visits().last().map(String::as_str), Some("13:00- door last 13:01"));
}

#[test]
fn a_device_that_is_seen_before_the_door_begins_no_visit_while_its_owner_was_elsewhere() {
    let mut site = Site::new();
    site.door_of(TWO, DoorClaim::Entry, "08:00");
    site.door(DoorClaim::Entry, "09:00");
    site.claim(Claim::Network {
        mac: PHONE,
        since: at("08:58"),
        first_at: at("08:58"),
        last_at: at("09:01"),
        strong_at: Some(at("09:01")),
    });
    assert_eq!(site.visits(), ["08:00-09:00 door auto at 2", "09:00- door last 09:01"]);
}

#[test]
fn a_tap_is_a_repetition_only_of_one_that_was_read_just_before() {
    let mut site = Site::new();
    let (tap, other) = (TapId(1), TapId(2));
    assert!(!site.person.repeats(tap, at("09:00:00"), &site.rules));
    assert!(site.person.repeats(tap, at("09:00:04"), &site.rules));
    assert!(!site.person.repeats(other, at("09:00:04"), &site.rules));
    assert!(site.person.repeats(tap, at("09:00:09"), &site.rules), "the span starts again with each repeat");
    assert!(!site.person.repeats(tap, at("09:00:15"), &site.rules));
    assert_eq!(site.person.taps.len(), 1);
}

#[test]
fn a_tap_is_repeated_within_the_span_of_its_own_business() {
    let mut site = Site::new();
    let long = Rules { debounce: Duration::from_secs(60), ..site.rules.clone() };
    assert!(!site.person.repeats(TapId(1), at("09:00:00"), &long));
    assert!(!site.person.repeats(TapId(2), at("09:00:30"), &site.rules), "at another business");
    assert!(site.person.repeats(TapId(1), at("09:00:45"), &long));
}

proptest! {
    /// For any claims at any business: at most one open visit, no visit ends before it begins, none overlap, and
    /// `LastActivity` never moves backwards.
    #[test]
    fn visits_stay_sound(
        mut claims in prop::collection::vec((0i64..3 * 1440, 0u8..6, 0i64..600, any::<bool>()), 1..60),
        elsewhere: bool,
    ) {
        claims.sort_unstable();
        let mut site = Site { coverage: always(), ..Site::telling_visits_apart() };
        for (minute, kind, length, here) in claims {
            let last_at = minutes(minute);
            let first_at = last_at.minus(Duration::from_secs(u64::try_from(length).expect("small") * 6));
            let before: Vec<Visit> = site.all();
            let business = if here || !elsewhere { ONE } else { TWO };
            let (decision, _) = site.claim_at(business, some_claim(kind, first_at, last_at));
            let visits = site.all();
            prop_assert!(visits.iter().filter(|visit| visit.is_open()).count() <= 1, "{visits:?}");
            for visit in &visits {
                prop_assert!(visit.to.is_none_or(|to| to >= visit.from), "{visit:?}");
                if let Some(old) = before.iter().find(|old| old.unique_id == visit.unique_id) {
                    prop_assert!(visit.last_activity >= old.last_activity);
                    prop_assert!(visit.from <= old.from);
                    prop_assert!(old.is_open() || visit.to == old.to, "a closed visit keeps its end");
                }
            }
            for pair in visits.windows(2) {
                prop_assert!(pair[0].to.is_some_and(|to| to <= pair[1].from), "{pair:?}");
            }
            prop_assert_eq!(decision.outcome == Outcome::Failed, decision.reason.is_some());
        }
    }

    /// A state that keeps only the visits that may still change makes the same decisions as one that keeps all of them.
    #[test]
    fn visits_that_are_settled_decide_nothing(
        mut claims in prop::collection::vec((0i64..2 * 1440, 0u8..6, 0i64..90, any::<bool>()), 2..46),
        elsewhere: bool,
    ) {
        claims.sort_unstable_by_key(|(minute, _, length, _)| minute + length);
        let mut whole = Site { coverage: always(), settles: false, ..Site::new() };
        let mut narrow = Site { coverage: always(), ..Site::new() };
        for (minute, kind, length, here) in claims {
            let claim = some_claim(kind, minutes(minute), minutes(minute + length));
            let business = if here || !elsewhere { ONE } else { TWO };
            prop_assert_eq!(whole.claim_at(business, claim), narrow.claim_at(business, claim));
            prop_assert!(narrow.person.visits.len() <= person::STILL_OPEN_TO_CHANGE);
            let shown = |site: &Site| site.all().into_iter().map(|visit| Visit { first_of_day: false, ..visit });
            prop_assert!(shown(&whole).eq(shown(&narrow)), "{:?} is not {:?}", whole.visits(), narrow.visits());
        }
    }

    /// The same claim a second time opens and closes nothing.
    #[test]
    fn a_claim_twice_is_a_claim_once(minute in 540i64..1440, kind in 0u8..3) {
        let mut site = Site::new();
        site.door(DoorClaim::Entry, "09:00");
        let action = [DoorClaim::Entry, DoorClaim::Exit, DoorClaim::Activity][usize::from(kind)];
        site.door_at(action, minutes(minute));
        let once = site.visits();
        site.door_at(action, minutes(minute));
        prop_assert_eq!(once, site.visits());
    }
}

/// 2026-01-10T00:00:00Z, in London's winter, so local time and UTC agree.
const MIDNIGHT: i64 = 1_768_003_200_000;

fn minutes(minute: i64) -> WallTime {
    WallTime::from_millis(MIDNIGHT + minute * 60_000)
}

/// `HH:MM` or `HH:MM:SS` after midnight of the first day; hours above 23 are on the next day.
fn at(text: &str) -> WallTime {
    let parts: Vec<i64> = text.split(':').map(|part| part.parse().expect("a number")).collect();
    let seconds = parts.first().unwrap_or(&0) * 3600 + parts.get(1).unwrap_or(&0) * 60 + parts.get(2).unwrap_or(&0);
    WallTime::from_millis(MIDNIGHT + seconds * 1000)
}

/// Coverage at all times.
fn always() -> Coverage {
    Coverage::new([(minutes(-1440), minutes(10 * 1440))])
}

fn some_claim(kind: u8, first_at: WallTime, last_at: WallTime) -> Claim {
    let door = |action| Claim::Door { action, at: last_at };
    let network = |strong_at| Claim::Network { mac: PHONE, since: first_at, first_at, last_at, strong_at };
    match kind {
        0 => door(DoorClaim::Entry),
        1 => door(DoorClaim::Exit),
        2 => door(DoorClaim::Toggle),
        3 => door(DoorClaim::Activity),
        4 => network(Some(last_at)),
        _ => network(None),
    }
}

/// A day pass that a person holds.
fn day_pass(guid: Uuid) -> PassUse {
    PassUse {
        guid: Some(guid),
        time_pass: TimePassId(1),
        kind: PassKind::Day,
        counts_towards_plan_limits: true,
        ends: None,
    }
}

/// Gives everyone the same answer, and records which passes were continued.
struct Always {
    admission: Admission,
    asked: RefCell<Vec<Option<Uuid>>>,
}

impl AdmissionCheck for Always {
    fn may_open(&self, _: &Claim, _: WallTime, _: &PersonState, continued: Option<Uuid>) -> Admission {
        self.asked.borrow_mut().push(continued);
        self.admission.clone()
    }

    fn may_come_in(&self, _: WallTime, _: CheckinSource, _: &PersonState, continued: Option<Uuid>) -> Admission {
        self.asked.borrow_mut().push(continued);
        self.admission.clone()
    }

    fn may_stay(&self, _: WallTime, _: CheckinSource, _: &PersonState) -> Admission {
        self.admission.clone()
    }
}

/// One person, and two businesses with the same rules.
struct Site {
    person: PersonState,
    /// Visits that can no longer change, earliest first.
    settled: Vec<Visit>,
    settles: bool,
    rules: Rules,
    coverage: Coverage,
    admission: Admission,
    asked: Vec<Option<Uuid>>,
    next: u64,
}

impl Site {
    fn new() -> Self {
        let calendar = Calendar { zone: test_zone("Europe/London"), cut_off: NaiveTime::MIN };
        Self {
            person: PersonState::default(),
            settled: Vec::new(),
            settles: true,
            rules: Rules {
                calendar,
                idle_limit: Duration::from_mins(45),
                linger: Duration::from_mins(10),
                debounce: Duration::from_secs(5),
                toggle_minimum_stay: Duration::from_secs(60),
                record_every_visit: false,
            },
            coverage: Coverage::none(),
            admission: Admission::Admitted(None),
            asked: Vec::new(),
            next: 0,
        }
    }

    /// Every visit is a record of its own.
    fn telling_visits_apart() -> Self {
        let mut site = Self::new();
        site.rules.record_every_visit = true;
        site
    }

    fn door(&mut self, action: DoorClaim, text: &str) -> Decision {
        self.door_at(action, at(text))
    }

    fn door_at(&mut self, action: DoorClaim, at: WallTime) -> Decision {
        self.claim(Claim::Door { action, at })
    }

    fn door_of(&mut self, business: BusinessId, action: DoorClaim, text: &str) -> (Decision, Option<EndedVisit>) {
        self.claim_at(business, Claim::Door { action, at: at(text) })
    }

    fn strong(&mut self, mac: MacAddr, text: &str) -> Decision {
        self.strong_of(ONE, mac, text).0
    }

    fn strong_of(&mut self, business: BusinessId, mac: MacAddr, text: &str) -> (Decision, Option<EndedVisit>) {
        let at = at(text);
        self.claim_at(business, Claim::Network { mac, since: at, first_at: at, last_at: at, strong_at: Some(at) })
    }

    fn weak(&mut self, mac: MacAddr, text: &str) -> Decision {
        self.weak_of(ONE, mac, text).0
    }

    fn weak_of(&mut self, business: BusinessId, mac: MacAddr, text: &str) -> (Decision, Option<EndedVisit>) {
        let at = at(text);
        self.claim_at(business, Claim::Network { mac, since: at, first_at: at, last_at: at, strong_at: None })
    }

    fn claim(&mut self, claim: Claim) -> Decision {
        self.claim_at(ONE, claim).0
    }

    fn claim_at(&mut self, business: BusinessId, claim: Claim) -> (Decision, Option<EndedVisit>) {
        self.run_timers(claim.seen_at(), claim.at());
        self.next += 1;
        let id = FactDigest::of([self.next.to_be_bytes().as_slice()]);
        let check = Always { admission: self.admission.clone(), asked: RefCell::default() };
        let idle_elsewhere = self.rules.idle_limit;
        let context =
            ClaimContext { business, rules: &self.rules, coverage: &self.coverage, admission: &check, idle_elsewhere };
        let decided = self.person.decide(&context, &claim, id);
        self.asked.extend(check.asked.into_inner());
        self.settle();
        decided
    }

    /// Lets time pass without evidence.
    fn pass_time(&mut self, until: &str) -> Vec<EndedVisit> {
        self.run_timers(at(until), at(until))
    }

    /// Runs the timers as a fold does: silence before `quiet_until`, and the ends of days and passes up to `until`.
    fn run_timers(&mut self, quiet_until: WallTime, until: WallTime) -> Vec<EndedVisit> {
        let mut all = Vec::new();
        while let Some(open) = self.person.open() {
            let last = open.ends_at_last();
            let silence = open
                .is_tracked()
                .then(|| self.coverage.run_out(open.last_activity, self.rules.idle_limit))
                .flatten()
                .filter(|at| *at < quiet_until && *at < last.0);
            let (at, by) = silence.map_or(last, |at| (at, CloseBy::Silence));
            if at > until {
                break;
            }
            let check = Always { admission: self.admission.clone(), asked: RefCell::default() };
            let (business, idle_elsewhere) = (open.business, self.rules.idle_limit);
            let context = ClaimContext {
                business,
                rules: &self.rules,
                coverage: &self.coverage,
                admission: &check,
                idle_elsewhere,
            };
            all.extend(self.person.end(Some(&context), by, at));
            self.settle();
        }
        all
    }

    fn settle(&mut self) {
        while self.settles
            && let Some(visit) = self.person.settled()
        {
            self.settled.push(visit);
        }
    }

    /// Every visit so far.
    fn all(&self) -> Vec<Visit> {
        self.settled.iter().chain(&self.person.visits).cloned().collect()
    }

    /// `09:00-17:00 door auto`, or `09:00- door last 11:00` while open; with `at 2` if it is not at the first business.
    fn visits(&self) -> Vec<String> {
        let clock = |at: WallTime| {
            let minutes = (at.millis() - MIDNIGHT) / 60_000;
            format!("{:02}:{:02}", minutes / 60, minutes % 60)
        };
        let show = |visit: Visit| {
            let source = if visit.source == CheckinSource::DoorAccess { "door" } else { "network" };
            let place = if visit.business == ONE { String::new() } else { format!(" at {}", visit.business) };
            match visit.to {
                Some(to) => format!(
                    "{}-{} {source}{}{place}",
                    clock(visit.from),
                    clock(to),
                    if visit.auto_checkout { " auto" } else { "" }
                ),
                None => format!("{}- {source} last {}{place}", clock(visit.from), clock(visit.last_activity)),
            }
        };
        self.all().into_iter().map(show).collect()
    }
}
