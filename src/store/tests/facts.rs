//! The log of facts.

use crate::{
    base::{
        fact::{
            DoorFact, Fact, FactDigest, LogDay, PresenceFact, Recognised, RejectedFact, StoredFact, StrangeDeviceFact,
            Subject,
        },
        record::{BusinessId, CoworkerId},
        sighting::{DoorEventKind, DoorKey, TimeQuality},
    },
    engine::decision::{DecisionCode, Outcome},
    store::{
        DecidedFact, LoggedFact, StoreError, Writes,
        tests::{
            examples::{DAY, at, decided, logging, mac, opened_code, point, stored, tap},
            fresh::{Fresh, contract},
        },
    },
};

contract!(
    a_fact_is_written_once,
    a_fact_that_arrived_is_known_at_any_time,
    facts_are_found_by_person_and_day,
    facts_change_their_decision_and_go,
    the_log_shows_every_kind_of_fact,
);

async fn a_fact_is_written_once(fresh: Fresh) {
    let (one, two) = (tap(1, 1000), tap(1, 2000));
    assert!(fresh.known(&[&one, &two]).await.is_empty());
    fresh.write(&logging([&one])).await.expect("written");
    assert_eq!(fresh.known(&[&one, &two, &one]).await, [0, 2]);
    let again = fresh.write(&logging([&two, &one])).await;
    assert!(matches!(again, Err(StoreError::Conflict)), "another gateway was faster: {again:?}");
    assert!(fresh.known(&[&two]).await.is_empty(), "a batch is written as a whole or not");

    // Different content at the same place is another fact, and so is the same content at another time or about another
    // subject.
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
    // It arrives again, now about another subject: it is still the same fact.
    let (again, other) = (arrived(2, DAY + 1000, 9), arrived(1, 1000, 8));
    assert_eq!(fresh.known(&[&other, &again, &first]).await, [1, 2]);
    let written = fresh.write(&logging([&again])).await;
    assert!(matches!(written, Err(StoreError::Conflict)), "{written:?}");
    // A fact with a time of its source is another fact at another time.
    let timed = DoorFact { quality: TimeQuality::Device, ..again };
    assert!(fresh.known(&[&timed]).await.is_empty());
    fresh.write(&logging([&timed, &other])).await.expect("others");
}

async fn facts_are_found_by_person_and_day(fresh: Fresh) {
    let all = [tap(1, 1000), tap(1, DAY - 1), tap(1, DAY), tap(2, 1000), tap(-5, 1000)];
    let elsewhere = DoorFact { business: BusinessId(2), digest: FactDigest([2; 16]), ..tap(1, 1000) };
    fresh.write(&logging(all.iter().chain([&elsewhere]))).await.expect("written");
    let mut batch = fresh.batch().await;
    let mut found = async |days: &[(Subject, LogDay)]| {
        let mut facts = batch.facts(days).await.expect("answered");
        facts.sort_by_key(|decided| (decided.fact.at, decided.fact.digest));
        facts
    };
    assert_eq!(found(&[]).await, []);
    let days = [(Subject(1), LogDay(0)), (Subject(2), LogDay(1)), (Subject(-5), LogDay(0))];
    let expected = [&all[0], &elsewhere, &all[4], &all[1]].map(decided);
    assert_eq!(found(&days).await, expected, "at any business");
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
    let mut facts = batch.facts(&[(Subject(1), LogDay(0)), (Subject(2), LogDay(0))]).await.expect("answered");
    facts.sort_by_key(|decided| decided.fact.subject);
    let facts = facts.into_iter().map(|decided| (decided.fact, decided.decision)).collect::<Vec<_>>();
    assert_eq!(facts, [(stored(&two), closed), (stored(&three), opened_code())]);
    drop(batch);

    // A fact whose time was wrong is deleted and written with another time, in one transaction.
    let moved = DoorFact { at: at(7000), ..two.clone() };
    let writes = Writes { gone_facts: vec![stored(&two)], ..logging([&moved, &one]) };
    fresh.write(&writes).await.expect("written");
    assert_eq!(fresh.known(&[&moved, &two, &one]).await, [0, 2]);
}

async fn the_log_shows_every_kind_of_fact(fresh: Fresh) {
    let seen = point(3000);
    let (interface, why) = (|| "eth1".into(), DecisionCode::of(Outcome::Failed, Some("unrecognised_device")));
    let presence = Fact::Presence(PresenceFact {
        business: BusinessId(1),
        subject: Subject(7),
        mac: mac(1),
        interface: interface(),
        points: vec![seen, point(4000)],
    });
    let strange = Fact::UnknownDevice(StrangeDeviceFact {
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
            event_at: seen.first_at,
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
    assert_eq!(logged, expected, "a fact that a newer program wrote is skipped");
}
