//! Small records and facts that the tests write.

use std::collections::BTreeSet;

use chrono::{NaiveDate, NaiveTime};
use uuid::Uuid;

use crate::{
    access::{StoredPassword, TokenDigest, UserName},
    base::{
        clock::WallTime,
        fact::{DoorFact, Fact, FactDigest, Point, Recognised, ShownCredential, StoredFact, Subject},
        mac::MacAddr,
        record::{BusinessId, CheckinSource, CoworkerId, Snapshot, TimePassId},
        sighting::{CredentialKind, Direction, DoorEventKind, DoorKey, TimeQuality},
        zone::test_zone,
    },
    directory::Directory,
    engine::{
        decision::{DecisionCode, Outcome, Reason},
        fold::{ChargeRecord, FailureRecord, Opened, VisitRecord},
        passes::{Counted, Refused, payg},
        person::{PersonState, Pinned, Visit},
    },
    policy::calendar::Calendar,
    store::{
        ChangedVisit, DecidedFact, NewPersonState, Store, StoreError, StoredVisit, TokenPair, UnloggedPresence, Writes,
    },
};

pub(super) const DAY: i64 = 86_400_000;

/// The time at which the tests write.
pub(super) const NOW: WallTime = WallTime::from_millis(1_700_000_000_000);

/// Ada (1) and Bob (2) share a team's passes; Ada holds 51 and Bob 52, both with limits.
pub(super) const PASSES: &str = r#"{
    "Tariffs": [{"Id": 5, "Name": "Part time", "CheckinMonthLimit": 8}],
    "Teams": [{"Id": 8, "Name": "Rocket", "TeamMembers": [1, 2], "ShareTimePasses": true}],
    "TimePasses": [{"Id": 3, "Name": "10 hours", "MinutesIncluded": 600}],
    "Coworkers": [{"Id": 1, "FullName": "Ada", "TariffId": 5}, {"Id": 2, "FullName": "Bob", "TariffId": 5}],
    "CoworkerTimePasses": [
        {"Id": 51, "UniqueId": "00000000-0000-8000-8000-000000000051", "CoworkerId": 1, "TimePassId": 3},
        {"Id": 52, "UniqueId": "00000000-0000-8000-8000-000000000052", "CoworkerId": 2, "TimePassId": 3}
    ]
}"#;

/// The content of a version of the directory.
pub(super) fn said(directory: &Directory) -> (i64, usize, Option<String>, Option<String>) {
    let name = directory.coworker(CoworkerId(1)).map(|coworker| coworker.full_name.to_string());
    (directory.version, directory.coworkers(), name, directory.business(BusinessId(1)).map(ToOwned::to_owned))
}

pub(super) fn at(millis: i64) -> WallTime {
    WallTime::from_millis(millis)
}

pub(super) fn uuid() -> Uuid {
    crate::base::random::uuid()
}

pub(super) fn mac(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, last])
}

pub(super) fn calendar() -> Calendar {
    Calendar { zone: test_zone("Europe/London"), cut_off: NaiveTime::MIN }
}

/// Days after the first of a month.
pub(super) fn date(days: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 3, 1 + days).expect("a date")
}

pub(super) fn counted(days: u32) -> Counted {
    Counted { days, seconds: u64::from(days) * 3600 }
}

pub(super) fn opened(name: &str) -> Opened {
    Opened {
        then: Snapshot { full_name: Some(name.to_owned()), teams: None, tariff: Some("Full time".to_owned()) },
        business_name: Some("Hub One".to_owned()),
    }
}

/// An open visit by door.
pub(super) fn record(coworker: i64, from: i64) -> VisitRecord {
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
        pinned: Pinned::No,
    };
    let opened = Some(opened(&format!("Coworker {coworker}")));
    VisitRecord { coworker: CoworkerId(coworker), visit, opened }
}

pub(super) fn with(record: &VisitRecord, change: impl FnOnce(&mut Visit)) -> VisitRecord {
    let mut changed = record.clone();
    change(&mut changed.visit);
    changed
}

pub(super) fn opening(records: impl IntoIterator<Item = VisitRecord>) -> Writes {
    Writes { new_visits: records.into_iter().collect(), ..Writes::default() }
}

pub(super) fn changed(record: &VisitRecord, stays: bool) -> ChangedVisit {
    ChangedVisit { known_as: record.visit.unique_id, record: record.clone(), stays }
}

/// The same as read back.
pub(super) fn known(record: &VisitRecord) -> StoredVisit {
    let visit = &record.visit;
    StoredVisit {
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

pub(super) fn sorted(visits: impl IntoIterator<Item = StoredVisit>) -> Vec<StoredVisit> {
    let mut visits: Vec<StoredVisit> = visits.into_iter().collect();
    visits.sort_by_key(|visit| visit.from);
    visits
}

pub(super) fn failure(millis: i64) -> FailureRecord {
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

pub(super) fn charge(record: &VisitRecord, amount: i64) -> ChargeRecord {
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
pub(super) fn tap(subject: i64, millis: i64) -> DoorFact {
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

pub(super) fn stored(fact: &DoorFact) -> StoredFact {
    Fact::Door(fact.clone()).stored()
}

pub(super) fn opened_code() -> DecisionCode {
    DecisionCode::of(Outcome::Opened, None)
}

pub(super) fn decided(fact: &DoorFact) -> DecidedFact {
    DecidedFact { fact: stored(fact), decision: opened_code() }
}

pub(super) fn logging<'a>(facts: impl IntoIterator<Item = &'a DoorFact>) -> Writes {
    Writes { facts: facts.into_iter().map(decided).collect(), ..Writes::default() }
}

pub(super) fn point(millis: i64) -> Point {
    Point {
        last_at: at(millis),
        first_at: at(millis - 100),
        strong_at: Some(at(millis - 50)),
        since: at(millis - 900),
        frames: 2,
    }
}

pub(super) fn pending(subject: i64, device: u8, points: &[i64]) -> UnloggedPresence {
    UnloggedPresence {
        business: BusinessId(1),
        subject: Subject(subject),
        mac: mac(device),
        interface: "eth1".to_owned(),
        points: points.iter().copied().map(point).collect(),
    }
}

/// A person state that was folded up to an instant.
pub(super) fn person(millis: i64) -> PersonState {
    PersonState { folded: crate::base::fact::FactOrder::before(at(millis)), ..PersonState::default() }
}

pub(super) fn standing(subject: i64, revision: i64, deadline: Option<(i64, i64)>) -> NewPersonState {
    NewPersonState {
        subject: Subject(subject),
        revision,
        person: person(1000),
        deadline: deadline.map(|(business, millis)| (BusinessId(business), at(millis))),
        same_deadline: false,
    }
}

pub(super) async fn write(store: &Store, writes: &Writes) -> Result<(), StoreError> {
    let mut batch = store.batch().await?;
    batch.write(writes, &|_, _| calendar(), NOW).await?;
    batch.commit().await
}

pub(super) fn user(name: &str) -> UserName {
    name.parse().expect("a user name")
}

/// The store compares stored passwords and never hashes, so any text will do.
pub(super) fn password(text: &str) -> StoredPassword {
    StoredPassword::from_phc(text.to_owned())
}

pub(super) fn pair(seed: &str) -> TokenPair {
    TokenPair {
        access: TokenDigest::of(&format!("access {seed}")),
        refresh: TokenDigest::of(&format!("refresh {seed}")),
    }
}
