//! The rows that a statement returns, and how their columns are converted to values: always by name.

use std::{collections::BTreeSet, fmt, str::FromStr};

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use sqlx::{ColumnIndex, Decode, Postgres, Row as _, Sqlite, Type, postgres::PgRow, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    columns::{ColumnKind, ColumnType},
    error::StoreError,
    hex::unhex,
};
use crate::base::{
    clock::WallTime,
    fact::{LogDay, Subject},
    mac::MacAddr,
    record::{
        BusinessId, CheckinId, CheckinSource, CoworkerChargeId, CoworkerId, FailedCheckinId, TimePassId, split_macs,
    },
};

/// The format in which both databases store a local time.
pub(super) const LOCAL: &str = "%Y-%m-%dT%H:%M:%S";

/// One row from either database.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Row")
    }
}

impl Row {
    fn get<'r, T>(&'r self, column: &'static str) -> Result<T, StoreError>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
        &'static str: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
    {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// The value of a column, as type `T`.
    pub(crate) fn column<T: FromColumn>(&self, column: &'static str) -> Result<T, StoreError> {
        T::from_column(self, column)
    }

    pub(crate) fn int(&self, column: &'static str) -> Result<i64, StoreError> {
        self.get(column)
    }

    pub(crate) fn opt_int(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.get(column)
    }

    pub(crate) fn bool(&self, column: &'static str) -> Result<bool, StoreError> {
        self.get(column)
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.get(column)
    }

    pub(crate) fn opt_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.get(column)
    }

    /// A column that the statement has built as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        let fault =
            |fault| StoreError::from(sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(fault) });
        serde_json::from_str(&self.text(column)?).map_err(fault)
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<WallTime, StoreError> {
        self.column(column)
    }

    pub(crate) fn uuid(&self, column: &'static str) -> Result<Uuid, StoreError> {
        self.column(column)
    }
}

/// A type that can be read from a column.
pub(crate) trait FromColumn: Sized {
    fn from_column(row: &Row, column: &'static str) -> Result<Self, StoreError>;
}

/// Implements reading a type, and an `Option` of it for columns that may be null, from a type that sqlx reads.
macro_rules! from_column {
    ($($kind:ty: $raw:ty, $value:pat => $as:expr;)+) => {
        $(impl FromColumn for $kind {
            fn from_column(row: &Row, column: &'static str) -> Result<Self, StoreError> {
                let $value = row.get::<$raw>(column)?;
                Ok($as)
            }
        }

        impl FromColumn for Option<$kind> {
            fn from_column(row: &Row, column: &'static str) -> Result<Self, StoreError> {
                let read = |$value: $raw| -> Result<$kind, StoreError> { Ok($as) };
                row.get::<Option<$raw>>(column)?.map(read).transpose()
            }
        })+
    };
}

from_column! {
    bool: bool, value => value;
    i64: i64, value => value;
    u8: i64, value => u8::try_from(value).unwrap_or(0);
    u32: i64, value => u32::try_from(value).unwrap_or(u32::MAX);
    u64: i64, value => value.unsigned_abs();
    Subject: i64, value => Subject(value);
    LogDay: i64, value => LogDay(value);
    BusinessId: i64, value => BusinessId(value);
    CoworkerId: i64, value => CoworkerId(value);
    TimePassId: i64, value => TimePassId(value);
    CheckinId: i64, value => CheckinId(value);
    FailedCheckinId: i64, value => FailedCheckinId(value);
    CoworkerChargeId: i64, value => CoworkerChargeId(value);
    CheckinSource: i64, value => CheckinSource::from_number(value).unwrap_or(CheckinSource::None);
    String: String, value => value;
    WallTime: DateTime<Utc>, value => WallTime::from(value);
    Vec<u8>: Vec<u8>, value => value;
    [u8; 16]: Vec<u8>, value => value.try_into().map_err(|_| StoreError::damaged())?;
}

/// SQLite stores UUIDs as text, PostgreSQL as its own type. Text that is not a UUID counts as null.
impl FromColumn for Option<Uuid> {
    fn from_column(row: &Row, column: &'static str) -> Result<Self, StoreError> {
        Ok(match row {
            Row::Sqlite(row) => row.try_get::<Option<String>, _>(column)?.and_then(|text| Uuid::from_str(&text).ok()),
            Row::Postgres(row) => row.try_get(column)?,
        })
    }
}

impl FromColumn for Uuid {
    fn from_column(row: &Row, column: &'static str) -> Result<Self, StoreError> {
        row.column::<Option<Self>>(column)?
            .ok_or_else(|| StoreError::damaged_in(&format!("column {column} holds no UUID")))
    }
}

/// Both databases store a local time as text. One that cannot be parsed counts as null.
impl FromColumn for Option<NaiveDateTime> {
    fn from_column(row: &Row, column: &'static str) -> Result<Self, StoreError> {
        Ok(row.opt_text(column)?.and_then(|text| NaiveDateTime::parse_from_str(&text, LOCAL).ok()))
    }
}

impl FromColumn for BTreeSet<MacAddr> {
    fn from_column(row: &Row, column: &'static str) -> Result<Self, StoreError> {
        Ok(split_macs(row.opt_text(column)?.as_deref()))
    }
}

/// Types that are read, but never written by the rows of a batch.
macro_rules! read_only {
    ($($kind:ty, $column:ident;)+) => {
        $(impl ColumnType for $kind {
            const KIND: ColumnKind = ColumnKind::$column;
        })+
    };
}

read_only! {
    CheckinId, Bigint;
    FailedCheckinId, Bigint;
    CoworkerChargeId, Bigint;
    NaiveDateTime, Text;
    BTreeSet<MacAddr>, Text;
}

/// A struct that is read from a row, each field from the column with its name.
pub(crate) trait StoredRow: Sized {
    fn read(row: &Row) -> Result<Self, StoreError>;
}

/// Implements [`StoredRow`] for a struct that is declared already.
macro_rules! stored_row {
    ($name:ident { $($field:ident $($column:literal)?),+ }) => {
        impl $crate::store::stored::StoredRow for $name {
            fn read(row: &$crate::store::stored::Row) -> Result<Self, $crate::store::error::StoreError> {
                Ok(Self { $($field: row.column($crate::store::columns::column_name!($field $($column)?))?),+ })
            }
        }
    };
}
pub(crate) use stored_row;

/// Declares a struct that is read but never written. With `read` before it, it is read from the columns of a row; with
/// serde's `Deserialize`, from a JSON array with its columns in the order of its fields: `[Name, json …: "…"]` in
/// [`super::columns::sql`].
macro_rules! stored {
    (read $(#[$of:meta])* $vis:vis struct $name:ident {
        $($(#[$on:meta])* $at:vis $field:ident: $kind:ty $(= $column:literal)?),+ $(,)?
    }) => {
        $crate::store::stored::stored! {
            $(#[$of])*
            $vis struct $name { $($(#[$on])* $at $field: $kind $(= $column)?),+ }
        }
        $crate::store::stored::stored_row!($name { $($field $($column)?),+ });
    };
    ($(#[$of:meta])* $vis:vis struct $name:ident {
        $($(#[$on:meta])* $at:vis $field:ident: $kind:ty $(= $column:literal)?),+ $(,)?
    }) => {
        $(#[$of])*
        $vis struct $name { $($(#[$on])* $at $field: $kind),+ }

        impl $crate::store::columns::Columns for $name {
            const COLUMNS: &'static [$crate::store::columns::Column] = &[$($crate::store::columns::Column {
                name: $crate::store::columns::column_name!($field $($column)?),
                kind: <$kind as $crate::store::columns::ColumnType>::KIND,
            }),+];
        }
    };
}
pub(crate) use stored;

/// Reads a boolean in a JSON array.
pub(crate) fn from_number<'de, D: Deserializer<'de>>(json: D) -> Result<bool, D::Error> {
    Ok(u8::deserialize(json)? != 0)
}

/// Reads bytes in a JSON array.
pub(crate) fn from_hex<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(json)?;
    unhex(&text).ok_or_else(|| serde::de::Error::custom("bytes that are not hexadecimal"))
}
