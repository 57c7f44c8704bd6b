//! Failed check-ins and charges, operations across several kinds of records, and whole batches.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::{
    base::{
        fact::{DoorFact, LogDay, ShownCredential, Subject},
        record::{BusinessId, CheckinSource, CoworkerId, FailedCheckinId},
        sighting::{CredentialKind, DoorKey},
    },
    engine::{
        decision::Reason,
        fold::{ChargeRecord, FailureRecord, VisitRecord},
        passes::{Refused, payg},
    },
    store::{
        CoverageRow, Expired, StoredRecords, StoredVisit, UnloggedPresence, Writes,
        tests::{
            examples::{
                DAY, NOW, at, calendar, changed, charge, counted, date, decided, failure, known, logging, mac, opened,
                opening, pending, person, record, sorted, standing, tap, uuid, with,
            },
            fresh::{Fresh, contract},
        },
    },
};

contract!(
    the_records_of_each_person_are_read_from_their_instants_on,
    what_is_not_committed_never_happened,
    a_stretch_of_time_holds_what_began_in_it,
    a_nul_character_stops_nothing,
    a_refresh_uses_up_no_number,
    a_repeated_failure_is_written_once,
    a_failure_is_changed_in_its_place,
    failed_devices_are_found_again,
    charges_are_replaced_and_taken_back,
    coverage_grows_and_is_read_by_business,
);

async fn the_records_of_each_person_are_read_from_their_instants_on(fresh: Fresh) {
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
    let StoredRecords { visits, failures: failed, charges } = batch.records(&asked).await.expect("answered");
    let expected: Vec<StoredVisit> = day[2..5].iter().map(known).collect();
    let whose = |ids: &[Uuid]| ids.iter().map(|id| (*id, CoworkerId(1))).collect::<BTreeMap<_, _>>();
    let ids: Vec<Uuid> = expected.iter().map(|visit| visit.unique_id).collect();
    assert_eq!(sorted(visits.into_values()), expected, "at any business, but not of other people");
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
        people: vec![standing(1, 0, Some((1, 9000)))],
        checkpoints: vec![(Subject(1), LogDay(0), person(1000))],
        unlogged: vec![pending(1, 1, &[1000])],
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
    assert_eq!(began.iter().map(|visit| visit.from_time).collect::<Vec<_>>(), [at(1000), at(1999)]);
    let failed = fresh.store.failed_checkins_between(here, from, to).await.expect("read");
    assert_eq!(failed.iter().map(|failed| failed.checkin_attempt_time).collect::<Vec<_>>(), [at(1000)]);
    let logged = fresh.store.facts_between(here, from, to).await.expect("read");
    assert_eq!(logged.len(), 1);
    assert_eq!((&logged[0].door, logged[0].event_at), (&Some(DoorKey("405419896:1".to_owned())), at(1000)));
    assert_eq!((logged[0].credential.as_deref(), logged[0].coworker), (Some("8165538"), Some(CoworkerId(7))));
    assert_eq!(fresh.store.checkins_between(BusinessId(2), from, to).await.expect("read"), []);
    assert_eq!(fresh.store.failed_checkins_between(BusinessId(2), from, to).await.expect("read"), []);
    assert_eq!(fresh.store.facts_between(BusinessId(2), from, to).await.expect("read"), []);
}

async fn a_nul_character_stops_nothing(fresh: Fresh) {
    let shown = ShownCredential { kind: CredentialKind::Card, scope: None, value: Some("12\u{0}34".to_owned()) };
    let fact = DoorFact { shown: Some(shown), ..tap(1, 1000) };
    let visit = VisitRecord { opened: Some(opened("A\u{0}da")), ..record(1, 1000) };
    let seen = UnloggedPresence { interface: "e\u{0}1".to_owned(), ..pending(1, 1, &[1000]) };
    let detail = Refused { reason: Reason::NoValidPass, detail: Some("a\u{0}b".into()) };
    let failed = FailureRecord { refused: detail, ..failure(1000) };
    let writes = Writes { unlogged: vec![seen], failures: vec![failed], ..logging([&fact]) };
    let writes = Writes { new_visits: vec![visit], ..writes };
    fresh.write(&writes).await.expect("written");
    let row =
        fresh.one("SELECT coworker_full_name, (SELECT interface FROM presences) AS interface FROM checkins").await;
    let text = |column| row.text(column).expect("text");
    assert_eq!((text("coworker_full_name"), text("interface")), ("A\u{fffd}da".to_owned(), "e\u{fffd}1".to_owned()));
    let failed = fresh.one("SELECT description FROM failed_checkins").await.text("description").expect("text");
    assert!(failed.contains("a\u{fffd}b"), "{failed}");
    // The log stores bytes, so it keeps the text exactly as it was.
    let logged = fresh.store.facts_between(BusinessId(1), at(0), at(DAY)).await.expect("read");
    assert_eq!(logged[0].credential.as_deref(), Some("12\u{0}34"));
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
    for statement in ["SELECT max(id) AS id FROM checkins", "SELECT max(id) AS id FROM failed_checkins"] {
        assert_eq!(fresh.one(statement).await.int("id").expect("a number"), 2, "{statement}");
    }
}

async fn a_repeated_failure_is_written_once(fresh: Fresh) {
    let (first, other) = (failure(1000), failure(1000));
    fresh.write(&Writes { failures: vec![first.clone(), other], ..Writes::default() }).await.expect("written");
    let again = FailureRecord { attempt_at: at(5000), ..first.clone() };
    fresh.write(&Writes { failures: vec![again, failure(2000)], ..Writes::default() }).await.expect("written");
    assert_eq!(fresh.count("failed_checkins").await, 3);
    let id = fresh.one("SELECT id FROM failed_checkins ORDER BY id LIMIT 1").await.int("id").expect("id");
    let row = fresh.store.failed_checkin(FailedCheckinId(id)).await.expect("read").expect("exists");
    assert_eq!(row.description.as_deref(), Some("unrecognised_device: no coworker has a device with this MAC address"));
    assert_eq!((row.unique_id, row.coworker_id, row.checkin_attempt_time), (first.unique_id, None, at(1000)));
    assert_eq!((row.mac_addresses, row.source), (BTreeSet::from([mac(9)]), CheckinSource::NetworkActivity));
}

async fn a_failure_is_changed_in_its_place(fresh: Fresh) {
    let failed = |millis| FailureRecord { coworker: Some(CoworkerId(1)), ..failure(millis) };
    let (first, other) = (failed(5000), failed(6000));
    fresh.write(&Writes { failures: vec![first.clone(), other.clone()], ..Writes::default() }).await.expect("written");
    let rows = async || fresh.store.failed_checkins_between(BusinessId(1), at(0), at(DAY)).await.expect("read");
    let before = rows().await;
    let refused = Refused { reason: Reason::NoValidPass, detail: Some("nothing".into()) };
    let other_reason = FailureRecord { attempt_at: at(3000), refused, ..first };
    let unknown = failed(1);
    let writes = Writes { changed_failures: vec![other_reason, other.clone(), unknown], ..Writes::default() };
    fresh.write_at(&writes, NOW.moved(1)).await.expect("changed");
    let after = rows().await;
    assert_eq!(after.len(), 2, "a failure that does not exist is not changed");
    assert_eq!((after[0].id, after[0].created_on, after[0].updated_on), (before[0].id, NOW, NOW.moved(1)));
    assert_eq!(after[0].checkin_attempt_time, at(3000));
    assert!(after[0].description.as_deref().is_some_and(|text| text.starts_with("no_valid_pass")), "{after:?}");
    let code = fresh.one("SELECT code FROM failed_checkins ORDER BY id LIMIT 1").await.text("code").expect("text");
    assert_eq!(code, Reason::NoValidPass.code());
    assert_eq!(after[1], before[1], "an unchanged failure is not written");
    fresh.write(&Writes { gone_failures: vec![other.unique_id, uuid()], ..Writes::default() }).await.expect("gone");
    assert_eq!(rows().await, after[..1]);
}

async fn failed_devices_are_found_again(fresh: Fresh) {
    let other = FailureRecord { mac: Some(mac(8)), business: BusinessId(2), ..failure(1000) };
    let no_pass = Refused { reason: Reason::NoValidPass, detail: None };
    let refused = FailureRecord { mac: Some(mac(7)), refused: no_pass, ..failure(1000) };
    let failures = vec![failure(1000), other, refused];
    fresh.write(&Writes { failures, ..Writes::default() }).await.expect("written");
    let ask = |since| fresh.store.failed_devices(BusinessId(1), since, Reason::UnrecognisedDevice, 10);
    assert_eq!(ask(at(1000)).await.expect("answered"), BTreeSet::from([mac(9)]));
    assert!(ask(at(1001)).await.expect("answered").is_empty());
}

async fn charges_are_replaced_and_taken_back(fresh: Fresh) {
    let (open, over) = (record(1, 30_000), with(&record(1, 34_000), |visit| visit.to = Some(at(35_000))));
    let over_charge = charge(&over, 200);
    let writes = Writes { charges: vec![charge(&open, 100), over_charge.clone()], ..Writes::default() };
    fresh.write(&writes).await.expect("written");
    assert_eq!(fresh.charges(1).await, writes.charges);
    let closed = with(&open, |visit| (visit.from, visit.to) = (at(29_000), Some(at(33_000))));
    let replaced = charge(&closed, 700);
    fresh.write(&Writes { charges: vec![replaced.clone()], ..Writes::default() }).await.expect("written");
    assert_eq!(fresh.charges(1).await, [replaced.clone(), charge(&over, 200)]);
    let row = fresh.one("SELECT amount, minutes, currency, final FROM payg_charges ORDER BY from_time LIMIT 1").await;
    assert_eq!((row.int("amount").expect("a number"), row.text("currency").expect("text")), (700, "EUR".to_owned()));
    assert!(row.bool("final").expect("a truth"));
    // Withdrawn and charged again in one batch: the charge stays.
    let writes = Writes {
        gone_charges: vec![over.visit.unique_id, uuid(), open.visit.unique_id],
        charges: vec![replaced.clone()],
        ..Writes::default()
    };
    fresh.write(&writes).await.expect("written");
    // The row of the other one stays, for clients that have billed it.
    let kept = ChargeRecord {
        charge: payg::Charge { minutes: 0, unbounded: 0, amount: 0, ..over_charge.charge },
        ..over_charge
    };
    assert_eq!(fresh.charges(1).await, [replaced, kept]);
    let row = fresh.one("SELECT withdrawn FROM payg_charges ORDER BY from_time DESC LIMIT 1").await;
    assert!(row.bool("withdrawn").expect("a truth"));
}

async fn coverage_grows_and_is_read_by_business(fresh: Fresh) {
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
    let read = async |others, since| fresh.store.coverage(BusinessId(1), others, at(since)).await.expect("answered");
    let own = |stretches: &[CoverageRow]| BTreeMap::from([(BusinessId(1), stretches.to_vec())]);
    assert_eq!(read(false, 0).await, own(&[covered(1000, 3000), covered(5000, 6000)]));
    assert_eq!(read(false, 3001).await, own(&[covered(5000, 6000)]));
    let both = BTreeMap::from([(BusinessId(2), vec![covered(500, 4000)]), (BusinessId(3), vec![covered(100, 200)])]);
    assert_eq!(read(true, 0).await, both);
    assert_eq!(read(true, 201).await.keys().collect::<Vec<_>>(), [&BusinessId(2)]);
    assert_eq!(fresh.store.forget(Expired::Coverage, BusinessId(1), at(3001)).await.expect("answered"), 1);
    assert_eq!(read(false, 0).await, own(&[covered(5000, 6000)]));
}
