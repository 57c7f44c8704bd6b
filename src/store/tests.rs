//! The contract: the same suite on a SQLite file and on a real PostgreSQL, every statement executed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::NaiveTime;
use chrono_tz::Tz;
use sqlx::{Connection, Executor};
use uuid::Uuid;

use super::{
    Changes, Expired, Heard, Log, LogLine, NewCharge, NewFailure, Store, StoreError, TokenPair, UsageQuery,
    sql::{Arg, Statement, statement},
};
use crate::{
    access::{Rights, Role, StoredPassword, TokenDigest, TokenKind, User, UserName},
    clock::WallTime,
    directory::Directory,
    directory::{
        entity::EntityKind,
        import::{self, Document, Place},
    },
    engine::{
        Visit,
        calendar::Calendar,
        decision::Reason,
        passes::{Counted, PassEnd, PassKind, PassPolicy, PassUse, Usage, Used, payg},
    },
    mac::MacAddr,
    record::{BusinessId, CheckinId, CheckinSource, CoworkerId, FailedCheckinId, Snapshot, TimePassId},
    settings::Database,
    sighting::{DoorKey, SightingKey},
};

/// Each test of the contract, once for each database.
macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::Fresh::sqlite().await).await; })+
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(super::Fresh::postgres().await).await; })+
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
    what_is_not_committed_never_happened,
    a_door_sighting_is_decided_once,
    a_frontier_is_the_last_that_the_log_knows,
    a_network_line_grows,
    a_nul_character_stops_nothing,
    a_key_that_spells_a_nul_character_stays_as_it_is,
    a_refresh_uses_up_no_number,
    what_has_expired_is_forgotten_for_one_business_only,
    a_repeated_failure_is_written_once,
    standings_hold_the_open_visit_however_old,
    standings_begin_with_the_visit_before_the_earliest_claim,
    heard_stretches_grow_and_are_forgotten,
    failed_devices_are_found_again,
    an_unrecognised_device_is_forgotten_with_its_line_of_the_log,
    an_import_is_loaded_and_counted,
    a_directory_of_many_is_read_in_pages,
    two_writers_do_not_both_open,
    a_second_opening_finds_the_schema_in_place,
    usage_is_summed_by_pass_person_and_pass_day,
    visits_that_are_decided_now_are_told_apart,
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
    let put = async |visit: &Visit| {
        let mut batch = fenced.batch().await?;
        let changes = Changes { new: vec![visit], ..Changes::default() };
        batch.put_visits(&changes, &calendar(), at(9000)).await?;
        batch.commit().await
    };
    put(&visit(1, 1000)).await.expect("the lease is ours");
    fresh.store.release_lease(site, first).await.expect("given back");
    put(&visit(2, 1000)).await.expect("nobody else has it");
    assert!(fresh.store.take_lease(site, "b", second).await.expect("taken"));
    let refused = put(&visit(3, 1000)).await.expect_err("somebody else has it");
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
    let opened = Visit { pass: Some(pass), ..visit(1, 1000) };
    let left = Visit {
        to: Some(at(5000)),
        auto_checkout: true,
        last_activity: at(4000),
        macs: BTreeSet::from([MacAddr::new([2, 0, 0, 0, 0, 1]), MacAddr::new([2, 0, 0, 0, 0, 2])]),
        door_in_at: Some(at(1001)),
        strong_at: Some(at(1002)),
        lingered_at: Some(at(5003)),
        ..opened.clone()
    };
    let without_pass = Visit { from: at(500), source: CheckinSource::NetworkActivity, pass: None, ..left.clone() };
    for (visit, changes) in [
        (&opened, Changes { new: vec![&opened], ..Changes::default() }),
        (&left, Changes { stays: vec![&left], ..Changes::default() }),
        (&without_pass, Changes { changed: vec![&without_pass], ..Changes::default() }),
    ] {
        let mut batch = fresh.store.batch().await.expect("begins");
        batch.put_visits(&changes, &calendar(), at(9)).await.expect("written");
        batch.commit().await.expect("committed");
        assert_eq!(fresh.standing(1).await, vec![visit.clone()]);
    }
}

async fn the_api_reads_what_the_engine_wrote(fresh: Fresh) {
    let visit = visit(1, 1_767_225_600_123);
    fresh.put(&[&visit]).await.expect("written");
    let open = fresh.store.open_checkins().await.expect("read");
    assert_eq!(open.len(), 1);
    let row = fresh.store.checkin(open[0].id).await.expect("read").expect("is there");
    assert_eq!(row, open[0]);
    assert_eq!((row.unique_id, row.coworker, row.from), (visit.unique_id, Some(CoworkerId(1)), visit.from));
    assert_eq!(row.then.full_name.as_deref(), Some("Coworker 1"));
    assert_eq!(row.from_local.map(|local| local.to_string()).as_deref(), Some("2026-01-01 00:00:00"));
    assert_eq!((row.updated_by.as_str(), row.to), ("checkind", None));
    assert_eq!(fresh.store.checkin(CheckinId(999)).await.expect("read"), None);
    assert_eq!(fresh.store.failed_checkin(FailedCheckinId(999)).await.expect("read"), None);
}

async fn there_is_at_most_one_open_visit_per_coworker_and_business(fresh: Fresh) {
    fresh.put(&[&visit(1, 1000)]).await.expect("the first");
    let second = fresh.put(&[&visit(1, 2000)]).await;
    assert!(matches!(second, Err(StoreError::Conflict)), "{second:?}");
    fresh.put(&[&visit(2, 2000)]).await.expect("another coworker");
    fresh.put(&[&Visit { business: BusinessId(2), ..visit(1, 3000) }]).await.expect("another business");
}

async fn somebody_may_leave_and_come_back_within_one_batch(fresh: Fresh) {
    let first = visit(1, 1000);
    fresh.put(&[&first]).await.expect("the first");
    let left = Visit { to: Some(at(2000)), ..first };
    let back = visit(1, 3000);
    let mut batch = fresh.store.batch().await.expect("begins");
    let changes = Changes { new: vec![&back], stays: vec![&left], ..Changes::default() };
    batch.put_visits(&changes, &calendar(), at(9)).await.expect("both");
    batch.commit().await.expect("committed");
    assert_eq!(fresh.standing(1).await, vec![left, back]);
}

async fn what_is_not_committed_never_happened(fresh: Fresh) {
    let mut batch = fresh.store.batch().await.expect("begins");
    batch.put_visits(&new(&[&visit(1, 1000)]), &calendar(), at(0)).await.expect("written");
    drop(batch);
    assert_eq!(fresh.standing(1).await, vec![]);
    fresh.put(&[&visit(1, 1000)]).await.expect("the writer is well");
}

async fn a_stretch_of_time_holds_what_began_in_it(fresh: Fresh) {
    let visits = [visit(1, 999), visit(2, 1000), visit(3, 1999), visit(4, 2000)];
    fresh.put(&visits.iter().collect::<Vec<_>>()).await.expect("written");
    let mut batch = fresh.store.batch().await.expect("begins");
    let failures = [999, 1000, 2000].map(|millis| NewFailure {
        unique_id: uuid(),
        attempt_at: at(millis),
        once_key: None,
        ..failure("")
    });
    batch.put_failures(&failures, &calendar(), at(3000)).await.expect("written");
    let door = Some("405419896:1".to_owned());
    let lines = [("a", 999), ("b", 1000), ("c", 2000)].map(|(key, millis)| LogLine {
        event_at: at(millis),
        door: door.clone(),
        credential: Some("8165538".to_owned()),
        coworker_id: Some(CoworkerId(7)),
        ..line(key, "granted")
    });
    batch.put_log(Log::of(lines.iter())).await.expect("written");
    batch.commit().await.expect("committed");

    let (here, from, to) = (BusinessId(1), at(1000), at(2000));
    let began = fresh.store.checkins_between(here, from, to).await.expect("read");
    assert_eq!(began.iter().map(|visit| visit.from).collect::<Vec<_>>(), [at(1000), at(1999)]);
    let failed = fresh.store.failed_checkins_between(here, from, to).await.expect("read");
    assert_eq!(failed.iter().map(|failed| failed.attempt_at).collect::<Vec<_>>(), [at(1000)]);
    let logged = fresh.store.sightings(here, from, to).await.expect("read");
    assert_eq!(logged.len(), 1);
    assert_eq!((&logged[0].door, logged[0].event_at), (&door.map(DoorKey), at(1000)));
    assert_eq!((logged[0].credential.as_deref(), logged[0].coworker), (Some("8165538"), Some(CoworkerId(7))));
    assert_eq!(fresh.store.checkins_between(BusinessId(2), from, to).await.expect("read"), []);
}

async fn a_door_sighting_is_decided_once(fresh: Fresh) {
    let mut batch = fresh.store.batch().await.expect("begins");
    let (one, two) = (SightingKey("front/1".to_owned()), SightingKey("front/2".to_owned()));
    assert_eq!(decided(&mut batch, &[&one, &two], BusinessId(1)).await, BTreeSet::new());
    batch.put_log(Log::of([line("front/1", "granted")].iter())).await.expect("written");
    batch.commit().await.expect("committed");

    let mut batch = fresh.store.batch().await.expect("begins");
    assert_eq!(decided(&mut batch, &[&one, &two, &one], BusinessId(1)).await, BTreeSet::from([one.clone()]));
    let elsewhere = decided(&mut batch, &[&one], BusinessId(2)).await;
    assert!(elsewhere.is_empty(), "another business may use the same names");
    let again = batch.put_log(Log::of([line("front/1", "granted")].iter())).await;
    assert!(matches!(again, Err(StoreError::Conflict)), "another gateway was faster: {again:?}");
}

async fn decided(batch: &mut super::Batch, keys: &[&SightingKey], business: BusinessId) -> BTreeSet<SightingKey> {
    batch.known(keys, &[CoworkerId(1)], business, at(10_000), at(0)).await.expect("asked").decided
}

async fn a_frontier_is_the_last_that_the_log_knows(fresh: Fresh) {
    let of = |coworker, millis| LogLine {
        coworker_id: Some(CoworkerId(coworker)),
        claim: Some("entry".into()),
        last_at: at(millis),
        ..line(&format!("{coworker}/{millis}"), "granted")
    };
    let mute = LogLine { claim: None, ..of(1, 9000) };
    let timer = LogLine { claim: None, ..of(3, 7000) };
    let timer = LogLine { kind: crate::store::TIMER.into(), ..timer };
    let elsewhere = LogLine { business_id: BusinessId(2), ..of(1, 9500) };
    let first = vec![of(1, 3000), of(1, 1000), of(2, 8000), mute, timer, elsewhere];
    for lines in [first, vec![of(1, 2000), of(2, 4000)]] {
        let mut batch = fresh.store.batch().await.expect("begins");
        batch.put_log(Log::of(lines.iter())).await.expect("written");
        batch.commit().await.expect("committed");
    }
    let frontiers = async |horizon: i64, too_old: i64| {
        let mut batch = fresh.store.batch().await.expect("begins");
        let everybody = [1, 2, 3, 4].map(CoworkerId);
        let found = batch.known(&[], &everybody, BusinessId(1), at(horizon), at(too_old)).await.expect("asked");
        found.frontiers.into_iter().map(|(coworker, last)| (coworker.0, last)).collect::<Vec<_>>()
    };
    let known = |known: [(i64, i64); 3]| known.map(|(coworker, last)| (coworker, at(last))).to_vec();
    assert_eq!(frontiers(10_000, 0).await, known([(1, 3000), (2, 8000), (3, 7000)]));
    assert_eq!(frontiers(7500, 0).await, known([(1, 3000), (2, 4000), (3, 7000)]), "beyond, the log is searched");
    assert_eq!(frontiers(7500, 5000).await, [(1, at(3000)), (3, at(7000))], "as far back as anything is decided");

    let mut batch = fresh.store.batch().await.expect("begins");
    batch.spoil(&BTreeMap::from([(CoworkerId(2), at(5000))]), BusinessId(1)).await.expect("spoilt");
    batch.commit().await.expect("committed");
    assert_eq!(frontiers(10_000, 0).await, known([(1, 3000), (2, 4999), (3, 7000)]), "what is spoilt is nothing known");
    if fresh.store.is_shared() {
        let forgotten = super::sql::Statement { sqlite: "", postgres: "DELETE FROM frontiers WHERE coworker_id = 1" };
        fresh.store.sql.change(forgotten, &[]).await.expect("deleted");
        fresh.store.catch_up(BusinessId(1), at(3000)).await.expect("asked");
        let all = known([(1, 3000), (2, 4999), (3, 7000)]);
        assert_eq!(frontiers(10_000, 0).await, all, "of a version that knew of none");
    }
    assert_eq!(fresh.store.forget(Expired::Sightings, BusinessId(1), at(4000)).await.expect("asked"), 8);
    assert_eq!(frontiers(10_000, 0).await[..], known([(1, 3000), (2, 4999), (3, 7000)])[1..]);
}

async fn a_network_line_grows(fresh: Fresh) {
    for last in [1000, 2000] {
        let mut batch = fresh.store.batch().await.expect("begins");
        let line = LogLine { last_at: at(last), frames: 2, ..line("net/eth1/x", "network") };
        batch.put_log(Log::of([line].iter())).await.expect("written");
        batch.commit().await.expect("committed");
    }
    let row = fresh.one("SELECT last_at, frames, event_at FROM sightings").await;
    assert_eq!((row.time("last_at").expect("time"), row.int("frames").expect("number")), (at(2000), 4));
    assert_eq!(row.time("event_at").expect("time"), at(1000));
}

async fn a_nul_character_stops_nothing(fresh: Fresh) {
    let line = LogLine { credential: Some("12\u{0}34".to_owned()), ..line("front/nul", "granted") };
    let mut batch = fresh.store.batch().await.expect("begins");
    batch.put_log(Log::of([line].iter())).await.expect("written");
    batch.commit().await.expect("committed");
    let row = fresh.one("SELECT credential FROM sightings").await;
    assert_eq!(row.text("credential").expect("text"), "12\u{fffd}34");
}

async fn a_key_that_spells_a_nul_character_stays_as_it_is(fresh: Fresh) {
    let key = SightingKey(r"front/\u0000".to_owned());
    let mut batch = fresh.store.batch().await.expect("begins");
    batch.put_log(Log::of([line(&key.0, "granted")].iter())).await.expect("written");
    batch.commit().await.expect("committed");
    let mut batch = fresh.store.batch().await.expect("begins");
    assert_eq!(decided(&mut batch, &[&key], BusinessId(1)).await, BTreeSet::from([key.clone()]));
}

async fn a_refresh_uses_up_no_number(fresh: Fresh) {
    let first = visit(1, 1000);
    fresh.put(&[&first]).await.expect("written");
    for later in 2000..2010 {
        let refreshed = Visit { last_activity: at(later), ..first.clone() };
        let mut batch = fresh.store.batch().await.expect("begins");
        let changes = Changes { stays: vec![&refreshed], ..Changes::default() };
        batch.put_visits(&changes, &calendar(), at(later)).await.expect("changed");
        batch.commit().await.expect("committed");
    }
    fresh.put(&[&visit(2, 3000)]).await.expect("written");
    assert_eq!(fresh.one("SELECT max(id) AS id FROM checkins").await.int("id").expect("a number"), 2);
}

async fn what_has_expired_is_forgotten_for_one_business_only(fresh: Fresh) {
    let here = Visit { to: Some(at(2000)), ..visit(1, 1000) };
    let open = visit(2, 1000);
    let there = Visit { to: Some(at(2000)), business: BusinessId(2), ..visit(1, 1000) };
    fresh.put(&[&here, &open, &there]).await.expect("written");
    let mut batch = fresh.store.batch().await.expect("begins");
    let stranger = LogLine { reason: Some("unrecognised_device".into()), ..line("network/x", "network") };
    batch.put_log(Log::of([line("front/1", "granted"), stranger].iter())).await.expect("written");
    batch.put_failures(&[failure("a")], &calendar(), at(9)).await.expect("written");
    batch.commit().await.expect("committed");
    for (what, rows) in [
        (Expired::Checkins, 1),
        (Expired::UnrecognisedDevices, 2),
        (Expired::Sightings, 1),
        (Expired::FailedCheckins, 0),
        (Expired::Heard, 0),
    ] {
        assert_eq!(fresh.store.forget(what, BusinessId(1), at(5000)).await.expect("asked"), rows, "{what:?}");
    }
    assert_eq!(fresh.one("SELECT count(*) AS n FROM checkins").await.int("n").expect("a number"), 2);
}

async fn a_repeated_failure_is_written_once(fresh: Fresh) {
    let failure = failure("day/mac");
    let other = NewFailure { unique_id: uuid(), once_key: None, ..failure.clone() };
    let again = NewFailure { unique_id: uuid(), ..failure.clone() };
    let mut batch = fresh.store.batch().await.expect("begins");
    let written = batch.put_failures(&[failure.clone(), other.clone()], &calendar(), at(9)).await.expect("written");
    assert_eq!(written, BTreeSet::from([failure.unique_id, other.unique_id]));
    let written = batch.put_failures(&[again], &calendar(), at(9)).await.expect("written");
    assert_eq!(written, BTreeSet::new());
    batch.commit().await.expect("committed");
    let id = fresh.one("SELECT id FROM failed_checkins ORDER BY id LIMIT 1").await.int("id").expect("id");
    let row = fresh.store.failed_checkin(FailedCheckinId(id)).await.expect("read").expect("is there");
    assert_eq!(row.description.as_deref(), Some("unrecognised_device: no coworker has a device with this MAC address"));
    assert_eq!((row.unique_id, row.coworker, row.attempt_at), (failure.unique_id, None, at(1000)));
}

async fn standings_hold_the_open_visit_however_old(fresh: Fresh) {
    let old = Visit { to: Some(at(1500)), ..visit(1, 1000) };
    let open = visit(1, 2000);
    let new = Visit { to: Some(at(9000)), ..visit(2, 8000) };
    fresh.put(&[&old, &open, &new]).await.expect("written");
    let mut batch = fresh.store.batch().await.expect("begins");
    let claimed = BTreeMap::from([1, 2, 3].map(|id| (CoworkerId(id), at(9000))));
    let standings = batch.standings(&claimed, BusinessId(1), at(7000)).await.expect("asked");
    assert_eq!(standings[&CoworkerId(1)].visits(), std::slice::from_ref(&open));
    assert_eq!(standings[&CoworkerId(2)].visits(), [new]);
    assert!(standings[&CoworkerId(3)].visits().is_empty());
    drop(batch);
    let mut told = Vec::new();
    fresh.store.open_visits(BusinessId(1), |visit| told.push(visit.clone())).await.expect("asked");
    assert_eq!(told, [open]);
}

async fn standings_begin_with_the_visit_before_the_earliest_claim(fresh: Fresh) {
    let day: Vec<Visit> =
        (1..=4).map(|hour| Visit { to: Some(at(hour * 1000 + 500)), ..visit(1, hour * 1000) }).collect();
    fresh.put(&day.iter().collect::<Vec<_>>()).await.expect("written");
    let mut batch = fresh.store.batch().await.expect("begins");
    for (earliest, since, first) in
        [(9000, 0, 4), (3000, 0, 3), (2999, 0, 2), (500, 0, 1), (3999, 2500, 3), (2600, 2500, 3)]
    {
        let claimed = BTreeMap::from([(CoworkerId(1), at(earliest))]);
        let standings = batch.standings(&claimed, BusinessId(1), at(since)).await.expect("asked");
        assert_eq!(standings[&CoworkerId(1)].visits(), &day[first - 1..], "{earliest} {since}");
    }
}

async fn heard_stretches_grow_and_are_forgotten(fresh: Fresh) {
    let (id, business) = (uuid(), BusinessId(1));
    fresh.store.put_heard(id, business, Heard { from: at(1000), to: at(2000) }).await.expect("written");
    fresh.store.put_heard(id, business, Heard { from: at(1000), to: at(3000) }).await.expect("written");
    fresh.store.put_heard(uuid(), business, Heard { from: at(5000), to: at(6000) }).await.expect("written");
    let all = fresh.store.heard(business, at(0)).await.expect("asked");
    assert_eq!(all, [Heard { from: at(1000), to: at(3000) }, Heard { from: at(5000), to: at(6000) }]);
    assert_eq!(fresh.store.heard(business, at(4000)).await.expect("asked").len(), 1);
    assert_eq!(fresh.store.heard(business, at(0)).await.expect("asked").len(), 1, "the older one is forgotten");
}

async fn failed_devices_are_found_again(fresh: Fresh) {
    let mut batch = fresh.store.batch().await.expect("begins");
    batch.put_failures(&[failure("a")], &calendar(), at(9)).await.expect("written");
    batch.commit().await.expect("committed");
    let ask = |since| fresh.store.failed_devices(BusinessId(1), since, Reason::UnrecognisedDevice, 10);
    assert_eq!(ask(at(1000)).await.expect("asked"), BTreeSet::from([MacAddr::new([2, 0, 0, 0, 0, 9])]));
    assert!(ask(at(1001)).await.expect("asked").is_empty());
}

async fn an_unrecognised_device_is_forgotten_with_its_line_of_the_log(fresh: Fresh) {
    let mac = Some(MacAddr::new([2, 0, 0, 0, 0, 9]));
    let stranger = Reason::UnrecognisedDevice.code();
    let lines = [
        LogLine { mac, reason: Some(stranger.into()), ..line("net/eth1/stranger", "network") },
        LogLine { mac, coworker_id: Some(CoworkerId(1)), ..line("net/eth1/member", "network") },
    ];
    let mut batch = fresh.store.batch().await.expect("begins");
    batch.put_failures(&[failure("a")], &calendar(), at(9)).await.expect("written");
    batch.put_log(Log::of(lines.iter())).await.expect("written");
    batch.commit().await.expect("committed");

    let forget = |before| fresh.store.forget(Expired::UnrecognisedDevices, BusinessId(1), before);
    assert_eq!(forget(at(1000)).await.expect("asked"), 0, "it is not older than that");
    assert_eq!(forget(at(1001)).await.expect("asked"), 2);
    let left = fresh.one("SELECT COUNT(*) AS n, MAX(key) AS key FROM sightings").await;
    assert_eq!((left.int("n").expect("number"), left.text("key").expect("text")), (1, "net/eth1/member".to_owned()));
    assert_eq!(fresh.one("SELECT COUNT(*) AS n FROM failed_checkins").await.int("n").expect("number"), 0);
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
        basis: None,
        place: Place::Stored,
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

async fn two_writers_do_not_both_open(fresh: Fresh) {
    let other = Store::open(&fresh.database).await.expect("a second gateway");
    let open = |store: Store, from| async move {
        let mut batch = store.batch().await?;
        batch.put_visits(&new(&[&visit(1, from)]), &calendar(), at(0)).await?;
        batch.commit().await
    };
    let (one, two) = tokio::join!(open(fresh.store.clone(), 1000), open(other, 2000));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    assert_eq!(fresh.standing(1).await.len(), 1);
}

async fn a_second_opening_finds_the_schema_in_place(fresh: Fresh) {
    fresh.put(&[&visit(1, 1000)]).await.expect("written");
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

const ADAS: Uuid = Uuid::from_u128(0x8000_8000_0000_0000_0051);

const HOUR: i64 = 3_600_000;

async fn usage_is_summed_by_pass_person_and_pass_day(fresh: Fresh) {
    // What was left was said at 40 o'clock, counted from the epoch: within the second day.
    let directory = fresh.imports(PASSES, 40 * HOUR).await;
    for (coworker, from, to) in
        [(1, 30, Some(31)), (1, 39, Some(41)), (1, 42, Some(44)), (2, 43, None), (1, 50, Some(51)), (9, 45, Some(46))]
    {
        fresh.with_pass(coworker, 2, from, to).await;
    }
    let used = |coworker, day: i64, first: i64, hours: u64, open: Option<i64>| Used {
        coworker: CoworkerId(coworker),
        day: at(day * HOUR),
        first: at(first * HOUR),
        seconds: hours * 3600,
        open: open.map(|open| at(open * HOUR)),
        again: false,
    };
    let mut usage = fresh.usage(&directory, &[(1, 60)]).await;
    let mut rows = usage.passes.remove(&ADAS).expect("Ada's pass is used");
    rows.sort_by_key(|used| (used.coworker, used.day));
    // The visit that ended before the import is in what it said; the one that was under way is not.
    let expected =
        [used(1, 24, 30, 4, None), used(1, 48, 50, 1, None), used(2, 24, 43, 0, Some(43)), used(9, 24, 45, 1, None)];
    assert_eq!(rows, expected);
    let counted = |day: i64, hours: u64| Counted { day: at(day * HOUR), seconds: hours * 3600, open: None };
    let mut days = usage.people.remove(&CoworkerId(1)).expect("Ada has a limit");
    days.sort_by_key(|counted| counted.day);
    assert_eq!(days, [counted(24, 5), counted(48, 1)]);
    assert_eq!(usage, Usage::default(), "nothing of anybody else");
}

async fn visits_that_are_decided_now_are_told_apart(fresh: Fresh) {
    let directory = fresh.imports(PASSES, 0).await;
    for (coworker, business, from) in [(1, 1, 30), (1, 1, 32), (1, 2, 34), (2, 1, 36), (2, 1, 40)] {
        fresh.with_pass(coworker, business, from, Some(from + 1)).await;
    }
    let hours = |usage: &Usage, again: bool| {
        let used = || usage.passes.get(&ADAS).into_iter().flatten().filter(|used| used.again == again);
        let of = |id| {
            used().filter(move |used| used.coworker == CoworkerId(id)).map(|used| used.seconds / 3600).sum::<u64>()
        };
        [1, 2].map(of)
    };
    for (asked, expected, again, counted) in [
        (&[(1, 50)][..], [3, 2], [0, 0], 3),
        (&[(1, 32)], [2, 2], [1, 0], 2),
        (&[(1, 30)], [1, 2], [2, 0], 1),
        (&[(1, 33), (2, 40)], [3, 1], [0, 1], 3),
        (&[(1, 31), (2, 35)], [2, 0], [1, 2], 2),
    ] {
        let usage = fresh.usage(&directory, asked).await;
        assert_eq!(hours(&usage, false), expected, "{asked:?}");
        // For the others who share the pass they are as they were.
        assert_eq!(hours(&usage, true), again, "{asked:?}");
        let days = usage.people.get(&CoworkerId(1)).into_iter().flatten();
        assert_eq!(days.map(|day| day.seconds / 3600).sum::<u64>(), counted, "{asked:?}");
    }
}

async fn charges_are_replaced_and_taken_back(fresh: Fresh) {
    let directory = fresh.imports(PASSES, 0).await;
    let charge = |checkin, from: i64, to: Option<i64>, amount| NewCharge {
        checkin: Uuid::from_u128(checkin),
        coworker: CoworkerId(1),
        business: BusinessId(1),
        time_pass: TimePassId(3),
        pass_day: at(24 * HOUR),
        from: at(from * HOUR),
        to: to.map(|to| at(to * HOUR)),
        charge: payg::Charge {
            minutes: 15,
            unbounded: amount + 1,
            amount,
            currency: "EUR".parse().expect("a currency"),
        },
    };
    let put = async |charges: &[NewCharge]| {
        let mut batch = fresh.store.batch().await.expect("begins");
        batch.put_charges(charges, at(9)).await.expect("written");
        batch.commit().await.expect("committed");
    };
    put(&[charge(1, 30, None, 100), charge(2, 34, Some(35), 200)]).await;
    put(&[charge(1, 30, Some(33), 700)]).await;
    let row = fresh.one("SELECT amount, minutes, currency, final FROM payg_charges ORDER BY from_time LIMIT 1").await;
    assert_eq!((row.int("amount").expect("a number"), row.text("currency").expect("text")), (700, "EUR".to_owned()));
    assert!(row.bool("final").expect("a truth"));
    let day = (CoworkerId(1), at(24 * HOUR));
    for (earliest, sum) in [(40, Some((902, 900))), (34, Some((701, 700))), (30, None)] {
        let usage = fresh.usage(&directory, &[(1, earliest)]).await;
        let charged = usage.charges.get(&day).map(|charged| (charged.unbounded, charged.amount));
        assert_eq!(charged, sum, "{earliest}");
    }
    let mut batch = fresh.store.batch().await.expect("begins");
    batch.delete_charges(&[Uuid::from_u128(1), Uuid::from_u128(9)]).await.expect("deleted");
    batch.commit().await.expect("committed");
    assert_eq!(fresh.one("SELECT count(*) AS n FROM payg_charges").await.int("n").expect("a number"), 1);
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
}

async fn two_gateways_that_spend_one_pass_wait_for_each_other(fresh: Fresh) {
    let directory = fresh.imports(PASSES, 0).await;
    let policy = PassPolicy::default();
    let mut first = fresh.store.batch().await.expect("begins");
    first.lock_passes(&directory, &policy, [CoworkerId(1)]).await.expect("locked");
    let second = async {
        let mut second = fresh.store.batch().await.expect("begins");
        // Bob may use Ada's pass, because they share a team.
        second.lock_passes(&directory, &policy, [CoworkerId(2)]).await.expect("locked");
        second.commit().await.expect("committed");
    };
    tokio::pin!(second);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut second).await;
    assert!(early.is_err(), "the second did not wait");
    first.commit().await.expect("committed");
    second.await;
}

#[tokio::test]
async fn a_sqlite_file_in_a_folder_that_does_not_exist_says_what_to_do() {
    let error = Store::open(&Database::Sqlite { path: "/nonexistent/checkind.db".into() }).await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the database cannot be used: /nonexistent/checkind.db cannot be opened; its folder must exist and be writable by this user"
    );
}

/// What every batch asks must find its rows by an index, however many there are.
#[tokio::test]
async fn no_question_of_a_batch_walks_a_table() {
    let fresh = Fresh::sqlite().await;
    let asked = super::batch::questions().into_iter().chain(super::batch::LATE);
    for (question, arguments) in asked.chain(super::passes::questions()) {
        for step in fresh.plan(question, arguments).await.lines() {
            // The rows of the batch itself, and what was found by an index.
            let small = ["SCAN r", "SCAN jsonb_each", "SCAN (subquery", "SCAN CONSTANT ROW"]
                .iter()
                .any(|few| step.starts_with(few));
            assert!(small || !step.starts_with("SCAN"), "{step}: {}", question.sqlite);
        }
    }
}

/// The indexes that the questions about passes, and of what comes late, are made for.
#[tokio::test]
async fn what_is_asked_by_pass_or_by_time_is_found_by_its_index() {
    let fresh = Fresh::sqlite().await;
    let indexes = ["checkins_by_pass", "checkins_by_limit", "payg_charges_by_coworker"];
    let passes = super::passes::questions().into_iter().zip(indexes);
    let late = super::batch::LATE.into_iter().zip(["sightings_by_last"; super::batch::LATE.len()]);
    for ((question, arguments), index) in passes.chain(late) {
        let plan = fresh.plan(question, arguments).await.replace("USING COVERING INDEX", "USING INDEX");
        assert!(plan.contains(&format!("USING INDEX {index} ")), "{index}: {plan}");
    }
}

fn at(millis: i64) -> WallTime {
    WallTime::from_millis(millis)
}

fn uuid() -> Uuid {
    crate::random::uuid()
}

fn calendar() -> Calendar {
    Calendar { zone: Tz::Europe__London, cut_off: NaiveTime::MIN }
}

fn visit(coworker: i64, from: i64) -> Visit {
    Visit {
        unique_id: uuid(),
        coworker: CoworkerId(coworker),
        business: BusinessId(1),
        business_name: Some("Hub One".to_owned()),
        then: Snapshot {
            full_name: Some(format!("Coworker {coworker}")),
            teams: None,
            tariff: Some("Full time".to_owned()),
        },
        source: CheckinSource::DoorAccess,
        from: at(from),
        to: None,
        auto_checkout: false,
        last_activity: at(from),
        macs: BTreeSet::new(),
        door_in_at: None,
        strong_at: None,
        lingered_at: None,
        pass: None,
    }
}

fn failure(once: &str) -> NewFailure {
    NewFailure {
        unique_id: uuid(),
        coworker: None,
        then: Snapshot::default(),
        business: BusinessId(1),
        business_name: None,
        attempt_at: at(1000),
        source: CheckinSource::NetworkActivity,
        mac: Some(MacAddr::new([2, 0, 0, 0, 0, 9])),
        reason: Reason::UnrecognisedDevice,
        detail: None,
        once_key: Some(once.to_owned()),
    }
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

fn new<'a>(visits: &[&'a Visit]) -> Changes<'a> {
    Changes { new: visits.to_vec(), ..Changes::default() }
}

fn line(key: &str, kind: &'static str) -> LogLine {
    LogLine {
        key: SightingKey(key.to_owned()),
        business_id: BusinessId(1),
        source: "front".to_owned(),
        door: None,
        kind: kind.into(),
        direction: None,
        credential: None,
        mac: None,
        coworker_id: None,
        event_at: at(1000),
        last_at: at(1000),
        strong_at: None,
        time_quality: "arrival".into(),
        received_at: at(1000),
        decision: "recorded".into(),
        claim: None,
        points: None,
        directory_version: None,
        reason: None,
        checkin: None,
        frames: 0,
    }
}

/// A database of its own for one test.
/// An empty database of a test's own.
pub(crate) struct Fresh {
    pub(crate) store: Store,
    database: Database,
    _folder: tempfile::TempDir,
}

impl Fresh {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::open(Database::Sqlite { path: folder.path().join("checkind.db") }, folder).await
    }

    /// A new database on the server that `tests/run` started and named in `CHECKIND_TEST_POSTGRES`.
    #[expect(clippy::disallowed_methods, reason = "tests/run tells the tests where its server is")]
    pub(crate) async fn postgres() -> Self {
        let server = std::env::var("CHECKIND_TEST_POSTGRES")
            .expect("CHECKIND_TEST_POSTGRES names no PostgreSQL server; start the tests with tests/run");
        let name = format!("contract_{}", uuid().simple());
        let mut admin = sqlx::PgConnection::connect(&format!("{server}/postgres")).await.expect("the server answers");
        admin.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a new database");
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::open(Database::Postgres { url: format!("{server}/{name}"), password: None }, folder).await
    }

    async fn open(database: Database, folder: tempfile::TempDir) -> Self {
        let store = Store::open(&database).await.expect("opens");
        Self { store, database, _folder: folder }
    }

    async fn put(&self, visits: &[&Visit]) -> Result<(), StoreError> {
        let mut batch = self.store.batch().await?;
        batch.put_visits(&new(visits), &calendar(), at(0).plus(Duration::from_secs(1))).await?;
        batch.commit().await
    }

    /// How SQLite goes about a question, a step a line.
    async fn plan(&self, question: Statement, arguments: usize) -> String {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", question.sqlite));
        let Database::Sqlite { path } = &self.database else { unreachable!("a SQLite test") };
        let mut connection =
            sqlx::SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.expect("opens");
        let mut query = sqlx::query(explain);
        for _ in 0..arguments {
            query = query.bind("[]");
        }
        let steps = query.fetch_all(&mut connection).await.expect("explains");
        steps.iter().map(|step| sqlx::Row::get::<String, _>(step, "detail") + "\n").collect()
    }

    /// Imports a site as if at this time.
    async fn imports(&self, site: &str, now: i64) -> Directory {
        let key = self.store.pin_key().await.expect("drawn");
        let documents = import::read_json(site, &key).expect("reads").documents;
        let version = self.store.directory_version().await.expect("asked");
        self.store.import(&documents, version, at(now), |_| {}).await.expect("imported");
        self.store.load_directory().await.expect("loaded")
    }

    /// A visit with Ada's pass that counts, from one hour to another.
    async fn with_pass(&self, coworker: i64, business: i64, from: i64, to: Option<i64>) {
        const MARK: Statement = statement!(
            rows(id uuid, guid uuid, pass_day timestamptz, seconds bigint)
            "UPDATE checkins SET coworker_time_pass_guid = r.guid, counts_towards_plan_limits = TRUE,
               pass_day = r.pass_day, seconds = r.seconds FROM r WHERE unique_id = r.id"
        );
        let to = to.map(|to| at(to * HOUR));
        let visit = Visit { business: BusinessId(business), to, ..visit(coworker, from * HOUR) };
        self.put(&[&visit]).await.expect("written");
        let seconds = to.map(|to| to.since(visit.from).as_secs());
        let day = at(from / 24 * 24 * HOUR);
        let row = serde_json::json!({"id": visit.unique_id, "guid": ADAS, "pass_day": day, "seconds": seconds});
        self.store.sql.change(MARK, &[Arg::rows(&[row])]).await.expect("marked");
    }

    /// What business 1 is told of people whose visits from an hour on are decided now, on UTC's days.
    async fn usage(&self, directory: &Directory, people: &[(i64, i64)]) -> Usage {
        let people = people.iter().map(|(id, from)| (CoworkerId(*id), at(from * HOUR))).collect();
        let calendar = Calendar { zone: Tz::UTC, cut_off: NaiveTime::MIN };
        let policy = PassPolicy::default();
        let query =
            UsageQuery { directory, policy: &policy, calendar: &calendar, business: BusinessId(1), people: &people };
        let mut batch = self.store.batch().await.expect("begins");
        let usage = batch.usage(&query).await.expect("asked");
        drop(batch);
        assert_eq!(self.store.usage(&query).await.expect("asked"), usage, "outside a transaction");
        usage
    }

    async fn standing(&self, coworker: i64) -> Vec<Visit> {
        let mut batch = self.store.batch().await.expect("begins");
        let who = BTreeMap::from([(CoworkerId(coworker), at(0))]);
        let standings = batch.standings(&who, BusinessId(1), at(0)).await.expect("asked");
        standings[&CoworkerId(coworker)].visits().to_vec()
    }

    /// Waits until so many transactions wait for a row of this PostgreSQL database.
    pub(crate) async fn until_wait(&self, many: i64) {
        let asked = "SELECT count(*) AS many FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let wait = async {
            while self.one(asked).await.int("many").expect("a number") < many {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("somebody holds the row");
    }

    async fn one(&self, sql: &'static str) -> super::sql::Row {
        let statement = super::sql::Statement { sqlite: sql, postgres: sql };
        self.store.sql.read(statement, &[]).await.expect("read").pop().expect("a row")
    }
}
