//! One way to talk to two databases: a statement with its arguments in, rows out.
//!
//! SQL text is shared wherever the two agree; [`statement!`] writes the one part that differs, turning a JSON array
//! into rows, so that a batch of any size is one round trip. Nothing here knows what a check-in is.

use std::{fmt, io, path::Path, str::FromStr, sync::Arc, time::Duration};

use chrono::{DateTime, NaiveDateTime, Utc};
use futures_util::TryStreamExt;
use secrecy::SecretString;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};
use sqlx::{
    ColumnIndex, ConnectOptions, Connection, Decode, Row as _, SqlSafeStr, Type,
    postgres::PgRow,
    sqlite::{
        Sqlite, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
        SqliteSynchronous,
    },
};
use tokio::sync::{Mutex, OwnedMutexGuard};
use uuid::Uuid;

use super::postgres::{Connections, Work};
use crate::clock::WallTime;

/// How long SQLite waits for another process's lock before a statement fails, so that a copy or an import that holds
/// it for a moment is no outage. Longer locks are a condition, and the work is tried again.
const BUSY: Duration = Duration::from_secs(5);

/// Pages in SQLite's log before the commit that passes this number folds them into the file, which costs it two more
/// syncs. A single tap writes some ten pages: at SQLite's own 1,000, one acknowledgement in a hundred waits that
/// long, at 8,000 (16 MB) one in eight hundred.
const PAGES_IN_LOG: &str = "8000";

/// Bytes in a page of a new SQLite file: half of SQLite's own, because most commits change a few rows here and there, and write
/// each page that they touch. A file keeps the size that it was made with.
const PAGE: u32 = 2048;

/// Rows that SQLite's thread may be ahead of whoever reads them: those of the largest batch, so that the two need not wait for
/// each other after every few.
const ROWS_AHEAD: usize = 1024;

/// Connections that only read, per process: pages and API calls at the same time. More wait their turn.
const READERS: u32 = 4;

/// A statement that takes longer is named in the log. All statements of a batch of a thousand taps take a fifth of it.
pub(crate) const SLOW: Duration = Duration::from_secs(1);

/// How long a connection may take to come, in either database, before the work counts as failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

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
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

/// Builds a [`Statement`]. With `rows(name type, …)` the text may select from `r`, the rows of the JSON array in `$1`;
/// types are PostgreSQL's. SQLite's `->>` yields integers, text and 0/1, which its columns take as they are.
/// `jsonb_each` (SQLite 3.51; ours is built in) hands out each row parsed, so that a column costs no parsing of its own.
macro_rules! statement {
    // Where the two differ in more than the rows: how bytes are written as text and read again.
    (rows($($column:ident $kind:ident),+ $(,)?) sqlite: $sqlite:expr, postgres: $postgres:expr) => {{
        const SQLITE: $crate::store::sql::Statement = $crate::store::sql::statement!(rows($($column $kind),+) $sqlite);
        const POSTGRES: $crate::store::sql::Statement =
            $crate::store::sql::statement!(rows($($column $kind),+) $postgres);
        $crate::store::sql::Statement { sqlite: SQLITE.sqlite, postgres: POSTGRES.postgres }
    }};
    (rows($($column:ident $kind:ident),+ $(,)?) $body:expr) => {
        $crate::store::sql::Statement {
            sqlite: concat!(
                "WITH r AS (SELECT key AS ord" $(, ", value->>'$.", stringify!($column), "' AS ", stringify!($column))+,
                " FROM jsonb_each($1)) ", $body
            ),
            postgres: concat!(
                "WITH r AS (SELECT * FROM jsonb_to_recordset($1::jsonb) AS t(ord bigint"
                $(, ", ", stringify!($column), " ", stringify!($kind))+,
                ")) ", $body
            ),
        }
    };
    ($body:expr) => {
        $crate::store::sql::Statement { sqlite: $body, postgres: $body }
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
    /// A JSON array, mostly for [`statement!`]'s `rows`.
    Rows(String),
}

impl Arg {
    /// The rows of a batch as one argument. PostgreSQL's text cannot hold a NUL character, and one that came in with a
    /// message must not stop the batch for ever: it becomes U+FFFD, in both databases.
    pub(crate) fn rows<T: Serialize>(rows: &[T]) -> Self {
        let mut text = Vec::new();
        rows.serialize(&mut Serializer::with_formatter(&mut text, WithoutNul)).expect("rows are plain data");
        Self::Rows(String::from_utf8(text).expect("JSON is text"))
    }
}

struct WithoutNul;

impl Formatter for WithoutNul {
    fn write_char_escape<W: io::Write + ?Sized>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        if matches!(escape, CharEscape::AsciiControl(0)) {
            return writer.write_all(b"\\ufffd");
        }
        CompactFormatter.write_char_escape(writer, escape)
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

macro_rules! bound {
    ($sql:expr, $args:expr, $time:expr) => {{
        let mut query = sqlx::query($sql);
        for arg in $args {
            query = match arg {
                Arg::Int(value) => query.bind(*value),
                Arg::Bool(value) => query.bind(*value),
                Arg::Text(value) | Arg::Rows(value) => query.bind(value.as_str()),
                Arg::Time(value) => query.bind($time(*value)),
            };
        }
        query
    }};
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
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options.clone().read_only(true).create_if_missing(false));
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
                let query = bound!(statement.sqlite, args, WallTime::to_rfc3339_millis);
                Ok(query.fetch_all(&file.readers).await?.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(connections) => {
                let mut work = connections.begin_read().await?;
                let query = bound!(statement.postgres, args, WallTime::utc).persistent(false);
                let rows = query.fetch_all(work.connection()).await?;
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
                let mut rows = bound!(statement.sqlite, args, WallTime::to_rfc3339_millis).fetch(&file.readers);
                while let Some(row) = rows.try_next().await? {
                    each(&Row::Sqlite(row))?;
                }
            }
            Self::Postgres(connections) => {
                let mut work = connections.begin_read().await?;
                let mut rows =
                    bound!(statement.postgres, args, WallTime::utc).persistent(false).fetch(work.connection());
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
        .pragma("wal_autocheckpoint", PAGES_IN_LOG)
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
    Postgres(Work),
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transaction")
    }
}

const BEGIN: &str = "BEGIN IMMEDIATE";

/// The text of a statement, after what begins its transaction if that has not begun.
fn begun(began: &mut bool, text: &'static str) -> sqlx::SqlStr {
    if std::mem::replace(began, true) {
        text.into_sql_str()
    } else {
        sqlx::AssertSqlSafe(format!("{BEGIN}; {text}")).into_sql_str()
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
                let mut rows =
                    bound!(begun(began, statement.sqlite), args, WallTime::to_rfc3339_millis).fetch(connection);
                while let Some(row) = rows.try_next().await? {
                    each(Row::Sqlite(row))?;
                }
            }
            Self::Postgres(work) => {
                let mut rows =
                    bound!(statement.postgres, args, WallTime::utc).persistent(false).fetch(work.connection());
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
                let query = bound!(statement.sqlite, args, WallTime::to_rfc3339_millis);
                Ok(query.execute(connection).await?.rows_affected())
            }
            Self::Postgres(work) => {
                let query = bound!(statement.postgres, args, WallTime::utc).persistent(false);
                Ok(query.execute(work.connection()).await?.rows_affected())
            }
        }
    }

    /// Makes it durable.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        said();
        match self {
            Self::Sqlite { mut slot, mut connection, mut began } => {
                sqlx::query(begun(&mut began, "COMMIT")).execute(&mut connection).await?;
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
