//! Lists: each filter, order and page, compared with the same done by hand on all records.

use std::{cmp::Ordering, collections::BTreeSet};

use chrono::{NaiveDateTime, TimeDelta};

use crate::{
    base::{
        clock::WallTime,
        disk::with_suffix,
        listing::{
            CHARGE_FIELDS, CHECKIN_FIELDS, FAILED_CHECKIN_FIELDS, FieldKind, FieldTest, ListQuery, ListedField,
            SortDirection,
        },
        record::{BusinessId, Checkin, CheckinSource, CoworkerCharge, FailedCheckin, join_macs},
    },
    settings::Database,
    store::tests::fresh::{Fresh, contract},
};

contract!(
    every_filter_finds_what_it_describes,
    every_order_is_complete_on_all_pages,
    the_last_activity_of_an_open_visit_is_the_one_that_is_shown,
    a_list_of_some_businesses_has_no_others,
    charges_are_found_by_time_and_by_their_last_change,
    pages_that_follow_each_other_repeat_and_miss_nothing_while_records_change,
    the_last_page_and_the_total_agree,
    the_size_and_the_locations_of_a_table_are_known,
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
        // Some were changed long after they began.
        let day = if n % 10 == 9 { "2026-01-15" } else { "2026-03-01" };
        let began = |half: i64| time(half).replace("2026-03-01", day);
        let local = |half: i64| format!("'{day}T10:{:02}:{:02}'", half / 120, half / 2 % 60);
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
            began(n / 2),
            or_null(!is_open, began(n / 2 + n % 4)),
            n % 2 == 0,
            or_null(n % 8 == 0, guid.clone()),
            n % 3 == 0,
            or_null(n % 6 > 0, time(n + 3)),
            local(n / 2),
            or_null(!is_open, local(n / 2 + n % 4)),
        ));
        failures.push(format!(
            "({common}, {}, {}, {})",
            began(n / 2),
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
    ListQuery {
        tests,
        businesses: None,
        order,
        direction: SortDirection::Ascending,
        page: 1,
        size: 10_000,
        after: None,
    }
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

fn numbers_of<T: Valued>(records: &[&T]) -> Vec<i64> {
    records.iter().map(|record| record.number()).collect()
}

/// Compares every test of every field, with the values of some records, with the same by hand.
async fn compare_filters<T: Valued>(
    (fields, time): (&'static [ListedField], &str),
    list: impl AsyncFn(ListQuery) -> Vec<T>,
) {
    let (id, time) = (field(fields, "id"), field(fields, time));
    let all = list(query(id, Vec::new())).await;
    assert_eq!(all.len(), 60);
    let mut found = 0;
    for field in fields {
        let values = all.iter().step_by(7).map(|record| record.value(field.column));
        let tests = values.flat_map(|value| tests_of(field, &value)).chain([FieldTest::Null, FieldTest::NotNull]);
        for test in tests.collect::<Vec<_>>() {
            let listed = list(query(id, vec![(field, test.clone())])).await;
            let expected: Vec<&T> = all.iter().filter(|record| passes(&record.value(field.column), &test)).collect();
            let numbers = listed.iter().map(Valued::number).collect::<Vec<_>>();
            assert_eq!(numbers, numbers_of(&expected), "{} {test:?}", field.column);
            found += usize::from(!numbers.is_empty());
            // By their time, and of one location, they are found by other indexes.
            let mut expected: Vec<&T> =
                expected.into_iter().filter(|record| record.value("business_id") == ListedValue::Number(2)).collect();
            expected.sort_by(|one, other| {
                let times = one.value(time.column).partial_cmp(&other.value(time.column));
                times.expect("instants").then(one.number().cmp(&other.number())).reverse()
            });
            let businesses = Some([BusinessId(2)].into());
            let query = ListQuery {
                businesses,
                direction: SortDirection::Descending,
                ..query(time, vec![(field, test.clone())])
            };
            let listed = list(query).await;
            let numbers = listed.iter().map(Valued::number).collect::<Vec<_>>();
            assert_eq!(numbers, numbers_of(&expected), "by time: {} {test:?}", field.column);
        }
    }
    assert!(found > 60, "{found} filters find something");
}

async fn every_filter_finds_what_it_describes(fresh: Fresh) {
    fill(&fresh).await;
    let store = &fresh.store;
    compare_filters((CHECKIN_FIELDS, "from_time"), async |query| {
        store.checkin_page(&query).await.expect("read").records
    })
    .await;
    compare_filters((FAILED_CHECKIN_FIELDS, "checkin_attempt_time"), async |query| {
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

async fn charges_are_found_by_time_and_by_their_last_change(fresh: Fresh) {
    let text =
        "INSERT INTO payg_charges (id, checkin, coworker_id, business_id, time_pass_id, pass_day, from_time, to_time,
           minutes, unbounded, amount, currency, created_on, updated_on) VALUES
         (1, 'a1b2c3d4-e5f6-7890-abcd-000000000001', 7, 1, 1, '2026-01-01T00:00:00.000Z', '2026-01-01T09:00:00.000Z',
           '2026-01-01T10:00:00.000Z', 60, 1000, 1000, 'GBP', '2026-01-01T09:00:00.000Z', '2026-03-01T09:00:00.000Z'),
         (2, 'a1b2c3d4-e5f6-7890-abcd-000000000002', 8, 2, 1, '2026-02-28T00:00:00.000Z', '2026-02-28T09:00:00.000Z',
           NULL, 60, 1000, 1000, 'GBP', '2026-02-28T09:00:00.000Z', '2026-02-28T09:00:00.000Z'),
         (3, 'a1b2c3d4-e5f6-7890-abcd-000000000003', 7, 2, 1, '2026-03-01T00:00:00.000Z', '2026-03-01T09:00:00.000Z',
           NULL, 60, 1000, 1000, 'GBP', '2026-03-01T09:00:00.000Z', '2026-03-01T09:00:00.000Z')";
    fresh.store.execute(text).await.expect("written");
    let [time, updated, coworker, to, business] =
        ["from_time", "updated_on", "coworker_id", "to_time", "business_id"].map(|name| field(CHARGE_FIELDS, name));
    let since: WallTime = "2026-03-01T00:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().expect("a time").into();
    for (tests, expected) in [
        (vec![], &[1, 2, 3][..]),
        (vec![(updated, FieldTest::From(since))], &[1, 3]),
        (vec![(updated, FieldTest::From(since)), (business, FieldTest::Number(1))], &[1]),
        (vec![(updated, FieldTest::From(since)), (coworker, FieldTest::Number(7))], &[1, 3]),
        (vec![(time, FieldTest::From(since))], &[3]),
        (vec![(to, FieldTest::Before(since))], &[1]),
        (vec![(to, FieldTest::NotBefore(since))], &[2, 3]),
    ] {
        let page = fresh.store.charge_page(&query(time, tests.clone())).await.expect("read");
        let ids: Vec<i64> = page.records.iter().map(|charge| charge.id.0).collect();
        assert_eq!((&*ids, page.total), (expected, expected.len() as u64), "{tests:?}");
    }
}

/// A record as the list of changes shows it.
type Shown = (i64, WallTime, WallTime);

/// All pages of what changed since `since`, as a client asks for them; `between` runs after each page.
async fn all_changes(fresh: &Fresh, since: WallTime, mut between: impl AsyncFnMut(u32, &[i64])) -> Vec<Shown> {
    let [time, updated] = ["from_time", "updated_on"].map(|name| field(CHECKIN_FIELDS, name));
    let mut shown = Vec::<Shown>::new();
    let (mut page, mut after) = (1, None);
    loop {
        let direction = SortDirection::Descending;
        let tests = vec![(updated, FieldTest::From(since))];
        let read = ListQuery { direction, size: 6, page, after, ..query(time, tests) };
        let read = fresh.store.checkin_page(&read).await.expect("read");
        shown.extend(read.records.iter().map(|visit| (visit.id.0, visit.from_time, visit.updated_on)));
        between(page, &read.records.iter().map(|visit| visit.id.0).collect::<Vec<_>>()).await;
        if !read.has_more {
            return shown;
        }
        (page, after) = (page + 1, read.end);
    }
}

async fn pages_that_follow_each_other_repeat_and_miss_nothing_while_records_change(fresh: Fresh) {
    fill(&fresh).await;
    let run = async |text: String| fresh.store.execute(Box::leak(text.into_boxed_str())).await.expect("written");
    let epoch = WallTime::from_millis(0);
    let before = all_changes(&fresh, epoch, async |_, _| {}).await;
    assert_eq!(before.len(), 60);
    let mut changed = BTreeSet::new();
    let later = |page: u32| format!("'2026-04-01T09:00:{page:02}.000Z'");
    let during = all_changes(&fresh, epoch, async |page, ids| {
        let now = later(page);
        let id = 1000 + i64::from(page);
        // A new visit comes first in the order, and one that has been shown is deleted.
        run(format!(
            "INSERT INTO checkins (id, unique_id, coworker_id, business_id, source, from_time, from_time_local, created_on,
               updated_on, updated_by) VALUES ({id}, 'a1b2c3d4-e5f6-7890-abcd-00000000{id}', {id}, {}, 2, {now},
               '2026-04-01T09:00:00', {now}, {now}, 'checkind')",
            page % 2 + 1
        ))
        .await;
        changed.insert(id);
        let Some([deleted, ended, moved, ..]) = ids.first_chunk::<3>() else { return };
        run(format!("DELETE FROM checkins WHERE id = {deleted}")).await;
        // One that has been shown begins last now; one that has not been shown, first.
        let begins = |id: i64, at: &str| {
            format!("UPDATE checkins SET from_time = {at}, to_time = NULL, coworker_id = -{id}, updated_on = {now} WHERE id = {id}")
        };
        run(begins(*moved, "'2026-01-01T00:00:00.000Z'")).await;
        run(format!("UPDATE checkins SET updated_on = {now} WHERE id = {ended}")).await;
        let waiting = before.iter().rev().map(|(id, ..)| *id).find(|id| !changed.contains(id)).expect("one more");
        if !ids.contains(&waiting) {
            run(begins(waiting, &now)).await;
            changed.insert(waiting);
        }
        changed.extend([deleted, ended, moved]);
    })
    .await;
    let mut seen = BTreeSet::new();
    for (id, ..) in &during {
        assert!(seen.insert(*id) || changed.contains(id), "{id} is shown twice: {during:?}");
    }
    let missing: Vec<i64> =
        before.iter().map(|(id, ..)| *id).filter(|id| !seen.contains(id) && !changed.contains(id)).collect();
    assert_eq!(missing, [0; 0], "{during:?}");
    assert!(changed.len() > 20, "{changed:?}");
    // What changed meanwhile comes with the next changes.
    let since = "2026-04-01T00:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().expect("a time").into();
    let next: BTreeSet<i64> = all_changes(&fresh, since, async |_, _| {}).await.iter().map(|(id, ..)| *id).collect();
    let all: BTreeSet<i64> = all_changes(&fresh, epoch, async |_, _| {}).await.iter().map(|(id, ..)| *id).collect();
    assert_eq!(next, changed.intersection(&all).copied().collect());
}

async fn the_last_page_and_the_total_agree(fresh: Fresh) {
    fill(&fresh).await;
    let time = field(CHECKIN_FIELDS, "from_time");
    for size in [1, 7, 20, 59, 60, 61] {
        let (mut page, mut after, mut shown) = (1, None, 0);
        loop {
            let read = ListQuery { page, size, after, ..query(time, Vec::new()) };
            let read = fresh.store.checkin_page(&read).await.expect("read");
            shown += read.records.len();
            assert_eq!((read.total, read.has_more), (60, shown < 60), "page {page} of {size}");
            if !read.has_more {
                break;
            }
            (page, after) = (page + 1, read.end);
        }
        assert_eq!(shown, 60, "{size}");
    }
}

async fn the_size_and_the_locations_of_a_table_are_known(fresh: Fresh) {
    let store = &fresh.store;
    assert_eq!(store.businesses::<CoworkerCharge>().await.expect("read"), Some([].into()));
    fill(&fresh).await;
    for (most, known) in [(1, 1), (60, 60), (61, 60)] {
        assert_eq!(store.records_up_to::<Checkin>(most).await.expect("read"), known);
        assert_eq!(store.records_up_to::<FailedCheckin>(most).await.expect("read"), known);
        assert_eq!(store.records_up_to::<CoworkerCharge>(most).await.expect("read"), 0);
    }
    assert_eq!(store.businesses::<Checkin>().await.expect("read"), Some([1, 2].into()));
    assert_eq!(store.businesses::<FailedCheckin>().await.expect("read"), Some([1, 2].into()));
    let more = "INSERT INTO failed_checkins (id, unique_id, coworker_id, business_id, source, checkin_attempt_time,
           checkin_attempt_time_local, created_on, updated_on, updated_by)
         SELECT 1000 + s.n, s.guid, 1, s.n, 2, f.checkin_attempt_time, f.checkin_attempt_time_local, f.created_on, f.updated_on, 'checkind'
         FROM failed_checkins f CROSS JOIN (VALUES ";
    let rows =
        (100..149).map(|n| format!("({n}, 'a1b2c3d4-e5f6-7890-abce-000000000{n}')")).collect::<Vec<_>>().join(",");
    let guid = if store.is_shared() { "CAST(s.guid AS uuid)" } else { "s.guid" };
    let named = if store.is_shared() { ") AS s (n, guid)" } else { ") AS s" };
    let text = format!("{more}{rows}{named} WHERE f.id = 1").replace("s.guid,", &format!("{guid},"));
    let text = if store.is_shared() { text } else { text.replace("s.n", "s.column1").replace("s.guid", "s.column2") };
    store.execute(Box::leak(text.into_boxed_str())).await.expect("written");
    // Too many to merge: they are listed all the same.
    assert_eq!(store.businesses::<FailedCheckin>().await.expect("read"), None);
    let time = field(FAILED_CHECKIN_FIELDS, "checkin_attempt_time");
    let page = ListQuery { direction: SortDirection::Descending, size: 10, ..query(time, Vec::new()) };
    let page = store.failed_checkin_page(&page).await.expect("read");
    assert_eq!((page.records.len(), page.total, page.has_more), (10, 109, true));
    assert!(page.records.is_sorted_by(|one, other| one.checkin_attempt_time >= other.checkin_attempt_time));
}

/// The log is never copied as a whole while some list is always being read, so lists stop for a moment.
#[tokio::test]
async fn a_long_log_begins_again_before_a_list_is_read() {
    let fresh = Fresh::sqlite().await;
    fill(&fresh).await;
    let Database::Sqlite { path } = &fresh.database else { panic!("it is SQLite") };
    let log = with_suffix(path, "-wal");
    let length = || std::fs::metadata(&log).expect("the log").len();
    // SQLite ignores what comes after its last commit.
    std::fs::File::options().write(true).open(&log).expect("the log").set_len(100_000_000).expect("a longer log");
    fresh.store.execute("DELETE FROM checkins WHERE id = 1").await.expect("written");
    assert_eq!(length(), 100_000_000, "by itself it stays");
    let page = fresh.store.checkin_page(&query(&CHECKIN_FIELDS[0], Vec::new())).await.expect("read");
    assert_eq!(page.total, 59);
    fresh.store.execute("DELETE FROM checkins WHERE id = 2").await.expect("written");
    assert!(length() < 3_000_000, "{} bytes", length());
}
