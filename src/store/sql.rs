//! One interface to two databases: a statement with its arguments in, rows out.
//!
//! Nothing here depends on what a check-in is.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Postgres, SqlSafeStr, SqlStr,
    postgres::PgArguments,
    query::Query,
    sqlite::{Sqlite, SqliteArguments, SqliteConnection},
};
use tokio::time;

use super::{
    error::StoreError,
    limits::DISK,
    list_text::ListText,
    postgres::{Connections, PgTransaction},
    rows::SqlValue,
    schema::{CopyFirst, SchemaChange},
    sqlite::{CheckState, SqliteFile, WriterSlot},
    statement::{Arg, Statement},
    stored::Row,
};
use crate::base::{clock::WallTime, health::Health};

/// Binds the arguments; the two databases expect times in different forms.
macro_rules! bind_args {
    ($query:expr, $args:expr, $time:expr) => {
        $args.iter().fold($query, |query, arg| match arg {
            Arg::Int(value) => query.bind(*value),
            Arg::Bool(value) => query.bind(*value),
            Arg::Text(value) | Arg::Json(value) => query.bind(value.clone()),
            Arg::Time(value) => query.bind($time(*value)),
            Arg::Rows(rows) => query.bind(rows.json()),
        })
    };
}

type OfSqlite<'q> = Query<'q, Sqlite, SqliteArguments>;

fn bound_sqlite<'q>(text: SqlStr, values: &[SqlValue], args: &[Arg]) -> OfSqlite<'q> {
    let mut query = sqlx::query(text);
    for value in values {
        query = match value {
            SqlValue::Null => query.bind(None::<i64>),
            SqlValue::Bool(value) => query.bind(*value),
            SqlValue::Int(value) => query.bind(*value),
            SqlValue::Text(value) => query.bind(value.clone()),
            SqlValue::Bytes(value) => query.bind(value.clone()),
        };
    }
    bind_args!(query, args, WallTime::to_rfc3339_millis)
}

fn bound_postgres<'q>(text: SqlStr, args: &[Arg]) -> Query<'q, Postgres, PgArguments> {
    let query = bind_args!(sqlx::query(text), args, WallTime::utc);
    // Behind a pooler, the next transaction may run in another server process, which does not have the prepared
    // statement.
    query.persistent(false)
}

#[cfg(test)]
thread_local! {
    /// The number of statements that this thread has sent to databases inside transactions, including commits.
    pub(crate) static SENT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Waits for SQLite's thread, at most until the limit. At the limit the caller must discard the connection.
async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    Ok(time::timeout(limit, answer).await.map_err(|_| StoreError::too_late())??)
}

/// The rows of a query that writes nothing.
async fn rows_of_sqlite(file: &SqliteFile, query: OfSqlite<'_>) -> Result<Vec<Row>, StoreError> {
    file.is_sound()?;
    let found = file.checked().noted(within(DISK, query.fetch_all(&file.readers)).await)?;
    Ok(found.into_iter().map(Row::Sqlite).collect())
}

/// Passes them to `each` one by one.
async fn each_of_sqlite(
    file: &SqliteFile,
    query: OfSqlite<'_>,
    mut each: impl FnMut(&Row) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    file.is_sound()?;
    let mut rows = query.fetch(&file.readers);
    while let Some(row) = file.checked().noted(within(DISK, rows.try_next()).await)? {
        each(&Row::Sqlite(row))?;
    }
    Ok(())
}

/// The rows of a query, in a transaction of its own.
async fn rows_of_postgres(
    connections: &Connections,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Vec<Row>, StoreError> {
    let mut work = connections.begin_read().await?;
    let rows = work.fetch_all(query).await?;
    work.commit().await?;
    Ok(rows.into_iter().map(Row::Postgres).collect())
}

fn count_sent() {
    #[cfg(test)]
    SENT.with(|sent| sent.set(sent.get() + 1));
}

/// An open database.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one for the whole process")]
pub(crate) enum Sql {
    Sqlite(SqliteFile),
    Postgres(Connections),
}

impl Sql {
    /// Opens or creates the file of the records; brings its schema up to date.
    pub(crate) async fn open_sqlite(path: &Path, first: CopyFirst) -> Result<(Self, SchemaChange), StoreError> {
        let (file, change) = SqliteFile::open(path, first).await?;
        Ok((Self::Sqlite(file), change))
    }

    /// Opens or creates a file with this schema, whose deleted rows are overwritten on the disk.
    pub(crate) async fn open_scratch(path: &Path, schema: &'static str) -> Result<Self, StoreError> {
        Ok(Self::Sqlite(SqliteFile::open_scratch(path, schema).await?))
    }

    /// The same database for the pipeline, which never waits for reads by other tasks.
    pub(crate) async fn deciding(&self) -> Result<Self, StoreError> {
        Ok(match self {
            Self::Sqlite(file) => Self::Sqlite(file.clone()),
            Self::Postgres(connections) => Self::Postgres(connections.reserving().await?),
        })
    }

    /// The same database for the API, which has connections of its own.
    pub(crate) fn serving(&self) -> Self {
        match self {
            Self::Sqlite(file) => Self::Sqlite(file.clone()),
            Self::Postgres(connections) => Self::Postgres(connections.serving()),
        }
    }

    /// The rows of one statement that writes nothing. A task that has begun a transaction must use
    /// [`Transaction::rows`].
    pub(crate) async fn read(&self, statement: Statement, args: &[Arg]) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(file) => {
                let mut rows = Vec::new();
                for (text, values, args) in statement.for_sqlite(args) {
                    rows.extend(rows_of_sqlite(file, bound_sqlite(text, values, args)).await?);
                }
                Ok(rows)
            }
            Self::Postgres(connections) => {
                rows_of_postgres(connections, bound_postgres(statement.for_postgres(), args)).await
            }
        }
    }

    /// Passes the rows of a list to `each` one by one: a row takes several times the memory of the record in it.
    pub(crate) async fn read_list(
        &self,
        list: &ListText,
        mut each: impl FnMut(&Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let text = AssertSqlSafe(list.text.clone()).into_sql_str();
        match self {
            Self::Sqlite(file) => {
                let _turn = file.list_turn().await?;
                each_of_sqlite(file, bound_sqlite(text, &[], &list.args), each).await
            }
            Self::Postgres(connections) => {
                let mut work = connections.begin_read().await?;
                work.fetch_each(bound_postgres(text, &list.args), |row| each(&Row::Postgres(row))).await?;
                work.commit().await
            }
        }
    }

    /// Passes the rows of a statement to `each` one by one, so they are never in memory together.
    pub(crate) async fn read_each(
        &self,
        statement: Statement,
        args: &[Arg],
        mut each: impl FnMut(&Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(file) => {
                for (text, values, args) in statement.for_sqlite(args) {
                    each_of_sqlite(file, bound_sqlite(text, values, args), &mut each).await?;
                }
            }
            Self::Postgres(connections) => {
                let mut work = connections.begin_read().await?;
                let each = |row| each(&Row::Postgres(row));
                work.fetch_each(bound_postgres(statement.for_postgres(), args), each).await?;
                work.commit().await?;
            }
        }
        Ok(())
    }

    /// Runs one statement as a transaction; returns how many rows it changed.
    pub(crate) async fn change(&self, statement: Statement, args: &[Arg]) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let changed = transaction.change(statement, args).await?;
        transaction.commit().await?;
        Ok(changed)
    }

    /// Begins a transaction that will write. If it is dropped without [`Transaction::commit`], nothing of it remains.
    pub(crate) async fn begin(&self) -> Result<Transaction, StoreError> {
        self.begin_with(None).await
    }

    /// The same, with another limit for each of its statements than the usual one.
    pub(crate) async fn begin_within(&self, limit: Duration) -> Result<Transaction, StoreError> {
        self.begin_with(Some(limit)).await
    }

    async fn begin_with(&self, limit: Option<Duration>) -> Result<Transaction, StoreError> {
        match self {
            Self::Sqlite(file) => {
                let limit = limit.unwrap_or(DISK);
                let (slot, connection) =
                    time::timeout(limit, file.writer()).await.unwrap_or(Err(StoreError::too_late()))?;
                let checked = Arc::clone(file.checked());
                Ok(Transaction::Sqlite { slot, connection, began: false, limit, checked })
            }
            Self::Postgres(connections) => Ok(Transaction::Postgres(connections.begin(limit).await?)),
        }
    }

    /// Raises conditions about late answers here from now on.
    pub(crate) fn report_to(&self, health: &Health) {
        match self {
            // A disk that is late is the business of those who wait for it.
            Self::Sqlite(_) => {}
            Self::Postgres(connections) => connections.report_to(health),
        }
    }

    /// If a `COMMIT` was not answered in time, finds out why, if the server says it.
    pub(crate) async fn review_commits(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(connections) => connections.review_commits().await,
        }
    }

    /// Checks that the database answers and would take a write.
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => self.begin().await?.commit().await,
            Self::Postgres(connections) => connections.probe().await,
        }
    }

    /// Closes the connections cleanly.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(file) => file.close().await,
            Self::Postgres(connections) => connections.close().await,
        }
    }
}

/// A transaction that writes.
pub(crate) enum Transaction {
    /// `slot` gets the connection back only after a successful commit. `BEGIN` is sent to SQLite's thread together with
    /// the first statement, because a single tap waits for every exchange with that thread.
    Sqlite {
        slot: WriterSlot,
        connection: SqliteConnection,
        began: bool,
        /// How long each statement may take.
        limit: Duration,
        /// Where it is noted if SQLite finds the file damaged.
        checked: Arc<CheckState>,
    },
    Postgres(PgTransaction),
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transaction")
    }
}

const BEGIN: &str = "BEGIN IMMEDIATE";

/// The text of a statement, after `BEGIN` if its transaction has not begun.
fn begun(began: &mut bool, text: SqlStr) -> SqlStr {
    if std::mem::replace(began, true) {
        text
    } else {
        AssertSqlSafe(format!("{BEGIN}; {}", text.as_str())).into_sql_str()
    }
}

impl Transaction {
    /// The rows of one statement.
    pub(crate) async fn rows(&mut self, statement: Statement, args: &[Arg]) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        let each = |row| {
            rows.push(row);
            Ok(())
        };
        self.rows_each(statement, args, each).await?;
        Ok(rows)
    }

    /// Passes the rows of a statement to `each` one by one: a row of the log uses several times the memory of the fact
    /// in it.
    pub(crate) async fn rows_each(
        &mut self,
        statement: Statement,
        args: &[Arg],
        mut each: impl FnMut(Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        count_sent();
        match self {
            Self::Sqlite { connection, began, limit, checked, .. } => {
                for (text, values, args) in statement.for_sqlite(args) {
                    let mut rows = bound_sqlite(begun(began, text), values, args).fetch(&mut *connection);
                    while let Some(row) = checked.noted(within(*limit, rows.try_next()).await)? {
                        each(Row::Sqlite(row))?;
                    }
                }
            }
            Self::Postgres(work) => {
                let each = |row| each(Row::Postgres(row));
                work.fetch_each(bound_postgres(statement.for_postgres(), args), each).await?;
            }
        }
        Ok(())
    }

    /// Runs one statement; returns how many rows it changed.
    pub(crate) async fn change(&mut self, statement: Statement, args: &[Arg]) -> Result<u64, StoreError> {
        count_sent();
        match self {
            Self::Sqlite { connection, began, limit, checked, .. } => {
                if !std::mem::replace(began, true) {
                    // Sent alone, because after `BEGIN` in one text the count of changed rows would not be the
                    // statement's.
                    within(*limit, sqlx::query(BEGIN).execute(&mut *connection)).await?;
                }
                let mut changed = 0;
                for (text, values, args) in statement.for_sqlite(args) {
                    let answer = bound_sqlite(text, values, args).execute(&mut *connection);
                    changed += checked.noted(within(*limit, answer).await)?.rows_affected();
                }
                Ok(changed)
            }
            Self::Postgres(work) => Ok(work.execute(bound_postgres(statement.for_postgres(), args)).await?),
        }
    }

    /// Commits; everything is durable then.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        count_sent();
        match self {
            Self::Sqlite { mut slot, mut connection, mut began, limit, checked } => {
                let commit = sqlx::query(begun(&mut began, "COMMIT".into_sql_str()));
                checked.noted(within(limit, commit.execute(&mut connection)).await)?;
                *slot = Some(connection);
                Ok(())
            }
            Self::Postgres(work) => work.commit().await,
        }
    }
}
