//! A statement: its text in each database, and its arguments.
//!
//! The text is the same wherever the two databases agree. How rows are passed to it differs: see [`super::rows`].

use serde::Serialize;
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::{
    columns::Column,
    rows::{Rows, SqlValue, WrittenRow, for_postgres, for_sqlite},
};
use crate::base::clock::WallTime;

/// One statement, in the text of each database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statement {
    /// The columns of the rows passed to the statement, if any; the texts refer to these rows as `r`.
    pub(crate) columns: &'static [Column],
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

impl Statement {
    /// The texts for SQLite, each with its portion of the rows and the other arguments.
    pub(super) fn for_sqlite<'a>(&self, args: &'a [Arg]) -> Vec<(SqlStr, &'a [SqlValue], &'a [Arg])> {
        match args.split_first() {
            Some((Arg::Rows(rows), others)) => {
                debug_assert_eq!(rows.columns(), self.columns, "other rows than those of {}", self.sqlite);
                let text = |values: &[SqlValue]| AssertSqlSafe(for_sqlite(self.columns, self.sqlite, values.len()));
                rows.portions().map(|values| (text(values).into_sql_str(), values, others)).collect()
            }
            Some(_) | None => vec![(self.sqlite.into_sql_str(), &[], args)],
        }
    }

    /// Every text that may be sent to SQLite.
    #[cfg(test)]
    pub(crate) fn texts(&self) -> Vec<String> {
        match self.columns.len() {
            0 => vec![self.sqlite.to_owned()],
            width => super::rows::SIZES.map(|rows| for_sqlite(self.columns, self.sqlite, rows * width)).to_vec(),
        }
    }

    pub(super) fn for_postgres(&self) -> SqlStr {
        if self.columns.is_empty() {
            self.postgres.into_sql_str()
        } else {
            AssertSqlSafe(for_postgres(self.columns, self.postgres)).into_sql_str()
        }
    }
}

/// Builds a [`Statement`]. With `rows(Row)`, its text may select from `r`, which contains rows of that kind. If the
/// databases differ in more than how `r` is passed, there are two texts.
macro_rules! statement {
    (rows($row:ty) sqlite: $sqlite:expr, postgres: $postgres:expr) => {
        $crate::store::statement::Statement {
            columns: <$row as $crate::store::rows::WrittenRow>::VALUES,
            sqlite: $sqlite,
            postgres: $postgres,
        }
    };
    (rows($row:ty) $body:expr) => {
        $crate::store::statement::statement!(rows($row) sqlite: $body, postgres: $body)
    };
    (sqlite: $sqlite:expr, postgres: $postgres:expr) => {
        $crate::store::statement::Statement { columns: &[], sqlite: $sqlite, postgres: $postgres }
    };
    ($body:expr) => {
        $crate::store::statement::statement!(sqlite: $body, postgres: $body)
    };
}
pub(crate) use statement;

/// One argument of a statement.
#[derive(Clone, Debug)]
pub(crate) enum Arg {
    Int(i64),
    Bool(bool),
    Text(String),
    Time(WallTime),
    Json(String),
    /// The rows passed to a statement; always its first argument.
    Rows(Rows),
}

impl Arg {
    pub(crate) fn rows<T: WrittenRow>(rows: &[T]) -> Self {
        Self::Rows(Rows::of(rows))
    }

    /// JSON that the statement parses itself.
    pub(crate) fn json<T: Serialize>(value: &T) -> Self {
        Self::Json(serde_json::to_string(value).expect("plain data"))
    }

    /// Rows as JSON objects that the statement parses itself, for statements with other arguments before them.
    pub(crate) fn json_rows<T: WrittenRow>(rows: &[T]) -> Self {
        Self::Json(Rows::of(rows).json())
    }
}
