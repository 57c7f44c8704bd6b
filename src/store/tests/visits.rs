//! Check-ins are read back as written, and the database allows at most one open.

use std::collections::BTreeSet;

use crate::{
    base::{
        fact::Subject,
        record::{BusinessId, CheckinId, CheckinSource, CoworkerId, FailedCheckinId, TimePassId},
    },
    engine::{
        fold::VisitRecord,
        passes::{PassEnd, PassKind, PassUse},
        person::PersonState,
    },
    store::{
        ChangedVisit, NewPersonState, StoreError, StoredVisit, UnloggedPresence, Writes,
        tests::{
            examples::{
                DAY, NOW, at, changed, known, mac, opened, opening, pending, person, record, standing, uuid, with,
            },
            fresh::{Fresh, contract},
        },
    },
};

contract!(
    a_visit_comes_back_as_it_was_written,
    the_api_reads_what_the_engine_wrote,
    there_is_at_most_one_open_visit_per_coworker_and_business,
    a_coworker_may_leave_and_come_back_within_one_batch,
    a_visit_that_turns_out_otherwise_keeps_its_number,
    a_visit_that_goes_on_keeps_its_beginning,
    a_visit_that_never_was_is_gone,
    an_open_visit_shows_the_latest_presence,
    a_text_that_spells_a_nul_character_stays_as_it_is,
);

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
    let row = fresh.store.checkin(open[0].id).await.expect("read").expect("exists");
    assert_eq!(row, open[0]);
    let visit = &record.visit;
    assert_eq!((row.unique_id, row.coworker_id, row.from_time), (visit.unique_id, Some(CoworkerId(1)), visit.from));
    assert_eq!(
        (row.coworker_full_name.as_deref(), row.tariff_at_the_time_of_checkin.as_deref()),
        (Some("Coworker 1"), Some("Full time"))
    );
    assert_eq!(row.business_name.as_deref(), Some("Hub One"));
    assert_eq!(row.from_time_local.map(|local| local.to_string()).as_deref(), Some("2026-01-01 00:00:00"));
    assert_eq!((row.updated_by.as_str(), row.to_time), ("checkind", None));
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
    assert!(matches!(again, Err(StoreError::Conflict)), "an identity exists only once: {again:?}");
}

async fn a_coworker_may_leave_and_come_back_within_one_batch(fresh: Fresh) {
    let first = record(1, 1000);
    fresh.write(&opening([first.clone()])).await.expect("the first");
    let (left, back) = (with(&first, |visit| visit.to = Some(at(2000))), record(1, 3000));
    let writes = Writes { changed_visits: vec![changed(&left, true)], ..opening([back.clone()]) };
    fresh.write(&writes).await.expect("both");
    assert_eq!(fresh.visits(1).await, [known(&left), known(&back)]);

    // The open one turns out to be over, and one that was over turns out to be open.
    let (reopened, closed) = (with(&left, |visit| visit.to = None), with(&back, |visit| visit.to = Some(at(4000))));
    let changes = vec![changed(&reopened, false), changed(&closed, true)];
    fresh.write(&Writes { changed_visits: changes, ..Writes::default() }).await.expect("both");
    assert_eq!(fresh.visits(1).await, [known(&reopened), known(&closed)]);
}

async fn a_visit_that_turns_out_otherwise_keeps_its_number(fresh: Fresh) {
    let first = record(1, 5000);
    fresh.write(&opening([first.clone(), record(2, 5000)])).await.expect("written");
    let before = fresh.checkin_of(first.visit.unique_id).await.expect("exists");
    let earlier = VisitRecord {
        opened: Some(opened("Ada")),
        ..with(&first, |visit| (visit.unique_id, visit.from) = (uuid(), at(3000)))
    };
    let change = ChangedVisit { known_as: first.visit.unique_id, ..changed(&earlier, false) };
    let writes = Writes { changed_visits: vec![change], ..Writes::default() };
    fresh.write_at(&writes, NOW.moved(1)).await.expect("changed");
    let after = fresh.checkin_of(earlier.visit.unique_id).await.expect("exists");
    assert_eq!((after.id, after.created_on, after.updated_on), (before.id, NOW, NOW.moved(1)));
    assert_eq!((after.from_time, after.coworker_full_name.as_deref()), (at(3000), Some("Ada")));
    assert_eq!(fresh.checkin_of(first.visit.unique_id).await, None);
    assert_eq!(fresh.visits(1).await, [known(&earlier)]);

    // The state of things at its opening stays if the fold begins after that.
    let later = VisitRecord { opened: None, ..with(&earlier, |visit| visit.from = at(2000)) };
    let writes = Writes { changed_visits: vec![changed(&later, false)], ..Writes::default() };
    fresh.write(&writes).await.expect("changed");
    assert_eq!(fresh.visits(1).await, [StoredVisit { from: at(2000), ..known(&earlier) }]);

    let taken = fresh.visits(2).await[0].unique_id;
    let onto = with(&later, |visit| visit.unique_id = taken);
    let change = ChangedVisit { known_as: later.visit.unique_id, ..changed(&onto, false) };
    let refused = fresh.write(&Writes { changed_visits: vec![change], ..Writes::default() }).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
}

async fn a_visit_that_goes_on_keeps_its_beginning(fresh: Fresh) {
    let first = record(1, 1000);
    fresh.write(&opening([first.clone()])).await.expect("written");
    let later = VisitRecord {
        opened: Some(opened("Another name")),
        ..with(&first, |visit| {
            (visit.from, visit.last_activity, visit.source) = (at(1), at(3000), CheckinSource::NetworkActivity);
        })
    };
    fresh.write(&Writes { changed_visits: vec![changed(&later, true)], ..Writes::default() }).await.expect("changed");
    assert_eq!(fresh.visits(1).await, [StoredVisit { last_activity: at(3000), ..known(&first) }]);
}

async fn a_visit_that_never_was_is_gone(fresh: Fresh) {
    let (one, two, other) = (record(1, 1000), record(1, 2000), record(2, 1000));
    fresh.write(&opening([one.clone(), other.clone()])).await.expect("written");
    // Deleted visits make room for those that replace them.
    let writes = Writes { gone_visits: vec![one.visit.unique_id, uuid()], ..opening([two.clone()]) };
    fresh.write(&writes).await.expect("written");
    assert_eq!(fresh.visits(1).await, [known(&two)]);
    assert_eq!(fresh.visits(2).await, [known(&other)]);
}

async fn an_open_visit_shows_the_latest_presence(fresh: Fresh) {
    let open = record(1, 1000);
    let left = with(&record(2, 1000), |visit| (visit.to, visit.last_activity) = (Some(at(1500)), at(1500)));
    fresh.write(&opening([open.clone(), left.clone()])).await.expect("written");
    let last = async |record: &VisitRecord| {
        let row = fresh.checkin_of(record.visit.unique_id).await.expect("exists");
        let here = fresh.store.checkins_between(BusinessId(1), at(0), at(DAY)).await.expect("read");
        assert!(here.contains(&row), "the same in a list");
        if row.to_time.is_none() {
            assert_eq!(fresh.store.open_checkins().await.expect("read"), std::slice::from_ref(&row));
        }
        row.last_activity.expect("known").millis()
    };
    assert_eq!((last(&open).await, last(&left).await), (1000, 1500));
    let person_at = |subject, revision, last| {
        let visit = with(&record(subject, 1000), |visit| visit.last_activity = at(last)).visit;
        let person = PersonState { visits: vec![visit], ..person(last) };
        NewPersonState { person, ..standing(subject, revision, Some((1, 90_000))) }
    };
    let put = async |writes: Writes| fresh.write(&writes).await.expect("written");
    put(Writes { people: vec![person_at(1, 0, 2000), person_at(2, 0, 2000)], ..Writes::default() }).await;
    assert_eq!((last(&open).await, last(&left).await), (2000, 1500));
    put(Writes {
        unlogged: vec![
            pending(1, 1, &[2500, 4000, 3000]),
            pending(1, 2, &[3500]),
            pending(2, 3, &[4000]),
            UnloggedPresence { business: BusinessId(2), ..pending(1, 1, &[9000]) },
        ],
        ..Writes::default()
    })
    .await;
    assert_eq!(
        (last(&open).await, last(&left).await),
        (4000, 1500),
        "a presence at another business does not count here"
    );
    put(Writes {
        gone_unlogged: [Subject(1)].into(),
        people: vec![NewPersonState { same_deadline: true, ..person_at(1, 1, 4000) }],
        ..Writes::default()
    })
    .await;
    assert_eq!(last(&open).await, 4000);
    let closed = with(&open, |visit| (visit.to, visit.last_activity) = (Some(at(3000)), at(3000)));
    put(Writes { changed_visits: vec![changed(&closed, true)], ..Writes::default() }).await;
    assert_eq!(last(&closed).await, 3000, "for a closed visit the row decides");
}

async fn a_text_that_spells_a_nul_character_stays_as_it_is(fresh: Fresh) {
    let visit = VisitRecord { opened: Some(opened(r"front/\u0000")), ..record(1, 1000) };
    fresh.write(&opening([visit.clone()])).await.expect("written");
    assert_eq!(fresh.visits(1).await, [known(&visit)]);
}
