//! The contract: the same suite on a SQLite file and on a real PostgreSQL, every statement executed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{NaiveDate, NaiveTime};
use sqlx::{Connection, Executor, Row as _};
use uuid::Uuid;

use super::{
    Batch, ChangedVisit, CoverageRow, DecidedFact, Expired, KnownRecords, KnownVisit, LoggedFact, NewStanding,
    PendingPresence, Store, StoreError, TokenPair, Writes,
    sql::{Arg, Row, Statement, statement},
};
use crate::base::zone::test_zone;
use crate::{
    access::{Rights, Role, StoredPassword, TokenDigest, TokenKind, User, UserName},
    base::{
        clock::WallTime,
        fact::{
            DoorFact, Fact, FactDigest, FactKey, LogDay, Point, PresenceFact, Recognised, RejectedFact,
            ShownCredential, StoredFact, StrangeDeviceFact, Subject,
        },
        mac::MacAddr,
        record::{BusinessId, Checkin, CheckinId, CheckinSource, CoworkerId, FailedCheckinId, Snapshot, TimePassId},
        sighting::{CredentialKind, Direction, DoorEventKind, DoorKey, TimeQuality},
    },
    directory::{
        Directory,
        entity::EntityKind,
        import::{self, Document, EntryPlace},
    },
    engine::{
        decision::{DecisionCode, Outcome, Reason},
        fold::{ChargeRecord, FailureRecord, Opened, VisitRecord},
        passes::{Counted, PassEnd, PassKind, PassUse, Refused, Used, payg},
        person::{PersonState, Visit},
    },
    policy::{HISTORY, SitePolicy, calendar::Calendar, passes::PassPolicy, site::Site},
    settings::Database,
};

#[path = "../../tests/support/pooler.rs"]
mod pooler;
use pooler::{Pooler, grants};

/// Of the logins that are made for a test.
const PASSWORD: &str = "gateway";

/// Each test of the contract, once for each database.
macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::Fresh::sqlite().await).await; })+
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(super::Fresh::postgres().await).await; })+
        }
        /// As a gateway that has only the rights of the README, behind a pooler with two connections.
        mod pooled {
            $(#[tokio::test] async fn $name() { super::$name(super::Fresh::pooled().await).await; })+
        }
    };
}
pub(crate) use contract;

contract!(
    a_visit_comes_back_as_it_was_written,
    the_api_reads_what_the_engine_wrote,
    a_stretch_of_time_holds_what_began_in_it,
    there_is_at_most_one_open_visit_per_coworker_and_business,
    somebody_may_leave_and_come_back_within_one_batch,
    a_visit_that_turns_out_otherwise_keeps_its_number,
    a_visit_that_goes_on_keeps_what_it_began_with,
    a_visit_that_never_was_is_gone,
    records_are_read_from_instants_of_their_own,
    what_is_not_committed_never_happened,
    a_fact_is_written_once,
    a_fact_that_arrived_is_known_at_any_time,
    facts_are_found_by_person_and_day,
    facts_change_their_decision_and_go,
    the_log_tells_people_what_was_said,
    a_person_is_written_over_only_by_a_writer_who_knows_them,
    deadlines_are_found_when_they_come,
    a_deadline_that_stays_is_not_written,
    people_who_may_change_are_told_apart,
    people_of_a_time_to_come_are_found,
    checkpoints_are_found_by_person_and_day,
    presences_wait_beside_the_log,
    an_open_visit_is_as_fresh_as_what_was_heard,
    what_is_used_of_a_pass_is_read_by_all_who_may_use_it,
    the_last_total_before_a_day_is_read,
    a_nul_character_stops_nothing,
    a_text_that_spells_a_nul_character_stays_as_it_is,
    a_refresh_uses_up_no_number,
    what_has_expired_is_forgotten_for_one_business_only,
    strangers_are_forgotten_and_members_are_not,
    more_than_a_portion_goes_in_portions,
    a_repeated_failure_is_written_once,
    a_failure_is_changed_in_its_place,
    coverage_grows_and_is_told_by_business,
    failed_devices_are_found_again,
    an_unrecognised_device_is_forgotten_with_its_fact,
    an_import_is_loaded_and_counted,
    a_directory_of_many_is_read_in_pages,
    what_an_import_replaces_is_still_there_for_its_time,
    versions_that_nothing_late_can_ask_for_are_forgotten,
    settings_are_written_when_they_differ,
    settings_of_a_clock_that_was_ahead_are_in_force_at_once,
    old_settings_are_forgotten_but_for_the_last,
    two_writers_do_not_both_open,
    two_writers_do_not_both_write_a_fact,
    two_writers_do_not_both_move_a_person,
    a_second_opening_finds_the_schema_in_place,
    charges_are_replaced_and_taken_back,
    what_is_left_of_a_pass_counts_from_the_import_that_said_it,
    two_gateways_that_spend_one_pass_wait_for_each_other,
    a_token_is_held_until_it_ends_or_its_user_goes,
    a_refresh_token_is_taken_once,
    a_new_password_leaves_no_token_of_the_old_one,
    a_lease_has_one_holder_until_it_is_given_back,
    a_batch_of_a_gateway_that_lost_its_lease_is_not_committed,
);

async fn a_lease_has_one_holder_until_it_is_given_back(fresh: Fresh) {
    let (site, other_site, first, second) = (BusinessId(1), BusinessId(2), Uuid::from_u128(1), Uuid::from_u128(2));
    let store = &fresh.store;
    assert_eq!(store.lease_holder(site).await.expect("read"), None);
    assert!(store.take_lease(site, "a", first).await.expect("taken"));
    assert!(store.take_lease(site, "a", first).await.expect("prolonged"));
    assert!(!store.take_lease(site, "a", second).await.expect("asked"), "a process of the same name is another one");
    assert!(store.take_lease(other_site, "b", second).await.expect("another site"));
    store.release_lease(site, second).await.expect("no harm");
    assert!(!store.take_lease(site, "b", second).await.expect("asked"));
    store.release_lease(site, first).await.expect("given back");
    assert!(store.take_lease(site, "b", second).await.expect("taken"));
    assert_eq!(store.lease_holder(site).await.expect("read").as_deref(), Some("b"));
    assert!(!store.take_lease(site, "a", first).await.expect("asked"));
}

async fn a_batch_of_a_gateway_that_lost_its_lease_is_not_committed(fresh: Fresh) {
    let (site, first, second) = (BusinessId(1), Uuid::from_u128(1), Uuid::from_u128(2));
    let fenced = fresh.store.fenced(site, first);
    assert!(fenced.take_lease(site, "a", first).await.expect("taken"));
    let put = async |coworker| write(&fenced, &opening([record(coworker, 1000)])).await;
    put(1).await.expect("the lease is ours");
    fresh.store.release_lease(site, first).await.expect("given back");
    put(2).await.expect("no other gateway has it");
    assert!(fresh.store.take_lease(site, "b", second).await.expect("taken"));
    let refused = put(3).await.expect_err("another gateway has it");
    assert!(refused.to_string().contains("another gateway has taken over"), "{refused}");
    assert_eq!(fresh.store.open_checkins().await.expect("read").len(), 2);
}

async fn a_visit_comes_back_as_it_was_written(fresh: Fresh) {
    let pass = PassUse {
        guid: Some(uuid()),
        time_pass: TimePassId(3),
        kind: PassKind::Time,
        counts_towards_plan_limits: true,
        ends: Some((at(9000), PassEnd::MinutesUsedUp)),
    };
    let opened = with(&record(1, 1000), |visit| visit.pass = Some(pass));
    let left = with(&opened, |visit| {
        visit.to = Some(at(5000));
        visit.auto_checkout = true;
        visit.last_activity = at(4000);
        visit.macs = BTreeSet::from([mac(1), mac(2)]);
    });
    let without_pass = with(&left, |visit| {
        visit.from = at(500);
        visit.source = CheckinSource::NetworkActivity;
        visit.pass = None;
    });
    let charged = with(&without_pass, |visit| {
        visit.pass = Some(PassUse {
            guid: None,
            time_pass: TimePassId(4),
            kind: PassKind::PayAsYouGo,
            counts_towards_plan_limits: false,
            ends: None,
        });
    });
    for (record, writes) in [
        (&opened, opening([opened.clone()])),
        (&left, Writes { changed_visits: vec![changed(&left, true)], ..Writes::default() }),
        (&without_pass, Writes { changed_visits: vec![changed(&without_pass, false)], ..Writes::default() }),
        (&charged, Writes { changed_visits: vec![changed(&charged, false)], ..Writes::default() }),
    ] {
        fresh.write(&writes).await.expect("written");
        assert_eq!(fresh.visits(1).await, [known(record)]);
    }
    let row = fresh.one("SELECT seconds, coworker_time_pass_guid FROM checkins").await;
    let guid = row.uuid("coworker_time_pass_guid").expect("a guid");
    assert_eq!((row.int("seconds").expect("a number"), guid), (4, charged.visit.unique_id), "as if it were held");
}

async fn the_api_reads_what_the_engine_wrote(fresh: Fresh) {
    let record = record(1, 1_767_225_600_123);
    fresh.write(&opening([record.clone()])).await.expect("written");
    let open = fresh.store.open_checkins().await.expect("read");
    assert_eq!(open.len(), 1);
    let row = fresh.store.checkin(open[0].id).await.expect("read").expect("is there");
    assert_eq!(row, open[0]);
    let visit = &record.visit;
    assert_eq!((row.unique_id, row.coworker, row.from), (visit.unique_id, Some(CoworkerId(1)), visit.from));
    assert_eq!((row.then.full_name.as_deref(), row.then.tariff.as_deref()), (Some("Coworker 1"), Some("Full time")));
    assert_eq!(row.business_name.as_deref(), Some("Hub One"));
    assert_eq!(row.from_local.map(|local| local.to_string()).as_deref(), Some("2026-01-01 00:00:00"));
    assert_eq!((row.updated_by.as_str(), row.to), ("checkind", None));
    assert_eq!((row.created_on, row.updated_on, row.last_activity), (NOW, NOW, Some(visit.from)));
    assert_eq!(fresh.store.checkin(CheckinId(999)).await.expect("read"), None);
    assert_eq!(fresh.store.failed_checkin(FailedCheckinId(999)).await.expect("read"), None);
}

async fn there_is_at_most_one_open_visit_per_coworker_and_business(fresh: Fresh) {
    fresh.write(&opening([record(1, 1000)])).await.expect("the first");
    let second = fresh.write(&opening([record(1, 2000)])).await;
    assert!(matches!(second, Err(StoreError::Conflict)), "{second:?}");
    fresh.write(&opening([record(2, 2000)])).await.expect("another coworker");
    let elsewhere = with(&record(1, 3000), |visit| visit.business = BusinessId(2));
    fresh.write(&opening([elsewhere.clone()])).await.expect("another business");
    let again = with(&record(3, 3000), |visit| visit.unique_id = elsewhere.visit.unique_id);
    let again = fresh.write(&opening([again])).await;
    assert!(matches!(again, Err(StoreError::Conflict)), "an identity is there once: {again:?}");
}

async fn somebody_may_leave_and_come_back_within_one_batch(fresh: Fresh) {
    let first = record(1, 1000);
    fresh.write(&opening([first.clone()])).await.expect("the first");
    let (left, back) = (with(&first, |visit| visit.to = Some(at(2000))), record(1, 3000));
    let writes = Writes { changed_visits: vec![changed(&left, true)], ..opening([back.clone()]) };
    fresh.write(&writes).await.expect("both");
    assert_eq!(fresh.visits(1).await, [known(&left), known(&back)]);

    // The open one turns out to be over, and another one that was over to be open.
    let (reopened, closed) = (with(&left, |visit| visit.to = None), with(&back, |visit| visit.to = Some(at(4000))));
    let changes = vec![changed(&reopened, false), changed(&closed, true)];
    fresh.write(&Writes { changed_visits: changes, ..Writes::default() }).await.expect("both");
    assert_eq!(fresh.visits(1).await, [known(&reopened), known(&closed)]);
}

async fn a_visit_that_turns_out_otherwise_keeps_its_number(fresh: Fresh) {
    let first = record(1, 5000);
    fresh.write(&opening([first.clone(), record(2, 5000)])).await.expect("written");
    let before = fresh.checkin_of(first.visit.unique_id).await.expect("is there");
    let earlier = VisitRecord {
        opened: Some(opened("Ada")),
        ..with(&first, |visit| (visit.unique_id, visit.from) = (uuid(), at(3000)))
    };
    let change = ChangedVisit { known_as: first.visit.unique_id, ..changed(&earlier, false) };
    let writes = Writes { changed_visits: vec![change], ..Writes::default() };
    fresh.write_at(&writes, NOW.moved(1)).await.expect("changed");
    let after = fresh.checkin_of(earlier.visit.unique_id).await.expect("is there");
    assert_eq!((after.id, after.created_on, after.updated_on), (before.id, NOW, NOW.moved(1)));
    assert_eq!((after.from, after.then.full_name.as_deref()), (at(3000), Some("Ada")));
    assert_eq!(fresh.checkin_of(first.visit.unique_id).await, None);
    assert_eq!(fresh.visits(1).await, [known(&earlier)]);

    // What was true when it was opened stays, where the fold begins after that.
    let later = VisitRecord { opened: None, ..with(&earlier, |visit| visit.from = at(2000)) };
    let writes = Writes { changed_visits: vec![changed(&later, false)], ..Writes::default() };
    fresh.write(&writes).await.expect("changed");
    assert_eq!(fresh.visits(1).await, [KnownVisit { from: at(2000), ..known(&earlier) }]);

    let taken = fresh.visits(2).await[0].unique_id;
    let onto = with(&later, |visit| visit.unique_id = taken);
    let change = ChangedVisit { known_as: later.visit.unique_id, ..changed(&onto, false) };
    let refused = fresh.write(&Writes { changed_visits: vec![change], ..Writes::default() }).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
}

async fn a_visit_that_goes_on_keeps_what_it_began_with(fresh: Fresh) {
    let first = record(1, 1000);
    fresh.write(&opening([first.clone()])).await.expect("written");
    let later = VisitRecord {
        opened: Some(opened("Another name")),
        ..with(&first, |visit| {
            (visit.from, visit.last_activity, visit.source) = (at(1), at(3000), CheckinSource::NetworkActivity);
        })
    };
    fresh.write(&Writes { changed_visits: vec![changed(&later, true)], ..Writes::default() }).await.expect("changed");
    assert_eq!(fresh.visits(1).await, [KnownVisit { last_activity: at(3000), ..known(&first) }]);
}

async fn a_visit_that_never_was_is_gone(fresh: Fresh) {
    let (one, two, other) = (record(1, 1000), record(1, 2000), record(2, 1000));
    fresh.write(&opening([one.clone(), other.clone()])).await.expect("written");
    // What is gone makes room for what takes its place.
    let writes = Writes { gone_visits: vec![one.visit.unique_id, uuid()], ..opening([two.clone()]) };
    fresh.write(&writes).await.expect("written");
    assert_eq!(fresh.visits(1).await, [known(&two)]);
    assert_eq!(fresh.visits(2).await, [known(&other)]);
}

async fn records_are_read_from_instants_of_their_own(fresh: Fresh) {
    let day: Vec<VisitRecord> = (1..=4)
        .map(|hour| with(&record(1, hour * 1000), |visit| visit.to = Some(at(hour * 1000 + 500))))
        .chain([with(&record(1, 5000), |visit| visit.business = BusinessId(2)), record(2, 1000)])
        .collect();
    let failures = [(1, 1500), (1, 2500), (2, 2500)]
        .map(|(coworker, millis)| FailureRecord { coworker: Some(CoworkerId(coworker)), ..failure(millis) });
    let charges: Vec<ChargeRecord> = day.iter().map(|record| charge(record, 100)).collect();
    let writes = Writes { failures: failures.to_vec(), charges, ..opening(day.clone()) };
    fresh.write(&writes).await.expect("written");

    let asked = BTreeMap::from([(CoworkerId(1), (at(3000), at(2500))), (CoworkerId(3), (at(0), at(0)))]);
    let mut batch = fresh.batch().await;
    let KnownRecords { visits, failures: failed, charges } = batch.records(&asked).await.expect("asked");
    let expected: Vec<KnownVisit> = day[2..5].iter().map(known).collect();
    let whose = |ids: &[Uuid]| ids.iter().map(|id| (*id, CoworkerId(1))).collect::<BTreeMap<_, _>>();
    let ids: Vec<Uuid> = expected.iter().map(|visit| visit.unique_id).collect();
    assert_eq!(sorted(visits.into_values()), expected, "at any business, but of others nothing");
    let whose_charges: BTreeMap<Uuid, CoworkerId> =
        charges.iter().map(|(id, (coworker, _))| (*id, *coworker)).collect();
    assert_eq!((failed, whose_charges), (whose(&[failures[1].unique_id]), whose(&ids)));
    assert!(expected.iter().all(|visit| charges[&visit.unique_id].1 == visit.from));
    drop(batch);
    let mut all = fresh.records(&[1, 2]).await;
    let two = all.take(&BTreeSet::from([CoworkerId(2), CoworkerId(7)]));
    assert_eq!((sorted(two.visits.into_values()), all.visits.len()), (vec![known(&day[5])], 5));
    assert_eq!((two.failures.len(), all.failures.len(), two.charges.len(), all.charges.len()), (1, 2, 1, 5));
    let nothing = fresh.records(&[]).await;
    assert!(nothing.visits.is_empty() && nothing.failures.is_empty() && nothing.charges.is_empty());
}

async fn what_is_not_committed_never_happened(fresh: Fresh) {
    let writes = Writes {
        facts: vec![decided(&tap(1, 1000))],
        standings: vec![standing(1, 0, Some((1, 9000)))],
        checkpoints: vec![(Subject(1), LogDay(0), person(1000))],
        pending: vec![pending(1, 1, &[1000])],
        failures: vec![failure(1000)],
        plan_usage: BTreeMap::from([((CoworkerId(1), date(1)), counted(1))]),
        coverage: Some((uuid(), BusinessId(1), CoverageRow { from: at(1), to: at(2) })),
        ..opening([record(1, 1000)])
    };
    let mut batch = fresh.batch().await;
    batch.write(&writes, &|_, _| calendar(), NOW).await.expect("written");
    drop(batch);
    assert_eq!(fresh.visits(1).await, []);
    let tables =
        ["facts", "standings", "checkpoints", "presences", "checkins", "failed_checkins", "plan_usage", "coverage"];
    for table in tables {
        assert_eq!(fresh.count(table).await, 0, "{table}");
    }
    fresh.write(&writes).await.expect("the writer is well");
    for table in tables {
        assert_eq!(fresh.count(table).await, 1, "{table}");
    }
}

async fn a_stretch_of_time_holds_what_began_in_it(fresh: Fresh) {
    let visits = [(1, 999), (2, 1000), (3, 1999), (4, 2000)].map(|(coworker, from)| record(coworker, from));
    let writes = Writes {
        failures: [999, 1000, 2000].map(failure).to_vec(),
        facts: [999, 1000, 2000].map(|millis| decided(&tap(7, millis))).to_vec(),
        ..opening(visits)
    };
    fresh.write(&writes).await.expect("written");

    let (here, from, to) = (BusinessId(1), at(1000), at(2000));
    let began = fresh.store.checkins_between(here, from, to).await.expect("read");
    assert_eq!(began.iter().map(|visit| visit.from).collect::<Vec<_>>(), [at(1000), at(1999)]);
    let failed = fresh.store.failed_checkins_between(here, from, to).await.expect("read");
    assert_eq!(failed.iter().map(|failed| failed.attempt_at).collect::<Vec<_>>(), [at(1000)]);
    let logged = fresh.store.facts_between(here, from, to).await.expect("read");
    assert_eq!(logged.len(), 1);
    assert_eq!((&logged[0].door, logged[0].event_at), (&Some(DoorKey("405419896:1".to_owned())), at(1000)));
    assert_eq!((logged[0].credential.as_deref(), logged[0].coworker), (Some("8165538"), Some(CoworkerId(7))));
    assert_eq!(fresh.store.checkins_between(BusinessId(2), from, to).await.expect("read"), []);
    assert_eq!(fresh.store.failed_checkins_between(BusinessId(2), from, to).await.expect("read"), []);
    assert_eq!(fresh.store.facts_between(BusinessId(2), from, to).await.expect("read"), []);
}

async fn a_fact_is_written_once(fresh: Fresh) {
    let (one, two) = (tap(1, 1000), tap(1, 2000));
    assert!(fresh.known(&[&one, &two]).await.is_empty());
    fresh.write(&logging([&one])).await.expect("written");
    assert_eq!(fresh.known(&[&one, &two, &one]).await, [0, 2]);
    let again = fresh.write(&logging([&two, &one])).await;
    assert!(matches!(again, Err(StoreError::Conflict)), "another gateway was faster: {again:?}");
    assert!(fresh.known(&[&two]).await.is_empty(), "all of a batch or nothing");

    // Other content at the same place is another fact, and so is the same content at another time or of somebody else.
    let other = DoorFact { digest: FactDigest([9; 16]), ..one.clone() };
    let later = DoorFact { at: at(1001), ..one.clone() };
    let whose = DoorFact { subject: Subject(2), ..one.clone() };
    assert!(fresh.known(&[&other, &later, &whose]).await.is_empty());
    fresh.write(&logging([&other, &later, &whose])).await.expect("others");
    assert_eq!(fresh.known(&[&whose, &later, &other, &one]).await, [0, 1, 2, 3]);
}

async fn a_fact_that_arrived_is_known_at_any_time(fresh: Fresh) {
    let arrived = |subject, millis, digest| DoorFact {
        quality: TimeQuality::Arrival,
        digest: FactDigest([digest; 16]),
        ..tap(subject, millis)
    };
    let first = arrived(1, 1000, 9);
    fresh.write(&logging([&first])).await.expect("written");
    // It comes again, and now belongs to somebody else: it is the same fact still.
    let (again, other) = (arrived(2, DAY + 1000, 9), arrived(1, 1000, 8));
    assert_eq!(fresh.known(&[&other, &again, &first]).await, [1, 2]);
    let written = fresh.write(&logging([&again])).await;
    assert!(matches!(written, Err(StoreError::Conflict)), "{written:?}");
    // What has a time of its own is another fact when its time is another.
    let timed = DoorFact { quality: TimeQuality::Device, ..again };
    assert!(fresh.known(&[&timed]).await.is_empty());
    fresh.write(&logging([&timed, &other])).await.expect("others");
}

async fn facts_are_found_by_person_and_day(fresh: Fresh) {
    let all = [tap(1, 1000), tap(1, DAY - 1), tap(1, DAY), tap(2, 1000), tap(-5, 1000)];
    let elsewhere = DoorFact { business: BusinessId(2), digest: FactDigest([2; 16]), ..tap(1, 1000) };
    fresh.write(&logging(all.iter().chain([&elsewhere]))).await.expect("written");
    let mut batch = fresh.batch().await;
    let mut found = async |asked: &[(Subject, LogDay)]| {
        let mut facts = batch.facts(asked).await.expect("asked");
        facts.sort_by_key(|decided| (decided.fact.at, decided.fact.digest));
        facts
    };
    assert_eq!(found(&[]).await, []);
    let asked = [(Subject(1), LogDay(0)), (Subject(2), LogDay(1)), (Subject(-5), LogDay(0))];
    let expected = [&all[0], &elsewhere, &all[4], &all[1]].map(decided);
    assert_eq!(found(&asked).await, expected, "at any business");
    assert_eq!(found(&[(Subject(1), LogDay(1))]).await, [decided(&all[2])]);
}

async fn facts_change_their_decision_and_go(fresh: Fresh) {
    let (one, two, three) = (tap(1, 1000), tap(1, 2000), tap(2, 1000));
    fresh.write(&logging([&one, &two, &three])).await.expect("written");
    let closed = DecisionCode::of(Outcome::Closed, None);
    let writes = Writes {
        decided_again: vec![DecidedFact { decision: closed, ..decided(&two) }],
        gone_facts: vec![stored(&one), stored(&tap(9, 1000))],
        ..Writes::default()
    };
    fresh.write(&writes).await.expect("written");
    let mut batch = fresh.batch().await;
    let mut facts = batch.facts(&[(Subject(1), LogDay(0)), (Subject(2), LogDay(0))]).await.expect("asked");
    facts.sort_by_key(|decided| decided.fact.subject);
    let facts = facts.into_iter().map(|decided| (decided.fact, decided.decision)).collect::<Vec<_>>();
    assert_eq!(facts, [(stored(&two), closed), (stored(&three), opened_code())]);
    drop(batch);

    // One whose time was wrong goes, and comes again with another, in one transaction.
    let moved = DoorFact { at: at(7000), ..two.clone() };
    let writes = Writes { gone_facts: vec![stored(&two)], ..logging([&moved, &one]) };
    fresh.write(&writes).await.expect("written");
    assert_eq!(fresh.known(&[&moved, &two, &one]).await, [0, 2]);
}

async fn the_log_tells_people_what_was_said(fresh: Fresh) {
    let heard = point(3000);
    let (interface, why) = (|| "eth1".into(), DecisionCode::of(Outcome::Failed, Some("unrecognised_device")));
    let presence = Fact::Presence(PresenceFact {
        business: BusinessId(1),
        subject: Subject(7),
        mac: mac(1),
        interface: interface(),
        points: vec![heard, point(4000)],
    });
    let strange = Fact::StrangeDevice(StrangeDeviceFact {
        business: BusinessId(1),
        mac: mac(2),
        interface: interface(),
        recognised: Recognised::Unknown,
        point: point(5000),
    });
    let rejected = Fact::Rejected(RejectedFact {
        business: BusinessId(1),
        at: at(6000),
        digest: FactDigest([6; 16]),
        source: "front".into(),
        topic: "doors/front\u{0}".to_owned(),
        why: "payload".to_owned(),
    });
    let newer = StoredFact { payload: vec![99], ..stored(&tap(7, 7000)) };
    let facts = [
        (rejected.stored(), DecisionCode::of(Outcome::Rejected, None)),
        (strange.stored(), why),
        (presence.stored(), DecisionCode::of(Outcome::Refreshed, None)),
        (stored(&tap(7, 2000)), opened_code()),
        (newer, opened_code()),
    ];
    let facts = facts.map(|(fact, decision)| DecidedFact { fact, decision }).to_vec();
    fresh.write(&Writes { facts, ..Writes::default() }).await.expect("written");
    let logged = fresh.store.facts_between(BusinessId(1), at(0), at(DAY)).await.expect("read");
    let nothing = LoggedFact {
        source: "eth1".to_owned(),
        door: None,
        kind: "network",
        credential: None,
        mac: None,
        coworker: None,
        event_at: at(0),
        outcome: Outcome::Opened,
        reason: None,
        frames: 0,
    };
    let expected = [
        LoggedFact {
            source: "front".to_owned(),
            door: Some(DoorKey("405419896:1".to_owned())),
            kind: DoorEventKind::Granted.word(),
            credential: Some("8165538".to_owned()),
            coworker: Some(CoworkerId(7)),
            event_at: at(2000),
            ..nothing.clone()
        },
        LoggedFact {
            mac: Some(mac(1)),
            coworker: Some(CoworkerId(7)),
            event_at: heard.first_at,
            outcome: Outcome::Refreshed,
            frames: 4,
            ..nothing.clone()
        },
        LoggedFact {
            mac: Some(mac(2)),
            event_at: point(5000).first_at,
            outcome: Outcome::Failed,
            reason: Some("unrecognised_device"),
            frames: 2,
            ..nothing.clone()
        },
        LoggedFact {
            source: "front".to_owned(),
            door: Some(DoorKey("doors/front\u{0}".to_owned())),
            kind: "rejected",
            event_at: at(6000),
            outcome: Outcome::Rejected,
            ..nothing
        },
    ];
    assert_eq!(logged, expected, "what a newer program wrote is left out");
}

async fn a_person_is_written_over_only_by_a_writer_who_knows_them(fresh: Fresh) {
    let state = person(1000);
    let put = async |subject, revision, same_deadline| {
        let new = NewStanding { person: state.clone(), same_deadline, ..standing(subject, revision, None) };
        fresh.write(&Writes { standings: vec![standing(99 + subject, 0, None), new], ..Writes::default() }).await
    };
    let conflict = |written| matches!(written, Err(StoreError::Conflict));
    put(1, 0, false).await.expect("the first");
    assert!(conflict(put(1, 0, false).await), "it is there already");
    let row = fresh.standing(1).await.expect("is there");
    assert_eq!((row.revision, row.deadline, &row.person), (1, None, &state));
    for (subject, revision, same_deadline, writes) in
        [(1, 2, false, false), (1, 2, true, false), (1, 1, true, true), (1, 1, true, false), (1, 2, false, true)]
    {
        let mut batch = fresh.batch().await;
        let new = NewStanding { person: state.clone(), same_deadline, ..standing(subject, revision, None) };
        let writes_all = Writes { standings: vec![new], ..Writes::default() };
        let written = batch.write(&writes_all, &|_, _| calendar(), NOW).await;
        assert_eq!(written.is_ok(), writes, "{revision} {written:?}");
        assert!(writes || conflict(written));
        if writes {
            batch.commit().await.expect("committed");
        }
    }
    assert_eq!(fresh.standing(1).await.expect("is there").revision, 3);
    assert!(fresh.standing(2).await.is_none());
}

async fn deadlines_are_found_when_they_come(fresh: Fresh) {
    let here = BusinessId(1);
    assert_eq!(fresh.store.next_deadline(here).await.expect("asked"), None);
    let people = [(1, Some((1, 3000))), (2, Some((1, 2000))), (3, Some((2, 1000))), (4, None), (5, Some((1, 4000)))];
    let standings = people.map(|(subject, deadline)| standing(subject, 0, deadline)).to_vec();
    fresh.write(&Writes { standings, ..Writes::default() }).await.expect("written");
    let due = async |now, limit| {
        let due = fresh.store.due(here, at(now), limit).await.expect("asked");
        due.into_iter().map(|subject| subject.0).collect::<Vec<_>>()
    };
    assert_eq!(fresh.store.next_deadline(here).await.expect("asked"), Some(at(2000)));
    assert!(due(1999, 9).await.is_empty());
    assert_eq!(due(3000, 9).await, [2, 1], "the earliest first");
    assert_eq!(due(9000, 2).await, [2, 1]);
    let people_in = async |after, limit| {
        let people = fresh.store.people_in(here, Subject(after), limit).await.expect("asked");
        people.into_iter().map(|subject| subject.0).collect::<Vec<_>>()
    };
    assert_eq!(people_in(i64::MIN, 2).await, [1, 2]);
    assert_eq!(people_in(2, 2).await, [5]);
    assert!(people_in(5, 2).await.is_empty());

    // Out, later, and at another place.
    let standings = vec![standing(2, 1, None), standing(1, 1, Some((1, 8000))), standing(5, 1, Some((2, 4000)))];
    fresh.write(&Writes { standings, ..Writes::default() }).await.expect("written");
    assert_eq!(due(9000, 9).await, [1]);
    assert_eq!(fresh.store.next_deadline(here).await.expect("asked"), Some(at(8000)));
    assert_eq!(fresh.store.next_deadline(BusinessId(2)).await.expect("asked"), Some(at(1000)));
    assert_eq!(fresh.standing(2).await.expect("is there").deadline, None);
    assert_eq!(fresh.standing(5).await.expect("is there").deadline, Some((BusinessId(2), at(4000))));
}

async fn a_deadline_that_stays_is_not_written(fresh: Fresh) {
    let first = standing(1, 0, Some((1, 3000)));
    fresh.write(&Writes { standings: vec![first], ..Writes::default() }).await.expect("written");
    let state = PersonState { visits: vec![record(1, 2000).visit], ..person(2000) };
    let kept = NewStanding { same_deadline: true, person: state.clone(), ..standing(1, 1, Some((2, 7000))) };
    // One that is not there is written with its deadline, whatever was said of it.
    let new = NewStanding { same_deadline: true, ..standing(2, 0, Some((1, 5000))) };
    fresh.write(&Writes { standings: vec![kept, new], ..Writes::default() }).await.expect("written");
    let row = fresh.standing(1).await.expect("is there");
    assert_eq!((row.revision, row.deadline, row.person), (2, Some((BusinessId(1), at(3000))), state));
    assert_eq!(fresh.standing(2).await.expect("is there").deadline, Some((BusinessId(1), at(5000))));
}

async fn people_who_may_change_are_told_apart(fresh: Fresh) {
    let standings = vec![
        NewStanding { person: person(1000), ..standing(1, 0, Some((1, 9000))) },
        NewStanding { person: person(4999), ..standing(2, 0, None) },
        NewStanding { person: person(5000), ..standing(3, 0, None) },
        NewStanding { person: person(9000), ..standing(4, 0, None) },
    ];
    fresh.write(&Writes { standings, ..Writes::default() }).await.expect("written");
    let mut batch = fresh.batch().await;
    let people = [1, 2, 3, 7].map(Subject).into();
    let active = batch.active(&people, at(5000)).await.expect("asked");
    assert_eq!(active, [1, 3].map(Subject).into());
    assert_eq!(batch.active(&BTreeSet::new(), at(0)).await.expect("asked"), BTreeSet::new());
}

async fn people_of_a_time_to_come_are_found(fresh: Fresh) {
    let stands = |subject, millis, deadline| NewStanding { person: person(millis), ..standing(subject, 0, deadline) };
    let standings = vec![
        stands(1, 5000, Some((1, 9000))),
        stands(2, 5001, Some((1, 9000))),
        stands(3, 6000, None),
        stands(4, 6000, Some((2, 9000))),
    ];
    fresh.write(&Writes { standings, ..Writes::default() }).await.expect("written");
    let ahead = async |limit| {
        let mut people = fresh.store.people_ahead(BusinessId(1), at(5000), limit).await.expect("asked");
        people.sort_unstable();
        people
    };
    assert_eq!(ahead(9).await, [2, 3].map(Subject), "who is in elsewhere is looked at there");
    assert_eq!(ahead(1).await.len(), 1);
}

async fn checkpoints_are_found_by_person_and_day(fresh: Fresh) {
    let checkpoint = |subject, day: i64, millis| (Subject(subject), LogDay(day), person(millis));
    let all = [checkpoint(1, 5, 10), checkpoint(1, 6, 20), checkpoint(2, 5, 30), checkpoint(-3, 5, 40)];
    let put = async |writes: Writes| fresh.write(&writes).await.expect("written");
    put(Writes { checkpoints: all.to_vec(), ..Writes::default() }).await;
    let found = async |asked: &[(i64, i64)]| {
        let asked: Vec<_> = asked.iter().map(|(subject, day)| (Subject(*subject), LogDay(*day))).collect();
        let mut found = fresh.batch().await.checkpoints(&asked).await.expect("asked");
        found.sort_by_key(|(subject, day, _)| (*subject, *day));
        found
    };
    assert_eq!(found(&[(1, 5), (2, 6), (-3, 5)]).await, [all[3].clone(), all[0].clone()]);
    assert_eq!(found(&[]).await, []);
    // One is replaced, one goes, and one that goes is written again.
    put(Writes {
        gone_checkpoints: vec![(Subject(1), LogDay(6)), (Subject(2), LogDay(5)), (Subject(8), LogDay(5))],
        checkpoints: vec![checkpoint(1, 5, 11), checkpoint(2, 5, 31)],
        ..Writes::default()
    })
    .await;
    let left = [checkpoint(-3, 5, 40), checkpoint(1, 5, 11), checkpoint(2, 5, 31)];
    assert_eq!(found(&[(1, 5), (1, 6), (2, 5), (-3, 5)]).await, left);
}

async fn presences_wait_beside_the_log(fresh: Fresh) {
    let all = [
        pending(1, 1, &[1000, 2000]),
        PendingPresence { business: BusinessId(2), ..pending(1, 1, &[1500]) },
        pending(1, 2, &[1_767_225_600_123]),
        pending(2, 3, &[5000]),
        pending(3, 3, &[5000]),
    ];
    fresh.write(&Writes { pending: all.to_vec(), ..Writes::default() }).await.expect("written");
    let found = async |subjects: &[i64]| {
        let subjects = subjects.iter().copied().map(Subject).collect();
        let found = fresh.batch().await.load(&subjects, &[]).await.expect("asked");
        let mut found: Vec<PendingPresence> = found.pending.into_values().flatten().collect();
        found.sort_by_key(|pending| (pending.subject, pending.business, pending.mac));
        found
    };
    assert_eq!(found(&[1, 2]).await, [&all[0], &all[2], &all[1], &all[3]].map(Clone::clone));
    assert_eq!(found(&[9]).await, []);
    let (outside, _) = fresh.store.standings(&[Subject(2)].into(), &BTreeSet::new()).await.expect("asked");
    assert_eq!(outside.pending, BTreeMap::from([(all[3].subject, all[3..4].to_vec())]));

    // All of a person go, and what is left of them is written again; of somebody else one is replaced.
    let (rest, other) =
        (pending(1, 2, &[3000]), PendingPresence { interface: "eth2".to_owned(), ..pending(2, 3, &[6000, 7000]) });
    let writes = Writes {
        gone_pending: [Subject(1), Subject(9)].into(),
        pending: vec![rest.clone(), other.clone()],
        ..Writes::default()
    };
    fresh.write(&writes).await.expect("written");
    assert_eq!(found(&[1, 2, 3]).await, [rest, other, all[4].clone()]);
}

async fn an_open_visit_is_as_fresh_as_what_was_heard(fresh: Fresh) {
    let open = record(1, 1000);
    let left = with(&record(2, 1000), |visit| (visit.to, visit.last_activity) = (Some(at(1500)), at(1500)));
    fresh.write(&opening([open.clone(), left.clone()])).await.expect("written");
    let last = async |record: &VisitRecord| {
        let row = fresh.checkin_of(record.visit.unique_id).await.expect("is there");
        let here = fresh.store.checkins_between(BusinessId(1), at(0), at(DAY)).await.expect("read");
        assert!(here.contains(&row), "the same in a list");
        if row.to.is_none() {
            assert_eq!(fresh.store.open_checkins().await.expect("read"), std::slice::from_ref(&row));
        }
        row.last_activity.expect("known").millis()
    };
    assert_eq!((last(&open).await, last(&left).await), (1000, 1500));
    let stands = |subject, revision, last| {
        let visit = with(&record(subject, 1000), |visit| visit.last_activity = at(last)).visit;
        let person = PersonState { visits: vec![visit], ..person(last) };
        NewStanding { person, ..standing(subject, revision, Some((1, 90_000))) }
    };
    let put = async |writes: Writes| fresh.write(&writes).await.expect("written");
    put(Writes { standings: vec![stands(1, 0, 2000), stands(2, 0, 2000)], ..Writes::default() }).await;
    assert_eq!((last(&open).await, last(&left).await), (2000, 1500));
    put(Writes {
        pending: vec![
            pending(1, 1, &[2500, 4000, 3000]),
            pending(1, 2, &[3500]),
            pending(2, 3, &[4000]),
            PendingPresence { business: BusinessId(2), ..pending(1, 1, &[9000]) },
        ],
        ..Writes::default()
    })
    .await;
    assert_eq!((last(&open).await, last(&left).await), (4000, 1500), "what was heard at another business is not here");
    put(Writes {
        gone_pending: [Subject(1)].into(),
        standings: vec![NewStanding { same_deadline: true, ..stands(1, 1, 4000) }],
        ..Writes::default()
    })
    .await;
    assert_eq!(last(&open).await, 4000);
    let closed = with(&open, |visit| (visit.to, visit.last_activity) = (Some(at(3000)), at(3000)));
    put(Writes { changed_visits: vec![changed(&closed, true)], ..Writes::default() }).await;
    assert_eq!(last(&closed).await, 3000, "of one that is over the row is the last word");
}

async fn what_is_used_of_a_pass_is_read_by_all_who_may_use_it(fresh: Fresh) {
    let used = |subject: i64, days| Used {
        basis_at: at(7),
        days,
        last_day: Some(date(days)),
        days_before: 5,
        seconds: 3_000_000_000,
        open: (subject == 2).then_some(at(9000)),
        ..Used::nothing(CoworkerId(subject), at(7))
    };
    let (one, two) = (Uuid::from_u128(51), Uuid::from_u128(52));
    let row = |pass, subject, days| (pass, Subject(subject), used(subject, days));
    let put = async |rows: &[(Uuid, Subject, Used)]| {
        fresh.write(&Writes { pass_usage: rows.to_vec(), ..Writes::default() }).await.expect("written");
    };
    let first = [row(one, 1, 1), row(one, 2, 1), row(two, 1, 1)];
    put(&first).await;
    let read = async |passes: &[Uuid]| {
        let passes = passes.iter().copied().collect();
        let mut found = fresh.batch().await.pass_users(&passes).await.expect("asked");
        let (_, mut outside) = fresh.store.standings(&BTreeSet::new(), &passes).await.expect("asked");
        found.sort_by_key(|(pass, subject, _)| (*pass, *subject));
        outside.sort_by_key(|(pass, subject, _)| (*pass, *subject));
        assert_eq!(found, outside, "outside a transaction");
        found
    };
    assert_eq!(read(&[one]).await, first[..2]);
    assert_eq!(read(&[one, two]).await, first);
    assert_eq!(read(&[Uuid::from_u128(9)]).await, []);
    assert_eq!(read(&[]).await, []);
    let nothing = (one, Subject(2), Used::nothing(CoworkerId(2), at(8)));
    put(&[row(one, 1, 2), nothing]).await;
    assert_eq!(read(&[one, two]).await, [row(one, 1, 2), nothing, first[2]]);
}

async fn the_last_total_before_a_day_is_read(fresh: Fresh) {
    let usage = |coworker, rows: &[(u32, u32)]| {
        let row = |&(day, days): &(u32, u32)| ((CoworkerId(coworker), date(day)), counted(days));
        rows.iter().map(row).collect::<BTreeMap<_, _>>()
    };
    let mut plan_usage = usage(1, &[(3, 1), (5, 2), (9, 3)]);
    plan_usage.extend(usage(2, &[(4, 7)]));
    fresh.write(&Writes { plan_usage, ..Writes::default() }).await.expect("written");
    let totals = async |asked: &[(i64, u32)]| {
        let asked = asked.iter().map(|&(coworker, day)| (CoworkerId(coworker), date(day))).collect();
        let totals = fresh.batch().await.totals(&asked).await.expect("asked");
        let row = |((coworker, day), total): ((CoworkerId, NaiveDate), Counted)| {
            assert_eq!(total, counted(total.days));
            (coworker.0, u32::try_from(day.signed_duration_since(date(0)).num_days()).expect("a day"), total.days)
        };
        totals.into_iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(totals(&[]).await, []);
    let asked = [(1, 3), (1, 4), (1, 5), (1, 6), (1, 20), (2, 20), (3, 20)];
    assert_eq!(totals(&asked).await, [(1, 3, 1), (1, 5, 2), (1, 9, 3), (2, 4, 7)]);

    // A total is written again; what was counted after a day is counted again; and of somebody everything.
    let writes = Writes {
        recounted: vec![(CoworkerId(1), Some(date(3))), (CoworkerId(2), None), (CoworkerId(8), None)],
        plan_usage: usage(1, &[(3, 2), (6, 4)]),
        ..Writes::default()
    };
    fresh.write(&writes).await.expect("written");
    assert_eq!(totals(&[(1, 4), (1, 6), (1, 20), (2, 20)]).await, [(1, 3, 2), (1, 6, 4)]);
}

async fn a_nul_character_stops_nothing(fresh: Fresh) {
    let shown = ShownCredential { kind: CredentialKind::Card, scope: None, value: Some("12\u{0}34".to_owned()) };
    let fact = DoorFact { shown: Some(shown), ..tap(1, 1000) };
    let visit = VisitRecord { opened: Some(opened("A\u{0}da")), ..record(1, 1000) };
    let heard = PendingPresence { interface: "e\u{0}1".to_owned(), ..pending(1, 1, &[1000]) };
    let detail = Refused { reason: Reason::NoValidPass, detail: Some("a\u{0}b".into()) };
    let failed = FailureRecord { refused: detail, ..failure(1000) };
    let writes = Writes { pending: vec![heard], failures: vec![failed], ..logging([&fact]) };
    let writes = Writes { new_visits: vec![visit], ..writes };
    fresh.write(&writes).await.expect("written");
    let row =
        fresh.one("SELECT coworker_full_name, (SELECT interface FROM presences) AS interface FROM checkins").await;
    let text = |column| row.text(column).expect("text");
    assert_eq!((text("coworker_full_name"), text("interface")), ("A\u{fffd}da".to_owned(), "e\u{fffd}1".to_owned()));
    let failed = fresh.one("SELECT description FROM failed_checkins").await.text("description").expect("text");
    assert!(failed.contains("a\u{fffd}b"), "{failed}");
    // The log keeps bytes, and so what was said as it was said.
    let logged = fresh.store.facts_between(BusinessId(1), at(0), at(DAY)).await.expect("read");
    assert_eq!(logged[0].credential.as_deref(), Some("12\u{0}34"));
}

async fn a_text_that_spells_a_nul_character_stays_as_it_is(fresh: Fresh) {
    let visit = VisitRecord { opened: Some(opened(r"front/\u0000")), ..record(1, 1000) };
    fresh.write(&opening([visit.clone()])).await.expect("written");
    assert_eq!(fresh.visits(1).await, [known(&visit)]);
}

async fn a_refresh_uses_up_no_number(fresh: Fresh) {
    let first = record(1, 1000);
    let refusal = failure(1000);
    let writes =
        Writes { failures: vec![refusal.clone()], charges: vec![charge(&first, 1)], ..opening([first.clone()]) };
    fresh.write(&writes).await.expect("written");
    for later in 2000..2010 {
        let refreshed = with(&first, |visit| visit.last_activity = at(later));
        let writes = Writes {
            changed_visits: vec![changed(&refreshed, later % 2 == 0)],
            failures: vec![refusal.clone()],
            changed_failures: vec![FailureRecord { attempt_at: at(later), ..refusal.clone() }],
            ..Writes::default()
        };
        fresh.write(&writes).await.expect("changed");
    }
    fresh.write(&Writes { failures: vec![failure(3000)], ..opening([record(2, 3000)]) }).await.expect("written");
    for asked in ["SELECT max(id) AS id FROM checkins", "SELECT max(id) AS id FROM failed_checkins"] {
        assert_eq!(fresh.one(asked).await.int("id").expect("a number"), 2, "{asked}");
    }
}

async fn what_has_expired_is_forgotten_for_one_business_only(fresh: Fresh) {
    let here = with(&record(1, 1000), |visit| visit.to = Some(at(2000)));
    let open = record(2, 1000);
    let there = with(&here, |visit| (visit.unique_id, visit.business) = (uuid(), BusinessId(2)));
    let failed = |business| FailureRecord { business: BusinessId(business), ..failure(1000) };
    let no_pass = Refused { reason: Reason::NoValidPass, detail: None };
    let fact = |business, millis| DoorFact { business: BusinessId(business), ..tap(1, millis) };
    let facts = [fact(1, 1000), fact(1, DAY), fact(2, 2000), fact(1, 3 * DAY)];
    let writes = Writes {
        facts: facts.iter().map(decided).collect(),
        failures: vec![failed(1), failed(2), FailureRecord { refused: no_pass, ..failed(1) }],
        checkpoints: [0, 1, 2].map(|day| (Subject(1), LogDay(day), person(day))).to_vec(),
        standings: vec![standing(1, 0, None)],
        coverage: Some((uuid(), BusinessId(1), CoverageRow { from: at(1000), to: at(2000) })),
        ..opening([here, open, there])
    };
    fresh.write(&writes).await.expect("written");
    let elsewhere = Some((uuid(), BusinessId(2), CoverageRow { from: at(1000), to: at(2000) }));
    fresh.write(&Writes { coverage: elsewhere, ..Writes::default() }).await.expect("written");
    let before = at(2 * DAY + 1);
    for (what, rows) in [
        (Expired::Checkins, 1),
        (Expired::UnrecognisedDevices, 1),
        (Expired::FailedCheckins, 1),
        (Expired::Facts, 2),
        (Expired::Checkpoints, 2),
        (Expired::Coverage, 1),
    ] {
        assert_eq!(fresh.store.forget(what, BusinessId(1), before).await.expect("asked"), rows, "{what:?}");
        assert_eq!(fresh.store.forget(what, BusinessId(1), before).await.expect("asked"), 0, "{what:?}");
    }
    for (table, left) in
        [("checkins", 2), ("failed_checkins", 1), ("facts", 2), ("checkpoints", 1), ("standings", 1), ("coverage", 1)]
    {
        assert_eq!(fresh.count(table).await, left, "{table}");
    }
    assert_eq!(fresh.known(&facts.each_ref()).await, [2, 3], "a day is over as a whole");
}

async fn strangers_are_forgotten_and_members_are_not(fresh: Fresh) {
    let stands = |subject, millis| NewStanding { person: person(millis), ..standing(subject, 0, None) };
    let standings = vec![stands(-1, 1000), stands(-2, 5000), stands(0, 1000), stands(1, 1000)];
    fresh.write(&Writes { standings, ..Writes::default() }).await.expect("written");
    assert_eq!(fresh.store.forget(Expired::Checkpoints, BusinessId(1), at(5000)).await.expect("asked"), 1);
    assert!(fresh.standing(-1).await.is_none());
    for left in [-2, 0, 1] {
        assert!(fresh.standing(left).await.is_some(), "{left}");
    }
}

async fn more_than_a_portion_goes_in_portions(fresh: Fresh) {
    let facts: Vec<DoorFact> = (0..700).map(|millis| tap(1, millis)).collect();
    let checkpoints = (0..700).map(|subject| (Subject(subject), LogDay(0), person(1))).collect();
    fresh.write(&Writes { checkpoints, ..logging(&facts) }).await.expect("written");
    for what in [Expired::Facts, Expired::Checkpoints] {
        for rows in [500, 200, 0] {
            let forgotten = fresh.store.forget(what, BusinessId(1), at(DAY)).await.expect("asked");
            assert_eq!(forgotten, rows, "{what:?}");
        }
    }
}

async fn a_repeated_failure_is_written_once(fresh: Fresh) {
    let (first, other) = (failure(1000), failure(1000));
    fresh.write(&Writes { failures: vec![first.clone(), other], ..Writes::default() }).await.expect("written");
    let again = FailureRecord { attempt_at: at(5000), ..first.clone() };
    fresh.write(&Writes { failures: vec![again, failure(2000)], ..Writes::default() }).await.expect("written");
    assert_eq!(fresh.count("failed_checkins").await, 3);
    let id = fresh.one("SELECT id FROM failed_checkins ORDER BY id LIMIT 1").await.int("id").expect("id");
    let row = fresh.store.failed_checkin(FailedCheckinId(id)).await.expect("read").expect("is there");
    assert_eq!(row.description.as_deref(), Some("unrecognised_device: no coworker has a device with this MAC address"));
    assert_eq!((row.unique_id, row.coworker, row.attempt_at), (first.unique_id, None, at(1000)));
    assert_eq!((row.macs, row.source), (BTreeSet::from([mac(9)]), CheckinSource::NetworkActivity));
}

async fn a_failure_is_changed_in_its_place(fresh: Fresh) {
    let failed = |millis| FailureRecord { coworker: Some(CoworkerId(1)), ..failure(millis) };
    let (first, other) = (failed(5000), failed(6000));
    fresh.write(&Writes { failures: vec![first.clone(), other.clone()], ..Writes::default() }).await.expect("written");
    let rows = async || fresh.store.failed_checkins_between(BusinessId(1), at(0), at(DAY)).await.expect("read");
    let before = rows().await;
    let refused = Refused { reason: Reason::NoValidPass, detail: Some("nothing".into()) };
    let told = FailureRecord { attempt_at: at(3000), refused, ..first };
    let unknown = failed(1);
    let writes = Writes { changed_failures: vec![told, other.clone(), unknown], ..Writes::default() };
    fresh.write_at(&writes, NOW.moved(1)).await.expect("changed");
    let after = rows().await;
    assert_eq!(after.len(), 2, "what is not there is not changed");
    assert_eq!((after[0].id, after[0].created_on, after[0].updated_on), (before[0].id, NOW, NOW.moved(1)));
    assert_eq!(after[0].attempt_at, at(3000));
    assert!(after[0].description.as_deref().is_some_and(|text| text.starts_with("no_valid_pass")), "{after:?}");
    let code = fresh.one("SELECT code FROM failed_checkins ORDER BY id LIMIT 1").await.text("code").expect("text");
    assert_eq!(code, Reason::NoValidPass.code());
    assert_eq!(after[1], before[1], "what is as it was is not written");
    fresh.write(&Writes { gone_failures: vec![other.unique_id, uuid()], ..Writes::default() }).await.expect("gone");
    assert_eq!(rows().await, after[..1]);
}

async fn coverage_grows_and_is_told_by_business(fresh: Fresh) {
    let (one, two) = (uuid(), uuid());
    let covered = |from, to| CoverageRow { from: at(from), to: at(to) };
    for (id, business, stretch) in [
        (one, 1, covered(1000, 2000)),
        (one, 1, covered(1000, 3000)),
        (two, 1, covered(5000, 6000)),
        (uuid(), 2, covered(500, 4000)),
        (uuid(), 3, covered(100, 200)),
    ] {
        let coverage = Some((id, BusinessId(business), stretch));
        fresh.write(&Writes { coverage, ..Writes::default() }).await.expect("written");
    }
    let read = async |others, since| fresh.store.coverage(BusinessId(1), others, at(since)).await.expect("asked");
    let own = |stretches: &[CoverageRow]| BTreeMap::from([(BusinessId(1), stretches.to_vec())]);
    assert_eq!(read(false, 0).await, own(&[covered(1000, 3000), covered(5000, 6000)]));
    assert_eq!(read(false, 3001).await, own(&[covered(5000, 6000)]));
    let both = BTreeMap::from([(BusinessId(2), vec![covered(500, 4000)]), (BusinessId(3), vec![covered(100, 200)])]);
    assert_eq!(read(true, 0).await, both);
    assert_eq!(read(true, 201).await.keys().collect::<Vec<_>>(), [&BusinessId(2)]);
    assert_eq!(fresh.store.forget(Expired::Coverage, BusinessId(1), at(3001)).await.expect("asked"), 1);
    assert_eq!(read(false, 0).await, own(&[covered(5000, 6000)]));
}

async fn failed_devices_are_found_again(fresh: Fresh) {
    let other = FailureRecord { mac: Some(mac(8)), business: BusinessId(2), ..failure(1000) };
    let no_pass = Refused { reason: Reason::NoValidPass, detail: None };
    let refused = FailureRecord { mac: Some(mac(7)), refused: no_pass, ..failure(1000) };
    let failures = vec![failure(1000), other, refused];
    fresh.write(&Writes { failures, ..Writes::default() }).await.expect("written");
    let ask = |since| fresh.store.failed_devices(BusinessId(1), since, Reason::UnrecognisedDevice, 10);
    assert_eq!(ask(at(1000)).await.expect("asked"), BTreeSet::from([mac(9)]));
    assert!(ask(at(1001)).await.expect("asked").is_empty());
}

async fn an_unrecognised_device_is_forgotten_with_its_fact(fresh: Fresh) {
    let strange = |device, business, millis| {
        let fact = Fact::StrangeDevice(StrangeDeviceFact {
            business: BusinessId(business),
            mac: mac(device),
            interface: "eth1".into(),
            recognised: Recognised::Unknown,
            point: point(millis),
        });
        let decision = DecisionCode::of(Outcome::Failed, Some(Reason::UnrecognisedDevice.code()));
        DecidedFact { fact: fact.stored(), decision }
    };
    let unknown_card = DecisionCode::of(Outcome::Failed, Some(Reason::UnrecognisedCard.code()));
    let kept = [
        decided(&tap(1, 2000)),
        DecidedFact { decision: unknown_card, ..decided(&tap(-7, 2000)) },
        strange(9, 2, 2000),
        strange(9, 1, 3 * DAY + 2000),
    ];
    let facts = [strange(9, 1, 2000), strange(8, 1, DAY + 2000)].into_iter().chain(kept.clone()).collect();
    fresh.write(&Writes { facts, failures: vec![failure(1000)], ..Writes::default() }).await.expect("written");

    let forget = |before| fresh.store.forget(Expired::UnrecognisedDevices, BusinessId(1), before);
    assert_eq!(forget(at(1000)).await.expect("asked"), 0, "it is not older than that");
    assert_eq!(forget(at(3 * DAY)).await.expect("asked"), 3);
    assert_eq!(fresh.count("failed_checkins").await, 0);
    let kept = kept.map(|DecidedFact { fact, .. }| FactKey {
        day: fact.day,
        subject: fact.subject,
        at: fact.at,
        digest: fact.digest,
        arrived: fact.arrived,
    });
    assert_eq!(fresh.count("facts").await, 4);
    let mut batch = fresh.batch().await;
    let loaded = batch.load(&BTreeSet::new(), &kept).await.expect("asked");
    assert_eq!(loaded.known.len(), 4);
}

async fn an_import_is_loaded_and_counted(fresh: Fresh) {
    let key = fresh.store.pin_key().await.expect("drawn");
    assert_eq!(fresh.store.pin_key().await.expect("kept"), key);
    let text = r#"{"Businesses": [{"Id": 1, "Name": "Hub One"}],
        "Coworkers": [{"Id": 7, "FullName": "Ada", "AccessCardId": "8165538", "AccessPincode": "4711"}]}"#;
    let documents = import::read_json(text, &key).expect("reads").documents;
    let before = fresh.store.directory_version().await.expect("asked");
    let mut seen = 0;
    fresh.store.import(&documents, before, at(1), |done| seen = done).await.expect("imported");
    let late = fresh.store.import(&documents, before, at(2), |_| {}).await;
    assert!(matches!(late, Err(StoreError::Conflict)), "compared with a version that is gone: {late:?}");
    fresh.store.import(&documents, before + 1, at(2), |_| {}).await.expect("again");
    assert_eq!(seen, 2);
    let directory = fresh.store.load_directory().await.expect("loaded");
    assert_eq!((directory.version, directory.coworkers()), (before + 2, 1));
    assert_eq!(directory.business(BusinessId(1)), Some("Hub One"));
    let page = fresh.store.directory_page(EntityKind::Coworker, 0).await.expect("a page");
    assert_eq!(page.iter().map(|stored| (stored.id, stored.archived)).collect::<Vec<_>>(), [(7, false)]);
    assert!(page[0].document.contains("8165538") && !page[0].document.contains("4711"), "{page:?}");
    assert_eq!(fresh.store.directory_page(EntityKind::Coworker, 7).await.expect("a page"), []);
    assert_eq!(fresh.store.drawn_pin_key().await.expect("asked"), Some(key));
}

async fn a_directory_of_many_is_read_in_pages(fresh: Fresh) {
    let document = |id| Document {
        kind: EntityKind::Coworker,
        id,
        archived: id % 2 == 0,
        body: format!("{{\"Id\":{id},\"FullName\":\"Member\"}}"),
        holder: None,
        basis: None,
        place: EntryPlace::Stored,
    };
    let documents: Vec<Document> = (1..=2500).map(document).collect();
    assert_eq!(fresh.store.drawn_pin_key().await.expect("asked"), None);
    let before = fresh.store.directory_version().await.expect("asked");
    fresh.store.import(&documents, before, at(1), |_| {}).await.expect("imported");
    let mut ids = Vec::new();
    loop {
        let page = fresh.store.directory_page(EntityKind::Coworker, ids.last().copied().unwrap_or(0)).await;
        let page = page.expect("a page");
        if page.is_empty() {
            break;
        }
        assert!(page.iter().all(|stored| stored.archived == (stored.id % 2 == 0)));
        ids.extend(page.iter().map(|stored| stored.id));
    }
    assert_eq!(ids, (1..=2500).collect::<Vec<_>>());
}

/// What a version of the directory says.
fn said(directory: &Directory) -> (i64, usize, Option<String>, Option<String>) {
    let name = directory.coworker(CoworkerId(1)).map(|coworker| coworker.full_name.to_string());
    (directory.version, directory.coworkers(), name, directory.business(BusinessId(1)).map(ToOwned::to_owned))
}

async fn what_an_import_replaces_is_still_there_for_its_time(fresh: Fresh) {
    let site = |name: &str, also: &str| {
        format!(
            r#"{{"Businesses": [{{"Id": 1, "Name": "Hub One"}}],
                "TimePasses": [{{"Id": 3, "Name": "10 hours", "MinutesIncluded": 600}}],
                "CoworkerTimePasses": [{{"Id": 51, "CoworkerId": 1, "TimePassId": 3, "RemainingUses": 5}}],
                "Coworkers": [{{"Id": 1, "FullName": "{name}"}}{also}]}}"#
        )
    };
    let expected = |version, people, name: &str| (version, people, Some(name.to_owned()), Some("Hub One".to_owned()));
    let first = fresh.imports(&site("Ada", ""), 1000).await;
    assert_eq!(said(&first), expected(1, 1, "Ada"));
    fresh.imports(&site("Ada", r#", {"Id": 2, "FullName": "Bob"}"#), 2000).await;
    fresh.imports(&site("Ada Lovelace", ""), 3000).await;
    // Only Bob; whatever it does not speak of stays.
    fresh.imports(r#"{"Coworkers": [{"Id": 2, "FullName": "Bob", "Archived": true}]}"#, 4000).await;
    let versions = fresh.store.directory_versions().await.expect("asked");
    assert_eq!(versions, [(1, at(1000)), (2, at(2000)), (3, at(3000)), (4, at(4000))]);
    let mut found = Vec::new();
    for version in 1..=4 {
        let directory = fresh.store.load_directory_of(version).await.expect("loaded");
        let basis: Vec<WallTime> = directory.usable(CoworkerId(1)).map(|held| held.basis_at).collect();
        assert_eq!(basis, [at(1000)], "{version}: what is left of the pass is what the first import said");
        found.push(said(&directory));
    }
    let bob = async |version| {
        let directory = fresh.store.load_directory_of(version).await.expect("loaded");
        directory.coworker(CoworkerId(2)).map(|coworker| coworker.archived)
    };
    assert_eq!(found[0], expected(1, 1, "Ada"), "as it was");
    assert_eq!(found[1], expected(2, 2, "Ada"));
    assert_eq!(found[2], expected(3, 2, "Ada Lovelace"));
    assert_eq!((bob(1).await, bob(2).await, bob(3).await), (None, Some(false), Some(false)));
    assert_ne!(bob(4).await, Some(false));

    let newest = fresh.store.load_directory().await.expect("loaded");
    assert_eq!(said(&newest), found[3]);
    let history = fresh.store.load_directories().await.expect("loaded");
    assert_eq!(said(history.latest()), found[3]);
    assert_eq!(history.missing(at(2500)), [2, 3], "those that only the database has");
    assert_eq!(history.between(None, at(9000)), [at(2000), at(3000), at(4000)]);
    assert_eq!(fresh.count("directory_past").await, 2, "what is as it was is kept once");
}

async fn versions_that_nothing_late_can_ask_for_are_forgotten(fresh: Fresh) {
    let history = i64::try_from(HISTORY.as_millis()).expect("some days");
    let site = |name: &str| format!(r#"{{"Coworkers": [{{"Id": 1, "FullName": "{name}"}}]}}"#);
    for (name, now) in [("A", 1000), ("B", 2000), ("C", 3000)] {
        fresh.imports(&site(name), now).await;
    }
    // The second was in force ten days before this.
    fresh.imports(&site("D"), history + 2500).await;
    let versions = fresh.store.directory_versions().await.expect("asked");
    assert_eq!(versions.iter().map(|(version, _)| *version).collect::<Vec<_>>(), [2, 3, 4]);
    let mut names = Vec::new();
    for version in 2..=4 {
        let directory = fresh.store.load_directory_of(version).await.expect("loaded");
        names.push(said(&directory).2.expect("a name"));
    }
    assert_eq!(names, ["B", "C", "D"]);
    assert_eq!(fresh.count("directory_past").await, 2);
}

async fn settings_are_written_when_they_differ(fresh: Fresh) {
    let policy = |business, minutes| SitePolicy {
        site: Site {
            business: BusinessId(business),
            idle_limit: Duration::from_mins(minutes),
            ..crate::policy::site::test_site()
        },
        doors: Vec::new(),
    };
    let store = &fresh.store;
    assert_eq!(store.newest_policy().await.expect("asked"), 0);
    assert_eq!(store.read_policies().await.expect("asked").newest, 0);
    let put = async |business, minutes, now| {
        let history = store.policies(&policy(business, minutes), at(now)).await.expect("written");
        assert_eq!(store.read_policies().await.expect("asked"), history);
        assert_eq!(store.newest_policy().await.expect("asked"), history.newest);
        history
    };
    assert_eq!(put(1, 10, 1000).await.newest, 1);
    assert_eq!(put(1, 10, 2000).await.newest, 1, "as they were");
    assert_eq!(put(2, 20, 3000).await.newest, 2);
    assert_eq!(put(1, 30, 4000).await.newest, 3);
    let history = put(1, 10, 5000).await;
    assert_eq!(history.newest, 4, "as they were before, but not now");
    let minutes = |business, millis| {
        let policy = history.at(BusinessId(business), at(millis)).expect("is known");
        policy.site.idle_limit.as_secs() / 60
    };
    let asked = [(1, 500), (1, 3999), (1, 4000), (1, 9000), (2, 9000)];
    assert_eq!(asked.map(|(business, millis)| minutes(business, millis)), [10, 10, 30, 10, 20]);
    assert_eq!(history.latest(BusinessId(1)).map(|latest| (**latest).clone()), Some(policy(1, 10)));

    let (number, damaged) = (history.newest + 1, "INSERT INTO site_policies VALUES ($1, 1, 6000, '{}')");
    let put_damaged = Statement { columns: &[], sqlite: damaged, postgres: damaged };
    store.sql.change(put_damaged, &[Arg::Int(number)]).await.expect("written");
    let left = store.read_policies().await.expect("asked");
    assert_eq!((left.newest, left.latest(BusinessId(1))), (number, history.latest(BusinessId(1))));
}

async fn settings_of_a_clock_that_was_ahead_are_in_force_at_once(fresh: Fresh) {
    let policy = |minutes| SitePolicy {
        site: Site { idle_limit: Duration::from_mins(minutes), ..crate::policy::site::test_site() },
        doors: Vec::new(),
    };
    for (minutes, now, newest) in
        [(1, 1000, 1), (2, 90_000, 2), (2, 3000, 3), (2, 4000, 3), (3, 90_000, 4), (2, 5000, 5)]
    {
        let history = fresh.store.policies(&policy(minutes), at(now)).await.expect("written");
        assert_eq!(history.newest, newest, "{minutes} {now}");
        for known in [history.at(BusinessId(1), at(now)), history.latest(BusinessId(1))] {
            assert_eq!(known.map(|known| (**known).clone()), Some(policy(minutes)), "{now}");
        }
    }
    fresh.imports(PASSES, 90_000).await;
    fresh.imports(r#"{"Coworkers": [{"Id": 1, "FullName": "Eve"}]}"#, 5000).await;
    fresh.imports(r#"{"Coworkers": [{"Id": 1, "FullName": "Ida"}]}"#, 6000).await;
    let versions = fresh.store.directory_versions().await.expect("asked");
    assert_eq!(versions, [(1, at(5000)), (2, at(5000)), (3, at(6000))]);
    let history = fresh.store.load_directories().await.expect("loaded");
    assert_eq!((history.at(at(6000)).version, history.missing(at(5500))), (3, vec![2]));
}

async fn old_settings_are_forgotten_but_for_the_last(fresh: Fresh) {
    let history = i64::try_from(HISTORY.as_millis()).expect("some days");
    let policy = |business, minutes| SitePolicy {
        site: Site {
            business: BusinessId(business),
            idle_limit: Duration::from_mins(minutes),
            ..crate::policy::site::test_site()
        },
        doors: Vec::new(),
    };
    for (business, minutes, now) in
        [(1, 1, 1000), (2, 9, 1000), (2, 8, 1100), (1, 2, 2000), (1, 3, 3000), (1, 4, history + 2500)]
    {
        fresh.store.policies(&policy(business, minutes), at(now)).await.expect("written");
    }
    let kept = fresh.store.read_policies().await.expect("asked");
    let minutes = |business, millis| {
        kept.at(BusinessId(business), at(millis)).map_or(0, |policy| policy.site.idle_limit.as_secs() / 60)
    };
    assert_eq!([500, 2999, 3000, history + 2500].map(|millis| minutes(1, millis)), [2, 2, 3, 4]);
    assert_eq!(minutes(2, 500), 9, "another business forgets its own");
    assert_eq!(fresh.count("site_policies").await, 5);
}

async fn two_writers_do_not_both_open(fresh: Fresh) {
    let other = Store::open(&fresh.database).await.expect("a second gateway");
    let (one, two) = (opening([record(1, 1000)]), opening([record(1, 2000)]));
    let (one, two) = tokio::join!(write(&fresh.store, &one), write(&other, &two));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    assert_eq!(fresh.visits(1).await.len(), 1);
}

async fn two_writers_do_not_both_write_a_fact(fresh: Fresh) {
    let other = Store::open(&fresh.database).await.expect("a second gateway");
    for (round, quality) in [(1, TimeQuality::Device), (2, TimeQuality::Arrival)] {
        let fact = DoorFact { quality, digest: FactDigest([round; 16]), ..tap(1, i64::from(round)) };
        // What has no time of its own comes to the two at different times.
        let late =
            if quality == TimeQuality::Arrival { DoorFact { at: at(5000), ..fact.clone() } } else { fact.clone() };
        let (one, two) = (logging([&fact]), logging([&late]));
        let (one, two) = tokio::join!(write(&fresh.store, &one), write(&other, &two));
        let lost = [&one, &two].iter().filter(|written| matches!(written, Err(StoreError::Conflict))).count();
        assert!(one.is_ok() != two.is_ok() && lost == 1, "{one:?} {two:?}");
    }
    assert_eq!(fresh.count("facts").await, 2);
}

async fn two_writers_do_not_both_move_a_person(fresh: Fresh) {
    let other = Store::open(&fresh.database).await.expect("a second gateway");
    for revision in 0..3 {
        let new =
            |deadline| Writes { standings: vec![standing(1, revision, Some((1, deadline)))], ..Writes::default() };
        let (one, two) = (new(1000), new(2000));
        let (one, two) = tokio::join!(write(&fresh.store, &one), write(&other, &two));
        let lost = [&one, &two].iter().filter(|written| matches!(written, Err(StoreError::Conflict))).count();
        assert!(one.is_ok() != two.is_ok() && lost == 1, "{one:?} {two:?}");
        let deadline = fresh.standing(1).await.expect("is there").deadline;
        assert_eq!(deadline, Some((BusinessId(1), at(if one.is_ok() { 1000 } else { 2000 }))));
    }
}

async fn a_second_opening_finds_the_schema_in_place(fresh: Fresh) {
    fresh.write(&opening([record(1, 1000)])).await.expect("written");
    fresh.store.close().await;
    let again = Store::open(&fresh.database).await.expect("opens");
    again.probe().await.expect("would let us write");
    assert_eq!(again.open_checkins().await.expect("read").len(), 1);
}

async fn a_token_is_held_until_it_ends_or_its_user_goes(fresh: Fresh) {
    let (ada, pair) = (user("ada"), pair("first"));
    let rights = Rights::Roles(BTreeSet::from([Role::CheckinRead, Role::FailedCheckinList]));
    assert!(fresh.store.add_user(&ada, &password("old"), &rights, at(1)).await.expect("written"));
    assert!(!fresh.store.add_user(&ada, &password("new"), &Rights::Administrator, at(2)).await.expect("asked"));
    assert!(!fresh.store.put_tokens(&ada, &password("new"), &pair, at(3)).await.expect("asked"), "not this password");
    assert!(fresh.store.put_tokens(&ada, &password("old"), &pair, at(3)).await.expect("written"));
    let end = at(3).plus(TokenKind::Access.lifetime());
    let holder = fresh.store.token_holder(&pair.access, end.minus(Duration::from_millis(1))).await.expect("asked");
    assert_eq!(holder, Some(User { name: ada.clone(), rights, created_on: at(1), updated_on: at(1) }));
    assert_eq!(fresh.store.token_holder(&pair.access, end).await.expect("asked"), None);
    assert!(fresh.store.set_rights(&ada, &Rights::Administrator, at(4)).await.expect("written"));
    let holder = fresh.store.token_holder(&pair.access, at(4)).await.expect("asked").expect("still held");
    assert_eq!((holder.rights, holder.updated_on), (Rights::Administrator, at(4)));
    assert!(fresh.store.remove_user(&ada).await.expect("written"));
    assert_eq!(fresh.store.token_holder(&pair.access, at(5)).await.expect("asked"), None);
    assert!(!fresh.store.remove_user(&ada).await.expect("asked"));
    assert_eq!(fresh.store.users().await.expect("asked"), vec![]);
}

async fn a_refresh_token_is_taken_once(fresh: Fresh) {
    let (ada, first, next) = (user("ada"), pair("first"), ["a", "b", "c", "d"].map(pair));
    assert!(fresh.store.add_user(&ada, &password("old"), &Rights::Administrator, at(1)).await.expect("written"));
    assert!(fresh.store.put_tokens(&ada, &password("old"), &first, at(1)).await.expect("written"));
    let take = |next| fresh.store.rotate_tokens(&first.refresh, next, at(2));
    let (a, b, c, d) = tokio::join!(take(&next[0]), take(&next[1]), take(&next[2]), take(&next[3]));
    let taken = [a, b, c, d].map(|taken| taken.expect("asked"));
    assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), [&ada], "once");
    assert_eq!(
        fresh.store.rotate_tokens(&first.access, &pair("e"), at(2)).await.expect("asked"),
        None,
        "not a refresh"
    );
}

async fn a_new_password_leaves_no_token_of_the_old_one(fresh: Fresh) {
    let ada = user("ada");
    assert!(fresh.store.add_user(&ada, &password("old"), &Rights::Administrator, at(1)).await.expect("written"));
    let before = pair("before");
    assert!(fresh.store.put_tokens(&ada, &password("old"), &before, at(1)).await.expect("written"));
    for round in 0..8 {
        let (old, new) = (password(&format!("{round}")), password(&format!("{}", round + 1)));
        assert!(fresh.store.set_password(&ada, &old, at(2)).await.expect("written"));
        let racing = pair(&format!("racing {round}"));
        let (put, set) = tokio::join!(
            fresh.store.put_tokens(&ada, &old, &racing, at(2)),
            fresh.store.set_password(&ada, &new, at(2)),
        );
        put.expect("before the new password, or refused");
        assert!(set.expect("written"));
        assert_eq!(fresh.store.token_holder(&racing.access, at(2)).await.expect("asked"), None, "round {round}");
    }
    assert_eq!(fresh.store.token_holder(&before.access, at(2)).await.expect("asked"), None);
}

/// Ada (1) and Bob (2) share a team's passes; Ada holds 51 and Bob 52, both with limits.
const PASSES: &str = r#"{
    "Tariffs": [{"Id": 5, "Name": "Part time", "CheckinMonthLimit": 8}],
    "Teams": [{"Id": 8, "Name": "Rocket", "TeamMembers": [1, 2], "ShareTimePasses": true}],
    "TimePasses": [{"Id": 3, "Name": "10 hours", "MinutesIncluded": 600}],
    "Coworkers": [{"Id": 1, "FullName": "Ada", "TariffId": 5}, {"Id": 2, "FullName": "Bob", "TariffId": 5}],
    "CoworkerTimePasses": [
        {"Id": 51, "UniqueId": "00000000-0000-8000-8000-000000000051", "CoworkerId": 1, "TimePassId": 3},
        {"Id": 52, "UniqueId": "00000000-0000-8000-8000-000000000052", "CoworkerId": 2, "TimePassId": 3}
    ]
}"#;

async fn charges_are_replaced_and_taken_back(fresh: Fresh) {
    let (open, over) = (record(1, 30_000), with(&record(1, 34_000), |visit| visit.to = Some(at(35_000))));
    let writes = Writes { charges: vec![charge(&open, 100), charge(&over, 200)], ..Writes::default() };
    fresh.write(&writes).await.expect("written");
    assert_eq!(fresh.charges(1).await, writes.charges);
    let closed = with(&open, |visit| (visit.from, visit.to) = (at(29_000), Some(at(33_000))));
    let replaced = charge(&closed, 700);
    fresh.write(&Writes { charges: vec![replaced.clone()], ..Writes::default() }).await.expect("written");
    assert_eq!(fresh.charges(1).await, [replaced.clone(), charge(&over, 200)]);
    let row = fresh.one("SELECT amount, minutes, currency, final FROM payg_charges ORDER BY from_time LIMIT 1").await;
    assert_eq!((row.int("amount").expect("a number"), row.text("currency").expect("text")), (700, "EUR".to_owned()));
    assert!(row.bool("final").expect("a truth"));
    // Taken back and charged again in one batch: what is charged stays.
    let writes = Writes {
        gone_charges: vec![over.visit.unique_id, uuid(), open.visit.unique_id],
        charges: vec![replaced.clone()],
        ..Writes::default()
    };
    fresh.write(&writes).await.expect("written");
    assert_eq!(fresh.charges(1).await, [replaced]);
}

async fn what_is_left_of_a_pass_counts_from_the_import_that_said_it(fresh: Fresh) {
    let pass = |name: &str, left: u32| {
        format!(
            r#"{{"TimePasses": [{{"Id": 3, "Name": "10 hours", "MinutesIncluded": 600}}],
                "Coworkers": [{{"Id": 1, "FullName": "Ada"}}],
                "CoworkerTimePasses": [{{"Id": 51, "CoworkerId": 1, "TimePassId": 3, "RemainingUses": {left},
                                         "TimePassName": "{name}"}}]}}"#
        )
    };
    for (said, now, since) in
        [(pass("10 hours", 600), 1, 1), (pass("Ten hours", 600), 2, 1), (pass("Ten hours", 540), 3, 3)]
    {
        let directory = fresh.imports(&said, now).await;
        let basis: Vec<WallTime> = directory.usable(CoworkerId(1)).map(|held| held.basis_at).collect();
        assert_eq!(basis, [at(since)], "{said}");
    }
    let other = pass("Ten hours", 540)
        .replace("\"CoworkerId\": 1", "\"CoworkerId\": 2")
        .replace("\"Id\": 1, \"Full", "\"Id\": 2, \"Full");
    let directory = fresh.imports(&other, 4).await;
    let basis: Vec<WallTime> = directory.usable(CoworkerId(2)).map(|held| held.basis_at).collect();
    assert_eq!(basis, [at(4)], "whoever holds it now begins with what is said now");
}

async fn two_gateways_that_spend_one_pass_wait_for_each_other(fresh: Fresh) {
    let directory = fresh.imports(PASSES, 0).await;
    let policy = PassPolicy::default();
    let mut first = fresh.store.batch().await.expect("begins");
    first.lock_passes(&[&directory], &policy, [CoworkerId(1)]).await.expect("locked");
    let second = async {
        let mut second = fresh.store.batch().await.expect("begins");
        // Bob may use Ada's pass, because they share a team.
        second.lock_passes(&[&directory], &policy, [CoworkerId(2)]).await.expect("locked");
        second.commit().await.expect("committed");
    };
    tokio::pin!(second);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut second).await;
    assert!(early.is_err(), "the second did not wait");
    first.commit().await.expect("committed");
    second.await;
}

/// A named statement would belong to whoever gets the connection next, and so would what is set for a session.
#[tokio::test]
async fn nothing_of_a_gateway_stays_on_a_connection() {
    const STAYS: Statement = statement!(
        "SELECT (SELECT count(*) FROM pg_prepared_statements) AS prepared,
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS locks,
           current_setting('idle_in_transaction_session_timeout') AS patience"
    );
    let fresh = Fresh::pooled().await;
    fresh.write(&opening([record(1, 1000)])).await.expect("written");
    fresh.imports(PASSES, 0).await;
    assert!(fresh.store.take_lease(BusinessId(1), "a", uuid()).await.expect("taken"));
    let rows = fresh.store.sql.read(STAYS, &[]).await.expect("asked");
    let number = |column| rows[0].int(column).expect("a number");
    assert_eq!((number("prepared"), number("locks")), (0, 0));
    assert_eq!(rows[0].text("patience").expect("a text"), "8s", "for the transaction");
    let Database::Postgres { url, .. } = &fresh.database else { panic!("it is pooled") };
    let options = url.parse::<sqlx::postgres::PgConnectOptions>().expect("a URL").extra_float_digits(None);
    let mut plain = sqlx::PgConnection::connect_with(&options).await.expect("the pooler answers");
    let outside = plain.fetch_one("SHOW idle_in_transaction_session_timeout").await.expect("asked");
    assert_eq!(outside.get::<String, _>(0), "0", "not for the session");
}

#[tokio::test]
async fn a_login_without_a_right_is_told_where_it_is_written() {
    let (owner, _folder) = Fresh::empty_postgres().await;
    let (login, mut admin) = Fresh::gateway_of(&owner).await;
    let url = owner.replacen(owner.rsplit_once('@').expect("a login").0, &format!("postgres://{login}:{PASSWORD}"), 1);
    let database = Database::Postgres { url, password: None };
    for right in ["INSERT ON checkins", "UPDATE ON standings", "SELECT ON _sqlx_migrations"] {
        admin.execute(sqlx::AssertSqlSafe(format!("REVOKE {right} FROM {login}"))).await.expect("revoked");
        let refused = async {
            let store = Store::open(&database).await?;
            let writes = Writes { standings: vec![standing(1, 0, Some((1, 9000)))], ..opening([record(1, 1000)]) };
            write(&store, &writes).await
        };
        let said = refused.await.expect_err(right);
        let StoreError::Unusable { what, source: Some(source) } = said else { panic!("{right}: {said:?}") };
        assert!(what.contains("the README lists under \"PostgreSQL\""), "{what}");
        let table = right.split(' ').next_back().expect("a table");
        assert!(source.to_string().contains(table), "{source} does not name {table}");
        admin.execute(sqlx::AssertSqlSafe(format!("GRANT {right} TO {login}"))).await.expect("granted");
    }
    Store::open(&database).await.expect("with all rights again").close().await;
}

#[tokio::test]
async fn only_the_owner_changes_the_schema() {
    let (owner, _folder) = Fresh::empty_postgres().await;
    let login = format!("gateway_{}", uuid().simple());
    let mut admin = sqlx::PgConnection::connect(&owner).await.expect("the server answers");
    let create = format!("CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 2");
    admin.execute(sqlx::AssertSqlSafe(create)).await.expect("a role");
    let url = owner.replacen(owner.rsplit_once('@').expect("a login").0, &format!("postgres://{login}:{PASSWORD}"), 1);
    let said = Store::open(&Database::Postgres { url, password: None }).await.expect_err("an empty database");
    let newest = sqlx::migrate!("src/store/migrations/postgres").iter().map(|migration| migration.version).max();
    let expected = format!(
        "the database cannot be used: its schema must become version {}, and this login may not change it; run `checkind who` \
         once with the login that owns the tables, then grant this one its rights (README, \"PostgreSQL\")",
        newest.expect("a version")
    );
    assert_eq!(said.to_string(), expected);
}

#[tokio::test]
async fn gateways_that_start_at_once_make_the_tables_once() {
    let (url, _folder) = Fresh::empty_postgres().await;
    let database = Database::Postgres { url, password: None };
    let opened = futures_util::future::join_all((0..8).map(|_| Store::open(&database))).await;
    for store in opened {
        let store = store.expect("opens");
        assert_eq!(store.directory_version().await.expect("asked"), 0);
    }
}

/// Whoever decides has a connection at once, however many others ask; and there are never more than two.
#[tokio::test]
async fn two_connections_are_enough_and_one_is_for_who_decides() {
    let fresh = Fresh::pooled().await;
    let deciding = fresh.store.deciding().await.expect("reserved");
    let ask = async |_| {
        for _ in 0..5 {
            fresh.store.open_checkins().await.expect("read");
            fresh.store.probe().await.expect("answers");
        }
    };
    let others = futures_util::future::join_all((0..50).map(ask));
    let decided = async {
        for coworker in 1..20 {
            let writes = opening([record(coworker, 1000)]);
            let put = tokio::time::timeout(Duration::from_secs(5), write(&deciding, &writes));
            put.await.expect("at once").expect("written");
        }
    };
    tokio::join!(others, decided);
    let held = fresh.store.batch().await.expect("begins");
    write(&deciding, &opening([record(20, 1000)])).await.expect("also while the other is in use");
    drop(held);
    assert_eq!(fresh.store.open_checkins().await.expect("read").len(), 20);
}

/// A question that was given up halfway does not answer the next one, and a transaction that was left changes nothing.
#[tokio::test]
async fn what_was_left_halfway_is_over_before_its_connection_is_used_again() {
    const SLOW: Statement = statement!("SELECT CAST(pg_sleep(0.2) AS text) AS slept");
    let fresh = Fresh::pooled().await;
    for _ in 0..5 {
        let slow = fresh.store.sql.read(SLOW, &[]);
        tokio::time::timeout(Duration::from_millis(20), slow).await.expect_err("it takes longer");
        let mut left = fresh.batch().await;
        left.write(&opening([record(1, 1000)]), &|_, _| calendar(), NOW).await.expect("written");
        drop(left);
        assert_eq!(fresh.store.open_checkins().await.expect("read"), []);
    }
}

#[tokio::test]
async fn a_sqlite_file_in_a_folder_that_does_not_exist_says_what_to_do() {
    let error = Store::open(&Database::Sqlite { path: "/nonexistent/checkind.db".into() }).await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the database cannot be used: /nonexistent/checkind.db cannot be opened; its folder must exist and be writable by this user"
    );
}

/// What the version before the log of facts wrote.
const OLD_ROWS: &str = r#"
    INSERT INTO directory (kind, id, document, updated_on)
        VALUES ('coworker', 1, '{"Id": 1, "FullName": "Ada"}', '2026-01-01T00:00:00.000Z');
    UPDATE directory_version SET version = 3;
    INSERT INTO heard (id, business_id, from_time, to_time) VALUES
        ('00000000-0000-8000-8000-000000000001', 1, '1970-01-01T00:00:01.000Z', '1970-01-01T00:00:02.000Z');
    INSERT INTO checkins (unique_id, coworker_id, business_id, source, from_time, last_activity, from_time_local,
            created_on, updated_on, updated_by)
        VALUES ('00000000-0000-8000-8000-000000000002', 1, 1, 6, '1970-01-01T00:00:01.000Z', '1970-01-01T00:00:02.000Z',
            '1970-01-01T01:00:01', '1970-01-01T00:00:01.000Z', '1970-01-01T00:00:01.000Z', 'checkind')"#;

/// The migrations up to the log of facts.
fn before_facts(mut all: sqlx::migrate::Migrator) -> sqlx::migrate::Migrator {
    let old = all.migrations.iter().filter(|migration| migration.version < 6).cloned().collect::<Vec<_>>();
    all.migrations = old.into();
    all.set_locking(false);
    all
}

async fn is_brought_up_to_date(fresh: Fresh) {
    let open = fresh.store.open_checkins().await.expect("read");
    assert_eq!(
        open.iter().map(|row| (row.coworker, row.last_activity)).collect::<Vec<_>>(),
        [(Some(CoworkerId(1)), Some(at(2000)))]
    );
    assert_eq!(fresh.visits(1).await.len(), 1);
    let coverage = fresh.store.coverage(BusinessId(1), false, at(0)).await.expect("asked");
    assert_eq!(coverage, BTreeMap::from([(BusinessId(1), vec![CoverageRow { from: at(1000), to: at(2000) }])]));
    assert_eq!(fresh.store.directory_versions().await.expect("asked"), [(3, at(0))]);
    fresh.imports(r#"{"Coworkers": [{"Id": 1, "FullName": "Bob"}]}"#, 5000).await;
    for (version, name) in [(3, "Ada"), (4, "Bob")] {
        let directory = fresh.store.load_directory_of(version).await.expect("loaded");
        assert_eq!(said(&directory).2.as_deref(), Some(name));
    }
}

#[tokio::test]
async fn a_sqlite_file_of_the_version_before_is_brought_up_to_date() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("checkind.db");
    let url = format!("sqlite:{}?mode=rwc", path.display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("a file");
    let old = before_facts(sqlx::migrate!("src/store/migrations/sqlite"));
    old.run(&mut connection).await.expect("the schema of then");
    connection.execute(OLD_ROWS).await.expect("written");
    connection.close().await.expect("closed");
    is_brought_up_to_date(Fresh::open(Database::Sqlite { path }, folder).await).await;
}

#[tokio::test]
async fn a_postgres_database_of_the_version_before_is_brought_up_to_date() {
    let (url, folder) = Fresh::empty_postgres().await;
    let mut connection = sqlx::PgConnection::connect(&url).await.expect("the server answers");
    let old = before_facts(sqlx::migrate!("src/store/migrations/postgres"));
    old.run(&mut connection).await.expect("the schema of then");
    connection.execute(OLD_ROWS).await.expect("written");
    connection.close().await.expect("closed");
    is_brought_up_to_date(Fresh::open(Database::Postgres { url, password: None }, folder).await).await;
}

/// A backup holds all that was committed, the log and where people stand included.
#[tokio::test]
async fn a_backup_is_a_database_of_its_own() {
    let fresh = Fresh::sqlite().await;
    let writes = Writes { standings: vec![standing(1, 0, Some((1, 9000)))], ..logging([&tap(1, 1000)]) };
    fresh.write(&Writes { new_visits: vec![record(1, 1000)], ..writes }).await.expect("written");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("copy.db");
    assert!(Store::backup(&fresh.database, &path).await.expect("copied") > 0);
    Store::backup(&fresh.database, &path).await.expect_err("it overwrites nothing");
    let copy = Fresh::open(Database::Sqlite { path }, folder).await;
    assert_eq!(copy.known(&[&tap(1, 1000)]).await, [0]);
    assert_eq!(copy.visits(1).await, fresh.visits(1).await);
    assert_eq!(copy.standing(1).await.expect("is there").deadline, Some((BusinessId(1), at(9000))));
}

/// What every batch asks, and what it writes over, must find its rows by an index, however many there are; and so must
/// what a restart, a timer and retention ask.
#[tokio::test]
async fn no_question_walks_a_table() {
    let fresh = Fresh::sqlite().await;
    let asked = super::batch::questions().into_iter().chain(super::retention::questions());
    for (question, arguments) in asked {
        for step in fresh.plan(question, arguments).await.lines() {
            // The rows of the batch itself, what was found by an index, and a table of one row.
            let small = ["SCAN r", "SCAN json", "SCAN (subquery", "SCAN directory_version"]
                .iter()
                .any(|few| step.starts_with(few));
            assert!(small || !step.starts_with("SCAN"), "{step}: {}", question.sqlite);
        }
    }
}

/// The indexes that the questions are made for.
#[tokio::test]
async fn what_is_asked_is_found_by_its_index() {
    let fresh = Fresh::sqlite().await;
    for (question, arguments, how) in super::batch::indexed() {
        let plan = fresh.plan(question, arguments).await.replace("USING COVERING INDEX", "USING INDEX");
        for step in how {
            assert!(plan.contains(step), "{step}:\n{plan}\n{}", question.sqlite);
        }
    }
}

const DAY: i64 = 86_400_000;

/// When the tests write.
const NOW: WallTime = WallTime::from_millis(1_700_000_000_000);

fn at(millis: i64) -> WallTime {
    WallTime::from_millis(millis)
}

fn uuid() -> Uuid {
    crate::base::random::uuid()
}

fn mac(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, last])
}

fn calendar() -> Calendar {
    Calendar { zone: test_zone("Europe/London"), cut_off: NaiveTime::MIN }
}

/// Days after the first of a month.
fn date(days: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 3, 1 + days).expect("a date")
}

fn counted(days: u32) -> Counted {
    Counted { days, seconds: u64::from(days) * 3600 }
}

fn opened(name: &str) -> Opened {
    Opened {
        then: Snapshot { full_name: Some(name.to_owned()), teams: None, tariff: Some("Full time".to_owned()) },
        business_name: Some("Hub One".to_owned()),
    }
}

/// An open visit by door.
fn record(coworker: i64, from: i64) -> VisitRecord {
    let visit = Visit {
        unique_id: uuid(),
        business: BusinessId(1),
        source: CheckinSource::DoorAccess,
        from: at(from),
        admitted_at: at(from),
        to: None,
        day: calendar().pass_day(at(from)),
        auto_checkout: false,
        pass_ended: false,
        last_activity: at(from),
        macs: BTreeSet::new(),
        door_in_at: None,
        strong_at: None,
        lingered_at: None,
        pass: None,
        first_of_day: true,
        since: at(from),
        before: 0,
    };
    let opened = Some(opened(&format!("Coworker {coworker}")));
    VisitRecord { coworker: CoworkerId(coworker), visit, opened }
}

fn with(record: &VisitRecord, change: impl FnOnce(&mut Visit)) -> VisitRecord {
    let mut changed = record.clone();
    change(&mut changed.visit);
    changed
}

fn opening(records: impl IntoIterator<Item = VisitRecord>) -> Writes {
    Writes { new_visits: records.into_iter().collect(), ..Writes::default() }
}

fn changed(record: &VisitRecord, stays: bool) -> ChangedVisit {
    ChangedVisit { known_as: record.visit.unique_id, record: record.clone(), stays }
}

/// As it is read again.
fn known(record: &VisitRecord) -> KnownVisit {
    let visit = &record.visit;
    KnownVisit {
        unique_id: visit.unique_id,
        coworker: record.coworker,
        business: visit.business,
        source: visit.source,
        from: visit.from,
        to: visit.to,
        auto_checkout: visit.auto_checkout,
        last_activity: visit.last_activity,
        macs: visit.macs.clone(),
        pass: visit.pass.clone(),
        opened: record.opened.clone().unwrap_or_default(),
    }
}

fn sorted(visits: impl IntoIterator<Item = KnownVisit>) -> Vec<KnownVisit> {
    let mut visits: Vec<KnownVisit> = visits.into_iter().collect();
    visits.sort_by_key(|visit| visit.from);
    visits
}

fn failure(millis: i64) -> FailureRecord {
    FailureRecord {
        unique_id: uuid(),
        coworker: None,
        then: Opened::default(),
        business: BusinessId(1),
        attempt_at: at(millis),
        source: CheckinSource::NetworkActivity,
        mac: Some(mac(9)),
        refused: Refused { reason: Reason::UnrecognisedDevice, detail: None },
    }
}

fn charge(record: &VisitRecord, amount: i64) -> ChargeRecord {
    let visit = &record.visit;
    ChargeRecord {
        checkin: visit.unique_id,
        coworker: record.coworker,
        business: visit.business,
        time_pass: TimePassId(3),
        pass_day: visit.day.start,
        from: visit.from,
        to: visit.to,
        charge: payg::Charge {
            minutes: 15,
            unbounded: amount + 1,
            amount,
            currency: "EUR".parse().expect("a currency"),
        },
    }
}

/// A grant at the front door, by the controller's own time.
fn tap(subject: i64, millis: i64) -> DoorFact {
    let mut digest = [0; 16];
    digest[..8].copy_from_slice(&subject.to_be_bytes());
    digest[8..].copy_from_slice(&millis.to_be_bytes());
    DoorFact {
        business: BusinessId(1),
        at: at(millis),
        quality: TimeQuality::Device,
        arrived: at(millis + 300),
        subject: Subject(subject),
        recognised: Recognised::Coworker,
        digest: FactDigest(digest),
        source: "front".into(),
        kind: DoorEventKind::Granted,
        door: DoorKey("405419896:1".to_owned()),
        direction: Direction::In,
        shown: Some(ShownCredential { kind: CredentialKind::Card, scope: None, value: Some("8165538".to_owned()) }),
        refusal: None,
        too_late: false,
        ordinal: 0,
    }
}

fn stored(fact: &DoorFact) -> StoredFact {
    Fact::Door(fact.clone()).stored()
}

fn opened_code() -> DecisionCode {
    DecisionCode::of(Outcome::Opened, None)
}

fn decided(fact: &DoorFact) -> DecidedFact {
    DecidedFact { fact: stored(fact), decision: opened_code() }
}

fn logging<'a>(facts: impl IntoIterator<Item = &'a DoorFact>) -> Writes {
    Writes { facts: facts.into_iter().map(decided).collect(), ..Writes::default() }
}

fn point(millis: i64) -> Point {
    Point {
        last_at: at(millis),
        first_at: at(millis - 100),
        strong_at: Some(at(millis - 50)),
        since: at(millis - 900),
        frames: 2,
    }
}

fn pending(subject: i64, device: u8, points: &[i64]) -> PendingPresence {
    PendingPresence {
        business: BusinessId(1),
        subject: Subject(subject),
        mac: mac(device),
        interface: "eth1".to_owned(),
        points: points.iter().copied().map(point).collect(),
    }
}

/// Somebody of whom everything up to an instant is known.
fn person(millis: i64) -> PersonState {
    PersonState { folded: crate::base::fact::FactOrder::before(at(millis)), ..PersonState::default() }
}

fn standing(subject: i64, revision: i64, deadline: Option<(i64, i64)>) -> NewStanding {
    NewStanding {
        subject: Subject(subject),
        revision,
        person: person(1000),
        deadline: deadline.map(|(business, millis)| (BusinessId(business), at(millis))),
        same_deadline: false,
    }
}

async fn write(store: &Store, writes: &Writes) -> Result<(), StoreError> {
    let mut batch = store.batch().await?;
    batch.write(writes, &|_, _| calendar(), NOW).await?;
    batch.commit().await
}

fn user(name: &str) -> UserName {
    name.parse().expect("a user name")
}

/// The store compares kept passwords and never hashes, so that any text serves.
fn password(text: &str) -> StoredPassword {
    StoredPassword::from_phc(text.to_owned())
}

fn pair(seed: &str) -> TokenPair {
    TokenPair {
        access: TokenDigest::of(&format!("access {seed}")),
        refresh: TokenDigest::of(&format!("refresh {seed}")),
    }
}

/// An empty database of a test's own.
pub(crate) struct Fresh {
    pub(crate) store: Store,
    database: Database,
    _folder: tempfile::TempDir,
    _pooler: Option<Pooler>,
}

impl Store {
    /// Of all passes that are in force: when it was said what is left of them.
    pub(crate) async fn say_passes_were_told(&self, at: WallTime) {
        const TOLD: Statement = statement!("UPDATE directory SET basis_at = $1 WHERE kind = 'coworker_time_pass'");
        self.sql.change(TOLD, &[Arg::Time(at)]).await.expect("written");
    }
}

impl Fresh {
    /// The owner has made the tables; the login of a gateway may open two connections, and so may the pooler.
    pub(crate) async fn pooled() -> Self {
        let (owner, folder) = Self::empty_postgres().await;
        let (login, _) = Self::gateway_of(&owner).await;
        let (server, name) = owner.rsplit_once('/').expect("a URL with a database");
        let server = server.rsplit_once('@').expect("a URL with a login").1;
        let pooler = Pooler::start(server, &[&login], PASSWORD);
        let url = format!("postgres://{login}:{PASSWORD}@{}/{name}", pooler.address());
        let fresh = Self::open(Database::Postgres { url, password: None }, folder).await;
        Self { _pooler: Some(pooler), ..fresh }
    }

    /// Makes the tables as their owner, and a login for gateways; it, and a connection of the owner's.
    async fn gateway_of(owner: &str) -> (String, sqlx::PgConnection) {
        let made = Store::open(&Database::Postgres { url: owner.to_owned(), password: None }).await.expect("opens");
        made.close().await;
        let login = format!("gateway_{}", uuid().simple());
        let mut admin = sqlx::PgConnection::connect(owner).await.expect("the server answers");
        let create = format!("CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 2");
        for statement in std::iter::once(create).chain(grants(&login)) {
            admin.execute(sqlx::AssertSqlSafe(statement)).await.expect("a statement of the README");
        }
        (login, admin)
    }

    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::open(Database::Sqlite { path: folder.path().join("checkind.db") }, folder).await
    }

    /// A file that no disk has to write, where there is such a place.
    pub(crate) async fn in_memory() -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a temporary folder");
        Self::open(Database::Sqlite { path: folder.path().join("checkind.db") }, folder).await
    }

    pub(crate) async fn postgres() -> Self {
        let (url, folder) = Self::empty_postgres().await;
        Self::open(Database::Postgres { url, password: None }, folder).await
    }

    /// A new database on the server that `tests/run` started and named in `CHECKIND_TEST_POSTGRES`.
    #[expect(clippy::disallowed_methods, reason = "tests/run tells the tests where its server is")]
    async fn empty_postgres() -> (String, tempfile::TempDir) {
        let server = std::env::var("CHECKIND_TEST_POSTGRES")
            .expect("CHECKIND_TEST_POSTGRES names no PostgreSQL server; start the tests with tests/run");
        let name = format!("contract_{}", uuid().simple());
        let mut admin = sqlx::PgConnection::connect(&format!("{server}/postgres")).await.expect("the server answers");
        admin.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a new database");
        // No test pulls the server's plug: its commits need not wait for the disk.
        let fast = format!("ALTER DATABASE {name} SET synchronous_commit = off");
        admin.execute(sqlx::AssertSqlSafe(fast)).await.expect("a setting");
        (format!("{server}/{name}"), tempfile::tempdir().expect("a temporary folder"))
    }

    async fn open(database: Database, folder: tempfile::TempDir) -> Self {
        let store = Store::open(&database).await.expect("opens");
        Self { store, database, _folder: folder, _pooler: None }
    }

    async fn batch(&self) -> Batch {
        self.store.batch().await.expect("begins")
    }

    async fn write(&self, writes: &Writes) -> Result<(), StoreError> {
        write(&self.store, writes).await
    }

    async fn write_at(&self, writes: &Writes, now: WallTime) -> Result<(), StoreError> {
        let mut batch = self.batch().await;
        batch.write(writes, &|_, _| calendar(), now).await?;
        batch.commit().await
    }

    /// The visits of somebody, earliest first.
    async fn visits(&self, coworker: i64) -> Vec<KnownVisit> {
        sorted(self.records(&[coworker]).await.visits.into_values())
    }

    async fn records(&self, coworkers: &[i64]) -> KnownRecords {
        let who = coworkers.iter().map(|coworker| (CoworkerId(*coworker), (at(0), at(0)))).collect();
        self.batch().await.records(&who).await.expect("asked")
    }

    /// Which of these facts the log has.
    async fn known(&self, facts: &[&DoorFact]) -> Vec<usize> {
        let facts: Vec<FactKey> = facts.iter().map(|fact| fact.key()).collect();
        let loaded = self.batch().await.load(&BTreeSet::new(), &facts).await.expect("asked");
        loaded.known.into_iter().collect()
    }

    /// Where somebody stands, asked inside a transaction and outside.
    async fn standing(&self, subject: i64) -> Option<super::PersonStanding> {
        let who = BTreeSet::from([Subject(subject)]);
        let mut inside = self.batch().await.load(&who, &[]).await.expect("asked").standings;
        let (outside, _) = self.store.standings(&who, &BTreeSet::new()).await.expect("asked");
        let found = inside.remove(&Subject(subject));
        let told = |standing: &super::PersonStanding| (standing.revision, standing.deadline, standing.person.clone());
        assert_eq!(outside.standings.get(&Subject(subject)).map(told), found.as_ref().map(told));
        found
    }

    /// The charges of somebody, earliest first.
    async fn charges(&self, coworker: i64) -> Vec<ChargeRecord> {
        const CHARGES: Statement = statement!("SELECT * FROM payg_charges WHERE coworker_id = $1 ORDER BY from_time");
        let rows = self.store.sql.read(CHARGES, &[Arg::Int(coworker)]).await.expect("asked");
        let charge = |row: &Row| {
            Ok(ChargeRecord {
                checkin: row.uuid("checkin")?,
                coworker: CoworkerId(coworker),
                business: BusinessId(row.int("business_id")?),
                time_pass: TimePassId(row.int("time_pass_id")?),
                pass_day: row.time("pass_day")?,
                from: row.time("from_time")?,
                to: row.opt_time("to_time")?,
                charge: payg::Charge {
                    minutes: u32::try_from(row.int("minutes")?).expect("some minutes"),
                    unbounded: row.int("unbounded")?,
                    amount: row.int("amount")?,
                    currency: row.text("currency")?.parse().expect("a currency"),
                },
            })
        };
        rows.iter().map(charge).collect::<Result<_, StoreError>>().expect("read")
    }

    /// The row of a visit as the API reads it.
    async fn checkin_of(&self, unique_id: Uuid) -> Option<Checkin> {
        crate::store::rows::row! {
            struct IdRow {
                id: Uuid,
            }
        }
        const ID: Statement = statement!(rows(IdRow) "SELECT c.id FROM r JOIN checkins c ON c.unique_id = r.id");
        let row = IdRow { id: unique_id };
        let rows = self.store.sql.read(ID, &[Arg::rows(&[row])]).await.expect("asked");
        let id = CheckinId(rows.first()?.int("id").expect("a number"));
        self.store.checkin(id).await.expect("read")
    }

    /// How SQLite goes about a question, a step a line.
    async fn plan(&self, question: Statement, arguments: usize) -> String {
        let Database::Sqlite { path } = &self.database else { unreachable!("a SQLite test") };
        let mut connection =
            sqlx::SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.expect("opens");
        let mut plans = Vec::new();
        for text in question.texts() {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")));
            for _ in 0..arguments.saturating_sub(usize::from(!question.columns.is_empty())) {
                query = query.bind("[]");
            }
            let steps = query.fetch_all(&mut connection).await.expect("explains");
            let detail =
                |step| sqlx::Row::get::<String, _>(step, "detail").trim_end_matches(char::is_numeric).to_owned() + "\n";
            let details = steps.iter().map(detail);
            // The rows of the batch themselves.
            plans.push(details.filter(|step| !step.contains("CONSTANT ROW")).collect::<String>());
        }
        for plan in &plans {
            assert_eq!(Some(plan), plans.first(), "for many rows as for one: {}", question.sqlite);
        }
        plans.swap_remove(0)
    }

    /// Imports a site as if at this time.
    pub(crate) async fn imports(&self, site: &str, now: i64) -> Directory {
        let key = self.store.pin_key().await.expect("drawn");
        let documents = import::read_json(site, &key).expect("reads").documents;
        let version = self.store.directory_version().await.expect("asked");
        self.store.import(&documents, version, at(now), |_| {}).await.expect("imported");
        self.store.load_directory().await.expect("loaded")
    }

    async fn one(&self, sql: &'static str) -> Row {
        let statement = Statement { columns: &[], sqlite: sql, postgres: sql };
        self.store.sql.read(statement, &[]).await.expect("read").pop().expect("a row")
    }

    /// How many rows a table has.
    async fn count(&self, table: &'static str) -> i64 {
        let sql: &'static str = format!("SELECT count(*) AS n FROM {table}").leak();
        self.one(sql).await.int("n").expect("a number")
    }
}
