//! The rows of a batch on their way to a database.
//!
//! SQLite takes each value as an argument of its own, in statements for a few fixed numbers of rows: to take the columns of
//! JSON apart again cost it as much as all else that it does for a tap. PostgreSQL takes them all as one JSON array, because
//! there each statement waits for the network.

use std::fmt;

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use uuid::Uuid;

use crate::base::{
    clock::WallTime,
    fact::{LogDay, Subject},
    record::{BusinessId, CoworkerId, TimePassId},
};

/// Rows in one statement to SQLite: a batch is said in as few of them as it takes. Each is prepared once and
/// kept, in some 100 bytes for each value.
pub(super) const SIZES: [usize; 4] = [1, 4, 16, 64];

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SqlValue {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    /// JSON has none: there, they are hexadecimal text.
    Bytes(Vec<u8>),
}

impl Serialize for SqlValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Bytes(value) => serializer.serialize_str(&hex(value)),
        }
    }
}

/// What a column of a row may be.
pub(crate) trait ToValue {
    /// Its type in PostgreSQL. SQLite's columns take values as they are.
    const POSTGRES: &'static str;

    fn to_value(&self) -> SqlValue;
}

macro_rules! to_value {
    ($($kind:ty, $postgres:literal, $value:ident => $as:expr;)+) => {
        $(impl ToValue for $kind {
            const POSTGRES: &'static str = $postgres;

            fn to_value(&self) -> SqlValue {
                let $value = self;
                $as
            }
        })+
    };
}

to_value! {
    bool, "boolean", value => SqlValue::Bool(*value);
    i64, "bigint", value => SqlValue::Int(*value);
    u32, "bigint", value => SqlValue::Int(i64::from(*value));
    u8, "bigint", value => SqlValue::Int(i64::from(*value));
    u64, "bigint", value => SqlValue::Int(i64::try_from(*value).unwrap_or(i64::MAX));
    Subject, "bigint", value => SqlValue::Int(value.0);
    LogDay, "bigint", value => SqlValue::Int(value.0);
    BusinessId, "bigint", value => SqlValue::Int(value.0);
    CoworkerId, "bigint", value => SqlValue::Int(value.0);
    TimePassId, "bigint", value => SqlValue::Int(value.0);
    Uuid, "uuid", value => SqlValue::Text(value.to_string());
    WallTime, "timestamptz", value => SqlValue::Text(value.to_rfc3339_millis());
    str, "text", value => SqlValue::Text(without_nul(value));
    String, "text", value => SqlValue::Text(without_nul(value));
    Vec<u8>, "text", value => SqlValue::Bytes(value.clone());
    [u8; 16], "text", value => SqlValue::Bytes(value.to_vec());
}

impl<T: ToValue> ToValue for Option<T> {
    const POSTGRES: &'static str = T::POSTGRES;

    fn to_value(&self) -> SqlValue {
        self.as_ref().map_or(SqlValue::Null, ToValue::to_value)
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    const POSTGRES: &'static str = T::POSTGRES;

    fn to_value(&self) -> SqlValue {
        (**self).to_value()
    }
}

/// PostgreSQL's text cannot hold a NUL character, and one that came in with a message must not stop the batch for ever: it
/// becomes U+FFFD, in both databases.
fn without_nul(text: &str) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]].map(char::from);
    bytes.iter().flat_map(digits).collect()
}

/// None for what is not hexadecimal.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect())?
}

/// A column of a row: its name and its type in PostgreSQL.
pub(crate) type Column = (&'static str, &'static str);

/// A row of a batch. [`row`] writes it for a struct, whose fields are the columns.
pub(crate) trait Columns {
    const COLUMNS: &'static [Column];

    /// Adds its values, in the order of the columns.
    fn add_to(&self, values: &mut Vec<SqlValue>);
}

/// Makes a struct a row.
macro_rules! row {
    ($(#[$of:meta])* $vis:vis struct $name:ident $(<$life:lifetime>)? { $($(#[$on:meta])* $at:vis $field:ident: $kind:ty),+ $(,)? }) => {
        $(#[$of])*
        $vis struct $name $(<$life>)? { $($(#[$on])* $at $field: $kind),+ }

        impl $(<$life>)? $crate::store::rows::Columns for $name $(<$life>)? {
            const COLUMNS: &'static [$crate::store::rows::Column] =
                &[$((stringify!($field), <$kind as $crate::store::rows::ToValue>::POSTGRES)),+];

            fn add_to(&self, values: &mut Vec<$crate::store::rows::SqlValue>) {
                values.extend([$($crate::store::rows::ToValue::to_value(&self.$field)),+]);
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
    pub(super) fn of<T: Columns>(rows: &[T]) -> Self {
        let mut values = Vec::with_capacity(rows.len() * T::COLUMNS.len());
        for row in rows {
            row.add_to(&mut values);
        }
        Self { columns: T::COLUMNS, values }
    }

    pub(super) const fn columns(&self) -> &'static [Column] {
        self.columns
    }

    fn len(&self) -> usize {
        self.values.len() / self.columns.len().max(1)
    }

    /// The same in portions, each as many rows as one statement to SQLite has.
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
        for ((name, _), value) in self.0.iter().zip(self.1) {
            object.serialize_entry(name, value)?;
        }
        object.end()
    }
}

/// What comes before the text of a statement about so many rows `r`, whose values are its first arguments, and that text,
/// whose other arguments come after them.
pub(super) fn for_sqlite(columns: &[Column], text: &str, values: usize) -> String {
    let width = columns.len();
    let row = format!("(?{}),", ",?".repeat(width.saturating_sub(1)));
    let mut all = row.repeat(values / width.max(1));
    all.pop();
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    // $1 stands for the rows.
    let mut text = text.to_owned();
    for number in 2..=MOST_ARGUMENTS {
        text = text.replace(&format!("${number}"), &format!("?{}", values + number - 1));
    }
    format!("WITH r({}) AS (VALUES {all}) {text}", names.join(", "))
}

/// Arguments of a statement about rows: the rows, and what is said of all of them.
const MOST_ARGUMENTS: usize = 4;

/// The text of a statement about rows `r`, which are all in its first argument.
pub(super) fn for_postgres(columns: &[Column], text: &str) -> String {
    let columns: Vec<String> = columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
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
    fn a_statement_says_the_rows_and_what_is_said_of_all_of_them() {
        let text =
            for_sqlite(Pair::COLUMNS, "DELETE FROM t WHERE id IN (SELECT id FROM r) AND at < $2 AND at > $3", 24);
        let rows = ["(?,?)"; 12].join(",");
        let expected = format!(
            "WITH r(id, name) AS (VALUES {rows}) DELETE FROM t WHERE id IN (SELECT id FROM r) AND at < ?25 AND at > ?26"
        );
        assert_eq!(text, expected);
        let text = for_postgres(Pair::COLUMNS, "SELECT r.id FROM r");
        let expected =
            "WITH r AS (SELECT * FROM jsonb_to_recordset($1::jsonb) AS t(id bigint, name text)) SELECT r.id FROM r";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_hexadecimal_is_read_again() {
        assert_eq!(hex(&[0, 15, 255]), "000fff");
        assert_eq!(unhex("000fFf"), Some(vec![0, 15, 255]));
        for other in ["0", "0g", "é0"] {
            assert_eq!(unhex(other), None, "{other}");
        }
    }

    #[test]
    fn json_names_each_value_and_has_no_nul_character() {
        assert_eq!(pairs(2).json(), "[{\"id\":0,\"name\":null},{\"id\":1,\"name\":\"a\u{fffd}b\"}]");
        assert_eq!(
            serde_json::json!([SqlValue::Bytes(vec![0, 255]), SqlValue::Bool(true)]).to_string(),
            "[\"00ff\",true]"
        );
    }
}
