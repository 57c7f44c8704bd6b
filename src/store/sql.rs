//! One way to talk to two databases: a statement with its arguments in, rows out.
//!
//! SQL text is shared wherever the two agree. What differs in all of them is how rows come into a statement: see
//! [`super::rows`]. Nothing here knows what a check-in is.

use std::{fmt, io, path::Path, str::FromStr, sync::Arc, time::Duration};

use chrono::{DateTime, NaiveDateTime, Utc};
use futures_util::TryStreamExt;
use secrecy::SecretString;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    AssertSqlSafe, ColumnIndex, ConnectOptions, Connection, Decode, Postgres, Row as _, SqlSafeStr, SqlStr, Type,
    postgres::{PgArguments, PgRow},
    query::Query,
    sqlite::{
        Sqlite, SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
        SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};
use tokio::sync::{Mutex, OwnedMutexGuard};
use uuid::Uuid;

use super::{
    postgres::{Connections, PgTransaction},
    rows::{Column, Columns, Rows, SqlValue, for_postgres, for_sqlite},
};
use crate::base::clock::WallTime;

/// How long SQLite waits for another process's lock before a statement fails, so that a copy or an import that holds
/// it for a moment is no outage. Longer locks are a condition, and the work is tried again.
const BUSY: Duration = Duration::from_secs(5);

/// Pages in SQLite's log before the commit that passes this number folds them into the file, which costs it two more
/// syncs. A single tap writes some ten pages: at SQLite's own 1,000, one acknowledgement in a hundred waits that
/// long, at 8,000 (16 MB) one in eight hundred.
const PAGES_IN_LOG: &str = "8000";

/// KiB, with a minus as SQLite writes it, that the connection that writes may keep of a file in memory. A batch of a thousand taps changes
/// some 5 MB of pages; those that do not fit go to the log before the commit, one write each, and are read again after it.
const CACHE: &str = "-8192";

/// The same of a connection that only reads: the kernel keeps the file, too.
const READER_CACHE: &str = "-512";

/// Bytes in a page of a new SQLite file: half of SQLite's own, because most commits change a few rows here and there, and write
/// each page that they touch. A file keeps the size that it was made with.
const PAGE: u32 = 2048;

/// Rows that SQLite's thread may be ahead of whoever reads them: those of the largest batch, so that the two need not wait for
/// each other after every few.
const ROWS_AHEAD: usize = 1024;

/// Statements that a connection keeps prepared: all that a batch may need, for each number of rows.
const STATEMENTS: usize = 200;

/// Connections that only read, per process: pages and API calls at the same time. More wait their turn.
const READERS: u32 = 4;

/// A statement that takes longer is named in the log. All statements of a batch of a thousand taps take a fifth of it.
pub(crate) const SLOW: Duration = Duration::from_secs(1);

/// How long a connection may take to come, in either database, before the work counts as failed.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(10);

/// What goes wrong in a database, by what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, is locked, full, or failed to write. Nothing was committed; try again later.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// Somebody else was faster. Nothing was committed; load again and decide again, at once.
    #[error("another writer changed the same records")]
    Conflict,
    /// It answers, and trying again cannot help: a schema that is not ours, a damaged file, a refused login.
    #[error("the database cannot be used: {what}")]
    Unusable {
        /// What is wrong, with the way out.
        what: String,
        /// What the database said.
        #[source]
        source: Option<sqlx::Error>,
    },
}

impl StoreError {
    /// No connection, or no answer, came in time.
    pub(crate) fn too_late() -> Self {
        let why = "no answer in time; it is away, hangs, or has as many connections as it allows";
        Self::Unavailable(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl From<sqlx::Error> for StoreError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "of a foreign enum that may grow, all others are treated alike")]
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|said| said.code().map(std::borrow::Cow::into_owned));
        match code.as_deref() {
            // PostgreSQL: serialization failure, deadlock, unique violation. SQLite: unique index, primary key.
            Some("40001" | "40P01" | "23505" | "2067" | "1555") => Self::Conflict,
            // SQLite: damaged file, not a database.
            Some("11" | "26") => {
                let what = "the file is damaged; restore a backup that `checkind backup` made".to_owned();
                Self::Unusable { what, source: Some(error) }
            }
            Some("42501") => {
                let what =
                    "this login lacks a right; grant it, as the owner of the tables, what the README lists under \
                            \"PostgreSQL\", and start again"
                        .to_owned();
                Self::Unusable { what, source: Some(error) }
            }
            // PostgreSQL class 42 (syntax, missing table or column, privilege), 28 (login), 3D (no such database).
            Some(code) if ["42", "28", "3D"].iter().any(|class| code.starts_with(class)) && code.len() == 5 => {
                Self::Unusable { what: "the server refuses what we ask for".to_owned(), source: Some(error) }
            }
            Some("1") => Self::Unusable { what: "a statement does not fit the schema".to_owned(), source: Some(error) },
            Some(_) | None => match error {
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::Decode(_)
                | sqlx::Error::TypeNotFound { .. } => {
                    Self::Unusable { what: "a column does not hold what it should".to_owned(), source: Some(error) }
                }
                sqlx::Error::PoolTimedOut => Self::too_late(),
                other => Self::Unavailable(other),
            },
        }
    }
}

/// One statement, in the text of each database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statement {
    /// The columns of the rows that it is about, if it is about rows: they are `r` in the texts.
    pub(crate) columns: &'static [Column],
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

impl Statement {
    /// How often SQLite is told it, in which text, with which of the rows.
    fn for_sqlite<'a>(&self, args: &'a [Arg]) -> Vec<(SqlStr, &'a [SqlValue], &'a [Arg])> {
        match args.split_first() {
            Some((Arg::Rows(rows), others)) => {
                debug_assert_eq!(rows.columns(), self.columns, "other rows than those of {}", self.sqlite);
                let text = |values: &[SqlValue]| AssertSqlSafe(for_sqlite(self.columns, self.sqlite, values.len()));
                rows.portions().map(|values| (text(values).into_sql_str(), values, others)).collect()
            }
            Some(_) | None => vec![(self.sqlite.into_sql_str(), &[], args)],
        }
    }

    /// Every text that SQLite may be told.
    #[cfg(test)]
    pub(crate) fn texts(&self) -> Vec<String> {
        match self.columns.len() {
            0 => vec![self.sqlite.to_owned()],
            width => super::rows::SIZES.map(|rows| for_sqlite(self.columns, self.sqlite, rows * width)).to_vec(),
        }
    }

    fn for_postgres(&self) -> SqlStr {
        if self.columns.is_empty() {
            self.postgres.into_sql_str()
        } else {
            AssertSqlSafe(for_postgres(self.columns, self.postgres)).into_sql_str()
        }
    }
}

/// Builds a [`Statement`]. With `rows(Row)` its text may select from `r`, rows of that kind; where the two databases differ
/// in more than where these come from, there are two texts.
macro_rules! statement {
    (rows($row:ty) sqlite: $sqlite:expr, postgres: $postgres:expr) => {
        $crate::store::sql::Statement {
            columns: <$row as $crate::store::rows::Columns>::COLUMNS,
            sqlite: $sqlite,
            postgres: $postgres,
        }
    };
    (rows($row:ty) $body:expr) => {
        $crate::store::sql::statement!(rows($row) sqlite: $body, postgres: $body)
    };
    (sqlite: $sqlite:expr, postgres: $postgres:expr) => {
        $crate::store::sql::Statement { columns: &[], sqlite: $sqlite, postgres: $postgres }
    };
    ($body:expr) => {
        $crate::store::sql::statement!(sqlite: $body, postgres: $body)
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
    /// The rows that a statement is about; the first of its arguments.
    Rows(Rows),
}

impl Arg {
    pub(crate) fn rows<T: Columns>(rows: &[T]) -> Self {
        Self::Rows(Rows::of(rows))
    }

    /// What a statement takes apart itself.
    pub(crate) fn json<T: Serialize>(value: &T) -> Self {
        Self::Json(serde_json::to_string(value).expect("plain data"))
    }
}

/// One row, of either database.
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
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, sqlx::Postgres> + Type<sqlx::Postgres>,
        &'static str: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
    {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
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

    pub(crate) fn bytes(&self, column: &'static str) -> Result<Vec<u8>, StoreError> {
        self.get(column)
    }

    /// A column that the statement has put together as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        let fault =
            |fault| StoreError::from(sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(fault) });
        serde_json::from_str(&self.text(column)?).map_err(fault)
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<WallTime, StoreError> {
        self.get::<DateTime<Utc>>(column).map(WallTime::from)
    }

    pub(crate) fn opt_time(&self, column: &'static str) -> Result<Option<WallTime>, StoreError> {
        Ok(self.get::<Option<DateTime<Utc>>>(column)?.map(WallTime::from))
    }

    /// A local time, which both databases keep as text.
    pub(crate) fn opt_local(&self, column: &'static str) -> Result<Option<NaiveDateTime>, StoreError> {
        Ok(self.opt_text(column)?.and_then(|text| NaiveDateTime::parse_from_str(&text, LOCAL).ok()))
    }

    /// SQLite keeps UUIDs as text, PostgreSQL as its own type.
    pub(crate) fn opt_uuid(&self, column: &'static str) -> Result<Option<Uuid>, StoreError> {
        match self {
            Self::Sqlite(row) => {
                let text: Option<String> = row.try_get(column)?;
                Ok(text.and_then(|text| Uuid::from_str(&text).ok()))
            }
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    pub(crate) fn uuid(&self, column: &'static str) -> Result<Uuid, StoreError> {
        self.opt_uuid(column)?
            .ok_or_else(|| StoreError::Unusable { what: format!("column {column} holds no UUID"), source: None })
    }
}

/// How both databases keep a local time.
pub(crate) const LOCAL: &str = "%Y-%m-%dT%H:%M:%S";

/// Adds what is said of all rows; the two databases take times in different forms.
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
    // Through a pooler the next transaction may come to another server process, which knows nothing of it.
    query.persistent(false)
}

#[cfg(test)]
thread_local! {
    /// What this thread has said to databases inside transactions, commit included.
    pub(crate) static SAID: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

fn said() {
    #[cfg(test)]
    SAID.with(|said| said.set(said.get() + 1));
}

/// An open database.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one for the whole process")]
pub(crate) enum Sql {
    Sqlite(SqliteFile),
    Postgres(Connections),
}

/// A SQLite file: one connection that writes, a few that read.
///
/// The writer begins every transaction with `BEGIN IMMEDIATE` and is thrown away after any failure, because a
/// connection whose transaction failed on a full disk or an I/O error may report commits that never happened.
#[derive(Clone)]
pub(crate) struct SqliteFile {
    options: SqliteConnectOptions,
    writer: Arc<Mutex<Option<SqliteConnection>>>,
    readers: SqlitePool,
}

impl fmt::Debug for SqliteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteFile({})", self.options.get_filename().display())
    }
}

impl Sql {
    /// Opens or creates the file of the records; brings its schema up to date.
    pub(crate) async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        let options = durable(path);
        let mut writer = options.connect().await.map_err(|error| unusable_file(path, error))?;
        sqlx::migrate!("src/store/migrations/sqlite").run(&mut writer).await.map_err(migration)?;
        Ok(Self::file(path, options, writer))
    }

    /// Opens or creates a file with this schema, whose deleted rows are overwritten on the disk.
    pub(crate) async fn open_scratch(path: &Path, schema: &'static str) -> Result<Self, StoreError> {
        let options = durable(path).pragma("secure_delete", "ON");
        let mut writer = options.connect().await.map_err(|error| unusable_file(path, error))?;
        sqlx::query(schema).execute(&mut writer).await?;
        Ok(Self::file(path, options, writer))
    }

    fn file(path: &Path, options: SqliteConnectOptions, writer: SqliteConnection) -> Self {
        give_to_folder_owner(path);
        // Without timeouts the pool has no maintenance task. That task can read the count of idle connections in the moment in
        // which it has wrapped below zero, and then never gives its thread back (sqlx 0.9.0; transact-rs/sqlx#3645).
        let pool = SqlitePoolOptions::new().idle_timeout(None).max_lifetime(None);
        let readers = pool.max_connections(READERS).acquire_timeout(TIME_LIMIT).connect_lazy_with(
            options.clone().read_only(true).create_if_missing(false).pragma("cache_size", READER_CACHE),
        );
        Self::Sqlite(SqliteFile { options, writer: Arc::new(Mutex::new(Some(writer))), readers })
    }

    /// Connects; brings the schema up to date.
    pub(crate) async fn open_postgres(url: &str, password: Option<&SecretString>) -> Result<Self, StoreError> {
        Ok(Self::Postgres(Connections::open(url, password).await?))
    }

    /// The same for the one who decides: nobody else's questions keep it waiting.
    pub(crate) async fn deciding(&self) -> Result<Self, StoreError> {
        Ok(match self {
            Self::Sqlite(file) => Self::Sqlite(file.clone()),
            Self::Postgres(connections) => Self::Postgres(connections.reserving().await?),
        })
    }

    /// Rows of one statement that writes nothing. Not while the same task has a transaction: that has [`Transaction::rows`].
    pub(crate) async fn read(&self, statement: Statement, args: &[Arg]) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(file) => {
                let mut rows = Vec::new();
                for (text, values, args) in statement.for_sqlite(args) {
                    let found = bound_sqlite(text, values, args).fetch_all(&file.readers).await?;
                    rows.extend(found.into_iter().map(Row::Sqlite));
                }
                Ok(rows)
            }
            Self::Postgres(connections) => {
                let mut work = connections.begin_read().await?;
                let rows = bound_postgres(statement.for_postgres(), args).fetch_all(work.connection()).await?;
                work.commit().await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Hands over the rows of a statement one by one, so that they never stand in memory together.
    pub(crate) async fn read_each(
        &self,
        statement: Statement,
        args: &[Arg],
        mut each: impl FnMut(&Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(file) => {
                for (text, values, args) in statement.for_sqlite(args) {
                    let mut rows = bound_sqlite(text, values, args).fetch(&file.readers);
                    while let Some(row) = rows.try_next().await? {
                        each(&Row::Sqlite(row))?;
                    }
                }
            }
            Self::Postgres(connections) => {
                let mut work = connections.begin_read().await?;
                let mut rows = bound_postgres(statement.for_postgres(), args).fetch(work.connection());
                while let Some(row) = rows.try_next().await? {
                    each(&Row::Postgres(row))?;
                }
                drop(rows);
                work.commit().await?;
            }
        }
        Ok(())
    }

    /// One statement as a transaction of its own; how many rows it changed.
    pub(crate) async fn change(&self, statement: Statement, args: &[Arg]) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let changed = transaction.change(statement, args).await?;
        transaction.commit().await?;
        Ok(changed)
    }

    /// Begins a transaction that will write. Dropped without [`Transaction::commit`], nothing of it remains.
    pub(crate) async fn begin(&self) -> Result<Transaction, StoreError> {
        match self {
            Self::Sqlite(file) => {
                let mut slot = Arc::clone(&file.writer).lock_owned().await;
                let connection = match slot.take() {
                    Some(connection) => connection,
                    None => file.options.connect().await?,
                };
                Ok(Transaction::Sqlite { slot, connection, began: false })
            }
            Self::Postgres(connections) => Ok(Transaction::Postgres(connections.begin().await?)),
        }
    }

    /// Does the database answer, and would it let us write?
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        self.begin().await?.commit().await
    }

    /// Ends the connections in good order; SQLite's log is folded into the file.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(file) => {
                file.readers.close().await;
                let writer = file.writer.lock().await.take();
                if let Some(writer) = writer
                    && let Err(error) = writer.close().await
                {
                    tracing::warn!(%error, "closing the database");
                }
            }
            Self::Postgres(connections) => connections.close().await,
        }
    }
}

/// How every SQLite file of ours is opened: what was committed is on the disk.
fn durable(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .page_size(PAGE)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .row_buffer_size(ROWS_AHEAD)
        .statement_cache_capacity(STATEMENTS)
        .pragma("wal_autocheckpoint", PAGES_IN_LOG)
        .pragma("cache_size", CACHE)
        // What a statement may have to take back is kept in memory, a few pages for each: else it is written to a file, in
        // vain.
        .pragma("temp_store", "MEMORY")
        .log_slow_statements(tracing::log::LevelFilter::Warn, SLOW)
        .log_statements(tracing::log::LevelFilter::Off)
}

/// A transaction that writes.
pub(crate) enum Transaction {
    /// `slot` gets the connection back only after a commit that succeeded. It begins with the first statement, in one
    /// hand-over to SQLite's thread: a single tap waits for each of them.
    Sqlite {
        slot: OwnedMutexGuard<Option<SqliteConnection>>,
        connection: SqliteConnection,
        began: bool,
    },
    Postgres(PgTransaction),
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transaction")
    }
}

const BEGIN: &str = "BEGIN IMMEDIATE";

/// The text of a statement, after what begins its transaction if that has not begun.
fn begun(began: &mut bool, text: SqlStr) -> SqlStr {
    if std::mem::replace(began, true) {
        text
    } else {
        AssertSqlSafe(format!("{BEGIN}; {}", text.as_str())).into_sql_str()
    }
}

impl Transaction {
    /// Rows of one statement.
    pub(crate) async fn rows(&mut self, statement: Statement, args: &[Arg]) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        let each = |row| {
            rows.push(row);
            Ok(())
        };
        self.rows_each(statement, args, each).await?;
        Ok(rows)
    }

    /// Hands over the rows of a statement one by one: a row of the log takes several times the room of the line in it.
    pub(crate) async fn rows_each(
        &mut self,
        statement: Statement,
        args: &[Arg],
        mut each: impl FnMut(Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        said();
        match self {
            Self::Sqlite { connection, began, .. } => {
                for (text, values, args) in statement.for_sqlite(args) {
                    let mut rows = bound_sqlite(begun(began, text), values, args).fetch(&mut *connection);
                    while let Some(row) = rows.try_next().await? {
                        each(Row::Sqlite(row))?;
                    }
                }
            }
            Self::Postgres(work) => {
                let mut rows = bound_postgres(statement.for_postgres(), args).fetch(work.connection());
                while let Some(row) = rows.try_next().await? {
                    each(Row::Postgres(row))?;
                }
            }
        }
        Ok(())
    }

    /// Runs one statement; how many rows it changed.
    pub(crate) async fn change(&mut self, statement: Statement, args: &[Arg]) -> Result<u64, StoreError> {
        said();
        match self {
            Self::Sqlite { connection, began, .. } => {
                if !std::mem::replace(began, true) {
                    // Alone: with it, SQLite would count what its last statement changed.
                    sqlx::query(BEGIN).execute(&mut *connection).await?;
                }
                let mut changed = 0;
                for (text, values, args) in statement.for_sqlite(args) {
                    changed += bound_sqlite(text, values, args).execute(&mut *connection).await?.rows_affected();
                }
                Ok(changed)
            }
            Self::Postgres(work) => {
                let query = bound_postgres(statement.for_postgres(), args);
                Ok(query.execute(work.connection()).await?.rows_affected())
            }
        }
    }

    /// Makes it durable.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        said();
        match self {
            Self::Sqlite { mut slot, mut connection, mut began } => {
                sqlx::query(begun(&mut began, "COMMIT".into_sql_str())).execute(&mut connection).await?;
                *slot = Some(connection);
                Ok(())
            }
            Self::Postgres(work) => work.commit().await,
        }
    }
}

/// A command that root runs must not leave files that the daemon's own user cannot open: they go to whoever owns the
/// folder. Where that fails, opening fails later, and says so.
fn give_to_folder_owner(path: &Path) {
    use std::os::unix::fs::MetadataExt;

    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(owner) = std::fs::metadata(folder) else { return };
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return;
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        if let Err(error) = std::os::unix::fs::chown(&file, Some(owner.uid()), Some(owner.gid()))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a database file could not be given to the owner of its folder");
        }
    }
}

fn unusable_file(path: &Path, error: sqlx::Error) -> StoreError {
    match StoreError::from(error) {
        // SQLITE_CANTOPEN: nothing that waiting mends.
        StoreError::Unavailable(error) if database_code(&error).as_deref() == Some("14") => StoreError::Unusable {
            what: format!("{} cannot be opened; its folder must exist and be writable by this user", path.display()),
            source: Some(error),
        },
        other @ (StoreError::Unavailable(_) | StoreError::Conflict | StoreError::Unusable { .. }) => other,
    }
}

/// The login lacks a right.
pub(crate) fn is_refused(error: &sqlx::Error) -> bool {
    database_code(error).as_deref() == Some("42501")
}

pub(crate) fn database_code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|said| said.code().map(std::borrow::Cow::into_owned))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of a foreign enum that may grow, all others are treated alike")]
pub(crate) fn migration(error: sqlx::migrate::MigrateError) -> StoreError {
    use sqlx::migrate::MigrateError;
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            match database_code(&error).as_deref() {
                // Another gateway is creating the same tables at this moment.
                Some("42P07" | "42710" | "42701") => StoreError::Conflict,
                Some(_) | None => error.into(),
            }
        }
        MigrateError::VersionMissing(version) => StoreError::Unusable {
            what: format!("its schema (version {version}) is newer than this program; install a newer checkind"),
            source: None,
        },
        other => {
            StoreError::Unusable { what: format!("its schema cannot be brought up to date: {other}"), source: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_pool_of_readers_has_no_maintenance_task() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let Ok(Sql::Sqlite(file)) = Sql::open_sqlite(&folder.path().join("x.db")).await else { panic!("a file") };
        let options = file.readers.options();
        assert_eq!((options.get_idle_timeout(), options.get_max_lifetime()), (None, None));
        assert_eq!(options.get_min_connections(), 0);
    }
}
