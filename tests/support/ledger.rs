//! Reads the daemon's database directly, changes it, and locks it.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use checkind::{
    base::{
        clock::WallTime,
        fact::{Fact, FactDigest, LogDay, StoredFact, Subject},
        record::BusinessId,
    },
    engine::decision::{DecisionCode, Outcome},
};
use sqlx::{
    AssertSqlSafe, ColumnIndex, Connection, Decode, Row, Type,
    postgres::PgConnection,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};
use tokio::runtime::Runtime;

/// The daemon's database.
#[derive(Clone, Debug)]
pub(crate) enum Ledger {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Ledger {
    /// The database with this URL, as in the settings.
    pub(crate) fn of(url: &str) -> Self {
        url.strip_prefix("sqlite:").map_or_else(|| Self::Postgres(url.to_owned()), |path| Self::Sqlite(path.into()))
    }

    /// The single number that a query returns.
    pub(crate) fn number(&self, query: &str) -> i64 {
        self.try_number(query).unwrap_or_else(|fault| panic!("{query}: {fault}"))
    }

    /// The same, for a database that may be unavailable.
    pub(crate) fn try_number(&self, query: &str) -> Result<i64, String> {
        let rows = self.rows(&format!("SELECT CAST(({query}) AS TEXT)"))?;
        let text = rows.into_iter().next().and_then(|row| row.into_iter().next()).ok_or("no row")?;
        text.parse().map_err(|_| format!("{text} is no number"))
    }

    /// The number of rows in a table, optionally with a condition.
    pub(crate) fn count(&self, from: &str) -> i64 {
        self.number(&format!("SELECT count(*) FROM {from}"))
    }

    /// The number of facts in the log.
    pub(crate) fn facts(&self) -> i64 {
        self.count("facts")
    }

    /// The same, for a database that may be unavailable.
    pub(crate) fn try_facts(&self) -> Result<i64, String> {
        self.try_number("SELECT count(*) FROM facts")
    }

    /// The number of facts with each outcome.
    pub(crate) fn outcomes(&self) -> BTreeMap<Outcome, i64> {
        let mut outcomes = BTreeMap::new();
        for row in self.texts("SELECT CAST(decision AS TEXT), CAST(count(*) AS TEXT) FROM facts GROUP BY decision") {
            *outcomes.entry(DecisionCode(number(&row[0])).outcome()).or_default() += number(&row[1]);
        }
        outcomes
    }

    /// The number of facts with this outcome.
    pub(crate) fn facts_with(&self, outcome: Outcome) -> i64 {
        self.outcomes().get(&outcome).copied().unwrap_or_default()
    }

    /// The whole log: each fact with its outcome.
    pub(crate) fn log(&self) -> Vec<(Fact, Outcome)> {
        let hex = |column: &str| match self {
            Self::Sqlite(_) => format!("hex({column})"),
            Self::Postgres(_) => format!("encode({column}, 'hex')"),
        };
        let (digest, payload) = (hex("digest"), hex("payload"));
        let rows = self.texts(&format!(
            "SELECT CAST(day AS TEXT), CAST(subject AS TEXT), CAST(at AS TEXT), CAST(business_id AS TEXT), \
             CASE WHEN arrived THEN '1' ELSE '0' END, CAST(decision AS TEXT), {digest}, {payload} FROM facts"
        ));
        let read = |row: Vec<String>| {
            let stored = StoredFact {
                day: LogDay(number(&row[0])),
                subject: Subject(number(&row[1])),
                at: WallTime::from_millis(number(&row[2])),
                business: BusinessId(number(&row[3])),
                arrived: row[4] == "1",
                digest: FactDigest(bytes(&row[6]).try_into().expect("a digest")),
                payload: bytes(&row[7]),
            };
            (Fact::read(&stored).expect("a readable fact"), DecisionCode(number(&row[5])).outcome())
        };
        rows.into_iter().map(read).collect()
    }

    /// The rows of a query whose columns are all text. A null is an empty text.
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

    /// Executes a statement that changes the database.
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

    /// Holds SQLite's write lock, as another process would, until the value is dropped.
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

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2).map(|pair| str::from_utf8(pair).expect("two digits"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("two digits")).collect()
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
