//! The text of a list's query.
//!
//! It is made of fixed pieces of this module. Everything that comes from outside is an argument: the
//! only way to add to a [`ListText`] is a `&'static str` or a bound value.

use std::time::Duration;

use chrono::NaiveDateTime;

use super::{
    error::StoreError,
    rows::without_nul,
    statement::Arg,
    stored::{LOCAL, Row},
};
use crate::base::listing::{FieldTest, ListQuery, ListedField, SortDirection};

/// What the API shows of an instant is whole seconds, so what equals one or ends with one includes its fractions.
const SHOWN: Duration = Duration::from_secs(1);

/// The columns of a record, as the statement of a list names them.
pub(super) trait FieldsOf {
    /// Each as a column of `c`.
    const COLUMNS_OF_C: &'static [&'static str];

    /// The column of a field, in the text of either database.
    fn column_of(field: &ListedField) -> (&'static str, &'static str) {
        let is_it = |name: &&&str| name.strip_prefix("c.") == Some(field.column);
        let name = Self::COLUMNS_OF_C.iter().find(is_it).expect("a field of this record");
        (name, name)
    }
}

/// A record that is listed.
pub(super) trait ListedRecord: FieldsOf + Sized {
    /// Its columns, from its table.
    const FROM: &'static str;
    /// The same table, to count.
    const COUNTED: &'static str;

    /// The text of a field, for SQLite and for PostgreSQL.
    fn text_of(field: &ListedField) -> (&'static str, &'static str) {
        Self::column_of(field)
    }

    /// Reads a row.
    fn from_row(row: &Row) -> Result<Self, StoreError>;
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

    fn add_test(&mut self, field: (&'static str, &'static str), test: &FieldTest) {
        let local = |at: NaiveDateTime| Arg::Text(at.format(LOCAL).to_string());
        match test {
            FieldTest::Number(number) => self.either(field).add(" = ").bind(Arg::Int(*number)),
            FieldTest::AnyOf(numbers) => {
                self.either(field).add(" IN ").add_numbers(numbers.iter().copied());
                self
            }
            FieldTest::Truth(truth) => self.either(field).add(" = ").bind(Arg::Bool(*truth)),
            FieldTest::Guid(guid) => {
                self.either(field).add(" = ").bind(Arg::Text(guid.to_string())).either(("", "::uuid"))
            }
            // ASCII letters in any case, because that is what both databases agree on.
            FieldTest::Contains(part) => {
                // Stored text has no NUL character, and PostgreSQL refuses an argument with one.
                let part = Arg::Text(without_nul(part).to_ascii_lowercase());
                self.either(("instr(lower(", "strpos(lower(")).either(field);
                self.either(("), ", " COLLATE \"C\"), ")).bind(part).add(") > 0")
            }
            FieldTest::At(at) => {
                self.either(field).add(" >= ").bind(Arg::Time(*at));
                self.add(" AND ").either(field).add(" < ").bind(Arg::Time(at.plus(SHOWN)))
            }
            FieldTest::From(at) => self.either(field).add(" >= ").bind(Arg::Time(*at)),
            FieldTest::To(at) => self.either(field).add(" < ").bind(Arg::Time(at.plus(SHOWN))),
            FieldTest::AtLocal(at) => self.either(field).add(" = ").bind(local(*at)),
            FieldTest::FromLocal(at) => self.either(field).add(" >= ").bind(local(*at)),
            FieldTest::ToLocal(at) => self.either(field).add(" <= ").bind(local(*at)),
            FieldTest::Null => self.either(field).add(" IS NULL"),
            FieldTest::NotNull => self.either(field).add(" IS NOT NULL"),
            FieldTest::Before(at) => self.either(field).add(" < ").bind(Arg::Time(*at)),
            FieldTest::NotBefore(at) => {
                self.add("(").either(field).add(" IS NULL OR ").either(field).add(" >= ");
                self.bind(Arg::Time(*at)).add(")")
            }
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

impl ListText {
    /// The records of the page.
    pub(super) fn page<T: ListedRecord>(query: &ListQuery, is_sqlite: bool) -> Self {
        let mut text = Self::new(is_sqlite);
        text.add(T::FROM).add_tests::<T>(query);
        text.add_order::<T>(query);
        text.add(" LIMIT ").bind(Arg::Int(i64::from(query.size)));
        text.add(" OFFSET ").bind(Arg::Int(i64::try_from(query.before()).unwrap_or(i64::MAX)));
        text
    }

    /// How many records match, on all pages, as `total`.
    pub(super) fn total<T: ListedRecord>(query: &ListQuery, is_sqlite: bool) -> Self {
        let mut text = Self::new(is_sqlite);
        text.add("SELECT count(*) AS total FROM ").add(T::COUNTED).add_tests::<T>(query);
        text
    }
}
