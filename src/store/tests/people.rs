//! Person states, their deadlines, checkpoints, pending presences, and people's usage of passes and plans.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use uuid::Uuid;

use crate::{
    base::{
        fact::{LogDay, Subject},
        record::{BusinessId, CoworkerId},
    },
    engine::{
        passes::{Counted, Used},
        person::PersonState,
    },
    store::{
        NewPersonState, StoreError, UnloggedPresence, Writes,
        tests::{
            examples::{NOW, at, calendar, counted, date, pending, person, record, standing},
            fresh::{Fresh, contract},
        },
    },
};

contract!(
    a_person_state_is_replaced_only_by_a_writer_that_read_it,
    deadlines_are_found_when_they_come,
    a_deadline_that_stays_is_not_written,
    active_people_are_found,
    person_states_ahead_of_the_clock_are_found,
    checkpoints_are_found_by_person_and_day,
    presences_wait_beside_the_log,
    usage_of_a_pass_is_read_for_everyone_who_may_use_it,
    the_last_total_before_a_day_is_read,
);

async fn a_person_state_is_replaced_only_by_a_writer_that_read_it(fresh: Fresh) {
    let state = person(1000);
    let put = async |subject, revision, same_deadline| {
        let new = NewPersonState { person: state.clone(), same_deadline, ..standing(subject, revision, None) };
        fresh.write(&Writes { people: vec![standing(99 + subject, 0, None), new], ..Writes::default() }).await
    };
    let conflict = |written| matches!(written, Err(StoreError::Conflict));
    put(1, 0, false).await.expect("the first");
    assert!(conflict(put(1, 0, false).await), "it already exists");
    let row = fresh.standing(1).await.expect("exists");
    assert_eq!((row.revision, row.deadline, &row.person), (1, None, &state));
    for (subject, revision, same_deadline, writes) in
        [(1, 2, false, false), (1, 2, true, false), (1, 1, true, true), (1, 1, true, false), (1, 2, false, true)]
    {
        let mut batch = fresh.batch().await;
        let new = NewPersonState { person: state.clone(), same_deadline, ..standing(subject, revision, None) };
        let writes_all = Writes { people: vec![new], ..Writes::default() };
        let written = batch.write(&writes_all, &|_, _| calendar(), NOW).await;
        assert_eq!(written.is_ok(), writes, "{revision} {written:?}");
        assert!(writes || conflict(written));
        if writes {
            batch.commit().await.expect("committed");
        }
    }
    assert_eq!(fresh.standing(1).await.expect("exists").revision, 3);
    assert!(fresh.standing(2).await.is_none());
}

async fn deadlines_are_found_when_they_come(fresh: Fresh) {
    let here = BusinessId(1);
    assert_eq!(fresh.store.next_deadline(here).await.expect("answered"), None);
    let people = [(1, Some((1, 3000))), (2, Some((1, 2000))), (3, Some((2, 1000))), (4, None), (5, Some((1, 4000)))];
    let standings = people.map(|(subject, deadline)| standing(subject, 0, deadline)).to_vec();
    fresh.write(&Writes { people: standings, ..Writes::default() }).await.expect("written");
    let due = async |now, limit| {
        let due = fresh.store.due(here, at(now), limit).await.expect("answered");
        due.into_iter().map(|subject| subject.0).collect::<Vec<_>>()
    };
    assert_eq!(fresh.store.next_deadline(here).await.expect("answered"), Some(at(2000)));
    assert!(due(1999, 9).await.is_empty());
    assert_eq!(due(3000, 9).await, [2, 1], "earliest first");
    assert_eq!(due(9000, 2).await, [2, 1]);
    let people_in = async |after, limit| {
        let people = fresh.store.people_in(here, Subject(after), limit).await.expect("answered");
        people.into_iter().map(|subject| subject.0).collect::<Vec<_>>()
    };
    assert_eq!(people_in(i64::MIN, 2).await, [1, 2]);
    assert_eq!(people_in(2, 2).await, [5]);
    assert!(people_in(5, 2).await.is_empty());

    // One is out, one has a later deadline, and one is at another place.
    let standings = vec![standing(2, 1, None), standing(1, 1, Some((1, 8000))), standing(5, 1, Some((2, 4000)))];
    fresh.write(&Writes { people: standings, ..Writes::default() }).await.expect("written");
    assert_eq!(due(9000, 9).await, [1]);
    assert_eq!(fresh.store.next_deadline(here).await.expect("answered"), Some(at(8000)));
    assert_eq!(fresh.store.next_deadline(BusinessId(2)).await.expect("answered"), Some(at(1000)));
    assert_eq!(fresh.standing(2).await.expect("exists").deadline, None);
    assert_eq!(fresh.standing(5).await.expect("exists").deadline, Some((BusinessId(2), at(4000))));
}

async fn a_deadline_that_stays_is_not_written(fresh: Fresh) {
    let first = standing(1, 0, Some((1, 3000)));
    fresh.write(&Writes { people: vec![first], ..Writes::default() }).await.expect("written");
    let state = PersonState { visits: vec![record(1, 2000).visit], ..person(2000) };
    let kept = NewPersonState { same_deadline: true, person: state.clone(), ..standing(1, 1, Some((2, 7000))) };
    // A state that does not exist yet is written with its deadline, even if marked as unchanged.
    let new = NewPersonState { same_deadline: true, ..standing(2, 0, Some((1, 5000))) };
    fresh.write(&Writes { people: vec![kept, new], ..Writes::default() }).await.expect("written");
    let row = fresh.standing(1).await.expect("exists");
    assert_eq!((row.revision, row.deadline, row.person), (2, Some((BusinessId(1), at(3000))), state));
    assert_eq!(fresh.standing(2).await.expect("exists").deadline, Some((BusinessId(1), at(5000))));
}

async fn active_people_are_found(fresh: Fresh) {
    let standings = vec![
        NewPersonState { person: person(1000), ..standing(1, 0, Some((1, 9000))) },
        NewPersonState { person: person(4999), ..standing(2, 0, None) },
        NewPersonState { person: person(5000), ..standing(3, 0, None) },
        NewPersonState { person: person(9000), ..standing(4, 0, None) },
    ];
    fresh.write(&Writes { people: standings, ..Writes::default() }).await.expect("written");
    let mut batch = fresh.batch().await;
    let people = [1, 2, 3, 7].map(Subject).into();
    let active = batch.active(&people, at(5000)).await.expect("answered");
    assert_eq!(active, [1, 3].map(Subject).into());
    assert_eq!(batch.active(&BTreeSet::new(), at(0)).await.expect("answered"), BTreeSet::new());
}

async fn person_states_ahead_of_the_clock_are_found(fresh: Fresh) {
    let state = |subject, millis, deadline| NewPersonState { person: person(millis), ..standing(subject, 0, deadline) };
    let standings = vec![
        state(1, 5000, Some((1, 9000))),
        state(2, 5001, Some((1, 9000))),
        state(3, 6000, None),
        state(4, 6000, Some((2, 9000))),
    ];
    fresh.write(&Writes { people: standings, ..Writes::default() }).await.expect("written");
    let ahead = async |limit| {
        let mut people = fresh.store.people_ahead(BusinessId(1), at(5000), limit).await.expect("answered");
        people.sort_unstable();
        people
    };
    assert_eq!(ahead(9).await, [2, 3].map(Subject), "people who are checked in elsewhere belong to that gateway");
    assert_eq!(ahead(1).await.len(), 1);
}

async fn checkpoints_are_found_by_person_and_day(fresh: Fresh) {
    let checkpoint = |subject, day: i64, millis| (Subject(subject), LogDay(day), person(millis));
    let all = [checkpoint(1, 5, 10), checkpoint(1, 6, 20), checkpoint(2, 5, 30), checkpoint(-3, 5, 40)];
    let put = async |writes: Writes| fresh.write(&writes).await.expect("written");
    put(Writes { checkpoints: all.to_vec(), ..Writes::default() }).await;
    let found = async |asked: &[(i64, i64)]| {
        let asked: Vec<_> = asked.iter().map(|(subject, day)| (Subject(*subject), LogDay(*day))).collect();
        let mut found = fresh.batch().await.checkpoints(&asked).await.expect("answered");
        found.sort_by_key(|(subject, day, _)| (*subject, *day));
        found
    };
    assert_eq!(found(&[(1, 5), (2, 6), (-3, 5)]).await, [all[3].clone(), all[0].clone()]);
    assert_eq!(found(&[]).await, []);
    // One is replaced, one is deleted, and one is deleted and written again.
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
        UnloggedPresence { business: BusinessId(2), ..pending(1, 1, &[1500]) },
        pending(1, 2, &[1_767_225_600_123]),
        pending(2, 3, &[5000]),
        pending(3, 3, &[5000]),
    ];
    fresh.write(&Writes { unlogged: all.to_vec(), ..Writes::default() }).await.expect("written");
    let found = async |subjects: &[i64]| {
        let subjects = subjects.iter().copied().map(Subject).collect();
        let found = fresh.batch().await.load(&subjects, &[]).await.expect("answered");
        let mut found: Vec<UnloggedPresence> = found.unlogged.into_values().flatten().collect();
        found.sort_by_key(|pending| (pending.subject, pending.business, pending.mac));
        found
    };
    assert_eq!(found(&[1, 2]).await, [&all[0], &all[2], &all[1], &all[3]].map(Clone::clone));
    assert_eq!(found(&[9]).await, []);
    let (outside, _) = fresh.store.people(&[Subject(2)].into(), &BTreeSet::new()).await.expect("answered");
    assert_eq!(outside.unlogged, BTreeMap::from([(all[3].subject, all[3..4].to_vec())]));

    // All presences of one person are deleted, and the remaining ones written again; one of another person is replaced.
    let (rest, other) =
        (pending(1, 2, &[3000]), UnloggedPresence { interface: "eth2".to_owned(), ..pending(2, 3, &[6000, 7000]) });
    let writes = Writes {
        gone_unlogged: [Subject(1), Subject(9)].into(),
        unlogged: vec![rest.clone(), other.clone()],
        ..Writes::default()
    };
    fresh.write(&writes).await.expect("written");
    assert_eq!(found(&[1, 2, 3]).await, [rest, other, all[4].clone()]);
}

async fn usage_of_a_pass_is_read_for_everyone_who_may_use_it(fresh: Fresh) {
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
        let mut found = fresh.batch().await.pass_users(&passes).await.expect("answered");
        let (_, mut outside) = fresh.store.people(&BTreeSet::new(), &passes).await.expect("answered");
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
        let totals = fresh.batch().await.totals(&asked).await.expect("answered");
        let row = |((coworker, day), total): ((CoworkerId, NaiveDate), Counted)| {
            assert_eq!(total, counted(total.days));
            (coworker.0, u32::try_from(day.signed_duration_since(date(0)).num_days()).expect("a day"), total.days)
        };
        totals.into_iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(totals(&[]).await, []);
    let asked = [(1, 3), (1, 4), (1, 5), (1, 6), (1, 20), (2, 20), (3, 20)];
    assert_eq!(totals(&asked).await, [(1, 3, 1), (1, 5, 2), (1, 9, 3), (2, 4, 7)]);

    // One total is replaced; those after a day are recounted; and so is everything of one person.
    let writes = Writes {
        recounted: vec![(CoworkerId(1), Some(date(3))), (CoworkerId(2), None), (CoworkerId(8), None)],
        plan_usage: usage(1, &[(3, 2), (6, 4)]),
        ..Writes::default()
    };
    fresh.write(&writes).await.expect("written");
    assert_eq!(totals(&[(1, 4), (1, 6), (1, 20), (2, 20)]).await, [(1, 3, 2), (1, 6, 4)]);
}
