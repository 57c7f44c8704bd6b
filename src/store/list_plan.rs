//! PURE. By which index the records of a list are found.
//!
//! No index has the time alone: each would cost every tap one more page. A list of several locations is merged from the
//! index of each location by time instead. No index has the time of the last change of every record either: most are last
//! changed within hours of their time, so those are found by their time, and the others by an index that has only them.

use std::{collections::BTreeSet, time::Duration};

use chrono::NaiveDateTime;

use crate::base::{
    clock::WallTime,
    listing::{FieldTest, ListQuery, ListedField},
};

/// The most locations whose records are merged. A list of more is found as the database thinks best.
pub(super) const MOST_MERGED: usize = 50;

/// The most people whose records are found by the index of people; those of more are filtered.
const MOST_PEOPLE: usize = 20;

/// A record that was last changed longer after its time than this is in the index of late changes. The index says twelve
/// hours; the hour keeps rounding away from the border. A shorter time would put the end of many visits into the index,
/// which costs their taps a page; a longer one makes more records be looked at.
const LATE: Duration = Duration::from_hours(13);

/// No wall clock is further from UTC: the furthest are 14 hours before it.
const FURTHEST_ZONE: Duration = Duration::from_hours(16);

/// A table whose records are listed, as statements call it.
#[derive(Debug)]
pub(super) struct ListedTable {
    /// The columns of a record of `c`, after `SELECT`.
    pub(super) columns: &'static str,
    /// The table, called `c`.
    pub(super) name: &'static str,
    /// The field by which its records are sorted by default.
    pub(super) time: &'static str,
    /// The same, as a column of `c`.
    pub(super) time_of_c: &'static str,
    /// The locations that it has, at most $1 of them, as `business_id`.
    pub(super) businesses: &'static str,
    /// How many records it has, at most $1 of them, as `records`.
    pub(super) records: &'static str,
    /// Makes SQLite use the index by location and time.
    pub(super) by_time: &'static str,
    /// Makes SQLite use the index by coworker.
    pub(super) by_coworker: &'static str,
    /// Makes SQLite use the index of records that were changed late.
    pub(super) by_late_change: &'static str,
    /// Makes SQLite use the index of open visits, and the table of them in PostgreSQL; `None` without such an index.
    pub(super) open: Option<(&'static str, &'static str)>,
    /// Whether the database makes sure that `to_time` is not before the time.
    pub(super) is_ordered: bool,
}

/// How a list's records are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListWay {
    /// By its id, by a unique value or by all rows: as the database thinks best.
    Any,
    /// By id, in the order of ids.
    ById,
    /// By the index of open visits.
    Open,
    /// By the index of people.
    Coworker,
    /// By the index of each location by time.
    Merged(TimeBounds),
}

/// What is known of the time of each record of a list, besides the tests of that field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TimeBounds {
    from: Option<WallTime>,
    before: Option<WallTime>,
    /// Each was changed at this time or later.
    changed: Option<WallTime>,
    /// Whether there is any bound, tests of the field included.
    is_bounded: bool,
}

/// Some of the records of a list. No record is in two of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListPart {
    pub(super) index: PartIndex,
    pub(super) tests: Vec<PartTest>,
}

/// The index by which a part is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartIndex {
    Any,
    ById,
    Open,
    Coworker,
    Time,
    LateChange,
}

/// What holds for each record of a part, besides the tests of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PartTest {
    Business(i64),
    Businesses(BTreeSet<i64>),
    From(WallTime),
    Before(WallTime),
    /// Changed late, at this time or later.
    ChangedLate(WallTime),
}

impl ListWay {
    /// The way to find what this query asks for.
    pub(super) fn of(table: &ListedTable, query: &ListQuery) -> Self {
        let mut found = Self::Any;
        for (field, test) in &query.tests {
            let way = match (field.column, test) {
                ("id", FieldTest::Number(_) | FieldTest::AnyOf(_)) | ("unique_id" | "checkin", FieldTest::Guid(_)) => {
                    return Self::Any;
                }
                ("to_time", FieldTest::Null) if table.open.is_some() => Self::Open,
                ("coworker_id", FieldTest::Number(_)) if found == Self::Any => Self::Coworker,
                ("coworker_id", FieldTest::AnyOf(ids)) if found == Self::Any && ids.len() <= MOST_PEOPLE => {
                    Self::Coworker
                }
                _ => continue,
            };
            found = way;
        }
        if found != Self::Any {
            return found;
        }
        let bounds = TimeBounds::of(table, query);
        match query.order.column {
            column if bounds.is_bounded || column == table.time => Self::Merged(bounds),
            "id" => Self::ById,
            _ => Self::Any,
        }
    }

    /// Its parts. `businesses` are the locations whose records the list may have; `None` if they are not known, or too
    /// many.
    pub(super) fn parts(&self, businesses: Option<&BTreeSet<i64>>) -> Vec<ListPart> {
        let only = |index| {
            let tests = businesses.map(|all| PartTest::Businesses(all.clone()));
            vec![ListPart { index, tests: tests.into_iter().collect() }]
        };
        let bounds = match self {
            Self::Any => return only(PartIndex::Any),
            Self::ById => return only(PartIndex::ById),
            Self::Open => return only(PartIndex::Open),
            Self::Coworker => return only(PartIndex::Coworker),
            Self::Merged(bounds) => bounds,
        };
        let Some(businesses) = businesses.filter(|all| all.len() <= MOST_MERGED) else { return only(PartIndex::Any) };
        let late = bounds.changed.map(|at| (at, at.minus(LATE)));
        let from = bounds.from.max(late.map(|(_, from)| from));
        let bounded = |test| [Some(test), from.map(PartTest::From), bounds.before.map(PartTest::Before)];
        let mut parts: Vec<ListPart> = businesses
            .iter()
            .map(|business| bounded(PartTest::Business(*business)).into_iter().flatten().collect())
            .map(|tests| ListPart { index: PartIndex::Time, tests })
            .collect();
        if let Some((changed, before)) = late {
            let tests = vec![
                PartTest::ChangedLate(changed),
                PartTest::Before(before),
                PartTest::Businesses(businesses.clone()),
            ];
            parts.push(ListPart { index: PartIndex::LateChange, tests });
        }
        parts
    }

    /// The way to count what this query asks for: without any bound the order does not matter, and one count of the whole
    /// table is faster than one of each location.
    pub(super) fn to_count(&self, has_businesses: bool) -> Self {
        match self {
            Self::ById => Self::Any,
            Self::Merged(bounds) if !bounds.is_bounded && !has_businesses => Self::Any,
            Self::Any | Self::Open | Self::Coworker | Self::Merged(_) => self.clone(),
        }
    }
}

impl TimeBounds {
    fn of(table: &ListedTable, query: &ListQuery) -> Self {
        let mut bounds = Self::default();
        for (field, test) in &query.tests {
            bounds.narrow(table, field, test);
        }
        bounds
    }

    fn narrow(&mut self, table: &ListedTable, field: &ListedField, test: &FieldTest) {
        let column = field.column;
        let second = Duration::from_secs(1);
        let utc = |local: NaiveDateTime| WallTime::from(local.and_utc());
        let is_local = column.strip_suffix("_local") == Some(table.time);
        let is_end = column == "to_time" && table.is_ordered;
        match test {
            FieldTest::At(_) | FieldTest::From(_) | FieldTest::To(_) if column == table.time => self.is_bounded = true,
            FieldTest::At(at) | FieldTest::From(at) if ["created_on", "updated_on"].contains(&column) => {
                self.changed = self.changed.max(Some(*at));
                self.is_bounded = true;
            }
            FieldTest::At(at) | FieldTest::To(at) | FieldTest::Before(at) if is_end => self.end(at.plus(second)),
            FieldTest::AtLocal(at) if is_local => {
                self.begin(utc(*at).minus(FURTHEST_ZONE));
                self.end(utc(*at).plus(FURTHEST_ZONE));
            }
            FieldTest::FromLocal(at) if is_local => self.begin(utc(*at).minus(FURTHEST_ZONE)),
            FieldTest::ToLocal(at) if is_local => self.end(utc(*at).plus(FURTHEST_ZONE)),
            FieldTest::Number(_)
            | FieldTest::AnyOf(_)
            | FieldTest::Truth(_)
            | FieldTest::Guid(_)
            | FieldTest::Contains(_)
            | FieldTest::At(_)
            | FieldTest::From(_)
            | FieldTest::To(_)
            | FieldTest::AtLocal(_)
            | FieldTest::FromLocal(_)
            | FieldTest::ToLocal(_)
            | FieldTest::Null
            | FieldTest::NotNull
            | FieldTest::Before(_)
            | FieldTest::NotBefore(_) => {}
        }
    }

    fn begin(&mut self, from: WallTime) {
        self.from = self.from.max(Some(from));
        self.is_bounded = true;
    }

    fn end(&mut self, before: WallTime) {
        self.before = Some(self.before.map_or(before, |known| known.min(before)));
        self.is_bounded = true;
    }
}

/// The locations that a query names: those that its user may see, as far as its filters leave them.
pub(super) fn named_businesses(query: &ListQuery) -> Option<BTreeSet<i64>> {
    let mut named: Option<BTreeSet<i64>> =
        query.businesses.as_ref().map(|all| all.iter().map(|business| business.0).collect());
    for (field, test) in &query.tests {
        let wanted: BTreeSet<i64> = match (field.column, test) {
            ("business_id", FieldTest::Number(number)) => [*number].into(),
            ("business_id", FieldTest::AnyOf(numbers)) => numbers.iter().copied().collect(),
            _ => continue,
        };
        named = Some(named.map_or(wanted.clone(), |known| known.intersection(&wanted).copied().collect()));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{
            listing::{CHARGE_FIELDS, CHECKIN_FIELDS, SortDirection},
            record::{BusinessId, Checkin, CoworkerCharge},
        },
        store::list_text::ListedRecord,
    };

    const NOW: WallTime = WallTime::from_millis(1_800_000_000_000);
    const HOUR: i64 = 3_600_000;

    fn ago(hours: i64) -> WallTime {
        NOW.moved(-hours * HOUR)
    }

    fn query(order: &str, tests: Vec<(&str, FieldTest)>) -> ListQuery {
        let field = |column: &str| CHECKIN_FIELDS.iter().find(|field| field.column == column).expect("a field");
        ListQuery {
            tests: tests.into_iter().map(|(column, test)| (field(column), test)).collect(),
            businesses: None,
            order: field(order),
            direction: SortDirection::Descending,
            page: 1,
            size: 25,
            after: None,
        }
    }

    /// The indexes by which a list of locations 1 and 2 is found, each with the number of its tests.
    fn indexes(order: &str, tests: Vec<(&str, FieldTest)>) -> Vec<(PartIndex, usize)> {
        let way = ListWay::of(&Checkin::TABLE, &query(order, tests));
        let parts = way.parts(Some(&[1, 2].into()));
        parts.into_iter().map(|part| (part.index, part.tests.len())).collect()
    }

    #[test]
    fn each_list_is_found_by_the_index_that_suits_it() {
        let local = NOW.utc().naive_utc();
        let many = FieldTest::AnyOf((0..21).collect());
        let few = FieldTest::AnyOf(vec![1, 2]);
        let merged = |tests| vec![(PartIndex::Time, tests); 2];
        for (order, tests, expected) in [
            ("from_time", vec![], merged(1)),
            ("id", vec![], vec![(PartIndex::ById, 1)]),
            ("created_on", vec![], vec![(PartIndex::Any, 1)]),
            ("from_time", vec![("id", FieldTest::Number(1))], vec![(PartIndex::Any, 1)]),
            ("from_time", vec![("to_time", FieldTest::Null)], vec![(PartIndex::Open, 1)]),
            ("from_time", vec![("coworker_id", FieldTest::Number(7))], vec![(PartIndex::Coworker, 1)]),
            ("to_time", vec![("coworker_id", few.clone())], vec![(PartIndex::Coworker, 1)]),
            ("from_time", vec![("coworker_id", many)], merged(1)),
            ("from_time", vec![("coworker_id", few), ("to_time", FieldTest::Null)], vec![(PartIndex::Open, 1)]),
            ("to_time", vec![("from_time", FieldTest::From(ago(5)))], merged(1)),
            ("to_time", vec![("to_time", FieldTest::From(ago(5)))], vec![(PartIndex::Any, 1)]),
            ("to_time", vec![("to_time", FieldTest::To(ago(5)))], merged(2)),
            ("from_time", vec![("from_time_local", FieldTest::AtLocal(local))], merged(3)),
            ("from_time", vec![("to_time_local", FieldTest::ToLocal(local))], merged(1)),
        ] {
            assert_eq!(indexes(order, tests.clone()), expected, "{order} {tests:?}");
        }
    }

    #[test]
    fn what_changed_lately_is_found_by_its_time_or_by_its_late_change() {
        for column in ["updated_on", "created_on"] {
            let tests = vec![(column, FieldTest::From(ago(1))), ("from_time_local", FieldTest::Null)];
            let parts = ListWay::of(&Checkin::TABLE, &query("id", tests)).parts(Some(&[2].into()));
            let expected = [
                ListPart { index: PartIndex::Time, tests: vec![PartTest::Business(2), PartTest::From(ago(14))] },
                ListPart {
                    index: PartIndex::LateChange,
                    tests: vec![
                        PartTest::ChangedLate(ago(1)),
                        PartTest::Before(ago(14)),
                        PartTest::Businesses([2].into()),
                    ],
                },
            ];
            assert_eq!(parts, expected, "{column}");
        }
    }

    #[test]
    fn too_many_locations_are_not_merged() {
        let way = ListWay::of(&Checkin::TABLE, &query("from_time", vec![]));
        let many: BTreeSet<i64> = (0..=50).collect();
        let all = ListPart { index: PartIndex::Any, tests: vec![PartTest::Businesses(many.clone())] };
        assert_eq!(way.parts(Some(&many)), [all]);
        assert_eq!(way.parts(None), [ListPart { index: PartIndex::Any, tests: vec![] }]);
    }

    #[test]
    fn only_the_database_says_that_an_end_is_after_the_beginning() {
        let field = |column: &str| CHARGE_FIELDS.iter().find(|field| field.column == column).expect("a field");
        let asked = query("id", vec![]);
        let asked = ListQuery { tests: vec![(field("to_time"), FieldTest::To(NOW))], ..asked };
        assert_eq!(ListWay::of(&CoworkerCharge::TABLE, &asked), ListWay::ById);
    }

    #[test]
    fn filters_narrow_the_locations_that_a_user_may_see() {
        let wanted = |number| ("business_id", FieldTest::Number(number));
        let any = ("business_id", FieldTest::AnyOf(vec![2, 3]));
        let users = Some([1, 2].map(BusinessId).into());
        for (businesses, tests, expected) in [
            (None, vec![], None),
            (None, vec![wanted(3)], Some(vec![3])),
            (users.clone(), vec![], Some(vec![1, 2])),
            (users.clone(), vec![any.clone()], Some(vec![2])),
            (users, vec![any, wanted(3)], Some(vec![])),
        ] {
            let query = ListQuery { businesses, ..query("id", tests) };
            assert_eq!(named_businesses(&query).map(|all| all.into_iter().collect()), expected, "{query:?}");
        }
    }
}
