//! The connections to PostgreSQL: two at work, one at rest.
//!
//! What is said here works through a pooler that gives out another connection of the server's for every transaction
//! (PgBouncer in transaction mode). So everything is said inside of a transaction, statements have no names, and nothing is set
//! for longer than a transaction. sqlx asks what a statement means in one round trip and runs it in the next; only a
//! transaction keeps the two on one connection.

use std::{collections::BTreeMap, fmt, io, str::FromStr, sync::Arc, time::Duration};

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

use super::sql::{SLOW, StoreError, TIME_LIMIT, database_code, is_refused, migration};

/// Connections per gateway, at most: one decides; the other is for the lease, the directory, retention and the API, which
/// take turns. `CONNECTION LIMIT` of the role and `max_connections` of the server must allow as many for each gateway.
const CONNECTIONS: usize = 2;

/// How long the second connection is kept when nobody needs it: longer than the pauses between requests of somebody who
/// reads page after page.
const UNUSED: Duration = Duration::from_secs(10);

/// How old a connection becomes, so that a gateway follows a server that has moved, and what the server keeps for a
/// connection does not grow for months.
const OLDEST: Duration = Duration::from_mins(30);

/// Between two attempts to connect. A server that starts is found within the longest pause.
const RETRY: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(1) };

/// How often the schema is looked at again when another gateway changes it at the same moment. Each time is one change
/// that the other has finished; beyond that the caller decides what to do.
const LOOKS: u32 = 5;

/// How each transaction begins. A gateway that stops in the middle of one, frozen or cut off, holds the rows of its batch for
/// eight seconds; then the server ends it. That is below the time after which another gateway of the site takes over.
macro_rules! begin {
    ($how:expr) => {
        concat!($how, "; SET LOCAL idle_in_transaction_session_timeout = '8s'")
    };
}

const WRITE: &str = begin!("BEGIN");
const READ: &str = begin!("BEGIN READ ONLY");

/// A connection that is open.
struct OpenConnection {
    connection: PgConnection,
    since: BootTime,
    /// When its last transaction ended; none while it is new.
    used: Option<BootTime>,
}

/// The place of a connection; empty until it is needed.
type ConnectionSlot = Arc<Mutex<Option<OpenConnection>>>;

/// The sole right to a place.
type SlotGuard = OwnedMutexGuard<Option<OpenConnection>>;

/// The connections of this process to one database; cheap to clone.
#[derive(Clone)]
pub(crate) struct Connections {
    options: Arc<PgConnectOptions>,
    /// Taken whenever it is free, and kept open.
    kept: ConnectionSlot,
    /// Taken while the other is in use, and closed soon after.
    second: ConnectionSlot,
    /// The right to use one of them. Nobody waits for a second turn while holding one.
    turns: Arc<Semaphore>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connections({} of {CONNECTIONS} free)", self.turns.available_permits())
    }
}

impl Connections {
    /// Connects; brings the schema up to date.
    pub(crate) async fn open(url: &str, password: Option<&SecretString>) -> Result<Self, StoreError> {
        let mut options = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::Unusable {
                what: "database.url is no PostgreSQL URL".to_owned(),
                source: Some(error),
            })?
            .application_name("checkind")
            // PgBouncer refuses what it does not know at the start of a connection.
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
        };
        connections.bring_up_to_date().await?;
        Ok(connections)
    }

    /// The same connections for the one who decides: one of them is always free for it, and everybody else shares the other.
    pub(crate) async fn reserving(&self) -> Result<Self, StoreError> {
        self.turns.acquire().await.map_err(|_| closed())?.forget();
        Ok(Self { turns: Arc::new(Semaphore::new(1)), ..self.clone() })
    }

    /// Begins a transaction that writes.
    pub(crate) async fn begin(&self) -> Result<PgTransaction, StoreError> {
        self.begin_with(WRITE).await
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
                // The server may have no room for a second one: then whichever comes first.
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

    /// Begins at a place that is ready. A connection that was in use before may have ended since: then with a new one.
    async fn begin_at(
        &self,
        place: SlotGuard,
        turn: OwnedSemaphorePermit,
        text: &'static str,
    ) -> Result<PgTransaction, StoreError> {
        let mut work = PgTransaction::at(place, turn);
        let Err(fault) = work.say(text).await else { return Ok(work) };
        let Some((place, turn)) = work.give_up() else { return Err(fault.into()) };
        tracing::debug!(%fault, "a connection to the database had ended");
        let mut work = PgTransaction::at(self.ready(place).await?, turn);
        work.say(text).await?;
        Ok(work)
    }

    /// Connects where there is no connection, or an old one.
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

    /// Connects, as soon as there is a server with room for it.
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
                // It has no room, also for connections of this role; it is starting or stopping.
                database_code(&fault).is_some_and(|code| ["53300", "57P03"].contains(&code.as_str()))
            };
            if !may_come {
                return Err(fault.into());
            }
            time::sleep(RETRY.pause(failures)).await;
            failures += 1;
        }
    }

    /// Ends the connections in good order, once they are not in use.
    pub(crate) async fn close(&self) {
        self.turns.close();
        for place in [&self.second, &self.kept] {
            if let Some(open) = place.lock().await.take() {
                open.close().await;
            }
        }
    }

    /// Applies what the schema lacks. A schema that is as it should be is only looked at.
    async fn bring_up_to_date(&self) -> Result<(), StoreError> {
        let steps = sqlx::migrate!("src/store/migrations/postgres");
        for _ in 0..LOOKS {
            let missing = self.missing(&steps).await?;
            if missing.is_empty() {
                return Ok(());
            }
            match self.migrate(&missing).await {
                // Another gateway was faster.
                Err(StoreError::Conflict) => {}
                done => return done,
            }
        }
        Err(StoreError::Conflict)
    }

    /// The steps that the schema lacks.
    async fn missing<'a>(&self, steps: &'a Migrator) -> Result<Vec<&'a Migration>, StoreError> {
        let mut work = self.begin_read().await?;
        let there = work.connection().fetch_one(unnamed("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")).await?;
        let mut applied = BTreeMap::new();
        if there.try_get::<bool, _>(0)? {
            let rows = work.connection().fetch_all(unnamed("SELECT version, success, checksum FROM _sqlx_migrations"));
            for row in rows.await? {
                applied.insert(row.try_get::<i64, _>(0)?, (row.try_get::<bool, _>(1)?, row.try_get::<Vec<u8>, _>(2)?));
            }
        }
        work.commit().await?;
        for (&version, (finished, checksum)) in &applied {
            let step = steps.iter().find(|step| step.version == version);
            let fault = match step {
                None => MigrateError::VersionMissing(version),
                Some(_) if !finished => MigrateError::Dirty(version),
                Some(step) if step.checksum.as_ref() != checksum => MigrateError::VersionMismatch(version),
                Some(_) => continue,
            };
            return Err(migration(fault));
        }
        Ok(steps.iter().filter(|step| !applied.contains_key(&step.version)).collect())
    }

    /// Applies steps, all or none. Each is first noted as done: another gateway that applies them too waits at the note's key, and
    /// then finds it taken. That needs no lock for which the session would have to last.
    async fn migrate(&self, missing: &[&Migration]) -> Result<(), StoreError> {
        let failed = |fault| match migration(MigrateError::Execute(fault)) {
            StoreError::Unusable { source: Some(source), .. } if is_refused(&source) => {
                let newest = missing.last().map_or(0, |step| step.version);
                let what = format!(
                    "its schema must become version {newest}, and this login may not change it; run `checkind who` once \
                     with the login that owns the tables, then grant this one its rights (README, \"PostgreSQL\")"
                );
                StoreError::Unusable { what, source: Some(source) }
            }
            other @ (StoreError::Unavailable(_) | StoreError::Conflict | StoreError::Unusable { .. }) => other,
        };
        let mut work = self.begin().await?;
        work.say(NOTES).await.map_err(failed)?;
        for step in missing {
            let note = unnamed(NOTE).bind(step.version).bind(&*step.description).bind(&*step.checksum);
            work.connection().execute(note).await.map_err(failed)?;
            work.connection().execute(sqlx::raw_sql(step.sql.clone())).await.map_err(failed)?;
        }
        // A new database has nothing to take over from an earlier version; later that takes the owner of the tables.
        if missing.first().is_some_and(|step| step.version == 1) {
            work.say("DROP TABLE IF EXISTS sightings").await.map_err(failed)?;
        }
        work.commit().await
    }
}

/// What has been applied, in the table that sqlx's own migrations keep: databases of earlier versions have it.
const NOTES: &str = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMPTZ NOT NULL DEFAULT now(),
    success BOOLEAN NOT NULL,
    checksum BYTEA NOT NULL,
    execution_time BIGINT NOT NULL
)";

const NOTE: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
    VALUES ($1, $2, TRUE, $3, -1)";

/// A statement without a name: a pooler may give the next transaction a connection that has never heard of it.
fn unnamed(text: &'static str) -> Query<'static, sqlx::Postgres, PgArguments> {
    sqlx::query(text).persistent(false)
}

fn now() -> BootTime {
    Clock::system().now().boot
}

fn closed() -> StoreError {
    sqlx::Error::PoolClosed.into()
}

/// Closes the second connection some time after it was last used.
#[expect(clippy::disallowed_methods, reason = "it ends by itself, and nothing depends on it")]
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
            tracing::debug!(%error, "closing a connection to the database");
        }
    }
}

/// A transaction, which nothing remains of unless it is committed.
pub(crate) struct PgTransaction {
    /// None when it is over.
    held: Option<(SlotGuard, OpenConnection, OwnedSemaphorePermit)>,
}

impl PgTransaction {
    fn at(mut place: SlotGuard, turn: OwnedSemaphorePermit) -> Self {
        Self { held: place.take().map(|open| (place, open, turn)) }
    }

    /// Where its statements run.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        let (_, open, _) = self.held.as_mut().expect("it is not over");
        &mut open.connection
    }

    /// Says something that has no arguments and no answer.
    async fn say(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        self.connection().execute(sqlx::raw_sql(text)).await.map(drop)
    }

    /// The place without its connection, if that had been in use before.
    fn give_up(mut self) -> Option<(SlotGuard, OwnedSemaphorePermit)> {
        let (place, open, turn) = self.held.take()?;
        open.used.map(|_| (place, turn))
    }

    /// Makes it durable.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        self.say("COMMIT").await?;
        if let Some((mut place, open, _)) = self.held.take() {
            *place = Some(OpenConnection { used: Some(now()), ..open });
        }
        Ok(())
    }
}

impl Drop for PgTransaction {
    /// The server's last word is waited for, however it ended, so that there are never more connections than places. One that
    /// says nothing any more is given up.
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
