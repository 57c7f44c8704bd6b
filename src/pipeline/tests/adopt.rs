//! Adopts a database of an earlier version: records stay as they are, and open visits continue.

use std::{borrow::Cow, fmt::Write as _, time::Duration};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use tokio_util::sync::CancellationToken;

use super::{
    gateway::{Gateway, at, site},
    hub::{Hub, PHONE, directory},
};
use crate::base::zone::Zone;
use crate::{
    base::{
        clock::{BootTime, Now, WallTime},
        record::BusinessId,
        sighting::{
            Credential, CredentialKind, Direction, DoorEvent, DoorEventKind, DoorKey, Presence, Refusal, Sighting,
            SightingKey, TimeQuality,
        },
    },
    directory::entity::EntityKind,
    engine::decision::Outcome,
    mapping::content::Content,
    pipeline::Pipeline,
    policy::door::{Door, DoorAction},
    settings::{Database, DatabaseTls},
    source::{Delivery, Receipt},
    store::Store,
};

/// A Tuesday.
const NOW: &str = "2026-03-03T12:00:00Z";

const ADA: i64 = 7;
const BOB: i64 = 8;
const CLEO: i64 = 9;
const DAN: i64 = 10;
const EVE: i64 = 11;
const FAY: i64 = 12;
const GUS: i64 = 13;
const HAL: i64 = 14;

const HAL_S_PHONE: &str = "3c:22:fb:00:00:0e";

macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::Old::sqlite().await).await; })+
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(super::Old::postgres().await).await; })+
        }
    };
}

on_both!(
    records_stay_as_they_are_and_are_taken_over_once,
    an_empty_database_has_nothing_to_take_over,
    an_exit_ends_the_visit_that_was_open,
    silence_ends_the_visit_that_was_open,
    the_last_presence_keeps_the_visit_open,
    the_cut_off_ends_the_visit_and_its_charge_is_final,
    the_rest_of_the_minutes_is_used_up,
    a_late_exit_of_the_day_before_changes_that_visit_only,
    a_late_entry_of_the_day_before_is_decided_among_its_facts,
    a_late_exit_before_the_silence_of_the_day_before_counts,
    a_visit_that_was_open_at_midnight_can_end_before_it,
    a_message_that_comes_again_is_a_duplicate,
    a_credential_that_the_old_log_hides_does_no_harm_when_it_comes_again,
    minutes_of_a_shared_pass_stay_used,
    hours_of_a_plan_stay_used,
    days_of_a_day_pass_stay_used,
    a_device_that_was_refused_today_is_not_refused_again,
    a_person_who_was_in_at_two_sites_is_out_in_time,
    the_log_is_read_as_before,
);

async fn records_stay_as_they_are_and_are_taken_over_once(mut old: Old) {
    everything(&mut old).await;
    let before = old.records().await;
    assert!(before.len() > 12, "{before:?}");
    let hub = old.start().await;
    let open = old.rows("standings", &["subject"], "deadline IS NOT NULL").await;
    assert_eq!(open, ["7", "8", "10"]);
    assert_eq!(old.records().await, before);
    assert!(!hub.gateway.pipeline.context.store.has_old_log().await.expect("answered"));
    let facts = old.rows("facts", &["day", "subject", "at", "decision"], "true").await;
    let states = old.rows("standings", &["subject", "folded_at"], "true").await;
    drop(hub);
    let again = old.start().await;
    assert_eq!(old.rows("facts", &["day", "subject", "at", "decision"], "true").await, facts);
    assert_eq!(old.rows("standings", &["subject", "folded_at"], "true").await, states);
    assert_eq!(again.gateway.pipeline.present.len(), 3);
}

async fn an_empty_database_has_nothing_to_take_over(old: Old) {
    let hub = old.start().await;
    assert!(!hub.gateway.pipeline.context.store.has_old_log().await.expect("answered"));
    assert_eq!(old.records().await, [""; 0]);
}

async fn an_exit_ends_the_visit_that_was_open(mut old: Old) {
    everything(&mut old).await;
    let mut hub = old.start().await;
    let before = old.rows("checkins", &["id", "unique_id", "from_time"], "coworker_id = 8").await;
    hub.deliver("8165608", "main", EXIT, now().moved(0)).await;
    assert_eq!(hub.visits_of(BOB).await, ["09:00-10:00 Time", "11:30-12:00 Time"]);
    assert_eq!(old.rows("checkins", &["id", "unique_id", "from_time"], "coworker_id = 8").await, before);
}

async fn silence_ends_the_visit_that_was_open(mut old: Old) {
    everything(&mut old).await;
    let mut hub = old.start().await;
    // Last seen at 11:50, with coverage since 08:00.
    hub.gateway.pass(Duration::from_mins(34)).await;
    assert_eq!(hub.visits_of(ADA).await, ["08:00-17:00 Time", "09:00- Time"]);
    hub.gateway.pass(Duration::from_mins(3)).await;
    assert_eq!(hub.visits_of(ADA).await, ["08:00-17:00 Time", "09:00-11:50 Time auto"]);
}

async fn the_last_presence_keeps_the_visit_open(mut old: Old) {
    everything(&mut old).await;
    let mut hub = old.start().await;
    hub.gateway.pass(Duration::from_mins(30)).await;
    let presence = hub.phone();
    hub.gateway.settle(Vec::new(), vec![presence]).await;
    hub.gateway.pass(Duration::from_mins(40)).await;
    assert_eq!(hub.visits_of(ADA).await, ["08:00-17:00 Time", "09:00- Time"]);
    hub.gateway.pass(Duration::from_mins(10)).await;
    assert_eq!(hub.visits_of(ADA).await, ["08:00-17:00 Time", "09:00-12:30 Time auto"]);
}

async fn the_cut_off_ends_the_visit_and_its_charge_is_final(mut old: Old) {
    everything(&mut old).await;
    let mut hub = old.start().await;
    hub.gateway.pass(Duration::from_hours(13)).await;
    assert_eq!(hub.visits_of(DAN).await, ["11:00-00:00 PayAsYouGo auto"]);
    let charges = old.rows("payg_charges", &["id", "minutes", "amount", "checkin", "final"], "coworker_id = 10").await;
    let of_the_visit = format!("1|780|7800|{}|", id(103));
    assert!(matches!(charges.as_slice(), [charge] if charge.starts_with(&of_the_visit)), "{charges:?}");
    let last = charges.last().and_then(|charge| charge.rsplit('|').next().map(ToOwned::to_owned));
    assert!(matches!(last.as_deref(), Some("1" | "true")), "{charges:?}");
}

async fn the_rest_of_the_minutes_is_used_up(mut old: Old) {
    everything(&mut old).await;
    let mut hub = old.start().await;
    hub.gateway.pass(Duration::from_mins(15)).await;
    assert_eq!(hub.visits_of(BOB).await, ["09:00-10:00 Time", "11:30-12:10 Time auto", "12:10- PayAsYouGo"]);
    hub.deliver("8165608", "main", EXIT, now().moved(20 * 60_000)).await;
    hub.gateway.pass(Duration::from_mins(30)).await;
    hub.deliver("8165608", "main", ENTRY, now().moved(30 * 60_000)).await;
    assert_eq!(hub.visits_of(BOB).await.last().map(String::as_str), Some("12:30- PayAsYouGo"));
}

async fn a_late_exit_of_the_day_before_changes_that_visit_only(mut old: Old) {
    everything(&mut old).await;
    let before = old.rows("checkins", &["id", "coworker_id", "from_time"], "true").await;
    let failed = old.rows("failed_checkins", &["coworker_id", "checkin_attempt_time", "code"], "true").await;
    let mut hub = old.start().await;
    hub.deliver("8165609", "main", EXIT, at("2026-03-02T16:00:00Z")).await;
    assert_eq!(hub.visits_of(CLEO).await, ["09:00-16:00 Day", "08:30-10:30 Day"]);
    assert_eq!(old.rows("checkins", &["id", "coworker_id", "from_time"], "true").await, before);
    let mut after = old.rows("failed_checkins", &["coworker_id", "checkin_attempt_time", "code"], "true").await;
    after.sort();
    let mut failed = failed;
    failed.sort();
    assert_eq!(after, failed, "including the refusal at the door");
}

async fn a_late_entry_of_the_day_before_is_decided_among_its_facts(mut old: Old) {
    everything(&mut old).await;
    let mut hub = old.start().await;
    hub.deliver("8165609", "main", EXIT, at("2026-03-02T12:00:00Z")).await;
    hub.deliver("8165609", "main", ENTRY, at("2026-03-02T13:00:00Z")).await;
    // With a day pass the whole day is one visit.
    assert_eq!(hub.visits_of(CLEO).await, ["09:00-17:00 Day", "08:30-10:30 Day"]);
    hub.deliver("8165608", "main", EXIT, at("2026-03-02T09:30:00Z")).await;
    hub.gateway.pass(Duration::from_mins(60)).await;
    // Another half an hour is left for today.
    assert_eq!(hub.visits_of(BOB).await, ["09:00-09:30 Time", "11:30-12:40 Time auto", "12:40- PayAsYouGo"]);
}

async fn a_late_exit_before_the_silence_of_the_day_before_counts(mut old: Old) {
    people(&mut old).await;
    // Seen from 23:00 to 23:40, then silent; the silence was proven at 00:25.
    let visit = Visit {
        network: true,
        strong: Some("2026-03-01T23:40:00.000Z"),
        macs: Some(PHONE.to_string()),
        auto: true,
        ..Visit::closed(201, ADA, "2026-03-01T23:00:00.000Z", "2026-03-01T23:40:00.000Z")
    };
    old.visit(&visit).await;
    let points = [
        ("2026-03-01T23:00:00Z", "opened", ""),
        ("2026-03-01T23:20:00Z", "refreshed", ""),
        ("2026-03-01T23:40:00Z", "refreshed", ""),
    ];
    for (when, decision, _) in points {
        old.presences(ADA, PHONE.to_string(), when, when, decision, 201).await;
    }
    old.timer(ADA, "2026-03-02T00:25:00.000Z", "silence", 201).await;
    old.covered("2026-03-01T08:00:00.000Z", NOW).await;
    let mut hub = old.start_with(|site| site.cut_off = chrono::NaiveTime::from_hms_opt(3, 0, 0).expect("a time")).await;
    hub.deliver("8165607", "main", EXIT, at("2026-03-02T00:10:00Z")).await;
    assert_eq!(hub.visits_of(ADA).await, ["23:00-00:10 Time"]);
}

async fn a_visit_that_was_open_at_midnight_can_end_before_it(mut old: Old) {
    people(&mut old).await;
    old.entry(CLEO, "2026-03-01T22:00:00.000Z", 301, "301/1").await;
    old.exit(CLEO, "2026-03-02T02:00:00.000Z", 301, "301/2").await;
    let visit = Visit {
        door_in: Some("2026-03-01T22:00:00.000Z"),
        pass: Some((3, "day", 2)),
        ..Visit::closed(301, CLEO, "2026-03-01T22:00:00.000Z", "2026-03-02T02:00:00.000Z")
    };
    old.visit(&visit).await;
    let mut hub = old.start_with(|site| site.cut_off = chrono::NaiveTime::from_hms_opt(3, 0, 0).expect("a time")).await;
    hub.deliver("8165609", "main", EXIT, at("2026-03-02T01:00:00Z")).await;
    assert_eq!(hub.visits_of(CLEO).await, ["22:00-01:00 Day"]);
    hub.deliver("8165609", "main", EXIT, at("2026-03-01T23:00:00Z")).await;
    assert_eq!(hub.visits_of(CLEO).await, ["22:00-23:00 Day"]);
}

async fn a_message_that_comes_again_is_a_duplicate(mut old: Old) {
    everything(&mut old).await;
    let mut hub = old.start().await;
    let before = (old.records().await, old.rows("facts", &["day", "subject", "at"], "true").await);
    let again = vec![
        message("8165608", "111/1", ENTRY, at("2026-03-03T11:30:00Z"), TimeQuality::Device),
        message("8165610", "112/1", ENTRY, at("2026-03-03T11:00:00Z"), TimeQuality::Device),
        // A message without a clock arrives at another time.
        message("8165609", "113/3", ENTRY, now().moved(-1000), TimeQuality::Arrival),
        // A controller's refusal, an unknown card, and the short number of a person who has only one.
        message(
            "8165609",
            "113/5",
            (Direction::In, DoorEventKind::Denied, Some(Refusal::NoRights)),
            at("2026-03-02T08:55:00Z"),
            TimeQuality::Device,
        ),
        message("9999999", "115/1", ENTRY, at("2026-03-02T12:00:00Z"), TimeQuality::Device),
        message("4711", "114/1", ENTRY, at("2026-03-02T10:00:00Z"), TimeQuality::Device),
    ];
    let many = again.len();
    hub.gateway.settle(again, Vec::new()).await;
    let after = (old.records().await, old.rows("facts", &["day", "subject", "at"], "true").await);
    assert_eq!(after, before);
    let figures = hub.gateway.pipeline.context.metrics.text(crate::metrics::TextFormat::Plain);
    let figure = format!("checkind_decisions_total{{outcome=\"duplicate\"}} {many}\n");
    assert!(figures.contains(&figure), "{figures}");
}

async fn a_credential_that_the_old_log_hides_does_no_harm_when_it_comes_again(mut old: Old) {
    everything(&mut old).await;
    let mut hub = old.start().await;
    let before = old.rows("checkins", &["id", "from_time", "to_time"], "true").await;
    let mut pin = message("1234", "114/2", EXIT, at("2026-03-02T10:30:00Z"), TimeQuality::Device);
    if let Content::Sightings(sightings) = &mut pin.content
        && let Some(credential) = sightings.first_mut().and_then(|sighting| sighting.event.credential.as_mut())
    {
        credential.kind = CredentialKind::Pin;
        credential.scope = Some("front".to_owned());
    }
    hub.gateway.settle(vec![pin], Vec::new()).await;
    assert_eq!(old.rows("checkins", &["id", "from_time", "to_time"], "true").await, before);
}

async fn minutes_of_a_shared_pass_stay_used(mut old: Old) {
    everything(&mut old).await;
    let mut hub = old.start().await;
    // Fay has used 90 of Eve's 120 minutes, in three visits.
    hub.deliver("8165611", "main", ENTRY, now()).await;
    hub.gateway.pass(Duration::from_mins(40)).await;
    assert_eq!(hub.visits_of(EVE).await, ["12:00-12:30 Time auto", "12:30- PayAsYouGo"]);
    let used = old.rows("pass_usage", &["subject", "days", "seconds"], "subject = 12").await;
    assert_eq!(used, ["12|1|5400"]);
}

async fn hours_of_a_plan_stay_used(mut old: Old) {
    everything(&mut old).await;
    let mut hub = old.start().await;
    // Two and a half of this week's three hours are used, and four were used the week before.
    hub.deliver("8165613", "main", ENTRY, now()).await;
    hub.gateway.pass(Duration::from_mins(40)).await;
    assert_eq!(hub.visits_of(GUS).await.last().map(String::as_str), Some("12:00-12:30 Time auto"));
    assert!(hub.failed().await.last().is_some_and(|failed| failed.starts_with("plan_limit_hours_week")));
}

async fn days_of_a_day_pass_stay_used(mut old: Old) {
    everything(&mut old).await;
    let mut hub = old.start().await;
    // Both days are used: Monday and Tuesday.
    hub.gateway.pass(Duration::from_hours(24)).await;
    hub.deliver("8165609", "main", ENTRY, now().moved(86_400_000)).await;
    let visits = hub.visits_of(CLEO).await;
    assert_eq!(visits.last().map(String::as_str), Some("12:00- PayAsYouGo"), "{visits:?}");
}

async fn a_device_that_was_refused_today_is_not_refused_again(mut old: Old) {
    everything(&mut old).await;
    let mut hub = old.start().await;
    let before = hub.failed().await;
    let presence = Presence { mac: HAL_S_PHONE.parse().expect("an address"), ..hub.phone() };
    hub.gateway.settle(Vec::new(), vec![presence]).await;
    assert_eq!(hub.failed().await, before);
    assert_eq!(hub.visits_of(HAL).await, [""; 0]);
}

async fn a_person_who_was_in_at_two_sites_is_out_in_time(mut old: Old) {
    people(&mut old).await;
    let here = Visit { door_in: Some("2026-03-03T11:00:00.000Z"), ..Visit::open(401, BOB, "2026-03-03T11:00:00.000Z") };
    let there = Visit { business: 2, ..Visit::open(402, BOB, "2026-03-02T09:00:00.000Z") };
    old.visit(&here).await;
    old.visit(&there).await;
    let mut hub = old.start().await;
    let exit = hub.deliver("8165608", "main", EXIT, now());
    tokio::time::timeout(Duration::from_secs(20), exit)
        .await
        .expect("the settings of the other business are not needed");
    assert_eq!(hub.visits_of(BOB).await, ["09:00-00:00 Time auto", "11:00-12:00 Time"]);
}

async fn the_log_is_read_as_before(mut old: Old) {
    everything(&mut old).await;
    let hub = old.start().await;
    let store = &hub.gateway.pipeline.context.store;
    let facts = store.facts_between(BusinessId(1), at("2026-03-01T00:00:00Z"), now()).await.expect("read");
    let found = |outcome: Outcome, reason: Option<&str>, who: Option<i64>| {
        let fits = |fact: &&crate::store::LoggedFact| {
            (fact.outcome, fact.reason, fact.coworker.map(|who| who.0)) == (outcome, reason, who)
        };
        facts.iter().find(fits).cloned().unwrap_or_else(|| panic!("{outcome:?} {reason:?} {facts:?}"))
    };
    let unknown = found(Outcome::Failed, Some("unrecognised_card"), None);
    assert_eq!(unknown.credential.as_deref(), Some("9999999"));
    let refused = found(Outcome::Failed, Some("refused_no_rights"), Some(CLEO));
    assert_eq!((refused.kind, refused.source.as_str()), ("denied", "front"));
    let device = found(Outcome::Failed, Some("unrecognised_device"), None);
    assert_eq!(device.mac.map(|mac| mac.to_string()).as_deref(), Some("3c:22:fb:99:99:99"));
    let rejected = found(Outcome::Rejected, Some("no_rule"), None);
    assert_eq!(rejected.door.map(|door| door.0).as_deref(), Some("front/…"));
    let phone = facts.iter().find(|fact| fact.kind == "network" && fact.outcome == Outcome::Opened);
    assert_eq!(phone.map(|fact| (fact.event_at, fact.frames)), Some((at("2026-03-03T09:00:00Z"), 2)));
    assert_eq!(facts.iter().filter(|fact| fact.reason == Some("silence")).count(), 0);
}

#[tokio::test]
async fn of_two_gateways_that_start_at_once_one_takes_over() {
    let mut old = Old::postgres().await;
    everything(&mut old).await;
    let before = old.records().await;
    let (one, two) = tokio::join!(old.start(), old.start());
    assert_eq!(old.records().await, before);
    assert_eq!([one.gateway.pipeline.present.len(), two.gateway.pipeline.present.len()], [3, 3]);
    assert_eq!(old.rows("standings", &["revision"], "revision > 2").await, [""; 0]);
}

const ENTRY: (Direction, DoorEventKind, Option<Refusal>) = (Direction::In, DoorEventKind::Granted, None);
const EXIT: (Direction, DoorEventKind, Option<Refusal>) = (Direction::Out, DoorEventKind::Granted, None);

fn now() -> WallTime {
    at(NOW)
}

/// A message as the broker would redeliver it.
fn message(
    card: &str,
    key: &str,
    (direction, kind, refusal): (Direction, DoorEventKind, Option<Refusal>),
    event_at: WallTime,
    time_quality: TimeQuality,
) -> Delivery {
    let credential = Credential {
        kind: CredentialKind::Card,
        scope: None,
        value: card.to_owned(),
        spellings: vec!["#1".to_owned()],
    };
    let event = DoorEvent { kind, door: DoorKey("main".to_owned()), direction, credential: Some(credential), refusal };
    let sighting = Sighting {
        key: SightingKey(format!("front/{key}")),
        source: "front".into(),
        event_at,
        time_quality,
        arrived: Now { wall: now(), boot: BootTime::from_duration(Duration::from_hours(10)) },
        event,
    };
    Delivery::new("front".into(), Content::Sightings(vec![sighting]), Receipt::none())
}

fn entities() -> Vec<(EntityKind, Value)> {
    use EntityKind::{Coworker, CoworkerTimePass as Held, Tariff, Team, TimePass};
    let person = |id: i64, more: Value| {
        let card = (8_165_600 + id).to_string();
        (
            Coworker,
            super::hub::merged(json!({"Id": id, "FullName": format!("Member {id}"), "AccessCardId": card}), more),
        )
    };
    let held = |id: i64, who: i64, kind: i64, more: Value| {
        (Held, super::hub::merged(json!({"Id": id, "CoworkerId": who, "TimePassId": kind, "UniqueId": pass(id)}), more))
    };
    vec![
        (Tariff, json!({"Id": 5, "Name": "Three hours", "HoursWeekLimit": 3})),
        (Team, json!({"Id": 3, "Name": "Rocket", "TeamMembers": [EVE, FAY], "ShareTimePasses": true})),
        (TimePass, json!({"Id": 1, "Name": "Hours", "MinutesIncluded": 600, "AllowNetworkCheckin": true})),
        (TimePass, json!({"Id": 2, "Name": "Day"})),
        (
            TimePass,
            json!({"Id": 3, "Name": "As you go", "MinutesIncluded": 60, "Price": 6, "UseAsPayAsYouGoForContacts": true}),
        ),
        (TimePass, json!({"Id": 4, "Name": "Plan", "MinutesIncluded": 60_000, "CountsTowardsPlanLimits": true})),
        person(ADA, json!({"MacAddresses": PHONE})),
        person(BOB, json!({})),
        person(CLEO, json!({})),
        person(DAN, json!({})),
        person(EVE, json!({})),
        person(FAY, json!({})),
        person(GUS, json!({"TariffId": 5})),
        person(HAL, json!({"AccessCardId": "4711", "MacAddresses": HAL_S_PHONE, "AllowNetworkCheckin": false})),
        held(1, ADA, 1, json!({"RemainingMinutes": 6000})),
        held(2, BOB, 1, json!({"RemainingMinutes": 100})),
        held(3, CLEO, 2, json!({"RemainingUses": 2})),
        held(4, EVE, 1, json!({"RemainingMinutes": 120})),
        held(5, GUS, 4, json!({"RemainingMinutes": 60_000})),
    ]
}

fn pass(id: i64) -> String {
    format!("00000000-0000-4000-8000-{id:012}")
}

fn id(number: i64) -> String {
    format!("10000000-0000-4000-8000-{number:012}")
}

/// A database with the schema and the content of the previous version.
struct Old {
    database: Database,
    connection: Connected,
    _folder: tempfile::TempDir,
}

enum Connected {
    Sqlite(sqlx::SqliteConnection),
    Postgres(sqlx::PgConnection),
}

/// A check-in, in the old columns.
#[derive(Clone)]
struct Visit {
    number: i64,
    business: i64,
    person: i64,
    from: &'static str,
    to: Option<&'static str>,
    auto: bool,
    network: bool,
    last: &'static str,
    macs: Option<String>,
    door_in: Option<&'static str>,
    strong: Option<&'static str>,
    /// The number of the held pass, the kind of pass, and the number of the kind.
    pass: Option<(i64, &'static str, i64)>,
    ends: Option<(&'static str, &'static str)>,
    counts: bool,
}

impl Visit {
    fn open(number: i64, person: i64, from: &'static str) -> Self {
        let pass = Some((if person == BOB { 2 } else { 1 }, "time", 1));
        Self {
            number,
            business: 1,
            person,
            from,
            to: None,
            auto: false,
            network: false,
            last: from,
            macs: None,
            door_in: None,
            strong: None,
            pass,
            ends: None,
            counts: false,
        }
    }

    fn closed(number: i64, person: i64, from: &'static str, to: &'static str) -> Self {
        Self { to: Some(to), last: to, door_in: Some(from), ..Self::open(number, person, from) }
    }
}

fn text(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| format!("'{value}'"))
}

impl Old {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("checkind.db");
        let mut connection =
            sqlx::SqliteConnection::connect(&format!("sqlite:{}?mode=rwc", path.display())).await.expect("opens");
        let mut before = sqlx::migrate!("src/store/migrations/sqlite");
        before.migrations = Cow::Owned(before.migrations.iter().filter(|step| step.version <= 5).cloned().collect());
        before.run(&mut connection).await.expect("migrates");
        Self { database: Database::Sqlite { path }, connection: Connected::Sqlite(connection), _folder: folder }
    }

    #[expect(clippy::disallowed_methods, reason = "tests/run passes the address of its server")]
    async fn postgres() -> Self {
        let server = std::env::var("CHECKIND_TEST_POSTGRES")
            .expect("CHECKIND_TEST_POSTGRES names no PostgreSQL server; start the tests with tests/run");
        let name = format!("contract_{}", crate::base::random::uuid().simple());
        let mut admin = sqlx::PgConnection::connect(&format!("{server}/postgres")).await.expect("the server answers");
        admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a new database");
        let url = format!("{server}/{name}");
        let mut connection = sqlx::PgConnection::connect(&url).await.expect("the server answers");
        let mut before = sqlx::migrate!("src/store/migrations/postgres");
        before.migrations = Cow::Owned(before.migrations.iter().filter(|step| step.version <= 5).cloned().collect());
        before.run(&mut connection).await.expect("migrates");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = Database::Postgres { url, password: None, tls: DatabaseTls::default() };
        Self { database, connection: Connected::Postgres(connection), _folder: folder }
    }

    async fn say(&mut self, sql: String) {
        let done = match &mut self.connection {
            Connected::Sqlite(connection) => connection.execute(AssertSqlSafe(sql)).await.map(drop),
            Connected::Postgres(connection) => connection.execute(AssertSqlSafe(sql)).await.map(drop),
        };
        done.expect("a statement of the test");
    }

    /// Columns of a table as text, joined by `|`, in the order of the text.
    async fn rows(&self, table: &str, columns: &[&str], which: &str) -> Vec<String> {
        let columns: Vec<String> =
            columns.iter().map(|column| format!("coalesce(CAST({column} AS text), '')")).collect();
        let sql = format!("SELECT {} AS line FROM {table} WHERE {which}", columns.join(" || '|' || "));
        let mut rows: Vec<String> = match &self.database {
            Database::Sqlite { path } => {
                let mut connection =
                    sqlx::SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.expect("opens");
                let rows = connection.fetch_all(AssertSqlSafe(sql)).await.expect("read");
                rows.iter().map(|row| row.get::<String, _>("line")).collect()
            }
            Database::Postgres { url, .. } => {
                let mut connection = sqlx::PgConnection::connect(url).await.expect("the server answers");
                let rows = connection.fetch_all(AssertSqlSafe(sql)).await.expect("read");
                rows.iter().map(|row| row.get::<String, _>("line")).collect()
            }
        };
        rows.sort_by_key(|row| (row.split('|').next().and_then(|first| first.parse::<i64>().ok()), row.clone()));
        rows
    }

    /// Every record, in full.
    async fn records(&self) -> Vec<String> {
        let checkins = [
            "id",
            "unique_id",
            "coworker_id",
            "coworker_full_name",
            "business_id",
            "business_name",
            "source",
            "from_time",
            "to_time",
            "counts_towards_plan_limits",
            "coworker_time_pass_guid",
            "auto_checkout",
            "last_activity",
            "mac_addresses",
            "from_time_local",
            "to_time_local",
            "created_on",
            "updated_on",
            "updated_by",
            "pass_day",
            "seconds",
            "time_pass_id",
            "pass_kind",
            "pass_ends",
            "pass_end",
        ];
        let failed = [
            "id",
            "unique_id",
            "coworker_id",
            "business_id",
            "checkin_attempt_time",
            "source",
            "mac_addresses",
            "description",
            "code",
            "created_on",
            "updated_on",
        ];
        let charges = [
            "id",
            "checkin",
            "coworker_id",
            "pass_day",
            "from_time",
            "to_time",
            "minutes",
            "unbounded",
            "amount",
            "final",
            "created_on",
            "updated_on",
        ];
        let mut all = self.rows("checkins", &checkins, "true").await;
        all.extend(self.rows("failed_checkins", &failed, "true").await);
        all.extend(self.rows("payg_charges", &charges, "true").await);
        all
    }

    /// Starts the new version on this database.
    async fn start(&self) -> Hub {
        self.start_with(|_| {}).await
    }

    async fn start_with(&self, change: impl FnOnce(&mut crate::policy::site::Site)) -> Hub {
        let store = loop {
            // If two gateways migrate at once, they collide, and the second finds the work done.
            match Store::open(&self.database).await {
                Ok(store) => break store,
                Err(error) => assert!(matches!(error, crate::store::StoreError::Conflict), "{error:?}"),
            }
        };
        let boot = BootTime::from_duration(Duration::from_hours(10));
        let door = Door {
            pattern: "main".to_owned(),
            name: "Main".to_owned(),
            on_in: DoorAction::CheckIn,
            on_out: DoorAction::CheckOut,
        };
        let mut site = site(Zone::utc());
        change(&mut site);
        let mut gateway = Gateway::on(store, Now { wall: now(), boot }, directory(1, entities()), vec![door], site);
        gateway.pipeline = Pipeline::new(gateway.pipeline.context.clone());
        gateway.pipeline.recover(&CancellationToken::new()).await.expect("reads");
        Hub::of(gateway)
    }

    async fn visit(&mut self, visit: &Visit) {
        let Visit {
            number,
            business,
            person,
            from,
            to,
            auto,
            network,
            last,
            macs,
            door_in,
            strong,
            pass: held,
            ends,
            counts,
        } = visit.clone();
        let unique = id(number);
        let seconds = to.map_or_else(|| "NULL".to_owned(), |to| at(to).since(at(from)).as_secs().to_string());
        let day = format!("{}T00:00:00.000Z", &from[..10]);
        let (guid, kind, of) = held.map_or((None, None, "NULL".to_owned()), |(id_of, kind, of)| {
            let guid = if kind == "pay_as_you_go" { unique.clone() } else { pass(id_of) };
            (Some(guid), Some(kind), of.to_string())
        });
        let local = |at: &str| at[..19].to_owned();
        self.say(format!(
            "INSERT INTO checkins (unique_id, coworker_id, coworker_full_name, business_id, business_name, source, from_time,
               to_time, counts_towards_plan_limits, coworker_time_pass_guid, auto_checkout, last_activity, mac_addresses,
               from_time_local, to_time_local, created_on, updated_on, updated_by, door_in_at, strong_at, pass_day, seconds,
               time_pass_id, pass_kind, pass_ends, pass_end)
             VALUES ('{unique}', {person}, 'Member {person}', {business}, 'Hub One', {}, '{from}', {}, {counts}, {}, {auto},
               '{last}', {}, '{}', {}, '{from}', '{last}', 'checkind', {}, {}, '{day}', {seconds}, {of}, {}, {}, {})",
            if network { 3 } else { 2 },
            text(to),
            text(guid.as_deref()),
            text(macs.as_deref()),
            local(from),
            text(to.map(local).as_deref()),
            text(door_in),
            text(strong),
            text(kind),
            text(ends.map(|(at, _)| at)),
            text(ends.map(|(_, why)| why)),
        ))
        .await;
    }

    #[expect(clippy::too_many_arguments, reason = "columns")]
    async fn line(
        &mut self,
        key: &str,
        kind: &str,
        direction: Option<&str>,
        credential: Option<&str>,
        person: Option<i64>,
        when: &str,
        quality: &str,
        (decision, reason): (&str, Option<&str>),
        checkin: Option<i64>,
        claim: Option<&str>,
    ) {
        let person = person.map_or_else(|| "NULL".to_owned(), |person| person.to_string());
        self.say(format!(
            "INSERT INTO sightings (key, business_id, source, door, kind, direction, credential, mac, coworker_id, event_at,
               last_at, strong_at, time_quality, received_at, decision, reason, checkin, frames, claim, points,
               directory_version)
             VALUES ('{key}', 1, 'front', 'main', '{kind}', {}, {}, NULL, {person}, '{when}', '{when}', NULL, '{quality}',
               '{when}', '{decision}', {}, {}, 0, {}, NULL, 1)",
            text(direction),
            text(credential),
            text(reason),
            text(checkin.map(id).as_deref()),
            text(claim),
        ))
        .await;
    }

    async fn entry(&mut self, person: i64, when: &str, visit: i64, key: &str) {
        self.tap(person, when, visit, key, ("in", "opened", "entry")).await;
    }

    async fn exit(&mut self, person: i64, when: &str, visit: i64, key: &str) {
        self.tap(person, when, visit, key, ("out", "closed", "exit")).await;
    }

    async fn tap(
        &mut self,
        person: i64,
        when: &str,
        visit: i64,
        key: &str,
        (way, decision, claim): (&str, &str, &str),
    ) {
        let card = (8_165_600 + person).to_string();
        let key = format!("front/{key}");
        let said = (decision, None);
        let (who, visit) = (Some(person), Some(visit));
        self.line(&key, "granted", Some(way), Some(&card), who, when, "device", said, visit, Some(claim)).await;
    }

    /// A line of presences from one instant to another, one per minute.
    async fn presences(&mut self, person: i64, mac: String, from: &str, to: &str, decision: &str, visit: i64) {
        let (from, to) = (at(from), at(to));
        let mut points = String::new();
        let mut at = from;
        while at <= to {
            // A device that has just appeared.
            write!(points, "{},0,0,0,2;", at.millis()).expect("a text");
            at = at.moved(60_000);
        }
        self.say(format!(
            "INSERT INTO sightings (key, business_id, source, kind, mac, coworker_id, event_at, last_at, strong_at,
               time_quality, received_at, decision, checkin, frames, claim, points, directory_version)
             VALUES ('network/eth1/{mac}/{person}/{from}/{decision}', 1, 'eth1', 'network', '{mac}', {person}, '{from}',
               '{to}', '{to}', 'arrival', '{to}', '{decision}', '{}', 2, 'network', '{points}', 1)",
            id(visit)
        ))
        .await;
    }

    async fn timer(&mut self, person: i64, when: &str, why: &str, visit: i64) {
        let last = if why == "silence" { at(when).moved(120_000) } else { at(when) };
        self.say(format!(
            "INSERT INTO sightings (key, business_id, source, kind, coworker_id, event_at, last_at, time_quality,
               received_at, decision, reason, checkin, frames, directory_version)
             VALUES ('timer/{person}/{when}/{why}', 1, 'timer', 'timer', {person}, '{when}', '{last}', 'arrival', '{when}',
               'closed', '{why}', '{}', 0, 1)",
            id(visit)
        ))
        .await;
    }

    async fn covered(&mut self, from: &str, to: &str) {
        let to = at(to);
        self.say(format!(
            "INSERT INTO heard (id, business_id, from_time, to_time)
             VALUES ('20000000-0000-4000-8000-000000000001', 1, '{from}', '{to}')"
        ))
        .await;
    }
}

async fn people(old: &mut Old) {
    old.say("UPDATE directory_version SET version = 1, pin_key = 'key'".to_owned()).await;
}

/// A Monday, and a Tuesday morning.
#[expect(clippy::too_many_lines, reason = "a table with a few rows per person")]
async fn everything(old: &mut Old) {
    people(old).await;
    old.covered("2026-03-02T08:00:00.000Z", NOW).await;
    // Ada: yesterday by door, today by network.
    old.entry(ADA, "2026-03-02T08:00:00.000Z", 90, "110/1").await;
    old.exit(ADA, "2026-03-02T17:00:00.000Z", 90, "110/2").await;
    old.visit(&Visit::closed(90, ADA, "2026-03-02T08:00:00.000Z", "2026-03-02T17:00:00.000Z")).await;
    let phone = PHONE.to_string();
    old.presences(ADA, phone.clone(), "2026-03-03T09:00:00Z", "2026-03-03T09:00:00Z", "opened", 101).await;
    for (from, to) in [("09:01", "09:14"), ("10:00", "10:14"), ("11:36", "11:50")] {
        let time = |time: &str| format!("2026-03-03T{time}:00Z");
        old.presences(ADA, phone.clone(), &time(from), &time(to), "refreshed", 101).await;
    }
    old.visit(&Visit {
        network: true,
        last: "2026-03-03T11:50:00.000Z",
        strong: Some("2026-03-03T11:50:00.000Z"),
        macs: Some(phone),
        ..Visit::open(101, ADA, "2026-03-03T09:00:00.000Z")
    })
    .await;
    // Bob: used an hour of 100 minutes yesterday, and is in today until the rest is used up.
    old.entry(BOB, "2026-03-02T09:00:00.000Z", 91, "111/0").await;
    old.exit(BOB, "2026-03-02T10:00:00.000Z", 91, "111/9").await;
    old.visit(&Visit::closed(91, BOB, "2026-03-02T09:00:00.000Z", "2026-03-02T10:00:00.000Z")).await;
    old.entry(BOB, "2026-03-03T11:30:00.000Z", 102, "111/1").await;
    old.visit(&Visit {
        door_in: Some("2026-03-03T11:30:00.000Z"),
        ends: Some(("2026-03-03T12:10:00.000Z", "minutes_used_up")),
        ..Visit::open(102, BOB, "2026-03-03T11:30:00.000Z")
    })
    .await;
    // Cleo: yesterday and today refused by the controller, then in; both visits are closed and use two days of a day
    // pass.
    let refused = ("failed", Some("refused_no_rights"));
    old.line(
        "front/113/5",
        "denied",
        Some("in"),
        Some("8165609"),
        Some(CLEO),
        "2026-03-02T08:55:00.000Z",
        "device",
        refused,
        None,
        Some("fail:refused_no_rights"),
    )
    .await;
    old.say(failed(501, Some(CLEO), "2026-03-02T08:55:00.000Z", 2, None, "refused_no_rights")).await;
    old.entry(CLEO, "2026-03-02T09:00:00.000Z", 92, "113/1").await;
    old.exit(CLEO, "2026-03-02T17:00:00.000Z", 92, "113/2").await;
    let day = Some((3, "day", 2));
    old.visit(&Visit { pass: day, ..Visit::closed(92, CLEO, "2026-03-02T09:00:00.000Z", "2026-03-02T17:00:00.000Z") })
        .await;
    old.line(
        "front/113/3",
        "granted",
        Some("in"),
        Some("8165609"),
        Some(CLEO),
        "2026-03-03T08:30:00.000Z",
        "arrival",
        ("opened", None),
        Some(93),
        Some("entry"),
    )
    .await;
    old.exit(CLEO, "2026-03-03T10:30:00.000Z", 93, "113/4").await;
    old.visit(&Visit { pass: day, ..Visit::closed(93, CLEO, "2026-03-03T08:30:00.000Z", "2026-03-03T10:30:00.000Z") })
        .await;
    // Dan: pay-as-you-go.
    old.entry(DAN, "2026-03-03T11:00:00.000Z", 103, "112/1").await;
    old.visit(&Visit {
        pass: Some((0, "pay_as_you_go", 3)),
        door_in: Some("2026-03-03T11:00:00.000Z"),
        ..Visit::open(103, DAN, "2026-03-03T11:00:00.000Z")
    })
    .await;
    old.say(format!(
        "INSERT INTO payg_charges (checkin, coworker_id, business_id, time_pass_id, pass_day, from_time, minutes, unbounded,
           amount, currency, final, created_on, updated_on)
         VALUES ('{}', {DAN}, 1, 3, '2026-03-03T00:00:00.000Z', '2026-03-03T11:00:00.000Z', 15, 150, 150, 'GBP', false,
           '2026-03-03T11:00:00.000Z', '2026-03-03T11:00:00.000Z')",
        id(103)
    ))
    .await;
    // Fay: 90 minutes of Eve's pass yesterday, in three visits.
    for (number, from, to) in [
        (94, "2026-03-02T10:00:00.000Z", "2026-03-02T10:30:00.000Z"),
        (95, "2026-03-02T11:00:00.000Z", "2026-03-02T11:30:00.000Z"),
        (96, "2026-03-02T12:00:00.000Z", "2026-03-02T12:30:00.000Z"),
    ] {
        old.entry(FAY, from, number, &format!("{number}/1")).await;
        old.exit(FAY, to, number, &format!("{number}/2")).await;
        old.visit(&Visit { pass: Some((4, "time", 1)), ..Visit::closed(number, FAY, from, to) }).await;
    }
    // Gus: four hours last week, with lines deleted long ago, and two and a half this week.
    for (number, from, to) in [
        (80, "2026-02-17T10:00:00.000Z", "2026-02-17T14:00:00.000Z"),
        (97, "2026-03-02T10:00:00.000Z", "2026-03-02T11:00:00.000Z"),
        (98, "2026-03-02T12:00:00.000Z", "2026-03-02T13:00:00.000Z"),
        (99, "2026-03-02T14:00:00.000Z", "2026-03-02T14:30:00.000Z"),
    ] {
        old.entry(GUS, from, number, &format!("{number}/1")).await;
        old.exit(GUS, to, number, &format!("{number}/2")).await;
        old.visit(&Visit { pass: Some((5, "time", 4)), counts: true, ..Visit::closed(number, GUS, from, to) }).await;
    }
    // Hal: a short number and a PIN at the door, without a check-in; the phone was refused this morning.
    old.line(
        "front/114/1",
        "granted",
        Some("in"),
        Some("PIN or short number"),
        Some(HAL),
        "2026-03-02T10:00:00.000Z",
        "device",
        ("recorded", Some("record_only")),
        None,
        Some("record:record_only"),
    )
    .await;
    old.line(
        "front/114/2",
        "granted",
        Some("out"),
        Some("PIN"),
        Some(HAL),
        "2026-03-02T10:30:00.000Z",
        "device",
        ("recorded", Some("not_checked_in")),
        None,
        Some("exit"),
    )
    .await;
    old.say(failed(502, Some(HAL), "2026-03-03T09:30:00.000Z", 3, Some(HAL_S_PHONE), "network_not_allowed")).await;
    // Unknown credentials and devices, and a rejected message.
    old.line(
        "front/115/1",
        "granted",
        Some("in"),
        Some("9999999"),
        None,
        "2026-03-02T12:00:00.000Z",
        "device",
        ("failed", Some("unrecognised_card")),
        None,
        None,
    )
    .await;
    old.say(failed(503, None, "2026-03-02T12:00:00.000Z", 2, None, "unrecognised_card")).await;
    old.say(
        "INSERT INTO sightings (key, business_id, source, kind, mac, event_at, last_at, strong_at, time_quality, received_at,
           decision, reason, frames, directory_version)
         VALUES ('network/eth1/3c:22:fb:99:99:99/2026-03-03T00:00:00.000Z/unrecognised_device', 1, 'eth1', 'network',
           '3c:22:fb:99:99:99', '2026-03-03T09:00:00.000Z', '2026-03-03T09:01:00.000Z', '2026-03-03T09:01:00.000Z',
           'arrival', '2026-03-03T09:01:00.000Z', 'failed', 'unrecognised_device', 3, 1)"
            .to_owned(),
    )
    .await;
    old.say(
        "INSERT INTO sightings (key, business_id, source, kind, door, event_at, last_at, time_quality, received_at, decision,
           reason, frames, directory_version)
         VALUES ('rejected/front/30000000-0000-4000-8000-000000000001', 1, 'front', 'rejected', 'front/…',
           '2026-03-03T09:05:00.000Z', '2026-03-03T09:05:00.000Z', 'arrival', '2026-03-03T09:05:00.000Z', 'rejected',
           'no_rule', 0, 1)"
            .to_owned(),
    )
    .await;
}

fn failed(number: i64, person: Option<i64>, when: &str, source: i64, mac: Option<&str>, code: &str) -> String {
    let person = person.map_or_else(|| "NULL".to_owned(), |person| person.to_string());
    format!(
        "INSERT INTO failed_checkins (unique_id, coworker_id, business_id, checkin_attempt_time, source, mac_addresses,
           description, checkin_attempt_time_local, created_on, updated_on, updated_by, code, once_key)
         VALUES ('{}', {person}, 1, '{when}', {source}, {}, '{code}: so', '{}', '{when}', '{when}', 'checkind', '{code}',
           '{number}')",
        id(number),
        text(mac),
        &when[..19]
    )
}
