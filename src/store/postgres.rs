//! The connections to PostgreSQL: two while busy, two more for the API, one while idle.
//!
//! Everything here works behind a pooler that may assign a different server connection to each transaction (PgBouncer
//! in transaction mode). Therefore every statement runs inside a transaction, statements have no names, and nothing is
//! set for longer than a transaction. sqlx prepares a statement in one round trip and runs it in the next; only a
//! transaction keeps the two on one connection.
//!
//! sqlx gives no access to its sockets, so the kernel cannot be told when to give up a dead one. Instead each question
//! has a limit of its own ([`answers`]), and a connection that does not answer in time is discarded.

mod answers;
mod connection_way;
mod slots;
mod transaction;

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use secrecy::SecretString;
use sqlx::{
    AssertSqlSafe, Executor, FromRow as _, PgConnection, Row,
    migrate::{MigrateError, Migration, Migrator},
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::{
    sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore},
    time,
};

use self::{
    answers::{Answers, Question},
    connection_way::ConnectionWay,
    slots::{ServingSlots, close_when_unused},
    transaction::{ConnectionSlot, OpenConnection, SlotGuard, now},
};
use super::{
    error::{StoreError, database_code, is_refused, migration_error},
    limits::{ANSWER, NEWS, TIME_LIMIT, UPGRADE},
    schema::{APPLIED, AppliedMigration, NOTE, POSTGRES_NOTES, Schema, SchemaChange, compare, newer},
};
use crate::{
    base::{backoff::Backoff, health::Health},
    settings::DatabaseTls,
};

pub(crate) use self::transaction::PgTransaction;

/// The maximum number of connections of a gateway that decides: one for the pipeline; the lease, the directory and
/// retention take turns on the other. `CONNECTION LIMIT` of the role and `max_connections` of the server must allow this
/// number and those of the API ([`slots`]) for each gateway.
const CONNECTIONS: usize = 2;

/// How long a request of the API waits for its turn on one of these; then it fails. A page takes milliseconds, so this many
/// requests are far too many.
const SERVING_WAIT: Duration = Duration::from_secs(5);

/// The maximum age of a connection. A gateway must follow a server that has moved, and the server's memory for a
/// connection must not grow for months.
const OLDEST: Duration = Duration::from_mins(30);

/// The pauses between attempts to connect.
const RETRY: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_millis(500) };

/// How long a server that answered before may refuse connections before the work fails with its words: for a restart
/// of the server, and less than any caller waits, down to the two seconds of `/readyz`.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How long another login may take to prove itself at a reload; then it is used all the same, as in an outage.
const TRIAL: Duration = Duration::from_secs(3);

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

/// A statement that runs for nine seconds is ended by the server, just before we would discard its connection
/// ([`ANSWER`]): a server process whose client has left would otherwise work on, keep its locks, and count towards the
/// connections of this login.
const WRITE: &str = concat!(begin!("BEGIN"), "; SET LOCAL statement_timeout = '9s'");

/// For statements that may take longer.
const PATIENT: &str = begin!("BEGIN");
const READ: &str = begin!("BEGIN READ ONLY");

/// Asks for the right to change a row of each table that a gateway changes. No row is asked for, so no row is locked, the
/// transaction gets no number, and the server writes nothing.
pub(super) const WOULD_WRITE: &str =
    "SELECT FROM checkins WHERE false FOR UPDATE; SELECT FROM checkpoints WHERE false FOR UPDATE;
    SELECT FROM coverage WHERE false FOR UPDATE; SELECT FROM facts WHERE false FOR UPDATE;
    SELECT FROM failed_checkins WHERE false FOR UPDATE; SELECT FROM leases WHERE false FOR UPDATE;
    SELECT FROM pass_usage WHERE false FOR UPDATE; SELECT FROM payg_charges WHERE false FOR UPDATE;
    SELECT FROM plan_usage WHERE false FOR UPDATE; SELECT FROM presences WHERE false FOR UPDATE;
    SELECT FROM standings WHERE false FOR UPDATE; SELECT FROM users WHERE false FOR UPDATE";

/// The synchronous standbys for which a `COMMIT` of this login waits; no row if none does.
const WAITING_COMMITS: &str = "SELECT current_setting('synchronous_standby_names') AS names FROM pg_stat_activity
    WHERE usename = current_user AND wait_event = 'SyncRep' LIMIT 1";

/// The connections of this process to one database; cheap to clone.
#[derive(Clone)]
pub(crate) struct Connections {
    way: Arc<RwLock<Arc<ConnectionWay>>>,
    /// Whether the last attempt to connect succeeded. If not, the next is made without patience: those who wait behind
    /// each other should all be told why.
    was_reached: Arc<AtomicBool>,
    /// Used whenever it is free, and kept open.
    kept: ConnectionSlot,
    /// Used while the other is busy, and closed soon after.
    second: ConnectionSlot,
    /// The permits to use one of them. No task waits for a second permit while holding one.
    turns: Arc<Semaphore>,
    /// The connections of the API, closed soon after their last use.
    serving: Arc<ServingSlots>,
    /// The connections of everything else, if these are those of the API.
    others: Option<Arc<Connections>>,
    answers: Answers,
    /// Whether nothing may be written.
    is_read_only: bool,
    /// The version of the schema and the one that this program knows, if it has become too new for it.
    too_new: Arc<Mutex<Option<(i64, i64)>>>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connections({} of {CONNECTIONS} free)", self.turns.available_permits())
    }
}

impl Connections {
    /// The connections; each is opened when it is needed.
    pub(crate) fn open(url: &str, password: Option<&SecretString>, tls: &DatabaseTls) -> Result<Self, StoreError> {
        Ok(Self {
            way: Arc::new(RwLock::new(Arc::new(ConnectionWay::new(url, password, tls)?))),
            was_reached: Arc::default(),
            kept: ConnectionSlot::default(),
            second: ConnectionSlot::default(),
            turns: Arc::new(Semaphore::new(CONNECTIONS)),
            serving: Arc::default(),
            others: None,
            answers: Answers::default(),
            is_read_only: false,
            too_new: Arc::default(),
        })
    }

    /// The same connections for the pipeline: one is always free for it, and all other tasks share the other.
    pub(crate) async fn reserving(&self) -> Result<Self, StoreError> {
        // Without a limit: it waits for work of this process only, all of which has one.
        self.turns.acquire().await.map_err(|_| closed())?.forget();
        Ok(Self { turns: Arc::new(Semaphore::new(1)), ..self.clone() })
    }

    /// The connections of the API to the same database.
    pub(crate) fn serving(&self) -> Self {
        let slots = &*self.serving;
        Self {
            kept: Arc::clone(&slots.first),
            second: Arc::clone(&slots.second),
            turns: Arc::clone(&slots.turns),
            others: Some(Arc::new(self.clone())),
            ..self.clone()
        }
    }

    /// Connects in another way from now on, to the same database. A transaction that runs ends as it began; after it, its
    /// connection is replaced.
    pub(crate) fn connect_by(
        &self,
        url: &str,
        password: Option<&SecretString>,
        tls: &DatabaseTls,
    ) -> Result<(), StoreError> {
        let way = Arc::new(ConnectionWay::new(url, password, tls)?);
        *self.way.write().unwrap_or_else(PoisonError::into_inner) = way;
        Ok(())
    }

    /// Connects once in a way that is not in use yet.
    pub(crate) async fn try_by(
        url: &str,
        password: Option<&SecretString>,
        tls: &DatabaseTls,
    ) -> Result<(), StoreError> {
        let way = ConnectionWay::new(url, password, tls)?;
        let connected = time::timeout(TRIAL, way.connect()).await.map_err(|_| StoreError::too_late())?;
        let connection = connected.map_err(|error| way.explained(error))?;
        // The server notices the end of a connection without a farewell too.
        drop(connection);
        Ok(())
    }

    fn way(&self) -> Arc<ConnectionWay> {
        Arc::clone(&self.way.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Raises conditions about late answers here from now on.
    pub(crate) fn report_to(&self, health: &Health) {
        self.answers.report_to(health);
    }

    /// The same connections, on which the server lets nothing be written.
    pub(crate) fn only_to_read(self) -> Self {
        Self { is_read_only: true, ..self }
    }

    /// Begins a transaction that writes. `limit` is how long the server may be silent after each of its statements;
    /// `None` is the usual limit.
    pub(crate) async fn begin(&self, limit: Option<Duration>) -> Result<PgTransaction, StoreError> {
        match limit {
            _ if self.is_read_only => self.begin_read().await,
            None => self.begin_with(WRITE, ANSWER).await,
            Some(limit) => self.begin_with(PATIENT, limit).await,
        }
    }

    /// Begins a transaction that only reads.
    pub(crate) async fn begin_read(&self) -> Result<PgTransaction, StoreError> {
        self.begin_with(READ, ANSWER).await
    }

    /// Fails as a write would fail: on a server that is read-only, without a right, without a table. Locks no row, so
    /// the transaction gets no number, and the server writes nothing.
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        let mut work = self.begin(None).await?;
        work.execute(sqlx::raw_sql(WOULD_WRITE)).await?;
        work.commit().await
    }

    /// Begins a transaction as one that writes, and sends the rest of it, with its `COMMIT`, as one text. Passes the rows
    /// of all its statements to `each`. Asks also a database whose schema does not suit this program.
    pub(crate) async fn ask(
        &self,
        rest: AssertSqlSafe<String>,
        each: impl FnMut(PgRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.begin_anyhow(WRITE, NEWS).await?.finish(rest, each).await
    }

    /// The schema has become too new for a program that knows `known`: every further transaction fails.
    pub(crate) fn suits_no_more(&self, version: i64, known: i64) {
        *self.too_new.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, known));
    }

    /// The schema suits this program.
    pub(crate) fn suits(&self) {
        *self.too_new.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// If a `COMMIT` was not answered in time, asks the server whether one waits for a standby, and says so.
    pub(crate) async fn review_commits(&self) -> Result<(), StoreError> {
        if !self.answers.is_unconfirmed() {
            return Ok(());
        }
        // Also while the schema does not suit: an older `COMMIT` may wait.
        let mut work = self.begin_anyhow(READ, ANSWER).await?;
        let rows = work.fetch_all(unnamed(WAITING_COMMITS)).await?;
        work.commit().await?;
        let names = rows.first().map(|row| row.try_get::<String, _>("names")).transpose()?;
        self.answers.reviewed(names.as_deref());
        Ok(())
    }

    async fn begin_with(&self, text: &'static str, limit: Duration) -> Result<PgTransaction, StoreError> {
        if let Some((version, known)) = *self.too_new.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(newer(version, known));
        }
        self.begin_anyhow(text, limit).await
    }

    async fn begin_anyhow(&self, text: &'static str, limit: Duration) -> Result<PgTransaction, StoreError> {
        let Some(others) = &self.others else { return self.begin_here(text, limit).await };
        match self.begin_here(text, limit).await {
            Err(StoreError::Unavailable(fault) | StoreError::Refused { source: fault, .. }) if is_full(&fault) => {
                others.begin_here(text, limit).await
            }
            begun => begun,
        }
    }

    async fn begin_here(&self, text: &'static str, limit: Duration) -> Result<PgTransaction, StoreError> {
        let patience = if self.others.is_some() { SERVING_WAIT } else { TIME_LIMIT };
        let work = async {
            let turn = time::timeout(patience, Arc::clone(&self.turns).acquire_owned()).await;
            let turn = turn.map_err(|_| StoreError::too_late())?.map_err(|_| closed())?;
            let place = match Arc::clone(&self.kept).try_lock_owned() {
                Ok(free) => self.ready(free).await?,
                // Use whichever is available first. The server may have no room for a second connection; then wait for
                // the other.
                Err(_) => tokio::select! {
                    biased;
                    second = async { self.ready(Arc::clone(&self.second).lock_owned().await).await } => match second {
                        Ok(second) => second,
                        Err(_) => self.ready(Arc::clone(&self.kept).lock_owned().await).await?,
                    },
                    free = Arc::clone(&self.kept).lock_owned() => self.ready(free).await?,
                },
            };
            self.begin_at(place, turn, text, limit).await
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
        limit: Duration,
    ) -> Result<PgTransaction, StoreError> {
        let begins = |place, turn| PgTransaction::at(place, turn, self.answers.clone(), limit);
        let mut work = begins(place, turn);
        let Err(fault) = work.begin(text).await else { return Ok(work) };
        let Some((place, turn)) = work.give_up() else { return Err(fault.into()) };
        tracing::debug!(%fault, "a connection to the database has ended");
        let mut work = begins(self.ready(place).await?, turn);
        work.begin(text).await?;
        Ok(work)
    }

    /// Connects if the slot has no connection, or one that is old or was made in another way.
    async fn ready(&self, mut place: SlotGuard) -> Result<SlotGuard, StoreError> {
        let way = self.way();
        let is_over = |open: &OpenConnection| now().since(open.since) > OLDEST || !Arc::ptr_eq(&open.way, &way);
        if place.as_ref().is_some_and(is_over)
            && let Some(old) = place.take()
        {
            old.close().await;
        }
        if place.is_none() {
            *place = Some(self.connect().await?);
            let slot = OwnedMutexGuard::mutex(&place);
            if self.others.is_some() || Arc::ptr_eq(slot, &self.second) {
                close_when_unused(slot);
            }
        }
        Ok(place)
    }

    /// Connects. A server that was there a moment ago may be back in a moment, and is given that time.
    async fn connect(&self) -> Result<OpenConnection, StoreError> {
        let began = now();
        let mut failures = 0;
        loop {
            // Again each time, because the settings may have changed.
            let way = self.way();
            let opening = async {
                let mut connection = way.connect().await?;
                Ok::<_, sqlx::Error>((check_encoding(&mut connection).await, connection))
            };
            let answer = self.answers.within(ANSWER, Question::Connect, Box::pin(opening)).await;
            let fault = match answer.flatten() {
                Ok((fits, connection)) => {
                    fits?;
                    self.was_reached.store(true, Ordering::Relaxed);
                    return Ok(OpenConnection { connection, way, since: now(), used: None });
                }
                Err(fault) => way.explained(fault),
            };
            if self.others.is_some() && is_full(&fault) {
                return Err(fault.into());
            }
            let may_come = if let sqlx::Error::Io(fault) = &fault {
                fault.kind() == io::ErrorKind::ConnectionRefused
            } else {
                // The server, or this role, has no connection left; or the server is starting or stopping.
                database_code(&fault).is_some_and(|code| ["53300", "57P03"].contains(&code.as_str()))
            };
            let pause = RETRY.pause(failures);
            if !may_come || now().since(began) + pause > PATIENCE || !self.was_reached.load(Ordering::Relaxed) {
                self.was_reached.store(false, Ordering::Relaxed);
                return Err(fault.into());
            }
            time::sleep(pause).await;
            failures += 1;
        }
    }

    /// Closes the connections cleanly, once they are no longer in use.
    pub(crate) async fn close(&self) {
        self.turns.close();
        self.serving.turns.close();
        for place in [&self.serving.second, &self.serving.first, &self.second, &self.kept] {
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
        let there = work.fetch_all(unnamed("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")).await?;
        let mut applied = Vec::new();
        if there.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false) {
            let rows = work.fetch_all(unnamed(APPLIED)).await?;
            applied = rows.iter().map(AppliedMigration::from_row).collect::<Result<_, _>>()?;
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
        let mut work = self.begin(Some(UPGRADE)).await?;
        work.execute(sqlx::raw_sql(LOCKS)).await.map_err(failed)?;
        work.execute(sqlx::raw_sql(POSTGRES_NOTES)).await.map_err(failed)?;
        for step in missing {
            let note = unnamed(NOTE).bind(step.version).bind(&*step.description).bind(&*step.checksum);
            work.execute(note).await.map_err(failed)?;
            work.execute(sqlx::raw_sql(step.sql.clone())).await.map_err(failed)?;
        }
        // A new database has no old log to migrate, so drop the table now: later only the owner of the tables could.
        if missing.first().is_some_and(|step| step.version == 1) {
            work.execute(sqlx::raw_sql("DROP TABLE IF EXISTS sightings")).await.map_err(failed)?;
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

/// Refuses a database that cannot hold every name. In another encoding, one card or name in another script could never
/// be written.
async fn check_encoding(connection: &mut PgConnection) -> Result<(), StoreError> {
    let row = connection.fetch_one(sqlx::raw_sql("SHOW server_encoding")).await?;
    let encoding = row.try_get::<String, _>(0)?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(StoreError::Refused {
        what:
            "it cannot hold every name; create it with ENCODING 'UTF8' (and TEMPLATE template0), and copy the rows over"
                .to_owned(),
        source: sqlx::Error::Configuration(format!("its encoding is {encoding}").into()),
    })
}

/// Whether the server has no room for a further connection: of this login, of the database, or at all.
fn is_full(fault: &sqlx::Error) -> bool {
    database_code(fault).as_deref() == Some("53300")
}

fn closed() -> StoreError {
    sqlx::Error::PoolClosed.into()
}
