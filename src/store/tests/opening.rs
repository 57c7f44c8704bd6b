//! Opening a database: its schema, earlier versions of it, and a backup.

use std::collections::BTreeMap;

use sqlx::{Connection, Executor};

use crate::{
    base::record::{BusinessId, CoworkerId},
    settings::{Database, DatabaseTls},
    store::{
        CoverageRow, Store, Writes,
        tests::{
            examples::{at, logging, opening, record, said, standing, tap, uuid},
            fresh::{Fresh, PASSWORD, contract},
        },
    },
};

contract!(a_second_opening_finds_the_schema_in_place,);

async fn a_second_opening_finds_the_schema_in_place(fresh: Fresh) {
    fresh.write(&opening([record(1, 1000)])).await.expect("written");
    fresh.store.close().await;
    let again = Store::open(&fresh.database).await.expect("opens");
    again.probe().await.expect("would let us write");
    assert_eq!(again.open_checkins().await.expect("read").len(), 1);
}

#[tokio::test]
async fn only_the_owner_changes_the_schema() {
    let (owner, _folder) = Fresh::empty_postgres().await;
    let login = format!("gateway_{}", uuid().simple());
    let mut admin = sqlx::PgConnection::connect(&owner).await.expect("the server answers");
    let create = format!("CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 2");
    admin.execute(sqlx::AssertSqlSafe(create)).await.expect("a role");
    let url = owner.replacen(owner.rsplit_once('@').expect("a login").0, &format!("postgres://{login}:{PASSWORD}"), 1);
    let said = Store::open(&Database::Postgres { url, password: None, tls: DatabaseTls::default() })
        .await
        .expect_err("an empty database");
    let newest = sqlx::migrate!("src/store/migrations/postgres").iter().map(|migration| migration.version).max();
    let expected = format!(
        "the database refuses: its schema must become version {}, and this login may not change it; run `checkind \
         migrate` with the login that owns the tables, then grant this one its rights (README, \"PostgreSQL\")",
        newest.expect("a version")
    );
    assert_eq!(said.to_string(), expected);
}

#[tokio::test]
async fn a_sqlite_file_in_a_folder_that_does_not_exist_says_what_to_do() {
    let error = Store::open(&Database::Sqlite { path: "/nonexistent/checkind.db".into() }).await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the database refuses: /nonexistent/checkind.db cannot be used: the folder /nonexistent does not exist; create it, \
         as the user of the service"
    );
}

/// Rows that the version from before the log of facts wrote.
const OLD_ROWS: &str = r#"
    INSERT INTO directory (kind, id, document, updated_on)
        VALUES ('coworker', 1, '{"Id": 1, "FullName": "Ada"}', '2026-01-01T00:00:00.000Z');
    UPDATE directory_version SET version = 3;
    INSERT INTO heard (id, business_id, from_time, to_time) VALUES
        ('00000000-0000-8000-8000-000000000001', 1, '1970-01-01T00:00:01.000Z', '1970-01-01T00:00:02.000Z');
    INSERT INTO checkins (unique_id, coworker_id, business_id, source, from_time, last_activity, from_time_local,
            created_on, updated_on, updated_by)
        VALUES ('00000000-0000-8000-8000-000000000002', 1, 1, 6, '1970-01-01T00:00:01.000Z', '1970-01-01T00:00:02.000Z',
            '1970-01-01T01:00:01', '1970-01-01T00:00:01.000Z', '1970-01-01T00:00:01.000Z', 'checkind')"#;

/// The migrations up to the log of facts.
fn before_facts(mut all: sqlx::migrate::Migrator) -> sqlx::migrate::Migrator {
    let old = all.migrations.iter().filter(|migration| migration.version < 6).cloned().collect::<Vec<_>>();
    all.migrations = old.into();
    all.set_locking(false);
    all
}

async fn is_brought_up_to_date(fresh: Fresh) {
    let open = fresh.store.open_checkins().await.expect("read");
    assert_eq!(
        open.iter().map(|row| (row.coworker_id, row.last_activity)).collect::<Vec<_>>(),
        [(Some(CoworkerId(1)), Some(at(2000)))]
    );
    assert_eq!(fresh.visits(1).await.len(), 1);
    let coverage = fresh.store.coverage(BusinessId(1), false, at(0)).await.expect("answered");
    assert_eq!(coverage, BTreeMap::from([(BusinessId(1), vec![CoverageRow { from: at(1000), to: at(2000) }])]));
    assert_eq!(fresh.versions().await, [(3, at(0))]);
    fresh.imports(r#"{"Coworkers": [{"Id": 1, "FullName": "Bob"}]}"#, 5000).await;
    for (version, name) in [(3, "Ada"), (4, "Bob")] {
        let directory = fresh.store.load_directory_of(version).await.expect("loaded");
        assert_eq!(said(&directory).2.as_deref(), Some(name));
    }
}

#[tokio::test]
async fn a_sqlite_file_of_the_version_before_is_brought_up_to_date() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("checkind.db");
    let url = format!("sqlite:{}?mode=rwc", path.display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("a file");
    let old = before_facts(sqlx::migrate!("src/store/migrations/sqlite"));
    old.run(&mut connection).await.expect("the schema of then");
    connection.execute(OLD_ROWS).await.expect("written");
    connection.close().await.expect("closed");
    is_brought_up_to_date(Fresh::open(Database::Sqlite { path }, folder).await).await;
}

#[tokio::test]
async fn a_postgres_database_of_the_version_before_is_brought_up_to_date() {
    let (url, folder) = Fresh::empty_postgres().await;
    let mut connection = sqlx::PgConnection::connect(&url).await.expect("the server answers");
    let old = before_facts(sqlx::migrate!("src/store/migrations/postgres"));
    old.run(&mut connection).await.expect("the schema of then");
    connection.execute(OLD_ROWS).await.expect("written");
    connection.close().await.expect("closed");
    is_brought_up_to_date(
        Fresh::open(Database::Postgres { url, password: None, tls: DatabaseTls::default() }, folder).await,
    )
    .await;
}

/// A backup contains everything that was committed, including the log and the person states.
#[tokio::test]
async fn a_backup_is_a_database_of_its_own() {
    let fresh = Fresh::sqlite().await;
    let writes = Writes { people: vec![standing(1, 0, Some((1, 9000)))], ..logging([&tap(1, 1000)]) };
    fresh.write(&Writes { new_visits: vec![record(1, 1000)], ..writes }).await.expect("written");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("copy.db");
    assert!(Store::backup(&fresh.database, &path).await.expect("copied") > 0);
    Store::backup(&fresh.database, &path).await.expect_err("it overwrites nothing");
    let copy = Fresh::open(Database::Sqlite { path }, folder).await;
    assert_eq!(copy.known(&[&tap(1, 1000)]).await, [0]);
    assert_eq!(copy.visits(1).await, fresh.visits(1).await);
    assert_eq!(copy.standing(1).await.expect("exists").deadline, Some((BusinessId(1), at(9000))));
}
