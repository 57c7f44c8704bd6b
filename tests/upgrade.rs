//! What changes the schema of a database, what does not, and the copy that it leaves.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use sqlx::{Connection, Executor, SqliteConnection, migrate::Migrator, sqlite::SqliteConnectOptions};

use crate::support::{
    broker::Broker,
    daemon::{BINARY, Home, LIMIT, Way, card, doors, flat_event, now, people, site},
    ledger::{Ledger, runtime},
    postgres::Postgres,
    skipped, wait_for,
};

/// A version of the schema from before the log of facts.
const OLD: i64 = 5;

/// A person, as an earlier version stored her.
pub(crate) const ADA: &str = "INSERT INTO directory (kind, id, document, updated_on)
    VALUES ('coworker', 1, '{\"Id\": 1, \"FullName\": \"Ada\"}', '2026-01-01T00:00:00.000Z')";

/// The migrations for a database of this kind, up to a version.
fn steps(kind: &str, until: i64) -> Migrator {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations").join(kind);
    let mut steps = runtime().block_on(Migrator::new(folder)).expect("migrations");
    steps.migrations = steps.migrations.iter().filter(|step| step.version <= until).cloned().collect();
    steps.set_locking(false);
    steps
}

/// The newest version.
pub(crate) fn newest() -> i64 {
    steps("sqlite", i64::MAX).iter().map(|step| step.version).max().expect("a version")
}

/// Makes a SQLite file with the schema of an earlier version.
pub(crate) fn make_old(path: &Path, version: i64) {
    let steps = steps("sqlite", version);
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    runtime().block_on(async {
        let mut connection = SqliteConnection::connect_with(&options).await.expect("a file");
        connection.execute("PRAGMA journal_mode = WAL").await.expect("a log");
        steps.run(&mut connection).await.expect("the schema of then");
        connection.close().await.expect("closed");
    });
}

/// Adds a migration that this program does not know.
pub(crate) fn add_migration(ledger: &Ledger, version: i64, name: &str) {
    ledger.execute(&format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT {version}, '{name}', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1"
    ));
}

fn version(ledger: &Ledger) -> i64 {
    ledger.number("SELECT max(version) FROM _sqlx_migrations")
}

/// The names of the files in the folder of the database that begin with its name.
pub(crate) fn files(home: &Home) -> Vec<String> {
    let folder = home.path("checkind.toml").parent().expect("a folder").to_owned();
    let names = fs::read_dir(folder).expect("a list").map(|entry| entry.expect("one").file_name());
    let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    names.retain(|name| name.starts_with("checkind.db"));
    names.sort();
    names
}

#[test]
fn migrate_changes_the_schema_and_keeps_the_file_as_it_was() {
    let home = Home::new(&site(""));
    make_old(&home.path("checkind.db"), OLD);
    home.ledger().execute(ADA);
    for older in
        ["checkind.db.before-1", "checkind.db.before-3", "checkind.db.before-x", "checkind.db.checkind-partial-7"]
    {
        home.write(older, "an older copy");
    }
    let said = home.ask(&["migrate"]);
    assert!(said.starts_with(&format!("The schema was changed from version {OLD} to {} in ", newest())), "{said}");
    assert!(said.contains(&format!("is in {}", home.path("checkind.db.before-5").display())), "{said}");
    // The newest two copies are kept, and what an interrupted one left is removed.
    assert_eq!(files(&home), ["checkind.db", "checkind.db.before-3", "checkind.db.before-5", "checkind.db.before-x"]);
    assert_eq!(version(&home.ledger()), newest());
    let copy = home.path("checkind.db.before-5");
    assert_eq!(fs::metadata(&copy).expect("it exists").permissions().mode() & 0o777, 0o600);
    let before = Ledger::of(&format!("sqlite:{}", copy.display()));
    assert_eq!(version(&before), OLD);
    assert_eq!(before.count("directory"), 1);
    assert_eq!(before.texts("PRAGMA integrity_check"), [["ok"]]);

    let again: serde_json::Value = serde_json::from_str(&home.ask(&["migrate", "--json"])).expect("JSON");
    assert_eq!((&again["From"], &again["To"]), (&newest().into(), &newest().into()));
    assert!(again["Copy"].is_null(), "{again}");
    let text = home.ask(&["migrate"]);
    assert_eq!(text, format!("The schema is version {}; there is nothing to change.\n", newest()));
}

#[test]
fn migrate_creates_a_database_that_only_its_owner_can_read() {
    let home = Home::new(&site(""));
    let said = home.ask(&["migrate"]);
    assert_eq!(said, format!("The tables were created, schema version {}.\n", newest()));
    assert_eq!(files(&home), ["checkind.db"]);
    assert_eq!(fs::metadata(home.path("checkind.db")).expect("it exists").permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_daemon_and_an_import_change_the_schema_and_say_so() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    make_old(&home.path("checkind.db"), OLD);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    daemon.wait_for_line("the schema of the database was changed");
    let line = daemon.lines("the schema of the database was changed").remove(0);
    let (from, to) = (format!("from={OLD}"), format!("to={}", newest()));
    assert!([&from, &to, "seconds=", "checkind.db.before-5"].iter().all(|part| line.contains(*part)), "{line}");
    daemon.stop();
    let second = Home::new(&site(""));
    make_old(&second.path("checkind.db"), OLD);
    second.write("site.json", &people(1, &[]).to_string());
    let output = second.run(&["import", second.path("site.json").to_str().expect("a path of ours")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(&format!("changed from version {OLD} to")), "{said}");
    assert!(second.path("checkind.db.before-5").exists());
}

/// A daemon whose disk has no room for the copy waits for it, and changes nothing until then.
#[test]
fn without_room_for_the_copy_nothing_changes_until_there_is_some() {
    if !rustix::process::geteuid().is_root() {
        return skipped("a disk without room", "mounting needs root");
    }
    let home = Home::new(&site(""));
    let old = home.path("old.db");
    make_old(&old, OLD);
    fs::create_dir(home.path("small")).expect("a folder");
    let small = home.path("small").display().to_string();
    let url = format!("sqlite:{small}/checkind.db");
    let home_there = Home::on(&url, &site(""));
    // A disk of 2 MB, of which 64 KB are free.
    let script = "mount -t tmpfs -o size=2m,mode=700 tmpfs \"$1\" && cp \"$2\" \"$1\"/checkind.db && \
                  free=$(df --output=avail -k \"$1\" | tail -1) && head -c $((free - 64))k /dev/zero >\"$1\"/filler && shift 2 && exec \"$@\"";
    let starter =
        ["unshare", "--mount", "sh", "-c", script, "sh", &small, old.to_str().expect("a path of ours"), BINARY];
    let refused = home_there.command_of(&starter, &["migrate"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(69), "{said}");
    assert!(said.contains("has only 0.0 MB free of the"), "{said}");
    assert!(said.contains("`checkind migrate --without-copy`"), "{said}");
    let daemon = home_there.spawn_by(&starter, &[]);
    daemon.wait_for_line("`checkind migrate --without-copy`");
    // The disk as the daemon sees it.
    fs::remove_file(format!("/proc/{}/root{small}/filler", daemon.pid())).expect("room again");
    daemon.wait_for_line("the schema of the database was changed");
    daemon.listening().stop();
}

#[test]
fn without_copy_the_schema_changes_and_no_copy_is_made() {
    let home = Home::new(&site(""));
    make_old(&home.path("checkind.db"), OLD);
    assert!(!home.ask(&["migrate", "--without-copy"]).contains("before"));
    assert_eq!(files(&home), ["checkind.db"]);
    assert_eq!(version(&home.ledger()), newest());
}

/// The last version works beside the next, on one database: what an upgrade of many gateways one by one needs.
#[test]
fn a_daemon_works_on_a_newer_schema_that_suits_it_and_refuses_another() {
    let broker = Broker::plain();
    let server = Postgres::start();
    let settings = site("") + &doors(broker.port);
    for home in [Home::new(&settings), Home::on(&server.url(), &settings)] {
        home.import(&people(1, &[]));
        let ledger = home.ledger();
        add_migration(&ledger, 9001, &format!("since {:04} more columns", newest()));
        ledger.execute("ALTER TABLE checkins ADD COLUMN of_the_next_version INTEGER");
        let mut daemon = home.start();
        daemon.wait_until_ready();
        broker.publish("flat/events", flat_event(1, card(1), Way::In, now()).as_bytes(), 1);
        wait_for("the tap", LIMIT, || match ledger.count("checkins") {
            1 => Ok(()),
            _ => Err(daemon.log()),
        });
        assert!(home.ask(&["who"]).contains("Member 1"));
        daemon.stop();
        add_migration(&ledger, 9002, "since 9001 without the old columns");
        let refused = home.run(&["who"]);
        assert_eq!(refused.status.code(), Some(69));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("its schema is version 9002, newer than this program"), "{said}");
        assert_eq!(home.run(&["migrate"]).status.code(), Some(69));
        assert_eq!(version(&ledger), 9002);
    }
}

/// Another gateway has migrated to a schema that this one does not suit. No one taps, so only the question that is asked
/// for all parts can tell.
#[test]
fn a_schema_that_becomes_too_new_under_a_running_gateway_is_named_and_its_taps_wait_in_the_spool() {
    const TAPS: u32 = 20;
    let broker = Broker::plain();
    let server = Postgres::start();
    let home = Home::on(&server.url(), &(site("") + &doors(broker.port)));
    home.import(&people(TAPS, &[]));
    let ledger = home.ledger();
    let mut daemon = home.start();
    daemon.wait_until_ready();
    // What suits this program is no news.
    add_migration(&ledger, 9001, &format!("since {:04} more columns", newest()));
    add_migration(&ledger, 9002, "since 9001 without the old columns");
    let said = daemon.wait_for_condition("database_unavailable");
    let known = newest();
    let expected = format!(
        "the database refuses: its schema is version 9002, newer than this program, which knows version {known}; install a \
         newer checkind; door messages stay in the spool meanwhile, nothing is lost"
    );
    assert_eq!(said, expected);
    let at = now();
    broker.publish_lines("flat/events", (0..TAPS).map(|tap| flat_event(tap, card(1 + tap), Way::In, at)), 1);
    daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", TAPS.into());
    daemon.wait_for_metric("checkind_spool_depth", "", TAPS.into());
    assert_eq!(ledger.facts(), 0);
    assert_eq!(daemon.get("/readyz").status, 503);
    let refused = home.run(&["who"]);
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(words.contains("newer than this program") && !words.contains("previously applied"), "{words}");

    ledger.execute("DELETE FROM _sqlx_migrations WHERE version = 9002");
    daemon.wait_until_ready();
    daemon.wait_for_metric("checkind_spool_depth", "", 0);
    assert_eq!(ledger.facts(), i64::from(TAPS));
    assert_eq!(daemon.changes_of("database_unavailable"), (1, 1), "{}", daemon.log());
    assert_eq!(daemon.changes_of("directory_stale"), (0, 0), "{}", daemon.log());
    daemon.stop();
}

/// The names of migrations that are new since the rule exists say which programs they suit.
#[test]
fn every_new_migration_says_which_programs_suit_it() {
    for kind in ["sqlite", "postgres"] {
        for step in steps(kind, i64::MAX).iter().filter(|step| step.version > 7) {
            let oldest = step.description.strip_prefix("since ").and_then(|rest| rest.get(..4)?.parse::<i64>().ok());
            assert!(
                oldest.is_some_and(|oldest| (7..=step.version).contains(&oldest)),
                "{kind}/{:04}: write NNNN_since_MMMM_name.sql, as upgrading.md says: {}",
                step.version,
                step.description
            );
        }
    }
}

#[test]
fn with_postgresql_only_the_owner_of_the_tables_migrates() {
    let server = Postgres::start();
    let url = server.url();
    let owner = Home::on(&url, &site(""));
    let ledger = owner.ledger();
    let old = steps("postgres", OLD);
    runtime().block_on(async {
        let mut connection = sqlx::PgConnection::connect(&url).await.expect("the server answers");
        old.run(&mut connection).await.expect("the schema of then");
    });
    ledger.execute("CREATE ROLE gateway LOGIN");
    ledger.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO gateway");
    let gateway = Home::on(&url.replace("checkind@", "gateway@"), &site(""));
    let refused = gateway.run(&["migrate"]);
    assert_eq!(refused.status.code(), Some(77), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("run `checkind migrate` with the login that owns the tables")
    );
    for command in [&["who"][..], &["user", "list"], &["admit", "1"], &["explain", "1"]] {
        drop(owner.run(command));
        assert_eq!(version(&ledger), OLD, "{command:?} changed the schema");
    }
    let said = owner.ask(&["migrate"]);
    assert!(said.starts_with(&format!("The schema was changed from version {OLD} to {}", newest())), "{said}");
}
