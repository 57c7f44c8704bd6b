//! The connections to PostgreSQL: two while busy, one while idle.
//!
//! Everything here works behind a pooler that may assign a different server connection to each transaction (PgBouncer
//! in transaction mode). Therefore every statement runs inside a transaction, statements have no names, and nothing is
//! set for longer than a transaction. sqlx prepares a statement in one round trip and runs it in the next; only a
//! transaction keeps the two on one connection.

use std::{fmt, io, str::FromStr, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    ConnectOptions, Connection, Executor, PgConnection, Row,
    migrate::{MigrateError, Migration, Migrator},
    postgres::{PgArguments, PgConnectOptions},
    query::Query,
};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore},
    time,
};

use crate::base::{
    backoff::Backoff,
    clock::{BootTime, Clock},
};

use super::{
    error::{StoreError, database_code, is_refused, migration_error},
    limits::{SLOW, TIME_LIMIT},
    schema::{APPLIED, AppliedMigration, NOTE, POSTGRES_NOTES, Schema, SchemaChange, compare},
};

/// The maximum number of connections per gateway: one for the pipeline; the lease, the directory, retention and the API
/// take turns on the other. `CONNECTION LIMIT` of the role and `max_connections` of the server must allow this number
/// for each gateway.
const CONNECTIONS: usize = 2;

/// How long the second connection is kept while unused: longer than the pauses between the requests of a client that
/// reads page after page.
const UNUSED: Duration = Duration::from_secs(10);

/// The maximum age of a connection. A gateway must follow a server that has moved, and the server's memory for a
/// connection must not grow for months.
const OLDEST: Duration = Duration::from_mins(30);

/// The pauses between attempts to connect. A server that has started is noticed within the longest pause.
const RETRY: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(1) };

/// How often the schema is read again if another gateway changes it at the same moment. Each time, the other has
/// finished one change; beyond this number the caller decides what to do.
const ATTEMPTS: u32 = 5;

/// How each transaction begins. A gateway that stops in the middle of one, frozen or disconnected, locks the rows of
/// its batch for eight seconds; then the server ends it. That is less than the time after which another gateway of the
/// site takes over.
macro_rules! begin {
    ($how:expr) => {
        concat!($how, "; SET LOCAL idle_in_transaction_session_timeout = '8s'")
    };
}

/// How long a migration waits for a table. While it waits, the gateways that use the table wait behind it.
const LOCKS: &str = "SET LOCAL lock_timeout = '5s'";

const WRITE: &str = begin!("BEGIN");
const READ: &str = begin!("BEGIN READ ONLY");

/// An open connection.
struct OpenConnection {
    connection: PgConnection,
    since: BootTime,
    /// When its last transaction ended; `None` while it is new.
    used: Option<BootTime>,
}

/// The slot for a connection; empty until it is needed.
type ConnectionSlot = Arc<Mutex<Option<OpenConnection>>>;

/// The exclusive right to a slot.
type SlotGuard = OwnedMutexGuard<Option<OpenConnection>>;

/// The connections of this process to one database; cheap to clone.
#[derive(Clone)]
pub(crate) struct Connections {
    options: Arc<PgConnectOptions>,
    /// Used whenever it is free, and kept open.
    kept: ConnectionSlot,
    /// Used while the other is busy, and closed soon after.
    second: ConnectionSlot,
    /// The permits to use one of them. No task waits for a second permit while holding one.
    turns: Arc<Semaphore>,
    /// How a transaction begins that may write.
    write: &'static str,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connections({} of {CONNECTIONS} free)", self.turns.available_permits())
    }
}

impl Connections {
    /// The connections; each is opened when it is needed.
    pub(crate) fn open(url: &str, password: Option<&SecretString>) -> Result<Self, StoreError> {
        let mut options = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::Unusable {
                what: "database.url is not a PostgreSQL URL".to_owned(),
                source: Some(error),
            })?
            .application_name("checkind")
            // PgBouncer rejects startup parameters that it does not know.
            .extra_float_digits(None)
            .statement_cache_capacity(0)
            .log_slow_statements(tracing::log::LevelFilter::Warn, SLOW)
            .log_statements(tracing::log::LevelFilter::Off);
        if let Some(password) = password {
            options = options.password(password.expose_secret());
        }
        let connections = Self {
            options: Arc::new(options),
            kept: ConnectionSlot::default(),
            second: ConnectionSlot::default(),
            turns: Arc::new(Semaphore::new(CONNECTIONS)),
            write: WRITE,
        };
        Ok(connections)
    }

    /// The same connections for the pipeline: one is always free for it, and all other tasks share the other.
    pub(crate) async fn reserving(&self) -> Result<Self, StoreError> {
        self.turns.acquire().await.map_err(|_| closed())?.forget();
        Ok(Self { turns: Arc::new(Semaphore::new(1)), ..self.clone() })
    }

    /// The same connections, on which the server lets nothing be written.
    pub(crate) fn only_to_read(self) -> Self {
        Self { write: READ, ..self }
    }

    /// Begins a transaction that writes.
    pub(crate) async fn begin(&self) -> Result<PgTransaction, StoreError> {
        self.begin_with(self.write).await
    }

    /// Begins a transaction that only reads.
    pub(crate) async fn begin_read(&self) -> Result<PgTransaction, StoreError> {
        self.begin_with(READ).await
    }

    async fn begin_with(&self, text: &'static str) -> Result<PgTransaction, StoreError> {
        let work = async {
            let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| closed())?;
            let place = match Arc::clone(&self.kept).try_lock_owned() {
                Ok(free) => self.ready(free).await?,
                // The server may have no room for a second connection: use whichever is available first.
                Err(_) => tokio::select! {
                    biased;
                    second = async { self.ready(Arc::clone(&self.second).lock_owned().await).await } => second?,
                    free = Arc::clone(&self.kept).lock_owned() => self.ready(free).await?,
                },
            };
            self.begin_at(place, turn, text).await
        };
        time::timeout(TIME_LIMIT, work).await.unwrap_or(Err(StoreError::too_late()))
    }

    /// Begins a transaction in a slot that is ready. A connection that was used before may have been closed since; then
    /// it is replaced with a new one.
    async fn begin_at(
        &self,
        place: SlotGuard,
        turn: OwnedSemaphorePermit,
        text: &'static str,
    ) -> Result<PgTransaction, StoreError> {
        let mut work = PgTransaction::at(place, turn);
        let Err(fault) = work.run(text).await else { return Ok(work) };
        let Some((place, turn)) = work.give_up() else { return Err(fault.into()) };
        tracing::debug!(%fault, "a connection to the database has ended");
        let mut work = PgTransaction::at(self.ready(place).await?, turn);
        work.run(text).await?;
        Ok(work)
    }

    /// Connects if the slot has no connection, or an old one.
    async fn ready(&self, mut place: SlotGuard) -> Result<SlotGuard, StoreError> {
        if place.as_ref().is_some_and(|open| now().since(open.since) > OLDEST)
            && let Some(old) = place.take()
        {
            old.close().await;
        }
        if place.is_none() {
            *place = Some(self.connect().await?);
            if Arc::ptr_eq(OwnedMutexGuard::mutex(&place), &self.second) {
                close_when_unused(&self.second);
            }
        }
        Ok(place)
    }

    /// Connects as soon as the server is running and has room.
    async fn connect(&self) -> Result<OpenConnection, StoreError> {
        let mut failures = 0;
        loop {
            let fault = match self.options.connect().await {
                Ok(connection) => return Ok(OpenConnection { connection, since: now(), used: None }),
                Err(fault) => fault,
            };
            let may_come = if let sqlx::Error::Io(fault) = &fault {
                fault.kind() == io::ErrorKind::ConnectionRefused
            } else {
                // The server, or this role, has no connection left; or the server is starting or stopping.
                database_code(&fault).is_some_and(|code| ["53300", "57P03"].contains(&code.as_str()))
            };
            if !may_come {
                return Err(fault.into());
            }
            time::sleep(RETRY.pause(failures)).await;
            failures += 1;
        }
    }

    /// Closes the connections cleanly, once they are no longer in use.
    pub(crate) async fn close(&self) {
        self.turns.close();
        for place in [&self.second, &self.kept] {
            if let Some(open) = place.lock().await.take() {
                open.close().await;
            }
        }
    }

    /// Applies the missing migrations. An up-to-date schema is only read.
    pub(crate) async fn bring_up_to_date(&self) -> Result<SchemaChange, StoreError> {
        let began = now();
        let steps = steps();
        for _ in 0..ATTEMPTS {
            let Schema { version: from, known, missing } = compare(&steps, &self.applied().await?)?;
            if missing.is_empty() {
                return Ok(SchemaChange { from, to: from, copy: None, took: Duration::ZERO });
            }
            match self.migrate(&missing).await {
                // Another gateway was faster.
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    let took = now().since(began);
                    let seconds = took.as_secs_f64();
                    tracing::info!(from, to = known, seconds, "the schema of the database was changed");
                    return Ok(SchemaChange { from, to: known, copy: None, took });
                }
            }
        }
        Err(StoreError::Conflict)
    }

    /// The migrations that the database has recorded; none if it is new.
    pub(crate) async fn applied(&self) -> Result<Vec<AppliedMigration>, StoreError> {
        let mut work = self.begin_read().await?;
        let there = work.connection().fetch_one(unnamed("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")).await?;
        let mut applied = Vec::new();
        if there.try_get::<bool, _>(0)? {
            for row in work.connection().fetch_all(unnamed(APPLIED)).await? {
                applied.push(AppliedMigration {
                    version: row.try_get(0)?,
                    description: row.try_get(1)?,
                    finished: row.try_get(2)?,
                    checksum: row.try_get(3)?,
                });
            }
        }
        work.commit().await?;
        Ok(applied)
    }

    /// Applies migrations, all or none. Each is first recorded as done: another gateway that applies it too waits at
    /// the primary key of the record, and then finds it taken. This needs no session lock, which a pooler would not
    /// keep.
    async fn migrate(&self, missing: &[&Migration]) -> Result<(), StoreError> {
        let failed = |fault| match migration_error(MigrateError::Execute(fault)) {
            StoreError::Refused { source, .. } if is_refused(&source) => {
                let newest = missing.last().map_or(0, |step| step.version);
                let what = format!(
                    "its schema must become version {newest}, and this login may not change it; run `checkind \
                     migrate` with the login that owns the tables, then grant this one its rights (README, \
                     \"PostgreSQL\")"
                );
                StoreError::Refused { what, source }
            }
            other @ (StoreError::Unavailable(_)
            | StoreError::Refused { .. }
            | StoreError::Unfit(_)
            | StoreError::Conflict
            | StoreError::Unusable { .. }) => other,
        };
        let mut work = self.begin().await?;
        work.run(LOCKS).await.map_err(failed)?;
        work.run(POSTGRES_NOTES).await.map_err(failed)?;
        for step in missing {
            let note = unnamed(NOTE).bind(step.version).bind(&*step.description).bind(&*step.checksum);
            work.connection().execute(note).await.map_err(failed)?;
            work.connection().execute(sqlx::raw_sql(step.sql.clone())).await.map_err(failed)?;
        }
        // A new database has no old log to migrate, so drop the table now: later only the owner of the tables could.
        if missing.first().is_some_and(|step| step.version == 1) {
            work.run("DROP TABLE IF EXISTS sightings").await.map_err(failed)?;
        }
        work.commit().await
    }
}

/// The migrations of this program.
pub(super) fn steps() -> Migrator {
    sqlx::migrate!("src/store/migrations/postgres")
}

/// A statement without a name: a pooler may assign the next transaction a connection that does not have the prepared
/// one.
fn unnamed(text: &'static str) -> Query<'static, sqlx::Postgres, PgArguments> {
    sqlx::query(text).persistent(false)
}

fn now() -> BootTime {
    Clock::system().now().boot
}

fn closed() -> StoreError {
    sqlx::Error::PoolClosed.into()
}

/// Closes the second connection a while after it was last used.
#[expect(clippy::disallowed_methods, reason = "it ends soon, and nothing depends on it")]
fn close_when_unused(second: &ConnectionSlot) {
    let second = Arc::downgrade(second);
    tokio::spawn(async move {
        loop {
            time::sleep(UNUSED / 2).await;
            let Some(second) = second.upgrade() else { return };
            let Ok(mut place) = second.try_lock_owned() else { continue };
            match place.take() {
                None => return,
                Some(open) if open.used.is_none_or(|used| now().since(used) >= UNUSED) => {
                    open.close().await;
                    return;
                }
                used => *place = used,
            }
        }
    });
}

impl OpenConnection {
    async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "could not close a connection to the database");
        }
    }
}

/// A transaction. Unless it is committed, nothing of it remains.
pub(crate) struct PgTransaction {
    /// `None` once it is over.
    held: Option<(SlotGuard, OpenConnection, OwnedSemaphorePermit)>,
}

impl PgTransaction {
    fn at(mut place: SlotGuard, turn: OwnedSemaphorePermit) -> Self {
        Self { held: place.take().map(|open| (place, open, turn)) }
    }

    /// The connection on which its statements run.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        let (_, open, _) = self.held.as_mut().expect("it is not over");
        &mut open.connection
    }

    /// Runs a statement that has no arguments and returns no rows.
    async fn run(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        self.connection().execute(sqlx::raw_sql(text)).await.map(drop)
    }

    /// The slot without its connection, if the connection had been used before.
    fn give_up(mut self) -> Option<(SlotGuard, OwnedSemaphorePermit)> {
        let (place, open, turn) = self.held.take()?;
        open.used.map(|_| (place, turn))
    }

    /// Commits; everything is durable then.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        self.run("COMMIT").await?;
        if let Some((mut place, open, _)) = self.held.take() {
            *place = Some(OpenConnection { used: Some(now()), ..open });
        }
        Ok(())
    }
}

impl Drop for PgTransaction {
    /// Rolls back and waits for the server's answer before freeing the slot, so there are never more connections than
    /// slots. Discards a connection that does not answer.
    fn drop(&mut self) {
        let Some((mut place, mut open, _)) = self.held.take() else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            let undone = time::timeout(TIME_LIMIT, open.connection.execute(sqlx::raw_sql("ROLLBACK"))).await;
            if let Ok(Ok(_)) = undone {
                *place = Some(OpenConnection { used: Some(now()), ..open });
            }
        });
    }
}
