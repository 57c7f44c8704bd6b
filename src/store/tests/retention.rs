//! Deleting what has expired.

use std::collections::BTreeSet;

use crate::{
    base::{
        fact::{DoorFact, Fact, FactKey, LogDay, Recognised, StrangeDeviceFact, Subject},
        record::BusinessId,
    },
    engine::{
        decision::{DecisionCode, Outcome, Reason},
        fold::FailureRecord,
        passes::Refused,
    },
    store::{
        CoverageRow, DecidedFact, Expired, NewPersonState, Writes,
        tests::{
            examples::{
                DAY, at, decided, failure, logging, mac, opening, person, point, record, standing, tap, uuid, with,
            },
            fresh::{Fresh, contract},
        },
    },
};

contract!(
    what_has_expired_is_forgotten_for_one_business_only,
    strangers_are_forgotten_and_members_are_not,
    more_than_a_portion_goes_in_portions,
    an_unrecognised_device_is_forgotten_with_its_fact,
);

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
        people: vec![standing(1, 0, None)],
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
        assert_eq!(fresh.store.forget(what, BusinessId(1), before).await.expect("answered"), rows, "{what:?}");
        assert_eq!(fresh.store.forget(what, BusinessId(1), before).await.expect("answered"), 0, "{what:?}");
    }
    for (table, left) in
        [("checkins", 2), ("failed_checkins", 1), ("facts", 2), ("checkpoints", 1), ("standings", 1), ("coverage", 1)]
    {
        assert_eq!(fresh.count(table).await, left, "{table}");
    }
    assert_eq!(fresh.known(&facts.each_ref()).await, [2, 3], "only whole days are deleted");
}

async fn strangers_are_forgotten_and_members_are_not(fresh: Fresh) {
    let state = |subject, millis| NewPersonState { person: person(millis), ..standing(subject, 0, None) };
    let standings = vec![state(-1, 1000), state(-2, 5000), state(0, 1000), state(1, 1000)];
    fresh.write(&Writes { people: standings, ..Writes::default() }).await.expect("written");
    assert_eq!(fresh.store.forget(Expired::Checkpoints, BusinessId(1), at(5000)).await.expect("answered"), 1);
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
            let forgotten = fresh.store.forget(what, BusinessId(1), at(DAY)).await.expect("answered");
            assert_eq!(forgotten, rows, "{what:?}");
        }
    }
}

async fn an_unrecognised_device_is_forgotten_with_its_fact(fresh: Fresh) {
    let strange = |device, business, millis| {
        let fact = Fact::UnknownDevice(StrangeDeviceFact {
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
    assert_eq!(forget(at(1000)).await.expect("answered"), 0, "it is not older");
    assert_eq!(forget(at(3 * DAY)).await.expect("answered"), 3);
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
    let loaded = batch.load(&BTreeSet::new(), &kept).await.expect("answered");
    assert_eq!(loaded.known.len(), 4);
}
