//! Two gateways on one database: races, locks and leases.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    base::{
        fact::{DoorFact, FactDigest},
        record::{BusinessId, CoworkerId},
        sighting::TimeQuality,
    },
    policy::passes::PassPolicy,
    store::{
        Store, StoreError, Writes,
        tests::{
            examples::{PASSES, at, logging, opening, record, standing, tap, write},
            fresh::{Fresh, contract},
        },
    },
};

contract!(
    two_writers_do_not_both_open,
    two_writers_do_not_both_write_a_fact,
    two_writers_do_not_both_move_a_person,
    two_gateways_that_spend_one_pass_wait_for_each_other,
    a_lease_has_one_holder_until_it_is_given_back,
    a_batch_of_a_gateway_that_lost_its_lease_is_not_committed,
);

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
        // A fact without a time arrives at the two at different times.
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
        let new = |deadline| Writes { people: vec![standing(1, revision, Some((1, deadline)))], ..Writes::default() };
        let (one, two) = (new(1000), new(2000));
        let (one, two) = tokio::join!(write(&fresh.store, &one), write(&other, &two));
        let lost = [&one, &two].iter().filter(|written| matches!(written, Err(StoreError::Conflict))).count();
        assert!(one.is_ok() != two.is_ok() && lost == 1, "{one:?} {two:?}");
        let deadline = fresh.standing(1).await.expect("exists").deadline;
        assert_eq!(deadline, Some((BusinessId(1), at(if one.is_ok() { 1000 } else { 2000 }))));
    }
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

async fn a_lease_has_one_holder_until_it_is_given_back(fresh: Fresh) {
    let (site, other_site, first, second) = (BusinessId(1), BusinessId(2), Uuid::from_u128(1), Uuid::from_u128(2));
    let store = &fresh.store;
    assert_eq!(store.lease_holder(site).await.expect("read"), None);
    assert!(store.take_lease(site, "a", first).await.expect("taken"));
    assert!(store.take_lease(site, "a", first).await.expect("renewed"));
    assert!(
        !store.take_lease(site, "a", second).await.expect("answered"),
        "another process with the same name is a different one"
    );
    assert!(store.take_lease(other_site, "b", second).await.expect("another site"));
    store.release_lease(site, second).await.expect("no harm");
    assert!(!store.take_lease(site, "b", second).await.expect("answered"));
    store.release_lease(site, first).await.expect("given back");
    assert!(store.take_lease(site, "b", second).await.expect("taken"));
    assert_eq!(store.lease_holder(site).await.expect("read").as_deref(), Some("b"));
    assert!(!store.take_lease(site, "a", first).await.expect("answered"));
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
