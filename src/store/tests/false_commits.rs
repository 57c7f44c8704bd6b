//! What a connection reports after the disk was full or failed, with our way of writing and, as a control, with the
//! usual one, which reports commits that never happened.
//!
//! The disk is broken for a separate process: the tests start this binary again, for [`on_this_disk`] alone.

#![expect(clippy::disallowed_methods, reason = "the environment tells the second process what to do")]

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use sqlx::{
    Connection, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::store::{
    error::StoreError,
    schema::CopyFirst,
    sql::Sql,
    statement::{Arg, Statement, statement},
};

/// The number of rows in one transaction.
const ROWS: i64 = 250;

/// The number of transactions before the disk is repaired, and after.
const TRANSACTIONS: (i64, i64) = (60, 20);

/// The variable that gives the second process its folder, its way of writing and what repairs its disk.
const ORDERS: &str = "CHECKIND_TEST_BROKEN_DISK";

const INSERT: Statement = statement!("INSERT INTO e (id, transaction_number, filler) VALUES ($1, $2, $3)");

const TABLE: Statement =
    statement!("CREATE TABLE IF NOT EXISTS e (id INTEGER PRIMARY KEY, transaction_number INTEGER, filler TEXT)");

/// A way to write rows in transactions.
enum Writer {
    /// As checkind does.
    Ours(Box<Sql>),
    /// As most programs do: `BEGIN`, and the same connection forever.
    Usual(SqliteConnection),
}

impl Writer {
    async fn open(way: &str, path: &Path) -> Self {
        if way == "ours" {
            let sql = Sql::open_sqlite(path, CopyFirst::Yes).await.expect("a database").0;
            sql.change(TABLE, &[]).await.expect("a table");
            return Self::Ours(Box::new(sql));
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut connection = SqliteConnection::connect_with(&options).await.expect("a database");
        sqlx::query(TABLE.sqlite).execute(&mut connection).await.expect("a table");
        Self::Usual(connection)
    }

    async fn write(&mut self, transaction: i64) -> Result<(), StoreError> {
        let rows = (transaction * ROWS..(transaction + 1) * ROWS).map(|id| (id, transaction, "x".repeat(100)));
        match self {
            Self::Ours(sql) => {
                let mut begun = sql.begin().await?;
                for (id, number, filler) in rows {
                    begun.change(INSERT, &[Arg::Int(id), Arg::Int(number), Arg::Text(filler)]).await?;
                }
                begun.commit().await
            }
            Self::Usual(connection) => {
                let mut begun = connection.begin().await?;
                for (id, number, filler) in rows {
                    sqlx::query(INSERT.sqlite).bind(id).bind(number).bind(filler).execute(&mut *begun).await?;
                }
                Ok(begun.commit().await?)
            }
        }
    }
}

/// The second process: writes while the disk is broken and after it is repaired, and reports how many transactions were
/// reported as committed before and after the repair, and how many of these are missing.
#[tokio::test]
async fn on_this_disk() {
    let Ok(orders) = env::var(ORDERS) else { return };
    let [folder, way, breaks, repairs] = orders.split('|').collect::<Vec<_>>()[..] else { panic!("{orders}") };
    let path = Path::new(folder).join("e.db");
    let shell = |line: &str| assert!(Command::new("sh").args(["-c", line]).status().expect("a shell").success());
    let mut writer = Writer::open(way, &path).await;
    let mut reported = Vec::new();
    for transaction in 0..TRANSACTIONS.0 {
        if transaction == TRANSACTIONS.0 / 3 {
            shell(breaks);
        }
        if writer.write(transaction).await.is_ok() {
            reported.push(transaction);
        }
    }
    let broken = reported.len();
    shell(repairs);
    for transaction in TRANSACTIONS.0..TRANSACTIONS.0 + TRANSACTIONS.1 {
        if writer.write(transaction).await.is_ok() {
            reported.push(transaction);
        }
    }
    // Read as if the process had ended: rows visible only to its connection are missing.
    let mut another =
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&path)).await.expect("a file");
    let mut missing = 0;
    for transaction in &reported {
        let count = sqlx::query("SELECT count(*) FROM e WHERE transaction_number = $1").bind(transaction);
        let count: i64 = count.fetch_one(&mut another).await.expect("an answer").get(0);
        missing += i64::from(count != ROWS);
    }
    println!("outcome {broken} {} {missing}", reported.len() - broken);
}

/// The report of the second process.
#[derive(Debug)]
struct Outcome {
    while_broken: u32,
    after: u32,
    missing: u32,
}

/// Runs [`on_this_disk`]. `starter` may wrap the process in something.
fn outcome(starter: &[&str], environment: &[(&str, &str)], orders: &[&str; 4]) -> Outcome {
    let binary = env::current_exe().expect("this program");
    let mut command = Command::new(starter.first().map_or_else(|| binary.as_os_str(), |first| first.as_ref()));
    if let [_, arguments @ ..] = starter {
        command.args(arguments).arg(&binary);
    }
    let test = concat!(module_path!(), "::on_this_disk").split_once("::").expect("a crate").1;
    command.args(["--exact", test, "--nocapture"]).envs(environment.iter().copied()).env(ORDERS, orders.join("|"));
    let output = command.stdin(Stdio::null()).output().expect("unshare of util-linux");
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let numbers = printed.lines().find_map(|line| line.split_once("outcome ")).unwrap_or_else(|| panic!("{printed}")).1;
    let [while_broken, after, missing] =
        numbers.split(' ').map(|number| number.parse().expect("a number")).collect::<Vec<u32>>()[..]
    else {
        panic!("{printed}")
    };
    Outcome { while_broken, after, missing }
}

/// The requirements for both kinds of broken disk.
fn judge(ours: &Outcome, usual: &Outcome) {
    assert_eq!(ours.missing, 0, "reported as committed but missing: {ours:?}");
    assert!(i64::from(ours.while_broken) < TRANSACTIONS.0, "the disk was not broken: {ours:?}");
    assert_eq!(i64::from(ours.after), TRANSACTIONS.1, "it did not recover: {ours:?}");
    assert!(usual.missing > 0, "the usual way loses nothing either, so this proves nothing: {usual:?}");
}

#[test]
fn a_full_disk_makes_no_false_commits_of_ours() {
    let run = |way| {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let place = folder.path().to_str().expect("a path of ours");
        // The small disk is visible only to the second process, and disappears with it.
        let script = "mount -t tmpfs -o size=1m tmpfs \"$1\" && shift && exec \"$@\"";
        let starter = ["unshare", "--mount", "sh", "-c", script, "sh", place];
        outcome(&starter, &[], &[place, way, "true", &format!("mount -o remount,size=64m {place}")])
    };
    judge(&run("ours"), &run("usual"));
}

#[test]
fn a_disk_that_cannot_sync_makes_no_false_commits_of_ours() {
    let run = |way| {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let place = folder.path().to_str().expect("a path of ours");
        let library = folder.path().join("slowsync.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/c/slowsync.c");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
        assert!(compiled.expect("cc; install gcc and libc6-dev").success());
        let orders = folder.path().join("orders");
        fs::write(&orders, "ok").expect("a file");
        let text = |path: &Path| path.to_str().expect("a path of ours").to_owned();
        let (library, orders) = (text(&library), text(&orders));
        let environment = [("LD_PRELOAD", library.as_str()), ("SLOWSYNC_ORDERS", orders.as_str())];
        let orders = [place, way, &format!("echo fail >{orders}"), &format!("echo ok >{orders}")];
        outcome(&[], &environment, &orders)
    };
    judge(&run("ours"), &run("usual"));
}
