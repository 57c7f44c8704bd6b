//! The text of a list's query.
//!
//! It is made of fixed pieces of this module. Everything that comes from outside is an argument: the
//! only way to add to a [`ListText`] is a `&'static str` or a bound value.

use std::time::Duration;

use chrono::NaiveDateTime;

use super::{
    error::StoreError,
    list_plan::{ListPart, ListedTable, PartIndex, PartTest},
    rows::without_nul,
    statement::Arg,
    stored::{LOCAL, Row},
};
use crate::base::listing::{FieldTest, ListPosition, ListQuery, ListedField, PositionKey, SortDirection};

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
    /// Its table.
    const TABLE: ListedTable;

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

    /// The table, and what must hold for its rows in this part of a list.
    fn add_part<T: ListedRecord>(&mut self, query: &ListQuery, part: &ListPart) -> &mut Self {
        let table = &T::TABLE;
        self.add(" FROM ");
        match part.index {
            PartIndex::Any => self.add(table.name),
            PartIndex::ById => self.add(table.name).either((" NOT INDEXED", "")),
            PartIndex::Open => self.either(table.open.unwrap_or((table.name, table.name))),
            PartIndex::Coworker => self.add(table.name).either((table.by_coworker, "")),
            PartIndex::Time => self.add(table.name).either((table.by_time, "")),
            PartIndex::LateChange => self.add(table.name).either((table.by_late_change, "")),
        };
        let mut before = " WHERE ";
        for test in &part.tests {
            self.add(before).add_part_test(table, test);
            before = " AND ";
        }
        for (field, test) in &query.tests {
            self.add(before).add_test(T::text_of(field), test);
            before = " AND ";
        }
        if let Some(after) = query.after {
            self.add(before).add_after(T::text_of(query.order), after, query.direction);
        }
        self
    }

    fn add_part_test(&mut self, table: &ListedTable, test: &PartTest) {
        match test {
            PartTest::Business(business) => self.add("c.business_id = ").bind(Arg::Int(*business)),
            PartTest::Businesses(businesses) => self.add("c.business_id").add_one_of(businesses.iter().copied()),
            PartTest::From(at) => self.add(table.time_of_c).add(" >= ").bind(Arg::Time(*at)),
            PartTest::Before(at) => self.add(table.time_of_c).add(" < ").bind(Arg::Time(*at)),
            // As the index of late changes says it: otherwise it is not used.
            PartTest::ChangedLate(at) => {
                self.either((
                    "julianday(max(c.created_on, c.updated_on)) - julianday(",
                    "greatest(c.created_on, c.updated_on) - ",
                ));
                self.add(table.time_of_c).either((") > 0.5", " > interval '12 hours'"));
                self.either((
                    " AND max(c.created_on, c.updated_on) >= ",
                    " AND greatest(c.created_on, c.updated_on) >= ",
                ));
                self.bind(Arg::Time(*at))
            }
        };
    }

    /// What comes after a place.
    fn add_after(&mut self, field: (&'static str, &'static str), after: ListPosition, direction: SortDirection) {
        let key = || match after.key {
            PositionKey::Number(number) => Arg::Int(number),
            PositionKey::Instant(at) => Arg::Time(at),
        };
        let (with, beyond, id) = match direction {
            SortDirection::Ascending => (" >= ", " > ", " OR c.id > "),
            SortDirection::Descending => (" <= ", " < ", " OR c.id < "),
        };
        self.either(field).add(with).bind(key()).add(" AND (").either(field).add(beyond).bind(key());
        self.add(id).bind(Arg::Int(after.id)).add(")");
    }

    /// Whether it is one of these numbers, all of which are one argument. PostgreSQL sees how many there are.
    fn add_one_of(&mut self, numbers: impl Iterator<Item = i64>) -> &mut Self {
        let list = numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        let list = if self.is_sqlite { format!("[{list}]") } else { format!("{{{list}}}") };
        self.either((" IN (SELECT value FROM json_each(", " = ANY("));
        self.bind(Arg::Text(list)).either(("))", "::bigint[])"))
    }

    fn add_test(&mut self, field: (&'static str, &'static str), test: &FieldTest) {
        let local = |at: NaiveDateTime| Arg::Text(at.format(LOCAL).to_string());
        match test {
            FieldTest::Number(number) => self.either(field).add(" = ").bind(Arg::Int(*number)),
            FieldTest::AnyOf(numbers) => self.either(field).add_one_of(numbers.iter().copied()),
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

    fn add_order(&mut self, query: &ListQuery, key: (&'static str, &'static str), id: &'static str) -> &mut Self {
        let down = if query.direction == SortDirection::Descending { " DESC" } else { "" };
        self.add(" ORDER BY ").either(key).add(down);
        // Both databases then use an index of a column without nulls.
        self.add(if query.order.is_always_set { "" } else { " NULLS LAST" });
        self.add(", ").add(id).add(down)
    }
}

impl ListText {
    /// The records of the page, and one more if there is one.
    ///
    /// First their ids, from all parts: what is passed over is read from the index alone. SQLite merges sorted parts row by
    /// row; PostgreSQL is told how many rows of each can matter.
    pub(super) fn page<T: ListedRecord>(query: &ListQuery, parts: &[ListPart], is_sqlite: bool) -> Self {
        let mut text = Self::new(is_sqlite);
        let before = if query.after.is_some() { 0 } else { query.before() };
        let rows = u64::from(query.size) + 1;
        let count = |rows: u64| Arg::Int(i64::try_from(rows).unwrap_or(i64::MAX));
        let key = T::text_of(query.order);
        text.add(T::TABLE.columns).add(" FROM (SELECT p.id, p.k FROM (");
        for (number, part) in parts.iter().enumerate() {
            text.add(if number > 0 { " UNION ALL " } else { "" }).either(("", "SELECT * FROM ("));
            text.add("SELECT c.id AS id, ").either(key).add(" AS k").add_part::<T>(query, part);
            if !is_sqlite {
                text.add_order(query, key, "c.id").add(" LIMIT ").bind(count(before.saturating_add(rows)));
                text.add(") s");
            }
        }
        text.add(") p").add_order(query, ("p.k", "p.k"), "p.id");
        text.add(" LIMIT ").bind(count(rows)).add(" OFFSET ").bind(count(before));
        text.add(") p CROSS JOIN ").add(T::TABLE.name).add(" WHERE c.id = p.id");
        text.add_order(query, ("p.k", "p.k"), "p.id");
        text
    }

    /// How many records match, on all pages, as `total`.
    pub(super) fn total<T: ListedRecord>(query: &ListQuery, parts: &[ListPart], is_sqlite: bool) -> Self {
        let mut text = Self::new(is_sqlite);
        let query = ListQuery { after: None, ..query.clone() };
        text.add("SELECT ");
        for (number, part) in parts.iter().enumerate() {
            text.add(if number > 0 { " + " } else { "" }).add("(SELECT count(*)").add_part::<T>(&query, part).add(")");
        }
        text.add(" AS total");
        text
    }
}
