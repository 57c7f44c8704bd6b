//! Looks into the daemon's database behind its back, and gets in its way there.

use std::{path::PathBuf, str::FromStr};

use sqlx::{
    AssertSqlSafe, ColumnIndex, Connection, Decode, Row, Type,
    postgres::PgConnection,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};
use tokio::runtime::Runtime;

/// A database of the daemon's.
#[derive(Clone, Debug)]
pub(crate) enum Ledger {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Ledger {
    /// By the URL of the settings.
    pub(crate) fn of(url: &str) -> Self {
        url.strip_prefix("sqlite:").map_or_else(|| Self::Postgres(url.to_owned()), |path| Self::Sqlite(path.into()))
    }

    /// The only number that a query answers with.
    pub(crate) fn number(&self, query: &str) -> i64 {
        self.try_number(query).unwrap_or_else(|fault| panic!("{query}: {fault}"))
    }

    /// The same where the database may be away.
    pub(crate) fn try_number(&self, query: &str) -> Result<i64, String> {
        let rows = self.rows(&format!("SELECT CAST(({query}) AS TEXT)"))?;
        let text = rows.into_iter().next().and_then(|row| row.into_iter().next()).ok_or("no row")?;
        text.parse().map_err(|_| format!("{text} is no number"))
    }

    /// How many rows a table has, with a condition.
    pub(crate) fn count(&self, from: &str) -> i64 {
        self.number(&format!("SELECT count(*) FROM {from}"))
    }

    /// The rows of a query whose columns are all text; an absent value is an empty text.
    pub(crate) fn texts(&self, query: &str) -> Vec<Vec<String>> {
        self.rows(query).unwrap_or_else(|fault| panic!("{query}: {fault}"))
    }

    fn rows(&self, query: &str) -> Result<Vec<Vec<String>>, String> {
        let query = AssertSqlSafe(query.to_owned());
        let answer: Result<Vec<Vec<String>>, sqlx::Error> = runtime().block_on(async {
            match self {
                Self::Sqlite(path) => {
                    let options = SqliteConnectOptions::new().filename(path).read_only(true);
                    let mut connection = SqliteConnection::connect_with(&options).await?;
                    let rows = sqlx::query(query).fetch_all(&mut connection).await?;
                    connection.close().await?;
                    rows.iter().map(texts).collect()
                }
                Self::Postgres(url) => {
                    let mut connection = PgConnection::connect(url).await?;
                    let rows = sqlx::query(query).fetch_all(&mut connection).await?;
                    connection.close().await?;
                    rows.iter().map(texts).collect()
                }
            }
        });
        answer.map_err(|fault| fault.to_string())
    }

    /// Changes something.
    pub(crate) fn execute(&self, statement: &str) {
        let statement = AssertSqlSafe(statement.to_owned());
        let work = async {
            match self {
                Self::Sqlite(path) => {
                    let options = SqliteConnectOptions::new().filename(path);
                    let mut connection = SqliteConnection::connect_with(&options).await?;
                    sqlx::query(statement).execute(&mut connection).await?;
                    connection.close().await
                }
                Self::Postgres(url) => {
                    let mut connection = PgConnection::connect(url).await?;
                    sqlx::query(statement).execute(&mut connection).await?;
                    connection.close().await
                }
            }
        };
        runtime().block_on(work).unwrap_or_else(|fault| panic!("the statement: {fault}"));
    }

    /// Takes SQLite's write lock as another process would, until the value is dropped.
    pub(crate) fn lock(&self) -> Lock {
        let Self::Sqlite(path) = self else { panic!("PostgreSQL has no such lock") };
        let runtime = runtime();
        let options = SqliteConnectOptions::from_str("sqlite:").expect("a URL").filename(path);
        let connection = runtime.block_on(async {
            let mut connection = SqliteConnection::connect_with(&options).await.expect("a connection");
            sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.expect("the lock");
            connection
        });
        Lock { runtime, connection: Some(connection) }
    }
}

/// The write lock of a SQLite file.
#[derive(Debug)]
pub(crate) struct Lock {
    runtime: Runtime,
    connection: Option<SqliteConnection>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _gone = self.runtime.block_on(connection.close());
        }
    }
}

fn texts<R: Row>(row: &R) -> Result<Vec<String>, sqlx::Error>
where
    usize: ColumnIndex<R>,
    for<'r> Option<String>: Decode<'r, R::Database> + Type<R::Database>,
{
    (0..row.len()).map(|at| row.try_get::<Option<String>, _>(at).map(Option::unwrap_or_default)).collect()
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
