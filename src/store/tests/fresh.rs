//! An empty database for each test, and the contract, which runs the same tests on every kind of database.

use std::collections::BTreeSet;

use sqlx::{Connection, Executor};
use uuid::Uuid;

use crate::{
    base::{
        clock::WallTime,
        fact::{DoorFact, FactKey, Subject},
        record::{BusinessId, Checkin, CheckinId, CoworkerId, TimePassId},
        version::VersionId,
    },
    directory::{Directory, import},
    engine::{fold::ChargeRecord, passes::payg},
    settings::{Database, DatabaseTls},
    store::{
        Batch, Store, StoreError, StoredRecords, StoredVisit, Writes,
        statement::{Arg, Statement, statement},
        stored::Row,
        tests::{
            examples::{at, calendar, sorted, uuid, write},
            pooler::{Pooler, grants},
        },
    },
};

/// The password of the logins that are created for a test.
pub(super) const PASSWORD: &str = "gateway";

/// Each test of the contract, once for each database.
macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::Fresh::sqlite().await).await; })+
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(super::Fresh::postgres().await).await; })+
        }
        /// As a gateway with only the rights listed in the README, behind a pooler with two connections.
        mod pooled {
            $(#[tokio::test] async fn $name() { super::$name(super::Fresh::pooled().await).await; })+
        }
    };
}
pub(crate) use contract;

/// An empty database of a test's own.
pub(crate) struct Fresh {
    pub(crate) store: Store,
    pub(super) database: Database,
    _folder: tempfile::TempDir,
    _pooler: Option<Pooler>,
}

impl Store {
    /// Runs any statement.
    pub(crate) async fn execute(&self, text: &'static str) -> Result<(), StoreError> {
        self.sql.change(statement!(text), &[]).await.map(drop)
    }

    /// Sets when an import stated what is left of every pass in force.
    pub(crate) async fn set_pass_basis(&self, at: WallTime) {
        const SET: Statement = statement!("UPDATE directory SET basis_at = $1 WHERE kind = 'coworker_time_pass'");
        self.sql.change(SET, &[Arg::Time(at)]).await.expect("written");
    }
}

impl Fresh {
    /// The owner has created the tables; a gateway's login may open two connections, and so may the pooler.
    pub(crate) async fn pooled() -> Self {
        let (owner, folder) = Self::empty_postgres().await;
        let (login, _) = Self::gateway_of(&owner).await;
        let (server, name) = owner.rsplit_once('/').expect("a URL with a database");
        let server = server.rsplit_once('@').expect("a URL with a login").1;
        let pooler = Pooler::start(server, &[&login], PASSWORD);
        let url = format!("postgres://{login}:{PASSWORD}@{}/{name}", pooler.address());
        let fresh = Self::open(Database::Postgres { url, password: None, tls: DatabaseTls::default() }, folder).await;
        Self { _pooler: Some(pooler), ..fresh }
    }

    /// Creates the tables as their owner, and a login for gateways. Returns the login and one of the owner's
    /// connections.
    pub(super) async fn gateway_of(owner: &str) -> (String, sqlx::PgConnection) {
        let made =
            Store::open(&Database::Postgres { url: owner.to_owned(), password: None, tls: DatabaseTls::default() })
                .await
                .expect("opens");
        made.close().await;
        let login = format!("gateway_{}", uuid().simple());
        let mut admin = sqlx::PgConnection::connect(owner).await.expect("the server answers");
        let create = format!("CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 2");
        for statement in std::iter::once(create).chain(grants(&login)) {
            admin.execute(sqlx::AssertSqlSafe(statement)).await.expect("a statement of the README");
        }
        (login, admin)
    }

    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::open(Database::Sqlite { path: folder.path().join("checkind.db") }, folder).await
    }

    /// A file in memory, if the machine has a place for one.
    pub(crate) async fn in_memory() -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a temporary folder");
        Self::open(Database::Sqlite { path: folder.path().join("checkind.db") }, folder).await
    }

    pub(crate) async fn postgres() -> Self {
        let (url, folder) = Self::empty_postgres().await;
        Self::open(Database::Postgres { url, password: None, tls: DatabaseTls::default() }, folder).await
    }

    /// A new database on the server that `tests/run` started and named in `CHECKIND_TEST_POSTGRES`.
    #[expect(clippy::disallowed_methods, reason = "tests/run tells the tests where its server is")]
    pub(super) async fn empty_postgres() -> (String, tempfile::TempDir) {
        let server = std::env::var("CHECKIND_TEST_POSTGRES")
            .expect("CHECKIND_TEST_POSTGRES names no PostgreSQL server; start the tests with tests/run");
        let name = format!("contract_{}", uuid().simple());
        let mut admin = sqlx::PgConnection::connect(&format!("{server}/postgres")).await.expect("the server answers");
        admin.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a new database");
        // No test kills the server, so commits need not wait for the disk.
        let fast = format!("ALTER DATABASE {name} SET synchronous_commit = off");
        admin.execute(sqlx::AssertSqlSafe(fast)).await.expect("a setting");
        (format!("{server}/{name}"), tempfile::tempdir().expect("a temporary folder"))
    }

    pub(super) async fn open(database: Database, folder: tempfile::TempDir) -> Self {
        let store = Store::open(&database).await.expect("opens");
        Self { store, database, _folder: folder, _pooler: None }
    }

    pub(super) async fn batch(&self) -> Batch {
        self.store.batch().await.expect("begins")
    }

    pub(super) async fn write(&self, writes: &Writes) -> Result<(), StoreError> {
        write(&self.store, writes).await
    }

    pub(super) async fn write_at(&self, writes: &Writes, now: WallTime) -> Result<(), StoreError> {
        let mut batch = self.batch().await;
        batch.write(writes, &|_, _| calendar(), now).await?;
        batch.commit().await
    }

    /// The visits of a coworker, earliest first.
    pub(super) async fn visits(&self, coworker: i64) -> Vec<StoredVisit> {
        sorted(self.records(&[coworker]).await.visits.into_values())
    }

    pub(super) async fn records(&self, coworkers: &[i64]) -> StoredRecords {
        let who = coworkers.iter().map(|coworker| (CoworkerId(*coworker), (at(0), at(0)))).collect();
        self.batch().await.records(&who).await.expect("answered")
    }

    /// Which of these facts are in the log.
    pub(super) async fn known(&self, facts: &[&DoorFact]) -> Vec<usize> {
        let facts: Vec<FactKey> = facts.iter().map(|fact| fact.key()).collect();
        let loaded = self.batch().await.load(&BTreeSet::new(), &facts).await.expect("answered");
        loaded.known.into_iter().collect()
    }

    /// A person state, read inside a transaction and outside.
    pub(super) async fn standing(&self, subject: i64) -> Option<crate::store::StoredPerson> {
        let who = BTreeSet::from([Subject(subject)]);
        let mut inside = self.batch().await.load(&who, &[]).await.expect("answered").people;
        let (outside, _) = self.store.people(&who, &BTreeSet::new()).await.expect("answered");
        let found = inside.remove(&Subject(subject));
        let parts =
            |standing: &crate::store::StoredPerson| (standing.revision, standing.deadline, standing.person.clone());
        assert_eq!(outside.people.get(&Subject(subject)).map(parts), found.as_ref().map(parts));
        found
    }

    /// The charges of a coworker, earliest first.
    pub(super) async fn charges(&self, coworker: i64) -> Vec<ChargeRecord> {
        const CHARGES: Statement = statement!("SELECT * FROM payg_charges WHERE coworker_id = $1 ORDER BY from_time");
        let rows = self.store.sql.read(CHARGES, &[Arg::Int(coworker)]).await.expect("answered");
        let charge = |row: &Row| {
            Ok(ChargeRecord {
                checkin: row.uuid("checkin")?,
                coworker: CoworkerId(coworker),
                business: BusinessId(row.int("business_id")?),
                time_pass: TimePassId(row.int("time_pass_id")?),
                pass_day: row.time("pass_day")?,
                from: row.time("from_time")?,
                to: row.column("to_time")?,
                charge: payg::Charge {
                    minutes: u32::try_from(row.int("minutes")?).expect("some minutes"),
                    unbounded: row.int("unbounded")?,
                    amount: row.int("amount")?,
                    currency: row.text("currency")?.parse().expect("a currency"),
                },
            })
        };
        rows.iter().map(charge).collect::<Result<_, StoreError>>().expect("read")
    }

    /// The row of a visit, as the API reads it.
    pub(super) async fn checkin_of(&self, unique_id: Uuid) -> Option<Checkin> {
        crate::store::rows::row! {
            struct IdRow {
                id: Uuid,
            }
        }
        const ID: Statement = statement!(rows(IdRow) "SELECT c.id FROM r JOIN checkins c ON c.unique_id = r.id");
        let row = IdRow { id: unique_id };
        let rows = self.store.sql.read(ID, &[Arg::rows(&[row])]).await.expect("answered");
        let id = CheckinId(rows.first()?.int("id").expect("a number"));
        self.store.checkin(id).await.expect("read")
    }

    /// SQLite's plan for a statement, one step per line.
    pub(super) async fn plan(&self, statement: Statement, arguments: usize) -> String {
        let Database::Sqlite { path } = &self.database else { unreachable!("a SQLite test") };
        let mut connection =
            sqlx::SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.expect("opens");
        let mut plans = Vec::new();
        for text in statement.texts() {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")));
            for _ in 0..arguments.saturating_sub(usize::from(!statement.columns.is_empty())) {
                query = query.bind("[]");
            }
            let steps = query.fetch_all(&mut connection).await.expect("explains");
            let detail =
                |step| sqlx::Row::get::<String, _>(step, "detail").trim_end_matches(char::is_numeric).to_owned() + "\n";
            let details = steps.iter().map(detail);
            // The rows of the batch themselves.
            plans.push(details.filter(|step| !step.contains("CONSTANT ROW")).collect::<String>());
        }
        for plan in &plans {
            assert_eq!(Some(plan), plans.first(), "for many rows as for one: {}", statement.sqlite);
        }
        plans.swap_remove(0)
    }

    /// The version of the directory that a batch sees.
    pub(super) async fn batch_versions(&self) -> VersionId {
        let mut batch = self.store.batch().await.expect("begins");
        let loaded = batch.load(&BTreeSet::new(), &[]).await.expect("loaded");
        batch.commit().await.expect("commits");
        loaded.directory
    }

    /// The numbers of the versions of the directory, and when each came into force.
    pub(super) async fn versions(&self) -> Vec<(i64, WallTime)> {
        let versions = self.store.directory_versions().await.expect("answered");
        versions.into_iter().map(|(version, in_force)| (version.number, in_force)).collect()
    }

    /// Imports a site as if at `now`.
    pub(crate) async fn imports(&self, site: &str, now: i64) -> Directory {
        let key = self.store.pin_key().await.expect("drawn");
        let documents = import::read_json(site, &key).expect("reads").documents;
        let version = self.store.directory_version().await.expect("answered");
        self.store.import(&documents, version, at(now), |_| {}).await.expect("imported");
        self.store.load_directory().await.expect("loaded")
    }

    pub(super) async fn one(&self, sql: &'static str) -> Row {
        let statement = Statement { columns: &[], sqlite: sql, postgres: sql };
        self.store.sql.read(statement, &[]).await.expect("read").pop().expect("a row")
    }

    /// The number of rows in a table.
    pub(super) async fn count(&self, table: &'static str) -> i64 {
        let sql: &'static str = format!("SELECT count(*) AS n FROM {table}").leak();
        self.one(sql).await.int("n").expect("a number")
    }
}
