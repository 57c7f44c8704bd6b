//! Lists of records: filtered, sorted, one page at a time.
//!
//! The text of a query is made of fixed pieces of this module. Everything that comes from outside is an argument: the
//! only way to add to a [`ListText`] is a `&'static str` or a bound value.

use std::{collections::BTreeSet, time::Duration};

use chrono::NaiveDateTime;
use uuid::Uuid;

use super::{
    error::StoreError,
    handle::Store,
    statement::Arg,
    stored::{LOCAL, Row},
};
use crate::base::{
    clock::WallTime,
    mac::MacAddr,
    record::{BusinessId, Checkin, CheckinId, CheckinSource, CoworkerId, FailedCheckin, FailedCheckinId},
};

/// The fields of a check-in.
pub const CHECKIN_FIELDS: &[ListedField] = Checkin::FIELDS;

/// The fields of a failed check-in.
pub const FAILED_CHECKIN_FIELDS: &[ListedField] = FailedCheckin::FIELDS;

/// The most records of one page. Clients ask for as many; a larger size is cut to this.
pub const LARGEST_PAGE: u32 = 10_000;

/// What the API shows of an instant is whole seconds, so what equals one or ends with one includes its fractions.
const SHOWN: Duration = Duration::from_secs(1);

/// A field by which records are filtered and sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedField {
    /// The name of its column; in Pascal case, of its key in the API.
    pub column: &'static str,
    /// What its values are.
    pub kind: FieldKind,
    /// Whether it is never null: then nothing has to be sorted to the end.
    pub is_always_set: bool,
}

/// What the values of a field are, as clients write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// An id or another number.
    Number,
    /// An `eCheckinSource`, by number or name.
    Source,
    /// True or false.
    Truth,
    /// A UUID.
    Guid,
    /// An instant.
    Instant,
    /// A time on the wall clock of the business.
    WallClock,
    /// Text, found by a part of it.
    Text,
}

/// The type of a field of a record that is listed.
pub(super) trait Listed {
    const KIND: FieldKind;
    const IS_ALWAYS_SET: bool = true;
}

impl<T: Listed> Listed for Option<T> {
    const KIND: FieldKind = T::KIND;
    const IS_ALWAYS_SET: bool = false;
}

macro_rules! listed {
    ($($kind:ty => $field:ident;)+) => {
        $(impl Listed for $kind {
            const KIND: FieldKind = FieldKind::$field;
        })+
    };
}

listed! {
    CheckinId => Number;
    FailedCheckinId => Number;
    CoworkerId => Number;
    BusinessId => Number;
    CheckinSource => Source;
    bool => Truth;
    Uuid => Guid;
    WallTime => Instant;
    NaiveDateTime => WallClock;
    String => Text;
}

/// The addresses of devices are one text in the database; without any it is null.
impl Listed for BTreeSet<MacAddr> {
    const KIND: FieldKind = FieldKind::Text;
    const IS_ALWAYS_SET: bool = false;
}

/// A record that is listed.
pub(super) trait ListedRecord: Sized {
    /// Its fields, in the order of the API.
    const FIELDS: &'static [ListedField];
    /// Its columns, from its table.
    const FROM: &'static str;
    /// The same table, to count.
    const COUNTED: &'static str;

    /// The text of a field, for SQLite and for PostgreSQL.
    fn text_of(field: &ListedField) -> (&'static str, &'static str);

    /// Reads a row.
    fn from_row(row: &Row) -> Result<Self, StoreError>;
}

/// What a field must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// This number, or the number of this source.
    Number(i64),
    /// One of these numbers.
    AnyOf(Vec<i64>),
    /// This.
    Truth(bool),
    /// This.
    Guid(Uuid),
    /// Text that contains this; ASCII letters in any case.
    Contains(String),
    /// An instant shown as this one.
    At(WallTime),
    /// This instant or later.
    From(WallTime),
    /// This instant, as it is shown, or earlier.
    To(WallTime),
    /// This wall clock time.
    AtLocal(NaiveDateTime),
    /// This wall clock time or later.
    FromLocal(NaiveDateTime),
    /// This wall clock time or earlier.
    ToLocal(NaiveDateTime),
    /// Null.
    Null,
    /// Anything but null.
    NotNull,
}

/// Which way records are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortDirection {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// Which records, in which order, and which page of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Every one must hold.
    pub tests: Vec<(&'static ListedField, Test)>,
    /// Only records of these businesses; `None` for all.
    pub businesses: Option<Vec<BusinessId>>,
    /// What they are sorted by; then by id. Null comes last.
    pub order: &'static ListedField,
    /// Which way.
    pub direction: SortDirection,
    /// From 1.
    pub page: u32,
    /// Records of a page, from 1 to [`LARGEST_PAGE`].
    pub size: u32,
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage<T> {
    /// Its records.
    pub records: Vec<T>,
    /// How many match, on all pages.
    pub total: u64,
}

/// The text of a query, and its arguments.
#[derive(Debug)]
pub(crate) struct ListText {
    is_sqlite: bool,
    pub(super) text: String,
    pub(super) args: Vec<Arg>,
}

impl ListText {
    fn new(is_sqlite: bool) -> Self {
        Self { is_sqlite, text: String::new(), args: Vec::new() }
    }

    fn add(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds the text for the database.
    fn either(&mut self, (sqlite, postgres): (&'static str, &'static str)) -> &mut Self {
        let text = if self.is_sqlite { sqlite } else { postgres };
        self.add(text)
    }

    /// Adds a placeholder for a value.
    fn bind(&mut self, value: Arg) -> &mut Self {
        use std::fmt::Write as _;
        self.args.push(value);
        write!(self.text, "${}", self.args.len()).expect("text takes everything");
        self
    }

    fn add_tests<T: ListedRecord>(&mut self, query: &ListQuery) {
        self.add(" WHERE TRUE");
        if let Some(businesses) = &query.businesses {
            self.add(" AND c.business_id IN ").add_numbers(businesses.iter().map(|business| business.0));
        }
        for (field, test) in &query.tests {
            self.add(" AND ").add_test(T::text_of(field), test);
        }
    }

    /// A list of numbers, as one argument.
    fn add_numbers(&mut self, numbers: impl Iterator<Item = i64>) {
        let numbers = Arg::json(&numbers.collect::<Vec<_>>());
        self.either(("(SELECT value FROM json_each(", "(SELECT value::bigint FROM jsonb_array_elements_text("));
        self.bind(numbers).either(("))", "::jsonb) AS value)"));
    }

    fn add_test(&mut self, field: (&'static str, &'static str), test: &Test) {
        let local = |at: NaiveDateTime| Arg::Text(at.format(LOCAL).to_string());
        match test {
            Test::Number(number) => self.either(field).add(" = ").bind(Arg::Int(*number)),
            Test::AnyOf(numbers) => {
                self.either(field).add(" IN ").add_numbers(numbers.iter().copied());
                self
            }
            Test::Truth(truth) => self.either(field).add(" = ").bind(Arg::Bool(*truth)),
            Test::Guid(guid) => {
                self.either(field).add(" = ").bind(Arg::Text(guid.to_string())).either(("", "::uuid"))
            }
            // ASCII letters in any case, because that is what both databases agree on.
            Test::Contains(part) => {
                let part = Arg::Text(part.to_ascii_lowercase());
                self.either(("instr(lower(", "strpos(lower(")).either(field);
                self.either(("), ", " COLLATE \"C\"), ")).bind(part).add(") > 0")
            }
            Test::At(at) => {
                self.either(field).add(" >= ").bind(Arg::Time(*at));
                self.add(" AND ").either(field).add(" < ").bind(Arg::Time(at.plus(SHOWN)))
            }
            Test::From(at) => self.either(field).add(" >= ").bind(Arg::Time(*at)),
            Test::To(at) => self.either(field).add(" < ").bind(Arg::Time(at.plus(SHOWN))),
            Test::AtLocal(at) => self.either(field).add(" = ").bind(local(*at)),
            Test::FromLocal(at) => self.either(field).add(" >= ").bind(local(*at)),
            Test::ToLocal(at) => self.either(field).add(" <= ").bind(local(*at)),
            Test::Null => self.either(field).add(" IS NULL"),
            Test::NotNull => self.either(field).add(" IS NOT NULL"),
        };
    }

    fn add_order<T: ListedRecord>(&mut self, query: &ListQuery) {
        let down = query.direction == SortDirection::Descending;
        self.add(" ORDER BY ").either(T::text_of(query.order)).add(if down { " DESC" } else { "" });
        // Both databases then use an index of a column without nulls.
        self.add(if query.order.is_always_set { "" } else { " NULLS LAST" });
        self.add(if down { ", c.id DESC" } else { ", c.id" });
    }
}

impl ListQuery {
    /// How many records are before the page.
    fn before(&self) -> i64 {
        i64::from(self.page.saturating_sub(1)) * i64::from(self.size)
    }

    fn page_of<T: ListedRecord>(&self, is_sqlite: bool) -> ListText {
        let mut text = ListText::new(is_sqlite);
        text.add(T::FROM).add_tests::<T>(self);
        text.add_order::<T>(self);
        text.add(" LIMIT ").bind(Arg::Int(i64::from(self.size)));
        text.add(" OFFSET ").bind(Arg::Int(self.before()));
        text
    }

    fn total_of<T: ListedRecord>(&self, is_sqlite: bool) -> ListText {
        let mut text = ListText::new(is_sqlite);
        text.add("SELECT count(*) AS total FROM ").add(T::COUNTED).add_tests::<T>(self);
        text
    }
}

impl Store {
    /// A page of check-ins.
    pub async fn checkin_page(&self, query: &ListQuery) -> Result<ListPage<Checkin>, StoreError> {
        self.list(query).await
    }

    /// A page of failed check-ins.
    pub async fn failed_checkin_page(&self, query: &ListQuery) -> Result<ListPage<FailedCheckin>, StoreError> {
        self.list(query).await
    }

    async fn list<T: ListedRecord>(&self, query: &ListQuery) -> Result<ListPage<T>, StoreError> {
        let is_sqlite = !self.is_shared();
        let rows = self.sql.read_list(&query.page_of::<T>(is_sqlite)).await?;
        let records: Vec<T> = rows.iter().map(T::from_row).collect::<Result<_, _>>()?;
        // A page that is not full is the last one, unless it is beyond the end.
        let found = u64::try_from(records.len()).unwrap_or(u64::MAX);
        let before = query.before().unsigned_abs();
        if found < u64::from(query.size) && (found > 0 || before == 0) {
            return Ok(ListPage { records, total: before + found });
        }
        let rows = self.sql.read_list(&query.total_of::<T>(is_sqlite)).await?;
        let total = rows.first().map_or(Ok(0), |row| row.int("total"))?;
        Ok(ListPage { records, total: total.unsigned_abs() })
    }
}
