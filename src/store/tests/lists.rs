//! Lists: each filter, order and page, compared with the same done by hand on all records.

use std::{cmp::Ordering, collections::BTreeSet};

use chrono::{NaiveDateTime, TimeDelta};

use crate::{
    base::{
        clock::WallTime,
        listing::{CHECKIN_FIELDS, FAILED_CHECKIN_FIELDS, FieldKind, FieldTest, ListQuery, ListedField, SortDirection},
        record::{BusinessId, Checkin, CheckinSource, FailedCheckin, join_macs},
    },
    store::tests::fresh::{Fresh, contract},
};

contract!(
    every_filter_finds_what_it_describes,
    every_order_is_complete_on_all_pages,
    the_last_activity_of_an_open_visit_is_the_one_that_is_shown,
    a_list_of_some_businesses_has_no_others,
);

const NAMES: [&str; 6] = ["Ada Lovelace", "ada_byron", "100 % Böb", "BÖB", "O''Brien", ""];

const COMMON: &str = "id, unique_id, coworker_id, coworker_full_name, business_id, business_name, source, mac_addresses, \
    teams_at_the_time_of_checkin, tariff_at_the_time_of_checkin, created_on, updated_on, updated_by, system_id";

/// Sixty records of each kind, with every field varied. Times are half a second apart, so some are shown alike.
fn filled() -> &'static str {
    use std::fmt::Write as _;
    let mut text = String::new();
    let (mut visits, mut failures) = (Vec::new(), Vec::new());
    for n in 0..60_i64 {
        let time = |half: i64| format!("'2026-03-01T09:{:02}:{:02}.{:03}Z'", half / 120, half / 2 % 60, half % 2 * 500);
        let local = |half: i64| format!("'2026-03-01T10:{:02}:{:02}'", half / 120, half / 2 % 60);
        let or_null = |is_set: bool, text: String| if is_set { text } else { "NULL".to_owned() };
        let coworker = or_null(n % 5 > 0, (n % 5).to_string());
        let name = or_null(n % 7 > 0, format!("'{}'", NAMES[usize::try_from(n % 6).expect("small")]));
        let business = n % 2 + 1;
        let guid = format!("'a1b2c3d4-e5f6-7890-abcd-{n:012x}'");
        // At most one visit of a person at a business is open.
        let is_open = n % 5 == 0 && n % 3 == 0;
        let macs = or_null(n % 4 == 0, format!("'3c:22:fb:00:00:{n:02x},3c:22:fb:00:01:{n:02x}'"));
        let common = format!(
            "{n}, {guid}, {coworker}, {name}, {business}, 'Hub {business}', {}, {macs}, 'Engines,Analysts', {}, \
             {}, {}, 'checkind', {}",
            n % 6,
            or_null(n % 3 == 0, "'Full time'".to_owned()),
            time(n),
            time(n + 240 - n % 9 * 20),
            or_null(n % 11 == 0, format!("'crm-{n}'")),
        );
        visits.push(format!(
            "({common}, {}, {}, {}, {}, {}, {}, {}, {})",
            time(n / 2),
            or_null(!is_open, time(n / 2 + n % 4)),
            n % 2 == 0,
            or_null(n % 8 == 0, guid.clone()),
            n % 3 == 0,
            or_null(n % 6 > 0, time(n + 3)),
            local(n / 2),
            or_null(!is_open, local(n / 2 + n % 4)),
        ));
        failures.push(format!(
            "({common}, {}, {}, {})",
            time(n / 2),
            or_null(n % 2 == 0, "'unrecognised_card: no coworker has this card'".to_owned()),
            local(n / 2)
        ));
    }
    write!(
        text,
        "INSERT INTO checkins ({COMMON}, from_time, to_time, counts_towards_plan_limits, coworker_time_pass_guid, \
         auto_checkout, last_activity, from_time_local, to_time_local) VALUES {}",
        visits.join(",")
    )
    .expect("text");
    let failures = format!(
        "INSERT INTO failed_checkins ({COMMON}, checkin_attempt_time, description, checkin_attempt_time_local) VALUES {}",
        failures.join(",")
    );
    Box::leak(format!("{text};{failures}").into_boxed_str())
}

async fn fill(fresh: &Fresh) {
    for statement in filled().split(';') {
        fresh.store.execute(statement).await.expect("written");
    }
}

fn query(order: &'static ListedField, tests: Vec<(&'static ListedField, FieldTest)>) -> ListQuery {
    ListQuery { tests, businesses: None, order, direction: SortDirection::Ascending, page: 1, size: 10_000 }
}

fn field(fields: &'static [ListedField], column: &str) -> &'static ListedField {
    fields.iter().find(|field| field.column == column).expect("a field")
}

/// The value of a field, for comparing.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum ListedValue {
    Null,
    Number(i64),
    Truth(bool),
    Text(String),
    Instant(WallTime),
    Local(NaiveDateTime),
}

impl<T: Into<ListedValue>> From<Option<T>> for ListedValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! value {
    ($($kind:ty, $value:ident => $as:expr;)+) => {
        $(impl From<$kind> for ListedValue {
            fn from($value: $kind) -> Self {
                $as
            }
        })+
    };
}

value! {
    i64, value => Self::Number(value);
    bool, value => Self::Truth(value);
    String, value => Self::Text(value);
    WallTime, value => Self::Instant(value);
    NaiveDateTime, value => Self::Local(value);
    CheckinSource, value => Self::Number(value.number());
    uuid::Uuid, value => Self::Text(value.to_string());
}

/// A record with its values by column.
trait Valued {
    fn value(&self, column: &str) -> ListedValue;
    fn number(&self) -> i64;
}

macro_rules! valued {
    ($record:ty { $($field:ident),+ }) => {
        impl Valued for $record {
            fn value(&self, column: &str) -> ListedValue {
                match column {
                    $(stringify!($field) => self.$field.clone().into(),)+
                    "id" => self.id.0.into(),
                    "business_id" => self.business_id.0.into(),
                    "coworker_id" => self.coworker_id.map(|id| id.0).into(),
                    "mac_addresses" => join_macs(&self.mac_addresses).into(),
                    other => panic!("{other}"),
                }
            }

            fn number(&self) -> i64 {
                self.id.0
            }
        }
    };
}

valued!(Checkin {
    unique_id,
    coworker_full_name,
    business_name,
    source,
    from_time,
    to_time,
    counts_towards_plan_limits,
    coworker_time_pass_guid,
    auto_checkout,
    last_activity,
    teams_at_the_time_of_checkin,
    tariff_at_the_time_of_checkin,
    validate_checkin_job_id,
    from_time_local,
    to_time_local,
    created_on,
    updated_on,
    updated_by,
    system_id
});
valued!(FailedCheckin {
    unique_id,
    coworker_full_name,
    business_name,
    source,
    checkin_attempt_time,
    teams_at_the_time_of_checkin,
    tariff_at_the_time_of_checkin,
    description,
    checkin_attempt_time_local,
    created_on,
    updated_on,
    updated_by,
    system_id
});

/// Whether a value passes a test.
fn passes(value: &ListedValue, test: &FieldTest) -> bool {
    let second = |at: WallTime| at.millis().div_euclid(1000);
    match (value, test) {
        (value, FieldTest::Null) => *value == ListedValue::Null,
        (value, FieldTest::NotNull) => *value != ListedValue::Null,
        (ListedValue::Number(value), FieldTest::Number(number)) => value == number,
        (ListedValue::Number(value), FieldTest::AnyOf(numbers)) => numbers.contains(value),
        (ListedValue::Truth(value), FieldTest::Truth(truth)) => value == truth,
        (ListedValue::Text(value), FieldTest::Guid(guid)) => *value == guid.to_string(),
        (ListedValue::Text(value), FieldTest::Contains(part)) => {
            value.to_ascii_lowercase().contains(&part.to_ascii_lowercase())
        }
        (ListedValue::Instant(value), FieldTest::At(at)) => second(*value) == second(*at),
        (ListedValue::Instant(value), FieldTest::From(at)) => value >= at,
        (value, FieldTest::NotBefore(at)) => !passes(value, &FieldTest::Before(*at)),
        (ListedValue::Instant(value), FieldTest::Before(at)) => value < at,
        (ListedValue::Instant(value), FieldTest::To(at)) => second(*value) <= second(*at),
        (ListedValue::Local(value), FieldTest::AtLocal(at)) => value == at,
        (ListedValue::Local(value), FieldTest::FromLocal(at)) => value >= at,
        (ListedValue::Local(value), FieldTest::ToLocal(at)) => value <= at,
        _ => false,
    }
}

/// The tests that can be made of a field with this value.
fn tests_of(field: &ListedField, value: &ListedValue) -> Vec<FieldTest> {
    let whole = |at: &WallTime| WallTime::from_millis(at.millis().div_euclid(1000) * 1000);
    match (field.kind, value) {
        (FieldKind::Number | FieldKind::Source, ListedValue::Number(number)) => {
            vec![FieldTest::Number(*number), FieldTest::AnyOf(vec![*number, number + 1, -1]), FieldTest::AnyOf(vec![])]
        }
        (FieldKind::Truth, ListedValue::Truth(truth)) => vec![FieldTest::Truth(*truth), FieldTest::Truth(!truth)],
        (FieldKind::Guid, ListedValue::Text(guid)) => vec![FieldTest::Guid(guid.parse().expect("a UUID"))],
        (FieldKind::Text, ListedValue::Text(text)) => {
            let half = text.chars().skip(text.chars().count() / 2).collect::<String>();
            [
                text.clone(),
                text.to_ascii_uppercase(),
                half,
                "%".to_owned(),
                "_".to_owned(),
                "Ö".to_owned(),
                "\0".to_owned(),
            ]
            .map(FieldTest::Contains)
            .to_vec()
        }
        (FieldKind::Instant, ListedValue::Instant(at)) => {
            let at = whole(at);
            let shown = [
                FieldTest::At(at),
                FieldTest::From(at),
                FieldTest::To(at),
                FieldTest::From(at.moved(1)),
                FieldTest::To(at.moved(-1000)),
            ];
            shown.into_iter().chain([FieldTest::Before(at.moved(500)), FieldTest::NotBefore(at.moved(500))]).collect()
        }
        (FieldKind::WallClock, ListedValue::Local(at)) => {
            let later = *at + TimeDelta::seconds(1);
            vec![FieldTest::AtLocal(*at), FieldTest::FromLocal(later), FieldTest::ToLocal(*at)]
        }
        _ => Vec::new(),
    }
}

/// Compares every test of every field, with the values of some records, with the same by hand.
async fn compare_filters<T: Valued>(fields: &'static [ListedField], list: impl AsyncFn(ListQuery) -> Vec<T>) {
    let id = field(fields, "id");
    let all = list(query(id, Vec::new())).await;
    assert_eq!(all.len(), 60);
    let mut found = 0;
    for field in fields {
        let values = all.iter().step_by(7).map(|record| record.value(field.column));
        let tests = values.flat_map(|value| tests_of(field, &value)).chain([FieldTest::Null, FieldTest::NotNull]);
        for test in tests.collect::<Vec<_>>() {
            let listed = list(query(id, vec![(field, test.clone())])).await;
            let expected = all.iter().filter(|record| passes(&record.value(field.column), &test));
            let numbers = listed.iter().map(Valued::number).collect::<Vec<_>>();
            assert_eq!(numbers, expected.map(Valued::number).collect::<Vec<_>>(), "{} {test:?}", field.column);
            found += usize::from(!numbers.is_empty());
        }
    }
    assert!(found > 60, "{found} filters find something");
}

async fn every_filter_finds_what_it_describes(fresh: Fresh) {
    fill(&fresh).await;
    let store = &fresh.store;
    compare_filters(CHECKIN_FIELDS, async |query| store.checkin_page(&query).await.expect("read").records).await;
    compare_filters(FAILED_CHECKIN_FIELDS, async |query| {
        store.failed_checkin_page(&query).await.expect("read").records
    })
    .await;
    // All of several tests hold.
    let [name, source] = ["coworker_full_name", "source"].map(|column| field(CHECKIN_FIELDS, column));
    let both = vec![(name, FieldTest::Contains("ADA".to_owned())), (source, FieldTest::Number(1))];
    let page = store.checkin_page(&query(source, both)).await.expect("read");
    assert!(!page.records.is_empty());
    assert!(page.records.iter().all(|visit| visit.source == CheckinSource::Manual));
}

/// Text is compared as the database sorts it, which is up to its collation.
async fn every_order_is_complete_on_all_pages(fresh: Fresh) {
    fill(&fresh).await;
    for order in CHECKIN_FIELDS {
        for direction in [SortDirection::Ascending, SortDirection::Descending] {
            let mut listed = Vec::new();
            for page in 1..=10 {
                let query = ListQuery { direction, page, size: 7, ..query(order, Vec::new()) };
                let page = fresh.store.checkin_page(&query).await.expect("read");
                assert_eq!(page.total, 60, "{} {}", order.column, query.page);
                listed.extend(page.records);
            }
            let sorted = listed.is_sorted_by(|one, other| {
                let [first, second] = [one, other].map(|record| record.value(order.column));
                let ids = one.number().cmp(&other.number());
                let along = match (&first, &second) {
                    (ListedValue::Null, ListedValue::Null) => ids,
                    (ListedValue::Null, _) => return false,
                    (_, ListedValue::Null) => return true,
                    (ListedValue::Text(_), ListedValue::Text(_)) if first != second => return true,
                    _ => first.partial_cmp(&second).expect("values of one kind").then(ids),
                };
                along == if direction == SortDirection::Ascending { Ordering::Less } else { Ordering::Greater }
            });
            let numbers: Vec<_> = listed.iter().map(|visit| (visit.id.0, visit.value(order.column))).collect();
            assert!(sorted, "{} {direction:?}: {numbers:?}", order.column);
            let mut ids: Vec<i64> = listed.iter().map(Valued::number).collect();
            ids.sort_unstable();
            assert_eq!(ids, (0..60).collect::<Vec<_>>(), "{} {direction:?}", order.column);
        }
    }
    let beyond = ListQuery { page: 11, size: 7, ..query(&CHECKIN_FIELDS[0], Vec::new()) };
    let beyond = fresh.store.checkin_page(&beyond).await.expect("read");
    assert_eq!((beyond.records.len(), beyond.total), (0, 60));
}

async fn the_last_activity_of_an_open_visit_is_the_one_that_is_shown(fresh: Fresh) {
    fresh
        .store
        .execute(
            "INSERT INTO checkins (id, unique_id, coworker_id, business_id, source, from_time, last_activity,
               counts_towards_plan_limits, auto_checkout, from_time_local, created_on, updated_on, updated_by) VALUES
             (1, 'a1b2c3d4-e5f6-7890-abcd-000000000001', 1, 1, 2, '2026-03-01T09:00:00.000Z', '2026-03-01T09:00:00.000Z',
               FALSE, FALSE, '2026-03-01T09:00:00', '2026-03-01T09:00:00.000Z', '2026-03-01T09:00:00.000Z', 'checkind'),
             (2, 'a1b2c3d4-e5f6-7890-abcd-000000000002', 2, 1, 2, '2026-03-01T09:00:00.000Z', NULL,
               FALSE, FALSE, '2026-03-01T09:00:00', '2026-03-01T09:00:00.000Z', '2026-03-01T09:00:00.000Z', 'checkind')",
        )
        .await
        .expect("written");
    let seen = "2026-03-01T10:00:00.042Z".parse::<chrono::DateTime<chrono::Utc>>().expect("a time");
    let text = format!(
        "INSERT INTO presences (subject, device, business_id, interface, at, last_at, points)
         SELECT 1, 1, 1, 'eth1', {0}, {0}, state FROM standings WHERE subject = 9",
        seen.timestamp_millis()
    );
    let standing = if fresh.store.is_shared() { "'\\x01'" } else { "x'01'" };
    let standing = format!(
        "INSERT INTO standings (subject, business_id, last_activity, folded_at, revision, state)
         VALUES (9, 1, 0, 0, 1, {standing})"
    );
    for text in [standing, text] {
        fresh.store.execute(Box::leak(text.into_boxed_str())).await.expect("written");
    }
    let last = field(CHECKIN_FIELDS, "last_activity");
    let from = |at: i64| vec![(last, FieldTest::From(WallTime::from_millis(seen.timestamp_millis() + at)))];
    let ids = async |tests| {
        let page = fresh.store.checkin_page(&query(last, tests)).await.expect("read");
        page.records.iter().map(|visit| visit.id.0).collect::<Vec<_>>()
    };
    assert_eq!(ids(from(0)).await, [1]);
    assert_eq!(ids(from(1)).await, [0; 0]);
    assert_eq!(ids(Vec::new()).await, [1, 2], "null is last");
    assert_eq!(ids(vec![(last, FieldTest::Null)]).await, [2]);
}

async fn a_list_of_some_businesses_has_no_others(fresh: Fresh) {
    fill(&fresh).await;
    let id = field(CHECKIN_FIELDS, "id");
    for (businesses, total) in [(vec![1], 30), (vec![2], 30), (vec![1, 2], 60), (vec![3], 0), (vec![], 0)] {
        let businesses: BTreeSet<BusinessId> = businesses.into_iter().map(BusinessId).collect();
        let query = ListQuery { businesses: Some(businesses.clone()), size: 5, ..query(id, Vec::new()) };
        let page = fresh.store.checkin_page(&query).await.expect("read");
        assert_eq!(page.total, total, "{businesses:?}");
        assert!(page.records.iter().all(|visit| businesses.contains(&visit.business_id)));
    }
}
