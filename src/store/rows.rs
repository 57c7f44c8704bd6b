//! The rows that are passed to a statement.
//!
//! SQLite gets each value as an argument, in statements for a few fixed numbers of rows: parsing JSON cost it as much
//! as everything else that it does for a tap. PostgreSQL gets all rows as one JSON array, because there each statement
//! waits for the network.

use std::fmt;

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use uuid::Uuid;

use super::{
    columns::{Column, ColumnKind, ColumnType},
    hex::hex,
};
use crate::base::{
    clock::WallTime,
    fact::{LogDay, Subject},
    record::{BusinessId, CheckinSource, CoworkerId, TimePassId},
};

/// The numbers of rows in one statement for SQLite: a batch is sent in as few statements as possible. Each is prepared
/// once and kept, which takes some 100 bytes per value.
pub(super) const SIZES: [usize; 4] = [1, 4, 16, LARGEST_PORTION];

/// The most rows in one statement for SQLite.
pub(super) const LARGEST_PORTION: usize = 64;

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SqlValue {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    /// In JSON, written as the text that PostgreSQL reads as bytes.
    Bytes(Vec<u8>),
}

impl Serialize for SqlValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Bytes(value) => serializer.serialize_str(&format!("\\x{}", hex(value))),
        }
    }
}

/// A type that can be written into a column.
pub(crate) trait ToValue: ColumnType {
    fn to_value(&self) -> SqlValue;
}

macro_rules! to_value {
    ($($kind:ty, $column:ident, $value:ident => $as:expr;)+) => {
        $(impl ColumnType for $kind {
            const KIND: ColumnKind = ColumnKind::$column;
        }

        impl ToValue for $kind {
            fn to_value(&self) -> SqlValue {
                let $value = self;
                $as
            }
        })+
    };
}

to_value! {
    bool, Boolean, value => SqlValue::Bool(*value);
    i64, Bigint, value => SqlValue::Int(*value);
    u32, Bigint, value => SqlValue::Int(i64::from(*value));
    u8, Bigint, value => SqlValue::Int(i64::from(*value));
    u64, Bigint, value => SqlValue::Int(i64::try_from(*value).unwrap_or(i64::MAX));
    Subject, Bigint, value => SqlValue::Int(value.0);
    LogDay, Bigint, value => SqlValue::Int(value.0);
    BusinessId, Bigint, value => SqlValue::Int(value.0);
    CoworkerId, Bigint, value => SqlValue::Int(value.0);
    TimePassId, Bigint, value => SqlValue::Int(value.0);
    CheckinSource, Bigint, value => SqlValue::Int(value.number());
    Uuid, Uuid, value => SqlValue::Text(value.to_string());
    WallTime, Time, value => SqlValue::Text(value.to_rfc3339_millis());
    str, Text, value => SqlValue::Text(without_nul(value));
    String, Text, value => SqlValue::Text(without_nul(value));
    Vec<u8>, Bytes, value => SqlValue::Bytes(value.clone());
    [u8; 16], Bytes, value => SqlValue::Bytes(value.to_vec());
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> SqlValue {
        self.as_ref().map_or(SqlValue::Null, ToValue::to_value)
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> SqlValue {
        (**self).to_value()
    }
}

/// PostgreSQL's text cannot contain a NUL character, and one in a message must not block the batch forever: it is
/// replaced with U+FFFD, in both databases.
pub(super) fn without_nul(text: &str) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }
}

/// A row that can be passed to a statement. [`row`] implements it for a struct.
pub(crate) trait WrittenRow {
    /// All of its values: the columns of the table, then the parameters.
    const VALUES: &'static [Column];

    /// Adds its values, in the order of [`Self::VALUES`].
    fn add_to(&self, values: &mut Vec<SqlValue>);
}

/// Declares a struct as a row that can be written. Its fields are columns of the table, with the same name or the one
/// after `=`. Those after `with` are parameters: the statement needs them, but the table has no such columns. With
/// `read` before it, rows can also be read back into the struct, see [`super::stored`].
macro_rules! row {
    (read $(#[$of:meta])* $vis:vis struct $name:ident {
        $($(#[$on:meta])* $at:vis $field:ident: $kind:ty $(= $column:literal)?),+ $(,)?
    }) => {
        $crate::store::rows::row! {
            $(#[$of])*
            $vis struct $name { $($(#[$on])* $at $field: $kind $(= $column)?),+ }
        }
        $crate::store::stored::stored_row!($name { $($field $($column)?),+ });
    };
    ($(#[$of:meta])* $vis:vis struct $name:ident $(<$life:lifetime>)? {
        $($(#[$on:meta])* $at:vis $field:ident: $kind:ty $(= $column:literal)?),+ $(,)?
    } $(with { $($parameter:ident: $parameter_kind:ty),+ $(,)? })?) => {
        $(#[$of])*
        $vis struct $name $(<$life>)? { $($(#[$on])* $at $field: $kind,)+ $($($parameter: $parameter_kind,)+)? }

        impl $(<$life>)? $crate::store::columns::Columns for $name $(<$life>)? {
            const COLUMNS: &'static [$crate::store::columns::Column] = &[$($crate::store::columns::Column {
                name: $crate::store::columns::column_name!($field $($column)?),
                kind: <$kind as $crate::store::columns::ColumnType>::KIND,
            }),+];
        }

        impl $(<$life>)? $crate::store::rows::WrittenRow for $name $(<$life>)? {
            const VALUES: &'static [$crate::store::columns::Column] = &[
                $($crate::store::columns::Column {
                    name: $crate::store::columns::column_name!($field $($column)?),
                    kind: <$kind as $crate::store::columns::ColumnType>::KIND,
                },)+
                $($($crate::store::columns::Column {
                    name: stringify!($parameter),
                    kind: <$parameter_kind as $crate::store::columns::ColumnType>::KIND,
                },)+)?
            ];

            fn add_to(&self, values: &mut Vec<$crate::store::rows::SqlValue>) {
                values.extend([
                    $($crate::store::rows::ToValue::to_value(&self.$field),)+
                    $($($crate::store::rows::ToValue::to_value(&self.$parameter),)+)?
                ]);
            }
        }
    };
}
pub(crate) use row;

/// The values of some rows, one row after the other.
#[derive(Clone)]
pub(crate) struct Rows {
    columns: &'static [Column],
    values: Vec<SqlValue>,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows of {:?}", self.len(), self.columns)
    }
}

impl Rows {
    pub(super) fn of<T: WrittenRow>(rows: &[T]) -> Self {
        let mut values = Vec::with_capacity(rows.len() * T::VALUES.len());
        for row in rows {
            row.add_to(&mut values);
        }
        Self { columns: T::VALUES, values }
    }

    pub(super) const fn columns(&self) -> &'static [Column] {
        self.columns
    }

    fn len(&self) -> usize {
        self.values.len() / self.columns.len().max(1)
    }

    /// The values in portions, each with the number of rows of one statement for SQLite.
    pub(super) fn portions(&self) -> impl Iterator<Item = &[SqlValue]> {
        let width = self.columns.len();
        let mut left = self.values.as_slice();
        std::iter::from_fn(move || {
            let size = SIZES.into_iter().rfind(|size| size * width <= left.len() && !left.is_empty())?;
            let portion;
            (portion, left) = left.split_at(size * width);
            Some(portion)
        })
    }

    /// As a JSON array of objects.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("rows are plain data")
    }
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_seq(Some(self.len()))?;
        for row in self.values.chunks(self.columns.len().max(1)) {
            array.serialize_element(&JsonRow(self.columns, row))?;
        }
        array.end()
    }
}

struct JsonRow<'a>(&'static [Column], &'a [SqlValue]);

impl Serialize for JsonRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.1.len()))?;
        for (column, value) in self.0.iter().zip(self.1) {
            object.serialize_entry(column.name, value)?;
        }
        object.end()
    }
}

/// The SQLite text of a statement with rows `r`. The `values` values are its first arguments; `$2` and up follow them.
pub(super) fn for_sqlite(columns: &[Column], text: &str, values: usize) -> String {
    let width = columns.len();
    let row = format!("(?{}),", ",?".repeat(width.saturating_sub(1)));
    let mut all = row.repeat(values / width.max(1));
    all.pop();
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    // $1 is the rows.
    let mut text = text.to_owned();
    for number in 2..=MOST_ARGUMENTS {
        text = text.replace(&format!("${number}"), &format!("?{}", values + number - 1));
    }
    format!("WITH r({}) AS (VALUES {all}) {text}", names.join(", "))
}

/// The maximum number of arguments of a statement with rows: the rows, and those that are the same for all of them.
const MOST_ARGUMENTS: usize = 4;

/// The PostgreSQL text of a statement with rows `r`, which are all in its first argument.
pub(super) fn for_postgres(columns: &[Column], text: &str) -> String {
    let columns: Vec<String> =
        columns.iter().map(|column| format!("{} {}", column.name, column.kind.postgres())).collect();
    format!("WITH r AS (SELECT * FROM jsonb_to_recordset($1::jsonb) AS t({})) {text}", columns.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    row! {
        struct Pair<'a> {
            id: i64,
            name: Option<&'a str>,
        }
    }

    fn pairs(count: i64) -> Rows {
        Rows::of(&(0..count).map(|id| Pair { id, name: (id > 0).then_some("a\0b") }).collect::<Vec<_>>())
    }

    #[test]
    fn every_row_is_in_one_portion_of_a_size_that_is_prepared() {
        for count in [0, 1, 3, 4, 63, 64, 87, 1000] {
            let rows = pairs(count);
            let portions: Vec<&[SqlValue]> = rows.portions().collect();
            assert_eq!(portions.concat(), rows.values);
            for portion in &portions {
                assert!(SIZES.contains(&(portion.len() / 2)), "{} values", portion.len());
            }
        }
    }

    #[test]
    fn a_statement_has_the_rows_and_the_arguments_for_all_of_them() {
        let text = for_sqlite(Pair::VALUES, "DELETE FROM t WHERE id IN (SELECT id FROM r) AND at < $2 AND at > $3", 24);
        let rows = ["(?,?)"; 12].join(",");
        let expected = format!(
            "WITH r(id, name) AS (VALUES {rows}) DELETE FROM t WHERE id IN (SELECT id FROM r) AND at < ?25 AND at > ?26"
        );
        assert_eq!(text, expected);
        let text = for_postgres(Pair::VALUES, "SELECT r.id FROM r");
        let expected =
            "WITH r AS (SELECT * FROM jsonb_to_recordset($1::jsonb) AS t(id bigint, name text)) SELECT r.id FROM r";
        assert_eq!(text, expected);
    }

    #[test]
    fn json_names_each_value_and_has_no_nul_character() {
        assert_eq!(pairs(2).json(), "[{\"id\":0,\"name\":null},{\"id\":1,\"name\":\"a\u{fffd}b\"}]");
        assert_eq!(
            serde_json::json!([SqlValue::Bytes(vec![0, 255]), SqlValue::Bool(true)]).to_string(),
            r#"["\\x00ff",true]"#
        );
    }
}
