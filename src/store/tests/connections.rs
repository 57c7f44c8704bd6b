//! What a gateway uses of a PostgreSQL server: two connections, few rights, and no session state.

use std::time::Duration;

use sqlx::{Connection, Executor, Row as _};

use crate::{
    base::record::BusinessId,
    settings::{Database, DatabaseTls},
    store::{
        Store, StoreError, Writes,
        statement::{Statement, statement},
        tests::{
            examples::{NOW, PASSES, calendar, opening, record, standing, uuid, write},
            fresh::{Fresh, PASSWORD},
        },
    },
};

/// The next client of the connection would inherit a named statement and all session settings.
#[tokio::test]
async fn nothing_of_a_gateway_stays_on_a_connection() {
    const STAYS: Statement = statement!(
        "SELECT (SELECT count(*) FROM pg_prepared_statements) AS prepared,
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS locks,
           current_setting('idle_in_transaction_session_timeout') AS timeout"
    );
    let fresh = Fresh::pooled().await;
    fresh.write(&opening([record(1, 1000)])).await.expect("written");
    fresh.imports(PASSES, 0).await;
    assert!(fresh.store.take_lease(BusinessId(1), "a", uuid()).await.expect("taken"));
    let rows = fresh.store.sql.read(STAYS, &[]).await.expect("answered");
    let number = |column| rows[0].int(column).expect("a number");
    assert_eq!((number("prepared"), number("locks")), (0, 0));
    assert_eq!(rows[0].text("timeout").expect("a text"), "8s", "for the transaction");
    let Database::Postgres { url, .. } = &fresh.database else { panic!("it is pooled") };
    let options = url.parse::<sqlx::postgres::PgConnectOptions>().expect("a URL").extra_float_digits(None);
    let mut plain = sqlx::PgConnection::connect_with(&options).await.expect("the pooler answers");
    let outside = plain.fetch_one("SHOW idle_in_transaction_session_timeout").await.expect("answered");
    assert_eq!(outside.get::<String, _>(0), "0", "not for the session");
}

#[tokio::test]
async fn the_error_of_a_login_without_a_right_names_the_readme() {
    let (owner, _folder) = Fresh::empty_postgres().await;
    let (login, mut admin) = Fresh::gateway_of(&owner).await;
    let url = owner.replacen(owner.rsplit_once('@').expect("a login").0, &format!("postgres://{login}:{PASSWORD}"), 1);
    let database = Database::Postgres { url, password: None, tls: DatabaseTls::default() };
    for right in ["INSERT ON checkins", "UPDATE ON standings", "SELECT ON _sqlx_migrations"] {
        admin.execute(sqlx::AssertSqlSafe(format!("REVOKE {right} FROM {login}"))).await.expect("revoked");
        let refused = async {
            let store = Store::open(&database).await?;
            let writes = Writes { people: vec![standing(1, 0, Some((1, 9000)))], ..opening([record(1, 1000)]) };
            write(&store, &writes).await
        };
        let said = refused.await.expect_err(right);
        let StoreError::Refused { what, source } = said else { panic!("{right}: {said:?}") };
        assert!(what.contains("the README lists under \"PostgreSQL\""), "{what}");
        let table = right.split(' ').next_back().expect("a table");
        assert!(source.to_string().contains(table), "{source} does not name {table}");
        admin.execute(sqlx::AssertSqlSafe(format!("GRANT {right} TO {login}"))).await.expect("granted");
    }
    Store::open(&database).await.expect("with all rights again").close().await;
}

#[tokio::test]
async fn gateways_that_start_at_once_make_the_tables_once() {
    let (url, _folder) = Fresh::empty_postgres().await;
    let database = Database::Postgres { url, password: None, tls: DatabaseTls::default() };
    let opened = futures_util::future::join_all((0..8).map(|_| Store::open(&database))).await;
    for store in opened {
        let store = store.expect("opens");
        assert_eq!(store.directory_version().await.expect("answered"), 0);
    }
}

/// The pipeline gets a connection at once, however many other tasks read, and there are never more than two.
#[tokio::test]
async fn two_connections_are_enough_and_one_is_for_the_pipeline() {
    let fresh = Fresh::pooled().await;
    let deciding = fresh.store.deciding().await.expect("reserved");
    let ask = async |_| {
        for _ in 0..5 {
            fresh.store.open_checkins().await.expect("read");
            fresh.store.probe().await.expect("answers");
        }
    };
    let others = futures_util::future::join_all((0..50).map(ask));
    let decided = async {
        for coworker in 1..20 {
            let writes = opening([record(coworker, 1000)]);
            let put = tokio::time::timeout(Duration::from_secs(5), write(&deciding, &writes));
            put.await.expect("at once").expect("written");
        }
    };
    tokio::join!(others, decided);
    let held = fresh.store.batch().await.expect("begins");
    write(&deciding, &opening([record(20, 1000)])).await.expect("also while the other is in use");
    drop(held);
    assert_eq!(fresh.store.open_checkins().await.expect("read").len(), 20);
}

/// The answer to an abandoned statement is never mistaken for that of the next, and an abandoned transaction changes
/// nothing.
#[tokio::test]
async fn an_abandoned_statement_is_over_before_its_connection_is_used_again() {
    const SLOW: Statement = statement!("SELECT CAST(pg_sleep(0.2) AS text) AS slept");
    let fresh = Fresh::pooled().await;
    for _ in 0..5 {
        let slow = fresh.store.sql.read(SLOW, &[]);
        tokio::time::timeout(Duration::from_millis(20), slow).await.expect_err("it takes longer");
        let mut left = fresh.batch().await;
        left.write(&opening([record(1, 1000)]), &|_, _| calendar(), NOW).await.expect("written");
        drop(left);
        assert_eq!(fresh.store.open_checkins().await.expect("read"), []);
    }
}
